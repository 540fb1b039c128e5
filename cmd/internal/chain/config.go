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
	"log/slog"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ephemos.dev/deploy/cmd/internal/environment"
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
	// CallRate (CALL_RATE, default 5 for a service that drives, in calls a second, 0 to 1000) is how often it starts a call
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

// exampleID is shown where a SPIFFE ID is wrong.
const exampleID = "spiffe://example.org/workload/user-service"

// ParseConfig reads the configuration of the service at place. env returns the value of a variable and whether it is
// set. All errors are returned at once, each naming the variable, its value and what is allowed.
func ParseConfig(place Place, env func(string) (string, bool)) (Config, error) {
	p := parser{environment.New(env)}
	c := Config{
		MTLSAddress:     p.Address("MTLS_ADDRESS", ":8443"),
		PlainAddress:    p.Address("PLAIN_ADDRESS", ":8080"),
		AttemptTimeout:  p.Duration("ATTEMPT_TIMEOUT", 600*time.Millisecond, 10*time.Millisecond, time.Minute),
		CallTimeout:     p.Duration("CALL_TIMEOUT", 5*time.Second, 10*time.Millisecond, 10*time.Minute),
		Cooldown:        p.Duration("ENDPOINT_COOLDOWN", 2*time.Second, 0, 10*time.Minute),
		Refresh:         p.Duration("DNS_REFRESH", time.Second, 10*time.Millisecond, 10*time.Minute),
		DrainDelay:      p.Duration("DRAIN_DELAY", 5*time.Second, 0, 10*time.Minute),
		ShutdownTimeout: p.Duration("SHUTDOWN_TIMEOUT", 10*time.Second, 0, 10*time.Minute),
		LogLevel:        p.Level("LOG_LEVEL"),
		Callers:         p.IDs("ALLOWED_CALLERS", exampleID),
		Socket:          p.Socket("SPIFFE_ENDPOINT_SOCKET"),
	}
	if place.Calls {
		c.NextHost, c.NextPort = p.HostPort("NEXT_ADDRESS", "next service", "order.services.svc.cluster.local.:8443")
		c.NextID = p.ID("NEXT_ID", exampleID)
	} else {
		p.absent(place, "NEXT_ADDRESS", "NEXT_ID")
	}
	if place.Keeps {
		c.Cache = p.server("CACHE_ADDRESS", "CACHE_ID", "cache", "cache.data.svc.cluster.local.:6379")
		c.CacheTimeout = p.Duration("CACHE_TIMEOUT", 25*time.Millisecond, time.Millisecond, time.Second)
	} else {
		p.absent(place, "CACHE_ADDRESS", "CACHE_ID", "CACHE_TIMEOUT")
	}
	if place.Announces {
		c.Queue = p.server("QUEUE_ADDRESS", "QUEUE_ID", "queue", "queue.data.svc.cluster.local.:4222")
	} else {
		p.absent(place, "QUEUE_ADDRESS", "QUEUE_ID")
	}
	if place.Drives {
		c.CallRate = p.Rate("CALL_RATE", 5, maxCallRate, "calls")
	} else {
		p.absent(place, "CALL_RATE")
	}
	if c.AttemptTimeout > c.CallTimeout {
		p.Fail("ATTEMPT_TIMEOUT", c.AttemptTimeout.String(), "a duration no longer than CALL_TIMEOUT (%s)", c.CallTimeout)
	}
	return c, p.Err()
}

// parser adds what only the configuration of the chain has.
type parser struct{ *environment.Parser }

// absent refuses variables without an effect: whoever sets one expects something of it.
func (p parser) absent(place Place, keys ...string) {
	for _, key := range keys {
		if value, set := p.Lookup(key); set {
			p.Fail(key, value, "unset for %s, which has no use for it", place.Name)
		}
	}
}

// server reads a server that may be left out. An address without the ID that is expected there, or the reverse, is a mistake.
func (p parser) server(addressKey, idKey, of, example string) Server {
	_, hasAddress := p.Lookup(addressKey)
	_, hasID := p.Lookup(idKey)
	if !hasAddress && !hasID {
		return Server{}
	}
	var s Server
	s.Host, s.Port = p.HostPort(addressKey, of, example)
	s.ID = p.ID(idKey, exampleID)
	return s
}
