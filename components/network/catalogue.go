package network

// A signature is an attack that can be recognised between the first and the second tier. Where everything is mutual TLS of a recent
// version, hardly anything else may be seen: most signatures are of traffic that should not be there at all, and say what it is.
type signature struct {
	sid, rev int
	// protocol is Suricata's, such as "tcp" or "http".
	protocol string
	from, to side
	// ports are the destination's. Empty: any. Ports of the model's flows are left out.
	ports     []int
	msg       string
	options   string // after msg, without the closing semicolon
	classtype string
	severity  string
	// threshold is for sensors: AWS Network Firewall knows no thresholds. A signature that is nothing without one is left out.
	threshold string
	// alert says that the packet is reported and not dropped.
	alert bool
}

// A side is an end of a signature.
type side int

const (
	outer side = iota // the first tier
	inner             // the second tier
	both
	anywhere
)

// catalogue are all signatures. An identifier is never used again for anything else; a change of what a signature matches raises its
// revision.
var catalogue = []signature{
	// What mutual TLS forbids.
	// The keywords ssl_version and tls.version look at the version before a greeting is whole: they take the beginning of a long
	// greeting of TLS 1.3, as clients with post-quantum keys send, for TLS 1.0. The bytes of the greeting say what it offers.
	{sid: 1000001, rev: 1, protocol: "tcp", from: outer, to: inner, msg: "TLS client offers no version from 1.2",
		options:   `flow:to_server,established; content:"|16 03|"; depth:2; content:"|01|"; offset:5; depth:1; byte_test:2,<,0x0303,9`,
		classtype: "policy-violation", severity: "high"},
	{sid: 1000002, rev: 1, protocol: "tcp", from: inner, to: outer, msg: "TLS server chose a version below 1.2",
		options:   `flow:to_client,established; content:"|16 03|"; depth:2; content:"|02|"; offset:5; depth:1; byte_test:2,<,0x0303,9`,
		classtype: "policy-violation", severity: "high"},
	{sid: 1000003, rev: 1, protocol: "http", from: outer, to: inner, msg: "plaintext HTTP where mutual TLS is required",
		options: "flow:to_server,established", classtype: "policy-violation", severity: "high"},
	{sid: 1000004, rev: 1, protocol: "ssh", from: outer, to: inner, msg: "SSH between tiers",
		options: "flow:to_server,established", classtype: "policy-violation", severity: "high"},

	// Services that attackers look for behind a gateway. None of them is reachable: who asks is inside the gateway.
	{sid: 1000010, rev: 1, protocol: "tcp", from: outer, to: inner, ports: []int{139, 445}, msg: "SMB attempt",
		options: "flow:to_server; flags:S,CE", classtype: "attempted-recon", severity: "high"},
	{sid: 1000011, rev: 1, protocol: "tcp", from: outer, to: inner, ports: []int{3389}, msg: "RDP attempt",
		options: "flow:to_server; flags:S,CE", classtype: "attempted-recon", severity: "high"},
	{sid: 1000012, rev: 1, protocol: "tcp", from: outer, to: inner, ports: []int{23, 2323}, msg: "telnet attempt",
		options: "flow:to_server; flags:S,CE", classtype: "attempted-recon", severity: "high"},
	{sid: 1000013, rev: 1, protocol: "tcp", from: outer, to: inner, ports: []int{1433, 1521, 3306, 4222, 5432, 6379, 9042, 9200, 11211, 27017},
		msg: "attempt to reach a data store past its tier", options: "flow:to_server; flags:S,CE", classtype: "attempted-recon", severity: "high"},
	{sid: 1000014, rev: 1, protocol: "tcp", from: outer, to: inner, ports: []int{2375, 2376, 2379, 2380, 6443, 10250, 10255},
		msg: "attempt to reach the cluster's control", options: "flow:to_server; flags:S,CE", classtype: "attempted-admin", severity: "critical"},

	// MS17-010, known as EternalBlue, and the implant that it leaves.
	{sid: 1000020, rev: 1, protocol: "tcp", from: outer, to: inner, msg: "SMB1 NT Transact, as EternalBlue begins",
		options: `flow:to_server,established; content:"|ff|SMB|a0|"; offset:4; depth:5`, classtype: "attempted-admin", severity: "critical"},
	{sid: 1000021, rev: 1, protocol: "tcp", from: outer, to: inner, msg: "SMB1 Transaction2 Secondary, as EternalBlue overflows",
		options: `flow:to_server,established; content:"|ff|SMB|33|"; offset:4; depth:5`, classtype: "attempted-admin", severity: "critical"},
	{sid: 1000022, rev: 1, protocol: "tcp", from: outer, to: inner, msg: "SMB1 Transaction2 SESSION_SETUP, as DoublePulsar is asked",
		options:   `flow:to_server,established; content:"|ff|SMB|32|"; offset:4; depth:5; content:"|0e 00|"; offset:65; depth:2`,
		classtype: "trojan-activity", severity: "critical"},

	// Attacks in plaintext HTTP.
	{sid: 1000030, rev: 1, protocol: "http", from: outer, to: inner, msg: "Log4Shell in the address (CVE-2021-44228)",
		options: `flow:to_server,established; http.uri; content:"${jndi:"; nocase`, classtype: "attempted-admin", severity: "critical"},
	{sid: 1000031, rev: 1, protocol: "http", from: outer, to: inner, msg: "Log4Shell in a header (CVE-2021-44228)",
		options: `flow:to_server,established; http.header; content:"${jndi:"; nocase`, classtype: "attempted-admin", severity: "critical"},
	{sid: 1000032, rev: 1, protocol: "http", from: outer, to: inner, msg: "Log4Shell in a body (CVE-2021-44228)",
		options: `flow:to_server,established; http.request_body; content:"${jndi:"; nocase`, classtype: "attempted-admin", severity: "critical"},
	{sid: 1000033, rev: 1, protocol: "http", from: outer, to: inner, msg: "nested Log4j lookup in a header, as Log4Shell is hidden",
		options: `flow:to_server,established; http.header; content:"${${"`, classtype: "attempted-admin", severity: "critical"},
	{sid: 1000034, rev: 1, protocol: "http", from: outer, to: inner, msg: "Shellshock in a header (CVE-2014-6271)",
		options: `flow:to_server,established; http.header; content:"() {"`, classtype: "attempted-admin", severity: "critical"},
	{sid: 1000035, rev: 1, protocol: "http", from: outer, to: inner, msg: "path traversal",
		options: `flow:to_server,established; http.uri.raw; content:"/.."; content:"/etc/passwd"; nocase`, classtype: "web-application-attack",
		severity: "high"},
	{sid: 1000036, rev: 1, protocol: "http", from: outer, to: inner, msg: "Spring4Shell in a body (CVE-2022-22965)",
		options: `flow:to_server,established; http.request_body; content:"class.module.classLoader"; nocase`, classtype: "attempted-admin",
		severity: "critical"},

	// Segments that no honest program sends.
	{sid: 1000040, rev: 1, protocol: "tcp", from: outer, to: inner, msg: "TCP segment without flags, as in a NULL scan",
		options: "flags:0", classtype: "network-scan", severity: "high"},
	{sid: 1000041, rev: 1, protocol: "tcp", from: outer, to: inner, msg: "TCP segment with FIN, PSH and URG, as in a XMAS scan",
		options: "flags:FPU", classtype: "network-scan", severity: "high"},
	{sid: 1000042, rev: 1, protocol: "tcp", from: outer, to: inner, msg: "TCP segment with SYN and FIN",
		options: "flags:SF", classtype: "network-scan", severity: "high"},

	// DNS as a way out. Names and answers of these sizes occur in honest traffic, though rarely.
	{sid: 1000050, rev: 1, protocol: "dns", from: both, to: anywhere, msg: "DNS query for a very long name, as in a tunnel",
		options: "flow:to_server; dns.query; bsize:>100", classtype: "bad-unknown", severity: "medium", alert: true},
	{sid: 1000051, rev: 1, protocol: "udp", from: both, to: anywhere, ports: []int{53}, msg: "DNS query of an unusual size, as in a tunnel",
		options: "flow:to_server; dsize:>300", classtype: "bad-unknown", severity: "medium", alert: true},

	// Many attempts. Whether one is allowed is said by the denials; these are about their number.
	{sid: 1000060, rev: 1, protocol: "tcp", from: outer, to: inner, msg: "port scan: many refused ports within a minute",
		options: "flow:to_server; flags:S,CE", classtype: "network-scan", severity: "high", alert: true,
		threshold: "type both, track by_src, count 10, seconds 60"},
	{sid: 1000061, rev: 1, protocol: "icmp", from: outer, to: inner, msg: "ping sweep: many echo requests within a minute",
		options: "itype:8", classtype: "network-scan", severity: "medium", alert: true,
		threshold: "type both, track by_src, count 10, seconds 60"},
}
