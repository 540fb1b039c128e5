package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/cmd/internal/chain"
	"ephemos.dev/deploy/cmd/internal/identity"
	"ephemos.dev/deploy/cmd/internal/identity/identitytest"
	"ephemos.dev/deploy/cmd/internal/mtls"
)

const dnsName = "gateway.example.org"

// addresses resolves every name to the same addresses.
type addresses []netip.Addr

func (a addresses) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	if len(a) == 0 {
		return nil, errors.New("no such name")
	}
	return a, nil
}

// upstream records the requests that reach it.
type upstream struct {
	mu       sync.Mutex
	requests []seen
	answer   http.HandlerFunc // nil: 200 and a JSON object
}

type seen struct {
	method, target, body string
	header               http.Header
	caller               spiffeid.ID
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	caller, _ := mtls.Caller(r)
	u.mu.Lock()
	u.requests = append(u.requests, seen{r.Method, r.RequestURI, string(body), r.Header.Clone(), caller})
	u.mu.Unlock()
	if u.answer != nil {
		u.answer(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"chain":[]}`)
}

func (u *upstream) seen() []seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.requests
}

// world is a gateway in front of an upstream, both in this process.
type world struct {
	t        *testing.T
	ca       *identitytest.CA
	feed     *identitytest.Feed
	upstream *upstream
	gateway  *Gateway
	edge     string // address
	plain    string // URL
	log      *lockedBuffer
	stop     func() // like SIGTERM
	done     chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// options change a world before it starts.
type options struct {
	config func(*Config)
	// impostor is the path of the SPIFFE ID that the upstream has instead of the expected one.
	impostor string
	// down leaves the upstream out.
	down   bool
	answer http.HandlerFunc
	// lifetime is that of the gateway's SVID. Default an hour.
	lifetime time.Duration
	// nobody makes the upstream accept no caller.
	nobody bool
}

const servicePath = "/workload/order-service"

func start(t *testing.T, o options) *world {
	t.Helper()
	w := &world{
		t: t, ca: identitytest.NewCA(t, "example.org"), upstream: &upstream{answer: o.answer}, log: &lockedBuffer{}, done: make(chan struct{}),
	}
	if o.lifetime == 0 {
		o.lifetime = time.Hour
	}
	w.feed = w.ca.Feed(w.ca.ID("/gateway/api"), o.lifetime, dnsName)

	behind := listen(t)
	_, port, err := net.SplitHostPort(behind.Addr().String())
	require.NoError(t, err)
	if o.down {
		require.NoError(t, behind.Close())
	} else {
		path, callers := servicePath, []spiffeid.ID{w.ca.ID("/gateway/api")}
		if o.impostor != "" {
			path = o.impostor
		}
		if o.nobody {
			callers = nil
		}
		holder := identity.NewHolder(slog.New(slog.DiscardHandler))
		go holder.Follow(t.Context(), w.ca.Feed(w.ca.ID(path), time.Hour))
		<-holder.Held()
		server := mtls.NewServer(holder, callers, w.upstream, slog.New(slog.DiscardHandler))
		go func() { _ = server.Serve(behind) }()
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = server.Shutdown(ctx)
		})
	}

	config, err := ParseConfig(variables(map[string]string{
		"UPSTREAM_ADDRESS": "order:" + port, "ROUTES": "/chain=/chain,/api/=/v1/", "RATE_LIMIT": "0", "MAX_CONNECTIONS_PER_CLIENT": "1000",
		"GATEWAY_NAME": "api-gateway", "DNS_REFRESH": "10ms", "ATTEMPT_TIMEOUT": "300ms", "CALL_TIMEOUT": "2s",
		"DRAIN_DELAY": "100ms", "SHUTDOWN_TIMEOUT": "5s", "LOG_LEVEL": "debug",
	}))
	require.NoError(t, err)
	if o.config != nil {
		o.config(&config)
	}
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: config.LogLevel}))
	w.gateway, err = New(config, addresses{netip.MustParseAddr("127.0.0.1")}, log)
	require.NoError(t, err)
	edge, plain := listen(t), listen(t)
	w.edge, w.plain = edge.Addr().String(), "http://"+plain.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	following, end := context.WithCancel(context.Background())
	go w.gateway.Holder().Follow(following, w.feed)
	<-w.gateway.Holder().Held()
	go func() {
		defer close(w.done)
		defer end()
		if err := w.gateway.Run(ctx, edge, plain); err != nil {
			t.Errorf("gateway: %v", err)
		}
	}()
	t.Cleanup(func() { stop(); <-w.done })
	return w
}

// variables are those that make a configuration together with the required ones.
func variables(values map[string]string) func(string) (string, bool) {
	all := map[string]string{
		"SPIFFE_ENDPOINT_SOCKET": "unix:///spiffe-workload-api/spire-agent.sock",
		"UPSTREAM_ADDRESS":       "order.services.svc.cluster.local.:8443",
		"UPSTREAM_ID":            "spiffe://example.org" + servicePath,
		"ROUTES":                 "/chain=/chain",
	}
	maps.Copy(all, values)
	return func(key string) (string, bool) { v, set := all[key]; return v, set }
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// roots is the trust bundle, as a client of the gateway has it.
func (w *world) roots() *x509.CertPool {
	bundle, err := w.feed.GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("example.org"))
	require.NoError(w.t, err)
	pool := x509.NewCertPool()
	for _, authority := range bundle.X509Authorities() {
		pool.AddCert(authority)
	}
	return pool
}

func (w *world) tls() *tls.Config { return &tls.Config{RootCAs: w.roots(), ServerName: dnsName} }

// client is a client on the internet: it knows a DNS name and the trust bundle.
func (w *world) client() *http.Client {
	transport := &http.Transport{
		TLSClientConfig: w.tls(), ForceAttemptHTTP2: true, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", w.edge)
		},
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

type answered struct {
	*http.Response
	text string
}

func (w *world) do(c *http.Client, method, target, body string, header http.Header) answered {
	w.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(w.t.Context(), method, "https://"+dnsName+target, reader)
	require.NoError(w.t, err)
	r.Header.Set("User-Agent", "client/1")
	r.Header.Set("Accept", "*/*")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(r.Header, header)
	response, err := c.Do(r)
	require.NoError(w.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(w.t, err)
	return answered{response, string(text)}
}

func (w *world) get(target string) answered {
	w.t.Helper()
	return w.do(w.client(), http.MethodGet, target, "", nil)
}

// ready waits until the upstream answers: its name is looked up in the background.
func (w *world) ready() *world {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.get("/chain").StatusCode == http.StatusOK }, 10*time.Second, 10*time.Millisecond)
	return w
}

func (w *world) stats() Stats {
	w.t.Helper()
	var stats Stats
	_, text := w.probe("/stats")
	require.NoError(w.t, json.Unmarshal([]byte(text), &stats))
	return stats
}

func (w *world) probe(path string) (int, string) {
	w.t.Helper()
	response, err := http.Get(w.plain + path)
	require.NoError(w.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(w.t, err)
	return response.StatusCode, string(body)
}

func TestRequestsReachTheUpstreamWithTheGatewaysIdentity(t *testing.T) {
	w := start(t, options{}).ready()
	response := w.get("/chain?page=2")
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "HTTP/2.0", response.Proto)
	require.Equal(t, uint16(tls.VersionTLS13), response.TLS.Version)
	require.JSONEq(t, `{"chain":[]}`, response.text)
	require.Equal(t, "application/json", response.Header.Get("Content-Type"))
	requests := w.upstream.seen()
	last := requests[len(requests)-1]
	require.Equal(t, w.ca.ID("/gateway/api"), last.caller)
	require.Equal(t, "/chain?page=2", last.target)

	response = w.do(w.client(), http.MethodPost, "/api/users/a%20b?x=y", `{"name":"somebody"}`, nil)
	require.Equal(t, http.StatusOK, response.StatusCode)
	requests = w.upstream.seen()
	last = requests[len(requests)-1]
	require.Equal(t, http.MethodPost, last.method)
	require.Equal(t, "/v1/users/a%20b?x=y", last.target)
	require.JSONEq(t, `{"name":"somebody"}`, last.body)
}

func TestWhatHasNoRouteDoesNotReachTheUpstream(t *testing.T) {
	w := start(t, options{})
	for _, target := range []string{"/", "/other", "/chain/", "/chainlink", "/api", "/stats", "/metrics", "/healthz"} {
		response := w.get(target)
		require.Equal(t, http.StatusNotFound, response.StatusCode, target)
		require.JSONEq(t, `{"error":"there is nothing here","request_id":"`+response.Header.Get("X-Request-Id")+`"}`, response.text)
	}
	require.Empty(t, w.upstream.seen())
	require.Equal(t, uint64(8), w.stats().Requests.Unrouted)
}

func TestAttacksDoNotReachTheUpstream(t *testing.T) {
	w := start(t, options{})
	response := w.get("/chain?id=1%27%20OR%20%271%27=%271")
	require.Equal(t, http.StatusForbidden, response.StatusCode)
	id := response.Header.Get("X-Request-Id")
	require.Len(t, id, 32)
	require.JSONEq(t, `{"error":"the request was refused","request_id":"`+id+`"}`, response.text)
	require.Contains(t, w.log.String(), `"msg":"request blocked","request_id":"`+id+`","client":"127.0.0.1"`)
	response = w.do(w.client(), http.MethodPost, "/chain", `{"note":"<script>alert(1)</script>"}`, nil)
	require.Equal(t, http.StatusForbidden, response.StatusCode)
	response = w.do(w.client(), http.MethodPost, "/chain", `{"note":"`+strings.Repeat("a", 200<<10)+`"}`, nil)
	require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
	require.Empty(t, w.upstream.seen())
	requests := w.stats().Requests
	require.Equal(t, uint64(2), requests.Blocked)
	require.Equal(t, uint64(1), requests.Classes["sqli"])
	require.Equal(t, uint64(1), requests.Rejected)
	require.Zero(t, requests.Allowed)
}

func TestEveryAnswerIsProtected(t *testing.T) {
	w := start(t, options{answer: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
		w.Header().Set("Strict-Transport-Security", "max-age=0")
		w.Header().Set("X-Request-Id", "upstream")
		w.Header().Set("Server", "secret/1")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("Set-Cookie", "a=b")
		w.Header()["Content-Type"] = nil
		fmt.Fprint(w, "<html>")
	}}).ready()
	for _, target := range []string{"/chain", "/other", "/chain?id=1%27%20OR%20%271%27=%271"} {
		header := w.get(target).Header
		require.Equal(t, "max-age=63072000; includeSubDomains", header.Get("Strict-Transport-Security"), target)
		require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"), target)
		require.Equal(t, "DENY", header.Get("X-Frame-Options"), target)
		require.NotEmpty(t, header.Get("Content-Security-Policy"), target)
		require.Regexp(t, "^[0-9a-f]{32}$", header.Get("X-Request-Id"), target)
		require.Empty(t, header.Get("Server"), target)
		require.Empty(t, header.Get("Keep-Alive"), target)
	}
	header := w.get("/chain").Header
	require.Equal(t, "default-src 'self'", header.Get("Content-Security-Policy"), "a page brings its own")
	require.Equal(t, "a=b", header.Get("Set-Cookie"))
	require.Empty(t, header.Get("Content-Type"), "nothing is guessed")
}

func TestOnlyTheGatewayTellsWhoTheClientIs(t *testing.T) {
	w := start(t, options{}).ready()
	lies := http.Header{}
	for _, name := range []string{
		"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Client-Cert", "X-Forwarded-User", "Forwarded", "Via", "X-Real-Ip",
		"True-Client-Ip", "X-Client-Cert", "X-Spiffe-Id", "X-Ssl-Client-Cert", "Ssl-Client-Verify", "X-Remote-User", "X-Request-Id",
		"X-Original-Url", "X-Rewrite-Url", "X_forwarded_for", "Keep-Alive", "Proxy-Authorization", "X-Hop",
	} {
		lies[name] = []string{"lie"}
	}
	lies["Connection"] = []string{"X-Hop"}
	lies["Authorization"], lies["Cookie"], lies["X-Custom"] = []string{"Bearer abc"}, []string{"session=1"}, []string{"kept"}
	one := w.client()
	one.Transport.(*http.Transport).ForceAttemptHTTP2 = false // HTTP/2 knows no connection headers
	one.Transport.(*http.Transport).TLSClientConfig.NextProtos = []string{"http/1.1"}
	response := w.do(one, http.MethodGet, "/chain", "", lies)
	require.Equal(t, http.StatusOK, response.StatusCode, response.text)
	require.Equal(t, "HTTP/1.1", response.Proto)

	requests := w.upstream.seen()
	header := requests[len(requests)-1].header
	require.Equal(t, http.Header{
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {dnsName},
		"X-Request-Id": {response.Header.Get("X-Request-Id")}, "Authorization": {"Bearer abc"}, "Cookie": {"session=1"}, "X-Custom": {"kept"},
		"User-Agent": {"client/1"}, "Accept": {"*/*"},
	}, header)
}

func TestTheUpstreamMustHaveItsIdentity(t *testing.T) {
	for _, c := range []struct {
		name string
		o    options
	}{
		{"another service answers", options{impostor: "/workload/user-service"}},
		{"the upstream accepts nobody", options{nobody: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := start(t, c.o)
			var response answered
			require.Eventually(t, func() bool {
				response = w.get("/chain")
				return w.stats().Calls.Denied > 0
			}, 10*time.Second, 10*time.Millisecond)
			require.Equal(t, http.StatusBadGateway, response.StatusCode)
			requireNothingTold(t, w, response)
			require.Empty(t, w.upstream.seen())
		})
	}
}

// requireNothingTold: an error tells neither addresses nor names nor identities of what is behind the gateway.
func requireNothingTold(t *testing.T, w *world, response answered) {
	t.Helper()
	var refusal struct {
		Error     string `json:"error"`
		RequestID string `json:"request_id"`
	}
	decoder := json.NewDecoder(strings.NewReader(response.text))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&refusal), response.text)
	require.Contains(t, []string{"the service is not available", "the service did not answer in time"}, refusal.Error)
	require.Equal(t, response.Header.Get("X-Request-Id"), refusal.RequestID)
	require.Contains(t, w.log.String(), refusal.RequestID, "the log tells what was wrong")
}

func TestTheUpstreamIsDown(t *testing.T) {
	w := start(t, options{down: true})
	response := w.get("/chain")
	require.Equal(t, http.StatusBadGateway, response.StatusCode)
	requireNothingTold(t, w, response)
	require.NotZero(t, w.stats().Requests.Failed)
	require.NotEmpty(t, w.stats().LastError)
}

func TestTheUpstreamIsSilent(t *testing.T) {
	w := start(t, options{answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }})
	response := w.get("/chain")
	require.Equal(t, http.StatusGatewayTimeout, response.StatusCode)
	requireNothingTold(t, w, response)
}

func TestTheUpstreamsErrorsStayInside(t *testing.T) {
	w := start(t, options{answer: func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "panic at /src/secret.go:12, 10.0.0.7", http.StatusInternalServerError)
	}})
	response := w.get("/chain")
	require.Equal(t, http.StatusBadGateway, response.StatusCode)
	requireNothingTold(t, w, response)
	require.NotContains(t, response.text, "secret")
	require.LessOrEqual(t, len(w.upstream.seen()), 3, "one request of a client causes a bounded number of attempts")
}

func TestTheSVIDIsTheEdgeCertificate(t *testing.T) {
	w := start(t, options{}).ready()
	response := w.get("/chain")
	first := response.TLS.PeerCertificates[0]
	require.Equal(t, []string{dnsName}, first.DNSNames)
	require.Equal(t, "spiffe://example.org/gateway/api", first.URIs[0].String())
	stats := w.stats()
	require.Equal(t, Edge{Source: "svid", DNSNames: []string{dnsName}, NotAfter: stats.NotAfter}, stats.Edge)

	other := w.tls()
	other.ServerName = "other.example.org"
	_, err := tls.Dial("tcp", w.edge, other)
	var hostname x509.HostnameError
	require.ErrorAs(t, err, &hostname, "the certificate is good for its DNS names only")

	// A connection that is open while the SVID changes goes on, and ends after an answer.
	keeping := w.client()
	w.do(keeping, http.MethodGet, "/chain", "", nil)
	w.feed.Rotate()
	require.Eventually(t, func() bool { return w.stats().Rotations == 1 }, 5*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		newest := w.do(keeping, http.MethodGet, "/chain", "", nil).TLS.PeerCertificates[0]
		return newest.SerialNumber.Cmp(first.SerialNumber) != 0
	}, 5*time.Second, 10*time.Millisecond, "without a restart")
}

func TestTLSVersions(t *testing.T) {
	w := start(t, options{})
	for version, works := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		config := w.tls()
		config.MinVersion, config.MaxVersion = version, version
		conn, err := tls.Dial("tcp", w.edge, config)
		if !works {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, version, conn.ConnectionState().Version)
		require.NoError(t, conn.Close())
	}
	weak := w.tls()
	weak.MaxVersion, weak.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	_, err := tls.Dial("tcp", w.edge, weak)
	require.Error(t, err, "no cipher without authentication")
}

func TestReadiness(t *testing.T) {
	w := start(t, options{lifetime: time.Second})
	status, text := w.probe("/readyz")
	require.Equal(t, http.StatusOK, status, text)
	require.Eventually(t, func() bool { status, _ := w.probe("/readyz"); return status == http.StatusServiceUnavailable }, 5*time.Second, 10*time.Millisecond)
	_, text = w.probe("/readyz")
	require.Contains(t, text, "the SVID expired at")
	status, _ = w.probe("/healthz")
	require.Equal(t, http.StatusOK, status)
	w.feed.Rotate()
	require.Eventually(t, func() bool { status, _ := w.probe("/readyz"); return status == http.StatusOK }, 5*time.Second, time.Millisecond)
}

func TestNothingIsServedWithoutAnIdentity(t *testing.T) {
	config, err := ParseConfig(variables(nil))
	require.NoError(t, err)
	g, err := New(config, addresses{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	_, err = g.edge.certificate()
	require.ErrorIs(t, err, identity.ErrNone)
	answer := &recorded{header: http.Header{}}
	g.plain().ServeHTTP(answer, mustRequest(t, "/readyz"))
	require.Equal(t, http.StatusServiceUnavailable, answer.status)
	require.Contains(t, answer.String(), "no SVID yet")
}

type recorded struct {
	bytes.Buffer
	header http.Header
	status int
}

func (r *recorded) Header() http.Header { return r.header }
func (r *recorded) WriteHeader(s int)   { r.status = s }

func mustRequest(t *testing.T, path string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	require.NoError(t, err)
	return r
}

func TestRateLimit(t *testing.T) {
	w := start(t, options{config: func(c *Config) { c.Rate, c.Burst = 0.001, 3 }})
	c := w.client()
	for i := range 5 {
		response := w.do(c, http.MethodGet, "/other", "", nil)
		if i < 3 {
			require.Equal(t, http.StatusNotFound, response.StatusCode)
			continue
		}
		require.Equal(t, http.StatusTooManyRequests, response.StatusCode)
		require.Equal(t, "1", response.Header.Get("Retry-After"))
	}
	require.Equal(t, uint64(2), w.stats().Requests.Limited)
	require.Equal(t, uint64(3), w.stats().Requests.Allowed)
}

// TestClientsOfATrustedProxy: each is bounded for itself, and the upstream is told who it is.
func TestClientsOfATrustedProxy(t *testing.T) {
	w := start(t, options{config: func(c *Config) {
		c.Rate, c.Burst, c.ConnectionsPerClient = 0.001, 2, 2
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}})
	c := w.client()
	from := func(address string) int {
		return w.do(c, http.MethodGet, "/chain", "", http.Header{"X-Forwarded-For": {"203.0.113.9, " + address}}).StatusCode
	}
	tries := 0
	require.Eventually(t, func() bool {
		tries++
		return from(fmt.Sprintf("2001:db8:%x::1", tries)) == http.StatusOK
	}, 10*time.Second, 10*time.Millisecond)
	for range 2 {
		require.Equal(t, http.StatusOK, from("198.51.100.1"))
	}
	require.Equal(t, http.StatusTooManyRequests, from("198.51.100.1"))
	require.Equal(t, http.StatusOK, from("198.51.100.2"), "another client has a rate of its own")
	requests := w.upstream.seen()
	require.Equal(t, []string{"198.51.100.2"}, requests[len(requests)-1].header["X-Forwarded-For"])

	for range 5 {
		conn, err := tls.Dial("tcp", w.edge, w.tls())
		require.NoError(t, err, "the proxy's connections are many clients'")
		t.Cleanup(func() { _ = conn.Close() })
	}
}

// TestOthersCannotSayWhoTheyAre: the header of a client that is no proxy changes nothing.
func TestOthersCannotSayWhoTheyAre(t *testing.T) {
	w := start(t, options{config: func(c *Config) {
		c.Rate, c.Burst = 0.001, 1
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	}})
	c := w.client()
	for i, want := range []int{http.StatusNotFound, http.StatusTooManyRequests} {
		header := http.Header{"X-Forwarded-For": {fmt.Sprintf("198.51.100.%d", i)}}
		require.Equal(t, want, w.do(c, http.MethodGet, "/other", "", header).StatusCode)
	}
}

func TestHealthAtTheEdge(t *testing.T) {
	w := start(t, options{lifetime: time.Second, config: func(c *Config) { c.HealthPath, c.Rate, c.Burst = "/healthz", 0.001, 1 }})
	for range 3 {
		response := w.get("/healthz")
		require.Equal(t, http.StatusOK, response.StatusCode, "whatever the rate")
		require.Equal(t, "ok\n", response.text)
	}
	require.Equal(t, http.StatusNotFound, w.do(w.client(), http.MethodPost, "/healthz", "", nil).StatusCode, "as any other path")
	require.Eventually(t, func() bool { status, _ := w.probe("/readyz"); return status == http.StatusServiceUnavailable }, 5*time.Second, 10*time.Millisecond)
	c := w.client()
	c.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true // the SVID has expired
	response := w.do(c, http.MethodGet, "/healthz", "", nil)
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.NotContains(t, response.text, "SVID", "strangers are not told why")
	require.Empty(t, w.upstream.seen())
}

// TestDrainBehindABalancer: the balancer is told not to send more, and what it sends until it knows is served.
func TestDrainBehindABalancer(t *testing.T) {
	w := start(t, options{config: func(c *Config) { c.HealthPath, c.DrainDelay = "/healthz", time.Second }})
	require.Equal(t, http.StatusOK, w.get("/healthz").StatusCode)
	w.stop()
	require.Eventually(t, func() bool { return w.get("/healthz").StatusCode == http.StatusServiceUnavailable }, time.Second, time.Millisecond)
	status, _ := w.probe("/readyz")
	require.Equal(t, http.StatusOK, status, "the node still brings it requests")
	require.Equal(t, http.StatusNotFound, w.get("/other").StatusCode)
	<-w.done
}

func TestRequestsInFlight(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	w := start(t, options{
		config: func(c *Config) { c.InFlight, c.InFlightPerClient, c.AttemptTimeout = 2, 2, 2*time.Second },
		answer: func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-release },
	})
	c := w.client()
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() { w.do(c, http.MethodGet, "/chain", "", nil) })
		<-entered
	}
	require.Equal(t, http.StatusServiceUnavailable, w.do(c, http.MethodGet, "/chain", "", nil).StatusCode)
	require.Equal(t, uint64(1), w.stats().Requests.Overloaded)
	close(release)
	running.Wait()
	require.Equal(t, http.StatusOK, w.do(c, http.MethodGet, "/chain", "", nil).StatusCode, "there is room again")
}

func TestConnections(t *testing.T) {
	w := start(t, options{config: func(c *Config) { c.ConnectionsPerClient = 2 }})
	open := func() net.Conn {
		conn, err := tls.Dial("tcp", w.edge, w.tls())
		if err != nil {
			return nil
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	first, second := open(), open()
	require.NotNil(t, first)
	require.NotNil(t, second)
	require.Nil(t, open(), "the third is closed")
	require.Equal(t, uint64(1), w.stats().Requests.TurnedAway)
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return open() != nil }, 5*time.Second, 10*time.Millisecond)
}

// raw sends bytes over TLS, HTTP/1.1, and returns everything that comes back until the server closes.
func (w *world) raw(text string) string {
	w.t.Helper()
	config := w.tls()
	config.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", w.edge, config)
	require.NoError(w.t, err)
	defer conn.Close()
	require.NoError(w.t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, text)
	require.NoError(w.t, err)
	back, _ := io.ReadAll(conn)
	return string(back)
}

func TestSlowClientsAreCutOff(t *testing.T) {
	w := start(t, options{config: func(c *Config) { c.HeaderTimeout, c.ReadTimeout = 300*time.Millisecond, 600*time.Millisecond }})
	begin := time.Now()
	require.Empty(t, w.raw("GET /chain HTTP/1.1\r\nHost: "+dnsName+"\r\nX-Slow: "), "a head that does not end")
	require.Contains(t, w.raw("POST /chain HTTP/1.1\r\nHost: "+dnsName+"\r\nUser-Agent: x\r\nAccept: */*\r\n"+
		"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"), "HTTP/1.1 400", "a body that does not end")
	plain, err := net.Dial("tcp", w.edge)
	require.NoError(t, err)
	defer plain.Close()
	require.NoError(t, plain.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.ReadAll(plain)
	require.NoError(t, err, "a handshake that does not begin")
	require.Less(t, time.Since(begin), 8*time.Second)
	require.Empty(t, w.upstream.seen())
}

func TestHeadsAreBounded(t *testing.T) {
	w := start(t, options{})
	require.Contains(t, w.raw("GET /chain HTTP/1.1\r\nHost: "+dnsName+"\r\nX-Long: "+strings.Repeat("a", 32<<10)+"\r\n\r\n"), "HTTP/1.1 431")
	require.Empty(t, w.upstream.seen())
}

// TestNothingIsSmuggled: no bytes of one request are taken for another, here or behind.
func TestNothingIsSmuggled(t *testing.T) {
	head := "Host: " + dnsName + "\r\nUser-Agent: x\r\nAccept: */*\r\nConnection: close\r\n"
	hidden := "GET /api/admin HTTP/1.1\r\nHost: " + dnsName + "\r\nUser-Agent: x\r\nAccept: */*\r\nConnection: close\r\n\r\n"
	form := "Content-Type: application/x-www-form-urlencoded\r\n"
	chunked := func(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }
	for _, c := range []struct {
		name, request string
	}{
		{"two lengths", "POST /chain HTTP/1.1\r\n" + head + form + "Content-Length: 0\r\nContent-Length: " + fmt.Sprint(len(hidden)) + "\r\n\r\n" + hidden},
		{"a length and chunks: the length is shorter", "POST /chain HTTP/1.1\r\n" + head + form + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked("a=b") + hidden},
		{"a length and chunks: the chunks end first", "POST /chain HTTP/1.1\r\n" + head + form + "Content-Length: 300\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden},
		{"an unknown encoding", "POST /chain HTTP/1.1\r\n" + head + form + "Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n" + hidden},
		{"two encodings", "POST /chain HTTP/1.1\r\n" + head + form + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hidden},
		{"a space before the colon", "POST /chain HTTP/1.1\r\n" + head + form + "Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n" + hidden},
		{"a folded header", "POST /chain HTTP/1.1\r\n" + head + form + "Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + hidden},
		{"a signed length", "POST /chain HTTP/1.1\r\n" + head + form + "Content-Length: +0\r\n\r\n" + hidden},
		{"a length for GET", "GET /chain HTTP/1.1\r\n" + head + "Content-Length: " + fmt.Sprint(len(hidden)) + "\r\n\r\n" + hidden},
		{"a line end in a header", "GET /chain HTTP/1.1\r\n" + head + "X-A: b\rX-C: d\r\n\r\n" + hidden},
		{"a null byte", "GET /chain HTTP/1.1\r\n" + head + "X-A: b\x00c\r\n\r\n" + hidden},
		{"no host", "GET /chain HTTP/1.1\r\nUser-Agent: x\r\n\r\n" + hidden},
		{"two hosts", "GET /chain HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + hidden},
		{"HTTP/0.9", "GET /chain\r\n\r\n" + hidden},
		{"a tunnel", "CONNECT order:8443 HTTP/1.1\r\n" + head + "\r\n" + hidden},
		{"an upgrade", "GET /chain HTTP/1.1\r\nHost: " + dnsName + "\r\nUser-Agent: x\r\nAccept: */*\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n" + hidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := start(t, options{}).ready()
			before := len(w.upstream.seen())
			back := w.raw(c.request)
			require.NotEmpty(t, back)
			require.LessOrEqual(t, strings.Count(back, "HTTP/1.1 "), 1, "one answer: %s", back)
			for _, r := range w.upstream.seen()[before:] {
				require.Equal(t, "/chain", r.target)
				require.Empty(t, r.header["Upgrade"])
				require.LessOrEqual(t, len(r.header["Content-Length"]), 1)
				require.Empty(t, r.header["Transfer-Encoding"])
			}
		})
	}
}

// TestPathsAreUnderstoodOnce: an escaped or odd path has no route, whatever the upstream would make of it.
func TestPathsAreUnderstoodOnce(t *testing.T) {
	w := start(t, options{config: func(c *Config) { c.Firewall.Threshold = 1000 }}) // the firewall refuses most of them before
	for _, path := range []string{
		"/api/../chain", "/api/%2e%2e/chain", "/api/./x", "//chain", "/api//x", "/api/a%2fb", "/api/a%2Fb", "/api/a%5cb", "/api/%00", "/api/%0d%0ax", "/chain%2f", "*",
	} {
		back := w.raw("GET " + path + " HTTP/1.1\r\nHost: " + dnsName + "\r\nUser-Agent: x\r\nAccept: */*\r\nConnection: close\r\n\r\n")
		require.Regexp(t, "^HTTP/1.1 (404|400)", back, path)
	}
	require.Empty(t, w.upstream.seen())
}

func TestDrain(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{})
	var first sync.Once
	w := start(t, options{
		config: func(c *Config) {
			c.DrainDelay, c.AttemptTimeout, c.CallTimeout = 300*time.Millisecond, 10*time.Second, 10*time.Second
		},
		answer: func(w http.ResponseWriter, _ *http.Request) {
			first.Do(func() { close(entered); <-release })
			fmt.Fprint(w, "{}")
		},
	})
	slow := make(chan answered)
	go func() { slow <- w.get("/chain") }()
	<-entered
	w.stop()
	require.Eventually(t, func() bool { status, _ := w.probe("/readyz"); return status == http.StatusServiceUnavailable }, time.Second, time.Millisecond)
	response := w.get("/other")
	require.Equal(t, http.StatusNotFound, response.StatusCode, "it goes on serving")
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", w.edge)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, 5*time.Second, 10*time.Millisecond, "after the delay it takes no more connections")
	select {
	case <-w.done:
		t.Fatal("it stopped with a request in progress")
	default:
	}
	close(release)
	require.Equal(t, http.StatusOK, (<-slow).StatusCode, "what was in progress is finished")
	<-w.done
}

// TestStatsAreReadableAsAServices: the status command reads both alike.
func TestStatsAreReadableAsAServices(t *testing.T) {
	w := start(t, options{}).ready()
	_, text := w.probe("/stats")
	var service chain.Stats
	require.NoError(t, json.Unmarshal([]byte(text), &service))
	stats := w.stats()
	require.Equal(t, "api-gateway", service.Service)
	require.Equal(t, "spiffe://example.org/gateway/api", service.SPIFFEID)
	require.NotEmpty(t, service.Serial)
	require.WithinDuration(t, time.Now().Add(time.Hour), *service.NotAfter, 10*time.Second)
	require.InDelta(t, 3660, service.TTL, 2)
	require.InDelta(t, 3600, service.Remaining, 10)
	require.Equal(t, stats.Calls.OK, service.Calls.OK)
	require.NotZero(t, service.Calls.OK)
	require.NotZero(t, service.Latency.P50)
	require.False(t, service.Started.IsZero())
}

func TestMetrics(t *testing.T) {
	w := start(t, options{}).ready()
	w.get("/chain?id=1%27%20OR%20%271%27=%271")
	stats := w.stats()
	_, text := w.probe("/metrics")
	for _, line := range []string{
		fmt.Sprintf(`gateway_requests_total{service="api-gateway",result="allowed"} %d`, stats.Requests.Allowed),
		`gateway_requests_total{service="api-gateway",result="blocked"} 1`,
		`gateway_requests_total{service="api-gateway",result="limited"} 0`,
		`gateway_attacks_total{service="api-gateway",class="sqli"} 1`,
		fmt.Sprintf(`workload_calls_total{service="api-gateway",result="ok"} %d`, stats.Calls.OK),
		fmt.Sprintf(`workload_call_duration_seconds_count{service="api-gateway"} %d`, stats.Calls.OK),
		`workload_svid_rotations_total{service="api-gateway"} 0`,
	} {
		require.Contains(t, text, line+"\n")
	}
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		require.Regexp(t, `^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+\{service="api-gateway"[^}]*\} \S+)$`, scanner.Text())
	}
}
