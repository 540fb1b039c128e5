// Command graph prints the resources that a stack registers as JSON, without an
// engine and without a cluster. It runs in the root of the repository, reads
// Pulumi.<stack>.yaml, and fills what that leaves to the machine that deploys (a
// kubeconfig, a registry) with placeholders. Secret values are masked.
//
//	graph [-preview] [-config key=value]... stack
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"ephemos.dev/deploy/stacks"
	"ephemos.dev/deploy/test/graph"
)

func main() {
	switch err := run(os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "graph: %v\n", err)
		os.Exit(1)
	}
}

// settings collects repeated -config flags under full keys.
type settings map[string]string

func (s settings) String() string { return "" }

func (s settings) Set(flag string) error {
	key, value, ok := strings.Cut(flag, "=")
	if !ok {
		return errors.New("must be key=value")
	}
	if !strings.Contains(key, ":") {
		key = stacks.Namespace + ":" + key
	}
	s[key] = value
	return nil
}

func run(args []string, out io.Writer) error {
	set := settings{}
	flags := flag.NewFlagSet("graph", flag.ContinueOnError)
	preview := flags.Bool("preview", false, "record a preview, where outputs are unknown")
	flags.Var(set, "config", "configuration `key=value` that replaces the stack's; may be given several times")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("wants the name of one stack, such as local")
	}
	stack := flags.Arg(0)
	config, err := graph.Configuration(".", stack)
	if err != nil {
		return err
	}
	maps.Copy(config, set)
	recorded, err := graph.RecordStack(stack, config, graph.Mode(*preview))
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(recorded)
}
