package main

import (
	"log/slog"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ephemos.dev/deploy/cmd/internal/environment"
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
	// TrustedProxies (TRUSTED_PROXIES, ranges of addresses separated by commas, default none) are proxies that pass clients'
	// requests on and put the client's address behind whatever X-Forwarded-For held. What comes from one of them counts as that
	// address, in the bounds, in the firewall and towards the upstream, and their connections are bounded in all only.
	TrustedProxies []netip.Prefix
	// HealthPath (EDGE_HEALTH_PATH, default none) is a path at which the edge itself answers whether it may be sent requests: 200
	// if so, 503 if not. It is for a balancer that finds out by asking. With it the gateway stays ready, for the kubelet, during
	// the drain delay: otherwise its node would no longer bring it the requests that the balancer goes on sending until it has
	// asked.
	HealthPath string

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

// maxRate bounds RATE_LIMIT. More than that is no limit.
const maxRate = 1e6

var gatewayName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// ParseConfig reads the configuration. env returns the value of a variable and whether it is set. All errors are returned
// at once, each naming the variable, its value and what is allowed.
func ParseConfig(env func(string) (string, bool)) (Config, error) {
	p := parser{environment.New(env)}
	c := Config{
		Name:          p.Match("GATEWAY_NAME", "gateway", gatewayName, "a DNS label"),
		Socket:        p.Socket("SPIFFE_ENDPOINT_SOCKET"),
		UpstreamID:    p.ID("UPSTREAM_ID", "spiffe://example.org/workload/order-service"),
		Routes:        p.routes("ROUTES"),
		EdgeAddress:   p.Address("EDGE_ADDRESS", ":8443"),
		PlainAddress:  p.Address("PLAIN_ADDRESS", ":8080"),
		EdgeCertFile:  p.file("EDGE_CERT_FILE"),
		EdgeKeyFile:   p.file("EDGE_KEY_FILE"),
		EdgeReload:    p.Duration("EDGE_RELOAD", 10*time.Second, 10*time.Millisecond, time.Hour),
		HeaderLimit:   p.Integer("HEADER_LIMIT", 16<<10, 1<<10, 1<<20),
		HeaderTimeout: p.Duration("HEADER_TIMEOUT", 5*time.Second, 100*time.Millisecond, time.Minute),
		ReadTimeout:   p.Duration("READ_TIMEOUT", 15*time.Second, 100*time.Millisecond, 10*time.Minute),
		IdleTimeout:   p.Duration("IDLE_TIMEOUT", time.Minute, 100*time.Millisecond, time.Hour),
		Rate:          p.Rate("RATE_LIMIT", 20, maxRate, "requests"),
		Burst:         p.Integer("RATE_BURST", 40, 1, 1e6),
		Clients:       p.Integer("RATE_CLIENTS", 16384, 1, 1e6),
		InFlight:      p.Integer("MAX_IN_FLIGHT", 128, 1, 1e5),
		Connections:   p.Integer("MAX_CONNECTIONS", 1024, 1, 1e6),

		InFlightPerClient:    p.Integer("MAX_IN_FLIGHT_PER_CLIENT", 32, 1, 1e5),
		ConnectionsPerClient: p.Integer("MAX_CONNECTIONS_PER_CLIENT", 64, 1, 1e6),
		TrustedProxies:       p.prefixes("TRUSTED_PROXIES"),

		AttemptTimeout:  p.Duration("ATTEMPT_TIMEOUT", time.Second, 10*time.Millisecond, time.Minute),
		CallTimeout:     p.Duration("CALL_TIMEOUT", 8*time.Second, 10*time.Millisecond, 10*time.Minute),
		Attempts:        p.Integer("MAX_ATTEMPTS", 3, 1, 100),
		Cooldown:        p.Duration("ENDPOINT_COOLDOWN", 2*time.Second, 0, 10*time.Minute),
		Refresh:         p.Duration("DNS_REFRESH", time.Second, 10*time.Millisecond, 10*time.Minute),
		DrainDelay:      p.Duration("DRAIN_DELAY", 5*time.Second, 0, 10*time.Minute),
		ShutdownTimeout: p.Duration("SHUTDOWN_TIMEOUT", 10*time.Second, 0, 10*time.Minute),
		LogLevel:        p.Level("LOG_LEVEL"),
		Firewall: waf.Options{
			ParanoiaLevel: p.Integer("PARANOIA_LEVEL", 1, 1, 4),
			Threshold:     p.Integer("ANOMALY_THRESHOLD", 5, 1, 1000),
			BodyLimit:     p.Integer("BODY_LIMIT", 64<<10, 1<<10, 16<<20),
			Methods:       p.methods("ALLOWED_METHODS"),
			Concurrency:   p.Integer("MAX_INSPECTIONS", 4, 1, 1000),
		},
	}
	c.UpstreamHost, c.UpstreamPort = p.HostPort("UPSTREAM_ADDRESS", "service behind the gateway",
		"order.services.svc.cluster.local.:8443")
	if (c.EdgeCertFile == "") != (c.EdgeKeyFile == "") {
		p.Fail("EDGE_KEY_FILE", c.EdgeKeyFile, "set together with EDGE_CERT_FILE (%q)", c.EdgeCertFile)
	}
	c.HealthPath = p.healthPath("EDGE_HEALTH_PATH", c.Routes)
	if c.AttemptTimeout > c.CallTimeout {
		p.Fail("ATTEMPT_TIMEOUT", c.AttemptTimeout.String(), "a duration no longer than CALL_TIMEOUT (%s)", c.CallTimeout)
	}
	if c.HeaderTimeout > c.ReadTimeout {
		p.Fail("HEADER_TIMEOUT", c.HeaderTimeout.String(), "a duration no longer than READ_TIMEOUT (%s)", c.ReadTimeout)
	}
	return c, p.Err()
}

// parser adds what only the configuration of a gateway has.
type parser struct{ *environment.Parser }

func (p parser) methods(key string) []string {
	value, set := p.Lookup(key)
	if !set {
		return nil
	}
	methods := strings.Split(value, ",")
	for i, m := range methods {
		methods[i] = strings.TrimSpace(m)
	}
	if err := (waf.Options{Methods: methods}).Validate(); err != nil {
		p.Fail(key, value, "HTTP methods in capital letters, separated by commas")
	}
	return methods
}

// widest and widest6 are the least numbers of bits that a range of proxies has, of IPv4 and of IPv6: for more addresses than that, those
// of a provider, nobody vouches.
const widest, widest6 = 8, 32

func tooWide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < widest
	}
	return p.Bits() < widest6
}

