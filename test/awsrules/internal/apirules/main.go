// Command apirules makes test/awsrules/api.json from AWS' own descriptions of its APIs: the enumerations, lengths, ranges and
// patterns of every input that has a counterpart in the request which the provider sends.
//
//	go run ./test/awsrules/internal/apirules -models DIR -out test/awsrules/api.json
//
// DIR has the descriptions as AWS publishes them with its SDK for Python (botocore, Apache-2.0): SERVICE/DATE/service-2.json.gz.
// With -v it lists the inputs of text, numbers and lists that have no counterpart; nothing is known of their values from here.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"ephemos.dev/deploy/test/awsrules/sdk"
)

// model is one service's description.
type model struct {
	Operations map[string]struct {
		Input struct{ Shape string } `json:"input"`
	} `json:"operations"`
	Shapes map[string]*shape `json:"shapes"`
}

type shape struct {
	Type     string               `json:"type"`
	Members  map[string]reference `json:"members,omitempty"`
	Required []string             `json:"required,omitempty"`
	Member   *reference           `json:"member,omitempty"`
	Enum     []string             `json:"enum,omitempty"`
	Pattern  string               `json:"pattern,omitempty"`
	Min      *float64             `json:"min,omitempty"`
	Max      *float64             `json:"max,omitempty"`
}

type reference struct {
	Shape string `json:"shape"`
}

// Rule is what the API says of one input.
type Rule struct {
	Path    string   `json:"path"`
	Enum    []string `json:"enum,omitempty"`
	Pattern string   `json:"pattern,omitempty"`
	Min     *float64 `json:"min,omitempty"`
	Max     *float64 `json:"max,omitempty"`
	// Count says that the bounds are those of a list's or map's number of elements.
	Count bool `json:"count,omitempty"`
}

// Request is the request that creates a resource, or one that the provider sends besides.
type Request struct {
	Source string `json:"source"`
	Rules  []Rule `json:"rules"`
}

func main() {
	log.SetFlags(0)
	models := flag.String("models", "", "folder of the API descriptions")
	out := flag.String("out", "test/awsrules/api.json", "file to write")
	verbose := flag.Bool("v", false, "list inputs without counterpart")
	flag.Parse()
	source, err := sdk.Find()
	if err != nil {
		log.Fatal(err)
	}
	result := map[string][]Request{}
	loaded := map[string]*model{}
	for _, typ := range slices.Sorted(maps.Keys(requests)) {
		inputs, err := source.Inputs(typ)
		if err != nil {
			log.Fatal(err)
		}
		matched := map[string]bool{}
		for _, request := range requests[typ] {
			m := loaded[request.service]
			if m == nil {
				if m, err = load(*models, request.service); err != nil {
					log.Fatal(err)
				}
				loaded[request.service] = m
			}
			start, err := m.find(request.operation)
			if err != nil {
				log.Fatalf("%s: %s: %v", typ, request.service, err)
			}
			g := &generator{model: m, renames: request.renames, matched: matched}
			g.object(inputs, start, "", 0)
			slices.SortFunc(g.rules, func(a, b Rule) int { return strings.Compare(a.Path, b.Path) })
			result[typ] = append(result[typ], Request{request.service + " " + request.operation, g.rules})
		}
		if *verbose {
			unmatched(inputs, "", matched, 0, func(path string) { fmt.Println(typ, path) })
		}
	}
	if err := os.WriteFile(*out, render(result), 0o644); err != nil {
		log.Fatal(err)
	}
	waf, err := load(*models, "wafv2")
	if err != nil {
		log.Fatal(err)
	}
	structures := map[string]*shape{}
	waf.reach("Rules", structures)
	data, err := json.MarshalIndent(structures, "", "\t")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(*out), "waf.json"), append(data, '\n'), 0o644); err != nil {
		log.Fatal(err)
	}
}

