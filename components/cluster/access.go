package cluster

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/eks"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
)

// Policies of AWS' own. EKS' access policies are no IAM policies: they say what an access entry may do in the cluster.
const (
	adminAccessPolicy = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"

	vpcControllerPolicy = "arn:aws:iam::aws:policy/AmazonEKSVPCResourceController"
	workerNodePolicy    = "arn:aws:iam::aws:policy/AmazonEKSWorkerNodeMinimalPolicy"
	pullPolicy          = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly"
	cniPolicy           = "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy"
	ebsPolicy           = "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
)

// administrators gives each of them an access entry with every right in the cluster.
func (b builder) administrators(control *eks.Cluster) ([]pulumi.Resource, error) {
	var made []pulumi.Resource
	for _, arn := range b.args.Administrators {
		name := b.name + "-admin-" + shortName(arn)
		entry, err := eks.NewAccessEntry(b.ctx, name, &eks.AccessEntryArgs{
			ClusterName: control.Name, PrincipalArn: pulumi.String(arn), Type: pulumi.String("STANDARD"),
		}, b.options()...)
		if err != nil {
			return nil, fmt.Errorf("access entry: %w", err)
		}
		policy, err := eks.NewAccessPolicyAssociation(b.ctx, name+"-policy", &eks.AccessPolicyAssociationArgs{
			ClusterName: control.Name, PrincipalArn: entry.PrincipalArn, PolicyArn: pulumi.String(adminAccessPolicy),
			AccessScope: &eks.AccessPolicyAssociationAccessScopeArgs{Type: pulumi.String("cluster")},
		}, b.options()...)
		if err != nil {
			return nil, fmt.Errorf("access policy: %w", err)
		}
		made = append(made, entry, policy)
	}
	return made, nil
}

// shortName is the last part of an ARN and something of the whole, so that neither the order of administrators nor a role of the
// same name elsewhere makes Pulumi replace an entry.
func shortName(arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return arn[strings.LastIndexAny(arn, "/:")+1:] + "-" + hex.EncodeToString(sum[:3])
}

// controlPlaneRole is what the control plane may do. Instead of AmazonEKSClusterPolicy it has the smallest policy that EKS' guide
// names ("Amazon EKS cluster IAM role"), which leaves out the load balancers, disks and routes of the old cloud provider: they are
// made by Pulumi and by the disks' own driver.
func (b builder) controlPlaneRole() (*iam.Role, []pulumi.Resource, error) {
	a := b.args
	condition := iampolicy.Condition{}
	if a.AccountID != "" {
		condition = iampolicy.Condition{
			"StringEquals": {"aws:SourceAccount": a.AccountID},
			"ArnLike":      {"aws:SourceArn": fmt.Sprintf("arn:aws:eks:%s:%s:cluster/%s", cmp.Or(a.Region, "*"), a.AccountID, a.Name)},
		}
	}
	role, err := iam.NewRole(b.ctx, b.name+"-control-plane-role", &iam.RoleArgs{
		Description: pulumi.String("Control plane of the EKS cluster " + a.Name),
		AssumeRolePolicy: iampolicy.Document(iampolicy.Statement{
			Sid: "ControlPlane", Principal: iampolicy.Service("eks.amazonaws.com"), Action: "sts:AssumeRole", Condition: condition,
		}),
	}, b.options()...)
	if err != nil {
		return nil, nil, fmt.Errorf("control plane's role: %w", err)
	}
	policy, err := iam.NewRolePolicy(b.ctx, b.name+"-control-plane-policy", &iam.RolePolicyArgs{
		Role: role.Name, Policy: iampolicy.Document(
			iampolicy.Statement{
				Sid: "TagNodes", Action: "ec2:CreateTags", Resource: "arn:aws:ec2:*:*:instance/*",
				Condition: iampolicy.Condition{"ForAnyValue:StringLike": {"aws:TagKeys": "kubernetes.io/cluster/*"}},
			},
			// None of these can be narrowed to a resource.
			iampolicy.Statement{Sid: "ReadNetwork", Resource: iampolicy.Any, Action: []string{
				"ec2:DescribeInstances", "ec2:DescribeNetworkInterfaces", "ec2:DescribeVpcs", "ec2:DescribeDhcpOptions",
				"ec2:DescribeAvailabilityZones", "ec2:DescribeInstanceTopology",
			}},
			iampolicy.Statement{Sid: "ReadSecretsKey", Action: "kms:DescribeKey", Resource: a.SecretsKeyARN},
		),
	}, b.options()...)
	if err != nil {
		return nil, nil, fmt.Errorf("control plane's policy: %w", err)
	}
	// The controller that gives pods interfaces with groups of their own runs in the control plane.
	interfaces, err := b.attach(b.name+"-control-plane-interfaces", role, vpcControllerPolicy)
	if err != nil {
		return nil, nil, err
	}
	return role, []pulumi.Resource{policy, interfaces}, nil
}

func (b builder) attach(name string, role *iam.Role, policy string) (*iam.RolePolicyAttachment, error) {
	attachment, err := iam.NewRolePolicyAttachment(b.ctx, name, &iam.RolePolicyAttachmentArgs{
		Role: role.Name, PolicyArn: pulumi.String(policy),
	}, b.options()...)
	if err != nil {
		return nil, fmt.Errorf("attachment of %s: %w", policy, err)
	}
	return attachment, nil
}
