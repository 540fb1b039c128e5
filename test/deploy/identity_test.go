package deploy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"ephemos.dev/deploy/testbed"
	"github.com/gruntwork-io/terratest/modules/k8s"
	"github.com/stretchr/testify/require"
)

const trustDomain = "local.company.com"

// pod is a pod of one of the services' programs, as restricted as the real ones.
func pod(namespace, name, serviceAccount, image, labels, env string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %[2]s
  namespace: %[1]s
  labels: {%[5]s}
spec:
  serviceAccountName: %[3]s
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: service
      image: %[4]s
      imagePullPolicy: IfNotPresent
      readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
      env:
        - {name: SPIFFE_ENDPOINT_SOCKET, value: "unix:///spiffe-workload-api/spire-agent.sock"}
        - {name: DRAIN_DELAY, value: 0s}
%[6]s
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: spiffe, mountPath: /spiffe-workload-api, readOnly: true}]
  volumes: [{name: spiffe, csi: {driver: csi.spiffe.io, readOnly: true}}]
`, namespace, name, serviceAccount, image, labels, indent(env))
}

func indent(env string) string {
	var b strings.Builder
	for line := range strings.Lines(env) {
		b.WriteString("        " + line)
	}
	return strings.TrimRight(b.String(), "\n")
}

func serviceAccount(namespace, name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s, namespace: %s}\n---\n", name, namespace)
}

// door is a NetworkPolicy that opens, besides what the zones allow, one direction of the pods with a label.
func door(namespace, name, label, direction, rules string) string {
	return fmt.Sprintf(`apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: test-%s, namespace: %s}
spec:
  podSelector: {matchLabels: {%s}}
  policyTypes: [%s]
  %s:%s
`, name, namespace, label, strings.ToUpper(direction[:1])+direction[1:], direction, rules)
}

func testIdentities(t *testing.T) {
	t.Run("a service with no registration gets none", func(t *testing.T) {
		// The zones deny a stranger everything; what it says of itself has to be read all the same.
		apply(t, door("services", "stranger", "app.kubernetes.io/name: stranger", "ingress", fmt.Sprintf(`
    - from: [{ipBlock: {cidr: %s}}]
      ports: [{port: 8080}]`, testbed.APIServerRange)))
		apply(t, serviceAccount("services", "stranger")+
			pod("services", "stranger", "stranger", image(t, "order"), "app.kubernetes.io/name: stranger", ""))
		requireNoIdentity(t, "services", "stranger")
	})
	t.Run("payment's labels and account in another namespace get none", func(t *testing.T) {
		apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: elsewhere}\n---\n"+serviceAccount("elsewhere", "payment")+
			pod("elsewhere", "payment", "payment", image(t, "order"), podLabels(t, "payment"), ""))
		requireNoIdentity(t, "elsewhere", "payment")
	})
	t.Run("order refuses payment by its SPIFFE ID", func(t *testing.T) {
		before := countCalls(t)
		// The network lets no payment pod through to order. With that door open, the identity still does not fit.
		apply(t, door("services", "shortcut-out", "app.kubernetes.io/name: payment", "egress", `
    - to: [{podSelector: {matchLabels: {app.kubernetes.io/name: order}}}]
      ports: [{port: 8443}]`)+"---\n"+door("services", "shortcut-in", "app.kubernetes.io/name: order", "ingress", `
    - from: [{podSelector: {matchLabels: {app.kubernetes.io/name: payment}}}]
      ports: [{port: 8443}]`))
		apply(t, pod("services", "shortcut", "payment", image(t, "payment"), podLabels(t, "payment"), fmt.Sprintf(
			`- {name: CALL_RATE, value: "0"}
- {name: NEXT_ADDRESS, value: "order.services.svc.cluster.local.:8443"}
- {name: NEXT_ID, value: "spiffe://%s/workload/order-service"}`, trustDomain)))
		k8s.WaitUntilPodAvailableContext(t, t.Context(), in("services"), "shortcut", 60, 500*time.Millisecond)
		stats := statsOf(t, "services", "shortcut")
		require.Equal(t, "spiffe://"+trustDomain+"/workload/payment-service", stats.SPIFFEID, "it holds payment's identity")
		// Until the door is open its calls fail; then they are refused.
		eventually(t, time.Minute, "five refused calls", func(ctx context.Context) error {
			_, err := get(ctx, "services", "shortcut", "8080", "call")
			require.Error(t, err)
			if stats = statsOf(t, "services", "shortcut"); stats.Calls.Denied < 5 {
				return fmt.Errorf("%d refused: %s", stats.Calls.Denied, stats.LastError)
			}
			return nil
		})
		require.Zero(t, stats.Calls.OK)
		t.Logf("payment calling order: %s", stats.LastError)
		requireNoFailedCall(t, before)
	})
}

// podLabels are the labels of a deployed service's pods, as a YAML flow.
func podLabels(t *testing.T, name string) string {
	t.Helper()
	deployment := k8s.GetDeploymentContext(t, t.Context(), in("services"), name)
	var parts []string
	for key, value := range deployment.Spec.Template.Labels {
		parts = append(parts, fmt.Sprintf("%s: %q", key, value))
	}
	return strings.Join(parts, ", ")
}

// requireNoIdentity waits until the agent has refused the pod several times, and checks that it holds nothing.
func requireNoIdentity(t *testing.T, namespace, name string) {
	t.Helper()
	eventually(t, 90*time.Second, "the agent to refuse "+namespace+"/"+name, func(ctx context.Context) error {
		pod, err := k8s.GetPodContextE(t, ctx, in(namespace), name)
		if err != nil {
			return err
		}
		logs, err := k8s.GetPodLogsContextE(t, ctx, in(namespace), pod, "service")
		if err != nil {
			return err
		}
		if refusals := strings.Count(logs, "no identity issued"); refusals < 3 {
			return fmt.Errorf("%d refusals in its log", refusals)
		}
		return nil
	})
	stats := statsOf(t, namespace, name)
	require.Empty(t, stats.SPIFFEID)
	require.Empty(t, stats.Serial)
	_, err := get(t.Context(), namespace, name, "8080", "readyz")
	require.Error(t, err, "a service without an identity is not ready")
}
