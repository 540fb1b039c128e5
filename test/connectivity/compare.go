package connectivity

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ephemos.dev/deploy/components/zones"
)

// Result is what became of an attempt.
type Result struct {
	Class Class
	// Detail is what the class was concluded from, for readers: an error of the system, an ICMP message and who sent it.
	Detail string
	// Tries is how often it was tried; the result is the last one's.
	Tries int
}

// Difference is something that was seen and should not have been, or the reverse.
type Difference struct {
	// Flows are the flows it concerns: those that should have let a connection through, or those that nobody allows and that
	// would have been needed for what was seen.
	Flows []zones.Flow
	// What is the difference, without the endpoints: equal ones are shown together.
	What string
	// Where are the endpoints.
	Where string
}

// Names says whether the difference concerns the flow of that form, "from -> to:port".
func (d Difference) Names(flow string) bool {
	return slices.ContainsFunc(d.Flows, func(g zones.Flow) bool { return g.String() == flow })
}

func (d Difference) String() string { return d.What + ": " + d.Where }

// Compare returns a difference for every attempt that did not become what was expected, and for each that was not made.
func Compare(expected []Attempt, seen map[Key]Result) []Difference {
	var out []Difference
	for _, a := range expected {
		result, ok := seen[a.Key()]
		if ok && a.Expected.Admits(result.Class) {
			continue
		}
		d := Difference{Flows: a.Flows, Where: fmt.Sprintf("%s to %s, %d/%s", a.From.Name, a.To.Name, a.Socket.Port, a.Socket.Protocol)}
		if len(d.Flows) == 0 {
			d.Flows = a.Missing
		}
		var why string
		switch {
		case len(a.Flows) > 0:
			why = "allowed by " + names(a.Flows, " and ")
		case a.Expected != MustDeny:
			why = "nothing limits it"
		case len(a.Missing) > 0:
			why = "no flow allows it, it would take " + names(a.Missing, " or ")
		default:
			why = "no flow allows it"
		}
		got := "it was not tried"
		if ok {
			got = "it is " + string(result.Class)
			if result.Detail != "" {
				d.Where += fmt.Sprintf(" (%s; tries: %d)", result.Detail, result.Tries)
			}
		}
		d.What = fmt.Sprintf("%s: must be %s, %s; %s", a, a.Expected, got, why)
		out = append(out, d)
	}
	return out
}

func names(flows []zones.Flow, separator string) string {
	texts := make([]string, len(flows))
	for i, f := range flows {
		texts[i] = f.String()
	}
	return strings.Join(texts, separator)
}

// Observation is a topology with what was seen in it.
type Observation struct {
	Topology Topology
	Results  map[Key]Result
	// Took is how long the attempts took, repeated ones included.
	Took time.Duration
}

// With returns the observation with further results.
func (o Observation) With(further map[Key]Result) Observation {
	results := maps.Clone(o.Results)
	maps.Copy(results, further)
	return Observation{Topology: o.Topology, Results: results, Took: o.Took}
}

// Untried returns the attempts that the observation has no result of.
func (o Observation) Untried(attempts []Attempt) []Attempt {
	return slices.DeleteFunc(slices.Clone(attempts), func(a Attempt) bool {
		_, ok := o.Results[a.Key()]
		return ok
	})
}

// Check compares everything with a model: what became of each connection, what listens, whether each flow was tried at all, and
// whether each pod has a role. No difference means that the cluster is what the model says. The model must be valid.
func (o Observation) Check(m zones.Model) []Difference {
	expected := Expect(m, o.Topology)
	return slices.Concat(belonging(m, o.Topology), Listening(m, o.Topology), uncovered(m, expected), Compare(expected, o.Results))
}

// belonging returns a difference for each pod of the deployment's namespaces that has no role, or several.
func belonging(m zones.Model, t Topology) []Difference {
	var out []Difference
	for _, e := range t.Endpoints {
		if e.Place != zones.Pods || !m.Ours(e.Namespace) {
			continue
		}
		if len(rolesOf(m, e)) == 0 && !e.StandIn { // of two it cannot be: the model's validation sees to that
			out = append(out, Difference{What: "pod of no role: no flow allows anything from or to it", Where: e.Name})
		}
	}
	return out
}

// uncovered returns a difference for each flow that no attempt is expected to use: the proof would say nothing of it.
func uncovered(m zones.Model, expected []Attempt) []Difference {
	covered := map[string]bool{}
	for _, a := range expected {
		if a.Expected != MustOpen {
			continue
		}
		for _, f := range a.Flows {
			covered[f.String()] = true
		}
	}
	var out []Difference
	for _, f := range m.Flows {
		if !covered[f.String()] {
			out = append(out, Difference{Flows: []zones.Flow{f}, What: "flow " + f.String(),
				Where: fmt.Sprintf("it cannot be tried: there is no pod of %s or none of %s that listens", f.From, f.To)})
		}
	}
	return out
}

// Listening compares what listens with the model: in the deployment's pods both must agree, elsewhere the model's ports must be
// among those listened on.
func Listening(m zones.Model, t Topology) []Difference {
	var out []Difference
	for _, e := range t.Endpoints {
		roles := rolesOf(m, e)
		if e.StandIn || e.Place == zones.Elsewhere || len(roles) == 0 {
			continue
		}
		said := map[Socket]bool{}
		for _, r := range roles {
			for _, p := range r.Ports {
				s := socket(p)
				said[s] = true
				if slices.Contains(e.Listening, s) {
					continue
				}
				d := Difference{What: fmt.Sprintf("%s: nobody listens on its port %s (%d/%s)", r.Name, p.Name, s.Port, s.Protocol), Where: e.Name}
				for _, f := range m.Flows {
					if f.To == r.Name && f.Port == p.Name {
						d.Flows = append(d.Flows, f)
					}
				}
				out = append(out, d)
			}
		}
		if e.Place != zones.Pods || !m.Ours(e.Namespace) {
			continue
		}
		for _, s := range e.Listening {
			if !said[s] {
				out = append(out, Difference{Where: e.Name,
					What: fmt.Sprintf("%s: something listens on %d/%s, which the model does not have", roles[0].Name, s.Port, s.Protocol)})
			}
		}
	}
	return out
}

// Describe shows differences for readers, equal ones once with their number and the first places.
func Describe(differences []Difference) string {
	const shown = 3
	where := map[string][]string{}
	for _, d := range differences {
		where[d.What] = append(where[d.What], d.Where)
	}
	kinds := slices.SortedFunc(maps.Keys(where), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(where[b]), len(where[a])), strings.Compare(a, b))
	})
	var b strings.Builder
	for _, what := range kinds {
		places := where[what]
		fmt.Fprintf(&b, "%d x %s\n", len(places), what)
		for _, place := range places[:min(shown, len(places))] {
			fmt.Fprintf(&b, "      %s\n", place)
		}
	}
	return b.String()
}
