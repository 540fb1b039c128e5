package preview

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteTree prints every resource below the component that it belongs to, children by type and name, with what the engine would do.
func (r *Result) WriteTree(out io.Writer) {
	children := map[string][]*Resource{}
	known := map[string]bool{}
	for _, res := range r.Resources {
		known[res.URN] = true
	}
	for _, res := range r.Resources {
		parent := res.Parent
		if !known[parent] {
			parent = ""
		}
		children[parent] = append(children[parent], res)
	}
	for _, list := range children {
		slices.SortFunc(list, func(a, b *Resource) int {
			return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
		})
	}
	fmt.Fprintf(out, "%s\n", r.Stack)
	var write func(parent, indent string)
	write = func(parent, indent string) {
		list := children[parent]
		for i, res := range list {
			branch, below := "├─ ", "│  "
			if i == len(list)-1 {
				branch, below = "└─ ", "   "
			}
			marks := ""
			if res.Protect {
				marks = ", protected"
			}
			if len(res.Changed) > 0 {
				marks += ", changes " + strings.Join(res.Changed, " ")
			}
			fmt.Fprintf(out, "%s%s%s %s (%s%s)\n", indent, branch, res.Type, res.Name, res.Op, marks)
			write(res.URN, indent+below)
		}
	}
	write("", "")
}

// Counts are the resources of one component at the top of the tree, by who manages them.
type Counts struct {
	Component, Type             string
	AWS, Kubernetes, Components int
}

// ByComponent counts the resources below each component that stands directly below the stack. Providers that the program makes itself
// are "-".
func (r *Result) ByComponent() []Counts {
	byURN := map[string]*Resource{}
	for _, res := range r.Resources {
		byURN[res.URN] = res
	}
	found := map[string]*Counts{}
	for _, res := range r.Resources {
		top := res
		for byURN[top.Parent] != nil {
			top = byURN[top.Parent]
		}
		name, typ := top.Name, top.Type
		if top.Custom {
			name, typ = "-", "providers of the stack"
		}
		c := found[name+typ]
		if c == nil {
			c = &Counts{Component: name, Type: typ}
			found[name+typ] = c
		}
		switch {
		case !res.Custom:
			c.Components++
		case strings.HasPrefix(res.Type, "kubernetes:") || res.Type == "pulumi:providers:kubernetes":
			c.Kubernetes++
		default:
			c.AWS++
		}
	}
	return slices.SortedFunc(func(yield func(Counts) bool) {
		for _, c := range maps.Collect(maps.All(found)) {
			if !yield(*c) {
				return
			}
		}
	}, func(a, b Counts) int {
		return cmp.Or(cmp.Compare(a.Component, b.Component), cmp.Compare(a.Type, b.Type))
	})
}

// WriteCounts prints the numbers by component, their sums, and what the engine would do.
func (r *Result) WriteCounts(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "aws\tkubernetes\tcomponents\t\n")
	var sum Counts
	line := func(c Counts, name string) {
		// The name stands last, where it needs no alignment.
		fmt.Fprintf(table, "%d\t%d\t%d\t  %s\n", c.AWS, c.Kubernetes, c.Components, name)
	}
	for _, c := range r.ByComponent() {
		line(c, c.Component+" ("+c.Type+")")
		sum.AWS += c.AWS
		sum.Kubernetes += c.Kubernetes
		sum.Components += c.Components
	}
	line(sum, "all")
	_ = table.Flush()
	ops := map[string]int{}
	for _, res := range r.Resources {
		ops[res.Op]++
	}
	var parts []string
	for _, op := range slices.Sorted(maps.Keys(ops)) {
		parts = append(parts, fmt.Sprintf("%d %s", ops[op], op))
	}
	fmt.Fprintf(out, "%s; preview %.1f s, workspace %.1f s, engine's memory %d MB\n", cmp.Or(strings.Join(parts, ", "), "no resource"), r.Time.Seconds(), r.Setup.Seconds(), r.EngineMemory>>20)
}
