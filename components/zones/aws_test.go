package zones

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Each row changes the model in one way, and the error must name what is wrong.
func TestRulesOfTheCloud(t *testing.T) {
	refused(t, func() Model { return AWS(Options{}) }, map[string]change{
		// Requests that call themselves something else.
		"a request called a delivery":       {add(Flow{Payment, SPIREServer, "grpc", Delivery, false, "x"}), []string{"flow payment -> spire-server:grpc", "leads to node-ports"}},
		"a gateway's request as a delivery": {add(Flow{WebGateway, Cache, "mtls", Delivery, true, "x"}), []string{"flow web-gateway -> cache:mtls", "leads to node-ports"}},
		"a service delivers":                {add(Flow{Payment, EntryPorts, "primary", Delivery, false, "x"}), []string{"flow payment -> entry-ports:primary", "only a load balancer"}},
		"nodes deliver":                     {add(Flow{Kubelet, EntryPorts, "primary", Delivery, false, "x"}), []string{"flow kubelet -> entry-ports:primary", "only a load balancer"}},
		"the outside delivers":              {add(Flow{Clients, EdgePorts, "web", Delivery, false, "x"}), []string{"flow clients -> edge-ports:web", "only a load balancer"}},
		"the outside past the balancer":     {add(Flow{Clients, EdgePorts, "web", Request, false, "x"}), []string{"flow clients -> edge-ports:web", "delivery"}},
		"an agent past the balancer":        {add(Flow{SPIREAgent, EntryPorts, "primary", Identity, false, "x"}), []string{"flow spire-agent -> entry-ports:primary", "delivery"}},
		"a delivery that is a request":      {func(m *Model) { flow(m, "edge-balancer -> edge-ports:web").Kind = Request }, []string{"flow edge-balancer -> edge-ports:web", "delivery"}},
		"a delivery straight to pods":       {func(m *Model) { flow(m, "edge-balancer -> web-gateway:https").Kind = Delivery }, []string{"flow edge-balancer -> web-gateway:https", "leads to node-ports"}},
		"a delivery in plaintext":           {func(m *Model) { role(m, EdgePorts).Ports[0].Protection = Plain }, []string{"flow edge-balancer -> edge-ports:web", "plaintext"}},
		"a delivery into another zone":      {add(Flow{EdgeBalancer, EntryPorts, "primary", Delivery, false, "x"}), []string{"flow edge-balancer -> entry-ports:primary", "within its zone only"}},
		"a delivery with nobody behind":     {without("spire-entry -> spire-server:grpc"), []string{"flow spire-entry -> entry-ports:primary", "behind it"}},
		"a delivery with less behind":       {func(m *Model) { role(m, SPIREServer).Ports[0].Protection = Plain }, []string{"flow spire-entry -> entry-ports:primary", "behind it"}},
		"a delivery with only figures behind": {func(m *Model) {
			without("spire-entry -> spire-server:grpc")(m)
			add(Flow{SPIREEntry, SPIREServer, "webhook", Control, false, "x"})(m)
		}, []string{"flow spire-entry -> entry-ports:primary", "behind it"}},

		// Services of the cloud.
		"the balancer goes deeper":            {add(Flow{EdgeBalancer, Payment, "mtls", Request, true, "x"}), []string{"flow edge-balancer -> payment:mtls", "within its zone only"}},
		"the balancer names":                  {add(Flow{EdgeBalancer, DNS, "dns", Naming, false, "x"}), []string{"flow edge-balancer -> dns:dns", "within its zone only"}},
		"the database calls back":             {add(Flow{Database, SPIREServer, "metrics", Metrics, false, "x"}), []string{"flow database -> spire-server:metrics", "within its zone only"}},
		"endpoints open connections":          {add(Flow{AWSServices, SPIREServer, "grpc", Identity, false, "x"}), []string{"flow aws-services -> spire-server:grpc", "within its zone only"}},
		"a service signs for itself":          {add(Flow{Payment, AWSServices, "https", Control, false, "x"}), []string{"flow payment -> aws-services:https", "no rights in the cloud"}},
		"the first tier signs for itself":     {add(Flow{WebGateway, AWSServices, "https", Control, false, "x"}), []string{"flow web-gateway -> aws-services:https", "no rights in the cloud"}},
		"the data sign for themselves":        {add(Flow{Cache, AWSServices, "https", Metrics, false, "x"}), []string{"flow cache -> aws-services:https", "no rights in the cloud"}},
		"a gateway skips to the database":     {add(Flow{WebGateway, Database, "postgres", Request, false, "x"}), []string{"flow web-gateway -> database:postgres", "skips a tier"}},
		"a service without mutual TLS":        {add(Flow{User, Database, "postgres", Request, false, "x"}), []string{"flow user -> database:postgres", "mutual TLS is required"}},
		"nodes request the database":          {add(Flow{SPIREAgent, Database, "postgres", Request, false, "x"}), []string{"flow spire-agent -> database:postgres", "no requests"}},
		"a database that knows nobody":        {func(m *Model) { role(m, Database).Authentication = "" }, []string{"flow spire-server -> database:postgres", "mutual TLS is required"}},
		"a database in plaintext":             {func(m *Model) { role(m, Database).Ports[0].Protection = Plain }, []string{"flow spire-server -> database:postgres", "plaintext"}},
		"a pod that knows callers by a token": {func(m *Model) { role(m, Cache).Authentication = "x" }, []string{"role cache", "authentication"}},
		"a pod with a group of its own":       {func(m *Model) { role(m, Cache).Group = "cache" }, []string{"role cache", "group"}},
		"a group that is a zone's":            {func(m *Model) { role(m, Database).Group = "application" }, []string{"role database", `"application"`, "a zone's"}},
		"one group for two":                   {func(m *Model) { role(m, SPIREEntry).Group = Database }, []string{"role spire-entry", "role database"}},
		"a group of no name":                  {func(m *Model) { role(m, Database).Group = "Data base" }, []string{"role database", `"Data base"`}},
		"a database with labels":              {func(m *Model) { role(m, Database).Labels = map[string]string{"a": "b"} }, []string{"role database", "only pods"}},
		"a database with an identity":         {func(m *Model) { role(m, Database).SPIFFEPath = "/data/database" }, []string{"role database", "no identity"}},
		"a balancer outside":                  {func(m *Model) { role(m, EdgeBalancer).Zone = Internet }, []string{"role edge-balancer", `"managed"`}},

		// Ports of nodes.
		"a port of pods on nodes":       {func(m *Model) { role(m, EdgePorts).Ports[0].Number = 8443 }, []string{"role edge-ports", "8443", "30000"}},
		"a port beyond":                 {func(m *Model) { role(m, EdgePorts).Ports[0].Number = 32768 }, []string{"role edge-ports", "32768"}},
		"ports of the platform's nodes": {func(m *Model) { role(m, EntryPorts).Zone = Platform }, []string{"role entry-ports", "no pods of the deployment"}},
		"ports of nodes that call":      {add(Flow{EntryPorts, SPIREServer, "grpc", Identity, false, "x"}), []string{"flow entry-ports -> spire-server:grpc", "nothing comes from"}},

		// What is on the caller's own node.
		"an address that is routed":       {func(m *Model) { role(m, PodIdentity).Address = "10.0.0.1" }, []string{"role pod-identity", `"10.0.0.1"`}},
		"no address":                      {func(m *Model) { role(m, PodIdentity).Address = "" }, []string{"role pod-identity", "link-local"}},
		"a pod with an address":           {func(m *Model) { role(m, Cache).Address = "169.254.0.1" }, []string{"role cache", "address"}},
		"a node's program that calls":     {add(Flow{PodIdentity, AWSServices, "https", Control, false, "x"}), []string{"flow pod-identity -> aws-services:https", "nothing comes from"}},
		"a request for credentials":       {add(Flow{CSIDriver, PodIdentity, "http", Metrics, false, "x"}), []string{"flow csi-driver -> pod-identity:http", "as control"}},
		"a node asks for a pod's":         {add(Flow{SPIREAgent, PodIdentity, "http", Control, false, "x"}), []string{"flow spire-agent -> pod-identity:http", "by pods"}},
		"a service asks for credentials":  {add(Flow{Payment, PodIdentity, "http", Control, false, "x"}), []string{"flow payment -> pod-identity:http", "no rights"}},
		"the data ask for credentials":    {add(Flow{Queue, PodIdentity, "http", Control, false, "x"}), []string{"flow queue -> pod-identity:http", "no rights"}},
		"a gateway asks for credentials":  {add(Flow{WebGateway, PodIdentity, "http", Control, false, "x"}), []string{"flow web-gateway -> pod-identity:http"}},
		"an unknown kind names all kinds": {func(m *Model) { m.Flows[0].Kind = "gossip" }, []string{`"gossip"`, "naming or delivery"}},
	})
}

