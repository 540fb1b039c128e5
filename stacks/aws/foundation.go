package aws

import (
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/audit"
	"ephemos.dev/deploy/components/backup"
	"ephemos.dev/deploy/components/baseline"
	"ephemos.dev/deploy/components/cluster"
	"ephemos.dev/deploy/components/detection/guardduty"
	"ephemos.dev/deploy/components/keys"
	"ephemos.dev/deploy/components/keys/pca"
	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/network/inspection"
	"ephemos.dev/deploy/components/network/vpc"
	"ephemos.dev/deploy/components/notification"
	"ephemos.dev/deploy/components/postgres/rds"
	"ephemos.dev/deploy/components/zones"
)

// nodeDiskGiB holds the images of a zone's pods several times over.
const nodeDiskGiB = 50

// minVaultDays is the least that the backup vaults' lock lets a backup live.
const minVaultDays = 7

// at are the options of a component in the stack's region.
func (d *deployment) at() []pulumi.ResourceOption {
	return []pulumi.ResourceOption{pulumi.Providers(d.home)}
}

// providers are explicit: nothing ends up in another account or region.
func (d *deployment) providers() (err error) {
	tags := pulumi.StringMap{
		"Project": pulumi.String("ephemos"), "ManagedBy": pulumi.String("pulumi"),
		"Environment": pulumi.String(d.config.Stack), "TrustDomain": pulumi.String(d.config.TrustDomain),
	}
	provider := func(name, region string) (*aws.Provider, error) {
		return aws.NewProvider(d.ctx, name, &aws.ProviderArgs{
			Region: pulumi.String(region), AllowedAccountIds: pulumi.StringArray{pulumi.String(d.config.AWS.AccountID)},
			DefaultTags: &aws.ProviderDefaultTagsArgs{Tags: tags},
		})
	}
	if d.home, err = provider("aws", d.config.AWS.Region); err != nil {
		return err
	}
	d.away, err = provider("aws-backup", d.config.AWS.BackupRegion)
	return err
}

// trust makes the keys and the private CAs.
func (d *deployment) trust() (err error) {
	c := d.config
	existing := map[keys.Class]string{}
	for class, arn := range c.AWS.KeyARNs {
		existing[keys.Class(class)] = arn
	}
	if d.keys, err = keys.New(d.ctx, "keys", &keys.Args{
		TrustDomain: c.TrustDomain, AccountID: c.AWS.AccountID, Region: c.AWS.Region, BackupRegion: c.AWS.BackupRegion, BackupProvider: d.away,
		Administrators: c.AWS.Administrators, PendingWindowDays: c.Profile.AWS.KeyDeletionDays, Existing: existing, Protect: c.Profile.Protect,
	}, d.at()...); err != nil {
		return err
	}
	d.authorities, err = pca.New(d.ctx, "ca", &pca.Args{
		TrustDomain: c.TrustDomain, BackupProvider: d.away, UsageMode: pca.UsageMode(c.Profile.AWS.CAUsage),
		DeletionDays: c.Profile.AWS.KeyDeletionDays, Protect: c.Profile.Protect,
	}, d.at()...)
	return err
}

