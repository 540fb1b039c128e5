// Command cost estimates what a stack costs a month on AWS, from a dated table of list prices. It runs in the root of the repository
// and asks nobody.
//
//	cost [-json] stack
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"ephemos.dev/deploy/stacks"
	"ephemos.dev/deploy/stacks/cost"
	"ephemos.dev/deploy/test/graph"
)

func main() {
	switch err := run(os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "cost: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("cost", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print the estimate as JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("wants the name of one stack, such as prod")
	}
	config, err := graph.Configuration(".", flags.Arg(0))
	if err != nil {
		return err
	}
	if platform := config[stacks.Namespace+":platform"]; platform != stacks.PlatformAWS {
		return fmt.Errorf("the stack %s is not on AWS, and what your own cluster costs is not known here; try prod or staging", flags.Arg(0))
	}
	recorded, err := graph.RecordStack(flags.Arg(0), config, graph.Update)
	if err != nil {
		return err
	}
	estimate := cost.Of(recorded.Inventory(), config[stacks.Namespace+":region"])
	if *asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(estimate)
	}
	return estimate.Write(out)
}