func without(name string) func(*Model) {
	return func(m *Model) { m.Flows = slices.DeleteFunc(m.Flows, func(f Flow) bool { return f.String() == name }) }
}

// The models of the platforms differ where AWS brings something else, and nowhere else.
func TestAWSIsStandardButForWhatAWSBrings(t *testing.T) {
	standard, aws := Standard(Options{APIServerPort: 443}), AWS(Options{})
	own := []string{EdgeBalancer, EdgePorts, EntryPorts, DatabaseSetup, AWSServices, PodIdentity, Database, SPIREEntry}
	gone := []string{DatabaseOperator, RootCA}
	for _, r := range standard.Roles {
		other, there := aws.Role(r.Name)
		switch {
		case slices.Contains(gone, r.Name):
			if there {
				t.Errorf("%s is there", r.Name)
			}
		case !slices.Contains(own, r.Name) && !reflect.DeepEqual(r, other):
			t.Errorf("%s: %+v instead of %+v", r.Name, other, r)
		}
	}
	for _, r := range aws.Roles {
		if _, there := standard.Role(r.Name); !there && !slices.Contains(own, r.Name) {
			t.Errorf("%s is new", r.Name)
		}
	}
	if aws.Ours(NamespaceOperator) || len(aws.Namespaces) != len(standard.Namespaces)-1 {
		t.Error(aws.Namespaces)
	}
	differs := func(f Flow) bool {
		return slices.Contains(own, f.From) || slices.Contains(own, f.To) || slices.Contains(gone, f.From) || slices.Contains(gone, f.To) || f.From == Clients ||
			f.From == DNS
	}
	common := func(m Model) []Flow { return slices.DeleteFunc(slices.Clone(m.Flows), differs) }
	if !slices.Equal(common(standard), common(aws)) {
		t.Errorf("%v\n%v", common(standard), common(aws))
	}
	if !reflect.DeepEqual(standard.Zones, aws.Zones) {
		t.Error("the zones differ")
	}
}

