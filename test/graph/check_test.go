package graph

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// object makes a resource of a Kubernetes manifest, below a component and with
// an explicit provider. Strings that begin with "secret:" are marked secret.
func object(t *testing.T, manifest string) *Resource {
	t.Helper()
	var content map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(manifest), &content))
	version := fmt.Sprint(content["apiVersion"])
	if !strings.Contains(version, "/") {
		version = "core/" + version
	}
	name := fmt.Sprint(dig(content, "metadata", "name"))
	typ := fmt.Sprintf("kubernetes:%s:%s", version, content["kind"])
	inputs := resource.NewPropertyMapFromMap(content)
	markSecrets(inputs)
	return &Resource{
		URN: urn("test", component.URN, typ, name), Type: typ, Name: name, Custom: true,
		Parent: component.URN, Provider: provider.URN, Inputs: inputs, Secrets: secretPaths(resource.NewProperty(inputs)),
	}
}

func markSecrets(object resource.PropertyMap) {
	for k, v := range object {
		switch {
		case v.IsObject():
			markSecrets(v.ObjectValue())
		case v.IsString() && strings.HasPrefix(v.StringValue(), "secret:"):
			object[k] = resource.MakeSecret(resource.NewProperty(strings.TrimPrefix(v.StringValue(), "secret:")))
		}
	}
}

var (
	provider  = &Resource{URN: urn("test", "", "pulumi:providers:kubernetes", "cluster"), Type: "pulumi:providers:kubernetes", Name: "cluster", Custom: true}
	component = &Resource{URN: urn("test", "", "ephemos:test:Component", "component"), Type: "ephemos:test:Component", Name: "component"}
)

// graphOf is a graph of manifests, separated by ---, in one component.
func graphOf(t *testing.T, manifests string) *Graph {
	t.Helper()
	g := &Graph{Project: Project, Stack: "test", Resources: []*Resource{provider, component}, outputsRegistered: 2}
	for manifest := range strings.SplitSeq(manifests, "\n---\n") {
		if strings.TrimSpace(manifest) != "" {
			g.Resources = append(g.Resources, object(t, manifest))
		}
	}
	sortResources(g.Resources)
	return g
}

// good passes every check.
const good = `
apiVersion: v1
kind: Namespace
metadata:
  name: apps
  labels: &labels
    app.kubernetes.io/name: app
    app.kubernetes.io/instance: app
    app.kubernetes.io/component: app
    app.kubernetes.io/part-of: ephemos
    app.kubernetes.io/managed-by: pulumi
    pod-security.kubernetes.io/enforce: restricted
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: config
  namespace: apps
  labels: {app.kubernetes.io/name: a, app.kubernetes.io/instance: a, app.kubernetes.io/component: a, app.kubernetes.io/part-of: ephemos, app.kubernetes.io/managed-by: pulumi}
data: {key: one}
---
apiVersion: v1
kind: Secret
metadata:
  name: key
  namespace: apps
  labels: {app.kubernetes.io/name: a, app.kubernetes.io/instance: a, app.kubernetes.io/component: a, app.kubernetes.io/part-of: ephemos, app.kubernetes.io/managed-by: pulumi}
stringData: {key: "secret:abc"}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app
  namespace: apps
  labels: {app.kubernetes.io/name: a, app.kubernetes.io/instance: a, app.kubernetes.io/component: a, app.kubernetes.io/part-of: ephemos, app.kubernetes.io/managed-by: pulumi}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata:
      labels: {app: app}
      annotations: {ephemos.dev/config-checksum: one}
    spec:
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: app
          image: app:1
          ports: [{name: http, containerPort: 8080}]
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          resources:
            requests: {cpu: 10m, memory: 16Mi}
            limits: {memory: 32Mi}
          livenessProbe: {httpGet: {path: /live, port: http}}
          readinessProbe: {httpGet: {path: /ready, port: http}}
          volumeMounts: [{name: config, mountPath: /config}]
      volumes:
        - name: config
          configMap: {name: config}
---
apiVersion: v1
kind: Service
metadata:
  name: app
  namespace: apps
  labels: {app.kubernetes.io/name: a, app.kubernetes.io/instance: a, app.kubernetes.io/component: a, app.kubernetes.io/part-of: ephemos, app.kubernetes.io/managed-by: pulumi}
spec:
  selector: {app: app}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: app
  namespace: apps
  labels: {app.kubernetes.io/name: a, app.kubernetes.io/instance: a, app.kubernetes.io/component: a, app.kubernetes.io/part-of: ephemos, app.kubernetes.io/managed-by: pulumi}
spec:
  minAvailable: 1
  selector: {matchLabels: {app: app}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [size]
              x-kubernetes-validations: [{rule: "self.size != 13", message: "unlucky"}]
              properties:
                size: {type: integer, minimum: 1}
                mode: {type: string, enum: [a, b]}
---
apiVersion: example.com/v1
kind: Widget
metadata:
  name: w
  namespace: apps
  labels: {app.kubernetes.io/name: a, app.kubernetes.io/instance: a, app.kubernetes.io/component: a, app.kubernetes.io/part-of: ephemos, app.kubernetes.io/managed-by: pulumi}
spec: {size: 3, mode: a}
`

