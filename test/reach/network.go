package reach

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"ephemos.dev/deploy/test/graph"
	"ephemos.dev/deploy/test/standin"
)

// packetTypes are the beginnings of the types that have a part in what a packet meets.
var packetTypes = []string{"aws:ec2/", "aws:vpc/", "aws:networkfirewall/"}

// A Network is the part of a graph that decides about packets, of one VPC.
type Network struct {
	name    string
	cidrs   []netip.Prefix
	gateway string // the internet gateway's identifier, empty without one
	subnets []*subnet
	groups  map[string]*group // by the name of the resource
	// ingress is the route table of what enters by the internet gateway. Nil: straight to where it is for.
	ingress   *table
	endpoints map[string]*endpoint // by identifier
}

type subnet struct {
	name, id, zone string
	cidr           netip.Prefix
	acl            *acl
	table          *table
}

// A table is a route table. What no route matches stays within the VPC when it is for the VPC.
type table struct {
	name   string
	routes []route
}

type route struct {
	name   string
	cidr   netip.Prefix
	target string // an identifier, or "local"
}

type acl struct {
	name    string
	entries []entry // sorted by number
}

type entry struct {
	name           string
	number         int
	egress, allow  bool
	protocol       string // "tcp", "udp", or "-1" for all
	cidr           netip.Prefix
	fromPort, last int
}

type group struct {
	name, id string
	rules    []rule
}

type rule struct {
	name           string
	egress         bool
	protocol       string
	fromPort, last int
	cidr           netip.Prefix // invalid when the other end is a group
	peer           string       // a group's identifier
}

// An endpoint is a firewall's in one availability zone.
type endpoint struct {
	id       string
	subnet   *subnet
	firewall *firewall
}

// reader collects what a graph says, and everything in it that is not understood.
type reader struct {
	graph *graph.Graph
	ids   map[string]*graph.Resource
	outs  map[*graph.Resource]resource.PropertyMap
	net   *Network
	// vpc is the VPC's identifier.
	vpc    string
	tables map[string]*table
	acls   map[string]*acl
	errs   []error
}

// foreign are types that could let packets in or out in ways that this package does not know.
var foreign = []string{
	"aws:ec2/securityGroupRule:", "aws:ec2/vpcPeeringConnection", "aws:ec2/peeringConnectionOptions:", "aws:ec2transitgateway/", "aws:ec2/vpnGateway",
	"aws:ec2/vpnConnection", "aws:ec2/egressOnlyInternetGateway:", "aws:ec2/carrierGateway:", "aws:ec2/vpcIpv4CidrBlockAssociation:", "aws:ec2/vpcIpv6CidrBlockAssociation:",
	"aws:ec2/managedPrefixList", "aws:ec2/natGateway:", "aws:ec2/mainRouteTableAssociation:", "aws:vpc/securityGroupVpcAssociation:", "aws:vpc/routeServer",
	"aws:networkfirewall/vpcEndpointAssociation:", "aws:networkfirewall/firewallTransitGatewayAttachmentAccepter:", "aws:ec2/networkInterfaceSecurityGroupAttachment:",
}

// Read reads the network of a VPC, which is named by its resource; the name may be empty when there is one VPC. The graph has to be one
// of an update. The error names every resource that is not understood.
func Read(g *graph.Graph, vpc string) (*Network, error) {
	r := &reader{
		graph: g, ids: map[string]*graph.Resource{}, outs: map[*graph.Resource]resource.PropertyMap{}, tables: map[string]*table{}, acls: map[string]*acl{},
		net: &Network{groups: map[string]*group{}, endpoints: map[string]*endpoint{}},
	}
	if g.Preview {
		return nil, errors.New("the graph is of a preview, which knows no identifiers")
	}
	for _, res := range g.Resources {
		for _, prefix := range foreign {
			if strings.HasPrefix(res.Type, prefix) {
				r.fail(res, "it is not understood")
			}
		}
		// Nothing else has a part in what a packet meets.
		if !slices.ContainsFunc(packetTypes, func(prefix string) bool { return strings.HasPrefix(res.Type, prefix) }) {
			continue
		}
		id, outputs, err := standin.Answer(res.Type, res.Name, res.Inputs)
		if err != nil {
			r.fail(res, "%v", err)
			continue
		}
		if other := r.ids[id]; other != nil && other.Type == res.Type {
			r.fail(res, "its identifier %s is that of %s", id, other.Name)
		}
		r.ids[id], r.outs[res] = res, outputs
	}
	r.readVPC(vpc)
	if len(r.errs) == 0 {
		r.readTables()
		r.readACLs()
		r.readSubnets()
		r.readGroups()
		r.readFirewalls()
		r.targets()
	}
	return r.net, errors.Join(r.errs...)
}

