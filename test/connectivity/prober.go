package connectivity

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"ephemos.dev/deploy/components/zones"
)

// Prober makes attempts. It needs the privilege to enter network namespaces. The zero value takes the defaults.
type Prober struct {
	// Timeout is how long a silent attempt is waited for. Default 3s, in which Linux sends a second and a third packet.
	Timeout time.Duration
	// InFlight is how many attempts are under way at once in each network namespace. Default 256.
	InFlight int
	// Namespaces is how many namespaces are worked on at once. Default 8.
	Namespaces int
	// Again is how often an attempt is repeated that should get through and did not, a second apart: a packet may be lost,
	// and a cluster may be busy. Negative: never. Default 3. What should be denied and was not is never repeated.
	Again int
	// Question is the name that is asked for in UDP, where an answer in DNS, whatever it says, is what makes a port open.
	// Default "kubernetes.default.svc.cluster.local.".
	Question string
}

// tick bounds how late a loop sees that its context has ended.
const tick = 100 * time.Millisecond

// pause lies between repetitions.
const pause = time.Second

func (p Prober) withDefaults() Prober {
	p.Timeout = cmp.Or(p.Timeout, 3*time.Second)
	p.InFlight = cmp.Or(p.InFlight, 256)
	p.Namespaces = cmp.Or(p.Namespaces, 8)
	p.Again = cmp.Or(p.Again, 3)
	p.Question = cmp.Or(p.Question, "kubernetes.default.svc.cluster.local.")
	return p
}

// Observe makes the attempts that Expect returns for the model and the topology.
func (p Prober) Observe(ctx context.Context, m zones.Model, t Topology) (Observation, error) {
	start := time.Now()
	results, err := p.Try(ctx, Expect(m, t))
	return Observation{Topology: t, Results: results, Took: time.Since(start)}, err
}

// Try makes attempts, all sources at the same time as far as the limits go, and returns what became of each. An attempt that
// could not be made, because its source is gone, is Failed; the only error is that of a context that has ended.
func (p Prober) Try(ctx context.Context, attempts []Attempt) (map[Key]Result, error) {
	p = p.withDefaults()
	bySource := map[string][]Attempt{}
	for _, a := range attempts {
		bySource[a.From.Name] = append(bySource[a.From.Name], a)
	}
	var (
		mu      sync.Mutex
		results = make(map[Key]Result, len(attempts))
		group   errgroup.Group
	)
	group.SetLimit(p.Namespaces)
	for _, own := range bySource {
		group.Go(func() error {
			seen := p.source(ctx, own)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(results, seen)
			return ctx.Err()
		})
	}
	return results, group.Wait()
}

// source makes the attempts that come from one endpoint, and repeats what should have got through.
func (p Prober) source(ctx context.Context, attempts []Attempt) map[Key]Result {
	results := make(map[Key]Result, len(attempts))
	for n := 0; len(attempts) > 0; n++ {
		var seen []Result
		if err := within(attempts[0].From, func() (err error) {
			seen, err = p.loop(ctx, attempts)
			return err
		}); err != nil {
			seen = slices.Repeat([]Result{{Class: Failed, Detail: err.Error()}}, len(attempts))
		}
		var again []Attempt
		for i, a := range attempts {
			seen[i].Tries = n + 1
			results[a.Key()] = seen[i]
			if a.Expected != MustDeny && !a.Expected.Admits(seen[i].Class) {
				again = append(again, a)
			}
		}
		if n >= p.Again {
			break
		}
		if attempts = again; len(attempts) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return results
		case <-time.After(pause):
		}
	}
	return results
}

// flight is an attempt under way.
type flight struct {
	index    int // in the attempts
	fd       int
	deadline time.Time
	ask      time.Time // when to ask again in UDP
	asked    int
}

