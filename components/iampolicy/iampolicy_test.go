package iampolicy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"
)

// mocks keeps the policy that the only resource was given.
type mocks struct{ policy resource.PropertyValue }

func (m *mocks) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	if v, set := args.Inputs["policy"]; set {
		m.policy = v
	}
	return args.Name, args.Inputs, nil
}

func (*mocks) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

// rendered gives Document to a resource in a preview and returns what arrived there: nothing, when it is unknown.
func rendered(t *testing.T, statements ...Statement) resource.PropertyValue {
	t.Helper()
	m := &mocks{}
	require.NoError(t, pulumi.RunErr(func(ctx *pulumi.Context) error {
		var r pulumi.CustomResourceState
		return ctx.RegisterResource("test:index:Policy", "p", pulumi.Map{"policy": Document(statements...)}, &r)
	}, pulumi.WithMocks("p", "s", m), func(i *pulumi.RunInfo) { i.DryRun = true }))
	return m.policy
}

func TestDocument(t *testing.T) {
	later := pulumi.String("arn:aws:s3:::b").ToStringOutput()
	text := rendered(t,
		Statement{
			Sid: "One", Principal: AWS(RootARN("123456789012"), later), Action: []string{"s3:PutObject", "s3:GetObject"},
			Resource: []any{later, pulumi.Sprintf("%s/*", later)},
			Condition: Condition{
				"StringEquals": {"aws:SourceAccount": "123456789012"},
				"ArnLike":      {"aws:SourceArn": pulumi.StringArray{later, pulumi.String("arn:aws:s3:::c")}},
				"Bool":         {"aws:SecureTransport": true},
			},
		},
		Statement{Effect: Deny, Principal: Any, NotAction: "s3:List*", NotResource: pulumi.String("arn:aws:s3:::c")},
		Statement{Principal: Service("logs.amazonaws.com"), Action: []pulumi.StringInput{later}, Resource: Any},
	)
	require.Equal(t, `{"Version":"2012-10-17","Statement":[`+
		`{"Sid":"One","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::123456789012:root","arn:aws:s3:::b"]},`+
		`"Action":["s3:PutObject","s3:GetObject"],"Resource":["arn:aws:s3:::b","arn:aws:s3:::b/*"],`+
		`"Condition":{"ArnLike":{"aws:SourceArn":["arn:aws:s3:::b","arn:aws:s3:::c"]},"Bool":{"aws:SecureTransport":true},`+
		`"StringEquals":{"aws:SourceAccount":"123456789012"}}},`+
		`{"Effect":"Deny","Principal":"*","NotAction":"s3:List*","NotResource":"arn:aws:s3:::c"},`+
		`{"Effect":"Allow","Principal":{"Service":["logs.amazonaws.com"]},"Action":["arn:aws:s3:::b"],"Resource":"*"}]}`, text.StringValue())
}

func TestDocumentKeepsWhatIsUnknownAndSecret(t *testing.T) {
	for place, put := range map[string]func(*Statement, any){
		"resource":   func(s *Statement, v any) { s.Resource = v },
		"resources":  func(s *Statement, v any) { s.Resource = []any{"*", v} },
		"principal":  func(s *Statement, v any) { s.Principal = AWS(v) },
		"condition":  func(s *Statement, v any) { s.Condition = Condition{"StringEquals": {"aws:PrincipalArn": v}} },
		"conditions": func(s *Statement, v any) { s.Condition = Condition{"StringEquals": {"aws:PrincipalArn": []any{v}}} },
	} {
		t.Run(place, func(t *testing.T) {
			s := Statement{Action: "s3:GetObject"}
			put(&s, pulumi.UnsafeUnknownOutput(nil).ApplyT(func(any) string { return "x" }).(pulumi.StringOutput))
			v := rendered(t, s)
			require.True(t, v.IsNull(), "an unknown value was lost: %v", v)
			put(&s, pulumi.ToSecret(pulumi.String("arn:aws:s3:::b")).(pulumi.StringOutput))
			v = rendered(t, s)
			require.True(t, v.ContainsSecrets(), "a secret was lost")
			require.Contains(t, v.String(), "arn:aws:s3:::b")
		})
	}
}

