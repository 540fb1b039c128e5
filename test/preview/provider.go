package preview

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"ephemos.dev/deploy/test/standin"
)

// Versions that the stand-ins give: those of the SDKs in go.mod, so that the engine takes them for the ones that the program asks for.
const (
	awsVersion        = "6.83.2"
	kubernetesVersion = "4.25.0"
)

// A Check looks at the inputs of one resource as the real provider would and returns what it would refuse.
type Check func(token, name string, inputs resource.PropertyMap) []string

// standIn serves in a provider's place. It is no provider: it can only preview.
type standIn struct {
	pulumirpc.UnimplementedResourceProviderServer
	name, version string
	// answer gives the outputs of a resource; those that are not among its inputs are unknown in a preview.
	answer func(token, name string, inputs resource.PropertyMap) (resource.PropertyMap, error)
	check  Check
	// replaces says whether a change of an input makes another resource of it.
	replaces func(token, property string) bool
}

func awsStandIn(check Check) *standIn {
	return &standIn{name: "aws", version: awsVersion, check: check, replaces: replaces, answer: func(token, name string, inputs resource.PropertyMap) (resource.PropertyMap, error) {
		_, outputs, err := standin.Answer(token, name, inputs)
		return outputs, err
	}}
}

// kubernetesStandIn stands in for the Kubernetes provider where the real one has not been built. It answers with the inputs, as the
// real one does in a preview without a cluster.
func kubernetesStandIn() *standIn {
	return &standIn{name: "kubernetes", version: kubernetesVersion, answer: func(_, _ string, inputs resource.PropertyMap) (resource.PropertyMap, error) {
		return inputs, nil
	}}
}

// serve serves the stand-in on the loopback interface until stop is called.
func (s *standIn) serve() (port int, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, nil, err
	}
	const large = 400 << 20 // what the engine itself allows
	server := grpc.NewServer(grpc.MaxRecvMsgSize(large), grpc.MaxSendMsgSize(large))
	pulumirpc.RegisterResourceProviderServer(server, s)
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().(*net.TCPAddr).Port, server.Stop, nil
}

func (s *standIn) refuse(format string, args ...any) error {
	return status.Errorf(codes.FailedPrecondition, "the stand-in for the %s provider %s", s.name, fmt.Sprintf(format, args...))
}

// GetPluginInfo gives the version that the program's SDK asks for.
func (s *standIn) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: s.version}, nil
}

// Attach is how the engine begins with a provider that it did not start.
func (s *standIn) Attach(context.Context, *pulumirpc.PluginAttach) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// CheckConfig accepts every configuration.
func (s *standIn) CheckConfig(_ context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	return &pulumirpc.CheckResponse{Inputs: req.GetNews()}, nil
}

// DiffConfig sees no difference: the provider is never replaced in a preview.
func (s *standIn) DiffConfig(context.Context, *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	return &pulumirpc.DiffResponse{Changes: pulumirpc.DiffResponse_DIFF_NONE}, nil
}

// Configure takes every configuration and keeps none of it.
func (s *standIn) Configure(context.Context, *pulumirpc.ConfigureRequest) (*pulumirpc.ConfigureResponse, error) {
	return &pulumirpc.ConfigureResponse{AcceptSecrets: true, SupportsPreview: true}, nil
}

// Check passes inputs on unless the check refuses them.
func (s *standIn) Check(_ context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	response := &pulumirpc.CheckResponse{Inputs: req.GetNews()}
	if s.check == nil {
		return response, nil
	}
	inputs, err := unmarshal(req.GetNews())
	if err != nil {
		return nil, err
	}
	urn := resource.URN(req.GetUrn())
	for _, problem := range s.check(string(urn.Type()), urn.Name(), inputs) {
		response.Failures = append(response.Failures, &pulumirpc.CheckFailure{Reason: problem})
	}
	return response, nil
}

