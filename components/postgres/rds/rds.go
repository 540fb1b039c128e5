// Package rds is the replicated PostgreSQL on AWS: one writer and two readable standbys in three availability zones.
//
// In: the data zone's subnets and security group, keys of components/keys. Out: the writer's and the readers' endpoints, what IAM
// calls the cluster, and the secret of the master user, whose password RDS makes, keeps and rotates: it is in no state.
//
// # Two engines
//
// MultiAZ is RDS for PostgreSQL as a Multi-AZ DB cluster: a transaction is committed when one standby has it too. Its snapshots
// cannot be copied, and it has no automated backups in another region ("Limitations of Multi-AZ DB clusters"). Aurora has both, for
// whom backups off the region are required. Both accept IAM tokens instead of passwords; Multi-AZ DB clusters do since October 2024.
//
// # Who gets in
//
// Only TLS, and only from what the security group allows. The parameter group makes the server refuse anything else (rds.force_ssl)
// and record connections, changes of the schema and of roles (pgaudit). The program's provider cannot say "not public" for a Multi-AZ
// DB cluster (hashicorp/terraform-provider-aws#43107, open); RDS takes it as private, because a subnet group is named. Whatever RDS
// takes it for, the data subnets have no route to the internet and the group allows nobody there.
package rds

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	awsrds "github.com/pulumi/pulumi-aws/sdk/v6/go/aws/rds"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
	argument "ephemos.dev/deploy/components/internal/check"
	"ephemos.dev/deploy/components/manifest"
)

// Engine says what keeps the replicas.
type Engine string

const (
	// MultiAZ is a Multi-AZ DB cluster of RDS for PostgreSQL.
	MultiAZ Engine = "multi-az"
	// Aurora is Aurora PostgreSQL with three instances.
	Aurora Engine = "aurora"
)

// Certificate authorities of the server's certificate. All are in the bundle that AWS publishes for clients.
const (
	CARSA2048 = "rds-ca-rsa2048-g1"
	CARSA4096 = "rds-ca-rsa4096-g1"
	CAECC384  = "rds-ca-ecc384-g1"
)

// Port is where the database listens. That of a Multi-AZ DB cluster cannot be changed.
const Port = 5432

// Args are the arguments of New.
type Args struct {
	// Name is the identifier of the cluster, 1 to 50 small letters, digits and single dashes. Required.
	Name string
	// SubnetIDs are the data zone's subnets, one in each of three availability zones. Required.
	SubnetIDs pulumi.StringArrayInput
	// SecurityGroupID is the group that says who may connect. Required.
	SecurityGroupID pulumi.StringInput
	// KeyARN encrypts data, snapshots and insights, SecretKeyARN the master user's secret, LogKeyARN the logs. Required. The first
	// cannot be replaced without a new cluster.
	KeyARN, SecretKeyARN, LogKeyARN pulumi.StringInput
	// Engine is MultiAZ or Aurora. Default MultiAZ. A change is a new, empty cluster.
	Engine Engine
	// EngineVersion is the version of PostgreSQL. Default "17": the major version, because RDS installs minor ones by itself, and a
	// version with a minor one would soon be older than what runs.
	EngineVersion string
	// InstanceClass is what each of the three instances is. For MultiAZ one with a local disk. Default db.m6gd.large for MultiAZ,
	// db.r6g.large for Aurora.
	InstanceClass string
	// AllocatedStorageGiB is the size of each instance's volume, 100 to 65536, and IOPS what it does, at least 1000 and .5 to 50
	// times the size. Only for MultiAZ, whose volumes do not grow by themselves. Default 100 and 1000.
	AllocatedStorageGiB, IOPS int
	// StorageType is "io2" or "io1". Only for MultiAZ. Default io2.
	StorageType string
	// BackupRetentionDays is for how long any second can be restored, 1 to 35. Required.
	BackupRetentionDays int
	// LogRetentionDays is how long logs are kept, one of the values that CloudWatch Logs has. Required.
	LogRetentionDays int
	// SkipFinalSnapshot leaves nothing behind when the cluster is deleted. Not together with Protect.
	SkipFinalSnapshot bool
	// Protect keeps Pulumi, and AWS for whoever asks, from deleting the cluster.
	Protect bool
	// DatabaseName is the database made with the cluster. Required.
	DatabaseName string

	// MasterUsername is the user that RDS makes. It sets up the database and is no one's afterwards. Default "dbadmin".
	MasterUsername string
	// AvailabilityZones are the three zones of SubnetIDs, by name, into which Aurora's instances are put. Required for Aurora.
	AvailabilityZones []string
	// BackupWindow is when the daily snapshot is taken, in UTC. Default "01:00-02:00".
	BackupWindow string
	// MaintenanceWindow is when RDS changes something, in UTC. It must not overlap BackupWindow. Default "sun:03:00-sun:04:00".
	MaintenanceWindow string
	// MonitoringSeconds is how often the operating system is measured: 1, 5, 10, 15, 30 or 60. Default 60.
	MonitoringSeconds int
	// InsightsDays is how long Performance Insights are kept: 7, or 465, which turns Database Insights' advanced mode on. Default 7.
	InsightsDays int
	// CertificateAuthority issues the servers' certificates. Default CARSA2048.
	CertificateAuthority string
	// EventTopicARN is the SNS topic that learns of failovers, failures and deletions. Default: nobody does.
	EventTopicARN pulumi.StringInput
	// AccountID narrows who may make RDS take the role that writes measurements. Default: any account.
	AccountID string
}

