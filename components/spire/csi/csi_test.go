package csi

import (
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
	"ephemos.dev/deploy/components/spire/config"
)

func minimal() *Args {
	return &Args{Namespace: "spire-agent", Image: pulumi.String("driver@sha256:0"), RegistrarImage: pulumi.String("registrar@sha256:0")}
}

// TestKubeletFindsDriver holds that the driver's socket is where the registrar
// tells the kubelet, and that both names of the driver agree.
func TestKubeletFindsDriver(t *testing.T) {
	args := minimal()
	args.KubeletDir = "/data/kubelet"
	args.DriverName = "csi.example.org"
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "csi", args)
		return err
	})
	g.One(t, "CSIDriver", "csi.example.org")
	pod := manifesttest.Get(g.One(t, "DaemonSet").Object, "spec.template.spec")
	require.Equal(t, "/data/kubelet/plugins/csi.example.org", manifesttest.Get(pod, "volumes.plugin.hostPath.path"))
	require.Equal(t, "/data/kubelet/plugins_registry", manifesttest.Get(pod, "volumes.registration.hostPath.path"))
	require.Equal(t, config.AgentSocketDir, manifesttest.Get(pod, "volumes.agent-socket.hostPath.path"))

	registrar := manifesttest.Get(pod, "containers.csi-registrar.args").([]any)
	require.Contains(t, registrar, "--kubelet-registration-path=/data/kubelet/plugins/csi.example.org/csi.sock")
	plugin := manifesttest.Get(pod, "containers.csi-registrar.volumeMounts.plugin.mountPath").(string)
	require.Contains(t, registrar, "--csi-address="+plugin+"/csi.sock")

	driver := manifesttest.Get(pod, "containers.spiffe-csi-driver.args").([]any)
	require.Equal(t, plugin+"/csi.sock", driver[slices.Index(driver, any("-csi-socket-path"))+1])
	require.Equal(t, "csi.example.org", driver[slices.Index(driver, any("-plugin-name"))+1])
	// Mounts must appear at the same path as on the node, or the node does not
	// find what it asked for.
	pods := manifesttest.Get(pod, "containers.spiffe-csi-driver.volumeMounts.pods")
	require.Equal(t, "/data/kubelet/pods", manifesttest.Get(pods, "mountPath"))
	require.Equal(t, "/data/kubelet/pods", manifesttest.Get(pod, "volumes.pods.hostPath.path"))
	require.Equal(t, "Bidirectional", manifesttest.Get(pods, "mountPropagation"))
}

// TestOnlyDriverIsPrivileged holds what the package's comment promises.
func TestOnlyDriverIsPrivileged(t *testing.T) {
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "csi", minimal())
		return err
	})
	pod := manifesttest.Get(g.One(t, "DaemonSet").Object, "spec.template.spec")
	require.Equal(t, true, manifesttest.Get(pod, "containers.spiffe-csi-driver.securityContext.privileged"))
	require.Nil(t, manifesttest.Get(pod, "containers.csi-registrar.securityContext.privileged"))
	require.Equal(t, []any{"ALL"}, manifesttest.Get(pod, "containers.csi-registrar.securityContext.capabilities.drop"))
	require.Nil(t, manifesttest.Get(pod, "hostNetwork"))
	require.Nil(t, manifesttest.Get(pod, "hostPID"))
	require.Equal(t, false, manifesttest.Get(pod, "automountServiceAccountToken"))
	require.NotContains(t, g.Types(), "ClusterRole")
}

func TestRefuses(t *testing.T) {
	err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "csi", &Args{DriverName: "CSI", KubeletDir: "kubelet"})
		return err
	})
	for _, part := range []string{"namespace", "driverName", "CSI", "image", "registrarImage", "kubeletDir"} {
		require.ErrorContains(t, err, part)
	}
}
