package stacks

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// lineage knows what is below each component.
//
// DependsOn of a component means its children, but the SDK learns who they are
// in the goroutine that registers each child: what is registered right after the
// component may look before all of them have told, and then waits for some of
// them only. A transformation runs before that goroutine starts, so what lineage
// knows is complete as soon as the component's constructor has returned.
type lineage struct {
	children map[pulumi.Resource][]pulumi.Resource
}

// newLineage watches all resources of the stack that are registered from now on.
// Registration is not concurrent in the programs of this package.
func newLineage(ctx *pulumi.Context) (*lineage, error) {
	l := &lineage{children: map[pulumi.Resource][]pulumi.Resource{}}
	return l, ctx.RegisterStackTransformation(l.watch)
}

func (l *lineage) watch(args *pulumi.ResourceTransformationArgs) *pulumi.ResourceTransformationResult {
	// Options that do not combine are reported by the registration itself.
	if options, err := pulumi.NewResourceOptions(args.Opts...); err == nil && options.Parent != nil {
		l.children[options.Parent] = append(l.children[options.Parent], args.Resource)
	}
	return nil
}

// resources are what the given resources stand for as dependencies: a component
// for everything below it, anything else for itself.
func (l *lineage) resources(of ...pulumi.Resource) []pulumi.Resource {
	var all []pulumi.Resource
	for _, r := range of {
		if _, custom := r.(pulumi.CustomResource); custom {
			all = append(all, r)
			continue
		}
		all = append(all, l.resources(l.children[r]...)...)
	}
	return all
}
