package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// minimalServer sets only what has no default.
func minimalServer() Server {
	return Server{
		TrustDomain: "prod.company.com",
		DataStore:   Postgres{Host: "spire-db-rw.spire-server.svc", Database: "spire", User: "spire"},
		Clusters:    []PSATCluster{{Name: "prod", ServiceAccounts: []string{"spire-agent:spire-agent"}}},
		Bundles:     []BundleConfigMap{{Cluster: "prod", Namespace: "spire-agent", Name: "spire-bundle"}},
	}
}

// fullServer sets everything that changes the text.
func fullServer() Server {
	s := minimalServer()
	s.LogLevel = "DEBUG"
	s.CAKeyType = "ec-p384"
	s.CASubject = CASubject{Country: []string{"DE"}, Organization: []string{"Company"}, CommonName: "Company workload CA"}
	s.CATTL = 48 * time.Hour
	s.X509SVIDTTL = time.Minute
	s.JWTSVIDTTL = 90 * time.Second
	s.AgentTTL = 8 * time.Hour
	s.JWTIssuer = "https://oidc.prod.company.com"
	s.AdminIDs = []string{"spiffe://prod.company.com/admin"}
	s.DisableSigningRateLimit = true
	s.ProxyProtocolTrustedCIDRs = []string{"10.244.0.0/16", "fd00:10:244::/56"}
	s.RequirePQKEM = true
	s.DataStore.ConnectTimeout = 5 * time.Second
	s.Clusters = append(s.Clusters, PSATCluster{Name: "edge", ServiceAccounts: []string{"a:b", "c:d"}})
	s.UpstreamAuthority.BundlePath = "/run/spire/upstream/root.crt"
	return s
}

func minimalAgent() Agent {
	return Agent{TrustDomain: "prod.company.com", ServerAddress: "spire-server-entry.spire-server.svc.cluster.local", Cluster: "prod"}
}

func fullAgent() Agent {
	a := minimalAgent()
	a.LogLevel = "DEBUG"
	a.RebootstrapMode = "always"
	a.RebootstrapDelay = time.Minute
	a.MaxPollAttempts = 20
	a.PollRetryInterval = time.Second
	a.UnixAttestor = true
	a.AuthorizedDelegates = []string{"spiffe://prod.company.com/delegate"}
	a.RequirePQKEM = true
	return a
}

func minimalControllerManager() ControllerManager {
	return ControllerManager{
		TrustDomain: "prod.company.com", Cluster: "prod", ClassName: "spire-server", WebhookName: "spire-server-webhook",
		LeaderElection: LeaderElection{Namespace: "spire-server", Name: "spire-controller-manager"},
	}
}

type renderer interface{ Render() (string, error) }

// rendered are the configurations that the golden files show and that the real
// programs have to accept.
var rendered = []struct {
	golden  string
	program string
	config  renderer
}{
	{"server-minimal.conf", "spire-server", minimalServer()},
	{"server-full.conf", "spire-server", fullServer()},
	{"server-self-signed.conf", "spire-server", func() Server {
		s := minimalServer()
		s.UpstreamAuthority = DiskAuthority{SelfSigned: true}
		s.Bundles = nil
		return s
	}()},
	{"server-aws.conf", "spire-server", awsServer()},
	{"server-aws-named.conf", "spire-server", awsNamedServer()},
	{"agent-minimal.conf", "spire-agent", minimalAgent()},
	{"agent-full.conf", "spire-agent", fullAgent()},
	{"controller-manager.yaml", "", minimalControllerManager()},
}

func TestGolden(t *testing.T) {
	for _, c := range rendered {
		t.Run(c.golden, func(t *testing.T) {
			got, err := c.config.Render()
			require.NoError(t, err)
			file := filepath.Join("testdata", c.golden)
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(want), got)
		})
	}
}

func TestRenderIsDeterministic(t *testing.T) {
	for _, c := range rendered {
		first, err := c.config.Render()
		require.NoError(t, err)
		for range 20 {
			again, err := c.config.Render()
			require.NoError(t, err)
			require.Equal(t, first, again)
		}
	}
}

