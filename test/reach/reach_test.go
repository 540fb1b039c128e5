package reach

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/test/graph"
	"ephemos.dev/deploy/test/standin"
)

// A small VPC, written by hand: a load balancer in a public subnet, a gateway in the DMZ, a service in two availability zones, and a
// firewall between gateway and service.
type built map[string]*graph.Resource

func (b built) add(token, name string, in map[string]any) {
	b[name] = &graph.Resource{URN: name, Type: token, Name: name, Custom: true, Inputs: resource.NewPropertyMapFromMap(in)}
}

// id is the identifier that the stand-in gives a resource of a type and that name.
func id(token string) func(name string) string {
	return func(name string) string {
		id, _, err := standin.Answer(token, name, resource.PropertyMap{})
		if err != nil {
			panic(err)
		}
		return id
	}
}

var (
	vpcID     = id("aws:ec2/vpc:Vpc")
	gatewayID = id("aws:ec2/internetGateway:InternetGateway")
	subnetID  = id("aws:ec2/subnet:Subnet")
	tableID   = id("aws:ec2/routeTable:RouteTable")
	aclID     = id("aws:ec2/networkAcl:NetworkAcl")
	groupID   = id("aws:ec2/securityGroup:SecurityGroup")
)

// set changes one input of a resource.
func (b built) set(name, key string, value any) {
	if b[name] == nil {
		panic("no resource " + name)
	}
	b[name].Inputs = b[name].Inputs.Copy()
	b[name].Inputs[resource.PropertyKey(key)] = resource.NewPropertyValue(value)
}

func (b built) graph() *graph.Graph {
	g := &graph.Graph{}
	for _, r := range b {
		g.Resources = append(g.Resources, r)
	}
	return g
}

const policyARN = "arn:aws:network-firewall:" + standin.Region + ":" + standin.Account + ":firewall-policy/policy"

func entryOf(number int, action, protocol, cidr string, from, to int) map[string]any {
	return map[string]any{"ruleNo": number, "action": action, "protocol": protocol, "cidrBlock": cidr, "fromPort": from, "toPort": to}
}

const rules = `# between the gateway and the service
drop tcp $DMZ any -> $APPLICATION any (msg:"an attack; of some kind"; flow:to_server,established; content:"|ff|SMB"; sid:1; rev:1;)
drop tcp $DMZ any -> $APPLICATION [445,3389] (msg:"a scan"; flow:to_server; flags:S,CE; sid:2; rev:1;)
alert tcp $DMZ any -> $APPLICATION any (msg:"seen"; sid:3; rev:1;)
drop tcp $DMZ any -> $APPLICATION any (msg:"no packet of a connection"; flow:to_server; flags:SF; sid:8; rev:1;)
drop tcp $APPLICATION any -> $DMZ any (msg:"back"; flow:to_server; sid:4; rev:1;)
drop tcp $DMZ any -> $APPLICATION ![8443] (msg:"other ports"; flow:to_server; sid:5; rev:1;)
pass tcp $DMZ any -> $APPLICATION 8443 (msg:"mTLS"; flow:to_server; sid:6; rev:1;)
pass tcp $APPLICATION 8443 -> $DMZ any (msg:"answers"; flow:to_client; sid:7; rev:1;)
`

