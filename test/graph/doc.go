// Package graph records the resources that a Pulumi program registers, without
// an engine, a provider or a cluster, and states what has to hold for every
// program of this repository.
//
// In flows a program, or the name and configuration of a stack; out comes a
// Graph: every resource with its inputs, parent, provider, dependencies and
// protection, in a stable order. A Check looks at one graph and returns a
// Finding for each thing that is wrong.
//
// A recording is strict: a resource of a type that neither Kubernetes nor a
// CustomResourceDefinition of the same graph knows fails it, as does an invoke.
package graph
