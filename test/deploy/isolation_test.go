package deploy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ephemos.dev/deploy/testbed"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// nowhere is an address of a range that is set aside for documentation (RFC 5737): nobody answers there, and no test bed has it.
const nowhere = "198.51.100.7"

// testIsolation shows that nothing the testbed runs can send a packet off the host: by the shape of its namespaces, by trying from
// every one of them, and by watching every interface of the host while it tries.
func testIsolation(t *testing.T) {
	machines, err := cluster.Status()
	require.NoError(t, err)

	ours, err := namespaces(machines)
	require.NoError(t, err)
	host, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	require.NotContains(t, ours, host, "a process of the testbed lives in the host's network namespace")
	require.Greater(t, len(ours), len(machines), "pods have namespaces of their own")

	ranges := []string{testbed.PodRange, testbed.ServiceRange, testbed.LinkRange, nowhere + "/32"}
	requireWatchSees(t, ranges)
	watched := watchInterfaces(t, ranges...)

	for name, path := range ours {
		t.Run("namespace "+name, func(t *testing.T) {
			ns, err := os.Open(path)
			if errors.Is(err, os.ErrNotExist) {
				t.Skipf("its last process has ended meanwhile")
			}
			require.NoError(t, err)
			defer func() { _ = ns.Close() }()
			requireNoWayOut(t, ns)
		})
	}
	// Tried for real: from every machine, and from inside a pod's namespace, whose packets go to its node and must end there.
	for name, path := range ours {
		if _, err := os.Stat(path); err != nil {
			continue // its last process has ended meanwhile
		}
		out, err := exec.CommandContext(t.Context(), "nsenter", "--net="+path, "bash", "-c", "echo x >/dev/udp/"+nowhere+"/9; "+
			"timeout 5 bash -c 'echo x >/dev/tcp/"+nowhere+"/9'").CombinedOutput()
		require.Error(t, err, "%s reaches %s: %s", name, nowhere, out)
		require.Regexp(t, "unreachable|No route to host", string(out), "%s: refused for want of a route, not for want of an answer", name)
	}
	require.Zero(t, watched.packets.Load(), "packets of the testbed were seen on the host: %v", watched.first.Load())
}

// namespaces returns the network namespaces of every process below the machines' inits: identity to a path that opens it.
func namespaces(machines []testbed.MachineStatus) (map[string]string, error) {
	parents := map[int]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		parents[pid], _ = strconv.Atoi(fields[1])
	}
	inits := map[int]bool{}
	for _, m := range machines {
		inits[m.PID] = true
	}
	found := map[string]string{}
	for pid := range parents {
		for p := pid; p > 1; p = parents[p] {
			if !inits[p] {
				continue
			}
			path := fmt.Sprintf("/proc/%d/ns/net", pid)
			if name, err := os.Readlink(path); err == nil {
				found[name] = path
			}
			break
		}
	}
	return found, nil
}

// requireNoWayOut checks one namespace: no interface has its other end in the host's namespace or belongs to hardware, and there is no
// route to the outside but a pod's to its own node.
func requireNoWayOut(t *testing.T, ns *os.File) {
	t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
	require.NoError(t, err)
	defer h.Close()
	links, err := h.LinkList()
	require.NoError(t, err)
	hostLinks, err := netlink.LinkList()
	require.NoError(t, err)
	for _, l := range links {
		require.Contains(t, []string{"veth", "bridge", "device"}, l.Type(), "interface %s", l.Attrs().Name)
		if l.Type() == "device" {
			require.NotZero(t, l.Attrs().Flags&net.FlagLoopback, "interface %s is neither virtual nor the loopback", l.Attrs().Name)
		}
	}
	for _, l := range hostLinks {
		require.NotEqual(t, "veth", l.Type(), "the host has an interface %s that may lead into the testbed", l.Attrs().Name)
	}
	routes, err := h.RouteList(nil, unix.AF_INET)
	require.NoError(t, err)
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		// A pod's only way is its node, which has no default route of its own.
		require.True(t, mustParse(testbed.PodRange).Contains(r.Gw), "a default route by %s", r.Gw)
	}
}

// watch counts packets of some ranges on the host's interfaces.
type watch struct {
	packets atomic.Int64
	first   atomic.Value
}

// watchInterfaces listens on every interface but the loopback, in both directions, until the test ends. It watches the network
// namespace of the thread that calls it.
func watchInterfaces(t *testing.T, ranges ...string) *watch {
	t.Helper()
	w := &watch{}
	nets := make([]*net.IPNet, len(ranges))
	for i, r := range ranges {
		nets[i] = mustParse(r)
	}
	// Only a socket for all protocols is shown what goes out (packet(7)).
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(htons(unix.ETH_P_ALL)))
	require.NoError(t, err)
	require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}))
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		packet := make([]byte, 128)
		for {
			n, from, err := unix.Recvfrom(fd, packet, 0)
			select {
			case <-done:
				return
			default:
			}
			l, ok := from.(*unix.SockaddrLinklayer)
			if err != nil || !ok || n < 20 || l.Protocol != htons(unix.ETH_P_IP) || l.Hatype == unix.ARPHRD_LOOPBACK {
				continue
			}
			source, destination := net.IP(packet[12:16]), net.IP(packet[16:20])
			for _, r := range nets {
				if r.Contains(source) || r.Contains(destination) {
					w.packets.Add(1)
					w.first.CompareAndSwap(nil, fmt.Sprintf("%s to %s", source, destination))
				}
			}
		}
	}()
	t.Cleanup(func() {
		close(done)
		<-stopped
		_ = syscall.Close(fd)
	})
	return w
}

// requireWatchSees shows that the watch would notice: in a network namespace made for it, where a way out exists, one packet is sent
// that way, and seen.
func requireWatchSees(t *testing.T, ranges []string) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	host, err := netns.Get()
	require.NoError(t, err)
	defer func() { _ = host.Close() }()
	control, err := netns.New() // this thread is in it now
	require.NoError(t, err)
	defer func() {
		_ = control.Close()
		require.NoError(t, netns.Set(host))
	}()
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "out"
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: "far"}))
	for _, name := range []string{"out", "far"} {
		l, err := netlink.LinkByName(name)
		require.NoError(t, err)
		require.NoError(t, netlink.LinkSetUp(l))
	}
	out, err := netlink.LinkByName("out")
	require.NoError(t, err)
	address, err := netlink.ParseAddr("192.0.2.1/24")
	require.NoError(t, err)
	require.NoError(t, netlink.AddrAdd(out, address))
	require.NoError(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: out.Attrs().Index, IP: net.ParseIP("192.0.2.2"), State: netlink.NUD_PERMANENT,
		HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2}}))
	require.NoError(t, netlink.RouteAdd(&netlink.Route{Dst: mustParse("0.0.0.0/0"), Gw: net.ParseIP("192.0.2.2")}))

	w := watchInterfaces(t, ranges...)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	require.NoError(t, err)
	defer func() { _ = syscall.Close(fd) }()
	to := &unix.SockaddrInet4{Port: 9}
	copy(to.Addr[:], net.ParseIP(nowhere).To4())
	require.NoError(t, unix.Sendto(fd, []byte("x"), 0, to))
	require.Eventually(t, func() bool { return w.packets.Load() > 0 }, 5*time.Second, 10*time.Millisecond, "the watch does not see a packet that leaves")
}

func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

func mustParse(cidr string) *net.IPNet {
	_, n, err := net.ParseCIDR(cidr)
	if err != nil {
		panic(err)
	}
	return n
}
