package awsaccess

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/iampolicy"
)

const (
	account = "123456789012"
	caARN   = "arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/1"
	role    = "arn:aws:iam::123456789012:role/spire-server"
)

func serverArgs() ServerArgs {
	return ServerArgs{
		AccountID: account, Region: "eu-central-1", TrustDomain: "prod.company.com", ClusterName: "prod", CAKeyType: "ec-p256",
		Authorities:        []Authority{{ARN: pulumi.String(caARN)}, {ARN: pulumi.String(caARN + "2"), TemplateARN: "arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen1/V1"}},
		DatabaseResourceID: pulumi.String("cluster-ABC"), DatabaseUser: "spire",
	}
}

type mocks struct{ policy resource.PropertyValue }

func (m *mocks) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	m.policy = args.Inputs["policy"]
	return args.Name, args.Inputs, nil
}

func (*mocks) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

// rendered is what arrives at a resource that gets the policy in a preview.
func rendered(t *testing.T, make func() (pulumi.StringOutput, error)) resource.PropertyValue {
	t.Helper()
	m := &mocks{}
	require.NoError(t, pulumi.RunErr(func(ctx *pulumi.Context) error {
		policy, err := make()
		if err != nil {
			return err
		}
		var r pulumi.CustomResourceState
		return ctx.RegisterResource("test:index:Policy", "p", pulumi.Map{"policy": policy}, &r)
	}, pulumi.WithMocks("p", "s", m), func(i *pulumi.RunInfo) { i.DryRun = true }))
	return m.policy
}

// parsed is the policy's statements by their Sid, after AWS' rules have been held against it.
func parsed(t *testing.T, kind iampolicy.Kind, make func() (pulumi.StringOutput, error)) map[string]map[string]any {
	t.Helper()
	text := rendered(t, make).StringValue()
	require.Empty(t, iampolicy.ValidateAs(kind, text), text)
	var document struct{ Statement []map[string]any }
	require.NoError(t, json.Unmarshal([]byte(text), &document))
	bySid := map[string]map[string]any{}
	for _, s := range document.Statement {
		bySid[s["Sid"].(string)] = s
	}
	require.Len(t, bySid, len(document.Statement))
	return bySid
}

