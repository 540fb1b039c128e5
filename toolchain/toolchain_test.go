package toolchain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"

	"ephemos.dev/deploy/toolchain/internal/cache"
)

// testWorkspace has this checkout and an empty cache. Its progress goes to out.
func testWorkspace(t *testing.T) (w *workspace, out *bytes.Buffer) {
	t.Helper()
	out = &bytes.Buffer{}
	w, err := openWorkspace(t.Context(), Options{Cache: t.TempDir(), Progress: out})
	require.NoError(t, err)
	return w, out
}

func TestCatalogueNamesAreUnique(t *testing.T) {
	programs, kinds := map[string]bool{}, map[string]bool{}
	for _, b := range builds {
		require.False(t, kinds["build "+b.name], b.name)
		kinds["build "+b.name] = true
		require.NotEmpty(t, b.groups, b.name)
		require.NotZero(t, b.estimate, b.name)
		for _, p := range b.programs {
			require.False(t, programs[p.name], "program %s", p.name)
			programs[p.name] = true
		}
	}
	for _, img := range images {
		require.False(t, kinds["image "+img.name], img.name)
		kinds["image "+img.name] = true
		require.NotZero(t, img.user, "%s would run as root", img.name)
		if img.debian == nil {
			require.Contains(t, programs, img.program, "program of image %s", img.name)
			require.NotEmpty(t, img.paths, img.name)
		}
	}
}

func TestCatalogueAgreesWithModules(t *testing.T) {
	root, err := findRoot()
	require.NoError(t, err)
	listed := map[string]bool{}
	for _, b := range builds {
		if b.module == "" {
			continue
		}
		listed[b.module] = true
		t.Run(b.module, func(t *testing.T) {
			dir := filepath.Join(root, "toolchain", b.module)
			data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			require.NoError(t, err)
			mod, err := modfile.Parse("go.mod", data, nil)
			require.NoError(t, err)
			require.Equal(t, modulePath+"/toolchain/"+b.module, mod.Module.Mod.Path)

			pinned := map[string]bool{}
			required := map[string]bool{}
			for _, r := range mod.Require {
				pinned[r.Mod.Path+" "+r.Mod.Version] = true
				required[r.Mod.Path] = true
			}
			for _, r := range mod.Replace {
				pinned[r.New.Path+" "+r.New.Version] = true
			}
			if b.pins != "" {
				require.Contains(t, pinned, b.pins)
				_, pin, _ := strings.Cut(b.pins, " ")
				if b.name != "pulumi-kubernetes" { // a pseudo-version, whose release the table names
					require.Equal(t, strings.TrimPrefix(pin, "v"), strings.TrimPrefix(b.version, "v"))
				}
				require.FileExists(t, filepath.Join(dir, "go.sum"))
			}
			for _, p := range b.patches {
				require.Contains(t, required, p.module)
				for _, d := range p.derived {
					require.Contains(t, transforms, d.transform)
				}
			}
		})
	}
	found, err := filepath.Glob(filepath.Join(root, "toolchain", "*", "go.mod"))
	require.NoError(t, err)
	for _, name := range found {
		require.Contains(t, listed, filepath.Base(filepath.Dir(name)), "a nested module that no build uses")
	}
}

// TestOverlaysBelongToPatches finds files that no build would use.
func TestOverlaysBelongToPatches(t *testing.T) {
	root, err := findRoot()
	require.NoError(t, err)
	for _, b := range builds {
		overlay := filepath.Join(root, "toolchain", b.module, "overlay")
		if _, err := os.Stat(overlay); b.module == "" || err != nil {
			continue
		}
		files, err := moduleFiles(overlay)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			used := false
			for _, p := range b.patches {
				used = used || strings.HasPrefix(filepath.ToSlash(file), p.module+"/")
			}
			require.True(t, used, "overlay file %s of %s", file, b.name)
		}
	}
}

func TestChoose(t *testing.T) {
	program := &item{key: cache.Key{Kind: kindPrograms, Name: "b"}, names: []string{"b", "tool"}, groups: []Group{GroupCheck}}
	img := &item{key: cache.Key{Kind: kindImages, Name: "tool"}, names: []string{"tool"}, groups: []Group{GroupStack}, after: program}
	other := &item{key: cache.Key{Kind: kindRootFS, Name: "node"}, names: []string{"node"}, groups: []Group{GroupTestbed}}
	all := []*item{other, program, img}
	for _, test := range []struct {
		groups []Group
		want   []*item
	}{
		{nil, all},
		{[]Group{GroupAll}, all},
		{[]Group{GroupStack}, []*item{program, img}}, // with what it is made of, in order
		{[]Group{GroupCheck}, []*item{program}},
		{[]Group{GroupCheck, GroupTestbed}, []*item{other, program}},
		{[]Group{"tool"}, []*item{program, img}},
		{[]Group{"b"}, []*item{program}},
	} {
		got, err := choose(all, test.groups)
		require.NoError(t, err)
		require.Equal(t, test.want, got, test.groups)
	}
	_, err := choose(all, []Group{"b", "nothing"})
	require.ErrorContains(t, err, `unknown group or name "nothing": the groups are testbed, stack, check, test, aws, all`)
}

