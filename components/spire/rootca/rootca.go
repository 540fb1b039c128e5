// Package rootca provides the root CA that signs the SPIRE servers' CAs.
//
// In flow the name of a Secret that the user brings, or nothing. Out comes the
// name of a Secret with tls.crt and tls.key. When there is none to bring, a Job
// makes the root inside the cluster: the private key is born in the Job's
// memory, goes to the API server, and is never seen by Pulumi, its state, or a
// log. The Job only creates: a second run, or a second deployment, leaves the
// Secret that it finds.
//
// Destroying the component does not delete the Secret, which Pulumi does not
// know. It goes with its namespace.
package rootca

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	batchv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/batch/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	rbacv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/rbac/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"k8s.io/apimachinery/pkg/util/validation"

	"ephemos.dev/deploy/components/manifest"
)

const (
	defaultName     = "spire-root-ca"
	defaultLifetime = 10 * 365 * 24 * time.Hour
	// user is the user of the project's own images.
	user = 65532
)

// Args are the arguments of New.
type Args struct {
	// ExistingSecret is a Secret with tls.crt and tls.key of a CA that the user
	// brings, named as CheckSecretName wants it. With it nothing is created, and the other fields are not used.
	ExistingSecret string
	// Name is the metadata.name of the Secret and of the Job. Default
	// "spire-root-ca".
	Name string
	// Namespace is that of the Secret and the Job; pod security "restricted".
	// Required.
	Namespace string
	// Image is the image of rootca, whose entry point is the program. Required.
	Image pulumi.StringInput
	// CommonName of the certificate. Default: "Root CA of " and Organization.
	CommonName string
	// Organization of the certificate, usually the trust domain. Required.
	Organization string
	// Lifetime of the certificate. Default 87600h, ten years.
	Lifetime time.Duration
}

// RootCA is a root CA in a Secret.
type RootCA struct {
	pulumi.ResourceState

	// SecretName is the Secret with tls.crt and tls.key. It is known when the
	// Secret is there.
	SecretName pulumi.StringOutput `pulumi:"secretName"`
}

var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// CheckSecretName says whether name can be that of a Secret. The error is what
// is allowed: a DNS subdomain as in RFC 1123, which is Kubernetes' rule.
func CheckSecretName(name string) error {
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		return errors.New("the name of a Secret: at most 253 lower-case letters, digits, dashes and dots, " +
			"with a letter or digit at both ends and beside each dot")
	}
	return nil
}

func (a Args) withDefaults() Args {
	if a.Name == "" {
		a.Name = defaultName
	}
	if a.CommonName == "" {
		a.CommonName = "Root CA of " + a.Organization
	}
	if a.Lifetime == 0 {
		a.Lifetime = defaultLifetime
	}
	return a
}

func (a Args) validate() error {
	var problems []error
	add := func(key, value, allowed string) {
		problems = append(problems, fmt.Errorf("%s: %q is not allowed: %s", key, value, allowed))
	}
	if a.ExistingSecret != "" {
		if err := CheckSecretName(a.ExistingSecret); err != nil {
			add("existingSecret", a.ExistingSecret, "it must be "+err.Error())
		}
		return errors.Join(problems...)
	}
	if !objectName.MatchString(a.Name) {
		add("name", a.Name, "it must be a Kubernetes name")
	}
	if a.Namespace == "" {
		add("namespace", "", "it must be set")
	}
	if a.Image == nil {
		add("image", "", "it must be set")
	}
	if a.Organization == "" {
		add("organization", "", "it must be set")
	}
	if a.Lifetime < 24*time.Hour {
		add("lifetime", a.Lifetime.String(), "it must be at least 24h, the lifetime of the CAs it signs")
	}
	return errors.Join(problems...)
}

// New provides the root CA. Dependencies among the options hold back every
// object.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*RootCA, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.withDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("root CA %s: %w", name, err)
	}
	self := &RootCA{}
	props := pulumi.Map{
		"existingSecret": pulumi.String(a.ExistingSecret), "name": pulumi.String(a.Name), "namespace": pulumi.String(a.Namespace),
		"commonName": pulumi.String(a.CommonName), "organization": pulumi.String(a.Organization),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:spire:RootCA", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("root CA %s: %w", name, err)
	}
	if a.ExistingSecret != "" {
		self.SecretName = pulumi.String(a.ExistingSecret).ToStringOutput()
	} else if err := build(ctx, name, a, self, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("root CA %s: %w", name, err), ctx.RegisterResourceOutputs(self, pulumi.Map{}))
	}
	return self, ctx.RegisterResourceOutputs(self, pulumi.Map{"secretName": self.SecretName})
}

