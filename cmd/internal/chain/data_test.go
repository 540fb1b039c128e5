package chain

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"ephemos.dev/deploy/cmd/internal/identity"
	"ephemos.dev/deploy/cmd/internal/identity/identitytest"
	"ephemos.dev/deploy/cmd/internal/mtls"
	cachecomponent "ephemos.dev/deploy/components/cache"
	"ephemos.dev/deploy/components/manifest"
	queuecomponent "ephemos.dev/deploy/components/queue"
	"ephemos.dev/deploy/components/tunnel"
	"ephemos.dev/deploy/components/tunnel/tunneltest"
	"ephemos.dev/deploy/test/freeport"
)

// workloadAPI gives one identity to whoever asks, like an agent's socket in a pod.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	ca *identitytest.CA
	id spiffeid.ID

	mu      sync.Mutex
	svid    *x509svid.SVID
	changed chan struct{} // closed with each change
}

// serveAPI returns the API and the address of its socket.
func serveAPI(t *testing.T, ca *identitytest.CA, id spiffeid.ID) (*workloadAPI, string) {
	t.Helper()
	// A socket's path must be short, which that of a test's folder is not.
	dir, err := os.MkdirTemp("", "")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "agent.sock")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	api := &workloadAPI{ca: ca, id: id, changed: make(chan struct{})}
	api.rotate()
	server := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(server, api)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return api, "unix://" + socket
}

func (a *workloadAPI) rotate() {
	svid := a.ca.Issue(a.id, time.Hour)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.svid = svid
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	for {
		a.mu.Lock()
		svid, changed := a.svid, a.changed
		a.mu.Unlock()
		chain, key, err := svid.MarshalRaw()
		if err != nil {
			return err
		}
		bundle, err := a.ca.Feed(a.id, time.Hour).GetX509BundleForTrustDomain(a.id.TrustDomain())
		if err != nil {
			return err
		}
		if err := stream.Send(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{{
			SpiffeId: svid.ID.String(), X509Svid: chain, X509SvidKey: key, Bundle: bundle.X509Authorities()[0].Raw,
		}}}); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-changed:
		}
	}
}

// tunnelled is a real server behind a real tunnel, configured as they are deployed.
type tunnelled struct {
	Server
	id     spiffeid.ID
	status string
	api    *workloadAPI
	run    func() *tunneltest.Process // the server behind
	server *tunneltest.Process
	tunnel *tunneltest.Process
}

// behind starts a tunnel for the callers, and behind it a server that run starts on a port.
func (w *world) behind(name string, callers []spiffeid.ID, run func(port int) *tunneltest.Process) *tunnelled {
	w.t.Helper()
	x := &tunnelled{id: w.ca.ID("/data/" + name)}
	port, target, status := freeport.Take(w.t), freeport.Take(w.t), freeport.Take(w.t)
	x.run = func() *tunneltest.Process { return run(target) }
	x.Server = Server{Host: name, Port: strconv.Itoa(port), ID: x.id}
	x.status = fmt.Sprintf("http://127.0.0.1:%d", status)
	var socket string
	x.api, socket = serveAPI(w.t, w.ca, x.id)
	args := tunnel.Args{Port: port, Target: target, Replicas: 1, Spread: manifest.SpreadPreferred}
	for _, id := range callers {
		args.AllowedCallers = append(args.AllowedCallers, id.String())
	}
	flags := args.Flags()
	for i, flag := range flags {
		switch {
		case strings.HasPrefix(flag, "unix://"):
			flags[i] = socket
		case flag == "http://:"+strconv.Itoa(tunnel.StatusPort):
			flags[i] = x.status
		}
	}
	x.server = x.run()
	x.tunnel = tunneltest.Start(w.t, append(tunneltest.Ghostunnel(w.t), flags...)...)
	x.ready(w.t, http.StatusOK)
	names := map[string][]netip.Addr{name: {netip.MustParseAddr("127.0.0.1")}}
	maps.Copy(names, *w.resolver.addresses.Load())
	w.resolver.addresses.Store(&names)
	return x
}

