package keys

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/internals"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/manifest/manifesttest"
)

const account = "123456789012"

func arguments(change func(*Args)) *Args {
	args := &Args{
		TrustDomain: "prod.company.com", AccountID: account, Region: "eu-central-1", BackupRegion: "eu-west-1",
		Administrators: []string{"arn:aws:iam::123456789012:role/deployer"}, Protect: true, BackupProvider: &aws.Provider{},
	}
	if change != nil {
		change(args)
	}
	return args
}

func record(t *testing.T, args *Args, then func(*Keys)) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		var err error
		if args.BackupProvider, err = aws.NewProvider(ctx, "backup", &aws.ProviderArgs{Region: pulumi.String(args.BackupRegion)}); err != nil {
			return err
		}
		k, err := New(ctx, "k", args)
		if err == nil && then != nil {
			then(k)
		}
		return err
	})
}

func statements(t *testing.T, r manifesttest.Resource) map[string]map[string]any {
	t.Helper()
	text := r.Object["policy"].(string)
	require.Empty(t, iampolicy.ValidateAs(iampolicy.Key, text), "%s: %s", r.Name, text)
	return iampolicy.Statements(text)
}

func TestEveryClassHasAKeyOfItsOwn(t *testing.T) {
	g := record(t, arguments(nil), nil)
	keys := g.All("Key")
	require.Len(t, keys, len(Classes())+len(BackupClasses()))
	names := map[string]bool{}
	for _, k := range keys {
		require.False(t, names[k.Name])
		names[k.Name] = true
		require.Equal(t, true, k.Object["enableKeyRotation"], k.Name)
		require.Equal(t, 365.0, k.Object["rotationPeriodInDays"], k.Name)
		require.Equal(t, 30.0, k.Object["deletionWindowInDays"], k.Name)
		require.Equal(t, "ENCRYPT_DECRYPT", k.Object["keyUsage"], k.Name)
		require.True(t, k.Protect, k.Name)
		require.Equal(t, strings.HasSuffix(k.Name, "-backup") && k.Name != "k-backup", k.Provider == "backup", "%s is made by %q", k.Name, k.Provider)
		require.NotContains(t, k.Object, "bypassPolicyLockoutSafetyCheck")
	}
	targets := map[any]bool{}
	for _, a := range g.All("Alias") {
		require.False(t, targets[a.Object["targetKeyId"]], "two aliases for one key")
		targets[a.Object["targetKeyId"]] = true
	}
	require.Len(t, targets, len(keys))
	var aliases []string
	for _, a := range g.All("Alias") {
		if a.Provider == "" {
			aliases = append(aliases, a.Object["name"].(string))
		}
	}
	slices.Sort(aliases)
	require.Equal(t, []string{
		"alias/prod-company-com/audit", "alias/prod-company-com/backup", "alias/prod-company-com/credentials",
		"alias/prod-company-com/database", "alias/prod-company-com/disk", "alias/prod-company-com/logs",
		"alias/prod-company-com/notification", "alias/prod-company-com/secrets",
	}, aliases)
}

