package vpc

import (
	"fmt"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/vpc"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/zones"
)

func (v *VPC) makeSubnets(m maker) error {
	for _, tier := range v.plan.Tiers() {
		for _, az := range v.plan.Zones {
			subnet, err := ec2.NewSubnet(m.ctx, fmt.Sprintf("%s-subnet-%s-%s", m.name, tier, az), &ec2.SubnetArgs{
				VpcId: v.VPCID, AvailabilityZone: pulumi.String(az), CidrBlock: pulumi.String(v.plan.Subnet(tier, az).String()),
				// The edge's load balancer gets public addresses without it.
				MapPublicIpOnLaunch: pulumi.Bool(false),
				Tags:                m.subnetTags(tier, az),
			}, m.protected...)
			if err != nil {
				return err
			}
			v.subnets[place{tier, az}] = subnet
		}
	}
	return nil
}

// subnetTags are what EKS finds subnets by, and people.
func (m maker) subnetTags(tier network.Tier, az string) pulumi.StringMap {
	tags := pulumi.StringMap{"Name": pulumi.Sprintf("%s-%s-%s", m.name, tier, az), "Tier": pulumi.String(string(tier))}
	switch tier {
	case network.Firewall:
		return tags
	case network.Public:
		tags["Zone"] = pulumi.String(string(zones.DMZ))
		tags["kubernetes.io/role/elb"] = pulumi.String("1")
	case network.TierOf(zones.Management):
		tags["Zone"] = pulumi.String(string(tier))
		tags["kubernetes.io/role/internal-elb"] = pulumi.String("1")
	default:
		tags["Zone"] = pulumi.String(string(tier))
	}
	if m.args.ClusterName != "" {
		tags["kubernetes.io/cluster/"+m.args.ClusterName] = pulumi.String("shared")
	}
	return tags
}

