// Package gateway deploys a gateway of the DMZ: TLS towards clients, a web application firewall, SPIFFE mutual TLS towards
// the one service behind it. The web gateway and the API gateway are two of them.
//
// In: a trust domain, an image, the service behind and the paths that are passed on. Out: a Deployment behind a Service, the
// URL for clients, and, as plain data that is known before anything is deployed, the identity that has to be registered
// (Args.Identity).
//
// # The certificate that clients see
//
// Without an EdgeSecret it is the gateway's SVID: it carries DNSNames because the registration does, is renewed every half
// hour without a restart, and is verified against the trust domain's bundle. That is for clients that have the bundle. With
// an EdgeSecret it is that Secret's certificate, for everybody else; the program reads it again when it changes. Who renews
// it (cert-manager, an operator) is outside this package.
//
// # Whose address a request comes from
//
// Rates and connections are bounded for each client's address. A NodePort or LoadBalancer Service keeps it (external traffic
// policy Local); a balancer that replaces it makes all clients one, unless it is named in TrustedProxies and passes the address
// on in X-Forwarded-For.
//
// # Behind a balancer that checks the nodes
//
// A balancer that sends requests to a NodePort of every node finds out by asking which ones have a gateway, at HealthPath. When a
// gateway is told to stop, it says no there and goes on serving for DrainDelay, which has to be longer than the balancer takes to
// notice. Without, requests would for some seconds go to a node that answers nothing.
package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"regexp"
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
	"ephemos.dev/deploy/components/zones"
)

const (
	edgePort    = 8443 // clients
	plainPort   = 8080 // probes, statistics, metrics
	servicePort = 443

	// The cluster's range of NodePorts, unless the API server is told otherwise.
	firstNodePort, lastNodePort = 30000, 32767
	// widestProxies and widestProxies6 are the program's least prefixes of a range of trusted proxies, of IPv4 and of IPv6.
	widestProxies, widestProxies6 = 8, 32

	socketDir  = "/spiffe-workload-api"
	socketFile = "spire-agent.sock"
	edgeDir    = "/edge"
	// tmpDir is where the firewall keeps uploaded files while it inspects them.
	tmpDir = "/tmp"

	user = 65532

	// A request in progress takes at most readTimeout to arrive and callTimeout to be answered. After SIGTERM, drainDelay and
	// shutdownTimeout follow each other.
	readTimeout     = 15 * time.Second
	callTimeout     = 8 * time.Second
	drainDelay      = 5 * time.Second
	shutdownTimeout = readTimeout + callTimeout + 5*time.Second
	maxDrainDelay   = 5 * time.Minute
)

// Route maps a path of clients to one of the service behind. With a slash at the end of both it maps every path below.
type Route struct {
	From, To string
}

// ServiceType is how clients reach the gateway.
type ServiceType string

// The types, in Kubernetes' notation.
const (
	// ClusterIP is reached from inside the cluster only.
	ClusterIP ServiceType = "ClusterIP"
	// NodePort is reached at a port of each node that runs a gateway.
	NodePort ServiceType = "NodePort"
	// LoadBalancer is reached at an address that the cluster's provider gives.
	LoadBalancer ServiceType = "LoadBalancer"
)

