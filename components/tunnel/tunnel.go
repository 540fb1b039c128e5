// Package tunnel puts mutual TLS in front of a server that does not speak it: a sidecar (ghostunnel) that accepts
// connections from the named SPIFFE IDs only, ends TLS, and passes the bytes on to the loopback of the pod.
//
// In: who may call, on which port, and where the server listens. Out: the parts of a pod and the objects around it, as plain
// values. It makes no resources; components/cache and components/queue do.
//
// # Who gets through
//
// The identity and the trust bundle come from the Workload API, in a volume that only the tunnel's container mounts: the server
// behind it has no access to the identity. Both are taken up as they change, each handshake uses the newest. A peer must
// present a valid SVID whose URI is one of AllowedCallers; a slash at its end would be overlooked, but no SPIFFE ID may have one.
// Nobody resumes a session: a handshake always verifies. Refusals are logged with the peer's address ("error on TLS handshake
// from ...: unauthorized") and counted (accept_error in /_metrics/prometheus), not with its SPIFFE ID.
//
// What the upstream program does not do, and the toolchain's build of it does (toolchain/catalogue.go): it insists on TLS 1.3,
// where upstream's least is TLS 1.2 with forward secrecy and AEAD; and it ends a connection when the SVID that opened it ends,
// where upstream lets an open one go on for ever. With an image of upstream's, only callers bound the life of a connection.
//
// # Start and end
//
// The tunnel is an init container that keeps running: it starts first, and the server starts once it holds an SVID. At the
// end the server waits for drainDelay, in which callers learn from DNS that it goes, and is stopped before the tunnel, so that
// every connection is passed on to the last.
//
// The status port serves /_status, which is 200 while connections are accepted and the server behind takes one, and 503
// otherwise; and /_metrics/prometheus. Both are plaintext.
package tunnel

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
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
	// StatusPort is the pod's plaintext port.
	StatusPort = 8080

	socketDir  = "/spiffe-workload-api"
	socketFile = "spire-agent.sock"
	volume     = "spiffe-workload-api"
	container  = "tunnel"
	user       = 65532

	// handshakeTimeout bounds a handshake, and the connection to the server behind.
	handshakeTimeout = 3 * time.Second
	// drainDelay, serverTimeout and drainTimeout follow each other when a pod is told to stop.
	drainDelay    = 5 * time.Second
	serverTimeout = 10 * time.Second
	drainTimeout  = 5 * time.Second
	gracePeriod   = drainDelay + serverTimeout + drainTimeout + 10*time.Second
	// startTimeout is how long an SVID is waited for before the container is started anew.
	startTimeout = 10 * time.Minute
)

// Args describe a server behind a tunnel.
type Args struct {
	// Name is the metadata.name of its objects. Required: a Kubernetes name of at most 40 characters.
	Name string
	// Program is the name of the server's program, for the label app.kubernetes.io/name. Required.
	Program string
	// Namespace is where it runs; pod security "restricted". Required.
	Namespace string
	// Image is an image of ghostunnel 1.8 whose entry point is the program. Required.
	Image pulumi.StringInput
	// Port is where callers connect, with mutual TLS. Required.
	Port int
	// Target is the server's port on 127.0.0.1. Required, another one than Port: the tunnel listens on all addresses.
	Target int
	// AllowedCallers are the SPIFFE IDs that may connect, whole. Required: at least one.
	AllowedCallers []string
	// Replicas is the number of pods. Required.
	Replicas int
	// Spread says how far apart the pods run. Required.
	Spread manifest.Spread
	// CSIDriver is the name of the SPIFFE CSI driver. Required.
	CSIDriver string
	// ClusterDomain is the cluster's DNS domain. Required.
	ClusterDomain string
	// PriorityClassName is the priority class of the pods. Nil means none.
	PriorityClassName pulumi.StringPtrInput
	// Resources of the tunnel's container. Default 10m, 32Mi, limit 64Mi: it takes 30 at rest,
	// two thirds of them its program's file.
	Resources manifest.Resources
}

