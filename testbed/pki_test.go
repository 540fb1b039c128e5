package testbed

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIssuedCertificateVerifiesForItsNamesAndPurposeOnly(t *testing.T) {
	dir := t.TempDir()
	ca, err := openAuthority(dir, "ca")
	require.NoError(t, err)
	require.NoError(t, ca.issue(dir, "server", identity{CommonName: "server", Names: []string{"api.example"}, Addresses: []string{"10.0.0.1"}}))
	require.NoError(t, ca.issue(dir, "client", identity{CommonName: "client", Organizations: []string{"group"}}))

	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	verify := func(name, dnsName string, usage x509.ExtKeyUsage) error {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
		require.NoError(t, err)
		_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: dnsName, KeyUsages: []x509.ExtKeyUsage{usage}})
		return err
	}
	require.NoError(t, verify("server", "api.example", x509.ExtKeyUsageServerAuth))
	require.NoError(t, verify("server", "10.0.0.1", x509.ExtKeyUsageServerAuth))
	require.Error(t, verify("server", "other.example", x509.ExtKeyUsageServerAuth))
	require.NoError(t, verify("client", "", x509.ExtKeyUsageClientAuth))
	require.Error(t, verify("client", "", x509.ExtKeyUsageServerAuth))
}

func TestAuthorityAndPairsOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	first, err := openAuthority(dir, "ca")
	require.NoError(t, err)
	require.NoError(t, first.issue(dir, "x", identity{CommonName: "x"}))
	before, err := os.ReadFile(filepath.Join(dir, "x.crt"))
	require.NoError(t, err)

	again, err := openAuthority(dir, "ca")
	require.NoError(t, err)
	require.True(t, first.cert.Equal(again.cert))
	require.NoError(t, again.issue(dir, "x", identity{CommonName: "x"}))
	after, err := os.ReadFile(filepath.Join(dir, "x.crt"))
	require.NoError(t, err)
	require.Equal(t, before, after)

	info, err := os.Stat(filepath.Join(dir, "ca.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestDamagedAuthorityIsNamed(t *testing.T) {
	dir := t.TempDir()
	_, err := openAuthority(dir, "ca")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("half a f"), 0o644))
	_, err = openAuthority(dir, "ca")
	require.ErrorContains(t, err, filepath.Join(dir, "ca.crt"))
}
