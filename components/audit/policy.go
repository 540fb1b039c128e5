package audit

import (
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
)

type (
	statement = iampolicy.Statement
	condition = iampolicy.Condition
)

func objects(bucket pulumi.StringOutput) pulumi.StringOutput { return pulumi.Sprintf("%s/*", bucket) }

// secureTransport denies whoever does not use TLS 1.2 or later.
func secureTransport(bucket pulumi.StringOutput) []statement {
	all := []any{bucket, objects(bucket)}
	return []statement{
		{
			Sid: "DenyPlaintext", Effect: iampolicy.Deny, Principal: iampolicy.Any, Action: "s3:*", Resource: all,
			Condition: condition{"Bool": {"aws:SecureTransport": "false"}},
		},
		{
			Sid: "DenyOldTLS", Effect: iampolicy.Deny, Principal: iampolicy.Any, Action: "s3:*", Resource: all,
			Condition: condition{"NumericLessThan": {"s3:TlsVersion": "1.2"}},
		},
	}
}

// ownKey denies objects that ask for another encryption than the bucket's. Who asks for none gets it. A negated operator holds where
// the key is absent too, so that Null has to say that it is there.
func ownKey(bucket pulumi.StringOutput, key pulumi.StringInput) []statement {
	const encryption, keyID = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
	deny := func(sid, header string, not any) statement {
		return statement{
			Sid: sid, Effect: iampolicy.Deny, Principal: iampolicy.Any, Action: "s3:PutObject", Resource: objects(bucket),
			Condition: condition{"Null": {header: "false"}, "StringNotEquals": {header: not}},
		}
	}
	return []statement{deny("DenyOtherEncryption", encryption, "aws:kms"), deny("DenyOtherKey", keyID, key)}
}

// onlyReplication denies everyone to write: S3 replicates by an action of its own.
func onlyReplication(bucket pulumi.StringOutput) []statement {
	return []statement{{
		Sid: "DenyDirectWrites", Effect: iampolicy.Deny, Principal: iampolicy.Any, Action: "s3:PutObject", Resource: objects(bucket),
	}}
}

// guard leaves it to the administrators to change how a bucket is protected.
func (a ArchiveArgs) guard(bucket pulumi.StringOutput) []statement {
	if len(a.Administrators) == 0 {
		return nil
	}
	return []statement{
		{
			Sid: "DenyWeakening", Effect: iampolicy.Deny, Principal: iampolicy.Any, Resource: bucket,
			Action: []string{
				"s3:DeleteBucket", "s3:DeleteBucketPolicy", "s3:PutBucketAcl", "s3:PutBucketLogging", "s3:PutBucketObjectLockConfiguration",
				"s3:PutBucketOwnershipControls", "s3:PutBucketPolicy", "s3:PutBucketPublicAccessBlock", "s3:PutBucketVersioning",
				"s3:PutEncryptionConfiguration", "s3:PutLifecycleConfiguration", "s3:PutReplicationConfiguration",
			},
			Condition: condition{"ArnNotEquals": {"aws:PrincipalArn": a.Administrators}},
		},
		{
			Sid: "DenyUnlocking", Effect: iampolicy.Deny, Principal: iampolicy.Any, Resource: objects(bucket),
			Action:    []string{"s3:BypassGovernanceRetention", "s3:PutObjectLegalHold"},
			Condition: condition{"ArnNotEquals": {"aws:PrincipalArn": a.Administrators}},
		},
	}
}

func trailARN(region, account, name string) string {
	return fmt.Sprintf("arn:aws:cloudtrail:%s:%s:trail/%s", region, account, name)
}

// trail lets the one trail write.
func (a ArchiveArgs) trail(bucket pulumi.StringOutput) []statement {
	own := trailARN(a.Region, a.AccountID, a.TrailName)
	return []statement{
		{
			Sid: "CloudTrailCheck", Principal: iampolicy.Service("cloudtrail.amazonaws.com"), Action: "s3:GetBucketAcl", Resource: bucket,
			Condition: condition{"StringEquals": {"aws:SourceArn": own}},
		},
		{
			Sid: "CloudTrailWrite", Principal: iampolicy.Service("cloudtrail.amazonaws.com"), Action: "s3:PutObject",
			Resource:  pulumi.Sprintf("%s/AWSLogs/%s/*", bucket, a.AccountID),
			Condition: condition{"StringEquals": {"aws:SourceArn": own, "s3:x-amz-acl": "bucket-owner-full-control"}},
		},
	}
}

// accessLogDelivery lets S3 write the access log of the archive, and load balancers of the account theirs. Load balancers say only by
// the path for whom they write (docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html).
func (a ArchiveArgs) accessLogDelivery(bucket, source pulumi.StringOutput) []statement {
	return []statement{
		{
			Sid: "S3AccessLogs", Principal: iampolicy.Service("logging.s3.amazonaws.com"), Action: "s3:PutObject",
			Resource: pulumi.Sprintf("%s/%s*", bucket, AccessLogPrefix),
			Condition: condition{
				"StringEquals": {"aws:SourceAccount": a.AccountID},
				"ArnEquals":    {"aws:SourceArn": source},
			},
		},
		{
			Sid: "LoadBalancerLogs", Principal: iampolicy.Service("logdelivery.elasticloadbalancing.amazonaws.com"), Action: "s3:PutObject",
			Resource: pulumi.Sprintf("%s/%s/AWSLogs/%s/*", bucket, LoadBalancerPrefix, a.AccountID),
		},
	}
}
