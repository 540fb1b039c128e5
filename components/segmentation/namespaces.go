// Package segmentation renders the zone model for Kubernetes: namespaces, each in a zone and under a pod security level, and
// the NetworkPolicies that deny everything but the model's flows.
//
// In: a zone model, the addresses of what pod selectors do not match, the namespaces that need more than pod security
// "restricted". Out: the namespaces with their policies, as resources that others depend on. A cluster whose network does not
// enforce NetworkPolicies takes them and does nothing: test/connectivity tells.
//
// Policies change in place, before the pods that depend on them roll. To move a port without an outage, allow both in one
// update and take the old one away in the next.
package segmentation

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	networkingv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/networking/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	kubernetes "k8s.io/api/networking/v1"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/zones"
)

// Level is a pod security level (https://kubernetes.io/docs/concepts/security/pod-security-standards/).
type Level string

// The levels, from the strictest on.
const (
	Restricted Level = "restricted"
	Baseline   Level = "baseline"
	Privileged Level = "privileged"
)

var levels = []Level{Restricted, Baseline, Privileged}

// ZoneLabel is the label that names a namespace's zone.
const ZoneLabel = "ephemos.dev/zone"

// Exception lets a namespace's pods do more than Restricted allows.
type Exception struct {
	// Level is what is enforced instead.
	Level Level
	// Reason says why it is needed. It becomes an annotation of the namespace.
	Reason string
}

// Exceptions is the table of the namespaces of zones.Standard whose pods need more than Restricted allows.
func Exceptions() map[string]Exception {
	return map[string]Exception{
		zones.NamespaceAgent: {Privileged, "The agent shares the node's process and network namespaces, to see who calls it, and puts " +
			"its socket into a directory of the node; the CSI driver mounts that directory into the pods of workloads, which takes a " +
			"privileged container and mount propagation."},
		zones.NamespaceDetection: {Privileged, "The detector reads the kernel's log of denied packets, which each node has in its own " +
			"network namespace and shows to those only who may administer it."},
	}
}

// Args are the arguments of New.
type Args struct {
	// Model is who may talk to whom. Default zones.Standard for a cluster with the usual ports.
	Model zones.Model
	// Ranges are the addresses of nodes, API server and pods.
	Ranges Ranges
	// Exceptions are the namespaces whose pod security level is not Restricted. Default Exceptions(), for those of them that the
	// model has.
	Exceptions map[string]Exception
	// PodSecurityVersion pins the pod security standards to a Kubernetes minor version, such as v1.35. Default "latest", the
	// standards of the cluster's own version.
	PodSecurityVersion string
}

// Segmentation is a set of namespaces and the policies between them.
type Segmentation struct {
	pulumi.ResourceState

	// Names lists the namespaces; it is known once all exist.
	Names pulumi.StringArrayOutput `pulumi:"names"`
}

func (a Args) withDefaults() Args {
	if a.Model.Zones == nil {
		a.Model = zones.Standard(zones.Options{})
	}
	if a.Exceptions == nil {
		a.Exceptions = Exceptions()
		maps.DeleteFunc(a.Exceptions, func(name string, _ Exception) bool { return !a.Model.Ours(name) })
	}
	if a.PodSecurityVersion == "" {
		a.PodSecurityVersion = "latest"
	}
	return a
}

var versionPattern = regexp.MustCompile(`^(latest|v1\.[0-9]{1,3})$`)

func (a Args) validate() error {
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, value, allowed))
	}
	if len(a.Model.Namespaces) == 0 {
		fail("model.namespaces", "", "at least one namespace")
	}
	if !versionPattern.MatchString(a.PodSecurityVersion) {
		fail("podSecurityVersion", a.PodSecurityVersion, "latest or a Kubernetes minor version, such as v1.35")
	}
	for _, name := range slices.Sorted(maps.Keys(a.Exceptions)) {
		e, key := a.Exceptions[name], "exceptions."+name
		if !a.Model.Ours(name) {
			fail(key, name, "a namespace of the model")
		}
		if !slices.Contains(levels, e.Level) {
			fail(key+".level", e.Level, fmt.Sprintf("one of %v", levels))
		}
		if e.Level != Restricted && e.Reason == "" {
			fail(key+".reason", e.Reason, "the reason why "+name+" needs more than restricted")
		}
	}
	return errors.Join(errs...)
}

