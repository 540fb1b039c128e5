package window

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// at is a moment some milliseconds after the beginning of time.
func at(ms int) time.Time { return time.UnixMilli(int64(ms)).UTC() }

func attempt(end int, ok bool) Attempt { return Attempt{Start: at(end - 10), End: at(end), OK: ok} }

func gap(start, end, failed int, open bool) Gap {
	return Gap{Start: at(start), End: at(end), Seconds: float64(end-start) / 1000, Failed: failed, Open: open}
}

func TestLongest(t *testing.T) {
	for _, c := range []struct {
		name     string
		attempts []Attempt
		from, to int
		n        int
		want     []Gap
	}{
		{"nothing was tried", nil, 0, 1000, 3, []Gap{gap(0, 1000, 0, true)}},
		{"nothing succeeded", []Attempt{attempt(100, false), attempt(300, false)}, 0, 1000, 3, []Gap{gap(0, 1000, 2, true)}},
		{"one outage", []Attempt{
			attempt(100, true), attempt(200, true), attempt(1300, false), attempt(2400, false), attempt(2600, true), attempt(2700, true),
		}, 0, 2700, 2, []Gap{gap(200, 2600, 2, false), gap(0, 100, 0, false)}},
		{"not over yet", []Attempt{attempt(100, true), attempt(1300, false)}, 0, 2000, 1, []Gap{gap(100, 2000, 1, true)}},
		{"the order does not matter", []Attempt{attempt(900, true), attempt(500, false), attempt(100, true)}, 0, 900, 1,
			[]Gap{gap(100, 900, 1, false)}},
		{"an attempt counts when it ends", []Attempt{
			attempt(100, true), {Start: at(150), End: at(1150)}, {Start: at(200), End: at(700), OK: true},
		}, 0, 1150, 3, []Gap{gap(100, 700, 0, false), gap(700, 1150, 1, true), gap(0, 100, 0, false)}},
		{"outside is ignored", []Attempt{attempt(50, true), attempt(150, true), attempt(2000, false)}, 100, 300, 9,
			[]Gap{gap(150, 300, 0, true), gap(100, 150, 0, false)}},
		{"equal gaps keep their order", []Attempt{attempt(100, true), attempt(200, true)}, 0, 200, 9,
			[]Gap{gap(0, 100, 0, false), gap(100, 200, 0, false)}},
		{"empty observation", []Attempt{attempt(100, true)}, 100, 100, 9, nil},
		{"more asked than there are", []Attempt{attempt(100, true)}, 0, 100, 9, []Gap{gap(0, 100, 0, false)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, Longest(c.attempts, at(c.from), at(c.to), c.n))
		})
	}
}

// TestGapsCoverTheObservation: whatever happened, the gaps add up to the time observed and hold every failure once.
func TestGapsCoverTheObservation(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var attempts []Attempt
		for range random.IntN(30) {
			attempts = append(attempts, attempt(random.IntN(1000), random.IntN(2) == 0))
		}
		total, failures := 0.0, 0
		for _, g := range Longest(attempts, at(100), at(900), 1000) {
			require.False(t, g.End.Before(g.Start))
			total += g.Seconds
			failures += g.Failed
		}
		_, failed := Count(attempts, at(100), at(900))
		require.InDelta(t, 0.8, total, 1e-9)
		require.Equal(t, failed, failures)
	}
}

func TestCount(t *testing.T) {
	ok, failed := Count([]Attempt{attempt(100, true), attempt(200, false), attempt(300, true), attempt(400, false)}, at(100), at(300))
	require.Equal(t, 2, ok)
	require.Equal(t, 1, failed)
}
