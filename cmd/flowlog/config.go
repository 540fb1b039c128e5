package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ephemos.dev/deploy/components/zones"
)

// Config is the program's configuration. Each field names the environment variable it is read from and its default.
type Config struct {
	// Node (NODE_NAME, required) is the name of the node whose packets are read.
	Node string
	// TrustDomain (TRUST_DOMAIN, required) is part of every event, and of the SPIFFE IDs of roles.
	TrustDomain spiffeid.TrustDomain
	// Model (MODEL_FILE, default /etc/flowlog/model.json) is the model of the network zones: a zones.Model as JSON, which has to
	// be valid.
	Model zones.Model
	// Address (LISTEN_ADDRESS, default :9990) is where probes and metrics are served, in plaintext.
	Address string
	// Group (NFLOG_GROUP, default 100, which is kube-router's) is the group of the kernel's netfilter log that is read. One
	// program can read a group of a network namespace.
	Group uint16
	// IgnorePrefix (IGNORE_PREFIX, default "DROP by policy") is the beginning of the log prefix of packets that are left out:
	// the package's comment says why.
	IgnorePrefix string
	// Window (WINDOW, default 1m, 1s to 1h) is the time in which repetitions are counted instead of reported, and in which the
	// targets of a port scan are counted together.
	Window time.Duration
	// ScanThreshold (SCAN_THRESHOLD, default 8, 2 to 100) is the number of distinct targets of one source within the window
	// that makes a port scan; a target is an address with a protocol and port. kube-router logs ten packets of a pod at once
	// and then ten a minute: a scan within one minute shows up to twenty targets.
	ScanThreshold int
	// MaxConnections (MAX_CONNECTIONS, default 4096, 1 to 1000000) and MaxSources (MAX_SOURCES, default 1024, 1 to 100000) bound
	// what is remembered; a connection takes about 400 bytes, a source up to 30 kB.
	MaxConnections, MaxSources int
	// MaxEvents (MAX_EVENTS, default 50, 1 to 10000) is the number of lines a second, on average, for connections, and the same
	// once more for patterns. Ten times as many may come at once.
	MaxEvents int
	// LogLevel (LOG_LEVEL, default info) is debug, info, warn or error.
	LogLevel slog.Level
}

const defaultModelFile = "/etc/flowlog/model.json"

// ParseConfig reads the configuration. env returns the value of a variable and whether it is set, read the content of a file. All
// errors are returned at once, each naming the variable, its value and what is allowed.
func ParseConfig(env func(string) (string, bool), read func(string) ([]byte, error)) (Config, error) {
	p := parser{env: env}
	c := Config{
		Node:           p.required("NODE_NAME", "the name of the node"),
		TrustDomain:    p.trustDomain("TRUST_DOMAIN"),
		Model:          p.model("MODEL_FILE", read),
		Address:        p.address("LISTEN_ADDRESS", ":9990"),
		Group:          uint16(p.integer("NFLOG_GROUP", 100, 0, 65535)),
		IgnorePrefix:   p.text("IGNORE_PREFIX", "DROP by policy"),
		Window:         p.duration("WINDOW", time.Minute, time.Second, time.Hour),
		ScanThreshold:  p.integer("SCAN_THRESHOLD", 8, 2, 100),
		MaxConnections: p.integer("MAX_CONNECTIONS", 4096, 1, 1_000_000),
		MaxSources:     p.integer("MAX_SOURCES", 1024, 1, 100_000),
		MaxEvents:      p.integer("MAX_EVENTS", 50, 1, 10_000),
		LogLevel:       p.level("LOG_LEVEL"),
	}
	return c, errors.Join(p.errs...)
}

// parser reads typed values and collects errors.
type parser struct {
	env  func(string) (string, bool)
	errs []error
}

func (p *parser) fail(key, value, allowed string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, value, fmt.Sprintf(allowed, args...)))
}

// text returns a variable's value; an empty one counts as unset.
func (p *parser) text(key, fallback string) string {
	if value, _ := p.env(key); value != "" {
		return value
	}
	return fallback
}

func (p *parser) required(key, what string) string {
	value := p.text(key, "")
	if value == "" {
		p.fail(key, value, "%s", what)
	}
	return value
}

func (p *parser) trustDomain(key string) spiffeid.TrustDomain {
	value := p.text(key, "")
	td, err := spiffeid.TrustDomainFromString(value)
	// A SPIFFE ID is taken for the name of its trust domain by the parser.
	if err != nil || td.Name() != value {
		p.fail(key, value, "the name of a trust domain, such as example.org")
	}
	return td
}

func (p *parser) model(key string, read func(string) ([]byte, error)) zones.Model {
	name := p.text(key, defaultModelFile)
	var model zones.Model
	if !filepath.IsAbs(name) {
		p.fail(key, name, "an absolute path")
		return model
	}
	data, err := read(name)
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(&model)
	}
	if err == nil {
		err = model.Validate()
	}
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%s: %q is not allowed: it must be a valid model of network zones as JSON: %w", key, name, err))
	}
	return model
}

func (p *parser) address(key, fallback string) string {
	value := p.text(key, fallback)
	_, port, err := net.SplitHostPort(value)
	if _, number := strconv.ParseUint(port, 10, 16); err != nil || number != nil {
		p.fail(key, value, "host:port or :port, such as %s", fallback)
	}
	return value
}

func (p *parser) integer(key string, fallback, low, high int) int {
	value := p.text(key, strconv.Itoa(fallback))
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		p.fail(key, value, "a whole number from %d to %d", low, high)
		return fallback
	}
	return n
}

func (p *parser) duration(key string, fallback, low, high time.Duration) time.Duration {
	value := p.text(key, fallback.String())
	d, err := time.ParseDuration(value)
	if err != nil || d < low || d > high {
		p.fail(key, value, "a duration from %s to %s", low, high)
		return fallback
	}
	return d
}

func (p *parser) level(key string) slog.Level {
	value := p.text(key, "info")
	switch strings.ToLower(value) {
	case "debug":
		return slog.LevelDebug
	case "info":
		return slog.LevelInfo
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	p.fail(key, value, "debug, info, warn or error")
	return slog.LevelInfo
}
