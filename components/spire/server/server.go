// Package server deploys the SPIRE servers of a trust domain on Kubernetes,
// each with a spire-controller-manager beside it that registers workloads.
//
// In flow the trust domain, the database, the upstream CA's Secret, images and
// sizes. Out come the servers behind a headless Service (one stable name a
// server), the ConfigMap to which they publish the trust bundle, and the class
// that registrations name.
//
// # How it stays up
//
// Servers hold no state that another one needs: entries, bundles and attested
// nodes are in the database, and each signs with keys of its own on a volume of
// its own. They run on different nodes and, by default, zones. Nothing routes to
// them by readiness: the load balancer checks them itself, every half second,
// under their stable names, which are published whether ready or not. Readiness
// only paces rollouts, disruptions and the webhook's endpoints.
//
// Probes. SPIRE's /live and /ready are one and the same check, which includes
// the database, and the answer is kept for a minute. Readiness by it would take
// every server out of service together for a minute when the database blinks,
// although attestation of nodes is all that then has to wait. So readiness asks
// whether port 8081 accepts. Liveness does use /live, because a server that has
// failed ten CA rotations in its life stays unhealthy until it is restarted, but
// only after fifteen minutes on end: an outage of the database must not end in
// servers that wait out a crash back-off when it is over.
//
// Start. Servers start in parallel, not one by one: Kubernetes creates ordered
// pods only while every lower one is ready, so one lost node would keep others
// from coming back. At the very first start all find an empty database, and one
// creates the schema in a transaction; the others fail on it, end, and find the
// schema when the kubelet restarts them at once. The controller manager starts
// when its server has: the server is a sidecar container with a startup probe,
// so that the manager does not crash into a back-off while the socket is not
// there yet.
//
// End. The controller manager ends first, then the server: it closes its port at
// once, tells connected agents to go elsewhere, and finishes what they have
// asked, within ten seconds. A delay before that would only lengthen the time in
// which a connection can meet a server that is about to leave; what does meet a
// closed port is sent to the next server by the load balancer.
//
// Registration. One controller manager leads. When its pod or node is lost,
// another takes over after LeaderElection.LeaseDuration.
//
// On AWS the database can be one of RDS, signed in to by IAM (Database.RDS), the
// keys can be in KMS (KMS), and the upstream CA in AWS Private CA (PrivateCA),
// each on its own. The servers' rights in AWS are those of their service account
// (Args.ServiceAccount), to which the caller binds a role with the policy of
// package awsaccess; as pods get credentials when they are made, the binding has
// to be among PodDependencies. What AWS names when it makes it comes to the
// servers through their environment, so that the configuration is plain text and
// known in a preview.
//
// Webhook. The controller manager validates ClusterSPIFFEIDs. Its webhook can
// answer only when servers run, and Pulumi does not retry an object that a
// webhook refused or did not answer for. Therefore its failure policy is Ignore:
// objects may be created before, with and without servers. That gives nothing
// away, because the controller checks each object in the same way again before
// it makes an entry of it, and an object that fails gives no one an identity.
package server

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	admissionv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/admissionregistration/v1"
	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	policyv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/policy/v1"
	schedulingv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/scheduling/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/spire/config"
)

const (
	defaultName            = "spire-server"
	defaultAgentNamespace  = "spire-agent"
	defaultAgentAccount    = "spire-agent"
	defaultBundleConfigMap = "spire-bundle"
	defaultReplicas        = 3
	defaultStorageSize     = "1Gi"

	// user is the user and group the public images run as.
	user = 1000
	// serverContainer is the name of the server's container, for logs and exec.
	serverContainer = "spire-server"
)