func TestText(t *testing.T) {
	text, err := Text(Statement{Action: pulumi.String("s3:GetObject"), Resource: []string{"arn:aws:s3:::a&b"}})
	require.NoError(t, err)
	require.Equal(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":["arn:aws:s3:::a&b"]}]}`, text)
	_, err = Text(Statement{Sid: "A", Condition: Condition{"StringEquals": {"aws:PrincipalArn": []any{pulumi.String("x").ToStringOutput()}}}})
	require.ErrorContains(t, err, "statement 0 (A)")
}

// policy is a valid policy of an identity, in which the test changes one thing.
func policy(change func(statement map[string]any)) string {
	s := map[string]any{"Sid": "A", "Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}
	if change != nil {
		change(s)
	}
	text, err := json.Marshal(map[string]any{"Version": Version, "Statement": []any{s}})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func with(key string, value any) string { return policy(func(s map[string]any) { s[key] = value }) }

func onResource(key string, value any) string {
	return policy(func(s map[string]any) { s["Principal"] = "*"; s[key] = value })
}

func trust(key string, value any) string {
	return policy(func(s map[string]any) {
		delete(s, "Resource")
		s["Action"], s["Principal"] = "sts:AssumeRole", map[string]any{"Service": "ec2.amazonaws.com"}
		s[key] = value
	})
}

func condition1(operator, key string, value any) string {
	return with("Condition", map[string]any{operator: map[string]any{key: value}})
}

func TestValidate(t *testing.T) {
	without := func(key string) string { return policy(func(s map[string]any) { delete(s, key) }) }
	for _, c := range []struct {
		name, text string
		want       string
	}{
		{"identity", policy(nil), ""},
		{"single statement", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`, ""},
		{"Id", `{"Version":"2012-10-17","Id":"x","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`, ""},
		{"resource", onResource("Resource", "*"), ""},
		{"trust", trust("Sid", "A"), ""},
		{"two actions of trust", trust("Action", []any{"sts:AssumeRole", "sts:TagSession"}), ""},
		{"account", onResource("Principal", map[string]any{"AWS": []any{"123456789012", "arn:aws:iam::123456789012:role/a"}}), ""},
		{"federated", trust("Principal", map[string]any{"Federated": "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/1"}), ""},
		{"regional service", onResource("Principal", map[string]any{"Service": "logs.eu-central-1.amazonaws.com"}), ""},
		{"condition", condition1("StringEquals", "aws:SourceAccount", "1"), ""},
		{"IfExists", condition1("StringLikeIfExists", "kms:ViaService", []any{"a", "b"}), ""},
		{"set operator", condition1("ForAllValues:StringEquals", "aws:TagKeys", []any{"a"}), ""},
		{"tag key", condition1("StringEquals", "aws:RequestTag/kubernetes-namespace", "x"), ""},
		{"Null", condition1("Null", "s3:x-amz-server-side-encryption", "true"), ""},
		{"bool", condition1("Bool", "aws:SecureTransport", false), ""},
		{"number", condition1("NumericLessThan", "s3:TlsVersion", 1.2), ""},
		{"address", condition1("IpAddress", "aws:SourceIp", "10.0.0.0/8"), ""},
		{"date", condition1("DateLessThan", "aws:CurrentTime", "2030-01-01T00:00:00Z"), ""},
		{"variable", with("Resource", "arn:aws:s3:::b/${aws:username}/*"), ""},
		{"wildcards", with("Resource", "arn:*:logs:*:*:log-group:/aws/*"), ""},
		{"federated key", trust("Condition", map[string]any{"StringEquals": map[string]any{"oidc.eks.eu-central-1.amazonaws.com/id/1:sub": "x"}}), ""},

		{"no JSON", `{`, "JSON"},
		{"list", `[]`, "must be an object"},
		{"trailing", policy(nil) + "x", "JSON"},
		{"trailing policy", policy(nil) + "{}", "follows"},
		{"twice", `{"Version":"2012-10-17","Version":"2012-10-17"}`, "twice"},
		{"nested", strings.Repeat("[", 100), "deeper"},
		{"old", `{"Version":"2008-10-17","Statement":[]}`, "Version"},
		{"no version", `{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`, "Version"},
		{"element", `{"Version":"2012-10-17","Extra":1,"Statement":[]}`, "Extra"},
		{"no statement", `{"Version":"2012-10-17","Statement":[]}`, "at least one"},
		{"statement is text", `{"Version":"2012-10-17","Statement":["x"]}`, "must be an object"},
		{"statement element", with("Resources", "x"), "Resources"},
		{"no effect", without("Effect"), "Effect"},
		{"effect", with("Effect", "allow"), "Effect"},
		{"Sid", with("Sid", "A b"), "Sid"},
		{"no action", without("Action"), "exactly one of Action"},
		{"both actions", with("NotAction", "s3:GetObject"), "exactly one of Action"},
		{"action", with("Action", "GetObject"), "service:Action"},
		{"action chars", with("Action", "s3:Get Object"), "service:Action"},
		{"service", with("Action", "s4:GetObject"), `"s4"`},
		{"empty list", with("Action", []any{}), "at least one"},
		{"number as action", with("Action", []any{1}), "at least one"},
		{"no resource", without("Resource"), "exactly one of Resource"},
		{"both resources", with("NotResource", "*"), "exactly one of Resource"},
		{"no ARN", with("Resource", "bucket"), "arn:partition"},
		{"partition", with("Resource", "arn:amazon:s3:::b"), "partition"},
		{"ARN service", with("Resource", "arn:aws:s4:::b"), `"s4"`},
		{"ARN region", with("Resource", "arn:aws:kms:frankfurt:123456789012:key/1"), "region"},
		{"ARN account", with("Resource", "arn:aws:kms:eu-central-1:1234:key/1"), "account"},
		{"ARN space", with("Resource", "arn:aws:s3:::b "), "white space"},
		{"ARN without resource", with("Resource", "arn:aws:s3:::"), "no resource"},
		{"bucket with region", with("Resource", "arn:aws:s3:eu-central-1:123456789012:b"), "neither region"},
		{"IAM with region", with("Resource", "arn:aws:iam:eu-central-1:123456789012:role/a"), "no regions"},
		{"variable not closed", with("Resource", "arn:aws:s3:::b/${aws:username"), "not closed"},
		{"principal of trust with resource", trust("Resource", "*"), ""}, // a resource policy as far as one can tell
		{"trust of an action", trust("Action", "s3:GetObject"), "sts:"},
		{"principal list", onResource("Principal", []any{"*"}), "Principal"},
		{"principal kind", onResource("Principal", map[string]any{"User": "x"}), "User"},
		{"principal wildcard", onResource("Principal", map[string]any{"AWS": "arn:aws:iam::123456789012:role/*"}), "whole ARN"},
		{"principal bucket", onResource("Principal", map[string]any{"AWS": "arn:aws:s3:::b"}), "whole ARN"},
		{"principal service", onResource("Principal", map[string]any{"Service": "ec2"}), "DNS name"},
		{"allow all but", policy(func(s map[string]any) { s["NotPrincipal"] = map[string]any{"AWS": "123456789012"} }), "NotPrincipal"},
		{"operator", condition1("StringEqual", "aws:SourceAccount", "1"), "StringEqual"},
		{"Null IfExists", condition1("NullIfExists", "aws:SourceAccount", "true"), "NullIfExists"},
		{"global key", condition1("StringEquals", "aws:SourceAcount", "1"), "no such key"},
		{"key service", condition1("StringEquals", "s4:x", "1"), `"s4"`},
		{"key alone", condition1("StringEquals", "SourceAccount", "1"), "prefix:name"},
		{"no values", condition1("StringEquals", "aws:SourceAccount", []any{}), "at least one value"},
		{"object value", condition1("StringEquals", "aws:SourceAccount", map[string]any{"a": 1}), "a string, a number"},
		{"not a number", condition1("NumericLessThan", "s3:TlsVersion", "new"), "fit the operator"},
		{"not a bool", condition1("Bool", "aws:SecureTransport", "no"), "fit the operator"},
		{"not an address", condition1("IpAddress", "aws:SourceIp", "10.0.0.0/40"), "fit the operator"},
		{"not a date", condition1("DateLessThan", "aws:CurrentTime", "soon"), "fit the operator"},
		{"not an ARN", condition1("ArnLike", "aws:SourceArn", "role/x"), "fit the operator"},
		{"empty condition", with("Condition", map[string]any{}), "not empty"},
		{"empty keys", with("Condition", map[string]any{"Bool": map[string]any{}}), "not empty"},
		{"Sid twice", `{"Version":"2012-10-17","Statement":[{"Sid":"A","Effect":"Allow","Action":"s3:*","Resource":"*"},` +
			`{"Sid":"A","Effect":"Allow","Action":"s3:*","Resource":"*"}]}`, "used twice"},
		{"too long", with("Resource", "arn:aws:s3:::"+strings.Repeat("b", 6144)), "6144"},
	} {
		t.Run(c.name, func(t *testing.T) {
			errs := Validate(c.text)
			if c.want == "" {
				require.Empty(t, errs, c.text)
				return
			}
			require.NotEmpty(t, errs, c.text)
			require.Contains(t, fmt.Sprint(errs), c.want)
		})
	}
}

func TestSizes(t *testing.T) {
	long := func(kind Kind, size int) string {
		s := map[string]any{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b"}
		if kind == Trust {
			s = map[string]any{"Effect": "Allow", "Action": "sts:AssumeRole"}
		}
		if kind != Managed && kind != Inline {
			s["Principal"] = map[string]any{"AWS": "123456789012"}
		}
		s["Condition"] = map[string]any{"StringEquals": map[string]any{"aws:PrincipalArn": ""}}
		text, err := json.Marshal(map[string]any{"Version": Version, "Statement": s})
		require.NoError(t, err)
		return strings.Replace(string(text), `"aws:PrincipalArn":""`, `"aws:PrincipalArn":"`+strings.Repeat("x", size-len(text))+`"`, 1)
	}
	for kind, limit := range sizes {
		require.Empty(t, ValidateAs(kind, long(kind, limit)), kind)
		require.NotEmpty(t, ValidateAs(kind, long(kind, limit+1)), kind)
	}
	// White space counts where AWS says so.
	require.Empty(t, ValidateAs(Managed, " "+long(Managed, 6144)))
	require.NotEmpty(t, ValidateAs(Bucket, " "+long(Bucket, 20480)))
	require.NotEmpty(t, ValidateAs("", policy(nil)))
	// What a kind must and must not have.
	require.NotEmpty(t, ValidateAs(Inline, onResource("Sid", "A")))
	require.NotEmpty(t, ValidateAs(Bucket, policy(nil)))
	require.NotEmpty(t, ValidateAs(Trust, policy(nil)))
	require.NotEmpty(t, ValidateAs(Trust, trust("Resource", "*")))
}

func TestWildcards(t *testing.T) {
	for text, want := range map[string][]string{
		policy(nil): nil,
		with("Action", []any{"*", "s3:*", "s3:Get*"}):                                                    {"A: Action *", "A: Action s3:*"},
		with("Resource", []any{"*", "arn:aws:s3:::*", "arn:aws:s3:::b/*"}):                               {"A: Resource *", "A: Resource arn:aws:s3:::*"},
		policy(func(s map[string]any) { s["Effect"], s["Action"] = "Deny", "*" }):                        nil,
		policy(func(s map[string]any) { delete(s, "Action"); s["NotAction"] = []any{"iam:*", "sts:*"} }): {"A: NotAction iam:*,sts:*"},
		onResource("Principal", "*"):                                                                     {"A: Principal *"},
		onResource("Principal", map[string]any{"AWS": []any{"*"}}):                                       {"A: Principal *"},
		onResource("Principal", map[string]any{"AWS": "123456789012"}):                                   nil,
		"no policy": nil,
	} {
		require.Equal(t, want, Wildcards(text), text)
	}
}

func FuzzValidate(f *testing.F) {
	for _, text := range []string{policy(nil), trust("Sid", "A"), onResource("Principal", "*"), condition1("Bool", "aws:SecureTransport", true), `{"Version":null,"Statement":{"Effect":[{}],"Action":null,"Principal":{"AWS":1},"Condition":{"Bool":[]}}}`, "[", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range []Kind{Managed, Inline, Trust, Bucket, Key, Resource, "x"} {
			if len(ValidateAs(kind, text)) == 0 && !json.Valid([]byte(text)) {
				t.Fatalf("%s: %q is no JSON", kind, text)
			}
		}
		Validate(text)
		Wildcards(text)
	})
}
