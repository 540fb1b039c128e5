package deploy

import (
	"slices"
	"strings"
	"testing"

	"github.com/gruntwork-io/terratest/modules/k8s"
	"github.com/stretchr/testify/require"
)

// leftovers lists what is in the cluster and does not belong to Kubernetes or the testbed: "kind/name". Objects inside a
// namespace count with the namespace, which they cannot outlive.
func leftovers(t *testing.T) []string {
	t.Helper()
	var left []string
	kinds, err := k8s.RunKubectlAndGetOutputContextE(t, t.Context(), in(""), "api-resources", "--namespaced=false", "--verbs=list", "-o", "name")
	require.NoError(t, err)
	var listable []string
	for kind := range strings.FieldsSeq(kinds) {
		if !strings.HasPrefix(kind, "componentstatuses") && !strings.Contains(kind, ":") {
			listable = append(listable, kind)
		}
	}
	names, err := k8s.RunKubectlAndGetOutputContextE(t, t.Context(), in(""), "get", strings.Join(listable, ","), "-o", "name", "--ignore-not-found")
	require.NoError(t, err)
	for name := range strings.Lines(names) {
		name = strings.TrimSpace(name)
		kind, object, _ := strings.Cut(name, "/")
		ours := strings.Contains(object, "spire") || strings.Contains(object, "spiffe") || strings.Contains(object, "cnpg") || strings.Contains(object, "ephemos")
		if kind == "namespace" {
			ours = !slices.Contains([]string{"default", "kube-system", "kube-public", "kube-node-lease"}, object)
		}
		if ours {
			left = append(left, name)
		}
	}
	return left
}
