package graph

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Finding is one thing that is wrong with one resource.
type Finding struct {
	Resource *Resource
	Problem  string
}

func (f Finding) String() string {
	if f.Resource == nil {
		return f.Problem
	}
	return f.Resource.String() + ": " + f.Problem
}

// Check looks for one kind of mistake in a graph.
type Check struct {
	Name string
	// Find lists the mistakes.
	Find func(*Graph) []Finding
}

// General are the checks that hold for every program of this repository, the
// recording of one component by itself included.
func General() []Check {
	return []Check{
		{"every resource belongs to a component", ComponentAncestor},
		{"every resource has an explicit provider", ExplicitProvider},
		{"every component registers its outputs", OutputsRegistered},
		{"no secret in clear", NoPlainSecret},
		{"no name twice", UniqueNames},
		{"manifests are valid", ValidManifests},
		{"labels say what an object belongs to", Labels},
		{"containers have resources", PodResources},
		{"long-running containers have probes", PodProbes},
		{"a change of configuration rolls the pods", RollOnChange},
		{"selectors match", SelectorsMatch},
		{"nothing waits for what waits for it", NoDeadlock},
		{"AWS would take it", AWSRules},
	}
}

// ComponentAncestor finds resources, other than providers, outside of any
// component.
func ComponentAncestor(g *Graph) []Finding {
	var findings []Finding
	for _, r := range g.Resources {
		if !r.Custom || isProvider(r) {
			continue
		}
		ancestor := g.Get(r.Parent)
		for ancestor != nil && ancestor.Custom {
			ancestor = g.Get(ancestor.Parent)
		}
		if ancestor == nil {
			findings = append(findings, Finding{r, "has no component among its ancestors"})
		}
	}
	return findings
}

// ExplicitProvider finds resources that a default provider would manage.
func ExplicitProvider(g *Graph) []Finding {
	var findings []Finding
	for _, r := range g.Resources {
		if !r.Custom || isProvider(r) {
			continue
		}
		if p := g.Get(r.Provider); p == nil || !isProvider(p) {
			findings = append(findings, Finding{r, "has no explicit provider"})
		}
	}
	return findings
}

func isProvider(r *Resource) bool { return strings.HasPrefix(r.Type, "pulumi:providers:") }

// OutputsRegistered finds programs in which a component forgets to register its
// outputs. Which one is not recorded.
func OutputsRegistered(g *Graph) []Finding {
	want := 1 // the stack
	for _, r := range g.Resources {
		if !r.Custom {
			want++
		}
	}
	if g.outputsRegistered != want {
		return []Finding{{nil, fmt.Sprintf("%d components, the stack among them, registered outputs %d times", want, g.outputsRegistered)}}
	}
	return nil
}

var (
	secretKey  = regexp.MustCompile(`(?i)^(password|passwd|token|secret|private_?key|api_?key|client_?secret)$`)
	secretText = []*regexp.Regexp{
		regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`),
		regexp.MustCompile(`(?i)\b(password|passwd)\s*[=:]\s*\S`),
		regexp.MustCompile(`(?i)\b[a-z]+://[^/\s:@]+:[^/\s:@]+@`),
	}
)

// NoPlainSecret finds values that are secret by where they are (the data of a
// Secret, a field named password) or by what they look like (a private key, a
// URL with a password) and are not marked so, and would stand in clear in the
// state.
func NoPlainSecret(g *Graph) []Finding {
	var findings []Finding
	for _, r := range g.Resources {
		walk(resource.NewProperty(r.Inputs), "", func(path string, v resource.PropertyValue) bool {
			switch {
			case v.IsSecret(), v.IsOutput() && v.OutputValue().Secret:
				return false
			case v.IsString() && v.StringValue() != "" && looksSecret(r, path, v.StringValue()):
				findings = append(findings, Finding{r, fmt.Sprintf("%s is not marked secret", path)})
			case v.IsComputed() && isSecretData(r, path):
				findings = append(findings, Finding{r, fmt.Sprintf("%s is not marked secret", path)})
			}
			return true
		})
	}
	for name, value := range g.Outputs {
		text, err := json.Marshal(value)
		if err != nil {
			findings = append(findings, Finding{nil, fmt.Sprintf("output %s: %v", name, err)})
			continue
		}
		if secretKey.MatchString(name) && value != maskSecret || matchesAny(secretText, string(text)) {
			findings = append(findings, Finding{nil, fmt.Sprintf("output %s is not marked secret", name)})
		}
	}
	return findings
}

