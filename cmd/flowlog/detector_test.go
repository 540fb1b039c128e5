package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/zones"
)

// who attributes addresses by a table.
type who struct {
	model   *zoneModel
	parties map[netip.Addr]Party
}

func (w *who) zones() *zoneModel { return w.model }

func (w *who) lookup(address netip.Addr) Party {
	if p, ok := w.parties[address]; ok {
		p.Address = address
		return p
	}
	return Party{Address: address, Kind: KindUnknown}
}

// podOf is a pod of a role of the standard model.
func podOf(name string) Party {
	r, ok := zones.Standard(zones.Options{}).Role(name)
	if !ok {
		panic(name)
	}
	return Party{Kind: KindPod, Namespace: r.Namespace, Pod: name + "-0", Role: name, Zone: string(r.Zone), Node: "node-b", spiffePath: r.SPIFFEPath}
}

// line is an event with its details still to be read.
type line struct {
	Event
	Details json.RawMessage `json:"details"`
}

func (l line) denied(t *testing.T) Denied {
	t.Helper()
	var d Denied
	require.NoError(t, json.Unmarshal(l.Details, &d))
	return d
}

// bench is a detector with a clock of its own.
type bench struct {
	*detector
	t      *testing.T
	who    *who
	now    time.Time
	output bytes.Buffer
}

var (
	gatewayAt, userAt, cacheAt = netip.MustParseAddr("10.244.1.1"), netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("10.244.1.3")
	spire, node                = netip.MustParseAddr("10.244.1.4"), netip.MustParseAddr("192.168.0.2")
	stranger                   = netip.MustParseAddr("10.244.9.9")
)

func testConfig() Config {
	return Config{
		Node: "node-a", TrustDomain: spiffeid.RequireTrustDomainFromString("example.org"), Group: 100, Window: time.Minute,
		ScanThreshold: 8, MaxConnections: 64, MaxSources: 16, MaxEvents: 100, IgnorePrefix: "DROP by policy",
	}
}

func newBench(t *testing.T, change func(*Config)) *bench {
	config := testConfig()
	if change != nil {
		change(&config)
	}
	b := &bench{t: t, now: time.Date(2026, 1, 15, 10, 30, 0, 0, time.UTC), who: &who{
		model: newZoneModel(zones.Standard(zones.Options{})),
		parties: map[netip.Addr]Party{
			gatewayAt: podOf(zones.WebGateway), userAt: podOf(zones.User), cacheAt: podOf(zones.Cache), spire: podOf(zones.SPIREServer),
			node: {Kind: KindNode, Node: "node-a", Zone: "platform"},
		},
	}}
	b.detector = newDetector(config, b.who, &counters{}, &b.output, slog.New(slog.DiscardHandler))
	return b
}

func connect(from, to netip.Addr, port uint16) packet {
	return packet{from: from, fromPort: 40000, target: target{to: to, protocol: protocolTCP, port: port}}
}

// after moves the clock in beats and returns the events of that time.
func (b *bench) after(d time.Duration) []line {
	b.t.Helper()
	for end := b.now.Add(d); b.now.Before(end); {
		b.now = b.now.Add(beat)
		require.NoError(b.t, b.tick(b.now, false))
	}
	return b.events()
}

func (b *bench) events() []line {
	b.t.Helper()
	var lines []line
	decoder := json.NewDecoder(&b.output)
	for decoder.More() {
		var l line
		require.NoError(b.t, decoder.Decode(&l))
		lines = append(lines, l)
	}
	b.output.Reset()
	return lines
}

func types(lines []line) []string {
	var out []string
	for _, l := range lines {
		out = append(out, l.EventType)
	}
	return out
}

