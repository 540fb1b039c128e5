package zones

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// label is a DNS label (RFC 1123). Names become parts of Kubernetes' and AWS' names, whence the length.
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$`)

// Validate checks the model as a whole and returns every error at once, each naming the zone, role or flow.
//
// The rules of the architecture: everything not allowed is denied. A connection between tiers goes one tier deeper and is
// mutual TLS; it never skips a tier, nor goes back. The outside reaches the first tier only. Into a managing zone lead
// agents and metrics only, and Kubernetes' own control. No zone reaches the internet unless it says why. Plaintext is for
// probes, metrics, names and what operators read, never for requests. Each flow has a reason.
func (m Model) Validate() error {
	v := validator{roles: map[string]Role{}, zones: map[Zone]ZoneSpec{}, namespaces: map[string]Zone{}}
	for _, z := range m.Zones {
		v.zone(z)
	}
	for _, n := range m.Namespaces {
		v.namespace(n)
	}
	selectors := map[string]string{}
	for _, r := range m.Roles {
		v.role(r, selectors)
	}
	seen := map[string]bool{}
	for _, f := range m.Flows {
		if seen[f.String()] {
			v.fail("flow %s: it is there twice", f)
		}
		seen[f.String()] = true
		v.flow(f)
	}
	return errors.Join(v.errs...)
}

type validator struct {
	zones      map[Zone]ZoneSpec
	namespaces map[string]Zone
	roles      map[string]Role
	errs       []error
}

func (v *validator) fail(format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf(format, args...))
}

func (v *validator) zone(z ZoneSpec) {
	if !label.MatchString(string(z.Zone)) {
		v.fail("zone %q: its name must be a DNS label of at most 50 characters", z.Zone)
	}
	if _, twice := v.zones[z.Zone]; twice {
		v.fail("zone %s: it is there twice", z.Zone)
	}
	v.zones[z.Zone] = z
	switch z.Class {
	case Tiered:
		if z.Tier < 1 {
			v.fail("zone %s: tier %d is not allowed: a tiered zone has a tier from 1", z.Zone, z.Tier)
		}
	case Managing, Underlying, Outside:
		if z.Tier != 0 {
			v.fail("zone %s: tier %d is not allowed: only tiered zones have one", z.Zone, z.Tier)
		}
	default:
		v.fail("zone %s: class %q is not allowed: it must be %s, %s, %s or %s", z.Zone, z.Class, Tiered, Managing, Underlying, Outside)
	}
	if z.Default != Deny {
		v.fail("zone %s: default %q is not allowed: what no flow allows is denied (%s)", z.Zone, z.Default, Deny)
	}
}

func (v *validator) namespace(n Namespace) {
	if !label.MatchString(n.Name) {
		v.fail("namespace %q: its name must be a DNS label of at most 50 characters", n.Name)
	}
	if _, twice := v.namespaces[n.Name]; twice {
		v.fail("namespace %s: it is there twice", n.Name)
	}
	v.namespaces[n.Name] = n.Zone
	if z, ok := v.zones[n.Zone]; !ok || z.Class == Outside || z.Class == Underlying {
		v.fail("namespace %s: zone %q is not allowed: it must be one of the deployment's", n.Name, n.Zone)
	}
}

func (v *validator) role(r Role, selectors map[string]string) {
	if !label.MatchString(r.Name) {
		v.fail("role %q: its name must be a DNS label of at most 50 characters", r.Name)
	}
	if _, twice := v.roles[r.Name]; twice {
		v.fail("role %s: it is there twice", r.Name)
	}
	v.roles[r.Name] = r
	zone, ok := v.zones[r.Zone]
	if !ok {
		v.fail("role %s: zone %q is not one of the model's", r.Name, r.Zone)
	}
	v.place(r, zone, selectors)
	names, numbers := map[string]bool{}, map[string]bool{}
	for _, p := range r.Ports {
		number := fmt.Sprintf("%d/%s", p.Number, p.Protocol)
		switch {
		case !label.MatchString(p.Name):
			v.fail("role %s: port %q: its name must be a DNS label", r.Name, p.Name)
		case names[p.Name] || numbers[number]:
			v.fail("role %s: port %s: it is there twice", r.Name, p.Name)
		}
		names[p.Name], numbers[number] = true, true
		if p.Number < 1 || p.Number > 65535 {
			v.fail("role %s: port %s: %d is not allowed: it must be from 1 to 65535", r.Name, p.Name, p.Number)
		}
		if p.Protocol != "" && p.Protocol != TCP && p.Protocol != UDP {
			v.fail("role %s: port %s: protocol %q is not allowed: it must be %s or %s", r.Name, p.Name, p.Protocol, TCP, UDP)
		}
		if p.Protection != MTLS && p.Protection != TLS && p.Protection != Plain {
			v.fail("role %s: port %s: protection %q is not allowed: it must be %s, %s or %s", r.Name, p.Name, p.Protection, MTLS, TLS, Plain)
		}
	}
	if r.SPIFFEPath != "" && !strings.HasPrefix(r.SPIFFEPath, "/") {
		v.fail("role %s: SPIFFE path %q is not allowed: it must begin with a slash", r.Name, r.SPIFFEPath)
	}
}

func (v *validator) place(r Role, zone ZoneSpec, selectors map[string]string) {
	switch r.Place {
	case Pods:
		if r.Namespace == "" || len(r.Labels) == 0 {
			v.fail("role %s: pods are found by a namespace and labels", r.Name)
		}
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(r.Labels)) {
			pairs = append(pairs, key+"="+r.Labels[key])
		}
		selector := r.Namespace + " " + strings.Join(pairs, ",")
		if other, taken := selectors[selector]; taken {
			v.fail("role %s: its pods are those of role %s", r.Name, other)
		}
		selectors[selector] = r.Name
		home, ours := v.namespaces[r.Namespace]
		switch {
		case !ours && zone.Class != Underlying:
			v.fail("role %s: namespace %q is not one of the model's, which only roles of an underlying zone may be in", r.Name, r.Namespace)
		case ours && home != r.Zone && r.Apart == "":
			v.fail("role %s: it is of zone %s, its namespace %s of zone %s: move it, or say why it is apart", r.Name, r.Zone, r.Namespace, home)
		}
	case Nodes, APIServer, Elsewhere:
		if r.Namespace != "" || len(r.Labels) > 0 {
			v.fail("role %s: only pods have a namespace and labels", r.Name)
		}
		if (r.Place == Elsewhere) != (zone.Class == Outside) {
			v.fail("role %s: place %q is not allowed in zone %s", r.Name, r.Place, r.Zone)
		}
	default:
		v.fail("role %s: place %q is not allowed: it must be %s, %s, %s or %s", r.Name, r.Place, Pods, Nodes, APIServer, Elsewhere)
	}
}

func (v *validator) flow(f Flow) {
	from, okFrom := v.roles[f.From]
	to, okTo := v.roles[f.To]
	if !okFrom {
		v.fail("flow %s: there is no role %q", f, f.From)
	}
	if !okTo {
		v.fail("flow %s: there is no role %q", f, f.To)
	}
	if strings.TrimSpace(f.Why) == "" {
		v.fail("flow %s: it needs a reason", f)
	}
	if !okFrom || !okTo {
		return
	}
	port, ok := to.Port(f.Port)
	if !ok {
		v.fail("flow %s: %s has no port %q", f, f.To, f.Port)
		return
	}
	switch f.Kind {
	case Request, Identity:
		if port.Protection == Plain {
			v.fail("flow %s: port %d is plaintext, which a %s must not be", f, port.Number, f.Kind)
		}
	case Metrics, Control, Naming:
	default:
		v.fail("flow %s: kind %q is not allowed: it must be %s, %s, %s, %s or %s", f, f.Kind, Request, Identity, Metrics, Control, Naming)
	}
	if f.MTLS && port.Protection != MTLS {
		v.fail("flow %s: it requires mutual TLS, and port %d is %s", f, port.Number, port.Protection)
	}
	if err := crossing(v.zones[from.Zone], v.zones[to.Zone], f); err != nil {
		v.fail("flow %s: %w", f, err)
	}
}

// crossing says why a flow may not go from one zone to another.
func crossing(from, to ZoneSpec, f Flow) error {
	switch {
	case to.Class == Outside && from.Internet == "":
		return fmt.Errorf("%s does not reach the internet", from.Zone)
	case to.Class == Outside:
		return nil
	case from.Class == Outside && (to.Class != Tiered || to.Tier != 1):
		return fmt.Errorf("from %s only the first tier is reached, not %s", from.Zone, to.Zone)
	case from.Class == Tiered && to.Class == Tiered:
		return tiers(from, to, f)
	case to.Class == Managing && from.Class == Tiered && f.Kind != Identity && f.Kind != Metrics:
		return fmt.Errorf("%s is managing: from %s only agents and metrics lead into it, no %s", to.Zone, from.Zone, f.Kind)
	case to.Class == Managing && from.Class == Underlying && f.Kind == Request:
		return fmt.Errorf("%s is managing: from %s only agents, metrics and control lead into it, no %s", to.Zone, from.Zone, f.Kind)
	case from.Class == Underlying && to.Class == Tiered && f.Kind == Request:
		return fmt.Errorf("%s makes no requests of its own to %s", from.Zone, to.Zone)
	}
	return nil
}

func tiers(from, to ZoneSpec, f Flow) error {
	switch {
	case from.Zone == to.Zone:
		return nil
	case to.Tier > from.Tier+1:
		return fmt.Errorf("from %s to %s it skips a tier", from.Zone, to.Zone)
	case to.Tier <= from.Tier:
		return fmt.Errorf("from %s to %s it goes no deeper", from.Zone, to.Zone)
	case !f.MTLS:
		return fmt.Errorf("between %s and %s mutual TLS is required", from.Zone, to.Zone)
	}
	return nil
}
