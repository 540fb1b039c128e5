package graph

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/internals"
	"google.golang.org/protobuf/types/known/emptypb"

	"ephemos.dev/deploy/stacks"
	"ephemos.dev/deploy/stacks/aws"
	"ephemos.dev/deploy/test/standin"
)

// Project is the name of the project in every recording.
const Project = "ephemos"

// Mode says what kind of run to record.
type Mode bool

// Modes of a recording.
const (
	// Update resolves every output, as far as the inputs give it.
	Update Mode = false
	// Preview leaves every output of a resource unknown. A real preview knows
	// more; a program that copes with this copes with that.
	Preview Mode = true
)

// RecordStack records the named stack with the given configuration (full keys).
func RecordStack(stack string, config map[string]string, mode Mode) (*Graph, error) {
	return Record(stack, stacks.Program(config, aws.Platform), mode)
}

// Record records one run of program as the named stack. It fails when the
// program does, or when it registers something that has no mock.
func Record(stack string, program pulumi.RunFunc, mode Mode) (*Graph, error) {
	rec := &recorder{
		graph:   &Graph{Project: Project, Stack: stack, Preview: bool(mode), Outputs: map[string]any{}},
		defined: map[string]bool{},
		exports: map[string]pulumi.Output{},
	}
	err := pulumi.RunErr(rec.withOutputs(program), pulumi.WithMocks(Project, stack, rec),
		func(info *pulumi.RunInfo) { info.DryRun = bool(mode) })
	if err := errors.Join(err, errors.Join(rec.errs...), rec.undefined()); err != nil {
		return nil, err
	}
	if err := rec.readOutputs(context.Background()); err != nil {
		return nil, err
	}
	sortResources(rec.graph.Resources)
	return rec.graph, nil
}

func sortResources(resources []*Resource) {
	slices.SortFunc(resources, func(a, b *Resource) int { return strings.Compare(a.URN, b.URN) })
}

// recorder is the mock monitor of one run. The SDK calls it concurrently.
type recorder struct {
	mu    sync.Mutex
	graph *Graph
	errs  []error
	// used and defined are the tokens of custom resources that occur, and those
	// that a CustomResourceDefinition of the run defines. Which comes first is
	// not given.
	used    []string
	defined map[string]bool
	exports map[string]pulumi.Output
}

// withOutputs keeps what the program exports for readOutputs.
func (r *recorder) withOutputs(program pulumi.RunFunc) pulumi.RunFunc {
	return func(ctx *pulumi.Context) error {
		if err := program(ctx); err != nil {
			return err
		}
		for name, value := range ctx.GetCurrentExportMap() {
			r.exports[name] = pulumi.ToOutput(value)
		}
		return nil
	}
}

// readOutputs records the values of the exports, all of which are resolved when
// a run has ended.
func (r *recorder) readOutputs(ctx context.Context) error {
	var errs []error
	for name, output := range r.exports {
		result, err := internals.UnsafeAwaitOutput(ctx, output)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("output %s: %w", name, err))
		case result.Secret:
			r.graph.Outputs[name] = maskSecret
		case !result.Known:
			r.graph.Outputs[name] = maskUnknown
		default:
			r.graph.Outputs[name] = result.Value
		}
	}
	return errors.Join(errs...)
}

