package cluster

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/manifest/manifesttest"
	"ephemos.dev/deploy/components/zones"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const admin = "arn:aws:iam::123456789012:role/deploy/admin"

func subnets(names ...string) pulumi.StringArray { return pulumi.ToStringArray(names) }

func group(zone zones.Zone) NodeGroup {
	z := string(zone)
	return NodeGroup{
		Zone: zone, SubnetIDs: subnets(z+"-a", z+"-b", z+"-c"), InstanceTypes: []string{"m6i.large", "m7i.large"},
		Min: 3, Max: 6, Desired: 3, DiskGiB: 50,
	}
}

func minimal() Args {
	a := Args{
		Name: "prod", SubnetIDs: subnets("platform-a", "platform-b", "platform-c"),
		ControlPlaneGroupID: pulumi.String("sg-control"), NodeGroupID: pulumi.String("sg-nodes"),
		SecretsKeyARN:  pulumi.String("arn:aws:kms:eu-central-1:123456789012:key/secrets"),
		DiskKeyARN:     pulumi.String("arn:aws:kms:eu-central-1:123456789012:key/disk"),
		LogKeyARN:      pulumi.String("arn:aws:kms:eu-central-1:123456789012:key/logs"),
		Administrators: []string{admin}, LogRetentionDays: 365,
	}
	for _, zone := range nodeZones {
		a.NodeGroups = append(a.NodeGroups, group(zone))
	}
	return a
}

// change returns minimal with something changed.
func change(f func(*Args)) *Args {
	a := minimal()
	f(&a)
	return &a
}

// record returns what New registers, and what the cluster says about itself, as the inputs of "outputs".
func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		c, err := New(ctx, "c", args)
		if err != nil {
			return err
		}
		values := pulumi.Map{
			"Name": c.Name, "Endpoint": c.Endpoint, "CertificateAuthority": c.CertificateAuthority, "ARN": c.ARN, "Kubeconfig": c.Kubeconfig,
		}
		for _, g := range args.NodeGroups {
			values[string(g.Zone)] = c.ASG(g.Zone)
		}
		return outputs(ctx, values, pulumi.DependsOn(c.Ready()))
	})
}

// outputs registers a resource that keeps values, for the test to read.
func outputs(ctx *pulumi.Context, values pulumi.Map, opts ...pulumi.ResourceOption) error {
	return ctx.RegisterResource("test:index:Outputs", "outputs", values, &pulumi.CustomResourceState{}, opts...)
}

// named returns the resource of that name in Pulumi.
func named(t *testing.T, g *manifesttest.Graph, kind, name string) manifesttest.Resource {
	t.Helper()
	all := g.All(kind)
	i := slices.IndexFunc(all, func(r manifesttest.Resource) bool { return r.Name == name })
	require.GreaterOrEqual(t, i, 0, "%s %s", kind, name)
	return all[i]
}

func get(r manifesttest.Resource, path string) any { return manifesttest.Get(r.Object, path) }

