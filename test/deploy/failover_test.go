package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"ephemos.dev/deploy/stacks/status"
	"github.com/gruntwork-io/terratest/modules/k8s"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// prober is the pod of test/probe: it creates entries and has SVIDs issued all the time, as an administrator, through the load
// balancers.
type prober struct{ node string }

// startProber registers the prober's identity, starts it on the node, and removes both when the test ends.
func startProber(t *testing.T, node string) *prober {
	t.Helper()
	const identity = `apiVersion: spire.spiffe.io/v1alpha1
kind: ClusterSPIFFEID
metadata: {name: probe}
spec:
  className: %[2]s
  admin: true
  spiffeIDTemplate: "spiffe://%[1]s/test/probe"
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: probe}}
  podSelector: {matchLabels: {app.kubernetes.io/name: probe}}
  workloadSelectorTemplates: ["k8s:ns:probe", "k8s:sa:probe"]
---
apiVersion: v1
kind: Namespace
metadata: {name: probe, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
`
	apply(t, door("spire-server", "probe", "app.kubernetes.io/name: haproxy", "ingress", `
    - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: probe}}}]
      ports: [{port: 8081}]`))
	apply(t, fmt.Sprintf(identity, trustDomain, spireClass(t))+serviceAccount("probe", "probe")+
		pod("probe", "probe", "probe", image(t, "probe"), "app.kubernetes.io/name: probe", fmt.Sprintf(`- {name: TRUST_DOMAIN, value: %s}
- {name: SERVER_ADDRESS, value: "spire-server-entry.spire-server.svc.cluster.local:8081"}`, trustDomain))+
		"  nodeName: "+node+"\n")
	p := &prober{node: node}
	t.Cleanup(func() { // before the pod goes
		_, err := clientset(t).CoreV1().RESTClient().Post().AbsPath("/api/v1/namespaces/probe/pods/probe:8080/proxy/cleanup").DoRaw(context.WithoutCancel(t.Context()))
		require.NoError(t, err, "remove the entries that the prober made")
	})
	eventually(t, 2*time.Minute, "the prober to create entries and have SVIDs issued", func(ctx context.Context) error {
		w, err := p.windows(ctx, time.Now().Add(-5*time.Second))
		if err == nil && (w.Writes.OK < 3 || w.SVIDs.OK < 3) {
			err = fmt.Errorf("%d entries, %d SVIDs in five seconds", w.Writes.OK, w.SVIDs.OK)
		}
		return err
	})
	return p
}

// windows is the prober's report.
type windows struct {
	Writes, SVIDs struct {
		OK     int
		Failed int
		Gaps   []struct {
			Start, End time.Time
			Seconds    float64
			Failed     int  `json:"failed_attempts"`
			Open       bool `json:"open"`
		}
	}
}

func (w windows) longest() (writes, svids float64) {
	if len(w.Writes.Gaps) > 0 {
		writes = w.Writes.Gaps[0].Seconds
	}
	if len(w.SVIDs.Gaps) > 0 {
		svids = w.SVIDs.Gaps[0].Seconds
	}
	return writes, svids
}

func (p *prober) windows(ctx context.Context, from time.Time) (w windows, err error) {
	text, err := get(ctx, "probe", "probe", "8080", "windows", "from", from.UTC().Format(time.RFC3339Nano))
	if err != nil {
		return w, err
	}
	return w, json.Unmarshal(text, &w)
}

// disruption is one bad day and the longest time for which it may keep a new SVID from being issued.
type disruption struct {
	name  string
	limit time.Duration
	// strike does the damage and returns what mends it afterwards, nil if Kubernetes does.
	strike func(t *testing.T, report status.Report) (mend func())
	// losesNode says that the pods of the victim's node do not live through it.
	losesNode bool
}

