package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// config is the prober's configuration. Each field names the environment variable it is read from and its default.
type config struct {
	// socket (SPIFFE_ENDPOINT_SOCKET, required) is the Workload API's address, a unix:// URI.
	socket string
	// trustDomain (TRUST_DOMAIN, required) names the servers: they must be spiffe://<trust domain>/spire/server.
	trustDomain spiffeid.TrustDomain
	// server (SERVER_ADDRESS, required) is host:port of the entry to the SPIRE servers, as the agents have it.
	server string
	// createRate (CREATE_RATE, default 5) and mintRate (MINT_RATE, default 5) are attempts a second; 0 turns one off.
	createRate, mintRate float64
	// attemptTimeout (ATTEMPT_TIMEOUT, default 1s) bounds one attempt.
	attemptTimeout time.Duration
	// prefix (ENTRY_PREFIX, default probe) is the first part of the path of every SPIFFE ID the prober makes up, and of the
	// parent of its entries. It must not be used by anything else: /cleanup deletes all entries of that parent.
	prefix string
	// listen (LISTEN_ADDRESS, default :8080) is where the HTTP endpoints are.
	listen string
}

// maxRate bounds the attempts a second: the prober measures, it does not load.
const maxRate = 100

func parseConfig(env func(string) string) (config, error) {
	var errs []error
	fail := func(key, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, env(key), allowed))
	}
	or := func(key, fallback string) string {
		if v := env(key); v != "" {
			return v
		}
		return fallback
	}
	rate := func(key string) float64 {
		f, err := strconv.ParseFloat(or(key, "5"), 64)
		if err != nil || !(f >= 0 && f <= maxRate) {
			fail(key, fmt.Sprintf("a number of attempts a second from 0 to %d", maxRate))
		}
		return f
	}

	c := config{
		socket: env("SPIFFE_ENDPOINT_SOCKET"), server: env("SERVER_ADDRESS"),
		createRate: rate("CREATE_RATE"), mintRate: rate("MINT_RATE"),
		prefix: or("ENTRY_PREFIX", "probe"), listen: or("LISTEN_ADDRESS", ":8080"),
	}
	if !strings.HasPrefix(c.socket, "unix:///") {
		fail("SPIFFE_ENDPOINT_SOCKET", "the URI of the Workload API's socket, such as unix:///spiffe-workload-api/spire-agent.sock")
	}
	var err error
	if c.trustDomain, err = spiffeid.TrustDomainFromString(env("TRUST_DOMAIN")); err != nil {
		fail("TRUST_DOMAIN", "a trust domain name, such as example.org")
	}
	if host, port, err := net.SplitHostPort(c.server); err != nil || host == "" || port == "" {
		fail("SERVER_ADDRESS", "host:port, such as spire-server-entry.spire-server.svc.cluster.local:8081")
	}
	if _, _, err := net.SplitHostPort(c.listen); err != nil {
		fail("LISTEN_ADDRESS", "host:port or :port, such as :8080")
	}
	if err := spiffeid.ValidatePathSegment(c.prefix); err != nil {
		fail("ENTRY_PREFIX", "one segment of a SPIFFE ID's path: letters, digits, dots, dashes and underscores")
	}
	c.attemptTimeout, err = time.ParseDuration(or("ATTEMPT_TIMEOUT", "1s"))
	if err != nil || c.attemptTimeout < time.Millisecond || c.attemptTimeout > time.Minute {
		fail("ATTEMPT_TIMEOUT", "a duration from 1ms to 1m, such as 1s")
	}
	return c, errors.Join(errs...)
}
