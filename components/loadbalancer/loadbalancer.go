// Package loadbalancer deploys the two entries through which agents reach the
// SPIRE servers: a primary and a backup.
//
// In flow the servers' headless Service and the image of HAProxy. Out comes one
// DNS name for the agents.
//
// # How agents survive the loss of an entry
//
// Each entry is a HAProxy with a Service of its own, <name>-primary and
// <name>-backup, and forwards TCP to all servers. A third, headless Service,
// <name>-entry, has the addresses of both. Agents are given that name. A SPIRE
// agent resolves its server's name itself and spreads its calls over all
// addresses that it finds (gRPC's resolver dns:/// with round_robin, SPIRE
// pkg/agent/client/dial.go). So both entries are always in use, which shows
// that the backup works before it is needed, and when either is lost:
//
//   - an entry whose process ends closes its connections; the agent sends its
//     next call through the other one;
//   - an entry whose node disappears leaves connections that hang; a call on one
//     of them fails after 30s, SPIRE's limit for a call, whereupon the agent
//     drops its connections and dials both names anew. Identities live an hour
//     and are renewed half an hour before they end, so that workloads notice
//     neither.
//
// A new agent, or one that resolves again, gets the addresses of the entries
// that are ready.
//
// # How entries find servers
//
// By their stable names, resolved every second, and a check every half second
// that goes as far as a TLS handshake; two failures take a server out and end
// its connections, one success brings it back. New connections go to the server
// with the fewest. Whether a server is ready in the sense of Kubernetes plays no
// part.
//
// TLS is not ended here: the servers have to see the agents' certificates. What
// they would not see is the agents' addresses, and their limit of one
// attestation a second and address would then hold for all agents together.
// Therefore a PROXY header goes ahead of each connection; the servers have to
// trust the range of the entries' addresses (config.Server,
// ProxyProtocolTrustedCIDRs), and a network policy has to keep other pods of
// that range away from them, who could otherwise claim any address.
package loadbalancer

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"

	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	policyv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/policy/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
)

// The entries.
const (
	Primary = "primary"
	Backup  = "backup"
)

const (
	defaultName           = "spire-server"
	defaultPort           = 8081
	statsPort             = 8404
	defaultMaxConnections = 4096
	// user is not one of the image's: the program needs none.
	user = 1000

	configKey = "haproxy.cfg"
	configDir = "/etc/haproxy"
	// entryLabel tells the pods of the two entries apart.
	entryLabel = "ephemos.dev/entry"
)

// Args are the arguments of New.
type Args struct {
	// Name is the prefix of all names: <Name>-primary, <Name>-backup,
	// <Name>-entry. Default "spire-server".
	Name string
	// Namespace is where the entries run; pod security "restricted". Required.
	Namespace string
	// Image is an image of HAProxy 2.6 or later with the Prometheus exporter and
	// the program "haproxy" on its path. Required.
	Image pulumi.StringInput
	// ServerService is the servers' headless Service in Namespace, and the name
	// of their StatefulSet. Default "spire-server".
	ServerService string
	// Servers is the number of servers. Required.
	Servers int
	// Port is the port of the entries and of the servers. Default 8081.
	Port int
	// ClusterDomain is the cluster's DNS domain. Default "cluster.local".
	ClusterDomain string
	// MaxConnections bounds the connections of each entry; an agent holds one or
	// two. Default 4096.
	MaxConnections int
	// Spread says how far apart the entries run. SpreadPreferred lets them share
	// a node, the others do not. Default manifest.SpreadZones.
	Spread manifest.Spread
	// Resources of each entry. Default 20m, 64Mi, limit 256Mi: a connection
	// takes up to 40 KiB.
	Resources manifest.Resources
}

// LoadBalancer is the two entries.
type LoadBalancer struct {
	pulumi.ResourceState

	// Address is the DNS name for the agents. It is known when both entries run.
	Address pulumi.StringOutput `pulumi:"address"`
}

