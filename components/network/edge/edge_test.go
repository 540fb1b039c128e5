package edge

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
		VPCID: pulumi.String("vpc-1"), SubnetIDs: pulumi.ToStringArray([]string{"subnet-a", "subnet-b", "subnet-c"}), SecurityGroupID: pulumi.String("sg-edge"),
		CertificateARN: pulumi.String("arn:aws:acm:eu-central-1:123456789012:certificate/1"), NodeGroupASG: pulumi.String("eks-dmz"),
		Hosts: []Host{
			{Name: "web-gateway", DNSName: "www.prod.company.com", NodePort: 30443},
			{Name: "api-gateway", DNSName: "api.prod.company.com", NodePort: 30444, HealthPath: "/health"},
		},
		LogKeyARN: pulumi.String("arn:aws:kms:eu-central-1:123456789012:key/logs"),
	}
}

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "edge", args)
		return err
	})
}

func TestBalancer(t *testing.T) {
	balancer := record(t, minimal()).One(t, "LoadBalancer").Object
	for property, want := range map[string]any{
		"name": "stack-edge", "loadBalancerType": "application", "internal": false, "ipAddressType": "ipv4",
		"subnets": []any{"subnet-a", "subnet-b", "subnet-c"}, "securityGroups": []any{"sg-edge"},
		"dropInvalidHeaderFields": true, "desyncMitigationMode": "strictest", "enableWafFailOpen": false, "xffHeaderProcessingMode": "append",
		"enableDeletionProtection": false, "idleTimeout": 50.0,
		"accessLogs": nil, "connectionLogs": nil,
	} {
		require.Equal(t, want, balancer[property], property)
	}
}

// TestOneListener: TLS or nothing, and no request without a rule is passed on.
func TestOneListener(t *testing.T) {
	g := record(t, minimal())
	listener := g.One(t, "Listener")
	require.Equal(t, "HTTPS", listener.Object["protocol"])
	require.Equal(t, 443.0, listener.Object["port"])
	require.Equal(t, "ELBSecurityPolicy-TLS13-1-2-Res-2021-06", listener.Object["sslPolicy"])
	require.Equal(t, "arn:aws:acm:eu-central-1:123456789012:certificate/1", listener.Object["certificateArn"])
	require.Equal(t, arn("loadbalancer/net/stack-edge/0123456789abcdef"), listener.Object["loadBalancerArn"])
	actions := listener.Object["defaultActions"].([]any)
	require.Len(t, actions, 1)
	require.Equal(t, "fixed-response", manifesttest.Get(actions[0], "type"))
	require.Equal(t, "404", manifesttest.Get(actions[0], "fixedResponse.statusCode"))
	require.Nil(t, manifesttest.Get(actions[0], "targetGroupArn"))
	require.Equal(t, false, listener.Object["routingHttpResponseServerEnabled"])

	// A component among the dependencies stands for its children.
	require.Contains(t, listener.Dependencies, "edge-waf-association", "nobody is served before the web ACL is there")
	require.Equal(t, arn("loadbalancer/net/stack-edge/0123456789abcdef"), g.One(t, "WebAclAssociation").Object["resourceArn"])
}

func arn(what string) string { return "arn:aws:elasticloadbalancing:eu-central-1:123456789012:" + what }

