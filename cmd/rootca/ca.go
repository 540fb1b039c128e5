package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// creator is the one thing this program may do with Secrets.
type creator interface {
	Create(ctx context.Context, secret *corev1.Secret, opts metav1.CreateOptions) (*corev1.Secret, error)
}

// provide makes a root and creates the Secret, unless it exists. The API server
// decides which, so that two runs at once end with one root.
func provide(ctx context.Context, secrets creator, o options, now time.Time, log *slog.Logger) error {
	certificate, key, err := newRoot(o, now)
	if err != nil {
		return err
	}
	log = log.With("namespace", o.namespace, "secret", o.secret)
	_, err = secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:      o.secret,
			Namespace: o.namespace,
			Labels: map[string]string{
				"app.kubernetes.io/name":       "rootca",
				"app.kubernetes.io/component":  "root-ca",
				"app.kubernetes.io/part-of":    "ephemos",
				"app.kubernetes.io/managed-by": "rootca",
			},
		},
		Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{
			corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}),
			corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		},
	}, metav1.CreateOptions{FieldManager: "rootca"})
	switch {
	case apierrors.IsAlreadyExists(err):
		log.Info("Secret exists, left as it is")
		return nil
	case err != nil:
		return fmt.Errorf("Secret %s/%s: %w", o.namespace, o.secret, err)
	}
	fingerprint := sha256.Sum256(certificate.Raw)
	log.Info("Root CA created", "subject", certificate.Subject.String(), "serial", certificate.SerialNumber.Text(16),
		"notAfter", certificate.NotAfter, "sha256", hex.EncodeToString(fingerprint[:]))
	return nil
}

// newRoot makes a self-signed CA certificate for a new P-384 key and returns it
// with the key in PKCS #8.
func newRoot(o options, now time.Time) (*x509.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("private key: %w", err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: o.commonName, Organization: []string{o.organization}},
		// Room for clocks that are behind.
		NotBefore:             now.Add(-5 * time.Minute),
		NotAfter:              now.Add(o.lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	// Without a serial number in the template, a random one of 159 bits is used.
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("private key: %w", err)
	}
	return certificate, pkcs8, nil
}
