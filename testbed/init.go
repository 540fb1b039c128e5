package testbed

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A program that starts machines starts itself again as their init, whichever program it is: the command line, or a test binary.
func init() {
	if len(os.Args) == 3 && os.Args[1] == initArgument {
		if err := runInit(os.Args[2]); err != nil {
			slog.Error("machine ends", "error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// runInit is the body of a machine's init process (PID 1 of its namespaces): it builds the machine's view of the file system,
// waits for the host to link its network, and supervises its services until SIGTERM, or until it is killed.
func runInit(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "spec.json"))
	if err != nil {
		return err
	}
	var spec machineSpec
	if err := json.Unmarshal(data, &spec); err != nil {
		return fmt.Errorf("%s/spec.json: %w", dir, err)
	}
	if err := enterRoot(dir, spec); err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	if err := unix.Sethostname([]byte(spec.Name)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	// Descriptor 3 is the host's go-ahead: end of file without a byte means that the host's program died half-way.
	proceed := os.NewFile(3, "proceed")
	if _, err := io.ReadFull(proceed, make([]byte, 1)); err != nil {
		return errors.New("the program that started this machine ended before its network was linked")
	}
	_ = proceed.Close()
	for key, value := range spec.Sysctls {
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644); err != nil {
			return fmt.Errorf("sysctl %s=%s: %w", key, value, err)
		}
	}
	if spec.Forward != "" {
		if err := forward(os.NewFile(4, "listener"), spec.Forward); err != nil {
			return err
		}
	}
	return supervise(spec.Services)
}

// enterRoot lays a writable overlay over the node root filesystem, mounts what a running system needs, and makes it the root.
func enterRoot(dir string, spec machineSpec) error {
	// Nothing mounted from here on may reach the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	root, upper, work := filepath.Join(dir, "root"), filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{root, upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", spec.RootFS, upper, work)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		return fmt.Errorf("overlay over %s: %w", spec.RootFS, err)
	}
	in := func(path string) string { return filepath.Join(root, path) }
	mounts := []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"/sys/fs/cgroup", "/sys/fs/cgroup", "", unix.MS_BIND | unix.MS_REC, ""},
		{"/dev", "/dev", "", unix.MS_BIND | unix.MS_REC, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	}
	for _, m := range mounts {
		if err := os.MkdirAll(in(m.target), 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, in(m.target), m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for key, value := range spec.Shadows {
		file := filepath.Join(dir, "shadows", key)
		if err := writeFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if target := in("/proc/sys/" + key); exists(target) {
			if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("shadow of %s: %w", key, err)
			}
		}
	}
	for _, b := range spec.Binds {
		if err := bindInto(b, in(b.Target)); err != nil {
			return fmt.Errorf("show %s as %s: %w", b.Source, b.Target, err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// Volumes that the kubelet and the CSI driver mount must reach the containers that are already running.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

func bindInto(b bind, target string) error {
	info, err := os.Stat(b.Source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
		var f *os.File
		if f, err = os.OpenFile(target, os.O_CREATE, 0o644); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(b.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !b.ReadOnly {
		return nil
	}
	return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// forward copies every connection accepted on the listener to address and back. The listener was opened in the host's network
// namespace and stays there; address is dialled in the machine's. It is the only path between the two.
func forward(file *os.File, address string) error {
	listener, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("inherited listener: %w", err)
	}
	_ = file.Close()
	go func() {
		for {
			outside, err := listener.Accept()
			if err != nil {
				slog.Error("forwarder stopped", "error", err)
				return
			}
			go func() {
				defer func() { _ = outside.Close() }()
				inside, err := net.DialTimeout("tcp", address, 5*time.Second)
				if err != nil {
					return // the client sees a closed connection and retries
				}
				defer func() { _ = inside.Close() }()
				done := make(chan struct{}, 2)
				copyHalf := func(to, from net.Conn) {
					_, _ = io.Copy(to, from)
					if c, ok := to.(*net.TCPConn); ok {
						_ = c.CloseWrite()
					}
					done <- struct{}{}
				}
				go copyHalf(inside, outside)
				go copyHalf(outside, inside)
				<-done
				<-done
			}()
		}
	}()
	return nil
}

// restartDelay keeps a service that ends at once from spinning; short, because services start before what they depend on.
const restartDelay = 300 * time.Millisecond

// supervise starts every service, restarts what ends, and reaps orphans, until SIGTERM: then it stops the services and returns.
func supervise(services []service) error {
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)

	restart := make(chan service, len(services))
	ended := make(chan int)
	running := map[int]service{}
	start := func(s service) {
		pid, err := startService(s)
		if err != nil {
			slog.Error("service does not start", "service", s.Name, "error", err)
			time.AfterFunc(10*restartDelay, func() { restart <- s })
			return
		}
		running[pid] = s
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			for {
				pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
				if errors.Is(err, syscall.EINTR) {
					continue
				}
				if err != nil || pid <= 0 {
					break
				}
				ended <- pid
			}
		}
	}()
	for _, s := range services {
		start(s)
	}
	for {
		select {
		case pid := <-ended:
			s, ours := running[pid]
			if !ours {
				continue // an orphan that was handed to PID 1
			}
			delete(running, pid)
			slog.Warn("service ended; it is started again", "service", s.Name)
			time.AfterFunc(restartDelay, func() { restart <- s })
		case s := <-restart:
			start(s)
		case <-terminate:
			for pid := range running {
				_ = syscall.Kill(pid, syscall.SIGTERM)
			}
			deadline := time.After(10 * time.Second)
			for len(running) > 0 {
				select {
				case pid := <-ended:
					delete(running, pid)
				case <-deadline:
					return errors.New("services did not stop within 10s of SIGTERM")
				}
			}
			return nil
		}
	}
}

func startService(s service) (int, error) {
	log, err := os.OpenFile(filepath.Join("/var/log/testbed", s.Name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer func() { _ = null.Close() }()
	return syscall.ForkExec(s.Args[0], s.Args, &syscall.ProcAttr{
		Dir:   "/",
		Env:   append(os.Environ(), s.Env...),
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}
