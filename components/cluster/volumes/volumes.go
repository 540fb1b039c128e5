// Package volumes gives a cluster on EKS its class of volumes: EBS, encrypted with a key of one's own.
//
// In: the key of the disks (components/keys), which the EBS driver's role may use (components/cluster). Out: the default
// StorageClass. EKS brings a class "gp2" of its own, which is neither the default nor encrypted.
package volumes

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"

	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	storagev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/storage/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"ephemos.dev/deploy/components/manifest"
)

// Args are the arguments of New.
type Args struct {
	// Name is the metadata.name of the class. Default "encrypted".
	Name string
	// KeyARN is the key. Required.
	KeyARN pulumi.StringInput
	// Retain keeps the volume in AWS when its claim is deleted. Default false: it is deleted with it.
	Retain bool
}

// Volumes is the class of volumes.
type Volumes struct {
	pulumi.ResourceState

	// Class is what claims name.
	Class pulumi.StringOutput `pulumi:"class"`
}

var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// New makes the class.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Volumes, error) {
	if args == nil {
		args = &Args{}
	}
	a := *args
	a.Name = cmp.Or(a.Name, "encrypted")
	var errs []error
	if !namePattern.MatchString(a.Name) {
		errs = append(errs, fmt.Errorf("name: %q is not allowed: it must be a DNS name", a.Name))
	}
	if a.KeyARN == nil {
		errs = append(errs, errors.New(`keyARN: "" is not allowed: it must be set`))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("volumes %s: %w", name, err)
	}
	self := &Volumes{}
	props := pulumi.Map{"name": pulumi.String(a.Name), "keyARN": a.KeyARN, "retain": pulumi.Bool(a.Retain)}
	if err := ctx.RegisterComponentResourceV2("ephemos:volumes:Volumes", name, props, self, opts...); err != nil {
		return nil, fmt.Errorf("volumes %s: %w", name, err)
	}
	err := self.provision(ctx, name, a, opts)
	outputs := pulumi.Map{}
	if err == nil {
		outputs = pulumi.Map{"class": self.Class}
	}
	if outputsErr := ctx.RegisterResourceOutputs(self, outputs); err != nil || outputsErr != nil {
		return nil, fmt.Errorf("volumes %s: %w", name, errors.Join(err, outputsErr))
	}
	return self, nil
}

func (v *Volumes) provision(ctx *pulumi.Context, name string, a Args, opts []pulumi.ResourceOption) error {
	inherited, err := manifest.Inherit(v, opts)
	if err != nil {
		return err
	}
	reclaim := "Delete"
	if a.Retain {
		reclaim = "Retain"
	}
	class, err := storagev1.NewStorageClass(ctx, name+"-class", &storagev1.StorageClassArgs{
		Metadata: &metav1.ObjectMetaArgs{
			Name:        pulumi.String(a.Name),
			Labels:      manifest.Identity{Name: "ebs", Instance: a.Name, Component: "storage"}.Labels(),
			Annotations: pulumi.StringMap{"storageclass.kubernetes.io/is-default-class": pulumi.String("true")},
		},
		Provisioner: pulumi.String("ebs.csi.aws.com"),
		Parameters: pulumi.StringMap{
			"type": pulumi.String("gp3"), "encrypted": pulumi.String("true"), "kmsKeyId": a.KeyARN,
			"csi.storage.k8s.io/fstype": pulumi.String("ext4"),
		},
		ReclaimPolicy: pulumi.String(reclaim),
		// In the availability zone of the pod, which is not known before.
		VolumeBindingMode: pulumi.String("WaitForFirstConsumer"), AllowVolumeExpansion: pulumi.Bool(true),
	}, inherited...)
	if err != nil {
		return fmt.Errorf("storage class: %w", err)
	}
	v.Class = class.Metadata.Name().Elem()
	return nil
}
