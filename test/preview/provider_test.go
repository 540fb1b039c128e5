package preview

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
)

const keyURN = "urn:pulumi:test::ephemos::aws:kms/key:Key::database"

func properties(t *testing.T, m resource.PropertyMap) *structpb.Struct {
	t.Helper()
	s, err := marshal(m)
	require.NoError(t, err)
	return s
}

func TestVersionIsThatOfTheSDK(t *testing.T) {
	info, err := awsStandIn(nil).GetPluginInfo(t.Context(), &emptypb.Empty{})
	require.NoError(t, err)
	assert.Equal(t, "6.83.2", info.GetVersion())
}

// What AWS computes is unknown; what the program gives is known, and a secret stays one.
func TestCreatePreviewsWithUnknownOutputs(t *testing.T) {
	response, err := awsStandIn(nil).Create(t.Context(), &pulumirpc.CreateRequest{Urn: keyURN, Preview: true, Properties: properties(t, resource.PropertyMap{
		"description": resource.NewProperty("for the database"), "policy": resource.MakeSecret(resource.NewProperty("{}")),
	})})
	require.NoError(t, err)
	assert.Empty(t, response.GetId())
	outputs, err := unmarshal(response.GetProperties())
	require.NoError(t, err)
	assert.Equal(t, "for the database", outputs["description"].StringValue())
	assert.True(t, outputs["policy"].IsSecret())
	assert.True(t, outputs["arn"].IsComputed())
	assert.True(t, outputs["keyId"].IsComputed())
}

func TestEverythingButAPreviewIsRefused(t *testing.T) {
	s := awsStandIn(nil)
	_, err := s.Create(t.Context(), &pulumirpc.CreateRequest{Urn: keyURN})
	assert.ErrorContains(t, err, "the stand-in for the aws provider creates nothing")
	_, err = s.Update(t.Context(), &pulumirpc.UpdateRequest{Urn: keyURN})
	assert.ErrorContains(t, err, "changes nothing")
	_, err = s.Delete(t.Context(), &pulumirpc.DeleteRequest{Urn: keyURN})
	assert.ErrorContains(t, err, "deletes nothing")
	_, err = s.Read(t.Context(), &pulumirpc.ReadRequest{Urn: keyURN, Id: "key-1"})
	assert.ErrorContains(t, err, "cannot read aws:kms/key:Key key-1")
	_, err = s.Invoke(t.Context(), &pulumirpc.InvokeRequest{Tok: "aws:index/getCallerIdentity:getCallerIdentity"})
	assert.ErrorContains(t, err, "cannot answer the data source aws:index/getCallerIdentity:getCallerIdentity")
	_, err = s.Call(t.Context(), &pulumirpc.CallRequest{Tok: "x"})
	assert.ErrorContains(t, err, "cannot answer the call x")
	_, err = s.Create(t.Context(), &pulumirpc.CreateRequest{Urn: "urn:pulumi:test::ephemos::aws:braket/job:Job::x", Preview: true})
	assert.ErrorContains(t, err, "no answer for this type")
}

func TestCheckAsksTheRules(t *testing.T) {
	s := awsStandIn(func(token, name string, inputs resource.PropertyMap) []string {
		assert.Equal(t, "aws:kms/key:Key", token)
		assert.Equal(t, "database", name)
		if inputs["deletionWindowInDays"].NumberValue() < 7 {
			return []string{"deletionWindowInDays: at least 7"}
		}
		return nil
	})
	for window, failures := range map[float64]int{3: 1, 7: 0} {
		response, err := s.Check(t.Context(), &pulumirpc.CheckRequest{Urn: keyURN, News: properties(t, resource.PropertyMap{"deletionWindowInDays": resource.NewProperty(window)})})
		require.NoError(t, err)
		assert.Len(t, response.GetFailures(), failures)
	}
}

func TestDiffSaysWhatChangesAndWhatReplaces(t *testing.T) {
	olds := resource.PropertyMap{"description": resource.NewProperty("a"), "keyUsage": resource.NewProperty("ENCRYPT_DECRYPT")}
	for name, test := range map[string]struct {
		news            resource.PropertyMap
		ignore          []string
		diffs, replaces []string
	}{
		"same":    {news: olds},
		"update":  {news: resource.PropertyMap{"description": resource.NewProperty("b"), "keyUsage": olds["keyUsage"]}, diffs: []string{"description"}},
		"ignored": {news: resource.PropertyMap{"description": resource.NewProperty("b"), "keyUsage": olds["keyUsage"]}, ignore: []string{"description"}},
		"replace": {news: resource.PropertyMap{"description": olds["description"], "keyUsage": resource.NewProperty("SIGN_VERIFY")},
			diffs: []string{"keyUsage"}, replaces: []string{"keyUsage"}},
		"unknown": {news: resource.PropertyMap{"description": resource.MakeComputed(resource.NewProperty("")), "keyUsage": olds["keyUsage"]}, diffs: []string{"description"}},
	} {
		t.Run(name, func(t *testing.T) {
			response, err := awsStandIn(nil).Diff(t.Context(), &pulumirpc.DiffRequest{
				Urn: keyURN, OldInputs: properties(t, olds), News: properties(t, test.news), IgnoreChanges: test.ignore,
			})
			require.NoError(t, err)
			assert.Equal(t, test.diffs, response.GetDiffs())
			assert.Equal(t, test.replaces, response.GetReplaces())
			assert.Equal(t, len(test.diffs) > 0, response.GetChanges() == pulumirpc.DiffResponse_DIFF_SOME)
		})
	}
}
