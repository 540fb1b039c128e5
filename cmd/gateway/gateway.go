// Command gateway is the entry of the DMZ: it serves clients over TLS, inspects their requests with a web application
// firewall, and passes those on that have a route, over mutual TLS, to the one service it stands for.
//
// In: configuration from the environment (Config), an identity from the Workload API, HTTP/1.1 and HTTP/2 requests. Out: the
// upstream's answers; a JSON object with an error and the request's ID for what it refuses; on a second, plaintext port the
// probes, statistics and metrics.
//
// A request passes, in this order, the bounds on connections, head, rate and requests in flight; the firewall; the routes.
// Nothing of it reaches the upstream before all of it has passed.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"ephemos.dev/deploy/cmd/internal/identity"
	"ephemos.dev/deploy/cmd/internal/mtls"
	"ephemos.dev/deploy/cmd/internal/waf"
)

// Gateway is one gateway.
type Gateway struct {
	config Config
	log    *slog.Logger

	holder   *identity.Holder
	edge     edge
	files    *fileEdge // nil when the edge certificate is the SVID
	firewall *waf.Firewall
	proxy    *proxy
	limiter  *limiter
	working  *share
	server   *http.Server

	limited    atomic.Uint64 // 429
	overloaded atomic.Uint64 // 503
	turnedAway atomic.Uint64 // connections
	leaving    atomic.Bool
	started    time.Time
}

// New returns a gateway. Its Holder must be given an identity (Follow); Run serves. It fails when the firewall cannot be
// made.
func New(config Config, resolver mtls.Resolver, log *slog.Logger) (*Gateway, error) {
	firewall, err := waf.New(config.Firewall, log)
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		config: config, log: log, holder: identity.NewHolder(log), firewall: firewall,
		limiter: newLimiter(config.Rate, config.Burst, config.Clients),
		working: newShare(config.InFlight, config.InFlightPerClient), started: time.Now(),
	}
	g.edge = svidEdge{g.holder}
	if config.EdgeCertFile != "" {
		g.files = newFileEdge(config.EdgeCertFile, config.EdgeKeyFile, log)
		g.edge = g.files
	}
	g.proxy = &proxy{
		routes: config.Routes, attempts: config.Attempts, log: log,
		client: mtls.NewClient(g.holder, mtls.ClientConfig{
			Host: config.UpstreamHost, Port: config.UpstreamPort, ServerID: config.UpstreamID,
			AttemptTimeout: config.AttemptTimeout, CallTimeout: config.CallTimeout,
			Cooldown: config.Cooldown, Refresh: config.Refresh, Resolver: resolver,
		}, log),
	}
	g.server = &http.Server{
		Handler:           g.front(g.firewall.Handler(g.proxy)),
		TLSConfig:         edgeConfig(g.edge),
		ReadHeaderTimeout: config.HeaderTimeout,
		ReadTimeout:       config.ReadTimeout,
		WriteTimeout:      config.writeTimeout(),
		IdleTimeout:       config.IdleTimeout,
		MaxHeaderBytes:    config.HeaderLimit,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: config.InFlightPerClient},
		// What strangers do wrong is no event, and would fill the log.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		// OPTIONS * would be answered before it is inspected.
		DisableGeneralOptionsHandler: true,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, generationKey{}, g.edge.generation())
		},
	}
	return g, nil
}

type generationKey struct{}

// Holder is where the gateway's identity comes in.
func (g *Gateway) Holder() *identity.Holder { return g.holder }

// Run serves on both listeners until ctx ends. Then it goes on serving for the drain delay, waits for requests in progress
// and returns. It fails only if a listener does.
func (g *Gateway) Run(ctx context.Context, edge, plain net.Listener) error {
	// What is in progress outlives ctx.
	lasting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()

	plainServer := &http.Server{Handler: g.plain(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 2)
	var background sync.WaitGroup
	background.Go(func() {
		l := boundedListener{edge, newShare(g.config.Connections, g.config.ConnectionsPerClient), g.config.TrustedProxies, &g.turnedAway}
		if err := g.server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("edge listener: %w", err)
		}
	})
	background.Go(func() {
		if err := plainServer.Serve(plain); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("plaintext listener: %w", err)
		}
	})
	background.Go(func() { g.proxy.client.Run(lasting) })
	if g.files != nil {
		background.Go(func() { g.files.run(lasting, g.config.EdgeReload) })
	}

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}

	g.log.Info("stopping", "drain_delay", g.config.DrainDelay)
	g.leaving.Store(true)
	if err == nil {
		time.Sleep(g.config.DrainDelay)
	}
	bounded, cancel := context.WithTimeout(lasting, g.config.ShutdownTimeout)
	defer cancel()
	err = errors.Join(err, g.server.Shutdown(bounded), plainServer.Shutdown(bounded))
	stop()
	background.Wait()
	g.log.Info("stopped", "requests", g.requests(), "calls", g.proxy.made.Snapshot())
	return err
}

// protections are headers of every answer. An upstream's answer may replace those that concern its content.
var protections = map[string]string{
	"Strict-Transport-Security": "max-age=63072000; includeSubDomains",
	"X-Content-Type-Options":    "nosniff",
	"X-Frame-Options":           "DENY",
	"Content-Security-Policy":   "default-src 'none'; frame-ancestors 'none'",
	"Referrer-Policy":           "no-referrer",
	"Cache-Control":             "no-store",
}

// front names each request, bounds what clients can cause, and retires connections that were made before the newest
// certificate.
func (g *Gateway) front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		for name, value := range protections {
			header.Set(name, value)
		}
		header.Set(waf.RequestIDHeader, newID())
		if generation, _ := r.Context().Value(generationKey{}).(uint64); g.leaving.Load() || generation != g.edge.generation() {
			header.Set("Connection", "close")
		}
		if g.config.HealthPath != "" && r.URL.Path == g.config.HealthPath && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			g.healthy(w)
			return
		}
		if at, forwarded := forwardedFor(r, g.config.TrustedProxies); forwarded {
			r.RemoteAddr = at
		}
		from := client(r.RemoteAddr)
		if !g.limiter.allow(from) {
			g.limited.Add(1)
			header.Set("Retry-After", "1")
			fail(w, http.StatusTooManyRequests, "there were too many requests")
			return
		}
		if !g.working.enter(from) {
			g.overloaded.Add(1)
			header.Set("Retry-After", "1")
			fail(w, http.StatusServiceUnavailable, "there are too many requests at this moment")
			return
		}
		defer g.working.leave(from)
		next.ServeHTTP(w, r)
	})
}

// newID returns 128 random bits in hexadecimal.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
