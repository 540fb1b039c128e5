// Package agent deploys the SPIRE agent on every node of a Kubernetes cluster.
//
// In flow the trust domain, the servers' address, the ConfigMap with the trust
// bundle and the image. Out comes the Workload API on every node: a socket in a
// directory that the CSI driver mounts into workloads.
//
// The agent needs more than a pod normally gets, so its namespace runs under
// the pod security standard "privileged":
//
//   - the node's process table, because the kernel names the caller of the
//     Workload API by process, and the control group of that process names its
//     container;
//   - the node's network, because it asks the kubelet of its own node about the
//     container, and because it has to work before and without the pod network;
//   - a directory of the node, because workloads outlive the agent's pod and
//     must find the socket of the next one in the same place;
//   - root, because that directory is root's.
//
// It is not a privileged container: it has no capability, cannot gain any, and
// cannot write its root file system. Of the Kubernetes API it may use nothing
// but the kubelet's list of pods.
//
// The kubelet is verified against the cluster's CA by the address or name that
// Args.KubeletAddress chooses; there is no way to skip that.
package agent

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"

	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	rbacv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/rbac/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/spire/config"
)

// A KubeletAddress says under what name the agent reaches the kubelet of its
// node. The kubelet's serving certificate must carry it.
type KubeletAddress string

const (
	// KubeletByIP takes the node's address.
	KubeletByIP KubeletAddress = "ip"
	// KubeletByNodeName takes the node's name, which the node must be able to
	// resolve.
	KubeletByNodeName KubeletAddress = "node-name"
)

const (
	defaultName   = "spire-agent"
	configKey     = "agent.conf"
	configDir     = "/run/spire/config"
	kubeletCADir  = "/run/spire/kubelet-ca"
	kubeletCAFile = kubeletCADir + "/ca.crt"
)

// Args are the arguments of New.
type Args struct {
	// Name is the metadata.name of the DaemonSet and of the service account,
	// which the servers have to allow. Default "spire-agent".
	Name string
	// Namespace is where the agents run; pod security "privileged". Required.
	Namespace string
	// TrustDomain is the name of the trust domain. Required.
	TrustDomain string
	// ClusterName is the cluster's name as the servers know it. Required.
	ClusterName string
	// ServerAddress is the name under which the agents find the load balancer's
	// entries, or the servers. All addresses behind it are used. Required.
	ServerAddress string
	// Image is the image of spire-agent, whose entry point is the program.
	// Required.
	Image pulumi.StringInput
	// BundleConfigMap is the ConfigMap in Namespace with the trust bundle under
	// the key "bundle.spiffe". Required.
	BundleConfigMap pulumi.StringInput
	// HostSocketDir is the directory on the node with the Workload API's socket
	// "spire-agent.sock". Default "/run/spire/agent-sockets".
	HostSocketDir string
	// KubeletAddress is the name or address under which the kubelet is reached
	// and verified. Default KubeletByIP.
	KubeletAddress KubeletAddress
	// KubeletCAHostPath is a file on the node with the CA of the kubelet's
	// serving certificate, for clusters whose kubelets sign their own; with
	// kubeadm that is /var/lib/kubelet/pki/kubelet.crt. Default: none, the
	// cluster's CA from the ConfigMap kube-root-ca.crt.
	KubeletCAHostPath string
	// LegacyKubeletAuthorization grants nodes/proxy instead of nodes/pods, for
	// clusters older than Kubernetes 1.33. It amounts to control over every
	// container of the cluster. Default false.
	LegacyKubeletAuthorization bool
	// MaxUnavailable is how many nodes, a number or a percentage, a rollout may
	// leave without an agent at a time. Default "10%", rounded up: agents that all
	// attest at once are a load that servers have died of.
	MaxUnavailable string
	// Config changes single settings of the agents. What the fields above
	// determine is filled in by New and must not be set here.
	Config config.Agent
	// Resources of each agent. Default 20m, 64Mi, limit 256Mi.
	Resources manifest.Resources
	// PodDependencies are resources that have to be there before the agents
	// start: the servers, and what publishes the trust bundle. An agent that
	// finds no bundle tries again, but the kubelet takes a minute or two to
	// show it a ConfigMap that has changed.
	PodDependencies []pulumi.Resource
}

