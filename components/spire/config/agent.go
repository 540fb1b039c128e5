package config

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Paths inside the container of the SPIRE agent that the defaults use.
const (
	AgentDataDir = "/run/spire/data"
	// AgentSocketDir is also the directory on the node, from which the CSI
	// driver mounts it into workloads.
	AgentSocketDir    = "/run/spire/agent-sockets"
	AgentSocketPath   = AgentSocketDir + "/spire-agent.sock"
	AgentBundlePath   = "/run/spire/bundle/" + BundleKey
	AgentPSATPath     = "/var/run/secrets/tokens/spire-agent"
	AgentKubeletCA    = "/var/run/secrets/kubelet/ca.crt"
	AgentKubeletToken = "/var/run/secrets/kubelet/token"
)

// KubeletAddressEnv is the environment variable from which the agent takes the
// name or address under which it reaches the kubelet of its own node, and
// which the kubelet's certificate must carry.
const KubeletAddressEnv = "MY_NODE_ADDRESS"

// Agent is the configuration of a SPIRE agent.
type Agent struct {
	// TrustDomain is the name of the trust domain. Required.
	TrustDomain string
	// ServerAddress is the DNS name or address of the servers, or of the load
	// balancer in front of them. The agent resolves the name itself and spreads
	// its calls over all addresses behind it. Required.
	ServerAddress string
	// ServerPort is the servers' port. Default 8081.
	ServerPort int
	// SocketPath is the Workload API's socket. SPIRE makes it accessible to
	// everyone on the node by design: attestation decides who gets what.
	// Default AgentSocketPath.
	SocketPath string
	// DataDir holds the agent's cache. Default AgentDataDir.
	DataDir string
	// LogLevel is DEBUG or INFO; the messages on identities given out are
	// logged at INFO. Default INFO.
	LogLevel string
	// LogFormat is json or text. Default json.
	LogFormat string
	// TrustBundlePath is the bundle, in the SPIFFE format, with which the agent
	// verifies the server at its first contact. Default AgentBundlePath.
	TrustBundlePath string
	// RebootstrapMode says what the agent does when the servers have come to
	// use a CA that it does not know, for example after an outage longer than
	// the bundle's life: never (it gives up), auto or always (it reads
	// TrustBundlePath again). Default auto.
	RebootstrapMode string
	// RebootstrapDelay is how long the agent sees unknown servers before it
	// does. Default 10m.
	RebootstrapDelay time.Duration
	// Cluster is the name of the Kubernetes cluster as the server knows it.
	// Required.
	Cluster string
	// KubeletPort is the kubelet's port with TLS. Default 10250. There is no
	// setting for the read-only port: what it says is not authenticated.
	KubeletPort int
	// KubeletCAPath is the CA of the kubelets' serving certificates. Default
	// AgentKubeletCA. There is no setting to skip the verification.
	KubeletCAPath string
	// KubeletTokenPath is the token with which the agent authenticates to the
	// kubelet. Default AgentKubeletToken.
	KubeletTokenPath string
	// MaxPollAttempts and PollRetryInterval say how often and how far apart the
	// kubelet is asked for a container that it does not report yet. Defaults 60
	// and 500ms: half a minute, in steps that do not delay a first identity.
	MaxPollAttempts   int
	PollRetryInterval time.Duration
	// UnixAttestor adds selectors of the process (uid, gid) to those of the pod.
	// Off by default: nothing that runs in a pod needs them.
	UnixAttestor bool
	// AuthorizedDelegates are SPIFFE IDs that may fetch identities on behalf of
	// other workloads. Default: none.
	AuthorizedDelegates []string
	// RequirePQKEM refuses servers without TLS 1.3 and a post-quantum key
	// exchange. Experimental in SPIRE.
	RequirePQKEM bool
	// Prometheus is the metrics endpoint, on the node's network. Default
	// 0.0.0.0:9988.
	Prometheus Endpoint
	// Health is the endpoint with /live and /ready. The agent shares the node's
	// network, so the default, 127.0.0.1:9982, is for the kubelet only.
	Health Endpoint
}

// WithDefaults returns the configuration with every field that is not set
// filled with its default.
func (a Agent) WithDefaults() Agent {
	a.ServerPort = cmp.Or(a.ServerPort, 8081)
	a.SocketPath = cmp.Or(a.SocketPath, AgentSocketPath)
	a.DataDir = cmp.Or(a.DataDir, AgentDataDir)
	a.LogLevel = cmp.Or(a.LogLevel, "INFO")
	a.LogFormat = cmp.Or(a.LogFormat, "json")
	a.TrustBundlePath = cmp.Or(a.TrustBundlePath, AgentBundlePath)
	a.RebootstrapMode = cmp.Or(a.RebootstrapMode, "auto")
	a.RebootstrapDelay = cmp.Or(a.RebootstrapDelay, 10*time.Minute)
	a.KubeletPort = cmp.Or(a.KubeletPort, 10250)
	a.KubeletCAPath = cmp.Or(a.KubeletCAPath, AgentKubeletCA)
	a.KubeletTokenPath = cmp.Or(a.KubeletTokenPath, AgentKubeletToken)
	a.MaxPollAttempts = cmp.Or(a.MaxPollAttempts, 60)
	a.PollRetryInterval = cmp.Or(a.PollRetryInterval, 500*time.Millisecond)
	a.Prometheus.Host = cmp.Or(a.Prometheus.Host, "0.0.0.0")
	a.Prometheus.Port = cmp.Or(a.Prometheus.Port, 9988)
	a.Health.Host = cmp.Or(a.Health.Host, "127.0.0.1")
	a.Health.Port = cmp.Or(a.Health.Port, 9982)
	return a
}

