package cost

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/stacks/inventory"
	"ephemos.dev/deploy/test/standin"
)

// Whatever the program may use is priced, free, or listed with a unit price.
func TestEveryTypeHasARow(t *testing.T) {
	for _, typ := range standin.Types() {
		if strings.HasPrefix(typ, "aws:") {
			assert.Contains(t, rows, typ)
		}
	}
}

func TestEveryRegionHasEveryPrice(t *testing.T) {
	us, eu := table["us-east-1"], table["eu-central-1"]
	for name := range us.ec2 {
		assert.Positive(t, eu.ec2[name], name)
	}
	for name := range us.rds {
		assert.Positive(t, eu.rds[name], name)
	}
	for name := range us.aurora {
		assert.Positive(t, eu.aurora[name], name)
	}
	for region, p := range table {
		for token, row := range rows {
			if row.usage == nil {
				continue
			}
			for _, u := range row.usage(p) {
				assert.Positive(t, u.Price, "%s %s %s", region, token, u.What)
				assert.NotEmpty(t, u.Unit, token)
			}
		}
	}
}

func resource(typ, name string, inputs map[string]any) inventory.Resource {
	return inventory.Resource{URN: "urn:" + name, Type: typ, Name: name, Custom: true, Parent: "urn:part", Inputs: inputs}
}

func example() *inventory.Inventory {
	group := resource("aws:eks/nodeGroup:NodeGroup", "nodes", map[string]any{
		"instanceTypes": []any{"m6i.xlarge"}, "scalingConfig": map[string]any{"desiredSize": 3.0}})
	group.Dependencies = []string{"urn:template"}
	return inventory.New("test", []inventory.Resource{
		{URN: "urn:part", Type: "ephemos:test:Part", Name: "part"},
		{URN: "urn:abroad", Type: "pulumi:providers:aws", Name: "abroad", Custom: true, Inputs: map[string]any{"region": "us-east-1"}},
		group,
		resource("aws:ec2/launchTemplate:LaunchTemplate", "template", map[string]any{"blockDeviceMappings": []any{
			map[string]any{"ebs": map[string]any{"volumeSize": 20.0}}, map[string]any{"ebs": map[string]any{"volumeSize": 80.0}}}}),
		resource("aws:rds/cluster:Cluster", "db", map[string]any{
			"engine": "postgres", "dbClusterInstanceClass": "db.m6gd.large", "allocatedStorage": 100.0, "iops": 1000.0, "storageType": "io1"}),
		resource("aws:ec2/vpcEndpoint:VpcEndpoint", "sts", map[string]any{
			"vpcEndpointType": "Interface", "serviceName": "com.amazonaws.eu-central-1.sts", "subnetIds": []any{"a", "b", "c"}}),
		resource("aws:ec2/vpcEndpoint:VpcEndpoint", "gateway", map[string]any{"vpcEndpointType": "Gateway"}),
		resource("aws:lb/loadBalancer:LoadBalancer", "alb", map[string]any{"subnets": []any{"a", "b", "c"}}),
		resource("aws:lb/loadBalancer:LoadBalancer", "nlb", map[string]any{"subnets": []any{"a", "b", "c"}, "loadBalancerType": "network", "internal": true}),
		resource("aws:wafv2/webAcl:WebAcl", "acl", map[string]any{"ruleJson": `[{},{}]`}),
		resource("aws:acmpca/certificateAuthority:CertificateAuthority", "ca", map[string]any{"usageMode": "SHORT_LIVED_CERTIFICATE"}),
		{URN: "urn:ca2", Type: "aws:acmpca/certificateAuthority:CertificateAuthority", Name: "ca2", Custom: true, Parent: "urn:part", Provider: "urn:abroad", Inputs: map[string]any{}},
		resource("kubernetes:apps/v1:StatefulSet", "servers", map[string]any{"spec": map[string]any{"replicas": 3.0, "volumeClaimTemplates": []any{
			map[string]any{"spec": map[string]any{"resources": map[string]any{"requests": map[string]any{"storage": "2Gi"}}}}}}}),
		resource("aws:braket/job:Job", "unknown", nil),
	})
}

func TestEstimate(t *testing.T) {
	e := Of(example(), "eu-central-1")
	got := map[string]float64{}
	for _, l := range e.Lines {
		got[l.Name+": "+l.What] = l.Monthly
		assert.Equal(t, "part", l.Component, l.Name)
	}
	for what, want := range map[string]float64{
		"nodes: nodes m6i.xlarge":                                3 * 0.23 * 730,
		"nodes: disks of the nodes (gp3)":                        3 * 100 * 0.0952,
		"db: writer and two standbys db.m6gd.large":              3 * 0.215 * 730,
		"db: storage in three zones":                             300 * 0.149,
		"db: provisioned IOPS in three zones":                    3000 * 0.119,
		"sts: endpoint sts":                                      3 * 0.012 * 730,
		"alb: application load balancer":                         0.027 * 730,
		"alb: public addresses":                                  3 * 0.005 * 730,
		"nlb: network load balancer":                             0.027 * 730,
		"acl: web ACL":                                           5,
		"acl: rules":                                             2,
		"ca: certificate authority for short-lived certificates": 50,
		"ca2: certificate authority":                             400,
		"servers: volumes of its pods (gp3)":                     6 * 0.0952,
	} {
		assert.InDelta(t, want, got[what], 0.001, what)
		delete(got, what)
	}
	assert.Empty(t, got)
	assert.Equal(t, []string{"aws:braket/job:Job"}, e.NotPriced)
	assert.InDelta(t, e.Total(), e.ByComponent()["part"], 0.001)

	var out bytes.Buffer
	require.NoError(t, e.Write(&out))
	for _, want := range []string{Date, Source, "approximate", "Not priced: aws:braket/job:Job", "all components", "(us-east-1)"} {
		assert.Contains(t, out.String(), want)
	}
}

func TestAnInstanceTypeWithoutPriceIsReported(t *testing.T) {
	e := Of(inventory.New("test", []inventory.Resource{
		resource("aws:eks/nodeGroup:NodeGroup", "nodes", map[string]any{"instanceTypes": []any{"z9.large"}, "scalingConfig": map[string]any{"desiredSize": 1.0}}),
	}), "eu-central-1")
	assert.Equal(t, []string{"instance type z9.large"}, e.NotPriced)
}
