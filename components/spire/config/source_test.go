package config

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl"
	"github.com/stretchr/testify/require"
)

// A sourceKey is one key of the security architecture's hardened SPIRE
// configuration and what has become of it.
type sourceKey struct {
	key    string // in the document
	value  string // in the document
	intent string
	// at is where the intent is met in our file; want is the value there.
	at   string
	want any
	// gone lists paths that must not be in our file; why says what is done
	// instead of the key.
	gone []string
	why  string
}

var sourceServer = []sourceKey{
	{key: "server.bind_address", value: "127.0.0.1", intent: "do not expose the server", at: "server.bind_address", want: "0.0.0.0",
		why: "agents come from other pods and through a load balancer; the network policy exposes the port to those only"},
	{key: "server.bind_port", value: "8081", intent: "port for agents", at: "server.bind_port", want: 8081},
	{key: "server.socket_path", value: "/tmp/spire-server/private/api.sock", intent: "private administration socket", at: "server.socket_path", want: "/run/spire/socket/private/api.sock",
		why: "in a volume of the pod's own, not in /tmp"},
	{key: "server.trust_domain", value: "production.company.com", intent: "name of the trust domain", at: "server.trust_domain", want: "prod.company.com",
		why: "the document spells it in two ways; each stack has one"},
	{key: "server.data_dir", value: "/opt/spire/data", intent: "state of the server", at: "server.data_dir", want: "/run/spire/data", why: "a volume of each server's own"},
	{key: "server.log_level", value: "WARN", intent: "no noise", at: "server.log_level", want: "INFO", why: "WARN would silence the audit log, which is logged at INFO"},
	{key: "server.log_format", value: "json", intent: "machine-readable logs", at: "server.log_format", want: "json"},
	{key: "server.audit.enabled", value: "true", intent: "audit trail", at: "server.audit_log_enabled", want: true, gone: []string{"server.audit"}, why: "SPIRE has one switch; the audit log is part of the log"},
	{key: "server.audit.log_file", value: "/var/log/spire/audit.log", intent: "keep the audit trail", gone: []string{"server.audit", "server.log_file"}, why: "the container's output, which the log collector takes and stores immutably"},
	{key: "server.audit.max_size", value: "100", intent: "bound the audit log's size", gone: []string{"server.audit"}, why: "the kubelet rotates container logs; retention is the collector's"},
	{key: "server.audit.max_backups", value: "10", intent: "bound the audit log's number of files", gone: []string{"server.audit"}, why: "the kubelet rotates container logs; retention is the collector's"},
	{key: "server.tls.cert_file", value: "/opt/spire/certs/server.crt", intent: "server certificate", gone: []string{"server.tls"}, why: "the server serves with an SVID that it issues to itself and rotates"},
	{key: "server.tls.key_file", value: "/opt/spire/certs/server.key", intent: "server key", gone: []string{"server.tls"}, why: "kept by the key manager"},
	{key: "server.tls.ca_cert_file", value: "/opt/spire/certs/ca.crt", intent: "verify clients", gone: []string{"server.tls"}, why: "agents are verified against the trust bundle"},
	{key: "server.tls.min_version", value: "TLS1.2", intent: "no old TLS", gone: []string{"server.tls"}, why: "TLS 1.2 is the minimum in SPIRE's code, and both sides choose 1.3; require_pq_kem demands 1.3"},
	{key: "server.tls.cipher_suites", value: "ECDHE-RSA", intent: "forward secrecy and AEAD only", gone: []string{"server.tls"}, why: "not configurable; with EC keys and TLS 1.3 nothing weaker is negotiated"},
	{key: "plugins.DataStore.sql.database_type", value: "", intent: "Postgres", at: "plugins.DataStore.sql.plugin_data.database_type", want: "postgres"},
	{key: "plugins.DataStore.sql.connection_string", value: "postgresql://spire:$PASSWORD@localhost/spire?sslmode=require", intent: "encrypted, authenticated connection",
		at: "plugins.DataStore.sql.plugin_data.connection_string",
		want: "host=spire-db-rw.spire-server.svc port=5432 dbname=spire user=spire sslmode=verify-full " +
			"sslrootcert=/run/spire/db/ca/ca.crt sslcert=/run/spire/db/client/tls.crt sslkey=/run/spire/db/client/tls.key " +
			"connect_timeout=3 target_session_attrs=read-write application_name=spire-server",
		why: "require does not verify the database; a client certificate replaces the password; a standby is refused"},
	{key: "plugins.DataStore.sql.max_open_conns", value: "20", intent: "bound the connections", at: "plugins.DataStore.sql.plugin_data.max_open_conns", want: 20},
	{key: "plugins.DataStore.sql.max_idle_conns", value: "10", intent: "bound the idle connections", at: "plugins.DataStore.sql.plugin_data.max_idle_conns", want: 10},
	{key: "plugins.DataStore.sql.conn_max_lifetime", value: "1h", intent: "renew connections", at: "plugins.DataStore.sql.plugin_data.conn_max_lifetime", want: "2m", why: "an hour would be an hour on a demoted primary"},
	{key: "plugins.KeyManager.disk.keys_path", value: "/opt/spire/data/keys", intent: "keys survive a restart", at: "plugins.KeyManager.disk.plugin_data.keys_path", want: "/run/spire/data/keys.json",
		why: "a file on the server's own volume; a shared one would be overwritten by each server"},
	{key: "plugins.KeyManager.aws_kms.region", value: "us-west-2", intent: "keys in an HSM", gone: []string{"plugins.KeyManager.aws_kms"}, why: "commented out in the document; disk keys here"},
	{key: "plugins.KeyManager.aws_kms.key_metadata_file", value: "/opt/spire/aws_kms_keys.json", intent: "identify this server's keys", gone: []string{"plugins.KeyManager.aws_kms"}, why: "removed from SPIRE; its successor is key_identifier_file"},
	{key: "plugins.NodeAttestor.join_token.trust_domain", value: "production.company.com", intent: "attest agents", at: "plugins.NodeAttestor.k8s_psat.plugin_data.clusters.prod.service_account_allow_list",
		want: []any{"spire-agent:spire-agent"}, gone: []string{"plugins.NodeAttestor.join_token"}, why: "the option does not exist, and a join token is good for one agent once; service account tokens let an agent come back"},
	{key: "plugins.UpstreamAuthority.disk.cert_file_path", value: "/opt/spire/certs/upstream_ca.crt", intent: "upstream CA", at: "plugins.UpstreamAuthority.disk.plugin_data.cert_file_path", want: "/run/spire/upstream/tls.crt", why: "from a Secret"},
	{key: "plugins.UpstreamAuthority.disk.key_file_path", value: "/opt/spire/certs/upstream_ca.key", intent: "upstream CA's key", at: "plugins.UpstreamAuthority.disk.plugin_data.key_file_path", want: "/run/spire/upstream/tls.key", why: "from a Secret"},
}

