package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Paths inside the container of the SPIRE server that the defaults use. Who
// mounts the volumes mounts them there.
const (
	ServerDataDir      = "/run/spire/data"
	ServerSocketDir    = "/run/spire/socket"
	ServerSocketPath   = ServerSocketDir + "/private/api.sock"
	ServerKeysPath     = ServerDataDir + "/keys.json"
	ServerDBCAPath     = "/run/spire/db/ca/ca.crt"
	ServerDBCertPath   = "/run/spire/db/client/tls.crt"
	ServerDBKeyPath    = "/run/spire/db/client/tls.key"
	ServerUpstreamCert = "/run/spire/upstream/tls.crt"
	ServerUpstreamKey  = "/run/spire/upstream/tls.key"
)

// PSATAudience is the audience of the projected service account token with
// which agents attest. Server and agent have to agree on it.
const PSATAudience = "spire-server"

// BundleKey is the key under which the trust bundle is published in its
// ConfigMap, and so the file name under which agents find it.
const BundleKey = "bundle.spiffe"

// MaxSVIDTTL is the longest lifetime of an SVID that SPIRE guarantees
// whatever the lifetime of its CA (SPIRE pkg/server/ca/manager, activation
// threshold cap).
const MaxSVIDTTL = 7 * 24 * time.Hour

// CATTLDivisor says how much shorter than the CA's an SVID's lifetime has to
// be: SPIRE activates the next CA when a sixth of the current one's lifetime is
// left, and cuts short every SVID that would outlive the current one.
const CATTLDivisor = 6

// minSVIDTTL keeps an SVID alive through its renewal: agents renew at half of
// the lifetime, and look every five seconds at what there is to renew.
const minSVIDTTL = 30 * time.Second

// Server is the configuration of a SPIRE server.
type Server struct {
	// TrustDomain is the name of the trust domain, for example
	// "prod.company.com". Required.
	TrustDomain string
	// BindAddress is the address on which agents reach the server. Default
	// 0.0.0.0: agents come from other pods. Who may connect is the network
	// policy's matter.
	BindAddress string
	// BindPort is the port for agents. Default 8081.
	BindPort int
	// SocketPath is the Unix socket of the administration API. Who can open it
	// can do everything, so its directory is shared with the controller manager
	// of the same pod only. Default ServerSocketPath.
	SocketPath string
	// DataDir holds the server's own state. Default ServerDataDir.
	DataDir string
	// LogLevel is DEBUG, INFO, WARN or ERROR; with the audit log on, at most
	// INFO. Default INFO.
	LogLevel string
	// LogFormat is json or text. Default json.
	LogFormat string
	// DisableAuditLog turns off the audit log, which is part of the server's log.
	DisableAuditLog bool
	// CAKeyType is the type of the CA's keys: ec-p256, ec-p384, rsa-2048 or
	// rsa-4096. Default ec-p256.
	CAKeyType string
	// CASubject is the subject of the CA's certificates. Default: common name
	// "SPIRE CA", organization the trust domain.
	CASubject CASubject
	// CATTL is the lifetime of the server's CA certificate. Default 24h.
	CATTL time.Duration
	// X509SVIDTTL is the lifetime of workloads' X.509-SVIDs, at least 30s and at
	// most a sixth of CATTL. Agents renew at half of it. Default 1h.
	X509SVIDTTL time.Duration
	// JWTSVIDTTL is the lifetime of JWT-SVIDs, at most a sixth of CATTL.
	// Default 5m.
	JWTSVIDTTL time.Duration
	// AgentTTL is the lifetime of agents' SVIDs, at least 30s and at most a
	// sixth of CATTL. Default 1h.
	AgentTTL time.Duration
	// JWTIssuer is the issuer claim of JWT-SVIDs, an https URL. Default: none.
	JWTIssuer string
	// AdminIDs are SPIFFE IDs, beside entries marked as admin, that may use the
	// administration API over the network. Default: none.
	AdminIDs []string
	// DisableAttestationRateLimit lifts the limit of one attestation a second
	// and address.
	DisableAttestationRateLimit bool
	// DisableSigningRateLimit lifts the limit of 500 signatures a second and
	// address.
	DisableSigningRateLimit bool
	// PruneAttestedNodesExpiredFor says how long after the end of its SVID an
	// agent that has not come back is forgotten. Default 168h. Banned agents
	// stay.
	PruneAttestedNodesExpiredFor time.Duration
	// ProxyProtocolTrustedCIDRs are the address ranges of the load balancer,
	// from which a PROXY protocol header is believed. Without it every agent
	// behind the balancer shares the balancer's one attestation a second.
	// Default: none, so that a header is refused from everywhere.
	ProxyProtocolTrustedCIDRs []string
	// RequirePQKEM refuses connections without TLS 1.3 and a post-quantum key
	// exchange. Agents need the same setting. Experimental in SPIRE.
	RequirePQKEM bool
	// Prometheus is the metrics endpoint. Default 0.0.0.0:9988.
	Prometheus Endpoint
	// Health is the endpoint with /live and /ready. Default 0.0.0.0:8080.
	Health Endpoint
	// DataStore is the database.
	DataStore Postgres
	// KeysPath is the file in which this server keeps its private keys. It must
	// be on a volume of its own: servers that share it overwrite each other's
	// keys. Default ServerKeysPath, or none with KMS.
	KeysPath string
	// KMS keeps the private keys in AWS KMS instead of in a file. Default: nil.
	KMS *KMS
	// Clusters are the Kubernetes clusters whose agents may attest. At least one.
	Clusters []PSATCluster
	// UpstreamAuthority is the CA that signs this server's CA. The files are
	// read at each renewal of the CA. The zero value takes the default paths;
	// SelfSigned in it turns the upstream off.
	UpstreamAuthority DiskAuthority
	// PrivateCA is an upstream CA in AWS Private CA instead of in files; then
	// UpstreamAuthority must be the zero value. Default: nil.
	PrivateCA *PrivateCA
	// Bundles are the ConfigMaps to which the trust bundle is published.
	Bundles []BundleConfigMap
}

