package cost

import "ephemos.dev/deploy/stacks/inventory"

// free resources cost nothing by themselves.
var free = row{}

func use(what string, unit string, price func(prices) float64) func(prices) []Usage {
	return func(p prices) []Usage { return []Usage{{What: what, Unit: unit, Price: price(p)}} }
}

var (
	logs = row{usage: func(p prices) []Usage {
		return []Usage{
			{What: "logs taken in", Unit: "GB", Price: p.logsGB},
			{What: "logs kept", Unit: "GB and month", Price: p.logsStoredGB},
		}
	}}
	vended      = row{usage: use("logs that AWS writes", "GB", func(p prices) float64 { return p.vendedGB })}
	keys        = row{fixed: flat("customer-managed key", "key", func(p prices) float64 { return p.key }), usage: use("requests beyond 20,000", "10,000", func(p prices) float64 { return p.keyRequests })}
	dnsFirewall = row{usage: use("DNS queries looked at", "million", func(p prices) float64 { return p.firewallQueriesMillion })}
	queries     = use("DNS queries", "million", func(p prices) float64 { return p.queriesMillion })
	recorded    = row{usage: use("changes of resources recorded", "item", func(p prices) float64 { return p.configItem })}
	guarded     = row{usage: use("events looked at (the dearest kind: events of AWS APIs)", "million", func(p prices) float64 { return p.guardDutyMillion })}
	objects     = use("objects kept, standard class", "GB and month", func(p prices) float64 { return p.s3GB })
)

