package connectivity

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ephemos.dev/deploy/components/zones"
)

// network is three network namespaces of the test's own: a client, a router, and a server behind it, on addresses that are set
// aside for documentation (RFC 5737). The router treats some addresses beside the server's in special ways.
type network struct {
	client, router, server *place
	// behind is called for each packet of TCP from the client to an address of the server's network.
	behind atomic.Pointer[func(packet []byte)]
}

const (
	clientAddress = "192.0.2.2"
	routerAddress = "192.0.2.1"
	serverAddress = "198.51.100.2"

	refusedAddress     = "198.51.100.66" // answered with what a firewall's REJECT sends
	prohibitedAddress  = "198.51.100.67"
	unreachableAddress = "198.51.100.68"
	silentAddress      = "198.51.100.69"
	lateAddress        = "198.51.100.70" // silent until the test opens it
	noRouteAddress     = "203.0.113.1"
)

// place is one namespace with a thread that lives in it as long as the test.
type place struct {
	thread int
	handle *netlink.Handle
	work   chan func()
}

// do calls f in the namespace.
func (p *place) do(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	p.work <- func() { done <- f() }
	require.NoError(t, <-done)
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{work: make(chan func())}
	ready := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread, and with it the namespace, ends here
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- err
			return
		}
		p.thread = unix.Gettid()
		own, err := netns.Get()
		if err == nil {
			p.handle, err = netlink.NewHandleAt(own)
			_ = own.Close()
		}
		ready <- err
		for f := range p.work {
			f()
		}
	}()
	require.NoError(t, <-ready)
	t.Cleanup(func() {
		p.handle.Close()
		close(p.work)
	})
	p.up(t, "lo")
	return p
}

func (p *place) up(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := p.handle.LinkByName(name)
	require.NoError(t, err)
	require.NoError(t, p.handle.LinkSetUp(l))
	return l
}

func (p *place) address(t *testing.T, link, cidr string) {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	require.NoError(t, err)
	require.NoError(t, p.handle.AddrAdd(p.up(t, link), a))
}

func (p *place) route(t *testing.T, cidr, via string, kind int) {
	t.Helper()
	_, destination, err := net.ParseCIDR(cidr)
	require.NoError(t, err)
	require.NoError(t, p.handle.RouteAdd(&netlink.Route{Dst: destination, Gw: net.ParseIP(via), Type: kind}))
}

// join links two places.
func join(t *testing.T, a, b *place, nameA, nameB string) {
	t.Helper()
	attributes := netlink.NewLinkAttrs()
	attributes.Name = nameA
	require.NoError(t, a.handle.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: nameB, PeerNamespace: netlink.NsPid(b.thread)}))
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces takes root")
	}
	n := &network{client: newPlace(t), router: newPlace(t), server: newPlace(t)}
	join(t, n.client, n.router, "eth0", "clients")
	join(t, n.server, n.router, "eth0", "servers")
	n.client.address(t, "eth0", clientAddress+"/24")
	n.router.address(t, "clients", routerAddress+"/24")
	n.router.address(t, "servers", "198.51.100.1/24")
	n.server.address(t, "eth0", serverAddress+"/24")
	n.server.address(t, "eth0", lateAddress+"/24")
	n.client.route(t, "198.51.100.0/24", routerAddress, unix.RTN_UNICAST)
	n.server.route(t, "192.0.2.0/24", "198.51.100.1", unix.RTN_UNICAST)
	n.router.route(t, refusedAddress+"/32", "", unix.RTN_BLACKHOLE)
	n.router.route(t, prohibitedAddress+"/32", "", unix.RTN_PROHIBIT)
	n.router.route(t, unreachableAddress+"/32", "", unix.RTN_UNREACHABLE)
	n.router.route(t, silentAddress+"/32", "", unix.RTN_BLACKHOLE)
	n.router.route(t, lateAddress+"/32", "", unix.RTN_BLACKHOLE)
	n.router.do(t, func() error {
		return errors.Join(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644),
			// Each rejection is sent: the tests count on it.
			os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0o644))
	})

	n.watch(t)
	n.listen(t, "0.0.0.0:8443")
	n.listen(t, "127.0.0.1:8444")
	n.answer(t, 5353, func(question []byte) []byte {
		question[2] |= 0x80 // it is an answer now
		return question
	})
	n.answer(t, 5354, func([]byte) []byte { return []byte("something else entirely") })
	return n
}

