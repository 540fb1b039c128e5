package loadbalancer

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/manifest/manifesttest"
)

func minimal() *Args {
	return &Args{Namespace: "spire-server", Image: pulumi.String("haproxy@sha256:0"), Servers: 3}
}

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "lb", args)
		return err
	})
}

// selects says whether the selector of a Service, budget or term matches the
// labels.
func selects(selector, labels any) bool {
	for key, value := range selector.(map[string]any) {
		if labels.(map[string]any)[key] != value {
			return false
		}
	}
	return true
}

func TestServices(t *testing.T) {
	g := record(t, minimal())
	labels := func(entry string) any {
		return manifesttest.Get(g.One(t, "Deployment", "spire-server-"+entry).Object, "spec.template.metadata.labels")
	}
	for _, c := range []struct {
		service         string
		primary, backup bool
		headless        bool
	}{
		{"spire-server-primary", true, false, false},
		{"spire-server-backup", false, true, false},
		{"spire-server-entry", true, true, true},
	} {
		spec := g.One(t, "Service", c.service).Object["spec"]
		selector := manifesttest.Get(spec, "selector")
		require.Equal(t, c.primary, selects(selector, labels(Primary)), c.service)
		require.Equal(t, c.backup, selects(selector, labels(Backup)), c.service)
		require.Equal(t, c.headless, manifesttest.Get(spec, "clusterIP") == "None", c.service)
		require.Equal(t, 8081.0, manifesttest.Get(spec, "ports.grpc.port"))
	}
	require.Equal(t, "spire-server-entry.spire-server.svc.cluster.local", minimal().Address())
}

// TestOneEntryIsAlwaysThere holds that neither a rollout nor a drain nor the
// scheduler can take both entries away.
func TestOneEntryIsAlwaysThere(t *testing.T) {
	g := record(t, minimal())
	budget := g.One(t, "PodDisruptionBudget").Object
	require.Equal(t, 1.0, manifesttest.Get(budget, "spec.maxUnavailable"))
	for entry, other := range map[string]string{Primary: Backup, Backup: Primary} {
		deployment := g.One(t, "Deployment", "spire-server-"+entry).Object
		labels := manifesttest.Get(deployment, "spec.template.metadata.labels")
		require.True(t, selects(manifesttest.Get(budget, "spec.selector.matchLabels"), labels))
		require.Equal(t, 0.0, manifesttest.Get(deployment, "spec.strategy.rollingUpdate.maxUnavailable"))

		apart := manifesttest.Get(deployment, "spec.template.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution.0.labelSelector.matchLabels")
		require.True(t, selects(apart, manifesttest.Get(g.One(t, "Deployment", "spire-server-"+other).Object, "spec.template.metadata.labels")))
		require.False(t, selects(apart, labels), "a rollout may put the new pod beside the old one")
	}
}

func TestSharedNode(t *testing.T) {
	args := minimal()
	args.Spread = manifest.SpreadPreferred
	affinity := manifesttest.Get(record(t, args).One(t, "Deployment", "spire-server-backup").Object, "spec.template.spec.affinity.podAntiAffinity")
	require.Nil(t, manifesttest.Get(affinity, "requiredDuringSchedulingIgnoredDuringExecution"))
	require.NotNil(t, manifesttest.Get(affinity, "preferredDuringSchedulingIgnoredDuringExecution"))
}

func TestConfigurationRollsPods(t *testing.T) {
	name := func(servers int) any {
		args := minimal()
		args.Servers = servers
		return manifesttest.Get(record(t, args).One(t, "Deployment", "spire-server-primary").Object, "spec.template.spec.volumes.config.configMap.name")
	}
	require.Equal(t, name(3), name(3))
	require.NotEqual(t, name(3), name(5))
}

func TestRefusesArguments(t *testing.T) {
	err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "lb", &Args{Name: "A", Port: 80, Spread: "far"})
		return err
	})
	for _, part := range []string{"name", "namespace", "image", "spread", "port", "servers"} {
		require.ErrorContains(t, err, part)
	}
}