// Args are the arguments of New. What decides about configuration text is
// plain Go; names of Secrets and images are inputs.
type Args struct {
	// Name is the metadata.name of the StatefulSet and its Service, and the
	// prefix of what else there is. Cluster-wide objects carry it too, so two
	// installations in a cluster need two names. Default "spire-server".
	Name string
	// Namespace is where the servers run; pod security "restricted". Required.
	Namespace string
	// TrustDomain is the name of the trust domain. Required.
	TrustDomain string
	// ClusterName is the name under which agents of this cluster attest.
	// Required.
	ClusterName string
	// ClusterDomain is the cluster's DNS domain. Default "cluster.local".
	ClusterDomain string

	// Image and ControllerManagerImage are the images of spire-server and
	// spire-controller-manager, whose entry points are the programs. Required.
	Image, ControllerManagerImage pulumi.StringInput

	// AgentNamespace and AgentServiceAccount are the only identity under which
	// an agent may attest. Defaults "spire-agent", "spire-agent".
	AgentNamespace, AgentServiceAccount string
	// BundleConfigMap is the ConfigMap in AgentNamespace to which the servers
	// publish the trust bundle, under the key "bundle.spiffe". Default
	// "spire-bundle".
	BundleConfigMap string

	// Replicas is the number of servers. Default 3.
	Replicas int
	// MaxUnavailable is how many of them an eviction may take away at a time.
	// Default 1.
	MaxUnavailable int
	// Spread says how far apart they run. Default manifest.SpreadZones.
	Spread manifest.Spread

	// Database is where the servers keep their data. Required.
	Database Database
	// UpstreamCASecret is a Secret with tls.crt and tls.key of the CA that signs
	// the servers' CAs. Nil makes each server its own root, which no one should
	// do in production: the trust bundle then changes with every server's CA.
	UpstreamCASecret pulumi.StringInput
	// PrivateCA signs the servers' CAs instead of UpstreamCASecret. Default: nil.
	PrivateCA *PrivateCA
	// KMS keeps the servers' keys instead of volumes. Default: nil.
	KMS *KMS

	// StorageClass is the class of the servers' volumes, of which there are none
	// with KMS. Nil takes the cluster's default.
	StorageClass pulumi.StringPtrInput
	// StorageSize is the size of each volume. Default "1Gi"; a server needs a
	// few kilobytes.
	StorageSize string
	// DeleteVolumes deletes the volumes, and with them the servers' private
	// keys, together with the StatefulSet. Default false.
	DeleteVolumes bool

	// Config changes single settings of the servers, such as lifetimes. What the
	// fields above determine is filled in by New and must not be set here.
	Config config.Server
	// LeaderElection changes how fast a controller manager takes over.
	LeaderElection config.LeaderElection
	// EntryIDPrefix restricts the controller manager to entries with the prefix;
	// see config.ControllerManager.
	EntryIDPrefix string

	// Env are further environment variables of the servers, for example
	// AWS_USE_FIPS_ENDPOINT. Default: none.
	Env map[string]pulumi.StringInput
	// NodeSelector are labels of the nodes on which the servers may run. Default:
	// any node.
	NodeSelector map[string]string

	// Resources of each server. Default 50m, 128Mi, limit 512Mi: agents that all
	// attest at once are what fills the memory.
	Resources manifest.Resources
	// ControllerManagerResources of each controller manager. Default 20m, 64Mi,
	// limit 256Mi.
	ControllerManagerResources manifest.Resources

	// PodDependencies are resources that have to be there before the servers
	// start but not before the other objects: the database, the upstream CA, the
	// custom resource definitions. A server that starts too early crashes into a
	// back-off.
	PodDependencies []pulumi.Resource
}

// Database is the connection to Postgres.
type Database struct {
	// RDS is a database of Amazon RDS. Host, CASecret and ClientSecret must then
	// not be set. Default: nil.
	RDS *RDS
	// Host is the DNS name for writing connections, as in the database's
	// certificate. Required without RDS.
	Host string
	// Port defaults to 5432.
	Port int
	// Name is the database's name, User the role. Required.
	Name, User string
	// CASecret is the Secret with the database's CA certificate under
	// CASecretKey, by default "ca.crt". Required without RDS; no other key is
	// mounted.
	CASecret    pulumi.StringInput
	CASecretKey string
	// ClientSecret is the Secret with the client certificate, tls.crt and
	// tls.key. Required without RDS.
	ClientSecret pulumi.StringInput
	// ProbeImage is an image with Postgres' pg_isready and a shell. With it a
	// pod's server starts once the database answers; without, a server that
	// finds none crashes into a back-off that is longer than most waits. A new
	// pod finds none even beside a healthy one, for the moment until network
	// policies know its address. Default none.
	ProbeImage pulumi.StringInput
}

