package segmentation

import (
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/zones"
)

var ranges = Ranges{Nodes: []string{"10.89.0.128/25"}, APIServer: []string{"10.89.0.1/32"}, Pods: []string{"10.244.0.0/16"}}

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

func (r *recorder) named(t *testing.T, kind, name string) map[string]any {
	t.Helper()
	for _, res := range r.resources {
		if strings.HasSuffix(res.TypeToken, ":"+kind) && res.Name == name {
			return res.Inputs.Mappable()
		}
	}
	require.Failf(t, "not registered", "%s %s", kind, name)
	return nil
}

func run(args *Args) (*recorder, error) {
	r := &recorder{}
	return r, pulumi.RunErr(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "test", args)
		return err
	}, pulumi.WithMocks("project", "stack", r))
}

func TestNamespacesAreLabelled(t *testing.T) {
	r, err := run(&Args{Ranges: ranges})
	require.NoError(t, err)
	for _, n := range zones.Standard(zones.Options{}).Namespaces {
		level, reason := Restricted, ""
		if e, ok := Exceptions()[n.Name]; ok {
			level, reason = e.Level, e.Reason
		}
		metadata := r.named(t, "Namespace", "test-"+n.Name)["metadata"].(map[string]any)
		labels := metadata["labels"].(map[string]any)
		require.Equal(t, string(n.Zone), labels[ZoneLabel])
		for _, mode := range []string{"enforce", "audit", "warn"} {
			require.Equal(t, string(level), labels["pod-security.kubernetes.io/"+mode])
			require.Equal(t, "latest", labels["pod-security.kubernetes.io/"+mode+"-version"])
		}
		annotations, _ := metadata["annotations"].(map[string]any)
		require.Equal(t, reason != "", annotations["ephemos.dev/pod-security-reason"] != nil)
	}
}

func TestEveryExceptionSaysWhy(t *testing.T) {
	model := zones.Standard(zones.Options{})
	for name, e := range Exceptions() {
		require.True(t, model.Ours(name), name)
		require.NotEqual(t, Restricted, e.Level, name)
		require.NotEmpty(t, e.Reason, name)
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	model := zones.Standard(zones.Options{})
	model.Namespaces[0].Name = "Bad_Name"
	model.Flows[0].Why = ""
	_, err := run(&Args{
		Model: model, PodSecurityVersion: "1.35", Ranges: Ranges{Nodes: []string{"10.0.0.1/8"}, Pods: []string{"pods"}},
		Exceptions: map[string]Exception{"services": {Level: "lax", Reason: "because"}, "data": {Level: Privileged}, "else": {Level: Baseline, Reason: "x"}},
	})
	for _, want := range []string{
		"podSecurityVersion", `namespace "Bad_Name"`, "flow clients -> web-gateway:https", `ranges.nodes: "10.0.0.1/8"`, `ranges.pods: "pods"`,
		"ranges.apiServer", `exceptions.services.level: "lax"`, "exceptions.data.reason", "exceptions.else",
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestAModelWithoutNamespacesIsRefused(t *testing.T) {
	_, err := run(&Args{Model: zones.Model{Zones: []zones.ZoneSpec{}}})
	require.ErrorContains(t, err, "at least one namespace")
}

// What is registered says the same as what is rendered, which the golden file shows.
func TestPoliciesAreRegistered(t *testing.T) {
	registered(t, zones.Standard(zones.Options{}), ranges)
	registered(t, zones.AWS(zones.Options{}), onAWS)
}

func registered(t *testing.T, m zones.Model, addresses Ranges) {
	t.Helper()
	r, err := run(&Args{Model: m, Ranges: addresses})
	require.NoError(t, err)
	policies, err := Policies(m, addresses)
	require.NoError(t, err)
	count := 0
	for _, res := range r.resources {
		if strings.HasSuffix(res.TypeToken, ":NetworkPolicy") {
			count++
		}
	}
	require.Equal(t, len(policies), count)
	for _, p := range policies {
		registered := r.named(t, "NetworkPolicy", "test-"+p.Namespace+"-"+p.Name)["spec"].(map[string]any)
		require.Equal(t, withoutEmpty(jsonOf(t, p.Spec)), withoutEmpty(jsonOf(t, registered)), p.Name)
	}
}
