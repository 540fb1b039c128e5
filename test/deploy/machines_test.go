package deploy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostState lists what a testbed could leave behind on the host: mounts, interfaces, routes, control groups, network namespaces of
// processes, and the kernel's settings that a kubelet changes where it may.
func hostState() []string {
	var state []string
	add := func(format string, args ...any) { state = append(state, fmt.Sprintf(format, args...)) }
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(mounts)) {
			add("mount %s", strings.Fields(line)[4])
		}
	}
	if links, err := netlink.LinkList(); err == nil {
		for _, l := range links {
			add("interface %s", l.Attrs().Name)
		}
	}
	if routes, err := netlink.RouteList(nil, unix.AF_INET); err == nil {
		for _, r := range routes {
			add("route %s", r)
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/testbed*")
	top, _ := filepath.Glob("/sys/fs/cgroup/testbed*")
	for _, g := range append(groups, top...) {
		add("control group %s", g)
	}
	namespaces := map[string]bool{}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, l := range links {
		if name, err := os.Readlink(l); err == nil && !namespaces[name] {
			namespaces[name] = true
			add("namespace %s", name)
		}
	}
	for _, key := range []string{"vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"} {
		if value, err := os.ReadFile("/proc/sys/" + key); err == nil {
			add("setting %s = %s", key, strings.TrimSpace(string(value)))
		}
	}
	slices.Sort(state)
	return state
}

// testDown ends the cluster as after a crash: with the machines in full work.
func testDown(t *testing.T) {
	require.NotEqual(t, hostBefore, hostState(), "a running testbed shows: the comparison can see something")
	require.NoError(t, cluster.Down(t.Context()))
	// A namespace goes a moment after its last process.
	eventually(t, 20*time.Second, "the host to be as it was", func(context.Context) error {
		now := hostState()
		for _, line := range now {
			if !slices.Contains(hostBefore, line) {
				return fmt.Errorf("new: %s", line)
			}
		}
		for _, line := range hostBefore {
			if !slices.Contains(now, line) {
				return fmt.Errorf("gone: %s", line)
			}
		}
		return nil
	})
	require.NoDirExists(t, cluster.Dir())
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(t, err)
	name, value := cluster.Environment()
	for _, path := range environs {
		environ, err := os.ReadFile(path)
		if err == nil {
			require.NotContains(t, strings.Split(string(environ), "\x00"), name+"="+value, path)
		}
	}
}

// testCut cuts two nodes off from each other, and then one from all, and heals both ways.
func testCut(t *testing.T) {
	names, err := cluster.NodeNames()
	require.NoError(t, err)
	a, b, c := names[0], names[1], names[2]
	address := map[string]string{}
	for _, name := range names {
		out, err := cluster.Run(t.Context(), name, "ip", "-4", "-o", "addr", "show", "eth0")
		require.NoError(t, err)
		fields := strings.Fields(string(out))
		address[name], _, _ = strings.Cut(fields[3], "/")
	}
	reach := func(from, to string) error {
		_, err := cluster.Run(t.Context(), from, "timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/"+address[to]+"/10250")
		return err
	}
	require.NoError(t, reach(a, b))

	before := countCalls(t)
	require.NoError(t, cluster.Cut(t.Context(), a, b))
	require.Error(t, reach(a, b))
	require.Error(t, reach(b, a))
	require.NoError(t, reach(a, c))
	require.NoError(t, reach(b, c))
	require.NoError(t, cluster.Heal(t.Context(), a, b))
	require.NoError(t, reach(a, b))

	require.NoError(t, cluster.Isolate(t.Context(), a, true))
	require.Error(t, reach(a, c))
	require.Error(t, reach(b, a))
	require.NoError(t, cluster.Isolate(t.Context(), a, false))
	require.NoError(t, reach(c, a))

	require.NoError(t, cluster.Cut(t.Context(), b, c))
	require.NoError(t, cluster.Up(t.Context()), "up mends a cut too")
	require.NoError(t, reach(b, c))
	settled(t)
	requireNoFailedCall(t, before)
}
