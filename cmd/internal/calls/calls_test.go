package calls

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEveryCallIsCountedOnce(t *testing.T) {
	var r Recorder
	r.Record(OK, 10*time.Millisecond, 1, nil)
	r.Record(OK, 10*time.Millisecond, 3, nil)
	r.Record(Failed, 5*time.Second, 4, errors.New("no answer"))
	r.Record(Denied, time.Millisecond, 1, errors.New("refused"))

	s := r.Snapshot()
	require.Equal(t, uint64(2), s.OK)
	require.Equal(t, uint64(1), s.Failed)
	require.Equal(t, uint64(1), s.Denied)
	require.Equal(t, uint64(5), s.Retried, "two further attempts and three further attempts")
	require.Equal(t, "refused", s.LastError, "the newest error is kept")
	require.Equal(t, 10*time.Millisecond, s.P99, "calls without an answer have no latency")
}

func TestQuantilesAreNearestRank(t *testing.T) {
	for _, c := range []struct {
		name     string
		n        int
		p50, p99 time.Duration
	}{
		{"none", 0, 0, 0},
		{"one", 1, 1, 1},
		{"two", 2, 1, 2},
		{"a hundred", 100, 50, 99},
		{"only the latest thousand count", 1500, 1000, 1490},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Recorder
			for i := 1; i <= c.n; i++ {
				r.Record(OK, time.Duration(i), 1, nil)
			}
			s := r.Snapshot()
			require.Equal(t, c.p50, s.P50)
			require.Equal(t, c.p99, s.P99)
		})
	}
}

func TestHistogramIsCumulative(t *testing.T) {
	var r Recorder
	for _, d := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 6 * time.Millisecond, 10 * time.Second} {
		r.Record(OK, d, 1, nil)
	}
	cumulative, sum := r.Histogram()
	require.Len(t, cumulative, len(BucketBounds)+1)
	require.Equal(t, uint64(2), cumulative[0], "a bound is inclusive")
	require.Equal(t, uint64(3), cumulative[1])
	require.Equal(t, uint64(3), cumulative[len(BucketBounds)-1])
	require.Equal(t, uint64(4), cumulative[len(BucketBounds)], "the last one counts all")
	require.InDelta(t, 10.012, sum, 1e-9)
}
