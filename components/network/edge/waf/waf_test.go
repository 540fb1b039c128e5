package waf

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	balancer = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/edge/1"
	key      = "arn:aws:kms:eu-central-1:123456789012:key/logs"
)

func minimal() *Args {
	return &Args{Name: "prod-edge", LoadBalancerARN: pulumi.String(balancer), LogKeyARN: pulumi.String(key)}
}

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "waf", args)
		return err
	})
}

func TestRules(t *testing.T) {
	strict := minimal()
	strict.RateLimit, strict.Counted = 100, map[string][]string{}
	for name, args := range map[string]*Args{"rules": minimal(), "strict": strict} {
		t.Run(name, func(t *testing.T) {
			text, err := args.Rules()
			require.NoError(t, err)
			var indented bytes.Buffer
			require.NoError(t, json.Indent(&indented, []byte(text), "", "  "))
			indented.WriteByte('\n')
			file := filepath.Join("testdata", name+".json")
			if *update {
				require.NoError(t, os.WriteFile(file, indented.Bytes(), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(want), indented.String(), "if the change is wanted, run go test with -update")
			require.Equal(t, text, record(t, args).One(t, "WebAcl").Object["ruleJson"])
		})
	}
}

// TestRulesAreWhatAWSAccepts: of everything, each rule has what AWS demands, once.
func TestRulesAreWhatAWSAccepts(t *testing.T) {
	text, err := minimal().Rules()
	require.NoError(t, err)
	var rules []map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &rules))
	seen := map[any]bool{}
	var managed []string
	for i, r := range rules {
		for _, unique := range []any{r["Name"], r["Priority"], manifesttest.Get(r, "VisibilityConfig.MetricName")} {
			require.False(t, seen[unique], "%v", unique)
			seen[unique] = true
		}
		require.Equal(t, true, manifesttest.Get(r, "VisibilityConfig.CloudWatchMetricsEnabled"), "each rule has its metric")
		require.Equal(t, false, manifesttest.Get(r, "VisibilityConfig.SampledRequestsEnabled"), "samples hold credentials")
		require.Len(t, r["Statement"], 1)
		group, ok := manifesttest.Get(r, "Statement.ManagedRuleGroupStatement.Name").(string)
		if !ok {
			require.Equal(t, map[string]any{"Block": map[string]any{"CustomResponse": map[string]any{"ResponseCode": 429.0}}}, r["Action"])
			require.NotContains(t, r, "OverrideAction")
			require.Equal(t, "IP", manifesttest.Get(r, "Statement.RateBasedStatement.AggregateKeyType"))
			continue
		}
		managed = append(managed, group)
		require.Equal(t, map[string]any{"None": map[string]any{}}, r["OverrideAction"], "the group's rules act as they are")
		require.NotContains(t, r, "Action")
		require.InDelta(t, 10*i, r["Priority"], 0)
	}
	require.ElementsMatch(t, []string{
		"AWSManagedRulesCommonRuleSet", "AWSManagedRulesKnownBadInputsRuleSet", "AWSManagedRulesSQLiRuleSet", "AWSManagedRulesLinuxRuleSet",
		"AWSManagedRulesAmazonIpReputationList", "AWSManagedRulesAnonymousIpList",
	}, managed)
	require.Len(t, rules, 7, "the rate-based rule is there")

	capacity := rateCapacity
	for _, g := range slices.Concat(addressGroups, contentGroups) {
		capacity += g.capacity
	}
	require.LessOrEqual(t, capacity, includedCapacity)
	for name := range DefaultCounted() {
		require.Contains(t, Groups(), name)
	}
}

func TestWebACL(t *testing.T) {
	acl := record(t, minimal()).One(t, "WebAcl").Object
	require.Equal(t, "REGIONAL", acl["scope"])
	require.Equal(t, map[string]any{"allow": map[string]any{}}, acl["defaultAction"])
	require.Equal(t, map[string]any{"cloudwatchMetricsEnabled": true, "metricName": "prod-edge", "sampledRequestsEnabled": false}, acl["visibilityConfig"])
}

func TestLog(t *testing.T) {
	g := record(t, minimal())
	group := g.One(t, "LogGroup").Object
	require.Equal(t, "aws-waf-logs-prod-edge", group["name"], "AWS accepts no other beginning")
	require.Equal(t, key, group["kmsKeyId"])
	require.Equal(t, 365.0, group["retentionInDays"])

	acl, logging := g.One(t, "WebAcl"), g.One(t, "WebAclLoggingConfiguration").Object
	require.Equal(t, arnOf(acl), logging["resourceArn"])
	require.Equal(t, []any{"arn:aws:logs:eu-central-1:123456789012:log-group:aws-waf-logs-prod-edge"}, logging["logDestinationConfigs"])
	header := func(name string) any { return map[string]any{"singleHeader": map[string]any{"name": name}} }
	require.Equal(t, []any{header("authorization"), header("cookie")}, logging["redactedFields"])
}

func arnOf(acl manifesttest.Resource) string {
	return "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/" + acl.Object["name"].(string) + "/00000000-0000-4000-8000-000000000000"
}

func TestAssociation(t *testing.T) {
	var arn, logs string
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		w, err := New(ctx, "waf", minimal())
		if err != nil {
			return err
		}
		w.ARN.ApplyT(func(v string) string { arn = v; return v })
		w.LogGroupName.ApplyT(func(v string) string { logs = v; return v })
		return nil
	})
	association := g.One(t, "WebAclAssociation")
	require.Equal(t, balancer, association.Object["resourceArn"])
	require.Equal(t, arnOf(g.One(t, "WebAcl")), association.Object["webAclArn"])
	require.Contains(t, association.Dependencies, "waf-logging", "the log is there before the first request")
	require.Equal(t, arnOf(g.One(t, "WebAcl")), arn)
	require.Equal(t, "aws-waf-logs-prod-edge", logs)
}

func TestRefuses(t *testing.T) {
	for key, change := range map[string]func(*Args){
		"name":             func(a *Args) { a.Name = "prod.edge" },
		"loadBalancerARN":  func(a *Args) { a.LoadBalancerARN = nil },
		"logKeyARN":        func(a *Args) { a.LogKeyARN = nil },
		"rateLimit":        func(a *Args) { a.RateLimit = 9 },
		"logRetentionDays": func(a *Args) { a.LogRetentionDays = 100 },
		"counted":          func(a *Args) { a.Counted = map[string][]string{"AWSManagedRulesUnixRuleSet": {"X"}} },
		"counted.AWSManagedRulesCommonRuleSet[0]": func(a *Args) {
			a.Counted = map[string][]string{"AWSManagedRulesCommonRuleSet": {""}}
		},
	} {
		t.Run(key, func(t *testing.T) {
			args := minimal()
			change(args)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "waf", args)
				return err
			})
			require.ErrorContains(t, err, "waf waf: "+key+`: "`)
			require.Equal(t, 1, strings.Count(err.Error(), " is not allowed: it must be "), "one mistake, one error: %v", err)
		})
	}
	err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "waf", &Args{RateLimit: maxRateLimit + 1, LogRetentionDays: -1})
		return err
	})
	for _, key := range []string{"name", "loadBalancerARN", "logKeyARN", "rateLimit", "logRetentionDays"} {
		require.ErrorContains(t, err, key+`: "`)
	}
}

func TestTypes(t *testing.T) {
	require.Equal(t, []string{"LogGroup", "WebACL", "WebAcl", "WebAclAssociation", "WebAclLoggingConfiguration"}, record(t, minimal()).Types())
}
