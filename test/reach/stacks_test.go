package reach

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/stacks"
	"ephemos.dev/deploy/test/graph"
)

// The stacks of the repository let through what the model allows, and nothing else.
func TestStacksAreTheModel(t *testing.T) {
	for _, stack := range []string{"prod", "staging"} {
		t.Run(stack, func(t *testing.T) {
			config, err := graph.Configuration("../..", stack)
			require.NoError(t, err)
			g, err := graph.RecordStack(stack, config, graph.Update)
			require.NoError(t, err)
			region := config[stacks.Namespace+":region"]
			p, err := network.NewPlan(netip.MustParsePrefix(config[stacks.Namespace+":vpcCIDR"]), []string{region + "a", region + "b", region + "c"})
			require.NoError(t, err)
			m := zones.AWS(zones.Options{})
			report, err := Differences(g, m, PlacementOf(p, "network"))
			require.NoError(t, err)
			require.Empty(t, report.Missing)
			require.Empty(t, report.Excess)
			for _, d := range report.Idle {
				require.True(t, d.SharedDNS(), "idle: %s", d)
			}
			t.Logf("%d connections tried, %d are possible", report.Tried, report.Allowed)
			require.Greater(t, report.Allowed, 100)
		})
	}
}
