// Command deployer-policy prints the IAM policies that somebody who deploys a stack needs, as a JSON list of policy documents, each of
// a size that a managed policy may have. It runs in the root of the repository and asks nobody.
//
//	deployer-policy [-account number] [-partition aws] stack
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"ephemos.dev/deploy/stacks"
	"ephemos.dev/deploy/stacks/deployer"
	"ephemos.dev/deploy/test/graph"
	"ephemos.dev/deploy/test/standin"
)

func main() {
	switch err := run(os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "deployer-policy: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("deployer-policy", flag.ContinueOnError)
	account := flags.String("account", "", "`number` of the AWS account; default: the stack's accountID")
	partition := flags.String("partition", "aws", "AWS partition")
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
	policies, err := deployer.Policies(recorded.Inventory(), deployer.Scope{
		Account:   cmp.Or(*account, config[stacks.Namespace+":accountID"], standin.Account),
		Region:    cmp.Or(config[stacks.Namespace+":region"], standin.Region),
		Partition: *partition,
	})
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(policies)
}
