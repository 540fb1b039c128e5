package network

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/zones"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), text, "if the change is wanted, run go test with -update")
}

func TestRulesGolden(t *testing.T) {
	for _, target := range []Target{NetworkFirewall, Sensor} {
		golden(t, string(target)+".rules", rules(t, target).Text())
	}
}

// crossing are the flows from the first tier to the second.
func crossing(m zones.Model) (found []zones.Flow) {
	for _, end := range m.Resolve() {
		if end.From.Zone == zones.DMZ && end.To.Zone == zones.Application {
			found = append(found, end.Flow)
		}
	}
	return found
}

// withService is the standard model with one service more, in the way that a service is added: a role and its flows.
func withService() zones.Model {
	m := zones.Standard(zones.Options{}).Clone()
	m.Roles = append(m.Roles, zones.Role{
		Name: "invoice", Title: "Invoices", Zone: zones.Application, Place: zones.Pods, Namespace: zones.NamespaceServices,
		Labels: map[string]string{"app.kubernetes.io/name": "invoice"}, SPIFFEPath: "/workload/invoice-service",
		Ports: []zones.Port{{Name: "mtls", Number: 9443, Protection: zones.MTLS}},
	})
	m.Flows = append(m.Flows, zones.Flow{From: zones.APIGateway, To: "invoice", Port: "mtls", Kind: zones.Request, MTLS: true, Why: "the API offers invoices"})
	return m
}

// TestPassesAreTheModelsFlows holds that each flow between the two tiers has its passing rules, and that nothing else has any.
func TestPassesAreTheModelsFlows(t *testing.T) {
	for name, m := range map[string]zones.Model{"standard": zones.Standard(zones.Options{}), "one service more": withService()} {
		t.Run(name, func(t *testing.T) {
			set, err := Rules(m, NetworkFirewall)
			require.NoError(t, err)
			passed := map[string]int{}
			for _, r := range set.Rules {
				if r.Action != "pass" {
					require.Empty(t, r.Flows)
					continue
				}
				if r.Protocol == "icmp" {
					require.Empty(t, r.Flows)
					continue
				}
				require.Contains(t, r.Options, "flow:to_", "without it, the first packet would pass the whole connection unseen")
				for _, f := range r.Flows {
					passed[f.String()+" "+r.Options]++
				}
			}
			want := map[string]int{}
			for _, f := range crossing(m) {
				want[f.String()+" flow:to_server"], want[f.String()+" flow:to_client"] = 1, 1
			}
			require.NotEmpty(t, want)
			require.Equal(t, want, passed)
		})
	}
}

// TestFlowsComeAndGo adds a service and takes it away again.
func TestFlowsComeAndGo(t *testing.T) {
	without := rules(t, NetworkFirewall)
	with, err := Rules(withService(), NetworkFirewall)
	require.NoError(t, err)
	text, more := without.Text(), with.Text()
	require.NotContains(t, text, "9443")
	require.Contains(t, more, "pass tcp $DMZ any -> $APPLICATION 9443")
	require.Contains(t, more, "flow api-gateway/invoice/mtls")
	require.Contains(t, more, "drop tcp $DMZ any -> $APPLICATION ![8443,9443]")
	// What is not about the port has not changed, to the letter.
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.Contains(line, "8443]") {
			require.Contains(t, more, line)
		}
	}

	// Without any flow, nothing passes.
	m := zones.Standard(zones.Options{}).Clone()
	m.Flows = slices.DeleteFunc(m.Flows, func(f zones.Flow) bool { return slices.Contains(crossing(zones.Standard(zones.Options{})), f) })
	closed, err := Rules(m, NetworkFirewall)
	require.NoError(t, err)
	require.NotContains(t, closed.Text(), "pass ")
	require.Contains(t, closed.Text(), "drop tcp $DMZ any -> $APPLICATION any")
}

