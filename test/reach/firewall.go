package reach

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"ephemos.dev/deploy/test/graph"
)

// A firewall is one of AWS Network Firewall, with the rules that decide about whole connections.
type firewall struct {
	name string
	// policy is the name of the policy, which is the obstacle where no rule decides.
	policy string
	rules  []signature
	// strict says that what no rule passes is dropped.
	strict bool
}

// A signature is the header of a rule in Suricata's notation.
type signature struct {
	name, action, protocol string
	from, to               func(netip.Addr) bool
	fromPorts, toPorts     func(int) bool
	toServer, toClient     bool
}

// readFirewalls reads the firewalls of the VPC, their endpoints and rules.
func (r *reader) readFirewalls() {
	for _, res := range r.inVPC("aws:networkfirewall/firewall:Firewall") {
		policy := r.ids[inputs(res).text("firewallPolicyArn")]
		if policy == nil {
			r.fail(res, "its policy %q is not in the graph", inputs(res).text("firewallPolicyArn"))
			continue
		}
		f := r.policy(policy)
		f.name = res.Name
		byZone := map[string]*subnet{}
		for _, mapping := range inputs(res).objects("subnetMappings") {
			i := slices.IndexFunc(r.net.subnets, func(s *subnet) bool { return s.id == mapping.text("subnetId") })
			if i < 0 {
				r.fail(res, "its subnet %q is not in the VPC", mapping.text("subnetId"))
				continue
			}
			s := r.net.subnets[i]
			if byZone[s.zone] != nil {
				r.fail(res, "it has two subnets in %s", s.zone)
			}
			byZone[s.zone] = s
		}
		// What AWS answers names the endpoint of each availability zone, in no order.
		answer := resource.NewProperty(r.outs[res])
		statuses, _ := (&graph.Resource{Inputs: answer.ObjectValue()}).Object()["firewallStatuses"].([]any)
		for _, status := range statuses {
			m, _ := status.(map[string]any)
			for _, state := range object(m).objects("syncStates") {
				s := byZone[state.text("availabilityZone")]
				for _, attachment := range state.objects("attachments") {
					if s != nil {
						r.net.endpoints[attachment.text("endpointId")] = &endpoint{attachment.text("endpointId"), s, f}
					}
				}
			}
		}
	}
}

// policy reads a firewall policy with its rule groups.
func (r *reader) policy(res *graph.Resource) *firewall {
	f := &firewall{policy: res.Name}
	p := inputs(res).object("firewallPolicy")
	r.only(res, p, "statefulDefaultActions", "statefulEngineOptions", "statefulRuleGroupReferences", "statelessDefaultActions", "statelessFragmentDefaultActions",
		"policyVariables")
	for _, key := range []string{"statelessDefaultActions", "statelessFragmentDefaultActions"} {
		if got := p.texts(key); !slices.Equal(got, []string{"aws:forward_to_sfe"}) {
			r.fail(res, "%s %q is not understood", key, got)
		}
	}
	if order := p.object("statefulEngineOptions").text("ruleOrder"); order != "STRICT_ORDER" {
		r.fail(res, "the order %q is not understood", order)
	}
	for _, action := range p.texts("statefulDefaultActions") {
		switch action {
		case "aws:drop_strict":
			f.strict = true
		case "aws:alert_strict", "aws:alert_established":
		default:
			r.fail(res, "the default action %q is not understood", action)
		}
	}
	policyVariables := map[string][]string{}
	for _, v := range p.object("policyVariables").objects("ruleVariables") {
		policyVariables[v.text("key")] = v.object("ipSet").texts("definitions")
	}
	references := p.objects("statefulRuleGroupReferences")
	slices.SortStableFunc(references, func(a, b object) int { return cmp.Compare(a.number("priority"), b.number("priority")) })
	for _, reference := range references {
		r.only(res, reference, "priority", "resourceArn")
		rules := r.ids[reference.text("resourceArn")]
		if rules == nil {
			r.fail(res, "the rule group %q is not in the graph", reference.text("resourceArn"))
			continue
		}
		f.rules = append(f.rules, r.signatures(rules, policyVariables)...)
	}
	return f
}

// signatures reads a rule group.
func (r *reader) signatures(res *graph.Resource, policyVariables map[string][]string) []signature {
	in := inputs(res)
	if in.text("type") != "STATEFUL" {
		r.fail(res, "the type %q is not understood", in.text("type"))
	}
	definition := in.object("ruleGroup")
	r.only(res, definition, "rulesSource", "ruleVariables", "statefulRuleOptions")
	r.only(res, definition.object("rulesSource"), "rulesString")
	text := in.text("rules") + definition.object("rulesSource").text("rulesString")
	variables := map[string][]netip.Prefix{}
	define := func(key string, ranges []string) {
		for _, cidr := range ranges {
			variables[key] = append(variables[key], r.prefix(res, cidr))
		}
	}
	for key, ranges := range policyVariables {
		define(key, ranges)
	}
	for _, set := range definition.object("ruleVariables").objects("ipSets") {
		delete(variables, set.text("key"))
		define(set.text("key"), set.object("ipSet").texts("definitions"))
	}
	var out []signature
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, decides, err := parse(line, variables)
		if err != nil {
			r.fail(res, "%v: %s", err, line)
			continue
		}
		s.name = fmt.Sprintf("%s, %s", res.Name, s.name)
		if decides {
			out = append(out, s)
		}
	}
	return out
}

