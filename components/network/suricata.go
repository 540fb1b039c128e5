package network

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ephemos.dev/deploy/components/zones"
)

// Target is what evaluates the rules.
type Target string

const (
	// NetworkFirewall is AWS Network Firewall in strict order: it drops and passes, and knows no thresholds.
	NetworkFirewall Target = "network-firewall"
	// Sensor is a Suricata that gets a copy of the traffic: it alerts only, and counts.
	Sensor Target = "sensor"
)

// DefaultActions are the stateful default actions of a firewall policy that the rules are written for.
var DefaultActions = []string{"aws:drop_strict", "aws:alert_strict"}

// Limits of AWS Network Firewall (its developer guide, "Quotas" and the API reference of RuleVariables).
const (
	maxCapacity   = 30_000
	maxRulesBytes = 2_000_000
	maxRuleLength = 8_192
	maxVariable   = 32
	// reserve is the capacity that is left for flows to come: a rule group's capacity can never be changed.
	reserve = 200
	// maxNamed bounds the flows that a rule's metadata names, which keeps it within maxRuleLength.
	maxNamed = 40
)

// A Rule is one line of the rules.
type Rule struct {
	// Action is pass, drop or alert.
	Action string
	// Protocol is Suricata's name.
	Protocol string
	// From, FromPorts, To and ToPorts are in Suricata's notation: variables such as $DMZ, "any", and lists.
	From, FromPorts, To, ToPorts string
	// Message is for people.
	Message string
	// Options are those that decide whether a packet matches, in order, separated by "; ".
	Options string
	// Class is one of Suricata's class types. Empty for rules that pass.
	Class string
	// Metadata are pairs of a name and a value.
	Metadata [][2]string
	SID, Rev int
	// Flows are the model's flows that a passing rule is for.
	Flows []zones.Flow
}

// String returns the rule as Suricata reads it.
func (r Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s %s -> %s %s (msg:\"%s\"; ", r.Action, r.Protocol, r.From, r.FromPorts, r.To, r.ToPorts, r.Message)
	if r.Options != "" {
		fmt.Fprintf(&b, "%s; ", r.Options)
	}
	if r.Class != "" {
		fmt.Fprintf(&b, "classtype:%s; ", r.Class)
	}
	if len(r.Metadata) > 0 {
		pairs := make([]string, 0, len(r.Metadata))
		for _, m := range r.Metadata {
			pairs = append(pairs, m[0]+" "+m[1])
		}
		fmt.Fprintf(&b, "metadata:%s; ", strings.Join(pairs, ", "))
	}
	fmt.Fprintf(&b, "sid:%d; rev:%d;)", r.SID, r.Rev)
	return b.String()
}

// A RuleSet is rules in the order in which they are evaluated.
type RuleSet struct {
	Target Target
	Rules  []Rule
	// Zones are those whose address ranges the rules name as variables.
	Zones []zones.Zone
}