// Agent is the SPIRE agent on every node.
type Agent struct {
	pulumi.ResourceState

	// ServiceAccount is the service account under which agents attest.
	ServiceAccount pulumi.StringOutput `pulumi:"serviceAccount"`
	// HostSocketDir is the directory on each node with the Workload API's
	// socket. It is known when the agents have attested.
	HostSocketDir pulumi.StringOutput `pulumi:"hostSocketDir"`
}

func (a Args) withDefaults() Args {
	a.Name = cmp.Or(a.Name, defaultName)
	a.HostSocketDir = cmp.Or(a.HostSocketDir, config.AgentSocketDir)
	a.KubeletAddress = cmp.Or(a.KubeletAddress, KubeletByIP)
	a.MaxUnavailable = cmp.Or(a.MaxUnavailable, "10%")
	a.Resources = a.Resources.WithDefaults(manifest.Resources{CPU: "20m", Memory: "64Mi", MemoryLimit: "256Mi"})
	return a
}

func (a Args) agentConfig() config.Agent {
	c := a.Config
	c.TrustDomain, c.Cluster, c.ServerAddress = a.TrustDomain, a.ClusterName, a.ServerAddress
	if a.KubeletCAHostPath != "" {
		c.KubeletCAPath = kubeletCAFile
	}
	return c.WithDefaults()
}

func (a Args) validate() error {
	var problems []error
	add := func(key, value, allowed string) {
		problems = append(problems, fmt.Errorf("%s: %q is not allowed: %s", key, value, allowed))
	}
	if a.Namespace == "" {
		add("namespace", "", "it must be set")
	}
	if a.Image == nil {
		add("image", "", "it must be set")
	}
	if a.BundleConfigMap == nil {
		add("bundleConfigMap", "", "it must be set")
	}
	for _, p := range []struct{ key, value string }{{"hostSocketDir", a.HostSocketDir}, {"kubeletCAHostPath", a.KubeletCAHostPath}} {
		if p.value != "" && (!path.IsAbs(p.value) || path.Clean(p.value) != p.value || p.value == "/") {
			add(p.key, p.value, "it must be an absolute path without . and .. elements")
		}
	}
	if a.KubeletAddress != KubeletByIP && a.KubeletAddress != KubeletByNodeName {
		add("kubeletAddress", string(a.KubeletAddress), fmt.Sprintf("it must be %s or %s", KubeletByIP, KubeletByNodeName))
	}
	if !numberOrPercentage.MatchString(a.MaxUnavailable) {
		add("maxUnavailable", a.MaxUnavailable, "it must be a number greater than zero or a percentage")
	}
	for _, fixed := range []string{
		a.Config.TrustDomain, a.Config.Cluster, a.Config.ServerAddress,
		a.Config.SocketPath, a.Config.DataDir, a.Config.TrustBundlePath, a.Config.KubeletCAPath, a.Config.KubeletTokenPath,
	} {
		if fixed != "" {
			add("config", fixed, "trust domain, cluster, server address and paths follow from the other arguments")
		}
	}
	if err := a.agentConfig().Validate(); err != nil {
		problems = append(problems, fmt.Errorf("config: %w", err))
	}
	return errors.Join(problems...)
}

var numberOrPercentage = regexp.MustCompile(`^[1-9][0-9]*%?$`)

// numberOrPercent is a value of Kubernetes' type of that kind: a number has to
// be given as one.
func numberOrPercent(s string) pulumi.Input {
	if n, err := strconv.Atoi(s); err == nil {
		return pulumi.Int(n)
	}
	return pulumi.String(s)
}

