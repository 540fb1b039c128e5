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

	"ephemos.dev/deploy/components/zones"
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
	}, Callers: map[string][]string{
		"user":  {"spiffe://example.org/workload/payment-service"},
		"order": {"spiffe://example.org/workload/user-service", "spiffe://example.org/gateway/api"},
	}}
}

func full() *Args {
	args := minimal()
	args.Callers["payment"] = []string{"spiffe://example.org/gateway/web"}
	args.Cache = Peer{Address: "cache.data.svc.cluster.local.:6379", SPIFFEID: "spiffe://example.org/data/cache"}
	args.Queue = Peer{Address: "queue.data.svc.cluster.local.:4222", SPIFFEID: "spiffe://example.org/data/queue"}
	args.CallRate, args.Replicas, args.PriorityClassName = 2.5, 1, pulumi.String("high")
	return args
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
	for name, args := range map[string]*Args{"workloads.yaml": minimal(), "workloads-full.yaml": full()} {
		text, err := yaml.Marshal(deploy(t, args))
		require.NoError(t, err)
		file := filepath.Join("testdata", name)
		if *update {
			require.NoError(t, os.WriteFile(file, text, 0o644))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), string(text), "if the change is wanted, run go test with -update")
	}
}

func TestEachServiceAcceptsExactlyItsCallers(t *testing.T) {
	for _, args := range []*Args{minimal(), full()} {
		resources := deploy(t, args)
		for _, s := range Services {
			require.Equal(t, strings.Join(args.Callers[s.Name], ","), environment(podSpec(resources, s.Name))["ALLOWED_CALLERS"], s.Name)
		}
	}
}

func TestOnlyItsUserKnowsTheCacheOrTheQueue(t *testing.T) {
	args := full()
	resources := deploy(t, args)
	for _, c := range []struct {
		service, key string
		peer         Peer
	}{{"user", "CACHE", args.Cache}, {"order", "QUEUE", args.Queue}} {
		for _, s := range Services {
			env := environment(podSpec(resources, s.Name))
			var want Peer
			if s.Name == c.service {
				want = c.peer
			}
			require.Equal(t, want, Peer{Address: env[c.key+"_ADDRESS"], SPIFFEID: env[c.key+"_ID"]}, s.Name)
		}
	}
	for _, s := range Services {
		for key := range environment(podSpec(deploy(t, minimal()), s.Name)) {
			require.NotRegexp(t, "^(CACHE|QUEUE)_", key)
		}
	}
}

// TestServicesAreThoseOfTheZones holds that the services are what the model of zones says they are.
func TestServicesAreThoseOfTheZones(t *testing.T) {
	model := zones.Standard(zones.Options{})
	callers := Callers(model, "example.org")
	for i, identity := range Identities(zones.NamespaceServices) {
		role, known := model.Role(identity.Name)
		require.True(t, known, identity.Name)
		require.Equal(t, role.SPIFFEPath, identity.SPIFFEIDPath)
		require.Equal(t, role.Namespace, identity.Namespace)
		require.Equal(t, role.Labels, identity.PodLabels)
		mtls, _ := role.Port("mtls")
		http, _ := role.Port("http")
		require.Equal(t, []int{mtlsPort, plainPort}, []int{mtls.Number, http.Number})

		s := Services[i]
		called := func(to string) bool { return slices.Contains(model.Callers(to, "mtls"), s.Path) }
		for _, next := range Services {
			require.Equal(t, next.Name == s.Next, called(next.Name), "%s calls %s", s.Name, next.Name)
		}
		require.Equal(t, s.Keeps, called(zones.Cache), s.Name)
		require.Equal(t, s.Announces, called(zones.Queue), s.Name)
	}
	require.Equal(t, []string{"spiffe://example.org/gateway/web"}, callers["payment"])
	require.Equal(t, []string{"spiffe://example.org/gateway/api", "spiffe://example.org/workload/user-service"}, callers["order"])
	args := minimal()
	args.Callers = callers
	require.NoError(t, args.withDefaults().validate())
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
	for i, s := range Services[1:] {
		require.Equal(t, s.Name, Services[i].Next)
	}
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
		_, err := New(ctx, "w", &Args{
			TrustDomain: "a/b", Replicas: -1, CallRate: -1, Spread: "far",
			Callers: map[string][]string{"payment": {"gateway", "gateway"}, "nobody": nil},
			Cache:   Peer{Address: "cache"}, Queue: Peer{SPIFFEID: "spiffe://example.org/data/queue"},
		})
		return err
	}, pulumi.WithMocks("project", "stack", &recorder{resources: map[string]map[string]any{}}))
	require.Error(t, err)
	for _, key := range []string{
		"trustDomain", "images.payment", "images.user", "images.order", "replicas", "callRate", "spread",
		"callers", "callers.payment[0]", "callers.payment[1]", "callers.user", "callers.order",
		"cache.address", "cache.spiffeID", "queue.address",
	} {
		require.ErrorContains(t, err, key+`: "`)
	}
	require.NotContains(t, err.Error(), "queue.spiffeID")
}
