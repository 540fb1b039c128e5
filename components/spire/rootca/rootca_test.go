package rootca

import (
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
)

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "root", args)
		return err
	})
}

func TestJobCanOnlyCreate(t *testing.T) {
	g := record(t, &Args{Namespace: "spire-server", Image: pulumi.String("rootca@sha256:0"), Organization: "prod.company.com"})
	rules := manifesttest.Get(g.One(t, "Role").Object, "rules").([]any)
	require.Len(t, rules, 1)
	require.Equal(t, []any{"create"}, manifesttest.Get(rules[0], "verbs"))
	require.NotContains(t, g.Types(), "Secret", "the key must not pass through Pulumi")

	job := g.One(t, "Job")
	require.Contains(t, job.Dependencies, "root-create")
	require.Nil(t, manifesttest.Get(job.Object, "spec.ttlSecondsAfterFinished"), "a Job that goes away makes every deployment a change")
	require.Equal(t, []any{
		"-namespace", "spire-server", "-secret", "spire-root-ca", "-common-name", "Root CA of prod.company.com",
		"-organization", "prod.company.com", "-lifetime", "87600h0m0s",
	}, manifesttest.Get(job.Object, "spec.template.spec.containers.rootca.args"))
}

func TestOwnSecret(t *testing.T) {
	require.Equal(t, []string{"RootCA"}, record(t, &Args{ExistingSecret: "company-root"}).Types())
}

func TestOwnSecretMayHaveDots(t *testing.T) {
	require.Equal(t, []string{"RootCA"}, record(t, &Args{ExistingSecret: "root.company.com"}).Types())
}

func TestRefuses(t *testing.T) {
	err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "root", &Args{Name: "Root", Lifetime: time.Hour})
		return err
	})
	for _, part := range []string{"name", "namespace", "image", "organization", "lifetime"} {
		require.ErrorContains(t, err, part)
	}
	err = manifesttest.Refused(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "root", &Args{ExistingSecret: "a/b"})
		return err
	})
	require.ErrorContains(t, err, "existingSecret")
}
