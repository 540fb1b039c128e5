package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ephemos.dev/deploy/cmd/internal/waf"
)

// Config is a gateway's configuration. Each field names the environment variable it is read from and its default.
type Config struct {
	// Name (GATEWAY_NAME, default gateway) tells gateways apart in logs, statistics and metrics.
	Name string
	// Socket (SPIFFE_ENDPOINT_SOCKET, required) is the Workload API's address, a unix:// URI.
	Socket string
	// UpstreamHost and UpstreamPort (UPSTREAM_ADDRESS as host:port, required) name the service behind the gateway. The host
	// resolves to the address of every endpoint (a headless Service).
	UpstreamHost, UpstreamPort string
	// UpstreamID (UPSTREAM_ID, required) is the only SPIFFE ID the service may have.
	UpstreamID spiffeid.ID
	// Routes (ROUTES, required) are the paths that are passed on: see ParseRoutes.
	Routes Routes

	// EdgeAddress (EDGE_ADDRESS, default :8443) is where clients are served, over TLS.
	EdgeAddress string
	// PlainAddress (PLAIN_ADDRESS, default :8080) is where probes, statistics and metrics listen, in plaintext.
	PlainAddress string
	// EdgeCertFile and EdgeKeyFile (EDGE_CERT_FILE and EDGE_KEY_FILE, default none) are the certificate chain and key that
	// clients are shown, in PEM. Without them it is the gateway's own SVID.
	EdgeCertFile, EdgeKeyFile string
	// EdgeReload (EDGE_RELOAD, default 10s) is the period of looks at those files.
	EdgeReload time.Duration

	// Firewall is PARANOIA_LEVEL (default 1, from 1 to 4), ANOMALY_THRESHOLD (default 5), ALLOWED_METHODS (separated by commas,
	// default GET,HEAD,POST,OPTIONS), BODY_LIMIT (in bytes, default 65536) and MAX_INSPECTIONS (at one time, default 4): see
	// waf.Options.
	Firewall waf.Options
	// HeaderLimit (HEADER_LIMIT, in bytes, default 16384) bounds the head of a request; a longer one is refused with 431.
	HeaderLimit int
	// HeaderTimeout (HEADER_TIMEOUT, default 5s) bounds the TLS handshake, and the arrival of a request's head.
	HeaderTimeout time.Duration
	// ReadTimeout (READ_TIMEOUT, default 15s) bounds the arrival of a whole request.
	ReadTimeout time.Duration
	// IdleTimeout (IDLE_TIMEOUT, default 60s) is how long a connection may be without a request.
	IdleTimeout time.Duration
	// Rate (RATE_LIMIT, in requests a second, default 20, 0 for no limit) and Burst (RATE_BURST, default 40) bound the
	// requests of one client: an IPv4 address, or the first 64 bits of an IPv6 address. Beyond, 429 is answered.
	Rate  float64
	Burst int
	// Clients (RATE_CLIENTS, default 16384) is how many clients are remembered for that. The one that was silent longest is
	// forgotten first, and starts anew.
	Clients int
	// InFlight and InFlightPerClient (MAX_IN_FLIGHT, default 128; MAX_IN_FLIGHT_PER_CLIENT, default 32) bound the requests that
	// are worked on at one time, in all and of one client, and with them the memory that they take. Beyond, 503 is answered.
	InFlight, InFlightPerClient int
	// Connections and ConnectionsPerClient (MAX_CONNECTIONS, default 1024; MAX_CONNECTIONS_PER_CLIENT, default 64) bound the
	// clients' open connections, in all and of one client. Beyond, a new one is closed.
	Connections, ConnectionsPerClient int

	// AttemptTimeout (ATTEMPT_TIMEOUT, default 1s) is how long an endpoint may be silent before another is asked too.
	AttemptTimeout time.Duration
	// CallTimeout (CALL_TIMEOUT, default 8s) bounds a call to the upstream with all its attempts. The chain's services give up
	// after 5s themselves.
	CallTimeout time.Duration
	// Attempts (MAX_ATTEMPTS, default 3) bounds the attempts that one request of a client can cause.
	Attempts int
	// Cooldown (ENDPOINT_COOLDOWN, default 2s) is how long an endpoint that failed is asked last.
	Cooldown time.Duration
	// Refresh (DNS_REFRESH, default 1s) is the period of look-ups of the upstream's name.
	Refresh time.Duration
	// DrainDelay (DRAIN_DELAY, default 5s) is how long the gateway goes on serving after SIGTERM.
	DrainDelay time.Duration
	// ShutdownTimeout (SHUTDOWN_TIMEOUT, default 10s) bounds the wait for requests in progress after that. The pod's
	// termination grace period must be longer than both together.
	ShutdownTimeout time.Duration
	// LogLevel (LOG_LEVEL, default info) is debug, info, warn or error.
	LogLevel slog.Level
}

