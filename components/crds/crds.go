// Package crds registers the custom resource definitions of the operators that
// the components use.
//
// In flow which operators; out come their definitions. The definitions are
// those of the pinned upstream modules in toolchain/, without the prose: it is
// four fifths of their size, and Pulumi keeps all of it twice in its state.
// They are generated, because a Pulumi program must not need a module cache
// when it runs.
package crds

import (
	_ "embed" // the generated definitions
	"errors"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"sigs.k8s.io/yaml"

	"ephemos.dev/deploy/components/manifest"
)

//go:generate go run ./generate

//go:embed spire.yaml
var spire string

//go:embed cloudnative-pg.yaml
var cloudNativePG string

// A Set is the definitions of one operator.
type Set string

// The sets.
const (
	// SPIRE is what spire-controller-manager acts on: ClusterSPIFFEID,
	// ClusterStaticEntry, ClusterFederatedTrustDomain.
	SPIRE Set = "spire"
	// CloudNativePG is what the CloudNativePG operator acts on, among it
	// Cluster, Database and DatabaseRole.
	CloudNativePG Set = "cloudnative-pg"
)

// Args are the arguments of New.
type Args struct {
	// Sets are the operators whose definitions are registered. At least one.
	// Definitions are cluster-wide, so a set may be registered once in a cluster.
	Sets []Set
}

// CRDs are registered custom resource definitions. As a dependency they stand
// for all of their definitions.
type CRDs struct {
	pulumi.ResourceState

	// Names are the names of the definitions, in the form plural.group.
	Names pulumi.StringArrayOutput `pulumi:"names"`
}

func (a Args) validate() error {
	var problems []error
	if len(a.Sets) == 0 {
		problems = append(problems, errors.New(`sets: "" is not allowed: at least one must be named`))
	}
	seen := map[Set]bool{}
	for _, set := range a.Sets {
		if set != SPIRE && set != CloudNativePG {
			problems = append(problems, fmt.Errorf("sets: %q is not allowed: it must be %s or %s", string(set), SPIRE, CloudNativePG))
		}
		if seen[set] {
			problems = append(problems, fmt.Errorf("sets: %q is not allowed: it is named twice", string(set)))
		}
		seen[set] = true
	}
	return errors.Join(problems...)
}

// Definitions returns the definitions of a set, each an object as in JSON. They
// belong to the caller.
func Definitions(set Set) ([]map[string]any, error) {
	text := map[Set]string{SPIRE: spire, CloudNativePG: cloudNativePG}[set]
	var out []map[string]any
	for _, document := range strings.Split(text, "\n---\n")[1:] {
		var definition map[string]any
		if err := yaml.Unmarshal([]byte(document), &definition); err != nil {
			return nil, fmt.Errorf("definitions of %s: %w", set, err)
		}
		out = append(out, definition)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("definitions of %q: there are none", string(set))
	}
	return out, nil
}

// New registers the definitions.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*CRDs, error) {
	if args == nil {
		args = &Args{}
	}
	if err := args.validate(); err != nil {
		return nil, fmt.Errorf("custom resource definitions %s: %w", name, err)
	}
	self := &CRDs{}
	sets := make([]string, len(args.Sets))
	for i, set := range args.Sets {
		sets[i] = string(set)
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:crds:CRDs", name, pulumi.Map{"sets": pulumi.ToStringArray(sets)}, self, opts...); err != nil {
		return nil, fmt.Errorf("custom resource definitions %s: %w", name, err)
	}
	names, err := build(ctx, name, args, self, opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("custom resource definitions %s: %w", name, err), ctx.RegisterResourceOutputs(self, pulumi.Map{}))
	}
	self.Names = pulumi.ToStringArray(names).ToStringArrayOutput()
	return self, ctx.RegisterResourceOutputs(self, pulumi.Map{"names": self.Names})
}

// customResourceDefinition is the resource in Pulumi. Its schema is data, so
// the typed form of the SDK would bring nothing.
type customResourceDefinition struct{ pulumi.CustomResourceState }

func build(ctx *pulumi.Context, name string, args *Args, self *CRDs, opts []pulumi.ResourceOption) ([]string, error) {
	inherited, err := manifest.Inherit(self, opts)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, set := range args.Sets {
		definitions, err := Definitions(set)
		if err != nil {
			return nil, err
		}
		labels := map[string]any{
			"app.kubernetes.io/name":       string(set),
			"app.kubernetes.io/instance":   string(set),
			"app.kubernetes.io/component":  "crds",
			"app.kubernetes.io/part-of":    "ephemos",
			"app.kubernetes.io/managed-by": "pulumi",
		}
		for _, definition := range definitions {
			metadata := definition["metadata"].(map[string]any)
			metadata["labels"] = labels
			crd := metadata["name"].(string)
			if err := ctx.RegisterResource("kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition", name+"-"+crd,
				kubernetes.UntypedArgs(definition), &customResourceDefinition{}, inherited...); err != nil {
				return nil, err
			}
			names = append(names, crd)
		}
	}
	return names, nil
}
