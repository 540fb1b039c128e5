package awsrules

import (
	"regexp"
	"strconv"
)

// balancerName is that of load balancers and target groups.
var balancerName = []check{
	atMostOne("", "name", "namePrefix"), length("name", 1, 32), pattern("name", `[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?`), length("namePrefix", 1, 6),
}

// actions are those of a listener or a rule of one.
func actions(path string) []check {
	return []check{
		needs(path), enum(path+".type", "forward", "redirect", "fixed-response", "authenticate-cognito", "authenticate-oidc"),
		between(path+".order", 1, 50000), arn(path+".targetGroupArn", "elasticloadbalancing"), arn(path+".forward.targetGroups.arn", "elasticloadbalancing"),
		when(path, "type", "redirect", "redirect"), when(path, "type", "fixed-response", "fixedResponse"),
		when(path, "type", "authenticate-oidc", "authenticateOidc"), when(path, "type", "authenticate-cognito", "authenticateCognito"),
		only(path, "type", []string{"forward"}, "forward", "targetGroupArn"), only(path, "type", []string{"redirect"}, "redirect"),
		only(path, "type", []string{"fixed-response"}, "fixedResponse"), only(path, "type", []string{"authenticate-oidc"}, "authenticateOidc"),
		enum(path+".fixedResponse.contentType", "text/plain", "text/css", "text/html", "application/javascript", "application/json"),
		pattern(path+".fixedResponse.statusCode", `[245]\d\d`), length(path+".fixedResponse.messageBody", 0, 1024),
		enum(path+".redirect.statusCode", "HTTP_301", "HTTP_302"), enum(path+".redirect.protocol", "HTTP", "HTTPS", "#{protocol}"),
		needs(path + ".forward.targetGroups"), count(path+".forward.targetGroups", 1, 5), between(path+".forward.targetGroups.weight", 0, 999),
		between(path+".forward.stickiness.duration", 1, 604800),
		func(s *subject) {
			for _, n := range s.inputs.each(path) {
				if n.is("type", "forward") && len(given(n, []string{"targetGroupArn", "forward"})) == 0 {
					s.report(RuleRequired, n.path, "one of targetGroupArn, forward is required")
				}
				if r := n.get("redirect"); r != nil && len(given(r, []string{"host", "path", "port", "protocol", "query"})) == 0 {
					s.report(RuleDepends, r.path, "leads to where it comes from")
				}
			}
		},
	}
}

// tlsPolicies are those of listeners (Elastic Load Balancing guides, "Security policies").
var tlsPolicies = regexp.MustCompile(`^ELBSecurityPolicy-(2016-08|FS-2018-06|FS-1-1-2019-08|FS-1-2-2019-08|FS-1-2-Res-2019-08|FS-1-2-Res-2020-10|TLS-1-[012]-2017-01|TLS-1-2-Ext-2018-06|2015-05|TLS-1-0-2015-04|` +
	`TLS13-1-[0123]-2021-06|TLS13-1-2-(Res|Ext[12])-2021-06|TLS13-1-[0123](-(Res|Ext[012]))?(-FIPS-2023-04|-PQ-2025-09|-FIPS-PQ-2025-09)|TLS13-1-2-FIPS-2023-04)$`)