// TestSignatureOfAFlowsPort holds that a port that the model opens is not an attack any more.
func TestSignatureOfAFlowsPort(t *testing.T) {
	m := withService()
	m.Roles[len(m.Roles)-1].Ports[0].Number = 5432
	set, err := Rules(m, Sensor)
	require.NoError(t, err)
	i := slices.IndexFunc(set.Rules, func(r Rule) bool { return r.SID == 1000013 })
	require.NotContains(t, set.Rules[i].ToPorts, "5432")
	require.Contains(t, set.Rules[i].ToPorts, "3306")

	m.Roles[len(m.Roles)-1].Ports[0].Number = 3389
	set, err = Rules(m, Sensor)
	require.NoError(t, err)
	require.False(t, slices.ContainsFunc(set.Rules, func(r Rule) bool { return r.SID == 1000011 }), "RDP was its only port")
}

// Keywords that the rules for AWS may have. Its developer guide ("Limitations and caveats for stateful rules") refuses thresholds,
// datasets, IP reputation, files, Lua, and bits of hosts, pcre without a buffer, and priorities in strict order.
var permitted = []string{
	"msg", "flow", "content", "nocase", "offset", "depth", "startswith", "byte_test", "dsize", "bsize", "flags", "itype", "flowbits",
	"noalert", "app-layer-protocol", "http.uri", "http.uri.raw", "http.header", "http.request_body", "dns.query", "classtype", "metadata", "sid", "rev",
}

var keyword = regexp.MustCompile(`[ (]([a-z_.-]+)(?::(?:"[^"]*"|[^";])*)?;`)

func TestRulesAreForAWS(t *testing.T) {
	set := rules(t, NetworkFirewall)
	used, seen := map[string]bool{}, map[int]bool{}
	for _, r := range set.Rules {
		require.False(t, seen[r.SID], "%d is there twice", r.SID)
		seen[r.SID] = true
		require.True(t, r.SID >= 1000000 && r.SID <= 1999999, "%d is not for local use", r.SID)
		require.Positive(t, r.Rev)
		text := r.String()
		_, options, _ := strings.Cut(text, " (")
		for _, m := range keyword.FindAllStringSubmatch("("+options, -1) {
			used[m[1]] = true
			require.Contains(t, permitted, m[1], text)
		}
		require.NotRegexp(t, `[;"\\]`, r.Message)
	}
	for _, name := range []string{"msg", "content", "byte_test", "sid", "flowbits"} {
		require.True(t, used[name], "the test finds keywords: %s", name)
	}
	require.Less(t, len(set.Rules), set.Capacity())
	for name := range set.Variables(ranges) {
		require.Regexp(t, `^[A-Za-z][A-Za-z0-9_]{0,31}$`, name)
	}
}

func TestSensorOnlyAlerts(t *testing.T) {
	set := rules(t, Sensor)
	thresholds := 0
	for _, r := range set.Rules {
		require.Equal(t, "alert", r.Action)
		if strings.Contains(r.Options, "threshold:") {
			thresholds++
		}
	}
	require.Equal(t, 2, thresholds)
	for _, r := range rules(t, NetworkFirewall).Rules {
		require.True(t, r.Action == "pass" || slices.ContainsFunc(set.Rules, func(other Rule) bool { return other.SID == r.SID }), r.SID)
	}
}

// TestVariablesAreThoseOfTheRules holds that each variable in the text has a range, and each range a use.
func TestVariablesAreThoseOfTheRules(t *testing.T) {
	set := rules(t, NetworkFirewall)
	found := map[string]bool{}
	for _, name := range regexp.MustCompile(`\$([A-Z_]+)`).FindAllStringSubmatch(set.Text(), -1) {
		found[name[1]] = true
	}
	variables := set.Variables(ranges)
	require.Len(t, variables, len(found))
	for name := range found {
		require.Contains(t, variables, name)
	}
	require.Equal(t, []string{"10.0.64.0/18"}, variables["APPLICATION"])
}

