package reach

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/test/graph"
)

// Placement says where in the VPC the model's roles are, and how a graph names their security groups.
type Placement struct {
	// VPC is the name of the VPC's resource. It may be empty when there is one.
	VPC string
	// Subnets are those of each zone: of its nodes, pods and services.
	Subnets map[zones.Zone][]netip.Prefix
	// Roles are the subnets of roles that are in others than their zone's, such as the edge's load balancer.
	Roles map[string][]netip.Prefix
	// Group is the name of a security group's resource.
	Group func(network.Group) string
	// Outside is an address of the internet. Default 198.51.100.9, which is for documentation.
	Outside netip.Addr
}

// Difference is a connection that the network treats otherwise than the model.
type Difference struct {
	From, To string
	Protocol string
	Port     int
	// Flows are those that allow it, none when the network lets through what no flow allows.
	Flows  []zones.Flow
	Answer Answer
}

// SharedDNS says that the difference is of the one kind that security groups cannot help: nodes have the group of the cluster's DNS, so
// that pods reach port 53 of the nodes of their own subnet, where nobody listens, too. Between subnets, network ACLs hold.
func (d Difference) SharedDNS() bool {
	_, from, _ := strings.Cut(d.From, " in ")
	to, nodes := strings.CutPrefix(d.To, string(network.GroupNodes)+" in ")
	return len(d.Flows) == 0 && nodes && from == to && d.Port == 53
}

// String is the difference for reports.
func (d Difference) String() string {
	if len(d.Flows) > 0 {
		return fmt.Sprintf("%s -> %s %s %d: %s, but %s", d.From, d.To, d.Protocol, d.Port, d.Answer, d.Flows[0])
	}
	return fmt.Sprintf("%s -> %s %s %d: %s, but no flow", d.From, d.To, d.Protocol, d.Port, d.Answer)
}

// Report is what Differences tried and found.
type Report struct {
	// Tried is the number of connections, Allowed how many of them the network lets through.
	Tried, Allowed int
	// Missing are flows of the model that the network denies.
	Missing []Difference
	// Excess is what it allows without a flow, to a port that the second end has. Idle is the same to a port that it does not have, where
	// nobody answers.
	Excess, Idle []Difference
}

// A station is where roles are that the network cannot tell apart: interfaces of one security group in one subnet.
type station struct {
	name   string
	group  network.Group
	zone   zones.Zone
	subnet netip.Prefix
	roles  []zones.Role
}

// Differences compares the network of a graph with the model: from every interface to every other, on every port of the model and one
// that it does not have, a connection has to be possible if a flow allows it, and only then. Roles that share security group and
// subnet are one interface, for the network cannot tell them apart. The programs of nodes talk to each other within their zone only
// (components/network, ACLs): a flow between them in different zones may be denied.
func Differences(g *graph.Graph, model zones.Model, p Placement) (Report, error) {
	var report Report
	if err := model.Validate(); err != nil {
		return report, err
	}
	n, err := Read(g, p.VPC)
	if err != nil {
		return report, err
	}
	stations, err := p.stations(model)
	if err != nil {
		return report, err
	}
	type socket struct {
		protocol string
		port     int
	}
	sockets := map[socket]bool{{"tcp", 9}: true, {"udp", 9}: true}
	for _, r := range model.Roles {
		for _, port := range r.Ports {
			// Names are asked for by UDP, everything else is TCP; each port is tried by both.
			sockets[socket{"tcp", port.Number}], sockets[socket{"udp", port.Number}] = true, true
		}
	}
	flows := map[[2]string][]zones.End{}
	for _, end := range model.Resolve() {
		key := [2]string{end.Flow.From, end.Flow.To}
		flows[key] = append(flows[key], end)
	}
	ordered := slices.SortedFunc(maps.Keys(sockets), func(a, b socket) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.protocol, b.protocol))
	})
	for _, from := range stations {
		for _, to := range stations {
			if from.zone == to.zone && !from.subnet.IsValid() && !to.subnet.IsValid() {
				continue // outside to outside
			}
			for _, s := range ordered {
				d := Difference{From: from.name, To: to.name, Protocol: s.protocol, Port: s.port}
				required, listens := false, false
				for _, caller := range from.roles {
					for _, callee := range to.roles {
						for _, end := range flows[[2]string{caller.Name, callee.Name}] {
							if strings.EqualFold(string(end.Port.Protocol), s.protocol) && end.Port.Number == s.port {
								d.Flows = append(d.Flows, end.Flow)
								required = required || caller.Place != zones.Nodes || callee.Place != zones.Nodes || from.zone == to.zone
							}
						}
					}
				}
				for _, callee := range to.roles {
					listens = listens || slices.ContainsFunc(callee.Ports, func(port zones.Port) bool {
						return port.Number == s.port && strings.EqualFold(string(cmp.Or(port.Protocol, zones.TCP)), s.protocol)
					})
				}
				d.Answer = n.Reach(Connection{p.end(from, 10), p.end(to, 20), s.protocol, s.port})
				report.Tried++
				if d.Answer.Allowed {
					report.Allowed++
				}
				switch {
				case required && !d.Answer.Allowed:
					report.Missing = append(report.Missing, d)
				case len(d.Flows) == 0 && d.Answer.Allowed && listens:
					report.Excess = append(report.Excess, d)
				case len(d.Flows) == 0 && d.Answer.Allowed:
					report.Idle = append(report.Idle, d)
				}
			}
		}
	}
	return report, nil
}

