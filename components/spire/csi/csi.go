// Package csi deploys the SPIFFE CSI driver on every node of a Kubernetes
// cluster. A pod that mounts a volume of the driver finds the agent's Workload
// API in it, read-only, without any access to the node's file system.
//
// In flow the directory of the agent's socket and the images. Out comes the
// driver's name, for the volumes of workloads.
//
// The driver's container is privileged, because Kubernetes lets only such
// containers mount into the pods' directories in a way that the node sees
// (mount propagation "Bidirectional"). Its namespace therefore runs under the
// pod security standard "privileged". It has neither the node's network nor its
// process table, and no access to the Kubernetes API; the registrar beside it
// has no privilege either, only the directory of the kubelet's plugin sockets.
//
// Driver and agent are two DaemonSets, so that rolling the agent does not take
// the driver away, without which no pod can start.
package csi

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"

	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	storagev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/storage/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/spire/config"
)

const (
	defaultName       = "spiffe-csi-driver"
	defaultDriver     = "csi.spiffe.io"
	defaultKubeletDir = "/var/lib/kubelet"

	pluginDir       = "/spiffe-csi"
	pluginSocket    = "csi.sock"
	agentSocketDir  = "/spire-agent-socket"
	registrationDir = "/registration"
	// healthPort serves the registrar's /healthz.
	healthPort = 9809
)

// Args are the arguments of New.
type Args struct {
	// Name is the metadata.name of the DaemonSet. Default "spiffe-csi-driver".
	Name string
	// Namespace is where the driver runs; pod security "privileged". Required.
	Namespace string
	// DriverName is the name that volumes give. It is unique in the cluster.
	// Default "csi.spiffe.io".
	DriverName string
	// Image is the image of spiffe-csi-driver, RegistrarImage that of a program
	// that registers it with the kubelet: this project's csi-registrar or
	// Kubernetes' node-driver-registrar. Entry points are the programs.
	// Required.
	Image, RegistrarImage pulumi.StringInput
	// HostSocketDir is the directory on the node with the agent's socket.
	// Default "/run/spire/agent-sockets".
	HostSocketDir string
	// KubeletDir is the kubelet's root directory on the node. Default
	// "/var/lib/kubelet".
	KubeletDir string
	// Resources of the driver and of the registrar, each. Default 10m, 32Mi,
	// limit 64Mi.
	Resources manifest.Resources
}

// Driver is the CSI driver on every node.
type Driver struct {
	pulumi.ResourceState

	// DriverName is the name for volumes of type csi. It is known when the
	// driver runs on all nodes.
	DriverName pulumi.StringOutput `pulumi:"driverName"`
}

func (a Args) withDefaults() Args {
	a.Name = cmp.Or(a.Name, defaultName)
	a.DriverName = cmp.Or(a.DriverName, defaultDriver)
	a.HostSocketDir = cmp.Or(a.HostSocketDir, config.AgentSocketDir)
	a.KubeletDir = cmp.Or(a.KubeletDir, defaultKubeletDir)
	a.Resources = a.Resources.WithDefaults(manifest.Resources{CPU: "10m", Memory: "32Mi", MemoryLimit: "64Mi"})
	return a
}

var driverName = regexp.MustCompile(`^[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?$`)

func (a Args) validate() error {
	var problems []error
	add := func(key, value, allowed string) {
		problems = append(problems, fmt.Errorf("%s: %q is not allowed: %s", key, value, allowed))
	}
	if a.Namespace == "" {
		add("namespace", "", "it must be set")
	}
	if !driverName.MatchString(a.DriverName) {
		add("driverName", a.DriverName, "it must be a domain name in lower case, at most 63 characters")
	}
	if a.Image == nil {
		add("image", "", "it must be set")
	}
	if a.RegistrarImage == nil {
		add("registrarImage", "", "it must be set")
	}
	for _, p := range []struct{ key, value string }{{"hostSocketDir", a.HostSocketDir}, {"kubeletDir", a.KubeletDir}} {
		if !path.IsAbs(p.value) || path.Clean(p.value) != p.value || p.value == "/" {
			add(p.key, p.value, "it must be an absolute path without . and .. elements")
		}
	}
	return errors.Join(problems...)
}