// TestPolicies holds who may use which key to a table: services that ask for themselves, and services through which identities of
// the account may.
func TestPolicies(t *testing.T) {
	g := record(t, arguments(nil), nil)
	use := map[string]struct{ services, through []string }{
		"k-database": {nil, []string{"rds.eu-central-1"}}, "k-credentials": {nil, []string{"secretsmanager.eu-central-1"}},
		"k-backup": {nil, []string{"backup.eu-central-1", "rds.eu-central-1"}}, "k-backup-backup": {nil, []string{"backup.eu-west-1", "rds.eu-west-1"}},
		"k-secrets": {}, "k-disk": {nil, []string{"ec2.eu-central-1"}},
		"k-audit":        {[]string{"cloudtrail"}, []string{"s3.eu-central-1"}},
		"k-audit-backup": {[]string{"cloudtrail"}, []string{"s3.eu-west-1"}},
		"k-notification": {[]string{"backup", "cloudwatch", "events", "events.rds"}, []string{"sns.eu-central-1"}},
		"k-logs":         {[]string{"logs.eu-central-1"}, nil},
	}
	keys := g.All("Key")
	require.Len(t, keys, len(use))
	for _, k := range keys {
		want, known := use[k.Name]
		require.True(t, known, k.Name)
		var services, through []string
		for sid, s := range statements(t, k) {
			require.Equal(t, "Allow", s["Effect"])
			require.Equal(t, "*", s["Resource"], "the resource of a key's policy is the key")
			for _, a := range iampolicy.Texts(s["Action"]) {
				require.NotContains(t, a, "*", "%s %s", k.Name, sid)
				if sid == "Administration" || sid == "Recovery" {
					for _, forbidden := range []string{"crypt", "GenerateData", "CreateGrant", "Sign", "ReplicateKey"} {
						require.NotContains(t, a, forbidden, "%s: who administers must not use", k.Name)
					}
				}
			}
			principal := s["Principal"].(map[string]any)
			for _, p := range iampolicy.Texts(principal["Service"]) {
				services = append(services, strings.TrimSuffix(p, ".amazonaws.com"))
				if sid != "Events" {
					require.NotEmpty(t, s["Condition"], "%s %s: a service may use the key for another account", k.Name, sid)
				}
			}
			for _, p := range iampolicy.Texts(principal["AWS"]) {
				require.NotEqual(t, "*", p)
				if p == iampolicy.RootARN(account) {
					require.NotEmpty(t, s["Condition"], "%s %s: the account as a whole is not narrowed", k.Name, sid)
				}
			}
			for _, via := range iampolicy.Texts(manifesttest.Get(s["Condition"], "StringEquals.kms:ViaService")) {
				through = append(through, strings.TrimSuffix(via, ".amazonaws.com"))
			}
			if slices.Contains(iampolicy.Texts(s["Action"]), "kms:CreateGrant") && k.Name != "k-secrets" {
				require.Equal(t, "true", manifesttest.Get(s["Condition"], "Bool.kms:GrantIsForAWSResource"), "%s %s", k.Name, sid)
			}
		}
		slices.Sort(services)
		slices.Sort(through)
		require.Equal(t, want.services, slices.Compact(services), k.Name)
		require.Equal(t, want.through, slices.Compact(through), k.Name)
		require.Equal(t, []any{"arn:aws:iam::123456789012:role/deployer"}, manifesttest.Get(statements(t, k)["Administration"], "Principal.AWS"))
		require.Equal(t, iampolicy.RootARN(account), manifesttest.Get(statements(t, k)["Recovery"], "Condition.ArnEquals.aws:PrincipalArn"),
			"only the root user repairs a policy")
	}
}

func TestWithoutAdministratorsTheAccountDecides(t *testing.T) {
	g := record(t, arguments(func(a *Args) { a.Administrators = nil; a.Protect = false }), nil)
	for _, k := range g.All("Key") {
		require.Equal(t, []any{iampolicy.RootARN(account)}, manifesttest.Get(statements(t, k)["Administration"], "Principal.AWS"))
		require.False(t, k.Protect)
	}
	require.Empty(t, g.All("ServiceLinkedRole"))
}

func TestAutoScalingRole(t *testing.T) {
	g := record(t, arguments(func(a *Args) { a.CreateAutoScalingRole = true }), nil)
	require.True(t, g.One(t, "ServiceLinkedRole").Retain)
	for _, k := range g.All("Key") {
		if k.Name == "k-disk" {
			require.Contains(t, k.Dependencies, "k-autoscaling-role", "AWS refuses a policy that names a role which is not there")
		}
	}
}

