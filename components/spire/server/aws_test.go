package server

import (
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
	"ephemos.dev/deploy/components/postgres/cabundle/cabundletest"
	"ephemos.dev/deploy/components/spire/awsaccess"
	"ephemos.dev/deploy/components/spire/config"
)

const (
	endpoint = "spire.cluster-abc123.eu-central-1.rds.amazonaws.com"
	role     = "arn:aws:iam::123456789012:role/spire-server"
	upstream = "arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/1"
)

func onAWS(t *testing.T) *Args {
	a := minimal()
	a.Database = Database{Name: "spire", User: "spire", RDS: &RDS{
		Region: "eu-central-1", Endpoint: pulumi.String(endpoint), CABundle: cabundletest.CA(t) + cabundletest.CA(t),
	}}
	a.KMS = &KMS{Region: "eu-central-1", AccountID: "123456789012", RoleARN: pulumi.String(role)}
	a.UpstreamCASecret = nil
	a.PrivateCA = &PrivateCA{Region: "eu-central-1", ARN: pulumi.String(upstream), StandbyRoots: pulumi.String("standby")}
	return a
}

func podOf(t *testing.T, g *manifesttest.Graph) any {
	t.Helper()
	return manifesttest.Get(g.One(t, "StatefulSet").Object, "spec.template.spec")
}

// TestEveryVariableIsSet holds that the configuration refers to no variable that the server would not find, and that it is told to
// look for them.
func TestEveryVariableIsSet(t *testing.T) {
	reading := onAWS(t)
	reading.Database.RDS.ReaderEndpoint = pulumi.String("ro." + endpoint)
	for _, args := range []*Args{onAWS(t), reading} {
		container := manifesttest.Get(podOf(t, record(t, args)), "initContainers.spire-server")
		require.Contains(t, manifesttest.Get(container, "args"), "-expandEnv")
		variables := args.withDefaults().serverConfig().Environment()
		require.NotEmpty(t, variables)
		for _, name := range variables {
			require.NotNil(t, manifesttest.Get(container, "env."+name), name)
		}
		require.Equal(t, endpoint, manifesttest.Get(container, "env.SPIRE_DB_ENDPOINT.value"))
		require.Equal(t, upstream, manifesttest.Get(container, "env.SPIRE_UPSTREAM_CA_ARN.value"))
		require.Equal(t, "metadata.name", manifesttest.Get(container, "env.SPIRE_POD_NAME.valueFrom.fieldRef.fieldPath"))
	}
	container := manifesttest.Get(podOf(t, record(t, minimal())), "initContainers.spire-server")
	require.NotContains(t, manifesttest.Get(container, "args"), "-expandEnv")
	require.Nil(t, manifesttest.Get(container, "env"))
}

// TestFilesOfAWS holds that every file that the configuration names is in the pod, and no Secret.
func TestFilesOfAWS(t *testing.T) {
	args := onAWS(t)
	g := record(t, args)
	pod := podOf(t, g)
	c := args.withDefaults().serverConfig()
	maps := map[string]any{}
	for _, m := range g.All("ConfigMap") {
		maps[manifesttest.Get(m.Object, "metadata.name").(string)] = m.Object["data"]
	}
	content := func(path string) any {
		for _, m := range manifesttest.Get(pod, "initContainers.spire-server.volumeMounts").([]any) {
			mount := manifesttest.Get(m, "mountPath").(string)
			if path != mount && !strings.HasPrefix(path, mount+"/") {
				continue
			}
			name := manifesttest.Get(pod, "volumes."+manifesttest.Get(m, "name").(string)+".configMap.name")
			require.NotNil(t, name, path)
			require.Equal(t, true, manifesttest.Get(m, "readOnly"), path)
			key := strings.TrimPrefix(path, mount+"/")
			for _, sub := range []string{"subPath", "subPathExpr"} {
				if s, ok := manifesttest.Get(m, sub).(string); ok {
					key = strings.ReplaceAll(s, "$(SPIRE_POD_NAME)", "spire-server-1")
				}
			}
			data, _ := maps[name.(string)].(map[string]any)
			return data[key]
		}
		return nil
	}
	require.Equal(t, args.Database.RDS.CABundle, content(c.DataStore.RootCertPath))
	require.Equal(t, "standby", content(c.PrivateCA.SupplementalBundlePath))
	policy, ok := content(c.KMS.KeyPolicyPath).(string)
	require.True(t, ok)
	require.True(t, json.Valid([]byte(policy)))
	require.Contains(t, policy, `"aws:PrincipalTag/kubernetes-pod-name":"spire-server-1"`)
	require.Contains(t, policy, role)

	for _, v := range manifesttest.Get(pod, "volumes").([]any) {
		require.Nil(t, manifesttest.Get(v, "secret"), "no key and no password on AWS: %v", v)
	}
	require.Nil(t, manifesttest.Get(g.One(t, "StatefulSet").Object, "spec.volumeClaimTemplates"), "the keys are in KMS")
	require.NotNil(t, manifesttest.Get(pod, "volumes.data.emptyDir"))
	require.Equal(t, config.ServerDataDir, manifesttest.Get(pod, "initContainers.spire-server.volumeMounts.data.mountPath"))
}

