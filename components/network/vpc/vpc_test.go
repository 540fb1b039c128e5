package vpc

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/manifest/manifesttest"
	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/test/standin"
)

const key = "arn:aws:kms:eu-central-1:123456789012:key/logs"

// vpcID is the identifier that the stand-in gives the VPC.
const vpcID = "vpc-ce19c5cff0a528714"

var azs = []string{"eu-central-1a", "eu-central-1b", "eu-central-1c"}

func args(t *testing.T) *Args {
	t.Helper()
	plan, err := network.NewPlan(netip.MustParsePrefix("10.0.0.0/16"), azs)
	require.NoError(t, err)
	return &Args{
		Region: standin.Region, AccountID: standin.Account, Plan: plan, Model: zones.AWS(zones.Options{}), FlowLogKeyARN: pulumi.String(key),
		LogRetentionDays: 365, ClusterName: "prod", PrivateZones: []string{"prod.internal"}, Protect: true,
	}
}

func record(t *testing.T, a *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "net", a)
		return err
	})
}

// A view is a recorded network, read without the code that made it.
type view struct {
	*manifesttest.Graph
	// tier, az and cidr are of subnets by identifier, in the order of registration.
	tier, az map[string]string
	cidr     map[string]netip.Prefix
}

// id is the identifier that the stand-in gives.
func id(prefix string, r manifesttest.Resource) string { return prefix + "-" + r.Name }

func text(r manifesttest.Resource, path string) string {
	s, _ := manifesttest.Get(r.Object, path).(string)
	return s
}

func number(v any) int {
	f, _ := v.(float64)
	return int(f)
}

func look(g *manifesttest.Graph) view {
	v := view{g, map[string]string{}, map[string]string{}, map[string]netip.Prefix{}}
	for _, s := range g.All("Subnet") {
		i := id("subnet", s)
		v.tier[i], v.az[i] = text(s, "tags.Tier"), text(s, "availabilityZone")
		v.cidr[i] = netip.MustParsePrefix(text(s, "cidrBlock"))
	}
	return v
}

// of are the identifiers of a tier's subnets, sorted.
func (v view) of(tier string) []string {
	var ids []string
	for i, t := range v.tier {
		if t == tier {
			ids = append(ids, i)
		}
	}
	slices.Sort(ids)
	return ids
}

func TestEachTierHasThreeAvailabilityZones(t *testing.T) {
	a := args(t)
	v := look(record(t, a))
	require.Len(t, v.tier, 21)
	for _, tier := range []network.Tier{"dmz", "application", "data", "management", "platform", "public", "firewall"} {
		var zonesOfTier []string
		for _, i := range v.of(string(tier)) {
			zonesOfTier = append(zonesOfTier, v.az[i])
			require.Equal(t, a.Plan.Subnet(tier, v.az[i]), v.cidr[i])
		}
		require.Equal(t, azs, zonesOfTier, tier)
	}
	for _, s := range v.All("Subnet") {
		require.True(t, s.Protect)
		require.Equal(t, false, s.Object["mapPublicIpOnLaunch"])
		tags, _ := s.Object["tags"].(map[string]any)
		require.NotContains(t, tags, "kubernetes.io/role/cni")
		tier := text(s, "tags.Tier")
		require.Equal(t, tier == "public", tags["kubernetes.io/role/elb"] == "1")
		require.Equal(t, tier == "management", tags["kubernetes.io/role/internal-elb"] == "1")
		require.Equal(t, tier != "firewall", tags["kubernetes.io/cluster/prod"] == "shared")
	}
	vpc := v.One(t, "Vpc")
	require.True(t, vpc.Protect)
	require.Equal(t, "10.0.0.0/16", vpc.Object["cidrBlock"])
	require.Equal(t, true, vpc.Object["enableDnsSupport"])
	require.Equal(t, true, vpc.Object["enableDnsHostnames"])
}

