package audit

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudtrail"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/internal/check"
	"ephemos.dev/deploy/components/manifest"
)

// TrailArgs are the arguments of NewTrail.
type TrailArgs struct {
	// TrustDomain is what the trail is for. Required.
	TrustDomain string
	// Name is the trail's, which the archive has to name (ArchiveArgs.TrailName). 3 to 128 letters, digits, dots, hyphens and
	// underscores. Default: the trust domain with hyphens for dots.
	Name string
	// AccountID and Region are where the trail is at home. It records all regions. Required.
	AccountID, Region string
	// BucketName is where it writes, an Archive's. Taken from there, it is known when the bucket lets the trail write. Required.
	BucketName pulumi.StringInput
	// BucketARN and ReplicaARN are the archive and its copy, of which the trail records access to objects. Required.
	BucketARN, ReplicaARN pulumi.StringInput
	// KeyARN encrypts the files: the key of audit data. Required.
	KeyARN pulumi.StringInput
	// LogKeyARN encrypts the log group: the key of log groups. Required.
	LogKeyARN pulumi.StringInput
	// LogRetentionDays is for how long the log group keeps events, one of CloudWatch's numbers. Default 365.
	LogRetentionDays int
	// Insights has CloudTrail look for unusual rates of calls and errors. Charged by event.
	Insights bool
	// Protect keeps Pulumi from deleting the trail and its log group.
	Protect bool
}

// Trail is the trail.
type Trail struct {
	pulumi.ResourceState

	// ARN is the trail.
	ARN pulumi.StringOutput `pulumi:"arn"`
	// LogGroupName and LogGroupARN are where its events are within minutes.
	LogGroupName pulumi.StringOutput `pulumi:"logGroupName"`
	LogGroupARN  pulumi.StringOutput `pulumi:"logGroupArn"`
}

var trailPattern = regexp.MustCompile(`^[A-Za-z0-9]([._-]?[A-Za-z0-9])+$`)

// trailName checks a name as CloudTrail does: no two signs in a row, no sign at an end.
func trailName(field, value string) error {
	if !trailPattern.MatchString(value) || len(value) < 3 || len(value) > 128 {
		return fmt.Errorf("%s: %q is not allowed: it must be 3 to 128 letters and digits, with single dots, hyphens and underscores between them", field, value)
	}
	return nil
}

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a TrailArgs) WithDefaults() TrailArgs {
	a.Name = cmp.Or(a.Name, dashed(a.TrustDomain))
	a.LogRetentionDays = cmp.Or(a.LogRetentionDays, 365)
	return a
}

func (a TrailArgs) validate() error {
	return errors.Join(
		check.TrustDomain("trustDomain", a.TrustDomain), trailName("name", a.Name), check.Account("accountId", a.AccountID),
		check.Region("region", a.Region), check.Set("bucketName", a.BucketName), check.Set("bucketArn", a.BucketARN),
		check.Set("replicaArn", a.ReplicaARN), check.Key("keyArn", a.KeyARN, a.Region), check.Key("logKeyArn", a.LogKeyARN, a.Region),
		check.LogRetention("logRetentionDays", a.LogRetentionDays),
	)
}

