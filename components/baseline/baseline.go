// Package baseline sets what an account and region has once, whatever runs in it: GuardDuty, Security Hub and AWS Config.
//
// In: which of them, where Config writes. Out: the detector.
//
// Everything here is opt-in, and none of it belongs to one environment: two stacks of one account and region must not both have it,
// as AWS refuses the second one. An organisation that sets them centrally leaves this out.
package baseline

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cfg"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/securityhub"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/detection/guardduty"
	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/internal/check"
	"ephemos.dev/deploy/components/manifest"
)

// Standard is a catalogue of controls of Security Hub.
type Standard string

// The standards.
const (
	// FoundationalBestPractices is AWS' own.
	FoundationalBestPractices Standard = "aws-foundational-security-best-practices/v/1.0.0"
	// CIS is the CIS AWS Foundations Benchmark.
	CIS Standard = "cis-aws-foundations-benchmark/v/3.0.0"
	// NIST is NIST SP 800-53.
	NIST Standard = "nist-800-53/v/5.0.0"
	// PCI is PCI DSS.
	PCI Standard = "pci-dss/v/3.2.1"
)

// Frequency is how often Config records.
type Frequency string

// The frequencies. Security Hub's checks of changes need the continuous one.
const (
	Continuous Frequency = "CONTINUOUS"
	Daily      Frequency = "DAILY"
)

// Config are the arguments of AWS Config.
type Config struct {
	// BucketName and BucketARN are where it writes: a bucket without Object Lock, which Config refuses. Required.
	BucketName, BucketARN pulumi.StringInput
	// Prefix is under which prefix, without a slash at the end. Default "config".
	Prefix string
	// Frequency is how often it records. Default Continuous.
	Frequency Frequency
	// GlobalResources records those that are in no region, such as roles: to be set in one region of an account.
	GlobalResources bool
}

// SecurityHub are the arguments of Security Hub.
type SecurityHub struct {
	// Standards are what is checked. Default: FoundationalBestPractices and CIS.
	Standards []Standard
}

// Args are the arguments of New. What is nil is left as it is.
type Args struct {
	// AccountID and Region are what the baseline is for. Required.
	AccountID, Region string
	// GuardDuty turns on threat detection.
	GuardDuty *guardduty.Args
	// SecurityHub turns on checks of controls. Most of them read what Config records.
	SecurityHub *SecurityHub
	// Config turns on the record of configuration.
	Config *Config
	// Protect keeps Pulumi from turning things off again.
	Protect bool
}

// Baseline is what was set.
type Baseline struct {
	pulumi.ResourceState

	// DetectorID is GuardDuty's detector, or empty.
	DetectorID pulumi.StringOutput `pulumi:"detectorId"`
}

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a Args) WithDefaults() Args {
	if a.SecurityHub != nil {
		hub := *a.SecurityHub
		if len(hub.Standards) == 0 {
			hub.Standards = []Standard{FoundationalBestPractices, CIS}
		}
		a.SecurityHub = &hub
	}
	if a.Config != nil {
		config := *a.Config
		if config.Prefix == "" {
			config.Prefix = "config"
		}
		if config.Frequency == "" {
			config.Frequency = Continuous
		}
		a.Config = &config
	}
	if a.GuardDuty != nil {
		duty := *a.GuardDuty
		duty.Protect = duty.Protect || a.Protect
		a.GuardDuty = &duty
	}
	return a
}

func (a Args) validate() error {
	errs := []error{check.Account("accountId", a.AccountID), check.Region("region", a.Region)}
	if a.GuardDuty != nil {
		errs = append(errs, a.GuardDuty.Validate())
	}
	if a.SecurityHub != nil {
		for i, s := range a.SecurityHub.Standards {
			errs = append(errs, check.OneOf(fmt.Sprintf("securityHub.standards[%d]", i), s, FoundationalBestPractices, CIS, NIST, PCI))
			if slices.Index(a.SecurityHub.Standards, s) != i {
				errs = append(errs, fmt.Errorf("securityHub.standards[%d]: %q is not allowed: it must be named once", i, string(s)))
			}
		}
	}
	if a.Config != nil {
		errs = append(errs, check.Set("config.bucketName", a.Config.BucketName), check.Set("config.bucketArn", a.Config.BucketARN),
			check.OneOf("config.frequency", a.Config.Frequency, Continuous, Daily))
	}
	return errors.Join(errs...)
}

// New sets the baseline.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Baseline, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("baseline %s: %w", name, err)
	}
	self := &Baseline{}
	props := pulumi.Map{
		"guardDuty": pulumi.Bool(a.GuardDuty != nil), "securityHub": pulumi.Bool(a.SecurityHub != nil), "config": pulumi.Bool(a.Config != nil),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:baseline:Baseline", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("baseline %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"detectorId": self.DetectorID}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("baseline %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (b *Baseline) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(b, opts)
	if err != nil {
		return err
	}
	b.DetectorID = pulumi.String("").ToStringOutput()
	if a.GuardDuty != nil {
		duty, err := guardduty.New(ctx, name+"-guardduty", a.GuardDuty, inherited...)
		if err != nil {
			return err
		}
		b.DetectorID = duty.DetectorID
	}
	var recording []pulumi.Resource
	if a.Config != nil {
		recorder, err := a.config(ctx, name, inherited)
		if err != nil {
			return err
		}
		recording = append(recording, recorder)
	}
	if a.SecurityHub != nil {
		return a.securityHub(ctx, name, append(slices.Clone(inherited), pulumi.DependsOn(recording)))
	}
	return nil
}

