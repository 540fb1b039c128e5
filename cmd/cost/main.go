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
	"ephemos.dev/deploy/test/standin"
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
	recorded, err := graph.RecordStack(flags.Arg(0), config, graph.Update)
	if err != nil {
		return err
	}
	region := config[stacks.Namespace+":region"]
	if region == "" {
		region = standin.Region
	}
	estimate := cost.Of(recorded.Inventory(), region)
	if *asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(estimate)
	}
	return estimate.Write(out)
}