var sourceAgent = []sourceKey{
	{key: "agent.data_dir", value: "/opt/spire/data", intent: "cache of the agent", at: "agent.data_dir", want: "/run/spire/data"},
	{key: "agent.log_level", value: "WARN", intent: "no noise", at: "agent.log_level", want: "INFO", why: "WARN would hide which identities are created and renewed"},
	{key: "agent.log_format", value: "json", intent: "machine-readable logs", at: "agent.log_format", want: "json"},
	{key: "agent.server_address", value: "spire-server.internal", intent: "reach the servers", at: "agent.server_address", want: "spire-server-entry.spire-server.svc.cluster.local",
		why: "a name behind which both entries of the load balancer are; the agent uses all addresses"},
	{key: "agent.server_port", value: "8081", intent: "port of the servers", at: "agent.server_port", want: 8081},
	{key: "agent.socket_path", value: "/tmp/spire-agent/public/api.sock", intent: "Workload API", at: "agent.socket_path", want: "/run/spire/agent-sockets/spire-agent.sock", why: "the CSI driver mounts the directory into workloads, read-only"},
	{key: "agent.trust_domain", value: "production.company.com", intent: "name of the trust domain", at: "agent.trust_domain", want: "prod.company.com"},
	{key: "agent.trust_bundle_path", value: "/opt/spire/conf/bootstrap.crt", intent: "verify the server at first contact", at: "agent.trust_bundle_path", want: "/run/spire/bundle/bundle.spiffe",
		gone: []string{"agent.insecure_bootstrap"}, why: "from the ConfigMap to which the servers publish"},
	{key: "agent.workload_api.socket_path", value: "/tmp/spire-agent/public/api.sock", intent: "Workload API", at: "agent.socket_path", want: "/run/spire/agent-sockets/spire-agent.sock", gone: []string{"agent.workload_api"}, why: "the block does not exist"},
	{key: "agent.workload_api.socket_mode", value: "0600", intent: "restrict the socket", gone: []string{"agent.workload_api", "agent.socket_mode"}, why: "the option does not exist, and 0600 would lock workloads out; a pod sees the socket only through a CSI volume, and attestation decides"},
	{key: "agent.workload_api.socket_uid", value: "1000", intent: "restrict the socket", gone: []string{"agent.workload_api", "agent.socket_uid"}, why: "as socket_mode"},
	{key: "agent.workload_api.socket_gid", value: "1000", intent: "restrict the socket", gone: []string{"agent.workload_api", "agent.socket_gid"}, why: "as socket_mode"},
	{key: "plugins.NodeAttestor.join_token.trust_domain", value: "production.company.com", intent: "attest the node", at: "plugins.NodeAttestor.k8s_psat.plugin_data.cluster", want: "prod", gone: []string{"plugins.NodeAttestor.join_token"}, why: "as on the server"},
	{key: "plugins.KeyManager.memory", value: "{}", intent: "no keys on the node's disk", at: "plugins.KeyManager.memory.plugin_data", want: map[string]any{}},
	{key: "plugins.WorkloadAttestor.unix.discover_workload_path", value: "true", intent: "tell workloads on a node apart", gone: []string{"plugins.WorkloadAttestor.unix"}, why: "hashing arbitrary programs is a way to stall the agent; pods are told apart by namespace, service account and pod"},
	{key: "plugins.WorkloadAttestor.k8s.kubelet_read_only_port", value: "10255", intent: "ask the kubelet for pods", at: "plugins.WorkloadAttestor.k8s.plugin_data.kubelet_secure_port", want: 10250,
		gone: []string{"plugins.WorkloadAttestor.k8s.plugin_data.kubelet_read_only_port", "plugins.WorkloadAttestor.k8s.plugin_data.skip_kubelet_verification"},
		why:  "the read-only port is not authenticated; the kubelet's certificate is verified against kubelet_ca_path"},
	{key: "plugins.WorkloadAttestor.k8s.max_poll_attempts", value: "5", intent: "wait for a new container to be reported", at: "plugins.WorkloadAttestor.k8s.plugin_data.max_poll_attempts", want: 60, why: "half a minute in small steps: five steps of 5s delay a first identity by up to 5s"},
	{key: "plugins.WorkloadAttestor.k8s.poll_retry_interval", value: "5s", intent: "wait for a new container to be reported", at: "plugins.WorkloadAttestor.k8s.plugin_data.poll_retry_interval", want: "500ms", why: "as max_poll_attempts"},
}