// Text returns the rules, one a line: RulesString of an AWS rule group, or a file of rules.
func (s RuleSet) Text() string {
	var b strings.Builder
	for _, r := range s.Rules {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

// Capacity is what to reserve for the rule group on AWS. It cannot be changed later, so there is room for more flows.
func (s RuleSet) Capacity() int { return min(maxCapacity, len(s.Rules)+reserve) }

// Variables returns the address ranges that the rules name: name without the dollar sign to ranges. On AWS these are the rule
// group's IP sets, for Suricata its address groups. The addresses must be valid.
func (s RuleSet) Variables(a Addresses) map[string][]string {
	sets := make(map[string][]string, len(s.Zones))
	for _, zone := range s.Zones {
		sets[variable(zone)] = []string{a[zone].String()}
	}
	return sets
}

// variable is the name of a zone's address range.
func variable(zone zones.Zone) string {
	return strings.ToUpper(strings.ReplaceAll(string(zone), "-", "_"))
}

var variableName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

// Rules renders the rules between the first and the second tier of the model, which must be valid. An error says what of the model
// cannot be rendered, and which limit the rules exceed.
func Rules(m zones.Model, target Target) (RuleSet, error) {
	if err := m.Validate(); err != nil {
		return RuleSet{}, fmt.Errorf("model: %w", err)
	}
	b := ruleBuilder{model: m, set: RuleSet{Target: target}}
	var problems []error
	if target != NetworkFirewall && target != Sensor {
		problems = append(problems, fmt.Errorf("target: %q is not allowed: it must be %s or %s", target, NetworkFirewall, Sensor))
	}
	for tier, zone := range map[int]*zones.Zone{1: &b.outer, 2: &b.inner} {
		var found []string
		for _, z := range m.Zones {
			if z.Class == zones.Tiered && z.Tier == tier {
				found, *zone = append(found, string(z.Zone)), z.Zone
			}
		}
		if len(found) != 1 {
			problems = append(problems, fmt.Errorf("zones: %q are not allowed: there must be exactly one zone of tier %d, for the firewall has two sides",
				strings.Join(found, " "), tier))
		}
	}
	for _, z := range m.Zones {
		if name := variable(z.Zone); z.Class != zones.Outside && (!variableName.MatchString(name) || len(name) > maxVariable) {
			problems = append(problems, fmt.Errorf("zone %s: %q is not allowed: as a variable of the firewall it must begin with a letter and have at most %d characters",
				z.Zone, name, maxVariable))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return RuleSet{}, err
	}
	b.ports()
	b.signatures()
	b.denials()
	if target == NetworkFirewall {
		b.passes()
	}
	return b.set, b.set.limits()
}

// limits reports what AWS would refuse.
func (s RuleSet) limits() error {
	var problems []error
	if len(s.Rules) > maxCapacity {
		problems = append(problems, fmt.Errorf("rules: %d are not allowed: a rule group has at most %d", len(s.Rules), maxCapacity))
	}
	if size := len(s.Text()); size > maxRulesBytes {
		problems = append(problems, fmt.Errorf("rules: %d bytes are not allowed: a rule group has at most %d", size, maxRulesBytes))
	}
	for _, r := range s.Rules {
		if size := len(r.String()); size > maxRuleLength {
			problems = append(problems, fmt.Errorf("rule %d: %d characters are not allowed: it may have %d", r.SID, size, maxRuleLength))
		}
	}
	return errors.Join(problems...)
}

// A ruleBuilder renders one RuleSet.
type ruleBuilder struct {
	model        zones.Model
	outer, inner zones.Zone
	// tcp and udp are the ports of the model's flows from outer to inner, sorted, and the flows of each.
	tcp, udp []int
	flows    map[zones.Protocol]map[int][]zones.Flow
	set      RuleSet
}

// ports collects the flows from the first to the second tier.
func (b *ruleBuilder) ports() {
	b.flows = map[zones.Protocol]map[int][]zones.Flow{zones.TCP: {}, zones.UDP: {}}
	for _, end := range b.model.Resolve() {
		if end.From.Zone != b.outer || end.To.Zone != b.inner {
			continue
		}
		flows := b.flows[end.Port.Protocol]
		if flows[end.Port.Number] == nil {
			if end.Port.Protocol == zones.UDP {
				b.udp = append(b.udp, end.Port.Number)
			} else {
				b.tcp = append(b.tcp, end.Port.Number)
			}
		}
		flows[end.Port.Number] = append(flows[end.Port.Number], end.Flow)
	}
	slices.Sort(b.tcp)
	slices.Sort(b.udp)
}

// add appends a rule. What drops only alerts where there is nothing to drop.
func (b *ruleBuilder) add(r Rule) {
	if b.set.Target == Sensor && r.Action == "drop" {
		r.Action = "alert"
	}
	b.set.Rules = append(b.set.Rules, r)
	for _, zone := range b.model.Zones {
		for _, end := range []string{r.From, r.To} {
			if slices.Contains(strings.FieldsFunc(end, func(c rune) bool { return c == '[' || c == ']' || c == ',' }), "$"+variable(zone.Zone)) &&
				!slices.Contains(b.set.Zones, zone.Zone) {
				b.set.Zones = append(b.set.Zones, zone.Zone)
			}
		}
	}
}

func (b *ruleBuilder) side(s side) string {
	switch s {
	case outer:
		return "$" + variable(b.outer)
	case inner:
		return "$" + variable(b.inner)
	case both:
		return "[$" + variable(b.outer) + ",$" + variable(b.inner) + "]"
	case anywhere:
	}
	return "any"
}

func (b *ruleBuilder) signatures() {
	for _, s := range catalogue {
		r := Rule{
			Action: "drop", Protocol: s.protocol, From: b.side(s.from), FromPorts: "any", To: b.side(s.to), ToPorts: "any",
			Message: "EPHEMOS " + s.msg, Options: s.options, Class: s.classtype, SID: s.sid, Rev: s.rev,
			Metadata: [][2]string{{"severity", s.severity}, {"zone_from", string(b.outer)}, {"zone_to", string(b.inner)}},
		}
		if s.alert {
			r.Action = "alert"
		}
		if s.threshold != "" {
			if b.set.Target != Sensor {
				continue
			}
			r.Options += "; threshold:" + s.threshold
			if s.protocol == "tcp" {
				r.ToPorts = except(b.tcp)
			}
		}
		if len(s.ports) > 0 {
			left := slices.DeleteFunc(slices.Clone(s.ports), func(p int) bool { return s.to == inner && slices.Contains(b.tcp, p) })
			if len(left) == 0 {
				continue
			}
			r.ToPorts = list(left)
		}
		b.add(r)
	}
}

// Identifiers of denials and of what passes (doc.go).
const (
	sidClientGreeting = 1001001
	sidServerGreeting = 1001002
	sidNotTLS         = 1001003
	sidTCP            = 1001004
	sidUDP            = 1001005
	sidICMPLow        = 1001006
	sidICMPHigh       = 1001007
	sidBackTCP        = 1001008
	sidBackUDP        = 1001009
	sidMarkClient     = 1001010
	sidMarkServer     = 1001011
	sidZone           = 1001100
	maxZones          = 900

	sidToServer, sidFromServer       = 1100000, 1200000
	sidToServerUDP, sidFromServerUDP = 1300000, 1400000
	sidErrorsIn, sidErrorsOut        = 1500001, 1500002
)

// Marks of a connection, within the rules.
const (
	markClient = "ephemos.client"
	markServer = "ephemos.server"
)

// denials name what is refused. What they leave, other protocols, is refused by the policy's default action.
func (b *ruleBuilder) denials() {
	from, to := "$"+variable(b.outer), "$"+variable(b.inner)
	deny := func(sid int, protocol, source, target, ports, message, options, class string, toZone zones.Zone) {
		zone := b.outer
		if source == to {
			zone = b.inner
		}
		b.add(Rule{
			Action: "drop", Protocol: protocol, From: source, FromPorts: "any", To: target, ToPorts: ports,
			Message: "EPHEMOS " + message, Options: options, Class: class, SID: sid, Rev: 1,
			Metadata: [][2]string{{"severity", "medium"}, {"zone_from", string(zone)}, {"zone_to", string(toZone)}},
		})
	}
	const refused = "policy-violation"
	if len(b.tcp) > 0 {
		b.greetings(from, to)
		deny(sidNotTLS, "tcp", from, to, list(b.tcp), "something else than TLS where mutual TLS is required",
			"flow:to_server,established; app-layer-protocol:!tls", refused, b.inner)
	}
	deny(sidTCP, "tcp", from, to, except(b.tcp), "TCP port that no flow of the model has", "flow:to_server", refused, b.inner)
	deny(sidUDP, "udp", from, to, except(b.udp), "UDP port that no flow of the model has", "flow:to_server", refused, b.inner)
	deny(sidICMPLow, "icmp", from, to, "any", "ICMP that reports no error", "itype:<3", refused, b.inner)
	deny(sidICMPHigh, "icmp", from, to, "any", "ICMP that reports no error", "itype:>3", refused, b.inner)
	deny(sidBackTCP, "tcp", to, from, "any", "connection back to the outer tier", "flow:to_server", refused, b.outer)
	deny(sidBackUDP, "udp", to, from, "any", "datagram back to the outer tier", "flow:to_server", refused, b.outer)
	for i, z := range b.model.Zones {
		if (z.Class == zones.Tiered && z.Tier > 2 || z.Class == zones.Managing) && i < maxZones {
			deny(sidZone+i, "ip", from, "$"+variable(z.Zone), "any", "attempt to get from "+string(b.outer)+" into "+string(z.Zone),
				"flow:to_server", "attempted-admin", z.Zone)
		}
	}
}

// greetings refuse what does not begin with TLS on the ports of flows, which are mutual TLS all: the model's validation sees to that.
// The first bytes of each side are marked when they are a greeting, or an alert of the server; bytes without a mark are refused. The
// engine's own detection of protocols, which has a rule too, says nothing of protocols that it does not know.
func (b *ruleBuilder) greetings(from, to string) {
	ports := list(b.tcp)
	for _, end := range []struct {
		from, fromPorts, to, toPorts string
		flow, greeting, mark, what   string
		sidMark, sidDeny             int
		fromZone, toZone             zones.Zone
	}{
		{from, "any", to, ports, "to_server", `content:"|16 03|"; startswith; content:"|01|"; offset:5; depth:1`, markClient, "client",
			sidMarkClient, sidClientGreeting, b.outer, b.inner},
		{to, ports, from, "any", "to_client", `content:"|03|"; offset:1; depth:1; byte_test:1,>=,0x15,0; byte_test:1,<=,0x16,0`, markServer, "server",
			sidMarkServer, sidServerGreeting, b.inner, b.outer},
	} {
		r := Rule{
			Action: "alert", Protocol: "tcp", From: end.from, FromPorts: end.fromPorts, To: end.to, ToPorts: end.toPorts,
			Message: "EPHEMOS " + end.what + " begins TLS", SID: end.sidMark, Rev: 1,
			Options: "flow:" + end.flow + ",established; " + end.greeting + "; flowbits:set," + end.mark + "; noalert",
		}
		b.add(r)
		r.Action, r.SID, r.Class = "drop", end.sidDeny, "policy-violation"
		r.Message = "EPHEMOS " + end.what + " does not begin with TLS where mutual TLS is required"
		r.Options = "flow:" + end.flow + ",established; dsize:>0; flowbits:isnotset," + end.mark
		r.Metadata = [][2]string{{"severity", "medium"}, {"zone_from", string(end.fromZone)}, {"zone_to", string(end.toZone)}}
		b.add(r)
	}
}

// passes are what the model's flows need.
func (b *ruleBuilder) passes() {
	from, to := "$"+variable(b.outer), "$"+variable(b.inner)
	for _, c := range []struct {
		protocol       zones.Protocol
		ports          []int
		there, andBack int
	}{{zones.TCP, b.tcp, sidToServer, sidFromServer}, {zones.UDP, b.udp, sidToServerUDP, sidFromServerUDP}} {
		name := strings.ToLower(string(c.protocol))
		for _, port := range c.ports {
			flows := b.flows[c.protocol][port]
			metadata := [][2]string{{"zone_from", string(b.outer)}, {"zone_to", string(b.inner)}}
			for _, f := range flows[:min(len(flows), maxNamed)] {
				metadata = append(metadata, [2]string{"flow", f.From + "/" + f.To + "/" + f.Port})
			}
			b.add(Rule{
				Action: "pass", Protocol: name, From: from, FromPorts: "any", To: to, ToPorts: strconv.Itoa(port),
				Message: fmt.Sprintf("EPHEMOS %s to %s, %s %d", b.outer, b.inner, c.protocol, port), Options: "flow:to_server",
				SID: c.there + port, Rev: 1, Metadata: metadata, Flows: flows,
			})
			b.add(Rule{
				Action: "pass", Protocol: name, From: to, FromPorts: strconv.Itoa(port), To: from, ToPorts: "any",
				Message: fmt.Sprintf("EPHEMOS answers of %s to %s, %s %d", b.inner, b.outer, c.protocol, port), Options: "flow:to_client",
				SID: c.andBack + port, Rev: 1, Metadata: metadata, Flows: flows,
			})
		}
	}
	if len(b.tcp)+len(b.udp) == 0 {
		return
	}
	// Without "fragmentation needed" the ends never agree on a size of packets.
	b.add(Rule{Action: "pass", Protocol: "icmp", From: from, FromPorts: "any", To: to, ToPorts: "any",
		Message: "EPHEMOS unreachable, and fragmentation needed", Options: "itype:3", SID: sidErrorsIn, Rev: 1})
	b.add(Rule{Action: "pass", Protocol: "icmp", From: to, FromPorts: "any", To: from, ToPorts: "any",
		Message: "EPHEMOS unreachable, and fragmentation needed", Options: "itype:3", SID: sidErrorsOut, Rev: 1})
}

// list is a list of ports in Suricata's notation.
func list(ports []int) string {
	texts := make([]string, 0, len(ports))
	for _, p := range ports {
		texts = append(texts, strconv.Itoa(p))
	}
	return "[" + strings.Join(texts, ",") + "]"
}

// except is every port but these.
func except(ports []int) string {
	if len(ports) == 0 {
		return "any"
	}
	return "!" + list(ports)
}
