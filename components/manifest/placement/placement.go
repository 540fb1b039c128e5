// Package placement puts pods on the nodes of their namespace's zone.
//
// In: which zone each namespace belongs to. Out: a transformation for a stack, which gives every Deployment, StatefulSet, Job and
// CronJob the node selector of its zone. It is a transformation, not an argument of every component, because it is one rule for all
// pods, and a component that forgot it would put its pods on nodes that the networks of their zone do not reach. DaemonSets run on
// every node and are left alone, as is what operators make of custom resources.
package placement

import (
	"errors"
	"fmt"
	"maps"
	"sync"

	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	batchv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/batch/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Label is the label of a node that names its zone.
const Label = "ephemos.dev/zone"

// Placement places pods. Register Transform with Context.RegisterStackTransformation before anything is made, and ask Err when
// everything is.
type Placement struct {
	zones map[string]string

	mu       sync.Mutex
	problems []error
}

// New places the pods of each namespace, by its name, on the nodes of its zone, by the value of Label.
func New(zones map[string]string) *Placement { return &Placement{zones: maps.Clone(zones)} }

// Err reports what could not be placed. A namespace that is known only later, and that has no zone, is an error of the resource.
func (p *Placement) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.problems...)
}

// Transform is the transformation. The arguments that it is given stay as they are; other resources may share them.
func (p *Placement) Transform(r *pulumi.ResourceTransformationArgs) *pulumi.ResourceTransformationResult {
	props, err := p.props(r.Props)
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.problems = append(p.problems, fmt.Errorf("%s (%s): %w", r.Name, r.Type, err))
		return nil
	}
	if props == nil {
		return nil
	}
	return &pulumi.ResourceTransformationResult{Props: props, Opts: r.Opts}
}

// props returns a placed copy, or nil for what is not placed.
func (p *Placement) props(props pulumi.Input) (pulumi.Input, error) {
	switch args := props.(type) {
	case *appsv1.DeploymentArgs:
		placed := *args
		spec, err := plain[appsv1.DeploymentSpecArgs](args.Spec)
		if err == nil {
			spec.Template, err = p.template(args.Metadata, spec.Template)
		}
		placed.Spec = &spec
		return &placed, err
	case *appsv1.StatefulSetArgs:
		placed := *args
		spec, err := plain[appsv1.StatefulSetSpecArgs](args.Spec)
		if err == nil {
			spec.Template, err = p.template(args.Metadata, spec.Template)
		}
		placed.Spec = &spec
		return &placed, err
	case *batchv1.JobArgs:
		placed := *args
		spec, err := plain[batchv1.JobSpecArgs](args.Spec)
		if err == nil {
			spec.Template, err = p.template(args.Metadata, spec.Template)
		}
		placed.Spec = &spec
		return &placed, err
	case *batchv1.CronJobArgs:
		placed := *args
		spec, err := plain[batchv1.CronJobSpecArgs](args.Spec)
		if err != nil {
			return nil, err
		}
		job, err := plain[batchv1.JobTemplateSpecArgs](spec.JobTemplate)
		if err != nil {
			return nil, err
		}
		inner, err := plain[batchv1.JobSpecArgs](job.Spec)
		if err == nil {
			inner.Template, err = p.template(args.Metadata, inner.Template)
		}
		job.Spec, spec.JobTemplate, placed.Spec = &inner, &job, &spec
		return &placed, err
	}
	return nil, nil
}

// plain is the value behind an argument that is a struct or a pointer to one. Of an output nothing can be set.
func plain[T any](input any) (T, error) {
	switch v := input.(type) {
	case *T:
		if v != nil {
			return *v, nil
		}
	case T:
		return v, nil
	}
	var zero T
	return zero, fmt.Errorf("no node can be chosen: %T is not %T", input, zero)
}

func (p *Placement) template(metadata metav1.ObjectMetaPtrInput, input corev1.PodTemplateSpecInput) (corev1.PodTemplateSpecInput, error) {
	meta, err := plain[metav1.ObjectMetaArgs](metadata)
	if err != nil {
		return nil, err
	}
	template, err := plain[corev1.PodTemplateSpecArgs](input)
	if err != nil {
		return nil, err
	}
	pod, err := plain[corev1.PodSpecArgs](template.Spec)
	if err != nil {
		return nil, err
	}
	if pod.NodeSelector, err = p.selector(meta.Namespace, pod.NodeSelector); err != nil {
		return nil, err
	}
	template.Spec = &pod
	return &template, nil
}

// selector adds the zone to the labels that are asked for already.
func (p *Placement) selector(namespace pulumi.StringPtrInput, labels pulumi.StringMapInput) (pulumi.StringMapInput, error) {
	if namespace == nil {
		return nil, errors.New("no node can be chosen: it names no namespace")
	}
	if labels == nil {
		labels = pulumi.StringMap{}
	}
	if name, known := namespace.(pulumi.String); known {
		zone, err := p.zone(string(name))
		if err != nil {
			return nil, err
		}
		if given, known := labels.(pulumi.StringMap); known {
			return add(given, pulumi.StringInput(pulumi.String(zone)))
		}
	}
	return pulumi.All(namespace.ToStringPtrOutput(), labels.ToStringMapOutput()).ApplyT(func(resolved []any) (map[string]string, error) {
		name, _ := resolved[0].(*string)
		given, _ := resolved[1].(map[string]string)
		if name == nil {
			return nil, errors.New("no node can be chosen: it names no namespace")
		}
		zone, err := p.zone(*name)
		if err != nil {
			return nil, err
		}
		return add(given, zone)
	}).(pulumi.StringMapOutput), nil
}

func (p *Placement) zone(namespace string) (string, error) {
	if zone := p.zones[namespace]; zone != "" {
		return zone, nil
	}
	return "", fmt.Errorf("no node can be chosen: namespace %q has no zone", namespace)
}

// add adds the zone to labels, of which none may name another one.
func add[M ~map[string]V, V comparable](labels M, zone V) (M, error) {
	if given, set := labels[Label]; set && given != zone {
		return nil, fmt.Errorf("node selector %s: %v is not the zone of the namespace, %v", Label, given, zone)
	}
	out := maps.Clone(labels)
	if out == nil {
		out = M{}
	}
	out[Label] = zone
	return out, nil
}
