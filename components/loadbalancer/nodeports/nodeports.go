// Package nodeports makes the Kubernetes side of the entries to the SPIRE servers on AWS (package nlb): two Services, one for the primary
// balancer and one for the backup, that open a port each on the nodes on which servers run.
//
// In: the servers' name and namespace and the two ports. Out: the Services' names. Both select the same pods.
//
// The external traffic policy is Local: a node without a server does not answer, by which the balancers' health checks tell nodes apart,
// and a node with one hands connections to it as they came. With the policy Cluster any node would pass them on, with its own address as
// the sender, from which the servers trust no PROXY header. A server that ends closes its port at once, and its node stops answering; the
// balancers need up to 20 seconds to notice, in which agents that meet it connect to another one.
package nodeports

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
)

const (
	defaultServerName = "spire-server"
	defaultPort       = 8081
	// serverProgram is what the servers' pods carry as app.kubernetes.io/name, and targetPort is their port's name.
	serverProgram = "spire-server"
	targetPort    = "grpc"

	// The cluster's range, unless the API server is told otherwise.
	firstNodePort, lastNodePort = 30000, 32767
)

// entries are the ends of the Services' names, in the order of Args.NodePorts.
var entries = [2]string{"primary", "backup"}

// Args are the arguments of New.
type Args struct {
	// Name is what the Services' names begin with: <Name>-primary and <Name>-backup. Default "spire-server-nodes".
	Name string
	// Namespace is where the servers run. Required.
	Namespace string
	// ServerName is the servers' Name (server.Args). Default "spire-server".
	ServerName string
	// Port is the Services' port inside of the cluster. Default 8081.
	Port int
	// NodePorts are the ports on the nodes of the primary and of the backup. Required.
	NodePorts [2]int
}

// NodePorts is the two Services.
type NodePorts struct {
	pulumi.ResourceState

	// Services are the names of the Services, primary and backup.
	Services pulumi.StringArrayOutput `pulumi:"services"`
}

// WithDefaults returns the arguments with every field that is not set filled with its default.
func (a Args) WithDefaults() Args {
	a.Name = cmp.Or(a.Name, "spire-server-nodes")
	a.ServerName = cmp.Or(a.ServerName, defaultServerName)
	a.Port = cmp.Or(a.Port, defaultPort)
	return a
}

// objectName leaves room for the ends of the Services' names.
var objectName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,53}[a-z0-9])?$`)

func (a Args) validate() error {
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %q is not allowed: it must be %s", key, fmt.Sprint(value), allowed))
	}
	for _, n := range []struct{ key, value string }{{"name", a.Name}, {"namespace", a.Namespace}, {"serverName", a.ServerName}} {
		if !objectName.MatchString(n.value) {
			fail(n.key, n.value, "a DNS label of at most 55 characters that begins with a letter")
		}
	}
	if a.Port < 1 || a.Port > 65535 {
		fail("port", a.Port, "from 1 to 65535")
	}
	for i, p := range a.NodePorts {
		if p < firstNodePort || p > lastNodePort {
			fail(fmt.Sprintf("nodePorts[%d]", i), p, fmt.Sprintf("from %d to %d", firstNodePort, lastNodePort))
		}
	}
	if a.NodePorts[0] == a.NodePorts[1] {
		fail("nodePorts[1]", a.NodePorts[1], "a port that the primary does not have")
	}
	return errors.Join(errs...)
}

// New makes the Services.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*NodePorts, error) {
	if args == nil {
		args = &Args{}
	}
	a := args.WithDefaults()
	if err := a.validate(); err != nil {
		return nil, fmt.Errorf("node ports %s: %w", name, err)
	}
	self := &NodePorts{}
	props := pulumi.Map{
		"name": pulumi.String(a.Name), "namespace": pulumi.String(a.Namespace), "serverName": pulumi.String(a.ServerName),
		"nodePorts": pulumi.ToIntArray(a.NodePorts[:]),
	}
	if err := ctx.RegisterComponentResourceV2("ephemos:nodeports:NodePorts", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("node ports %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"services": self.Services}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("node ports %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (n *NodePorts) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(n, opts)
	if err != nil {
		return err
	}
	var services pulumi.StringArray
	for i, entry := range entries {
		service, err := corev1.NewService(ctx, name+"-"+entry, a.service(entry, a.NodePorts[i]), inherited...)
		if err != nil {
			return fmt.Errorf("%s: %w", entry, err)
		}
		services = append(services, service.Metadata.Name().Elem())
	}
	n.Services = services.ToStringArrayOutput()
	return nil
}

func (a Args) service(entry string, nodePort int) *corev1.ServiceArgs {
	own := manifest.Identity{Name: serverProgram, Instance: a.ServerName, Component: "load-balancer"}
	return &corev1.ServiceArgs{
		Metadata: &metav1.ObjectMetaArgs{
			Name: pulumi.String(a.Name + "-" + entry), Namespace: pulumi.String(a.Namespace), Labels: own.Labels(), Annotations: manifest.NoAwait,
		},
		Spec: &corev1.ServiceSpecArgs{
			Type:                  pulumi.String("NodePort"),
			ExternalTrafficPolicy: pulumi.String("Local"),
			Selector:              own.Selector(),
			Ports: corev1.ServicePortArray{corev1.ServicePortArgs{
				Name: pulumi.String("grpc"), Port: pulumi.Int(a.Port), TargetPort: pulumi.String(targetPort), NodePort: pulumi.Int(nodePort),
			}},
		},
	}
}
