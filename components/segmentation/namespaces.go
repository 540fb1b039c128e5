// Package segmentation makes the namespaces of a deployment: each in a zone and under a pod security level.
//
// In: a table of namespaces. Out: the namespaces, labelled, as resources that others depend on.
package segmentation

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
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

// Zone is a network zone of the security architecture.
type Zone string

// The zones, from the outside to the inside.
const (
	DMZ         Zone = "dmz"
	Application Zone = "application"
	Data        Zone = "data"
	Management  Zone = "management"
)

var zones = []Zone{DMZ, Application, Data, Management}

// ZoneLabel is the label that names a namespace's zone.
const ZoneLabel = "ephemos.dev/zone"

// Namespace is one row of the table.
type Namespace struct {
	// Name is the namespace's name.
	Name string
	// Zone is the zone its pods are in.
	Zone Zone
	// Level is the pod security level that is enforced. Default Restricted.
	Level Level
	// Reason says why a level below Restricted is needed. It is required then, and becomes an annotation.
	Reason string
}

// Standard is the table of the namespaces of a SPIRE deployment on Kubernetes. Every namespace whose pods need more than
// Restricted allows is in it with the reason.
func Standard() []Namespace {
	return []Namespace{
		{Name: "spire-server", Zone: Management, Level: Restricted},
		{Name: "spire-agent", Zone: Management, Level: Privileged, Reason: "The agent shares the node's process and network " +
			"namespaces, to see who calls it, and puts its socket into a directory of the node; the CSI driver mounts that " +
			"directory into the pods of workloads, which takes a privileged container and mount propagation."},
		{Name: "cnpg-system", Zone: Data, Level: Restricted},
		{Name: "services", Zone: Application, Level: Restricted},
	}
}

// Args are the arguments of New.
type Args struct {
	// Namespaces is the table. Default Standard().
	Namespaces []Namespace
	// PodSecurityVersion pins the pod security standards to a Kubernetes minor version, such as v1.35. Default "latest", the
	// standards of the cluster's own version.
	PodSecurityVersion string
}

// Segmentation is a set of namespaces.
type Segmentation struct {
	pulumi.ResourceState

	// Names lists the namespaces; it is known once all exist.
	Names pulumi.StringArrayOutput `pulumi:"names"`
}

func (a Args) withDefaults() Args {
	if a.Namespaces == nil {
		a.Namespaces = Standard()
	}
	a.Namespaces = slices.Clone(a.Namespaces)
	for i := range a.Namespaces {
		if a.Namespaces[i].Level == "" {
			a.Namespaces[i].Level = Restricted
		}
	}
	if a.PodSecurityVersion == "" {
		a.PodSecurityVersion = "latest"
	}
	return a
}

var (
	// namePattern is that of DNS labels (RFC 1123), which Kubernetes requires.
	namePattern    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	versionPattern = regexp.MustCompile(`^(latest|v1\.[0-9]{1,3})$`)
)

func (a Args) validate() error {
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, value, allowed))
	}
	if len(a.Namespaces) == 0 {
		fail("namespaces", "", "at least one namespace")
	}
	if !versionPattern.MatchString(a.PodSecurityVersion) {
		fail("podSecurityVersion", a.PodSecurityVersion, "latest or a Kubernetes minor version, such as v1.35")
	}
	seen := map[string]bool{}
	for i, n := range a.Namespaces {
		key := fmt.Sprintf("namespaces[%d]", i)
		if !namePattern.MatchString(n.Name) {
			fail(key+".name", n.Name, "a DNS label: lower-case letters, digits and dashes, at most 63")
		}
		if seen[n.Name] {
			fail(key+".name", n.Name, "a name that no other row has")
		}
		seen[n.Name] = true
		if !slices.Contains(zones, n.Zone) {
			fail(key+".zone", n.Zone, fmt.Sprintf("one of %v", zones))
		}
		if !slices.Contains(levels, n.Level) {
			fail(key+".level", n.Level, fmt.Sprintf("one of %v", levels))
		}
		if n.Level != Restricted && n.Reason == "" {
			fail(key+".reason", n.Reason, "the reason why "+n.Name+" needs more than restricted")
		}
	}
	return errors.Join(errs...)
}

// New makes the namespaces. What runs in them should depend on the returned component.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Segmentation, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.withDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("segmentation %s: %w", name, err)
	}

	self := &Segmentation{}
	rows := pulumi.Array{}
	for _, n := range a.Namespaces {
		rows = append(rows, pulumi.StringMap{
			"name": pulumi.String(n.Name), "zone": pulumi.String(n.Zone), "level": pulumi.String(n.Level),
		})
	}
	props := pulumi.Map{"namespaces": rows, "podSecurityVersion": pulumi.String(a.PodSecurityVersion)}
	if err := ctx.RegisterComponentResourceV2("ephemos:segmentation:Segmentation", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("segmentation %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs["names"] = self.Names
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("segmentation %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (s *Segmentation) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(s, opts)
	if err != nil {
		return err
	}
	names := pulumi.StringArray{}
	for _, n := range a.Namespaces {
		namespace, err := corev1.NewNamespace(ctx, name+"-"+n.Name, &corev1.NamespaceArgs{
			Metadata: &metav1.ObjectMetaArgs{
				Name: pulumi.String(n.Name), Labels: n.labels(a.PodSecurityVersion), Annotations: n.annotations(),
			},
		}, inherited...)
		if err != nil {
			return fmt.Errorf("namespace %s: %w", n.Name, err)
		}
		names = append(names, namespace.Metadata.Name().Elem())
	}
	s.Names = names.ToStringArrayOutput()
	return nil
}

// labels are those by which pod security admission and network policies know the namespace. The same level is enforced,
// audited and warned about: stricter warnings would be shown for every pod of the very namespaces whose level was chosen
// for a reason.
func (n Namespace) labels(version string) pulumi.StringMap {
	labels := manifest.Identity{Name: n.Name, Instance: n.Name, Component: "namespace"}.Labels()
	labels[ZoneLabel] = pulumi.String(n.Zone)
	for _, mode := range []string{"enforce", "audit", "warn"} {
		labels["pod-security.kubernetes.io/"+mode] = pulumi.String(n.Level)
		labels["pod-security.kubernetes.io/"+mode+"-version"] = pulumi.String(version)
	}
	return labels
}

// annotations carry the reason to whoever looks at the namespace.
func (n Namespace) annotations() pulumi.StringMap {
	if n.Reason == "" {
		return nil
	}
	return pulumi.StringMap{"ephemos.dev/pod-security-reason": pulumi.String(n.Reason)}
}
