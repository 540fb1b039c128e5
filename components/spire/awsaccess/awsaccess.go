// Package awsaccess says what the SPIRE servers, and the Job that prepares their database, may do in AWS.
//
// In: account, region, names and ARNs. Out: policy documents: one for the servers' role (ServerPolicy), one for each key that a
// server makes in KMS (KeyPolicy), one for the role of the Job (SetupPolicy). It makes no resources.
//
// # Which calls
//
// The calls are those of SPIRE 1.15.3, from its documentation (doc/plugin_server_keymanager_aws_kms.md,
// doc/plugin_server_upstreamauthority_aws_pca.md, doc/plugin_server_datastore_sql.md) and its source, in the mode in which keys are
// found by tags (pkg/server/plugin/keymanager/awskms):
//
//	kms:CreateKey, kms:TagResource         a new key, which carries the server's name
//	kms:GetPublicKey, kms:DescribeKey      at the start, and for a new key
//	kms:CreateAlias, kms:UpdateAlias       the key's name for people, kept fresh for older versions of SPIRE
//	kms:ListAliases, tag:GetResources      which keys are this server's, at the start
//	kms:Sign                               the work
//	kms:ScheduleKeyDeletion                a key that another one has followed
//	acm-pca:DescribeCertificateAuthority   at the start
//	acm-pca:IssueCertificate, acm-pca:GetCertificate
//	rds-db:connect
//
// Not granted: kms:ListKeys and kms:DeleteAlias, which the older way of finding keys needs; sts:GetCallerIdentity, which needs no
// grant and is not called when there is a key policy; and kms:ScheduleKeyDeletion on keys of other servers. With it SPIRE would do
// away with the keys of a server that has been gone for two weeks; but it would also let one server disable the keys of all others.
// Keys of a server that is not coming back are left to the administrators, who find them by the tags spire-server-td and
// spire-server-id.
//
// # How servers are kept apart
//
// All servers of a StatefulSet share a service account, and so a role. EKS Pod Identity adds the pod's name to each session as the
// tag kubernetes-pod-name (https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html). The name is part of the server's
// identity towards KMS (Identity): the role may make keys only in the name of the pod that asks, and each key obeys only the pod that
// made it. Whoever takes over one server cannot sign with the keys of another one. An association with session tags turned off
// locks all servers out.
//
// Rights on a key are in the key's own policy, not in the role's: the tags of a new key may count only minutes later
// (https://docs.aws.amazon.com/kms/latest/developerguide/abac.html), and the server uses a key at once. A key policy names a role by
// what it is, not by its name: a role that is deleted and made again is another one, and an administrator has to put each key's
// policy anew. So the role deserves protection.
package awsaccess

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/spire/config"
)

// podName is the pod's name in a policy of its session.
const podName = "${aws:PrincipalTag/kubernetes-pod-name}"

// The tags that SPIRE gives every key (pkg/server/plugin/keymanager/awskms).
const (
	tagTrustDomain = "spire-server-td"
	tagServer      = "spire-server-id"
)

// keySpecs are KMS' names of SPIRE's key types.
var keySpecs = map[string]string{"ec-p256": "ECC_NIST_P256", "ec-p384": "ECC_NIST_P384", "rsa-2048": "RSA_2048", "rsa-4096": "RSA_4096"}

// Identity is the identity of a server towards KMS: the name of the Kubernetes cluster and of the pod. A StatefulSet never runs two
// pods of a name.
func Identity(cluster, pod string) string { return cluster + "-" + pod }

// An Authority is a CA in AWS Private CA from which the servers get theirs.
type Authority struct {
	// ARN of the CA. Required.
	ARN pulumi.StringInput
	// TemplateARN is the only template that may be asked for. Default config.DefaultCATemplate.
	TemplateARN string
}

// ServerArgs are the arguments of ServerPolicy.
type ServerArgs struct {
	// AccountID is the account, twelve digits. Required.
	AccountID string
	// Region of keys and database. Required.
	Region string
	// TrustDomain is the trust domain. Required.
	TrustDomain string
	// ClusterName is the name of the Kubernetes cluster, as in Identity. Required with keys in KMS.
	ClusterName string
	// CAKeyType is the type of the keys, as in config.Server. "" grants nothing in KMS.
	CAKeyType string
	// Authorities are the upstream CAs: the one in use, and a standby when a change of configuration is to be all that its
	// activation needs. None grants nothing in AWS Private CA.
	Authorities []Authority
	// DatabaseResourceID is the resource ID of the database cluster, "cluster-...", and DatabaseUser the role in it. Nil grants nothing.
	DatabaseResourceID pulumi.StringInput
	DatabaseUser       string
}

