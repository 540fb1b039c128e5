// Package manifest holds what the Kubernetes objects of all components have in
// common: their labels, the security context of containers without privileges,
// amounts of resources, their spread over nodes, and the names of ConfigMaps
// that roll pods when their content changes. It makes no resources.
package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Identity says what an object is. It becomes the recommended labels
// app.kubernetes.io/*.
type Identity struct {
	// Name is the program, for example "spire-server".
	Name string
	// Instance tells installations of the same program apart: the metadata.name
	// of its main object.
	Instance string
	// Component is the role in the system, for example "server".
	Component string
}

// Labels returns all labels of an object.
func (i Identity) Labels() pulumi.StringMap {
	labels := i.Selector()
	labels["app.kubernetes.io/component"] = pulumi.String(i.Component)
	labels["app.kubernetes.io/part-of"] = pulumi.String("ephemos")
	labels["app.kubernetes.io/managed-by"] = pulumi.String("pulumi")
	return labels
}

// Selector returns the labels that select the pods of the instance and never
// change.
func (i Identity) Selector() pulumi.StringMap {
	return pulumi.StringMap{
		"app.kubernetes.io/name":     pulumi.String(i.Name),
		"app.kubernetes.io/instance": pulumi.String(i.Instance),
	}
}

// With returns a copy of labels with more added.
func With(labels, more pulumi.StringMap) pulumi.StringMap {
	out := maps.Clone(labels)
	maps.Copy(out, more)
	return out
}

// Resources are the amounts a container asks for and may use, in Kubernetes'
// notation. There is no limit on processor time: a throttled identity provider
// is an outage.
type Resources struct {
	// CPU is requested, for example "50m".
	CPU string
	// Memory is requested, for example "64Mi".
	Memory string
	// MemoryLimit ends the container when it uses more, for example "512Mi".
	MemoryLimit string
}

// WithDefaults fills the fields that are not set from d.
func (r Resources) WithDefaults(d Resources) Resources {
	if r.CPU == "" {
		r.CPU = d.CPU
	}
	if r.Memory == "" {
		r.Memory = d.Memory
	}
	if r.MemoryLimit == "" {
		r.MemoryLimit = d.MemoryLimit
	}
	return r
}

// Args returns the resources in the form of a container's argument.
func (r Resources) Args() *corev1.ResourceRequirementsArgs {
	return &corev1.ResourceRequirementsArgs{
		Requests: pulumi.StringMap{"cpu": pulumi.String(r.CPU), "memory": pulumi.String(r.Memory)},
		Limits:   pulumi.StringMap{"memory": pulumi.String(r.MemoryLimit)},
	}
}

// Restricted is the security context of a container that needs no privilege:
// no root file system to write, no capability, no way to gain one. It meets
// the pod security standard "restricted" together with RestrictedPod.
func Restricted() *corev1.SecurityContextArgs {
	return &corev1.SecurityContextArgs{
		AllowPrivilegeEscalation: pulumi.Bool(false),
		ReadOnlyRootFilesystem:   pulumi.Bool(true),
		Capabilities:             &corev1.CapabilitiesArgs{Drop: pulumi.ToStringArray([]string{"ALL"})},
		SeccompProfile:           &corev1.SeccompProfileArgs{Type: pulumi.String("RuntimeDefault")},
	}
}

// RestrictedPod is the security context of a pod whose containers run as the
// given user, which is also the group of its files. It must not be root.
func RestrictedPod(user int) *corev1.PodSecurityContextArgs {
	return &corev1.PodSecurityContextArgs{
		RunAsNonRoot: pulumi.Bool(true),
		RunAsUser:    pulumi.Int(user),
		RunAsGroup:   pulumi.Int(user),
		FsGroup:      pulumi.Int(user),
		// Without it the kubelet walks a whole volume at each start.
		FsGroupChangePolicy: pulumi.String("OnRootMismatch"),
		SeccompProfile:      &corev1.SeccompProfileArgs{Type: pulumi.String("RuntimeDefault")},
	}
}