// CASubject is the subject of a CA certificate.
type CASubject struct {
	// Country are ISO 3166 codes of two letters.
	Country []string
	// Organization names the owner.
	Organization []string
	// CommonName names the CA.
	CommonName string
}

// Endpoint is where a program listens.
type Endpoint struct {
	// Host is an IP address.
	Host string
	// Port is a TCP port.
	Port int
}

// Postgres is the connection to the database. The server authenticates with a
// client certificate, or by IAM with RDS: there is no password to keep.
type Postgres struct {
	// Host is the DNS name for writing connections; it has to be in the
	// database's certificate. Required, unless RDS names the endpoint.
	Host string
	// RDS is a database of Amazon RDS instead of Host, signed in to by IAM. Host,
	// CertPath and KeyPath must then be empty. Default: nil.
	RDS *RDS
	// Port is the TCP port. Default 5432.
	Port int
	// Database is the name of the database. Required.
	Database string
	// User is the database role. Required.
	User string
	// SSLMode must be verify-full, the default: weaker modes encrypt without
	// knowing to whom.
	SSLMode string
	// RootCertPath, CertPath and KeyPath are the files of the database's CA, the
	// client certificate and its key. They are read for each new connection.
	// The driver refuses a key that others than root and the group may read.
	// Defaults ServerDBCAPath, ServerDBCertPath, ServerDBKeyPath.
	RootCertPath, CertPath, KeyPath string
	// ConnectTimeout bounds the making of a connection, in whole seconds from 1s
	// to 10s; without it a vanished host blocks for minutes. Default 3s.
	ConnectTimeout time.Duration
	// MaxOpenConns bounds the connections of one server; three servers of 20
	// fit into the 100 of a Postgres default. Default 20.
	MaxOpenConns int
	// MaxIdleConns is how many of them are kept when idle. Default 10.
	MaxIdleConns int
	// ConnMaxLifetime closes connections of that age, at most 5m. It bounds how
	// long a connection to a primary that has been demoted, or one made with an
	// old client certificate, is used. Default 2m.
	ConnMaxLifetime time.Duration
}

