// Package pca makes the certificate authorities from which SPIRE gets its own: a root and a subordinate in AWS Private CA, and a
// second pair in the backup region that is ready to take over.
//
// In: the trust domain, the key algorithm, for how long certificates are valid. Out: the ARN for SPIRE's aws_pca plugin, that of the
// standby, and both roots in PEM: SPIRE puts the standby's into its bundle beforehand (supplemental_bundle_path), so that every
// workload trusts it on the day it is needed.
//
// # Two chains, not one in two regions
//
// The standby has a root of its own. It is there for the day on which the first one, key or account access, is not to be trusted any
// more, and for the day its region is gone.
//
// # Path lengths
//
// The subordinate may sign certificates of authorities (PathLen1), because what SPIRE's servers hold are such (aws_pca asks for
// PathLen0), and no further.
//
// # Revocation
//
// OCSP is on where certificates live long. It serves whoever audits the authorities: SPIRE and workloads do not ask, they rely on
// short lives, and nothing in the VPC could reach the responder. There is no CRL: it would need a bucket that the world can read.
// In the mode for short lives there is neither, as nothing outlives a week.
//
// # What is left after a deletion
//
// An authority is kept for DeletionDays, disabled, and is not charged for in that time. Its certificate cannot be installed into
// another one: what it has signed is lost with it.
package pca

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/acmpca"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/internal/check"
	"ephemos.dev/deploy/components/manifest"
)

// Algorithm is the algorithm of an authority's key.
type Algorithm string

// The algorithms. Roots live for years, so the stronger one is the default.
const (
	P256 Algorithm = "EC_prime256v1"
	P384 Algorithm = "EC_secp384r1"
)

// signing is the algorithm with which an authority signs by such a key.
func (a Algorithm) signing() string {
	if a == P256 {
		return "SHA256WITHECDSA"
	}
	return "SHA384WITHECDSA"
}

// UsageMode is what the subordinates are for, and what they cost
// (docs.aws.amazon.com/privateca/latest/userguide/short-lived-certificates.html).
type UsageMode string

const (
	// GeneralPurpose sets no limit.
	GeneralPurpose UsageMode = "GENERAL_PURPOSE"
	// ShortLived is for certificates of at most seven days, at an eighth of the price. SPIRE's CAs (ca_ttl) must not live longer. The
	// roots are always general: their subordinates live for years.
	ShortLived UsageMode = "SHORT_LIVED_CERTIFICATE"
)

// MaxTTL is for how long a certificate may be valid that a subordinate signs, which is the limit of SPIRE's ca_ttl. Zero: no limit.
func (u UsageMode) MaxTTL() time.Duration {
	if u == ShortLived {
		return 7 * 24 * time.Hour
	}
	return 0
}

// Storage is how well AWS guards the keys.
type Storage string

// The standards. Some regions have the lower one only
// (docs.aws.amazon.com/privateca/latest/userguide/data-protection.html#private-keys).
const (
	FIPSLevel2 Storage = "FIPS_140_2_LEVEL_2_OR_HIGHER"
	FIPSLevel3 Storage = "FIPS_140_2_LEVEL_3_OR_HIGHER"
)

// Templates of the certificates that the authorities are given.
const (
	rootTemplate        = "arn:aws:acm-pca:::template/RootCACertificate/V1"
	subordinateTemplate = "arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen1/V1"
)

// Args are the arguments of New.
type Args struct {
	// TrustDomain is whose authorities they are, at most 64 characters. It is the organisational unit of their names. Required.
	TrustDomain string
	// Organization is the organisation of their names, at most 64 characters. Default: the trust domain.
	Organization string
	// BackupProvider makes the standby, in the backup region. Required.
	BackupProvider *aws.Provider
	// Algorithm is that of all keys. Default P384.
	Algorithm Algorithm
	// UsageMode is what the subordinates are for. Default GeneralPurpose.
	UsageMode UsageMode
	// Storage is how the keys are guarded. Default FIPSLevel3.
	Storage Storage
	// RootYears and SubordinateYears are for how long the certificates are valid. The subordinate's must be the shorter one. Default 10
	// and 5, at most 30.
	RootYears, SubordinateYears int
	// DeletionDays is how long a deleted authority can be brought back, 7 to 30 days. Default 30.
	DeletionDays int
	// Protect keeps Pulumi from deleting the authorities and their certificates.
	Protect bool
}

