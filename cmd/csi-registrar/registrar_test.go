package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const patience = 20 * time.Second

// driver is a CSI driver of which only the name is known.
type driver struct {
	csi.UnimplementedIdentityServer
	name string
}

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.name, VendorVersion: "1"}, nil
}

func serveDriver(t *testing.T, socket, name string) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, &driver{name: name})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
}

// A session is a running registrar.
type session struct {
	options options
	socket  string
	stop    context.CancelFunc
	ended   chan error
}

// start runs a registrar in a directory short enough for a socket's path.
func start(t *testing.T) *session {
	t.Helper()
	dir, err := os.MkdirTemp("", "reg")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &session{
		options: options{
			csiAddress:      filepath.Join(dir, "csi.sock"),
			kubeletPath:     "/var/lib/kubelet/plugins/csi.spiffe.io/csi.sock",
			registrationDir: dir,
		},
		socket: filepath.Join(dir, "csi.spiffe.io-reg.sock"),
		ended:  make(chan error, 1),
	}
	return s
}

func (s *session) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	t.Cleanup(cancel)
	go func() { s.ended <- run(ctx, s.options, slog.New(slog.DiscardHandler)) }()
}

func (s *session) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		t.Fatal("the registrar does not end")
		return nil
	}
}

// kubelet connects to the registration socket as the kubelet does.
func (s *session) kubelet(t *testing.T) registration.RegistrationClient {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+s.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return registration.NewRegistrationClient(conn)
}

func (s *session) info(t *testing.T) *registration.PluginInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	info, err := s.kubelet(t).GetInfo(ctx, &registration.InfoRequest{}, grpc.WaitForReady(true))
	require.NoError(t, err)
	return info
}

func TestRegisters(t *testing.T) {
	s := start(t)
	serveDriver(t, s.options.csiAddress, "csi.spiffe.io")
	s.run(t)

	info := s.info(t)
	require.Equal(t, registration.CSIPlugin, info.Type)
	require.Equal(t, "csi.spiffe.io", info.Name)
	require.Equal(t, s.options.kubeletPath, info.Endpoint)
	require.Equal(t, []string{"1.0.0"}, info.SupportedVersions)

	_, err := s.kubelet(t).NotifyRegistrationStatus(t.Context(), &registration.RegistrationStatus{PluginRegistered: true}, grpc.WaitForReady(true))
	require.NoError(t, err)

	s.stop()
	require.NoError(t, s.wait(t))
	require.NoFileExists(t, s.socket)
}

func TestWaitsForDriver(t *testing.T) {
	s := start(t)
	s.run(t)
	// It must neither end nor offer a socket before it knows the driver's name.
	require.Never(t, func() bool {
		_, err := os.Lstat(s.socket)
		return err == nil || len(s.ended) > 0
	}, 300*time.Millisecond, 20*time.Millisecond)

	serveDriver(t, s.options.csiAddress, "csi.spiffe.io")
	require.Equal(t, "csi.spiffe.io", s.info(t).Name)
}

func TestEndsWhileWaiting(t *testing.T) {
	s := start(t)
	s.run(t)
	s.stop()
	require.NoError(t, s.wait(t))
}

func TestReplacesStaleSocket(t *testing.T) {
	s := start(t)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.socket, Net: "unix"})
	require.NoError(t, err)
	stale.SetUnlinkOnClose(false)
	require.NoError(t, stale.Close())
	require.FileExists(t, s.socket)

	serveDriver(t, s.options.csiAddress, "csi.spiffe.io")
	s.run(t)
	require.Equal(t, "csi.spiffe.io", s.info(t).Name)
}

func TestKeepsForeignFile(t *testing.T) {
	s := start(t)
	require.NoError(t, os.WriteFile(s.socket, []byte("x"), 0o600))
	serveDriver(t, s.options.csiAddress, "csi.spiffe.io")
	s.run(t)
	require.ErrorContains(t, s.wait(t), "not a socket")
	require.FileExists(t, s.socket)
}

func TestRefusedByKubelet(t *testing.T) {
	s := start(t)
	serveDriver(t, s.options.csiAddress, "csi.spiffe.io")
	s.run(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The registrar may end before it has answered.
	_, _ = s.kubelet(t).NotifyRegistrationStatus(ctx, &registration.RegistrationStatus{Error: "no such version"}, grpc.WaitForReady(true))
	require.ErrorContains(t, s.wait(t), "no such version")
}

func TestRefusesName(t *testing.T) {
	s := start(t)
	serveDriver(t, s.options.csiAddress, "../../escape")
	s.run(t)
	require.ErrorContains(t, s.wait(t), "../../escape")
}

func TestHealth(t *testing.T) {
	s := start(t)
	handler := healthHandler(s.socket)
	status := func() int {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
		return w.Code
	}
	require.Equal(t, http.StatusInternalServerError, status())
	listener, err := net.Listen("unix", s.socket)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status())
	require.NoError(t, listener.Close())
	require.Equal(t, http.StatusInternalServerError, status())
}

func TestHealthIsServed(t *testing.T) {
	s := start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.options.httpEndpoint = listener.Addr().String()
	require.NoError(t, listener.Close())
	serveDriver(t, s.options.csiAddress, "csi.spiffe.io")
	s.run(t)
	s.info(t)
	require.Eventually(t, func() bool {
		response, err := http.Get("http://" + s.options.httpEndpoint + "/healthz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, patience, 20*time.Millisecond)
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"--csi-address", "/spiffe-csi/csi.sock", "--kubelet-registration-path=/a/b", "--v=2"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, options{csiAddress: "/spiffe-csi/csi.sock", kubeletPath: "/a/b", registrationDir: "/registration", verbosity: 2}, o)

	_, err = parse([]string{"--csi-address", "relative", "extra"}, io.Discard)
	for _, part := range []string{"--csi-address", "--kubelet-registration-path", "extra"} {
		require.ErrorContains(t, err, part)
	}
}