func TestRulesRefuse(t *testing.T) {
	change := func(f func(*zones.Model)) zones.Model {
		m := zones.Standard(zones.Options{}).Clone()
		f(&m)
		return m
	}
	for _, c := range []struct {
		name   string
		model  zones.Model
		target Target
		want   string
	}{
		{"invalid model", change(func(m *zones.Model) { m.Flows[0].Why = "" }), Sensor, "clients -> web-gateway:https"},
		{"target", change(func(*zones.Model) {}), "router", `target: "router" is not allowed`},
		{"two outer zones", change(func(m *zones.Model) {
			m.Zones = append(m.Zones, zones.ZoneSpec{Zone: "dmz-two", Class: zones.Tiered, Tier: 1, Default: zones.Deny})
		}), Sensor, `zones: "dmz dmz-two" are not allowed`},
		{"no second tier", zones.Model{Zones: []zones.ZoneSpec{{Zone: "a", Class: zones.Tiered, Tier: 1, Default: zones.Deny}}}, Sensor, "zone of tier 2"},
		{"long name", change(func(m *zones.Model) {
			m.Zones = append(m.Zones, zones.ZoneSpec{Zone: zones.Zone(strings.Repeat("a", 33)), Class: zones.Tiered, Tier: 3, Default: zones.Deny})
		}), Sensor, "at most 32"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Rules(c.model, c.target)
			require.ErrorContains(t, err, c.want)
		})
	}
	var many RuleSet
	for i := range maxCapacity + 1 {
		many.Rules = append(many.Rules, Rule{SID: i, Message: strings.Repeat("x", 100)})
	}
	many.Rules[0].Message = strings.Repeat("x", maxRuleLength)
	err := many.limits()
	for _, part := range []string{"30001 are not allowed", "2000000", "rule 0: "} {
		require.ErrorContains(t, err, part)
	}
}

// TestManyFlowsStayWithinLimits renders a thousand flows between the two tiers.
func TestManyFlowsStayWithinLimits(t *testing.T) {
	m := withService()
	service := &m.Roles[len(m.Roles)-1]
	for i := range 1000 {
		name := fmt.Sprintf("p%d", i)
		service.Ports = append(service.Ports, zones.Port{Name: name, Number: 20000 + 2*i, Protection: zones.MTLS})
		m.Flows = append(m.Flows, zones.Flow{From: zones.APIGateway, To: "invoice", Port: name, Kind: zones.Request, MTLS: true, Why: "one of many"})
	}
	set, err := Rules(m, NetworkFirewall)
	require.NoError(t, err)
	require.Len(t, set.Rules, len(rules(t, NetworkFirewall).Rules)+2*1001)
}

func TestAddresses(t *testing.T) {
	m := zones.Standard(zones.Options{})
	require.NoError(t, ranges.Validate(m))
	bad := Addresses{
		zones.DMZ: prefix("10.0.0.0/18"), zones.Application: prefix("10.0.32.0/19"), zones.Data: prefix("10.0.128.1/18"),
		zones.Management: prefix("fd00::/64"), zones.Internet: prefix("0.0.0.0/0"), "nowhere": prefix("10.9.0.0/16"),
	}
	err := bad.Validate(m)
	for _, part := range []string{
		`addresses.dmz: "10.0.0.0/18" is not allowed: it overlaps that of application`, `addresses.data: "10.0.128.1/18"`, `addresses.management: "fd00::/64"`,
		`addresses.internet`, `addresses.platform: ""`, `addresses.nowhere`,
	} {
		require.ErrorContains(t, err, part)
	}
}

// The firewall stands between the same tiers on every platform: what AWS brings itself is not between them.
func TestRulesAreTheSameOnAWS(t *testing.T) {
	for _, target := range []Target{NetworkFirewall, Sensor} {
		set, err := Rules(zones.AWS(zones.Options{}), target)
		require.NoError(t, err)
		require.Equal(t, rules(t, target).Text(), set.Text())
	}
}