// TestOnlyThePublicSubnetsReachTheInternet follows every route.
func TestOnlyThePublicSubnetsReachTheInternet(t *testing.T) {
	v := look(record(t, args(t)))
	tableOf := map[string]string{}
	for _, association := range v.All("RouteTableAssociation") {
		subnet := text(association, "subnetId")
		require.NotContains(t, tableOf, subnet)
		tableOf[subnet] = text(association, "routeTableId")
	}
	require.Len(t, tableOf, 21)
	var open []string
	for _, r := range v.All("Route") {
		require.Equal(t, network.Internet, r.Object["destinationCidrBlock"])
		require.Equal(t, id("igw", v.One(t, "InternetGateway")), r.Object["gatewayId"])
		open = append(open, text(r, "routeTableId"))
	}
	require.Len(t, open, 3)
	for subnet, table := range tableOf {
		require.Equal(t, v.tier[subnet] == "public", slices.Contains(open, table), "%s %s", v.tier[subnet], subnet)
	}
	tables := map[string]bool{}
	for _, table := range v.All("RouteTable") {
		require.NotContains(t, table.Object, "routes")
		tables[id("rtb", table)] = true
	}
	require.Len(t, tables, 21, "one for each subnet")
	for _, kind := range []string{"NatGateway", "EgressOnlyInternetGateway", "Eip", "VpcPeeringConnection", "VpnGateway"} {
		require.Empty(t, v.All(kind))
	}
}

func TestDefaultsAreEmpty(t *testing.T) {
	v := look(record(t, args(t)))
	for _, kind := range []string{"DefaultSecurityGroup", "DefaultNetworkAcl"} {
		r := v.One(t, kind)
		require.Empty(t, r.Object["ingress"])
		require.Empty(t, r.Object["egress"])
	}
	routes, set := v.One(t, "DefaultRouteTable").Object["routes"]
	require.True(t, set, "without a list, the provider leaves what is there")
	require.Empty(t, routes)
	require.Equal(t, "acl-default-net-vpc", v.One(t, "DefaultNetworkAcl").Object["defaultNetworkAclId"])
	require.Equal(t, "rtb-default-net-vpc", v.One(t, "DefaultRouteTable").Object["defaultRouteTableId"])
	require.Equal(t, vpcID, v.One(t, "DefaultSecurityGroup").Object["vpcId"])
}

// A pass is a connection that is let out of one group, or into another.
type pass struct {
	from, to network.Group
	protocol string
	port     int
}

// groupNamed is the group of an identifier.
func (v view) groupNamed(t *testing.T, wanted string) network.Group {
	t.Helper()
	for _, g := range v.All("SecurityGroup") {
		if id("sg", g) == wanted {
			return network.Group(text(g, "tags.Group"))
		}
	}
	require.Fail(t, "no such group", wanted)
	return ""
}

// passes reads what the recorded rules of one direction let through.
func (v view) passes(t *testing.T, direction network.Direction) map[pass]bool {
	t.Helper()
	kind := map[network.Direction]string{network.Ingress: "SecurityGroupIngressRule", network.Egress: "SecurityGroupEgressRule"}[direction]
	found, halves := map[pass]bool{}, map[pass]int{}
	for _, r := range v.All(kind) {
		group := v.groupNamed(t, text(r, "securityGroupId"))
		var peer network.Group
		cidr, crossing := text(r, "cidrIpv4"), false
		switch {
		case cidr == network.Internet:
		case cidr != "":
			crossing = true
			for subnet, prefix := range v.cidr {
				if prefix.String() == cidr {
					peer = network.Group(v.tier[subnet])
				}
			}
			require.NotEmpty(t, peer, "%s must be a whole subnet", cidr)
		default:
			peer = v.groupNamed(t, text(r, "referencedSecurityGroupId"))
		}
		pair := []network.Group{group, peer}
		slices.Sort(pair)
		require.Equal(t, slices.Equal(pair, []network.Group{"application", "dmz"}), crossing, "groups are no peers across the firewall, and there alone: %s", r.Name)
		for port := number(r.Object["fromPort"]); port <= number(r.Object["toPort"]); port++ {
			p := pass{group, peer, text(r, "ipProtocol"), port}
			if direction == network.Ingress {
				p.from, p.to = peer, group
			}
			if crossing {
				halves[p]++
				require.LessOrEqual(t, halves[p], len(azs))
			} else {
				require.False(t, found[p], "%+v twice", p)
			}
			found[p] = true
		}
	}
	for p, n := range halves {
		require.Equal(t, len(azs), n, "%+v from each subnet", p)
	}
	return found
}

