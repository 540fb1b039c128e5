package rds

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/manifest/manifesttest"
)

const (
	key       = "arn:aws:kms:eu-central-1:123456789012:key/database"
	secretKey = "arn:aws:kms:eu-central-1:123456789012:key/credentials"
	logKey    = "arn:aws:kms:eu-central-1:123456789012:key/logs"
)

func minimal() Args {
	return Args{
		Name: "prod-spire", SubnetIDs: pulumi.ToStringArray([]string{"data-a", "data-b", "data-c"}), SecurityGroupID: pulumi.String("sg-database"),
		KeyARN: pulumi.String(key), SecretKeyARN: pulumi.String(secretKey), LogKeyARN: pulumi.String(logKey),
		BackupRetentionDays: 35, LogRetentionDays: 365, DatabaseName: "spire",
	}
}

// change returns minimal with something changed.
func change(f func(*Args)) *Args {
	a := minimal()
	f(&a)
	return &a
}

func aurora(a *Args) {
	a.Engine, a.AvailabilityZones = Aurora, []string{"eu-central-1a", "eu-central-1b", "eu-central-1c"}
}

// record returns what New registers, and its outputs as the inputs of "outputs".
func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		d, err := New(ctx, "db", args)
		if err != nil {
			return err
		}
		return outputs(ctx, pulumi.Map{
			"Endpoint": d.Endpoint, "ReaderEndpoint": d.ReaderEndpoint, "Port": pulumi.Sprintf("%d", d.Port), "ARN": d.ARN,
			"ClusterResourceID": d.ClusterResourceID, "MasterSecretARN": d.MasterSecretARN,
		})
	})
}

// outputs registers a resource that keeps values, for the test to read.
func outputs(ctx *pulumi.Context, values pulumi.Map) error {
	return ctx.RegisterResource("test:index:Outputs", "outputs", values, &pulumi.CustomResourceState{})
}

func named(t *testing.T, g *manifesttest.Graph, kind, name string) manifesttest.Resource {
	t.Helper()
	all := g.All(kind)
	i := slices.IndexFunc(all, func(r manifesttest.Resource) bool { return r.Name == name })
	require.GreaterOrEqual(t, i, 0, "%s %s", kind, name)
	return all[i]
}

func get(r manifesttest.Resource, path string) any { return manifesttest.Get(r.Object, path) }

func equal(t *testing.T, r manifesttest.Resource, want map[string]any) {
	t.Helper()
	for path, value := range want {
		require.Equal(t, value, get(r, path), "%s %s", r.Name, path)
	}
}

// common is what holds for the clusters of both engines.
var common = map[string]any{
	"clusterIdentifier": "prod-spire", "engineVersion": "17", "port": 5432.0, "databaseName": "spire", "networkType": "IPV4",
	"iamDatabaseAuthenticationEnabled": true, "manageMasterUserPassword": true, "masterUserSecretKmsKeyId": secretKey, "masterPassword": nil,
	"masterUsername": "dbadmin", "storageEncrypted": true, "kmsKeyId": key, "vpcSecurityGroupIds": []any{"sg-database"},
	"backupRetentionPeriod": 35.0, "copyTagsToSnapshot": true, "preferredBackupWindow": "01:00-02:00",
	"preferredMaintenanceWindow": "sun:03:00-sun:04:00", "skipFinalSnapshot": false, "finalSnapshotIdentifier": "prod-spire-final",
	"performanceInsightsEnabled": true, "performanceInsightsKmsKeyId": key, "performanceInsightsRetentionPeriod": 7.0,
	"dbSubnetGroupName": "db-subnets", "dbClusterParameterGroupName": "db-parameters",
	"engineLifecycleSupport": "open-source-rds-extended-support-disabled",
}

