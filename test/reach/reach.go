package reach

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Interface is an end of a connection: a network interface in a subnet of the VPC, which the address tells, or something outside.
type Interface struct {
	// Name is for messages.
	Name    string
	Address netip.Addr
	// Groups are the names of its security groups' resources. What is outside has none.
	Groups []string
	// Ephemeral is the first of the ports from which it opens connections; the last is 65535. Default 32768, as Linux has it. Load
	// balancers and what is outside take any from 1024 on.
	Ephemeral int
}

// Connection is a question.
type Connection struct {
	From, To Interface
	// Protocol is "tcp" or "udp".
	Protocol string
	Port     int
}

// Answer is yes or no, and why.
type Answer struct {
	Allowed bool
	// Obstacle says what is in the way, and Resource the name of what that is of. Both are empty when the connection is allowed.
	Obstacle, Resource string
	// Way is what packets pass, and their answers, up to the obstacle.
	Way []string
}

// String is the answer for reports.
func (a Answer) String() string {
	if a.Allowed {
		return "allowed: " + strings.Join(a.Way, ", ")
	}
	return fmt.Sprintf("denied by %s: %s", a.Resource, a.Obstacle)
}

const lastPort = 65535

// A packet is one of a connection, or of its answers.
type packet struct {
	protocol         string
	from, to         netip.Addr
	fromPort, toPort int
	// lastTo is the end of the range of ports that toPort begins: all of them have to pass.
	lastTo int
}

// A walk follows packets and ends at the first obstacle.
type walk struct {
	net *Network
	Answer
	denied bool
}

func (w *walk) deny(resource, format string, args ...any) {
	if !w.denied {
		w.denied, w.Resource, w.Obstacle = true, resource, fmt.Sprintf(format, args...)
	}
}

func (w *walk) pass(format string, args ...any) {
	if !w.denied {
		w.Way = append(w.Way, fmt.Sprintf(format, args...))
	}
}

// Reach answers whether the connection is possible.
func (n *Network) Reach(c Connection) Answer {
	w := &walk{net: n}
	from, to := n.subnet(c.From.Address), n.subnet(c.To.Address)
	for _, end := range []struct {
		Interface
		*subnet
	}{{c.From, from}, {c.To, to}} {
		if end.subnet == nil && n.inside(end.Address) {
			w.deny(n.name, "%s is in no subnet", end.Address)
		}
	}
	if from == nil && to == nil {
		w.deny(n.name, "neither end is in the VPC")
	}
	if w.denied {
		return w.Answer
	}
	ephemeral := cmp.Or(c.From.Ephemeral, 32768)
	there := packet{c.Protocol, c.From.Address, c.To.Address, ephemeral, c.Port, c.Port}
	back := packet{c.Protocol, c.To.Address, c.From.Address, c.Port, ephemeral, lastPort}

	// Whether a group can be named as the other end depends on the way, so that comes first.
	through := w.through(from, there)
	w.groups(c.From, c.To, true, there, through)
	firewall := w.travel(from, to, there, false)
	w.groups(c.To, c.From, false, there, through)
	answers := w.travel(to, from, back, true)
	if !w.denied && firewall != answers {
		w.deny(cmp.Or(tableOf(n, to), n.name), "asymmetric: the connection passes %s, its answers %s", nameOf(firewall), nameOf(answers))
	}
	w.Allowed = !w.denied
	return w.Answer
}

func nameOf(e *endpoint) string {
	if e == nil {
		return "no firewall"
	}
	return e.id
}

func tableOf(n *Network, s *subnet) string {
	switch {
	case s != nil:
		return s.table.name
	case n.ingress != nil:
		return n.ingress.name
	}
	return ""
}

func (n *Network) subnet(a netip.Addr) *subnet {
	for _, s := range n.subnets {
		if s.cidr.Contains(a) {
			return s
		}
	}
	return nil
}

func (n *Network) inside(a netip.Addr) bool {
	return slices.ContainsFunc(n.cidrs, func(p netip.Prefix) bool { return p.Contains(a) })
}

// lookup is the target of what a table does with an address, and the route: the most specific one wins.
func (n *Network) lookup(t *table, a netip.Addr) (target, name string) {
	bits := -1
	if n.inside(a) {
		for _, cidr := range n.cidrs {
			if cidr.Contains(a) {
				target, name, bits = "local", "local", cidr.Bits()
			}
		}
	}
	if t == nil {
		return target, name
	}
	for _, r := range t.routes {
		if r.cidr.Contains(a) && r.cidr.Bits() > bits {
			target, name, bits = r.target, r.name, r.cidr.Bits()
		}
	}
	return target, name
}

// through says whether a packet's way leads through a firewall.
func (w *walk) through(from *subnet, p packet) bool {
	t := w.net.ingress
	if from != nil {
		if from.cidr.Contains(p.to) {
			return false
		}
		t = from.table
	}
	target, _ := w.net.lookup(t, p.to)
	return w.net.endpoints[target] != nil
}

