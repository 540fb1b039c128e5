// Package bench measures what the size of a deployment costs: time and memory of a preview with many trust domains.
//
// A recording of a stack is registered again as many times as there are to be trust domains, each with names of its own, so that any
// program can be measured without knowing of it. The engine is the real one; stand-ins take the place of the providers.
package bench

import (
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/test/graph"
	"ephemos.dev/deploy/test/preview"
)

// Replay is a program that registers the resources of a recording times times, with the same inputs, parents, providers and
// dependencies.
func Replay(g *graph.Graph, times int) (pulumi.RunFunc, error) {
	ordered, err := preview.Ordered(g)
	if err != nil {
		return nil, err
	}
	return func(ctx *pulumi.Context) error {
		for i := range times {
			if err := replayOne(ctx, ordered, fmt.Sprintf("domain%d-", i)); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func replayOne(ctx *pulumi.Context, ordered []*graph.Resource, prefix string) error {
	made := map[string]pulumi.Resource{}
	for _, r := range ordered {
		var options []pulumi.ResourceOption
		if parent := made[r.Parent]; parent != nil {
			options = append(options, pulumi.Parent(parent))
		}
		if provider, ok := made[r.Provider].(pulumi.ProviderResource); ok {
			options = append(options, pulumi.Provider(provider))
		}
		var needs []pulumi.Resource
		for _, d := range r.Dependencies {
			if made[d] != nil {
				needs = append(needs, made[d])
			}
		}
		if len(needs) > 0 {
			options = append(options, pulumi.DependsOn(needs))
		}
		if r.Protect {
			options = append(options, pulumi.Protect(true))
		}
		inputs, _ := graph.Masked(r.Inputs).(map[string]any)
		properties, _ := input(inputs).(pulumi.Map)
		var resource pulumi.Resource
		var err error
		switch {
		case strings.HasPrefix(r.Type, "pulumi:providers:"):
			provider := &pulumi.ProviderResourceState{}
			resource, err = provider, ctx.RegisterResource(r.Type, prefix+r.Name, properties, provider, options...)
		case r.Custom:
			custom := &pulumi.CustomResourceState{}
			resource, err = custom, ctx.RegisterResource(r.Type, prefix+r.Name, properties, custom, options...)
		default:
			component := &pulumi.ResourceState{}
			resource, err = component, ctx.RegisterComponentResource(r.Type, prefix+r.Name, component, options...)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
		made[r.URN] = resource
	}
	return nil
}

// input turns plain JSON types into inputs.
func input(v any) pulumi.Input {
	switch v := v.(type) {
	case string:
		return pulumi.String(v)
	case bool:
		return pulumi.Bool(v)
	case float64:
		return pulumi.Float64(v)
	case []any:
		list := make(pulumi.Array, len(v))
		for i, e := range v {
			list[i] = input(e)
		}
		return list
	case map[string]any:
		object := pulumi.Map{}
		for k, e := range v {
			if e != nil {
				object[k] = input(e)
			}
		}
		return object
	}
	return pulumi.String(fmt.Sprint(v))
}
