package config

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Paths and names of the AWS variants' defaults.
const (
	ServerKeyPolicyPath    = "/run/spire/kms/policy.json"
	ServerSupplementalPath = "/run/spire/upstream/standby.crt"
	// DefaultCATemplate is the template with which AWS Private CA signs a CA that signs end entities only.
	DefaultCATemplate = "arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen0/V1"
)

// A Value is a setting of which a part may be known only when the server starts: Text, followed by the content of the environment
// variable Env, if that is set. SPIRE puts the variables in when it runs with -expandEnv (Server.Environment says whether it has
// to). It does so before it reads the file, so a variable must hold neither quotes nor backslashes; names and ARNs of AWS do not.
type Value struct {
	Text, Env string
}

// IsZero reports whether the value is empty.
func (v Value) IsZero() bool { return v == Value{} }

// String is the value as it is written: with ${Env}.
func (v Value) String() string {
	if v.Env == "" {
		return v.Text
	}
	return v.Text + "${" + v.Env + "}"
}

// RDS makes the server sign in to a Postgres of Amazon RDS or Aurora with a token of its IAM role, which is good for fifteen
// minutes and made anew for each connection, instead of with a client certificate.
type RDS struct {
	// Region of the database, for example "eu-central-1". Required.
	Region string
	// Endpoint is the host name of the cluster's writer. It has to be the name that AWS gave: the token is signed for it. Required.
	Endpoint Value
	// ReaderEndpoint is the host name of the cluster's readers. The servers then read there what may be a little old: the entries for
	// their cache and the events. A server that finds no reader does not start, and readers that lag make entries disappear for as
	// long (https://github.com/spiffe/spire/issues/7210). Default: none, everything is read from the writer.
	ReaderEndpoint Value
}

// KMS keeps the server's private keys in AWS KMS, where SPIRE makes and replaces them. Keys are found by their tags.
type KMS struct {
	// Region of the keys. Required.
	Region string
	// KeyIdentifier tells this server's keys from the other servers' of the trust domain: letters, digits, dashes, underscores and
	// slashes. Servers that share it take each other's keys away. Required unless KeyIdentifierFile is set.
	KeyIdentifier Value
	// KeyIdentifierFile is a file on the server's own volume in which SPIRE keeps an identifier that it makes itself.
	KeyIdentifierFile string
	// KeyPolicyPath is the policy that each new key gets. Without one, SPIRE's own gives the servers' role every right to every server's
	// keys. Default ServerKeyPolicyPath.
	KeyPolicyPath string
	// KeyTags are further tags of new keys. Default: none.
	KeyTags map[string]string
}

// PrivateCA is an upstream CA in AWS Private CA.
type PrivateCA struct {
	// Region of the CA. Required.
	Region string
	// CertificateAuthorityARN names the CA. SPIRE reads it when it starts. Required.
	CertificateAuthorityARN Value
	// SigningAlgorithm signs the servers' CAs; it has to fit the upstream CA's key. Default: the upstream CA's own.
	SigningAlgorithm string
	// TemplateARN is a template of AWS Private CA for a subordinate CA. Default DefaultCATemplate, with which the servers' CAs can sign no
	// further CA.
	TemplateARN string
	// SupplementalBundlePath is a file of root certificates that are trusted beside the upstream CA's, so that a standby CA is known
	// everywhere before it is needed. Default: none.
	SupplementalBundlePath string
}

func (k KMS) withDefaults() *KMS {
	k.KeyPolicyPath = cmp.Or(k.KeyPolicyPath, ServerKeyPolicyPath)
	return &k
}

func (a PrivateCA) withDefaults() *PrivateCA {
	a.TemplateARN = cmp.Or(a.TemplateARN, DefaultCATemplate)
	return &a
}

