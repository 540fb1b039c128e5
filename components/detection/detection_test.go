package detection

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"ephemos.dev/deploy/components/manifest/manifesttest"
	"ephemos.dev/deploy/components/zones"
)

var update = flag.Bool("update", false, "write the golden files anew")

// small is a model with nothing but what the component asks for.
func small() zones.Model {
	return zones.Model{
		Zones: []zones.ZoneSpec{{Zone: zones.Management, Title: "Management Zone", Class: zones.Managing, Default: zones.Deny}},
		Roles: []zones.Role{{
			Name: zones.IntrusionDetection, Title: "Intrusion Detection", Zone: zones.Management, Place: zones.Nodes,
		}},
	}
}

func minimal() *Args {
	return &Args{Namespace: "intrusion-detection", Image: pulumi.String("flowlog@sha256:0"), TrustDomain: "example.org", Model: small()}
}

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "ids", args)
		return err
	})
}

func TestGolden(t *testing.T) {
	g := record(t, minimal())
	var objects []any
	for _, kind := range []string{"ConfigMap", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet"} {
		objects = append(objects, g.One(t, kind).Object)
	}
	require.Len(t, g.Types(), len(objects)+1, "and the component itself")
	text, err := yaml.Marshal(objects)
	require.NoError(t, err)
	name := filepath.Join("testdata", "detection.yaml")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(name, text, 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, string(want), string(text), "if the change is wanted, run go test with -update")
}

// TestNoMorePrivilegeThanSaid holds what the package's comment promises.
func TestNoMorePrivilegeThanSaid(t *testing.T) {
	g := record(t, minimal())
	pod := manifesttest.Get(g.One(t, "DaemonSet").Object, "spec.template.spec")
	require.Equal(t, true, manifesttest.Get(pod, "hostNetwork"))
	require.Nil(t, manifesttest.Get(pod, "hostPID"))
	require.Equal(t, map[string]any{
		"runAsUser": 0.0, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
		"capabilities":   map[string]any{"drop": []any{"ALL"}, "add": []any{"NET_ADMIN"}},
		"seccompProfile": map[string]any{"type": "RuntimeDefault"},
	}, manifesttest.Get(pod, "containers.flowlog.securityContext"))
	for _, volume := range manifesttest.Get(pod, "volumes").([]any) {
		require.Nil(t, manifesttest.Get(volume, "hostPath"))
	}
	require.Equal(t, []any{map[string]any{
		"apiGroups": []any{""}, "resources": []any{"pods", "nodes"}, "verbs": []any{"list", "watch"},
	}}, g.One(t, "ClusterRole").Object["rules"])
}

// TestModelIsHandedOver holds that the program reads exactly the model that was given, and is rolled when it changes.
func TestModelIsHandedOver(t *testing.T) {
	args := minimal()
	args.Model = zones.Standard(zones.Options{})
	g := record(t, args)
	configMap := g.One(t, "ConfigMap").Object
	var model zones.Model
	require.NoError(t, json.Unmarshal([]byte(configMap["data"].(map[string]any)["model.json"].(string)), &model))
	require.Equal(t, args.Model, model)
	mounted := func(g *manifesttest.Graph) any {
		return manifesttest.Get(g.One(t, "DaemonSet").Object, "spec.template.spec.volumes.model.configMap.name")
	}
	require.Equal(t, manifesttest.Get(configMap, "metadata.name"), mounted(g))

	args.Model = args.Model.Clone()
	args.Model.Flows = args.Model.Flows[1:]
	require.NotEqual(t, mounted(g), mounted(record(t, args)))
}

func TestNothingListensOnTheNodesAddresses(t *testing.T) {
	container := manifesttest.Get(record(t, minimal()).One(t, "DaemonSet").Object, "spec.template.spec.containers.flowlog")
	require.Equal(t, "127.0.0.1:9990", manifesttest.Get(container, "env.LISTEN_ADDRESS.value"))
	for _, probe := range []string{"readinessProbe", "livenessProbe"} {
		require.Equal(t, "127.0.0.1", manifesttest.Get(container, probe+".httpGet.host"))
		require.Equal(t, 9990.0, manifesttest.Get(container, probe+".httpGet.port"))
	}
}

func TestRefuses(t *testing.T) {
	refused := func(args *Args) error {
		return manifesttest.Refused(t, func(ctx *pulumi.Context) error {
			_, err := New(ctx, "ids", args)
			return err
		})
	}
	err := refused(&Args{Name: "Flow", Window: 2 * time.Hour, ScanThreshold: 1, Model: zones.Model{Zones: small().Zones, Flows: []zones.Flow{{From: "a", To: "b"}}}})
	for _, part := range []string{
		`name: "Flow"`, "namespace", "image", "trustDomain", `window: "2h0m0s"`, `scanThreshold: "1"`, `model: flow a -> b`, zones.IntrusionDetection,
	} {
		require.ErrorContains(t, err, part)
	}
	require.Error(t, refused(nil))
	args := minimal()
	args.TrustDomain = "spiffe://example.org/x"
	require.ErrorContains(t, refused(args), "trustDomain")
	args = minimal()
	args.Model.Roles[0].Ports = []zones.Port{{Name: "metrics", Number: 9990, Protection: zones.Plain}}
	require.ErrorContains(t, refused(args), zones.IntrusionDetection)
}
