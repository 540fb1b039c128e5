package testbed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateLifetime bounds everything a cluster is made of; a testbed is recreated far more often.
const certificateLifetime = 365 * 24 * time.Hour

// authority is a certificate authority kept as two PEM files.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
	name string
}

func (a *authority) certFile() string { return filepath.Join(a.dir, a.name+".crt") }

// openAuthority loads the authority dir/name.{crt,key}, making it on first use.
func openAuthority(dir, name string) (*authority, error) {
	a := &authority{dir: dir, name: name}
	certPEM, errCert := os.ReadFile(a.certFile())
	keyPEM, errKey := os.ReadFile(filepath.Join(dir, name+".key"))
	switch {
	case errCert == nil && errKey == nil:
		return a, a.parse(certPEM, keyPEM)
	case !errors.Is(errCert, fs.ErrNotExist) && errCert != nil:
		return nil, errCert
	case !errors.Is(errKey, fs.ErrNotExist) && errKey != nil:
		return nil, errKey
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "testbed " + name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := sign(template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	a.key = key
	return a, writePair(dir, name, der, key)
}

func (a *authority) parse(certPEM, keyPEM []byte) error {
	c, _ := pem.Decode(certPEM)
	k, _ := pem.Decode(keyPEM)
	if c == nil || k == nil {
		return fmt.Errorf("%s: not a PEM certificate and key; remove both files or the testbed's state directory", a.certFile())
	}
	var err error
	if a.cert, err = x509.ParseCertificate(c.Bytes); err != nil {
		return fmt.Errorf("%s: %w", a.certFile(), err)
	}
	key, err := x509.ParsePKCS8PrivateKey(k.Bytes)
	if err != nil {
		return fmt.Errorf("%s key: %w", a.certFile(), err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("%s key: %T, want an EC key", a.certFile(), key)
	}
	a.key = ec
	return nil
}

// identity is what a certificate says of its holder. An empty Addresses and Names makes a client certificate only.
type identity struct {
	CommonName    string
	Organizations []string
	Names         []string
	Addresses     []string
}

// issue writes dir/name.{crt,key} signed by a, unless the pair is there already.
func (a *authority) issue(dir, name string, id identity) error {
	if exists(filepath.Join(dir, name+".crt")) && exists(filepath.Join(dir, name+".key")) {
		return nil
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: id.CommonName, Organization: id.Organizations},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:    id.Names,
	}
	for _, s := range id.Addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(s))
	}
	if len(id.Names)+len(id.Addresses) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := sign(template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", name, err)
	}
	return writePair(dir, name, der, key)
}

func sign(template, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Minute)
	template.NotAfter = template.NotBefore.Add(certificateLifetime)
	return x509.CreateCertificate(rand.Reader, template, parent, pub, key)
}

// writePair writes the key before the certificate, so that a pair whose certificate exists is whole.
func writePair(dir, name string, der []byte, key *ecdsa.PrivateKey) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		writeFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
		writeFile(filepath.Join(dir, name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// writeFile replaces path in one step: a reader, or a run after a crash, sees the old content or the new, never a part.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp.Name(), path)
}
