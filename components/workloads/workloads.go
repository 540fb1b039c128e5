// Package workloads deploys the payment, user and order services: what an identity is for. payment calls user, user calls
// order, over mutual TLS with SVIDs from the CSI volume, each accepting exactly the SPIFFE IDs of its callers. user keeps
// answers in the cache and order announces orders on the queue, if there are any.
//
// In: a trust domain, images, who may call whom, how many replicas. Out: the three Deployments behind headless Services, and, as plain data
// that is known before anything is deployed, the identities that have to be registered (Identities).
//
// # No failed call
//
// Services are headless: a client sees the address of each replica and tries another one when the first fails or is
// silent. A pod that is told to stop goes on serving for drainDelay, because callers learn of it from DNS with a delay. DNS
// is asked for full names (ndots 1, trailing dot) with a retry after a second, since a name server may be lost together with
// a node. Rollouts start a new pod before they stop an old one, and a pod of a lost node is replaced after a minute and a
// half instead of six.
package workloads

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	policyv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/policy/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ephemos.dev/deploy/components/manifest"
)

const (
	mtlsPort  = 8443 // the services' API
	plainPort = 8080 // probes, statistics, metrics, and payment's /call

	socketDir  = "/spiffe-workload-api"
	socketFile = "spire-agent.sock"

	user = 65532

	// drainDelay and shutdownTimeout follow each other after SIGTERM; before them, calls in progress end (callTimeout).
	callTimeout     = 5 * time.Second
	drainDelay      = 5 * time.Second
	shutdownTimeout = 10 * time.Second
	gracePeriod     = callTimeout + drainDelay + shutdownTimeout + 10*time.Second
)

// Images are the images of the services' programs, whose entry points are the programs.
type Images struct {
	Payment, User, Order pulumi.StringInput
}

func (i Images) of(name string) pulumi.StringInput {
	return map[string]pulumi.StringInput{"payment": i.Payment, "user": i.User, "order": i.Order}[name]
}

// Args are the arguments of New.
type Args struct {
	// Namespace is where the services run; pod security "restricted". Default "services".
	Namespace string
	// TrustDomain is the trust domain of the services' SPIFFE IDs. Required.
	TrustDomain string
	// Images are the images of the three programs. Required.
	Images Images
	// Replicas is the number of pods of each service, each on a node of its own if there are enough. Default 3.
	Replicas int
	// Spread says how far apart the pods of one service run. Default manifest.SpreadPreferred: with a required spread, a lost
	// node would keep its pods from being replaced.
	Spread manifest.Spread
	// CallRate is how many calls a second each payment pod makes, 0 to 1000. Default 0: none. Calls can also be asked for with
	// payment's /call.
	CallRate float64
	// Callers are the SPIFFE IDs that may call each service's API, by its name; see the function Callers. A service that is not
	// named accepts nobody. Required: each service must accept the one before it in the chain.
	Callers map[string][]string
	// Cache and Queue are those of the Data zone. Default none.
	Cache, Queue Peer
	// CSIDriver is the name of the SPIFFE CSI driver. Default "csi.spiffe.io".
	CSIDriver string
	// ClusterDomain is the cluster's DNS domain. Default "cluster.local".
	ClusterDomain string
	// PriorityClassName is the priority class of the pods. Nil means none.
	PriorityClassName pulumi.StringPtrInput
	// Resources of each pod. Default 20m, 32Mi, limit 128Mi.
	Resources manifest.Resources
}

// Peer is a server that a service connects to over mutual TLS. The zero value is none.
type Peer struct {
	// Address is host:port.
	Address string
	// SPIFFEID is the only SPIFFE ID it may have, whole.
	SPIFFEID string
}

func (p Peer) validate(key string) error {
	if p == (Peer{}) {
		return nil
	}
	var errs []error
	if host, port, err := net.SplitHostPort(p.Address); err != nil || host == "" || port == "" {
		errs = append(errs, fmt.Errorf("%s.address: %q is not allowed: it must be host:port, such as cache.data.svc.cluster.local.:6379", key, p.Address))
	}
	return errors.Join(append(errs, validateID(key+".spiffeID", p.SPIFFEID))...)
}

func validateID(key, value string) error {
	if id, err := spiffeid.FromString(value); err != nil || id.Path() == "" {
		return fmt.Errorf("%s: %q is not allowed: it must be a SPIFFE ID with a path, such as spiffe://example.org/gateway", key, value)
	}
	return nil
}