// Server is a cluster of SPIRE servers.
type Server struct {
	pulumi.ResourceState

	// Service is the name of the headless Service. Server number n is
	// <Service>-n.<Service>.<namespace>.svc.<cluster domain>, port 8081.
	Service pulumi.StringOutput `pulumi:"service"`
	// BundleConfigMap is the name of the ConfigMap with the trust bundle, in the
	// agents' namespace. It is known when the servers are ready.
	BundleConfigMap pulumi.StringOutput `pulumi:"bundleConfigMap"`
	// ClassName is the class that ClusterSPIFFEIDs have to name.
	ClassName pulumi.StringOutput `pulumi:"className"`
}

func (a Args) withDefaults() Args {
	a.Name = cmp.Or(a.Name, defaultName)
	a.ClusterDomain = cmp.Or(a.ClusterDomain, "cluster.local")
	a.AgentNamespace = cmp.Or(a.AgentNamespace, defaultAgentNamespace)
	a.AgentServiceAccount = cmp.Or(a.AgentServiceAccount, defaultAgentAccount)
	a.BundleConfigMap = cmp.Or(a.BundleConfigMap, defaultBundleConfigMap)
	a.Replicas = cmp.Or(a.Replicas, defaultReplicas)
	a.MaxUnavailable = cmp.Or(a.MaxUnavailable, 1)
	a.Spread = cmp.Or(a.Spread, manifest.SpreadZones)
	a.StorageSize = cmp.Or(a.StorageSize, defaultStorageSize)
	a.Database.CASecretKey = cmp.Or(a.Database.CASecretKey, "ca.crt")
	a.Resources = a.Resources.WithDefaults(manifest.Resources{CPU: "50m", Memory: "128Mi", MemoryLimit: "512Mi"})
	a.ControllerManagerResources = a.ControllerManagerResources.WithDefaults(manifest.Resources{CPU: "20m", Memory: "64Mi", MemoryLimit: "256Mi"})
	return a
}

// serverConfig is the servers' configuration: Config with what the other
// arguments determine.
func (a Args) serverConfig() config.Server {
	c := a.Config
	c.TrustDomain = a.TrustDomain
	c.DataStore.Host, c.DataStore.Port = a.Database.Host, a.Database.Port
	c.DataStore.Database, c.DataStore.User = a.Database.Name, a.Database.User
	c.Clusters = append([]config.PSATCluster{{
		Name:            a.ClusterName,
		ServiceAccounts: []string{a.AgentNamespace + ":" + a.AgentServiceAccount},
	}}, c.Clusters...)
	c.Bundles = append([]config.BundleConfigMap{{
		Cluster: a.ClusterName, Namespace: a.AgentNamespace, Name: a.BundleConfigMap,
	}}, c.Bundles...)
	c.UpstreamAuthority.SelfSigned = a.UpstreamCASecret == nil && a.PrivateCA == nil
	a.awsConfig(&c)
	return c.WithDefaults()
}

func (a Args) controllerManagerConfig() config.ControllerManager {
	election := a.LeaderElection
	election.Namespace = cmp.Or(election.Namespace, a.Namespace)
	election.Name = cmp.Or(election.Name, a.leaseName())
	return config.ControllerManager{
		TrustDomain:    a.TrustDomain,
		Cluster:        a.ClusterName,
		ClusterDomain:  a.ClusterDomain,
		ClassName:      a.Name,
		EntryIDPrefix:  a.EntryIDPrefix,
		LeaderElection: election,
		WebhookName:    a.webhookName(),
	}.WithDefaults()
}