func small() built {
	b := built{}
	b.add("aws:ec2/vpc:Vpc", "main", map[string]any{"cidrBlock": "10.0.0.0/16", "enableDnsSupport": true})
	b.add("aws:ec2/internetGateway:InternetGateway", "gate", map[string]any{"vpcId": vpcID("main")})
	for name, s := range map[string][2]string{
		"public-a": {"10.0.0.0/24", "a"}, "dmz-a": {"10.0.1.0/24", "a"}, "app-a": {"10.0.2.0/24", "a"}, "app-b": {"10.0.3.0/24", "b"},
		"wall-a": {"10.0.250.0/28", "a"}, "wall-b": {"10.0.250.16/28", "b"},
	} {
		b.add("aws:ec2/subnet:Subnet", name, map[string]any{"vpcId": vpcID("main"), "cidrBlock": s[0], "availabilityZone": standin.Region + s[1]})
		b.add("aws:ec2/routeTable:RouteTable", "table-"+name, map[string]any{"vpcId": vpcID("main")})
		b.add("aws:ec2/routeTableAssociation:RouteTableAssociation", "of-"+name, map[string]any{"subnetId": subnetID(name), "routeTableId": tableID("table-" + name)})
	}
	route := func(name, table, cidr, key, target string) {
		b.add("aws:ec2/route:Route", name, map[string]any{"routeTableId": tableID("table-" + table), "destinationCidrBlock": cidr, key: target})
	}
	route("out", "public-a", "0.0.0.0/0", "gatewayId", gatewayID("gate"))
	route("dmz-to-app-a", "dmz-a", "10.0.2.0/24", "vpcEndpointId", "vpce-firewall-a")
	route("dmz-to-app-b", "dmz-a", "10.0.3.0/24", "vpcEndpointId", "vpce-firewall-a")
	route("app-a-to-dmz", "app-a", "10.0.1.0/24", "vpcEndpointId", "vpce-firewall-a")
	route("app-b-to-dmz", "app-b", "10.0.1.0/24", "vpcEndpointId", "vpce-firewall-a")

	b.add("aws:ec2/networkAcl:NetworkAcl", "acl-public", map[string]any{"vpcId": vpcID("main"), "subnetIds": []any{subnetID("public-a")},
		"ingress": []any{entryOf(100, "allow", "tcp", "10.0.1.0/24", 1024, 65535), entryOf(110, "deny", "-1", "10.0.0.0/16", 0, 0),
			entryOf(120, "allow", "6", "0.0.0.0/0", 443, 443)},
		"egress": []any{entryOf(100, "allow", "tcp", "10.0.1.0/24", 8443, 8443), entryOf(110, "deny", "-1", "10.0.0.0/16", 0, 0),
			entryOf(120, "allow", "tcp", "0.0.0.0/0", 1024, 65535)},
	})
	b.add("aws:ec2/networkAcl:NetworkAcl", "acl-app", map[string]any{"vpcId": vpcID("main"),
		"ingress": []any{entryOf(100, "allow", "tcp", "10.0.1.0/24", 1, 65535), entryOf(110, "allow", "tcp", "10.0.2.0/23", 8443, 8443),
			entryOf(120, "allow", "tcp", "10.0.2.0/23", 32768, 65535)},
		"egress": []any{entryOf(100, "allow", "tcp", "10.0.1.0/24", 32768, 65535), entryOf(110, "allow", "tcp", "10.0.2.0/23", 8443, 8443),
			entryOf(120, "allow", "tcp", "10.0.2.0/23", 32768, 65535)},
	})
	b.add("aws:ec2/networkAclAssociation:NetworkAclAssociation", "acl-of-app-a", map[string]any{"networkAclId": aclID("acl-app"), "subnetId": subnetID("app-a")})
	b.add("aws:ec2/networkAclAssociation:NetworkAclAssociation", "acl-of-app-b", map[string]any{"networkAclId": aclID("acl-app"), "subnetId": subnetID("app-b")})
	b.add("aws:ec2/networkAcl:NetworkAcl", "acl-dmz", map[string]any{"vpcId": vpcID("main"), "subnetIds": []any{subnetID("dmz-a")}})
	for name, e := range map[string]map[string]any{
		"dmz-in-lb":  {"ruleNumber": 100, "egress": false, "cidrBlock": "10.0.0.0/24", "fromPort": 8443, "toPort": 8443},
		"dmz-in-app": {"ruleNumber": 110, "egress": false, "cidrBlock": "10.0.2.0/23", "fromPort": 32768, "toPort": 65535},
		"dmz-to-lb":  {"ruleNumber": 100, "egress": true, "cidrBlock": "10.0.0.0/24", "fromPort": 1024, "toPort": 65535},
		"dmz-to-app": {"ruleNumber": 110, "egress": true, "cidrBlock": "10.0.2.0/23", "fromPort": 1, "toPort": 65535},
	} {
		e["networkAclId"], e["protocol"], e["ruleAction"] = aclID("acl-dmz"), "tcp", "allow"
		b.add("aws:ec2/networkAclRule:NetworkAclRule", name, e)
	}

	for _, name := range []string{"lb", "gateway", "service"} {
		b.add("aws:ec2/securityGroup:SecurityGroup", name, map[string]any{"vpcId": vpcID("main"), "description": name})
	}
	grant := func(name, kind, group, peer string, port int) {
		in := map[string]any{"securityGroupId": groupID(group), "ipProtocol": "tcp", "fromPort": port, "toPort": port}
		if strings.Contains(peer, "/") {
			in["cidrIpv4"] = peer
		} else {
			in["referencedSecurityGroupId"] = groupID(peer)
		}
		b.add(fmt.Sprintf("aws:vpc/securityGroup%[1]sRule:SecurityGroup%[1]sRule", kind), name, in)
	}
	grant("lb-from-all", "Ingress", "lb", "0.0.0.0/0", 443)
	grant("lb-to-gateway", "Egress", "lb", "gateway", 8443)
	grant("gateway-from-lb", "Ingress", "gateway", "lb", 8443)
	grant("gateway-to-service", "Egress", "gateway", "10.0.2.0/23", 8443)
	grant("service-from-gateway", "Ingress", "service", "10.0.1.0/24", 8443)
	grant("service-from-service", "Ingress", "service", "service", 8443)
	grant("service-to-service", "Egress", "service", "service", 8443)

	b.add("aws:networkfirewall/firewall:Firewall", "wall", map[string]any{"vpcId": vpcID("main"), "firewallPolicyArn": policyARN,
		"subnetMappings": []any{map[string]any{"subnetId": subnetID("wall-b")}, map[string]any{"subnetId": subnetID("wall-a")}}})
	b.add("aws:networkfirewall/firewallPolicy:FirewallPolicy", "policy", map[string]any{"firewallPolicy": policyOf("aws:drop_strict", "aws:alert_strict")})
	b.add("aws:networkfirewall/ruleGroup:RuleGroup", "rules", map[string]any{"type": "STATEFUL", "capacity": 100, "ruleGroup": groupOf(rules)})
	return b
}

func policyOf(actions ...any) map[string]any {
	return map[string]any{
		"statelessDefaultActions": []any{"aws:forward_to_sfe"}, "statelessFragmentDefaultActions": []any{"aws:forward_to_sfe"},
		"statefulDefaultActions": actions, "statefulEngineOptions": map[string]any{"ruleOrder": "STRICT_ORDER"},
		"statefulRuleGroupReferences": []any{map[string]any{"priority": 1,
			"resourceArn": "arn:aws:network-firewall:" + standin.Region + ":" + standin.Account + ":stateful-rulegroup/rules"}},
	}
}

func groupOf(text string) map[string]any {
	set := func(key, cidr string) any {
		return map[string]any{"key": key, "ipSet": map[string]any{"definitions": []any{cidr}}}
	}
	return map[string]any{
		"rulesSource":         map[string]any{"rulesString": text},
		"ruleVariables":       map[string]any{"ipSets": []any{set("DMZ", "10.0.1.0/24"), set("APPLICATION", "10.0.2.0/23")}},
		"statefulRuleOptions": map[string]any{"ruleOrder": "STRICT_ORDER"},
	}
}

func at(name, address string, groups ...string) Interface {
	return Interface{Name: name, Address: netip.MustParseAddr(address), Groups: groups}
}

