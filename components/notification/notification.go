// Package notification makes the topics to which the playbooks and the alarms write: one for the security team, one for the
// executives who are told of a breach.
//
// In: the key of notifications and who is told how. Out: the ARNs of the topics.
//
// A subscription by mail or to a web hook works only when its owner has confirmed it; Pulumi does not wait for that.
package notification

import (
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/sns"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/internal/check"
	"ephemos.dev/deploy/components/manifest"
)

// Protocol is how someone is told.
type Protocol string

// The protocols.
const (
	Email  Protocol = "email"
	HTTPS  Protocol = "https"
	SMS    Protocol = "sms"
	SQS    Protocol = "sqs"
	Lambda Protocol = "lambda"
)

// Subscription is someone who is told.
type Subscription struct {
	// Protocol is how.
	Protocol Protocol
	// Endpoint is where: an address, an https URL, a number with + and country, or an ARN.
	Endpoint string
}

var number = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

func (s Subscription) validate(field string) error {
	var ok bool
	switch s.Protocol {
	case Email:
		_, err := mail.ParseAddress(s.Endpoint)
		ok = err == nil
	case HTTPS:
		u, err := url.Parse(s.Endpoint)
		ok = err == nil && u.Scheme == "https" && u.Host != ""
	case SMS:
		ok = number.MatchString(s.Endpoint)
	case SQS, Lambda:
		ok = strings.HasPrefix(s.Endpoint, "arn:aws:"+string(s.Protocol)+":") && iampolicy.CheckARN(s.Endpoint) == nil
	default:
		return check.OneOf(field, s.Protocol, Email, HTTPS, SMS, SQS, Lambda)
	}
	if !ok {
		return fmt.Errorf("%s: %q is not allowed: it must be an endpoint of the protocol %s", field, s.Endpoint, s.Protocol)
	}
	return nil
}

// Args are the arguments of New.
type Args struct {
	// TrustDomain is what the topics are for. It is part of their names. Required.
	TrustDomain string
	// AccountID is the account, 12 digits. Required.
	AccountID string
	// KeyARN encrypts the messages: the key of notifications. Required.
	KeyARN pulumi.StringInput
	// Security and Executive are who is told.
	Security, Executive []Subscription
	// EventBridge lets rules of EventBridge publish. It cannot be told whose rules: EventBridge publishes without saying for whom, so
	// that rules of other accounts could write here too if they knew the topic.
	EventBridge bool
	// Protect keeps Pulumi from deleting the topics.
	Protect bool
}

// Notification is the topics.
type Notification struct {
	pulumi.ResourceState

	// SecurityARN and ExecutiveARN are the topics. They are known when services may publish.
	SecurityARN  pulumi.StringOutput `pulumi:"securityArn"`
	ExecutiveARN pulumi.StringOutput `pulumi:"executiveArn"`
}

func (a Args) validate() error {
	errs := []error{
		check.TrustDomain("trustDomain", a.TrustDomain), check.Account("accountId", a.AccountID), check.Set("keyArn", a.KeyARN),
	}
	for field, list := range map[string][]Subscription{"security": a.Security, "executive": a.Executive} {
		seen := map[Subscription]bool{}
		for i, s := range list {
			name := fmt.Sprintf("%s[%d]", field, i)
			errs = append(errs, s.validate(name))
			if seen[s] {
				errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be named once", name, s.Endpoint))
			}
			seen[s] = true
		}
	}
	return errors.Join(errs...)
}

// New makes the topics.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Notification, error) {
	if args == nil {
		args = &Args{}
	}
	a := *args
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("notification %s: %w", name, err)
	}
	self := &Notification{}
	props := pulumi.Map{
		"trustDomain": pulumi.String(a.TrustDomain), "keyArn": a.KeyARN, "security": pulumi.Int(len(a.Security)),
		"executive": pulumi.Int(len(a.Executive)), "eventBridge": pulumi.Bool(a.EventBridge),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:notification:Notification", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("notification %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"securityArn": self.SecurityARN, "executiveArn": self.ExecutiveARN}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("notification %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (n *Notification) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(n, opts)
	if err != nil {
		return err
	}
	if n.SecurityARN, err = a.topic(ctx, name+"-security", "security", a.Security, inherited); err != nil {
		return err
	}
	n.ExecutiveARN, err = a.topic(ctx, name+"-executive", "executive", a.Executive, inherited)
	return err
}

func (a Args) topic(ctx *pulumi.Context, name, kind string, subscriptions []Subscription, opts []pulumi.ResourceOption) (pulumi.StringOutput, error) {
	var none pulumi.StringOutput
	topic, err := sns.NewTopic(ctx, name, &sns.TopicArgs{
		Name:           pulumi.String(strings.ReplaceAll(a.TrustDomain, ".", "-") + "-" + kind),
		KmsMasterKeyId: a.KeyARN.ToStringOutput().ToStringPtrOutput(),
		// SHA-256 instead of SHA-1.
		SignatureVersion: pulumi.Int(2),
		Tags:             pulumi.StringMap{"Name": pulumi.Sprintf("%s %s", a.TrustDomain, kind), "DataClass": pulumi.String("notification")},
	}, append(slices.Clip(opts), pulumi.Protect(a.Protect))...)
	if err != nil {
		return none, fmt.Errorf("topic %s: %w", kind, err)
	}
	policy, err := sns.NewTopicPolicy(ctx, name+"-policy", &sns.TopicPolicyArgs{
		Arn: topic.Arn, Policy: iampolicy.Document(a.policy(topic.Arn)...),
	}, opts...)
	if err != nil {
		return none, fmt.Errorf("policy of topic %s: %w", kind, err)
	}
	for i, s := range subscriptions {
		if _, err := sns.NewTopicSubscription(ctx, fmt.Sprintf("%s-subscription-%d", name, i), &sns.TopicSubscriptionArgs{
			Topic: topic.Arn, Protocol: pulumi.String(s.Protocol), Endpoint: pulumi.String(s.Endpoint),
		}, opts...); err != nil {
			return none, fmt.Errorf("subscription to %s: %w", kind, err)
		}
	}
	return policy.Arn, nil
}

// policy lets services of the account publish, and denies whoever does not use TLS. Identities of the account publish by their own
// policies.
func (a Args) policy(topic pulumi.StringOutput) []iampolicy.Statement {
	statements := []iampolicy.Statement{
		{
			Sid: "DenyPlaintext", Effect: iampolicy.Deny, Principal: iampolicy.Any, Action: "sns:Publish", Resource: topic,
			Condition: iampolicy.Condition{"Bool": {"aws:SecureTransport": "false"}},
		},
		{
			Sid: "Services", Principal: iampolicy.Service("backup.amazonaws.com", "cloudwatch.amazonaws.com", "events.rds.amazonaws.com"),
			Action: "sns:Publish", Resource: topic,
			Condition: iampolicy.Condition{"StringEquals": {"aws:SourceAccount": a.AccountID}},
		},
		{
			Sid: "Account", Principal: iampolicy.Root(a.AccountID), Resource: topic,
			Action: []string{
				"sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic", "sns:Publish", "sns:SetTopicAttributes", "sns:Subscribe",
			},
		},
	}
	if a.EventBridge {
		statements = append(statements, iampolicy.Statement{
			Sid: "Events", Principal: iampolicy.Service("events.amazonaws.com"), Action: "sns:Publish", Resource: topic,
		})
	}
	return statements
}
