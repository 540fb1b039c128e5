// Package architecture holds the deployment against the diagrams of the security architecture: every box and every arrow of "High
// Availability SPIRE Deployment", "Network Security Zones" and "SPIFFE Trust Domain Design", and the resources of the production and the
// staging stack that realise it.
//
// In: recorded resource graphs (test/graph). Out: the page docs/architecture.md, and what is missing or left over.
package architecture

import "strings"

// A Diagram is one of the document, by the lines of its source that draw something.
type Diagram struct {
	// Title is its heading in the document.
	Title string
	// Lines are its boxes, as ID[Label] or ID[(Label)], and its arrows, as A --> B, A --- B, A -.-> B, with or without a label.
	Lines string
}

// Diagrams are the three.
var Diagrams = []Diagram{
	{"High Availability SPIRE Deployment", `
LB[Load Balancer]
LB2[Backup Load Balancer]
SS1[SPIRE Server 1]
SS2[SPIRE Server 2]
SS3[SPIRE Server 3]
DB1[(Primary DB)]
DB2[(Replica DB)]
DB3[(Replica DB)]
SA1[SPIRE Agent 1]
W1[Workloads]
SA2[SPIRE Agent 2]
W2[Workloads]
SA3[SPIRE Agent 3]
W3[Workloads]
LB --> SS1
LB --> SS2
LB --> SS3
LB2 -.-> SS1
LB2 -.-> SS2
LB2 -.-> SS3
SS1 --> DB1
SS2 --> DB1
SS3 --> DB1
DB1 --> DB2
DB1 --> DB3
SA1 --> LB
SA2 --> LB
SA3 --> LB
SA1 --- W1
SA2 --- W2
SA3 --- W3
`},
	{"Network Security Zones", `
DMZ1[Web Gateway]
DMZ2[API Gateway]
APP1[Frontend Services]
APP2[Business Logic]
APP3[API Services]
DATA1[Database Services]
DATA2[Cache Layer]
DATA3[Message Queue]
MGMT1[SPIRE Server]
MGMT2[Monitoring]
MGMT3[Logging]
FW1[Firewall]
IDS[Intrusion Detection]
WAF[Web Application Firewall]
Internet ---|HTTPS| WAF
WAF --> DMZ1
WAF --> DMZ2
DMZ1 ---|mTLS| FW1
DMZ2 ---|mTLS| FW1
FW1 --> APP1
FW1 --> APP2
FW1 --> APP3
APP1 ---|mTLS| DATA1
APP2 ---|mTLS| DATA2
APP3 ---|mTLS| DATA3
MGMT1 --> APP1
MGMT1 --> APP2
MGMT1 --> APP3
MGMT1 --> DATA1
MGMT1 --> DATA2
MGMT1 --> DATA3
IDS --> MGMT2
`},
	{"SPIFFE Trust Domain Design", `
PS[SPIRE Server Cluster]
PDB[(Production Registry)]
PA1[SPIRE Agent]
PA2[SPIRE Agent]
PA3[SPIRE Agent]
PS1[Payment Service]
PS2[User Service]
PS3[Order Service]
SS[SPIRE Server]
SDB[(Staging Registry)]
SA1[SPIRE Agent]
ST1[Test Services]
PS --> PA1
PS --> PA2
PS --> PA3
PS --- PDB
PA1 --- PS1
PA2 --- PS2
PA3 --- PS3
SS --> SA1
SS --- SDB
SA1 --- ST1
PS1 ---|mTLS| PS2
PS2 ---|mTLS| PS3
`},
}

// lines are the diagram's boxes and arrows.
func (d Diagram) lines() []string { return strings.Split(strings.TrimSpace(d.Lines), "\n") }