var (
	header  = regexp.MustCompile(`^(pass|drop|reject|alert) (\S+) (\S+) (\S+) -> (\S+) (\S+) \((.*)\)$`)
	quoted  = regexp.MustCompile(`"[^"]*"`)
	sidRule = regexp.MustCompile(`\bsid:(\d+);`)
)

// about are the options that say something of a rule, or of where in a connection a packet is.
var about = []string{"msg", "sid", "rev", "metadata", "classtype", "flow", "priority", "reference", "gid"}

// first are the flags that the first packet of every TCP connection has, with or without regard to those of ECN.
var first = []string{"S", "S,12", "S,CE"}

// parse reads one rule. decides says that it decides about a connection by its header, whatever the packets hold.
func parse(line string, variables map[string][]netip.Prefix) (s signature, decides bool, err error) {
	m := header.FindStringSubmatch(line)
	if m == nil {
		return s, false, fmt.Errorf("the rule is not understood")
	}
	s.action, s.protocol = m[1], m[2]
	if sid := sidRule.FindStringSubmatch(line); sid != nil {
		s.name = "rule " + sid[1]
	}
	if s.from, err = addresses(m[3], variables); err == nil {
		s.to, err = addresses(m[5], variables)
	}
	if err == nil {
		s.fromPorts, err = ports(m[4])
	}
	if err == nil {
		s.toPorts, err = ports(m[6])
	}
	if err != nil {
		return s, false, err
	}
	s.toServer, s.toClient = true, true
	decides = s.action != "alert" && (s.protocol == "tcp" || s.protocol == "udp" || s.protocol == "ip")
	for option := range strings.SplitSeq(quoted.ReplaceAllString(m[7], ""), ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(option), ":")
		if name == "flow" {
			s.toServer = !strings.Contains(value, "to_client") && !strings.Contains(value, "from_server")
			s.toClient = !strings.Contains(value, "to_server") && !strings.Contains(value, "from_client")
		}
		// A rule that drops the first packet of connections decides about them all.
		if name != "" && !slices.Contains(about, name) && (name != "flags" || !slices.Contains(first, value)) {
			decides = false
		}
	}
	return s, decides, nil
}

// list splits what is between brackets.
func list(text string) []string {
	return strings.Split(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), ",")
}

// addresses reads Suricata's notation of addresses: any, a variable, a range, a list of them, or all but one of these.
func addresses(text string, variables map[string][]netip.Prefix) (func(netip.Addr) bool, error) {
	if text == "any" {
		return func(netip.Addr) bool { return true }, nil
	}
	if rest, not := strings.CutPrefix(text, "!"); not {
		inner, err := addresses(rest, variables)
		return func(a netip.Addr) bool { return !inner(a) }, err
	}
	var prefixes []netip.Prefix
	for _, part := range list(text) {
		if name, variable := strings.CutPrefix(part, "$"); variable {
			defined, ok := variables[name]
			if !ok {
				return nil, fmt.Errorf("the variable %s is not defined", part)
			}
			prefixes = append(prefixes, defined...)
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("the address %q is not understood", part)
		}
		prefixes = append(prefixes, p)
	}
	return func(a netip.Addr) bool {
		return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
	}, nil
}

// ports reads Suricata's notation of ports.
func ports(text string) (func(int) bool, error) {
	if text == "any" {
		return func(int) bool { return true }, nil
	}
	if rest, not := strings.CutPrefix(text, "!"); not {
		inner, err := ports(rest)
		return func(p int) bool { return !inner(p) }, err
	}
	var spans [][2]int
	for _, part := range list(text) {
		low, high, isSpan := strings.Cut(part, ":")
		if !isSpan {
			high = low
		}
		from, err := strconv.Atoi(low)
		to, errTo := strconv.Atoi(high)
		if err != nil || errTo != nil {
			return nil, fmt.Errorf("the port %q is not understood", part)
		}
		spans = append(spans, [2]int{from, to})
	}
	return func(p int) bool {
		return slices.ContainsFunc(spans, func(s [2]int) bool { return s[0] <= p && p <= s[1] })
	}, nil
}

// passes says whether the firewall lets a packet of a connection through, and otherwise what drops it. answer says that it goes to
// the client.
func (f *firewall) passes(p packet, answer bool) (bool, string) {
	for _, s := range f.rules {
		if answer && !s.toClient || !answer && !s.toServer || s.protocol != "ip" && s.protocol != p.protocol ||
			!s.from(p.from) || !s.to(p.to) || !s.fromPorts(p.fromPort) || !s.toPorts(p.toPort) {
			continue
		}
		return s.action == "pass", s.name
	}
	return !f.strict, f.policy + ", default action"
}
