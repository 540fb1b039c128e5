package cache

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var key = Key{Kind: "programs", Name: "tool", Hash: "0123456789abcdef0123456789abcdef"}

// writeTool is a build with one output.
func writeTool(_ context.Context, dir string) ([]string, error) {
	return []string{"tool"}, os.WriteFile(filepath.Join(dir, "tool"), []byte("content"), 0o755)
}

func open(t *testing.T, dir string) *Cache {
	t.Helper()
	c, err := Open(dir)
	require.NoError(t, err)
	return c
}

func temporary(t *testing.T, c *Cache) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(c.Dir(), "tmp", "*"))
	require.NoError(t, err)
	return found
}

func TestConcurrentBuildsRunOnce(t *testing.T) {
	dir := t.TempDir()
	var runs, waited atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c, err := Open(dir) // every one with its own file descriptors, as processes have
			if err != nil {
				t.Error(err)
				return
			}
			err = c.Build(t.Context(), key, func() { waited.Add(1) }, func(ctx context.Context, dir string) ([]string, error) {
				runs.Add(1)
				return writeTool(ctx, dir)
			})
			if err != nil || !c.Has(key) {
				t.Error("no entry after Build", err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, runs.Load())
	require.Empty(t, temporary(t, open(t, dir)))
}

func TestDifferentBuildsDoNotOverlap(t *testing.T) {
	dir := t.TempDir()
	var running atomic.Int32
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		all.Go(func() {
			err := open(t, dir).Build(t.Context(), Key{"programs", name, key.Hash}, nil, func(ctx context.Context, dir string) ([]string, error) {
				if running.Add(1) > 1 {
					t.Error("two builds at once")
				}
				defer running.Add(-1)
				return writeTool(ctx, dir)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	c := open(t, t.TempDir())
	broken := errors.New("broken")
	err := c.Build(t.Context(), key, nil, func(ctx context.Context, dir string) ([]string, error) {
		_, err := writeTool(ctx, dir)
		return nil, errors.Join(err, broken)
	})
	require.ErrorIs(t, err, broken)
	require.False(t, c.Has(key))
	require.Empty(t, temporary(t, c))

	err = c.Build(t.Context(), key, nil, func(context.Context, string) ([]string, error) { return []string{"tool"}, nil })
	require.ErrorIs(t, err, os.ErrNotExist, "an output that was not written")
	err = c.Build(t.Context(), key, nil, func(context.Context, string) ([]string, error) { return nil, nil })
	require.ErrorContains(t, err, "no output")
	require.False(t, c.Has(key))
}

func TestCancelledBuildIsNotPublished(t *testing.T) {
	c := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Build(ctx, key, nil, func(ctx context.Context, dir string) ([]string, error) {
		cancel()
		return writeTool(ctx, dir)
	})
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, c.Has(key))
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	dir := t.TempDir()
	first, second := open(t, dir), open(t, dir)
	err := first.Build(t.Context(), key, nil, func(ctx context.Context, tmp string) ([]string, error) {
		waiting, cancel := context.WithCancel(ctx)
		err := second.Build(waiting, key, cancel, writeTool)
		if !errors.Is(err, context.Canceled) {
			t.Error("want the context's error, have", err)
		}
		return writeTool(ctx, tmp)
	})
	require.NoError(t, err)
}

// TestKilledBuild leaves a temporary folder by killing a process in the middle of a build.
func TestKilledBuild(t *testing.T) {
	if dir := os.Getenv("CACHE_TEST_DIR"); dir != "" {
		c := open(t, dir)
		_ = c.Build(context.Background(), key, nil, func(ctx context.Context, dir string) ([]string, error) {
			_, err := writeTool(ctx, dir)
			if err == nil {
				_, err = os.Stdout.WriteString("building\n")
			}
			if err == nil {
				select {}
			}
			return nil, err
		})
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledBuild$")
	cmd.Env = append(os.Environ(), "CACHE_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = out.Read(make([]byte, 1))
	require.NoError(t, err)

	c := open(t, dir)
	require.Len(t, temporary(t, c), 1, "the folder of a living build stays")
	require.False(t, c.Has(key))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()

	c = open(t, dir)
	require.Empty(t, temporary(t, c), "the folder of a dead build goes")
	require.NoError(t, c.Build(t.Context(), key, nil, writeTool))
	require.True(t, c.Has(key))
}

func TestDamagedEntryIsRebuilt(t *testing.T) {
	damages := map[string]func(dir string) error{
		"truncated output": func(dir string) error { return os.Truncate(filepath.Join(dir, "tool"), 1) },
		"lost output":      func(dir string) error { return os.Remove(filepath.Join(dir, "tool")) },
		"lost marker":      func(dir string) error { return os.Remove(filepath.Join(dir, marker)) },
		"empty marker":     func(dir string) error { return os.Truncate(filepath.Join(dir, marker), 0) },
		"folder for a file": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "tool")), os.Mkdir(filepath.Join(dir, "tool"), 0o755))
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			c := open(t, t.TempDir())
			require.NoError(t, c.Build(t.Context(), key, nil, writeTool))
			require.NoError(t, damage(c.Path(key)))
			require.False(t, c.Has(key))
			require.NoError(t, c.Build(t.Context(), key, nil, writeTool))
			require.True(t, c.Has(key))
			content, err := os.ReadFile(filepath.Join(c.Path(key), "tool"))
			require.NoError(t, err)
			require.Equal(t, "content", string(content))
		})
	}
}

func TestPrune(t *testing.T) {
	c := open(t, t.TempDir())
	hash := func(first string) Key { return Key{key.Kind, key.Name, first + key.Hash[1:]} }
	other := Key{key.Kind, key.Name + "-more", key.Hash}
	old := time.Now().Add(-2 * keepFor)
	for _, k := range []Key{hash("a"), hash("b"), other} {
		require.NoError(t, c.Build(t.Context(), k, nil, writeTool))
	}
	folder := hash("c")
	require.NoError(t, c.Build(t.Context(), folder, nil, func(_ context.Context, dir string) ([]string, error) {
		return []string{"tree"}, os.Mkdir(filepath.Join(dir, "tree"), 0o755)
	}))
	for _, k := range []Key{hash("a"), other, folder} {
		require.NoError(t, os.Chtimes(filepath.Join(c.Path(k), marker), old, old))
	}
	require.NoError(t, c.Build(t.Context(), hash("d"), nil, writeTool))

	exists := func(k Key) bool { _, err := os.Stat(c.Path(k)); return err == nil }
	require.False(t, exists(hash("a")), "unused for long")
	require.True(t, exists(hash("b")), "used lately")
	require.True(t, exists(other), "of another name")
	require.True(t, exists(folder), "might be mounted")
}

func TestDurations(t *testing.T) {
	c := open(t, t.TempDir())
	require.Empty(t, c.Durations())
	require.NoError(t, c.Build(t.Context(), key, nil, writeTool))
	require.Contains(t, c.Durations(), "programs/tool")
	require.NoError(t, os.WriteFile(c.durations(), []byte("{"), 0o644))
	require.Empty(t, c.Durations(), "a damaged file costs the estimates only")
}
