package main

import (
	"encoding/json"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/zones"
)

func variables(values map[string]string) func(string) (string, bool) {
	return func(key string) (string, bool) { v, ok := values[key]; return v, ok }
}

// files reads from a table.
func files(content map[string]string) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if text, ok := content[name]; ok {
			return []byte(text), nil
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
}

func modelJSON(t *testing.T, change func(*zones.Model)) string {
	t.Helper()
	m := zones.Standard(zones.Options{})
	if change != nil {
		change(&m)
	}
	text, err := json.Marshal(m)
	require.NoError(t, err)
	return string(text)
}

func TestParseConfigDefaults(t *testing.T) {
	c, err := ParseConfig(variables(map[string]string{"NODE_NAME": "node-a", "TRUST_DOMAIN": "example.org"}),
		files(map[string]string{defaultModelFile: modelJSON(t, nil)}))
	require.NoError(t, err)
	require.Equal(t, Config{
		Node: "node-a", TrustDomain: spiffeid.RequireTrustDomainFromString("example.org"), Model: zones.Standard(zones.Options{}),
		Address: ":9990", Group: 100, IgnorePrefix: "DROP by policy", Window: time.Minute, ScanThreshold: 8,
		MaxConnections: 4096, MaxSources: 1024, MaxEvents: 50, LogLevel: slog.LevelInfo,
	}, c)
}

func TestParseConfigReportsAllErrorsAtOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		env  map[string]string
		file string
		want []string // the beginning of a line each
	}{
		{"nothing set", nil, modelJSON(t, nil), []string{"NODE_NAME", "TRUST_DOMAIN"}},
		{"everything wrong", map[string]string{
			"NODE_NAME": "a", "TRUST_DOMAIN": "spiffe://example.org", "MODEL_FILE": "model.json", "LISTEN_ADDRESS": "9990", "NFLOG_GROUP": "65536",
			"WINDOW": "2h", "SCAN_THRESHOLD": "1", "MAX_CONNECTIONS": "0", "MAX_SOURCES": "many", "MAX_EVENTS": "-1", "LOG_LEVEL": "loud",
		}, "", []string{"TRUST_DOMAIN", "MODEL_FILE", "LISTEN_ADDRESS", "NFLOG_GROUP", "WINDOW", "SCAN_THRESHOLD", "MAX_CONNECTIONS",
			"MAX_SOURCES", "MAX_EVENTS", "LOG_LEVEL"}},
		{"no model", map[string]string{"NODE_NAME": "a", "TRUST_DOMAIN": "example.org", "MODEL_FILE": "/none"}, "", []string{"MODEL_FILE"}},
		{"not a model", map[string]string{"NODE_NAME": "a", "TRUST_DOMAIN": "example.org"}, `{"Zone":[]}`, []string{"MODEL_FILE"}},
		{"an invalid model", map[string]string{"NODE_NAME": "a", "TRUST_DOMAIN": "example.org"},
			modelJSON(t, func(m *zones.Model) { m.Flows[0].Why = "" }), []string{"MODEL_FILE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseConfig(variables(c.env), files(map[string]string{defaultModelFile: c.file}))
			require.Error(t, err)
			var got []string
			for text := range strings.SplitSeq(err.Error(), "\n") {
				key, rest, _ := strings.Cut(text, ": ")
				got = append(got, key)
				require.Contains(t, rest, `"`+c.env[key], "the value is named")
				require.Contains(t, rest, "it must be ", "what is allowed is named")
			}
			require.Equal(t, c.want, got)
		})
	}
}
