package segmentation

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"ephemos.dev/deploy/components/zones"
)

var update = flag.Bool("update", false, "write the golden files anew")

func jsonOf(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	var out any
	require.NoError(t, json.Unmarshal(text, &out))
	return out
}

// withoutEmpty leaves out empty maps, which mean the same to Kubernetes as none.
func withoutEmpty(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if value = withoutEmpty(value); value == nil {
				delete(v, key)
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i := range v {
			v[i] = withoutEmpty(v[i])
		}
	}
	return v
}

// onAWS are the addresses of a network on AWS, where nodes, pods and services have those of the zones' subnets.
var onAWS = Ranges{
	Nodes: []string{"10.0.0.0/16"}, APIServer: []string{"10.0.224.0/19"}, Pods: []string{"10.0.0.0/16"},
	Managed: map[zones.Zone][]string{
		zones.DMZ: {"10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"}, zones.Data: {"10.0.128.0/20"}, zones.Management: {"10.0.192.0/19"},
		zones.Platform: {"10.0.224.0/19"},
	},
}

func TestGolden(t *testing.T) {
	golden(t, "testdata/policies.yaml", zones.Standard(zones.Options{}), ranges)
	golden(t, "testdata/policies-aws.yaml", zones.AWS(zones.Options{}), onAWS)
}

func golden(t *testing.T, file string, m zones.Model, r Ranges) {
	t.Helper()
	policies, err := Policies(m, r)
	require.NoError(t, err)
	var text strings.Builder
	for _, p := range policies {
		document, err := yaml.Marshal(p)
		require.NoError(t, err)
		fmt.Fprintf(&text, "---\n%s", document)
	}
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), text.String(), "go test ./components/segmentation -update writes it anew")
}

// isDefaultDeny says whether the policy selects every pod of its namespace and allows nothing in either direction.
func isDefaultDeny(p *networkingv1.NetworkPolicy) bool {
	return len(p.Spec.PodSelector.MatchLabels)+len(p.Spec.PodSelector.MatchExpressions) == 0 && len(p.Spec.PolicyTypes) == 2 &&
		len(p.Spec.Ingress) == 0 && len(p.Spec.Egress) == 0
}

func TestEveryNamespaceDeniesByDefaultInBothDirections(t *testing.T) {
	model := zones.Standard(zones.Options{})
	policies, err := Policies(model, ranges)
	require.NoError(t, err)
	for _, n := range model.Namespaces {
		require.True(t, slices.ContainsFunc(policies, func(p *networkingv1.NetworkPolicy) bool { return p.Namespace == n.Name && isDefaultDeny(p) }), n.Name)
	}
	for _, p := range policies {
		require.True(t, model.Ours(p.Namespace), "nothing is rendered for namespaces of the cluster")
		require.Len(t, p.Spec.PolicyTypes, 2, "a policy without a type would leave that direction open")
		for _, rule := range p.Spec.Ingress {
			require.NotEmpty(t, rule.From, "%s: a rule without peers lets everybody in", p.Name)
			require.NotEmpty(t, rule.Ports, "%s: a rule without ports opens all", p.Name)
		}
		for _, rule := range p.Spec.Egress {
			require.NotEmpty(t, rule.To, p.Name)
			require.NotEmpty(t, rule.Ports, p.Name)
		}
	}
}

// Removing any flow changes what is rendered, and only at its two ends.
func TestEveryFlowIsRendered(t *testing.T) {
	for _, model := range []zones.Model{zones.Standard(zones.Options{}), zones.AWS(zones.Options{})} {
		everyFlow(t, model)
	}
}

