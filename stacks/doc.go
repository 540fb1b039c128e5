// Package stacks composes the components of this repository into deployable
// stacks.
//
// In flows the configuration of a stack (Pulumi.<stack>.yaml, namespace
// "ephemos"). Parse checks all of it at once, before any resource is
// registered, and fills what is not set from one row of the table of profiles.
// Program turns the result into resources: it picks the composition of the
// platform and hands each component its arguments. Out come the resources and
// the stack's outputs.
//
// Program is an ordinary Pulumi program: the root main.go runs it under the
// Pulumi CLI, and the Automation API runs it inline.
package stacks
