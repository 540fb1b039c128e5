// Package reach answers whether a connection is possible in a VPC: may A reach B on port P? It reads the resources of a recorded graph
// and nothing of the code that made them, so that a mistake of that code shows.
//
// In: a graph (test/graph), two interfaces by their addresses and security groups, a protocol and a port. Out: yes with the way that
// packets take, or no with the first obstacle and the resource that it is. Differences compares every pair of the zone model's roles.
//
// A packet passes, in this order, the security group that it leaves, the network ACL of that subnet, the subnet's routes, the firewall
// where they lead through one, with the ACL and the routes of the endpoint's subnet and the firewall's rules, the ACL of the subnet that it
// enters and the security group there. Its answer takes the same steps back, but for the groups, which remember the connection; it
// has to come through the same endpoint, or the firewall does not know it. What stays within a subnet passes neither ACL nor routes. A
// rule that names a security group as the other end does not match what comes through a firewall: AWS compares interfaces, and there
// another one is in between (https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html, "Security group referencing").
//
// It knows what this repository uses of AWS, and no more: IPv4, TCP and UDP, one VPC. Whatever else it finds where it could decide
// about a packet, such as a peering or a prefix list, is an error of Read and not a no. Of the firewall's rules it evaluates the headers,
// as for a connection that is what its port is for; what rules find in the contents of packets is for components/network's own tests.
// Whether an interface has a public address is not looked at: a way to and from the internet counts as open without.
package reach
