//go:build !race

// The race detector would have to instrument the Pulumi SDK, which takes minutes, for a test without concurrency.

package main

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/detection"
	"ephemos.dev/deploy/components/manifest/manifesttest"
	"ephemos.dev/deploy/components/zones"
)

// TestDeployedConfigurationIsAccepted parses what the component of this program puts into its environment and its volume.
func TestDeployedConfigurationIsAccepted(t *testing.T) {
	model := zones.Standard(zones.Options{})
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := detection.New(ctx, "ids", &detection.Args{
			Namespace: "intrusion-detection", Image: pulumi.String("flowlog"), TrustDomain: "example.org", Model: model, ScanThreshold: 12,
		})
		return err
	})
	container := manifesttest.Get(g.One(t, "DaemonSet").Object, "spec.template.spec.containers.flowlog")
	values := map[string]string{}
	for _, variable := range manifesttest.Get(container, "env").([]any) {
		value, _ := manifesttest.Get(variable, "value").(string)
		values[manifesttest.Get(variable, "name").(string)] = value
	}
	require.Contains(t, values, "NODE_NAME", "the kubelet fills it in")
	values["NODE_NAME"] = "node-a"
	mounted := map[string]string{}
	for key, text := range g.One(t, "ConfigMap").Object["data"].(map[string]any) {
		mounted[manifesttest.Get(container, "volumeMounts.model.mountPath").(string)+"/"+key] = text.(string)
	}
	config, err := ParseConfig(variables(values), files(mounted))
	require.NoError(t, err)
	require.Equal(t, model, config.Model)
	require.Equal(t, 12, config.ScanThreshold)
	require.Equal(t, "127.0.0.1:9990", config.Address)
}
