package chain_test

import (
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/cmd/internal/chain"
	"ephemos.dev/deploy/components/cache"
	"ephemos.dev/deploy/components/queue"
	"ephemos.dev/deploy/components/workloads"
	"ephemos.dev/deploy/components/zones"
)

// TestDeployedConfigurationIsAccepted parses what the component of these services puts into their environment.
func TestDeployedConfigurationIsAccepted(t *testing.T) {
	environments := deployed{}
	require.NoError(t, pulumi.RunErr(func(ctx *pulumi.Context) error {
		_, err := workloads.New(ctx, "w", &workloads.Args{
			TrustDomain: "example.org", CallRate: 2.5, Callers: workloads.Callers(zones.Standard(zones.Options{}), "example.org"),
			Cache:  workloads.Peer{Address: cache.Args{}.Address(), SPIFFEID: "spiffe://example.org" + cache.Args{}.Identity().SPIFFEIDPath},
			Queue:  workloads.Peer{Address: queue.Args{}.Address(), SPIFFEID: "spiffe://example.org" + queue.Args{}.Identity().SPIFFEIDPath},
			Images: workloads.Images{Payment: pulumi.String("p"), User: pulumi.String("u"), Order: pulumi.String("o")},
		})
		return err
	}, pulumi.WithMocks("project", "stack", environments)))

	configs := map[string]chain.Config{}
	for _, place := range []chain.Place{chain.Payment, chain.User, chain.Order} {
		environment, known := environments[place.Name]
		require.True(t, known, place.Name)
		config, err := chain.ParseConfig(place, func(key string) (string, bool) { v, set := environment[key]; return v, set })
		require.NoError(t, err, place.Name)
		require.NotEmpty(t, config.Callers, place.Name)
		require.Equal(t, 5*time.Second, config.CallTimeout)
		configs[place.Name] = config
	}
	require.InDelta(t, 2.5, configs["payment"].CallRate, 0)
	require.Equal(t, "spiffe://example.org/gateway/web", configs["payment"].Callers[0].String())
	require.Contains(t, configs["order"].Callers, configs["payment"].NextID, "user is one of order's callers and payment's next")
	require.Equal(t, "cache.data.svc.cluster.local.", configs["user"].Cache.Host)
	require.Equal(t, "spiffe://example.org/data/cache", configs["user"].Cache.ID.String())
	require.Equal(t, "queue.data.svc.cluster.local.", configs["order"].Queue.Host)
	require.Equal(t, "spiffe://example.org/data/queue", configs["order"].Queue.ID.String())
	require.Equal(t, "user.services.svc.cluster.local.", configs["payment"].NextHost)
	require.Equal(t, configs["payment"].NextID.String(), "spiffe://example.org/workload/user-service")
	require.Equal(t, "spiffe://example.org/workload/order-service", configs["user"].NextID.String())
}

// deployed collects the environment of each Deployment's container by the container's name.
type deployed map[string]map[string]string

func (d deployed) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	if args.TypeToken == "kubernetes:apps/v1:Deployment" {
		spec := args.Inputs.Mappable()["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
		container := spec["containers"].([]any)[0].(map[string]any)
		environment := map[string]string{}
		for _, e := range container["env"].([]any) {
			entry := e.(map[string]any)
			environment[entry["name"].(string)] = entry["value"].(string)
		}
		d.put(container["name"].(string), environment)
	}
	return args.Name, args.Inputs, nil
}

func (d deployed) put(name string, environment map[string]string) {
	lock <- struct{}{}
	defer func() { <-lock }()
	d[name] = environment
}

// lock guards deployed: resources are registered concurrently.
var lock = make(chan struct{}, 1)

func (deployed) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }
