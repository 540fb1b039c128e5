package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"ephemos.dev/deploy/components/zones"
)

const (
	// remembered is how long the address of a pod that has ended still stands for it: its last packets are reported after it.
	remembered = time.Minute
	// maxRemembered bounds the pods that have ended. When more end, the rest is not remembered.
	maxRemembered = 4096

	byAddress = "address"
)

// A directory knows who has an address. It follows pods and nodes through the Kubernetes API and keeps of them what it needs:
// names, labels and addresses.
type directory struct {
	model       *zoneModel
	pods, nodes cache.SharedIndexInformer

	// ranges are the pod ranges of all nodes.
	ranges atomic.Pointer[[]podRange]

	mu   sync.Mutex
	gone map[netip.Addr]departed
}

// A podRange is a range of addresses that a node gives to its pods.
type podRange struct {
	prefix netip.Prefix
	node   string
}

// A departed pod has ended, or lost its address.
type departed struct {
	pod   *corev1.Pod
	until time.Time
}

func newDirectory(client kubernetes.Interface, model zones.Model) *directory {
	pods, nodes := client.CoreV1().Pods(metav1.NamespaceAll), client.CoreV1().Nodes()
	return &directory{
		model: newZoneModel(model),
		gone:  map[netip.Addr]departed{},
		pods: cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return pods.List(ctx, o) },
			WatchFuncWithContext: pods.Watch,
		}, client), &corev1.Pod{}, 0, cache.Indexers{byAddress: podAddresses}),
		nodes: cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return nodes.List(ctx, o) },
			WatchFuncWithContext: nodes.Watch,
		}, client), &corev1.Node{}, 0, cache.Indexers{byAddress: nodeAddresses}),
	}
}

// run follows pods and nodes until ctx ends. An API server that is away is waited for.
func (d *directory) run(ctx context.Context) error {
	for _, informer := range []cache.SharedIndexInformer{d.pods, d.nodes} {
		if err := informer.SetTransform(trim); err != nil {
			return fmt.Errorf("Kubernetes API: %w", err)
		}
	}
	if _, err := d.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(old, updated any) {
			before, _ := podAddresses(old)
			if after, _ := podAddresses(updated); !slices.Equal(before, after) {
				d.leave(old)
			}
		},
		DeleteFunc: d.leave,
	}); err != nil {
		return fmt.Errorf("Kubernetes API: %w", err)
	}
	if _, err := d.nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { d.listRanges() },
		UpdateFunc: func(any, any) { d.listRanges() },
		DeleteFunc: func(any) { d.listRanges() },
	}); err != nil {
		return fmt.Errorf("Kubernetes API: %w", err)
	}
	var following sync.WaitGroup
	for _, informer := range []cache.SharedIndexInformer{d.pods, d.nodes} {
		following.Go(func() { informer.RunWithContext(ctx) })
	}
	following.Wait()
	return nil
}

// synced says whether pods and nodes have been listed.
func (d *directory) synced() bool { return d.pods.HasSynced() && d.nodes.HasSynced() }

// trim removes from an object what the directory does not need, before it is stored.
func trim(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.Pod:
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion, Labels: o.Labels,
				CreationTimestamp: o.CreationTimestamp,
			},
			Spec:   corev1.PodSpec{NodeName: o.Spec.NodeName, HostNetwork: o.Spec.HostNetwork},
			Status: corev1.PodStatus{Phase: o.Status.Phase, PodIP: o.Status.PodIP, PodIPs: o.Status.PodIPs},
		}, nil
	case *corev1.Node:
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion},
			Spec:       corev1.NodeSpec{PodCIDRs: o.Spec.PodCIDRs},
			Status:     corev1.NodeStatus{Addresses: o.Status.Addresses},
		}, nil
	}
	return object, nil // a tombstone of the cache
}

// podAddresses indexes pods by the addresses that are theirs alone and that they still have.
func podAddresses(object any) ([]string, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil, nil
	}
	return ownAddresses(pod), nil
}

