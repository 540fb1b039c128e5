package segmentation

import (
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"
)

// recorder takes what a program registers.
type recorder struct {
	mu        sync.Mutex
	resources []pulumi.MockResourceArgs
}

func (r *recorder) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resources = append(r.resources, args)
	return args.Name, args.Inputs, nil
}

func (r *recorder) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

func (r *recorder) namespace(t *testing.T, name string) (labels, annotations map[string]any) {
	t.Helper()
	for _, res := range r.resources {
		if res.TypeToken == "kubernetes:core/v1:Namespace" && res.Name == name {
			metadata := res.Inputs["metadata"].ObjectValue().Mappable()
			annotations, _ = metadata["annotations"].(map[string]any)
			return metadata["labels"].(map[string]any), annotations
		}
	}
	require.Failf(t, "not registered", "%s", name)
	return nil, nil
}

func TestNamespacesAreLabelled(t *testing.T) {
	r := &recorder{}
	require.NoError(t, pulumi.RunErr(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "test", nil)
		return err
	}, pulumi.WithMocks("project", "stack", r)))

	for _, n := range Standard() {
		labels, annotations := r.namespace(t, "test-"+n.Name)
		require.Equal(t, string(n.Zone), labels[ZoneLabel])
		for _, mode := range []string{"enforce", "audit", "warn"} {
			require.Equal(t, string(n.Level), labels["pod-security.kubernetes.io/"+mode])
			require.Equal(t, "latest", labels["pod-security.kubernetes.io/"+mode+"-version"])
		}
		require.Equal(t, n.Reason != "", annotations["ephemos.dev/pod-security-reason"] != nil)
	}
}

func TestOnlyTheAgentsNamespaceIsPrivileged(t *testing.T) {
	for _, n := range Standard() {
		if n.Name == "spire-agent" {
			require.Equal(t, Privileged, n.Level)
			continue
		}
		require.Equal(t, Restricted, n.Level, n.Name)
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "test", &Args{PodSecurityVersion: "1.35", Namespaces: []Namespace{
			{Name: "Bad_Name", Zone: Data},
			{Name: "a", Zone: "basement", Level: "lax", Reason: "because"},
			{Name: "b", Zone: DMZ, Level: Privileged},
			{Name: "b", Zone: DMZ},
		}})
		return err
	}, pulumi.WithMocks("project", "stack", &recorder{}))
	for _, want := range []string{
		"podSecurityVersion", `namespaces[0].name: "Bad_Name"`, `namespaces[1].zone: "basement"`, `namespaces[1].level: "lax"`,
		"namespaces[2].reason", `namespaces[3].name: "b"`,
	} {
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, 6, strings.Count(err.Error(), "is not allowed"))
	require.NotContains(t, err.Error(), "namespaces[0].level", "the default is the strictest level")
}

func TestAnEmptyTableIsRefused(t *testing.T) {
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "test", &Args{Namespaces: []Namespace{}})
		return err
	}, pulumi.WithMocks("project", "stack", &recorder{}))
	require.ErrorContains(t, err, "at least one namespace")
}
