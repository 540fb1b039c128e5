package connectivity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// within calls f on a thread that is in the network namespace of the endpoint, after checking that this namespace has the
// endpoint's address. The thread ends with it.
func within(e Endpoint, f func() error) error {
	done := make(chan error, 1)
	onThreadOfItsOwn(func() { done <- e.enter(f) })
	return <-done
}

// onThreadOfItsOwn calls f on a thread that ends with it. That cannot be the process's first thread, which the runtime keeps when a
// goroutine ends on it: it would stay in a foreign namespace for good, and that namespace would outlive its owner.
func onThreadOfItsOwn(f func()) {
	go func() {
		runtime.LockOSThread() // never unlocked after f
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		done := make(chan struct{})
		go func() { // not here, for this thread is taken until it has ended
			defer close(done)
			runtime.LockOSThread()
			f()
		}()
		<-done
		runtime.UnlockOSThread()
	}()
}

// enter moves the thread into the endpoint's namespace and calls f.
func (e Endpoint) enter(f func() error) error {
	path := fmt.Sprintf("/proc/%d/ns/net", e.Process)
	namespace, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("network of %s: %w", e.Name, err)
	}
	err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
	if err := errors.Join(err, namespace.Close()); err != nil {
		return fmt.Errorf("enter the network of %s (%s): %w", e.Name, path, err)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("network of %s: %w", e.Name, err)
	}
	if !slices.ContainsFunc(addresses, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.String() == e.Address.String()
	}) {
		return fmt.Errorf("%s does not have the address %s in its network, only %v", e.Name, e.Address, addresses)
	}
	return f()
}

// Dial opens a TCP connection as a program at the endpoint would.
func (e Endpoint) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	err := within(e, func() error {
		fd, immediate := open(e, Socket{"TCP", int(to.Port())}, to.Addr())
		if fd < 0 {
			return fmt.Errorf("%s to %s: %w", e.Name, to, immediate)
		}
		deadline := time.Now().Add(10 * time.Second)
		if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
			deadline = d
		}
		for {
			if err := ctx.Err(); err != nil {
				_ = unix.Close(fd)
				return fmt.Errorf("%s to %s: %w", e.Name, to, err)
			}
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(tick.Milliseconds()))
			if err != nil && !errors.Is(err, unix.EINTR) {
				_ = unix.Close(fd)
				return fmt.Errorf("%s to %s: %w", e.Name, to, err)
			}
			if n > 0 {
				break
			}
			if time.Now().After(deadline) {
				_ = unix.Close(fd)
				return fmt.Errorf("%s to %s: %w", e.Name, to, os.ErrDeadlineExceeded)
			}
		}
		if r := conclude(fd, Socket{"TCP", int(to.Port())}, to.Addr(), immediate); r.Class != Open {
			_ = unix.Close(fd)
			return fmt.Errorf("%s to %s: %s: %s", e.Name, to, r.Class, r.Detail)
		}
		file := os.NewFile(uintptr(fd), to.String())
		var err error
		conn, err = net.FileConn(file)
		return errors.Join(err, file.Close())
	})
	return conn, err
}
