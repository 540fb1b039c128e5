package vpc

import (
	"fmt"
	"slices"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
)

// flowLogFormat are the fields of a record. Beside AWS' own choice they tell what was behind a translated address, and which way and
// through what a packet went.
const flowLogFormat = "${version} ${account-id} ${vpc-id} ${subnet-id} ${interface-id} ${az-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} " +
	"${pkt-srcaddr} ${pkt-dstaddr} ${protocol} ${tcp-flags} ${packets} ${bytes} ${start} ${end} ${action} ${log-status} ${flow-direction} ${traffic-path}"

// flowLogInterval is the shortest time, in seconds, after which AWS writes down what it saw.
const flowLogInterval = 60

// logGroup makes an encrypted log group. Its name begins as AWS wants it for the records of its own services, whose permissions
// otherwise outgrow the account's policy of logs.
func (m maker) logGroup(kind string) (*cloudwatch.LogGroup, error) {
	return cloudwatch.NewLogGroup(m.ctx, m.name+"-log-"+kind, &cloudwatch.LogGroupArgs{
		Name:     pulumi.Sprintf("/aws/vendedlogs/%s/%s/%s", m.ctx.Stack(), m.name, kind),
		KmsKeyId: m.args.FlowLogKeyARN.ToStringOutput(), RetentionInDays: pulumi.Int(m.args.LogRetentionDays),
		Tags: pulumi.StringMap{"Name": pulumi.Sprintf("%s-%s", m.name, kind), "DataClass": pulumi.String("logs")},
	}, m.protected...)
}

func (v *VPC) makeFlowLogs(m maker) error {
	group, err := m.logGroup("flow")
	if err != nil {
		return fmt.Errorf("log group: %w", err)
	}
	v.FlowLogGroupARN = group.Arn
	role, err := iam.NewRole(m.ctx, m.name+"-flow-role", &iam.RoleArgs{
		Description: pulumi.Sprintf("Writes the flow logs of %s", m.name),
		AssumeRolePolicy: iampolicy.Document(iampolicy.Statement{
			Sid: "FlowLogs", Principal: iampolicy.Service("vpc-flow-logs.amazonaws.com"), Action: "sts:AssumeRole",
			// No other account's flow logs may borrow the role.
			Condition: iampolicy.Condition{
				"StringEquals": {"aws:SourceAccount": m.args.AccountID},
				"ArnLike":      {"aws:SourceArn": fmt.Sprintf("arn:aws:ec2:%s:%s:vpc-flow-log/*", m.args.Region, m.args.AccountID)},
			},
		}),
	}, m.opts...)
	if err != nil {
		return fmt.Errorf("role: %w", err)
	}
	policy, err := iam.NewRolePolicy(m.ctx, m.name+"-flow-policy", &iam.RolePolicyArgs{
		Role: role.ID(),
		Policy: iampolicy.Document(iampolicy.Statement{
			Sid: "Write", Action: []string{"logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogGroups", "logs:DescribeLogStreams"},
			Resource: pulumi.Sprintf("%s:*", group.Arn),
		}),
	}, m.opts...)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	_, err = ec2.NewFlowLog(m.ctx, m.name+"-flow", &ec2.FlowLogArgs{
		VpcId: v.VPCID, TrafficType: pulumi.String("ALL"), MaxAggregationInterval: pulumi.Int(flowLogInterval), LogFormat: pulumi.String(flowLogFormat),
		LogDestinationType: pulumi.String("cloud-watch-logs"), LogDestination: group.Arn, IamRoleArn: role.Arn,
		Tags: pulumi.StringMap{"Name": pulumi.String(m.name)},
	}, append(slices.Clip(m.opts), pulumi.DependsOn([]pulumi.Resource{policy}))...)
	return err
}
