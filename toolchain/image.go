package toolchain

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"ephemos.dev/deploy/toolchain/internal/debian"
	"ephemos.dev/deploy/toolchain/internal/oci"
)

// registryHost is the host in references of images that only a node's own store has. No such registry exists.
const registryHost = "ephemos.local"

// Files of an image's entry in the cache.
const (
	archiveFile  = "image.tar"
	imageFile    = "image.json"
	packagesFile = "packages.txt"
)

// makeImage makes the image of a program. source is the program's path, version its version.
func (w *workspace) makeImage(img image, version, source, dir string) ([]string, error) {
	files := baseFiles("nonroot", "/", img.user)
	last := len(img.paths) - 1
	for _, name := range img.paths[:last] {
		files = append(files, oci.File{Path: name, Mode: fs.ModeSymlink, Link: img.paths[last]})
	}
	files = append(files, oci.File{Path: img.paths[last], Mode: 0o755, Source: source})
	spec := oci.Spec{Arch: w.goEnv.GOARCH, Files: files, Config: v1.Config{
		Entrypoint: img.paths[:1],
		Cmd:        img.cmd,
		User:       fmt.Sprintf("%d:%d", img.user, img.user),
		WorkingDir: img.workdir,
		Env:        []string{"PATH=" + path.Dir(img.paths[0])},
	}}
	return writeImage(img, spec, version, dir)
}

// makeDebianImage makes an image of Debian packages.
func (w *workspace) makeDebianImage(ctx context.Context, img image, dir string, run func(*exec.Cmd) error) ([]string, error) {
	d := img.debian
	sources, err := hostMirrors()
	if err != nil {
		return nil, err
	}
	tree := filepath.Join(dir, "tree")
	if err := d.tree.Make(ctx, tree, filepath.Join(dir, packagesFile), sources, oci.Epoch, run); err != nil {
		return nil, err
	}
	files, err := d.pick(tree)
	if err != nil {
		return nil, err
	}
	files = append(files, baseFiles(d.account, d.home, img.user)...)
	for _, link := range []string{"bin", "lib", "lib64", "sbin"} {
		if _, err := os.Stat(filepath.Join(tree, "usr", link)); err == nil {
			files = append(files,
				oci.File{Path: "/usr/" + link, Mode: fs.ModeDir | 0o755},
				oci.File{Path: "/" + link, Mode: fs.ModeSymlink, Link: "usr/" + link})
		}
	}
	files = append(files,
		oci.File{Path: "/run", Mode: fs.ModeDir | 0o755},
		oci.File{Path: "/var/run", Mode: fs.ModeSymlink, Link: "../run"},
		oci.File{Path: "/etc/nsswitch.conf", Mode: 0o644, Content: []byte("passwd: files\ngroup: files\nhosts: files dns\n")},
		oci.File{Path: d.home, Mode: fs.ModeDir | 0o700, UID: img.user, GID: img.user},
	)
	for _, name := range d.dirs {
		files = append(files, oci.File{Path: name, Mode: fs.ModeDir | 0o755, UID: img.user, GID: img.user})
	}
	spec := oci.Spec{Arch: w.goEnv.GOARCH, Files: files, Config: v1.Config{
		Entrypoint: d.entrypoint,
		User:       fmt.Sprintf("%d:%d", img.user, img.user),
		Env:        d.env,
	}}
	outputs, err := writeImage(img, spec, d.version, dir)
	if err != nil {
		return nil, err
	}
	return append(outputs, packagesFile), os.RemoveAll(tree)
}

// hostMirrors returns the package sources for trees, as this host reaches them.
func hostMirrors() ([]debian.Source, error) {
	_, codename, err := debian.Release("/etc/os-release")
	if err != nil {
		return nil, err
	}
	return debian.Mirrors("/etc/apt", codename)
}

// pick returns the files of a tree that the image keeps, and the libraries that they need.
func (d *debianImage) pick(tree string) ([]oci.File, error) {
	kept, err := oci.FromTree(tree, func(name string, e fs.DirEntry) bool {
		return !e.IsDir() && matches(d.keep, name) && !matches(d.drop, name)
	})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(kept))
	for i, file := range kept {
		names[i] = file.Path
	}
	for _, pattern := range d.keep {
		if !matchesAny(pattern, names) {
			return nil, fmt.Errorf("no package has a file %s", pattern)
		}
	}
	needed, err := debian.Closure(tree, names)
	if err != nil {
		return nil, err
	}
	return oci.FromTree(tree, func(name string, _ fs.DirEntry) bool { return needed[name] })
}

func matchesAny(pattern string, names []string) bool {
	for _, name := range names {
		if matches([]string{pattern}, name) {
			return true
		}
	}
	return false
}

// matches tells whether one of the patterns matches a path; a pattern that ends in "/" matches all that is below.
func matches(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if strings.HasSuffix(pattern, "/") {
			if strings.HasPrefix(name, pattern) {
				return true
			}
			continue
		}
		// "[" is the name of a program and the begin of a class.
		if ok, err := path.Match(pattern, name); ok && err == nil || pattern == name {
			return true
		}
	}
	return false
}

// baseFiles are in every image: the accounts, and a /tmp for programs that get no volume there.
func baseFiles(account, home string, id int) []oci.File {
	passwd := fmt.Sprintf("root:x:0:0:root:/root:/sbin/nologin\n%s:x:%d:%d:%s:%s:/sbin/nologin\n", account, id, id, account, home)
	group := fmt.Sprintf("root:x:0:\n%s:x:%d:\n", account, id)
	return []oci.File{
		{Path: "/etc/passwd", Mode: 0o644, Content: []byte(passwd)},
		{Path: "/etc/group", Mode: 0o644, Content: []byte(group)},
		{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
	}
}

// writeImage writes the archive and the description of an image to dir.
func writeImage(img image, spec oci.Spec, version, dir string) ([]string, error) {
	spec.Config.Labels = map[string]string{
		"org.opencontainers.image.title":   img.name,
		"org.opencontainers.image.version": version,
	}
	layer := filepath.Join(dir, "layer.tar")
	built, err := oci.Build(spec, layer)
	if err != nil {
		return nil, err
	}
	digest, err := built.Digest()
	if err != nil {
		return nil, err
	}
	repository := registryHost + "/" + img.name
	byDigest := repository + "@" + digest.String()
	described := Image{Name: img.name, Ref: byDigest, Tag: repository + ":" + version, Digest: digest.String()}
	if img.debian != nil && img.debian.major {
		described.Ref = described.Tag + "@" + digest.String()
	}
	if err := oci.WriteArchive(filepath.Join(dir, archiveFile), built, byDigest, described.Tag); err != nil {
		return nil, err
	}
	if err := os.Remove(layer); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(described, "", "  ")
	if err != nil {
		return nil, err
	}
	return []string{archiveFile, imageFile}, os.WriteFile(filepath.Join(dir, imageFile), append(data, '\n'), 0o644)
}

// readImage returns the image of an entry in the cache.
func readImage(dir string) (Image, error) {
	data, err := os.ReadFile(filepath.Join(dir, imageFile))
	if err != nil {
		return Image{}, err
	}
	var img Image
	if err := json.Unmarshal(data, &img); err != nil {
		return Image{}, fmt.Errorf("%s: %w", filepath.Join(dir, imageFile), err)
	}
	img.Archive = filepath.Join(dir, archiveFile)
	return img, nil
}
