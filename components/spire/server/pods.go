package server

import (
	"path"
	"slices"
	"strconv"

	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	schedulingv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/scheduling/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/spire/config"
)

// Keys of the ConfigMap and where it is mounted.
const (
	serverConfigKey  = "server.conf"
	managerConfigKey = "controller-manager.yaml"
	configDir        = "/run/spire/config"
)

func (b *builder) statefulSet(configMap *corev1.ConfigMap, files awsFiles, priority *schedulingv1.PriorityClass, service *corev1.Service, before []pulumi.Resource) (*appsv1.StatefulSet, error) {
	a := b.args
	affinity, spread := a.Spread.Place(b.identity.Selector())
	deleted := "Retain"
	if a.DeleteVolumes {
		deleted = "Delete"
	}
	annotations := pulumi.StringMap{"kubectl.kubernetes.io/default-container": pulumi.String(serverContainer)}
	if files.known != nil {
		annotations["ephemos.dev/checksum-aws-files"] = files.checksum
	}
	pod := &corev1.PodSpecArgs{
		ServiceAccountName: pulumi.String(a.Name),
		// Both containers talk to the API server: attestation, bundle,
		// registration.
		AutomountServiceAccountToken: pulumi.Bool(true),
		PriorityClassName:            priority.Metadata.Name().Elem(),
		// The audit log names the process behind each call on the socket,
		// and refuses callers whose process it cannot see.
		ShareProcessNamespace:         pulumi.Bool(true),
		TerminationGracePeriodSeconds: pulumi.Int(int(terminationGrace.Seconds())),
		EnableServiceLinks:            pulumi.Bool(false),
		SecurityContext:               manifest.RestrictedPod(user),
		Affinity:                      affinity,
		TopologySpreadConstraints:     spread,
		InitContainers:                append(b.databaseProbe(), b.serverContainer()),
		Containers:                    corev1.ContainerArray{b.managerContainer()},
		Volumes:                       b.volumes(configMap, files),
	}
	if len(a.NodeSelector) > 0 {
		pod.NodeSelector = pulumi.ToStringMap(a.NodeSelector)
	}
	spec := &appsv1.StatefulSetSpecArgs{
		Replicas:            pulumi.Int(a.Replicas),
		ServiceName:         service.Metadata.Name().Elem(),
		PodManagementPolicy: pulumi.String("Parallel"),
		// One at a time in a rollout, whatever the policy above, and the next
		// one when the load balancer has surely found the last one back.
		UpdateStrategy:  &appsv1.StatefulSetUpdateStrategyArgs{Type: pulumi.String("RollingUpdate")},
		MinReadySeconds: pulumi.Int(3),
		Selector:        &metav1.LabelSelectorArgs{MatchLabels: b.identity.Selector()},
		Template: &corev1.PodTemplateSpecArgs{
			Metadata: &metav1.ObjectMetaArgs{Labels: b.identity.Labels(), Annotations: annotations},
			Spec:     pod,
		},
	}
	if a.KMS == nil {
		spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicyArgs{
			WhenDeleted: pulumi.String(deleted),
			WhenScaled:  pulumi.String("Retain"),
		}
		spec.VolumeClaimTemplates = corev1.PersistentVolumeClaimTypeArray{corev1.PersistentVolumeClaimTypeArgs{
			Metadata: &metav1.ObjectMetaArgs{Name: pulumi.String("data"), Labels: b.identity.Selector()},
			Spec: &corev1.PersistentVolumeClaimSpecArgs{
				AccessModes:      pulumi.ToStringArray([]string{"ReadWriteOnce"}),
				StorageClassName: a.StorageClass,
				Resources:        &corev1.VolumeResourceRequirementsArgs{Requests: pulumi.StringMap{"storage": pulumi.String(a.StorageSize)}},
			},
		}}
	}
	return appsv1.NewStatefulSet(b.ctx, b.name, &appsv1.StatefulSetArgs{Metadata: b.meta(a.Name), Spec: spec},
		slices.Concat(b.opts, []pulumi.ResourceOption{pulumi.DependsOn(before)})...)
}

