package graph

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// pod is the template of the pods that a resource makes.
type pod struct {
	resource  *Resource
	namespace string
	template  corev1.PodTemplateSpec
	selector  *metav1.LabelSelector
	// once says that the pods are meant to end.
	once bool
}

// pods lists the pod templates of the graph. Templates that do not decode are
// left to ValidManifests.
func (g *Graph) pods() []pod {
	var found []pod
	for _, r := range g.Resources {
		if !r.Custom {
			continue
		}
		var path []string
		switch r.Kind() {
		case "Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet":
			path = []string{"spec", "template"}
		case "CronJob":
			path = []string{"spec", "jobTemplate", "spec", "template"}
		case "Pod":
		default:
			continue
		}
		object := r.Object()
		p := pod{resource: r, once: r.Kind() == "Job" || r.Kind() == "CronJob"}
		p.namespace, _ = r.Metadata()
		if convert(dig(object, path...), &p.template) != nil {
			continue
		}
		if selector := dig(object, "spec", "selector"); selector != nil && r.Kind() != "Pod" {
			p.selector = &metav1.LabelSelector{}
			if convert(selector, p.selector) != nil {
				continue
			}
		}
		found = append(found, p)
	}
	return found
}

func convert(from, to any) error {
	content, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(content, to)
}

func (p pod) find(format string, args ...any) Finding {
	return Finding{p.resource, fmt.Sprintf(format, args...)}
}

func (p pod) containers() []corev1.Container {
	return slices.Concat(p.template.Spec.InitContainers, p.template.Spec.Containers)
}

// RestrictedPods finds pods that the pod security standard "restricted" refuses,
// namespaces that enforce anything else, and pods in namespaces that the graph
// does not make. privileged lists the namespaces that are meant to be exempt.
func RestrictedPods(privileged ...string) Check {
	return Check{"pods run under the restricted standard", func(g *Graph) []Finding {
		evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
		if err != nil {
			return []Finding{{nil, err.Error()}}
		}
		var findings []Finding
		known := map[string]bool{}
		for _, r := range g.OfKind("Namespace") {
			_, name := r.Metadata()
			known[name] = true
			want := psa.LevelRestricted
			if slices.Contains(privileged, name) {
				want = psa.LevelPrivileged
			}
			got := stringMap(dig(r.Object(), "metadata", "labels"))[psa.EnforceLevelLabel]
			if got != string(want) {
				findings = append(findings, Finding{r, fmt.Sprintf("enforces %q, not %q", got, want)})
			}
		}
		for _, p := range g.pods() {
			if !known[p.namespace] {
				findings = append(findings, p.find("runs in namespace %q, which is not made here", p.namespace))
			}
			if slices.Contains(privileged, p.namespace) {
				continue
			}
			restricted := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
			result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &p.template.ObjectMeta, &p.template.Spec))
			if !result.Allowed {
				findings = append(findings, p.find("is not restricted: %s", result.ForbiddenDetail()))
			}
			for _, c := range p.containers() {
				if sc := c.SecurityContext; sc == nil || sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem {
					findings = append(findings, p.find("container %s can write its root file system", c.Name))
				}
			}
		}
		return findings
	}}
}

// PodResources finds containers without requests for CPU and memory or without a
// limit of memory.
func PodResources(g *Graph) []Finding {
	var findings []Finding
	for _, p := range g.pods() {
		for _, c := range p.containers() {
			for _, want := range []struct {
				list corev1.ResourceList
				name corev1.ResourceName
				what string
			}{
				{c.Resources.Requests, corev1.ResourceCPU, "request of CPU"},
				{c.Resources.Requests, corev1.ResourceMemory, "request of memory"},
				{c.Resources.Limits, corev1.ResourceMemory, "limit of memory"},
			} {
				if quantity, ok := want.list[want.name]; !ok || quantity.IsZero() {
					findings = append(findings, p.find("container %s has no %s", c.Name, want.what))
				}
			}
		}
	}
	return findings
}

