// Package cache deploys the Data zone's cache: Redis 7 behind a tunnel that accepts mutual TLS from the named SPIFFE IDs.
//
// In: images, who may call, how much is kept. Out: a Deployment behind a headless Service, its address, and, as plain data
// that is known before anything is deployed, the identity that has to be registered (Args.Identity).
//
// # What is lost
//
// Everything, whenever a pod ends: it is a cache, and writes nothing to disk. Callers must do without; those in this
// repository leave it out within milliseconds (cmd/internal/chain/cache) and fill it again when it is back. A rollout begins
// with an empty one. A pod of a lost node is replaced after the cluster's grace period and half a minute. With several
// replicas each keeps values of its own, so a value that one has the others miss: they share load, not content.
//
// # What a caller may do
//
// All callers share one space of keys: whoever is allowed in may read and replace what another one keeps. Commands that
// administer, stop or scan the server are refused by its access list (Config.Render). Redis itself sees every caller as
// 127.0.0.1. There is no liveness probe: the kubelet cannot reach the loopback, and a process that ends is restarted anyway;
// one that hangs is left out by its callers.
package cache

import (
	"cmp"
	"errors"
	"fmt"
	"path"

	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	policyv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/policy/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"k8s.io/apimachinery/pkg/api/resource"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/tunnel"
)

const (
	program = "cache"
	// port is where callers connect, redisPort where Redis listens on the loopback.
	port      = 6379
	redisPort = 16379

	configFile = "redis.conf"
	configDir  = "/etc/redis"
)

// Args are the arguments of New.
type Args struct {
	// Name is the metadata.name of all objects. Default "cache".
	Name string
	// Namespace is where it runs; pod security "restricted". Default "data".
	Namespace string
	// SPIFFEPath is the path of its SPIFFE ID. Default "/data/cache".
	SPIFFEPath string
	// Image is an image of Redis 7 with the program "redis-server" on its path. Required.
	Image pulumi.StringInput
	// TunnelImage is an image of ghostunnel 1.8 whose entry point is the program. Required.
	TunnelImage pulumi.StringInput
	// AllowedCallers are the SPIFFE IDs that may connect, whole. Required: at least one.
	AllowedCallers []string
	// Replicas is the number of pods, each with a content of its own. Default 1.
	Replicas int
	// Spread says how far apart the pods run. Default manifest.SpreadPreferred.
	Spread manifest.Spread
	// MaxMemory is how much each pod keeps, in MiB. Default 64.
	MaxMemory int
	// MaxClients bounds the connections to each pod. Default 256.
	MaxClients int
	// CSIDriver is the name of the SPIFFE CSI driver. Default "csi.spiffe.io".
	CSIDriver string
	// ClusterDomain is the cluster's DNS domain. Default "cluster.local".
	ClusterDomain string
	// PriorityClassName is the priority class of the pods. Nil means none.
	PriorityClassName pulumi.StringPtrInput
	// Resources of Redis. The limit must leave a quarter of MaxMemory and 32 MiB for its own use. Default 10m, and memory for
	// that.
	Resources manifest.Resources
	// TunnelResources are those of the tunnel. Default tunnel.Args'.
	TunnelResources manifest.Resources
}

// Cache is the cache.
type Cache struct {
	pulumi.ResourceState

	// Address is where callers connect, host:port. It is known when a pod is ready.
	Address pulumi.StringOutput `pulumi:"address"`
}

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a Args) WithDefaults() Args {
	a.Name = cmp.Or(a.Name, "cache")
	a.Namespace = cmp.Or(a.Namespace, "data")
	a.SPIFFEPath = cmp.Or(a.SPIFFEPath, "/data/cache")
	a.Replicas = cmp.Or(a.Replicas, 1)
	a.Spread = cmp.Or(a.Spread, manifest.SpreadPreferred)
	a.MaxMemory = cmp.Or(a.MaxMemory, 64)
	a.MaxClients = cmp.Or(a.MaxClients, 256)
	a.CSIDriver = cmp.Or(a.CSIDriver, "csi.spiffe.io")
	a.ClusterDomain = cmp.Or(a.ClusterDomain, "cluster.local")
	a.Resources = a.Resources.WithDefaults(manifest.Resources{
		CPU: "10m", Memory: "32Mi", MemoryLimit: fmt.Sprintf("%dMi", needed(a.MaxMemory)),
	})
	return a
}

