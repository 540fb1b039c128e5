package deploy

import (
	"encoding/json"
	"testing"

	"ephemos.dev/deploy/stacks/status"
	"ephemos.dev/deploy/testbed/stack"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
)

func clientset(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	set, err := cluster.Client()
	require.NoError(t, err)
	return set
}

// decode reads JSON into a new T.
func decode[T any](t *testing.T, text []byte) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal(text, &v), string(text))
	return v
}

// statsOf is what a service's pod says of itself.
func statsOf(t *testing.T, namespace, name string) status.Stats {
	t.Helper()
	text, err := get(t.Context(), namespace, name, "8080", "stats")
	require.NoError(t, err)
	return decode[status.Stats](t, text)
}

// stateOf lists the resources in the stack's state with their identities.
func stateOf(t *testing.T) []string {
	t.Helper()
	s, err := stack.Open(t.Context(), cluster, root, nil)
	require.NoError(t, err)
	exported, err := s.Export(t.Context())
	require.NoError(t, err)
	state := decode[struct {
		Resources []struct{ URN, ID string }
	}](t, exported)
	var all []string
	for _, r := range state.Resources {
		all = append(all, r.URN+" "+r.ID)
	}
	require.NotEmpty(t, all)
	return all
}
