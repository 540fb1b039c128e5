package cluster

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/eks"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/manifest"
)

// PodRoleArgs are the arguments of NewPodRole.
type PodRoleArgs struct {
	// ClusterName and ClusterARN are the cluster's (Cluster.Name, Cluster.ARN). Required.
	ClusterName, ClusterARN pulumi.StringInput
	// Namespace and ServiceAccount say whose pods they are. Required.
	Namespace, ServiceAccount string
	// Policy is what the pods may do in AWS, a policy document in JSON. Required.
	Policy pulumi.StringInput
}

// PodRole is a role in AWS that the pods of one service account have by pod identity.
type PodRole struct {
	pulumi.ResourceState

	RoleARN pulumi.StringOutput `pulumi:"roleARN"`
}

// dnsLabel is what Kubernetes takes as the name of a namespace; those of service accounts may hold dots besides.
var (
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
)

func (a PodRoleArgs) validate() error {
	var errs []error
	if a.ClusterName == nil || a.ClusterARN == nil {
		errs = append(errs, errors.New(`clusterName, clusterARN: "" is not allowed: both must be set`))
	}
	if a.Policy == nil {
		errs = append(errs, errors.New(`policy: "" is not allowed: it must be a policy document`))
	}
	if !dnsLabel.MatchString(a.Namespace) {
		errs = append(errs, fmt.Errorf("namespace: %q is not allowed: it must be a DNS label", a.Namespace))
	}
	// A role of "default" would be that of every pod that names no account.
	if !dnsSubdomain.MatchString(a.ServiceAccount) || a.ServiceAccount == "default" {
		errs = append(errs, fmt.Errorf("serviceAccount: %q is not allowed: it must be the name of a service account other than default", a.ServiceAccount))
	}
	return errors.Join(errs...)
}

// podTrust is who may take the role of a service account: EKS' agent on the nodes, for pods of that account in that cluster. The
// agent itself puts the three names into the request ("List of session tags added by EKS Pod Identity").
func podTrust(clusterARN pulumi.StringInput, namespace, account string) pulumi.StringOutput {
	return iampolicy.Document(iampolicy.Statement{
		Sid: "PodIdentity", Principal: iampolicy.Service("pods.eks.amazonaws.com"), Action: []string{"sts:AssumeRole", "sts:TagSession"},
		Condition: iampolicy.Condition{"StringEquals": {
			"aws:RequestTag/eks-cluster-arn":            clusterARN,
			"aws:RequestTag/kubernetes-namespace":       namespace,
			"aws:RequestTag/kubernetes-service-account": account,
		}},
	})
}

// NewPodRole gives the pods of a service account a role in AWS. The account need not exist yet. Pods that run already get the role
// when they are started anew.
func NewPodRole(ctx *pulumi.Context, name string, args *PodRoleArgs, opts ...pulumi.ResourceOption) (*PodRole, error) {
	if args == nil {
		args = &PodRoleArgs{}
	}
	if err := args.validate(); err != nil {
		return nil, fmt.Errorf("pod role %s: %w", name, err)
	}
	self := &PodRole{}
	props := pulumi.Map{"namespace": pulumi.String(args.Namespace), "serviceAccount": pulumi.String(args.ServiceAccount), "policy": args.Policy}
	if err := ctx.RegisterComponentResourceV2("ephemos:cluster:PodRole", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("pod role %s: %w", name, err)
	}
	err := self.provision(ctx, name, *args, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"roleARN": self.RoleARN}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("pod role %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (r *PodRole) provision(ctx *pulumi.Context, name string, a PodRoleArgs, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(r, opts)
	if err != nil {
		return err
	}
	role, err := iam.NewRole(ctx, name+"-role", &iam.RoleArgs{
		Description:      pulumi.Sprintf("Pods of %s/%s in the EKS cluster %s", a.Namespace, a.ServiceAccount, a.ClusterName),
		AssumeRolePolicy: podTrust(a.ClusterARN, a.Namespace, a.ServiceAccount),
	}, inherited...)
	if err != nil {
		return fmt.Errorf("role: %w", err)
	}
	policy, err := iam.NewRolePolicy(ctx, name+"-policy", &iam.RolePolicyArgs{Role: role.Name, Policy: a.Policy}, inherited...)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	// The pods that get the role find it with its permissions.
	association, err := eks.NewPodIdentityAssociation(ctx, name+"-association", &eks.PodIdentityAssociationArgs{
		ClusterName: a.ClusterName, Namespace: pulumi.String(a.Namespace), ServiceAccount: pulumi.String(a.ServiceAccount), RoleArn: role.Arn,
	}, append(inherited, pulumi.DependsOn([]pulumi.Resource{policy}))...)
	if err != nil {
		return fmt.Errorf("association: %w", err)
	}
	r.RoleARN = association.RoleArn
	return nil
}