// TestDefaultsAreStable holds that defaults filled in twice are the same as
// once, so that a caller may fill them to look at them.
func TestDefaultsAreStable(t *testing.T) {
	s := minimalServer().WithDefaults()
	require.Equal(t, s, s.WithDefaults())
	a := minimalAgent().WithDefaults()
	require.Equal(t, a, a.WithDefaults())
	c := minimalControllerManager().WithDefaults()
	require.Equal(t, c, c.WithDefaults())
}

func TestServerRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Server)
		want   []string // parts of the message
	}{
		{"no trust domain", func(s *Server) { s.TrustDomain = "" }, []string{"trust_domain", `""`}},
		{"trust domain with a slash", func(s *Server) { s.TrustDomain = "prod.company.com/x" }, []string{"trust_domain", "prod.company.com/x", "no path"}},
		{"trust domain with a scheme", func(s *Server) { s.TrustDomain = "spiffe://prod.company.com" }, []string{"trust_domain", "no scheme"}},
		{"trust domain in capitals", func(s *Server) { s.TrustDomain = "Prod.company.com" }, []string{"trust_domain", "lower-case"}},
		{"loopback name", func(s *Server) { s.BindAddress = "localhost" }, []string{"bind_address", "IP address"}},
		{"port too large", func(s *Server) { s.BindPort = 70000 }, []string{"bind_port", "70000", "65535"}},
		{"relative socket", func(s *Server) { s.SocketPath = "api.sock" }, []string{"socket_path", "absolute"}},
		{"socket too long", func(s *Server) { s.SocketPath = "/" + strings.Repeat("x", 107) }, []string{"socket_path", "107"}},
		{"silenced audit log", func(s *Server) { s.LogLevel = "WARN" }, []string{"log_level", "WARN", "audit"}},
		{"unknown level", func(s *Server) { s.LogLevel = "LOUD" }, []string{"log_level", "LOUD", "INFO"}},
		{"unknown format", func(s *Server) { s.LogFormat = "xml" }, []string{"log_format", "json"}},
		{"key type", func(s *Server) { s.CAKeyType = "rsa-1024" }, []string{"ca_key_type", "rsa-1024", "ec-p256"}},
		{"country", func(s *Server) { s.CASubject = CASubject{Country: []string{"Germany"}, CommonName: "CA"} }, []string{"ca_subject.country[0]", "Germany"}},
		{"SVID outlives a sixth of the CA", func(s *Server) { s.CATTL, s.X509SVIDTTL, s.AgentTTL = 5*time.Hour, time.Hour, time.Minute }, []string{"default_x509_svid_ttl", `"1h"`, "a sixth of ca_ttl (5h)", "50m"}},
		{"SVID longer than the cap", func(s *Server) { s.CATTL, s.X509SVIDTTL = 90*24*time.Hour, 8*24*time.Hour }, []string{"default_x509_svid_ttl", "168h"}},
		{"SVID too short to renew", func(s *Server) { s.X509SVIDTTL = 5 * time.Second }, []string{"default_x509_svid_ttl", "30s"}},
		{"JWT-SVID", func(s *Server) { s.JWTSVIDTTL = 5 * time.Hour }, []string{"default_jwt_svid_ttl", "sixth"}},
		{"agent", func(s *Server) { s.AgentTTL = 5 * time.Hour }, []string{"agent_ttl", "sixth"}},
		{"negative lifetime", func(s *Server) { s.CATTL = -time.Hour }, []string{"ca_ttl", "greater than zero"}},
		{"issuer", func(s *Server) { s.JWTIssuer = "http://x" }, []string{"jwt_issuer", "https"}},
		{"admin", func(s *Server) { s.AdminIDs = []string{"admin"} }, []string{"admin_ids[0]", "SPIFFE ID"}},
		{"foreign admin", func(s *Server) { s.AdminIDs = []string{"spiffe://other/admin"} }, []string{"admin_ids[0]", "trust domain"}},
		{"proxy range", func(s *Server) { s.ProxyProtocolTrustedCIDRs = []string{"10.244.0.0"} }, []string{"proxy_protocol_trusted_cidrs[0]", "10.244.0.0"}},
		{"proxy range of the world", func(s *Server) { s.ProxyProtocolTrustedCIDRs = []string{"0.0.0.0/0"} }, []string{"proxy_protocol_trusted_cidrs[0]", "every address"}},
		{"same port", func(s *Server) { s.Health.Port = 8081 }, []string{"health_checks.bind_port", "bind_port"}},
		{"database host", func(s *Server) { s.DataStore.Host = "postgres://db" }, []string{"DataStore.sql.connection_string host", "postgres://db"}},
		{"unverified database", func(s *Server) { s.DataStore.SSLMode = "require" }, []string{"sslmode", "require", "verify-full"}},
		{"endless connect", func(s *Server) { s.DataStore.ConnectTimeout = time.Minute }, []string{"connect_timeout", "10s"}},
		{"half a second", func(s *Server) { s.DataStore.ConnectTimeout = 1500 * time.Millisecond }, []string{"connect_timeout", "whole seconds"}},
		{"no connection", func(s *Server) { s.DataStore.MaxOpenConns = -1 }, []string{"max_open_conns"}},
		{"more idle than open", func(s *Server) { s.DataStore.MaxOpenConns = 5 }, []string{"max_idle_conns", "(5)"}},
		{"long-lived connections", func(s *Server) { s.DataStore.ConnMaxLifetime = time.Hour }, []string{"conn_max_lifetime", "5m"}},
		{"shared keys", func(s *Server) { s.KeysPath = "/shared/keys.json" }, []string{"KeyManager.disk.keys_path", "data_dir"}},
		{"no cluster", func(s *Server) { s.Clusters = nil }, []string{"NodeAttestor.k8s_psat.clusters", "at least one"}},
		{"empty allow list", func(s *Server) { s.Clusters[0].ServiceAccounts = nil }, []string{"service_account_allow_list", "at least one"}},
		{"malformed account", func(s *Server) { s.Clusters[0].ServiceAccounts = []string{"spire-agent"} }, []string{"service_account_allow_list[0]", "namespace:name"}},
		{"cluster twice", func(s *Server) { s.Clusters = append(s.Clusters, s.Clusters[0]) }, []string{"clusters[1]", "name of its own"}},
		{"one file for two", func(s *Server) { s.UpstreamAuthority.KeyPath = ServerUpstreamCert }, []string{"UpstreamAuthority.disk.key_file_path", "UpstreamAuthority.disk.cert_file_path"}},
		{"self-signed with files", func(s *Server) { s.UpstreamAuthority = DiskAuthority{SelfSigned: true, CertPath: "/x"} }, []string{"UpstreamAuthority.disk"}},
		{"bundle target", func(s *Server) { s.Bundles[0].Name = "Spire Bundle" }, []string{"BundlePublisher.k8s_configmap.clusters[0].configmap_name", "Spire Bundle"}},
		{"not UTF-8", func(s *Server) { s.DataStore.User = "\xff" }, []string{"user", "UTF-8"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := minimalServer()
			c.change(&s)
			_, err := s.Render()
			require.Error(t, err)
			require.Equal(t, err.Error(), s.Validate().Error())
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
			require.Len(t, strings.Split(err.Error(), "\n"), 1, "one mistake is one message")
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	s := minimalServer()
	s.TrustDomain, s.LogLevel, s.DataStore.SSLMode, s.Clusters = "a/b", "WARN", "disable", nil
	err := s.Validate()
	for _, key := range []string{"trust_domain", "log_level", "sslmode", "NodeAttestor.k8s_psat.clusters"} {
		require.ErrorContains(t, err, key)
	}
}

// TestAuditOffAllowsWarn holds that the level is bound to the audit log, not
// forbidden as such.
func TestAuditOffAllowsWarn(t *testing.T) {
	s := minimalServer()
	s.LogLevel, s.DisableAuditLog = "WARN", true
	require.NoError(t, s.Validate())
}

// TestShortestLifetimes holds the bounds themselves to be allowed.
func TestShortestLifetimes(t *testing.T) {
	s := minimalServer()
	s.CATTL, s.X509SVIDTTL, s.AgentTTL, s.JWTSVIDTTL = 6*time.Minute, time.Minute, time.Minute, time.Minute
	require.NoError(t, s.Validate())
	s.CATTL -= time.Second
	require.ErrorContains(t, s.Validate(), "default_x509_svid_ttl")
}

func TestAgentRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Agent)
		want   []string
	}{
		{"trust domain", func(a *Agent) { a.TrustDomain = "a/b" }, []string{"trust_domain", "a/b"}},
		{"no server", func(a *Agent) { a.ServerAddress = "" }, []string{"server_address"}},
		{"server with a port", func(a *Agent) { a.ServerAddress = "spire:8081" }, []string{"server_address", "spire:8081", "port"}},
		{"server port", func(a *Agent) { a.ServerPort = -1 }, []string{"server_port", "-1"}},
		{"silenced", func(a *Agent) { a.LogLevel = "ERROR" }, []string{"log_level", "audit"}},
		{"mode", func(a *Agent) { a.RebootstrapMode = "sometimes" }, []string{"rebootstrap_mode", "sometimes", "auto"}},
		{"cluster", func(a *Agent) { a.Cluster = "" }, []string{"NodeAttestor.k8s_psat.cluster"}},
		{"kubelet CA", func(a *Agent) { a.KubeletCAPath = "ca.crt" }, []string{"kubelet_ca_path", "absolute"}},
		{"polls", func(a *Agent) { a.MaxPollAttempts = -1 }, []string{"max_poll_attempts"}},
		{"interval", func(a *Agent) { a.PollRetryInterval = -1 }, []string{"poll_retry_interval"}},
		{"delegate", func(a *Agent) { a.AuthorizedDelegates = []string{"x"} }, []string{"authorized_delegates[0]"}},
		{"same port", func(a *Agent) { a.Health.Port = 9988 }, []string{"health_checks.bind_port", "telemetry.Prometheus.port"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := minimalAgent()
			c.change(&a)
			_, err := a.Render()
			require.Error(t, err)
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
			require.Len(t, strings.Split(err.Error(), "\n"), 1, "one mistake is one message")
		})
	}
}

func TestControllerManagerRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ControllerManager)
		want   []string
	}{
		{"trust domain", func(c *ControllerManager) { c.TrustDomain = "a/b" }, []string{"trustDomain", "a/b"}},
		{"no class", func(c *ControllerManager) { c.ClassName = "" }, []string{"className"}},
		{"pattern as a namespace", func(c *ControllerManager) { c.IgnoreNamespaces = []string{"kube-.*"} }, []string{"ignoreNamespaces[0]", "kube-.*"}},
		{"no lease", func(c *ControllerManager) { c.LeaderElection.Name = "" }, []string{"leaderElection.resourceName"}},
		{"renewal after the lease", func(c *ControllerManager) { c.LeaderElection.RenewDeadline = 9 * time.Second }, []string{"leaderElection.leaseDuration", "9s"}},
		{"retry after the renewal", func(c *ControllerManager) { c.LeaderElection.RetryPeriod = 6 * time.Second }, []string{"leaderElection.renewDeadline", "6s"}},
		{"port of the webhook", func(c *ControllerManager) { c.MetricsPort = WebhookPort }, []string{"webhook port", "9443"}},
		{"prefix", func(c *ControllerManager) { c.EntryIDPrefix = "a.b" }, []string{"entryIDPrefix", "a.b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cm := minimalControllerManager()
			c.change(&cm)
			_, err := cm.Render()
			require.Error(t, err)
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		24 * time.Hour: "24h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 90 * time.Second: "1m30s",
		500 * time.Millisecond: "500ms", time.Hour + time.Second: "1h0m1s", 20 * time.Second: "20s", 0: "0s",
	} {
		require.Equal(t, want, formatDuration(d))
		parsed, err := time.ParseDuration(formatDuration(d))
		require.NoError(t, err)
		require.Equal(t, d, parsed)
	}
}
