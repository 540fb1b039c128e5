package main

import (
	"net/netip"
	"time"
)

// Event is a line on stdout, in the security architecture's schema ("Security Event Schema").
type Event struct {
	// Timestamp is when the line was written, in UTC.
	Timestamp time.Time `json:"timestamp"`
	// EventType is one of the constants below.
	EventType string   `json:"event_type"`
	Severity  Severity `json:"severity"`
	// Source is the program: "intrusion-detection".
	Source      string `json:"source"`
	TrustDomain string `json:"trust_domain"`
	// SPIFFEID is that of the role whose pod sent the packets. Empty when the role has none or is not known.
	SPIFFEID string `json:"spiffe_id"`
	// Details is a Denied, a Scan or a Violation.
	Details  any      `json:"details"`
	Metadata Metadata `json:"metadata"`
}

// The types of events.
const (
	// ConnectionDenied is a refused connection, with its repetitions.
	ConnectionDenied = "connection_denied"
	// PortScan is a source that was refused at many targets within the window.
	PortScan = "port_scan"
	// ZoneViolation is an attempt to cross between zones in a way that no flow may, whatever the model allows.
	ZoneViolation = "zone_violation"
)

var eventTypes = []string{ConnectionDenied, PortScan, ZoneViolation}

// Severity is how bad an event is.
type Severity string

// The severities.
const (
	// Info is a packet that opens no connection.
	Info Severity = "INFO"
	// Low is a connection within one zone.
	Low Severity = "LOW"
	// Medium is a connection between zones, or one of which an end is not known.
	Medium Severity = "MEDIUM"
	// High is a port scan or a violation.
	High Severity = "HIGH"
	// Critical is an attempt to get into a managing zone, which issues the identities.
	Critical Severity = "CRITICAL"
)

var severities = []Severity{Info, Low, Medium, High, Critical}

// Denied is the detail of ConnectionDenied.
type Denied struct {
	// Protocol is TCP, UDP, ICMP, ICMPv6 or a protocol number.
	Protocol string `json:"protocol"`
	From     Party  `json:"from"`
	To       Party  `json:"to"`
	// ICMPType and ICMPCode are there for ICMP only.
	ICMPType *uint8 `json:"icmp_type,omitempty"`
	ICMPCode *uint8 `json:"icmp_code,omitempty"`
	// Violation says what rule of the zones the attempt breaks. Empty: none.
	Violation string `json:"violation,omitempty"`
	SkipsTier bool   `json:"skips_tier"`
	// ModelAllows says that the model has a flow for this connection: the enforcing layer had not yet heard of a pod that has
	// just started, or model and enforcement disagree.
	ModelAllows bool `json:"model_allows"`
	// Stray says that the packets do not open a connection.
	Stray bool `json:"stray,omitempty"`
	// Count is the number of packets that no earlier line has counted, FirstSeen and LastSeen the times of the first and of the
	// last packet within the window, Repeated says that an earlier line has reported the connection.
	Count     uint64    `json:"count"`
	Repeated  bool      `json:"repeated,omitempty"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
}

// Scan is the detail of PortScan.
type Scan struct {
	From Party `json:"from"`
	// DistinctTargets, DistinctAddresses and DistinctPorts count what was refused within the window; maxTargets are told apart.
	DistinctTargets   int `json:"distinct_targets"`
	DistinctAddresses int `json:"distinct_addresses"`
	DistinctPorts     int `json:"distinct_ports"`
	Threshold         int `json:"threshold"`
	WindowSeconds     int `json:"window_seconds"`
	// Targets are the first of them, such as "10.1.2.3:8443/TCP".
	Targets []string `json:"targets"`
}

// Violation is the detail of ZoneViolation.
type Violation struct {
	Protocol  string `json:"protocol"`
	From      Party  `json:"from"`
	To        Party  `json:"to"`
	Violation string `json:"violation"`
	SkipsTier bool   `json:"skips_tier"`
	// Connections is the number of connections from this address into this zone since the last line about them, including the
	// one that is described.
	Connections uint64 `json:"connections"`
}

// Party is an end of a connection.
type Party struct {
	Address netip.Addr `json:"address"`
	// Port is there for TCP and UDP only. From's port is that of the first packet.
	Port uint16 `json:"port,omitempty"`
	// Kind is how the address was attributed.
	Kind Kind `json:"kind"`
	// Namespace and Pod are there for pods.
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	// Role and Zone are the model's. Role is empty when the model has none for the pod, and for nodes, whose programs share an
	// address.
	Role string `json:"role,omitempty"`
	Zone string `json:"zone,omitempty"`
	// Node is the node that the pod runs on, or that has the address.
	Node string `json:"node,omitempty"`

	spiffePath string
}

// Kind is how an address was attributed.
type Kind string

// The kinds of ends.
const (
	KindPod Kind = "pod"
	// KindNode is a node: its own programs, and pods that share its network.
	KindNode Kind = "node"
	// KindOutside is a public address.
	KindOutside Kind = "outside"
	// KindUnknown is anything else, such as an API server that is no node, or a pod that was gone before it was known.
	KindUnknown Kind = "unknown"
)

// Metadata says where the event was seen.
type Metadata struct {
	NodeID string `json:"node_id"`
	// Group is the group of the kernel's netfilter log that the packets came from.
	Group uint16 `json:"nflog_group"`
}