func TestControlPlane(t *testing.T) {
	a := minimal()
	g := record(t, &a)
	c := named(t, g, "Cluster", "c-control-plane")
	for path, want := range map[string]any{
		"name": "prod", "version": DefaultVersion,
		"vpcConfig.endpointPrivateAccess": true, "vpcConfig.endpointPublicAccess": false, "vpcConfig.publicAccessCidrs": nil,
		"vpcConfig.subnetIds": []any{"platform-a", "platform-b", "platform-c"}, "vpcConfig.securityGroupIds": []any{"sg-control"},
		"accessConfig.authenticationMode": "API", "accessConfig.bootstrapClusterCreatorAdminPermissions": false,
		"bootstrapSelfManagedAddons": false, "upgradePolicy.supportType": "STANDARD", "zonalShiftConfig.enabled": true,
		"encryptionConfig.provider.keyArn": "arn:aws:kms:eu-central-1:123456789012:key/secrets",
		"encryptionConfig.resources":       []any{"secrets"},
		"enabledClusterLogTypes":           []any{"api", "audit", "authenticator", "controllerManager", "scheduler"},
		"roleArn":                          "arn:aws:iam::123456789012:role/c-control-plane-role",
		"kubernetesNetworkConfig.ipFamily": "ipv4", "kubernetesNetworkConfig.serviceIpv4Cidr": "172.20.0.0/16",
	} {
		require.Equal(t, want, get(c, path), path)
	}
	logs := g.One(t, "LogGroup")
	require.Equal(t, "/aws/eks/prod/cluster", get(logs, "name"))
	require.Equal(t, "arn:aws:kms:eu-central-1:123456789012:key/logs", get(logs, "kmsKeyId"))
	require.Equal(t, 365.0, get(logs, "retentionInDays"))
	// The group before the cluster, or EKS makes one without a key.
	require.Subset(t, c.Dependencies, []string{"c-logs", "c-control-plane-policy", "c-control-plane-interfaces"})
	require.Equal(t, vpcControllerPolicy, get(named(t, g, "RolePolicyAttachment", "c-control-plane-interfaces"), "policyArn"))
}

func TestPublicAccess(t *testing.T) {
	c := named(t, record(t, change(func(a *Args) { a.PublicAccessCIDRs = []string{"198.51.100.0/24", "203.0.113.7/32"} })), "Cluster", "c-control-plane")
	require.Equal(t, true, get(c, "vpcConfig.endpointPublicAccess"))
	require.Equal(t, true, get(c, "vpcConfig.endpointPrivateAccess"))
	require.Equal(t, []any{"198.51.100.0/24", "203.0.113.7/32"}, get(c, "vpcConfig.publicAccessCidrs"))
}

func TestProtect(t *testing.T) {
	for _, protect := range []bool{true, false} {
		g := record(t, change(func(a *Args) { a.Protect = protect }))
		require.Equal(t, protect, named(t, g, "Cluster", "c-control-plane").Protect)
		require.Equal(t, protect, g.One(t, "LogGroup").Protect)
	}
}

func TestAdministrators(t *testing.T) {
	other := "arn:aws:iam::210987654321:user/admin"
	g := record(t, change(func(a *Args) { a.Administrators = []string{admin, other} }))
	entries := map[string]string{}
	for _, e := range g.All("AccessEntry") {
		entries[get(e, "principalArn").(string)] = e.Name
		require.Equal(t, "STANDARD", get(e, "type"))
		require.Equal(t, "prod", get(e, "clusterName"))
		require.Nil(t, get(e, "kubernetesGroups"))
	}
	require.Len(t, entries, 2)
	require.NotEqual(t, entries[admin], entries[other], "two of the same name are two entries")
	policies := g.All("AccessPolicyAssociation")
	require.Len(t, policies, 2)
	for _, p := range policies {
		require.Contains(t, entries, get(p, "principalArn"))
		require.Equal(t, "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy", get(p, "policyArn"))
		require.Equal(t, "cluster", get(p, "accessScope.type"))
	}
	reversed := record(t, change(func(a *Args) { a.Administrators = []string{other, admin} }))
	for _, e := range reversed.All("AccessEntry") {
		require.Equal(t, entries[get(e, "principalArn").(string)], e.Name, "the order is no part of the name")
	}
}

func TestNodes(t *testing.T) {
	a := minimal()
	a.Tags = map[string]string{"Owner": "platform"}
	g := record(t, &a)
	require.Len(t, g.All("NodeGroup"), len(nodeZones))
	for _, zone := range nodeZones {
		z := string(zone)
		n := named(t, g, "NodeGroup", "c-"+z+"-nodes")
		for path, want := range map[string]any{
			"clusterName": "prod", "amiType": "BOTTLEROCKET_x86_64", "capacityType": "ON_DEMAND", "version": DefaultVersion,
			"remoteAccess": nil, "taints": nil, "diskSize": nil, "releaseVersion": nil,
			"labels": map[string]any{"ephemos.dev/zone": z}, "subnetIds": []any{z + "-a", z + "-b", z + "-c"},
			"instanceTypes": []any{"m6i.large", "m7i.large"}, "nodeRoleArn": "arn:aws:iam::123456789012:role/c-" + z + "-role",
			"launchTemplate.id": "lt-c-" + z + "-template", "launchTemplate.version": "1", "updateConfig.maxUnavailable": 1.0,
			"nodeRepairConfig.enabled": true, "nodeGroupNamePrefix": z + "-",
			"scalingConfig": map[string]any{"minSize": 3.0, "maxSize": 6.0, "desiredSize": 3.0},
		} {
			require.Equal(t, want, get(n, path), "%s %s", z, path)
		}
		require.Subset(t, n.Dependencies, []string{
			"c-" + z + "-worker", "c-" + z + "-pull", "c-vpc-cni", "c-kube-proxy", "c-eks-pod-identity-agent",
		})

		lt := named(t, g, "LaunchTemplate", "c-"+z+"-template")
		for path, want := range map[string]any{
			"metadataOptions.httpEndpoint": "enabled", "metadataOptions.httpTokens": "required", "metadataOptions.httpPutResponseHopLimit": 1.0,
			"monitoring.enabled": true, "imageId": nil, "keyName": nil, "iamInstanceProfile": nil, "vpcSecurityGroupIds": nil,
			"networkInterfaces.0.associatePublicIpAddress": "false", "networkInterfaces.0.securityGroups": []any{"sg-nodes"},
			"networkInterfaces.0.deleteOnTermination": "true", "networkInterfaces.0.subnetId": nil,
			"blockDeviceMappings.0.deviceName": "/dev/xvda", "blockDeviceMappings.1.deviceName": "/dev/xvdb",
			"blockDeviceMappings.1.ebs.volumeSize": 50.0,
		} {
			require.Equal(t, want, get(lt, path), "%s %s", z, path)
		}
		for _, disk := range []string{"0", "1"} {
			for path, want := range map[string]any{
				"encrypted": "true", "kmsKeyId": "arn:aws:kms:eu-central-1:123456789012:key/disk", "volumeType": "gp3", "deleteOnTermination": "true",
			} {
				require.Equal(t, want, get(lt, "blockDeviceMappings."+disk+".ebs."+path), path)
			}
		}
		tags := map[string]any{"Name": "prod-" + z, "Zone": z, "Owner": "platform"}
		for i, kind := range []string{"instance", "volume", "network-interface"} {
			require.Equal(t, map[string]any{"resourceType": kind, "tags": tags}, get(lt, "tagSpecifications").([]any)[i])
		}

		var attached []any
		for _, r := range g.All("RolePolicyAttachment") {
			if get(r, "role") == "c-"+z+"-role" {
				attached = append(attached, get(r, "policyArn"))
			}
		}
		require.ElementsMatch(t, []any{
			"arn:aws:iam::aws:policy/AmazonEKSWorkerNodeMinimalPolicy", "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
		}, attached, "a node has no other permission")
	}
}

func TestNodeRelease(t *testing.T) {
	g := record(t, change(func(a *Args) { a.NodeRelease = "1.54.0-aabbccdd" }))
	require.Equal(t, "1.54.0-aabbccdd", get(named(t, g, "NodeGroup", "c-data-nodes"), "releaseVersion"))
}