// TestProgramKey changes one input after another of a module with an import, an embedded file and files that do not count.
func TestProgramKey(t *testing.T) {
	root := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	write("go.mod", "module ephemos.dev/deploy\n")
	write("go.sum", "")
	write("cmd/tool/main.go", "package main\nimport _ \"ephemos.dev/deploy/lib\"\n")
	write("cmd/tool/main_test.go", "package main\n")
	write("cmd/tool/main_windows.go", "package main\n")
	write("lib/lib.go", "package lib\nimport _ \"embed\"\n//go:embed data\nvar s []byte\n")
	write("lib/data/file", "1")
	write("other/other.go", "package other\n")

	w := &workspace{root: root, goEnv: goEnv{GOOS: "linux", GOARCH: "amd64"}}
	b := own("tool", "./cmd/tool", GroupStack, 0, 0)
	key := func() string {
		k, err := w.programKey(b)
		require.NoError(t, err)
		return k
	}
	before := key()
	require.Equal(t, before, key())
	for _, name := range []string{"cmd/tool/main_test.go", "cmd/tool/main_windows.go", "other/other.go"} {
		write(name, "package main // changed\n")
		require.Equal(t, before, key(), "%s is not part of the program", name)
	}
	for _, change := range []struct{ name, content string }{
		{"go.mod", "module ephemos.dev/deploy\n\ngo 1.26.6\n"},
		{"go.sum", "x"},
		{"cmd/tool/main.go", "package main\nimport _ \"ephemos.dev/deploy/lib\" //\n"},
		{"lib/lib.go", "package lib\nimport _ \"embed\"\n//go:embed data\nvar text []byte\n"},
		{"lib/data/file", "2"},
		{"lib/data/new", ""},
	} {
		write(change.name, change.content)
		after := key()
		require.NotEqual(t, before, after, change.name)
		before = after
	}
	w.goEnv.GOVERSION = "go1.99"
	require.NotEqual(t, before, key(), "another compiler")

	require.NoError(t, os.RemoveAll(filepath.Join(root, "lib")))
	_, err := w.programKey(b)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestPatch(t *testing.T) {
	dir, overlay := t.TempDir(), t.TempDir()
	write := func(path, content string) { require.NoError(t, os.WriteFile(path, []byte(content), 0o644)) }
	write(filepath.Join(dir, "a.go"), "one two")
	write(filepath.Join(dir, "schema.json"), `{"name": "x"}`)
	write(filepath.Join(overlay, "new.go"), "new")
	p := patch{
		edits:   []edit{{"a.go", "two", "three"}},
		derived: []derived{{"embed.json", "schema.json", "schema with version"}},
	}
	require.NoError(t, p.apply(dir, overlay, "1.2.3"))
	for name, want := range map[string]string{
		"a.go": "one three", "new.go": "new", "embed.json": `{"name":"x","version":"1.2.3"}`,
	} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, want, string(content))
	}
	require.ErrorContains(t, p.apply(dir, "", ""), "a.go has the text to replace 0 times, want once")
	require.ErrorIs(t, patch{}.apply(dir, overlay, ""), os.ErrExist, "an added file that upstream has got")
}

// fake is an item with a program that has the given content.
func fake(name string, build func(ctx context.Context, dir string, run func(*exec.Cmd) error) error) *item {
	return &item{
		key: cache.Key{Kind: kindPrograms, Name: name, Hash: strings.Repeat("0", 64)}, names: []string{name},
		make: func(ctx context.Context, dir string, run func(*exec.Cmd) error) ([]string, error) {
			return []string{name}, build(ctx, dir, run)
		},
	}
}