// Database is the cluster.
type Database struct {
	pulumi.ResourceState

	// Endpoint is the host name of the writer, ReaderEndpoint that of the standbys.
	Endpoint       pulumi.StringOutput `pulumi:"endpoint"`
	ReaderEndpoint pulumi.StringOutput `pulumi:"readerEndpoint"`
	// SubnetGroup is the name of the cluster's subnet group, for what restores its backups.
	SubnetGroup pulumi.StringOutput `pulumi:"subnetGroup"`
	Port        pulumi.IntOutput    `pulumi:"port"`
	// ClusterResourceID is what rds-db:connect names: arn:aws:rds-db:<region>:<account>:dbuser:<ClusterResourceID>/<user>.
	ClusterResourceID pulumi.StringOutput `pulumi:"clusterResourceID"`
	// MasterSecretARN is the secret with the master user's name and password, as JSON.
	MasterSecretARN pulumi.StringOutput `pulumi:"masterSecretARN"`
	ARN             pulumi.StringOutput `pulumi:"arn"`
}

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a Args) WithDefaults() Args {
	a.Engine = cmp.Or(a.Engine, MultiAZ)
	a.EngineVersion = cmp.Or(a.EngineVersion, "17")
	a.MasterUsername = cmp.Or(a.MasterUsername, "dbadmin")
	a.BackupWindow = cmp.Or(a.BackupWindow, "01:00-02:00")
	a.MaintenanceWindow = cmp.Or(a.MaintenanceWindow, "sun:03:00-sun:04:00")
	a.MonitoringSeconds = cmp.Or(a.MonitoringSeconds, 60)
	a.InsightsDays = cmp.Or(a.InsightsDays, 7)
	a.CertificateAuthority = cmp.Or(a.CertificateAuthority, CARSA2048)
	if a.Engine == Aurora {
		a.InstanceClass = cmp.Or(a.InstanceClass, "db.r6g.large")
		return a
	}
	a.InstanceClass = cmp.Or(a.InstanceClass, "db.m6gd.large")
	a.StorageType = cmp.Or(a.StorageType, "io2")
	a.AllocatedStorageGiB = cmp.Or(a.AllocatedStorageGiB, 100)
	a.IOPS = cmp.Or(a.IOPS, 1000)
	return a
}

var (
	namePattern     = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	versionPattern  = regexp.MustCompile(`^1[5-8](\.[0-9]{1,2})?$`)
	classPattern    = regexp.MustCompile(`^db\.[a-z0-9-]+\.[a-z0-9]+$`)
	databasePattern = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]{0,62}$`)
	userPattern     = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	azPattern       = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$`)
	// Instances of a Multi-AZ DB cluster have a local disk, which the letter d says: db.m6gd, db.r6id, db.x2iedn.
	localDisk = regexp.MustCompile(`^db\.[a-z]+[0-9]+[a-z]*d[a-z]*\.`)
)

// reservedUsers cannot be master users of RDS for PostgreSQL.
var reservedUsers = []string{"admin", "postgres", "rdsadmin", "rdsrepladmin", "rdstopmgr", "rds_superuser", "rds_iam", "rds_replication", "user", "public"}