// PSATCluster is a Kubernetes cluster whose agents attest with projected
// service account tokens.
type PSATCluster struct {
	// Name is the cluster's name, which the agents give. It becomes part of the
	// agents' SPIFFE IDs.
	Name string
	// ServiceAccounts are the accounts an agent may run as, each
	// "namespace:name". At least one.
	ServiceAccounts []string
}

// DiskAuthority is an upstream CA whose certificate and key are files.
type DiskAuthority struct {
	// CertPath and KeyPath are the files. Defaults ServerUpstreamCert and
	// ServerUpstreamKey.
	CertPath, KeyPath string
	// BundlePath is the root certificate, when the upstream CA is an
	// intermediate. Default: none, the upstream CA is a root.
	BundlePath string
	// SelfSigned makes each server its own root, without an upstream.
	SelfSigned bool
}

// BundleConfigMap is a ConfigMap to which the trust bundle is published.
type BundleConfigMap struct {
	// Cluster is a name for the target, unique among the targets.
	Cluster string
	// Namespace and Name are the ConfigMap's.
	Namespace, Name string
}

// WithDefaults returns the configuration with every field that is not set
// filled with its default.
func (s Server) WithDefaults() Server {
	s.BindAddress = cmp.Or(s.BindAddress, "0.0.0.0")
	s.BindPort = cmp.Or(s.BindPort, 8081)
	s.SocketPath = cmp.Or(s.SocketPath, ServerSocketPath)
	s.DataDir = cmp.Or(s.DataDir, ServerDataDir)
	s.LogLevel = cmp.Or(s.LogLevel, "INFO")
	s.LogFormat = cmp.Or(s.LogFormat, "json")
	s.CAKeyType = cmp.Or(s.CAKeyType, "ec-p256")
	if s.CASubject.CommonName == "" && len(s.CASubject.Organization) == 0 && len(s.CASubject.Country) == 0 {
		s.CASubject.CommonName = "SPIRE CA"
		if s.TrustDomain != "" {
			s.CASubject.Organization = []string{s.TrustDomain}
		}
	}
	s.CATTL = cmp.Or(s.CATTL, 24*time.Hour)
	s.X509SVIDTTL = cmp.Or(s.X509SVIDTTL, time.Hour)
	s.JWTSVIDTTL = cmp.Or(s.JWTSVIDTTL, 5*time.Minute)
	s.AgentTTL = cmp.Or(s.AgentTTL, time.Hour)
	s.PruneAttestedNodesExpiredFor = cmp.Or(s.PruneAttestedNodesExpiredFor, 7*24*time.Hour)
	s.Prometheus.Host = cmp.Or(s.Prometheus.Host, "0.0.0.0")
	s.Prometheus.Port = cmp.Or(s.Prometheus.Port, 9988)
	s.Health.Host = cmp.Or(s.Health.Host, "0.0.0.0")
	s.Health.Port = cmp.Or(s.Health.Port, 8080)
	s.DataStore.Port = cmp.Or(s.DataStore.Port, 5432)
	s.DataStore.SSLMode = cmp.Or(s.DataStore.SSLMode, "verify-full")
	s.DataStore.RootCertPath = cmp.Or(s.DataStore.RootCertPath, ServerDBCAPath)
	if s.DataStore.RDS == nil {
		s.DataStore.CertPath = cmp.Or(s.DataStore.CertPath, ServerDBCertPath)
		s.DataStore.KeyPath = cmp.Or(s.DataStore.KeyPath, ServerDBKeyPath)
	}
	s.DataStore.ConnectTimeout = cmp.Or(s.DataStore.ConnectTimeout, 3*time.Second)
	s.DataStore.MaxOpenConns = cmp.Or(s.DataStore.MaxOpenConns, 20)
	s.DataStore.MaxIdleConns = cmp.Or(s.DataStore.MaxIdleConns, 10)
	s.DataStore.ConnMaxLifetime = cmp.Or(s.DataStore.ConnMaxLifetime, 2*time.Minute)
	if s.KMS != nil {
		s.KMS = s.KMS.withDefaults()
	} else {
		s.KeysPath = cmp.Or(s.KeysPath, ServerKeysPath)
	}
	if s.PrivateCA != nil {
		s.PrivateCA = s.PrivateCA.withDefaults()
	} else if !s.UpstreamAuthority.SelfSigned {
		s.UpstreamAuthority.CertPath = cmp.Or(s.UpstreamAuthority.CertPath, ServerUpstreamCert)
		s.UpstreamAuthority.KeyPath = cmp.Or(s.UpstreamAuthority.KeyPath, ServerUpstreamKey)
	}
	return s
}

