package architecture

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"ephemos.dev/deploy/test/graph"
)

// A Part says what realises lines of a diagram.
type Part struct {
	// Lines are the lines of the diagram, whole.
	Lines []string
	// How is what is made, in a few words.
	How string
	// Of are the resources. Each must be there in every stack that the line is about.
	Of []Selector
	// Only is the name of the one stack that the lines are about. Empty: all.
	Only string
	// Missing says what is not there and why. The lines are then not realised, and the page says so.
	Missing string
}

// A Selector names resources of a graph.
type Selector struct {
	// Type is a resource's type without its provider and module: "LoadBalancer" for aws:lb/loadBalancer:LoadBalancer.
	Type string
	// Name is the resource's name, as a regular expression over all of it.
	Name string
	// Count is how many there must be. 0: one or more.
	Count int
}

// A Row is a line of a diagram with what realises it, by stack.
type Row struct {
	Diagram, Line, How, Missing string
	// Resources are, by stack, type and name of each resource, sorted.
	Resources map[string][]string
}

// Rows holds the parts against the graphs, which are by stack. Problems name each line that no part explains, each part that explains no
// line, and each selector that finds nothing, or not as many resources as it says.
func Rows(diagrams []Diagram, parts map[string][]Part, graphs map[string]*graph.Graph) (rows []Row, problems []string) {
	for _, d := range diagrams {
		explained := map[string]bool{}
		for _, p := range parts[d.Title] {
			for _, line := range p.Lines {
				if !slices.Contains(d.lines(), line) {
					problems = append(problems, fmt.Sprintf("%s: no such line: %s", d.Title, line))
				}
				explained[line] = true
			}
			resources := map[string][]string{}
			for stack, g := range graphs {
				if p.Only != "" && p.Only != stack {
					continue
				}
				for _, s := range p.Of {
					found := s.find(g)
					if len(found) == 0 || s.Count > 0 && len(found) != s.Count {
						problems = append(problems, fmt.Sprintf("%s: %s: in %s: %d resources are %s %s, expected %s", d.Title, p.Lines[0], stack, len(found), s.Type, s.Name, s.expected()))
					}
					resources[stack] = append(resources[stack], found...)
				}
			}
			if len(p.Of) == 0 && p.Missing == "" {
				problems = append(problems, fmt.Sprintf("%s: %s: neither resources nor a reason", d.Title, p.Lines[0]))
			}
			for _, line := range p.Lines {
				rows = append(rows, Row{Diagram: d.Title, Line: line, How: p.How, Missing: p.Missing, Resources: resources})
			}
		}
		for _, line := range d.lines() {
			if !explained[line] {
				problems = append(problems, fmt.Sprintf("%s: nothing realises: %s", d.Title, line))
			}
		}
	}
	slices.Sort(problems)
	return rows, problems
}

func (s Selector) expected() string {
	if s.Count > 0 {
		return fmt.Sprint(s.Count)
	}
	return "one or more"
}

func (s Selector) find(g *graph.Graph) []string {
	name := regexp.MustCompile("^(" + s.Name + ")$")
	var found []string
	for _, r := range g.Resources {
		if r.Custom && r.Type[strings.LastIndex(r.Type, ":")+1:] == s.Type && name.MatchString(r.Name) {
			found = append(found, s.Type+" "+r.Name)
		}
	}
	slices.Sort(found)
	return found
}

// Page renders the rows in the order of the diagrams, with a column for each stack.
func Page(diagrams []Diagram, rows []Row, stacks []string) string {
	var b strings.Builder
	b.WriteString("# The architecture's diagrams and what realises them\n\n")
	b.WriteString("Generated from test/architecture and the recorded stacks; `go test ./test/architecture -update` writes it anew.\n")
	for _, d := range diagrams {
		fmt.Fprintf(&b, "\n## %s\n\n| Diagram | Realised by | %s |\n|---|---|%s\n", d.Title, strings.Join(stacks, " | "), strings.Repeat("---|", len(stacks)))
		for _, line := range d.lines() {
			for _, r := range rows {
				if r.Diagram != d.Title || r.Line != line {
					continue
				}
				how := r.How
				if r.Missing != "" {
					how = strings.TrimSpace(how + " **Not there:** " + r.Missing)
				}
				fmt.Fprintf(&b, "| `%s` | %s |", strings.ReplaceAll(line, "|", "\\|"), how)
				for _, stack := range stacks {
					fmt.Fprintf(&b, " %s |", short(r.Resources[stack]))
				}
				b.WriteString("\n")
			}
		}
	}
	return b.String()
}

// short names as many resources as a cell holds.
func short(resources []string) string {
	const most = 4
	if len(resources) == 0 {
		return "-"
	}
	shown := make([]string, 0, most)
	for _, r := range resources[:min(most, len(resources))] {
		shown = append(shown, "`"+r+"`")
	}
	text := strings.Join(shown, "<br>")
	if more := len(resources) - most; more > 0 {
		text += fmt.Sprintf("<br>and %d more", more)
	}
	return text
}
