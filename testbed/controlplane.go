package testbed

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Paths inside every machine.
const (
	configDir  = "/etc/kubernetes"
	pkiDir     = configDir + "/pki"
	programDir = "/usr/local/bin"
)

// credentials are the authorities of a cluster and the directory of the host that holds every key: one directory a machine,
// so that a node sees only its own.
type credentials struct {
	cluster *authority // signs the API server, kubelets and all clients
	front   *authority // signs the API server as a client of aggregated APIs
	dir     string
}

func openCredentials(dir string) (*credentials, error) {
	cluster, err := openAuthority(dir, "ca")
	if err != nil {
		return nil, err
	}
	front, err := openAuthority(dir, "front-proxy-ca")
	if err != nil {
		return nil, err
	}
	return &credentials{cluster: cluster, front: front, dir: dir}, nil
}

// prepareControlPlane writes the certificates and configuration of the control plane into its machine directory.
func prepareControlPlane(dir string, c *credentials) error {
	config := filepath.Join(dir, "config")
	pki := filepath.Join(config, "pki")
	api := []identity{
		{CommonName: "kube-apiserver",
			Names:     []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + clusterDomain, "localhost"},
			Addresses: []string{serviceAPI, controlPlaneAddress, "127.0.0.1"}},
		{CommonName: "etcd", Names: []string{"localhost"}, Addresses: []string{"127.0.0.1"}},
		{CommonName: "kube-apiserver-etcd-client"},
		{CommonName: "kube-apiserver-kubelet-client"},
		{CommonName: "system:kube-controller-manager"},
		{CommonName: "system:kube-scheduler"},
		{CommonName: "service-accounts"},
	}
	names := []string{"apiserver", "etcd", "etcd-client", "kubelet-client", "controller-manager", "scheduler", "service-accounts"}
	for i, id := range api {
		if err := c.cluster.issue(pki, names[i], id); err != nil {
			return err
		}
	}
	if err := c.front.issue(pki, "front-proxy-client", identity{CommonName: "front-proxy-client"}); err != nil {
		return err
	}
	encryption := filepath.Join(config, "encryption.yaml")
	if !exists(encryption) {
		text, err := encryptionConfiguration()
		if err != nil {
			return err
		}
		if err := writeFile(encryption, []byte(text), 0o600); err != nil {
			return err
		}
	}
	server := fmt.Sprintf("https://%s:%d", controlPlaneAddress, APIServerPort)
	return errors.Join(
		copyInto(c.cluster.certFile(), filepath.Join(pki, "ca.crt")),
		copyInto(c.front.certFile(), filepath.Join(pki, "front-proxy-ca.crt")),
		writeFile(filepath.Join(config, "audit-policy.yaml"), []byte(auditPolicy), 0o644),
		writeFile(filepath.Join(config, "controller-manager.kubeconfig"), kubeconfigFiles(server, pkiDir, "controller-manager"), 0o600),
		writeFile(filepath.Join(config, "scheduler.kubeconfig"), kubeconfigFiles(server, pkiDir, "scheduler"), 0o600),
	)
}