// records makes who is told, and the archive of what happened.
func (d *deployment) records() (err error) {
	c := d.config
	if d.notifications, err = notification.New(d.ctx, "notification", &notification.Args{
		TrustDomain: c.TrustDomain, AccountID: c.AWS.AccountID, KeyARN: d.keys.ARN(keys.Notification), EventBridge: true,
		Security: mails(c.AWS.SecurityContacts), Executive: mails(c.AWS.ExecutiveContacts), Protect: c.Profile.Protect,
	}, d.at()...); err != nil {
		return err
	}
	trail := audit.TrailArgs{
		TrustDomain: c.TrustDomain, AccountID: c.AWS.AccountID, Region: c.AWS.Region, KeyARN: d.keys.ARN(keys.Audit), LogKeyARN: d.keys.ARN(keys.Logs),
		LogRetentionDays: c.Profile.AWS.LogRetentionDays, Protect: c.Profile.Protect,
	}.WithDefaults()
	if d.archive, err = audit.NewArchive(d.ctx, "audit", &audit.ArchiveArgs{
		TrustDomain: c.TrustDomain, AccountID: c.AWS.AccountID, Region: c.AWS.Region, BackupRegion: c.AWS.BackupRegion, BackupProvider: d.away,
		KeyARN: d.keys.ARN(keys.Audit), BackupKeyARN: d.keys.BackupARN(keys.Audit), Mode: audit.Mode(c.Profile.AWS.AuditMode),
		RetentionDays: c.Profile.AWS.AuditRetentionDays, TrailName: trail.Name, Administrators: c.AWS.Administrators,
		ForceDestroy: c.Profile.AWS.ForceDestroy, Protect: c.Profile.Protect,
	}, d.at()...); err != nil {
		return err
	}
	trail.BucketName, trail.BucketARN, trail.ReplicaARN = d.archive.BucketName, d.archive.BucketARN, d.archive.ReplicaARN
	_, err = audit.NewTrail(d.ctx, "trail", &trail, d.at()...)
	return err
}

func mails(addresses []string) (subscriptions []notification.Subscription) {
	for _, address := range addresses {
		subscriptions = append(subscriptions, notification.Subscription{Protocol: notification.Email, Endpoint: address})
	}
	return subscriptions
}

// keep makes the copies of the database.
func (d *deployment) keep() error {
	c, aurora := d.config, d.config.Profile.AWS.DatabaseEngine == "aurora"
	args := &backup.Args{
		TrustDomain: c.TrustDomain, Region: c.AWS.Region, BackupRegion: c.AWS.BackupRegion, BackupProvider: d.away,
		Source: backup.MultiAZCluster, Resources: pulumi.StringArray{d.database.ARN}, OffRegionCopy: aurora, KeyARN: d.keys.ARN(keys.Backup),
		RetentionDays: max(c.Profile.AWS.BackupRetentionDays, minVaultDays),
		// Where the weekly test restores to: beside the database, with its group.
		TestMetadata: pulumi.StringMap{
			"DBSubnetGroupName":   d.database.SubnetGroup,
			"VpcSecurityGroupIds": pulumi.Sprintf(`["%s"]`, d.network.GroupID(network.Group(zones.Database))),
		},
		Mode: backup.Governance, Protect: c.Profile.Protect,
	}
	if aurora {
		args.Source, args.BackupKeyARN = backup.Aurora, d.keys.BackupARN(keys.Backup)
	}
	if c.Profile.AWS.AuditMode == string(audit.Compliance) {
		args.Mode = backup.Compliance
	}
	_, err := backup.New(d.ctx, "backup", args, d.at()...)
	return err
}

// watch makes what looks for intruders, and, if asked, what an account has once.
func (d *deployment) watch() error {
	c := d.config
	detection := &guardduty.Args{TopicARN: d.notifications.SecurityARN, Protect: c.Profile.Protect}
	if c.AWS.DetectorID != "" {
		detection.DetectorID = pulumi.String(c.AWS.DetectorID)
	}
	args := &baseline.Args{AccountID: c.AWS.AccountID, Region: c.AWS.Region, GuardDuty: detection, Protect: c.Profile.Protect}
	if c.AWS.Baseline {
		args.SecurityHub = &baseline.SecurityHub{}
		args.Config = &baseline.Config{BucketName: d.archive.AccessLogBucket, BucketARN: d.archive.AccessLogARN, GlobalResources: true}
	}
	_, err := baseline.New(d.ctx, "baseline", args, d.at()...)
	return err
}

