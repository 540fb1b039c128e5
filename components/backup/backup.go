// Package backup keeps backups of the database where neither its administrators nor an intruder can delete them, copies them to
// another region, and restores one every week to show that it can be.
//
// In: the database's ARN and what kind it is, keys, for how long. Out: a vault here and, where copies can be made, one in the backup
// region.
//
// # Which database can be copied
//
// AWS copies no snapshot of a Multi-AZ DB cluster, neither RDS nor AWS Backup does
// (docs.aws.amazon.com/aws-backup/latest/devguide/recov-point-create-a-copy.html). Aurora's are copied. So OffRegionCopy needs Aurora;
// with a Multi-AZ DB cluster backups stay in the region, and what has to survive that region is dumped by other means.
//
// # Locks
//
// A vault is locked from the start: no recovery point can be deleted before its time. In Compliance mode the lock itself cannot be
// removed either, by nobody, once CoolingOffDays have gone: then the vault outlives the stack until its last recovery point has
// expired.
package backup

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/backup"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/internal/check"
	"ephemos.dev/deploy/components/manifest"
)

// Source is the kind of database.
type Source string

// The kinds.
const (
	MultiAZCluster Source = "multi-az-cluster"
	Aurora         Source = "aurora"
)

// resourceType is what restore tests call it.
func (s Source) resourceType() string {
	if s == Aurora {
		return "Aurora"
	}
	return "RDS"
}

// Mode is how firmly a vault is locked.
type Mode string

const (
	// Compliance cannot be undone after the cooling-off.
	Compliance Mode = "compliance"
	// Governance can be undone by who may change the vault's lock.
	Governance Mode = "governance"
)

// Args are the arguments of New.
type Args struct {
	// TrustDomain is whose backups they are, at most 43 characters. It is part of the vault's name. Required.
	TrustDomain string
	// Region and BackupRegion are where the vaults are. They must differ. Required.
	Region, BackupRegion string
	// BackupProvider makes resources in BackupRegion. Required with OffRegionCopy.
	BackupProvider *aws.Provider
	// Source is the kind of database. Required.
	Source Source
	// Resources are the ARNs of the database clusters. Required.
	Resources pulumi.StringArrayInput
	// OffRegionCopy copies every backup to BackupRegion. Only for Aurora.
	OffRegionCopy bool
	// KeyARN encrypts the vault, BackupKeyARN the one in BackupRegion: keys of backups. Required, the second with OffRegionCopy.
	KeyARN, BackupKeyARN pulumi.StringInput
	// Schedule is when backups are made, as a cron expression of AWS in UTC. Default "cron(0 2 * * ? *)", every night.
	Schedule string
	// RetentionDays and CopyRetentionDays are for how long backups and copies are kept. Default 35, and as long as the backup.
	RetentionDays, CopyRetentionDays int
	// MinRetentionDays is what the lock insists on. Default 7.
	MinRetentionDays int
	// Mode is how firmly the vaults are locked. Required.
	Mode Mode
	// CoolingOffDays is after how many days a lock in Compliance mode is final, at least 3. Default 3.
	CoolingOffDays int
	// TestSchedule is when the latest backup is restored, and removed again. Default "cron(0 6 ? * SUN *)", every Sunday.
	TestSchedule string
	// TestMetadata says where it is restored to, such as a subnet group and security groups: keys and values of AWS' list for the source
	// (docs.aws.amazon.com/aws-backup/latest/devguide/restore-testing-inferred-metadata.html). Nil: AWS takes the account's default VPC,
	// and in an account without one no restore succeeds.
	TestMetadata pulumi.StringMapInput
	// Protect keeps Pulumi from deleting the vaults.
	Protect bool
}