// Server is the container behind the tunnel.
type Server struct {
	// Container is the server's. Its name, image and command are the caller's; it gets a restricted security context, and waits
	// before it is stopped.
	Container corev1.ContainerArgs
	// Volumes are those it mounts.
	Volumes corev1.VolumeArray
}

// Identity is what has to be registered for the tunnel to get its identity. All of it must match a pod: labels alone can be
// put on any pod by anybody who may create one.
type Identity struct {
	// Name names the identity.
	Name string
	// SPIFFEIDPath is the path of the SPIFFE ID; the trust domain is the servers'.
	SPIFFEIDPath string
	// Namespace and ServiceAccount are the pod's.
	Namespace, ServiceAccount string
	// PodLabels are labels the pod has.
	PodLabels map[string]string
}

// Identity returns what has to be registered under a SPIFFE path.
func (a Args) Identity(path string) Identity {
	return Identity{
		Name: a.Name, SPIFFEIDPath: path, Namespace: a.Namespace, ServiceAccount: a.Name,
		PodLabels: map[string]string{"app.kubernetes.io/name": a.Program, "app.kubernetes.io/instance": a.Name},
	}
}

// Address is where callers connect, host:port. The name is absolute, with a dot at its end.
func (a Args) Address() string {
	return fmt.Sprintf("%s.%s.svc.%s.:%d", a.Name, a.Namespace, a.ClusterDomain, a.Port)
}

