package mtls

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"ephemos.dev/deploy/cmd/internal/identity"
)

const (
	// roundPause is the pause before endpoints that have all failed are tried again.
	roundPause = 100 * time.Millisecond
	// attemptFactor times ClientConfig.AttemptTimeout is when an attempt is given up for good. Between the two, it runs
	// beside its successor: a slow answer is still an answer.
	attemptFactor = 3
	// idlePerEndpoint is how many idle connections are kept to one endpoint.
	idlePerEndpoint = 4
	clientIdle      = 30 * time.Second
	maxBody         = 1 << 20
)

// ErrNoEndpoints is part of a call's error when the server's name has never been resolved.
var ErrNoEndpoints = errors.New("the server's name has not been resolved")

// ClientConfig says whom a Client calls and how long it waits.
type ClientConfig struct {
	// Host and Port name the server. Host should resolve to the address of every endpoint (a headless Service), so that
	// the client can choose another endpoint itself; behind a single virtual address it could not.
	Host, Port string
	// ServerID is the only SPIFFE ID a server may have.
	ServerID spiffeid.ID
	// AttemptTimeout is how long an answer is waited for before another endpoint is asked as well.
	AttemptTimeout time.Duration
	// CallTimeout bounds a call with all its attempts.
	CallTimeout time.Duration
	// Cooldown is how long an endpoint that failed is put behind the others; it doubles with each consecutive failure, up
	// to eight times.
	Cooldown time.Duration
	// Refresh is the period of look-ups of Host.
	Refresh time.Duration
	// Resolver looks Host up.
	Resolver Resolver
}

// Client calls one service over mutual TLS.
//
// A GET or HEAD may be sent to several endpoints. An endpoint that fails is followed by the next one at once; one that is
// silent for AttemptTimeout is followed by the next one while the first may still answer, which also keeps chains of
// services fast: when the silent one is two hops away, the answer that arrives late is still used. A refusal by SPIFFE ID
// ends the call at once. Any other method reaches at most one endpoint: another is tried only as long as nothing was sent.
//
// With every change of the identity a fresh connection pool takes over: requests in progress finish on the old one.
type Client struct {
	config    ClientConfig
	holder    *identity.Holder
	endpoints *endpoints
	transport atomic.Pointer[http.Transport]
}

// NewClient returns a client that uses holder's identity. Run must be running for calls to succeed.
func NewClient(holder *identity.Holder, config ClientConfig, log *slog.Logger) *Client {
	c := &Client{
		config: config, holder: holder,
		endpoints: newEndpoints(config.Host, config.Port, config.Resolver, config.Refresh, config.Cooldown, log),
	}
	c.renew()
	holder.Subscribe(c.renew)
	return c
}

// Run keeps the endpoints' addresses up to date until ctx ends.
func (c *Client) Run(ctx context.Context) { c.endpoints.run(ctx) }

func (c *Client) renew() {
	config := tlsconfig.MTLSClientConfig(c.holder, c.holder, authorize([]spiffeid.ID{c.config.ServerID}))
	config.MinVersion = tls.VersionTLS13
	fresh := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: c.config.AttemptTimeout, KeepAlive: clientIdle}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   attemptFactor * c.config.AttemptTimeout,
		MaxIdleConnsPerHost:   idlePerEndpoint,
		IdleConnTimeout:       clientIdle,
		ResponseHeaderTimeout: attemptFactor * c.config.AttemptTimeout,
		DisableCompression:    true,
	}
	if old := c.transport.Swap(fresh); old != nil {
		old.CloseIdleConnections()
	}
}

// Request is what Do sends.
type Request struct {
	// Method is the HTTP method.
	Method string
	// Target is the path, with the query after a question mark, both escaped.
	Target string
	// Header is sent as it is. Nil means none.
	Header http.Header
	// Body is sent with each attempt.
	Body []byte
	// MaxAttempts bounds the attempts. 0 means that only CallTimeout does.
	MaxAttempts int
}

// repeatable says whether the request may reach several endpoints.
func (r Request) repeatable() bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// Response is the answer to a call.
type Response struct {
	Status   int
	Header   http.Header
	Body     []byte
	Server   spiffeid.ID // who answered
	Attempts int         // attempts that were started, this one included
}

// CallError says that a call got no answer.
type CallError struct {
	Attempts int
	Err      error // the last attempt's error, and the end of the call's deadline
}

func (e *CallError) Error() string {
	return fmt.Sprintf("no answer after %d attempts: %v", e.Attempts, e.Err)
}

// Unwrap returns the last attempt's error.
func (e *CallError) Unwrap() error { return e.Err }

// attempt is the outcome of one request to one endpoint.
type attempt struct {
	endpoint string
	response *Response
	handled  bool // the endpoint may have acted on the request
	err      error
}

