package awsrules

import (
	"regexp"
	"strings"
)

// common are rules of every type.
var common = table{"AWS tagging", map[string][]check{"": {
	func(s *subject) {
		for _, n := range s.inputs.all("tags") {
			if n.kind != object {
				continue
			}
			if len(n.fields) > 50 {
				s.report(RuleCount, "tags", "has %d tags, may have 50", len(n.fields))
			}
			for key, v := range n.fields {
				if strings.HasPrefix(strings.ToLower(key), "aws:") || key == "" || len([]rune(key)) > 128 {
					s.report(RulePattern, "tags."+key, "is no key of a tag")
				}
				if v.kind == text && (len([]rune(v.text)) > 256 || !tagForm.MatchString(v.text)) {
					s.report(RulePattern, v.path, "%s is no value of a tag", v.show())
				}
			}
		}
	},
}}}

// tagForm is what all services allow; EC2 allows more.
var tagForm = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

// The destinations and targets of a route. Exactly one of each is given.
var (
	routeDestinations = []string{"destinationCidrBlock", "destinationIpv6CidrBlock", "destinationPrefixListId"}
	routeTargets      = []string{
		"carrierGatewayId", "coreNetworkArn", "egressOnlyGatewayId", "gatewayId", "localGatewayId", "natGatewayId", "networkInterfaceId",
		"transitGatewayId", "vpcEndpointId", "vpcPeeringConnectionId",
	}
	// defaultTargets are those in the rules of a default route table.
	defaultTargets = []string{
		"coreNetworkArn", "egressOnlyGatewayId", "gatewayId", "instanceId", "natGatewayId", "networkInterfaceId", "transitGatewayId", "vpcEndpointId", "vpcPeeringConnectionId",
	}
	inlineDestinations = []string{"cidrBlock", "ipv6CidrBlock", "destinationPrefixListId"}
)

// descriptionForm is that of security groups and their rules.
const descriptionForm = `[0-9A-Za-z_ .:/()#,@\[\]+=&;{}!$*\-]*`

var protocols = []string{"tcp", "udp", "icmp", "icmpv6", "-1", "6", "17", "1", "58"}

var securityGroupRule = []check{
	exactlyOne("", "cidrIpv4", "cidrIpv6", "prefixListId", "referencedSecurityGroupId"),
	cidr("cidrIpv4"), cidr("cidrIpv6"), cidr4("cidrIpv4", 0, 32),
	length("description", 1, 255), pattern("description", descriptionForm),
	between("fromPort", -1, 65535), between("toPort", -1, 65535),
	portRange("ipProtocol", "fromPort", "toPort"),
}

var inlineGroupRules = []check{
	cidr4("ingress.cidrBlocks", 0, 32), cidr4("egress.cidrBlocks", 0, 32), cidr("ingress.ipv6CidrBlocks"), cidr("egress.ipv6CidrBlocks"),
	length("ingress.description", 0, 255), pattern("ingress.description", descriptionForm),
	length("egress.description", 0, 255), pattern("egress.description", descriptionForm),
	func(s *subject) {
		for _, path := range []string{"ingress", "egress"} {
			for _, n := range s.inputs.each(path) {
				if n.kind == object && len(given(n, []string{"cidrBlocks", "ipv6CidrBlocks", "prefixListIds", "securityGroups", "self"})) == 0 {
					s.report(RuleRequired, n.path, "one of cidrBlocks, ipv6CidrBlocks, prefixListIds, securityGroups, self is required")
				}
				if n.kind == object && n.is("protocol", "-1") && (portOf(n, "fromPort") != 0 || portOf(n, "toPort") != 0) {
					s.report(RuleDepends, join(n.path, "fromPort"), "must be 0 with all protocols, as toPort")
				}
			}
		}
	},
}

func portOf(n *node, path string) float64 { v, _ := n.amount(path); return v }

// portRange: ports go with TCP and UDP, and the lower one comes first. All protocols have no ports.
func portRange(protocol, from, to string) check {
	return func(s *subject) {
		p, ok := s.inputs.known(protocol)
		if !ok {
			return
		}
		if p == "all" || p == "-1" {
			for _, field := range []string{from, to} {
				if s.inputs.set(field) {
					s.report(RuleDepends, field, "must not be given with all protocols")
				}
			}
			return
		}
		if !contains(protocols, p) && !protocolNumber.MatchString(p) {
			s.report(RuleEnum, protocol, "%q is no protocol", p)
		}
		if contains([]string{"tcp", "udp", "icmp", "6", "17", "1"}, p) {
			for _, field := range []string{from, to} {
				if !s.inputs.set(field) {
					s.report(RuleDepends, field, "is required with %s", p)
				}
			}
		}
		low, okLow := s.inputs.amount(from)
		high, okHigh := s.inputs.amount(to)
		if okLow && okHigh && low > high && p != "icmp" && p != "1" {
			s.report(RuleRange, from, "is %v, above %s %v", low, to, high)
		}
	}
}

