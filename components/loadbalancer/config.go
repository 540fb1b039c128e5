package loadbalancer

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Config is the configuration of one entry.
type Config struct {
	// Port is where agents connect.
	Port int
	// StatsPort serves /metrics for Prometheus, /stats for people and /healthz
	// for the kubelet.
	StatsPort int
	// MaxConnections bounds the agents' connections.
	MaxConnections int
	// Servers are the SPIRE servers. At least one.
	Servers []Backend
}

// Backend is one SPIRE server.
type Backend struct {
	// Name stands for the server in logs and metrics.
	Name string
	// Host is the server's stable DNS name, Port its port.
	Host string
	Port int
}

var dnsName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)

// Validate reports everything that is wrong with the configuration, joined
// into one error, or nil.
func (c Config) Validate() error {
	var problems []error
	add := func(key string, value any, allowed string) {
		problems = append(problems, fmt.Errorf("%s: %q is not allowed: %s", key, fmt.Sprint(value), allowed))
	}
	port := func(key string, value int) {
		// Lower ports need a privilege that the container has not got.
		if value < 1024 || value > 65535 {
			add(key, value, "it must be a port from 1024 to 65535")
		}
	}
	port("port", c.Port)
	port("statsPort", c.StatsPort)
	if c.Port == c.StatsPort {
		add("statsPort", c.StatsPort, "it must not be the agents' port")
	}
	if c.MaxConnections < 1 {
		add("maxConnections", c.MaxConnections, "it must be at least 1")
	}
	if len(c.Servers) == 0 {
		add("servers", "", "at least one must be named")
	}
	names := map[string]bool{}
	for i, s := range c.Servers {
		key := fmt.Sprintf("servers[%d]", i)
		if !dnsName.MatchString(s.Name) || strings.Contains(s.Name, ".") {
			add(key+".name", s.Name, "it must be lower-case letters, digits and dashes")
		}
		if names[s.Name] {
			add(key+".name", s.Name, "each server must have a name of its own")
		}
		names[s.Name] = true
		if len(s.Host) > 253 || !dnsName.MatchString(s.Host) {
			add(key+".host", s.Host, "it must be a DNS name in lower case")
		}
		if s.Port < 1 || s.Port > 65535 {
			add(key+".port", s.Port, "it must be a port from 1 to 65535")
		}
	}
	return errors.Join(problems...)
}

// Render returns haproxy.cfg, or the error of Validate. Everything that is
// written into it has passed Validate, so no value can start another directive.
func (c Config) Render() (string, error) {
	if err := c.Validate(); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, header, c.MaxConnections, c.Port, c.MaxConnections)
	for _, s := range c.Servers {
		fmt.Fprintf(&b, "    server %s %s:%d\n", s.Name, s.Host, s.Port)
	}
	fmt.Fprintf(&b, stats, c.StatsPort)
	return b.String(), nil
}

// The comments of the template are part of the file, for who looks at it in a
// running container.
const header = `global
    log stdout format raw local0 info
    maxconn %d
    nbthread 2

defaults
    mode tcp
    # A server that is gone or leaving is noticed here before its health check
    # notices: the connection goes to another one at once.
    timeout connect 1s
    retries 3
    option redispatch 1
    timeout check 1s
    timeout queue 2s
    # Connections are long and mostly silent. The server ends each after three
    # minutes; a peer that is gone without a word is found by TCP's own probes.
    timeout client 1h
    timeout server 1h
    option clitcpka
    clitcpka-idle 10s
    clitcpka-intvl 5s
    clitcpka-cnt 3
    option srvtcpka
    srvtcpka-idle 10s
    srvtcpka-intvl 5s
    srvtcpka-cnt 3

resolvers cluster
    parse-resolv-conf
    accepted_payload_size 8192
    resolve_retries 3
    timeout resolve 1s
    timeout retry 300ms
    # A server's pod that comes back has a new address within a second or so.
    hold valid 1s
    hold nx 5s
    hold obsolete 5s
    # An outage of DNS must not take away addresses that still work.
    hold other 1h
    hold refused 1h
    hold timeout 1h

frontend agents
    bind :%d tcp-ut 30s
    log global
    option tcplog
    option dontlognull
    maxconn %d
    default_backend servers

backend servers
    log global
    balance leastconn
    # The PROXY header tells the server the agent's address, for its limit of
    # attestations and its audit log. The check sends one too, marked as the
    # balancer's own, and completes a TLS handshake without looking at the
    # certificate: it asks whether the server serves, not who it is. TLS is
    # between agent and server.
    default-server resolvers cluster init-addr none send-proxy-v2 check check-ssl check-alpn h2 verify none inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
`

const stats = `
frontend stats
    mode http
    bind :%d
    timeout client 10s
    monitor-uri /healthz
    http-request use-service prometheus-exporter if { path /metrics }
    stats enable
    stats uri /stats
    stats refresh 10s
`
