// Package inspection puts AWS Network Firewall between the first and the second tier of the zone model: everything that goes from a
// subnet of the one to a subnet of the other passes it, in both directions.
//
// In: the network, the plan of its addresses, the model, where logs are encrypted. Out: a firewall with an endpoint in each
// availability zone, whose rules are those of components/network, what it saw in two log groups, and the routes to it.
//
// # Routes
//
// Network Firewall must see both directions of a connection at the same endpoint. A connection between the availability zones of the
// two tiers could take either's. It always takes that of the outer tier's: the route from the inner tier's subnet leads to the endpoint
// of the availability zone of the destination, not its own. AWS takes a route that is narrower than the VPC's own only if it is to a
// whole subnet, so there is one for each pair. The public subnets are of the outer tier's range and have theirs too, although nothing
// in them may open a connection across.
//
// # What follows
//
// Security groups cannot name each other across the firewall (network.Inspected). Endpoints of the firewall hand on packets of up to
// 8500 bytes, drop larger ones, and tell nobody
// (https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/gateway-load-balancers.html): the pods' network must not
// use larger ones (MaxMTU).
package inspection

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/networkfirewall"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/network/vpc"
	"ephemos.dev/deploy/components/zones"
)

// MaxMTU is the size in bytes of the largest packet that passes the firewall. Interfaces of AWS have 9001 unless told otherwise.
const MaxMTU = 8500

// defaultCapacity is what AWS is to reserve for the rules. It is a round number, and not what the rules take, because a change of it
// makes a new rule group.
const defaultCapacity = 1000

// maxCapacity is what AWS allows a rule group.
const maxCapacity = 30_000

// Args are the arguments of New.
type Args struct {
	// VPC is the network. Required.
	VPC *vpc.VPC
	// Plan is the addresses of the network. Required.
	Plan network.Plan
	// Model is the zones. Required.
	Model zones.Model
	// LogKeyARN is the key that encrypts the logs. CloudWatch Logs must be allowed to use it. Required.
	LogKeyARN pulumi.StringInput
	// LogRetentionDays is for how long logs are kept. Required: one of the numbers that CloudWatch Logs takes.
	LogRetentionDays int
	// KeyARN is the key that encrypts the firewall's configuration. Nil means a key of AWS' own.
	KeyARN pulumi.StringInput
	// Capacity is what is reserved for the rules, which may become as many. It can never be changed in place. Default 1000.
	Capacity int
	// Protect guards the firewall and its logs against deletion, and the firewall against another policy and other subnets.
	Protect bool
}

// Inspection is the firewall.
type Inspection struct {
	pulumi.ResourceState

	// FirewallARN, PolicyARN and RuleGroupARN are its parts.
	FirewallARN  pulumi.StringOutput `pulumi:"firewallArn"`
	PolicyARN    pulumi.StringOutput `pulumi:"policyArn"`
	RuleGroupARN pulumi.StringOutput `pulumi:"ruleGroupArn"`
	// AlertLogGroupARN and FlowLogGroupARN are where it writes what matched a rule, and which connections there were.
	AlertLogGroupARN pulumi.StringOutput `pulumi:"alertLogGroupArn"`
	FlowLogGroupARN  pulumi.StringOutput `pulumi:"flowLogGroupArn"`
	// AlertLogGroup is the name of the first of them.
	AlertLogGroup pulumi.StringOutput `pulumi:"alertLogGroup"`
}

