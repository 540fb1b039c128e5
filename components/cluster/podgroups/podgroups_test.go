package podgroups

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
)

func groups(ids ...string) []pulumi.StringInput {
	out := []pulumi.StringInput{}
	for _, id := range ids {
		out = append(out, pulumi.String(id).ToStringOutput())
	}
	return out
}

func TestPolicies(t *testing.T) {
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		p, err := New(ctx, "g", &Args{Groups: map[string][]pulumi.StringInput{"dmz": groups("sg-dmz"), "data": groups("sg-data", "sg-dns")}})
		if err != nil {
			return err
		}
		require.Len(t, p.Policies(), 2)
		return nil
	})
	policies := map[any]any{}
	for _, r := range g.All("SecurityGroupPolicy") {
		require.Equal(t, "vpcresources.k8s.aws/v1beta1", r.Object["apiVersion"])
		// An empty selector, not none: none selects nothing.
		require.Equal(t, map[string]any{}, manifesttest.Get(r.Object, "spec.podSelector"))
		policies[manifesttest.Get(r.Object, "metadata.namespace")] = manifesttest.Get(r.Object, "spec.securityGroups.groupIds")
	}
	require.Equal(t, map[any]any{"dmz": []any{"sg-dmz"}, "data": []any{"sg-data", "sg-dns"}}, policies)
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		args *Args
		want string
	}{
		"nothing":      {nil, "at least one namespace"},
		"no group":     {&Args{Groups: map[string][]pulumi.StringInput{"dmz": nil}}, "namespace dmz: 0 security groups"},
		"six groups":   {&Args{Groups: map[string][]pulumi.StringInput{"dmz": groups("1", "2", "3", "4", "5", "6")}}, "6 security groups"},
		"nil group":    {&Args{Groups: map[string][]pulumi.StringInput{"dmz": {nil}}}, "empty security group"},
		"no namespace": {&Args{Groups: map[string][]pulumi.StringInput{"DMZ": groups("1")}}, `namespace "DMZ"`},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "g", c.args)
				return err
			}), c.want)
		})
	}
}
