package awsrules

import (
	"fmt"
	"net/netip"
	"strings"

	"ephemos.dev/deploy/test/standin"
)

func newSubject(r Resource) *subject {
	s := &subject{Resource: r}
	s.inputs = &node{kind: object, fields: map[string]*node{}}
	for k, v := range r.Inputs {
		if n := newNode(v, string(k), false); n != nil && !strings.HasPrefix(string(k), "__") {
			s.inputs.fields[string(k)] = n
		}
	}
	id, outputs, err := standin.Answer(r.Type, r.Name, r.Inputs)
	if err != nil {
		return s // a type that no recording has; nothing refers to it
	}
	s.id = id
	if v, ok := outputs["arn"]; ok && v.IsString() {
		s.arn = v.StringValue()
	}
	return s
}

// Quotas of a new account (Amazon VPC guide, "Amazon VPC quotas"). They can be raised, except that no network ACL takes more than 40.
const (
	quotaACLRules   = 20
	quotaGroupRules = 60
	quotaRoutes     = 500
	quotaListeners  = 50
	quotaRules      = 100
)

// unique says which inputs, taken together, no two resources of a type may have in common, within one provider's region. Of an input
// with an exclamation mark, or the first one, it says nothing when it is absent; any other may be absent from both.
var unique = map[string][][]string{
	"aws:ec2/networkAclRule:NetworkAclRule":                           {{"networkAclId", "egress", "ruleNumber"}},
	"aws:ec2/networkAclAssociation:NetworkAclAssociation":             {{"subnetId"}},
	"aws:ec2/routeTableAssociation:RouteTableAssociation":             {{"subnetId"}, {"gatewayId"}},
	"aws:ec2/route:Route":                                             {{"routeTableId", "!destinationCidrBlock"}, {"routeTableId", "!destinationPrefixListId"}, {"routeTableId", "!destinationIpv6CidrBlock"}},
	"aws:ec2/internetGateway:InternetGateway":                         {{"vpcId"}},
	"aws:ec2/securityGroup:SecurityGroup":                             {{"vpcId", "!name"}},
	"aws:ec2/vpcEndpoint:VpcEndpoint":                                 {{"vpcId", "serviceName", "vpcEndpointType"}},
	"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule":       {groupRule},
	"aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule":         {groupRule},
	"aws:ec2/launchTemplate:LaunchTemplate":                           {{"name"}},
	"aws:eks/cluster:Cluster":                                         {{"name"}},
	"aws:eks/nodeGroup:NodeGroup":                                     {{"clusterName", "!nodeGroupName"}},
	"aws:eks/addon:Addon":                                             {{"clusterName", "addonName"}},
	"aws:eks/accessEntry:AccessEntry":                                 {{"clusterName", "principalArn"}},
	"aws:eks/accessPolicyAssociation:AccessPolicyAssociation":         {{"clusterName", "principalArn", "policyArn"}},
	"aws:eks/podIdentityAssociation:PodIdentityAssociation":           {{"clusterName", "namespace", "serviceAccount"}},
	"aws:iam/role:Role":                                               {{"name"}},
	"aws:iam/policy:Policy":                                           {{"name", "path"}},
	"aws:iam/rolePolicy:RolePolicy":                                   {{"role", "!name"}},
	"aws:iam/rolePolicyAttachment:RolePolicyAttachment":               {{"role", "policyArn"}},
	"aws:iam/instanceProfile:InstanceProfile":                         {{"name"}},
	"aws:autoscaling/attachment:Attachment":                           {{"autoscalingGroupName", "lbTargetGroupArn"}},
	"aws:kms/alias:Alias":                                             {{"name"}},
	"aws:lb/loadBalancer:LoadBalancer":                                {{"name"}},
	"aws:lb/targetGroup:TargetGroup":                                  {{"name"}},
	"aws:lb/listenerRule:ListenerRule":                                {{"listenerArn", "!priority"}},
	"aws:networkfirewall/firewall:Firewall":                           {{"name"}},
	"aws:networkfirewall/firewallPolicy:FirewallPolicy":               {{"name"}},
	"aws:networkfirewall/ruleGroup:RuleGroup":                         {{"name", "type"}},
	"aws:networkfirewall/loggingConfiguration:LoggingConfiguration":   {{"firewallArn"}},
	"aws:rds/cluster:Cluster":                                         {{"clusterIdentifier"}},
	"aws:rds/clusterInstance:ClusterInstance":                         {{"identifier"}},
	"aws:rds/subnetGroup:SubnetGroup":                                 {{"name"}},
	"aws:rds/clusterParameterGroup:ClusterParameterGroup":             {{"name"}},
	"aws:route53/record:Record":                                       {{"zoneId", "name", "type", "setIdentifier"}},
	"aws:cloudwatch/logGroup:LogGroup":                                {{"name"}},
	"aws:cloudwatch/logResourcePolicy:LogResourcePolicy":              {{"policyName"}},
	"aws:cloudwatch/metricAlarm:MetricAlarm":                          {{"name"}},
	"aws:cloudwatch/logMetricFilter:LogMetricFilter":                  {{"logGroupName", "!name"}},
	"aws:cloudwatch/eventRule:EventRule":                              {{"name", "eventBusName"}},
	"aws:cloudwatch/eventTarget:EventTarget":                          {{"rule", "!targetId", "eventBusName"}},
	"aws:cloudtrail/trail:Trail":                                      {{"name"}},
	"aws:sns/topic:Topic":                                             {{"name"}},
	"aws:sns/topicPolicy:TopicPolicy":                                 {{"arn"}},
	"aws:sns/topicSubscription:TopicSubscription":                     {{"topic", "protocol", "endpoint"}},
	"aws:guardduty/detector:Detector":                                 {{}},
	"aws:guardduty/detectorFeature:DetectorFeature":                   {{"detectorId", "name"}},
	"aws:securityhub/account:Account":                                 {{}},
	"aws:securityhub/standardsSubscription:StandardsSubscription":     {{"standardsArn"}},
	"aws:cfg/recorder:Recorder":                                       {{}},
	"aws:cfg/deliveryChannel:DeliveryChannel":                         {{}},
	"aws:backup/vault:Vault":                                          {{"name"}},
	"aws:backup/vaultPolicy:VaultPolicy":                              {{"backupVaultName"}},
	"aws:backup/vaultLockConfiguration:VaultLockConfiguration":        {{"backupVaultName"}},
	"aws:backup/restoreTestingPlan:RestoreTestingPlan":                {{"name"}},
	"aws:wafv2/webAcl:WebAcl":                                         {{"name", "scope"}},
	"aws:wafv2/webAclAssociation:WebAclAssociation":                   {{"resourceArn"}},
	"aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration": {{"resourceArn"}},
	"aws:s3/bucketV2:BucketV2":                                        {{"bucket"}},
	"aws:s3/bucketPolicy:BucketPolicy":                                {{"bucket"}},
	"aws:s3/bucketVersioningV2:BucketVersioningV2":                    {{"bucket"}},
	"aws:s3/bucketReplicationConfig:BucketReplicationConfig":          {{"bucket"}},
	"aws:s3/bucketLoggingV2:BucketLoggingV2":                          {{"bucket"}},
	"aws:s3/bucketOwnershipControls:BucketOwnershipControls":          {{"bucket"}},
	"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock":          {{"bucket"}},

	"aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2":                     {{"bucket"}},
	"aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2":                       {{"bucket"}},
	"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2": {{"bucket"}},
	"aws:acmpca/certificateAuthorityCertificate:CertificateAuthorityCertificate":                 {{"certificateAuthorityArn"}},
	"aws:route53/resolverFirewallRule:ResolverFirewallRule":                                      {{"firewallRuleGroupId", "priority"}},
	"aws:route53/resolverFirewallRuleGroupAssociation:ResolverFirewallRuleGroupAssociation":      {{"vpcId", "priority"}, {"vpcId", "firewallRuleGroupId"}},
	"aws:route53/resolverFirewallConfig:ResolverFirewallConfig":                                  {{"resourceId"}},
}

