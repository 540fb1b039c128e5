package awsrules

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// check looks at a resource and reports what is wrong with it.
type check func(*subject)

// table is a set of rules from one source, by type.
type table struct {
	source string
	rules  map[string][]check
}

// needs: whoever gives the object above the last part of a path gives that part. The schema tells it of single values, not of lists.
func needs(paths ...string) check {
	return func(s *subject) {
		for _, path := range paths {
			above, field := split(path)
			for _, n := range s.inputs.each(above) {
				if n.kind == object && !n.set(field) {
					s.report(RuleRequired, join(n.path, field), "is required")
				}
			}
		}
	}
}

func split(path string) (above, field string) {
	i := strings.LastIndex(path, ".")
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

func join(path, field string) string { return strings.TrimPrefix(path+"."+field, ".") }

// enum: the value is one of those.
func enum(path string, values ...string) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind == text {
				checkText(s, n, values, nil)
			}
		}
	}
}

// pattern: the whole text matches.
func pattern(path, expression string) check {
	compiled := regexp.MustCompile(`^(?:` + expression + `)$`)
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind == text {
				checkText(s, n, nil, compiled)
			}
		}
	}
}

// never: the text does not match anywhere.
func never(path, expression, why string) check {
	compiled := regexp.MustCompile(expression)
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind == text && compiled.MatchString(n.text) {
				s.report(RulePattern, n.path, "%s %s", n.show(), why)
			}
		}
	}
}

// length: so many characters.
func length(path string, low, high float64) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind == text {
				bounds(s, n, RuleLength, float64(utf8.RuneCountInString(n.text)), &low, &high, "characters")
			}
		}
	}
}

// between: a number of that range.
func between(path string, low, high float64) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind == number && (n.number < low || n.number > high) {
				s.report(RuleRange, n.path, "is %v, must be between %v and %v", n.number, low, high)
			}
		}
	}
}

// among: one of those numbers.
func among(path string, values ...float64) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind == number && !slices.Contains(values, n.number) {
				s.report(RuleEnum, n.path, "is %v, must be one of %v", n.number, values)
			}
		}
	}
}

// count: so many elements.
func count(path string, low, high int) check {
	return func(s *subject) {
		for _, n := range s.inputs.all(path) {
			size := len(n.list)
			if n.kind == object {
				size = len(n.fields)
			} else if n.kind != list {
				continue
			}
			if size < low || size > high {
				s.report(RuleCount, n.path, "has %d elements, must have between %d and %d", size, low, high)
			}
		}
	}
}

func given(n *node, fields []string) []string {
	var set []string
	for _, field := range fields {
		if n.set(field) {
			set = append(set, field)
		}
	}
	return set
}

// exactlyOne of the fields is given, in every object at the path.
func exactlyOne(path string, fields ...string) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind != object {
				continue
			}
			switch set := given(n, fields); {
			case len(set) == 0:
				s.report(RuleRequired, n.path, "one of %s is required", strings.Join(fields, ", "))
			case len(set) > 1:
				s.report(RuleExclusive, n.path, "%s exclude each other", strings.Join(set, ", "))
			}
		}
	}
}

// atMostOne of the fields is given.
func atMostOne(path string, fields ...string) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if set := given(n, fields); n.kind == object && len(set) > 1 {
				s.report(RuleExclusive, n.path, "%s exclude each other", strings.Join(set, ", "))
			}
		}
	}
}

// atLeastOne of the fields is given.
func atLeastOne(path string, fields ...string) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind == object && len(given(n, fields)) == 0 {
				s.report(RuleRequired, n.path, "at least one of %s is required", strings.Join(fields, ", "))
			}
		}
	}
}

// with: whoever gives field gives the others as well.
func with(path, field string, others ...string) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind != object || !n.set(field) {
				continue
			}
			for _, o := range others {
				if !n.set(o) {
					s.report(RuleDepends, join(n.path, field), "needs %s", o)
				}
			}
		}
	}
}

// when: if the condition holds in an object at the path, the fields are needed.
func when(path, field string, value any, needed ...string) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind != object || !n.is(field, value) {
				continue
			}
			for _, o := range needed {
				if !n.set(o) {
					s.report(RuleDepends, join(n.path, o), "is required with %s = %v", field, value)
				}
			}
		}
	}
}