// databaseProbe is a container that ends when the database answers, or none. That it does not let the probe in is an answer.
func (b *builder) databaseProbe() corev1.ContainerArray {
	database := b.args.Database
	if database.ProbeImage == nil {
		return nil
	}
	var host pulumi.StringInput = pulumi.String(database.Host)
	if database.RDS != nil {
		host = database.RDS.Endpoint
	}
	return corev1.ContainerArray{corev1.ContainerArgs{
		Name:            pulumi.String("await-database"),
		Image:           database.ProbeImage,
		ImagePullPolicy: pulumi.String("IfNotPresent"),
		Command:         pulumi.ToStringArray([]string{"sh", "-c", "until pg_isready -q -t 1; do sleep 0.2; done"}),
		Env: corev1.EnvVarArray{
			corev1.EnvVarArgs{Name: pulumi.String("PGHOST"), Value: host.ToStringOutput().ToStringPtrOutput()},
			// Without a name it would look for the pod's user among the image's, and not try.
			corev1.EnvVarArgs{Name: pulumi.String("PGUSER"), Value: pulumi.String(database.User)},
			corev1.EnvVarArgs{Name: pulumi.String("PGPORT"), Value: pulumi.String(strconv.Itoa(b.args.serverConfig().DataStore.Port))},
		},
		Resources:                manifest.Resources{CPU: "10m", Memory: "16Mi", MemoryLimit: "32Mi"}.Args(),
		SecurityContext:          manifest.Restricted(),
		TerminationMessagePolicy: pulumi.String("FallbackToLogsOnError"),
	}}
}

// serverContainer is the server. As an init container that keeps running it is
// started before, and ended after, the controller manager.
func (b *builder) serverContainer() corev1.ContainerArgs {
	c := b.args.serverConfig()
	mounts := corev1.VolumeMountArray{
		manifest.ReadOnlyMount("config", configDir),
		manifest.Mount("data", c.DataDir),
		manifest.Mount("socket", config.ServerSocketDir),
		manifest.ReadOnlyMount("database-ca", path.Dir(c.DataStore.RootCertPath)),
	}
	if b.args.Database.RDS == nil {
		mounts = append(mounts, manifest.ReadOnlyMount("database-client", path.Dir(c.DataStore.CertPath)))
	}
	if b.args.UpstreamCASecret != nil {
		mounts = append(mounts, manifest.ReadOnlyMount("upstream", path.Dir(c.UpstreamAuthority.CertPath)))
	}
	mounts = append(mounts, b.awsMounts()...)
	run := []string{"run", "-config", path.Join(configDir, serverConfigKey)}
	if len(c.Environment()) > 0 {
		run = append(run, "-expandEnv")
	}
	container := corev1.ContainerArgs{
		Name:            pulumi.String(serverContainer),
		Image:           b.args.Image,
		ImagePullPolicy: pulumi.String("IfNotPresent"),
		RestartPolicy:   pulumi.String("Always"),
		Args:            pulumi.ToStringArray(run),
		Ports: corev1.ContainerPortArray{
			manifest.Port("grpc", c.BindPort), manifest.Port("metrics", c.Prometheus.Port), manifest.Port("health", c.Health.Port),
		},
		Resources:                b.args.Resources.Args(),
		SecurityContext:          manifest.Restricted(),
		TerminationMessagePolicy: pulumi.String("FallbackToLogsOnError"),
		StartupProbe:             &corev1.ProbeArgs{TcpSocket: &corev1.TCPSocketActionArgs{Port: pulumi.String("grpc")}, PeriodSeconds: pulumi.Int(1), FailureThreshold: pulumi.Int(300)},
		ReadinessProbe:           &corev1.ProbeArgs{TcpSocket: &corev1.TCPSocketActionArgs{Port: pulumi.String("grpc")}, PeriodSeconds: pulumi.Int(2), FailureThreshold: pulumi.Int(3)},
		LivenessProbe: &corev1.ProbeArgs{
			HttpGet:       &corev1.HTTPGetActionArgs{Path: pulumi.String("/live"), Port: pulumi.String("health")},
			PeriodSeconds: pulumi.Int(30), TimeoutSeconds: pulumi.Int(5), FailureThreshold: pulumi.Int(30),
		},
		VolumeMounts: mounts,
	}
	if env := b.environment(); len(env) > 0 {
		container.Env = env
	}
	return container
}