func TestSourceDocument(t *testing.T) {
	server, err := minimalServer().Render()
	require.NoError(t, err)
	agent, err := minimalAgent().Render()
	require.NoError(t, err)
	for _, file := range []struct {
		name string
		text string
		keys []sourceKey
	}{{"server", server, sourceServer}, {"agent", agent, sourceAgent}} {
		tree := parse(t, file.text)
		for _, k := range file.keys {
			t.Run(file.name+"/"+k.key, func(t *testing.T) {
				require.NotEmpty(t, k.intent)
				require.True(t, k.at != "" || len(k.gone) > 0, "the key is neither met nor replaced")
				if k.at != "" {
					require.Equal(t, k.want, lookup(t, tree, k.at))
				}
				for _, path := range k.gone {
					require.Nil(t, lookup(t, tree, path), "%s must not be in the file", path)
				}
				if len(k.gone) > 0 {
					require.NotEmpty(t, k.why, "what replaces the key must be said")
				}
			})
		}
	}
}

// parse reads HCL into maps; a block of a plugin is below its type and name.
func parse(tb testing.TB, text string) map[string]any {
	tb.Helper()
	var tree map[string]any
	require.NoError(tb, hcl.Decode(&tree, text))
	return merge(tree).(map[string]any)
}

// merge turns HCL's lists of objects into one object each.
func merge(v any) any {
	switch v := v.(type) {
	case []map[string]any:
		out := map[string]any{}
		for _, m := range v {
			for key, value := range m {
				value = merge(value)
				if old, ok := out[key].(map[string]any); ok {
					if add, ok := value.(map[string]any); ok {
						maps.Copy(old, add)
						continue
					}
				}
				out[key] = value
			}
		}
		return out
	case map[string]any:
		return merge([]map[string]any{v})
	default:
		return v
	}
}

// lookup returns the value at a dotted path, or nil.
func lookup(tb testing.TB, tree map[string]any, path string) any {
	tb.Helper()
	var v any = tree
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		if v, ok = m[name]; !ok {
			return nil
		}
	}
	return v
}

// keysOf lists all dotted paths of a tree.
func keysOf(tree map[string]any) []string {
	var keys []string
	var walk func(prefix string, m map[string]any)
	walk = func(prefix string, m map[string]any) {
		for key, value := range m {
			keys = append(keys, prefix+key)
			if below, ok := value.(map[string]any); ok {
				walk(prefix+key+".", below)
			}
		}
	}
	walk("", tree)
	slices.Sort(keys)
	return keys
}
