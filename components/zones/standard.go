package zones

import (
	"cmp"
	"slices"
)

// Options are what differs between clusters. The zero value takes the defaults.
type Options struct {
	// APIServerPort is where the API server's endpoints listen. Default 6443, on AWS 443.
	APIServerPort int
	// DNSPort is where the pods of the cluster's DNS listen. Default 53.
	DNSPort int
}

// Names of the roles of Standard. Those of AWS alone are beside AWS.
const (
	Clients            = "clients"
	WebGateway         = "web-gateway"
	APIGateway         = "api-gateway"
	Payment            = "payment"
	User               = "user"
	Order              = "order"
	Database           = "database"
	Cache              = "cache"
	Queue              = "queue"
	SPIREServer        = "spire-server"
	SPIREEntry         = "spire-entry"
	RootCA             = "root-ca"
	DatabaseOperator   = "database-operator"
	SPIREAgent         = "spire-agent"
	CSIDriver          = "csi-driver"
	IntrusionDetection = "intrusion-detection"
	Kubelet            = "kubelet"
	KubeAPIServer      = "kube-apiserver"
	DNS                = "dns"
)

// Namespaces of Standard.
const (
	NamespaceDMZ       = "dmz"
	NamespaceServices  = "services"
	NamespaceData      = "data"
	NamespaceServer    = "spire-server"
	NamespaceAgent     = "spire-agent"
	NamespaceOperator  = "cnpg-system"
	NamespaceDetection = "intrusion-detection"
)

// app are the labels that select the pods of one of the deployment's programs (components/manifest, Identity).
func app(name, instance string) map[string]string {
	return map[string]string{"app.kubernetes.io/name": name, "app.kubernetes.io/instance": instance}
}

// service are the ports of a program that serves mutual TLS, with its probes and figures in plaintext beside it.
func service(number int) []Port {
	return []Port{{Name: "mtls", Number: number, Protection: MTLS}, {Name: "http", Number: 8080, Protection: Plain}}
}

// parts are what differs between the platforms, each in the place where the model has it.
type parts struct {
	title string
	// namespaces are those of management beside the servers' and agents'.
	namespaces []Namespace
	// edge is what stands before the gateways, data what keeps the servers' entries, management what the servers need around them,
	// platform what the platform brings beside nodes, API server and DNS.
	edge, data, management, platform []Role
	// entering lead to the gateways; keeping, to the database; identity, from the entry to the servers.
	entering, keeping, identity []Flow
	// webhooks are the API server's before the SPIRE servers' own, reading what operators read through it.
	webhooks, reading []Flow
	// controllers work on objects of the cluster, beside the SPIRE servers. namers look up names, beside gateways, services and servers.
	controllers, namers []string
	// further flows come last.
	further []Flow
}

// Standard is the model of the reference deployment on Kubernetes: the security architecture's diagram "Network Security
// Zones", and what the real programs need besides. Of the diagram's boxes Monitoring and Logging wait for their components, and
// with them every flow of kind Metrics; no application of this deployment keeps a database of its own, so none reaches one.
func Standard(o Options) Model {
	o.APIServerPort = cmp.Or(o.APIServerPort, 6443)
	return build(o, parts{
		namespaces: []Namespace{{NamespaceOperator, Management}},
		data: []Role{
			{Name: Database, Title: "Database Services", Zone: Data, Place: Pods, Namespace: NamespaceServer,
				// The operator gives these labels to instances and to the jobs that make them.
				Labels: app("postgresql", "spire-db"),
				Apart:  "the servers mount its CA and their client certificate from Secrets, which are readable in one namespace only",
				Ports: []Port{{Name: "postgres", Number: 5432, Protection: MTLS}, {Name: "status", Number: 8000, Protection: TLS},
					{Name: "metrics", Number: 9187, Protection: Plain}}},
		},
		management: []Role{
			{Name: SPIREEntry, Title: "SPIRE load balancers", Zone: Management, Place: Pods, Namespace: NamespaceServer, Labels: app("haproxy", "spire-server"),
				Ports: []Port{{Name: "grpc", Number: 8081, Protection: TLS}, {Name: "stats", Number: 8404, Protection: Plain}}},
			{Name: RootCA, Title: "Root CA job", Zone: Management, Place: Pods, Namespace: NamespaceServer, Labels: app("rootca", "spire-root-ca")},
			{Name: DatabaseOperator, Title: "Database operator", Zone: Management, Place: Pods, Namespace: NamespaceOperator,
				Labels: app("cloudnative-pg", "cnpg-controller-manager"),
				Ports:  []Port{{Name: "webhook", Number: 9443, Protection: TLS}, {Name: "metrics", Number: 8080, Protection: Plain}}},
		},
		entering: []Flow{
			{Clients, WebGateway, "https", Request, false, "people's requests enter through the web application firewall"},
			{Clients, APIGateway, "https", Request, false, "programs' requests enter through the web application firewall"},
		},
		keeping: []Flow{
			{SPIREServer, Database, "postgres", Request, true, "registration entries and CA journals are kept in Postgres"},
			{Database, Database, "postgres", Request, true, "standbys stream from the primary"},
			{Database, Database, "status", Control, false, "an instance that may be isolated asks the others"},
			{DatabaseOperator, Database, "postgres", Request, true, "the operator manages roles and replication"},
			{DatabaseOperator, Database, "status", Control, false, "the operator asks each instance for its state"},
		},
		identity: []Flow{{SPIREEntry, SPIREServer, "grpc", Identity, false, "the load balancers pass agents' connections through"}},
		webhooks: []Flow{{KubeAPIServer, DatabaseOperator, "webhook", Control, false, "the API server asks the operator to check its custom resources"}},
		reading: []Flow{{KubeAPIServer, SPIREEntry, "stats", Control, false,
			"operators read the balancers' state through the API server, which checks their rights"}},
		controllers: []string{RootCA, DatabaseOperator, Database},
		namers:      []string{SPIREEntry, SPIREAgent, DatabaseOperator, Database},
	})
}

