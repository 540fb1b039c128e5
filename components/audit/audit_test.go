package audit

import (
	"strings"
	"testing"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/manifest/manifesttest"
)

const (
	account = "123456789012"
	key     = "arn:aws:kms:eu-central-1:123456789012:key/audit"
	backup  = "arn:aws:kms:eu-west-1:123456789012:key/audit"
	logKey  = "arn:aws:kms:eu-central-1:123456789012:key/logs"
	admin   = "arn:aws:iam::123456789012:role/deployer"

	archiveBucket = "prod-company-com-audit-123456789012"
	replicaBucket = "prod-company-com-audit-replica-123456789012"
	logBucket     = "prod-company-com-access-logs-123456789012"
)

func arguments() *ArchiveArgs {
	return &ArchiveArgs{
		TrustDomain: "prod.company.com", AccountID: account, Region: "eu-central-1", BackupRegion: "eu-west-1",
		BackupProvider: &aws.Provider{}, KeyARN: pulumi.String(key), BackupKeyARN: pulumi.String(backup),
		Mode: Compliance, RetentionDays: 400, Administrators: []string{admin}, Protect: true, ReplicationTimeControl: true,
	}
}

// record makes an archive and a trail into it.
func record(t *testing.T, change func(*ArchiveArgs, *TrailArgs)) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		args := arguments()
		var err error
		if args.BackupProvider, err = aws.NewProvider(ctx, "backup", &aws.ProviderArgs{Region: pulumi.String(args.BackupRegion)}); err != nil {
			return err
		}
		trail := &TrailArgs{
			TrustDomain: args.TrustDomain, AccountID: account, Region: args.Region, KeyARN: args.KeyARN, LogKeyARN: pulumi.String(logKey),
			Protect: true,
		}
		if change != nil {
			change(args, trail)
		}
		archive, err := NewArchive(ctx, "a", args)
		if err != nil {
			return err
		}
		trail.BucketName, trail.BucketARN, trail.ReplicaARN = archive.BucketName, archive.BucketARN, archive.ReplicaARN
		_, err = NewTrail(ctx, "t", trail)
		return err
	})
}

func named(t *testing.T, g *manifesttest.Graph, kind, name string) manifesttest.Resource {
	t.Helper()
	for _, r := range g.All(kind) {
		if r.Name == name {
			return r
		}
	}
	require.Fail(t, "no such resource", "%s %s", kind, name)
	return manifesttest.Resource{}
}

func get(r manifesttest.Resource, path string) any { return manifesttest.Get(r.Object, path) }

func policy(t *testing.T, kind iampolicy.Kind, text any) map[string]map[string]any {
	t.Helper()
	require.Empty(t, iampolicy.ValidateAs(kind, text.(string)), text)
	return iampolicy.Statements(text.(string))
}

func TestBuckets(t *testing.T) {
	g := record(t, nil)
	names := map[string]string{"a-archive": archiveBucket, "a-replica": replicaBucket, "a-access-logs": logBucket}
	require.Len(t, g.All("BucketV2"), len(names))
	for name, bucket := range names {
		locked, elsewhere := name != "a-access-logs", name == "a-replica"
		b := named(t, g, "BucketV2", name)
		require.Equal(t, bucket, get(b, "bucket"))
		require.Equal(t, locked, get(b, "objectLockEnabled"))
		require.Equal(t, false, get(b, "forceDestroy"))
		require.True(t, b.Protect)
		parts := map[string]manifesttest.Resource{"": b}
		for kind, suffix := range map[string]string{
			"BucketVersioningV2": "versioning", "BucketServerSideEncryptionConfigurationV2": "encryption", "BucketPublicAccessBlock": "public-access",
			"BucketOwnershipControls": "ownership", "BucketLifecycleConfigurationV2": "lifecycle", "BucketPolicy": "policy",
		} {
			parts[suffix] = named(t, g, kind, name+"-"+suffix)
			require.Equal(t, bucket, get(parts[suffix], "bucket"), suffix)
		}
		if locked {
			lock := named(t, g, "BucketObjectLockConfigurationV2", name+"-lock")
			require.Equal(t, "COMPLIANCE", get(lock, "rule.defaultRetention.mode"))
			require.Equal(t, 400.0, get(lock, "rule.defaultRetention.days"))
			require.Contains(t, lock.Dependencies, name+"-versioning")
			require.True(t, lock.Protect)
			parts["lock"] = lock
		}
		for suffix, r := range parts {
			require.True(t, r.Retain, "%s %s: what nobody can empty stays, with what protects it", name, suffix)
			require.Equal(t, elsewhere, r.Provider == "backup", "%s is made by %q", r.Name, r.Provider)
		}
		require.Equal(t, "Enabled", get(parts["versioning"], "versioningConfiguration.status"))
		require.Equal(t, "BucketOwnerEnforced", get(parts["ownership"], "rule.objectOwnership"))
		for _, all := range []string{"blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"} {
			require.Equal(t, true, get(parts["public-access"], all))
		}
		encryption := get(parts["encryption"], "rules.0.applyServerSideEncryptionByDefault").(map[string]any)
		if locked {
			require.Equal(t, "aws:kms", encryption["sseAlgorithm"])
			require.Equal(t, map[bool]any{false: key, true: backup}[elsewhere], encryption["kmsMasterKeyId"])
			require.Equal(t, true, get(parts["encryption"], "rules.0.bucketKeyEnabled"))
		} else {
			require.Equal(t, "AES256", encryption["sseAlgorithm"], "load balancers write nowhere else")
		}
	}
	require.Len(t, g.All("BucketObjectLockConfigurationV2"), 2, "S3 delivers no access logs into a locked bucket")
}