func (a Args) validate() (network.RuleSet, error) {
	var problems []error
	if a.VPC == nil {
		problems = append(problems, errors.New(`vpc: "" is not allowed: it must be set`))
	}
	if a.LogKeyARN == nil {
		problems = append(problems, errors.New(`logKeyARN: "" is not allowed: it must be set`))
	}
	if err := a.Plan.Validate(); err != nil {
		problems = append(problems, fmt.Errorf("plan: %w", err))
	}
	problems = append(problems, network.CheckRetention("logRetentionDays", a.LogRetentionDays))
	rules, err := network.Rules(a.Model, network.NetworkFirewall)
	problems = append(problems, err)
	if least := len(rules.Rules); a.Capacity < least || a.Capacity > maxCapacity {
		problems = append(problems, fmt.Errorf("capacity: \"%d\" is not allowed: it must be %d, which the rules need, to %d", a.Capacity, least, maxCapacity))
	}
	return rules, errors.Join(problems...)
}

// New makes the firewall and the routes to it.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Inspection, error) {
	if args == nil {
		args = &Args{}
	}
	a := *args
	if a.Capacity == 0 {
		a.Capacity = defaultCapacity
	}
	rules, err := a.validate()
	if err != nil {
		return nil, fmt.Errorf("inspection %s: %w", name, err)
	}
	self := &Inspection{}
	props := pulumi.Map{"capacity": pulumi.Int(a.Capacity), "rules": pulumi.Int(len(rules.Rules)), "logRetentionDays": pulumi.Int(a.LogRetentionDays)}
	if err := ctx.RegisterComponentResourceV2("ephemos:network:Inspection", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("inspection %s: %w", name, err)
	}
	err = self.provision(ctx, name, a, rules, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{
			"firewallArn": self.FirewallARN, "policyArn": self.PolicyARN, "ruleGroupArn": self.RuleGroupARN,
			"alertLogGroupArn": self.AlertLogGroupARN, "flowLogGroupArn": self.FlowLogGroupARN, "alertLogGroup": self.AlertLogGroup,
		}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("inspection %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

// The encryption of the firewall's parts. AWS has one type for each, which all say the same.
func (a Args) encryption() (kind pulumi.String, key pulumi.StringPtrInput) {
	if a.KeyARN == nil {
		return "AWS_OWNED_KMS_KEY", nil
	}
	return "CUSTOMER_KMS", a.KeyARN.ToStringOutput()
}

func (i *Inspection) provision(ctx *pulumi.Context, name string, a Args, rules network.RuleSet, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(i, opts)
	if err != nil {
		return err
	}
	protected := append(slices.Clone(inherited), pulumi.Protect(a.Protect))
	kind, key := a.encryption()

	sets := rules.Variables(a.Plan.Addresses())
	variables := networkfirewall.RuleGroupRuleGroupRuleVariablesIpSetArray{}
	for _, variable := range slices.Sorted(maps.Keys(sets)) {
		variables = append(variables, networkfirewall.RuleGroupRuleGroupRuleVariablesIpSetArgs{
			Key:   pulumi.String(variable),
			IpSet: networkfirewall.RuleGroupRuleGroupRuleVariablesIpSetIpSetArgs{Definitions: pulumi.ToStringArray(sets[variable])},
		})
	}
	group, err := networkfirewall.NewRuleGroup(ctx, name+"-rules", &networkfirewall.RuleGroupArgs{
		Type: pulumi.String("STATEFUL"), Capacity: pulumi.Int(a.Capacity), Description: pulumi.Sprintf("%s: rules from the zone model", name),
		RuleGroup: &networkfirewall.RuleGroupRuleGroupArgs{
			RulesSource:         networkfirewall.RuleGroupRuleGroupRulesSourceArgs{RulesString: pulumi.String(rules.Text())},
			RuleVariables:       networkfirewall.RuleGroupRuleGroupRuleVariablesArgs{IpSets: variables},
			StatefulRuleOptions: networkfirewall.RuleGroupRuleGroupStatefulRuleOptionsArgs{RuleOrder: pulumi.String("STRICT_ORDER")},
		},
		EncryptionConfiguration: networkfirewall.RuleGroupEncryptionConfigurationArgs{Type: kind, KeyId: key},
		Tags:                    pulumi.StringMap{"Name": pulumi.String(name)},
	}, inherited...)
	if err != nil {
		return fmt.Errorf("rule group: %w", err)
	}
	i.RuleGroupARN = group.Arn

	policy, err := networkfirewall.NewFirewallPolicy(ctx, name+"-policy", &networkfirewall.FirewallPolicyArgs{
		Description: pulumi.Sprintf("%s: what no rule passes is dropped", name),
		FirewallPolicy: networkfirewall.FirewallPolicyFirewallPolicyArgs{
			// Everything, fragments too, goes to the rules.
			StatelessDefaultActions:         pulumi.ToStringArray([]string{"aws:forward_to_sfe"}),
			StatelessFragmentDefaultActions: pulumi.ToStringArray([]string{"aws:forward_to_sfe"}),
			StatefulDefaultActions:          pulumi.ToStringArray(network.DefaultActions),
			StatefulEngineOptions: networkfirewall.FirewallPolicyFirewallPolicyStatefulEngineOptionsArgs{
				RuleOrder: pulumi.String("STRICT_ORDER"),
				// A connection whose beginning the firewall has not seen is none.
				StreamExceptionPolicy: pulumi.String("DROP"),
			},
			StatefulRuleGroupReferences: networkfirewall.FirewallPolicyFirewallPolicyStatefulRuleGroupReferenceArray{
				networkfirewall.FirewallPolicyFirewallPolicyStatefulRuleGroupReferenceArgs{Priority: pulumi.Int(1), ResourceArn: group.Arn},
			},
			PolicyVariables: networkfirewall.FirewallPolicyFirewallPolicyPolicyVariablesArgs{
				RuleVariables: networkfirewall.FirewallPolicyFirewallPolicyPolicyVariablesRuleVariableArray{
					networkfirewall.FirewallPolicyFirewallPolicyPolicyVariablesRuleVariableArgs{
						Key: pulumi.String("HOME_NET"),
						IpSet: networkfirewall.FirewallPolicyFirewallPolicyPolicyVariablesRuleVariableIpSetArgs{
							Definitions: pulumi.ToStringArray([]string{a.Plan.VPC.String()}),
						},
					},
				},
			},
		},
		EncryptionConfiguration: networkfirewall.FirewallPolicyEncryptionConfigurationArgs{Type: kind, KeyId: key},
		Tags:                    pulumi.StringMap{"Name": pulumi.String(name)},
	}, inherited...)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	i.PolicyARN = policy.Arn

	mappings := networkfirewall.FirewallSubnetMappingArray{}
	for _, id := range a.VPC.SubnetIDs(network.Firewall) {
		mappings = append(mappings, networkfirewall.FirewallSubnetMappingArgs{SubnetId: id})
	}
	firewall, err := networkfirewall.NewFirewall(ctx, name+"-firewall", &networkfirewall.FirewallArgs{
		VpcId: a.VPC.VPCID, FirewallPolicyArn: policy.Arn, SubnetMappings: mappings, Description: pulumi.Sprintf("%s: between DMZ and application", name),
		DeleteProtection: pulumi.Bool(a.Protect), SubnetChangeProtection: pulumi.Bool(a.Protect), FirewallPolicyChangeProtection: pulumi.Bool(a.Protect),
		EncryptionConfiguration: networkfirewall.FirewallEncryptionConfigurationArgs{Type: kind, KeyId: key},
		Tags:                    pulumi.StringMap{"Name": pulumi.String(name)},
	}, protected...)
	if err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	i.FirewallARN = firewall.Arn

	if err := i.logs(ctx, name, a, firewall, inherited, protected); err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	return routes(ctx, name, a, firewall, inherited)
}

// logs writes down what matched a rule and which connections there were.
func (i *Inspection) logs(ctx *pulumi.Context, name string, a Args, firewall *networkfirewall.Firewall, inherited, protected []pulumi.ResourceOption) error {
	var destinations networkfirewall.LoggingConfigurationLoggingConfigurationLogDestinationConfigArray
	for _, log := range []struct {
		kind, suffix string
		arn          *pulumi.StringOutput
	}{{"ALERT", "alert", &i.AlertLogGroupARN}, {"FLOW", "flow", &i.FlowLogGroupARN}} {
		group, err := cloudwatch.NewLogGroup(ctx, name+"-log-"+log.suffix, &cloudwatch.LogGroupArgs{
			Name:     pulumi.Sprintf("/aws/vendedlogs/%s/%s/%s", ctx.Stack(), name, log.suffix),
			KmsKeyId: a.LogKeyARN.ToStringOutput(), RetentionInDays: pulumi.Int(a.LogRetentionDays),
			Tags: pulumi.StringMap{"Name": pulumi.Sprintf("%s-%s", name, log.suffix), "DataClass": pulumi.String("logs")},
		}, protected...)
		if err != nil {
			return err
		}
		*log.arn = group.Arn
		if log.kind == "ALERT" {
			i.AlertLogGroup = group.Name
		}
		destinations = append(destinations, networkfirewall.LoggingConfigurationLoggingConfigurationLogDestinationConfigArgs{
			LogType: pulumi.String(log.kind), LogDestinationType: pulumi.String("CloudWatchLogs"), LogDestination: pulumi.StringMap{"logGroup": group.Name},
		})
	}
	_, err := networkfirewall.NewLoggingConfiguration(ctx, name+"-logging", &networkfirewall.LoggingConfigurationArgs{
		FirewallArn:          firewall.Arn,
		LoggingConfiguration: networkfirewall.LoggingConfigurationLoggingConfigurationArgs{LogDestinationConfigs: destinations},
	}, inherited...)
	return err
}

// outer are the tiers on the firewall's outer side, inner the one on its other.
var (
	outer = []network.Tier{network.TierOf(zones.DMZ), network.Public}
	inner = network.TierOf(zones.Application)
)

// routes makes a route each way for each pair of subnets.
func routes(ctx *pulumi.Context, name string, a Args, firewall *networkfirewall.Firewall, opts []pulumi.ResourceOption) error {
	for _, outerAZ := range a.Plan.Zones {
		endpoint := endpointIn(firewall, outerAZ)
		for _, tier := range outer {
			for _, innerAZ := range a.Plan.Zones {
				for _, way := range []struct {
					from, to     network.Tier
					fromAZ, toAZ string
				}{{tier, inner, outerAZ, innerAZ}, {inner, tier, innerAZ, outerAZ}} {
					if _, err := ec2.NewRoute(ctx, fmt.Sprintf("%s-route-%s-%s-to-%s-%s", name, way.from, way.fromAZ, way.to, way.toAZ), &ec2.RouteArgs{
						RouteTableId:         a.VPC.RouteTableID(way.from, way.fromAZ),
						DestinationCidrBlock: pulumi.String(a.Plan.Subnet(way.to, way.toAZ).String()),
						VpcEndpointId:        endpoint,
					}, opts...); err != nil {
						return fmt.Errorf("route: %w", err)
					}
				}
			}
		}
	}
	return nil
}

// endpointIn is the firewall's endpoint in an availability zone. AWS lists them in no order.
func endpointIn(firewall *networkfirewall.Firewall, az string) pulumi.StringOutput {
	return firewall.FirewallStatuses.ApplyT(func(statuses []networkfirewall.FirewallFirewallStatus) (string, error) {
		for _, status := range statuses {
			for _, state := range status.SyncStates {
				if state.AvailabilityZone == nil || *state.AvailabilityZone != az {
					continue
				}
				for _, attachment := range state.Attachments {
					if attachment.EndpointId != nil && *attachment.EndpointId != "" {
						return *attachment.EndpointId, nil
					}
				}
			}
		}
		return "", fmt.Errorf("the firewall has no endpoint in %s", az)
	}).(pulumi.StringOutput)
}
