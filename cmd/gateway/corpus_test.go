package main

import (
	"context"
	"crypto/tls"
	"flag"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/cmd/internal/waf/corpus"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestCorpus sends requests that others wrote or recorded through whole gateways, TLS at the edge and mutual TLS behind, and
// prints what was detected and what was mistaken for an attack. That a firewall which does not work misses the floors is
// shown beside the firewall, where it can be broken.
//
// The recorded requests meet a gateway that allows their methods too: whether a request is mistaken for an attack is another
// question than whether an API has a method for it.
func TestCorpus(t *testing.T) {
	if raceDetector {
		t.Skip("the figures are the same under the race detector, and take minutes there")
	}
	written, err := corpus.RuleSet()
	require.NoError(t, err)
	recordings, err := corpus.Recordings(t.Context(), "../internal/waf/corpus/recorded")
	require.NoError(t, err)
	results := slices.Concat(
		sendAll(t, written, nil),
		sendAll(t, recordings, []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}),
	)
	report := corpus.Summarise(1, results)
	t.Logf("\n%s", report)
	t.Logf("claimed and missed: %v", report.Missed)
	t.Logf("refused and innocent or recorded: %v", report.Refused)
	require.NoError(t, report.Check())

	file := filepath.Join("testdata", "corpus.txt")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(report.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), report.String(), "if the change is wanted, run go test with -update")
}

func sendAll(t *testing.T, cases []corpus.Case, methods []string) []corpus.Result {
	t.Helper()
	w := start(t, options{answer: corpus.Upstream, config: func(c *Config) {
		c.Firewall.Methods = methods
		c.Routes = Routes{{"/", "/"}}
		c.AttemptTimeout, c.CallTimeout = 10*time.Second, 10*time.Second // a slow machine must not make two requests of one
	}})
	config := w.tls()
	config.NextProtos = []string{"http/1.1"}
	dial := func(ctx context.Context) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", w.edge)
	}
	results, err := corpus.Send(t.Context(), cases, dial)
	require.NoError(t, err)

	counts := map[corpus.Outcome]uint64{}
	for _, r := range results {
		counts[r.Outcome]++
	}
	require.Equal(t, w.stats().Requests.Blocked, counts[corpus.Blocked], "what clients saw is what was counted")
	require.Len(t, w.upstream.seen(), int(counts[corpus.Passed]), "and what reached the upstream")
	return results
}
