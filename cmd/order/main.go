// Command order is the end of the chain: it accepts user, calls nobody, and announces each order on the queue.
//
// Its configuration is described at chain.Config, its command line at chain.Main.
package main

import (
	"os"

	"ephemos.dev/deploy/cmd/internal/chain"
)

func main() { os.Exit(chain.Main(chain.Order, os.Args[1:])) }
