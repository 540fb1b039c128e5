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

// Summary shows what was expected and seen, for readers:
//
//   - a matrix of what the endpoints are. A cell says how many of the column's ports are open to the row and how many of
//     them were tried, or marks that something is not as expected there;
//   - how many pairs of endpoints and of roles, and how many attempts, by what was expected and what was seen;
//   - how many flows were seen open, and how long it took.
//
// The text is Markdown, and as a table of fixed width also readable as it is.
func (o Observation) Summary(m zones.Model) string {
	expected := Expect(m, o.Topology)
	var b strings.Builder
	matrix(&b, m, expected, o.Results)

	counts := map[[2]string]int{}
	pairs, rolePairs, open := map[[2]string]bool{}, map[[2]string]bool{}, map[string]bool{}
	tries := 0
	for _, a := range expected {
		result, ok := o.Results[a.Key()]
		if !ok {
			continue
		}
		tries += result.Tries
		counts[[2]string{string(a.Expected), string(result.Class)}]++
		pairs[[2]string{a.From.Name, a.To.Name}] = true
		rolePairs[[2]string{a.Source, a.Target}] = true
		if result.Class == Open {
			for _, f := range a.Flows {
				open[f.String()] = true
			}
		}
	}
	b.WriteString("\n")
	rows := [][]string{{"expected \\ seen"}}
	for _, c := range classes {
		rows[0] = append(rows[0], string(c))
	}
	for _, v := range []Verdict{MustOpen, MustClose, MustDeny} {
		row := []string{string(v)}
		for _, c := range classes {
			row = append(row, fmt.Sprint(counts[[2]string{string(v), string(c)}]))
		}
		rows = append(rows, row)
	}
	b.WriteString(Table(rows))
	fmt.Fprintf(&b, "\n%d attempts on %d ordered pairs of %d endpoints (%d pairs of roles and places), ",
		sum(counts), len(pairs), len(o.Topology.Endpoints), len(rolePairs))
	fmt.Fprintf(&b, "%d connections in %s; %d of %d flows seen open.\n",
		tries, o.Took.Round(100*time.Millisecond), len(open), len(m.Flows))
	return b.String()
}

func sum(counts map[[2]string]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// matrix writes the table of who reaches how many ports of whom.
func matrix(b *strings.Builder, m zones.Model, expected []Attempt, seen map[Key]Result) {
	type cell struct {
		tried, open map[Socket]bool
		wrong       bool
	}
	cells := map[[2]string]*cell{}
	sources, targets := map[string]bool{}, map[string]bool{}
	for _, a := range expected {
		sources[a.Source], targets[a.Target] = true, true
		pair := [2]string{a.Source, a.Target}
		c := cells[pair]
		if c == nil {
			c = &cell{tried: map[Socket]bool{}, open: map[Socket]bool{}}
			cells[pair] = c
		}
		result, ok := seen[a.Key()]
		c.tried[a.Socket] = true
		if result.Class == Open {
			c.open[a.Socket] = true
		}
		c.wrong = c.wrong || !ok || !a.Expected.Admits(result.Class)
	}
	columns := inOrder(m, targets)
	header := []string{"from \\ to"}
	for i := range columns {
		header = append(header, fmt.Sprint(i+1))
	}
	rows := [][]string{header}
	for _, source := range inOrder(m, sources) {
		name := source
		if i := slices.Index(columns, source); i >= 0 {
			name = fmt.Sprintf("%d %s", i+1, source)
		}
		row := []string{name}
		for _, target := range columns {
			text := ""
			if c := cells[[2]string{source, target}]; c != nil {
				text = fmt.Sprintf("%d/%d", len(c.open), len(c.tried))
				if c.wrong {
					text = "!" + text
				}
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	b.WriteString(Table(rows))
	b.WriteString("\nopen/tried: distinct ports of the column, one of which nobody listens on; `!`: a difference; " +
		"own node: a node to the pods on it.\n")
}

// inOrder sorts names of roles as the model has them, and what is no role after them.
func inOrder(m zones.Model, set map[string]bool) []string {
	rank := func(name string) int {
		i := slices.IndexFunc(m.Roles, func(r zones.Role) bool { return r.Name == name })
		if i < 0 {
			return len(m.Roles)
		}
		return i
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
	})
}

// Table shows rows of equal length, of which the first is the header, in Markdown with columns of equal width.
func Table(rows [][]string) string {
	var b strings.Builder
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], len(text))
		}
	}
	for n, row := range rows {
		for i, text := range row {
			fmt.Fprintf(&b, "| %-*s ", widths[i], text)
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				b.WriteString("|" + strings.Repeat("-", width+2))
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}
