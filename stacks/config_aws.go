package stacks

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Configuration keys of the platform aws, without their namespace.
const (
	keyRegion            = "region"
	keyBackupRegion      = "backupRegion"
	keyAccountID         = "accountID"
	keyAvailabilityZones = "availabilityZones"
	keyVPCCIDR           = "vpcCIDR"
	keyServiceCIDR       = "serviceCIDR"
	keyReservedCIDRs     = "reservedCIDRs"
	keyKubernetesVersion = "kubernetesVersion"
	keyAdministrators    = "administrators"
	keyPublicAccessCIDRs = "publicAccessCIDRs"
	keyNodeInstanceType  = "nodeInstanceType"
	keyNodesPerZone      = "nodesPerZone"
	keyDatabaseEngine    = "databaseEngine"
	keyDatabaseClass     = "databaseInstanceClass"
	keyDatabaseStorage   = "databaseStorageGiB"
	keyDatabaseIOPS      = "databaseIOPS"
	keyBackupRetention   = "backupRetentionDays"
	keyAuditRetention    = "auditRetentionDays"
	keyAuditMode         = "auditMode"
	keyLogRetention      = "logRetentionDays"
	keyKeyDeletion       = "keyDeletionDays"
	keyKeyARNs           = "keyARNs"
	keyForceDestroy      = "forceDestroy"
	keyCAUsage           = "caUsage"
	keyEdgeCertificate   = "edgeCertificateARN"
	keySecurityContacts  = "securityContacts"
	keyExecutiveContacts = "executiveContacts"
	keyDetectorID        = "guardDutyDetectorID"
	keyBaseline          = "accountBaseline"
	keyRequestLimit      = "requestLimit"
	keyDatabaseCAFile    = "databaseCAFile"
)

// PlatformAWS builds the foundation on AWS and deploys onto the cluster in it.
const PlatformAWS = "aws"

// AWS is the part of a stack's configuration that says where on AWS it lives.
type AWS struct {
	// Region is where everything is, BackupRegion where copies and the standby CA are.
	Region, BackupRegion string
	// AccountID is the only account that the stack may be deployed into.
	AccountID string
	// AvailabilityZones are three or four zones of the region.
	AvailabilityZones []string
	// VPC is the range of the stack's own network, Services that of the cluster's Services, Reserved what neither may overlap.
	VPC, Services netip.Prefix
	Reserved      []netip.Prefix
	// KubernetesVersion is the minor version of EKS.
	KubernetesVersion string
	// Administrators are the IAM principals that administer the cluster and the keys.
	Administrators []string
	// PublicAccessCIDRs reach the cluster's API from the internet. Empty: nobody does.
	PublicAccessCIDRs []string
	// KeyARNs are KMS keys that exist already, by data class.
	KeyARNs map[string]string
	// EdgeCertificateARN is the ACM certificate of the two gateways' names.
	EdgeCertificateARN string
	// SecurityContacts and ExecutiveContacts are mail addresses that playbooks notify.
	SecurityContacts, ExecutiveContacts []string
	// DetectorID is the account's GuardDuty detector, when it has one.
	DetectorID string
	// Baseline also makes what an account has once: Security Hub, Config.
	Baseline bool
	// RequestLimit is how many requests one address may send in five minutes.
	RequestLimit int
	// DatabaseCAs are the certificates, PEM, of the CAs that sign the certificates of RDS.
	DatabaseCAs string
}

// AWSProfile is what differs between environments on AWS.
type AWSProfile struct {
	// NodeInstanceType is the type of every node; NodesPerZone how many each network zone has, spread over availability zones.
	NodeInstanceType string
	NodesPerZone     int
	// DatabaseEngine is "multi-az", a Multi-AZ DB cluster, or "aurora".
	DatabaseEngine string
	// DatabaseInstanceClass, DatabaseStorageGiB and DatabaseIOPS size each of the database's three instances.
	DatabaseInstanceClass            string
	DatabaseStorageGiB, DatabaseIOPS int
	// BackupRetentionDays is how far back the database can be restored.
	BackupRetentionDays int
	// AuditRetentionDays is how long nobody can delete an audit record, AuditMode whether that includes the account's owner
	// ("COMPLIANCE") or not ("GOVERNANCE").
	AuditRetentionDays int
	AuditMode          string
	// LogRetentionDays is how long CloudWatch keeps logs.
	LogRetentionDays int
	// KeyDeletionDays is how long a key or CA that was deleted can be brought back.
	KeyDeletionDays int
	// CAUsage is "GENERAL_PURPOSE" or "SHORT_LIVED_CERTIFICATE".
	CAUsage string
	// ForceDestroy deletes buckets with their content and databases without a last snapshot.
	ForceDestroy bool
}

