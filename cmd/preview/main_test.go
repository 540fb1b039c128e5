package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRefuses(t *testing.T) {
	t.Chdir("../..")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no stack":            {nil, "wants the name of one stack"},
		"unknown stack":       {[]string{"nowhere"}, "Pulumi.nowhere.yaml"},
		"malformed flag":      {[]string{"-config", "x", "local"}, "must be key=value"},
		"kubernetes provider": {[]string{"-kubernetes", "none", "local"}, `"none" is refused: auto, real or stand-in`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			assert.ErrorContains(t, run(t.Context(), test.args, &out, &out), test.want)
			assert.Empty(t, out.String())
		})
	}
}
