package toolchain

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	gobuild "go/build"
	"hash"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// format is part of every key. It changes when this package makes something else from the same inputs.
const format = "1"

// newKey returns a hash that has taken the parts of every key.
func newKey(kind string) hash.Hash {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s\n", kind, format)
	return h
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// programKey returns the hash of everything that a build is made from.
func (w *workspace) programKey(b build) (string, error) {
	h := newKey("programs")
	fmt.Fprintln(h, w.goEnv.target(), buildFlags, buildEnv, linkFlags)
	fmt.Fprintf(h, "%#v %#v %#v %#v %#v\n", b.name, b.version, b.ldflags, b.programs, b.patches)
	dir := w.moduleDir(b)
	var files []string
	var err error
	if b.module != "" {
		files, err = moduleFiles(dir)
	} else {
		var pkgs []string
		for _, p := range b.programs {
			pkgs = append(pkgs, p.pkg)
		}
		files, err = w.importedFiles(dir, pkgs)
	}
	if err != nil {
		return "", err
	}
	for _, name := range files {
		if err := hashFile(h, dir, name); err != nil {
			return "", err
		}
	}
	return sum(h), nil
}

// hashFile adds a file's path below dir, its size and its content.
func hashFile(h hash.Hash, dir, name string) error {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	fmt.Fprintf(h, "%q %d\n", filepath.ToSlash(name), len(data))
	_, err = h.Write(data)
	return err
}

// moduleFiles returns what a nested module is made of: go.mod, go.sum and all Go files, sorted, relative to its folder.
func moduleFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if name := d.Name(); name == "go.mod" || name == "go.sum" || strings.HasSuffix(name, ".go") {
			relative, err := filepath.Rel(dir, path)
			files = append(files, relative)
			return err
		}
		return nil
	})
	slices.Sort(files)
	return files, err
}

// importedFiles returns go.mod, go.sum and the source and embedded files of the packages and of all packages of the same module
// that they import, sorted, relative to the module's folder dir.
func (w *workspace) importedFiles(dir string, pkgs []string) ([]string, error) {
	context := gobuild.Default
	context.GOOS, context.GOARCH, context.CgoEnabled = w.goEnv.GOOS, w.goEnv.GOARCH, false
	files := map[string]bool{"go.mod": true, "go.sum": true}
	seen := map[string]bool{}
	for queue := pkgs; len(queue) > 0; {
		name := filepath.Clean(queue[0])
		queue = queue[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
		pkg, err := context.ImportDir(filepath.Join(dir, name), 0)
		if err != nil {
			return nil, err
		}
		for _, list := range [][]string{pkg.GoFiles, pkg.SFiles, pkg.HFiles, pkg.SysoFiles} {
			for _, file := range list {
				files[filepath.Join(name, file)] = true
			}
		}
		for _, pattern := range pkg.EmbedPatterns {
			if err := addEmbedded(files, dir, name, pattern); err != nil {
				return nil, err
			}
		}
		for _, path := range pkg.Imports {
			if relative, ok := strings.CutPrefix(path, modulePath+"/"); ok {
				queue = append(queue, filepath.FromSlash(relative))
			}
		}
	}
	return slices.Sorted(maps.Keys(files)), nil
}

// addEmbedded adds the files that a go:embed pattern of a package may match. It adds a few more than the compiler takes, such as
// hidden ones, which does no harm to a key.
func addEmbedded(files map[string]bool, dir, pkg, pattern string) error {
	pattern = strings.TrimPrefix(pattern, "all:")
	matches, err := filepath.Glob(filepath.Join(dir, pkg, filepath.FromSlash(pattern)))
	if err != nil {
		return fmt.Errorf("go:embed %s: %w", pattern, err)
	}
	for _, match := range matches {
		err := filepath.WalkDir(match, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			relative, err := filepath.Rel(dir, path)
			files[relative] = true
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// imageKey returns the hash of an image's definition and of the program in it.
func (w *workspace) imageKey(img image, programKey string) string {
	h := newKey("images")
	fmt.Fprintln(h, w.goEnv.GOARCH, programKey)
	debianImage := img.debian
	img.groups, img.debian = nil, nil
	fmt.Fprintf(h, "%#v\n", img)
	if debianImage != nil {
		definition := *debianImage
		definition.estimate, definition.space = 0, 0
		fmt.Fprintf(h, "%#v\n", definition)
		fmt.Fprint(h, definition.tree.Fingerprint())
	}
	return sum(h)
}

// rootfsKey returns the hash of a root filesystem's definition.
func (w *workspace) rootfsKey(r rootfs) string {
	h := newKey("rootfs")
	fmt.Fprintln(h, w.goEnv.GOARCH, r.name)
	fmt.Fprint(h, r.tree.Fingerprint())
	return sum(h)
}