func (r *reader) fail(res *graph.Resource, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s: %s", res, fmt.Sprintf(format, args...)))
}

// id is the identifier of a resource.
func (r *reader) id(res *graph.Resource) string {
	id, _, _ := standin.Answer(res.Type, res.Name, res.Inputs)
	return id
}

// of lists the resources of a type.
func (r *reader) of(token string) []*graph.Resource {
	var found []*graph.Resource
	for _, res := range r.graph.Resources {
		if res.Type == token {
			found = append(found, res)
		}
	}
	return found
}

// inVPC lists the resources of a type that are in the VPC.
func (r *reader) inVPC(token string) []*graph.Resource {
	return slices.DeleteFunc(r.of(token), func(res *graph.Resource) bool { return inputs(res).text("vpcId") != r.vpc })
}

// An object is a set of properties. What is missing is zero; what is of another type, too.
type object map[string]any

func inputs(res *graph.Resource) object { return res.Object() }

func (o object) text(key string) string { s, _ := o[key].(string); return s }
func (o object) number(key string) int  { n, _ := o[key].(float64); return int(n) }
func (o object) flag(key string) bool   { b, _ := o[key].(bool); return b }
func (o object) object(key string) object {
	m, _ := o[key].(map[string]any)
	return m
}

func (o object) objects(key string) []object {
	list, _ := o[key].([]any)
	out := make([]object, 0, len(list))
	for _, e := range list {
		m, _ := e.(map[string]any)
		out = append(out, m)
	}
	return out
}

func (o object) texts(key string) []string {
	list, _ := o[key].([]any)
	out := make([]string, 0, len(list))
	for _, e := range list {
		s, _ := e.(string)
		out = append(out, s)
	}
	return out
}

// only reports properties that are set and not among those that are understood.
func (r *reader) only(res *graph.Resource, o object, understood ...string) {
	for key, value := range o {
		list, isList := value.([]any)
		if value != nil && value != "" && value != false && (!isList || len(list) > 0) && !slices.Contains(understood, key) && key != "__defaults" {
			r.fail(res, "%s is not understood", key)
		}
	}
}

func (r *reader) prefix(res *graph.Resource, text string) netip.Prefix {
	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is4() || p != p.Masked() {
		r.fail(res, "%q is not a range of IPv4 addresses", text)
	}
	return p
}

func (r *reader) readVPC(name string) {
	var found []*graph.Resource
	for _, res := range r.of("aws:ec2/vpc:Vpc") {
		if name == "" || res.Name == name {
			found = append(found, res)
		}
	}
	if len(found) != 1 {
		r.errs = append(r.errs, fmt.Errorf("VPC %q: there are %d", name, len(found)))
		return
	}
	vpc := found[0]
	r.only(vpc, inputs(vpc), "cidrBlock", "enableDnsHostnames", "enableDnsSupport", "tags", "instanceTenancy", "enableNetworkAddressUsageMetrics")
	r.vpc, r.net.name = r.id(vpc), vpc.Name
	r.net.cidrs = []netip.Prefix{r.prefix(vpc, inputs(vpc).text("cidrBlock"))}
	gateways := r.inVPC("aws:ec2/internetGateway:InternetGateway")
	for _, attachment := range r.inVPC("aws:ec2/internetGatewayAttachment:InternetGatewayAttachment") {
		if res := r.ids[inputs(attachment).text("internetGatewayId")]; res != nil {
			gateways = append(gateways, res)
		}
	}
	for _, res := range gateways {
		r.net.gateway = r.id(res)
	}
}