// TestGroupsAreTheModel recomputes from the recorded rules who may connect to whom, and wants exactly the model's flows.
func TestGroupsAreTheModel(t *testing.T) {
	m := args(t).Model
	v := look(record(t, args(t)))
	out, in := map[pass]bool{}, map[pass]bool{}
	for _, end := range m.Resolve() {
		if end.To.Place == zones.OwnNode {
			continue
		}
		p := pass{network.GroupOf(m, end.From), network.GroupOf(m, end.To), strings.ToLower(string(end.Port.Protocol)), end.Port.Number}
		if p.from != "" {
			out[p] = true
		}
		if p.to != "" {
			in[p] = true
		}
	}
	require.Equal(t, out, v.passes(t, network.Egress))
	require.Equal(t, in, v.passes(t, network.Ingress))
	for _, g := range v.All("SecurityGroup") {
		require.NotContains(t, g.Object, "ingress")
		require.NotContains(t, g.Object, "egress")
	}
	// The internet gets in at the edge's load balancer, and nothing gets out.
	for p := range in {
		require.Equal(t, p.from == "", p.to == network.Group(zones.EdgeBalancer) && p.from == "", "%+v", p)
	}
	for p := range out {
		require.NotEmpty(t, p.to, "%+v", p)
	}
}

// entries reads the recorded ACLs, and which subnets each is for.
func (v view) entries(t *testing.T) ([]network.ACLEntry, map[string]zones.Zone) {
	t.Helper()
	var found []network.ACLEntry
	of := map[string]zones.Zone{}
	for _, acl := range v.All("NetworkAcl") {
		zone := zones.Zone(text(acl, "tags.Tier"))
		for _, subnet := range acl.Object["subnetIds"].([]any) {
			require.NotContains(t, of, subnet)
			of[subnet.(string)] = zone
		}
		for _, direction := range []network.Direction{network.Egress, network.Ingress} {
			for _, e := range acl.Object[string(direction)].([]any) {
				found = append(found, network.ACLEntry{
					Zone: zone, Direction: direction, Number: number(manifesttest.Get(e, "ruleNo")), Allow: manifesttest.Get(e, "action") == "allow",
					Protocol: manifesttest.Get(e, "protocol").(string), CIDR: netip.MustParsePrefix(manifesttest.Get(e, "cidrBlock").(string)),
					FromPort: number(manifesttest.Get(e, "fromPort")), ToPort: number(manifesttest.Get(e, "toPort")),
				})
			}
		}
	}
	return found, of
}

// TestACLsAreTheModel sends packets of every flow, and their answers, between the recorded subnets, and wants zones without a flow in
// common to be apart.
func TestACLsAreTheModel(t *testing.T) {
	a := args(t)
	v := look(record(t, a))
	entries, aclOf := v.entries(t)
	require.Len(t, aclOf, 21, "no subnet is left to the default")
	outside := netip.MustParseAddr("198.51.100.9")
	// placesOf are the subnets in which a role is, or one place outside.
	placesOf := func(r zones.Role) []string {
		switch {
		case r.Place == zones.Elsewhere:
			return []string{""}
		case r.Place == zones.Nodes:
			var all []string
			for _, tier := range []string{"dmz", "application", "data", "management", "platform"} {
				all = append(all, v.of(tier)...)
			}
			return all
		case r.Name == zones.EdgeBalancer:
			return v.of("public")
		}
		return v.of(string(r.Zone))
	}
	address := func(subnet string) netip.Addr {
		if subnet == "" {
			return outside
		}
		return v.cidr[subnet].Addr().Next().Next().Next().Next()
	}
	permits := func(subnet string, direction network.Direction, other, protocol string, port int) bool {
		return subnet == "" || network.Permits(entries, aclOf[subnet], direction, address(other), protocol, port)
	}
	related := map[[2]string]bool{}
	for _, end := range a.Model.Resolve() {
		if end.To.Place == zones.OwnNode {
			continue
		}
		protocol, port := strings.ToLower(string(end.Port.Protocol)), end.Port.Number
		for _, from := range placesOf(end.From) {
			for _, to := range placesOf(end.To) {
				if end.From.Place == zones.Nodes && end.To.Place == zones.Nodes && v.tier[from] != v.tier[to] {
					continue
				}
				related[[2]string{v.tier[from], v.tier[to]}], related[[2]string{v.tier[to], v.tier[from]}] = true, true
				require.True(t, permits(from, network.Egress, to, protocol, port), "%s out of %s", end.Flow, from)
				require.True(t, permits(to, network.Ingress, from, protocol, port), "%s into %s", end.Flow, to)
				for _, back := range []int{32768, 60999} {
					require.True(t, permits(to, network.Egress, from, protocol, back), "answers of %s out of %s", end.Flow, to)
					require.True(t, permits(from, network.Ingress, to, protocol, back), "answers of %s into %s", end.Flow, from)
				}
			}
		}
	}
	apart := 0
	for _, one := range []string{"dmz", "application", "data", "management", "platform"} {
		for _, other := range []string{"dmz", "application", "data", "management", "platform", "firewall"} {
			if related[[2]string{one, other}] {
				continue
			}
			apart++
			for port := 1; port <= 65535; port += 7 {
				for _, protocol := range []string{"tcp", "udp"} {
					require.False(t, permits(v.of(one)[0], network.Egress, v.of(other)[0], protocol, port), "%s to %s, %s %d", one, other, protocol, port)
					require.False(t, permits(v.of(one)[0], network.Ingress, v.of(other)[0], protocol, port), "%s from %s, %s %d", one, other, protocol, port)
				}
			}
		}
	}
	require.Positive(t, apart)
	require.False(t, related[[2]string{"dmz", "data"}])
	for _, tier := range []string{"application", "data", "management", "platform", "firewall"} {
		for _, direction := range []network.Direction{network.Egress, network.Ingress} {
			for port := 1; port <= 65535; port++ {
				require.False(t, permits(v.of(tier)[0], direction, "", "tcp", port), "%s and the internet, %d", tier, port)
			}
		}
	}
	// The firewall's endpoints have what is between the zones on both of its sides, and no more.
	for _, direction := range []network.Direction{network.Egress, network.Ingress} {
		for _, tier := range []string{"dmz", "public", "application", "data", "management", "platform"} {
			between := tier == "dmz" || tier == "public" || tier == "application"
			require.Equal(t, between, permits(v.of("firewall")[0], direction, v.of(tier)[0], "tcp", 8443), tier)
		}
	}
}

