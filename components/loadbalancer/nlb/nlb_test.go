package nlb

import (
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
)

func minimal() *Args {
	return &Args{
		VPCID: pulumi.String("vpc-1"), SubnetIDs: pulumi.ToStringArray([]string{"subnet-a", "subnet-b", "subnet-c"}), SecurityGroupID: pulumi.String("sg-entry"),
		NodePorts: [2]int{30081, 30082}, NodeGroupASG: pulumi.String("eks-management"), ZoneName: "prod.internal",
	}
}

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "entry", args)
		return err
	})
}

func arn(what string) string { return "arn:aws:elasticloadbalancing:eu-central-1:123456789012:" + what }

// byName finds a resource of a type by its name in Pulumi.
func byName(t *testing.T, g *manifesttest.Graph, kind, name string) manifesttest.Resource {
	t.Helper()
	for _, r := range g.All(kind) {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return manifesttest.Resource{}
}

func TestEntries(t *testing.T) {
	g := record(t, minimal())
	for _, kind := range []string{"LoadBalancer", "Listener", "TargetGroup", "Attachment", "Record"} {
		require.Len(t, g.All(kind), 2, kind)
	}
	for entry, port := range map[string]float64{Primary: 30081, Backup: 30082} {
		t.Run(entry, func(t *testing.T) {
			balancer := byName(t, g, "LoadBalancer", "entry-"+entry).Object
			for property, want := range map[string]any{
				"name": "stack-entry-" + entry, "loadBalancerType": "network", "internal": true, "subnets": []any{"subnet-a", "subnet-b", "subnet-c"},
				"securityGroups": []any{"sg-entry"}, "enableCrossZoneLoadBalancing": true, "enableDeletionProtection": false,
			} {
				require.Equal(t, want, balancer[property], property)
			}

			group := byName(t, g, "TargetGroup", "entry-"+entry+"-servers").Object
			for property, want := range map[string]any{
				"targetType": "instance", "protocol": "TCP", "port": port, "vpcId": "vpc-1", "proxyProtocolV2": true, "preserveClientIp": "false",
				"connectionTermination": true, "targetHealthStates": []any{map[string]any{"enableUnhealthyConnectionTermination": true}},
			} {
				require.Equal(t, want, group[property], property)
			}
			require.Equal(t, "TCP", manifesttest.Get(group, "healthCheck.protocol"))
			require.Equal(t, "traffic-port", manifesttest.Get(group, "healthCheck.port"))
			groupARN := arn("targetgroup/" + group["name"].(string) + "/0123456789abcdef")
			require.Equal(t, map[string]any{"autoscalingGroupName": "eks-management", "lbTargetGroupArn": groupARN},
				byName(t, g, "Attachment", "entry-"+entry+"-nodes").Object)

			listener := byName(t, g, "Listener", "entry-"+entry+"-listener").Object
			require.Equal(t, "TCP", listener["protocol"], "servers have to see the agents' certificates")
			require.Equal(t, 8081.0, listener["port"])
			require.Nil(t, listener["certificateArn"])
			require.Nil(t, listener["sslPolicy"])
			require.Equal(t, arn("loadbalancer/net/stack-entry-"+entry+"/0123456789abcdef"), listener["loadBalancerArn"])
			require.Equal(t, []any{map[string]any{"type": "forward", "targetGroupArn": groupARN}}, listener["defaultActions"])
		})
	}
}

func TestFailover(t *testing.T) {
	g := record(t, minimal())
	zone := g.One(t, "Zone").Object
	require.Equal(t, "prod.internal", zone["name"])
	require.Equal(t, []any{map[string]any{"vpcId": "vpc-1"}}, zone["vpcs"], "a zone without a VPC is public")
	for entry, policy := range map[string]string{Primary: "PRIMARY", Backup: "SECONDARY"} {
		record := byName(t, g, "Record", "entry-"+entry+"-record")
		require.Equal(t, minimal().Address(), record.Object["name"])
		require.Equal(t, "A", record.Object["type"])
		require.Equal(t, "Zprod.internal", record.Object["zoneId"])
		require.Equal(t, entry, record.Object["setIdentifier"])
		require.Equal(t, []any{map[string]any{"type": policy}}, record.Object["failoverRoutingPolicies"])
		require.Equal(t, []any{map[string]any{
			"name": "stack-entry-" + entry + "-0123456789abcdef.elb.eu-central-1.amazonaws.com", "zoneId": "Z3F0SRJ5LGBH90", "evaluateTargetHealth": true,
		}}, record.Object["aliases"])
		require.Contains(t, record.Dependencies, "entry-"+entry+"-listener")
	}
}

// TestTimeouts holds what the package's comment says of SPIRE's and AWS' limits.
func TestTimeouts(t *testing.T) {
	// SPIRE pkg/server/endpoints, defaultMaxConnectionAge, and a tenth that gRPC adds.
	oldest := 3 * time.Minute * 11 / 10
	g := record(t, minimal())
	for _, l := range g.All("Listener") {
		idle := time.Duration(l.Object["tcpIdleTimeoutSeconds"].(float64)) * time.Second
		require.Greater(t, idle, oldest, "no connection is forgotten that lives")
		require.LessOrEqual(t, idle, 6000*time.Second)
	}
	for _, group := range g.All("TargetGroup") {
		drain := time.Duration(group.Object["deregistrationDelay"].(float64)) * time.Second
		require.Greater(t, drain, oldest+30*time.Second, "the servers end their connections, and calls on them, before the balancer does")
		require.LessOrEqual(t, drain, time.Hour)
		check := group.Object["healthCheck"].(map[string]any)
		require.LessOrEqual(t, check["timeout"], check["interval"])
		require.LessOrEqual(t, check["interval"].(float64)*check["unhealthyThreshold"].(float64), 20.0, "as nodeports says")
		for _, key := range []string{"healthyThreshold", "unhealthyThreshold"} {
			require.GreaterOrEqual(t, check[key], 2.0)
		}
	}
}

func TestProtect(t *testing.T) {
	for _, protect := range []bool{false, true} {
		args := minimal()
		args.Protect = protect
		g := record(t, args)
		for _, r := range g.All("LoadBalancer") {
			require.Equal(t, protect, r.Object["enableDeletionProtection"])
			require.Equal(t, protect, r.Protect)
		}
		require.Equal(t, protect, g.One(t, "Zone").Protect)
	}
}

func TestLongNamesFit(t *testing.T) {
	args := minimal()
	args.Name = "production-of-the-european-trust-domain"
	g := record(t, args)
	seen := map[any]bool{}
	for _, r := range append(g.All("LoadBalancer"), g.All("TargetGroup")...) {
		name := r.Object["name"].(string)
		require.LessOrEqual(t, len(name), 32)
		require.Regexp(t, "^production-of-[-a-z0-9]*[a-z0-9]$", name)
		require.False(t, seen[name])
		seen[name] = true
	}
}

func TestAddress(t *testing.T) {
	args := minimal()
	require.Equal(t, "spire-server.prod.internal", args.Address())
	args.RecordName = "identity"
	require.Equal(t, "identity.prod.internal", args.Address())
	var address, zone string
	manifesttest.Record(t, func(ctx *pulumi.Context) error {
		n, err := New(ctx, "entry", args)
		if err != nil {
			return err
		}
		n.Address.ApplyT(func(v string) string { address = v; return v })
		n.ZoneID.ApplyT(func(v string) string { zone = v; return v })
		return nil
	})
	require.Equal(t, args.Address(), address)
	require.Equal(t, "Zprod.internal", zone)
}

func TestRefuses(t *testing.T) {
	for key, change := range map[string]func(*Args){
		"name":            func(a *Args) { a.Name = "entry_1" },
		"vpcID":           func(a *Args) { a.VPCID = nil },
		"subnetIDs":       func(a *Args) { a.SubnetIDs = nil },
		"securityGroupID": func(a *Args) { a.SecurityGroupID = nil },
		"nodeGroupASG":    func(a *Args) { a.NodeGroupASG = nil },
		"nodePorts[0]":    func(a *Args) { a.NodePorts[0] = 8081 },
		"nodePorts[1]":    func(a *Args) { a.NodePorts[1] = a.NodePorts[0] },
		"zoneName":        func(a *Args) { a.ZoneName = "internal" },
		"recordName":      func(a *Args) { a.RecordName = "spire.server" },
		"port":            func(a *Args) { a.Port = -1 },
	} {
		t.Run(key, func(t *testing.T) {
			args := minimal()
			change(args)
			err := refused(t, args)
			require.ErrorContains(t, err, "nlb entry: "+key+`: "`)
			require.Equal(t, 1, strings.Count(err.Error(), " is not allowed: it must be "), "one mistake, one error: %v", err)
		})
	}
	err := refused(t, &Args{Name: "internal-entry", Port: 65536})
	for _, key := range []string{
		"name", "vpcID", "subnetIDs", "securityGroupID", "nodeGroupASG", "nodePorts[0]", "nodePorts[1]", "zoneName", "port",
	} {
		require.ErrorContains(t, err, key+`: "`)
	}
	require.Error(t, refused(t, nil))
	args := minimal()
	args.SubnetIDs = pulumi.ToStringArray([]string{"subnet-a"})
	require.ErrorContains(t, refused(t, args), `subnetIDs: "1" is not allowed`)
}

func refused(t *testing.T, args *Args) error {
	t.Helper()
	return manifesttest.Refused(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "entry", args)
		return err
	})
}
