package cluster

import (
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/eks"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/iampolicy"
	"ephemos.dev/deploy/components/zones"
)

// ZoneLabel is the label of nodes that names their network zone. Pods are placed by it.
const ZoneLabel = "ephemos.dev/zone"

// NodeGroup are the nodes of one zone.
type NodeGroup struct {
	// Zone is the network zone, one of those that a cluster has nodes in. Required.
	Zone zones.Zone
	// SubnetIDs are the zone's subnets, one in each of three availability zones. Required.
	SubnetIDs pulumi.StringArrayInput
	// InstanceTypes are tried in this order. They must be x86 and able to give pods security groups of their own. Required.
	InstanceTypes []string
	// Min, Max and Desired are numbers of nodes, over all three availability zones. Required: 1 <= Min <= Desired <= Max.
	Min, Max, Desired int
	// DiskGiB is the size of the disk for images and pods, at least 20. Required.
	DiskGiB int
}

// nodeZones are the zones that have nodes.
var nodeZones = []zones.Zone{zones.DMZ, zones.Application, zones.Data, zones.Management, zones.Platform}

// userData is the configuration of the nodes' operating system.
//
//go:embed bottlerocket.toml
var userData string

func (a Args) validateNodeGroups() error {
	if len(a.NodeGroups) == 0 {
		return errors.New("nodeGroups: there must be at least one: without nodes no add-on ever runs")
	}
	var errs []error
	for i, g := range a.NodeGroups {
		field := fmt.Sprintf("nodeGroups[%d]", i)
		refuse := func(name string, value any, allowed string) {
			errs = append(errs, fmt.Errorf("%s.%s: %#v is not allowed: it must be %s", field, name, value, allowed))
		}
		if !slices.Contains(nodeZones, g.Zone) {
			refuse("zone", string(g.Zone), fmt.Sprintf("one of %v", nodeZones))
		}
		if slices.ContainsFunc(a.NodeGroups[:i], func(o NodeGroup) bool { return o.Zone == g.Zone }) {
			refuse("zone", string(g.Zone), "there once: a zone has one group of nodes")
		}
		errs = append(errs, threeSubnets(field+".subnetIDs", g.SubnetIDs))
		if len(g.InstanceTypes) == 0 {
			refuse("instanceTypes", g.InstanceTypes, "at least one, such as m6i.large")
		}
		for _, t := range g.InstanceTypes {
			if err := validateInstanceType(t); err != nil {
				errs = append(errs, fmt.Errorf("%s.instanceTypes: %w", field, err))
			}
		}
		if g.Min < 1 || g.Min > g.Desired || g.Desired > g.Max {
			errs = append(errs, fmt.Errorf("%s: min %d, desired %d, max %d are not allowed: it must be 1 <= min <= desired <= max", field, g.Min, g.Desired, g.Max))
		}
		if g.DiskGiB < 20 || g.DiskGiB > 16384 {
			refuse("diskGiB", g.DiskGiB, "20 to 16384")
		}
	}
	return errors.Join(errs...)
}

var (
	instancePattern = regexp.MustCompile(`^([a-z]+)([0-9]+)([a-z0-9-]*)\.([a-z0-9-]+)$`)
	// noTrunk are the families without interfaces of pods: burstable ones of any generation, and those before Nitro
	// (IsTrunkingCompatible in pkg/aws/vpc/limits.go of aws/amazon-vpc-resource-controller-k8s).
	noTrunk = regexp.MustCompile(`^(t[0-9].*|c[134]|d2|f1|g[23]s?|h1|i[23]|m[1-4]|p[23]|r[34]|x1e?)$`)
	// noTrunkTypes are single types without, in families that have them.
	noTrunkTypes = []string{"i4i.large"}
)

func validateInstanceType(t string) error {
	m := instancePattern.FindStringSubmatch(t)
	if m == nil || m[1] == "mac" {
		return fmt.Errorf("%q is not allowed: it must be a type such as m6i.large", t)
	}
	family := m[1] + m[2] + m[3]
	switch {
	case noTrunk.MatchString(family), slices.Contains(noTrunkTypes, t):
		return fmt.Errorf("%q is not allowed: it has no trunk interfaces, without which pods have no security groups of their own; m6i, c6i and m7i have", t)
	case family == "a1", strings.HasPrefix(m[3], "g"):
		return fmt.Errorf("%q is not allowed: it is Arm, and the nodes run x86; m6i, c6i and m7i do", t)
	}
	return nil
}

