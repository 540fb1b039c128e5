package chain

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/cmd/internal/identity/identitytest"
	"ephemos.dev/deploy/test/freeport"
)

// resolver gives a name the addresses of the replicas that are up.
type resolver struct {
	addresses atomic.Pointer[map[string][]netip.Addr]
}

func (r *resolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return (*r.addresses.Load())[host], nil
}

// running is one replica.
type running struct {
	service *Service
	feed    *identitytest.Feed
	plain   string        // its plaintext address
	stop    func()        // like SIGTERM
	done    chan struct{} // closed when it has returned
}

// world is a chain whose replicas share this process.
type world struct {
	t        *testing.T
	ca       *identitytest.CA
	resolver resolver
	ports    map[string]string
	// cache and queue are nil in a world without a Data zone.
	cache, queue *tunnelled
	// cacheTimeout is Config's.
	cacheTimeout time.Duration
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, ca: identitytest.NewCA(t, "example.org"), ports: map[string]string{}}
	names := map[string][]netip.Addr{}
	for _, name := range []string{"payment", "user", "order"} {
		w.ports[name] = strconv.Itoa(freeport.Take(t))
		names[name] = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	}
	w.resolver.addresses.Store(&names)
	return w
}

func (w *world) id(name string) spiffeid.ID { return w.ca.ID("/workload/" + name + "-service") }

// start runs the replica of a service at a loopback address.
func (w *world) start(place Place, host string, lifetime time.Duration, rate float64) *running {
	w.t.Helper()
	config := Config{
		CallRate: rate, AttemptTimeout: 600 * time.Millisecond, CallTimeout: 5 * time.Second,
		Cooldown: 2 * time.Second, Refresh: 20 * time.Millisecond,
		// net/http waits five seconds for a connection that has not carried a request yet.
		DrainDelay: 100 * time.Millisecond, ShutdownTimeout: 10 * time.Second,
	}
	next := map[string]string{"payment": "user", "user": "order"}[place.Name]
	if next != "" {
		config.NextHost, config.NextPort, config.NextID = next, w.ports[next], w.id(next)
	}
	if caller := map[string]string{"user": "payment", "order": "user"}[place.Name]; caller != "" {
		config.Callers = []spiffeid.ID{w.id(caller)}
	}
	if place.Keeps && w.cache != nil {
		config.Cache, config.CacheTimeout = w.cache.Server, w.cacheTimeout
	}
	if place.Announces && w.queue != nil {
		config.Queue = w.queue.Server
	}
	api, err := net.Listen("tcp", net.JoinHostPort(host, w.ports[place.Name]))
	require.NoError(w.t, err)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w.t, err)

	ctx, stop := context.WithCancel(context.Background())
	r := &running{
		service: New(place, config, &w.resolver, slog.New(slog.DiscardHandler)),
		feed:    w.ca.Feed(w.id(place.Name), lifetime),
		plain:   "http://" + plain.Addr().String(), stop: stop, done: make(chan struct{}),
	}
	following, end := context.WithCancel(context.Background())
	go r.service.Holder().Follow(following, r.feed)
	go func() {
		defer close(r.done)
		defer end()
		if err := r.service.Run(ctx, api, plain); err != nil {
			w.t.Errorf("%s: %v", place.Name, err)
		}
	}()
	w.t.Cleanup(func() { stop(); <-r.done })
	return r
}

func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	response, err := http.Get(r.plain + path)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func (r *running) stats(t *testing.T) Stats {
	t.Helper()
	_, body := r.get(t, "/stats")
	var stats Stats
	require.NoError(t, json.Unmarshal([]byte(body), &stats))
	return stats
}

func TestCallWalksTheChain(t *testing.T) {
	w := newWorld(t)
	w.start(Order, "127.0.0.1", time.Hour, 0)
	w.start(User, "127.0.0.1", time.Hour, 0)
	payment := w.start(Payment, "127.0.0.1", time.Hour, 0)
	<-payment.service.Holder().Held()

	status, body := payment.get(t, "/call")
	require.Equal(t, http.StatusOK, status, body)
	var answer Answer
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	require.Len(t, answer.Chain, 3)
	for i, want := range []struct{ service, peer string }{{"payment", ""}, {"user", "payment"}, {"order", "user"}} {
		link := answer.Chain[i]
		require.Equal(t, want.service, link.Service)
		require.Equal(t, w.id(want.service).String(), link.SPIFFEID)
		if want.peer == "" {
			require.Empty(t, link.Peer)
		} else {
			require.Equal(t, w.id(want.peer).String(), link.Peer)
		}
		require.WithinDuration(t, time.Now().Add(time.Hour), link.NotAfter, 2*time.Minute)
	}
}

