package main

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// client returns whom an address counts as: an IPv4 address, or the first 64 bits of an IPv6 address, which is the least
// that a network gives to one customer.
func client(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	address = address.Unmap().WithZone("")
	bits := 32
	if address.Is6() {
		bits = 64
	}
	prefix, _ := address.Prefix(bits)
	return prefix
}

// forwardedFor returns the address of the client for whom a trusted proxy passes a request on, in the form of RemoteAddr. Of the
// addresses in X-Forwarded-For the last one is the proxy's own doing; those before it are what the client claims. It returns
// nothing when the request comes from elsewhere, or the proxy names nobody.
func forwardedFor(r *http.Request, trusted []netip.Prefix) (string, bool) {
	lines := r.Header.Values("X-Forwarded-For")
	if len(lines) == 0 || !within(r.RemoteAddr, trusted) {
		return "", false
	}
	last := lines[len(lines)-1]
	address, err := netip.ParseAddr(strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]))
	if err != nil {
		return "", false
	}
	return netip.AddrPortFrom(address.Unmap().WithZone(""), 0).String(), true
}

// within says whether an address, with a port, is in one of the ranges.
func within(remote string, ranges []netip.Prefix) bool {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	address := at.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(address) })
}

// limiter bounds the rate of requests of each client. It remembers a bounded number of them, those seen last.
type limiter struct {
	rate     rate.Limit
	burst    int
	capacity int

	mu     sync.Mutex
	known  map[netip.Prefix]*list.Element
	recent *list.List // of *bucket, the one seen last in front
}

type bucket struct {
	client netip.Prefix
	tokens *rate.Limiter
}

// newLimiter returns a limiter; a rate of 0 limits nothing.
func newLimiter(perSecond float64, burst, capacity int) *limiter {
	return &limiter{
		rate: rate.Limit(perSecond), burst: burst, capacity: capacity,
		known: map[netip.Prefix]*list.Element{}, recent: list.New(),
	}
}

// allow takes a token of the client and says whether there was one.
func (l *limiter) allow(client netip.Prefix) bool {
	if l.rate == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	element, known := l.known[client]
	if known {
		l.recent.MoveToFront(element)
	} else {
		if l.recent.Len() >= l.capacity {
			oldest := l.recent.Back()
			delete(l.known, l.recent.Remove(oldest).(*bucket).client)
		}
		element = l.recent.PushFront(&bucket{client: client, tokens: rate.NewLimiter(l.rate, l.burst)})
		l.known[client] = element
	}
	return element.Value.(*bucket).tokens.Allow()
}

// share bounds how much is open at one time, in all and of one client.
type share struct {
	total, perClient int

	mu   sync.Mutex
	sum  int
	open map[netip.Prefix]int
}

func newShare(total, perClient int) *share {
	return &share{total: total, perClient: perClient, open: map[netip.Prefix]int{}}
}

// enter says whether the client may open one more. Then leave has to follow.
func (s *share) enter(client netip.Prefix) bool { return s.admit(client, s.perClient) }

// admit is enter for a client that may open another number.
func (s *share) admit(client netip.Prefix, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sum >= s.total || s.open[client] >= most {
		return false
	}
	s.sum++
	s.open[client]++
	return true
}

func (s *share) leave(client netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum--
	if s.open[client]--; s.open[client] == 0 {
		delete(s.open, client)
	}
}

// boundedListener closes connections that the share has no room for.
type boundedListener struct {
	net.Listener
	share   *share
	trusted []netip.Prefix // whose connections are bounded in all only: they are many clients'
	refused *atomic.Uint64
}

// Accept returns the next connection that there is room for.
func (l boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, most := client(conn.RemoteAddr().String()), l.share.perClient
		if within(conn.RemoteAddr().String(), l.trusted) {
			most = l.share.total
		}
		if l.share.admit(from, most) {
			return &boundedConn{Conn: conn, leave: sync.OnceFunc(func() { l.share.leave(from) })}, nil
		}
		l.refused.Add(1)
		_ = conn.Close()
	}
}

type boundedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection and makes room for another.
func (c *boundedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
