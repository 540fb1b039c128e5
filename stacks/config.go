package stacks

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ephemos.dev/deploy/components/gateway"
	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/postgres"
	"ephemos.dev/deploy/components/segmentation"
	"ephemos.dev/deploy/components/spire/agent"
	"ephemos.dev/deploy/components/spire/rootca"
	"ephemos.dev/deploy/components/zones"
)

// Namespace is the configuration namespace of this project: every key of a
// stack's configuration that begins with it and a colon is ours.
const Namespace = "ephemos"

// Configuration keys, without their namespace.
const (
	keyPlatform          = "platform"
	keyProfile           = "profile"
	keyTrustDomain       = "trustDomain"
	keyClusterName       = "clusterName"
	keyKubeconfig        = "kubeconfig"
	keyKubeContext       = "kubeContext"
	keyImageRegistry     = "imageRegistry"
	keyImagesFile        = "imagesFile"
	keyStorageClass      = "storageClass"
	keyPodCIDR           = "podCIDR"
	keyNodeCIDR          = "nodeCIDR"
	keyAPIServerCIDR     = "apiServerCIDR"
	keyAPIServerPort     = "apiServerPort"
	keyDNSPort           = "dnsPort"
	keyWebHost           = "webHost"
	keyAPIHost           = "apiHost"
	keyEdgeSecret        = "edgeSecret"
	keyGatewayService    = "gatewayServiceType"
	keyGatewayReplicas   = "gatewayReplicas"
	keyServerReplicas    = "serverReplicas"
	keyServerQuorum      = "serverQuorum"
	keyPostgresInstances = "postgresInstances"
	keyDataDurability    = "dataDurability"
	keyCATTL             = "caTTL"
	keyX509SVIDTTL       = "x509SVIDTTL"
	keyJWTSVIDTTL        = "jwtSVIDTTL"
	keyAgentTTL          = "agentTTL"
	keyWorkloadReplicas  = "workloadReplicas"
	keyCallRate          = "callRate"
	keyAdminIDs          = "adminIDs"
	keyRootCASecret      = "rootCASecret"
	keyKubeletAddress    = "kubeletAddress"
	keyKubeletCA         = "kubeletCA"
	keySpread            = "spread"
	keyProtect           = "protect"
	keyLegacyKubeletAuth = "legacyKubeletAuthorization"
)

// PlatformKubernetes deploys onto a cluster that exists already.
const PlatformKubernetes = "kubernetes"

// Config is the checked configuration of one stack.
type Config struct {
	// Stack is the name of the stack.
	Stack string
	// Platform is what the stack is deployed onto.
	Platform string
	// Profile is the stack's row of Profiles with the stack's overrides applied.
	Profile Profile
	// TrustDomain is the SPIFFE trust domain, without scheme.
	TrustDomain string
	// ClusterName names the Kubernetes cluster in the IDs of agents.
	ClusterName string
	// Kubeconfig says how to reach the cluster.
	Kubeconfig Kubeconfig
	// Images are the references of all images.
	Images Images
	// StorageClass is the class of every volume; empty takes the cluster's
	// default class.
	StorageClass string
	// PodCIDRs are the address ranges of the cluster's pods.
	PodCIDRs []string
	// Ranges are what network policies call nodes, API server and pods. Its pods
	// are empty unless the stack says which they are: every private address is
	// too much to leave out of the internet.
	Ranges segmentation.Ranges
	// Zones are the ports of the cluster's own that the zone model needs.
	Zones zones.Options
	// WebHost and APIHost are the DNS names of the two gateways.
	WebHost, APIHost string
	// GatewayService is how clients reach the gateways.
	GatewayService gateway.ServiceType
	// EdgeSecret names a Secret with the gateways' certificate (tls.crt, tls.key)
	// in their namespace; empty takes their SVIDs.
	EdgeSecret string
	// CallRate is how many calls a second the payment service makes; 0 makes none.
	CallRate int
	// AdminIDs are the SPIFFE IDs that may administer the SPIRE servers.
	AdminIDs []string
	// RootCASecret names a Secret with the root CA (tls.crt, tls.key) in the
	// servers' namespace; empty makes one in the cluster.
	RootCASecret string
	// KubeletAddress is what an agent calls the kubelet of its node, and what
	// must be in the kubelet's serving certificate.
	KubeletAddress agent.KubeletAddress
	// KubeletCA is a file on each node with the CA of the kubelet's serving
	// certificate; empty takes the cluster's CA.
	KubeletCA string
	// LegacyKubeletAuthorization grants agents what kubelets before Kubernetes
	// 1.33 ask for.
	LegacyKubeletAuthorization bool
	// AWS is set on the platform aws only.
	AWS AWS
}

