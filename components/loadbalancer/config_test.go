package loadbalancer

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func threeServers() Config {
	return Args{Namespace: "spire-server", Servers: 3}.WithDefaults().config()
}

func TestGolden(t *testing.T) {
	got, err := threeServers().Render()
	require.NoError(t, err)
	file := filepath.Join("testdata", "haproxy.cfg")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// haproxy returns the program: the one that EPHEMOS_HAPROXY names, else the
// one on the path.
func haproxy(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("EPHEMOS_HAPROXY"); path != "" {
		return path
	}
	path, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("EPHEMOS_HAPROXY is not set and haproxy is not on the path")
	}
	return path
}

// TestProgramAccepts passes the file through HAProxy's own check.
func TestProgramAccepts(t *testing.T) {
	program := haproxy(t)
	text, err := threeServers().Render()
	require.NoError(t, err)
	check := func(text string) (string, error) {
		file := filepath.Join(t.TempDir(), "haproxy.cfg")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		out, err := exec.CommandContext(t.Context(), program, "-c", "-f", file).CombinedOutput()
		return string(out), err
	}
	out, err := check(text)
	require.NoError(t, err, out)
	require.NotContains(t, out, "WARNING")
	require.NotContains(t, out, "ALERT")

	// The check notices a mistake, or it would show nothing.
	out, err = check(strings.Replace(text, "balance leastconn", "balance by-luck", 1))
	require.Error(t, err, out)
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"privileged port", func(c *Config) { c.Port = 443 }, []string{"port", "443", "1024"}},
		{"one port for two", func(c *Config) { c.StatsPort = c.Port }, []string{"statsPort", "8081"}},
		{"no connection", func(c *Config) { c.MaxConnections = 0 }, []string{"maxConnections"}},
		{"no server", func(c *Config) { c.Servers = nil }, []string{"servers", "at least one"}},
		{"server twice", func(c *Config) { c.Servers[1].Name = c.Servers[0].Name }, []string{"servers[1].name", "of its own"}},
		{"another directive", func(c *Config) { c.Servers[0].Host = "x:1\n    server y z" }, []string{"servers[0].host"}},
		{"another option", func(c *Config) { c.Servers[0].Name = "x check" }, []string{"servers[0].name"}},
		{"server port", func(c *Config) { c.Servers[2].Port = 0 }, []string{"servers[2].port"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := threeServers()
			c.change(&config)
			_, err := config.Render()
			require.Error(t, err)
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}
