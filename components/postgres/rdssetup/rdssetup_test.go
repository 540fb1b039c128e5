package rdssetup

import (
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
	"ephemos.dev/deploy/components/postgres/cabundle/cabundletest"
)

const secret = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!cluster-1"

func minimal(t *testing.T) *Args {
	return &Args{
		Namespace: "spire-server", Image: pulumi.String("dbsetup@sha256:0"), Endpoint: pulumi.String("db.eu-central-1.rds.amazonaws.com"),
		CABundle: cabundletest.CA(t), MasterSecretARN: pulumi.String(secret), Region: "eu-central-1",
	}
}

func TestJob(t *testing.T) {
	args := minimal(t)
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "setup", args)
		return err
	})
	job := g.One(t, "Job", "spire-db-setup").Object
	pod := manifesttest.Get(job, "spec.template.spec")
	// As the zone model knows its pods.
	labels := manifesttest.Get(job, "spec.template.metadata.labels").(map[string]any)
	require.Equal(t, "database-setup", labels["app.kubernetes.io/name"])
	require.Equal(t, "spire-db-setup", labels["app.kubernetes.io/instance"])

	env := map[string]any{}
	for _, v := range manifesttest.Get(pod, "containers.dbsetup.env").([]any) {
		env[manifesttest.Get(v, "name").(string)] = manifesttest.Get(v, "value")
	}
	require.Equal(t, map[string]any{
		"DATABASE_HOST": "db.eu-central-1.rds.amazonaws.com", "DATABASE_PORT": "5432", "DATABASE_NAME": "spire", "DATABASE_ROLE": "spire",
		"DATABASE_CA_FILE": "/run/dbsetup/rds.pem", "MASTER_SECRET_ARN": secret, "AWS_REGION": "eu-central-1", "DEADLINE": "5m0s",
	}, env)

	bundle := g.One(t, "ConfigMap").Object
	require.Equal(t, map[string]any{"rds.pem": args.CABundle}, bundle["data"])
	require.Equal(t, manifesttest.Get(bundle, "metadata.name"), manifesttest.Get(pod, "volumes.ca.configMap.name"))
	require.Equal(t, "/run/dbsetup", manifesttest.Get(pod, "containers.dbsetup.volumeMounts.ca.mountPath"))

	require.Equal(t, args.ServiceAccount(), manifesttest.Get(pod, "serviceAccountName"))
	require.Equal(t, false, manifesttest.Get(pod, "automountServiceAccountToken"))
	require.Empty(t, g.All("Role"), "it needs nothing of Kubernetes")
	require.Equal(t, true, manifesttest.Get(pod, "securityContext.runAsNonRoot"))
	require.Equal(t, true, manifesttest.Get(pod, "containers.dbsetup.securityContext.readOnlyRootFilesystem"))
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Args)
		want   []string
	}{
		{"nothing set", func(a *Args) { *a = Args{} }, []string{"namespace", "image", "endpoint", "masterSecretARN", "caBundle", "region"}},
		{"name", func(a *Args) { a.Name = "Setup" }, []string{"name", "Setup"}},
		{"port", func(a *Args) { a.Port = 70000 }, []string{"port", "70000"}},
		{"bundle", func(a *Args) { a.CABundle = "rds.pem" }, []string{"caBundle", "no certificate"}},
		{"region", func(a *Args) { a.Region = "eu-central-1a" }, []string{"region", "eu-central-1a"}},
		{"database", func(a *Args) { a.Database = `a"b` }, []string{"database", `a\"b`}},
		{"role", func(a *Args) { a.Role = "Spire" }, []string{"role", "Spire"}},
		{"deadline", func(a *Args) { a.Deadline = 2 * time.Hour }, []string{"deadline", "2h"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := minimal(t)
			c.change(args)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "setup", args)
				return err
			})
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}
