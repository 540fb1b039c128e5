package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/admissionregistration/v1"
	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	policyv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/policy/v1"
	rbacv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/rbac/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
)

// Names that the operator's program has built in (internal/cmd/manager/controller/controller.go,
// internal/configuration). A cluster can therefore hold one installation.
const (
	webhookService     = "cnpg-webhook-service"
	webhookSecret      = "cnpg-webhook-cert"
	mutatingWebhooks   = "cnpg-mutating-webhook-configuration"
	validatingWebhooks = "cnpg-validating-webhook-configuration"
	// programLabel is the value of app.kubernetes.io/name by which the operator finds its own Deployment.
	programLabel = "cloudnative-pg"

	operatorName      = "cnpg-controller-manager"
	operatorAccount   = "cnpg-manager"
	operatorNamespace = "cnpg-system"
	operatorUser      = 65532
	webhookPort       = 9443
)

const (
	// operatorLease and operatorRenew, in seconds, bound the time without a leading operator when its node is lost: they lie
	// well within the time in which Kubernetes notices. An operator that ends in order hands over at once.
	operatorLease = 10
	operatorRenew = 7
)

// OperatorArgs are the arguments of NewOperator.
type OperatorArgs struct {
	// Image is the operator's image. The same reference is used in the pods of instances, which copy the instance manager out
	// of it. Required.
	Image pulumi.StringInput
	// Namespace is where the operator runs; pod security "restricted" is enough. Default "cnpg-system".
	Namespace string
	// WatchNamespaces are the only namespaces in which the operator manages clusters, and may read or write anything.
	// Default "spire-server".
	WatchNamespaces []string
	// Replicas is how many operators run; one of them leads. Default 2, on different nodes: the loss of a node must not take
	// the primary and the operator that would replace it.
	Replicas int
	// PriorityClassName is the priority class of the operator. Nil means none.
	PriorityClassName pulumi.StringPtrInput
	// Resources of each operator. Default 50m, 96Mi, limit 256Mi. There is no limit on processor time: CloudNativePG's own
	// manifest limits the operator to a tenth of a processor, which a failover would have to wait for.
	Resources manifest.Resources
}

// Operator is an installation of CloudNativePG.
type Operator struct {
	pulumi.ResourceState

	// Namespace is where the operator runs; it is known when the operator is ready to check and manage clusters.
	Namespace pulumi.StringOutput `pulumi:"namespace"`
	// PodLabels select the operator's pods, for network policies: they reach instances on ports 5432 and 8000, and the API
	// server reaches them on port 9443.
	PodLabels pulumi.StringMapOutput `pulumi:"podLabels"`
}

func (a OperatorArgs) withDefaults() OperatorArgs {
	a.Namespace = cmp.Or(a.Namespace, operatorNamespace)
	a.Replicas = cmp.Or(a.Replicas, 2)
	if len(a.WatchNamespaces) == 0 {
		a.WatchNamespaces = []string{"spire-server"}
	}
	a.Resources = a.Resources.WithDefaults(manifest.Resources{CPU: "50m", Memory: "96Mi", MemoryLimit: "256Mi"})
	return a
}

func (a OperatorArgs) validate() error {
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, fmt.Sprint(value), allowed))
	}
	if a.Image == nil {
		fail("image", "", "set")
	}
	if a.Replicas < 1 {
		fail("replicas", a.Replicas, "at least 1")
	}
	for i, n := range a.WatchNamespaces {
		if n == "" || strings.Contains(n, ",") || slices.Contains(a.WatchNamespaces[:i], n) {
			fail("watchNamespaces", n, "the name of a namespace, once")
		}
		if n == a.Namespace {
			fail("watchNamespaces", n, "another namespace than the operator's own")
		}
	}
	return errors.Join(errs...)
}

func (a OperatorArgs) identity() manifest.Identity {
	return manifest.Identity{Name: programLabel, Instance: operatorName, Component: "operator"}
}

func (a OperatorArgs) metadata(name, namespace string) *metav1.ObjectMetaArgs {
	meta := &metav1.ObjectMetaArgs{Name: pulumi.String(name), Labels: a.identity().Labels()}
	if namespace != "" {
		meta.Namespace = pulumi.String(namespace)
	}
	return meta
}

// NewOperator deploys the operator. Its options should depend on the custom resource definitions of CloudNativePG and on
// the namespaces.
func NewOperator(ctx *pulumi.Context, name string, args *OperatorArgs, opts ...pulumi.ResourceOption) (*Operator, error) {
	if args == nil {
		args = &OperatorArgs{}
	}
	a := args.withDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("postgres operator %s: %w", name, err)
	}

	self := &Operator{}
	props := pulumi.Map{
		"image": a.Image, "namespace": pulumi.String(a.Namespace), "replicas": pulumi.Int(a.Replicas),
		"watchNamespaces": pulumi.ToStringArray(a.WatchNamespaces),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:postgres:Operator", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("postgres operator %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"namespace": self.Namespace, "podLabels": self.PodLabels}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("postgres operator %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (o *Operator) provision(ctx *pulumi.Context, name string, a OperatorArgs, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(o, opts)
	if err != nil {
		return err
	}
	access, err := a.access(ctx, name, inherited)
	if err != nil {
		return err
	}
	webhooks, err := a.webhooks(ctx, name, inherited)
	if err != nil {
		return err
	}
	configMap, err := corev1.NewConfigMap(ctx, name+"-config", &corev1.ConfigMapArgs{
		Metadata: a.metadata(configName(), a.Namespace), Data: pulumi.ToStringMap(configuration), Immutable: pulumi.Bool(true),
	}, inherited...)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	serviceMetadata := a.metadata(webhookService, a.Namespace)
	serviceMetadata.Annotations = manifest.NoAwait
	service, err := corev1.NewService(ctx, name+"-webhook-service", &corev1.ServiceArgs{
		Metadata: serviceMetadata,
		Spec: &corev1.ServiceSpecArgs{
			Selector: a.identity().Selector(),
			Ports: corev1.ServicePortArray{corev1.ServicePortArgs{
				Name: pulumi.String("webhook"), Port: pulumi.Int(443), TargetPort: pulumi.Int(webhookPort),
			}},
		},
	}, inherited...)
	if err != nil {
		return fmt.Errorf("webhook service: %w", err)
	}
	// The operator puts its CA into the webhook configurations when it starts, and ends if they are not there.
	before := slices.Concat(access, webhooks, []pulumi.Resource{configMap, service})
	deployment, err := appsv1.NewDeployment(ctx, name+"-deployment", a.deployment(),
		append(inherited, pulumi.DependsOn(before))...)
	if err != nil {
		return fmt.Errorf("deployment: %w", err)
	}
	if a.Replicas > 1 {
		if _, err := policyv1.NewPodDisruptionBudget(ctx, name+"-pdb", &policyv1.PodDisruptionBudgetArgs{
			Metadata: a.metadata(operatorName, a.Namespace),
			Spec: &policyv1.PodDisruptionBudgetSpecArgs{
				MaxUnavailable: pulumi.Int(1), UnhealthyPodEvictionPolicy: pulumi.String("AlwaysAllow"),
				Selector: &metav1.LabelSelectorArgs{MatchLabels: a.identity().Selector()},
			},
		}, inherited...); err != nil {
			return fmt.Errorf("disruption budget: %w", err)
		}
	}
	o.Namespace = deployment.Metadata.Namespace().Elem()
	o.PodLabels = a.identity().Selector().ToStringMapOutput()
	return nil
}

