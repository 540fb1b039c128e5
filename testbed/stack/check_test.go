package stack

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheRepositorysOwnConfigurationIsAccepted(t *testing.T) {
	require.NoError(t, Check("../.."))
}

func TestEveryMistakeIsNamedBeforeAnythingStarts(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "Pulumi.local.yaml"), []byte(`config:
  pulumi:disable-default-providers: ["*"]
  ephemos:trustDomain: local/company
  ephemos:x509SVIDTTL: 5h
  ephemos:colour: green
`), 0o600))
	err := Check(root)
	for _, want := range []string{"ephemos:trustDomain", "local/company", "ephemos:x509SVIDTTL", "ephemos:colour"} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "\nephemos:kubeconfig", "the testbed fills that in")
}
