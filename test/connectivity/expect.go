package connectivity

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"ephemos.dev/deploy/components/zones"
)

// Verdict is what must become of a connection.
type Verdict string

// The verdicts.
const (
	// MustOpen is a connection that somebody accepts.
	MustOpen Verdict = "open"
	// MustClose is one that arrives where nobody listens.
	MustClose Verdict = "closed"
	// MustDeny is one that does not arrive.
	MustDeny Verdict = "denied"
)

// Class is what became of a connection.
type Class string

// The classes.
const (
	// Open is an accepted connection, in UDP an answered question.
	Open Class = "open"
	// Closed is an answer of the other host that nobody listens.
	Closed Class = "closed"
	// Rejected is an answer of something on the way that the connection is not wanted.
	Rejected Class = "rejected"
	// Silent is no answer in time.
	Silent Class = "silent"
	// NoRoute is an answer, from here or from the way, that the other host cannot be reached.
	NoRoute Class = "no route"
	// Failed is an attempt that could not be made.
	Failed Class = "failed"
)

// classes is the order in which they are shown.
var classes = []Class{Open, Closed, Rejected, Silent, NoRoute, Failed}

// Admits says whether the verdict is met. Rejection and silence both deny: a kernel limits how many rejections it sends. A
// missing route does not: then it was not a policy that denied.
func (v Verdict) Admits(c Class) bool {
	switch v {
	case MustOpen:
		return c == Open
	case MustClose:
		return c == Closed
	case MustDeny:
		return c == Rejected || c == Silent
	}
	return false
}

// Key names an attempt: the two endpoints by their names and the port.
type Key struct {
	From, To string
	Socket   Socket
}

// Attempt is one connection to try, and what must become of it.
type Attempt struct {
	From, To Endpoint
	Socket   Socket
	Expected Verdict
	// Flows are those that allow it. Between endpoints that nothing limits there may be none.
	Flows []zones.Flow
	// Missing are flows that would allow it; none where one of the ends has no role or the port no name. They are not part
	// of the model and have no reason and no kind.
	Missing []zones.Flow
	// Source and Target name the ends in summaries: the role, or what the end is without one.
	Source, Target string
	// Port is the port's name in its role; empty when it is not in the model.
	Port string
}

// Key returns the attempt's name.
func (a Attempt) Key() Key { return Key{a.From.Name, a.To.Name, a.Socket} }

// What an endpoint without a role, or with several, is called in summaries.
const (
	ownNode   = "own node"
	nodes     = "nodes"
	apiServer = "api-server"
	outside   = "outside"
	unlisted  = "pods of no role"
	zoneless  = "pods of no zone"
)

// Expect returns an attempt for every ordered pair of endpoints and every port of the second: those of its roles, those that
// it was seen to listen on, and one that nobody listens on. A pod without a role is tried on the ports of all roles of its
// namespace. The model must be valid.
func Expect(m zones.Model, t Topology) []Attempt {
	e := newExpectation(m, t)
	var out []Attempt
	for _, to := range t.Endpoints {
		ports := e.ports(to)
		for _, from := range t.Endpoints {
			if from.Name == to.Name || from.Process != 0 && from.Process == to.Process {
				continue // what stays within one network namespace passes no policy
			}
			for _, s := range ports {
				out = append(out, e.attempt(from, to, s))
			}
		}
	}
	return out
}

// Touching returns the attempts from and to pods of a namespace.
func Touching(attempts []Attempt, namespace string) []Attempt {
	return slices.DeleteFunc(slices.Clone(attempts), func(a Attempt) bool {
		return a.From.Namespace != namespace && a.To.Namespace != namespace
	})
}

type expectation struct {
	model zones.Model
	flows map[[2]string][]zones.End // by the names of the roles
	roles map[string][]zones.Role   // by the name of the endpoint
	// elsewhere are the roles beyond the cluster.
	elsewhere []zones.Role
	unused    int
}

func newExpectation(m zones.Model, t Topology) *expectation {
	e := &expectation{model: m, flows: map[[2]string][]zones.End{}, roles: map[string][]zones.Role{}, unused: t.unused(m)}
	for _, end := range m.Resolve() {
		pair := [2]string{end.Flow.From, end.Flow.To}
		e.flows[pair] = append(e.flows[pair], end)
	}
	for _, endpoint := range t.Endpoints {
		e.roles[endpoint.Name] = rolesOf(m, endpoint)
	}
	for _, r := range m.Roles {
		if r.Place == zones.Elsewhere {
			e.elsewhere = append(e.elsewhere, r)
		}
	}
	return e
}

