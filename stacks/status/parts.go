package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Kinds of what keeps pods.
const (
	statefulSet = "StatefulSet"
	deployment  = "Deployment"
	daemonSet   = "DaemonSet"
	database    = "Cluster"
)

// keeper is one object that keeps pods.
type keeper struct{ kind, namespace, name string }

// keepers are all that a whole stack has.
var keepers = []keeper{
	{statefulSet, serverNamespace, serverSet},
	{deployment, serverNamespace, "spire-server-primary"},
	{deployment, serverNamespace, "spire-server-backup"},
	{database, serverNamespace, databaseCluster},
	{daemonSet, agentNamespace, agentSet},
	{deployment, servicesNamespace, driver},
	{deployment, servicesNamespace, "user"},
	{deployment, servicesNamespace, "order"},
	{deployment, gatewaysNamespace, "web-gateway"},
	{deployment, gatewaysNamespace, "api-gateway"},
	{deployment, "data", "cache"},
	{deployment, "data", "queue"},
	{daemonSet, "intrusion-detection", "flowlog"},
}

// parts reads how many pods each keeper wants and counts those that are ready. Terminating pods are not. The error names
// every keeper that is missing or cannot be read.
func (c *Client) parts(ctx context.Context) ([]Part, error) {
	var (
		parts []Part
		errs  []error
	)
	for _, k := range keepers {
		part, err := c.part(ctx, k)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", k.kind, k.name, err))
			continue
		}
		parts = append(parts, part)
	}
	return parts, errors.Join(errs...)
}

func (c *Client) part(ctx context.Context, k keeper) (Part, error) {
	part := Part{Kind: k.kind, Name: k.name}
	desired, selector, err := c.desired(ctx, k)
	if err != nil {
		return part, err
	}
	part.Desired = desired
	pods, err := c.set.CoreV1().Pods(k.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return part, err
	}
	for _, p := range pods.Items {
		if ready(p) {
			part.Ready++
		}
	}
	return part, nil
}

// desired returns how many pods a keeper wants and the selector of its pods.
func (c *Client) desired(ctx context.Context, k keeper) (int, string, error) {
	switch k.kind {
	case statefulSet:
		s, err := c.set.AppsV1().StatefulSets(k.namespace).Get(ctx, k.name, metav1.GetOptions{})
		if err != nil {
			return 0, "", err
		}
		return replicas(s.Spec.Replicas), metav1.FormatLabelSelector(s.Spec.Selector), nil
	case deployment:
		d, err := c.set.AppsV1().Deployments(k.namespace).Get(ctx, k.name, metav1.GetOptions{})
		if err != nil {
			return 0, "", err
		}
		return replicas(d.Spec.Replicas), metav1.FormatLabelSelector(d.Spec.Selector), nil
	case daemonSet:
		d, err := c.set.AppsV1().DaemonSets(k.namespace).Get(ctx, k.name, metav1.GetOptions{})
		if err != nil {
			return 0, "", err
		}
		// Zero until the controller has counted the nodes.
		return int(d.Status.DesiredNumberScheduled), metav1.FormatLabelSelector(d.Spec.Selector), nil
	case database:
		path := fmt.Sprintf("/apis/postgresql.cnpg.io/v1/namespaces/%s/clusters/%s", k.namespace, k.name)
		text, err := c.set.CoreV1().RESTClient().Get().AbsPath(path).DoRaw(ctx)
		if err != nil {
			return 0, "", err
		}
		var cluster struct {
			Spec struct {
				Instances int `json:"instances"`
			} `json:"spec"`
		}
		err = json.Unmarshal(text, &cluster)
		return cluster.Spec.Instances, instanceSelector, err
	default:
		return 0, "", errors.New("unknown kind")
	}
}

// replicas is Kubernetes' reading of the field: one unless it says otherwise.
func replicas(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}
