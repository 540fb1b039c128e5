package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes/fake"

	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/toolchain"
)

// missing skips the test, or fails it where everything it needs is meant to be there.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("EPHEMOS_REQUIRE_PROGRAMS") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// A tool is an iptables of the host, or of the root filesystem of the test bed's nodes.
type tool struct{ root string }

func findIPTables(t *testing.T) tool {
	t.Helper()
	if _, err := exec.LookPath("iptables-restore"); err == nil {
		return tool{}
	}
	built, err := toolchain.Lookup(t.Context(), toolchain.Options{Progress: io.Discard})
	if err != nil {
		missing(t, "the host has no iptables and the toolchain cannot be looked up: %v", err)
	}
	root, err := built.RootFS("node")
	if err != nil {
		missing(t, "the host has no iptables and the toolchain has not built the node's root filesystem: %v", err)
	}
	return tool{root}
}

// restore loads rules in the network namespace of the calling thread.
func (i tool) restore(ctx context.Context, program, rules string) error {
	path := program
	if i.root != "" {
		path = filepath.Join("/usr/sbin", program)
	}
	cmd := exec.CommandContext(ctx, path)
	if i.root != "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: i.root}
		cmd.Dir = "/"
	}
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// A namespace is a network namespace of its own, which goes away with the test.
type namespace struct {
	t      *testing.T
	handle netns.NsHandle
	link   *netlink.Handle
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{t: t}
	var err error
	// The thread is never unlocked, so it ends with its goroutine.
	var made sync.WaitGroup
	made.Go(func() {
		runtime.LockOSThread()
		n.handle, err = netns.New()
	})
	made.Wait()
	require.NoError(t, err)
	n.link, err = netlink.NewHandleAt(n.handle)
	require.NoError(t, err)
	t.Cleanup(func() { n.link.Close(); _ = n.handle.Close() })
	n.up("lo")
	return n
}

// within runs f in the namespace.
func (n *namespace) within(f func() error) {
	n.t.Helper()
	var err error
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread()
		if err = netns.Set(n.handle); err == nil {
			err = f()
		}
	})
	done.Wait()
	require.NoError(n.t, err)
}

func (n *namespace) up(name string) netlink.Link {
	n.t.Helper()
	l, err := n.link.LinkByName(name)
	require.NoError(n.t, err)
	require.NoError(n.t, n.link.LinkSetUp(l))
	return l
}

func (n *namespace) address(name string, prefixes ...string) {
	n.t.Helper()
	l := n.up(name)
	for _, p := range prefixes {
		a, err := netlink.ParseAddr(p)
		require.NoError(n.t, err)
		a.Flags = unix.IFA_F_NODAD
		require.NoError(n.t, n.link.AddrAdd(l, a))
	}
}

// join makes a pod's link: eth0 in the pod, and a default route through the node.
func (n *namespace) join(pod *namespace, name, ip4, ip6, gateway4, gateway6 string) {
	n.t.Helper()
	attributes := netlink.NewLinkAttrs()
	attributes.Name = name
	require.NoError(n.t, n.link.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: "eth0", PeerNamespace: netlink.NsFd(pod.handle)}))
	n.address(name, gateway4+"/24", gateway6+"/64")
	pod.address("eth0", ip4+"/24", ip6+"/64")
	for _, via := range []string{gateway4, gateway6} {
		require.NoError(n.t, pod.link.RouteAdd(&netlink.Route{Gw: net.ParseIP(via)}))
	}
}

// rules are what kube-router makes of two policies that select a pod, of which the first accepts nothing and the second one port.
// The order of chains, the marks, the limits and the log rules are those of pkg/controllers/netpol.
const rules = `*filter
:FORWARD ACCEPT [0:0]
:POD - [0:0]
:DENY - [0:0]
:ALLOW - [0:0]
-A FORWARD -s %[1]s -j POD
-A POD -m conntrack --ctstate INVALID -j DROP
-A POD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A POD -j DENY
-A POD -j ALLOW
-A POD -m comment --comment "rule to log dropped traffic POD name:web-gateway-0 namespace: dmz" -m mark ! --mark 0x10000/0x10000 -j NFLOG --nflog-group 100 -m limit --limit 10/minute --limit-burst 10
-A POD -m mark ! --mark 0x10000/0x10000 -j REJECT
-A POD -j MARK --set-mark 0/0x10000
-A POD -j MARK --set-mark 0x20000/0x20000
-A DENY -m comment --comment "rule to log dropped traffic" -m limit --limit 10/minute --limit-burst 10 -m mark ! --mark 0x10000/0x10000 -j NFLOG --nflog-group 100 --nflog-prefix "DROP by policy dmz/default-deny"
-A ALLOW -p tcp --dport 8443 -j MARK --set-xmark 0x10000/0x10000
-A ALLOW -m mark --mark 0x10000/0x10000 -j RETURN
-A ALLOW -m comment --comment "rule to log dropped traffic" -m limit --limit 10/minute --limit-burst 10 -m mark ! --mark 0x10000/0x10000 -j NFLOG --nflog-group 100 --nflog-prefix "DROP by policy dmz/allow-payment"
COMMIT
`

