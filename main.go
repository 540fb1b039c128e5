// Command deploy is the Pulumi program of this repository: it deploys the stack
// that the Pulumi CLI names, as Pulumi.<stack>.yaml configures it.
package main

import (
	"os"

	"ephemos.dev/deploy/stacks"
	"ephemos.dev/deploy/stacks/aws"
)

func main() {
	os.Exit(stacks.Run(os.Stderr, aws.Platform))
}