// TestIdentityTowardsKMS holds that the configuration's identity is the one of the policies.
func TestIdentityTowardsKMS(t *testing.T) {
	c := onAWS(t).withDefaults().serverConfig()
	require.Equal(t, awsaccess.Identity("prod", "${SPIRE_POD_NAME}"), c.KMS.KeyIdentifier.String())
}

// TestChangedFilesRollPods holds that what servers read when they start makes them start anew when it changes.
func TestChangedFilesRollPods(t *testing.T) {
	fixed := cabundletest.CA(t)
	template := func(change func(*Args)) any {
		args := onAWS(t)
		args.Database.RDS.CABundle = fixed
		change(args)
		return manifesttest.Get(record(t, args).One(t, "StatefulSet").Object, "spec.template")
	}
	same := template(func(*Args) {})
	require.Equal(t, same, template(func(*Args) {}))
	for name, change := range map[string]func(*Args){
		"role":    func(a *Args) { a.KMS.RoleARN = pulumi.String(role + "2") },
		"standby": func(a *Args) { a.PrivateCA.StandbyRoots = pulumi.String("another") },
		"CA":      func(a *Args) { a.PrivateCA.ARN = pulumi.String(upstream + "2") },
		"bundle":  func(a *Args) { a.Database.RDS.CABundle = cabundletest.CA(t) },
	} {
		require.NotEqual(t, same, template(change), name)
	}
}

// TestVariantsAlone holds that each variant goes without the others.
func TestVariantsAlone(t *testing.T) {
	for name, change := range map[string]func(*Args){
		"database": func(a *Args) { a.KMS, a.PrivateCA, a.UpstreamCASecret = nil, nil, pulumi.String("ca") },
		"keys": func(a *Args) {
			a.Database, a.PrivateCA, a.UpstreamCASecret = minimal().Database, nil, pulumi.String("ca")
		},
		"upstream":    func(a *Args) { a.Database, a.KMS = minimal().Database, nil },
		"no standby":  func(a *Args) { a.Database, a.KMS, a.PrivateCA.StandbyRoots = minimal().Database, nil, nil },
		"no upstream": func(a *Args) { a.PrivateCA = nil },
	} {
		t.Run(name, func(t *testing.T) {
			args := onAWS(t)
			change(args)
			g := record(t, args)
			pod := podOf(t, g)
			require.Equal(t, args.Database.RDS == nil, manifesttest.Get(pod, "volumes.database-client") != nil)
			require.Equal(t, args.KMS == nil, manifesttest.Get(g.One(t, "StatefulSet").Object, "spec.volumeClaimTemplates") != nil)
			require.Equal(t, args.UpstreamCASecret != nil, manifesttest.Get(pod, "volumes.upstream") != nil)
			for _, m := range manifesttest.Get(pod, "initContainers.spire-server.volumeMounts").([]any) {
				if volume := manifesttest.Get(m, "name").(string); volume != "data" {
					require.NotNil(t, manifesttest.Get(pod, "volumes."+volume), volume)
				}
			}
		})
	}
}

// TestUnknownValues holds that a preview in which AWS has named nothing yet knows the configuration all the same.
func TestUnknownValues(t *testing.T) {
	unknown := pulumi.UnsafeUnknownOutput(nil).ApplyT(func(any) string { return "x" }).(pulumi.StringOutput)
	args := onAWS(t)
	args.Database.RDS.Endpoint, args.KMS.RoleARN, args.PrivateCA.ARN, args.PrivateCA.StandbyRoots = unknown, unknown, unknown, unknown
	g := &manifesttest.Graph{}
	require.NoError(t, pulumi.RunErr(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "spire", args)
		return err
	}, pulumi.WithMocks("project", "stack", g), func(i *pulumi.RunInfo) { i.DryRun = true }))
	for _, m := range g.All("ConfigMap") {
		if strings.HasSuffix(m.Name, "-config") {
			require.Contains(t, manifesttest.Get(m.Object, "data").(map[string]any)[serverConfigKey], "${SPIRE_UPSTREAM_CA_ARN}")
		}
	}
	require.NotNil(t, g.One(t, "StatefulSet"))
}

