package toolchain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Flags of every go build: paths of this machine and debug information stay out, so that a checkout anywhere gives the same file.
var (
	buildFlags = []string{"-mod=readonly", "-trimpath", "-gcflags=all=-dwarf=false"}
	buildEnv   = []string{"CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off"}
)

const linkFlags = "-s -w"

// noSumDB lists modules that the checksum database does not know in the pinned versions. Their checksums are those of go.sum.
const noSumDB = "github.com/pulumi/*,github.com/k3s-io/*,github.com/spiffe/*,github.com/cloudnative-pg/*"

// goCommand returns a go command in a folder, with the environment of all builds.
func (w *workspace) goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	sumDB := noSumDB
	if w.goEnv.GONOSUMDB != "" {
		sumDB += "," + w.goEnv.GONOSUMDB
	}
	cmd.Env = append(append(os.Environ(), buildEnv...), "GONOSUMDB="+sumDB)
	return cmd
}

// moduleDir returns the folder of the module that a build builds from.
func (w *workspace) moduleDir(b build) string {
	if b.module == "" {
		return w.root
	}
	return filepath.Join(w.root, "toolchain", b.module)
}

// makePrograms builds the programs of b into dir.
func (w *workspace) makePrograms(ctx context.Context, b build, dir string, run func(*exec.Cmd) error) (outputs []string, err error) {
	module := w.moduleDir(b)
	if len(b.patches) > 0 {
		work := filepath.Join(dir, "work")
		if err := w.patchModule(ctx, b, work); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
		module = work
	}
	for _, p := range b.programs {
		args := append([]string{"build"}, buildFlags...)
		args = append(args, "-ldflags", strings.TrimSpace(linkFlags+" "+b.ldflags), "-o", filepath.Join(dir, p.name), p.pkg)
		if err := run(w.goCommand(ctx, module, args...)); err != nil {
			return nil, err
		}
		outputs = append(outputs, p.name)
	}
	return outputs, nil
}

// patchModule writes to a new folder work a copy of the build's module that uses patched copies of some dependencies. Their
// paths in go.mod are relative, because the go command records them in the program.
func (w *workspace) patchModule(ctx context.Context, b build, work string) error {
	module := w.moduleDir(b)
	if err := copyTree(module, work, func(name string) bool { return name != "overlay" }); err != nil {
		return err
	}
	edit := []string{"mod", "edit"}
	for i, p := range b.patches {
		source, version, replaced, err := w.download(ctx, module, p.module)
		if err != nil {
			return err
		}
		relative := fmt.Sprintf("./patched/%d", i)
		target := filepath.Join(work, relative)
		if err := copyTree(source, target, nil); err != nil {
			return err
		}
		overlay := filepath.Join(module, "overlay", filepath.FromSlash(p.module))
		if err := p.apply(target, overlay, b.version); err != nil {
			return fmt.Errorf("patch of %s: %w", p.module, err)
		}
		if replaced {
			edit = append(edit, "-dropreplace="+p.module+"@"+version)
		}
		edit = append(edit, "-replace="+p.module+"="+relative)
	}
	if out, err := w.goCommand(ctx, work, edit...).CombinedOutput(); err != nil {
		return fmt.Errorf("go mod edit: %w: %s", err, out)
	}
	return nil
}

// download returns the folder in the module cache of a dependency, its required version, and whether go.mod replaces it.
func (w *workspace) download(ctx context.Context, module, path string) (dir, version string, replaced bool, err error) {
	var stderr bytes.Buffer
	cmd := w.goCommand(ctx, module, "mod", "download", "-json", path)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var downloaded struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &downloaded); err == nil {
		err = jsonErr
	}
	if downloaded.Error != "" {
		err = errors.New(downloaded.Error)
	}
	if err != nil {
		return "", "", false, fmt.Errorf("go mod download %s failed: %w %s", path, err, stderr.Bytes())
	}
	cmd = w.goCommand(ctx, module, "list", "-m", "-json", path)
	cmd.Stderr = &stderr
	out, err = cmd.Output()
	var listed struct {
		Version string
		Replace *struct{ Path string }
	}
	if jsonErr := json.Unmarshal(out, &listed); err == nil {
		err = jsonErr
	}
	if err != nil {
		return "", "", false, fmt.Errorf("go list -m %s: %w: %s", path, err, stderr.Bytes())
	}
	return downloaded.Dir, listed.Version, listed.Replace != nil, nil
}

// apply changes the copy of a module in dir. overlay is a folder of files to add, which need not exist.
func (p patch) apply(dir, overlay, version string) error {
	if _, err := os.Stat(overlay); err == nil {
		if err := copyTree(overlay, dir, nil); err != nil {
			return err
		}
	}
	for _, e := range p.edits {
		name := filepath.Join(dir, filepath.FromSlash(e.file))
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if n := bytes.Count(data, []byte(e.old)); n != 1 {
			return fmt.Errorf("%s has the text to replace %d times, want once: %q", e.file, n, e.old)
		}
		if err := os.WriteFile(name, bytes.Replace(data, []byte(e.old), []byte(e.new), 1), 0o644); err != nil {
			return err
		}
	}
	for _, d := range p.derived {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(d.from)))
		if err != nil {
			return err
		}
		transform, ok := transforms[d.transform]
		if !ok {
			return fmt.Errorf("%s: unknown transform %q", d.file, d.transform)
		}
		if data, err = transform(data, version); err != nil {
			return fmt.Errorf("%s: %w", d.from, err)
		}
		if err := writeNew(filepath.Join(dir, filepath.FromSlash(d.file)), bytes.NewReader(data)); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies the regular files below a folder; what is read-only in the module cache becomes writable. keep, if not nil, is
// asked for each name directly in the folder. A file that exists is an error.
func copyTree(from, to string, keep func(name string) bool) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if keep != nil && relative != "." && filepath.Dir(relative) == "." && !keep(relative) {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, relative), 0o755)
		}
		source, err := os.Open(path)
		if err != nil {
			return err
		}
		defer source.Close()
		return writeNew(filepath.Join(to, relative), source)
	})
}

// writeNew writes a file that must not exist.
func writeNew(name string, content io.Reader) error {
	out, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, content)
	return errors.Join(err, out.Close())
}
