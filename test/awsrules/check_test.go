package awsrules

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// in is a map of plain values; unset and computed stand for a missing and an unknown one.
type in map[string]any

var (
	unset    = struct{}{}
	computed = resource.Computed{Element: resource.NewProperty("")}
)

func plainOf(v any) any {
	switch v := v.(type) {
	case in:
		m := map[string]any{}
		for k, e := range v {
			if e != unset {
				m[k] = plainOf(e)
			}
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = plainOf(e)
		}
		return list
	}
	return v
}

// of makes a resource of a good one and changes.
func of(typ string, good, changes in) Resource {
	all := in{}
	maps.Copy(all, good)
	maps.Copy(all, changes)
	return Resource{Type: typ, Name: "it", Inputs: resource.NewPropertyMapFromMap(plainOf(all).(map[string]any))}
}

func problems(t *testing.T, resources ...Resource) []Problem {
	t.Helper()
	found, err := Check(resources)
	require.NoError(t, err)
	return found
}

const (
	keyARN  = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
	roleARN = "arn:aws:iam::123456789012:role/it"
	lbARN   = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/net/it/0123456789abcdef"
	tgARN   = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/it/0123456789abcdef"
	caARN   = "arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/11111111-2222-3333-4444-555555555555"
	trust   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	grants  = `{"Version":"2012-10-17","Statement":[{"Sid":"Read","Effect":"Allow","Action":["s3:GetObject"],"Resource":"arn:aws:s3:::it/*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}]}`
	shared  = `{"Version":"2012-10-17","Statement":[{"Sid":"For root","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"kms:*","Resource":"*"}]}`
)

