package server

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/postgres/cabundle"
	"ephemos.dev/deploy/components/spire/awsaccess"
	"ephemos.dev/deploy/components/spire/config"
)

// RDS is a database of Amazon RDS or Aurora, which the servers sign in to by IAM.
type RDS struct {
	// Region of the database. Required.
	Region string
	// Endpoint is the name that AWS gave to the cluster's writer. Required.
	Endpoint pulumi.StringInput
	// ReaderEndpoint is the name of the cluster's readers; see config.RDS for what reading there costs. Default: none.
	ReaderEndpoint pulumi.StringInput
	// CABundle are the certificates, PEM, of the CAs that sign the database's: AWS' bundle of the region
	// (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html). Required.
	CABundle string
}

// KMS keeps the servers' private keys in AWS KMS. Then they have no volumes: a server whose node or zone is lost starts elsewhere,
// with the keys it had.
//
// Each server is known to KMS by the cluster's and its pod's name (awsaccess.Identity), not by an identifier that SPIRE makes and
// keeps in a file. A file would need a volume, which binds the server to a zone, and with the file the keys would be lost: the trust
// bundle would grow by the new ones, and the old ones would stay in KMS for two weeks. And a name that is known beforehand is one
// that policies can hold against the pod that uses it.
type KMS struct {
	// Region of the keys. Required.
	Region string
	// AccountID is the account, twelve digits. Required.
	AccountID string
	// RoleARN is the role of the servers' service account, which the keys' policies let in. Required.
	RoleARN pulumi.StringInput
	// KeyTags are further tags of new keys. Default: none.
	KeyTags map[string]string
}

// PrivateCA is the upstream CA in AWS Private CA.
type PrivateCA struct {
	// Region of the CA. Required.
	Region string
	// ARN of the CA. Another one is taken up by servers that start anew, which a change brings about. Required.
	ARN pulumi.StringInput
	// TemplateARN and SigningAlgorithm are as in config.PrivateCA.
	TemplateARN, SigningAlgorithm string
	// StandbyRoots are certificates, PEM, of roots that are trusted beside the CA's: a standby CA's, so that everyone trusts it before
	// it signs. Default: none.
	StandbyRoots pulumi.StringInput
}

// The variables that the servers' configuration refers to.
const (
	envPodName   = "SPIRE_POD_NAME"
	envDatabase  = "SPIRE_DB_ENDPOINT"
	envReader    = "SPIRE_DB_READER_ENDPOINT"
	envAuthority = "SPIRE_UPSTREAM_CA_ARN"
)

// standbyKey is the key of the ConfigMap with what only AWS knows.
const standbyKey = "standby.crt"

// awsConfig puts into the configuration what the AWS variants determine.
func (a Args) awsConfig(c *config.Server) {
	if rds := a.Database.RDS; rds != nil {
		c.DataStore.RDS = &config.RDS{Region: rds.Region, Endpoint: config.Value{Env: envDatabase}}
		if rds.ReaderEndpoint != nil {
			c.DataStore.RDS.ReaderEndpoint = config.Value{Env: envReader}
		}
	}
	if a.KMS != nil {
		c.KMS = &config.KMS{
			Region: a.KMS.Region, KeyIdentifier: config.Value{Text: awsaccess.Identity(a.ClusterName, ""), Env: envPodName}, KeyTags: a.KMS.KeyTags,
		}
	}
	if ca := a.PrivateCA; ca != nil {
		c.PrivateCA = &config.PrivateCA{
			Region: ca.Region, CertificateAuthorityARN: config.Value{Env: envAuthority}, TemplateARN: ca.TemplateARN, SigningAlgorithm: ca.SigningAlgorithm,
		}
		if ca.StandbyRoots != nil {
			c.PrivateCA.SupplementalBundlePath = config.ServerSupplementalPath
		}
	}
}

var environmentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (a Args) validateAWS(add func(key string, value any, allowed string)) {
	if rds := a.Database.RDS; rds != nil {
		if rds.Endpoint == nil {
			add("database.rds.endpoint", "", "it must be set")
		}
		if err := cabundle.Check(rds.CABundle); err != nil {
			add("database.rds.caBundle", err.Error(), "it must be certificates of CAs in PEM, and nothing else")
		}
		for key, value := range map[string]pulumi.StringInput{"database.caSecret": a.Database.CASecret, "database.clientSecret": a.Database.ClientSecret} {
			if value != nil {
				add(key, "", "it must not be set with a database of RDS, which has a CA bundle and IAM")
			}
		}
		if a.Database.Host != "" {
			add("database.host", a.Database.Host, "it must not be set with a database of RDS, which has an endpoint")
		}
	}
	if a.KMS != nil {
		if a.KMS.RoleARN == nil {
			add("kms.roleARN", "", "it must be set")
		}
		if !accountID.MatchString(a.KMS.AccountID) {
			add("kms.accountID", a.KMS.AccountID, "it must be an account of twelve digits")
		}
	}
	if a.PrivateCA != nil {
		if a.PrivateCA.ARN == nil {
			add("privateCA.arn", "", "it must be set")
		}
		if a.UpstreamCASecret != nil {
			add("upstreamCASecret", "", "it must not be set with a CA in AWS Private CA")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Env)) {
		key := "env." + name
		switch {
		case !environmentName.MatchString(name):
			add(key, name, "it must be the name of an environment variable")
		case a.Env[name] == nil:
			add(key, "", "it must be set")
		case strings.HasPrefix(name, "SPIRE_"), strings.HasPrefix(name, "PG"):
			add(key, name, "the servers' own variables and those of Postgres' drivers follow from the other arguments")
		case name == "AWS_ACCESS_KEY_ID", name == "AWS_SECRET_ACCESS_KEY", name == "AWS_SESSION_TOKEN":
			add(key, name, "the servers' rights in AWS come from their service account")
		}
	}
}

