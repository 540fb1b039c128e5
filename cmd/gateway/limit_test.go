package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClient(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:4711":            "192.0.2.7/32",
		"[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::]:80":  "2001:db8:1:2::/64",
		"[2001:db8:1:3::]:80":       "2001:db8:1:3::/64",
		"[::ffff:192.0.2.7]:80":     "192.0.2.7/32",
		"[fe80::1%eth0]:80":         "fe80::/64",
		"192.0.2.7":                 "192.0.2.7/32",
	} {
		require.Equal(t, netip.MustParsePrefix(want), client(remote), remote)
	}
	require.Equal(t, netip.Prefix{}, client("pipe"), "what has no address is one client")
}

func TestForwardedFor(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8::/64")}
	for _, c := range []struct {
		name, from string
		lines      []string
		want       string
	}{
		{"one address", "10.0.0.7:1", []string{"198.51.100.1"}, "198.51.100.1:0"},
		{"behind what the client claims", "10.0.0.7:1", []string{"10.0.0.9, 203.0.113.5,198.51.100.1"}, "198.51.100.1:0"},
		{"in the last of several headers", "10.0.0.7:1", []string{"203.0.113.5", "198.51.100.1"}, "198.51.100.1:0"},
		{"IPv6", "[2001:db8::7]:1", []string{"2001:db8:1::1"}, "[2001:db8:1::1]:0"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.7]:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1:0"},
		{"not from a proxy", "10.0.1.7:1", []string{"198.51.100.1"}, ""},
		{"nobody", "10.0.0.7:1", nil, ""},
		{"an empty header", "10.0.0.7:1", []string{""}, ""},
		{"an empty end", "10.0.0.7:1", []string{"198.51.100.1,"}, ""},
		{"a name", "10.0.0.7:1", []string{"localhost"}, ""},
		{"no address of a peer", "@", []string{"198.51.100.1"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, forwarded := forwardedFor(&http.Request{RemoteAddr: c.from, Header: http.Header{"X-Forwarded-For": c.lines}}, trusted)
			require.Equal(t, c.want, got)
			require.Equal(t, c.want != "", forwarded)
		})
	}
	_, forwarded := forwardedFor(&http.Request{RemoteAddr: "10.0.0.7:1", Header: http.Header{"X-Forwarded-For": {"198.51.100.1"}}}, nil)
	require.False(t, forwarded, "nobody is trusted who is not named")
}

func TestLimiter(t *testing.T) {
	a, b := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
	l := newLimiter(1e-6, 2, 10)
	require.Equal(t, []bool{true, true, false, false}, []bool{l.allow(a), l.allow(a), l.allow(a), l.allow(a)})
	require.True(t, l.allow(b), "one client does not use up another's")

	unlimited := newLimiter(0, 1, 10)
	for range 100 {
		require.True(t, unlimited.allow(a))
	}
	require.Empty(t, unlimited.known)
}

func TestLimiterForgetsWhomItSawLongestAgo(t *testing.T) {
	const capacity = 100
	l := newLimiter(1e-6, 1, capacity)
	address := func(i int) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("10.0.%d.%d/32", i/256, i%256)) }
	for i := range capacity {
		require.True(t, l.allow(address(i)))
	}
	require.False(t, l.allow(address(0)), "remembered, and the last seen now")
	for i := range 10 * capacity {
		l.allow(address(capacity + i))
		l.allow(address(0))
		require.LessOrEqual(t, len(l.known), capacity)
		require.Equal(t, len(l.known), l.recent.Len())
	}
	require.False(t, l.allow(address(0)), "who keeps coming is not forgotten")
	require.True(t, l.allow(address(1)), "who stays away is")
}

func TestShare(t *testing.T) {
	a, b := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
	s := newShare(3, 2)
	require.True(t, s.enter(a))
	require.True(t, s.enter(a))
	require.False(t, s.enter(a), "more than a client's share")
	require.True(t, s.enter(b))
	require.False(t, s.enter(b), "more than all")
	s.leave(a)
	require.True(t, s.enter(b))
	s.leave(a)
	s.leave(b)
	s.leave(b)
	require.Empty(t, s.open, "nothing is kept of who has left")
	require.Zero(t, s.sum)

	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 1000 {
				if s.enter(a) {
					s.leave(a)
				}
			}
		})
	}
	running.Wait()
	require.Empty(t, s.open)
}