// New deploys the agents. Dependencies among the options hold back every
// object; Args.PodDependencies hold back the agents alone.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Agent, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.withDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("spire agent %s: %w", name, err)
	}
	text, err := a.agentConfig().Render()
	if err != nil {
		return nil, fmt.Errorf("spire agent %s: %w", name, err)
	}
	self := &Agent{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "namespace": pulumi.String(a.Namespace), "trustDomain": pulumi.String(a.TrustDomain),
		"serverAddress": pulumi.String(a.ServerAddress), "image": a.Image,
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:spire:Agent", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("spire agent %s: %w", name, err)
	}
	inherited, err := manifest.Inherit(self, opts)
	if err != nil {
		return nil, fmt.Errorf("spire agent %s: %w", name, err)
	}
	b := builder{
		ctx: ctx, name: name, args: a, opts: inherited,
		identity: manifest.Identity{Name: "spire-agent", Instance: a.Name, Component: "agent"},
	}
	if err := b.build(self, text); err != nil {
		return nil, errors.Join(fmt.Errorf("spire agent %s: %w", name, err), ctx.RegisterResourceOutputs(self, pulumi.Map{}))
	}
	return self, ctx.RegisterResourceOutputs(self, pulumi.Map{
		"serviceAccount": self.ServiceAccount, "hostSocketDir": self.HostSocketDir,
	})
}

// A builder makes the children of one Agent.
type builder struct {
	ctx      *pulumi.Context
	name     string
	args     Args
	opts     []pulumi.ResourceOption
	identity manifest.Identity
}

func (b *builder) meta(name string) *metav1.ObjectMetaArgs {
	m := b.clusterMeta(name)
	m.Namespace = pulumi.String(b.args.Namespace)
	return m
}

func (b *builder) clusterMeta(name string) *metav1.ObjectMetaArgs {
	return &metav1.ObjectMetaArgs{Name: pulumi.String(name), Labels: b.identity.Labels()}
}

func (b *builder) build(self *Agent, text string) error {
	account, binding, err := b.access()
	if err != nil {
		return err
	}
	configMap, err := corev1.NewConfigMap(b.ctx, b.name+"-config", &corev1.ConfigMapArgs{
		Metadata:  b.meta(manifest.Hashed(b.args.Name+"-config", text)),
		Immutable: pulumi.Bool(true),
		Data:      pulumi.StringMap{configKey: pulumi.String(text)},
	}, b.opts...)
	if err != nil {
		return err
	}
	set, err := appsv1.NewDaemonSet(b.ctx, b.name, &appsv1.DaemonSetArgs{
		Metadata: b.meta(b.args.Name),
		Spec: &appsv1.DaemonSetSpecArgs{
			Selector: &metav1.LabelSelectorArgs{MatchLabels: b.identity.Selector()},
			UpdateStrategy: &appsv1.DaemonSetUpdateStrategyArgs{
				Type:          pulumi.String("RollingUpdate"),
				RollingUpdate: &appsv1.RollingUpdateDaemonSetArgs{MaxUnavailable: numberOrPercent(b.args.MaxUnavailable)},
			},
			Template: &corev1.PodTemplateSpecArgs{
				Metadata: &metav1.ObjectMetaArgs{Labels: b.identity.Labels()},
				Spec:     b.pod(account, configMap),
			},
		},
	}, slices.Concat(b.opts, []pulumi.ResourceOption{
		pulumi.DependsOn(append(slices.Clone(b.args.PodDependencies), binding)),
	})...)
	if err != nil {
		return err
	}
	self.ServiceAccount = account.Metadata.Name().Elem()
	dir := b.args.HostSocketDir
	self.HostSocketDir = set.Status.ApplyT(func(*appsv1.DaemonSetStatus) string { return dir }).(pulumi.StringOutput)
	return nil
}