var groupRule = []string{"securityGroupId", "ipProtocol", "fromPort", "toPort", "cidrIpv4", "cidrIpv6", "prefixListId", "referencedSecurityGroupId"}

// global are the types whose names are the same in all regions.
var global = map[string]bool{
	"aws:iam/role:Role": true, "aws:iam/policy:Policy": true, "aws:iam/instanceProfile:InstanceProfile": true, "aws:s3/bucketV2:BucketV2": true, "aws:route53/record:Record": true,
	"aws:iam/rolePolicyAttachment:RolePolicyAttachment": true, "aws:iam/rolePolicy:RolePolicy": true,
}

// across finds what two resources do to each other.
func across(subjects []*subject) []Problem {
	var problems []Problem
	report := func(s *subject, rule Rule, path, format string, args ...any) {
		problems = append(problems, Problem{s.Type, s.Name, rule, path, fmt.Sprintf(format, args...), "AWS"})
	}
	seen := map[string]*subject{}
	for _, s := range subjects {
		for _, inputs := range unique[s.Type] {
			key, ok := identity(s, inputs)
			if !ok {
				continue
			}
			if other := seen[key]; other != nil {
				report(s, RuleAcross, strings.Join(inputs, ","), "is the same as that of %s", other.Name)
				continue
			}
			seen[key] = s
		}
	}
	addresses(subjects, report)
	listeners(subjects, report)
	for _, q := range []struct {
		typ    string
		inputs []string
		limit  int
	}{
		{"aws:ec2/networkAclRule:NetworkAclRule", []string{"networkAclId", "egress"}, quotaACLRules},
		{"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", []string{"securityGroupId"}, quotaGroupRules},
		{"aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule", []string{"securityGroupId"}, quotaGroupRules},
		{"aws:ec2/route:Route", []string{"routeTableId"}, quotaRoutes},
		{"aws:lb/listener:Listener", []string{"loadBalancerArn"}, quotaListeners},
		{"aws:lb/listenerRule:ListenerRule", []string{"listenerArn"}, quotaRules},
	} {
		counts, first := map[string]int{}, map[string]*subject{}
		for _, s := range subjects {
			if key, ok := identity(s, q.inputs); ok && s.Type == q.typ {
				counts[key]++
				if first[key] == nil {
					first[key] = s
				}
			}
		}
		for key, n := range counts {
			if n > q.limit {
				v, _ := first[key].inputs.known(q.inputs[0])
				report(first[key], RuleQuota, q.inputs[0], "%d such resources for %s, AWS allows %d unless asked for more", n, v, q.limit)
			}
		}
	}
	return problems
}

