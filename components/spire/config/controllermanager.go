package config

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// WebhookPort is the port of the controller manager's webhooks. It is fixed in
// the program.
const WebhookPort = 9443

// ControllerManager is the configuration of spire-controller-manager, which
// turns ClusterSPIFFEIDs and pods into registration entries.
type ControllerManager struct {
	// TrustDomain is the name of the trust domain. Required.
	TrustDomain string
	// Cluster is the name of the Kubernetes cluster as the server's node
	// attestor knows it; it is part of the agents' SPIFFE IDs. Required.
	Cluster string
	// ClusterDomain is the cluster's DNS domain. Default cluster.local.
	ClusterDomain string
	// ClassName restricts the controller to objects of that class. Required: a
	// cluster may hold objects of another trust domain's controller.
	ClassName string
	// IgnoreNamespaces are namespaces whose pods never get an identity. Default
	// kube-system, kube-public and kube-node-lease.
	IgnoreNamespaces []string
	// SocketPath is the server's administration socket. Default
	// ServerSocketPath.
	SocketPath string
	// GCInterval is how often all entries are compared with what they should
	// be. Default 10s.
	GCInterval time.Duration
	// EntryIDPrefix marks the controller's entries. When it is empty, the
	// default, the controller owns every entry of the server and removes those
	// that no object asks for, so that nobody can register anything beside the
	// declared identities. With a prefix it leaves other entries alone.
	EntryIDPrefix string
	// LeaderElection says how the controllers beside the servers agree on the
	// one that writes.
	LeaderElection LeaderElection
	// WebhookName is the ValidatingWebhookConfiguration whose CA bundle the
	// controller keeps current. Required.
	WebhookName string
	// MetricsPort and HealthPort are the controller's endpoints. Defaults 8082
	// and 8083.
	MetricsPort, HealthPort int
	// LogLevel is debug, info, warn or error. Default info.
	LogLevel string
}

// LeaderElection is the election of the controller that writes, by a Lease.
type LeaderElection struct {
	// Namespace and Name are the Lease's. Required.
	Namespace, Name string
	// LeaseDuration is how long the others wait for a leader that is gone
	// without a word: the longest time without new registrations when a server
	// pod or its node is lost. Default 8s.
	LeaseDuration time.Duration
	// RenewDeadline is how long a leader tries to renew before it steps down;
	// shorter than LeaseDuration. Default 6s.
	RenewDeadline time.Duration
	// RetryPeriod is the time between tries; each costs every controller one
	// request to the API server. Shorter than RenewDeadline. Default 1s.
	RetryPeriod time.Duration
}

// WithDefaults returns the configuration with every field that is not set
// filled with its default.
func (c ControllerManager) WithDefaults() ControllerManager {
	c.ClusterDomain = cmp.Or(c.ClusterDomain, "cluster.local")
	if c.IgnoreNamespaces == nil {
		c.IgnoreNamespaces = []string{"kube-system", "kube-public", "kube-node-lease"}
	}
	c.SocketPath = cmp.Or(c.SocketPath, ServerSocketPath)
	c.GCInterval = cmp.Or(c.GCInterval, 10*time.Second)
	c.LeaderElection.LeaseDuration = cmp.Or(c.LeaderElection.LeaseDuration, 8*time.Second)
	c.LeaderElection.RenewDeadline = cmp.Or(c.LeaderElection.RenewDeadline, 6*time.Second)
	c.LeaderElection.RetryPeriod = cmp.Or(c.LeaderElection.RetryPeriod, time.Second)
	c.MetricsPort = cmp.Or(c.MetricsPort, 8082)
	c.HealthPort = cmp.Or(c.HealthPort, 8083)
	c.LogLevel = cmp.Or(c.LogLevel, "info")
	return c
}

// Validate reports everything that is wrong with the configuration after its
// defaults are filled in, joined into one error, or nil.
func (c ControllerManager) Validate() error { return c.WithDefaults().validate() }

// entryIDPrefix is what SPIRE allows in an entry ID, without the dot that
// separates prefix and rest.
var entryIDPrefix = regexp.MustCompile(`^[-a-zA-Z0-9_]{1,64}$`)

