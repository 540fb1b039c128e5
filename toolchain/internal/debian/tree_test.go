package debian

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestClosure takes a dynamic program of the host for a tree of its own.
func TestClosure(t *testing.T) {
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Skip("the host has no cat")
	}
	libraries, err := filepath.Glob("/usr/lib/*-linux-gnu/libc.so.6")
	require.NoError(t, err)
	if len(libraries) == 0 {
		t.Skip("the host's libraries are not where Debian has them")
	}
	cat, err = filepath.EvalSymlinks(cat)
	require.NoError(t, err)
	found, err := Closure("/", []string{cat})
	require.NoError(t, err)
	require.Contains(t, found, libraries[0], "the C library")
	loaders := 0
	for name := range found {
		if matched, _ := filepath.Match("ld-linux-*", filepath.Base(name)); matched {
			loaders++
		}
	}
	require.NotZero(t, loaders, "the interpreter is needed too: %v", slices.Sorted(maps.Keys(found)))
}

func TestClosureOfLinksAndText(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "usr/bin/dash"), []byte("#!"), 0o755))
	require.NoError(t, os.Symlink("/bin/dash", filepath.Join(root, "usr/bin/sh")))
	found, err := Closure(root, []string{"/bin/sh"})
	require.NoError(t, err)
	require.Equal(t, map[string]bool{"/usr/bin/sh": true, "/usr/bin/dash": true}, found)

	require.NoError(t, os.Symlink("gone", filepath.Join(root, "usr/bin/broken")))
	_, err = Closure(root, []string{"/usr/bin/broken"})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestPackagesOfAnotherSuite(t *testing.T) {
	const mirror, second, security = "http://mirror.example.org/debian", "http://second.example.org/debian", "http://mirror.example.org/debian-security"
	sources := []Source{{mirror, Suite}, {mirror, Suite + "-updates"}, {security, Suite + "-security"}, {second, Suite}}
	const backports = Suite + "-backports"

	got, err := Tree{Packages: []string{"bash", "libc6"}}.add(sources)
	require.NoError(t, err)
	require.Equal(t, sources, got, "nothing is added for a tree of one suite")

	got, err = Tree{Packages: []string{"bash", "suricata/" + backports, "libhtp2/" + backports}}.add(sources)
	require.NoError(t, err)
	require.Equal(t, append(slices.Clone(sources), Source{mirror, backports}, Source{second, backports}), got)

	_, err = Tree{Packages: []string{"suricata/sid"}}.add(sources)
	require.ErrorContains(t, err, "suricata/sid")
	_, err = Tree{Packages: []string{"suricata/" + backports}}.add(sources[1:3])
	require.ErrorContains(t, err, "no source with suite "+Suite)

	one, other := Tree{Packages: []string{"suricata"}}, Tree{Packages: []string{"suricata/" + backports}}
	require.NotEqual(t, one.Fingerprint(), other.Fingerprint())
}
