package aws

import (
	"errors"
	"net/netip"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/audit"
	"ephemos.dev/deploy/components/cluster"
	"ephemos.dev/deploy/components/cluster/podgroups"
	"ephemos.dev/deploy/components/cluster/volumes"
	"ephemos.dev/deploy/components/keys"
	"ephemos.dev/deploy/components/loadbalancer/nlb"
	"ephemos.dev/deploy/components/manifest/placement"
	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/network/edge"
	"ephemos.dev/deploy/components/postgres/rdssetup"
	"ephemos.dev/deploy/components/segmentation"
	"ephemos.dev/deploy/components/spire/awsaccess"
	"ephemos.dev/deploy/components/spire/server"
	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/stacks"
)

// databaseName and databaseUser are the servers' in the database.
const databaseName, databaseUser = "spire", "spire"

// compose makes the ways in, and in the cluster what all platforms have.
func (d *deployment) compose() error {
	c := d.config
	entryArgs := &nlb.Args{
		VPCID: d.network.VPCID.ToStringOutput(), SubnetIDs: d.network.SubnetIDs(network.TierOf(zones.Management)),
		SecurityGroupID: d.network.GroupID(network.Group(zones.SPIREEntry)), NodePorts: [2]int{zones.NodePortEntryPrimary, zones.NodePortEntryBackup},
		NodeGroupASG: d.cluster.ASG(zones.Management), ZoneName: d.privateZone(), Protect: c.Profile.Protect,
	}
	if _, err := nlb.New(d.ctx, "entry", entryArgs, d.at()...); err != nil {
		return err
	}
	edgeArgs := &edge.Args{
		VPCID: d.network.VPCID.ToStringOutput(), SubnetIDs: d.network.SubnetIDs(network.Public), SecurityGroupID: d.network.GroupID(network.Group(zones.EdgeBalancer)),
		CertificateARN: pulumi.String(c.AWS.EdgeCertificateARN), NodeGroupASG: d.cluster.ASG(zones.DMZ),
		Hosts: []edge.Host{
			{Name: zones.WebGateway, DNSName: c.WebHost, NodePort: zones.NodePortWeb},
			{Name: zones.APIGateway, DNSName: c.APIHost, NodePort: zones.NodePortAPI},
		},
		LogKeyARN: d.keys.ARN(keys.Logs), LogRetentionDays: c.Profile.AWS.LogRetentionDays, AccessLogBucket: d.archive.AccessLogBucket,
		AccessLogPrefix: audit.LoadBalancerPrefix,
		RateLimit:       c.AWS.RequestLimit, Protect: c.Profile.Protect,
	}
	if _, err := edge.New(d.ctx, "edge", edgeArgs, d.at()...); err != nil {
		return err
	}
	inside, err := kubernetes.NewProvider(d.ctx, "kubernetes", &kubernetes.ProviderArgs{
		Kubeconfig: d.cluster.Kubeconfig, ClusterIdentifier: d.cluster.ARN,
		EnableConfigMapMutable: pulumi.Bool(true), EnableSecretMutable: pulumi.Bool(true),
		// What is in the cluster ends with it.
	})
	if err != nil {
		return err
	}
	d.inside = inside
	grants, err := d.grants()
	if err != nil {
		return err
	}
	zoneSubnets := func(zone zones.Zone) []string { return prefixes(d.plan.Subnets(network.TierOf(zone))) }
	var nodes []string
	managed := map[zones.Zone][]string{}
	for _, z := range d.model.Zones {
		if z.Class != zones.Outside {
			nodes = append(nodes, zoneSubnets(z.Zone)...)
			managed[z.Zone] = zoneSubnets(z.Zone)
		}
	}
	public := prefixes(d.plan.Subnets(network.Public))
	managed[zones.DMZ] = public
	disks, err := volumes.New(d.ctx, "volumes", &volumes.Args{KeyARN: d.keys.ARN(keys.Disk), Retain: c.Profile.Protect},
		pulumi.Providers(inside), pulumi.DependsOn(d.cluster.Ready()))
	if err != nil {
		return err
	}
	places := placement.New(d.zoneOf())
	if err := d.ctx.RegisterStackTransformation(places.Transform); err != nil {
		return err
	}
	err = stacks.Compose(d.ctx, c, &stacks.Foundation{
		Cluster: inside, Model: d.model, After: d.cluster.Ready(), StorageClass: disks.Class.ToStringPtrOutput(),
		Ranges: segmentation.Ranges{
			Nodes: nodes, APIServer: zoneSubnets(zones.Platform), Pods: []string{d.plan.VPC.String()}, Managed: managed,
		},
		Managed: &stacks.Managed{
			Server: func(args *server.Args) {
				args.Database = server.Database{
					RDS:  &server.RDS{Region: c.AWS.Region, Endpoint: d.database.Endpoint, CABundle: c.AWS.DatabaseCAs},
					Name: databaseName, User: databaseUser,
				}
				// Volumes would bind a server to an availability zone; with keys in KMS there are none.
				args.KMS = &server.KMS{Region: c.AWS.Region, AccountID: c.AWS.AccountID, RoleARN: grants.servers.RoleARN}
				args.PrivateCA = &server.PrivateCA{Region: c.AWS.Region, ARN: d.authorities.SubordinateARN, StandbyRoots: d.authorities.StandbyCertificate}
			},
			EntryAddress: entryArgs.Address(), EntryNodePorts: [2]int{zones.NodePortEntryPrimary, zones.NodePortEntryBackup},
			EntryCIDRs:       prefixes(d.plan.Subnets(network.TierOf(zones.Management))),
			GatewayNodePorts: map[string]int{zones.WebGateway: zones.NodePortWeb, zones.APIGateway: zones.NodePortAPI},
			EdgeCIDRs:        public, EdgeHealthPath: edge.DefaultHealthPath, EdgeDrainDelay: edge.GatewayDrain,
			DatabaseHost: d.database.Endpoint,
			Prepare:      func(before []pulumi.ResourceOption) ([]pulumi.Resource, error) { return d.prepare(grants, before) },
		},
	})
	return errors.Join(err, places.Err())
}

