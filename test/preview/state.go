package preview

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"

	"ephemos.dev/deploy/test/graph"
	"ephemos.dev/deploy/test/standin"
)

// State turns a recording of an update into the deployment that this update would have left, for a preview of what comes next. Secret
// inputs are in clear in it: it is for tests.
func State(g *graph.Graph) ([]byte, error) {
	root := resource.NewURN(tokens.QName(g.Stack), graph.Project, "", resource.RootStackType, graph.Project+"-"+g.Stack)
	recorded := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	deployment := apitype.DeploymentV3{
		Manifest:  apitype.ManifestV1{Time: recorded},
		Resources: []apitype.ResourceV3{{URN: root, Type: resource.RootStackType}},
	}
	ids := map[string]string{}
	add := func(r *graph.Resource) error {
		state := apitype.ResourceV3{
			URN: resource.URN(r.URN), Custom: r.Custom, Type: tokens.Type(r.Type), Parent: root, Protect: r.Protect, RetainOnDelete: r.RetainOnDelete,
			DeletedWith: resource.URN(r.DeletedWith), Created: &recorded, Modified: &recorded,
		}
		if r.Parent != "" {
			state.Parent = resource.URN(r.Parent)
		}
		state.Inputs, _ = asMap(graph.Revealed(r.Inputs))
		state.Outputs = state.Inputs
		if r.Custom {
			id := r.Name + "-id"
			if standin.Known(r.Type) {
				answered, outputs, err := standin.Answer(r.Type, r.Name, r.Inputs)
				if err != nil {
					return err
				}
				id = answered
				state.Outputs, _ = asMap(graph.Revealed(outputs))
			}
			if id == "" {
				id = r.Name
			}
			state.ID = resource.ID(id)
			ids[r.URN] = id
		}
		if r.Provider != "" {
			state.Provider = r.Provider + "::" + ids[r.Provider]
		}
		for _, d := range r.Dependencies {
			state.Dependencies = append(state.Dependencies, resource.URN(d))
		}
		deployment.Resources = append(deployment.Resources, state)
		return nil
	}
	// A deployment lists what a resource needs before the resource.
	ordered, err := Ordered(g)
	if err != nil {
		return nil, err
	}
	for _, r := range ordered {
		if err := add(r); err != nil {
			return nil, err
		}
	}
	return json.Marshal(deployment)
}

func asMap(v any) (map[string]any, bool) {
	m, ok := v.(map[string]any)
	return m, ok
}

// Ordered lists the resources so that each comes after its parent, its provider and what it depends on.
func Ordered(g *graph.Graph) ([]*graph.Resource, error) {
	var ordered []*graph.Resource
	done := map[string]bool{}
	for left := slices.Clone(g.Resources); len(left) > 0; {
		var later []*graph.Resource
		for _, r := range left {
			needs := append(slices.Clone(r.Dependencies), r.Parent, r.Provider)
			if slices.ContainsFunc(needs, func(n string) bool { return !done[n] && g.Get(n) != nil }) {
				later = append(later, r)
				continue
			}
			ordered = append(ordered, r)
			done[r.URN] = true
		}
		if len(later) == len(left) {
			return nil, fmt.Errorf("%s and %d others wait for each other", left[0], len(left)-1)
		}
		left = later
	}
	return ordered, nil
}
