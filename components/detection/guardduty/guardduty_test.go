package guardduty

import (
	"encoding/json"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
)

const topic = "arn:aws:sns:eu-central-1:123456789012:security"

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		d, err := New(ctx, "d", args)
		if err != nil {
			return err
		}
		var r pulumi.CustomResourceState
		return ctx.RegisterResource("test:index:Outputs", "outputs", pulumi.Map{"detector": d.DetectorID}, &r)
	})
}

func TestDetector(t *testing.T) {
	g := record(t, &Args{TopicARN: pulumi.String(topic), Protect: true})
	detector := g.One(t, "Detector")
	require.Equal(t, true, detector.Object["enable"])
	require.Equal(t, "FIFTEEN_MINUTES", detector.Object["findingPublishingFrequency"])
	require.NotContains(t, detector.Object, "datasources", "they are the old name of features, and fight with them")
	require.True(t, detector.Protect)
	features := map[any]manifesttest.Resource{}
	for _, f := range g.All("DetectorFeature") {
		features[f.Object["name"]] = f
		require.Equal(t, "ENABLED", f.Object["status"])
		require.Equal(t, g.One(t, "Outputs").Object["detector"], f.Object["detectorId"])
	}
	require.Len(t, features, len(Features()))
	for _, f := range Features() {
		require.Contains(t, features, string(f))
	}
	require.NotContains(t, features, "EKS_RUNTIME_MONITORING")
	require.Equal(t, []any{
		map[string]any{"name": "EC2_AGENT_MANAGEMENT", "status": "DISABLED"},
		map[string]any{"name": "ECS_FARGATE_AGENT_MANAGEMENT", "status": "DISABLED"},
		map[string]any{"name": "EKS_ADDON_MANAGEMENT", "status": "ENABLED"},
	}, features["RUNTIME_MONITORING"].Object["additionalConfigurations"])
	require.NotContains(t, features["S3_DATA_EVENTS"].Object, "additionalConfigurations")

	var pattern map[string]any
	require.NoError(t, json.Unmarshal([]byte(g.One(t, "EventRule").Object["eventPattern"].(string)), &pattern))
	require.Equal(t, []any{"aws.guardduty"}, pattern["source"])
	require.Equal(t, []any{">=", 4.0}, manifesttest.Get(pattern, "detail.severity.0.numeric"))
	require.Equal(t, topic, g.One(t, "EventTarget").Object["arn"])
	require.NotContains(t, g.One(t, "EventTarget").Object, "roleArn", "EventBridge publishes to an encrypted topic by the topic's policy")
}

func TestAdoptsADetector(t *testing.T) {
	g := record(t, &Args{DetectorID: pulumi.String("12abc34d567e8fa901bc2d34e56789f0"), Features: []Feature{S3DataEvents}})
	require.Empty(t, g.All("Detector"), "there is one detector an account and region")
	require.Empty(t, g.All("EventRule"))
	require.Equal(t, "12abc34d567e8fa901bc2d34e56789f0", g.One(t, "DetectorFeature").Object["detectorId"])
	require.Equal(t, "12abc34d567e8fa901bc2d34e56789f0", g.One(t, "Outputs").Object["detector"])
}

func TestRefusesArguments(t *testing.T) {
	for field, args := range map[string]*Args{
		"frequency": {Frequency: "DAILY"}, "minSeverity": {MinSeverity: 11}, "name": {Name: "a b"},
		"features[0]": {Features: []Feature{"EKS_RUNTIME_MONITORING"}}, "features[1]": {Features: []Feature{S3DataEvents, S3DataEvents}},
	} {
		err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
			_, err := New(ctx, "d", args)
			return err
		})
		require.ErrorContains(t, err, field+`: "`)
	}
}
