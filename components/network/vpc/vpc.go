// Package vpc makes the network of the deployment on AWS: a VPC with subnets for each zone of the model in each availability zone,
// route tables, network ACLs and security groups that are rendered from the model, AWS' own API within the VPC, and the records of
// what was sent and asked for.
//
// In: the plan of addresses, the model, where logs are encrypted. Out: identifiers by tier, group and availability zone.
//
// # Ways out
//
// There are none. Only the public subnets, which hold nothing but the edge's load balancer, have a route to the internet gateway, and
// there is no NAT: nothing else has a way to the internet or from it. AWS' API is reached by interface endpoints in the platform's
// subnets, whose policies let in nobody but principals of the account. DNS is a way out even so; the DNS firewall answers names of AWS'
// services in the region and of the given private zones, and no others.
//
// # What the model does not know
//
// A security group of AWS filters neither the VPC's resolver nor the instance metadata nor the time (their addresses are link-local or
// the VPC's own), nor what stays on a node, such as the kubelet's probes in the mode "standard" of the VPC CNI and the Pod Identity
// Agent. Everything else that the cluster needs is a flow of zones.AWS, so that no rule is made beside the model. EKS adds a security
// group of its own to the interfaces of the API server; the nodes are not in it.
//
// The subnets carry no tag kubernetes.io/role/cni on purpose: with it, the VPC CNI would take addresses for the pods of one zone from
// the subnets of another.
package vpc

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/zones"
)

// Args are the arguments of New.
type Args struct {
	// Region is the AWS region. Required, and that of the plan's availability zones.
	Region string
	// AccountID is the account, of twelve digits, whose principals may use the endpoints. Required.
	AccountID string
	// Plan is the addresses. Required.
	Plan network.Plan
	// Model is the zones, usually zones.AWS. Required.
	Model zones.Model
	// FlowLogKeyARN is the key that encrypts the records of packets and of names. CloudWatch Logs must be allowed to use it. Required.
	FlowLogKeyARN pulumi.StringInput
	// LogRetentionDays is for how long these are kept. Required: one of the numbers that CloudWatch Logs takes.
	LogRetentionDays int
	// ClusterName is the EKS cluster that the subnets are tagged for. Empty: they name none.
	ClusterName string
	// Endpoints are services to reach besides those of Endpoints(), by the last part of their names, such as "ssm".
	Endpoints []string
	// PrivateZones are domains that the DNS firewall answers besides AWS', without a dot at the end, such as "prod.internal".
	PrivateZones []string
	// OpenDNS leaves the DNS firewall away: every name is answered, and DNS is a way out. Default false.
	OpenDNS bool
	// Protect guards the VPC, the subnets and the records against deletion.
	Protect bool
}

// VPC is the network.
type VPC struct {
	pulumi.ResourceState

	// VPCID is the VPC's identifier.
	VPCID pulumi.IDOutput `pulumi:"vpcId"`
	// FlowLogGroupARN and QueryLogGroupARN are the log groups of packets and of names asked for.
	FlowLogGroupARN  pulumi.StringOutput `pulumi:"flowLogGroupArn"`
	QueryLogGroupARN pulumi.StringOutput `pulumi:"queryLogGroupArn"`

	plan    network.Plan
	subnets map[place]*ec2.Subnet
	tables  map[place]*ec2.RouteTable
	groups  map[network.Group]*ec2.SecurityGroup
	points  map[string]*ec2.VpcEndpoint
}

// A place is where a subnet and its route table are.
type place struct {
	tier network.Tier
	az   string
}

var (
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	servicePattern = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)*$`)
	domainPattern  = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$`)
)

// rendered is what the model says of the plan's subnets.
type rendered struct {
	rules   []network.GroupRule
	entries []network.ACLEntry
}

