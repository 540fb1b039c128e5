package pca

import (
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
)

func record(t *testing.T, change func(*Args)) map[string]manifesttest.Resource {
	t.Helper()
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		backup, err := aws.NewProvider(ctx, "backup", &aws.ProviderArgs{Region: pulumi.String("eu-west-1")})
		if err != nil {
			return err
		}
		args := &Args{TrustDomain: "prod.company.com", BackupProvider: backup, Protect: true}
		if change != nil {
			change(args)
		}
		p, err := New(ctx, "p", args)
		if err != nil {
			return err
		}
		// What the outputs say is recorded as the input of a resource.
		var r pulumi.CustomResourceState
		return ctx.RegisterResource("test:index:Outputs", "outputs", pulumi.Map{
			"root": p.RootARN, "subordinate": p.SubordinateARN, "standby": p.StandbyARN,
			"rootCertificate": p.RootCertificate, "standbyCertificate": p.StandbyCertificate,
		}, &r)
	})
	out := map[string]manifesttest.Resource{}
	for _, kind := range []string{"CertificateAuthority", "Certificate", "CertificateAuthorityCertificate", "Outputs"} {
		for _, r := range g.All(kind) {
			require.NotContains(t, out, r.Name)
			out[r.Name] = r
		}
	}
	return out
}

func get(r manifesttest.Resource, path string) any { return manifesttest.Get(r.Object, path) }

func TestChains(t *testing.T) {
	resources := record(t, nil)
	require.Len(t, resources, 2*2*3+1)
	for _, prefix := range []string{"p", "p-standby"} {
		for _, kind := range []string{"root", "subordinate"} {
			name := prefix + "-" + kind
			ca, certificate, installed := resources[name], resources[name+"-certificate"], resources[name+"-installed"]
			require.Equal(t, strings.ToUpper(kind), get(ca, "type"))
			require.Equal(t, "GENERAL_PURPOSE", get(ca, "usageMode"))
			require.Equal(t, "FIPS_140_2_LEVEL_3_OR_HIGHER", get(ca, "keyStorageSecurityStandard"))
			require.Equal(t, 30.0, get(ca, "permanentDeletionTimeInDays"))
			require.Equal(t, "EC_secp384r1", get(ca, "certificateAuthorityConfiguration.keyAlgorithm"))
			require.Equal(t, "SHA384WITHECDSA", get(ca, "certificateAuthorityConfiguration.signingAlgorithm"))
			require.Equal(t, "prod.company.com", get(ca, "certificateAuthorityConfiguration.subject.organizationalUnit"))
			require.Equal(t, true, get(ca, "revocationConfiguration.ocspConfiguration.enabled"))
			require.Equal(t, "SHA384WITHECDSA", get(certificate, "signingAlgorithm"))

			arn := "arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/"
			require.Equal(t, arn+prefix+"-root", get(certificate, "certificateAuthorityArn"), "the root signs both")
			require.Contains(t, get(certificate, "certificateSigningRequest"), name+"\n")
			require.Equal(t, arn+name, get(installed, "certificateAuthorityArn"))
			require.Contains(t, get(installed, "certificate"), "\n"+name+"-certificate\n")
			for _, r := range []manifesttest.Resource{ca, certificate, installed} {
				require.True(t, r.Protect, r.Name)
				require.Equal(t, prefix == "p-standby", r.Provider == "backup", "%s is made by %q", r.Name, r.Provider)
			}
		}
		require.Equal(t, "arn:aws:acm-pca:::template/RootCACertificate/V1", get(resources[prefix+"-root-certificate"], "templateArn"))
		require.Equal(t, "arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen1/V1", get(resources[prefix+"-subordinate-certificate"], "templateArn"))
		require.Equal(t, "10", get(resources[prefix+"-root-certificate"], "validity.value"))
		require.Equal(t, "5", get(resources[prefix+"-subordinate-certificate"], "validity.value"))
		require.Nil(t, get(resources[prefix+"-root-installed"], "certificateChain"), "a root's certificate has no chain")
		require.Contains(t, get(resources[prefix+"-subordinate-installed"], "certificateChain"), "chain of "+prefix+"-subordinate-certificate")
		require.Contains(t, resources[prefix+"-subordinate-certificate"].Dependencies, prefix+"-root-installed", "the root cannot sign before")
	}
	subjects := map[any]bool{}
	for _, name := range []string{"p-root", "p-subordinate", "p-standby-root", "p-standby-subordinate"} {
		subjects[get(resources[name], "certificateAuthorityConfiguration.subject.commonName")] = true
	}
	require.Len(t, subjects, 4, "two authorities with one name cannot be told apart in a chain")
}

func TestOutputs(t *testing.T) {
	out := record(t, nil)["outputs"]
	const arn = "arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/"
	require.Equal(t, arn+"p-root", get(out, "root"))
	require.Equal(t, arn+"p-subordinate", get(out, "subordinate"))
	require.Equal(t, arn+"p-standby-subordinate", get(out, "standby"))
	require.Contains(t, get(out, "rootCertificate"), "\np-root-certificate\n")
	require.Contains(t, get(out, "standbyCertificate"), "\np-standby-root-certificate\n")
	require.Subset(t, out.Dependencies, []string{"p-subordinate-installed", "p-standby-subordinate-installed"},
		"who is given an authority finds it ready")
}

func TestShortLived(t *testing.T) {
	resources := record(t, func(a *Args) { a.UsageMode, a.Algorithm, a.Protect = ShortLived, P256, false })
	for _, prefix := range []string{"p", "p-standby"} {
		require.Equal(t, "GENERAL_PURPOSE", get(resources[prefix+"-root"], "usageMode"), "its subordinate lives for years")
		require.Equal(t, "SHORT_LIVED_CERTIFICATE", get(resources[prefix+"-subordinate"], "usageMode"))
		require.Nil(t, get(resources[prefix+"-subordinate"], "revocationConfiguration"))
		require.Equal(t, "SHA256WITHECDSA", get(resources[prefix+"-subordinate-certificate"], "signingAlgorithm"))
		require.False(t, resources[prefix+"-root"].Protect)
	}
	require.Equal(t, 7*24*time.Hour, ShortLived.MaxTTL())
	require.Zero(t, GeneralPurpose.MaxTTL())
}

func TestRefusesArguments(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Args)
		want   []string
	}{
		{"nothing", func(a *Args) { *a = Args{} }, []string{"trustDomain", "backupProvider"}},
		{"everything", func(a *Args) {
			a.TrustDomain, a.Organization = strings.Repeat("a", 65), strings.Repeat("b", 65)
			a.Algorithm, a.UsageMode, a.Storage, a.RootYears, a.SubordinateYears, a.DeletionDays = "RSA_2048", "SHORT", "none", 31, -1, 6
		}, []string{"trustDomain", "organization", "algorithm", "usageMode", "storage", "rootYears", "subordinateYears", "deletionDays"}},
		{"subordinate that outlives its root", func(a *Args) { a.SubordinateYears = 10 }, []string{"subordinateYears"}},
		{"deletion after a month", func(a *Args) { a.DeletionDays = 31 }, []string{"deletionDays"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := &Args{TrustDomain: "prod.company.com", BackupProvider: &aws.Provider{}}
			c.change(args)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "p", args)
				return err
			})
			for _, field := range c.want {
				require.ErrorContains(t, err, field+`: "`)
			}
		})
	}
}
