package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"ephemos.dev/deploy/cmd/internal/identity"
)

// edge is where the certificate comes from that clients are shown.
type edge interface {
	// certificate returns the newest one.
	certificate() (*tls.Certificate, error)
	// generation grows with every new one.
	generation() uint64
}

// edgeConfig is the TLS configuration towards clients. Who they are, TLS does not ask.
func edgeConfig(source edge) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   cipherSuites,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return source.certificate() },
	}
}

// cipherSuites are those of TLS 1.2 that authenticate what they encrypt and keep it secret when a key is lost later. Those of
// TLS 1.3 all do.
var cipherSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// svidEdge shows the gateway's own SVID. Its DNS names are those of the registration.
type svidEdge struct{ holder *identity.Holder }

func (s svidEdge) generation() uint64 { return s.holder.Generation() }

func (s svidEdge) certificate() (*tls.Certificate, error) {
	svid, err := s.holder.GetX509SVID()
	if err != nil {
		return nil, err
	}
	out := &tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}
	for _, c := range svid.Certificates {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

// fileEdge shows a certificate from two files, which it reads again when they change. Files that do not make a valid
// certificate change nothing.
type fileEdge struct {
	certFile, keyFile string
	log               *slog.Logger
	held              atomic.Pointer[tls.Certificate]
	changes           atomic.Uint64

	cert, key []byte // as read last, usable or not
	problem   string // what was wrong with them, as logged
}

var errNoCertificate = errors.New("no certificate has been read")

func newFileEdge(certFile, keyFile string, log *slog.Logger) *fileEdge {
	e := &fileEdge{certFile: certFile, keyFile: keyFile, log: log}
	e.look()
	return e
}

func (e *fileEdge) generation() uint64 { return e.changes.Load() }

func (e *fileEdge) certificate() (*tls.Certificate, error) {
	if c := e.held.Load(); c != nil {
		return c, nil
	}
	return nil, errNoCertificate
}

// run looks at the files every period until ctx ends. The kubelet replaces a Secret's files behind symbolic links, which
// notifications of the file system miss in ways that looking does not.
func (e *fileEdge) run(ctx context.Context, period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			e.look()
		}
	}
}

// look reads the files and takes their certificate if they have changed. What is wrong with them is logged once.
func (e *fileEdge) look() {
	cert, certErr := os.ReadFile(e.certFile)
	key, keyErr := os.ReadFile(e.keyFile)
	if err := errors.Join(certErr, keyErr); err != nil {
		e.cert, e.key = nil, nil
		e.complain(err)
		return
	}
	if e.problem == "" && bytes.Equal(cert, e.cert) && bytes.Equal(key, e.key) {
		return
	}
	e.cert, e.key = cert, key
	fresh, err := parsePair(cert, key, time.Now())
	if err != nil {
		e.complain(err)
		return
	}
	e.problem = ""
	e.held.Store(fresh)
	e.changes.Add(1)
	e.log.Info("edge certificate read", "file", e.certFile, "dns_names", fresh.Leaf.DNSNames, "not_after", fresh.Leaf.NotAfter)
}

func (e *fileEdge) complain(err error) {
	if e.problem != err.Error() {
		e.problem = err.Error()
		e.log.Error("the files hold no usable edge certificate; the one held before is kept", "file", e.certFile, "held", e.held.Load() != nil,
			"error", err)
	}
}

func parsePair(cert, key []byte, now time.Time) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, err
		}
	}
	if now.Before(pair.Leaf.NotBefore) || now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("it is valid from %s to %s", pair.Leaf.NotBefore.Format(time.RFC3339), pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	return &pair, nil
}
