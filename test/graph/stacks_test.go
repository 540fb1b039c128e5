package graph

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/segmentation"
	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/stacks"
)

var update = flag.Bool("update", false, "rewrite golden files")

const root = "../.."

// privileged are the namespaces that are exempt from the restricted standard.
var privileged = slices.Sorted(maps.Keys(segmentation.Exceptions()))

// model is the zone model of the stacks on a cluster that exists, awsModel that of those on AWS.
var (
	model    = zones.Standard(zones.Options{})
	awsModel = zones.AWS(zones.Options{})
)

// checks are what a stack's recording has to pass.
func checks(g *Graph) []Check {
	all := append(General(), RestrictedPods(privileged...))
	if g.onAWS() {
		return append(all, InModel(awsModel))
	}
	return append(all, InModel(model))
}

// stackNames are the stacks of this repository: those with a configuration file.
func stackNames(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "Pulumi.*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	names := make([]string, len(files))
	for i, file := range files {
		base := filepath.Base(file)
		names[i] = base[len("Pulumi.") : len(base)-len(".yaml")]
	}
	return names
}

// record records a stack as its file configures it, with changes.
func record(t *testing.T, stack string, mode Mode, changes map[string]string) *Graph {
	t.Helper()
	config, err := Configuration(root, stack)
	require.NoError(t, err)
	for key, value := range changes {
		config[stacks.Namespace+":"+key] = value
	}
	g, err := RecordStack(stack, config, mode)
	require.NoError(t, err)
	return g
}

// recordings keeps what record makes of unchanged configurations, which is the
// same every time.
var recordings = map[string]*Graph{}

// unchanged is a recording of a stack as its file configures it, shared by the
// tests: it must not be changed.
func unchanged(t *testing.T, stack string, mode Mode) *Graph {
	t.Helper()
	key := fmt.Sprint(stack, mode)
	if recordings[key] == nil {
		recordings[key] = record(t, stack, mode, nil)
	}
	return recordings[key]
}

func TestStacksPassEveryCheck(t *testing.T) {
	for _, stack := range stackNames(t) {
		t.Run(stack, func(t *testing.T) {
			g := unchanged(t, stack, Update)
			for _, check := range checks(g) {
				for _, finding := range check.Find(g) {
					t.Errorf("%s: %s", check.Name, finding)
				}
			}
		})
	}
}

// Profiles decide which objects exist: each has to pass, whatever stack uses it.
func TestProfilesPassEveryCheck(t *testing.T) {
	for profile := range stacks.Profiles {
		if profile == "production" {
			continue // the local stack's own
		}
		t.Run(profile, func(t *testing.T) {
			g := record(t, "local", Update, map[string]string{"profile": profile})
			for _, check := range checks(g) {
				for _, finding := range check.Find(g) {
					t.Errorf("%s: %s", check.Name, finding)
				}
			}
		})
	}
}

func TestStacksAreDeterministic(t *testing.T) {
	for _, stack := range stackNames(t) {
		for _, mode := range []Mode{Update, Preview} {
			for _, finding := range Differences(unchanged(t, stack, mode), record(t, stack, mode, nil)) {
				t.Errorf("%s: %s", stack, finding)
			}
		}
	}
}

// A preview shows every resource that an update makes: none is made from inside
// an apply.
func TestPreviewShowsEveryResource(t *testing.T) {
	for _, stack := range stackNames(t) {
		for _, finding := range SameResources(unchanged(t, stack, Preview), unchanged(t, stack, Update)) {
			t.Errorf("%s: %s", stack, finding)
		}
	}
}

func TestChangesOfConfigurationRollPods(t *testing.T) {
	before := unchanged(t, "local", Update)
	for name, changes := range map[string]map[string]string{
		"lifetime":     {"x509SVIDTTL": "60s"},
		"trust domain": {"trustDomain": "other.company.com"},
		"cluster":      {"clusterName": "other"},
		"pods":         {"podCIDR": "10.244.0.0/16"},
		"servers":      {"serverReplicas": "5"},
	} {
		t.Run(name, func(t *testing.T) {
			after := record(t, "local", Update, changes)
			require.NotEmpty(t, Differences(before, after), "nothing changed")
			for _, finding := range RollsPods(before, after) {
				t.Error(finding)
			}
		})
	}
}

// The custom resources of a stack are held against the real definitions.
func TestValidManifestsKnowsTheRealDefinitions(t *testing.T) {
	for kind, field := range map[string]string{"Cluster": "instancez", "DatabaseRole": "logon", "ClusterSPIFFEID": "spiffeIDTemplat"} {
		g := record(t, "local", Update, nil)
		found := g.OfKind(kind)
		require.NotEmpty(t, found, kind)
		found[0].Inputs["spec"].ObjectValue()[resource.PropertyKey(field)] = resource.NewProperty("x")
		assert.Contains(t, fmt.Sprint(ValidManifests(g)), fmt.Sprintf(`unknown field "spec.%s"`, field))
	}
}

// The servers are told the host that the database's operator makes.
func TestServersConnectToTheDatabase(t *testing.T) {
	g := unchanged(t, "local", Update)
	clusters := g.OfKind("Cluster")
	require.Len(t, clusters, 1)
	namespace, name := clusters[0].Metadata()
	var configured []string
	for _, r := range g.OfKind("ConfigMap") {
		for _, text := range stringMap(r.Object()["data"]) {
			if strings.Contains(text, fmt.Sprintf("host=%s-rw.%s.svc ", name, namespace)) {
				configured = append(configured, r.Name)
			}
		}
	}
	assert.Equal(t, []string{"spire-server-config"}, configured)
}

// Stateful resources are protected where the profile says so, and only there.
func TestProtection(t *testing.T) {
	for protect, want := range map[string]bool{"true": true, "false": false} {
		g := record(t, "local", Update, map[string]string{"protect": protect})
		for _, kind := range []string{"Cluster", "Namespace"} {
			for _, r := range g.OfKind(kind) {
				assert.Equal(t, want, r.Protect, "%s with protect=%s", r, protect)
			}
		}
		for _, r := range g.OfKind("ConfigMap") {
			assert.False(t, r.Protect, "%s changes with its content", r)
		}
	}
}

// Only with the key do agents get the right that kubelets before Kubernetes 1.33
// ask for.
func TestLegacyKubeletAuthorization(t *testing.T) {
	for legacy, want := range map[string]string{"false": "nodes/pods", "true": "nodes/proxy"} {
		g := record(t, "local", Update, map[string]string{"legacyKubeletAuthorization": legacy})
		var granted []string
		for _, r := range g.OfKind("ClusterRole") {
			for _, right := range []string{"nodes/pods", "nodes/proxy"} {
				if strings.Contains(fmt.Sprint(r.Object()["rules"]), right) {
					granted = append(granted, right)
				}
			}
		}
		assert.Equal(t, []string{want}, granted, "legacyKubeletAuthorization=%s", legacy)
	}
}

func TestGolden(t *testing.T) {
	for _, stack := range stackNames(t) {
		golden := filepath.Join("testdata", stack+".golden")
		got := unchanged(t, stack, Update).Summary()
		if *update {
			require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
			continue
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		assert.Equal(t, string(want), got, "run go test ./test/graph -run Golden -update")
	}
}