// PCA is the authorities.
type PCA struct {
	pulumi.ResourceState

	// RootARN is the root.
	RootARN pulumi.StringOutput `pulumi:"rootArn"`
	// SubordinateARN is the authority that SPIRE asks. It is known when that can sign.
	SubordinateARN pulumi.StringOutput `pulumi:"subordinateArn"`
	// StandbyARN is the one that it asks when the first must not be used. It is known when that can sign.
	StandbyARN pulumi.StringOutput `pulumi:"standbyArn"`
	// RootCertificate and StandbyCertificate are the two roots, in PEM.
	RootCertificate    pulumi.StringOutput `pulumi:"rootCertificate"`
	StandbyCertificate pulumi.StringOutput `pulumi:"standbyCertificate"`
}

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a Args) WithDefaults() Args {
	a.Organization = cmp.Or(a.Organization, a.TrustDomain)
	a.Algorithm = cmp.Or(a.Algorithm, P384)
	a.UsageMode = cmp.Or(a.UsageMode, GeneralPurpose)
	a.Storage = cmp.Or(a.Storage, FIPSLevel3)
	a.RootYears = cmp.Or(a.RootYears, 10)
	a.SubordinateYears = cmp.Or(a.SubordinateYears, 5)
	a.DeletionDays = cmp.Or(a.DeletionDays, 30)
	return a
}

func (a Args) validate() error {
	errs := []error{
		check.TrustDomain("trustDomain", a.TrustDomain), check.Set("backupProvider", a.BackupProvider),
		check.OneOf("algorithm", a.Algorithm, P256, P384), check.OneOf("usageMode", a.UsageMode, GeneralPurpose, ShortLived),
		check.OneOf("storage", a.Storage, FIPSLevel2, FIPSLevel3), check.Between("rootYears", a.RootYears, 1, 30),
		check.Between("deletionDays", a.DeletionDays, 7, 30),
	}
	for field, v := range map[string]string{"trustDomain": a.TrustDomain, "organization": a.Organization} {
		if len(v) > 64 {
			errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be at most 64 characters", field, v))
		}
	}
	if a.SubordinateYears < 1 || a.SubordinateYears >= a.RootYears {
		errs = append(errs, fmt.Errorf(`subordinateYears: "%d" is not allowed: it must be at least 1 and less than rootYears, %d`, a.SubordinateYears, a.RootYears))
	}
	return errors.Join(errs...)
}

