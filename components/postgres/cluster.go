package postgres

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apiextensions"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
)

// Durability says what a commit does when no standby can confirm it.
type Durability string

const (
	// Required makes it wait: no acknowledged write is lost with the primary.
	Required Durability = "required"
	// Preferred lets it go on: one instance alone can take writes, which are lost if it is lost too.
	Preferred Durability = "preferred"
)

// Await says when Pulumi takes the cluster as done.
type Await string

const (
	// Primary is when the primary accepts connections and the client's certificate exists.
	Primary Await = "primary"
	// Whole is when in addition all instances are ready.
	Whole Await = "whole"
)

const (
	apiVersion = "postgresql.cnpg.io/v1"

	defaultName        = "spire-db"
	defaultDatabase    = "spire"
	defaultInstances   = 3
	defaultStorageSize = "1Gi"

	// port is where Postgres listens; CloudNativePG does not let it be changed.
	port = 5432
	// statusPort is where the operator and other instances ask an instance how it is, metricsPort where metrics are.
	statusPort  = 8000
	metricsPort = 9187
)

// Figures of a failover. The package comment says what each one shortens.
const (
	// leaseDuration, leaseRenew and leaseRetry are those of the primary's lease, in seconds. CloudNativePG asks for
	// leaseDuration > leaseRenew > 1.2 x leaseRetry and for whole seconds of at least 1.
	leaseDuration = 4
	leaseRenew    = 3
	leaseRetry    = 1
	// stopDelay bounds a shutdown, in seconds. What is left after smartShutdown must be at least 15 s
	// (docs/src/instance_manager.md, "Shutdown control").
	stopDelay       = 30
	smartShutdown   = 0
	switchoverDelay = 30
	failoverDelay   = 0

	// readinessPeriod and readinessFailures take a hanging instance out after six seconds.
	readinessPeriod   = 2
	readinessFailures = 3
	// An instance may take startupFailures seconds to replay its log.
	startupPeriod   = 1
	startupFailures = 900
	// livenessPeriod and livenessFailures restart an instance whose manager does not answer, and a primary that can reach
	// neither the API server nor another instance, after 20 s: longer than a restart of the API server should take.
	livenessPeriod   = 5
	livenessFailures = 4
	probeTimeout     = 4
)

// parameters are Postgres' settings.
//
// The volume's default size is 1 GiB: the write-ahead log must not fill it while a standby is away. Connections: SPIRE
// servers keep at most 20 each (components/spire/config), so five servers leave the rest to the instance manager.
var parameters = map[string]string{
	"max_connections": "120",
	"shared_buffers":  "128MB",

	"checkpoint_completion_target": "0",
	"wal_level":                    "replica",
	"min_wal_size":                 "80MB",
	"max_wal_size":                 "256MB",
	"wal_keep_size":                "128MB",
	"max_slot_wal_keep_size":       "256MB",

	// Dead peers are noticed within five seconds: by both ends of replication, and by the server of its clients.
	"wal_sender_timeout":      "5s",
	"wal_receiver_timeout":    "5s",
	"tcp_user_timeout":        "5000",
	"tcp_keepalives_idle":     "5",
	"tcp_keepalives_interval": "2",
	"tcp_keepalives_count":    "3",

	"ssl_min_protocol_version": "TLSv1.3",
}

