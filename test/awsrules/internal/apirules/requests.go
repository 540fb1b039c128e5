package main

// request is one request of AWS that a resource becomes. renames leads from the path of an input to the member of the request where
// the names differ; an empty member says that the input is no part of it although it has a member's name.
type request struct {
	service, operation string
	renames            map[string]string
}

// to is a request with renames as pairs.
func to(service, operation string, renames ...string) request {
	r := request{service, operation, map[string]string{}}
	for i := 0; i < len(renames); i += 2 {
		r.renames[renames[i]] = renames[i+1]
	}
	return r
}

// requests are those of every type that the stand-in of AWS knows and that AWS says something of.
var requests = map[string][]request{
	"aws:acm/certificate:Certificate":    {to("acm", "RequestCertificate", "validationOptions", "DomainValidationOptions")},
	"aws:acmpca/certificate:Certificate": {to("acm-pca", "IssueCertificate", "apiPassthrough", "", "certificateSigningRequest", "")},
	"aws:acmpca/certificateAuthority:CertificateAuthority": {
		to("acm-pca", "CreateCertificateAuthority", "type", "CertificateAuthorityType"),
		to("acm-pca", "DeleteCertificateAuthority"),
	},
	"aws:acmpca/certificateAuthorityCertificate:CertificateAuthorityCertificate": {to("acm-pca", "ImportCertificateAuthorityCertificate", "certificate", "", "certificateChain", "")},
	"aws:acmpca/permission:Permission":                                           {to("acm-pca", "CreatePermission")},
	"aws:acmpca/policy:Policy":                                                   {to("acm-pca", "PutPolicy")},
	"aws:autoscaling/attachment:Attachment":                                      {to("autoscaling", "AttachLoadBalancerTargetGroups")},
	"aws:backup/plan:Plan":                                                       {to("backup", "CreateBackupPlan/BackupPlan", "name", "BackupPlanName", "rules.completionWindow", "CompletionWindowMinutes", "rules.startWindow", "StartWindowMinutes", "rules.targetVaultName", "TargetBackupVaultName", "rules.schedule", "ScheduleExpression", "rules.copyActions.destinationVaultArn", "DestinationBackupVaultArn")},
	"aws:backup/restoreTestingPlan:RestoreTestingPlan":                           {to("backup", "CreateRestoreTestingPlan/RestoreTestingPlan", "name", "RestoreTestingPlanName")},
	"aws:backup/restoreTestingSelection:RestoreTestingSelection":                 {to("backup", "CreateRestoreTestingSelection/RestoreTestingSelection", "name", "RestoreTestingSelectionName")},
	"aws:backup/selection:Selection":                                             {to("backup", "CreateBackupSelection/BackupSelection", "name", "SelectionName", "selectionTags", "ListOfTags", "selectionTags.type", "ConditionType", "selectionTags.key", "ConditionKey", "selectionTags.value", "ConditionValue", "conditions.stringEquals.key", "ConditionKey")},
	"aws:backup/vault:Vault":                                                     {to("backup", "CreateBackupVault", "name", "BackupVaultName", "kmsKeyArn", "EncryptionKeyArn")},
	"aws:backup/vaultLockConfiguration:VaultLockConfiguration":                   {to("backup", "PutBackupVaultLockConfiguration")},
	"aws:backup/vaultPolicy:VaultPolicy":                                         {to("backup", "PutBackupVaultAccessPolicy")},
	"aws:cfg/deliveryChannel:DeliveryChannel":                                    {to("config", "PutDeliveryChannel/DeliveryChannel", "snapshotDeliveryProperties", "configSnapshotDeliveryProperties")},
	"aws:cfg/recorder:Recorder":                                                  {to("config", "PutConfigurationRecorder/ConfigurationRecorder", "recordingMode.recordingModeOverride", "recordingModeOverrides", "recordingGroup.recordingStrategies", "recordingStrategy")},
	"aws:cfg/recorderStatus:RecorderStatus":                                      {to("config", "StartConfigurationRecorder", "name", "ConfigurationRecorderName")},
	"aws:cloudtrail/trail:Trail": {
		to("cloudtrail", "CreateTrail"),
		to("cloudtrail", "PutEventSelectors"),
		to("cloudtrail", "PutInsightSelectors"),
	},
	"aws:cloudwatch/eventRule:EventRule":     {to("events", "PutRule")},
	"aws:cloudwatch/eventTarget:EventTarget": {to("events", "PutTargets"), to("events", "PutRule", "rule", "Name", "arn", "", "roleArn", "")},
	"aws:cloudwatch/logGroup:LogGroup":       {to("logs", "CreateLogGroup", "name", "logGroupName")},
	"aws:cloudwatch/logMetricFilter:LogMetricFilter": {to("logs", "PutMetricFilter", "name", "filterName", "pattern", "filterPattern", "metricTransformation", "metricTransformations", "metricTransformation.name", "metricName",
		"metricTransformation.namespace", "metricNamespace", "metricTransformation.value", "metricValue")},
	"aws:cloudwatch/logResourcePolicy:LogResourcePolicy": {to("logs", "PutResourcePolicy")},
	"aws:cloudwatch/metricAlarm:MetricAlarm":             {to("cloudwatch", "PutMetricAlarm", "name", "AlarmName", "metricQueries", "Metrics", "metricQueries.metric", "MetricStat", "evaluateLowSampleCountPercentiles", "EvaluateLowSampleCountPercentile")},

	"aws:ec2/vpc:Vpc":                       {to("ec2", "CreateVpc")},
	"aws:ec2/subnet:Subnet":                 {to("ec2", "CreateSubnet")},
	"aws:ec2/eip:Eip":                       {to("ec2", "AllocateAddress")},
	"aws:ec2/natGateway:NatGateway":         {to("ec2", "CreateNatGateway")},
	"aws:ec2/networkAclRule:NetworkAclRule": {to("ec2", "CreateNetworkAclEntry")},
	"aws:ec2/vpcEndpoint:VpcEndpoint":       {to("ec2", "CreateVpcEndpoint")},
	"aws:ec2/flowLog:FlowLog":               {to("ec2", "CreateFlowLogs")},
	"aws:ec2/launchTemplate:LaunchTemplate": {to("ec2", "CreateLaunchTemplate", "name", "LaunchTemplateName", "description", "VersionDescription"), to("ec2", "CreateLaunchTemplate/LaunchTemplateData")},

	"aws:eks/cluster:Cluster":                                 {to("eks", "CreateCluster", "vpcConfig", "resourcesVpcConfig", "enabledClusterLogTypes", "")},
	"aws:eks/nodeGroup:NodeGroup":                             {to("eks", "CreateNodegroup", "nodeGroupName", "nodegroupName", "subnetIds", "subnets", "nodeRoleArn", "nodeRole")},
	"aws:eks/addon:Addon":                                     {to("eks", "CreateAddon", "resolveConflictsOnCreate", "resolveConflicts", "resolveConflicts", "")},
	"aws:eks/accessEntry:AccessEntry":                         {to("eks", "CreateAccessEntry")},
	"aws:eks/accessPolicyAssociation:AccessPolicyAssociation": {to("eks", "AssociateAccessPolicy")},
	"aws:eks/podIdentityAssociation:PodIdentityAssociation":   {to("eks", "CreatePodIdentityAssociation")},

	"aws:guardduty/detector:Detector":                           {to("guardduty", "CreateDetector")},
	"aws:guardduty/detectorFeature:DetectorFeature":             {to("guardduty", "UpdateDetector/Features", "additionalConfigurations", "AdditionalConfiguration")},
	"aws:guardduty/publishingDestination:PublishingDestination": {to("guardduty", "CreatePublishingDestination")},

	"aws:iam/role:Role":                                 {to("iam", "CreateRole", "name", "RoleName", "assumeRolePolicy", "AssumeRolePolicyDocument")},
	"aws:iam/policy:Policy":                             {to("iam", "CreatePolicy", "name", "PolicyName", "policy", "PolicyDocument")},
	"aws:iam/rolePolicy:RolePolicy":                     {to("iam", "PutRolePolicy", "name", "PolicyName", "policy", "PolicyDocument", "role", "RoleName")},
	"aws:iam/rolePolicyAttachment:RolePolicyAttachment": {to("iam", "AttachRolePolicy", "role", "RoleName")},
	"aws:iam/instanceProfile:InstanceProfile":           {to("iam", "CreateInstanceProfile", "name", "InstanceProfileName")},
	"aws:iam/serviceLinkedRole:ServiceLinkedRole":       {to("iam", "CreateServiceLinkedRole")},

	"aws:kms/key:Key": {
		to("kms", "CreateKey", "customerMasterKeySpec", "KeySpec"),
		to("kms", "ScheduleKeyDeletion", "deletionWindowInDays", "PendingWindowInDays"),
		to("kms", "EnableKeyRotation"),
	},
	"aws:kms/replicaKey:ReplicaKey": {to("kms", "ReplicateKey"), to("kms", "ScheduleKeyDeletion", "deletionWindowInDays", "PendingWindowInDays")},
	"aws:kms/alias:Alias":           {to("kms", "CreateAlias", "name", "AliasName")},
	"aws:kms/keyPolicy:KeyPolicy":   {to("kms", "PutKeyPolicy")},

	"aws:lb/loadBalancer:LoadBalancer": {to("elbv2", "CreateLoadBalancer", "loadBalancerType", "Type")},
	"aws:lb/targetGroup:TargetGroup":   {to("elbv2", "CreateTargetGroup", "healthCheck.port", "")},
	"aws:lb/listener:Listener": {to("elbv2", "CreateListener", "defaultActions.redirect", "RedirectConfig", "defaultActions.fixedResponse", "FixedResponseConfig", "defaultActions.forward", "ForwardConfig",
		"defaultActions.authenticateOidc", "AuthenticateOidcConfig", "defaultActions.authenticateCognito", "AuthenticateCognitoConfig", "alpnPolicy", "", "mutualAuthentication.advertiseTrustStoreCaNames", "AdvertiseTrustStoreCaNames")},
	"aws:lb/listenerRule:ListenerRule": {to("elbv2", "CreateRule", "actions.redirect", "RedirectConfig", "actions.fixedResponse", "FixedResponseConfig", "actions.forward", "ForwardConfig",
		"actions.authenticateOidc", "AuthenticateOidcConfig", "actions.authenticateCognito", "AuthenticateCognitoConfig")},

	"aws:networkfirewall/firewall:Firewall":                         {to("network-firewall", "CreateFirewall", "name", "FirewallName")},
	"aws:networkfirewall/firewallPolicy:FirewallPolicy":             {to("network-firewall", "CreateFirewallPolicy", "name", "FirewallPolicyName")},
	"aws:networkfirewall/ruleGroup:RuleGroup":                       {to("network-firewall", "CreateRuleGroup", "name", "RuleGroupName")},
	"aws:networkfirewall/loggingConfiguration:LoggingConfiguration": {to("network-firewall", "UpdateLoggingConfiguration")},

	"aws:rds/cluster:Cluster": {to("rds", "CreateDBCluster", "clusterIdentifier", "DBClusterIdentifier", "iamDatabaseAuthenticationEnabled", "EnableIAMDatabaseAuthentication", "performanceInsightsEnabled", "EnablePerformanceInsights",
		"clusterScalabilityType", "ClusterScalabilityType")},
	"aws:rds/clusterInstance:ClusterInstance":             {to("rds", "CreateDBInstance", "identifier", "DBInstanceIdentifier", "clusterIdentifier", "DBClusterIdentifier")},
	"aws:rds/clusterParameterGroup:ClusterParameterGroup": {to("rds", "CreateDBClusterParameterGroup", "name", "DBClusterParameterGroupName", "family", "DBParameterGroupFamily"), to("rds", "ModifyDBClusterParameterGroup", "parameters.name", "ParameterName", "parameters.value", "ParameterValue")},
	"aws:rds/parameterGroup:ParameterGroup":               {to("rds", "CreateDBParameterGroup", "name", "DBParameterGroupName", "family", "DBParameterGroupFamily"), to("rds", "ModifyDBParameterGroup", "parameters.name", "ParameterName", "parameters.value", "ParameterValue")},
	"aws:rds/subnetGroup:SubnetGroup":                     {to("rds", "CreateDBSubnetGroup", "name", "DBSubnetGroupName")},
	"aws:rds/eventSubscription:EventSubscription":         {to("rds", "CreateEventSubscription", "name", "SubscriptionName")},

	"aws:route53/zone:Zone":                                                                 {to("route53", "CreateHostedZone")},
	"aws:route53/record:Record":                                                             {to("route53", "ChangeResourceRecordSets/ChangeBatch/Changes/ResourceRecordSet", "records", "", "aliases", "AliasTarget", "aliases.name", "DNSName", "aliases.zoneId", "HostedZoneId")},
	"aws:route53/healthCheck:HealthCheck":                                                   {to("route53", "CreateHealthCheck/HealthCheckConfig", "fqdn", "FullyQualifiedDomainName", "childHealthThreshold", "HealthThreshold", "childHealthchecks", "ChildHealthChecks", "invertHealthcheck", "Inverted", "enableSni", "EnableSNI")},
	"aws:route53/resolverQueryLogConfig:ResolverQueryLogConfig":                             {to("route53resolver", "CreateResolverQueryLogConfig")},
	"aws:route53/resolverQueryLogConfigAssociation:ResolverQueryLogConfigAssociation":       {to("route53resolver", "AssociateResolverQueryLogConfig")},
	"aws:route53/resolverFirewallRuleGroup:ResolverFirewallRuleGroup":                       {to("route53resolver", "CreateFirewallRuleGroup")},
	"aws:route53/resolverFirewallRule:ResolverFirewallRule":                                 {to("route53resolver", "CreateFirewallRule", "qType", "Qtype")},
	"aws:route53/resolverFirewallDomainList:ResolverFirewallDomainList":                     {to("route53resolver", "CreateFirewallDomainList"), to("route53resolver", "UpdateFirewallDomains")},
	"aws:route53/resolverFirewallRuleGroupAssociation:ResolverFirewallRuleGroupAssociation": {to("route53resolver", "AssociateFirewallRuleGroup")},
	"aws:route53/resolverFirewallConfig:ResolverFirewallConfig":                             {to("route53resolver", "UpdateFirewallConfig")},

	"aws:s3/bucketVersioningV2:BucketVersioningV2":                           {to("s3", "PutBucketVersioning", "versioningConfiguration.status", "", "versioningConfiguration.mfaDelete", "MFADelete")},
	"aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2": {to("s3", "PutObjectLockConfiguration/ObjectLockConfiguration")},
	"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2": {to("s3", "PutBucketEncryption/ServerSideEncryptionConfiguration",
		"rules.applyServerSideEncryptionByDefault.kmsMasterKeyId", "KMSMasterKeyID", "rules.applyServerSideEncryptionByDefault.sseAlgorithm", "SSEAlgorithm")},
	"aws:s3/bucketOwnershipControls:BucketOwnershipControls":               {to("s3", "PutBucketOwnershipControls/OwnershipControls")},
	"aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2": {to("s3", "PutBucketLifecycleConfiguration/LifecycleConfiguration")},
	"aws:s3/bucketLoggingV2:BucketLoggingV2":                               {to("s3", "PutBucketLogging/BucketLoggingStatus/LoggingEnabled")},
	"aws:s3/bucketReplicationConfig:BucketReplicationConfig":               {to("s3", "PutBucketReplication/ReplicationConfiguration")},

	"aws:securityhub/account:Account":                             {to("securityhub", "EnableSecurityHub")},
	"aws:securityhub/standardsSubscription:StandardsSubscription": {to("securityhub", "BatchEnableStandards")},
	"aws:sns/topicSubscription:TopicSubscription":                 {to("sns", "Subscribe")},
	"aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule":     {to("ec2", "AuthorizeSecurityGroupEgress")},
	"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule":   {to("ec2", "AuthorizeSecurityGroupIngress")},

	"aws:wafv2/webAcl:WebAcl":                                         {to("wafv2", "CreateWebACL", "rules", "")},
	"aws:wafv2/webAclAssociation:WebAclAssociation":                   {to("wafv2", "AssociateWebACL")},
	"aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration": {to("wafv2", "PutLoggingConfiguration/LoggingConfiguration")},
	"aws:wafv2/ipSet:IpSet":                                           {to("wafv2", "CreateIPSet")},
}
