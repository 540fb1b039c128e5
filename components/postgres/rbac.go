package postgres

import (
	rbacv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/rbac/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// rule is one rule of a role.
type rule struct {
	groups    []string
	resources []string
	verbs     []string
	names     []string // empty: all
}

var (
	read     = []string{"get", "list", "watch"}
	write    = []string{"create", "delete", "get", "list", "patch", "update", "watch"}
	noUpdate = []string{"create", "delete", "get", "list", "patch", "watch"}
	noDelete = []string{"create", "get", "list", "patch", "update", "watch"}
	status   = []string{"get", "patch", "update"}
)

// The permissions below are those of CloudNativePG's config/rbac/role.yaml, which its operator has in the whole cluster,
// split by where they are needed (config/olm-rbac has the same split) and without what this package has no use for:
// running commands in pods (backups that CloudNativePG itself deprecates) and writing poolers and their Deployments.
var (
	// clusterRules are about what has no namespace.
	clusterRules = []rule{
		{groups: []string{""}, resources: []string{"nodes"}, verbs: read},
		{groups: []string{"postgresql.cnpg.io"}, resources: []string{"clusterimagecatalogs"}, verbs: read},
		// The operator puts its CA into its own webhook configurations.
		{
			groups:    []string{"admissionregistration.k8s.io"},
			resources: []string{"mutatingwebhookconfigurations"}, verbs: []string{"get", "patch"},
			names: []string{mutatingWebhooks},
		},
		{
			groups:    []string{"admissionregistration.k8s.io"},
			resources: []string{"validatingwebhookconfigurations"}, verbs: []string{"get", "patch"},
			names: []string{validatingWebhooks},
		},
	}

	// ownRules are for the operator's own namespace: its leader election, its CA and webhook certificate, its configuration,
	// and the services in which it looks for plugins.
	ownRules = []rule{
		{groups: []string{"coordination.k8s.io"}, resources: []string{"leases"}, verbs: []string{"create", "get", "list", "update", "watch"}},
		{groups: []string{""}, resources: []string{"secrets"}, verbs: noDelete},
		{groups: []string{""}, resources: []string{"configmaps", "pods", "services"}, verbs: read},
		{groups: []string{"apps"}, resources: []string{"deployments"}, verbs: read},
		{groups: []string{"discovery.k8s.io"}, resources: []string{"endpointslices"}, verbs: read},
		{groups: []string{""}, resources: []string{"events"}, verbs: []string{"create", "patch"}},
	}

	// watchedRules are for each namespace with clusters. The operator hands a part of them on to the instances.
	watchedRules = []rule{
		{groups: []string{""}, resources: []string{"configmaps", "secrets", "services"}, verbs: write},
		{groups: []string{""}, resources: []string{"configmaps/status", "secrets/status"}, verbs: status},
		{groups: []string{""}, resources: []string{"events"}, verbs: []string{"create", "patch"}},
		{groups: []string{""}, resources: []string{"persistentvolumeclaims", "pods"}, verbs: noUpdate},
		{groups: []string{""}, resources: []string{"pods/status"}, verbs: []string{"get"}},
		{groups: []string{""}, resources: []string{"serviceaccounts"}, verbs: noDelete},
		{groups: []string{"apps"}, resources: []string{"deployments"}, verbs: read},
		{groups: []string{"batch"}, resources: []string{"jobs"}, verbs: noUpdate},
		{groups: []string{"coordination.k8s.io"}, resources: []string{"leases"}, verbs: []string{"create", "get", "list", "update", "watch"}},
		{groups: []string{"policy"}, resources: []string{"poddisruptionbudgets"}, verbs: write},
		{groups: []string{"rbac.authorization.k8s.io"}, resources: []string{"rolebindings", "roles"}, verbs: noDelete},
		{groups: []string{"postgresql.cnpg.io"}, resources: []string{
			"backups", "clusters", "databaseroles", "databases", "publications", "scheduledbackups", "subscriptions",
		}, verbs: write},
		{groups: []string{"postgresql.cnpg.io"}, resources: []string{
			"backups/status", "databases/status", "publications/status", "scheduledbackups/status", "subscriptions/status",
		}, verbs: status},
		{groups: []string{"postgresql.cnpg.io"}, resources: []string{"imagecatalogs", "poolers"}, verbs: read},
		{groups: []string{"postgresql.cnpg.io"}, resources: []string{
			"clusters/finalizers", "databaseroles/finalizers", "poolers/finalizers",
		}, verbs: []string{"update"}},
		{groups: []string{"postgresql.cnpg.io"}, resources: []string{
			"clusters/status", "databaseroles/status", "failoverquorums/status",
		}, verbs: []string{"get", "patch", "update", "watch"}},
		{groups: []string{"postgresql.cnpg.io"}, resources: []string{"failoverquorums"}, verbs: []string{"create", "delete", "get", "list", "watch"}},
		// Asked for when the cluster has these kinds, whether they are used or not.
		{groups: []string{"monitoring.coreos.com"}, resources: []string{"podmonitors"}, verbs: noUpdate},
		{groups: []string{"snapshot.storage.k8s.io"}, resources: []string{"volumesnapshots"}, verbs: []string{"create", "get", "list", "patch", "watch"}},
	}
)

func policyRules(rules []rule) rbacv1.PolicyRuleArray {
	out := make(rbacv1.PolicyRuleArray, 0, len(rules))
	for _, r := range rules {
		args := rbacv1.PolicyRuleArgs{
			ApiGroups: pulumi.ToStringArray(r.groups), Resources: pulumi.ToStringArray(r.resources), Verbs: pulumi.ToStringArray(r.verbs),
		}
		if len(r.names) > 0 {
			args.ResourceNames = pulumi.ToStringArray(r.names)
		}
		out = append(out, args)
	}
	return out
}
