package deployer

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/stacks/inventory"
	"ephemos.dev/deploy/test/standin"
)

var scope = Scope{Account: "123456789012", Region: "eu-central-1"}

func resource(typ, name string, inputs map[string]any) inventory.Resource {
	return inventory.Resource{URN: "urn:" + typ + name, Type: typ, Name: name, Custom: true, Inputs: inputs}
}

func policies(t *testing.T, resources ...inventory.Resource) []Policy {
	t.Helper()
	p, err := Policies(inventory.New("test", resources), scope)
	require.NoError(t, err)
	return p
}

// find returns the statements that allow an action.
func find(all []Policy, action string) []Statement {
	var found []Statement
	for _, p := range all {
		for _, s := range p.Statement {
			if slices.Contains(s.Action, action) {
				found = append(found, s)
			}
		}
	}
	return found
}

// Whatever the program may use has a row; a type without one is refused.
func TestEveryTypeHasARow(t *testing.T) {
	for _, typ := range standin.Types() {
		if strings.HasPrefix(typ, "aws:") {
			assert.Contains(t, rows, typ)
		}
	}
	_, err := Policies(inventory.New("test", []inventory.Resource{resource("aws:braket/job:Job", "j", nil)}), scope)
	assert.ErrorContains(t, err, "aws:braket/job:Job")
}

var action = regexp.MustCompile(`^[a-z0-9-]+:[A-Z][A-Za-z0-9]+$`)

// No row grants by wildcard, and what changes something is never allowed on everything but where AWS has no ARN for it.
func TestRowsAreExact(t *testing.T) {
	// Actions on "*" that change something, each with the reason that AWS gives: creating makes an identifier that is not known before,
	// or the service has no resources in ARNs.
	unscoped := map[string]bool{}
	for _, a := range actions("acm-pca:CreateCertificateAuthority acm:RequestCertificate kms:CreateKey guardduty:CreateDetector " +
		"route53:CreateHostedZone,CreateHealthCheck,AssociateVPCWithHostedZone backup-storage:MountCapsule " +
		"logs:CreateLogDelivery,UpdateLogDelivery,DeleteLogDelivery,PutResourcePolicy,DeleteResourcePolicy " +
		"sns:Unsubscribe,SetSubscriptionAttributes " +
		"securityhub:BatchEnableStandards,BatchDisableStandards " +
		"config:PutConfigurationRecorder,DeleteConfigurationRecorder,StartConfigurationRecorder,StopConfigurationRecorder,PutDeliveryChannel,DeleteDeliveryChannel,TagResource,UntagResource") {
		unscoped[a] = true
	}
	reads := regexp.MustCompile(`:(Describe|List|Get|Check)`)
	for typ, row := range rows {
		for _, g := range row.grants {
			assert.NotEmpty(t, g.actions, typ)
			assert.NotEmpty(t, g.arns, typ)
			for _, a := range g.actions {
				assert.Regexp(t, action, a, typ)
				if slices.Contains(g.arns, "*") && !reads.MatchString(a) {
					assert.True(t, unscoped[a], "%s: %s on every resource", typ, a)
				}
			}
			for _, arn := range g.arns {
				assert.True(t, arn == "*" || strings.HasPrefix(arn, "arn:{partition}:"), "%s: %s", typ, arn)
			}
		}
	}
}

func TestScopedByAccountRegionAndName(t *testing.T) {
	abroad := resource("aws:cloudwatch/logGroup:LogGroup", "logs", map[string]any{"name": "/ephemos/prod/audit"})
	abroad.Provider = "urn:pulumi:providers:awsabroad"
	all := policies(t,
		resource("pulumi:providers:aws", "abroad", map[string]any{"region": "eu-west-1"}), abroad,
		resource("aws:rds/subnetGroup:SubnetGroup", "postgres-subnets", nil),
		resource("aws:ec2/vpc:Vpc", "network", nil),
	)
	assert.Equal(t, []string{"arn:aws:logs:eu-west-1:123456789012:log-group:/ephemos/prod/audit", "arn:aws:logs:eu-west-1:123456789012:log-group:/ephemos/prod/audit:*"},
		find(all, "logs:CreateLogGroup")[0].Resource)
	assert.Equal(t, []string{"arn:aws:rds:eu-central-1:123456789012:subgrp:postgres-subnets-*"}, find(all, "rds:CreateDBSubnetGroup")[0].Resource)
	assert.Equal(t, []string{"arn:aws:ec2:eu-central-1:123456789012:vpc/*"}, find(all, "ec2:CreateVpc")[0].Resource)
	describe := find(all, "ec2:DescribeVpcs")[0]
	assert.Equal(t, []string{"*"}, describe.Resource)
	assert.Equal(t, []string{"eu-central-1"}, describe.Condition["StringEquals"]["aws:RequestedRegion"])
	assert.Empty(t, find(all, "iam:PassRole"), "the stack has no role")
	assert.Empty(t, find(all, "eks:CreateCluster"), "the stack has no cluster")
}

