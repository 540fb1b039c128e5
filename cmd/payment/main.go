// Command payment is the head of the chain: it calls user at a steady rate and on demand (/call), and accepts no caller unless one is
// configured.
//
// Its configuration is described at chain.Config, its command line at chain.Main.
package main

import (
	"os"

	"ephemos.dev/deploy/cmd/internal/chain"
)

func main() { os.Exit(chain.Main(chain.Payment, os.Args[1:])) }