var protocolNumber = regexp.MustCompile(`^([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])$`)

// inlineACL are the rules of a network ACL in the resource itself.
var inlineACL = []check{
	between("ingress.ruleNo", 1, 32766), between("egress.ruleNo", 1, 32766),
	enum("ingress.action", "allow", "deny"), enum("egress.action", "allow", "deny"),
	cidr4("ingress.cidrBlock", 0, 32), cidr4("egress.cidrBlock", 0, 32),
	func(s *subject) {
		for _, path := range []string{"ingress", "egress"} {
			seen := map[float64]bool{}
			for _, n := range s.inputs.each(path) {
				if n.kind != object {
					continue
				}
				if number, ok := n.amount("ruleNo"); ok && seen[number] {
					s.report(RuleExclusive, join(n.path, "ruleNo"), "%v is used twice", number)
				} else if ok {
					seen[number] = true
				}
				if len(given(n, []string{"cidrBlock", "ipv6CidrBlock"})) != 1 {
					s.report(RuleExclusive, n.path, "must have one of cidrBlock, ipv6CidrBlock")
				}
				if n.is("protocol", "-1") && (portOf(n, "fromPort") != 0 || portOf(n, "toPort") != 0) {
					s.report(RuleDepends, join(n.path, "fromPort"), "must be 0 with all protocols, as toPort")
				}
			}
			if entries := len(s.inputs.each(path)); entries > quotaACLRules {
				s.report(RuleQuota, path, "has %d entries, AWS allows %d unless asked for more, and never more than 40", entries, quotaACLRules)
			}
		}
	},
}

var tables = []table{network, compute, edge, data, security, storage, observation, dns, waf}