// ServiceAccount is the name of the service account under which the servers will
// run, in Namespace. It is known before anything is made, for whoever gives it
// rights elsewhere.
func (a Args) ServiceAccount() string { return a.withDefaults().Name }

func (a Args) leaseName() string   { return a.Name + "-controller-manager" }
func (a Args) webhookName() string { return a.Name + "-webhook" }

func (a Args) validate() error {
	var problems []error
	add := func(key string, value any, allowed string) {
		problems = append(problems, fmt.Errorf("%s: %q is not allowed: %s", key, fmt.Sprint(value), allowed))
	}
	if a.Namespace == "" {
		add("namespace", "", "it must be set")
	}
	if a.Replicas < 1 {
		add("replicas", a.Replicas, "it must be at least 1")
	}
	if a.MaxUnavailable < 1 || a.MaxUnavailable > a.Replicas {
		add("maxUnavailable", a.MaxUnavailable, fmt.Sprintf("it must be from 1 to replicas (%d)", a.Replicas))
	}
	problems = append(problems, a.Spread.Validate())
	for _, required := range []struct {
		key    string
		value  pulumi.StringInput
		needed bool
	}{
		{"image", a.Image, true},
		{"controllerManagerImage", a.ControllerManagerImage, true},
		{"database.caSecret", a.Database.CASecret, a.Database.RDS == nil},
		{"database.clientSecret", a.Database.ClientSecret, a.Database.RDS == nil},
	} {
		if required.needed && required.value == nil {
			add(required.key, "", "it must be set")
		}
	}
	for _, fixed := range []string{
		a.Config.TrustDomain, a.Config.DataStore.Host, a.Config.DataStore.Database, a.Config.DataStore.User,
		a.Config.SocketPath, a.Config.DataDir, a.Config.KeysPath,
		a.Config.DataStore.RootCertPath, a.Config.DataStore.CertPath, a.Config.DataStore.KeyPath,
		a.Config.UpstreamAuthority.CertPath, a.Config.UpstreamAuthority.KeyPath, a.Config.UpstreamAuthority.BundlePath,
	} {
		if fixed != "" {
			add("config", fixed, "trust domain, database and paths follow from the other arguments")
		}
	}
	if a.Config.KMS != nil || a.Config.PrivateCA != nil || a.Config.DataStore.RDS != nil {
		add("config", "", "KMS, AWS Private CA and RDS follow from the other arguments")
	}
	a.validateAWS(add)
	problems = append(problems, prefix("config", a.serverConfig().Validate()), prefix("controllerManager", a.controllerManagerConfig().Validate()))
	return errors.Join(problems...)
}

func prefix(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// New deploys the servers. Dependencies among the options hold back every
// object, for example until the namespaces are there; Args.PodDependencies hold
// back the servers alone.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Server, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.withDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("spire server %s: %w", name, err)
	}
	serverText, err := a.serverConfig().Render()
	if err != nil {
		return nil, fmt.Errorf("spire server %s: %w", name, err)
	}
	managerText, err := a.controllerManagerConfig().Render()
	if err != nil {
		return nil, fmt.Errorf("spire server %s: %w", name, err)
	}

	self := &Server{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "namespace": pulumi.String(a.Namespace), "trustDomain": pulumi.String(a.TrustDomain),
		"replicas": pulumi.Int(a.Replicas), "image": a.Image, "controllerManagerImage": a.ControllerManagerImage,
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:spire:Server", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("spire server %s: %w", name, err)
	}
	inherited, err := manifest.Inherit(self, opts)
	if err != nil {
		return nil, fmt.Errorf("spire server %s: %w", name, err)
	}
	b := builder{
		ctx: ctx, name: name, args: a, opts: inherited,
		identity: manifest.Identity{Name: "spire-server", Instance: a.Name, Component: "server"},
	}
	if err := b.build(self, serverText, managerText); err != nil {
		return nil, errors.Join(fmt.Errorf("spire server %s: %w", name, err), ctx.RegisterResourceOutputs(self, pulumi.Map{}))
	}
	return self, ctx.RegisterResourceOutputs(self, pulumi.Map{
		"service": self.Service, "bundleConfigMap": self.BundleConfigMap, "className": self.ClassName,
	})
}

