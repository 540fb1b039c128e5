package awsrules

import (
	_ "embed"
	"encoding/json"
	"regexp"
	"slices"
	"sync"
	"unicode/utf8"
)

//go:generate go run ./internal/apirules -models $BOTOCORE -out api.json

//go:embed api.json
var apiJSON []byte

// apiRule is what an API says of one input.
type apiRule struct {
	Path    string
	Enum    []string
	Pattern string
	Min     *float64
	Max     *float64
	Count   bool

	compiled *regexp.Regexp
}

// apiRequest is what one request's description says.
type apiRequest struct {
	Source string
	Rules  []*apiRule
}

var apiRules = sync.OnceValues(func() (map[string][]apiRequest, error) {
	var requests map[string][]apiRequest
	if err := json.Unmarshal(apiJSON, &requests); err != nil {
		return nil, err
	}
	for _, list := range requests {
		for _, request := range list {
			for _, rule := range request.Rules {
				if rule.Pattern == "" {
					continue
				}
				var err error
				if rule.compiled, err = regexp.Compile(`^(?:` + rule.Pattern + `)$`); err != nil {
					return nil, err
				}
			}
		}
	}
	return requests, nil
})

func (r *apiRule) check(s *subject) {
	if r.Count {
		for _, n := range s.inputs.all(r.Path) {
			size := len(n.list)
			if n.kind == object {
				size = len(n.fields)
			} else if n.kind != list {
				continue
			}
			r.bounds(s, n, RuleCount, float64(size), "elements")
		}
		return
	}
	for _, n := range s.inputs.each(r.Path) {
		switch n.kind {
		case text:
			checkText(s, n, r.Enum, r.compiled)
			r.bounds(s, n, RuleLength, float64(utf8.RuneCountInString(n.text)), "characters")
		case number:
			r.bounds(s, n, RuleRange, n.number, "")
		}
	}
}

func checkText(s *subject, n *node, enum []string, pattern *regexp.Regexp) {
	if len(enum) > 0 && !contains(enum, n.text) {
		s.report(RuleEnum, n.path, "%s is none of %q", n.show(), enum)
	}
	if pattern != nil && !pattern.MatchString(n.text) {
		s.report(RulePattern, n.path, "%s does not match %s", n.show(), pattern)
	}
}

func (r *apiRule) bounds(s *subject, n *node, rule Rule, size float64, unit string) {
	bounds(s, n, rule, size, r.Min, r.Max, unit)
}

func bounds(s *subject, n *node, rule Rule, size float64, low, high *float64, unit string) {
	if unit != "" {
		unit = " " + unit
	}
	if low != nil && size < *low {
		s.report(rule, n.path, "%s has %v%s, must have at least %v", n.show(), size, unit, *low)
	}
	if high != nil && size > *high {
		s.report(rule, n.path, "%s has %v%s, may have %v", n.show(), size, unit, *high)
	}
}

func contains(list []string, value string) bool { return slices.Contains(list, value) }
