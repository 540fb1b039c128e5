package chain

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

// Main runs the program of the service at place and returns its exit status: 0 after a regular stop, 1 after a failure,
// 2 when the configuration or the command line is wrong.
//
// Without arguments the program serves until SIGTERM or SIGINT. `dial` is described at Dial.
func Main(place Place, args []string) int {
	if len(args) > 0 {
		if args[0] == "dial" {
			return Dial(args[1:], os.LookupEnv, os.Stdout, os.Stderr)
		}
		fmt.Fprintf(os.Stderr, "%s: unknown argument %q: allowed is nothing, or dial\n", place.Name, args[0])
		return 2
	}
	config, err := ParseConfig(place, os.LookupEnv)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: the configuration is wrong:\n%v\n", place.Name, err)
		return 2
	}
	log := slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: config.LogLevel})).
		With("service", place.Name)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serve(ctx, place, config, log); err != nil {
		log.Error("failed", "error", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, place Place, config Config, log *slog.Logger) error {
	api, err := net.Listen("tcp", config.MTLSAddress)
	if err != nil {
		return fmt.Errorf("MTLS_ADDRESS: %w", err)
	}
	plain, err := net.Listen("tcp", config.PlainAddress)
	if err != nil {
		return fmt.Errorf("PLAIN_ADDRESS: %w", err)
	}
	// Go's own resolver: it asks the name server at every look-up, and needs no C library.
	service := New(place, config, &net.Resolver{PreferGo: true}, log)

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
		service.Holder().Follow(lasting, source)
	}()
	return service.Run(ctx, api, plain)
}