// build makes a model of what the platforms have in common and what differs.
func build(o Options, p parts) Model {
	o.DNSPort = cmp.Or(o.DNSPort, 53)
	return Model{
		Title: p.title,
		Zones: []ZoneSpec{
			{Zone: Internet, Title: "Internet", Class: Outside, Default: Deny},
			{Zone: DMZ, Title: "DMZ Zone", Class: Tiered, Tier: 1, Default: Deny},
			{Zone: Application, Title: "Application Zone", Class: Tiered, Tier: 2, Default: Deny},
			{Zone: Data, Title: "Data Zone", Class: Tiered, Tier: 3, Default: Deny},
			{Zone: Management, Title: "Management Zone", Class: Managing, Default: Deny},
			{Zone: Platform, Title: "Platform", Class: Underlying, Default: Deny},
		},
		Namespaces: slices.Concat([]Namespace{
			{NamespaceDMZ, DMZ},
			{NamespaceServices, Application},
			{NamespaceData, Data},
			{NamespaceServer, Management},
			{NamespaceAgent, Management},
		}, p.namespaces, []Namespace{{NamespaceDetection, Management}}),
		Roles: roles(o, p),
		Flows: flows(p),
	}
}

func roles(o Options, p parts) []Role {
	return slices.Concat([]Role{
		{Name: Clients, Title: "Clients", Zone: Internet, Place: Elsewhere},
	}, p.edge, []Role{
		{Name: WebGateway, Title: "Web Gateway", Zone: DMZ, Place: Pods, Namespace: NamespaceDMZ, Labels: app("gateway", "web-gateway"),
			SPIFFEPath: "/gateway/web", Ports: []Port{{Name: "https", Number: 8443, Protection: TLS}, {Name: "http", Number: 8080, Protection: Plain}}},
		{Name: APIGateway, Title: "API Gateway", Zone: DMZ, Place: Pods, Namespace: NamespaceDMZ, Labels: app("gateway", "api-gateway"),
			SPIFFEPath: "/gateway/api", Ports: []Port{{Name: "https", Number: 8443, Protection: TLS}, {Name: "http", Number: 8080, Protection: Plain}}},

		{Name: Payment, Title: "Frontend Services (payment)", Zone: Application, Place: Pods, Namespace: NamespaceServices,
			Labels: app("payment", "payment"), SPIFFEPath: "/workload/payment-service", Ports: service(8443)},
		{Name: User, Title: "Business Logic (user)", Zone: Application, Place: Pods, Namespace: NamespaceServices,
			Labels: app("user", "user"), SPIFFEPath: "/workload/user-service", Ports: service(8443)},
		{Name: Order, Title: "API Services (order)", Zone: Application, Place: Pods, Namespace: NamespaceServices,
			Labels: app("order", "order"), SPIFFEPath: "/workload/order-service", Ports: service(8443)},
	}, p.data, []Role{
		{Name: Cache, Title: "Cache Layer", Zone: Data, Place: Pods, Namespace: NamespaceData, Labels: app("cache", "cache"),
			SPIFFEPath: "/data/cache", Ports: service(6379)},
		{Name: Queue, Title: "Message Queue", Zone: Data, Place: Pods, Namespace: NamespaceData, Labels: app("queue", "queue"),
			SPIFFEPath: "/data/queue", Ports: service(4222)},

		{Name: SPIREServer, Title: "SPIRE Server", Zone: Management, Place: Pods, Namespace: NamespaceServer, Labels: app("spire-server", "spire-server"),
			SPIFFEPath: "/spire/server", Ports: []Port{
				{Name: "grpc", Number: 8081, Protection: TLS}, {Name: "webhook", Number: 9443, Protection: TLS},
				{Name: "metrics", Number: 9988, Protection: Plain}, {Name: "health", Number: 8080, Protection: Plain},
				{Name: "cm-metrics", Number: 8082, Protection: Plain}, {Name: "cm-health", Number: 8083, Protection: Plain},
			}},
	}, p.management, []Role{
		{Name: CSIDriver, Title: "SPIFFE CSI driver", Zone: Management, Place: Pods, Namespace: NamespaceAgent, Labels: app("spiffe-csi-driver", "spiffe-csi-driver"),
			Ports: []Port{{Name: "health", Number: 9809, Protection: Plain}}},
		// Its probes and figures are on the loopback: no policy could guard a port of the nodes.
		{Name: IntrusionDetection, Title: "Intrusion Detection", Zone: Management, Place: Nodes},

		{Name: SPIREAgent, Title: "SPIRE Agents", Zone: Platform, Place: Nodes, Ports: []Port{{Name: "metrics", Number: 9988, Protection: Plain}}},
		{Name: Kubelet, Title: "Kubelets", Zone: Platform, Place: Nodes, Ports: []Port{{Name: "https", Number: 10250, Protection: TLS}}},
		{Name: KubeAPIServer, Title: "Kubernetes API server", Zone: Platform, Place: APIServer,
			Ports: []Port{{Name: "https", Number: o.APIServerPort, Protection: TLS}}},
		{Name: DNS, Title: "DNS", Zone: Platform, Place: Pods, Namespace: "kube-system", Labels: map[string]string{"k8s-app": "kube-dns"},
			Ports: []Port{{Name: "dns", Number: o.DNSPort, Protocol: UDP, Protection: Plain}, {Name: "dns-tcp", Number: o.DNSPort, Protection: Plain}}},
	}, p.platform)
}