// Validate reports everything that is wrong with the configuration after its
// defaults are filled in, joined into one error, or nil.
func (s Server) Validate() error { return s.WithDefaults().validate() }

func (s Server) validate() error {
	var p problems
	td, tdOK := p.trustDomain("trust_domain", s.TrustDomain)
	p.ip("bind_address", s.BindAddress)
	p.port("bind_port", s.BindPort)
	p.socket("socket_path", s.SocketPath)
	p.file("data_dir", s.DataDir)
	p.logging(s.LogLevel, s.LogFormat, !s.DisableAuditLog)
	p.oneOf("ca_key_type", s.CAKeyType, "ec-p256", "ec-p384", "rsa-2048", "rsa-4096")
	s.validateSubject(&p)
	s.validateLifetimes(&p)
	if s.JWTIssuer != "" && p.text("jwt_issuer", s.JWTIssuer) && !strings.HasPrefix(s.JWTIssuer, "https://") {
		p.add("jwt_issuer", s.JWTIssuer, "it must be an https URL")
	}
	for i, id := range s.AdminIDs {
		key := fmt.Sprintf("admin_ids[%d]", i)
		if parsed, err := spiffeid.FromString(id); err != nil {
			p.add(key, id, "it must be a SPIFFE ID")
		} else if tdOK && !parsed.MemberOf(td) {
			p.add(key, id, "it must be in the trust domain "+s.TrustDomain)
		}
	}
	for i, cidr := range s.ProxyProtocolTrustedCIDRs {
		key := fmt.Sprintf("proxy_protocol_trusted_cidrs[%d]", i)
		if prefix, err := netip.ParsePrefix(cidr); err != nil || prefix != prefix.Masked() {
			p.add(key, cidr, "it must be an address range such as 10.244.0.0/16")
		} else if prefix.Bits() == 0 {
			p.add(key, cidr, "it must not cover every address: then every client could claim another one's address")
		}
	}
	p.ip("telemetry.Prometheus.host", s.Prometheus.Host)
	p.port("telemetry.Prometheus.port", s.Prometheus.Port)
	p.ip("health_checks.bind_address", s.Health.Host)
	p.port("health_checks.bind_port", s.Health.Port)
	p.distinctPorts(
		listener{"bind_port", s.BindPort},
		listener{"telemetry.Prometheus.port", s.Prometheus.Port},
		listener{"health_checks.bind_port", s.Health.Port},
	)
	s.DataStore.validate(&p)
	if s.KMS != nil {
		if s.KeysPath != "" {
			p.add("KeyManager.disk.keys_path", s.KeysPath, "it must not be set when the keys are in KMS")
		}
		s.KMS.validate(&p, s.DataDir)
	} else if p.file("KeyManager.disk.keys_path", s.KeysPath) && !strings.HasPrefix(s.KeysPath, s.DataDir+"/") {
		p.add("KeyManager.disk.keys_path", s.KeysPath, "it must be in data_dir, the volume of this server alone: "+s.DataDir)
	}
	s.validatePlugins(&p)
	s.distinctPaths(&p)
	return p.err()
}