var (
	objectName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$`)
	dnsName    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
)

// Validate returns everything that is wrong with the arguments, joined into one error, or nil.
func (a Args) Validate() error {
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, fmt.Sprint(value), allowed))
	}
	if !objectName.MatchString(a.Name) {
		fail("name", a.Name, "a Kubernetes name of at most 40 characters")
	}
	if !objectName.MatchString(a.Namespace) {
		fail("namespace", a.Namespace, "a Kubernetes name of at most 40 characters")
	}
	if a.Image == nil {
		fail("tunnelImage", "", "set")
	}
	for _, p := range []struct {
		key    string
		number int
	}{{"port", a.Port}, {"target", a.Target}} {
		// Lower ports need a privilege that the containers have not got.
		if p.number < 1024 || p.number > 65535 || p.number == StatusPort {
			fail(p.key, p.number, fmt.Sprintf("a port from 1024 to 65535 other than %d", StatusPort))
		}
	}
	if a.Port == a.Target {
		fail("target", a.Target, "another port than the callers'")
	}
	if len(a.AllowedCallers) == 0 {
		fail("allowedCallers", "", "at least one SPIFFE ID")
	}
	seen := map[string]bool{}
	for i, caller := range a.AllowedCallers {
		key := fmt.Sprintf("allowedCallers[%d]", i)
		// A SPIFFE ID has no asterisk, which ghostunnel would take for a pattern.
		if id, err := spiffeid.FromString(caller); err != nil || id.Path() == "" {
			fail(key, caller, "a SPIFFE ID with a path, such as spiffe://example.org/workload/user-service")
		}
		if seen[caller] {
			fail(key, caller, "there once")
		}
		seen[caller] = true
	}
	if a.Replicas < 1 || a.Replicas > 50 {
		fail("replicas", a.Replicas, "from 1 to 50")
	}
	if !dnsName.MatchString(a.CSIDriver) {
		fail("csiDriver", a.CSIDriver, "the name of a CSI driver, such as csi.spiffe.io")
	}
	if !dnsName.MatchString(a.ClusterDomain) {
		fail("clusterDomain", a.ClusterDomain, "a DNS name without a dot at its end, such as cluster.local")
	}
	return errors.Join(append(errs, a.Spread.Validate())...)
}

// ValidatePath returns what is wrong with the path of a SPIFFE ID, or nil.
func ValidatePath(path string) error {
	if err := spiffeid.ValidatePath(path); err != nil || path == "" {
		return fmt.Errorf("spiffePath: %q is not allowed: it must be the path of a SPIFFE ID, such as /data/cache", path)
	}
	return nil
}

// Flags are the arguments of ghostunnel. They take effect at its start, so another caller is another pod.
func (a Args) Flags() []string {
	flags := []string{
		"server",
		"--use-workload-api-addr", "unix://" + socketDir + "/" + socketFile,
		"--listen", ":" + strconv.Itoa(a.Port),
		"--target", "127.0.0.1:" + strconv.Itoa(a.Target),
		// Without the scheme it would be served with TLS, which the kubelet could not verify.
		"--status", "http://:" + strconv.Itoa(StatusPort),
		"--connect-timeout", handshakeTimeout.String(),
		"--shutdown-timeout", drainTimeout.String(),
	}
	for _, caller := range a.AllowedCallers {
		flags = append(flags, "--allow-uri", caller)
	}
	return flags
}

// Labels are the labels of its objects.
func (a Args) Labels() pulumi.StringMap { return a.identity().Labels() }

func (a Args) identity() manifest.Identity {
	return manifest.Identity{Name: a.Program, Instance: a.Name, Component: a.Program}
}

// Metadata is that of its objects, with Name as their name.
func (a Args) Metadata() *metav1.ObjectMetaArgs {
	return &metav1.ObjectMetaArgs{Name: pulumi.String(a.Name), Namespace: pulumi.String(a.Namespace), Labels: a.Labels()}
}

// Account is a service account without a token: nothing in the pod uses the API server.
func (a Args) Account() *corev1.ServiceAccountArgs {
	return &corev1.ServiceAccountArgs{Metadata: a.Metadata(), AutomountServiceAccountToken: pulumi.Bool(false)}
}

// ConfigMap holds one file of configuration. Its name changes with the text, which is what makes the pods roll.
func (a Args) ConfigMap(file, text string) *corev1.ConfigMapArgs {
	meta := a.Metadata()
	meta.Name = pulumi.String(manifest.Hashed(a.Name+"-config", file, text))
	return &corev1.ConfigMapArgs{Metadata: meta, Immutable: pulumi.Bool(true), Data: pulumi.StringMap{file: pulumi.String(text)}}
}

// Service is headless: a caller sees the address of each pod that is ready, and goes to another one, or to the new one, as
// soon as it is there. Behind a virtual address it would wait for what a lost pod no longer answers.
func (a Args) Service() *corev1.ServiceArgs {
	meta := a.Metadata()
	meta.Annotations = manifest.NoAwait
	port := func(name string, number int) corev1.ServicePortArgs {
		return corev1.ServicePortArgs{Name: pulumi.String(name), Port: pulumi.Int(number), TargetPort: pulumi.String(name)}
	}
	return &corev1.ServiceArgs{Metadata: meta, Spec: &corev1.ServiceSpecArgs{
		ClusterIP: pulumi.String("None"), Selector: a.identity().Selector(),
		Ports: corev1.ServicePortArray{port("mtls", a.Port), port("http", StatusPort)},
	}}
}

// Budget keeps drains from taking more than one pod at a time; nil for a single pod, which it would keep on its node for ever.
func (a Args) Budget() *policyv1.PodDisruptionBudgetArgs {
	if a.Replicas < 2 {
		return nil
	}
	return &policyv1.PodDisruptionBudgetArgs{Metadata: a.Metadata(), Spec: &policyv1.PodDisruptionBudgetSpecArgs{
		MaxUnavailable: pulumi.Int(1), UnhealthyPodEvictionPolicy: pulumi.String("AlwaysAllow"),
		Selector: &metav1.LabelSelectorArgs{MatchLabels: a.identity().Selector()},
	}}
}

// Deployment runs the server behind the tunnel. A rollout starts a new pod before it stops an old one.
func (a Args) Deployment(server Server) *appsv1.DeploymentArgs {
	selector := a.identity().Selector()
	return &appsv1.DeploymentArgs{Metadata: a.Metadata(), Spec: &appsv1.DeploymentSpecArgs{
		Replicas: pulumi.Int(a.Replicas),
		Selector: &metav1.LabelSelectorArgs{MatchLabels: selector},
		Strategy: &appsv1.DeploymentStrategyArgs{
			Type:          pulumi.String("RollingUpdate"),
			RollingUpdate: &appsv1.RollingUpdateDeploymentArgs{MaxUnavailable: pulumi.Int(0), MaxSurge: pulumi.Int(1)},
		},
		Template: &corev1.PodTemplateSpecArgs{
			Metadata: &metav1.ObjectMetaArgs{
				Labels:      a.Labels(),
				Annotations: pulumi.StringMap{"kubectl.kubernetes.io/default-container": server.Container.Name.(pulumi.String)},
			},
			Spec: a.pod(server),
		},
	}}
}

func (a Args) pod(server Server) *corev1.PodSpecArgs {
	affinity, spread := a.Spread.Place(a.identity().Selector())
	behind := server.Container
	behind.ImagePullPolicy = pulumi.String("IfNotPresent")
	behind.SecurityContext = manifest.Restricted()
	behind.TerminationMessagePolicy = pulumi.String("FallbackToLogsOnError")
	// The kubelet sleeps: the image need not have a program for it.
	behind.Lifecycle = &corev1.LifecycleArgs{PreStop: &corev1.LifecycleHandlerArgs{
		Sleep: &corev1.SleepActionArgs{Seconds: pulumi.Int(int(drainDelay.Seconds()))},
	}}
	pod := &corev1.PodSpecArgs{
		ServiceAccountName: pulumi.String(a.Name), AutomountServiceAccountToken: pulumi.Bool(false),
		EnableServiceLinks: pulumi.Bool(false),
		SecurityContext:    manifest.RestrictedPod(user),
		Affinity:           affinity, TopologySpreadConstraints: spread, Tolerations: manifest.LeaveLostNode(),
		TerminationGracePeriodSeconds: pulumi.Int(int(gracePeriod.Seconds())),
		InitContainers:                corev1.ContainerArray{a.sidecar()},
		Containers:                    corev1.ContainerArray{behind},
		Volumes: append(corev1.VolumeArray{corev1.VolumeArgs{
			Name: pulumi.String(volume),
			Csi:  &corev1.CSIVolumeSourceArgs{Driver: pulumi.String(a.CSIDriver), ReadOnly: pulumi.Bool(true)},
		}}, server.Volumes...),
	}
	if a.PriorityClassName != nil {
		pod.PriorityClassName = a.PriorityClassName
	}
	return pod
}

func (a Args) sidecar() corev1.ContainerArgs {
	probe := func(path string, period, failures int) *corev1.ProbeArgs {
		return &corev1.ProbeArgs{
			HttpGet:       &corev1.HTTPGetActionArgs{Path: pulumi.String(path), Port: pulumi.String("http")},
			PeriodSeconds: pulumi.Int(period), FailureThreshold: pulumi.Int(failures), TimeoutSeconds: pulumi.Int(2),
		}
	}
	return corev1.ContainerArgs{
		Name: pulumi.String(container), Image: a.Image, ImagePullPolicy: pulumi.String("IfNotPresent"),
		RestartPolicy: pulumi.String("Always"),
		Args:          pulumi.ToStringArray(a.Flags()),
		Ports:         corev1.ContainerPortArray{manifest.Port("mtls", a.Port), manifest.Port("http", StatusPort)},
		// The status port opens when the first SVID is there. What it says of the server behind must play no part yet: the server
		// is started afterwards.
		StartupProbe: probe("/_metrics/json", 1, int(startTimeout.Seconds())),
		// The whole way: connections are accepted and the server takes one.
		ReadinessProbe: probe("/_status", 2, 2),
		// The tunnel alone: a server that is gone is no reason to start the tunnel anew.
		LivenessProbe:            probe("/_metrics/json", 10, 3),
		Resources:                a.Resources.WithDefaults(manifest.Resources{CPU: "10m", Memory: "32Mi", MemoryLimit: "64Mi"}).Args(),
		SecurityContext:          manifest.Restricted(),
		TerminationMessagePolicy: pulumi.String("FallbackToLogsOnError"),
		VolumeMounts:             corev1.VolumeMountArray{manifest.ReadOnlyMount(volume, socketDir)},
	}
}
