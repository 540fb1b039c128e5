package stacks

import (
	"fmt"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// echo answers every registration with its inputs.
type echo struct{}

func (echo) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

func (echo) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	return args.Name, args.Inputs, nil
}

// What is below a component is known at once, however its children's
// registrations are scheduled.
func TestLineageIsCompleteAtOnce(t *testing.T) {
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		l, err := newLineage(ctx)
		if err != nil {
			return err
		}
		outer, inner := &pulumi.ResourceState{}, &pulumi.ResourceState{}
		if err := ctx.RegisterComponentResource("ephemos:test:Outer", "outer", outer); err != nil {
			return err
		}
		if err := ctx.RegisterComponentResource("ephemos:test:Inner", "inner", inner, pulumi.Parent(outer)); err != nil {
			return err
		}
		var want []pulumi.Resource
		for i := range 50 {
			parent := pulumi.Resource(outer)
			if i%2 == 0 {
				parent = inner
			}
			child := &pulumi.CustomResourceState{}
			if err := ctx.RegisterResource("test:index:Child", fmt.Sprint("child", i), nil, child, pulumi.Parent(parent)); err != nil {
				return err
			}
			want = append(want, child)
		}
		grandchild := &pulumi.CustomResourceState{}
		if err := ctx.RegisterResource("test:index:Child", "grandchild", nil, grandchild, pulumi.Parent(want[0])); err != nil {
			return err
		}
		assert.ElementsMatch(t, want, l.resources(outer), "below the component, and not below its custom resources")
		assert.Len(t, l.resources(inner), 25)
		assert.Equal(t, []pulumi.Resource{grandchild}, l.resources(grandchild))
		return nil
	}, pulumi.WithMocks("ephemos", "test", echo{}))
	require.NoError(t, err)
}