// TestRotationUnderLoad renews each SVID several times within its lifetime of one second while calls run.
func TestRotationUnderLoad(t *testing.T) {
	w := newWorld(t)
	const lifetime, period, rotations = time.Second, 250 * time.Millisecond, 12
	replicas := []*running{
		w.start(Order, "127.0.0.1", lifetime, 0), w.start(Order, "127.0.0.2", lifetime, 0),
		w.start(User, "127.0.0.1", lifetime, 0), w.start(User, "127.0.0.2", lifetime, 0),
	}
	payment := w.start(Payment, "127.0.0.1", lifetime, 50)
	replicas = append(replicas, payment)

	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for range rotations {
		<-ticker.C
		for _, r := range replicas {
			r.feed.Rotate()
		}
	}
	require.Eventually(t, func() bool {
		for _, r := range replicas {
			if r.stats(t).Rotations < rotations {
				return false
			}
		}
		return true
	}, 2*time.Second, 10*time.Millisecond, "every rotation has been taken up")
	stats := payment.stats(t)
	require.Zero(t, stats.Calls.Failed, stats.LastError)
	require.Zero(t, stats.Calls.Denied, stats.LastError)
	require.Greater(t, stats.Calls.OK, uint64(50))
	require.Equal(t, w.id("payment").String(), stats.SPIFFEID)
}

func TestStoppingReplicasFailsNoCall(t *testing.T) {
	w := newWorld(t)
	orders := []*running{w.start(Order, "127.0.0.1", time.Hour, 0), w.start(Order, "127.0.0.2", time.Hour, 0)}
	users := []*running{w.start(User, "127.0.0.1", time.Hour, 0), w.start(User, "127.0.0.2", time.Hour, 0)}
	payment := w.start(Payment, "127.0.0.1", time.Hour, 50)
	done := func(n uint64) {
		t.Helper()
		start := payment.stats(t).Calls.OK
		require.Eventually(t, func() bool { return payment.stats(t).Calls.OK >= start+n }, 10*time.Second, 10*time.Millisecond)
	}
	done(20)
	// The names keep listing the stopped replicas, as DNS does for a while.
	for _, replica := range []*running{orders[0], users[1]} {
		replica.stop()
		<-replica.done
		done(50)
	}
	stats := payment.stats(t)
	require.Zero(t, stats.Calls.Failed, stats.LastError)
	require.Positive(t, stats.Calls.Retried, "the loss was noticed")
}

func TestCallerStopsBeforeItsCallsAreCutOff(t *testing.T) {
	w := newWorld(t)
	w.start(Order, "127.0.0.1", time.Hour, 0)
	user := w.start(User, "127.0.0.1", time.Hour, 0)
	payment := w.start(Payment, "127.0.0.1", time.Hour, 100)
	require.Eventually(t, func() bool { return payment.stats(t).Calls.OK > 20 }, 10*time.Second, 10*time.Millisecond)
	payment.stop()
	<-payment.done
	made := payment.service.made.Snapshot()
	require.Zero(t, made.Failed+made.Denied, made.LastError)
	require.Equal(t, made.OK+1, user.stats(t).Served.OK, "every call that was served was counted as made, but for the first")
}

func TestCountingBeginsWhenTheChainIsWhole(t *testing.T) {
	w := newWorld(t)
	payment := w.start(Payment, "127.0.0.1", time.Hour, 100)
	w.start(User, "127.0.0.1", time.Hour, 0)
	order := w.start(Order, "127.0.0.1", time.Hour, 0)
	require.Eventually(t, func() bool { return payment.stats(t).Calls.OK > 5 }, 10*time.Second, 10*time.Millisecond)
	stats := payment.stats(t)
	require.Zero(t, stats.Calls.Failed, "calls to services that had not started are not counted: %s", stats.LastError)

	order.stop()
	<-order.done
	require.Eventually(t, func() bool { return payment.stats(t).Calls.Failed > 0 }, 10*time.Second, 10*time.Millisecond,
		"from then on every failure is")
}

