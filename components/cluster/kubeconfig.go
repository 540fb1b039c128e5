package cluster

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// kubeconfig is Kubeconfig of outputs. The region is in the cluster's ARN.
func kubeconfig(name, endpoint, authority, arn pulumi.StringOutput) pulumi.StringOutput {
	return pulumi.All(name, endpoint, authority, arn).ApplyT(func(values []any) (string, error) {
		texts := make([]string, len(values))
		for i, v := range values {
			text, ok := v.(string)
			if !ok {
				return "", fmt.Errorf("kubeconfig: a value is a %T", v)
			}
			texts[i] = text
		}
		parts := strings.Split(texts[3], ":")
		if len(parts) != 6 {
			return "", fmt.Errorf("kubeconfig: %q is no ARN", texts[3])
		}
		return Kubeconfig(texts[0], texts[1], texts[2], parts[3])
	}).(pulumi.StringOutput)
}

// Kubeconfig is a kubeconfig, as JSON, for the cluster of that name with its API server at the URL endpoint and the certificate of
// its CA in base64. It holds no credential: clients ask the AWS CLI, which must be there, for a token of 15 minutes, in the name of
// whoever they run as. That one needs an access entry.
func Kubeconfig(name, endpoint, authority, region string) (string, error) {
	type object = map[string]any
	text, err := json.MarshalIndent(object{
		"apiVersion": "v1", "kind": "Config", "current-context": name, "preferences": object{},
		"clusters": []any{object{"name": name, "cluster": object{"server": endpoint, "certificate-authority-data": authority}}},
		"contexts": []any{object{"name": name, "context": object{"cluster": name, "user": name}}},
		"users": []any{object{"name": name, "user": object{"exec": object{
			"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "aws", "interactiveMode": "IfAvailable",
			"args":        []string{"--region", region, "eks", "get-token", "--cluster-name", name, "--output", "json"},
			"installHint": "The AWS CLI, version 2, must be on the path.",
		}}}},
	}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("kubeconfig: %w", err)
	}
	return string(text) + "\n", nil
}
