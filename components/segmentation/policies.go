package segmentation

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"ephemos.dev/deploy/components/zones"
)

// Ranges are the addresses of what pod selectors do not match, in CIDR notation.
type Ranges struct {
	// Nodes hold the addresses of the cluster's nodes, from which kubelets and pods with hostNetwork, such as the SPIRE agents,
	// connect. Required when a flow begins or ends at a node.
	Nodes []string
	// APIServer holds the addresses of the API server's endpoints. Required when a flow begins or ends there.
	APIServer []string
	// Pods hold the pods' addresses. They are left out of "the internet". Without them the internet is every address.
	Pods []string
	// Managed hold, by zone, the addresses of the services of the cloud in it (zones.Managed): its subnets. Where pods have addresses
	// of the same subnets, a policy cannot tell them from the service, and security groups have to. Required for each zone of such a
	// service to or from which a flow leads.
	Managed map[zones.Zone][]string
}

// flowsAnnotation lists, on each policy, the flows that it allows with their reasons.
const flowsAnnotation = "ephemos.dev/flows"

// Policies renders a valid model: in each of its namespaces one policy that denies everything, in both directions, and one
// for each role, named after it, with what flows to and from it. The order is the model's.
func Policies(m zones.Model, r Ranges) ([]*networkingv1.NetworkPolicy, error) {
	if err := errors.Join(m.Validate(), r.validate(m)); err != nil {
		return nil, err
	}
	in, out := map[string][]zones.End{}, map[string][]zones.End{}
	for _, f := range m.Resolve() {
		in[f.To.Name] = append(in[f.To.Name], f)
		out[f.From.Name] = append(out[f.From.Name], f)
	}
	var policies []*networkingv1.NetworkPolicy
	for _, role := range m.Roles {
		if role.Place == zones.Pods && m.Ours(role.Namespace) {
			policies = append(policies, rolePolicy(role, in[role.Name], out[role.Name], r))
		}
	}
	for _, n := range m.Namespaces {
		policies = append(policies, newPolicy(n.Name, zones.DefaultDeny, nil, nil))
	}
	return policies, nil
}

func newPolicy(namespace, name string, selector map[string]string, annotations map[string]string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: annotations},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: selector},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	}
}

func rolePolicy(role zones.Role, in, out []zones.End, r Ranges) *networkingv1.NetworkPolicy {
	var reasons []string
	listed := map[zones.Flow]bool{} // a role's flow to itself is in both lists
	for _, f := range slices.Concat(in, out) {
		if !listed[f.Flow] {
			reasons = append(reasons, fmt.Sprintf("%s: %s", f.Flow, f.Flow.Why))
		}
		listed[f.Flow] = true
	}
	var annotations map[string]string
	if len(reasons) > 0 {
		annotations = map[string]string{flowsAnnotation: strings.Join(reasons, "\n")}
	}
	p := newPolicy(role.Namespace, role.Name, maps.Clone(role.Labels), annotations)
	for _, g := range grouped(in, func(f zones.End) zones.Role { return f.From }, r) {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: g.peers, Ports: g.ports})
	}
	for _, g := range grouped(out, func(f zones.End) zones.Role { return f.To }, r) {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: g.peers, Ports: g.ports})
	}
	return p
}

// group is one rule: peers that may use the same ports.
type group struct {
	peers []networkingv1.NetworkPolicyPeer
	ports []networkingv1.NetworkPolicyPort
}

