// Package network renders the model of the network zones for AWS: the rules of AWS Network Firewall between the first and the second
// tier, security groups and network ACLs, over a plan of addresses. It is pure: it knows neither Pulumi nor AWS' API. The packages below
// it make the resources: vpc the network, inspection the firewall, edge what the internet meets.
//
// In: a valid zones.Model and the address range of each zone, usually of a Plan. Out: plain values and the text of rules (Rules, Groups,
// ACLs). A flow that is added to the model is in all of them, one that is removed in none.
//
// # The firewall
//
// The rule group is for a policy with strict rule order and the default actions of DefaultActions: what no rule passes is dropped and
// logged. Its rules are, in this order, signatures of attacks that can be seen at that layer, denials with names, and what the
// model's flows need. A rule that drops logs an alert as well. The passing rules decide packet by packet, not for the whole
// connection (that is what the keyword flow does to them), so that the signatures see every packet of a connection that is allowed.
//
// What only a firewall with thresholds can see, such as port scans, is in the rules for a sensor (Target): AWS Network Firewall
// refuses those keywords. There, port scans are to be found in the alerts of the denials.
//
// The tests have Suricata 7, which AWS runs, evaluate them on recorded attacks and on recorded honest traffic. AWS' own check of rules
// cannot be had without an account; the rules use no keyword that its developer guide excludes.
//
// Identifiers of rules are in Suricata's range for local use and never change their meaning:
//
//	1000001-1000999  signatures (catalogue.go)
//	1001001-1001099  denials; 1001100-1001999 denials of one further zone, by its position in the model
//	1100000+port     a TCP port's packets to the server, 1200000+port from it
//	1300000+port     a UDP port's packets to the server, 1400000+port from it
//	1500001-1500099  what goes with every connection: ICMP errors
//
// # Security groups
//
// A group stands for a zone, because a zone's pods share the network interfaces of its nodes unless the cluster gives pods groups of
// their own. Two groups are EKS' own: GroupNodes, the nodes' interfaces with whatever shares their network, and GroupControlPlane, the
// API server's. Pods of the cluster itself, such as DNS, are in GroupNodes. A service of AWS in a zone (zones.Managed) has the group
// that its role names, so that a load balancer may not do what the pods beside it may. Rules name a group as the peer, never
// addresses, but for the internet, and for what is behind the firewall (Inspected).
//
// The kubelets' probes are no flows of the model: the security groups of pods have to be enforced in the mode "standard" of the VPC
// CNI, in which a node reaches its own pods. So does what Kubernetes brings from a port of a node to a pod of the same node: the groups
// see the connection to the node's port only. In zones.Standard, AWS' own endpoints are no flows either: whoever makes endpoints there
// adds their rules.
//
// # Network ACLs
//
// An ACL stands for a zone's subnets, and is coarser than groups: it has no memory, so that each answer needs an entry for the whole
// range of ephemeral ports. It holds apart zones that have no flow in common. The range of zones.Platform is for the subnets of the
// control plane's interfaces and of the nodes of the cluster's own pods; nodes are taken to be in every range, their ports
// (zones.NodePorts) in the range of their zone. The control plane is taken to open connections from the ports that Linux does: AWS names
// none.
package network
