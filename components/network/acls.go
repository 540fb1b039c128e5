package network

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"ephemos.dev/deploy/components/zones"
)

// Ephemeral ports, to which answers go. Linux takes them from 32768 on. What is outside may take any from 1024 on, and so do load
// balancers (https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/elb-vpc-network-acls.html).
const (
	ephemeralInside = 32768
	ephemeralAny    = 1024
	lastPort        = 65535
)

const (
	// maxEntries is AWS' default quota of entries of a network ACL for one direction, 20, without the two that deny what is left, of
	// IPv4 and of IPv6, which count as well.
	maxEntries = 18
	// firstEntry and entryStep are the numbers of entries.
	firstEntry, entryStep = 100, 10
)

// An ACLEntry is an entry of the network ACL of a zone's subnets. AWS takes the first one that matches, by number, and denies what
// none matches.
type ACLEntry struct {
	Zone      zones.Zone
	Direction Direction
	Number    int
	Allow     bool
	// Protocol is AWS' name: "tcp", "udp", or "-1" for all.
	Protocol string
	// CIDR is the other end.
	CIDR netip.Prefix
	// FromPort and ToPort are the destination's. Zero for all protocols.
	FromPort, ToPort int
	// Why names the flows for which the entry is, and those whose answers it lets through. AWS has no place for it.
	Why []string
}

// ACLs renders the network ACLs of the zones' subnets from the model and the zones' ranges, which must be valid, sorted by zone,
// direction and number. An error names every ACL that has more entries than AWS allows.
func ACLs(m zones.Model, a Addresses) ([]ACLEntry, error) {
	if err := errors.Join(m.Validate(), a.Validate(m)); err != nil {
		return nil, err
	}
	b := aclBuilder{model: m, addresses: a, spans: map[aclKey][]reasoned{}}
	for _, end := range m.Resolve() {
		b.flow(end)
	}
	var entries []ACLEntry
	var problems []error
	for _, zone := range a.zones() {
		for _, direction := range []Direction{Egress, Ingress} {
			list := b.entries(zone, direction)
			if len(list) > maxEntries {
				problems = append(problems, fmt.Errorf("network ACL of %s, %s: %d entries are not allowed: AWS allows %d", zone, direction, len(list), maxEntries))
			}
			entries = append(entries, list...)
		}
	}
	return entries, errors.Join(problems...)
}

// Permits says whether the ACL of a zone's subnets lets a packet through. address is the other end's, port the destination's,
// protocol "tcp" or "udp".
func Permits(entries []ACLEntry, zone zones.Zone, direction Direction, address netip.Addr, protocol string, port int) bool {
	number, allowed := lastPort, false
	for _, e := range entries {
		if e.Zone != zone || e.Direction != direction || e.Number >= number || !e.CIDR.Contains(address) {
			continue
		}
		if e.Protocol == "-1" || e.Protocol == protocol && e.FromPort <= port && port <= e.ToPort {
			number, allowed = e.Number, e.Allow
		}
	}
	return allowed
}

// An aclKey is what entries can be merged for.
type aclKey struct {
	zone      zones.Zone
	direction Direction
	peer      zones.Zone // the outside zone's name for the internet
	protocol  string
}

// A reasoned span knows its flows.
type reasoned struct {
	span
	why []string
}

type aclBuilder struct {
	model     zones.Model
	addresses Addresses
	spans     map[aclKey][]reasoned
}

// zonesOf are the zones in whose subnets a role is. Nodes are in all.
func (b *aclBuilder) zonesOf(r zones.Role) []zones.Zone {
	if r.Place == zones.Nodes {
		return b.addresses.zones()
	}
	return []zones.Zone{r.Zone}
}

// flow adds what a flow and its answers need, at both ends.
func (b *aclBuilder) flow(end zones.End) {
	if end.To.Place == zones.OwnNode {
		return // its packets leave no subnet
	}
	for _, from := range b.zonesOf(end.From) {
		for _, to := range b.zonesOf(end.To) {
			// Between the nodes' own programs there is traffic on a node, and at most within its zone.
			if end.From.Place == zones.Nodes && end.To.Place == zones.Nodes && from != to {
				continue
			}
			protocol := map[zones.Protocol]string{zones.TCP: "tcp", zones.UDP: "udp"}[end.Port.Protocol]
			port := span{end.Port.Number, end.Port.Number}
			back := span{ephemeralInside, lastPort}
			if end.From.Place == zones.Elsewhere || end.To.Place == zones.Elsewhere || end.From.Place == zones.Managed {
				back.from = ephemeralAny
			}
			why, answers := []string{end.Flow.String()}, []string{"answers of " + end.Flow.String()}
			b.add(aclKey{from, Egress, to, protocol}, reasoned{port, why})
			b.add(aclKey{to, Ingress, from, protocol}, reasoned{port, why})
			b.add(aclKey{to, Egress, from, protocol}, reasoned{back, answers})
			b.add(aclKey{from, Ingress, to, protocol}, reasoned{back, answers})
		}
	}
}

