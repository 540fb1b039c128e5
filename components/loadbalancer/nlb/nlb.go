// Package nlb makes the two entries through which agents reach the SPIRE servers on AWS: a primary and a backup Network Load Balancer,
// both internal, under one name in a private hosted zone.
//
// In: the subnets of the management zone and the security group of the entries, the NodePorts at which the servers are reached on the
// zone's nodes (components/loadbalancer/nodeports), and the zone's name. Out: the address for the agents.
//
//	entry, err := nlb.New(ctx, "entry", &nlb.Args{
//		VPCID: network.VPCID.ToStringOutput(), SubnetIDs: network.SubnetIDs("management"), SecurityGroupID: group,
//		NodePorts: [2]int{zones.NodePortEntryPrimary, zones.NodePortEntryBackup}, NodeGroupASG: cluster.ASG(zones.Management),
//		ZoneName: "prod.internal", Protect: true,
//	}, pulumi.Providers(aws))
//
// # How agents survive the loss of an entry
//
// The name is a pair of failover records. While the primary has a healthy server behind it, the name resolves to the primary's three
// addresses, one in each availability zone; otherwise to the backup's. If neither has one, it is the primary's again. Both have the same
// servers behind them, but nothing else in common: balancer, listener, target group, NodePort and Service are their own, so that a change
// that breaks one leaves the other. Where servers run in Kubernetes alone (package loadbalancer) agents use both entries at all times;
// here the backup is idle, and what shows that it works is its target group's health, which AWS checks all the time.
//
// When the primary fails, Route 53 sees it within a minute or so, and an alias of a load balancer is cached for 60s. Until then agents
// use the identities they have: these live an hour and are renewed half an hour before they end. An agent resolves the name itself
// (gRPC's resolver dns:///, SPIRE pkg/agent/client/dial.go) whenever it has to connect anew. That is at least every three minutes: for
// this very purpose the servers ask agents to leave after that time (SPIRE pkg/server/endpoints, defaultMaxConnectionAge; gRPC varies it
// by a tenth). When the primary is healthy again, agents are back within minutes for the same reason.
//
// # Timeouts
//
// All follow from those three minutes. A balancer forgets a connection on which nothing was sent for idleTimeout, 350s, and ends it with
// the next packet; no connection gets that old. A node that leaves keeps its connections for drainTimeout, 240s, by which time the
// servers have ended all of them, and any that is left is ended then, rather than forgotten. When a target is found unhealthy, which
// takes checkInterval times two, its connections are ended at once: an agent that is told so connects anew, one that is not would wait for
// 30s, SPIRE's limit for a call.
//
// # TLS
//
// It is not ended here: the listeners are TCP, because the servers have to see the agents' certificates. What the servers would not see
// is the agents' addresses, and their limit of one attestation a second and address would then hold for all agents together. Therefore
// the balancers send a PROXY header (version 2) ahead of each connection, and the servers have to trust it from these subnets
// (config.Server, ProxyProtocolTrustedCIDRs). The other way to keep addresses, preserving the client's, is off: with it an agent could
// not reach a server on its own node.
//
// # Logs
//
// There are none to be had: Network Load Balancers log the connections of TLS listeners only. What connects is in the VPC's flow logs,
// and what it does in the servers' audit log.
package nlb

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/autoscaling"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/lb"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/route53"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/naming"
)

// The entries.
const (
	Primary = "primary"
	Backup  = "backup"
)

const (
	defaultRecord = "spire-server"
	defaultPort   = 8081

	// nameLimit is AWS' for balancers and target groups.
	nameLimit = 32
	// minSubnets is ours: AWS would take one, which could be lost.
	minSubnets = 2

	// In seconds; the package's comment says why.
	idleTimeout  = 350
	drainTimeout = 240

	checkInterval, checkTimeout, checkCount = 10, 5, 2

	firstNodePort, lastNodePort = 30000, 32767
)