func testFailover(t *testing.T) {
	healthy(t, 2*time.Minute)
	disruptions := []disruption{
		{"a SPIRE server pod is deleted", 2 * time.Second, func(t *testing.T, r status.Report) func() {
			deletePod(t, "spire-server", victim(t, r).Pod, nil)
			return nil
		}, false},
		{"the node it runs on is stopped", 45 * time.Second, func(t *testing.T, r status.Report) func() {
			node := victim(t, r).Node
			require.NoError(t, cluster.StopNode(t.Context(), node))
			return func() { require.NoError(t, cluster.StartNode(context.WithoutCancel(t.Context()), node)) }
		}, true},
		{"the Postgres primary is deleted", 10 * time.Second, func(t *testing.T, r status.Report) func() {
			now := int64(0)
			deletePod(t, "spire-server", primary(t, r).Pod, &now)
			return nil
		}, false},
		{"the Postgres primary is switched over", 10 * time.Second, func(t *testing.T, r status.Report) func() {
			switchover(t, r)
			return nil
		}, false},
	}
	type row struct {
		name          string
		writes, svids float64
		acknowledged  int
	}
	var table []row
	for _, d := range disruptions {
		t.Run(d.name, func(t *testing.T) {
			settled(t)
			report := client.Read(t.Context())
			// The prober must live: it runs on a node that nothing happens to.
			var node string
			for _, n := range report.Nodes {
				if n.Name != victim(t, report).Node {
					node = n.Name
				}
			}
			p := startProber(t, node)
			calls, start := countCalls(t), time.Now()
			var lost []string
			if d.losesNode {
				lost = append(lost, victim(t, report).Node)
			}
			mend := d.strike(t, report)
			// It is over when a good while has passed without a failed attempt.
			quiet := 10 * time.Second
			eventually(t, 3*time.Minute, "ten seconds without a failed attempt", func(ctx context.Context) error {
				if since := time.Since(start); since < quiet+d.limit/2 {
					return fmt.Errorf("%s since the disruption", since.Round(time.Second))
				}
				w, err := p.windows(ctx, time.Now().Add(-quiet))
				if err == nil && (w.Writes.Failed+w.SVIDs.Failed > 0 || w.Writes.OK == 0 || w.SVIDs.OK == 0) {
					err = fmt.Errorf("in the last %s: %+v", quiet, w)
				}
				return err
			})
			w, err := p.windows(t.Context(), start)
			require.NoError(t, err)
			writes, svids := w.longest()
			t.Logf("longest time without an acknowledged entry %.1fs (%d failed attempts), without an issued SVID %.1fs (%d failed attempts)",
				writes, w.Writes.Failed, svids, w.SVIDs.Failed)
			requireNoFailedCall(t, calls, lost...)
			if mend != nil {
				mend()
			}
			healthy(t, 3*time.Minute)
			requireNoFailedCall(t, calls, lost...)

			text, err := get(t.Context(), "probe", "probe", "8080", "verify")
			require.NoError(t, err)
			verified := decode[struct {
				Acknowledged int
				Missing      []string
			}](t, text)
			require.NotZero(t, verified.Acknowledged)
			require.Empty(t, verified.Missing, "acknowledged entries that are gone")
			table = append(table, row{d.name, writes, svids, verified.Acknowledged})
			require.LessOrEqual(t, svids, d.limit.Seconds(), "seconds in which no SVID could be issued")
		})
	}
	t.Log("disruption                              no entry   no SVID   entries kept")
	for _, r := range table {
		t.Logf("%-38s %7.1fs  %7.1fs   %6d of %d", r.name, r.writes, r.svids, r.acknowledged, r.acknowledged)
	}
}

// victim is the server that shares its node with the Postgres primary: the loss of that node is the worst that one node can do.
func victim(t *testing.T, r status.Report) status.Server {
	t.Helper()
	node := primary(t, r).Node
	for _, s := range r.Servers {
		if s.Node == node {
			return s
		}
	}
	require.FailNow(t, "no server on the primary's node")
	return status.Server{}
}

func primary(t *testing.T, r status.Report) status.Instance {
	t.Helper()
	for _, i := range r.Database {
		if i.Role == "primary" {
			return i
		}
	}
	require.FailNow(t, "no primary")
	return status.Instance{}
}

func deletePod(t *testing.T, namespace, name string, grace *int64) {
	t.Helper()
	pods := clientset(t).CoreV1().Pods(namespace)
	old, err := pods.Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	require.NoError(t, pods.Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: grace, Preconditions: &metav1.Preconditions{UID: &old.UID}}))
}

// switchover asks CloudNativePG for another primary, as its command line plugin does: by naming it in the status of the cluster.
func switchover(t *testing.T, r status.Report) {
	t.Helper()
	from := primary(t, r).Pod
	var to string
	for _, i := range r.Database {
		if i.Role == "standby" && i.Synchronous() {
			to = i.Pod
		}
	}
	require.NotEmpty(t, to)
	patch := fmt.Sprintf(`{"status":{"targetPrimary":%q,"targetPrimaryTimestamp":%q,"phase":"Switchover in progress","phaseReason":"Switching over to %s"}}`,
		to, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z07:00"), to)
	k8s.RunKubectlContext(t, t.Context(), in("spire-server"), "patch", "clusters.postgresql.cnpg.io", "spire-db", "--subresource=status", "--type=merge", "-p", patch)
	eventually(t, time.Minute, "the new primary", func(ctx context.Context) error {
		p, err := clientset(t).CoreV1().Pods("spire-server").Get(ctx, to, metav1.GetOptions{})
		if err == nil && p.Labels["cnpg.io/instanceRole"] != "primary" {
			err = fmt.Errorf("%s is %s, the primary was %s", to, p.Labels["cnpg.io/instanceRole"], from)
		}
		return err
	})
}

// spireClass is the class name that the deployed controller manager answers to, as an identity of the stack has it.
func spireClass(t *testing.T) string {
	t.Helper()
	out, err := k8s.RunKubectlAndGetOutputContextE(t, t.Context(), in(""), "get", "clusterspiffeids", "-o", "jsonpath={.items[0].spec.className}")
	require.NoError(t, err)
	return out
}

// get reads a path of a pod's plaintext port; parameters are name, value, name, value.
func get(ctx context.Context, namespace, pod, port, path string, parameters ...string) ([]byte, error) {
	query := map[string]string{}
	for i := 0; i+1 < len(parameters); i += 2 {
		query[parameters[i]] = parameters[i+1]
	}
	set, err := cluster.Client()
	if err != nil {
		return nil, err
	}
	return set.CoreV1().Pods(namespace).ProxyGet("http", pod, port, path, query).DoRaw(ctx)
}
