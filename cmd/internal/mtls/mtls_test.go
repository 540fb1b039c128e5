package mtls_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/cmd/internal/identity"
	"ephemos.dev/deploy/cmd/internal/identity/identitytest"
	"ephemos.dev/deploy/cmd/internal/mtls"
	"ephemos.dev/deploy/test/freeport"
)

const attemptTimeout = 300 * time.Millisecond

var quiet = slog.New(slog.DiscardHandler)

// addresses resolves every name to the same loopback addresses.
type addresses []netip.Addr

func (a addresses) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) { return a, nil }

func loopback(last ...byte) addresses {
	var out addresses
	for _, b := range last {
		out = append(out, netip.AddrFrom4([4]byte{127, 0, 0, b}))
	}
	return out
}

func hold(t *testing.T, feed identity.Feed) *identity.Holder {
	t.Helper()
	holder := identity.NewHolder(quiet)
	return follow(t, holder, feed)
}

func follow(t *testing.T, holder *identity.Holder, feed identity.Feed) *identity.Holder {
	t.Helper()
	go holder.Follow(t.Context(), feed)
	<-holder.Held()
	return holder
}

// freePort returns a port that is free on all loopback addresses.
func freePort(t *testing.T) string { return strconv.Itoa(freeport.Take(t)) }

func listen(t *testing.T, host, port string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func serve(t *testing.T, l net.Listener, feed identity.Feed, allowed []spiffeid.ID, handler http.Handler) *mtls.Server {
	t.Helper()
	server := mtls.NewServer(hold(t, feed), allowed, handler, quiet)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	})
	return server
}

// client returns a client with feed's identity whose first look-up has been made.
func client(t *testing.T, feed identity.Feed, serverID spiffeid.ID, port string, a addresses, callTimeout time.Duration) *mtls.Client {
	t.Helper()
	holder := identity.NewHolder(quiet)
	c := mtls.NewClient(holder, mtls.ClientConfig{
		Host: "server", Port: port, ServerID: serverID, AttemptTimeout: attemptTimeout, CallTimeout: callTimeout,
		Cooldown: time.Minute, Refresh: 10 * time.Millisecond, Resolver: a,
	}, quiet)
	follow(t, holder, feed)
	go c.Run(t.Context())
	return c
}

func name(n string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, n) })
}

func TestBothSidesKnowEachOther(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, order := ca.ID("/user"), ca.ID("/order")
	port := freePort(t)
	serve(t, listen(t, "127.0.0.1", port), ca.Feed(order, time.Hour), []spiffeid.ID{user},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, err := mtls.Caller(r)
			fmt.Fprint(w, id, err)
		}))
	c := client(t, ca.Feed(user, time.Hour), order, port, loopback(1), 5*time.Second)
	response, err := c.Get(t.Context(), "/")
	require.NoError(t, err)
	require.Equal(t, order, response.Server)
	require.Equal(t, "spiffe://example.org/user <nil>", string(response.Body))
	require.Equal(t, 1, response.Attempts)
}

func TestCallerWithAnotherIDIsDeniedAndNotRetried(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	order := ca.ID("/order")
	for _, c := range []struct {
		name    string
		caller  spiffeid.ID
		allowed []spiffeid.ID
	}{
		{"another service", ca.ID("/payment"), []spiffeid.ID{ca.ID("/user")}},
		{"a path below the allowed one", ca.ID("/user/x"), []spiffeid.ID{ca.ID("/user")}},
		{"nobody is allowed", ca.ID("/user"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := freePort(t)
			var reached atomic.Int32
			server := serve(t, listen(t, "127.0.0.1", port), ca.Feed(order, time.Hour), c.allowed,
				http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
			cl := client(t, ca.Feed(c.caller, time.Hour), order, port, loopback(1), 5*time.Second)
			const times = 30 // a refusal must never look like a broken connection
			for range times {
				_, err := cl.Get(t.Context(), "/")
				var denied *mtls.DeniedError
				require.ErrorAs(t, err, &denied)
			}
			// The caller learns of a refusal a moment before it is counted.
			require.Eventually(t, func() bool { return server.Refused() >= times }, 5*time.Second, time.Millisecond)
			require.Equal(t, uint64(times), server.Refused(), "one attempt a call")
			require.Zero(t, reached.Load(), "no request reaches the handler")
		})
	}
}

func TestServerWithAnotherIDIsRefused(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	port := freePort(t)
	user := ca.ID("/user")
	serve(t, listen(t, "127.0.0.1", port), ca.Feed(ca.ID("/impostor"), time.Hour), []spiffeid.ID{user}, name("x"))
	c := client(t, ca.Feed(user, time.Hour), ca.ID("/order"), port, loopback(1), 5*time.Second)
	_, err := c.Get(t.Context(), "/")
	var refused *mtls.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, ca.ID("/impostor"), refused.Peer)
}

