package inspection

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/network/vpc"
	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/test/standin"
)

const key = "arn:aws:kms:eu-central-1:123456789012:key/logs"

// vpcID is the identifier that the stand-in gives the VPC.
const vpcID = "vpc-ce19c5cff0a528714"

var azs = []string{"eu-central-1a", "eu-central-1b", "eu-central-1c"}

func plan(t *testing.T) network.Plan {
	t.Helper()
	p, err := network.NewPlan(netip.MustParsePrefix("10.0.0.0/16"), azs)
	require.NoError(t, err)
	return p
}

// program makes a network and the firewall in it.
func program(t *testing.T, change func(*Args)) pulumi.RunFunc {
	t.Helper()
	return func(ctx *pulumi.Context) error {
		p, m := plan(t), zones.AWS(zones.Options{})
		v, err := vpc.New(ctx, "net", &vpc.Args{
			Region: standin.Region, AccountID: standin.Account, Plan: p, Model: m, FlowLogKeyARN: pulumi.String(key), LogRetentionDays: 30,
		})
		if err != nil {
			return err
		}
		a := &Args{VPC: v, Plan: p, Model: m, LogKeyARN: pulumi.String(key), LogRetentionDays: 365, KeyARN: pulumi.String(key + "-2"), Protect: true}
		if change != nil {
			change(a)
		}
		_, err = New(ctx, "wall", a)
		return err
	}
}

func get(r manifesttest.Resource, path string) any { return manifesttest.Get(r.Object, path) }

func TestFirewall(t *testing.T) {
	g := manifesttest.Record(t, program(t, nil))
	firewall := g.One(t, "Firewall")
	require.True(t, firewall.Protect)
	for _, guard := range []string{"deleteProtection", "subnetChangeProtection", "firewallPolicyChangeProtection"} {
		require.Equal(t, true, firewall.Object[guard])
	}
	require.Equal(t, vpcID, firewall.Object["vpcId"])
	require.Equal(t, []any{
		map[string]any{"subnetId": "subnet-net-subnet-firewall-eu-central-1a"}, map[string]any{"subnetId": "subnet-net-subnet-firewall-eu-central-1b"},
		map[string]any{"subnetId": "subnet-net-subnet-firewall-eu-central-1c"},
	}, firewall.Object["subnetMappings"])

	policy, group := g.One(t, "FirewallPolicy"), g.One(t, "RuleGroup")
	require.Equal(t, "arn:aws:network-firewall:eu-central-1:123456789012:firewall-policy/wall-policy", firewall.Object["firewallPolicyArn"])
	require.Equal(t, []any{"aws:forward_to_sfe"}, get(policy, "firewallPolicy.statelessDefaultActions"))
	require.Equal(t, []any{"aws:forward_to_sfe"}, get(policy, "firewallPolicy.statelessFragmentDefaultActions"))
	require.Equal(t, []any{"aws:drop_strict", "aws:alert_strict"}, get(policy, "firewallPolicy.statefulDefaultActions"))
	require.Equal(t, "STRICT_ORDER", get(policy, "firewallPolicy.statefulEngineOptions.ruleOrder"))
	require.Equal(t, "DROP", get(policy, "firewallPolicy.statefulEngineOptions.streamExceptionPolicy"))
	require.Equal(t, "arn:aws:network-firewall:eu-central-1:123456789012:stateful-rulegroup/wall-rules",
		get(policy, "firewallPolicy.statefulRuleGroupReferences.0.resourceArn"))
	require.Equal(t, "HOME_NET", get(policy, "firewallPolicy.policyVariables.ruleVariables.0.key"))
	require.Equal(t, []any{"10.0.0.0/16"}, get(policy, "firewallPolicy.policyVariables.ruleVariables.0.ipSet.definitions"))

	rules, err := network.Rules(zones.AWS(zones.Options{}), network.NetworkFirewall)
	require.NoError(t, err)
	require.Equal(t, "STATEFUL", group.Object["type"])
	require.Equal(t, "STRICT_ORDER", get(group, "ruleGroup.statefulRuleOptions.ruleOrder"))
	require.Equal(t, rules.Text(), get(group, "ruleGroup.rulesSource.rulesString"))
	require.EqualValues(t, 1000, group.Object["capacity"], "it must not follow the number of rules: each change would make a new group")
	require.Less(t, len(rules.Rules)+200, 1000)
	sets := map[string][]string{}
	for _, set := range get(group, "ruleGroup.ruleVariables.ipSets").([]any) {
		name := manifesttest.Get(set, "key").(string)
		for _, cidr := range manifesttest.Get(set, "ipSet.definitions").([]any) {
			sets[name] = append(sets[name], cidr.(string))
		}
	}
	require.Equal(t, rules.Variables(plan(t).Addresses()), sets)
	require.Equal(t, []string{plan(t).Addresses()[zones.DMZ].String()}, sets["DMZ"])

	for _, r := range []manifesttest.Resource{firewall, policy, group} {
		require.Equal(t, map[string]any{"type": "CUSTOMER_KMS", "keyId": key + "-2"}, r.Object["encryptionConfiguration"])
	}
}