func TestHosts(t *testing.T) {
	g := record(t, minimal())
	for _, kind := range []string{"TargetGroup", "ListenerRule", "Attachment"} {
		require.Len(t, g.All(kind), 2)
	}
	for i, c := range []struct {
		resource, group, host, path string
		port                        float64
	}{
		{"edge-web-gateway", "stack-edge-web-gateway-30443", "www.prod.company.com", "/healthz", 30443},
		{"edge-api-gateway", "stack-edge-api-gateway-30444", "api.prod.company.com", "/health", 30444},
	} {
		group, attachment, rule := named(t, g, c.resource), named(t, g, c.resource+"-nodes"), named(t, g, c.resource+"-rule")
		require.Equal(t, c.group, group["name"])
		require.Equal(t, "vpc-1", group["vpcId"])
		require.Equal(t, "instance", group["targetType"])
		require.Equal(t, "HTTPS", group["protocol"], "not in plaintext behind the balancer either")
		require.Equal(t, c.port, group["port"])
		require.Equal(t, "HTTPS", manifesttest.Get(group, "healthCheck.protocol"))
		require.Equal(t, "traffic-port", manifesttest.Get(group, "healthCheck.port"))
		require.Equal(t, c.path, manifesttest.Get(group, "healthCheck.path"))
		require.Equal(t, "200", manifesttest.Get(group, "healthCheck.matcher"))

		groupARN := arn("targetgroup/" + c.group + "/0123456789abcdef")
		require.Equal(t, map[string]any{"autoscalingGroupName": "eks-dmz", "lbTargetGroupArn": groupARN}, attachment)

		require.Equal(t, g.One(t, "Listener").Name, "edge-https")
		require.Equal(t, float64(i+1), rule["priority"])
		require.Equal(t, []any{map[string]any{"hostHeader": map[string]any{"values": []any{c.host}}}}, rule["conditions"])
		require.Equal(t, []any{map[string]any{"type": "forward", "targetGroupArn": groupARN}}, rule["actions"])
	}
}

