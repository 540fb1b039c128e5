package notification

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/manifest/manifesttest"
)

const key = "arn:aws:kms:eu-central-1:123456789012:key/notification"

func arguments() *Args {
	return &Args{
		TrustDomain: "prod.company.com", AccountID: "123456789012", KeyARN: pulumi.String(key), Protect: true, EventBridge: true,
		Security:  []Subscription{{Email, "security@company.com"}, {HTTPS, "https://pager.company.com/hook"}},
		Executive: []Subscription{{SMS, "+4912345678"}, {SQS, "arn:aws:sqs:eu-central-1:123456789012:executive"}},
	}
}

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "n", args)
		return err
	})
}

func TestTopics(t *testing.T) {
	g := record(t, arguments())
	topics := g.All("Topic")
	require.Len(t, topics, 2)
	for _, topic := range topics {
		kind := map[string]string{"n-security": "prod-company-com-security", "n-executive": "prod-company-com-executive"}[topic.Name]
		require.Equal(t, kind, topic.Object["name"])
		require.Equal(t, key, topic.Object["kmsMasterKeyId"])
		require.Equal(t, 2.0, topic.Object["signatureVersion"])
		require.True(t, topic.Protect)
	}
	require.Len(t, g.All("TopicPolicy"), 2)
	for _, p := range g.All("TopicPolicy") {
		text := p.Object["policy"].(string)
		require.Empty(t, iampolicy.ValidateAs(iampolicy.Resource, text), text)
		require.Empty(t, iampolicy.Wildcards(text))
		statements := iampolicy.Statements(text)
		require.Equal(t, "Deny", statements["DenyPlaintext"]["Effect"])
		require.Equal(t, "123456789012", manifesttest.Get(statements["Services"]["Condition"], "StringEquals.aws:SourceAccount"))
		require.Contains(t, statements, "Events")
		for _, s := range statements {
			require.Equal(t, p.Object["arn"], s["Resource"])
		}
	}
	endpoints := map[any]any{}
	for _, s := range g.All("TopicSubscription") {
		endpoints[s.Object["endpoint"]] = []any{s.Object["protocol"], s.Object["topic"]}
	}
	const arn = "arn:aws:sns:eu-central-1:123456789012:prod-company-com-"
	require.Equal(t, map[any]any{
		"security@company.com": []any{"email", arn + "security"}, "https://pager.company.com/hook": []any{"https", arn + "security"},
		"+4912345678": []any{"sms", arn + "executive"}, "arn:aws:sqs:eu-central-1:123456789012:executive": []any{"sqs", arn + "executive"},
	}, endpoints)
}

func TestWithoutEventBridge(t *testing.T) {
	args := arguments()
	args.EventBridge, args.Protect, args.Security, args.Executive = false, false, nil, nil
	g := record(t, args)
	require.Empty(t, g.All("TopicSubscription"))
	for _, p := range g.All("TopicPolicy") {
		require.NotContains(t, p.Object["policy"], "events.amazonaws.com")
	}
	require.False(t, g.All("Topic")[0].Protect)
}

func TestRefusesArguments(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Args)
		want   []string
	}{
		{"nothing", func(a *Args) { *a = Args{} }, []string{"trustDomain", "accountId", "keyArn"}},
		{"endpoints", func(a *Args) {
			a.Security = []Subscription{{Email, "security"}, {HTTPS, "http://pager.company.com"}, {"pigeon", "x"}}
			a.Executive = []Subscription{{SMS, "0123"}, {SQS, "arn:aws:sns:eu-central-1:123456789012:x"}, {Lambda, "x"}}
		}, []string{"security[0]", "security[1]", "security[2]", "executive[0]", "executive[1]", "executive[2]"}},
		{"twice", func(a *Args) { a.Security = append(a.Security, a.Security[0]) }, []string{"security[2]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := arguments()
			c.change(args)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "n", args)
				return err
			})
			for _, field := range c.want {
				require.ErrorContains(t, err, field+`: "`)
			}
		})
	}
}