// access makes the agents' service account. The kubelet asks the API server
// whether it may list pods.
func (b *builder) access() (*corev1.ServiceAccount, *rbacv1.ClusterRoleBinding, error) {
	account, err := corev1.NewServiceAccount(b.ctx, b.name+"-account", &corev1.ServiceAccountArgs{
		Metadata:                     b.meta(b.args.Name),
		AutomountServiceAccountToken: pulumi.Bool(false),
	}, b.opts...)
	if err != nil {
		return nil, nil, err
	}
	resource := "nodes/pods"
	if b.args.LegacyKubeletAuthorization {
		resource = "nodes/proxy"
	}
	role, err := rbacv1.NewClusterRole(b.ctx, b.name+"-kubelet", &rbacv1.ClusterRoleArgs{
		Metadata: b.clusterMeta(b.args.Name),
		Rules: rbacv1.PolicyRuleArray{rbacv1.PolicyRuleArgs{
			ApiGroups: pulumi.ToStringArray([]string{""}),
			Resources: pulumi.ToStringArray([]string{resource}),
			Verbs:     pulumi.ToStringArray([]string{"get"}),
		}},
	}, b.opts...)
	if err != nil {
		return nil, nil, err
	}
	binding, err := rbacv1.NewClusterRoleBinding(b.ctx, b.name+"-kubelet", &rbacv1.ClusterRoleBindingArgs{
		Metadata: b.clusterMeta(b.args.Name),
		Subjects: rbacv1.SubjectArray{rbacv1.SubjectArgs{
			Kind: pulumi.String("ServiceAccount"), Name: account.Metadata.Name().Elem(), Namespace: pulumi.String(b.args.Namespace),
		}},
		RoleRef: rbacv1.RoleRefArgs{
			ApiGroup: pulumi.String("rbac.authorization.k8s.io"), Kind: pulumi.String("ClusterRole"), Name: role.Metadata.Name().Elem(),
		},
	}, b.opts...)
	return account, binding, err
}