// WithDefaults returns the arguments with every field that is not set filled
// with its default.
func (a Args) WithDefaults() Args {
	a.Name = cmp.Or(a.Name, defaultName)
	a.ServerService = cmp.Or(a.ServerService, "spire-server")
	a.Port = cmp.Or(a.Port, defaultPort)
	a.ClusterDomain = cmp.Or(a.ClusterDomain, "cluster.local")
	a.MaxConnections = cmp.Or(a.MaxConnections, defaultMaxConnections)
	a.Spread = cmp.Or(a.Spread, manifest.SpreadZones)
	a.Resources = a.Resources.WithDefaults(manifest.Resources{CPU: "20m", Memory: "64Mi", MemoryLimit: "256Mi"})
	return a
}

// Address returns the DNS name for the agents, which is LoadBalancer.Address as
// soon as the arguments are known. Configuration of agents is rendered from it.
func (a Args) Address() string {
	a = a.WithDefaults()
	return fmt.Sprintf("%s.%s.svc.%s", a.entryName(), a.Namespace, a.ClusterDomain)
}

func (a Args) entryName() string { return a.Name + "-entry" }

// config is the configuration of both entries, which do not differ.
func (a Args) config() Config {
	c := Config{Port: a.Port, StatsPort: statsPort, MaxConnections: a.MaxConnections}
	for i := range a.Servers {
		name := fmt.Sprintf("%s-%d", a.ServerService, i)
		c.Servers = append(c.Servers, Backend{
			Name: name, Host: fmt.Sprintf("%s.%s.%s.svc.%s", name, a.ServerService, a.Namespace, a.ClusterDomain), Port: a.Port,
		})
	}
	return c
}