// nodeGroup makes a zone's role, launch template and nodes.
func (b builder) nodeGroup(control *eks.Cluster, g NodeGroup, depends []pulumi.Resource) (*eks.NodeGroup, error) {
	a := b.args
	prefix := fmt.Sprintf("%s-%s", b.name, g.Zone)
	role, err := iam.NewRole(b.ctx, prefix+"-role", &iam.RoleArgs{
		Description: pulumi.Sprintf("Nodes of the zone %s in the EKS cluster %s", string(g.Zone), a.Name),
		AssumeRolePolicy: iampolicy.Document(iampolicy.Statement{
			Sid: "Nodes", Principal: iampolicy.Service("ec2.amazonaws.com"), Action: "sts:AssumeRole",
		}),
	}, b.options()...)
	if err != nil {
		return nil, fmt.Errorf("role: %w", err)
	}
	// No network permissions: those belong to the CNI's pods. No Systems Manager: nobody gets into a node.
	worker, err := b.attach(prefix+"-worker", role, workerNodePolicy)
	if err != nil {
		return nil, err
	}
	pull, err := b.attach(prefix+"-pull", role, pullPolicy)
	if err != nil {
		return nil, err
	}
	template, err := b.launchTemplate(prefix, g)
	if err != nil {
		return nil, err
	}
	args := &eks.NodeGroupArgs{
		ClusterName: control.Name, NodeGroupNamePrefix: pulumi.String(string(g.Zone) + "-"), NodeRoleArn: role.Arn, SubnetIds: g.SubnetIDs,
		Version: pulumi.String(a.Version), AmiType: pulumi.String("BOTTLEROCKET_x86_64"), CapacityType: pulumi.String("ON_DEMAND"),
		InstanceTypes: pulumi.ToStringArray(g.InstanceTypes),
		LaunchTemplate: &eks.NodeGroupLaunchTemplateArgs{
			Id: template.ID().ToStringOutput().ToStringPtrOutput(), Version: pulumi.Sprintf("%d", template.LatestVersion),
		},
		ScalingConfig: &eks.NodeGroupScalingConfigArgs{MinSize: pulumi.Int(g.Min), MaxSize: pulumi.Int(g.Max), DesiredSize: pulumi.Int(g.Desired)},
		// One node at a time, drained with respect for disruption budgets.
		UpdateConfig:     &eks.NodeGroupUpdateConfigArgs{MaxUnavailable: pulumi.Int(1)},
		NodeRepairConfig: &eks.NodeGroupNodeRepairConfigArgs{Enabled: pulumi.Bool(true)},
		Labels:           pulumi.StringMap{ZoneLabel: pulumi.String(string(g.Zone))},
		Tags:             b.nodeTags(g),
	}
	if a.NodeRelease != "" {
		args.ReleaseVersion = pulumi.String(a.NodeRelease)
	}
	depends = slices.Concat(depends, []pulumi.Resource{worker, pull})
	return eks.NewNodeGroup(b.ctx, prefix+"-nodes", args, b.options(pulumi.DependsOn(depends))...)
}

func (b builder) nodeTags(g NodeGroup) pulumi.StringMap {
	tags := pulumi.StringMap{}
	for key, value := range b.args.Tags {
		tags[key] = pulumi.String(value)
	}
	tags["Name"], tags["Zone"] = pulumi.Sprintf("%s-%s", b.args.Name, string(g.Zone)), pulumi.String(string(g.Zone))
	return tags
}

func (b builder) launchTemplate(prefix string, g NodeGroup) (*ec2.LaunchTemplate, error) {
	a := b.args
	disk := func(device string, size pulumi.IntPtrInput) *ec2.LaunchTemplateBlockDeviceMappingArgs {
		return &ec2.LaunchTemplateBlockDeviceMappingArgs{DeviceName: pulumi.String(device), Ebs: &ec2.LaunchTemplateBlockDeviceMappingEbsArgs{
			Encrypted: pulumi.String("true"), KmsKeyId: a.DiskKeyARN.ToStringOutput().ToStringPtrOutput(), VolumeType: pulumi.String("gp3"),
			VolumeSize: size, DeleteOnTermination: pulumi.String("true"),
		}}
	}
	var tags ec2.LaunchTemplateTagSpecificationArray
	for _, kind := range []string{"instance", "volume", "network-interface"} {
		tags = append(tags, &ec2.LaunchTemplateTagSpecificationArgs{ResourceType: pulumi.String(kind), Tags: b.nodeTags(g)})
	}
	template, err := ec2.NewLaunchTemplate(b.ctx, prefix+"-template", &ec2.LaunchTemplateArgs{
		Description:          pulumi.Sprintf("Nodes of the zone %s in the EKS cluster %s", string(g.Zone), a.Name),
		UpdateDefaultVersion: pulumi.Bool(true),
		// The system's disk, of the image's size, and the one for images and pods.
		BlockDeviceMappings: ec2.LaunchTemplateBlockDeviceMappingArray{disk("/dev/xvda", nil), disk("/dev/xvdb", pulumi.Int(g.DiskGiB))},
		// Pods are one hop further than their node: they do not get the node's role.
		MetadataOptions: &ec2.LaunchTemplateMetadataOptionsArgs{
			HttpEndpoint: pulumi.String("enabled"), HttpTokens: pulumi.String("required"), HttpPutResponseHopLimit: pulumi.Int(1),
			InstanceMetadataTags: pulumi.String("disabled"),
		},
		Monitoring: &ec2.LaunchTemplateMonitoringArgs{Enabled: pulumi.Bool(true)},
		// As groups are named, EKS does not add its own, in which every member may reach every other.
		NetworkInterfaces: ec2.LaunchTemplateNetworkInterfaceArray{&ec2.LaunchTemplateNetworkInterfaceArgs{
			DeviceIndex: pulumi.Int(0), AssociatePublicIpAddress: pulumi.String("false"), DeleteOnTermination: pulumi.String("true"),
			SecurityGroups: pulumi.StringArray{a.NodeGroupID},
		}},
		TagSpecifications: tags,
		Tags:              b.nodeTags(g),
		UserData:          pulumi.String(base64.StdEncoding.EncodeToString([]byte(userData))),
	}, b.options()...)
	if err != nil {
		return nil, fmt.Errorf("launch template: %w", err)
	}
	return template, nil
}
