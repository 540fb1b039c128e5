package connectivity

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/zones"
)

func TestExpectationsFollowTheFlows(t *testing.T) {
	topology := cluster(t, model)
	attempts := Expect(model, topology)
	// Where a pod of the fake cluster runs follows from its number, so the test asks.
	local := func(pod string) (own, other string) {
		e, ok := topology.Endpoint(pod)
		require.True(t, ok)
		for _, n := range []string{"node-a", "node-b", "node-c"} {
			if n != e.Node {
				return e.Node, n
			}
		}
		return "", ""
	}
	agentNode, otherNode := local("spire-server/spire-entry-0")
	userNode, notUsers := local("services/user-0")
	dnsNode, notDNS := local("kube-system/dns-0")
	for _, c := range []struct {
		from, to string
		port     int
		protocol zones.Protocol
		want     Verdict
		flow     string // allows it, or would
	}{
		{"services/user-0", "services/order-1", 8443, zones.TCP, MustOpen, "user -> order:mtls"},
		{"services/user-0", "services/order-1", 8080, zones.TCP, MustDeny, "user -> order:http"},
		{"services/user-0", "services/order-1", firstUnused, zones.TCP, MustDeny, ""},
		{"services/order-0", "services/user-1", 8443, zones.TCP, MustDeny, "order -> user:mtls"},
		{"services/payment-0", "services/order-1", 8443, zones.TCP, MustDeny, "payment -> order:mtls"},
		{"services/user-0", "services/user-1", 8443, zones.TCP, MustDeny, "user -> user:mtls"},
		{"spire-server/database-0", "spire-server/database-1", 5432, zones.TCP, MustOpen, "database -> database:postgres"},
		{"spire-server/database-0", "spire-server/database-1", 9187, zones.TCP, MustDeny, "database -> database:metrics"},

		// By the node that a pod runs on, everything; by another one, the flows of what runs on nodes.
		{agentNode, "spire-server/spire-entry-0", 8404, zones.TCP, MustOpen, "spire-agent -> spire-entry:stats"},
		{agentNode, "spire-server/spire-entry-0", firstUnused, zones.TCP, MustClose, ""},
		{otherNode, "spire-server/spire-entry-0", 8081, zones.TCP, MustOpen, "spire-agent -> spire-entry:grpc"},
		{otherNode, "spire-server/spire-entry-0", 8404, zones.TCP, MustDeny, "kubelet -> spire-entry:stats"},
		{otherNode, "spire-server/spire-entry-0", firstUnused, zones.TCP, MustDeny, ""},
		{userNode, "services/user-0", 8080, zones.TCP, MustOpen, ""},
		{notUsers, "services/user-0", 8080, zones.TCP, MustDeny, "spire-agent -> user:http"},

		// The API server, and what a rule for the internet cannot keep out.
		{"api-server", "services/user-0", 8080, zones.TCP, MustOpen, "kube-apiserver -> user:http"},
		{"api-server", "services/user-0", 8443, zones.TCP, MustDeny, "kube-apiserver -> user:mtls"},
		{"outside", "dmz/web-gateway-0", 8443, zones.TCP, MustOpen, "clients -> web-gateway:https"},
		{"outside", "dmz/web-gateway-0", 8080, zones.TCP, MustDeny, "clients -> web-gateway:http"},
		{"outside", "services/payment-0", 8443, zones.TCP, MustDeny, "clients -> payment:mtls"},
		{"api-server", "dmz/api-gateway-0", 8443, zones.TCP, MustOpen, "clients -> api-gateway:https"},
		{"node-a", "node-b", 10250, zones.TCP, MustOpen, "spire-agent -> kubelet:https"},
		{"node-a", "node-b", 20244, zones.TCP, MustOpen, ""},
		{"node-a", "outside", 6443, zones.TCP, MustOpen, ""},
		{"node-a", "outside", firstUnused, zones.TCP, MustClose, ""},

		// Pods outwards.
		{"services/user-0", "node-a", 10250, zones.TCP, MustDeny, "user -> kubelet:https"},
		{"services/user-0", "node-b", 20244, zones.TCP, MustDeny, ""},
		{"services/user-0", "api-server", 6443, zones.TCP, MustDeny, "user -> kube-apiserver:https"},
		{"services/user-0", "outside", 6443, zones.TCP, MustDeny, ""},
		{"spire-server/database-0", "api-server", 6443, zones.TCP, MustOpen, "database -> kube-apiserver:https"},
		{"spire-server/database-0", "api-server", 10257, zones.TCP, MustDeny, ""},
		{"spire-server/root-ca-stand-in", "api-server", 6443, zones.TCP, MustOpen, "root-ca -> kube-apiserver:https"},

		// Namespaces of the cluster have no policies of their own.
		{"services/user-0", "kube-system/dns-0", 5353, zones.UDP, MustOpen, "user -> dns:dns"},
		{"services/user-0", "kube-system/dns-0", 5353, zones.TCP, MustOpen, "user -> dns:dns-tcp"},
		{"services/user-0", "kube-system/dns-0", firstUnused, zones.UDP, MustDeny, ""},
		{"data/cache-0", "kube-system/dns-0", 5353, zones.UDP, MustDeny, "cache -> dns:dns"},
		{"elsewhere/unlisted", "kube-system/dns-0", 5353, zones.UDP, MustOpen, ""},
		{"elsewhere/unlisted", "kube-system/dns-0", firstUnused, zones.UDP, MustClose, ""},
		{dnsNode, "kube-system/dns-0", 5353, zones.TCP, MustOpen, ""},
		{notDNS, "kube-system/dns-0", 5353, zones.TCP, MustOpen, ""},
		{"kube-system/dns-0", "services/user-0", 8443, zones.TCP, MustDeny, "dns -> user:mtls"},
		{"kube-system/dns-0", "api-server", 6443, zones.TCP, MustOpen, ""},
		{"elsewhere/unlisted", "dmz/web-gateway-0", 8443, zones.TCP, MustDeny, ""},
		{"elsewhere/unlisted", "api-server", 6443, zones.TCP, MustOpen, ""},

		// Pods of no role.
		{"services/unlisted", "services/order-0", 8443, zones.TCP, MustDeny, ""},
		{"services/unlisted", "elsewhere/unlisted", firstUnused, zones.TCP, MustDeny, ""},
		{"elsewhere/unlisted", "services/unlisted", 8443, zones.TCP, MustDeny, ""},
		{"services/user-0", "services/unlisted", 8443, zones.TCP, MustDeny, ""},
	} {
		a := find(t, attempts, c.from, c.to, c.port, c.protocol)
		require.Equal(t, c.want, a.Expected, "%s to %s, %d/%s: %s", c.from, c.to, c.port, c.protocol, a)
		if c.flow != "" {
			flows := slices.Concat(a.Flows, a.Missing)
			require.True(t, slices.ContainsFunc(flows, func(f zones.Flow) bool { return f.String() == c.flow }), "%s: %v", c.flow, flows)
		}
	}
}

// TestEveryPairIsTried counts: nothing may be left out because of how it is looked up.
func TestEveryPairIsTried(t *testing.T) {
	topology := cluster(t, model)
	attempts := Expect(model, topology)
	tried := map[Key]bool{}
	for _, a := range attempts {
		require.False(t, tried[a.Key()], "%s twice", a)
		tried[a.Key()] = true
	}
	for _, to := range topology.Endpoints {
		wanted := slices.Concat(to.Listening, []Socket{{zones.TCP, firstUnused}})
		for _, r := range model.Roles {
			if plays(to, r) {
				for _, p := range r.Ports {
					wanted = append(wanted, socket(p))
				}
			}
		}
		for _, from := range topology.Endpoints {
			for _, s := range wanted {
				k := Key{from.Name, to.Name, s}
				require.Equal(t, from.Process != to.Process, tried[k], "%v", k)
			}
		}
	}
	require.Empty(t, uncovered(model, attempts), "each flow is tried by somebody")
}

func TestTouchingKeepsWhatConcernsTheNamespace(t *testing.T) {
	attempts := Touching(Expect(model, cluster(t, model)), zones.NamespaceData)
	require.NotEmpty(t, attempts)
	both := map[bool]int{}
	for _, a := range attempts {
		require.Contains(t, []string{a.From.Namespace, a.To.Namespace}, zones.NamespaceData)
		both[a.From.Namespace == zones.NamespaceData]++
	}
	require.NotZero(t, both[true])
	require.NotZero(t, both[false])
}

// TestNewServiceIsProven adds a service in the one place, and finds it in the proof.
func TestNewServiceIsProven(t *testing.T) {
	m := model.Clone()
	m.Roles = append(m.Roles, zones.Role{Name: "refund", Title: "Refunds", Zone: zones.Application, Place: zones.Pods, Namespace: zones.NamespaceServices,
		Labels: map[string]string{"app.kubernetes.io/name": "refund", "app.kubernetes.io/instance": "refund"}, SPIFFEPath: "/workload/refund-service",
		Ports: []zones.Port{{Name: "mtls", Number: 8447, Protection: zones.MTLS}}})
	m.Flows = append(m.Flows,
		zones.Flow{From: zones.Payment, To: "refund", Port: "mtls", Kind: zones.Request, MTLS: true, Why: "refunds go through the frontend"},
		zones.Flow{From: "refund", To: zones.Queue, Port: "mtls", Kind: zones.Request, MTLS: true, Why: "each refund is announced"})
	attempts := Expect(m, cluster(t, m))
	require.Equal(t, MustOpen, find(t, attempts, "services/payment-0", "services/refund-1", 8447, zones.TCP).Expected)
	require.Equal(t, MustOpen, find(t, attempts, "services/refund-1", "data/queue-0", 4222, zones.TCP).Expected)
	require.Equal(t, MustDeny, find(t, attempts, "services/order-0", "services/refund-1", 8447, zones.TCP).Expected)
	require.Equal(t, MustDeny, find(t, attempts, "services/refund-1", "data/cache-0", 6379, zones.TCP).Expected)
	require.Equal(t, MustDeny, find(t, attempts, "services/refund-1", "services/user-0", 8443, zones.TCP).Expected)

	// Where it is not deployed, the proof says so.
	old := observe(t)
	named := map[string]bool{}
	for _, d := range old.Check(m) {
		for _, f := range d.Flows {
			named[f.String()] = true
		}
	}
	require.Equal(t, map[string]bool{"payment -> refund:mtls": true, "refund -> queue:mtls": true}, named)
}
