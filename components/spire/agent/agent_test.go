package agent

import (
	"path"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
	"ephemos.dev/deploy/components/spire/config"
)

func minimal() *Args {
	return &Args{
		Namespace: "spire-agent", TrustDomain: "prod.company.com", ClusterName: "prod",
		ServerAddress: "spire-server-entry.spire-server.svc.cluster.local",
		Image:         pulumi.String("spire-agent@sha256:0"), BundleConfigMap: pulumi.String("spire-bundle"),
	}
}

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "agent", args)
		return err
	})
}

// TestPodMatchesConfiguration holds that every file that the agent's
// configuration names is in the pod.
func TestPodMatchesConfiguration(t *testing.T) {
	g := record(t, minimal())
	pod := manifesttest.Get(g.One(t, "DaemonSet").Object, "spec.template.spec")
	mounted := func(volume string) any {
		return manifesttest.Get(pod, "containers.spire-agent.volumeMounts."+volume+".mountPath")
	}
	require.Equal(t, path.Dir(config.AgentSocketPath), mounted("sockets"))
	require.Equal(t, config.AgentSocketDir, manifesttest.Get(pod, "volumes.sockets.hostPath.path"))
	require.Equal(t, path.Dir(config.AgentBundlePath), mounted("bundle"))
	require.Equal(t, "spire-bundle", manifesttest.Get(pod, "volumes.bundle.configMap.name"))
	require.Equal(t, config.AgentDataDir, mounted("data"))

	attestation := manifesttest.Get(pod, "volumes.attestation.projected.sources.0.serviceAccountToken")
	require.Equal(t, config.AgentPSATPath, mounted("attestation").(string)+"/"+manifesttest.Get(attestation, "path").(string))
	require.Equal(t, config.PSATAudience, manifesttest.Get(attestation, "audience"))

	kubelet := manifesttest.Get(pod, "volumes.kubelet.projected.sources")
	require.Equal(t, config.AgentKubeletToken, mounted("kubelet").(string)+"/"+manifesttest.Get(kubelet, "0.serviceAccountToken.path").(string))
	require.Nil(t, manifesttest.Get(kubelet, "0.serviceAccountToken.audience"))
	require.Equal(t, config.AgentKubeletCA, mounted("kubelet").(string)+"/"+manifesttest.Get(kubelet, "1.configMap.items.0.path").(string))

	require.Equal(t, config.KubeletAddressEnv, manifesttest.Get(pod, "containers.spire-agent.env.0.name"))
	require.Equal(t, "status.hostIP", manifesttest.Get(pod, "containers.spire-agent.env.0.valueFrom.fieldRef.fieldPath"))
}

func TestOtherClusters(t *testing.T) {
	args := minimal()
	args.KubeletAddress = KubeletByNodeName
	args.KubeletCAHostPath = "/var/lib/kubelet/pki/kubelet.crt"
	args.LegacyKubeletAuthorization = true
	args.MaxUnavailable = "2"
	g := record(t, args)
	set := g.One(t, "DaemonSet").Object
	pod := manifesttest.Get(set, "spec.template.spec")
	require.Equal(t, "spec.nodeName", manifesttest.Get(pod, "containers.spire-agent.env.0.valueFrom.fieldRef.fieldPath"))
	require.Equal(t, "/var/lib/kubelet/pki/kubelet.crt", manifesttest.Get(pod, "volumes.kubelet-ca.hostPath.path"))
	text := manifesttest.Get(g.One(t, "ConfigMap").Object, "data").(map[string]any)[configKey].(string)
	require.Contains(t, text, `kubelet_ca_path = "`+manifesttest.Get(pod, "containers.spire-agent.volumeMounts.kubelet-ca.mountPath").(string)+`"`)
	require.Equal(t, []any{"nodes/proxy"}, manifesttest.Get(g.One(t, "ClusterRole").Object, "rules.0.resources"))
	require.Equal(t, 2.0, manifesttest.Get(set, "spec.updateStrategy.rollingUpdate.maxUnavailable"), "a number must not become a string")
}

// TestNoMorePrivilegeThanSaid holds what the package's comment promises.
func TestNoMorePrivilegeThanSaid(t *testing.T) {
	g := record(t, minimal())
	pod := manifesttest.Get(g.One(t, "DaemonSet").Object, "spec.template.spec")
	security := manifesttest.Get(pod, "containers.spire-agent.securityContext")
	require.Nil(t, manifesttest.Get(security, "privileged"))
	require.Equal(t, false, manifesttest.Get(security, "allowPrivilegeEscalation"))
	require.Equal(t, true, manifesttest.Get(security, "readOnlyRootFilesystem"))
	require.Equal(t, []any{"ALL"}, manifesttest.Get(security, "capabilities.drop"))
	require.Nil(t, manifesttest.Get(security, "capabilities.add"))
	require.Equal(t, false, manifesttest.Get(pod, "automountServiceAccountToken"))

	rules := manifesttest.Get(g.One(t, "ClusterRole").Object, "rules").([]any)
	require.Len(t, rules, 1)
	require.Equal(t, map[string]any{"apiGroups": []any{""}, "resources": []any{"nodes/pods"}, "verbs": []any{"get"}}, rules[0])
	require.Empty(t, g.All("Role"))
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Args)
		want   []string
	}{
		{"nothing set", func(a *Args) { *a = Args{} }, []string{"namespace", "image", "bundleConfigMap", "trust_domain", "server_address", "cluster"}},
		{"host path", func(a *Args) { a.HostSocketDir = "/" }, []string{"hostSocketDir"}},
		{"address", func(a *Args) { a.KubeletAddress = "skip" }, []string{"kubeletAddress", "skip", "node-name"}},
		{"rollout", func(a *Args) { a.MaxUnavailable = "some" }, []string{"maxUnavailable", "some"}},
		{"path", func(a *Args) { a.Config.SocketPath = "/x" }, []string{"config", "/x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := minimal()
			c.change(args)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "agent", args)
				return err
			})
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
			require.False(t, strings.Contains(err.Error(), "%!"))
		})
	}
}