// loop makes the attempts from the network namespace of the calling thread. Results are in the order of the attempts. Everything
// is one loop around one epoll instance: a try costs a socket and no thread.
func (p Prober) loop(ctx context.Context, attempts []Attempt) ([]Result, error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	defer func() { _ = unix.Close(poll) }()

	results := make([]Result, len(attempts))
	flights := map[int]*flight{} // by descriptor
	defer func() {
		for fd := range flights {
			_ = unix.Close(fd)
		}
	}()
	// All attempts are given the same time, so the first to start is the first whose time is over.
	var queue []*flight
	end := func(f *flight, r Result) {
		results[f.index] = r
		delete(flights, f.fd)
		_ = unix.Close(f.fd) // which takes it out of the epoll instance
		f.fd = -1
	}
	question := dnsQuestion(p.Question)
	events := make([]unix.EpollEvent, 64)
	next := 0
	for next < len(attempts) || len(flights) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for next < len(attempts) && len(flights) < p.InFlight {
			a := attempts[next]
			fd, immediate := open(a.From, a.Socket, a.To.Address)
			if fd < 0 {
				results[next] = Result{Class: Failed, Detail: immediate.Error()}
				next++
				continue
			}
			f := &flight{index: next, fd: fd, deadline: time.Now().Add(p.Timeout)}
			next++
			wanted := uint32(unix.EPOLLOUT)
			if a.Socket.Protocol == zones.UDP {
				wanted = unix.EPOLLIN
			}
			if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: wanted, Fd: int32(fd)}); err != nil {
				_ = unix.Close(fd)
				return nil, fmt.Errorf("epoll: %w", err)
			}
			flights[fd] = f
			if immediate != nil && !errors.Is(immediate, unix.EINPROGRESS) {
				end(f, conclude(fd, a.Socket, a.To.Address, immediate))
				continue
			}
			if a.Socket.Protocol == zones.UDP {
				p.ask(f, question)
			}
			queue = append(queue, f)
		}
		now := time.Now()
		for len(queue) > 0 && (queue[0].fd < 0 || !now.Before(queue[0].deadline)) {
			if f := queue[0]; f.fd >= 0 {
				end(f, Result{Class: Silent})
			}
			queue = queue[1:]
		}
		for _, f := range flights {
			if attempts[f.index].Socket.Protocol == zones.UDP && !now.Before(f.ask) {
				p.ask(f, question)
			}
		}
		if len(flights) == 0 {
			continue
		}
		wait := tick
		if len(queue) > 0 {
			wait = min(wait, max(time.Millisecond, time.Until(queue[0].deadline)))
		}
		n, err := unix.EpollWait(poll, events, int(wait.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("epoll: %w", err)
		}
		for _, event := range events[:max(n, 0)] {
			f := flights[int(event.Fd)]
			if f == nil {
				continue
			}
			a := attempts[f.index]
			if r := conclude(f.fd, a.Socket, a.To.Address, nil); r.Class != "" {
				end(f, r)
			}
		}
	}
	return results, nil
}

// ask sends the question and says when to send it again. An error of an earlier one is found by conclude.
func (p Prober) ask(f *flight, question []byte) {
	f.asked++
	f.ask = time.Now().Add(p.Timeout / 3)
	_, _ = unix.Write(f.fd, question)
}

// open makes a socket in the thread's namespace and begins to connect it. The error is connect's when the descriptor is valid.
func open(from Endpoint, s Socket, to netip.Addr) (int, error) {
	kind := unix.SOCK_STREAM
	if s.Protocol == zones.UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	// Keeps ICMP errors with their type and sender, which an error number alone does not tell from a reset.
	err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1)
	if err == nil && from.Place != zones.Nodes {
		// The port is chosen by connect, when the other end is known: there are as many as wanted.
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
			unix.Bind(fd, &unix.SockaddrInet4{Addr: from.Address.As4()}))
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("socket from %s: %w", from.Address, err)
	}
	return fd, unix.Connect(fd, &unix.SockaddrInet4{Port: s.Port, Addr: to.As4()})
}