// key describes one configuration key.
type key struct {
	name string
	// doc is what the key takes and what for.
	doc string
	// def is the value of a key that is not set; empty when there is none.
	def string
	// unset says what holds without a value, for keys without a default.
	unset string
	// set parses a value that is not empty. Its error says what is allowed. Keys
	// without it name files, which Parse reads last.
	set func(c *Config, value string) error
}

// keys lists all keys: those of every platform and of kubernetes, then those of aws.
var keys = slices.Concat(baseKeys, awsKeys)

// baseKeys are the keys that not only the platform aws has. The profile comes before the keys that override it.
var baseKeys = []key{
	{keyPlatform, "What to deploy onto: kubernetes, a cluster that exists already, or aws, where the stack makes network, cluster and database itself.", PlatformKubernetes, "",
		oneOf(func(c *Config) *string { return &c.Platform }, PlatformKubernetes, PlatformAWS)},
	{keyProfile, "Row of the table of profiles that fills every key not set here: production, staging or development.", defaultProfile, "",
		func(c *Config, value string) error {
			profile, ok := Profiles[value]
			if !ok {
				return errors.New("one of " + strings.Join(profileNames(), ", "))
			}
			c.Profile = profile
			return nil
		}},
	{keyTrustDomain, "Required. SPIFFE trust domain: lower-case letters, digits, dots, dashes and underscores, at most 255, no scheme and no path. Cannot be changed later without new identities for everything.", "", "",
		setTrustDomain},
	{keyClusterName, "Name of the Kubernetes cluster in the IDs of agents: lower-case letters, digits and dashes, at most 63.", "", "the stack's name",
		matching(func(c *Config) *string { return &c.ClusterName }, dnsLabel, labelAllowed)},
	{keyKubeconfig, "Path of the kubeconfig file.", "", "$KUBECONFIG, else ~/.kube/config", nil},
	{keyKubeContext, "Context of the kubeconfig file.", "", "the file's current context", nil},
	{keyImageRegistry, "Registry, with an optional path, that holds this repository's own programs with the tag 0.1.0, which each `make images-push REGISTRY=...` moves.", "", "none: imagesFile names them", nil},
	{keyImagesFile, "Path of a JSON file from image name to full reference, such as `make images-push REGISTRY=...` prints, by digest; what it names replaces the public image or the one of imageRegistry.", "", "none", nil},
	{keyStorageClass, "StorageClass of the volumes of Postgres and of the SPIRE servers.", "", "the cluster's default class",
		matching(func(c *Config) *string { return &c.StorageClass }, dnsSubdomain, "the name of a StorageClass")},
	{keyPodCIDR, "Address ranges of the cluster's pods in CIDR notation, separated by commas. Only from these do the SPIRE servers believe the load balancer's header that names an agent's address, so they have to hold its pods; and they are not the internet, from which the gateways are reached. The default is every private range, for the servers only: the gateways are then open to pods too.", privateRanges, "",
		setPodCIDRs},
	{keyNodeCIDR, "Address ranges of the cluster's nodes in CIDR notation, separated by commas: agents reach the SPIRE servers from them, and network policies know them by nothing else. The default is every private range, pods included; the agents' way in is then open, behind their attestation, to every pod.", privateRanges, "",
		ranges(func(c *Config) *[]string { return &c.Ranges.Nodes })},
	{keyAPIServerCIDR, "Addresses of the Kubernetes API server's endpoints (kubectl get endpointslices kubernetes) in CIDR notation, separated by commas. The default is every private range; a cluster whose API server has a public address needs it here.", privateRanges, "",
		ranges(func(c *Config) *[]string { return &c.Ranges.APIServer })},
	{keyAPIServerPort, "Integer, 1 to 65535. Port of the API server's endpoints: 6443 with kubeadm, 443 with most providers.", "6443", "",
		integer(func(c *Config) *int { return &c.Zones.APIServerPort }, 1, 65535)},
	{keyDNSPort, "Integer, 1 to 65535. Port on which the pods of the cluster's DNS listen.", "53", "",
		integer(func(c *Config) *int { return &c.Zones.DNSPort }, 1, 65535)},
	{keyWebHost, "DNS name of the web gateway, of at most 253 lower-case letters, digits, dots and dashes.", "", "www. and the trust domain",
		matching(func(c *Config) *string { return &c.WebHost }, dnsName, "a DNS name in lower case")},
	{keyAPIHost, "DNS name of the API gateway, another than the web gateway's.", "", "api. and the trust domain",
		matching(func(c *Config) *string { return &c.APIHost }, dnsName, "a DNS name in lower case")},
	{keyGatewayService, "How clients reach the gateways: LoadBalancer or NodePort, from outside of the cluster, or ClusterIP, from its nodes only. A load balancer has to pass TLS through.", string(gateway.ClusterIP), "",
		oneOf(func(c *Config) *gateway.ServiceType { return &c.GatewayService }, gateway.ClusterIP, gateway.NodePort, gateway.LoadBalancer)},
	{keyEdgeSecret, "Name of a Secret in namespace " + zones.NamespaceDMZ + " with the gateways' TLS certificate (tls.crt) and key (tls.key), such as cert-manager keeps. A change of it is taken over without a restart.", "", "none: the gateways show their SVIDs, which clients verify with the trust bundle",
		matching(func(c *Config) *string { return &c.EdgeSecret }, dnsSubdomain, "the name of a Secret")},
	{keyGatewayReplicas, "Integer, 1 to 50. Number of pods of each of the two gateways.", "", "the profile's",
		integer(func(c *Config) *int { return &c.Profile.GatewayReplicas }, 1, 50)},
	{keyServerReplicas, "Integer, 1 to 7. Number of SPIRE servers, each on a node of its own.", "", "the profile's",
		integer(func(c *Config) *int { return &c.Profile.ServerReplicas }, 1, 7)},
	{keyServerQuorum, "Integer, 0 to one less than serverReplicas. SPIRE servers that a node drain or another voluntary disruption leaves running.", "", "the profile's",
		integer(func(c *Config) *int { return &c.Profile.ServerQuorum }, 0, 6)},
	{keySpread, "How far apart the SPIRE servers run: zones (a node each, evenly over zones), nodes (a node each) or preferred (where there is room; for clusters of one node).", "", "the profile's",
		oneOf(func(c *Config) *manifest.Spread { return &c.Profile.Spread }, manifest.SpreadZones, manifest.SpreadNodes, manifest.SpreadPreferred)},
	{keyPostgresInstances, "Integer, 1 to 7. Number of Postgres instances: one primary and its standbys.", "", "the profile's",
		integer(func(c *Config) *int { return &c.Profile.PostgresInstances }, 1, 7)},
	{keyDataDurability, "What a commit does when no standby can confirm it: required waits, preferred goes on without.", "", "the profile's",
		oneOf(func(c *Config) *postgres.Durability { return &c.Profile.DataDurability }, postgres.Required, postgres.Preferred)},
	{keyCATTL, "Duration (24h), at least 6m. Lifetime of a SPIRE server's signing certificate.", "", "the profile's",
		duration(func(c *Config) *time.Duration { return &c.Profile.CATTL }, minSVIDTTL*caTTLDivisor)},
	{keyX509SVIDTTL, "Duration (1h), 1m to a sixth of caTTL and to 168h. Lifetime of a workload's X.509-SVID.", "", "the profile's",
		duration(func(c *Config) *time.Duration { return &c.Profile.X509SVIDTTL }, minSVIDTTL)},
	{keyJWTSVIDTTL, "Duration (5m), 1m to a sixth of caTTL and to 168h. Lifetime of a workload's JWT-SVID.", "", "the profile's",
		duration(func(c *Config) *time.Duration { return &c.Profile.JWTSVIDTTL }, minSVIDTTL)},
	{keyAgentTTL, "Duration (1h), 1m to a sixth of caTTL and to 168h. Lifetime of an agent's SVID.", "", "the profile's",
		duration(func(c *Config) *time.Duration { return &c.Profile.AgentTTL }, minSVIDTTL)},
	{keyWorkloadReplicas, "Integer, 1 to 50. Number of pods of each of the payment, user and order services.", "", "the profile's",
		integer(func(c *Config) *int { return &c.Profile.WorkloadReplicas }, 1, 50)},
	{keyCallRate, "Integer, 0 to 1000. Calls a second that each payment pod makes; 0 makes none.", "2", "",
		integer(func(c *Config) *int { return &c.CallRate }, 0, 1000)},
	{keyAdminIDs, "SPIFFE IDs of the trust domain, separated by commas, that may administer the SPIRE servers through their API.", "", "none", setAdminIDs},
	{keyRootCASecret, "Name of a Secret in namespace " + serverNamespace + " with the root CA's certificate (tls.crt) and key (tls.key). It must exist when the servers start: before the first up, create the namespace and the Secret in it. up takes over a namespace that exists, and destroy deletes it with the Secret.", "", "none: one is made in the cluster",
		setRootCASecret},
	{keyKubeletAddress, "What an agent calls the kubelet of its node, and what the kubelet's serving certificate must carry: ip or node-name. The kubelet is always verified.", string(agent.KubeletByIP), "",
		oneOf(func(c *Config) *agent.KubeletAddress { return &c.KubeletAddress }, agent.KubeletByIP, agent.KubeletByNodeName)},
	{keyKubeletCA, "Absolute path of a file on each node with the CA of the kubelet's serving certificate, for kubelets that sign their own (kubeadm: /var/lib/kubelet/pki/kubelet.crt).", "", "the cluster's CA",
		setKubeletCA},
	{keyLegacyKubeletAuth, "true or false. Let agents list their node's pods on clusters before Kubernetes 1.33, whose kubelets ask for the right nodes/proxy instead of nodes/pods. It amounts to control over every container of the cluster.", "false", "",
		boolean(func(c *Config) *bool { return &c.LegacyKubeletAuthorization })},
	{keyProtect, "true or false. Refuse to delete the database, the servers' volumes and the root CA.", "", "the profile's",
		boolean(func(c *Config) *bool { return &c.Profile.Protect })},
}

