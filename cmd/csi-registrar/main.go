// Command csi-registrar registers a CSI driver with the kubelet of its node. It
// runs beside the driver in one pod and does what Kubernetes'
// node-driver-registrar does, with the same flags, for systems on which that
// program is not to be had.
//
// It asks the driver for its name, waiting until the driver's socket is there,
// and then offers a socket in the kubelet's directory of plugin sockets. The
// kubelet finds it, asks what it stands for, and from then on talks to the
// driver itself. The registrar keeps the socket until it is told to end: when
// it goes, the kubelet forgets the driver. When the kubelet refuses the
// registration, the registrar ends with an error, and the next one tries again.
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
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	level := slog.LevelInfo
	if o.verbosity >= 4 {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: level}))
	if err == nil {
		// The kubelet runs as root; nobody else has to reach the socket.
		syscall.Umask(0o077)
		err = run(ctx, o, log)
	}
	if err != nil {
		log.Error("CSI registrar failed", "error", err.Error())
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	// csiAddress is the driver's socket as this program sees it.
	csiAddress string
	// kubeletPath is the driver's socket as the kubelet sees it.
	kubeletPath string
	// registrationDir is the directory of plugin sockets as this program sees it.
	registrationDir string
	// httpEndpoint is the address of /healthz; empty for none.
	httpEndpoint string
	verbosity    int
}

func parse(args []string, usage io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("csi-registrar", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.StringVar(&o.csiAddress, "csi-address", "/run/csi/socket", "path of the driver's socket in this container")
	flags.StringVar(&o.kubeletPath, "kubelet-registration-path", "", "path of the driver's socket on the node (required)")
	flags.StringVar(&o.registrationDir, "plugin-registration-path", "/registration", "directory of the kubelet's plugin sockets in this container")
	flags.StringVar(&o.httpEndpoint, "http-endpoint", "", "address, such as :9809, that serves /healthz; empty for none")
	flags.IntVar(&o.verbosity, "v", 0, "verbosity; debug messages from 4 on")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	var problems []error
	if flags.NArg() > 0 {
		problems = append(problems, fmt.Errorf("unexpected arguments %q", flags.Args()))
	}
	for _, p := range []struct{ name, value string }{
		{"csi-address", o.csiAddress}, {"kubelet-registration-path", o.kubeletPath}, {"plugin-registration-path", o.registrationDir},
	} {
		if !filepath.IsAbs(p.value) {
			problems = append(problems, fmt.Errorf("--%s %q is not allowed: it must be an absolute path", p.name, p.value))
		}
	}
	return o, errors.Join(problems...)
}