func TestMultiAZ(t *testing.T) {
	a := minimal()
	g := record(t, &a)
	c := named(t, g, "Cluster", "db-cluster")
	equal(t, c, common)
	equal(t, c, map[string]any{
		"engine": "postgres", "dbClusterInstanceClass": "db.m6gd.large", "storageType": "io2", "allocatedStorage": 100.0, "iops": 1000.0,
		"caCertificateIdentifier": "rds-ca-rsa2048-g1", "monitoringInterval": 60.0, "monitoringRoleArn": "arn:aws:iam::123456789012:role/db-monitoring-role",
		"enabledCloudwatchLogsExports": []any{"postgresql", "upgrade", "iam-db-auth-error"}, "availabilityZones": nil, "databaseInsightsMode": nil,
		"deleteAutomatedBackups": nil,
	})
	require.Empty(t, g.All("ClusterInstance"), "RDS makes the three instances")
	require.Equal(t, []any{"data-a", "data-b", "data-c"}, get(g.One(t, "SubnetGroup"), "subnetIds"))
	require.Equal(t, "postgres17", get(g.One(t, "ClusterParameterGroup"), "family"))
	requireLogs(t, g, c, "postgresql", "upgrade", "iam-db-auth-error")
	require.Contains(t, c.Dependencies, "db-monitoring-policy")
	require.Empty(t, g.All("EventSubscription"))
}

func TestAurora(t *testing.T) {
	g := record(t, change(aurora))
	c := named(t, g, "Cluster", "db-cluster")
	equal(t, c, common)
	equal(t, c, map[string]any{
		"engine": "aurora-postgresql", "dbClusterInstanceClass": nil, "storageType": nil, "allocatedStorage": nil, "iops": nil,
		"caCertificateIdentifier": nil, "enabledCloudwatchLogsExports": []any{"postgresql", "iam-db-auth-error"},
	})
	require.Equal(t, "aurora-postgresql17", get(g.One(t, "ClusterParameterGroup"), "family"))
	requireLogs(t, g, c, "postgresql", "iam-db-auth-error")
	require.Len(t, g.All("ClusterInstance"), 3)
	for i, az := range []string{"eu-central-1a", "eu-central-1b", "eu-central-1c"} {
		equal(t, named(t, g, "ClusterInstance", fmt.Sprintf("db-instance-%d", i+1)), map[string]any{
			"identifier": fmt.Sprintf("prod-spire-%d", i+1), "clusterIdentifier": "prod-spire", "engine": "aurora-postgresql", "availabilityZone": az,
			"instanceClass": "db.r6g.large", "publiclyAccessible": false, "autoMinorVersionUpgrade": true, "dbSubnetGroupName": "db-subnets",
			"caCertIdentifier": "rds-ca-rsa2048-g1", "performanceInsightsEnabled": true, "performanceInsightsKmsKeyId": key,
			"performanceInsightsRetentionPeriod": 7.0, "monitoringInterval": 60.0, "promotionTier": 0.0,
			"monitoringRoleArn": "arn:aws:iam::123456789012:role/db-monitoring-role", "preferredMaintenanceWindow": "sun:03:00-sun:04:00",
		})
	}
}

// requireLogs holds that there is an encrypted group for each exported log, before the cluster, or RDS makes one without a key.
func requireLogs(t *testing.T, g *manifesttest.Graph, cluster manifesttest.Resource, logs ...string) {
	t.Helper()
	require.Len(t, g.All("LogGroup"), len(logs))
	for _, log := range logs {
		group := named(t, g, "LogGroup", "db-"+log)
		equal(t, group, map[string]any{"name": "/aws/rds/cluster/prod-spire/" + log, "kmsKeyId": logKey, "retentionInDays": 365.0})
		require.Contains(t, cluster.Dependencies, group.Name)
	}
}