// Validate reports everything that is wrong with the configuration after its
// defaults are filled in, joined into one error, or nil.
func (a Agent) Validate() error { return a.WithDefaults().validate() }

func (a Agent) validate() error {
	var p problems
	p.trustDomain("trust_domain", a.TrustDomain)
	p.host("server_address", a.ServerAddress)
	p.port("server_port", a.ServerPort)
	p.socket("socket_path", a.SocketPath)
	p.file("data_dir", a.DataDir)
	p.logging(a.LogLevel, a.LogFormat, true)
	p.file("trust_bundle_path", a.TrustBundlePath)
	p.oneOf("rebootstrap_mode", a.RebootstrapMode, "never", "auto", "always")
	p.positive("rebootstrap_delay", a.RebootstrapDelay)
	p.kubernetesName("NodeAttestor.k8s_psat.cluster", a.Cluster)
	p.port("WorkloadAttestor.k8s.kubelet_secure_port", a.KubeletPort)
	p.file("WorkloadAttestor.k8s.kubelet_ca_path", a.KubeletCAPath)
	p.file("WorkloadAttestor.k8s.token_path", a.KubeletTokenPath)
	if a.MaxPollAttempts < 1 {
		p.add("WorkloadAttestor.k8s.max_poll_attempts", a.MaxPollAttempts, "it must be at least 1")
	}
	p.positive("WorkloadAttestor.k8s.poll_retry_interval", a.PollRetryInterval)
	for i, id := range a.AuthorizedDelegates {
		if _, err := spiffeid.FromString(id); err != nil {
			p.add(fmt.Sprintf("authorized_delegates[%d]", i), id, "it must be a SPIFFE ID")
		}
	}
	p.ip("telemetry.Prometheus.host", a.Prometheus.Host)
	p.port("telemetry.Prometheus.port", a.Prometheus.Port)
	p.ip("health_checks.bind_address", a.Health.Host)
	p.port("health_checks.bind_port", a.Health.Port)
	p.distinctPorts(
		listener{"telemetry.Prometheus.port", a.Prometheus.Port},
		listener{"health_checks.bind_port", a.Health.Port},
	)
	return p.err()
}

// Render returns the configuration file of the agent, with defaults filled in,
// or the error of Validate.
func (a Agent) Render() (string, error) {
	a = a.WithDefaults()
	if err := a.validate(); err != nil {
		return "", err
	}
	var w hclWriter
	w.block("agent", func() {
		w.text("trust_domain", a.TrustDomain)
		w.text("server_address", a.ServerAddress)
		w.number("server_port", a.ServerPort)
		w.text("socket_path", a.SocketPath)
		w.text("data_dir", a.DataDir)
		w.text("log_level", a.LogLevel)
		w.text("log_format", a.LogFormat)
		w.text("trust_bundle_path", a.TrustBundlePath)
		w.text("trust_bundle_format", "spiffe")
		w.text("rebootstrap_mode", a.RebootstrapMode)
		w.duration("rebootstrap_delay", a.RebootstrapDelay)
		if len(a.AuthorizedDelegates) > 0 {
			w.list("authorized_delegates", a.AuthorizedDelegates)
		}
		writePQKEM(&w, a.RequirePQKEM)
	})
	w.block("plugins", func() {
		w.plugin("NodeAttestor", "k8s_psat", func() {
			w.text("cluster", a.Cluster)
			w.text("token_path", AgentPSATPath)
		})
		w.plugin("KeyManager", "memory", func() {})
		w.plugin("WorkloadAttestor", "k8s", func() {
			w.number("kubelet_secure_port", a.KubeletPort)
			w.text("kubelet_ca_path", a.KubeletCAPath)
			w.text("token_path", a.KubeletTokenPath)
			w.text("node_name_env", KubeletAddressEnv)
			w.number("max_poll_attempts", a.MaxPollAttempts)
			w.duration("poll_retry_interval", a.PollRetryInterval)
		})
		if a.UnixAttestor {
			w.plugin("WorkloadAttestor", "unix", func() { w.boolean("discover_workload_path", false) })
		}
	})
	writeTelemetry(&w, a.Prometheus)
	writeHealth(&w, a.Health)
	return w.String(), nil
}
