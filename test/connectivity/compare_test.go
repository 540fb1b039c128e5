package connectivity

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/zones"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestACleanClusterHasNoDifference(t *testing.T) {
	require.Empty(t, Describe(observe(t).Check(model)))
}

func TestVerdictsAdmit(t *testing.T) {
	admitted := map[Verdict][]Class{MustOpen: {Open}, MustClose: {Closed}, MustDeny: {Rejected, Silent}}
	for verdict, want := range admitted {
		for _, c := range classes {
			require.Equal(t, slices.Contains(want, c), verdict.Admits(c), "%s %s", verdict, c)
		}
		require.False(t, verdict.Admits(""))
	}
}

func TestDifferencesNameTheFlow(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Observation)
		want   string // text of one difference
		flow   string
	}{
		"a connection that should open is rejected": {
			set("services/user-0", "services/order-1", Socket{zones.TCP, 8443}, Result{Class: Rejected, Detail: "ICMP unreachable, code 3, from 10.89.0.129", Tries: 4}),
			"user -> order:mtls: must be open, it is rejected; allowed by user -> order:mtls: " +
				"services/user-0 to services/order-1, 8443/TCP (ICMP unreachable, code 3, from 10.89.0.129; tries: 4)",
			"user -> order:mtls"},
		"a connection that no flow allows opens": {
			set("services/payment-0", "services/order-1", Socket{zones.TCP, 8443}, Result{Class: Open, Tries: 1}),
			"payment -> order:mtls: must be denied, it is open; no flow allows it, it would take payment -> order:mtls: " +
				"services/payment-0 to services/order-1, 8443/TCP",
			"payment -> order:mtls"},
		"a stranger's connection opens": {
			set("elsewhere/unlisted", "data/cache-0", Socket{zones.TCP, 6379}, Result{Class: Open, Tries: 1}),
			"pods of no zone -> cache:mtls: must be denied, it is open; no flow allows it: elsewhere/unlisted to data/cache-0, 6379/TCP",
			""},
		"a denied connection arrives where nobody listens": {
			set("services/order-0", "services/user-1", Socket{zones.TCP, firstUnused}, Result{Class: Closed, Detail: "reset", Tries: 1}),
			"order -> user:2000/TCP: must be denied, it is closed; no flow allows it: services/order-0 to services/user-1, 2000/TCP (reset; tries: 1)",
			""},
		"a denied connection finds no route": {
			set("services/order-0", "services/user-1", Socket{zones.TCP, 8443}, Result{Class: NoRoute, Detail: "network is unreachable", Tries: 1}),
			"order -> user:mtls: must be denied, it is no route; no flow allows it, it would take order -> user:mtls: " +
				"services/order-0 to services/user-1, 8443/TCP (network is unreachable; tries: 1)",
			"order -> user:mtls"},
		"a node does not reach its own pod": {
			func(o *Observation) {
				pod, _ := o.Topology.Endpoint("services/user-0")
				set(pod.Node, pod.Name, Socket{zones.TCP, 8080}, Result{Class: Silent, Tries: 4})(o)
			},
			"own node -> user:http: must be open, it is silent; nothing limits it", ""},
		"an attempt was not made": {
			func(o *Observation) {
				delete(o.Results, Key{"services/user-0", "data/cache-1", Socket{zones.TCP, 6379}})
			},
			"user -> cache:mtls: must be open, it was not tried; allowed by user -> cache:mtls: services/user-0 to data/cache-1, 6379/TCP",
			"user -> cache:mtls"},
		"something else listens": {
			listen("data/cache-1", func(s []Socket) []Socket { return append(s, Socket{zones.TCP, 9999}) }),
			"cache: something listens on 9999/TCP, which the model does not have: data/cache-1", ""},
		"nobody listens": {
			listen("data/cache-1", func(s []Socket) []Socket {
				return slices.DeleteFunc(s, func(s Socket) bool { return s.Port == 6379 })
			}),
			"cache: nobody listens on its port mtls (6379/TCP): data/cache-1", "user -> cache:mtls"},
		"nobody listens on a node": {
			listen("node-b", func(s []Socket) []Socket { return slices.DeleteFunc(s, func(s Socket) bool { return s.Port == 10250 }) }),
			"kubelet: nobody listens on its port https (10250/TCP): node-b", "spire-agent -> kubelet:https"},
		"a pod has no role": {
			endpoint("data/cache-1", func(e *Endpoint) { e.Labels = map[string]string{"app": "other"} }),
			"pod of no role: no flow allows anything from or to it: data/cache-1", ""},
		"a role has no pods": {
			func(o *Observation) {
				o.Topology.Endpoints = slices.DeleteFunc(o.Topology.Endpoints, func(e Endpoint) bool { return strings.HasPrefix(e.Name, "data/queue-") })
			},
			"flow order -> queue:mtls: it cannot be tried: there is no pod of order or none of queue that listens",
			"order -> queue:mtls"},
	} {
		t.Run(name, func(t *testing.T) {
			o := observe(t)
			c.change(&o)
			differences := o.Check(model)
			i := slices.IndexFunc(differences, func(d Difference) bool { return strings.HasPrefix(d.String(), c.want) })
			require.GreaterOrEqual(t, i, 0, "no difference begins with %q:\n%s", c.want, Describe(differences))
			if c.flow != "" {
				require.True(t, differences[i].Names(c.flow), "%v", differences[i].Flows)
			}
			for _, d := range differences {
				require.False(t, d.Names("api-gateway -> order:mtls"), "another flow is named: %s", d)
			}
		})
	}
}

func set(from, to string, s Socket, r Result) func(*Observation) {
	return func(o *Observation) { o.Results[Key{from, to, s}] = r }
}

func endpoint(name string, change func(*Endpoint)) func(*Observation) {
	return func(o *Observation) {
		for i := range o.Topology.Endpoints {
			if o.Topology.Endpoints[i].Name == name {
				change(&o.Topology.Endpoints[i])
			}
		}
	}
}

func listen(name string, change func([]Socket) []Socket) func(*Observation) {
	return endpoint(name, func(e *Endpoint) { e.Listening = change(slices.Clone(e.Listening)) })
}

func TestEqualDifferencesAreShownOnce(t *testing.T) {
	o := observe(t)
	m := Mutation{Change: without(zones.User, zones.Order, "mtls")}.Apply(model)
	text := Describe(o.Check(m))
	require.Equal(t, 1, strings.Count(text, "\n9 x ")+strings.Count("\n"+text, "\n9 x "), text)
	require.Equal(t, 4, strings.Count(text, "\n"), text)
	require.Contains(t, text, "9 x user -> order:mtls: must be denied, it is open; no flow allows it, it would take user -> order:mtls\n")
}

// TestSummary pins what is shown, for a clean cluster and for one with a difference.
func TestSummary(t *testing.T) {
	o := observe(t)
	clean := o.Summary(model)
	set("services/payment-0", "services/order-1", Socket{zones.TCP, 8443}, Result{Class: Open, Tries: 1})(&o)
	changed := o.Summary(model)

	const golden = "testdata/summary.md"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, []byte(clean), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), clean)
	require.NotContains(t, clean, "!0", "no mark")
	require.Contains(t, changed, "!1/3")
}
