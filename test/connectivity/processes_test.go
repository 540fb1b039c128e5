package connectivity

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/zones"
)

// process writes what PodProcesses reads of one.
func process(t *testing.T, proc string, number, parent int, group, network string) {
	t.Helper()
	dir := filepath.Join(proc, fmt.Sprint(number))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "ns"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stat"), fmt.Appendf(nil, "%d (a) b) S %d 1 1 0", number, parent), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup"), []byte("9:cpu:/other\n8:memory:"+group+"\n"), 0o644))
	require.NoError(t, os.Symlink("net:["+network+"]", filepath.Join(dir, "ns", "net")))
}

func TestPodProcesses(t *testing.T) {
	const (
		first  = "01234567-89ab-cdef-0123-456789abcdef"
		second = "fedcba98-7654-3210-fedc-ba9876543210"
	)
	pods := "/testbed-1/node-a/kubepods/burstable/pod"
	proc := t.TempDir()
	process(t, proc, 10, 1, "/", "node")
	process(t, proc, 20, 10, "/", "node") // containerd's shim
	process(t, proc, 32, 20, pods+first+"/app", "pod-1")
	process(t, proc, 31, 20, pods+first+"/sandbox", "pod-1")
	process(t, proc, 30, 20, pods+first+"/starting", "node")                                                                // has not entered its namespace yet
	process(t, proc, 41, 20, "/kubepods.slice/kubepods-podfedcba98_7654_3210_fedc_ba9876543210.slice/cri.scope/x", "pod-2") // systemd's names
	process(t, proc, 51, 20, pods+"11111111-1111-1111-1111-111111111111/agent", "node")                                     // shares the node's network
	process(t, proc, 60, 1, "/kubepods/pod22222222-2222-2222-2222-222222222222/x", "pod-3")                                 // of another cluster
	process(t, proc, 61, 61, "/kubepods/pod22222222-2222-2222-2222-222222222222/x", "pod-3")                                // its own parent
	require.NoError(t, os.WriteFile(filepath.Join(proc, "uptime"), nil, 0o644))

	found, err := PodProcesses(proc, []int{10})
	require.NoError(t, err)
	require.Equal(t, map[string]int{first: 31, second: 41}, found)
	_, err = PodProcesses(proc, []int{10, 99})
	require.Error(t, err, "a machine that does not run")
}

// sockets is what a node with a few programs shows, shortened.
const sockets = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 00000000:20FB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0502F40A:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
   3: 0502F40A:20FB 0602F40A:C001 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0 100 0 0 10 0
`

const sockets6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   2: 0000000000000000FFFF00000502F40A:1F92 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
`

// Ports 53, and one that clients are given.
const datagrams = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
  101: 00000000:9C40 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
  102: 0502F40A:0036 0602F40A:0035 01 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
`

func TestReadListening(t *testing.T) {
	proc := t.TempDir()
	dir := filepath.Join(proc, "7", "net")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for file, text := range map[string]string{"tcp": sockets, "tcp6": sockets6, "udp": datagrams} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644))
	}
	got, err := ReadListening(proc, 7, netip.MustParseAddr("10.244.2.5"))
	require.NoError(t, err)
	require.Equal(t, []Socket{{zones.TCP, 5432}, {zones.TCP, 8080}, {zones.TCP, 8082}, {zones.TCP, 8443}, {zones.UDP, 53}}, got)
	got, err = ReadListening(proc, 7, netip.MustParseAddr("10.244.2.6"))
	require.NoError(t, err)
	require.Equal(t, []Socket{{zones.TCP, 8080}, {zones.TCP, 8443}, {zones.UDP, 53}}, got)

	for _, broken := range []string{"header\n 0: 0100007F 0 0A\n", "header\n 0: 0100007F:1F90\n", "header\n 0: 01:1F90 0 0A\n", "header\n 0: 0100007F:FFFFF 0 0A\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "tcp"), []byte(broken), 0o644))
		_, err = ReadListening(proc, 7, netip.MustParseAddr("10.244.2.5"))
		require.ErrorContains(t, err, "line 2", broken)
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "tcp")))
	_, err = ReadListening(proc, 7, netip.MustParseAddr("10.244.2.5"))
	require.Error(t, err)
}

func FuzzParseSockets(f *testing.F) {
	f.Add(sockets, stateListen)
	f.Add(sockets6, stateListen)
	f.Add(datagrams, stateUnconnected)
	f.Fuzz(func(t *testing.T, text, state string) {
		found, err := parseSockets(text, state)
		if err == nil {
			for _, a := range found {
				require.True(t, a.Addr().IsValid())
			}
		}
	})
}