func TestARN(t *testing.T) {
	arns := map[string]string{}
	record(t, arguments(nil), func(k *Keys) {
		done := make(chan struct{})
		var all []any
		for _, c := range Classes() {
			all = append(all, k.ARN(c))
		}
		for _, c := range BackupClasses() {
			all = append(all, k.BackupARN(c))
		}
		pulumi.All(all...).ApplyT(func(v []any) []any {
			for i, arn := range v {
				arns[arn.(string)] = fmt.Sprint(i)
			}
			close(done)
			return v
		})
		<-done
	})
	require.Len(t, arns, len(Classes())+len(BackupClasses()), "two classes share a key")
}

func TestAClassThatIsNotThereFailsTheDeployment(t *testing.T) {
	k := &Keys{}
	for _, arn := range []pulumi.StringOutput{k.ARN("other"), k.BackupARN(Logs)} {
		err := pulumi.RunErr(func(ctx *pulumi.Context) error {
			var r pulumi.CustomResourceState
			return ctx.RegisterResource("test:index:Test", "t", pulumi.Map{"arn": arn}, &r)
		}, pulumi.WithMocks("p", "s", &manifesttest.Graph{}))
		require.ErrorContains(t, err, "keys: ")
	}
}

func TestRefusesArguments(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Args)
		want   []string
	}{
		{"nothing", func(a *Args) { *a = Args{} }, []string{"trustDomain", "accountId", "region", "backupRegion", "backupProvider"}},
		{"everything", func(a *Args) {
			a.TrustDomain, a.AccountID, a.Region, a.BackupRegion = "spiffe://x", "1", "frankfurt", "eu-west-1a"
			a.PendingWindowDays, a.RotationDays, a.Administrators = 6, 89, []string{"deployer"}
		}, []string{"trustDomain", "accountId", "region", "backupRegion", "pendingWindowDays", "rotationDays", "administrators"}},
		{"same region", func(a *Args) { a.BackupRegion = a.Region }, []string{"backupRegion"}},
		{"longer than AWS waits", func(a *Args) { a.PendingWindowDays = 31 }, []string{"pendingWindowDays"}},
		{"rotation after ages", func(a *Args) { a.RotationDays = 2561 }, []string{"rotationDays"}},
		{"administrator with a wildcard", func(a *Args) { a.Administrators = []string{"arn:aws:iam::123456789012:role/*"} }, []string{"administrators"}},
		{"administrator that is a bucket", func(a *Args) { a.Administrators = []string{"arn:aws:s3:::b"} }, []string{"administrators"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := arguments(c.change)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "k", args)
				return err
			})
			for _, field := range c.want {
				require.ErrorContains(t, err, field+`: "`)
			}
		})
	}
}

// A key that is there already is used, and none is made beside it.
func TestAnExistingKeyIsUsed(t *testing.T) {
	const arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-4000-8000-000000000000"
	var got pulumi.StringOutput
	g := record(t, arguments(func(a *Args) { a.Existing = map[Class]string{Audit: arn} }), func(k *Keys) { got = k.ARN(Audit) })
	result, err := internals.UnsafeAwaitOutput(t.Context(), got)
	require.NoError(t, err)
	require.Equal(t, arn, result.Value)
	require.Len(t, g.All("Key"), len(Classes())-1+len(BackupClasses()))
	for _, k := range g.All("Key") {
		require.NotEqual(t, "k-audit", k.Name)
	}
}

func TestExistingKeysAreChecked(t *testing.T) {
	const here = "arn:aws:kms:eu-central-1:123456789012:key/a"
	for name, c := range map[string]struct {
		existing map[Class]string
		want     string
	}{
		"another region":  {map[Class]string{Audit: "arn:aws:kms:us-east-1:123456789012:key/a"}, "existing.audit"},
		"another account": {map[Class]string{Audit: "arn:aws:kms:eu-central-1:999999999999:key/a"}, "existing.audit"},
		"no class":        {map[Class]string{"everything": here}, "there is no such class of data"},
		"two classes":     {map[Class]string{Audit: here, Backup: here}, "it is the key of audit"},
	} {
		t.Run(name, func(t *testing.T) {
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "k", arguments(func(a *Args) { a.Existing = c.existing }))
				return err
			})
			require.ErrorContains(t, err, c.want)
		})
	}
}
