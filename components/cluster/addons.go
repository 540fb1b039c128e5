package cluster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/eks"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/zones"
)

// Versions are the versions of EKS' managed add-ons, such as "v1.22.4-eksbuild.3". `aws eks describe-addon-versions
// --kubernetes-version 1.35` lists those that a version of Kubernetes takes.
type Versions struct {
	VPCCNI, KubeProxy, CoreDNS, PodIdentityAgent, EBSCSIDriver string
}

// AddonVersions are the versions of the add-ons by minor version of Kubernetes: what clusters upgraded in September 2026 ran, as
// reported in public upgrade logs (kube-proxy and CoreDNS: EKS' defaults of the time). Not confirmed against the API, which is
// asked at the deployment and refuses a version that it no longer has.
var AddonVersions = map[string]Versions{
	"1.35": {
		VPCCNI: "v1.22.4-eksbuild.3", KubeProxy: "v1.35.3-eksbuild.29", CoreDNS: "v1.13.2-eksbuild.31",
		PodIdentityAgent: "v1.3.10-eksbuild.3", EBSCSIDriver: "v1.66.0-eksbuild.1",
	},
	"1.36": {
		VPCCNI: "v1.22.4-eksbuild.3", KubeProxy: "v1.36.0-eksbuild.25", CoreDNS: "v1.14.3-eksbuild.23",
		PodIdentityAgent: "v1.3.10-eksbuild.3", EBSCSIDriver: "v1.66.0-eksbuild.1",
	},
}

func (v Versions) withDefaults(d Versions) Versions {
	return Versions{
		VPCCNI: cmp.Or(v.VPCCNI, d.VPCCNI), KubeProxy: cmp.Or(v.KubeProxy, d.KubeProxy), CoreDNS: cmp.Or(v.CoreDNS, d.CoreDNS),
		PodIdentityAgent: cmp.Or(v.PodIdentityAgent, d.PodIdentityAgent), EBSCSIDriver: cmp.Or(v.EBSCSIDriver, d.EBSCSIDriver),
	}
}