// good are resources without a problem, by type.
var good = map[string]in{
	"aws:ec2/networkAcl:NetworkAcl":                             {"vpcId": "vpc-1", "ingress": []any{entry(100, "tcp", 443)}, "egress": []any{entry(100, "-1", 0)}},
	"aws:ec2/vpc:Vpc":                                           {"cidrBlock": "10.64.0.0/16", "enableDnsHostnames": true, "tags": in{"Name": "it"}},
	"aws:ec2/subnet:Subnet":                                     {"vpcId": "vpc-1", "cidrBlock": "10.64.0.0/24", "availabilityZone": "eu-central-1a"},
	"aws:ec2/route:Route":                                       {"routeTableId": "rtb-1", "destinationCidrBlock": "0.0.0.0/0", "gatewayId": "igw-1"},
	"aws:ec2/networkAclRule:NetworkAclRule":                     {"networkAclId": "acl-1", "ruleNumber": 100, "ruleAction": "allow", "protocol": "tcp", "cidrBlock": "10.64.0.0/16", "fromPort": 443, "toPort": 443},
	"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": {"securityGroupId": "sg-1", "ipProtocol": "tcp", "fromPort": 443, "toPort": 443, "referencedSecurityGroupId": "sg-2", "description": "a: b"},
	"aws:ec2/vpcEndpoint:VpcEndpoint":                           {"vpcId": "vpc-1", "serviceName": "com.amazonaws.eu-central-1.kms", "vpcEndpointType": "Interface", "privateDnsEnabled": true, "subnetIds": []any{"subnet-1"}},
	"aws:ec2/flowLog:FlowLog":                                   {"vpcId": "vpc-1", "logDestination": "arn:aws:logs:eu-central-1:123456789012:log-group:it", "iamRoleArn": roleARN, "trafficType": "ALL", "maxAggregationInterval": 60},
	"aws:ec2/launchTemplate:LaunchTemplate": {"vpcSecurityGroupIds": []any{"sg-1"}, "metadataOptions": in{"httpTokens": "required", "httpPutResponseHopLimit": 1},
		"blockDeviceMappings": []any{in{"deviceName": "/dev/xvda", "ebs": in{"encrypted": "true", "kmsKeyId": keyARN, "volumeType": "gp3", "volumeSize": 20}}}},
	"aws:eks/cluster:Cluster": {"name": "prod", "roleArn": roleARN, "version": "1.33", "vpcConfig": in{"subnetIds": []any{"subnet-1", "subnet-2"}, "endpointPrivateAccess": true, "endpointPublicAccess": false},
		"encryptionConfig": in{"provider": in{"keyArn": keyARN}, "resources": []any{"secrets"}}, "enabledClusterLogTypes": []any{"api", "audit"}},
	"aws:eks/nodeGroup:NodeGroup": {"clusterName": "prod", "nodeRoleArn": roleARN, "subnetIds": []any{"subnet-1"}, "scalingConfig": in{"minSize": 1, "maxSize": 3, "desiredSize": 2},
		"instanceTypes": []any{"m6i.large"}, "launchTemplate": in{"id": "lt-1", "version": "1"}, "labels": in{"ephemos.dev/zone": "dmz"}, "updateConfig": in{"maxUnavailable": 1}},
	"aws:eks/addon:Addon":              {"clusterName": "prod", "addonName": "vpc-cni", "addonVersion": "v1.20.1-eksbuild.1", "configurationValues": `{"env":{}}`, "resolveConflictsOnCreate": "OVERWRITE"},
	"aws:iam/role:Role":                {"assumeRolePolicy": trust},
	"aws:iam/rolePolicy:RolePolicy":    {"role": "it", "policy": grants},
	"aws:kms/key:Key":                  {"policy": shared, "enableKeyRotation": true, "deletionWindowInDays": 30, "description": "for it"},
	"aws:kms/alias:Alias":              {"name": "alias/it", "targetKeyId": "key-1"},
	"aws:lb/loadBalancer:LoadBalancer": {"loadBalancerType": "network", "internal": true, "subnets": []any{"subnet-1", "subnet-2"}, "securityGroups": []any{"sg-1"}},
	"aws:lb/targetGroup:TargetGroup": {"port": 30081, "protocol": "TCP", "vpcId": "vpc-1", "proxyProtocolV2": true, "preserveClientIp": "false",
		"healthCheck": in{"protocol": "TCP", "interval": 10, "timeout": 5, "port": "traffic-port"}},
	"aws:lb/listener:Listener":         {"loadBalancerArn": lbARN, "port": 8081, "protocol": "TCP", "defaultActions": []any{in{"type": "forward", "targetGroupArn": tgARN}}},
	"aws:lb/listenerRule:ListenerRule": {"listenerArn": lbARN, "priority": 1, "actions": []any{in{"type": "forward", "targetGroupArn": tgARN}}, "conditions": []any{in{"hostHeader": in{"values": []any{"web.example.org"}}}}},
	"aws:acmpca/certificateAuthority:CertificateAuthority": {"type": "ROOT", "permanentDeletionTimeInDays": 30, "usageMode": "GENERAL_PURPOSE",
		"certificateAuthorityConfiguration": in{"keyAlgorithm": "EC_prime256v1", "signingAlgorithm": "SHA256WITHECDSA", "subject": in{"commonName": "it"}}},
	"aws:acmpca/certificate:Certificate": {"certificateAuthorityArn": caARN, "certificateSigningRequest": "-----BEGIN CERTIFICATE REQUEST-----\nx\n-----END CERTIFICATE REQUEST-----\n", "signingAlgorithm": "SHA256WITHECDSA",
		"templateArn": "arn:aws:acm-pca:::template/RootCACertificate/V1", "validity": in{"type": "YEARS", "value": "10"}},
	"aws:networkfirewall/firewall:Firewall": {"name": "it", "vpcId": "vpc-1", "firewallPolicyArn": "arn:aws:network-firewall:eu-central-1:123456789012:firewall-policy/it", "subnetMappings": []any{in{"subnetId": "subnet-1"}}},
	"aws:networkfirewall/firewallPolicy:FirewallPolicy": {"name": "it", "firewallPolicy": in{"statelessDefaultActions": []any{"aws:forward_to_sfe"}, "statelessFragmentDefaultActions": []any{"aws:forward_to_sfe"},
		"statefulEngineOptions": in{"ruleOrder": "STRICT_ORDER"}, "statefulDefaultActions": []any{"aws:drop_established"},
		"statefulRuleGroupReferences": []any{in{"priority": 1, "resourceArn": "arn:aws:network-firewall:eu-central-1:123456789012:stateful-rulegroup/it"}}}},
	"aws:networkfirewall/ruleGroup:RuleGroup": {"name": "it", "type": "STATEFUL", "capacity": 100, "ruleGroup": in{"rulesSource": in{"rulesString": "pass tcp any any -> any any (sid:1;)\n"}, "statefulRuleOptions": in{"ruleOrder": "STRICT_ORDER"}}},
	"aws:rds/cluster:Cluster": {"clusterIdentifier": "it", "engine": "postgres", "engineVersion": "16.8", "dbClusterInstanceClass": "db.m6gd.large", "allocatedStorage": 100, "iops": 1000, "storageType": "io1",
		"storageEncrypted": true, "kmsKeyId": keyARN, "masterUsername": "spire", "manageMasterUserPassword": true, "skipFinalSnapshot": true, "backupRetentionPeriod": 14,
		"preferredBackupWindow": "02:00-03:00", "preferredMaintenanceWindow": "sun:04:00-sun:05:00", "enabledCloudwatchLogsExports": []any{"postgresql"}},
	"aws:rds/clusterParameterGroup:ClusterParameterGroup": {"name": "it", "family": "postgres16", "parameters": []any{in{"name": "rds.force_ssl", "value": "1"}}},
	"aws:route53/record:Record": {"zoneId": "Z1", "name": "spire-server", "type": "A", "setIdentifier": "primary", "failoverRoutingPolicies": []any{in{"type": "PRIMARY"}},
		"aliases": []any{in{"name": "it.elb.amazonaws.com", "zoneId": "Z2", "evaluateTargetHealth": true}}},
	"aws:route53/healthCheck:HealthCheck":                                    {"type": "CLOUDWATCH_METRIC", "cloudwatchAlarmName": "it", "cloudwatchAlarmRegion": "eu-central-1", "insufficientDataHealthStatus": "Unhealthy"},
	"aws:s3/bucketV2:BucketV2":                                               {"objectLockEnabled": true},
	"aws:s3/bucketPolicy:BucketPolicy":                                       {"bucket": "it-bucket", "policy": shared},
	"aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2":   {"bucket": "it-bucket", "rules": []any{in{"id": "old", "status": "Enabled", "filter": in{}, "transitions": []any{in{"days": 90, "storageClass": "GLACIER"}}, "expiration": in{"days": 365}}}},
	"aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2": {"bucket": "it-bucket", "rule": in{"defaultRetention": in{"mode": "COMPLIANCE", "days": 365}}},
	"aws:s3/bucketReplicationConfig:BucketReplicationConfig": {"bucket": "it-bucket", "role": roleARN, "rules": []any{in{"id": "all", "status": "Enabled", "priority": 1, "filter": in{}, "deleteMarkerReplication": in{"status": "Enabled"},
		"sourceSelectionCriteria": in{"sseKmsEncryptedObjects": in{"status": "Enabled"}}, "destination": in{"bucket": "arn:aws:s3:::copy", "encryptionConfiguration": in{"replicaKmsKeyId": keyARN}}}}},
	"aws:backup/plan:Plan":                             {"name": "it", "rules": []any{in{"ruleName": "daily", "targetVaultName": "it", "schedule": "cron(0 3 * * ? *)", "startWindow": 60, "completionWindow": 180, "lifecycle": in{"coldStorageAfter": 30, "deleteAfter": 365}}}},
	"aws:backup/restoreTestingPlan:RestoreTestingPlan": {"name": "it_plan", "scheduleExpression": "cron(0 5 ? * 1 *)", "recoveryPointSelection": in{"algorithm": "LATEST_WITHIN_WINDOW", "includeVaults": []any{"*"}, "recoveryPointTypes": []any{"SNAPSHOT"}}},
	"aws:cloudwatch/logGroup:LogGroup":                 {"name": "/aws/eks/prod/cluster", "retentionInDays": 365, "kmsKeyId": keyARN},
	"aws:cloudwatch/metricAlarm:MetricAlarm": {"comparisonOperator": "GreaterThanThreshold", "evaluationPeriods": 1, "metricName": "it", "namespace": "it", "period": 300, "statistic": "Sum", "threshold": 0,
		"alarmActions": []any{"arn:aws:sns:eu-central-1:123456789012:security"}},
	"aws:cloudwatch/eventRule:EventRule":            {"eventPattern": `{"source":["aws.guardduty"],"detail":{"severity":[{"numeric":[">=",7]}]}}`},
	"aws:cloudtrail/trail:Trail":                    {"name": "prod-trail", "s3BucketName": "it-bucket", "kmsKeyId": keyARN, "isMultiRegionTrail": true},
	"aws:sns/topicSubscription:TopicSubscription":   {"topic": "arn:aws:sns:eu-central-1:123456789012:security", "protocol": "email", "endpoint": "security@example.org"},
	"aws:guardduty/detectorFeature:DetectorFeature": {"detectorId": "abc", "name": "RUNTIME_MONITORING", "status": "ENABLED", "additionalConfigurations": []any{in{"name": "EKS_ADDON_MANAGEMENT", "status": "ENABLED"}}},
	"aws:wafv2/webAcl:WebAcl":                       {"scope": "REGIONAL", "defaultAction": in{"allow": in{}}, "visibilityConfig": in{"cloudwatchMetricsEnabled": true, "metricName": "it", "sampledRequestsEnabled": true}, "ruleJson": wafRule("")},
}

