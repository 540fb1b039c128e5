package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/test/connectivity"
	"github.com/gruntwork-io/terratest/modules/k8s"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// proofLimit is how long the connectivity proof may take.
	proofLimit = 5 * time.Minute
	// beyond is an address that stands for the internet while the proof runs: of a range that is set aside for documentation
	// (RFC 5737), on the control plane's loopback.
	beyond = "203.0.113.7"
	// standInLabel marks the pods that the proof makes.
	standInLabel = "ephemos.dev/stand-in"
	// noZone is a namespace that no policy is made for.
	noZone = "no-zone"
)

// deployedModel is the model that the test bed's stack is made from. CoreDNS listens on 5353 there.
func deployedModel(t *testing.T) zones.Model {
	t.Helper()
	model := zones.Standard(zones.Options{DNSPort: 5353})
	require.NoError(t, model.Validate())
	return model
}

// testConnectivity shows that the cluster lets through what the model says, and nothing else: between every two places, tried
// from inside their networks. It then changes the model, and the cluster, and shows that the proof finds it.
func testConnectivity(t *testing.T) {
	healthy(t, 2*time.Minute)
	model := deployedModel(t)
	createStandIns(t, model)
	createOutside(t)
	awaitEnforcement(t, model)

	start := time.Now()
	observation := prove(t, model)
	differences := observation.Check(model)
	t.Logf("what is expected and seen:\n\n%s", observation.Summary(model))
	require.Empty(t, connectivity.Describe(differences), "%d differences", len(differences))
	require.Less(t, time.Since(start), proofLimit)

	t.Run("changes of the model are found", func(t *testing.T) { proveMutations(t, model, observation) })
	t.Run("a policy that is gone is found", func(t *testing.T) {
		policies := clientset(t).NetworkingV1().NetworkPolicies(zones.NamespaceData)
		was, err := policies.Get(t.Context(), zones.Cache, metav1.GetOptions{})
		require.NoError(t, err, "a role's policy has its name")
		restore := func(ctx context.Context) error {
			again := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: was.Name, Namespace: was.Namespace,
				Labels: was.Labels, Annotations: was.Annotations, ManagedFields: was.ManagedFields}, Spec: was.Spec}
			if _, err := policies.Create(ctx, again, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
				return err
			}
			return nil
		}
		t.Cleanup(func() { require.NoError(t, restore(context.WithoutCancel(t.Context()))) })
		require.NoError(t, policies.Delete(t.Context(), was.Name, metav1.DeleteOptions{}))
		awaitDifference(t, model, zones.NamespaceData, "user -> cache:mtls")
		require.NoError(t, restore(t.Context()))
		awaitClean(t, model, zones.NamespaceData)
	})
	t.Run("a policy that allows everything is found", func(t *testing.T) {
		const everything = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: everything, namespace: ` + zones.NamespaceData + `}
spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}
`
		apply(t, everything)
		awaitDifference(t, model, zones.NamespaceData, "kube-apiserver -> cache:mtls")
		k8s.KubectlDeleteFromStringContext(t, t.Context(), in(""), everything)
		awaitClean(t, model, zones.NamespaceData)
	})
}

// prove makes all attempts. If pods came or went meanwhile, it begins anew: what was seen of them says nothing.
func prove(t *testing.T, model zones.Model) connectivity.Observation {
	t.Helper()
	const rounds = 3
	for round := 1; ; round++ {
		observation, err := connectivity.Prober{}.Observe(t.Context(), model, discover(t, model))
		require.NoError(t, err)
		before, after := places(observation.Topology), places(discover(t, model))
		if slices.Equal(before, after) {
			return observation
		}
		require.Less(t, round, rounds, "pods come and go: before %v, after %v", before, after)
	}
}

// places are the endpoints by name and address.
func places(topology connectivity.Topology) []string {
	var all []string
	for _, e := range topology.Endpoints {
		all = append(all, e.Name+" "+e.Address.String())
	}
	slices.Sort(all)
	return all
}

// proveMutations checks each changed model against what was seen, and against what it adds to try, on the cluster that has the
// unchanged one.
func proveMutations(t *testing.T, model zones.Model, observation connectivity.Observation) {
	rows, proven := [][]string{{"change", "found by", "which names"}}, 0
	for _, mutation := range connectivity.Mutations() {
		changed := mutation.Apply(model)
		err := changed.Validate()
		if mutation.Refused {
			require.ErrorContains(t, err, mutation.Names, mutation.Name)
			rows = append(rows, []string{mutation.Name, "validation", mutation.Names})
			continue
		}
		require.NoError(t, err, mutation.Name)
		further := observation.Untried(connectivity.Expect(changed, observation.Topology))
		seen, err := connectivity.Prober{Again: -1}.Try(t.Context(), further)
		require.NoError(t, err)
		differences := observation.With(seen).Check(changed)
		require.True(t, slices.ContainsFunc(differences, func(d connectivity.Difference) bool { return d.Names(mutation.Names) }),
			"%s: %s is not named:\n%s", mutation.Name, mutation.Names, connectivity.Describe(differences))
		rows, proven = append(rows, []string{mutation.Name, fmt.Sprintf("proof: %d differences", len(differences)), mutation.Names}), proven+1
	}
	require.GreaterOrEqual(t, proven, 10, "changes found by the proof on the live cluster")
	t.Logf("%d changes:\n\n%s", len(rows)-1, connectivity.Table(rows))
}

// proveNamespace makes the attempts from and to one namespace.
func proveNamespace(ctx context.Context, t *testing.T, model zones.Model, namespace string, again int) ([]connectivity.Difference, error) {
	t.Helper()
	attempts := connectivity.Touching(connectivity.Expect(model, discover(t, model)), namespace)
	seen, err := connectivity.Prober{Again: again}.Try(ctx, attempts)
	return connectivity.Compare(attempts, seen), err
}

// awaitDifference waits until the proof names the flow: policies take effect a moment after they change.
func awaitDifference(t *testing.T, model zones.Model, namespace, flow string) {
	t.Helper()
	eventually(t, time.Minute, "the proof to name "+flow, func(ctx context.Context) error {
		differences, err := proveNamespace(ctx, t, model, namespace, -1)
		if err != nil {
			return err
		}
		for _, d := range differences {
			if d.Names(flow) {
				t.Logf("%d differences:\n%s", len(differences), connectivity.Describe(differences))
				return nil
			}
		}
		return fmt.Errorf("it finds: %q", connectivity.Describe(differences))
	})
}

func awaitClean(t *testing.T, model zones.Model, namespace string) {
	t.Helper()
	eventually(t, time.Minute, "the proof to find nothing", func(ctx context.Context) error {
		differences, err := proveNamespace(ctx, t, model, namespace, 1)
		if err == nil && len(differences) > 0 {
			err = errors.New(connectivity.Describe(differences))
		}
		return err
	})
}

// createStandIns makes pods that listen on nothing: one of no role in each namespace of the deployment and in one without
// policies, and one with the labels of each role that has no pod at the moment.
func createStandIns(t *testing.T, model zones.Model) {
	t.Helper()
	var manifest strings.Builder
	fmt.Fprintf(&manifest, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {pod-security.kubernetes.io/enforce: restricted}}\n", noZone)
	add := func(namespace, name string, labels map[string]string) {
		labels = maps.Clone(labels)
		labels[standInLabel] = "true"
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(labels)) {
			pairs = append(pairs, fmt.Sprintf("%s: %q", key, labels[key]))
		}
		fmt.Fprintf(&manifest, standIn, name, namespace, strings.Join(pairs, ", "), image(t, "pause"))
	}
	for _, namespace := range model.Namespaces {
		add(namespace.Name, "stand-in", map[string]string{})
	}
	add(noZone, "stand-in", map[string]string{})
	topology := discover(t, model)
	for _, r := range model.Roles {
		if r.Place == zones.Pods && len(topology.Playing(r)) == 0 {
			add(r.Namespace, "stand-in-"+r.Name, r.Labels)
		}
	}
	apply(t, manifest.String())
	eventually(t, 2*time.Minute, "the pods that stand in to run", func(ctx context.Context) error {
		pods, err := clientset(t).CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: standInLabel})
		if err != nil {
			return err
		}
		for _, p := range pods.Items {
			if p.Status.Phase != corev1.PodRunning || p.Status.PodIP == "" {
				return fmt.Errorf("%s/%s is %s", p.Namespace, p.Name, p.Status.Phase)
			}
		}
		return nil
	})
}

// standIn is a pod that does nothing. Its values are name, namespace, labels and image.
const standIn = `---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {%s}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: pause
      image: %s
      imagePullPolicy: IfNotPresent
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
`

// createOutside gives the control plane an address that is none of the cluster's, and the nodes the way to it, until the test
// ends. No packet to it leaves the test bed.
func createOutside(t *testing.T) {
	t.Helper()
	address, err := netlink.ParseAddr(beyond + "/32")
	require.NoError(t, err)
	api := net.IP(apiServerAddress(t).AsSlice())
	machines, err := cluster.Status()
	require.NoError(t, err)
	for i, m := range machines {
		namespace, err := netns.GetFromPid(m.PID)
		require.NoError(t, err)
		h, err := netlink.NewHandleAt(namespace)
		require.NoError(t, err)
		t.Cleanup(func() {
			h.Close()
			require.NoError(t, namespace.Close())
		})
		if i == 0 { // the control plane
			lo, err := h.LinkByName("lo")
			require.NoError(t, err)
			require.NoError(t, h.AddrReplace(lo, address))
			t.Cleanup(func() { require.NoError(t, h.AddrDel(lo, address)) })
			continue
		}
		route := &netlink.Route{Dst: address.IPNet, Gw: api}
		require.NoError(t, h.RouteReplace(route))
		t.Cleanup(func() { require.NoError(t, h.RouteDel(route)) })
	}
}

// apiServerAddress is where the API server itself is, behind its Service.
func apiServerAddress(t *testing.T) netip.Addr {
	t.Helper()
	slice, err := clientset(t).DiscoveryV1().EndpointSlices("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	require.NoError(t, err)
	require.Len(t, slice.Endpoints, 1)
	address, err := netip.ParseAddr(slice.Endpoints[0].Addresses[0])
	require.NoError(t, err)
	return address
}

// discover finds every place of the proof: the pods of the model's roles and namespaces, those that stand in, the nodes, the API
// server, and the outside if it is there. What listens in each is read there.
func discover(t *testing.T, model zones.Model) connectivity.Topology {
	t.Helper()
	var topology connectivity.Topology
	eventually(t, time.Minute, "every pod to have its network", func(ctx context.Context) (err error) {
		topology, err = tryDiscover(ctx, t, model)
		return err
	})
	return topology
}

func tryDiscover(ctx context.Context, t *testing.T, model zones.Model) (topology connectivity.Topology, err error) {
	machines, err := cluster.Status()
	if err != nil {
		return topology, err
	}
	inits := map[string]int{}
	for _, m := range machines {
		inits[m.Name] = m.PID
	}
	processes, err := connectivity.PodProcesses("/proc", slices.Collect(maps.Values(inits)))
	if err != nil {
		return topology, err
	}
	var errs []error
	add := func(e connectivity.Endpoint, address string) {
		var err error
		if e.Address, err = netip.ParseAddr(address); err == nil {
			e.Listening, err = connectivity.ReadListening("/proc", e.Process, e.Address)
		}
		errs = append(errs, err)
		topology.Endpoints = append(topology.Endpoints, e)
	}
	nodes, err := clientset(t).CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return topology, err
	}
	for _, n := range nodes.Items {
		i := slices.IndexFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool { return a.Type == corev1.NodeInternalIP })
		if i < 0 || inits[n.Name] == 0 {
			return topology, fmt.Errorf("node %s has no address or no machine", n.Name)
		}
		add(connectivity.Endpoint{Name: n.Name, Place: zones.Nodes, Node: n.Name, Process: inits[n.Name]}, n.Status.Addresses[i].Address)
	}
	control := machines[0]
	add(connectivity.Endpoint{Name: control.Name, Place: zones.APIServer, Process: control.PID}, apiServerAddress(t).String())
	if hasOutside(control.PID) {
		add(connectivity.Endpoint{Name: "outside", Place: zones.Elsewhere, Process: control.PID}, beyond)
	}

	pods, err := clientset(t).CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return topology, err
	}
	for _, p := range pods.Items {
		if p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil || p.Spec.HostNetwork {
			continue
		}
		e := connectivity.Endpoint{Name: p.Namespace + "/" + p.Name, Place: zones.Pods, Namespace: p.Namespace, Labels: p.Labels,
			StandIn: p.Labels[standInLabel] != "", Node: p.Spec.NodeName, Process: processes[string(p.UID)]}
		known := slices.ContainsFunc(model.Roles, func(r zones.Role) bool { return r.Place == zones.Pods && r.Namespace == e.Namespace })
		if !known && !model.Ours(e.Namespace) && !e.StandIn {
			continue
		}
		if e.Process == 0 || p.Status.PodIP == "" {
			errs = append(errs, fmt.Errorf("%s: no process of it is found, or it has no address", e.Name))
			continue
		}
		add(e, p.Status.PodIP)
	}
	return topology, errors.Join(errs...)
}

// hasOutside says whether createOutside has been at work.
func hasOutside(process int) bool {
	namespace, err := netns.GetFromPid(process)
	if err != nil {
		return false
	}
	defer func() { _ = namespace.Close() }()
	h, err := netlink.NewHandleAt(namespace)
	if err != nil {
		return false
	}
	defer h.Close()
	addresses, err := h.AddrList(nil, netlink.FAMILY_V4)
	return err == nil && slices.ContainsFunc(addresses, func(a netlink.Addr) bool { return a.IP.String() == beyond })
}

// awaitEnforcement waits until the pods that stand in are denied what they must be: policies reach a new pod a moment after it
// starts, and the proof repeats nothing that must be denied.
func awaitEnforcement(t *testing.T, model zones.Model) {
	t.Helper()
	var attempts []connectivity.Attempt
	for _, a := range connectivity.Expect(model, discover(t, model)) {
		if (a.From.StandIn || a.To.StandIn) && a.Expected == connectivity.MustDeny {
			attempts = append(attempts, a)
		}
	}
	require.NotEmpty(t, attempts)
	eventually(t, time.Minute, "policies to be enforced on new pods", func(ctx context.Context) error {
		seen, err := connectivity.Prober{}.Try(ctx, attempts)
		if differences := connectivity.Compare(attempts, seen); err == nil && len(differences) > 0 {
			err = errors.New(connectivity.Describe(differences))
		}
		return err
	})
}
