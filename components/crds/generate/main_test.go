package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// TestCurrent holds that the generated files are those of the pinned modules.
func TestCurrent(t *testing.T) {
	for _, s := range sources {
		t.Run(s.file, func(t *testing.T) {
			want, err := s.generate(filepath.Join("..", "..", "..", "toolchain"))
			if errors.Is(err, errNoModule) {
				t.Skip(err)
			}
			require.NoError(t, err)
			got, err := os.ReadFile(filepath.Join("..", s.file))
			require.NoError(t, err)
			require.Equal(t, string(want), string(got), "run: go generate ./components/crds")
		})
	}
}

func TestConvert(t *testing.T) {
	s := source{skip: []string{"skipped.x"}}
	got, err := s.convert([]byte(`
kind: CustomResourceDefinition
metadata: {name: a.x, creationTimestamp: null}
spec:
  description: prose
  properties:
    description: {type: string, description: prose}
    list: [{description: prose, type: object}]
status: {}
`))
	require.NoError(t, err)
	var tree map[string]any
	require.NoError(t, yaml.Unmarshal(got, &tree))
	require.Equal(t, map[string]any{
		"kind":     "CustomResourceDefinition",
		"metadata": map[string]any{"name": "a.x"},
		"spec": map[string]any{"properties": map[string]any{
			"description": map[string]any{"type": "string"},
			"list":        []any{map[string]any{"type": "object"}},
		}},
	}, tree)

	skipped, err := s.convert([]byte("kind: CustomResourceDefinition\nmetadata: {name: skipped.x}\n"))
	require.NoError(t, err)
	require.Nil(t, skipped)

	_, err = s.convert([]byte("kind: ConfigMap\nmetadata: {name: a}\n"))
	require.Error(t, err)
}