// A builder makes the children of one Server.
type builder struct {
	ctx      *pulumi.Context
	name     string
	args     Args
	opts     []pulumi.ResourceOption
	identity manifest.Identity
}

// config is the servers' configuration.
func (b *builder) config() config.Server { return b.args.serverConfig() }

// meta is the metadata of an object in the servers' namespace.
func (b *builder) meta(name string) *metav1.ObjectMetaArgs {
	return b.metaIn(b.args.Namespace, name)
}

func (b *builder) metaIn(namespace, name string) *metav1.ObjectMetaArgs {
	m := b.clusterMeta(name)
	m.Namespace = pulumi.String(namespace)
	return m
}

// clusterMeta is the metadata of an object that is in no namespace.
func (b *builder) clusterMeta(name string) *metav1.ObjectMetaArgs {
	return &metav1.ObjectMetaArgs{Name: pulumi.String(name), Labels: b.identity.Labels()}
}

func (b *builder) build(self *Server, serverText, managerText string) error {
	before := b.args.PodDependencies
	bundle, err := corev1.NewConfigMap(b.ctx, b.name+"-bundle", &corev1.ConfigMapArgs{
		// Without data: the servers own the key. It exists beforehand so that they
		// need no right to create ConfigMaps, which Kubernetes cannot restrict to
		// a name.
		Metadata: b.metaIn(b.args.AgentNamespace, b.args.BundleConfigMap),
	}, b.opts...)
	if err != nil {
		return err
	}
	before = append(before, bundle)

	access, err := b.access()
	if err != nil {
		return err
	}
	before = append(before, access...)

	configName := manifest.Hashed(b.args.Name+"-config", serverText, managerText)
	configMeta := b.meta(configName)
	configMap, err := corev1.NewConfigMap(b.ctx, b.name+"-config", &corev1.ConfigMapArgs{
		Metadata:  configMeta,
		Immutable: pulumi.Bool(true),
		Data:      pulumi.StringMap{serverConfigKey: pulumi.String(serverText), managerConfigKey: pulumi.String(managerText)},
	}, b.opts...)
	if err != nil {
		return err
	}

	files, err := b.awsFiles()
	if err != nil {
		return err
	}

	priority, err := schedulingv1.NewPriorityClass(b.ctx, b.name+"-priority", &schedulingv1.PriorityClassArgs{
		Metadata: b.clusterMeta(b.args.Name),
		// Below the system classes, above everything that depends on identities.
		Value:       pulumi.Int(100_000_000),
		Description: pulumi.String("Issues the identities that workloads need to talk to each other."),
	}, b.opts...)
	if err != nil {
		return err
	}

	service, webhook, err := b.services()
	if err != nil {
		return err
	}
	before = append(before, webhook)

	if _, err := policyv1.NewPodDisruptionBudget(b.ctx, b.name+"-disruption", &policyv1.PodDisruptionBudgetArgs{
		Metadata: b.meta(b.args.Name),
		Spec: &policyv1.PodDisruptionBudgetSpecArgs{
			MaxUnavailable: pulumi.Int(b.args.MaxUnavailable),
			// A server that is not ready must not block the drain of its node.
			UnhealthyPodEvictionPolicy: pulumi.String("AlwaysAllow"),
			Selector:                   &metav1.LabelSelectorArgs{MatchLabels: b.identity.Selector()},
		},
	}, b.opts...); err != nil {
		return err
	}

	set, err := b.statefulSet(configMap, files, priority, service, before)
	if err != nil {
		return err
	}
	// Outputs that others wait for follow from the StatefulSet, not from the
	// constants that they are: Pulumi takes it as done when all servers are ready.
	ready := func(value string) pulumi.StringOutput {
		return set.Status.ApplyT(func(*appsv1.StatefulSetStatus) string { return value }).(pulumi.StringOutput)
	}
	self.Service = service.Metadata.Name().Elem()
	self.BundleConfigMap = ready(b.args.BundleConfigMap)
	self.ClassName = pulumi.String(b.args.Name).ToStringOutput()
	return nil
}

