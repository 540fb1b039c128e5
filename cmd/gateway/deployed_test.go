package main

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/gateway"
)

// TestDeployedConfigurationIsAccepted parses what the component of this program puts into its environment.
func TestDeployedConfigurationIsAccepted(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*gateway.Args)
		check  func(*testing.T, Config)
	}{
		{"by default", func(*gateway.Args) {}, func(t *testing.T, c Config) {
			require.Equal(t, "web-gateway", c.Name)
			require.Equal(t, "payment.services.svc.cluster.local.", c.UpstreamHost)
			require.Equal(t, "8443", c.UpstreamPort)
			require.Equal(t, "spiffe://example.org/workload/payment-service", c.UpstreamID.String())
			require.Equal(t, Routes{{"/chain", "/chain"}}, c.Routes)
			require.InDelta(t, 20, c.Rate, 0)
			require.Empty(t, c.EdgeCertFile)
		}},
		{"with everything set", func(a *gateway.Args) {
			a.Name, a.UpstreamPort, a.ParanoiaLevel, a.RateLimit, a.RateBurst = "api-gateway", 9443, 3, -1, 7
			a.Routes = []gateway.Route{{From: "/chain", To: "/chain"}, {From: "/api/", To: "/v1/"}}
			a.Methods, a.EdgeSecret = []string{"GET", "DELETE"}, pulumi.String("certificate")
			a.TrustedProxies, a.HealthPath, a.DrainDelay = []string{"10.0.0.0/24", "10.0.1.0/24"}, "/healthz", 20*time.Second
		}, func(t *testing.T, c Config) {
			require.Equal(t, "9443", c.UpstreamPort)
			require.Equal(t, Routes{{"/chain", "/chain"}, {"/api/", "/v1/"}}, c.Routes)
			require.Equal(t, []string{"GET", "DELETE"}, c.Firewall.Methods)
			require.Equal(t, 3, c.Firewall.ParanoiaLevel)
			require.Zero(t, c.Rate)
			require.Equal(t, 7, c.Burst)
			require.NotEmpty(t, c.EdgeCertFile)
			require.NotEmpty(t, c.EdgeKeyFile)
			require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("10.0.1.0/24")}, c.TrustedProxies)
			require.Equal(t, "/healthz", c.HealthPath)
			require.Equal(t, 20*time.Second, c.DrainDelay)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := &gateway.Args{
				Image: pulumi.String("gateway:1"), TrustDomain: "example.org", UpstreamHost: "payment.services.svc.cluster.local",
				UpstreamID: "spiffe://example.org/workload/payment-service",
			}
			c.change(args)
			d := &deployed{environment: map[string]string{}}
			require.NoError(t, pulumi.RunErr(func(ctx *pulumi.Context) error {
				_, err := gateway.New(ctx, "g", args)
				return err
			}, pulumi.WithMocks("project", "stack", d)))
			config, err := ParseConfig(func(key string) (string, bool) { v, set := d.environment[key]; return v, set })
			require.NoError(t, err)
			require.GreaterOrEqual(t, config.ShutdownTimeout, config.writeTimeout(), "requests in progress are waited for")
			c.check(t, config)
		})
	}
}

// deployed collects the environment of the Deployment's container.
type deployed struct {
	mu          sync.Mutex
	environment map[string]string
}

func (d *deployed) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	if args.TypeToken == "kubernetes:apps/v1:Deployment" {
		spec := args.Inputs.Mappable()["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, e := range spec["containers"].([]any)[0].(map[string]any)["env"].([]any) {
			entry := e.(map[string]any)
			d.environment[entry["name"].(string)] = entry["value"].(string)
		}
	}
	return args.Name, args.Inputs, nil
}

func (*deployed) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }
