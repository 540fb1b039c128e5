// Package queue deploys the Data zone's message queue: a NATS server behind a tunnel that accepts mutual TLS from the named
// SPIFFE IDs.
//
// In: images, who may call, limits. Out: a Deployment of one pod behind a headless Service, its address, and, as plain data
// that is known before anything is deployed, the identity that has to be registered (Args.Identity).
//
// # What is lost
//
// This is NATS core, without JetStream: a message goes to those who have subscribed when it comes, at most once, and is
// kept nowhere. What nobody listens to is gone, and so is what is on its way when the pod ends. Publishers wait in memory
// for a server to be back (cmd/internal/chain/queue). To keep messages would take JetStream with a volume, and for a lost
// node three servers that are joined; neither is here.
//
// There is one pod. Several that are not joined would each have subscribers of its own, and joining them takes a port
// between them that the model of zones does not have. A pod of a lost node is replaced after the cluster's grace period and
// half a minute. During a rollout there are two for as long as the old one drains; clients of the old one move when it stops.
//
// # What a caller may do
//
// All callers share one account: whoever is allowed in may publish and subscribe to every subject. NATS itself sees every
// caller as 127.0.0.1. Its monitoring is on the loopback too (port 8222), for `kubectl port-forward`. There is no liveness
// probe: the kubelet cannot reach the loopback, and a process that ends is restarted anyway.
package queue

import (
	"cmp"
	"errors"
	"fmt"
	"path"

	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/tunnel"
)

const (
	program = "queue"
	// port is where callers connect; the others are on the loopback.
	port        = 4222
	natsPort    = 14222
	monitorPort = 8222

	configFile = "nats.conf"
	configDir  = "/etc/nats"
)

// Args are the arguments of New.
type Args struct {
	// Name is the metadata.name of all objects. Default "queue".
	Name string
	// Namespace is where it runs; pod security "restricted". Default "data".
	Namespace string
	// SPIFFEPath is the path of its SPIFFE ID. Default "/data/queue".
	SPIFFEPath string
	// Image is an image of NATS 2.12 or later whose entry point is the program. Required.
	Image pulumi.StringInput
	// TunnelImage is an image of ghostunnel 1.8 whose entry point is the program. Required.
	TunnelImage pulumi.StringInput
	// AllowedCallers are the SPIFFE IDs that may connect, whole. Required: at least one.
	AllowedCallers []string
	// MaxPayload bounds a message, in bytes. Default 65536.
	MaxPayload int
	// MaxConnections bounds the clients. Default 256.
	MaxConnections int
	// CSIDriver is the name of the SPIFFE CSI driver. Default "csi.spiffe.io".
	CSIDriver string
	// ClusterDomain is the cluster's DNS domain. Default "cluster.local".
	ClusterDomain string
	// PriorityClassName is the priority class of the pod. Nil means none.
	PriorityClassName pulumi.StringPtrInput
	// Resources of NATS. Default 10m, 32Mi, limit 128Mi.
	Resources manifest.Resources
	// TunnelResources are those of the tunnel. Default tunnel.Args'.
	TunnelResources manifest.Resources
}

// Queue is the queue.
type Queue struct {
	pulumi.ResourceState

	// Address is where callers connect, host:port. It is known when the pod is ready.
	Address pulumi.StringOutput `pulumi:"address"`
}

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a Args) WithDefaults() Args {
	a.Name = cmp.Or(a.Name, "queue")
	a.Namespace = cmp.Or(a.Namespace, "data")
	a.SPIFFEPath = cmp.Or(a.SPIFFEPath, "/data/queue")
	a.MaxPayload = cmp.Or(a.MaxPayload, 64<<10)
	a.MaxConnections = cmp.Or(a.MaxConnections, 256)
	a.CSIDriver = cmp.Or(a.CSIDriver, "csi.spiffe.io")
	a.ClusterDomain = cmp.Or(a.ClusterDomain, "cluster.local")
	a.Resources = a.Resources.WithDefaults(manifest.Resources{CPU: "10m", Memory: "32Mi", MemoryLimit: "128Mi"})
	return a
}