// NewTrail makes the trail.
func NewTrail(ctx *pulumi.Context, name string, args *TrailArgs, opts ...pulumi.ResourceOption) (*Trail, error) {
	if args == nil {
		args = &TrailArgs{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("trail %s: %w", name, err)
	}
	self := &Trail{}
	props := pulumi.Map{
		"trustDomain": pulumi.String(a.TrustDomain), "name": pulumi.String(a.Name), "bucketName": a.BucketName, "keyArn": a.KeyARN,
		"logKeyArn": a.LogKeyARN, "logRetentionDays": pulumi.Int(a.LogRetentionDays), "insights": pulumi.Bool(a.Insights),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:audit:Trail", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("trail %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"arn": self.ARN, "logGroupName": self.LogGroupName, "logGroupArn": self.LogGroupARN}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("trail %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (v *Trail) provision(ctx *pulumi.Context, name string, a TrailArgs, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(v, opts)
	if err != nil {
		return err
	}
	protected := append(slices.Clone(inherited), pulumi.Protect(a.Protect))
	own := trailARN(a.Region, a.AccountID, a.Name)
	group, err := cloudwatch.NewLogGroup(ctx, name+"-log-group", &cloudwatch.LogGroupArgs{
		Name: pulumi.String("/aws/cloudtrail/" + a.Name), KmsKeyId: a.LogKeyARN.ToStringOutput().ToStringPtrOutput(),
		RetentionInDays: pulumi.Int(a.LogRetentionDays),
		Tags:            pulumi.StringMap{"Name": pulumi.Sprintf("%s trail", a.TrustDomain), "DataClass": pulumi.String("logs")},
	}, protected...)
	if err != nil {
		return fmt.Errorf("log group: %w", err)
	}
	role, err := iam.NewRole(ctx, name+"-role", &iam.RoleArgs{
		Description: pulumi.Sprintf("%s: CloudTrail writes to its log group", a.TrustDomain),
		AssumeRolePolicy: iampolicy.Document(statement{
			Sid: "CloudTrail", Principal: iampolicy.Service("cloudtrail.amazonaws.com"), Action: "sts:AssumeRole",
			Condition: condition{"StringEquals": {"aws:SourceAccount": a.AccountID}, "ArnEquals": {"aws:SourceArn": own}},
		}),
	}, inherited...)
	if err != nil {
		return fmt.Errorf("role: %w", err)
	}
	policy, err := iam.NewRolePolicy(ctx, name+"-policy", &iam.RolePolicyArgs{
		Role: role.Name,
		Policy: iampolicy.Document(statement{
			Sid: "Write", Action: []string{"logs:CreateLogStream", "logs:PutLogEvents"},
			Resource: pulumi.Sprintf("%s:log-stream:%s_CloudTrail_%s*", group.Arn, a.AccountID, a.Region),
		}),
	}, inherited...)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	var insights cloudtrail.TrailInsightSelectorArray
	if a.Insights {
		for _, kind := range []string{"ApiCallRateInsight", "ApiErrorRateInsight"} {
			insights = append(insights, cloudtrail.TrailInsightSelectorArgs{InsightType: pulumi.String(kind)})
		}
	}
	trail, err := cloudtrail.NewTrail(ctx, name+"-trail", &cloudtrail.TrailArgs{
		Name: pulumi.String(a.Name), S3BucketName: a.BucketName, KmsKeyId: a.KeyARN.ToStringOutput().ToStringPtrOutput(),
		IsMultiRegionTrail: pulumi.Bool(true), IncludeGlobalServiceEvents: pulumi.Bool(true), EnableLogging: pulumi.Bool(true),
		EnableLogFileValidation: pulumi.Bool(true),
		// CloudTrail wants the group with a wildcard for its streams.
		CloudWatchLogsGroupArn: pulumi.Sprintf("%s:*", group.Arn), CloudWatchLogsRoleArn: role.Arn,
		AdvancedEventSelectors: a.selectors(), InsightSelectors: insights,
		Tags: pulumi.StringMap{"Name": pulumi.String(a.Name), "DataClass": pulumi.String("audit")},
	}, append(protected, pulumi.DependsOn([]pulumi.Resource{policy}))...)
	if err != nil {
		return fmt.Errorf("trail: %w", err)
	}
	v.ARN, v.LogGroupName, v.LogGroupARN = trail.Arn, group.Name, group.Arn
	return nil
}

// selectors say what is recorded: all calls that manage, and access to the objects of the archive. The trail's own files are left out
// where they are written and copied, and where the copying reads them: each would make a record, and each record a file. Whoever
// deletes or unlocks them is recorded; whoever reads them is in the access log.
func (a TrailArgs) selectors() cloudtrail.TrailAdvancedEventSelectorArray {
	type fields = cloudtrail.TrailAdvancedEventSelectorFieldSelectorArgs
	one := func(field, value string) fields {
		return fields{Field: pulumi.String(field), Equals: pulumi.ToStringArray([]string{value})}
	}
	under := func(bucket pulumi.StringInput, prefix string) pulumi.StringArray {
		return pulumi.StringArray{pulumi.Sprintf("%s/%s", bucket, prefix)}
	}
	objects := func(name string, more ...fields) cloudtrail.TrailAdvancedEventSelectorArgs {
		all := cloudtrail.TrailAdvancedEventSelectorFieldSelectorArray{one("eventCategory", "Data"), one("resources.type", "AWS::S3::Object")}
		for _, f := range more {
			all = append(all, f)
		}
		return cloudtrail.TrailAdvancedEventSelectorArgs{Name: pulumi.String(name), FieldSelectors: all}
	}
	notWritten := fields{Field: pulumi.String("eventName"), NotEquals: pulumi.ToStringArray([]string{"PutObject"})}
	return cloudtrail.TrailAdvancedEventSelectorArray{
		cloudtrail.TrailAdvancedEventSelectorArgs{
			Name:           pulumi.String("Management"),
			FieldSelectors: cloudtrail.TrailAdvancedEventSelectorFieldSelectorArray{one("eventCategory", "Management")},
		},
		objects("Archive", fields{
			Field: pulumi.String("resources.ARN"), StartsWiths: under(a.BucketARN, ""), NotStartsWiths: under(a.BucketARN, "AWSLogs/"),
		}),
		objects("Changes of the trail's files", fields{Field: pulumi.String("resources.ARN"), StartsWiths: under(a.BucketARN, "AWSLogs/")},
			one("readOnly", "false"), notWritten),
		objects("Changes of the replica", fields{Field: pulumi.String("resources.ARN"), StartsWiths: under(a.ReplicaARN, "")},
			one("readOnly", "false"), notWritten),
	}
}
