// Package cluster runs Kubernetes on AWS: EKS with a private endpoint, one group of nodes a network zone, and the add-ons that give
// pods addresses, security groups, identities in AWS and volumes.
//
// In: subnets and security groups of components/network/vpc, keys of components/keys, who may administer. Out: the cluster's
// address and certificate, a kubeconfig without a credential, and each zone's Auto Scaling group for load balancers.
//
// # Who may do what
//
// The cluster knows no aws-auth ConfigMap: whoever may enter has an access entry (AuthenticationMode API, which cannot be taken
// back). Its creator gets nothing by being its creator, so that a leaked deployment role is no hidden administrator; Administrators
// is therefore required, and must hold whoever runs Pulumi's Kubernetes provider. Nodes may pull images and describe themselves;
// everything else in AWS belongs to pods, by pod identity (NewPodRole).
//
// # What the network sees
//
// Every node has the group NodeGroupID on its first interface. A pod gets the group of its zone on an interface of its own
// (podgroups, "security groups for pods" in standard mode). A node has few of those: 9 on a *.large, 18 on a *.xlarge and 38 on a
// *.2xlarge of m6i (aws/amazon-vpc-resource-controller-k8s, pkg/aws/vpc/limits.go), which bounds the pods of a zone. EKS adds a
// security group of its own to the control plane's interfaces, in which only itself is allowed; nothing else is put into it, because
// the launch templates name their groups.
//
// Network policies are enforced by the VPC CNI's agent. In its standard mode a new pod may speak until the agent has seen it, for
// a moment in which the security groups alone hold; the strict mode would deny the cluster's own add-ons, which have no policy.
package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/eks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	argument "ephemos.dev/deploy/components/internal/check"
	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/zones"
)

// Args are the arguments of New.
type Args struct {
	// Name is the cluster's name in AWS, 1 to 100 letters, digits, dashes and underscores. Required.
	Name string
	// Version is Kubernetes' minor version. Default DefaultVersion. Another one that AddonVersions does not know needs Addons.
	Version string
	// SubnetIDs are the platform zone's subnets, one in each of three availability zones, for the control plane's interfaces. Required.
	SubnetIDs pulumi.StringArrayInput
	// ControlPlaneGroupID is the security group of the control plane's interfaces, NodeGroupID that of the nodes. Required.
	ControlPlaneGroupID, NodeGroupID pulumi.StringInput
	// SecretsKeyARN encrypts Secrets in etcd, DiskKeyARN the nodes' disks and the volumes of pods, LogKeyARN the logs. Required. The
	// first can never be taken away or replaced. The second must allow the service-linked role of Auto Scaling.
	SecretsKeyARN, DiskKeyARN, LogKeyARN pulumi.StringInput
	// PublicAccessCIDRs are the ranges from which the API server is reachable over the internet. Default none: the endpoint is
	// private, and whoever deploys into the cluster runs inside the VPC or is connected to it.
	PublicAccessCIDRs []string
	// Administrators are the ARNs of the IAM roles or users that administer the cluster. Required: at least one, as nobody else can
	// let anybody in.
	Administrators []string
	// NodeGroups are the nodes, one group a zone. Required.
	NodeGroups []NodeGroup
	// LogRetentionDays is how long the control plane's logs are kept, one of the values that CloudWatch Logs has. Required.
	LogRetentionDays int
	// Protect keeps Pulumi from deleting the cluster and its logs.
	Protect bool

	// Region and AccountID narrow who may make EKS take the cluster's role: only for the cluster of this name, there. Default: any.
	Region, AccountID string
	// ServiceCIDR is the range of the Services' addresses, /12 to /24, which must overlap neither the VPC nor what is connected to
	// it. It cannot be changed. Default 172.20.0.0/16, one of the two that EKS itself takes.
	ServiceCIDR string
	// Addons are the versions of the add-ons. Default AddonVersions of Version, field by field.
	Addons Versions
	// NodeRelease is the release of the nodes' image, such as "1.54.0-aabbccdd". Default: the newest when a group is made or its
	// Kubernetes version changes.
	NodeRelease string
	// Tags are put on instances, disks and interfaces of nodes, which the default tags of the provider do not reach.
	Tags map[string]string
}

