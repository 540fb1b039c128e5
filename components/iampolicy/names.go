package iampolicy

import "strings"

// Services are the prefixes of actions and the services in ARNs that a policy may name: those of the Service Authorization
// Reference (docs.aws.amazon.com/service-authorization/latest/reference) which a deployment of this kind could have to do with. A
// service that is missing is added here on purpose.
var Services = set(`
	access-analyzer account acm acm-pca airflow amplify apigateway appconfig application-autoscaling appmesh appsync athena auditmanager
	autoscaling autoscaling-plans backup backup-gateway backup-storage batch bedrock budgets cassandra ce chatbot cloud9 cloudformation
	cloudfront cloudhsm cloudtrail cloudtrail-data cloudwatch codeartifact codebuild codecommit codedeploy codepipeline cognito-identity
	cognito-idp compute-optimizer config connect controltower cur datasync dax detective directconnect dlm dms docdb-elastic ds dynamodb
	ebs ec2 ec2-instance-connect ec2messages ecr ecr-public ecs eks eks-auth elasticache elasticbeanstalk elasticfilesystem
	elasticloadbalancing elasticmapreduce es events evidently execute-api firehose fis fms fsx globalaccelerator glue grafana guardduty
	health iam identitystore imagebuilder inspector inspector2 internetmonitor iot kafka kafka-cluster kendra kinesis kinesisanalytics
	kms lakeformation lambda license-manager lightsail logs macie2 memorydb monitoring mq neptune-db network-firewall networkmanager
	notifications oam observabilityadmin organizations osis outposts payment-cryptography pi pipes pricing quicksight ram rds rds-data
	rds-db redshift redshift-data redshift-serverless resource-explorer-2 resource-groups rolesanywhere route53 route53domains
	route53resolver s3 s3-object-lambda s3-outposts s3express s3tables sagemaker savingsplans scheduler schemas sdb secretsmanager
	securityhub securitylake serverlessrepo servicecatalog servicediscovery servicequotas ses shield signer signin sns sqs ssm
	ssm-incidents ssmmessages sso states storagegateway sts support swf synthetics tag timestream transfer trustedadvisor verifiedpermissions
	vpc-lattice waf waf-regional wafv2 wellarchitected workspaces xray`)

// globalKeys are the keys of conditions that AWS has for all services
// (docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html). Case does not count.
var globalKeys = set(strings.ToLower(`
	AssumedRoot CalledVia CalledViaAWSMCP CalledViaFirst CalledViaLast ChatbotSourceArn CurrentTime Ec2InstanceSourceVpc
	Ec2InstanceSourcePrivateIPv4 EpochTime FederatedProvider IsMcpServiceAction MultiFactorAuthAge MultiFactorAuthPresent PrincipalAccount
	PrincipalArn PrincipalIsAWSService PrincipalOrgID PrincipalOrgPaths PrincipalServiceName PrincipalServiceNamesList PrincipalTag
	PrincipalType Referer RequestedRegion RequestTag ResourceAccount ResourceOrgID ResourceOrgPaths ResourceTag SecureTransport
	SourceAccount SourceArn SourceIdentity SourceIp SourceOrgID SourceOrgPaths SourceVpc SourceVpcArn SourceVpce TagKeys TokenIssueTime
	UserAgent userid username ViaAWSService VpceAccount VpceOrgID VpceOrgPaths VpcSourceIp`))

func set(words string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		out[w] = true
	}
	return out
}