func (c ControllerManager) validate() error {
	var p problems
	p.trustDomain("trustDomain", c.TrustDomain)
	p.kubernetesName("clusterName", c.Cluster)
	p.host("clusterDomain", c.ClusterDomain)
	p.kubernetesName("className", c.ClassName)
	for i, namespace := range c.IgnoreNamespaces {
		p.kubernetesName(fmt.Sprintf("ignoreNamespaces[%d]", i), namespace)
	}
	p.socket("spireServerSocketPath", c.SocketPath)
	p.positive("gcInterval", c.GCInterval)
	if c.EntryIDPrefix != "" && !entryIDPrefix.MatchString(c.EntryIDPrefix) {
		p.add("entryIDPrefix", c.EntryIDPrefix, "it must be letters, digits, dashes and underscores, at most 64")
	}
	e := c.LeaderElection
	p.kubernetesName("leaderElection.resourceNamespace", e.Namespace)
	p.kubernetesName("leaderElection.resourceName", e.Name)
	p.positive("leaderElection.retryPeriod", e.RetryPeriod)
	// client-go refuses a renew deadline that leaves no room for one jittered
	// retry (leaderelection.JitterFactor 1.2).
	if float64(e.RenewDeadline) <= 1.2*float64(e.RetryPeriod) {
		p.add("leaderElection.renewDeadline", e.RenewDeadline, "it must be more than 1.2 times retryPeriod ("+formatDuration(e.RetryPeriod)+")")
	}
	if e.LeaseDuration <= e.RenewDeadline {
		p.add("leaderElection.leaseDuration", e.LeaseDuration, "it must be longer than renewDeadline ("+formatDuration(e.RenewDeadline)+")")
	}
	p.kubernetesName("validatingWebhookConfigurationName", c.WebhookName)
	p.port("metrics.bindAddress", c.MetricsPort)
	p.port("health.healthProbeBindAddress", c.HealthPort)
	p.distinctPorts(
		listener{"metrics.bindAddress", c.MetricsPort},
		listener{"health.healthProbeBindAddress", c.HealthPort},
		listener{"webhook port", WebhookPort},
	)
	p.oneOf("logLevel", c.LogLevel, "debug", "info", "warn", "error")
	return p.err()
}

// ignorePattern is a namespace's name as the anchored regular expression that
// the controller takes.
func ignorePattern(namespace string) string {
	return "^" + strings.ReplaceAll(regexp.QuoteMeta(namespace), `\-`, "-") + "$"
}

// Render returns the configuration file of the controller manager, with
// defaults filled in, or the error of Validate.
func (c ControllerManager) Render() (string, error) {
	c = c.WithDefaults()
	if err := c.validate(); err != nil {
		return "", err
	}
	patterns := make([]string, len(c.IgnoreNamespaces))
	for i, namespace := range c.IgnoreNamespaces {
		patterns[i] = ignorePattern(namespace)
	}
	file := controllerManagerFile{
		APIVersion:       "spire.spiffe.io/v1alpha1",
		Kind:             "ControllerManagerConfig",
		TrustDomain:      c.TrustDomain,
		ClusterName:      c.Cluster,
		ClusterDomain:    c.ClusterDomain,
		ClassName:        c.ClassName,
		IgnoreNamespaces: patterns,
		SocketPath:       c.SocketPath,
		GCInterval:       c.GCInterval,
		EntryIDPrefix:    c.EntryIDPrefix,
		WebhookName:      c.WebhookName,
		LogLevel:         c.LogLevel,
		LogEncoding:      "json",
		Metrics:          map[string]string{"bindAddress": ":" + strconv.Itoa(c.MetricsPort)},
		Health:           map[string]string{"healthProbeBindAddress": ":" + strconv.Itoa(c.HealthPort)},
		LeaderElection: map[string]any{
			"leaderElect":       true,
			"resourceLock":      "leases",
			"resourceNamespace": c.LeaderElection.Namespace,
			"resourceName":      c.LeaderElection.Name,
			"leaseDuration":     formatDuration(c.LeaderElection.LeaseDuration),
			"renewDeadline":     formatDuration(c.LeaderElection.RenewDeadline),
			"retryPeriod":       formatDuration(c.LeaderElection.RetryPeriod),
		},
		Reconcile: map[string]bool{"clusterSPIFFEIDs": true, "clusterStaticEntries": true, "clusterFederatedTrustDomains": true},
	}
	text, err := yaml.Marshal(file)
	if err != nil {
		return "", fmt.Errorf("controller manager configuration: %w", err)
	}
	return string(text), nil
}

// controllerManagerFile is the file as the controller reads it. Lifetimes of
// the election are strings; gcInterval is a number of nanoseconds, because the
// controller decodes it as a plain Go duration.
type controllerManagerFile struct {
	APIVersion       string            `json:"apiVersion"`
	Kind             string            `json:"kind"`
	TrustDomain      string            `json:"trustDomain"`
	ClusterName      string            `json:"clusterName"`
	ClusterDomain    string            `json:"clusterDomain"`
	ClassName        string            `json:"className"`
	IgnoreNamespaces []string          `json:"ignoreNamespaces"`
	SocketPath       string            `json:"spireServerSocketPath"`
	GCInterval       time.Duration     `json:"gcInterval"`
	EntryIDPrefix    string            `json:"entryIDPrefix,omitempty"`
	WebhookName      string            `json:"validatingWebhookConfigurationName"`
	LogLevel         string            `json:"logLevel"`
	LogEncoding      string            `json:"logEncoding"`
	Metrics          map[string]string `json:"metrics"`
	Health           map[string]string `json:"health"`
	LeaderElection   map[string]any    `json:"leaderElection"`
	Reconcile        map[string]bool   `json:"reconcile"`
}
