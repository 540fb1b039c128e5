// Command probe measures, from inside the cluster, how long SPIRE could not do its work while something failed.
//
// It holds an admin identity from the Workload API, reaches the servers as agents do, and makes two kinds of attempts at
// a steady rate: creating a registration entry (a write that the database must acknowledge) and minting an X.509-SVID
// (issuance). It records every attempt; HTTP endpoints, described at handler, show the record, the longest stretches
// without success, and acknowledged entries that are missing. Its configuration is described at config.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func main() { os.Exit(run()) }

func run() int {
	started := time.Now()
	c, err := parseConfig(os.Getenv)
	if err != nil {
		fmt.Fprintf(os.Stderr, "probe: the configuration is wrong:\n%v\n", err)
		return 2
	}
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	p := &prober{timeout: c.attemptTimeout}
	server := &http.Server{Addr: c.listen, Handler: p.handler(started), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 2)
	go func() { failed <- server.ListenAndServe() }()
	defer server.Close()
	go func() {
		if err := probe(ctx, c, p, log); err != nil {
			failed <- err
		}
	}()

	select {
	case <-ctx.Done():
		return 0
	case err := <-failed:
		log.Error("failed", "error", err)
		return 1
	}
}

// probe obtains an identity, connects and makes attempts until ctx ends.
func probe(ctx context.Context, c config, p *prober, log *slog.Logger) error {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(c.socket)))
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("no identity can be obtained: %w", err)
	}
	defer source.Close()
	s, err := dial(c, source)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	p.connect(s)
	log.Info("probing", "server", c.server)
	return p.run(ctx, c.createRate, c.mintRate)
}
