package awsrules

import (
	"encoding/json"
	"math"
	"strings"
)

// logRetention are the days that CloudWatch offers; 0 is for ever.
var logRetention = []float64{0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

var observation = table{"AWS CloudWatch, EventBridge and SNS", map[string][]check{
	"aws:cloudwatch/logGroup:LogGroup": {
		among("retentionInDays", logRetention...), arn("kmsKeyId", "kms"), atMostOne("", "name", "namePrefix"), length("name", 1, 512), pattern("name", `[a-zA-Z0-9_\-/.#]+`),
		never("name", `^aws/`, "is kept for AWS"), enum("logGroupClass", "STANDARD", "INFREQUENT_ACCESS", "DELIVERY"),
	},
	"aws:cloudwatch/logResourcePolicy:LogResourcePolicy": {policy("policyDocument", 5120, resourcePolicy)},
	"aws:cloudwatch/logMetricFilter:LogMetricFilter": {
		length("name", 1, 512), never("name", `[:*]`, "must not have : or *"), length("pattern", 0, 1024), atMostOne("metricTransformation", "defaultValue", "dimensions"),
		count("metricTransformation.dimensions", 0, 3), never("metricTransformation.name", `[:*$]`, "must not have : * or $"), never("metricTransformation.namespace", `[:*$]`, "must not have : * or $"),
		length("metricTransformation.value", 1, 100), pattern("metricTransformation.defaultValue", `-?\d+(\.\d+)?`),
		func(s *subject) {
			// A filter in braces is for JSON; the other forms have words in brackets or quotes.
			if p, ok := s.inputs.known("pattern"); ok && strings.HasPrefix(p, "{") != strings.HasSuffix(p, "}") {
				s.report(RulePattern, "pattern", "%q has one brace", p)
			}
		},
	},
	"aws:cloudwatch/metricAlarm:MetricAlarm": {
		length("name", 1, 255), atMostOne("", "statistic", "extendedStatistic"), atMostOne("", "metricName", "metricQueries"), atMostOne("", "threshold", "thresholdMetricId"),
		enum("treatMissingData", "missing", "ignore", "breaching", "notBreaching"), enum("evaluateLowSampleCountPercentiles", "evaluate", "ignore"),
		enum("statistic", "SampleCount", "Average", "Sum", "Minimum", "Maximum"), between("evaluationPeriods", 1, 1e6), between("datapointsToAlarm", 1, 1e6),
		arn("alarmActions"), arn("okActions"), arn("insufficientDataActions"), count("alarmActions", 0, 5), count("okActions", 0, 5), count("insufficientDataActions", 0, 5),
		func(s *subject) {
			n := s.inputs
			if !n.set("metricQueries") {
				for _, field := range []string{"metricName", "namespace", "period"} {
					if !n.set(field) {
						s.report(RuleRequired, field, "is required without metricQueries")
					}
				}
				if len(given(n, []string{"statistic", "extendedStatistic"})) == 0 {
					s.report(RuleRequired, "statistic", "is required without metricQueries")
				}
			} else {
				for _, field := range []string{"namespace", "period", "statistic", "extendedStatistic", "dimensions"} {
					if n.set(field) {
						s.report(RuleExclusive, field, "excludes metricQueries")
					}
				}
				returned := 0
				for _, q := range n.each("metricQueries") {
					if q.is("returnData", true) {
						returned++
					}
					if (q.set("metric")) == (q.set("expression")) {
						s.report(RuleExclusive, q.path, "one of metric, expression is required")
					}
				}
				if returned != 1 && !n.set("thresholdMetricId") {
					s.report(RuleRequired, "metricQueries", "exactly one must return data, %d do", returned)
				}
			}
			if p, ok := n.amount("period"); ok && p != 10 && p != 20 && p != 30 && (math.Mod(p, 60) != 0 || p <= 0) {
				s.report(RuleEnum, "period", "is %v, must be 10, 20, 30 or a multiple of 60", p)
			}
			if len(given(n, []string{"threshold", "thresholdMetricId"})) == 0 {
				s.report(RuleRequired, "threshold", "is required")
			}
			want, okWant := n.amount("datapointsToAlarm")
			periods, ok := n.amount("evaluationPeriods")
			if okWant && ok && want > periods {
				s.report(RuleRange, "datapointsToAlarm", "is %v of %v", want, periods)
			}
			if length, okLength := n.amount("period"); ok && okLength && periods*length > 86400*7 {
				s.report(RuleRange, "evaluationPeriods", "looks back %v s, may be a week (a day with periods below an hour)", periods*length)
			} else if ok && okLength && length < 3600 && periods*length > 86400 {
				s.report(RuleRange, "evaluationPeriods", "looks back %v s, may be a day with periods below an hour", periods*length)
			}
		},
	},
	"aws:cloudwatch/eventRule:EventRule": {
		atMostOne("", "name", "namePrefix"), length("name", 1, 64), pattern("name", `[.\-_A-Za-z0-9]+`), length("namePrefix", 1, 38), length("description", 0, 512),
		atLeastOne("", "scheduleExpression", "eventPattern"), schedule("scheduleExpression"), atMostOne("", "isEnabled", "state"),
		enum("state", "DISABLED", "ENABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"), arn("roleArn", "iam"), length("eventPattern", 2, 4096),
		func(s *subject) {
			p, ok := s.inputs.known("eventPattern")
			if !ok {
				return
			}
			var event map[string]any
			if err := json.Unmarshal([]byte(p), &event); err != nil {
				s.report(RuleJSON, "eventPattern", "is no JSON object: %v", err)
				return
			}
			if len(p) > 2048 {
				s.report(RuleQuota, "eventPattern", "has %d characters, may have 2048 by default", len(p))
			}
			leaves(event, func(path string, v any) {
				s.report(RuleJSON, "eventPattern", "%s is %v, must be a list", path, v)
			}, "")
		},
	},
	"aws:cloudwatch/eventTarget:EventTarget": {
		arn("arn"), arn("roleArn", "iam"), arn("deadLetterConfig.arn", "sqs"), atMostOne("", "input", "inputPath", "inputTransformer"), length("targetId", 1, 64), pattern("targetId", `[.\-_A-Za-z0-9]+`),
		jsonText("input"), between("retryPolicy.maximumEventAgeInSeconds", 60, 86400), between("retryPolicy.maximumRetryAttempts", 0, 185), length("input", 0, 8192), length("inputTransformer.inputTemplate", 1, 8192),
		count("inputTransformer.inputPaths", 0, 100),
	},
	"aws:sns/topic:Topic": {
		atMostOne("", "name", "namePrefix"), length("name", 1, 256), pattern("name", `[a-zA-Z0-9_-]+(\.fifo)?`), policy("policy", 30720, resourcePolicy), length("displayName", 0, 100),
		jsonText("deliveryPolicy", "archivePolicy"), among("signatureVersion", 1, 2), enum("tracingConfig", "Active", "PassThrough"), when("", "contentBasedDeduplication", true, "fifoTopic"),
		between("httpSuccessFeedbackSampleRate", 0, 100), between("sqsSuccessFeedbackSampleRate", 0, 100), between("lambdaSuccessFeedbackSampleRate", 0, 100),
	},
	"aws:sns/topicPolicy:TopicPolicy": {arn("arn", "sns"), policy("policy", 30720, resourcePolicy)},
	"aws:sns/topicSubscription:TopicSubscription": {
		arn("topic", "sns"), enum("protocol", "application", "email", "email-json", "firehose", "http", "https", "lambda", "sms", "sqs"), jsonText("filterPolicy", "redrivePolicy", "deliveryPolicy"),
		enum("filterPolicyScope", "MessageAttributes", "MessageBody"), with("", "filterPolicyScope", "filterPolicy"), when("", "protocol", "firehose", "subscriptionRoleArn"),
		only("", "protocol", []string{"firehose"}, "subscriptionRoleArn"), arn("subscriptionRoleArn", "iam"),
		func(s *subject) {
			protocol, ok := s.inputs.known("protocol")
			endpoint, known := s.inputs.known("endpoint")
			if !ok || !known {
				return
			}
			bad := map[string]bool{
				"email": !strings.Contains(endpoint, "@"), "email-json": !strings.Contains(endpoint, "@"), "https": !strings.HasPrefix(endpoint, "https://"),
				"http": !strings.HasPrefix(endpoint, "http://"), "sqs": !arnForm.MatchString(endpoint), "lambda": !arnForm.MatchString(endpoint), "firehose": !arnForm.MatchString(endpoint),
			}
			if bad[protocol] {
				s.report(RuleDepends, "endpoint", "%q is no endpoint of %s", endpoint, protocol)
			}
			if protocol != "sqs" && protocol != "http" && protocol != "https" && protocol != "firehose" && s.inputs.is("rawMessageDelivery", true) {
				s.report(RuleDepends, "rawMessageDelivery", "is not for %s", protocol)
			}
		},
	},
}}

// leaves calls report for each value of an event pattern that is neither a list nor an object.
func leaves(v map[string]any, report func(string, any), path string) {
	for key, e := range v {
		switch e := e.(type) {
		case map[string]any:
			leaves(e, report, join(path, key))
		case []any:
		default:
			report(join(path, key), e)
		}
	}
}