func (a Args) validate() (rendered, error) {
	var out rendered
	var problems []error
	add := func(field, value, allowed string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %q is not allowed: %s", field, value, fmt.Sprintf(allowed, args...)))
	}
	planErr := a.Plan.Validate()
	if planErr != nil {
		problems = append(problems, fmt.Errorf("plan: %w", planErr))
	}
	if region := a.Plan.Region(); a.Region == "" || region != "" && a.Region != region {
		add("region", a.Region, "it must be that of the availability zones, %s", region)
	}
	if !accountPattern.MatchString(a.AccountID) {
		add("accountID", a.AccountID, "it must be the twelve digits of an account")
	}
	if a.FlowLogKeyARN == nil {
		add("flowLogKeyARN", "", "it must be set")
	}
	problems = append(problems, network.CheckRetention("logRetentionDays", a.LogRetentionDays))
	for i, service := range a.Endpoints {
		switch {
		case !servicePattern.MatchString(service):
			add("endpoints", service, "it must be the last part of a service's name, such as ssm")
		case slices.Contains(Endpoints(), service) || slices.Contains(a.Endpoints[:i], service):
			add("endpoints", service, "it is there already")
		}
	}
	for _, domain := range a.PrivateZones {
		if !domainPattern.MatchString(domain) {
			add("privateZones", domain, "it must be a domain, such as prod.internal")
		}
	}
	rules, groupsErr := network.Groups(a.Model)
	if groupsErr != nil {
		problems = append(problems, groupsErr)
	}
	if planErr == nil && groupsErr == nil {
		var rulesErr, entriesErr error
		out.rules, rulesErr = network.Inspected(a.Model, a.Plan, rules)
		out.entries, entriesErr = a.Plan.ACLs(a.Model)
		problems = append(problems, rulesErr, entriesErr)
		if len(rules) > 0 && !slices.ContainsFunc(rules, func(r network.GroupRule) bool { return r.Group == EndpointsGroup }) {
			problems = append(problems, fmt.Errorf("model: it must have a role with the group %s, which the endpoints are in", EndpointsGroup))
		}
	}
	return out, errors.Join(problems...)
}