// entry is one of a network ACL.
func entry(number int, protocol string, port int) in {
	return in{"ruleNo": number, "action": "allow", "protocol": protocol, "cidrBlock": "10.64.0.0/16", "fromPort": port, "toPort": port}
}

func entries(n int) []any {
	var list []any
	for i := range n {
		list = append(list, entry(i+1, "tcp", 443))
	}
	return list
}

// wafRule is a rule in JSON, with a change of its text.
func wafRule(replace ...string) string {
	rule := `[{"Name":"common","Priority":1,"OverrideAction":{"None":{}},"Statement":{"ManagedRuleGroupStatement":{"VendorName":"AWS","Name":"AWSManagedRulesCommonRuleSet"}},` +
		`"VisibilityConfig":{"CloudWatchMetricsEnabled":true,"MetricName":"common","SampledRequestsEnabled":true}},` +
		`{"Name":"rate","Priority":2,"Action":{"Block":{}},"Statement":{"RateBasedStatement":{"Limit":1000,"AggregateKeyType":"IP"}},` +
		`"VisibilityConfig":{"CloudWatchMetricsEnabled":true,"MetricName":"rate","SampledRequestsEnabled":true}}]`
	if len(replace) == 2 {
		return strings.ReplaceAll(rule, replace[0], replace[1])
	}
	return rule
}

