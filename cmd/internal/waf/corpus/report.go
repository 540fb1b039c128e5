package corpus

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Count is a number of requests and what became of them.
type Count struct {
	Requests, Blocked, Refused int
}

func (c *Count) add(r Result) {
	c.Requests++
	switch r.Outcome {
	case Blocked:
		c.Blocked++
	case Refused:
		c.Refused++
	}
}

// Rate is the share of requests that did not reach the upstream, 0 to 1.
func (c Count) Rate() float64 {
	if c.Requests == 0 {
		return 0
	}
	return float64(c.Blocked+c.Refused) / float64(c.Requests)
}

// Report is a measurement.
type Report struct {
	// Level is the firewall's paranoia level.
	Level int
	// Attacks and Claimed count attacks by class: all, and those that a firewall at the level is meant to refuse.
	Attacks, Claimed map[string]Count
	// ClaimedInBody counts the claimed attacks that have a body.
	ClaimedInBody Count
	// Others counts requests of the other kinds.
	Others map[Kind]Count
	// Missed names claimed attacks that passed, Refused innocent and recorded requests that did not.
	Missed, Refused []string
}

// Summarise makes a report of results of a firewall at a paranoia level.
func Summarise(level int, results []Result) Report {
	r := Report{Level: level, Attacks: map[string]Count{}, Claimed: map[string]Count{}, Others: map[Kind]Count{}}
	for _, result := range results {
		if result.Kind != Attack {
			count := r.Others[result.Kind]
			count.add(result)
			r.Others[result.Kind] = count
			if result.Outcome != Passed && result.Kind != Negative {
				r.Refused = append(r.Refused, result.Name)
			}
			continue
		}
		count := r.Attacks[result.Class]
		count.add(result)
		r.Attacks[result.Class] = count
		if !result.Claimed(level) {
			continue
		}
		count = r.Claimed[result.Class]
		count.add(result)
		r.Claimed[result.Class] = count
		if result.Body {
			r.ClaimedInBody.add(result)
		}
		if result.Outcome == Passed {
			r.Missed = append(r.Missed, result.Name)
		}
	}
	return r
}

// Total sums the counts of all classes.
func Total(counts map[string]Count) Count {
	var sum Count
	for _, c := range counts {
		sum.Requests += c.Requests
		sum.Blocked += c.Blocked
		sum.Refused += c.Refused
	}
	return sum
}

// String is the report as a table.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Paranoia level %d. Blocked: by the firewall. Refused: as no HTTP, or as a path without a route. Claimed: attacks\n"+
		"that a critical rule of this level or below is there for; the others need a higher level, or more than one finding.\n\n", r.Level)
	fmt.Fprintf(&b, "%-24s %8s %8s %8s %9s   %8s %9s\n", "ATTACKS", "REQUESTS", "BLOCKED", "REFUSED", "DETECTED", "CLAIMED", "DETECTED")
	line := func(name string, all, claimed Count) {
		fmt.Fprintf(&b, "%-24s %8d %8d %8d %8.1f%%   %8d %8.1f%%\n",
			name, all.Requests, all.Blocked, all.Refused, 100*all.Rate(), claimed.Requests, 100*claimed.Rate())
	}
	for _, class := range slices.Sorted(maps.Keys(r.Attacks)) {
		line(class, r.Attacks[class], r.Claimed[class])
	}
	line("all", Total(r.Attacks), Total(r.Claimed))
	fmt.Fprintf(&b, "\n%-24s %8s %8s %8s %9s\n", "NOT ATTACKS", "REQUESTS", "BLOCKED", "REFUSED", "STOPPED")
	for _, kind := range []Kind{Recorded, Innocent, Negative} {
		name := map[Kind]string{
			Recorded: "recorded API requests", Innocent: "described as innocent", Negative: "other negative tests",
		}[kind]
		c := r.Others[kind]
		fmt.Fprintf(&b, "%-24s %8d %8d %8d %8.1f%%\n", name, c.Requests, c.Blocked, c.Refused, 100*c.Rate())
	}
	return b.String()
}

// The floors and ceilings of Check, at paranoia level 1. They lie a little under and over what is measured, far from what a
// firewall reaches that is switched off, has no rules, or does not look into bodies.
const (
	minAttacks, minInnocent = 200, 200 // requests, or the rates mean little
	minDetected             = 0.60     // of all attacks
	minClaimed              = 0.99     // of those claimed, and of those of them with a body
	minClaimedOfClass       = 0.95     // of those claimed of one class
	maxRecorded             = 0.04     // of recorded requests
	maxDescribed            = 0.15     // of requests described as innocent
)

// Check says what of the report falls short of a working firewall at paranoia level 1.
func (r Report) Check() error {
	var errs []error
	atLeast := func(what string, got, want float64) {
		if got < want {
			errs = append(errs, fmt.Errorf("%s: %.3f is less than %g", what, got, want))
		}
	}
	atMost := func(what string, got, want float64) {
		if got > want {
			errs = append(errs, fmt.Errorf("%s: %.3f is more than %g", what, got, want))
		}
	}
	attacks, claimed := Total(r.Attacks), Total(r.Claimed)
	atLeast("number of attacks", float64(attacks.Requests), minAttacks)
	atLeast("number of recorded requests", float64(r.Others[Recorded].Requests), minInnocent)
	atLeast("attacks detected", attacks.Rate(), minDetected)
	atLeast("claimed attacks detected", claimed.Rate(), minClaimed)
	atLeast("claimed attacks with a body detected", r.ClaimedInBody.Rate(), minClaimed)
	for _, class := range slices.Sorted(maps.Keys(r.Claimed)) {
		atLeast("claimed attacks detected: "+class, r.Claimed[class].Rate(), minClaimedOfClass)
	}
	atMost("recorded requests stopped", r.Others[Recorded].Rate(), maxRecorded)
	atMost("requests described as innocent stopped", r.Others[Innocent].Rate(), maxDescribed)
	return errors.Join(errs...)
}