var (
	client    = Interface{Name: "client", Address: netip.MustParseAddr("198.51.100.9"), Ephemeral: 1024}
	lb        = Interface{Name: "lb", Address: netip.MustParseAddr("10.0.0.10"), Groups: []string{"lb"}, Ephemeral: 1024}
	gateway   = at("gateway", "10.0.1.10", "gateway")
	service   = at("service", "10.0.2.10", "service")
	elsewhere = at("service in b", "10.0.3.10", "service")
)

func tcp(from, to Interface, port int) Connection { return Connection{from, to, "tcp", port} }

func ask(t *testing.T, b built, c Connection) Answer {
	t.Helper()
	n, err := Read(b.graph(), "")
	require.NoError(t, err)
	return n.Reach(c)
}

func TestAllowed(t *testing.T) {
	for name, c := range map[string]struct {
		ask Connection
		way string
	}{
		"from the internet": {tcp(client, lb, 443), "ingress of acl-public, ingress of lb by lb-from-all, egress of acl-public, route out to " + gatewayID("gate")},
		"between subnets":   {tcp(lb, gateway, 8443), "egress of lb by lb-to-gateway, egress of acl-public, ingress of acl-dmz, ingress of gateway by gateway-from-lb"},
		"through the firewall": {tcp(gateway, service, 8443), "egress of gateway by gateway-to-service, egress of acl-dmz, route dmz-to-app-a to vpce-firewall-a, " +
			"ingress of default network ACL of main, wall by rules, rule 6, egress of default network ACL of main, ingress of acl-app, " +
			"ingress of service by service-from-gateway, egress of acl-app, route app-a-to-dmz to vpce-firewall-a"},
		"through the firewall of another zone": {tcp(gateway, elsewhere, 8443), "route app-b-to-dmz to vpce-firewall-a"},
		"between the zones of one tier":        {tcp(service, elsewhere, 8443), "egress of acl-app, ingress of acl-app"},
		"within a subnet": {tcp(service, at("another", "10.0.2.11", "service"), 8443),
			"egress of service by service-to-service, within app-a, ingress of service by service-from-service, within app-a"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := ask(t, small(), c.ask)
			require.True(t, answer.Allowed, answer)
			require.Contains(t, strings.Join(answer.Way, ", "), c.way)
			require.Contains(t, answer.String(), "allowed: ")
		})
	}
}

