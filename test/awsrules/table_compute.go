package awsrules

import (
	"encoding/base64"
	"strings"
)

var compute = table{"AWS EC2, EKS and Auto Scaling", map[string][]check{
	"aws:ec2/launchTemplate:LaunchTemplate": {
		atMostOne("", "name", "namePrefix"), length("name", 3, 128), pattern("name", `[a-zA-Z0-9().\-/_]+`),
		length("description", 0, 255), atMostOne("", "instanceType", "instanceRequirements"),
		atMostOne("", "securityGroupNames", "vpcSecurityGroupIds"), atMostOne("", "defaultVersion", "updateDefaultVersion"),
		enum("metadataOptions.httpTokens", "optional", "required"), enum("metadataOptions.httpEndpoint", "enabled", "disabled"),
		enum("metadataOptions.instanceMetadataTags", "enabled", "disabled"), enum("metadataOptions.httpProtocolIpv6", "enabled", "disabled"),
		between("metadataOptions.httpPutResponseHopLimit", 1, 64),
		enum("blockDeviceMappings.ebs.encrypted", "true", "false"), enum("blockDeviceMappings.ebs.deleteOnTermination", "true", "false"),
		enum("networkInterfaces.associatePublicIpAddress", "true", "false"), enum("networkInterfaces.deleteOnTermination", "true", "false"),
		enum("blockDeviceMappings.ebs.volumeType", "standard", "gp2", "gp3", "io1", "io2", "sc1", "st1"),
		between("blockDeviceMappings.ebs.volumeSize", 1, 65536), between("blockDeviceMappings.ebs.throughput", 125, 1000),
		arn("blockDeviceMappings.ebs.kmsKeyId", "kms"),
		atMostOne("iamInstanceProfile", "arn", "name"), arn("iamInstanceProfile.arn", "iam"),
		pattern("imageId", `ami-.+|resolve:ssm:.+`),
		func(s *subject) {
			for _, n := range s.inputs.each("blockDeviceMappings.ebs") {
				if n.set("kmsKeyId") && !n.is("encrypted", "true") && !n.is("encrypted", true) && n.get("encrypted") == nil {
					s.report(RuleDepends, join(n.path, "kmsKeyId"), "needs encrypted")
				}
				kind, known := n.known("volumeType")
				if n.set("throughput") && known && kind != "gp3" {
					s.report(RuleDepends, join(n.path, "throughput"), "is not for %s", kind)
				}
				if n.set("iops") && known && !contains([]string{"io1", "io2", "gp3"}, kind) {
					s.report(RuleDepends, join(n.path, "iops"), "is not for %s", kind)
				}
			}
			for _, n := range s.inputs.each("networkInterfaces") {
				if n.set("securityGroups") && s.inputs.set("vpcSecurityGroupIds") {
					s.report(RuleExclusive, "vpcSecurityGroupIds", "excludes the security groups of an interface")
				}
			}
			if data, ok := s.inputs.known("userData"); ok {
				decoded, err := base64.StdEncoding.DecodeString(data)
				if err != nil {
					s.report(RulePattern, "userData", "must be in base64: %v", err)
				} else if len(decoded) > 16384 {
					s.report(RuleLength, "userData", "has %d bytes, may have 16384", len(decoded))
				}
			}
			for _, n := range s.inputs.each("tagSpecifications") {
				if kind, ok := n.known("resourceType"); ok && !contains([]string{"instance", "volume", "network-interface", "spot-instances-request", "elastic-gpu"}, kind) {
					s.report(RuleEnum, join(n.path, "resourceType"), "%q cannot be tagged at a launch", kind)
				}
			}
		},
	},

	"aws:eks/cluster:Cluster": {
		pattern("name", `[0-9A-Za-z][A-Za-z0-9\-_]*`), length("name", 1, 100), arn("roleArn", "iam"),
		needs("vpcConfig.subnetIds"), count("vpcConfig.subnetIds", 2, 16), count("vpcConfig.securityGroupIds", 0, 4),
		cidr("vpcConfig.publicAccessCidrs"), count("vpcConfig.publicAccessCidrs", 0, 40),
		enum("enabledClusterLogTypes", "api", "audit", "authenticator", "controllerManager", "scheduler"),
		needs("encryptionConfig.resources"), enum("encryptionConfig.resources", "secrets"), arn("encryptionConfig.provider.keyArn", "kms"),
		cidr4("kubernetesNetworkConfig.serviceIpv4Cidr", 12, 24),
		pattern("version", `1\.\d+`), never("name", `^default$`, "is reserved"),
		func(s *subject) {
			n := s.inputs
			if n.is("vpcConfig.endpointPublicAccess", false) && !n.is("vpcConfig.endpointPrivateAccess", true) {
				s.report(RuleDepends, "vpcConfig.endpointPrivateAccess", "must be true without public access")
			}
			if n.is("vpcConfig.endpointPublicAccess", false) && n.set("vpcConfig.publicAccessCidrs") {
				s.report(RuleDepends, "vpcConfig.publicAccessCidrs", "needs public access")
			}
			for _, allowed := range n.each("vpcConfig.publicAccessCidrs") {
				if allowed.kind == text && privateRange(allowed.text) {
					s.report(RuleCIDR, allowed.path, "%s is no public range", allowed.show())
				}
			}
			auto := [3]bool{n.is("computeConfig.enabled", true), n.is("storageConfig.blockStorage.enabled", true), n.is("kubernetesNetworkConfig.elasticLoadBalancing.enabled", true)}
			if auto != [3]bool{} && auto != [3]bool{true, true, true} {
				s.report(RuleDepends, "computeConfig.enabled", "must be as storageConfig.blockStorage.enabled and kubernetesNetworkConfig.elasticLoadBalancing.enabled")
			}
			if service, ok := n.known("kubernetesNetworkConfig.serviceIpv4Cidr"); ok && !privateRange(service) {
				s.report(RuleCIDR, "kubernetesNetworkConfig.serviceIpv4Cidr", "%q is no private range", service)
			}
		},
	},
	"aws:eks/nodeGroup:NodeGroup": {
		needs("subnetIds"), arn("nodeRoleArn", "iam"), pattern("nodeGroupName", `[0-9A-Za-z][A-Za-z0-9\-_]*`), length("nodeGroupName", 1, 63),
		atMostOne("", "launchTemplate", "remoteAccess"), exactlyOne("launchTemplate", "id", "name"), atMostOne("", "nodeGroupName", "nodeGroupNamePrefix"),
		exactlyOne("updateConfig", "maxUnavailable", "maxUnavailablePercentage"),
		between("updateConfig.maxUnavailable", 1, 100), between("updateConfig.maxUnavailablePercentage", 1, 100),
		between("scalingConfig.maxSize", 1, 450), between("scalingConfig.minSize", 0, 450), between("scalingConfig.desiredSize", 0, 450),
		length("taints.key", 1, 63), length("taints.value", 0, 63), count("taints", 0, 50),
		func(s *subject) {
			n := s.inputs
			low, okLow := n.amount("scalingConfig.minSize")
			high, okHigh := n.amount("scalingConfig.maxSize")
			wanted, okWanted := n.amount("scalingConfig.desiredSize")
			if okLow && okHigh && low > high || okWanted && okHigh && wanted > high || okWanted && okLow && wanted < low {
				s.report(RuleRange, "scalingConfig", "is %v to %v with %v wanted", low, high, wanted)
			}
			// "Customize managed nodes with launch templates": what a launch template has may not be given here.
			if n.set("launchTemplate") && n.set("diskSize") {
				s.report(RuleExclusive, "diskSize", "excludes launchTemplate")
			}
			for _, labels := range n.all("labels") {
				for key, v := range labels.fields {
					if !labelKey(key) || v.kind == text && (len(v.text) > 63 || !labelForm.MatchString(v.text)) {
						s.report(RulePattern, v.path, "%q: %s is no label of Kubernetes", key, v.show())
					}
					if strings.Contains(key, "kubernetes.io/") || strings.Contains(key, "k8s.io/") || strings.Contains(key, "eks.amazonaws.com/") {
						s.report(RulePattern, v.path, "%q has a prefix that EKS keeps for itself", key)
					}
				}
			}
		},
	},
	"aws:eks/addon:Addon": {
		pattern("addonVersion", `v\d+\.\d+\.\d+-eksbuild\.\d+`), enum("resolveConflictsOnCreate", "NONE", "OVERWRITE"),
		enum("resolveConflictsOnUpdate", "NONE", "OVERWRITE", "PRESERVE"), enum("resolveConflicts", "NONE", "OVERWRITE", "PRESERVE"),
		arn("serviceAccountRoleArn", "iam"), arn("podIdentityAssociations.roleArn", "iam"), jsonText("configurationValues"),
		atMostOne("", "resolveConflicts", "resolveConflictsOnCreate"), atMostOne("", "resolveConflicts", "resolveConflictsOnUpdate"),
	},
	"aws:eks/accessEntry:AccessEntry": {
		arn("principalArn", "iam"), enum("type", "STANDARD", "FARGATE_LINUX", "EC2_LINUX", "EC2_WINDOWS", "EC2", "HYBRID_LINUX", "HYPERPOD_LINUX"),
		never("kubernetesGroups", `^(system:|amazon|aws|iam)`, "begins with what EKS keeps for itself"),
		never("userName", `^(system:|amazon|aws|iam)`, "begins with what EKS keeps for itself"),
		func(s *subject) {
			if kind, ok := s.inputs.known("type"); ok && kind != "STANDARD" {
				for _, field := range []string{"kubernetesGroups", "userName"} {
					if s.inputs.set(field) {
						s.report(RuleDepends, field, "is only for entries of type STANDARD")
					}
				}
			}
		},
	},
	"aws:eks/accessPolicyAssociation:AccessPolicyAssociation": {
		arn("principalArn", "iam"), arn("policyArn", "eks"), pattern("policyArn", `arn:aws[a-z-]*:eks::aws:cluster-access-policy/[A-Za-z0-9]+`),
		enum("accessScope.type", "namespace", "cluster"), when("accessScope", "type", "namespace", "namespaces"), only("accessScope", "type", []string{"namespace"}, "namespaces"),
	},
	"aws:eks/podIdentityAssociation:PodIdentityAssociation": {
		arn("roleArn", "iam"), pattern("namespace", `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`), pattern("serviceAccount", `[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?`),
	},
	"aws:autoscaling/attachment:Attachment": {exactlyOne("", "elb", "lbTargetGroupArn"), arn("lbTargetGroupArn", "elasticloadbalancing")},

	"aws:iam/role:Role": {
		atMostOne("", "name", "namePrefix"), length("name", 1, 64), pattern("name", `[\w+=,.@-]+`), needs("assumeRolePolicy"),
		// IAM quotas: 2048 by default, 4096 on request.
		policy("assumeRolePolicy", 2048, trustPolicy), between("maxSessionDuration", 3600, 43200),
		policy("inlinePolicies.policy", 10240, identityPolicy), arn("managedPolicyArns", "iam"), arn("permissionsBoundary", "iam"), count("managedPolicyArns", 0, 10),
		pattern("path", `/|/[\x21-\x7e]+/`), length("description", 0, 1000),
		pattern("description", `[\t\n\r\x20-\x7e\x{00A1}-\x{00FF}]*`),
	},
	"aws:iam/policy:Policy": {
		atMostOne("", "name", "namePrefix"), length("name", 1, 128), pattern("name", `[\w+=,.@-]+`), policy("policy", 6144, identityPolicy),
		pattern("path", `/|/[\x21-\x7e]+/`), length("description", 0, 1000),
	},
	"aws:iam/rolePolicy:RolePolicy":                     {atMostOne("", "name", "namePrefix"), length("name", 1, 128), pattern("name", `[\w+=,.@-]+`), policy("policy", 10240, identityPolicy)},
	"aws:iam/rolePolicyAttachment:RolePolicyAttachment": {arn("policyArn", "iam"), length("role", 1, 64), pattern("role", `[\w+=,.@-]+`)},
	"aws:iam/instanceProfile:InstanceProfile":           {atMostOne("", "name", "namePrefix"), length("name", 1, 128), pattern("name", `[\w+=,.@-]+`), pattern("path", `/|/[\x21-\x7e]+/`)},
	"aws:iam/serviceLinkedRole:ServiceLinkedRole":       {pattern("awsServiceName", `[a-z0-9.-]+\.amazonaws\.com(\.cn)?`)},
}}