// TestSchema holds every key of the security architecture's example.
func TestSchema(t *testing.T) {
	b := newBench(t, nil)
	b.observe(connect(gatewayAt, userAt, 8443), b.now)
	b.after(beat)
	b.observe(connect(gatewayAt, userAt, 8444), b.now)
	require.NoError(t, b.tick(b.now, false))
	var event map[string]any
	require.NoError(t, json.Unmarshal(b.output.Bytes(), &event))
	require.Equal(t, map[string]any{
		"timestamp": b.now.Format(time.RFC3339Nano), "event_type": "connection_denied", "severity": "MEDIUM",
		"source": "intrusion-detection", "trust_domain": "example.org", "spiffe_id": "spiffe://example.org/gateway/web",
		"metadata": map[string]any{"node_id": "node-a", "nflog_group": 100.0},
		"details": map[string]any{
			"protocol": "TCP", "count": 1.0, "skips_tier": false, "model_allows": false,
			"first_seen": b.now.Format(time.RFC3339Nano), "last_seen": b.now.Format(time.RFC3339Nano),
			"from": map[string]any{"address": "10.244.1.1", "port": 40000.0, "kind": "pod", "namespace": "dmz", "pod": "web-gateway-0",
				"role": "web-gateway", "zone": "dmz", "node": "node-b"},
			"to": map[string]any{"address": "10.244.1.2", "port": 8444.0, "kind": "pod", "namespace": "services", "pod": "user-0",
				"role": "user", "zone": "application", "node": "node-b"},
		},
	}, event)
}

func TestSeverityAndViolation(t *testing.T) {
	icmp := packet{from: gatewayAt, target: target{to: userAt, protocol: protocolICMP, port: 8 << 8}}
	answer := connect(gatewayAt, cacheAt, 6379)
	answer.stray = true
	for _, c := range []struct {
		name      string
		packet    packet
		severity  Severity
		violation string
		allows    bool
		event     Severity // of the violation
	}{
		{"next tier, no flow", connect(gatewayAt, userAt, 8443), Medium, "", false, ""},
		{"within a zone", connect(cacheAt, cacheAt, 6379), Low, "", false, ""},
		{"skips a tier", connect(gatewayAt, cacheAt, 6379), Medium, skipsTier, false, High},
		{"back", connect(cacheAt, userAt, 8443), Medium, goesBack, false, High},
		{"into management", connect(userAt, spire, 8081), Medium, entersManaged, false, Critical},
		{"out", connect(userAt, netip.MustParseAddr("198.51.100.7"), 443), Medium, leavesCluster, false, High},
		{"the model allows it", connect(userAt, cacheAt, 6379), Medium, "", true, ""},
		{"a node", connect(node, cacheAt, 6379), Medium, "", false, ""},
		{"an answer", answer, Info, "", false, ""},
		{"ping", icmp, Medium, "", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			b.who.parties[netip.MustParseAddr("198.51.100.7")] = Party{Kind: KindOutside, Zone: "internet"}
			b.observe(c.packet, b.now)
			lines := b.after(beat)
			require.NotEmpty(t, lines)
			require.Equal(t, ConnectionDenied, lines[0].EventType)
			require.Equal(t, c.severity, lines[0].Severity)
			detail := lines[0].denied(t)
			require.Equal(t, c.violation, detail.Violation)
			require.Equal(t, c.violation == skipsTier, detail.SkipsTier)
			require.Equal(t, c.allows, detail.ModelAllows)
			require.Equal(t, c.packet.protocol == protocolICMP, detail.ICMPType != nil)
			if c.event == "" {
				require.Len(t, lines, 1)
				return
			}
			require.Equal(t, []string{ConnectionDenied, ZoneViolation}, types(lines))
			require.Equal(t, c.event, lines[1].Severity)
		})
	}
}

