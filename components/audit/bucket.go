package audit

import (
	"fmt"
	"slices"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/s3"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
)

// bucketArgs says what a bucket is like.
type bucketArgs struct {
	args ArchiveArgs
	kind string
	// key encrypts it. Nil: S3's own keys.
	key pulumi.StringInput
	// locked says that its objects are.
	locked bool
	opts   []pulumi.ResourceOption
}

// A bucket is one with everything but its policy.
type bucket struct {
	resource  string
	name, arn pulumi.StringOutput
	opts      []pulumi.ResourceOption
	// open is what S3 must not change together with the policy, ready what must be there before objects are replicated.
	open, ready []pulumi.Resource
}

// expireNoncurrentDays is how long a version is kept that has been replaced or deleted, once no lock keeps it.
const expireNoncurrentDays = 30

func newBucket(ctx *pulumi.Context, name string, b bucketArgs) (*bucket, error) {
	dataClass := "audit"
	if !b.locked {
		dataClass = "access-logs"
	}
	protected := append(slices.Clone(b.opts), pulumi.Protect(b.args.Protect))
	made, err := s3.NewBucketV2(ctx, name, &s3.BucketV2Args{
		Bucket:            pulumi.String(b.args.bucketName(b.kind)),
		ObjectLockEnabled: pulumi.Bool(b.locked),
		ForceDestroy:      pulumi.Bool(b.args.ForceDestroy),
		Tags:              pulumi.StringMap{"Name": pulumi.String(b.args.bucketName(b.kind)), "DataClass": pulumi.String(dataClass)},
	}, protected...)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", b.kind, err)
	}
	out := &bucket{resource: name, name: made.Bucket, arn: made.Arn, opts: b.opts}

	versioning, err := s3.NewBucketVersioningV2(ctx, name+"-versioning", &s3.BucketVersioningV2Args{
		Bucket:                  out.name,
		VersioningConfiguration: s3.BucketVersioningV2VersioningConfigurationArgs{Status: pulumi.String("Enabled")},
	}, b.opts...)
	if err != nil {
		return nil, fmt.Errorf("versioning of %s: %w", b.kind, err)
	}
	out.ready = append(out.ready, versioning)
	after := append(slices.Clone(b.opts), pulumi.DependsOn([]pulumi.Resource{versioning}))

	if b.locked {
		lock, err := s3.NewBucketObjectLockConfigurationV2(ctx, name+"-lock", &s3.BucketObjectLockConfigurationV2Args{
			Bucket: out.name,
			Rule: s3.BucketObjectLockConfigurationV2RuleArgs{
				DefaultRetention: s3.BucketObjectLockConfigurationV2RuleDefaultRetentionArgs{
					Mode: pulumi.String(b.args.Mode), Days: pulumi.Int(b.args.RetentionDays),
				},
			},
		}, append(slices.Clone(after), pulumi.Protect(b.args.Protect))...)
		if err != nil {
			return nil, fmt.Errorf("lock of %s: %w", b.kind, err)
		}
		out.ready = append(out.ready, lock)
	}

	encryption := s3.BucketServerSideEncryptionConfigurationV2RuleArgs{
		ApplyServerSideEncryptionByDefault: s3.BucketServerSideEncryptionConfigurationV2RuleApplyServerSideEncryptionByDefaultArgs{
			SseAlgorithm: pulumi.String("AES256"),
		},
	}
	if b.key != nil {
		encryption = s3.BucketServerSideEncryptionConfigurationV2RuleArgs{
			// One data key for the bucket instead of a call to KMS for every object.
			BucketKeyEnabled: pulumi.Bool(true),
			ApplyServerSideEncryptionByDefault: s3.BucketServerSideEncryptionConfigurationV2RuleApplyServerSideEncryptionByDefaultArgs{
				SseAlgorithm: pulumi.String("aws:kms"), KmsMasterKeyId: b.key.ToStringOutput().ToStringPtrOutput(),
			},
		}
	}
	sse, err := s3.NewBucketServerSideEncryptionConfigurationV2(ctx, name+"-encryption", &s3.BucketServerSideEncryptionConfigurationV2Args{
		Bucket: out.name, Rules: s3.BucketServerSideEncryptionConfigurationV2RuleArray{encryption},
	}, b.opts...)
	if err != nil {
		return nil, fmt.Errorf("encryption of %s: %w", b.kind, err)
	}
	out.ready = append(out.ready, sse)

	block, err := s3.NewBucketPublicAccessBlock(ctx, name+"-public-access", &s3.BucketPublicAccessBlockArgs{
		Bucket: out.name, BlockPublicAcls: pulumi.Bool(true), BlockPublicPolicy: pulumi.Bool(true),
		IgnorePublicAcls: pulumi.Bool(true), RestrictPublicBuckets: pulumi.Bool(true),
	}, b.opts...)
	if err != nil {
		return nil, fmt.Errorf("public access of %s: %w", b.kind, err)
	}
	owner, err := s3.NewBucketOwnershipControls(ctx, name+"-ownership", &s3.BucketOwnershipControlsArgs{
		Bucket: out.name, Rule: s3.BucketOwnershipControlsRuleArgs{ObjectOwnership: pulumi.String("BucketOwnerEnforced")},
	}, append(slices.Clone(b.opts), pulumi.DependsOn([]pulumi.Resource{block}))...)
	if err != nil {
		return nil, fmt.Errorf("ownership of %s: %w", b.kind, err)
	}
	out.open = []pulumi.Resource{block, owner}

	if _, err := s3.NewBucketLifecycleConfigurationV2(ctx, name+"-lifecycle", &s3.BucketLifecycleConfigurationV2Args{
		Bucket: out.name, Rules: b.lifecycle(),
	}, after...); err != nil {
		return nil, fmt.Errorf("lifecycle of %s: %w", b.kind, err)
	}
	return out, nil
}