var (
	accountID = regexp.MustCompile(`^[0-9]{12}$`)
	region    = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}$`)
	plainName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	roleName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	// A wildcard or a variable in the name of a trust domain would be one in the policy.
	domainName = regexp.MustCompile(`^[a-z0-9._-]+$`)
)

// checks collects what is wrong with arguments.
type checks []error

func (c *checks) match(key, value string, pattern *regexp.Regexp, allowed string) {
	if !pattern.MatchString(value) {
		*c = append(*c, fmt.Errorf("%s: %q is not allowed: it must be %s", key, value, allowed))
	}
}

func (c *checks) place(account, regionName string) {
	c.match("accountID", account, accountID, "an account of twelve digits")
	c.match("region", regionName, region, "a region such as eu-central-1")
}

func (a ServerArgs) validate() error {
	var c checks
	c.place(a.AccountID, a.Region)
	c.match("trustDomain", a.TrustDomain, domainName, "a trust domain")
	if a.CAKeyType != "" {
		c.match("clusterName", a.ClusterName, plainName, "letters, digits, dashes and underscores")
		if keySpecs[a.CAKeyType] == "" {
			c = append(c, fmt.Errorf("caKeyType: %q is not allowed: it must be one of SPIRE's key types", a.CAKeyType))
		}
	}
	for i, authority := range a.Authorities {
		if authority.ARN == nil {
			c = append(c, fmt.Errorf("authorities[%d].arn: it must be set", i))
		}
		if strings.ContainsAny(authority.TemplateARN, "*?$") {
			c = append(c, fmt.Errorf("authorities[%d].templateARN: %q is not allowed: it must be the ARN of one template", i, authority.TemplateARN))
		}
	}
	if a.DatabaseResourceID != nil {
		c.match("databaseUser", a.DatabaseUser, roleName, "a role in Postgres of letters, digits and underscores")
	}
	if a.CAKeyType == "" && len(a.Authorities) == 0 && a.DatabaseResourceID == nil {
		c = append(c, errors.New("there is nothing to grant"))
	}
	return errors.Join(c...)
}

// ServerPolicy is the policy of the servers' role.
func ServerPolicy(a ServerArgs) (pulumi.StringOutput, error) {
	if err := a.validate(); err != nil {
		return pulumi.StringOutput{}, fmt.Errorf("policy of the SPIRE servers: %w", err)
	}
	var statements []iampolicy.Statement
	if a.CAKeyType != "" {
		statements = append(statements, a.keys()...)
	}
	for i, authority := range a.Authorities {
		statements = append(statements, authority.statements(i)...)
	}
	if a.DatabaseResourceID != nil {
		statements = append(statements, iampolicy.Statement{
			Sid: "SignInToDatabase", Action: "rds-db:connect",
			Resource: pulumi.Sprintf("arn:aws:rds-db:%s:%s:dbuser:%s/%s", a.Region, a.AccountID, a.DatabaseResourceID, a.DatabaseUser),
		})
	}
	return iampolicy.Document(statements...), nil
}

// keys is what a server may do in KMS that no key policy can grant.
func (a ServerArgs) keys() []iampolicy.Statement {
	own := Identity(a.ClusterName, podName)
	tags := map[string]any{"aws:RequestTag/" + tagTrustDomain: a.TrustDomain, "aws:RequestTag/" + tagServer: own}
	create := map[string]any{"kms:KeySpec": keySpecs[a.CAKeyType], "kms:KeyUsage": "SIGN_VERIFY"}
	maps.Copy(create, tags)
	arn := func(resource string) string { return "arn:aws:kms:" + a.Region + ":" + a.AccountID + ":" + resource }
	return []iampolicy.Statement{
		// A key that is not there yet has no name, so both go by what is asked for.
		{Sid: "MakeOwnKeys", Action: "kms:CreateKey", Resource: iampolicy.Any, Condition: iampolicy.Condition{"StringEquals": create}},
		{Sid: "TagOwnNewKeys", Action: "kms:TagResource", Resource: arn("key/*"), Condition: iampolicy.Condition{"StringEquals": tags}},
		// The other half of the right to an alias is in the key's policy.
		{
			Sid: "NameOwnKeys", Action: []string{"kms:CreateAlias", "kms:UpdateAlias"},
			// SPIRE's form: alias/SPIRE_SERVER/<trust domain with underscores for dots>/<identity>/<key>.
			Resource: arn("alias/SPIRE_SERVER/" + strings.ReplaceAll(a.TrustDomain, ".", "_") + "/" + own + "/*"),
		},
		// Neither can be narrowed to a key. They show names and tags.
		{Sid: "FindKeys", Action: []string{"kms:ListAliases", "tag:GetResources"}, Resource: iampolicy.Any},
	}
}

func (a Authority) statements(i int) []iampolicy.Statement {
	template := a.TemplateARN
	if template == "" {
		template = config.DefaultCATemplate
	}
	return []iampolicy.Statement{
		{Sid: fmt.Sprintf("ReadUpstream%d", i), Action: []string{"acm-pca:DescribeCertificateAuthority", "acm-pca:GetCertificate"}, Resource: a.ARN},
		{
			Sid: fmt.Sprintf("AskUpstream%d", i), Action: "acm-pca:IssueCertificate", Resource: a.ARN,
			Condition: iampolicy.Condition{"StringEquals": {"acm-pca:TemplateArn": template}},
		},
	}
}

// KeyPolicyArgs are the arguments of KeyPolicy.
type KeyPolicyArgs struct {
	// AccountID is the account, twelve digits. Required.
	AccountID string
	// RoleARN is the servers' role. Required. KMS refuses a role that is not there.
	RoleARN pulumi.StringInput
	// Pod is the name of the server's pod. Required.
	Pod string
}

// KeyPolicy is the policy of the keys that the server in one pod makes.
//
// The account's administrators, as far as their own policies allow, may see, disable, delete and re-policy a key. Nobody but the
// server may sign, except who changes the policy first, which the trail shows.
func KeyPolicy(a KeyPolicyArgs) (pulumi.StringOutput, error) {
	var c checks
	c.match("accountID", a.AccountID, accountID, "an account of twelve digits")
	c.match("pod", a.Pod, plainName, "the name of a pod")
	if a.RoleARN == nil {
		c = append(c, errors.New("roleARN: it must be set"))
	}
	if err := errors.Join(c...); err != nil {
		return pulumi.StringOutput{}, fmt.Errorf("policy of keys in KMS: %w", err)
	}
	return iampolicy.Document(
		iampolicy.Statement{
			Sid: "UseByItsServer", Principal: iampolicy.AWS(a.RoleARN), Resource: iampolicy.Any,
			Action: []string{
				"kms:DescribeKey", "kms:GetPublicKey", "kms:Sign", "kms:TagResource", "kms:CreateAlias", "kms:UpdateAlias", "kms:ScheduleKeyDeletion",
				// KMS refuses a policy that its maker could not change, unless asked not to, which SPIRE does not do
				// (https://docs.aws.amazon.com/kms/latest/APIReference/API_CreateKey.html, Policy).
				"kms:PutKeyPolicy",
			},
			Condition: iampolicy.Condition{"StringEquals": {"aws:PrincipalTag/kubernetes-pod-name": a.Pod}},
		},
		iampolicy.Statement{
			Sid: "Administration", Principal: iampolicy.Root(a.AccountID), Resource: iampolicy.Any,
			Action: []string{
				"kms:Describe*", "kms:Get*", "kms:List*", "kms:PutKeyPolicy", "kms:EnableKey", "kms:DisableKey",
				"kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:DeleteAlias",
			},
		},
	), nil
}

// SetupArgs are the arguments of SetupPolicy.
type SetupArgs struct {
	// SecretARN is the secret with the database's master user and password. Required.
	SecretARN pulumi.StringInput
	// KeyARN is the key of KMS with which the secret is encrypted. Required.
	KeyARN pulumi.StringInput
	// Region of the secret. Required.
	Region string
}

// SetupPolicy is the policy of the role of the Job that prepares the database: to read one secret.
func SetupPolicy(a SetupArgs) (pulumi.StringOutput, error) {
	var c checks
	c.match("region", a.Region, region, "a region such as eu-central-1")
	if a.SecretARN == nil {
		c = append(c, errors.New("secretARN: it must be set"))
	}
	if a.KeyARN == nil {
		c = append(c, errors.New("keyARN: it must be set"))
	}
	if err := errors.Join(c...); err != nil {
		return pulumi.StringOutput{}, fmt.Errorf("policy of the database's setup: %w", err)
	}
	return iampolicy.Document(
		iampolicy.Statement{Sid: "ReadMasterSecret", Action: "secretsmanager:GetSecretValue", Resource: a.SecretARN},
		iampolicy.Statement{
			Sid: "DecryptMasterSecret", Action: "kms:Decrypt", Resource: a.KeyARN,
			Condition: iampolicy.Condition{"StringEquals": {
				"kms:ViaService":                  "secretsmanager." + a.Region + ".amazonaws.com",
				"kms:EncryptionContext:SecretARN": a.SecretARN,
			}},
		},
	), nil
}
