package debian

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A Tree says what mmdebstrap makes.
type Tree struct {
	// Packages are installed with everything they depend on, but nothing they only recommend. One may be taken from another suite
	// of the release, in apt's notation: "suricata/bookworm-backports". What it depends on comes from Suite, unless it is named too.
	Packages []string
	// Installed says that the tree is a system of its own, with the essential packages, in which every package is configured.
	// Otherwise packages are only unpacked: no script of theirs runs, no user exists.
	Installed bool
}

// The options that decide what a tree contains besides its packages.
var treeOptions = []string{
	// As root this mode unshares the mount and process namespaces and no more: an end by force leaves no mount and no process.
	"--mode=unshare",
	"--format=directory",
	"--skip=check/qemu",
	"--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
	`--aptopt=Acquire::Languages "none"`,
	"--dpkgopt=path-exclude=/usr/share/doc/*",
	"--dpkgopt=path-exclude=/usr/share/info/*",
	"--dpkgopt=path-exclude=/usr/share/locale/*",
	"--dpkgopt=path-exclude=/usr/share/man/*",
}

// Where package names, versions and architectures can be read: when packages are only unpacked, from the package files, which are
// there right after; when they are installed, from dpkg's database.
const (
	listUnpacked = `--extract-hook=for deb in "$1"/var/cache/apt/archives/*.deb; do ` +
		`dpkg-deb --show --showformat '${Package} ${Version} ${Architecture}\n' "$deb"; done > "$EPHEMOS_PACKAGES"`
	listInstalled = `--customize-hook=dpkg-query --admindir="$1/var/lib/dpkg" --show ` +
		`--showformat '${Package} ${Version} ${Architecture}\n' > "$EPHEMOS_PACKAGES"`
)

// leftovers are files that differ between two installations of the same packages, or that name the mirror or a proxy of the host.
var leftovers = []string{
	"etc/apt/apt.conf.d/99mmdebstrap",
	"etc/apt/sources.list",
	"etc/apt/sources.list.d",
	"etc/dpkg/dpkg.cfg.d/99mmdebstrap",
	"etc/hostname",
	"etc/machine-id",
	"etc/resolv.conf",
	"var/cache/apt",
	"var/cache/debconf",
	"var/cache/ldconfig/aux-cache",
	"var/lib/apt/lists",
	"var/lib/dbus/machine-id",
	"var/lib/systemd",
	"var/log",
}

// mountPoints are empty files which an installed tree keeps, so that a machine's own can be mounted there.
var mountPoints = []string{"etc/hostname", "etc/machine-id", "etc/resolv.conf"}

// Fingerprint returns text that changes whenever the tree's definition does.
func (t Tree) Fingerprint() string {
	return strings.Join([]string{
		Suite, fmt.Sprint(t.Installed), strings.Join(t.Packages, ","), strings.Join(treeOptions, " "),
		strings.Join(leftovers, ","),
	}, "\n")
}

// add returns the sources and those of the other suites that packages are taken from, which have the same mirror.
func (t Tree) add(sources []Source) ([]Source, error) {
	all := slices.Clone(sources)
	for _, name := range t.Packages {
		_, suite, other := strings.Cut(name, "/")
		if !other {
			continue
		}
		if !strings.HasPrefix(suite, Suite+"-") {
			return nil, fmt.Errorf("package %s: its suite must be one of %s", name, Suite)
		}
		found := slices.ContainsFunc(all, func(s Source) bool { return s.Suite == suite })
		for _, source := range sources {
			if extra := (Source{URI: source.URI, Suite: suite}); source.Suite == Suite && !slices.Contains(all, extra) {
				all, found = append(all, extra), true
			}
		}
		if !found {
			return nil, fmt.Errorf("package %s: there is no source with suite %s, whose mirror would have it", name, Suite)
		}
	}
	return all, nil
}

// Make fills a new folder dir with the tree and writes the list of packages, one "name version architecture" a line, sorted by
// name, to the file packages. epoch is the latest time of any file, in seconds since 1970. run runs a command and returns
// its failure.
func (t Tree) Make(ctx context.Context, dir, packages string, sources []Source, epoch int64, run func(*exec.Cmd) error) error {
	sources, err := t.add(sources)
	if err != nil {
		return err
	}
	// In a file and not among the arguments: a URI may carry a password.
	list := packages + ".list"
	var lines strings.Builder
	for _, source := range sources {
		fmt.Fprintln(&lines, source.Line())
	}
	if err := os.WriteFile(list, []byte(lines.String()), 0o600); err != nil {
		return err
	}
	defer os.Remove(list)
	acquire, err := acquireConfig(ctx)
	if err != nil {
		return err
	}
	config := packages + ".apt"
	if err := os.WriteFile(config, acquire, 0o600); err != nil {
		return err
	}
	defer os.Remove(config)

	args := append([]string{}, treeOptions...)
	if t.Installed {
		args = append(args, "--variant=essential", listInstalled)
	} else {
		args = append(args, "--variant=extract", listUnpacked)
	}
	if len(acquire) > 0 {
		args = append(args, "--aptopt="+config)
	}
	args = append(args, "--include="+strings.Join(t.Packages, ","), Suite, dir, list)
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch), "EPHEMOS_PACKAGES="+packages, "LC_ALL=C.UTF-8")
	if err := run(cmd); err != nil {
		return err
	}
	for _, name := range leftovers {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if !t.Installed {
		return nil
	}
	for _, name := range mountPoints {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "var/log"), 0o755); err != nil {
		return err
	}
	return dropSetuid(dir)
}