// DefaultVersion is the minor version of Kubernetes that the test bed runs too. EKS supports it until 27 March 2027 and, as
// extended support is declined, upgrades it by itself then.
const DefaultVersion = "1.35"

// LogTypes are the logs of the control plane. All are kept.
var LogTypes = []string{"api", "audit", "authenticator", "controllerManager", "scheduler"}

// Cluster is the cluster.
type Cluster struct {
	pulumi.ResourceState

	// Name is the cluster's name in AWS, known once it is there.
	Name pulumi.StringOutput `pulumi:"name"`
	// Endpoint is the URL of the API server.
	Endpoint pulumi.StringOutput `pulumi:"endpoint"`
	// CertificateAuthority is the certificate of the API server's CA, PEM in base64.
	CertificateAuthority pulumi.StringOutput `pulumi:"certificateAuthority"`
	ARN                  pulumi.StringOutput `pulumi:"arn"`
	// Kubeconfig is a kubeconfig that asks the AWS CLI for a token. It holds no credential.
	Kubeconfig pulumi.StringOutput `pulumi:"kubeconfig"`

	groups map[zones.Zone]pulumi.StringOutput
	ready  []pulumi.Resource
}

// ASG is the name of the Auto Scaling group of a zone's nodes. The zone must be one of Args.NodeGroups.
func (c *Cluster) ASG(zone zones.Zone) pulumi.StringOutput { return c.groups[zone] }

// Ready are the resources that what runs in the cluster depends on: nodes, add-ons and the administrators' entries.
func (c *Cluster) Ready() []pulumi.Resource { return slices.Clone(c.ready) }

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a Args) WithDefaults() Args {
	a.Version = cmp.Or(a.Version, DefaultVersion)
	a.ServiceCIDR = cmp.Or(a.ServiceCIDR, "172.20.0.0/16")
	a.Addons = a.Addons.withDefaults(AddonVersions[a.Version])
	return a
}