func TestLifecycle(t *testing.T) {
	g := record(t, nil)
	rules := named(t, g, "BucketLifecycleConfigurationV2", "a-archive-lifecycle")
	require.Equal(t, 430.0, get(rules, "rules.0.expiration.days"), "what is locked cannot expire")
	require.Equal(t, "GLACIER_IR", get(rules, "rules.0.transitions.0.storageClass"))
	require.Equal(t, 90.0, get(rules, "rules.0.transitions.0.days"))
	require.Equal(t, 7.0, get(rules, "rules.1.abortIncompleteMultipartUpload.daysAfterInitiation"))
	require.Equal(t, 365.0, get(named(t, g, "BucketLifecycleConfigurationV2", "a-access-logs-lifecycle"), "rules.0.expiration.days"))

	g = record(t, func(a *ArchiveArgs, _ *TrailArgs) { a.RetentionDays = 30 })
	require.Nil(t, get(named(t, g, "BucketLifecycleConfigurationV2", "a-archive-lifecycle"), "rules.0.transitions"),
		"an object that expires sooner costs more where it is cheaper")
}

func TestBucketPolicies(t *testing.T) {
	g := record(t, nil)
	for name, bucket := range map[string]string{"a-archive": archiveBucket, "a-replica": replicaBucket, "a-access-logs": logBucket} {
		r := named(t, g, "BucketPolicy", name+"-policy")
		statements := policy(t, iampolicy.Bucket, r.Object["policy"])
		require.Empty(t, iampolicy.Wildcards(r.Object["policy"].(string)))
		require.Contains(t, r.Dependencies, name+"-public-access")
		arn := "arn:aws:s3:::" + bucket
		for sid, condition := range map[string]any{
			"DenyPlaintext": map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}},
			"DenyOldTLS":    map[string]any{"NumericLessThan": map[string]any{"s3:TlsVersion": "1.2"}},
		} {
			s := statements[sid]
			require.Equal(t, []any{"Deny", "*", "s3:*"}, []any{s["Effect"], s["Principal"], s["Action"]}, sid)
			require.Equal(t, []any{arn, arn + "/*"}, s["Resource"], sid)
			require.Equal(t, condition, s["Condition"], sid)
		}
		if name == "a-access-logs" {
			require.NotContains(t, statements, "DenyWeakening")
			continue
		}
		for _, sid := range []string{"DenyWeakening", "DenyUnlocking"} {
			require.Equal(t, "Deny", statements[sid]["Effect"])
			require.Equal(t, map[string]any{"ArnNotEquals": map[string]any{"aws:PrincipalArn": []any{admin}}}, statements[sid]["Condition"])
		}
		require.Subset(t, statements["DenyWeakening"]["Action"], []any{"s3:DeleteBucketPolicy", "s3:PutBucketPolicy", "s3:PutBucketObjectLockConfiguration"})
		require.Contains(t, statements["DenyUnlocking"]["Action"], "s3:BypassGovernanceRetention")
	}

	statements := policy(t, iampolicy.Bucket, named(t, g, "BucketPolicy", "a-archive-policy").Object["policy"])
	for sid, want := range map[string][2]string{
		"DenyOtherEncryption": {"s3:x-amz-server-side-encryption", "aws:kms"},
		"DenyOtherKey":        {"s3:x-amz-server-side-encryption-aws-kms-key-id", key},
	} {
		require.Equal(t, "Deny", statements[sid]["Effect"])
		require.Equal(t, "s3:PutObject", statements[sid]["Action"])
		require.Equal(t, map[string]any{
			"Null": map[string]any{want[0]: "false"}, "StringNotEquals": map[string]any{want[0]: want[1]},
		}, statements[sid]["Condition"], "who asks for no encryption gets the bucket's and must not be denied")
	}
	write := statements["CloudTrailWrite"]
	require.Equal(t, "arn:aws:s3:::"+archiveBucket+"/AWSLogs/"+account+"/*", write["Resource"])
	require.Equal(t, "arn:aws:cloudtrail:eu-central-1:123456789012:trail/prod-company-com", manifesttest.Get(write["Condition"], "StringEquals.aws:SourceArn"))

	statements = policy(t, iampolicy.Bucket, named(t, g, "BucketPolicy", "a-replica-policy").Object["policy"])
	require.Equal(t, "Deny", statements["DenyDirectWrites"]["Effect"])
	for sid, s := range statements {
		require.Equal(t, "Deny", s["Effect"], "%s: only replication writes to the replica", sid)
	}

	statements = policy(t, iampolicy.Bucket, named(t, g, "BucketPolicy", "a-access-logs-policy").Object["policy"])
	require.Equal(t, map[string]any{"Service": []any{"logging.s3.amazonaws.com"}}, statements["S3AccessLogs"]["Principal"])
	require.Equal(t, "arn:aws:s3:::"+archiveBucket, manifesttest.Get(statements["S3AccessLogs"]["Condition"], "ArnEquals.aws:SourceArn"))
	require.Equal(t, "arn:aws:s3:::"+logBucket+"/s3/*", statements["S3AccessLogs"]["Resource"])
	require.Equal(t, "arn:aws:s3:::"+logBucket+"/alb/AWSLogs/"+account+"/*", statements["LoadBalancerLogs"]["Resource"])
	logging := g.One(t, "BucketLoggingV2")
	require.Equal(t, []any{archiveBucket, logBucket, "s3/"}, []any{get(logging, "bucket"), get(logging, "targetBucket"), get(logging, "targetPrefix")})
	require.Contains(t, logging.Dependencies, "a-access-logs-policy", "S3 tries to write at once")
}