// ready waits until the readiness probe gets that status.
func (x *tunnelled) ready(t *testing.T, want int) {
	t.Helper()
	require.Eventually(t, func() bool {
		response, err := http.Get(x.status + "/_status")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == want
	}, 20*time.Second, 10*time.Millisecond, "%s is not %d", x.id, want)
}

// file writes a configuration.
func file(t *testing.T, text string, err error) string {
	t.Helper()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "conf")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// patient is a timeout for tests in which no read may fail, however busy the machine is.
const patient = 10 * time.Second

// newDataZone is a chain's world with a cache and a queue.
func newDataZone(t *testing.T, cacheTimeout time.Duration) *world {
	w := newWorld(t)
	w.cacheTimeout = cacheTimeout
	redis, nats := tunneltest.Redis(t), tunneltest.NATS(t)
	w.cache = w.behind("cache", []spiffeid.ID{w.id("user")}, func(port int) *tunneltest.Process {
		config := cachecomponent.Args{}.Config()
		config.Port = port
		text, err := config.Render()
		return tunneltest.Start(t, append(redis, file(t, text, err))...)
	})
	monitor := freeport.Take(t)
	w.queue = w.behind("queue", []spiffeid.ID{w.id("order")}, func(port int) *tunneltest.Process {
		config := queuecomponent.Args{}.Config()
		config.Port, config.MonitorPort = port, monitor
		text, err := config.Render()
		return tunneltest.Start(t, append(nats, "--config", file(t, text, err))...)
	})
	return w
}

// inUse waits until both services are connected to their servers.
func inUse(t *testing.T, user, order *running) {
	t.Helper()
	require.Eventually(t, func() bool { return user.stats(t).Cache.Connected && order.stats(t).Queue.Connected }, 20*time.Second, 10*time.Millisecond)
}

// dialData connects to a server with an identity.
func (w *world) dialData(id spiffeid.ID, to *tunnelled) (net.Conn, error) {
	w.t.Helper()
	holder := identity.NewHolder(slog.New(slog.DiscardHandler))
	go holder.Follow(w.t.Context(), w.ca.Feed(id, time.Hour))
	<-holder.Held()
	dialer := mtls.NewDialer(holder, mtls.DialerConfig{
		Host: to.Host, Port: to.Port, ServerID: to.ID, Timeout: 5 * time.Second, Refresh: 10 * time.Millisecond, Resolver: &w.resolver,
	}, slog.New(slog.DiscardHandler))
	go dialer.Run(w.t.Context())
	conn, err := dialer.Dial(w.t.Context())
	if conn != nil {
		w.t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

// speaks says whether the server behind a connection answers in its own protocol.
func speaks(conn net.Conn) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return "", err
	}
	answer := make([]byte, 5)
	_, err := io.ReadFull(conn, answer)
	return string(answer), err
}

