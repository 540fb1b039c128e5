// Package environment reads the configuration of this directory's programs from environment variables.
//
// In: a look-up of variables by name, so that tests need no process of their own. Out: typed values, and one error that has all
// mistakes at once, a line each in the order of the reads, of the form
//
//	KEY: "value" is not allowed: it must be ...
//
// Whoever deploys a program learns everything there is to correct from one failed start. An empty variable counts as unset: a
// manifest cannot always leave a variable out.
package environment

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// A Parser reads typed values and collects errors. A method with a fallback returns it for a variable that is unset; the others
// read variables that are required. After a mistake the value is not to be used, but Duration, Integer, Rate and Level return
// the fallback, so that a comparison of two values does not report the same mistake again.
type Parser struct {
	env  func(string) (string, bool)
	errs []error
}

// New makes a parser of the variables that env returns, with whether they are set. os.LookupEnv is one.
func New(env func(string) (string, bool)) *Parser { return &Parser{env: env} }

// Err is all mistakes so far, nil for none.
func (p *Parser) Err() error { return errors.Join(p.errs...) }

// Fail adds a mistake. allowed, a format of fmt.Errorf with its arguments, goes on after "it must be".
func (p *Parser) Fail(key, value, allowed string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s: %q is not allowed: it must be %w", key, value, fmt.Errorf(allowed, args...)))
}

// Lookup returns a variable's value, and whether it is set: an empty one is not.
func (p *Parser) Lookup(key string) (string, bool) {
	value, _ := p.env(key)
	return value, value != ""
}

// Text returns any text.
func (p *Parser) Text(key, fallback string) string {
	if value, set := p.Lookup(key); set {
		return value
	}
	return fallback
}

// Match returns a text that matches pattern, which allowed describes.
func (p *Parser) Match(key, fallback string, pattern *regexp.Regexp, allowed string) string {
	value, set := p.Lookup(key)
	if !set {
		return fallback
	}
	if !pattern.MatchString(value) {
		p.Fail(key, value, "%s", allowed)
	}
	return value
}

// Required returns any text but none. what describes it.
func (p *Parser) Required(key, what string) string {
	value, set := p.Lookup(key)
	if !set {
		p.Fail(key, value, "%s", what)
	}
	return value
}

// Duration returns a duration from low to high, both included.
func (p *Parser) Duration(key string, fallback, low, high time.Duration) time.Duration {
	value, set := p.Lookup(key)
	if !set {
		return fallback
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < low || d > high {
		p.Fail(key, value, "a duration from %s to %s, such as %s", low, high, fallback)
		return fallback
	}
	return d
}

// Integer returns a whole number from low to high, both included.
func (p *Parser) Integer(key string, fallback, low, high int) int {
	value, set := p.Lookup(key)
	if !set {
		return fallback
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		p.Fail(key, value, "a whole number from %d to %d", low, high)
		return fallback
	}
	return n
}

// Rate returns a number from 0 to high, both included, of what is counted, a second.
func (p *Parser) Rate(key string, fallback, high float64, counted string) float64 {
	value, set := p.Lookup(key)
	if !set {
		return fallback
	}
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || !(f >= 0 && f <= high) { // in this way NaN is refused too
		p.Fail(key, value, "a number of %s a second from 0 to %g", counted, high)
		return fallback
	}
	return f
}

// Level returns a level of the log, by default info.
func (p *Parser) Level(key string) slog.Level {
	value, set := p.Lookup(key)
	if !set {
		return slog.LevelInfo
	}
	switch strings.ToLower(value) { // slog's own parser also takes info+2
	case "debug":
		return slog.LevelDebug
	case "info":
		return slog.LevelInfo
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	p.Fail(key, value, "debug, info, warn or error")
	return slog.LevelInfo
}

// Address returns where to listen. Port 0, any that is free, is for tests.
func (p *Parser) Address(key, fallback string) string {
	value, set := p.Lookup(key)
	if !set {
		return fallback
	}
	if _, port, err := net.SplitHostPort(value); err != nil || !validPort(port, 0) {
		p.Fail(key, value, "host:port or :port, such as %s", fallback)
	}
	return value
}

// HostPort returns the host and the port of a server to connect to. It is required; of says what it serves.
func (p *Parser) HostPort(key, of, example string) (host, port string) {
	value, _ := p.Lookup(key)
	host, port, err := net.SplitHostPort(value)
	if err != nil || host == "" || !validPort(port, 1) {
		p.Fail(key, value, "host:port of the %s, such as %s", of, example)
	}
	return host, port
}

func validPort(port string, low uint64) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n >= low
}

// Socket returns the URI of the Workload API's socket, which is required.
func (p *Parser) Socket(key string) string {
	value, _ := p.Lookup(key)
	if path, ok := strings.CutPrefix(value, "unix://"); !ok || !strings.HasPrefix(path, "/") {
		p.Fail(key, value, "the URI of the Workload API's socket, such as unix:///spiffe-workload-api/spire-agent.sock")
	}
	return value
}

// ID returns the SPIFFE ID of a workload, which is required. An ID without a path is a trust domain's, and no workload has it.
func (p *Parser) ID(key, example string) spiffeid.ID {
	value, _ := p.Lookup(key)
	return p.parseID(key, value, example)
}

// IDs returns the SPIFFE IDs of workloads, separated by commas, by default none. Each mistake names the one ID.
func (p *Parser) IDs(key, example string) []spiffeid.ID {
	value, set := p.Lookup(key)
	if !set {
		return nil
	}
	var ids []spiffeid.ID
	for part := range strings.SplitSeq(value, ",") {
		ids = append(ids, p.parseID(key, strings.TrimSpace(part), example))
	}
	return ids
}

func (p *Parser) parseID(key, value, example string) spiffeid.ID {
	id, err := spiffeid.FromString(value)
	if err != nil || id.Path() == "" {
		p.Fail(key, value, "a SPIFFE ID with a path, such as %s", example)
	}
	return id
}

// TrustDomain returns the name of a trust domain, which is required.
func (p *Parser) TrustDomain(key string) spiffeid.TrustDomain {
	value, _ := p.Lookup(key)
	td, err := spiffeid.TrustDomainFromString(value)
	// The library takes a SPIFFE ID for the name of its trust domain.
	if err != nil || td.Name() != value {
		p.Fail(key, value, "the name of a trust domain, such as example.org")
	}
	return td
}