var (
	namePattern    = regexp.MustCompile(`^[0-9A-Za-z][A-Za-z0-9_-]{0,99}$`)
	versionPattern = regexp.MustCompile(`^1\.[0-9]{2}$`)
	releasePattern = regexp.MustCompile(`^1\.[0-9]+\.[0-9]+-[0-9a-f]{8}$`)
	// An access entry takes an IAM role or user. The name of a session or the account as a whole is none.
	administratorPattern = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[A-Za-z0-9+=,.@_/-]+$`)
)

func (a Args) validate() error {
	var errs []error
	check := func(ok bool, field string, value any, allowed string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %#v is not allowed: it must be %s", field, value, allowed))
		}
	}
	check(namePattern.MatchString(a.Name), "name", a.Name, "1 to 100 letters, digits, dashes and underscores, a letter or digit first")
	check(versionPattern.MatchString(a.Version), "version", a.Version, "a minor version such as "+DefaultVersion)
	if a.Region != "" {
		errs = append(errs, argument.Region("region", a.Region))
	}
	if a.AccountID != "" {
		errs = append(errs, argument.Account("accountID", a.AccountID))
	}
	check(a.NodeRelease == "" || releasePattern.MatchString(a.NodeRelease), "nodeRelease", a.NodeRelease, "a release of Bottlerocket such as 1.54.0-aabbccdd")
	for field, value := range map[string]pulumi.StringInput{
		"controlPlaneGroupID": a.ControlPlaneGroupID, "nodeGroupID": a.NodeGroupID, "secretsKeyARN": a.SecretsKeyARN,
		"diskKeyARN": a.DiskKeyARN, "logKeyARN": a.LogKeyARN,
	} {
		errs = append(errs, argument.Set(field, value))
	}
	errs = append(errs, threeSubnets("subnetIDs", a.SubnetIDs), a.validateServiceCIDR(), argument.LogRetention("logRetentionDays", a.LogRetentionDays))
	for _, cidr := range a.PublicAccessCIDRs {
		errs = append(errs, validatePublic(cidr))
	}
	check(len(a.Administrators) > 0, "administrators", a.Administrators, "at least one ARN: without one nobody could ever enter the cluster")
	for i, arn := range a.Administrators {
		check(administratorPattern.MatchString(arn), "administrators", arn, "the ARN of an IAM role or user")
		check(!slices.Contains(a.Administrators[:i], arn), "administrators", arn, "there once")
	}
	errs = append(errs, a.validateNodeGroups(), a.Addons.validate(a.Version))
	for key := range a.Tags {
		check(key != "" && !strings.HasPrefix(key, "aws:"), "tags", key, "a key that does not begin with aws:")
	}
	// Maps were read: the order must not depend on it.
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	slices.SortStableFunc(errs, func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
	return errors.Join(errs...)
}

// threeSubnets refuses what is known not to be a subnet in each of three availability zones. How many an output holds is not known.
func threeSubnets(field string, ids pulumi.StringArrayInput) error {
	if list, ok := ids.(pulumi.StringArray); ids == nil || ok && len(list) != 3 {
		return fmt.Errorf("%s: %d subnets are not allowed: there must be 3, one in each availability zone", field, len(list))
	}
	return nil
}

func (a Args) validateServiceCIDR() error {
	p, err := netip.ParsePrefix(a.ServiceCIDR)
	if err != nil || p != p.Masked() || !p.Addr().Is4() || !p.Addr().IsPrivate() || p.Bits() < 12 || p.Bits() > 24 {
		return fmt.Errorf("serviceCIDR: %q is not allowed: it must be a private IPv4 range, /12 to /24, such as 172.20.0.0/16", a.ServiceCIDR)
	}
	return nil
}

// validatePublic refuses ranges that EKS does not take and those that are hardly narrower than everybody.
func validatePublic(cidr string) error {
	p, err := netip.ParsePrefix(cidr)
	if err != nil || p != p.Masked() || !p.Addr().Is4() || p.Addr().IsPrivate() || p.Addr().IsLoopback() || p.Bits() < 8 {
		return fmt.Errorf("publicAccessCIDRs: %q is not allowed: it must be a public IPv4 range of at most /8, such as 198.51.100.0/24; "+
			"the whole internet never is", cidr)
	}
	return nil
}

// New makes the cluster with its nodes and add-ons.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Cluster, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	self := &Cluster{groups: map[zones.Zone]pulumi.StringOutput{}}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "version": pulumi.String(a.Version), "publicAccessCIDRs": pulumi.ToStringArray(a.PublicAccessCIDRs),
		"administrators": pulumi.ToStringArray(a.Administrators), "subnetIDs": a.SubnetIDs, "serviceCIDR": pulumi.String(a.ServiceCIDR),
		"logRetentionDays": pulumi.Int(a.LogRetentionDays), "protect": pulumi.Bool(a.Protect),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:cluster:Cluster", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{
			"name": self.Name, "endpoint": self.Endpoint, "certificateAuthority": self.CertificateAuthority, "arn": self.ARN,
			"kubeconfig": self.Kubeconfig,
		}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (c *Cluster) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(c, opts)
	if err != nil {
		return err
	}
	b := builder{ctx: ctx, name: name, args: a, inherited: inherited}
	control, err := b.controlPlane()
	if err != nil {
		return err
	}
	c.Name, c.Endpoint, c.ARN = control.Name, control.Endpoint, control.Arn
	c.CertificateAuthority = control.CertificateAuthority.Data().Elem()
	c.Kubeconfig = kubeconfig(c.Name, c.Endpoint, c.CertificateAuthority, c.ARN)
	entries, err := b.administrators(control)
	if err != nil {
		return err
	}
	// What a node needs to become ready is there before the first one is: its network, and the agent that gives the network's own
	// program its credentials.
	first, err := b.addons(control, beforeNodes, nil)
	if err != nil {
		return err
	}
	var nodes []pulumi.Resource
	for _, group := range a.NodeGroups {
		g, err := b.nodeGroup(control, group, first)
		if err != nil {
			return fmt.Errorf("nodes of %s: %w", group.Zone, err)
		}
		nodes = append(nodes, g)
		c.groups[group.Zone] = g.Resources.Index(pulumi.Int(0)).AutoscalingGroups().Index(pulumi.Int(0)).Name().Elem()
	}
	last, err := b.addons(control, afterNodes, nodes)
	if err != nil {
		return err
	}
	c.ready = slices.Concat(entries, nodes, first, last)
	return nil
}

// A builder makes the children of one cluster.
type builder struct {
	ctx       *pulumi.Context
	name      string
	args      Args
	inherited []pulumi.ResourceOption
}

// options are those of a child, with what it depends on besides its inputs.
func (b builder) options(more ...pulumi.ResourceOption) []pulumi.ResourceOption {
	return slices.Concat(b.inherited, more)
}

func (b builder) controlPlane() (*eks.Cluster, error) {
	a := b.args
	// EKS would make the group itself, without a key and for ever.
	logs, err := cloudwatch.NewLogGroup(b.ctx, b.name+"-logs", &cloudwatch.LogGroupArgs{
		Name: pulumi.Sprintf("/aws/eks/%s/cluster", a.Name), KmsKeyId: a.LogKeyARN.ToStringOutput().ToStringPtrOutput(),
		RetentionInDays: pulumi.Int(a.LogRetentionDays),
		Tags:            pulumi.StringMap{"Name": pulumi.String(a.Name), "DataClass": pulumi.String("logs")},
	}, b.options(pulumi.Protect(a.Protect))...)
	if err != nil {
		return nil, fmt.Errorf("log group: %w", err)
	}
	role, permissions, err := b.controlPlaneRole()
	if err != nil {
		return nil, err
	}
	vpc := &eks.ClusterVpcConfigArgs{
		SubnetIds: a.SubnetIDs, SecurityGroupIds: pulumi.StringArray{a.ControlPlaneGroupID},
		EndpointPrivateAccess: pulumi.Bool(true), EndpointPublicAccess: pulumi.Bool(len(a.PublicAccessCIDRs) > 0),
	}
	if len(a.PublicAccessCIDRs) > 0 {
		vpc.PublicAccessCidrs = pulumi.ToStringArray(a.PublicAccessCIDRs)
	}
	// Without its permissions EKS could not remove its interfaces when the cluster is deleted.
	depends := append([]pulumi.Resource{logs}, permissions...)
	control, err := eks.NewCluster(b.ctx, b.name+"-control-plane", &eks.ClusterArgs{
		Name: pulumi.String(a.Name), Version: pulumi.String(a.Version), RoleArn: role.Arn, VpcConfig: vpc,
		AccessConfig: &eks.ClusterAccessConfigArgs{
			AuthenticationMode: pulumi.String("API"), BootstrapClusterCreatorAdminPermissions: pulumi.Bool(false),
		},
		// The add-ons are managed ones, below: EKS installs none that nobody upgrades.
		BootstrapSelfManagedAddons: pulumi.Bool(false),
		EnabledClusterLogTypes:     pulumi.ToStringArray(LogTypes),
		EncryptionConfig: &eks.ClusterEncryptionConfigArgs{
			Provider: &eks.ClusterEncryptionConfigProviderArgs{KeyArn: a.SecretsKeyARN}, Resources: pulumi.ToStringArray([]string{"secrets"}),
		},
		KubernetesNetworkConfig: &eks.ClusterKubernetesNetworkConfigArgs{
			IpFamily: pulumi.String("ipv4"), ServiceIpv4Cidr: pulumi.String(a.ServiceCIDR),
		},
		// Extended support costs six times as much and is no reason to stay on an old version.
		UpgradePolicy: &eks.ClusterUpgradePolicyArgs{SupportType: pulumi.String("STANDARD")},
		// Traffic leaves an availability zone that AWS or an operator declares impaired.
		ZonalShiftConfig: &eks.ClusterZonalShiftConfigArgs{Enabled: pulumi.Bool(true)},
		Tags:             pulumi.StringMap{"Name": pulumi.String(a.Name), "Zone": pulumi.String(string(zones.Platform)), "DataClass": pulumi.String("secrets")},
	}, b.options(pulumi.DependsOn(depends), pulumi.Protect(a.Protect))...)
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	return control, nil
}
