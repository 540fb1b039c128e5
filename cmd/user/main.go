// Command user is the middle of the chain: it accepts payment, calls order, and keeps order's answers in the cache.
//
// Its configuration is described at chain.Config, its command line at chain.Main.
package main

import (
	"os"

	"ephemos.dev/deploy/cmd/internal/chain"
)

func main() { os.Exit(chain.Main(chain.User, os.Args[1:])) }