func TestUserData(t *testing.T) {
	a := minimal()
	text, err := base64.StdEncoding.DecodeString(get(named(t, record(t, &a), "LaunchTemplate", "c-dmz-template"), "userData").(string))
	require.NoError(t, err)
	var settings map[string]any
	_, err = toml.Decode(string(text), &settings)
	require.NoError(t, err)
	for path, want := range map[string]any{
		"host-containers.admin.enabled": false, "host-containers.control.enabled": false, "kubernetes.seccomp-default": true,
		"kernel.lockdown": "integrity", "ntp.time-servers": []any{"169.254.169.123"}, "metrics.send-metrics": false,
		"kernel.modules.sctp.allowed": false, "kernel.modules.udf.allowed": false,
	} {
		require.Equal(t, want, manifesttest.Get(settings, "settings."+path), path)
	}
	for key, value := range manifesttest.Get(settings, "settings.kernel.sysctl").(map[string]any) {
		require.Equal(t, "0", value, key)
	}
	// What EKS sets itself must not be overridden, and it cannot read headers with quoted keys.
	for _, key := range []string{"api-server", "cluster-certificate", "cluster-name", "node-labels"} {
		require.Nil(t, manifesttest.Get(settings, "settings.kubernetes."+key), key)
	}
	require.NotRegexp(t, regexp.MustCompile(`(?m)^\[.*["'].*\]`), string(text))
	require.Less(t, len(text), 16*1024, "EC2's limit")
}

func TestAddons(t *testing.T) {
	a := minimal()
	g := record(t, &a)
	versions := map[string]string{}
	for _, r := range g.All("Addon") {
		name := get(r, "addonName").(string)
		versions[name] = get(r, "addonVersion").(string)
		require.Equal(t, "prod", get(r, "clusterName"))
		require.Equal(t, "OVERWRITE", get(r, "resolveConflictsOnCreate"))
		require.Equal(t, "OVERWRITE", get(r, "resolveConflictsOnUpdate"))
		require.Nil(t, get(r, "serviceAccountRoleArn"), "pod identity, not a provider of OIDC")
		// A node waits for the first, the others for a node.
		if name == "coredns" || name == "aws-ebs-csi-driver" {
			require.Contains(t, r.Dependencies, "c-platform-nodes", name)
		} else {
			require.NotContains(t, strings.Join(r.Dependencies, " "), "-nodes", name)
		}
	}
	require.Equal(t, map[string]string{
		"vpc-cni": "v1.22.4-eksbuild.3", "kube-proxy": "v1.35.3-eksbuild.29", "coredns": "v1.13.2-eksbuild.31",
		"eks-pod-identity-agent": "v1.3.10-eksbuild.3", "aws-ebs-csi-driver": "v1.66.0-eksbuild.1",
	}, versions)

	config := func(name string) map[string]any {
		var values map[string]any
		require.NoError(t, json.Unmarshal([]byte(get(named(t, g, "Addon", "c-"+name), "configurationValues").(string)), &values))
		return values
	}
	require.Equal(t, map[string]any{
		"enableNetworkPolicy": "true", "nodeAgent": map[string]any{"enablePolicyEventLogs": "true"},
		"env": map[string]any{
			"ENABLE_POD_ENI": "true", "POD_SECURITY_GROUP_ENFORCING_MODE": "standard", "AWS_VPC_K8S_CNI_EXTERNALSNAT": "true",
		},
	}, config("vpc-cni"))
	require.Equal(t, "platform", config("coredns")["nodeSelector"].(map[string]any)[ZoneLabel])
	require.Equal(t, 3.0, config("coredns")["replicaCount"])
	require.Equal(t, "platform", manifesttest.Get(config("aws-ebs-csi-driver"), "controller.nodeSelector").(map[string]any)[ZoneLabel])

	for name, account := range map[string]string{"vpc-cni": "aws-node", "aws-ebs-csi-driver": "ebs-csi-controller-sa"} {
		require.Equal(t, []any{map[string]any{"serviceAccount": account, "roleArn": "arn:aws:iam::123456789012:role/c-" + name + "-role"}},
			get(named(t, g, "Addon", "c-"+name), "podIdentityAssociations"))
	}
	require.Equal(t, cniPolicy, get(named(t, g, "RolePolicyAttachment", "c-vpc-cni-managed"), "policyArn"))
	require.Equal(t, ebsPolicy, get(named(t, g, "RolePolicyAttachment", "c-aws-ebs-csi-driver-managed"), "policyArn"))
}