// defaultOf says whether a default's identifier is that of the VPC.
func (r *reader) defaultOf(key, id string) bool {
	output := r.outs[r.ids[r.vpc]][resource.PropertyKey(key)]
	return output.IsString() && output.StringValue() == id
}

func (r *reader) readTables() {
	main := &table{name: "main route table of " + r.net.name}
	for _, res := range r.inVPC("aws:ec2/routeTable:RouteTable") {
		r.tables[r.id(res)] = r.table(res, "vpcId", "tags", "routes")
	}
	for _, res := range r.of("aws:ec2/defaultRouteTable:DefaultRouteTable") {
		if id := inputs(res).text("defaultRouteTableId"); r.defaultOf("defaultRouteTableId", id) {
			main = r.table(res, "defaultRouteTableId", "tags", "routes")
			r.tables[id], r.tables[r.id(res)] = main, main
		}
	}
	r.tables[""] = main
	for _, res := range r.of("aws:ec2/route:Route") {
		in := inputs(res)
		if t := r.tables[in.text("routeTableId")]; t != nil {
			t.routes = append(t.routes, r.route(res, res.Name, in, "destinationCidrBlock", "routeTableId"))
		} else if !r.known(in.text("routeTableId")) {
			r.fail(res, "its route table %q is not in the graph", in.text("routeTableId"))
		}
	}
	for _, t := range r.tables {
		seen := map[netip.Prefix]string{}
		for _, route := range t.routes {
			if other, twice := seen[route.cidr]; twice {
				r.errs = append(r.errs, fmt.Errorf("%s: %s and %s are both for %s", t.name, other, route.name, route.cidr))
			}
			seen[route.cidr] = route.name
		}
	}
}

// known says whether an identifier is of a resource of the graph, of another VPC perhaps.
func (r *reader) known(id string) bool { return r.ids[id] != nil }

func (r *reader) table(res *graph.Resource, understood ...string) *table {
	t := &table{name: res.Name}
	r.only(res, inputs(res), understood...)
	for i, route := range inputs(res).objects("routes") {
		t.routes = append(t.routes, r.route(res, fmt.Sprintf("%s[%d]", res.Name, i), route, "cidrBlock"))
	}
	return t
}

func (r *reader) route(res *graph.Resource, name string, o object, cidr string, understood ...string) route {
	r.only(res, o, append(understood, cidr, "gatewayId", "vpcEndpointId")...)
	return route{name, r.prefix(res, o.text(cidr)), cmp.Or(o.text("gatewayId"), o.text("vpcEndpointId"))}
}

func (r *reader) readACLs() {
	// Every VPC is made with an ACL that allows everything.
	whole := netip.MustParsePrefix("0.0.0.0/0")
	open := &acl{name: "default network ACL of " + r.net.name}
	for _, egress := range []bool{false, true} {
		open.entries = append(open.entries, entry{name: open.name, number: 100, egress: egress, allow: true, protocol: all, cidr: whole})
	}
	for _, res := range r.inVPC("aws:ec2/networkAcl:NetworkAcl") {
		r.acls[r.id(res)] = r.acl(res, "vpcId", "tags", "ingress", "egress", "subnetIds")
	}
	for _, res := range r.of("aws:ec2/defaultNetworkAcl:DefaultNetworkAcl") {
		if id := inputs(res).text("defaultNetworkAclId"); r.defaultOf("defaultNetworkAclId", id) {
			open = r.acl(res, "defaultNetworkAclId", "tags", "ingress", "egress", "subnetIds")
			r.acls[id], r.acls[r.id(res)] = open, open
		}
	}
	r.acls[""] = open
	for _, res := range r.of("aws:ec2/networkAclRule:NetworkAclRule") {
		in := inputs(res)
		if a := r.acls[in.text("networkAclId")]; a != nil {
			r.only(res, in, "networkAclId", "ruleNumber", "egress", "protocol", "ruleAction", "cidrBlock", "fromPort", "toPort", "icmpType", "icmpCode")
			a.entries = append(a.entries, entry{
				res.Name, in.number("ruleNumber"), in.flag("egress"), r.allow(res, in.text("ruleAction")), r.protocol(res, in.text("protocol")),
				r.prefix(res, in.text("cidrBlock")), in.number("fromPort"), in.number("toPort"),
			})
		} else if !r.known(in.text("networkAclId")) {
			r.fail(res, "its network ACL %q is not in the graph", in.text("networkAclId"))
		}
	}
	for _, a := range r.acls {
		slices.SortStableFunc(a.entries, func(x, y entry) int { return cmp.Compare(x.number, y.number) })
		for i, e := range a.entries {
			for _, other := range a.entries[:i] {
				if other.number == e.number && other.egress == e.egress {
					r.errs = append(r.errs, fmt.Errorf("%s: %s and %s have the number %d", a.name, other.name, e.name, e.number))
				}
			}
		}
	}
}

