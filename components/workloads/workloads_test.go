package workloads

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

// recorder takes what a program registers.
type recorder struct {
	mu        sync.Mutex
	resources map[string]map[string]any
}

func (r *recorder) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resources[args.Name] = args.Inputs.Mappable()
	return args.Name, args.Inputs, nil
}

func (r *recorder) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

func deploy(t *testing.T, args *Args) map[string]map[string]any {
	t.Helper()
	r := &recorder{resources: map[string]map[string]any{}}
	require.NoError(t, pulumi.RunErr(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "w", args)
		return err
	}, pulumi.WithMocks("project", "stack", r)))
	return r.resources
}

func minimal() *Args {
	return &Args{TrustDomain: "example.org", Images: Images{
		Payment: pulumi.String("payment:1"), User: pulumi.String("user:1"), Order: pulumi.String("order:1"),
	}}
}

func podSpec(resources map[string]map[string]any, service string) map[string]any {
	return resources["w-"+service+"-deployment"]["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
}

func environment(pod map[string]any) map[string]string {
	out := map[string]string{}
	for _, e := range pod["containers"].([]any)[0].(map[string]any)["env"].([]any) {
		entry := e.(map[string]any)
		out[entry["name"].(string)] = entry["value"].(string)
	}
	return out
}

func TestObjects(t *testing.T) {
	resources := deploy(t, minimal())
	text, err := yaml.Marshal(resources)
	require.NoError(t, err)
	file := filepath.Join("testdata", "workloads.yaml")
	if *update {
		require.NoError(t, os.WriteFile(file, text, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(text), "if the change is wanted, run go test with -update")
}

func TestEachServiceAcceptsExactlyItsCaller(t *testing.T) {
	args := minimal()
	for gateway, payment := range map[string]string{"": "", "spiffe://example.org/gateway": "spiffe://example.org/gateway"} {
		args.GatewayID = gateway
		resources := deploy(t, args)
		require.Equal(t, payment, environment(podSpec(resources, "payment"))["ALLOWED_CALLERS"])
		require.Equal(t, "spiffe://example.org/workload/payment-service", environment(podSpec(resources, "user"))["ALLOWED_CALLERS"])
		require.Equal(t, "spiffe://example.org/workload/user-service", environment(podSpec(resources, "order"))["ALLOWED_CALLERS"])
	}
}

func TestPodsMeetPodSecurityRestricted(t *testing.T) {
	resources := deploy(t, minimal())
	for _, s := range Services {
		pod := podSpec(resources, s.Name)
		require.Equal(t, false, pod["automountServiceAccountToken"])
		require.Equal(t, true, pod["securityContext"].(map[string]any)["runAsNonRoot"])
		container := pod["containers"].([]any)[0].(map[string]any)["securityContext"].(map[string]any)
		require.Equal(t, false, container["allowPrivilegeEscalation"])
		require.Equal(t, true, container["readOnlyRootFilesystem"])
		volume := pod["volumes"].([]any)[0].(map[string]any)["csi"].(map[string]any)
		require.Equal(t, true, volume["readOnly"])
		require.Equal(t, "csi.spiffe.io", volume["driver"])
	}
}

// TestGracePeriodCoversTheStop: the kubelet must not kill a pod that is still finishing what it was asked.
func TestGracePeriodCoversTheStop(t *testing.T) {
	require.Greater(t, gracePeriod, callTimeout+drainDelay+shutdownTimeout)
}

func TestIdentitiesMatchThePods(t *testing.T) {
	resources := deploy(t, minimal())
	identities := Identities("services")
	require.Len(t, identities, len(Services))
	for _, identity := range identities {
		pod := podSpec(resources, identity.Name)
		require.Equal(t, identity.ServiceAccount, pod["serviceAccountName"])
		metadata := resources["w-"+identity.Name+"-deployment"]["spec"].(map[string]any)["template"].(map[string]any)["metadata"].(map[string]any)
		for key, value := range identity.PodLabels {
			require.Equal(t, value, metadata["labels"].(map[string]any)[key])
		}
		require.Equal(t, identity.Namespace, resources["w-"+identity.Name+"-deployment"]["metadata"].(map[string]any)["namespace"])
		require.True(t, strings.HasPrefix(identity.SPIFFEIDPath, "/workload/"))
	}
}

func TestTheChainIsConsistent(t *testing.T) {
	for i, s := range Services {
		if i > 0 {
			require.Equal(t, Services[i-1].Name, s.Caller)
			require.Equal(t, s.Name, Services[i-1].Next)
		}
	}
	require.Empty(t, Services[0].Caller)
	require.Empty(t, Services[len(Services)-1].Next)
}

func TestASingleReplicaHasNoDisruptionBudget(t *testing.T) {
	args := minimal()
	args.Replicas = 1
	for name := range deploy(t, args) {
		require.NotContains(t, name, "-pdb", "it would keep the node from ever being drained")
	}
}

func TestTwoInstallationsDoNotCollide(t *testing.T) {
	var names []string
	for _, name := range []string{"a", "b"} {
		r := &recorder{resources: map[string]map[string]any{}}
		require.NoError(t, pulumi.RunErr(func(ctx *pulumi.Context) error {
			_, err := New(ctx, name, minimal())
			return err
		}, pulumi.WithMocks("project", "stack", r)))
		for resourceName := range r.resources {
			names = append(names, resourceName)
		}
	}
	slices.Sort(names)
	require.Equal(t, names, slices.Compact(slices.Clone(names)))
}

func TestAllErrorsAtOnce(t *testing.T) {
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "w", &Args{TrustDomain: "a/b", Replicas: -1, CallRate: -1, GatewayID: "gateway", Spread: "far"})
		return err
	}, pulumi.WithMocks("project", "stack", &recorder{resources: map[string]map[string]any{}}))
	require.Error(t, err)
	for _, key := range []string{
		"trustDomain", "images.payment", "images.user", "images.order", "replicas", "callRate", "gatewayID", "spread",
	} {
		require.ErrorContains(t, err, key+`: "`)
	}
}
