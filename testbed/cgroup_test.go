package testbed

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersion1GroupsAreMadeInEveryControllerWithUsableCpusets(t *testing.T) {
	mount := t.TempDir()
	for _, controller := range []string{"cpuset", "memory", "unified"} {
		require.NoError(t, os.Mkdir(filepath.Join(mount, controller), 0o755))
	}
	for file, value := range map[string]string{"cpuset.cpus": "0-1", "cpuset.mems": "0"} {
		require.NoError(t, os.WriteFile(filepath.Join(mount, "cpuset", file), []byte(value), 0o644))
	}
	// The kernel makes these files with the directory; here they stand in before.
	group := filepath.Join(mount, "cpuset", "testbed-x", "node-a")
	require.NoError(t, os.MkdirAll(group, 0o755))
	for _, dir := range []string{filepath.Dir(group), group} {
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), nil, 0o644))
		}
	}
	g := cgroups{mount: mount}
	require.NoError(t, g.create(g.path("x", "node-a")))
	cpus, err := os.ReadFile(filepath.Join(group, "cpuset.cpus"))
	require.NoError(t, err)
	require.Equal(t, "0-1", string(cpus))
	require.DirExists(t, filepath.Join(mount, "memory", "testbed-x", "node-a"))
	require.NoDirExists(t, filepath.Join(mount, "unified", "testbed-x"))
}

func TestVersion2GroupsDelegateWhatIsAvailable(t *testing.T) {
	mount := t.TempDir()
	group := filepath.Join(mount, "testbed-x", "node-a")
	require.NoError(t, os.MkdirAll(group, 0o755))
	for _, dir := range []string{mount, filepath.Dir(group), group} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte("cpu memory\n"), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("cpu\n"), 0o644))
	}
	g := cgroups{mount: mount, unified: true}
	require.NoError(t, g.create(g.path("x", "node-a")))
	for _, dir := range []string{mount, filepath.Dir(group), group} {
		control, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		require.NoError(t, err)
		require.Equal(t, "+memory", string(control[:7]), "cpu is on already, memory is asked for, pids is not available")
	}
}

func TestRemoveTakesTheWholeTreeAndNothingElse(t *testing.T) {
	mount := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(mount, "memory", "testbed-x", "node-a", "kubepods", "pod1"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(mount, "memory", "other"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(mount, "unified", "testbed-x", "node-a"), 0o755))
	g := cgroups{mount: mount}
	require.NoError(t, g.remove("/testbed-x"))
	require.NoDirExists(t, filepath.Join(mount, "memory", "testbed-x"))
	require.NoDirExists(t, filepath.Join(mount, "unified", "testbed-x"), "the kubelet makes groups there too")
	require.DirExists(t, filepath.Join(mount, "memory", "other"))
	require.NoError(t, g.remove("/testbed-x"), "a second removal finds nothing to do")
}
