package config

import (
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// awsServer is the server of the AWS platform: whatever AWS names when it is made comes from the environment.
func awsServer() Server {
	s := minimalServer()
	s.DataStore = Postgres{Database: "spire", User: "spire", RDS: &RDS{Region: "eu-central-1", Endpoint: Value{Env: "SPIRE_DB_ENDPOINT"}}}
	s.KMS = &KMS{Region: "eu-central-1", KeyIdentifier: Value{Text: "prod-", Env: "SPIRE_POD_NAME"}}
	s.PrivateCA = &PrivateCA{
		Region: "eu-central-1", CertificateAuthorityARN: Value{Env: "SPIRE_UPSTREAM_CA_ARN"}, SupplementalBundlePath: ServerSupplementalPath,
	}
	return s
}

// awsNamedServer names everything and sets everything that changes the text.
func awsNamedServer() Server {
	s := awsServer()
	s.DataStore.RDS.Endpoint = Value{Text: "spire.cluster-abc123.eu-central-1.rds.amazonaws.com"}
	s.DataStore.RDS.ReaderEndpoint = Value{Text: "spire.cluster-ro-abc123.eu-central-1.rds.amazonaws.com"}
	s.KMS.KeyIdentifier, s.KMS.KeyIdentifierFile = Value{}, ServerDataDir+"/key-identifier"
	s.KMS.KeyPolicyPath = "/run/spire/kms/other.json"
	s.KMS.KeyTags = map[string]string{"Environment": "production", "Cost Center": "42"}
	s.PrivateCA = &PrivateCA{
		Region: "eu-central-1", SigningAlgorithm: "SHA384WITHECDSA",
		CertificateAuthorityARN: Value{Text: "arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/12ac02bc-d425-49f7-ab78-570a44972772"},
		TemplateARN:             "arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen1/V1",
	}
	return s
}

// environment is what the servers' pods have of the variables of awsServer.
var environment = map[string]string{
	"SPIRE_DB_ENDPOINT":     "spire.cluster-abc123.eu-central-1.rds.amazonaws.com",
	"SPIRE_POD_NAME":        "spire-server-0",
	"SPIRE_UPSTREAM_CA_ARN": "arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/12ac02bc-d425-49f7-ab78-570a44972772",
}

func TestEnvironment(t *testing.T) {
	require.Equal(t, []string{"SPIRE_DB_ENDPOINT", "SPIRE_POD_NAME", "SPIRE_UPSTREAM_CA_ARN"}, awsServer().Environment())
	require.Empty(t, awsNamedServer().Environment())
	require.Empty(t, minimalServer().Environment(), "a server without AWS needs no -expandEnv")
}

// expand does what SPIRE does with -expandEnv (pkg/common/config).
func expand(t *testing.T, text string, env map[string]string) string {
	t.Helper()
	return os.Expand(text, func(name string) string {
		value, known := env[name]
		require.True(t, known, "%s is not among Environment", name)
		return value
	})
}

// TestExpansion holds that -expandEnv finds the variables and nothing else to replace, and that what it makes is what a
// configuration with the values in it says.
func TestExpansion(t *testing.T) {
	s := awsServer()
	s.CASubject = CASubject{CommonName: "costs $HOME ${HOME} $$"}
	text, err := s.Render()
	require.NoError(t, err)
	expanded := parse(t, expand(t, text, environment))
	for path, want := range map[string]string{
		"server.ca_subject.common_name":                                           "costs $HOME ${HOME} $$",
		"plugins.KeyManager.aws_kms.plugin_data.key_identifier_value":             "prod-spire-server-0",
		"plugins.UpstreamAuthority.aws_pca.plugin_data.certificate_authority_arn": environment["SPIRE_UPSTREAM_CA_ARN"],
		"plugins.DataStore.sql.plugin_data.database_type.aws_postgres.region":     "eu-central-1",
		"plugins.UpstreamAuthority.aws_pca.plugin_data.ca_signing_template_arn":   DefaultCATemplate,
		"plugins.UpstreamAuthority.aws_pca.plugin_data.supplemental_bundle_path":  ServerSupplementalPath,
		"plugins.KeyManager.aws_kms.plugin_data.key_policy_file":                  ServerKeyPolicyPath,
		"plugins.DataStore.sql.plugin_data.connection_string": "host=spire.cluster-abc123.eu-central-1.rds.amazonaws.com port=5432 dbname=spire user=spire " +
			"sslmode=verify-full sslrootcert=/run/spire/db/ca/ca.crt connect_timeout=3 target_session_attrs=read-write application_name=spire-server",
	} {
		require.Equal(t, want, lookup(t, expanded, path), path)
	}
	require.Equal(t, true, lookup(t, expanded, "plugins.KeyManager.aws_kms.plugin_data.enable_tag_based_key_discovery"))
	for _, absent := range []string{"plugins.DataStore.sql.plugin_data.ro_connection_string", "plugins.KeyManager.disk", "plugins.UpstreamAuthority.disk"} {
		require.Nil(t, lookup(t, expanded, absent), absent)
	}
}

// TestNoCredentialInText holds that there is no password, and no access key, which the plugins would take, in any AWS variant.
func TestNoCredentialInText(t *testing.T) {
	for _, s := range []Server{awsServer(), awsNamedServer()} {
		text, err := s.Render()
		require.NoError(t, err)
		for _, word := range []string{"password", "sslkey", "access_key", "assume_role"} {
			require.NotContains(t, text, word)
		}
		require.Contains(t, text, "sslmode=verify-full")
	}
}

// TestDefaultsLeaveTheCallersValue holds that filling in defaults does not write through the pointers of a configuration.
func TestDefaultsLeaveTheCallersValue(t *testing.T) {
	s := awsServer()
	filled := s.WithDefaults()
	require.Equal(t, filled, filled.WithDefaults())
	require.Empty(t, s.KMS.KeyPolicyPath)
	require.Empty(t, s.PrivateCA.TemplateARN)
	require.Empty(t, filled.KeysPath)
	require.Empty(t, filled.DataStore.KeyPath)
	require.Equal(t, DiskAuthority{}, filled.UpstreamAuthority)
}

func TestAWSRefuses(t *testing.T) {
	many := map[string]string{}
	for i := range 46 {
		many[strings.Repeat("x", i+1)] = ""
	}
	arn := func(s string) func(*Server) {
		return func(v *Server) { v.PrivateCA.CertificateAuthorityARN = Value{Text: s} }
	}
	template := func(s string) func(*Server) { return func(v *Server) { v.PrivateCA.TemplateARN = s } }
	for _, c := range []struct {
		name   string
		change func(*Server)
		want   []string
	}{
		{"no database region", func(s *Server) { s.DataStore.RDS.Region = "" }, []string{"aws_postgres region", `""`, "eu-central-1"}},
		{"zone as a region", func(s *Server) { s.DataStore.RDS.Region = "eu-central-1a" }, []string{"aws_postgres region", "eu-central-1a"}},
		{"no endpoint", func(s *Server) { s.DataStore.RDS.Endpoint = Value{} }, []string{"connection_string host", "must be set"}},
		{"own name of the database", func(s *Server) { s.DataStore.RDS.Endpoint = Value{Text: "db.internal"} }, []string{"connection_string host", "db.internal", "token"}},
		{"endpoint with a port", func(s *Server) { s.DataStore.RDS.Endpoint = Value{Text: "a.b.rds.amazonaws.com:5432"} }, []string{"connection_string host", ":5432"}},
		{"several endpoints", func(s *Server) { s.DataStore.RDS.Endpoint = Value{Text: "a.rds.amazonaws.com,b.rds.amazonaws.com"} }, []string{"connection_string host"}},
		{"name of a variable", func(s *Server) { s.DataStore.RDS.Endpoint = Value{Env: "db-endpoint"} }, []string{"connection_string host", "db-endpoint", "environment"}},
		{"text before a variable", func(s *Server) { s.DataStore.RDS.Endpoint = Value{Text: "x' ", Env: "E"} }, []string{"connection_string host", "before a variable"}},
		{"writer as reader", func(s *Server) { s.DataStore.RDS.ReaderEndpoint = s.DataStore.RDS.Endpoint }, []string{"ro_connection_string host", "writer"}},
		{"reader's name", func(s *Server) { s.DataStore.RDS.ReaderEndpoint = Value{Text: "ro.internal"} }, []string{"ro_connection_string host", "ro.internal"}},
		{"host and endpoint", func(s *Server) { s.DataStore.Host = "db" }, []string{"connection_string host", "must not be set"}},
		{"certificate and token", func(s *Server) { s.DataStore.CertPath = "/x" }, []string{"connection_string sslcert", "must not be set"}},
		{"unverified", func(s *Server) { s.DataStore.SSLMode = "require" }, []string{"sslmode", "require", "verify-full"}},
		{"no CA bundle", func(s *Server) { s.DataStore.RootCertPath = "rds.pem" }, []string{"sslrootcert", "absolute"}},

		{"no region of keys", func(s *Server) { s.KMS.Region = "" }, []string{"KeyManager.aws_kms.region"}},
		{"no identity", func(s *Server) { s.KMS.KeyIdentifier = Value{} }, []string{"key_identifier_value", "key_identifier_file"}},
		{"two identities", func(s *Server) { s.KMS.KeyIdentifierFile = ServerDataDir + "/id" }, []string{"key_identifier_value", "together"}},
		{"shared identity file", func(s *Server) { s.KMS.KeyIdentifier, s.KMS.KeyIdentifierFile = Value{}, "/shared/id" }, []string{"key_identifier_file", "data_dir"}},
		{"identity", func(s *Server) { s.KMS.KeyIdentifier = Value{Text: "prod.0"} }, []string{"key_identifier_value", "prod.0", "letters"}},
		{"identity that SPIRE alone takes", func(s *Server) { s.KMS.KeyIdentifier = Value{Text: "a^b"} }, []string{"key_identifier_value", "a^b"}},
		{"identity of AWS", func(s *Server) { s.KMS.KeyIdentifier = Value{Text: "alias/aws/x"} }, []string{"key_identifier_value", "alias/aws/"}},
		{"long identity", func(s *Server) { s.KMS.KeyIdentifier = Value{Text: strings.Repeat("x", 257)} }, []string{"key_identifier_value", "256"}},
		{"policy", func(s *Server) { s.KMS.KeyPolicyPath = "policy.json" }, []string{"key_policy_file", "absolute"}},
		{"keys in two places", func(s *Server) { s.KeysPath = ServerKeysPath }, []string{"KeyManager.disk.keys_path", "KMS"}},
		{"tag of SPIRE", func(s *Server) { s.KMS.KeyTags = map[string]string{"SPIRE-active": "x"} }, []string{"key_tags.SPIRE-active", "reserved"}},
		{"tag of AWS", func(s *Server) { s.KMS.KeyTags = map[string]string{"AWS:x": "x"} }, []string{"key_tags.AWS:x", "reserved"}},
		{"tag's key", func(s *Server) { s.KMS.KeyTags = map[string]string{"a*": "x"} }, []string{"key_tags.a*"}},
		{"tag's value", func(s *Server) { s.KMS.KeyTags = map[string]string{"a": "*"} }, []string{"key_tags.a", "256"}},
		{"many tags", func(s *Server) { s.KMS.KeyTags = maps.Clone(many) }, []string{"key_tags", "45"}},

		{"region of the CA", func(s *Server) { s.PrivateCA.Region = "Frankfurt" }, []string{"UpstreamAuthority.aws_pca.region", "Frankfurt"}},
		{"no CA", arn(""), []string{"certificate_authority_arn", "must be set"}},
		{"name of a CA", arn("root"), []string{"certificate_authority_arn", "root", "ARN"}},
		{"certificate of a CA", arn("arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/1/certificate/2"), []string{"certificate_authority_arn"}},
		{"CA elsewhere", arn("arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/1"), []string{"certificate_authority_arn", "region eu-central-1"}},
		{"algorithm", func(s *Server) { s.PrivateCA.SigningAlgorithm = "SHA1WITHRSA" }, []string{"signing_algorithm", "SHA1WITHRSA", "SHA256WITHECDSA"}},
		{"template for end entities", template("arn:aws:acm-pca:::template/EndEntityCertificate/V1"), []string{"ca_signing_template_arn", "subordinate"}},
		{"template for a root", template("arn:aws:acm-pca:::template/RootCACertificate/V1"), []string{"ca_signing_template_arn", "subordinate"}},
		{"supplemental bundle", func(s *Server) { s.PrivateCA.SupplementalBundlePath = "x.pem" }, []string{"supplemental_bundle_path", "absolute"}},
		{"policy in the place of a bundle", func(s *Server) { s.PrivateCA.SupplementalBundlePath = ServerKeyPolicyPath }, []string{"supplemental_bundle_path", "key_policy_file"}},
		{"two upstreams", func(s *Server) { s.UpstreamAuthority.CertPath = "/x" }, []string{"UpstreamAuthority.disk", "one upstream"}},
		{"upstream and none", func(s *Server) { s.UpstreamAuthority.SelfSigned = true }, []string{"UpstreamAuthority.disk", "one upstream"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := awsServer()
			c.change(&s)
			_, err := s.Render()
			require.Error(t, err)
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
			require.Len(t, strings.Split(err.Error(), "\n"), 1, "one mistake is one message: %v", err)
		})
	}
}
