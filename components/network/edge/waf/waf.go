// Package waf puts a web application firewall, a regional WAFv2 web ACL, in front of an Application Load Balancer.
//
// In: the balancer, how many requests one client's address may send, a key and a retention for the log. Out: the web ACL's ARN, known
// when the balancer is behind it.
//
// It is the first of two: the gateways inspect what it lets through with the OWASP core rule set (cmd/internal/waf), and know their
// routes. This one knows what only AWS can: addresses that attack others at this moment. What no rule blocks passes; therefore the
// balancer's listener, not the web ACL, decides which hosts are served.
//
// # What the log holds
//
// Every request and the rules that it met, without the headers authorization and cookie. Query strings and paths are in it: secrets do
// not belong there. The service writes it through a resource policy of the account that it makes itself when the deployer may call
// logs:CreateLogDelivery, logs:PutResourcePolicy and logs:DescribeResourcePolicies.
package waf

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
)

const (
	// logPrefix is what AWS demands that the log group's name begins with.
	logPrefix = "aws-waf-logs-"

	defaultRateLimit     = 2000
	minRateLimit         = 10
	maxRateLimit         = 2_000_000_000
	defaultRetentionDays = 365
)

// redacted are the headers that the log leaves out, in lower case as AWS wants them.
var redacted = []string{"authorization", "cookie"}

// retentions are the numbers of days that CloudWatch Logs knows. It also knows 0, for ever, which is not allowed here.
var retentions = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

// Args are the arguments of New.
type Args struct {
	// Name is the web ACL's name, what its metrics begin with, and what the log group's ends with: aws-waf-logs-<Name>. Unique in a
	// region of an account. At most 100 letters, digits, hyphens and underscores. Required.
	Name string
	// LoadBalancerARN is the Application Load Balancer to put behind the web ACL. Required.
	LoadBalancerARN pulumi.StringInput
	// RateLimit is how many requests one address may send in five minutes before it is answered 429. Many clients can share one
	// address. From 10 to 2000000000. Default 2000.
	RateLimit int
	// Counted are, by managed group, the rules that only count what they match, for rules that match what is wanted. Groups lists the
	// groups. Default DefaultCounted; an empty map, not nil, leaves all rules as they are.
	Counted map[string][]string
	// LogKeyARN is the KMS key of the log group. Its policy must let CloudWatch Logs use it. Required.
	LogKeyARN pulumi.StringInput
	// LogRetentionDays is how long the log is kept, one of CloudWatch Logs' numbers. Default 365.
	LogRetentionDays int
	// Protect keeps Pulumi from deleting the log group.
	Protect bool
}

// WebACL is the firewall.
type WebACL struct {
	pulumi.ResourceState

	// ARN is the web ACL's, known when the balancer is behind it.
	ARN pulumi.StringOutput `pulumi:"arn"`
	// LogGroupName is the name of the log group.
	LogGroupName pulumi.StringOutput `pulumi:"logGroupName"`

	association pulumi.Resource
}

// Guard is what puts the balancer behind the firewall, for whatever must not serve before that.
func (w *WebACL) Guard() pulumi.Resource { return w.association }

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a Args) WithDefaults() Args {
	a.RateLimit = cmp.Or(a.RateLimit, defaultRateLimit)
	a.LogRetentionDays = cmp.Or(a.LogRetentionDays, defaultRetentionDays)
	if a.Counted == nil {
		a.Counted = DefaultCounted()
	}
	return a
}

var (
	webACLName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)
	ruleName   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
)

// Validate reports, all at once, what New would refuse.
func (a Args) Validate() error {
	a = a.WithDefaults()
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, fmt.Sprint(value), allowed))
	}
	if !webACLName.MatchString(a.Name) {
		fail("name", a.Name, "of 1 to 100 letters, digits, hyphens and underscores")
	}
	if a.LoadBalancerARN == nil {
		fail("loadBalancerARN", "", "set")
	}
	if a.LogKeyARN == nil {
		fail("logKeyARN", "", "set")
	}
	if a.RateLimit < minRateLimit || a.RateLimit > maxRateLimit {
		fail("rateLimit", a.RateLimit, fmt.Sprintf("from %d to %d requests in five minutes", minRateLimit, maxRateLimit))
	}
	if !slices.Contains(retentions, a.LogRetentionDays) {
		fail("logRetentionDays", a.LogRetentionDays, fmt.Sprintf("one of %v", retentions))
	}
	for _, name := range slices.Sorted(maps.Keys(a.Counted)) {
		if !slices.Contains(Groups(), name) {
			fail("counted", name, fmt.Sprintf("one of the groups %v", Groups()))
		}
		for i, rule := range a.Counted[name] {
			if !ruleName.MatchString(rule) {
				fail(fmt.Sprintf("counted.%s[%d]", name, i), rule, "the name of a rule of the group")
			}
		}
	}
	return errors.Join(errs...)
}

// New makes the web ACL and puts the load balancer behind it.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*WebACL, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.Validate(); err != nil {
		return nil, fmt.Errorf("waf %s: %w", name, err)
	}
	rules, err := a.Rules()
	if err != nil {
		return nil, fmt.Errorf("waf %s: %w", name, err)
	}
	self := &WebACL{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "loadBalancerARN": a.LoadBalancerARN, "rateLimit": pulumi.Int(a.RateLimit),
		"logRetentionDays": pulumi.Int(a.LogRetentionDays),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:waf:WebACL", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("waf %s: %w", name, err)
	}
	err = self.provision(ctx, name, a, rules, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"arn": self.ARN, "logGroupName": self.LogGroupName}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("waf %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (w *WebACL) provision(ctx *pulumi.Context, name string, a Args, rules string, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(w, opts)
	if err != nil {
		return err
	}
	register := func(token, suffix string, inputs pulumi.Map, resource pulumi.CustomResource, more ...pulumi.ResourceOption) error {
		return ctx.RegisterResource(token, name+suffix, inputs, resource, slices.Concat([]pulumi.ResourceOption{pulumi.Version(providerVersion)}, inherited, more)...)
	}
	acl := &webACL{}
	if err := register(tokenWebACL, "-acl", a.webACLInputs(rules), acl); err != nil {
		return fmt.Errorf("web ACL: %w", err)
	}
	logs, err := cloudwatch.NewLogGroup(ctx, name+"-logs", &cloudwatch.LogGroupArgs{
		Name: pulumi.String(logPrefix + a.Name), KmsKeyId: a.LogKeyARN.ToStringOutput().ToStringPtrOutput(),
		RetentionInDays: pulumi.Int(a.LogRetentionDays),
		Tags:            pulumi.StringMap{"Name": pulumi.String(logPrefix + a.Name), "DataClass": pulumi.String("logs")},
	}, slices.Concat(inherited, []pulumi.ResourceOption{pulumi.Protect(a.Protect)})...)
	if err != nil {
		return fmt.Errorf("log group: %w", err)
	}
	logging := &webACLLogging{}
	if err := register(tokenLogging, "-logging", loggingInputs(acl.Arn, logs.Arn), logging); err != nil {
		return fmt.Errorf("logging: %w", err)
	}
	// The log is there before the first request.
	association := &webACLAssociation{}
	if err := register(tokenAssociation, "-association", associationInputs(a.LoadBalancerARN, acl.Arn), association,
		pulumi.DependsOn([]pulumi.Resource{logging})); err != nil {
		return fmt.Errorf("association: %w", err)
	}
	w.association = association
	w.ARN = association.WebACLARN
	w.LogGroupName = logs.Name
	return nil
}
