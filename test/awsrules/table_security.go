package awsrules

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

var security = table{"AWS KMS, Private CA, GuardDuty, Security Hub, Config and CloudTrail", map[string][]check{
	"aws:kms/key:Key": {
		policy("policy", 32768, resourcePolicy), between("deletionWindowInDays", 7, 30), between("rotationPeriodInDays", 90, 2560), length("description", 0, 8192),
		enum("keyUsage", "ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"),
		func(s *subject) {
			n := s.inputs
			if n.set("rotationPeriodInDays") && !n.is("enableKeyRotation", true) && (n.get("enableKeyRotation") == nil || n.get("enableKeyRotation").kind == flag) {
				s.report(RuleDepends, "rotationPeriodInDays", "needs enableKeyRotation")
			}
			spec, known := n.known("customerMasterKeySpec")
			if n.get("customerMasterKeySpec") == nil {
				spec, known = "SYMMETRIC_DEFAULT", true
			}
			if !known {
				return
			}
			usage, ok := n.known("keyUsage")
			if n.get("keyUsage") == nil {
				usage, ok = "ENCRYPT_DECRYPT", true
			}
			fits := map[string]bool{
				"ENCRYPT_DECRYPT":     spec == "SYMMETRIC_DEFAULT" || strings.HasPrefix(spec, "RSA_") || spec == "SM2",
				"SIGN_VERIFY":         strings.HasPrefix(spec, "RSA_") || strings.HasPrefix(spec, "ECC_") || strings.HasPrefix(spec, "ML_DSA_") || spec == "SM2",
				"GENERATE_VERIFY_MAC": strings.HasPrefix(spec, "HMAC_"),
				"KEY_AGREEMENT":       strings.HasPrefix(spec, "ECC_NIST_") || spec == "SM2",
			}
			if ok && !fits[usage] {
				s.report(RuleDepends, "keyUsage", "%s is not for a key of %s", usage, spec)
			}
			if n.is("enableKeyRotation", true) && (spec != "SYMMETRIC_DEFAULT" || n.set("customKeyStoreId")) {
				s.report(RuleDepends, "enableKeyRotation", "is not for a key of %s", spec)
			}
		},
	},
	"aws:kms/replicaKey:ReplicaKey": {policy("policy", 32768, resourcePolicy), arn("primaryKeyArn", "kms"), between("deletionWindowInDays", 7, 30), length("description", 0, 8192)},
	"aws:kms/alias:Alias": {
		atMostOne("", "name", "namePrefix"), pattern("name", `alias/[a-zA-Z0-9/_-]+`), length("name", 7, 256), never("name", `^alias/aws/`, "is kept for AWS"),
	},
	"aws:kms/keyPolicy:KeyPolicy": {policy("policy", 32768, resourcePolicy)},

	"aws:acmpca/certificateAuthority:CertificateAuthority": {
		atLeastOne("certificateAuthorityConfiguration.subject", "commonName", "country", "distinguishedNameQualifier", "generationQualifier", "givenName", "initials", "locality",
			"organization", "organizationalUnit", "pseudonym", "state", "surname", "title"),
		when("revocationConfiguration.crlConfiguration", "enabled", true, "expirationInDays", "s3BucketName"),
		never("revocationConfiguration.ocspConfiguration.ocspCustomCname", `://`, "must not have a protocol"),
		func(s *subject) {
			key, okKey := s.inputs.known("certificateAuthorityConfiguration.keyAlgorithm")
			signing, ok := s.inputs.known("certificateAuthorityConfiguration.signingAlgorithm")
			if !okKey || !ok {
				return
			}
			families := map[string]string{"RSA": "RSA", "EC": "ECDSA", "SM2": "SM2", "ML": "ML_DSA"}
			family, _, _ := strings.Cut(key, "_")
			if want := families[family]; want != "" && !strings.Contains(signing, want) {
				s.report(RuleDepends, "certificateAuthorityConfiguration.signingAlgorithm", "%s is not for a key of %s", signing, key)
			}
			if s.inputs.is("usageMode", "SHORT_LIVED_CERTIFICATE") && s.inputs.is("revocationConfiguration.crlConfiguration.enabled", true) {
				s.report(RuleDepends, "revocationConfiguration", "is not for short-lived certificates")
			}
		},
	},
	"aws:acmpca/certificate:Certificate": {
		arn("certificateAuthorityArn", "acm-pca"), pattern("templateArn", `arn:aws[a-z-]*:acm-pca:::template/(`+templates+`)/V1`),
		pattern("certificateSigningRequest", `(?s)-----BEGIN (NEW )?CERTIFICATE REQUEST-----.*-----END (NEW )?CERTIFICATE REQUEST-----\s*`),
		func(s *subject) {
			kind, okKind := s.inputs.known("validity.type")
			value, ok := s.inputs.known("validity.value")
			if !ok || !okKind {
				return
			}
			if kind == "END_DATE" {
				_, err := time.Parse(time.RFC3339, value)
				if _, short := time.Parse("20060102150405", value); err != nil && short != nil {
					s.report(RulePattern, "validity.value", "%q is no time", value)
				}
				return
			}
			if n, err := strconv.Atoi(value); err != nil || n < 1 {
				s.report(RulePattern, "validity.value", "%q is no positive number of %s", value, kind)
			}
		},
	},
	"aws:acmpca/certificateAuthorityCertificate:CertificateAuthorityCertificate": {arn("certificateAuthorityArn", "acm-pca"), length("certificate", 1, 32768), length("certificateChain", 1, 2097152)},
	"aws:acmpca/permission:Permission":                                           {enum("principal", "acm.amazonaws.com"), arn("certificateAuthorityArn", "acm-pca")},
	"aws:acmpca/policy:Policy":                                                   {policy("policy", 20480, resourcePolicy), arn("resourceArn", "acm-pca")},

	"aws:guardduty/detector:Detector": {enum("findingPublishingFrequency", "FIFTEEN_MINUTES", "ONE_HOUR", "SIX_HOURS")},
	"aws:guardduty/detectorFeature:DetectorFeature": {
		enum("name", "S3_DATA_EVENTS", "EKS_AUDIT_LOGS", "EBS_MALWARE_PROTECTION", "RDS_LOGIN_EVENTS", "EKS_RUNTIME_MONITORING", "LAMBDA_NETWORK_LOGS", "RUNTIME_MONITORING"),
		needs("name"), enum("status", "ENABLED", "DISABLED"),
		enum("additionalConfigurations.name", "EKS_ADDON_MANAGEMENT", "ECS_FARGATE_AGENT_MANAGEMENT", "EC2_AGENT_MANAGEMENT"), enum("additionalConfigurations.status", "ENABLED", "DISABLED"),
		only("", "name", []string{"EKS_RUNTIME_MONITORING", "RUNTIME_MONITORING"}, "additionalConfigurations"),
	},
	"aws:guardduty/publishingDestination:PublishingDestination": {enum("destinationType", "S3"), arn("destinationArn", "s3"), arn("kmsKeyArn", "kms")},
	"aws:securityhub/account:Account":                           {enum("controlFindingGenerator", "SECURITY_CONTROL", "STANDARD_CONTROL")},
	"aws:securityhub/standardsSubscription:StandardsSubscription": {
		arn("standardsArn", "securityhub"), pattern("standardsArn", `arn:aws[a-z-]*:securityhub:([a-z0-9-]+::standards|::ruleset)/[a-z0-9/.-]+/v/[0-9.]+`),
		func(s *subject) {
			// Only the oldest version of one standard has no region.
			if v, ok := s.inputs.known("standardsArn"); ok && strings.Contains(v, "::ruleset/") != strings.Contains(v, "cis-aws-foundations-benchmark/v/1.2.0") {
				s.report(RulePattern, "standardsArn", "%q: a ruleset has no region, a standard has one", v)
			}
		},
	},
	"aws:cfg/recorder:Recorder": {
		arn("roleArn", "iam"), length("name", 1, 256), enum("recordingMode.recordingFrequency", "CONTINUOUS", "DAILY"),
		enum("recordingGroup.recordingStrategies.useOnly", "ALL_SUPPORTED_RESOURCE_TYPES", "INCLUSION_BY_RESOURCE_TYPES", "EXCLUSION_BY_RESOURCE_TYPES"),
		func(s *subject) {
			n := s.inputs.get("recordingGroup")
			if n == nil || n.kind != object {
				return
			}
			all := n.get("allSupported") == nil || n.is("allSupported", true)
			for _, field := range []string{"resourceTypes", "exclusionByResourceTypes"} {
				if all && n.set(field) {
					s.report(RuleExclusive, join(n.path, field), "excludes allSupported")
				}
			}
			if n.is("includeGlobalResourceTypes", true) && !all {
				s.report(RuleDepends, join(n.path, "includeGlobalResourceTypes"), "needs allSupported")
			}
			if n.set("resourceTypes") && n.set("exclusionByResourceTypes") {
				s.report(RuleExclusive, n.path, "resourceTypes, exclusionByResourceTypes exclude each other")
			}
		},
	},
	"aws:cfg/deliveryChannel:DeliveryChannel": {
		arn("snsTopicArn", "sns"), arn("s3KmsKeyArn", "kms"), length("name", 1, 256), pattern("s3BucketName", bucketForm),
		enum("snapshotDeliveryProperties.deliveryFrequency", "One_Hour", "Three_Hours", "Six_Hours", "Twelve_Hours", "TwentyFour_Hours"),
	},

	"aws:cloudtrail/trail:Trail": {
		pattern("name", `[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]`), length("name", 3, 128), never("name", `[._-]{2}`, "has two of . _ - in a row"), pattern("s3BucketName", bucketForm),
		atMostOne("", "eventSelectors", "advancedEventSelectors"), arn("kmsKeyId", "kms"), arn("cloudWatchLogsRoleArn", "iam"), arn("cloudWatchLogsGroupArn", "logs"),
		pattern("cloudWatchLogsGroupArn", `.*:\*`), with("", "cloudWatchLogsGroupArn", "cloudWatchLogsRoleArn"), with("", "cloudWatchLogsRoleArn", "cloudWatchLogsGroupArn"),
		enum("eventSelectors.readWriteType", "All", "ReadOnly", "WriteOnly"), enum("insightSelectors.insightType", "ApiCallRateInsight", "ApiErrorRateInsight"),
		enum("eventSelectors.dataResources.type", "AWS::S3::Object", "AWS::Lambda::Function", "AWS::DynamoDB::Table"), count("eventSelectors", 0, 5),
		needs("advancedEventSelectors.fieldSelectors", "eventSelectors.dataResources.values"), length("s3KeyPrefix", 0, 200),
		func(s *subject) {
			n := s.inputs
			if n.is("isMultiRegionTrail", true) && n.is("includeGlobalServiceEvents", false) {
				s.report(RuleDepends, "includeGlobalServiceEvents", "must be true in a trail of all regions")
			}
			for _, selector := range n.each("advancedEventSelectors") {
				category := false
				for _, field := range selector.each("fieldSelectors") {
					category = category || field.is("field", "eventCategory")
					if len(given(field, []string{"equals", "notEquals", "startsWiths", "notStartsWiths", "endsWiths", "notEndsWiths"})) == 0 {
						s.report(RuleRequired, field.path, "an operator is required")
					}
					if name, ok := field.known("field"); ok && contains([]string{"eventCategory", "readOnly", "resources.type"}, name) && !field.set("equals") {
						s.report(RuleDepends, field.path, "%s can only be compared by equals", name)
					}
				}
				if !category {
					s.report(RuleRequired, selector.path, "must select the field eventCategory")
				}
			}
		},
	},
}}

