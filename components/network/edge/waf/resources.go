package waf

import "github.com/pulumi/pulumi/sdk/v3/go/pulumi"

// The SDK has a package for these resources, aws/wafv2, whose types describe every nesting of a rule's statements: twelve megabytes of
// Go, which take more than three minutes of a processor and 4.6 GB of memory to compile (measured, v6.83.2). Rules are JSON here, and
// what is left is three resources with a handful of properties. They are registered by their tokens; resources_test.go reads the SDK's
// source and holds them against it.

// providerVersion is the version of the SDK in go.mod, by which the engine chooses the provider where a program names none.
const providerVersion = "6.83.2"

const (
	tokenWebACL      = "aws:wafv2/webAcl:WebAcl"
	tokenAssociation = "aws:wafv2/webAclAssociation:WebAclAssociation"
	tokenLogging     = "aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration"
)

type webACL struct {
	pulumi.CustomResourceState

	Arn pulumi.StringOutput `pulumi:"arn"`
}

type webACLAssociation struct {
	pulumi.CustomResourceState

	WebACLARN pulumi.StringOutput `pulumi:"webAclArn"`
}

type webACLLogging struct {
	pulumi.CustomResourceState
}

// webACLInputs are the properties of a web ACL that lets pass what no rule blocks.
func (a Args) webACLInputs(rules string) pulumi.Map {
	return pulumi.Map{
		"name":          pulumi.String(a.Name),
		"description":   pulumi.String("What may reach the public load balancer"),
		"scope":         pulumi.String("REGIONAL"),
		"defaultAction": pulumi.Map{"allow": pulumi.Map{}},
		"ruleJson":      pulumi.String(rules),
		"visibilityConfig": pulumi.Map{
			"cloudwatchMetricsEnabled": pulumi.Bool(true), "metricName": pulumi.String(a.Name), "sampledRequestsEnabled": pulumi.Bool(false),
		},
		"tags": pulumi.StringMap{"Name": pulumi.String(a.Name), "Zone": pulumi.String("dmz")},
	}
}

func associationInputs(balancer, acl pulumi.StringInput) pulumi.Map {
	return pulumi.Map{"resourceArn": balancer, "webAclArn": acl}
}

func loggingInputs(acl, logGroup pulumi.StringInput) pulumi.Map {
	var fields pulumi.Array
	for _, header := range redacted {
		fields = append(fields, pulumi.Map{"singleHeader": pulumi.Map{"name": pulumi.String(header)}})
	}
	return pulumi.Map{"resourceArn": acl, "logDestinationConfigs": pulumi.Array{logGroup}, "redactedFields": fields}
}
