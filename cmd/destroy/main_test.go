package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fake is a stack that notes what it is asked to delete.
type fake struct {
	profile string
	state   []apitype.ResourceV3
	fail    error
	asked   [][]string
	preview []bool
}

func (f *fake) Profile(context.Context) (string, error) { return f.profile, nil }

func (f *fake) Export(context.Context) ([]byte, error) {
	return json.Marshal(apitype.DeploymentV3{Resources: f.state})
}

func (f *fake) Destroy(_ context.Context, targets []string, preview bool, _ io.Writer) error {
	f.asked = append(f.asked, targets)
	f.preview = append(f.preview, preview)
	return f.fail
}

func urn(typ, name string) resource.URN {
	return resource.NewURN("prod", "ephemos", "", tokens.Type(typ), name)
}

func object(typ, name string, inputs map[string]any) apitype.ResourceV3 {
	return apitype.ResourceV3{URN: urn(typ, name), Type: tokens.Type(typ), Custom: true, Inputs: inputs}
}

func destroy(t *testing.T, f *fake, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), args, &out, func(_ context.Context, stack string) (engine, error) {
		assert.Equal(t, "prod", stack)
		return f, nil
	})
	return out.String(), err
}

func deployed(profile string) *fake {
	return &fake{profile: profile, state: []apitype.ResourceV3{
		object("aws:kms/key:Key", "database", map[string]any{"deletionWindowInDays": 30}),
		object("kubernetes:core/v1:Namespace", "apps", nil),
	}}
}

func TestTheClustersResourcesGoFirst(t *testing.T) {
	f := deployed("staging")
	out, err := destroy(t, f, "prod")
	require.NoError(t, err)
	assert.Equal(t, [][]string{{string(urn("kubernetes:core/v1:Namespace", "apps"))}, nil}, f.asked)
	assert.Equal(t, []bool{false, false}, f.preview)
	assert.Contains(t, out, "30 days")
}

func TestProductionAsksForItsName(t *testing.T) {
	for _, profile := range []string{"production", ""} {
		for _, args := range [][]string{{"prod"}, {"-confirm", "yes", "prod"}} {
			f := deployed(profile)
			out, err := destroy(t, f, args...)
			assert.ErrorContains(t, err, "CONFIRM=prod")
			assert.Empty(t, f.asked, "nothing is deleted")
			assert.Contains(t, out, "30 days", "what stays behind is said all the same")
		}
		f := deployed(profile)
		_, err := destroy(t, f, "-confirm", "prod", "prod")
		require.NoError(t, err)
		assert.Len(t, f.asked, 2)
	}
}

func TestWhatWouldFailHalfWayIsNotBegun(t *testing.T) {
	f := deployed("staging")
	f.state[0].Protect = true
	out, err := destroy(t, f, "prod")
	assert.ErrorContains(t, err, "1 resources refuse")
	assert.Empty(t, f.asked)
	assert.Contains(t, out, "is protected")
}

func TestPreviewDeletesNothingAndNeedsNoConfirmation(t *testing.T) {
	f := deployed("production")
	f.state[0].Protect = true
	_, err := destroy(t, f, "-preview", "prod")
	require.NoError(t, err)
	assert.Equal(t, []bool{true, true}, f.preview)
}

func TestAFailedFirstPhaseEndsIt(t *testing.T) {
	f := deployed("staging")
	f.fail = errors.New("no route to host")
	_, err := destroy(t, f, "prod")
	assert.ErrorContains(t, err, "nothing else was touched")
	assert.ErrorContains(t, err, "PULUMI_K8S_DELETE_UNREACHABLE")
	assert.Len(t, f.asked, 1)
}

func TestAnEmptyStackIsNoError(t *testing.T) {
	f := &fake{}
	out, err := destroy(t, f, "prod")
	require.NoError(t, err)
	assert.Contains(t, out, "has no resources")
	assert.Empty(t, f.asked)
	_, err = destroy(t, f)
	assert.ErrorContains(t, err, "wants the name of one stack")
}
