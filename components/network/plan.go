package network

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"

	"ephemos.dev/deploy/components/zones"
)

// Tier is a kind of subnets, one in each availability zone: those of a zone of the model, by the zone's name, or one of two that are
// no zones of their own.
type Tier string

const (
	// Public is the subnets with a way to the internet, for the edge's load balancer alone. They are part of the range of zones.DMZ.
	Public Tier = "public"
	// Firewall is the subnets of the firewall's endpoints. They are outside of every zone's range.
	Firewall Tier = "firewall"
)

// TierOf is the tier of a zone's own subnets.
func TierOf(zone zones.Zone) Tier { return Tier(zone) }

// Limits of a plan. A range of 20 bits gives the public subnets 27 bits, which is the least that AWS' Application Load Balancer
// takes. RDS and the SPIRE servers want three availability zones; the room for subnets is for four.
const (
	widest, narrowest = 16, 20
	minAZs, maxAZs    = 3, 4
)

// Plan is the addresses of a VPC: a range for each zone and a subnet for each tier in each availability zone. The lower half of the VPC
// is the zones', so that all of them join to one range, as do DMZ with application and management with platform. The upper half is
// left for zones to come, but for the firewall's subnets at its end. Of a VPC of 10.0.0.0/16:
//
//	10.0.0.0/19     dmz: subnets of 22 bits, public ones of 23 bits from 10.0.16.0 on, the last quarter is free
//	10.0.32.0/19    application: subnets of 21 bits
//	10.0.64.0/19    data: subnets of 21 bits
//	10.0.96.0/20    management: subnets of 22 bits
//	10.0.112.0/20   platform: subnets of 22 bits
//	10.0.255.192/26 firewall: subnets of 28 bits
//
// Each range has room for four availability zones: one that is added at the end of the list moves nothing.
type Plan struct {
	// VPC is the range of all, of 16 to 20 bits.
	VPC netip.Prefix
	// Zones are the names of the three or four availability zones, such as "eu-central-1a". Their order decides which subnet each gets.
	Zones []string
}

// layout is where the zones' ranges are: the index-th of those that have so many bits more than the VPC.
var layout = []struct {
	zone        zones.Zone
	bits, index int
}{
	{zones.DMZ, 3, 0}, {zones.Application, 3, 1}, {zones.Data, 3, 2}, {zones.Management, 4, 6}, {zones.Platform, 4, 7},
}

// firewallBits is the smallest subnet that AWS allows; an endpoint takes one address.
const firewallBits = 28

// NewPlan makes the plan. The error names everything that is not allowed.
func NewPlan(vpc netip.Prefix, azs []string) (Plan, error) {
	p := Plan{VPC: vpc, Zones: slices.Clone(azs)}
	return p, p.Validate()
}

// private are the ranges that are nobody's in the internet (RFC 1918 and RFC 6598).
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
}

// azPattern has the region as its first group. Local and wavelength zones, whose names have more parts, are not for this.
var azPattern = regexp.MustCompile(`^([a-z]{2}(?:-[a-z]+)+-[0-9])[a-z]$`)

// Validate reports everything that is wrong with the plan.
func (p Plan) Validate() error {
	var problems []error
	add := func(field string, value any, allowed string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: \"%v\" is not allowed: %s", field, value, fmt.Sprintf(allowed, args...)))
	}
	switch {
	case !p.VPC.IsValid() || !p.VPC.Addr().Is4() || p.VPC.Masked() != p.VPC:
		add("vpc", p.VPC, "it must be a range of IPv4 addresses, such as 10.0.0.0/16")
	case p.VPC.Bits() < widest || p.VPC.Bits() > narrowest:
		add("vpc", p.VPC, "it must have %d to %d bits", widest, narrowest)
	case !slices.ContainsFunc(private, func(r netip.Prefix) bool { return r.Overlaps(p.VPC) }):
		add("vpc", p.VPC, "it must be part of %v", private)
	}
	if len(p.Zones) < minAZs || len(p.Zones) > maxAZs {
		add("availability zones", p.Zones, "there must be %d or %d", minAZs, maxAZs)
	}
	region := ""
	for i, az := range p.Zones {
		match := azPattern.FindStringSubmatch(az)
		switch {
		case match == nil:
			add("availability zones", az, "it must be the name of one, such as eu-central-1a")
		case slices.Contains(p.Zones[:i], az):
			add("availability zones", az, "it is there twice")
		case region == "":
			region = match[1]
		case match[1] != region:
			add("availability zones", az, "all must be in the region of the first, %s", region)
		}
	}
	return errors.Join(problems...)
}

// Region is the region of the availability zones.
func (p Plan) Region() string {
	if len(p.Zones) > 0 {
		if match := azPattern.FindStringSubmatch(p.Zones[0]); match != nil {
			return match[1]
		}
	}
	return ""
}