// hostPluginDir is the directory on the node with the driver's own socket.
func (a Args) hostPluginDir() string { return path.Join(a.KubeletDir, "plugins", a.DriverName) }

// New deploys the driver. Dependencies among the options hold back every
// object.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Driver, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.withDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("spiffe csi driver %s: %w", name, err)
	}
	self := &Driver{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "namespace": pulumi.String(a.Namespace), "driverName": pulumi.String(a.DriverName),
		"image": a.Image, "registrarImage": a.RegistrarImage,
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:spire:CSIDriver", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("spiffe csi driver %s: %w", name, err)
	}
	if err := build(ctx, name, a, self, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("spiffe csi driver %s: %w", name, err), ctx.RegisterResourceOutputs(self, pulumi.Map{}))
	}
	return self, ctx.RegisterResourceOutputs(self, pulumi.Map{"driverName": self.DriverName})
}

func build(ctx *pulumi.Context, name string, a Args, self *Driver, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(self, opts)
	if err != nil {
		return err
	}
	identity := manifest.Identity{Name: "spiffe-csi-driver", Instance: a.Name, Component: "csi"}

	driver, err := storagev1.NewCSIDriver(ctx, name+"-driver", &storagev1.CSIDriverArgs{
		Metadata: &metav1.ObjectMetaArgs{Name: pulumi.String(a.DriverName), Labels: identity.Labels()},
		Spec: &storagev1.CSIDriverSpecArgs{
			AttachRequired: pulumi.Bool(false),
			// The driver learns from it that the volume is an ephemeral one.
			PodInfoOnMount: pulumi.Bool(true),
			// The socket is open to everyone by design; its directory is shared and
			// must keep its owner.
			FsGroupPolicy:        pulumi.String("None"),
			VolumeLifecycleModes: pulumi.ToStringArray([]string{"Ephemeral"}),
		},
	}, inherited...)
	if err != nil {
		return err
	}
	account, err := corev1.NewServiceAccount(ctx, name+"-account", &corev1.ServiceAccountArgs{
		Metadata:                     &metav1.ObjectMetaArgs{Name: pulumi.String(a.Name), Namespace: pulumi.String(a.Namespace), Labels: identity.Labels()},
		AutomountServiceAccountToken: pulumi.Bool(false),
	}, inherited...)
	if err != nil {
		return err
	}
	set, err := appsv1.NewDaemonSet(ctx, name, &appsv1.DaemonSetArgs{
		Metadata: &metav1.ObjectMetaArgs{Name: pulumi.String(a.Name), Namespace: pulumi.String(a.Namespace), Labels: identity.Labels()},
		Spec: &appsv1.DaemonSetSpecArgs{
			Selector: &metav1.LabelSelectorArgs{MatchLabels: identity.Selector()},
			UpdateStrategy: &appsv1.DaemonSetUpdateStrategyArgs{
				Type:          pulumi.String("RollingUpdate"),
				RollingUpdate: &appsv1.RollingUpdateDaemonSetArgs{MaxUnavailable: pulumi.String("10%")},
			},
			Template: &corev1.PodTemplateSpecArgs{
				Metadata: &metav1.ObjectMetaArgs{Labels: identity.Labels()},
				Spec: &corev1.PodSpecArgs{
					ServiceAccountName:            account.Metadata.Name().Elem(),
					AutomountServiceAccountToken:  pulumi.Bool(false),
					PriorityClassName:             pulumi.String("system-node-critical"),
					EnableServiceLinks:            pulumi.Bool(false),
					TerminationGracePeriodSeconds: pulumi.Int(5),
					Tolerations:                   corev1.TolerationArray{corev1.TolerationArgs{Operator: pulumi.String("Exists")}},
					Containers:                    corev1.ContainerArray{driverContainer(a), registrarContainer(a)},
					Volumes: corev1.VolumeArray{
						manifest.HostPath("agent-socket", a.HostSocketDir, "DirectoryOrCreate"),
						manifest.HostPath("plugin", a.hostPluginDir(), "DirectoryOrCreate"),
						manifest.HostPath("pods", path.Join(a.KubeletDir, "pods"), "DirectoryOrCreate"),
						manifest.HostPath("registration", path.Join(a.KubeletDir, "plugins_registry"), "DirectoryOrCreate"),
					},
				},
			},
		},
	}, slices.Concat(inherited, []pulumi.ResourceOption{pulumi.DependsOn([]pulumi.Resource{driver})})...)
	if err != nil {
		return err
	}
	driverName := a.DriverName
	self.DriverName = set.Status.ApplyT(func(*appsv1.DaemonSetStatus) string { return driverName }).(pulumi.StringOutput)
	return nil
}

