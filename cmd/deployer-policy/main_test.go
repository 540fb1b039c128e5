package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/stacks/deployer"
)

func TestPrintsPolicies(t *testing.T) {
	t.Chdir("../..")
	var out bytes.Buffer
	require.NoError(t, run([]string{"local"}, &out))
	var policies []deployer.Policy
	require.NoError(t, json.Unmarshal(out.Bytes(), &policies))
	require.Len(t, policies, 1, "a stack on a cluster that exists needs nothing of AWS but to know who it is")
	assert.Equal(t, []string{"sts:GetCallerIdentity"}, policies[0].Statement[0].Action)
	for _, stack := range []string{"prod", "staging"} {
		out.Reset()
		require.NoError(t, run([]string{stack}, &out), "a type of %s is in no table", stack)
		policies = nil
		require.NoError(t, json.Unmarshal(out.Bytes(), &policies))
		assert.Greater(t, len(policies), 1)
		for _, action := range []string{"ec2:CreateVpc", "rds:CreateDBCluster", "kms:CreateKey", "eks:CreateCluster"} {
			assert.Contains(t, out.String(), `"`+action+`"`, stack)
		}
	}
	assert.ErrorContains(t, run(nil, &out), "wants the name of one stack")
	assert.ErrorContains(t, run([]string{"nowhere"}, &out), "Pulumi.nowhere.yaml")
}