func (a Args) securityHub(ctx *pulumi.Context, name string, opts []pulumi.ResourceOption) error {
	hub, err := securityhub.NewAccount(ctx, name+"-security-hub", &securityhub.AccountArgs{
		// Only the standards below, each control once however many of them have it.
		EnableDefaultStandards: pulumi.Bool(false), ControlFindingGenerator: pulumi.String("SECURITY_CONTROL"),
		AutoEnableControls: pulumi.Bool(true),
	}, append(slices.Clone(opts), pulumi.Protect(a.Protect))...)
	if err != nil {
		return fmt.Errorf("security hub: %w", err)
	}
	var before pulumi.Resource = hub
	for i, s := range a.SecurityHub.Standards {
		// One after the other: Security Hub refuses to change several at a time.
		subscription, err := securityhub.NewStandardsSubscription(ctx, fmt.Sprintf("%s-standard-%d", name, i), &securityhub.StandardsSubscriptionArgs{
			StandardsArn: pulumi.Sprintf("arn:aws:securityhub:%s::standards/%s", a.Region, string(s)),
		}, append(slices.Clone(opts), pulumi.DependsOn([]pulumi.Resource{before}))...)
		if err != nil {
			return fmt.Errorf("standard %s: %w", s, err)
		}
		before = subscription
	}
	return nil
}

// config records every resource. It returns what says that recording has begun.
func (a Args) config(ctx *pulumi.Context, name string, opts []pulumi.ResourceOption) (pulumi.Resource, error) {
	c := a.Config
	role, err := iam.NewRole(ctx, name+"-config-role", &iam.RoleArgs{
		Description: pulumi.String("AWS Config reads configuration and writes it to its bucket"),
		AssumeRolePolicy: iampolicy.Document(iampolicy.Statement{
			Sid: "Config", Principal: iampolicy.Service("config.amazonaws.com"), Action: "sts:AssumeRole",
			Condition: iampolicy.Condition{"StringEquals": {"aws:SourceAccount": a.AccountID}},
		}),
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("config role: %w", err)
	}
	// What Config reads of every service is AWS' own list.
	read, err := iam.NewRolePolicyAttachment(ctx, name+"-config-read", &iam.RolePolicyAttachmentArgs{
		Role: role.Name, PolicyArn: pulumi.String("arn:aws:iam::aws:policy/service-role/AWS_ConfigRole"),
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("config read: %w", err)
	}
	write, err := iam.NewRolePolicy(ctx, name+"-config-write", &iam.RolePolicyArgs{
		Role: role.Name,
		Policy: iampolicy.Document(
			iampolicy.Statement{Sid: "Check", Action: []string{"s3:GetBucketAcl", "s3:ListBucket"}, Resource: c.BucketARN},
			iampolicy.Statement{
				Sid: "Write", Action: "s3:PutObject", Resource: pulumi.Sprintf("%s/%s/AWSLogs/%s/*", c.BucketARN, c.Prefix, a.AccountID),
			},
		),
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("config write: %w", err)
	}
	recorder, err := cfg.NewRecorder(ctx, name+"-recorder", &cfg.RecorderArgs{
		RoleArn: role.Arn,
		RecordingGroup: cfg.RecorderRecordingGroupArgs{
			AllSupported: pulumi.Bool(true), IncludeGlobalResourceTypes: pulumi.Bool(c.GlobalResources),
		},
		RecordingMode: cfg.RecorderRecordingModeArgs{RecordingFrequency: pulumi.String(c.Frequency)},
	}, append(slices.Clone(opts), pulumi.Protect(a.Protect))...)
	if err != nil {
		return nil, fmt.Errorf("recorder: %w", err)
	}
	channel, err := cfg.NewDeliveryChannel(ctx, name+"-delivery", &cfg.DeliveryChannelArgs{
		S3BucketName: c.BucketName, S3KeyPrefix: pulumi.String(c.Prefix),
		SnapshotDeliveryProperties: cfg.DeliveryChannelSnapshotDeliveryPropertiesArgs{DeliveryFrequency: pulumi.String("TwentyFour_Hours")},
	}, append(slices.Clone(opts), pulumi.DependsOn([]pulumi.Resource{recorder, read, write}))...)
	if err != nil {
		return nil, fmt.Errorf("delivery: %w", err)
	}
	// A recorder starts only when there is somewhere to deliver to.
	started, err := cfg.NewRecorderStatus(ctx, name+"-recording", &cfg.RecorderStatusArgs{
		Name: recorder.Name, IsEnabled: pulumi.Bool(true),
	}, append(slices.Clone(opts), pulumi.DependsOn([]pulumi.Resource{channel}))...)
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	return started, nil
}