func TestParameters(t *testing.T) {
	a := minimal()
	got := map[any]any{}
	for _, p := range get(record(t, &a).One(t, "ClusterParameterGroup"), "parameters").([]any) {
		p := p.(map[string]any)
		got[p["name"]] = p["value"]
		// A library is loaded at the start; RDS refuses to change such a parameter at once.
		want := "immediate"
		if p["name"] == "shared_preload_libraries" {
			want = "pending-reboot"
		}
		require.Equal(t, want, p["applyMethod"], p["name"])
	}
	require.Equal(t, map[any]any{
		"rds.force_ssl": "1", "log_connections": "1", "log_disconnections": "1", "log_statement": "ddl", "pgaudit.log": "ddl,role",
		"shared_preload_libraries": "pg_stat_statements,pgaudit",
	}, got)
}

func TestProtect(t *testing.T) {
	for _, protect := range []bool{true, false} {
		g := record(t, change(func(a *Args) { aurora(a); a.Protect = protect }))
		c := named(t, g, "Cluster", "db-cluster")
		require.Equal(t, protect, c.Protect)
		require.Equal(t, protect, get(c, "deletionProtection"))
		require.Equal(t, protect, get(c, "deleteAutomatedBackups") == false)
		for _, kind := range []string{"LogGroup", "ClusterInstance"} {
			for _, r := range g.All(kind) {
				require.Equal(t, protect, r.Protect, r.Name)
			}
		}
	}
}

func TestSkipFinalSnapshot(t *testing.T) {
	equal(t, named(t, record(t, change(func(a *Args) { a.SkipFinalSnapshot = true })), "Cluster", "db-cluster"),
		map[string]any{"skipFinalSnapshot": true, "finalSnapshotIdentifier": nil})
}

func TestInsights(t *testing.T) {
	equal(t, named(t, record(t, change(func(a *Args) { a.InsightsDays = 465 })), "Cluster", "db-cluster"),
		map[string]any{"performanceInsightsRetentionPeriod": 465.0, "databaseInsightsMode": "advanced"})
}

func TestEvents(t *testing.T) {
	g := record(t, change(func(a *Args) { a.EventTopicARN = pulumi.String("arn:aws:sns:eu-central-1:123456789012:security") }))
	e := g.One(t, "EventSubscription")
	equal(t, e, map[string]any{
		"snsTopic": "arn:aws:sns:eu-central-1:123456789012:security", "sourceType": "db-cluster", "sourceIds": []any{"prod-spire"},
	})
	require.Subset(t, get(e, "eventCategories"), []any{"failover", "failure", "deletion"})
}

func TestMonitoringRole(t *testing.T) {
	g := record(t, change(func(a *Args) { a.AccountID = "123456789012" }))
	trust := get(named(t, g, "Role", "db-monitoring-role"), "assumeRolePolicy").(string)
	require.Empty(t, iampolicy.ValidateAs(iampolicy.Trust, trust))
	require.JSONEq(t, `{"Version":"2012-10-17","Statement":[{"Sid":"Monitoring","Effect":"Allow","Principal":{"Service":["monitoring.rds.amazonaws.com"]},
		"Action":"sts:AssumeRole","Condition":{"StringEquals":{"aws:SourceAccount":"123456789012"}}}]}`, trust)
	require.Equal(t, "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole", get(g.One(t, "RolePolicyAttachment"), "policyArn"))
}

func TestOutputs(t *testing.T) {
	a := minimal()
	equal(t, named(t, record(t, &a), "Outputs", "outputs"), map[string]any{
		"Endpoint":          "prod-spire.cluster-abc.eu-central-1.rds.amazonaws.com",
		"ReaderEndpoint":    "prod-spire.cluster-ro-abc.eu-central-1.rds.amazonaws.com",
		"Port":              "5432",
		"ARN":               "arn:aws:rds:eu-central-1:123456789012:cluster:prod-spire",
		"ClusterResourceID": "cluster-ABCDEFGHIJKL",
		"MasterSecretARN":   "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!cluster-prod-spire",
	})
}

