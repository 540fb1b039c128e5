package gateway

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
		g, err := New(ctx, "g", args)
		if err != nil {
			return err
		}
		ctx.Export("url", g.URL)
		ctx.Export("spiffeID", g.SPIFFEID)
		return nil
	}, pulumi.WithMocks("project", "stack", r)))
	return r.resources
}

func minimal() *Args {
	return &Args{
		Image: pulumi.String("gateway:1"), TrustDomain: "example.org", UpstreamHost: "payment.services.svc.cluster.local",
		UpstreamID: "spiffe://example.org/workload/payment-service",
	}
}

// full has everything that minimal leaves to the defaults.
func full() *Args {
	a := minimal()
	a.Name, a.UpstreamHost, a.UpstreamID = "api-gateway", "order.services.svc.cluster.local", "spiffe://example.org/workload/order-service"
	a.Routes = []Route{{"/chain", "/chain"}, {"/api/", "/v1/"}}
	a.Methods = []string{"GET", "DELETE"}
	a.DNSNames = []string{"api.example.org"}
	a.EdgeSecret = pulumi.String("api-certificate")
	a.ServiceType = LoadBalancer
	a.ServiceAnnotations = map[string]string{"service.beta.kubernetes.io/aws-load-balancer-type": "external"}
	a.ParanoiaLevel, a.RateLimit, a.RateBurst, a.Replicas = 2, -1, 10, 3
	a.PriorityClassName = pulumi.String("important")
	return a
}

