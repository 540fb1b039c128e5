package graph

import (
	"errors"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/crds"
	"ephemos.dev/deploy/components/loadbalancer"
	"ephemos.dev/deploy/components/postgres"
	"ephemos.dev/deploy/components/segmentation"
	"ephemos.dev/deploy/components/spire/agent"
	"ephemos.dev/deploy/components/spire/csi"
	"ephemos.dev/deploy/components/spire/registration"
	"ephemos.dev/deploy/components/spire/rootca"
	"ephemos.dev/deploy/components/spire/server"
	"ephemos.dev/deploy/components/workloads"
	"ephemos.dev/deploy/components/zones"
)

// Two instances of a component in one program have to differ in their names
// only. An operator and custom resource definitions are not here: a cluster
// holds one of each.
func TestTwoInstancesDoNotCollide(t *testing.T) {
	image := pulumi.String("image:1")
	instance := func(ctx *pulumi.Context, id string, opts ...pulumi.ResourceOption) error {
		model := zones.Model{
			Zones:      []zones.ZoneSpec{{Zone: zones.Management, Title: "Management", Class: zones.Managing, Default: zones.Deny}},
			Namespaces: []zones.Namespace{{Name: id, Zone: zones.Management}},
		}
		_, err1 := segmentation.New(ctx, "segmentation-"+id, &segmentation.Args{Model: model}, opts...)
		_, err2 := postgres.New(ctx, "postgres-"+id, &postgres.Args{Name: "db-" + id, Namespace: "shared", ImageName: image}, opts...)
		_, err3 := rootca.New(ctx, "root-ca-"+id, &rootca.Args{Name: "root-" + id, Namespace: "shared", Image: image, Organization: id}, opts...)
		_, err4 := server.New(ctx, "server-"+id, &server.Args{
			Name: "server-" + id, Namespace: "shared", TrustDomain: id + ".company.com", ClusterName: id,
			BundleConfigMap: "bundle-" + id, Image: image, ControllerManagerImage: image,
			Database: server.Database{Host: "db", Name: "spire", User: "spire", CASecret: pulumi.String("ca"), ClientSecret: pulumi.String("client")},
		}, opts...)
		_, err5 := loadbalancer.New(ctx, "entry-"+id, &loadbalancer.Args{
			Name: "entry-" + id, Namespace: "shared", Image: image, ServerService: "server-" + id, Servers: 3,
		}, opts...)
		_, err6 := agent.New(ctx, "agent-"+id, &agent.Args{
			Name: "agent-" + id, Namespace: "shared", TrustDomain: id + ".company.com", ClusterName: id, ServerAddress: "entry",
			Image: image, BundleConfigMap: pulumi.String("bundle-" + id),
		}, opts...)
		_, err7 := csi.New(ctx, "csi-"+id, &csi.Args{Name: "csi-" + id, Namespace: "shared", DriverName: id + ".csi.spiffe.io", Image: image, RegistrarImage: image}, opts...)
		_, err8 := registration.New(ctx, "registration-"+id, &registration.Args{
			ClassName: pulumi.String("server-" + id), Identities: []registration.Identity{{
				Name: "web-" + id, SPIFFEIDPath: "/web", Namespace: "web", ServiceAccount: "web", PodLabels: map[string]string{"app": "web"},
			}},
		}, opts...)
		_, err9 := workloads.New(ctx, "workloads-"+id, &workloads.Args{
			Namespace: id, TrustDomain: id + ".company.com", Images: workloads.Images{Payment: image, User: image, Order: image},
			Callers: workloads.Callers(zones.Standard(zones.Options{}), id+".company.com"),
		}, opts...)
		return errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, err9)
	}
	g, err := Record("test", func(ctx *pulumi.Context) error {
		cluster, err := newProvider(ctx)
		if err != nil {
			return err
		}
		if _, err := crds.New(ctx, "crds", &crds.Args{Sets: []crds.Set{crds.SPIRE, crds.CloudNativePG}}, pulumi.Providers(cluster)); err != nil {
			return err
		}
		return errors.Join(instance(ctx, "one", pulumi.Providers(cluster)), instance(ctx, "two", pulumi.Providers(cluster)))
	}, Update)
	require.NoError(t, err)
	assert.Empty(t, UniqueNames(g))
	assert.Empty(t, ComponentAncestor(g))
	assert.Empty(t, ExplicitProvider(g))
}
