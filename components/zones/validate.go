package zones

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// DefaultDeny is the name of what denies everything in a namespace, which no role may have.
const DefaultDeny = "default-deny"

var (
	// label is a DNS label (RFC 1123). Names become parts of Kubernetes' and AWS' names, whence the length.
	label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$`)
	// labelKey and labelValue are Kubernetes'.
	labelKey   = regexp.MustCompile(`^([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$`)
	// spiffePath follows the SPIFFE ID specification, section 2.2. Segments of dots alone it forbids are not written by anybody here.
	spiffePath = regexp.MustCompile(`^(/[-_.A-Za-z0-9]*[-_A-Za-z0-9][-_.A-Za-z0-9]*)+$`)
)

// conflict says whether no pod can have both sets of labels.
func conflict(a, b map[string]string) bool {
	for key, value := range a {
		if other, both := b[key]; both && other != value {
			return true
		}
	}
	return false
}

// Validate checks the model as a whole and returns every error at once, each naming the zone, role or flow.
//
// The rules of the architecture: everything not allowed is denied. A connection between tiers goes one tier deeper and is a
// request by mutual TLS; it never skips a tier, nor goes back. Management requests of a tier by mutual TLS as well, but for services of
// the cloud that know their callers otherwise. The outside reaches the first tier only, with requests. Into a
// managing zone lead agents and metrics only, and Kubernetes' own control. No zone reaches the internet unless it says why.
// Plaintext is for probes, metrics, names and what operators read, never for requests. A pod has one role, an identity one role.
// Ports of nodes are for load balancers of their zone, and the cloud's API is for management and the platform.
// Each flow has a reason.
func (m Model) Validate() error {
	v := validator{roles: map[string]Role{}, zones: map[Zone]ZoneSpec{}, namespaces: map[string]Zone{}, paths: map[string]string{}}
	if len(m.Zones) == 0 {
		v.fail("the model has no zones")
	}
	for _, z := range m.Zones {
		v.zone(z)
	}
	for _, n := range m.Namespaces {
		v.namespace(n)
	}
	for i, r := range m.Roles {
		v.role(r, m.Roles[:i])
	}
	seen := map[string]bool{}
	for _, f := range m.Flows {
		if seen[f.String()] {
			v.fail("flow %s: it is there twice", f)
		}
		seen[f.String()] = true
		v.flow(f)
	}
	v.deliveries(m.Flows)
	return errors.Join(v.errs...)
}

type validator struct {
	zones      map[Zone]ZoneSpec
	namespaces map[string]Zone
	roles      map[string]Role
	paths      map[string]string // SPIFFE path to role
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

func (v *validator) role(r Role, earlier []Role) {
	if !label.MatchString(r.Name) || r.Name == DefaultDeny {
		v.fail("role %q: its name must be a DNS label of at most 50 characters, other than %s", r.Name, DefaultDeny)
	}
	if _, twice := v.roles[r.Name]; twice {
		v.fail("role %s: it is there twice", r.Name)
	}
	v.roles[r.Name] = r
	zone, ok := v.zones[r.Zone]
	if !ok {
		v.fail("role %s: zone %q is not one of the model's", r.Name, r.Zone)
	}
	v.place(r, zone, earlier)
	names, numbers := map[string]bool{}, map[string]bool{}
	for _, p := range r.Ports {
		number := fmt.Sprintf("%d/%s", p.Number, cmp.Or(p.Protocol, TCP))
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
	if r.SPIFFEPath == "" {
		return
	}
	if !spiffePath.MatchString(r.SPIFFEPath) {
		v.fail("role %s: SPIFFE path %q is not allowed: it must be segments of letters, digits, dots, dashes and underscores, each after a slash", r.Name, r.SPIFFEPath)
	}
	if other, taken := v.paths[r.SPIFFEPath]; taken {
		v.fail("role %s: SPIFFE path %q is that of role %s", r.Name, r.SPIFFEPath, other)
	}
	v.paths[r.SPIFFEPath] = r.Name
}

func (v *validator) place(r Role, zone ZoneSpec, earlier []Role) {
	switch r.Place {
	case Pods:
		if r.Namespace == "" || len(r.Labels) == 0 {
			v.fail("role %s: pods are found by a namespace and labels", r.Name)
		}
		for _, other := range earlier {
			if other.Place == Pods && other.Namespace == r.Namespace && !conflict(other.Labels, r.Labels) {
				v.fail("role %s: a pod could be its and role %s's: their labels differ in no value", r.Name, other.Name)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(r.Labels)) {
			if !labelKey.MatchString(key) || !labelValue.MatchString(r.Labels[key]) {
				v.fail("role %s: label %q is not allowed: it must be a Kubernetes label with a value", r.Name, key+"="+r.Labels[key])
			}
		}
		home, ours := v.namespaces[r.Namespace]
		switch {
		case !ours && zone.Class != Underlying:
			v.fail("role %s: namespace %q is not one of the model's, which only roles of an underlying zone may be in", r.Name, r.Namespace)
		case ours && home != r.Zone && r.Apart == "":
			v.fail("role %s: it is of zone %s, its namespace %s of zone %s: move it, or say why it is apart", r.Name, r.Zone, r.Namespace, home)
		case ours && home != r.Zone && v.zones[home].Class != Managing:
			v.fail("role %s: it is of zone %s, and apart only a managing zone's namespace may hold it, not %s", r.Name, r.Zone, r.Namespace)
		}
	case Nodes, APIServer, Managed, NodePorts, OwnNode, Elsewhere:
		if r.Namespace != "" || len(r.Labels) > 0 {
			v.fail("role %s: only pods have a namespace and labels", r.Name)
		}
		if (r.Place == Elsewhere) != (zone.Class == Outside) {
			v.fail("role %s: place %q is not allowed in zone %s", r.Name, r.Place, r.Zone)
		}
	default:
		v.fail("role %s: place %q is not allowed: it must be %s", r.Name, r.Place, oneOf(places))
	}
	v.special(r, zone, earlier)
}

// special checks what only some places have.
func (v *validator) special(r Role, zone ZoneSpec, earlier []Role) {
	if r.Place != Managed && (r.Group != "" || r.Authentication != "") {
		v.fail("role %s: only what is %s has a group or an authentication of its own", r.Name, Managed)
	}
	if r.Place != OwnNode && r.Address != "" {
		v.fail("role %s: only what is on its caller's %s has an address", r.Name, OwnNode)
	}
	if (r.Place == Managed || r.Place == NodePorts || r.Place == OwnNode) && r.SPIFFEPath != "" {
		v.fail("role %s: SPIFFE path %q is not allowed: what is in place %q has no identity of the deployment", r.Name, r.SPIFFEPath, r.Place)
	}
	switch r.Place {
	case Managed:
		if r.Group == "" {
			return
		}
		if !label.MatchString(r.Group) {
			v.fail("role %s: group %q is not allowed: it must be a DNS label of at most 50 characters", r.Name, r.Group)
		}
		if _, taken := v.zones[Zone(r.Group)]; taken {
			v.fail("role %s: group %q is not allowed: it is a zone's", r.Name, r.Group)
		}
		for _, other := range earlier {
			if other.Group == r.Group {
				v.fail("role %s: group %q is that of role %s", r.Name, r.Group, other.Name)
			}
		}
	case NodePorts:
		if zone.Class == Underlying {
			v.fail("role %s: place %q is not allowed in zone %s: its nodes run no pods of the deployment", r.Name, r.Place, r.Zone)
		}
		for _, p := range r.Ports {
			if p.Number < firstNodePort || p.Number > lastNodePort {
				v.fail("role %s: port %s: %d is not allowed: Kubernetes takes ports of nodes from %d to %d", r.Name, p.Name, p.Number, firstNodePort, lastNodePort)
			}
		}
	case OwnNode:
		if a, err := netip.ParseAddr(r.Address); err != nil || !a.Is4() || !a.IsLinkLocalUnicast() {
			v.fail("role %s: address %q is not allowed: it must be a link-local one of IPv4, which is never routed", r.Name, r.Address)
		}
	case Pods, Nodes, APIServer, Elsewhere:
	}
}

// Kubernetes' default range of ports of nodes (kube-apiserver, --service-node-port-range).
const firstNodePort, lastNodePort = 30000, 32767

// oneOf lists what is allowed.
func oneOf[T ~string](allowed []T) string {
	texts := make([]string, len(allowed))
	for i, a := range allowed {
		texts[i] = string(a)
	}
	last := len(texts) - 1
	return strings.Join(texts[:last], ", ") + " or " + texts[last]
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
	case Request, Identity, Delivery:
		if port.Protection == Plain {
			v.fail("flow %s: port %d is plaintext, which a %s must not be", f, port.Number, f.Kind)
		}
	case Metrics, Control, Naming:
	default:
		v.fail("flow %s: kind %q is not allowed: it must be %s", f, f.Kind, oneOf(kinds))
	}
	if f.MTLS && port.Protection != MTLS {
		v.fail("flow %s: it requires mutual TLS, and port %d is %s", f, port.Number, port.Protection)
	}
	if !f.MTLS && port.Protection == MTLS {
		v.fail("flow %s: port %d accepts mutual TLS only, so the flow requires it", f, port.Number)
	}
	if f.Kind == Control && from.Place == Nodes && to.Place == Pods && v.namespaces[to.Namespace] != "" {
		v.fail("flow %s: nodes reach their own pods without a flow, and others' pods not as %s", f, f.Kind)
	}
	if f.Kind == Request && !f.MTLS && v.zones[from.Zone].Class == Managing && v.zones[to.Zone].Class == Tiered && to.Authentication == "" {
		v.fail("flow %s: from %s to %s mutual TLS is required", f, from.Zone, to.Zone)
	}
	if err := v.ends(from, to, f); err != nil {
		v.fail("flow %s: %w", f, err)
	}
	if err := Crossing(v.zones[from.Zone], v.zones[to.Zone], f); err != nil {
		v.fail("flow %s: %w", f, err)
	}
}

// ends says why the places of two roles do not allow a flow between them.
func (v *validator) ends(from, to Role, f Flow) error {
	switch {
	case from.Place == NodePorts || from.Place == OwnNode:
		return fmt.Errorf("nothing comes from %s", from.Place)
	case from.Place == Managed && from.Zone != to.Zone:
		return fmt.Errorf("what is %s opens connections within its zone only, not from %s to %s", Managed, from.Zone, to.Zone)
	case (f.Kind == Delivery) != (to.Place == NodePorts):
		return fmt.Errorf("%s leads to %s and nothing else does", Delivery, NodePorts)
	case f.Kind == Delivery && from.Place != Managed:
		return fmt.Errorf("only a load balancer, which is %s, reaches %s", Managed, NodePorts)
	case to.Place == OwnNode && (from.Place != Pods || f.Kind != Control):
		return fmt.Errorf("what is on the caller's %s is reached by pods, as %s", OwnNode, Control)
	case to.Place == Managed && v.zones[to.Zone].Class == Underlying && v.zones[from.Zone].Class == Tiered:
		return fmt.Errorf("%s has no rights in the cloud that %s stands on", from.Zone, to.Zone)
	case to.Place == OwnNode && v.zones[from.Zone].Class == Tiered:
		return fmt.Errorf("%s has no rights that a program of its node would give it", from.Zone)
	}
	return nil
}

// deliveries checks that what a load balancer hands to ports of nodes arrives where it may: it has a flow of its own to pods of the
// zone, as well protected, for whatever is behind the ports.
func (v *validator) deliveries(all []Flow) {
	for _, f := range all {
		port, ok := v.roles[f.To].Port(f.Port)
		if f.Kind != Delivery || !ok {
			continue
		}
		if !slices.ContainsFunc(all, func(g Flow) bool {
			to := v.roles[g.To]
			behind, ok := to.Port(g.Port)
			return ok && g.From == f.From && to.Place == Pods && to.Zone == v.roles[f.To].Zone && behind.Protection == port.Protection &&
				(g.Kind == Request || g.Kind == Identity)
		}) {
			v.fail("flow %s: behind it there must be pods of %s to which %s has a flow, with %s", f, v.roles[f.To].Zone, f.From, port.Protection)
		}
	}
}

// Crossing says why a flow of that kind may not go from one zone to another. Kinds are bound to ends: what may go into a zone as
// control or metrics may not come from just anywhere, or a request would only have to call itself that.
func Crossing(from, to ZoneSpec, f Flow) error {
	switch {
	case to.Class == Outside && from.Internet == "":
		return fmt.Errorf("%s does not reach the internet", from.Zone)
	case to.Class == Outside:
		return nil
	case from.Class == Outside && (to.Class != Tiered || to.Tier != 1):
		return fmt.Errorf("from %s only the first tier is reached, not %s", from.Zone, to.Zone)
	case from.Class == Outside && f.Kind != Request:
		return fmt.Errorf("from %s come requests only, no %s", from.Zone, f.Kind)
	case f.Kind == Naming && to.Class != Underlying:
		return fmt.Errorf("%s answers no names", to.Zone)
	case f.Kind == Identity && to.Class != Managing:
		return fmt.Errorf("%s issues no identities", to.Zone)
	case f.Kind == Identity && from.Class == Tiered:
		return fmt.Errorf("%s has no agents: they are on the nodes", from.Zone)
	case from.Class == Tiered && to.Class == Tiered:
		return tiers(from, to, f)
	case from.Class == Tiered && to.Class == Managing && f.Kind != Metrics:
		return fmt.Errorf("%s is managing: from %s only metrics lead into it, no %s", to.Zone, from.Zone, f.Kind)
	case from.Class == Tiered && to.Class == Underlying && f.Kind == Request:
		return fmt.Errorf("%s takes no requests from %s", to.Zone, from.Zone)
	case from.Class == Tiered && to.Class == Underlying && f.Kind == Control && from.Tier == 1:
		return fmt.Errorf("%s, which the outside reaches, does not reach the control of %s", from.Zone, to.Zone)
	case from.Class == Underlying && f.Kind == Request:
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
	case f.Kind != Request:
		return fmt.Errorf("between %s and %s there are requests only, no %s", from.Zone, to.Zone, f.Kind)
	case !f.MTLS:
		return fmt.Errorf("between %s and %s mutual TLS is required", from.Zone, to.Zone)
	}
	return nil
}
