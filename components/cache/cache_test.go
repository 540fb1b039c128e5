package cache

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/manifest/manifesttest"
	"ephemos.dev/deploy/components/zones"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), text, "if the change is wanted, run go test with -update")
}

func minimal() *Args {
	return &Args{
		Image: pulumi.String("redis:1"), TunnelImage: pulumi.String("ghostunnel:1"),
		AllowedCallers: []string{"spiffe://example.org/workload/user-service"},
	}
}

func full() *Args {
	args := minimal()
	args.Name, args.Namespace, args.SPIFFEPath, args.Replicas, args.Spread = "sessions", "store", "/data/sessions", 3, manifest.SpreadZones
	args.AllowedCallers = append(args.AllowedCallers, "spiffe://example.org/workload/order-service")
	args.MaxMemory, args.MaxClients, args.CSIDriver, args.ClusterDomain = 256, 1000, "other.spiffe.io", "example.internal"
	args.PriorityClassName = pulumi.String("high")
	args.Resources = manifest.Resources{CPU: "100m", Memory: "256Mi", MemoryLimit: "1Gi"}
	args.TunnelResources = manifest.Resources{MemoryLimit: "128Mi"}
	return args
}

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "c", args)
		return err
	})
}

func TestObjects(t *testing.T) {
	for name, args := range map[string]*Args{"cache.yaml": minimal(), "cache-full.yaml": full()} {
		g := record(t, args)
		objects := map[string]any{}
		for _, kind := range g.Types() {
			for _, r := range g.All(kind) {
				objects[r.Name] = r.Object
			}
		}
		text, err := yaml.Marshal(objects)
		require.NoError(t, err)
		golden(t, name, string(text))
	}
}

// TestIsTheRoleOfTheZones holds that what is deployed by default is found where the model of zones looks for it.
func TestIsTheRoleOfTheZones(t *testing.T) {
	role, known := zones.Standard(zones.Options{}).Role(zones.Cache)
	require.True(t, known)
	identity := minimal().Identity()
	require.Equal(t, role.Namespace, identity.Namespace)
	require.Equal(t, role.Labels, identity.PodLabels)
	require.Equal(t, role.SPIFFEPath, identity.SPIFFEIDPath)

	deployment := record(t, minimal()).One(t, "Deployment").Object
	require.Equal(t, role.Namespace, manifesttest.Get(deployment, "metadata.namespace"))
	pod := manifesttest.Get(deployment, "spec.template")
	require.Equal(t, identity.ServiceAccount, manifesttest.Get(pod, "spec.serviceAccountName"))
	for key, value := range role.Labels {
		require.Equal(t, value, manifesttest.Get(pod, "metadata.labels").(map[string]any)[key])
	}
	ports := manifesttest.Get(pod, "spec.initContainers.tunnel.ports")
	require.Len(t, ports, len(role.Ports))
	for _, p := range role.Ports {
		require.Equal(t, float64(p.Number), manifesttest.Get(ports, p.Name+".containerPort"))
	}
	require.Nil(t, manifesttest.Get(pod, "spec.containers.redis.ports"), "Redis itself is on the loopback")
	require.Equal(t, "cache.data.svc.cluster.local.:6379", minimal().Address())
}

func TestRefusesArguments(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Args)
		want   []string
	}{
		{"nothing", func(a *Args) { *a = Args{} }, []string{"image", "tunnelImage", "allowedCallers"}},
		{"everything", func(a *Args) {
			a.SPIFFEPath, a.Replicas, a.MaxMemory, a.MaxClients, a.Spread = "cache", -1, 1, 1, "far"
		}, []string{"spiffePath", "replicas", "maxMemory", "maxClients", "spread"}},
		{"less memory than it keeps", func(a *Args) { a.Resources.MemoryLimit = "64Mi" }, []string{"resources.memoryLimit"}},
		{"no amount", func(a *Args) { a.Resources.MemoryLimit = "much" }, []string{"resources.memoryLimit"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := minimal()
			c.change(args)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "c", args)
				return err
			})
			for _, key := range c.want {
				require.ErrorContains(t, err, key+`: "`)
			}
			require.Equal(t, len(c.want), strings.Count(err.Error(), " is not allowed: "), err)
		})
	}
}

func TestTwoInstallationsDoNotCollide(t *testing.T) {
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		for _, name := range []string{"a", "b"} {
			args := full()
			args.Name = name
			if _, err := New(ctx, name, args); err != nil {
				return err
			}
		}
		return nil
	})
	for _, kind := range []string{"ConfigMap", "ServiceAccount", "Service", "PodDisruptionBudget", "Deployment"} {
		names := map[any]bool{}
		for _, r := range g.All(kind) {
			names[manifesttest.Get(r.Object, "metadata.name")] = true
		}
		require.Len(t, names, 2, kind)
	}
}
