package crds

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
)

func TestRegistersDefinitions(t *testing.T) {
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "crds", &Args{Sets: []Set{SPIRE, CloudNativePG}})
		return err
	})
	for _, name := range []string{
		"clusterspiffeids.spire.spiffe.io", "clusterstaticentries.spire.spiffe.io", "clusterfederatedtrustdomains.spire.spiffe.io",
		"clusters.postgresql.cnpg.io", "databases.postgresql.cnpg.io", "databaseroles.postgresql.cnpg.io",
	} {
		r := g.One(t, "CustomResourceDefinition", name)
		require.Equal(t, "crds-"+name, r.Name)
		require.Equal(t, "apiextensions.k8s.io/v1", r.Object["apiVersion"])
		require.NotEmpty(t, manifesttest.Get(r.Object, "spec.versions.0.schema.openAPIV3Schema.properties.spec.properties"))
	}
}

// TestDefinitionsBelongToTheCaller holds that a caller who changes them does
// not change them for the next one.
func TestDefinitionsBelongToTheCaller(t *testing.T) {
	first, err := Definitions(SPIRE)
	require.NoError(t, err)
	clear(first[0])
	second, err := Definitions(SPIRE)
	require.NoError(t, err)
	require.NotEmpty(t, second[0])
	_, err = Definitions("other")
	require.ErrorContains(t, err, "other")
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		sets []Set
		want string
	}{
		{nil, "at least one"},
		{[]Set{"other"}, "other"},
		{[]Set{SPIRE, SPIRE}, "twice"},
	} {
		err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
			_, err := New(ctx, "crds", &Args{Sets: c.sets})
			return err
		})
		require.ErrorContains(t, err, c.want)
	}
}