func TestRepetitionsAreCounted(t *testing.T) {
	b := newBench(t, nil)
	begin := b.now
	b.observe(connect(gatewayAt, userAt, 8443), b.now)
	b.observe(connect(gatewayAt, userAt, 8443), b.now.Add(beat/2))
	lines := b.after(beat)
	require.Len(t, lines, 1)
	require.Equal(t, uint64(2), lines[0].denied(t).Count)
	require.False(t, lines[0].denied(t).Repeated)

	total := lines[0].denied(t).Count
	for range 5 {
		require.Empty(t, b.after(time.Second), "repetitions are not reported one by one")
		b.observe(connect(gatewayAt, userAt, 8443), b.now)
	}
	last := b.now
	lines = b.after(time.Minute)
	require.Len(t, lines, 1)
	detail := lines[0].denied(t)
	require.True(t, detail.Repeated)
	require.Equal(t, begin, detail.FirstSeen)
	require.Equal(t, last, detail.LastSeen)
	require.Equal(t, uint64(7), total+detail.Count, "the lines together count every packet once")

	b.observe(connect(gatewayAt, userAt, 8443), b.now)
	require.Len(t, b.after(beat), 1, "the next window reports again")
	require.Empty(t, b.after(3*time.Minute))
	require.Empty(t, b.connections)
	require.Empty(t, b.origins)
}

func TestUnknownEndIsWaitedFor(t *testing.T) {
	b := newBench(t, nil)
	b.observe(connect(stranger, userAt, 8443), b.now)
	require.Empty(t, b.after(time.Second))
	b.who.parties[stranger] = podOf(zones.Order)
	lines := b.after(settling)
	require.Len(t, lines, 1)
	require.Equal(t, zones.Order, lines[0].denied(t).From.Role)

	b.observe(connect(netip.MustParseAddr("10.244.9.8"), userAt, 8443), b.now)
	lines = b.after(settling + beat)
	require.Len(t, lines, 1, "nobody is waited for forever")
	require.Equal(t, KindUnknown, lines[0].denied(t).From.Kind)
	require.Empty(t, lines[0].SPIFFEID)
}

func TestPortScan(t *testing.T) {
	scans := func(lines []line) (found []Scan) {
		for _, l := range lines {
			if l.EventType == PortScan {
				var s Scan
				require.NoError(t, json.Unmarshal(l.Details, &s))
				require.Equal(t, High, l.Severity)
				found = append(found, s)
			}
		}
		return found
	}
	for _, c := range []struct {
		name             string
		packets          func(i int) packet
		addresses, ports int
	}{
		{"ports of one address", func(i int) packet { return connect(gatewayAt, userAt, uint16(1000+i)) }, 1, 8},
		{"addresses with one port", func(i int) packet {
			return connect(gatewayAt, netip.AddrFrom4([4]byte{10, 244, 1, byte(100 + i)}), 22)
		}, 8, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			for i := range 7 {
				for range 20 { // a client that tries again is no scan
					b.observe(c.packets(i), b.now)
				}
			}
			require.Empty(t, scans(b.after(beat)))
			b.observe(c.packets(7), b.now)
			found := scans(b.after(beat))
			require.Len(t, found, 1)
			require.Equal(t, 8, found[0].DistinctTargets)
			require.Equal(t, c.addresses, found[0].DistinctAddresses)
			require.Equal(t, c.ports, found[0].DistinctPorts)
			require.Equal(t, zones.WebGateway, found[0].From.Role)
			require.Len(t, found[0].Targets, 8)
			for i := range 8 {
				b.observe(c.packets(20+i), b.now)
			}
			require.Empty(t, scans(b.after(30*time.Second)), "once a window")
			b.after(40 * time.Second)
			for i := range 8 {
				b.observe(c.packets(40+i), b.now)
			}
			found = scans(b.after(beat))
			require.Len(t, found, 1, "it goes on in the next window")
			require.Equal(t, 8, found[0].DistinctTargets, "targets of the last window are forgotten")
		})
	}

	t.Run("slower than the window", func(t *testing.T) {
		b := newBench(t, nil)
		for i := range 40 {
			b.observe(connect(gatewayAt, userAt, uint16(1000+i)), b.now)
			require.Empty(t, scans(b.after(10*time.Second)))
		}
	})
	t.Run("answers are no scan", func(t *testing.T) {
		b := newBench(t, nil)
		for i := range 40 {
			p := connect(userAt, gatewayAt, uint16(40000+i))
			p.stray = true
			b.observe(p, b.now)
		}
		require.Empty(t, scans(b.after(time.Second)))
	})
	t.Run("a full table of targets empties again", func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.MaxConnections = 10_000; c.MaxEvents = 10_000 })
		for i := range 1000 {
			b.observe(connect(gatewayAt, userAt, uint16(1+i)), b.now)
		}
		require.Len(t, scans(b.after(beat)), 1)
		require.Len(t, b.origins[gatewayAt].Value.(*origin).targets, maxTargets)
		b.observe(connect(gatewayAt, userAt, 2000), b.now)
		b.after(59 * time.Second)
		b.observe(connect(gatewayAt, userAt, 2001), b.now)
		b.after(10 * time.Second)
		for i := range 8 {
			b.observe(connect(gatewayAt, userAt, uint16(3000+i)), b.now)
		}
		found := scans(b.after(beat))
		require.Len(t, found, 1)
		require.Equal(t, 8, found[0].DistinctTargets)
	})
}

