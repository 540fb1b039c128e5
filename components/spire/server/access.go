package server

import (
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	rbacv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/rbac/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// A rule is one line of what the servers may do.
type rule struct {
	groups    []string
	resources []string
	names     []string
	verbs     []string
}

func (r rule) args() rbacv1.PolicyRuleArgs {
	args := rbacv1.PolicyRuleArgs{
		ApiGroups: pulumi.ToStringArray(r.groups),
		Resources: pulumi.ToStringArray(r.resources),
		Verbs:     pulumi.ToStringArray(r.verbs),
	}
	if len(r.names) > 0 {
		args.ResourceNames = pulumi.ToStringArray(r.names)
	}
	return args
}

func ruleArray(rules []rule) rbacv1.PolicyRuleArray {
	out := make(rbacv1.PolicyRuleArray, len(rules))
	for i, r := range rules {
		out[i] = r.args()
	}
	return out
}

var read = []string{"get", "list", "watch"}

// clusterRules are needed in the whole cluster.
func (a Args) clusterRules() []rule {
	return []rule{
		// Node attestation: is the agent's token genuine, and which node is it on.
		{groups: []string{"authentication.k8s.io"}, resources: []string{"tokenreviews"}, verbs: []string{"create"}},
		{groups: []string{""}, resources: []string{"nodes"}, verbs: read},
		// Registration: which pods match which ClusterSPIFFEID.
		{groups: []string{""}, resources: []string{"pods", "namespaces", "endpoints"}, verbs: read},
		{groups: []string{"spire.spiffe.io"}, resources: []string{"clusterspiffeids", "clusterstaticentries", "clusterfederatedtrustdomains"}, verbs: read},
		{groups: []string{"spire.spiffe.io"}, resources: []string{"clusterspiffeids/status", "clusterstaticentries/status", "clusterfederatedtrustdomains/status"}, verbs: []string{"get", "patch", "update"}},
		// The webhook's CA bundle. Lists and watches cannot be restricted to a
		// name, writing can.
		{groups: []string{"admissionregistration.k8s.io"}, resources: []string{"validatingwebhookconfigurations"}, verbs: []string{"list", "watch"}},
		{groups: []string{"admissionregistration.k8s.io"}, resources: []string{"validatingwebhookconfigurations"}, names: []string{a.webhookName()}, verbs: []string{"get", "patch"}},
	}
}

// ownRules are needed in the servers' own namespace: the controller managers
// elect a leader. A Lease's name cannot restrict its creation.
func (a Args) ownRules() []rule {
	return []rule{
		{groups: []string{"coordination.k8s.io"}, resources: []string{"leases"}, verbs: []string{"create"}},
		{groups: []string{"coordination.k8s.io"}, resources: []string{"leases"}, names: []string{a.leaseName()}, verbs: []string{"get", "update", "patch"}},
		{groups: []string{"", "events.k8s.io"}, resources: []string{"events"}, verbs: []string{"create", "patch"}},
	}
}

// agentRules are needed in the agents' namespace: the trust bundle is published
// to one ConfigMap. That the agents' pods may be read follows from clusterRules.
func (a Args) agentRules() []rule {
	return []rule{
		{groups: []string{""}, resources: []string{"configmaps"}, names: []string{a.BundleConfigMap}, verbs: []string{"get", "patch"}},
	}
}

// access makes the servers' service account and gives it what it needs. It
// returns what has to be there before the servers start.
func (b *builder) access() ([]pulumi.Resource, error) {
	account, err := corev1.NewServiceAccount(b.ctx, b.name+"-account", &corev1.ServiceAccountArgs{
		Metadata:                     b.meta(b.args.Name),
		AutomountServiceAccountToken: pulumi.Bool(false),
	}, b.opts...)
	if err != nil {
		return nil, err
	}
	subjects := rbacv1.SubjectArray{rbacv1.SubjectArgs{
		Kind: pulumi.String("ServiceAccount"), Name: account.Metadata.Name().Elem(), Namespace: pulumi.String(b.args.Namespace),
	}}

	clusterRole, err := rbacv1.NewClusterRole(b.ctx, b.name+"-cluster", &rbacv1.ClusterRoleArgs{
		Metadata: b.clusterMeta(b.args.Name), Rules: ruleArray(b.args.clusterRules()),
	}, b.opts...)
	if err != nil {
		return nil, err
	}
	clusterBinding, err := rbacv1.NewClusterRoleBinding(b.ctx, b.name+"-cluster", &rbacv1.ClusterRoleBindingArgs{
		Metadata: b.clusterMeta(b.args.Name), Subjects: subjects,
		RoleRef: rbacv1.RoleRefArgs{
			ApiGroup: pulumi.String("rbac.authorization.k8s.io"), Kind: pulumi.String("ClusterRole"), Name: clusterRole.Metadata.Name().Elem(),
		},
	}, b.opts...)
	if err != nil {
		return nil, err
	}

	bindings := []pulumi.Resource{account, clusterBinding}
	for _, r := range []struct {
		suffix, namespace, name string
		rules                   []rule
	}{
		{"-own", b.args.Namespace, b.args.Name, b.args.ownRules()},
		{"-bundle", b.args.AgentNamespace, b.args.Name + "-bundle", b.args.agentRules()},
	} {
		role, err := rbacv1.NewRole(b.ctx, b.name+r.suffix, &rbacv1.RoleArgs{
			Metadata: b.metaIn(r.namespace, r.name), Rules: ruleArray(r.rules),
		}, b.opts...)
		if err != nil {
			return nil, err
		}
		binding, err := rbacv1.NewRoleBinding(b.ctx, b.name+r.suffix, &rbacv1.RoleBindingArgs{
			Metadata: b.metaIn(r.namespace, r.name), Subjects: subjects,
			RoleRef: rbacv1.RoleRefArgs{
				ApiGroup: pulumi.String("rbac.authorization.k8s.io"), Kind: pulumi.String("Role"), Name: role.Metadata.Name().Elem(),
			},
		}, b.opts...)
		if err != nil {
			return nil, err
		}
		bindings = append(bindings, binding)
	}
	return bindings, nil
}