// leastArchivedDays is what Glacier Instant Retrieval charges for, whether an object stays that long or not.
const leastArchivedDays = 90

func (b bucketArgs) lifecycle() s3.BucketLifecycleConfigurationV2RuleArray {
	everything := s3.BucketLifecycleConfigurationV2RuleFilterArgs{Prefix: pulumi.String("")}
	days := b.args.AccessLogDays
	if b.locked {
		days = b.args.ExpireDays
	}
	expire := s3.BucketLifecycleConfigurationV2RuleArgs{
		Id: pulumi.String("expire"), Status: pulumi.String("Enabled"), Filter: everything,
		Expiration: s3.BucketLifecycleConfigurationV2RuleExpirationArgs{Days: pulumi.Int(days)},
		NoncurrentVersionExpiration: s3.BucketLifecycleConfigurationV2RuleNoncurrentVersionExpirationArgs{
			NoncurrentDays: pulumi.Int(expireNoncurrentDays),
		},
	}
	if b.locked && b.args.ExpireDays >= b.args.ArchiveAfterDays+leastArchivedDays {
		expire.Transitions = s3.BucketLifecycleConfigurationV2RuleTransitionArray{s3.BucketLifecycleConfigurationV2RuleTransitionArgs{
			Days: pulumi.Int(b.args.ArchiveAfterDays), StorageClass: pulumi.String("GLACIER_IR"),
		}}
	}
	return s3.BucketLifecycleConfigurationV2RuleArray{
		expire,
		s3.BucketLifecycleConfigurationV2RuleArgs{
			Id: pulumi.String("leftovers"), Status: pulumi.String("Enabled"), Filter: everything,
			Expiration: s3.BucketLifecycleConfigurationV2RuleExpirationArgs{ExpiredObjectDeleteMarker: pulumi.Bool(true)},
			AbortIncompleteMultipartUpload: s3.BucketLifecycleConfigurationV2RuleAbortIncompleteMultipartUploadArgs{
				DaysAfterInitiation: pulumi.Int(7),
			},
		},
	}
}

func (b *bucket) policy(ctx *pulumi.Context, statements []iampolicy.Statement) (*s3.BucketPolicy, error) {
	policy, err := s3.NewBucketPolicy(ctx, b.resource+"-policy", &s3.BucketPolicyArgs{
		Bucket: b.name, Policy: iampolicy.Document(statements...),
	}, append(slices.Clone(b.opts), pulumi.DependsOn(b.open))...)
	if err != nil {
		return nil, fmt.Errorf("policy of %s: %w", b.resource, err)
	}
	return policy, nil
}