// New makes the authorities.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*PCA, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("pca %s: %w", name, err)
	}
	self := &PCA{}
	props := pulumi.Map{
		"trustDomain": pulumi.String(a.TrustDomain), "algorithm": pulumi.String(a.Algorithm), "usageMode": pulumi.String(a.UsageMode),
		"rootYears": pulumi.Int(a.RootYears), "subordinateYears": pulumi.Int(a.SubordinateYears),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:keys:PCA", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("pca %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{
			"rootArn": self.RootARN, "subordinateArn": self.SubordinateARN, "standbyArn": self.StandbyARN,
			"rootCertificate": self.RootCertificate, "standbyCertificate": self.StandbyCertificate,
		}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("pca %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (p *PCA) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(p, opts)
	if err != nil {
		return err
	}
	protected := slices.Concat(inherited, []pulumi.ResourceOption{pulumi.Protect(a.Protect)})
	first := chain{ctx: ctx, args: a, opts: protected}
	standby := chain{ctx: ctx, args: a, opts: append(slices.Clone(protected), pulumi.Provider(a.BackupProvider))}

	if p.RootARN, p.SubordinateARN, p.RootCertificate, err = first.build(name, "Root CA", "Subordinate CA"); err != nil {
		return err
	}
	if _, p.StandbyARN, p.StandbyCertificate, err = standby.build(name+"-standby", "Standby root CA", "Standby subordinate CA"); err != nil {
		return err
	}
	return nil
}

// A chain is a root and its subordinate.
type chain struct {
	ctx  *pulumi.Context
	args Args
	opts []pulumi.ResourceOption
}

// build makes a chain and returns the ARNs of both authorities, known when they can sign, and the root's certificate.
func (c chain) build(name, rootName, subordinateName string) (root, subordinate, certificate pulumi.StringOutput, err error) {
	rootCA, err := c.authority(name+"-root", "ROOT", GeneralPurpose, rootName)
	if err != nil {
		return root, subordinate, certificate, err
	}
	rootCertificate, err := c.certificate(name+"-root", rootCA, rootCA, rootTemplate, c.args.RootYears)
	if err != nil {
		return root, subordinate, certificate, err
	}
	// A root's certificate has no chain.
	installed, err := c.install(name+"-root", rootCA, rootCertificate, nil)
	if err != nil {
		return root, subordinate, certificate, err
	}

	subordinateCA, err := c.authority(name+"-subordinate", "SUBORDINATE", c.args.UsageMode, subordinateName)
	if err != nil {
		return root, subordinate, certificate, err
	}
	// The root signs when its own certificate is installed.
	issued, err := c.certificate(name+"-subordinate", rootCA, subordinateCA, subordinateTemplate, c.args.SubordinateYears,
		pulumi.DependsOn([]pulumi.Resource{installed}))
	if err != nil {
		return root, subordinate, certificate, err
	}
	ready, err := c.install(name+"-subordinate", subordinateCA, issued, issued.CertificateChain)
	if err != nil {
		return root, subordinate, certificate, err
	}
	return installed.CertificateAuthorityArn, ready.CertificateAuthorityArn, rootCertificate.Certificate, nil
}

func (c chain) authority(name, kind string, mode UsageMode, commonName string) (*acmpca.CertificateAuthority, error) {
	revocation := &acmpca.CertificateAuthorityRevocationConfigurationArgs{
		CrlConfiguration:  acmpca.CertificateAuthorityRevocationConfigurationCrlConfigurationArgs{Enabled: pulumi.Bool(false)},
		OcspConfiguration: acmpca.CertificateAuthorityRevocationConfigurationOcspConfigurationArgs{Enabled: pulumi.Bool(true)},
	}
	if mode == ShortLived {
		revocation = nil
	}
	args := &acmpca.CertificateAuthorityArgs{
		Type:      pulumi.String(kind),
		UsageMode: pulumi.String(mode),
		CertificateAuthorityConfiguration: acmpca.CertificateAuthorityCertificateAuthorityConfigurationArgs{
			KeyAlgorithm: pulumi.String(c.args.Algorithm), SigningAlgorithm: pulumi.String(c.args.Algorithm.signing()),
			Subject: acmpca.CertificateAuthorityCertificateAuthorityConfigurationSubjectArgs{
				Organization: pulumi.String(c.args.Organization), OrganizationalUnit: pulumi.String(c.args.TrustDomain),
				CommonName: pulumi.String(commonName),
			},
		},
		KeyStorageSecurityStandard:  pulumi.String(c.args.Storage),
		PermanentDeletionTimeInDays: pulumi.Int(c.args.DeletionDays),
		Tags:                        pulumi.StringMap{"Name": pulumi.Sprintf("%s %s", c.args.TrustDomain, commonName), "DataClass": pulumi.String("ca")},
	}
	// A nil pointer in an interface is not nil.
	if revocation != nil {
		args.RevocationConfiguration = revocation
	}
	ca, err := acmpca.NewCertificateAuthority(c.ctx, name, args, c.opts...)
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", name, err)
	}
	return ca, nil
}

// certificate has the signer sign what the subject asks for.
func (c chain) certificate(name string, signer, subject *acmpca.CertificateAuthority, template string, years int, opts ...pulumi.ResourceOption) (*acmpca.Certificate, error) {
	certificate, err := acmpca.NewCertificate(c.ctx, name+"-certificate", &acmpca.CertificateArgs{
		CertificateAuthorityArn: signer.Arn, CertificateSigningRequest: subject.CertificateSigningRequest,
		SigningAlgorithm: pulumi.String(c.args.Algorithm.signing()), TemplateArn: pulumi.String(template),
		Validity: acmpca.CertificateValidityArgs{Type: pulumi.String("YEARS"), Value: pulumi.String(strconv.Itoa(years))},
	}, slices.Concat(c.opts, opts)...)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", name, err)
	}
	return certificate, nil
}

// install gives an authority its certificate, after which it can sign.
func (c chain) install(name string, ca *acmpca.CertificateAuthority, certificate *acmpca.Certificate, above pulumi.StringPtrInput) (*acmpca.CertificateAuthorityCertificate, error) {
	installed, err := acmpca.NewCertificateAuthorityCertificate(c.ctx, name+"-installed", &acmpca.CertificateAuthorityCertificateArgs{
		CertificateAuthorityArn: ca.Arn, Certificate: certificate.Certificate, CertificateChain: above,
	}, c.opts...)
	if err != nil {
		return nil, fmt.Errorf("installation %s: %w", name, err)
	}
	return installed, nil
}
