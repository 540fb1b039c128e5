package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machine is one set of namespaces with an init process, seen from the host.
type machine struct {
	Name string
	dir  string // its state directory: spec.json, root overlay, logs and the directories that outlive a stop
	pid  int    // of its init, on the host
}

// initArgument is the first argument of a machine's init. Inits are found by scanning the process table for it, together
// with their state directory, so that no pid file can be stale or missing after a crash.
const initArgument = "machine-init"

// machineSpec is what an init needs to know: written by the host as spec.json before the init starts.
type machineSpec struct {
	Name    string
	RootFS  string // lower directory of the root overlay, read only
	Binds   []bind
	Sysctls map[string]string // path below /proc/sys -> value, of the machine's own namespaces
	// Shadows are files of /proc/sys that belong to the whole host. The machine sees the value given here, and what it writes
	// stays with it.
	Shadows  map[string]string
	Services []service
	// Forward is the address inside the machine to which connections accepted on the inherited listener go; empty for none.
	Forward string
}

// bind shows a host file or directory inside the machine.
type bind struct {
	Source, Target string
	ReadOnly       bool
}

// service is one supervised process of a machine: started at once, restarted whenever it ends.
type service struct {
	Name string
	Args []string // Args[0] is the program's path inside the machine
	Env  []string
}

// findMachines returns the running machines whose state lies below root.
func findMachines(root string) ([]machine, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	own, err := processNamespaces("self")
	if err != nil {
		return nil, err
	}
	var found []machine
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // it ended
		}
		args := bytes.Split(bytes.TrimRight(cmdline, "\x00"), []byte{0})
		if len(args) != 3 || string(args[1]) != initArgument || filepath.Dir(string(args[2])) != machinesDir(root) {
			continue
		}
		// Anybody may call a process so; only root's process that is the first of a PID namespace right below ours is a machine. A
		// pod's processes are at least one level further down.
		if theirs, err := processNamespaces(e.Name()); err != nil || !theirs.initBelow(own) {
			continue
		}
		dir := string(args[2])
		found = append(found, machine{Name: filepath.Base(dir), dir: dir, pid: pid})
	}
	return found, nil
}

// named returns the machine with the name.
func named(machines []machine, name string) (machine, bool) {
	i := slices.IndexFunc(machines, func(m machine) bool { return m.Name == name })
	if i < 0 {
		return machine{}, false
	}
	return machines[i], true
}

// namespacesOf is where a process stands: its user IDs, its user namespace, and its number in each PID namespace from ours down.
type namespacesOf struct {
	uids []string
	user string
	pids []string
}

func processNamespaces(pid string) (namespacesOf, error) {
	var n namespacesOf
	status, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	if err != nil {
		return n, err
	}
	for line := range strings.Lines(string(status)) {
		switch key, value, _ := strings.Cut(line, ":"); key {
		case "Uid":
			n.uids = strings.Fields(value)
		case "NSpid":
			n.pids = strings.Fields(value)
		}
	}
	n.user, err = os.Readlink(filepath.Join("/proc", pid, "ns", "user"))
	return n, err
}

// initBelow says whether the process is root's and the first of a PID namespace directly below that of own.
func (n namespacesOf) initBelow(own namespacesOf) bool {
	for _, uid := range n.uids {
		if uid != "0" {
			return false
		}
	}
	return n.user == own.user && len(n.uids) > 0 && len(n.pids) == len(own.pids)+1 && n.pids[len(n.pids)-1] == "1"
}

// endProcesses kills every process of the host that carries the variable in its environment, and waits until none is left: what a
// program that was killed half-way may leave behind.
func endProcesses(ctx context.Context, variable string) error {
	return poll(ctx, 30*time.Second, 20*time.Millisecond, "processes of an earlier run to end", func(context.Context) (bool, error) {
		environs, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			return true, err
		}
		left := 0
		for _, path := range environs {
			environ, err := os.ReadFile(path)
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil || pid == os.Getpid() || !slices.Contains(strings.Split(string(environ), "\x00"), variable) {
				continue
			}
			left++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if left > 0 {
			return false, fmt.Errorf("%d are left", left)
		}
		return true, nil
	})
}

// launch starts the machine's init in new namespaces and lets it go on once network has linked it. A machine whose caller
// dies before that ends by itself.
func launch(dir string, spec machineSpec, listener *os.File, network func(machine) error) (machine, error) {
	m := machine{Name: spec.Name, dir: dir}
	data, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return m, err
	}
	if err := errors.Join(writeFile(filepath.Join(dir, "spec.json"), data, 0o600), os.MkdirAll(logDir(dir), 0o755)); err != nil {
		return m, err
	}
	log, err := os.OpenFile(filepath.Join(logDir(dir), "init.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return m, err
	}
	defer func() { _ = log.Close() }()
	ready, proceed, err := os.Pipe()
	if err != nil {
		return m, err
	}
	defer func() { _ = proceed.Close() }()

	cmd := exec.Command("/proc/self/exe", initArgument, dir) //nolint:noctx // a machine outlives the command that starts it
	cmd.Args[0] = "testbed"
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{ready}
	if listener != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, listener)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, // a Ctrl-C at the terminal must not reach it
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	err = cmd.Start()
	_ = ready.Close()
	if err != nil {
		return m, fmt.Errorf("start machine %s: %w", m.Name, err)
	}
	m.pid = cmd.Process.Pid
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	if err := network(m); err != nil {
		_ = cmd.Process.Kill()
		<-exited //nolint:errcheck // it was killed
		return m, fmt.Errorf("network of machine %s: %w", m.Name, err)
	}
	if _, err := proceed.Write([]byte{1}); err != nil {
		return m, fmt.Errorf("machine %s ended while it started (%w); its log is %s", m.Name, <-exited, log.Name())
	}
	return m, nil
}

// kill ends the machine at once and returns when nothing of it runs. The kernel ends every process of a PID namespace with
// its init.
func (m machine) kill(ctx context.Context) error {
	if err := syscall.Kill(m.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill machine %s: %w", m.Name, err)
	}
	return poll(ctx, 30*time.Second, 20*time.Millisecond, "machine "+m.Name+" to end", func(context.Context) (bool, error) {
		return !m.running(), nil
	})
}

// running reports whether the init is alive; a zombie that its parent has not yet reaped is not.
func (m machine) running() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.pid))
	if err != nil {
		return false
	}
	i := bytes.LastIndexByte(stat, ')')
	return i > 0 && i+2 < len(stat) && stat[i+2] != 'Z' && stat[i+2] != 'X'
}

// run executes a command inside all of the machine's namespaces.
func (m machine) run(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{
		"--target", strconv.Itoa(m.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd", "--",
	}, args...)...)
	cmd.Stdin = stdin
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %v: %w: %s", m.Name, args, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// networkNamespace opens the machine's network namespace.
func (m machine) networkNamespace() (*os.File, error) {
	return os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid))
}

func logDir(machineDir string) string { return filepath.Join(machineDir, "log") }

// poll calls condition until it holds, it fails, the limit is over or ctx ends. A condition's error ends the wait only when
// the condition itself returns true with it; otherwise it is remembered and named when time runs out.
func poll(ctx context.Context, limit, every time.Duration, what string, condition func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last error
	for {
		done, err := condition(ctx)
		if done {
			return err
		}
		if err != nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if last == nil {
				last = ctx.Err()
			}
			return fmt.Errorf("waited %s for %s: %w", limit, what, last)
		case <-time.After(every):
		}
	}
}
