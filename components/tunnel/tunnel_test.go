package tunnel

import (
	"slices"
	"strings"
	"testing"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest"
)

func valid() Args {
	return Args{
		Name: "store", Program: "store", Namespace: "data", Image: pulumi.String("ghostunnel:1"), Port: 6379, Target: 16379,
		AllowedCallers: []string{"spiffe://example.org/workload/user-service"}, Replicas: 1, Spread: manifest.SpreadPreferred,
		CSIDriver: "csi.spiffe.io", ClusterDomain: "cluster.local",
	}
}

func server() Server {
	return Server{Container: corev1.ContainerArgs{Name: pulumi.String("server"), Image: pulumi.String("server:1")}}
}

func TestFlags(t *testing.T) {
	args := valid()
	args.AllowedCallers = append(args.AllowedCallers, "spiffe://example.org/workload/order-service")
	require.Equal(t, strings.Fields(`server
		--use-workload-api-addr unix:///spiffe-workload-api/spire-agent.sock
		--listen :6379 --target 127.0.0.1:16379 --status http://:8080 --connect-timeout 3s --shutdown-timeout 5s
		--allow-uri spiffe://example.org/workload/user-service --allow-uri spiffe://example.org/workload/order-service`), args.Flags())
}

func TestValidate(t *testing.T) {
	require.NoError(t, valid().Validate())
	for _, c := range []struct {
		name   string
		change func(*Args)
		want   []string // the keys of the errors
	}{
		{"nothing", func(a *Args) { *a = Args{} }, []string{
			"name", "namespace", "tunnelImage", "port", "target", "target", "allowedCallers", "replicas", "csiDriver", "clusterDomain", "spread",
		}},
		{"pattern", func(a *Args) { a.AllowedCallers = []string{"spiffe://example.org/workload/*"} }, []string{"allowedCallers[0]"}},
		{"anybody", func(a *Args) { a.AllowedCallers = []string{"**"} }, []string{"allowedCallers[0]"}},
		{"trust domain", func(a *Args) { a.AllowedCallers = []string{"spiffe://example.org"} }, []string{"allowedCallers[0]"}},
		{"trailing slash", func(a *Args) { a.AllowedCallers = []string{"spiffe://example.org/a/"} }, []string{"allowedCallers[0]"}},
		{"another flag", func(a *Args) { a.AllowedCallers = []string{"--allow-all"} }, []string{"allowedCallers[0]"}},
		{"twice", func(a *Args) { a.AllowedCallers = slices.Repeat(a.AllowedCallers, 2) }, []string{"allowedCallers[1]"}},
		{"privileged", func(a *Args) { a.Port = 443 }, []string{"port"}},
		{"status port", func(a *Args) { a.Target = StatusPort }, []string{"target"}},
		{"one port for two", func(a *Args) { a.Target = a.Port }, []string{"target"}},
		{"name", func(a *Args) { a.Name = "Store" }, []string{"name"}},
		{"replicas", func(a *Args) { a.Replicas = 51 }, []string{"replicas"}},
		{"spread", func(a *Args) { a.Spread = "far" }, []string{"spread"}},
		{"domain", func(a *Args) { a.ClusterDomain = "cluster.local." }, []string{"clusterDomain"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := valid()
			c.change(&args)
			err := args.Validate()
			require.Error(t, err)
			var keys []string
			for line := range strings.SplitSeq(err.Error(), "\n") {
				key, rest, _ := strings.Cut(line, ": ")
				keys = append(keys, key)
				require.Contains(t, rest, " is not allowed: it must be ")
			}
			require.Equal(t, c.want, keys)
		})
	}
	require.NoError(t, ValidatePath("/data/cache"))
	for _, path := range []string{"", "data", "/data/", "/data/{{.PodName}}"} {
		require.ErrorContains(t, ValidatePath(path), `spiffePath: "`+path+`"`)
	}
}

// FuzzAllowedCallers holds that what is accepted is one SPIFFE ID to ghostunnel, and neither a pattern nor another flag.
func FuzzAllowedCallers(f *testing.F) {
	for _, seed := range []string{"spiffe://example.org/a", "spiffe://example.org/*", "spiffe://example.org/a/**", "spiffe://example.org/a/", "--allow-all", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, caller string) {
		args := valid()
		args.AllowedCallers = []string{caller}
		if args.Validate() != nil {
			return
		}
		require.Regexp(t, `^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$`, caller)
		flags := args.Flags()
		require.Equal(t, []string{"--allow-uri", caller}, flags[len(flags)-2:])
	})
}

// TestOnlyTheTunnelHasTheIdentity holds that the server behind neither mounts the Workload API nor listens where others reach it.
func TestOnlyTheTunnelHasTheIdentity(t *testing.T) {
	spec := valid().pod(server())
	sidecar := spec.InitContainers.(corev1.ContainerArray)[0].(corev1.ContainerArgs)
	behind := spec.Containers.(corev1.ContainerArray)[0].(corev1.ContainerArgs)
	require.Equal(t, pulumi.String("Always"), sidecar.RestartPolicy, "it is started first, and ended last")
	require.Len(t, sidecar.VolumeMounts, 1)
	require.Equal(t, pulumi.String(volume), sidecar.VolumeMounts.(corev1.VolumeMountArray)[0].(corev1.VolumeMountArgs).Name)
	require.Empty(t, behind.VolumeMounts)
	require.Empty(t, behind.Ports)
	for _, container := range []corev1.ContainerArgs{sidecar, behind} {
		require.Equal(t, manifest.Restricted(), container.SecurityContext)
	}
}

// TestGracePeriodCoversTheStop: the kubelet must not kill a pod that is still passing bytes on.
func TestGracePeriodCoversTheStop(t *testing.T) {
	require.Greater(t, gracePeriod, drainDelay+serverTimeout+drainTimeout)
}

func TestASinglePodHasNoBudget(t *testing.T) {
	args := valid()
	require.Nil(t, args.Budget(), "it would keep the node from ever being drained")
	args.Replicas = 2
	require.NotNil(t, args.Budget())
}

func TestConfigurationRollsPods(t *testing.T) {
	name := func(text string) pulumi.StringPtrInput {
		return valid().ConfigMap("x.conf", text).Metadata.(*metav1.ObjectMetaArgs).Name
	}
	require.Equal(t, name("a"), name("a"))
	require.NotEqual(t, name("a"), name("b"))
}