// only: the fields may be given only with that value of another one. An unknown one is right.
func only(path, field string, values []string, fields ...string) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind != object {
				continue
			}
			v := n.get(field)
			if v != nil && (v.kind == unknown || v.kind == text && slices.Contains(values, v.text)) {
				continue
			}
			for _, o := range fields {
				if n.set(o) {
					s.report(RuleDepends, join(n.path, o), "is allowed only with %s of %q", field, values)
				}
			}
		}
	}
}

// cidr4: an IPv4 range in its canonical form, with a prefix of that length.
func cidr4(path string, low, high int) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind != text {
				continue
			}
			p, err := netip.ParsePrefix(n.text)
			switch {
			case err != nil || !p.Addr().Is4():
				s.report(RuleCIDR, n.path, "%s is no IPv4 range", n.show())
			case p.Masked() != p:
				s.report(RuleCIDR, n.path, "%s has bits set after its prefix, it is %s", n.show(), p.Masked())
			case p.Bits() < low || p.Bits() > high:
				s.report(RuleCIDR, n.path, "%s must have a prefix between /%d and /%d", n.show(), low, high)
			}
		}
	}
}

// cidr: an IPv4 or IPv6 range in its canonical form.
func cidr(path string) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind != text {
				continue
			}
			if p, err := netip.ParsePrefix(n.text); err != nil || p.Masked() != p {
				s.report(RuleCIDR, n.path, "%s is no address range", n.show())
			}
		}
	}
}

var arnForm = regexp.MustCompile(`^arn:aws[a-zA-Z-]*:([a-z0-9-]+):([a-z0-9-]*):(\d{12}|aws|aws-managed|cloudfront|third-party|)?:(.+)$`)

// arn: an ARN, of one of the services if any are given.
func arn(path string, services ...string) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind != text {
				continue
			}
			m := arnForm.FindStringSubmatch(n.text)
			switch {
			case m == nil:
				s.report(RuleARN, n.path, "%s is no ARN", n.show())
			case len(services) > 0 && !slices.Contains(services, m[1]):
				s.report(RuleARN, n.path, "%s is an ARN of %s, must be one of %v", n.show(), m[1], services)
			}
		}
	}
}

// jsonText: a JSON object or list as text. Policies may be given as objects as well.
func jsonText(paths ...string) check {
	return func(s *subject) {
		for _, path := range paths {
			for _, n := range s.inputs.each(path) {
				if n.kind != text {
					continue
				}
				var v any
				if err := json.Unmarshal([]byte(n.text), &v); err != nil {
					s.report(RuleJSON, n.path, "is no JSON: %v", err)
				}
			}
		}
	}
}

// policyKind says what a policy is attached to.
type policyKind int

const (
	identityPolicy policyKind = iota // a role; it names resources
	trustPolicy                      // a role, as who may assume it; it names principals
	resourcePolicy                   // another resource; it names both
)

// policy: an IAM policy, of at most so many characters.
func policy(path string, limit int, kind policyKind) check {
	return func(s *subject) {
		for _, n := range s.inputs.each(path) {
			if n.kind == text {
				s.policy(n, limit, kind)
			}
		}
	}
}