// identity is the inputs' values; ok is false if one of them is unknown or the first one is absent.
func identity(s *subject, inputs []string) (key string, ok bool) {
	key = s.Type
	if !global[s.Type] {
		key += "|" + s.Provider
	}
	for i, input := range inputs {
		input, must := strings.CutPrefix(input, "!")
		key += "|" + input
		n := s.inputs.get(input)
		switch {
		case n == nil && (must || i == 0):
			return "", false
		case n == nil:
			key += "|"
		case n.kind == text:
			key += "|" + n.text
		case n.kind == number:
			key += "|" + fmt.Sprint(n.number)
		case n.kind == flag && n.flag:
			key += "|true"
		case n.kind == flag:
			key += "|" // an absent one is false
		default:
			return "", false
		}
	}
	return key, true
}

// addresses: the subnets of a VPC are in its range and apart.
func addresses(subjects []*subject, report func(*subject, Rule, string, string, ...any)) {
	vpcs := map[string]netip.Prefix{}
	for _, s := range subjects {
		if cidr, ok := s.inputs.known("cidrBlock"); ok && s.Type == "aws:ec2/vpc:Vpc" && s.id != "" {
			if p, err := netip.ParsePrefix(cidr); err == nil {
				vpcs[s.id] = p
			}
		}
	}
	type subnet struct {
		s    *subject
		vpc  string
		cidr netip.Prefix
	}
	var subnets []subnet
	for _, s := range subjects {
		cidr, ok := s.inputs.known("cidrBlock")
		vpc, okVPC := s.inputs.known("vpcId")
		p, err := netip.ParsePrefix(cidr)
		if !ok || !okVPC || err != nil || s.Type != "aws:ec2/subnet:Subnet" {
			continue
		}
		if whole, ok := vpcs[vpc]; ok && (!whole.Contains(p.Addr()) || p.Bits() < whole.Bits()) {
			report(s, RuleAcross, "cidrBlock", "%s is not in the VPC's %s", p, whole)
		}
		for _, other := range subnets {
			if other.vpc == vpc && other.cidr.Overlaps(p) {
				report(s, RuleAcross, "cidrBlock", "%s overlaps %s of %s", p, other.cidr, other.s.Name)
			}
		}
		subnets = append(subnets, subnet{s, vpc, p})
	}
}