// ownAddresses returns the pod's addresses in canonical form. A pod with the node's network has none of its own.
func ownAddresses(pod *corev1.Pod) []string {
	if pod.Spec.HostNetwork {
		return nil
	}
	found := map[string]bool{}
	for _, ip := range append([]corev1.PodIP{{IP: pod.Status.PodIP}}, pod.Status.PodIPs...) {
		if address, err := netip.ParseAddr(ip.IP); err == nil {
			found[address.String()] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func nodeAddresses(object any) ([]string, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return nil, nil
	}
	var addresses []string
	for _, a := range node.Status.Addresses {
		if address, err := netip.ParseAddr(a.Address); err == nil {
			addresses = append(addresses, address.String())
		}
	}
	return addresses, nil
}

// leave remembers the addresses of a pod that has lost them.
func (d *directory) leave(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	addresses, _ := podAddresses(pod)
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.gone)+len(addresses) > maxRemembered {
		maps.DeleteFunc(d.gone, func(_ netip.Addr, g departed) bool { return now.After(g.until) })
	}
	for _, text := range addresses {
		address, err := netip.ParseAddr(text)
		if _, known := d.gone[address]; err == nil && (known || len(d.gone) < maxRemembered) {
			d.gone[address] = departed{pod: pod, until: now.Add(remembered)}
		}
	}
}

// lookup returns who has the address. The answer may be better a moment later: the API tells of a pod after its first packets.
func (d *directory) lookup(address netip.Addr) Party {
	party := Party{Address: address, Kind: KindUnknown}
	if pod := d.pod(address); pod != nil {
		party.Kind, party.Namespace, party.Pod, party.Node = KindPod, pod.Namespace, pod.Name, pod.Spec.NodeName
		zone, role := d.model.pod(pod.Namespace, pod.Labels)
		party.Zone, party.Role, party.spiffePath = string(zone), role.Name, role.SPIFFEPath
		return party
	}
	if found, err := d.nodes.GetIndexer().ByIndex(byAddress, address.String()); err == nil && len(found) > 0 {
		if node, ok := found[0].(*corev1.Node); ok {
			party.Kind, party.Node, party.Zone = KindNode, node.Name, string(d.model.underlying)
		}
		return party
	}
	node, inside := d.inPodRange(address)
	switch {
	case inside:
		party.Node = node
	case address.IsGlobalUnicast() && !address.IsPrivate():
		party.Kind, party.Zone = KindOutside, string(d.model.outside)
	}
	return party
}

// pod returns the youngest pod with the address, else the one that has had it.
func (d *directory) pod(address netip.Addr) *corev1.Pod {
	found, err := d.pods.GetIndexer().ByIndex(byAddress, address.String())
	if err != nil {
		return nil
	}
	var youngest *corev1.Pod
	for _, object := range found {
		pod, ok := object.(*corev1.Pod)
		if ok && (youngest == nil || youngest.CreationTimestamp.Before(&pod.CreationTimestamp)) {
			youngest = pod
		}
	}
	if youngest != nil {
		return youngest
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if g, ok := d.gone[address]; ok && time.Now().Before(g.until) {
		return g.pod
	}
	return nil
}

// listRanges reads the pod ranges of all nodes anew.
func (d *directory) listRanges() {
	var ranges []podRange
	for _, object := range d.nodes.GetIndexer().List() {
		node, ok := object.(*corev1.Node)
		if !ok {
			continue
		}
		for _, cidr := range node.Spec.PodCIDRs {
			if prefix, err := netip.ParsePrefix(cidr); err == nil {
				ranges = append(ranges, podRange{prefix, node.Name})
			}
		}
	}
	d.ranges.Store(&ranges)
}

// inPodRange returns the node in whose range of pods the address is.
func (d *directory) inPodRange(address netip.Addr) (node string, ok bool) {
	if ranges := d.ranges.Load(); ranges != nil {
		for _, r := range *ranges {
			if r.prefix.Contains(address) {
				return r.node, true
			}
		}
	}
	return "", false
}

// zones returns the model's view.
func (d *directory) zones() *zoneModel { return d.model }