// Args are the arguments of New.
type Args struct {
	// Name is the metadata.name of all objects, and tells gateways apart. Default zones.WebGateway, "web-gateway".
	Name string
	// Namespace is where it runs; pod security "restricted". Default zones.NamespaceDMZ, "dmz".
	Namespace string
	// Image is an image whose entry point is the program cmd/gateway. Required.
	Image pulumi.StringInput
	// TrustDomain is the trust domain of the gateway's SPIFFE ID. Required.
	TrustDomain string
	// SPIFFEPath is the path of its SPIFFE ID. Default that of the role of its name in zones.Standard; required for a name that
	// has no role there.
	SPIFFEPath string
	// UpstreamHost is the DNS name of the service behind, which resolves to each of its pods (a headless Service). Required.
	UpstreamHost string
	// UpstreamPort is the port of its mutual-TLS API. Default 8443.
	UpstreamPort int
	// UpstreamID is the only SPIFFE ID that it may have. Required.
	UpstreamID string
	// Routes are the paths that are passed on; for anything else 404 is answered. Default /chain, the services' one resource.
	Routes []Route
	// Methods are the HTTP methods that are not refused. Default GET, HEAD, POST and OPTIONS.
	Methods []string
	// DNSNames are the names under which clients reach the gateway; its SVID carries them, and after them those of its Service
	// inside the cluster: full, without the cluster's domain, and as name.namespace. Default only those.
	DNSNames []string
	// EdgeSecret is the name of a Secret of type kubernetes.io/tls in Namespace whose certificate clients are shown. Default
	// none: they are shown the SVID.
	EdgeSecret pulumi.StringInput
	// Replicas is the number of pods. Default 2.
	Replicas int
	// Spread says how far apart the pods run. Default manifest.SpreadPreferred.
	Spread manifest.Spread
	// ParanoiaLevel is the core rule set's, 1 to 4. Default 1: see cmd/internal/waf/testdata/levels.txt for what each level finds
	// and what it costs.
	ParanoiaLevel int
	// RateLimit and RateBurst bound each client's requests at each pod: so many a second, after so many at once. Default 20 and
	// 40. A negative RateLimit means no limit.
	RateLimit float64
	RateBurst int
	// ServiceType is how clients reach the gateway. Default ClusterIP.
	ServiceType ServiceType
	// NodePort is the port on the nodes, for balancers outside of the cluster that are told it. Only with ServiceType NodePort.
	// Default 0: the cluster chooses.
	NodePort int
	// TrustedProxies are the ranges of addresses of balancers that pass clients' requests on and put the client's address behind
	// whatever X-Forwarded-For held. Nobody else may be able to connect from there. Default none.
	TrustedProxies []string
	// HealthPath is a path at which clients, too, are told whether the gateway may be sent requests, for balancers. It must not
	// be one of Routes. Default none.
	HealthPath string
	// DrainDelay is how long a gateway goes on serving when it is told to stop. Default 5s, which covers
	// the time that the nodes' rules take to forget it.
	DrainDelay time.Duration
	// ServiceAnnotations are added to the Service, for the provider of a LoadBalancer: it has to pass TLS through.
	ServiceAnnotations map[string]string
	// CSIDriver is the name of the SPIFFE CSI driver. Default "csi.spiffe.io".
	CSIDriver string
	// ClusterDomain is the cluster's DNS domain. Default "cluster.local".
	ClusterDomain string
	// PriorityClassName is the priority class of the pods. Nil means none.
	PriorityClassName pulumi.StringPtrInput
	// Resources of each pod. Default 50m, 96Mi, limit 512Mi. Measured: 41 MiB idle; 130 MiB at most under 128 requests at one
	// time, whatever their bodies; answers are held too, up to 1 MiB each.
	Resources manifest.Resources
}

// Gateway is a gateway.
type Gateway struct {
	pulumi.ResourceState

	// URL is where clients inside the cluster reach it. It is known when the Deployment is there.
	URL pulumi.StringOutput `pulumi:"url"`
	// SPIFFEID is its SPIFFE ID.
	SPIFFEID pulumi.StringOutput `pulumi:"spiffeID"`
}

// Identity is what has to be registered for a gateway to get its identity. All of it must match a pod.
type Identity struct {
	// Name names the identity.
	Name string
	// SPIFFEIDPath is the path of the SPIFFE ID; the trust domain is the servers'.
	SPIFFEIDPath string
	// Namespace and ServiceAccount are the pod's.
	Namespace, ServiceAccount string
	// PodLabels are labels the pod has.
	PodLabels map[string]string
	// DNSNames are the names that the SVID has to carry.
	DNSNames []string
}

// Identity returns the identity of the gateway that New deploys with the arguments.
func (a Args) Identity() Identity {
	a = a.WithDefaults()
	return Identity{
		Name: a.Name, SPIFFEIDPath: a.SPIFFEPath, Namespace: a.Namespace, ServiceAccount: a.Name,
		PodLabels: a.selector(), DNSNames: a.names(),
	}
}

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a Args) WithDefaults() Args {
	a.Name = cmp.Or(a.Name, zones.WebGateway)
	a.Namespace = cmp.Or(a.Namespace, zones.NamespaceDMZ)
	if role, known := zones.Standard(zones.Options{}).Role(a.Name); known {
		a.SPIFFEPath = cmp.Or(a.SPIFFEPath, role.SPIFFEPath)
	}
	a.UpstreamPort = cmp.Or(a.UpstreamPort, 8443)
	if a.Routes == nil {
		a.Routes = []Route{{From: "/chain", To: "/chain"}}
	}
	if a.Methods == nil {
		a.Methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions}
	}
	a.ClusterDomain = cmp.Or(a.ClusterDomain, "cluster.local")
	a.Replicas = cmp.Or(a.Replicas, 2)
	a.Spread = cmp.Or(a.Spread, manifest.SpreadPreferred)
	a.ParanoiaLevel = cmp.Or(a.ParanoiaLevel, 1)
	a.RateLimit = cmp.Or(a.RateLimit, 20)
	a.RateBurst = cmp.Or(a.RateBurst, 40)
	a.ServiceType = cmp.Or(a.ServiceType, ClusterIP)
	a.DrainDelay = cmp.Or(a.DrainDelay, drainDelay)
	a.CSIDriver = cmp.Or(a.CSIDriver, "csi.spiffe.io")
	a.Resources = a.Resources.WithDefaults(manifest.Resources{CPU: "50m", Memory: "96Mi", MemoryLimit: "512Mi"})
	return a
}

