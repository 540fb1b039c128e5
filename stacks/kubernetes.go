package stacks

import (
	"fmt"
	"slices"
	"time"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/cache"
	"ephemos.dev/deploy/components/crds"
	"ephemos.dev/deploy/components/detection"
	"ephemos.dev/deploy/components/gateway"
	"ephemos.dev/deploy/components/loadbalancer"
	"ephemos.dev/deploy/components/loadbalancer/nodeports"
	"ephemos.dev/deploy/components/postgres"
	"ephemos.dev/deploy/components/queue"
	"ephemos.dev/deploy/components/segmentation"
	"ephemos.dev/deploy/components/spire/agent"
	"ephemos.dev/deploy/components/spire/config"
	"ephemos.dev/deploy/components/spire/csi"
	"ephemos.dev/deploy/components/spire/registration"
	"ephemos.dev/deploy/components/spire/rootca"
	"ephemos.dev/deploy/components/spire/server"
	"ephemos.dev/deploy/components/tunnel"
	"ephemos.dev/deploy/components/workloads"
	"ephemos.dev/deploy/components/zones"
)

// Namespaces of the composition, by the zone model's names.
const (
	serverNamespace   = zones.NamespaceServer
	agentNamespace    = zones.NamespaceAgent
	operatorNamespace = zones.NamespaceOperator
	serviceNamespace  = zones.NamespaceServices
)

// databaseName is the metadata.name of the Postgres cluster.
const databaseName = "spire-db"

// Foundation is what a platform lays for the composition: a cluster, and what stands in for parts that would otherwise run in it.
type Foundation struct {
	// Cluster leads to the Kubernetes cluster. Required.
	Cluster *kubernetes.Provider
	// Model says who may talk to whom, and Ranges where what is no pod is found. Required.
	Model  zones.Model
	Ranges segmentation.Ranges
	// StorageClass is the class of volumes. Nil takes the cluster's default.
	StorageClass pulumi.StringPtrInput
	// Managed is what the platform runs itself. Nil: everything runs in the cluster.
	Managed *Managed
	// After are what every object of the cluster waits for, such as its nodes.
	After []pulumi.Resource
}

// Managed is the part of a deployment that a platform runs itself.
type Managed struct {
	// Server changes the arguments of the SPIRE servers: where their database is, where keys and the upstream CA.
	Server func(*server.Args)
	// Prepare makes what has to be in the cluster before any pod starts, with the given options, and returns what pods wait for.
	Prepare func(before []pulumi.ResourceOption) ([]pulumi.Resource, error)
	// EntryAddress is the name under which agents reach the servers through the platform's load balancers, which hand connections
	// to EntryNodePorts, the primary's and the backup's, from EntryCIDRs.
	EntryAddress   string
	EntryNodePorts [2]int
	EntryCIDRs     []string
	// GatewayNodePorts are the ports of the nodes to which the platform hands clients' requests, by the name of the gateway, from
	// EdgeCIDRs, after it asked for EdgeHealthPath. It notices within EdgeDrainDelay that a gateway is about to end.
	GatewayNodePorts map[string]int
	EdgeCIDRs        []string
	EdgeHealthPath   string
	EdgeDrainDelay   time.Duration
	// DatabaseHost is the output of that name.
	DatabaseHost pulumi.StringInput
}

// composition builds a stack on one Kubernetes cluster.
//
// What depends on what is kept to what Kubernetes itself would not wait for, so
// that everything else starts at once. Pods that mount a volume or want an
// identity that is not there yet wait on their node, and the engine waits for
// all of them side by side. Held back are only
//
//   - objects of a custom kind, until the kind exists and, for Postgres, its
//     operator answers;
//   - the SPIRE servers, until the database accepts them and the root CA is
//     there: a server that finds none crashes into a back-off longer than the
//     wait;
//   - the agents, until the servers have published the trust bundle: the kubelet
//     takes a minute to show a pod a ConfigMap that changes;
//   - the services, the gateways and the Data zone's servers, until the CSI driver runs, for the kubelet tries a mount that
//     failed again only after up to two minutes. They do not wait for agents.
type composition struct {
	ctx     *pulumi.Context
	config  *Config
	base    *Foundation
	lineage *lineage
	// model says who may talk to whom.
	model zones.Model
	// namespaces and kinds are what nearly everything needs.
	namespaces *segmentation.Segmentation
	kinds      *crds.CRDs
	// prepared is what Managed.Prepare made.
	prepared []pulumi.Resource
}

