package server

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/manifest/manifesttest"
	"ephemos.dev/deploy/components/spire/config"
)

func minimal() *Args {
	return &Args{
		Namespace: "spire-server", TrustDomain: "prod.company.com", ClusterName: "prod",
		Image: pulumi.String("spire-server@sha256:0"), ControllerManagerImage: pulumi.String("spire-controller-manager@sha256:0"),
		Database: Database{
			Host: "spire-db-rw.spire-server.svc", Name: "spire", User: "spire",
			CASecret: pulumi.String("spire-db-ca"), ClientSecret: pulumi.String("spire-db-client"),
		},
		UpstreamCASecret: pulumi.String("spire-root-ca"),
	}
}

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "spire", args)
		return err
	})
}

// TestPodMatchesConfiguration holds that every file that the server's
// configuration names is in the pod, and every port that it opens is named.
func TestPodMatchesConfiguration(t *testing.T) {
	args := minimal()
	g := record(t, args)
	pod := manifesttest.Get(g.One(t, "StatefulSet").Object, "spec.template.spec")
	files := map[string]string{} // path in the container to Secret/key
	for _, m := range manifesttest.Get(pod, "initContainers.spire-server.volumeMounts").([]any) {
		volume := manifesttest.Get(pod, "volumes."+manifesttest.Get(m, "name").(string))
		items, _ := manifesttest.Get(volume, "secret.items").([]any)
		for _, item := range items {
			path := manifesttest.Get(m, "mountPath").(string) + "/" + manifesttest.Get(item, "path").(string)
			files[path] = manifesttest.Get(volume, "secret.secretName").(string) + "/" + manifesttest.Get(item, "key").(string)
		}
	}
	require.Equal(t, map[string]string{
		config.ServerDBCAPath:     "spire-db-ca/ca.crt",
		config.ServerDBCertPath:   "spire-db-client/tls.crt",
		config.ServerDBKeyPath:    "spire-db-client/tls.key",
		config.ServerUpstreamCert: "spire-root-ca/tls.crt",
		config.ServerUpstreamKey:  "spire-root-ca/tls.key",
	}, files)
	for _, volume := range []string{"database-ca", "database-client", "upstream"} {
		// lib/pq refuses a key that others may read.
		require.EqualValues(t, 0o440, manifesttest.Get(pod, "volumes."+volume+".secret.defaultMode"))
	}

	c := args.withDefaults().serverConfig()
	for name, port := range map[string]int{"grpc": c.BindPort, "metrics": c.Prometheus.Port, "health": c.Health.Port} {
		require.EqualValues(t, port, manifesttest.Get(pod, "initContainers.spire-server.ports."+name+".containerPort"))
	}
	// Both containers find the socket in the same place.
	for _, container := range []string{"initContainers.spire-server", "containers.spire-controller-manager"} {
		require.Equal(t, config.ServerSocketDir, manifesttest.Get(pod, container+".volumeMounts.socket.mountPath"))
	}
	require.True(t, strings.HasPrefix(c.SocketPath, config.ServerSocketDir+"/"))
	require.Equal(t, config.ServerDataDir, manifesttest.Get(pod, "initContainers.spire-server.volumeMounts.data.mountPath"))
}

// TestProbesDoNotFollowTheDatabase holds that nothing but a patient liveness
// probe looks at SPIRE's health endpoint, which fails with the database.
func TestProbesDoNotFollowTheDatabase(t *testing.T) {
	container := manifesttest.Get(record(t, minimal()).One(t, "StatefulSet").Object, "spec.template.spec.initContainers.spire-server")
	for _, probe := range []string{"startupProbe", "readinessProbe"} {
		require.Equal(t, "grpc", manifesttest.Get(container, probe+".tcpSocket.port"))
		require.Nil(t, manifesttest.Get(container, probe+".httpGet"))
	}
	require.Equal(t, "/live", manifesttest.Get(container, "livenessProbe.httpGet.path"))
	patience := manifesttest.Get(container, "livenessProbe.periodSeconds").(float64) * manifesttest.Get(container, "livenessProbe.failureThreshold").(float64)
	require.GreaterOrEqual(t, patience, (10 * time.Minute).Seconds())
}

