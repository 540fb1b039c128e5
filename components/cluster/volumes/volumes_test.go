package volumes

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
)

func TestClass(t *testing.T) {
	for retain, policy := range map[bool]string{false: "Delete", true: "Retain"} {
		class := manifesttest.Record(t, func(ctx *pulumi.Context) error {
			_, err := New(ctx, "v", &Args{KeyARN: pulumi.String("arn:key"), Retain: retain})
			return err
		}).One(t, "StorageClass", "encrypted")
		require.Equal(t, "ebs.csi.aws.com", class.Object["provisioner"])
		require.Equal(t, map[string]any{"type": "gp3", "encrypted": "true", "kmsKeyId": "arn:key", "csi.storage.k8s.io/fstype": "ext4"}, class.Object["parameters"])
		require.Equal(t, policy, class.Object["reclaimPolicy"])
		require.Equal(t, "WaitForFirstConsumer", class.Object["volumeBindingMode"])
		require.Equal(t, map[string]any{"storageclass.kubernetes.io/is-default-class": "true"}, manifesttest.Get(class.Object, "metadata.annotations"))
	}
}

func TestRefused(t *testing.T) {
	err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "v", &Args{Name: "A"})
		return err
	})
	require.ErrorContains(t, err, `name: "A"`)
	require.ErrorContains(t, err, "keyARN")
}