// TestWithoutPlatformNodes holds that add-ons are not bound to nodes that do not exist.
func TestWithoutPlatformNodes(t *testing.T) {
	g := record(t, change(func(a *Args) { a.NodeGroups = []NodeGroup{group(zones.Data)} }))
	for _, r := range g.All("Addon") {
		text, _ := get(r, "configurationValues").(string)
		require.NotContains(t, text, "nodeSelector")
	}
}

func TestOtherVersion(t *testing.T) {
	v := Versions{VPCCNI: "v1.2.3-eksbuild.4", KubeProxy: "v1.37.0-eksbuild.1", CoreDNS: "v1.15.0-eksbuild.1", PodIdentityAgent: "v1.4.0-eksbuild.1", EBSCSIDriver: "v1.70.0-eksbuild.1"}
	g := record(t, change(func(a *Args) { a.Version, a.Addons = "1.37", v }))
	require.Equal(t, "1.37", get(named(t, g, "Cluster", "c-control-plane"), "version"))
	require.Equal(t, "v1.2.3-eksbuild.4", get(named(t, g, "Addon", "c-vpc-cni"), "addonVersion"))
	for version := range AddonVersions {
		a := minimal()
		a.Version = version
		require.NoError(t, a.WithDefaults().validate(), version)
	}
}

// policies returns every policy document of the recording by the resource that has it.
func policies(g *manifesttest.Graph) map[string]string {
	out := map[string]string{}
	for _, r := range g.All("Role") {
		out[r.Name] = get(r, "assumeRolePolicy").(string)
	}
	for _, r := range g.All("RolePolicy") {
		out[r.Name] = get(r, "policy").(string)
	}
	return out
}

func TestPolicies(t *testing.T) {
	a := minimal()
	a.AccountID, a.Region = "123456789012", "eu-central-1"
	documents := policies(record(t, &a))
	for name, text := range documents {
		kind := iampolicy.Inline
		if strings.HasSuffix(name, "-role") {
			kind = iampolicy.Trust
		}
		require.Empty(t, iampolicy.ValidateAs(kind, text), "%s %s", name, text)
	}
	require.JSONEq(t, `{"Version":"2012-10-17","Statement":[{"Sid":"ControlPlane","Effect":"Allow",
		"Principal":{"Service":["eks.amazonaws.com"]},"Action":"sts:AssumeRole","Condition":{
		"StringEquals":{"aws:SourceAccount":"123456789012"},
		"ArnLike":{"aws:SourceArn":"arn:aws:eks:eu-central-1:123456789012:cluster/prod"}}}]}`, documents["c-control-plane-role"])
	require.JSONEq(t, `{"Version":"2012-10-17","Statement":[{"Sid":"PodIdentity","Effect":"Allow",
		"Principal":{"Service":["pods.eks.amazonaws.com"]},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"StringEquals":{
		"aws:RequestTag/eks-cluster-arn":"arn:aws:eks:eu-central-1:123456789012:cluster/prod",
		"aws:RequestTag/kubernetes-namespace":"kube-system","aws:RequestTag/kubernetes-service-account":"aws-node"}}}]}`, documents["c-vpc-cni-role"])
	require.Contains(t, documents["c-aws-ebs-csi-driver-policy"], `"arn:aws:kms:eu-central-1:123456789012:key/disk"`)
	require.NotContains(t, documents["c-aws-ebs-csi-driver-policy"], `"Resource":"*"`)
	require.NotContains(t, documents["c-control-plane-policy"], "elasticloadbalancing")
}

func TestOutputs(t *testing.T) {
	a := minimal()
	got := named(t, record(t, &a), "Outputs", "outputs")
	require.Equal(t, "prod", get(got, "Name"))
	require.Equal(t, "arn:aws:eks:eu-central-1:123456789012:cluster/prod", get(got, "ARN"))
	for _, zone := range nodeZones {
		require.Equal(t, "eks-c-"+string(zone)+"-nodes", get(got, ""+string(zone)))
	}
	require.Subset(t, got.Dependencies, []string{"c-coredns", "c-data-nodes", "c-vpc-cni"}, "Ready")
	golden(t, "kubeconfig.json", get(got, "Kubeconfig").(string))
}

