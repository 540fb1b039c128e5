package graph

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Graph is what one run of a program registered.
type Graph struct {
	Project string `json:"project"`
	Stack   string `json:"stack"`
	// Preview says that the program ran with dry run on, where everything that a
	// provider would compute is unknown.
	Preview bool `json:"preview"`
	// Resources are sorted by URN.
	Resources []*Resource `json:"resources"`
	// Outputs are the outputs of the stack; secret and unknown ones are masked.
	Outputs map[string]any `json:"outputs,omitempty"`

	// outputsRegistered counts the resources that registered their outputs, the
	// stack among them.
	outputsRegistered int
}

// Resource is one registered resource.
type Resource struct {
	URN  string `json:"urn"`
	Type string `json:"type"`
	Name string `json:"name"`
	// Custom says that a provider manages the resource; components are not.
	Custom bool `json:"custom"`
	// Parent is the URN of the parent; empty below the stack itself.
	Parent string `json:"parent,omitempty"`
	// Provider is the URN of the explicit provider; empty for the default one.
	Provider     string   `json:"provider,omitempty"`
	Dependencies []string `json:"dependencies,omitempty"`
	Protect      bool     `json:"protect,omitempty"`
	// RetainOnDelete leaves the object behind when the resource is deleted.
	RetainOnDelete bool     `json:"retainOnDelete,omitempty"`
	DeletedWith    string   `json:"deletedWith,omitempty"`
	IgnoreChanges  []string `json:"ignoreChanges,omitempty"`
	// Aliases are the former names and types that the resource is known by.
	Aliases []string `json:"aliases,omitempty"`
	// SecretOutputs are the outputs that the program asked to be kept secret.
	SecretOutputs []string `json:"secretOutputs,omitempty"`
	// Secrets are the paths of the inputs that are marked secret.
	Secrets []string `json:"secrets,omitempty"`
	// Timeouts are the custom timeouts: create, update, delete.
	Timeouts map[string]string `json:"timeouts,omitempty"`
	// Inputs are the inputs with secret and unknown values in place.
	Inputs resource.PropertyMap `json:"-"`
}

// Masks that stand for values in JSON.
const (
	maskSecret  = "[secret]"
	maskUnknown = "[unknown]"
)

// MarshalJSON renders the resource with masked inputs.
func (r *Resource) MarshalJSON() ([]byte, error) {
	type plain Resource
	return json.Marshal(struct {
		*plain
		Inputs any `json:"inputs,omitempty"`
	}{(*plain)(r), masked(resource.NewProperty(r.Inputs))})
}

// Get returns the resource with the given URN, or nil.
func (g *Graph) Get(urn string) *Resource {
	i, ok := slices.BinarySearchFunc(g.Resources, urn, func(r *Resource, urn string) int { return strings.Compare(r.URN, urn) })
	if !ok {
		return nil
	}
	return g.Resources[i]
}

// OfKind lists the Kubernetes objects of a kind, such as "Namespace".
func (g *Graph) OfKind(kind string) []*Resource {
	var found []*Resource
	for _, r := range g.Resources {
		if r.Custom && r.Kind() == kind {
			found = append(found, r)
		}
	}
	return found
}

// Summary has a line for each resource: type, name and parent's name.
func (g *Graph) Summary() string {
	var b strings.Builder
	for _, r := range g.Resources {
		parent := "-"
		if p := g.Get(r.Parent); p != nil {
			parent = p.Name
		}
		fmt.Fprintf(&b, "%s %s < %s\n", r.Type, r.Name, parent)
	}
	return b.String()
}

// String names the resource in findings.
func (r *Resource) String() string { return r.Type + " " + r.Name }

// Kind is the kind of a Kubernetes object: the last part of its type.
func (r *Resource) Kind() string {
	if !strings.HasPrefix(r.Type, "kubernetes:") {
		return ""
	}
	return r.Type[strings.LastIndex(r.Type, ":")+1:]
}

// Object is the Kubernetes manifest that the inputs make up, secrets in clear.
func (r *Resource) Object() map[string]any {
	object, _ := revealed(resource.NewProperty(r.Inputs)).(map[string]any)
	return object
}

// Metadata is the name and namespace of the Kubernetes object.
func (r *Resource) Metadata() (namespace, name string) {
	metadata, _ := r.Object()["metadata"].(map[string]any)
	namespace, _ = metadata["namespace"].(string)
	name, _ = metadata["name"].(string)
	return namespace, name
}

// masked turns a value into plain JSON types; secrets and unknowns become masks.
func masked(v resource.PropertyValue) any {
	return plain(v, func(resource.PropertyValue) any { return maskSecret })
}

// revealed is masked with secrets in clear.
func revealed(v resource.PropertyValue) any { return plain(v, revealed) }

func plain(v resource.PropertyValue, secret func(resource.PropertyValue) any) any {
	switch {
	case v.IsSecret():
		return secret(v.SecretValue().Element)
	case v.IsOutput():
		out := v.OutputValue()
		switch {
		case !out.Known:
			return maskUnknown
		case out.Secret:
			return secret(out.Element)
		}
		return plain(out.Element, secret)
	case v.IsComputed():
		return maskUnknown
	case v.IsArray():
		list := make([]any, len(v.ArrayValue()))
		for i, e := range v.ArrayValue() {
			list[i] = plain(e, secret)
		}
		return list
	case v.IsObject():
		object := make(map[string]any, len(v.ObjectValue()))
		for k, e := range v.ObjectValue() {
			object[string(k)] = plain(e, secret)
		}
		return object
	case v.IsResourceReference():
		return string(v.ResourceReferenceValue().URN)
	default:
		return v.V
	}
}

// secretPaths lists the paths below v that are marked secret, sorted.
func secretPaths(v resource.PropertyValue) []string {
	var paths []string
	walk(v, "", func(path string, v resource.PropertyValue) bool {
		if v.IsSecret() || v.IsOutput() && v.OutputValue().Secret {
			paths = append(paths, path)
			return false
		}
		return true
	})
	slices.Sort(paths)
	return paths
}

// walk visits v and everything below it that is not inside an unknown. A visit
// that returns false leaves out what is below.
func walk(v resource.PropertyValue, path string, visit func(path string, v resource.PropertyValue) bool) {
	if !visit(path, v) {
		return
	}
	switch {
	case v.IsSecret():
		walk(v.SecretValue().Element, path, visit)
	case v.IsOutput() && v.OutputValue().Known:
		walk(v.OutputValue().Element, path, visit)
	case v.IsArray():
		for i, e := range v.ArrayValue() {
			walk(e, fmt.Sprintf("%s[%d]", path, i), visit)
		}
	case v.IsObject():
		for k, e := range v.ObjectValue() {
			walk(e, strings.TrimPrefix(path+"."+string(k), "."), visit)
		}
	}
}

// Revealed turns inputs into plain JSON types; unknown values become a mask, secret ones are in clear.
func Revealed(inputs resource.PropertyMap) any { return revealed(resource.NewProperty(inputs)) }

// Masked turns inputs into plain JSON types; unknown and secret values become masks.
func Masked(inputs resource.PropertyMap) any { return masked(resource.NewProperty(inputs)) }

// onAWS says whether the program makes anything on AWS.
func (g *Graph) onAWS() bool {
	return slices.ContainsFunc(g.Resources, func(r *Resource) bool { return r.Custom && strings.HasPrefix(r.Type, "aws:") })
}
