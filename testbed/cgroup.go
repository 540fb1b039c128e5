package testbed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupRoot is where the hosts mount control groups.
const cgroupRoot = "/sys/fs/cgroup"

// cgroups knows the host's control group layout. Each node's kubelet works below a directory of its own, so that pods of
// different nodes never share a group and Down can remove exactly what the testbed made.
type cgroups struct {
	mount   string // cgroupRoot, or a folder of a test
	unified bool   // version 2
}

func hostCgroups() (cgroups, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &fs); err != nil {
		return cgroups{}, fmt.Errorf("control groups: %s: %w", cgroupRoot, err)
	}
	return cgroups{mount: cgroupRoot, unified: fs.Type == unix.CGROUP2_SUPER_MAGIC}, nil
}

// path is the kubelet's cgroupRoot for a node. cluster is unique to the testbed.
func (cgroups) path(cluster, node string) string { return "/testbed-" + cluster + "/" + node }

// hierarchies are the directories under which groups stand: one for version 2, one a controller for version 1, where controllers
// that are mounted together appear under several names, which are links to one directory.
func (c cgroups) hierarchies() ([]string, error) {
	if c.unified {
		return []string{c.mount}, nil
	}
	entries, err := os.ReadDir(c.mount)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(c.mount, e.Name()))
		}
	}
	return dirs, nil
}

// controllers2 are what the kubelet and runc need of version 2.
var controllers2 = []string{"cpuset", "cpu", "io", "memory", "pids"}

// create makes group (a path as path returns it) in every hierarchy, ready for the kubelet.
func (c cgroups) create(group string) error {
	dirs, err := c.hierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if !c.unified && filepath.Base(dir) == "unified" {
			continue // on a hybrid host it has no controllers; what uses it makes its own groups there
		}
		for name := range strings.SplitSeq(strings.Trim(group, "/"), "/") {
			parent := dir
			dir = filepath.Join(dir, name)
			if c.unified {
				if err := delegate(parent); err != nil {
					return err
				}
			}
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			// A new version 1 cpuset is empty and takes no process.
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				if c.unified || !exists(filepath.Join(dir, file)) {
					continue
				}
				value, err := os.ReadFile(filepath.Join(parent, file))
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, file), value, 0o644)
				}
				if err != nil {
					return err
				}
			}
		}
		if c.unified {
			if err := delegate(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// delegate makes the controllers available to the groups below dir. Those that are on already, as systemd keeps them, stay.
func delegate(dir string) error {
	available, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	for _, controller := range controllers2 {
		if !slices.Contains(strings.Fields(string(available)), controller) || slices.Contains(strings.Fields(string(on)), controller) {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
			return fmt.Errorf("enable controller %s below %s: %w", controller, dir, err)
		}
	}
	return nil
}

// remove deletes group and everything below it from every hierarchy. Its processes must have been killed; the kernel
// may need a moment to let go of the directories of the last ones.
func (c cgroups) remove(group string) error {
	dirs, err := c.hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		top := filepath.Join(dir, group)
		deadline := time.Now().Add(10 * time.Second)
		for {
			err := removeTree(top)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				errs = append(errs, fmt.Errorf("control group %s: %w", top, err))
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return errors.Join(errs...)
}

// removeTree removes directories only, deepest first: the files of a control group cannot be unlinked and go with it.
func removeTree(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