func golden(t *testing.T, file, text string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), text)
}

func TestKubeconfig(t *testing.T) {
	text, err := Kubeconfig("prod", "https://0.gr7.eu-central-1.eks.amazonaws.com", "Y2VydGlmaWNhdGU=", "eu-central-1")
	require.NoError(t, err)
	config, err := clientcmd.Load([]byte(text))
	require.NoError(t, err)
	client, err := clientcmd.NewDefaultClientConfig(*config, nil).ClientConfig()
	require.NoError(t, err)
	require.Equal(t, "https://0.gr7.eu-central-1.eks.amazonaws.com", client.Host)
	require.Equal(t, "certificate", string(client.CAData))
	require.False(t, client.Insecure)
	require.Equal(t, "aws", client.ExecProvider.Command)
	require.Equal(t, []string{"--region", "eu-central-1", "eks", "get-token", "--cluster-name", "prod", "--output", "json"}, client.ExecProvider.Args)
	// No credential of any kind.
	require.Empty(t, client.BearerToken+client.Username+client.Password+string(client.KeyData)+client.KeyFile)
}

func TestInstanceTypes(t *testing.T) {
	for _, ok := range []string{"m6i.large", "c6i.xlarge", "m7i.2xlarge", "m7i-flex.large", "r5.large", "m5.metal", "i4i.xlarge", "c7a.large", "m8i.large"} {
		require.NoError(t, validateInstanceType(ok))
	}
	for refused, why := range map[string]string{
		"t2.large": "trunk", "t3.large": "trunk", "t3a.large": "trunk", "t4g.large": "trunk", "m4.large": "trunk", "c4.large": "trunk",
		"r4.large": "trunk", "i3.large": "trunk", "i4i.large": "trunk", "x1e.large": "trunk",
		"m6g.large": "Arm", "c7gn.large": "Arm", "a1.large": "Arm", "large": "such as", "": "such as", "mac2.metal": "such as", "m6i": "such as",
	} {
		require.ErrorContains(t, validateInstanceType(refused), why, refused)
	}
}

