// Package corpus measures a web application firewall with HTTP requests that others wrote or recorded.
//
// In: the regression tests of the OWASP core rule set, and requests that client libraries of two public APIs recorded while
// their own tests ran. Out: each as the bytes that go over a connection; what became of it; a table of rates, and floors
// that a firewall which does not work cannot reach.
//
// # What is an attack, and what is not
//
// A regression test of the rule set says of one request which rules must find something, or must not. One that must be
// found, or that a server must refuse, is an Attack here. One of which only is said that a certain rule must not find
// something is a Negative: some are innocent, others are attacks that another rule is there for (932230-9: "Positive test").
// No rate over all of them is a rate of false positives. Those whose authors describe them as a false positive are
// Innocent: text that a rule once refused by mistake, so harder than what a gateway sees every day. A few of these carry
// attacks nevertheless (942360-30), and are left in: nothing is sorted out by its result.
//
// Recorded requests are what programs really sent, without any thought of firewalls. Their rate is the one to expect for
// the use of an API by programs. People's texts are not among them.
package corpus

import (
	"fmt"
	"slices"
)

// Kind is what a request is known to be.
type Kind string

// The kinds.
const (
	Attack   Kind = "attack"
	Negative Kind = "negative"
	Innocent Kind = "innocent"
	Recorded Kind = "recorded"
)

// Case is one request.
type Case struct {
	// Name is where it is from: the rule and number of a regression test, or a recording and its number in it.
	Name string
	Kind Kind
	// Class is the class of attack whose rules it is about, or the library that recorded it.
	Class string
	// Level is the lowest paranoia level at which one of the rules that must find the attack is in force. 0: it is expected
	// to be refused whatever the rules.
	Level int
	// Critical says that such a rule's finding alone is enough to refuse the request: its anomaly score is 5.
	Critical bool
	// Body says that the request has a body.
	Body bool
	// Bytes are the request.
	Bytes []byte
}

// Claimed says whether a firewall at the paranoia level and with the default threshold is meant to refuse the attack.
func (c Case) Claimed(level int) bool {
	return c.Kind == Attack && c.Critical && c.Level <= level
}

// Select returns the cases of the kinds.
func Select(cases []Case, kinds ...Kind) []Case {
	var out []Case
	for _, c := range cases {
		if slices.Contains(kinds, c.Kind) {
			out = append(out, c)
		}
	}
	return out
}

// distinct leaves out requests that are byte for byte the same as an earlier one of their kind.
func distinct(cases []Case) []Case {
	seen := map[string]bool{}
	return slices.DeleteFunc(cases, func(c Case) bool {
		key := fmt.Sprintf("%s %s", c.Kind, c.Bytes)
		twice := seen[key]
		seen[key] = true
		return twice
	})
}
