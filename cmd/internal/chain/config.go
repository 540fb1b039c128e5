// Package chain is the body of the three services that show what an identity is for: payment calls user, user calls
// order, over mutual TLS, and each accepts exactly the identity of its caller.
//
// In: configuration from the environment and an identity from the Workload API. Out: the mutual-TLS API (one resource,
// /chain), and on a second, plaintext port the probes, statistics and metrics, and for the first service of the chain
// /call.
//
// user keeps order's answers in the Data zone's cache, so that any of its replicas knows the latest order of a caller, and order
// announces each order on the message queue. Both are optional, and neither can fail a call (data).
package chain

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Place is a service's position in the chain: what its program fixes.
type Place struct {
	// Name is the service's name in logs, statistics and metrics.
	Name string
	// Calls says that the service has a successor in the chain.
	Calls bool
	// Drives says that the service starts calls itself, at Config.CallRate, and serves /call.
	Drives bool
	// Keeps says that the service keeps its successor's answers in the cache, if there is one, and looks there for the
	// latest one to the same caller.
	Keeps bool
	// Announces says that the service places an order for each request, and announces it on the queue, if there is one.
	Announces bool
}

// The chain.
var (
	Payment = Place{Name: "payment", Calls: true, Drives: true}
	User    = Place{Name: "user", Calls: true, Keeps: true}
	Order   = Place{Name: "order", Announces: true}
)

// Server is a server that a service connects to over mutual TLS. The zero value is none.
type Server struct {
	Host, Port string
	// ID is the only SPIFFE ID it may have.
	ID spiffeid.ID
}

// Config is a service's configuration. Each field names the environment variable it is read from and its default.
type Config struct {
	// Socket (SPIFFE_ENDPOINT_SOCKET, required) is the Workload API's address, a unix:// URI.
	Socket string
	// Callers (ALLOWED_CALLERS, default none) are the SPIFFE IDs that may call the mutual-TLS API, separated by commas.
	// With none, every caller is refused.
	Callers []spiffeid.ID
	// NextHost and NextPort (NEXT_ADDRESS as host:port, required for a service that calls) name the next service.
	NextHost, NextPort string
	// NextID (NEXT_ID, required for a service that calls) is the only SPIFFE ID the next service may have.
	NextID spiffeid.ID
	// Cache (CACHE_ADDRESS as host:port and CACHE_ID, default none, for a service that keeps answers) is the cache.
	Cache Server
	// CacheTimeout (CACHE_TIMEOUT, default 25ms, for a service that keeps answers) is how long a read from the cache may take. A
	// call is held up by no more than that, less the time that the next service takes.
	CacheTimeout time.Duration
	// Queue (QUEUE_ADDRESS as host:port and QUEUE_ID, default none, for a service that announces) is the message queue.
	Queue Server
	// MTLSAddress (MTLS_ADDRESS, default :8443) is where the mutual-TLS API listens.
	MTLSAddress string
	// PlainAddress (PLAIN_ADDRESS, default :8080) is where probes, statistics and metrics listen, in plaintext.
	PlainAddress string
	// CallRate (CALL_RATE, default 5 for a service that drives, in calls a second, 0 to 100) is how often it starts a call
	// by itself.
	CallRate float64
	// AttemptTimeout (ATTEMPT_TIMEOUT, default 600ms) is how long one endpoint may be silent before another is asked too.
	AttemptTimeout time.Duration
	// CallTimeout (CALL_TIMEOUT, default 5s) bounds a call with all its attempts.
	CallTimeout time.Duration
	// Cooldown (ENDPOINT_COOLDOWN, default 2s) is how long an endpoint that failed is asked last; it doubles with each
	// consecutive failure, up to eight times.
	Cooldown time.Duration
	// Refresh (DNS_REFRESH, default 1s) is the period of look-ups of the names of the next service, the cache and the queue.
	Refresh time.Duration
	// DrainDelay (DRAIN_DELAY, default 5s) is how long the service goes on serving after SIGTERM: the pod is taken out of
	// DNS and endpoint lists at the same time as it is told to stop, and callers learn of it later.
	DrainDelay time.Duration
	// ShutdownTimeout (SHUTDOWN_TIMEOUT, default 10s) bounds the wait for requests in progress after that. The pod's
	// termination grace period must be longer than both together.
	ShutdownTimeout time.Duration
	// LogLevel (LOG_LEVEL, default info) is debug, info, warn or error.
	LogLevel slog.Level
}

// maxCallRate bounds CALL_RATE: the caller shows that calls succeed, it is no load generator.
const maxCallRate = 1000