func (s Server) validateSubject(p *problems) {
	for i, c := range s.CASubject.Country {
		if len(c) != 2 || strings.ToUpper(c) != c {
			p.add(fmt.Sprintf("ca_subject.country[%d]", i), c, "it must be a country code of two capital letters")
		}
	}
	for i, o := range s.CASubject.Organization {
		p.required(fmt.Sprintf("ca_subject.organization[%d]", i), o)
	}
	p.required("ca_subject.common_name", s.CASubject.CommonName)
}

// validateLifetimes holds every lifetime against the CA's: what is longer than
// a sixth of it would silently be cut short when the CA rotates.
func (s Server) validateLifetimes(p *problems) {
	caOK := p.positive("ca_ttl", s.CATTL)
	for _, l := range []struct {
		key   string
		value time.Duration
		floor time.Duration
	}{
		{"default_x509_svid_ttl", s.X509SVIDTTL, minSVIDTTL},
		{"default_jwt_svid_ttl", s.JWTSVIDTTL, 0},
		{"agent_ttl", s.AgentTTL, minSVIDTTL},
	} {
		switch limit := min(s.CATTL/CATTLDivisor, MaxSVIDTTL); {
		case !p.positive(l.key, l.value):
		case l.value < l.floor:
			p.atLeast(l.key, l.value, l.floor, "it is renewed at half of its lifetime, and agents look for renewals every 5s")
		case caOK && l.value > limit:
			p.add(l.key, l.value, fmt.Sprintf("it must be at most %s, the smaller of %s and a sixth of ca_ttl (%s); "+
				"SPIRE would cut longer ones short when it rotates its CA",
				formatDuration(limit), formatDuration(MaxSVIDTTL), formatDuration(s.CATTL)))
		}
	}
	p.positive("prune_attested_nodes_expired_for", s.PruneAttestedNodesExpiredFor)
}

func (d Postgres) validate(p *problems) {
	const prefix = "DataStore.sql."
	if d.RDS != nil {
		for _, f := range []struct{ key, value string }{{"host", d.Host}, {"sslcert", d.CertPath}, {"sslkey", d.KeyPath}} {
			if f.value != "" {
				p.add(prefix+"connection_string "+f.key, f.value, "it must not be set with a database of RDS, which has an endpoint and IAM")
			}
		}
		d.RDS.validate(p)
	} else {
		p.host(prefix+"connection_string host", d.Host)
		p.file(prefix+"connection_string sslcert", d.CertPath)
		p.file(prefix+"connection_string sslkey", d.KeyPath)
	}
	p.port(prefix+"connection_string port", d.Port)
	p.required(prefix+"connection_string dbname", d.Database)
	p.required(prefix+"connection_string user", d.User)
	if d.SSLMode != "verify-full" {
		p.add(prefix+"connection_string sslmode", d.SSLMode, "it must be verify-full: weaker modes do not verify whom the server talks to")
	}
	p.file(prefix+"connection_string sslrootcert", d.RootCertPath)
	if d.ConnectTimeout < time.Second || d.ConnectTimeout > 10*time.Second || d.ConnectTimeout%time.Second != 0 {
		p.add(prefix+"connection_string connect_timeout", d.ConnectTimeout, "it must be whole seconds from 1s to 10s")
	}
	if d.MaxOpenConns < 1 {
		p.add(prefix+"max_open_conns", d.MaxOpenConns, "it must be at least 1")
	} else if d.MaxIdleConns < 0 || d.MaxIdleConns > d.MaxOpenConns {
		p.add(prefix+"max_idle_conns", d.MaxIdleConns, fmt.Sprintf("it must be from 0 to max_open_conns (%d)", d.MaxOpenConns))
	}
	if d.ConnMaxLifetime <= 0 || d.ConnMaxLifetime > 5*time.Minute {
		p.add(prefix+"conn_max_lifetime", d.ConnMaxLifetime, "it must be greater than zero and at most 5m: connections to a demoted primary live that long")
	}
}