func TestWithoutProtectionAndKey(t *testing.T) {
	g := manifesttest.Record(t, program(t, func(a *Args) { a.Protect, a.KeyARN = false, nil }))
	firewall := g.One(t, "Firewall")
	require.False(t, firewall.Protect)
	require.Equal(t, false, firewall.Object["deleteProtection"])
	for _, kind := range []string{"Firewall", "FirewallPolicy", "RuleGroup"} {
		require.Equal(t, map[string]any{"type": "AWS_OWNED_KMS_KEY"}, g.One(t, kind).Object["encryptionConfiguration"])
	}
}

func TestLogs(t *testing.T) {
	g := manifesttest.Record(t, program(t, nil))
	logging := g.One(t, "LoggingConfiguration")
	require.Equal(t, "arn:aws:network-firewall:eu-central-1:123456789012:firewall/wall-firewall", logging.Object["firewallArn"])
	found := map[any]any{}
	for _, destination := range get(logging, "loggingConfiguration.logDestinationConfigs").([]any) {
		require.Equal(t, "CloudWatchLogs", manifesttest.Get(destination, "logDestinationType"))
		found[manifesttest.Get(destination, "logType")] = manifesttest.Get(destination, "logDestination.logGroup")
	}
	require.Equal(t, map[any]any{"ALERT": "/aws/vendedlogs/stack/wall/alert", "FLOW": "/aws/vendedlogs/stack/wall/flow"}, found)
	count := 0
	for _, group := range g.All("LogGroup") {
		if name, _ := group.Object["name"].(string); name != found["ALERT"] && name != found["FLOW"] {
			continue
		}
		count++
		require.Equal(t, key, group.Object["kmsKeyId"])
		require.EqualValues(t, 365, group.Object["retentionInDays"])
		require.True(t, group.Protect)
	}
	require.Equal(t, 2, count)
}

// TestRoutesAreSymmetric follows a packet from each subnet of the outer side to each of the inner, and back.
func TestRoutesAreSymmetric(t *testing.T) {
	g := manifesttest.Record(t, program(t, nil))
	p := plan(t)
	// Subnets and their tables, as recorded.
	type subnet struct{ tier, az, cidr, table string }
	subnets := map[string]subnet{}
	for _, s := range g.All("Subnet") {
		subnets["subnet-"+s.Name] = subnet{get(s, "tags.Tier").(string), s.Object["availabilityZone"].(string), s.Object["cidrBlock"].(string), ""}
	}
	for _, association := range g.All("RouteTableAssociation") {
		id := association.Object["subnetId"].(string)
		s := subnets[id]
		s.table = association.Object["routeTableId"].(string)
		subnets[id] = s
	}
	routes := map[[2]string]string{} // table and destination to endpoint
	for _, r := range g.All("Route") {
		if endpoint, ok := r.Object["vpcEndpointId"].(string); ok {
			at := [2]string{r.Object["routeTableId"].(string), r.Object["destinationCidrBlock"].(string)}
			require.NotContains(t, routes, at)
			require.NotEqual(t, network.Internet, at[1])
			routes[at] = endpoint
		}
	}
	pairs := 0
	for _, from := range subnets {
		for _, to := range subnets {
			out, back := routes[[2]string{from.table, to.cidr}], routes[[2]string{to.table, from.cidr}]
			require.Equal(t, out, back, "%s %s and %s %s", from.tier, from.az, to.tier, to.az)
			crossing := (from.tier == "dmz" || from.tier == "public") && to.tier == "application"
			if !crossing {
				if from.tier != "application" || to.tier != "dmz" && to.tier != "public" {
					require.Empty(t, out, "%s to %s", from.tier, to.tier)
				}
				continue
			}
			pairs++
			require.Equal(t, "vpce-firewall-"+from.az[len(from.az)-1:], out, "the endpoint of the outer side's availability zone")
		}
	}
	require.Equal(t, 18, pairs)
	require.Len(t, routes, 36)
	// Each is to a whole subnet, or AWS refuses it.
	for at := range routes {
		require.True(t, slices.ContainsFunc(slices.Concat(p.Subnets("dmz"), p.Subnets("public"), p.Subnets("application")),
			func(s netip.Prefix) bool { return s.String() == at[1] }), at[1])
	}
}