func (b *aclBuilder) add(k aclKey, s reasoned) {
	if _, ours := b.addresses[k.zone]; ours {
		b.spans[k] = append(b.spans[k], s)
	}
}

// entries returns the ACL of one zone for one direction. What is for zones comes first. What is for the internet comes last, after
// entries that take the zones out of it.
func (b *aclBuilder) entries(zone zones.Zone, direction Direction) []ACLEntry {
	var list []ACLEntry
	add := func(e ACLEntry) {
		e.Zone, e.Direction, e.Number = zone, direction, firstEntry+entryStep*len(list)
		list = append(list, e)
	}
	for _, protocol := range []string{"tcp", "udp"} {
		// The same ports of several zones share an entry when their ranges join.
		peers, reasons := map[span][]netip.Prefix{}, map[span][][]string{}
		for _, peer := range b.addresses.zones() {
			for _, r := range mergeReasoned(b.spans[aclKey{zone, direction, peer, protocol}]) {
				peers[r.span] = append(peers[r.span], b.addresses[peer])
				reasons[r.span] = append(reasons[r.span], r.why)
			}
		}
		for _, s := range slices.SortedFunc(maps.Keys(peers), compareSpans) {
			for _, cidr := range join(peers[s]) {
				e := ACLEntry{Allow: true, Protocol: protocol, CIDR: cidr, FromPort: s.from, ToPort: s.to}
				for i, peer := range peers[s] {
					if cidr.Contains(peer.Addr()) {
						e.Why = append(e.Why, reasons[s][i]...)
					}
				}
				e.Why = unique(e.Why)
				add(e)
			}
		}
	}
	for _, z := range b.model.Zones {
		if z.Class != zones.Outside {
			continue
		}
		first := true
		for _, protocol := range []string{"tcp", "udp"} {
			for _, r := range mergeReasoned(b.spans[aclKey{zone, direction, z.Zone, protocol}]) {
				if first {
					for _, cidr := range join(slices.Collect(maps.Values(b.addresses))) {
						add(ACLEntry{Protocol: "-1", CIDR: cidr, Why: []string{fmt.Sprintf("the zones are not part of %s", z.Zone)}})
					}
					first = false
				}
				add(ACLEntry{Allow: true, Protocol: protocol, CIDR: netip.MustParsePrefix(Internet), FromPort: r.from, ToPort: r.to, Why: r.why})
			}
		}
	}
	return list
}

// join returns the fewest ranges that hold exactly the addresses of the given ones, which do not overlap, sorted.
func join(prefixes []netip.Prefix) []netip.Prefix {
	out := slices.SortedFunc(slices.Values(prefixes), func(x, y netip.Prefix) int { return x.Addr().Compare(y.Addr()) })
	for i := 0; i+1 < len(out); {
		bits := out[i].Bits()
		wider := netip.PrefixFrom(out[i].Addr(), bits-1).Masked()
		if bits == 0 || out[i+1].Bits() != bits || wider.Addr() != out[i].Addr() || !wider.Contains(out[i+1].Addr()) {
			i++
			continue
		}
		out = slices.Replace(out, i, i+2, wider)
		i = max(0, i-1) // what comes before may join now
	}
	return out
}

// mergeReasoned joins spans that overlap or follow each other, with their reasons.
func mergeReasoned(spans []reasoned) []reasoned {
	plain := make([]span, 0, len(spans))
	for _, s := range spans {
		plain = append(plain, s.span)
	}
	var out []reasoned
	for _, joined := range mergeSpans(plain) {
		r := reasoned{span: joined}
		for _, s := range spans {
			if s.from >= joined.from && s.to <= joined.to {
				r.why = append(r.why, s.why...)
			}
		}
		r.why = unique(r.why)
		out = append(out, r)
	}
	return out
}

// unique returns the texts in their order, each once.
func unique(texts []string) []string {
	var out []string
	for _, text := range texts {
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}
