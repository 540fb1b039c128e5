// Package edge is the one way into the VPC from the internet: an Application Load Balancer behind a web application firewall.
//
// In: the public subnets and the balancer's security group, a certificate, and for each gateway its host name and the NodePort of its
// Service. Out: the balancer's DNS name, to which the host names' records point, its ARN and the web ACL's.
//
//	edge.New(ctx, "edge", &edge.Args{
//		VPCID: network.VPCID.ToStringOutput(), SubnetIDs: network.SubnetIDs(network.Public), SecurityGroupID: group,
//		CertificateARN: certificate, NodeGroupASG: cluster.ASG(zones.DMZ),
//		Hosts: []edge.Host{
//			{Name: "web-gateway", DNSName: "www.prod.company.com", NodePort: zones.NodePortWeb},
//			{Name: "api-gateway", DNSName: "api.prod.company.com", NodePort: zones.NodePortAPI},
//		},
//		LogKeyARN: keys.ARN(keys.Logs), AccessLogBucket: archive.AccessLogBucket, RateLimit: 2000, Protect: true,
//	}, pulumi.Providers(aws))
//
// # What passes
//
// TLS 1.2 with forward secrecy and TLS 1.3 on port 443; there is no listener on port 80, not even one that redirects, because a client
// that sends a token in plaintext has lost it before it is redirected. A request for a host that is not listed, or for none, is answered
// 404 by the balancer. What is no well-formed HTTP is refused (desync mitigation "strictest"), malformed headers are dropped, and no
// request passes while the web ACL does not answer.
//
// # From the balancer to the gateways
//
// TLS again, to a NodePort on the nodes of the DMZ. All of them are registered, as their Auto Scaling group's, and the health check finds
// those that run a gateway: the Service's external traffic policy is Local, so that other nodes do not answer. The balancer does not
// verify the gateways' certificates (no Application Load Balancer does); that it reaches the right ones is up to the security groups.
//
// Gateways see the balancer's addresses in the place of their clients'. The client's is the last one in X-Forwarded-For, where the
// balancer has put it behind whatever the client sent. A gateway takes it from there when the public subnets are its TrustedProxies, and
// otherwise holds the balancer for one client, whose requests it bounds.
//
// # When a gateway leaves
//
// The balancer notices within UnhealthyAfter. For GatewayDrain, which is longer, a gateway that is told to stop has to go on
// answering, and its health path has to say no (gateway.Args: DrainDelay, HealthPath).
package edge

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/autoscaling"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/lb"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/naming"
	"ephemos.dev/deploy/components/network/edge/waf"
)

const (
	port = 443
	// tlsPolicy allows TLS 1.3, and of TLS 1.2 what authenticates what it encrypts and has forward secrecy (docs.aws.amazon.com/
	// elasticloadbalancing/latest/application/describe-ssl-policies.html).
	tlsPolicy = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"

	// nameLimit is AWS' for balancers and target groups.
	nameLimit = 32
	// hostLimit is AWS' for the pattern of a rule.
	hostLimit = 128
	// minSubnets is AWS', for an Application Load Balancer.
	minSubnets = 2
	// maxHosts is AWS' number of rules of a listener, without the default one, unless the quota is raised.
	maxHosts = 100

	// idleTimeout, in seconds, is shorter than the gateways' (IDLE_TIMEOUT, 60s). Otherwise a gateway could close a connection in the
	// moment in which the balancer sends a request on it, which would be answered 502.
	idleTimeout = 50
	// drainTimeout, in seconds, is how long requests in progress may take when a node leaves: the gateways' longest, 28s.
	drainTimeout = 30

	checkInterval, checkTimeout, checkFailures, checkSuccesses = 5, 4, 2, 2

	firstNodePort, lastNodePort = 30000, 32767
)

// UnhealthyAfter is how long the balancer takes at most to notice that a gateway is away or leaving.
const UnhealthyAfter = (checkInterval*checkFailures + checkTimeout) * time.Second