func keyNames() []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = Namespace + ":" + k.name
	}
	return names
}

const (
	// caTTLDivisor and maxSVIDTTL are SPIRE's: a server hands over to its next CA
	// when a sixth of the old one's lifetime, or a week if that is less, is left,
	// and cuts SVIDs short that would outlive the CA that signs them.
	caTTLDivisor = 6
	maxSVIDTTL   = 7 * 24 * time.Hour
	// minSVIDTTL leaves agents, which look every few seconds, time to renew.
	minSVIDTTL = time.Minute
)

var (
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	dnsName      = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
)

// privateRanges are the addresses that no network routes to the outside (RFC
// 1918, RFC 6598, RFC 4193), one of which every cluster's pods have.
const privateRanges = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fc00::/7"

const labelAllowed = "at most 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit"

// Parse checks the configuration of the named stack. values maps full keys
// ("ephemos:trustDomain") to values; keys of other namespaces are not ours and
// an empty value counts as not set. isSecret says of a full key whether its
// value must not be shown. getenv reads the environment (HOME and KUBECONFIG).
// The error, a ConfigErrors, holds one error for each thing that is wrong and no
// secret value.
func Parse(stack string, values map[string]string, isSecret func(key string) bool, getenv func(string) string) (*Config, error) {
	p := parser{
		values:   values,
		isSecret: isSecret,
		refused:  map[string]bool{},
		// A profile that does not exist leaves the default one, so that the other
		// keys can be checked all the same.
		config: Config{Stack: stack, ClusterName: stack, Profile: Profiles[defaultProfile]},
	}
	p.unknownKeys()
	for _, k := range keys {
		value := cmp.Or(p.value(k.name), k.def)
		// What is wrong with a key of another platform is that it is there (platformKeys).
		if k.set == nil || value == "" || p.ofAnother(k.name) {
			continue
		}
		if err := k.set(&p.config, value); err != nil {
			p.refuse(k.name, value, err.Error())
		}
	}
	p.config.WebHost = cmp.Or(p.config.WebHost, "www."+p.config.TrustDomain)
	p.config.APIHost = cmp.Or(p.config.APIHost, "api."+p.config.TrustDomain)
	p.required()
	p.platformKeys()
	p.consistent()
	p.files(getenv)
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	return &p.config, nil
}