// Workloads are the three services.
type Workloads struct {
	pulumi.ResourceState

	// CallURL makes the payment service call along the whole chain, from inside the cluster (GET or POST).
	CallURL pulumi.StringOutput `pulumi:"callURL"`
	// SPIFFEIDs are the services' SPIFFE IDs by their names.
	SPIFFEIDs pulumi.StringMapOutput `pulumi:"spiffeIDs"`
}

func (a Args) withDefaults() Args {
	a.Namespace = cmp.Or(a.Namespace, "services")
	a.Replicas = cmp.Or(a.Replicas, 3)
	a.Spread = cmp.Or(a.Spread, manifest.SpreadPreferred)
	a.CSIDriver = cmp.Or(a.CSIDriver, "csi.spiffe.io")
	a.ClusterDomain = cmp.Or(a.ClusterDomain, "cluster.local")
	a.Resources = a.Resources.WithDefaults(manifest.Resources{CPU: "20m", Memory: "32Mi", MemoryLimit: "128Mi"})
	return a
}

func (a Args) validate() error {
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, fmt.Sprint(value), allowed))
	}
	if _, err := spiffeid.TrustDomainFromString(a.TrustDomain); err != nil || a.TrustDomain == "" {
		fail("trustDomain", a.TrustDomain, "the name of a trust domain, such as example.org")
	}
	for _, s := range Services {
		if a.Images.of(s.Name) == nil {
			fail("images."+s.Name, "", "set")
		}
	}
	if a.Replicas < 1 || a.Replicas > 50 {
		fail("replicas", a.Replicas, "from 1 to 50")
	}
	if !(a.CallRate >= 0 && a.CallRate <= 1000) {
		fail("callRate", a.CallRate, "from 0 to 1000")
	}
	errs = append(errs, a.validateCallers()...)
	errs = append(errs, a.Cache.validate("cache"), a.Queue.validate("queue"), a.Spread.Validate())
	return errors.Join(errs...)
}

func (a Args) validateCallers() []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(a.Callers)) {
		if named(name).Name == "" {
			errs = append(errs, fmt.Errorf("callers: %q is not allowed: it must be the name of a service", name))
		}
		seen := map[string]bool{}
		for i, id := range a.Callers[name] {
			key := fmt.Sprintf("callers.%s[%d]", name, i)
			errs = append(errs, validateID(key, id))
			if seen[id] {
				errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be there once", key, id))
			}
			seen[id] = true
		}
	}
	// Without this a chain would be deployed that cannot work.
	for _, s := range Services {
		if s.Next != "" && !slices.Contains(a.Callers[s.Next], s.spiffeID(a.TrustDomain)) {
			errs = append(errs, fmt.Errorf("callers.%s: %q is not allowed: it must have %s, which calls it", s.Next,
				strings.Join(a.Callers[s.Next], ","), s.spiffeID(a.TrustDomain)))
		}
	}
	return errs
}

// New deploys the services. Their pods become ready once they hold an SVID, for which their identities must be registered;
// the registration need not be there first.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Workloads, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.withDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("workloads %s: %w", name, err)
	}

	self := &Workloads{}
	props := pulumi.Map{
		"namespace": pulumi.String(a.Namespace), "trustDomain": pulumi.String(a.TrustDomain), "replicas": pulumi.Int(a.Replicas),
		"callRate": pulumi.Float64(a.CallRate), "callers": callerProps(a.Callers),
		"cache": pulumi.String(a.Cache.Address), "queue": pulumi.String(a.Queue.Address),
		"images": pulumi.Map{"payment": a.Images.Payment, "user": a.Images.User, "order": a.Images.Order},
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:workloads:Workloads", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("workloads %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"callURL": self.CallURL, "spiffeIDs": self.SPIFFEIDs}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("workloads %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func callerProps(callers map[string][]string) pulumi.StringArrayMap {
	props := pulumi.StringArrayMap{}
	for name, ids := range callers {
		props[name] = pulumi.ToStringArray(ids)
	}
	return props
}

