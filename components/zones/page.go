package zones

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Diagram draws the model in Mermaid's notation, in the form of the security architecture's "Network Security Zones": a box a
// zone, an arrow a pair of roles. Naming is left out: nearly everything asks DNS.
func (m Model) Diagram() string {
	var b strings.Builder
	b.WriteString("graph TB\n")
	for _, z := range m.Zones {
		roles := m.RolesIn(z.Zone)
		if len(roles) == 0 {
			continue
		}
		fmt.Fprintf(&b, "    subgraph %s[\"%s\"]\n", identifier(string(z.Zone)), z.Title)
		for _, r := range roles {
			fmt.Fprintf(&b, "        %s[\"%s\"]\n", identifier(r.Name), r.Title)
		}
		b.WriteString("    end\n")
	}
	b.WriteString("    subgraph controls[\"Security Controls\"]\n" +
		"        control-waf[\"Web Application Firewall\"]\n        control-firewall[\"Firewall\"]\n        control-ids[\"Intrusion Detection\"]\n    end\n" +
		"    control-firewall -.->|denied connections| control-ids\n")
	drawn := map[string]bool{}
	line := func(text string) {
		if !drawn[text] {
			drawn[text] = true
			b.WriteString("    " + text + "\n")
		}
	}
	for _, f := range m.Resolve() {
		if f.Flow.Kind == Naming {
			continue
		}
		from, to, arrow := identifier(f.From.Name), identifier(f.To.Name), " --> "
		if f.Port.Protection != Plain {
			arrow = " ---|" + string(f.Port.Protection) + "|"
		}
		fromZone, _ := m.Zone(f.From.Zone)
		toZone, _ := m.Zone(f.To.Zone)
		switch {
		case fromZone.Class == Outside:
			line(from + " ---|HTTPS|control-waf")
			line("control-waf --> " + to)
		case fromZone.Class == Tiered && fromZone.Tier == 1 && toZone.Class == Tiered && toZone.Tier == 2:
			line(from + arrow + "control-firewall")
			line("control-firewall --> " + to)
		default:
			line(from + arrow + to)
		}
	}
	for _, class := range classes {
		var members []string
		for _, r := range m.RolesIn(class.zone) {
			members = append(members, identifier(r.Name))
		}
		if len(members) > 0 {
			fmt.Fprintf(&b, "    classDef %s fill:%s\n    class %s %s\n", class.zone, class.colour, strings.Join(members, ","), class.zone)
		}
	}
	b.WriteString("    classDef security fill:#f3e5f5\n    class control-waf,control-firewall,control-ids security\n")
	return b.String()
}

// classes are the colours of the security architecture's diagram.
var classes = []struct {
	zone   Zone
	colour string
}{{DMZ, "#ffebee"}, {Application, "#e8f5e8"}, {Data, "#e1f5fe"}, {Management, "#fff3e0"}}

// identifier is a name that Mermaid takes for a node.
func identifier(name string) string { return "n-" + name }

// cloud says whether the model has services of a cloud, so that its network enforces it too.
func (m Model) cloud() bool {
	return slices.ContainsFunc(m.Roles, func(r Role) bool { return r.Place == Managed })
}

// Page is docs/zones.md or docs/zones-aws.md: the diagram, who may reach whom between zones, every flow, every role. The model must be
// valid.
func (m Model) Page() string {
	var b strings.Builder
	b.WriteString("# " + cmp.Or(m.Title, "Network zones") + "\n\n" +
		"Generated from `components/zones` by `go test ./components/zones -update`; a test compares it.\n\n")
	enforcement := byPolicies
	if m.cloud() {
		enforcement = byGroups
	}
	b.WriteString(enforcement + "Of the security architecture's boxes, Monitoring and Logging are not there yet, nor is a database that an " +
		"application reaches: Postgres here is the SPIRE servers'.\n\n")
	b.WriteString("```mermaid\n" + m.Diagram() + "```\n\n")
	m.matrix(&b)
	m.flows(&b)
	m.roles(&b)
	return b.String()
}