func TestViolationOncePerZoneAndWindow(t *testing.T) {
	b := newBench(t, nil)
	violations := func(lines []line) (found []Violation) {
		for _, l := range lines {
			if l.EventType == ZoneViolation {
				var v Violation
				require.NoError(t, json.Unmarshal(l.Details, &v))
				found = append(found, v)
			}
		}
		return found
	}
	for port := range uint16(4) {
		b.observe(connect(gatewayAt, cacheAt, 6379+port), b.now)
	}
	found := violations(b.after(beat))
	require.Len(t, found, 1)
	require.True(t, found[0].SkipsTier)
	require.Equal(t, uint64(1), found[0].Connections)
	b.observe(connect(gatewayAt, spire, 8081), b.now)
	require.Len(t, violations(b.after(beat)), 1, "another zone is another matter")
	b.after(time.Minute)
	b.observe(connect(gatewayAt, cacheAt, 6379), b.now)
	found = violations(b.after(beat))
	require.Len(t, found, 1)
	require.Equal(t, uint64(4), found[0].Connections, "the three that were not reported and this one")
}

// TestFlood holds that neither memory nor output grows with the number of packets, sources or targets.
func TestFlood(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxEvents = 10 })
	const packets = 200_000
	for i := range packets {
		b.observe(connect(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), userAt, uint16(i)), b.now)
		if i%1000 == 0 {
			b.now = b.now.Add(time.Millisecond)
			require.NoError(t, b.tick(b.now, false))
		}
	}
	require.LessOrEqual(t, len(b.connections), b.config.MaxConnections)
	require.LessOrEqual(t, len(b.origins), b.config.MaxSources)
	require.Len(t, b.origins, b.quiet.Len())
	require.LessOrEqual(t, len(b.unsettled), b.config.MaxConnections)
	require.LessOrEqual(t, len(b.scanning), b.config.MaxSources)
	dropped := b.counts.dropped[droppedTable].Load()
	require.Equal(t, uint64(packets), dropped+uint64(b.config.MaxConnections), "everything is counted")

	// One source takes no more than its share, and the others are still seen.
	b = newBench(t, nil)
	for i := range 1000 {
		b.observe(connect(gatewayAt, cacheAt, uint16(1+i)), b.now)
	}
	b.observe(connect(userAt, spire, 8081), b.now)
	lines := b.after(beat)
	require.Len(t, b.connections, b.config.MaxConnections/share+1)
	kinds := map[string]int{}
	for _, l := range lines {
		kinds[l.EventType]++
	}
	require.Equal(t, map[string]int{ConnectionDenied: b.config.MaxConnections/share + 1, PortScan: 1, ZoneViolation: 2}, kinds)
}

