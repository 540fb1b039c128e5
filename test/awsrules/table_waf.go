package awsrules

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"unicode/utf8"
)

var waf = table{"AWS WAF", map[string][]check{
	"aws:wafv2/webAcl:WebAcl": {
		atMostOne("", "rules", "ruleJson"), atMostOne("", "name", "namePrefix"), length("name", 1, 128), pattern("name", `[a-zA-Z0-9_-]+`), length("description", 1, 256),
		pattern("description", `[A-Za-z0-9+=:#@/\-,.][A-Za-z0-9+=:#@/\-,.\s]+[A-Za-z0-9+=:#@/\-,.]`),
		enum("scope", "CLOUDFRONT", "REGIONAL"), exactlyOne("defaultAction", "allow", "block"), length("visibilityConfig.metricName", 1, 128), pattern("visibilityConfig.metricName", `[A-Za-z0-9_-]+`),
		atMostOne("rules", "action", "overrideAction"), atLeastOne("rules", "action", "overrideAction"), length("rules.name", 1, 128), pattern("rules.name", `[\w-]+`), between("rules.priority", 0, 1<<31-1),
		exactlyOne("rules.action", "allow", "block", "captcha", "challenge", "count"), exactlyOne("rules.overrideAction", "count", "none"), exactlyOne("rules.statement", statements...),
		priorities("rules"), length("rules.visibilityConfig.metricName", 1, 128),
		func(s *subject) {
			if n := s.inputs.get("ruleJson"); n != nil && n.kind == text {
				s.wafRules(n)
			}
		},
	},
	"aws:wafv2/ipSet:IpSet": {
		enum("scope", "CLOUDFRONT", "REGIONAL"), enum("ipAddressVersion", "IPV4", "IPV6"), cidr("addresses"), count("addresses", 0, 10000), atMostOne("", "name", "namePrefix"),
		length("name", 1, 128), pattern("name", `[a-zA-Z0-9_-]+`),
		never("addresses", `/0$`, "is every address, which AWS WAF does not take"),
	},
	"aws:wafv2/webAclAssociation:WebAclAssociation": {arn("resourceArn"), arn("webAclArn", "wafv2")},
	"aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration": {
		count("logDestinationConfigs", 1, 1), arn("logDestinationConfigs", "logs", "s3", "firehose"), pattern("logDestinationConfigs", `.*[:/]aws-waf-logs-[^:]*(:\*)?`), arn("resourceArn", "wafv2"),
		never("logDestinationConfigs", `:logs:.*:\*$`, "must be the ARN of the log group without :*"),
		exactlyOne("redactedFields", "method", "queryString", "singleHeader", "uriPath"), never("redactedFields.singleHeader.name", `[A-Z]`, "must be in lower case"),
		needs("loggingFilter.filters"), needs("loggingFilter.filters.conditions"), exactlyOne("loggingFilter.filters.conditions", "actionCondition", "labelNameCondition"),
		enum("loggingFilter.defaultBehavior", "KEEP", "DROP"), enum("loggingFilter.filters.behavior", "KEEP", "DROP"), enum("loggingFilter.filters.requirement", "MEETS_ALL", "MEETS_ANY"),
		enum("loggingFilter.filters.conditions.actionCondition.action", "ALLOW", "BLOCK", "COUNT", "CAPTCHA", "CHALLENGE", "EXCLUDED_AS_COUNT"),
	},
}}

var statements = []string{
	"andStatement", "asnMatchStatement", "byteMatchStatement", "geoMatchStatement", "ipSetReferenceStatement", "labelMatchStatement", "managedRuleGroupStatement", "notStatement", "orStatement",
	"rateBasedStatement", "regexMatchStatement", "regexPatternSetReferenceStatement", "ruleGroupReferenceStatement", "sizeConstraintStatement", "sqliMatchStatement", "xssMatchStatement",
}

// priorities: no two rules have the same name or priority.
func priorities(path string) check {
	return func(s *subject) {
		seen, names := map[float64]bool{}, map[string]bool{}
		for _, n := range s.inputs.each(path) {
			if p, ok := n.amount("priority"); ok && seen[p] {
				s.report(RuleExclusive, join(n.path, "priority"), "%v is used twice", p)
			} else if ok {
				seen[p] = true
			}
			if name, ok := n.known("name"); ok && names[name] {
				s.report(RuleExclusive, join(n.path, "name"), "%q is used twice", name)
			} else if ok {
				names[name] = true
			}
		}
	}
}

