// Package testbed runs a three-node Kubernetes cluster on one Linux host, without a container engine and without a packet
// that could leave the host.
//
// What flows in: the programs, images and node root filesystem that package toolchain made. What comes out: a kubeconfig whose
// server address is on the host's loopback, and a handle to stop, start, cut off and heal nodes.
//
// A cluster is four machines: one for the control plane and three nodes. A machine is one process (its init) in network, mount,
// PID, UTS and IPC namespaces of its own, with a root filesystem laid over the one from Debian packages. Everything that a
// machine does is a descendant of its init and everything that it mounts or links lives in its namespaces, so that killing the
// init returns processes, mounts, interfaces and routes to the kernel, even when the program that started it is long gone.
// Only two things outlive a machine: its cgroup directories and its state directory. Down removes both.
//
// The network is a bridge inside the control plane's namespace with a veth to each node. No machine has a default route, and no
// interface joins any machine to the host's network: the one way in is a listener on 127.0.0.1 that the host opens and
// hands to the control plane's init, which copies its bytes to the API server.
package testbed