// TestServersAwaitTheDatabase holds that a server starts when the database of its own configuration answers, where there is an
// image to ask with.
func TestServersAwaitTheDatabase(t *testing.T) {
	args := minimal()
	require.Nil(t, manifesttest.Get(record(t, args).One(t, "StatefulSet").Object, "spec.template.spec.initContainers.await-database"))
	args.Database.ProbeImage, args.Database.Port = pulumi.String("postgresql:15"), 6432
	probe := manifesttest.Get(record(t, args).One(t, "StatefulSet").Object, "spec.template.spec.initContainers.0")
	require.Equal(t, "await-database", manifesttest.Get(probe, "name"), "the first of the pod")
	require.Equal(t, args.Database.Host, manifesttest.Get(probe, "env.PGHOST.value"))
	require.Equal(t, "6432", manifesttest.Get(probe, "env.PGPORT.value"))
	require.Equal(t, args.Database.User, manifesttest.Get(probe, "env.PGUSER.value"), "the pod's user has no name")
	require.Nil(t, manifesttest.Get(probe, "restartPolicy"), "it ends")
	require.Nil(t, manifesttest.Get(probe, "volumeMounts"), "it holds no key")
}

// TestEndsWithinGrace holds that the kubelet does not kill a server that is
// still finishing calls.
func TestEndsWithinGrace(t *testing.T) {
	pod := manifesttest.Get(record(t, minimal()).One(t, "StatefulSet").Object, "spec.template.spec")
	require.Greater(t, manifesttest.Get(pod, "terminationGracePeriodSeconds"), 10.0)
	require.Equal(t, "Always", manifesttest.Get(pod, "initContainers.spire-server.restartPolicy"), "the server must outlive the controller manager")
}

func TestServersStartTogetherAndApart(t *testing.T) {
	set := record(t, minimal()).One(t, "StatefulSet").Object
	require.Equal(t, 3.0, manifesttest.Get(set, "spec.replicas"))
	require.Equal(t, "Parallel", manifesttest.Get(set, "spec.podManagementPolicy"))
	require.NotNil(t, manifesttest.Get(set, "spec.template.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution"))
	require.Equal(t, "DoNotSchedule", manifesttest.Get(set, "spec.template.spec.topologySpreadConstraints.0.whenUnsatisfiable"))
	require.Equal(t, "Retain", manifesttest.Get(set, "spec.persistentVolumeClaimRetentionPolicy.whenDeleted"))
}

// TestDependencies holds what the servers wait for, and that the rest does not
// wait for what only the servers need.
func TestDependencies(t *testing.T) {
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		namespace, err := corev1.NewNamespace(ctx, "namespace", &corev1.NamespaceArgs{Metadata: &metav1.ObjectMetaArgs{Name: pulumi.String("n")}})
		if err != nil {
			return err
		}
		database, err := corev1.NewConfigMap(ctx, "database", &corev1.ConfigMapArgs{})
		if err != nil {
			return err
		}
		args := minimal()
		args.PodDependencies = []pulumi.Resource{database}
		_, err = New(ctx, "spire", args, pulumi.DependsOn([]pulumi.Resource{namespace}))
		return err
	})
	for _, r := range g.All("Role") {
		require.Contains(t, r.Dependencies, "namespace")
		require.NotContains(t, r.Dependencies, "database")
	}
	set := g.One(t, "StatefulSet")
	for _, dependency := range []string{"namespace", "database", "spire-bundle", "spire-own", "spire-cluster", "spire-webhook", "spire-config", "spire-service"} {
		require.Contains(t, set.Dependencies, dependency)
	}
}

// TestLeastPrivilege holds that the servers write only what they have to, and
// nothing that is not named where Kubernetes can name it.
func TestLeastPrivilege(t *testing.T) {
	g := record(t, minimal())
	for _, role := range slices.Concat(g.All("ClusterRole"), g.All("Role")) {
		for _, r := range manifesttest.Get(role.Object, "rules").([]any) {
			rule := r.(map[string]any)
			require.NotContains(t, rule["resources"], "secrets")
			for _, list := range []string{"apiGroups", "resources", "verbs"} {
				require.NotContains(t, rule[list], "*")
			}
			for _, verb := range rule["verbs"].([]any) {
				if slices.Contains([]any{"get", "list", "watch"}, verb) {
					continue
				}
				named := rule["resourceNames"] != nil
				unnameable := verb == "create" || rule["resources"].([]any)[0] == "events" || strings.HasSuffix(rule["resources"].([]any)[0].(string), "/status")
				require.True(t, named || unnameable, "%v", rule)
			}
		}
	}
	bundle := g.One(t, "ConfigMap", "spire-bundle").Object
	require.Equal(t, "spire-agent", manifesttest.Get(bundle, "metadata.namespace"))
	require.Nil(t, bundle["data"], "the servers own the data")
}

