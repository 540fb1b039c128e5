package toolchain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"ephemos.dev/deploy/toolchain/internal/debian"
)

// A PreflightError says what the machine lacks for the steps that have to run, one problem a line. Nothing has been started.
type PreflightError struct{ Problems []string }

func (e *PreflightError) Error() string { return strings.Join(e.Problems, "\n") }

// machine is what preflight looks at.
type machine struct {
	uid        int
	etcApt     string
	osRelease  string
	freeMB     func(dir string) (int, error)
	lookPath   func(program string) (string, error)
	installPkg func(ctx context.Context, pkg string) error
}

func thisMachine() machine {
	return machine{
		uid: os.Geteuid(), etcApt: "/etc/apt", osRelease: "/etc/os-release",
		freeMB: freeMB, lookPath: exec.LookPath, installPkg: aptInstall,
	}
}

func (w *workspace) preflight(ctx context.Context, missing []*item) error {
	return w.check(ctx, thisMachine(), missing)
}

// check returns a PreflightError with everything that keeps the missing items from being made. It installs mmdebstrap when that
// is all that is missing.
func (w *workspace) check(ctx context.Context, m machine, missing []*item) error {
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	space, fromDebian, compiles := 0, []string{}, false
	for _, i := range missing {
		space += i.space
		compiles = compiles || i.compiles
		if i.debian {
			fromDebian = append(fromDebian, i.title())
		}
	}
	for _, dir := range w.spaceDirs(compiles) {
		free, err := m.freeMB(dir)
		if err != nil {
			return err
		}
		if free < space {
			problem("not enough disk space: %s has %.1f GB free, the missing builds need about %.1f GB",
				dir, float64(free)/1000, float64(space)/1000)
			break
		}
	}
	if compiles {
		if want, err := goVersion(w.root); err != nil {
			return err
		} else if version.Compare(w.goEnv.GOVERSION, want) < 0 {
			problem("Go is too old: this is %s, go.mod wants %s", w.goEnv.GOVERSION, want)
		}
	}
	if len(fromDebian) > 0 {
		problems = append(problems, m.debianProblems(fromDebian)...)
	}
	if len(problems) == 0 && len(fromDebian) > 0 {
		if _, err := m.lookPath("mmdebstrap"); err != nil {
			fmt.Fprintln(w.out, "installing the Debian package mmdebstrap")
			if err := m.installPkg(ctx, "mmdebstrap"); err != nil {
				problem("the Debian package mmdebstrap cannot be installed: %v", err)
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(problems) > 0 {
		return &PreflightError{Problems: problems}
	}
	return nil
}

// debianProblems returns what keeps this machine from making parts from Debian packages.
func (m machine) debianProblems(parts []string) []string {
	id, codename, err := debian.Release(m.osRelease)
	if err != nil || id != "debian" {
		return []string{fmt.Sprintf("not a Debian host (%s has ID %q): %s made from Debian packages with mmdebstrap",
			m.osRelease, id, are(parts))}
	}
	var problems []string
	if m.uid != 0 {
		problems = append(problems, fmt.Sprintf("not root: %s made with mmdebstrap, which needs root", are(parts)))
	}
	if _, err := debian.Mirrors(m.etcApt, codename); err != nil {
		problems = append(problems, err.Error())
	}
	for _, program := range []string{"apt-get", "apt-config", "dpkg-deb", "tar"} {
		if _, err := m.lookPath(program); err != nil {
			problems = append(problems, fmt.Sprintf("%s is not on PATH: %s made from Debian packages", program, are(parts)))
		}
	}
	return problems
}

// are joins names and adds the verb.
func are(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1] + " are"
}

// spaceDirs returns folders in which the builds need space.
func (w *workspace) spaceDirs(compiles bool) []string {
	dirs := []string{w.cache.Dir()}
	if compiles {
		dirs = append(dirs, w.goEnv.GOCACHE)
	}
	return dirs
}

// freeMB returns the free space in megabytes of the file system that a folder is or would be on.
func freeMB(dir string) (int, error) {
	for {
		var stat unix.Statfs_t
		err := unix.Statfs(dir, &stat)
		if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("free space of %s: %w", dir, err)
		}
		return int(stat.Bavail * uint64(stat.Bsize) / 1e6), nil
	}
}

var goLine = regexp.MustCompile(`(?m)^go\s+(\S+)$`)

// goVersion returns the version that go.mod of a module asks for, in the form "go1.26.6".
func goVersion(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", err
	}
	match := goLine.FindSubmatch(data)
	if match == nil {
		return "", fmt.Errorf("%s has no go line", filepath.Join(dir, "go.mod"))
	}
	return "go" + string(match[1]), nil
}

// aptInstall installs a package, after an update of the package lists if it does not work without.
func aptInstall(ctx context.Context, pkg string) error {
	apt := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("apt-get %s: %s", args[0], lastLine(out, err))
		}
		return nil
	}
	install := []string{"install", "--yes", "--no-install-recommends", pkg}
	if apt(install...) == nil {
		return nil
	}
	if err := apt("update"); err != nil {
		return err
	}
	return apt(install...)
}

// lastLine returns the last line of output that is not empty, or the error.
func lastLine(out []byte, err error) string {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if last := bytes.TrimSpace(lines[len(lines)-1]); len(last) > 0 {
		return string(last)
	}
	return err.Error()
}
