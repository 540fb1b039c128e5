// Package audit keeps what must not be lost and not be changed: an archive that nobody can delete from, its copy in another region,
// and the trail of everything that is done to the account.
//
// In: keys, regions, for how long. Out of NewArchive: the archive's bucket, its replica and the bucket for access logs. Out of
// NewTrail: CloudTrail into the archive and into a log group.
//
// # What is locked
//
// Every object in the archive is locked for RetentionDays from the moment it is written (S3 Object Lock), and so is its copy. In
// Compliance mode no one can shorten that, neither administrators nor the root user nor AWS: such buckets outlive the stack, and
// what is in them is paid for until it expires. In Governance mode those can who have s3:BypassGovernanceRetention, which the
// bucket's policy leaves to the administrators.
//
// # What is not
//
// The bucket for access logs: S3 does not deliver them into a locked one, and load balancers only into one that S3 encrypts by keys
// of its own. AWS Config writes there too, because it refuses locked buckets. What was written before replication was set up is not
// replicated. The replica has no access log of its own; the trail records who writes to it.
package audit

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/s3"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/internal/check"
	"ephemos.dev/deploy/components/manifest"
)

// Mode is how firmly objects are locked.
type Mode string

const (
	// Compliance is for production: nobody can unlock.
	Compliance Mode = "COMPLIANCE"
	// Governance can be unlocked by administrators, so that an environment can be removed.
	Governance Mode = "GOVERNANCE"
)

// Prefixes in the bucket for access logs, by who writes.
const (
	// AccessLogPrefix is S3's.
	AccessLogPrefix = "s3/"
	// LoadBalancerPrefix is that of load balancers, without the slash that they add.
	LoadBalancerPrefix = "alb"
	// ConfigPrefix is AWS Config's, without the slash that it adds.
	ConfigPrefix = "config"
)

// ArchiveArgs are the arguments of NewArchive.
type ArchiveArgs struct {
	// TrustDomain is what the archive is for. It is part of the buckets' names, which have room for 36 characters of it. Required.
	TrustDomain string
	// AccountID is the account, 12 digits. Required.
	AccountID string
	// Region and BackupRegion are where the archive and its copy are. They must differ. Required.
	Region, BackupRegion string
	// BackupProvider makes resources in BackupRegion. Required.
	BackupProvider *aws.Provider
	// KeyARN and BackupKeyARN encrypt the archive and its copy. They must be keys of their regions. Required.
	KeyARN, BackupKeyARN pulumi.StringInput
	// Mode is how firmly objects are locked. Required.
	Mode Mode
	// RetentionDays is for how long objects are locked, at least 1. Required: a lock has no default.
	RetentionDays int
	// ExpireDays is when objects are deleted, after RetentionDays. Default: 30 days after those.
	ExpireDays int
	// ArchiveAfterDays is when objects move to a cheaper class (Glacier Instant Retrieval), which charges for 90 days at least. Default
	// 90. Not used when objects expire before it pays.
	ArchiveAfterDays int
	// AccessLogDays is for how long access logs are kept. Default 365.
	AccessLogDays int
	// TrailName is the trail that may write into the archive (TrailArgs.Name). Default: the trust domain with hyphens for dots.
	TrailName string
	// Administrators are the ARNs of the roles and users that may change how the buckets are protected, whole. Empty: everyone in the
	// account whose own policies say so, so that the bucket's policy can be removed.
	Administrators []string
	// ReplicationTimeControl has AWS promise copies within 15 minutes, and charge for it.
	ReplicationTimeControl bool
	// ForceDestroy has Pulumi delete all objects with the buckets. It is refused together with Protect and in Compliance mode.
	ForceDestroy bool
	// Protect keeps Pulumi from deleting the buckets.
	Protect bool
}

