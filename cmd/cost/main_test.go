package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPrintsAnEstimate(t *testing.T) {
	t.Chdir("../..")
	var out bytes.Buffer
	require.NoError(t, run([]string{"local"}, &out))
	assert.Contains(t, out.String(), "approximate")
	assert.NotContains(t, out.String(), "Not priced")
	out.Reset()
	require.NoError(t, run([]string{"-json", "local"}, &out))
	var estimate struct{ Region string }
	require.NoError(t, json.Unmarshal(out.Bytes(), &estimate))
	assert.Equal(t, "eu-central-1", estimate.Region)
	assert.ErrorContains(t, run(nil, &out), "wants the name of one stack")
	assert.ErrorContains(t, run([]string{"nowhere"}, &out), "Pulumi.nowhere.yaml")
}