func allChecks() []Check { return append(General(), RestrictedPods("privileged")) }

func TestChecksPassAGoodGraph(t *testing.T) {
	g := graphOf(t, good)
	for _, check := range allChecks() {
		assert.Empty(t, check.Find(g), check.Name)
	}
}

// Each check fails on a graph that is good but for one thing.
func TestChecksFailABadGraph(t *testing.T) {
	tests := []struct {
		name string
		// replace and with change the text of good; spoil changes the graph.
		replace, with string
		spoil         func(*Graph)
		check         string
		want          string
	}{
		{name: "below the stack", spoil: func(g *Graph) { g.named("app").Parent = "" },
			check: "every resource belongs to a component", want: "has no component among its ancestors"},
		{name: "default provider", spoil: func(g *Graph) { g.named("app").Provider = "" },
			check: "every resource has an explicit provider", want: "has no explicit provider"},
		{name: "outputs forgotten", spoil: func(g *Graph) { g.outputsRegistered = 1 },
			check: "every component registers its outputs", want: "2 components, the stack among them, registered outputs 1 times"},
		{name: "Secret in clear", replace: `"secret:abc"`, with: `abc`,
			check: "no secret in clear", want: "Secret key: stringData.key is not marked secret"},
		{name: "Secret unknown and in clear", spoil: func(g *Graph) {
			g.named("key").Inputs["stringData"] = resource.NewProperty(resource.PropertyMap{"key": resource.MakeComputed(resource.NewProperty(""))})
		}, check: "no secret in clear", want: "stringData.key is not marked secret"},
		{name: "private key in a ConfigMap", replace: "data: {key: one}", with: `data: {key: "-----BEGIN EC PRIVATE KEY-----"}`,
			check: "no secret in clear", want: "ConfigMap config: data.key is not marked secret"},
		{name: "password in text", replace: "data: {key: one}", with: `data: {key: "host=db password=hunter2"}`,
			check: "no secret in clear", want: "data.key is not marked secret"},
		{name: "password in a URL", replace: "data: {key: one}", with: `data: {key: "postgres://spire:hunter2@db/spire"}`,
			check: "no secret in clear", want: "data.key is not marked secret"},
		{name: "field named password", replace: "data: {key: one}", with: `data: {password: one}`,
			check: "no secret in clear", want: "data.password is not marked secret"},
		{name: "secret output", spoil: func(g *Graph) { g.Outputs = map[string]any{"token": "abc"} },
			check: "no secret in clear", want: "output token is not marked secret"},
		{name: "URN twice", spoil: func(g *Graph) { g.Resources = append(g.Resources, g.named("w")) },
			check: "no name twice", want: "is registered twice"},
		{name: "object twice", spoil: func(g *Graph) {
			twin := *g.named("w")
			twin.URN, twin.Name = twin.URN+"2", "w2"
			g.Resources = append(g.Resources, &twin)
		}, check: "no name twice", want: "is the same object as w: apps/w"},
		{name: "generated name", replace: "  name: w\n", with: "",
			check: "no name twice", want: "has no metadata.name"},
		{name: "misspelt field", replace: "replicas: 2", with: "replica: 2",
			check: "manifests are valid", want: `unknown field "spec.replica"`},
		{name: "wrong type", replace: "replicas: 2", with: `replicas: "2"`,
			check: "manifests are valid", want: "cannot unmarshal string"},
		{name: "misspelt field of a custom resource", replace: "mode: a}", with: "mood: a}",
			check: "manifests are valid", want: `unknown field "spec.mood"`},
		{name: "custom resource against its enumeration", replace: "mode: a}", with: "mode: c}",
			check: "manifests are valid", want: `supported values: "a", "b"`},
		{name: "custom resource without a required field", replace: "spec: {size: 3, mode: a}", with: "spec: {mode: a}",
			check: "manifests are valid", want: "spec.size: Required value"},
		{name: "custom resource against a rule", replace: "spec: {size: 3, mode: a}", with: "spec: {size: 13, mode: a}",
			check: "manifests are valid", want: "unlucky"},
		{name: "misspelt field of a definition", replace: "served: true", with: "serve: true",
			check: "manifests are valid", want: `unknown field "spec.versions[0].serve"`},
		{name: "no labels", replace: "app.kubernetes.io/part-of: ephemos", with: "x: y",
			check: "labels say what an object belongs to", want: "has no label app.kubernetes.io/part-of"},
		{name: "no request of CPU", replace: "cpu: 10m, ", with: "",
			check: "containers have resources", want: "container app has no request of CPU"},
		{name: "no limit of memory", replace: "limits: {memory: 32Mi}", with: "limits: {cpu: 1}",
			check: "containers have resources", want: "container app has no limit of memory"},
		{name: "no liveness probe", replace: "livenessProbe", with: "startupProbe",
			check: "long-running containers have probes", want: "container app has no liveness probe"},
		{name: "no liveness probe in a sidecar", replace: "      containers:\n", with: "      initContainers: [{name: side, restartPolicy: Always, ports: [{containerPort: 1}]}, {name: setup, ports: [{containerPort: 2}]}, {name: quiet, restartPolicy: Always}]\n      containers:\n",
			check: "long-running containers have probes", want: "[kubernetes:apps/v1:Deployment app: container side has no liveness probe]"},
		{name: "no readiness probe", replace: "readinessProbe", with: "startupProbe",
			check: "long-running containers have probes", want: "no container has a readiness probe"},
		{name: "no checksum", replace: "annotations: {ephemos.dev/config-checksum: one}", with: "annotations: {a: b}",
			check: "a change of configuration rolls the pods", want: "reads ConfigMap/config, which is not immutable, and has no checksum annotation"},
		{name: "controller selects other pods", replace: "selector: {matchLabels: {app: app}}\n  template", with: "selector: {matchLabels: {app: b}}\n  template",
			check: "selectors match", want: "does not select its own pods"},
		{name: "service selects nothing", replace: "selector: {app: app}", with: "selector: {app: b}",
			check: "selectors match", want: "Service app: selects no pods"},
		{name: "service port leads nowhere", replace: "targetPort: http", with: "targetPort: https",
			check: "selectors match", want: "port 80 leads to no port of app"},
		{name: "budget selects nothing", replace: "minAvailable: 1\n  selector: {matchLabels: {app: app}}", with: "minAvailable: 1\n  selector: {matchLabels: {app: b}}",
			check: "selectors match", want: "PodDisruptionBudget app: selects no pods"},
		{name: "pods that wait for their Service", spoil: func(g *Graph) {
			for _, r := range g.OfKind("Service") {
				g.named("config").Dependencies = []string{r.URN}
			}
			g.named("app").Dependencies = []string{g.named("config").URN}
		}, check: "nothing waits for what waits for it", want: "Service app: waits for the pods of kubernetes:apps/v1:Deployment app, which wait for it"},
		{name: "a network that AWS does not make", spoil: func(g *Graph) {
			g.Resources = append(g.Resources, &Resource{
				URN: "urn:vpc", Type: "aws:ec2/vpc:Vpc", Name: "vpc", Custom: true,
				Inputs: resource.PropertyMap{"cidrBlock": resource.NewProperty("10.0.0.0/8")},
			})
		}, check: "AWS would take it", want: "aws:ec2/vpc:Vpc vpc: cidrBlock"},
		{name: "runs as root", replace: "runAsNonRoot: true", with: "runAsNonRoot: false",
			check: "pods run under the restricted standard", want: "runAsNonRoot != true"},
		{name: "mounts the host", replace: "configMap: {name: config}", with: "hostPath: {path: /}",
			check: "pods run under the restricted standard", want: "hostPath"},
		{name: "writes its root", replace: "readOnlyRootFilesystem: true", with: "readOnlyRootFilesystem: false",
			check: "pods run under the restricted standard", want: "can write its root file system"},
		{name: "namespace enforces less", replace: "enforce: restricted", with: "enforce: baseline",
			check: "pods run under the restricted standard", want: `enforces "baseline", not "restricted"`},
		{name: "namespace of somebody else", replace: "name: apps\n  labels: &labels", with: "name: others\n  labels: &labels",
			check: "pods run under the restricted standard", want: `runs in namespace "apps", which is not made here`},
	}
	covered := map[string]bool{}
	for _, test := range tests {
		covered[test.check] = true
		t.Run(test.name, func(t *testing.T) {
			text := good
			if test.replace != "" {
				text = strings.ReplaceAll(good, test.replace, test.with)
				require.NotEqual(t, good, text, "nothing replaced")
			}
			g := graphOf(t, text)
			if test.spoil != nil {
				test.spoil(g)
			}
			for _, check := range allChecks() {
				if check.Name == test.check {
					assert.Contains(t, fmt.Sprint(check.Find(g)), test.want)
				}
			}
		})
	}
	for _, check := range allChecks() {
		assert.True(t, covered[check.Name], "%s is never seen to fail", check.Name)
	}
}