func (b *builder) managerContainer() corev1.ContainerArgs {
	c := b.args.controllerManagerConfig()
	return corev1.ContainerArgs{
		Name:            pulumi.String("spire-controller-manager"),
		Image:           b.args.ControllerManagerImage,
		ImagePullPolicy: pulumi.String("IfNotPresent"),
		Args:            pulumi.ToStringArray([]string{"-config", path.Join(configDir, managerConfigKey)}),
		Ports: corev1.ContainerPortArray{
			manifest.Port("webhook", config.WebhookPort), manifest.Port("cm-metrics", c.MetricsPort), manifest.Port("cm-health", c.HealthPort),
		},
		Resources:                b.args.ControllerManagerResources.Args(),
		SecurityContext:          manifest.Restricted(),
		TerminationMessagePolicy: pulumi.String("FallbackToLogsOnError"),
		// It answers when it holds the webhook's certificate, so ready means that
		// the webhook works.
		ReadinessProbe: &corev1.ProbeArgs{
			HttpGet:       &corev1.HTTPGetActionArgs{Path: pulumi.String("/readyz"), Port: pulumi.String("cm-health")},
			PeriodSeconds: pulumi.Int(1), FailureThreshold: pulumi.Int(5),
		},
		LivenessProbe: &corev1.ProbeArgs{
			HttpGet:       &corev1.HTTPGetActionArgs{Path: pulumi.String("/healthz"), Port: pulumi.String("cm-health")},
			PeriodSeconds: pulumi.Int(10), TimeoutSeconds: pulumi.Int(5), FailureThreshold: pulumi.Int(6),
		},
		VolumeMounts: corev1.VolumeMountArray{
			manifest.ReadOnlyMount("config", configDir),
			manifest.ReadOnlyMount("socket", config.ServerSocketDir),
			// The webhook's key pair is handed over in a temporary file.
			manifest.Mount("tmp", "/tmp"),
		},
	}
}

func (b *builder) volumes(configMap *corev1.ConfigMap, files awsFiles) corev1.VolumeArray {
	database := b.args.Database
	c := b.args.serverConfig()
	volumes := corev1.VolumeArray{
		manifest.ConfigMapFiles("config", configMap.Metadata.Name().Elem(), nil),
		manifest.Scratch("socket", ""),
		manifest.Scratch("tmp", "Memory"),
	}
	if files.bundle != nil {
		volumes = append(volumes, manifest.ConfigMapFiles("database-ca", files.bundle.Metadata.Name().Elem(), nil))
	} else {
		volumes = append(volumes,
			manifest.SecretFiles("database-ca", database.CASecret, map[string]string{database.CASecretKey: path.Base(c.DataStore.RootCertPath)}),
			manifest.SecretFiles("database-client", database.ClientSecret, map[string]string{
				"tls.crt": path.Base(c.DataStore.CertPath), "tls.key": path.Base(c.DataStore.KeyPath),
			}))
	}
	if b.args.UpstreamCASecret != nil {
		volumes = append(volumes, manifest.SecretFiles("upstream", b.args.UpstreamCASecret, map[string]string{
			"tls.crt": path.Base(c.UpstreamAuthority.CertPath), "tls.key": path.Base(c.UpstreamAuthority.KeyPath),
		}))
	}
	if b.args.KMS != nil {
		// Nothing of it has to outlive the pod.
		volumes = append(volumes, manifest.Scratch("data", ""))
	}
	if files.known != nil {
		volumes = append(volumes, manifest.ConfigMapFiles("aws", files.known.Metadata.Name().Elem(), nil))
	}
	return volumes
}
