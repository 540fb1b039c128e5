package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"ephemos.dev/deploy/components/zones"
)

// Addresses are the zones' address ranges, one for each zone but the internet. The subnets of a zone, in all availability zones, are
// within its range. Ranges that join to larger ones, such as the quarters of a VPC's, make fewer entries of network ACLs.
type Addresses map[zones.Zone]netip.Prefix

// Validate reports everything that is wrong with the ranges: one is missing, there for a zone that has none, not a range of IPv4, or
// overlaps another.
func (a Addresses) Validate(m zones.Model) error {
	var problems []error
	add := func(zone zones.Zone, value, allowed string) {
		problems = append(problems, fmt.Errorf("addresses.%s: %q is not allowed: %s", zone, value, allowed))
	}
	for _, z := range m.Zones {
		prefix, there := a[z.Zone]
		switch {
		case z.Class == zones.Outside && there:
			add(z.Zone, prefix.String(), "what is outside has no range")
		case z.Class == zones.Outside:
		case !there:
			add(z.Zone, "", "each zone needs a range")
		case !prefix.IsValid() || !prefix.Addr().Is4() || prefix.Masked() != prefix:
			add(z.Zone, prefix.String(), "it must be a range of IPv4 addresses, such as 10.0.0.0/18")
		}
	}
	for i, zone := range a.zones() {
		if _, ok := m.Zone(zone); !ok {
			add(zone, a[zone].String(), "the model has no such zone")
		}
		for _, other := range a.zones()[:i] {
			if a[zone].Overlaps(a[other]) {
				add(zone, a[zone].String(), fmt.Sprintf("it overlaps that of %s, %s", other, a[other]))
			}
		}
	}
	return errors.Join(problems...)
}

// zones returns the zones in the order of their names.
func (a Addresses) zones() []zones.Zone {
	names := make([]zones.Zone, 0, len(a))
	for zone := range a {
		names = append(names, zone)
	}
	slices.Sort(names)
	return names
}
