package preview

import "slices"

// replaces says whether AWS makes another resource when the input changes. The table holds the inputs that name or place the stateful
// types; whatever is not in it counts as changed in place.
func replaces(token, property string) bool { return slices.Contains(replacing[token], property) }

var replacing = map[string][]string{
	"aws:ec2/vpc:Vpc":                                      {"cidrBlock", "ipv4IpamPoolId"},
	"aws:ec2/subnet:Subnet":                                {"cidrBlock", "availabilityZone", "vpcId"},
	"aws:ec2/securityGroup:SecurityGroup":                  {"name", "namePrefix", "description", "vpcId"},
	"aws:kms/key:Key":                                      {"customerMasterKeySpec", "keyUsage", "multiRegion", "customKeyStoreId"},
	"aws:kms/replicaKey:ReplicaKey":                        {"primaryKeyArn"},
	"aws:acmpca/certificateAuthority:CertificateAuthority": {"certificateAuthorityConfiguration", "type", "usageMode", "keyStorageSecurityStandard"},
	"aws:acmpca/certificate:Certificate":                   {"certificateAuthorityArn", "certificateSigningRequest", "signingAlgorithm", "validity", "templateArn"},
	"aws:eks/cluster:Cluster":                              {"name", "roleArn", "bootstrapSelfManagedAddons", "encryptionConfig", "kubernetesNetworkConfig"},
	"aws:eks/nodeGroup:NodeGroup":                          {"clusterName", "nodeGroupName", "subnetIds", "instanceTypes", "capacityType", "amiType", "diskSize"},
	"aws:rds/cluster:Cluster": {
		"clusterIdentifier", "availabilityZones", "databaseName", "dbSubnetGroupName", "engine", "engineMode", "kmsKeyId", "masterUsername",
		"snapshotIdentifier", "sourceRegion", "storageEncrypted",
	},
	"aws:rds/subnetGroup:SubnetGroup":       {"name", "namePrefix"},
	"aws:s3/bucketV2:BucketV2":              {"bucket", "bucketPrefix", "objectLockEnabled"},
	"aws:backup/vault:Vault":                {"name", "kmsKeyArn"},
	"aws:cloudtrail/trail:Trail":            {"name"},
	"aws:cloudwatch/logGroup:LogGroup":      {"name", "namePrefix", "logGroupClass"},
	"aws:route53/zone:Zone":                 {"name", "delegationSetId"},
	"aws:sns/topic:Topic":                   {"name", "namePrefix", "fifoTopic"},
	"aws:networkfirewall/firewall:Firewall": {"name", "vpcId"},
	"aws:lb/loadBalancer:LoadBalancer":      {"name", "namePrefix", "internal", "loadBalancerType"},
	"aws:iam/role:Role":                     {"name", "namePrefix", "path"},
	"aws:guardduty/detector:Detector":       {},
}
