package testbed

import (
	"fmt"
	"net"
)

// Addresses of the cluster. The ranges exist only inside the machines' network namespaces.
const (
	controlPlaneAddress = "10.89.0.1"
	linkPrefixLength    = 24
	LinkRange           = "10.89.0.0/24"
	// NodeRange holds the nodes' addresses, and not the control plane's.
	NodeRange = "10.89.0.128/25"
	// APIServerRange is the API server's endpoint, which listens on APIServerPort.
	APIServerRange = controlPlaneAddress + "/32"
	APIServerPort  = 6443
	// DNSPort is where the pods of the cluster's DNS listen.
	DNSPort = 5353
	// PodRange holds every pod address; node i uses 10.244.i.0/24.
	PodRange = "10.244.0.0/16"
	// ServiceRange holds every Service address.
	ServiceRange   = "10.96.0.0/16"
	serviceAPI     = "10.96.0.1"
	serviceDNS     = "10.96.0.10"
	clusterDomain  = "cluster.local"
	controlPlane   = "control-plane"
	bridgeName     = "nodes0"
	volumesPerNode = 8
	// StorageClass is the default storage class: local volumes, bound when a pod needs them.
	StorageClass = "local"
)

// node is one worker: its name, its zone label and the ranges that belong to it.
type node struct {
	Name    string // also the Kubernetes node name
	Zone    string // value of topology.kubernetes.io/zone
	Address string // on the bridge
	PodCIDR string
}

// link is the name of the bridge's end of the node's veth.
func (n node) link() string { return "to-" + n.Name }

// initialNodes are the nodes of a new cluster: three, one a zone, as the source document's high availability diagram has it.
func initialNodes() []node {
	return []node{newNode(1), newNode(2), newNode(3)}
}

// newNode returns the i-th node, counted from 1. Zones repeat after c.
func newNode(i int) node {
	letter := string(rune('a' + i - 1))
	return node{
		Name:    "node-" + letter,
		Zone:    string(rune('a' + (i-1)%3)),
		Address: fmt.Sprintf("10.89.0.%d", 128+i),
		PodCIDR: fmt.Sprintf("10.244.%d.0/24", i),
	}
}

func mustCIDR(s string) *net.IPNet {
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err) // only constants of this file come here
	}
	return n
}
