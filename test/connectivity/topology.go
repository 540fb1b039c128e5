package connectivity

import (
	"cmp"
	"net/netip"
	"slices"

	"ephemos.dev/deploy/components/zones"
)

// Socket is a port that something listens on.
type Socket struct {
	Protocol zones.Protocol
	Port     int
}

// Endpoint is a place that connections come from and go to.
type Endpoint struct {
	// Name is unique in the topology: "namespace/pod" for pods.
	Name  string
	Place zones.Place
	// Namespace and Labels are a pod's.
	Namespace string
	Labels    map[string]string
	// StandIn says that the pod was made for the proof. It may have no role, and need not listen on its role's ports.
	StandIn bool
	// Node is the node that a pod runs on; a node's own name.
	Node string
	// Address is the one connections go to. Those from it come from there too, but for nodes, which choose their source by
	// the route, as their programs do.
	Address netip.Addr
	// Process is a process in the endpoint's network namespace, by its number in the prober's.
	Process int
	// Listening is what was seen to listen there on other addresses than the loopback's (ReadListening).
	Listening []Socket
}

// Topology is where everything is.
type Topology struct {
	Endpoints []Endpoint
}

// Endpoint returns the endpoint of that name.
func (t Topology) Endpoint(name string) (Endpoint, bool) {
	i := slices.IndexFunc(t.Endpoints, func(e Endpoint) bool { return e.Name == name })
	if i < 0 {
		return Endpoint{}, false
	}
	return t.Endpoints[i], true
}

// Playing returns the endpoints of a role, in the topology's order.
func (t Topology) Playing(r zones.Role) []Endpoint {
	var out []Endpoint
	for _, e := range t.Endpoints {
		if plays(e, r) {
			out = append(out, e)
		}
	}
	return out
}

// plays says whether the endpoint is one of the role's. On a node run all roles placed on nodes.
func plays(e Endpoint, r zones.Role) bool {
	if e.Place != r.Place {
		return false
	}
	if e.Place != zones.Pods {
		return true
	}
	if e.Namespace != r.Namespace || len(r.Labels) == 0 {
		return false
	}
	for key, value := range r.Labels {
		if got, ok := e.Labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// rolesOf returns the roles of an endpoint.
func rolesOf(m zones.Model, e Endpoint) []zones.Role {
	var out []zones.Role
	for _, r := range m.Roles {
		if plays(e, r) {
			out = append(out, r)
		}
	}
	return out
}

// socket is a port without its name and protection.
func socket(p zones.Port) Socket { return Socket{cmp.Or(p.Protocol, zones.TCP), p.Number} }

// firstUnused begins the search for a port that nobody listens on: above the ports of the system, below those that clients
// are given and those of Services.
const firstUnused = 2000

// unused returns the first port that neither the model nor anything in the topology uses.
func (t Topology) unused(m zones.Model) int {
	used := map[int]bool{}
	for _, r := range m.Roles {
		for _, p := range r.Ports {
			used[p.Number] = true
		}
	}
	for _, e := range t.Endpoints {
		for _, s := range e.Listening {
			used[s.Port] = true
		}
	}
	port := firstUnused
	for used[port] {
		port++
	}
	return port
}