var addonPattern = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+-eksbuild\.[0-9]+$`)

func (v Versions) validate(kubernetes string) error {
	var errs []error
	for _, f := range []struct{ field, version string }{
		{"addons.vpcCNI", v.VPCCNI}, {"addons.kubeProxy", v.KubeProxy}, {"addons.coreDNS", v.CoreDNS},
		{"addons.podIdentityAgent", v.PodIdentityAgent}, {"addons.ebsCSIDriver", v.EBSCSIDriver},
	} {
		if !addonPattern.MatchString(f.version) {
			errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be a version such as v1.22.4-eksbuild.3, as none is known for Kubernetes %q",
				f.field, f.version, kubernetes))
		}
	}
	return errors.Join(errs...)
}

// A phase says when an add-on is installed.
type phase bool

const (
	// beforeNodes are add-ons that run on every node and that a node waits for.
	beforeNodes phase = false
	// afterNodes are those that need a node to run on, without which EKS calls them degraded.
	afterNodes phase = true
)

// An addon is one of EKS' managed add-ons.
type addon struct {
	name, version string
	phase         phase
	// config is its configuration, or nil.
	config any
	// account is the service account, in kube-system, that needs a role in AWS. Empty: it needs none.
	account string
	// managed is the policy of the role, of AWS' own.
	managed string
	// more is what the role may do besides, or nil.
	more []iampolicy.Statement
}

type object = map[string]any

// onPlatform places an add-on's pods on the platform's nodes when there are any.
func (a Args) onPlatform(config object) object {
	if slices.ContainsFunc(a.NodeGroups, func(g NodeGroup) bool { return g.Zone == zones.Platform }) {
		config["nodeSelector"] = object{ZoneLabel: string(zones.Platform)}
	}
	return config
}

func (a Args) addonList() []addon {
	return []addon{
		{
			name: "vpc-cni", version: a.Addons.VPCCNI, account: "aws-node", managed: cniPolicy,
			config: object{
				// Network policies are enforced, and what they deny is logged on the node.
				"enableNetworkPolicy": "true",
				"nodeAgent":           object{"enablePolicyEventLogs": "true"},
				"env": object{
					// Pods get interfaces with security groups of their own. In standard mode network policies, node ports and probes
					// of the kubelet work for them too, which the strict mode rules out.
					"ENABLE_POD_ENI":                    "true",
					"POD_SECURITY_GROUP_ENFORCING_MODE": "standard",
					// Nothing leaves the VPC: no pod's address is ever replaced by its node's, under whose group it would then run.
					"AWS_VPC_K8S_CNI_EXTERNALSNAT": "true",
				},
			},
		},
		{name: "kube-proxy", version: a.Addons.KubeProxy},
		{name: "eks-pod-identity-agent", version: a.Addons.PodIdentityAgent},
		{
			name: "coredns", version: a.Addons.CoreDNS, phase: afterNodes,
			// One for each availability zone.
			config: a.onPlatform(object{"replicaCount": 3, "topologySpreadConstraints": []object{{
				"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
				"labelSelector": object{"matchLabels": object{"k8s-app": "kube-dns"}},
			}}}),
		},
		{
			name: "aws-ebs-csi-driver", version: a.Addons.EBSCSIDriver, phase: afterNodes, account: "ebs-csi-controller-sa", managed: ebsPolicy,
			config: object{"controller": a.onPlatform(object{})},
			// Volumes are encrypted with the key of the disks ("Amazon EBS CSI driver", encryption with a key of one's own).
			more: []iampolicy.Statement{
				{
					Sid: "AttachEncryptedVolumes", Resource: a.DiskKeyARN, Action: []string{"kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"},
					Condition: iampolicy.Condition{"Bool": {"kms:GrantIsForAWSResource": "true"}},
				},
				{
					Sid: "EncryptVolumes", Resource: a.DiskKeyARN,
					Action: []string{"kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"},
				},
			},
		},
	}
}

// addons installs those of a phase.
func (b builder) addons(control *eks.Cluster, when phase, depends []pulumi.Resource) ([]pulumi.Resource, error) {
	var made []pulumi.Resource
	for _, a := range b.args.addonList() {
		if a.phase != when {
			continue
		}
		r, err := b.addon(control, a, depends)
		if err != nil {
			return nil, fmt.Errorf("add-on %s: %w", a.name, err)
		}
		made = append(made, r)
	}
	return made, nil
}

func (b builder) addon(control *eks.Cluster, a addon, depends []pulumi.Resource) (pulumi.Resource, error) {
	args := &eks.AddonArgs{
		ClusterName: control.Name, AddonName: pulumi.String(a.name), AddonVersion: pulumi.String(a.version),
		// What is written here holds, whatever somebody changed in the cluster.
		ResolveConflictsOnCreate: pulumi.String("OVERWRITE"), ResolveConflictsOnUpdate: pulumi.String("OVERWRITE"),
	}
	if a.config != nil {
		text, err := json.Marshal(a.config)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		args.ConfigurationValues = pulumi.String(text)
	}
	if a.account != "" {
		role, permissions, err := b.addonRole(control, a)
		if err != nil {
			return nil, err
		}
		depends = slices.Concat(depends, permissions)
		args.PodIdentityAssociations = eks.AddonPodIdentityAssociationArray{
			&eks.AddonPodIdentityAssociationArgs{ServiceAccount: pulumi.String(a.account), RoleArn: role.Arn},
		}
	}
	return eks.NewAddon(b.ctx, b.name+"-"+a.name, args, b.options(pulumi.DependsOn(depends))...)
}

func (b builder) addonRole(control *eks.Cluster, a addon) (*iam.Role, []pulumi.Resource, error) {
	prefix := b.name + "-" + a.name
	role, err := iam.NewRole(b.ctx, prefix+"-role", &iam.RoleArgs{
		Description:      pulumi.Sprintf("Add-on %s of the EKS cluster %s", a.name, b.args.Name),
		AssumeRolePolicy: podTrust(control.Arn, "kube-system", a.account),
	}, b.options()...)
	if err != nil {
		return nil, nil, fmt.Errorf("role: %w", err)
	}
	managed, err := b.attach(prefix+"-managed", role, a.managed)
	if err != nil {
		return nil, nil, err
	}
	permissions := []pulumi.Resource{managed}
	if len(a.more) > 0 {
		policy, err := iam.NewRolePolicy(b.ctx, prefix+"-policy", &iam.RolePolicyArgs{
			Role: role.Name, Policy: iampolicy.Document(a.more...),
		}, b.options()...)
		if err != nil {
			return nil, nil, fmt.Errorf("policy: %w", err)
		}
		permissions = append(permissions, policy)
	}
	return role, permissions, nil
}