func TestOrderRefusesPayment(t *testing.T) {
	w := newWorld(t)
	order := w.start(Order, "127.0.0.1", time.Hour, 0)
	feed := w.ca.Feed(w.id("payment"), time.Hour)
	rogue := New(Payment, Config{
		NextHost: "order", NextPort: w.ports["order"], NextID: w.id("order"),
		AttemptTimeout: time.Second, CallTimeout: 5 * time.Second, Refresh: 10 * time.Millisecond,
	}, &w.resolver, slog.New(slog.DiscardHandler))
	go rogue.Holder().Follow(t.Context(), feed)
	<-rogue.Holder().Held()
	go rogue.client.Run(t.Context())

	_, err := rogue.answer(t.Context(), "")
	require.Error(t, err)
	require.Equal(t, http.StatusForbidden, statusFor(err))
	require.Equal(t, uint64(1), rogue.made.Snapshot().Denied)
	require.Zero(t, rogue.made.Snapshot().Failed)
	// The caller learns of the refusal a moment before it is counted.
	require.Eventually(t, func() bool { return order.stats(t).Served.Refused == 1 }, 5*time.Second, time.Millisecond)
	require.Zero(t, order.stats(t).Served.OK)
}

func TestRefusalAtTheEndIsReportedAtTheHeadWithoutRetry(t *testing.T) {
	w := newWorld(t)
	// An order service that accepts somebody else.
	strict := New(Order, Config{Callers: []spiffeid.ID{w.id("somebody")}}, &w.resolver, slog.New(slog.DiscardHandler))
	go strict.Holder().Follow(t.Context(), w.ca.Feed(w.id("order"), time.Hour))
	<-strict.Holder().Held()
	api, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", w.ports["order"]))
	require.NoError(t, err)
	go func() { _ = strict.server.Serve(api) }()
	t.Cleanup(func() { _ = strict.server.Shutdown(context.Background()) })

	user := w.start(User, "127.0.0.1", time.Hour, 0)
	payment := w.start(Payment, "127.0.0.1", time.Hour, 0)
	<-user.service.Holder().Held()
	<-payment.service.Holder().Held()
	// 127.0.0.2 refuses connections: it is tried first or not at all, and must not hide the refusal.
	status, body := payment.get(t, "/call")
	require.Equal(t, http.StatusForbidden, status, body)
	require.Equal(t, uint64(1), payment.stats(t).Calls.Denied)
	require.Equal(t, uint64(1), user.stats(t).Calls.Denied)
	require.Contains(t, payment.stats(t).LastError, "refused by")
}

func TestProbes(t *testing.T) {
	w := newWorld(t)
	order := w.start(Order, "127.0.0.1", time.Hour, 0)
	<-order.service.Holder().Held()
	status, _ := order.get(t, "/healthz")
	require.Equal(t, http.StatusOK, status)
	status, _ = order.get(t, "/readyz")
	require.Equal(t, http.StatusOK, status)
	status, _ = order.get(t, "/call")
	require.Equal(t, http.StatusNotFound, status, "only the head of the chain has it")

	order.service.leaving.Store(true)
	status, body := order.get(t, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status, body)

	blank := New(Order, Config{}, &w.resolver, slog.New(slog.DiscardHandler))
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/stats": 200, "/metrics": 200} {
		recorder := httptest.NewRecorder()
		blank.plain().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		require.Equal(t, want, recorder.Code, "%s without an SVID", path)
	}
}

func TestStatsAndMetricsAgree(t *testing.T) {
	w := newWorld(t)
	order := w.start(Order, "127.0.0.1", time.Hour, 0)
	user := w.start(User, "127.0.0.1", time.Hour, 0)
	payment := w.start(Payment, "127.0.0.1", time.Hour, 0)
	<-user.service.Holder().Held()
	<-order.service.Holder().Held()
	<-payment.service.Holder().Held()
	for range 3 {
		status, body := payment.get(t, "/call")
		require.Equal(t, http.StatusOK, status, body)
	}
	stats := payment.stats(t)
	require.Equal(t, uint64(3), stats.Calls.OK)
	require.InDelta(t, 3600+60, stats.TTL, 2, "the lifetime, which the test authority starts a minute early")
	require.InDelta(t, 3600, stats.Remaining, 10)
	require.Equal(t, uint64(3), order.stats(t).Served.OK)
	require.Positive(t, order.stats(t).Latency.P50, "the end of the chain reports what it served")

	_, metrics := payment.get(t, "/metrics")
	for _, line := range []string{
		`workload_calls_total{service="payment",result="ok"} 3`,
		`workload_calls_total{service="payment",result="failed"} 0`,
		`workload_calls_total{service="payment",result="denied"} 0`,
		`workload_call_duration_seconds_bucket{service="payment",le="+Inf"} 3`,
		`workload_call_duration_seconds_count{service="payment"} 3`,
		`workload_svid_not_after_timestamp_seconds{service="payment"} ` +
			strconv.FormatFloat(float64(stats.NotAfter.Unix()), 'g', -1, 64),
	} {
		require.Contains(t, metrics, line)
	}
}
