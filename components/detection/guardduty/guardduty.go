// Package guardduty turns on threat detection by AWS: for the cluster's audit log, for what runs on the nodes, for buckets, for
// logins to the database and for malware on disks.
//
// In: a detector that is there, or none; a topic. Out: the detector, and a rule that brings findings to the topic.
//
// There is one detector an account and region: to create a second one fails. So an existing one is adopted by its ID, and then only
// its features are set. What is turned on stays on when the stack is removed: AWS has no deletion of a feature.
package guardduty

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/guardduty"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/internal/check"
	"ephemos.dev/deploy/components/manifest"
)

// Feature is what GuardDuty watches, besides CloudTrail, flow logs and DNS, which it always does.
type Feature string

// The features. RuntimeMonitoring brings its agent to the nodes itself, as an add-on of EKS; it excludes the older
// EKS_RUNTIME_MONITORING, which is not offered here.
const (
	EKSAuditLogs      Feature = "EKS_AUDIT_LOGS"
	RuntimeMonitoring Feature = "RUNTIME_MONITORING"
	S3DataEvents      Feature = "S3_DATA_EVENTS"
	RDSLoginEvents    Feature = "RDS_LOGIN_EVENTS"
	EBSMalware        Feature = "EBS_MALWARE_PROTECTION"
)

// Features are all features.
func Features() []Feature {
	return []Feature{EKSAuditLogs, RuntimeMonitoring, S3DataEvents, RDSLoginEvents, EBSMalware}
}

// agents are the ways by which RuntimeMonitoring installs its agent, and whether it may. The names are sorted: AWS returns them so.
var agents = []struct {
	name    string
	enabled bool
}{{"EC2_AGENT_MANAGEMENT", false}, {"ECS_FARGATE_AGENT_MANAGEMENT", false}, {"EKS_ADDON_MANAGEMENT", true}}

// Frequency is how often a finding is reported again that goes on.
type Frequency string

// The frequencies.
const (
	FifteenMinutes Frequency = "FIFTEEN_MINUTES"
	OneHour        Frequency = "ONE_HOUR"
	SixHours       Frequency = "SIX_HOURS"
)

// Args are the arguments of New.
type Args struct {
	// Name is the start of the name of the rule, at most 50 letters, digits, dots, hyphens and underscores. Default "guardduty".
	Name string
	// DetectorID is the detector of the account and region when there is one. Nil: it is made here.
	DetectorID pulumi.StringInput
	// Frequency is how often a finding is reported again. Default FifteenMinutes. Not used for an adopted detector.
	Frequency Frequency
	// Features are what is watched. Default: all.
	Features []Feature
	// TopicARN is where findings are reported, a topic that lets rules of EventBridge publish. Nil: nowhere but in GuardDuty.
	TopicARN pulumi.StringInput
	// MinSeverity is from which severity findings are reported, 1 to 10: 4 is medium, 7 high, 9 critical. Default 4.
	MinSeverity int
	// Protect keeps Pulumi from deleting the detector.
	Protect bool
}

// GuardDuty is the detection.
type GuardDuty struct {
	pulumi.ResourceState

	// DetectorID is the detector.
	DetectorID pulumi.StringOutput `pulumi:"detectorId"`
}

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a Args) WithDefaults() Args {
	a.Name = cmp.Or(a.Name, "guardduty")
	a.Frequency = cmp.Or(a.Frequency, FifteenMinutes)
	a.MinSeverity = cmp.Or(a.MinSeverity, 4)
	if len(a.Features) == 0 {
		a.Features = Features()
	}
	return a
}

// Validate reports what is not allowed.
func (a Args) Validate() error {
	a = a.WithDefaults()
	errs := []error{
		check.OneOf("frequency", a.Frequency, FifteenMinutes, OneHour, SixHours), check.Between("minSeverity", a.MinSeverity, 1, 10),
	}
	if len(a.Name) > 50 || strings.Trim(a.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		errs = append(errs, fmt.Errorf("name: %q is not allowed: it must be at most 50 letters, digits, dots, hyphens and underscores", a.Name))
	}
	for i, f := range a.Features {
		errs = append(errs, check.OneOf(fmt.Sprintf("features[%d]", i), f, Features()...))
		if slices.Index(a.Features, f) != i {
			errs = append(errs, fmt.Errorf("features[%d]: %q is not allowed: it must be named once", i, string(f)))
		}
	}
	return errors.Join(errs...)
}