func TestWithoutAdministratorsThePolicyCanBeRemoved(t *testing.T) {
	g := record(t, func(a *ArchiveArgs, _ *TrailArgs) { a.Administrators = nil })
	for _, r := range g.All("BucketPolicy") {
		require.NotContains(t, r.Object["policy"], "s3:DeleteBucketPolicy")
	}
}

func TestReplication(t *testing.T) {
	g := record(t, nil)
	r := g.One(t, "BucketReplicationConfig")
	require.Equal(t, archiveBucket, get(r, "bucket"))
	require.Len(t, r.Object["rules"], 1)
	rule := r.Object["rules"].([]any)[0]
	for path, want := range map[string]any{
		"status": "Enabled", "deleteMarkerReplication.status": "Disabled", "sourceSelectionCriteria.sseKmsEncryptedObjects.status": "Enabled",
		"destination.bucket": "arn:aws:s3:::" + replicaBucket, "destination.encryptionConfiguration.replicaKmsKeyId": backup,
		"destination.metrics.status": "Enabled", "destination.metrics.eventThreshold.minutes": 15.0,
		"destination.replicationTime.status": "Enabled", "destination.replicationTime.time.minutes": 15.0, "filter.prefix": "",
	} {
		require.Equal(t, want, manifesttest.Get(rule, path), path)
	}
	require.Subset(t, r.Dependencies, []string{
		"a-archive-versioning", "a-archive-lock", "a-replica-versioning", "a-replica-lock", "a-replica-encryption", "a-replication-policy",
	})
	require.Equal(t, "", r.Provider, "the configuration is that of the source")

	statements := policy(t, iampolicy.Inline, named(t, g, "RolePolicy", "a-replication-policy").Object["policy"])
	from, to := "arn:aws:s3:::"+archiveBucket, "arn:aws:s3:::"+replicaBucket
	want := map[string][2]any{
		"Source":        {[]any{"s3:GetReplicationConfiguration", "s3:ListBucket"}, from},
		"SourceObjects": {[]any{"s3:GetObjectLegalHold", "s3:GetObjectRetention", "s3:GetObjectVersionAcl", "s3:GetObjectVersionForReplication", "s3:GetObjectVersionTagging"}, from + "/*"},
		"Replica":       {[]any{"s3:ReplicateObject", "s3:ReplicateTags"}, to + "/*"},
		"Decrypt":       {"kms:Decrypt", key},
		"Encrypt":       {[]any{"kms:Encrypt", "kms:GenerateDataKey"}, backup},
	}
	require.Len(t, statements, len(want))
	for sid, s := range statements {
		require.Equal(t, want[sid], [2]any{s["Action"], s["Resource"]}, "%s: the role may do more, or less, than replicate", sid)
	}
	require.Equal(t, "s3.eu-west-1.amazonaws.com", manifesttest.Get(statements["Encrypt"]["Condition"], "StringEquals.kms:ViaService"))
	policy(t, iampolicy.Trust, named(t, g, "Role", "a-replication-role").Object["assumeRolePolicy"])

	g = record(t, func(a *ArchiveArgs, _ *TrailArgs) { a.ReplicationTimeControl = false })
	rule = g.One(t, "BucketReplicationConfig").Object["rules"].([]any)[0]
	require.Nil(t, manifesttest.Get(rule, "destination.replicationTime"))
	require.Nil(t, manifesttest.Get(rule, "destination.metrics.eventThreshold"))
}