func build(ctx *pulumi.Context, name string, a Args, self *RootCA, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(self, opts)
	if err != nil {
		return err
	}
	identity := manifest.Identity{Name: "rootca", Instance: a.Name, Component: "root-ca"}
	meta := func() *metav1.ObjectMetaArgs {
		return &metav1.ObjectMetaArgs{Name: pulumi.String(a.Name), Namespace: pulumi.String(a.Namespace), Labels: identity.Labels()}
	}
	account, err := corev1.NewServiceAccount(ctx, name+"-account", &corev1.ServiceAccountArgs{
		Metadata: meta(), AutomountServiceAccountToken: pulumi.Bool(false),
	}, inherited...)
	if err != nil {
		return err
	}
	// Creating is all that the Job does: it cannot read, change or delete any
	// Secret. Kubernetes cannot restrict creation to a name.
	role, err := rbacv1.NewRole(ctx, name+"-create", &rbacv1.RoleArgs{
		Metadata: meta(),
		Rules: rbacv1.PolicyRuleArray{rbacv1.PolicyRuleArgs{
			ApiGroups: pulumi.ToStringArray([]string{""}), Resources: pulumi.ToStringArray([]string{"secrets"}), Verbs: pulumi.ToStringArray([]string{"create"}),
		}},
	}, inherited...)
	if err != nil {
		return err
	}
	binding, err := rbacv1.NewRoleBinding(ctx, name+"-create", &rbacv1.RoleBindingArgs{
		Metadata: meta(),
		Subjects: rbacv1.SubjectArray{rbacv1.SubjectArgs{
			Kind: pulumi.String("ServiceAccount"), Name: account.Metadata.Name().Elem(), Namespace: pulumi.String(a.Namespace),
		}},
		RoleRef: rbacv1.RoleRefArgs{
			ApiGroup: pulumi.String("rbac.authorization.k8s.io"), Kind: pulumi.String("Role"), Name: role.Metadata.Name().Elem(),
		},
	}, inherited...)
	if err != nil {
		return err
	}
	job, err := batchv1.NewJob(ctx, name, &batchv1.JobArgs{
		Metadata: meta(),
		Spec: &batchv1.JobSpecArgs{
			// The finished Job stays: if it went away by itself, the next
			// deployment would have to make it again.
			BackoffLimit: pulumi.Int(5),
			Template: &corev1.PodTemplateSpecArgs{
				Metadata: &metav1.ObjectMetaArgs{Labels: identity.Labels()},
				Spec: &corev1.PodSpecArgs{
					RestartPolicy:                pulumi.String("OnFailure"),
					ServiceAccountName:           account.Metadata.Name().Elem(),
					AutomountServiceAccountToken: pulumi.Bool(true),
					EnableServiceLinks:           pulumi.Bool(false),
					SecurityContext:              manifest.RestrictedPod(user),
					Containers: corev1.ContainerArray{corev1.ContainerArgs{
						Name:            pulumi.String("rootca"),
						Image:           a.Image,
						ImagePullPolicy: pulumi.String("IfNotPresent"),
						Args: pulumi.ToStringArray([]string{
							"-namespace", a.Namespace,
							"-secret", a.Name,
							"-common-name", a.CommonName,
							"-organization", a.Organization,
							"-lifetime", a.Lifetime.String(),
						}),
						Resources:                manifest.Resources{CPU: "10m", Memory: "32Mi", MemoryLimit: "64Mi"}.Args(),
						SecurityContext:          manifest.Restricted(),
						TerminationMessagePolicy: pulumi.String("FallbackToLogsOnError"),
					}},
				},
			},
		},
	}, slices.Concat(inherited, []pulumi.ResourceOption{
		pulumi.DependsOn([]pulumi.Resource{binding}),
		// A Job cannot be changed, and its name is taken while it is there.
		pulumi.DeleteBeforeReplace(true),
	})...)
	if err != nil {
		return err
	}
	secret := a.Name
	self.SecretName = job.Status.ApplyT(func(*batchv1.JobStatus) string { return secret }).(pulumi.StringOutput)
	return nil
}
