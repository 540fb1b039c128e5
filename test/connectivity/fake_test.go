package connectivity

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/zones"
)

var model = zones.Standard(zones.Options{DNSPort: 5353})

// cluster is a topology on which a model is deployed: three nodes, three pods of each role, one where its pods end soon, and
// the pods that stand in.
func cluster(t *testing.T, m zones.Model) Topology {
	t.Helper()
	require.NoError(t, m.Validate())
	var topology Topology
	process := 100
	add := func(e Endpoint) {
		process++
		if e.Process == 0 {
			e.Process = process
		}
		topology.Endpoints = append(topology.Endpoints, e)
	}
	onNodes := []Socket{{zones.TCP, 20244}}
	for _, r := range m.Roles {
		for _, p := range r.Ports {
			if r.Place == zones.Nodes {
				onNodes = append(onNodes, socket(p))
			}
		}
	}
	names := []string{"node-a", "node-b", "node-c"}
	for i, name := range names {
		add(Endpoint{Name: name, Place: zones.Nodes, Node: name, Address: netip.AddrFrom4([4]byte{10, 89, 0, byte(129 + i)}), Listening: onNodes})
	}
	control := []Socket{{zones.TCP, 6443}, {zones.TCP, 10257}}
	add(Endpoint{Name: "api-server", Place: zones.APIServer, Address: netip.MustParseAddr("10.89.0.1"), Process: 99, Listening: control})
	add(Endpoint{Name: "outside", Place: zones.Elsewhere, Address: netip.MustParseAddr("203.0.113.7"), Process: 99, Listening: control})

	pods := 0
	pod := func(namespace, name string, labels map[string]string, standIn bool, listening []Socket) {
		node := pods % len(names)
		add(Endpoint{Name: namespace + "/" + name, Place: zones.Pods, Namespace: namespace, Labels: labels, StandIn: standIn, Node: names[node],
			Address: netip.AddrFrom4([4]byte{10, 244, byte(1 + node), byte(1 + pods)}), Listening: listening})
		pods++
	}
	for _, r := range m.Roles {
		if r.Place != zones.Pods {
			continue
		}
		var listening []Socket
		for _, p := range r.Ports {
			listening = append(listening, socket(p))
		}
		if len(r.Ports) == 0 {
			pod(r.Namespace, r.Name+"-stand-in", r.Labels, true, nil)
			continue
		}
		for i := range 3 {
			labels := maps.Clone(r.Labels)
			labels["pod"] = fmt.Sprint(i)
			pod(r.Namespace, fmt.Sprintf("%s-%d", r.Name, i), labels, false, listening)
		}
	}
	for _, n := range m.Namespaces {
		pod(n.Name, "unlisted", map[string]string{"app": "unlisted"}, true, nil)
	}
	pod("elsewhere", "unlisted", map[string]string{"app": "unlisted"}, true, nil)
	return topology
}

// enforced is what would be seen where a model is deployed, whatever the attempts expect.
func enforced(deployed zones.Model, t Topology, attempts []Attempt) map[Key]Result {
	e := newExpectation(deployed, t)
	seen := map[Key]Result{}
	for i, a := range attempts {
		r := Result{Class: Open, Tries: 1}
		switch e.attempt(a.From, a.To, a.Socket).Expected {
		case MustClose:
			r = Result{Class: Closed, Detail: "reset", Tries: 1}
		case MustDeny:
			r = Result{Class: Rejected, Detail: "ICMP unreachable, code 3, from 10.89.0.129", Tries: 1}
			if i%2 == 0 {
				r = Result{Class: Silent, Tries: 1}
			}
		}
		seen[a.Key()] = r
	}
	return seen
}

// observe is what a proof sees on a cluster where the standard model is deployed.
func observe(t *testing.T) Observation {
	t.Helper()
	topology := cluster(t, model)
	return Observation{Topology: topology, Results: enforced(model, topology, Expect(model, topology)), Took: 42 * time.Second}
}

// find returns the attempt between two endpoints.
func find(t *testing.T, attempts []Attempt, from, to string, port int, protocol zones.Protocol) Attempt {
	t.Helper()
	i := slices.IndexFunc(attempts, func(a Attempt) bool { return a.Key() == Key{from, to, Socket{protocol, port}} })
	require.GreaterOrEqual(t, i, 0, "%s to %s, %d/%s is not tried", from, to, port, protocol)
	return attempts[i]
}