var network = table{"AWS VPC", map[string][]check{
	"aws:ec2/vpc:Vpc": {
		// Amazon VPC user guide, "VPC CIDR blocks".
		cidr4("cidrBlock", 16, 28),
		exactlyOne("", "cidrBlock", "ipv4IpamPoolId"),
		with("", "ipv4NetmaskLength", "ipv4IpamPoolId"),
		atMostOne("", "assignGeneratedIpv6CidrBlock", "ipv6IpamPoolId"),
		atMostOne("", "ipv6CidrBlock", "ipv6NetmaskLength"),
		enum("instanceTenancy", "default", "dedicated"),
		between("ipv4NetmaskLength", 0, 28),
	},
	"aws:ec2/subnet:Subnet": {
		cidr4("cidrBlock", 16, 28), cidr("ipv6CidrBlock"),
		atMostOne("", "availabilityZone", "availabilityZoneId"),
		pattern("availabilityZone", `[a-z]{2}(-[a-z]+)+-\d[a-z]`),
		enum("privateDnsHostnameTypeOnLaunch", "ip-name", "resource-name"),
		when("", "mapCustomerOwnedIpOnLaunch", true, "customerOwnedIpv4Pool", "outpostArn"),
		with("", "customerOwnedIpv4Pool", "outpostArn"),
		func(s *subject) {
			if !s.inputs.is("ipv6Native", true) && !s.inputs.set("cidrBlock") {
				s.report(RuleRequired, "cidrBlock", "is required of a subnet with IPv4")
			}
		},
	},
	"aws:ec2/route:Route": {
		exactlyOne("", routeDestinations...), exactlyOne("", routeTargets...),
		cidr4("destinationCidrBlock", 0, 32), cidr("destinationIpv6CidrBlock"),
		pattern("destinationPrefixListId", `pl-.+`),
	},
	"aws:ec2/routeTable:RouteTable": {
		exactlyOne("routes", inlineDestinations...), exactlyOne("routes", routeTargets...), cidr4("routes.cidrBlock", 0, 32),
	},
	"aws:ec2/defaultRouteTable:DefaultRouteTable": {
		exactlyOne("routes", inlineDestinations...), exactlyOne("routes", defaultTargets...), cidr4("routes.cidrBlock", 0, 32),
	},
	"aws:ec2/routeTableAssociation:RouteTableAssociation": {exactlyOne("", "subnetId", "gatewayId")},
	"aws:ec2/networkAcl:NetworkAcl":                       inlineACL,
	"aws:ec2/defaultNetworkAcl:DefaultNetworkAcl":         inlineACL,
	"aws:ec2/networkAclRule:NetworkAclRule": {
		between("ruleNumber", 1, 32766), enum("ruleAction", "allow", "deny"),
		exactlyOne("", "cidrBlock", "ipv6CidrBlock"), cidr4("cidrBlock", 0, 32), cidr("ipv6CidrBlock"),
		between("fromPort", 0, 65535), between("toPort", 0, 65535),
		func(s *subject) {
			p, ok := s.inputs.known("protocol")
			if !ok {
				return
			}
			switch {
			case contains([]string{"tcp", "udp", "6", "17"}, p):
				for _, field := range []string{"fromPort", "toPort"} {
					if !s.inputs.set(field) {
						s.report(RuleDepends, field, "is required with %s", p)
					}
				}
				if portOf(s.inputs, "fromPort") > portOf(s.inputs, "toPort") && !unknownPort(s.inputs) {
					s.report(RuleRange, "fromPort", "is above toPort")
				}
			case contains([]string{"icmp", "1", "icmpv6", "58"}, p):
				for _, field := range []string{"icmpType", "icmpCode"} {
					if !s.inputs.set(field) {
						s.report(RuleDepends, field, "is required with %s", p)
					}
				}
			case p != "-1" && p != "all" && !protocolNumber.MatchString(p):
				s.report(RuleEnum, "protocol", "%q is no protocol", p)
			}
		},
	},
	"aws:ec2/securityGroup:SecurityGroup": append([]check{
		length("description", 1, 255), pattern("description", descriptionForm),
		atMostOne("", "name", "namePrefix"), length("name", 1, 255), pattern("name", descriptionForm), never("name", `^sg-`, "must not begin with sg-"),
		never("name", `^default$`, "is the name of the group that every VPC has"),
	}, inlineGroupRules...),
	"aws:ec2/defaultSecurityGroup:DefaultSecurityGroup":         inlineGroupRules,
	"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": securityGroupRule,
	"aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule":   securityGroupRule,
	"aws:ec2/vpcEndpoint:VpcEndpoint": {
		exactlyOne("", "serviceName", "resourceConfigurationArn", "serviceNetworkArn"),
		policy("policy", 20480, resourcePolicy),
		pattern("serviceName", `(com\.amazonaws|aws\.api)\.[a-z0-9.-]+|com\.amazonaws\.vpce\..+|aws\.sagemaker\..+`),
		enum("dnsOptions.dnsRecordIpType", "ipv4", "dualstack", "service-defined", "ipv6"),
		func(s *subject) {
			kind := "Gateway"
			if v := s.inputs.get("vpcEndpointType"); v != nil {
				if v.kind != text {
					return
				}
				kind = v.text
			}
			wrong := map[string][]string{
				"Gateway":             {"subnetIds", "securityGroupIds", "privateDnsEnabled", "dnsOptions", "subnetConfigurations", "ipAddressType"},
				"Interface":           {"routeTableIds"},
				"GatewayLoadBalancer": {"routeTableIds", "securityGroupIds", "policy"},
			}[kind]
			for _, field := range wrong {
				if s.inputs.set(field) && !s.inputs.is(field, false) {
					s.report(RuleDepends, field, "is not for an endpoint of type %s", kind)
				}
			}
			if s.inputs.set("dnsOptions.privateDnsOnlyForInboundResolverEndpoint") && !s.inputs.is("privateDnsEnabled", true) {
				s.report(RuleDepends, "dnsOptions.privateDnsOnlyForInboundResolverEndpoint", "needs privateDnsEnabled")
			}
			// Amazon VPC and DynamoDB guides: DynamoDB has private DNS for its interface endpoints only in some regions; S3's needs the option above.
			service, _ := s.inputs.known("serviceName")
			if kind == "Interface" && strings.HasSuffix(service, ".s3") && s.inputs.is("privateDnsEnabled", true) &&
				!s.inputs.set("dnsOptions.privateDnsOnlyForInboundResolverEndpoint") {
				s.report(RuleDepends, "dnsOptions", "is required for S3's private DNS: AWS' default asks for a gateway endpoint in the same VPC")
			}
		},
	},
	"aws:ec2/flowLog:FlowLog": {
		exactlyOne("", "eniId", "subnetId", "transitGatewayAttachmentId", "transitGatewayId", "vpcId"),
		exactlyOne("", "logDestination", "logGroupName"), arn("logDestination", "logs", "s3", "firehose"), arn("iamRoleArn", "iam"),
		enum("trafficType", "ACCEPT", "REJECT", "ALL"), enum("logDestinationType", "cloud-watch-logs", "s3", "kinesis-data-firehose"),
		among("maxAggregationInterval", 60, 600),
		func(s *subject) {
			kind, known := s.inputs.known("logDestinationType")
			if !s.inputs.set("logDestinationType") {
				kind, known = "cloud-watch-logs", true
			}
			if !known {
				return
			}
			if kind == "cloud-watch-logs" && !s.inputs.set("iamRoleArn") {
				s.report(RuleDepends, "iamRoleArn", "is required for CloudWatch")
			}
			if kind == "s3" && s.inputs.set("iamRoleArn") {
				s.report(RuleDepends, "iamRoleArn", "is not for S3")
			}
			if !s.inputs.set("trafficType") && (s.inputs.set("vpcId") || s.inputs.set("subnetId") || s.inputs.set("eniId")) {
				s.report(RuleDepends, "trafficType", "is required of a VPC, a subnet or an interface")
			}
			if d, ok := s.inputs.known("logDestination"); ok {
				for service, want := range map[string]string{":logs:": "cloud-watch-logs", ":s3:": "s3", ":firehose:": "kinesis-data-firehose"} {
					if strings.Contains(d, service) && kind != want {
						s.report(RuleDepends, "logDestination", "%q is not of the type %s", d, kind)
					}
				}
			}
		},
	},
	"aws:ec2/natGateway:NatGateway": {
		func(s *subject) {
			private := s.inputs.is("connectivityType", "private")
			if !private && !s.inputs.set("allocationId") {
				s.report(RuleDepends, "allocationId", "is required of a public gateway")
			}
			if private && s.inputs.set("allocationId") {
				s.report(RuleDepends, "allocationId", "is not for a private gateway")
			}
		},
		atMostOne("", "secondaryPrivateIpAddressCount", "secondaryPrivateIpAddresses"),
	},
	"aws:ec2/eip:Eip": {enum("domain", "vpc", "standard"), atMostOne("", "instance", "networkInterface")},

	"aws:networkfirewall/firewall:Firewall": {
		needs("subnetMappings"), arn("firewallPolicyArn", "network-firewall"),
		enum("subnetMappings.ipAddressType", "DUALSTACK", "IPV4", "IPV6"),
		enum("encryptionConfiguration.type", "CUSTOMER_KMS", "AWS_OWNED_KMS_KEY"), when("encryptionConfiguration", "type", "CUSTOMER_KMS", "keyId"),
	},
	"aws:networkfirewall/firewallPolicy:FirewallPolicy": {
		needs("firewallPolicy.statelessDefaultActions", "firewallPolicy.statelessFragmentDefaultActions"),
		arn("firewallPolicy.statefulRuleGroupReferences.resourceArn", "network-firewall"), arn("firewallPolicy.statelessRuleGroupReferences.resourceArn", "network-firewall"),
		when("encryptionConfiguration", "type", "CUSTOMER_KMS", "keyId"),
		enum("firewallPolicy.statefulDefaultActions", "aws:drop_strict", "aws:drop_established", "aws:alert_strict", "aws:alert_established",
			"aws:drop_established_app_layer", "aws:alert_established_app_layer"),
		enum("firewallPolicy.policyVariables.ruleVariables.key", "HOME_NET"),
		cidr("firewallPolicy.policyVariables.ruleVariables.ipSet.definitions"),
		between("firewallPolicy.statefulRuleGroupReferences.priority", 1, 65535), between("firewallPolicy.statelessRuleGroupReferences.priority", 1, 65535),
		between("firewallPolicy.statefulEngineOptions.flowTimeouts.tcpIdleTimeoutSeconds", 60, 6000),
		func(s *subject) {
			strict := s.inputs.is("firewallPolicy.statefulEngineOptions.ruleOrder", "STRICT_ORDER")
			if s.inputs.set("firewallPolicy.statefulDefaultActions") && !strict {
				s.report(RuleDepends, "firewallPolicy.statefulDefaultActions", "is allowed only with STRICT_ORDER")
			}
			seen := map[float64]bool{}
			for _, n := range s.inputs.each("firewallPolicy.statefulRuleGroupReferences") {
				if strict != n.set("priority") {
					s.report(RuleDepends, join(n.path, "priority"), "is given exactly with STRICT_ORDER")
				}
				if p, ok := n.amount("priority"); ok && seen[p] {
					s.report(RuleExclusive, join(n.path, "priority"), "%v is used twice", p)
				} else if ok {
					seen[p] = true
				}
			}
			for _, path := range []string{"firewallPolicy.statelessDefaultActions", "firewallPolicy.statelessFragmentDefaultActions"} {
				standard := 0
				for _, n := range s.inputs.each(path) {
					if n.kind == unknown || n.kind == text && contains([]string{"aws:pass", "aws:drop", "aws:forward_to_sfe"}, n.text) {
						standard++
					}
				}
				if s.inputs.set(path) && standard != 1 {
					s.report(RuleRequired, path, "must have exactly one of aws:pass, aws:drop, aws:forward_to_sfe")
				}
			}
			var drops []string
			for _, n := range s.inputs.each("firewallPolicy.statefulDefaultActions") {
				if n.kind == text && strings.HasPrefix(n.text, "aws:drop") {
					drops = append(drops, n.text)
				}
			}
			if len(drops) > 1 {
				s.report(RuleExclusive, "firewallPolicy.statefulDefaultActions", "%s exclude each other", strings.Join(drops, ", "))
			}
		},
	},
	"aws:networkfirewall/ruleGroup:RuleGroup": {
		exactlyOne("", "rules", "ruleGroup"), between("capacity", 1, 30000),
		exactlyOne("ruleGroup.rulesSource", "rulesSourceList", "rulesString", "statefulRules", "statelessRulesAndCustomActions"),
		cidr("ruleGroup.ruleVariables.ipSets.ipSet.definitions"),
		pattern("ruleGroup.ruleVariables.ipSets.key", `[A-Za-z][A-Za-z0-9_]{0,31}`), pattern("ruleGroup.ruleVariables.portSets.key", `[A-Za-z][A-Za-z0-9_]{0,31}`),
		needs("ruleGroup.ruleVariables.ipSets.ipSet.definitions", "ruleGroup.ruleVariables.portSets.portSet.definitions"),
		when("encryptionConfiguration", "type", "CUSTOMER_KMS", "keyId"),
		func(s *subject) {
			stateless := s.inputs.set("ruleGroup.rulesSource.statelessRulesAndCustomActions")
			if kind, ok := s.inputs.known("type"); ok && s.inputs.set("ruleGroup") && (kind == "STATELESS") != stateless {
				s.report(RuleDepends, "type", "is %s, the rules are not", kind)
			}
			for _, path := range []string{"rules", "ruleGroup.rulesSource.rulesString"} {
				n := s.inputs.get(path)
				if n == nil || n.kind != text {
					continue
				}
				if len(n.text) > 2_000_000 {
					s.report(RuleLength, path, "has %d bytes, may have 2000000", len(n.text))
				}
				rules := suricataRules(n.text)
				if limit, ok := s.inputs.amount("capacity"); ok && float64(len(rules)) > limit {
					s.report(RuleDepends, "capacity", "is %v for %d rules", limit, len(rules))
				}
				seen := map[string]bool{}
				for _, rule := range rules {
					sid := sidOf.FindStringSubmatch(rule)
					if sid == nil {
						s.report(RulePattern, path, "the rule %.60q has no sid", rule)
						continue
					}
					if seen[sid[1]] {
						s.report(RuleExclusive, path, "two rules have the sid %s", sid[1])
					}
					seen[sid[1]] = true
				}
			}
		},
	},
	"aws:networkfirewall/loggingConfiguration:LoggingConfiguration": {
		needs("loggingConfiguration.logDestinationConfigs"), needs("loggingConfiguration.logDestinationConfigs.logDestination"),
		arn("firewallArn", "network-firewall"), count("loggingConfiguration.logDestinationConfigs", 1, 3),
		func(s *subject) {
			seen := map[string]bool{}
			for _, n := range s.inputs.each("loggingConfiguration.logDestinationConfigs") {
				want := map[string]string{"CloudWatchLogs": "logGroup", "S3": "bucketName", "KinesisDataFirehose": "deliveryStream"}
				if kind, ok := n.known("logDestinationType"); ok && n.set("logDestination") && !n.set("logDestination."+want[kind]) {
					s.report(RuleDepends, join(n.path, "logDestination"), "needs %s for %s", want[kind], kind)
				}
				if kind, ok := n.known("logType"); ok && seen[kind] {
					s.report(RuleExclusive, join(n.path, "logType"), "%s is logged twice", kind)
				} else if ok {
					seen[kind] = true
				}
			}
		},
	},
}}

func unknownPort(n *node) bool {
	for _, field := range []string{"fromPort", "toPort"} {
		if v := n.get(field); v == nil || v.kind != number {
			return true
		}
	}
	return false
}

var sidOf = regexp.MustCompile(`[;(]\s*sid\s*:\s*(\d+)\s*;`)

// suricataRules are the lines that are rules.
func suricataRules(source string) []string {
	var rules []string
	for line := range strings.Lines(source) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			rules = append(rules, line)
		}
	}
	return rules
}
