package graph

import "ephemos.dev/deploy/stacks/inventory"

// Inventory is the plain view of the recording. Secret and unknown inputs are masks in it.
func (g *Graph) Inventory() *inventory.Inventory {
	resources := make([]inventory.Resource, len(g.Resources))
	for i, r := range g.Resources {
		inputs, _ := Masked(r.Inputs).(map[string]any)
		resources[i] = inventory.Resource{
			URN: r.URN, Type: r.Type, Name: r.Name, Parent: r.Parent, Provider: r.Provider, Dependencies: r.Dependencies, Custom: r.Custom,
			Protect: r.Protect, RetainOnDelete: r.RetainOnDelete, Inputs: inputs,
		}
	}
	return inventory.New(g.Stack, resources)
}