// Create answers what the resource would be; it makes nothing.
func (s *standIn) Create(_ context.Context, req *pulumirpc.CreateRequest) (*pulumirpc.CreateResponse, error) {
	if !req.GetPreview() {
		return nil, s.refuse("creates nothing: it serves previews only")
	}
	properties, err := s.preview(req.GetUrn(), req.GetProperties())
	return &pulumirpc.CreateResponse{Properties: properties}, err
}

// preview are the outputs as far as a preview knows them: the inputs, and the rest unknown.
func (s *standIn) preview(urn string, properties *structpb.Struct) (*structpb.Struct, error) {
	inputs, err := unmarshal(properties)
	if err != nil {
		return nil, err
	}
	u := resource.URN(urn)
	answer, err := s.answer(string(u.Type()), u.Name(), inputs)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	outputs := inputs.Copy()
	for key := range answer {
		if _, given := inputs[key]; !given {
			outputs[key] = resource.MakeComputed(resource.NewProperty(""))
		}
	}
	return marshal(outputs)
}

// Diff compares the inputs before with the inputs now.
func (s *standIn) Diff(_ context.Context, req *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	olds, err := unmarshal(req.GetOldInputs())
	if err != nil {
		return nil, err
	}
	news, err := unmarshal(req.GetNews())
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.DiffResponse{Changes: pulumirpc.DiffResponse_DIFF_NONE}
	token := string(resource.URN(req.GetUrn()).Type())
	diff := olds.Diff(news)
	if diff == nil {
		return response, nil
	}
	for _, key := range diff.ChangedKeys() {
		if slices.Contains(req.GetIgnoreChanges(), string(key)) || strings.HasPrefix(string(key), "__") {
			continue
		}
		response.Changes = pulumirpc.DiffResponse_DIFF_SOME
		response.Diffs = append(response.Diffs, string(key))
		if s.replaces != nil && s.replaces(token, string(key)) {
			response.Replaces = append(response.Replaces, string(key))
		}
	}
	return response, nil
}

// Update answers what the resource would become.
func (s *standIn) Update(_ context.Context, req *pulumirpc.UpdateRequest) (*pulumirpc.UpdateResponse, error) {
	if !req.GetPreview() {
		return nil, s.refuse("changes nothing: it serves previews only")
	}
	inputs, err := unmarshal(req.GetNews())
	if err != nil {
		return nil, err
	}
	// What the provider had computed stays.
	outputs, err := unmarshal(req.GetOlds())
	if err != nil {
		return nil, err
	}
	maps.Copy(outputs, inputs)
	properties, err := marshal(outputs)
	return &pulumirpc.UpdateResponse{Properties: properties}, err
}

// Delete is refused; a preview does not ask for it.
func (s *standIn) Delete(context.Context, *pulumirpc.DeleteRequest) (*emptypb.Empty, error) {
	return nil, s.refuse("deletes nothing: it serves previews only")
}

// Read is refused: what exists in AWS is not known here.
func (s *standIn) Read(_ context.Context, req *pulumirpc.ReadRequest) (*pulumirpc.ReadResponse, error) {
	return nil, s.refuse("cannot read %s %s: without credentials nothing that exists can be looked up", resource.URN(req.GetUrn()).Type(), req.GetId())
}

// Invoke is refused: a data source's answer depends on an account.
func (s *standIn) Invoke(_ context.Context, req *pulumirpc.InvokeRequest) (*pulumirpc.InvokeResponse, error) {
	return nil, s.refuse("cannot answer the data source %s: without credentials nothing that exists can be looked up; take the value from configuration", req.GetTok())
}

// Call is refused for the same reason.
func (s *standIn) Call(_ context.Context, req *pulumirpc.CallRequest) (*pulumirpc.CallResponse, error) {
	return nil, s.refuse("cannot answer the call %s", req.GetTok())
}

// Cancel has nothing to cancel.
func (s *standIn) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

var wire = plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true}

func unmarshal(properties *structpb.Struct) (resource.PropertyMap, error) {
	return plugin.UnmarshalProperties(properties, wire)
}

func marshal(properties resource.PropertyMap) (*structpb.Struct, error) {
	return plugin.MarshalProperties(properties, wire)
}
