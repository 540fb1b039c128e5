package vpc

import (
	"fmt"
	"slices"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/zones"
)

// EndpointsGroup is the security group of the endpoints.
const EndpointsGroup = network.Group(zones.AWSServices)

// A service of AWS is what the cluster calls. Its policy says who may do what through its endpoint, on top of what each caller's own
// policies say: without it, whoever gets in could carry data away with credentials of an account of theirs.
type service struct {
	name   string
	policy func(Args) []iampolicy.Statement
}

// services are all that a private cluster of this deployment needs
// (https://docs.aws.amazon.com/eks/latest/userguide/private-clusters.html). RDS is none of them: tokens for the database are made
// without a call. There is none of the Session Manager either, as nobody logs in on a node; Args.Endpoints adds it.
var services = []service{
	// The resources of some of EC2's actions, such as public images and the snapshots of others, are not the account's.
	{"ec2", func(a Args) []iampolicy.Statement { return []iampolicy.Statement{a.principals("ec2:*")} }},
	{"ecr.api", images},
	{"ecr.dkr", images},
	{"s3", objects},
	own("sts", "sts:*"),
	own("logs", "logs:*"),
	own("kms", "kms:*"),
	own("secretsmanager", "secretsmanager:*"),
	own("acm-pca", "acm-pca:*"),
	own("elasticloadbalancing", "elasticloadbalancing:*"),
	own("autoscaling", "autoscaling:*"),
	own("eks", "eks:*"),
	own("eks-auth", "eks-auth:AssumeRoleForPodIdentity"),
	own("sns", "sns:Publish"),
	own("monitoring", "cloudwatch:*"),
	// Where GuardDuty's agent on the nodes reports to. GuardDuty would otherwise make an endpoint of its own, which the rules of the
	// nodes' security group do not reach.
	{"guardduty-data", func(a Args) []iampolicy.Statement {
		return []iampolicy.Statement{a.principals("guardduty:SendSecurityTelemetry")}
	}},
}

// Endpoints are the services that are always reached, by the last part of their names.
func Endpoints() []string {
	var names []string
	for _, s := range services {
		names = append(names, s.name)
	}
	return names
}

// principals lets the account's own principals do something.
func (a Args) principals(action ...string) iampolicy.Statement {
	return iampolicy.Statement{
		Sid: "OwnPrincipals", Principal: iampolicy.Any, Action: action, Resource: iampolicy.Any,
		Condition: iampolicy.Condition{"StringEquals": {"aws:PrincipalAccount": a.AccountID}},
	}
}

// within lets the account's own principals do something to what is the account's. Actions that are on nothing have no resource's
// account.
func (a Args) within(action ...string) iampolicy.Statement {
	s := a.principals(action...)
	s.Sid = "OwnPrincipalsOwnResources"
	s.Condition["StringEqualsIfExists"] = map[string]any{"aws:ResourceAccount": a.AccountID}
	return s
}

func own(name, action string) service {
	return service{name, func(a Args) []iampolicy.Statement { return []iampolicy.Statement{a.within(action)} }}
}

// images lets images be pulled, not pushed. Those of EKS' add-ons and of GuardDuty are in registries of AWS, which differ by region. A
// registry that mirrors others takes two actions more.
func images(a Args) []iampolicy.Statement {
	pull := a.principals("ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
	pull.Sid = "Pull"
	return []iampolicy.Statement{pull, a.within("ecr:BatchImportUpstreamImage", "ecr:CreateRepository")}
}

// objects lets the account's own buckets be used, and the layers of images be read, which ECR keeps in a bucket of its own
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html#ecr-minimum-s3-perms) and hands out by signed addresses. The
// packages of Amazon Linux are in a bucket too, but nodes are replaced, never patched.
func objects(a Args) []iampolicy.Statement {
	return []iampolicy.Statement{
		a.within("s3:*"),
		{Sid: "LayersOfImages", Principal: iampolicy.Any, Action: "s3:GetObject",
			Resource: fmt.Sprintf("arn:aws:s3:::prod-%s-starport-layer-bucket/*", a.Region)},
	}
}

func (v *VPC) makeEndpoints(m maker) error {
	all := slices.Clone(services)
	for _, name := range m.args.Endpoints {
		all = append(all, service{name, func(a Args) []iampolicy.Statement { return []iampolicy.Statement{a.principals(iampolicy.Any)} }})
	}
	for _, s := range all {
		args := &ec2.VpcEndpointArgs{
			VpcId: v.VPCID, VpcEndpointType: pulumi.String("Interface"), ServiceName: pulumi.Sprintf("com.amazonaws.%s.%s", m.args.Region, s.name),
			SubnetIds: v.SubnetIDs(network.TierOf(zones.Platform)), SecurityGroupIds: pulumi.StringArray{v.GroupID(EndpointsGroup)},
			PrivateDnsEnabled: pulumi.Bool(true), Policy: iampolicy.Document(s.policy(m.args)...),
			Tags: pulumi.StringMap{"Name": pulumi.Sprintf("%s-%s", m.name, s.name), "Zone": pulumi.String(string(zones.Platform))},
		}
		if s.name == "s3" {
			// There is no gateway endpoint beside it, to which AWS would leave the VPC's own requests.
			args.DnsOptions = &ec2.VpcEndpointDnsOptionsArgs{PrivateDnsOnlyForInboundResolverEndpoint: pulumi.Bool(false)}
		}
		endpoint, err := ec2.NewVpcEndpoint(m.ctx, m.name+"-endpoint-"+s.name, args, m.opts...)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		v.points[s.name] = endpoint
	}
	return nil
}
