// Package window finds how long a service was unavailable, from a record of attempts to use it. It is pure arithmetic.
//
// An attempt that succeeded proves that the service worked when it ended. Between the ends of two consecutive successes
// nothing is proven, so that stretch of time is a gap; its length is an upper bound of the time the service was away, by
// at most the period of the attempts and the duration of one success.
package window

import (
	"cmp"
	"slices"
	"time"
)

// Attempt is one finished attempt.
type Attempt struct {
	Start time.Time
	End   time.Time
	OK    bool
}

// Gap is a stretch of time without a success.
type Gap struct {
	// Start is the end of the last success before the gap, or the beginning of the observation.
	Start time.Time `json:"start"`
	// End is the end of the first success after it, or the end of the observation.
	End time.Time `json:"end"`
	// Seconds is End minus Start.
	Seconds float64 `json:"seconds"`
	// Failed counts the attempts that ended within the gap without success.
	Failed int `json:"failed_attempts"`
	// Open says that no success followed within the observation.
	Open bool `json:"open,omitempty"`
}

// Longest returns the n longest gaps between from and to, the longest first and, of equals, the earlier first. Attempts
// may come in any order; those that ended outside [from, to] are ignored. Without a success the whole observation is one
// open gap. It returns nothing when to is not after from.
func Longest(attempts []Attempt, from, to time.Time, n int) []Gap {
	if !to.After(from) {
		return nil
	}
	inside := slices.DeleteFunc(slices.Clone(attempts), func(a Attempt) bool {
		return a.End.Before(from) || a.End.After(to)
	})
	slices.SortStableFunc(inside, func(a, b Attempt) int { return a.End.Compare(b.End) })

	var gaps []Gap
	current := Gap{Start: from}
	finish := func(end time.Time, open bool) {
		current.End, current.Open = end, open
		current.Seconds = end.Sub(current.Start).Seconds()
		gaps = append(gaps, current)
		current = Gap{Start: end}
	}
	for _, a := range inside {
		if a.OK {
			finish(a.End, false)
		} else {
			current.Failed++
		}
	}
	if to.After(current.Start) || current.Failed > 0 {
		finish(to, true)
	}
	slices.SortStableFunc(gaps, func(a, b Gap) int { return cmp.Compare(b.Seconds, a.Seconds) })
	return gaps[:min(n, len(gaps))]
}

// Count returns the number of successes and failures among the attempts that ended between from and to.
func Count(attempts []Attempt, from, to time.Time) (ok, failed int) {
	for _, a := range attempts {
		switch {
		case a.End.Before(from) || a.End.After(to):
		case a.OK:
			ok++
		default:
			failed++
		}
	}
	return ok, failed
}
