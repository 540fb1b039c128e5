package main

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"ephemos.dev/deploy/components/zones"
)

const patient = 20 * time.Second

func aPod(namespace, name, node string, labels map[string]string, addresses ...string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels, Annotations: map[string]string{"large": "x"}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Env: []corev1.EnvVar{{Name: "SECRET", Value: "x"}}}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, a := range addresses {
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: a})
	}
	if len(addresses) > 0 {
		pod.Status.PodIP = addresses[0]
	}
	return pod
}

func aNode(name, address, pods string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{pods}},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}, {Type: corev1.NodeHostName, Address: name}},
			Images:    []corev1.ContainerImage{{Names: []string{"large"}}},
		},
	}
}

// roleLabels are the labels of a role's pods.
func roleLabels(t *testing.T, role string) map[string]string {
	t.Helper()
	r, ok := zones.Standard(zones.Options{}).Role(role)
	require.True(t, ok)
	return r.Labels
}

func follow(t *testing.T, objects ...runtime.Object) (*directory, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset(objects...)
	d := newDirectory(client, zones.Standard(zones.Options{}))
	done := make(chan error, 1)
	go func() { done <- d.run(t.Context()) }()
	t.Cleanup(func() { require.NoError(t, <-done) })
	require.Eventually(t, d.synced, patient, time.Millisecond)
	return d, client
}

func TestAttribution(t *testing.T) {
	host := aPod("spire-agent", "agent", "node-a", nil, "192.168.0.1")
	host.Spec.HostNetwork = true
	ended := aPod("services", "ended", "node-a", nil, "10.244.1.2")
	ended.Status.Phase = corev1.PodSucceeded
	d, _ := follow(t, aNode("node-a", "192.168.0.1", "10.244.1.0/24"), host, ended,
		aPod("services", "user-0", "node-a", roleLabels(t, zones.User), "10.244.1.2", "fd00::2"),
		aPod("other", "x", "node-a", nil, "10.244.1.3"),
		aPod("services", "starting", "node-a", nil))
	for address, want := range map[string]Party{
		"10.244.1.2": {Kind: KindPod, Namespace: "services", Pod: "user-0", Role: zones.User, Zone: "application", Node: "node-a",
			spiffePath: "/workload/user-service"},
		"fd00::2": {Kind: KindPod, Namespace: "services", Pod: "user-0", Role: zones.User, Zone: "application", Node: "node-a",
			spiffePath: "/workload/user-service"},
		"10.244.1.3":        {Kind: KindPod, Namespace: "other", Pod: "x", Node: "node-a"},
		"192.168.0.1":       {Kind: KindNode, Node: "node-a", Zone: "platform"},
		"10.244.1.9":        {Kind: KindUnknown, Node: "node-a"},
		"10.9.9.9":          {Kind: KindUnknown},
		"198.51.100.7":      {Kind: KindOutside, Zone: "internet"},
		"127.0.0.1":         {Kind: KindUnknown},
		"fe80::1":           {Kind: KindUnknown},
		"::ffff:10.244.1.2": {Kind: KindUnknown},
	} {
		want.Address = netip.MustParseAddr(address)
		require.Eventually(t, func() bool { return d.lookup(want.Address) == want }, patient, time.Millisecond, "%s: %+v", address, d.lookup(want.Address))
	}
}

// TestAddressChangesHands follows an address from one pod to the next.
func TestAddressChangesHands(t *testing.T) {
	address := netip.MustParseAddr("10.244.1.2")
	d, client := follow(t, aPod("services", "first", "node-a", roleLabels(t, zones.User), address.String()))
	holder := func(name string) {
		t.Helper()
		require.Eventually(t, func() bool { return d.lookup(address).Pod == name }, patient, time.Millisecond, "%+v", d.lookup(address))
	}
	holder("first")
	pods := client.CoreV1().Pods("services")
	require.NoError(t, pods.Delete(t.Context(), "first", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool { return len(d.pods.GetIndexer().List()) == 0 }, patient, time.Millisecond)
	holder("first") // its last packets may still be on their way

	second := aPod("services", "second", "node-a", roleLabels(t, zones.Order), address.String())
	_, err := pods.Create(t.Context(), second, metav1.CreateOptions{})
	require.NoError(t, err)
	holder("second")

	second.Status.Phase = corev1.PodSucceeded
	_, err = pods.UpdateStatus(t.Context(), second, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		found, err := d.pods.GetIndexer().ByIndex(byAddress, address.String())
		return err == nil && len(found) == 0
	}, patient, time.Millisecond)
	holder("second")
	require.Equal(t, zones.Order, d.lookup(address).Role)
}

// TestOnlyWhatIsNeededIsKept holds that the store grows with names, labels and addresses and nothing else, in particular that no
// environment of a container is in this program's memory.
func TestOnlyWhatIsNeededIsKept(t *testing.T) {
	d, _ := follow(t, aNode("node-a", "192.168.0.1", "10.244.1.0/24"), aPod("services", "a", "node-a", nil, "10.244.1.2"))
	pod := d.pods.GetIndexer().List()[0].(*corev1.Pod)
	require.Empty(t, pod.Spec.Containers)
	require.Empty(t, pod.Annotations)
	require.Empty(t, d.nodes.GetIndexer().List()[0].(*corev1.Node).Status.Images)
}

func TestEndedPodsAreBounded(t *testing.T) {
	d := newDirectory(fake.NewClientset(), zones.Standard(zones.Options{}))
	for i := range 2 * maxRemembered {
		d.leave(aPod("services", fmt.Sprint(i), "node-a", nil, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()))
	}
	require.Len(t, d.gone, maxRemembered)
	d.leave("not a pod")
}
