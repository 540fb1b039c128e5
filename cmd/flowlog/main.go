// Command flowlog is the intrusion detection of a node: it reports every connection that the layer which enforces the
// NetworkPolicies has refused, and the patterns that refusals form.
//
// In: copies of refused packets, from a group of the kernel's netfilter log (NFLOG) in the network namespace it runs in; pods and
// nodes from the Kubernetes API, to know whose addresses these are; the model of the network zones as a file. Out: one JSON line an
// event on stdout, in the schema of the security architecture (Event), the program's own log on stderr, and over HTTP probes and
// Prometheus metrics.
//
// # What it reads
//
// kube-router, which enforces the policies on the test bed, has two kinds of NFLOG rules in group 100 (pkg/controllers/netpol). The one
// at the end of a pod's chain is passed by packets that no policy has accepted, just before they are rejected: these are reported.
// The ones at the end of each policy's chain, with the prefix "DROP by policy", are also passed by packets that the next policy
// accepts; they say nothing and are left out (Config.IgnorePrefix). Each rule lets through ten packets at once and then ten a minute,
// for each pod and address family; what is beyond that is refused all the same, and nobody learns of it.
//
// Other enforcing layers log elsewhere, and this program does not read them: the network policy agent of the AWS VPC CNI writes
// files and CloudWatch streams, Cilium has Hubble, Calico flow logs of its own.
//
// # What it costs
//
// Memory and processor time do not depend on the number of packets: packets wait in a queue of fixed length, connections and sources
// are kept in tables of fixed size, and lines are written at a bounded rate. What finds no room is dropped and counted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func main() { os.Exit(start(os.Args[1:])) }

// start returns the exit status: 0 after a regular stop, 1 after a failure, 2 when the configuration is wrong.
func start(args []string) int {
	if len(args) > 0 {
		fmt.Fprintf(os.Stderr, "flowlog: unknown argument %q: it takes none\n", args[0])
		return 2
	}
	config, err := ParseConfig(os.LookupEnv, os.ReadFile)
	if err != nil {
		fmt.Fprintf(os.Stderr, "flowlog: the configuration is wrong:\n%v\n", err)
		return 2
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: config.LogLevel})).With("service", "flowlog")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serve(ctx, config, os.Stdout, log); err != nil {
		log.Error("failed", "error", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, config Config, events io.Writer, log *slog.Logger) error {
	access, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("Kubernetes API: %w", err)
	}
	// Pods of the whole cluster are listed on every node: this form is the smallest.
	access.ContentType, access.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return fmt.Errorf("Kubernetes API: %w", err)
	}
	listener, err := net.Listen("tcp", config.Address)
	if err != nil {
		return fmt.Errorf("LISTEN_ADDRESS: %w", err)
	}
	return run(ctx, config, newDirectory(client, config.Model), kernelLog{Group: config.Group}, listener, events, log)
}

// patience bounds the wait for HTTP requests that are being answered when the program stops.
const patience = 2 * time.Second

// run reports until ctx ends or something fails that no new attempt can mend.
func run(ctx context.Context, config Config, who *directory, from source, listener net.Listener, events io.Writer, log *slog.Logger) error {
	counts := &counters{}
	d := newDetector(config, who, counts, events, log)
	queue := make(chan packet, queueLength)
	server := &http.Server{Handler: plain(d, who, counts), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return who.run(ctx) })
	group.Go(func() error { capture(ctx, from, config.IgnorePrefix, queue, counts, log); return nil })
	group.Go(func() error { return d.run(ctx, queue) })
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("LISTEN_ADDRESS: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return server.Shutdown(ending)
	})
	return group.Wait()
}
