// Package rdssetup prepares a database of Amazon RDS for the SPIRE servers: it runs cmd/dbsetup as a Job, which makes the role that
// the servers sign in as by IAM, and gives it the database.
//
// In: the cluster's endpoint, the ARN of its master user's secret, and the database's CAs. Out: the name of the database, known when
// the Job is done. The master user's password goes from Secrets Manager to the database through the Job's memory; neither Pulumi nor
// Kubernetes sees it.
//
// The Job's rights in AWS are those of its service account (Args.ServiceAccount), to which the caller binds a role with
// awsaccess.SetupPolicy before; give that binding among the dependencies. Kubernetes itself grants the account nothing.
package rdssetup

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	batchv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/batch/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/postgres/cabundle"
)

const (
	defaultName     = "spire-db-setup"
	defaultDatabase = "spire"
	defaultRole     = "spire"
	defaultDeadline = 5 * time.Minute
	// program is the label by which the zone model knows the Job's pods.
	program = "database-setup"
	// user is the user of the project's own images.
	user    = 65532
	caDir   = "/run/dbsetup"
	caFile  = "rds.pem"
	retries = 3
)

// Args are the arguments of New.
type Args struct {
	// Name is the metadata.name of the Job and its service account. Default "spire-db-setup".
	Name string
	// Namespace is where the Job runs; pod security "restricted". Required.
	Namespace string
	// Image is the image of dbsetup, whose entry point is the program. Required.
	Image pulumi.StringInput
	// Endpoint is the name that AWS gave to the cluster's writer. Required.
	Endpoint pulumi.StringInput
	// Port defaults to 5432.
	Port int
	// CABundle are the certificates, PEM, of the CAs that sign the database's: AWS' bundle of the region. Required.
	CABundle string
	// MasterSecretARN is the secret with the master user's name and password. Required.
	MasterSecretARN pulumi.StringInput
	// Region of the secret. Required.
	Region string
	// Database and Role are what is provided: lower-case letters, digits and underscores. Defaults "spire", "spire".
	Database, Role string
	// Deadline bounds all attempts of one run of the program, in whole seconds from 1s to 1h. Default 5m. A run that fails is repeated
	// three times.
	Deadline time.Duration
}

// Setup is a database that has been prepared.
type Setup struct {
	pulumi.ResourceState

	// Database and Role are the names. They are known when the Job is done.
	Database pulumi.StringOutput `pulumi:"database"`
	Role     pulumi.StringOutput `pulumi:"role"`
}

func (a Args) withDefaults() Args {
	a.Name = cmp.Or(a.Name, defaultName)
	a.Port = cmp.Or(a.Port, 5432)
	a.Database = cmp.Or(a.Database, defaultDatabase)
	a.Role = cmp.Or(a.Role, defaultRole)
	a.Deadline = cmp.Or(a.Deadline, defaultDeadline)
	return a
}

// ServiceAccount is the name of the service account under which the Job will run, in Namespace.
func (a Args) ServiceAccount() string { return a.withDefaults().Name }