// Archive is the archive.
type Archive struct {
	pulumi.ResourceState

	// BucketName and BucketARN are the archive. The name is known when its policy is in place.
	BucketName pulumi.StringOutput `pulumi:"bucketName"`
	BucketARN  pulumi.StringOutput `pulumi:"bucketArn"`
	// ReplicaARN is the copy.
	ReplicaARN pulumi.StringOutput `pulumi:"replicaArn"`
	// AccessLogBucket is the name of the bucket for access logs. It is known when its policy is in place.
	AccessLogBucket pulumi.StringOutput `pulumi:"accessLogBucket"`
	AccessLogARN    pulumi.StringOutput `pulumi:"accessLogArn"`
}

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a ArchiveArgs) WithDefaults() ArchiveArgs {
	if a.ExpireDays == 0 && a.RetentionDays > 0 {
		a.ExpireDays = a.RetentionDays + 30
	}
	a.ArchiveAfterDays = cmp.Or(a.ArchiveAfterDays, 90)
	a.AccessLogDays = cmp.Or(a.AccessLogDays, 365)
	a.TrailName = cmp.Or(a.TrailName, dashed(a.TrustDomain))
	return a
}

func dashed(trustDomain string) string { return strings.ReplaceAll(trustDomain, ".", "-") }

// Bucket names, unique in the world by the account. Three kinds of them.
func (a ArchiveArgs) bucketName(kind string) string {
	return fmt.Sprintf("%s-%s-%s", dashed(a.TrustDomain), kind, a.AccountID)
}

const (
	archiveKind   = "audit"
	replicaKind   = "audit-replica"
	accessLogKind = "access-logs"
	maxBucketName = 63
)

func (a ArchiveArgs) validate() error {
	errs := []error{
		check.TrustDomain("trustDomain", a.TrustDomain), check.Account("accountId", a.AccountID),
		check.Regions("region", a.Region, "backupRegion", a.BackupRegion), check.Set("backupProvider", a.BackupProvider),
		check.Key("keyArn", a.KeyARN, a.Region), check.Key("backupKeyArn", a.BackupKeyARN, a.BackupRegion), check.OneOf("mode", a.Mode, Compliance, Governance),
		check.Between("retentionDays", a.RetentionDays, 1, 36500), check.Between("archiveAfterDays", a.ArchiveAfterDays, 1, 36500),
		check.Between("accessLogDays", a.AccessLogDays, 1, 36500), trailName("trailName", a.TrailName),
	}
	if a.ExpireDays <= a.RetentionDays {
		errs = append(errs, fmt.Errorf(`expireDays: "%d" is not allowed: it must be more than retentionDays, %d`, a.ExpireDays, a.RetentionDays))
	}
	if name := a.bucketName(replicaKind); len(name) > maxBucketName {
		errs = append(errs, fmt.Errorf(`trustDomain: %q is not allowed: the name of its bucket, %s, must be at most %d characters`, a.TrustDomain, name, maxBucketName))
	}
	for _, arn := range a.Administrators {
		if err := iampolicy.CheckARN(arn); err != nil || !strings.HasPrefix(arn, "arn:aws:iam::") || strings.ContainsAny(arn, "*?") {
			errs = append(errs, fmt.Errorf("administrators: %q is not allowed: it must be the whole ARN of a role or user", arn))
		}
	}
	if a.ForceDestroy && (a.Protect || a.Mode == Compliance) {
		errs = append(errs, errors.New(`forceDestroy: "true" is not allowed: it must not be set for an archive that is protected or in the mode COMPLIANCE`))
	}
	return errors.Join(errs...)
}