func named(t *testing.T, g *manifesttest.Graph, name string) map[string]any {
	t.Helper()
	for _, kind := range g.Types() {
		for _, r := range g.All(kind) {
			if r.Name == name {
				return r.Object
			}
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

// TestHealthCheck: AWS wants the timeout to be shorter than the interval, and a gateway that leaves is noticed in time.
func TestHealthCheck(t *testing.T) {
	check := manifesttest.Get(named(t, record(t, minimal()), "edge-web-gateway"), "healthCheck").(map[string]any)
	interval, timeout, failures := check["interval"].(float64), check["timeout"].(float64), check["unhealthyThreshold"].(float64)
	require.Less(t, timeout, interval)
	require.GreaterOrEqual(t, interval, 5.0)
	require.GreaterOrEqual(t, failures, 2.0)
	require.Equal(t, UnhealthyAfter, time.Duration(interval*failures+timeout)*time.Second)
}

// TestConnectionsAreClosedHereFirst: a gateway keeps an idle connection for 60s (cmd/gateway, IDLE_TIMEOUT).
func TestConnectionsAreClosedHereFirst(t *testing.T) {
	require.Less(t, idleTimeout, 60)
}

func TestAccessLogs(t *testing.T) {
	for _, prefix := range []string{"", "edge/alb"} {
		args := minimal()
		args.AccessLogBucket, args.AccessLogPrefix = pulumi.String("logs-123456789012"), prefix
		balancer := record(t, args).One(t, "LoadBalancer").Object
		want := map[string]any{"bucket": "logs-123456789012", "enabled": true}
		if prefix != "" {
			want["prefix"] = prefix
		}
		require.Equal(t, want, balancer["accessLogs"])
		require.Equal(t, want, balancer["connectionLogs"])
	}
}

func TestProtect(t *testing.T) {
	for _, protect := range []bool{false, true} {
		args := minimal()
		args.Protect = protect
		g := record(t, args)
		require.Equal(t, protect, g.One(t, "LoadBalancer").Object["enableDeletionProtection"])
		require.Equal(t, protect, g.One(t, "LoadBalancer").Protect)
		require.Equal(t, protect, g.One(t, "LogGroup").Protect)
		require.False(t, g.All("TargetGroup")[0].Protect, "it holds nothing")
	}
}

func TestWebACL(t *testing.T) {
	args := minimal()
	args.RateLimit, args.LogRetentionDays = 500, 30
	g := record(t, args)
	require.Contains(t, g.One(t, "WebAcl").Object["ruleJson"], `"Limit":500`)
	require.Equal(t, 30.0, g.One(t, "LogGroup").Object["retentionInDays"])
	require.Equal(t, "aws-waf-logs-stack-edge", g.One(t, "LogGroup").Object["name"])
}

func TestLongNamesFit(t *testing.T) {
	args := minimal()
	args.Name = "production-of-the-european-trust-domain-and-its-edge-with-a-name-of-more-than-sixty-four-letters"
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

// TestOutputs: the name that is given out is that of a balancer that serves.
func TestOutputs(t *testing.T) {
	out := map[string]string{}
	manifesttest.Record(t, func(ctx *pulumi.Context) error {
		e, err := New(ctx, "edge", minimal())
		if err != nil {
			return err
		}
		pulumi.All(e.DNSName, e.ZoneID, e.LoadBalancerARN, e.WebACLARN).ApplyT(func(v []any) error {
			out["dns"], out["zone"], out["balancer"], out["acl"] = v[0].(string), v[1].(string), v[2].(string), v[3].(string)
			return nil
		})
		return nil
	})
	require.Equal(t, "stack-edge-0123456789abcdef.elb.eu-central-1.amazonaws.com", out["dns"])
	require.NotEmpty(t, out["zone"])
	require.Equal(t, arn("loadbalancer/net/stack-edge/0123456789abcdef"), out["balancer"])
	require.Contains(t, out["acl"], ":regional/webacl/stack-edge/")
}

func TestRefuses(t *testing.T) {
	for key, change := range map[string]func(*Args){
		"name":                func(a *Args) { a.Name = "internal-edge" },
		"vpcID":               func(a *Args) { a.VPCID = nil },
		"subnetIDs":           func(a *Args) { a.SubnetIDs = nil },
		"securityGroupID":     func(a *Args) { a.SecurityGroupID = nil },
		"certificateARN":      func(a *Args) { a.CertificateARN = nil },
		"nodeGroupASG":        func(a *Args) { a.NodeGroupASG = nil },
		"logKeyARN":           func(a *Args) { a.LogKeyARN = nil },
		"logRetentionDays":    func(a *Args) { a.LogRetentionDays = 2 },
		"rateLimit":           func(a *Args) { a.RateLimit = 5 },
		"accessLogPrefix":     func(a *Args) { a.AccessLogPrefix = "edge" },
		"hosts":               func(a *Args) { a.Hosts = nil },
		"hosts[0].name":       func(a *Args) { a.Hosts[0].Name = "Web" },
		"hosts[1].name":       func(a *Args) { a.Hosts[1].Name = a.Hosts[0].Name },
		"hosts[0].dnsName":    func(a *Args) { a.Hosts[0].DNSName = "*.company.com" },
		"hosts[1].dnsName":    func(a *Args) { a.Hosts[1].DNSName = a.Hosts[0].DNSName },
		"hosts[0].nodePort":   func(a *Args) { a.Hosts[0].NodePort = 443 },
		"hosts[1].nodePort":   func(a *Args) { a.Hosts[1].NodePort = a.Hosts[0].NodePort },
		"hosts[1].healthPath": func(a *Args) { a.Hosts[1].HealthPath = "healthz" },
	} {
		t.Run(key, func(t *testing.T) {
			args := minimal()
			change(args)
			err := refused(t, args)
			require.ErrorContains(t, err, "edge edge: "+key+`: "`)
			require.Equal(t, 1, strings.Count(err.Error(), " is not allowed: it must be "), "one mistake, one error: %v", err)
		})
	}
}

func refused(t *testing.T, args *Args) error {
	t.Helper()
	return manifesttest.Refused(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "edge", args)
		return err
	})
}

func TestAllErrorsAtOnce(t *testing.T) {
	err := refused(t, &Args{Name: "-", RateLimit: -1, Hosts: []Host{{}}})
	for _, key := range []string{
		"name", "vpcID", "subnetIDs", "securityGroupID", "certificateARN", "nodeGroupASG", "logKeyARN", "rateLimit",
		"hosts[0].name", "hosts[0].dnsName", "hosts[0].nodePort",
	} {
		require.ErrorContains(t, err, key+`: "`)
	}
	require.Error(t, refused(t, nil))

	args := minimal()
	args.SubnetIDs = pulumi.ToStringArray([]string{"subnet-a"})
	require.ErrorContains(t, refused(t, args), `subnetIDs: "1" is not allowed`)

	args = minimal()
	args.AccessLogBucket, args.AccessLogPrefix = pulumi.String("logs"), "/edge/"
	require.ErrorContains(t, refused(t, args), `accessLogPrefix: "/edge/"`)
}