func TestOrdersAreAnnouncedAndAnswersKept(t *testing.T) {
	w := newDataZone(t, patient)
	order := w.start(Order, "127.0.0.1", time.Hour, 0)
	users := []*running{w.start(User, "127.0.0.1", time.Hour, 0), w.start(User, "127.0.0.2", time.Hour, 0)}
	payment := w.start(Payment, "127.0.0.1", time.Hour, 0)
	<-payment.service.Holder().Held()
	inUse(t, users[0], order)
	inUse(t, users[1], order)

	listener, err := nats.Connect("nats://queue:4222", nats.SkipHostLookup(), nats.SetCustomDialer(dialFunc(func() (net.Conn, error) {
		return w.dialData(w.id("order"), w.queue)
	})))
	require.NoError(t, err)
	defer listener.Close()
	orders, err := listener.SubscribeSync(Subject)
	require.NoError(t, err)
	require.NoError(t, listener.Flush())

	kept := func() (total uint64) {
		for _, user := range users {
			total += user.stats(t).Cache.Kept
		}
		return total
	}
	var previous *Link
	for i := range 5 {
		status, body := payment.get(t, "/call")
		require.Equal(t, http.StatusOK, status, body)
		var answer Answer
		require.NoError(t, json.Unmarshal([]byte(body), &answer))
		user, last := answer.Chain[1], answer.Chain[2]

		message, err := orders.NextMsg(10 * time.Second)
		require.NoError(t, err)
		var announced Placed
		require.NoError(t, json.Unmarshal(message.Data, &announced))
		require.Equal(t, Placed{Number: last.Order, Caller: w.id("user").String(), By: w.id("order").String(), At: announced.At}, announced)
		require.NotEmpty(t, announced.Number)

		// Whichever replica answers knows what the other one was told.
		if previous == nil {
			require.Nil(t, user.Kept)
		} else {
			require.NotNil(t, user.Kept)
			require.Equal(t, []Link{*previous}, user.Kept.Chain)
		}
		previous = &last
		require.Eventually(t, func() bool { return kept() == uint64(i+1) }, 10*time.Second, time.Millisecond)
	}
	require.Positive(t, users[0].stats(t).Served.OK*users[1].stats(t).Served.OK, "both replicas have answered")

	published := func() bool { return order.stats(t).Queue.Published == 5 }
	require.Eventually(t, published, 10*time.Second, time.Millisecond)
	_, metrics := order.get(t, "/metrics")
	for _, line := range []string{
		`workload_queue_messages_total{service="order",result="published"} 5`,
		`workload_queue_messages_total{service="order",result="error"} 0`, `workload_queue_connected{service="order"} 1`,
	} {
		require.Contains(t, metrics, line)
	}
	require.NotContains(t, metrics, "workload_cache")
	stats := users[0].stats(t).Cache
	_, metrics = users[0].get(t, "/metrics")
	require.Contains(t, metrics, fmt.Sprintf(`workload_cache_requests_total{service="user",result="hit"} %d`, stats.Hits))
	require.Contains(t, metrics, fmt.Sprintf(`workload_cache_requests_total{service="user",result="miss"} %d`, stats.Misses))
	require.Nil(t, payment.stats(t).Cache)
	require.Nil(t, payment.stats(t).Queue)
}

type dialFunc func() (net.Conn, error)

func (f dialFunc) Dial(string, string) (net.Conn, error) { return f() }

// TestOnlyItsCallerReachesTheDataZone tries every service's identity on both servers, and worse.
func TestOnlyItsCallerReachesTheDataZone(t *testing.T) {
	w := newDataZone(t, patient)
	for _, c := range []struct {
		server  *tunnelled
		allowed string
		answer  string
	}{{w.cache, "user", "+PONG"}, {w.queue, "order", "INFO "}} {
		address := net.JoinHostPort("127.0.0.1", c.server.Port)
		t.Run(c.server.Host, func(t *testing.T) {
			for _, id := range []string{"payment", "user", "order"} {
				conn, err := w.dialData(w.id(id), c.server)
				require.NoError(t, err)
				answer, err := speaks(conn)
				if id == c.allowed {
					require.NoError(t, err)
					require.Equal(t, c.answer, answer)
					continue
				}
				var denied *mtls.DeniedError
				require.ErrorAs(t, err, &denied, "%s got %q", id, answer)
			}

			raw, err := net.Dial("tcp", address)
			require.NoError(t, err)
			defer raw.Close()
			answer, err := speaks(raw)
			require.NotEqual(t, c.answer, answer, "plaintext")
			if err == nil {
				require.Equal(t, byte(0x15), answer[0], "a TLS alert")
			}

			allowed := w.ca.Feed(w.id(c.allowed), time.Hour)
			foreign := identitytest.NewCA(t, "example.org")
			impostor := foreign.Feed(w.id(c.allowed), time.Hour)
			expired := w.ca.Feed(w.id(c.allowed), -time.Second)
			for name, change := range map[string]func(*tls.Config){
				"TLS 1.2":            func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
				"no certificate":     func(c *tls.Config) { c.GetClientCertificate = nil },
				"another authority":  func(c *tls.Config) { c.GetClientCertificate = tlsconfig.GetClientCertificate(impostor) },
				"expired":            func(c *tls.Config) { c.GetClientCertificate = tlsconfig.GetClientCertificate(expired) },
				"as it should be":    func(*tls.Config) {},
				"no session resumed": func(c *tls.Config) { c.ClientSessionCache = tls.NewLRUClientSessionCache(1) },
			} {
				config := tlsconfig.MTLSClientConfig(allowed, allowed, tlsconfig.AuthorizeID(c.server.ID))
				change(config)
				attempt := func() (string, bool, error) {
					raw, err := net.Dial("tcp", address)
					require.NoError(t, err)
					defer raw.Close()
					conn := tls.Client(raw, config)
					answer, err := speaks(conn)
					return answer, conn.ConnectionState().DidResume, err
				}
				answer, _, err := attempt()
				if name == "as it should be" || name == "no session resumed" {
					require.NoError(t, err, name)
					require.Equal(t, c.answer, answer)
					_, resumed, err := attempt()
					require.NoError(t, err)
					require.False(t, resumed, "a resumed session would pass over the look at the certificate")
					continue
				}
				require.Error(t, err, name)
			}
		})
	}
	// Two identities, plaintext, TLS 1.2, no certificate, another authority, expired: each is logged and counted.
	for _, x := range []*tunnelled{w.cache, w.queue} {
		require.Eventually(t, func() bool {
			return strings.Count(x.tunnel.String(), "error on TLS handshake") == 7 &&
				strings.Contains(x.metrics(t), "\nghostunnel_accept_error 7\n")
		}, 10*time.Second, 10*time.Millisecond, x.Host)
	}
}