func (s Server) validatePlugins(p *problems) {
	if len(s.Clusters) == 0 {
		p.add("NodeAttestor.k8s_psat.clusters", "", "at least one cluster must be named, or no agent can attest")
	}
	seen := map[string]bool{}
	for i, c := range s.Clusters {
		key := fmt.Sprintf("NodeAttestor.k8s_psat.clusters[%d]", i)
		p.kubernetesName(key, c.Name)
		if seen[c.Name] {
			p.add(key, c.Name, "each cluster must have a name of its own")
		}
		seen[c.Name] = true
		if len(c.ServiceAccounts) == 0 {
			p.add(key+".service_account_allow_list", "", "at least one namespace:name must be allowed")
		}
		for j, account := range c.ServiceAccounts {
			namespace, name, ok := strings.Cut(account, ":")
			if !ok || !dnsLabel.MatchString(namespace) || !dnsLabel.MatchString(name) {
				p.add(fmt.Sprintf("%s.service_account_allow_list[%d]", key, j), account, "it must be namespace:name of a service account")
			}
		}
	}
	if u := s.UpstreamAuthority; s.PrivateCA != nil {
		if u != (DiskAuthority{}) {
			p.add("UpstreamAuthority.disk", u.CertPath, "there must be one upstream authority: files, a CA in AWS Private CA, or none")
		}
		s.PrivateCA.validate(p)
	} else if u.SelfSigned {
		if u.CertPath != "" || u.KeyPath != "" || u.BundlePath != "" {
			p.add("UpstreamAuthority.disk", u.CertPath, "a self-signed server has no upstream files")
		}
	} else {
		p.file("UpstreamAuthority.disk.cert_file_path", u.CertPath)
		p.file("UpstreamAuthority.disk.key_file_path", u.KeyPath)
		if u.BundlePath != "" {
			p.file("UpstreamAuthority.disk.bundle_file_path", u.BundlePath)
		}
	}
	targets := map[string]bool{}
	for i, b := range s.Bundles {
		key := fmt.Sprintf("BundlePublisher.k8s_configmap.clusters[%d]", i)
		p.kubernetesName(key, b.Cluster)
		p.kubernetesName(key+".namespace", b.Namespace)
		p.kubernetesName(key+".configmap_name", b.Name)
		if targets[b.Cluster] {
			p.add(key, b.Cluster, "each target must have a name of its own")
		}
		targets[b.Cluster] = true
	}
}

// distinctPaths refuses two files under one path: the server would overwrite
// one with the other, or read one as the other.
func (s Server) distinctPaths(p *problems) {
	type file struct{ key, path string }
	files := []file{
		{"socket_path", s.SocketPath},
		{"data_dir", s.DataDir},
		{"DataStore.sql.connection_string sslrootcert", s.DataStore.RootCertPath},
		{"DataStore.sql.connection_string sslcert", s.DataStore.CertPath},
		{"DataStore.sql.connection_string sslkey", s.DataStore.KeyPath},
		{"KeyManager.disk.keys_path", s.KeysPath},
		{"UpstreamAuthority.disk.cert_file_path", s.UpstreamAuthority.CertPath},
		{"UpstreamAuthority.disk.key_file_path", s.UpstreamAuthority.KeyPath},
		{"UpstreamAuthority.disk.bundle_file_path", s.UpstreamAuthority.BundlePath},
	}
	if s.KMS != nil {
		files = append(files, file{"KeyManager.aws_kms.key_identifier_file", s.KMS.KeyIdentifierFile},
			file{"KeyManager.aws_kms.key_policy_file", s.KMS.KeyPolicyPath})
	}
	if s.PrivateCA != nil {
		files = append(files, file{"UpstreamAuthority.aws_pca.supplemental_bundle_path", s.PrivateCA.SupplementalBundlePath})
	}
	owner := map[string]string{}
	for _, f := range files {
		if f.path == "" {
			continue
		}
		if other, taken := owner[f.path]; taken {
			p.add(f.key, f.path, "it must not be the path of "+other)
			continue
		}
		owner[f.path] = f.key
	}
}