// Args are the arguments of New.
type Args struct {
	// Name is what the names of balancers and target groups begin with. What is longer than AWS allows is cut and given a hash.
	// Letters, digits and hyphens. Default the stack's and the component's name.
	Name string
	// VPCID is the VPC; the hosted zone is seen from nowhere else. Required.
	VPCID pulumi.StringInput
	// SubnetIDs are the subnets of the balancers, one in each availability zone. Required.
	SubnetIDs pulumi.StringArrayInput
	// SecurityGroupID is the balancers' security group: Port from agents, NodePorts to the nodes. A balancer that is made without one
	// can never be given one. Required.
	SecurityGroupID pulumi.StringInput
	// NodePorts are the ports on the nodes at which the servers are reached from the primary and from the backup. Required.
	NodePorts [2]int
	// NodeGroupASG is the name of the Auto Scaling group of the nodes on which servers run. Required.
	NodeGroupASG pulumi.StringInput
	// ZoneName is the name of the private hosted zone, such as prod.internal. Required.
	ZoneName string
	// RecordName is the name of the entries in the zone. Default "spire-server".
	RecordName string
	// Port is where agents connect. Default 8081.
	Port int
	// Protect keeps AWS from deleting the balancers, and Pulumi from deleting them or the hosted zone.
	Protect bool
}

// NLB is the two entries.
type NLB struct {
	pulumi.ResourceState

	// Address is the DNS name for the agents. It is known when both entries are there.
	Address pulumi.StringOutput `pulumi:"address"`
	// ZoneID is the private hosted zone, for further records.
	ZoneID pulumi.StringOutput `pulumi:"zoneID"`
	// PrimaryARN and BackupARN are the balancers' ARNs.
	PrimaryARN pulumi.StringOutput `pulumi:"primaryARN"`
	BackupARN  pulumi.StringOutput `pulumi:"backupARN"`
}

// WithDefaults returns the arguments with every field that is not set filled with its default, except for Name, whose default the
// arguments do not know.
func (a Args) WithDefaults() Args {
	a.RecordName = cmp.Or(a.RecordName, defaultRecord)
	a.Port = cmp.Or(a.Port, defaultPort)
	return a
}

// Address returns the DNS name for the agents, which is NLB.Address as soon as the arguments are known. Configuration of agents is
// rendered from it.
func (a Args) Address() string {
	a = a.WithDefaults()
	return a.RecordName + "." + a.ZoneName
}

var (
	balancerName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$`)
	label        = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	dnsName      = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$`)
)

func (a Args) validate() error {
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, fmt.Sprint(value), allowed))
	}
	// AWS refuses names that begin with internal-.
	if !balancerName.MatchString(a.Name) || strings.HasPrefix(a.Name, "internal-") {
		fail("name", a.Name, `of letters, digits and hyphens, with a letter or digit at both ends, and not begin with "internal-"`)
	}
	for _, required := range []struct {
		key string
		set bool
	}{
		{"vpcID", a.VPCID != nil}, {"subnetIDs", a.SubnetIDs != nil}, {"securityGroupID", a.SecurityGroupID != nil},
		{"nodeGroupASG", a.NodeGroupASG != nil},
	} {
		if !required.set {
			fail(required.key, "", "set")
		}
	}
	// How many there are is known when they are a list, whatever its elements.
	if ids, ok := a.SubnetIDs.(pulumi.StringArray); ok && len(ids) < minSubnets {
		fail("subnetIDs", len(ids), fmt.Sprintf("at least %d subnets, in different availability zones", minSubnets))
	}
	for i, p := range a.NodePorts {
		if p < firstNodePort || p > lastNodePort {
			fail(fmt.Sprintf("nodePorts[%d]", i), p, fmt.Sprintf("from %d to %d", firstNodePort, lastNodePort))
		}
	}
	if a.NodePorts[0] == a.NodePorts[1] {
		fail("nodePorts[1]", a.NodePorts[1], "a port that the primary does not have: the entries share nothing but the servers")
	}
	if len(a.ZoneName) > 253 || !dnsName.MatchString(a.ZoneName) {
		fail("zoneName", a.ZoneName, "a DNS name of two labels or more in lower case, such as prod.internal")
	}
	if !label.MatchString(a.RecordName) {
		fail("recordName", a.RecordName, "a DNS label in lower case")
	}
	if a.Port < 1 || a.Port > 65535 {
		fail("port", a.Port, "from 1 to 65535")
	}
	return errors.Join(errs...)
}

