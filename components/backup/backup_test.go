package backup

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
	key      = "arn:aws:kms:eu-central-1:123456789012:key/backup"
	otherKey = "arn:aws:kms:eu-west-1:123456789012:key/backup"
	database = "arn:aws:rds:eu-central-1:123456789012:cluster:spire"
)

func arguments() *Args {
	return &Args{
		TrustDomain: "prod.company.com", Region: "eu-central-1", BackupRegion: "eu-west-1", BackupProvider: &aws.Provider{},
		Source: Aurora, OffRegionCopy: true, Resources: pulumi.ToStringArray([]string{database}), Mode: Compliance, Protect: true,
		KeyARN: pulumi.String(key), BackupKeyARN: pulumi.String(otherKey), CopyRetentionDays: 90,
	}
}

func record(t *testing.T, change func(*Args)) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		args := arguments()
		var err error
		if args.BackupProvider, err = aws.NewProvider(ctx, "backup", &aws.ProviderArgs{Region: pulumi.String(args.BackupRegion)}); err != nil {
			return err
		}
		if change != nil {
			change(args)
		}
		_, err = New(ctx, "b", args)
		return err
	})
}

func get(r manifesttest.Resource, path string) any { return manifesttest.Get(r.Object, path) }

func TestVaults(t *testing.T) {
	g := record(t, nil)
	require.Len(t, g.All("Vault"), 2)
	for kind, count := range map[string]int{"Vault": 2, "VaultLockConfiguration": 2, "VaultPolicy": 2} {
		require.Len(t, g.All(kind), count)
		for _, r := range g.All(kind) {
			require.Equal(t, strings.HasPrefix(r.Name, "b-copies"), r.Provider == "backup", "%s is made by %q", r.Name, r.Provider)
			require.True(t, r.Retain, "%s: a vault that nobody can unlock stays", r.Name)
			require.Equal(t, kind != "VaultPolicy", r.Protect, r.Name)
		}
	}
	for _, v := range g.All("Vault") {
		require.Equal(t, map[string]any{"b-vault": key, "b-copies": otherKey}[v.Name], get(v, "kmsKeyArn"))
		require.Equal(t, "prod-company-com-backup", get(v, "name"))
		require.Equal(t, false, get(v, "forceDestroy"))
	}
	for _, l := range g.All("VaultLockConfiguration") {
		require.Equal(t, 3.0, get(l, "changeableForDays"), "without it the lock can be removed")
		require.Equal(t, 7.0, get(l, "minRetentionDays"))
	}
	for _, p := range g.All("VaultPolicy") {
		require.Empty(t, iampolicy.ValidateAs(iampolicy.Resource, p.Object["policy"].(string)))
		s := iampolicy.Statements(p.Object["policy"].(string))["DenyDeletion"]
		require.Equal(t, []any{"Deny", "*"}, []any{s["Effect"], s["Principal"]})
		require.Contains(t, s["Action"], "backup:DeleteRecoveryPoint")
	}
}

func TestPlan(t *testing.T) {
	g := record(t, nil)
	rule := g.One(t, "Plan").Object["rules"].([]any)[0]
	for path, want := range map[string]any{
		"targetVaultName": "prod-company-com-backup", "schedule": "cron(0 2 * * ? *)", "lifecycle.deleteAfter": 35.0,
		"copyActions.0.lifecycle.deleteAfter": 90.0,
	} {
		require.Equal(t, want, manifesttest.Get(rule, path), path)
	}
	require.NotEmpty(t, manifesttest.Get(rule, "copyActions.0.destinationVaultArn"))
	require.Contains(t, g.One(t, "Plan").Dependencies, "b-copies")
	selection := g.One(t, "Selection")
	require.Equal(t, []any{database}, get(selection, "resources"))
	require.Equal(t, "arn:aws:iam::123456789012:role/b-role", get(selection, "iamRoleArn"))
	require.Contains(t, selection.Dependencies, "b-role-policy")
	for _, r := range g.All("Role") {
		require.Empty(t, iampolicy.ValidateAs(iampolicy.Trust, r.Object["assumeRolePolicy"].(string)))
	}
	policies := map[any]bool{}
	for _, r := range g.All("RolePolicyAttachment") {
		policies[r.Object["policyArn"]] = true
	}
	require.Equal(t, map[any]bool{
		"arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup":   true,
		"arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForRestores": true,
	}, policies)
}