func driverContainer(a Args) corev1.ContainerArgs {
	pods := manifest.Mount("pods", path.Join(a.KubeletDir, "pods"))
	pods.MountPropagation = pulumi.String("Bidirectional")
	return corev1.ContainerArgs{
		Name:            pulumi.String("spiffe-csi-driver"),
		Image:           a.Image,
		ImagePullPolicy: pulumi.String("IfNotPresent"),
		Args: pulumi.ToStringArray([]string{
			"-plugin-name", a.DriverName,
			"-workload-api-socket-dir", agentSocketDir,
			"-csi-socket-path", path.Join(pluginDir, pluginSocket),
		}),
		Env: corev1.EnvVarArray{corev1.EnvVarArgs{
			Name:      pulumi.String("MY_NODE_NAME"),
			ValueFrom: &corev1.EnvVarSourceArgs{FieldRef: &corev1.ObjectFieldSelectorArgs{FieldPath: pulumi.String("spec.nodeName")}},
		}},
		Resources: a.Resources.Args(),
		SecurityContext: &corev1.SecurityContextArgs{
			Privileged:             pulumi.Bool(true),
			RunAsUser:              pulumi.Int(0),
			ReadOnlyRootFilesystem: pulumi.Bool(true),
			Capabilities:           &corev1.CapabilitiesArgs{Drop: pulumi.ToStringArray([]string{"ALL"})},
		},
		TerminationMessagePolicy: pulumi.String("FallbackToLogsOnError"),
		VolumeMounts: corev1.VolumeMountArray{
			manifest.ReadOnlyMount("agent-socket", agentSocketDir), manifest.Mount("plugin", pluginDir), pods,
		},
	}
}

func registrarContainer(a Args) corev1.ContainerArgs {
	security := manifest.Restricted()
	// The directory of the kubelet's plugin sockets is root's.
	security.RunAsUser = pulumi.Int(0)
	return corev1.ContainerArgs{
		Name:            pulumi.String("csi-registrar"),
		Image:           a.RegistrarImage,
		ImagePullPolicy: pulumi.String("IfNotPresent"),
		Args: pulumi.ToStringArray([]string{
			"--csi-address=" + path.Join(pluginDir, pluginSocket),
			"--kubelet-registration-path=" + path.Join(a.hostPluginDir(), pluginSocket),
			"--plugin-registration-path=" + registrationDir,
			fmt.Sprintf("--http-endpoint=:%d", healthPort),
			"--v=2",
		}),
		Ports:                    corev1.ContainerPortArray{manifest.Port("health", healthPort)},
		Resources:                a.Resources.Args(),
		SecurityContext:          security,
		TerminationMessagePolicy: pulumi.String("FallbackToLogsOnError"),
		// It answers when the socket that the kubelet finds the driver by is
		// there.
		ReadinessProbe: probe(1, 5),
		LivenessProbe:  probe(10, 6),
		VolumeMounts:   corev1.VolumeMountArray{manifest.ReadOnlyMount("plugin", pluginDir), manifest.Mount("registration", registrationDir)},
	}
}

func probe(period, failures int) *corev1.ProbeArgs {
	return &corev1.ProbeArgs{
		HttpGet:       &corev1.HTTPGetActionArgs{Path: pulumi.String("/healthz"), Port: pulumi.String("health")},
		PeriodSeconds: pulumi.Int(period), FailureThreshold: pulumi.Int(failures),
	}
}