func (r *reader) acl(res *graph.Resource, understood ...string) *acl {
	a := &acl{name: res.Name}
	r.only(res, inputs(res), understood...)
	for _, direction := range []string{"ingress", "egress"} {
		for i, o := range inputs(res).objects(direction) {
			r.only(res, o, "action", "cidrBlock", "fromPort", "toPort", "protocol", "ruleNo", "icmpType", "icmpCode")
			a.entries = append(a.entries, entry{
				fmt.Sprintf("%s.%s[%d]", res.Name, direction, i), o.number("ruleNo"), direction == "egress", r.allow(res, o.text("action")),
				r.protocol(res, o.text("protocol")), r.prefix(res, o.text("cidrBlock")), o.number("fromPort"), o.number("toPort"),
			})
		}
	}
	return a
}

func (r *reader) allow(res *graph.Resource, action string) bool {
	if action != "allow" && action != "deny" {
		r.fail(res, "the action %q is not understood", action)
	}
	return action == "allow"
}

// all is AWS' name for every protocol.
const all = "-1"

// protocol is the name of a protocol that AWS takes by name or number.
func (r *reader) protocol(res *graph.Resource, text string) string {
	names := map[string]string{"tcp": "tcp", "6": "tcp", "udp": "udp", "17": "udp", "icmp": "icmp", "1": "icmp", all: all, "all": all}
	name, ok := names[strings.ToLower(text)]
	if !ok {
		r.fail(res, "the protocol %q is not understood", text)
	}
	return name
}

func (r *reader) readSubnets() {
	tables, acls := map[string]string{}, map[string]string{}
	assign := func(res *graph.Resource, to map[string]string, subnet, id string) {
		if other, twice := to[subnet]; twice && other != id {
			r.fail(res, "subnet %s has another", subnet)
		}
		to[subnet] = id
	}
	for _, res := range r.of("aws:ec2/routeTableAssociation:RouteTableAssociation") {
		in := inputs(res)
		t := r.tables[in.text("routeTableId")]
		switch {
		case t == nil && !r.known(in.text("routeTableId")):
			r.fail(res, "its route table %q is not in the graph", in.text("routeTableId"))
		case t == nil:
		case in.text("gatewayId") == "":
			assign(res, tables, in.text("subnetId"), in.text("routeTableId"))
		case in.text("gatewayId") == r.net.gateway:
			r.net.ingress = t
		default:
			r.fail(res, "the gateway %q is not understood", in.text("gatewayId"))
		}
	}
	for _, token := range []string{"aws:ec2/networkAcl:NetworkAcl", "aws:ec2/defaultNetworkAcl:DefaultNetworkAcl"} {
		for _, res := range r.of(token) {
			for _, id := range inputs(res).texts("subnetIds") {
				if _, ours := r.acls[r.id(res)]; ours {
					assign(res, acls, id, r.id(res))
				}
			}
		}
	}
	for _, res := range r.of("aws:ec2/networkAclAssociation:NetworkAclAssociation") {
		assign(res, acls, inputs(res).text("subnetId"), inputs(res).text("networkAclId"))
	}
	for _, res := range r.inVPC("aws:ec2/subnet:Subnet") {
		in := inputs(res)
		s := &subnet{name: res.Name, id: r.id(res), zone: in.text("availabilityZone"), cidr: r.prefix(res, in.text("cidrBlock"))}
		if s.table = r.tables[tables[s.id]]; s.table == nil {
			r.fail(res, "its route table %q is not in the graph", tables[s.id])
		}
		if s.acl = r.acls[acls[s.id]]; s.acl == nil {
			r.fail(res, "its network ACL %q is not in the graph", acls[s.id])
		}
		if in.text("ipv6CidrBlock") != "" || in.flag("ipv6Native") {
			r.fail(res, "IPv6 is not understood")
		}
		for _, other := range r.net.subnets {
			if other.cidr.Overlaps(s.cidr) {
				r.fail(res, "%s overlaps %s of %s", s.cidr, other.cidr, other.name)
			}
		}
		r.net.subnets = append(r.net.subnets, s)
	}
}

