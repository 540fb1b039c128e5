package deploy

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testShortLifetimes lowers the lifetime of SVIDs to a minute, so that half a minute shows what half an hour would: rotations under
// calls, and agents that go on renewing with one load balancer entry gone.
func testShortLifetimes(t *testing.T) {
	healthy(t, 2*time.Minute)
	before := countCalls(t)
	deploy(t, map[string]string{"x509SVIDTTL": "60s"})
	t.Cleanup(func() {
		deploy(t, nil)
		awaitLifetime(t, time.Hour)
		healthy(t, 3*time.Minute)
	})
	awaitLifetime(t, time.Minute)
	requireNoFailedCall(t, before)

	t.Run("four rotations without a failed call", func(t *testing.T) {
		before := countCalls(t)
		awaitRotations(t, 4, 4*time.Minute)
		requireNoFailedCall(t, before)
	})
	for _, entry := range []string{"spire-server-primary", "spire-server-backup"} {
		t.Run("without "+entry, func(t *testing.T) {
			before := countCalls(t)
			scale(t, entry, 0)
			t.Cleanup(func() { scale(t, entry, 1); healthy(t, 3*time.Minute) })
			awaitRotations(t, 2, 3*time.Minute)

			name, err := cluster.AddNode(t.Context())
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, cluster.RemoveNode(context.WithoutCancel(t.Context()), name)) })
			eventually(t, 2*time.Minute, "the agent of the new node to attest", func(ctx context.Context) error {
				if agents := client.Read(ctx).Agents; agents != 4 {
					return fmt.Errorf("%d agents", agents)
				}
				return nil
			})
			requireNoFailedCall(t, before)
		})
	}
}

// awaitLifetime waits until every service holds an SVID of about the lifetime.
func awaitLifetime(t *testing.T, want time.Duration) {
	t.Helper()
	eventually(t, 5*time.Minute, "SVIDs of "+want.String(), func(ctx context.Context) error {
		report := client.Read(ctx)
		for _, s := range report.Services {
			if got := time.Duration(s.Stats.TTL) * time.Second; got < want-30*time.Second || got > want+30*time.Second {
				return fmt.Errorf("%s: %s", s.Pod, got)
			}
		}
		if len(report.Services) == 0 {
			return fmt.Errorf("no service answers: %v", report.Errors)
		}
		return nil
	})
}

// awaitRotations waits until every pod of the services has changed its SVID n times from now on.
func awaitRotations(t *testing.T, n uint64, limit time.Duration) {
	t.Helper()
	start := map[string]uint64{}
	for _, s := range client.Read(t.Context()).Services {
		start[s.Pod] = s.Stats.Rotations
	}
	require.NotEmpty(t, start)
	eventually(t, limit, fmt.Sprintf("%d rotations in every pod", n), func(ctx context.Context) error {
		seen := 0
		for _, s := range client.Read(ctx).Services {
			was, known := start[s.Pod]
			if !known {
				return fmt.Errorf("%s was not there before", s.Pod)
			}
			if s.Stats.Rotations < was+n {
				return fmt.Errorf("%s: %d", s.Pod, s.Stats.Rotations-was)
			}
			seen++
		}
		if seen != len(start) {
			return fmt.Errorf("%d of %d pods answer", seen, len(start))
		}
		return nil
	})
}

func scale(t *testing.T, deployment string, replicas int32) {
	t.Helper()
	_, err := clientset(t).AppsV1().Deployments("spire-server").UpdateScale(context.WithoutCancel(t.Context()), deployment, &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: deployment, Namespace: "spire-server"},
		Spec:       autoscalingv1.ScaleSpec{Replicas: replicas},
	}, metav1.UpdateOptions{})
	require.NoError(t, err)
	eventually(t, time.Minute, fmt.Sprintf("%s to have %d replicas", deployment, replicas), func(ctx context.Context) error {
		d, err := clientset(t).AppsV1().Deployments("spire-server").Get(ctx, deployment, metav1.GetOptions{})
		if err == nil && d.Status.Replicas != replicas {
			err = fmt.Errorf("%d", d.Status.Replicas)
		}
		return err
	})
}