// Tiers are all tiers, those of the zones first.
func (p Plan) Tiers() []Tier {
	tiers := make([]Tier, 0, len(layout)+2)
	for _, l := range layout {
		tiers = append(tiers, TierOf(l.zone))
	}
	return append(tiers, Public, Firewall)
}

// Addresses are the zones' ranges.
func (p Plan) Addresses() Addresses {
	a := make(Addresses, len(layout))
	for _, l := range layout {
		a[l.zone] = nth(p.VPC, l.bits, l.index)
	}
	return a
}

// Subnet is the subnet of a tier in an availability zone. It is no valid range when the plan has no such tier or availability zone.
func (p Plan) Subnet(t Tier, az string) netip.Prefix {
	i := slices.Index(p.Zones, az)
	if i < 0 {
		return netip.Prefix{}
	}
	a := p.Addresses()
	switch t {
	case Public:
		return nth(a[zones.DMZ], 4, 8+i)
	case Firewall:
		bits := firewallBits - p.VPC.Bits()
		return nth(p.VPC, bits, 1<<bits-maxAZs+i)
	case TierOf(zones.DMZ):
		return nth(a[zones.DMZ], 3, i)
	}
	if whole, ok := a[zones.Zone(t)]; ok {
		return nth(whole, 2, i)
	}
	return netip.Prefix{}
}

// Subnets are the subnets of a tier, in the order of the availability zones.
func (p Plan) Subnets(t Tier) []netip.Prefix {
	subnets := make([]netip.Prefix, 0, len(p.Zones))
	for _, az := range p.Zones {
		if s := p.Subnet(t, az); s.IsValid() {
			subnets = append(subnets, s)
		}
	}
	return subnets
}

// ACLs are the network ACLs of all of the plan's subnets. Those of the zones are as the function ACLs renders them, but that what takes
// the zones out of the internet takes all of the VPC out of it. The public subnets have the DMZ's. The firewall's, under its tier's
// name, let through what is between the zones on both of its sides: which of it passes, the firewall says, and the ACLs of those zones.
func (p Plan) ACLs(m zones.Model) ([]ACLEntry, error) {
	a := p.Addresses()
	entries, err := ACLs(m, a)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e ACLEntry) bool {
		// One is enough, as the zones' ranges are one after the other.
		return !e.Allow && e.CIDR.Addr() != p.VPC.Addr()
	})
	for i := range entries {
		if !entries[i].Allow {
			entries[i].CIDR = p.VPC
		}
	}
	for i, zone := range []zones.Zone{zones.DMZ, zones.Application} {
		for _, direction := range []Direction{Egress, Ingress} {
			entries = append(entries, ACLEntry{
				Zone: zones.Zone(Firewall), Direction: direction, Number: firstEntry + i*entryStep, Allow: true, Protocol: "-1", CIDR: a[zone],
				Why: []string{fmt.Sprintf("what the firewall inspects, at the side of %s", zone)},
			})
		}
	}
	return entries, nil
}

// nth is the index-th of the ranges within whole that have so many bits more. It is no valid range when there is none.
func nth(whole netip.Prefix, bits, index int) netip.Prefix {
	if !whole.IsValid() || !whole.Addr().Is4() || whole.Bits()+bits > 32 || index < 0 || index >= 1<<bits {
		return netip.Prefix{}
	}
	b := whole.Masked().Addr().As4()
	number := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	number += uint32(index) << (32 - whole.Bits() - bits)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number)}), whole.Bits()+bits)
}

// Inspected returns the rules with those between the first and the second tier, whose packets the firewall hands on, naming the other
// end by its subnets, one rule each: AWS takes a group as the other end only where nothing is in between
// (https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html, "Security group referencing"). Peer remains.
func Inspected(m zones.Model, p Plan, rules []GroupRule) ([]GroupRule, error) {
	tier := func(role string) (zones.Zone, int) {
		r, _ := m.Role(role)
		z, _ := m.Zone(r.Zone)
		if z.Class != zones.Tiered {
			return r.Zone, 0
		}
		return r.Zone, z.Tier
	}
	var out []GroupRule
	counts := map[string]int{}
	for _, r := range rules {
		var peer zones.Zone
		for _, f := range r.Flows {
			from, fromTier := tier(f.From)
			to, toTier := tier(f.To)
			if fromTier == 1 && toTier == 2 {
				peer = map[Direction]zones.Zone{Egress: to, Ingress: from}[r.Direction]
			}
		}
		if peer == "" {
			out = append(out, r)
			counts[fmt.Sprintf("%s, %s", r.Group, r.Direction)]++
			continue
		}
		for _, subnet := range p.Subnets(TierOf(peer)) {
			r.CIDR = subnet.String()
			out = append(out, r)
			counts[fmt.Sprintf("%s, %s", r.Group, r.Direction)]++
		}
	}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > maxGroupRules {
			problems = append(problems, fmt.Errorf("security group %s: %d rules are not allowed: AWS allows %d", name, counts[name], maxGroupRules))
		}
	}
	return out, errors.Join(problems...)
}