// GatewayDrain is how long a gateway has to go on answering when it is told to stop: UnhealthyAfter, and time for what the balancer has
// sent by then to arrive.
const GatewayDrain = UnhealthyAfter + 6*time.Second

// DefaultHealthPath is where gateways are asked for their health if a Host does not say otherwise.
const DefaultHealthPath = "/healthz"

// Host is one of the hosts that are served.
type Host struct {
	// Name is the gateway's, and tells the resources of hosts apart: lower-case letters, digits and hyphens. Required.
	Name string
	// DNSName is the host as clients name it, without wildcards, in lower case. Required.
	DNSName string
	// NodePort is the port on the nodes at which the gateway's Service is reached. Required.
	NodePort int
	// HealthPath is a path at which the gateway answers 200 over TLS while it may be sent requests. Default DefaultHealthPath.
	HealthPath string
}

// Args are the arguments of New.
type Args struct {
	// Name is the balancer's name, and what the names of target groups, web ACL and log group begin with. What is longer than AWS
	// allows is cut and given a hash. Letters, digits and hyphens. Default the stack's and the component's name.
	Name string
	// VPCID is the VPC. Required.
	VPCID pulumi.StringInput
	// SubnetIDs are the public subnets, one in each availability zone. Required.
	SubnetIDs pulumi.StringArrayInput
	// SecurityGroupID is the balancer's security group: port 443 from clients, the NodePorts to the nodes. Required.
	SecurityGroupID pulumi.StringInput
	// CertificateARN is the ACM certificate, of all Hosts. Required.
	CertificateARN pulumi.StringInput
	// Hosts are the hosts that are served. Required: from 1 to 100.
	Hosts []Host
	// NodeGroupASG is the name of the Auto Scaling group of the nodes on which gateways run. Required.
	NodeGroupASG pulumi.StringInput
	// LogKeyARN is the KMS key of the web ACL's log group. Required.
	LogKeyARN pulumi.StringInput
	// LogRetentionDays is how long that log is kept. Default waf.Args'.
	LogRetentionDays int
	// AccessLogBucket is the name of a bucket for the balancer's access and connection logs. It has to be in the same region and
	// encrypted with S3's own keys (SSE-S3), for the balancer cannot write with a KMS key, and its policy, which has to be there first,
	// has to let the service write below <AccessLogPrefix>/AWSLogs/<account>/. Default none: there are no access logs.
	AccessLogBucket pulumi.StringInput
	// AccessLogPrefix is what the logs' keys begin with, without slashes at its ends. Default none: they begin with AWSLogs.
	AccessLogPrefix string
	// RateLimit is how many requests one client's address may send in five minutes. Default waf.Args'.
	RateLimit int
	// Counted are rules of the web ACL that only count. Default waf.DefaultCounted.
	Counted map[string][]string
	// Protect keeps AWS from deleting the balancer, and Pulumi from deleting it or the log group.
	Protect bool
}

// Edge is the balancer and what belongs to it.
type Edge struct {
	pulumi.ResourceState

	// DNSName is the balancer's. It is known when the listener is there, and with it the web ACL.
	DNSName pulumi.StringOutput `pulumi:"dnsName"`
	// ZoneID is the hosted zone of DNSName, for alias records.
	ZoneID pulumi.StringOutput `pulumi:"zoneID"`
	// LoadBalancerARN is the balancer's ARN.
	LoadBalancerARN pulumi.StringOutput `pulumi:"loadBalancerARN"`
	// WebACLARN is the ARN of the web ACL, known when the balancer is behind it.
	WebACLARN pulumi.StringOutput `pulumi:"webACLARN"`
}

// WithDefaults returns the arguments with every field that is not set filled with its default, except for Name, whose default the
// arguments do not know.
func (a Args) WithDefaults() Args {
	hosts := slices.Clone(a.Hosts)
	for i := range hosts {
		hosts[i].HealthPath = cmp.Or(hosts[i].HealthPath, DefaultHealthPath)
	}
	a.Hosts = hosts
	w := a.waf(nil).WithDefaults()
	a.RateLimit, a.LogRetentionDays, a.Counted = w.RateLimit, w.LogRetentionDays, w.Counted
	return a
}