// New makes the entries. The servers need not be there: an entry finds them when they are.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*NLB, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	a.Name = cmp.Or(a.Name, ctx.Stack()+"-"+name)
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("nlb %s: %w", name, err)
	}
	self := &NLB{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "vpcID": a.VPCID, "subnetIDs": a.SubnetIDs, "address": pulumi.String(a.Address()),
		"port": pulumi.Int(a.Port), "nodePorts": pulumi.ToIntArray(a.NodePorts[:]), "protect": pulumi.Bool(a.Protect),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:nlb:NLB", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("nlb %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"address": self.Address, "zoneID": self.ZoneID, "primaryARN": self.PrimaryARN, "backupARN": self.BackupARN}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("nlb %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (n *NLB) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(n, opts)
	if err != nil {
		return err
	}
	zone, err := route53.NewZone(ctx, name+"-zone", &route53.ZoneArgs{
		Name: pulumi.String(a.ZoneName), Comment: pulumi.String("Names inside of the VPC"),
		Vpcs: route53.ZoneVpcArray{route53.ZoneVpcArgs{VpcId: a.VPCID}},
		Tags: tags(a.ZoneName),
	}, slices.Concat(inherited, []pulumi.ResourceOption{pulumi.Protect(a.Protect)})...)
	if err != nil {
		return fmt.Errorf("hosted zone: %w", err)
	}
	var there pulumi.Array
	for i, entry := range []string{Primary, Backup} {
		balancer, record, err := a.entry(ctx, name, entry, a.NodePorts[i], zone, inherited)
		if err != nil {
			return fmt.Errorf("%s: %w", entry, err)
		}
		if entry == Primary {
			n.PrimaryARN = balancer.Arn
		} else {
			n.BackupARN = balancer.Arn
		}
		there = append(there, record.Fqdn)
	}
	address := a.Address()
	n.ZoneID = zone.ZoneId
	n.Address = there.ToArrayOutput().ApplyT(func([]any) string { return address }).(pulumi.StringOutput)
	return nil
}

func tags(name string) pulumi.StringMap {
	return pulumi.StringMap{"Name": pulumi.String(name), "Zone": pulumi.String("management")}
}