func TestPacketsAreWrittenDown(t *testing.T) {
	g := record(t, args(t))
	flow := g.One(t, "FlowLog")
	require.Equal(t, "ALL", flow.Object["trafficType"])
	require.EqualValues(t, 60, flow.Object["maxAggregationInterval"])
	require.Equal(t, vpcID, flow.Object["vpcId"])
	require.Contains(t, flow.Object["logFormat"], "${pkt-srcaddr}")
	require.Contains(t, flow.Dependencies, "net-flow-policy")
	groups := g.All("LogGroup")
	require.Len(t, groups, 2)
	for _, group := range groups {
		require.Equal(t, key, group.Object["kmsKeyId"])
		require.EqualValues(t, 365, group.Object["retentionInDays"])
		require.True(t, group.Protect)
	}
	require.Equal(t, "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/vendedlogs/stack/net/flow", flow.Object["logDestination"])

	role, policy := g.One(t, "Role"), g.One(t, "RolePolicy")
	trust := text(role, "assumeRolePolicy")
	require.Empty(t, iampolicy.ValidateAs(iampolicy.Trust, trust))
	require.Contains(t, trust, `"aws:SourceAccount":"123456789012"`)
	require.Contains(t, trust, `"aws:SourceArn":"arn:aws:ec2:eu-central-1:123456789012:vpc-flow-log/*"`)
	rights := text(policy, "policy")
	require.Empty(t, iampolicy.ValidateAs(iampolicy.Inline, rights))
	require.Empty(t, iampolicy.Wildcards(rights))
	require.Contains(t, rights, `"Resource":"arn:aws:logs:eu-central-1:123456789012:log-group:/aws/vendedlogs/stack/net/flow:*"`)
}

