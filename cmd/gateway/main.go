package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"ephemos.dev/deploy/cmd/internal/identity"
)

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit status: 0 after a regular stop, 1 after a failure, 2 when the configuration or the command line is
// wrong.
func run(args []string) int {
	if len(args) > 0 {
		fmt.Fprintf(os.Stderr, "gateway: unknown argument %q: it takes none\n", args[0])
		return 2
	}
	config, err := ParseConfig(os.LookupEnv)
	if err != nil {
		fmt.Fprintf(os.Stderr, "gateway: the configuration is wrong:\n%v\n", err)
		return 2
	}
	log := slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: config.LogLevel})).With("service", config.Name)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serve(ctx, config, log); err != nil {
		log.Error("failed", "error", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, config Config, log *slog.Logger) error {
	edge, err := net.Listen("tcp", config.EdgeAddress)
	if err != nil {
		return fmt.Errorf("EDGE_ADDRESS: %w", err)
	}
	plain, err := net.Listen("tcp", config.PlainAddress)
	if err != nil {
		return fmt.Errorf("PLAIN_ADDRESS: %w", err)
	}
	// Go's own resolver: it asks the name server at every look-up, and needs no C library.
	gateway, err := New(config, &net.Resolver{PreferGo: true}, log)
	if err != nil {
		return err
	}

	// The identity is held until the last request has been answered, not only until the signal.
	lasting, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	go func() {
		source, err := identity.Open(lasting, config.Socket, log)
		if err != nil {
			if lasting.Err() == nil {
				log.Error("no identity can be obtained", "error", err)
			}
			return
		}
		defer source.Close()
		gateway.Holder().Follow(lasting, source)
	}()
	return gateway.Run(ctx, edge, plain)
}