func (r *reader) readGroups() {
	byID := map[string]*group{}
	for _, res := range r.inVPC("aws:ec2/securityGroup:SecurityGroup") {
		g := &group{name: res.Name, id: r.id(res)}
		byID[g.id], r.net.groups[g.name] = g, g
		r.inline(res, g)
	}
	for _, res := range r.inVPC("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup") {
		output := r.outs[r.ids[r.vpc]]["defaultSecurityGroupId"]
		g := &group{name: res.Name, id: output.StringValue()}
		byID[g.id], byID[r.id(res)], r.net.groups[g.name] = g, g, g
		r.inline(res, g)
	}
	for token, egress := range map[string]bool{
		"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": false, "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": true,
	} {
		for _, res := range r.of(token) {
			in := inputs(res)
			g := byID[in.text("securityGroupId")]
			if g == nil {
				if !r.known(in.text("securityGroupId")) {
					r.fail(res, "its security group %q is not in the graph", in.text("securityGroupId"))
				}
				continue
			}
			r.only(res, in, "securityGroupId", "ipProtocol", "fromPort", "toPort", "cidrIpv4", "referencedSecurityGroupId", "description", "tags")
			rule := rule{
				name: res.Name, egress: egress, protocol: r.protocol(res, in.text("ipProtocol")), fromPort: in.number("fromPort"), last: in.number("toPort"),
				peer: in.text("referencedSecurityGroupId"),
			}
			switch {
			case (in.text("cidrIpv4") == "") == (rule.peer == ""):
				r.fail(res, "it must have one other end")
			case rule.peer == "":
				rule.cidr = r.prefix(res, in.text("cidrIpv4"))
			case byID[rule.peer] == nil:
				r.fail(res, "the security group %q is not in the graph", rule.peer)
			}
			g.rules = append(g.rules, rule)
		}
	}
	for _, g := range r.net.groups {
		slices.SortFunc(g.rules, func(a, b rule) int { return strings.Compare(a.name, b.name) })
	}
}

// inline reads the rules within a security group.
func (r *reader) inline(res *graph.Resource, g *group) {
	for _, direction := range []string{"ingress", "egress"} {
		for i, o := range inputs(res).objects(direction) {
			r.only(res, o, "cidrBlocks", "description", "fromPort", "toPort", "protocol", "securityGroups", "self")
			base := rule{
				name: fmt.Sprintf("%s.%s[%d]", res.Name, direction, i), egress: direction == "egress", protocol: r.protocol(res, o.text("protocol")),
				fromPort: o.number("fromPort"), last: o.number("toPort"),
			}
			for _, text := range o.texts("cidrBlocks") {
				one := base
				one.cidr = r.prefix(res, text)
				g.rules = append(g.rules, one)
			}
			peers := o.texts("securityGroups")
			if o.flag("self") {
				peers = append(peers, g.id)
			}
			for _, peer := range peers {
				one := base
				one.peer = peer
				g.rules = append(g.rules, one)
			}
		}
	}
}

// targets checks that every route leads somewhere that is understood.
func (r *reader) targets() {
	for _, t := range r.tables {
		for _, route := range t.routes {
			if route.target != "local" && route.target != r.net.gateway && r.net.endpoints[route.target] == nil || route.target == "" {
				r.errs = append(r.errs, fmt.Errorf("%s: the target %q is not understood", route.name, route.target))
			}
		}
	}
}
