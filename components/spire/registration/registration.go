// Package registration says which workload gets which SPIFFE ID.
//
// In flow identities: a SPIFFE ID path and the pods that it is for. Out comes
// one ClusterSPIFFEID each, from which spire-controller-manager makes a
// registration entry for every matching pod.
//
// An identity is bound to one namespace, one service account and at least one
// pod label, all of which have to match. There is no identity for everything:
// what would select all namespaces or all pods is refused, so a workload that
// nobody has listed gets nothing. The labels and the namespace select the pods
// for which an entry is made; the namespace and the service account are besides
// written into the entry, where the agent compares them with what the kubelet
// says about the caller.
//
// ClusterSPIFFEIDs may be created before the servers run. They need their
// custom resource definition, which the caller puts into DependsOn.
package registration

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apiextensions"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ephemos.dev/deploy/components/manifest"
)

// Identity is the SPIFFE ID of one workload.
type Identity struct {
	// Name is the metadata.name of the ClusterSPIFFEID, unique in the cluster.
	// Required.
	Name string
	// SPIFFEIDPath is the path of the SPIFFE ID, for example
	// "/workload/payment-service". The trust domain is the servers'. Required.
	SPIFFEIDPath string
	// Namespace is the only namespace whose pods get the identity. Required.
	Namespace string
	// ServiceAccount is the only service account whose pods get it. Required.
	ServiceAccount string
	// PodLabels are labels that a pod must have, all of them. At least one.
	PodLabels map[string]string
	// TTL is the lifetime of the workload's X.509-SVIDs. Default: the servers'.
	TTL time.Duration
	// DNSNames are put into the X.509-SVID, the first one also as its common
	// name. For clients that verify DNS names. Default: none.
	DNSNames []string
	// Admin lets the workload use the servers' administration API. Default
	// false.
	Admin bool
}

// Args are the arguments of New.
type Args struct {
	// ClassName is the class of the controller manager that is to act. Required:
	// see server.Server.ClassName.
	ClassName pulumi.StringInput
	// Identities are what is registered. An empty list registers nothing.
	Identities []Identity
}

// Registration is a set of registered identities.
type Registration struct {
	pulumi.ResourceState

	// Names are the names of the ClusterSPIFFEIDs, sorted.
	Names pulumi.StringArrayOutput `pulumi:"names"`
}

var (
	objectName = regexp.MustCompile(`^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$`)
	label      = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	labelKey   = regexp.MustCompile(`^([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$`)
	dnsName    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
)

// minTTL is the shortest lifetime that agents can renew in time; it is that of
// config.Server.
const minTTL = 30 * time.Second

// Validate reports everything that is wrong with the identity, joined into one
// error, or nil.
func (i Identity) Validate() error {
	var problems []error
	add := func(key, value, allowed string) {
		problems = append(problems, fmt.Errorf("identity %s: %s: %q is not allowed: %s", i.Name, key, value, allowed))
	}
	if !objectName.MatchString(i.Name) {
		add("name", i.Name, "it must be a Kubernetes name")
	}
	// The path must not be a template either, which could give every pod an
	// identity of its choosing.
	switch err := spiffeid.ValidatePath(i.SPIFFEIDPath); {
	case i.SPIFFEIDPath == "":
		add("spiffeIDPath", "", "it must be set")
	case err != nil:
		add("spiffeIDPath", i.SPIFFEIDPath, "it must be the path of a SPIFFE ID, such as /workload/payment: "+err.Error())
	case i.SPIFFEIDPath == "/spire" || strings.HasPrefix(i.SPIFFEIDPath, "/spire/"):
		add("spiffeIDPath", i.SPIFFEIDPath, "/spire is reserved for servers and agents")
	}
	if !label.MatchString(i.Namespace) {
		add("namespace", i.Namespace, "it must name one namespace")
	}
	if !objectName.MatchString(i.ServiceAccount) {
		add("serviceAccount", i.ServiceAccount, "it must name one service account")
	}
	if len(i.PodLabels) == 0 {
		add("podLabels", "", "at least one label must be given, or every pod of the namespace would match")
	}
	for _, key := range slices.Sorted(maps.Keys(i.PodLabels)) {
		if !labelKey.MatchString(key) {
			add("podLabels", key, "it must be the key of a label")
		}
		if !labelValue.MatchString(i.PodLabels[key]) {
			add("podLabels["+key+"]", i.PodLabels[key], "it must be the value of a label, and not empty")
		}
	}
	if i.TTL != 0 && i.TTL < minTTL {
		add("ttl", i.TTL.String(), "it must be 0, for the servers' default, or at least "+minTTL.String())
	}
	for _, name := range i.DNSNames {
		if len(name) > 253 || !dnsName.MatchString(name) {
			add("dnsNames", name, "it must be a DNS name in lower case")
		}
	}
	return errors.Join(problems...)
}

