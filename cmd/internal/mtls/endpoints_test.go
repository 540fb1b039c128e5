package mtls

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// answers is a resolver whose answer the test sets.
type answers struct {
	addresses []string
	err       error
}

func (a *answers) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range a.addresses {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, a.err
}

func testEndpoints(a *answers) (*endpoints, *time.Time) {
	now := time.Unix(1000, 0)
	e := newEndpoints("user", "8443", a, time.Second, 2*time.Second, slog.New(slog.DiscardHandler))
	e.now = func() time.Time { return now }
	return e, &now
}

func TestCandidatesRotateAmongHealthyEndpoints(t *testing.T) {
	e, _ := testEndpoints(&answers{addresses: []string{"10.0.0.2", "10.0.0.1", "::ffff:10.0.0.3"}})
	require.Empty(t, e.candidates())
	require.NoError(t, e.lookup(t.Context()))
	require.Equal(t, []string{"10.0.0.1:8443", "10.0.0.2:8443", "10.0.0.3:8443"}, e.candidates())
	require.Equal(t, []string{"10.0.0.2:8443", "10.0.0.3:8443", "10.0.0.1:8443"}, e.candidates())
}

func TestCooldownPutsAnEndpointLastAndDoubles(t *testing.T) {
	e, now := testEndpoints(&answers{addresses: []string{"10.0.0.1", "10.0.0.2"}})
	require.NoError(t, e.lookup(t.Context()))
	const bad = "10.0.0.1:8443"
	last := func() string { c := e.candidates(); return c[len(c)-1] }

	for i, cooldown := range []time.Duration{2, 4, 8, 16, 16, 16} {
		e.failed(bad)
		*now = now.Add(cooldown*time.Second - 1)
		require.Equal(t, bad, last(), "failure %d", i+1)
		require.Equal(t, bad, last(), "failure %d, next call", i+1)
		*now = now.Add(1)
		require.NotEqual(t, last(), last(), "failure %d: both take turns after the cooldown", i+1)
	}
	e.failed(bad)
	e.answered(bad)
	require.NotEqual(t, last(), last(), "an answer ends the cooldown")
	e.failed(bad)
	*now = now.Add(2 * time.Second)
	require.NotEqual(t, last(), last(), "and the doubling")
}

func TestWhenAllHaveFailedTheOneDueSoonestIsFirst(t *testing.T) {
	e, now := testEndpoints(&answers{addresses: []string{"10.0.0.1", "10.0.0.2"}})
	require.NoError(t, e.lookup(t.Context()))
	e.failed("10.0.0.2:8443")
	*now = now.Add(time.Second)
	e.failed("10.0.0.1:8443")
	require.Equal(t, []string{"10.0.0.2:8443", "10.0.0.1:8443"}, e.candidates())
}

func TestLookupFailureKeepsTheLastGoodAnswer(t *testing.T) {
	a := &answers{addresses: []string{"10.0.0.1"}}
	e, _ := testEndpoints(a)
	require.NoError(t, e.lookup(t.Context()))
	for _, broken := range []answers{{err: errors.New("i/o timeout")}, {}} {
		*a = broken
		require.Error(t, e.lookup(t.Context()))
		require.Equal(t, []string{"10.0.0.1:8443"}, e.candidates())
	}
	*a = answers{addresses: []string{"10.0.0.9"}}
	require.NoError(t, e.lookup(t.Context()))
	require.Equal(t, []string{"10.0.0.9:8443"}, e.candidates(), "an endpoint that has left is forgotten")
}

func TestLookupKeepsCooldowns(t *testing.T) {
	e, _ := testEndpoints(&answers{addresses: []string{"10.0.0.1", "10.0.0.2"}})
	require.NoError(t, e.lookup(t.Context()))
	e.failed("10.0.0.1:8443")
	require.NoError(t, e.lookup(t.Context()))
	require.Equal(t, []string{"10.0.0.2:8443", "10.0.0.1:8443"}, e.candidates())
}