var objectName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,53}[a-z0-9])?$`)

func (a Args) validate() error {
	var problems []error
	add := func(key, value, allowed string) {
		problems = append(problems, fmt.Errorf("%s: %q is not allowed: %s", key, value, allowed))
	}
	if !objectName.MatchString(a.Name) {
		add("name", a.Name, "it must be a Kubernetes name of at most 55 characters")
	}
	if a.Namespace == "" {
		add("namespace", "", "it must be set")
	}
	if a.Image == nil {
		add("image", "", "it must be set")
	}
	problems = append(problems, a.Spread.Validate(), a.config().Validate())
	return errors.Join(problems...)
}

// New deploys the entries. Dependencies among the options hold back every
// object. The servers need not be there yet: an entry finds them when they are.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*LoadBalancer, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("load balancer %s: %w", name, err)
	}
	text, err := a.config().Render()
	if err != nil {
		return nil, fmt.Errorf("load balancer %s: %w", name, err)
	}
	self := &LoadBalancer{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "namespace": pulumi.String(a.Namespace), "servers": pulumi.Int(a.Servers), "image": a.Image,
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:loadbalancer:LoadBalancer", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("load balancer %s: %w", name, err)
	}
	inherited, err := manifest.Inherit(self, opts)
	if err != nil {
		return nil, fmt.Errorf("load balancer %s: %w", name, err)
	}
	b := builder{
		ctx: ctx, name: name, args: a, opts: inherited,
		identity: manifest.Identity{Name: "haproxy", Instance: a.Name, Component: "load-balancer"},
	}
	if err := b.build(self, text); err != nil {
		return nil, errors.Join(fmt.Errorf("load balancer %s: %w", name, err), ctx.RegisterResourceOutputs(self, pulumi.Map{}))
	}
	return self, ctx.RegisterResourceOutputs(self, pulumi.Map{"address": self.Address})
}

// A builder makes the children of one LoadBalancer.
type builder struct {
	ctx      *pulumi.Context
	name     string
	args     Args
	opts     []pulumi.ResourceOption
	identity manifest.Identity
}

func (b *builder) meta(name string) *metav1.ObjectMetaArgs {
	return &metav1.ObjectMetaArgs{Name: pulumi.String(name), Namespace: pulumi.String(b.args.Namespace), Labels: b.identity.Labels()}
}

// selector selects the pods of one entry, or of both when entry is empty.
func (b *builder) selector(entry string) pulumi.StringMap {
	if entry == "" {
		return b.identity.Selector()
	}
	return manifest.With(b.identity.Selector(), pulumi.StringMap{entryLabel: pulumi.String(entry)})
}

func (b *builder) build(self *LoadBalancer, text string) error {
	configMap, err := corev1.NewConfigMap(b.ctx, b.name+"-config", &corev1.ConfigMapArgs{
		Metadata:  b.meta(manifest.Hashed(b.args.Name+"-entry-config", text)),
		Immutable: pulumi.Bool(true),
		Data:      pulumi.StringMap{configKey: pulumi.String(text)},
	}, b.opts...)
	if err != nil {
		return err
	}
	account, err := corev1.NewServiceAccount(b.ctx, b.name+"-account", &corev1.ServiceAccountArgs{
		Metadata: b.meta(b.args.entryName()), AutomountServiceAccountToken: pulumi.Bool(false),
	}, b.opts...)
	if err != nil {
		return err
	}
	// One budget over both entries: one of them may be taken away, not both.
	if _, err := policyv1.NewPodDisruptionBudget(b.ctx, b.name+"-disruption", &policyv1.PodDisruptionBudgetArgs{
		Metadata: b.meta(b.args.entryName()),
		Spec: &policyv1.PodDisruptionBudgetSpecArgs{
			MaxUnavailable: pulumi.Int(1),
			Selector:       &metav1.LabelSelectorArgs{MatchLabels: b.selector("")},
		},
	}, b.opts...); err != nil {
		return err
	}
	if err := b.service(b.args.entryName(), "", "-entry"); err != nil {
		return err
	}
	var statuses pulumi.Array
	for _, entry := range []struct{ name, other string }{{Primary, Backup}, {Backup, Primary}} {
		if err := b.service(b.args.Name+"-"+entry.name, entry.name, "-"+entry.name); err != nil {
			return err
		}
		deployment, err := b.deployment(entry.name, entry.other, configMap, account)
		if err != nil {
			return err
		}
		statuses = append(statuses, deployment.Status)
	}
	address := b.args.Address()
	self.Address = statuses.ToArrayOutput().ApplyT(func([]any) string { return address }).(pulumi.StringOutput)
	return nil
}

// service makes the Service of one entry, or the headless one of both when
// entry is empty.
func (b *builder) service(name, entry, suffix string) error {
	spec := &corev1.ServiceSpecArgs{
		Selector: b.selector(entry),
		Ports: corev1.ServicePortArray{
			corev1.ServicePortArgs{Name: pulumi.String("grpc"), Port: pulumi.Int(b.args.Port), TargetPort: pulumi.String("grpc")},
		},
	}
	if entry == "" {
		spec.ClusterIP = pulumi.String("None")
	}
	meta := b.meta(name)
	meta.Annotations = manifest.NoAwait
	_, err := corev1.NewService(b.ctx, b.name+suffix, &corev1.ServiceArgs{Metadata: meta, Spec: spec}, b.opts...)
	return err
}

func (b *builder) deployment(entry, other string, configMap *corev1.ConfigMap, account *corev1.ServiceAccount) (*appsv1.Deployment, error) {
	labels := manifest.With(b.identity.Labels(), pulumi.StringMap{entryLabel: pulumi.String(entry)})
	name := b.args.Name + "-" + entry
	meta := b.meta(name)
	meta.Labels = labels
	probe := func(period, failures int) *corev1.ProbeArgs {
		return &corev1.ProbeArgs{
			HttpGet:       &corev1.HTTPGetActionArgs{Path: pulumi.String("/healthz"), Port: pulumi.String("stats")},
			PeriodSeconds: pulumi.Int(period), FailureThreshold: pulumi.Int(failures),
		}
	}
	return appsv1.NewDeployment(b.ctx, b.name+"-"+entry, &appsv1.DeploymentArgs{
		Metadata: meta,
		Spec: &appsv1.DeploymentSpecArgs{
			Replicas: pulumi.Int(1),
			Selector: &metav1.LabelSelectorArgs{MatchLabels: b.selector(entry)},
			// The new pod runs before the old one ends.
			Strategy: &appsv1.DeploymentStrategyArgs{
				Type:          pulumi.String("RollingUpdate"),
				RollingUpdate: &appsv1.RollingUpdateDeploymentArgs{MaxSurge: pulumi.Int(1), MaxUnavailable: pulumi.Int(0)},
			},
			Template: &corev1.PodTemplateSpecArgs{
				Metadata: &metav1.ObjectMetaArgs{Labels: labels},
				Spec: &corev1.PodSpecArgs{
					ServiceAccountName:            account.Metadata.Name().Elem(),
					AutomountServiceAccountToken:  pulumi.Bool(false),
					EnableServiceLinks:            pulumi.Bool(false),
					PriorityClassName:             pulumi.String("system-cluster-critical"),
					SecurityContext:               manifest.RestrictedPod(user),
					TerminationGracePeriodSeconds: pulumi.Int(10),
					Affinity:                      &corev1.AffinityArgs{PodAntiAffinity: b.apart(other)},
					TopologySpreadConstraints: corev1.TopologySpreadConstraintArray{corev1.TopologySpreadConstraintArgs{
						MaxSkew:           pulumi.Int(1),
						TopologyKey:       pulumi.String("topology.kubernetes.io/zone"),
						WhenUnsatisfiable: pulumi.String("ScheduleAnyway"),
						LabelSelector:     &metav1.LabelSelectorArgs{MatchLabels: b.selector("")},
					}},
					// An entry holds nothing, so it need not wait five minutes for a lost
					// node to come back.
					Tolerations: corev1.TolerationArray{
						toleration("node.kubernetes.io/not-ready"), toleration("node.kubernetes.io/unreachable"),
					},
					Containers: corev1.ContainerArray{corev1.ContainerArgs{
						Name:            pulumi.String("haproxy"),
						Image:           b.args.Image,
						ImagePullPolicy: pulumi.String("IfNotPresent"),
						Command:         pulumi.ToStringArray([]string{"haproxy", "-db", "-f", configDir + "/" + configKey}),
						Ports:           corev1.ContainerPortArray{manifest.Port("grpc", b.args.Port), manifest.Port("stats", statsPort)},
						Resources:       b.args.Resources.Args(),
						SecurityContext: manifest.Restricted(),
						// Time for DNS to forget the address. The kubelet sleeps, the image
						// need not have a program for it.
						Lifecycle: &corev1.LifecycleArgs{PreStop: &corev1.LifecycleHandlerArgs{
							Sleep: &corev1.SleepActionArgs{Seconds: pulumi.Int(3)},
						}},
						// About the entry alone, not the servers behind it: if all servers were
						// away, agents would otherwise lose the name as well, and be slower to
						// find it again than the servers.
						ReadinessProbe: probe(1, 3),
						LivenessProbe:  probe(10, 3),
						VolumeMounts:   corev1.VolumeMountArray{manifest.ReadOnlyMount("config", configDir)},
					}},
					Volumes: corev1.VolumeArray{manifest.ConfigMapFiles("config", configMap.Metadata.Name().Elem(), nil)},
				},
			},
		},
	}, b.opts...)
}

// apart keeps an entry off the other one's node.
func (b *builder) apart(other string) *corev1.PodAntiAffinityArgs {
	term := corev1.PodAffinityTermArgs{
		LabelSelector: &metav1.LabelSelectorArgs{MatchLabels: b.selector(other)},
		TopologyKey:   pulumi.String("kubernetes.io/hostname"),
	}
	if b.args.Spread == manifest.SpreadPreferred {
		return &corev1.PodAntiAffinityArgs{PreferredDuringSchedulingIgnoredDuringExecution: corev1.WeightedPodAffinityTermArray{
			corev1.WeightedPodAffinityTermArgs{Weight: pulumi.Int(100), PodAffinityTerm: term},
		}}
	}
	return &corev1.PodAntiAffinityArgs{RequiredDuringSchedulingIgnoredDuringExecution: corev1.PodAffinityTermArray{term}}
}

func toleration(key string) corev1.TolerationArgs {
	return corev1.TolerationArgs{
		Key: pulumi.String(key), Operator: pulumi.String("Exists"), Effect: pulumi.String("NoExecute"), TolerationSeconds: pulumi.Int(30),
	}
}
