package toolchain

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ephemos.dev/deploy/toolchain/internal/cache"
	"ephemos.dev/deploy/toolchain/internal/oci"
)

// An item is a part of the catalogue with its key in this checkout: a step of the display when it has to be made.
type item struct {
	key    cache.Key
	err    error    // why there is no key, for example because the source is missing
	names  []string // by which it can be asked for
	groups []Group
	after  *item // what it is made of

	estimate time.Duration
	space    int  // megabytes
	debian   bool // made with mmdebstrap, which needs root and a Debian host
	compiles bool // made with the go command

	make func(ctx context.Context, dir string, run func(*exec.Cmd) error) (outputs []string, err error)
}

// title is the item's name in the display.
func (i *item) title() string {
	switch i.key.Kind {
	case kindPrograms:
		return i.key.Name
	case kindImages:
		return "image " + i.key.Name
	}
	return "root filesystem " + i.key.Name
}

// The kinds of items: folders of the cache.
const (
	kindPrograms = "programs"
	kindImages   = "images"
	kindRootFS   = "rootfs"
)

// plan returns all items, each after what it is made of. Debian's come first: they are the ones that fail for reasons outside
// this repository, so better before the long builds than after.
func (w *workspace) plan() []*item {
	var items []*item
	for _, r := range trees {
		items = append(items, w.rootfsItem(r))
	}
	for _, img := range images {
		if img.debian != nil {
			items = append(items, w.debianImageItem(img))
		}
	}
	programs := map[string]*item{}
	versions := map[string]string{}
	for _, b := range builds {
		i := w.programsItem(b)
		items = append(items, i)
		for _, p := range b.programs {
			programs[p.name], versions[p.name] = i, b.version
		}
	}
	for _, img := range images {
		if img.debian == nil {
			items = append(items, w.programImageItem(img, programs[img.program], versions[img.program]))
		}
	}
	return items
}

func (w *workspace) rootfsItem(r rootfs) *item {
	return &item{
		key: cache.Key{Kind: kindRootFS, Name: r.name, Hash: w.rootfsKey(r)}, names: []string{r.name}, groups: r.groups,
		estimate: r.estimate, space: r.space, debian: true,
		make: func(ctx context.Context, dir string, run func(*exec.Cmd) error) ([]string, error) {
			sources, err := hostMirrors()
			if err != nil {
				return nil, err
			}
			err = r.tree.Make(ctx, filepath.Join(dir, treeDir), filepath.Join(dir, packagesFile), sources, oci.Epoch, run)
			return []string{treeDir, packagesFile}, err
		},
	}
}

// treeDir is the folder of a root filesystem in its entry in the cache.
const treeDir = "tree"

func (w *workspace) debianImageItem(img image) *item {
	return &item{
		key: cache.Key{Kind: kindImages, Name: img.name, Hash: w.imageKey(img, "")}, names: []string{img.name}, groups: img.groups,
		estimate: img.debian.estimate, space: img.debian.space, debian: true,
		make: func(ctx context.Context, dir string, run func(*exec.Cmd) error) ([]string, error) {
			return w.makeDebianImage(ctx, img, dir, run)
		},
	}
}

func (w *workspace) programsItem(b build) *item {
	hash, err := w.programKey(b)
	names := []string{b.name}
	for _, p := range b.programs {
		names = append(names, p.name)
	}
	return &item{
		key: cache.Key{Kind: kindPrograms, Name: b.name, Hash: hash}, err: err, names: names, groups: b.groups,
		estimate: b.estimate, space: b.space, compiles: true,
		make: func(ctx context.Context, dir string, run func(*exec.Cmd) error) ([]string, error) {
			return w.makePrograms(ctx, b, dir, run)
		},
	}
}

func (w *workspace) programImageItem(img image, of *item, version string) *item {
	if version == "" {
		version = of.key.Hash[:min(12, len(of.key.Hash))]
	}
	return &item{
		key: cache.Key{Kind: kindImages, Name: img.name, Hash: w.imageKey(img, of.key.Hash)}, err: of.err,
		names: []string{img.name}, groups: img.groups, after: of,
		estimate: time.Second, space: 50,
		make: func(_ context.Context, dir string, _ func(*exec.Cmd) error) ([]string, error) {
			return w.makeImage(img, version, filepath.Join(w.cache.Path(of.key), img.program), dir)
		},
	}
}

// choose returns the items of the groups and what they are made of, in the plan's order.
func choose(items []*item, groups []Group) ([]*item, error) {
	if len(groups) == 0 {
		groups = []Group{GroupAll}
	}
	wanted := map[*item]bool{}
	for _, group := range groups {
		found := false
		for _, i := range items {
			if group == GroupAll || slices.Contains(i.groups, group) || slices.Contains(i.names, string(group)) {
				found, wanted[i] = true, true
				if i.after != nil {
					wanted[i.after] = true
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("unknown group or name %q: the groups are %s", group,
				strings.Join([]string{string(GroupTestbed), string(GroupStack), string(GroupCheck), string(GroupTest), string(GroupAWS), string(GroupAll)}, ", "))
		}
	}
	var chosen []*item
	for _, i := range items {
		if wanted[i] {
			chosen = append(chosen, i)
		}
	}
	return chosen, nil
}
