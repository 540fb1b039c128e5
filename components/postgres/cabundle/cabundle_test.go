package cabundle

import (
	"encoding/pem"
	"testing"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/postgres/cabundle/cabundletest"
)

func TestCheck(t *testing.T) {
	ca := cabundletest.CA(t)
	require.NoError(t, Check(ca))
	require.NoError(t, Check(ca+"\n"+cabundletest.CA(t)+"\n"))
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))
	broken := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
	for name, c := range map[string]struct{ bundle, want string }{
		"nothing":          {"", "no certificate"},
		"text":             {"bundle.pem", "no certificate"},
		"key":              {ca + key, "PRIVATE KEY"},
		"no certificate":   {ca + broken, "certificate 2"},
		"not of a CA":      {cabundletest.Leaf(t), "not of a CA"},
		"text at the end":  {ca + "x", "follows certificate 1"},
		"cut off at a end": {ca + ca[:len(ca)/2], "follows certificate 1"},
	} {
		require.ErrorContains(t, Check(c.bundle), c.want, name)
	}
}