// services makes the headless Service with the servers' stable names, and the
// webhook with its Service.
func (b *builder) services() (*corev1.Service, pulumi.Resource, error) {
	headless, err := corev1.NewService(b.ctx, b.name+"-service", &corev1.ServiceArgs{
		Metadata: b.meta(b.args.Name),
		Spec: &corev1.ServiceSpecArgs{
			ClusterIP: pulumi.String("None"),
			Selector:  b.identity.Selector(),
			// The load balancer decides by its own checks who gets traffic.
			PublishNotReadyAddresses: pulumi.Bool(true),
			Ports: corev1.ServicePortArray{
				corev1.ServicePortArgs{Name: pulumi.String("grpc"), Port: pulumi.Int(b.args.serverConfig().BindPort), TargetPort: pulumi.String("grpc")},
			},
		},
	}, b.opts...)
	if err != nil {
		return nil, nil, err
	}

	webhookMeta := b.meta(b.args.webhookName())
	webhookMeta.Annotations = manifest.NoAwait
	webhookService, err := corev1.NewService(b.ctx, b.name+"-webhook-service", &corev1.ServiceArgs{
		Metadata: webhookMeta,
		Spec: &corev1.ServiceSpecArgs{
			Selector: b.identity.Selector(),
			Ports: corev1.ServicePortArray{
				corev1.ServicePortArgs{Name: pulumi.String("webhook"), Port: pulumi.Int(443), TargetPort: pulumi.String("webhook")},
			},
		},
	}, b.opts...)
	if err != nil {
		return nil, nil, err
	}

	webhook, err := admissionv1.NewValidatingWebhookConfiguration(b.ctx, b.name+"-webhook", &admissionv1.ValidatingWebhookConfigurationArgs{
		Metadata: b.clusterMeta(b.args.webhookName()),
		Webhooks: admissionv1.ValidatingWebhookArray{
			b.webhook("clusterspiffeid", webhookService),
			b.webhook("clusterfederatedtrustdomain", webhookService),
		},
	}, b.opts...)
	return headless, webhook, err
}

// webhook validates one kind. The controller manager fills in the CA bundle,
// which is the trust domain's, and keeps it current.
func (b *builder) webhook(kind string, service *corev1.Service) admissionv1.ValidatingWebhookArgs {
	return admissionv1.ValidatingWebhookArgs{
		Name:                    pulumi.String("v" + kind + ".kb.io"),
		AdmissionReviewVersions: pulumi.ToStringArray([]string{"v1"}),
		FailurePolicy:           pulumi.String("Ignore"),
		SideEffects:             pulumi.String("None"),
		TimeoutSeconds:          pulumi.Int(2),
		ClientConfig: &admissionv1.WebhookClientConfigArgs{
			Service: &admissionv1.ServiceReferenceArgs{
				Namespace: pulumi.String(b.args.Namespace),
				Name:      service.Metadata.Name().Elem(),
				Path:      pulumi.String("/validate-spire-spiffe-io-v1alpha1-" + kind),
			},
		},
		Rules: admissionv1.RuleWithOperationsArray{
			admissionv1.RuleWithOperationsArgs{
				ApiGroups:   pulumi.ToStringArray([]string{"spire.spiffe.io"}),
				ApiVersions: pulumi.ToStringArray([]string{"v1alpha1"}),
				Operations:  pulumi.ToStringArray([]string{"CREATE", "UPDATE"}),
				Resources:   pulumi.ToStringArray([]string{kind + "s"}),
			},
		},
	}
}

// terminationGrace is a little more than the ten seconds that SPIRE gives calls
// under way (pkg/server/endpoints, gracefulStopTimeout).
const terminationGrace = 15 * time.Second
