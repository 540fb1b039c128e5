// Package keys makes the customer-managed keys of a trust domain: one a class of data, and none for two.
//
// In: the account, the regions, who administers. Out: a key and an alias for each class, and keys of their own in the backup region
// for what is copied there.
//
// # Who may do what
//
// Administrators may do everything with a key but use it: they cannot decrypt, and no policy of an identity can change that. Each
// key may be used by the service that its class is for, and by identities of the account as far as their own policies say so, and
// only through that service. The root user of the account can repair a key's policy, and nothing else: without that, a key whose
// administrators are gone is lost.
//
// The keys with which SPIRE signs are not here: SPIRE makes them itself (KeyManager aws_kms).
//
// # Backup region
//
// Audit and Backup have a key of their own there, not a replica of the one here: what is copied is encrypted anew on the way (S3
// replication, AWS Backup), and then neither the deletion nor the misuse of one key reaches both copies.
package keys

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/kms"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/internal/check"
	"ephemos.dev/deploy/components/manifest"
)

// Class is a class of data. Its key encrypts nothing else.
type Class string

// The classes.
const (
	// Database is the data of Postgres: storage, snapshots, Performance Insights.
	Database Class = "database"
	// Secrets is the Secrets of Kubernetes in etcd.
	Secrets Class = "secrets"
	// Disk is the volumes of nodes and of pods.
	Disk Class = "disk"
	// Audit is the archive: CloudTrail and the audit logs. Also in the backup region.
	Audit Class = "audit"
	// Backup is the vaults of AWS Backup. Also in the backup region.
	Backup Class = "backup"
	// Notification is messages in topics of SNS.
	Notification Class = "notification"
	// Logs is the log groups of CloudWatch.
	Logs Class = "logs"
	// MasterSecret is the password of the database's master user in Secrets Manager.
	MasterSecret Class = "credentials"
)

// Classes are all classes.
func Classes() []Class {
	return []Class{Database, Secrets, Disk, Audit, Backup, Notification, Logs, MasterSecret}
}

// BackupClasses are those with a key of their own in the backup region.
func BackupClasses() []Class { return []Class{Audit, Backup} }

// Args are the arguments of New.
type Args struct {
	// TrustDomain is what the keys are for. It is part of their aliases. Required.
	TrustDomain string
	// AccountID is the account, 12 digits. Required.
	AccountID string
	// Region and BackupRegion are where the keys are. They must differ. Required.
	Region, BackupRegion string
	// BackupProvider makes resources in BackupRegion. Required.
	BackupProvider *aws.Provider
	// Administrators are the ARNs of the roles and users that manage the keys, whole. The one that deploys has to be among them, or
	// AWS refuses a policy that locks it out. Empty: everyone in the account whose own policies say so.
	Administrators []string
	// PendingWindowDays is how long a deleted key can be brought back, 7 to 30 days. Default 30.
	PendingWindowDays int
	// RotationDays is how often the key material changes, 90 to 2560 days. Default 365.
	RotationDays int
	// Existing are keys of Region that are there already, by class: none is made for these, and their policies, aliases and rotation
	// are their owner's. No key for two classes. Keys in BackupRegion are always made. Default none.
	Existing map[Class]string
	// CreateAutoScalingRole makes the account's role AWSServiceRoleForAutoScaling, without which the key of disks cannot name it. AWS
	// makes it with the first Auto Scaling group of an account, and there is one an account: set it in an account that never had any.
	CreateAutoScalingRole bool
	// Protect keeps Pulumi from deleting the keys.
	Protect bool
}

// Keys are the keys.
type Keys struct {
	pulumi.ResourceState

	arns, backupARNs map[Class]pulumi.StringOutput
}

// ARN is the key of a class.
func (k *Keys) ARN(c Class) pulumi.StringOutput { return pick(k.arns, c, "no class") }

// BackupARN is the key of a class in the backup region. Only Audit and Backup have one.
func (k *Keys) BackupARN(c Class) pulumi.StringOutput {
	return pick(k.backupARNs, c, "no class with a key in the backup region")
}

// pick returns the key, or an output that fails the deployment.
func pick(arns map[Class]pulumi.StringOutput, c Class, not string) pulumi.StringOutput {
	if arn, ok := arns[c]; ok {
		return arn
	}
	return pulumi.String("").ToStringOutput().ApplyT(func(string) (string, error) {
		return "", fmt.Errorf("keys: %q is %s", string(c), not)
	}).(pulumi.StringOutput)
}

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a Args) WithDefaults() Args {
	a.PendingWindowDays = cmp.Or(a.PendingWindowDays, 30)
	a.RotationDays = cmp.Or(a.RotationDays, 365)
	return a
}

// Alias is the name of the alias of a class's key, in both regions.
func (a Args) Alias(c Class) string {
	return "alias/" + strings.ReplaceAll(a.TrustDomain, ".", "-") + "/" + string(c)
}

