// Package aws is the platform aws: it lays the foundation of a stack on AWS (keys, private CAs, network, firewall, cluster, database,
// load balancers, audit archive, backups, notifications) and hands it to the composition that every platform shares.
//
// In flows a checked configuration; out come resources, in two regions of one account, and the stack's outputs. Nothing is read from
// AWS while the program runs, so that a preview needs neither credentials nor a network.
package aws

import (
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/audit"
	"ephemos.dev/deploy/components/cluster"
	"ephemos.dev/deploy/components/keys"
	"ephemos.dev/deploy/components/keys/pca"
	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/network/vpc"
	"ephemos.dev/deploy/components/notification"
	"ephemos.dev/deploy/components/postgres/rds"
	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/stacks"
)

// Platform is AWS, for stacks.Program and stacks.Run.
var Platform = stacks.Platform{Name: stacks.PlatformAWS, Deploy: deploy}

// deployment is one run of the program on AWS.
type deployment struct {
	ctx    *pulumi.Context
	config *stacks.Config
	// name is the cluster's, and what AWS' names of the stack begin with.
	name string
	// home is the stack's region, away the one of copies and of the standby CA.
	home, away *aws.Provider
	plan       network.Plan
	model      zones.Model

	keys          *keys.Keys
	authorities   *pca.PCA
	notifications *notification.Notification
	archive       *audit.Archive
	network       *vpc.VPC
	cluster       *cluster.Cluster
	inside        *kubernetes.Provider
	database      *rds.Database
}

func deploy(ctx *pulumi.Context, c *stacks.Config) (err error) {
	d := &deployment{ctx: ctx, config: c, name: c.ClusterName, model: zones.AWS(zones.Options{})}
	if d.plan, err = network.NewPlan(c.AWS.VPC, c.AWS.AvailabilityZones); err != nil {
		return err
	}
	for _, lay := range []func() error{
		d.providers, d.trust, d.records, d.connect, d.run, d.keep, d.watch, d.compose,
	} {
		if err := lay(); err != nil {
			return err
		}
	}
	return nil
}
