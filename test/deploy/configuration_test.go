package deploy

import (
	"strings"
	"testing"

	"ephemos.dev/deploy/testbed/stack"
	"github.com/stretchr/testify/require"
)

// testBadConfiguration deploys with what a person may get wrong: each is refused with one clear message, and nothing is changed.
func testBadConfiguration(t *testing.T) {
	before := stateOf(t)
	for name, bad := range map[string]struct {
		overrides map[string]string
		message   []string // what the one message names: key, value, what is allowed
	}{
		"trust domain with a slash":      {map[string]string{"trustDomain": "local/company"}, []string{"ephemos:trustDomain", "local/company"}},
		"two servers, quorum of three":   {map[string]string{"serverReplicas": "2", "serverQuorum": "3"}, []string{"ephemos:serverQuorum", "3"}},
		"SVIDs too long for their CA":    {map[string]string{"x509SVIDTTL": "5h", "caTTL": "24h"}, []string{"ephemos:x509SVIDTTL", "5h", "4h"}},
		"unknown key":                    {map[string]string{"colour": "green"}, []string{"ephemos:colour"}},
		"kubeconfig that does not exist": {map[string]string{"kubeconfig": "/does/not/exist"}, []string{"ephemos:kubeconfig", "/does/not/exist"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := stack.Open(t.Context(), cluster, root, bad.overrides)
			require.NoError(t, err)
			_, err = s.Up(t.Context(), logWriter{t})
			require.Error(t, err)
			t.Log(err)
			for _, part := range bad.message {
				require.ErrorContains(t, err, part)
			}
			require.NotContains(t, err.Error(), "goroutine ", "no stack trace")
			messages := 0
			for line := range strings.Lines(err.Error()) {
				if strings.Contains(line, "ephemos:") {
					messages++
				}
			}
			require.Equal(t, 1, messages, "one message:\n%s", err)
			require.Equal(t, before, stateOf(t), "the stack's resources are what they were")
		})
	}
}
