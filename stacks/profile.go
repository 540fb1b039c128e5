package stacks

import (
	"maps"
	"slices"
	"time"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/postgres"
)

// Profile holds every difference between one kind of environment and another.
// A stack names its profile; configuration keys override single fields.
type Profile struct {
	// ServerReplicas is the number of SPIRE servers, each on a node of its own.
	ServerReplicas int
	// ServerQuorum is how many SPIRE servers a voluntary disruption (a node
	// drain, an eviction) has to leave running. It is less than ServerReplicas:
	// otherwise no node with a server could ever be drained.
	ServerQuorum int
	// Spread says how far apart the SPIRE servers run. Instances of Postgres
	// always run on nodes of their own.
	Spread manifest.Spread
	// PostgresInstances is the number of Postgres instances: one primary, the
	// rest streaming standbys.
	PostgresInstances int
	// DataDurability says what a commit does when no standby can confirm it.
	DataDurability postgres.Durability
	// CATTL is the lifetime of each SPIRE server's signing certificate.
	CATTL time.Duration
	// X509SVIDTTL is the lifetime of a workload's X.509-SVID; agents renew it
	// at half of that.
	X509SVIDTTL time.Duration
	// JWTSVIDTTL is the lifetime of a JWT-SVID.
	JWTSVIDTTL time.Duration
	// AgentTTL is the lifetime of an agent's own SVID.
	AgentTTL time.Duration
	// WorkloadReplicas is the number of pods of each of the services.
	WorkloadReplicas int
	// GatewayReplicas is the number of pods of each of the gateways.
	GatewayReplicas int
	// Protect refuses to delete stateful resources until it is turned off.
	Protect bool
	// AWS is what differs on the platform aws.
	AWS AWSProfile
}

// Profiles is the table of profiles by name.
//
// Lifetimes: with an X.509-SVID of one hour agents rotate every half hour, as
// the security architecture asks; a CA of a day leaves room for the six SVID
// lifetimes that SPIRE needs to hand over from one CA to the next.
//
// "required" durability with three instances keeps every acknowledged
// registration through the loss of any one instance, and still accepts writes
// then, because the third instance confirms them.
//
// Seven years of audit records are more than the longest that the frameworks of
// the security architecture ask for (HIPAA, 45 CFR 164.316(b)(2)(i): six years;
// PCI DSS 10.5.1: one).
var Profiles = map[string]Profile{
	"production": {
		ServerReplicas: 3, ServerQuorum: 2, Spread: manifest.SpreadZones,
		PostgresInstances: 3, DataDurability: postgres.Required,
		CATTL: 24 * time.Hour, X509SVIDTTL: time.Hour, JWTSVIDTTL: 5 * time.Minute, AgentTTL: time.Hour,
		WorkloadReplicas: 3, GatewayReplicas: 2,
		Protect: true,
		AWS: AWSProfile{
			NodeInstanceType: "m6i.large", NodesPerZone: 3,
			DatabaseEngine: "multi-az", DatabaseInstanceClass: "db.m6gd.large", DatabaseStorageGiB: 100, DatabaseIOPS: 3000, BackupRetentionDays: 35,
			AuditRetentionDays: 2555, AuditMode: "COMPLIANCE", LogRetentionDays: 400, KeyDeletionDays: 30, CAUsage: "GENERAL_PURPOSE",
		},
	},
	"staging": {
		ServerReplicas: 1, ServerQuorum: 0, Spread: manifest.SpreadNodes,
		PostgresInstances: 2, DataDurability: postgres.Preferred,
		CATTL: 24 * time.Hour, X509SVIDTTL: time.Hour, JWTSVIDTTL: 5 * time.Minute, AgentTTL: time.Hour,
		WorkloadReplicas: 2, GatewayReplicas: 2,
		Protect: false,
		AWS: AWSProfile{
			NodeInstanceType: "m6i.large", NodesPerZone: 3,
			DatabaseEngine: "multi-az", DatabaseInstanceClass: "db.m6gd.large", DatabaseStorageGiB: 100, DatabaseIOPS: 1000, BackupRetentionDays: 7,
			AuditRetentionDays: 30, AuditMode: "GOVERNANCE", LogRetentionDays: 90, KeyDeletionDays: 7, CAUsage: "SHORT_LIVED_CERTIFICATE",
			ForceDestroy: true,
		},
	},
	"development": {
		ServerReplicas: 1, ServerQuorum: 0, Spread: manifest.SpreadPreferred,
		PostgresInstances: 1, DataDurability: postgres.Preferred,
		CATTL: 24 * time.Hour, X509SVIDTTL: time.Hour, JWTSVIDTTL: 5 * time.Minute, AgentTTL: time.Hour,
		WorkloadReplicas: 1, GatewayReplicas: 1,
		Protect: false,
		AWS: AWSProfile{
			NodeInstanceType: "m6i.large", NodesPerZone: 1,
			DatabaseEngine: "multi-az", DatabaseInstanceClass: "db.m6gd.large", DatabaseStorageGiB: 100, DatabaseIOPS: 1000, BackupRetentionDays: 1,
			AuditRetentionDays: 1, AuditMode: "GOVERNANCE", LogRetentionDays: 30, KeyDeletionDays: 7, CAUsage: "SHORT_LIVED_CERTIFICATE",
			ForceDestroy: true,
		},
	},
}

// defaultProfile is used when a stack names none: the strictest.
const defaultProfile = "production"

func profileNames() []string { return slices.Sorted(maps.Keys(Profiles)) }
