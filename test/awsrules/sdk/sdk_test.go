package sdk

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInputs(t *testing.T) {
	s, err := Find()
	require.NoError(t, err)
	listener, err := s.Inputs("aws:lb/listener:Listener")
	require.NoError(t, err)
	assert.True(t, listener.Properties["defaultActions"].Required, "a list that the constructor demands")
	assert.True(t, listener.Properties["loadBalancerArn"].Required)
	assert.False(t, listener.Properties["port"].Required)
	assert.Equal(t, Number, listener.Properties["port"].Type.Kind)
	action := listener.Properties["defaultActions"].Type.Element
	assert.True(t, action.Properties["type"].Required, "a field of a nested structure")
	assert.False(t, action.Properties["forward"].Required)
	assert.Equal(t, Object, action.Properties["forward"].Type.Kind)

	cluster, err := s.Inputs("aws:rds/cluster:Cluster")
	require.NoError(t, err)
	assert.Equal(t, String, cluster.Properties["engine"].Type.Kind, "an enumeration is text")
	policy, err := s.Inputs("aws:iam/rolePolicy:RolePolicy")
	require.NoError(t, err)
	assert.Equal(t, Any, policy.Properties["policy"].Type.Kind)
	assert.True(t, policy.Properties["policy"].Required)

	for _, typ := range []string{"aws:kms/key:Nothing", "aws:kms/nothing:Key", "aws:nothing/key:Key", "kubernetes:core/v1:Pod", "aws:kms"} {
		_, err := s.Inputs(typ)
		assert.Error(t, err, typ)
	}
}
