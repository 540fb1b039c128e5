package mtls

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Resolver looks up the addresses of a name. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	// lookupTimeout bounds one look-up. It allows for one lost packet with the one-second retry that the pods' DNS
	// configuration sets.
	lookupTimeout = 2500 * time.Millisecond
	// maxCooldownFactor bounds the doubling of an endpoint's cooldown.
	maxCooldownFactor = 8
)

// endpoints is the set of addresses behind one host name, with what is known of their health.
//
// The name is looked up in the background, never within a call, and the last good answer is kept when look-ups fail: DNS
// servers live in pods too and may be lost together with an endpoint.
type endpoints struct {
	host     string
	port     string
	resolver Resolver
	refresh  time.Duration
	cooldown time.Duration
	log      *slog.Logger
	now      func() time.Time

	mu    sync.Mutex
	known map[string]*health // by "address:port"
	turn  int                // rotates the starting point among healthy endpoints
}

// health is what is known of one endpoint.
type health struct {
	failures int       // consecutive failures or slow answers
	until    time.Time // end of the cooldown after the last one
}

func newEndpoints(host, port string, resolver Resolver, refresh, cooldown time.Duration, log *slog.Logger) *endpoints {
	return &endpoints{
		host: host, port: port, resolver: resolver, refresh: refresh, cooldown: cooldown, log: log, now: time.Now,
		known: map[string]*health{},
	}
}

// run looks the name up every refresh period until ctx ends.
func (e *endpoints) run(ctx context.Context) {
	ticker := time.NewTicker(e.refresh)
	defer ticker.Stop()
	failing := false
	for {
		err := e.lookup(ctx)
		if (err != nil) != failing && ctx.Err() == nil {
			failing = err != nil
			if failing {
				e.log.Warn("look-up failed, keeping the last good answer", "host", e.host, "error", err)
			} else {
				e.log.Info("look-up works", "host", e.host)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (e *endpoints) lookup(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addresses, err := e.resolver.LookupNetIP(ctx, "ip", e.host)
	if err != nil {
		return err
	}
	if len(addresses) == 0 {
		return &net.DNSError{Err: "no addresses", Name: e.host, IsNotFound: true}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	fresh := make(map[string]*health, len(addresses))
	for _, a := range addresses {
		address := net.JoinHostPort(a.Unmap().String(), e.port)
		if fresh[address] = e.known[address]; fresh[address] == nil {
			fresh[address] = &health{}
		}
	}
	e.known = fresh
	return nil
}

// candidates lists the endpoints in the order in which a call should try them: healthy ones first, starting at another
// one each time; then those in cooldown, the one that is due soonest first. An endpoint in cooldown is put last, not left
// out, so that a call still has somewhere to go when all have failed.
func (e *endpoints) candidates() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	var healthy, cooling []string
	for address, h := range e.known {
		if h.until.After(now) {
			cooling = append(cooling, address)
		} else {
			healthy = append(healthy, address)
		}
	}
	slices.Sort(healthy)
	slices.SortFunc(cooling, func(a, b string) int {
		return cmp.Or(e.known[a].until.Compare(e.known[b].until), cmp.Compare(a, b))
	})
	if n := len(healthy); n > 0 {
		start := e.turn % n
		e.turn++
		healthy = slices.Concat(healthy[start:], healthy[:start])
	}
	return append(healthy, cooling...)
}

// failed puts an endpoint into cooldown, twice as long after each consecutive failure.
func (e *endpoints) failed(address string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.known[address]
	if h == nil {
		return
	}
	h.until = e.now().Add(e.cooldown * time.Duration(min(1<<min(h.failures, 10), maxCooldownFactor)))
	h.failures++
}

// answered ends an endpoint's cooldown.
func (e *endpoints) answered(address string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h := e.known[address]; h != nil {
		*h = health{}
	}
}