func TestFailedStep(t *testing.T) {
	w, out := testWorkspace(t)
	failing := fake("failing", func(ctx context.Context, dir string, run func(*exec.Cmd) error) error {
		return run(exec.CommandContext(ctx, "sh", "-c", "seq 1 40; echo cause >&2; exit 3"))
	})
	err := w.makeAll(t.Context(), []*item{failing})
	var step *StepError
	require.ErrorAs(t, err, &step)
	require.Equal(t, "failing", step.Step)
	require.Len(t, step.Tail, tailLines)
	require.Equal(t, "cause", step.Tail[tailLines-1])
	full, readErr := os.ReadFile(step.Log)
	require.NoError(t, readErr)
	require.Contains(t, string(full), "\n1\n2\n3\n", "the log has everything")
	require.ErrorContains(t, err, "failing failed: sh: exit status 3\n")
	require.ErrorContains(t, err, "\n  | cause\nlog: "+step.Log)
	require.Contains(t, out.String(), "[1/1] failing  failed 0s\n")
	require.Contains(t, out.String(), filepath.Dir(step.Log))
}

// TestStop checks that the end of the context ends the children of a command too.
func TestStop(t *testing.T) {
	w, out := testWorkspace(t)
	ctx, cancel := context.WithCancel(t.Context())
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, exec.Command("mkfifo", fifo).Run())
	hanging := fake("hanging", func(ctx context.Context, dir string, run func(*exec.Cmd) error) error {
		return run(exec.CommandContext(ctx, "sh", "-c", `sleep 1000 & echo $! > "$0"; wait`, fifo))
	})
	done := make(chan error, 1)
	go func() { done <- w.makeAll(ctx, []*item{hanging}) }()
	pid, err := os.ReadFile(fifo)
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Contains(t, out.String(), "stopped")
	// A killed orphan stays a zombie until process 1 reaps it.
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, 5*time.Second, 10*time.Millisecond, "the grandchild lives on")
	require.False(t, w.cache.Has(hanging.key))
}

func TestOldLogsGo(t *testing.T) {
	w, _ := testWorkspace(t)
	parent := filepath.Join(w.cache.Dir(), "logs")
	for n := range keptLogs + 3 {
		require.NoError(t, os.MkdirAll(filepath.Join(parent, fmt.Sprintf("20200101-0000%02d-1", n)), 0o755))
	}
	dir, err := w.newLogs()
	require.NoError(t, err)
	runs, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Len(t, runs, keptLogs)
	require.Equal(t, filepath.Base(dir), runs[keptLogs-1].Name())
}

func TestPreflight(t *testing.T) {
	w, out := testWorkspace(t)
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
		return path
	}
	good := machine{
		osRelease:  write("os-release", "ID=debian\nVERSION_CODENAME=bookworm\n"),
		etcApt:     filepath.Dir(write("apt/sources.list", "deb http://mirror.example.org/debian bookworm main\n")),
		freeMB:     func(string) (int, error) { return 100000, nil },
		lookPath:   func(string) (string, error) { return "/bin/x", nil },
		installPkg: func(context.Context, string) error { t.Error("nothing to install"); return nil },
	}
	compiled := &item{key: cache.Key{Kind: kindPrograms, Name: "big"}, space: 25000, compiles: true}
	node := &item{key: cache.Key{Kind: kindRootFS, Name: "node"}, space: 1000, debian: true}
	without := func(missing string) func(string) (string, error) {
		return func(program string) (string, error) {
			if program == missing {
				return "", exec.ErrNotFound
			}
			return "/bin/" + program, nil
		}
	}
	tests := []struct {
		name    string
		change  func(*machine, *workspace)
		missing []*item
		want    []string // one a line; none: no error
	}{
		{"all is well", func(*machine, *workspace) {}, []*item{compiled, node}, nil},
		{
			"no root, no space: both", func(m *machine, _ *workspace) {
				m.uid = 1000
				m.freeMB = func(string) (int, error) { return 12300, nil }
			},
			[]*item{compiled, node},
			[]string{
				"not enough disk space: " + w.cache.Dir() + " has 12.3 GB free, the missing builds need about 26.0 GB",
				"not root: root filesystem node is made with mmdebstrap, which needs root",
			},
		},
		{"no root, but nothing of Debian", func(m *machine, _ *workspace) { m.uid = 1000 }, []*item{compiled}, nil},
		{
			"another distribution", func(m *machine, _ *workspace) { m.osRelease = write("fedora", "ID=fedora\n") }, []*item{node},
			[]string{"not a Debian host (" + filepath.Join(dir, "fedora") +
				` has ID "fedora"): root filesystem node is made from Debian packages with mmdebstrap`},
		},
		{
			"no mirror", func(m *machine, _ *workspace) { m.etcApt = t.TempDir() }, []*item{node},
			[]string{"no source of Debian's own in"},
		},
		{
			"old Go", func(_ *machine, w *workspace) { w.goEnv.GOVERSION = "go1.21.3" }, []*item{compiled},
			[]string{"Go is too old: this is go1.21.3, go.mod wants go1.26"},
		},
		{
			"no apt", func(m *machine, _ *workspace) { m.lookPath = without("apt-get") }, []*item{node},
			[]string{"apt-get is not on PATH"},
		},
		{
			"apt fails", func(m *machine, _ *workspace) {
				m.lookPath = without("mmdebstrap")
				m.installPkg = func(context.Context, string) error { return errors.New("apt-get update: E: no network") }
			}, []*item{node},
			[]string{"the Debian package mmdebstrap cannot be installed: apt-get update: E: no network"},
		},
		{
			"mmdebstrap is installed", func(m *machine, _ *workspace) {
				m.lookPath = without("mmdebstrap")
				m.installPkg = func(context.Context, string) error { return nil }
			}, []*item{node}, nil,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, changed := good, *w
			test.change(&m, &changed)
			err := changed.check(t.Context(), m, test.missing)
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			var preflight *PreflightError
			require.ErrorAs(t, err, &preflight)
			require.Len(t, preflight.Problems, len(test.want))
			for i, want := range test.want {
				require.True(t, strings.HasPrefix(preflight.Problems[i], want), "%q", preflight.Problems[i])
				require.NotContains(t, preflight.Problems[i], "\n")
			}
		})
	}
	require.Contains(t, out.String(), "installing the Debian package mmdebstrap\n")
}

