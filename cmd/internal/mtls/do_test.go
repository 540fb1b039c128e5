package mtls_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/cmd/internal/identity/identitytest"
	"ephemos.dev/deploy/cmd/internal/mtls"
)

func TestDoSendsAllOfTheRequest(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, order := ca.ID("/user"), ca.ID("/order")
	port := freePort(t)
	serve(t, listen(t, "127.0.0.1", port), ca.Feed(order, time.Hour), []spiffeid.ID{user},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Seen", r.Header.Get("X-Sent"))
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprint(w, r.Method, " ", r.RequestURI, " ", string(body))
		}))
	c := client(t, ca.Feed(user, time.Hour), order, port, loopback(1), 5*time.Second)
	header := http.Header{"X-Sent": {"yes"}}
	response, err := c.Do(t.Context(), mtls.Request{Method: http.MethodPost, Target: "/a%20b?c=d", Header: header, Body: []byte("text")})
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, response.Status)
	require.Equal(t, "yes", response.Header.Get("X-Seen"))
	require.Equal(t, "POST /a%20b?c=d text", string(response.Body))
	require.Equal(t, order, response.Server)
	require.Equal(t, http.Header{"X-Sent": {"yes"}}, header)
}

// TestOnlyReadsAreRepeated: a request that may have an effect reaches at most one endpoint.
func TestOnlyReadsAreRepeated(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, order := ca.ID("/user"), ca.ID("/order")
	// Returning would be an answer.
	silence := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); panic(http.ErrAbortHandler) }
	for _, c := range []struct {
		name   string
		method string
		// fail is what both endpoints do with a request.
		fail    http.HandlerFunc
		reached int32
	}{
		{"POST, an answer of 500", http.MethodPost, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, 1},
		{"POST, the connection ends", http.MethodPost, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 1},
		{"POST, silence", http.MethodPost, silence, 1},
		{"PUT, an answer of 500", http.MethodPut, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, 1},
		{"GET, an answer of 500", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, 2},
		{"HEAD, the connection ends", http.MethodHead, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 2},
		{"GET, silence", http.MethodGet, silence, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := freePort(t)
			var reached atomic.Int32
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				reached.Add(1)
				c.fail(w, r)
			})
			for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
				serve(t, listen(t, host, port), ca.Feed(order, time.Hour), []spiffeid.ID{user}, handler)
			}
			cl := client(t, ca.Feed(user, time.Hour), order, port, loopback(1, 2), 2*time.Second)
			_, err := cl.Do(t.Context(), mtls.Request{Method: c.method, Target: "/", Body: []byte("x"), MaxAttempts: 2})
			var failure *mtls.CallError
			require.ErrorAs(t, err, &failure)
			require.Equal(t, int(c.reached), failure.Attempts)
			require.Equal(t, c.reached, reached.Load())
		})
	}
}

// TestWhatWasNotSentIsSentElsewhere: an endpoint without a listener costs nobody a request.
func TestWhatWasNotSentIsSentElsewhere(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, order := ca.ID("/user"), ca.ID("/order")
	for name, lose := range map[string]func(t *testing.T, port string){
		"nothing listens": func(*testing.T, string) {},
		"it closes before the handshake": func(t *testing.T, port string) {
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
		},
	} {
		t.Run(name, func(t *testing.T) {
			port := freePort(t)
			var reached atomic.Int32
			serve(t, listen(t, "127.0.0.1", port), ca.Feed(order, time.Hour), []spiffeid.ID{user},
				http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
			lose(t, port)
			c := client(t, ca.Feed(user, time.Hour), order, port, loopback(1, 2), 5*time.Second)
			for range 10 {
				_, err := c.Do(t.Context(), mtls.Request{Method: http.MethodPost, Target: "/", Body: []byte("x")})
				require.NoError(t, err)
			}
			require.Equal(t, int32(10), reached.Load())
		})
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	port := freePort(t)
	var accepted atomic.Int32
	l := &counting{Listener: listen(t, "127.0.0.1", port), accepted: &accepted}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	c := client(t, ca.Feed(ca.ID("/user"), time.Hour), ca.ID("/order"), port, loopback(1), time.Minute)
	_, err := c.Do(t.Context(), mtls.Request{Method: http.MethodGet, Target: "/", MaxAttempts: 3})
	var failure *mtls.CallError
	require.ErrorAs(t, err, &failure)
	require.Equal(t, 3, failure.Attempts)
	require.Equal(t, int32(3), accepted.Load())
}

func TestLongAnswersAreNotCutOff(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, order := ca.ID("/user"), ca.ID("/order")
	port := freePort(t)
	length := 1 << 20
	serve(t, listen(t, "127.0.0.1", port), ca.Feed(order, time.Hour), []spiffeid.ID{user},
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", length)) }))
	c := client(t, ca.Feed(user, time.Hour), order, port, loopback(1), 5*time.Second)
	response, err := c.Get(t.Context(), "/")
	require.NoError(t, err)
	require.Len(t, response.Body, length)
	length++
	_, err = c.Do(t.Context(), mtls.Request{Method: http.MethodGet, Target: "/", MaxAttempts: 1})
	require.ErrorContains(t, err, "longer than 1048576 bytes")
}

// TestTheServersOwnRefusalIsAnAnswer: 401 means that the connection is too old only when the server's guard says so.
func TestTheServersOwnRefusalIsAnAnswer(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	user, order := ca.ID("/user"), ca.ID("/order")
	port := freePort(t)
	serve(t, listen(t, "127.0.0.1", port), ca.Feed(order, time.Hour), []spiffeid.ID{user},
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "log in first", http.StatusUnauthorized) }))
	c := client(t, ca.Feed(user, time.Hour), order, port, loopback(1), 5*time.Second)
	response, err := c.Get(t.Context(), "/")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, response.Status)
	require.Equal(t, 1, response.Attempts)
}