func TestGood(t *testing.T) {
	for typ, inputs := range good {
		for _, p := range problems(t, of(typ, inputs, nil)) {
			t.Error(p)
		}
	}
}

// TestBad changes one thing of a good resource.
func TestBad(t *testing.T) {
	for _, tc := range []struct {
		rule    Rule
		typ     string
		changes in
		path    string
	}{
		{RuleType, "aws:kms/key:Key", in{"rotation": true}, "rotation"},
		{RuleType, "aws:eks/nodeGroup:NodeGroup", in{"scalingConfig": in{"minSize": 1, "maxSize": 3, "desiredSize": 1, "wantedSize": 2}}, "scalingConfig.wantedSize"},
		{RuleType, "aws:lb/loadBalancer:LoadBalancer", in{"subnets": "subnet-1"}, "subnets"},
		{RuleType, "aws:rds/cluster:Cluster", in{"iops": in{"of": 1}}, "iops"},
		{RuleType, "aws:wafv2/webAcl:WebAcl", in{"ruleJson": wafRule("Limit", "Rate")}, "ruleJson[1].Statement.RateBasedStatement.Rate"},
		{RuleType, "aws:wafv2/webAcl:WebAcl", in{"ruleJson": wafRule("1000", `"1000"`)}, "ruleJson[1].Statement.RateBasedStatement.Limit"},

		{RuleRequired, "aws:ec2/subnet:Subnet", in{"vpcId": unset}, "vpcId"},
		{RuleRequired, "aws:eks/cluster:Cluster", in{"vpcConfig": in{"endpointPrivateAccess": true, "endpointPublicAccess": false}}, "vpcConfig.subnetIds"},
		{RuleRequired, "aws:eks/cluster:Cluster", in{"encryptionConfig": in{"provider": in{}, "resources": []any{"secrets"}}}, "encryptionConfig.provider.keyArn"},
		{RuleRequired, "aws:ec2/route:Route", in{"gatewayId": unset}, ""},
		{RuleRequired, "aws:networkfirewall/firewallPolicy:FirewallPolicy", in{"firewallPolicy": in{"statelessDefaultActions": []any{"aws:drop"}}}, "firewallPolicy.statelessFragmentDefaultActions"},
		{RuleRequired, "aws:wafv2/webAcl:WebAcl", in{"ruleJson": wafRule(`"MetricName":"rate",`, "")}, "ruleJson[1].VisibilityConfig.MetricName"},

		{RuleEnum, "aws:eks/addon:Addon", in{"resolveConflictsOnCreate": "PRESERVE"}, "resolveConflictsOnCreate"},
		{RuleEnum, "aws:eks/cluster:Cluster", in{"enabledClusterLogTypes": []any{"api", "kubelet"}}, "enabledClusterLogTypes[1]"},
		{RuleEnum, "aws:cloudwatch/logGroup:LogGroup", in{"retentionInDays": 100}, "retentionInDays"},
		{RuleEnum, "aws:guardduty/detectorFeature:DetectorFeature", in{"name": "EKS_AUDIT", "additionalConfigurations": unset}, "name"},
		{RuleEnum, "aws:acmpca/certificateAuthority:CertificateAuthority", in{"type": "LEAF"}, "type"},
		{RuleEnum, "aws:rds/cluster:Cluster", in{"dbClusterInstanceClass": "db.t3.medium"}, "dbClusterInstanceClass"},

		{RulePattern, "aws:kms/alias:Alias", in{"name": "it"}, "name"},
		{RulePattern, "aws:backup/restoreTestingPlan:RestoreTestingPlan", in{"name": unset}, "name"},
		{RulePattern, "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", in{"description": "a -> b"}, "description"},
		{RulePattern, "aws:acmpca/certificate:Certificate", in{"templateArn": "arn:aws:acm-pca:::template/SubordinateCACertificate/V1"}, "templateArn"},
		{RulePattern, "aws:backup/plan:Plan", in{"rules": []any{in{"ruleName": "daily", "targetVaultName": "it", "schedule": "0 3 * * *"}}}, "rules[0].schedule"},
		{RulePattern, "aws:rds/cluster:Cluster", in{"clusterIdentifier": "It"}, "clusterIdentifier"},

		{RuleLength, "aws:lb/targetGroup:TargetGroup", in{"name": strings.Repeat("a", 33)}, "name"},
		{RuleLength, "aws:iam/role:Role", in{"name": strings.Repeat("a", 65)}, "name"},
		{RuleLength, "aws:kms/key:Key", in{"description": strings.Repeat("a", 8193)}, "description"},
		{RuleLength, "aws:iam/rolePolicy:RolePolicy", in{"policy": strings.Replace(grants, "it/*", strings.Repeat("a", 10240), 1)}, "policy"},

		{RuleRange, "aws:kms/key:Key", in{"deletionWindowInDays": 3}, "deletionWindowInDays"},
		{RuleRange, "aws:ec2/networkAclRule:NetworkAclRule", in{"ruleNumber": 40000}, "ruleNumber"},
		{RuleRange, "aws:eks/nodeGroup:NodeGroup", in{"scalingConfig": in{"minSize": 3, "maxSize": 2, "desiredSize": 3}}, "scalingConfig"},
		{RuleRange, "aws:lb/targetGroup:TargetGroup", in{"healthCheck": in{"protocol": "TCP", "interval": 10, "timeout": 10}}, "healthCheck.timeout"},
		{RuleRange, "aws:backup/plan:Plan", in{"rules": []any{in{"ruleName": "daily", "targetVaultName": "it", "lifecycle": in{"coldStorageAfter": 30, "deleteAfter": 100}}}}, "rules[0].lifecycle.deleteAfter"},
		{RuleRange, "aws:rds/cluster:Cluster", in{"iops": 500}, "iops"},

		{RuleCount, "aws:eks/cluster:Cluster", in{"vpcConfig": in{"subnetIds": []any{"subnet-1"}}}, "vpcConfig.subnetIds"},
		{RuleCount, "aws:kms/key:Key", in{"tags": many(51)}, "tags"},
		{RuleCount, "aws:lb/loadBalancer:LoadBalancer", in{"securityGroups": []any{"a", "b", "c", "d", "e", "f"}}, "securityGroups"},

		{RuleExclusive, "aws:ec2/route:Route", in{"vpcEndpointId": "vpce-1"}, ""},
		{RuleExclusive, "aws:ec2/route:Route", in{"vpcEndpointId": computed}, ""},
		{RuleExclusive, "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", in{"cidrIpv4": "10.0.0.0/8"}, ""},
		{RuleExclusive, "aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2", in{"rule": in{"defaultRetention": in{"mode": "COMPLIANCE", "days": 1, "years": 1}}}, "rule.defaultRetention"},
		{RuleExclusive, "aws:wafv2/webAcl:WebAcl", in{"ruleJson": wafRule(`"Priority":2`, `"Priority":1`)}, "ruleJson[1]"},
		{RuleExclusive, "aws:wafv2/webAcl:WebAcl", in{"ruleJson": wafRule(`"Action":{"Block":{}},`, "")}, "ruleJson[1]"},
		{RuleExclusive, "aws:networkfirewall/ruleGroup:RuleGroup", in{"ruleGroup": in{"rulesSource": in{"rulesString": "pass ip any any -> any any (sid:1;)\ndrop ip any any -> any any (sid:1;)"}}}, "ruleGroup.rulesSource.rulesString"},

		{RuleExclusive, "aws:ec2/networkAcl:NetworkAcl", in{"ingress": []any{entry(100, "tcp", 443), entry(100, "tcp", 80)}}, "ingress[1].ruleNo"},

		{RuleQuota, "aws:ec2/networkAcl:NetworkAcl", in{"egress": entries(21)}, "egress"},
		{RuleQuota, "aws:cloudwatch/eventRule:EventRule", in{"eventPattern": `{"source":["` + strings.Repeat("a", 2048) + `"]}`}, "eventPattern"},

		{RuleDepends, "aws:ec2/networkAcl:NetworkAcl", in{"ingress": []any{entry(100, "-1", 443)}}, "ingress[0].fromPort"},
		{RuleDepends, "aws:lb/listener:Listener", in{"protocol": "TLS"}, "certificateArn"},
		{RuleDepends, "aws:lb/listener:Listener", in{"defaultActions": []any{in{"type": "fixed-response"}}}, "defaultActions[0].fixedResponse"},
		{RuleDepends, "aws:ec2/vpcEndpoint:VpcEndpoint", in{"serviceName": "com.amazonaws.eu-central-1.s3"}, "dnsOptions"},
		{RuleDepends, "aws:ec2/vpcEndpoint:VpcEndpoint", in{"vpcEndpointType": "Gateway"}, "subnetIds"},
		{RuleDepends, "aws:rds/cluster:Cluster", in{"skipFinalSnapshot": unset}, "finalSnapshotIdentifier"},
		{RuleDepends, "aws:rds/cluster:Cluster", in{"engine": "aurora-postgresql"}, "iops"},
		{RuleDepends, "aws:rds/cluster:Cluster", in{"preferredMaintenanceWindow": "sun:02:30-sun:03:30"}, "preferredMaintenanceWindow"},
		{RuleDepends, "aws:kms/key:Key", in{"keyUsage": "SIGN_VERIFY"}, "keyUsage"},
		{RuleDepends, "aws:route53/record:Record", in{"setIdentifier": unset}, "setIdentifier"},
		{RuleDepends, "aws:networkfirewall/firewallPolicy:FirewallPolicy", in{"firewallPolicy": in{"statelessDefaultActions": []any{"aws:drop"}, "statelessFragmentDefaultActions": []any{"aws:drop"},
			"statefulDefaultActions": []any{"aws:drop_strict"}}}, "firewallPolicy.statefulDefaultActions"},
		{RuleDepends, "aws:s3/bucketReplicationConfig:BucketReplicationConfig", in{"rules": []any{in{"status": "Enabled", "filter": in{}, "deleteMarkerReplication": in{"status": "Enabled"},
			"sourceSelectionCriteria": in{"sseKmsEncryptedObjects": in{"status": "Enabled"}}, "destination": in{"bucket": "arn:aws:s3:::copy"}}}}, "rules[0].destination.encryptionConfiguration"},

		{RuleCIDR, "aws:ec2/vpc:Vpc", in{"cidrBlock": "10.0.0.0/8"}, "cidrBlock"},
		{RuleCIDR, "aws:ec2/subnet:Subnet", in{"cidrBlock": "10.64.0.0/29"}, "cidrBlock"},
		{RuleCIDR, "aws:ec2/networkAclRule:NetworkAclRule", in{"cidrBlock": "10.64.1.0/16"}, "cidrBlock"},
		{RuleCIDR, "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", in{"referencedSecurityGroupId": unset, "cidrIpv4": "anyone"}, "cidrIpv4"},

		{RuleARN, "aws:eks/cluster:Cluster", in{"roleArn": "it"}, "roleArn"},
		{RuleARN, "aws:cloudwatch/logGroup:LogGroup", in{"kmsKeyId": roleARN}, "kmsKeyId"},
		{RuleARN, "aws:networkfirewall/firewall:Firewall", in{"firewallPolicyArn": "it"}, "firewallPolicyArn"},

		{RuleJSON, "aws:iam/role:Role", in{"assumeRolePolicy": `{"Version":"2012-10-17"`}, "assumeRolePolicy"},
		{RuleJSON, "aws:iam/role:Role", in{"assumeRolePolicy": strings.Replace(trust, `"Action"`, `"Resource":"*","Action"`, 1)}, "assumeRolePolicy"},
		{RuleJSON, "aws:iam/rolePolicy:RolePolicy", in{"policy": strings.Replace(grants, `"Bool"`, `"Boolean"`, 1)}, "policy"},
		{RuleJSON, "aws:iam/rolePolicy:RolePolicy", in{"policy": strings.Replace(grants, "s3:GetObject", "GetObject", 1)}, "policy"},
		{RuleJSON, "aws:s3/bucketPolicy:BucketPolicy", in{"policy": grants}, "policy"},
		{RuleJSON, "aws:kms/key:Key", in{"policy": strings.Replace(shared, "Allow", "Permit", 1)}, "policy"},
		{RuleJSON, "aws:eks/addon:Addon", in{"configurationValues": "env: {}"}, "configurationValues"},
		{RuleJSON, "aws:cloudwatch/eventRule:EventRule", in{"eventPattern": `{"source":"aws.guardduty"}`}, "eventPattern"},
	} {
		t.Run(string(tc.rule)+" "+tc.typ+" "+tc.path, func(t *testing.T) {
			require.NotNil(t, good[tc.typ])
			found := problems(t, of(tc.typ, good[tc.typ], tc.changes))
			assert.True(t, slices.ContainsFunc(found, func(p Problem) bool { return p.Rule == tc.rule && p.Path == tc.path && p.Source != "" }), "%v", found)
		})
	}
}

