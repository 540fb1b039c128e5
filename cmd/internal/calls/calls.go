// Package calls counts the calls a service makes and serves.
//
// In: one record per finished call. Out: totals, latency quantiles and Prometheus text.
package calls

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Result is how a call ended.
type Result int

// The ways a call can end.
const (
	OK     Result = iota // an answer was received
	Failed               // no answer before the call's deadline, whatever was tried
	Denied               // a peer was refused by its SPIFFE ID; never retried
)

// window is how many of the latest calls the quantiles are taken from: at five calls a second, the last 200 seconds.
const window = 1000

// BucketBounds are the upper bounds, in seconds, of the latency histogram. They lie around the attempt timeout (0.6 s)
// and the call deadline (5 s), the two figures at which behaviour changes.
var BucketBounds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.6, 0.75, 1, 1.5, 2.5, 5}

// Recorder counts finished calls. The zero value is ready to use; it is safe for concurrent use.
type Recorder struct {
	mu       sync.Mutex
	snapshot Snapshot
	latest   []time.Duration // the window, in no order once it is full
	next     int             // where the next one goes once the window is full
	buckets  []uint64        // calls between two bounds; the last one is above all of them
	sum      time.Duration
}

// Snapshot is the state of a Recorder at one moment.
type Snapshot struct {
	// OK, Failed and Denied count finished calls; every call is counted exactly once.
	OK     uint64 `json:"ok"`
	Failed uint64 `json:"failed"`
	Denied uint64 `json:"denied"`
	// Retried counts the additional attempts, on another endpoint or after a pause, that calls needed.
	Retried uint64 `json:"retried"`
	// LastError is the text of the newest failure or refusal, and LastErrorAt its time.
	LastError   string    `json:"-"`
	LastErrorAt time.Time `json:"-"`
	// P50 and P99 are latencies of the latest calls that ended with an answer, retries included.
	P50 time.Duration `json:"-"`
	P99 time.Duration `json:"-"`
}

// Record counts one finished call that took elapsed and needed attempts attempts; err is the reason unless result is OK.
func (r *Recorder) Record(result Result, elapsed time.Duration, attempts int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if attempts > 1 {
		r.snapshot.Retried += uint64(attempts - 1)
	}
	switch result {
	case OK:
		r.snapshot.OK++
		r.observe(elapsed)
	case Denied:
		r.snapshot.Denied++
	default:
		r.snapshot.Failed++
	}
	if result != OK && err != nil {
		r.snapshot.LastError, r.snapshot.LastErrorAt = err.Error(), time.Now()
	}
}

func (r *Recorder) observe(elapsed time.Duration) {
	if len(r.latest) < window {
		r.latest = append(r.latest, elapsed)
	} else {
		r.latest[r.next] = elapsed
		r.next = (r.next + 1) % window
	}
	r.sum += elapsed
	if r.buckets == nil {
		r.buckets = make([]uint64, len(BucketBounds)+1)
	}
	i, _ := slices.BinarySearch(BucketBounds, elapsed.Seconds())
	r.buckets[i]++
}

// Snapshot returns the totals and quantiles.
func (r *Recorder) Snapshot() Snapshot {
	r.mu.Lock()
	s := r.snapshot
	latest := slices.Clone(r.latest)
	r.mu.Unlock()
	slices.Sort(latest)
	s.P50, s.P99 = quantile(latest, 0.50), quantile(latest, 0.99)
	return s
}

// Histogram returns cumulative counts, one for each of BucketBounds and one for all calls, and the sum in seconds.
func (r *Recorder) Histogram() (cumulative []uint64, sum float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cumulative = make([]uint64, len(BucketBounds)+1)
	var total uint64
	for i, n := range r.buckets {
		total += n
		cumulative[i] = total
	}
	return cumulative, r.sum.Seconds()
}

// quantile returns the smallest value with at least a share q of the sorted values at or below it (nearest rank).
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}