// templates are those of AWS Private CA (Private CA guide, "AWS Private CA template varieties"), by name.
const templates = `(BlankEndEntityCertificate|BlankEndEntityCertificate_CriticalBasicConstraints|CodeSigningCertificate|EndEntityCertificate|EndEntityClientAuthCertificate|EndEntityServerAuthCertificate|` +
	`OCSPSigningCertificate|RootCACertificate|SubordinateCACertificate_PathLen[0-3]|BlankRootCACertificate_PathLen[0-3]|BlankSubordinateCACertificate_PathLen[0-3]|BlankRootCACertificate)` +
	`(_(APIPassthrough|CSRPassthrough|APICSRPassthrough))?`

// bucketForm is the name of a bucket.
const bucketForm = `[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]`

// scheduleForm is an expression of EventBridge, AWS Backup and others.
var scheduleForm = regexp.MustCompile(`^(rate\([1-9]\d* (minutes?|hours?|days?)\)|cron\(\S+ \S+ \S+ \S+ \S+ \S+\)|at\(.+\))$`)

// schedule: an expression with its six fields, of which one of the two for days is a question mark.
func schedule(path string) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind != text {
				continue
			}
			if !scheduleForm.MatchString(n.text) {
				s.report(RulePattern, n.path, "%s is no schedule", n.show())
				continue
			}
			if fields := strings.Fields(strings.TrimSuffix(strings.TrimPrefix(n.text, "cron("), ")")); strings.HasPrefix(n.text, "cron") && (fields[2] == "?") == (fields[4] == "?") {
				s.report(RulePattern, n.path, "%s must have a question mark for the day of the month or that of the week", n.show())
			}
			if unit := strings.TrimSuffix(strings.TrimPrefix(n.text, "rate("), ")"); strings.HasPrefix(n.text, "rate(") && strings.HasPrefix(unit, "1 ") == strings.HasSuffix(unit, "s") {
				s.report(RulePattern, n.path, "%s must be singular for 1 and plural otherwise", n.show())
			}
		}
	}
}