func TestDNSAnswersWhatIsNeeded(t *testing.T) {
	g := record(t, args(t))
	require.Equal(t, "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/vendedlogs/stack/net/queries", g.One(t, "ResolverQueryLogConfig").Object["destinationArn"])
	require.Equal(t, vpcID, g.One(t, "ResolverQueryLogConfigAssociation").Object["resourceId"])
	require.Equal(t, "DISABLED", g.One(t, "ResolverFirewallConfig").Object["firewallFailOpen"])
	association := g.One(t, "ResolverFirewallRuleGroupAssociation")
	require.Equal(t, vpcID, association.Object["vpcId"])
	require.Equal(t, "ENABLED", association.Object["mutationProtection"])
	domains := map[string][]any{}
	for _, list := range g.All("ResolverFirewallDomainList") {
		domains[id("rslvr-fdl", list)] = list.Object["domains"].([]any)
	}
	// answers says what the rules say of a name, by priority.
	answers := func(name string) bool {
		rules := g.All("ResolverFirewallRule")
		slices.SortFunc(rules, func(a, b manifesttest.Resource) int {
			return number(a.Object["priority"]) - number(b.Object["priority"])
		})
		for _, r := range rules {
			for _, domain := range domains[text(r, "firewallDomainListId")] {
				suffix, wild := strings.CutPrefix(domain.(string), "*")
				if wild && strings.HasSuffix(name, suffix) || domain == name {
					return r.Object["action"] == "ALLOW"
				}
			}
		}
		return true
	}
	for _, name := range []string{
		"kms.eu-central-1.amazonaws.com", "123456789012.dkr.ecr.eu-central-1.amazonaws.com", "0123.gr7.eu-central-1.eks.amazonaws.com",
		"db.cluster-abc.eu-central-1.rds.amazonaws.com", "eks-auth.eu-central-1.api.aws", "ip-10-0-32-4.eu-central-1.compute.internal",
		"spire-server.prod.internal", "prod-eu-central-1-starport-layer-bucket.s3.eu-central-1.amazonaws.com", "net.elb.eu-central-1.amazonaws.com",
	} {
		require.True(t, answers(name), name)
	}
	for _, name := range []string{
		"example.com", "secret.attacker.example", "kms.us-east-1.amazonaws.com", "eu-central-1.amazonaws.com.attacker.example", "eks-auth.eu-central-1.api.aws.x",
		"attackerprod.internal", "4.32.0.10.in-addr.arpa",
	} {
		require.False(t, answers(name), name)
	}

	open := args(t)
	open.OpenDNS = true
	g = record(t, open)
	require.Empty(t, g.All("ResolverFirewallRule"))
	require.Empty(t, g.All("ResolverFirewallRuleGroupAssociation"))
	g.One(t, "ResolverQueryLogConfigAssociation")
}

// TestEndpointsAreTheAccounts reads every policy.
func TestEndpointsAreTheAccounts(t *testing.T) {
	a := args(t)
	a.Endpoints = []string{"ssm"}
	v := look(record(t, a))
	var names []string
	for _, e := range v.All("VpcEndpoint") {
		name := strings.TrimPrefix(text(e, "serviceName"), "com.amazonaws.eu-central-1.")
		names = append(names, name)
		require.Equal(t, "Interface", e.Object["vpcEndpointType"])
		require.Equal(t, true, e.Object["privateDnsEnabled"])
		require.Equal(t, []any{"sg-net-group-aws-services"}, e.Object["securityGroupIds"])
		var subnets []string
		for _, s := range e.Object["subnetIds"].([]any) {
			subnets = append(subnets, s.(string))
		}
		require.Equal(t, v.of("platform"), subnets)
		policy := text(e, "policy")
		require.Empty(t, iampolicy.ValidateAs(iampolicy.Resource, policy), name)
		var parsed struct {
			Statement []struct {
				Sid, Effect string
				Action      any
				Resource    string
				Condition   map[string]map[string]any
			}
		}
		require.NoError(t, json.Unmarshal([]byte(policy), &parsed))
		for _, s := range parsed.Statement {
			require.Equal(t, "Allow", s.Effect)
			if s.Sid == "LayersOfImages" {
				require.Equal(t, "s3", name)
				require.Equal(t, "s3:GetObject", s.Action)
				require.Equal(t, "arn:aws:s3:::prod-eu-central-1-starport-layer-bucket/*", s.Resource)
				continue
			}
			require.Equal(t, standin.Account, s.Condition["StringEquals"]["aws:PrincipalAccount"], "%s %s", name, s.Sid)
			foreign := []string{"ec2", "guardduty-data", "ssm"}
			if !slices.Contains(foreign, name) && s.Sid != "Pull" {
				require.Equal(t, standin.Account, s.Condition["StringEqualsIfExists"]["aws:ResourceAccount"], "%s %s", name, s.Sid)
			}
			if strings.HasPrefix(name, "ecr.") {
				require.NotContains(t, fmt.Sprint(s.Action), "Put")
				require.NotContains(t, fmt.Sprint(s.Action), "*")
			}
		}
		if name == "s3" {
			require.Equal(t, false, manifesttest.Get(e.Object, "dnsOptions.privateDnsOnlyForInboundResolverEndpoint"))
		}
	}
	require.ElementsMatch(t, []string{
		"ec2", "ecr.api", "ecr.dkr", "s3", "sts", "logs", "kms", "secretsmanager", "acm-pca", "elasticloadbalancing", "autoscaling", "eks", "eks-auth",
		"guardduty-data", "sns", "monitoring", "ssm",
	}, names)
}

