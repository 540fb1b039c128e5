package keys

import (
	"fmt"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
)

type (
	statement = iampolicy.Statement
	condition = iampolicy.Condition
)

// administration is everything that can be done with a key but its use. CreateGrant is use: it hands use on.
var administration = []string{
	"kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKey", "kms:DisableKeyRotation",
	"kms:EnableKey", "kms:EnableKeyRotation", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies",
	"kms:ListKeyRotations", "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:RevokeGrant", "kms:RotateKeyOnDemand",
	"kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription",
}

// Ways to use a key.
var (
	envelope = []string{"kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext"}
	storage  = []string{
		"kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom",
		"kms:ReEncryptTo",
	}
	grants = []string{"kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"}
)

func autoScalingRole(account string) string {
	return "arn:aws:iam::" + account + ":role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
}

// policy is the policy of the key of a class in a region. The resource of a key's policy is always that key: "*".
func (a Args) policy(c Class, region string, autoScaling pulumi.StringInput) []statement {
	root := iampolicy.RootARN(a.AccountID)
	administrators := iampolicy.Root(a.AccountID)
	if len(a.Administrators) > 0 {
		administrators = iampolicy.Principals{"AWS": a.Administrators}
	}
	out := []statement{
		{Sid: "Administration", Principal: administrators, Action: administration, Resource: iampolicy.Any},
		{
			Sid: "Recovery", Principal: iampolicy.Root(a.AccountID),
			Action:   []string{"kms:CancelKeyDeletion", "kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy"},
			Resource: iampolicy.Any, Condition: condition{"ArnEquals": {"aws:PrincipalArn": root}},
		},
	}
	// through lets identities of the account use the key, as far as their own policies do, when a service asks on their behalf.
	through := func(actions []string, services ...string) statement {
		var names []string
		for _, s := range services {
			names = append(names, s+"."+region+".amazonaws.com")
		}
		return statement{
			Sid: "Use", Principal: iampolicy.Root(a.AccountID), Action: actions, Resource: iampolicy.Any,
			Condition: condition{"StringEquals": {"kms:CallerAccount": a.AccountID, "kms:ViaService": names}},
		}
	}
	// delegation lets a service keep the use of the key for as long as a resource of its lives.
	delegation := func(use statement) statement {
		use.Sid, use.Action = "Delegation", grants
		use.Condition = condition{"StringEquals": use.Condition["StringEquals"], "Bool": {"kms:GrantIsForAWSResource": "true"}}
		return use
	}
	own := condition{"StringEquals": {"aws:SourceAccount": a.AccountID}}
	switch c {
	case Database:
		use := through(storage, "rds")
		out = append(out, use, delegation(use))
	case MasterSecret:
		use := through(storage, "secretsmanager")
		out = append(out, use, delegation(use))
	case Backup:
		// Snapshots of databases that AWS Backup copies are encrypted by RDS.
		use := through(storage, "backup", "rds")
		out = append(out, use, delegation(use))
	case Secrets:
		// EKS is given the use of the key by whoever creates the cluster, and asks in the name of the cluster's role. It does so without
		// marking either call as its own (neither kms:ViaService nor kms:GrantIsForAWSResource), so that the policy of the role is what
		// narrows it.
		out = append(out, statement{
			Sid: "Use", Principal: iampolicy.Root(a.AccountID), Resource: iampolicy.Any,
			Action:    []string{"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:ListGrants"},
			Condition: condition{"StringEquals": {"kms:CallerAccount": a.AccountID}},
		})
	case Disk:
		use := through(storage, "ec2")
		// Nodes are started by Auto Scaling, whose role has no policy that could allow it.
		out = append(out, use, delegation(use),
			statement{Sid: "Nodes", Principal: iampolicy.AWS(autoScaling), Action: storage, Resource: iampolicy.Any},
			statement{
				Sid: "NodeVolumes", Principal: iampolicy.AWS(autoScaling), Action: "kms:CreateGrant", Resource: iampolicy.Any,
				Condition: condition{"Bool": {"kms:GrantIsForAWSResource": "true"}},
			})
	case Audit:
		// CloudTrail decrypts the data key that S3 keeps for the bucket. Replicas are encrypted by the role that replicates.
		trails := fmt.Sprintf("arn:aws:cloudtrail:%s:%s:trail/*", region, a.AccountID)
		out = append(out, through(append(slices.Clone(envelope), "kms:Encrypt"), "s3"),
			statement{
				Sid: "CloudTrail", Principal: iampolicy.Service("cloudtrail.amazonaws.com"), Action: []string{"kms:Decrypt", "kms:GenerateDataKey"},
				Resource: iampolicy.Any,
				Condition: condition{
					"ArnLike":    {"aws:SourceArn": trails},
					"StringLike": {"kms:EncryptionContext:aws:cloudtrail:arn": fmt.Sprintf("arn:aws:cloudtrail:*:%s:trail/*", a.AccountID)},
				},
			},
			statement{
				Sid: "CloudTrailDescribe", Principal: iampolicy.Service("cloudtrail.amazonaws.com"), Action: "kms:DescribeKey",
				Resource: iampolicy.Any, Condition: condition{"ArnLike": {"aws:SourceArn": trails}},
			})
	case Notification:
		out = append(out, through(envelope, "sns"),
			statement{
				Sid: "Services", Principal: iampolicy.Service("backup.amazonaws.com", "cloudwatch.amazonaws.com", "events.rds.amazonaws.com"),
				Action: []string{"kms:Decrypt", "kms:GenerateDataKey"}, Resource: iampolicy.Any, Condition: own,
			},
			// EventBridge publishes without saying for whom: a condition would shut it out.
			statement{
				Sid: "Events", Principal: iampolicy.Service("events.amazonaws.com"), Action: []string{"kms:Decrypt", "kms:GenerateDataKey"},
				Resource: iampolicy.Any,
			})
	case Logs:
		out = append(out, statement{
			Sid: "LogGroups", Principal: iampolicy.Service("logs." + region + ".amazonaws.com"), Action: storage, Resource: iampolicy.Any,
			Condition: condition{"ArnLike": {"kms:EncryptionContext:aws:logs:arn": fmt.Sprintf("arn:aws:logs:%s:%s:log-group:*", region, a.AccountID)}},
		})
	}
	return out
}
