package main

import (
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/cmd/internal/waf"
)

func TestParseConfigDefaults(t *testing.T) {
	c, err := ParseConfig(variables(nil))
	require.NoError(t, err)
	require.Equal(t, Config{
		Name: "gateway", Socket: "unix:///spiffe-workload-api/spire-agent.sock",
		UpstreamHost: "order.services.svc.cluster.local.", UpstreamPort: "8443",
		UpstreamID:  spiffeid.RequireFromString("spiffe://example.org/workload/order-service"),
		Routes:      Routes{{"/chain", "/chain"}},
		EdgeAddress: ":8443", PlainAddress: ":8080", EdgeReload: 10 * time.Second,
		Firewall:    waf.Options{ParanoiaLevel: 1, Threshold: 5, BodyLimit: 65536, Concurrency: 4},
		HeaderLimit: 16384, HeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: time.Minute,
		Rate: 20, Burst: 40, Clients: 16384, InFlight: 128, InFlightPerClient: 32, Connections: 1024, ConnectionsPerClient: 64,
		AttemptTimeout: time.Second, CallTimeout: 8 * time.Second, Attempts: 3, Cooldown: 2 * time.Second, Refresh: time.Second,
		DrainDelay: 5 * time.Second, ShutdownTimeout: 10 * time.Second,
	}, c)
	require.Equal(t, 28*time.Second, c.writeTimeout(), "an answer may take as long as the request, the call and its own way")
}

func TestParseConfigTakesWhatIsSet(t *testing.T) {
	c, err := ParseConfig(variables(map[string]string{
		"ROUTES": "/chain=/chain, /api/=/v1/", "EDGE_CERT_FILE": "/tls/tls.crt", "EDGE_KEY_FILE": "/tls/tls.key",
		"ALLOWED_METHODS": "GET, DELETE", "PARANOIA_LEVEL": "3", "RATE_LIMIT": "0.5", "RATE_BURST": "2",
		"TRUSTED_PROXIES": "10.0.0.0/24, 2001:db8::/64", "EDGE_HEALTH_PATH": "/healthz",
	}))
	require.NoError(t, err)
	require.Equal(t, Routes{{"/chain", "/chain"}, {"/api/", "/v1/"}}, c.Routes)
	require.Equal(t, "/tls/tls.crt", c.EdgeCertFile)
	require.Equal(t, []string{http.MethodGet, http.MethodDelete}, c.Firewall.Methods)
	require.Equal(t, 3, c.Firewall.ParanoiaLevel)
	require.InDelta(t, 0.5, c.Rate, 0)
	require.Equal(t, 2, c.Burst)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8::/64")}, c.TrustedProxies)
	require.Equal(t, "/healthz", c.HealthPath)
}

func TestParseConfigReportsAllErrorsAtOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		env  map[string]string
		want []string // one for each line, in any order
	}{
		{"what is required is missing", map[string]string{
			"SPIFFE_ENDPOINT_SOCKET": "", "UPSTREAM_ADDRESS": "", "UPSTREAM_ID": "", "ROUTES": "",
		}, []string{"SPIFFE_ENDPOINT_SOCKET", "UPSTREAM_ADDRESS", "UPSTREAM_ID", "ROUTES"}},
		{"everything wrong", map[string]string{
			"GATEWAY_NAME": "Web Gateway", "SPIFFE_ENDPOINT_SOCKET": "/run/agent.sock", "UPSTREAM_ADDRESS": "order", "UPSTREAM_ID": "spiffe://example.org",
			"ROUTES": "/chain", "EDGE_ADDRESS": "8443", "PLAIN_ADDRESS": ":x", "EDGE_CERT_FILE": "tls.crt", "EDGE_KEY_FILE": "tls.key",
			"EDGE_RELOAD": "1", "PARANOIA_LEVEL": "5", "ANOMALY_THRESHOLD": "0", "ALLOWED_METHODS": "GET,get", "BODY_LIMIT": "10", "MAX_INSPECTIONS": "0",
			"HEADER_LIMIT": "x", "HEADER_TIMEOUT": "0s", "READ_TIMEOUT": "1h", "IDLE_TIMEOUT": "-1s", "RATE_LIMIT": "NaN", "RATE_BURST": "0",
			"RATE_CLIENTS": "0", "MAX_IN_FLIGHT": "0", "MAX_IN_FLIGHT_PER_CLIENT": "0", "MAX_CONNECTIONS": "0", "MAX_CONNECTIONS_PER_CLIENT": "0",
			"ATTEMPT_TIMEOUT": "600", "CALL_TIMEOUT": "0s", "MAX_ATTEMPTS": "0", "ENDPOINT_COOLDOWN": "-1s", "DNS_REFRESH": "1h",
			"DRAIN_DELAY": "long", "SHUTDOWN_TIMEOUT": "1", "LOG_LEVEL": "loud", "TRUSTED_PROXIES": "10.0.0.1", "EDGE_HEALTH_PATH": "healthz",
		}, []string{
			"GATEWAY_NAME", "SPIFFE_ENDPOINT_SOCKET", "UPSTREAM_ADDRESS", "UPSTREAM_ID", "ROUTES", "EDGE_ADDRESS", "PLAIN_ADDRESS",
			"EDGE_CERT_FILE", "EDGE_KEY_FILE", "EDGE_RELOAD", "PARANOIA_LEVEL", "ANOMALY_THRESHOLD", "ALLOWED_METHODS", "BODY_LIMIT", "MAX_INSPECTIONS",
			"HEADER_LIMIT", "HEADER_TIMEOUT", "READ_TIMEOUT", "IDLE_TIMEOUT", "RATE_LIMIT", "RATE_BURST", "RATE_CLIENTS", "MAX_IN_FLIGHT",
			"MAX_IN_FLIGHT_PER_CLIENT", "MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_CLIENT", "ATTEMPT_TIMEOUT", "CALL_TIMEOUT", "MAX_ATTEMPTS",
			"ENDPOINT_COOLDOWN", "DNS_REFRESH", "DRAIN_DELAY", "SHUTDOWN_TIMEOUT", "LOG_LEVEL", "TRUSTED_PROXIES", "EDGE_HEALTH_PATH",
		}},
		{"a key without a certificate", map[string]string{"EDGE_KEY_FILE": "/tls/tls.key"}, []string{"EDGE_KEY_FILE"}},
		{"a certificate without a key", map[string]string{"EDGE_CERT_FILE": "/tls/tls.crt"}, []string{"EDGE_KEY_FILE"}},
		{"everybody is a proxy", map[string]string{"TRUSTED_PROXIES": "10.0.0.0/24,0.0.0.0/0"}, []string{"TRUSTED_PROXIES"}},
		{"a provider of IPv6 is a proxy", map[string]string{"TRUSTED_PROXIES": "10.0.0.0/24,2000::/8"}, []string{"TRUSTED_PROXIES"}},
		{"a range with more than its prefix", map[string]string{"TRUSTED_PROXIES": "10.0.0.1/24"}, []string{"TRUSTED_PROXIES"}},
		{"a health path that is passed on", map[string]string{"EDGE_HEALTH_PATH": "/chain"}, []string{"EDGE_HEALTH_PATH"}},
		{"an attempt longer than the call", map[string]string{"ATTEMPT_TIMEOUT": "9s"}, []string{"ATTEMPT_TIMEOUT"}},
		{"a head longer than the request", map[string]string{"HEADER_TIMEOUT": "16s"}, []string{"HEADER_TIMEOUT"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := variables(c.env)
			_, err := ParseConfig(env)
			require.Error(t, err)
			var got []string
			for line := range strings.SplitSeq(err.Error(), "\n") {
				key, rest, _ := strings.Cut(line, ": ")
				got = append(got, key)
				value, _ := env(key)
				require.Contains(t, rest, `"`+value+`"`, "the value is named")
				require.Contains(t, rest, "it must be ", "what is allowed is named")
			}
			require.ElementsMatch(t, c.want, got)
		})
	}
}

// FuzzParseConfig: what is accepted makes a gateway, and is within its bounds.
func FuzzParseConfig(f *testing.F) {
	f.Add("/chain=/chain", "20", "40", "GET,POST", "1", "1s", "order:8443", "/tls/tls.crt")
	f.Add("/api/=/v1/,/=/", "0", "1", "", "4", "600ms", "[::1]:1", "")
	f.Add("=,=", "1e400", "-1", "GET'\"", "0", "1h1h", ":", "relative")
	f.Fuzz(func(t *testing.T, routes, rate, burst, methods, level, timeout, upstream, file string) {
		env := variables(map[string]string{
			"ROUTES": routes, "RATE_LIMIT": rate, "RATE_BURST": burst, "ALLOWED_METHODS": methods, "PARANOIA_LEVEL": level,
			"CALL_TIMEOUT": timeout, "UPSTREAM_ADDRESS": upstream, "EDGE_CERT_FILE": file, "EDGE_KEY_FILE": file,
		})
		c, err := ParseConfig(env)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				require.Contains(t, line, "is not allowed: it must be ")
			}
			return
		}
		require.NoError(t, c.Firewall.Validate())
		require.NotEmpty(t, c.Routes)
		require.True(t, c.Rate >= 0 && c.Rate <= maxRate)
		require.Positive(t, c.Burst)
		require.LessOrEqual(t, c.AttemptTimeout, c.CallTimeout)
		require.NotEmpty(t, c.UpstreamHost)
		for _, r := range c.Routes {
			require.True(t, strings.HasPrefix(r.From, "/") && strings.HasPrefix(r.To, "/"))
		}
	})
}

func TestProgramRefusesWrongConfigurationAndArguments(t *testing.T) {
	for _, key := range []string{"SPIFFE_ENDPOINT_SOCKET", "UPSTREAM_ADDRESS", "UPSTREAM_ID", "ROUTES"} {
		t.Setenv(key, "")
		require.NoError(t, os.Unsetenv(key))
	}
	require.Equal(t, 2, run(nil))
	require.Equal(t, 2, run([]string{"serve"}))
}
