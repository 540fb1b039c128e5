// Package detection deploys intrusion detection to every node of a Kubernetes cluster: the program flowlog, which reports the
// connections that the NetworkPolicies refuse, and the port scans and attempts to cross zones that it sees in them.
//
// In: the model of the network zones, the trust domain and the image. Out: one JSON line an event in the log of each node's pod, in
// the schema of the security architecture, for whatever collects the pods' logs.
//
// The pods need more than pods normally get, so their namespace runs under the pod security standard "privileged":
//
//   - the node's network, because the kernel keeps its log of refused packets for each network namespace, and policies are enforced
//     in the node's;
//   - root with the capability NET_ADMIN, because the kernel shows this log to nobody else.
//
// They are not privileged containers: they have no other capability, cannot gain any, see none of the node's files or processes and
// cannot write their root file system. Of the Kubernetes API they may list and watch pods and nodes, nothing else.
//
// # Where it works
//
// With an enforcing layer that logs to NFLOG group 100 what it refuses, which is kube-router's way. The network policy agent of the
// AWS VPC CNI enforces with eBPF and writes files or CloudWatch streams, Cilium has Hubble, Calico flow logs of its own: there this
// component sees nothing, and its figure flowlog_packets_total stays zero. It does not read those.
package detection

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	rbacv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/rbac/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/zones"
)

const (
	defaultName = "flowlog"
	// program is the name of the program and of its container.
	program = "flowlog"

	modelKey = "model.json"
	modelDir = "/etc/flowlog"

	// host and port are where the pods serve probes and metrics: on the loopback of their node, because no network policy guards
	// what listens on a node's own addresses.
	host = "127.0.0.1"
	port = 9990
)

// Args are the arguments of New.
type Args struct {
	// Name is the metadata.name of the DaemonSet, the service account and the cluster role. Default "flowlog".
	Name string
	// Namespace is where the pods run; pod security "privileged". Required.
	Namespace string
	// Image is the image of flowlog, whose entry point is the program. Required.
	Image pulumi.StringInput
	// TrustDomain is the name of the trust domain, which is part of every event. Required.
	TrustDomain string
	// Model is the model of the network zones, by which addresses become roles and zones. It must be valid, and have the role
	// zones.IntrusionDetection in the nodes' network, without ports. Required.
	Model zones.Model
	// Window is the time in which repetitions are counted instead of reported, and targets of a scan counted together. From 1s to
	// 1h. Default 1m.
	Window time.Duration
	// ScanThreshold is the number of distinct targets of one source within the window that makes a port scan, from 2 to 100.
	// kube-router shows ten packets of a pod at once and then ten a minute. Default 8.
	ScanThreshold int
	// Resources of each pod. Default 10m, 48Mi, limit 192Mi, which is enough for ten thousand pods in the cluster.
	Resources manifest.Resources
}

// IntrusionDetection is the program on every node.
type IntrusionDetection struct {
	pulumi.ResourceState

	// DaemonSet is its metadata.name. It is known when the program reads the log of every node.
	DaemonSet pulumi.StringOutput `pulumi:"daemonSet"`
}

func (a Args) withDefaults() Args {
	a.Name = cmp.Or(a.Name, defaultName)
	a.Window = cmp.Or(a.Window, time.Minute)
	a.ScanThreshold = cmp.Or(a.ScanThreshold, 8)
	a.Resources = a.Resources.WithDefaults(manifest.Resources{CPU: "10m", Memory: "48Mi", MemoryLimit: "192Mi"})
	return a
}