func (a Args) validate() error {
	var errs []error
	check := func(ok bool, field string, value any, allowed string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %#v is not allowed: it must be %s", field, value, allowed))
		}
	}
	check(namePattern.MatchString(a.Name) && len(a.Name) <= 50, "name", a.Name, "1 to 50 small letters, digits and single dashes, a letter first")
	if list, ok := a.SubnetIDs.(pulumi.StringArray); a.SubnetIDs == nil || ok && len(list) < 3 {
		errs = append(errs, fmt.Errorf("subnetIDs: %d subnets are not allowed: there must be 3, one in each availability zone", len(list)))
	}
	for _, f := range []struct {
		field string
		value pulumi.StringInput
	}{{"securityGroupID", a.SecurityGroupID}, {"keyARN", a.KeyARN}, {"secretKeyARN", a.SecretKeyARN}, {"logKeyARN", a.LogKeyARN}} {
		errs = append(errs, argument.Set(f.field, f.value))
	}
	check(a.Engine == MultiAZ || a.Engine == Aurora, "engine", string(a.Engine), "multi-az or aurora")
	check(versionPattern.MatchString(a.EngineVersion), "engineVersion", a.EngineVersion, "a version of PostgreSQL from 15 on, such as 17 or 17.6")
	check(a.BackupRetentionDays >= 1 && a.BackupRetentionDays <= 35, "backupRetentionDays", a.BackupRetentionDays, "1 to 35")
	errs = append(errs, argument.LogRetention("logRetentionDays", a.LogRetentionDays))
	check(!a.Protect || !a.SkipFinalSnapshot, "skipFinalSnapshot", a.SkipFinalSnapshot, "false when protect is true")
	check(databasePattern.MatchString(a.DatabaseName) && a.DatabaseName != "postgres" && !strings.HasPrefix(a.DatabaseName, "rds"),
		"databaseName", a.DatabaseName, "letters, digits and underscores, neither postgres nor beginning with rds")
	check(userPattern.MatchString(a.MasterUsername) && !slices.Contains(reservedUsers, a.MasterUsername) && !strings.HasPrefix(a.MasterUsername, "pg_"),
		"masterUsername", a.MasterUsername, "small letters, digits and underscores, and no name that RDS or PostgreSQL reserves")
	check(slices.Contains([]int{1, 5, 10, 15, 30, 60}, a.MonitoringSeconds), "monitoringSeconds", a.MonitoringSeconds, "1, 5, 10, 15, 30 or 60")
	check(a.InsightsDays == 7 || a.InsightsDays == 465, "insightsDays", a.InsightsDays, "7 or 465")
	check(slices.Contains([]string{CARSA2048, CARSA4096, CAECC384}, a.CertificateAuthority), "certificateAuthority", a.CertificateAuthority,
		fmt.Sprintf("one of %v", []string{CARSA2048, CARSA4096, CAECC384}))
	if a.AccountID != "" {
		errs = append(errs, argument.Account("accountID", a.AccountID))
	}
	a.validateEngine(check)
	return errors.Join(errors.Join(errs...), validateWindows(a.BackupWindow, a.MaintenanceWindow))
}

// validateEngine checks what the two engines do not have in common.
func (a Args) validateEngine(check func(ok bool, field string, value any, allowed string)) {
	check(classPattern.MatchString(a.InstanceClass), "instanceClass", a.InstanceClass, "a class such as db.m6gd.large")
	if a.Engine == Aurora {
		check(a.AllocatedStorageGiB == 0, "allocatedStorageGiB", a.AllocatedStorageGiB, "0 for aurora, whose storage grows by itself")
		check(a.IOPS == 0, "iops", a.IOPS, "0 for aurora")
		check(a.StorageType == "", "storageType", a.StorageType, "empty for aurora")
		distinct := slices.Compact(slices.Sorted(slices.Values(a.AvailabilityZones)))
		check(len(distinct) == 3 && len(a.AvailabilityZones) == 3, "availabilityZones", a.AvailabilityZones, "three different ones for aurora")
		for _, az := range a.AvailabilityZones {
			check(azPattern.MatchString(az), "availabilityZones", az, "an availability zone such as eu-central-1a")
		}
		return
	}
	check(localDisk.MatchString(a.InstanceClass), "instanceClass", a.InstanceClass,
		"a class with a local disk, such as db.m6gd.large: a Multi-AZ DB cluster takes no other")
	check(a.StorageType == "io2" || a.StorageType == "io1", "storageType", a.StorageType, "io2 or io1")
	check(a.AllocatedStorageGiB >= 100 && a.AllocatedStorageGiB <= 65536, "allocatedStorageGiB", a.AllocatedStorageGiB, "100 to 65536")
	check(a.IOPS >= 1000 && a.IOPS <= 256000 && 2*a.IOPS >= a.AllocatedStorageGiB && a.IOPS <= 50*a.AllocatedStorageGiB,
		"iops", a.IOPS, fmt.Sprintf("1000 to 256000, and .5 to 50 for each of %d GiB", a.AllocatedStorageGiB))
}

