//go:build deps

package main
import (
 _ "github.com/pulumi/pulumi/sdk/v3/go/pulumi"
 _ "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
 _ "github.com/spiffe/go-spiffe/v2/workloadapi"
 _ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
 _ "github.com/gruntwork-io/terratest/modules/k8s"
 _ "k8s.io/client-go/kubernetes"
 _ "github.com/google/go-containerregistry/pkg/v1/layout"
 _ "github.com/vishvananda/netlink"
 _ "github.com/stretchr/testify/require"
 _ "sigs.k8s.io/yaml"
 _ "golang.org/x/sys/unix"
 _ "github.com/hashicorp/hcl"
)