// writeTimeout bounds the time from a request's head to the end of its answer: the rest of the request, the call, and the
// answer's way back.
func (c Config) writeTimeout() time.Duration { return c.ReadTimeout + c.CallTimeout + 5*time.Second }

var gatewayName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// ParseConfig reads the configuration. env returns the value of a variable and whether it is set. All errors are returned
// at once, each naming the variable, its value and what is allowed.
func ParseConfig(env func(string) (string, bool)) (Config, error) {
	p := parser{env: env}
	c := Config{
		Name:          p.text("GATEWAY_NAME", "gateway", gatewayName, "a DNS label"),
		Socket:        p.socket("SPIFFE_ENDPOINT_SOCKET"),
		UpstreamID:    p.id("UPSTREAM_ID"),
		Routes:        p.routes("ROUTES"),
		EdgeAddress:   p.address("EDGE_ADDRESS", ":8443"),
		PlainAddress:  p.address("PLAIN_ADDRESS", ":8080"),
		EdgeCertFile:  p.file("EDGE_CERT_FILE"),
		EdgeKeyFile:   p.file("EDGE_KEY_FILE"),
		EdgeReload:    p.duration("EDGE_RELOAD", 10*time.Second, 10*time.Millisecond, time.Hour),
		HeaderLimit:   p.number("HEADER_LIMIT", 16<<10, 1<<10, 1<<20),
		HeaderTimeout: p.duration("HEADER_TIMEOUT", 5*time.Second, 100*time.Millisecond, time.Minute),
		ReadTimeout:   p.duration("READ_TIMEOUT", 15*time.Second, 100*time.Millisecond, 10*time.Minute),
		IdleTimeout:   p.duration("IDLE_TIMEOUT", time.Minute, 100*time.Millisecond, time.Hour),
		Rate:          p.rate("RATE_LIMIT", 20),
		Burst:         p.number("RATE_BURST", 40, 1, 1e6),
		Clients:       p.number("RATE_CLIENTS", 16384, 1, 1e6),
		InFlight:      p.number("MAX_IN_FLIGHT", 128, 1, 1e5),
		Connections:   p.number("MAX_CONNECTIONS", 1024, 1, 1e6),

		InFlightPerClient:    p.number("MAX_IN_FLIGHT_PER_CLIENT", 32, 1, 1e5),
		ConnectionsPerClient: p.number("MAX_CONNECTIONS_PER_CLIENT", 64, 1, 1e6),

		AttemptTimeout:  p.duration("ATTEMPT_TIMEOUT", time.Second, 10*time.Millisecond, time.Minute),
		CallTimeout:     p.duration("CALL_TIMEOUT", 8*time.Second, 10*time.Millisecond, 10*time.Minute),
		Attempts:        p.number("MAX_ATTEMPTS", 3, 1, 100),
		Cooldown:        p.duration("ENDPOINT_COOLDOWN", 2*time.Second, 0, 10*time.Minute),
		Refresh:         p.duration("DNS_REFRESH", time.Second, 10*time.Millisecond, 10*time.Minute),
		DrainDelay:      p.duration("DRAIN_DELAY", 5*time.Second, 0, 10*time.Minute),
		ShutdownTimeout: p.duration("SHUTDOWN_TIMEOUT", 10*time.Second, 0, 10*time.Minute),
		LogLevel:        p.level("LOG_LEVEL"),
		Firewall: waf.Options{
			ParanoiaLevel: p.number("PARANOIA_LEVEL", 1, 1, 4),
			Threshold:     p.number("ANOMALY_THRESHOLD", 5, 1, 1000),
			BodyLimit:     p.number("BODY_LIMIT", 64<<10, 1<<10, 16<<20),
			Methods:       p.methods("ALLOWED_METHODS"),
			Concurrency:   p.number("MAX_INSPECTIONS", 4, 1, 1000),
		},
	}
	c.UpstreamHost, c.UpstreamPort = p.hostPort("UPSTREAM_ADDRESS")
	if (c.EdgeCertFile == "") != (c.EdgeKeyFile == "") {
		p.fail("EDGE_KEY_FILE", c.EdgeKeyFile, "set together with EDGE_CERT_FILE (%q)", c.EdgeCertFile)
	}
	if c.AttemptTimeout > c.CallTimeout {
		p.fail("ATTEMPT_TIMEOUT", c.AttemptTimeout.String(), "a duration no longer than CALL_TIMEOUT (%s)", c.CallTimeout)
	}
	if c.HeaderTimeout > c.ReadTimeout {
		p.fail("HEADER_TIMEOUT", c.HeaderTimeout.String(), "a duration no longer than READ_TIMEOUT (%s)", c.ReadTimeout)
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

func (p *parser) text(key, fallback string, pattern *regexp.Regexp, allowed string) string {
	value, set := p.lookup(key)
	if !set {
		return fallback
	}
	if !pattern.MatchString(value) {
		p.fail(key, value, "%s", allowed)
	}
	return value
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

func (p *parser) number(key string, fallback, low, high int) int {
	value, set := p.lookup(key)
	if !set {
		return fallback
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		p.fail(key, value, "a whole number from %d to %d", low, high)
		return fallback
	}
	return n
}

// maxRate bounds RATE_LIMIT. More than that is no limit.
const maxRate = 1e6

func (p *parser) rate(key string, fallback float64) float64 {
	value, set := p.lookup(key)
	if !set {
		return fallback
	}
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || !(f >= 0 && f <= maxRate) {
		p.fail(key, value, "a number of requests a second from 0 to %g", maxRate)
		return fallback
	}
	return f
}

func (p *parser) methods(key string) []string {
	value, set := p.lookup(key)
	if !set {
		return nil
	}
	methods := strings.Split(value, ",")
	for i, m := range methods {
		methods[i] = strings.TrimSpace(m)
	}
	if err := (waf.Options{Methods: methods}).Validate(); err != nil {
		p.fail(key, value, "HTTP methods in capital letters, separated by commas")
	}
	return methods
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

func (p *parser) file(key string) string {
	value, set := p.lookup(key)
	if set && !strings.HasPrefix(value, "/") {
		p.fail(key, value, "the absolute path of a file")
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

func (p *parser) hostPort(key string) (host, port string) {
	value, _ := p.lookup(key)
	host, port, err := net.SplitHostPort(value)
	if err != nil || host == "" || !validPort(port, 1) {
		p.fail(key, value, "host:port of the service behind the gateway, such as order.services.svc.cluster.local.:8443")
	}
	return host, port
}

func validPort(port string, low uint64) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n >= low
}

func (p *parser) id(key string) spiffeid.ID {
	value, _ := p.lookup(key)
	id, err := spiffeid.FromString(value)
	if err != nil || id.Path() == "" {
		p.fail(key, value, "a SPIFFE ID with a path, such as spiffe://example.org/workload/order-service")
	}
	return id
}

func (p *parser) routes(key string) Routes {
	value, _ := p.lookup(key)
	routes, err := ParseRoutes(value)
	if err != nil {
		p.fail(key, value, "%v", err)
	}
	return routes
}