var edge = table{"AWS Elastic Load Balancing and ACM", map[string][]check{
	"aws:lb/loadBalancer:LoadBalancer": append([]check{
		never("name", `^internal-`, "must not begin with internal-"),
		exactlyOne("", "subnets", "subnetMappings"), enum("loadBalancerType", "application", "network", "gateway"),
		between("idleTimeout", 1, 4000), between("clientKeepAlive", 60, 604800),
		enum("desyncMitigationMode", "monitor", "defensive", "strictest"), enum("xffHeaderProcessingMode", "append", "preserve", "remove"),
		enum("dnsRecordClientRoutingPolicy", "any_availability_zone", "availability_zone_affinity", "partial_availability_zone_affinity"),
		enum("ipAddressType", "ipv4", "dualstack", "dualstack-without-public-ipv4"),
		enum("enforceSecurityGroupInboundRulesOnPrivateLinkTraffic", "on", "off"), count("securityGroups", 0, 5),
		func(s *subject) {
			n := s.inputs
			kind := "application"
			if v := n.get("loadBalancerType"); v != nil {
				if v.kind != text {
					return
				}
				kind = v.text
			}
			wrong := map[string][]string{
				"application": {"dnsRecordClientRoutingPolicy", "enforceSecurityGroupInboundRulesOnPrivateLinkTraffic"},
				"network": {"connectionLogs", "idleTimeout", "dropInvalidHeaderFields", "enableTlsVersionAndCipherSuiteHeaders", "enableXffClientPort", "preserveHostHeader",
					"xffHeaderProcessingMode", "desyncMitigationMode", "enableWafFailOpen", "clientKeepAlive", "ipamPools"},
				"gateway": {"connectionLogs", "idleTimeout", "securityGroups", "internal", "accessLogs"},
			}[kind]
			for _, field := range wrong {
				if n.set(field) {
					s.report(RuleDepends, field, "is not for a balancer of type %s", kind)
				}
			}
			if kind == "application" {
				subnets := len(n.each("subnets")) + len(n.each("subnetMappings"))
				if v := n.get("subnets"); (v == nil || v.kind == list) && subnets == 1 {
					s.report(RuleCount, "subnets", "has 1 element, must have at least 2 in two zones")
				}
				if n.is("enableCrossZoneLoadBalancing", false) {
					s.report(RuleDepends, "enableCrossZoneLoadBalancing", "cannot be turned off for the type application")
				}
			}
			for _, m := range n.each("subnetMappings") {
				if m.set("allocationId") && (kind != "network" || n.is("internal", true)) {
					s.report(RuleDepends, join(m.path, "allocationId"), "is only for public balancers of type network")
				}
				if m.set("privateIpv4Address") && !n.is("internal", true) {
					s.report(RuleDepends, join(m.path, "privateIpv4Address"), "is only for internal balancers")
				}
			}
			if n.is("internal", true) && n.is("ipAddressType", "dualstack-without-public-ipv4") {
				s.report(RuleDepends, "ipAddressType", "is not for an internal balancer")
			}
		},
	}, balancerName...),
	"aws:lb/targetGroup:TargetGroup": append([]check{
		enum("targetType", "instance", "ip", "lambda", "alb"), enum("protocol", "GENEVE", "HTTP", "HTTPS", "TCP", "TCP_UDP", "TLS", "UDP", "QUIC", "TCP_QUIC"),
		between("port", 1, 65535), between("deregistrationDelay", 0, 3600), between("slowStart", 0, 900),
		between("healthCheck.interval", 5, 300), between("healthCheck.timeout", 2, 120), between("healthCheck.healthyThreshold", 2, 10), between("healthCheck.unhealthyThreshold", 2, 10),
		pattern("healthCheck.port", `traffic-port|[1-9]\d{0,4}`), enum("healthCheck.protocol", "TCP", "HTTP", "HTTPS"), length("healthCheck.path", 1, 1024), pattern("healthCheck.path", `/.*`),
		enum("loadBalancingAlgorithmType", "round_robin", "least_outstanding_requests", "weighted_random"), enum("loadBalancingAnomalyMitigation", "on", "off"),
		enum("loadBalancingCrossZoneEnabled", "true", "false", "use_load_balancer_configuration"), enum("preserveClientIp", "true", "false"),
		enum("stickiness.type", "lb_cookie", "app_cookie", "source_ip", "source_ip_dest_ip", "source_ip_dest_ip_proto"), between("stickiness.cookieDuration", 0, 604800),
		func(s *subject) {
			n := s.inputs
			if n.get("targetType") != nil && n.get("targetType").kind != text {
				return
			}
			lambda := n.is("targetType", "lambda")
			for _, field := range []string{"port", "protocol", "vpcId"} {
				if set := n.set(field); set == lambda {
					s.report(RuleDepends, field, "is required of every target but a function, and not for one")
				}
			}
			protocol, known := n.known("protocol")
			http := protocol == "HTTP" || protocol == "HTTPS"
			if known && !http {
				for _, field := range []string{"protocolVersion", "slowStart", "loadBalancingAlgorithmType", "loadBalancingAnomalyMitigation"} {
					if n.set(field) && !(field == "slowStart" && portOf(n, field) == 0) {
						s.report(RuleDepends, field, "is not for %s", protocol)
					}
				}
			}
			if known && http {
				for _, field := range []string{"connectionTermination", "proxyProtocolV2", "preserveClientIp", "targetHealthStates"} {
					if n.set(field) && !n.is(field, false) {
						s.report(RuleDepends, field, "is not for %s", protocol)
					}
				}
			}
			if n.is("preserveClientIp", "false") && (protocol == "UDP" || protocol == "TCP_UDP") {
				s.report(RuleDepends, "preserveClientIp", "cannot be turned off for %s", protocol)
			}
			h := n.get("healthCheck")
			if h == nil || h.kind != object {
				return
			}
			if interval, ok := h.amount("interval"); ok {
				if timeout, ok := h.amount("timeout"); ok && timeout >= interval {
					s.report(RuleRange, "healthCheck.timeout", "is %v, must be below the interval %v", timeout, interval)
				}
			}
			check, ok := h.known("protocol")
			if !ok && h.get("protocol") == nil {
				check, ok = "HTTP", true // the provider's default
			}
			if ok && check == "TCP" {
				for _, field := range []string{"path", "matcher"} {
					if h.set(field) {
						s.report(RuleDepends, "healthCheck."+field, "is not for a check by TCP")
					}
				}
				if known && http {
					s.report(RuleDepends, "healthCheck.protocol", "must be HTTP or HTTPS for %s", protocol)
				}
			}
			if v, ok := h.known("port"); ok && v != "traffic-port" {
				if port, err := strconv.Atoi(v); err != nil || port < 1 || port > 65535 {
					s.report(RuleRange, "healthCheck.port", "%q is no port", v)
				}
			}
			if n.is("targetType", "alb") && protocol != "TCP" && known {
				s.report(RuleDepends, "protocol", "must be TCP for a target that is a balancer")
			}
			if stick, ok := n.known("stickiness.type"); ok && known {
				if fits := map[string]bool{"lb_cookie": http, "app_cookie": http, "source_ip": protocol == "TCP" || protocol == "UDP" || protocol == "TCP_UDP"}; !fits[stick] && protocol != "GENEVE" {
					s.report(RuleDepends, "stickiness.type", "%s is not for %s", stick, protocol)
				}
				if stick == "app_cookie" && !n.set("stickiness.cookieName") {
					s.report(RuleDepends, "stickiness.cookieName", "is required of app_cookie")
				}
			}
		},
	}, balancerName...),
	"aws:lb/listener:Listener": append([]check{
		arn("loadBalancerArn", "elasticloadbalancing"), arn("certificateArn", "acm", "iam"), between("port", 1, 65535), between("tcpIdleTimeoutSeconds", 60, 6000),
		enum("protocol", "HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP", "GENEVE"), enum("alpnPolicy", "HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred", "None"),
		enum("mutualAuthentication.mode", "off", "verify", "passthrough"),
		when("mutualAuthentication", "mode", "verify", "trustStoreArn"), only("mutualAuthentication", "mode", []string{"verify"}, "trustStoreArn", "ignoreClientCertificateExpiry"),
		func(s *subject) {
			n := s.inputs
			protocol, known := n.known("protocol")
			if !known {
				return
			}
			tls := protocol == "HTTPS" || protocol == "TLS"
			if tls && !n.set("certificateArn") {
				s.report(RuleDepends, "certificateArn", "is required of %s", protocol)
			}
			if !tls {
				for _, field := range []string{"certificateArn", "sslPolicy", "alpnPolicy", "mutualAuthentication"} {
					if n.set(field) {
						s.report(RuleDepends, field, "is not for %s", protocol)
					}
				}
			}
			if protocol != "TCP" && n.set("tcpIdleTimeoutSeconds") {
				s.report(RuleDepends, "tcpIdleTimeoutSeconds", "is not for %s", protocol)
			}
			if n.set("alpnPolicy") && protocol == "HTTPS" {
				s.report(RuleDepends, "alpnPolicy", "is only for TLS")
			}
			if p, ok := n.known("sslPolicy"); ok && !tlsPolicies.MatchString(p) {
				s.report(RuleEnum, "sslPolicy", "%q is no policy of a listener", p)
			}
			if !n.set("port") {
				s.report(RuleDepends, "port", "is required of %s", protocol)
			}
			if protocol != "HTTP" && protocol != "HTTPS" {
				for name := range n.fields {
					if regexp.MustCompile(`^routingHttp`).MatchString(name) {
						s.report(RuleDepends, name, "is not for %s", protocol)
					}
				}
				for _, a := range n.each("defaultActions") {
					if kind, ok := a.known("type"); ok && kind != "forward" {
						s.report(RuleDepends, join(a.path, "type"), "%s is not for %s", kind, protocol)
					}
				}
			}
			if protocol == "HTTP" {
				for name := range n.fields {
					if regexp.MustCompile(`^routingHttpRequest`).MatchString(name) {
						s.report(RuleDepends, name, "is only for HTTPS")
					}
				}
			}
		},
		pattern("routingHttpResponseXContentTypeOptionsHeaderValue", "nosniff"), pattern("routingHttpResponseXFrameOptionsHeaderValue", `DENY|SAMEORIGIN|ALLOW-FROM .+`),
	}, actions("defaultActions")...),
	"aws:lb/listenerRule:ListenerRule": append([]check{
		arn("listenerArn", "elasticloadbalancing"), between("priority", 1, 50000), needs("conditions"),
		exactlyOne("conditions", "hostHeader", "httpHeader", "httpRequestMethod", "pathPattern", "queryStrings", "sourceIp"),
		length("conditions.hostHeader.values", 1, 128), length("conditions.pathPattern.values", 1, 128), pattern("conditions.hostHeader.values", `[A-Za-z0-9*?.:-]+`),
		length("conditions.httpHeader.values", 1, 128), length("conditions.httpHeader.httpHeaderName", 1, 40), pattern("conditions.httpRequestMethod.values", `[A-Z_-]{1,40}`),
		cidr("conditions.sourceIp.values"),
		needs("conditions.hostHeader.values", "conditions.pathPattern.values", "conditions.httpHeader.values", "conditions.httpRequestMethod.values", "conditions.sourceIp.values"),
		func(s *subject) {
			values := 0
			for _, path := range []string{"hostHeader.values", "httpHeader.values", "httpRequestMethod.values", "pathPattern.values", "sourceIp.values"} {
				values += len(s.inputs.each("conditions." + path))
			}
			if values += len(s.inputs.each("conditions.queryStrings")); values > 5 {
				s.report(RuleQuota, "conditions", "have %d values, a rule may have 5", values)
			}
		},
		func(s *subject) {
			for _, n := range s.inputs.each("actions") {
				if n.set("targetGroupArn") && n.set("forward") {
					s.report(RuleExclusive, n.path, "targetGroupArn, forward exclude each other")
				}
			}
		},
	}, actions("actions")...),

	"aws:acm/certificate:Certificate": {
		never("domainName", `\.$`, "must not end with a dot"), never("subjectAlternativeNames", `\.$`, "must not end with a dot"),
		pattern("domainName", `(\*\.)?([A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{2,63}`), pattern("subjectAlternativeNames", `(\*\.)?([A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{2,63}`),
		exactlyOne("", "domainName", "privateKey"), arn("certificateAuthorityArn", "acm-pca"), atMostOne("", "certificateAuthorityArn", "validationMethod"),
		with("", "privateKey", "certificateBody"), with("", "certificateBody", "privateKey"), with("", "certificateChain", "privateKey"),
		func(s *subject) {
			if s.inputs.set("domainName") && len(given(s.inputs, []string{"certificateAuthorityArn", "validationMethod"})) == 0 {
				s.report(RuleRequired, "validationMethod", "is required of a public certificate")
			}
		},
	},
	"aws:acm/certificateValidation:CertificateValidation": {arn("certificateArn", "acm")},
}}