// encryptionConfiguration encrypts Secrets at rest with a key of this cluster's own.
func encryptionConfiguration() (string, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	return fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - secretbox:
          keys:
            - name: testbed
              secret: %s
      - identity: {}
`, base64.StdEncoding.EncodeToString(key)), nil
}

// auditPolicy records who did what to which object. Bodies of Secrets and tokens are never recorded.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    users: ["system:apiserver", "system:kube-scheduler", "system:kube-controller-manager"]
    verbs: [get, list, watch]
  - level: None
    userGroups: ["system:nodes"]
    verbs: [get, list, watch]
  - level: None
    resources:
      - group: coordination.k8s.io
        resources: [leases]
  - level: None
    nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi/*"]
  - level: Metadata
`

// controlPlaneServices are the programs of the control plane. They start together: each retries until what it needs answers.
func controlPlaneServices() []service {
	program := func(name string) string { return programDir + "/" + name }
	pki := func(name string) string { return pkiDir + "/" + name }
	return []service{
		{Name: "etcd", Args: []string{program("etcd"),
			"--name=testbed",
			"--data-dir=/var/lib/etcd",
			"--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://127.0.0.1:2379",
			"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
			"--initial-cluster=testbed=http://127.0.0.1:2380",
			"--client-cert-auth", "--trusted-ca-file=" + pki("ca.crt"),
			"--cert-file=" + pki("etcd.crt"), "--key-file=" + pki("etcd.key"),
			// The testbed survives a killed process, not a power cut: its disk need not be waited for at every write.
			"--unsafe-no-fsync",
			"--log-level=warn",
		}},
		{Name: "kube-apiserver", Args: []string{program("kube-apiserver"),
			"--advertise-address=" + controlPlaneAddress,
			fmt.Sprintf("--secure-port=%d", APIServerPort),
			"--etcd-servers=https://127.0.0.1:2379",
			"--etcd-cafile=" + pki("ca.crt"), "--etcd-certfile=" + pki("etcd-client.crt"), "--etcd-keyfile=" + pki("etcd-client.key"),
			"--service-cluster-ip-range=" + ServiceRange,
			"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
			"--client-ca-file=" + pki("ca.crt"),
			"--kubelet-certificate-authority=" + pki("ca.crt"),
			"--kubelet-client-certificate=" + pki("kubelet-client.crt"), "--kubelet-client-key=" + pki("kubelet-client.key"),
			// Node names resolve nowhere.
			"--kubelet-preferred-address-types=InternalIP",
			"--service-account-issuer=https://kubernetes.default.svc." + clusterDomain,
			"--service-account-signing-key-file=" + pki("service-accounts.key"),
			"--service-account-key-file=" + pki("service-accounts.crt"),
			"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"),
			"--requestheader-allowed-names=front-proxy-client",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--requestheader-group-headers=X-Remote-Group",
			"--requestheader-username-headers=X-Remote-User",
			"--proxy-client-cert-file=" + pki("front-proxy-client.crt"), "--proxy-client-key-file=" + pki("front-proxy-client.key"),
			// No Service proxy runs here: webhooks and aggregated APIs are called on pod addresses.
			"--enable-aggregator-routing=true",
			"--authorization-mode=Node,RBAC",
			"--anonymous-auth=false",
			"--enable-admission-plugins=NodeRestriction",
			// Pod security decides who may be privileged: the namespace of the agent and the CSI driver.
			"--allow-privileged=true",
			"--profiling=false",
			"--encryption-provider-config=" + configDir + "/encryption.yaml",
			"--audit-policy-file=" + configDir + "/audit-policy.yaml",
			"--audit-log-path=/var/log/testbed/audit.log", "--audit-log-maxsize=50", "--audit-log-maxbackup=2",
		}},
		{Name: "kube-controller-manager", Args: []string{program("kube-controller-manager"),
			"--kubeconfig=" + configDir + "/controller-manager.kubeconfig",
			"--authentication-kubeconfig=" + configDir + "/controller-manager.kubeconfig",
			"--authorization-kubeconfig=" + configDir + "/controller-manager.kubeconfig",
			"--use-service-account-credentials=true",
			"--service-account-private-key-file=" + pki("service-accounts.key"),
			"--root-ca-file=" + pki("ca.crt"),
			"--leader-elect=false",
			"--profiling=false",
			fmt.Sprintf("--node-monitor-grace-period=%s", NodeGracePeriod),
			"--node-monitor-period=1s",
		}},
		{Name: "kube-scheduler", Args: []string{program("kube-scheduler"),
			"--kubeconfig=" + configDir + "/scheduler.kubeconfig",
			"--authentication-kubeconfig=" + configDir + "/scheduler.kubeconfig",
			"--authorization-kubeconfig=" + configDir + "/scheduler.kubeconfig",
			"--leader-elect=false",
			"--profiling=false",
		}},
	}
}

// kubeconfigFiles is a kubeconfig that names files of pki by their paths inside a machine.
func kubeconfigFiles(server, pki, name string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
  - name: testbed
    cluster: {server: "%[1]s", certificate-authority: %[2]s/ca.crt}
users:
  - name: %[3]s
    user: {client-certificate: %[2]s/%[3]s.crt, client-key: %[2]s/%[3]s.key}
contexts:
  - name: testbed
    context: {cluster: testbed, user: %[3]s}
current-context: testbed
`, server, pki, name)
}

// kubeconfigData is a kubeconfig that carries its certificates, for use on the host.
func kubeconfigData(server, caFile, certFile, keyFile string) ([]byte, error) {
	var encoded [3]string
	for i, file := range []string{caFile, certFile, keyFile} {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		encoded[i] = base64.StdEncoding.EncodeToString(data)
	}
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
  - name: testbed
    cluster:
      server: %s
      certificate-authority-data: %s
users:
  - name: admin
    user:
      client-certificate-data: %s
      client-key-data: %s
contexts:
  - name: testbed
    context: {cluster: testbed, user: admin}
current-context: testbed
`, server, encoded[0], encoded[1], encoded[2]), nil
}

func copyInto(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, data, 0o644)
}
