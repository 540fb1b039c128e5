package testbed

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// NodeGracePeriod is how long a node may be silent before Kubernetes holds it for lost and takes its pods out of service. The
// upstream default is 50s (kube-controller-manager --node-monitor-grace-period, 1.32 and later).
const NodeGracePeriod = 16 * time.Second

// prepareNode writes the certificates and configuration of a node into its machine directory.
func prepareNode(dir string, n node, c *credentials, cgroupPath, sandboxImage string) error {
	config := filepath.Join(dir, "config")
	pki := filepath.Join(config, "pki")
	err := errors.Join(
		c.cluster.issue(pki, "kubelet", identity{CommonName: "system:node:" + n.Name, Organizations: []string{"system:nodes"}}),
		c.cluster.issue(pki, "kubelet-server", identity{CommonName: "system:node:" + n.Name, Organizations: []string{"system:nodes"},
			Names: []string{n.Name}, Addresses: []string{n.Address}}),
		c.cluster.issue(pki, "kube-proxy", identity{CommonName: "system:kube-proxy"}),
		c.cluster.issue(pki, "kube-router", identity{CommonName: kubeRouterUser}),
		copyInto(c.cluster.certFile(), filepath.Join(pki, "ca.crt")),
	)
	if err != nil {
		return err
	}
	server := fmt.Sprintf("https://%s:%d", controlPlaneAddress, APIServerPort)
	for _, user := range []string{"kubelet", "kube-proxy", "kube-router"} {
		if err := writeFile(filepath.Join(config, user+".kubeconfig"), kubeconfigFiles(server, pkiDir, user), 0o600); err != nil {
			return err
		}
	}
	return errors.Join(
		writeFile(filepath.Join(config, "kubelet.yaml"), fmt.Appendf(nil, kubeletConfiguration, pkiDir, serviceDNS, clusterDomain, cgroupPath), 0o644),
		writeFile(filepath.Join(config, "kube-proxy.yaml"), fmt.Appendf(nil, kubeProxyConfiguration, configDir, PodRange, n.Name), 0o644),
		writeFile(filepath.Join(config, "containerd.toml"), fmt.Appendf(nil, containerdConfiguration, sandboxImage), 0o644),
		writeFile(filepath.Join(config, "cni", "10-pods.conflist"), fmt.Appendf(nil, cniConfiguration, n.PodCIDR), 0o644),
	)
}

const (
	kubeRouterUser = "testbed:kube-router"
)

const kubeletConfiguration = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[1]s/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: %[1]s/kubelet-server.crt
tlsPrivateKeyFile: %[1]s/kubelet-server.key
tlsMinVersion: VersionTLS12
readOnlyPort: 0
clusterDNS: [%[2]s]
clusterDomain: %[3]s
resolvConf: ""
cgroupDriver: cgroupfs
cgroupRoot: %[4]s
cgroupsPerQOS: true
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
# An unprivileged host cannot lower a process's out-of-memory score.
oomScoreAdj: 0
# The nodes share the host's disk: a full host must not make all three evict their pods at once.
localStorageCapacityIsolation: false
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", imagefs.available: "0%%", nodefs.inodesFree: "0%%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
# A quarter of the lease is the renewal interval: a lost node is seen within the grace period, a slow one is not.
nodeLeaseDurationSeconds: 12
nodeStatusUpdateFrequency: 4s
syncFrequency: 10s
serializeImagePulls: false
registryPullQPS: 0
shutdownGracePeriod: 0s
logging: {verbosity: 1}
`

const kubeProxyConfiguration = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %[1]s/kube-proxy.kubeconfig}
clusterCIDR: %[2]s
hostnameOverride: %[3]s
mode: nftables
nftables: {minSyncPeriod: 100ms}
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
`

// containerdConfiguration is for containerd 1.6 (configuration version 2).
const containerdConfiguration = `version = 2
oom_score = 0
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  # runc cannot lower the score of a sandbox where the host lacks CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
`

// cniConfiguration routes every pod's packets through the node, also those between two pods of one node, so that policy sees them
// all. Addresses are not translated: what leaves a pod's range has no route.
const cniConfiguration = `{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": %q}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}, "snat": false}
  ]
}
`

// nodeServices are the programs of a node. They start together.
func nodeServices(n node) []service {
	return []service{
		{Name: "containerd", Args: []string{"/usr/bin/containerd", "--config", configDir + "/containerd.toml"}},
		{Name: "kubelet", Args: []string{programDir + "/kubelet",
			"--config=" + configDir + "/kubelet.yaml",
			"--kubeconfig=" + configDir + "/kubelet.kubeconfig",
			"--hostname-override=" + n.Name,
			"--node-ip=" + n.Address,
			"--node-labels=topology.kubernetes.io/zone=" + n.Zone,
			"--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
		}},
		{Name: "kube-proxy", Args: []string{programDir + "/kube-proxy", "--config=" + configDir + "/kube-proxy.yaml"}},
		{Name: "kube-router", Args: []string{programDir + "/kube-router",
			"--kubeconfig=" + configDir + "/kube-router.kubeconfig",
			"--hostname-override=" + n.Name,
			"--run-firewall=true", "--run-router=false", "--run-service-proxy=false", "--run-loadbalancer=false",
			"--service-cluster-ip-range=" + ServiceRange,
			"--iptables-sync-period=1m",
			"--metrics-port=0",
			"--v=0",
		}},
	}
}

// nodeSysctls are per network namespace.
func nodeSysctls() map[string]string {
	return map[string]string{
		"net/ipv4/ip_forward":                 "1",
		"net/ipv4/conf/all/rp_filter":         "0",
		"net/ipv4/conf/default/rp_filter":     "0",
		"net/ipv4/conf/all/route_localnet":    "0",
		"net/ipv6/conf/all/disable_ipv6":      "1",
		"net/ipv6/conf/default/disable_ipv6":  "1",
		"net/ipv4/ip_unprivileged_port_start": "1024",
	}
}

// nodeShadows are the host's settings that a kubelet insists on (k8s.io/component-helpers/node/util/sysctl). Here it finds them
// as it wants them, and the host keeps its own.
func nodeShadows() map[string]string {
	return map[string]string{
		"vm/overcommit_memory":      "1",
		"vm/panic_on_oom":           "0",
		"kernel/panic":              "10",
		"kernel/panic_on_oops":      "1",
		"kernel/keys/root_maxkeys":  "1000000",
		"kernel/keys/root_maxbytes": "25000000",
	}
}