func (a Args) validate() error {
	errs := []error{
		check.TrustDomain("trustDomain", a.TrustDomain), check.Account("accountId", a.AccountID),
		check.Regions("region", a.Region, "backupRegion", a.BackupRegion), check.Set("backupProvider", a.BackupProvider),
		check.Between("pendingWindowDays", a.PendingWindowDays, 7, 30), check.Between("rotationDays", a.RotationDays, 90, 2560),
	}
	for _, arn := range a.Administrators {
		if err := iampolicy.CheckARN(arn); err != nil || !strings.HasPrefix(arn, "arn:aws:iam::") || strings.ContainsAny(arn, "*?") {
			errs = append(errs, fmt.Errorf("administrators: %q is not allowed: it must be the whole ARN of a role or user", arn))
		}
	}
	of := map[string]Class{}
	for _, c := range slices.Sorted(maps.Keys(a.Existing)) {
		arn, field := a.Existing[c], "existing."+string(c)
		if !slices.Contains(Classes(), c) {
			errs = append(errs, fmt.Errorf("%s: %q is not allowed: there is no such class of data", field, arn))
		}
		if !strings.HasPrefix(arn, "arn:aws:kms:"+a.Region+":"+a.AccountID+":key/") || strings.ContainsAny(arn, "*?") {
			errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be the ARN of a key of the account in %s", field, arn, a.Region))
		}
		if other, taken := of[arn]; taken {
			errs = append(errs, fmt.Errorf("%s: %q is not allowed: it is the key of %s", field, arn, other))
		}
		of[arn] = c
	}
	return errors.Join(errs...)
}

// New makes the keys.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Keys, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("keys %s: %w", name, err)
	}
	self := &Keys{arns: map[Class]pulumi.StringOutput{}, backupARNs: map[Class]pulumi.StringOutput{}}
	props := pulumi.Map{
		"trustDomain": pulumi.String(a.TrustDomain), "region": pulumi.String(a.Region), "backupRegion": pulumi.String(a.BackupRegion),
		"administrators": pulumi.ToStringArray(a.Administrators), "rotationDays": pulumi.Int(a.RotationDays),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:keys:Keys", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("keys %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"arns": toMap(self.arns), "backupArns": toMap(self.backupARNs)}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("keys %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func toMap(arns map[Class]pulumi.StringOutput) pulumi.StringMap {
	out := pulumi.StringMap{}
	for c, arn := range arns {
		out[string(c)] = arn
	}
	return out
}

func (k *Keys) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(k, opts)
	if err != nil {
		return err
	}
	autoScaling := pulumi.String(autoScalingRole(a.AccountID)).ToStringOutput()
	if a.CreateAutoScalingRole {
		// Several stacks may share an account, and the groups outlive this one: AWS keeps the role while one is left.
		role, err := iam.NewServiceLinkedRole(ctx, name+"-autoscaling-role", &iam.ServiceLinkedRoleArgs{
			AwsServiceName: pulumi.String("autoscaling.amazonaws.com"),
		}, slices.Concat(inherited, []pulumi.ResourceOption{pulumi.RetainOnDelete(true)})...)
		if err != nil {
			return fmt.Errorf("service-linked role: %w", err)
		}
		autoScaling = role.Arn
	}
	for _, c := range Classes() {
		if arn, there := a.Existing[c]; there {
			k.arns[c] = pulumi.String(arn).ToStringOutput()
			continue
		}
		if k.arns[c], err = a.key(ctx, name+"-"+string(c), c, a.Region, autoScaling, inherited); err != nil {
			return err
		}
	}
	elsewhere := slices.Concat(inherited, []pulumi.ResourceOption{pulumi.Provider(a.BackupProvider)})
	for _, c := range BackupClasses() {
		if k.backupARNs[c], err = a.key(ctx, name+"-"+string(c)+"-backup", c, a.BackupRegion, autoScaling, elsewhere); err != nil {
			return err
		}
	}
	return nil
}

func (a Args) key(ctx *pulumi.Context, name string, c Class, region string, autoScaling pulumi.StringInput, opts []pulumi.ResourceOption) (pulumi.StringOutput, error) {
	key, err := kms.NewKey(ctx, name, &kms.KeyArgs{
		Description:          pulumi.Sprintf("%s: %s", a.TrustDomain, string(c)),
		KeyUsage:             pulumi.String("ENCRYPT_DECRYPT"),
		EnableKeyRotation:    pulumi.Bool(true),
		RotationPeriodInDays: pulumi.Int(a.RotationDays),
		DeletionWindowInDays: pulumi.Int(a.PendingWindowDays),
		MultiRegion:          pulumi.Bool(false),
		Policy:               iampolicy.Document(a.policy(c, region, autoScaling)...),
		Tags:                 pulumi.StringMap{"Name": pulumi.Sprintf("%s %s", a.TrustDomain, string(c)), "DataClass": pulumi.String(c)},
	}, slices.Concat(opts, []pulumi.ResourceOption{pulumi.Protect(a.Protect)})...)
	if err != nil {
		return pulumi.StringOutput{}, fmt.Errorf("key %s: %w", c, err)
	}
	if _, err := kms.NewAlias(ctx, name+"-alias", &kms.AliasArgs{
		Name: pulumi.String(a.Alias(c)), TargetKeyId: key.KeyId,
	}, opts...); err != nil {
		return pulumi.StringOutput{}, fmt.Errorf("alias %s: %w", c, err)
	}
	return key.Arn, nil
}
