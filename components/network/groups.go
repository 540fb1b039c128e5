package network

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ephemos.dev/deploy/components/zones"
)

// Group is a security group: a zone's, by the zone's name, that of a service of AWS in a zone, or one of EKS' own.
type Group string

const (
	// GroupNodes is the nodes' interfaces: programs in the nodes' own network, and pods of the cluster itself.
	GroupNodes Group = "nodes"
	// GroupControlPlane is the interfaces of the API server.
	GroupControlPlane Group = "control-plane"
	// outside is no group: rules name the internet by its address range.
	outside Group = ""
)

// Direction is seen from the group, or from the zone's subnets.
type Direction string

// The directions.
const (
	Ingress Direction = "ingress"
	Egress  Direction = "egress"
)

// Internet is the address range of everything.
const Internet = "0.0.0.0/0"

// Limits of AWS: the default quota of rules of a security group for one direction and address family, and the length of their
// descriptions.
const (
	maxGroupRules  = 60
	maxDescription = 255
)

// A GroupRule allows connections, whose answers need no rule.
type GroupRule struct {
	Group     Group
	Direction Direction
	// Peer is the other end's group, empty for the internet.
	Peer Group
	// CIDR is the range by which the rule names the other end, where it cannot by its group: the internet, and what is behind the
	// firewall (Inspected).
	CIDR string
	// Protocol is AWS' name: "tcp" or "udp".
	Protocol string
	// FromPort and ToPort are the destination's, the same for a single port.
	FromPort, ToPort int
	// Description names the flows, in at most 255 of the characters that AWS allows.
	Description string
	// Flows are the model's flows that the rule is for.
	Flows []zones.Flow
}

// GroupOf is the group of a role's interfaces. It is empty for what is outside, which has none.
func GroupOf(m zones.Model, r zones.Role) Group {
	switch r.Place {
	case zones.Nodes, zones.NodePorts, zones.OwnNode:
		return GroupNodes
	case zones.APIServer:
		return GroupControlPlane
	case zones.Elsewhere:
		return outside
	case zones.Managed:
		return Group(cmp.Or(r.Group, string(r.Zone)))
	case zones.Pods:
	}
	if z, _ := m.Zone(r.Zone); z.Class == zones.Underlying {
		return GroupNodes
	}
	return Group(r.Zone)
}

// Groups renders the rules of all security groups from the model, which must be valid, sorted. Each flow has one rule of the group
// that it leaves and one of the group that it enters; flows with the same ends and ports that follow each other share them. An error
// names every group that has more rules than AWS allows.
func Groups(m zones.Model) ([]GroupRule, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	var problems []error
	reserved := func(kind, name, group string) {
		if Group(group) == GroupNodes || Group(group) == GroupControlPlane {
			problems = append(problems, fmt.Errorf("%s %s: %q is not allowed: it must not have the name of one of EKS' security groups", kind, name, group))
		}
	}
	for _, z := range m.Zones {
		reserved("zone", string(z.Zone), string(z.Zone))
	}
	for _, r := range m.Roles {
		reserved("role", r.Name, r.Group)
	}
	type key struct {
		group     Group
		direction Direction
		peer      Group
		protocol  zones.Protocol
	}
	ports := map[key]map[int][]zones.Flow{}
	allow := func(k key, end zones.End) {
		if k.group == outside {
			return
		}
		if ports[k] == nil {
			ports[k] = map[int][]zones.Flow{}
		}
		ports[k][end.Port.Number] = append(ports[k][end.Port.Number], end.Flow)
	}
	for _, end := range m.Resolve() {
		if end.To.Place == zones.OwnNode {
			continue // its packets leave no interface
		}
		from, to := GroupOf(m, end.From), GroupOf(m, end.To)
		allow(key{from, Egress, to, end.Port.Protocol}, end)
		allow(key{to, Ingress, from, end.Port.Protocol}, end)
	}
	var rules []GroupRule
	for k, flows := range ports {
		for _, r := range merge(slices.Collect(maps.Keys(flows))) {
			rule := GroupRule{
				Group: k.group, Direction: k.direction, Peer: k.peer, Protocol: strings.ToLower(string(k.protocol)), FromPort: r.from, ToPort: r.to,
			}
			if k.peer == outside {
				rule.CIDR = Internet
			}
			for port := r.from; port <= r.to; port++ {
				rule.Flows = append(rule.Flows, flows[port]...)
			}
			rule.Description = describe(rule.Flows)
			rules = append(rules, rule)
		}
	}
	slices.SortFunc(rules, func(a, b GroupRule) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Peer, b.Peer),
			cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.FromPort, b.FromPort))
	})
	counts := map[string]int{}
	for _, r := range rules {
		counts[fmt.Sprintf("%s, %s", r.Group, r.Direction)]++
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > maxGroupRules {
			problems = append(problems, fmt.Errorf("security group %s: %d rules are not allowed: AWS allows %d", name, counts[name], maxGroupRules))
		}
	}
	return rules, errors.Join(problems...)
}

// Allows says whether the rules let a connection from one group to another through: a rule of the group that it leaves, and one of
// the group that it enters. The empty group stands for the internet. port is the destination's, protocol "tcp" or "udp".
func Allows(rules []GroupRule, from, to Group, protocol string, port int) bool {
	match := func(group, peer Group, direction Direction) bool {
		return group == outside || slices.ContainsFunc(rules, func(r GroupRule) bool {
			return r.Group == group && r.Peer == peer && r.Direction == direction && r.Protocol == protocol && r.FromPort <= port && port <= r.ToPort
		})
	}
	return (from != outside || to != outside) && match(from, to, Egress) && match(to, from, Ingress)
}

// A span is a range of ports, ends included.
type span struct{ from, to int }

func compareSpans(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) }

// merge returns the ports as spans, sorted.
func merge(ports []int) []span {
	spans := make([]span, 0, len(ports))
	for _, p := range ports {
		spans = append(spans, span{p, p})
	}
	return mergeSpans(spans)
}

// mergeSpans joins spans that overlap or follow each other.
func mergeSpans(spans []span) []span {
	slices.SortFunc(spans, compareSpans)
	var out []span
	for _, s := range spans {
		if last := len(out) - 1; last >= 0 && s.from <= out[last].to+1 {
			out[last].to = max(out[last].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}

// describe names flows in as much as a description holds. Names of roles and ports are made of characters that AWS allows.
func describe(flows []zones.Flow) string {
	text := ""
	for i, f := range flows {
		next := fmt.Sprintf("%s to %s:%s", f.From, f.To, f.Port)
		if i > 0 {
			next = text + ", " + next
		}
		more := ""
		if left := len(flows) - i - 1; left > 0 {
			more = fmt.Sprintf(" and %d more", left)
		}
		if len(next)+len(more) > maxDescription {
			return fmt.Sprintf("%s and %d more", text, len(flows)-i)
		}
		text = next
	}
	return text
}