type parser struct {
	values   map[string]string
	isSecret func(key string) bool
	config   Config
	errs     ConfigErrors
	refused  map[string]bool
}

func (p *parser) value(name string) string {
	return strings.TrimSpace(p.values[Namespace+":"+name])
}

func (p *parser) refuse(name, value, allowed string) {
	p.refused[name] = true
	p.add(refuse(name, value, allowed))
}

// add adds an error, without the value of a secret key.
func (p *parser) add(err error) {
	if e, ok := errors.AsType[*ConfigError](err); ok && e.Value != "" && p.secret(e.Key) {
		e.Value, e.Secret = "", true
	}
	p.errs = append(p.errs, err)
}

func (p *parser) secret(name string) bool { return p.isSecret(Namespace + ":" + name) }

// show is what the message about another key may say of the value of the named
// key.
func (p *parser) show(name, value string) string {
	if p.secret(name) {
		return withheld
	}
	return value
}

func (p *parser) unknownKeys() {
	for _, full := range slices.Sorted(maps.Keys(p.values)) {
		namespace, name, _ := strings.Cut(full, ":")
		if namespace == Namespace && !slices.ContainsFunc(keys, func(k key) bool { return k.name == name }) {
			p.add(&unknownKeyError{key: name})
		}
	}
}

