package reach

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/network/inspection"
	"ephemos.dev/deploy/components/network/vpc"
	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/test/graph"
	"ephemos.dev/deploy/test/standin"
)

// plan is that of a network in the stand-in's region.
func plan(t *testing.T) network.Plan {
	t.Helper()
	p, err := network.NewPlan(netip.MustParsePrefix("10.16.0.0/16"), []string{standin.Region + "a", standin.Region + "b", standin.Region + "c"})
	require.NoError(t, err)
	return p
}

// onAWS is a recording of the network's components, made from a model.
func onAWS(t *testing.T, m zones.Model) *graph.Graph {
	t.Helper()
	p := plan(t)
	g, err := graph.Record("test", func(ctx *pulumi.Context) error {
		v, err := vpc.New(ctx, "net", &vpc.Args{
			Region: standin.Region, AccountID: standin.Account, Plan: p, Model: m, FlowLogKeyARN: pulumi.String("arn:aws:kms:key"), LogRetentionDays: 30,
		})
		if err != nil {
			return err
		}
		_, err = inspection.New(ctx, "wall", &inspection.Args{VPC: v, Plan: p, Model: m, LogKeyARN: pulumi.String("arn:aws:kms:key"), LogRetentionDays: 30})
		return err
	}, graph.Update)
	require.NoError(t, err)
	return g
}

func placed(t *testing.T) Placement {
	t.Helper()
	return PlacementOf(plan(t), "net")
}

// The network lets through what the model allows, and nothing else: every role to every role, on every port.
func TestTheNetworkIsTheModel(t *testing.T) {
	m := zones.AWS(zones.Options{})
	report, err := Differences(onAWS(t, m), m, placed(t))
	require.NoError(t, err)
	for _, d := range report.Missing {
		t.Errorf("missing: %s", d)
	}
	for _, d := range report.Excess {
		t.Errorf("excess: %s", d)
	}
	for _, d := range report.Idle {
		if !d.SharedDNS() {
			t.Errorf("idle: %s", d)
		}
	}
	t.Logf("%d connections tried, %d are possible", report.Tried, report.Allowed)
	require.Greater(t, report.Allowed, 100)
}

// A network that was made from another model is found out, both ways.
func TestAnotherModelIsFoundOut(t *testing.T) {
	m := zones.AWS(zones.Options{})
	other := m.Clone()
	gone := slices.IndexFunc(other.Flows, func(f zones.Flow) bool { return f.From == zones.User && f.To == zones.Cache })
	other.Flows = slices.Delete(other.Flows, gone, gone+1)
	report, err := Differences(onAWS(t, other), m, placed(t))
	require.NoError(t, err)
	require.Len(t, report.Missing, 3*3, "from each availability zone to each")
	require.Equal(t, m.Flows[gone], report.Missing[0].Flows[0])

	report, err = Differences(onAWS(t, m), other, placed(t))
	require.NoError(t, err)
	require.Empty(t, report.Missing)
	require.Len(t, report.Excess, 3*3)
}

// What is wrong with one resource is found, and the resource is named.
func TestMistakesInResourcesAreFound(t *testing.T) {
	m := zones.AWS(zones.Options{})
	// clone has resources of its own, so that the recording can be used again.
	recording := onAWS(t, m)
	clone := func() *graph.Graph {
		g := *recording
		g.Resources = nil
		for _, r := range recording.Resources {
			c := *r
			c.Inputs = r.Inputs.Copy()
			g.Resources = append(g.Resources, &c)
		}
		return &g
	}
	each := func(g *graph.Graph, token string, change func(*graph.Resource) bool) (changed int) {
		g.Resources = slices.DeleteFunc(g.Resources, func(r *graph.Resource) bool {
			if r.Type != token {
				return false
			}
			drop := change(r)
			if drop {
				changed++
			}
			return drop
		})
		return changed
	}
	differences := func(g *graph.Graph) Report {
		report, err := Differences(g, m, placed(t))
		require.NoError(t, err)
		return report
	}

	t.Run("a route into the firewall is missing", func(t *testing.T) {
		g := clone()
		first := true
		require.Equal(t, 1, each(g, "aws:ec2/route:Route", func(r *graph.Resource) bool {
			drop := first && r.Inputs["vpcEndpointId"].IsString()
			first = first && !drop
			return drop
		}))
		report := differences(g)
		require.NotEmpty(t, report.Missing)
		require.Contains(t, report.Missing[0].Answer.Obstacle, "asymmetric")
	})
	t.Run("answers take another endpoint", func(t *testing.T) {
		g := clone()
		swapped := 0
		for _, r := range g.Resources {
			if id := r.Inputs["vpcEndpointId"]; r.Type == "aws:ec2/route:Route" && id.IsString() && id.StringValue() == "vpce-firewall-a" && swapped == 0 {
				r.Inputs["vpcEndpointId"] = resource.NewProperty("vpce-firewall-b")
				swapped++
			}
		}
		require.Equal(t, 1, swapped)
		report := differences(g)
		require.NotEmpty(t, report.Missing)
		require.Contains(t, report.Missing[0].Answer.Obstacle, "asymmetric: the connection passes vpce-firewall-")
	})
	t.Run("a rule names a group through the firewall", func(t *testing.T) {
		g := clone()
		for _, r := range g.Resources {
			cidr := r.Inputs["cidrIpv4"]
			if r.Type == "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule" && cidr.IsString() && cidr.StringValue() != network.Internet {
				delete(r.Inputs, "cidrIpv4")
				r.Inputs["referencedSecurityGroupId"] = resource.NewProperty(groupID("net-group-dmz"))
			}
		}
		report := differences(g)
		require.NotEmpty(t, report.Missing)
		require.Contains(t, report.Missing[0].Answer.Obstacle, "does not match through a firewall")
	})
	t.Run("a group is open to everybody", func(t *testing.T) {
		g := clone()
		for _, r := range g.Resources {
			if r.Type == "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule" && r.Inputs["securityGroupId"].StringValue() == groupID("net-group-database") {
				delete(r.Inputs, "referencedSecurityGroupId")
				r.Inputs["cidrIpv4"] = resource.NewProperty(network.Internet)
			}
		}
		require.Empty(t, differences(g).Excess, "the groups that packets leave hold")
		for _, r := range g.Resources {
			if r.Type == "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule" && r.Inputs["securityGroupId"].StringValue() == groupID("net-group-nodes") {
				delete(r.Inputs, "referencedSecurityGroupId")
				r.Inputs["cidrIpv4"] = resource.NewProperty(network.Internet)
				r.Inputs["fromPort"], r.Inputs["toPort"] = resource.NewProperty(0.0), resource.NewProperty(65535.0)
			}
		}
		report := differences(g)
		require.Empty(t, report.Missing)
		for _, d := range report.Excess {
			require.True(t, strings.HasPrefix(d.From, "nodes in "), d)
		}
		require.True(t, slices.ContainsFunc(report.Excess, func(d Difference) bool {
			return strings.HasPrefix(d.To, "database in ") && d.Port == 5432
		}), "nodes of management reach the database, for their subnets' pods may")
	})
	t.Run("an ACL has lost an entry", func(t *testing.T) {
		g := clone()
		for _, r := range g.Resources {
			if r.Type == "aws:ec2/networkAcl:NetworkAcl" && r.Name == "net-acl-data" {
				entries := r.Inputs["ingress"].ArrayValue()
				r.Inputs["ingress"] = resource.NewProperty(entries[1:])
			}
		}
		report := differences(g)
		require.NotEmpty(t, report.Missing)
		require.Equal(t, "net-acl-data", report.Missing[0].Answer.Resource)
	})
}
