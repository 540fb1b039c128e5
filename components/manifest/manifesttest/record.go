// Package manifesttest records what one component registers, for the tests
// beside the components. What has to hold for every component is tested in
// test/graph.
package manifesttest

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/test/awsrules"
	"ephemos.dev/deploy/test/standin"
)

// Resource is one registered resource.
type Resource struct {
	// Type is the last part of the type token, such as "StatefulSet".
	Type string
	// Name is the name in Pulumi.
	Name string
	// Object is the inputs as plain Go values.
	Object map[string]any
	// Dependencies are the names in Pulumi of what the resource depends on,
	// sorted.
	Dependencies []string
	// Provider is the name in Pulumi of the provider that makes it, or empty for
	// the default one.
	Provider string
	// Protect and Retain are the options against deletion.
	Protect, Retain bool
}

// Graph is what a program registered.
type Graph struct {
	mu        sync.Mutex
	resources []Resource
	inputs    []awsrules.Resource
}

// Record runs the program with every output known. It fails the test when the
// program fails, or when AWS or its provider would refuse a resource.
func Record(t *testing.T, program pulumi.RunFunc) *Graph {
	t.Helper()
	g := &Graph{}
	require.NoError(t, pulumi.RunErr(program, pulumi.WithMocks("project", "stack", g)))
	if len(g.inputs) > 0 {
		problems, err := awsrules.Check(g.inputs)
		require.NoError(t, err)
		for _, problem := range problems {
			t.Error(problem)
		}
	}
	return g
}

// Refused runs the program, requires it to fail before it has registered
// anything, and returns the error.
func Refused(t *testing.T, program pulumi.RunFunc) error {
	t.Helper()
	g := &Graph{}
	err := pulumi.RunErr(program, pulumi.WithMocks("project", "stack", g))
	require.Error(t, err)
	require.Empty(t, g.resources, "nothing may be registered before the arguments are checked")
	return err
}

// One returns the only resource of the type, or the only one whose
// metadata.name is as given.
func (g *Graph) One(t *testing.T, kind string, name ...string) Resource {
	t.Helper()
	var found []Resource
	for _, r := range g.resources {
		if r.Type == kind && (len(name) == 0 || Get(r.Object, "metadata.name") == name[0]) {
			found = append(found, r)
		}
	}
	require.Len(t, found, 1, "%s %v", kind, name)
	return found[0]
}

// All returns the resources of the type.
func (g *Graph) All(kind string) []Resource {
	var found []Resource
	for _, r := range g.resources {
		if r.Type == kind {
			found = append(found, r)
		}
	}
	return found
}

// Types returns the types of all resources, sorted, each once.
func (g *Graph) Types() []string {
	var types []string
	for _, r := range g.resources {
		types = append(types, r.Type)
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// Get returns the value at a path of keys separated by dots, or nil. An element
// of a list is found by its name ("containers.haproxy"), or by its position.
func Get(v any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		switch container := v.(type) {
		case map[string]any:
			v = container[key]
		case []any:
			v = element(container, key)
		default:
			return nil
		}
	}
	return v
}

func element(list []any, key string) any {
	for i, v := range list {
		if m, ok := v.(map[string]any); ok && m["name"] == key {
			return v
		}
		if len(key) == 1 && key[0] == byte('0'+i) {
			return v
		}
	}
	return nil
}

// NewResource records a registration and answers with its inputs.
func (g *Graph) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := Resource{Type: args.TypeToken[strings.LastIndex(args.TypeToken, ":")+1:], Name: args.Name, Object: args.Inputs.Mappable()}
	// A reference to a provider is its URN, which ends in its name, and its ID.
	if parts := strings.Split(args.Provider, "::"); len(parts) > 2 {
		r.Provider = parts[len(parts)-2]
	}
	r.Protect, r.Retain = args.RegisterRPC.GetProtect(), args.RegisterRPC.GetRetainOnDelete()
	for _, urn := range args.RegisterRPC.GetDependencies() {
		r.Dependencies = append(r.Dependencies, urn[strings.LastIndex(urn, "::")+2:])
	}
	slices.Sort(r.Dependencies)
	g.resources = append(g.resources, r)
	if strings.HasPrefix(args.TypeToken, "aws:") {
		g.inputs = append(g.inputs, awsrules.Resource{Type: args.TypeToken, Name: args.Name, Provider: args.Provider, Inputs: args.Inputs})
		return standin.Answer(args.TypeToken, args.Name, args.Inputs)
	}
	return args.Name + "-id", args.Inputs, nil
}

// Call refuses every invoke.
func (g *Graph) Call(args pulumi.MockCallArgs) (resource.PropertyMap, error) {
	return nil, &unexpectedCall{args.Token}
}

type unexpectedCall struct{ token string }

func (e *unexpectedCall) Error() string { return "unexpected invoke of " + e.token }