// needed is the memory, in MiB, that Redis takes at most when it keeps that many: a quarter more for its clients' buffers and
// fragmentation, and itself.
func needed(maxMemory int) int { return maxMemory + maxMemory/4 + 32 }

// Address is where callers connect, host:port, with a dot at the end of the name.
func (a Args) Address() string { return a.Tunnel().Address() }

// Identity is what has to be registered for it.
func (a Args) Identity() tunnel.Identity { return a.Tunnel().Identity(a.WithDefaults().SPIFFEPath) }

// Config is the configuration of Redis.
func (a Args) Config() Config {
	a = a.WithDefaults()
	return Config{Port: redisPort, MaxMemory: a.MaxMemory, MaxClients: a.MaxClients}
}

// Tunnel is the tunnel in front of it.
func (a Args) Tunnel() tunnel.Args {
	a = a.WithDefaults()
	return tunnel.Args{
		Name: a.Name, Program: program, Namespace: a.Namespace, Image: a.TunnelImage, Port: port, Target: redisPort,
		AllowedCallers: a.AllowedCallers, Replicas: a.Replicas, Spread: a.Spread, CSIDriver: a.CSIDriver, ClusterDomain: a.ClusterDomain,
		PriorityClassName: a.PriorityClassName, Resources: a.TunnelResources,
	}
}

func (a Args) validate() error {
	var errs []error
	if a.Image == nil {
		errs = append(errs, errors.New(`image: "" is not allowed: it must be set`))
	}
	errs = append(errs, tunnel.ValidatePath(a.SPIFFEPath), a.Config().Validate(), a.Tunnel().Validate())
	limit, err := resource.ParseQuantity(a.Resources.MemoryLimit)
	if err != nil || limit.Value() < int64(needed(a.MaxMemory))<<20 {
		errs = append(errs, fmt.Errorf("resources.memoryLimit: %q is not allowed: it must be at least %dMi, for a maxMemory of %d MiB",
			a.Resources.MemoryLimit, needed(a.MaxMemory), a.MaxMemory))
	}
	return errors.Join(errs...)
}

// New deploys the cache. Its pods become ready once they hold an SVID, for which its identity must be registered; the
// registration need not be there first.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Cache, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("cache %s: %w", name, err)
	}
	text, err := a.Config().Render()
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w", name, err)
	}
	self := &Cache{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "namespace": pulumi.String(a.Namespace), "replicas": pulumi.Int(a.Replicas),
		"maxMemory": pulumi.Int(a.MaxMemory), "allowedCallers": pulumi.ToStringArray(a.AllowedCallers),
		"image": a.Image, "tunnelImage": a.TunnelImage,
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:cache:Cache", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("cache %s: %w", name, err)
	}
	err = self.provision(ctx, name, a, text, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"address": self.Address}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("cache %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (c *Cache) provision(ctx *pulumi.Context, name string, a Args, text string, opts []pulumi.ResourceOption) error {
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
	if budget := t.Budget(); budget != nil {
		if _, err := policyv1.NewPodDisruptionBudget(ctx, name+"-pdb", budget, inherited...); err != nil {
			return fmt.Errorf("disruption budget: %w", err)
		}
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
			Name: pulumi.String("redis"), Image: a.Image,
			Command:      pulumi.ToStringArray([]string{"redis-server", path.Join(configDir, configFile)}),
			Resources:    a.Resources.Args(),
			VolumeMounts: corev1.VolumeMountArray{manifest.ReadOnlyMount("config", configDir)},
		},
		Volumes: corev1.VolumeArray{manifest.ConfigMapFiles("config", configMap.Metadata.Name().Elem(), nil)},
	}
}
