package environment

import (
	"io/fs"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
)

const exampleID = "spiffe://example.org/workload/user-service"

var label = regexp.MustCompile(`^[a-z]+$`)

func only(value string) *Parser {
	return New(func(key string) (string, bool) { return value, key == "KEY" })
}

// The reads of the table below, in one shape.
var (
	text     = func(p *Parser) any { return p.Text("KEY", "fallback") }
	match    = func(p *Parser) any { return p.Match("KEY", "fallback", label, "a label") }
	required = func(p *Parser) any { return p.Required("KEY", "the name of the node") }
	duration = func(p *Parser) any { return p.Duration("KEY", time.Second, 10*time.Millisecond, time.Minute) }
	integer  = func(p *Parser) any { return p.Integer("KEY", 40, 1, 1e6) }
	rate     = func(p *Parser) any { return p.Rate("KEY", 20, 1e6, "requests") }
	level    = func(p *Parser) any { return p.Level("KEY") }
	address  = func(p *Parser) any { return p.Address("KEY", ":8443") }
	hostPort = func(p *Parser) any {
		host, port := p.HostPort("KEY", "next service", "order:8443")
		return [2]string{host, port}
	}
	socket      = func(p *Parser) any { return p.Socket("KEY") }
	id          = func(p *Parser) any { return p.ID("KEY", exampleID) }
	ids         = func(p *Parser) any { return p.IDs("KEY", exampleID) }
	trustDomain = func(p *Parser) any { return p.TrustDomain("KEY") }
)

func TestValues(t *testing.T) {
	a, b := spiffeid.RequireFromString("spiffe://example.org/a"), spiffeid.RequireFromString("spiffe://example.org/b")
	for _, c := range []struct {
		name  string
		read  func(*Parser) any
		value string
		want  any
	}{
		{"text", text, "DROP by %s", "DROP by %s"},
		{"no text", text, "", "fallback"},
		{"match", match, "gateway", "gateway"},
		{"no match", match, "", "fallback"},
		{"required", required, "node-a", "node-a"},
		{"duration", duration, "1m", time.Minute},
		{"shortest duration", duration, "10ms", 10 * time.Millisecond},
		{"no duration", duration, "", time.Second},
		{"integer", integer, "1", 1},
		{"largest integer", integer, "1000000", 1_000_000},
		{"no integer", integer, "", 40},
		{"rate", rate, "0.5", 0.5},
		{"rate of nothing", rate, "0", 0.0},
		{"highest rate", rate, "1e6", 1e6},
		{"no rate", rate, "", 20.0},
		{"debug", level, "debug", slog.LevelDebug},
		{"INFO", level, "INFO", slog.LevelInfo},
		{"Warn", level, "Warn", slog.LevelWarn},
		{"error", level, "error", slog.LevelError},
		{"no level", level, "", slog.LevelInfo},
		{"address", address, "127.0.0.1:80", "127.0.0.1:80"},
		{"any free port", address, ":0", ":0"},
		{"no address", address, "", ":8443"},
		{"host and port", hostPort, "order:8443", [2]string{"order", "8443"}},
		{"IPv6 address and port", hostPort, "[::1]:1", [2]string{"::1", "1"}},
		{"socket", socket, "unix:///s", "unix:///s"},
		{"SPIFFE ID", id, "spiffe://example.org/a", a},
		{"SPIFFE IDs", ids, "spiffe://example.org/a, spiffe://example.org/b", []spiffeid.ID{a, b}},
		{"no SPIFFE IDs", ids, "", []spiffeid.ID(nil)},
		{"trust domain", trustDomain, "example.org", spiffeid.RequireTrustDomainFromString("example.org")},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := only(c.value)
			require.Equal(t, c.want, c.read(p))
			require.NoError(t, p.Err())
		})
	}
}

func TestMistakes(t *testing.T) {
	const (
		aDuration = "a duration from 10ms to 1m0s, such as 1s"
		anInteger = "a whole number from 1 to 1000000"
		aRate     = "a number of requests a second from 0 to 1e+06"
		anAddress = "host:port or :port, such as :8443"
		aHostPort = "host:port of the next service, such as order:8443"
		aSocket   = "the URI of the Workload API's socket, such as unix:///spiffe-workload-api/spire-agent.sock"
		anID      = "a SPIFFE ID with a path, such as " + exampleID
		aDomain   = "the name of a trust domain, such as example.org"
	)
	for _, c := range []struct {
		name    string
		read    func(*Parser) any
		value   string
		allowed string
	}{
		{"no match", match, "Web Gateway", "a label"},
		{"required and missing", required, "", "the name of the node"},
		{"duration without a unit", duration, "600", aDuration},
		{"duration too short", duration, "0s", aDuration},
		{"duration too long", duration, "1h1h", aDuration},
		{"integer of letters", integer, "many", anInteger},
		{"integer too small", integer, "0", anInteger},
		{"integer too large", integer, "1000001", anInteger},
		{"integer with a fraction", integer, "1.5", anInteger},
		{"rate beyond all numbers", rate, "1e400", aRate},
		{"rate that is none", rate, "NaN", aRate},
		{"negative rate", rate, "-1", aRate},
		{"level", level, "loud", "debug, info, warn or error"},
		{"level between two", level, "info+2", "debug, info, warn or error"},
		{"address without a colon", address, "8443", anAddress},
		{"address without a number", address, ":x", anAddress},
		{"address with a port too high", address, ":65536", anAddress},
		{"server missing", hostPort, "", aHostPort},
		{"server without a port", hostPort, "order", aHostPort},
		{"server without a host", hostPort, ":8443", aHostPort},
		{"server at any free port", hostPort, "order:0", aHostPort},
		{"socket missing", socket, "", aSocket},
		{"socket without a scheme", socket, "/run/agent.sock", aSocket},
		{"socket without a path", socket, "unix://agent.sock", aSocket},
		{"SPIFFE ID missing", id, "", anID},
		{"SPIFFE ID without a path", id, "spiffe://example.org", anID},
		{"trust domain missing", trustDomain, "", aDomain},
		{"SPIFFE ID for a trust domain", trustDomain, "spiffe://example.org", aDomain},
		{"what would be a format or a line", level, "%s\n", "debug, info, warn or error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := only(c.value)
			c.read(p)
			quoted := strings.ReplaceAll(c.value, "\n", `\n`)
			require.EqualError(t, p.Err(), `KEY: "`+quoted+`" is not allowed: it must be `+c.allowed)
		})
	}
}