var objectName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$`)

func (a Args) validate() error {
	var problems []error
	add := func(key, value, allowed string) {
		problems = append(problems, fmt.Errorf("%s: %q is not allowed: %s", key, value, allowed))
	}
	if !objectName.MatchString(a.Name) {
		add("name", a.Name, "it must be a Kubernetes name of at most 50 characters")
	}
	if a.Namespace == "" {
		add("namespace", "", "it must be set")
	}
	if a.Image == nil {
		add("image", "", "it must be set")
	}
	if td, err := spiffeid.TrustDomainFromString(a.TrustDomain); err != nil || td.Name() != a.TrustDomain {
		add("trustDomain", a.TrustDomain, "it must be the name of a trust domain, such as example.org")
	}
	if a.Window < time.Second || a.Window > time.Hour {
		add("window", a.Window.String(), "it must be from 1s to 1h")
	}
	if a.ScanThreshold < 2 || a.ScanThreshold > 100 {
		add("scanThreshold", strconv.Itoa(a.ScanThreshold), "it must be from 2 to 100")
	}
	if err := a.Model.Validate(); err != nil {
		problems = append(problems, fmt.Errorf("model: %w", err))
	}
	if role, ok := a.Model.Role(zones.IntrusionDetection); !ok || role.Place != zones.Nodes || len(role.Ports) > 0 {
		add("model", zones.IntrusionDetection, "it must be a role in the nodes' network, without ports")
	}
	return errors.Join(problems...)
}

// New deploys intrusion detection. Dependencies among the options hold back every object.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*IntrusionDetection, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.withDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("intrusion detection %s: %w", name, err)
	}
	self := &IntrusionDetection{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "namespace": pulumi.String(a.Namespace), "trustDomain": pulumi.String(a.TrustDomain), "image": a.Image,
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:detection:IntrusionDetection", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("intrusion detection %s: %w", name, err)
	}
	if err := build(ctx, name, a, self, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("intrusion detection %s: %w", name, err), ctx.RegisterResourceOutputs(self, pulumi.Map{}))
	}
	return self, ctx.RegisterResourceOutputs(self, pulumi.Map{"daemonSet": self.DaemonSet})
}

func build(ctx *pulumi.Context, name string, a Args, self *IntrusionDetection, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(self, opts)
	if err != nil {
		return err
	}
	model, err := json.MarshalIndent(a.Model, "", " ")
	if err != nil {
		return err
	}
	identity := manifest.Identity{Name: program, Instance: a.Name, Component: zones.IntrusionDetection}
	meta := func(name string) *metav1.ObjectMetaArgs {
		return &metav1.ObjectMetaArgs{Name: pulumi.String(name), Namespace: pulumi.String(a.Namespace), Labels: identity.Labels()}
	}
	configMap, err := corev1.NewConfigMap(ctx, name+"-model", &corev1.ConfigMapArgs{
		Metadata:  meta(manifest.Hashed(a.Name+"-model", string(model))),
		Immutable: pulumi.Bool(true),
		Data:      pulumi.StringMap{modelKey: pulumi.String(string(model))},
	}, inherited...)
	if err != nil {
		return err
	}
	account, err := corev1.NewServiceAccount(ctx, name+"-account", &corev1.ServiceAccountArgs{
		Metadata: meta(a.Name), AutomountServiceAccountToken: pulumi.Bool(false),
	}, inherited...)
	if err != nil {
		return err
	}
	binding, err := access(ctx, name, a, identity, account, inherited)
	if err != nil {
		return err
	}
	set, err := appsv1.NewDaemonSet(ctx, name, &appsv1.DaemonSetArgs{
		Metadata: meta(a.Name),
		Spec: &appsv1.DaemonSetSpecArgs{
			Selector: &metav1.LabelSelectorArgs{MatchLabels: identity.Selector()},
			// One program reads a group of a node: the new pod starts when the old one has ended.
			UpdateStrategy: &appsv1.DaemonSetUpdateStrategyArgs{
				Type:          pulumi.String("RollingUpdate"),
				RollingUpdate: &appsv1.RollingUpdateDaemonSetArgs{MaxUnavailable: pulumi.String("10%")},
			},
			Template: &corev1.PodTemplateSpecArgs{
				Metadata: &metav1.ObjectMetaArgs{Labels: identity.Labels()},
				Spec:     pod(a, account, configMap),
			},
		},
	}, slices.Concat(inherited, []pulumi.ResourceOption{pulumi.DependsOn([]pulumi.Resource{binding})})...)
	if err != nil {
		return err
	}
	setName := a.Name
	self.DaemonSet = set.Status.ApplyT(func(*appsv1.DaemonSetStatus) string { return setName }).(pulumi.StringOutput)
	return nil
}

// access lets the account find out whose addresses pods and nodes have.
func access(ctx *pulumi.Context, name string, a Args, identity manifest.Identity, account *corev1.ServiceAccount,
	opts []pulumi.ResourceOption,
) (*rbacv1.ClusterRoleBinding, error) {
	meta := &metav1.ObjectMetaArgs{Name: pulumi.String(a.Name), Labels: identity.Labels()}
	role, err := rbacv1.NewClusterRole(ctx, name+"-addresses", &rbacv1.ClusterRoleArgs{
		Metadata: meta,
		Rules: rbacv1.PolicyRuleArray{rbacv1.PolicyRuleArgs{
			ApiGroups: pulumi.ToStringArray([]string{""}),
			Resources: pulumi.ToStringArray([]string{"pods", "nodes"}),
			Verbs:     pulumi.ToStringArray([]string{"list", "watch"}),
		}},
	}, opts...)
	if err != nil {
		return nil, err
	}
	return rbacv1.NewClusterRoleBinding(ctx, name+"-addresses", &rbacv1.ClusterRoleBindingArgs{
		Metadata: meta,
		Subjects: rbacv1.SubjectArray{rbacv1.SubjectArgs{
			Kind: pulumi.String("ServiceAccount"), Name: account.Metadata.Name().Elem(), Namespace: pulumi.String(a.Namespace),
		}},
		RoleRef: rbacv1.RoleRefArgs{
			ApiGroup: pulumi.String("rbac.authorization.k8s.io"), Kind: pulumi.String("ClusterRole"), Name: role.Metadata.Name().Elem(),
		},
	}, opts...)
}

func pod(a Args, account *corev1.ServiceAccount, configMap *corev1.ConfigMap) *corev1.PodSpecArgs {
	security := manifest.Restricted()
	security.RunAsUser = pulumi.Int(0)
	security.Capabilities = &corev1.CapabilitiesArgs{
		Drop: pulumi.ToStringArray([]string{"ALL"}), Add: pulumi.ToStringArray([]string{"NET_ADMIN"}),
	}
	probe := func(path string, period, failures int) *corev1.ProbeArgs {
		return &corev1.ProbeArgs{
			HttpGet:       &corev1.HTTPGetActionArgs{Host: pulumi.String(host), Path: pulumi.String(path), Port: pulumi.Int(port)},
			PeriodSeconds: pulumi.Int(period), FailureThreshold: pulumi.Int(failures),
		}
	}
	value := func(name, value string) corev1.EnvVarArgs {
		return corev1.EnvVarArgs{Name: pulumi.String(name), Value: pulumi.String(value)}
	}
	return &corev1.PodSpecArgs{
		ServiceAccountName:            account.Metadata.Name().Elem(),
		AutomountServiceAccountToken:  pulumi.Bool(true),
		EnableServiceLinks:            pulumi.Bool(false),
		HostNetwork:                   pulumi.Bool(true),
		PriorityClassName:             pulumi.String("system-node-critical"),
		TerminationGracePeriodSeconds: pulumi.Int(10),
		// No node is left out, whatever its taints are: an intruder would look for that one.
		Tolerations: corev1.TolerationArray{corev1.TolerationArgs{Operator: pulumi.String("Exists")}},
		Containers: corev1.ContainerArray{corev1.ContainerArgs{
			Name:            pulumi.String(program),
			Image:           a.Image,
			ImagePullPolicy: pulumi.String("IfNotPresent"),
			Env: corev1.EnvVarArray{
				corev1.EnvVarArgs{Name: pulumi.String("NODE_NAME"), ValueFrom: &corev1.EnvVarSourceArgs{
					FieldRef: &corev1.ObjectFieldSelectorArgs{FieldPath: pulumi.String("spec.nodeName")},
				}},
				value("TRUST_DOMAIN", a.TrustDomain),
				value("MODEL_FILE", modelDir+"/"+modelKey),
				value("LISTEN_ADDRESS", host+":"+strconv.Itoa(port)),
				value("WINDOW", a.Window.String()),
				value("SCAN_THRESHOLD", strconv.Itoa(a.ScanThreshold)),
			},
			Resources:                a.Resources.Args(),
			SecurityContext:          security,
			TerminationMessagePolicy: pulumi.String("FallbackToLogsOnError"),
			ReadinessProbe:           probe("/readyz", 2, 3),
			LivenessProbe:            probe("/healthz", 10, 3),
			VolumeMounts:             corev1.VolumeMountArray{manifest.ReadOnlyMount("model", modelDir)},
		}},
		Volumes: corev1.VolumeArray{manifest.ConfigMapFiles("model", configMap.Metadata.Name().Elem(), nil)},
	}
}