// grouped makes one rule for each peer, and merges those that have the same addresses: the nodes' programs, a zone's services of the
// cloud.
func grouped(flows []zones.End, peer func(zones.End) zones.Role, r Ranges) []group {
	var names []string
	ports := map[string][]zones.Port{}
	roles := map[string]zones.Role{}
	for _, f := range flows {
		role := peer(f)
		name := "pods " + role.Name
		switch role.Place {
		case zones.Pods:
		case zones.Managed:
			name = string(role.Place) + " " + string(role.Zone)
		case zones.OwnNode:
			name = string(role.Place) + " " + role.Address
		default:
			name = string(role.Place)
		}
		if _, known := roles[name]; !known {
			names = append(names, name)
			roles[name] = role
		}
		if !slices.Contains(ports[name], f.Port) {
			ports[name] = append(ports[name], f.Port)
		}
	}
	out := make([]group, 0, len(names))
	for _, name := range names {
		g := group{peers: r.peers(roles[name])}
		slices.SortFunc(ports[name], func(a, b zones.Port) int {
			return cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(string(a.Protocol), string(b.Protocol)))
		})
		var last zones.Port
		for _, p := range ports[name] {
			if p.Number == last.Number && p.Protocol == last.Protocol {
				continue // two programs of the nodes on one port
			}
			last = p
			protocol, number := corev1.Protocol(p.Protocol), intstr.FromInt32(int32(p.Number)) //nolint:gosec // validated
			g.ports = append(g.ports, networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &number})
		}
		out = append(out, g)
	}
	return out
}

// peers are how a policy names a role.
func (r Ranges) peers(role zones.Role) []networkingv1.NetworkPolicyPeer {
	switch role.Place {
	case zones.Nodes:
		return blocks(r.Nodes)
	case zones.APIServer:
		return blocks(r.APIServer)
	case zones.Elsewhere:
		return r.internet()
	case zones.Managed:
		return blocks(r.Managed[role.Zone])
	case zones.OwnNode:
		return blocks([]string{role.Address + "/32"})
	default:
		return []networkingv1.NetworkPolicyPeer{{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: role.Namespace}},
			PodSelector:       &metav1.LabelSelector{MatchLabels: maps.Clone(role.Labels)},
		}}
	}
}

func blocks(ranges []string) []networkingv1.NetworkPolicyPeer {
	peers := make([]networkingv1.NetworkPolicyPeer, 0, len(ranges))
	for _, cidr := range ranges {
		peers = append(peers, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr}})
	}
	return peers
}

// internet is every address but the pods'.
func (r Ranges) internet() []networkingv1.NetworkPolicyPeer {
	all := []*networkingv1.IPBlock{{CIDR: "0.0.0.0/0"}, {CIDR: "::/0"}}
	for _, pods := range r.Pods {
		family := all[0]
		if netip.MustParsePrefix(pods).Addr().Is6() {
			family = all[1]
		}
		family.Except = append(family.Except, pods)
	}
	return []networkingv1.NetworkPolicyPeer{{IPBlock: all[0]}, {IPBlock: all[1]}}
}

func (r Ranges) validate(m zones.Model) error {
	var errs []error
	flows := m.Resolve()
	check := func(key string, ranges []string, needs func(zones.Role) bool) {
		for _, cidr := range ranges {
			if prefix, err := netip.ParsePrefix(cidr); err != nil || prefix != prefix.Masked() || prefix.Bits() == 0 {
				errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be a range in CIDR notation, not all addresses, with no bit set beyond its length", key, cidr))
			}
		}
		used := slices.ContainsFunc(flows, func(f zones.End) bool {
			return needs(f.From) && m.Ours(f.To.Namespace) || needs(f.To) && m.Ours(f.From.Namespace)
		})
		if used && len(ranges) == 0 {
			errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be at least one range, which flows of the model need", key, ""))
		}
	}
	in := func(place zones.Place) func(zones.Role) bool {
		return func(role zones.Role) bool { return role.Place == place }
	}
	check("ranges.nodes", r.Nodes, in(zones.Nodes))
	check("ranges.apiServer", r.APIServer, in(zones.APIServer))
	check("ranges.pods", r.Pods, func(zones.Role) bool { return false })
	for _, z := range m.Zones {
		check("ranges.managed."+string(z.Zone), r.Managed[z.Zone], func(role zones.Role) bool { return role.Place == zones.Managed && role.Zone == z.Zone })
	}
	for _, zone := range slices.Sorted(maps.Keys(r.Managed)) {
		if _, ok := m.Zone(zone); !ok {
			errs = append(errs, fmt.Errorf("ranges.managed: %q is not allowed: it must be a zone of the model", zone))
		}
	}
	return errors.Join(errs...)
}
