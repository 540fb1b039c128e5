package zones

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/zones.md and docs/zones-aws.md anew")

// models are those of the platforms, by the page that shows them.
func models() map[string]Model {
	return map[string]Model{"zones.md": Standard(Options{}), "zones-aws.md": AWS(Options{})}
}

func TestTheModelsAreValid(t *testing.T) {
	for name, m := range models() {
		if err := m.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestThePagesAreCurrent(t *testing.T) {
	for name, m := range models() {
		file, page := "../../docs/"+name, m.Page()
		if *update {
			if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		current, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(current) != page {
			t.Errorf("docs/%s is not what the model says: go test ./components/zones -update", name)
		}
	}
}

// Each row changes the model in one way, and the error must name what is wrong.
func TestRules(t *testing.T) {
	refused(t, func() Model { return Standard(Options{}) }, map[string]change{
		"a tier is skipped":          {add(Flow{WebGateway, Cache, "mtls", Request, true, "x"}), []string{"flow web-gateway -> cache:mtls", "skips a tier"}},
		"data calls back":            {add(Flow{Cache, User, "mtls", Request, true, "x"}), []string{"flow cache -> user:mtls", "no deeper"}},
		"the outside reaches inside": {add(Flow{Clients, Payment, "mtls", Request, true, "x"}), []string{"flow clients -> payment:mtls", "only the first tier"}},
		"a request into management":  {add(Flow{Payment, SPIREServer, "grpc", Request, false, "x"}), []string{"flow payment -> spire-server:grpc", "managing"}},
		"the platform requests":      {add(Flow{Kubelet, Order, "mtls", Request, true, "x"}), []string{"flow kubelet -> order:mtls", "no requests"}},
		"data reaches the internet": {func(m *Model) {
			role(m, Clients).Ports = []Port{{Name: "https", Number: 443, Protection: TLS}}
			add(Flow{Cache, Clients, "https", Request, false, "x"})(m)
		}, []string{"flow cache -> clients:https", "does not reach the internet"}},
		"no mutual TLS between tiers": {func(m *Model) { flow(m, "web-gateway -> payment:mtls").MTLS = false }, []string{"flow web-gateway -> payment:mtls", "mutual TLS is required"}},
		"the port has less":           {func(m *Model) { role(m, Cache).Ports[0].Protection = TLS }, []string{"flow user -> cache:mtls", "requires mutual TLS"}},
		"a request in plaintext":      {add(Flow{Payment, User, "http", Request, false, "x"}), []string{"flow payment -> user:http", "plaintext"}},
		"no reason":                   {func(m *Model) { flow(m, "user -> order:mtls").Why = " " }, []string{"flow user -> order:mtls", "reason"}},
		"twice":                       {add(Flow{User, Order, "mtls", Request, true, "x"}), []string{"flow user -> order:mtls", "twice"}},
		"an unknown kind":             {func(m *Model) { flow(m, "user -> order:mtls").Kind = "gossip" }, []string{"flow user -> order:mtls", `"gossip"`}},
		"unknown ends":                {add(Flow{"nobody", "nothing", "mtls", Request, true, "x"}), []string{`no role "nobody"`, `no role "nothing"`}},
		"an unknown port":             {add(Flow{Payment, Order, "smtp", Request, true, "x"}), []string{"flow payment -> order:smtp", `no port "smtp"`}},
		"a zone open by default":      {func(m *Model) { zone(m, Data).Default = Allow }, []string{"zone data", `"allow"`}},
		"a zone of no tier":           {func(m *Model) { zone(m, Data).Tier = 0 }, []string{"zone data", "tier 0"}},
		"a tier beside":               {func(m *Model) { zone(m, Management).Tier = 1 }, []string{"zone management", "tier 1"}},
		"an unknown class":            {func(m *Model) { zone(m, Data).Class = "secret" }, []string{"zone data", `"secret"`}},
		"a port too high":             {func(m *Model) { role(m, Order).Ports[0].Number = 70000 }, []string{"role order", "70000"}},
		"two ports in one":            {func(m *Model) { role(m, Order).Ports[1].Number = 8443 }, []string{"role order", "twice"}},
		"two roles in one":            {func(m *Model) { role(m, Order).Labels = role(m, User).Labels }, []string{"role order", "role user"}},
		"a role in another zone":      {func(m *Model) { role(m, Cache).Zone = Application }, []string{"role cache", "say why it is apart"}},
		"a foreign namespace":         {func(m *Model) { role(m, Cache).Namespace = "default" }, []string{"role cache", `"default"`}},
		"a node with labels":          {func(m *Model) { role(m, Kubelet).Labels = map[string]string{"a": "b"} }, []string{"role kubelet", "only pods"}},
		"a place of its own":          {func(m *Model) { role(m, Kubelet).Place = "attic" }, []string{"role kubelet", `"attic"`}},
		"a namespace outside":         {func(m *Model) { m.Namespaces[0].Zone = Internet }, []string{"namespace dmz", `"internet"`}},
		"a zone twice":                {func(m *Model) { m.Zones = append(m.Zones, m.Zones[1]) }, []string{"zone dmz", "twice"}},
		"a path without slash":        {func(m *Model) { role(m, Cache).SPIFFEPath = "cache" }, []string{"role cache", `"cache"`}},
		"a path upwards":              {func(m *Model) { role(m, Cache).SPIFFEPath = "/data/../spire/server" }, []string{"role cache", "segments"}},
		"one identity for two":        {func(m *Model) { role(m, Cache).SPIFFEPath = "/workload/user-service" }, []string{"role cache", "role user"}},
		"a selector within another": {func(m *Model) { role(m, Queue).Labels = map[string]string{"app.kubernetes.io/name": "cache"} },
			[]string{"role queue", "role cache"}},
		"a selector beside another": {func(m *Model) { role(m, Queue).Labels = map[string]string{"tier": "data"} }, []string{"role queue", "role cache"}},
		"no label of Kubernetes":    {func(m *Model) { role(m, Queue).Labels["a b"] = "!!" }, []string{"role queue", `"a b=!!"`}},
		"apart among the services":  {func(m *Model) { r := role(m, Cache); r.Namespace, r.Apart = NamespaceServices, "x" }, []string{"role cache", "only a managing zone"}},
		"a role named as the deny":  {func(m *Model) { role(m, Cache).Name = DefaultDeny }, []string{`role "default-deny"`}},
		"one port by two protocols' names": {func(m *Model) {
			r := role(m, Cache)
			r.Ports = append(r.Ports, Port{Name: "again", Number: 6379, Protocol: TCP, Protection: MTLS})
		}, []string{"role cache", "again", "twice"}},
		"the outside reads metrics":          {add(Flow{Clients, WebGateway, "http", Metrics, false, "x"}), []string{"flow clients -> web-gateway:http", "requests only"}},
		"the outside has control":            {add(Flow{Clients, WebGateway, "http", Control, false, "x"}), []string{"flow clients -> web-gateway:http", "requests only"}},
		"the first tier calls kubelets":      {add(Flow{WebGateway, Kubelet, "https", Request, false, "x"}), []string{"flow web-gateway -> kubelet:https", "takes no requests"}},
		"the first tier has control":         {add(Flow{WebGateway, KubeAPIServer, "https", Control, false, "x"}), []string{"flow web-gateway -> kube-apiserver:https", "control of"}},
		"a request called an identity":       {add(Flow{Payment, SPIREServer, "grpc", Identity, false, "x"}), []string{"flow payment -> spire-server:grpc", "no agents"}},
		"a webhook called an identity":       {add(Flow{WebGateway, DatabaseOperator, "webhook", Identity, false, "x"}), []string{"flow web-gateway -> database-operator:webhook"}},
		"an identity from the data":          {add(Flow{User, Cache, "http", Identity, false, "x"}), []string{"flow user -> cache:http", "no identities"}},
		"metrics between tiers":              {add(Flow{WebGateway, Payment, "http", Metrics, false, "x"}), []string{"flow web-gateway -> payment:http", "requests only"}},
		"nodes into the data as control":     {add(Flow{SPIREAgent, Database, "status", Control, false, "x"}), []string{"flow spire-agent -> database:status", "nodes reach"}},
		"a health port called naming":        {add(Flow{SPIREAgent, SPIREServer, "health", Naming, false, "x"}), []string{"flow spire-agent -> spire-server:health", "answers no names"}},
		"management without mutual TLS":      {add(Flow{DatabaseOperator, Database, "metrics", Request, false, "x"}), []string{"flow database-operator -> database:metrics"}},
		"mutual TLS that is not asked for":   {add(Flow{SPIREServer, Cache, "mtls", Request, false, "x"}), []string{"flow spire-server -> cache:mtls", "accepts mutual TLS only"}},
		"the platform's metrics of the data": {add(Flow{Kubelet, Cache, "http", Request, false, "x"}), []string{"flow kubelet -> cache:http"}},
	})
}

// A change breaks a model in a way that the error must name.
type change struct {
	apply func(*Model)
	want  []string
}

func flow(m *Model, name string) *Flow {
	return &m.Flows[slices.IndexFunc(m.Flows, func(f Flow) bool { return f.String() == name })]
}

func role(m *Model, name string) *Role {
	return &m.Roles[slices.IndexFunc(m.Roles, func(r Role) bool { return r.Name == name })]
}

func zone(m *Model, name Zone) *ZoneSpec {
	return &m.Zones[slices.IndexFunc(m.Zones, func(z ZoneSpec) bool { return z.Zone == name })]
}

func add(f Flow) func(*Model) { return func(m *Model) { m.Flows = append(m.Flows, f) } }

func refused(t *testing.T, model func() Model, changes map[string]change) {
	t.Helper()
	for name, row := range changes {
		t.Run(name, func(t *testing.T) {
			m := model()
			row.apply(&m)
			err := m.Validate()
			if err == nil {
				t.Fatal("it is accepted")
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
}

func TestAnEmptyModelIsRefused(t *testing.T) {
	if (Model{}).Validate() == nil {
		t.Fatal("it is accepted")
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	m := Standard(Options{})
	m.Zones[1].Default = Allow
	m.Flows[0].Why = ""
	m.Roles[1].Ports[0].Number = 0
	if err := m.Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Fatalf("three errors were expected: %v", err)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	m := Standard(Options{})
	before := fmt.Sprintf("%+v", m)
	c := m.Clone()
	c.Zones[0].Default, c.Namespaces[0].Name, c.Flows[0].Why = Allow, "x", "x"
	c.Roles[1].Labels["x"], c.Roles[1].Ports[0].Number = "x", 1
	if fmt.Sprintf("%+v", m) != before {
		t.Fatal("a change of the copy changes the model")
	}
}

func TestANewServiceIsOnThePage(t *testing.T) {
	m := Standard(Options{})
	m.Roles = append(m.Roles, Role{Name: "refund", Title: "Refunds", Zone: Application, Place: Pods, Namespace: NamespaceServices,
		Labels: map[string]string{"app": "refund"}, Ports: []Port{{Name: "mtls", Number: 9444, Protection: MTLS}}})
	m.Flows = append(m.Flows, Flow{Payment, "refund", "mtls", Request, true, "money goes back"})
	for _, want := range []string{`n-refund["Refunds"]`, "n-payment ---|mTLS|n-refund", "| payment | refund | 9444/tcp |", "9444 m"} {
		if !strings.Contains(m.Page(), want) {
			t.Errorf("%q is not on the page", want)
		}
	}
}

func TestCallers(t *testing.T) {
	m := Standard(Options{})
	for role, want := range map[string][]string{
		Payment: {"/gateway/web"}, User: {"/workload/payment-service"}, Order: {"/gateway/api", "/workload/user-service"}, Cache: {"/workload/user-service"},
		Queue: {"/workload/order-service"},
	} {
		if got := m.Callers(role, "mtls"); !slices.Equal(got, want) {
			t.Errorf("%s: %v instead of %v", role, got, want)
		}
	}
}