// rows is the table of AWS types. A type that is not in it is reported as not priced.
var rows = map[string]row{
	"aws:ec2/vpc:Vpc": free, "aws:ec2/subnet:Subnet": free, "aws:ec2/internetGateway:InternetGateway": free,
	"aws:ec2/routeTable:RouteTable": free, "aws:ec2/route:Route": free, "aws:ec2/routeTableAssociation:RouteTableAssociation": free,
	"aws:ec2/defaultRouteTable:DefaultRouteTable": free, "aws:ec2/networkAcl:NetworkAcl": free, "aws:ec2/networkAclRule:NetworkAclRule": free,
	"aws:ec2/networkAclAssociation:NetworkAclAssociation": free, "aws:ec2/defaultNetworkAcl:DefaultNetworkAcl": free,
	"aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": free, "aws:ec2/securityGroup:SecurityGroup": free,
	"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": free, "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": free,
	"aws:ec2/launchTemplate:LaunchTemplate": free, // its disks are counted with the nodes

	"aws:ec2/natGateway:NatGateway":   {fixed: flat("NAT gateway", "gateway", func(p prices) float64 { return p.nat * hours }), usage: use("data through NAT gateways", "GB", func(p prices) float64 { return p.natGB })},
	"aws:ec2/eip:Eip":                 {fixed: flat("public address", "address", func(p prices) float64 { return p.address * hours })},
	"aws:ec2/vpcEndpoint:VpcEndpoint": {fixed: endpoint, usage: use("data through interface endpoints", "GB", func(p prices) float64 { return p.endpointGB })},
	"aws:ec2/flowLog:FlowLog":         vended,

	"aws:networkfirewall/firewall:Firewall": {
		fixed: func(_ *estimator, r *inventory.Resource, p prices) []Line {
			return []Line{{What: "firewall endpoints", Quantity: float64(r.Len("subnetMappings")), Unit: "zone", Price: p.firewall * hours}}
		},
		usage: use("data through the firewall", "GB", func(p prices) float64 { return p.firewallGB }),
	},
	"aws:networkfirewall/firewallPolicy:FirewallPolicy": free, "aws:networkfirewall/ruleGroup:RuleGroup": free,
	"aws:networkfirewall/loggingConfiguration:LoggingConfiguration": vended,

	"aws:wafv2/webAcl:WebAcl":                       {fixed: webACL, usage: use("requests looked at", "million", func(p prices) float64 { return p.webMillion })},
	"aws:wafv2/webAclAssociation:WebAclAssociation": free, "aws:wafv2/ipSet:IpSet": free,
	"aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration": vended,

	"aws:kms/key:Key": keys, "aws:kms/replicaKey:ReplicaKey": keys, "aws:kms/alias:Alias": free, "aws:kms/keyPolicy:KeyPolicy": free,

	"aws:acmpca/certificateAuthority:CertificateAuthority": {fixed: authority, usage: use("certificates issued, the first 1,000 of a month", "certificate", func(p prices) float64 { return p.certificate })},
	"aws:acmpca/certificate:Certificate":                   free, "aws:acmpca/certificateAuthorityCertificate:CertificateAuthorityCertificate": free,
	"aws:acmpca/policy:Policy": free, "aws:acmpca/permission:Permission": free,

	"aws:eks/cluster:Cluster":     {fixed: flat("control plane, in standard support", "cluster", func(p prices) float64 { return p.cluster * hours })},
	"aws:eks/nodeGroup:NodeGroup": {fixed: nodes},
	"aws:eks/addon:Addon":         free, "aws:eks/accessEntry:AccessEntry": free, "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": free,
	"aws:eks/podIdentityAssociation:PodIdentityAssociation": free,

	"aws:iam/role:Role": free, "aws:iam/policy:Policy": free, "aws:iam/rolePolicy:RolePolicy": free, "aws:iam/rolePolicyAttachment:RolePolicyAttachment": free,
	"aws:iam/instanceProfile:InstanceProfile": free, "aws:iam/serviceLinkedRole:ServiceLinkedRole": free, "aws:autoscaling/attachment:Attachment": free,

	"aws:rds/cluster:Cluster": {fixed: cluster, usage: func(p prices) []Usage {
		return []Usage{
			{What: "backups beyond the size of the database", Unit: "GB and month", Price: p.backupGB},
			{What: "Aurora only: storage", Unit: "GB and month", Price: p.auroraGB},
			{What: "Aurora only: reads and writes", Unit: "million", Price: p.auroraMillionIO},
		}
	}},
	"aws:rds/clusterInstance:ClusterInstance": {fixed: func(e *estimator, r *inventory.Resource, p prices) []Line {
		class := r.String("instanceClass")
		return []Line{{What: "Aurora instance " + class, Quantity: 1, Unit: "instance", Price: e.database(p.aurora, class) * hours}}
	}},
	"aws:rds/clusterParameterGroup:ClusterParameterGroup": free, "aws:rds/parameterGroup:ParameterGroup": free, "aws:rds/subnetGroup:SubnetGroup": free,
	"aws:rds/eventSubscription:EventSubscription": free,

	"aws:lb/loadBalancer:LoadBalancer": {fixed: balancer, usage: func(p prices) []Usage {
		return []Usage{
			{What: "capacity units of application load balancers", Unit: "unit and hour", Price: p.balancerUnit},
			{What: "capacity units of network load balancers", Unit: "unit and hour", Price: p.networkBalancerUnit},
		}
	}},
	"aws:lb/targetGroup:TargetGroup": free, "aws:lb/listener:Listener": free, "aws:lb/listenerRule:ListenerRule": free,

	"aws:acm/certificate:Certificate": free, "aws:acm/certificateValidation:CertificateValidation": free,

	"aws:route53/zone:Zone":                                                                 {fixed: flat("hosted zone", "zone", func(p prices) float64 { return p.zone }), usage: queries},
	"aws:route53/record:Record":                                                             free,
	"aws:route53/healthCheck:HealthCheck":                                                   {fixed: flat("health check", "check", func(p prices) float64 { return p.healthCheck })},
	"aws:route53/resolverQueryLogConfig:ResolverQueryLogConfig":                             vended,
	"aws:route53/resolverQueryLogConfigAssociation:ResolverQueryLogConfigAssociation":       free,
	"aws:route53/resolverFirewallRuleGroup:ResolverFirewallRuleGroup":                       free,
	"aws:route53/resolverFirewallRule:ResolverFirewallRule":                                 free,
	"aws:route53/resolverFirewallDomainList:ResolverFirewallDomainList":                     free,
	"aws:route53/resolverFirewallRuleGroupAssociation:ResolverFirewallRuleGroupAssociation": dnsFirewall,
	"aws:route53/resolverFirewallConfig:ResolverFirewallConfig":                             free,

	"aws:s3/bucketV2:BucketV2":                     {usage: objects},
	"aws:s3/bucketVersioningV2:BucketVersioningV2": free, "aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2": free,
	"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2": free,
	"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock":                                     free, "aws:s3/bucketOwnershipControls:BucketOwnershipControls": free,
	"aws:s3/bucketPolicy:BucketPolicy": free, "aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2": free,
	"aws:s3/bucketLoggingV2:BucketLoggingV2":                 free,
	"aws:s3/bucketReplicationConfig:BucketReplicationConfig": free, // what it copies is kept by the other bucket

	"aws:cloudtrail/trail:Trail":       {usage: use("data events; management events are free once", "100,000", func(p prices) float64 { return p.trailEvents })},
	"aws:cloudwatch/logGroup:LogGroup": logs, "aws:cloudwatch/logResourcePolicy:LogResourcePolicy": free,
	"aws:cloudwatch/metricAlarm:MetricAlarm": {fixed: flat("alarm", "alarm", func(p prices) float64 { return p.alarm })},
	"aws:cloudwatch/eventRule:EventRule":     free, "aws:cloudwatch/eventTarget:EventTarget": free, "aws:cloudwatch/logMetricFilter:LogMetricFilter": free,

	"aws:sns/topic:Topic":             {usage: use("notifications", "million", func(p prices) float64 { return p.notificationsMillion })},
	"aws:sns/topicPolicy:TopicPolicy": free, "aws:sns/topicSubscription:TopicSubscription": free,

	"aws:guardduty/detector:Detector": guarded, "aws:guardduty/detectorFeature:DetectorFeature": guarded,
	"aws:guardduty/publishingDestination:PublishingDestination": free,

	"aws:securityhub/account:Account":                             free,
	"aws:securityhub/standardsSubscription:StandardsSubscription": {usage: use("checks of controls", "check", func(p prices) float64 { return p.finding })},
	"aws:cfg/recorder:Recorder":                                   recorded, "aws:cfg/recorderStatus:RecorderStatus": free, "aws:cfg/deliveryChannel:DeliveryChannel": free,

	"aws:backup/vault:Vault":                                   {usage: use("recovery points kept", "GB and month", func(p prices) float64 { return p.backupGB })},
	"aws:backup/vaultLockConfiguration:VaultLockConfiguration": free, "aws:backup/vaultPolicy:VaultPolicy": free, "aws:backup/plan:Plan": free,
	"aws:backup/selection:Selection":                             free,
	"aws:backup/restoreTestingPlan:RestoreTestingPlan":           free,
	"aws:backup/restoreTestingSelection:RestoreTestingSelection": {usage: use("tests of a restore", "recovery point", func(p prices) float64 { return p.restoreTest })},
}
