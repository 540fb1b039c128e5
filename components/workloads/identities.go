package workloads

import "ephemos.dev/deploy/components/zones"

// Service is one of the three services: what is fixed about it.
type Service struct {
	// Name is the metadata.name of its Deployment, Service and ServiceAccount, and the name of its role in the model of zones.
	Name string
	// Path is the path of its SPIFFE ID.
	Path string
	// Next is the name of the service that it calls; empty at the end of the chain. Who may call it, Args.Callers says.
	Next string
	// Keeps says that it uses the cache, Announces that it uses the queue.
	Keeps, Announces bool
}

// Services is the chain, from its head on.
var Services = []Service{
	{Name: "payment", Path: "/workload/payment-service", Next: "user"},
	{Name: "user", Path: "/workload/user-service", Next: "order", Keeps: true},
	{Name: "order", Path: "/workload/order-service", Announces: true},
}

// Callers returns who may call each service according to a model of zones: Args.Callers.
func Callers(model zones.Model, trustDomain string) map[string][]string {
	callers := map[string][]string{}
	for _, s := range Services {
		for _, path := range model.Callers(s.Name, "mtls") {
			callers[s.Name] = append(callers[s.Name], "spiffe://"+trustDomain+path)
		}
	}
	return callers
}

// Identity is what has to be registered for a service to get its identity. All of it must match a pod: labels alone can be
// put on any pod by anybody who may create one.
type Identity struct {
	// Name names the identity.
	Name string
	// SPIFFEIDPath is the path of the SPIFFE ID; the trust domain is the servers'.
	SPIFFEIDPath string
	// Namespace and ServiceAccount are the pod's.
	Namespace, ServiceAccount string
	// PodLabels are labels the pod has.
	PodLabels map[string]string
}

// Identities lists the identities of the services in a namespace.
func Identities(namespace string) []Identity {
	identities := make([]Identity, 0, len(Services))
	for _, s := range Services {
		identities = append(identities, Identity{
			Name: s.Name, SPIFFEIDPath: s.Path, Namespace: namespace, ServiceAccount: s.Name, PodLabels: s.selector(),
		})
	}
	return identities
}

// selector returns the labels that select the service's pods and never change.
func (s Service) selector() map[string]string {
	return map[string]string{"app.kubernetes.io/name": s.Name, "app.kubernetes.io/instance": s.Name}
}

// spiffeID is the service's SPIFFE ID in a trust domain.
func (s Service) spiffeID(trustDomain string) string { return "spiffe://" + trustDomain + s.Path }

// named returns the service of the chain with the name.
func named(name string) Service {
	for _, s := range Services {
		if s.Name == name {
			return s
		}
	}
	return Service{}
}
