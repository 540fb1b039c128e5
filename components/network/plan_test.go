package network

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/zones"
)

var azs = []string{"eu-central-1a", "eu-central-1b", "eu-central-1c", "eu-central-1d"}

func plan(t *testing.T, vpc string, names ...string) Plan {
	t.Helper()
	p, err := NewPlan(prefix(vpc), names)
	require.NoError(t, err)
	return p
}

// examples are ranges of every size that is allowed, anywhere in what is private.
func examples() []netip.Prefix {
	var out []netip.Prefix
	random := rand.New(rand.NewPCG(4, 2))
	for _, p := range private {
		for bits := max(widest, p.Bits()); bits <= narrowest; bits++ {
			out = append(out, netip.PrefixFrom(p.Addr(), bits))
			for range 5 {
				out = append(out, nth(p, bits-p.Bits(), random.IntN(1<<(bits-p.Bits()))))
			}
		}
	}
	return out
}

// size is the number of addresses of a range.
func size(p netip.Prefix) int { return 1 << (32 - p.Bits()) }

// holds checks everything that is said of a plan.
func holds(t *testing.T, p Plan) {
	t.Helper()
	a := p.Addresses()
	require.NoError(t, a.Validate(zones.AWS(zones.Options{})), "the zones' ranges are disjoint and complete")
	var subnets []netip.Prefix
	for _, tier := range p.Tiers() {
		list := p.Subnets(tier)
		require.Len(t, list, len(p.Zones))
		for i, az := range p.Zones {
			s := p.Subnet(tier, az)
			require.Equal(t, list[i], s)
			require.Equal(t, s, s.Masked())
			require.True(t, s.Bits() >= 16 && s.Bits() <= 28, "AWS has no subnet of %d bits", s.Bits())
			require.True(t, within(p.VPC, s), "%s in %s", s, p.VPC)
			for zone, whole := range a {
				inside := tier == TierOf(zone) || tier == Public && zone == zones.DMZ
				require.Equal(t, inside, within(whole, s), "%s %s in %s", tier, s, zone)
				require.Equal(t, inside, whole.Overlaps(s), "%s %s and %s", tier, s, zone)
			}
			for _, other := range subnets {
				require.False(t, s.Overlaps(other), "%s %s and %s", tier, s, other)
			}
			subnets = append(subnets, s)
		}
	}
	require.LessOrEqual(t, p.Subnets(Public)[0].Bits(), 27, "an Application Load Balancer needs it")
	for _, zone := range a.zones() {
		require.GreaterOrEqual(t, size(p.Subnets(TierOf(zone))[0]), 64)
	}
	require.Len(t, join([]netip.Prefix{a[zones.DMZ], a[zones.Application]}), 1)
	require.Len(t, join([]netip.Prefix{a[zones.Management], a[zones.Platform]}), 1)
	require.Len(t, join([]netip.Prefix{a[zones.Data], a[zones.Management], a[zones.Platform]}), 1)
	all := []netip.Prefix{}
	for _, zone := range a.zones() {
		all = append(all, a[zone])
	}
	require.Len(t, join(all), 1)
}

func within(outer, inner netip.Prefix) bool {
	return inner.Bits() >= outer.Bits() && outer.Contains(inner.Addr())
}

func TestPlanHolds(t *testing.T) {
	for _, vpc := range examples() {
		for n := minAZs; n <= maxAZs; n++ {
			holds(t, plan(t, vpc.String(), azs[:n]...))
		}
	}
}

func TestPlanIsStable(t *testing.T) {
	for _, vpc := range examples() {
		before, after := plan(t, vpc.String(), azs[:3]...), plan(t, vpc.String(), azs...)
		require.Equal(t, before.Addresses(), after.Addresses())
		for _, tier := range before.Tiers() {
			require.Equal(t, before.Subnets(tier), after.Subnets(tier)[:3])
		}
	}
	// What is deployed must not move with a change of this package either.
	p := plan(t, "10.0.0.0/16", azs[:3]...)
	var text strings.Builder
	for _, tier := range p.Tiers() {
		fmt.Fprintln(&text, tier, p.Subnets(tier))
	}
	require.Equal(t, `dmz [10.0.0.0/22 10.0.4.0/22 10.0.8.0/22]
application [10.0.32.0/21 10.0.40.0/21 10.0.48.0/21]
data [10.0.64.0/21 10.0.72.0/21 10.0.80.0/21]
management [10.0.96.0/22 10.0.100.0/22 10.0.104.0/22]
platform [10.0.112.0/22 10.0.116.0/22 10.0.120.0/22]
public [10.0.16.0/23 10.0.18.0/23 10.0.20.0/23]
firewall [10.0.255.192/28 10.0.255.208/28 10.0.255.224/28]
`, text.String())
	require.Equal(t, "eu-central-1", p.Region())
}

func TestPlanIsOfNothingElse(t *testing.T) {
	p := plan(t, "10.0.0.0/16", azs[:3]...)
	require.False(t, p.Subnet("cellar", azs[0]).IsValid())
	require.False(t, p.Subnet(Public, azs[3]).IsValid())
	require.False(t, p.Subnet(TierOf(zones.Internet), azs[0]).IsValid())
	require.Empty(t, p.Subnets("cellar"))
	require.Empty(t, Plan{}.Subnets(Public))
	require.Empty(t, Plan{}.Region())
	require.False(t, Plan{Zones: azs}.Subnet(Firewall, azs[0]).IsValid())
}

func TestBadPlansAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		vpc  netip.Prefix
		azs  []string
		want []string
	}{
		"nothing":            {netip.Prefix{}, nil, []string{`vpc: "invalid Prefix"`, `availability zones: "[]" is not allowed: there must be 3 or 4`}},
		"too wide":           {prefix("10.0.0.0/15"), azs, []string{`vpc: "10.0.0.0/15" is not allowed: it must have 16 to 20 bits`}},
		"too narrow":         {prefix("10.0.0.0/21"), azs, []string{`vpc: "10.0.0.0/21" is not allowed: it must have 16 to 20 bits`}},
		"somebody's":         {prefix("8.8.0.0/16"), azs, []string{`vpc: "8.8.0.0/16" is not allowed: it must be part of`}},
		"no range":           {prefix("10.0.0.1/16"), azs, []string{`vpc: "10.0.0.1/16" is not allowed: it must be a range`}},
		"IPv6":               {prefix("fd00::/16"), azs, []string{`vpc: "fd00::/16" is not allowed: it must be a range of IPv4`}},
		"two zones":          {prefix("10.0.0.0/16"), azs[:2], []string{"there must be 3 or 4"}},
		"five zones":         {prefix("10.0.0.0/16"), append(slices.Clone(azs), "eu-central-1e"), []string{"there must be 3 or 4"}},
		"twice":              {prefix("10.0.0.0/16"), []string{azs[0], azs[1], azs[0]}, []string{`availability zones: "eu-central-1a" is not allowed: it is there twice`}},
		"identifier":         {prefix("10.0.0.0/16"), []string{azs[0], azs[1], "euc1-az3"}, []string{`availability zones: "euc1-az3" is not allowed`}},
		"two regions":        {prefix("10.0.0.0/16"), []string{azs[0], azs[1], "eu-west-1a"}, []string{`"eu-west-1a" is not allowed: all must be in the region of the first, eu-central-1`}},
		"local zone":         {prefix("10.0.0.0/16"), []string{"us-west-2a", "us-west-2b", "us-west-2-lax-1a"}, []string{`"us-west-2-lax-1a" is not allowed`}},
		"everything at once": {prefix("9.0.0.0/24"), []string{"x", "x"}, []string{"16 to 20 bits", "there must be 3 or 4", `"x" is not allowed`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewPlan(c.vpc, c.azs)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

// FuzzPlan holds that whatever is given, a plan is refused or holds, and that nothing panics.
func FuzzPlan(f *testing.F) {
	f.Add("10.0.0.0/16", "eu-central-1a eu-central-1b eu-central-1c")
	f.Add("192.168.16.0/20", "us-east-1a us-east-1b us-east-1c us-east-1f")
	f.Add("10.0.0.0/33", "")
	f.Fuzz(func(t *testing.T, vpc, names string) {
		parsed, _ := netip.ParsePrefix(vpc)
		p, err := NewPlan(parsed, strings.Fields(names))
		if err == nil {
			holds(t, p)
			return
		}
		for _, tier := range p.Tiers() {
			p.Subnets(tier)
		}
	})
}

// TestACLsFitAWS renders the ACLs and the groups of the model of AWS over plans of every size.
func TestACLsFitAWS(t *testing.T) {
	m := zones.AWS(zones.Options{})
	for _, vpc := range examples() {
		p := plan(t, vpc.String(), azs...)
		entries, err := p.ACLs(m)
		require.NoError(t, err)
		require.True(t, Permits(entries, zones.DMZ, Egress, host(zones.Internet), "tcp", 40000))
		for _, direction := range []Direction{Egress, Ingress} {
			for _, inside := range []netip.Addr{p.Subnet(Firewall, azs[0]).Addr(), nth(p.VPC, 1, 1).Addr()} {
				require.False(t, Permits(entries, zones.DMZ, direction, inside, "tcp", 1024), "%s is not the internet", inside)
			}
		}
		counts := map[string]int{}
		for _, e := range entries {
			counts[string(e.Zone)+" "+string(e.Direction)]++
		}
		for name, n := range counts {
			require.LessOrEqual(t, n, 12, "%s: there is room for flows to come", name)
		}
	}
}

// TestInspectedRulesNameSubnets holds that exactly the rules across the firewall name addresses, and those of the right subnets.
func TestInspectedRulesNameSubnets(t *testing.T) {
	m, p := zones.AWS(zones.Options{}), plan(t, "10.0.0.0/16", azs[:3]...)
	before := groups(t, m)
	after, err := Inspected(m, p, before)
	require.NoError(t, err)
	crossings := 0
	for _, r := range after {
		pair := fmt.Sprint(r.Group, r.Direction, r.Peer)
		switch pair {
		case "dmzegressapplication":
			crossings++
			require.Contains(t, p.Subnets(TierOf(zones.Application)), prefix(r.CIDR))
		case "applicationingressdmz":
			crossings++
			require.Contains(t, p.Subnets(TierOf(zones.DMZ)), prefix(r.CIDR))
		default:
			require.Equal(t, r.Peer == outside, r.CIDR == Internet, pair)
			require.Equal(t, r.Peer != outside, r.CIDR == "", pair)
		}
	}
	require.Equal(t, 6, crossings, "one for each subnet at each end")
	require.Len(t, after, len(before)+4)
	for _, end := range m.Resolve() {
		if end.To.Place == zones.OwnNode {
			continue
		}
		require.True(t, Allows(after, GroupOf(m, end.From), GroupOf(m, end.To), protocolOf(end.Port), end.Port.Number), end.Flow)
	}
	_, err = Inspected(spread(25), p, groups(t, spread(25)))
	require.ErrorContains(t, err, "security group application, ingress: 83 rules are not allowed: AWS allows 60")
	require.ErrorContains(t, err, "security group dmz, egress: ")
}
