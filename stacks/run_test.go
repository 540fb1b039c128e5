package stacks

import (
	"errors"
	"fmt"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
)

func TestFlattenListsEachError(t *testing.T) {
	a, b, c := errors.New("a"), errors.New("b"), errors.New("c")
	assert.Equal(t, []error{a}, flatten(a))
	assert.Equal(t, []error{a, b, c}, flatten(errors.Join(a, ConfigErrors{b, c})))
	wrapped := fmt.Errorf("x: %w", a)
	assert.Equal(t, []error{wrapped}, flatten(wrapped))
}

// The CLI decrypts every value for the program and says which keys are secret.
func TestProgramWithholdsSecrets(t *testing.T) {
	config := map[string]string{}
	err := pulumi.RunErr(Program(config), pulumi.WithMocks(Namespace, "test", echo{}), func(info *pulumi.RunInfo) {
		info.Config = map[string]string{"ephemos:dbPassword": "hunter2", "ephemos:trustDomain": "hunter/2", "ephemos:protect": "yes"}
		info.ConfigSecretKeys = []string{"ephemos:dbPassword", "ephemos:trustDomain"}
		ReadConfig(config)(info)
	})
	assert.ErrorContains(t, err, "ephemos:dbPassword is refused")
	assert.ErrorContains(t, err, "ephemos:trustDomain: [secret] is refused")
	assert.ErrorContains(t, err, `ephemos:protect: "yes" is refused`)
	assert.NotContains(t, err.Error(), "hunter")
}

func TestReadConfigCopiesEveryKey(t *testing.T) {
	config := map[string]string{}
	ReadConfig(config)(&pulumi.RunInfo{Config: map[string]string{"ephemos:nonsense": "1"}})
	assert.Equal(t, map[string]string{"ephemos:nonsense": "1"}, config)
}
