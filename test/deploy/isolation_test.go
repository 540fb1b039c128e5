package deploy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

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

	watched := watchHost(t, testbed.PodRange, testbed.ServiceRange, testbed.LinkRange, nowhere+"/32")

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
		out, err := exec.CommandContext(t.Context(), "nsenter", "--net="+path, "bash", "-c", "exec 3<>/dev/udp/"+nowhere+"/9 && echo x >&3; "+
			"timeout 2 bash -c 'exec 3<>/dev/tcp/"+nowhere+"/9'").CombinedOutput()
		require.Error(t, err, "%s reaches %s: %s", name, nowhere, out)
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

// watchHost listens on every interface of the host except the loopback until the test ends.
func watchHost(t *testing.T, ranges ...string) *watch {
	t.Helper()
	w := &watch{}
	nets := make([]*net.IPNet, len(ranges))
	for i, r := range ranges {
		nets[i] = mustParse(r)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(htons(unix.ETH_P_IP)))
	require.NoError(t, err)
	require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}))
	done, stopped := make(chan struct{}), make(chan struct{})
	loopback, err := net.InterfaceByName("lo")
	require.NoError(t, err)
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
			if err != nil || n < 20 {
				continue
			}
			if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Ifindex == loopback.Index {
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