// A listener is a port and the key that sets it.
type listener struct {
	key  string
	port int
}

// distinctPorts refuses two listeners on one port.
func (p *problems) distinctPorts(listeners ...listener) {
	owner := map[int]string{}
	for _, l := range listeners {
		if other, taken := owner[l.port]; taken {
			p.add(l.key, l.port, "it must not be the port of "+other)
			continue
		}
		owner[l.port] = l.key
	}
}

// Render returns the configuration file of the server, with defaults filled
// in, or the error of Validate.
func (s Server) Render() (string, error) {
	s = s.WithDefaults()
	if err := s.validate(); err != nil {
		return "", err
	}
	var w hclWriter
	w.block("server", func() { s.writeServer(&w) })
	w.block("plugins", func() { s.writePlugins(&w) })
	writeTelemetry(&w, s.Prometheus)
	writeHealth(&w, s.Health)
	return w.String(), nil
}

func (s Server) writeServer(w *hclWriter) {
	w.text("trust_domain", s.TrustDomain)
	w.text("bind_address", s.BindAddress)
	w.number("bind_port", s.BindPort)
	w.text("socket_path", s.SocketPath)
	w.text("data_dir", s.DataDir)
	w.text("log_level", s.LogLevel)
	w.text("log_format", s.LogFormat)
	w.boolean("audit_log_enabled", !s.DisableAuditLog)
	w.text("ca_key_type", s.CAKeyType)
	w.block("ca_subject", func() {
		if len(s.CASubject.Country) > 0 {
			w.list("country", s.CASubject.Country)
		}
		if len(s.CASubject.Organization) > 0 {
			w.list("organization", s.CASubject.Organization)
		}
		w.text("common_name", s.CASubject.CommonName)
	})
	w.duration("ca_ttl", s.CATTL)
	w.duration("default_x509_svid_ttl", s.X509SVIDTTL)
	w.duration("default_jwt_svid_ttl", s.JWTSVIDTTL)
	w.duration("agent_ttl", s.AgentTTL)
	if s.JWTIssuer != "" {
		w.text("jwt_issuer", s.JWTIssuer)
	}
	w.list("admin_ids", s.AdminIDs)
	w.block("ratelimit", func() {
		w.boolean("attestation", !s.DisableAttestationRateLimit)
		w.boolean("signing", !s.DisableSigningRateLimit)
	})
	w.duration("prune_attested_nodes_expired_for", s.PruneAttestedNodesExpiredFor)
	if len(s.ProxyProtocolTrustedCIDRs) > 0 {
		w.list("proxy_protocol_trusted_cidrs", s.ProxyProtocolTrustedCIDRs)
	}
	writePQKEM(w, s.RequirePQKEM)
}