// Get requests path from one of the endpoints, as Do does.
func (c *Client) Get(ctx context.Context, path string) (*Response, error) {
	return c.Do(ctx, Request{Method: http.MethodGet, Target: path})
}

// Do sends a request to one of the endpoints. It returns *DeniedError or *RefusedError (wrapped) when the identity of
// either side was refused, and *CallError when there was no answer.
//
// Answers of 500 and above, the server's remark that the connection outlived the client's SVID, and bodies of more than
// 1 MiB count as no answer; others are returned.
func (c *Client) Do(ctx context.Context, request Request) (*Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.CallTimeout)
	defer cancel()

	results := make(chan attempt)
	var (
		queue   []string            // endpoints not yet tried in this round
		latest  string              // the endpoint asked last
		slow    = map[string]bool{} // endpoints already put into cooldown by this call
		running int                 // attempts in progress
		started int                 // attempts so far
		lastErr error               // of the last failed attempt
		next    <-chan time.Time    // when to start another attempt
	)
	exhausted := func() bool { return request.MaxAttempts > 0 && started >= request.MaxAttempts }
	start := func() {
		if exhausted() || (running > 0 && !request.repeatable()) {
			next = nil
			return
		}
		if len(queue) == 0 {
			queue = c.endpoints.candidates()
		}
		if len(queue) == 0 {
			lastErr = ErrNoEndpoints
			next = time.After(roundPause)
			return
		}
		latest, queue = queue[0], queue[1:]
		started++
		running++
		go func(endpoint string) {
			result := c.try(ctx, endpoint, request)
			select {
			case results <- result:
			case <-ctx.Done():
			}
		}(latest)
		next = time.After(c.config.AttemptTimeout)
	}
	suspect := func(endpoint string) {
		if !slow[endpoint] {
			slow[endpoint] = true
			c.endpoints.failed(endpoint)
		}
	}
	start()
	for {
		select {
		case result := <-results:
			running--
			if result.err == nil {
				c.endpoints.answered(result.endpoint)
				result.response.Attempts = started
				return result.response, nil
			}
			if isRefusal(result.err) && !c.expired() {
				c.endpoints.answered(result.endpoint)
				return nil, &DeniedError{Endpoint: result.endpoint, Err: result.err}
			}
			suspect(result.endpoint)
			lastErr = fmt.Errorf("%s: %w", result.endpoint, result.err)
			switch {
			case running == 0 && exhausted(), result.handled && !request.repeatable():
				return nil, &CallError{Attempts: started, Err: lastErr}
			case len(queue) > 0:
				start()
			case running == 0:
				next = time.After(roundPause)
			}
		case <-next:
			if running > 0 {
				suspect(latest)
			}
			start()
		case <-ctx.Done():
			return nil, &CallError{Attempts: started, Err: errors.Join(lastErr, ctx.Err())}
		}
	}
}

// expired says whether the client's own SVID has expired: a server that refuses it then refuses the certificate, not the
// identity.
func (c *Client) expired() bool {
	svid, err := c.holder.GetX509SVID()
	return err != nil || identity.Expired(svid.Certificates[0], time.Now())
}

// try sends one request to one endpoint.
func (c *Client) try(ctx context.Context, endpoint string, request Request) attempt {
	ctx, cancel := context.WithTimeout(ctx, attemptFactor*c.config.AttemptTimeout)
	defer cancel()
	var sent atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	response, err := c.roundTrip(traced, endpoint, request)
	return attempt{endpoint: endpoint, response: response, handled: sent.Load() && !errors.Is(err, errReconnect), err: err}
}

// errReconnect says that the server did not act on the request, because the connection outlived the client's SVID.
var errReconnect = errors.New(expiredPeer)

func (c *Client) roundTrip(ctx context.Context, endpoint string, request Request) (*Response, error) {
	outgoing, err := http.NewRequestWithContext(ctx, request.Method, "https://"+endpoint+request.Target, bytes.NewReader(request.Body))
	if err != nil {
		return nil, err
	}
	if request.Header != nil {
		outgoing.Header = request.Header.Clone()
	}
	response, err := c.transport.Load().RoundTrip(outgoing)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if identity.Expired(response.TLS.PeerCertificates[0], time.Now()) {
		return nil, errors.New("the server's SVID of this connection has expired")
	}
	switch {
	case len(body) > maxBody:
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxBody)
	case response.StatusCode == http.StatusUnauthorized && strings.TrimSpace(string(body)) == expiredPeer:
		return nil, errReconnect
	case response.StatusCode >= http.StatusInternalServerError:
		return nil, fmt.Errorf("status %d: %.200s", response.StatusCode, body)
	}
	server, err := x509svid.IDFromCert(response.TLS.PeerCertificates[0])
	if err != nil {
		return nil, err
	}
	return &Response{Status: response.StatusCode, Header: response.Header, Body: body, Server: server}, nil
}