var (
	regionName = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}$`)
	envName    = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	// SPIRE's own pattern, [A-z0-9/_-], lets through a few characters more, which KMS refuses in an alias.
	keyIdentifier = regexp.MustCompile(`^[A-Za-z0-9/_-]*$`)
	rdsHost       = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+\.rds\.amazonaws\.com(\.cn)?$`)
	caARN         = regexp.MustCompile(`^arn:aws[a-z-]*:acm-pca:([a-z0-9-]+):[0-9]{12}:certificate-authority/[A-Za-z0-9-]+$`)
	caTemplateARN = regexp.MustCompile(`^arn:aws[a-z-]*:acm-pca:::template/SubordinateCACertificate_PathLen([0-3])(_[A-Za-z]+)?/V[0-9]+$`)
	// What SPIRE and KMS take as a tag (pkg/server/plugin/keymanager/awskms, validateTags).
	tagKey   = regexp.MustCompile(`^[\p{L}\p{N}\s+\-=._:/@]{1,128}$`)
	tagValue = regexp.MustCompile(`^[\p{L}\p{N}\s+\-=._:/@]{0,256}$`)
)

// caAlgorithms are AWS Private CA's that fit a key type SPIRE knows, without SHA-1-like short ones.
var caAlgorithms = []string{
	"SHA256WITHECDSA", "SHA384WITHECDSA", "SHA512WITHECDSA", "SHA256WITHRSA", "SHA384WITHRSA", "SHA512WITHRSA",
}

func (p *problems) region(key, value string) {
	if !regionName.MatchString(value) {
		p.add(key, value, "it must be a region of AWS such as eu-central-1")
	}
}

// value checks a value: its text by the pattern, when nothing follows from the environment, and its variable's name.
func (p *problems) value(key string, v Value, whole *regexp.Regexp, allowed string) {
	switch {
	case v.IsZero():
		p.add(key, v, "it must be set")
	case v.Env != "" && !envName.MatchString(v.Env):
		p.add(key, v, "the name of an environment variable must be of capital letters, digits and underscores")
	case v.Env == "" && !whole.MatchString(v.Text):
		p.add(key, v, allowed)
	case v.Env != "":
		// Before a variable there may be a part of a name, nothing that could close a quotation.
		if !keyIdentifier.MatchString(v.Text) {
			p.add(key, v, "before a variable there must be only letters, digits, slashes, dashes and underscores")
		}
	}
}

func (r RDS) validate(p *problems) {
	const prefix = "DataStore.sql."
	p.region(prefix+"database_type aws_postgres region", r.Region)
	const allowed = "it must be the name that AWS gave to the cluster's endpoint, without port; the token of IAM is signed for it"
	p.value(prefix+"connection_string host", r.Endpoint, rdsHost, allowed)
	if !r.ReaderEndpoint.IsZero() {
		p.value(prefix+"ro_connection_string host", r.ReaderEndpoint, rdsHost, allowed)
		if r.ReaderEndpoint == r.Endpoint {
			p.add(prefix+"ro_connection_string host", r.ReaderEndpoint, "it must not be the writer's endpoint")
		}
	}
}

func (k KMS) validate(p *problems, dataDir string) {
	const prefix = "KeyManager.aws_kms."
	p.region(prefix+"region", k.Region)
	const identity = prefix + "key_identifier_value"
	switch {
	case k.KeyIdentifier.IsZero() && k.KeyIdentifierFile == "":
		p.add(identity, "", "it or key_identifier_file must be set: the server would not find its keys again")
	case !k.KeyIdentifier.IsZero() && k.KeyIdentifierFile != "":
		p.add(identity, k.KeyIdentifier, "it must not be set together with key_identifier_file")
	case k.KeyIdentifierFile != "":
		if p.file(prefix+"key_identifier_file", k.KeyIdentifierFile) && !strings.HasPrefix(k.KeyIdentifierFile, dataDir+"/") {
			p.add(prefix+"key_identifier_file", k.KeyIdentifierFile, "it must be in data_dir, the volume of this server alone: "+dataDir)
		}
	case strings.HasPrefix(k.KeyIdentifier.Text, "alias/aws/") || len(k.KeyIdentifier.Text) > 256:
		p.add(identity, k.KeyIdentifier, "it must not start with alias/aws/ and have at most 256 characters")
	default:
		p.value(identity, k.KeyIdentifier, keyIdentifier, "it must have only letters, digits, slashes, dashes and underscores")
	}
	p.file(prefix+"key_policy_file", k.KeyPolicyPath)
	// SPIRE adds five of its own, and KMS takes fifty.
	if len(k.KeyTags) > 45 {
		p.add(prefix+"key_tags", len(k.KeyTags), "there must be at most 45, because SPIRE adds five to the 50 that KMS takes")
	}
	for _, name := range slices.Sorted(maps.Keys(k.KeyTags)) {
		key, lower := prefix+"key_tags."+name, strings.ToLower(name)
		switch {
		case !tagKey.MatchString(name):
			p.add(key, name, "a tag's key must have 1 to 128 letters, digits, blanks and + - = . _ : / @")
		case strings.HasPrefix(lower, "aws:") || strings.HasPrefix(lower, "spire-"):
			p.add(key, name, "a tag's key must not start with aws: or spire-, which are reserved")
		case !tagValue.MatchString(k.KeyTags[name]):
			p.add(key, k.KeyTags[name], "a tag's value must have at most 256 letters, digits, blanks and + - = . _ : / @")
		}
	}
}