// conclude says what became of a socket of which epoll reports something, or whose connect returned an error at once. An empty
// class means that it is not over.
func conclude(fd int, s Socket, to netip.Addr, immediate error) Result {
	if r, ok := icmpError(fd, s, to); ok {
		return r
	}
	err := immediate
	if err == nil || errors.Is(err, unix.EINPROGRESS) {
		number, getErr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case getErr != nil:
			err = getErr
		case number != 0:
			err = unix.Errno(number)
		default:
			err = nil
		}
	}
	switch {
	case err == nil && s.Protocol == zones.UDP:
		answer := make([]byte, 512)
		n, err := unix.Read(fd, answer)
		if err == nil && isAnswer(answer[:n]) {
			return Result{Class: Open, Detail: "answered"}
		}
		return Result{} // something else, or nothing any more
	case err == nil:
		return Result{Class: Open}
	case errors.Is(err, unix.ECONNREFUSED):
		return Result{Class: Closed, Detail: "reset"}
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return Result{Class: NoRoute, Detail: err.Error()}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return Result{Class: Rejected, Detail: err.Error()}
	case errors.Is(err, unix.ETIMEDOUT):
		return Result{Class: Silent, Detail: err.Error()}
	default:
		return Result{Class: Failed, Detail: err.Error()}
	}
}

// ICMP codes of "destination unreachable" (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1).
const (
	icmpNet      = 0
	icmpHost     = 1
	icmpProtocol = 2
	icmpPort     = 3
	icmpTooBig   = 4
	icmpNoNet    = 6
	icmpNoHost   = 7
)

// icmpError reads the socket's error queue. What is not an ICMP error that ends an attempt is passed over.
func icmpError(fd int, s Socket, to netip.Addr) (Result, bool) {
	for {
		control := make([]byte, 512)
		_, n, _, _, err := unix.Recvmsg(fd, nil, control, unix.MSG_ERRQUEUE)
		if err != nil {
			return Result{}, false
		}
		messages, err := unix.ParseSocketControlMessage(control[:n])
		if err != nil {
			return Result{}, false
		}
		for _, m := range messages {
			// struct sock_extended_err (linux/errqueue.h): errno, origin, type, code, padding, info, data; then the sender.
			if m.Header.Level != unix.SOL_IP || m.Header.Type != unix.IP_RECVERR || len(m.Data) < 16 {
				continue
			}
			number, origin, kind, code := unix.Errno(binary.NativeEndian.Uint32(m.Data)), m.Data[4], m.Data[5], m.Data[6]
			switch {
			case origin == unix.SO_EE_ORIGIN_LOCAL:
				return Result{Class: NoRoute, Detail: number.Error()}, true
			case origin != unix.SO_EE_ORIGIN_ICMP || kind != 3 || code == icmpTooBig:
				continue
			}
			var by netip.Addr
			if len(m.Data) >= 24 && binary.NativeEndian.Uint16(m.Data[16:]) == unix.AF_INET {
				by = netip.AddrFrom4([4]byte(m.Data[20:24]))
			}
			r := Result{Class: Rejected, Detail: fmt.Sprintf("ICMP unreachable, code %d, from %s", code, by)}
			switch code {
			case icmpNet, icmpHost, icmpProtocol, icmpNoNet, icmpNoHost:
				r.Class = NoRoute
			case icmpPort:
				// In UDP this is how a host says that nobody listens. TCP has the reset for that.
				if s.Protocol == zones.UDP && by == to {
					r.Class = Closed
				}
			}
			return r, true
		}
	}
}

// questionID is what an answer must carry to be one.
const questionID = 0x5a6f

// dnsQuestion asks for the IPv4 addresses of a name (RFC 1035, section 4).
func dnsQuestion(name string) []byte {
	q := binary.BigEndian.AppendUint16(nil, questionID)
	q = append(q, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // recursion desired; one question
	for label := range strings.SplitSeq(strings.Trim(name, "."), ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	return append(q, 0, 0, 1, 0, 1) // the root; A; IN
}

func isAnswer(packet []byte) bool {
	return len(packet) >= 12 && binary.BigEndian.Uint16(packet) == questionID && packet[2]&0x80 != 0
}