func TestRefused(t *testing.T) {
	withAurora := func(f func(*Args)) func(*Args) { return func(a *Args) { aurora(a); f(a) } }
	for name, c := range map[string]struct {
		change func(*Args)
		want   string
	}{
		"no name":                    {func(a *Args) { a.Name = "" }, `name: ""`},
		"two dashes":                 {func(a *Args) { a.Name = "a--b" }, "name:"},
		"dash at the end":            {func(a *Args) { a.Name = "a-" }, "name:"},
		"capital":                    {func(a *Args) { a.Name = "Prod" }, "name:"},
		"long name":                  {func(a *Args) { a.Name = strings.Repeat("a", 51) }, "name:"},
		"two subnets":                {func(a *Args) { a.SubnetIDs = pulumi.ToStringArray([]string{"a", "b"}) }, "subnetIDs: 2 subnets"},
		"no subnets":                 {func(a *Args) { a.SubnetIDs = nil }, "subnetIDs: 0 subnets"},
		"no group":                   {func(a *Args) { a.SecurityGroupID = nil }, "securityGroupID"},
		"no key":                     {func(a *Args) { a.KeyARN = nil }, "keyARN"},
		"no key of secrets":          {func(a *Args) { a.SecretKeyARN = nil }, "secretKeyARN"},
		"no key of logs":             {func(a *Args) { a.LogKeyARN = nil }, "logKeyARN"},
		"engine":                     {func(a *Args) { a.Engine = "mysql" }, `engine: "mysql"`},
		"old version":                {func(a *Args) { a.EngineVersion = "12" }, `engineVersion: "12"`},
		"no backups":                 {func(a *Args) { a.BackupRetentionDays = 0 }, "backupRetentionDays: 0"},
		"backups of 36 days":         {func(a *Args) { a.BackupRetentionDays = 36 }, "backupRetentionDays: 36"},
		"logs for ever":              {func(a *Args) { a.LogRetentionDays = 0 }, `logRetentionDays: "0"`},
		"protected and not kept":     {func(a *Args) { a.Protect, a.SkipFinalSnapshot = true, true }, "skipFinalSnapshot: true"},
		"no database":                {func(a *Args) { a.DatabaseName = "" }, "databaseName"},
		"database with a dash":       {func(a *Args) { a.DatabaseName = "a-b" }, "databaseName"},
		"database of RDS":            {func(a *Args) { a.DatabaseName = "rdsadmin" }, "databaseName"},
		"reserved user":              {func(a *Args) { a.MasterUsername = "admin" }, `masterUsername: "admin"`},
		"user of PostgreSQL":         {func(a *Args) { a.MasterUsername = "pg_monitor" }, "masterUsername"},
		"monitoring":                 {func(a *Args) { a.MonitoringSeconds = 7 }, "monitoringSeconds: 7"},
		"insights":                   {func(a *Args) { a.InsightsDays = 31 }, "insightsDays: 31"},
		"authority":                  {func(a *Args) { a.CertificateAuthority = "rds-ca-2019" }, "certificateAuthority"},
		"account":                    {func(a *Args) { a.AccountID = "me" }, "accountID"},
		"class without a disk":       {func(a *Args) { a.InstanceClass = "db.m6g.large" }, `instanceClass: "db.m6g.large"`},
		"burstable class":            {func(a *Args) { a.InstanceClass = "db.t4g.medium" }, "instanceClass"},
		"class of EC2":               {func(a *Args) { a.InstanceClass = "m6gd.large" }, "instanceClass"},
		"small storage":              {func(a *Args) { a.AllocatedStorageGiB = 99 }, "allocatedStorageGiB: 99"},
		"storage type":               {func(a *Args) { a.StorageType = "gp2" }, `storageType: "gp2"`},
		"few operations":             {func(a *Args) { a.IOPS = 999 }, "iops: 999"},
		"many operations":            {func(a *Args) { a.IOPS = 5001 }, "iops: 5001"},
		"slow for its size":          {func(a *Args) { a.AllocatedStorageGiB = 2001 }, "iops: 1000"},
		"windows overlap":            {func(a *Args) { a.MaintenanceWindow = "sun:01:30-sun:02:30" }, "overlaps the backupWindow"},
		"aurora in two zones":        {withAurora(func(a *Args) { a.AvailabilityZones = a.AvailabilityZones[:2] }), "availabilityZones"},
		"aurora twice in a zone":     {withAurora(func(a *Args) { a.AvailabilityZones[2] = a.AvailabilityZones[0] }), "availabilityZones"},
		"aurora in a region":         {withAurora(func(a *Args) { a.AvailabilityZones[2] = "eu-central-1" }), "availabilityZones"},
		"aurora with storage":        {withAurora(func(a *Args) { a.AllocatedStorageGiB = 100 }), "allocatedStorageGiB: 100"},
		"aurora with operations":     {withAurora(func(a *Args) { a.IOPS = 1000 }), "iops: 1000"},
		"aurora with a storage type": {withAurora(func(a *Args) { a.StorageType = "io2" }), `storageType: "io2"`},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "db", change(c.change))
				return err
			}), c.want)
		})
	}
}