// New makes the network.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*VPC, error) {
	if args == nil {
		args = &Args{}
	}
	a := *args
	model, err := a.validate()
	if err != nil {
		return nil, fmt.Errorf("vpc %s: %w", name, err)
	}
	self := &VPC{
		plan: a.Plan, subnets: map[place]*ec2.Subnet{}, tables: map[place]*ec2.RouteTable{},
		groups: map[network.Group]*ec2.SecurityGroup{}, points: map[string]*ec2.VpcEndpoint{},
	}
	props := pulumi.Map{
		"region": pulumi.String(a.Region), "accountId": pulumi.String(a.AccountID), "cidrBlock": pulumi.String(a.Plan.VPC.String()),
		"availabilityZones": pulumi.ToStringArray(a.Plan.Zones), "logRetentionDays": pulumi.Int(a.LogRetentionDays),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:network:VPC", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("vpc %s: %w", name, err)
	}
	err = self.provision(ctx, name, a, model, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = self.outputs()
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("vpc %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (v *VPC) outputs() pulumi.Map {
	subnets, groups := pulumi.Map{}, pulumi.StringMap{}
	for _, t := range v.plan.Tiers() {
		subnets[string(t)] = v.SubnetIDs(t)
	}
	for g := range v.groups {
		groups[string(g)] = v.GroupID(g)
	}
	return pulumi.Map{
		"vpcId": v.VPCID, "subnetIds": subnets, "securityGroupIds": groups,
		"flowLogGroupArn": v.FlowLogGroupARN, "queryLogGroupArn": v.QueryLogGroupARN,
	}
}

// SubnetIDs are the identifiers of a tier's subnets, in the order of the plan's availability zones.
func (v *VPC) SubnetIDs(t network.Tier) pulumi.StringArray {
	var ids pulumi.StringArray
	for _, az := range v.plan.Zones {
		if s := v.subnets[place{t, az}]; s != nil {
			ids = append(ids, s.ID().ToStringOutput())
		}
	}
	return ids
}

// GroupID is the identifier of a security group. It fails for one that the model does not have.
func (v *VPC) GroupID(g network.Group) pulumi.StringOutput {
	if group := v.groups[g]; group != nil {
		return group.ID().ToStringOutput()
	}
	return missing("security group %q", g)
}

// Groups are the names of all security groups, sorted.
func (v *VPC) Groups() []network.Group {
	var names []network.Group
	for g := range v.groups {
		names = append(names, g)
	}
	slices.Sort(names)
	return names
}

// RouteTableID is the identifier of the route table of a tier's subnet in an availability zone. It fails where there is none.
func (v *VPC) RouteTableID(t network.Tier, az string) pulumi.StringOutput {
	if table := v.tables[place{t, az}]; table != nil {
		return table.ID().ToStringOutput()
	}
	return missing("route table of %s in %s", t, az)
}

// EndpointID is the identifier of the endpoint of a service, such as "kms", for policies that let nobody in but through it. It fails
// for one that is not there.
func (v *VPC) EndpointID(service string) pulumi.StringOutput {
	if endpoint := v.points[service]; endpoint != nil {
		return endpoint.ID().ToStringOutput()
	}
	return missing("endpoint of %s", service)
}

// missing is the output in the place of what is not there.
func missing(format string, args ...any) pulumi.StringOutput {
	return pulumi.String("").ToStringOutput().ApplyT(func(string) (string, error) {
		return "", fmt.Errorf("the network has no "+format, args...)
	}).(pulumi.StringOutput)
}

// A maker registers the children. protected are the options of what must not be lost.
type maker struct {
	ctx             *pulumi.Context
	name            string
	args            Args
	opts, protected []pulumi.ResourceOption
}

func (v *VPC) provision(ctx *pulumi.Context, name string, a Args, model rendered, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(v, opts)
	if err != nil {
		return err
	}
	m := maker{ctx: ctx, name: name, args: a, opts: inherited, protected: append(slices.Clone(inherited), pulumi.Protect(a.Protect))}
	vpc, err := ec2.NewVpc(ctx, name+"-vpc", &ec2.VpcArgs{
		CidrBlock: pulumi.String(a.Plan.VPC.String()),
		// Private names of endpoints need both.
		EnableDnsHostnames: pulumi.Bool(true),
		EnableDnsSupport:   pulumi.Bool(true),
		Tags:               pulumi.StringMap{"Name": pulumi.String(name)},
	}, m.protected...)
	if err != nil {
		return fmt.Errorf("vpc: %w", err)
	}
	v.VPCID = vpc.ID()
	for _, step := range []struct {
		what string
		run  func() error
	}{
		{"defaults", func() error { return m.defaults(vpc) }},
		{"subnets", func() error { return v.makeSubnets(m) }},
		{"routes", func() error { return v.makeRoutes(m) }},
		{"network ACLs", func() error { return v.makeACLs(m, model.entries) }},
		{"security groups", func() error { return v.makeGroups(m, model.rules) }},
		{"flow logs", func() error { return v.makeFlowLogs(m) }},
		{"endpoints", func() error { return v.makeEndpoints(m) }},
		{"DNS", func() error { return v.makeDNS(m) }},
	} {
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// defaults empties what AWS makes with a VPC, so that what nobody thought of has no way anywhere.
func (m maker) defaults(vpc *ec2.Vpc) error {
	tags := pulumi.StringMap{"Name": pulumi.String(m.name + "-default-unused")}
	if _, err := ec2.NewDefaultSecurityGroup(m.ctx, m.name+"-default-group", &ec2.DefaultSecurityGroupArgs{
		VpcId: vpc.ID(), Ingress: ec2.DefaultSecurityGroupIngressArray{}, Egress: ec2.DefaultSecurityGroupEgressArray{}, Tags: tags,
	}, m.opts...); err != nil {
		return err
	}
	// AWS puts a subnet here until it has an ACL of its own: which are here is not for the program to say.
	moving := append(slices.Clone(m.opts), pulumi.IgnoreChanges([]string{"subnetIds"}))
	if _, err := ec2.NewDefaultNetworkAcl(m.ctx, m.name+"-default-acl", &ec2.DefaultNetworkAclArgs{
		DefaultNetworkAclId: vpc.DefaultNetworkAclId, Ingress: ec2.DefaultNetworkAclIngressArray{}, Egress: ec2.DefaultNetworkAclEgressArray{}, Tags: tags,
	}, moving...); err != nil {
		return err
	}
	_, err := ec2.NewDefaultRouteTable(m.ctx, m.name+"-default-routes", &ec2.DefaultRouteTableArgs{
		DefaultRouteTableId: vpc.DefaultRouteTableId, Routes: ec2.DefaultRouteTableRouteArray{}, Tags: tags,
	}, m.opts...)
	return err
}