// render writes one rule a line.
func render(result map[string][]Request) []byte {
	line := func(v any) []byte {
		var b bytes.Buffer
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(v); err != nil {
			log.Fatal(err)
		}
		return bytes.TrimSpace(b.Bytes())
	}
	var b bytes.Buffer
	b.WriteString("{\n")
	for i, typ := range slices.Sorted(maps.Keys(result)) {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, "\t%s: [", line(typ))
		for j, request := range result[typ] {
			if j > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "{\"source\": %s, \"rules\": [", line(request.Source))
			for k, rule := range request.Rules {
				if k > 0 {
					b.WriteString(",")
				}
				fmt.Fprintf(&b, "\n\t\t%s", line(rule))
			}
			b.WriteString("]}")
		}
		b.WriteString("]")
	}
	b.WriteString("\n}\n")
	return b.Bytes()
}

// reach collects a shape and those that it consists of.
func (m *model) reach(name string, into map[string]*shape) {
	if into[name] != nil {
		return
	}
	s := m.Shapes[name]
	if s.Pattern != "" {
		pattern, err := translate(s.Pattern)
		if err != nil {
			log.Printf("%s: %v", name, err)
		}
		s.Pattern = pattern
	}
	into[name] = s
	for _, member := range s.Members {
		m.reach(member.Shape, into)
	}
	if s.Member != nil {
		m.reach(s.Member.Shape, into)
	}
}