// watch shows n.behind what the client sends, and answers for refusedAddress as a firewall does: with an ICMP error of the
// router's own that quotes the packet.
func (n *network) watch(t *testing.T) {
	t.Helper()
	var packets, replies int
	n.router.do(t, func() (err error) {
		if replies, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP); err != nil {
			return err
		}
		packets, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(binary.NativeEndian.Uint16([]byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff})))
		if err != nil {
			return err
		}
		return unix.SetsockoptTimeval(packets, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
	})
	stop, stopped := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		<-stopped
		_, _ = unix.Close(packets), unix.Close(replies)
	})
	go func() {
		defer close(stopped)
		packet := make([]byte, 2048)
		for {
			size, _, err := unix.Recvfrom(packets, packet, 0)
			select {
			case <-stop:
				return
			default:
			}
			if err != nil || size < 40 || net.IP(packet[12:16]).String() != clientAddress {
				continue
			}
			if f := n.behind.Load(); f != nil {
				(*f)(packet[:size])
			}
			if net.IP(packet[16:20]).String() == refusedAddress {
				message := append([]byte{3, icmpPort, 0, 0, 0, 0, 0, 0}, packet[:28]...)
				binary.BigEndian.PutUint16(message[2:], checksum(message))
				to := &unix.SockaddrInet4{Addr: [4]byte(packet[12:16])}
				_ = unix.Sendto(replies, message, 0, to)
			}
		}
	}()
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// listen serves TCP at the server: what it reads it sends back.
func (n *network) listen(t *testing.T, address string) {
	t.Helper()
	var listener net.Listener
	n.server.do(t, func() (err error) {
		listener, err = net.Listen("tcp4", address)
		return err
	})
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
}