var accountID = regexp.MustCompile(`^[0-9]{12}$`)

// environment is what the server's container finds in its environment: what its configuration refers to, and Args.Env.
func (b *builder) environment() corev1.EnvVarArray {
	a := b.args
	values := maps.Clone(a.Env)
	if values == nil {
		values = map[string]pulumi.StringInput{}
	}
	if rds := a.Database.RDS; rds != nil {
		values[envDatabase] = rds.Endpoint
		if rds.ReaderEndpoint != nil {
			values[envReader] = rds.ReaderEndpoint
		}
	}
	if a.PrivateCA != nil {
		values[envAuthority] = a.PrivateCA.ARN
	}
	var env corev1.EnvVarArray
	if a.KMS != nil {
		// First, because a mount refers to it.
		env = append(env, corev1.EnvVarArgs{Name: pulumi.String(envPodName), ValueFrom: &corev1.EnvVarSourceArgs{
			FieldRef: &corev1.ObjectFieldSelectorArgs{FieldPath: pulumi.String("metadata.name")},
		}})
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		env = append(env, corev1.EnvVarArgs{Name: pulumi.String(name), Value: values[name].ToStringOutput().ToStringPtrOutput()})
	}
	return env
}

// awsFiles are the ConfigMaps of the AWS variants; nil where there is none.
type awsFiles struct {
	// bundle are the certificates of the database's CAs. Named by its content.
	bundle *corev1.ConfigMap
	// known has what AWS knows first: the policy of each server's keys, and the standby CA's root. The servers read it when they start,
	// so that a change of checksum has to make them.
	known    *corev1.ConfigMap
	checksum pulumi.StringOutput
}

func (b *builder) awsFiles() (awsFiles, error) {
	a := b.args
	var files awsFiles
	var err error
	if rds := a.Database.RDS; rds != nil {
		meta := b.meta(manifest.Hashed(a.Name+"-database-ca", rds.CABundle))
		if files.bundle, err = corev1.NewConfigMap(b.ctx, b.name+"-database-ca", &corev1.ConfigMapArgs{
			Metadata: meta, Immutable: pulumi.Bool(true),
			Data: pulumi.StringMap{path.Base(b.config().DataStore.RootCertPath): pulumi.String(rds.CABundle)},
		}, b.opts...); err != nil {
			return files, err
		}
	}
	data := pulumi.StringMap{}
	if a.KMS != nil {
		for n := range a.Replicas {
			pod := fmt.Sprintf("%s-%d", a.Name, n)
			if data[pod+".json"], err = awsaccess.KeyPolicy(awsaccess.KeyPolicyArgs{
				AccountID: a.KMS.AccountID, RoleARN: a.KMS.RoleARN, Pod: pod,
			}); err != nil {
				return files, err
			}
		}
	}
	if a.PrivateCA != nil && a.PrivateCA.StandbyRoots != nil {
		data[standbyKey] = a.PrivateCA.StandbyRoots
	}
	if len(data) == 0 {
		return files, nil
	}
	files.checksum = data.ToStringMapOutput().ApplyT(func(data map[string]string) string {
		hash := sha256.New()
		for _, key := range slices.Sorted(maps.Keys(data)) {
			fmt.Fprintf(hash, "%q=%q\n", key, data[key])
		}
		return hex.EncodeToString(hash.Sum(nil))
	}).(pulumi.StringOutput)
	files.known, err = corev1.NewConfigMap(b.ctx, b.name+"-aws", &corev1.ConfigMapArgs{Metadata: b.meta(a.Name + "-aws"), Data: data}, b.opts...)
	return files, err
}

// awsMounts mounts the files of the AWS variants but the bundle.
func (b *builder) awsMounts() corev1.VolumeMountArray {
	var mounts corev1.VolumeMountArray
	if b.args.KMS != nil {
		policy := manifest.ReadOnlyMount("aws", b.config().KMS.KeyPolicyPath)
		// Each server sees the policy of its own keys.
		policy.SubPathExpr = pulumi.String("$(" + envPodName + ").json")
		mounts = append(mounts, policy)
	}
	if b.args.PrivateCA != nil && b.args.PrivateCA.StandbyRoots != nil {
		standby := manifest.ReadOnlyMount("aws", b.config().PrivateCA.SupplementalBundlePath)
		standby.SubPath = pulumi.String(standbyKey)
		mounts = append(mounts, standby)
	}
	return mounts
}
