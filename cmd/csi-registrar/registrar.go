package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	// csiVersion is the version of the CSI protocol that the kubelet and the
	// driver speak.
	csiVersion = "1.0.0"
	// askTimeout bounds one question to the driver.
	askTimeout = 5 * time.Second
	// firstRetry and lastRetry are the bounds of the time between two questions;
	// it doubles in between.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// run registers the driver and returns when ctx ends, with nil, or when it
// cannot go on.
func run(ctx context.Context, o options, log *slog.Logger) error {
	name, err := driverName(ctx, o.csiAddress, log)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	socket := filepath.Join(o.registrationDir, name+"-reg.sock")
	listener, err := listen(socket)
	if err != nil {
		return err
	}
	defer removeSocket(socket)

	failed := make(chan error, 3)
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, &registrar{name: name, endpoint: o.kubeletPath, refused: failed, log: log})
	go func() { failed <- server.Serve(listener) }()
	defer server.Stop()

	if o.httpEndpoint != "" {
		health, err := serveHealth(o.httpEndpoint, socket, failed)
		if err != nil {
			return err
		}
		defer health.Close()
	}
	log.Info("Waiting for the kubelet", "driver", name, "socket", socket, "endpoint", o.kubeletPath)

	select {
	case <-ctx.Done():
		// The kubelet's calls are short, and it notices that the socket is gone.
		server.GracefulStop()
		log.Info("Ending")
		return nil
	case err := <-failed:
		return err
	}
}

// A driver's name becomes part of a file name.
var validName = regexp.MustCompile(`^[a-z0-9A-Z]([-.a-z0-9A-Z]{0,61}[a-z0-9A-Z])?$`)

// driverName asks the driver for its name, and again until it answers or ctx
// ends.
func driverName(ctx context.Context, address string, log *slog.Logger) (string, error) {
	conn, err := grpc.NewClient("unix:"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// gRPC would otherwise wait up to two minutes to look at the socket again.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay: firstRetry, Multiplier: 2, MaxDelay: lastRetry,
		}, MinConnectTimeout: askTimeout}))
	if err != nil {
		return "", fmt.Errorf("driver at %s: %w", address, err)
	}
	defer conn.Close()

	client := csi.NewIdentityClient(conn)
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		info, err := ask(ctx, client)
		switch {
		case err == nil && !validName.MatchString(info.GetName()):
			return "", fmt.Errorf("driver at %s: the name %q is not allowed: it must be a domain name of at most 63 characters", address, info.GetName())
		case err == nil:
			log.Info("Found driver", "driver", info.GetName(), "version", info.GetVendorVersion())
			return info.GetName(), nil
		}
		log.Debug("Driver does not answer yet", "address", address, "error", err.Error())
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("driver at %s: %w", address, errors.Join(ctx.Err(), err))
		case <-time.After(wait):
		}
	}
}

func ask(ctx context.Context, client csi.IdentityClient) (*csi.GetPluginInfoResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return client.GetPluginInfo(ctx, &csi.GetPluginInfoRequest{})
}

// listen listens on the socket, after removing what an earlier registrar may
// have left. It removes nothing but a socket.
func listen(socket string) (net.Listener, error) {
	switch info, err := os.Lstat(socket); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("registration socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("registration socket: %s exists and is not a socket", socket)
	default:
		if err := os.Remove(socket); err != nil {
			return nil, fmt.Errorf("registration socket: %w", err)
		}
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("registration socket: %w", err)
	}
	return listener, nil
}

// removeSocket removes the socket, if closing the listener has not done so.
func removeSocket(socket string) {
	_ = os.Remove(socket)
}

// serveHealth serves /healthz: 200 while the socket is there by which the
// kubelet finds the driver.
func serveHealth(address, socket string, failed chan<- error) (*http.Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("health endpoint: %w", err)
	}
	server := &http.Server{Handler: healthHandler(socket), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("health endpoint: %w", err)
		}
	}()
	return server, nil
}

func healthHandler(socket string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if info, err := os.Lstat(socket); err != nil || info.Mode().Type() != fs.ModeSocket {
			http.Error(w, "the registration socket is gone", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// A registrar answers the kubelet.
type registrar struct {
	registration.UnimplementedRegistrationServer

	name, endpoint string
	// refused gets an error when the kubelet does not take the driver.
	refused chan<- error
	log     *slog.Logger
}

// GetInfo says what the socket stands for.
func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	r.log.Debug("The kubelet asks")
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              r.name,
		Endpoint:          r.endpoint,
		SupportedVersions: []string{csiVersion},
	}, nil
}

// NotifyRegistrationStatus takes the kubelet's verdict.
func (r *registrar) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if status.GetPluginRegistered() {
		r.log.Info("Registered", "driver", r.name)
		return &registration.RegistrationStatusResponse{}, nil
	}
	// The kubelet may repeat itself before the program has ended.
	select {
	case r.refused <- fmt.Errorf("the kubelet does not register %s: %s", r.name, status.GetError()):
	default:
	}
	return &registration.RegistrationStatusResponse{}, nil
}