// Backup is the backups.
type Backup struct {
	pulumi.ResourceState

	// VaultName and VaultARN are the vault.
	VaultName pulumi.StringOutput `pulumi:"vaultName"`
	VaultARN  pulumi.StringOutput `pulumi:"vaultArn"`
	// CopyVaultARN is the vault in the backup region, or empty.
	CopyVaultARN pulumi.StringOutput `pulumi:"copyVaultArn"`
}

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a Args) WithDefaults() Args {
	a.Schedule = cmp.Or(a.Schedule, "cron(0 2 * * ? *)")
	a.TestSchedule = cmp.Or(a.TestSchedule, "cron(0 6 ? * SUN *)")
	a.RetentionDays = cmp.Or(a.RetentionDays, 35)
	a.CopyRetentionDays = cmp.Or(a.CopyRetentionDays, a.RetentionDays)
	a.MinRetentionDays = cmp.Or(a.MinRetentionDays, 7)
	a.CoolingOffDays = cmp.Or(a.CoolingOffDays, 3)
	return a
}

// cronPattern is six fields, as AWS has them. What is in them is for AWS to judge.
var cronPattern = regexp.MustCompile(`^cron\([0-9*/,-]+ [0-9*/,-]+ [0-9*/,?LW-]+ [0-9A-Z*/,-]+ [0-9A-Z*/,?L#-]+ [0-9*/,-]+\)$`)

func (a Args) validate() error {
	const century = 36500
	errs := []error{
		check.TrustDomain("trustDomain", a.TrustDomain), check.Regions("region", a.Region, "backupRegion", a.BackupRegion),
		check.OneOf("source", a.Source, MultiAZCluster, Aurora), check.OneOf("mode", a.Mode, Compliance, Governance),
		check.Set("resources", a.Resources), check.Key("keyArn", a.KeyARN, a.Region), check.Between("minRetentionDays", a.MinRetentionDays, 1, century),
		check.Between("coolingOffDays", a.CoolingOffDays, 3, century),
	}
	if len(a.TrustDomain) > 43 {
		errs = append(errs, fmt.Errorf("trustDomain: %q is not allowed: it must be at most 43 characters, for a vault's name of 50", a.TrustDomain))
	}
	for field, days := range map[string]int{"retentionDays": a.RetentionDays, "copyRetentionDays": a.CopyRetentionDays} {
		if days < max(a.MinRetentionDays, 1) || days > century {
			errs = append(errs, fmt.Errorf(`%s: "%d" is not allowed: it must be between minRetentionDays, %d, and %d`, field, days, a.MinRetentionDays, century))
		}
	}
	for field, schedule := range map[string]string{"schedule": a.Schedule, "testSchedule": a.TestSchedule} {
		if !cronPattern.MatchString(schedule) {
			errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be a cron expression of AWS, such as cron(0 2 * * ? *)", field, schedule))
		}
	}
	if a.OffRegionCopy {
		if a.Source == MultiAZCluster {
			errs = append(errs, errors.New(`offRegionCopy: "true" is not allowed: AWS copies no snapshot of a Multi-AZ DB cluster; it must be false, or the database Aurora`))
		}
		errs = append(errs, check.Set("backupProvider", a.BackupProvider), check.Key("backupKeyArn", a.BackupKeyARN, a.BackupRegion))
	}
	return errors.Join(errs...)
}

// New makes the backups.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Backup, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("backup %s: %w", name, err)
	}
	self := &Backup{}
	props := pulumi.Map{
		"trustDomain": pulumi.String(a.TrustDomain), "source": pulumi.String(a.Source), "resources": a.Resources,
		"offRegionCopy": pulumi.Bool(a.OffRegionCopy), "retentionDays": pulumi.Int(a.RetentionDays), "mode": pulumi.String(a.Mode),
		"keyArn": a.KeyARN,
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:backup:Backup", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("backup %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"vaultName": self.VaultName, "vaultArn": self.VaultARN, "copyVaultArn": self.CopyVaultARN}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("backup %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func dashed(trustDomain string) string { return strings.ReplaceAll(trustDomain, ".", "-") }

func (v *Backup) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(v, opts)
	if err != nil {
		return err
	}
	vault, err := a.vault(ctx, name+"-vault", a.KeyARN, inherited)
	if err != nil {
		return err
	}
	v.VaultName, v.VaultARN, v.CopyVaultARN = vault.Name, vault.Arn, pulumi.String("").ToStringOutput()

	rule := backup.PlanRuleArgs{
		RuleName: pulumi.String("database"), TargetVaultName: vault.Name, Schedule: pulumi.String(a.Schedule),
		StartWindow: pulumi.Int(60), CompletionWindow: pulumi.Int(480),
		Lifecycle:         backup.PlanRuleLifecycleArgs{DeleteAfter: pulumi.Int(a.RetentionDays)},
		RecoveryPointTags: pulumi.StringMap{"TrustDomain": pulumi.String(a.TrustDomain), "DataClass": pulumi.String("backup")},
	}
	if a.OffRegionCopy {
		elsewhere := append(slices.Clone(inherited), pulumi.Provider(a.BackupProvider))
		copies, err := a.vault(ctx, name+"-copies", a.BackupKeyARN, elsewhere)
		if err != nil {
			return err
		}
		v.CopyVaultARN = copies.Arn
		rule.CopyActions = backup.PlanRuleCopyActionArray{backup.PlanRuleCopyActionArgs{
			DestinationVaultArn: copies.Arn,
			Lifecycle:           backup.PlanRuleCopyActionLifecycleArgs{DeleteAfter: pulumi.Int(a.CopyRetentionDays)},
		}}
	}
	plan, err := backup.NewPlan(ctx, name+"-plan", &backup.PlanArgs{
		Name: pulumi.String(dashed(a.TrustDomain)), Rules: backup.PlanRuleArray{rule},
		Tags: pulumi.StringMap{"Name": pulumi.String(a.TrustDomain), "DataClass": pulumi.String("backup")},
	}, inherited...)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	// AWS' own policies, which follow what the service calls. Two roles, so that the one that makes backups cannot restore.
	backups, attached, err := a.role(ctx, name+"-role", "makes backups", "AWSBackupServiceRolePolicyForBackup", inherited)
	if err != nil {
		return err
	}
	if _, err := backup.NewSelection(ctx, name+"-selection", &backup.SelectionArgs{
		Name: pulumi.String(dashed(a.TrustDomain)), PlanId: plan.ID(), IamRoleArn: backups.Arn, Resources: a.Resources,
	}, append(slices.Clone(inherited), pulumi.DependsOn([]pulumi.Resource{attached}))...); err != nil {
		return fmt.Errorf("selection: %w", err)
	}
	return a.restoreTest(ctx, name, vault, inherited)
}

// vault is a vault with its lock and a policy by which nobody deletes from it.
func (a Args) vault(ctx *pulumi.Context, name string, key pulumi.StringInput, opts []pulumi.ResourceOption) (*backup.Vault, error) {
	// A vault that nobody can unlock stays, and with it what protects it.
	if a.Mode == Compliance {
		opts = append(slices.Clone(opts), pulumi.RetainOnDelete(true))
	}
	protected := append(slices.Clone(opts), pulumi.Protect(a.Protect))
	vault, err := backup.NewVault(ctx, name, &backup.VaultArgs{
		Name: pulumi.String(dashed(a.TrustDomain) + "-backup"), KmsKeyArn: key.ToStringOutput().ToStringPtrOutput(),
		ForceDestroy: pulumi.Bool(false),
		Tags:         pulumi.StringMap{"Name": pulumi.Sprintf("%s backup", a.TrustDomain), "DataClass": pulumi.String("backup")},
	}, protected...)
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", name, err)
	}
	lock := &backup.VaultLockConfigurationArgs{BackupVaultName: vault.Name, MinRetentionDays: pulumi.Int(a.MinRetentionDays)}
	if a.Mode == Compliance {
		lock.ChangeableForDays = pulumi.Int(a.CoolingOffDays)
	}
	if _, err := backup.NewVaultLockConfiguration(ctx, name+"-lock", lock, protected...); err != nil {
		return nil, fmt.Errorf("lock of %s: %w", name, err)
	}
	if _, err := backup.NewVaultPolicy(ctx, name+"-policy", &backup.VaultPolicyArgs{
		BackupVaultName: vault.Name,
		Policy: iampolicy.Document(iampolicy.Statement{
			// AWS Backup itself deletes what has expired; it is not asked here.
			Sid: "DenyDeletion", Effect: iampolicy.Deny, Principal: iampolicy.Any, Resource: iampolicy.Any,
			Action: []string{"backup:DeleteRecoveryPoint", "backup:DisassociateRecoveryPoint", "backup:UpdateRecoveryPointLifecycle"},
		}),
	}, opts...); err != nil {
		return nil, fmt.Errorf("policy of %s: %w", name, err)
	}
	return vault, nil
}

func (a Args) role(ctx *pulumi.Context, name, what, policy string, opts []pulumi.ResourceOption) (*iam.Role, pulumi.Resource, error) {
	role, err := iam.NewRole(ctx, name, &iam.RoleArgs{
		Description: pulumi.Sprintf("%s: AWS Backup %s", a.TrustDomain, what),
		AssumeRolePolicy: iampolicy.Document(iampolicy.Statement{
			Sid: "Backup", Principal: iampolicy.Service("backup.amazonaws.com"), Action: "sts:AssumeRole",
		}),
	}, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("role %s: %w", name, err)
	}
	attached, err := iam.NewRolePolicyAttachment(ctx, name+"-policy", &iam.RolePolicyAttachmentArgs{
		Role: role.Name, PolicyArn: pulumi.String("arn:aws:iam::aws:policy/service-role/" + policy),
	}, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("policy of role %s: %w", name, err)
	}
	return role, attached, nil
}

// restoreTest restores the latest backup of the week.
func (a Args) restoreTest(ctx *pulumi.Context, name string, vault *backup.Vault, opts []pulumi.ResourceOption) error {
	role, attached, err := a.role(ctx, name+"-restore-role", "restores backups", "AWSBackupServiceRolePolicyForRestores", opts)
	if err != nil {
		return err
	}
	// Names of restore tests have no hyphens.
	testName := strings.ReplaceAll(dashed(a.TrustDomain), "-", "_")
	plan, err := backup.NewRestoreTestingPlan(ctx, name+"-restore-plan", &backup.RestoreTestingPlanArgs{
		Name: pulumi.String(testName), ScheduleExpression: pulumi.String(a.TestSchedule), ScheduleExpressionTimezone: pulumi.String("Etc/UTC"),
		StartWindowHours: pulumi.Int(4),
		RecoveryPointSelection: backup.RestoreTestingPlanRecoveryPointSelectionArgs{
			Algorithm: pulumi.String("LATEST_WITHIN_WINDOW"), IncludeVaults: pulumi.StringArray{vault.Arn},
			RecoveryPointTypes: pulumi.ToStringArray([]string{"SNAPSHOT"}), SelectionWindowDays: pulumi.Int(7),
		},
	}, opts...)
	if err != nil {
		return fmt.Errorf("restore test: %w", err)
	}
	if _, err := backup.NewRestoreTestingSelection(ctx, name+"-restore-selection", &backup.RestoreTestingSelectionArgs{
		Name: pulumi.String(testName), RestoreTestingPlanName: plan.Name, IamRoleArn: role.Arn,
		ProtectedResourceType: pulumi.String(a.Source.resourceType()), ProtectedResourceArns: a.Resources,
		// The restored database is there for this long to be looked at.
		ValidationWindowHours: pulumi.Int(1), RestoreMetadataOverrides: a.TestMetadata,
	}, append(slices.Clone(opts), pulumi.DependsOn([]pulumi.Resource{attached}))...); err != nil {
		return fmt.Errorf("what the restore test restores: %w", err)
	}
	return nil
}
