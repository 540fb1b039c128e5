package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ephemos.dev/deploy/stacks/status"
	"github.com/stretchr/testify/require"
)

// callCount is the state of the calls that the payment pods make all the time, taken at one moment, by pod.
type callCount map[string]status.Service

func countCalls(t *testing.T) callCount {
	t.Helper()
	count := callCount{}
	for _, s := range client.Read(t.Context()).Services {
		if strings.HasPrefix(s.Pod, "payment-") {
			count[s.Pod] = s
		}
	}
	require.NotEmpty(t, count, "no payment pod")
	return count
}

// requireNoFailedCall checks that calls went on since before and that none failed. Every payment pod of then must have lived
// through it, but for those on a lost node; pods that were started since count from zero.
func requireNoFailedCall(t *testing.T, before callCount, lostNode ...string) {
	t.Helper()
	after := countCalls(t)
	for pod, was := range before {
		if now := after[pod]; !slices.Contains(lostNode, was.Node) {
			require.Truef(t, now.Stats.Started.Equal(was.Stats.Started), "%s was there before and is gone, silent or restarted: %+v", pod, now)
		}
	}
	var ok, retried uint64
	for pod, now := range after {
		if !now.Ready && slices.Contains(lostNode, now.Node) {
			continue
		}
		was := before[pod].Stats
		if !was.Started.Equal(now.Stats.Started) {
			was = status.Stats{}
		}
		made := now.Stats.Calls.OK - was.Calls.OK
		bad := now.Stats.Calls.Failed + now.Stats.Calls.Denied - was.Calls.Failed - was.Calls.Denied
		require.Zerof(t, bad, "%s: %d of %d calls failed, the last with: %s", pod, bad, made+bad, now.Stats.LastError)
		ok, retried = ok+made, retried+now.Stats.Calls.Retried-was.Calls.Retried
	}
	require.NotZero(t, ok, "no call was made")
	t.Logf("calls: %d ok, 0 failed, %d further attempts", ok, retried)
}

func testStatus(t *testing.T) {
	healthy(t, 2*time.Minute)
	before := client.Read(t.Context())
	require.Empty(t, before.Errors)
	require.Len(t, before.Servers, 3)
	require.Len(t, before.Database, 3)
	synchronous := 0
	for _, i := range before.Database {
		if i.Synchronous() {
			synchronous++
		}
	}
	require.NotZero(t, synchronous)
	require.Equal(t, 3, before.Agents)
	services := map[string]bool{}
	for _, s := range before.Services {
		services[s.Stats.Service] = true
		require.InDelta(t, 3600, s.Stats.TTL, 60, "%s: lifetime of its SVID in seconds", s.Pod)
	}
	require.Equal(t, map[string]bool{"payment": true, "user": true, "order": true, "web-gateway": true, "api-gateway": true}, services)
	start := countCalls(t)
	eventually(t, 10*time.Second, "more successful calls in every payment pod", func(context.Context) error {
		for pod, now := range countCalls(t) {
			if now.Stats.Calls.OK <= start[pod].Stats.Calls.OK {
				return fmt.Errorf("%s stands at %d", pod, now.Stats.Calls.OK)
			}
		}
		return nil
	})
	requireNoFailedCall(t, start)
	var table strings.Builder
	require.NoError(t, client.Read(t.Context()).Write(&table, time.Now()))
	t.Log(table.String())
}

func testNoChanges(t *testing.T) {
	s := deploy(t, nil)
	changes, err := s.Preview(t.Context(), logWriter{t})
	require.NoError(t, err)
	for op, n := range changes {
		require.Equalf(t, "same", op, "%d resources would %s", n, op)
	}
	changes, err = s.Up(t.Context(), logWriter{t})
	require.NoError(t, err)
	require.NotZero(t, changes["same"])
	require.Len(t, changes, 1, "%v", changes)

	// main.go, run by the language host, is the same program.
	out, err := s.PreviewProgram(t.Context(), root)
	t.Log(out)
	require.NoError(t, err)

	state, err := s.Export(t.Context())
	require.NoError(t, err)
	require.NotContains(t, string(state), "PRIVATE KEY", "no key in the state")
}

func testDestroy(t *testing.T) {
	s := deploy(t, nil)
	_, err := s.Destroy(t.Context(), logWriter{t})
	require.NoError(t, err)
	left := leftovers(t)
	require.Empty(t, left, "destroy left objects that the README does not list")
}