func load(dir, service string) (*model, error) {
	files, err := filepath.Glob(filepath.Join(dir, service, "*", "service-2.json.gz"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no description of %s below %q", service, dir)
	}
	file, err := os.Open(files[len(files)-1])
	if err != nil {
		return nil, err
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	m := &model{}
	return m, json.NewDecoder(unzipped).Decode(m)
}

// find returns the shape of an operation's input, or, after a slash, of a member of it.
func (m *model) find(operation string) (*shape, error) {
	path := strings.Split(operation, "/")
	op, ok := m.Operations[path[0]]
	if !ok {
		return nil, fmt.Errorf("no operation %s", path[0])
	}
	s := m.Shapes[op.Input.Shape]
	for _, member := range path[1:] {
		reference, ok := s.Members[member]
		if !ok {
			return nil, fmt.Errorf("%s has no member %s", operation, member)
		}
		if s = m.Shapes[reference.Shape]; s.Type == "list" {
			s = m.Shapes[s.Member.Shape]
		}
	}
	return s, nil
}

type generator struct {
	model   *model
	renames map[string]string
	matched map[string]bool
	rules   []Rule
}

// object compares the properties of an object with the members of a structure.
func (g *generator) object(t *sdk.Type, s *shape, path string, depth int) {
	if depth > 8 {
		return
	}
	for _, name := range t.Names() {
		here := strings.TrimPrefix(path+"."+name, ".")
		member := g.member(s, here, name)
		if member == "" {
			continue
		}
		g.value(t.Properties[name].Type, g.model.Shapes[s.Members[member].Shape], here, depth)
	}
}

// member finds the member of a structure by a property's name: the provider turns CamelCase into snake_case, Pulumi turns that
// into camelCase and gives lists a plural.
func (g *generator) member(s *shape, path, name string) string {
	if to, ok := g.renames[path]; ok {
		if to == "" {
			return ""
		}
		if _, ok := s.Members[to]; !ok {
			log.Fatalf("%s: no member %s", path, to)
		}
		return to
	}
	want := plain(name)
	for _, candidate := range []string{want, want + "s", strings.TrimSuffix(want, "s"), strings.TrimSuffix(want, "es"), strings.TrimSuffix(want, "ies") + "y"} {
		for member := range s.Members {
			if plain(member) == candidate {
				return member
			}
		}
	}
	return ""
}

func plain(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
}

func (g *generator) value(t *sdk.Type, s *shape, path string, depth int) {
	// A list of which there can be one element is flattened to it; a wrapper with the list in it is, too.
	if s.Type == "list" && t.Kind != sdk.List {
		g.value(t, g.model.Shapes[s.Member.Shape], path, depth)
		return
	}
	if s.Type == "structure" && t.Kind == sdk.List && t.Element.Kind == sdk.Object {
		g.object(t.Element, s, path, depth+1)
		return
	}
	rule := Rule{Path: path, Min: s.Min, Max: s.Max}
	switch {
	case s.Type == "structure" && t.Kind == sdk.Object:
		g.matched[path] = true
		g.object(t, s, path, depth+1)
		return
	case s.Type == "list" && t.Kind == sdk.List:
		g.matched[path] = true
		rule.Count = true
		g.add(rule)
		g.value(t.Element, g.model.Shapes[s.Member.Shape], path, depth)
		return
	case s.Type == "string" && (t.Kind == sdk.String || t.Kind == sdk.Any):
		rule.Enum = s.Enum
		if s.Pattern != "" {
			pattern, err := translate(s.Pattern)
			if err != nil {
				log.Printf("%s: %v", path, err)
			} else {
				rule.Pattern = pattern
			}
		}
	case (s.Type == "integer" || s.Type == "long" || s.Type == "double") && t.Kind == sdk.Number:
	case s.Type == "map" && t.Kind == sdk.Map:
		rule.Count = true
	default:
		return
	}
	g.matched[path] = true
	g.add(rule)
}

func (g *generator) add(rule Rule) {
	// A length of at most 2³¹-1 is none.
	if rule.Max != nil && *rule.Max >= 1<<31-1 {
		rule.Max = nil
	}
	if rule.Min != nil && *rule.Min <= -1<<31 {
		rule.Min = nil
	}
	if rule.Enum != nil || rule.Pattern != "" && rule.Pattern != ".*" && rule.Pattern != "[\\s\\S]*" || rule.Min != nil || rule.Max != nil {
		g.rules = append(g.rules, rule)
	}
}

var unicodeEscape = regexp.MustCompile(`\\u([0-9A-Fa-f]{4})`)

// translate makes a pattern for Go of one for Java.
func translate(pattern string) (string, error) {
	pattern = unicodeEscape.ReplaceAllString(pattern, `\x{$1}`)
	// Half a surrogate pair is no character here: the range that it ends goes to the last character instead.
	pattern = strings.NewReplacer(`\x{D800}`, `\x{E000}`, `\x{DBFF}\x{DC00}-\x{DBFF}\x{DFFF}`, `\x{10000}-\x{10FFFF}`,
		`\x{DC00}`, `\x{10000}`, `\x{DFFF}`, `\x{10FFFF}`, `\x{DBFF}`, "", `\x{D7FF}`, `\x{D7FF}`,
		`\p{Alnum}`, `[:alnum:]`, `\p{Graph}`, `[:graph:]`, `\p{Print}`, `[:print:]`, `\p{ASCII}`, `\x00-\x7F`, `\p{IsLetter}`, `\p{L}`).Replace(pattern)
	pattern = strings.TrimSuffix(strings.TrimPrefix(pattern, "^"), "$")
	if _, err := regexp.Compile("^(?:" + pattern + ")$"); err != nil {
		return "", err
	}
	return pattern, nil
}

func unmatched(t *sdk.Type, path string, matched map[string]bool, depth int, report func(string)) {
	for t.Kind == sdk.List {
		t = t.Element
	}
	if t.Kind != sdk.Object || depth > 4 {
		return
	}
	for _, name := range t.Names() {
		here := strings.TrimPrefix(path+"."+name, ".")
		p := t.Properties[name]
		if !matched[here] {
			report(here)
		}
		if matched[here] || p.Type.Kind == sdk.Object || p.Type.Kind == sdk.List {
			unmatched(p.Type, here, matched, depth+1, report)
		}
	}
}
