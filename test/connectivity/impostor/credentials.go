package impostor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
)

// Present returns a copy of a configuration that presents the certificate whatever authorities the program says it accepts, or
// none if it is nil.
func Present(server *tls.Config, certificate *tls.Certificate) *tls.Config {
	config := server.Clone()
	config.Certificates = nil
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if certificate == nil {
			return &tls.Certificate{}, nil
		}
		return certificate, nil
	}
	return config
}

// ExpectSPIFFE accepts the program with that SPIFFE ID.
func ExpectSPIFFE(id spiffeid.ID, authorities []*x509.Certificate) *tls.Config {
	bundle := x509bundle.FromX509Authorities(id.TrustDomain(), authorities)
	config := tlsconfig.TLSClientConfig(bundle, tlsconfig.AuthorizeID(id))
	config.MinVersion = tls.VersionTLS12
	return config
}

// ExpectName accepts the program whose certificate has a DNS name.
func ExpectName(name string, authorities *x509.CertPool) *tls.Config {
	return &tls.Config{ServerName: name, RootCAs: authorities, MinVersion: tls.VersionTLS12}
}

// SelfSigned makes a certificate for clients that nobody has signed: with a common name, a SPIFFE ID, or both. It is good for
// an hour.
func SelfSigned(commonName string, id spiffeid.ID) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: commonName},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if !id.IsZero() {
		template.URIs = []*url.URL{id.URL()}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, nil
}

// ParseMinted reads what `spire-server x509 mint -output json` prints: an SVID with its key, and the trust domain's authorities.
func ParseMinted(text []byte) (*tls.Certificate, []*x509.Certificate, error) {
	var minted struct {
		SVID  [][]byte `json:"x509_svid"`
		Key   []byte   `json:"private_key"`
		Roots [][]byte `json:"root_cas"`
	}
	if err := json.Unmarshal(text, &minted); err != nil {
		return nil, nil, fmt.Errorf("minted SVID: %w", err) // never with the text, which holds a key
	}
	if len(minted.SVID) == 0 || len(minted.Roots) == 0 {
		return nil, nil, errors.New("minted SVID: it has no certificate or no authority")
	}
	key, err := x509.ParsePKCS8PrivateKey(minted.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("minted SVID: %w", err)
	}
	var authorities []*x509.Certificate
	for _, raw := range minted.Roots {
		authority, err := x509.ParseCertificate(raw)
		if err != nil {
			return nil, nil, fmt.Errorf("minted SVID: %w", err)
		}
		authorities = append(authorities, authority)
	}
	return &tls.Certificate{Certificate: minted.SVID, PrivateKey: key}, authorities, nil
}
