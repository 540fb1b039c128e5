// Package podgroups gives the pods of namespaces security groups of their own on EKS.
//
// In: namespace to security groups. Out: one SecurityGroupPolicy in each namespace, that selects every pod in it. EKS' controller
// then gives each new pod an interface with these groups; pods that run already keep what they have, so whatever starts pods must
// depend on the policies. The kind is defined by EKS' control plane, not by a manifest of ours.
//
// Network policies hold besides: a connection needs the permission of both.
package podgroups

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apiextensions"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
)

// maxGroups is how many groups EC2 lets an interface have.
const maxGroups = 5

// Args are the arguments of New.
type Args struct {
	// Groups are the ids of the security groups, 1 to 5, of the pods in each namespace. Required: at least one namespace.
	Groups map[string][]pulumi.StringInput
}

// PodGroups are the policies.
type PodGroups struct {
	pulumi.ResourceState

	policies []pulumi.Resource
}

// Policies are the policies, for what starts pods to depend on.
func (p *PodGroups) Policies() []pulumi.Resource { return slices.Clone(p.policies) }

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (a Args) validate() error {
	var errs []error
	if len(a.Groups) == 0 {
		errs = append(errs, errors.New("groups: there must be at least one namespace"))
	}
	for _, namespace := range slices.Sorted(maps.Keys(a.Groups)) {
		groups := a.Groups[namespace]
		if !dnsLabel.MatchString(namespace) {
			errs = append(errs, fmt.Errorf("groups: namespace %q is not allowed: it must be a DNS label", namespace))
		}
		if len(groups) < 1 || len(groups) > maxGroups {
			errs = append(errs, fmt.Errorf("groups: namespace %s: %d security groups are not allowed: it must be 1 to %d", namespace, len(groups), maxGroups))
		}
		if slices.ContainsFunc(groups, func(g pulumi.StringInput) bool { return g == nil }) {
			errs = append(errs, fmt.Errorf("groups: namespace %s: an empty security group is not allowed", namespace))
		}
	}
	return errors.Join(errs...)
}

// New makes the policies. The namespaces must be there: give them in pulumi.DependsOn.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*PodGroups, error) {
	if args == nil {
		args = &Args{}
	}
	if err := args.validate(); err != nil {
		return nil, fmt.Errorf("pod groups %s: %w", name, err)
	}
	self := &PodGroups{}
	props := pulumi.Map{"namespaces": pulumi.ToStringArray(slices.Sorted(maps.Keys(args.Groups)))}
	if err := ctx.RegisterComponentResourceV2("ephemos:podgroups:PodGroups", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("pod groups %s: %w", name, err)
	}
	err := self.provision(ctx, name, *args, opts)
	if outputsErr := ctx.RegisterResourceOutputs(self, pulumi.Map{}); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("pod groups %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (p *PodGroups) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(p, opts)
	if err != nil {
		return err
	}
	for _, namespace := range slices.Sorted(maps.Keys(a.Groups)) {
		policy, err := apiextensions.NewCustomResource(ctx, name+"-"+namespace, &apiextensions.CustomResourceArgs{
			ApiVersion: pulumi.String("vpcresources.k8s.aws/v1beta1"), Kind: pulumi.String("SecurityGroupPolicy"),
			Metadata: &metav1.ObjectMetaArgs{
				Name: pulumi.String("zone"), Namespace: pulumi.String(namespace),
				Labels: manifest.Identity{Name: "security-group-policy", Instance: "zone", Component: "network"}.Labels(),
			},
			OtherFields: kubernetes.UntypedArgs{"spec": pulumi.Map{
				// The empty selector selects every pod of the namespace.
				"podSelector":    pulumi.Map{},
				"securityGroups": pulumi.Map{"groupIds": pulumi.StringArray(a.Groups[namespace])},
			}},
		}, inherited...)
		if err != nil {
			return fmt.Errorf("policy of %s: %w", namespace, err)
		}
		p.policies = append(p.policies, policy)
	}
	return nil
}