func TestOutputs(t *testing.T) {
	a := args(t)
	manifesttest.Record(t, func(ctx *pulumi.Context) error {
		v, err := New(ctx, "net", a)
		if err != nil {
			return err
		}
		require.Len(t, v.SubnetIDs("data"), 3)
		require.Empty(t, v.SubnetIDs("cellar"))
		require.Contains(t, v.Groups(), network.GroupControlPlane)
		require.Contains(t, v.Groups(), network.Group(zones.EdgeBalancer))
		checked := pulumi.All(v.GroupID("nodes"), v.RouteTableID("public", "eu-central-1b"), v.SubnetIDs("data").ToStringArrayOutput(), v.EndpointID("kms")).
			ApplyT(func(all []any) (string, error) {
				require.Equal(t, []any{"sg-net-group-nodes", "rtb-net-routes-public-eu-central-1b",
					[]string{"subnet-net-subnet-data-eu-central-1a", "subnet-net-subnet-data-eu-central-1b", "subnet-net-subnet-data-eu-central-1c"},
					"vpce-net-endpoint-kms"}, all)
				return "checked", nil
			})
		ctx.Export("checked", checked)
		return nil
	})
	for what, output := range map[string]func(*VPC) pulumi.StringOutput{
		`security group "cellar"`:     func(v *VPC) pulumi.StringOutput { return v.GroupID("cellar") },
		"route table of data in mars": func(v *VPC) pulumi.StringOutput { return v.RouteTableID("data", "mars") },
		"endpoint of rds":             func(v *VPC) pulumi.StringOutput { return v.EndpointID("rds") },
	} {
		err := pulumi.RunErr(func(ctx *pulumi.Context) error {
			v, err := New(ctx, "net", a)
			if err == nil {
				ctx.Export("missing", output(v))
			}
			return err
		}, pulumi.WithMocks("project", "stack", &manifesttest.Graph{}))
		require.ErrorContains(t, err, "the network has no "+what)
	}
}

func TestBadArgumentsAreRefused(t *testing.T) {
	refused := func(a *Args) error {
		return manifesttest.Refused(t, func(ctx *pulumi.Context) error {
			_, err := New(ctx, "net", a)
			return err
		})
	}
	for name, c := range map[string]struct {
		change func(*Args)
		want   string
	}{
		"another region":     {func(a *Args) { a.Region = "eu-west-1" }, `region: "eu-west-1" is not allowed: it must be that of the availability zones, eu-central-1`},
		"no account":         {func(a *Args) { a.AccountID = "prod" }, `accountID: "prod" is not allowed`},
		"two zones":          {func(a *Args) { a.Plan.Zones = azs[:2] }, `plan: availability zones: "[eu-central-1a eu-central-1b]" is not allowed: there must be 3 or 4`},
		"for ever":           {func(a *Args) { a.LogRetentionDays = 0 }, `logRetentionDays: "0" is not allowed: it must be one of`},
		"no such retention":  {func(a *Args) { a.LogRetentionDays = 100 }, `logRetentionDays: "100" is not allowed`},
		"no key":             {func(a *Args) { a.FlowLogKeyARN = nil }, `flowLogKeyARN: "" is not allowed: it must be set`},
		"endpoint twice":     {func(a *Args) { a.Endpoints = []string{"kms"} }, `endpoints: "kms" is not allowed: it is there already`},
		"no endpoint":        {func(a *Args) { a.Endpoints = []string{"com.amazonaws/x"} }, `endpoints: "com.amazonaws/x" is not allowed`},
		"no domain":          {func(a *Args) { a.PrivateZones = []string{"*"} }, `privateZones: "*" is not allowed`},
		"a whole top domain": {func(a *Args) { a.PrivateZones = []string{"internal"} }, `privateZones: "internal" is not allowed`},
		"no endpoints' role": {func(a *Args) { a.Model = zones.Standard(zones.Options{}) }, "model: it must have a role with the group aws-services"},
		"invalid model":      {func(a *Args) { a.Model.Flows[0].Why = "" }, "model: "},
	} {
		t.Run(name, func(t *testing.T) {
			a := args(t)
			a.Model = a.Model.Clone()
			c.change(a)
			require.ErrorContains(t, refused(a), c.want)
		})
	}
	err := refused(nil)
	for _, field := range []string{"plan: ", "region: ", "accountID: ", "flowLogKeyARN: ", "logRetentionDays: "} {
		require.ErrorContains(t, err, field, "all at once")
	}
}