func many(n int) in {
	tags := in{}
	for i := range n {
		tags[string(rune('a'+i%26))+string(rune('a'+i/26))] = "x"
	}
	return tags
}

func TestAcross(t *testing.T) {
	named := func(name, typ string, changes in) Resource {
		r := of(typ, good[typ], changes)
		r.Name = name
		return r
	}
	const subnet, vpc, acl, listener = "aws:ec2/subnet:Subnet", "aws:ec2/vpc:Vpc", "aws:ec2/networkAclRule:NetworkAclRule", "aws:lb/listener:Listener"
	balancer := named("nlb", "aws:lb/loadBalancer:LoadBalancer", in{"name": "it"})
	group := named("tg", "aws:lb/targetGroup:TargetGroup", in{"name": "it"})
	elsewhere := named("two", "aws:sns/topicSubscription:TopicSubscription", nil)
	elsewhere.Provider = "backup"
	var quota []Resource
	for i := range quotaACLRules + 1 {
		quota = append(quota, named(string(rune('a'+i)), acl, in{"ruleNumber": i + 1}))
	}
	for name, tc := range map[string]struct {
		resources []Resource
		want      string // kind of rule and name of the resource, "" for none
	}{
		"apart":              {[]Resource{named("vpc", vpc, nil), named("a", subnet, in{"vpcId": "vpc-38faba71b3a6cfc9e"}), named("b", subnet, in{"vpcId": "vpc-38faba71b3a6cfc9e", "cidrBlock": "10.64.1.0/24"})}, ""},
		"overlap":            {[]Resource{named("a", subnet, nil), named("b", subnet, in{"cidrBlock": "10.64.0.128/25"})}, "across b"},
		"outside":            {[]Resource{named("vpc", vpc, nil), named("a", subnet, in{"vpcId": "vpc-38faba71b3a6cfc9e", "cidrBlock": "10.65.0.0/24"})}, "across a"},
		"number twice":       {[]Resource{named("a", acl, nil), named("b", acl, in{"ruleAction": "deny"})}, "across b"},
		"number out and in":  {[]Resource{named("a", acl, nil), named("b", acl, in{"egress": true})}, ""},
		"names by prefix":    {[]Resource{named("a", "aws:eks/nodeGroup:NodeGroup", in{"nodeGroupNamePrefix": "a-"}), named("b", "aws:eks/nodeGroup:NodeGroup", in{"nodeGroupNamePrefix": "b-"})}, ""},
		"unknown list":       {[]Resource{named("a", acl, in{"networkAclId": computed}), named("b", acl, in{"networkAclId": computed})}, ""},
		"too many":           {quota, "quota a"},
		"two regions":        {[]Resource{named("one", "aws:sns/topicSubscription:TopicSubscription", nil), elsewhere}, ""},
		"one region":         {[]Resource{named("one", "aws:sns/topicSubscription:TopicSubscription", nil), named("two", "aws:sns/topicSubscription:TopicSubscription", nil)}, "across two"},
		"one port":           {[]Resource{named("a", listener, nil), named("b", listener, nil)}, "across b"},
		"protocol of kind":   {[]Resource{balancer, group, named("a", listener, nil)}, ""},
		"protocol not of it": {[]Resource{balancer, group, named("a", listener, in{"protocol": "HTTP"})}, "across a"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, p := range problems(t, tc.resources...) {
				got = append(got, string(p.Rule)+" "+p.Name)
			}
			if tc.want == "" {
				assert.Empty(t, got)
			} else {
				assert.Contains(t, got, tc.want)
			}
		})
	}
}

// TestSecretsAreChecked and not shown.
func TestSecretsAreChecked(t *testing.T) {
	inputs := resource.NewPropertyMapFromMap(plainOf(good["aws:sns/topicSubscription:TopicSubscription"]).(map[string]any))
	inputs["topic"] = resource.MakeSecret(resource.NewProperty("hidden"))
	found := problems(t, Resource{Type: "aws:sns/topicSubscription:TopicSubscription", Name: "it", Inputs: inputs})
	require.NotEmpty(t, found)
	for _, p := range found {
		assert.NotContains(t, p.String(), "hidden")
	}
}

func TestOthersAreLeftOut(t *testing.T) {
	assert.Empty(t, problems(t, Resource{Type: "kubernetes:core/v1:Pod", Name: "it", Inputs: resource.PropertyMap{}}))
	assert.NotEmpty(t, problems(t, Resource{Type: "aws:kms/nothing:Nothing", Name: "it", Inputs: resource.PropertyMap{}}))
}