var (
	objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	regionName = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}$`)
	plainName  = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)
)

func (a Args) validate() error {
	var problems []error
	add := func(key string, value any, allowed string) {
		problems = append(problems, fmt.Errorf("%s: %q is not allowed: it must be %s", key, fmt.Sprint(value), allowed))
	}
	if !objectName.MatchString(a.Name) {
		add("name", a.Name, "a Kubernetes name")
	}
	if a.Namespace == "" {
		add("namespace", "", "set")
	}
	for _, required := range []struct {
		key   string
		value pulumi.StringInput
	}{{"image", a.Image}, {"endpoint", a.Endpoint}, {"masterSecretARN", a.MasterSecretARN}} {
		if required.value == nil {
			add(required.key, "", "set")
		}
	}
	if a.Port < 1 || a.Port > 65535 {
		add("port", a.Port, "a port from 1 to 65535")
	}
	if err := cabundle.Check(a.CABundle); err != nil {
		add("caBundle", err, "certificates of CAs in PEM, and nothing else")
	}
	if !regionName.MatchString(a.Region) {
		add("region", a.Region, "a region of AWS such as eu-central-1")
	}
	for key, value := range map[string]string{"database": a.Database, "role": a.Role} {
		if !plainName.MatchString(value) {
			add(key, value, "lower-case letters, digits and underscores, at most 63")
		}
	}
	if a.Deadline < time.Second || a.Deadline > time.Hour || a.Deadline%time.Second != 0 {
		add("deadline", a.Deadline, "whole seconds from 1s to 1h")
	}
	return errors.Join(problems...)
}

// New prepares the database. Dependencies among the options hold back every object.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Setup, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.withDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("database setup %s: %w", name, err)
	}
	self := &Setup{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "namespace": pulumi.String(a.Namespace), "image": a.Image, "endpoint": a.Endpoint,
		"database": pulumi.String(a.Database), "role": pulumi.String(a.Role),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:rdssetup:Setup", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("database setup %s: %w", name, err)
	}
	if err := build(ctx, name, a, self, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("database setup %s: %w", name, err), ctx.RegisterResourceOutputs(self, pulumi.Map{}))
	}
	return self, ctx.RegisterResourceOutputs(self, pulumi.Map{"database": self.Database, "role": self.Role})
}

func build(ctx *pulumi.Context, name string, a Args, self *Setup, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(self, opts)
	if err != nil {
		return err
	}
	identity := manifest.Identity{Name: program, Instance: a.Name, Component: program}
	meta := func(name string) *metav1.ObjectMetaArgs {
		return &metav1.ObjectMetaArgs{Name: pulumi.String(name), Namespace: pulumi.String(a.Namespace), Labels: identity.Labels()}
	}
	account, err := corev1.NewServiceAccount(ctx, name+"-account", &corev1.ServiceAccountArgs{
		Metadata: meta(a.Name), AutomountServiceAccountToken: pulumi.Bool(false),
	}, inherited...)
	if err != nil {
		return err
	}
	bundle, err := corev1.NewConfigMap(ctx, name+"-ca", &corev1.ConfigMapArgs{
		Metadata: meta(manifest.Hashed(a.Name+"-ca", a.CABundle)), Immutable: pulumi.Bool(true),
		Data: pulumi.StringMap{caFile: pulumi.String(a.CABundle)},
	}, inherited...)
	if err != nil {
		return err
	}
	env := corev1.EnvVarArray{}
	for _, v := range []struct {
		name  string
		value pulumi.StringInput
	}{
		{"DATABASE_HOST", a.Endpoint},
		{"DATABASE_PORT", pulumi.String(strconv.Itoa(a.Port))},
		{"DATABASE_NAME", pulumi.String(a.Database)},
		{"DATABASE_ROLE", pulumi.String(a.Role)},
		{"DATABASE_CA_FILE", pulumi.String(caDir + "/" + caFile)},
		{"MASTER_SECRET_ARN", a.MasterSecretARN},
		{"AWS_REGION", pulumi.String(a.Region)},
		{"DEADLINE", pulumi.String(a.Deadline.String())},
	} {
		env = append(env, corev1.EnvVarArgs{Name: pulumi.String(v.name), Value: v.value.ToStringOutput().ToStringPtrOutput()})
	}
	job, err := batchv1.NewJob(ctx, name, &batchv1.JobArgs{
		Metadata: meta(a.Name),
		Spec: &batchv1.JobSpecArgs{
			// The finished Job stays: if it went away by itself, the next deployment would have to make it again.
			BackoffLimit: pulumi.Int(retries),
			Template: &corev1.PodTemplateSpecArgs{
				Metadata: &metav1.ObjectMetaArgs{Labels: identity.Labels()},
				Spec: &corev1.PodSpecArgs{
					RestartPolicy:                pulumi.String("OnFailure"),
					ServiceAccountName:           account.Metadata.Name().Elem(),
					AutomountServiceAccountToken: pulumi.Bool(false),
					EnableServiceLinks:           pulumi.Bool(false),
					SecurityContext:              manifest.RestrictedPod(user),
					Containers: corev1.ContainerArray{corev1.ContainerArgs{
						Name:                     pulumi.String("dbsetup"),
						Image:                    a.Image,
						ImagePullPolicy:          pulumi.String("IfNotPresent"),
						Env:                      env,
						Resources:                manifest.Resources{CPU: "10m", Memory: "32Mi", MemoryLimit: "64Mi"}.Args(),
						SecurityContext:          manifest.Restricted(),
						TerminationMessagePolicy: pulumi.String("FallbackToLogsOnError"),
						VolumeMounts:             corev1.VolumeMountArray{manifest.ReadOnlyMount("ca", caDir)},
					}},
					Volumes: corev1.VolumeArray{manifest.ConfigMapFiles("ca", bundle.Metadata.Name().Elem(), nil)},
				},
			},
		},
	}, slices.Concat(inherited, []pulumi.ResourceOption{
		// A Job cannot be changed, and its name is taken while it is there.
		pulumi.DeleteBeforeReplace(true),
	})...)
	if err != nil {
		return err
	}
	done := func(value string) pulumi.StringOutput {
		return job.Status.ApplyT(func(*batchv1.JobStatus) string { return value }).(pulumi.StringOutput)
	}
	self.Database, self.Role = done(a.Database), done(a.Role)
	return nil
}