// connect makes the network and the firewall in it.
func (d *deployment) connect() (err error) {
	c := d.config
	if d.network, err = vpc.New(d.ctx, "network", &vpc.Args{
		Region: c.AWS.Region, AccountID: c.AWS.AccountID, Plan: d.plan, Model: d.model, ClusterName: d.name, PrivateZones: []string{d.privateZone()},
		// SPIRE finds its keys by their tags.
		Endpoints:     []string{"tagging"},
		FlowLogKeyARN: d.keys.ARN(keys.Logs), LogRetentionDays: c.Profile.AWS.LogRetentionDays, Protect: c.Profile.Protect,
	}, d.at()...); err != nil {
		return err
	}
	_, err = inspection.New(d.ctx, "inspection", &inspection.Args{
		VPC: d.network, Plan: d.plan, Model: d.model,
		LogKeyARN: d.keys.ARN(keys.Logs), LogRetentionDays: c.Profile.AWS.LogRetentionDays, Protect: c.Profile.Protect,
	}, d.at()...)
	return err
}

// privateZone is the domain of names that only the network itself resolves.
func (d *deployment) privateZone() string { return d.config.Stack + ".internal" }

// run makes the cluster and the database.
func (d *deployment) run() (err error) {
	c, size := d.config, d.config.Profile.AWS
	var groups []cluster.NodeGroup
	for _, zone := range []zones.Zone{zones.DMZ, zones.Application, zones.Data, zones.Management, zones.Platform} {
		groups = append(groups, cluster.NodeGroup{
			Zone: zone, SubnetIDs: d.network.SubnetIDs(network.TierOf(zone)), InstanceTypes: []string{size.NodeInstanceType},
			Min: size.NodesPerZone, Desired: size.NodesPerZone, Max: 2 * size.NodesPerZone, DiskGiB: nodeDiskGiB,
		})
	}
	if d.cluster, err = cluster.New(d.ctx, "cluster", &cluster.Args{
		Name: d.name, Version: c.AWS.KubernetesVersion, Region: c.AWS.Region, AccountID: c.AWS.AccountID, ServiceCIDR: c.AWS.Services.String(),
		SubnetIDs:           d.network.SubnetIDs(network.TierOf(zones.Platform)),
		ControlPlaneGroupID: d.network.GroupID(network.GroupControlPlane), NodeGroupID: d.network.GroupID(network.GroupNodes),
		SecretsKeyARN: d.keys.ARN(keys.Secrets), DiskKeyARN: d.keys.ARN(keys.Disk), LogKeyARN: d.keys.ARN(keys.Logs),
		PublicAccessCIDRs: c.AWS.PublicAccessCIDRs, Administrators: c.AWS.Administrators, NodeGroups: groups,
		LogRetentionDays: size.LogRetentionDays, Protect: c.Profile.Protect,
		Tags: map[string]string{"Environment": c.Stack, "TrustDomain": c.TrustDomain},
	}, d.at()...); err != nil {
		return err
	}
	engine := map[string]rds.Engine{"multi-az": rds.MultiAZ, "aurora": rds.Aurora}[size.DatabaseEngine]
	args := &rds.Args{
		Name: d.name + "-spire", DatabaseName: databaseName, SubnetIDs: d.network.SubnetIDs(network.TierOf(zones.Data)), SecurityGroupID: d.network.GroupID(network.Group(zones.Database)),
		KeyARN: d.keys.ARN(keys.Database), SecretKeyARN: d.keys.ARN(keys.MasterSecret), LogKeyARN: d.keys.ARN(keys.Logs),
		Engine: engine, InstanceClass: size.DatabaseInstanceClass, BackupRetentionDays: size.BackupRetentionDays,
		LogRetentionDays: size.LogRetentionDays, SkipFinalSnapshot: size.ForceDestroy, Protect: c.Profile.Protect, AccountID: c.AWS.AccountID,
		EventTopicARN: d.notifications.SecurityARN,
	}
	switch engine {
	case rds.MultiAZ:
		args.AllocatedStorageGiB, args.IOPS = size.DatabaseStorageGiB, size.DatabaseIOPS
	case rds.Aurora:
		args.AvailabilityZones = c.AWS.AvailabilityZones[:3]
	}
	d.database, err = rds.New(d.ctx, "database", args, d.at()...)
	return err
}
