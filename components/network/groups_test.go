package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/zones"
)

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func groups(t *testing.T, m zones.Model) []GroupRule {
	t.Helper()
	rules, err := Groups(m)
	require.NoError(t, err)
	return rules
}

func acls(t *testing.T, m zones.Model) []ACLEntry {
	t.Helper()
	entries, err := ACLs(m, ranges)
	require.NoError(t, err)
	return entries
}

func protocolOf(p zones.Port) string { return strings.ToLower(string(p.Protocol)) }

// models are those that rules are rendered from, by the suffix of their golden files.
func models() map[string]zones.Model {
	return map[string]zones.Model{"": zones.Standard(zones.Options{APIServerPort: 443}), "-aws": zones.AWS(zones.Options{})}
}

func TestGroupsGolden(t *testing.T) {
	for name, m := range models() {
		var text strings.Builder
		for _, r := range groups(t, m) {
			fmt.Fprintf(&text, "%-13s %-7s %-13s %s %s  %s\n", r.Group, r.Direction, cmp.Or(string(r.Peer), r.CIDR), r.Protocol, portsText(r.FromPort, r.ToPort), r.Description)
		}
		golden(t, "groups"+name+".txt", text.String())
	}
}

func TestACLsGolden(t *testing.T) {
	for name, m := range models() {
		var text strings.Builder
		for _, e := range acls(t, m) {
			action := map[bool]string{true: "allow", false: "deny"}[e.Allow]
			fmt.Fprintf(&text, "%-11s %-7s %d %-5s %-13s %-3s %s  %s\n", e.Zone, e.Direction, e.Number, action, e.CIDR, e.Protocol, portsText(e.FromPort, e.ToPort), strings.Join(e.Why, ", "))
		}
		golden(t, "acls"+name+".txt", text.String())
	}
}