func TestAnEnvironmentCanBeRemoved(t *testing.T) {
	g := record(t, func(a *ArchiveArgs, _ *TrailArgs) {
		a.Mode, a.RetentionDays, a.Protect, a.ForceDestroy = Governance, 1, false, true
	})
	for _, b := range g.All("BucketV2") {
		require.Equal(t, true, b.Object["forceDestroy"])
		require.False(t, b.Protect)
		require.False(t, b.Retain)
	}
	require.Equal(t, "GOVERNANCE", get(named(t, g, "BucketObjectLockConfigurationV2", "a-archive-lock"), "rule.defaultRetention.mode"))
}

func TestTrail(t *testing.T) {
	g := record(t, func(_ *ArchiveArgs, trail *TrailArgs) { trail.Insights = true })
	r := named(t, g, "Trail", "t-trail")
	require.True(t, r.Protect)
	for path, want := range map[string]any{
		"name": "prod-company-com", "s3BucketName": archiveBucket, "kmsKeyId": key, "isMultiRegionTrail": true,
		"includeGlobalServiceEvents": true, "enableLogging": true, "enableLogFileValidation": true,
		"cloudWatchLogsGroupArn": "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/cloudtrail/prod-company-com:*",
		"cloudWatchLogsRoleArn":  "arn:aws:iam::123456789012:role/t-role",
	} {
		require.Equal(t, want, get(r, path), path)
	}
	require.Subset(t, r.Dependencies, []string{"a-archive-policy", "t-policy"}, "CloudTrail tries both at once")
	require.Len(t, r.Object["insightSelectors"], 2)
	require.NotContains(t, r.Object, "eventSelectors", "the two kinds of selectors exclude each other")

	group := g.One(t, "LogGroup")
	require.Equal(t, logKey, get(group, "kmsKeyId"))
	require.Equal(t, 365.0, get(group, "retentionInDays"))
	require.True(t, group.Protect)
	write := policy(t, iampolicy.Inline, named(t, g, "RolePolicy", "t-policy").Object["policy"])["Write"]
	require.Equal(t, "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/cloudtrail/prod-company-com:log-stream:123456789012_CloudTrail_eu-central-1*", write["Resource"])
	trust := policy(t, iampolicy.Trust, named(t, g, "Role", "t-role").Object["assumeRolePolicy"])["CloudTrail"]
	require.Equal(t, "arn:aws:cloudtrail:eu-central-1:123456789012:trail/prod-company-com", manifesttest.Get(trust["Condition"], "ArnEquals.aws:SourceArn"))
}

