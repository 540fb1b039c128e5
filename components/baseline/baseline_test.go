package baseline

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/detection/guardduty"
	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/manifest/manifesttest"
)

func arguments() *Args {
	return &Args{
		AccountID: "123456789012", Region: "eu-central-1", Protect: true, GuardDuty: &guardduty.Args{}, SecurityHub: &SecurityHub{},
		Config: &Config{BucketName: pulumi.String("logs"), BucketARN: pulumi.String("arn:aws:s3:::logs"), GlobalResources: true},
	}
}

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "b", args)
		return err
	})
}

func TestNothingIsSetUnasked(t *testing.T) {
	g := record(t, &Args{AccountID: "123456789012", Region: "eu-central-1"})
	require.Equal(t, []string{"Baseline"}, g.Types())
}

func TestConfig(t *testing.T) {
	g := record(t, arguments())
	recorder := g.One(t, "Recorder")
	require.True(t, recorder.Protect)
	require.Equal(t, "arn:aws:iam::123456789012:role/b-config-role", recorder.Object["roleArn"])
	require.Equal(t, map[string]any{"allSupported": true, "includeGlobalResourceTypes": true}, recorder.Object["recordingGroup"])
	require.Equal(t, map[string]any{"recordingFrequency": "CONTINUOUS"}, recorder.Object["recordingMode"])
	channel := g.One(t, "DeliveryChannel")
	require.Equal(t, []any{"logs", "config"}, []any{channel.Object["s3BucketName"], channel.Object["s3KeyPrefix"]})
	require.Subset(t, channel.Dependencies, []string{"b-recorder", "b-config-read", "b-config-write"})
	started := g.One(t, "RecorderStatus")
	require.Equal(t, true, started.Object["isEnabled"])
	require.Contains(t, started.Dependencies, "b-delivery")

	text := g.One(t, "RolePolicy").Object["policy"].(string)
	require.Empty(t, iampolicy.ValidateAs(iampolicy.Inline, text), text)
	require.Empty(t, iampolicy.Wildcards(text))
	require.Equal(t, "arn:aws:s3:::logs/config/AWSLogs/123456789012/*", iampolicy.Statements(text)["Write"]["Resource"])
	trust := g.One(t, "Role").Object["assumeRolePolicy"].(string)
	require.Empty(t, iampolicy.ValidateAs(iampolicy.Trust, trust), trust)
	require.Equal(t, "arn:aws:iam::aws:policy/service-role/AWS_ConfigRole", g.One(t, "RolePolicyAttachment").Object["policyArn"])
}

func TestSecurityHub(t *testing.T) {
	g := record(t, arguments())
	hub := g.One(t, "Account")
	require.True(t, hub.Protect)
	require.Equal(t, false, hub.Object["enableDefaultStandards"])
	require.Contains(t, hub.Dependencies, "b-recording", "its checks read what Config records")
	standards := g.All("StandardsSubscription")
	require.Len(t, standards, 2)
	arns := map[string]string{}
	for _, s := range standards {
		arns[s.Name] = s.Object["standardsArn"].(string)
	}
	require.Equal(t, map[string]string{
		"b-standard-0": "arn:aws:securityhub:eu-central-1::standards/aws-foundational-security-best-practices/v/1.0.0",
		"b-standard-1": "arn:aws:securityhub:eu-central-1::standards/cis-aws-foundations-benchmark/v/3.0.0",
	}, arns)
	for _, s := range standards {
		require.Contains(t, s.Dependencies, map[string]string{"b-standard-0": "b-security-hub", "b-standard-1": "b-standard-0"}[s.Name])
	}
}

func TestGuardDuty(t *testing.T) {
	args := arguments()
	args.Config, args.SecurityHub = nil, nil
	g := record(t, args)
	require.True(t, g.One(t, "Detector").Protect, "what the baseline protects includes its detector")
	require.Len(t, g.All("DetectorFeature"), len(guardduty.Features()))
	require.Empty(t, g.All("Account"))
	require.Empty(t, g.All("Recorder"))
}

func TestRefusesArguments(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Args)
		want   []string
	}{
		{"nothing", func(a *Args) { *a = Args{} }, []string{"accountId", "region"}},
		{"parts", func(a *Args) {
			a.GuardDuty.MinSeverity, a.SecurityHub.Standards = 11, []Standard{CIS, "SOC 2", CIS}
			a.Config = &Config{Frequency: "HOURLY"}
		}, []string{"minSeverity", "securityHub.standards[1]", "securityHub.standards[2]", "config.bucketName", "config.bucketArn", "config.frequency"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := arguments()
			c.change(args)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "b", args)
				return err
			})
			for _, field := range c.want {
				require.ErrorContains(t, err, field+`: "`)
			}
		})
	}
}