// deployKubernetes deploys onto a cluster that exists.
func deployKubernetes(ctx *pulumi.Context, c *Config) error {
	cluster, err := kubernetes.NewProvider(ctx, "cluster", &kubernetes.ProviderArgs{
		// The path, not the content: credentials do not enter the state.
		Kubeconfig: pulumi.String(c.Kubeconfig.Path),
		Context:    pulumi.String(c.Kubeconfig.Context),
		// Another cluster behind the same path shows as a replacement of
		// everything, other credentials for the same one as nothing.
		ClusterIdentifier: pulumi.String(c.Kubeconfig.Cluster),
		// A ConfigMap or Secret that changes is updated in place; those that pods
		// must not see change are immutable and named by their content.
		EnableConfigMapMutable: pulumi.Bool(true),
		EnableSecretMutable:    pulumi.Bool(true),
	})
	if err != nil {
		return err
	}
	return Compose(ctx, c, &Foundation{Cluster: cluster, Model: zones.Standard(c.Zones), Ranges: c.Ranges, StorageClass: storageClass(c)})
}

// Compose builds what every platform has in common on its foundation: namespaces and network policies, SPIRE servers, agents,
// registrations, services, gateways and what watches over the network.
func Compose(ctx *pulumi.Context, c *Config, base *Foundation) (err error) {
	d := &composition{ctx: ctx, config: c, base: base, model: base.Model}
	if d.lineage, err = newLineage(ctx); err != nil {
		return err
	}
	sets := []crds.Set{crds.SPIRE}
	if base.Managed == nil {
		sets = append(sets, crds.CloudNativePG)
	}
	if d.kinds, err = crds.New(ctx, "crds", &crds.Args{Sets: sets}, d.after()...); err != nil {
		return err
	}
	if d.namespaces, err = segmentation.New(ctx, "segmentation", &segmentation.Args{
		Model: d.model, Ranges: base.Ranges,
	}, append(d.after(), d.protect())...); err != nil {
		return err
	}
	if base.Managed != nil {
		prepared, err := base.Managed.Prepare(d.after(d.namespaces))
		if err != nil {
			return err
		}
		d.prepared = d.lineage.resources(prepared...)
	}
	servers, databaseHost, err := d.servers()
	if err != nil {
		return err
	}
	entry, err := d.entry()
	if err != nil {
		return err
	}
	driver, err := d.agents(servers, entry)
	if err != nil {
		return err
	}
	plan := d.plan()
	if err := d.register(servers, plan); err != nil {
		return err
	}
	services, err := d.services(driver, plan)
	if err != nil {
		return err
	}
	if err := d.edge(driver, plan); err != nil {
		return err
	}

	ctx.Export("trustDomain", pulumi.String(c.TrustDomain))
	ctx.Export("clusterName", pulumi.String(c.ClusterName))
	ctx.Export("namespaces", d.namespaces.Names)
	ctx.Export("serverAddress", pulumi.String(entry))
	ctx.Export("trustBundle", pulumi.StringMap{
		"namespace": pulumi.String(agentNamespace), "configMap": servers.BundleConfigMap,
	})
	ctx.Export("databaseHost", databaseHost)
	ctx.Export("spiffeIDs", services.SPIFFEIDs)
	ctx.Export("callURL", services.CallURL)
	return nil
}

// after are the options of a component that waits for the given resources.
func (d *composition) after(resources ...pulumi.Resource) []pulumi.ResourceOption {
	all := append(slices.Concat(d.base.After, d.prepared), d.lineage.resources(resources...)...)
	return []pulumi.ResourceOption{pulumi.Providers(d.base.Cluster), pulumi.DependsOn(all)}
}

// protect keeps what cannot be made again. Namespaces are among it: the root CA
// and the volumes go with theirs.
func (d *composition) protect() pulumi.ResourceOption {
	return pulumi.Protect(d.config.Profile.Protect)
}

func (d *composition) database() (*postgres.Cluster, error) {
	c := d.config
	operator, err := postgres.NewOperator(d.ctx, "postgres-operator", &postgres.OperatorArgs{
		Image: c.Images.Ref(imagePostgresOp), Namespace: operatorNamespace, WatchNamespaces: []string{serverNamespace},
	}, d.after(d.namespaces, d.kinds)...)
	if err != nil {
		return nil, err
	}
	return postgres.New(d.ctx, "postgres", &postgres.Args{
		Name: databaseName, Namespace: serverNamespace, ImageName: c.Images.Ref(imagePostgres),
		Instances: c.Profile.PostgresInstances, Durability: c.Profile.DataDurability, StorageClass: d.base.StorageClass,
	}, append(d.after(operator), d.protect())...)
}

// servers makes the SPIRE servers, and in the cluster, unless the platform brings them, their database and their root CA.
func (d *composition) servers() (servers *server.Server, databaseHost pulumi.StringInput, err error) {
	c := d.config
	args := &server.Args{
		Namespace: serverNamespace, AgentNamespace: agentNamespace, TrustDomain: c.TrustDomain, ClusterName: c.ClusterName,
		Image: c.Images.Ref(imageSPIREServer), ControllerManagerImage: c.Images.Ref(imageSPIREController),
		// What somebody with access to a server's own socket registered, in an emergency say, is not the controller's to remove.
		EntryIDPrefix: "declared",
		Replicas:      c.Profile.ServerReplicas, MaxUnavailable: c.Profile.ServerReplicas - c.Profile.ServerQuorum, Spread: c.Profile.Spread,
		StorageClass: d.base.StorageClass, DeleteVolumes: !c.Profile.Protect,
		Config: config.Server{
			CATTL: c.Profile.CATTL, X509SVIDTTL: c.Profile.X509SVIDTTL, JWTSVIDTTL: c.Profile.JWTSVIDTTL, AgentTTL: c.Profile.AgentTTL,
			AdminIDs: c.AdminIDs, ProxyProtocolTrustedCIDRs: c.PodCIDRs,
		},
	}
	if managed := d.base.Managed; managed != nil {
		managed.Server(args)
		args.Config.ProxyProtocolTrustedCIDRs = managed.EntryCIDRs
		args.PodDependencies = append(slices.Clone(d.prepared), d.lineage.resources(d.kinds)...)
		servers, err = server.New(d.ctx, "spire-server", args, d.after(d.namespaces)...)
		return servers, managed.DatabaseHost, err
	}
	database, err := d.database()
	if err != nil {
		return nil, nil, err
	}
	root, err := rootca.New(d.ctx, "root-ca", &rootca.Args{
		ExistingSecret: c.RootCASecret, Namespace: serverNamespace, Image: c.Images.Ref(imageRootCA), Organization: c.TrustDomain,
	}, d.after(d.namespaces)...)
	if err != nil {
		return nil, nil, err
	}
	args.Database = server.Database{
		Host: fmt.Sprintf("%s-rw.%s.svc", databaseName, serverNamespace), Name: "spire", User: "spire",
		CASecret: database.CASecret, ClientSecret: database.ClientSecret, ProbeImage: c.Images.Ref(imagePostgres),
	}
	args.UpstreamCASecret = root.SecretName
	args.PodDependencies = d.lineage.resources(database, root, d.kinds)
	servers, err = server.New(d.ctx, "spire-server", args, d.after(d.namespaces)...)
	return servers, database.Host, err
}

// entry makes the two ways to the servers and returns the name that agents know
// them by.
func (d *composition) entry() (address string, err error) {
	c := d.config
	if managed := d.base.Managed; managed != nil {
		_, err := nodeports.New(d.ctx, "spire-entry", &nodeports.Args{Namespace: serverNamespace, NodePorts: managed.EntryNodePorts}, d.after(d.namespaces)...)
		return managed.EntryAddress, err
	}
	args := &loadbalancer.Args{
		Namespace: serverNamespace, Image: c.Images.Ref(imageHAProxy), Servers: c.Profile.ServerReplicas, Spread: c.Profile.Spread,
	}
	_, err = loadbalancer.New(d.ctx, "spire-entry", args, d.after(d.namespaces)...)
	return args.Address(), err
}

// agents makes the agents and the driver that brings their socket into pods.
func (d *composition) agents(servers *server.Server, entry string) (*csi.Driver, error) {
	c := d.config
	if _, err := agent.New(d.ctx, "spire-agent", &agent.Args{
		Namespace: agentNamespace, TrustDomain: c.TrustDomain, ClusterName: c.ClusterName, ServerAddress: entry,
		Image: c.Images.Ref(imageSPIREAgent), BundleConfigMap: servers.BundleConfigMap,
		KubeletAddress: c.KubeletAddress, KubeletCAHostPath: c.KubeletCA, LegacyKubeletAuthorization: c.LegacyKubeletAuthorization,
	}, d.after(d.namespaces)...); err != nil {
		return nil, err
	}
	return csi.New(d.ctx, "csi", &csi.Args{
		Namespace: agentNamespace, Image: c.Images.Ref(imageCSIDriver), RegistrarImage: c.Images.Ref(imageCSIRegistrar),
	}, d.after(d.namespaces)...)
}

// callers are the SPIFFE IDs that the zone model lets call a role.
func (d *composition) callers(role string) []string {
	var ids []string
	for _, path := range d.model.Callers(role, "mtls") {
		ids = append(ids, d.spiffeID(path))
	}
	return ids
}

func (d *composition) spiffeID(path string) string { return "spiffe://" + d.config.TrustDomain + path }

// identified is everything, besides the services, that holds an identity.
type identified struct {
	cache    cache.Args
	queue    queue.Args
	gateways []gateway.Args
}

// plan fixes the arguments of everything that holds an identity, from which its
// registration and the addresses of its callers follow.
func (d *composition) plan() identified {
	c := d.config
	edge := func(name, host string) gateway.Args {
		upstream := d.upstream(name)
		args := gateway.Args{
			Name: name, Namespace: zones.NamespaceDMZ, Image: c.Images.Ref(imageGateway), TrustDomain: c.TrustDomain,
			UpstreamHost: fmt.Sprintf("%s.%s.svc.cluster.local", upstream.To.Name, upstream.To.Namespace), UpstreamPort: upstream.Port.Number,
			UpstreamID: d.spiffeID(upstream.To.SPIFFEPath),
			DNSNames:   []string{host}, Replicas: c.Profile.GatewayReplicas, ServiceType: c.GatewayService,
		}
		if c.EdgeSecret != "" {
			args.EdgeSecret = pulumi.String(c.EdgeSecret)
		}
		if managed := d.base.Managed; managed != nil {
			args.ServiceType, args.NodePort, args.TrustedProxies = gateway.NodePort, managed.GatewayNodePorts[name], managed.EdgeCIDRs
			args.HealthPath, args.DrainDelay = managed.EdgeHealthPath, managed.EdgeDrainDelay
		}
		return args
	}
	return identified{
		cache: cache.Args{
			Namespace: zones.NamespaceData, Image: c.Images.Ref(imageCache), TunnelImage: c.Images.Ref(imageTunnel), AllowedCallers: d.callers(zones.Cache),
		},
		queue: queue.Args{
			Namespace: zones.NamespaceData, Image: c.Images.Ref(imageQueue), TunnelImage: c.Images.Ref(imageTunnel), AllowedCallers: d.callers(zones.Queue),
		},
		gateways: []gateway.Args{
			edge(zones.WebGateway, c.WebHost),
			edge(zones.APIGateway, c.APIHost),
		},
	}
}

