package deployer

import (
	"slices"
	"strings"
)

const (
	roleARN   = "arn:{partition}:iam::{account}:role/{name}"
	policyARN = "arn:{partition}:iam::{account}:policy/{name}"
)

// actions writes out "ec2:CreateVpc,DeleteVpc kms:DescribeKey".
func actions(text string) []string {
	var all []string
	for group := range strings.FieldsSeq(text) {
		service, list, _ := strings.Cut(group, ":")
		for action := range strings.SplitSeq(list, ",") {
			all = append(all, service+":"+action)
		}
	}
	return all
}

// on grants actions on the resources of a service: "ec2:vpc/*" is short for arn:{partition}:ec2:{region}:{account}:vpc/*.
func on(resources, text string) grant {
	var arns []string
	for r := range strings.FieldsSeq(resources) {
		if !strings.HasPrefix(r, "arn:") {
			service, path, _ := strings.Cut(r, ":")
			r = "arn:{partition}:" + service + ":{region}:{account}:" + path
		}
		arns = append(arns, r)
	}
	return grant{actions: actions(text), arns: arns}
}

// look grants actions that AWS does not limit to single resources, in the regions of the stack.
func look(text string) grant {
	return grant{actions: actions(text), arns: []string{"*"}, regional: true}
}

// global is look for services that have no region.
func global(text string) grant { return grant{actions: actions(text), arns: []string{"*"}} }

// when adds a condition.
func (g grant) when(operator, key string, values ...string) grant {
	g.condition = map[string]map[string][]string{operator: {key: values}}
	return g
}

func take(grants ...grant) row { return row{grants: grants} }

func (r row) hands(services ...string) row { r.passes = services; return r }

func (r row) makes(services ...string) row { r.linked = services; return r }

func (r row) with(grants ...grant) row {
	r.grants = append(slices.Clone(r.grants), grants...)
	return r
}

// ec2 is a type whose objects have identifiers and no names: they are limited to the account and the region. Tags are set only
// together with the creation, or changed on objects of the same kind.
func ec2(kind, change, describe string) row {
	return take(on("ec2:"+kind+"/*", change+" ec2:CreateTags,DeleteTags"), look(describe))
}

// Who uses a key asks for it through the service; which key, the key's own policy says too.
var (
	keyUse   = on("kms:key/*", "kms:DescribeKey")
	keyGrant = on("kms:key/*", "kms:CreateGrant").when("Bool", "kms:GrantIsForAWSResource", "true")
	// What the delivery of logs of AWS services takes.
	delivery = look("logs:CreateLogDelivery,GetLogDelivery,UpdateLogDelivery,DeleteLogDelivery,ListLogDeliveries,PutResourcePolicy,DescribeResourcePolicies,DescribeLogGroups")
)

var (
	acl       = ec2("network-acl", "ec2:CreateNetworkAcl,DeleteNetworkAcl,CreateNetworkAclEntry,DeleteNetworkAclEntry,ReplaceNetworkAclEntry,ReplaceNetworkAclAssociation", "ec2:DescribeNetworkAcls").with(on("ec2:vpc/* ec2:subnet/*", "ec2:CreateNetworkAcl,ReplaceNetworkAclAssociation"))
	routes    = ec2("route-table", "ec2:CreateRouteTable,DeleteRouteTable,CreateRoute,ReplaceRoute,DeleteRoute,AssociateRouteTable,DisassociateRouteTable,ReplaceRouteTableAssociation,DisableVgwRoutePropagation", "ec2:DescribeRouteTables").with(on("ec2:vpc/* ec2:subnet/* ec2:internet-gateway/*", "ec2:CreateRouteTable,AssociateRouteTable,DisassociateRouteTable"))
	groupRule = take(
		on("ec2:security-group/* ec2:security-group-rule/*", "ec2:AuthorizeSecurityGroupIngress,AuthorizeSecurityGroupEgress,RevokeSecurityGroupIngress,RevokeSecurityGroupEgress,ModifySecurityGroupRules,CreateTags,DeleteTags"),
		look("ec2:DescribeSecurityGroupRules"))
	group = ec2("security-group", "ec2:CreateSecurityGroup,DeleteSecurityGroup,RevokeSecurityGroupIngress,RevokeSecurityGroupEgress,AuthorizeSecurityGroupEgress,AuthorizeSecurityGroupIngress,ModifySecurityGroupRules",
		"ec2:DescribeSecurityGroups,DescribeSecurityGroupRules,DescribeNetworkInterfaces").with(on("ec2:vpc/*", "ec2:CreateSecurityGroup"))

	bucketARN = "arn:{partition}:s3:::{name}"
	eksNodes  = []string{"ec2.amazonaws.com", "eks.amazonaws.com"}
	podRole   = []string{"pods.eks.amazonaws.com"}
)

