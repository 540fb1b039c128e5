package waf

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/cmd/internal/waf/corpus"
)

var update = flag.Bool("update", false, "write the golden files anew")

// cases returns the corpus; with a step above 1 a part of it, every so many.
func cases(t *testing.T, step int) []corpus.Case {
	t.Helper()
	if raceDetector {
		t.Skip("the figures are the same under the race detector, and take minutes there")
	}
	all, err := corpus.RuleSet()
	require.NoError(t, err)
	recorded, err := corpus.Recordings(t.Context(), "corpus/recorded")
	require.NoError(t, err)
	var out []corpus.Case
	for i, c := range slices.Concat(all, recorded) {
		if i%step == 0 {
			out = append(out, c)
		}
	}
	return out
}

// report sends the cases through net/http's server and a firewall made of the directives.
//
// The recorded requests meet one that allows their methods too: whether a request is mistaken for an attack is another
// question than whether the API behind a gateway has a method for it.
func report(t *testing.T, o Options, all []corpus.Case, change func(directives string) string) corpus.Report {
	t.Helper()
	results := through(t, o, corpus.Select(all, corpus.Attack, corpus.Negative, corpus.Innocent), change)
	o.Methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
	return corpus.Summarise(o.withDefaults().ParanoiaLevel, slices.Concat(results, through(t, o, corpus.Select(all, corpus.Recorded), change)))
}

func through(t *testing.T, o Options, some []corpus.Case, change func(directives string) string) []corpus.Result {
	t.Helper()
	o = o.withDefaults()
	firewall, err := build(o, change(o.directives()), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(firewall.Handler(corpus.Upstream))
	server.Config.ReadTimeout = 5 * time.Second
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Config.DisableGeneralOptionsHandler = true
	server.Start()
	defer server.Close()
	results, err := corpus.Send(t.Context(), some, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
	})
	require.NoError(t, err)

	var blocked, passed uint64
	for _, r := range results {
		switch r.Outcome {
		case corpus.Blocked:
			blocked++
		case corpus.Passed:
			passed++
		}
	}
	require.Equal(t, blocked, firewall.Counts().Blocked, "what callers saw is what was counted")
	require.Equal(t, passed, firewall.Counts().Allowed)
	return results
}

func unchanged(directives string) string { return directives }

func replace(t *testing.T, old, new string) func(string) string {
	return func(directives string) string {
		require.Contains(t, directives, old)
		return strings.Replace(directives, old, new, 1)
	}
}

// TestABrokenFirewallIsNoticed: what is measured of the real firewall is beyond the reach of one that does not work. A part
// of the corpus is enough to tell; the gateway's test sends all of it.
func TestABrokenFirewallIsNoticed(t *testing.T) {
	some := cases(t, 2)
	require.NoError(t, report(t, Options{}, some, unchanged).Check())
	for _, c := range []struct {
		name   string
		change func(string) string
		want   []string // floors and ceilings that are missed
	}{
		{"it detects only", replace(t, "SecRuleEngine On", "SecRuleEngine DetectionOnly"),
			[]string{"attacks detected", "claimed attacks with a body detected", "claimed attacks detected: SQL injection"}},
		{"it has no rules", replace(t, "Include @owasp_crs/REQUEST-*.conf", ""),
			[]string{"attacks detected", "claimed attacks with a body detected", "claimed attacks detected: SQL injection"}},
		{"it does not look into bodies", replace(t, "SecRequestBodyAccess On", "SecRequestBodyAccess Off"),
			[]string{"claimed attacks detected", "claimed attacks with a body detected", "claimed attacks detected: SQL injection"}},
		{"one class of its rules is missing", replace(t, "Include @owasp_crs/REQUEST-*.conf",
			"Include @owasp_crs/REQUEST-*.conf\nSecRuleRemoveByTag attack-xss"), []string{"claimed attacks detected: cross-site scripting"}},
		{"its threshold is out of reach", replace(t, "tx.inbound_anomaly_score_threshold=5", "tx.inbound_anomaly_score_threshold=100"),
			[]string{"attacks detected"}},
		{"it refuses what it should not", replace(t, "tx.blocking_paranoia_level=1", "tx.blocking_paranoia_level=4"),
			[]string{"recorded requests stopped", "requests described as innocent stopped"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := report(t, Options{}, some, c.change).Check()
			require.Error(t, err)
			t.Log(err)
			for _, want := range c.want {
				require.ErrorContains(t, err, want+": ")
			}
		})
	}
}

// TestParanoiaLevels prints what each level finds and what it costs.
func TestParanoiaLevels(t *testing.T) {
	all := cases(t, 1)
	var table strings.Builder
	fmt.Fprintf(&table, "%-15s %16s %20s %22s %22s\n", "PARANOIA LEVEL", "ATTACKS DETECTED", "OF THOSE CLAIMED", "RECORDED REQUESTS", "DESCRIBED AS INNOCENT")
	for level := 1; level <= 4; level++ {
		r := report(t, Options{ParanoiaLevel: level}, all, unchanged)
		attacks, claimed := corpus.Total(r.Attacks), corpus.Total(r.Claimed)
		recorded, innocent := r.Others[corpus.Recorded], r.Others[corpus.Innocent]
		fmt.Fprintf(&table, "%-15d %15.1f%% %8d of %d %5.1f%% %12.1f%% stopped %13.1f%% stopped\n", level, 100*attacks.Rate(),
			claimed.Blocked+claimed.Refused, claimed.Requests, 100*claimed.Rate(), 100*recorded.Rate(), 100*innocent.Rate())
		require.Greater(t, claimed.Rate(), 0.99, "level %d", level)
	}
	t.Log("\n" + table.String())
	golden(t, "levels.txt", table.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "if the change is wanted, run go test with -update")
}