func portsText(from, to int) string {
	if from == to {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d-%d", from, to)
}

// TestEachFlowHasOnePairOfRules holds that every flow of the model is allowed by exactly one rule at each end, and that the rules
// allow no port to anybody that no flow allows.
func TestEachFlowHasOnePairOfRules(t *testing.T) {
	for name, m := range map[string]zones.Model{
		"standard": zones.Standard(zones.Options{}), "one service more": withService(), "aws": zones.AWS(zones.Options{}),
	} {
		t.Run(name, func(t *testing.T) {
			rules := groups(t, m)
			type pass struct {
				from, to Group
				protocol string
				port     int
			}
			want := map[pass]bool{}
			for _, end := range routed(m) {
				from, to := GroupOf(m, end.From), GroupOf(m, end.To)
				p := pass{from, to, protocolOf(end.Port), end.Port.Number}
				want[p] = true
				require.True(t, Allows(rules, p.from, p.to, p.protocol, p.port), end.Flow)
				count := func(group, peer Group, direction Direction) (n int) {
					for _, r := range rules {
						if r.Group == group && r.Peer == peer && r.Direction == direction && r.Protocol == p.protocol &&
							r.FromPort <= p.port && p.port <= r.ToPort {
							require.Contains(t, r.Flows, end.Flow)
							n++
						}
					}
					return n
				}
				if from != outside {
					require.Equal(t, 1, count(from, to, Egress), end.Flow)
				}
				if to != outside {
					require.Equal(t, 1, count(to, from, Ingress), end.Flow)
				}
			}
			for _, r := range rules {
				require.Equal(t, r.Peer == outside, r.CIDR == Internet)
				for port := r.FromPort; port <= r.ToPort; port++ {
					p := pass{r.Group, r.Peer, r.Protocol, port}
					if r.Direction == Ingress {
						p.from, p.to = r.Peer, r.Group
					}
					require.True(t, want[p], "nothing in the model allows %+v", p)
				}
			}
		})
	}
}

// routed are the flows whose packets leave a node.
func routed(m zones.Model) []zones.End {
	return slices.DeleteFunc(m.Resolve(), func(e zones.End) bool { return e.To.Place == zones.OwnNode })
}

// TestRemovedFlowRemovesItsRule takes each flow out of the model in turn.
func TestRemovedFlowRemovesItsRule(t *testing.T) {
	for _, m := range models() {
		removeEach(t, m)
	}
}

func removeEach(t *testing.T, whole zones.Model) {
	t.Helper()
	closed := 0
	for i, gone := range whole.Resolve() {
		if gone.To.Place == zones.OwnNode {
			continue
		}
		m := whole.Clone()
		m.Flows = slices.Delete(m.Flows, i, i+1)
		if m.Validate() != nil {
			continue // a delivery with nobody behind
		}
		from, to := GroupOf(m, gone.From), GroupOf(m, gone.To)
		shared := slices.ContainsFunc(routed(m), func(e zones.End) bool {
			return GroupOf(m, e.From) == from && GroupOf(m, e.To) == to && e.Port.Number == gone.Port.Number && e.Port.Protocol == gone.Port.Protocol
		})
		rules := groups(t, m)
		require.Equal(t, shared, Allows(rules, from, to, protocolOf(gone.Port), gone.Port.Number), gone.Flow)
		for _, r := range rules {
			require.NotContains(t, r.Flows, gone.Flow)
		}
		if !shared {
			closed++
		}
	}
	require.Positive(t, closed)
}

func TestDescriptionsAreForAWS(t *testing.T) {
	allowed := regexp.MustCompile(`^[a-zA-Z0-9 ._\-:/()#,@\[\]+=;{}!$*]{1,255}$`)
	for _, r := range groups(t, withService()) {
		require.Regexp(t, allowed, r.Description)
	}
	for n := 1; n < 60; n++ {
		var flows []zones.Flow
		for i := range n {
			flows = append(flows, zones.Flow{From: fmt.Sprintf("role-%d", i), To: strings.Repeat("x", i%40+1), Port: "mtls"})
		}
		text := describe(flows)
		require.Regexp(t, allowed, text)
		named := strings.Count(text, " to ")
		if named < n {
			require.Contains(t, text, fmt.Sprintf(" and %d more", n-named))
		}
	}
}

func TestPortsThatFollowEachOtherShareARule(t *testing.T) {
	require.Equal(t, []span{{1, 3}, {5, 5}, {7, 8}}, merge([]int{8, 3, 1, 2, 5, 7}))
	require.Equal(t, []span{{10, 100}}, mergeSpans([]span{{50, 60}, {10, 49}, {20, 100}}))
}

// spread gives the order service many ports that do not follow each other, open to the gateways.
func spread(ports int) zones.Model {
	m := withService()
	service := &m.Roles[len(m.Roles)-1]
	for i := range ports {
		name := fmt.Sprintf("p%d", i)
		service.Ports = append(service.Ports, zones.Port{Name: name, Number: 2000 + 2*i, Protection: zones.MTLS})
		m.Flows = append(m.Flows, zones.Flow{From: zones.APIGateway, To: "invoice", Port: name, Kind: zones.Request, MTLS: true, Why: "one of many"})
	}
	return m
}

func TestLimitsAreNamed(t *testing.T) {
	_, err := Groups(spread(60))
	require.ErrorContains(t, err, "security group application, ingress: 6")
	require.ErrorContains(t, err, "security group dmz, egress: 6")
	require.NotContains(t, err.Error(), "data")
	_, err = ACLs(spread(20), ranges)
	require.ErrorContains(t, err, "network ACL of application, ingress: ")
	require.ErrorContains(t, err, "network ACL of dmz, egress: ")

	m := zones.Standard(zones.Options{})
	m.Zones = append(m.Zones, zones.ZoneSpec{Zone: "nodes", Class: zones.Managing, Default: zones.Deny})
	_, err = Groups(m)
	require.ErrorContains(t, err, "zone nodes")
	m.Flows[0].Why = ""
	_, err = Groups(m)
	require.ErrorContains(t, err, "model: ")
	_, err = ACLs(m, Addresses{})
	require.ErrorContains(t, err, "addresses.dmz")

	m = zones.AWS(zones.Options{})
	m.Roles[slices.IndexFunc(m.Roles, func(r zones.Role) bool { return r.Name == zones.Database })].Group = "control-plane"
	_, err = Groups(m)
	require.ErrorContains(t, err, "role database")
}

// A service of AWS has a group of its own: it may not do what the pods of its zone may, nor may they what it may.
func TestServicesOfAWSHaveGroupsOfTheirOwn(t *testing.T) {
	m := zones.AWS(zones.Options{})
	seen := map[Group]string{}
	for _, r := range m.Roles {
		if r.Place == zones.Managed {
			group := GroupOf(m, r)
			require.Empty(t, seen[group], r.Name)
			require.Equal(t, Group(r.Name), group)
			seen[group] = r.Name
		}
	}
	require.Len(t, seen, 4)
	rules := groups(t, m)
	require.True(t, Allows(rules, "", "edge-balancer", "tcp", 443))
	require.False(t, Allows(rules, "", "dmz", "tcp", 8443), "the internet reaches the load balancer only")
	require.False(t, Allows(rules, "edge-balancer", "application", "tcp", 8443))
	require.True(t, Allows(rules, "edge-balancer", GroupNodes, "tcp", zones.NodePortWeb))
	require.False(t, Allows(rules, "dmz", GroupNodes, "tcp", zones.NodePortWeb))
	require.False(t, Allows(rules, "management", "management", "tcp", 8081), "only the entry reaches the servers")
	require.False(t, Allows(rules, GroupNodes, "database", "tcp", 5432))
	require.False(t, Allows(rules, "data", "database", "tcp", 5432))
	for _, r := range rules {
		require.NotEqual(t, 80, r.FromPort, "what is on the caller's own node needs no rule")
		for _, quiet := range []Group{"database", "aws-services"} {
			require.False(t, r.Group == quiet && r.Direction == Egress, "%s opens no connections", quiet)
		}
	}

	for i := range m.Roles {
		m.Roles[i].Group = ""
	}
	database, _ := m.Role(zones.Database)
	require.Equal(t, Group("data"), GroupOf(m, database), "without one of its own, it has its zone's")
}

// Load balancers take ports from 1024 on for their connections, and the answers go there.
func TestAnswersReachLoadBalancers(t *testing.T) {
	entries := acls(t, zones.AWS(zones.Options{}))
	for _, zone := range []zones.Zone{zones.DMZ, zones.Management} {
		for _, direction := range []Direction{Ingress, Egress} {
			require.True(t, Permits(entries, zone, direction, host(zone), "tcp", 1024), zone)
		}
	}
	require.False(t, Permits(entries, zones.Application, Ingress, host(zones.Application), "tcp", 1024))
	require.False(t, Permits(entries, zones.Application, Ingress, host(zones.Management), "tcp", zones.NodePortEntryPrimary), "the entry's ports are in management")
	require.False(t, Permits(entries, zones.Data, Ingress, host(zones.DMZ), "tcp", zones.NodePortWeb))
	require.False(t, Permits(entries, zones.DMZ, Ingress, host(zones.Internet), "tcp", 8443), "clients reach the load balancer only")
}

// zonesOf are the zones whose subnets a role can be in.
func zonesOf(r zones.Role) []zones.Zone {
	if r.Place == zones.Nodes {
		return ranges.zones()
	}
	return []zones.Zone{r.Zone}
}

// host is an address in a zone.
func host(zone zones.Zone) netip.Addr {
	if p, ok := ranges[zone]; ok {
		return p.Addr().Next()
	}
	return netip.MustParseAddr("198.51.100.9")
}

// TestACLsLetFlowsAndTheirAnswersThrough sends the packets of every flow through the ACLs of both ends.
func TestACLsLetFlowsAndTheirAnswersThrough(t *testing.T) {
	for _, m := range []zones.Model{withService(), zones.AWS(zones.Options{})} {
		letThrough(t, m)
	}
}

func letThrough(t *testing.T, m zones.Model) {
	t.Helper()
	entries := acls(t, m)
	permits := func(zone zones.Zone, direction Direction, other zones.Zone, protocol string, port int) bool {
		if _, ours := ranges[zone]; !ours {
			return true // nobody asks us
		}
		return Permits(entries, zone, direction, host(other), protocol, port)
	}
	for _, end := range routed(m) {
		for _, from := range zonesOf(end.From) {
			for _, to := range zonesOf(end.To) {
				if end.From.Place == zones.Nodes && end.To.Place == zones.Nodes && from != to {
					continue
				}
				protocol, port := protocolOf(end.Port), end.Port.Number
				require.True(t, permits(from, Egress, to, protocol, port), "%s out of %s", end.Flow, from)
				require.True(t, permits(to, Ingress, from, protocol, port), "%s into %s", end.Flow, to)
				for _, back := range []int{32768, 40000, 60999, 65535} {
					require.True(t, permits(to, Egress, from, protocol, back), "answers of %s out of %s", end.Flow, to)
					require.True(t, permits(from, Ingress, to, protocol, back), "answers of %s into %s", end.Flow, from)
				}
			}
		}
	}
}

// TestACLsHoldZonesApart tries every port between zones that have no flow in common.
func TestACLsHoldZonesApart(t *testing.T) {
	for _, m := range models() {
		holdApart(t, m)
	}
	entries := acls(t, zones.Standard(zones.Options{}))
	// What the internet may reach, other zones may not: the data zone is not part of it.
	require.True(t, Permits(entries, zones.DMZ, Ingress, host(zones.Internet), "tcp", 8443))
	require.False(t, Permits(entries, zones.DMZ, Ingress, host(zones.Data), "tcp", 8443))
	require.False(t, Permits(entries, zones.DMZ, Ingress, host(zones.Internet), "tcp", 8080))
	require.False(t, Permits(entries, zones.Data, Ingress, host(zones.Application), "tcp", 22))
}

func holdApart(t *testing.T, m zones.Model) {
	t.Helper()
	related := map[[2]zones.Zone]bool{}
	for _, end := range routed(m) {
		for _, from := range zonesOf(end.From) {
			for _, to := range zonesOf(end.To) {
				if end.From.Place != zones.Nodes || end.To.Place != zones.Nodes || from == to {
					related[[2]zones.Zone{from, to}], related[[2]zones.Zone{to, from}] = true, true
				}
			}
		}
	}
	require.False(t, related[[2]zones.Zone{zones.DMZ, zones.Data}], "nothing skips a tier")
	entries := acls(t, m)
	apart := 0
	for _, zone := range ranges.zones() {
		for _, other := range append(ranges.zones(), zones.Internet) {
			if related[[2]zones.Zone{zone, other}] {
				continue
			}
			apart++
			for _, direction := range []Direction{Ingress, Egress} {
				for _, protocol := range []string{"tcp", "udp"} {
					for port := 1; port <= lastPort; port++ {
						if Permits(entries, zone, direction, host(other), protocol, port) {
							t.Fatalf("%s %s %s: %s %d is open", zone, direction, other, protocol, port)
						}
					}
				}
			}
		}
	}
	require.Positive(t, apart)
}

func TestJoin(t *testing.T) {
	for _, c := range []struct{ want, ranges string }{
		{"10.0.0.0/16", "10.0.0.0/18 10.0.192.0/19 10.0.64.0/18 10.0.224.0/19 10.0.128.0/18"},
		{"10.0.0.0/18 10.0.128.0/18", "10.0.0.0/18 10.0.128.0/18"},
		{"10.0.64.0/18 10.0.128.0/18", "10.0.64.0/18 10.0.128.0/18"}, // neighbours, but of different halves
		{"10.0.0.0/18 10.0.64.0/19", "10.0.0.0/18 10.0.64.0/19"},
		{"0.0.0.0/0", "0.0.0.0/1 128.0.0.0/1"},
		{"", ""},
	} {
		var given []netip.Prefix
		for text := range strings.FieldsSeq(c.ranges) {
			given = append(given, prefix(text))
		}
		require.Equal(t, c.want, strings.Trim(fmt.Sprint(join(given)), "[]"))
	}
}

func TestACLNumbersAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range acls(t, withService()) {
		key := fmt.Sprintf("%s %s %d", e.Zone, e.Direction, e.Number)
		require.False(t, seen[key], key)
		seen[key] = true
		require.True(t, e.Number >= 1 && e.Number <= 32766)
		require.NotEmpty(t, e.Why)
	}
}

// TestNewServiceAppears adds a service to the model in one place and finds it in everything that is rendered for AWS.
func TestNewServiceAppears(t *testing.T) {
	before, after := zones.Standard(zones.Options{}), withService()
	require.False(t, Allows(groups(t, before), "dmz", "application", "tcp", 9443))
	require.True(t, Allows(groups(t, after), "dmz", "application", "tcp", 9443))
	require.False(t, Permits(acls(t, before), zones.Application, Ingress, host(zones.DMZ), "tcp", 9443))
	require.True(t, Permits(acls(t, after), zones.Application, Ingress, host(zones.DMZ), "tcp", 9443))
	require.True(t, Permits(acls(t, after), zones.DMZ, Egress, host(zones.Application), "tcp", 9443))
}
