// Command rootca makes the root CA of a trust domain and stores it in a
// Kubernetes Secret, once. It runs as a Job in the cluster, so that the private
// key never leaves it.
//
// When the Secret is there already, whoever made it, rootca leaves it alone and
// succeeds. It logs what it made, never the key.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	switch err := run(ctx, os.Args[1:], os.Stderr, log, inCluster); {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		log.Error("Root CA not provided", "error", err.Error())
		os.Exit(1)
	}
}

func inCluster() (kubernetes.Interface, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	config.Timeout = 10 * time.Second
	return kubernetes.NewForConfig(config)
}

func run(ctx context.Context, args []string, usage io.Writer, log *slog.Logger, connect func() (kubernetes.Interface, error)) error {
	o, err := parse(args, usage)
	if err != nil {
		return err
	}
	client, err := connect()
	if err != nil {
		return fmt.Errorf("Kubernetes API: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return provide(ctx, client.CoreV1().Secrets(o.namespace), o, time.Now(), log)
}

// options are the command line.
type options struct {
	namespace, secret        string
	commonName, organization string
	lifetime                 time.Duration
}

func parse(args []string, usage io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("rootca", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.StringVar(&o.namespace, "namespace", "", "namespace of the Secret (required)")
	flags.StringVar(&o.secret, "secret", "spire-root-ca", "name of the Secret")
	flags.StringVar(&o.commonName, "common-name", "", "common name of the certificate (required)")
	flags.StringVar(&o.organization, "organization", "", "organization of the certificate (required)")
	flags.DurationVar(&o.lifetime, "lifetime", 10*365*24*time.Hour, "lifetime of the certificate, at least 24h")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	var problems []error
	if flags.NArg() > 0 {
		problems = append(problems, fmt.Errorf("unexpected arguments %q", flags.Args()))
	}
	for _, required := range []struct{ name, value string }{
		{"namespace", o.namespace}, {"secret", o.secret}, {"common-name", o.commonName}, {"organization", o.organization},
	} {
		if required.value == "" {
			problems = append(problems, fmt.Errorf("-%s must be set", required.name))
		}
	}
	if o.lifetime < 24*time.Hour {
		problems = append(problems, fmt.Errorf("-lifetime %s is not allowed: it must be at least 24h", o.lifetime))
	}
	return o, errors.Join(problems...)
}