var (
	objectName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)
	dnsName    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
	plainPath  = regexp.MustCompile(`^/[-._~/A-Za-z0-9]*$`)
	method     = regexp.MustCompile(`^[A-Z]+$`)
)

func tooWide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < widestProxies
	}
	return p.Bits() < widestProxies6
}

func (a Args) validate() error {
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, fmt.Sprint(value), allowed))
	}
	if !objectName.MatchString(a.Name) {
		fail("name", a.Name, "a DNS label that begins with a letter")
	}
	if !objectName.MatchString(a.Namespace) {
		fail("namespace", a.Namespace, "a DNS label that begins with a letter")
	}
	if a.Image == nil {
		fail("image", "", "set")
	}
	if _, err := spiffeid.TrustDomainFromString(a.TrustDomain); err != nil || a.TrustDomain == "" {
		fail("trustDomain", a.TrustDomain, "the name of a trust domain, such as example.org")
	}
	if a.SPIFFEPath == "" || spiffeid.ValidatePath(a.SPIFFEPath) != nil {
		fail("spiffePath", a.SPIFFEPath, "the path of a SPIFFE ID, such as /gateway/web; only names of zones.Standard have a default")
	}
	if !dnsName.MatchString(a.UpstreamHost) {
		fail("upstreamHost", a.UpstreamHost, "a DNS name in lower case, such as payment.services.svc.cluster.local")
	}
	if a.UpstreamPort < 1 || a.UpstreamPort > 65535 {
		fail("upstreamPort", a.UpstreamPort, "from 1 to 65535")
	}
	if id, err := spiffeid.FromString(a.UpstreamID); err != nil || id.Path() == "" {
		fail("upstreamID", a.UpstreamID, "a SPIFFE ID with a path, such as spiffe://example.org/workload/payment-service")
	}
	errs = append(errs, a.validateRoutes()...)
	if len(a.Methods) == 0 {
		fail("methods", "", "at least one HTTP method")
	}
	for i, m := range a.Methods {
		if !method.MatchString(m) {
			fail(fmt.Sprintf("methods[%d]", i), m, "an HTTP method in capital letters")
		}
	}
	for i, name := range a.DNSNames {
		if len(name) > 253 || !dnsName.MatchString(name) {
			fail(fmt.Sprintf("dnsNames[%d]", i), name, "a DNS name in lower case")
		}
	}
	if a.Replicas < 1 || a.Replicas > 50 {
		fail("replicas", a.Replicas, "from 1 to 50")
	}
	if a.ParanoiaLevel < 1 || a.ParanoiaLevel > 4 {
		fail("paranoiaLevel", a.ParanoiaLevel, "from 1 to 4")
	}
	if !(a.RateLimit <= 1e6) {
		fail("rateLimit", a.RateLimit, "at most 1000000 requests a second, or negative for no limit")
	}
	if a.RateBurst < 1 || a.RateBurst > 1e6 {
		fail("rateBurst", a.RateBurst, "from 1 to 1000000")
	}
	if !slices.Contains([]ServiceType{ClusterIP, NodePort, LoadBalancer}, a.ServiceType) {
		fail("serviceType", a.ServiceType, fmt.Sprintf("one of %s, %s, %s", ClusterIP, NodePort, LoadBalancer))
	}
	switch {
	case a.NodePort != 0 && a.ServiceType != NodePort:
		fail("nodePort", a.NodePort, "0 without serviceType "+string(NodePort))
	case a.NodePort != 0 && (a.NodePort < firstNodePort || a.NodePort > lastNodePort):
		fail("nodePort", a.NodePort, fmt.Sprintf("from %d to %d, or 0 for the cluster's choice", firstNodePort, lastNodePort))
	}
	for i, text := range a.TrustedProxies {
		if prefix, err := netip.ParsePrefix(text); err != nil || prefix != prefix.Masked() || tooWide(prefix) {
			fail(fmt.Sprintf("trustedProxies[%d]", i), text, fmt.Sprintf("a range of addresses such as 10.0.0.0/24, of at least /%d, of IPv6 /%d", widestProxies, widestProxies6))
		}
	}
	if a.DrainDelay < 0 || a.DrainDelay > maxDrainDelay {
		fail("drainDelay", a.DrainDelay, fmt.Sprintf("from 0s to %s", maxDrainDelay))
	}
	if !dnsName.MatchString(a.ClusterDomain) {
		fail("clusterDomain", a.ClusterDomain, "a DNS name in lower case")
	}
	return errors.Join(append(errs, a.Spread.Validate())...)
}