// The ports of nodes are each one Service's.
func TestPortsOfNodesAreDistinct(t *testing.T) {
	seen := map[int]bool{}
	for _, r := range AWS(Options{}).Roles {
		if r.Place != NodePorts {
			continue
		}
		for _, p := range r.Ports {
			if seen[p.Number] {
				t.Errorf("%s: %d is taken", r.Name, p.Number)
			}
			seen[p.Number] = true
		}
	}
	if len(seen) != 4 {
		t.Error(seen)
	}
}

func TestWhatAWSBringsIsOnThePage(t *testing.T) {
	page := AWS(Options{}).Page()
	for _, want := range []string{
		"# Network zones on AWS\n", "n-clients ---|HTTPS|control-waf", "control-waf --> n-edge-balancer", "n-spire-server ---|TLS|n-database",
		"| edge-balancer | edge-ports | 30443/tcp | TLS | delivery | groups |", "| spire-server | pod-identity | 80/tcp | plaintext | control | policies |",
		"| spire-server | database | 5432/tcp | TLS | request | groups, policies |", "security group database (callers by tokens of IAM",
		"169.254.170.23 on the caller's node", "ports of the zone's nodes",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if strings.Contains(page, "cnpg") || strings.Contains(page, "control-waf --> n-web-gateway") {
		t.Error("what AWS does not have is on the page")
	}
}