// Address is where callers connect, host:port, with a dot at the end of the name.
func (a Args) Address() string { return a.Tunnel().Address() }

// Identity is what has to be registered for it.
func (a Args) Identity() tunnel.Identity { return a.Tunnel().Identity(a.WithDefaults().SPIFFEPath) }

// Config is the configuration of NATS.
func (a Args) Config() Config {
	a = a.WithDefaults()
	return Config{Port: natsPort, MonitorPort: monitorPort, MaxPayload: a.MaxPayload, MaxConnections: a.MaxConnections}
}

// Tunnel is the tunnel in front of it.
func (a Args) Tunnel() tunnel.Args {
	a = a.WithDefaults()
	return tunnel.Args{
		Name: a.Name, Program: program, Namespace: a.Namespace, Image: a.TunnelImage, Port: port, Target: natsPort,
		AllowedCallers: a.AllowedCallers, Replicas: 1, Spread: manifest.SpreadPreferred, CSIDriver: a.CSIDriver,
		ClusterDomain: a.ClusterDomain, PriorityClassName: a.PriorityClassName, Resources: a.TunnelResources,
	}
}

func (a Args) validate() error {
	var errs []error
	if a.Image == nil {
		errs = append(errs, errors.New(`image: "" is not allowed: it must be set`))
	}
	errs = append(errs, tunnel.ValidatePath(a.SPIFFEPath), a.Config().Validate(), a.Tunnel().Validate())
	return errors.Join(errs...)
}

// New deploys the queue. Its pod becomes ready once it holds an SVID, for which its identity must be registered; the
// registration need not be there first.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Queue, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("queue %s: %w", name, err)
	}
	text, err := a.Config().Render()
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", name, err)
	}
	self := &Queue{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "namespace": pulumi.String(a.Namespace), "maxPayload": pulumi.Int(a.MaxPayload),
		"allowedCallers": pulumi.ToStringArray(a.AllowedCallers),
		"image":          a.Image, "tunnelImage": a.TunnelImage,
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:queue:Queue", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("queue %s: %w", name, err)
	}
	err = self.provision(ctx, name, a, text, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"address": self.Address}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("queue %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (c *Queue) provision(ctx *pulumi.Context, name string, a Args, text string, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(c, opts)
	if err != nil {
		return err
	}
	t := a.Tunnel()
	configMap, err := corev1.NewConfigMap(ctx, name+"-config", t.ConfigMap(configFile, text), inherited...)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	account, err := corev1.NewServiceAccount(ctx, name+"-account", t.Account(), inherited...)
	if err != nil {
		return fmt.Errorf("service account: %w", err)
	}
	if _, err := corev1.NewService(ctx, name+"-service", t.Service(), inherited...); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	deployment, err := appsv1.NewDeployment(ctx, name+"-deployment", t.Deployment(a.server(configMap)),
		append(inherited, pulumi.DependsOn([]pulumi.Resource{account}))...)
	if err != nil {
		return fmt.Errorf("deployment: %w", err)
	}
	address := t.Address()
	c.Address = deployment.Metadata.Name().ApplyT(func(*string) string { return address }).(pulumi.StringOutput)
	return nil
}

func (a Args) server(configMap *corev1.ConfigMap) tunnel.Server {
	return tunnel.Server{
		Container: corev1.ContainerArgs{
			Name: pulumi.String("nats"), Image: a.Image,
			Args:         pulumi.ToStringArray([]string{"--config", path.Join(configDir, configFile)}),
			Resources:    a.Resources.Args(),
			VolumeMounts: corev1.VolumeMountArray{manifest.ReadOnlyMount("config", configDir)},
		},
		Volumes: corev1.VolumeArray{manifest.ConfigMapFiles("config", configMap.Metadata.Name().Elem(), nil)},
	}
}
