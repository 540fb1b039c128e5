package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPrintsTheGraphInAStableOrder(t *testing.T) {
	t.Chdir("../..")
	t.Setenv("KUBECONFIG", "/nonexistent")
	var first, second bytes.Buffer
	require.NoError(t, run([]string{"local"}, &first))
	require.NoError(t, run([]string{"local"}, &second))
	assert.Equal(t, first.String(), second.String())

	var printed struct {
		Stack     string
		Resources []struct{ URN, Type, Name, Provider string }
	}
	require.NoError(t, json.Unmarshal(first.Bytes(), &printed))
	assert.Equal(t, "local", printed.Stack)
	assert.NotEmpty(t, printed.Resources)
}

func TestConfigFlagReplacesTheStacksOwn(t *testing.T) {
	t.Chdir("../..")
	var out bytes.Buffer
	require.NoError(t, run([]string{"-config", "trustDomain=other.company.com", "local"}, &out))
	assert.Contains(t, out.String(), "spiffe://other.company.com/")
	assert.NotContains(t, out.String(), "local.company.com")
}

func TestRefuses(t *testing.T) {
	t.Chdir("../..")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no stack":          {nil, "wants the name of one stack"},
		"unknown stack":     {[]string{"nowhere"}, "Pulumi.nowhere.yaml"},
		"malformed flag":    {[]string{"-config", "x", "local"}, "must be key=value"},
		"bad configuration": {[]string{"-config", "trustDomain=a/b", "local"}, `ephemos:trustDomain: "a/b" is refused`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			assert.ErrorContains(t, run(test.args, &out), test.want)
			assert.Empty(t, out.String())
		})
	}
}
