package awsrules

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// databaseName is that of what RDS keeps: lower-case letters, digits and single hyphens, a letter first and no hyphen last.
func databaseName(field string, limit float64) []check {
	return []check{
		length(field, 1, limit), pattern(field, `[a-z][a-z0-9-]*`), never(field, `--`, "must not have two hyphens in a row"), never(field, `-$`, "must not end with a hyphen"),
		atMostOne("", field, field+"Prefix"),
	}
}

func join2(lists ...[]check) []check {
	var all []check
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// performanceInsights are the months that metrics are kept, in days.
func performanceInsights(s *subject) {
	days, ok := s.inputs.amount("performanceInsightsRetentionPeriod")
	if ok && days != 7 && days != 731 && (math.Mod(days, 31) != 0 || days < 31 || days > 713) {
		s.report(RuleEnum, "performanceInsightsRetentionPeriod", "is %v, must be 7, 731 or a multiple of 31", days)
	}
	for _, field := range []string{"performanceInsightsKmsKeyId", "performanceInsightsRetentionPeriod"} {
		if s.inputs.set(field) && !s.inputs.is("performanceInsightsEnabled", true) && (s.inputs.get("performanceInsightsEnabled") == nil || s.inputs.get("performanceInsightsEnabled").kind == flag) {
			s.report(RuleDepends, field, "needs performanceInsightsEnabled")
		}
	}
}

func monitoring(s *subject) {
	seconds, ok := s.inputs.amount("monitoringInterval")
	if ok && seconds > 0 && !s.inputs.set("monitoringRoleArn") {
		s.report(RuleDepends, "monitoringRoleArn", "is required with an interval")
	}
	if s.inputs.set("monitoringRoleArn") && (!s.inputs.set("monitoringInterval") || ok && seconds == 0) {
		s.report(RuleDepends, "monitoringRoleArn", "needs monitoringInterval")
	}
}

const (
	timeOfDay = `([01]\d|2[0-3]):[0-5]\d`
	day       = `(?i:mon|tue|wed|thu|fri|sat|sun)`
)

// windows: the backup window and the maintenance window do not overlap, and each has 30 minutes.
func windows(s *subject) {
	backup, ok := s.inputs.known("preferredBackupWindow")
	if !ok || !regexp.MustCompile(`^`+timeOfDay+`-`+timeOfDay+`$`).MatchString(backup) {
		return
	}
	from, to := minutes(backup[:5]), minutes(backup[6:])
	if length := (to - from + 1440) % 1440; length < 30 {
		s.report(RuleRange, "preferredBackupWindow", "has %d minutes, must have 30", length)
	}
	maintenance, ok := s.inputs.known("preferredMaintenanceWindow")
	if !ok || !regexp.MustCompile(`^`+day+`:`+timeOfDay+`-`+day+`:`+timeOfDay+`$`).MatchString(maintenance) {
		return
	}
	begin, end := week(maintenance[:9]), week(maintenance[10:])
	if length := (end - begin + 10080) % 10080; length < 30 || length > 1440 {
		s.report(RuleRange, "preferredMaintenanceWindow", "has %d minutes, must have between 30 and 1440", length)
	}
	for d := range 7 {
		for m := from; m != to; m = (m + 1) % 1440 {
			at := d*1440 + m
			if inside := (at-begin+10080)%10080 < (end-begin+10080)%10080; inside {
				s.report(RuleDepends, "preferredMaintenanceWindow", "%s overlaps the backup window %s", maintenance, backup)
				return
			}
		}
	}
}

func minutes(clock string) int {
	h, _ := strconv.Atoi(clock[:2])
	m, _ := strconv.Atoi(clock[3:])
	return h*60 + m
}

func week(clock string) int {
	return strings.Index("montuewedthufrisatsun", strings.ToLower(clock[:3]))/3*1440 + minutes(clock[4:])
}

var data = table{"AWS RDS", map[string][]check{
	"aws:rds/cluster:Cluster": join2(databaseName("clusterIdentifier", 63), []check{
		enum("engine", "aurora-mysql", "aurora-postgresql", "mysql", "postgres"), enum("engineMode", "global", "multimaster", "parallelquery", "provisioned", "serverless"),
		enum("storageType", "", "aurora", "aurora-iopt1", "gp3", "io1", "io2"), between("backupRetentionPeriod", 0, 35), between("port", 1150, 65535),
		enum("enabledCloudwatchLogsExports", "audit", "error", "general", "iam-db-auth-error", "instance", "postgresql", "slowquery", "upgrade"),
		enum("networkType", "IPV4", "DUAL"), enum("databaseInsightsMode", "standard", "advanced"), enum("clusterScalabilityType", "standard", "limitless"),
		enum("engineLifecycleSupport", "open-source-rds-extended-support", "open-source-rds-extended-support-disabled"),
		pattern("preferredBackupWindow", timeOfDay+`-`+timeOfDay), pattern("preferredMaintenanceWindow", day+`:`+timeOfDay+`-`+day+`:`+timeOfDay),
		atMostOne("", "masterPassword", "manageMasterUserPassword"), atMostOne("", "snapshotIdentifier", "globalClusterIdentifier", "s3Import", "restoreToPointInTime"),
		among("monitoringInterval", 0, 1, 5, 10, 15, 30, 60), arn("kmsKeyId", "kms"), arn("monitoringRoleArn", "iam"), arn("performanceInsightsKmsKeyId", "kms"), arn("iamRoles", "iam"),
		pattern("masterUsername", `[A-Za-z][A-Za-z0-9_]{0,62}`), never("masterUsername", `(?i)^(rdsadmin|postgres_admin|admin_rds|rds_superuser|rdsrepladmin)$`, "is reserved"),
		pattern("databaseName", `[A-Za-z][A-Za-z0-9_]{0,62}`), never("databaseName", `^(?i:template0|template1|rdsadmin|postgres_admin)$`, "is reserved"),
		pattern("finalSnapshotIdentifier", `[0-9A-Za-z-]{1,255}`), never("finalSnapshotIdentifier", `--|-$|^[^A-Za-z]`, "must begin with a letter, without two hyphens in a row or one at the end"),
		count("availabilityZones", 0, 3), performanceInsights, monitoring, windows,
		func(s *subject) {
			n := s.inputs
			if !n.is("skipFinalSnapshot", true) && !n.set("finalSnapshotIdentifier") && (n.get("skipFinalSnapshot") == nil || n.get("skipFinalSnapshot").kind == flag) {
				s.report(RuleDepends, "finalSnapshotIdentifier", "is required unless skipFinalSnapshot, or the cluster cannot be deleted")
			}
			restored := len(given(n, []string{"snapshotIdentifier", "globalClusterIdentifier", "s3Import", "restoreToPointInTime", "replicationSourceIdentifier"})) > 0
			if !restored && (!n.set("masterUsername") || len(given(n, []string{"masterPassword", "manageMasterUserPassword"})) == 0) {
				s.report(RuleDepends, "masterUsername", "is required of a new cluster, with masterPassword or manageMasterUserPassword")
			}
			if n.set("masterUserSecretKmsKeyId") && !n.is("manageMasterUserPassword", true) {
				s.report(RuleDepends, "masterUserSecretKmsKeyId", "needs manageMasterUserPassword")
			}
			if n.set("kmsKeyId") && n.is("storageEncrypted", false) || n.set("kmsKeyId") && n.get("storageEncrypted") == nil {
				s.report(RuleDepends, "kmsKeyId", "needs storageEncrypted")
			}
			engine, known := n.known("engine")
			if !known {
				return
			}
			aurora := strings.HasPrefix(engine, "aurora")
			multiAZ := []string{"dbClusterInstanceClass", "allocatedStorage", "iops"}
			if !aurora {
				for _, field := range multiAZ[:2] {
					if !n.set(field) {
						s.report(RuleDepends, field, "is required of a Multi-AZ cluster")
					}
				}
				kind, ok := n.known("storageType")
				if (kind == "io1" || kind == "io2" || !n.set("storageType")) && !n.set("iops") {
					s.report(RuleDepends, "iops", "is required of a Multi-AZ cluster with provisioned storage")
				}
				if ok && !contains([]string{"io1", "io2", "gp3"}, kind) {
					s.report(RuleEnum, "storageType", "%q is not for a Multi-AZ cluster", kind)
				}
				storage, okStorage := n.amount("allocatedStorage")
				if okStorage && (storage < 20 && kind == "gp3" || storage < 100 && kind != "gp3" || storage > 65536) {
					s.report(RuleRange, "allocatedStorage", "is %v GiB, must be between 100 (gp3: 20) and 65536", storage)
				}
				if iops, ok := n.amount("iops"); ok && okStorage && kind != "gp3" && (iops < 1000 || iops > 256000 || iops > 50*storage && kind != "io2" || iops > 1000*storage || iops < storage/2) {
					s.report(RuleRange, "iops", "is %v for %v GiB, must be between 1000 and 256000 and between half and 50 times the storage", iops, storage)
				}
				for _, field := range []string{"serverlessv2ScalingConfiguration", "scalingConfiguration", "backtrackWindow", "globalClusterIdentifier", "enableHttpEndpoint"} {
					if n.set(field) && !n.is(field, false) {
						s.report(RuleDepends, field, "is only for Aurora")
					}
				}
				if class, ok := n.known("dbClusterInstanceClass"); ok && !regexp.MustCompile(`^db\.(m5d|m6gd|m6id|m8gd|r5d|r6gd|r6id|r8gd|x2iedn|c6gd)\.[a-z0-9]+$`).MatchString(class) {
					s.report(RuleEnum, "dbClusterInstanceClass", "%q has no local disk, which Multi-AZ clusters need", class)
				}
			} else {
				for _, field := range multiAZ {
					if n.set(field) {
						s.report(RuleDepends, field, "is not for Aurora")
					}
				}
				if kind, ok := n.known("storageType"); ok && kind != "" && kind != "aurora" && kind != "aurora-iopt1" {
					s.report(RuleEnum, "storageType", "%q is not for Aurora", kind)
				}
				if retention, ok := n.amount("backupRetentionPeriod"); ok && retention < 1 {
					s.report(RuleRange, "backupRetentionPeriod", "must be at least 1 for Aurora")
				}
			}
			for _, export := range n.each("enabledCloudwatchLogsExports") {
				wrong := map[bool][]string{true: {"audit", "error", "general", "slowquery"}, false: {"postgresql", "upgrade"}}[strings.Contains(engine, "postgres")]
				if export.kind == text && contains(wrong, export.text) {
					s.report(RuleEnum, export.path, "%q is no log of %s", export.text, engine)
				}
			}
			for _, scaling := range n.each("serverlessv2ScalingConfiguration") {
				low, okLow := scaling.amount("minCapacity")
				high, okHigh := scaling.amount("maxCapacity")
				if okLow && okHigh && (low > high || low < 0 || high < 1 || high > 256 || math.Mod(low*2, 1) != 0 || math.Mod(high*2, 1) != 0) {
					s.report(RuleRange, scaling.path, "is %v to %v, must be between 0 and 256 in steps of 0.5", low, high)
				}
			}
		},
	}),
	"aws:rds/clusterInstance:ClusterInstance": join2(databaseName("identifier", 63), []check{
		enum("engine", "aurora-mysql", "aurora-postgresql", "mysql", "postgres"), pattern("instanceClass", `db\.[a-z0-9]+(\.[a-z0-9]+)+|db\.serverless`),
		among("monitoringInterval", 0, 1, 5, 10, 15, 30, 60), between("promotionTier", 0, 15), arn("monitoringRoleArn", "iam"), arn("performanceInsightsKmsKeyId", "kms"),
		pattern("preferredBackupWindow", timeOfDay+`-`+timeOfDay), pattern("preferredMaintenanceWindow", day+`:`+timeOfDay+`-`+day+`:`+timeOfDay),
		performanceInsights, monitoring, windows,
	}),
	"aws:rds/clusterParameterGroup:ClusterParameterGroup": join2(databaseName("name", 255), []check{
		enum("parameters.applyMethod", "immediate", "pending-reboot"), pattern("family", `(aurora-)?(postgresql|postgres|mysql)\d+(\.\d+)?`), length("description", 1, 255), parameters,
	}),
	"aws:rds/parameterGroup:ParameterGroup": join2(databaseName("name", 255), []check{
		enum("parameters.applyMethod", "immediate", "pending-reboot"), pattern("family", `(aurora-)?(postgresql|postgres|mysql)\d+(\.\d+)?`), length("description", 1, 255), parameters,
	}),
	"aws:rds/subnetGroup:SubnetGroup": {
		needs("subnetIds"), atMostOne("", "name", "namePrefix"), length("name", 1, 255), pattern("name", `[ .0-9a-z_-]+`), never("name", `^default$`, "is reserved"),
		func(s *subject) {
			if n := s.inputs.get("subnetIds"); n != nil && n.kind == list && len(n.list) < 2 {
				s.report(RuleCount, "subnetIds", "has %d elements, must have 2 in two zones (3 for Multi-AZ clusters)", len(n.list))
			}
		},
	},
	"aws:rds/eventSubscription:EventSubscription": {
		arn("snsTopic", "sns"), with("", "sourceIds", "sourceType"), atMostOne("", "name", "namePrefix"), length("name", 1, 255), pattern("name", `[0-9A-Za-z][0-9A-Za-z-]*`),
		enum("sourceType", "db-instance", "db-security-group", "db-parameter-group", "db-snapshot", "db-cluster", "db-cluster-snapshot", "custom-engine-version", "db-proxy", "blue-green-deployment", "zero-etl"),
		func(s *subject) {
			kind, ok := s.inputs.known("sourceType")
			known, listed := eventCategories[kind]
			if !ok || !listed {
				return
			}
			for _, n := range s.inputs.each("eventCategories") {
				if n.kind == text && !contains(known, n.text) {
					s.report(RuleEnum, n.path, "%q is no category of a %s, which are %q", n.text, kind, known)
				}
			}
		},
	},
}}

// eventCategories are those of RDS (RDS guide, "Amazon RDS event categories and event messages").
var eventCategories = map[string][]string{
	"db-cluster":          {"configuration change", "creation", "deletion", "failover", "failure", "global-failover", "maintenance", "migration", "notification", "serverless", "recovery", "backup", "availability"},
	"db-cluster-snapshot": {"backup", "notification", "creation", "deletion", "failure", "restoration"},
	"db-parameter-group":  {"configuration change"},
}

// parameters: none is set twice.
func parameters(s *subject) {
	seen := map[string]bool{}
	for _, n := range s.inputs.each("parameters") {
		if name, ok := n.known("name"); ok {
			if seen[name] {
				s.report(RuleExclusive, join(n.path, "name"), "%s is set twice", name)
			}
			seen[name] = true
			if staticParameters[name] && !n.is("applyMethod", "pending-reboot") {
				s.report(RuleDepends, join(n.path, "applyMethod"), "%s is static, it can only be applied with pending-reboot", name)
			}
		}
	}
}

// staticParameters are those of PostgreSQL that RDS refuses to apply at once (RDS guide, "RDS for PostgreSQL DB instance parameter
// list"): only some that a deployment is likely to set.
var staticParameters = map[string]bool{
	"shared_preload_libraries": true, "max_connections": true, "shared_buffers": true, "wal_buffers": true, "rds.logical_replication": true, "track_activity_query_size": true,
	"max_worker_processes": true, "max_wal_senders": true, "max_replication_slots": true, "max_locks_per_transaction": true, "max_prepared_transactions": true,
	"huge_pages": true, "autovacuum_max_workers": true,
}
