// Package identity holds a workload's own X.509-SVID and trust bundles and says when they change.
//
// In: updates of the SPIFFE Workload API, delivered over a unix socket that the SPIFFE CSI driver mounts into the pod.
// Out: a source for TLS configurations, a generation number that grows with every update (so that clients and servers
// can retire connections made with older material), and a Status for people and metrics.
package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// ErrNone is returned while no SVID has been received: the workload is not registered, or the agent is not there yet.
var ErrNone = errors.New("no X.509-SVID has been received from the Workload API")

// Feed is a stream of identity updates. *workloadapi.X509Source is one.
type Feed interface {
	x509svid.Source
	x509bundle.Source
	// Updated is sent on after every update; several updates may share one signal.
	Updated() <-chan struct{}
}

// Status describes the SVID that is held now. The zero value means that none is held.
type Status struct {
	// SPIFFEID is the workload's own identity.
	SPIFFEID string
	// Serial is the certificate's serial number in decimal.
	Serial string
	// NotBefore and NotAfter bound the certificate's validity. SPIRE dates NotBefore ten seconds back.
	NotBefore, NotAfter time.Time
	// Rotations counts the changes of the certificate since the first one was received.
	Rotations uint64
}

// Holder keeps the newest identity of one workload. It is safe for concurrent use and implements the SVID and bundle
// sources of go-spiffe, so that each TLS handshake uses the newest material.
type Holder struct {
	log *slog.Logger

	mu          sync.RWMutex
	feed        Feed
	status      Status
	subscribers []func()

	generation atomic.Uint64
	held       chan struct{}
}

// NewHolder returns a Holder without an identity. Follow gives it one.
func NewHolder(log *slog.Logger) *Holder {
	return &Holder{log: log, held: make(chan struct{})}
}

// Subscribe registers f to be called after every update of the SVID or the bundles. It must be called before Follow.
func (h *Holder) Subscribe(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers = append(h.subscribers, f)
}

// Follow takes the feed's identity and keeps following its updates until ctx ends.
func (h *Holder) Follow(ctx context.Context, feed Feed) {
	h.mu.Lock()
	h.feed = feed
	h.mu.Unlock()
	h.take(feed)
	for {
		select {
		case <-ctx.Done():
			return
		case <-feed.Updated():
			h.take(feed)
		}
	}
}

func (h *Holder) take(feed Feed) {
	svid, err := feed.GetX509SVID()
	if err != nil {
		h.log.Error("the identity update could not be read", "error", err)
		return
	}
	leaf := svid.Certificates[0]

	h.mu.Lock()
	previous := h.status
	serial := leaf.SerialNumber.String()
	rotations := previous.Rotations
	if previous.Serial != "" && previous.Serial != serial {
		rotations++
	}
	h.status = Status{
		SPIFFEID: svid.ID.String(), Serial: serial,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Rotations: rotations,
	}
	subscribers := h.subscribers
	h.generation.Add(1)
	if previous.Serial == "" {
		close(h.held)
	}
	h.mu.Unlock()

	for _, f := range subscribers {
		f()
	}
	if previous.Serial != serial {
		h.log.Info("identity received", "spiffe_id", svid.ID.String(), "serial", serial,
			"not_after", leaf.NotAfter, "rotations", rotations)
	}
}

// Held is closed once the first SVID has been received.
func (h *Holder) Held() <-chan struct{} { return h.held }

// Generation grows with every update. A connection made at a lower generation used older material.
func (h *Holder) Generation() uint64 { return h.generation.Load() }

// Status describes the SVID that is held now.
func (h *Holder) Status() Status {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.status
}

// GetX509SVID returns the newest SVID, or ErrNone.
func (h *Holder) GetX509SVID() (*x509svid.SVID, error) {
	h.mu.RLock()
	feed := h.feed
	h.mu.RUnlock()
	if feed == nil {
		return nil, ErrNone
	}
	return feed.GetX509SVID()
}

// GetX509BundleForTrustDomain returns the newest bundle of a trust domain, or ErrNone.
func (h *Holder) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	h.mu.RLock()
	feed := h.feed
	h.mu.RUnlock()
	if feed == nil {
		return nil, ErrNone
	}
	return feed.GetX509BundleForTrustDomain(td)
}

// Expired says whether a certificate is past its NotAfter. A connection outlives its handshake, so the check at the
// handshake is not enough: it is repeated for every request.
func Expired(cert *x509.Certificate, now time.Time) bool { return now.After(cert.NotAfter) }
