package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"
)

func operator(t *testing.T, args *OperatorArgs) *recorder {
	t.Helper()
	return run(t, func(ctx *pulumi.Context) error { _, err := NewOperator(ctx, "op", args); return err })
}

func image() *OperatorArgs {
	return &OperatorArgs{Image: pulumi.String("example.org/cloudnative-pg:1.30.1")}
}

func TestOperatorObjects(t *testing.T) {
	r := operator(t, image())
	var objects []any
	names := r.names()
	slices.Sort(names)
	for _, name := range names {
		objects = append(objects, map[string]any{"name": name, "inputs": r.inputs(t, name)})
	}
	golden(t, "operator", objects)
}

func TestOperatorMeetsPodSecurityRestricted(t *testing.T) {
	pod := at(t, operator(t, image()).inputs(t, "op-deployment"), "spec.template.spec")
	require.Equal(t, true, at(t, pod, "securityContext.runAsNonRoot"))
	require.Equal(t, "RuntimeDefault", at(t, pod, "securityContext.seccompProfile.type"))
	require.Equal(t, false, at(t, pod, "containers.securityContext.allowPrivilegeEscalation"))
	require.Equal(t, true, at(t, pod, "containers.securityContext.readOnlyRootFilesystem"))
	require.Equal(t, []any{"ALL"}, at(t, pod, "containers.securityContext.capabilities.drop"))
	limits := at(t, pod, "containers.resources.limits").(map[string]any)
	require.NotContains(t, limits, "cpu", "a throttled operator delays failovers")
}

func TestOperatorKnowsItsNames(t *testing.T) {
	r := operator(t, image())
	deployment := r.inputs(t, "op-deployment")
	labels := at(t, deployment, "metadata.labels").(map[string]any)
	require.Equal(t, "cloudnative-pg", labels["app.kubernetes.io/name"], "the operator finds its Deployment by it")
	require.Equal(t, "cnpg-webhook-service", at(t, r.inputs(t, "op-webhook-service"), "metadata.name"))
	require.Equal(t, "cnpg-mutating-webhook-configuration", at(t, r.inputs(t, "op-mutating-webhooks"), "metadata.name"))
	require.Equal(t, "cnpg-validating-webhook-configuration", at(t, r.inputs(t, "op-validating-webhooks"), "metadata.name"))

	container := at(t, deployment, "spec.template.spec.containers").([]any)[0].(map[string]any)
	env := map[string]any{}
	for _, e := range container["env"].([]any) {
		entry := e.(map[string]any)
		env[entry["name"].(string)] = entry["value"]
	}
	require.Equal(t, container["image"], env["OPERATOR_IMAGE_NAME"], "instances copy their manager out of the same image")
	require.Equal(t, "spire-server", env["WATCH_NAMESPACE"])
	config := at(t, r.inputs(t, "op-config"), "metadata.name").(string)
	require.Contains(t, container["args"], "--config-map-name="+config)
}

// TestOperatorReachesOnlyWatchedNamespaces: nothing that has a namespace may be granted in all of them.
func TestOperatorReachesOnlyWatchedNamespaces(t *testing.T) {
	args := image()
	args.WatchNamespaces = []string{"one", "two"}
	r := operator(t, args)
	for _, rule := range at(t, r.inputs(t, "op-cluster-role"), "rules").([]any) {
		for _, resource := range at(t, rule, "resources").([]any) {
			require.Contains(t, []any{
				"nodes", "clusterimagecatalogs", "mutatingwebhookconfigurations", "validatingwebhookconfigurations",
			}, resource)
		}
	}
	for _, namespace := range []string{"cnpg-system", "one", "two"} {
		require.Equal(t, namespace, at(t, r.inputs(t, "op-role-"+namespace), "metadata.namespace"))
		require.Equal(t, namespace, at(t, r.inputs(t, "op-role-binding-"+namespace), "metadata.namespace"))
	}
	for _, webhooks := range []string{"op-mutating-webhooks", "op-validating-webhooks"} {
		for _, w := range at(t, r.inputs(t, webhooks), "webhooks").([]any) {
			require.Equal(t, []any{"one", "two"}, at(t, w, "namespaceSelector.matchExpressions.values"))
			require.Equal(t, "Fail", at(t, w, "failurePolicy"))
		}
	}
}

// TestOperatorHoldsWhatItGrants: Kubernetes lets the operator make the instances' Role only if it holds every permission
// in it. The Role is that of CloudNativePG 1.30.1, pkg/specs/roles.go.
func TestOperatorHoldsWhatItGrants(t *testing.T) {
	held := map[string]bool{}
	for _, r := range watchedRules {
		for _, g := range r.groups {
			for _, res := range r.resources {
				for _, v := range r.verbs {
					held[fmt.Sprintf("%s %s/%s", v, g, res)] = true
				}
			}
		}
	}
	const pg = "postgresql.cnpg.io"
	for _, granted := range []rule{
		{groups: []string{""}, resources: []string{"configmaps", "secrets"}, verbs: []string{"get", "watch"}},
		{groups: []string{pg}, resources: []string{"clusters"}, verbs: []string{"get", "list", "watch"}},
		{groups: []string{pg}, resources: []string{"clusters/status"}, verbs: []string{"get", "patch", "update", "watch"}},
		{groups: []string{pg}, resources: []string{"backups"}, verbs: []string{"list", "get", "delete"}},
		{groups: []string{""}, resources: []string{"events"}, verbs: []string{"create", "patch"}},
		{groups: []string{pg}, resources: []string{"databases", "publications", "subscriptions", "databaseroles"}, verbs: []string{"get", "update", "list", "watch"}},
		{groups: []string{pg}, resources: []string{"backups/status", "databases/status", "publications/status", "subscriptions/status", "databaseroles/status"}, verbs: []string{"get", "patch", "update"}},
		{groups: []string{"coordination.k8s.io"}, resources: []string{"leases"}, verbs: []string{"get", "update"}},
		{groups: []string{pg}, resources: []string{"failoverquorums"}, verbs: []string{"get", "list", "watch"}},
		{groups: []string{pg}, resources: []string{"failoverquorums/status"}, verbs: []string{"get", "patch", "update", "watch"}},
	} {
		for _, res := range granted.resources {
			for _, v := range granted.verbs {
				permission := fmt.Sprintf("%s %s/%s", v, granted.groups[0], res)
				require.True(t, held[permission], permission)
			}
		}
	}
}

func TestAllOperatorErrorsAtOnce(t *testing.T) {
	err := runErr(func(ctx *pulumi.Context) error {
		_, err := NewOperator(ctx, "op", &OperatorArgs{Replicas: -1, WatchNamespaces: []string{"a,b", "cnpg-system", "x", "x"}})
		return err
	})
	require.Error(t, err)
	require.Equal(t, 5, strings.Count(err.Error(), "is not allowed: it must be"), err.Error())
	for _, want := range []string{`image: ""`, `replicas: "-1"`, `"a,b"`, `"cnpg-system"`, `"x"`} {
		require.ErrorContains(t, err, want)
	}
}