// Hashed returns name with a hash of the texts, the name of an immutable
// ConfigMap that holds them. A change of configuration is then a change of the
// pod template, which rolls the pods one after the other, while those not yet
// rolled and a roll back still find what they were made for.
func Hashed(name string, texts ...string) string {
	hash := sha256.New()
	for _, text := range texts {
		fmt.Fprintf(hash, "%d:%s", len(text), text)
	}
	return name + "-" + hex.EncodeToString(hash.Sum(nil))[:10]
}

// Spread says how far apart pods that stand in for each other run.
type Spread string

const (
	// SpreadZones puts each pod on a node of its own and evenly over zones. A
	// pod for which there is no such place does not run.
	SpreadZones Spread = "zones"
	// SpreadNodes puts each pod on a node of its own, and evenly over zones
	// when there is room. For clusters whose nodes name no zone.
	SpreadNodes Spread = "nodes"
	// SpreadPreferred does so only when there is room. For clusters of one node.
	SpreadPreferred Spread = "preferred"
)

// Validate reports a value that is none of the constants.
func (s Spread) Validate() error {
	switch s {
	case SpreadZones, SpreadNodes, SpreadPreferred:
		return nil
	}
	return fmt.Errorf("spread: %q is not allowed: it must be one of %s, %s, %s", string(s), SpreadZones, SpreadNodes, SpreadPreferred)
}

// Place returns the affinity and the spread constraints of the pods that the
// labels select.
func (s Spread) Place(selector pulumi.StringMap) (*corev1.AffinityArgs, corev1.TopologySpreadConstraintArray) {
	term := corev1.PodAffinityTermArgs{
		LabelSelector: &metav1.LabelSelectorArgs{MatchLabels: selector},
		TopologyKey:   pulumi.String("kubernetes.io/hostname"),
	}
	apart := &corev1.PodAntiAffinityArgs{}
	if s == SpreadPreferred {
		apart.PreferredDuringSchedulingIgnoredDuringExecution = corev1.WeightedPodAffinityTermArray{
			corev1.WeightedPodAffinityTermArgs{Weight: pulumi.Int(100), PodAffinityTerm: term},
		}
	} else {
		apart.RequiredDuringSchedulingIgnoredDuringExecution = corev1.PodAffinityTermArray{term}
	}
	unsatisfiable := "ScheduleAnyway"
	if s == SpreadZones {
		unsatisfiable = "DoNotSchedule"
	}
	return &corev1.AffinityArgs{PodAntiAffinity: apart}, corev1.TopologySpreadConstraintArray{
		corev1.TopologySpreadConstraintArgs{
			MaxSkew:           pulumi.Int(1),
			TopologyKey:       pulumi.String("topology.kubernetes.io/zone"),
			WhenUnsatisfiable: pulumi.String(unsatisfiable),
			LabelSelector:     &metav1.LabelSelectorArgs{MatchLabels: selector},
		},
	}
}

// NoAwait is the annotation that makes Pulumi take an object as done when it is
// created. Pulumi otherwise waits until a Service has had pods for ten seconds,
// which nothing here depends on.
var NoAwait = pulumi.StringMap{"pulumi.com/skipAwait": pulumi.String("true")}

// Inherit returns the options for the children of a component: its parenthood
// and what the component itself was told to depend on. Pulumi does not hand
// the latter on to children, so a namespace that a caller puts into DependsOn
// would otherwise hold back nothing.
func Inherit(self pulumi.Resource, opts []pulumi.ResourceOption) ([]pulumi.ResourceOption, error) {
	given, err := pulumi.NewResourceOptions(opts...)
	if err != nil {
		return nil, fmt.Errorf("resource options: %w", err)
	}
	children := []pulumi.ResourceOption{pulumi.Parent(self)}
	if len(given.DependsOn) > 0 {
		children = append(children, pulumi.DependsOn(given.DependsOn))
	}
	for _, inputs := range given.DependsOnInputs {
		children = append(children, pulumi.DependsOnInputs(inputs))
	}
	return children, nil
}