// metrics are the tunnel's.
func (x *tunnelled) metrics(t *testing.T) string {
	t.Helper()
	response, err := http.Get(x.status + "/_metrics/prometheus")
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(text)
}

// TestTheTunnelEndsAConnectionWithItsPeersSVID takes no part in the end: callers of this repository would end it themselves.
func TestTheTunnelEndsAConnectionWithItsPeersSVID(t *testing.T) {
	w := newDataZone(t, patient)
	feed := w.ca.Feed(w.id("user"), time.Second)
	svid, err := feed.GetX509SVID()
	require.NoError(t, err)
	conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", w.cache.Port), tlsconfig.MTLSClientConfig(feed, feed, tlsconfig.AuthorizeID(w.cache.ID)))
	require.NoError(t, err)
	defer conn.Close()
	answer, err := speaks(conn)
	require.NoError(t, err)
	require.Equal(t, "+PONG", answer)
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	rest, err := io.ReadAll(conn)
	require.Equal(t, "\r\n", string(rest))
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	require.WithinDuration(t, svid.Certificates[0].NotAfter, time.Now(), 5*time.Second)
	require.False(t, time.Now().Before(svid.Certificates[0].NotAfter))
}

// TestRotationLosesNoMessageAndFailsNoRead renews every SVID, of both sides, while calls run.
func TestRotationLosesNoMessageAndFailsNoRead(t *testing.T) {
	w := newDataZone(t, patient)
	order := w.start(Order, "127.0.0.1", time.Hour, 0)
	user := w.start(User, "127.0.0.1", time.Hour, 0)
	inUse(t, user, order)
	payment := w.start(Payment, "127.0.0.1", time.Hour, 100)
	require.Eventually(t, func() bool { return user.stats(t).Cache.Hits > 10 }, 20*time.Second, time.Millisecond)
	misses := user.stats(t).Cache.Misses
	for i := range uint64(8) {
		hits := user.stats(t).Cache.Hits
		require.Eventually(t, func() bool { return user.stats(t).Cache.Hits > hits+10 }, 10*time.Second, time.Millisecond)
		user.feed.Rotate()
		order.feed.Rotate()
		w.cache.api.rotate()
		w.queue.api.rotate()
		require.Eventually(t, func() bool { return user.stats(t).Rotations > i && order.stats(t).Rotations > i }, 10*time.Second, time.Millisecond)
	}
	payment.stop()
	<-payment.done
	require.Eventually(t, func() bool { return order.stats(t).Queue.Waiting == 0 }, 10*time.Second, time.Millisecond)
	stats := order.stats(t)
	require.Eventually(t, func() bool { return order.stats(t).Queue.Published == stats.Served.OK }, 10*time.Second, time.Millisecond)
	require.Zero(t, stats.Queue.Errors+stats.Queue.Dropped, stats.Queue.LastError)
	cache := user.stats(t).Cache
	require.Zero(t, cache.Errors, cache.LastError)
	require.Empty(t, cache.LastError)
	require.LessOrEqual(t, cache.Misses, misses+8, "reads that were on their way when the first answer was kept")
	require.Greater(t, cache.Hits, uint64(80))
	require.Zero(t, payment.service.made.Snapshot().Failed)
}

