package waf

import (
	"encoding/json"
	"fmt"
	"slices"
)

// The rules are rendered to the JSON of AWS' own API (the property ruleJson). The price is the provider's: it does not see changes that
// someone makes to the rules outside of Pulumi.
type rule struct {
	Name           string          `json:"Name"`
	Priority       int             `json:"Priority"`
	Statement      statement       `json:"Statement"`
	Action         *action         `json:"Action,omitempty"`
	OverrideAction *overrideAction `json:"OverrideAction,omitempty"`
	Visibility     visibility      `json:"VisibilityConfig"`
}

type statement struct {
	Managed *managedStatement `json:"ManagedRuleGroupStatement,omitempty"`
	Rate    *rateStatement    `json:"RateBasedStatement,omitempty"`
}

type managedStatement struct {
	VendorName string         `json:"VendorName"`
	Name       string         `json:"Name"`
	Overrides  []ruleOverride `json:"RuleActionOverrides,omitempty"`
}

type ruleOverride struct {
	Name   string `json:"Name"`
	Action action `json:"ActionToUse"`
}

type rateStatement struct {
	Limit         int    `json:"Limit"`
	WindowSeconds int    `json:"EvaluationWindowSec"`
	Aggregate     string `json:"AggregateKeyType"`
}

type action struct {
	Block *block    `json:"Block,omitempty"`
	Count *struct{} `json:"Count,omitempty"`
}

type block struct {
	Response *response `json:"CustomResponse,omitempty"`
}

type response struct {
	Code int `json:"ResponseCode"`
}

// overrideAction is what a rule that refers to a group has in the place of an action. None leaves the group's rules their own.
type overrideAction struct {
	None *struct{} `json:"None,omitempty"`
}

type visibility struct {
	Sampled bool   `json:"SampledRequestsEnabled"`
	Metrics bool   `json:"CloudWatchMetricsEnabled"`
	Metric  string `json:"MetricName"`
}

// visible gives a rule its metric, and never keeps samples: those are whole requests, with passwords and tokens, which may be read
// for three hours by whoever may read the web ACL. What is redacted in the log is not redacted in them.
func visible(metric string) visibility { return visibility{Metrics: true, Metric: metric} }

// A group is a managed group of rules, and the capacity that AWS charges for it in web ACL capacity units
// (docs.aws.amazon.com/waf/latest/developerguide, "AWS Managed Rules rule groups list").
type group struct {
	metric, name string
	capacity     int
}

// groups are in the order in which they are asked. What needs only the client's address comes first; the rate-based rule is between
// the two kinds, so that a client beyond its rate is not inspected any more.
var (
	addressGroups = []group{
		{"ip-reputation", "AWSManagedRulesAmazonIpReputationList", 25},
		{"anonymous-ip", "AWSManagedRulesAnonymousIpList", 50},
	}
	contentGroups = []group{
		{"common", "AWSManagedRulesCommonRuleSet", 700},
		{"known-bad-inputs", "AWSManagedRulesKnownBadInputsRuleSet", 200},
		{"sqli", "AWSManagedRulesSQLiRuleSet", 200},
		{"linux", "AWSManagedRulesLinuxRuleSet", 200},
	}
)

const (
	rateMetric   = "rate"
	rateCapacity = 2
	// rateWindow is the time, in seconds, over which a client's requests are counted: the longest but one that AWS has, and the one
	// that its documentation means when it names none.
	rateWindow = 300
	// includedCapacity is what a web ACL may use before each request costs more; 5000 is what it may use at all.
	includedCapacity = 1500
)

// Groups lists the managed groups of rules, in the order in which they are asked.
func Groups() []string {
	var names []string
	for _, g := range slices.Concat(addressGroups, contentGroups) {
		names = append(names, g.name)
	}
	return names
}

// DefaultCounted returns the rules that only count by default: see Args.Counted.
func DefaultCounted() map[string][]string {
	return map[string][]string{
		// It blocks each body of more than 8 KiB, which is all that a web ACL sees of it. The gateways inspect bodies of up to 64 KiB
		// whole, and refuse longer ones.
		"AWSManagedRulesCommonRuleSet": {"SizeRestrictions_BODY"},
		// It blocks the address ranges of all providers of hosting. The clients of an API are programs, and that is where they run.
		"AWSManagedRulesAnonymousIpList": {"HostingProviderIPList"},
	}
}

// Rules returns the rules as JSON, as AWS' API has them.
func (a Args) Rules() (string, error) {
	a = a.WithDefaults()
	var rules []rule
	add := func(name string, r rule) {
		r.Name, r.Priority, r.Visibility = name, 10*len(rules), visible(a.metric(name))
		rules = append(rules, r)
	}
	addGroups := func(groups []group) {
		for _, g := range groups {
			managed := &managedStatement{VendorName: "AWS", Name: g.name}
			for _, name := range a.Counted[g.name] {
				managed.Overrides = append(managed.Overrides, ruleOverride{Name: name, Action: action{Count: &struct{}{}}})
			}
			add(g.metric, rule{Statement: statement{Managed: managed}, OverrideAction: &overrideAction{None: &struct{}{}}})
		}
	}
	addGroups(addressGroups)
	add(rateMetric, rule{
		Statement: statement{Rate: &rateStatement{Limit: a.RateLimit, WindowSeconds: rateWindow, Aggregate: "IP"}},
		Action:    &action{Block: &block{Response: &response{Code: 429}}},
	})
	addGroups(contentGroups)
	text, err := json.Marshal(rules)
	if err != nil {
		return "", fmt.Errorf("rules: %w", err)
	}
	return string(text), nil
}

// metric names a rule's metric. A name of its own for each web ACL lets alarms of two of them in one account be told apart.
func (a Args) metric(rule string) string { return a.Name + "-" + rule }
