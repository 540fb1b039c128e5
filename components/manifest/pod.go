package manifest

import (
	"maps"
	"slices"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Mount mounts a volume of the pod into a container.
func Mount(volume, path string) corev1.VolumeMountArgs {
	return corev1.VolumeMountArgs{Name: pulumi.String(volume), MountPath: pulumi.String(path)}
}

// ReadOnlyMount is Mount for a container that must not write to the volume.
func ReadOnlyMount(volume, path string) corev1.VolumeMountArgs {
	m := Mount(volume, path)
	m.ReadOnly = pulumi.Bool(true)
	return m
}

// Port names a TCP port of a container.
func Port(name string, number int) corev1.ContainerPortArgs {
	return corev1.ContainerPortArgs{Name: pulumi.String(name), ContainerPort: pulumi.Int(number)}
}

// Scratch is a small empty directory of the pod's own. The medium is "" for the
// node's disk or "Memory".
func Scratch(volume, medium string) corev1.VolumeArgs {
	source := &corev1.EmptyDirVolumeSourceArgs{SizeLimit: pulumi.String("16Mi")}
	if medium != "" {
		source.Medium = pulumi.String(medium)
	}
	return corev1.VolumeArgs{Name: pulumi.String(volume), EmptyDir: source}
}

// SecretFiles is a volume with the given keys of a Secret, and no other, as
// files: key to file name. They belong to root and are readable by the pod's
// group, which is as much as the Postgres driver of SPIRE accepts for a private
// key (lib/pq, pqutil.CheckPermissions).
func SecretFiles(volume string, secret pulumi.StringInput, files map[string]string) corev1.VolumeArgs {
	return corev1.VolumeArgs{Name: pulumi.String(volume), Secret: &corev1.SecretVolumeSourceArgs{
		SecretName: secret.ToStringOutput().ToStringPtrOutput(), DefaultMode: pulumi.Int(0o440), Items: keyPaths(files),
	}}
}

// ConfigMapFiles is a volume with the content of a ConfigMap. Without files it
// holds every key under its own name.
func ConfigMapFiles(volume string, configMap pulumi.StringInput, files map[string]string) corev1.VolumeArgs {
	source := &corev1.ConfigMapVolumeSourceArgs{Name: configMap.ToStringOutput().ToStringPtrOutput()}
	if len(files) > 0 {
		source.Items = keyPaths(files)
	}
	return corev1.VolumeArgs{Name: pulumi.String(volume), ConfigMap: source}
}

// HostPath is a directory of the node. The type is one of Kubernetes' types of
// hostPath volumes.
func HostPath(volume, path, kind string) corev1.VolumeArgs {
	return corev1.VolumeArgs{Name: pulumi.String(volume), HostPath: &corev1.HostPathVolumeSourceArgs{
		Path: pulumi.String(path), Type: pulumi.String(kind),
	}}
}

// lostNodeSeconds is how long a pod stays bound to a node that Kubernetes has
// given up, instead of its default of five minutes.
const lostNodeSeconds = 30

// LeaveLostNode are the tolerations of a pod that another node takes over soon
// after its own is gone.
func LeaveLostNode() corev1.TolerationArray {
	out := corev1.TolerationArray{}
	for _, taint := range []string{"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"} {
		out = append(out, corev1.TolerationArgs{
			Key: pulumi.String(taint), Operator: pulumi.String("Exists"), Effect: pulumi.String("NoExecute"),
			TolerationSeconds: pulumi.Int(lostNodeSeconds),
		})
	}
	return out
}

func keyPaths(files map[string]string) corev1.KeyToPathArray {
	items := make(corev1.KeyToPathArray, 0, len(files))
	for _, key := range slices.Sorted(maps.Keys(files)) {
		items = append(items, corev1.KeyToPathArgs{Key: pulumi.String(key), Path: pulumi.String(files[key])})
	}
	return items
}