func TestSuppressedLinesAreCountedLater(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxEvents = 1; c.MaxConnections = 1000; c.MaxSources = 1000 })
	b.who.parties[stranger] = podOf(zones.Order)
	for i := range 100 {
		b.observe(connect(netip.AddrFrom4([4]byte{10, 1, 1, byte(i)}), userAt, 8443), b.now)
	}
	lines := b.after(10 * time.Second)
	require.InDelta(t, burst+10-settling.Seconds(), len(lines), burst, "a burst and what came in since")
	require.Less(t, len(lines), 100)
	require.Equal(t, uint64(100-len(lines)), b.counts.suppressed[0].Load())
	more := b.after(time.Minute)
	require.NotEmpty(t, more)
	for _, l := range more {
		require.False(t, l.denied(t).Repeated, "these had not been reported before")
	}
}

func TestEndReportsWhatIsLeft(t *testing.T) {
	b := newBench(t, nil)
	b.observe(connect(stranger, userAt, 8443), b.now)
	b.observe(connect(gatewayAt, userAt, 8443), b.now)
	b.after(beat)
	b.observe(connect(gatewayAt, userAt, 8443), b.now)
	require.NoError(t, b.tick(b.now, true))
	require.Equal(t, []string{ConnectionDenied, ConnectionDenied}, types(b.events()))
	require.Empty(t, b.connections)
}

func TestOutputThatFailsEndsTheProgram(t *testing.T) {
	b := newBench(t, nil)
	b.out = json.NewEncoder(broken{})
	b.observe(connect(gatewayAt, userAt, 8443), b.now)
	require.ErrorIs(t, b.tick(b.now, false), errBroken)
}

var errBroken = errors.New("broken pipe")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestEnqueue(t *testing.T) {
	v4 := ipv4(6)
	whole := serialize(t, v4, tcp(v4, nil))
	counts, queue := &counters{}, make(chan packet, 1)
	enqueue(logged{prefix: "DROP by policy dmz/x", payload: whole}, "DROP by policy", queue, counts)
	require.Empty(t, queue, "a rule that does not refuse")
	enqueue(logged{payload: []byte("x")}, "DROP by policy", queue, counts)
	enqueue(logged{prefix: "something else", payload: whole}, "DROP by policy", queue, counts)
	enqueue(logged{payload: whole}, "DROP by policy", queue, counts)
	require.Equal(t, connectPorts(whole), <-queue)
	require.Equal(t, []uint64{4, 1, 1, 1}, []uint64{
		counts.packets.Load(), counts.ignored.Load(), counts.dropped[droppedMalformed].Load(), counts.dropped[droppedQueue].Load(),
	})
}

func connectPorts(data []byte) packet {
	p, _ := decode(data)
	return p
}

func TestTargetNames(t *testing.T) {
	for want, got := range map[string]target{
		"10.244.1.1:80/TCP": {gatewayAt, protocolTCP, 80}, "[fd00::1]:53/UDP": {netip.MustParseAddr("fd00::1"), protocolUDP, 53},
		"10.244.1.1/ICMP": {gatewayAt, protocolICMP, 8}, "10.244.1.1/47": {gatewayAt, 47, 0},
	} {
		require.Equal(t, want, got.String())
	}
}

func BenchmarkFlood(b *testing.B) {
	config := testConfig()
	config.MaxConnections, config.MaxSources = 4096, 1024
	d := newDetector(config, &who{model: newZoneModel(zones.Standard(zones.Options{}))}, &counters{}, &strings.Builder{}, slog.New(slog.DiscardHandler))
	now := time.Now()
	for i := 0; b.Loop(); i++ {
		d.observe(connect(netip.AddrFrom4([4]byte{10, 0, byte(i >> 3), byte(i)}), userAt, uint16(i)), now)
	}
	b.ReportMetric(float64(len(d.connections)), "connections")
}