func (w *Workloads) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(w, opts)
	if err != nil {
		return err
	}
	ids := pulumi.StringMap{}
	for _, s := range Services {
		deployment, err := a.deploy(ctx, name+"-"+s.Name, s, inherited)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		// Known once the Deployment is there.
		id, url := s.spiffeID(a.TrustDomain), fmt.Sprintf("http://%s:%d/call", a.host(s), plainPort)
		ids[s.Name] = deployment.Metadata.Name().ApplyT(func(*string) string { return id }).(pulumi.StringOutput)
		if s.Name == Services[0].Name {
			w.CallURL = deployment.Metadata.Name().ApplyT(func(*string) string { return url }).(pulumi.StringOutput)
		}
	}
	w.SPIFFEIDs = ids.ToStringMapOutput()
	return nil
}

// host is a service's DNS name.
func (a Args) host(s Service) string {
	return fmt.Sprintf("%s.%s.svc.%s", s.Name, a.Namespace, a.ClusterDomain)
}

func (s Service) identity() manifest.Identity {
	return manifest.Identity{Name: s.Name, Instance: s.Name, Component: "service"}
}

func (a Args) metadata(s Service) *metav1.ObjectMetaArgs {
	return &metav1.ObjectMetaArgs{
		Name: pulumi.String(s.Name), Namespace: pulumi.String(a.Namespace), Labels: s.identity().Labels(),
	}
}