func TestRestoresEveryWeek(t *testing.T) {
	for source, kind := range map[Source]string{Aurora: "Aurora", MultiAZCluster: "RDS"} {
		g := record(t, func(a *Args) {
			a.Source, a.OffRegionCopy = source, false
			a.TestMetadata = pulumi.StringMap{"dbSubnetGroupName": pulumi.String("isolated")}
		})
		plan := g.One(t, "RestoreTestingPlan")
		require.Equal(t, "cron(0 6 ? * SUN *)", get(plan, "scheduleExpression"))
		require.Equal(t, "prod_company_com", get(plan, "name"), "AWS allows no hyphen there")
		require.Equal(t, "LATEST_WITHIN_WINDOW", get(plan, "recoveryPointSelection.algorithm"))
		require.Len(t, get(plan, "recoveryPointSelection.includeVaults"), 1)
		selection := g.One(t, "RestoreTestingSelection")
		require.Equal(t, kind, get(selection, "protectedResourceType"))
		require.Equal(t, []any{database}, get(selection, "protectedResourceArns"))
		require.Equal(t, "arn:aws:iam::123456789012:role/b-restore-role", get(selection, "iamRoleArn"))
		require.Equal(t, map[string]any{"dbSubnetGroupName": "isolated"}, selection.Object["restoreMetadataOverrides"])
	}
}

func TestWithoutCopies(t *testing.T) {
	g := record(t, func(a *Args) {
		a.Source, a.OffRegionCopy, a.BackupProvider, a.BackupKeyARN, a.Mode, a.Protect = MultiAZCluster, false, nil, nil, Governance, false
	})
	vault := g.One(t, "Vault")
	require.False(t, vault.Retain)
	require.False(t, vault.Protect)
	require.Nil(t, manifesttest.Get(g.One(t, "Plan").Object["rules"].([]any)[0], "copyActions"))
	require.NotContains(t, g.One(t, "VaultLockConfiguration").Object, "changeableForDays", "governance can be undone")
}

func TestRefusesArguments(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Args)
		want   []string
	}{
		{"nothing", func(a *Args) { *a = Args{} }, []string{"trustDomain", "region", "backupRegion", "source", "mode", "resources", "keyArn"}},
		{"a copy of what AWS does not copy", func(a *Args) { a.Source = MultiAZCluster }, []string{"offRegionCopy"}},
		{"a copy to nowhere", func(a *Args) { a.BackupProvider, a.BackupKeyARN = nil, nil }, []string{"backupProvider", "backupKeyArn"}},
		{"keys of other regions", func(a *Args) { a.KeyARN, a.BackupKeyARN = a.BackupKeyARN, a.KeyARN }, []string{"keyArn", "backupKeyArn"}},
		{"same region", func(a *Args) { a.BackupRegion = a.Region }, []string{"backupRegion"}},
		{"shorter than the lock", func(a *Args) { a.RetentionDays, a.CopyRetentionDays = 6, 5 }, []string{"retentionDays", "copyRetentionDays"}},
		{"a lock that is final at once", func(a *Args) { a.CoolingOffDays = 2 }, []string{"coolingOffDays"}},
		{"schedules", func(a *Args) { a.Schedule, a.TestSchedule = "daily", "cron(0 2 * * *)" }, []string{"schedule", "testSchedule"}},
		{"long name", func(a *Args) { a.TrustDomain = strings.Repeat("a", 44) }, []string{"trustDomain"}},
		{"mode", func(a *Args) { a.Mode = "COMPLIANCE" }, []string{"mode"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := arguments()
			c.change(args)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "b", args)
				return err
			})
			for _, field := range c.want {
				require.ErrorContains(t, err, field+`: "`)
			}
		})
	}
}
