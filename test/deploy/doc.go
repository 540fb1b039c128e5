// Package deploy tests the local stack as it runs: it brings up a testbed of its own, deploys the stack, and tries on it what a user,
// an attacker or a bad day would do. Every test waits for conditions, never for time, and leaves the stack as it found it.
//
// It needs root and uses the state directory $EPHEMOS_TEST_STATE (default: "ephemos-test" beside the testbed's own), so that a
// stack that somebody works with is left alone.
package deploy