func (a PrivateCA) validate(p *problems) {
	const prefix = "UpstreamAuthority.aws_pca."
	p.region(prefix+"region", a.Region)
	const key = prefix + "certificate_authority_arn"
	p.value(key, a.CertificateAuthorityARN, caARN, "it must be the ARN of a CA in AWS Private CA")
	if parts := caARN.FindStringSubmatch(a.CertificateAuthorityARN.Text); parts != nil && parts[1] != a.Region {
		p.add(key, a.CertificateAuthorityARN, "it must be in the region "+a.Region)
	}
	if a.SigningAlgorithm != "" {
		p.oneOf(prefix+"signing_algorithm", a.SigningAlgorithm, caAlgorithms...)
	}
	if !caTemplateARN.MatchString(a.TemplateARN) {
		p.add(prefix+"ca_signing_template_arn", a.TemplateARN, "it must be a template for a subordinate CA such as "+DefaultCATemplate+
			": SPIRE signs identities with what it gets")
	}
	if a.SupplementalBundlePath != "" {
		p.file(prefix+"supplemental_bundle_path", a.SupplementalBundlePath)
	}
}

// Environment returns the names of the environment variables that the configuration refers to, sorted. When there are any, the
// server and its validate command need the flag -expandEnv. A variable that is not set counts as empty to SPIRE.
func (s Server) Environment() []string {
	var values []Value
	if s.DataStore.RDS != nil {
		values = append(values, s.DataStore.RDS.Endpoint, s.DataStore.RDS.ReaderEndpoint)
	}
	if s.KMS != nil {
		values = append(values, s.KMS.KeyIdentifier)
	}
	if s.PrivateCA != nil {
		values = append(values, s.PrivateCA.CertificateAuthorityARN)
	}
	var names []string
	for _, v := range values {
		if v.Env != "" {
			names = append(names, v.Env)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (k KMS) write(w *hclWriter) {
	w.text("region", k.Region)
	if k.KeyIdentifierFile != "" {
		w.text("key_identifier_file", k.KeyIdentifierFile)
	} else {
		w.values("key_identifier_value", k.KeyIdentifier)
	}
	w.text("key_policy_file", k.KeyPolicyPath)
	// The other way lists all keys of the account, and SPIRE is going to drop it.
	w.boolean("enable_tag_based_key_discovery", true)
	if len(k.KeyTags) > 0 {
		w.block("key_tags =", func() {
			for _, name := range slices.Sorted(maps.Keys(k.KeyTags)) {
				w.text(hclQuote(name), k.KeyTags[name])
			}
		})
	}
}

func (a PrivateCA) write(w *hclWriter) {
	w.text("region", a.Region)
	w.values("certificate_authority_arn", a.CertificateAuthorityARN)
	w.text("ca_signing_template_arn", a.TemplateARN)
	if a.SigningAlgorithm != "" {
		w.text("signing_algorithm", a.SigningAlgorithm)
	}
	if a.SupplementalBundlePath != "" {
		w.text("supplemental_bundle_path", a.SupplementalBundlePath)
	}
}

// expandable quotes values, one after the other, as one string of HCL. Of their dollar signs only those that start a variable are
// left for -expandEnv to see.
func expandable(values []Value) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, v := range values {
		quoted := hclQuote(v.Text)
		b.WriteString(quoted[1 : len(quoted)-1])
		if v.Env != "" {
			fmt.Fprintf(&b, "${%s}", v.Env)
		}
	}
	b.WriteByte('"')
	return b.String()
}