// upstream is what the zone model lets a gateway call. A gateway passes requests
// on to one service, which is the first that the model names.
func (d *composition) upstream(gateway string) zones.End {
	for _, end := range d.model.Resolve() {
		if end.Flow.From == gateway && end.Flow.Kind == zones.Request {
			return end
		}
	}
	return zones.End{}
}

// register registers the identities of everything that has one.
func (d *composition) register(servers *server.Server, p identified) error {
	var identities []registration.Identity
	add := func(i registration.Identity) {
		// Said here too, a new lifetime makes agents renew at once; the servers' default alone is for what is issued next.
		i.TTL = d.config.Profile.X509SVIDTTL
		identities = append(identities, i)
	}
	for _, i := range workloads.Identities(serviceNamespace) {
		add(registration.Identity{
			Name: i.Name, SPIFFEIDPath: i.SPIFFEIDPath, Namespace: i.Namespace, ServiceAccount: i.ServiceAccount, PodLabels: i.PodLabels,
		})
	}
	for _, i := range []tunnel.Identity{p.cache.Identity(), p.queue.Identity()} {
		add(registration.Identity{
			Name: i.Name, SPIFFEIDPath: i.SPIFFEIDPath, Namespace: i.Namespace, ServiceAccount: i.ServiceAccount, PodLabels: i.PodLabels,
		})
	}
	for _, g := range p.gateways {
		i := g.Identity()
		add(registration.Identity{
			Name: i.Name, SPIFFEIDPath: i.SPIFFEIDPath, Namespace: i.Namespace, ServiceAccount: i.ServiceAccount, PodLabels: i.PodLabels,
			DNSNames: i.DNSNames,
		})
	}
	_, err := registration.New(d.ctx, "registration", &registration.Args{
		ClassName: servers.ClassName, Identities: identities,
	}, d.after(d.kinds)...)
	return err
}

// services makes the payment, user and order services, and what they keep and
// announce.
func (d *composition) services(driver *csi.Driver, p identified) (*workloads.Workloads, error) {
	c := d.config
	if _, err := cache.New(d.ctx, "cache", &p.cache, d.after(d.namespaces, driver)...); err != nil {
		return nil, err
	}
	if _, err := queue.New(d.ctx, "queue", &p.queue, d.after(d.namespaces, driver)...); err != nil {
		return nil, err
	}
	return workloads.New(d.ctx, "workloads", &workloads.Args{
		Namespace: serviceNamespace, TrustDomain: c.TrustDomain, Replicas: c.Profile.WorkloadReplicas, CallRate: float64(c.CallRate),
		Images:  workloads.Images{Payment: c.Images.Ref(imagePayment), User: c.Images.Ref(imageUser), Order: c.Images.Ref(imageOrder)},
		Callers: workloads.Callers(d.model, c.TrustDomain),
		Cache:   workloads.Peer{Address: p.cache.Address(), SPIFFEID: d.spiffeID(p.cache.Identity().SPIFFEIDPath)},
		Queue:   workloads.Peer{Address: p.queue.Address(), SPIFFEID: d.spiffeID(p.queue.Identity().SPIFFEIDPath)},
	}, d.after(d.namespaces, driver)...)
}

// edge makes the gateways, and what watches over the network.
func (d *composition) edge(driver *csi.Driver, p identified) error {
	for _, g := range p.gateways {
		if _, err := gateway.New(d.ctx, g.Name, &g, d.after(d.namespaces, driver)...); err != nil {
			return err
		}
	}
	_, err := detection.New(d.ctx, "intrusion-detection", &detection.Args{
		Namespace: zones.NamespaceDetection, Image: d.config.Images.Ref(imageFlowLog), TrustDomain: d.config.TrustDomain, Model: d.model,
	}, d.after(d.namespaces)...)
	return err
}

// storageClass is nil for the cluster's default class.
func storageClass(c *Config) pulumi.StringPtrInput {
	if c.StorageClass == "" {
		return nil
	}
	return pulumi.String(c.StorageClass)
}
