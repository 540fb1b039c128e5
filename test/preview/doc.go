// Package preview previews a stack with the real Pulumi engine, without credentials, without a cluster and without a network.
//
// The engine, and the Kubernetes provider where it is there, are those that the toolchain built. In the place of the AWS provider
// stands the stand-in of this package: it answers from test/standin, makes nothing, asks nobody, and refuses everything but a
// preview. What AWS computes is unknown, as in a real preview. It does not know AWS' rules: whether AWS would accept the inputs is
// checked elsewhere, as far as it can be without AWS.
//
// In flows the name of a stack or any program; out come the resources with what the engine would do to each, their number by
// component, and how long it took.
package preview
