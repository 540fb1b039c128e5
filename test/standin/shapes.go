package standin

// shapes is the table of types, by service. Three zones are what AWS would answer for everything that has a part in each.
var shapes = map[string]shape{
	"pulumi:providers:aws": {},

	"aws:ec2/vpc:Vpc": {arn: "arn:aws:ec2:{region}:{account}:vpc/{name}", prefix: "vpc-", hex: true, computed: map[string]any{
		"defaultSecurityGroupId": "sg-default-{name}", "defaultNetworkAclId": "acl-default-{name}", "defaultRouteTableId": "rtb-default-{name}", "mainRouteTableId": "rtb-default-{name}"}},
	"aws:ec2/subnet:Subnet":                                     {arn: "arn:aws:ec2:{region}:{account}:subnet/{name}", prefix: "subnet-"},
	"aws:ec2/internetGateway:InternetGateway":                   {arn: "arn:aws:ec2:{region}:{account}:internet-gateway/{name}", prefix: "igw-"},
	"aws:ec2/natGateway:NatGateway":                             {prefix: "nat-"},
	"aws:ec2/eip:Eip":                                           {arn: "arn:aws:ec2:{region}:{account}:elastic-ip/{name}", prefix: "eipalloc-", computed: map[string]any{"allocationId": "eipalloc-{name}", "publicIp": "198.51.100.1"}},
	"aws:ec2/routeTable:RouteTable":                             {arn: "arn:aws:ec2:{region}:{account}:route-table/{name}", prefix: "rtb-"},
	"aws:ec2/route:Route":                                       {prefix: "r-"},
	"aws:ec2/routeTableAssociation:RouteTableAssociation":       {prefix: "rtbassoc-"},
	"aws:ec2/defaultRouteTable:DefaultRouteTable":               {prefix: "rtb-"},
	"aws:ec2/networkAcl:NetworkAcl":                             {arn: "arn:aws:ec2:{region}:{account}:network-acl/{name}", prefix: "acl-"},
	"aws:ec2/networkAclRule:NetworkAclRule":                     {prefix: "nacl-"},
	"aws:ec2/networkAclAssociation:NetworkAclAssociation":       {prefix: "aclassoc-"},
	"aws:ec2/defaultNetworkAcl:DefaultNetworkAcl":               {arn: "arn:aws:ec2:{region}:{account}:network-acl/{name}", prefix: "acl-"},
	"aws:ec2/defaultSecurityGroup:DefaultSecurityGroup":         {arn: "arn:aws:ec2:{region}:{account}:security-group/{name}", prefix: "sg-"},
	"aws:ec2/securityGroup:SecurityGroup":                       {arn: "arn:aws:ec2:{region}:{account}:security-group/{name}", prefix: "sg-"},
	"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": {arn: "arn:aws:ec2:{region}:{account}:security-group-rule/{name}", prefix: "sgr-"},
	"aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule":   {arn: "arn:aws:ec2:{region}:{account}:security-group-rule/{name}", prefix: "sgr-"},
	"aws:ec2/vpcEndpoint:VpcEndpoint":                           {arn: "arn:aws:ec2:{region}:{account}:vpc-endpoint/{name}", prefix: "vpce-", computed: map[string]any{"prefixListId": "pl-{name}"}},
	"aws:ec2/flowLog:FlowLog":                                   {arn: "arn:aws:ec2:{region}:{account}:vpc-flow-log/{name}", prefix: "fl-"},
	"aws:ec2/launchTemplate:LaunchTemplate":                     {arn: "arn:aws:ec2:{region}:{account}:launch-template/{name}", prefix: "lt-", computed: map[string]any{"latestVersion": 1.0, "defaultVersion": 1.0}},

	"aws:networkfirewall/firewall:Firewall": {arn: "arn:aws:network-firewall:{region}:{account}:firewall/{name}", arnIsID: true, computed: map[string]any{
		"firewallStatuses": []any{map[string]any{"syncStates": []any{
			syncState("a"), syncState("b"), syncState("c"),
		}}}}},
	"aws:networkfirewall/firewallPolicy:FirewallPolicy":             {arn: "arn:aws:network-firewall:{region}:{account}:firewall-policy/{name}", arnIsID: true},
	"aws:networkfirewall/ruleGroup:RuleGroup":                       {arn: "arn:aws:network-firewall:{region}:{account}:stateful-rulegroup/{name}", arnIsID: true},
	"aws:networkfirewall/loggingConfiguration:LoggingConfiguration": {prefix: "nfw-log-"},

	"aws:wafv2/webAcl:WebAcl":                                         {arn: "arn:aws:wafv2:{region}:{account}:regional/webacl/{name}/00000000-0000-4000-8000-000000000000"},
	"aws:wafv2/webAclAssociation:WebAclAssociation":                   {prefix: "waf-assoc-"},
	"aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration": {prefix: "waf-log-"},
	"aws:wafv2/ipSet:IpSet":                                           {arn: "arn:aws:wafv2:{region}:{account}:regional/ipset/{name}/0"},

	"aws:kms/key:Key":               {arn: "arn:aws:kms:{region}:{account}:key/{name}", computed: map[string]any{"keyId": "{name}"}},
	"aws:kms/replicaKey:ReplicaKey": {arn: "arn:aws:kms:eu-west-1:{account}:key/{name}", computed: map[string]any{"keyId": "{name}"}},
	"aws:kms/alias:Alias":           {arn: "arn:aws:kms:{region}:{account}:{name}"},
	"aws:kms/keyPolicy:KeyPolicy":   {},

	"aws:acmpca/certificateAuthority:CertificateAuthority": {arn: "arn:aws:acm-pca:{region}:{account}:certificate-authority/{name}", arnIsID: true, computed: map[string]any{
		"certificateSigningRequest": "-----BEGIN CERTIFICATE REQUEST-----\n{name}\n-----END CERTIFICATE REQUEST-----\n", "certificate": "", "certificateChain": ""}},
	"aws:acmpca/certificate:Certificate": {arn: "arn:aws:acm-pca:{region}:{account}:certificate-authority/{name}/certificate/1", arnIsID: true, computed: map[string]any{
		"certificate": "-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n", "certificateChain": "-----BEGIN CERTIFICATE-----\nchain of {name}\n-----END CERTIFICATE-----\n"}},
	"aws:acmpca/certificateAuthorityCertificate:CertificateAuthorityCertificate": {prefix: "cacert-"},
	"aws:acmpca/policy:Policy":         {prefix: "pca-policy-"},
	"aws:acmpca/permission:Permission": {prefix: "pca-permission-"},

	"aws:eks/cluster:Cluster": {arn: "arn:aws:eks:{region}:{account}:cluster/{name}", computed: map[string]any{
		"endpoint": "https://0123456789ABCDEF.gr7.{region}.eks.amazonaws.com", "certificateAuthority": map[string]any{"data": "Y2VydGlmaWNhdGU="},
		"certificateAuthorities": []any{map[string]any{"data": "Y2VydGlmaWNhdGU="}},
		"identities":             []any{map[string]any{"oidcs": []any{map[string]any{"issuer": "https://oidc.eks.{region}.amazonaws.com/id/0123456789ABCDEF"}}}},
	}},
	"aws:eks/nodeGroup:NodeGroup": {arn: "arn:aws:eks:{region}:{account}:nodegroup/{name}", computed: map[string]any{
		"resources": []any{map[string]any{"autoscalingGroups": []any{map[string]any{"name": "eks-{name}"}}}}}},
	"aws:eks/addon:Addon":                                     {arn: "arn:aws:eks:{region}:{account}:addon/{name}"},
	"aws:eks/accessEntry:AccessEntry":                         {prefix: "access-"},
	"aws:eks/accessPolicyAssociation:AccessPolicyAssociation": {prefix: "access-policy-"},
	"aws:eks/podIdentityAssociation:PodIdentityAssociation":   {prefix: "a-", computed: map[string]any{"associationId": "a-{name}", "associationArn": "arn:aws:eks:{region}:{account}:podidentityassociation/{name}"}},

	"aws:iam/role:Role":                                 {arn: "arn:aws:iam::{account}:role/{name}", computed: map[string]any{"uniqueId": "AROA{name}"}},
	"aws:iam/policy:Policy":                             {arn: "arn:aws:iam::{account}:policy/{name}", arnIsID: true},
	"aws:iam/rolePolicy:RolePolicy":                     {prefix: "policy-of-"},
	"aws:iam/rolePolicyAttachment:RolePolicyAttachment": {prefix: "attachment-"},
	"aws:iam/instanceProfile:InstanceProfile":           {arn: "arn:aws:iam::{account}:instance-profile/{name}"},
	"aws:iam/serviceLinkedRole:ServiceLinkedRole":       {arn: "arn:aws:iam::{account}:role/aws-service-role/{name}", arnIsID: true},
	"aws:autoscaling/attachment:Attachment":             {prefix: "asg-"},

	"aws:rds/cluster:Cluster": {arn: "arn:aws:rds:{region}:{account}:cluster:{name}", computed: map[string]any{
		"endpoint": "{name}.cluster-abc.{region}.rds.amazonaws.com", "readerEndpoint": "{name}.cluster-ro-abc.{region}.rds.amazonaws.com", "port": 5432.0,
		"clusterResourceId": "cluster-ABCDEFGHIJKL", "hostedZoneId": "Z1RLNUO7B9Q6NB",
		"masterUserSecrets": []any{map[string]any{"secretArn": "arn:aws:secretsmanager:{region}:{account}:secret:rds!cluster-{name}", "secretStatus": "active"}},
	}},
	"aws:rds/clusterInstance:ClusterInstance":             {arn: "arn:aws:rds:{region}:{account}:db:{name}", computed: map[string]any{"endpoint": "{name}.abc.{region}.rds.amazonaws.com"}},
	"aws:rds/clusterParameterGroup:ClusterParameterGroup": {arn: "arn:aws:rds:{region}:{account}:cluster-pg:{name}"},
	"aws:rds/parameterGroup:ParameterGroup":               {arn: "arn:aws:rds:{region}:{account}:pg:{name}"},
	"aws:rds/subnetGroup:SubnetGroup":                     {arn: "arn:aws:rds:{region}:{account}:subgrp:{name}"},
	"aws:rds/eventSubscription:EventSubscription":         {arn: "arn:aws:rds:{region}:{account}:es:{name}"},

	"aws:lb/loadBalancer:LoadBalancer": {arn: "arn:aws:elasticloadbalancing:{region}:{account}:loadbalancer/net/{name}/0123456789abcdef", arnIsID: true, computed: map[string]any{
		"dnsName": "{name}-0123456789abcdef.elb.{region}.amazonaws.com", "zoneId": "Z3F0SRJ5LGBH90", "arnSuffix": "net/{name}/0123456789abcdef"}},
	"aws:lb/targetGroup:TargetGroup": {arn: "arn:aws:elasticloadbalancing:{region}:{account}:targetgroup/{name}/0123456789abcdef", arnIsID: true, computed: map[string]any{
		"arnSuffix": "targetgroup/{name}/0123456789abcdef"}},
	"aws:lb/listener:Listener":         {arn: "arn:aws:elasticloadbalancing:{region}:{account}:listener/{name}", arnIsID: true},
	"aws:lb/listenerRule:ListenerRule": {arn: "arn:aws:elasticloadbalancing:{region}:{account}:listener-rule/{name}", arnIsID: true},

	"aws:acm/certificate:Certificate": {arn: "arn:aws:acm:{region}:{account}:certificate/{name}", arnIsID: true, computed: map[string]any{
		"domainValidationOptions": []any{map[string]any{"domainName": "{name}", "resourceRecordName": "_1.{name}", "resourceRecordType": "CNAME", "resourceRecordValue": "_2.acm-validations.aws"}}}},
	"aws:acm/certificateValidation:CertificateValidation": {prefix: "valid-"},

	"aws:route53/zone:Zone":                                                                 {arn: "arn:aws:route53:::hostedzone/{name}", prefix: "Z", computed: map[string]any{"zoneId": "Z{name}"}},
	"aws:route53/record:Record":                                                             {prefix: "record-", computed: map[string]any{"fqdn": "{name}"}},
	"aws:route53/healthCheck:HealthCheck":                                                   {arn: "arn:aws:route53:::healthcheck/{name}", prefix: "hc-"},
	"aws:route53/resolverQueryLogConfig:ResolverQueryLogConfig":                             {arn: "arn:aws:route53resolver:{region}:{account}:resolver-query-log-config/{name}", prefix: "rqlc-"},
	"aws:route53/resolverQueryLogConfigAssociation:ResolverQueryLogConfigAssociation":       {prefix: "rqlca-"},
	"aws:route53/resolverFirewallRuleGroup:ResolverFirewallRuleGroup":                       {arn: "arn:aws:route53resolver:{region}:{account}:firewall-rule-group/{name}", prefix: "rslvr-frg-"},
	"aws:route53/resolverFirewallRule:ResolverFirewallRule":                                 {prefix: "rslvr-fr-"},
	"aws:route53/resolverFirewallDomainList:ResolverFirewallDomainList":                     {arn: "arn:aws:route53resolver:{region}:{account}:firewall-domain-list/{name}", prefix: "rslvr-fdl-"},
	"aws:route53/resolverFirewallRuleGroupAssociation:ResolverFirewallRuleGroupAssociation": {arn: "arn:aws:route53resolver:{region}:{account}:firewall-rule-group-association/{name}", prefix: "rslvr-frgassoc-"},
	"aws:route53/resolverFirewallConfig:ResolverFirewallConfig":                             {prefix: "rslvr-fc-"},

	"aws:s3/bucketV2:BucketV2": {arn: "arn:aws:s3:::{name}", computed: map[string]any{
		"bucket": "{name}", "bucketDomainName": "{name}.s3.amazonaws.com", "bucketRegionalDomainName": "{name}.s3.{region}.amazonaws.com", "hostedZoneId": "Z21DNDUVLTQW6Q"}},
	"aws:s3/bucketVersioningV2:BucketVersioningV2":                                               {prefix: "versioning-"},
	"aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2":                     {prefix: "lock-"},
	"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2": {prefix: "sse-"},
	"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock":                                     {prefix: "pab-"},
	"aws:s3/bucketOwnershipControls:BucketOwnershipControls":                                     {prefix: "oc-"},
	"aws:s3/bucketPolicy:BucketPolicy":                                                           {prefix: "policy-"},
	"aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2":                       {prefix: "lifecycle-"},
	"aws:s3/bucketLoggingV2:BucketLoggingV2":                                                     {prefix: "logging-"},
	"aws:s3/bucketReplicationConfig:BucketReplicationConfig":                                     {prefix: "replication-"},

	"aws:cloudtrail/trail:Trail":                         {arn: "arn:aws:cloudtrail:{region}:{account}:trail/{name}", arnIsID: true, computed: map[string]any{"homeRegion": "{region}"}},
	"aws:cloudwatch/logGroup:LogGroup":                   {arn: "arn:aws:logs:{region}:{account}:log-group:{name}"},
	"aws:cloudwatch/logResourcePolicy:LogResourcePolicy": {prefix: "lrp-"},
	"aws:cloudwatch/metricAlarm:MetricAlarm":             {arn: "arn:aws:cloudwatch:{region}:{account}:alarm:{name}"},
	"aws:cloudwatch/eventRule:EventRule":                 {arn: "arn:aws:events:{region}:{account}:rule/{name}"},
	"aws:cloudwatch/eventTarget:EventTarget":             {arn: "", prefix: "target-"},
	"aws:cloudwatch/logMetricFilter:LogMetricFilter":     {prefix: "filter-"},

	"aws:sns/topic:Topic":                         {arn: "arn:aws:sns:{region}:{account}:{name}", arnIsID: true},
	"aws:sns/topicPolicy:TopicPolicy":             {prefix: "tp-"},
	"aws:sns/topicSubscription:TopicSubscription": {arn: "arn:aws:sns:{region}:{account}:{name}:sub", arnIsID: true},

	"aws:guardduty/detector:Detector":                           {arn: "arn:aws:guardduty:{region}:{account}:detector/{name}", computed: map[string]any{"accountId": "{account}"}},
	"aws:guardduty/detectorFeature:DetectorFeature":             {prefix: "feature-"},
	"aws:guardduty/publishingDestination:PublishingDestination": {prefix: "pd-"},

	"aws:securityhub/account:Account":                             {arn: "arn:aws:securityhub:{region}:{account}:hub/default"},
	"aws:securityhub/standardsSubscription:StandardsSubscription": {prefix: "standard-"},
	"aws:cfg/recorder:Recorder":                                   {prefix: "recorder-", computed: map[string]any{"name": "default"}},
	"aws:cfg/recorderStatus:RecorderStatus":                       {prefix: "recorder-status-"},
	"aws:cfg/deliveryChannel:DeliveryChannel":                     {prefix: "delivery-"},

	"aws:backup/vault:Vault":                                     {arn: "arn:aws:backup:{region}:{account}:backup-vault:{name}", computed: map[string]any{"recoveryPoints": 0.0}},
	"aws:backup/vaultLockConfiguration:VaultLockConfiguration":   {prefix: "vault-lock-"},
	"aws:backup/vaultPolicy:VaultPolicy":                         {prefix: "vault-policy-"},
	"aws:backup/plan:Plan":                                       {arn: "arn:aws:backup:{region}:{account}:backup-plan:{name}"},
	"aws:backup/selection:Selection":                             {prefix: "selection-"},
	"aws:backup/restoreTestingPlan:RestoreTestingPlan":           {arn: "arn:aws:backup:{region}:{account}:restore-testing-plan:{name}"},
	"aws:backup/restoreTestingSelection:RestoreTestingSelection": {prefix: "restore-selection-"},
}

func syncState(zone string) map[string]any {
	return map[string]any{"availabilityZone": "{region}" + zone, "attachments": []any{map[string]any{"endpointId": "vpce-firewall-" + zone, "subnetId": "subnet-firewall-" + zone}}}
}
