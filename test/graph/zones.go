package graph

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"ephemos.dev/deploy/components/zones"
)

// InModel finds pods that the zone model does not know, or not as they are: a pod that belongs to no role is cut off from
// everything, one that belongs to two may do what both may, and a port that only one of the two sides names is either dead or
// unguarded. roles made of something else than pod templates, such as a database's, are not looked at.
func InModel(model zones.Model) Check {
	return Check{"every pod is a role of the zone model", func(g *Graph) []Finding {
		var findings []Finding
		for _, p := range g.pods() {
			roles := rolesOf(model, p)
			if len(roles) != 1 {
				names := []string{}
				for _, r := range roles {
					names = append(names, r.Name)
				}
				findings = append(findings, p.find("is of %d roles of the zone model: %v", len(roles), names))
				continue
			}
			declared, known := map[int]bool{}, map[int]bool{}
			for _, c := range p.containers() {
				for _, port := range c.Ports {
					declared[int(port.ContainerPort)] = true
				}
			}
			for _, port := range roles[0].Ports {
				known[port.Number] = true
			}
			if !maps.Equal(declared, known) {
				findings = append(findings, p.find("declares the ports %v, role %s has %v",
					slices.Sorted(maps.Keys(declared)), roles[0].Name, slices.Sorted(maps.Keys(known))))
			}
		}
		return findings
	}}
}

// rolesOf are the roles that the pod's labels select; for a pod in the network of its node, the node's roles with its ports.
func rolesOf(model zones.Model, p pod) []zones.Role {
	var found []zones.Role
	for _, r := range model.Roles {
		switch {
		case p.template.Spec.HostNetwork && r.Place == zones.Nodes && samePorts(r, p.containers()):
			found = append(found, r)
		case !p.template.Spec.HostNetwork && r.Place == zones.Pods && r.Namespace == p.namespace &&
			labels.SelectorFromSet(r.Labels).Matches(labels.Set(p.template.Labels)):
			found = append(found, r)
		}
	}
	return found
}

func samePorts(r zones.Role, containers []corev1.Container) bool {
	declared := map[int]bool{}
	for _, c := range containers {
		for _, port := range c.Ports {
			declared[int(port.ContainerPort)] = true
		}
	}
	for _, port := range r.Ports {
		if !declared[port.Number] {
			return false
		}
	}
	return len(declared) == len(r.Ports)
}
