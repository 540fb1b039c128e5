package impostor

import (
	"fmt"
	"slices"
	"strings"

	"ephemos.dev/deploy/test/connectivity"
)

// Attempt is one attempt with what should have become of it.
type Attempt struct {
	// Flow names the flow, Approach the credentials, Where the two ends.
	Flow, Approach, Where string
	Want                  Verdict
	Outcome               Outcome
}

// OK says that it became what it should.
func (a Attempt) OK() bool { return a.Outcome.Verdict == a.Want }

func (a Attempt) String() string {
	return fmt.Sprintf("%s: %s: must be %s, is %s (%s): %s", a.Flow, a.Approach, a.Want, a.Outcome.Verdict, a.Outcome.Detail, a.Where)
}

// Table shows how many attempts became what they should, of how many, by flow and approach, in the order in which they first come.
func Table(attempts []Attempt) string {
	type cell struct{ ok, all int }
	var flows, approaches []string
	cells := map[[2]string]*cell{}
	wants := map[string]Verdict{}
	for _, a := range attempts {
		if !slices.Contains(flows, a.Flow) {
			flows = append(flows, a.Flow)
		}
		if !slices.Contains(approaches, a.Approach) {
			approaches = append(approaches, a.Approach)
			wants[a.Approach] = a.Want
		}
		key := [2]string{a.Flow, a.Approach}
		if cells[key] == nil {
			cells[key] = &cell{}
		}
		cells[key].all++
		if a.OK() {
			cells[key].ok++
		}
	}
	rows := [][]string{{"flow"}}
	for _, approach := range approaches {
		rows[0] = append(rows[0], fmt.Sprintf("%s: %s", approach, wants[approach]))
	}
	total := map[string]*cell{}
	for _, flow := range flows {
		row := []string{flow}
		for _, approach := range approaches {
			text := ""
			if c := cells[[2]string{flow, approach}]; c != nil {
				text = fmt.Sprintf("%d/%d", c.ok, c.all)
				if c.ok < c.all {
					text = "!" + text
				}
				if total[approach] == nil {
					total[approach] = &cell{}
				}
				total[approach].ok += c.ok
				total[approach].all += c.all
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	last := []string{"all"}
	for _, approach := range approaches {
		last = append(last, fmt.Sprintf("%d/%d", total[approach].ok, total[approach].all))
	}
	return connectivity.Table(append(rows, last))
}

// Failures lists what did not become what it should, a line each.
func Failures(attempts []Attempt) string {
	var b strings.Builder
	for _, a := range attempts {
		if !a.OK() {
			fmt.Fprintln(&b, a)
		}
	}
	return b.String()
}