// makeRoutes gives each subnet a route table of its own: the routes through the firewall differ by availability zone. Without routes,
// a table has the way within the VPC only.
func (v *VPC) makeRoutes(m maker) error {
	gateway, err := ec2.NewInternetGateway(m.ctx, m.name+"-internet", &ec2.InternetGatewayArgs{
		VpcId: v.VPCID, Tags: pulumi.StringMap{"Name": pulumi.String(m.name)},
	}, m.opts...)
	if err != nil {
		return err
	}
	for _, tier := range v.plan.Tiers() {
		for _, az := range v.plan.Zones {
			at, name := place{tier, az}, fmt.Sprintf("%s-routes-%s-%s", m.name, tier, az)
			table, err := ec2.NewRouteTable(m.ctx, name, &ec2.RouteTableArgs{
				VpcId: v.VPCID, Tags: pulumi.StringMap{"Name": pulumi.Sprintf("%s-%s-%s", m.name, tier, az), "Tier": pulumi.String(string(tier))},
			}, m.opts...)
			if err != nil {
				return err
			}
			v.tables[at] = table
			if _, err := ec2.NewRouteTableAssociation(m.ctx, name+"-association", &ec2.RouteTableAssociationArgs{
				RouteTableId: table.ID(), SubnetId: v.subnets[at].ID(),
			}, m.opts...); err != nil {
				return err
			}
			if tier != network.Public {
				continue
			}
			if _, err := ec2.NewRoute(m.ctx, name+"-internet", &ec2.RouteArgs{
				RouteTableId: table.ID(), DestinationCidrBlock: pulumi.String(network.Internet), GatewayId: gateway.ID(),
			}, m.opts...); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeACLs makes the ACL of each tier's subnets, in which the program's entries are all there are. The public subnets have that of the
// DMZ.
func (v *VPC) makeACLs(m maker, entries []network.ACLEntry) error {
	for _, tier := range v.plan.Tiers() {
		if tier == network.Public {
			continue
		}
		args := &ec2.NetworkAclArgs{
			VpcId: v.VPCID, SubnetIds: v.SubnetIDs(tier), Ingress: ec2.NetworkAclIngressArray{}, Egress: ec2.NetworkAclEgressArray{},
			Tags: pulumi.StringMap{"Name": pulumi.Sprintf("%s-%s", m.name, tier), "Tier": pulumi.String(string(tier))},
		}
		if tier == network.TierOf(zones.DMZ) {
			args.SubnetIds = append(v.SubnetIDs(tier), v.SubnetIDs(network.Public)...)
		}
		ingress, egress := ec2.NetworkAclIngressArray{}, ec2.NetworkAclEgressArray{}
		for _, e := range entries {
			if network.TierOf(e.Zone) != tier {
				continue
			}
			action := map[bool]pulumi.String{true: "allow", false: "deny"}[e.Allow]
			if e.Direction == network.Ingress {
				ingress = append(ingress, ec2.NetworkAclIngressArgs{
					RuleNo: pulumi.Int(e.Number), Action: action, Protocol: pulumi.String(e.Protocol), CidrBlock: pulumi.String(e.CIDR.String()),
					FromPort: pulumi.Int(e.FromPort), ToPort: pulumi.Int(e.ToPort),
				})
				continue
			}
			egress = append(egress, ec2.NetworkAclEgressArgs{
				RuleNo: pulumi.Int(e.Number), Action: action, Protocol: pulumi.String(e.Protocol), CidrBlock: pulumi.String(e.CIDR.String()),
				FromPort: pulumi.Int(e.FromPort), ToPort: pulumi.Int(e.ToPort),
			})
		}
		args.Ingress, args.Egress = ingress, egress
		if _, err := ec2.NewNetworkAcl(m.ctx, fmt.Sprintf("%s-acl-%s", m.name, tier), args, m.opts...); err != nil {
			return err
		}
	}
	return nil
}

// makeGroups makes a security group for each group of the rules, empty, and each rule beside it: rules name each other's groups.
func (v *VPC) makeGroups(m maker, rules []network.GroupRule) error {
	group := func(g network.Group) error {
		if g == "" || v.groups[g] != nil {
			return nil
		}
		made, err := ec2.NewSecurityGroup(m.ctx, fmt.Sprintf("%s-group-%s", m.name, g), &ec2.SecurityGroupArgs{
			VpcId: v.VPCID, Description: pulumi.Sprintf("%s: %s, rules from the zone model", m.name, g),
			Tags: pulumi.StringMap{"Name": pulumi.Sprintf("%s-%s", m.name, g), "Group": pulumi.String(string(g))},
		}, m.opts...)
		v.groups[g] = made
		return err
	}
	for _, r := range m.args.Model.Roles {
		if err := group(network.GroupOf(m.args.Model, r)); err != nil {
			return err
		}
	}
	for _, r := range rules {
		if err := v.makeRule(m, r); err != nil {
			return err
		}
	}
	return nil
}

func (v *VPC) makeRule(m maker, r network.GroupRule) error {
	var cidr, peer pulumi.StringPtrInput
	other := string(r.Peer)
	switch {
	case r.CIDR == network.Internet:
		cidr, other = pulumi.String(r.CIDR), string(zones.Internet)
	case r.CIDR != "":
		cidr, other = pulumi.String(r.CIDR), other+"-"+r.CIDR
	default:
		peer = v.groups[r.Peer].ID()
	}
	name := fmt.Sprintf("%s-rule-%s-%s-%s-%s-%d", m.name, r.Group, r.Direction, other, r.Protocol, r.FromPort)
	tags := pulumi.StringMap{"Name": pulumi.Sprintf("%s-%s-%s", m.name, r.Group, r.Direction)}
	var err error
	if r.Direction == network.Ingress {
		_, err = vpc.NewSecurityGroupIngressRule(m.ctx, name, &vpc.SecurityGroupIngressRuleArgs{
			SecurityGroupId: v.groups[r.Group].ID(), CidrIpv4: cidr, ReferencedSecurityGroupId: peer, IpProtocol: pulumi.String(r.Protocol),
			FromPort: pulumi.Int(r.FromPort), ToPort: pulumi.Int(r.ToPort), Description: pulumi.String(r.Description), Tags: tags,
		}, m.opts...)
		return err
	}
	_, err = vpc.NewSecurityGroupEgressRule(m.ctx, name, &vpc.SecurityGroupEgressRuleArgs{
		SecurityGroupId: v.groups[r.Group].ID(), CidrIpv4: cidr, ReferencedSecurityGroupId: peer, IpProtocol: pulumi.String(r.Protocol),
		FromPort: pulumi.Int(r.FromPort), ToPort: pulumi.Int(r.ToPort), Description: pulumi.String(r.Description), Tags: tags,
	}, m.opts...)
	return err
}