// lines collects what is written, a line at a time.
type lines struct {
	mu     sync.Mutex
	events []line
	err    error
}

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var event line
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&event); err != nil {
		l.err = err
	}
	l.events = append(l.events, event)
	return len(text), nil
}

// find waits for an event.
func (l *lines) find(t *testing.T, what string, match func(line) bool) line {
	t.Helper()
	var found line
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		require.NoError(t, l.err)
		for _, e := range l.events {
			if match(e) {
				found = e
				return true
			}
		}
		return false
	}, patient, 10*time.Millisecond, "no event: %s", what)
	return found
}

// denied waits for a refused connection to a port.
func (l *lines) denied(t *testing.T, protocol string, to string, port uint16) line {
	t.Helper()
	return l.find(t, fmt.Sprintf("%s %s:%d", protocol, to, port), func(e line) bool {
		if e.EventType != ConnectionDenied {
			return false
		}
		d := e.denied(t)
		return d.Protocol == protocol && d.To.Address == netip.MustParseAddr(to) && d.To.Port == port
	})
}

// TestRefusedPacketsBecomeEvents sends real packets between two pods through a node with kube-router's rules, and reads the
// kernel's log of them.
func TestRefusedPacketsBecomeEvents(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "network namespaces and iptables need root")
	}
	iptables := findIPTables(t)
	const (
		from4, to4, from6, to6 = "10.244.1.2", "10.244.2.2", "fd00:1::2", "fd00:2::2"
	)
	node, one, two := newNamespace(t), newNamespace(t), newNamespace(t)
	node.join(one, "one", from4, from6, "10.244.1.1", "fd00:1::1")
	node.join(two, "two", to4, to6, "10.244.2.1", "fd00:2::1")
	node.within(func() error {
		// Without the last one, most refusals would be silent, and found by a timeout.
		for name, value := range map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/icmp_ratemask": "0"} {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0o644); err != nil {
				return err
			}
		}
		if err := iptables.restore(t.Context(), "iptables-restore", fmt.Sprintf(rules, from4)); err != nil {
			return err
		}
		return iptables.restore(t.Context(), "ip6tables-restore", fmt.Sprintf(rules, from6))
	})

	client := fake.NewClientset(aNode("node-a", "192.168.0.1", "10.244.1.0/24"),
		aPod("dmz", "web-gateway-0", "node-a", roleLabels(t, zones.WebGateway), from4, from6),
		aPod("data", "cache-0", "node-b", roleLabels(t, zones.Cache), to4, to6))
	config := testConfig()
	config.Model, config.MaxConnections = zones.Standard(zones.Options{}), 4096
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended, events := make(chan error, 1), &lines{}
	go func() {
		ended <- run(ctx, config, newDirectory(client, config.Model), kernelLog{Group: 100, NetNS: int(node.handle)}, listener, events,
			slog.New(slog.DiscardHandler))
	}()
	get := func(path string) (int, string) {
		response, err := http.Get("http://" + listener.Addr().String() + path)
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	require.Eventually(t, func() bool { status, _ := get("/readyz"); return status == http.StatusOK }, patient, 10*time.Millisecond)

	dial := func(network, to string, port int) (err error) {
		one.within(func() error {
			dialer := net.Dialer{Timeout: 5 * time.Second}
			var conn net.Conn
			if conn, err = dialer.DialContext(t.Context(), network, net.JoinHostPort(to, fmt.Sprint(port))); err == nil {
				_, err = conn.Write([]byte("x"))
				_ = conn.Close()
			}
			return nil
		})
		return err
	}
	var accepting net.Listener
	two.within(func() (err error) {
		accepting, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", ":8443")
		return err
	})
	t.Cleanup(func() { _ = accepting.Close() })

	// What is allowed passes, although the first policy's chain has logged it as dropped.
	require.NoError(t, dial("tcp4", to4, 8443))
	require.NoError(t, dial("tcp6", to6, 8443))

	// What is not is refused, and reported.
	require.ErrorIs(t, dial("tcp4", to4, 6379), syscall.ECONNREFUSED)
	event := events.denied(t, "TCP", to4, 6379)
	require.Equal(t, "spiffe://example.org/gateway/web", event.SPIFFEID)
	detail := event.denied(t)
	require.NotZero(t, detail.From.Port)
	require.Equal(t, []string{"web-gateway-0", "web-gateway", "dmz", "node-a"}, []string{detail.From.Pod, detail.From.Role, detail.From.Zone, detail.From.Node})
	require.Equal(t, []string{"cache-0", "cache", "data", "node-b"}, []string{detail.To.Pod, detail.To.Role, detail.To.Zone, detail.To.Node})
	require.True(t, detail.SkipsTier)
	events.find(t, "violation", func(e line) bool { return e.EventType == ZoneViolation && e.Severity == High })

	require.ErrorIs(t, dial("tcp6", to6, 6380), syscall.ECONNREFUSED)
	require.Equal(t, zones.WebGateway, events.denied(t, "TCP", to6, 6380).denied(t).From.Role)
	require.NoError(t, dial("udp4", to4, 53))
	events.denied(t, "UDP", to4, 53)
	one.within(func() error { return ping(to4) })
	events.denied(t, "ICMP", to4, 0)

	// A scan, of which the rule's limit leaves but a part.
	for port := range 40 {
		require.ErrorIs(t, dial("tcp4", to4, 1000+port), syscall.ECONNREFUSED)
	}
	scan := events.find(t, "port scan", func(e line) bool { return e.EventType == PortScan })
	var detected Scan
	require.NoError(t, json.Unmarshal(scan.Details, &detected))
	require.GreaterOrEqual(t, detected.DistinctTargets, config.ScanThreshold)
	require.Equal(t, zones.WebGateway, detected.From.Role)

	status, metrics := get("/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, metrics, `flowlog_events_total{event_type="port_scan",severity="HIGH"} 1`)
	require.Contains(t, metrics, `flowlog_packets_dropped_total{reason="malformed"} 0`)
	require.Contains(t, metrics, "flowlog_open 1")
	require.NotContains(t, metrics, "flowlog_packets_ignored_total 0\n", "the log rules of policies were passed")
	status, _ = get("/healthz")
	require.Equal(t, http.StatusOK, status)

	stop()
	require.NoError(t, <-ended)
	for _, e := range events.events {
		if e.EventType == ConnectionDenied {
			require.NotEqual(t, uint16(8443), e.denied(t).To.Port, "an allowed connection is not reported")
		}
	}
}

// ping sends an echo request, without waiting for an answer.
func ping(to string) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	return unix.Sendto(socket, []byte{8, 0, 0xf7, 0xfe, 0, 1, 0, 0}, 0, &unix.SockaddrInet4{Addr: netip.MustParseAddr(to).As4()})
}