func (p parser) prefixes(key string) []netip.Prefix {
	value, set := p.Lookup(key)
	if !set {
		return nil
	}
	var prefixes []netip.Prefix
	for part := range strings.SplitSeq(value, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil || prefix != prefix.Masked() || tooWide(prefix) {
			p.Fail(key, value, "ranges such as 10.0.0.0/24, separated by commas, without bits behind the prefix and of at least /%d, of IPv6 /%d", widest, widest6)
			return nil
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes
}

func (p parser) healthPath(key string, routes Routes) string {
	value, set := p.Lookup(key)
	if !set {
		return ""
	}
	if !plainPath(value) {
		p.Fail(key, value, "an unescaped path without empty or dot segments")
		return ""
	}
	if _, routed := routes.Target(&url.URL{Path: value}); routed {
		p.Fail(key, value, "a path that ROUTES does not pass on")
	}
	return value
}

func (p parser) file(key string) string {
	value, set := p.Lookup(key)
	if set && !strings.HasPrefix(value, "/") {
		p.Fail(key, value, "the absolute path of a file")
	}
	return value
}

func (p parser) routes(key string) Routes {
	value, _ := p.Lookup(key)
	routes, err := ParseRoutes(value)
	if err != nil {
		p.Fail(key, value, "%v", err)
	}
	return routes
}