func TestRolesArePassedOnlyToTheServicesOfTheStack(t *testing.T) {
	all := policies(t,
		resource("aws:iam/role:Role", "cluster-role", nil), resource("aws:iam/role:Role", "trail", map[string]any{"name": "prod-trail"}),
		resource("aws:eks/cluster:Cluster", "cluster", map[string]any{"name": "prod"}), resource("aws:cloudtrail/trail:Trail", "trail", nil),
		resource("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "a", map[string]any{"policyArn": "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"}),
		resource("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "b", map[string]any{"policyArn": "[unknown]"}),
	)
	pass := find(all, "iam:PassRole")
	require.Len(t, pass, 1)
	roles := []string{"arn:aws:iam::123456789012:role/cluster-role-*", "arn:aws:iam::123456789012:role/prod-trail"}
	assert.Equal(t, roles, pass[0].Resource)
	assert.Equal(t, []string{"cloudtrail.amazonaws.com", "eks.amazonaws.com"}, pass[0].Condition["StringEquals"]["iam:PassedToService"])
	attach := find(all, "iam:AttachRolePolicy")
	require.Len(t, attach, 1)
	assert.Equal(t, roles, attach[0].Resource)
	assert.Equal(t, []string{"arn:aws:iam::123456789012:policy/*", "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"}, attach[0].Condition["ArnLike"]["iam:PolicyARN"])
	linked := find(all, "iam:CreateServiceLinkedRole")
	require.Len(t, linked, 1)
	assert.Equal(t, []string{"eks.amazonaws.com"}, linked[0].Condition["StringEquals"]["iam:AWSServiceName"])
}

// A stack with everything fits managed policies, and splitting loses no action.
func TestEveryPolicyFits(t *testing.T) {
	var resources []inventory.Resource
	for _, typ := range standin.Types() {
		for i := range 30 {
			resources = append(resources, resource(typ, fmt.Sprintf("part-%d-%d", i%3, i), nil))
		}
	}
	all := policies(t, resources...)
	assert.LessOrEqual(t, len(all), 10, "a role takes ten managed policies")
	granted := map[string]bool{}
	for _, p := range all {
		assert.LessOrEqual(t, p.Size(), MaxPolicy)
		sids := map[string]bool{}
		for _, s := range p.Statement {
			assert.False(t, sids[s.Sid], "two statements %s", s.Sid)
			sids[s.Sid] = true
			assert.NotEmpty(t, s.Action)
			assert.NotEmpty(t, s.Resource)
			for _, r := range s.Resource {
				assert.NotContains(t, r, "{", "a place in a template that nothing filled")
			}
			for _, a := range s.Action {
				granted[a] = true
			}
		}
		text, err := json.Marshal(p)
		require.NoError(t, err)
		var back map[string]any
		require.NoError(t, json.Unmarshal(text, &back))
	}
	for typ, row := range rows {
		for _, g := range row.grants {
			for _, a := range g.actions {
				assert.True(t, granted[a], "%s: %s", typ, a)
			}
		}
	}
}

func TestManyNamesAreJoinedByWhatTheyHaveInCommon(t *testing.T) {
	var resources []*inventory.Resource
	for i := range 20 {
		r := resource("aws:iam/role:Role", fmt.Sprintf("cluster-pod-%d", i), nil)
		resources = append(resources, &r)
	}
	r := resource("aws:iam/role:Role", "x", map[string]any{"name": "/aws/eks/prod/cluster"})
	resources = append(resources, &r)
	assert.Equal(t, []string{"/aws/eks/*", "cluster-pod-*"}, names(resources))
	for _, text := range []string{"plain", "a-b-c", "/a/b/c", "-"} {
		assert.NotEqual(t, "*", cut(text, 1), text)
	}
}