var (
	regionName    = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	zoneName      = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9][a-f]$`)
	accountNumber = regexp.MustCompile(`^[0-9]{12}$`)
	principalARN  = regexp.MustCompile(`^arn:aws:iam::[0-9]{12}:(role|user)/[\w+=,.@/-]{1,512}$`)
	keyARN        = regexp.MustCompile(`^arn:aws:kms:([a-z0-9-]+):([0-9]{12}):key/(mrk-)?[0-9a-f-]{32,36}$`)
	certARN       = regexp.MustCompile(`^arn:aws:acm:([a-z0-9-]+):([0-9]{12}):certificate/[0-9a-f-]{36}$`)
	instanceType  = regexp.MustCompile(`^[a-z][a-z0-9-]*\.[a-z0-9]+$`)
	databaseClass = regexp.MustCompile(`^db\.[a-z][a-z0-9]*\.[a-z0-9]+$`)
	versionNumber = regexp.MustCompile(`^1\.[0-9]{2}$`)
	detectorID    = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// KeyClasses are the data classes that keyARNs may name: those of components/keys.
var KeyClasses = []string{"database", "credentials", "secrets", "disk", "audit", "backup", "notification", "logs"}

// retentions are the numbers of days for which CloudWatch can keep logs (API reference, PutRetentionPolicy).
var retentions = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

// awsKeys are the keys that only the platform aws has.
var awsKeys = []key{
	{keyRegion, "AWS region of everything but copies.", "", "none; required on aws",
		matching(func(c *Config) *string { return &c.AWS.Region }, regionName, "a region such as eu-central-1")},
	{keyBackupRegion, "AWS region of copies and of the standby CA, another than region.", "", "none; required on aws",
		matching(func(c *Config) *string { return &c.AWS.BackupRegion }, regionName, "a region such as eu-west-1")},
	{keyAccountID, "Number of the AWS account, 12 digits. Credentials for another account are refused.", "", "none; required on aws",
		matching(func(c *Config) *string { return &c.AWS.AccountID }, accountNumber, "the 12 digits of an account")},
	{keyAvailabilityZones, "Names of three or four availability zones of the region, separated by commas. Append a fourth; the order decides addresses.", "", "the region's a, b and c",
		setAvailabilityZones},
	{keyVPCCIDR, "Private IPv4 range of the stack's own network in CIDR notation, /16 to /20.", "10.0.0.0/16", "", prefix(func(c *Config) *netip.Prefix { return &c.AWS.VPC }, 16, 20)},
	{keyServiceCIDR, "Private IPv4 range of the cluster's Services, /12 to /24, outside of vpcCIDR.", "172.20.0.0/16", "", prefix(func(c *Config) *netip.Prefix { return &c.AWS.Services }, 12, 24)},
	{keyReservedCIDRs, "IPv4 ranges in CIDR notation, separated by commas, that other networks of yours use: vpcCIDR and serviceCIDR must not overlap them.", "", "none", setReserved},
	{keyKubernetesVersion, "Minor version of Kubernetes on EKS.", "1.35", "",
		matching(func(c *Config) *string { return &c.AWS.KubernetesVersion }, versionNumber, "a minor version such as 1.35")},
	{keyAdministrators, "ARNs of the IAM roles or users, separated by commas, that administer the cluster and the keys. The deployer has to be one of them, or the first up locks itself out.", "", "none; required on aws",
		list(func(c *Config) *[]string { return &c.AWS.Administrators }, principalARN, "ARNs of IAM roles or users such as arn:aws:iam::123456789012:role/deployer, separated by commas")},
	{keyPublicAccessCIDRs, "IPv4 ranges in CIDR notation, separated by commas, from which the cluster's API is reached over the internet.", "", "none: it is reached from inside the network only", setPublicAccess},
	{keyNodeInstanceType, "Instance type of the nodes, with trunk network interfaces (m6i.large, not t3).", "", "the profile's",
		matching(func(c *Config) *string { return &c.Profile.AWS.NodeInstanceType }, instanceType, "an instance type such as m6i.large")},
	{keyNodesPerZone, "Integer, 1 to 30. Nodes of each network zone, spread over the availability zones.", "", "the profile's",
		integer(func(c *Config) *int { return &c.Profile.AWS.NodesPerZone }, 1, 30)},
	{keyDatabaseEngine, "multi-az, a Multi-AZ DB cluster of a writer and two readable standbys, or aurora, which copies backups to the other region too.", "", "the profile's",
		oneOf(func(c *Config) *string { return &c.Profile.AWS.DatabaseEngine }, "multi-az", "aurora")},
	{keyDatabaseClass, "Instance class of the database.", "", "the profile's",
		matching(func(c *Config) *string { return &c.Profile.AWS.DatabaseInstanceClass }, databaseClass, "an instance class such as db.m6gd.large")},
	{keyDatabaseStorage, "Integer, 100 to 65536. GiB of storage of each instance of a Multi-AZ DB cluster.", "", "the profile's",
		integer(func(c *Config) *int { return &c.Profile.AWS.DatabaseStorageGiB }, 100, 65536)},
	{keyDatabaseIOPS, "Integer, 1000 to 256000. I/O operations a second of each instance of a Multi-AZ DB cluster.", "", "the profile's",
		integer(func(c *Config) *int { return &c.Profile.AWS.DatabaseIOPS }, 1000, 256000)},
	{keyBackupRetention, "Integer, 1 to 35. Days for which the database can be restored to any moment.", "", "the profile's",
		integer(func(c *Config) *int { return &c.Profile.AWS.BackupRetentionDays }, 1, 35)},
	{keyAuditRetention, "Integer, 1 to 36500. Days for which nobody can delete an audit record. It can be made longer, never shorter, for what is written already.", "", "the profile's",
		integer(func(c *Config) *int { return &c.Profile.AWS.AuditRetentionDays }, 1, 36500)},
	{keyAuditMode, "COMPLIANCE, where not even the account's owner can delete an audit record before its time, or GOVERNANCE.", "", "the profile's",
		oneOf(func(c *Config) *string { return &c.Profile.AWS.AuditMode }, "COMPLIANCE", "GOVERNANCE")},
	{keyLogRetention, "Days for which CloudWatch keeps logs: one of the numbers that it offers, such as 30, 90, 365 or 400.", "", "the profile's", setLogRetention},
	{keyKeyDeletion, "Integer, 7 to 30. Days for which a deleted key or CA can be brought back.", "", "the profile's",
		integer(func(c *Config) *int { return &c.Profile.AWS.KeyDeletionDays }, 7, 30)},
	{keyKeyARNs, "KMS keys of the region that exist already, as class=ARN separated by commas; classes: " + strings.Join(KeyClasses, ", ") + ". No key may serve two classes.", "", "none: each class gets one", setKeyARNs},
	{keyForceDestroy, "true or false. Let destroy delete buckets with their content and the database without a last snapshot. Refused with protect.", "", "the profile's",
		boolean(func(c *Config) *bool { return &c.Profile.AWS.ForceDestroy })},
	{keyCAUsage, "GENERAL_PURPOSE or SHORT_LIVED_CERTIFICATE: the mode of the private CAs. The second costs an eighth and signs for at most seven days.", "", "the profile's",
		oneOf(func(c *Config) *string { return &c.Profile.AWS.CAUsage }, "GENERAL_PURPOSE", "SHORT_LIVED_CERTIFICATE")},
	{keyEdgeCertificate, "ARN of the ACM certificate, in the region, for webHost and apiHost.", "", "none; required on aws",
		matching(func(c *Config) *string { return &c.AWS.EdgeCertificateARN }, certARN, "the ARN of an ACM certificate")},
	{keySecurityContacts, "Mail addresses, separated by commas, that are told of incidents.", "", "none", mails(func(c *Config) *[]string { return &c.AWS.SecurityContacts })},
	{keyExecutiveContacts, "Mail addresses, separated by commas, that are told of a breach of the CA.", "", "none", mails(func(c *Config) *[]string { return &c.AWS.ExecutiveContacts })},
	{keyDetectorID, "ID of the account's GuardDuty detector in the region, if it has one: an account has one at most.", "", "none: one is made",
		matching(func(c *Config) *string { return &c.AWS.DetectorID }, detectorID, "the 32 hexadecimal digits of a detector")},
	{keyBaseline, "true or false. Also make what an account has once: Security Hub with its standards, and the Config recorder.", "false", "",
		boolean(func(c *Config) *bool { return &c.AWS.Baseline })},
	{keyDatabaseCAFile, "Path of AWS' bundle of the CAs of RDS, PEM, for the region (truststore.pki.rds.amazonaws.com/<region>/<region>-bundle.pem): the SPIRE servers believe no other database.", "", "none; required on aws", nil},
	{keyRequestLimit, "Integer, 10 to 2000000000. Requests that one address may send to the edge in five minutes.", "2000", "",
		integer(func(c *Config) *int { return &c.AWS.RequestLimit }, 10, 2_000_000_000)},
}

// kubernetesKeys are the keys that only the platform kubernetes has: on aws the cluster, its ranges and its database are the
// stack's own.
var kubernetesKeys = []string{
	keyKubeconfig, keyKubeContext, keyPodCIDR, keyNodeCIDR, keyAPIServerCIDR, keyAPIServerPort, keyDNSPort, keyGatewayService, keyPostgresInstances, keyDataDurability,
	keyRootCASecret, keyKubeletCA, keyLegacyKubeletAuth,
}

// platformKeys refuses keys of another platform than the stack's, and misses what its own requires. A key that has its default is
// as good as not set: the Pulumi CLI fills in defaults.
func (p *parser) platformKeys() {
	for _, k := range keys {
		if value := p.value(k.name); value != "" && value != k.def && p.ofAnother(k.name) {
			p.refuse(k.name, value, fmt.Sprintf("no value unless %s:%s is %s", Namespace, keyPlatform, map[string]string{
				PlatformKubernetes: PlatformAWS, PlatformAWS: PlatformKubernetes,
			}[p.config.Platform]))
		}
	}
	if p.config.Platform != PlatformAWS {
		return
	}
	for _, required := range []struct{ name, allowed string }{
		{keyRegion, "a region such as eu-central-1"}, {keyBackupRegion, "a region such as eu-west-1"}, {keyAccountID, "the 12 digits of an account"},
		{keyAdministrators, "ARNs of IAM roles or users"}, {keyEdgeCertificate, "the ARN of an ACM certificate in the region"},
	} {
		if p.value(required.name) == "" {
			p.refuse(required.name, "", required.allowed)
		}
	}
	p.databaseCAs()
	p.awsConsistent()
}

// ofAnother says whether a key is of another platform than the stack's. Of a platform that does not exist no key is another's.
func (p *parser) ofAnother(name string) bool {
	switch p.config.Platform {
	case PlatformKubernetes:
		return slices.ContainsFunc(awsKeys, func(k key) bool { return k.name == name })
	case PlatformAWS:
		return slices.Contains(kubernetesKeys, name)
	}
	return false
}

// databaseCAs reads the bundle of the database's CAs.
func (p *parser) databaseCAs() {
	const allowed = "the path of a file with certificates in PEM, such as AWS' bundle of the CAs of RDS for the region"
	file := p.value(keyDatabaseCAFile)
	if file == "" {
		p.refuse(keyDatabaseCAFile, "", allowed)
		return
	}
	content, err := os.ReadFile(file)
	if err != nil {
		p.refuse(keyDatabaseCAFile, file, allowed+": "+reason(err).Error())
		return
	}
	if block, _ := pem.Decode(content); block == nil || block.Type != "CERTIFICATE" {
		p.refuse(keyDatabaseCAFile, file, allowed+": it holds none")
		return
	}
	p.config.AWS.DatabaseCAs = string(content)
}

// awsConsistent checks what keys of aws demand of each other.
func (p *parser) awsConsistent() {
	a, profile := &p.config.AWS, &p.config.Profile.AWS
	if p.accepted(keyRegion, keyBackupRegion) && a.Region == a.BackupRegion {
		p.refuse(keyBackupRegion, a.BackupRegion, fmt.Sprintf("another region than %s:%s", Namespace, keyRegion))
	}
	if len(a.AvailabilityZones) == 0 && p.accepted(keyRegion) {
		a.AvailabilityZones = []string{a.Region + "a", a.Region + "b", a.Region + "c"}
	}
	for _, zone := range a.AvailabilityZones {
		if p.accepted(keyRegion, keyAvailabilityZones) && !strings.HasPrefix(zone, a.Region) {
			p.refuse(keyAvailabilityZones, zone, "zones of the region "+p.show(keyRegion, a.Region))
		}
	}
	if p.accepted(keyVPCCIDR, keyServiceCIDR) && a.VPC.Overlaps(a.Services) {
		p.refuse(keyServiceCIDR, a.Services.String(), fmt.Sprintf("a range that does not overlap %s:%s, which is %s", Namespace, keyVPCCIDR, p.show(keyVPCCIDR, a.VPC.String())))
	}
	for _, reserved := range a.Reserved {
		for _, own := range []struct {
			key    string
			prefix netip.Prefix
		}{{keyVPCCIDR, a.VPC}, {keyServiceCIDR, a.Services}} {
			if p.accepted(own.key, keyReservedCIDRs) && own.prefix.Overlaps(reserved) {
				p.refuse(own.key, own.prefix.String(), fmt.Sprintf("a range that does not overlap %s of %s:%s", p.show(keyReservedCIDRs, reserved.String()), Namespace, keyReservedCIDRs))
			}
		}
	}
	if m := certARN.FindStringSubmatch(a.EdgeCertificateARN); m != nil {
		p.at(keyEdgeCertificate, a.EdgeCertificateARN, m[1], m[2])
	}
	used := map[string]string{}
	for _, class := range KeyClasses {
		arn := a.KeyARNs[class]
		if m := keyARN.FindStringSubmatch(arn); m != nil {
			p.at(keyKeyARNs, arn, m[1], m[2])
			if other, taken := used[arn]; taken {
				p.refuse(keyKeyARNs, arn, fmt.Sprintf("a key for one class only: it is given for %s and %s", other, class))
			}
			used[arn] = class
		}
	}
	if p.accepted(keyForceDestroy, keyProtect) && profile.ForceDestroy && p.config.Profile.Protect {
		p.refuse(keyForceDestroy, "true", fmt.Sprintf("false unless %s:%s is false", Namespace, keyProtect))
	}
	if p.accepted(keyDatabaseStorage, keyDatabaseIOPS) && profile.DatabaseEngine == "multi-az" && profile.DatabaseIOPS < profile.DatabaseStorageGiB/2 {
		p.refuse(keyDatabaseIOPS, strconv.Itoa(profile.DatabaseIOPS), fmt.Sprintf("at least half of %s:%s, which is %s",
			Namespace, keyDatabaseStorage, p.show(keyDatabaseStorage, strconv.Itoa(profile.DatabaseStorageGiB))))
	}
	if p.accepted(keyCAUsage, keyCATTL) && profile.CAUsage == "SHORT_LIVED_CERTIFICATE" && p.config.Profile.CATTL > maxSVIDTTL {
		p.refuse(keyCATTL, short(p.config.Profile.CATTL), fmt.Sprintf("at most %s with %s:%s SHORT_LIVED_CERTIFICATE", short(maxSVIDTTL), Namespace, keyCAUsage))
	}
}

// at refuses an ARN of another region or account than the stack's.
func (p *parser) at(name, arn, region, account string) {
	if p.accepted(keyRegion, name) && region != p.config.AWS.Region {
		p.refuse(name, arn, "an ARN of the region "+p.show(keyRegion, p.config.AWS.Region))
	}
	if p.accepted(keyAccountID, name) && account != p.config.AWS.AccountID {
		p.refuse(name, arn, "an ARN of the account "+p.show(keyAccountID, p.config.AWS.AccountID))
	}
}

func setAvailabilityZones(c *Config, value string) error {
	zones := splitList(value)
	sorted := slices.Compact(slices.Sorted(slices.Values(zones)))
	bad := slices.ContainsFunc(zones, func(z string) bool { return !zoneName.MatchString(z) })
	if bad || len(sorted) != len(zones) || len(zones) < 3 || len(zones) > 4 {
		return errors.New("three or four different availability zones such as eu-central-1a, separated by commas")
	}
	c.AWS.AvailabilityZones = zones
	return nil
}

func prefix(field func(*Config) *netip.Prefix, low, high int) func(*Config, string) error {
	return func(c *Config, value string) error {
		parsed, err := netip.ParsePrefix(value)
		if err != nil || !parsed.Addr().Is4() || !parsed.Addr().IsPrivate() || parsed != parsed.Masked() || parsed.Bits() < low || parsed.Bits() > high {
			return fmt.Errorf("a private IPv4 range of /%d to /%d such as 10.0.0.0/%d", low, high, max(low, 16))
		}
		*field(c) = parsed
		return nil
	}
}

func setReserved(c *Config, value string) error {
	for _, part := range splitList(value) {
		parsed, err := netip.ParsePrefix(part)
		if err != nil || parsed != parsed.Masked() || !parsed.Addr().Is4() {
			return errors.New("IPv4 ranges such as 10.1.0.0/16, separated by commas")
		}
		c.AWS.Reserved = append(c.AWS.Reserved, parsed)
	}
	return nil
}

func setPublicAccess(c *Config, value string) error {
	for _, part := range splitList(value) {
		parsed, err := netip.ParsePrefix(part)
		// A tenth of the internet is not an allow-list.
		if err != nil || parsed != parsed.Masked() || !parsed.Addr().Is4() || parsed.Bits() < 8 {
			return errors.New("IPv4 ranges of /8 or smaller such as 198.51.100.0/24, separated by commas")
		}
		c.AWS.PublicAccessCIDRs = append(c.AWS.PublicAccessCIDRs, parsed.String())
	}
	return nil
}

func setLogRetention(c *Config, value string) error {
	days, err := strconv.Atoi(value)
	if err != nil || !slices.Contains(retentions, days) {
		return errors.New("one of " + strings.Trim(strings.Join(strings.Fields(fmt.Sprint(retentions)), ", "), "[]"))
	}
	c.Profile.AWS.LogRetentionDays = days
	return nil
}

func setKeyARNs(c *Config, value string) error {
	c.AWS.KeyARNs = map[string]string{}
	for _, part := range splitList(value) {
		class, arn, _ := strings.Cut(part, "=")
		if _, twice := c.AWS.KeyARNs[class]; twice || !slices.Contains(KeyClasses, class) || !keyARN.MatchString(arn) {
			return errors.New("class=ARN of a KMS key, separated by commas, each class once; classes: " + strings.Join(KeyClasses, ", "))
		}
		c.AWS.KeyARNs[class] = arn
	}
	return nil
}

func list(field func(*Config) *[]string, pattern *regexp.Regexp, allowed string) func(*Config, string) error {
	return func(c *Config, value string) error {
		parts := splitList(value)
		if slices.ContainsFunc(parts, func(part string) bool { return !pattern.MatchString(part) }) {
			return errors.New(allowed)
		}
		*field(c) = parts
		return nil
	}
}

func mails(field func(*Config) *[]string) func(*Config, string) error {
	return func(c *Config, value string) error {
		parts := splitList(value)
		for _, part := range parts {
			if address, err := mail.ParseAddress(part); err != nil || address.Address != part {
				return errors.New("mail addresses such as security@company.com, separated by commas")
			}
		}
		*field(c) = parts
		return nil
	}
}