// waf returns the arguments of the web ACL.
func (a Args) waf(balancer pulumi.StringInput) waf.Args {
	return waf.Args{
		Name: naming.Truncate(a.Name, 64), LoadBalancerARN: balancer, RateLimit: a.RateLimit, Counted: a.Counted,
		LogKeyARN: a.LogKeyARN, LogRetentionDays: a.LogRetentionDays, Protect: a.Protect,
	}
}

var (
	balancerName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$`)
	hostName     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	dnsName      = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$`)
	healthPath   = regexp.MustCompile(`^/[-._~/A-Za-z0-9]*$`)
	logPrefix    = regexp.MustCompile(`^([-_.A-Za-z0-9]+(/[-_.A-Za-z0-9]+)*)?$`)
)

func (a Args) validate() error {
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, fmt.Sprint(value), allowed))
	}
	// AWS keeps the beginning for the names of balancers inside of a VPC.
	if !balancerName.MatchString(a.Name) || strings.HasPrefix(a.Name, "internal-") {
		fail("name", a.Name, `of letters, digits and hyphens, with a letter or digit at both ends, and not begin with "internal-"`)
	}
	for _, required := range []struct {
		key string
		set bool
	}{
		{"vpcID", a.VPCID != nil}, {"subnetIDs", a.SubnetIDs != nil}, {"securityGroupID", a.SecurityGroupID != nil},
		{"certificateARN", a.CertificateARN != nil}, {"nodeGroupASG", a.NodeGroupASG != nil},
	} {
		if !required.set {
			fail(required.key, "", "set")
		}
	}
	// How many there are is known when they are a list, whatever its elements.
	if ids, ok := a.SubnetIDs.(pulumi.StringArray); ok && len(ids) < minSubnets {
		fail("subnetIDs", len(ids), fmt.Sprintf("at least %d subnets, in different availability zones", minSubnets))
	}
	if !logPrefix.MatchString(a.AccessLogPrefix) || strings.Contains(a.AccessLogPrefix, "AWSLogs") {
		fail("accessLogPrefix", a.AccessLogPrefix, "of letters, digits and -_./, without slashes at its ends and without AWSLogs")
	}
	if a.AccessLogPrefix != "" && a.AccessLogBucket == nil {
		fail("accessLogPrefix", a.AccessLogPrefix, "empty without an accessLogBucket")
	}
	errs = append(errs, a.validateHosts()...)
	// The name's problems are reported above.
	w := a.waf(pulumi.String(""))
	w.Name = "edge"
	return errors.Join(append(errs, w.Validate())...)
}

func (a Args) validateHosts() []error {
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, fmt.Sprint(value), allowed))
	}
	if len(a.Hosts) < 1 || len(a.Hosts) > maxHosts {
		fail("hosts", len(a.Hosts), fmt.Sprintf("from 1 to %d", maxHosts))
	}
	names, dnsNames, ports := map[string]bool{}, map[string]bool{}, map[int]bool{}
	for i, h := range a.Hosts {
		key := fmt.Sprintf("hosts[%d]", i)
		switch {
		case !hostName.MatchString(h.Name):
			fail(key+".name", h.Name, "a DNS label in lower case")
		case names[h.Name]:
			fail(key+".name", h.Name, "a name that no other host has")
		}
		switch {
		case len(h.DNSName) > hostLimit || !dnsName.MatchString(h.DNSName):
			fail(key+".dnsName", h.DNSName, fmt.Sprintf("a full DNS name in lower case, of at most %d characters, without wildcards", hostLimit))
		case dnsNames[h.DNSName]:
			fail(key+".dnsName", h.DNSName, "a name that no other host has")
		}
		switch {
		case h.NodePort < firstNodePort || h.NodePort > lastNodePort:
			fail(key+".nodePort", h.NodePort, fmt.Sprintf("from %d to %d", firstNodePort, lastNodePort))
		case ports[h.NodePort]:
			fail(key+".nodePort", h.NodePort, "a port that no other host has")
		}
		if !healthPath.MatchString(h.HealthPath) {
			fail(key+".healthPath", h.HealthPath, "an absolute path of characters that need no escape")
		}
		names[h.Name], dnsNames[h.DNSName], ports[h.NodePort] = true, true, true
	}
	return errs
}

