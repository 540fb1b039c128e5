// Package config is the configuration of SPIRE as typed Go values.
//
// A Server, an Agent and a ControllerManager each hold the settings of one
// program. The zero value of every field stands for a default that is safe in
// production, so a caller sets only what differs. Render fills the defaults,
// checks everything, and returns the text that the program reads: HCL for the
// server and the agent, YAML for the controller manager. The text is a pure
// function of the value: equal values give equal bytes, so that a change of
// text is a change of configuration and nothing else.
//
// Validate refuses what the program would refuse when it starts and what is
// unsafe although the program accepts it. It reports all findings at once,
// each with the key, the value and what is allowed. Keys are named as they
// stand in the rendered file.
//
// The values follow SPIRE 1.15 and spire-controller-manager 0.7. Secrets do
// not occur in these files: keys and certificates are named by path.
package config