// actions are all actions of a policy, sorted.
func actions(statements map[string]map[string]any) []string {
	var all []string
	for _, s := range statements {
		switch a := s["Action"].(type) {
		case string:
			all = append(all, a)
		case []any:
			for _, one := range a {
				all = append(all, one.(string))
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func server(t *testing.T, a ServerArgs) map[string]map[string]any {
	return parsed(t, iampolicy.Inline, func() (pulumi.StringOutput, error) { return ServerPolicy(a) })
}

// TestExactlySPIREsCalls holds that role and key policy together grant what SPIRE calls and no more.
func TestExactlySPIREsCalls(t *testing.T) {
	s := server(t, serverArgs())
	require.Equal(t, []string{
		"acm-pca:DescribeCertificateAuthority", "acm-pca:GetCertificate", "acm-pca:IssueCertificate",
		"kms:CreateAlias", "kms:CreateKey", "kms:ListAliases", "kms:TagResource", "kms:UpdateAlias",
		"rds-db:connect", "tag:GetResources",
	}, actions(s))
	for _, action := range actions(s) {
		require.NotContains(t, action, "*")
	}
	key := parsed(t, iampolicy.Key, func() (pulumi.StringOutput, error) {
		return KeyPolicy(KeyPolicyArgs{AccountID: account, RoleARN: pulumi.String(role), Pod: "spire-server-0"})
	})
	own := actions(map[string]map[string]any{"": key["UseByItsServer"]})
	require.Equal(t, []string{
		"kms:CreateAlias", "kms:DescribeKey", "kms:GetPublicKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:Sign", "kms:TagResource", "kms:UpdateAlias",
	}, own)
}

func TestKeysOfOneServer(t *testing.T) {
	s := server(t, serverArgs())
	pod := "prod-${aws:PrincipalTag/kubernetes-pod-name}"
	require.Equal(t, map[string]any{"StringEquals": map[string]any{
		"kms:KeySpec": "ECC_NIST_P256", "kms:KeyUsage": "SIGN_VERIFY",
		"aws:RequestTag/spire-server-td": "prod.company.com", "aws:RequestTag/spire-server-id": pod,
	}}, s["MakeOwnKeys"]["Condition"])
	require.Equal(t, map[string]any{"StringEquals": map[string]any{
		"aws:RequestTag/spire-server-td": "prod.company.com", "aws:RequestTag/spire-server-id": pod,
	}}, s["TagOwnNewKeys"]["Condition"])
	require.Equal(t, "arn:aws:kms:eu-central-1:123456789012:alias/SPIRE_SERVER/prod_company_com/"+pod+"/*", s["NameOwnKeys"]["Resource"])

	key := parsed(t, iampolicy.Key, func() (pulumi.StringOutput, error) {
		return KeyPolicy(KeyPolicyArgs{AccountID: account, RoleARN: pulumi.String(role), Pod: "spire-server-1"})
	})
	use := key["UseByItsServer"]
	require.Equal(t, map[string]any{"AWS": []any{role}}, use["Principal"])
	require.Equal(t, map[string]any{"StringEquals": map[string]any{"aws:PrincipalTag/kubernetes-pod-name": "spire-server-1"}}, use["Condition"])
	// Whoever else the account's policies let in cannot sign, nor hand the key on.
	for _, action := range actions(map[string]map[string]any{"": key["Administration"]}) {
		for _, never := range []string{"Sign", "*:*", "kms:*", "CreateGrant", "CreateAlias", "UpdateAlias"} {
			require.NotContains(t, action, never)
		}
	}
}

func TestUpstreamAndDatabase(t *testing.T) {
	s := server(t, serverArgs())
	require.Equal(t, caARN, s["AskUpstream0"]["Resource"])
	require.Equal(t, map[string]any{"StringEquals": map[string]any{"acm-pca:TemplateArn": "arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen0/V1"}}, s["AskUpstream0"]["Condition"])
	require.Equal(t, caARN+"2", s["ReadUpstream1"]["Resource"])
	require.Contains(t, s["AskUpstream1"]["Condition"].(map[string]any)["StringEquals"].(map[string]any)["acm-pca:TemplateArn"], "PathLen1")
	require.Equal(t, "arn:aws:rds-db:eu-central-1:123456789012:dbuser:cluster-ABC/spire", s["SignInToDatabase"]["Resource"])

	part := serverArgs()
	part.CAKeyType, part.Authorities = "", nil
	require.Equal(t, []string{"rds-db:connect"}, actions(server(t, part)))
}

func TestSetupReadsOneSecret(t *testing.T) {
	const secret, key = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!cluster-1", "arn:aws:kms:eu-central-1:123456789012:key/1"
	s := parsed(t, iampolicy.Inline, func() (pulumi.StringOutput, error) {
		return SetupPolicy(SetupArgs{SecretARN: pulumi.String(secret), KeyARN: pulumi.String(key), Region: "eu-central-1"})
	})
	require.Equal(t, []string{"kms:Decrypt", "secretsmanager:GetSecretValue"}, actions(s))
	require.Equal(t, secret, s["ReadMasterSecret"]["Resource"])
	require.Equal(t, key, s["DecryptMasterSecret"]["Resource"])
	require.Equal(t, map[string]any{"StringEquals": map[string]any{
		"kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com", "kms:EncryptionContext:SecretARN": secret,
	}}, s["DecryptMasterSecret"]["Condition"])
}

// TestUnknownStaysUnknown holds that a policy with an ARN that is not known yet is not known either.
func TestUnknownStaysUnknown(t *testing.T) {
	unknown := pulumi.UnsafeUnknownOutput(nil).ApplyT(func(any) string { return "x" }).(pulumi.StringOutput)
	a := serverArgs()
	a.Authorities[0].ARN = unknown
	require.True(t, rendered(t, func() (pulumi.StringOutput, error) { return ServerPolicy(a) }).IsNull())
	require.True(t, rendered(t, func() (pulumi.StringOutput, error) {
		return KeyPolicy(KeyPolicyArgs{AccountID: account, RoleARN: unknown, Pod: "p"})
	}).IsNull())
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ServerArgs)
		want   string
	}{
		{"account", func(a *ServerArgs) { a.AccountID = "prod" }, "accountID"},
		{"region", func(a *ServerArgs) { a.Region = "*" }, "region"},
		{"trust domain", func(a *ServerArgs) { a.TrustDomain = "prod*" }, "trustDomain"},
		{"cluster", func(a *ServerArgs) { a.ClusterName = "*" }, "clusterName"},
		{"key type", func(a *ServerArgs) { a.CAKeyType = "ed25519" }, "caKeyType"},
		{"authority", func(a *ServerArgs) { a.Authorities[1].ARN = nil }, "authorities[1].arn"},
		{"every template", func(a *ServerArgs) { a.Authorities[0].TemplateARN = "*" }, "authorities[0].templateARN"},
		{"every role", func(a *ServerArgs) { a.DatabaseUser = "*" }, "databaseUser"},
		{"nothing", func(a *ServerArgs) { a.CAKeyType, a.Authorities, a.DatabaseResourceID = "", nil, nil }, "nothing to grant"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := serverArgs()
			c.change(&a)
			_, err := ServerPolicy(a)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := KeyPolicy(KeyPolicyArgs{Pod: "*"})
	for _, part := range []string{"accountID", "pod", "roleARN"} {
		require.ErrorContains(t, err, part)
	}
	_, err = SetupPolicy(SetupArgs{})
	for _, part := range []string{"region", "secretARN", "keyARN"} {
		require.ErrorContains(t, err, part)
	}
}