// scrambled answers with the firewall's endpoints in another order, or without some.
type scrambled struct {
	manifesttest.Graph
	zones  []string
	routes map[string]string
}

func (s *scrambled) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	if args.TypeToken == "aws:ec2/route:Route" && args.Inputs["vpcEndpointId"].IsString() {
		s.routes[args.Name] = args.Inputs["vpcEndpointId"].StringValue()
	}
	id, outputs, err := s.Graph.NewResource(args)
	if args.TypeToken == "aws:networkfirewall/firewall:Firewall" {
		var states []resource.PropertyValue
		for _, az := range s.zones {
			states = append(states, resource.NewProperty(resource.PropertyMap{"availabilityZone": resource.NewProperty(az),
				"attachments": resource.NewProperty([]resource.PropertyValue{resource.NewProperty(resource.PropertyMap{"endpointId": resource.NewProperty("vpce-in-" + az)})})}))
		}
		outputs["firewallStatuses"] = resource.NewProperty([]resource.PropertyValue{resource.NewProperty(resource.PropertyMap{"syncStates": resource.NewProperty(states)})})
	}
	return id, outputs, err
}

func TestEndpointsAreFoundByAvailabilityZone(t *testing.T) {
	s := &scrambled{zones: []string{azs[2], azs[0], azs[1]}, routes: map[string]string{}}
	require.NoError(t, pulumi.RunErr(program(t, nil), pulumi.WithMocks("project", "stack", s)))
	require.Len(t, s.routes, 36)
	for _, az := range azs {
		require.Equal(t, "vpce-in-"+az, s.routes[fmt.Sprintf("wall-route-dmz-%s-to-application-%s", az, azs[1])])
		require.Equal(t, "vpce-in-"+az, s.routes[fmt.Sprintf("wall-route-application-%s-to-public-%s", azs[1], az)])
	}
	s = &scrambled{zones: azs[:2], routes: map[string]string{}}
	require.ErrorContains(t, pulumi.RunErr(program(t, nil), pulumi.WithMocks("project", "stack", s)), "the firewall has no endpoint in eu-central-1c")
}

// TestPreview runs with identifiers and endpoints unknown.
func TestPreview(t *testing.T) {
	s := &scrambled{zones: azs, routes: map[string]string{}}
	require.NoError(t, pulumi.RunErr(program(t, nil), pulumi.WithMocks("project", "stack", s), func(info *pulumi.RunInfo) { info.DryRun = true }))
}

func TestBadArgumentsAreRefused(t *testing.T) {
	good := func() *Args {
		return &Args{VPC: &vpc.VPC{}, Plan: plan(t), Model: zones.AWS(zones.Options{}), LogKeyARN: pulumi.String(key), LogRetentionDays: 30}
	}
	refused := func(a *Args) error {
		return manifesttest.Refused(t, func(ctx *pulumi.Context) error {
			_, err := New(ctx, "wall", a)
			return err
		})
	}
	for name, c := range map[string]struct {
		change func(*Args)
		want   string
	}{
		"no network":  {func(a *Args) { a.VPC = nil }, `vpc: "" is not allowed: it must be set`},
		"no key":      {func(a *Args) { a.LogKeyARN = nil }, `logKeyARN: "" is not allowed: it must be set`},
		"for ever":    {func(a *Args) { a.LogRetentionDays = 0 }, `logRetentionDays: "0" is not allowed`},
		"no plan":     {func(a *Args) { a.Plan = network.Plan{} }, `plan: vpc: "invalid Prefix" is not allowed`},
		"no model":    {func(a *Args) { a.Model = zones.Model{} }, "model: the model has no zones"},
		"too little":  {func(a *Args) { a.Capacity = 10 }, `capacity: "10" is not allowed: it must be `},
		"too much":    {func(a *Args) { a.Capacity = 30_001 }, `capacity: "30001" is not allowed`},
		"less than 0": {func(a *Args) { a.Capacity = -1 }, `capacity: "-1" is not allowed`},
	} {
		t.Run(name, func(t *testing.T) {
			a := good()
			c.change(a)
			require.ErrorContains(t, refused(a), c.want)
		})
	}
	err := refused(nil)
	for _, field := range []string{"vpc: ", "logKeyARN: ", "plan: ", "logRetentionDays: "} {
		require.ErrorContains(t, err, field, "all at once")
	}
}
