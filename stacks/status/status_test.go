package status

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestServersUpReadsTheBalancersStatistics(t *testing.T) {
	const csv = "# pxname,svname,qcur,status,\n" +
		"spire,FRONTEND,,OPEN,\n" +
		"spire,spire-server-1,0,UP,\n" +
		"spire,spire-server-0,0,UP 1/2,\n" +
		"spire,spire-server-2,0,DOWN,\n" +
		"spire,BACKEND,0,UP,\n"
	up, err := serversUp([]byte(csv))
	require.NoError(t, err)
	require.Equal(t, []string{"spire-server-0", "spire-server-1"}, up)

	for name, bad := range map[string]string{"empty": "", "no columns": "# a,b\n1,2\n", "not CSV": "\"\n"} {
		_, err := serversUp([]byte(bad))
		require.ErrorContains(t, err, "load balancer statistics", name)
	}
}

func TestReplicationIsPutToItsInstance(t *testing.T) {
	instances := []Instance{{Pod: "db-1", Role: "primary"}, {Pod: "db-2"}, {Pod: "db-3"}}
	require.NoError(t, addReplication(instances, "db-3\tstreaming\tquorum\t16\t2\ndb-2\tcatchup\tasync\t0\t0\n"))
	require.Equal(t, Instance{Pod: "db-3", State: "streaming", Sync: "quorum", LagBytes: 16, Lag: 2 * time.Millisecond}, instances[2])
	require.True(t, instances[2].Synchronous())
	require.Equal(t, "catchup", instances[1].State)
	require.False(t, instances[1].Synchronous())
	require.Error(t, addReplication(instances, "db-2\tstreaming\n"))
	require.Error(t, addReplication(instances, "db-2\tstreaming\tasync\tx\t0\n"))
}

// whole is a report without a problem.
func whole() Report {
	expiry := time.Date(2030, 1, 1, 1, 0, 0, 0, time.UTC)
	payment := Service{Pod: "payment-1", Ready: true, Stats: Stats{Service: "payment", SPIFFEID: "spiffe://td/workload/payment-service", Serial: "1", NotAfter: &expiry, TTL: 3600}}
	payment.Stats.Calls.OK = 7
	return Report{
		Nodes:    []Node{{Name: "n1", Ready: true}},
		Servers:  []Server{{Pod: "s-0", Ready: true}},
		Entries:  []Entry{{Pod: "lb", Ready: true, Up: []string{"s-0"}}},
		Database: []Instance{{Pod: "db-1", Role: "primary", Ready: true}, {Pod: "db-2", Role: "standby", Ready: true, State: "streaming", Sync: "quorum"}},
		Agents:   1,
		Services: []Service{payment},
		Parts: []Part{
			{Kind: "StatefulSet", Name: "spire-server", Desired: 1, Ready: 1},
			{Kind: "DaemonSet", Name: "spire-agent", Desired: 1, Ready: 1},
			{Kind: "Deployment", Name: "payment", Desired: 1, Ready: 1},
		},
	}
}

func TestEveryDefectIsAProblem(t *testing.T) {
	require.Empty(t, whole().Problems())
	for want, harm := range map[string]func(*Report){
		"node n1":                 func(r *Report) { r.Nodes[0].Ready = false },
		"server s-0":              func(r *Report) { r.Servers[0].Ready = false },
		"reaches 0 of 1":          func(r *Report) { r.Entries[0].Up = nil },
		"entry lb is not ready":   func(r *Report) { r.Entries[0].Ready = false },
		"2 primaries":             func(r *Report) { r.Database[1].Role = "primary" },
		"db-2 does not stream":    func(r *Report) { r.Database[1].State = "" },
		"synchronous":             func(r *Report) { r.Database[1].Sync = "async" },
		"0 of 1 agents":           func(r *Report) { r.Agents = 0 },
		"payment-1 is not ready":  func(r *Report) { r.Services[0].Ready = false },
		"payment-1 holds no SVID": func(r *Report) { r.Services[0].Stats.Serial = "" },
		"no successful call":      func(r *Report) { r.Services[0].Stats.Calls.OK = 0 },
		"0 of 1 pods of Deployment payment are ready":       func(r *Report) { r.Services, r.Parts[2].Ready = nil, 0 },
		"1 of 3 pods of StatefulSet spire-server are ready": func(r *Report) { r.Parts[0].Desired = 3 },
		"entry lb reaches 1 of 3 servers":                   func(r *Report) { r.Parts[0].Desired = 3 },
		"1 of 2 agents are attested":                        func(r *Report) { r.Parts[1].Desired = 2 },
		"DaemonSet spire-agent wants no pods":               func(r *Report) { r.Parts[1].Desired = 0 },
		"services: connection closed":                       func(r *Report) { r.Errors = []error{errors.New("services: connection closed")} },
	} {
		r := whole()
		harm(&r)
		require.Contains(t, strings.Join(r.Problems(), "\n"), want)
	}
}

// What goes away is no defect: whether it is replaced shows in the counts.
func TestTerminatingPodsAreNoProblem(t *testing.T) {
	r := whole()
	r.Servers = append(r.Servers, Server{Pod: "s-1", Terminating: true})
	r.Entries = append(r.Entries, Entry{Pod: "lb-old", Terminating: true})
	r.Database = append(r.Database, Instance{Pod: "db-3", Role: "primary", Terminating: true}, Instance{Pod: "db-4", Role: "standby", Terminating: true})
	r.Services = append(r.Services, Service{Pod: "payment-old", Terminating: true})
	require.Empty(t, r.Problems())

	var out bytes.Buffer
	require.NoError(t, r.Write(&out, time.Now()))
	require.Contains(t, out.String(), "payment-old (terminating)")

	r.Services[0].Terminating, r.Parts[2].Ready = true, 0
	require.Equal(t, []string{"0 of 1 pods of Deployment payment are ready"}, r.Problems())
}

// A failed call stays on the counters for as long as the pod lives, so it must not keep the stack from being whole again.
func TestFailedCallsAreWarnings(t *testing.T) {
	r := whole()
	require.Empty(t, r.Warnings())
	r.Services[0].Stats.Calls.Failed, r.Services[0].Stats.Calls.Denied = 2, 1
	r.Services[0].Stats.LastError = "order:\nno route"
	require.Equal(t, []string{"service pod payment-1: 3 of 10 calls failed, last: order: no route"}, r.Warnings())
	require.Empty(t, r.Problems())

	var out bytes.Buffer
	require.NoError(t, r.Write(&out, time.Now()))
	require.Contains(t, out.String(), "WARNING: service pod payment-1: 3 of 10 calls failed")
	require.Contains(t, out.String(), "no problems")
}

func TestTableShowsWhatAPersonLooksFor(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, whole().Write(&out, time.Date(2030, 1, 1, 0, 30, 0, 0, time.UTC)))
	for _, want := range []string{"s-0", "lb", "primary", "streaming, synchronous (quorum)", "1h0m0s", "30m0s", "no problems"} {
		require.Contains(t, out.String(), want)
	}
}