// fakeImage makes the image of a program whose content is the name, as the catalogue would.
func fakeImage(t *testing.T, name string) Image {
	t.Helper()
	w := &workspace{goEnv: goEnv{GOARCH: runtime.GOARCH}}
	program, dir := filepath.Join(t.TempDir(), name), t.TempDir()
	require.NoError(t, os.WriteFile(program, []byte(name), 0o755))
	outputs, err := w.makeImage(image{name: name, paths: []string{"/bin/" + name}, user: nonRoot}, "1.0", program, dir)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{archiveFile, imageFile}, outputs)
	img, err := readImage(dir)
	require.NoError(t, err)
	return img
}

func TestImageIsReproducible(t *testing.T) {
	first, second := fakeImage(t, "tool"), fakeImage(t, "tool")
	require.Equal(t, "ephemos.local/tool@"+first.Digest, first.Ref)
	require.Equal(t, "ephemos.local/tool:1.0", first.Tag)
	require.NotEqual(t, first.Archive, second.Archive)
	second.Archive = first.Archive
	require.Equal(t, first, second)
	require.NotEqual(t, first.Digest, fakeImage(t, "other").Digest)
}

func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	result := &Result{images: map[string]Image{"a": fakeImage(t, "a"), "b": fakeImage(t, "b")}}
	refs, err := result.Push(t.Context(), host+"/team/")
	require.NoError(t, err)
	require.Len(t, refs, 2)
	for n, ref := range refs {
		require.Equal(t, host+"/team/"+n+"@"+result.images[n].Digest, ref)
		parsed, err := name.ParseReference(ref)
		require.NoError(t, err)
		pulled, err := remote.Image(parsed)
		require.NoError(t, err)
		layers, err := pulled.Layers()
		require.NoError(t, err)
		content, err := layers[0].Uncompressed()
		require.NoError(t, err)
		require.NoError(t, content.Close())
		tag, err := name.ParseReference(host + "/team/" + n + ":1.0")
		require.NoError(t, err)
		_, err = remote.Head(tag)
		require.NoError(t, err)
	}
	_, err = result.Push(t.Context(), "not a registry")
	require.ErrorContains(t, err, `registry "not a registry"`)
}

func TestResult(t *testing.T) {
	r := &Result{programs: map[string]string{"etcd": "/x/etcd"}, images: map[string]Image{"a": {Ref: "h/a@sha256:1"}}}
	path, err := r.Program("etcd")
	require.NoError(t, err)
	require.Equal(t, "/x/etcd", path)
	_, err = r.Program("etc")
	require.EqualError(t, err, `no program "etc" here: there are etcd`)
	_, err = r.RootFS("node")
	require.Error(t, err)
	refs, err := json.Marshal(r.ImageRefs())
	require.NoError(t, err)
	require.JSONEq(t, `{"a":"h/a@sha256:1"}`, string(refs))
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"/usr/bin/", "/usr/bin/sh", true},
		{"/usr/bin/", "/usr/binaries", false},
		{"/usr/lib/*/libc.so", "/usr/lib/x/libc.so", true},
		{"/usr/lib/*/libc.so", "/usr/lib/x/y/libc.so", false},
		{"/usr/bin/[", "/usr/bin/[", true},
	} {
		require.Equal(t, test.want, matches([]string{test.pattern}, test.name), "%s %s", test.pattern, test.name)
	}
}
