package testbed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"ephemos.dev/deploy/toolchain"
	"golang.org/x/sys/unix"
)

// A containerd store with every image unpacked is made once for a set of images and kept in the cache. Each node's store is
// that one again, with hard links instead of copies: image layers and blobs are never written to, containers write to directories
// of their own, and only the two small databases are copied. Starting three nodes therefore imports nothing.

// importer is the machine that fills a store, and buildingPrefix begins the name of a store that is not whole.
const (
	importer       = "importer"
	buildingPrefix = "building-"
)

// containerdStore is where containerd keeps images inside a machine.
const containerdStore = "/var/lib/containerd"

// imageStore returns the directory of the prepared store for the images, making it if this is its first use.
func (c *Cluster) imageStore(ctx context.Context, images []toolchain.Image, rootfs string) (string, error) {
	digest := sha256.New()
	_, _ = io.WriteString(digest, "store 1\n"+rootfs+"\n")
	for _, i := range images {
		_, _ = io.WriteString(digest, i.Ref+"\n"+i.Tag+"\n")
	}
	name := hex.EncodeToString(digest.Sum(nil))[:16]
	parent := filepath.Join(c.cache, "image-stores")
	store := filepath.Join(parent, name)
	if exists(store) {
		return store, nil
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	unlock, err := lockFile(ctx, filepath.Join(parent, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(store) {
		return store, nil
	}
	done := c.step("Import %d images into a store for the nodes", len(images))
	// An import that was killed half-way leaves its machine at work.
	machines, err := findMachines(c.dir)
	if err != nil {
		return "", err
	}
	for _, m := range machines {
		if m.Name == importer {
			if err := m.kill(ctx); err != nil {
				return "", err
			}
		}
	}
	machineDir := c.machineDir(importer)
	if err := os.RemoveAll(machineDir); err != nil {
		return "", err
	}
	building, err := os.MkdirTemp(parent, buildingPrefix)
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(building) }()
	spec := machineSpec{
		Name:   importer,
		RootFS: rootfs,
		Binds: []bind{
			{Source: building, Target: containerdStore},
			{Source: logDir(machineDir), Target: "/var/log/testbed"},
		},
		Services: []service{{Name: "containerd", Args: []string{"/usr/bin/containerd"}}},
	}
	for i, image := range images {
		spec.Binds = append(spec.Binds, bind{Source: image.Archive, Target: fmt.Sprintf("/images/%d.tar", i), ReadOnly: true})
	}
	m, err := launch(machineDir, spec, nil, func(machine) error { return nil })
	if err != nil {
		return "", err
	}
	defer func() { _ = m.kill(context.WithoutCancel(ctx)) }()
	if err := poll(ctx, 60*time.Second, 100*time.Millisecond, "containerd to answer", func(ctx context.Context) (bool, error) {
		_, err := m.run(ctx, nil, "ctr", "version")
		return err == nil, err
	}); err != nil {
		return "", err
	}
	for i := range images {
		if _, err := m.run(ctx, nil, "ctr", "--namespace", "k8s.io", "images", "import", fmt.Sprintf("/images/%d.tar", i)); err != nil {
			return "", err
		}
	}
	// An ordinary end lets containerd close its databases.
	if err := syscall.Kill(m.pid, syscall.SIGTERM); err != nil {
		return "", err
	}
	if err := poll(ctx, 20*time.Second, 20*time.Millisecond, "containerd to stop", func(context.Context) (bool, error) {
		return !m.running(), nil
	}); err != nil {
		return "", err
	}
	if err := os.RemoveAll(machineDir); err != nil {
		return "", err
	}
	done()
	if err := os.Rename(building, store); err != nil {
		return "", err
	}
	return store, c.dropOldStores(parent, name)
}

// dropOldStores keeps the cache from growing with every change of an image: it keeps the newest few stores.
func (c *Cluster) dropOldStores(parent, keep string) error {
	const kept = 3
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	type aged struct {
		name string
		at   time.Time
	}
	var stores []aged
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && e.IsDir() && e.Name() != keep {
			stores = append(stores, aged{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(stores, func(a, b aged) int { return b.at.Compare(a.at) })
	for _, s := range stores[min(kept-1, len(stores)):] {
		if err := os.RemoveAll(filepath.Join(parent, s.name)); err != nil {
			return err
		}
	}
	return nil
}

// cloneStore fills a node's new containerd directory from the prepared store.
func cloneStore(store, target string) error {
	if exists(target) {
		return nil
	}
	building := target + ".building"
	if err := os.RemoveAll(building); err != nil {
		return err
	}
	err := filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(building, strings.TrimPrefix(path, store))
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		switch {
		case d.IsDir():
			if err := os.MkdirAll(to, 0o700); err != nil {
				return err
			}
			return errors.Join(unix.Lchown(to, int(stat.Uid), int(stat.Gid)), unix.Chmod(to, stat.Mode&0o7777))
		case filepath.Ext(path) == ".db":
			return copyFile(path, to)
		case d.Type()&(fs.ModeSocket|fs.ModeNamedPipe) != 0:
			return nil
		}
		err = os.Link(path, to)
		if errors.Is(err, unix.EXDEV) {
			return fmt.Errorf("the cache and the state directory must be on one file system: %w", err)
		}
		return err
	})
	if err != nil {
		return err
	}
	return os.Rename(building, target)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// lockFile takes an exclusive lock, waiting while another process holds it.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("another run holds %s: %w", path, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