// New turns detection on.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*GuardDuty, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.Validate(); err != nil {
		return nil, fmt.Errorf("guardduty %s: %w", name, err)
	}
	self := &GuardDuty{}
	var features []string
	for _, f := range a.Features {
		features = append(features, string(f))
	}
	props := pulumi.Map{"adopted": pulumi.Bool(a.DetectorID != nil), "features": pulumi.ToStringArray(features), "minSeverity": pulumi.Int(a.MinSeverity)}
	if err := ctx.RegisterComponentResourceV2("ephemos:detection:GuardDuty", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("guardduty %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"detectorId": self.DetectorID}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("guardduty %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (d *GuardDuty) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(d, opts)
	if err != nil {
		return err
	}
	if a.DetectorID != nil {
		d.DetectorID = a.DetectorID.ToStringOutput()
	} else {
		detector, err := guardduty.NewDetector(ctx, name+"-detector", &guardduty.DetectorArgs{
			Enable: pulumi.Bool(true), FindingPublishingFrequency: pulumi.String(a.Frequency),
			Tags: pulumi.StringMap{"Name": pulumi.String(a.Name)},
		}, append(slices.Clone(inherited), pulumi.Protect(a.Protect))...)
		if err != nil {
			return fmt.Errorf("detector: %w", err)
		}
		d.DetectorID = detector.ID().ToStringOutput()
	}
	for _, f := range a.Features {
		var configurations guardduty.DetectorFeatureAdditionalConfigurationArray
		if f == RuntimeMonitoring {
			for _, agent := range agents {
				configurations = append(configurations, guardduty.DetectorFeatureAdditionalConfigurationArgs{
					Name: pulumi.String(agent.name), Status: pulumi.String(status(agent.enabled)),
				})
			}
		}
		if _, err := guardduty.NewDetectorFeature(ctx, name+"-"+strings.ReplaceAll(strings.ToLower(string(f)), "_", "-"), &guardduty.DetectorFeatureArgs{
			DetectorId: d.DetectorID, Name: pulumi.String(f), Status: pulumi.String(status(true)), AdditionalConfigurations: configurations,
		}, inherited...); err != nil {
			return fmt.Errorf("feature %s: %w", f, err)
		}
	}
	if a.TopicARN == nil {
		return nil
	}
	pattern, err := a.pattern()
	if err != nil {
		return err
	}
	rule, err := cloudwatch.NewEventRule(ctx, name+"-findings", &cloudwatch.EventRuleArgs{
		Name:         pulumi.String(a.Name + "-findings"),
		Description:  pulumi.Sprintf("GuardDuty's findings from severity %d", a.MinSeverity),
		EventPattern: pulumi.String(pattern),
	}, inherited...)
	if err != nil {
		return fmt.Errorf("rule: %w", err)
	}
	if _, err := cloudwatch.NewEventTarget(ctx, name+"-findings-topic", &cloudwatch.EventTargetArgs{
		Rule: rule.Name, Arn: a.TopicARN, TargetId: pulumi.String("topic"),
	}, inherited...); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return nil
}

func status(enabled bool) string {
	if enabled {
		return "ENABLED"
	}
	return "DISABLED"
}

// pattern is which events are reported.
func (a Args) pattern() (string, error) {
	text, err := json.Marshal(map[string]any{
		"source": []string{"aws.guardduty"}, "detail-type": []string{"GuardDuty Finding"},
		"detail": map[string]any{"severity": []any{map[string]any{"numeric": []any{">=", a.MinSeverity}}}},
	})
	if err != nil {
		return "", fmt.Errorf("pattern: %w", err)
	}
	return string(text), nil
}
