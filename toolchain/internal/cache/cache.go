// Package cache keeps the results of builds on disk under the hash of what they are built from.
//
// An entry is a folder that appears at once, complete, or not at all: it is filled in a temporary folder of the same file system
// and renamed when everything in it has reached the disk. Processes that want the same entry wait for the one that builds it;
// what an interrupted build left is removed by whoever comes next.
package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// marker is the file that makes a folder an entry. It is written last.
const marker = "entry.json"

// lockPoll is how often a lock held by another process is tried again. Waiting in flock(2) itself could not be interrupted.
const lockPoll = 100 * time.Millisecond

// keepFor is how long an entry that nothing asks for survives newer entries of the same name.
const keepFor = 24 * time.Hour

// A Cache is a folder of entries. Any number of processes may use the same folder at once.
type Cache struct{ dir string }

// A Key names an entry.
type Key struct {
	Kind string // the folder of the cache, for example "programs"
	Name string // unique within the kind
	Hash string // of everything the entry is made from, lower-case hex
}

// id is the key's name in the file system.
func (k Key) id() string { return k.Name + "-" + k.Hash[:min(len(k.Hash), 16)] }

// content is what the marker records: an output's path below the entry and its size in bytes, -1 for a folder.
type content struct {
	Built   time.Time        `json:"built"`
	Seconds float64          `json:"seconds"`
	Outputs map[string]int64 `json:"outputs"`
}

// Open returns the cache in a folder, which it creates, and removes what interrupted builds left there.
func Open(dir string) (*Cache, error) {
	c := &Cache{dir: dir}
	for _, sub := range []string{"tmp", "locks"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("cache folder: %w", err)
		}
	}
	return c, c.sweep()
}

// Dir returns the cache's folder.
func (c *Cache) Dir() string { return c.dir }

// Path returns the folder of an entry, whether it exists or not.
func (c *Cache) Path(key Key) string { return filepath.Join(c.dir, key.Kind, key.id()) }

// Has tells whether an entry exists and its outputs are there with their recorded sizes. It marks the entry as used.
func (c *Cache) Has(key Key) bool {
	dir := c.Path(key)
	data, err := os.ReadFile(filepath.Join(dir, marker))
	if err != nil {
		return false
	}
	var recorded content
	if json.Unmarshal(data, &recorded) != nil || len(recorded.Outputs) == 0 {
		return false
	}
	for name, size := range recorded.Outputs {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || info.IsDir() != (size < 0) || !info.IsDir() && info.Size() != size {
			return false
		}
	}
	now := time.Now()
	_ = os.Chtimes(filepath.Join(dir, marker), now, now) // only prune reads it
	return true
}

// A Builder fills the folder dir and returns the paths of its outputs relative to it; a folder stands for all that is in it.
type Builder func(ctx context.Context, dir string) (outputs []string, err error)

// Build makes an entry unless it exists. Only one build runs at a time among all processes that share the cache; waiting, if
// not nil, is called once before it has to wait for another process.
func (c *Cache) Build(ctx context.Context, key Key, waiting func(), build Builder) (err error) {
	unlock, err := c.lock(ctx, key.Kind+"."+key.Name, waiting)
	if err != nil {
		return err
	}
	defer unlock()
	if c.Has(key) {
		return nil // another process built it while this one waited
	}
	unlockAll, err := c.lock(ctx, "build", waiting)
	if err != nil {
		return err
	}
	defer unlockAll()

	// A new name each time: a command of a killed build may go on writing to the old one for a while.
	tmp, err := os.MkdirTemp(filepath.Join(c.dir, "tmp"), key.Kind+"."+key.Name+".")
	if err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(tmp))
		}
	}()

	start := time.Now()
	outputs, err := build(ctx, tmp)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	took := time.Since(start)
	if err := seal(tmp, took, outputs); err != nil {
		return err
	}
	if err := c.publish(key, tmp); err != nil {
		return err
	}
	c.record(key, took)
	return c.prune(key)
}

// seal writes the outputs and then the marker to the disk.
func seal(dir string, took time.Duration, outputs []string) error {
	if len(outputs) == 0 {
		return errors.New("the build has no output")
	}
	recorded := content{Built: time.Now().UTC(), Seconds: took.Seconds(), Outputs: map[string]int64{}}
	for _, name := range outputs {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("output of the build: %w", err)
		}
		recorded.Outputs[name] = info.Size()
		if info.IsDir() {
			recorded.Outputs[name] = -1
			err = syncFileSystem(dir)
		} else {
			err = syncPath(filepath.Join(dir, name))
		}
		if err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(recorded, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, marker), append(data, '\n'), 0o644); err != nil {
		return err
	}
	return errors.Join(syncPath(filepath.Join(dir, marker)), syncPath(dir))
}