// deploy makes one service.
func (a Args) deploy(ctx *pulumi.Context, name string, s Service, opts []pulumi.ResourceOption) (*appsv1.Deployment, error) {
	selector := pulumi.ToStringMap(s.selector())
	account, err := corev1.NewServiceAccount(ctx, name+"-account", &corev1.ServiceAccountArgs{
		Metadata: a.metadata(s), AutomountServiceAccountToken: pulumi.Bool(false),
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("service account: %w", err)
	}
	serviceMetadata := a.metadata(s)
	serviceMetadata.Annotations = manifest.NoAwait
	if _, err := corev1.NewService(ctx, name+"-service", &corev1.ServiceArgs{
		Metadata: serviceMetadata,
		Spec: &corev1.ServiceSpecArgs{
			ClusterIP: pulumi.String("None"), Selector: selector,
			Ports: corev1.ServicePortArray{servicePort("mtls", mtlsPort), servicePort("http", plainPort)},
		},
	}, opts...); err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	if a.Replicas > 1 {
		if _, err := policyv1.NewPodDisruptionBudget(ctx, name+"-pdb", &policyv1.PodDisruptionBudgetArgs{
			Metadata: a.metadata(s),
			Spec: &policyv1.PodDisruptionBudgetSpecArgs{
				MaxUnavailable: pulumi.Int(1), UnhealthyPodEvictionPolicy: pulumi.String("AlwaysAllow"),
				Selector: &metav1.LabelSelectorArgs{MatchLabels: selector},
			},
		}, opts...); err != nil {
			return nil, fmt.Errorf("disruption budget: %w", err)
		}
	}
	deployment, err := appsv1.NewDeployment(ctx, name+"-deployment", &appsv1.DeploymentArgs{
		Metadata: a.metadata(s),
		Spec: &appsv1.DeploymentSpecArgs{
			Replicas: pulumi.Int(a.Replicas),
			Selector: &metav1.LabelSelectorArgs{MatchLabels: selector},
			Strategy: &appsv1.DeploymentStrategyArgs{
				Type:          pulumi.String("RollingUpdate"),
				RollingUpdate: &appsv1.RollingUpdateDeploymentArgs{MaxUnavailable: pulumi.Int(0), MaxSurge: pulumi.Int(1)},
			},
			Template: &corev1.PodTemplateSpecArgs{
				Metadata: &metav1.ObjectMetaArgs{Labels: s.identity().Labels()},
				Spec:     a.pod(s),
			},
		},
	}, append(opts, pulumi.DependsOn([]pulumi.Resource{account}))...)
	if err != nil {
		return nil, fmt.Errorf("deployment: %w", err)
	}
	return deployment, nil
}

func servicePort(name string, number int) corev1.ServicePortArgs {
	return corev1.ServicePortArgs{Name: pulumi.String(name), Port: pulumi.Int(number), TargetPort: pulumi.String(name)}
}

func (a Args) pod(s Service) *corev1.PodSpecArgs {
	affinity, spread := a.Spread.Place(pulumi.ToStringMap(s.selector()))
	pod := &corev1.PodSpecArgs{
		ServiceAccountName: pulumi.String(s.Name), AutomountServiceAccountToken: pulumi.Bool(false),
		EnableServiceLinks: pulumi.Bool(false),
		SecurityContext:    manifest.RestrictedPod(user),
		Affinity:           affinity, TopologySpreadConstraints: spread, Tolerations: manifest.LeaveLostNode(),
		TerminationGracePeriodSeconds: pulumi.Int(int(gracePeriod.Seconds())),
		DnsConfig: &corev1.PodDNSConfigArgs{Options: corev1.PodDNSConfigOptionArray{
			dnsOption("ndots", 1), dnsOption("timeout", 1), dnsOption("attempts", 3),
		}},
		Containers: corev1.ContainerArray{corev1.ContainerArgs{
			Name: pulumi.String(s.Name), Image: a.Images.of(s.Name), ImagePullPolicy: pulumi.String("IfNotPresent"),
			Env: a.environment(s),
			Ports: corev1.ContainerPortArray{
				manifest.Port("mtls", mtlsPort),
				manifest.Port("http", plainPort),
			},
			// A pod is ready once it holds an SVID. That is asked for often: callers get its address that much sooner, and lose it
			// that much sooner when it is about to stop.
			ReadinessProbe:  check("/readyz", 2, 2),
			LivenessProbe:   check("/healthz", 10, 3),
			Resources:       a.Resources.Args(),
			SecurityContext: manifest.Restricted(),
			VolumeMounts:    corev1.VolumeMountArray{manifest.ReadOnlyMount("spiffe-workload-api", socketDir)},
		}},
		Volumes: corev1.VolumeArray{corev1.VolumeArgs{
			Name: pulumi.String("spiffe-workload-api"),
			Csi:  &corev1.CSIVolumeSourceArgs{Driver: pulumi.String(a.CSIDriver), ReadOnly: pulumi.Bool(true)},
		}},
	}
	if a.PriorityClassName != nil {
		pod.PriorityClassName = a.PriorityClassName
	}
	return pod
}

// environment is the program's configuration (cmd/internal/chain, Config). It is part of the pod template, so a change
// rolls the pods.
func (a Args) environment(s Service) corev1.EnvVarArray {
	env := corev1.EnvVarArray{}
	set := func(key, value string) {
		env = append(env, corev1.EnvVarArgs{Name: pulumi.String(key), Value: pulumi.String(value)})
	}
	set("SPIFFE_ENDPOINT_SOCKET", "unix://"+socketDir+"/"+socketFile)
	if callers := a.Callers[s.Name]; len(callers) > 0 {
		set("ALLOWED_CALLERS", strings.Join(callers, ","))
	}
	if s.Next != "" {
		next := named(s.Next)
		set("NEXT_ADDRESS", fmt.Sprintf("%s.:%d", a.host(next), mtlsPort))
		set("NEXT_ID", next.spiffeID(a.TrustDomain))
	}
	if s.Keeps && a.Cache != (Peer{}) {
		set("CACHE_ADDRESS", a.Cache.Address)
		set("CACHE_ID", a.Cache.SPIFFEID)
	}
	if s.Announces && a.Queue != (Peer{}) {
		set("QUEUE_ADDRESS", a.Queue.Address)
		set("QUEUE_ID", a.Queue.SPIFFEID)
	}
	if s.Name == Services[0].Name {
		set("CALL_RATE", strconv.FormatFloat(a.CallRate, 'g', -1, 64))
	}
	set("CALL_TIMEOUT", callTimeout.String())
	set("DRAIN_DELAY", drainDelay.String())
	set("SHUTDOWN_TIMEOUT", shutdownTimeout.String())
	return env
}

func check(path string, period, failures int) *corev1.ProbeArgs {
	return &corev1.ProbeArgs{
		HttpGet:       &corev1.HTTPGetActionArgs{Path: pulumi.String(path), Port: pulumi.String("http")},
		PeriodSeconds: pulumi.Int(period), FailureThreshold: pulumi.Int(failures), TimeoutSeconds: pulumi.Int(2),
	}
}

func dnsOption(name string, value int) corev1.PodDNSConfigOptionArgs {
	return corev1.PodDNSConfigOptionArgs{Name: pulumi.String(name), Value: pulumi.String(strconv.Itoa(value))}
}