// listeners: a listener's protocol is one of its balancer's kind and of its target group, and no two share a port.
func listeners(subjects []*subject, report func(*subject, Rule, string, string, ...any)) {
	byARN := map[string]*subject{}
	for _, s := range subjects {
		if s.arn != "" {
			byARN[s.arn] = s
		}
	}
	ports := map[string]*subject{}
	for _, s := range subjects {
		if s.Type != "aws:lb/listener:Listener" && s.Type != "aws:lb/listenerRule:ListenerRule" {
			continue
		}
		listener := s
		if s.Type == "aws:lb/listenerRule:ListenerRule" {
			arn, _ := s.inputs.known("listenerArn")
			if listener = byARN[arn]; listener == nil {
				continue
			}
		} else if key, ok := identity(s, []string{"loadBalancerArn", "port"}); ok {
			if other := ports[key]; other != nil {
				report(s, RuleAcross, "port", "is the same as that of %s", other.Name)
			}
			ports[key] = s
		}
		protocol, ok := listener.inputs.known("protocol")
		if !ok && listener.inputs.get("protocol") != nil {
			continue
		}
		arn, _ := listener.inputs.known("loadBalancerArn")
		if balancer := byARN[arn]; balancer != nil && balancer.Type == "aws:lb/loadBalancer:LoadBalancer" {
			network := balancer.inputs.is("loadBalancerType", "network")
			if !ok {
				protocol = "HTTP"
				if network {
					report(listener, RuleRequired, "protocol", "is required for a balancer of type network")
					continue
				}
			}
			if http := protocol == "HTTP" || protocol == "HTTPS"; http == network {
				report(listener, RuleAcross, "protocol", "%s is not for the kind of balancer that %s is", protocol, balancer.Name)
			}
		}
		var targets []*node
		for _, path := range []string{"defaultActions.targetGroupArn", "defaultActions.forward.targetGroups.arn", "actions.targetGroupArn", "actions.forward.targetGroups.arn"} {
			targets = append(targets, s.inputs.each(path)...)
		}
		for _, n := range targets {
			group := byARN[n.text]
			if n.kind != text || group == nil {
				continue
			}
			to, ok := group.inputs.known("protocol")
			fits := map[string][]string{"HTTP": {"HTTP", "HTTPS"}, "HTTPS": {"HTTP", "HTTPS"}, "TCP": {"TCP", "TCP_UDP"}, "TLS": {"TCP", "TLS"}, "UDP": {"UDP", "TCP_UDP"}, "TCP_UDP": {"TCP_UDP"}}[protocol]
			if ok && fits != nil && !contains(fits, to) {
				report(s, RuleAcross, n.path, "the target group %s has the protocol %s, a listener with %s takes %v", group.Name, to, protocol, fits)
			}
		}
	}
}