func TestWebhookIsIgnoredWithoutServers(t *testing.T) {
	for _, w := range manifesttest.Get(record(t, minimal()).One(t, "ValidatingWebhookConfiguration").Object, "webhooks").([]any) {
		require.Equal(t, "Ignore", manifesttest.Get(w, "failurePolicy"))
		require.LessOrEqual(t, manifesttest.Get(w, "timeoutSeconds"), 2.0)
		require.Nil(t, manifesttest.Get(w, "clientConfig.caBundle"), "the controller manager owns the CA bundle")
	}
}

// TestConfigurationRollsPods holds that a change of configuration is a change
// of the pod template.
func TestConfigurationRollsPods(t *testing.T) {
	name := func(args *Args) any {
		return manifesttest.Get(record(t, args).One(t, "StatefulSet").Object, "spec.template.spec.volumes.config.configMap.name")
	}
	changed := minimal()
	changed.Config.X509SVIDTTL = time.Minute
	require.Equal(t, name(minimal()), name(minimal()))
	require.NotEqual(t, name(minimal()), name(changed))
	manager := minimal()
	manager.LeaderElection.LeaseDuration = 20 * time.Second
	require.NotEqual(t, name(minimal()), name(manager))
}

func TestSelfSigned(t *testing.T) {
	args := minimal()
	args.UpstreamCASecret = nil
	g := record(t, args)
	require.Nil(t, manifesttest.Get(g.One(t, "StatefulSet").Object, "spec.template.spec.volumes.upstream"))
	for _, m := range g.All("ConfigMap") {
		if text, ok := m.Object["data"].(map[string]any); ok {
			require.NotContains(t, text[serverConfigKey], "UpstreamAuthority")
		}
	}
}

// TestTwoInstances holds that two trust domains in one cluster do not get in
// each other's way.
func TestTwoInstances(t *testing.T) {
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		if _, err := New(ctx, "a", minimal()); err != nil {
			return err
		}
		second := minimal()
		second.Name, second.Namespace, second.AgentNamespace = "second", "spire-second", "agent-second"
		_, err := New(ctx, "b", second)
		return err
	})
	for _, kind := range g.Types() {
		seen := map[string]bool{}
		for _, r := range g.All(kind) {
			if manifesttest.Get(r.Object, "metadata.name") == nil {
				continue
			}
			namespace, _ := manifesttest.Get(r.Object, "metadata.namespace").(string)
			id := namespace + "/" + manifesttest.Get(r.Object, "metadata.name").(string)
			require.False(t, seen[id], "%s %s", kind, id)
			seen[id] = true
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Args)
		want   []string
	}{
		{"nothing set", func(a *Args) { *a = Args{} }, []string{"namespace", "image", "controllerManagerImage", "database.caSecret", "database.clientSecret", "trust_domain", "host", "clusterName"}},
		{"trust domain", func(a *Args) { a.TrustDomain = "prod/x" }, []string{"trust_domain", "prod/x"}},
		{"more unavailable than there are", func(a *Args) { a.MaxUnavailable = 4 }, []string{"maxUnavailable", "4", "(3)"}},
		{"no server", func(a *Args) { a.Replicas = -1 }, []string{"replicas", "-1"}},
		{"spread", func(a *Args) { a.Spread = "far" }, []string{"spread", "far", string(manifest.SpreadNodes)}},
		{"lifetime", func(a *Args) { a.Config.X509SVIDTTL = 5 * time.Hour }, []string{"default_x509_svid_ttl", "sixth"}},
		{"path", func(a *Args) { a.Config.KeysPath = "/x" }, []string{"config", "/x"}},
		{"lease", func(a *Args) { a.LeaderElection.LeaseDuration = time.Second }, []string{"leaderElection.leaseDuration"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := minimal()
			c.change(args)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "spire", args)
				return err
			})
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}