// Headless Services and those with an annotation are not waited for.
func TestNoDeadlockKnowsWhatIsNotWaitedFor(t *testing.T) {
	for _, change := range []string{"spec:\n  clusterIP: None\n  selector: {app: app}", "spec:\n  selector: {app: app}"} {
		text := strings.ReplaceAll(good, "spec:\n  selector: {app: app}", change)
		if !strings.Contains(change, "None") {
			text = strings.ReplaceAll(text, "kind: Service\nmetadata:\n", "kind: Service\nmetadata:\n  annotations: {pulumi.com/skipAwait: \"true\"}\n")
		}
		g := graphOf(t, text)
		g.named("app").Dependencies = []string{g.OfKind("Service")[0].URN}
		assert.Empty(t, NoDeadlock(g))
	}
}

// Exempt namespaces are privileged, and their pods may be.
func TestRestrictedPodsExemptsListedNamespaces(t *testing.T) {
	text := strings.ReplaceAll(good, "runAsNonRoot: true", "runAsNonRoot: false")
	check := RestrictedPods("apps")
	assert.Contains(t, fmt.Sprint(check.Find(graphOf(t, text))), `enforces "restricted", not "privileged"`)
	assert.Empty(t, check.Find(graphOf(t, strings.ReplaceAll(text, "enforce: restricted", "enforce: privileged"))))
}

