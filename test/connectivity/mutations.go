package connectivity

import (
	"slices"

	"ephemos.dev/deploy/components/zones"
)

// Mutation is a change to the standard model that must not pass unnoticed: either the model is refused, or a cluster that was
// deployed by the unchanged model is not what the changed one says.
type Mutation struct {
	Name   string
	Change func(*zones.Model)
	// Refused says that Model.Validate refuses the changed model. Otherwise the proof must find a difference.
	Refused bool
	// Names is what the error must contain, or the flow that a difference must name.
	Names string
}

// Apply returns the changed model.
func (c Mutation) Apply(m zones.Model) zones.Model {
	out := m.Clone()
	c.Change(&out)
	return out
}

// Mutations are changes to zones.Standard.
func Mutations() []Mutation {
	return slices.Concat(foundMutations(), refusedMutations())
}

// foundMutations leave the model valid: only a look at the cluster finds them.
func foundMutations() []Mutation {
	var out []Mutation
	add := func(name, flow string, change func(*zones.Model)) {
		out = append(out, Mutation{Name: name, Change: change, Names: flow})
	}
	add("a flow between pods removed", "user -> order:mtls", without(zones.User, zones.Order, "mtls"))
	add("a flow from agents on nodes removed", "spire-agent -> spire-entry:grpc", without(zones.SPIREAgent, zones.SPIREEntry, "grpc"))
	add("a flow from the API server removed", "kube-apiserver -> spire-server:webhook",
		without(zones.KubeAPIServer, zones.SPIREServer, "webhook"))
	add("a flow to the API server removed", "root-ca -> kube-apiserver:https", without(zones.RootCA, zones.KubeAPIServer, "https"))
	add("a flow from the internet removed", "clients -> web-gateway:https", without(zones.Clients, zones.WebGateway, "https"))
	add("DNS over UDP removed", "payment -> dns:dns", without(zones.Payment, zones.DNS, "dns"))
	add("a flow added and not deployed", "payment -> order:mtls", with(zones.Payment, zones.Order, "mtls", zones.Request, true))
	add("a flow widened to a second port", "user -> order:http", with(zones.User, zones.Order, "http", zones.Metrics, false))
	add("a port's number changed", "user -> order:mtls", port(zones.Order, "mtls", func(p *zones.Port) { p.Number = 8444 }))
	add("a port's protocol changed", "user -> cache:mtls", port(zones.Cache, "mtls", func(p *zones.Port) { p.Protocol = zones.UDP }))
	add("a role moved to another zone with its namespace", "user -> cache:mtls", role(zones.Cache, func(r *zones.Role) {
		r.Zone, r.Namespace = zones.Application, zones.NamespaceServices
	}))
	add("a role's selector changed", "order -> queue:mtls", role(zones.Queue, func(r *zones.Role) {
		r.Labels["app.kubernetes.io/instance"] = "other"
	}))
	add("the internet opened for the data zone, with a reason", "queue -> clients:api", func(m *zones.Model) {
		zone(zones.Data, func(z *zones.ZoneSpec) { z.Internet = "the queue announces orders to partners" })(m)
		callOut(zones.Queue)(m)
	})
	return out
}

