package awsrules

import (
	"net/netip"
	"strings"
)

var routingPolicies = []string{
	"cidrRoutingPolicy", "failoverRoutingPolicies", "geolocationRoutingPolicies", "geoproximityRoutingPolicy", "latencyRoutingPolicies", "multivalueAnswerRoutingPolicy", "weightedRoutingPolicies",
}

var dns = table{"AWS Route 53", map[string][]check{
	"aws:route53/zone:Zone": {
		atMostOne("", "delegationSetId", "vpcs"), length("comment", 0, 256), length("name", 1, 1024), pattern("name", `([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?`),
		pattern("vpcs.vpcRegion", `[a-z]{2}(-[a-z]+)+-\d`),
	},
	"aws:route53/record:Record": {
		exactlyOne("", "aliases", "records"), atMostOne("", "aliases", "ttl"), with("", "records", "ttl"), atMostOne("", routingPolicies...), between("ttl", 0, 2147483647),
		enum("failoverRoutingPolicies.type", "PRIMARY", "SECONDARY"), between("weightedRoutingPolicies.weight", 0, 255), length("setIdentifier", 1, 128), count("aliases", 0, 1),
		count("failoverRoutingPolicies", 0, 1),
		func(s *subject) {
			n := s.inputs
			routed := given(n, routingPolicies)
			if len(routed) > 0 && !n.set("setIdentifier") {
				s.report(RuleDepends, "setIdentifier", "is required with %s", routed[0])
			}
			if len(routed) == 0 && n.set("setIdentifier") {
				s.report(RuleDepends, "setIdentifier", "needs a routing policy")
			}
			if n.is("failoverRoutingPolicies.type", "PRIMARY") && !n.set("healthCheckId") && !n.is("aliases.evaluateTargetHealth", true) {
				s.report(RuleDepends, "healthCheckId", "is required of a primary record that does not evaluate its target's health")
			}
			kind, _ := n.known("type")
			if kind == "CNAME" && len(n.each("records")) > 1 {
				s.report(RuleCount, "records", "has %d elements, a CNAME has one", len(n.each("records")))
			}
			if n.set("aliases") && kind != "" && !contains([]string{"A", "AAAA", "CNAME", "CAA", "HTTPS", "MX", "NAPTR", "PTR", "SPF", "SRV", "SVCB", "TXT", "DS", "SSHFP", "TLSA"}, kind) {
				s.report(RuleDepends, "aliases", "is not for %s", kind)
			}
			for _, r := range n.each("records") {
				if r.kind != text {
					continue
				}
				address, err := netip.ParseAddr(r.text)
				if kind == "A" && (err != nil || !address.Is4()) || kind == "AAAA" && (err != nil || !address.Is6()) {
					s.report(RulePattern, r.path, "%s is no address for %s", r.show(), kind)
				}
			}
		},
	},
	"aws:route53/healthCheck:HealthCheck": {
		between("failureThreshold", 1, 10), among("requestInterval", 10, 30), between("port", 1, 65535), length("resourcePath", 0, 255), length("searchString", 1, 255), between("childHealthThreshold", 0, 256),
		enum("insufficientDataHealthStatus", "Healthy", "Unhealthy", "LastKnownStatus"), length("referenceName", 1, 27), pattern("resourcePath", `/?.*`), count("regions", 3, 64),
		func(s *subject) {
			n := s.inputs
			kind, ok := n.known("type")
			if !ok {
				return
			}
			endpoint := contains([]string{"HTTP", "HTTPS", "HTTP_STR_MATCH", "HTTPS_STR_MATCH", "TCP"}, kind)
			switch {
			case endpoint && len(given(n, []string{"fqdn", "ipAddress"})) == 0:
				s.report(RuleRequired, "fqdn", "is required of %s, or ipAddress", kind)
			case kind == "CLOUDWATCH_METRIC":
				for _, field := range []string{"cloudwatchAlarmName", "cloudwatchAlarmRegion"} {
					if !n.set(field) {
						s.report(RuleDepends, field, "is required of %s", kind)
					}
				}
			case kind == "CALCULATED" && !n.set("childHealthchecks"):
				s.report(RuleDepends, "childHealthchecks", "is required of %s", kind)
			}
			if strings.HasSuffix(kind, "_STR_MATCH") != n.set("searchString") {
				s.report(RuleDepends, "searchString", "is required of the types with _STR_MATCH and not for others")
			}
			if kind == "TCP" && !n.set("port") {
				s.report(RuleDepends, "port", "is required of TCP")
			}
			if !endpoint {
				for _, field := range []string{"fqdn", "ipAddress", "port", "resourcePath", "requestInterval", "failureThreshold", "measureLatency", "enableSni", "regions"} {
					if n.set(field) {
						s.report(RuleDepends, field, "is not for %s", kind)
					}
				}
			}
			if v, ok := n.known("ipAddress"); ok {
				if a, err := netip.ParseAddr(v); err != nil || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
					s.report(RuleCIDR, "ipAddress", "%q cannot be reached from Route 53", v)
				}
			}
		},
	},
	"aws:route53/resolverQueryLogConfig:ResolverQueryLogConfig": {arn("destinationArn", "logs", "s3", "firehose"), length("name", 1, 64), resolverName},
	"aws:route53/resolverFirewallRuleGroup:ResolverFirewallRuleGroup": {
		length("name", 1, 64), resolverName,
	},
	"aws:route53/resolverFirewallDomainList:ResolverFirewallDomainList": {
		length("name", 1, 64), resolverName, pattern("domains", `(\*\.?)?([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]*\.?`), length("domains", 1, 255),
	},
	"aws:route53/resolverFirewallRule:ResolverFirewallRule": {
		length("name", 1, 64), resolverName, enum("action", "ALLOW", "BLOCK", "ALERT"), enum("blockResponse", "NODATA", "NXDOMAIN", "OVERRIDE"), when("", "action", "BLOCK", "blockResponse"),
		only("", "action", []string{"BLOCK"}, "blockResponse"), when("", "blockResponse", "OVERRIDE", "blockOverrideDnsType", "blockOverrideDomain", "blockOverrideTtl"),
		only("", "blockResponse", []string{"OVERRIDE"}, "blockOverrideDnsType", "blockOverrideDomain", "blockOverrideTtl"), between("blockOverrideTtl", 0, 604800), enum("blockOverrideDnsType", "CNAME"),
		between("priority", 1, 9999),
	},
	"aws:route53/resolverFirewallRuleGroupAssociation:ResolverFirewallRuleGroupAssociation": {
		length("name", 1, 64), resolverName, between("priority", 101, 8999), enum("mutationProtection", "ENABLED", "DISABLED"),
	},
	"aws:route53/resolverFirewallConfig:ResolverFirewallConfig": {enum("firewallFailOpen", "ENABLED", "DISABLED", "USE_LOCAL_RESOURCE_SETTING")},
}}

// resolverName is that of what Route 53 Resolver keeps: not digits only.
var resolverName check = pattern("name", `[a-zA-Z0-9\-_' ]*[a-zA-Z\-_' ][a-zA-Z0-9\-_' ]*`)