//go:embed waf.json
var wafJSON []byte

// structure is what AWS WAF says of one structure, list or value in a rule.
type structure struct {
	Type     string
	Members  map[string]struct{ Shape string }
	Required []string
	Member   struct{ Shape string }
	Enum     []string
	Pattern  string
	Min, Max *float64
}

var wafStructures = sync.OnceValues(func() (map[string]*structure, error) {
	var structures map[string]*structure
	return structures, json.Unmarshal(wafJSON, &structures)
})

// oneMember are the structures of which exactly one member is given.
var oneMember = []string{"Statement", "RuleAction", "OverrideAction", "FieldToMatch"}

// wafRules holds the text of a web ACL's rules to AWS WAF's description of them.
func (s *subject) wafRules(n *node) {
	structures, err := wafStructures()
	if err != nil {
		s.report(RuleJSON, n.path, "%v", err)
		return
	}
	var rules []any
	if err := json.Unmarshal([]byte(n.text), &rules); err != nil {
		s.report(RuleJSON, n.path, "is no list in JSON: %v", err)
		return
	}
	s.wafValue(structures, "Rules", rules, n.path)
	seen, names := map[any]bool{}, map[any]bool{}
	for i, rule := range rules {
		fields, ok := rule.(map[string]any)
		if !ok {
			continue
		}
		path := fmt.Sprintf("%s[%d]", n.path, i)
		if seen[fields["Priority"]] || names[fields["Name"]] {
			s.report(RuleExclusive, path, "the priority or the name of %v is used twice", fields["Name"])
		}
		seen[fields["Priority"]], names[fields["Name"]] = true, true
		statement, _ := fields["Statement"].(map[string]any)
		_, managed := statement["ManagedRuleGroupStatement"]
		_, group := statement["RuleGroupReferenceStatement"]
		_, action := fields["Action"]
		_, override := fields["OverrideAction"]
		if action == override || override != (managed || group) {
			s.report(RuleExclusive, path, "must have an Action, or an OverrideAction if it is a group of rules")
		}
	}
}

func (s *subject) wafValue(structures map[string]*structure, shape string, v any, path string) {
	t := structures[shape]
	if t == nil {
		return
	}
	wrong := func() { s.report(RuleType, path, "is %v, must be a %s", v, t.Type) }
	switch t.Type {
	case "structure":
		fields, ok := v.(map[string]any)
		if !ok {
			wrong()
			return
		}
		for name, e := range fields {
			member, ok := t.Members[name]
			if !ok {
				s.report(RuleType, join(path, name), "AWS WAF has no such field in %s", shape)
				continue
			}
			s.wafValue(structures, member.Shape, e, join(path, name))
		}
		for _, name := range t.Required {
			if _, ok := fields[name]; !ok {
				s.report(RuleRequired, join(path, name), "is required")
			}
		}
		if slices.Contains(oneMember, shape) && len(fields) != 1 {
			s.report(RuleExclusive, path, "must have exactly one member, has %d", len(fields))
		}
	case "list":
		list, ok := v.([]any)
		if !ok {
			wrong()
			return
		}
		bounds(s, &node{kind: other, path: path}, RuleCount, float64(len(list)), t.Min, t.Max, "elements")
		for i, e := range list {
			s.wafValue(structures, t.Member.Shape, e, fmt.Sprintf("%s[%d]", path, i))
		}
	case "string", "blob":
		value, ok := v.(string)
		if !ok {
			wrong()
			return
		}
		n := &node{kind: text, path: path, text: value}
		var compiled *regexp.Regexp
		if t.Pattern != "" {
			compiled = regexp.MustCompile(`^(?:` + t.Pattern + `)$`)
		}
		checkText(s, n, t.Enum, compiled)
		if t.Type == "string" {
			bounds(s, n, RuleLength, float64(utf8.RuneCountInString(value)), t.Min, t.Max, "characters")
		}
	case "integer", "long":
		value, ok := v.(float64)
		if !ok {
			wrong()
			return
		}
		bounds(s, &node{kind: number, path: path, number: value}, RuleRange, value, t.Min, t.Max, "")
	case "boolean":
		if _, ok := v.(bool); !ok {
			wrong()
		}
	}
}
