package awsrules

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"ephemos.dev/deploy/test/awsrules/sdk"
)

// Resource is what is looked at of a resource.
type Resource struct {
	// Type is the token, such as aws:kms/key:Key. Others than those of AWS are left out.
	Type string
	// Name is the name in Pulumi.
	Name string
	// Provider tells the providers apart, and so the regions. It may be empty.
	Provider string
	Inputs   resource.PropertyMap
}

// Rule says what kind of rule an input breaks.
type Rule string

// The kinds of rules.
const (
	RuleType      Rule = "type"      // there is no such input, or it is of another type
	RuleRequired  Rule = "required"  // an input is missing
	RuleEnum      Rule = "enum"      // a value that is none of those allowed
	RulePattern   Rule = "pattern"   // a text that does not look as it must
	RuleLength    Rule = "length"    // a text that is too long or too short
	RuleRange     Rule = "range"     // a number that is too large or too small
	RuleCount     Rule = "count"     // a list with too many or too few elements
	RuleExclusive Rule = "exclusive" // inputs of which only one may be given
	RuleDepends   Rule = "depends"   // an input that needs another one, or another value of it
	RuleCIDR      Rule = "cidr"      // an address range that is none, or of a wrong size
	RuleARN       Rule = "arn"       // no ARN, or that of something else
	RuleJSON      Rule = "json"      // a document that is none
	RuleAcross    Rule = "across"    // two resources that do not go together
	RuleQuota     Rule = "quota"     // more than AWS allows without being asked
)

// Problem is one thing that would be refused.
type Problem struct {
	Type, Name string
	Rule       Rule
	// Path is the input.
	Path string
	Text string
	// Source says who says so.
	Source string
}

func (p Problem) String() string { return p.Type + " " + p.Name + ": " + p.Detail() }

// Detail is what is wrong, without the resource.
func (p Problem) Detail() string {
	path := p.Path
	if path != "" {
		path += ": "
	}
	return fmt.Sprintf("%s%s [%s; %s]", path, p.Text, p.Rule, p.Source)
}

var findSDK = sync.OnceValues(sdk.Find)

// Check returns the problems of resources that belong together, in a stable order. The error says that the rules could not be read.
func Check(resources []Resource) ([]Problem, error) {
	source, err := findSDK()
	if err != nil {
		return nil, err
	}
	api, err := apiRules()
	if err != nil {
		return nil, err
	}
	var problems []Problem
	var subjects []*subject
	for _, r := range resources {
		if !strings.HasPrefix(r.Type, "aws:") {
			continue
		}
		s := newSubject(r)
		subjects = append(subjects, s)
		inputs, err := source.Inputs(r.Type)
		if err != nil {
			problems = append(problems, Problem{r.Type, r.Name, RuleType, "", err.Error(), "SDK"})
			continue
		}
		s.source = "provider's schema"
		s.schema(s.inputs, inputs)
		s.autoname(inputs)
		for _, request := range api[r.Type] {
			s.source = "AWS API " + request.Source
			for _, rule := range request.Rules {
				rule.check(s)
			}
		}
		for _, t := range tables {
			s.source = t.source
			for _, check := range t.rules[r.Type] {
				check(s)
			}
		}
		s.source = common.source
		for _, check := range common.rules[""] {
			check(s)
		}
		problems = append(problems, s.problems...)
	}
	problems = append(problems, across(subjects)...)
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name), strings.Compare(a.Path, b.Path), strings.Compare(string(a.Rule), string(b.Rule)))
	})
	return slices.CompactFunc(problems, func(a, b Problem) bool {
		return a.Type == b.Type && a.Name == b.Name && a.Path == b.Path && a.Rule == b.Rule
	}), nil
}

// Covered lists the types that have rules besides the provider's schema, sorted.
func Covered() ([]string, error) {
	api, err := apiRules()
	if err != nil {
		return nil, err
	}
	covered := map[string]bool{}
	for typ := range api {
		covered[typ] = true
	}
	for _, t := range tables {
		for typ := range t.rules {
			covered[typ] = true
		}
	}
	types := make([]string, 0, len(covered))
	for typ := range covered {
		types = append(types, typ)
	}
	slices.Sort(types)
	return types, nil
}

