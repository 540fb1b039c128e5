// Command order is the end of the chain: it accepts user and calls nobody.
//
// Its configuration is described at chain.Config, its command line at chain.Main.
package main

import (
	"os"

	"ephemos.dev/deploy/cmd/internal/chain"
)

func main() { os.Exit(chain.Main(chain.Order, os.Args[1:])) }
