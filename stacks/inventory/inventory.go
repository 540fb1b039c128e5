// Package inventory is a plain view of a stack's resources, of a recorded graph or of a deployment's state alike, for what is computed
// over them: costs, permissions, what a teardown leaves behind.
package inventory

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Resource is one resource of a stack.
type Resource struct {
	URN, Type, Name string
	// Parent and Provider are URNs; empty below the stack itself and for the default provider.
	Parent, Provider string
	Dependencies     []string
	// Custom says that a provider manages the resource; components are not.
	Custom         bool
	Protect        bool
	RetainOnDelete bool
	// Inputs hold plain JSON types. Outputs too; a recording has none.
	Inputs, Outputs map[string]any
}

// Inventory are the resources of one stack.
type Inventory struct {
	Stack     string
	Resources []Resource
	index     map[string]int
}

// New makes an inventory.
func New(stack string, resources []Resource) *Inventory {
	inv := &Inventory{Stack: stack, Resources: resources, index: map[string]int{}}
	for i, r := range resources {
		inv.index[r.URN] = i
	}
	return inv
}

// FromState reads a deployment as the Pulumi CLI exports it, which is the content of its member "deployment".
func FromState(stack string, deployment []byte) (*Inventory, error) {
	var state apitype.DeploymentV3
	if err := json.Unmarshal(deployment, &state); err != nil {
		return nil, fmt.Errorf("state of stack %s: %w", stack, err)
	}
	var resources []Resource
	for _, s := range state.Resources {
		if s.Type == resource.RootStackType {
			continue
		}
		r := Resource{
			URN: string(s.URN), Type: string(s.Type), Name: s.URN.Name(), Custom: s.Custom, Protect: s.Protect, RetainOnDelete: s.RetainOnDelete,
			Inputs: s.Inputs, Outputs: s.Outputs,
		}
		if i := strings.LastIndex(s.Provider, "::"); i >= 0 {
			r.Provider = s.Provider[:i]
		}
		if s.Parent.IsValid() && s.Parent.QualifiedType() != resource.RootStackType {
			r.Parent = string(s.Parent)
		}
		for _, d := range s.Dependencies {
			r.Dependencies = append(r.Dependencies, string(d))
		}
		resources = append(resources, r)
	}
	return New(stack, resources), nil
}

// Get returns the resource with the URN, or nil.
func (inv *Inventory) Get(urn string) *Resource {
	i, ok := inv.index[urn]
	if !ok {
		return nil
	}
	return &inv.Resources[i]
}

// Component is the name of the component directly below the stack that a resource belongs to; "-" for one outside of every component.
func (inv *Inventory) Component(r *Resource) string {
	top := r
	for parent := inv.Get(top.Parent); parent != nil; parent = inv.Get(top.Parent) {
		top = parent
	}
	if top.Custom {
		return "-"
	}
	return top.Name
}

// Region is the AWS region of a resource's provider; fallback when that does not say.
func (inv *Inventory) Region(r *Resource, fallback string) string {
	if provider := inv.Get(r.Provider); provider != nil {
		if region := provider.String("region"); known(region) {
			return region
		}
	}
	return fallback
}

// AWS says whether the AWS provider manages the resource.
func (r *Resource) AWS() bool { return r.Custom && strings.HasPrefix(r.Type, "aws:") }

// Kubernetes says whether the Kubernetes provider manages the resource.
func (r *Resource) Kubernetes() bool { return r.Custom && strings.HasPrefix(r.Type, "kubernetes:") }

// At follows a path of keys and list positions ("scalingConfig", "desiredSize") through the inputs; nil when it leads nowhere.
func (r *Resource) At(path ...any) any {
	var at any = r.Inputs
	for _, step := range path {
		switch step := step.(type) {
		case string:
			object, _ := at.(map[string]any)
			at = object[step]
		case int:
			list, _ := at.([]any)
			if step >= len(list) {
				return nil
			}
			at = list[step]
		}
	}
	return at
}

// String is the text at a path; empty when there is none.
func (r *Resource) String(path ...any) string {
	text, _ := r.At(path...).(string)
	return text
}

// Number is the number at a path; 0 when there is none.
func (r *Resource) Number(path ...any) float64 {
	number, _ := r.At(path...).(float64)
	return number
}

// Bool is the truth value at a path; false when there is none.
func (r *Resource) Bool(path ...any) bool {
	value, _ := r.At(path...).(bool)
	return value
}

// Len is the length of the list at a path.
func (r *Resource) Len(path ...any) int {
	list, _ := r.At(path...).([]any)
	return len(list)
}

// PhysicalName is the name that the program gives the object itself; empty when it leaves that to Pulumi.
func (r *Resource) PhysicalName() string {
	for _, key := range []string{"name", "bucket", "clusterIdentifier", "identifier", "nodeGroupName", "eventSubscription"} {
		if name := r.String(key); known(name) {
			return name
		}
	}
	return ""
}

// known is false for what a recording masks.
func known(text string) bool { return text != "" && !strings.HasPrefix(text, "[") }