// ports are the ports of an endpoint that are tried, in order.
func (e *expectation) ports(to Endpoint) []Socket {
	tried := map[Socket]bool{{zones.TCP, e.unused}: true}
	roles := e.roles[to.Name]
	if len(roles) == 0 && to.Place == zones.Pods {
		for _, r := range e.model.Roles {
			if r.Place == zones.Pods && r.Namespace == to.Namespace {
				roles = append(roles, r)
			}
		}
	}
	for _, r := range roles {
		for _, p := range r.Ports {
			s := socket(p)
			tried[s] = true
			tried[Socket{s.Protocol, e.unused}] = true
		}
	}
	for _, s := range to.Listening {
		if s.Protocol == zones.TCP { // a question in UDP takes its protocol
			tried[s] = true
		}
	}
	out := make([]Socket, 0, len(tried))
	for s := range tried {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Socket) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(string(a.Protocol), string(b.Protocol)))
	})
	return out
}

func (e *expectation) attempt(from, to Endpoint, s Socket) Attempt {
	a := Attempt{From: from, To: to, Socket: s, Source: e.party(from), Target: e.party(to)}
	for _, caller := range e.flowRoles(from) {
		for _, callee := range e.flowRoles(to) {
			for _, end := range e.flows[[2]string{caller.Name, callee.Name}] {
				if socket(end.Port) == s {
					a.Flows = append(a.Flows, end.Flow)
				}
			}
			if i := slices.IndexFunc(callee.Ports, func(p zones.Port) bool { return socket(p) == s }); i >= 0 {
				a.Missing = append(a.Missing, zones.Flow{From: caller.Name, To: callee.Name, Port: callee.Ports[i].Name})
			}
		}
	}
	if len(a.Flows) > 0 {
		a.Missing = nil
	}
	for _, r := range e.roles[to.Name] {
		if i := slices.IndexFunc(r.Ports, func(p zones.Port) bool { return socket(p) == s }); i >= 0 {
			a.Port = r.Ports[i].Name
		}
	}
	local := from.Place == zones.Nodes && to.Place == zones.Pods && from.Node == to.Node
	if local {
		a.Source = ownNode
	}
	limited := from.Place == zones.Pods && e.model.Ours(from.Namespace) || to.Place == zones.Pods && e.model.Ours(to.Namespace)
	switch {
	case limited && !local && len(a.Flows) == 0:
		a.Expected = MustDeny
	case e.listens(to, s):
		a.Expected = MustOpen
	default:
		a.Expected = MustClose
	}
	return a
}

// flowRoles are the roles whose flows apply to an endpoint. A rule for what is elsewhere excludes the pods' addresses only.
func (e *expectation) flowRoles(endpoint Endpoint) []zones.Role {
	roles := e.roles[endpoint.Name]
	if endpoint.Place == zones.Nodes || endpoint.Place == zones.APIServer {
		roles = slices.Concat(roles, e.elsewhere)
	}
	return roles
}

// listens says whether somebody should listen there: in the deployment's pods as the model says, elsewhere also what was
// seen to. A pod that stands in listens on what it was seen to.
func (e *expectation) listens(to Endpoint, s Socket) bool {
	ours := to.Place == zones.Pods && e.model.Ours(to.Namespace)
	if (!ours || to.StandIn) && slices.Contains(to.Listening, s) {
		return true
	}
	if to.StandIn {
		return false
	}
	return slices.ContainsFunc(e.roles[to.Name], func(r zones.Role) bool {
		return slices.ContainsFunc(r.Ports, func(p zones.Port) bool { return socket(p) == s })
	})
}

// party is what an endpoint is called in summaries.
func (e *expectation) party(endpoint Endpoint) string {
	switch endpoint.Place {
	case zones.Nodes:
		return nodes
	case zones.APIServer:
		return apiServer
	case zones.Elsewhere:
		return outside
	}
	roles := e.roles[endpoint.Name]
	switch {
	case len(roles) > 0:
		names := make([]string, len(roles))
		for i, r := range roles {
			names[i] = r.Name
		}
		return strings.Join(names, "+")
	case e.model.Ours(endpoint.Namespace):
		return unlisted
	default:
		return zoneless
	}
}

// String is the attempt as a flow would be written, with the ends' roles.
func (a Attempt) String() string {
	return fmt.Sprintf("%s -> %s:%s", a.Source, a.Target, cmp.Or(a.Port, fmt.Sprintf("%d/%s", a.Socket.Port, a.Socket.Protocol)))
}
