package testbed

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"ephemos.dev/deploy/toolchain"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// volumesPath is where a node keeps the directories of its local persistent volumes.
const volumesPath = "/var/lib/testbed/volumes"

// nodeLabel ties a persistent volume to its node in a way that can be listed.
const nodeLabel = "testbed/node"

func volumeName(i int) string { return fmt.Sprintf("volume-%d", i) }

//go:embed addons.yaml
var addonsText string

var addonsTemplate = template.Must(template.New("addons.yaml").Parse(addonsText))

// applyAddons brings what any cluster offers its users beyond the API: DNS, a storage class with volumes, and the access rules of
// the machines' own programs.
func (c *Cluster) applyAddons(ctx context.Context, tools *toolchain.Result, client kubernetes.Interface, nodes []node) error {
	if err := c.ReclaimVolumes(ctx, client); err != nil {
		return err
	}
	coredns, err := tools.Image("coredns")
	if err != nil {
		return err
	}
	text, err := renderAddons(coredns.Ref, nodes)
	if err != nil {
		return err
	}
	return c.kubectl(ctx, tools, text, "apply", "--server-side", "--force-conflicts", "--field-manager=testbed", "-f", "-")
}

func renderAddons(coredns string, nodes []node) (string, error) {
	var out strings.Builder
	volumes := make([]string, volumesPerNode)
	for i := range volumes {
		volumes[i] = volumeName(i)
	}
	err := addonsTemplate.Execute(&out, map[string]any{
		"CoreDNS": coredns, "DNSAddress": serviceDNS, "DNSPort": DNSPort, "ClusterDomain": clusterDomain, "KubeRouterUser": kubeRouterUser,
		"Nodes": nodes, "Volumes": volumes, "VolumesPath": volumesPath, "NodeLabel": nodeLabel,
	})
	return out.String(), err
}

// ReclaimVolumes empties the volumes whose claims are gone and offers them again: what a provisioner does on other clusters.
func (c *Cluster) ReclaimVolumes(ctx context.Context, client kubernetes.Interface) error {
	list, err := client.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{LabelSelector: nodeLabel})
	if err != nil {
		return err
	}
	for _, v := range list.Items {
		if v.Status.Phase != corev1.VolumeReleased || v.Spec.Local == nil {
			continue
		}
		dir := filepath.Join(c.machineDir(v.Labels[nodeLabel]), "volumes", filepath.Base(v.Spec.Local.Path))
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
		v.Spec.ClaimRef = nil
		if _, err := client.CoreV1().PersistentVolumes().Update(ctx, &v, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("offer volume %s again: %w", v.Name, err)
		}
	}
	return nil
}

// removeFromAPI deletes the node object and its volumes.
func (c *Cluster) removeFromAPI(ctx context.Context, client kubernetes.Interface, n node) error {
	ignoreGone := func(err error) error {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	return errors.Join(
		ignoreGone(client.CoreV1().Nodes().Delete(ctx, n.Name, metav1.DeleteOptions{})),
		client.CoreV1().PersistentVolumes().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: nodeLabel + "=" + n.Name}))
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
