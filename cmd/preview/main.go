// Command preview shows what deploying a stack for the first time would make, with the real Pulumi engine, without credentials, a
// cluster or a network. It runs in the root of the repository and reads Pulumi.<stack>.yaml; what that leaves to the machine that
// deploys is filled with placeholders. In the place of the AWS provider stands a stand-in; see test/preview.
//
//	preview [-config key=value]... [-policy-pack path]... [-kubernetes auto|real|stand-in] [-tree=false] [-rules=false] [-log file] stack
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"ephemos.dev/deploy/stacks"
	"ephemos.dev/deploy/test/preview"
	"ephemos.dev/deploy/toolchain"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "preview: %v\n", err)
		os.Exit(1)
	}
}

// list collects a repeated flag.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// settings turns key=value into full keys and values.
func settings(flags list) (map[string]string, error) {
	set := map[string]string{}
	for _, f := range flags {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("-config %q: must be key=value", f)
		}
		if !strings.Contains(key, ":") {
			key = stacks.Namespace + ":" + key
		}
		set[key] = value
	}
	return set, nil
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	var config, packs, packConfigs list
	flags := flag.NewFlagSet("preview", flag.ContinueOnError)
	flags.Var(&config, "config", "configuration `key=value` that replaces the stack's; may be given several times")
	flags.Var(&packs, "policy-pack", "`path` of a policy pack to check every resource with; may be given several times")
	flags.Var(&packConfigs, "policy-pack-config", "`path` of the configuration of the policy pack at the same place in the list")
	kubernetes := flags.String("kubernetes", "auto", "Kubernetes provider: real (built if need be), stand-in, or auto: the real one if it was built already")
	tree := flags.Bool("tree", true, "print every resource, not only their numbers")
	rules := flags.Bool("rules", true, "check the inputs of AWS resources by what is known of AWS' rules (test/awsrules)")
	logFile := flags.String("log", "", "write everything that the engine prints to this `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("wants the name of one stack, such as local")
	}
	set, err := settings(config)
	if err != nil {
		return err
	}
	options, err := preview.StackOptions(".", flags.Arg(0), set)
	if err != nil {
		return err
	}
	if *rules {
		options.Check = preview.AWSRules
	}
	options.PolicyPacks, options.PolicyPackConfigs = packs, packConfigs
	if options.Programs, err = preview.FindPrograms(ctx, toolchain.Options{Progress: progress}, *kubernetes); err != nil {
		return err
	}
	if *logFile != "" {
		log, err := os.Create(*logFile)
		if err != nil {
			return err
		}
		defer func() { _ = log.Close() }()
		options.Log = log
	}
	fmt.Fprintln(out, preview.Notice(options.Programs))
	result, err := preview.Run(ctx, options)
	if result != nil {
		if *tree && len(result.Resources) > 0 {
			result.WriteTree(out)
			fmt.Fprintln(out)
		}
		if len(result.Resources) > 0 {
			result.WriteCounts(out)
		}
		for _, w := range result.Warnings {
			fmt.Fprintf(out, "warning: %s\n", w)
		}
		for _, e := range result.Errors {
			fmt.Fprintf(out, "error: %s\n", e)
		}
	}
	return err
}