// TestLogIsOpenedAgain holds that the program waits for another that still reads the group, as at the change from one pod to the
// next.
func TestLogIsOpenedAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "network namespaces need root")
	}
	node := newNamespace(t)
	log := kernelLog{Group: 100, NetNS: int(node.handle)}
	before, stop := context.WithCancel(t.Context())
	opened, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- log.read(before, func() { close(opened) }, func(logged) {}) }()
	<-opened

	counts := &counters{}
	after, end := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { capture(after, log, "", make(chan packet), counts, slog.New(slog.DiscardHandler)) })
	require.Eventually(t, func() bool { return counts.reopened.Load() > 0 }, patient, 10*time.Millisecond)
	require.False(t, counts.open.Load())
	stop()
	require.NoError(t, <-ended)
	require.Eventually(t, counts.open.Load, patient, 10*time.Millisecond)
	end()
	done.Wait()
	require.False(t, counts.open.Load())
}

// TestLostPacketsAreCounted reads a sequence with gaps.
func TestLostPacketsAreCounted(t *testing.T) {
	counts := &counters{}
	ctx, stop := context.WithCancel(t.Context())
	capture(ctx, scripted{stop: stop, sequences: []int64{5, 6, 9, 10, 0xffffffff, 0, 2}}, "", make(chan packet, 16), counts, slog.New(slog.DiscardHandler))
	require.Equal(t, uint64(2+0xffffffff-11+1), counts.dropped[droppedKernel].Load())
}

type scripted struct {
	stop      func()
	sequences []int64
}

func (s scripted) read(_ context.Context, opened func(), each func(logged)) error {
	opened()
	for _, n := range s.sequences {
		each(logged{sequence: n, payload: []byte{0}})
	}
	s.stop()
	return nil
}