// NewArchive makes the archive.
func NewArchive(ctx *pulumi.Context, name string, args *ArchiveArgs, opts ...pulumi.ResourceOption) (*Archive, error) {
	if args == nil {
		args = &ArchiveArgs{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("archive %s: %w", name, err)
	}
	self := &Archive{}
	props := pulumi.Map{
		"trustDomain": pulumi.String(a.TrustDomain), "mode": pulumi.String(a.Mode), "retentionDays": pulumi.Int(a.RetentionDays),
		"expireDays": pulumi.Int(a.ExpireDays), "keyArn": a.KeyARN, "backupKeyArn": a.BackupKeyARN,
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:audit:Archive", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("archive %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{
			"bucketName": self.BucketName, "bucketArn": self.BucketARN, "replicaArn": self.ReplicaARN,
			"accessLogBucket": self.AccessLogBucket, "accessLogArn": self.AccessLogARN,
		}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("archive %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (v *Archive) provision(ctx *pulumi.Context, name string, a ArchiveArgs, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(v, opts)
	if err != nil {
		return err
	}
	// A bucket that nobody can empty stays, and with it all that protects it.
	if a.Mode == Compliance {
		inherited = append(inherited, pulumi.RetainOnDelete(true))
	}
	elsewhere := append(slices.Clone(inherited), pulumi.Provider(a.BackupProvider))

	logs, err := newBucket(ctx, name+"-access-logs", bucketArgs{args: a, kind: accessLogKind, opts: inherited})
	if err != nil {
		return err
	}
	archive, err := newBucket(ctx, name+"-archive", bucketArgs{args: a, kind: archiveKind, key: a.KeyARN, locked: true, opts: inherited})
	if err != nil {
		return err
	}
	replica, err := newBucket(ctx, name+"-replica", bucketArgs{args: a, kind: replicaKind, key: a.BackupKeyARN, locked: true, opts: elsewhere})
	if err != nil {
		return err
	}

	logPolicy, err := logs.policy(ctx, slices.Concat(secureTransport(logs.arn), a.accessLogDelivery(logs.arn, archive.arn)))
	if err != nil {
		return err
	}
	archivePolicy, err := archive.policy(ctx, slices.Concat(secureTransport(archive.arn), ownKey(archive.arn, a.KeyARN), a.guard(archive.arn), a.trail(archive.arn)))
	if err != nil {
		return err
	}
	if _, err := replica.policy(ctx, slices.Concat(secureTransport(replica.arn), onlyReplication(replica.arn), a.guard(replica.arn))); err != nil {
		return err
	}
	if _, err := s3.NewBucketLoggingV2(ctx, name+"-archive-logging", &s3.BucketLoggingV2Args{
		Bucket: archive.name, TargetBucket: logPolicy.Bucket, TargetPrefix: pulumi.String(AccessLogPrefix),
	}, inherited...); err != nil {
		return fmt.Errorf("access log: %w", err)
	}
	if err := a.replicate(ctx, name, archive, replica, inherited); err != nil {
		return err
	}
	v.BucketName, v.BucketARN, v.ReplicaARN = archivePolicy.Bucket, archive.arn, replica.arn
	v.AccessLogBucket, v.AccessLogARN = logPolicy.Bucket, logs.arn
	return nil
}

// replicate copies every new object, as it is and locked as it is, but no deletion.
func (a ArchiveArgs) replicate(ctx *pulumi.Context, name string, from, to *bucket, opts []pulumi.ResourceOption) error {
	// AWS documents no condition by which S3 could say for which bucket it takes the role.
	role, err := iam.NewRole(ctx, name+"-replication-role", &iam.RoleArgs{
		Description: pulumi.Sprintf("%s: copies the audit archive to %s", a.TrustDomain, a.BackupRegion),
		AssumeRolePolicy: iampolicy.Document(iampolicy.Statement{
			Sid: "S3", Principal: iampolicy.Service("s3.amazonaws.com"), Action: "sts:AssumeRole",
		}),
	}, opts...)
	if err != nil {
		return fmt.Errorf("replication role: %w", err)
	}
	objects := func(b *bucket) pulumi.StringInput { return pulumi.Sprintf("%s/*", b.arn) }
	// With a key for the whole bucket the encryption context is the bucket, for objects from before it is the object.
	through := func(region string, b *bucket) iampolicy.Condition {
		return iampolicy.Condition{
			"StringEquals": {"kms:ViaService": "s3." + region + ".amazonaws.com"},
			"StringLike":   {"kms:EncryptionContext:aws:s3:arn": []any{b.arn, objects(b)}},
		}
	}
	policy, err := iam.NewRolePolicy(ctx, name+"-replication-policy", &iam.RolePolicyArgs{
		Role: role.Name,
		Policy: iampolicy.Document(
			iampolicy.Statement{Sid: "Source", Action: []string{"s3:GetReplicationConfiguration", "s3:ListBucket"}, Resource: from.arn},
			iampolicy.Statement{Sid: "SourceObjects", Resource: objects(from), Action: []string{
				"s3:GetObjectLegalHold", "s3:GetObjectRetention", "s3:GetObjectVersionAcl", "s3:GetObjectVersionForReplication",
				"s3:GetObjectVersionTagging",
			}},
			iampolicy.Statement{Sid: "Replica", Action: []string{"s3:ReplicateObject", "s3:ReplicateTags"}, Resource: objects(to)},
			iampolicy.Statement{Sid: "Decrypt", Action: "kms:Decrypt", Resource: a.KeyARN, Condition: through(a.Region, from)},
			iampolicy.Statement{
				Sid: "Encrypt", Action: []string{"kms:Encrypt", "kms:GenerateDataKey"}, Resource: a.BackupKeyARN,
				Condition: through(a.BackupRegion, to),
			},
		),
	}, opts...)
	if err != nil {
		return fmt.Errorf("replication policy: %w", err)
	}
	destination := s3.BucketReplicationConfigRuleDestinationArgs{
		Bucket: to.arn,
		EncryptionConfiguration: s3.BucketReplicationConfigRuleDestinationEncryptionConfigurationArgs{
			ReplicaKmsKeyId: a.BackupKeyARN,
		},
		Metrics: s3.BucketReplicationConfigRuleDestinationMetricsArgs{Status: pulumi.String("Enabled")},
	}
	if a.ReplicationTimeControl {
		destination.Metrics = s3.BucketReplicationConfigRuleDestinationMetricsArgs{
			Status:         pulumi.String("Enabled"),
			EventThreshold: s3.BucketReplicationConfigRuleDestinationMetricsEventThresholdArgs{Minutes: pulumi.Int(15)},
		}
		destination.ReplicationTime = s3.BucketReplicationConfigRuleDestinationReplicationTimeArgs{
			Status: pulumi.String("Enabled"),
			Time:   s3.BucketReplicationConfigRuleDestinationReplicationTimeTimeArgs{Minutes: pulumi.Int(15)},
		}
	}
	// One configuration a bucket: a second one would replace it, again and again.
	if _, err := s3.NewBucketReplicationConfig(ctx, name+"-replication", &s3.BucketReplicationConfigArgs{
		Bucket: from.name, Role: role.Arn,
		Rules: s3.BucketReplicationConfigRuleArray{s3.BucketReplicationConfigRuleArgs{
			Id: pulumi.String("everything"), Status: pulumi.String("Enabled"), Priority: pulumi.Int(1),
			Filter:                  s3.BucketReplicationConfigRuleFilterArgs{Prefix: pulumi.String("")},
			DeleteMarkerReplication: s3.BucketReplicationConfigRuleDeleteMarkerReplicationArgs{Status: pulumi.String("Disabled")},
			SourceSelectionCriteria: s3.BucketReplicationConfigRuleSourceSelectionCriteriaArgs{
				SseKmsEncryptedObjects: s3.BucketReplicationConfigRuleSourceSelectionCriteriaSseKmsEncryptedObjectsArgs{Status: pulumi.String("Enabled")},
			},
			Destination: destination,
		}},
	}, append(slices.Clone(opts), pulumi.DependsOn(slices.Concat(from.ready, to.ready, []pulumi.Resource{policy})))...); err != nil {
		return fmt.Errorf("replication: %w", err)
	}
	return nil
}