// PodProbes finds containers of long-running pods that listen and that nothing
// restarts when they hang, and pods whose health or readiness nothing tells. A
// container without a port has nothing to ask.
func PodProbes(g *Graph) []Finding {
	var findings []Finding
	for _, p := range g.pods() {
		if p.once {
			continue
		}
		live, ready := false, false
		for _, c := range p.longRunning() {
			live, ready = live || c.LivenessProbe != nil, ready || c.ReadinessProbe != nil
			if c.LivenessProbe == nil && len(c.Ports) > 0 {
				findings = append(findings, p.find("container %s has no liveness probe", c.Name))
			}
		}
		if !live {
			findings = append(findings, p.find("no container has a liveness probe"))
		}
		if !ready {
			findings = append(findings, p.find("no container has a readiness probe"))
		}
	}
	return findings
}

// longRunning lists the containers that are meant to run as long as the pod,
// among them init containers that stay.
func (p pod) longRunning() []corev1.Container {
	return slices.DeleteFunc(p.containers(), func(c corev1.Container) bool {
		init := slices.ContainsFunc(p.template.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == c.Name })
		return init && (c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways)
	})
}

// references lists the ConfigMaps and Secrets that a pod reads, as "kind/name".
func (p pod) references() []string {
	refs := map[string]bool{}
	for _, v := range p.template.Spec.Volumes {
		if v.ConfigMap != nil {
			refs["ConfigMap/"+v.ConfigMap.Name] = true
		}
		if v.Secret != nil {
			refs["Secret/"+v.Secret.SecretName] = true
		}
		if v.Projected != nil {
			for _, source := range v.Projected.Sources {
				if source.ConfigMap != nil {
					refs["ConfigMap/"+source.ConfigMap.Name] = true
				}
				if source.Secret != nil {
					refs["Secret/"+source.Secret.Name] = true
				}
			}
		}
	}
	for _, c := range p.containers() {
		for _, e := range c.EnvFrom {
			if e.ConfigMapRef != nil {
				refs["ConfigMap/"+e.ConfigMapRef.Name] = true
			}
			if e.SecretRef != nil {
				refs["Secret/"+e.SecretRef.Name] = true
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
				refs["ConfigMap/"+e.ValueFrom.ConfigMapKeyRef.Name] = true
			}
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				refs["Secret/"+e.ValueFrom.SecretKeyRef.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(refs))
}

// RollOnChange finds pods whose configuration could change under them: they read
// a ConfigMap with content of this graph that is neither immutable, which gives
// a new content a new name, nor followed by a checksum annotation. RollsPods
// proves that they do follow. ConfigMaps that are made empty belong to whoever
// fills them.
func RollOnChange(g *Graph) []Finding {
	var findings []Finding
	for _, p := range g.pods() {
		if p.once || p.checksums() != "" {
			continue
		}
		for _, ref := range p.references() {
			if r := g.referenced(p.namespace, ref); r != nil && content(r) != "" && r.Object()["immutable"] != true {
				findings = append(findings, p.find("reads %s, which is not immutable, and has no checksum annotation", ref))
			}
		}
	}
	return findings
}

// checksums joins the checksum annotations of the template.
func (p pod) checksums() string {
	var sums []string
	for name, value := range p.template.Annotations {
		if strings.Contains(name, "checksum") {
			sums = append(sums, name+"="+value)
		}
	}
	slices.Sort(sums)
	return strings.Join(sums, ",")
}

// referenced is the ConfigMap or Secret of this graph that ref ("kind/name")
// means in a namespace, or nil.
func (g *Graph) referenced(namespace, ref string) *Resource {
	kind, name, _ := strings.Cut(ref, "/")
	for _, r := range g.OfKind(kind) {
		if ns, n := r.Metadata(); ns == namespace && n == name {
			return r
		}
	}
	return nil
}

// content is what a ConfigMap or Secret holds; empty when it holds nothing.
func content(r *Resource) string {
	object := r.Object()
	text, err := json.Marshal([]any{object["data"], object["binaryData"], object["stringData"]})
	if err != nil || string(text) == "[null,null,null]" {
		return ""
	}
	return string(text)
}

// RollsPods compares recordings of one program under two configurations and
// finds pods that would go on with an old configuration: a ConfigMap that they
// read has other content under the same name, and their template is the same.
// It also finds immutable objects whose content changed under the same name.
func RollsPods(before, after *Graph) []Finding {
	var findings []Finding
	for _, p := range after.pods() {
		for _, old := range before.pods() {
			if old.resource.URN != p.resource.URN || p.once {
				continue
			}
			for _, ref := range p.references() {
				a, b := before.referenced(old.namespace, ref), after.referenced(p.namespace, ref)
				switch {
				case a == nil || b == nil || content(a) == content(b):
				case b.Object()["immutable"] == true:
					findings = append(findings, Finding{b, "is immutable and changes under the same name"})
				case old.checksums() == p.checksums():
					findings = append(findings, p.find("%s changes and the pods do not roll", ref))
				}
			}
		}
	}
	return findings
}

// SelectorsMatch finds controllers, Services and disruption budgets that select
// nothing, and Service ports that lead to no container port. Pods that an
// operator makes are not in the graph; a Service without a selector is not looked
// at.
func SelectorsMatch(g *Graph) []Finding {
	pods := g.pods()
	var findings []Finding
	for _, p := range pods {
		if p.selector == nil || p.once {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(p.selector)
		if err != nil || selector.Empty() || !selector.Matches(labels.Set(p.template.Labels)) {
			findings = append(findings, p.find("does not select its own pods"))
		}
	}
	for _, r := range g.OfKind("PodDisruptionBudget") {
		selector := &metav1.LabelSelector{}
		err := convert(dig(r.Object(), "spec", "selector"), selector)
		matcher, matchErr := metav1.LabelSelectorAsSelector(selector)
		if err != nil || matchErr != nil || matcher.Empty() || len(selected(pods, r, matcher)) == 0 {
			findings = append(findings, Finding{r, "selects no pods"})
		}
	}
	for _, r := range g.OfKind("Service") {
		var spec corev1.ServiceSpec
		if convert(r.Object()["spec"], &spec) != nil || len(spec.Selector) == 0 {
			continue
		}
		chosen := selected(pods, r, labels.SelectorFromSet(spec.Selector))
		if len(chosen) == 0 {
			findings = append(findings, Finding{r, "selects no pods"})
		}
		for _, p := range chosen {
			for _, port := range spec.Ports {
				if !p.listens(port) {
					findings = append(findings, Finding{r, fmt.Sprintf("port %d leads to no port of %s", port.Port, p.resource.Name)})
				}
			}
		}
	}
	return findings
}

// selected lists the pods of the resource's namespace that the selector matches.
func selected(pods []pod, r *Resource, selector labels.Selector) []pod {
	namespace, _ := r.Metadata()
	var found []pod
	for _, p := range pods {
		if p.namespace == namespace && selector.Matches(labels.Set(p.template.Labels)) {
			found = append(found, p)
		}
	}
	return found
}

func (p pod) listens(port corev1.ServicePort) bool {
	target, number := port.TargetPort.StrVal, port.TargetPort.IntVal
	if target == "" && number == 0 {
		number = port.Port
	}
	for _, c := range p.containers() {
		for _, own := range c.Ports {
			if target != "" && own.Name == target || target == "" && own.ContainerPort == number {
				return true
			}
		}
	}
	return false
}

// NoDeadlock finds Services that the Kubernetes provider takes as done only when
// they have pods, and whose pods are made only when the Service is done. The
// provider waits for every Service with a selector that is not headless, unless
// an annotation tells it not to (pulumi-kubernetes, pkg/await/service.go).
func NoDeadlock(g *Graph) []Finding {
	pods := g.pods()
	var findings []Finding
	for _, r := range g.OfKind("Service") {
		var spec corev1.ServiceSpec
		annotations := stringMap(dig(r.Object(), "metadata", "annotations"))
		if convert(r.Object()["spec"], &spec) != nil || len(spec.Selector) == 0 || spec.ClusterIP == corev1.ClusterIPNone ||
			annotations["pulumi.com/skipAwait"] == "true" {
			continue
		}
		for _, p := range selected(pods, r, labels.SelectorFromSet(spec.Selector)) {
			if g.dependsOn(p.resource, r, map[string]bool{}) {
				findings = append(findings, Finding{r, fmt.Sprintf("waits for the pods of %s, which wait for it", p.resource)})
			}
		}
	}
	return findings
}

// dependsOn says whether r is made only after on.
func (g *Graph) dependsOn(r, on *Resource, seen map[string]bool) bool {
	if r == nil || seen[r.URN] {
		return false
	}
	seen[r.URN] = true
	return slices.ContainsFunc(r.Dependencies, func(urn string) bool {
		return urn == on.URN || g.dependsOn(g.Get(urn), on, seen)
	})
}