func everyFlow(t *testing.T, model zones.Model) {
	t.Helper()
	all := render(t, model)
	for i, f := range model.Flows {
		without := model.Clone()
		without.Flows = slices.Delete(without.Flows, i, i+1)
		// What a balancer hands on needs pods behind it: such a flow cannot go alone.
		if err := without.Validate(); err != nil {
			require.ErrorContains(t, err, "behind it there must be pods", "%s", f)
			continue
		}
		from, _ := model.Role(f.From)
		to, _ := model.Role(f.To)
		changed := 0
		for name, text := range render(t, without) {
			if text != all[name] {
				changed++
				require.Contains(t, []string{from.Namespace + "/" + f.From, to.Namespace + "/" + f.To}, name, "%s", f)
			}
		}
		if model.Ours(from.Namespace) || model.Ours(to.Namespace) {
			require.NotZero(t, changed, "%s is rendered nowhere", f)
		}
	}
}

func TestANewServiceIsRendered(t *testing.T) {
	model := zones.Standard(zones.Options{})
	before := render(t, model)
	model.Roles = append(model.Roles, zones.Role{
		Name: "refund", Title: "Refunds", Zone: zones.Application, Place: zones.Pods, Namespace: zones.NamespaceServices,
		Labels: map[string]string{"app.kubernetes.io/name": "refund"}, SPIFFEPath: "/workload/refund-service",
		Ports: []zones.Port{{Name: "mtls", Number: 9443, Protection: zones.MTLS}},
	})
	model.Flows = append(model.Flows, zones.Flow{From: zones.Payment, To: "refund", Port: "mtls", Kind: zones.Request, MTLS: true, Why: "money goes back"})
	after := render(t, model)
	require.Len(t, after, len(before)+1)
	require.Contains(t, after["services/refund"], "9443")
	require.Contains(t, after["services/payment"], "9443")
	require.NotEqual(t, before["services/payment"], after["services/payment"])
}

// Services of the cloud are addresses of their zone; what is on the caller's own node is one address; and a service without addresses
// is an error, not a hole and not an outage.
func TestServicesOfTheCloud(t *testing.T) {
	model := zones.AWS(zones.Options{})
	policies, err := Policies(model, onAWS)
	require.NoError(t, err)
	peers := func(role string, egress bool, port int) (found []string) {
		for _, p := range policies {
			if p.Name != role {
				continue
			}
			add := func(all []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
				if !slices.ContainsFunc(ports, func(x networkingv1.NetworkPolicyPort) bool { return x.Port.IntValue() == port }) {
					return
				}
				for _, peer := range all {
					require.NotNil(t, peer.IPBlock, role)
					found = append(found, peer.IPBlock.CIDR)
				}
			}
			for _, r := range p.Spec.Ingress {
				if !egress {
					add(r.From, r.Ports)
				}
			}
			for _, r := range p.Spec.Egress {
				if egress {
					add(r.To, r.Ports)
				}
			}
		}
		return found
	}
	require.Equal(t, onAWS.Managed[zones.DMZ], peers(zones.WebGateway, false, 8443), "from the load balancer, and from nobody else")
	require.Equal(t, onAWS.Managed[zones.Management], peers(zones.SPIREServer, false, 8081))
	require.Equal(t, onAWS.Managed[zones.Data], peers(zones.SPIREServer, true, 5432))
	require.Equal(t, onAWS.Managed[zones.Data], peers(zones.DatabaseSetup, true, 5432))
	require.Equal(t, []string{"169.254.170.23/32"}, peers(zones.SPIREServer, true, 80))
	require.Equal(t, []string{"169.254.170.23/32"}, peers(zones.DatabaseSetup, true, 80))
	require.Empty(t, peers(zones.Payment, true, 80))
	require.Contains(t, peers(zones.SPIREServer, true, 443), "10.0.224.0/19")
	for _, p := range policies {
		for _, r := range p.Spec.Ingress {
			for _, peer := range r.From {
				require.False(t, peer.IPBlock != nil && peer.IPBlock.CIDR == "0.0.0.0/0", "%s: the internet reaches the load balancer only", p.Name)
			}
		}
	}

	wrong := onAWS
	wrong.Managed = map[zones.Zone][]string{zones.DMZ: {"10.0.0.1/24"}, zones.Management: {"10.0.192.0/19"}, "attic": {"10.1.0.0/16"}}
	_, err = Policies(model, wrong)
	for _, want := range []string{`ranges.managed.dmz: "10.0.0.1/24"`, "ranges.managed.data: \"\"", "ranges.managed.platform: \"\"", `ranges.managed: "attic"`} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "ranges.managed.management")
	_, err = Policies(zones.Standard(zones.Options{}), ranges)
	require.NoError(t, err, "Standard has no such services")
}

