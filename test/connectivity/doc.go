// Package connectivity proves that a cluster lets through what the model of zones allows, and nothing else.
//
// In: the model (components/zones), and a Topology: the pods, nodes and other places of a running cluster with the ports that
// they listen on. Expect says what must become of a connection from each place to each port of each other place. Prober makes
// all of them for real, from inside the network namespaces of the places they come from. An Observation is what it saw; Check
// compares it with a model and names the flow that each Difference concerns.
//
// The rules that Expect knows are those of NetworkPolicies as components/segmentation renders them, and of Kubernetes:
//
//   - A pod of the deployment's namespaces opens what a flow allows, and is reached by what a flow allows; both are needed
//     when both ends are such pods.
//   - A node always reaches the pods that it runs (the kubelet's probes need it). From other nodes and from the API server
//     come the flows of the roles placed there. Addresses outside the pods' ranges, theirs included, are "elsewhere" to a
//     flow, as a rule by address cannot tell them from the internet.
//   - Pods of other namespaces are limited by the other end only, and nodes and the API server let everybody in.
//   - Where nothing stands in the way, a port is open if somebody listens and closed otherwise. An answer of the other host
//     that the port is closed therefore proves, where a connection must be denied, that it was not.
package connectivity