func (n *network) answer(t *testing.T, port int, reply func([]byte) []byte) {
	t.Helper()
	var conn net.PacketConn
	n.server.do(t, func() (err error) {
		conn, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		packet := make([]byte, 512)
		for {
			size, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(reply(packet[:size]), from)
		}
	}()
}

func (n *network) from() Endpoint {
	return Endpoint{Name: "client", Place: zones.Pods, Address: netip.MustParseAddr(clientAddress), Process: n.client.thread}
}

func (n *network) attempt(to string, protocol zones.Protocol, port int, expected Verdict) Attempt {
	return Attempt{From: n.from(), To: Endpoint{Name: to, Address: netip.MustParseAddr(to)}, Socket: Socket{protocol, port}, Expected: expected}
}

func TestProberTellsOutcomesApart(t *testing.T) {
	n := newNetwork(t)
	cases := []struct {
		to       string
		protocol zones.Protocol
		port     int
		want     Class
		detail   string
	}{
		{serverAddress, zones.TCP, 8443, Open, ""},
		{serverAddress, zones.TCP, 8444, Closed, "reset"}, // listens on the loopback only
		{serverAddress, zones.TCP, 2000, Closed, "reset"},
		{refusedAddress, zones.TCP, 8443, Rejected, "code 3, from " + routerAddress},
		{prohibitedAddress, zones.TCP, 8443, Rejected, "code 13, from " + routerAddress},
		{unreachableAddress, zones.TCP, 8443, NoRoute, "code 1, from " + routerAddress},
		{noRouteAddress, zones.TCP, 8443, NoRoute, "unreachable"},
		{silentAddress, zones.TCP, 8443, Silent, ""},

		{serverAddress, zones.UDP, 5353, Open, "answered"},
		{serverAddress, zones.UDP, 5354, Silent, ""}, // answers, but not the question
		{serverAddress, zones.UDP, 2000, Closed, "code 3, from " + serverAddress},
		{refusedAddress, zones.UDP, 5353, Rejected, "code 3, from " + routerAddress},
		{prohibitedAddress, zones.UDP, 5353, Rejected, "code 13, from " + routerAddress},
		{noRouteAddress, zones.UDP, 5353, NoRoute, "unreachable"},
		{silentAddress, zones.UDP, 5353, Silent, ""},
	}
	var attempts []Attempt
	for _, c := range cases {
		attempts = append(attempts, n.attempt(c.to, c.protocol, c.port, MustDeny))
	}
	results, err := Prober{Timeout: 2500 * time.Millisecond}.Try(t.Context(), attempts)
	require.NoError(t, err)
	require.Len(t, results, len(cases))
	for i, c := range cases {
		got := results[attempts[i].Key()]
		require.Equal(t, c.want, got.Class, "%s, %d/%s: %s", c.to, c.port, c.protocol, got.Detail)
		require.Contains(t, got.Detail, c.detail)
		require.Equal(t, 1, got.Tries, "what must be denied is tried once")
	}
}

func TestProberRepeatsWhatShouldOpen(t *testing.T) {
	n := newNetwork(t)
	open := func(packet []byte) {
		if net.IP(packet[16:20]).String() == lateAddress {
			_, late, _ := net.ParseCIDR(lateAddress + "/32")
			_ = n.router.handle.RouteDel(&netlink.Route{Dst: late, Type: unix.RTN_BLACKHOLE})
		}
	}
	n.behind.Store(&open)
	late, closed := n.attempt(lateAddress, zones.TCP, 8443, MustOpen), n.attempt(serverAddress, zones.TCP, 2000, MustOpen)
	// Shorter than it takes the kernel to send a second packet by itself.
	results, err := Prober{Timeout: 400 * time.Millisecond, Again: 2}.Try(t.Context(), []Attempt{late, closed})
	require.NoError(t, err)
	require.Equal(t, Result{Class: Open, Tries: 2}, results[late.Key()])
	require.Equal(t, Result{Class: Closed, Detail: "reset", Tries: 3}, results[closed.Key()])

	results, err = Prober{Timeout: 400 * time.Millisecond, Again: -1}.Try(t.Context(), []Attempt{closed})
	require.NoError(t, err)
	require.Equal(t, 1, results[closed.Key()].Tries)
}

// TestProberTriesAtOnce makes far more silent attempts than could be made one after the other.
func TestProberTriesAtOnce(t *testing.T) {
	n := newNetwork(t)
	const count = 600
	var attempts []Attempt
	for port := range count {
		attempts = append(attempts, n.attempt(silentAddress, zones.TCP, 1+port, MustDeny), n.attempt(prohibitedAddress, zones.TCP, 1+port, MustDeny))
	}
	start := time.Now()
	results, err := Prober{Timeout: time.Second, InFlight: 400}.Try(t.Context(), attempts)
	took := time.Since(start)
	require.NoError(t, err)
	counts := map[Class]int{}
	for _, r := range results {
		counts[r.Class]++
	}
	require.Equal(t, 2*count, counts[Silent]+counts[Rejected], "%v", counts)
	require.NotZero(t, counts[Rejected], "%v", counts)
	require.GreaterOrEqual(t, counts[Silent], count, "%v", counts)
	require.Less(t, took, 30*time.Second, "%d attempts, of which %d wait a second", 2*count, counts[Silent])
	require.Greater(t, took, 1500*time.Millisecond, "the limit on attempts in flight holds")
	t.Logf("%d attempts in %s: %v", 2*count, took, counts)
}

func TestProberSaysWhatItCannotDo(t *testing.T) {
	n := newNetwork(t)
	gone, elsewhere := n.attempt(serverAddress, zones.TCP, 8443, MustOpen), n.attempt(serverAddress, zones.TCP, 8443, MustOpen)
	gone.From.Name, gone.From.Process = "gone", 1<<30
	elsewhere.From.Name, elsewhere.From.Address = "moved", netip.MustParseAddr("192.0.2.99")
	results, err := Prober{Again: -1}.Try(t.Context(), []Attempt{gone, elsewhere})
	require.NoError(t, err)
	require.Equal(t, Failed, results[gone.Key()].Class)
	require.Contains(t, results[gone.Key()].Detail, "network of gone")
	require.Equal(t, Failed, results[elsewhere.Key()].Class)
	require.Contains(t, results[elsewhere.Key()].Detail, "moved does not have the address 192.0.2.99")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Prober{}.Try(ctx, []Attempt{n.attempt(silentAddress, zones.TCP, 1, MustDeny)})
	require.ErrorIs(t, err, context.Canceled)
}

// TestProberComesFromTheEndpoint shows that two sources of one namespace are told apart by their addresses.
func TestProberComesFromTheEndpoint(t *testing.T) {
	n := newNetwork(t)
	n.client.address(t, "eth0", "192.0.2.3/24")
	var second atomic.Int64
	count := func(packet []byte) {
		if net.IP(packet[12:16]).String() == clientAddress && net.IP(packet[16:20]).String() == serverAddress {
			second.Add(1)
		}
	}
	n.behind.Store(&count)
	a := n.attempt(serverAddress, zones.TCP, 8443, MustOpen)
	a.From.Address = netip.MustParseAddr("192.0.2.3")
	results, err := Prober{}.Try(t.Context(), []Attempt{a})
	require.NoError(t, err)
	require.Equal(t, Open, results[a.Key()].Class)
	require.Zero(t, second.Load(), "packets of the other address")
	results, err = Prober{}.Try(t.Context(), []Attempt{n.attempt(serverAddress, zones.TCP, 8443, MustOpen)})
	require.NoError(t, err)
	require.Len(t, results, 1)
	require.Eventually(t, func() bool { return second.Load() > 0 }, 5*time.Second, 10*time.Millisecond)
}

func TestDial(t *testing.T) {
	n := newNetwork(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := n.from().Dial(ctx, netip.MustParseAddrPort(serverAddress+":8443"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	_, err = conn.Write([]byte("echo"))
	require.NoError(t, err)
	answer := make([]byte, 4)
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	require.Equal(t, "echo", string(answer))

	_, err = n.from().Dial(ctx, netip.MustParseAddrPort(serverAddress+":2000"))
	require.ErrorContains(t, err, "closed: reset")
	_, err = n.from().Dial(ctx, netip.MustParseAddrPort(prohibitedAddress+":2000"))
	require.ErrorContains(t, err, "rejected: ICMP")
	short, cancelShort := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancelShort()
	_, err = n.from().Dial(short, netip.MustParseAddrPort(silentAddress+":2000"))
	require.True(t, errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded), "%v", err)
}

func TestReadListeningSeesWhatTheLoopbackHides(t *testing.T) {
	n := newNetwork(t)
	at := func(address string) []Socket {
		sockets, err := ReadListening("/proc", n.server.thread, netip.MustParseAddr(address))
		require.NoError(t, err)
		return sockets
	}
	n.listen(t, lateAddress+":7000")
	want := []Socket{{zones.TCP, 8443}, {zones.UDP, 5353}, {zones.UDP, 5354}}
	require.Equal(t, want, at(serverAddress))
	require.Equal(t, append([]Socket{{zones.TCP, 7000}}, want...), at(lateAddress))
	empty, err := ReadListening("/proc", n.client.thread, netip.MustParseAddr(clientAddress))
	require.NoError(t, err)
	require.Empty(t, empty)
	_, err = ReadListening("/proc", 1<<30, netip.MustParseAddr(clientAddress))
	require.Error(t, err)
}
