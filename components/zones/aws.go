package zones

import "cmp"

// Names of the roles of AWS that Standard does not have.
const (
	EdgeBalancer  = "edge-balancer"
	EdgePorts     = "edge-ports"
	EntryPorts    = "entry-ports"
	DatabaseSetup = "database-setup"
	AWSServices   = "aws-services"
	PodIdentity   = "pod-identity"
)

// The ports of the nodes behind which Kubernetes hands the load balancers' connections to pods. They are within Kubernetes' default
// range, so that every cluster takes them.
const (
	NodePortWeb          = 30443
	NodePortAPI          = 30444
	NodePortEntryPrimary = 30081
	NodePortEntryBackup  = 30082
)

// podIdentityAddress is where EKS' Pod Identity Agent listens on each node (https://docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html).
const podIdentityAddress = "169.254.170.23"

// AWS is the model of the reference deployment on AWS: Standard with what AWS brings in place of pods. The database is RDS, with no
// operator and no root CA in the cluster; a load balancer with the web application firewall stands before the gateways, and two more
// are the entry to the SPIRE servers. Both load balancers hand connections to ports of the nodes of their zone, on which Kubernetes
// brings them to pods. AWS' own API is reached by endpoints within the network, by whom it names.
func AWS(o Options) Model {
	o.APIServerPort = cmp.Or(o.APIServerPort, 443)
	const signed = "each call to AWS is signed with credentials of a role that only that service account gets"
	p := parts{
		title: "Network zones on AWS",
		edge: []Role{
			{Name: EdgeBalancer, Title: "Application Load Balancer", Zone: DMZ, Place: Managed, Group: EdgeBalancer,
				Ports: []Port{{Name: "https", Number: 443, Protection: TLS}}},
			{Name: EdgePorts, Title: "Ports of the gateways on nodes", Zone: DMZ, Place: NodePorts, Ports: []Port{
				{Name: "web", Number: NodePortWeb, Protection: TLS}, {Name: "api", Number: NodePortAPI, Protection: TLS}}},
		},
		data: []Role{
			{Name: Database, Title: "Database Services (RDS)", Zone: Data, Place: Managed, Group: Database,
				Authentication: "tokens of IAM, valid for minutes; the setup job by the master password, which RDS changes",
				Ports:          []Port{{Name: "postgres", Number: 5432, Protection: TLS}}},
		},
		management: []Role{
			{Name: SPIREEntry, Title: "SPIRE load balancers", Zone: Management, Place: Managed, Group: SPIREEntry,
				Ports: []Port{{Name: "grpc", Number: 8081, Protection: TLS}}},
			{Name: EntryPorts, Title: "Ports of the SPIRE servers on nodes", Zone: Management, Place: NodePorts, Ports: []Port{
				{Name: "primary", Number: NodePortEntryPrimary, Protection: TLS}, {Name: "backup", Number: NodePortEntryBackup, Protection: TLS}}},
			{Name: DatabaseSetup, Title: "Database setup job", Zone: Management, Place: Pods, Namespace: NamespaceServer,
				Labels: app("database-setup", "spire-db-setup")},
		},
		platform: []Role{
			{Name: AWSServices, Title: "AWS services (interface endpoints)", Zone: Platform, Place: Managed, Group: AWSServices, Authentication: signed,
				Ports: []Port{{Name: "https", Number: 443, Protection: TLS}}},
			{Name: PodIdentity, Title: "EKS Pod Identity Agents", Zone: Platform, Place: OwnNode, Address: podIdentityAddress,
				Ports: []Port{{Name: "http", Number: 80, Protection: Plain}}},
		},
		entering: []Flow{
			{Clients, EdgeBalancer, "https", Request, false, "requests enter through the web application firewall"},
			{EdgeBalancer, EdgePorts, "web", Delivery, false, "people's requests are handed to the nodes of the web gateway"},
			{EdgeBalancer, EdgePorts, "api", Delivery, false, "programs' requests are handed to the nodes of the API gateway"},
			{EdgeBalancer, WebGateway, "https", Request, false, "people's requests go on to the web gateway"},
			{EdgeBalancer, APIGateway, "https", Request, false, "programs' requests go on to the API gateway"},
		},
		keeping: []Flow{
			{SPIREServer, Database, "postgres", Request, false, "registration entries and CA journals are kept in Postgres"},
			{DatabaseSetup, Database, "postgres", Request, false, "the job makes the servers' role and database"},
		},
		identity: []Flow{
			{SPIREEntry, EntryPorts, "primary", Delivery, false, "the primary load balancer hands agents' connections to the servers' nodes"},
			{SPIREEntry, EntryPorts, "backup", Delivery, false, "the backup load balancer hands agents' connections to the servers' nodes"},
			{SPIREEntry, SPIREServer, "grpc", Identity, false, "the load balancers pass agents' connections through"},
		},
		namers: []string{SPIREAgent, DatabaseSetup},
		further: []Flow{
			{DNS, KubeAPIServer, "https", Control, false, "it asks which Services there are"},
			{SPIREServer, AWSServices, "https", Control, false, "keys are in KMS, the upstream CA is a private CA of AWS"},
			{DatabaseSetup, AWSServices, "https", Control, false, "the master password is in the Secrets Manager"},
			{Kubelet, AWSServices, "https", Control, false, "nodes pull images, attach disks and interfaces, send logs, and get the credentials of their pods"},
		},
	}
	for _, role := range []string{SPIREServer, DatabaseSetup} {
		p.further = append(p.further, Flow{role, PodIdentity, "http", Control, false, "the agent on its node gives it the credentials of its service account"})
	}
	return build(o, p)
}
