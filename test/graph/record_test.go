package graph

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// custom registers a resource without the typed packages.
func custom(ctx *pulumi.Context, typ, name string, inputs pulumi.Map, opts ...pulumi.ResourceOption) (*pulumi.CustomResourceState, error) {
	res := &pulumi.CustomResourceState{}
	return res, ctx.RegisterResource(typ, name, inputs, res, opts...)
}

func configMap(name string) pulumi.Map {
	return pulumi.Map{
		"apiVersion": pulumi.String("v1"), "kind": pulumi.String("ConfigMap"),
		"metadata": pulumi.Map{"name": pulumi.String(name)},
	}
}

type clusterProvider struct{ pulumi.ProviderResourceState }

func newProvider(ctx *pulumi.Context) (*clusterProvider, error) {
	p := &clusterProvider{}
	return p, ctx.RegisterResource("pulumi:providers:kubernetes", "cluster", pulumi.Map{"kubeconfig": pulumi.String("x")}, p)
}

func TestRecordKeepsWhatWasRegistered(t *testing.T) {
	program := func(ctx *pulumi.Context) error {
		p, err := newProvider(ctx)
		if err != nil {
			return err
		}
		self := &pulumi.ResourceState{}
		if err := ctx.RegisterComponentResource("ephemos:test:Component", "c", self, pulumi.Providers(p)); err != nil {
			return err
		}
		first, err := custom(ctx, "kubernetes:core/v1:ConfigMap", "first", configMap("first"), pulumi.Parent(self), pulumi.Protect(true))
		if err != nil {
			return err
		}
		inputs := configMap("second")
		inputs["data"] = pulumi.Map{"uid": first.ID().ToStringOutput(), "key": pulumi.ToSecret(pulumi.String("hidden"))}
		_, err = custom(ctx, "kubernetes:core/v1:ConfigMap", "second", inputs, pulumi.Parent(self),
			pulumi.DependsOn([]pulumi.Resource{first}), pulumi.Aliases([]pulumi.Alias{{Name: pulumi.String("former")}}),
			pulumi.AdditionalSecretOutputs([]string{"data"}))
		ctx.Export("open", pulumi.String("seen"))
		ctx.Export("id", first.ID())
		ctx.Export("key", pulumi.ToSecret(pulumi.String("hidden")))
		return err
	}
	for _, mode := range []Mode{Update, Preview} {
		g, err := Record("test", program, mode)
		require.NoError(t, err)
		require.Len(t, g.Resources, 4)
		parent := g.OfKind("ConfigMap")[0].Parent
		assert.Equal(t, "ephemos:test:Component", g.Get(parent).Type)
		assert.Empty(t, g.Get(parent).Parent)

		first, second := g.OfKind("ConfigMap")[0], g.OfKind("ConfigMap")[1]
		assert.True(t, first.Protect)
		assert.False(t, second.Protect)
		assert.Equal(t, "pulumi:providers:kubernetes", g.Get(first.Provider).Type)
		assert.Equal(t, []string{first.URN}, second.Dependencies)
		assert.Equal(t, []string{"data.key"}, second.Secrets)
		assert.Equal(t, []string{"data"}, second.SecretOutputs)
		require.Len(t, second.Aliases, 1)
		assert.Contains(t, second.Aliases[0], "former")

		content, err := json.Marshal(g)
		require.NoError(t, err)
		assert.NotContains(t, string(content), "hidden")
		uid := `"uid":"first-id"`
		id := any("first-id")
		if mode == Preview {
			uid, id = `"uid":"[unknown]"`, maskUnknown
		}
		assert.Contains(t, string(content), uid)
		assert.Equal(t, "seen", g.Outputs["open"])
		assert.Equal(t, maskSecret, g.Outputs["key"])
		assert.Equal(t, id, fmtAny(g.Outputs["id"]))
	}
}

func fmtAny(v any) any { return fmt.Sprint(v) }

// TestRecordKnowsWhatAClusterBrings holds that kinds in the table of exceptions need no definition in the program.
func TestRecordKnowsWhatAClusterBrings(t *testing.T) {
	for token, who := range elsewhere {
		assert.NotEmpty(t, who, token)
		kind := token[strings.LastIndex(token, ":")+1:]
		version := strings.TrimSuffix(strings.TrimPrefix(token, "kubernetes:"), ":"+kind)
		_, err := Record("s", func(ctx *pulumi.Context) error {
			_, err := custom(ctx, token, "x", pulumi.Map{"apiVersion": pulumi.String(version), "kind": pulumi.String(kind)})
			return err
		}, Update)
		require.NoError(t, err)
	}
}

func TestRecordIsStrict(t *testing.T) {
	tests := map[string]struct {
		program pulumi.RunFunc
		want    string
	}{
		"provider without a mock": {func(ctx *pulumi.Context) error {
			_, err := custom(ctx, "aws:s3/bucket:Bucket", "b", nil)
			return err
		}, "aws:s3/bucket:Bucket b: has no mock"},
		"kind that nothing defines": {func(ctx *pulumi.Context) error {
			_, err := custom(ctx, "kubernetes:example.com/v1:Widget", "w", pulumi.Map{
				"apiVersion": pulumi.String("example.com/v1"), "kind": pulumi.String("Widget"),
			})
			return err
		}, "kubernetes:example.com/v1:Widget: neither Kubernetes nor a CustomResourceDefinition"},
		"inputs of another kind": {func(ctx *pulumi.Context) error {
			_, err := custom(ctx, "kubernetes:core/v1:Secret", "s", configMap("s"))
			return err
		}, "inputs have kind ConfigMap"},
		"helm release": {func(ctx *pulumi.Context) error {
			_, err := custom(ctx, "kubernetes:helm.sh/v3:Release", "r", pulumi.Map{})
			return err
		}, "inputs have apiVersion"},
		"invoke": {func(ctx *pulumi.Context) error {
			var result map[string]any
			return ctx.Invoke("aws:index/getRegion:getRegion", nil, &result)
		}, "invoke of aws:index/getRegion:getRegion: has no mock"},
		"program that fails": {func(*pulumi.Context) error { return fmt.Errorf("no luck") }, "no luck"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Record("test", test.program, Update)
			assert.ErrorContains(t, err, test.want)
		})
	}
}

// A resource that is made inside an apply of an output shows as a difference
// between a preview and an update.
func TestPreviewLacksResourcesMadeInsideAnApply(t *testing.T) {
	program := func(ctx *pulumi.Context) error {
		first, err := custom(ctx, "kubernetes:core/v1:ConfigMap", "first", configMap("first"))
		if err != nil {
			return err
		}
		first.ID().ApplyT(func(pulumi.ID) (string, error) {
			_, err := custom(ctx, "kubernetes:core/v1:ConfigMap", "second", configMap("second"))
			return "", err
		})
		return nil
	}
	preview, err := Record("test", program, Preview)
	require.NoError(t, err)
	update, err := Record("test", program, Update)
	require.NoError(t, err)
	assert.Len(t, preview.Resources, 1)
	assert.Contains(t, fmt.Sprint(SameResources(preview, update)), "ConfigMap second: is there with preview=false, not with preview=true")
}