func TestCallerOfAnotherAuthorityIsRefused(t *testing.T) {
	ca, other := identitytest.NewCA(t, "example.org"), identitytest.NewCA(t, "example.org")
	port := freePort(t)
	user, order := ca.ID("/user"), ca.ID("/order")
	server := serve(t, listen(t, "127.0.0.1", port), ca.Feed(order, time.Hour), []spiffeid.ID{user}, name("x"))
	// The impostor trusts the right authority but has its SVID from another one.
	c := client(t, impostor{ca.Feed(user, time.Hour), other.Feed(user, time.Hour)}, order, port, loopback(1), 5*time.Second)
	_, err := c.Get(t.Context(), "/")
	require.Error(t, err)
	require.Eventually(t, func() bool { return server.Refused() > 0 }, 5*time.Second, time.Millisecond)
}

// impostor presents an SVID of another authority.
type impostor struct {
	*identitytest.Feed
	svid *identitytest.Feed
}

func (i impostor) GetX509SVID() (*x509svid.SVID, error) { return i.svid.GetX509SVID() }

func TestExpiredCallerIsRefused(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, order := ca.ID("/user"), ca.ID("/order")
	port := freePort(t)
	var reached atomic.Int32
	server := serve(t, listen(t, "127.0.0.1", port), ca.Feed(order, time.Hour), []spiffeid.ID{user},
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	feed := ca.Feed(user, time.Second)
	c := client(t, feed, order, port, loopback(1), 700*time.Millisecond)

	_, err := c.Get(t.Context(), "/")
	require.NoError(t, err)
	require.Equal(t, int32(1), reached.Load())

	held, err := feed.GetX509SVID()
	require.NoError(t, err)
	require.Eventually(t, func() bool { return time.Now().After(held.Certificates[0].NotAfter) }, 5*time.Second, 10*time.Millisecond)

	// The connection of the first call is still open: its peer's SVID has expired since. New ones fail in the handshake.
	_, err = c.Get(t.Context(), "/")
	var failure *mtls.CallError
	require.ErrorAs(t, err, &failure)
	require.Equal(t, int32(1), reached.Load(), "no request of an expired peer reaches the handler")
	require.Eventually(t, func() bool { return server.Refused() > 0 }, 5*time.Second, time.Millisecond, "nor a new connection")

	feed.Rotate()
	require.Eventually(t, func() bool { _, err := c.Get(t.Context(), "/"); return err == nil }, 5*time.Second, 10*time.Millisecond)
}

func TestCallsSurviveTheLossOfAnEndpoint(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, order := ca.ID("/user"), ca.ID("/order")
	for _, c := range []struct {
		name string
		// lose makes 127.0.0.2 unusable.
		lose func(t *testing.T, port string)
		slow bool // it is noticed only by silence
	}{
		{"nothing listens", func(*testing.T, string) {}, false},
		{"silent after accepting", func(t *testing.T, port string) {
			l := listen(t, "127.0.0.2", port)
			go func() {
				for {
					if _, err := l.Accept(); err != nil {
						return
					}
				}
			}()
		}, true},
		{"silent after the handshake", func(t *testing.T, port string) {
			serve(t, listen(t, "127.0.0.2", port), ca.Feed(order, time.Hour), []spiffeid.ID{user},
				http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		}, true},
		{"closing every connection", func(t *testing.T, port string) {
			l := listen(t, "127.0.0.2", port)
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_ = conn.Close()
				}
			}()
		}, false},
		{"answering 502", func(t *testing.T, port string) {
			serve(t, listen(t, "127.0.0.2", port), ca.Feed(order, time.Hour), []spiffeid.ID{user},
				http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := freePort(t)
			serve(t, listen(t, "127.0.0.1", port), ca.Feed(order, time.Hour), []spiffeid.ID{user}, name("one"))
			c.lose(t, port)
			cl := client(t, ca.Feed(user, time.Hour), order, port, loopback(1, 2), 5*time.Second)

			retried := 0
			for range 10 {
				response, err := cl.Get(t.Context(), "/")
				require.NoError(t, err)
				require.Equal(t, "one", string(response.Body))
				retried += response.Attempts - 1
			}
			require.Equal(t, 1, retried, "the lost endpoint is asked once, then it is in cooldown")
		})
	}
}

func TestSlowAnswerIsStillUsed(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, order := ca.ID("/user"), ca.ID("/order")
	port := freePort(t)
	release := make(chan struct{})
	var asked atomic.Int32
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 2 {
			close(release) // the second attempt has begun: now the first may answer
			<-r.Context().Done()
			return
		}
		<-release
		fmt.Fprint(w, "late")
	})
	serve(t, listen(t, "127.0.0.1", port), ca.Feed(order, time.Hour), []spiffeid.ID{user}, slow)
	c := client(t, ca.Feed(user, time.Hour), order, port, loopback(1), 5*time.Second)
	response, err := c.Get(t.Context(), "/")
	require.NoError(t, err)
	require.Equal(t, "late", string(response.Body))
	require.Equal(t, 2, response.Attempts)
}