func TestRefused(t *testing.T) {
	zone := func(f func(*NodeGroup)) func(*Args) { return func(a *Args) { f(&a.NodeGroups[1]) } }
	for name, c := range map[string]struct {
		change func(*Args)
		want   string
	}{
		"no name":                 {func(a *Args) { a.Name = "" }, `name: ""`},
		"name with a dot":         {func(a *Args) { a.Name = "a.b" }, `name: "a.b"`},
		"long name":               {func(a *Args) { a.Name = strings.Repeat("a", 101) }, "name:"},
		"patch version":           {func(a *Args) { a.Version = "1.35.1" }, `version: "1.35.1"`},
		"unknown version":         {func(a *Args) { a.Version = "1.20" }, `addons.kubeProxy: ""`},
		"add-on's version":        {func(a *Args) { a.Addons.CoreDNS = "latest" }, `addons.coreDNS: "latest"`},
		"two subnets":             {func(a *Args) { a.SubnetIDs = subnets("a", "b") }, "subnetIDs: 2 subnets"},
		"no subnets":              {func(a *Args) { a.SubnetIDs = nil }, "subnetIDs: 0 subnets"},
		"no group":                {func(a *Args) { a.NodeGroupID = nil }, "nodeGroupID"},
		"no control plane group":  {func(a *Args) { a.ControlPlaneGroupID = nil }, "controlPlaneGroupID"},
		"no key of secrets":       {func(a *Args) { a.SecretsKeyARN = nil }, "secretsKeyARN"},
		"no key of disks":         {func(a *Args) { a.DiskKeyARN = nil }, "diskKeyARN"},
		"no key of logs":          {func(a *Args) { a.LogKeyARN = nil }, "logKeyARN"},
		"everybody":               {func(a *Args) { a.PublicAccessCIDRs = []string{"0.0.0.0/0"} }, `publicAccessCIDRs: "0.0.0.0/0"`},
		"everybody in two halves": {func(a *Args) { a.PublicAccessCIDRs = []string{"0.0.0.0/1", "128.0.0.0/1"} }, `publicAccessCIDRs: "128.0.0.0/1"`},
		"everybody by IPv6":       {func(a *Args) { a.PublicAccessCIDRs = []string{"::/0"} }, `publicAccessCIDRs: "::/0"`},
		"private range as public": {func(a *Args) { a.PublicAccessCIDRs = []string{"10.0.0.0/16"} }, `publicAccessCIDRs: "10.0.0.0/16"`},
		"address as range":        {func(a *Args) { a.PublicAccessCIDRs = []string{"198.51.100.1"} }, "publicAccessCIDRs"},
		"bits of the host":        {func(a *Args) { a.PublicAccessCIDRs = []string{"198.51.100.1/24"} }, "publicAccessCIDRs"},
		"lockout":                 {func(a *Args) { a.Administrators = nil }, "administrators"},
		"account as admin":        {func(a *Args) { a.Administrators = []string{"arn:aws:iam::123456789012:root"} }, "administrators"},
		"session as admin":        {func(a *Args) { a.Administrators = []string{"arn:aws:sts::123456789012:assumed-role/a/b"} }, "administrators"},
		"wildcard as admin":       {func(a *Args) { a.Administrators = []string{"arn:aws:iam::123456789012:role/*"} }, "administrators"},
		"admin twice":             {func(a *Args) { a.Administrators = []string{admin, admin} }, "administrators"},
		"retention of 0":          {func(a *Args) { a.LogRetentionDays = 0 }, `logRetentionDays: "0"`},
		"retention of 100":        {func(a *Args) { a.LogRetentionDays = 100 }, `logRetentionDays: "100"`},
		"public services":         {func(a *Args) { a.ServiceCIDR = "198.51.100.0/24" }, "serviceCIDR"},
		"few services":            {func(a *Args) { a.ServiceCIDR = "172.20.0.0/25" }, "serviceCIDR"},
		"account":                 {func(a *Args) { a.AccountID = "1" }, "accountID"},
		"region":                  {func(a *Args) { a.Region = "Frankfurt" }, "region"},
		"release":                 {func(a *Args) { a.NodeRelease = "latest" }, "nodeRelease"},
		"tag":                     {func(a *Args) { a.Tags = map[string]string{"aws:x": "y"} }, "tags"},
		"no nodes":                {func(a *Args) { a.NodeGroups = nil }, "nodeGroups"},
		"zone twice":              {zone(func(g *NodeGroup) { g.Zone = zones.DMZ }), `nodeGroups[1].zone: "dmz"`},
		"zone without nodes":      {zone(func(g *NodeGroup) { g.Zone = zones.Internet }), `nodeGroups[1].zone: "internet"`},
		"burstable":               {zone(func(g *NodeGroup) { g.InstanceTypes = []string{"m6i.large", "t3.large"} }), `nodeGroups[1].instanceTypes: "t3.large"`},
		"no type":                 {zone(func(g *NodeGroup) { g.InstanceTypes = nil }), "nodeGroups[1].instanceTypes"},
		"no node":                 {zone(func(g *NodeGroup) { g.Min, g.Desired = 0, 0 }), "nodeGroups[1]: min 0"},
		"more than the most":      {zone(func(g *NodeGroup) { g.Desired = 7 }), "nodeGroups[1]: min 3, desired 7"},
		"small disk":              {zone(func(g *NodeGroup) { g.DiskGiB = 19 }), "nodeGroups[1].diskGiB: 19"},
		"nodes in two zones":      {zone(func(g *NodeGroup) { g.SubnetIDs = subnets("a", "b") }), "nodeGroups[1].subnetIDs: 2"},
	} {
		t.Run(name, func(t *testing.T) {
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "c", change(c.change))
				return err
			})
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestRefusedTogether holds that all errors come at once, in an order that is always the same.
func TestRefusedTogether(t *testing.T) {
	refuse := func() string {
		return manifesttest.Refused(t, func(ctx *pulumi.Context) error {
			_, err := New(ctx, "c", nil)
			return err
		}).Error()
	}
	text := refuse()
	for _, field := range []string{"name", "subnetIDs", "secretsKeyARN", "diskKeyARN", "logKeyARN", "administrators", "nodeGroups", "logRetentionDays"} {
		require.Contains(t, text, field+":")
	}
	for range 20 {
		require.Equal(t, text, refuse())
	}
}

func TestPodRole(t *testing.T) {
	const policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Sign","Resource":"*"}]}`
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		r, err := NewPodRole(ctx, "p", &PodRoleArgs{
			ClusterName: pulumi.String("prod"), ClusterARN: pulumi.String("arn:aws:eks:eu-central-1:123456789012:cluster/prod"),
			Namespace: "spire-server", ServiceAccount: "spire-server", Policy: pulumi.String(policy),
		})
		if err != nil {
			return err
		}
		return outputs(ctx, pulumi.Map{"ARN": r.RoleARN})
	})
	trust := policies(g)["p-role"]
	require.Empty(t, iampolicy.ValidateAs(iampolicy.Trust, trust))
	require.JSONEq(t, `{"Version":"2012-10-17","Statement":[{"Sid":"PodIdentity","Effect":"Allow",
		"Principal":{"Service":["pods.eks.amazonaws.com"]},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"StringEquals":{
		"aws:RequestTag/eks-cluster-arn":"arn:aws:eks:eu-central-1:123456789012:cluster/prod",
		"aws:RequestTag/kubernetes-namespace":"spire-server","aws:RequestTag/kubernetes-service-account":"spire-server"}}}]}`, trust)
	require.Equal(t, policy, policies(g)["p-policy"])
	require.Equal(t, "p-role", get(g.One(t, "RolePolicy"), "role"))
	association := g.One(t, "PodIdentityAssociation")
	require.Equal(t, map[string]any{
		"clusterName": "prod", "namespace": "spire-server", "serviceAccount": "spire-server", "roleArn": "arn:aws:iam::123456789012:role/p-role",
	}, association.Object)
	require.Contains(t, association.Dependencies, "p-policy")
	require.Equal(t, "arn:aws:iam::123456789012:role/p-role", get(named(t, g, "Outputs", "outputs"), "ARN"))
}