func TestRefusedTogether(t *testing.T) {
	err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "db", nil)
		return err
	})
	for _, field := range []string{"name", "subnetIDs", "securityGroupID", "keyARN", "secretKeyARN", "logKeyARN", "backupRetentionDays", "logRetentionDays", "databaseName"} {
		require.ErrorContains(t, err, field+":")
	}
}

func TestAccepted(t *testing.T) {
	for name, f := range map[string]func(*Args){
		"a minor version": func(a *Args) { a.EngineVersion = "17.6" }, "another class": func(a *Args) { a.InstanceClass = "db.r6idn.2xlarge" },
		"more storage": func(a *Args) { a.AllocatedStorageGiB, a.IOPS = 2000, 1000 }, "io1": func(a *Args) { a.StorageType = "io1" },
		"fast": func(a *Args) { a.IOPS = 5000 }, "one day of backups": func(a *Args) { a.BackupRetentionDays = 1 },
		"elliptic": func(a *Args) { a.CertificateAuthority = CAECC384 },
	} {
		require.NoError(t, change(f).WithDefaults().validate(), name)
	}
}

func TestWindows(t *testing.T) {
	for _, c := range []struct{ backup, maintenance, want string }{
		{"01:00-02:00", "sun:03:00-sun:04:00", ""},
		{"01:00-02:00", "sun:02:00-sun:02:30", ""},
		{"01:00-02:00", "sun:00:30-sun:01:00", ""},
		{"23:45-00:15", "tue:00:15-tue:00:45", ""},
		{"01:00-02:00", "sun:01:59-sun:02:29", "overlaps"},
		{"01:00-02:00", "sun:00:31-sun:01:01", "overlaps"},
		{"23:45-00:15", "mon:00:00-mon:00:30", "overlaps"},
		{"00:00-00:30", "sun:23:45-mon:00:15", "overlaps"},
		{"01:00-02:00", "sat:22:00-sun:03:00", "overlaps"},
		{"01:00-01:29", "sun:03:00-sun:04:00", "backupWindow"},
		{"1:00-2:00", "sun:03:00-sun:04:00", "backupWindow"},
		{"25:00-26:00", "sun:03:00-sun:04:00", "backupWindow"},
		{"", "sun:03:00-sun:04:00", "backupWindow"},
		{"01:00-02:00", "03:00-04:00", "maintenanceWindow"},
		{"01:00-02:00", "Sun:03:00-Sun:04:00", "maintenanceWindow"},
		{"01:00-02:00", "sun:03:00-mon:04:00", "maintenanceWindow"},
		{"01:00-02:00", "sun:03:00-sun:03:29", "maintenanceWindow"},
	} {
		err := validateWindows(c.backup, c.maintenance)
		if c.want == "" {
			require.NoError(t, err, "%s %s", c.backup, c.maintenance)
		} else {
			require.ErrorContains(t, err, c.want, "%s %s", c.backup, c.maintenance)
		}
	}
}
