package mtls_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/cmd/internal/identity"
	"ephemos.dev/deploy/cmd/internal/identity/identitytest"
	"ephemos.dev/deploy/cmd/internal/mtls"
)

// echo serves mutual TLS and sends every line back behind its name.
func echo(t *testing.T, name string, l net.Listener, feed identity.Feed, allowed spiffeid.ID) {
	t.Helper()
	config := tlsconfig.MTLSServerConfig(feed, feed, tlsconfig.AuthorizeID(allowed))
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				conn := tls.Server(raw, config)
				defer conn.Close()
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					fmt.Fprintf(conn, "%s %s\n", name, lines.Text())
				}
			}()
		}
	}()
}

func dialer(t *testing.T, feed identity.Feed, serverID spiffeid.ID, port string, a addresses) *mtls.Dialer {
	t.Helper()
	d := mtls.NewDialer(hold(t, feed), mtls.DialerConfig{
		Host: "server", Port: port, ServerID: serverID, Timeout: 5 * time.Second,
		Cooldown: time.Minute, Refresh: 10 * time.Millisecond, Resolver: a,
	}, quiet)
	go d.Run(t.Context())
	return d
}

func connect(t *testing.T, d *mtls.Dialer) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := d.Dial(ctx)
	if conn != nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

// say sends a line and returns the answer.
func say(t *testing.T, conn net.Conn, line string) (string, error) {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	if _, err := fmt.Fprintln(conn, line); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

func TestDialerConnectsBothSides(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, cache := ca.ID("/user"), ca.ID("/cache")
	port := freePort(t)
	echo(t, "cache", listen(t, "127.0.0.1", port), ca.Feed(cache, time.Hour), user)
	conn, err := connect(t, dialer(t, ca.Feed(user, time.Hour), cache, port, loopback(1)))
	require.NoError(t, err)
	answer, err := say(t, conn, "hello")
	require.NoError(t, err)
	require.Equal(t, "cache hello\n", answer)
	require.NoError(t, conn.Close())
	require.NoError(t, conn.Close(), "again")
}

func TestDialerRefusesAnotherServer(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user := ca.ID("/user")
	port := freePort(t)
	echo(t, "queue", listen(t, "127.0.0.1", port), ca.Feed(ca.ID("/queue"), time.Hour), user)
	_, err := connect(t, dialer(t, ca.Feed(user, time.Hour), ca.ID("/cache"), port, loopback(1)))
	var refused *mtls.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, ca.ID("/queue"), refused.Peer)
}

func TestDialerLearnsThatItIsRefused(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	cache := ca.ID("/cache")
	port := freePort(t)
	echo(t, "cache", listen(t, "127.0.0.1", port), ca.Feed(cache, time.Hour), ca.ID("/user"))
	conn, err := connect(t, dialer(t, ca.Feed(ca.ID("/payment"), time.Hour), cache, port, loopback(1)))
	require.NoError(t, err, "in TLS 1.3 the server has the last word after the client is done")
	_, err = io.ReadAll(conn)
	var denied *mtls.DeniedError
	require.ErrorAs(t, err, &denied)
	require.Equal(t, "127.0.0.1:"+port, denied.Endpoint)
}

func TestDialerGoesToAnotherEndpoint(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, cache := ca.ID("/user"), ca.ID("/cache")
	port := freePort(t)
	// 127.0.0.1 and 127.0.0.3 refuse connections.
	echo(t, "second", listen(t, "127.0.0.2", port), ca.Feed(cache, time.Hour), user)
	d := dialer(t, ca.Feed(user, time.Hour), cache, port, loopback(1, 2, 3))
	for range 3 {
		conn, err := connect(t, d)
		require.NoError(t, err)
		answer, err := say(t, conn, "hello")
		require.NoError(t, err)
		require.Equal(t, "second hello\n", answer)
	}
}

func TestDialerReportsEveryEndpoint(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	_, err := connect(t, dialer(t, ca.Feed(ca.ID("/user"), time.Hour), ca.ID("/cache"), freePort(t), loopback(1, 2)))
	require.ErrorContains(t, err, "127.0.0.1")
	require.ErrorContains(t, err, "127.0.0.2")
}

func TestDialerWithoutAnIdentity(t *testing.T) {
	d := mtls.NewDialer(identity.NewHolder(quiet), mtls.DialerConfig{
		Host: "server", Port: "1", Timeout: time.Second, Refresh: 10 * time.Millisecond, Resolver: loopback(1),
	}, quiet)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := d.Dial(ctx)
	require.ErrorIs(t, err, mtls.ErrNoEndpoints)
	go d.Run(t.Context())
	_, err = connect(t, d)
	require.ErrorIs(t, err, identity.ErrNone)
}

// TestDialedConnectionEndsWithAnSVID holds for both sides' SVIDs.
func TestDialedConnectionEndsWithAnSVID(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, cache := ca.ID("/user"), ca.ID("/cache")
	for _, c := range []struct {
		name        string
		own, server time.Duration
	}{{"own", time.Second, time.Hour}, {"server's", time.Hour, time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			port := freePort(t)
			echo(t, "cache", listen(t, "127.0.0.1", port), ca.Feed(cache, c.server), user)
			conn, err := connect(t, dialer(t, ca.Feed(user, c.own), cache, port, loopback(1)))
			require.NoError(t, err)
			_, err = say(t, conn, "hello")
			require.NoError(t, err)
			begin := time.Now()
			require.NoError(t, conn.SetDeadline(begin.Add(10*time.Second)))
			_, err = io.ReadAll(conn)
			require.ErrorIs(t, err, net.ErrClosed)
			require.Less(t, time.Since(begin), 3*time.Second, "the second, rounded up, that the SVID had left")
		})
	}
}