func TestNodesAndEnvironment(t *testing.T) {
	args := onAWS(t)
	args.NodeSelector = map[string]string{"ephemos.dev/zone": "management"}
	args.Env = map[string]pulumi.StringInput{"AWS_USE_FIPS_ENDPOINT": pulumi.String("true")}
	pod := podOf(t, record(t, args))
	require.Equal(t, map[string]any{"ephemos.dev/zone": "management"}, manifesttest.Get(pod, "nodeSelector"))
	require.Equal(t, "true", manifesttest.Get(pod, "initContainers.spire-server.env.AWS_USE_FIPS_ENDPOINT.value"))
	require.Nil(t, manifesttest.Get(pod, "containers.spire-controller-manager.env"))
	require.Equal(t, args.ServiceAccount(), manifesttest.Get(pod, "serviceAccountName"))
	require.Equal(t, "other", Args{Name: "other"}.ServiceAccount())
}

// TestProbeAsksTheEndpoint holds that the wait for the database waits for that of RDS.
func TestProbeAsksTheEndpoint(t *testing.T) {
	args := onAWS(t)
	args.Database.ProbeImage = pulumi.String("postgresql:15")
	require.Equal(t, endpoint, manifesttest.Get(podOf(t, record(t, args)), "initContainers.await-database.env.PGHOST.value"))
}

func TestAWSRefuses(t *testing.T) {
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))
	for _, c := range []struct {
		name   string
		change func(*Args)
		want   []string
	}{
		{"no endpoint", func(a *Args) { a.Database.RDS.Endpoint = nil }, []string{"database.rds.endpoint"}},
		{"no region", func(a *Args) { a.Database.RDS.Region = "" }, []string{"aws_postgres region"}},
		{"no bundle", func(a *Args) { a.Database.RDS.CABundle = "" }, []string{"database.rds.caBundle", "no certificate"}},
		{"key in the bundle", func(a *Args) { a.Database.RDS.CABundle += key }, []string{"database.rds.caBundle", "PRIVATE KEY"}},
		{"leaf in the bundle", func(a *Args) { a.Database.RDS.CABundle = cabundletest.Leaf(t) }, []string{"database.rds.caBundle", "not of a CA"}},
		{"text after the bundle", func(a *Args) { a.Database.RDS.CABundle += "x" }, []string{"database.rds.caBundle", "follows"}},
		{"two databases", func(a *Args) {
			a.Database.Host, a.Database.CASecret, a.Database.ClientSecret = "db", pulumi.String("x"), pulumi.String("y")
		},
			[]string{"database.host", "database.caSecret", "database.clientSecret"}},
		{"no role", func(a *Args) { a.KMS.RoleARN = nil }, []string{"kms.roleARN"}},
		{"account", func(a *Args) { a.KMS.AccountID = "prod" }, []string{"kms.accountID", "prod"}},
		{"region of keys", func(a *Args) { a.KMS.Region = "Frankfurt" }, []string{"KeyManager.aws_kms.region"}},
		{"tag", func(a *Args) { a.KMS.KeyTags = map[string]string{"spire-x": "y"} }, []string{"key_tags.spire-x"}},
		{"no CA", func(a *Args) { a.PrivateCA.ARN = nil }, []string{"privateCA.arn"}},
		{"two upstreams", func(a *Args) { a.UpstreamCASecret = pulumi.String("ca") }, []string{"upstreamCASecret"}},
		{"template", func(a *Args) { a.PrivateCA.TemplateARN = "x" }, []string{"ca_signing_template_arn"}},
		{"access key", func(a *Args) { a.Env = map[string]pulumi.StringInput{"AWS_ACCESS_KEY_ID": pulumi.String("x")} }, []string{"env.AWS_ACCESS_KEY_ID"}},
		{"password", func(a *Args) { a.Env = map[string]pulumi.StringInput{"PGPASSWORD": pulumi.String("x")} }, []string{"env.PGPASSWORD"}},
		{"own variable", func(a *Args) { a.Env = map[string]pulumi.StringInput{"SPIRE_POD_NAME": pulumi.String("x")} }, []string{"env.SPIRE_POD_NAME"}},
		{"variable", func(a *Args) { a.Env = map[string]pulumi.StringInput{"a b": pulumi.String("x")} }, []string{"env.a b"}},
		{"empty variable", func(a *Args) { a.Env = map[string]pulumi.StringInput{"A": nil} }, []string{"env.A"}},
		{"configuration", func(a *Args) { a.Config.KMS = &config.KMS{} }, []string{"config", "follow from the other arguments"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := onAWS(t)
			c.change(args)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "spire", args)
				return err
			})
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}