// New makes the balancer.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Edge, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	a.Name = cmp.Or(a.Name, ctx.Stack()+"-"+name)
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("edge %s: %w", name, err)
	}
	self := &Edge{}
	hosts := pulumi.StringMap{}
	for _, h := range a.Hosts {
		hosts[h.DNSName] = pulumi.String(h.Name)
	}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "vpcID": a.VPCID, "subnetIDs": a.SubnetIDs, "certificateARN": a.CertificateARN, "hosts": hosts,
		"rateLimit": pulumi.Int(a.RateLimit), "protect": pulumi.Bool(a.Protect),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:edge:Edge", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("edge %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"dnsName": self.DNSName, "zoneID": self.ZoneID, "loadBalancerARN": self.LoadBalancerARN, "webACLARN": self.WebACLARN}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("edge %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (e *Edge) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(e, opts)
	if err != nil {
		return err
	}
	balancer, err := lb.NewLoadBalancer(ctx, name+"-alb", a.balancer(), slices.Concat(inherited, []pulumi.ResourceOption{pulumi.Protect(a.Protect)})...)
	if err != nil {
		return fmt.Errorf("load balancer: %w", err)
	}
	firewallArgs := a.waf(balancer.Arn)
	firewall, err := waf.New(ctx, name+"-waf", &firewallArgs, inherited...)
	if err != nil {
		return err
	}
	listener, err := lb.NewListener(ctx, name+"-https", &lb.ListenerArgs{
		LoadBalancerArn: balancer.Arn, Port: pulumi.Int(port), Protocol: pulumi.String("HTTPS"),
		SslPolicy: pulumi.String(tlsPolicy), CertificateArn: a.CertificateARN.ToStringOutput().ToStringPtrOutput(),
		DefaultActions: lb.ListenerDefaultActionArray{lb.ListenerDefaultActionArgs{
			Type: pulumi.String("fixed-response"),
			FixedResponse: lb.ListenerDefaultActionFixedResponseArgs{
				ContentType: pulumi.String("text/plain"), MessageBody: pulumi.String("not found\n"), StatusCode: pulumi.String("404"),
			},
		}},
		// Answers do not say what software made them.
		RoutingHttpResponseServerEnabled: pulumi.Bool(false),
		Tags:                             a.tags(a.Name + "-https"),
		// Without a listener the balancer serves nobody, so nobody is served before the web ACL is there.
	}, slices.Concat(inherited, []pulumi.ResourceOption{pulumi.DependsOn([]pulumi.Resource{firewall.Guard()})})...)
	if err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	for i, h := range a.Hosts {
		if err := a.serve(ctx, name+"-"+h.Name, h, i+1, listener, inherited); err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	e.LoadBalancerARN = balancer.Arn
	e.WebACLARN = firewall.ARN
	e.ZoneID = balancer.ZoneId
	e.DNSName = pulumi.All(balancer.DnsName, listener.Arn).ApplyT(func(v []any) string { return v[0].(string) }).(pulumi.StringOutput)
	return nil
}

func (a Args) tags(name string) pulumi.StringMap {
	return pulumi.StringMap{"Name": pulumi.String(name), "Zone": pulumi.String("dmz")}
}

func (a Args) balancer() *lb.LoadBalancerArgs {
	balancerName := naming.Truncate(a.Name, nameLimit)
	args := &lb.LoadBalancerArgs{
		Name:             pulumi.String(balancerName),
		LoadBalancerType: pulumi.String("application"),
		Internal:         pulumi.Bool(false),
		IpAddressType:    pulumi.String("ipv4"),
		Subnets:          a.SubnetIDs,
		SecurityGroups:   pulumi.StringArray{a.SecurityGroupID},

		DesyncMitigationMode:     pulumi.String("strictest"),
		DropInvalidHeaderFields:  pulumi.Bool(true),
		EnableHttp2:              pulumi.Bool(true),
		EnableWafFailOpen:        pulumi.Bool(false),
		XffHeaderProcessingMode:  pulumi.String("append"),
		IdleTimeout:              pulumi.Int(idleTimeout),
		EnableDeletionProtection: pulumi.Bool(a.Protect),
		Tags:                     a.tags(balancerName),
	}
	if a.AccessLogBucket != nil {
		var prefix pulumi.StringPtrInput
		if a.AccessLogPrefix != "" {
			prefix = pulumi.String(a.AccessLogPrefix)
		}
		args.AccessLogs = lb.LoadBalancerAccessLogsArgs{Bucket: a.AccessLogBucket, Enabled: pulumi.Bool(true), Prefix: prefix}
		// TLS version, cipher and who failed the handshake, which the access log does not have.
		args.ConnectionLogs = lb.LoadBalancerConnectionLogsArgs{Bucket: a.AccessLogBucket, Enabled: pulumi.Bool(true), Prefix: prefix}
	}
	return args
}

// serve makes what one host needs: the nodes as targets, and the rule that sends its requests there.
func (a Args) serve(ctx *pulumi.Context, name string, h Host, priority int, listener *lb.Listener, opts []pulumi.ResourceOption) error {
	// With the port, because a target group whose port changes is replaced, and the old one can go only when the listener's rule
	// refers to the new one: for a while there are both.
	groupName := naming.Truncate(fmt.Sprintf("%s-%s-%d", a.Name, h.Name, h.NodePort), nameLimit)
	group, err := lb.NewTargetGroup(ctx, name, &lb.TargetGroupArgs{
		Name: pulumi.String(groupName), VpcId: a.VPCID.ToStringOutput().ToStringPtrOutput(),
		TargetType: pulumi.String("instance"), Protocol: pulumi.String("HTTPS"), ProtocolVersion: pulumi.String("HTTP1"), Port: pulumi.Int(h.NodePort),
		DeregistrationDelay: pulumi.Int(drainTimeout),
		HealthCheck: lb.TargetGroupHealthCheckArgs{
			Enabled: pulumi.Bool(true), Protocol: pulumi.String("HTTPS"), Port: pulumi.String("traffic-port"), Path: pulumi.String(h.HealthPath),
			Matcher: pulumi.String("200"), Interval: pulumi.Int(checkInterval), Timeout: pulumi.Int(checkTimeout),
			UnhealthyThreshold: pulumi.Int(checkFailures), HealthyThreshold: pulumi.Int(checkSuccesses),
		},
		Tags: a.tags(groupName),
	}, opts...)
	if err != nil {
		return fmt.Errorf("target group: %w", err)
	}
	if _, err := autoscaling.NewAttachment(ctx, name+"-nodes", &autoscaling.AttachmentArgs{
		AutoscalingGroupName: a.NodeGroupASG, LbTargetGroupArn: group.Arn.ToStringPtrOutput(),
	}, opts...); err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	if _, err := lb.NewListenerRule(ctx, name+"-rule", &lb.ListenerRuleArgs{
		ListenerArn: listener.Arn, Priority: pulumi.Int(priority),
		Conditions: lb.ListenerRuleConditionArray{lb.ListenerRuleConditionArgs{
			HostHeader: lb.ListenerRuleConditionHostHeaderArgs{Values: pulumi.ToStringArray([]string{h.DNSName})},
		}},
		Actions: lb.ListenerRuleActionArray{lb.ListenerRuleActionArgs{Type: pulumi.String("forward"), TargetGroupArn: group.Arn.ToStringPtrOutput()}},
		Tags:    a.tags(name),
	}, opts...); err != nil {
		return fmt.Errorf("rule: %w", err)
	}
	return nil
}
