package mtls

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"ephemos.dev/deploy/cmd/internal/identity"
)

const (
	handshakeTimeout = 3 * time.Second
	// lingerTimeout is how long a refused connection is read after its alert was sent. Closing a socket that holds unread
	// bytes sends a reset, which may overtake the alert: the caller would see a broken connection instead of a refusal.
	lingerTimeout = 500 * time.Millisecond
	headerTimeout = 5 * time.Second
	idleTimeout   = 60 * time.Second
)

// Server serves HTTP over mutual TLS to the allowed callers only.
//
// It refuses a peer whose SVID is expired, at the handshake and again for every request on a connection that outlived
// its peer's SVID. After a change of its own identity, and while draining, it asks callers to reconnect by ending each
// answer with Connection: close, so that no connection outlives the material it was made with by more than one request.
type Server struct {
	http     *http.Server
	tls      *tls.Config
	holder   *identity.Holder
	log      *slog.Logger
	draining atomic.Bool
	refused  atomic.Uint64
}

// NewServer returns a server that passes the requests of the allowed callers to handler. No allowed caller means that
// every peer is refused.
func NewServer(holder *identity.Holder, allowed []spiffeid.ID, handler http.Handler, log *slog.Logger) *Server {
	config := tlsconfig.MTLSServerConfig(holder, holder, authorize(allowed))
	config.MinVersion = tls.VersionTLS13
	// A resumed session would skip the verification of the peer's certificate.
	config.SessionTicketsDisabled = true
	config.NextProtos = []string{"http/1.1"}

	s := &Server{tls: config, holder: holder, log: log}
	s.http = &http.Server{
		Handler:           s.guard(handler),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, generationKey{}, holder.Generation())
		},
	}
	return s
}

// Refused counts the connections whose peer was refused, for its SPIFFE ID or for an invalid certificate.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// Serve accepts connections from listener until Shutdown. It returns nil after Shutdown.
func (s *Server) Serve(listener net.Listener) error {
	err := s.http.Serve(s.handshaking(listener))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Drain makes the server end every answer with Connection: close. It keeps accepting connections: a caller learns only
// later, through DNS, that this endpoint is going away.
func (s *Server) Drain() { s.draining.Store(true) }

// Shutdown stops accepting, closes idle connections and waits for requests in progress until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

type generationKey struct{}

// guard refuses requests of peers whose SVID has expired since the handshake and retires old connections.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		generation, _ := r.Context().Value(generationKey{}).(uint64)
		if s.draining.Load() || generation != s.holder.Generation() {
			w.Header().Set("Connection", "close")
		}
		if identity.Expired(r.TLS.PeerCertificates[0], time.Now()) {
			w.Header().Set("Connection", "close")
			http.Error(w, expiredPeer, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// expiredPeer is the body of the answer to a caller that must reconnect with a newer SVID.
const expiredPeer = "the SVID of this connection has expired"

// Caller returns the SPIFFE ID of the authenticated caller of a request that came through a Server.
func Caller(r *http.Request) (spiffeid.ID, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return spiffeid.ID{}, errors.New("mtls: the request has no peer certificate")
	}
	return x509svid.IDFromCert(r.TLS.PeerCertificates[0])
}

// handshakingListener hands out only connections whose TLS handshake has succeeded. Handshakes run concurrently, so a
// slow peer does not keep others waiting.
type handshakingListener struct {
	net.Listener
	server *Server
	ready  chan net.Conn
	failed chan error
	closed chan struct{}
	once   sync.Once
}

func (s *Server) handshaking(listener net.Listener) net.Listener {
	l := &handshakingListener{
		Listener: listener, server: s,
		ready: make(chan net.Conn), failed: make(chan error, 1), closed: make(chan struct{}),
	}
	go l.accept()
	return l
}

func (l *handshakingListener) accept() {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			l.failed <- err
			return
		}
		go l.handshake(conn)
	}
}

func (l *handshakingListener) handshake(raw net.Conn) {
	conn := tls.Server(raw, l.server.tls)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		l.server.reject(raw, err)
		return
	}
	select {
	case l.ready <- conn:
	case <-l.closed:
		_ = conn.Close()
	}
}

// reject logs why a peer was not served and closes its connection so that the alert reaches it.
func (s *Server) reject(raw net.Conn, err error) {
	defer raw.Close()
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		s.refused.Add(1)
		s.log.Warn("peer refused by SPIFFE ID", "peer", refused.Peer.String(), "remote", raw.RemoteAddr().String(),
			"reason", err.Error())
	case errors.Is(err, io.EOF), isTimeout(err):
		// Port checks and callers that gave up: nothing was refused.
		s.log.Debug("handshake not finished", "remote", raw.RemoteAddr().String(), "reason", err.Error())
		return
	default:
		s.refused.Add(1)
		s.log.Warn("peer refused", "remote", raw.RemoteAddr().String(), "reason", err.Error())
	}
	if half, ok := raw.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		_ = raw.SetReadDeadline(time.Now().Add(lingerTimeout))
		_, _ = io.Copy(io.Discard, raw)
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (l *handshakingListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.ready:
		return conn, nil
	case err := <-l.failed:
		l.failed <- err
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *handshakingListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