func (p *parser) required() {
	if p.value(keyTrustDomain) == "" {
		p.refuse(keyTrustDomain, "", "a trust domain such as prod.company.com")
	}
	if p.value(keyClusterName) == "" && !dnsLabel.MatchString(p.config.Stack) {
		p.refuse(keyClusterName, p.config.Stack, labelAllowed+" (by default the stack's name)")
	}
}

// consistent checks what keys demand of each other. A pair of which one was
// refused is left alone: the first error explains it.
func (p *parser) consistent() {
	profile := p.config.Profile
	if p.accepted(keyServerQuorum, keyServerReplicas) && profile.ServerQuorum >= profile.ServerReplicas {
		p.refuse(keyServerQuorum, strconv.Itoa(profile.ServerQuorum),
			fmt.Sprintf("less than %s:%s, which is %s, so that nodes can be drained",
				Namespace, keyServerReplicas, p.show(keyServerReplicas, strconv.Itoa(profile.ServerReplicas))))
	}
	if p.accepted(keyDataDurability, keyPostgresInstances) && profile.DataDurability == postgres.Required && profile.PostgresInstances < 2 {
		p.refuse(keyDataDurability, string(profile.DataDurability),
			fmt.Sprintf("%s unless %s:%s, which is %s, is at least 2",
				postgres.Preferred, Namespace, keyPostgresInstances, p.show(keyPostgresInstances, strconv.Itoa(profile.PostgresInstances))))
	}
	limit := min(profile.CATTL/caTTLDivisor, maxSVIDTTL)
	for _, ttl := range []struct {
		key   string
		value time.Duration
	}{
		{keyX509SVIDTTL, profile.X509SVIDTTL},
		{keyJWTSVIDTTL, profile.JWTSVIDTTL},
		{keyAgentTTL, profile.AgentTTL},
	} {
		if p.accepted(ttl.key, keyCATTL) && ttl.value > limit {
			p.refuse(ttl.key, cmp.Or(p.value(ttl.key), short(ttl.value)), fmt.Sprintf("at most %s: a sixth of %s:%s, which is %s, and no more than %s",
				p.show(keyCATTL, short(limit)), Namespace, keyCATTL, p.show(keyCATTL, short(profile.CATTL)), short(maxSVIDTTL)))
		}
	}
	if p.accepted(keyTrustDomain) {
		p.hosts()
	}
	if p.accepted(keyAdminIDs, keyTrustDomain) {
		for _, id := range p.config.AdminIDs {
			if !strings.HasPrefix(id, "spiffe://"+p.config.TrustDomain+"/") {
				p.refuse(keyAdminIDs, id, "SPIFFE IDs of the trust domain "+p.show(keyTrustDomain, p.config.TrustDomain))
			}
		}
	}
}

// hosts checks the gateways' names, which by default are made from the trust domain: not every trust domain is a DNS name.
func (p *parser) hosts() {
	for _, host := range []struct{ key, name string }{{keyWebHost, p.config.WebHost}, {keyAPIHost, p.config.APIHost}} {
		if p.accepted(host.key) && (len(host.name) > 253 || !dnsName.MatchString(host.name)) {
			p.refuse(host.key, p.show(keyTrustDomain, host.name), "a DNS name in lower case of at most 253 characters; set it when the trust domain is none")
		}
	}
	if p.accepted(keyWebHost, keyAPIHost) && p.config.WebHost == p.config.APIHost {
		p.refuse(keyAPIHost, p.config.APIHost, fmt.Sprintf("another name than that of %s:%s", Namespace, keyWebHost))
	}
}

func (p *parser) accepted(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return p.refused[name] })
}