// TestALostDataZoneFailsNoCallAndSlowsNone takes the servers away while calls run, and then their tunnels.
func TestALostDataZoneFailsNoCallAndSlowsNone(t *testing.T) {
	w := newDataZone(t, 25*time.Millisecond)
	order := w.start(Order, "127.0.0.1", time.Hour, 0)
	user := w.start(User, "127.0.0.1", time.Hour, 0)
	inUse(t, user, order)
	payment := w.start(Payment, "127.0.0.1", time.Hour, 50)
	// mean is the average duration of the next n calls.
	mean := func(n uint64) time.Duration {
		total := func() (uint64, float64) {
			cumulative, sum := payment.service.made.Histogram()
			return cumulative[len(cumulative)-1], sum
		}
		count, sum := total()
		require.Eventually(t, func() bool { now, _ := total(); return now >= count+n }, 20*time.Second, time.Millisecond)
		countNow, sumNow := total()
		return time.Duration((sumNow - sum) / float64(countNow-count) * float64(time.Second))
	}
	mean(50)
	whole := mean(200)

	for _, x := range []*tunnelled{w.cache, w.queue} {
		x.server.Stop()
		x.ready(t, http.StatusServiceUnavailable)
	}
	without := mean(200)
	for _, x := range []*tunnelled{w.cache, w.queue} {
		x.tunnel.Stop()
	}
	alone := mean(200)
	t.Logf("mean duration of a call: %s, without the servers %s, without their tunnels %s", whole, without, alone)
	require.Less(t, without, whole+10*time.Millisecond)
	require.Less(t, alone, whole+10*time.Millisecond)

	cache, queue := user.stats(t).Cache, order.stats(t).Queue
	require.False(t, cache.Connected)
	require.False(t, queue.Connected)
	require.NotEmpty(t, cache.LastError)
	require.NotEmpty(t, queue.LastError)
	require.Positive(t, cache.Skipped)
	require.Positive(t, queue.Waiting)
	made := payment.stats(t).Calls
	require.Zero(t, made.Failed+made.Denied, payment.stats(t).LastError)
	status, _ := user.get(t, "/readyz")
	require.Equal(t, http.StatusOK, status, "the services are ready without")
}

func TestALostDataZoneIsFoundAgain(t *testing.T) {
	w := newDataZone(t, 25*time.Millisecond)
	order := w.start(Order, "127.0.0.1", time.Hour, 0)
	user := w.start(User, "127.0.0.1", time.Hour, 0)
	inUse(t, user, order)
	payment := w.start(Payment, "127.0.0.1", time.Hour, 50)
	require.Eventually(t, func() bool { return user.stats(t).Cache.Hits > 10 }, 10*time.Second, time.Millisecond)
	w.cache.server.Stop()
	w.queue.server.Stop()
	require.Eventually(t, func() bool {
		return !user.stats(t).Cache.Connected && !order.stats(t).Queue.Connected
	}, 10*time.Second, time.Millisecond)
	hits, published := user.stats(t).Cache.Hits, order.stats(t).Queue.Published
	w.cache.server, w.queue.server = w.cache.run(), w.queue.run()
	inUse(t, user, order)
	require.Eventually(t, func() bool {
		return user.stats(t).Cache.Hits > hits+10 && order.stats(t).Queue.Published > published
	}, 10*time.Second, time.Millisecond)
	require.Zero(t, payment.service.made.Snapshot().Failed)
}