// TestTheTrailDoesNotRecordItself evaluates the selectors as CloudTrail does.
func TestTheTrailDoesNotRecordItself(t *testing.T) {
	selectors := named(t, record(t, nil), "Trail", "t-trail").Object["advancedEventSelectors"].([]any)
	recorded := func(event map[string]string) bool {
		for _, s := range selectors {
			all := true
			for _, f := range s.(map[string]any)["fieldSelectors"].([]any) {
				field := f.(map[string]any)
				value := event[field["field"].(string)]
				matches := func(operator string, match func(string) bool, want bool) {
					list, set := field[operator].([]any)
					if !set {
						return
					}
					found := false
					for _, v := range list {
						found = found || match(v.(string))
					}
					all = all && found == want
				}
				matches("equals", func(v string) bool { return v == value }, true)
				matches("notEquals", func(v string) bool { return v == value }, false)
				matches("startsWiths", func(v string) bool { return strings.HasPrefix(value, v) }, true)
				matches("notStartsWiths", func(v string) bool { return strings.HasPrefix(value, v) }, false)
			}
			if all {
				return true
			}
		}
		return false
	}
	event := func(name, readOnly, bucket, object string) bool {
		return recorded(map[string]string{
			"eventCategory": "Data", "resources.type": "AWS::S3::Object", "eventName": name, "readOnly": readOnly,
			"resources.ARN": "arn:aws:s3:::" + bucket + "/" + object,
		})
	}
	require.True(t, recorded(map[string]string{"eventCategory": "Management"}))
	for _, c := range []struct {
		name, readOnly, bucket, object string
		want                           bool
	}{
		{"PutObject", "false", archiveBucket, "spire/1", true},
		{"GetObject", "true", archiveBucket, "spire/1", true},
		{"DeleteObject", "false", archiveBucket, "AWSLogs/1", true},
		{"PutObjectRetention", "false", replicaBucket, "AWSLogs/1", true},
		{"DeleteObject", "false", replicaBucket, "spire/1", true},
		{"PutObject", "false", archiveBucket, "AWSLogs/1", false},
		{"GetObject", "true", archiveBucket, "AWSLogs/1", false},
		{"PutObject", "false", replicaBucket, "AWSLogs/1", false},
		{"PutObject", "false", "other", "1", false},
	} {
		require.Equal(t, c.want, event(c.name, c.readOnly, c.bucket, c.object), c)
	}
}

func TestRefusesArguments(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ArchiveArgs)
		want   []string
	}{
		{"nothing", func(a *ArchiveArgs) { *a = ArchiveArgs{} }, []string{
			"trustDomain", "accountId", "region", "backupRegion", "backupProvider", "keyArn", "backupKeyArn", "mode", "retentionDays",
		}},
		{"a retention of nothing", func(a *ArchiveArgs) { a.RetentionDays = 0 }, []string{"retentionDays"}},
		{"expiry before the lock ends", func(a *ArchiveArgs) { a.ExpireDays = 400 }, []string{"expireDays"}},
		{"same region", func(a *ArchiveArgs) { a.BackupRegion = a.Region }, []string{"backupRegion"}},
		{"keys of other regions", func(a *ArchiveArgs) { a.KeyARN, a.BackupKeyARN = a.BackupKeyARN, a.KeyARN }, []string{"keyArn", "backupKeyArn"}},
		{"mode", func(a *ArchiveArgs) { a.Mode = "compliance" }, []string{"mode"}},
		{"long name", func(a *ArchiveArgs) { a.TrustDomain = strings.Repeat("a", 37) }, []string{"trustDomain"}},
		{"force destroy in compliance mode", func(a *ArchiveArgs) { a.Protect, a.ForceDestroy = false, true }, []string{"forceDestroy"}},
		{"force destroy of what is protected", func(a *ArchiveArgs) { a.Mode, a.ForceDestroy = Governance, true }, []string{"forceDestroy"}},
		{"administrator", func(a *ArchiveArgs) { a.Administrators = []string{"deployer"} }, []string{"administrators"}},
		{"trail", func(a *ArchiveArgs) { a.TrailName = "a--b" }, []string{"trailName"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := arguments()
			c.change(args)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := NewArchive(ctx, "a", args)
				return err
			})
			for _, field := range c.want {
				require.ErrorContains(t, err, field+`: "`)
			}
		})
	}
	for fields, args := range map[string]*TrailArgs{
		"trustDomain name accountId region bucketName bucketArn replicaArn keyArn logKeyArn": nil,
		"name logRetentionDays": {Name: "-", LogRetentionDays: 2},
	} {
		err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
			_, err := NewTrail(ctx, "t", args)
			return err
		})
		for field := range strings.FieldsSeq(fields) {
			require.ErrorContains(t, err, field+`: "`)
		}
	}
}
