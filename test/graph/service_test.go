package graph

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	networkingv1 "k8s.io/api/networking/v1"

	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/segmentation"
	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/test/connectivity"
)

// withRefund is a model with one service more, which the web gateway may call.
func withRefund(m zones.Model) zones.Model {
	m.Roles = append(m.Roles, zones.Role{
		Name: "refund", Title: "Refunds", Zone: zones.Application, Place: zones.Pods, Namespace: zones.NamespaceServices,
		Labels: map[string]string{"app.kubernetes.io/name": "refund"}, SPIFFEPath: "/workload/refund-service",
		Ports: []zones.Port{{Name: "mtls", Number: 9443, Protection: zones.MTLS}},
	})
	m.Flows = append(m.Flows, zones.Flow{From: zones.WebGateway, To: "refund", Port: "mtls", Kind: zones.Request, MTLS: true, Why: "money goes back"})
	return m
}

// A service that is added to the model, and nowhere else, is in everything that is made from it.
func TestANewServiceIsEverywhere(t *testing.T) {
	everywhere(t, zones.Standard)
	everywhere(t, zones.AWS)
}

func everywhere(t *testing.T, base func(zones.Options) zones.Model) {
	t.Helper()
	addresses := network.Addresses{
		zones.DMZ: netip.MustParsePrefix("10.0.0.0/20"), zones.Application: netip.MustParsePrefix("10.0.16.0/20"),
		zones.Data: netip.MustParsePrefix("10.0.32.0/20"), zones.Management: netip.MustParsePrefix("10.0.48.0/20"),
		zones.Platform: netip.MustParsePrefix("10.0.64.0/20"),
	}
	ranges := segmentation.Ranges{Nodes: []string{"10.89.0.128/25"}, APIServer: []string{"10.89.0.1/32"}, Pods: []string{"10.244.0.0/16"},
		Managed: map[zones.Zone][]string{}}
	for zone, prefix := range addresses {
		ranges.Managed[zone] = []string{prefix.String()}
	}
	topology := connectivity.Topology{Endpoints: []connectivity.Endpoint{
		{Name: "dmz/web", Place: zones.Pods, Namespace: zones.NamespaceDMZ, Node: "node-a", Address: netip.MustParseAddr("10.244.1.2"),
			Labels: map[string]string{"app.kubernetes.io/name": "gateway", "app.kubernetes.io/instance": "web-gateway"}},
		{Name: "services/refund", Place: zones.Pods, Namespace: zones.NamespaceServices, Node: "node-b", Address: netip.MustParseAddr("10.244.2.2"),
			Labels: map[string]string{"app.kubernetes.io/name": "refund"}, Listening: []connectivity.Socket{{Protocol: zones.TCP, Port: 9443}}},
	}}
	for name, shows := range map[string]func(m zones.Model) bool{
		"NetworkPolicies": func(m zones.Model) bool {
			policies, err := segmentation.Policies(m, ranges)
			require.NoError(t, err)
			opens := func(name string, egress bool) bool {
				return slices.ContainsFunc(policies, func(p *networkingv1.NetworkPolicy) bool {
					var ports []networkingv1.NetworkPolicyPort
					for _, r := range p.Spec.Ingress {
						ports = append(ports, r.Ports...)
					}
					if egress {
						ports = nil
						for _, r := range p.Spec.Egress {
							ports = append(ports, r.Ports...)
						}
					}
					return p.Name == name && slices.ContainsFunc(ports, func(port networkingv1.NetworkPolicyPort) bool { return port.Port.IntValue() == 9443 })
				})
			}
			return opens("refund", false) && opens(zones.WebGateway, true)
		},
		"security groups": func(m zones.Model) bool {
			groups, err := network.Groups(m)
			require.NoError(t, err)
			return network.Allows(groups, "dmz", "application", "tcp", 9443)
		},
		"network ACLs": func(m zones.Model) bool {
			entries, err := network.ACLs(m, addresses)
			require.NoError(t, err)
			return network.Permits(entries, zones.Application, network.Ingress, addresses[zones.DMZ].Addr().Next(), "tcp", 9443)
		},
		"firewall rules": func(m zones.Model) bool {
			rules, err := network.Rules(m, network.NetworkFirewall)
			require.NoError(t, err)
			return slices.ContainsFunc(rules.Rules, func(r network.Rule) bool {
				return slices.ContainsFunc(r.Flows, func(f zones.Flow) bool { return f.To == "refund" })
			})
		},
		"diagram": func(m zones.Model) bool { return strings.Contains(m.Diagram(), `n-refund["Refunds"]`) },
		"page":    func(m zones.Model) bool { return strings.Contains(m.Page(), "| web-gateway | refund | 9443/tcp |") },
		"proof": func(m zones.Model) bool {
			return slices.ContainsFunc(connectivity.Expect(m, topology), func(a connectivity.Attempt) bool {
				return a.From.Name == "dmz/web" && a.To.Name == "services/refund" && a.Socket.Port == 9443 && a.Expected == connectivity.MustOpen
			})
		},
	} {
		assert.False(t, shows(base(zones.Options{})), "%s: without the service", name)
		assert.True(t, shows(withRefund(base(zones.Options{}))), "%s: with the service", name)
	}
}