// Args are the arguments of New. What decides about text and existence is plain Go.
type Args struct {
	// Name is the cluster's metadata.name and the prefix of everything the operator makes for it. At most 50 characters.
	// Default "spire-db".
	Name string
	// Namespace is where it runs; pod security "restricted" is enough. Required. The operator must watch it.
	Namespace string
	// Database is the name of the database and of the role that owns it and logs in. Default "spire".
	Database string
	// ImageName is the Postgres image. Its tag must begin with the major version. Required.
	ImageName pulumi.StringInput
	// Instances is the number of instances: one primary, the others standbys, each on a node of its own. Default 3.
	Instances int
	// Durability says what a commit does when no standby can confirm it. Default Required; without effect on one instance.
	Durability Durability
	// StorageClass is the class of the volumes. Nil takes the cluster's default.
	StorageClass pulumi.StringPtrInput
	// StorageSize is the size of each volume, at least 1Gi. Default "1Gi".
	StorageSize string
	// Parameters are Postgres settings that replace or add to this package's own.
	Parameters map[string]string
	// WALArchiving keeps Postgres' archiver on. It is off by default, because without a backup destination every archived
	// segment goes nowhere, at the price of a process each. Turning it on restarts the instances one by one.
	WALArchiving bool
	// PriorityClassName is the priority class of the instances. Nil means none.
	PriorityClassName pulumi.StringPtrInput
	// Resources of each instance. Default 100m, 384Mi, limit 512Mi: 128 MiB of shared buffers, 120 connections and the
	// instance manager.
	Resources manifest.Resources
	// Await says when Pulumi takes the cluster as done. Default Primary.
	Await Await
}

// Cluster is a Postgres cluster with one database.
type Cluster struct {
	pulumi.ResourceState

	// Host is the DNS name for writing connections; the server's certificate holds it, so verify-full works. It is known once
	// the primary accepts connections.
	Host pulumi.StringOutput `pulumi:"host"`
	// Port is Postgres' port.
	Port pulumi.IntOutput `pulumi:"port"`
	// Database and User are the names of the database and of the role that logs in.
	Database pulumi.StringOutput `pulumi:"database"`
	User     pulumi.StringOutput `pulumi:"user"`
	// CASecret is the Secret with the certificate of the database's CA under the key "ca.crt". It also holds the CA's private
	// key: mount that one key only.
	CASecret pulumi.StringOutput `pulumi:"caSecret"`
	// ClientSecret is the Secret with the client's certificate, "tls.crt", and private key, "tls.key". The operator renews
	// them 7 of 90 days before they end; a client that reads the files at each new connection needs no restart.
	ClientSecret pulumi.StringOutput `pulumi:"clientSecret"`
	// PodLabels select the instances' pods, for network policies: clients reach them on port 5432, the operator and other
	// instances on 5432 and 8000, a metrics collector on 9187.
	PodLabels pulumi.StringMapOutput `pulumi:"podLabels"`
}

// Ports of the instances' pods.
func Ports() (postgres, status, metrics int) { return port, statusPort, metricsPort }

func (a Args) withDefaults() Args {
	a.Name = cmp.Or(a.Name, defaultName)
	a.Database = cmp.Or(a.Database, defaultDatabase)
	a.Instances = cmp.Or(a.Instances, defaultInstances)
	a.Durability = cmp.Or(a.Durability, Required)
	a.StorageSize = cmp.Or(a.StorageSize, defaultStorageSize)
	a.Await = cmp.Or(a.Await, Primary)
	a.Resources = a.Resources.WithDefaults(manifest.Resources{CPU: "100m", Memory: "384Mi", MemoryLimit: "512Mi"})
	return a
}