// What holds the model up: on a cluster of which only Kubernetes is known, and where the network of a cloud does as well.
const (
	byPolicies = "To and from the pods of the deployment's namespaces, what is not listed here is denied. A flow is a permission to open " +
		"connections; answers need none. Not limited are a node's connections to its own pods, which Kubernetes requires, and what " +
		"happens between the programs of the platform alone (column enforced).\n\n"
	byGroups = "What is not listed here is denied. A flow is a permission to open connections; answers need none. Security groups and " +
		"network ACLs enforce every flow whose packets leave a node, NetworkPolicies those to and from the pods of the deployment's " +
		"namespaces (column enforced). Not limited are a node's connections to its own pods, which Kubernetes requires, and what " +
		"happens within a node's own network. All nodes' programs share one security group: what one of them may reach, all may.\n\n"
)

// matrix shows, for each ordered pair of zones, the ports that are open from one to the other.
func (m Model) matrix(b *strings.Builder) {
	b.WriteString("## From zone to zone\n\nRows open connections to columns. Ports; `m` after one: mutual TLS only.\n\n| from \\ to |")
	for _, z := range m.Zones {
		fmt.Fprintf(b, " %s |", z.Title)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(m.Zones)) + "\n")
	cells := map[[2]Zone][]Port{}
	for _, f := range m.Resolve() {
		pair := [2]Zone{f.From.Zone, f.To.Zone}
		if p := f.Port; !slices.ContainsFunc(cells[pair], func(q Port) bool {
			return q.Number == p.Number && q.Protocol == p.Protocol && q.Protection == p.Protection
		}) {
			cells[pair] = append(cells[pair], p)
		}
	}
	for _, from := range m.Zones {
		fmt.Fprintf(b, "| **%s** |", from.Title)
		for _, to := range m.Zones {
			ports := cells[[2]Zone{from.Zone, to.Zone}]
			slices.SortFunc(ports, func(a, b Port) int {
				return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Protection, b.Protection))
			})
			var texts []string
			for _, p := range ports {
				text := fmt.Sprint(p.Number)
				if p.Protocol == UDP {
					text += "/udp"
				}
				if p.Protection == MTLS {
					text += " m"
				}
				texts = append(texts, text)
			}
			fmt.Fprintf(b, " %s |", cmp.Or(strings.Join(texts, ", "), "-"))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

func (m Model) flows(b *strings.Builder) {
	b.WriteString("## Flows\n\n| from | to | port | protection | kind | enforced | why |\n|---|---|---|---|---|---|---|\n")
	for _, f := range m.Resolve() {
		protection := string(f.Port.Protection)
		if f.Flow.MTLS {
			protection += ", required"
		}
		fmt.Fprintf(b, "| %s | %s | %d/%s | %s | %s | %s | %s |\n", f.From.Name, f.To.Name, f.Port.Number, strings.ToLower(string(f.Port.Protocol)),
			protection, f.Flow.Kind, m.enforced(f), cell(f.Flow.Why))
	}
	b.WriteString("\n")
}

// enforced says what holds others off from the flow's ports.
func (m Model) enforced(f End) string {
	policies := m.Ours(f.From.Namespace) || m.Ours(f.To.Namespace)
	switch {
	case m.cloud() && f.To.Place == OwnNode:
		return "policies"
	case m.cloud() && policies:
		return "groups, policies"
	case m.cloud():
		return "groups"
	case policies:
		return "yes"
	}
	return "no"
}

func (m Model) roles(b *strings.Builder) {
	b.WriteString("## Roles\n\n| role | title | zone | found by | SPIFFE ID path | ports |\n|---|---|---|---|---|---|\n")
	for _, r := range m.Roles {
		found := string(r.Place)
		switch r.Place {
		case Pods:
			found = "pods in " + r.Namespace
		case Managed:
			found = "security group " + cmp.Or(r.Group, string(r.Zone))
		case NodePorts:
			found = "ports of the zone's nodes"
		case OwnNode:
			found = r.Address + " on the caller's node"
		case Nodes, APIServer, Elsewhere:
		}
		if r.Authentication != "" {
			found += " (callers by " + r.Authentication + ")"
		}
		if r.Apart != "" {
			found += " (apart: " + r.Apart + ")"
		}
		var ports []string
		for _, p := range r.Ports {
			ports = append(ports, fmt.Sprintf("%s %d %s", p.Name, p.Number, p.Protection))
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", r.Name, cell(r.Title), r.Zone, cell(found), cmp.Or(r.SPIFFEPath, "-"),
			cmp.Or(strings.Join(ports, ", "), "-"))
	}
}

// cell keeps a text within its table cell.
func cell(text string) string { return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text) }
