package main

import (
	"slices"

	"ephemos.dev/deploy/components/zones"
)

// A zoneModel answers questions about the model of the network zones.
type zoneModel struct {
	zones      map[zones.Zone]zones.ZoneSpec
	namespaces map[string]zones.Zone
	// roles are those of pods, the ones with more labels first.
	roles []zones.Role
	// shared are the roles of an address that several programs share.
	shared  map[Kind][]string
	allowed map[permission]bool

	underlying, outside zones.Zone
}

// A permission is a flow in the terms of a packet.
type permission struct {
	from, to, protocol string
	port               uint16
}

func newZoneModel(m zones.Model) *zoneModel {
	v := &zoneModel{
		zones: map[zones.Zone]zones.ZoneSpec{}, namespaces: map[string]zones.Zone{},
		shared: map[Kind][]string{}, allowed: map[permission]bool{},
	}
	for _, z := range m.Zones {
		v.zones[z.Zone] = z
		switch z.Class {
		case zones.Underlying:
			v.underlying = z.Zone
		case zones.Outside:
			v.outside = z.Zone
		case zones.Tiered, zones.Managing:
		}
	}
	for _, n := range m.Namespaces {
		v.namespaces[n.Name] = n.Zone
	}
	for _, r := range m.Roles {
		switch r.Place {
		case zones.Pods:
			v.roles = append(v.roles, r)
		case zones.Nodes, zones.APIServer:
			v.shared[KindNode] = append(v.shared[KindNode], r.Name)
		case zones.Elsewhere:
			v.shared[KindOutside] = append(v.shared[KindOutside], r.Name)
		}
	}
	slices.SortStableFunc(v.roles, func(a, b zones.Role) int { return len(b.Labels) - len(a.Labels) })
	for _, end := range m.Resolve() {
		v.allowed[permission{end.From.Name, end.To.Name, string(end.Port.Protocol), uint16(end.Port.Number)}] = true
	}
	return v
}

// pod returns the zone and the role of a pod. The zone is that of the role, else that of the namespace; both may be empty.
func (v *zoneModel) pod(namespace string, labels map[string]string) (zones.Zone, zones.Role) {
	for _, r := range v.roles {
		if r.Namespace == namespace && contains(labels, r.Labels) {
			return r.Zone, r
		}
	}
	return v.namespaces[namespace], zones.Role{}
}

func contains(labels, selector map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

// allows says whether the model has a flow between two ends.
func (v *zoneModel) allows(from, to Party, t target) bool {
	if !t.hasPorts() {
		return false
	}
	for _, f := range v.rolesOf(from) {
		for _, r := range v.rolesOf(to) {
			if v.allowed[permission{f, r, t.name(), t.port}] {
				return true
			}
		}
	}
	return false
}

// rolesOf returns the roles that an end may have.
func (v *zoneModel) rolesOf(p Party) []string {
	if p.Role != "" {
		return []string{p.Role}
	}
	return v.shared[p.Kind]
}

// The violations.
const (
	skipsTier     = "skips a tier"
	goesBack      = "goes back to an outer tier"
	entersManaged = "enters a managing zone"
	// entersPlatform is a pod that asks for more of the cluster than its role may.
	entersPlatform = "enters the platform"
	leavesCluster  = "reaches the internet"
	entersInside   = "enters from the internet behind the first tier"
)

// violation says what a request from one zone to the other breaks, or "": zones.Crossing decides, this puts it into a word. What
// comes from an underlying zone is left alone: there, kubelets and agents share the nodes' addresses, and the purpose of a packet
// cannot be told.
func (v *zoneModel) violation(from, to string) string {
	a, okA := v.zones[zones.Zone(from)]
	b, okB := v.zones[zones.Zone(to)]
	if !okA || !okB || a.Class == zones.Underlying || zones.Crossing(a, b, zones.Flow{Kind: zones.Request, MTLS: true}) == nil {
		return ""
	}
	switch {
	case b.Class == zones.Outside:
		return leavesCluster
	case a.Class == zones.Outside:
		return entersInside
	case b.Class == zones.Managing:
		return entersManaged
	case b.Class == zones.Underlying:
		return entersPlatform
	case b.Tier > a.Tier+1:
		return skipsTier
	}
	return goesBack
}

// severity of a violation.
func severityOf(violation string) Severity {
	if violation == entersManaged {
		return Critical
	}
	return High
}