// spec is the specification of the ClusterSPIFFEID.
func (i Identity) spec(className pulumi.StringInput) pulumi.Map {
	labels := pulumi.StringMap{}
	for key, value := range i.PodLabels {
		labels[key] = pulumi.String(value)
	}
	spec := pulumi.Map{
		"className":         className,
		"spiffeIDTemplate":  pulumi.String("spiffe://{{ .TrustDomain }}" + i.SPIFFEIDPath),
		"namespaceSelector": pulumi.Map{"matchLabels": pulumi.StringMap{"kubernetes.io/metadata.name": pulumi.String(i.Namespace)}},
		"podSelector":       pulumi.Map{"matchLabels": labels},
		"workloadSelectorTemplates": pulumi.ToStringArray([]string{
			"k8s:ns:" + i.Namespace,
			"k8s:sa:" + i.ServiceAccount,
		}),
	}
	if i.TTL > 0 {
		spec["ttl"] = pulumi.String(i.TTL.String())
	}
	if len(i.DNSNames) > 0 {
		spec["dnsNameTemplates"] = pulumi.ToStringArray(i.DNSNames)
	}
	if i.Admin {
		spec["admin"] = pulumi.Bool(true)
	}
	return spec
}

func (a Args) validate() error {
	var problems []error
	if a.ClassName == nil {
		problems = append(problems, errors.New(`className: "" is not allowed: it must be set`))
	}
	names, ids := map[string]bool{}, map[string]string{}
	for _, i := range a.Identities {
		problems = append(problems, i.Validate())
		if names[i.Name] {
			problems = append(problems, fmt.Errorf("identity %s: name: %q is not allowed: another identity has it", i.Name, i.Name))
		}
		names[i.Name] = true
		if other, taken := ids[i.SPIFFEIDPath]; taken && i.SPIFFEIDPath != "" {
			problems = append(problems, fmt.Errorf("identity %s: spiffeIDPath: %q is not allowed: identity %s has it, and whoever authorises it could not tell them apart", i.Name, i.SPIFFEIDPath, other))
		}
		ids[i.SPIFFEIDPath] = i.Name
	}
	return errors.Join(problems...)
}

// New registers the identities. Dependencies among the options hold back every
// object.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Registration, error) {
	if args == nil {
		args = &Args{}
	}
	a := *args
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("registration %s: %w", name, err)
	}
	names := make([]string, len(a.Identities))
	for i, identity := range a.Identities {
		names[i] = identity.Name
	}
	slices.Sort(names)

	self := &Registration{}
	props := pulumi.Map{"className": a.ClassName, "names": pulumi.ToStringArray(names)}
	if err := ctx.RegisterComponentResourceV2("ephemos:spire:Registration", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("registration %s: %w", name, err)
	}
	if err := build(ctx, name, a, self, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("registration %s: %w", name, err), ctx.RegisterResourceOutputs(self, pulumi.Map{}))
	}
	self.Names = pulumi.ToStringArray(names).ToStringArrayOutput()
	return self, ctx.RegisterResourceOutputs(self, pulumi.Map{"names": self.Names})
}

func build(ctx *pulumi.Context, name string, a Args, self *Registration, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(self, opts)
	if err != nil {
		return err
	}
	for _, identity := range a.Identities {
		labels := manifest.Identity{Name: "spire-registration", Instance: identity.Name, Component: "registration"}.Labels()
		if _, err := apiextensions.NewCustomResource(ctx, name+"-"+identity.Name, &apiextensions.CustomResourceArgs{
			ApiVersion:  pulumi.String("spire.spiffe.io/v1alpha1"),
			Kind:        pulumi.String("ClusterSPIFFEID"),
			Metadata:    &metav1.ObjectMetaArgs{Name: pulumi.String(identity.Name), Labels: labels},
			OtherFields: kubernetes.UntypedArgs{"spec": identity.spec(a.ClassName)},
		}, inherited...); err != nil {
			return err
		}
	}
	return nil
}
