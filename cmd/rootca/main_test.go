package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

var args = []string{"-namespace", "spire-server", "-secret", "spire-root-ca", "-common-name", "Root", "-organization", "prod.company.com", "-lifetime", "87600h"}

func runWith(t *testing.T, client kubernetes.Interface, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	err := run(t.Context(), args, io.Discard, log, func() (kubernetes.Interface, error) { return client, nil })
	return out.String(), err
}

func secret(t *testing.T, client kubernetes.Interface) *corev1.Secret {
	t.Helper()
	s, err := client.CoreV1().Secrets("spire-server").Get(t.Context(), "spire-root-ca", metav1.GetOptions{})
	require.NoError(t, err)
	return s
}

func TestCreatesRoot(t *testing.T) {
	client := fake.NewClientset()
	start := time.Now().Truncate(time.Second)
	out, err := runWith(t, client, args...)
	require.NoError(t, err)

	s := secret(t, client)
	require.Equal(t, corev1.SecretTypeTLS, s.Type)
	pair, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
	require.NoError(t, err)
	require.Equal(t, elliptic.P384(), pair.PrivateKey.(*ecdsa.PrivateKey).Curve)
	require.Len(t, pair.Certificate, 1)
	certificate, err := x509.ParseCertificate(pair.Certificate[0])
	require.NoError(t, err)
	require.True(t, certificate.IsCA)
	require.NoError(t, certificate.CheckSignatureFrom(certificate))
	require.Equal(t, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, certificate.KeyUsage)
	require.Equal(t, "CN=Root,O=prod.company.com", certificate.Subject.String())
	require.NotEmpty(t, certificate.SubjectKeyId)
	require.WithinDuration(t, start.Add(87600*time.Hour), certificate.NotAfter, time.Minute)
	require.True(t, certificate.NotBefore.Before(start))

	require.Contains(t, out, "Root CA created")
	for line := range strings.SplitSeq(string(s.Data["tls.key"]), "\n") {
		if len(line) > 10 {
			require.NotContains(t, out, line, "the key must not be logged")
		}
	}
}

func TestSecondRunLeavesSecret(t *testing.T) {
	client := fake.NewClientset()
	_, err := runWith(t, client, args...)
	require.NoError(t, err)
	first := secret(t, client)

	client.ClearActions()
	out, err := runWith(t, client, args...)
	require.NoError(t, err)
	require.Equal(t, first, secret(t, client))
	require.Contains(t, out, "left as it is")
	for _, action := range client.Actions() {
		require.Contains(t, []string{"create", "get"}, action.GetVerb(), "the program must only create")
	}
}

// TestOnlyCreates holds that nothing but the right to create Secrets is used.
func TestOnlyCreates(t *testing.T) {
	client := fake.NewClientset()
	_, err := runWith(t, client, args...)
	require.NoError(t, err)
	require.Len(t, client.Actions(), 1)
	require.True(t, client.Actions()[0].Matches("create", "secrets"))
}

func TestRootsDiffer(t *testing.T) {
	o := options{commonName: "Root", organization: "x", lifetime: 24 * time.Hour}
	a, keyA, err := newRoot(o, time.Now())
	require.NoError(t, err)
	b, keyB, err := newRoot(o, time.Now())
	require.NoError(t, err)
	require.NotEqual(t, keyA, keyB)
	require.NotEqual(t, a.SerialNumber, b.SerialNumber)
}

func TestFailures(t *testing.T) {
	forbidden := fake.NewClientset()
	forbidden.PrependReactor("create", "secrets", func(ktesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "spire-root-ca", errors.New("no"))
	})
	_, err := runWith(t, forbidden, args...)
	require.ErrorContains(t, err, "Secret spire-server/spire-root-ca")
	require.ErrorContains(t, err, "forbidden")

	err = run(context.Background(), args, io.Discard, slog.New(slog.DiscardHandler), func() (kubernetes.Interface, error) {
		return nil, errors.New("not in a cluster")
	})
	require.ErrorContains(t, err, "not in a cluster")
}

func TestParse(t *testing.T) {
	_, err := parse([]string{"-lifetime", "1h", "extra"}, io.Discard)
	for _, part := range []string{"-namespace", "-common-name", "-organization", "-lifetime 1h0m0s", "extra"} {
		require.ErrorContains(t, err, part)
	}
	_, err = parse([]string{"-h"}, io.Discard)
	require.ErrorIs(t, err, flag.ErrHelp)
}