// subject is the resource under check.
type subject struct {
	Resource
	inputs   *node
	source   string
	problems []Problem
	// id and arn are those that the stand-in of AWS gives, by which the resources of a recording refer to each other.
	id, arn string
}

func (s *subject) report(rule Rule, path, format string, args ...any) {
	s.problems = append(s.problems, Problem{s.Type, s.Name, rule, path, fmt.Sprintf(format, args...), s.source})
}

// schema holds a value to the type that the provider wants.
func (s *subject) schema(n *node, t *sdk.Type) {
	switch {
	case n.kind == unknown || n.kind == other || t.Kind == sdk.Any:
	case t.Kind == sdk.String && n.kind == text, t.Kind == sdk.Bool && n.kind == flag, t.Kind == sdk.Number && n.kind == number:
	// The bridge converts between these.
	case t.Kind == sdk.String && (n.kind == number || n.kind == flag):
	case t.Kind == sdk.List && n.kind == list:
		for _, e := range n.list {
			s.schema(e, t.Element)
		}
	case t.Kind == sdk.Map && n.kind == object:
		for _, e := range n.fields {
			s.schema(e, t.Element)
		}
	case t.Kind == sdk.Object && n.kind == object:
		for name, e := range n.fields {
			p, ok := t.Properties[name]
			if !ok {
				s.report(RuleType, e.path, "the provider has no such input")
				continue
			}
			s.schema(e, p.Type)
		}
		for name, p := range t.Properties {
			if p.Required && n.fields[name] == nil {
				s.report(RuleRequired, strings.TrimPrefix(n.path+"."+name, "."), "is required")
			}
		}
	default:
		s.report(RuleType, n.path, "is %s, must be a %s", n.show(), t.Kind)
	}
}

// The inputs that Pulumi fills from the resource's name if the program does not, with a suffix of a hyphen and seven characters.
var autonamed = []string{"name", "bucket", "clusterIdentifier", "identifier", "nodeGroupName"}

// lowered are the types whose names Pulumi makes of lower-case letters.
var lowered = map[string]bool{
	"aws:s3/bucketV2:BucketV2": true, "aws:rds/cluster:Cluster": true, "aws:rds/clusterInstance:ClusterInstance": true,
	"aws:rds/subnetGroup:SubnetGroup": true, "aws:rds/parameterGroup:ParameterGroup": true, "aws:rds/clusterParameterGroup:ClusterParameterGroup": true,
}

// notAutonamed are optional names that Pulumi leaves to AWS or that have a default.
var notAutonamed = map[string]bool{
	"aws:cfg/recorder:Recorder": true, "aws:cfg/deliveryChannel:DeliveryChannel": true, "aws:guardduty/detectorFeature:DetectorFeature": true,
}

// autoname gives the resource the name that Pulumi would give it, so that the rules see it.
func (s *subject) autoname(inputs *sdk.Type) {
	for _, name := range autonamed {
		p, ok := inputs.Properties[name]
		if !ok || p.Required || notAutonamed[s.Type] || s.inputs.fields[name] != nil || s.inputs.fields[name+"Prefix"] != nil {
			continue
		}
		// A bucket is named only by the resource that is one; a cluster's identifier is its own only there.
		if name == "bucket" && s.Type != "aws:s3/bucketV2:BucketV2" || name == "clusterIdentifier" && s.Type != "aws:rds/cluster:Cluster" {
			continue
		}
		made := s.Name + "-0a1b2c3"
		switch {
		case lowered[s.Type]:
			made = strings.ToLower(made)
		case s.Type == "aws:kms/alias:Alias":
			made = "alias/" + made
		}
		s.inputs.fields[name] = &node{kind: text, path: name, text: made}
	}
}