func TestObstacles(t *testing.T) {
	nothing := func(built) {}
	set := func(name, key string, value any) func(built) {
		return func(b built) { b.set(name, key, value) }
	}
	gone := func(names ...string) func(built) {
		return func(b built) {
			for _, name := range names {
				if b[name] == nil {
					panic(name)
				}
				delete(b, name)
			}
		}
	}
	for name, c := range map[string]struct {
		change   func(built)
		ask      Connection
		resource string
		obstacle string
	}{
		"the group that it leaves":         {gone("gateway-to-service"), tcp(gateway, service, 8443), "gateway", "egress: no rule allows tcp 8443 with service"},
		"the group that it leaves by port": {nothing, tcp(gateway, service, 8080), "gateway", "no rule allows tcp 8080"},
		"by protocol":                      {nothing, Connection{gateway, service, "udp", 8443}, "gateway", "no rule allows udp 8443"},
		"the group that it enters":         {gone("service-from-gateway"), tcp(gateway, service, 8443), "service", "ingress: no rule allows tcp 8443 with gateway"},
		"a group has no rules":             {nothing, tcp(lb, service, 8443), "lb", "egress"},
		"no group":                         {nothing, tcp(at("bare", "10.0.1.11"), service, 8443), "main", "no security group"},
		"an unknown group":                 {nothing, tcp(at("lost", "10.0.1.11", "gone"), service, 8443), "gone", "no such"},
		"a group named through the firewall": {func(b built) {
			delete(b["service-from-gateway"].Inputs, "cidrIpv4")
			b.set("service-from-gateway", "referencedSecurityGroupId", groupID("gateway"))
		}, tcp(gateway, service, 8443), "service", "does not match through a firewall"},
		"a group named through the firewall at the start": {func(b built) {
			delete(b["gateway-to-service"].Inputs, "cidrIpv4")
			b.set("gateway-to-service", "referencedSecurityGroupId", groupID("service"))
		}, tcp(gateway, service, 8443), "gateway", "does not match through a firewall"},

		"the ACL that it leaves":  {set("dmz-to-app", "toPort", 8000), tcp(gateway, service, 8443), "acl-dmz", "egress of dmz-a: the last entry drops"},
		"the ACL that it enters":  {set("dmz-in-lb", "cidrBlock", "10.0.9.0/24"), tcp(lb, gateway, 8443), "acl-dmz", "ingress of dmz-a: the last entry drops"},
		"an entry that denies":    {set("dmz-in-lb", "ruleAction", "deny"), tcp(lb, gateway, 8443), "acl-dmz", "dmz-in-lb drops"},
		"an earlier entry denies": {nothing, tcp(gateway, lb, 443), "gateway", "egress"},
		"the ACL that answers leave": {set("dmz-to-lb", "fromPort", 1025), tcp(lb, gateway, 8443), "acl-dmz",
			"egress of dmz-a: the last entry drops tcp 10.0.1.10 -> 10.0.0.10:1024"},
		"a hole in the answers": {func(b built) {
			b.set("dmz-to-lb", "toPort", 39999)
			b.add("aws:ec2/networkAclRule:NetworkAclRule", "rest", map[string]any{"networkAclId": aclID("acl-dmz"), "protocol": "tcp", "ruleAction": "allow",
				"ruleNumber": 120, "egress": true, "cidrBlock": "10.0.0.0/24", "fromPort": 40001, "toPort": 65535})
		}, tcp(lb, gateway, 8443), "acl-dmz", "10.0.0.10:40000"},
		"the ACL that answers enter": {set("dmz-in-app", "fromPort", 40000), tcp(gateway, service, 8443), "acl-dmz", "ingress of dmz-a: the last entry drops"},
		"an ACL of the firewall's subnet": {func(b built) {
			b.add("aws:ec2/networkAcl:NetworkAcl", "acl-wall", map[string]any{"vpcId": vpcID("main"), "subnetIds": []any{subnetID("wall-a")}})
		}, tcp(gateway, service, 8443), "acl-wall", "ingress of wall-a"},
		"the default ACL is emptied": {func(b built) {
			b.add("aws:ec2/defaultNetworkAcl:DefaultNetworkAcl", "emptied", map[string]any{"defaultNetworkAclId": "acl-default-main"})
		}, tcp(gateway, service, 8443), "emptied", "ingress of wall-a"},

		"no way out":            {gone("out"), tcp(client, lb, 443), "table-public-a", "no route to 198.51.100.9"},
		"a route out of bounds": {set("dmz-to-app-a", "destinationCidrBlock", "10.0.2.0/25"), tcp(gateway, at("far", "10.0.2.200", "service"), 8443), "table-app-a", "asymmetric: the connection passes no firewall"},
		"a route to the internet": {func(b built) {
			b.set("dmz-to-app-a", "gatewayId", gatewayID("gate"))
			delete(b["dmz-to-app-a"].Inputs, "vpcEndpointId")
		}, tcp(gateway, service, 8443), "table-dmz-a", "out of the VPC"},
		"in circles": {func(b built) {
			b.add("aws:ec2/route:Route", "circle", map[string]any{"routeTableId": tableID("table-wall-a"), "destinationCidrBlock": "10.0.2.0/24", "vpcEndpointId": "vpce-firewall-b"})
		}, tcp(gateway, service, 8443), "table-wall-a", "leads from vpce-firewall-a to vpce-firewall-b"},
		"asymmetric: the other endpoint": {set("app-b-to-dmz", "vpcEndpointId", "vpce-firewall-b"), tcp(gateway, elsewhere, 8443), "table-app-b",
			"asymmetric: the connection passes vpce-firewall-a, its answers vpce-firewall-b"},
		"asymmetric: answers pass none": {gone("app-a-to-dmz"), tcp(gateway, service, 8443), "table-app-a", "its answers no firewall"},

		"the firewall's port":       {func(b built) { b.set("gateway-to-service", "fromPort", 8000) }, tcp(gateway, service, 8080), "wall", "rules, rule 5 drops"},
		"the firewall's first rule": {func(b built) { b.set("gateway-to-service", "fromPort", 1) }, tcp(gateway, service, 445), "wall", "rules, rule 2 drops"},
		"a connection back": {func(b built) {
			b.set("service-to-service", "cidrIpv4", "10.0.1.0/24")
			delete(b["service-to-service"].Inputs, "referencedSecurityGroupId")
			b.set("acl-app", "egress", []any{entryOf(100, "allow", "-1", "0.0.0.0/0", 0, 0)})
		}, tcp(service, gateway, 8443), "wall", "rules, rule 4 drops"},
		"the firewall knows no answers": {set("rules", "ruleGroup", groupOf(strings.ReplaceAll(rules, "flow:to_client", "flow:to_server"))),
			tcp(gateway, service, 8443), "wall", "policy, default action drops tcp 10.0.2.10:8443 -> 10.0.1.10:32768"},
		"the firewall without rules": {set("rules", "ruleGroup", groupOf("")), tcp(gateway, service, 8443), "wall", "policy, default action drops"},
		"other addresses": {set("rules", "ruleGroup", groupOf(strings.ReplaceAll(rules, "$DMZ", "[10.9.0.0/16,10.8.0.0/16]"))),
			tcp(gateway, service, 8443), "wall", "policy, default action"},

		"the outside past the load balancer": {nothing, tcp(client, gateway, 8443), "acl-dmz", "ingress"},
		"out of a private subnet":            {set("dmz-to-lb", "cidrBlock", "0.0.0.0/0"), tcp(gateway, client, 443), "gateway", "egress"},
		"no subnet":                          {nothing, tcp(gateway, at("nowhere", "10.0.99.1", "service"), 8443), "main", "10.0.99.1 is in no subnet"},
		"nothing of ours":                    {nothing, tcp(client, at("other", "203.0.113.1"), 443), "main", "neither end"},
	} {
		t.Run(name, func(t *testing.T) {
			b := small()
			c.change(b)
			answer := ask(t, b, c.ask)
			require.False(t, answer.Allowed, answer)
			require.Equal(t, c.resource, answer.Resource, answer)
			require.Contains(t, answer.Obstacle, c.obstacle)
			require.Contains(t, answer.String(), "denied by ")
		})
	}
}