func TestPodRoleRefused(t *testing.T) {
	valid := PodRoleArgs{ClusterName: pulumi.String("c"), ClusterARN: pulumi.String("a"), Namespace: "n", ServiceAccount: "s", Policy: pulumi.String("{}")}
	for want, f := range map[string]func(*PodRoleArgs){
		"clusterName":                 func(a *PodRoleArgs) { a.ClusterName = nil },
		"clusterARN":                  func(a *PodRoleArgs) { a.ClusterARN = nil },
		"policy":                      func(a *PodRoleArgs) { a.Policy = nil },
		`namespace: "*"`:              func(a *PodRoleArgs) { a.Namespace = "*" },
		`serviceAccount: ""`:          func(a *PodRoleArgs) { a.ServiceAccount = "" },
		`serviceAccount: "default"`:   func(a *PodRoleArgs) { a.ServiceAccount = "default" },
		`serviceAccount: "a*"`:        func(a *PodRoleArgs) { a.ServiceAccount = "a*" },
		`namespace: "kube-system/.."`: func(a *PodRoleArgs) { a.Namespace = "kube-system/.." },
	} {
		args := valid
		f(&args)
		require.ErrorContains(t, manifesttest.Refused(t, func(ctx *pulumi.Context) error {
			_, err := NewPodRole(ctx, "p", &args)
			return err
		}), want)
	}
}