func TestRollsPods(t *testing.T) {
	before := graphOf(t, good)
	changed := strings.ReplaceAll(good, "data: {key: one}", "data: {key: two}")
	assert.Contains(t, fmt.Sprint(RollsPods(before, graphOf(t, changed))), "ConfigMap/config changes and the pods do not roll")
	assert.Empty(t, RollsPods(before, graphOf(t, strings.ReplaceAll(changed, "config-checksum: one", "config-checksum: two"))))
	assert.Empty(t, RollsPods(before, before))

	immutable := strings.NewReplacer("annotations: {ephemos.dev/config-checksum: one}", "annotations: {}", "data: {key: one}", "data: {key: one}\nimmutable: true")
	before = graphOf(t, immutable.Replace(good))
	assert.Empty(t, RollOnChange(before))
	stuck := graphOf(t, strings.ReplaceAll(immutable.Replace(good), "data: {key: one}", "data: {key: two}"))
	assert.Contains(t, fmt.Sprint(RollsPods(before, stuck)), "ConfigMap config: is immutable and changes under the same name")
	renamed := strings.NewReplacer("data: {key: one}", "data: {key: two}", "  name: config\n", "  name: config-2\n", "configMap: {name: config}", "configMap: {name: config-2}")
	assert.Empty(t, RollsPods(before, graphOf(t, renamed.Replace(immutable.Replace(good)))))
}

func TestDifferences(t *testing.T) {
	before := graphOf(t, good)
	assert.Empty(t, Differences(before, graphOf(t, good)))
	assert.Contains(t, fmt.Sprint(Differences(before, graphOf(t, strings.ReplaceAll(good, "size: 3", "size: 4")))), "Widget w: differs")
	fewer := graphOf(t, good)
	fewer.Resources = fewer.Resources[1:]
	assert.Contains(t, fmt.Sprint(SameResources(before, fewer)), "is there with preview=false")
	assert.Contains(t, fmt.Sprint(SameResources(fewer, before)), "is there with preview=false")
}

func (g *Graph) named(name string) *Resource {
	for _, r := range g.Resources {
		if r.Name == name && r.Kind() != "Service" && r.Kind() != "PodDisruptionBudget" {
			return r
		}
	}
	return nil
}