var (
	// namePattern leaves room for what CloudNativePG appends, up to the 63 characters of a label (its webhook: at most 50).
	namePattern = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$`)
	// databasePattern needs no quoting, neither in SQL nor in pg_hba.
	databasePattern  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	sizePattern      = regexp.MustCompile(`^[1-9][0-9]*(Gi|Ti)$`)
	parameterPattern = regexp.MustCompile(`^[a-z_][a-z0-9_.]*$`)
)

// reserved are names of databases and roles that Postgres and CloudNativePG use themselves.
var reserved = regexp.MustCompile(`^(postgres|template[01]|streaming_replica|all|replication|sameuser|samerole|pg_.*|cnpg_.*)$`)

func (a Args) validate() error {
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, fmt.Sprint(value), allowed))
	}
	if !namePattern.MatchString(a.Name) {
		fail("name", a.Name, "lower-case letters, digits and dashes, beginning with a letter, at most 50")
	}
	if a.Namespace == "" {
		fail("namespace", "", "set")
	}
	if !databasePattern.MatchString(a.Database) || reserved.MatchString(a.Database) {
		fail("database", a.Database, "lower-case letters, digits and underscores, beginning with a letter, at most 63, and no reserved name")
	}
	if a.ImageName == nil {
		fail("imageName", "", "set")
	}
	if a.Instances < 1 || a.Instances > 7 {
		fail("instances", a.Instances, "from 1 to 7")
	}
	if a.Durability != Required && a.Durability != Preferred {
		fail("durability", a.Durability, "required or preferred")
	}
	if a.Await != Primary && a.Await != Whole {
		fail("await", a.Await, "primary or whole")
	}
	if !sizePattern.MatchString(a.StorageSize) {
		fail("storageSize", a.StorageSize, "a whole number of Gi or Ti, such as 1Gi")
	}
	for key := range a.Parameters {
		if !parameterPattern.MatchString(key) {
			fail("parameters", key, "the name of a Postgres setting")
		}
	}
	return errors.Join(errs...)
}

// New deploys a cluster. Its options should depend on the operator: webhooks check what is created, and the operator ends
// what is deleted.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Cluster, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.withDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("postgres %s: %w", name, err)
	}

	self := &Cluster{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "namespace": pulumi.String(a.Namespace), "database": pulumi.String(a.Database),
		"imageName": a.ImageName, "instances": pulumi.Int(a.Instances), "durability": pulumi.String(a.Durability),
		"storageSize": pulumi.String(a.StorageSize), "walArchiving": pulumi.Bool(a.WALArchiving),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:postgres:Cluster", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("postgres %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{
			"host": self.Host, "port": self.Port, "database": self.Database, "user": self.User,
			"caSecret": self.CASecret, "clientSecret": self.ClientSecret, "podLabels": self.PodLabels,
		}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("postgres %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (c *Cluster) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(c, opts)
	if err != nil {
		return err
	}
	noPassword, err := corev1.NewSecret(ctx, name+"-no-password", &corev1.SecretArgs{
		Metadata: a.metadata(a.noPasswordName(), pulumi.StringMap{"cnpg.io/passwordPassthrough": pulumi.String("enabled")}),
		Type:     pulumi.String("kubernetes.io/basic-auth"),
		StringData: pulumi.StringMap{
			"username": pulumi.String(a.Database), "password": pulumi.String(""),
		},
	}, inherited...)
	if err != nil {
		return fmt.Errorf("secret %s: %w", a.noPasswordName(), err)
	}

	cluster, err := apiextensions.NewCustomResource(ctx, name+"-cluster", &apiextensions.CustomResourceArgs{
		ApiVersion: pulumi.String(apiVersion), Kind: pulumi.String("Cluster"),
		Metadata:    a.metadata(a.Name, a.clusterAnnotations()),
		OtherFields: map[string]any{"spec": a.spec()},
	}, append(inherited, pulumi.DependsOn([]pulumi.Resource{noPassword}))...)
	if err != nil {
		return fmt.Errorf("cluster %s: %w", a.Name, err)
	}

	role, err := apiextensions.NewCustomResource(ctx, name+"-role", &apiextensions.CustomResourceArgs{
		ApiVersion: pulumi.String(apiVersion), Kind: pulumi.String("DatabaseRole"),
		Metadata:    a.metadata(a.roleName(), awaitAll("jsonpath={.status.applied}=true", "jsonpath={.status.clientCertificate.expiration}")),
		OtherFields: map[string]any{"spec": a.roleSpec()},
	}, append(inherited, pulumi.DependsOn([]pulumi.Resource{cluster}))...)
	if err != nil {
		return fmt.Errorf("role %s: %w", a.roleName(), err)
	}

	// Everything is named by the arguments, but should be known only when it is there.
	ready := func(value string) pulumi.StringOutput {
		return role.Metadata.Name().ApplyT(func(*string) string { return value }).(pulumi.StringOutput)
	}
	c.Host = ready(fmt.Sprintf("%s-rw.%s.svc", a.Name, a.Namespace))
	c.Port = pulumi.Int(port).ToIntOutput()
	c.Database = ready(a.Database)
	c.User = ready(a.Database)
	c.CASecret = ready(a.Name + "-ca")
	c.ClientSecret = ready(a.roleName() + "-client-cert")
	c.PodLabels = a.podLabels().ToStringMapOutput()
	return nil
}

// noPasswordName is the Secret with which the operator finds that the owner has no password; see the package comment.
func (a Args) noPasswordName() string { return a.Name + "-no-password" }

// roleName is the DatabaseRole's metadata.name, from which the operator derives the name of the certificate's Secret.
func (a Args) roleName() string { return a.Name }

func (a Args) podLabels() pulumi.StringMap {
	return pulumi.StringMap{"cnpg.io/cluster": pulumi.String(a.Name), "cnpg.io/podRole": pulumi.String("instance")}
}

func (a Args) metadata(name string, annotations pulumi.StringMap) *metav1.ObjectMetaArgs {
	return &metav1.ObjectMetaArgs{
		Name: pulumi.String(name), Namespace: pulumi.String(a.Namespace), Annotations: annotations,
		Labels: manifest.Identity{Name: "postgresql", Instance: a.Name, Component: "database"}.Labels(),
	}
}

func (a Args) clusterAnnotations() pulumi.StringMap {
	annotations := pulumi.StringMap{}
	if !a.WALArchiving {
		annotations["cnpg.io/skipWalArchiving"] = pulumi.String("enabled")
	}
	// The instance manager looks at a role that it finds before it is the primary again only after 30 s
	// (internal/management/controller, databaseRoleReconciliationInterval): the role is made once there is a ready primary.
	conditions := []string{"jsonpath={.status.currentPrimary}", "jsonpath={.status.readyInstances}"}
	if a.Await == Whole {
		conditions = append(conditions, "condition=Ready")
	}
	maps.Copy(annotations, awaitAll(conditions...))
	return annotations
}

// awaitAll is the annotation that makes Pulumi wait for conditions of an object's status. Each must go on holding once it
// holds: an update waits again.
func awaitAll(conditions ...string) pulumi.StringMap {
	text, _ := json.Marshal(conditions) // a slice of strings always has a form in JSON
	return pulumi.StringMap{"pulumi.com/waitFor": pulumi.String(text)}
}

func (a Args) roleSpec() pulumi.Map {
	return pulumi.Map{
		"cluster": pulumi.Map{"name": pulumi.String(a.Name)},
		"name":    pulumi.String(a.Database),
		"comment": pulumi.String("owner of the database; logs in by certificate only"),
		"login":   pulumi.Bool(true), "disablePassword": pulumi.Bool(true),
		// superuser, createdb, createrole, replication and bypassrls are false unless said. Said, they would go when the operator
		// writes the object back without empty fields, and the next update would find a change.
		"clientCertificate": pulumi.Map{"enabled": pulumi.Bool(true)},
		// The role owns the database: it goes with the cluster.
		"databaseRoleReclaimPolicy": pulumi.String("retain"),
	}
}

// hba are the rules that come before CloudNativePG's default, which would let everybody in with a password.
func (a Args) hba() []string {
	return []string{
		fmt.Sprintf("hostssl %s %s all cert", a.Database, a.Database),
		"host all all all reject",
	}
}

func (a Args) spec() pulumi.Map {
	settings := maps.Clone(parameters)
	maps.Copy(settings, a.Parameters)
	postgresql := pulumi.Map{
		"parameters": pulumi.ToStringMap(settings),
		"pg_hba":     pulumi.ToStringArray(a.hba()),
	}
	if a.Instances > 1 {
		postgresql["synchronous"] = pulumi.Map{
			"method": pulumi.String("any"), "number": pulumi.Int(1),
			"dataDurability": pulumi.String(a.Durability), "failoverQuorum": pulumi.Bool(true),
		}
	}
	storage := pulumi.Map{"size": pulumi.String(a.StorageSize)}
	if a.StorageClass != nil {
		storage["storageClass"] = a.StorageClass
	}

	spec := pulumi.Map{
		"instances":       pulumi.Int(a.Instances),
		"imageName":       a.ImageName,
		"imagePullPolicy": pulumi.String("IfNotPresent"),
		"bootstrap": pulumi.Map{"initdb": pulumi.Map{
			"database": pulumi.String(a.Database), "owner": pulumi.String(a.Database),
			"secret":        pulumi.Map{"name": pulumi.String(a.noPasswordName())},
			"dataChecksums": pulumi.Bool(true),
			"encoding":      pulumi.String("UTF8"), "localeCollate": pulumi.String("C"), "localeCType": pulumi.String("C"),
		}},
		"enableSuperuserAccess": pulumi.Bool(false),
		"postgresql":            postgresql,
		"storage":               storage,

		"primaryLease": pulumi.Map{
			"leaseDurationSeconds": pulumi.Int(leaseDuration), "renewDeadlineSeconds": pulumi.Int(leaseRenew),
			"retryPeriodSeconds": pulumi.Int(leaseRetry), "releasedLeaseDurationSeconds": pulumi.Int(1),
		},
		"stopDelay": pulumi.Int(stopDelay), "smartShutdownTimeout": pulumi.Int(smartShutdown),
		"switchoverDelay": pulumi.Int(switchoverDelay), "failoverDelay": pulumi.Int(failoverDelay),
		"startDelay": pulumi.Int(startupPeriod * startupFailures),
		"probes": pulumi.Map{
			"startup":   probe(startupPeriod, startupFailures),
			"readiness": probe(readinessPeriod, readinessFailures),
			"liveness":  probe(livenessPeriod, livenessFailures),
		},
		"primaryUpdateStrategy": pulumi.String("unsupervised"), "primaryUpdateMethod": pulumi.String("switchover"),
		"enablePDB": pulumi.Bool(true),

		"affinity": pulumi.Map{
			"enablePodAntiAffinity": pulumi.Bool(true), "podAntiAffinityType": pulumi.String("required"),
			"topologyKey": pulumi.String("kubernetes.io/hostname"),
		},
		"topologySpreadConstraints": pulumi.Array{pulumi.Map{
			"maxSkew": pulumi.Int(1), "topologyKey": pulumi.String("topology.kubernetes.io/zone"),
			// Required only over nodes: an instance that cannot be placed is worse than two in one zone.
			"whenUnsatisfiable": pulumi.String("ScheduleAnyway"),
			"labelSelector":     pulumi.Map{"matchLabels": a.podLabels()},
		}},
		"resources": pulumi.Map{
			"requests": pulumi.StringMap{"cpu": pulumi.String(a.Resources.CPU), "memory": pulumi.String(a.Resources.Memory)},
			"limits":   pulumi.StringMap{"memory": pulumi.String(a.Resources.MemoryLimit)},
		},
		// CloudNativePG's own contexts meet "restricted": no root, no capability, no writable root file system.
		"seccompProfile": pulumi.Map{"type": pulumi.String("RuntimeDefault")},

		"managed": pulumi.Map{"services": pulumi.Map{
			// Reading from a standby would show SPIRE a past that it has to believe (spire issue 7210).
			"disabledDefaultServices": pulumi.ToStringArray([]string{"ro", "r"}),
		}},
		// The operator is given no default queries; the instance's own figures (cnpg_collector_*) are there without.
		"monitoring": pulumi.Map{"disableDefaultQueries": pulumi.Bool(true)},
		"inheritedMetadata": pulumi.Map{"labels": pulumi.StringMap{
			"app.kubernetes.io/part-of": pulumi.String("ephemos"),
		}},
	}
	if a.PriorityClassName != nil {
		spec["priorityClassName"] = a.PriorityClassName
	}
	return spec
}

func probe(period, failures int) pulumi.Map {
	return pulumi.Map{
		"periodSeconds": pulumi.Int(period), "failureThreshold": pulumi.Int(failures), "timeoutSeconds": pulumi.Int(probeTimeout),
	}
}