func (b *builder) pod(account *corev1.ServiceAccount, configMap *corev1.ConfigMap) *corev1.PodSpecArgs {
	c := b.args.agentConfig()
	address := "status.hostIP"
	if b.args.KubeletAddress == KubeletByNodeName {
		address = "spec.nodeName"
	}
	// The agent shares the node's network, so the kubelet reaches its health
	// endpoint on the loopback address.
	probe := func(path string, period, timeout, failures int) *corev1.ProbeArgs {
		return &corev1.ProbeArgs{
			HttpGet:       &corev1.HTTPGetActionArgs{Host: pulumi.String(c.Health.Host), Path: pulumi.String(path), Port: pulumi.Int(c.Health.Port)},
			PeriodSeconds: pulumi.Int(period), TimeoutSeconds: pulumi.Int(timeout), FailureThreshold: pulumi.Int(failures),
		}
	}
	security := manifest.Restricted()
	security.RunAsUser, security.RunAsGroup = pulumi.Int(0), pulumi.Int(0)

	mounts := corev1.VolumeMountArray{
		manifest.ReadOnlyMount("config", configDir),
		manifest.Mount("data", c.DataDir),
		manifest.Mount("sockets", path.Dir(c.SocketPath)),
		manifest.ReadOnlyMount("bundle", path.Dir(c.TrustBundlePath)),
		manifest.ReadOnlyMount("attestation", path.Dir(config.AgentPSATPath)),
		manifest.ReadOnlyMount("kubelet", path.Dir(c.KubeletTokenPath)),
	}
	volumes := corev1.VolumeArray{
		manifest.ConfigMapFiles("config", configMap.Metadata.Name().Elem(), nil),
		// In memory: the agent caches its own identity there.
		manifest.Scratch("data", "Memory"),
		manifest.HostPath("sockets", b.args.HostSocketDir, "DirectoryOrCreate"),
		manifest.ConfigMapFiles("bundle", b.args.BundleConfigMap, nil),
		token("attestation", path.Base(config.AgentPSATPath), config.PSATAudience, ""),
		token("kubelet", path.Base(c.KubeletTokenPath), "", path.Base(config.AgentKubeletCA)),
	}
	if b.args.KubeletCAHostPath != "" {
		mounts = append(mounts, manifest.ReadOnlyMount("kubelet-ca", kubeletCAFile))
		volumes = append(volumes, manifest.HostPath("kubelet-ca", b.args.KubeletCAHostPath, "File"))
	}
	return &corev1.PodSpecArgs{
		ServiceAccountName:            account.Metadata.Name().Elem(),
		AutomountServiceAccountToken:  pulumi.Bool(false),
		PriorityClassName:             pulumi.String("system-node-critical"),
		HostNetwork:                   pulumi.Bool(true),
		HostPID:                       pulumi.Bool(true),
		DnsPolicy:                     pulumi.String("ClusterFirstWithHostNet"),
		EnableServiceLinks:            pulumi.Bool(false),
		TerminationGracePeriodSeconds: pulumi.Int(10),
		Tolerations:                   corev1.TolerationArray{corev1.TolerationArgs{Operator: pulumi.String("Exists")}},
		SecurityContext:               &corev1.PodSecurityContextArgs{SeccompProfile: &corev1.SeccompProfileArgs{Type: pulumi.String("RuntimeDefault")}},
		Containers: corev1.ContainerArray{corev1.ContainerArgs{
			Name:            pulumi.String("spire-agent"),
			Image:           b.args.Image,
			ImagePullPolicy: pulumi.String("IfNotPresent"),
			Args:            pulumi.ToStringArray([]string{"run", "-config", path.Join(configDir, configKey)}),
			Env: corev1.EnvVarArray{corev1.EnvVarArgs{
				Name:      pulumi.String(config.KubeletAddressEnv),
				ValueFrom: &corev1.EnvVarSourceArgs{FieldRef: &corev1.ObjectFieldSelectorArgs{FieldPath: pulumi.String(address)}},
			}},
			Ports:                    corev1.ContainerPortArray{manifest.Port("metrics", c.Prometheus.Port)},
			Resources:                b.args.Resources.Args(),
			SecurityContext:          security,
			TerminationMessagePolicy: pulumi.String("FallbackToLogsOnError"),
			// An agent waits for servers as long as it takes; only one that does
			// not get anywhere in ten minutes starts anew.
			StartupProbe:   probe("/ready", 1, 1, 600),
			ReadinessProbe: probe("/ready", 5, 3, 3),
			LivenessProbe:  probe("/live", 30, 5, 4),
			VolumeMounts:   mounts,
		}},
		Volumes: volumes,
	}
}

// token is a volume with a service account token that the kubelet renews: for
// the given audience, or for the API server and the kubelet when it is empty.
// With caFile it also holds the cluster's CA.
func token(volume, file, audience, caFile string) corev1.VolumeArgs {
	source := &corev1.ServiceAccountTokenProjectionArgs{Path: pulumi.String(file), ExpirationSeconds: pulumi.Int(3600)}
	if audience != "" {
		source.Audience = pulumi.String(audience)
	}
	sources := corev1.VolumeProjectionArray{corev1.VolumeProjectionArgs{ServiceAccountToken: source}}
	if caFile != "" {
		sources = append(sources, corev1.VolumeProjectionArgs{ConfigMap: &corev1.ConfigMapProjectionArgs{
			Name:  pulumi.String("kube-root-ca.crt"),
			Items: corev1.KeyToPathArray{corev1.KeyToPathArgs{Key: pulumi.String("ca.crt"), Path: pulumi.String(caFile)}},
		}})
	}
	return corev1.VolumeArgs{Name: pulumi.String(volume), Projected: &corev1.ProjectedVolumeSourceArgs{
		DefaultMode: pulumi.Int(0o400), Sources: sources,
	}}
}