func TestAfterAMistakeTheFallbackIsReturned(t *testing.T) {
	for want, read := range map[any]func(*Parser) any{time.Second: duration, 40: integer, 20.0: rate, slog.LevelInfo: level} {
		require.Equal(t, want, read(only("x")))
	}
}

func TestErrHasAllMistakesInTheOrderOfTheReads(t *testing.T) {
	values := map[string]string{"IDS": "x, spiffe://example.org/a,", "NUMBER": "-1", "EMPTY": "", "LEVEL": "warn"}
	p := New(func(key string) (string, bool) { v, set := values[key]; return v, set })
	require.Len(t, p.IDs("IDS", exampleID), 3)
	require.Equal(t, 5, p.Integer("NUMBER", 5, 0, 9))
	require.Equal(t, 5, p.Integer("EMPTY", 5, 0, 9))
	require.Equal(t, slog.LevelWarn, p.Level("LEVEL"))
	p.Fail("FILE", "/none", "the %s of a model: %w", "path", fs.ErrNotExist)
	require.EqualError(t, p.Err(), strings.Join([]string{
		`IDS: "x" is not allowed: it must be a SPIFFE ID with a path, such as ` + exampleID,
		`IDS: "" is not allowed: it must be a SPIFFE ID with a path, such as ` + exampleID,
		`NUMBER: "-1" is not allowed: it must be a whole number from 0 to 9`,
		`FILE: "/none" is not allowed: it must be the path of a model: file does not exist`,
	}, "\n"))
	require.ErrorIs(t, p.Err(), fs.ErrNotExist, "a cause is kept")
}

// FuzzParser: what is accepted is within its bounds, and each mistake takes one line. always says that the bounds hold for what is
// returned after a mistake, too. The seeds are the gateway's, and one for each kind of value.
func FuzzParser(f *testing.F) {
	for _, seed := range []string{
		"", "20", "0", "1e400", "40", "1", "-1", "4", "1s", "600ms", "1h1h", "order:8443", "[::1]:1", ":", "GET'\"", "relative",
		"unix:///s", "debug", "spiffe://example.org/a", "spiffe://example.org/a,spiffe://example.org/b", "example.org",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		check := func(read func(*Parser) any, sound func(any) bool, always bool) {
			p := only(value)
			got := read(p)
			if err := p.Err(); err != nil {
				for line := range strings.SplitSeq(err.Error(), "\n") {
					require.Regexp(t, `^KEY: ".*" is not allowed: it must be `, line)
				}
				if !always {
					return
				}
			}
			require.True(t, sound(got), "%v", got)
		}
		check(text, func(v any) bool { return v != "" }, true)
		check(match, func(v any) bool { return label.MatchString(v.(string)) }, false)
		check(required, func(v any) bool { return v != "" }, false)
		check(duration, func(v any) bool { return v.(time.Duration) >= 10*time.Millisecond && v.(time.Duration) <= time.Minute }, true)
		check(integer, func(v any) bool { return v.(int) >= 1 && v.(int) <= 1e6 }, true)
		check(rate, func(v any) bool { return v.(float64) >= 0 && v.(float64) <= 1e6 }, true)
		check(level, func(v any) bool { return v.(slog.Level)%4 == 0 }, true)
		check(address, func(v any) bool { return strings.Contains(v.(string), ":") }, false)
		check(hostPort, func(v any) bool { s := v.([2]string); return s[0] != "" && s[1] != "" && s[1] != "0" }, false)
		check(socket, func(v any) bool { return strings.HasPrefix(v.(string), "unix:///") }, false)
		check(id, func(v any) bool { return v.(spiffeid.ID).Path() != "" }, false)
		check(ids, func(v any) bool { return (len(v.([]spiffeid.ID)) == 0) == (value == "") }, true)
		check(trustDomain, func(v any) bool { return v.(spiffeid.TrustDomain).Name() == value }, false)
	})
}
