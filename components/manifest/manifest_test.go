package manifest

import (
	"testing"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"
)

func TestSelectorIsPartOfLabels(t *testing.T) {
	id := Identity{Name: "spire-server", Instance: "a", Component: "server"}
	labels := id.Labels()
	for key, value := range id.Selector() {
		require.Equal(t, value, labels[key])
	}
	require.Equal(t, pulumi.String("ephemos"), labels["app.kubernetes.io/part-of"])
}

func TestWithLeavesItsArgumentAlone(t *testing.T) {
	labels := pulumi.StringMap{"a": pulumi.String("1")}
	require.Len(t, With(labels, pulumi.StringMap{"b": pulumi.String("2")}), 2)
	require.Len(t, labels, 1)
}

func TestHashedTellsTextsApart(t *testing.T) {
	require.Equal(t, Hashed("x", "a", "b"), Hashed("x", "a", "b"))
	require.NotEqual(t, Hashed("x", "a", "b"), Hashed("x", "ab", ""))
	require.NotEqual(t, Hashed("x", "a", "b"), Hashed("x", "b", "a"))
	require.Regexp(t, "^x-[0-9a-f]{10}$", Hashed("x", "a"))
}

func TestSpread(t *testing.T) {
	selector := pulumi.StringMap{"app": pulumi.String("x")}
	for _, c := range []struct {
		spread   Spread
		required bool
		zones    string
	}{
		{SpreadZones, true, "DoNotSchedule"},
		{SpreadNodes, true, "ScheduleAnyway"},
		{SpreadPreferred, false, "ScheduleAnyway"},
	} {
		require.NoError(t, c.spread.Validate())
		affinity, constraints := c.spread.Place(selector)
		apart := affinity.PodAntiAffinity.(*corev1.PodAntiAffinityArgs)
		require.Equal(t, c.required, apart.RequiredDuringSchedulingIgnoredDuringExecution != nil)
		require.Equal(t, !c.required, apart.PreferredDuringSchedulingIgnoredDuringExecution != nil)
		require.Equal(t, pulumi.String(c.zones), constraints[0].(corev1.TopologySpreadConstraintArgs).WhenUnsatisfiable)
	}
	require.ErrorContains(t, Spread("far").Validate(), "far")
}

func TestResourcesWithDefaults(t *testing.T) {
	d := Resources{CPU: "1", Memory: "2", MemoryLimit: "3"}
	require.Equal(t, d, Resources{}.WithDefaults(d))
	require.Equal(t, Resources{CPU: "1", Memory: "9", MemoryLimit: "3"}, Resources{Memory: "9"}.WithDefaults(d))
}
