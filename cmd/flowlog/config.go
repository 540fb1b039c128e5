package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ephemos.dev/deploy/cmd/internal/environment"
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
	p := parser{environment.New(env)}
	c := Config{
		Node:           p.Required("NODE_NAME", "the name of the node"),
		TrustDomain:    p.TrustDomain("TRUST_DOMAIN"),
		Model:          p.model("MODEL_FILE", read),
		Address:        p.Address("LISTEN_ADDRESS", ":9990"),
		Group:          uint16(p.Integer("NFLOG_GROUP", 100, 0, 65535)),
		IgnorePrefix:   p.Text("IGNORE_PREFIX", "DROP by policy"),
		Window:         p.duration("WINDOW", time.Minute, time.Second, time.Hour),
		ScanThreshold:  p.Integer("SCAN_THRESHOLD", 8, 2, 100),
		MaxConnections: p.Integer("MAX_CONNECTIONS", 4096, 1, 1_000_000),
		MaxSources:     p.Integer("MAX_SOURCES", 1024, 1, 100_000),
		MaxEvents:      p.Integer("MAX_EVENTS", 50, 1, 10_000),
		LogLevel:       p.Level("LOG_LEVEL"),
	}
	return c, p.Err()
}

// parser adds what only the configuration of this program has.
type parser struct{ *environment.Parser }

func (p parser) model(key string, read func(string) ([]byte, error)) zones.Model {
	name := p.Text(key, defaultModelFile)
	var model zones.Model
	if !filepath.IsAbs(name) {
		p.Fail(key, name, "an absolute path")
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
		p.Fail(key, name, "a valid model of network zones as JSON: %w", err)
	}
	return model
}

// duration is Duration with a message that has no example.
func (p parser) duration(key string, fallback, low, high time.Duration) time.Duration {
	value := p.Text(key, fallback.String())
	d, err := time.ParseDuration(value)
	if err != nil || d < low || d > high {
		p.Fail(key, value, "a duration from %s to %s", low, high)
		return fallback
	}
	return d
}