func (s Server) writePlugins(w *hclWriter) {
	w.plugin("DataStore", "sql", func() {
		if rds := s.DataStore.RDS; rds == nil {
			w.text("database_type", "postgres")
			w.text("connection_string", s.DataStore.connectionString())
		} else {
			w.block("database_type "+hclQuote("aws_postgres"), func() { w.text("region", rds.Region) })
			w.values("connection_string", s.DataStore.rdsConnection(rds.Endpoint, "read-write")...)
			if !rds.ReaderEndpoint.IsZero() {
				w.values("ro_connection_string", s.DataStore.rdsConnection(rds.ReaderEndpoint, "any")...)
			}
		}
		w.number("max_open_conns", s.DataStore.MaxOpenConns)
		w.number("max_idle_conns", s.DataStore.MaxIdleConns)
		w.duration("conn_max_lifetime", s.DataStore.ConnMaxLifetime)
	})
	if s.KMS != nil {
		w.plugin("KeyManager", "aws_kms", func() { s.KMS.write(w) })
	} else {
		w.plugin("KeyManager", "disk", func() { w.text("keys_path", s.KeysPath) })
	}
	w.plugin("NodeAttestor", "k8s_psat", func() {
		w.block("clusters =", func() {
			for _, c := range s.Clusters {
				w.block(hclQuote(c.Name)+" =", func() {
					w.list("service_account_allow_list", c.ServiceAccounts)
					w.list("audience", []string{PSATAudience})
				})
			}
		})
	})
	if u := s.UpstreamAuthority; s.PrivateCA != nil {
		w.plugin("UpstreamAuthority", "aws_pca", func() { s.PrivateCA.write(w) })
	} else if !u.SelfSigned {
		w.plugin("UpstreamAuthority", "disk", func() {
			w.text("cert_file_path", u.CertPath)
			w.text("key_file_path", u.KeyPath)
			if u.BundlePath != "" {
				w.text("bundle_file_path", u.BundlePath)
			}
		})
	}
	if len(s.Bundles) > 0 {
		w.plugin("BundlePublisher", "k8s_configmap", func() {
			w.block("clusters =", func() {
				for _, b := range s.Bundles {
					w.block(hclQuote(b.Cluster)+" =", func() {
						w.text("format", "spiffe")
						w.text("namespace", b.Namespace)
						w.text("configmap_name", b.Name)
						w.text("configmap_key", BundleKey)
					})
				}
			})
		})
	}
}

// connectionString is the connection string in the keyword form of libpq.
// target_session_attrs=read-write refuses a standby, which after a failover
// may still answer under the primary's name.
func (d Postgres) connectionString() string {
	return keywords([][2]string{
		{"host", d.Host},
		{"port", strconv.Itoa(d.Port)},
		{"dbname", d.Database},
		{"user", d.User},
		{"sslmode", d.SSLMode},
		{"sslrootcert", d.RootCertPath},
		{"sslcert", d.CertPath},
		{"sslkey", d.KeyPath},
		{"connect_timeout", strconv.Itoa(int(d.ConnectTimeout / time.Second))},
		{"target_session_attrs", "read-write"},
		{"application_name", "spire-server"},
	})
}

// rdsConnection is the connection string to an endpoint of RDS. There is no
// password in it: SPIRE adds the token, and refuses to start when it finds one.
func (d Postgres) rdsConnection(endpoint Value, session string) []Value {
	return []Value{{Text: "host="}, endpoint, {Text: " " + keywords([][2]string{
		{"port", strconv.Itoa(d.Port)},
		{"dbname", d.Database},
		{"user", d.User},
		{"sslmode", d.SSLMode},
		{"sslrootcert", d.RootCertPath},
		{"connect_timeout", strconv.Itoa(int(d.ConnectTimeout / time.Second))},
		{"target_session_attrs", session},
		{"application_name", "spire-server"},
	})}}
}

// keywords joins keys and values in the form of libpq.
func keywords(pairs [][2]string) string {
	var b strings.Builder
	for _, kv := range pairs {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(kv[0] + "=" + libpqQuote(kv[1]))
	}
	return b.String()
}

// libpqQuote quotes a value of a connection string when it needs it: a blank,
// a quote or a backslash would otherwise start another keyword.
func libpqQuote(s string) string {
	plain := func(r rune) bool {
		return r == '.' || r == '-' || r == '_' || r == '/' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func writeTelemetry(w *hclWriter, e Endpoint) {
	w.block("telemetry", func() {
		w.block("Prometheus", func() {
			w.text("host", e.Host)
			w.number("port", e.Port)
		})
	})
}

func writeHealth(w *hclWriter, e Endpoint) {
	w.block("health_checks", func() {
		w.boolean("listener_enabled", true)
		w.text("bind_address", e.Host)
		w.text("bind_port", strconv.Itoa(e.Port))
		w.text("live_path", "/live")
		w.text("ready_path", "/ready")
	})
}

func writePQKEM(w *hclWriter, required bool) {
	if required {
		w.block("experimental", func() { w.boolean("require_pq_kem", true) })
	}
}