func flows(p parts) []Flow {
	all := slices.Concat(p.entering, []Flow{
		{WebGateway, Payment, "mtls", Request, true, "pages are made by the frontend services"},
		{APIGateway, Order, "mtls", Request, true, "the API is served by the API services"},
		{Payment, User, "mtls", Request, true, "the frontend asks the business logic"},
		{User, Order, "mtls", Request, true, "the business logic asks the API services"},
		{User, Cache, "mtls", Request, true, "the business logic keeps what it looked up"},
		{Order, Queue, "mtls", Request, true, "each order is announced to whoever works on it"},
	}, p.keeping, p.identity, []Flow{
		// Agents run with hostNetwork: their packets carry a node's address.
		{SPIREAgent, SPIREEntry, "grpc", Identity, false, "agents attest, renew, and fetch what their workloads may have"},
	}, p.webhooks, []Flow{
		{KubeAPIServer, SPIREServer, "webhook", Control, false, "the API server asks the controller manager to check registrations"},
	}, p.reading, []Flow{
		{KubeAPIServer, Kubelet, "https", Control, false, "the API server reads logs from and starts commands on nodes"},
	})
	for _, role := range slices.Concat([]string{SPIREServer}, p.controllers) {
		all = append(all, Flow{role, KubeAPIServer, "https", Control, false, "it works on objects of the cluster"})
	}
	for _, role := range []string{SPIREAgent, Kubelet, IntrusionDetection} {
		all = append(all, Flow{role, KubeAPIServer, "https", Control, false, "it asks which pods its node runs"})
	}
	all = append(all, Flow{SPIREAgent, Kubelet, "https", Control, false, "the agent asks its node's kubelet who a caller is"})
	for _, role := range []string{WebGateway, APIGateway, Payment, User, Order, Cache, Queue} {
		all = append(all, Flow{KubeAPIServer, role, "http", Control, false, "operators read its figures through the API server, which checks their rights"})
	}
	for _, role := range slices.Concat([]string{WebGateway, APIGateway, Payment, User, Order, SPIREServer}, p.namers) {
		for _, port := range []string{"dns", "dns-tcp"} {
			all = append(all, Flow{role, DNS, port, Naming, false, "it finds others by name"})
		}
	}
	return append(all, p.further...)
}