func looksSecret(r *Resource, path, value string) bool {
	field := path[strings.LastIndex(path, ".")+1:]
	return isSecretData(r, path) || secretKey.MatchString(field) || matchesAny(secretText, value)
}

func isSecretData(r *Resource, path string) bool {
	return r.Kind() == "Secret" && (strings.HasPrefix(path, "data") || strings.HasPrefix(path, "stringData"))
}

func matchesAny(patterns []*regexp.Regexp, value string) bool {
	return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(value) })
}

// UniqueNames finds resources that collide: for the engine by URN, for
// Kubernetes by kind, namespace and name, and objects that leave their name to
// Pulumi.
func UniqueNames(g *Graph) []Finding {
	var findings []Finding
	urns, objects := map[string]bool{}, map[string]*Resource{}
	for _, r := range g.Resources {
		if urns[r.URN] {
			findings = append(findings, Finding{r, "is registered twice"})
		}
		urns[r.URN] = true
		if r.Kind() == "" || !r.Custom {
			continue
		}
		namespace, name := r.Metadata()
		if name == "" {
			findings = append(findings, Finding{r, "has no metadata.name"})
			continue
		}
		if name == maskUnknown || namespace == maskUnknown {
			continue
		}
		id := fmt.Sprintf("%s %s/%s", r.Type, namespace, name)
		if other, ok := objects[id]; ok {
			findings = append(findings, Finding{r, fmt.Sprintf("is the same object as %s: %s/%s", other.Name, namespace, name)})
		}
		objects[id] = r
	}
	return findings
}

var requiredLabels = []string{"name", "instance", "component", "part-of", "managed-by"}

// Labels finds objects without the recommended app.kubernetes.io labels.
// CustomResourceDefinitions are as their project publishes them.
func Labels(g *Graph) []Finding {
	var findings []Finding
	for _, r := range g.Resources {
		if r.Kind() == "" || !r.Custom || r.Kind() == "CustomResourceDefinition" {
			continue
		}
		labels := stringMap(dig(r.Object(), "metadata", "labels"))
		for _, label := range requiredLabels {
			if labels["app.kubernetes.io/"+label] == "" {
				findings = append(findings, Finding{r, "has no label app.kubernetes.io/" + label})
			}
		}
	}
	return findings
}

// SameResources finds resources that exist in only one of two recordings.
// Between a preview and an update of one program the cause is a resource made
// inside an apply, which a preview cannot show.
func SameResources(a, b *Graph) []Finding {
	var findings []Finding
	for _, pair := range [][2]*Graph{{a, b}, {b, a}} {
		for _, r := range pair[0].Resources {
			if pair[1].Get(r.URN) == nil {
				findings = append(findings, Finding{r, fmt.Sprintf("is there with preview=%v, not with preview=%v", pair[0].Preview, pair[1].Preview)})
			}
		}
	}
	return findings
}

// Differences compares two recordings that should be equal, down to every input.
func Differences(a, b *Graph) []Finding {
	findings := SameResources(a, b)
	for _, r := range a.Resources {
		other := b.Get(r.URN)
		if other == nil {
			continue
		}
		before, errA := json.Marshal(r)
		after, errB := json.Marshal(other)
		if errA != nil || errB != nil || string(before) != string(after) {
			findings = append(findings, Finding{r, fmt.Sprintf("differs:\n  %s\n  %s", before, after)})
		}
	}
	return findings
}

// dig follows a path of keys through nested objects; nil when it leads nowhere.
func dig(object any, path ...string) any {
	for _, key := range path {
		m, ok := object.(map[string]any)
		if !ok {
			return nil
		}
		object = m[key]
	}
	return object
}

func stringMap(v any) map[string]string {
	m, _ := v.(map[string]any)
	out := make(map[string]string, len(m))
	for k, e := range m {
		out[k] = fmt.Sprint(e)
	}
	return out
}