// New makes the namespaces and policies. What runs in them should depend on the returned component.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Segmentation, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.withDefaults()
	policies, err := Policies(a.Model, a.Ranges)
	if err := errors.Join(a.validate(), err); err != nil {
		return nil, fmt.Errorf("segmentation %s: %w", name, err)
	}

	self := &Segmentation{}
	rows := pulumi.Array{}
	for _, n := range a.Model.Namespaces {
		rows = append(rows, pulumi.StringMap{
			"name": pulumi.String(n.Name), "zone": pulumi.String(n.Zone), "level": pulumi.String(a.exception(n.Name).Level),
		})
	}
	ranges := pulumi.StringArrayMap{
		"nodes": pulumi.ToStringArray(a.Ranges.Nodes), "apiServer": pulumi.ToStringArray(a.Ranges.APIServer),
		"pods": pulumi.ToStringArray(a.Ranges.Pods),
	}
	for zone, managed := range a.Ranges.Managed {
		ranges["managed-"+string(zone)] = pulumi.ToStringArray(managed)
	}
	props := pulumi.Map{"namespaces": rows, "podSecurityVersion": pulumi.String(a.PodSecurityVersion), "ranges": ranges}
	if err := ctx.RegisterComponentResourceV2("ephemos:segmentation:Segmentation", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("segmentation %s: %w", name, err)
	}
	err = self.provision(ctx, name, a, policies, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs["names"] = self.Names
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("segmentation %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (s *Segmentation) provision(ctx *pulumi.Context, name string, a Args, policies []*kubernetes.NetworkPolicy, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(s, opts)
	if err != nil {
		return err
	}
	// Policies are made again from the model at any time: what protects the namespaces from deletion is not for them.
	names, namespaces := pulumi.StringArray{}, map[string]pulumi.Resource{}
	for _, n := range a.Model.Namespaces {
		namespace, err := corev1.NewNamespace(ctx, name+"-"+n.Name, &corev1.NamespaceArgs{
			Metadata: &metav1.ObjectMetaArgs{
				Name: pulumi.String(n.Name), Labels: a.labels(n), Annotations: a.annotations(n.Name),
			},
		}, inherited...)
		if err != nil {
			return fmt.Errorf("namespace %s: %w", n.Name, err)
		}
		names = append(names, namespace.Metadata.Name().Elem())
		namespaces[n.Name] = namespace
	}
	s.Names = names.ToStringArrayOutput()

	// The policy that denies everything comes last and goes first: on a cluster where pods run already, none is cut off between
	// two steps.
	allowed := map[string][]pulumi.Resource{}
	for _, p := range policies {
		after := append([]pulumi.Resource{namespaces[p.Namespace]}, allowed[p.Namespace]...)
		if p.Name != zones.DefaultDeny {
			after = after[:1]
		}
		policy, err := networkingv1.NewNetworkPolicy(ctx, name+"-"+p.Namespace+"-"+p.Name, policyArgs(p),
			append(slices.Clone(inherited), pulumi.DependsOn(after), pulumi.Protect(false))...)
		if err != nil {
			return fmt.Errorf("policy %s/%s: %w", p.Namespace, p.Name, err)
		}
		allowed[p.Namespace] = append(allowed[p.Namespace], policy)
	}
	return nil
}

// policyArgs says in Pulumi's types what p says in Kubernetes'.
func policyArgs(p *kubernetes.NetworkPolicy) *networkingv1.NetworkPolicyArgs {
	types := pulumi.StringArray{}
	for _, t := range p.Spec.PolicyTypes {
		types = append(types, pulumi.String(t))
	}
	spec := &networkingv1.NetworkPolicySpecArgs{
		PodSelector: &metav1.LabelSelectorArgs{MatchLabels: pulumi.ToStringMap(p.Spec.PodSelector.MatchLabels)},
		PolicyTypes: types,
	}
	ingress, egress := networkingv1.NetworkPolicyIngressRuleArray{}, networkingv1.NetworkPolicyEgressRuleArray{}
	for _, r := range p.Spec.Ingress {
		ingress = append(ingress, networkingv1.NetworkPolicyIngressRuleArgs{From: peerArgs(r.From), Ports: portArgs(r.Ports)})
	}
	for _, r := range p.Spec.Egress {
		egress = append(egress, networkingv1.NetworkPolicyEgressRuleArgs{To: peerArgs(r.To), Ports: portArgs(r.Ports)})
	}
	if len(ingress) > 0 {
		spec.Ingress = ingress
	}
	if len(egress) > 0 {
		spec.Egress = egress
	}
	metadata := &metav1.ObjectMetaArgs{
		Name: pulumi.String(p.Name), Namespace: pulumi.String(p.Namespace),
		Labels: manifest.Identity{Name: p.Name, Instance: p.Name, Component: "network-policy"}.Labels(),
	}
	if len(p.Annotations) > 0 {
		metadata.Annotations = pulumi.ToStringMap(p.Annotations)
	}
	return &networkingv1.NetworkPolicyArgs{Metadata: metadata, Spec: spec}
}

func peerArgs(peers []kubernetes.NetworkPolicyPeer) networkingv1.NetworkPolicyPeerArray {
	out := networkingv1.NetworkPolicyPeerArray{}
	for _, p := range peers {
		if p.IPBlock != nil {
			block := &networkingv1.IPBlockArgs{Cidr: pulumi.String(p.IPBlock.CIDR)}
			if len(p.IPBlock.Except) > 0 {
				block.Except = pulumi.ToStringArray(p.IPBlock.Except)
			}
			out = append(out, networkingv1.NetworkPolicyPeerArgs{IpBlock: block})
			continue
		}
		out = append(out, networkingv1.NetworkPolicyPeerArgs{
			NamespaceSelector: &metav1.LabelSelectorArgs{MatchLabels: pulumi.ToStringMap(p.NamespaceSelector.MatchLabels)},
			PodSelector:       &metav1.LabelSelectorArgs{MatchLabels: pulumi.ToStringMap(p.PodSelector.MatchLabels)},
		})
	}
	return out
}

func portArgs(ports []kubernetes.NetworkPolicyPort) networkingv1.NetworkPolicyPortArray {
	out := networkingv1.NetworkPolicyPortArray{}
	for _, p := range ports {
		out = append(out, networkingv1.NetworkPolicyPortArgs{Protocol: pulumi.String(*p.Protocol), Port: pulumi.Int(p.Port.IntValue())})
	}
	return out
}

// exception is the namespace's row of the table, or Restricted.
func (a Args) exception(namespace string) Exception {
	if e, ok := a.Exceptions[namespace]; ok {
		return e
	}
	return Exception{Level: Restricted}
}

// labels are those by which pod security admission and network policies know the namespace. The same level is enforced,
// audited and warned about: stricter warnings would be shown for every pod of the very namespaces whose level was chosen
// for a reason.
func (a Args) labels(n zones.Namespace) pulumi.StringMap {
	labels := manifest.Identity{Name: n.Name, Instance: n.Name, Component: "namespace"}.Labels()
	labels[ZoneLabel] = pulumi.String(n.Zone)
	for _, mode := range []string{"enforce", "audit", "warn"} {
		labels["pod-security.kubernetes.io/"+mode] = pulumi.String(a.exception(n.Name).Level)
		labels["pod-security.kubernetes.io/"+mode+"-version"] = pulumi.String(a.PodSecurityVersion)
	}
	return labels
}

// annotations carry the reason to whoever looks at the namespace.
func (a Args) annotations(namespace string) pulumi.StringMap {
	reason := a.exception(namespace).Reason
	if reason == "" {
		return nil
	}
	return pulumi.StringMap{"ephemos.dev/pod-security-reason": pulumi.String(reason)}
}