// end is an interface of a station: the index-th address of its subnet.
func (p Placement) end(s station, index int) Interface {
	if !s.subnet.IsValid() {
		outside := p.Outside
		if !outside.IsValid() {
			outside = netip.MustParseAddr("198.51.100.9")
		}
		return Interface{Name: s.name, Address: outside, Ephemeral: 1024}
	}
	address := s.subnet.Addr()
	for range index {
		address = address.Next()
	}
	out := Interface{Name: s.name, Address: address, Groups: []string{p.Group(s.group)}}
	if slices.ContainsFunc(s.roles, func(r zones.Role) bool { return r.Place == zones.Managed }) {
		out.Ephemeral = 1024
	}
	return out
}

// stations are where the roles are, in order. What is on a caller's own node is nowhere: no packet to it leaves the node.
func (p Placement) stations(m zones.Model) ([]station, error) {
	type key struct {
		group  network.Group
		subnet netip.Prefix
	}
	found := map[key]*station{}
	add := func(r zones.Role, zone zones.Zone, subnet netip.Prefix) {
		group := network.GroupOf(m, r)
		s := found[key{group, subnet}]
		if s == nil {
			s = &station{name: fmt.Sprintf("%s in %s", group, subnet), group: group, zone: zone, subnet: subnet}
			if !subnet.IsValid() {
				s.name = string(zone)
			}
			found[key{group, subnet}] = s
		}
		s.roles = append(s.roles, r)
	}
	for _, r := range m.Roles {
		switch r.Place {
		case zones.OwnNode:
		case zones.Elsewhere:
			add(r, r.Zone, netip.Prefix{})
		case zones.Nodes:
			for zone, subnets := range p.Subnets {
				for _, subnet := range subnets {
					add(r, zone, subnet)
				}
			}
		default:
			subnets := p.Roles[r.Name]
			if len(subnets) == 0 {
				subnets = p.Subnets[r.Zone]
			}
			if len(subnets) == 0 {
				return nil, fmt.Errorf("role %s: its zone %s has no subnets", r.Name, r.Zone)
			}
			for _, subnet := range subnets {
				add(r, r.Zone, subnet)
			}
		}
	}
	return slices.SortedFunc(func(yield func(station) bool) {
		for _, s := range found {
			if !yield(*s) {
				return
			}
		}
	}, func(a, b station) int { return strings.Compare(a.name, b.name) }), nil
}

// PlacementOf is where the roles are in a network of components/network/vpc: the name is the component's.
func PlacementOf(plan network.Plan, name string) Placement {
	p := Placement{
		VPC: name + "-vpc", Subnets: map[zones.Zone][]netip.Prefix{},
		// The edge's load balancer has subnets of its own in the DMZ's range, the only ones with a way to the internet.
		Roles: map[string][]netip.Prefix{zones.EdgeBalancer: plan.Subnets(network.Public)},
		Group: func(g network.Group) string { return fmt.Sprintf("%s-group-%s", name, g) },
	}
	for zone := range plan.Addresses() {
		p.Subnets[zone] = plan.Subnets(network.TierOf(zone))
	}
	return p
}
