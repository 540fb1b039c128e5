package chain

import (
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
)

func env(values map[string]string) func(string) (string, bool) {
	return func(key string) (string, bool) { v, ok := values[key]; return v, ok }
}

func TestParseConfigDefaults(t *testing.T) {
	c, err := ParseConfig(Payment, env(map[string]string{
		"SPIFFE_ENDPOINT_SOCKET": "unix:///spiffe-workload-api/spire-agent.sock",
		"NEXT_ADDRESS":           "user.services.svc.cluster.local.:8443",
		"NEXT_ID":                "spiffe://example.org/workload/user-service",
	}))
	require.NoError(t, err)
	require.Equal(t, Config{
		Socket:   "unix:///spiffe-workload-api/spire-agent.sock",
		NextHost: "user.services.svc.cluster.local.", NextPort: "8443",
		NextID:      spiffeid.RequireFromString("spiffe://example.org/workload/user-service"),
		MTLSAddress: ":8443", PlainAddress: ":8080", CallRate: 5,
		AttemptTimeout: 600 * time.Millisecond, CallTimeout: 5 * time.Second, Cooldown: 2 * time.Second,
		Refresh: time.Second, DrainDelay: 5 * time.Second, ShutdownTimeout: 10 * time.Second,
	}, c)
}

func TestParseConfigCallers(t *testing.T) {
	c, err := ParseConfig(Order, env(map[string]string{
		"SPIFFE_ENDPOINT_SOCKET": "unix:///s", "ALLOWED_CALLERS": "spiffe://example.org/a, spiffe://example.org/b",
	}))
	require.NoError(t, err)
	require.Equal(t, []spiffeid.ID{
		spiffeid.RequireFromString("spiffe://example.org/a"), spiffeid.RequireFromString("spiffe://example.org/b"),
	}, c.Callers)
}

func TestParseConfigDataZone(t *testing.T) {
	c, err := ParseConfig(User, env(map[string]string{
		"SPIFFE_ENDPOINT_SOCKET": "unix:///s", "NEXT_ADDRESS": "x:1", "NEXT_ID": "spiffe://example.org/x",
		"CACHE_ADDRESS": "cache.data.svc.cluster.local.:6379", "CACHE_ID": "spiffe://example.org/data/cache",
	}))
	require.NoError(t, err)
	require.Equal(t, Server{
		Host: "cache.data.svc.cluster.local.", Port: "6379", ID: spiffeid.RequireFromString("spiffe://example.org/data/cache"),
	}, c.Cache)
	require.Equal(t, 25*time.Millisecond, c.CacheTimeout)
	require.Zero(t, c.Queue)
	c, err = ParseConfig(Order, env(map[string]string{
		"SPIFFE_ENDPOINT_SOCKET": "unix:///s", "QUEUE_ADDRESS": "queue:4222", "QUEUE_ID": "spiffe://example.org/data/queue",
	}))
	require.NoError(t, err)
	require.Equal(t, Server{Host: "queue", Port: "4222", ID: spiffeid.RequireFromString("spiffe://example.org/data/queue")}, c.Queue)
	require.Zero(t, c.Cache)
}

func TestParseConfigReportsAllErrorsAtOnce(t *testing.T) {
	for _, c := range []struct {
		name  string
		place Place
		env   map[string]string
		want  []string // one for each line, in any order
	}{
		{"nothing set", Payment, nil, []string{"SPIFFE_ENDPOINT_SOCKET", "NEXT_ADDRESS", "NEXT_ID"}},
		{"everything wrong", Payment, map[string]string{
			"SPIFFE_ENDPOINT_SOCKET": "/spiffe-workload-api/spire-agent.sock", "ALLOWED_CALLERS": "gateway",
			"NEXT_ADDRESS": "user", "NEXT_ID": "spiffe://example.org", "MTLS_ADDRESS": "8443", "PLAIN_ADDRESS": ":x",
			"CALL_RATE": "NaN", "ATTEMPT_TIMEOUT": "600", "CALL_TIMEOUT": "0s", "ENDPOINT_COOLDOWN": "-1s",
			"DNS_REFRESH": "1h", "DRAIN_DELAY": "long", "SHUTDOWN_TIMEOUT": "1", "LOG_LEVEL": "loud",
		}, []string{
			"SPIFFE_ENDPOINT_SOCKET", "ALLOWED_CALLERS", "NEXT_ADDRESS", "NEXT_ID", "MTLS_ADDRESS", "PLAIN_ADDRESS",
			"CALL_RATE", "ATTEMPT_TIMEOUT", "CALL_TIMEOUT", "ENDPOINT_COOLDOWN", "DNS_REFRESH", "DRAIN_DELAY",
			"SHUTDOWN_TIMEOUT", "LOG_LEVEL",
		}},
		{"what the end of the chain has no use for", Order, map[string]string{
			"SPIFFE_ENDPOINT_SOCKET": "unix:///s", "NEXT_ADDRESS": "x:1", "NEXT_ID": "spiffe://example.org/x", "CALL_RATE": "5",
			"CACHE_ADDRESS": "cache:6379", "CACHE_ID": "spiffe://example.org/data/cache", "CACHE_TIMEOUT": "1s",
		}, []string{"NEXT_ADDRESS", "NEXT_ID", "CALL_RATE", "CACHE_ADDRESS", "CACHE_ID", "CACHE_TIMEOUT"}},
		{"what the middle has no use for", User, map[string]string{
			"SPIFFE_ENDPOINT_SOCKET": "unix:///s", "NEXT_ADDRESS": "x:1", "NEXT_ID": "spiffe://example.org/x",
			"QUEUE_ADDRESS": "queue:4222", "QUEUE_ID": "spiffe://example.org/data/queue",
		}, []string{"QUEUE_ADDRESS", "QUEUE_ID"}},
		{"a cache that could be anybody", User, map[string]string{
			"SPIFFE_ENDPOINT_SOCKET": "unix:///s", "NEXT_ADDRESS": "x:1", "NEXT_ID": "spiffe://example.org/x", "CACHE_ADDRESS": "cache:6379",
			"CACHE_TIMEOUT": "1h",
		}, []string{"CACHE_ID", "CACHE_TIMEOUT"}},
		{"a queue that is nowhere", Order, map[string]string{
			"SPIFFE_ENDPOINT_SOCKET": "unix:///s", "QUEUE_ADDRESS": "queue", "QUEUE_ID": "spiffe://example.org/",
		}, []string{"QUEUE_ADDRESS", "QUEUE_ID"}},
		{"an attempt longer than the call", User, map[string]string{
			"SPIFFE_ENDPOINT_SOCKET": "unix:///s", "NEXT_ADDRESS": "x:1", "NEXT_ID": "spiffe://example.org/x",
			"ATTEMPT_TIMEOUT": "6s",
		}, []string{"ATTEMPT_TIMEOUT"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseConfig(c.place, env(c.env))
			require.Error(t, err)
			var got []string
			for line := range strings.SplitSeq(err.Error(), "\n") {
				key, rest, _ := strings.Cut(line, ": ")
				got = append(got, key)
				require.Contains(t, rest, `"`+c.env[key]+`"`, "the value is named")
				require.Contains(t, rest, "it must be ", "what is allowed is named")
			}
			require.ElementsMatch(t, c.want, got)
		})
	}
}
