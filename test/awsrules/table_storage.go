package awsrules

var storageClasses = []string{"GLACIER", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "DEEP_ARCHIVE", "GLACIER_IR"}

// ofBucket are rules of every resource that configures a bucket.
var ofBucket = []check{length("bucket", 3, 63), pattern("bucket", bucketForm)}

// owned is the account that the provider asks S3 to check, where it can.
var owned = pattern("expectedBucketOwner", `\d{12}`)

// inlineBucket are the settings of a bucket that have resources of their own: the provider lets both fight.
var inlineBucket = []string{
	"accelerationStatus", "acl", "corsRules", "grants", "lifecycleRules", "loggings", "objectLockConfiguration", "policy", "replicationConfigurations", "requestPayer",
	"serverSideEncryptionConfigurations", "versionings", "websites",
}

// filters are those of rules for objects. sizes are the fields for the size of an object, where there are any.
func filters(path string, sizes ...string) []check {
	return []check{
		atMostOne(path, "filter", "prefix"), atMostOne(path+".filter", append([]string{"and", "prefix", "tag"}, sizes...)...),
		length(path+".id", 0, 255), length(path+".prefix", 0, 1024), length(path+".filter.prefix", 0, 1024), enum(path+".status", "Enabled", "Disabled"), needs(path),
	}
}