// travel follows a packet from one subnet to the other, nil being the internet, and returns the firewall's endpoint on the way.
func (w *walk) travel(from, to *subnet, p packet, answer bool) *endpoint {
	if from == to {
		w.pass("within %s", from.name)
		return nil
	}
	t, source := w.net.ingress, "the internet gateway"
	if from != nil {
		w.acl(from, true, p)
		t, source = from.table, from.table.name
	}
	passed := w.route(t, source, to, p, answer)
	if to != nil {
		w.acl(to, false, p)
	}
	return passed
}

// route follows a packet from a table on.
func (w *walk) route(t *table, source string, to *subnet, p packet, answer bool) *endpoint {
	var passed *endpoint
	for {
		target, name := w.net.lookup(t, p.to)
		switch e := w.net.endpoints[target]; {
		case target == "":
			w.deny(source, "no route to %s", p.to)
			return passed
		case e != nil && passed != nil:
			w.deny(source, "route %s leads from %s to %s", name, passed.id, e.id)
			return passed
		case e != nil:
			w.pass("route %s to %s", name, e.id)
			passed = e
			w.acl(e.subnet, false, p)
			ok, decided := e.firewall.passes(p, answer)
			if !ok {
				w.deny(e.firewall.name, "%s drops %s %s:%d -> %s:%d", decided, p.protocol, p.from, p.fromPort, p.to, p.toPort)
			}
			w.pass("%s by %s", e.firewall.name, decided)
			if to != e.subnet {
				w.acl(e.subnet, true, p)
			}
			t, source = e.subnet.table, e.subnet.table.name
		case target == "local":
			if to == nil {
				w.deny(source, "route %s to %s stays in the VPC", name, p.to)
			}
			return passed
		case to != nil:
			w.deny(source, "route %s leads %s out of the VPC", name, p.to)
			return passed
		default:
			w.pass("route %s to %s", name, target)
			return passed
		}
		if w.denied {
			return passed
		}
	}
}

// acl lets a packet through a subnet's network ACL, or is the obstacle. All ports of the packet's range have to pass.
func (w *walk) acl(s *subnet, egress bool, p packet) {
	other, direction := p.from, "ingress"
	if egress {
		other, direction = p.to, "egress"
	}
	// What the ACL does changes at the ends of its entries only.
	probes := []int{p.toPort, p.lastTo}
	for _, e := range s.acl.entries {
		for _, port := range []int{e.fromPort - 1, e.fromPort, e.last, e.last + 1} {
			if port > p.toPort && port < p.lastTo {
				probes = append(probes, port)
			}
		}
	}
	for _, port := range probes {
		allowed, decided := s.acl.permits(egress, other, p.protocol, port)
		if !allowed {
			w.deny(s.acl.name, "%s of %s: %s drops %s %s -> %s:%d", direction, s.name, decided, p.protocol, p.from, p.to, port)
			return
		}
	}
	w.pass("%s of %s", direction, s.acl.name)
}

// permits says what an ACL does with a packet, and which entry.
func (a *acl) permits(egress bool, other netip.Addr, protocol string, port int) (bool, string) {
	for _, e := range a.entries {
		if e.egress == egress && e.cidr.Contains(other) && (e.protocol == all || e.protocol == protocol && e.fromPort <= port && port <= e.last) {
			return e.allow, e.name
		}
	}
	return false, "the last entry"
}

// groups lets a connection through an interface's security groups, or is the obstacle. What is outside has none.
func (w *walk) groups(own, peer Interface, egress bool, p packet, through bool) {
	if w.net.subnet(own.Address) == nil {
		return
	}
	direction, other := "ingress", p.from
	if egress {
		direction, other = "egress", p.to
	}
	peers := map[string]bool{}
	for _, name := range peer.Groups {
		if g := w.net.groups[name]; g != nil {
			peers[g.id] = true
		}
	}
	if len(own.Groups) == 0 {
		w.deny(w.net.name, "%s has no security group", own.Name)
	}
	unused := ""
	for _, name := range own.Groups {
		g := w.net.groups[name]
		if g == nil {
			w.deny(name, "there is no such security group")
			return
		}
		for _, r := range g.rules {
			if r.egress != egress || r.protocol != all && (r.protocol != p.protocol || p.toPort < r.fromPort || r.last < p.toPort) {
				continue
			}
			switch {
			case r.peer == "" && r.cidr.Contains(other), peers[r.peer] && !through:
				w.pass("%s of %s by %s", direction, name, r.name)
				return
			case peers[r.peer]:
				unused = fmt.Sprintf(" (%s names a security group, which does not match through a firewall)", r.name)
			}
		}
	}
	w.deny(strings.Join(own.Groups, ", "), "%s: no rule allows %s %d with %s%s", direction, p.protocol, p.toPort, peer.Name, unused)
}