// publish makes a sealed folder the entry, in place of a damaged one.
func (c *Cache) publish(key Key, tmp string) error {
	dir := c.Path(key)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := remove(dir); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return syncPath(filepath.Dir(dir))
}

// prune removes entries of the same name that nothing asked for lately. Folders that may be mounted are kept: an entry with a
// folder among its outputs goes only when its owner removes the cache.
func (c *Cache) prune(key Key) error {
	parent := filepath.Dir(c.Path(key))
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name, hash, found := cutLast(entry.Name(), "-")
		if !found || name != key.Name || entry.Name() == key.id() || hash == "" {
			continue
		}
		dir := filepath.Join(parent, entry.Name())
		info, err := os.Stat(filepath.Join(dir, marker))
		if err != nil || time.Since(info.ModTime()) < keepFor || hasFolder(dir) {
			continue
		}
		if err := remove(dir); err != nil {
			return err
		}
	}
	return nil
}

func hasFolder(dir string) bool {
	data, err := os.ReadFile(filepath.Join(dir, marker))
	var recorded content
	if err != nil || json.Unmarshal(data, &recorded) != nil {
		return true
	}
	for _, size := range recorded.Outputs {
		if size < 0 {
			return true
		}
	}
	return false
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// sweep removes the temporary folders of builds that no living process works on.
func (c *Cache) sweep() error {
	entries, err := os.ReadDir(filepath.Join(c.dir, "tmp"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		lockName, _, _ := cutLast(entry.Name(), ".")
		lock, err := c.tryLock(lockName)
		if err != nil {
			return err
		}
		if lock == nil {
			continue
		}
		err = remove(filepath.Join(c.dir, "tmp", entry.Name()))
		lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// lock takes a lock by name among all processes. The kernel releases it when the process ends, however it ends.
func (c *Cache) lock(ctx context.Context, name string, waiting func()) (unlock func(), err error) {
	for {
		lock, err := c.tryLock(name)
		if err != nil {
			return nil, err
		}
		if lock != nil {
			return func() { lock.Close() }, nil
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// tryLock returns nil without an error when another process holds the lock.
func (c *Cache) tryLock(name string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(c.dir, "locks", name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return file, nil
	}
	file.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
}

// durations is the file with the last duration of each build, in seconds, by kind and name.
func (c *Cache) durations() string { return filepath.Join(c.dir, "durations.json") }

// Durations returns how long each build took when it last ran in this cache, by "kind/name".
func (c *Cache) Durations() map[string]time.Duration {
	durations := map[string]time.Duration{}
	data, err := os.ReadFile(c.durations())
	seconds := map[string]float64{}
	if err != nil || json.Unmarshal(data, &seconds) != nil {
		return durations // only estimates depend on it
	}
	for name, s := range seconds {
		durations[name] = time.Duration(s * float64(time.Second))
	}
	return durations
}

// record keeps the duration of a build. It runs under the lock of all builds. Failure costs only an estimate.
func (c *Cache) record(key Key, took time.Duration) {
	seconds := map[string]float64{key.Kind + "/" + key.Name: took.Seconds()}
	for name, d := range c.Durations() {
		if _, ok := seconds[name]; !ok {
			seconds[name] = d.Seconds()
		}
	}
	if data, err := json.MarshalIndent(seconds, "", "  "); err == nil {
		_ = WriteFile(c.durations(), append(data, '\n'))
	}
}

// WriteFile replaces a file so that readers see the old content or the new one, never a part.
func WriteFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// remove is os.RemoveAll that also removes read-only folders, which copies from the module cache are. It refuses to work on a
// tree in which something is mounted.
func remove(path string) error {
	mounted, err := mountBelow(path)
	if err != nil {
		return err
	}
	if mounted != "" {
		return fmt.Errorf("%s cannot be removed: something is mounted on %s", path, mounted)
	}
	err = os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}

// mountBelow returns a mount point at or below path in this process's mount namespace, or "".
func mountBelow(path string) (string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && (fields[4] == path || strings.HasPrefix(fields[4], path+"/")) {
			return fields[4], nil
		}
	}
	return "", nil
}

func syncPath(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

func syncFileSystem(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(file.Fd())), file.Close())
}