// ParseConfig reads the configuration of the service at place. env returns the value of a variable and whether it is
// set. All errors are returned at once, each naming the variable, its value and what is allowed.
func ParseConfig(place Place, env func(string) (string, bool)) (Config, error) {
	p := parser{env: env}
	c := Config{
		MTLSAddress:     p.address("MTLS_ADDRESS", ":8443"),
		PlainAddress:    p.address("PLAIN_ADDRESS", ":8080"),
		AttemptTimeout:  p.duration("ATTEMPT_TIMEOUT", 600*time.Millisecond, 10*time.Millisecond, time.Minute),
		CallTimeout:     p.duration("CALL_TIMEOUT", 5*time.Second, 10*time.Millisecond, 10*time.Minute),
		Cooldown:        p.duration("ENDPOINT_COOLDOWN", 2*time.Second, 0, 10*time.Minute),
		Refresh:         p.duration("DNS_REFRESH", time.Second, 10*time.Millisecond, 10*time.Minute),
		DrainDelay:      p.duration("DRAIN_DELAY", 5*time.Second, 0, 10*time.Minute),
		ShutdownTimeout: p.duration("SHUTDOWN_TIMEOUT", 10*time.Second, 0, 10*time.Minute),
		LogLevel:        p.level("LOG_LEVEL"),
		Callers:         p.ids("ALLOWED_CALLERS"),
		Socket:          p.socket("SPIFFE_ENDPOINT_SOCKET"),
	}
	if place.Calls {
		c.NextHost, c.NextPort = p.hostPort("NEXT_ADDRESS", "next service", "order.services.svc.cluster.local.:8443")
		c.NextID = p.id("NEXT_ID")
	} else {
		p.absent(place, "NEXT_ADDRESS", "NEXT_ID")
	}
	if place.Keeps {
		c.Cache = p.server("CACHE_ADDRESS", "CACHE_ID", "cache", "cache.data.svc.cluster.local.:6379")
		c.CacheTimeout = p.duration("CACHE_TIMEOUT", 25*time.Millisecond, time.Millisecond, time.Second)
	} else {
		p.absent(place, "CACHE_ADDRESS", "CACHE_ID", "CACHE_TIMEOUT")
	}
	if place.Announces {
		c.Queue = p.server("QUEUE_ADDRESS", "QUEUE_ID", "queue", "queue.data.svc.cluster.local.:4222")
	} else {
		p.absent(place, "QUEUE_ADDRESS", "QUEUE_ID")
	}
	if place.Drives {
		c.CallRate = p.rate("CALL_RATE", 5)
	} else {
		p.absent(place, "CALL_RATE")
	}
	if c.AttemptTimeout > c.CallTimeout {
		p.fail("ATTEMPT_TIMEOUT", c.AttemptTimeout.String(), "a duration no longer than CALL_TIMEOUT (%s)", c.CallTimeout)
	}
	return c, errors.Join(p.errs...)
}

// parser reads typed values and collects errors.
type parser struct {
	env  func(string) (string, bool)
	errs []error
}

func (p *parser) fail(key, value, allowed string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, value, fmt.Sprintf(allowed, args...)))
}

// lookup returns a variable's value; an empty one counts as unset.
func (p *parser) lookup(key string) (string, bool) {
	value, _ := p.env(key)
	return value, value != ""
}

func (p *parser) absent(place Place, keys ...string) {
	for _, key := range keys {
		if value, set := p.lookup(key); set {
			p.fail(key, value, "unset for %s, which has no use for it", place.Name)
		}
	}
}

func (p *parser) duration(key string, fallback, low, high time.Duration) time.Duration {
	value, set := p.lookup(key)
	if !set {
		return fallback
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < low || d > high {
		p.fail(key, value, "a duration from %s to %s, such as %s", low, high, fallback)
		return fallback
	}
	return d
}

func (p *parser) rate(key string, fallback float64) float64 {
	value, set := p.lookup(key)
	if !set {
		return fallback
	}
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || !(f >= 0 && f <= maxCallRate) {
		p.fail(key, value, "a number of calls a second from 0 to %d", maxCallRate)
		return fallback
	}
	return f
}

func (p *parser) level(key string) slog.Level {
	value, set := p.lookup(key)
	if !set {
		return slog.LevelInfo
	}
	switch strings.ToLower(value) {
	case "debug":
		return slog.LevelDebug
	case "info":
		return slog.LevelInfo
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	p.fail(key, value, "debug, info, warn or error")
	return slog.LevelInfo
}

func (p *parser) socket(key string) string {
	value, _ := p.lookup(key)
	if path, ok := strings.CutPrefix(value, "unix://"); !ok || !strings.HasPrefix(path, "/") {
		p.fail(key, value, "the URI of the Workload API's socket, such as unix:///spiffe-workload-api/spire-agent.sock")
	}
	return value
}

func (p *parser) address(key, fallback string) string {
	value, set := p.lookup(key)
	if !set {
		return fallback
	}
	if _, port, err := net.SplitHostPort(value); err != nil || !validPort(port, 0) {
		p.fail(key, value, "host:port or :port, such as %s", fallback)
	}
	return value
}

func (p *parser) hostPort(key, of, example string) (host, port string) {
	value, _ := p.lookup(key)
	host, port, err := net.SplitHostPort(value)
	if err != nil || host == "" || !validPort(port, 1) {
		p.fail(key, value, "host:port of the %s, such as %s", of, example)
	}
	return host, port
}

// server reads a server that may be left out. An address without the ID that is expected there, or the reverse, is a mistake.
func (p *parser) server(addressKey, idKey, of, example string) Server {
	_, hasAddress := p.lookup(addressKey)
	_, hasID := p.lookup(idKey)
	if !hasAddress && !hasID {
		return Server{}
	}
	var s Server
	s.Host, s.Port = p.hostPort(addressKey, of, example)
	s.ID = p.id(idKey)
	return s
}

func validPort(port string, low uint64) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n >= low
}

func (p *parser) id(key string) spiffeid.ID {
	value, _ := p.lookup(key)
	return p.parseID(key, value)
}

func (p *parser) ids(key string) []spiffeid.ID {
	value, set := p.lookup(key)
	if !set {
		return nil
	}
	var ids []spiffeid.ID
	for part := range strings.SplitSeq(value, ",") {
		ids = append(ids, p.parseID(key, strings.TrimSpace(part)))
	}
	return ids
}

func (p *parser) parseID(key, value string) spiffeid.ID {
	id, err := spiffeid.FromString(value)
	if err != nil || id.Path() == "" {
		p.fail(key, value, "a SPIFFE ID with a path, such as spiffe://example.org/workload/user-service")
	}
	return id
}