func TestCallEndsAtItsDeadline(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	c := client(t, ca.Feed(ca.ID("/user"), time.Hour), ca.ID("/order"), freePort(t), loopback(1), 500*time.Millisecond)
	begin := time.Now()
	_, err := c.Get(t.Context(), "/")
	var failure *mtls.CallError
	require.ErrorAs(t, err, &failure)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Greater(t, failure.Attempts, 1)
	require.Less(t, time.Since(begin), 3*time.Second)
}

func TestUnresolvedName(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	c := client(t, ca.Feed(ca.ID("/user"), time.Hour), ca.ID("/order"), "1", nil, 200*time.Millisecond)
	_, err := c.Get(t.Context(), "/")
	require.ErrorIs(t, err, mtls.ErrNoEndpoints)
}

func TestConnectionsAreRenewedWithTheServersIdentity(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, order := ca.ID("/user"), ca.ID("/order")
	port := freePort(t)
	var connections atomic.Int32
	l := &counting{Listener: listen(t, "127.0.0.1", port), accepted: &connections}
	feed := ca.Feed(order, time.Hour)
	holder := identity.NewHolder(quiet)
	updated := make(chan struct{}, 10)
	holder.Subscribe(func() { updated <- struct{}{} })
	server := mtls.NewServer(follow(t, holder, feed), []spiffeid.ID{user}, name("x"), quiet)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	<-updated
	c := client(t, ca.Feed(user, time.Hour), order, port, loopback(1), 5*time.Second)
	get := func() { _, err := c.Get(t.Context(), "/"); require.NoError(t, err) }

	get()
	get()
	require.Equal(t, int32(1), connections.Load(), "connections are kept")
	feed.Rotate()
	<-updated
	get() // the last answer on the old connection
	get()
	require.Equal(t, int32(2), connections.Load())

	server.Drain()
	get()
	get()
	require.Equal(t, int32(3), connections.Load(), "while draining, each answer ends its connection")
}

type counting struct {
	net.Listener
	accepted *atomic.Int32
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted.Add(1)
	}
	return conn, err
}

func TestRefusalNamesTheAllowed(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	err := error(&mtls.RefusedError{Peer: ca.ID("/payment"), Allowed: []spiffeid.ID{ca.ID("/user")}})
	require.EqualError(t, err, "peer spiffe://example.org/payment is refused: authorised is [spiffe://example.org/user]")
	require.EqualError(t, &mtls.RefusedError{Peer: ca.ID("/payment")},
		"peer spiffe://example.org/payment is refused: no caller is authorised")
	require.ErrorIs(t, &mtls.DeniedError{Endpoint: "x", Err: errTest}, errTest)
}

var errTest = errors.New("test")