// dropSetuid takes the bits setuid and setgid off all files: a tree is used by root alone, but any user of the host might run a
// file in it.
func dropSetuid(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) == 0 {
			return err
		}
		return os.Chmod(name, info.Mode().Perm())
	})
}

// acquireConfig returns what the host's apt configuration says about reaching mirrors: proxies, retries, certificates and whether
// dates are checked. apt inside mmdebstrap reads nothing of the host's.
func acquireConfig(ctx context.Context) ([]byte, error) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump", "--no-empty", "--format", "%f \"%v\";%n", "Acquire").Output()
	if err != nil {
		return nil, fmt.Errorf("apt-config dump: %w", err)
	}
	var kept bytes.Buffer
	for line := range bytes.Lines(out) {
		key, _, _ := bytes.Cut(line, []byte(" "))
		if carried(string(key)) {
			kept.Write(line)
		}
	}
	return kept.Bytes(), nil
}

func carried(key string) bool {
	switch strings.TrimSuffix(key, "::") {
	case "Acquire::Check-Valid-Until", "Acquire::Check-Date", "Acquire::Max-FutureTime", "Acquire::Retries", "Acquire::ForceIPv4":
		return true
	}
	for _, method := range []string{"Acquire::http::", "Acquire::https::"} {
		if strings.HasPrefix(key, method) {
			return true
		}
	}
	return false
}

// Closure returns the paths, absolute in the tree at root, of the given files and of every shared library and interpreter that
// they need, with the symbolic links on the way. Libraries that a program opens by itself are not found.
func Closure(root string, files []string) (map[string]bool, error) {
	libraries, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
	if err != nil {
		return nil, err
	}
	for i := range libraries {
		libraries[i] = "/" + strings.TrimPrefix(strings.TrimPrefix(libraries[i], root), "/")
	}
	libraries = append(libraries, "/usr/lib")

	found := map[string]bool{}
	for queue := files; len(queue) > 0; {
		name := mergedUsr(queue[0])
		queue = queue[1:]
		if found[name] {
			continue
		}
		info, err := os.Lstat(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		found[name] = true
		switch {
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(filepath.Join(root, name))
			if err != nil {
				return nil, err
			}
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(name), target)
			}
			queue = append(queue, target)
		case info.Mode().IsRegular():
			needed, err := needs(root, name, libraries)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			queue = append(queue, needed...)
		}
	}
	return found, nil
}

// mergedUsr returns a path in the form that has no symbolic link in its first folder.
func mergedUsr(name string) string {
	name = path.Clean(name)
	for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(name, dir) {
			return "/usr" + name
		}
	}
	return name
}

// needs returns the interpreter and the libraries of an ELF file, nothing for any other file.
func needs(root, name string, libraries []string) ([]string, error) {
	file, err := elf.Open(filepath.Join(root, name))
	if _, ok := errors.AsType[*elf.FormatError](err); ok {
		return nil, nil
	}
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, nil // too short to be one
		}
		return nil, err
	}
	defer file.Close()
	var needed []string
	for _, program := range file.Progs {
		if program.Type == elf.PT_INTERP {
			data := make([]byte, program.Filesz)
			if _, err := program.ReadAt(data, 0); err != nil {
				return nil, err
			}
			needed = append(needed, string(bytes.TrimRight(data, "\x00")))
		}
	}
	imported, err := file.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	search := libraries
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		values, err := file.DynString(tag)
		if err != nil {
			return nil, err
		}
		for _, value := range values {
			for dir := range strings.SplitSeq(value, ":") {
				search = append([]string{mergedUsr(strings.ReplaceAll(dir, "$ORIGIN", path.Dir(name)))}, search...)
			}
		}
	}
	for _, library := range imported {
		at, err := locate(root, library, search)
		if err != nil {
			return nil, err
		}
		needed = append(needed, at)
	}
	return needed, nil
}

func locate(root, library string, dirs []string) (string, error) {
	for _, dir := range dirs {
		name := path.Join(dir, library)
		if _, err := os.Lstat(filepath.Join(root, name)); err == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("needs library %s, which is in none of %s", library, strings.Join(dirs, ", "))
}
