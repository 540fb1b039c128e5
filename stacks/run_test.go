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

func TestReadConfigCopiesEveryKey(t *testing.T) {
	config := map[string]string{}
	ReadConfig(config)(&pulumi.RunInfo{Config: map[string]string{"ephemos:nonsense": "1"}})
	assert.Equal(t, map[string]string{"ephemos:nonsense": "1"}, config)
}