// files reads what other files hold.
func (p *parser) files(getenv func(string) string) {
	images, errs := resolveImages(p.config.Platform, strings.TrimSuffix(p.value(keyImageRegistry), "/"), p.value(keyImagesFile))
	p.config.Images = images
	for _, err := range errs {
		p.add(err)
	}
	// On AWS the cluster is the stack's own, and where a stack of no known platform has its cluster nobody can say.
	if p.config.Platform != PlatformKubernetes {
		return
	}
	var err error
	p.config.Kubeconfig, err = loadKubeconfig(kubeconfigPath(p.value(keyKubeconfig), getenv), p.value(keyKubeContext), p.show)
	if err != nil {
		p.add(err)
	}
}

func setTrustDomain(c *Config, value string) error {
	const allowed = "a name of at most 255 lower-case letters, digits, dots, dashes and underscores, without scheme, port or path"
	// The library takes a whole SPIFFE ID too; a key that does would hide typos.
	if len(value) > 255 || strings.Contains(value, "/") {
		return errors.New(allowed)
	}
	domain, err := spiffeid.TrustDomainFromString(value)
	if err != nil {
		return errors.New(allowed)
	}
	c.TrustDomain = domain.Name()
	return nil
}

func setPodCIDRs(c *Config, value string) error {
	if err := ranges(func(c *Config) *[]string { return &c.PodCIDRs })(c, value); err != nil {
		return err
	}
	c.Ranges.Pods = c.PodCIDRs
	// In whatever order: with every private address left out of the internet, no private client would reach the gateways.
	if given := slices.Sorted(slices.Values(c.PodCIDRs)); slices.Equal(given, slices.Sorted(slices.Values(splitList(privateRanges)))) {
		c.Ranges.Pods = nil
	}
	return nil
}

func ranges(field func(*Config) *[]string) func(*Config, string) error {
	return func(c *Config, value string) error {
		var out []string
		for _, part := range splitList(value) {
			prefix, err := netip.ParsePrefix(part)
			if err != nil || prefix != prefix.Masked() {
				return errors.New("address ranges such as 10.244.0.0/16, separated by commas")
			}
			out = append(out, prefix.String())
		}
		*field(c) = out
		return nil
	}
}

func setAdminIDs(c *Config, value string) error {
	for _, part := range splitList(value) {
		id, err := spiffeid.FromString(part)
		if err != nil || id.Path() == "" {
			return errors.New("SPIFFE IDs such as spiffe://prod.company.com/admin, separated by commas")
		}
		c.AdminIDs = append(c.AdminIDs, id.String())
	}
	return nil
}

func setRootCASecret(c *Config, value string) error {
	c.RootCASecret = value
	return rootca.CheckSecretName(value)
}

func setKubeletCA(c *Config, value string) error {
	if !path.IsAbs(value) || path.Clean(value) != value {
		return errors.New("an absolute path without . and .. elements")
	}
	c.KubeletCA = value
	return nil
}

func splitList(value string) []string {
	parts := strings.Split(value, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func oneOf[T ~string](field func(*Config) *T, allowed ...T) func(*Config, string) error {
	return func(c *Config, value string) error {
		if !slices.Contains(allowed, T(value)) {
			words := make([]string, len(allowed))
			for i, a := range allowed {
				words[i] = string(a)
			}
			return errors.New(strings.Join(words, " or "))
		}
		*field(c) = T(value)
		return nil
	}
}

func matching(field func(*Config) *string, pattern *regexp.Regexp, allowed string) func(*Config, string) error {
	return func(c *Config, value string) error {
		if !pattern.MatchString(value) {
			return errors.New(allowed)
		}
		*field(c) = value
		return nil
	}
}

func integer(field func(*Config) *int, low, high int) func(*Config, string) error {
	return func(c *Config, value string) error {
		number, err := strconv.Atoi(value)
		if err != nil || number < low || number > high {
			return fmt.Errorf("an integer from %d to %d", low, high)
		}
		*field(c) = number
		return nil
	}
}

func duration(field func(*Config) *time.Duration, low time.Duration) func(*Config, string) error {
	return func(c *Config, value string) error {
		parsed, err := time.ParseDuration(value)
		if err != nil || parsed < low || parsed%time.Second != 0 {
			return fmt.Errorf("a duration of whole seconds such as 90m or 1h30m, at least %s", short(low))
		}
		*field(c) = parsed
		return nil
	}
}

// short writes a duration without the units that are zero: 1h, not 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func boolean(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, value string) error {
		if value != "true" && value != "false" {
			return errors.New("true or false")
		}
		*field(c) = value == "true"
		return nil
	}
}
