package mtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"

	"ephemos.dev/deploy/cmd/internal/identity"
)

// DialerConfig says whom a Dialer connects to.
type DialerConfig struct {
	// Host and Port name the server. Host should resolve to the address of every endpoint (a headless Service).
	Host, Port string
	// ServerID is the only SPIFFE ID a server may have.
	ServerID spiffeid.ID
	// Timeout bounds the connection to one endpoint and the handshake with it.
	Timeout time.Duration
	// Cooldown and Refresh are those of ClientConfig.
	Cooldown, Refresh time.Duration
	// Resolver looks Host up.
	Resolver Resolver
}

// Dialer opens connections to one server over mutual TLS, for clients of protocols other than HTTP.
//
// A connection ends at the latest when one of the two SVIDs that it was made with does. Reconnecting earlier, with every
// change of the identity, is up to the protocol's client, which knows when it is between two requests.
type Dialer struct {
	config    DialerConfig
	holder    *identity.Holder
	endpoints *endpoints
}

// NewDialer returns a dialer that uses holder's identity. Run must be running for connections to be made.
func NewDialer(holder *identity.Holder, config DialerConfig, log *slog.Logger) *Dialer {
	return &Dialer{
		config: config, holder: holder,
		endpoints: newEndpoints(config.Host, config.Port, config.Resolver, config.Refresh, config.Cooldown, log),
	}
}

// Run keeps the endpoints' addresses up to date until ctx ends.
func (d *Dialer) Run(ctx context.Context) { d.endpoints.run(ctx) }

// Dial returns a connection to the first endpoint that accepts one, those last that failed lately. While the name has not
// been resolved it waits until ctx ends, and returns ErrNoEndpoints (wrapped) then. It returns *RefusedError (wrapped) when the
// server is somebody else.
//
// A server that refuses this side's SPIFFE ID says so after Dial has returned, as TLS 1.3 has it: the connection's first
// Read returns *DeniedError.
func (d *Dialer) Dial(ctx context.Context) (net.Conn, error) {
	endpoints := d.endpoints.candidates()
	for ; len(endpoints) == 0; endpoints = d.endpoints.candidates() {
		select {
		case <-ctx.Done():
			return nil, errors.Join(ErrNoEndpoints, ctx.Err())
		case <-time.After(roundPause / 10):
		}
	}
	var errs []error
	for _, endpoint := range endpoints {
		conn, err := d.dial(ctx, endpoint)
		if err == nil {
			d.endpoints.answered(endpoint)
			return conn, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", endpoint, err))
		if ctx.Err() != nil {
			break
		}
		d.endpoints.failed(endpoint)
	}
	return nil, errors.Join(errs...)
}

func (d *Dialer) dial(ctx context.Context, endpoint string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	own, err := d.holder.GetX509SVID()
	if err != nil {
		return nil, err
	}
	raw, err := (&net.Dialer{KeepAlive: clientIdle}).DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return nil, err
	}
	// The SVID whose end is watched is the one that is shown, also when a newer one arrives meanwhile.
	config := tlsconfig.MTLSClientConfig(own, d.holder, authorize([]spiffeid.ID{d.config.ServerID}))
	config.MinVersion = tls.VersionTLS13
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	end := earlier(own.Certificates[0], conn.ConnectionState().PeerCertificates[0])
	c := &dialed{Conn: conn, endpoint: endpoint}
	// The socket, not the TLS connection: closing that one waits for a peer that may be gone.
	c.end = time.AfterFunc(time.Until(end), func() { _ = raw.Close() })
	return c, nil
}

// earlier is when the first of the certificates ends.
func earlier(a, b *x509.Certificate) time.Time {
	if a.NotAfter.Before(b.NotAfter) {
		return a.NotAfter
	}
	return b.NotAfter
}

// dialed is a connection of a Dialer. It does not show its socket, so nobody takes an unread TLS record for an answer.
type dialed struct {
	net.Conn
	endpoint string
	end      *time.Timer
	close    sync.Once
}

func (c *dialed) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && isRefusal(err) {
		err = &DeniedError{Endpoint: c.endpoint, Err: err}
	}
	return n, err
}

// Close ends the connection. Closing it again does nothing.
func (c *dialed) Close() (err error) {
	c.close.Do(func() {
		c.end.Stop()
		err = c.Conn.Close()
	})
	return err
}