// What could decide about a packet, and is not understood, is an error.
func TestWhatIsNotUnderstoodIsAnError(t *testing.T) {
	for want, change := range map[string]func(built){
		"aws:ec2/securityGroupRule:SecurityGroupRule old: it is not understood": func(b built) {
			b.add("aws:ec2/securityGroupRule:SecurityGroupRule", "old", map[string]any{})
		},
		"there are 2":          func(b built) { b.add("aws:ec2/vpc:Vpc", "second", map[string]any{"cidrBlock": "10.1.0.0/16"}) },
		"vpcPeeringConnection": func(b built) { b.add("aws:ec2/vpcPeeringConnection:VpcPeeringConnection", "x", map[string]any{}) },
		"dmz-to-app-a: transitGatewayId is not understood": func(b built) { b.set("dmz-to-app-a", "transitGatewayId", "tgw-1") },
		`dmz-to-app-a: the target "vpce-other"`:            func(b built) { b.set("dmz-to-app-a", "vpcEndpointId", "vpce-other") },
		"are both for 10.0.2.0/24":                         func(b built) { b.set("dmz-to-app-b", "destinationCidrBlock", "10.0.2.0/24") },
		"prefixListId is not understood":                   func(b built) { b.set("lb-from-all", "prefixListId", "pl-1") },
		"must have one other end":                          func(b built) { b.set("lb-from-all", "referencedSecurityGroupId", groupID("lb")) },
		`"sg-none" is not in the graph`:                    func(b built) { b.set("lb-to-gateway", "referencedSecurityGroupId", "sg-none") },
		`its security group "sg-none"`:                     func(b built) { b.set("lb-to-gateway", "securityGroupId", "sg-none") },
		`the protocol "47"`:                                func(b built) { b.set("lb-to-gateway", "ipProtocol", "47") },
		`"10.0.0.1/24" is not a range`:                     func(b built) { b.set("dmz-in-lb", "cidrBlock", "10.0.0.1/24") },
		"ipv6CidrBlock is not understood":                  func(b built) { b.set("dmz-in-lb", "ipv6CidrBlock", "::/0") },
		`the action "permit"`:                              func(b built) { b.set("dmz-in-lb", "ruleAction", "permit") },
		"have the number 110":                              func(b built) { b.set("dmz-to-lb", "ruleNumber", 110) },
		"overlaps":                                         func(b built) { b.set("app-b", "cidrBlock", "10.0.2.128/25") },
		`its network ACL "acl-none"`:                       func(b built) { b.set("acl-of-app-a", "networkAclId", "acl-none") },
		"has another": func(b built) {
			b.set("of-app-a", "subnetId", subnetID("dmz-a"))
		},
		`its route table "rtb-none"`:             func(b built) { b.set("of-app-a", "routeTableId", "rtb-none") },
		`the default action "aws:pass"`:          func(b built) { b.set("policy", "firewallPolicy", policyOf("aws:pass")) },
		"the rule is not understood":             func(b built) { b.set("rules", "ruleGroup", groupOf("pass everything")) },
		"the variable $HOME_NET is not defined":  func(b built) { b.set("rules", "ruleGroup", groupOf(strings.ReplaceAll(rules, "$DMZ", "$HOME_NET"))) },
		`its subnet "subnet-none"`:               func(b built) { b.set("wall", "subnetMappings", []any{map[string]any{"subnetId": "subnet-none"}}) },
		`the port "https" is not understood`:     func(b built) { b.set("rules", "ruleGroup", groupOf(strings.ReplaceAll(rules, "8443 ", "https "))) },
		"its policy \"" + policyARN + "-other\"": func(b built) { b.set("wall", "firewallPolicyArn", policyARN+"-other") },
		"rules: the type \"STATELESS\"":          func(b built) { b.set("rules", "type", "STATELESS") },
		"statefulRules is not understood": func(b built) {
			b.set("rules", "ruleGroup", map[string]any{"rulesSource": map[string]any{"statefulRules": []any{map[string]any{}}}})
		},
		"statelessRuleGroupReferences is not und": func(b built) {
			p := policyOf()
			p["statelessRuleGroupReferences"] = []any{map[string]any{}}
			b.set("policy", "firewallPolicy", p)
		},
	} {
		b := small()
		change(b)
		_, err := Read(b.graph(), "")
		require.ErrorContains(t, err, want)
	}
	_, err := Read(&graph.Graph{Preview: true}, "")
	require.ErrorContains(t, err, "preview")
	b := small()
	b.add("aws:ec2/vpc:Vpc", "second", map[string]any{"cidrBlock": "10.1.0.0/16"})
	_, err = Read(b.graph(), "main")
	require.NoError(t, err, "of two, one can be named")
}

// A default action that drops nothing lets through what no rule decides.
func TestADefaultActionThatDropsNothing(t *testing.T) {
	b := small()
	b.set("policy", "firewallPolicy", policyOf("aws:alert_strict"))
	b.set("rules", "ruleGroup", groupOf(""))
	require.True(t, ask(t, b, tcp(gateway, service, 8443)).Allowed)
}
