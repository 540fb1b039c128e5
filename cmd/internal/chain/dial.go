package chain

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ephemos.dev/deploy/cmd/internal/calls"
	"ephemos.dev/deploy/cmd/internal/environment"
	"ephemos.dev/deploy/cmd/internal/identity"
	"ephemos.dev/deploy/cmd/internal/mtls"
)

// Outcome is what Dial prints.
type Outcome struct {
	// Result is ok, denied (one side refused the other's SPIFFE ID), failed (no answer) or no_identity (the Workload API
	// gave none in time).
	Result string `json:"result"`
	// SPIFFEID is the caller's own identity.
	SPIFFEID string `json:"spiffe_id,omitempty"`
	// Chain is the answer.
	Chain []Link `json:"chain,omitempty"`
	Error string `json:"error,omitempty"`
}

// Dial makes one call to any service with the identity of the pod it runs in, and prints the Outcome as JSON. It is for
// tests and for people who ask "may this pod call that service?": images have no shell and no other client.
//
//	payment dial -address order.services:8443 -server-id spiffe://example.org/workload/order-service
//
// Exit status: 0 for ok, 3 for denied, 4 for no_identity, 1 for failed, 2 for a wrong command line.
func Dial(args []string, env func(string) (string, bool), stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("dial", flag.ContinueOnError)
	flags.SetOutput(stderr)
	address := flags.String("address", "", "host:port of the service to call (required)")
	serverID := flags.String("server-id", "", "SPIFFE ID the service must have (required)")
	socket := flags.String("socket", "", "URI of the Workload API's socket (default: SPIFFE_ENDPOINT_SOCKET)")
	timeout := flags.Duration("timeout", 5*time.Second, "bound of the wait for an identity, and of the call")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *socket == "" {
		*socket, _ = env("SPIFFE_ENDPOINT_SOCKET")
	}
	p := environment.New(func(key string) (string, bool) {
		value := map[string]string{"-address": *address, "-server-id": *serverID, "-socket": *socket}[key]
		return value, value != ""
	})
	host, port := p.HostPort("-address", "service", "order.services:8443")
	id := p.ID("-server-id", exampleID)
	p.Socket("-socket")
	if flags.NArg() > 0 {
		p.Fail("arguments", flags.Arg(0), "flags only")
	}
	if err := p.Err(); err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}

	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	outcome := dial(host, port, id, *socket, *timeout, log)
	_ = json.NewEncoder(stdout).Encode(outcome)
	switch outcome.Result {
	case "ok":
		return 0
	case "denied":
		return 3
	case "no_identity":
		return 4
	}
	return 1
}

func dial(host, port string, id spiffeid.ID, socket string, timeout time.Duration, log *slog.Logger) Outcome {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	waiting, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	source, err := identity.Open(waiting, socket, log)
	if err != nil {
		return Outcome{Result: "no_identity", Error: err.Error()}
	}
	defer source.Close()

	caller := &Service{holder: identity.NewHolder(log), log: log}
	caller.client = newClient(caller.holder, Config{
		NextHost: host, NextPort: port, NextID: id,
		AttemptTimeout: min(time.Second, timeout), CallTimeout: timeout, Refresh: time.Second,
	}, lookup(host), log)
	go caller.holder.Follow(ctx, source)
	<-caller.holder.Held()
	go caller.client.Run(ctx)

	chain, err := caller.call(ctx)
	outcome := Outcome{SPIFFEID: caller.holder.Status().SPIFFEID, Chain: chain}
	if err != nil {
		outcome.Error = err.Error()
	}
	switch resultOf(err) {
	case calls.OK:
		outcome.Result = "ok"
	case calls.Denied:
		outcome.Result = "denied"
	default:
		outcome.Result = "failed"
	}
	return outcome
}

// lookup resolves names, and takes addresses as they are.
func lookup(host string) mtls.Resolver {
	if address, err := netip.ParseAddr(host); err == nil {
		return fixed{address}
	}
	return &net.Resolver{PreferGo: true}
}

type fixed []netip.Addr

func (f fixed) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) { return f, nil }