// NewResource records one registration and answers as a provider would.
func (r *recorder) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fail := func(err error) (string, resource.PropertyMap, error) {
		err = fmt.Errorf("%s %s: %w", args.TypeToken, args.Name, err)
		r.errs = append(r.errs, err)
		return "", nil, err
	}
	rpc := args.RegisterRPC
	if rpc == nil {
		return fail(errors.New("reads an existing object, which has no mock"))
	}
	// The mock's own inputs lack unknown values.
	inputs, err := plugin.UnmarshalProperties(rpc.GetObject(), plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true, KeepResources: true})
	if err != nil {
		return fail(err)
	}
	provider, _, _ := cutLast(rpc.GetProvider(), "::")
	res := &Resource{
		URN: urn(r.graph.Stack, rpc.GetParent(), rpc.GetType(), rpc.GetName()), Type: rpc.GetType(), Name: rpc.GetName(),
		Custom: rpc.GetCustom(), Provider: provider,
		Dependencies: slices.Sorted(slices.Values(rpc.GetDependencies())), Protect: rpc.GetProtect(),
		RetainOnDelete: rpc.GetRetainOnDelete(), DeletedWith: rpc.GetDeletedWith(), IgnoreChanges: rpc.GetIgnoreChanges(),
		SecretOutputs: rpc.GetAdditionalSecretOutputs(), Secrets: secretPaths(resource.NewProperty(inputs)), Inputs: inputs,
	}
	if parent := resource.URN(rpc.GetParent()); parent != "" && parent.QualifiedType() != resource.RootStackType {
		res.Parent = string(parent)
	}
	for _, alias := range rpc.GetAliases() {
		spec := alias.GetSpec()
		res.Aliases = append(res.Aliases, cmp.Or(alias.GetUrn(), strings.Join([]string{spec.GetType(), spec.GetName(), spec.GetParentUrn()}, "|")))
	}
	if t := rpc.GetCustomTimeouts(); t != nil {
		res.Timeouts = map[string]string{"create": t.GetCreate(), "update": t.GetUpdate(), "delete": t.GetDelete()}
	}
	r.graph.Resources = append(r.graph.Resources, res)

	if !res.Custom {
		return "", resource.PropertyMap{}, nil
	}
	id, outputs, err := r.outputs(res)
	if err != nil {
		return fail(err)
	}
	if r.graph.Preview {
		return "", resource.PropertyMap{}, nil
	}
	return id, outputs, nil
}

// outputs is the identifier and what else the provider would return for the resource.
func (r *recorder) outputs(res *Resource) (id string, outputs resource.PropertyMap, err error) {
	id = res.Name + "-id"
	switch {
	case res.Type == "pulumi:providers:kubernetes":
		return id, res.Inputs, nil
	case standin.Known(res.Type):
		return standin.Answer(res.Type, res.Name, res.Inputs)
	case !strings.HasPrefix(res.Type, "kubernetes:"):
		return "", nil, errors.New("has no mock")
	}
	kind, err := res.groupVersionKind()
	if err != nil {
		return "", nil, err
	}
	if !typed.Recognizes(kind) {
		r.used = append(r.used, res.Type)
	}
	for _, token := range definedTokens(res) {
		r.defined[token] = true
	}
	outputs = res.Inputs.Copy()
	metadata := resource.PropertyMap{}
	if m, ok := outputs["metadata"]; ok && m.IsObject() {
		metadata = m.ObjectValue().Copy()
	}
	metadata["uid"] = resource.NewProperty("uid-of-" + res.Name)
	outputs["metadata"] = resource.NewProperty(metadata)
	return id, outputs, nil
}

// elsewhere are the kinds of custom resources that a cluster brings along, with who defines them.
var elsewhere = map[string]string{
	"kubernetes:vpcresources.k8s.aws/v1beta1:SecurityGroupPolicy": "the control plane of EKS, with the controller that reads them",
}

// undefined reports custom resources of kinds that nothing defines.
func (r *recorder) undefined() error {
	var errs []error
	for _, token := range r.used {
		if !r.defined[token] && elsewhere[token] == "" {
			errs = append(errs, fmt.Errorf("%s: neither Kubernetes nor a CustomResourceDefinition of this program has this kind", token))
		}
	}
	return errors.Join(errs...)
}

// Call refuses every invoke: what it would return depends on the world.
func (r *recorder) Call(args pulumi.MockCallArgs) (resource.PropertyMap, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := fmt.Errorf("invoke of %s: has no mock", args.Token)
	r.errs = append(r.errs, err)
	return nil, err
}

// RegisterResourceOutputs counts.
func (r *recorder) RegisterResourceOutputs() (*emptypb.Empty, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.graph.outputsRegistered++
	return &emptypb.Empty{}, nil
}

// urn is the name that the engine gives a resource.
func urn(stack, parent, typ, name string) string {
	parentType := tokens.Type("")
	if p := resource.URN(parent); p != "" && p.QualifiedType() != resource.RootStackType {
		parentType = p.QualifiedType()
	}
	return string(resource.NewURN(tokens.QName(stack), Project, parentType, tokens.Type(typ), name))
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