// access makes the service account and its roles.
func (a OperatorArgs) access(ctx *pulumi.Context, name string, opts []pulumi.ResourceOption) ([]pulumi.Resource, error) {
	account, err := corev1.NewServiceAccount(ctx, name+"-account", &corev1.ServiceAccountArgs{
		Metadata: a.metadata(operatorAccount, a.Namespace), AutomountServiceAccountToken: pulumi.Bool(false),
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("service account: %w", err)
	}
	subjects := rbacv1.SubjectArray{rbacv1.SubjectArgs{
		Kind: pulumi.String("ServiceAccount"), Name: pulumi.String(operatorAccount), Namespace: pulumi.String(a.Namespace),
	}}
	made := []pulumi.Resource{account}

	clusterRole, err := rbacv1.NewClusterRole(ctx, name+"-cluster-role", &rbacv1.ClusterRoleArgs{
		Metadata: a.metadata(operatorAccount, ""), Rules: policyRules(clusterRules),
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("cluster role: %w", err)
	}
	clusterBinding, err := rbacv1.NewClusterRoleBinding(ctx, name+"-cluster-role-binding", &rbacv1.ClusterRoleBindingArgs{
		Metadata: a.metadata(operatorAccount, ""), Subjects: subjects, RoleRef: roleRef("ClusterRole"),
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("cluster role binding: %w", err)
	}
	made = append(made, clusterRole, clusterBinding)

	for _, namespace := range append([]string{a.Namespace}, a.WatchNamespaces...) {
		rules := watchedRules
		if namespace == a.Namespace {
			rules = ownRules
		}
		role, err := rbacv1.NewRole(ctx, name+"-role-"+namespace, &rbacv1.RoleArgs{
			Metadata: a.metadata(operatorAccount, namespace), Rules: policyRules(rules),
		}, opts...)
		if err != nil {
			return nil, fmt.Errorf("role in %s: %w", namespace, err)
		}
		binding, err := rbacv1.NewRoleBinding(ctx, name+"-role-binding-"+namespace, &rbacv1.RoleBindingArgs{
			Metadata: a.metadata(operatorAccount, namespace), Subjects: subjects, RoleRef: roleRef("Role"),
		}, opts...)
		if err != nil {
			return nil, fmt.Errorf("role binding in %s: %w", namespace, err)
		}
		made = append(made, role, binding)
	}
	return made, nil
}

func roleRef(kind string) rbacv1.RoleRefArgs {
	return rbacv1.RoleRefArgs{
		ApiGroup: pulumi.String("rbac.authorization.k8s.io"), Kind: pulumi.String(kind), Name: pulumi.String(operatorAccount),
	}
}

// configuration is the operator's own (docs/src/operator_conf.md). Where it says nothing, CloudNativePG's defaults hold:
// certificates of 90 days, renewed 7 days before they end.
var configuration = map[string]string{
	// Milliseconds until a standby gives up a connection on which the primary acknowledges nothing.
	"STANDBY_TCP_USER_TIMEOUT": "5000",
}

// configName changes with the configuration, which the operator reads only when it starts.
func configName() string {
	var texts []string
	for _, key := range slices.Sorted(maps.Keys(configuration)) {
		texts = append(texts, key, configuration[key])
	}
	return manifest.Hashed("cnpg-controller-manager-config", texts...)
}

func (a OperatorArgs) deployment() *appsv1.DeploymentArgs {
	affinity, spread := manifest.SpreadPreferred.Place(a.identity().Selector())
	check := func(period, failures int) *corev1.ProbeArgs {
		return &corev1.ProbeArgs{
			HttpGet: &corev1.HTTPGetActionArgs{
				Path: pulumi.String("/readyz"), Port: pulumi.Int(webhookPort), Scheme: pulumi.String("HTTPS"),
			},
			PeriodSeconds: pulumi.Int(period), FailureThreshold: pulumi.Int(failures), TimeoutSeconds: pulumi.Int(5),
		}
	}
	pod := &corev1.PodSpecArgs{
		ServiceAccountName: pulumi.String(operatorAccount), AutomountServiceAccountToken: pulumi.Bool(true),
		SecurityContext: manifest.RestrictedPod(operatorUser),
		Affinity:        affinity, TopologySpreadConstraints: spread,
		Tolerations:                   manifest.LeaveLostNode(),
		TerminationGracePeriodSeconds: pulumi.Int(10),
		Containers: corev1.ContainerArray{corev1.ContainerArgs{
			Name: pulumi.String("manager"), Image: a.Image, ImagePullPolicy: pulumi.String("IfNotPresent"),
			Command: pulumi.ToStringArray([]string{"/manager"}),
			Args: pulumi.ToStringArray([]string{
				"controller", "--leader-elect",
				fmt.Sprintf("--leader-lease-duration=%d", operatorLease), fmt.Sprintf("--leader-renew-deadline=%d", operatorRenew),
				"--max-concurrent-reconciles=10",
				"--config-map-name=" + configName(),
				fmt.Sprintf("--webhook-port=%d", webhookPort),
			}),
			Env: corev1.EnvVarArray{
				corev1.EnvVarArgs{Name: pulumi.String("OPERATOR_IMAGE_NAME"), Value: a.Image},
				corev1.EnvVarArgs{Name: pulumi.String("OPERATOR_NAMESPACE"), ValueFrom: &corev1.EnvVarSourceArgs{
					FieldRef: &corev1.ObjectFieldSelectorArgs{FieldPath: pulumi.String("metadata.namespace")},
				}},
				// Not in the ConfigMap: the operator builds its caches for it before it reads that.
				corev1.EnvVarArgs{
					Name: pulumi.String("WATCH_NAMESPACE"), Value: pulumi.String(strings.Join(a.WatchNamespaces, ",")),
				},
			},
			Ports: corev1.ContainerPortArray{
				manifest.Port("metrics", 8080),
				manifest.Port("webhook-server", webhookPort),
			},
			// At its very first start an operator makes its certificate and then waits for the kubelet to show it in the volume,
			// which may take the kubelet a minute, but only a moment when the container is started again. Hence the short patience.
			StartupProbe:    check(1, 20),
			ReadinessProbe:  check(5, 2),
			LivenessProbe:   check(10, 3),
			Resources:       a.Resources.Args(),
			SecurityContext: manifest.Restricted(),
			VolumeMounts: corev1.VolumeMountArray{
				manifest.Mount("scratch", "/controller"),
				manifest.ReadOnlyMount("webhook-certificate", "/run/secrets/cnpg.io/webhook"),
			},
		}},
		Volumes: corev1.VolumeArray{
			manifest.Scratch("scratch", ""),
			corev1.VolumeArgs{Name: pulumi.String("webhook-certificate"), Secret: &corev1.SecretVolumeSourceArgs{
				SecretName: pulumi.String(webhookSecret), Optional: pulumi.Bool(true), DefaultMode: pulumi.Int(0o440),
			}},
		},
	}
	if a.PriorityClassName != nil {
		pod.PriorityClassName = a.PriorityClassName
	}
	return &appsv1.DeploymentArgs{
		Metadata: a.metadata(operatorName, a.Namespace),
		Spec: &appsv1.DeploymentSpecArgs{
			Replicas: pulumi.Int(a.Replicas),
			// What depends on the operator is refused if the API server does not reach the webhooks: its view of the Service's
			// endpoints is a moment behind the pods.
			MinReadySeconds: pulumi.Int(2),
			Selector:        &metav1.LabelSelectorArgs{MatchLabels: a.identity().Selector()},
			Template: &corev1.PodTemplateSpecArgs{
				Metadata: &metav1.ObjectMetaArgs{
					Labels: a.identity().Labels(),
				},
				Spec: pod,
			},
		},
	}
}

// webhooks make the API server ask the operator about objects of the watched namespaces, and of no other: another
// installation's clusters are none of its business.
func (a OperatorArgs) webhooks(ctx *pulumi.Context, name string, opts []pulumi.ResourceOption) ([]pulumi.Resource, error) {
	selector := &metav1.LabelSelectorArgs{MatchExpressions: metav1.LabelSelectorRequirementArray{
		metav1.LabelSelectorRequirementArgs{
			Key: pulumi.String("kubernetes.io/metadata.name"), Operator: pulumi.String("In"),
			Values: pulumi.ToStringArray(a.WatchNamespaces),
		},
	}}
	reference := func(verb, kind string) *admissionv1.WebhookClientConfigArgs {
		return &admissionv1.WebhookClientConfigArgs{Service: &admissionv1.ServiceReferenceArgs{
			Name: pulumi.String(webhookService), Namespace: pulumi.String(a.Namespace),
			Path: pulumi.String("/" + verb + "-postgresql-cnpg-io-v1-" + kind),
		}}
	}
	rules := func(kind string) admissionv1.RuleWithOperationsArray {
		return admissionv1.RuleWithOperationsArray{admissionv1.RuleWithOperationsArgs{
			ApiGroups: pulumi.ToStringArray([]string{"postgresql.cnpg.io"}), ApiVersions: pulumi.ToStringArray([]string{"v1"}),
			Operations: pulumi.ToStringArray([]string{"CREATE", "UPDATE"}), Resources: pulumi.ToStringArray([]string{kind + "s"}),
		}}
	}

	// The kinds are those of config/webhook/manifests.yaml.
	mutating := admissionv1.MutatingWebhookArray{}
	for _, kind := range []string{"backup", "cluster", "database", "scheduledbackup"} {
		mutating = append(mutating, admissionv1.MutatingWebhookArgs{
			Name: pulumi.String("m" + kind + ".cnpg.io"), ClientConfig: reference("mutate", kind), Rules: rules(kind),
			NamespaceSelector: selector, FailurePolicy: pulumi.String("Fail"), SideEffects: pulumi.String("None"),
			AdmissionReviewVersions: pulumi.ToStringArray([]string{"v1"}),
		})
	}
	validating := admissionv1.ValidatingWebhookArray{}
	for _, kind := range []string{"backup", "cluster", "database", "pooler", "scheduledbackup"} {
		validating = append(validating, admissionv1.ValidatingWebhookArgs{
			Name: pulumi.String("v" + kind + ".cnpg.io"), ClientConfig: reference("validate", kind), Rules: rules(kind),
			NamespaceSelector: selector, FailurePolicy: pulumi.String("Fail"), SideEffects: pulumi.String("None"),
			AdmissionReviewVersions: pulumi.ToStringArray([]string{"v1"}),
		})
	}

	m, err := admissionv1.NewMutatingWebhookConfiguration(ctx, name+"-mutating-webhooks", &admissionv1.MutatingWebhookConfigurationArgs{
		Metadata: a.metadata(mutatingWebhooks, ""), Webhooks: mutating,
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("mutating webhooks: %w", err)
	}
	v, err := admissionv1.NewValidatingWebhookConfiguration(ctx, name+"-validating-webhooks", &admissionv1.ValidatingWebhookConfigurationArgs{
		Metadata: a.metadata(validatingWebhooks, ""), Webhooks: validating,
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("validating webhooks: %w", err)
	}
	return []pulumi.Resource{m, v}, nil
}
