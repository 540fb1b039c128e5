package placement

import (
	"testing"

	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	batchv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/batch/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
)

func zones() map[string]string {
	return map[string]string{"spire-server": "management", "web": "dmz"}
}

func in(namespace pulumi.StringPtrInput) *metav1.ObjectMetaArgs {
	return &metav1.ObjectMetaArgs{Name: pulumi.String("x"), Namespace: namespace}
}

func pod(labels pulumi.StringMapInput) *corev1.PodTemplateSpecArgs {
	return &corev1.PodTemplateSpecArgs{Spec: &corev1.PodSpecArgs{ServiceAccountName: pulumi.String("account"), NodeSelector: labels}}
}

// place runs a program under the transformation.
func place(t *testing.T, program pulumi.RunFunc) (*manifesttest.Graph, *Placement) {
	t.Helper()
	p := New(zones())
	return manifesttest.Record(t, func(ctx *pulumi.Context) error {
		if err := ctx.RegisterStackTransformation(p.Transform); err != nil {
			return err
		}
		return program(ctx)
	}), p
}

func TestEveryKindOfPod(t *testing.T) {
	known := pulumi.String("spire-server")
	later := pulumi.String("web").ToStringOutput()
	g, p := place(t, func(ctx *pulumi.Context) error {
		if _, err := appsv1.NewDeployment(ctx, "deployment", &appsv1.DeploymentArgs{Metadata: in(known), Spec: &appsv1.DeploymentSpecArgs{Template: pod(nil)}}); err != nil {
			return err
		}
		if _, err := appsv1.NewStatefulSet(ctx, "set", &appsv1.StatefulSetArgs{
			// Structs, not pointers, and a namespace that is known later.
			Metadata: metav1.ObjectMetaArgs{Namespace: later.ToStringPtrOutput()}, Spec: appsv1.StatefulSetSpecArgs{Template: *pod(nil)},
		}); err != nil {
			return err
		}
		if _, err := batchv1.NewJob(ctx, "job", &batchv1.JobArgs{Metadata: in(known), Spec: &batchv1.JobSpecArgs{Template: pod(pulumi.StringMap{"disk": pulumi.String("ssd")})}}); err != nil {
			return err
		}
		if _, err := batchv1.NewCronJob(ctx, "cron", &batchv1.CronJobArgs{Metadata: in(later.ToStringPtrOutput()), Spec: &batchv1.CronJobSpecArgs{
			Schedule: pulumi.String("@daily"), JobTemplate: &batchv1.JobTemplateSpecArgs{Spec: &batchv1.JobSpecArgs{Template: pod(pulumi.StringMap{"disk": pulumi.String("ssd")})}},
		}}); err != nil {
			return err
		}
		_, err := appsv1.NewDaemonSet(ctx, "everywhere", &appsv1.DaemonSetArgs{Metadata: in(known), Spec: &appsv1.DaemonSetSpecArgs{Template: pod(nil)}})
		return err
	})
	require.NoError(t, p.Err())
	for kind, want := range map[string]map[string]any{
		"Deployment":  {Label: "management"},
		"StatefulSet": {Label: "dmz"},
		"Job":         {Label: "management", "disk": "ssd"},
	} {
		spec := manifesttest.Get(g.One(t, kind).Object, "spec.template.spec")
		require.Equal(t, want, manifesttest.Get(spec, "nodeSelector"), kind)
		require.Equal(t, "account", manifesttest.Get(spec, "serviceAccountName"), "the rest stays")
	}
	cron := g.One(t, "CronJob").Object
	require.Equal(t, map[string]any{Label: "dmz", "disk": "ssd"}, manifesttest.Get(cron, "spec.jobTemplate.spec.template.spec.nodeSelector"))
	require.Equal(t, "@daily", manifesttest.Get(cron, "spec.schedule"))
	require.Nil(t, manifesttest.Get(g.One(t, "DaemonSet").Object, "spec.template.spec.nodeSelector"))
}

// TestSharedArguments holds that one pod template may serve two namespaces.
func TestSharedArguments(t *testing.T) {
	labels := pulumi.StringMap{}
	shared := &appsv1.DeploymentSpecArgs{Template: pod(labels)}
	g, p := place(t, func(ctx *pulumi.Context) error {
		for _, namespace := range []string{"spire-server", "web"} {
			if _, err := appsv1.NewDeployment(ctx, namespace, &appsv1.DeploymentArgs{Metadata: in(pulumi.String(namespace)), Spec: shared}); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, p.Err())
	require.Empty(t, labels)
	for _, r := range g.All("Deployment") {
		require.Equal(t, zones()[r.Name], manifesttest.Get(r.Object, "spec.template.spec.nodeSelector").(map[string]any)[Label])
	}
}

// TestNothingGoesUnplaced holds that what cannot be placed is reported, not passed over.
func TestNothingGoesUnplaced(t *testing.T) {
	deployment := func(meta metav1.ObjectMetaPtrInput, spec appsv1.DeploymentSpecPtrInput) pulumi.RunFunc {
		return func(ctx *pulumi.Context) error {
			_, err := appsv1.NewDeployment(ctx, "deployment", &appsv1.DeploymentArgs{Metadata: meta, Spec: spec})
			return err
		}
	}
	spec := &appsv1.DeploymentSpecArgs{Template: pod(nil)}
	for _, c := range []struct {
		name    string
		program pulumi.RunFunc
		want    string
	}{
		{"namespace without a zone", deployment(in(pulumi.String("elsewhere")), spec), `namespace "elsewhere" has no zone`},
		{"no namespace", deployment(in(nil), spec), "no namespace"},
		{"no metadata", deployment(nil, spec), "ObjectMetaArgs"},
		{"no specification", deployment(in(pulumi.String("web")), nil), "DeploymentSpecArgs"},
		{"specification as an output", deployment(in(pulumi.String("web")), spec.ToDeploymentSpecPtrOutput()), "DeploymentSpecPtrOutput"},
		{"no pod", deployment(in(pulumi.String("web")), &appsv1.DeploymentSpecArgs{Template: &corev1.PodTemplateSpecArgs{}}), "PodSpecArgs"},
		{"node of another zone", deployment(in(pulumi.String("web")), &appsv1.DeploymentSpecArgs{Template: pod(pulumi.StringMap{Label: pulumi.String("data")})}), "data is not the zone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, p := place(t, c.program)
			require.ErrorContains(t, p.Err(), c.want)
			require.ErrorContains(t, p.Err(), "deployment (kubernetes:apps/v1:Deployment)")
		})
	}
}

// TestLateNamespaceWithoutAZone holds that a namespace that is known later is checked then.
func TestLateNamespaceWithoutAZone(t *testing.T) {
	p := New(zones())
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		if err := ctx.RegisterStackTransformation(p.Transform); err != nil {
			return err
		}
		_, err := appsv1.NewDeployment(ctx, "d", &appsv1.DeploymentArgs{
			Metadata: in(pulumi.String("elsewhere").ToStringOutput().ToStringPtrOutput()), Spec: &appsv1.DeploymentSpecArgs{Template: pod(nil)},
		})
		return err
	}, pulumi.WithMocks("project", "stack", &manifesttest.Graph{}))
	require.ErrorContains(t, err, `namespace "elsewhere" has no zone`)
}