func (a Args) validateRoutes() []error {
	var errs []error
	fail := func(key, value, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, value, allowed))
	}
	clean := func(p string) bool {
		cleaned := path.Clean(p)
		return plainPath.MatchString(p) && (p == cleaned || p == cleaned+"/")
	}
	if len(a.Routes) == 0 {
		fail("routes", "", "at least one route")
	}
	if a.HealthPath != "" && !clean(a.HealthPath) {
		fail("healthPath", a.HealthPath, "an absolute path of characters that need no escape, without empty or dot segments")
	}
	seen := map[string]bool{}
	for i, r := range a.Routes {
		key := fmt.Sprintf("routes[%d]", i)
		if !clean(r.From) {
			fail(key+".from", r.From, "an absolute path of characters that need no escape, without empty or dot segments")
		}
		if !clean(r.To) {
			fail(key+".to", r.To, "an absolute path of characters that need no escape, without empty or dot segments")
		}
		if strings.HasSuffix(r.From, "/") != strings.HasSuffix(r.To, "/") {
			fail(key+".to", r.To, "with a slash at the end if "+r.From+" has one, and without if not")
		}
		if seen[r.From] {
			fail(key+".from", r.From, "a path that no other route has")
		}
		if a.HealthPath != "" && (a.HealthPath == r.From || strings.HasSuffix(r.From, "/") && strings.HasPrefix(a.HealthPath, r.From)) {
			fail("healthPath", a.HealthPath, "a path that no route passes on, unlike "+r.From)
		}
		seen[r.From] = true
	}
	return errs
}

// host is the DNS name of the gateway's Service.
func (a Args) host() string {
	return fmt.Sprintf("%s.%s.svc.%s", a.Name, a.Namespace, a.ClusterDomain)
}