// bucketPart is a part of a bucket's configuration. The part's resource does not name the bucket, so the grant holds for the buckets of
// the account that bear a name of the stack's: rows names them through the bucket itself.
func bucketPart(text string) row {
	return take(grant{actions: actions(text), arns: []string{"arn:{partition}:s3:::*"},
		condition: map[string]map[string][]string{"StringEquals": {"aws:ResourceAccount": {"{account}"}}}})
}

func backupVault(text string) row { return take(on("backup:backup-vault:*", text)) }

// rows is the table of types. The actions are those of the provider's calls, as the handlers of AWS' own resource schemas list them too.
var rows = map[string]row{
	"aws:ec2/vpc:Vpc": ec2("vpc", "ec2:CreateVpc,DeleteVpc,ModifyVpcAttribute", "ec2:DescribeVpcs,DescribeVpcAttribute,DescribeNetworkAcls,DescribeRouteTables,DescribeSecurityGroups"),
	"aws:ec2/subnet:Subnet": ec2("subnet", "ec2:CreateSubnet,DeleteSubnet,ModifySubnetAttribute", "ec2:DescribeSubnets,DescribeNetworkInterfaces").
		with(on("ec2:vpc/*", "ec2:CreateSubnet")),
	"aws:ec2/internetGateway:InternetGateway": ec2("internet-gateway", "ec2:CreateInternetGateway,DeleteInternetGateway,AttachInternetGateway,DetachInternetGateway", "ec2:DescribeInternetGateways").
		with(on("ec2:vpc/*", "ec2:AttachInternetGateway,DetachInternetGateway")),
	"aws:ec2/natGateway:NatGateway": ec2("natgateway", "ec2:CreateNatGateway,DeleteNatGateway", "ec2:DescribeNatGateways").
		with(on("ec2:subnet/* ec2:elastic-ip/*", "ec2:CreateNatGateway")),
	"aws:ec2/eip:Eip":               ec2("elastic-ip", "ec2:AllocateAddress,ReleaseAddress,AssociateAddress,DisassociateAddress", "ec2:DescribeAddresses,DescribeAddressesAttribute"),
	"aws:ec2/routeTable:RouteTable": routes, "aws:ec2/route:Route": routes, "aws:ec2/routeTableAssociation:RouteTableAssociation": routes,
	"aws:ec2/defaultRouteTable:DefaultRouteTable": routes,
	"aws:ec2/networkAcl:NetworkAcl":               acl, "aws:ec2/networkAclRule:NetworkAclRule": acl, "aws:ec2/networkAclAssociation:NetworkAclAssociation": acl,
	"aws:ec2/defaultNetworkAcl:DefaultNetworkAcl":       acl,
	"aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": group, "aws:ec2/securityGroup:SecurityGroup": group,
	"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": groupRule, "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": groupRule,
	"aws:ec2/vpcEndpoint:VpcEndpoint": ec2("vpc-endpoint", "ec2:CreateVpcEndpoint,DeleteVpcEndpoints,ModifyVpcEndpoint",
		"ec2:DescribeVpcEndpoints,DescribePrefixLists,DescribeNetworkInterfaces,DescribeVpcEndpointServices").
		with(on("ec2:vpc/* ec2:subnet/* ec2:security-group/* ec2:route-table/*", "ec2:CreateVpcEndpoint,ModifyVpcEndpoint"), global("route53:AssociateVPCWithHostedZone")),
	"aws:ec2/flowLog:FlowLog": ec2("vpc-flow-log", "ec2:CreateFlowLogs,DeleteFlowLogs", "ec2:DescribeFlowLogs").
		with(on("ec2:vpc/*", "ec2:CreateFlowLogs"), delivery).hands("vpc-flow-logs.amazonaws.com"),
	"aws:ec2/launchTemplate:LaunchTemplate": ec2("launch-template", "ec2:CreateLaunchTemplate,DeleteLaunchTemplate,CreateLaunchTemplateVersion,DeleteLaunchTemplateVersions,ModifyLaunchTemplate",
		"ec2:DescribeLaunchTemplates,DescribeLaunchTemplateVersions"),

	"aws:networkfirewall/firewall:Firewall": take(
		on("network-firewall:firewall/{name}", "network-firewall:CreateFirewall,DeleteFirewall,DescribeFirewall,AssociateFirewallPolicy,AssociateSubnets,DisassociateSubnets,UpdateFirewallDeleteProtection,UpdateFirewallDescription,UpdateFirewallEncryptionConfiguration,UpdateFirewallPolicyChangeProtection,UpdateSubnetChangeProtection,TagResource,UntagResource,ListTagsForResource"),
		on("network-firewall:firewall-policy/*", "network-firewall:CreateFirewall,AssociateFirewallPolicy"),
		look("ec2:DescribeVpcs,DescribeSubnets,DescribeVpcEndpoints")).makes("network-firewall.amazonaws.com"),
	"aws:networkfirewall/firewallPolicy:FirewallPolicy": take(
		on("network-firewall:firewall-policy/{name}", "network-firewall:CreateFirewallPolicy,DeleteFirewallPolicy,DescribeFirewallPolicy,UpdateFirewallPolicy,TagResource,UntagResource,ListTagsForResource"),
		on("network-firewall:stateful-rulegroup/* network-firewall:stateless-rulegroup/*", "network-firewall:CreateFirewallPolicy,UpdateFirewallPolicy")),
	"aws:networkfirewall/ruleGroup:RuleGroup": take(
		on("network-firewall:stateful-rulegroup/{name} network-firewall:stateless-rulegroup/{name}", "network-firewall:CreateRuleGroup,DeleteRuleGroup,DescribeRuleGroup,UpdateRuleGroup,TagResource,UntagResource,ListTagsForResource")),
	"aws:networkfirewall/loggingConfiguration:LoggingConfiguration": take(
		on("network-firewall:firewall/*", "network-firewall:DescribeLoggingConfiguration,UpdateLoggingConfiguration"), delivery),

	"aws:wafv2/webAcl:WebAcl": take(
		on("wafv2:regional/webacl/{name}/*", "wafv2:CreateWebACL,DeleteWebACL,GetWebACL,UpdateWebACL,TagResource,UntagResource,ListTagsForResource"),
		on("wafv2:regional/ipset/* wafv2:regional/rulegroup/* wafv2:regional/regexpatternset/* arn:{partition}:wafv2:{region}:*:regional/managedruleset/*", "wafv2:CreateWebACL,UpdateWebACL"),
		look("wafv2:ListWebACLs,ListAvailableManagedRuleGroups,DescribeManagedRuleGroup,CheckCapacity")),
	"aws:wafv2/webAclAssociation:WebAclAssociation": take(
		on("wafv2:regional/webacl/* elasticloadbalancing:loadbalancer/app/*", "wafv2:AssociateWebACL,DisassociateWebACL,GetWebACLForResource,GetWebACL elasticloadbalancing:SetWebACL")),
	"aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration": take(
		on("wafv2:regional/webacl/*", "wafv2:PutLoggingConfiguration,GetLoggingConfiguration,DeleteLoggingConfiguration"), delivery).makes("wafv2.amazonaws.com"),
	"aws:wafv2/ipSet:IpSet": take(
		on("wafv2:regional/ipset/{name}/*", "wafv2:CreateIPSet,DeleteIPSet,GetIPSet,UpdateIPSet,TagResource,UntagResource,ListTagsForResource"), look("wafv2:ListIPSets")),

	"aws:kms/key:Key": take(
		look("kms:CreateKey,ListKeys,ListAliases"),
		on("kms:key/*", "kms:DescribeKey,GetKeyPolicy,PutKeyPolicy,GetKeyRotationStatus,EnableKeyRotation,DisableKeyRotation,EnableKey,DisableKey,UpdateKeyDescription,ScheduleKeyDeletion,CancelKeyDeletion,TagResource,UntagResource,ListResourceTags,ReplicateKey,ListKeyRotations")),
	"aws:kms/replicaKey:ReplicaKey": take(
		look("kms:CreateKey"),
		on("kms:key/*", "kms:ReplicateKey,DescribeKey,GetKeyPolicy,PutKeyPolicy,GetKeyRotationStatus,EnableKey,DisableKey,UpdateKeyDescription,ScheduleKeyDeletion,CancelKeyDeletion,TagResource,UntagResource,ListResourceTags")).
		makes("mrk.kms.amazonaws.com"),
	"aws:kms/alias:Alias":         take(on("kms:{name} kms:key/*", "kms:CreateAlias,UpdateAlias,DeleteAlias"), look("kms:ListAliases")),
	"aws:kms/keyPolicy:KeyPolicy": take(on("kms:key/*", "kms:DescribeKey,GetKeyPolicy,PutKeyPolicy")),

	"aws:acmpca/certificateAuthority:CertificateAuthority": take(
		look("acm-pca:CreateCertificateAuthority,ListCertificateAuthorities"),
		on("acm-pca:certificate-authority/*", "acm-pca:DescribeCertificateAuthority,DeleteCertificateAuthority,UpdateCertificateAuthority,RestoreCertificateAuthority,GetCertificateAuthorityCsr,GetCertificateAuthorityCertificate,ListTags,TagCertificateAuthority,UntagCertificateAuthority")),
	"aws:acmpca/certificate:Certificate": take(
		on("acm-pca:certificate-authority/*", "acm-pca:IssueCertificate,GetCertificate,RevokeCertificate,DescribeCertificateAuthority")),
	"aws:acmpca/certificateAuthorityCertificate:CertificateAuthorityCertificate": take(
		on("acm-pca:certificate-authority/*", "acm-pca:ImportCertificateAuthorityCertificate,GetCertificateAuthorityCertificate,DescribeCertificateAuthority")),
	"aws:acmpca/policy:Policy":         take(on("acm-pca:certificate-authority/*", "acm-pca:PutPolicy,GetPolicy,DeletePolicy")),
	"aws:acmpca/permission:Permission": take(on("acm-pca:certificate-authority/*", "acm-pca:CreatePermission,ListPermissions,DeletePermission")),

	"aws:eks/cluster:Cluster": take(
		on("eks:cluster/{name}", "eks:CreateCluster,DeleteCluster,DescribeCluster,UpdateClusterConfig,UpdateClusterVersion,AssociateEncryptionConfig,DescribeUpdate,ListUpdates,TagResource,UntagResource,ListTagsForResource"),
		look("ec2:DescribeSubnets,DescribeVpcs,DescribeSecurityGroups"), keyUse, keyGrant).
		hands("eks.amazonaws.com").makes("eks.amazonaws.com"),
	"aws:eks/nodeGroup:NodeGroup": take(
		on("eks:cluster/*", "eks:CreateNodegroup"),
		on("eks:nodegroup/*", "eks:DescribeNodegroup,DeleteNodegroup,UpdateNodegroupConfig,UpdateNodegroupVersion,DescribeUpdate,TagResource,UntagResource,ListTagsForResource"),
		on("ec2:launch-template/* ec2:subnet/* ec2:security-group/* ec2:network-interface/* ec2:instance/* ec2:volume/* arn:{partition}:ec2:{region}::image/*", "ec2:RunInstances"),
		on("ec2:instance/* ec2:volume/* ec2:network-interface/*", "ec2:CreateTags"),
		look("ec2:DescribeLaunchTemplateVersions,DescribeSubnets,DescribeInstanceTypes,DescribeSecurityGroups,DescribeInstanceTypeOfferings,DescribeImages")).
		hands(eksNodes...).makes("eks-nodegroup.amazonaws.com", "autoscaling.amazonaws.com"),
	"aws:eks/addon:Addon": take(
		on("eks:cluster/*", "eks:CreateAddon,CreatePodIdentityAssociation,DeletePodIdentityAssociation,UpdatePodIdentityAssociation,DescribePodIdentityAssociation,ListPodIdentityAssociations"),
		on("eks:addon/*", "eks:DescribeAddon,DeleteAddon,UpdateAddon,DescribeUpdate,TagResource,UntagResource,ListTagsForResource"),
		on("eks:podidentityassociation/*", "eks:DescribePodIdentityAssociation,UpdatePodIdentityAssociation,DeletePodIdentityAssociation,TagResource"),
		look("eks:DescribeAddonVersions,DescribeAddonConfiguration")).hands(podRole...),
	"aws:eks/accessEntry:AccessEntry": take(
		on("eks:cluster/*", "eks:CreateAccessEntry,ListAccessEntries"),
		on("eks:access-entry/*", "eks:DescribeAccessEntry,UpdateAccessEntry,DeleteAccessEntry,TagResource,UntagResource,ListTagsForResource")),
	"aws:eks/accessPolicyAssociation:AccessPolicyAssociation": take(
		on("eks:access-entry/*", "eks:AssociateAccessPolicy,DisassociateAccessPolicy,ListAssociatedAccessPolicies")),
	"aws:eks/podIdentityAssociation:PodIdentityAssociation": take(
		on("eks:cluster/*", "eks:CreatePodIdentityAssociation,ListPodIdentityAssociations"),
		on("eks:podidentityassociation/*", "eks:DescribePodIdentityAssociation,UpdatePodIdentityAssociation,DeletePodIdentityAssociation,TagResource,UntagResource,ListTagsForResource")).
		hands(podRole...),

	"aws:iam/role:Role":     take(on(roleARN, "iam:CreateRole,DeleteRole,GetRole,UpdateRole,UpdateRoleDescription,UpdateAssumeRolePolicy,TagRole,UntagRole,ListRoleTags,ListRolePolicies,ListAttachedRolePolicies,ListInstanceProfilesForRole,GetRolePolicy,PutRolePolicy,DeleteRolePolicy")),
	"aws:iam/policy:Policy": take(on(policyARN, "iam:CreatePolicy,DeletePolicy,GetPolicy,GetPolicyVersion,CreatePolicyVersion,DeletePolicyVersion,ListPolicyVersions,SetDefaultPolicyVersion,TagPolicy,UntagPolicy,ListPolicyTags")),
	// What names the role is the role: its row has these actions.
	"aws:iam/rolePolicy:RolePolicy": take(), "aws:iam/rolePolicyAttachment:RolePolicyAttachment": take(),
	"aws:iam/instanceProfile:InstanceProfile":     take(on("arn:{partition}:iam::{account}:instance-profile/{name}", "iam:CreateInstanceProfile,DeleteInstanceProfile,GetInstanceProfile,AddRoleToInstanceProfile,RemoveRoleFromInstanceProfile,TagInstanceProfile,UntagInstanceProfile,ListInstanceProfileTags")).hands("ec2.amazonaws.com"),
	"aws:iam/serviceLinkedRole:ServiceLinkedRole": take(on("arn:{partition}:iam::{account}:role/aws-service-role/*", "iam:CreateServiceLinkedRole,GetRole,UpdateRole,UpdateRoleDescription,TagRole,UntagRole,DeleteServiceLinkedRole,GetServiceLinkedRoleDeletionStatus")),
	"aws:autoscaling/attachment:Attachment": take(
		on("autoscaling:autoScalingGroup:*:autoScalingGroupName/eks-*", "autoscaling:AttachLoadBalancerTargetGroups,DetachLoadBalancerTargetGroups"),
		look("autoscaling:DescribeAutoScalingGroups,DescribeLoadBalancerTargetGroups")).makes("autoscaling.amazonaws.com"),

	"aws:rds/cluster:Cluster": take(
		on("rds:cluster:{name} rds:cluster-pg:* rds:subgrp:* rds:cluster-snapshot:* rds:db:{name}*", "rds:CreateDBCluster,DeleteDBCluster,ModifyDBCluster,AddTagsToResource,RemoveTagsFromResource,ListTagsForResource,CreateDBClusterSnapshot,CreateDBInstance"),
		look("rds:DescribeDBClusters,DescribeDBInstances,DescribeGlobalClusters,DescribeDBClusterSnapshots,DescribeDBEngineVersions,DescribeOrderableDBInstanceOptions ec2:DescribeSecurityGroups,DescribeSubnets,DescribeVpcs"),
		on("secretsmanager:secret:rds!*", "secretsmanager:CreateSecret,TagResource,DescribeSecret,RotateSecret,DeleteSecret"),
		keyUse, keyGrant, on("kms:key/*", "kms:GenerateDataKey,Decrypt").when("StringLike", "kms:ViaService", "rds.*.amazonaws.com", "secretsmanager.*.amazonaws.com")).
		hands("monitoring.rds.amazonaws.com", "rds.amazonaws.com").makes("rds.amazonaws.com"),
	"aws:rds/clusterInstance:ClusterInstance": take(
		on("rds:db:{name} rds:cluster:* rds:pg:* rds:subgrp:*", "rds:CreateDBInstance,DeleteDBInstance,ModifyDBInstance,RebootDBInstance,AddTagsToResource,RemoveTagsFromResource,ListTagsForResource"),
		look("rds:DescribeDBInstances,DescribeDBClusters"), keyUse, keyGrant).hands("monitoring.rds.amazonaws.com", "rds.amazonaws.com"),
	"aws:rds/clusterParameterGroup:ClusterParameterGroup": take(
		on("rds:cluster-pg:{name}", "rds:CreateDBClusterParameterGroup,DeleteDBClusterParameterGroup,ModifyDBClusterParameterGroup,ResetDBClusterParameterGroup,DescribeDBClusterParameterGroups,DescribeDBClusterParameters,AddTagsToResource,RemoveTagsFromResource,ListTagsForResource")),
	"aws:rds/parameterGroup:ParameterGroup": take(
		on("rds:pg:{name}", "rds:CreateDBParameterGroup,DeleteDBParameterGroup,ModifyDBParameterGroup,ResetDBParameterGroup,DescribeDBParameterGroups,DescribeDBParameters,AddTagsToResource,RemoveTagsFromResource,ListTagsForResource")),
	"aws:rds/subnetGroup:SubnetGroup": take(
		on("rds:subgrp:{name}", "rds:CreateDBSubnetGroup,DeleteDBSubnetGroup,ModifyDBSubnetGroup,DescribeDBSubnetGroups,AddTagsToResource,RemoveTagsFromResource,ListTagsForResource"),
		look("ec2:DescribeSubnets,DescribeVpcs,DescribeAvailabilityZones")),
	"aws:rds/eventSubscription:EventSubscription": take(
		on("rds:es:{name}", "rds:CreateEventSubscription,DeleteEventSubscription,ModifyEventSubscription,DescribeEventSubscriptions,AddSourceIdentifierToSubscription,RemoveSourceIdentifierFromSubscription,AddTagsToResource,RemoveTagsFromResource,ListTagsForResource")),

	"aws:lb/loadBalancer:LoadBalancer": take(
		on("elasticloadbalancing:loadbalancer/app/{name}/* elasticloadbalancing:loadbalancer/net/{name}/*", "elasticloadbalancing:CreateLoadBalancer,DeleteLoadBalancer,ModifyLoadBalancerAttributes,SetSecurityGroups,SetSubnets,SetIpAddressType,ModifyCapacityReservation,AddTags,RemoveTags"),
		look("elasticloadbalancing:DescribeLoadBalancers,DescribeLoadBalancerAttributes,DescribeCapacityReservation,DescribeTags ec2:DescribeSubnets,DescribeVpcs,DescribeSecurityGroups,DescribeInternetGateways,DescribeAccountAttributes,DescribeNetworkInterfaces")).
		makes("elasticloadbalancing.amazonaws.com"),
	"aws:lb/targetGroup:TargetGroup": take(
		on("elasticloadbalancing:targetgroup/{name}/*", "elasticloadbalancing:CreateTargetGroup,DeleteTargetGroup,ModifyTargetGroup,ModifyTargetGroupAttributes,AddTags,RemoveTags"),
		look("elasticloadbalancing:DescribeTargetGroups,DescribeTargetGroupAttributes,DescribeTags,DescribeTargetHealth")),
	"aws:lb/listener:Listener": take(
		on("elasticloadbalancing:loadbalancer/app/* elasticloadbalancing:loadbalancer/net/*", "elasticloadbalancing:CreateListener"),
		on("elasticloadbalancing:listener/app/* elasticloadbalancing:listener/net/*", "elasticloadbalancing:DeleteListener,ModifyListener,ModifyListenerAttributes,AddTags,RemoveTags"),
		look("elasticloadbalancing:DescribeListeners,DescribeListenerAttributes,DescribeTags")),
	"aws:lb/listenerRule:ListenerRule": take(
		on("elasticloadbalancing:listener/app/*", "elasticloadbalancing:CreateRule"),
		on("elasticloadbalancing:listener-rule/app/*", "elasticloadbalancing:DeleteRule,ModifyRule,SetRulePriorities,AddTags,RemoveTags"),
		look("elasticloadbalancing:DescribeRules,DescribeTags")),

	"aws:acm/certificate:Certificate": take(
		look("acm:RequestCertificate,ListCertificates"),
		on("acm:certificate/*", "acm:RequestCertificate,DescribeCertificate,DeleteCertificate,UpdateCertificateOptions,GetCertificate,AddTagsToCertificate,RemoveTagsFromCertificate,ListTagsForCertificate")),
	"aws:acm/certificateValidation:CertificateValidation": take(on("acm:certificate/*", "acm:DescribeCertificate")),

	"aws:route53/zone:Zone": take(
		global("route53:CreateHostedZone,ListHostedZones,ListHostedZonesByName"),
		on("arn:{partition}:route53:::hostedzone/* arn:{partition}:route53:::change/* ec2:vpc/*", "route53:GetHostedZone,DeleteHostedZone,UpdateHostedZoneComment,AssociateVPCWithHostedZone,DisassociateVPCFromHostedZone,ListResourceRecordSets,ChangeTagsForResource,ListTagsForResource,GetChange,GetDNSSEC,ChangeResourceRecordSets"),
		look("ec2:DescribeVpcs")),
	"aws:route53/record:Record": take(
		on("arn:{partition}:route53:::hostedzone/* arn:{partition}:route53:::change/*", "route53:GetHostedZone,ChangeResourceRecordSets,ListResourceRecordSets,GetChange")),
	"aws:route53/healthCheck:HealthCheck": take(
		global("route53:CreateHealthCheck,ListHealthChecks"),
		on("arn:{partition}:route53:::healthcheck/*", "route53:GetHealthCheck,UpdateHealthCheck,DeleteHealthCheck,ChangeTagsForResource,ListTagsForResource")),
	"aws:route53/resolverQueryLogConfig:ResolverQueryLogConfig": take(
		on("route53resolver:resolver-query-log-config/*", "route53resolver:CreateResolverQueryLogConfig,DeleteResolverQueryLogConfig,GetResolverQueryLogConfig,TagResource,UntagResource,ListTagsForResource"), delivery).
		makes("route53resolver.amazonaws.com"),
	"aws:route53/resolverQueryLogConfigAssociation:ResolverQueryLogConfigAssociation": take(
		on("route53resolver:resolver-query-log-config/* ec2:vpc/*", "route53resolver:AssociateResolverQueryLogConfig,DisassociateResolverQueryLogConfig"),
		look("route53resolver:GetResolverQueryLogConfigAssociation ec2:DescribeVpcs")),
	"aws:route53/resolverFirewallRuleGroup:ResolverFirewallRuleGroup": take(
		on("route53resolver:firewall-rule-group/*", "route53resolver:CreateFirewallRuleGroup,DeleteFirewallRuleGroup,GetFirewallRuleGroup,TagResource,UntagResource,ListTagsForResource")),
	"aws:route53/resolverFirewallRule:ResolverFirewallRule": take(
		on("route53resolver:firewall-rule-group/* route53resolver:firewall-domain-list/*", "route53resolver:CreateFirewallRule,DeleteFirewallRule,UpdateFirewallRule,ListFirewallRules")),
	"aws:route53/resolverFirewallDomainList:ResolverFirewallDomainList": take(
		on("route53resolver:firewall-domain-list/*", "route53resolver:CreateFirewallDomainList,DeleteFirewallDomainList,GetFirewallDomainList,UpdateFirewallDomains,ListFirewallDomains,ImportFirewallDomains,TagResource,UntagResource,ListTagsForResource")),
	"aws:route53/resolverFirewallRuleGroupAssociation:ResolverFirewallRuleGroupAssociation": take(
		on("route53resolver:firewall-rule-group/* route53resolver:firewall-rule-group-association/*", "route53resolver:AssociateFirewallRuleGroup,DisassociateFirewallRuleGroup,GetFirewallRuleGroupAssociation,UpdateFirewallRuleGroupAssociation,TagResource,UntagResource,ListTagsForResource"),
		look("ec2:DescribeVpcs")),
	"aws:route53/resolverFirewallConfig:ResolverFirewallConfig": take(
		on("route53resolver:firewall-config/*", "route53resolver:GetFirewallConfig,UpdateFirewallConfig,ListFirewallConfigs"), look("ec2:DescribeVpcs")),

	// The provider reads every part of a bucket's configuration.
	"aws:s3/bucketV2:BucketV2":                                                                   take(on(bucketARN, "s3:CreateBucket,DeleteBucket,ListBucket,ListBucketVersions,GetBucketLocation,GetBucketTagging,PutBucketTagging,GetAccelerateConfiguration,GetBucketAcl,GetBucketCORS,GetBucketLogging,GetBucketObjectLockConfiguration,PutBucketObjectLockConfiguration,GetBucketPolicy,GetBucketRequestPayment,GetBucketVersioning,PutBucketVersioning,GetBucketWebsite,GetEncryptionConfiguration,GetLifecycleConfiguration,GetReplicationConfiguration")),
	"aws:s3/bucketVersioningV2:BucketVersioningV2":                                               bucketPart("s3:GetBucketVersioning,PutBucketVersioning"),
	"aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2":                     bucketPart("s3:GetBucketObjectLockConfiguration,PutBucketObjectLockConfiguration"),
	"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2": bucketPart("s3:GetEncryptionConfiguration,PutEncryptionConfiguration"),
	"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock":                                     bucketPart("s3:GetBucketPublicAccessBlock,PutBucketPublicAccessBlock"),
	"aws:s3/bucketOwnershipControls:BucketOwnershipControls":                                     bucketPart("s3:GetBucketOwnershipControls,PutBucketOwnershipControls"),
	"aws:s3/bucketPolicy:BucketPolicy":                                                           bucketPart("s3:GetBucketPolicy,PutBucketPolicy,DeleteBucketPolicy"),
	"aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2":                       bucketPart("s3:GetLifecycleConfiguration,PutLifecycleConfiguration"),
	"aws:s3/bucketLoggingV2:BucketLoggingV2":                                                     bucketPart("s3:GetBucketLogging,PutBucketLogging"),
	"aws:s3/bucketReplicationConfig:BucketReplicationConfig":                                     bucketPart("s3:GetReplicationConfiguration,PutReplicationConfiguration").hands("s3.amazonaws.com"),

	"aws:cloudtrail/trail:Trail": take(
		on("cloudtrail:trail/{name}", "cloudtrail:CreateTrail,DeleteTrail,UpdateTrail,GetTrail,GetTrailStatus,StartLogging,StopLogging,PutEventSelectors,GetEventSelectors,PutInsightSelectors,GetInsightSelectors,AddTags,RemoveTags,ListTags"),
		look("cloudtrail:DescribeTrails,ListTrails")).hands("cloudtrail.amazonaws.com"),
	"aws:cloudwatch/logGroup:LogGroup": take(
		on("logs:log-group:{name} logs:log-group:{name}:*", "logs:CreateLogGroup,DeleteLogGroup,PutRetentionPolicy,DeleteRetentionPolicy,AssociateKmsKey,DisassociateKmsKey,TagResource,UntagResource,ListTagsForResource,ListTagsLogGroup"),
		look("logs:DescribeLogGroups"), keyUse),
	"aws:cloudwatch/logResourcePolicy:LogResourcePolicy": take(look("logs:PutResourcePolicy,DeleteResourcePolicy,DescribeResourcePolicies")),
	"aws:cloudwatch/metricAlarm:MetricAlarm": take(
		on("cloudwatch:alarm:{name}", "cloudwatch:PutMetricAlarm,DeleteAlarms,DescribeAlarms,EnableAlarmActions,DisableAlarmActions,TagResource,UntagResource,ListTagsForResource")),
	"aws:cloudwatch/eventRule:EventRule": take(
		on("events:rule/{name}", "events:PutRule,DeleteRule,DescribeRule,EnableRule,DisableRule,TagResource,UntagResource,ListTagsForResource")),
	"aws:cloudwatch/eventTarget:EventTarget":         take(on("events:rule/*", "events:PutTargets,RemoveTargets,ListTargetsByRule,DescribeRule")).hands("events.amazonaws.com"),
	"aws:cloudwatch/logMetricFilter:LogMetricFilter": take(on("logs:log-group:*", "logs:PutMetricFilter,DeleteMetricFilter,DescribeMetricFilters")),

	"aws:sns/topic:Topic": take(
		on("sns:{name}", "sns:CreateTopic,DeleteTopic,GetTopicAttributes,SetTopicAttributes,TagResource,UntagResource,ListTagsForResource,GetDataProtectionPolicy"), keyUse),
	"aws:sns/topicPolicy:TopicPolicy":             take(on("sns:*", "sns:GetTopicAttributes,SetTopicAttributes")),
	"aws:sns/topicSubscription:TopicSubscription": take(on("sns:*", "sns:Subscribe,Unsubscribe,GetSubscriptionAttributes,SetSubscriptionAttributes,ListSubscriptionsByTopic"), look("sns:Unsubscribe,GetSubscriptionAttributes,SetSubscriptionAttributes")),

	"aws:guardduty/detector:Detector": take(
		look("guardduty:CreateDetector,ListDetectors"),
		on("guardduty:detector/*", "guardduty:GetDetector,UpdateDetector,DeleteDetector,TagResource,UntagResource,ListTagsForResource")).
		makes("guardduty.amazonaws.com", "malware-protection.guardduty.amazonaws.com"),
	"aws:guardduty/detectorFeature:DetectorFeature": take(on("guardduty:detector/*", "guardduty:GetDetector,UpdateDetector")).
		makes("malware-protection.guardduty.amazonaws.com"),
	"aws:guardduty/publishingDestination:PublishingDestination": take(
		on("guardduty:detector/*", "guardduty:CreatePublishingDestination,DescribePublishingDestination,UpdatePublishingDestination,DeletePublishingDestination,ListPublishingDestinations")),

	"aws:securityhub/account:Account": take(
		on("securityhub:hub/default", "securityhub:EnableSecurityHub,DisableSecurityHub,DescribeHub,UpdateSecurityHubConfiguration,TagResource,UntagResource,ListTagsForResource"),
		look("securityhub:GetEnabledStandards")).makes("securityhub.amazonaws.com"),
	"aws:securityhub/standardsSubscription:StandardsSubscription": take(look("securityhub:BatchEnableStandards,BatchDisableStandards,GetEnabledStandards,DescribeStandards")),
	"aws:cfg/recorder:Recorder": take(look("config:PutConfigurationRecorder,DeleteConfigurationRecorder,DescribeConfigurationRecorders,TagResource,UntagResource,ListTagsForResource")).
		hands("config.amazonaws.com").makes("config.amazonaws.com"),
	"aws:cfg/recorderStatus:RecorderStatus":   take(look("config:StartConfigurationRecorder,StopConfigurationRecorder,DescribeConfigurationRecorderStatus,DescribeConfigurationRecorders")),
	"aws:cfg/deliveryChannel:DeliveryChannel": take(look("config:PutDeliveryChannel,DeleteDeliveryChannel,DescribeDeliveryChannels")),

	"aws:backup/vault:Vault": take(
		on("backup:backup-vault:{name}", "backup:CreateBackupVault,DeleteBackupVault,DescribeBackupVault,ListRecoveryPointsByBackupVault,DeleteRecoveryPoint,TagResource,UntagResource,ListTags"),
		look("backup-storage:MountCapsule"), keyUse, keyGrant,
		on("kms:key/*", "kms:GenerateDataKey,Decrypt,RetireGrant").when("StringLike", "kms:ViaService", "backup.*.amazonaws.com")),
	"aws:backup/vaultLockConfiguration:VaultLockConfiguration": backupVault("backup:PutBackupVaultLockConfiguration,DeleteBackupVaultLockConfiguration,DescribeBackupVault"),
	"aws:backup/vaultPolicy:VaultPolicy":                       backupVault("backup:PutBackupVaultAccessPolicy,GetBackupVaultAccessPolicy,DeleteBackupVaultAccessPolicy"),
	"aws:backup/plan:Plan":                                     take(on("backup:backup-plan:*", "backup:CreateBackupPlan,DeleteBackupPlan,GetBackupPlan,UpdateBackupPlan,TagResource,UntagResource,ListTags")),
	"aws:backup/selection:Selection": take(on("backup:backup-plan:*", "backup:CreateBackupSelection,DeleteBackupSelection,GetBackupSelection")).
		hands("backup.amazonaws.com").makes("backup.amazonaws.com"),
	"aws:backup/restoreTestingPlan:RestoreTestingPlan": take(on("backup:restore-testing-plan:*", "backup:CreateRestoreTestingPlan,DeleteRestoreTestingPlan,GetRestoreTestingPlan,UpdateRestoreTestingPlan,TagResource,UntagResource,ListTags")),
	"aws:backup/restoreTestingSelection:RestoreTestingSelection": take(on("backup:restore-testing-plan:*", "backup:CreateRestoreTestingSelection,DeleteRestoreTestingSelection,GetRestoreTestingSelection,UpdateRestoreTestingSelection")).
		hands("backup.amazonaws.com"),
}
