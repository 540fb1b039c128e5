// Package mtls is a small HTTP client and server over mutual TLS with X.509-SVIDs.
//
// In: an identity.Holder and the SPIFFE IDs that a peer may have. Out: a server that serves those callers only, and a
// client whose calls survive the loss of any one endpoint and every rotation of either side's SVID.
//
// Both sides check the peer's SPIFFE ID during the handshake, so that nobody else reaches a handler. Connections are
// HTTP/1.1: a connection carries one request at a time and can be retired after any answer without harming another.
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
)

// RefusedError says that this side refused its peer because of the peer's SPIFFE ID.
type RefusedError struct {
	Peer    spiffeid.ID   // who the peer is: its certificate was valid
	Allowed []spiffeid.ID // who it may be; empty: nobody
}

func (e *RefusedError) Error() string {
	if len(e.Allowed) == 0 {
		return fmt.Sprintf("peer %s is refused: no caller is authorised", e.Peer)
	}
	return fmt.Sprintf("peer %s is refused: authorised is %v", e.Peer, e.Allowed)
}

// DeniedError says that the other side refused this one in the handshake.
type DeniedError struct {
	Endpoint string // address of the endpoint that refused
	Err      error
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("refused by %s: %v", e.Endpoint, e.Err)
}

// Unwrap returns the alert.
func (e *DeniedError) Unwrap() error { return e.Err }

// authorize accepts exactly the allowed SPIFFE IDs: no wildcard, no prefix, no "any member of the trust domain".
func authorize(allowed []spiffeid.ID) tlsconfig.Authorizer {
	return func(id spiffeid.ID, _ [][]*x509.Certificate) error {
		if slices.Contains(allowed, id) {
			return nil
		}
		return &RefusedError{Peer: id, Allowed: allowed}
	}
}

// badCertificate is the only alert that Go's TLS server sends when the verification of a client certificate fails.
const badCertificate = tls.AlertError(42)

// isRefusal tells a refusal of an identity, by either side, from a fault of the network. crypto/tls keeps the type of a
// received alert to itself outside QUIC, hence the comparison of its text.
func isRefusal(err error) bool {
	if _, ok := errors.AsType[*RefusedError](err); ok {
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && op.Err != nil && op.Err.Error() == badCertificate.Error()
}
