// Package zones is the model of who may talk to whom: network zones, the roles that live in each, and the flows between
// them. It is the only place where that is written down, and knows neither Pulumi nor Kubernetes' API.
//
// In: a Model, Standard or AWS. Out: a validated model and its views. NetworkPolicies (components/segmentation), security
// groups and firewall rules of AWS (components/network), the callers a service accepts (components/workloads), the
// connectivity proof (test/connectivity) and the pages docs/zones.md and docs/zones-aws.md are all rendered from it.
package zones

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Zone names a network zone.
type Zone string

// The zones of the security architecture ("Network Security Zones"), and two for what is in none of them.
const (
	DMZ         Zone = "dmz"
	Application Zone = "application"
	Data        Zone = "data"
	Management  Zone = "management"
	// Platform is what a cluster brings itself: the API server, DNS, the nodes with their kubelets and agents.
	Platform Zone = "platform"
	// Internet is everything beyond.
	Internet Zone = "internet"
)

// ZoneSpec says what a zone is and what its position allows (Model.Validate).
type ZoneSpec struct {
	// Zone is its name, a DNS label.
	Zone Zone
	// Title is its name for readers.
	Title string
	// Class is the zone's position.
	Class Class
	// Tier orders the zones of class Tiered from the outside, 1, to the inside. A connection between two of them goes exactly
	// one tier deeper and is mutual TLS.
	Tier int
	// Default is what happens to a connection that no flow allows. It must be Deny.
	Default Default
	// Internet says why the zone's roles may open connections to the internet. Empty: they may not.
	Internet string
}

// Class is a zone's position in the architecture.
type Class string

const (
	// Tiered zones form the path of a request from the outside to the data.
	Tiered Class = "tiered"
	// Managing zones reach every zone of the deployment, and are reached by agents and metrics only.
	Managing Class = "managing"
	// Underlying is what the cluster brings itself.
	Underlying Class = "underlying"
	// Outside is the internet.
	Outside Class = "outside"
)

// Default is what happens to a connection that no flow allows.
type Default string

// The defaults. Deny is the only one that a valid model has.
const (
	Deny  Default = "deny"
	Allow Default = "allow"
)

// Namespace is a Kubernetes namespace of the deployment. In each, everything that no flow allows is denied.
type Namespace struct {
	Name string
	Zone Zone
}

// Protocol is a transport protocol, in Kubernetes' notation.
type Protocol string

// The protocols.
const (
	TCP Protocol = "TCP"
	UDP Protocol = "UDP"
)

// Protection is what a connection to a port is made of.
type Protection string

const (
	// MTLS accepts nobody without a certificate of the expected name.
	MTLS Protection = "mTLS"
	// TLS authenticates the server. Who the client is, the protocol inside says.
	TLS Protection = "TLS"
	// Plain is unprotected.
	Plain Protection = "plaintext"
)

// Port is a port that a role's pods listen on.
type Port struct {
	// Name is what flows call it, unique within the role.
	Name string
	// Number is 1 to 65535.
	Number int
	// Protocol is TCP when empty.
	Protocol   Protocol
	Protection Protection
}

// Place says how a role is found on the network.
type Place string

const (
	// Pods are found by their namespace and labels.
	Pods Place = "pods"
	// Nodes are programs in the nodes' own network: kubelets, and pods with hostNetwork, which pod selectors do not match. The
	// network cannot tell them from each other: what one of them may reach, all may.
	Nodes Place = "nodes"
	// APIServer is the Kubernetes API server's own address.
	APIServer Place = "api-server"
	// Managed is a service of the cloud with network interfaces in the subnets of its zone: a load balancer, a database, the entry
	// to the cloud's API. It opens connections within its zone only.
	Managed Place = "managed"
	// NodePorts are ports on the nodes of the zone, behind which Kubernetes hands connections to pods of the same node. Only a load
	// balancer of the zone reaches them (Delivery), and nothing comes from them.
	NodePorts Place = "node-ports"
	// OwnNode is a program of the caller's own node at a fixed address that is never routed (Role.Address). No packet to it leaves
	// the node, so that neither security groups nor network ACLs see one.
	OwnNode Place = "own-node"
	// Elsewhere is beyond the cluster.
	Elsewhere Place = "elsewhere"
)

// places are all of them, as errors list them.
var places = []Place{Pods, Nodes, APIServer, Managed, NodePorts, OwnNode, Elsewhere}

// Role is a kind of program that takes part in flows.
type Role struct {
	// Name is a DNS label, unique in the model.
	Name string
	// Title is its name in diagrams, for the document's roles the document's.
	Title string
	Zone  Zone
	Place Place
	// Namespace and Labels select the pods of a role in Pods. A namespace that Model.Namespaces does not list belongs to the
	// cluster: nothing is rendered for it.
	Namespace string
	Labels    map[string]string
	// Apart says why the role's pods are in a namespace of another zone.
	Apart string
	// Group is the name of a Managed role's own security group. Empty: it has its zone's.
	Group string `json:",omitempty"`
	// Authentication says how a Managed role knows a caller that has no certificate. Without it, a zone of a tier takes no request from
	// management but by mutual TLS.
	Authentication string `json:",omitempty"`
	// Address is the link-local IPv4 address of a role in OwnNode.
	Address string `json:",omitempty"`
	// SPIFFEPath is the path of the role's SPIFFE ID. Empty: it has none.
	SPIFFEPath string
	// Ports are all ports its pods listen on, other than on the loopback.
	Ports []Port
}