// New makes the database.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Database, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("database %s: %w", name, err)
	}
	self := &Database{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "engine": pulumi.String(string(a.Engine)), "engineVersion": pulumi.String(a.EngineVersion),
		"instanceClass": pulumi.String(a.InstanceClass), "backupRetentionDays": pulumi.Int(a.BackupRetentionDays),
		"logRetentionDays": pulumi.Int(a.LogRetentionDays), "protect": pulumi.Bool(a.Protect), "databaseName": pulumi.String(a.DatabaseName),
		"subnetIDs": a.SubnetIDs, "skipFinalSnapshot": pulumi.Bool(a.SkipFinalSnapshot),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:rds:Database", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("database %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{
			"endpoint": self.Endpoint, "readerEndpoint": self.ReaderEndpoint, "subnetGroup": self.SubnetGroup, "port": self.Port,
			"clusterResourceID": self.ClusterResourceID, "masterSecretARN": self.MasterSecretARN, "arn": self.ARN,
		}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("database %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

// Logs are the logs that the engine exports.
func (e Engine) Logs() []string {
	if e == Aurora {
		return []string{"postgresql", "iam-db-auth-error"}
	}
	return []string{"postgresql", "upgrade", "iam-db-auth-error"}
}

// name is what RDS calls the engine, family the prefix of its parameter groups.
func (e Engine) name() (engine, family string) {
	if e == Aurora {
		return "aurora-postgresql", "aurora-postgresql"
	}
	return "postgres", "postgres"
}

func (d *Database) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(d, opts)
	if err != nil {
		return err
	}
	b := builder{ctx: ctx, name: name, args: a, inherited: inherited}
	logs, err := b.logGroups()
	if err != nil {
		return err
	}
	role, permission, err := b.monitoringRole()
	if err != nil {
		return err
	}
	cluster, err := b.cluster(role, append(logs, permission))
	if err != nil {
		return err
	}
	if a.Engine == Aurora {
		if err := b.instances(cluster, role); err != nil {
			return err
		}
	}
	if a.EventTopicARN != nil {
		if err := b.events(cluster); err != nil {
			return err
		}
	}
	d.SubnetGroup = cluster.DbSubnetGroupName
	d.Endpoint, d.ReaderEndpoint, d.Port = cluster.Endpoint, cluster.ReaderEndpoint, cluster.Port
	d.ClusterResourceID, d.ARN = cluster.ClusterResourceId, cluster.Arn
	d.MasterSecretARN = cluster.MasterUserSecrets.Index(pulumi.Int(0)).SecretArn().Elem()
	return nil
}

// A builder makes the children of one database.
type builder struct {
	ctx       *pulumi.Context
	name      string
	args      Args
	inherited []pulumi.ResourceOption
}

func (b builder) options(more ...pulumi.ResourceOption) []pulumi.ResourceOption {
	return slices.Concat(b.inherited, more)
}

func (b builder) tags() pulumi.StringMap {
	return pulumi.StringMap{"Name": pulumi.String(b.args.Name), "Zone": pulumi.String("data"), "DataClass": pulumi.String("database")}
}

// logGroups makes the groups that RDS would make itself, without a key and for ever.
func (b builder) logGroups() ([]pulumi.Resource, error) {
	var made []pulumi.Resource
	for _, log := range b.args.Engine.Logs() {
		group, err := cloudwatch.NewLogGroup(b.ctx, b.name+"-"+log, &cloudwatch.LogGroupArgs{
			Name: pulumi.Sprintf("/aws/rds/cluster/%s/%s", b.args.Name, log), RetentionInDays: pulumi.Int(b.args.LogRetentionDays),
			KmsKeyId: b.args.LogKeyARN.ToStringOutput().ToStringPtrOutput(),
			Tags:     pulumi.StringMap{"Name": pulumi.String(b.args.Name), "Zone": pulumi.String("data"), "DataClass": pulumi.String("logs")},
		}, b.options(pulumi.Protect(b.args.Protect))...)
		if err != nil {
			return nil, fmt.Errorf("log group of %s: %w", log, err)
		}
		made = append(made, group)
	}
	return made, nil
}

// monitoringRole lets RDS write what it measures of the operating system to CloudWatch Logs, and no more.
func (b builder) monitoringRole() (*iam.Role, pulumi.Resource, error) {
	condition := iampolicy.Condition{}
	if b.args.AccountID != "" {
		condition = iampolicy.Condition{"StringEquals": {"aws:SourceAccount": b.args.AccountID}}
	}
	role, err := iam.NewRole(b.ctx, b.name+"-monitoring-role", &iam.RoleArgs{
		Description: pulumi.String("Enhanced monitoring of the database " + b.args.Name),
		AssumeRolePolicy: iampolicy.Document(iampolicy.Statement{
			Sid: "Monitoring", Principal: iampolicy.Service("monitoring.rds.amazonaws.com"), Action: "sts:AssumeRole", Condition: condition,
		}),
	}, b.options()...)
	if err != nil {
		return nil, nil, fmt.Errorf("monitoring role: %w", err)
	}
	permission, err := iam.NewRolePolicyAttachment(b.ctx, b.name+"-monitoring-policy", &iam.RolePolicyAttachmentArgs{
		Role: role.Name, PolicyArn: pulumi.String("arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"),
	}, b.options()...)
	if err != nil {
		return nil, nil, fmt.Errorf("monitoring policy: %w", err)
	}
	return role, permission, nil
}

// parameters are what is set on the server, in the order of their names.
var parameters = []struct{ name, value, apply string }{
	{"log_connections", "1", "immediate"},
	{"log_disconnections", "1", "immediate"},
	{"log_statement", "ddl", "immediate"},
	// Changes of roles and rights, and of the schema. Not what is read or written: SPIRE's data is no secret, and its own audit log
	// says who asked for what.
	{"pgaudit.log", "ddl,role", "immediate"},
	{"rds.force_ssl", "1", "immediate"},
	{"shared_preload_libraries", "pg_stat_statements,pgaudit", "pending-reboot"},
}

func (b builder) cluster(role *iam.Role, depends []pulumi.Resource) (*awsrds.Cluster, error) {
	a := b.args
	subnets, err := awsrds.NewSubnetGroup(b.ctx, b.name+"-subnets", &awsrds.SubnetGroupArgs{
		Description: pulumi.String("Data zone, for the database " + a.Name), SubnetIds: a.SubnetIDs, Tags: b.tags(),
	}, b.options()...)
	if err != nil {
		return nil, fmt.Errorf("subnet group: %w", err)
	}
	engine, family := a.Engine.name()
	major, _, _ := strings.Cut(a.EngineVersion, ".")
	var settings awsrds.ClusterParameterGroupParameterArray
	for _, p := range parameters {
		settings = append(settings, &awsrds.ClusterParameterGroupParameterArgs{
			Name: pulumi.String(p.name), Value: pulumi.String(p.value), ApplyMethod: pulumi.String(p.apply),
		})
	}
	group, err := awsrds.NewClusterParameterGroup(b.ctx, b.name+"-parameters", &awsrds.ClusterParameterGroupArgs{
		Description: pulumi.String("Parameters of the database " + a.Name), Family: pulumi.String(family + major), Parameters: settings, Tags: b.tags(),
	}, b.options()...)
	if err != nil {
		return nil, fmt.Errorf("parameter group: %w", err)
	}
	args := &awsrds.ClusterArgs{
		ClusterIdentifier: pulumi.String(a.Name), Engine: pulumi.String(engine), EngineVersion: pulumi.String(a.EngineVersion),
		DatabaseName: pulumi.String(a.DatabaseName), Port: pulumi.Int(Port),
		DbSubnetGroupName: subnets.Name, VpcSecurityGroupIds: pulumi.StringArray{a.SecurityGroupID}, NetworkType: pulumi.String("IPV4"),
		DbClusterParameterGroupName: group.Name,

		IamDatabaseAuthenticationEnabled: pulumi.Bool(true),
		MasterUsername:                   pulumi.String(a.MasterUsername), ManageMasterUserPassword: pulumi.Bool(true),
		MasterUserSecretKmsKeyId: a.SecretKeyARN.ToStringOutput().ToStringPtrOutput(),

		StorageEncrypted: pulumi.Bool(true), KmsKeyId: a.KeyARN.ToStringOutput().ToStringPtrOutput(),

		BackupRetentionPeriod: pulumi.Int(a.BackupRetentionDays), CopyTagsToSnapshot: pulumi.Bool(true),
		PreferredBackupWindow: pulumi.String(a.BackupWindow), PreferredMaintenanceWindow: pulumi.String(a.MaintenanceWindow),
		DeletionProtection: pulumi.Bool(a.Protect), SkipFinalSnapshot: pulumi.Bool(a.SkipFinalSnapshot),

		EnabledCloudwatchLogsExports: pulumi.ToStringArray(a.Engine.Logs()),
		// After its end of life a major version is upgraded, not kept for a fee.
		EngineLifecycleSupport: pulumi.String("open-source-rds-extended-support-disabled"),
		Tags:                   b.tags(),
	}
	if !a.SkipFinalSnapshot {
		args.FinalSnapshotIdentifier = pulumi.String(a.Name + "-final")
	}
	if a.InsightsDays > 7 {
		args.DatabaseInsightsMode = pulumi.String("advanced")
	}
	args.PerformanceInsightsEnabled, args.PerformanceInsightsRetentionPeriod = pulumi.Bool(true), pulumi.Int(a.InsightsDays)
	args.PerformanceInsightsKmsKeyId = a.KeyARN.ToStringOutput().ToStringPtrOutput()
	if a.Engine == MultiAZ {
		args.DbClusterInstanceClass, args.StorageType = pulumi.String(a.InstanceClass), pulumi.String(a.StorageType)
		args.AllocatedStorage, args.Iops = pulumi.Int(a.AllocatedStorageGiB), pulumi.Int(a.IOPS)
		args.CaCertificateIdentifier = pulumi.String(a.CertificateAuthority)
		args.MonitoringInterval, args.MonitoringRoleArn = pulumi.Int(a.MonitoringSeconds), role.Arn
	} else if a.Protect {
		// What can be restored outlives the cluster.
		args.DeleteAutomatedBackups = pulumi.Bool(false)
	}
	cluster, err := awsrds.NewCluster(b.ctx, b.name+"-cluster", args, b.options(pulumi.DependsOn(depends), pulumi.Protect(a.Protect))...)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return cluster, nil
}

// instances puts Aurora's three instances into three zones. Which one writes, Aurora decides: all are equally fit to.
func (b builder) instances(cluster *awsrds.Cluster, role *iam.Role) error {
	a := b.args
	for i, az := range a.AvailabilityZones {
		if _, err := awsrds.NewClusterInstance(b.ctx, fmt.Sprintf("%s-instance-%d", b.name, i+1), &awsrds.ClusterInstanceArgs{
			Identifier: pulumi.Sprintf("%s-%d", a.Name, i+1), ClusterIdentifier: cluster.ClusterIdentifier, Engine: cluster.Engine,
			InstanceClass: pulumi.String(a.InstanceClass), AvailabilityZone: pulumi.String(az), DbSubnetGroupName: cluster.DbSubnetGroupName,
			PubliclyAccessible: pulumi.Bool(false), AutoMinorVersionUpgrade: pulumi.Bool(true), PromotionTier: pulumi.Int(0),
			CaCertIdentifier: pulumi.String(a.CertificateAuthority), CopyTagsToSnapshot: pulumi.Bool(true),
			PerformanceInsightsEnabled: pulumi.Bool(true), PerformanceInsightsRetentionPeriod: pulumi.Int(a.InsightsDays),
			PerformanceInsightsKmsKeyId: a.KeyARN.ToStringOutput().ToStringPtrOutput(),
			MonitoringInterval:          pulumi.Int(a.MonitoringSeconds), MonitoringRoleArn: role.Arn,
			PreferredMaintenanceWindow: pulumi.String(a.MaintenanceWindow), Tags: b.tags(),
		}, b.options(pulumi.Protect(a.Protect))...); err != nil {
			return fmt.Errorf("instance in %s: %w", az, err)
		}
	}
	return nil
}

func (b builder) events(cluster *awsrds.Cluster) error {
	if _, err := awsrds.NewEventSubscription(b.ctx, b.name+"-events", &awsrds.EventSubscriptionArgs{
		SnsTopic: b.args.EventTopicARN, SourceType: pulumi.String("db-cluster"), SourceIds: pulumi.StringArray{cluster.ClusterIdentifier},
		EventCategories: pulumi.ToStringArray([]string{"configuration change", "deletion", "failover", "failure", "maintenance", "notification"}),
		Tags:            b.tags(),
	}, b.options()...); err != nil {
		return fmt.Errorf("event subscription: %w", err)
	}
	return nil
}
