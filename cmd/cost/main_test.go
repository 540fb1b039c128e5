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
	for _, stack := range []string{"prod", "staging"} {
		out.Reset()
		require.NoError(t, run([]string{stack}, &out))
		assert.Contains(t, out.String(), "approximate")
		assert.Contains(t, out.String(), "database")
		assert.NotContains(t, out.String(), "Not priced", "a type of %s is in no table", stack)
		out.Reset()
		require.NoError(t, run([]string{"-json", stack}, &out))
		var estimate struct{ Region string }
		require.NoError(t, json.Unmarshal(out.Bytes(), &estimate))
		assert.Equal(t, "eu-central-1", estimate.Region)
	}
	assert.ErrorContains(t, run([]string{"local"}, &out), "the stack local is not on AWS")
	assert.ErrorContains(t, run(nil, &out), "wants the name of one stack")
	assert.ErrorContains(t, run([]string{"nowhere"}, &out), "Pulumi.nowhere.yaml")
}