// zoneOf is the zone of each namespace.
func (d *deployment) zoneOf() map[string]string {
	zone := map[string]string{}
	for _, n := range d.model.Namespaces {
		zone[n.Name] = string(n.Zone)
	}
	return zone
}

// zoneGroups are the security groups of the pods of each namespace: its zone's.
func (d *deployment) zoneGroups() map[string][]pulumi.StringInput {
	groups := map[string][]pulumi.StringInput{}
	for _, n := range d.model.Namespaces {
		groups[n.Name] = []pulumi.StringInput{d.network.GroupID(network.Group(n.Zone))}
	}
	return groups
}

// prepare gives pods their zone's security groups and makes the servers' role in the database.
func (d *deployment) prepare(g grants, before []pulumi.ResourceOption) ([]pulumi.Resource, error) {
	c := d.config
	groups, err := podgroups.New(d.ctx, "pod-groups", &podgroups.Args{Groups: d.zoneGroups()}, before...)
	if err != nil {
		return nil, err
	}
	setup := d.setupArgs()
	setup.Image, setup.CABundle = c.Images.Ref(stacks.ImageDatabaseSetup), c.AWS.DatabaseCAs
	job, err := rdssetup.New(d.ctx, "database-setup", &setup, append(before, pulumi.DependsOn(append(groups.Policies(), g.setup)))...)
	if err != nil {
		return nil, err
	}
	return []pulumi.Resource{groups, job, g.servers}, nil
}

// setupArgs are the arguments of the Job that prepares the database, but for what is in the cluster.
func (d *deployment) setupArgs() rdssetup.Args {
	return rdssetup.Args{
		Namespace: zones.NamespaceServer, Endpoint: d.database.Endpoint, MasterSecretARN: d.database.MasterSecretARN, Region: d.config.AWS.Region,
		Database: databaseName, Role: databaseUser,
	}
}

// grants are the roles of pods.
type grants struct {
	servers, setup *cluster.PodRole
}

// grants gives pods what they may do on AWS: the servers use their own keys, ask the private CA and sign in to the database; the
// Job that prepares the database reads its master user's password.
func (d *deployment) grants() (g grants, err error) {
	c := d.config
	policy, err := awsaccess.ServerPolicy(awsaccess.ServerArgs{
		AccountID: c.AWS.AccountID, Region: c.AWS.Region, TrustDomain: c.TrustDomain, ClusterName: d.name, CAKeyType: "ec-p256",
		Authorities:        []awsaccess.Authority{{ARN: d.authorities.SubordinateARN}},
		DatabaseResourceID: d.database.ClusterResourceID, DatabaseUser: databaseUser,
	})
	if err != nil {
		return g, err
	}
	role := func(name, account string, policy pulumi.StringInput) (*cluster.PodRole, error) {
		return cluster.NewPodRole(d.ctx, name, &cluster.PodRoleArgs{
			ClusterName: d.cluster.Name, ClusterARN: d.cluster.ARN, Namespace: zones.NamespaceServer, ServiceAccount: account, Policy: policy,
		}, d.at()...)
	}
	if g.servers, err = role("spire-server-role", server.Args{}.ServiceAccount(), policy); err != nil {
		return g, err
	}
	setup, err := awsaccess.SetupPolicy(awsaccess.SetupArgs{SecretARN: d.database.MasterSecretARN, KeyARN: d.keys.ARN(keys.MasterSecret), Region: c.AWS.Region})
	if err != nil {
		return g, err
	}
	g.setup, err = role("database-setup-role", d.setupArgs().ServiceAccount(), setup)
	return g, err
}

func prefixes(subnets []netip.Prefix) (ranges []string) {
	for _, subnet := range subnets {
		ranges = append(ranges, subnet.String())
	}
	return ranges
}
