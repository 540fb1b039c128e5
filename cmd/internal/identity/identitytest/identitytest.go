// Package identitytest issues X.509-SVIDs for tests and rotates them like a Workload API would, only faster.
package identitytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/stretchr/testify/require"
)

// CA is the only authority of one trust domain.
type CA struct {
	t      testing.TB
	domain spiffeid.TrustDomain
	cert   *x509.Certificate
	key    crypto.Signer
}

// NewCA returns an authority for the trust domain.
func NewCA(t testing.TB, domain string) *CA {
	t.Helper()
	key := newKey(t)
	td := spiffeid.RequireTrustDomainFromString(domain)
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true, URIs: []*url.URL{td.ID().URL()},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	return &CA{t: t, domain: td, cert: cert, key: key}
}

// ID returns the SPIFFE ID with the path in the authority's trust domain.
func (c *CA) ID(path string) spiffeid.ID { return spiffeid.RequireFromPath(c.domain, path) }

// Issue returns an SVID, with DNS names if there are any, that ends lifetime from now, rounded up to the next second:
// certificates know no less.
func (c *CA) Issue(id spiffeid.ID, lifetime time.Duration, dnsNames ...string) *x509svid.SVID {
	key := newKey(c.t)
	template := &x509.Certificate{
		SerialNumber: serial(c.t), URIs: []*url.URL{id.URL()}, DNSNames: dnsNames,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(lifetime + time.Second - 1).Truncate(time.Second),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, c.cert, key.Public(), c.key)
	require.NoError(c.t, err)
	cert, err := x509.ParseCertificate(raw)
	require.NoError(c.t, err)
	return &x509svid.SVID{ID: id, Certificates: []*x509.Certificate{cert}, PrivateKey: key}
}

// Feed is an identity.Feed under the test's control.
type Feed struct {
	ca       *CA
	id       spiffeid.ID
	lifetime time.Duration
	dnsNames []string
	updated  chan struct{}

	mu   sync.Mutex
	svid *x509svid.SVID
}

// Feed returns a feed that holds an SVID of the given lifetime and DNS names.
func (c *CA) Feed(id spiffeid.ID, lifetime time.Duration, dnsNames ...string) *Feed {
	return &Feed{
		ca: c, id: id, lifetime: lifetime, dnsNames: dnsNames, updated: make(chan struct{}, 1), svid: c.Issue(id, lifetime, dnsNames...),
	}
}

// Rotate replaces the SVID by a new one and signals the update.
func (f *Feed) Rotate() {
	svid := f.ca.Issue(f.id, f.lifetime, f.dnsNames...)
	f.mu.Lock()
	f.svid = svid
	f.mu.Unlock()
	select {
	case f.updated <- struct{}{}:
	default:
	}
}

// GetX509SVID returns the newest SVID.
func (f *Feed) GetX509SVID() (*x509svid.SVID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.svid, nil
}

// GetX509BundleForTrustDomain returns the authority's bundle.
func (f *Feed) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	bundle := x509bundle.FromX509Authorities(f.ca.domain, []*x509.Certificate{f.ca.cert})
	return bundle.GetX509BundleForTrustDomain(td)
}

// Updated is sent on after Rotate.
func (f *Feed) Updated() <-chan struct{} { return f.updated }

func newKey(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func serial(t testing.TB) *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	require.NoError(t, err)
	return n
}