func podSpec(resources map[string]map[string]any) map[string]any {
	return resources["g-deployment"]["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
}

func TestObjects(t *testing.T) {
	for name, args := range map[string]*Args{"gateway": minimal(), "edge": full()} {
		t.Run(name, func(t *testing.T) {
			text, err := yaml.Marshal(deploy(t, args))
			require.NoError(t, err)
			file := filepath.Join("testdata", name+".yaml")
			if *update {
				require.NoError(t, os.WriteFile(file, text, 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(want), string(text), "if the change is wanted, run go test with -update")
		})
	}
}

// TestPodsAreTheModels: the network policies that are rendered from the model select these pods and name these ports.
func TestPodsAreTheModels(t *testing.T) {
	model := zones.Standard(zones.Options{})
	for _, name := range []string{zones.WebGateway, zones.APIGateway} {
		role, known := model.Role(name)
		require.True(t, known)
		args := minimal()
		args.Name = name
		resources := deploy(t, args)
		deployment := resources["g-deployment"]
		require.Equal(t, role.Namespace, deployment["metadata"].(map[string]any)["namespace"])
		labels := deployment["spec"].(map[string]any)["template"].(map[string]any)["metadata"].(map[string]any)["labels"].(map[string]any)
		for key, value := range role.Labels {
			require.Equal(t, value, labels[key])
		}
		ports := podSpec(resources)["containers"].([]any)[0].(map[string]any)["ports"].([]any)
		require.Len(t, ports, len(role.Ports))
		for _, p := range ports {
			port, known := role.Port(p.(map[string]any)["name"].(string))
			require.True(t, known, p)
			require.InDelta(t, port.Number, p.(map[string]any)["containerPort"], 0)
		}
		require.Equal(t, role.SPIFFEPath, args.Identity().SPIFFEIDPath)
	}
}

func TestIdentityMatchesThePods(t *testing.T) {
	for _, args := range []*Args{minimal(), full()} {
		resources, identity := deploy(t, args), args.Identity()
		require.Equal(t, identity.ServiceAccount, podSpec(resources)["serviceAccountName"])
		require.Equal(t, identity.ServiceAccount, resources["g-account"]["metadata"].(map[string]any)["name"])
		deployment := resources["g-deployment"]
		require.Equal(t, identity.Namespace, deployment["metadata"].(map[string]any)["namespace"])
		labels := deployment["spec"].(map[string]any)["template"].(map[string]any)["metadata"].(map[string]any)["labels"].(map[string]any)
		require.NotEmpty(t, identity.PodLabels)
		for key, value := range identity.PodLabels {
			require.Equal(t, value, labels[key])
		}
		require.NotEmpty(t, identity.DNSNames)
	}
	inside := []string{"web-gateway.dmz.svc.cluster.local", "web-gateway.dmz.svc", "web-gateway.dmz"}
	require.Equal(t, inside, minimal().Identity().DNSNames)
	named := minimal()
	named.DNSNames = []string{"www.example.org"}
	require.Equal(t, append([]string{"www.example.org"}, inside...), named.Identity().DNSNames, "and those inside, by which its URL is reached")
}

func TestPodsMeetPodSecurityRestricted(t *testing.T) {
	for _, args := range []*Args{minimal(), full()} {
		pod := podSpec(deploy(t, args))
		require.Equal(t, false, pod["automountServiceAccountToken"])
		require.Equal(t, true, pod["securityContext"].(map[string]any)["runAsNonRoot"])
		container := pod["containers"].([]any)[0].(map[string]any)["securityContext"].(map[string]any)
		require.Equal(t, false, container["allowPrivilegeEscalation"])
		require.Equal(t, true, container["readOnlyRootFilesystem"])
		require.Equal(t, []any{"ALL"}, container["capabilities"].(map[string]any)["drop"])
		for _, v := range pod["volumes"].([]any) {
			require.NotContains(t, v, "hostPath")
		}
	}
}

func TestThePlaintextPortIsNotServed(t *testing.T) {
	for _, args := range []*Args{minimal(), full()} {
		spec := deploy(t, args)["g-service"]["spec"].(map[string]any)
		require.Equal(t, []any{map[string]any{"name": "https", "port": 443.0, "targetPort": "https"}}, spec["ports"])
	}
}

func TestClientsAddressesAreKept(t *testing.T) {
	for kind, want := range map[ServiceType]any{ClusterIP: nil, NodePort: "Local", LoadBalancer: "Local"} {
		args := minimal()
		args.ServiceType = kind
		require.Equal(t, want, deploy(t, args)["g-service"]["spec"].(map[string]any)["externalTrafficPolicy"], kind)
	}
}

// TestGracePeriodCoversTheStop: the kubelet must not kill a pod that is still finishing what it was asked.
func TestGracePeriodCoversTheStop(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Minute} {
		args := minimal()
		args.DrainDelay = delay
		a := args.WithDefaults()
		require.Greater(t, a.gracePeriod(), a.DrainDelay+shutdownTimeout)
		require.InDelta(t, a.gracePeriod().Seconds(), podSpec(deploy(t, args))["terminationGracePeriodSeconds"], 0)
		require.Equal(t, a.DrainDelay.String(), environment(t, args)["DRAIN_DELAY"])
	}
	require.Greater(t, shutdownTimeout, readTimeout+callTimeout)
}

func environment(t *testing.T, args *Args) map[string]any {
	t.Helper()
	found := map[string]any{}
	for _, e := range podSpec(deploy(t, args))["containers"].([]any)[0].(map[string]any)["env"].([]any) {
		found[e.(map[string]any)["name"].(string)] = e.(map[string]any)["value"]
	}
	return found
}

func TestBehindABalancer(t *testing.T) {
	args := minimal()
	args.ServiceType, args.NodePort, args.HealthPath = NodePort, 30443, "/healthz"
	args.TrustedProxies = []string{"10.0.0.0/24", "10.0.1.0/24"}
	spec := deploy(t, args)["g-service"]["spec"].(map[string]any)
	require.Equal(t, []any{map[string]any{"name": "https", "port": 443.0, "targetPort": "https", "nodePort": 30443.0}}, spec["ports"])
	require.Equal(t, "Local", spec["externalTrafficPolicy"])
	require.Equal(t, "/healthz", environment(t, args)["EDGE_HEALTH_PATH"])
	require.Equal(t, "10.0.0.0/24,10.0.1.0/24", environment(t, args)["TRUSTED_PROXIES"])
	for _, unset := range []string{"EDGE_HEALTH_PATH", "TRUSTED_PROXIES"} {
		require.NotContains(t, environment(t, minimal()), unset)
	}
}

func TestOneReplicaHasNoBudget(t *testing.T) {
	args := minimal()
	args.Replicas = 1
	require.NotContains(t, deploy(t, args), "g-pdb", "it would keep the node from ever being drained")
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

func TestRefuses(t *testing.T) {
	for key, change := range map[string]func(*Args){
		"name":           func(a *Args) { a.Name = "Gateway" },
		"namespace":      func(a *Args) { a.Namespace = "d/mz" },
		"image":          func(a *Args) { a.Image = nil },
		"trustDomain":    func(a *Args) { a.TrustDomain = "a/b" },
		"spiffePath":     func(a *Args) { a.SPIFFEPath = "gateway" },
		"upstreamHost":   func(a *Args) { a.UpstreamHost = "payment:8443" },
		"upstreamPort":   func(a *Args) { a.UpstreamPort = 65536 },
		"upstreamID":     func(a *Args) { a.UpstreamID = "spiffe://example.org" },
		"routes":         func(a *Args) { a.Routes = []Route{} },
		"routes[0].from": func(a *Args) { a.Routes = []Route{{"/a/../b", "/c"}} },
		"routes[0].to":   func(a *Args) { a.Routes = []Route{{"/a/", "/c"}} },
		"routes[1].from": func(a *Args) { a.Routes = []Route{{"/a", "/b"}, {"/a", "/c"}} },
		"methods":        func(a *Args) { a.Methods = []string{} },
		"methods[0]":     func(a *Args) { a.Methods = []string{"get"} },
		"dnsNames[0]":    func(a *Args) { a.DNSNames = []string{"*.example.org"} },
		"replicas":       func(a *Args) { a.Replicas = 51 },
		"spread":         func(a *Args) { a.Spread = "far" },
		"paranoiaLevel":  func(a *Args) { a.ParanoiaLevel = 5 },
		"rateLimit":      func(a *Args) { a.RateLimit = 1e7 },
		"rateBurst":      func(a *Args) { a.RateBurst = -1 },
		"serviceType":    func(a *Args) { a.ServiceType = "ExternalName" },
		"nodePort":       func(a *Args) { a.ServiceType, a.NodePort = NodePort, 8443 },
		"healthPath":     func(a *Args) { a.HealthPath = "/chain" },
		"drainDelay":     func(a *Args) { a.DrainDelay = time.Hour },

		"trustedProxies[1]": func(a *Args) { a.TrustedProxies = []string{"10.0.0.0/24", "2000::/8"} },
		"trustedProxies[0]": func(a *Args) { a.TrustedProxies = []string{"0.0.0.0/0"} },
		"clusterDomain":     func(a *Args) { a.ClusterDomain = "cluster.local." },
	} {
		t.Run(key, func(t *testing.T) {
			args := minimal()
			args.SPIFFEPath, args.DNSNames = "/gateway/web", []string{"www.example.org"} // otherwise made of what is changed
			change(args)
			err := refused(args)
			require.Error(t, err)
			require.Contains(t, err.Error(), "gateway g: "+key+`: "`)
			require.Equal(t, 1, strings.Count(err.Error(), " is not allowed: it must be "), "one mistake, one error: %v", err)
		})
	}
}

func refused(args *Args) error {
	return pulumi.RunErr(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "g", args)
		return err
	}, pulumi.WithMocks("project", "stack", &recorder{resources: map[string]map[string]any{}}))
}

func TestRefusesBesideEachOther(t *testing.T) {
	for name, change := range map[string]func(*Args){
		"a port without its type":     func(a *Args) { a.NodePort = 30443 },
		"a port of a balancer's own":  func(a *Args) { a.ServiceType, a.NodePort = LoadBalancer, 30443 },
		"a health path below a route": func(a *Args) { a.Routes, a.HealthPath = []Route{{"/api/", "/"}}, "/api/healthz" },
		"a health path with dots":     func(a *Args) { a.HealthPath = "/a/../b" },
	} {
		t.Run(name, func(t *testing.T) {
			args := minimal()
			change(args)
			require.Error(t, refused(args))
		})
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	err := refused(&Args{Name: "other", TrustDomain: "a/b", Replicas: -1, Spread: "far"})
	require.Error(t, err)
	for _, key := range []string{"image", "trustDomain", "spiffePath", "upstreamHost", "upstreamID", "replicas", "spread"} {
		require.ErrorContains(t, err, key+`: "`)
	}
	require.Error(t, refused(nil))
}