// entry makes one of the entries.
func (a Args) entry(ctx *pulumi.Context, name, entry string, nodePort int, zone *route53.Zone, opts []pulumi.ResourceOption) (*lb.LoadBalancer, *route53.Record, error) {
	name = name + "-" + entry
	balancerName := naming.Truncate(a.Name+"-"+entry, nameLimit)
	balancer, err := lb.NewLoadBalancer(ctx, name, &lb.LoadBalancerArgs{
		Name:             pulumi.String(balancerName),
		LoadBalancerType: pulumi.String("network"),
		Internal:         pulumi.Bool(true),
		IpAddressType:    pulumi.String("ipv4"),
		Subnets:          a.SubnetIDs,
		SecurityGroups:   pulumi.StringArray{a.SecurityGroupID},
		// Each of its addresses leads to the servers of all availability zones.
		EnableCrossZoneLoadBalancing: pulumi.Bool(true),
		EnableDeletionProtection:     pulumi.Bool(a.Protect),
		Tags:                         tags(balancerName),
	}, slices.Concat(opts, []pulumi.ResourceOption{pulumi.Protect(a.Protect)})...)
	if err != nil {
		return nil, nil, fmt.Errorf("load balancer: %w", err)
	}
	// With the port, because a target group whose port changes is replaced, and the old one can go only when the listener refers to the
	// new one: for a while there are both.
	groupName := naming.Truncate(fmt.Sprintf("%s-%s-%d", a.Name, entry, nodePort), nameLimit)
	group, err := lb.NewTargetGroup(ctx, name+"-servers", &lb.TargetGroupArgs{
		Name: pulumi.String(groupName), VpcId: a.VPCID.ToStringOutput().ToStringPtrOutput(),
		TargetType: pulumi.String("instance"), Protocol: pulumi.String("TCP"), Port: pulumi.Int(nodePort),
		ProxyProtocolV2: pulumi.Bool(true), PreserveClientIp: pulumi.String("false"),
		DeregistrationDelay: pulumi.Int(drainTimeout), ConnectionTermination: pulumi.Bool(true),
		TargetHealthStates: lb.TargetGroupTargetHealthStateArray{lb.TargetGroupTargetHealthStateArgs{
			EnableUnhealthyConnectionTermination: pulumi.Bool(true),
		}},
		// As far as TCP: it asks whether the node has a server that listens. A node without one does not answer.
		HealthCheck: lb.TargetGroupHealthCheckArgs{
			Enabled: pulumi.Bool(true), Protocol: pulumi.String("TCP"), Port: pulumi.String("traffic-port"),
			Interval: pulumi.Int(checkInterval), Timeout: pulumi.Int(checkTimeout),
			HealthyThreshold: pulumi.Int(checkCount), UnhealthyThreshold: pulumi.Int(checkCount),
		},
		Tags: tags(groupName),
	}, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("target group: %w", err)
	}
	if _, err := autoscaling.NewAttachment(ctx, name+"-nodes", &autoscaling.AttachmentArgs{
		AutoscalingGroupName: a.NodeGroupASG, LbTargetGroupArn: group.Arn.ToStringPtrOutput(),
	}, opts...); err != nil {
		return nil, nil, fmt.Errorf("nodes: %w", err)
	}
	listener, err := lb.NewListener(ctx, name+"-listener", &lb.ListenerArgs{
		LoadBalancerArn: balancer.Arn, Port: pulumi.Int(a.Port), Protocol: pulumi.String("TCP"), TcpIdleTimeoutSeconds: pulumi.Int(idleTimeout),
		DefaultActions: lb.ListenerDefaultActionArray{lb.ListenerDefaultActionArgs{
			Type: pulumi.String("forward"), TargetGroupArn: group.Arn.ToStringPtrOutput(),
		}},
		Tags: tags(balancerName),
	}, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("listener: %w", err)
	}
	policy := map[string]string{Primary: "PRIMARY", Backup: "SECONDARY"}[entry]
	record, err := route53.NewRecord(ctx, name+"-record", &route53.RecordArgs{
		ZoneId: zone.ZoneId, Name: pulumi.String(a.Address()), Type: pulumi.String("A"), SetIdentifier: pulumi.String(entry),
		FailoverRoutingPolicies: route53.RecordFailoverRoutingPolicyArray{route53.RecordFailoverRoutingPolicyArgs{Type: pulumi.String(policy)}},
		Aliases: route53.RecordAliasArray{route53.RecordAliasArgs{
			Name: balancer.DnsName, ZoneId: balancer.ZoneId, EvaluateTargetHealth: pulumi.Bool(true),
		}},
		// A name that resolves to a balancer that does not listen yet would be believed for a while.
	}, slices.Concat(opts, []pulumi.ResourceOption{pulumi.DependsOn([]pulumi.Resource{listener})})...)
	if err != nil {
		return nil, nil, fmt.Errorf("record: %w", err)
	}
	return balancer, record, nil
}