func render(t *testing.T, m zones.Model) map[string]string {
	t.Helper()
	r := onAWS
	r.Nodes, r.APIServer, r.Pods = ranges.Nodes, ranges.APIServer, ranges.Pods
	policies, err := Policies(m, r)
	require.NoError(t, err)
	out := map[string]string{}
	for _, p := range policies {
		text, err := json.Marshal(p.Spec)
		require.NoError(t, err)
		out[p.Namespace+"/"+p.Name] = string(text)
	}
	return out
}

// large makes a valid model of tiers: each zone has a namespace and perZone roles, and flows go from tier to tier.
func large(zoneCount, perZone, flows int) zones.Model {
	m := zones.Model{}
	for z := range zoneCount {
		zone := zones.Zone(fmt.Sprintf("zone-%d", z))
		m.Zones = append(m.Zones, zones.ZoneSpec{Zone: zone, Title: string(zone), Class: zones.Tiered, Tier: z + 1, Default: zones.Deny})
		m.Namespaces = append(m.Namespaces, zones.Namespace{Name: string(zone), Zone: zone})
		for r := range perZone {
			name := fmt.Sprintf("role-%d-%d", z, r)
			m.Roles = append(m.Roles, zones.Role{
				Name: name, Title: name, Zone: zone, Place: zones.Pods, Namespace: string(zone), Labels: map[string]string{"app": name},
				Ports: []zones.Port{{Name: "mtls", Number: 8443, Protection: zones.MTLS}},
			})
		}
	}
	for i := range flows {
		z, pair := i%(zoneCount-1), i/(zoneCount-1)
		m.Flows = append(m.Flows, zones.Flow{
			From: fmt.Sprintf("role-%d-%d", z, pair%perZone), To: fmt.Sprintf("role-%d-%d", z+1, pair/perZone%perZone), Port: "mtls",
			Kind: zones.Request, MTLS: true, Why: "the next tier answers",
		})
	}
	return m
}

// What is rendered grows with the flows, and no faster: eight times the flows are eight times the peers and ports.
func TestGrowthIsLinear(t *testing.T) {
	count := func(flows int) (rules int) {
		policies, err := Policies(large(100, 10, flows), Ranges{})
		require.NoError(t, err)
		require.Len(t, policies, 100+1000, "a policy a role and one a namespace")
		for _, p := range policies {
			for _, r := range p.Spec.Ingress {
				rules += len(r.From) * len(r.Ports)
			}
			for _, r := range p.Spec.Egress {
				rules += len(r.To) * len(r.Ports)
			}
		}
		return rules
	}
	require.Equal(t, 2*1000, count(1000), "each flow at its two ends")
	require.Equal(t, 2*8000, count(8000))
}

// BenchmarkPolicies renders 100 zones of 10 roles with a growing number of flows: time per flow should not grow.
func BenchmarkPolicies(b *testing.B) {
	for _, flows := range []int{1000, 2000, 4000, 8000} {
		model := large(100, 10, flows)
		b.Run(fmt.Sprintf("zones=100/flows=%d", flows), func(b *testing.B) {
			var policies []*networkingv1.NetworkPolicy
			for b.Loop() {
				var err error
				if policies, err = Policies(model, Ranges{}); err != nil {
					b.Fatal(err)
				}
			}
			rules := 0
			for _, p := range policies {
				rules += len(p.Spec.Ingress) + len(p.Spec.Egress)
			}
			b.ReportMetric(float64(len(policies)), "policies")
			b.ReportMetric(float64(rules), "rules")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(flows), "ns/flow")
		})
	}
}