// Port returns the role's port of that name.
func (r Role) Port(name string) (Port, bool) {
	i := slices.IndexFunc(r.Ports, func(p Port) bool { return p.Name == name })
	if i < 0 {
		return Port{}, false
	}
	p := r.Ports[i]
	p.Protocol = cmp.Or(p.Protocol, TCP)
	return p, true
}

// Kind is the purpose of a flow, on which the rules of Model.Validate depend.
type Kind string

const (
	// Request is the deployment's own traffic: calls, queries, messages, replication.
	Request Kind = "request"
	// Identity is an agent's connection to the SPIRE servers.
	Identity Kind = "identity"
	// Metrics is the collection of metrics and events.
	Metrics Kind = "metrics"
	// Control is the platform's own: Kubernetes' API, webhooks, what operators read through the API server, and the cloud's API.
	Control Kind = "control"
	// Naming is DNS.
	Naming Kind = "naming"
	// Delivery is how a load balancer hands a connection to the nodes' port of the Service behind it. Kubernetes brings it on to the
	// pods, which the load balancer has a flow of its own to.
	Delivery Kind = "delivery"
)

// kinds are all of them, as errors list them.
var kinds = []Kind{Request, Identity, Metrics, Control, Naming, Delivery}

// Flow is a permission: the pods of From may open connections to a port of To. Answers need none.
type Flow struct {
	From, To string
	// Port is the name of one of To's ports.
	Port string
	Kind Kind
	// MTLS requires that the port accepts mutual TLS only.
	MTLS bool
	// Why is the reason, for readers and as an annotation of what is rendered.
	Why string
}

// String names the flow in errors and reports.
func (f Flow) String() string { return fmt.Sprintf("%s -> %s:%s", f.From, f.To, f.Port) }

// Model is zones, roles and flows. Check it with Validate before rendering.
type Model struct {
	// Title is the name of its page. Default "Network zones".
	Title      string `json:",omitempty"`
	Zones      []ZoneSpec
	Namespaces []Namespace
	Roles      []Role
	Flows      []Flow
}

// Clone returns a deep copy.
func (m Model) Clone() Model {
	out := Model{Title: m.Title, Zones: slices.Clone(m.Zones), Namespaces: slices.Clone(m.Namespaces), Roles: slices.Clone(m.Roles), Flows: slices.Clone(m.Flows)}
	for i := range out.Roles {
		out.Roles[i].Labels = maps.Clone(out.Roles[i].Labels)
		out.Roles[i].Ports = slices.Clone(out.Roles[i].Ports)
	}
	return out
}

// Zone returns the zone's specification.
func (m Model) Zone(name Zone) (ZoneSpec, bool) {
	i := slices.IndexFunc(m.Zones, func(z ZoneSpec) bool { return z.Zone == name })
	if i < 0 {
		return ZoneSpec{}, false
	}
	return m.Zones[i], true
}

// Role returns the role of that name.
func (m Model) Role(name string) (Role, bool) {
	i := slices.IndexFunc(m.Roles, func(r Role) bool { return r.Name == name })
	if i < 0 {
		return Role{}, false
	}
	return m.Roles[i], true
}

// RolesIn returns the roles of a zone.
func (m Model) RolesIn(zone Zone) []Role {
	var out []Role
	for _, r := range m.Roles {
		if r.Zone == zone {
			out = append(out, r)
		}
	}
	return out
}

// Ours says whether the namespace belongs to the deployment.
func (m Model) Ours(namespace string) bool {
	return slices.ContainsFunc(m.Namespaces, func(n Namespace) bool { return n.Name == namespace })
}

// Callers returns the SPIFFE paths of the roles that may call the role's port, in the order of the flows.
func (m Model) Callers(role, port string) []string {
	var out []string
	for _, f := range m.Flows {
		if f.To != role || f.Port != port {
			continue
		}
		if from, ok := m.Role(f.From); ok && from.SPIFFEPath != "" && !slices.Contains(out, from.SPIFFEPath) {
			out = append(out, from.SPIFFEPath)
		}
	}
	return out
}

// End is a flow with what it refers to.
type End struct {
	Flow     Flow
	From, To Role
	Port     Port
}

// Resolve returns every flow with its roles and port. The model must be valid.
func (m Model) Resolve() []End {
	roles := make(map[string]Role, len(m.Roles))
	for _, r := range m.Roles {
		roles[r.Name] = r
	}
	out := make([]End, 0, len(m.Flows))
	for _, f := range m.Flows {
		to := roles[f.To]
		port, _ := to.Port(f.Port)
		out = append(out, End{Flow: f, From: roles[f.From], To: to, Port: port})
	}
	return out
}
