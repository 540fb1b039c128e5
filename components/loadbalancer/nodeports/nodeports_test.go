package nodeports

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
	"ephemos.dev/deploy/components/spire/server"
)

func minimal() *Args {
	return &Args{Namespace: "spire-server", NodePorts: [2]int{30081, 30082}}
}

func record(t *testing.T, args *Args) *manifesttest.Graph {
	t.Helper()
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "ports", args)
		return err
	})
}

func TestServices(t *testing.T) {
	g := record(t, minimal())
	require.Len(t, g.All("Service"), 2)
	for name, port := range map[string]float64{"spire-server-nodes-primary": 30081, "spire-server-nodes-backup": 30082} {
		service := g.One(t, "Service", name).Object
		require.Equal(t, "spire-server", manifesttest.Get(service, "metadata.namespace"))
		require.Equal(t, "NodePort", manifesttest.Get(service, "spec.type"))
		require.Equal(t, "Local", manifesttest.Get(service, "spec.externalTrafficPolicy"), "other nodes must not pass connections on under their own address")
		require.Equal(t, []any{map[string]any{"name": "grpc", "port": 8081.0, "targetPort": "grpc", "nodePort": port}}, manifesttest.Get(service, "spec.ports"))
	}
}

// TestServicesSelectTheServers: by the labels that the servers' component gives its pods, and the port that it names.
func TestServicesSelectTheServers(t *testing.T) {
	for _, name := range []string{"", "second"} {
		g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
			_, err := server.New(ctx, "spire", &server.Args{
				Name: name, Namespace: "spire-server", TrustDomain: "prod.company.com", ClusterName: "prod",
				Image: pulumi.String("spire-server@sha256:0"), ControllerManagerImage: pulumi.String("spire-controller-manager@sha256:0"),
				Database: server.Database{
					Host: "db", Name: "spire", User: "spire", CASecret: pulumi.String("ca"), ClientSecret: pulumi.String("client"),
				},
				UpstreamCASecret: pulumi.String("root"),
			})
			if err != nil {
				return err
			}
			args := minimal()
			args.ServerName = name
			_, err = New(ctx, "ports", args)
			return err
		})
		pod := manifesttest.Get(g.One(t, "StatefulSet").Object, "spec.template")
		for _, entry := range []string{"primary", "backup"} {
			selector := manifesttest.Get(g.One(t, "Service", "spire-server-nodes-"+entry).Object, "spec.selector").(map[string]any)
			require.Len(t, selector, 2)
			labels := manifesttest.Get(pod, "metadata.labels").(map[string]any)
			for key, value := range selector {
				require.Equal(t, value, labels[key])
			}
		}
		require.Equal(t, 8081.0, manifesttest.Get(pod, "spec.initContainers.spire-server.ports."+targetPort+".containerPort"))
	}
}

func TestOutputs(t *testing.T) {
	var got []string
	manifesttest.Record(t, func(ctx *pulumi.Context) error {
		n, err := New(ctx, "ports", minimal())
		if err != nil {
			return err
		}
		n.Services.ApplyT(func(names []string) []string { got = names; return names })
		return nil
	})
	require.Equal(t, []string{"spire-server-nodes-primary", "spire-server-nodes-backup"}, got)
}

func TestRefuses(t *testing.T) {
	for key, change := range map[string]func(*Args){
		"name":         func(a *Args) { a.Name = "Entry" },
		"namespace":    func(a *Args) { a.Namespace = "" },
		"serverName":   func(a *Args) { a.ServerName = "-" },
		"port":         func(a *Args) { a.Port = 65536 },
		"nodePorts[0]": func(a *Args) { a.NodePorts[0] = 8081 },
		"nodePorts[1]": func(a *Args) { a.NodePorts[1] = a.NodePorts[0] },
	} {
		t.Run(key, func(t *testing.T) {
			args := minimal()
			change(args)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "ports", args)
				return err
			})
			require.ErrorContains(t, err, "node ports ports: "+key+`: "`)
		})
	}
	err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "ports", nil)
		return err
	})
	for _, key := range []string{"namespace", "nodePorts[0]", "nodePorts[1]"} {
		require.ErrorContains(t, err, key+`: "`)
	}
}