var storage = table{"AWS S3 and Backup", map[string][]check{
	"aws:s3/bucketV2:BucketV2": {
		atMostOne("", "bucket", "bucketPrefix"), length("bucket", 3, 63), length("bucketPrefix", 0, 37), pattern("bucket", bucketForm), never("bucket", `\.\.|^xn--|^sthree-|-s3alias$|--ol-s3$|^\d+\.\d+\.\d+\.\d+$`, "is reserved or looks like an address"),
		func(s *subject) {
			for _, field := range inlineBucket {
				if s.inputs.set(field) {
					s.report(RuleDepends, field, "is deprecated here and has a resource of its own")
				}
			}
		},
	},
	"aws:s3/bucketPolicy:BucketPolicy":                       join2(ofBucket, []check{policy("policy", 20480, resourcePolicy), needs("policy")}),
	"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": ofBucket,
	"aws:s3/bucketVersioningV2:BucketVersioningV2": join2(ofBucket, []check{
		owned, enum("versioningConfiguration.status", "Enabled", "Suspended", "Disabled"), enum("versioningConfiguration.mfaDelete", "Enabled", "Disabled"),
		func(s *subject) {
			if s.inputs.is("versioningConfiguration.mfaDelete", "Enabled") && !s.inputs.set("mfa") {
				s.report(RuleDepends, "mfa", "is required with mfaDelete")
			}
		},
	}),
	"aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2": join2(ofBucket, []check{
		owned, exactlyOne("rule.defaultRetention", "days", "years"), needs("rule.defaultRetention.mode"), between("rule.defaultRetention.days", 1, 36500), between("rule.defaultRetention.years", 1, 100),
		enum("objectLockEnabled", "Enabled"),
	}),
	"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2": join2(ofBucket, []check{
		owned, count("rules", 1, 1), enum("rules.applyServerSideEncryptionByDefault.sseAlgorithm", "AES256", "aws:kms", "aws:kms:dsse"),
		only("rules.applyServerSideEncryptionByDefault", "sseAlgorithm", []string{"aws:kms", "aws:kms:dsse"}, "kmsMasterKeyId"),
	}),
	"aws:s3/bucketOwnershipControls:BucketOwnershipControls": join2(ofBucket, []check{enum("rule.objectOwnership", "BucketOwnerPreferred", "ObjectWriter", "BucketOwnerEnforced")}),
	"aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2": join2(ofBucket, filters("rules", "objectSizeGreaterThan", "objectSizeLessThan"), []check{
		owned, needs("rules"), count("rules", 1, 1000), atMostOne("rules.expiration", "date", "days", "expiredObjectDeleteMarker"), atMostOne("rules.transitions", "date", "days"),
		between("rules.expiration.days", 1, 1e9), between("rules.noncurrentVersionExpiration.noncurrentDays", 1, 1e9), between("rules.noncurrentVersionExpiration.newerNoncurrentVersions", 1, 100),
		between("rules.abortIncompleteMultipartUpload.daysAfterInitiation", 1, 1e9),
		enum("rules.transitions.storageClass", storageClasses...), enum("rules.noncurrentVersionTransitions.storageClass", storageClasses...),
		enum("transitionDefaultMinimumObjectSize", "all_storage_classes_128K", "varies_by_storage_class"),
		atLeastOne("rules", "abortIncompleteMultipartUpload", "expiration", "noncurrentVersionExpiration", "noncurrentVersionTransitions", "transitions"),
		func(s *subject) {
			ids := map[string]bool{}
			for _, rule := range s.inputs.each("rules") {
				if id, ok := rule.known("id"); ok && ids[id] {
					s.report(RuleExclusive, join(rule.path, "id"), "%q is used twice", id)
				} else if ok {
					ids[id] = true
				}
				if rule.set("abortIncompleteMultipartUpload") && len(given(rule, []string{"filter.tag", "filter.and.tags", "filter.objectSizeGreaterThan", "filter.objectSizeLessThan"})) > 0 {
					s.report(RuleExclusive, join(rule.path, "abortIncompleteMultipartUpload"), "excludes a filter by tags or sizes")
				}
				expiry, ok := rule.amount("expiration.days")
				for _, t := range rule.each("transitions") {
					days, okDays := t.amount("days")
					if class, known := t.known("storageClass"); known && okDays && days < 30 && (class == "STANDARD_IA" || class == "ONEZONE_IA") {
						s.report(RuleRange, join(t.path, "days"), "is %v, must be at least 30 for %s", days, class)
					}
					if ok && okDays && expiry <= days {
						s.report(RuleRange, join(rule.path, "expiration.days"), "is %v, must be after the transition at %v", expiry, days)
					}
				}
				expiry, ok = rule.amount("noncurrentVersionExpiration.noncurrentDays")
				for _, t := range rule.each("noncurrentVersionTransitions") {
					days, okDays := t.amount("noncurrentDays")
					if class, known := t.known("storageClass"); known && okDays && days < 30 && (class == "STANDARD_IA" || class == "ONEZONE_IA") {
						s.report(RuleRange, join(t.path, "noncurrentDays"), "is %v, must be at least 30 for %s", days, class)
					}
					if ok && okDays && expiry <= days {
						s.report(RuleRange, join(rule.path, "noncurrentVersionExpiration.noncurrentDays"), "is %v, must be after the transition at %v", expiry, days)
					}
				}
			}
		},
	}),
	"aws:s3/bucketLoggingV2:BucketLoggingV2": join2(ofBucket, []check{
		owned, pattern("targetBucket", bucketForm), exactlyOne("targetObjectKeyFormat", "partitionedPrefix", "simplePrefix"),
		enum("targetObjectKeyFormat.partitionedPrefix.partitionDateSource", "EventTime", "DeliveryTime"),
	}),
	"aws:s3/bucketReplicationConfig:BucketReplicationConfig": join2(ofBucket, filters("rules"), []check{
		arn("role", "iam"), arn("rules.destination.bucket", "s3"), arn("rules.destination.encryptionConfiguration.replicaKmsKeyId", "kms"), between("rules.priority", 0, 1<<31-1),
		enum("rules.deleteMarkerReplication.status", "Enabled", "Disabled"), enum("rules.sourceSelectionCriteria.sseKmsEncryptedObjects.status", "Enabled", "Disabled"),
		among("rules.destination.metrics.eventThreshold.minutes", 15), among("rules.destination.replicationTime.time.minutes", 15), count("rules", 1, 1000),
		with("rules.destination", "replicationTime", "metrics"), with("rules.destination", "accessControlTranslation", "account"),
		enum("rules.destination.accessControlTranslation.owner", "Destination"),
		func(s *subject) {
			priorities := map[float64]bool{}
			for _, rule := range s.inputs.each("rules") {
				kms := rule.is("sourceSelectionCriteria.sseKmsEncryptedObjects.status", "Enabled")
				if kms != rule.set("destination.encryptionConfiguration") {
					s.report(RuleDepends, join(rule.path, "destination.encryptionConfiguration"), "is given exactly with sourceSelectionCriteria.sseKmsEncryptedObjects")
				}
				v2 := rule.fields["filter"] != nil
				if v2 && !rule.set("deleteMarkerReplication") {
					s.report(RuleDepends, join(rule.path, "deleteMarkerReplication"), "is required with filter")
				}
				if !v2 && (rule.set("deleteMarkerReplication") || rule.set("priority")) {
					s.report(RuleDepends, join(rule.path, "filter"), "is required with deleteMarkerReplication or priority")
				}
				if p, ok := rule.amount("priority"); ok && priorities[p] {
					s.report(RuleExclusive, join(rule.path, "priority"), "%v is used twice", p)
				} else if ok {
					priorities[p] = true
				}
				if rule.is("deleteMarkerReplication.status", "Enabled") && rule.set("filter.tag") {
					s.report(RuleExclusive, join(rule.path, "deleteMarkerReplication"), "excludes a filter by tags")
				}
			}
		},
	}),

	"aws:backup/vault:Vault": {pattern("name", `[0-9A-Za-z_-]{2,50}`), arn("kmsKeyArn", "kms")},
	"aws:backup/vaultLockConfiguration:VaultLockConfiguration": {
		between("changeableForDays", 3, 36500), between("minRetentionDays", 1, 36500), between("maxRetentionDays", 1, 36500), pattern("backupVaultName", `[0-9A-Za-z_-]{2,50}`),
		func(s *subject) {
			low, okLow := s.inputs.amount("minRetentionDays")
			high, okHigh := s.inputs.amount("maxRetentionDays")
			if okLow && okHigh && low > high {
				s.report(RuleRange, "minRetentionDays", "is %v, above maxRetentionDays %v", low, high)
			}
		},
	},
	"aws:backup/vaultPolicy:VaultPolicy": {policy("policy", 20480, resourcePolicy)},
	"aws:backup/plan:Plan": {
		length("name", 1, 50), pattern("name", `[A-Za-z0-9_.-]+`), needs("rules"), length("rules.ruleName", 1, 50), schedule("rules.schedule"), arn("rules.copyActions.destinationVaultArn", "backup"),
		between("rules.startWindow", 60, 1e6), pattern("rules.targetVaultName", `[0-9A-Za-z_-]{2,50}`),
		lifecycle("rules.lifecycle"), lifecycle("rules.copyActions.lifecycle"),
		func(s *subject) {
			names := map[string]bool{}
			for _, rule := range s.inputs.each("rules") {
				if name, ok := rule.known("ruleName"); ok && names[name] {
					s.report(RuleExclusive, join(rule.path, "ruleName"), "%q is used twice", name)
				} else if ok {
					names[name] = true
				}
				start, okStart := rule.amount("startWindow")
				if !okStart {
					start = 60 // AWS' default is longer; this is the least
				}
				if end, ok := rule.amount("completionWindow"); ok && end < start+60 {
					s.report(RuleRange, join(rule.path, "completionWindow"), "is %v minutes, must be at least 60 more than startWindow", end)
				}
				if days, ok := rule.amount("lifecycle.deleteAfter"); ok && rule.is("enableContinuousBackup", true) && days > 35 {
					s.report(RuleRange, join(rule.path, "lifecycle.deleteAfter"), "is %v, may be 35 for continuous backups", days)
				}
				if rule.is("enableContinuousBackup", true) && rule.set("lifecycle.coldStorageAfter") {
					s.report(RuleExclusive, join(rule.path, "lifecycle.coldStorageAfter"), "excludes continuous backups")
				}
			}
		},
	},
	"aws:backup/selection:Selection": {
		length("name", 1, 50), pattern("name", `[A-Za-z0-9_.-]+`), arn("iamRoleArn", "iam"), enum("selectionTags.type", "STRINGEQUALS"), atLeastOne("", "resources", "selectionTags", "conditions"),
		func(s *subject) {
			for _, n := range s.inputs.each("resources") {
				if n.kind == text && n.text != "*" && !arnForm.MatchString(n.text) {
					s.report(RuleARN, n.path, "%s is no ARN", n.show())
				}
			}
		},
		pattern("conditions.stringEquals.key", `aws:ResourceTag/.+`), pattern("conditions.stringLikes.key", `aws:ResourceTag/.+`),
	},
	"aws:backup/restoreTestingPlan:RestoreTestingPlan": {
		pattern("name", `[a-zA-Z0-9_]{1,50}`), needs("recoveryPointSelection"), needs("recoveryPointSelection.includeVaults", "recoveryPointSelection.recoveryPointTypes"),
		enum("recoveryPointSelection.algorithm", "RANDOM_WITHIN_WINDOW", "LATEST_WITHIN_WINDOW"), enum("recoveryPointSelection.recoveryPointTypes", "CONTINUOUS", "SNAPSHOT"),
		between("recoveryPointSelection.selectionWindowDays", 1, 365), between("startWindowHours", 1, 168), schedule("scheduleExpression"),
		func(s *subject) {
			for _, path := range []string{"recoveryPointSelection.includeVaults", "recoveryPointSelection.excludeVaults"} {
				for _, n := range s.inputs.each(path) {
					if n.kind == text && n.text != "*" && !arnForm.MatchString(n.text) {
						s.report(RuleARN, n.path, "%s is neither an ARN nor *", n.show())
					}
				}
			}
		},
	},
	"aws:backup/restoreTestingSelection:RestoreTestingSelection": {
		pattern("name", `[a-zA-Z0-9_]{1,50}`), pattern("restoreTestingPlanName", `[a-zA-Z0-9_]{1,50}`), arn("iamRoleArn", "iam"), between("validationWindowHours", 1, 168),
		enum("protectedResourceType", "Aurora", "DynamoDB", "EBS", "EC2", "EFS", "FSx", "RDS", "S3", "DocumentDB", "Neptune", "EKS"),
		atLeastOne("", "protectedResourceArns", "protectedResourceConditions"),
		pattern("protectedResourceConditions.stringEquals.key", `aws:ResourceTag/.+`),
		func(s *subject) {
			for _, n := range s.inputs.each("protectedResourceArns") {
				if n.kind == text && n.text != "*" && !arnForm.MatchString(n.text) {
					s.report(RuleARN, n.path, "%s is neither an ARN nor *", n.show())
				}
			}
		},
	},
}}

// lifecycle: a backup is kept in cold storage for 90 days at least.
func lifecycle(path string) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			cold, ok := n.amount("coldStorageAfter")
			if !ok || cold == 0 {
				continue
			}
			if days, ok := n.amount("deleteAfter"); ok && days < cold+90 {
				s.report(RuleRange, join(n.path, "deleteAfter"), "is %v, must be at least 90 days after coldStorageAfter", days)
			}
		}
	}
}