// refusedMutations break a rule of the architecture.
func refusedMutations() []Mutation {
	var out []Mutation
	add := func(name, message string, change func(*zones.Model)) {
		out = append(out, Mutation{Name: name, Change: change, Refused: true, Names: message})
	}
	add("the internet opened for the data zone, without a reason", "flow queue -> clients:api", callOut(zones.Queue))
	add("a zone's default opened", "zone data: default", zone(zones.Data, func(z *zones.ZoneSpec) { z.Default = zones.Allow }))
	add("a flow that skips a tier", "flow web-gateway -> database:postgres",
		with(zones.WebGateway, zones.Database, "postgres", zones.Request, true))
	add("a flow from the inside to the outside", "flow queue -> order:mtls", with(zones.Queue, zones.Order, "mtls", zones.Request, true))
	add("a flow from the internet past the gateways", "flow clients -> payment:mtls",
		with(zones.Clients, zones.Payment, "mtls", zones.Request, true))
	add("a request into the management zone", "flow payment -> spire-server:grpc",
		with(zones.Payment, zones.SPIREServer, "grpc", zones.Request, false))
	add("mutual TLS dropped between tiers", "flow api-gateway -> order:mtls",
		flow(zones.APIGateway, zones.Order, "mtls", func(f *zones.Flow) { f.MTLS = false }))
	add("mutual TLS required of a port that has none", "flow order -> queue:mtls",
		port(zones.Queue, "mtls", func(p *zones.Port) { p.Protection = zones.TLS }))
	add("a request in plaintext", "flow user -> order:http", with(zones.User, zones.Order, "http", zones.Request, false))
	add("a reason removed", "flow user -> cache:mtls", flow(zones.User, zones.Cache, "mtls", func(f *zones.Flow) { f.Why = " " }))
	add("a role moved to another zone without its namespace", "it is of zone application",
		role(zones.Cache, func(r *zones.Role) { r.Zone = zones.Application }))
	add("two roles with the same pods", "role queue: a pod could be its and role cache's", func(m *zones.Model) {
		cache, _ := m.Role(zones.Cache)
		role(zones.Queue, func(r *zones.Role) { r.Labels = cache.Labels })(m)
	})
	add("a selector within another role's", "role queue: a pod could be its and role cache's", role(zones.Queue, func(r *zones.Role) {
		r.Labels = map[string]string{"app.kubernetes.io/name": "cache"}
	}))
	add("a request called an identity", "flow payment -> spire-server:grpc", with(zones.Payment, zones.SPIREServer, "grpc", zones.Identity, false))
	add("plaintext from the internet, called metrics", "flow clients -> web-gateway:http",
		with(zones.Clients, zones.WebGateway, "http", zones.Metrics, false))
	add("the gateway let to the API server", "flow web-gateway -> kube-apiserver:https",
		with(zones.WebGateway, zones.KubeAPIServer, "https", zones.Control, false))
	add("one identity for two roles", "role cache: SPIFFE path", role(zones.Cache, func(r *zones.Role) { r.SPIFFEPath = "/workload/user-service" }))
	add("a role removed", "flow user -> cache:mtls", func(m *zones.Model) {
		m.Roles = slices.DeleteFunc(m.Roles, func(r zones.Role) bool { return r.Name == zones.Cache })
	})
	return out
}

func without(from, to, port string) func(*zones.Model) {
	return func(m *zones.Model) {
		m.Flows = slices.DeleteFunc(m.Flows, func(f zones.Flow) bool { return f.From == from && f.To == to && f.Port == port })
	}
}

func with(from, to, port string, kind zones.Kind, mtls bool) func(*zones.Model) {
	return func(m *zones.Model) {
		m.Flows = append(m.Flows, zones.Flow{From: from, To: to, Port: port, Kind: kind, MTLS: mtls, Why: "somebody asked for it"})
	}
}

func flow(from, to, port string, change func(*zones.Flow)) func(*zones.Model) {
	return func(m *zones.Model) {
		for i, f := range m.Flows {
			if f.From == from && f.To == to && f.Port == port {
				change(&m.Flows[i])
			}
		}
	}
}

func role(name string, change func(*zones.Role)) func(*zones.Model) {
	return func(m *zones.Model) {
		for i := range m.Roles {
			if m.Roles[i].Name == name {
				change(&m.Roles[i])
			}
		}
	}
}

func port(roleName, portName string, change func(*zones.Port)) func(*zones.Model) {
	return role(roleName, func(r *zones.Role) {
		for i := range r.Ports {
			if r.Ports[i].Name == portName {
				change(&r.Ports[i])
			}
		}
	})
}

func zone(name zones.Zone, change func(*zones.ZoneSpec)) func(*zones.Model) {
	return func(m *zones.Model) {
		for i := range m.Zones {
			if m.Zones[i].Zone == name {
				change(&m.Zones[i])
			}
		}
	}
}

// callOut lets a role call something beyond the cluster, at the port that the API server listens on: in a proof, the place
// beyond is an address of its machine.
func callOut(from string) func(*zones.Model) {
	return func(m *zones.Model) {
		apiServer, _ := m.Role(zones.KubeAPIServer)
		https, _ := apiServer.Port("https")
		role(zones.Clients, func(r *zones.Role) {
			r.Ports = append(r.Ports, zones.Port{Name: "api", Number: https.Number, Protection: zones.TLS})
		})(m)
		with(from, zones.Clients, "api", zones.Request, false)(m)
	}
}