var policyKeys = []string{"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}

var sidForm = regexp.MustCompile(`^[A-Za-z0-9]*$`)

var actionForm = regexp.MustCompile(`^(\*|[a-z0-9-]+:[A-Za-z0-9*?]+)$`)

func (s *subject) policy(n *node, limit int, kind policyKind) {
	var document struct {
		Version   string
		ID        string `json:"Id"`
		Statement json.RawMessage
	}
	decoder := json.NewDecoder(strings.NewReader(n.text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&document); err != nil {
		s.report(RuleJSON, n.path, "is no policy: %v", err)
		return
	}
	// IAM does not count space outside of text.
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(n.text)); err == nil && compact.Len() > limit {
		s.report(RuleLength, n.path, "has %d characters, may have %d", compact.Len(), limit)
	}
	if document.Version != "2012-10-17" && document.Version != "2008-10-17" {
		s.report(RuleJSON, n.path, "has the version %q", document.Version)
	}
	var statements []map[string]any
	if err := json.Unmarshal(document.Statement, &statements); err != nil {
		var one map[string]any
		if json.Unmarshal(document.Statement, &one) != nil {
			s.report(RuleJSON, n.path, "has no statements: %v", err)
			return
		}
		statements = []map[string]any{one}
	}
	if len(statements) == 0 {
		s.report(RuleJSON, n.path, "has no statement")
	}
	seen := map[string]bool{}
	for i, statement := range statements {
		s.statement(n, i, statement, kind)
		if sid, ok := statement["Sid"].(string); ok && sid != "" {
			if seen[sid] {
				s.report(RuleJSON, n.path, "has two statements named %s", sid)
			}
			seen[sid] = true
		}
	}
}

func (s *subject) statement(n *node, i int, statement map[string]any, kind policyKind) {
	for key := range statement {
		if !slices.Contains(policyKeys, key) {
			s.report(RuleJSON, n.path, "statement %d has a field %s", i, key)
		}
	}
	if effect := statement["Effect"]; effect != "Allow" && effect != "Deny" {
		s.report(RuleJSON, n.path, "statement %d has the effect %v", i, effect)
	}
	has := func(key string) bool { _, ok := statement[key]; return ok }
	if has("Action") == has("NotAction") {
		s.report(RuleJSON, n.path, "statement %d must have one of Action, NotAction", i)
	}
	if kind != identityPolicy && has("Principal") == has("NotPrincipal") {
		s.report(RuleJSON, n.path, "statement %d must have one of Principal, NotPrincipal", i)
	}
	if kind == identityPolicy && (has("Principal") || has("NotPrincipal")) {
		s.report(RuleJSON, n.path, "statement %d must not name principals", i)
	}
	if kind != trustPolicy && has("Resource") == has("NotResource") {
		s.report(RuleJSON, n.path, "statement %d must have one of Resource, NotResource", i)
	}
	if kind == trustPolicy && (has("Resource") || has("NotResource")) {
		s.report(RuleJSON, n.path, "statement %d must not name resources", i)
	}
	if sid, ok := statement["Sid"].(string); ok && !sidForm.MatchString(sid) && kind != resourcePolicy {
		s.report(RuleJSON, n.path, "the name %q of statement %d has other characters than letters and digits", sid, i)
	}
	for _, key := range []string{"Action", "NotAction"} {
		for _, action := range texts(statement[key]) {
			if !actionForm.MatchString(action) {
				s.report(RuleJSON, n.path, "statement %d: %q is no action", i, action)
			}
		}
	}
	for _, key := range []string{"Resource", "NotResource"} {
		list := texts(statement[key])
		if has(key) && len(list) == 0 {
			s.report(RuleJSON, n.path, "statement %d has an empty %s", i, key)
		}
		for _, r := range list {
			if r != "*" && !strings.HasPrefix(r, "arn:") {
				s.report(RuleJSON, n.path, "statement %d: %q is no resource", i, r)
			}
		}
	}
	if condition, ok := statement["Condition"].(map[string]any); ok {
		for operator, keys := range condition {
			if !conditionForm.MatchString(operator) {
				s.report(RuleJSON, n.path, "statement %d: %q is no condition operator", i, operator)
			}
			if _, ok := keys.(map[string]any); !ok {
				s.report(RuleJSON, n.path, "statement %d: the condition %s has no keys", i, operator)
			}
		}
	}
}

var conditionForm = regexp.MustCompile(`^(ForAllValues:|ForAnyValue:)?(String(Not)?(Equals|Like)|String(Not)?EqualsIgnoreCase|Numeric(Not)?Equals|Numeric(Less|Greater)Than(Equals)?|` +
	`Date(Not)?Equals|Date(Less|Greater)Than(Equals)?|Bool|BinaryEquals|(Not)?IpAddress|Arn(Not)?(Equals|Like)|Null)(IfExists)?$`)

func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var list []string
		for _, e := range v {
			if t, ok := e.(string); ok {
				list = append(list, t)
			}
		}
		return list
	}
	return nil
}

var labelForm = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$`)

// labelKey says whether Kubernetes takes the key of a label.
func labelKey(key string) bool {
	prefix, name, ok := strings.Cut(key, "/")
	if !ok {
		prefix, name = "", key
	}
	return name != "" && len(name) <= 63 && labelForm.MatchString(name) && len(prefix) <= 253
}

// privateRange says whether an IPv4 range is in RFC 1918's.
func privateRange(cidr string) bool {
	p, err := netip.ParsePrefix(cidr)
	return err == nil && p.Addr().IsPrivate()
}