// names are all names of the gateway. The first one is also its certificate's common name.
func (a Args) names() []string {
	names := slices.Clone(a.DNSNames)
	for _, name := range []string{a.host(), fmt.Sprintf("%s.%s.svc", a.Name, a.Namespace), fmt.Sprintf("%s.%s", a.Name, a.Namespace)} {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (a Args) identity() manifest.Identity {
	return manifest.Identity{Name: "gateway", Instance: a.Name, Component: "gateway"}
}

// selector returns the labels that select the pods and never change.
func (a Args) selector() map[string]string {
	return map[string]string{"app.kubernetes.io/name": "gateway", "app.kubernetes.io/instance": a.Name}
}

// New deploys a gateway. Its pods become ready once they hold an SVID and, with an EdgeSecret, a certificate; the identity
// must be registered, but need not be there first.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Gateway, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("gateway %s: %w", name, err)
	}

	self := &Gateway{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "namespace": pulumi.String(a.Namespace), "trustDomain": pulumi.String(a.TrustDomain),
		"image": a.Image, "upstreamHost": pulumi.String(a.UpstreamHost), "upstreamID": pulumi.String(a.UpstreamID),
		"routes": pulumi.String(a.routes()), "replicas": pulumi.Int(a.Replicas), "paranoiaLevel": pulumi.Int(a.ParanoiaLevel),
		"dnsNames": pulumi.ToStringArray(a.names()), "serviceType": pulumi.String(a.ServiceType),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:gateway:Gateway", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("gateway %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"url": self.URL, "spiffeID": self.SPIFFEID}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("gateway %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (g *Gateway) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(g, opts)
	if err != nil {
		return err
	}
	account, err := corev1.NewServiceAccount(ctx, name+"-account", &corev1.ServiceAccountArgs{
		Metadata: a.metadata(), AutomountServiceAccountToken: pulumi.Bool(false),
	}, inherited...)
	if err != nil {
		return fmt.Errorf("service account: %w", err)
	}
	if _, err := corev1.NewService(ctx, name+"-service", a.service(), inherited...); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	if a.Replicas > 1 {
		if _, err := policyv1.NewPodDisruptionBudget(ctx, name+"-pdb", &policyv1.PodDisruptionBudgetArgs{
			Metadata: a.metadata(),
			Spec: &policyv1.PodDisruptionBudgetSpecArgs{
				MaxUnavailable: pulumi.Int(1), UnhealthyPodEvictionPolicy: pulumi.String("AlwaysAllow"),
				Selector: &metav1.LabelSelectorArgs{MatchLabels: pulumi.ToStringMap(a.selector())},
			},
		}, inherited...); err != nil {
			return fmt.Errorf("disruption budget: %w", err)
		}
	}
	deployment, err := appsv1.NewDeployment(ctx, name+"-deployment", &appsv1.DeploymentArgs{
		Metadata: a.metadata(),
		Spec: &appsv1.DeploymentSpecArgs{
			Replicas: pulumi.Int(a.Replicas),
			Selector: &metav1.LabelSelectorArgs{MatchLabels: pulumi.ToStringMap(a.selector())},
			Strategy: &appsv1.DeploymentStrategyArgs{
				Type:          pulumi.String("RollingUpdate"),
				RollingUpdate: &appsv1.RollingUpdateDeploymentArgs{MaxUnavailable: pulumi.Int(0), MaxSurge: pulumi.Int(1)},
			},
			Template: &corev1.PodTemplateSpecArgs{
				Metadata: &metav1.ObjectMetaArgs{Labels: a.identity().Labels()},
				Spec:     a.pod(),
			},
		},
	}, append(inherited, pulumi.DependsOn([]pulumi.Resource{account}))...)
	if err != nil {
		return fmt.Errorf("deployment: %w", err)
	}
	// Known once the Deployment is there.
	url, id := "https://"+a.host(), "spiffe://"+a.TrustDomain+a.SPIFFEPath
	g.URL = deployment.Metadata.Name().ApplyT(func(*string) string { return url }).(pulumi.StringOutput)
	g.SPIFFEID = deployment.Metadata.Name().ApplyT(func(*string) string { return id }).(pulumi.StringOutput)
	return nil
}

func (a Args) metadata() *metav1.ObjectMetaArgs {
	return &metav1.ObjectMetaArgs{Name: pulumi.String(a.Name), Namespace: pulumi.String(a.Namespace), Labels: a.identity().Labels()}
}

// service is what clients reach. The plaintext port is not part of it.
func (a Args) service() *corev1.ServiceArgs {
	metadata := a.metadata()
	metadata.Annotations = manifest.With(manifest.NoAwait, pulumi.ToStringMap(a.ServiceAnnotations))
	spec := &corev1.ServiceSpecArgs{
		Type: pulumi.String(a.ServiceType), Selector: pulumi.ToStringMap(a.selector()),
		Ports: corev1.ServicePortArray{corev1.ServicePortArgs{
			Name: pulumi.String("https"), Port: pulumi.Int(servicePort), TargetPort: pulumi.String("https"), NodePort: a.nodePort(),
		}},
	}
	if a.ServiceType != ClusterIP {
		// Otherwise a node that passes a connection on puts its own address in the place of the client's.
		spec.ExternalTrafficPolicy = pulumi.String("Local")
	}
	return &corev1.ServiceArgs{Metadata: metadata, Spec: spec}
}

func (a Args) nodePort() pulumi.IntPtrInput {
	if a.NodePort == 0 {
		return nil
	}
	return pulumi.Int(a.NodePort)
}

// gracePeriod is how long a gateway has from being told to stop to being ended.
func (a Args) gracePeriod() time.Duration { return a.DrainDelay + shutdownTimeout + 10*time.Second }

func (a Args) pod() *corev1.PodSpecArgs {
	affinity, spread := a.Spread.Place(pulumi.ToStringMap(a.selector()))
	mounts := corev1.VolumeMountArray{manifest.ReadOnlyMount("spiffe-workload-api", socketDir), manifest.Mount("tmp", tmpDir)}
	volumes := corev1.VolumeArray{
		corev1.VolumeArgs{
			Name: pulumi.String("spiffe-workload-api"),
			Csi:  &corev1.CSIVolumeSourceArgs{Driver: pulumi.String(a.CSIDriver), ReadOnly: pulumi.Bool(true)},
		},
		manifest.Scratch("tmp", ""),
	}
	if a.EdgeSecret != nil {
		mounts = append(mounts, manifest.ReadOnlyMount("edge", edgeDir))
		volumes = append(volumes, manifest.SecretFiles("edge", a.EdgeSecret, map[string]string{"tls.crt": "tls.crt", "tls.key": "tls.key"}))
	}
	pod := &corev1.PodSpecArgs{
		ServiceAccountName: pulumi.String(a.Name), AutomountServiceAccountToken: pulumi.Bool(false),
		EnableServiceLinks: pulumi.Bool(false),
		SecurityContext:    manifest.RestrictedPod(user),
		Affinity:           affinity, TopologySpreadConstraints: spread, Tolerations: manifest.LeaveLostNode(),
		TerminationGracePeriodSeconds: pulumi.Int(int(a.gracePeriod().Seconds())),
		DnsConfig: &corev1.PodDNSConfigArgs{Options: corev1.PodDNSConfigOptionArray{
			dnsOption("ndots", 1), dnsOption("timeout", 1), dnsOption("attempts", 3),
		}},
		Containers: corev1.ContainerArray{corev1.ContainerArgs{
			Name: pulumi.String("gateway"), Image: a.Image, ImagePullPolicy: pulumi.String("IfNotPresent"),
			Env:             a.environment(),
			Ports:           corev1.ContainerPortArray{manifest.Port("https", edgePort), manifest.Port("http", plainPort)},
			ReadinessProbe:  check("/readyz", 2, 2),
			LivenessProbe:   check("/healthz", 10, 3),
			Resources:       a.Resources.Args(),
			SecurityContext: manifest.Restricted(),
			VolumeMounts:    mounts,
		}},
		Volumes: volumes,
	}
	if a.PriorityClassName != nil {
		pod.PriorityClassName = a.PriorityClassName
	}
	return pod
}

// environment is the program's configuration (cmd/gateway, Config). It is part of the pod template, so a change rolls the
// pods.
func (a Args) environment() corev1.EnvVarArray {
	env := corev1.EnvVarArray{}
	set := func(key, value string) {
		env = append(env, corev1.EnvVarArgs{Name: pulumi.String(key), Value: pulumi.String(value)})
	}
	set("GATEWAY_NAME", a.Name)
	set("SPIFFE_ENDPOINT_SOCKET", "unix://"+socketDir+"/"+socketFile)
	set("UPSTREAM_ADDRESS", fmt.Sprintf("%s.:%d", a.UpstreamHost, a.UpstreamPort))
	set("UPSTREAM_ID", a.UpstreamID)
	set("ROUTES", a.routes())
	set("ALLOWED_METHODS", strings.Join(a.Methods, ","))
	set("PARANOIA_LEVEL", strconv.Itoa(a.ParanoiaLevel))
	set("RATE_LIMIT", strconv.FormatFloat(max(a.RateLimit, 0), 'f', -1, 64))
	set("RATE_BURST", strconv.Itoa(a.RateBurst))
	set("READ_TIMEOUT", readTimeout.String())
	set("CALL_TIMEOUT", callTimeout.String())
	set("DRAIN_DELAY", a.DrainDelay.String())
	set("SHUTDOWN_TIMEOUT", shutdownTimeout.String())
	set("TMPDIR", tmpDir)
	if len(a.TrustedProxies) > 0 {
		set("TRUSTED_PROXIES", strings.Join(a.TrustedProxies, ","))
	}
	if a.HealthPath != "" {
		set("EDGE_HEALTH_PATH", a.HealthPath)
	}
	if a.EdgeSecret != nil {
		set("EDGE_CERT_FILE", edgeDir+"/tls.crt")
		set("EDGE_KEY_FILE", edgeDir+"/tls.key")
	}
	return env
}

func (a Args) routes() string {
	routes := make([]string, 0, len(a.Routes))
	for _, r := range a.Routes {
		routes = append(routes, r.From+"="+r.To)
	}
	return strings.Join(routes, ",")
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
