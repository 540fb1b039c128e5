package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pair is a certificate of its own and its key, in PEM.
type pair struct{ cert, key []byte }

func newPair(t *testing.T, serial int64, notBefore, notAfter time.Time) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"www.example.org"}, NotBefore: notBefore, NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pair{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
	}
}

func valid(t *testing.T, serial int64) pair {
	return newPair(t, serial, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
}

// secret is a directory as the kubelet makes it of a Secret: the files are links into a directory that is replaced as one.
type secret struct {
	t   *testing.T
	dir string
	n   int
}

func newSecret(t *testing.T) *secret {
	s := &secret{t: t, dir: t.TempDir()}
	for _, name := range []string{"tls.crt", "tls.key"} {
		require.NoError(t, os.Symlink(filepath.Join("..data", name), filepath.Join(s.dir, name)))
	}
	return s
}

func (s *secret) write(p pair) {
	s.t.Helper()
	s.n++
	version := "..v" + strings.Repeat("x", s.n)
	require.NoError(s.t, os.Mkdir(filepath.Join(s.dir, version), 0o755))
	require.NoError(s.t, os.WriteFile(filepath.Join(s.dir, version, "tls.crt"), p.cert, 0o600))
	require.NoError(s.t, os.WriteFile(filepath.Join(s.dir, version, "tls.key"), p.key, 0o600))
	link := filepath.Join(s.dir, "..data")
	require.NoError(s.t, os.Symlink(version, link+"_tmp"))
	require.NoError(s.t, os.Rename(link+"_tmp", link))
}

func (s *secret) cert() string { return filepath.Join(s.dir, "tls.crt") }
func (s *secret) key() string  { return filepath.Join(s.dir, "tls.key") }

func TestFilesThatAreNotUsableChangeNothing(t *testing.T) {
	s, log := newSecret(t), &lockedBuffer{}
	s.write(valid(t, 1))
	e := newFileEdge(s.cert(), s.key(), slog.New(slog.NewJSONHandler(log, nil)))
	serial := func() int64 {
		c, err := e.certificate()
		require.NoError(t, err)
		return c.Leaf.SerialNumber.Int64()
	}
	require.Equal(t, int64(1), serial())
	require.Equal(t, uint64(1), e.generation())

	good, other := valid(t, 2), valid(t, 3)
	for name, bad := range map[string]pair{
		"no PEM":                         {[]byte("x"), []byte("y")},
		"a key of another":               {good.cert, other.key},
		"no key":                         {good.cert, nil},
		"expired":                        newPair(t, 4, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)),
		"not valid yet":                  newPair(t, 5, time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)),
		"the key before the certificate": {good.key, good.cert},
	} {
		before := strings.Count(log.String(), `"level":"ERROR"`)
		s.write(bad)
		e.look()
		e.look()
		require.Equal(t, int64(1), serial(), name)
		require.Equal(t, before+1, strings.Count(log.String(), `"level":"ERROR"`), "%s: logged once", name)
	}
	require.NotContains(t, log.String(), "PRIVATE KEY")

	require.NoError(t, os.Remove(filepath.Join(s.dir, "..data")))
	e.look()
	require.Equal(t, int64(1), serial(), "files that are gone change nothing either")
	s.write(good)
	e.look()
	e.look()
	require.Equal(t, int64(2), serial())
	require.Equal(t, uint64(2), e.generation(), "each certificate is taken once")
}

func TestACertificateThatBecomesValidIsTaken(t *testing.T) {
	s := newSecret(t)
	soon := time.Now().Add(2 * time.Second).Truncate(time.Second)
	s.write(newPair(t, 1, soon, soon.Add(time.Hour)))
	e := newFileEdge(s.cert(), s.key(), slog.New(slog.DiscardHandler))
	_, err := e.certificate()
	require.ErrorIs(t, err, errNoCertificate)
	require.Eventually(t, func() bool { e.look(); _, err := e.certificate(); return err == nil }, 5*time.Second, 10*time.Millisecond)
	require.False(t, time.Now().Before(soon))
}

func TestClientsSeeTheCertificateOfTheFiles(t *testing.T) {
	s := newSecret(t)
	w := start(t, options{config: func(c *Config) {
		c.EdgeCertFile, c.EdgeKeyFile, c.EdgeReload = s.cert(), s.key(), 10*time.Millisecond
	}})
	status, text := w.probe("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "no edge certificate yet")
	require.Empty(t, w.stats().Edge.DNSNames)

	for serial := int64(1); serial <= 3; serial++ {
		p := valid(t, serial)
		s.write(p)
		roots := x509.NewCertPool()
		require.True(t, roots.AppendCertsFromPEM(p.cert))
		require.Eventually(t, func() bool {
			conn, err := tls.Dial("tcp", w.edge, &tls.Config{RootCAs: roots, ServerName: "www.example.org"})
			if err != nil {
				return false
			}
			defer conn.Close()
			return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64() == serial
		}, 5*time.Second, 10*time.Millisecond)
	}
	status, text = w.probe("/readyz")
	require.Equal(t, http.StatusOK, status, text)
	require.Equal(t, "files", w.stats().Edge.Source)
	require.Equal(t, []string{"www.example.org"}, w.stats().Edge.DNSNames)
}
