package iampolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Kind is what a policy is attached to, which decides its size and whether it names principals and resources.
type Kind string

// The kinds of policies. Sizes are AWS' quotas, of which those of IAM do not count white space
// (docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html).
const (
	// Managed is a policy of its own, for identities. 6,144 characters.
	Managed Kind = "managed"
	// Inline is a policy of one role. 10,240 characters for all that a role has.
	Inline Kind = "inline"
	// Trust says who may take a role. 2,048 characters, unless AWS was asked for more.
	Trust Kind = "trust"
	// Bucket is the policy of an S3 bucket. 20 KB.
	Bucket Kind = "bucket"
	// Key is the policy of a KMS key. 32 KB.
	Key Kind = "key"
	// Resource is the policy of anything else: topics, vaults, endpoints, secrets. 20 KB, the least of those.
	Resource Kind = "resource"
)

var sizes = map[Kind]int{Managed: 6144, Inline: 10240, Trust: 2048, Bucket: 20480, Key: 32768, Resource: 20480}

// Validate reports everything in a policy that AWS would refuse or could never match. What it is attached to is guessed from what
// it says: principals and no resources make a policy of trust, principals one of a resource, and anything else one of an identity,
// of which the smaller size is allowed.
func Validate(text string) []error {
	doc, errs := parse(text)
	if len(errs) > 0 {
		return errs
	}
	return ValidateAs(guess(doc), text)
}

// ValidateAs is Validate for a policy of a known kind.
func ValidateAs(kind Kind, text string) []error {
	limit, known := sizes[kind]
	if !known {
		return []error{fmt.Errorf("kind: %q is not allowed: it must be one of managed, inline, trust, bucket, key, resource", string(kind))}
	}
	doc, errs := parse(text)
	if len(errs) > 0 {
		return errs
	}
	if size := length(kind, text); size > limit {
		errs = append(errs, fmt.Errorf("size: %d is not allowed: a policy of the kind %s has at most %d characters", size, kind, limit))
	}
	for _, k := range doc.keys {
		if !slices.Contains([]string{"Version", "Id", "Statement"}, k) {
			errs = append(errs, fmt.Errorf("%s: a policy has no such element", k))
		}
	}
	if v, _ := doc.value["Version"].(string); v != Version {
		errs = append(errs, fmt.Errorf("Version: %v is not allowed: it must be %q", doc.value["Version"], Version))
	}
	if id, set := doc.value["Id"]; set {
		if _, ok := id.(string); !ok {
			errs = append(errs, errors.New("Id: must be a string"))
		}
	}
	list, bad := doc.statements()
	errs = append(errs, bad...)
	sids := map[string]bool{}
	for i, s := range list {
		sid, _ := s.value["Sid"].(string)
		for _, err := range s.validate(kind) {
			errs = append(errs, fmt.Errorf("statement %d (%s): %w", i, sid, err))
		}
		if sid != "" && sids[sid] {
			errs = append(errs, fmt.Errorf("statement %d (%s): Sid: is used twice", i, sid))
		}
		sids[sid] = true
	}
	return errs
}

// length is what AWS counts.
func length(kind Kind, text string) int {
	if kind == Managed || kind == Inline || kind == Trust {
		count := 0
		for _, r := range text {
			if !unicode.IsSpace(r) {
				count++
			}
		}
		return count
	}
	return len(text)
}

// Wildcards lists what the statements that allow do not narrow, as "<Sid>: <element> <value>": actions that are * or all of a
// service's, resources that are * or all of a service's, everything but a list, and everybody. It returns nil for what is no policy.
func Wildcards(text string) []string {
	doc, errs := parse(text)
	if len(errs) > 0 {
		return nil
	}
	statements, _ := doc.statements()
	var found []string
	for _, s := range statements {
		if s.value["Effect"] != Allow {
			continue
		}
		sid, _ := s.value["Sid"].(string)
		add := func(element, value string) { found = append(found, fmt.Sprintf("%s: %s %s", sid, element, value)) }
		actions, _ := texts(s.value["Action"])
		for _, a := range actions {
			if _, name, _ := strings.Cut(a, ":"); strings.Trim(a, "*") == "" || name != "" && strings.Trim(name, "*") == "" {
				add("Action", a)
			}
		}
		resources, _ := texts(s.value["Resource"])
		for _, r := range resources {
			parts := strings.SplitN(r, ":", 6)
			if strings.Trim(r, "*") == "" || len(parts) == 6 && strings.Trim(parts[5], "*") == "" {
				add("Resource", r)
			}
		}
		for _, element := range []string{"NotAction", "NotResource", "NotPrincipal"} {
			if v, set := s.value[element]; set {
				list, _ := texts(v)
				add(element, strings.Join(list, ","))
			}
		}
		if everybody(s.value["Principal"]) {
			add("Principal", Any)
		}
	}
	return found
}

func everybody(principal any) bool {
	if principal == Any {
		return true
	}
	o, ok := principal.(object)
	if !ok {
		return false
	}
	list, _ := texts(o.value["AWS"])
	return slices.Contains(list, Any)
}

// An object is a JSON object with its keys in order, each once.
type object struct {
	keys  []string
	value map[string]any
}

const maxDepth = 16

// parse reads a JSON object. Unlike encoding/json it refuses an element that is there twice, as AWS does.
func parse(text string) (object, []error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	v, err := read(decoder, 0)
	if err == nil {
		if _, trailing := decoder.Token(); !errors.Is(trailing, io.EOF) {
			err = errors.New("something follows the policy")
		}
	}
	if err != nil {
		return object{}, []error{fmt.Errorf("JSON: %w", err)}
	}
	o, ok := v.(object)
	if !ok {
		return object{}, []error{errors.New("JSON: a policy must be an object")}
	}
	return o, nil
}

func read(decoder *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		o := object{value: map[string]any{}}
		for decoder.More() {
			key, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			name, ok := key.(string)
			if !ok {
				return nil, fmt.Errorf("%v is no key", key)
			}
			if _, twice := o.value[name]; twice {
				return nil, fmt.Errorf("%s is there twice", name)
			}
			if o.value[name], err = read(decoder, depth+1); err != nil {
				return nil, err
			}
			o.keys = append(o.keys, name)
		}
		_, err := decoder.Token()
		return o, err
	case json.Delim('['):
		list := []any{}
		for decoder.More() {
			v, err := read(decoder, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := decoder.Token()
		return list, err
	}
	return token, nil
}

func (o object) statements() ([]object, []error) {
	list, ok := o.value["Statement"].([]any)
	if !ok {
		if single, isObject := o.value["Statement"].(object); isObject {
			return []object{single}, nil
		}
	}
	if len(list) == 0 {
		return nil, []error{errors.New("Statement: there must be at least one")}
	}
	var out []object
	for i, v := range list {
		s, ok := v.(object)
		if !ok {
			return nil, []error{fmt.Errorf("statement %d: must be an object", i)}
		}
		out = append(out, s)
	}
	return out, nil
}

func (o object) has(key string) bool { _, ok := o.value[key]; return ok }

func guess(doc object) Kind {
	statements, _ := doc.statements()
	principals, resources := false, false
	for _, s := range statements {
		principals = principals || s.has("Principal") || s.has("NotPrincipal")
		resources = resources || s.has("Resource") || s.has("NotResource")
	}
	switch {
	case principals && resources:
		return Resource
	case principals:
		return Trust
	}
	return Managed
}

// texts returns a string or a list of strings as a list.
func texts(v any) ([]string, bool) {
	switch v := v.(type) {
	case string:
		return []string{v}, true
	case []any:
		var out []string
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			out = append(out, s)
		}
		return out, len(out) > 0
	}
	return nil, false
}

var elements = []string{"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}

var sidPattern = regexp.MustCompile(`^[A-Za-z0-9]{1,128}$`)

func (o object) validate(kind Kind) []error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, k := range o.keys {
		if !slices.Contains(elements, k) {
			report("%s: a statement has no such element", k)
		}
	}
	if sid, set := o.value["Sid"]; set {
		if s, ok := sid.(string); !ok || !sidPattern.MatchString(s) {
			report("Sid: %v is not allowed: it must be letters and digits", sid)
		}
	}
	effect := o.value["Effect"]
	if effect != Allow && effect != Deny {
		report("Effect: %v is not allowed: it must be Allow or Deny", effect)
	}
	errs = append(errs, o.list("Action", checkAction)...)
	if kind == Trust {
		for _, k := range []string{"Resource", "NotResource"} {
			if o.has(k) {
				report("%s: a policy of trust has none", k)
			}
		}
		for _, a := range append(first(texts(o.value["Action"])), first(texts(o.value["NotAction"]))...) {
			if a != Any && !strings.HasPrefix(a, "sts:") {
				report("Action: %q is not allowed: a policy of trust is about taking a role (sts:)", a)
			}
		}
	} else {
		errs = append(errs, o.list("Resource", CheckARN)...)
	}
	principal, not := o.has("Principal"), o.has("NotPrincipal")
	switch {
	case kind == Managed || kind == Inline:
		if principal || not {
			report("Principal: a policy of an identity has none")
		}
	case principal == not:
		report("Principal: there must be exactly one of Principal and NotPrincipal")
	case not && effect == Allow:
		report("NotPrincipal: allows everybody else, without an account")
	default:
		for _, k := range []string{"Principal", "NotPrincipal"} {
			if v, set := o.value[k]; set {
				for _, err := range checkPrincipal(v) {
					report("%s: %w", k, err)
				}
			}
		}
	}
	if c, set := o.value["Condition"]; set {
		for _, err := range checkCondition(c) {
			report("Condition: %w", err)
		}
	}
	return errs
}

func first(list []string, _ bool) []string { return list }

// list checks an element that is a value or a list of values, under its name or its name with Not, but not both.
func (o object) list(name string, check func(string) error) []error {
	if o.has(name) == o.has("Not"+name) {
		return []error{fmt.Errorf("%s: there must be exactly one of %s and Not%s", name, name, name)}
	}
	if !o.has(name) {
		name = "Not" + name
	}
	list, ok := texts(o.value[name])
	if !ok {
		return []error{fmt.Errorf("%s: must be a string or a list of at least one string", name)}
	}
	var errs []error
	for _, v := range list {
		if err := check(v); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errs
}

var actionPattern = regexp.MustCompile(`^[A-Za-z0-9*?]+$`)

func checkAction(action string) error {
	if action == Any {
		return nil
	}
	service, name, ok := strings.Cut(action, ":")
	if !ok || !actionPattern.MatchString(name) {
		return fmt.Errorf("%q is not allowed: it must be service:Action or *", action)
	}
	if !Services[strings.ToLower(service)] {
		return fmt.Errorf("%q is not allowed: no service %q is known", action, service)
	}
	return nil
}

var (
	partitionPattern = regexp.MustCompile(`^(aws|aws-cn|aws-us-gov|\*)$`)
	regionPattern    = regexp.MustCompile(`^([a-z]{2,3}(-[a-z]+)+-[0-9]|.*[*?].*|\$\{[^}]+\})?$`)
	accountPattern   = regexp.MustCompile(`^([0-9]{12}|aws|[0-9]*[*?][0-9*?]*|\$\{[^}]+\})?$`)
)

// CheckARN reports what is wrong in the ARN of a resource in a policy. It may hold wildcards and variables, or be * itself.
func CheckARN(arn string) error {
	if arn == Any {
		return nil
	}
	parts := strings.SplitN(arn, ":", 6)
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%q is not allowed: %s", arn, fmt.Sprintf(format, args...))
	}
	switch {
	case strings.ContainsFunc(arn, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return refuse("an ARN has no white space")
	case len(parts) != 6 || parts[0] != "arn":
		return refuse("it must be arn:partition:service:region:account:resource or *")
	case !partitionPattern.MatchString(parts[1]):
		return refuse("no partition %q is known", parts[1])
	case !strings.ContainsAny(parts[2], "*?") && !Services[parts[2]]:
		return refuse("no service %q is known", parts[2])
	case !regionPattern.MatchString(parts[3]):
		return refuse("%q is no region", parts[3])
	case !accountPattern.MatchString(parts[4]):
		return refuse("%q is no account", parts[4])
	case parts[5] == "":
		return refuse("it names no resource")
	case parts[2] == "iam" && parts[3] != "" && parts[3] != Any:
		return refuse("IAM has no regions")
	case parts[2] == "s3" && parts[3]+parts[4] != "" && !strings.ContainsAny(parts[5], ":/"):
		return refuse("the ARN of a bucket has neither region nor account")
	}
	return variables(arn)
}

// variables reports a ${ that is not closed.
func variables(text string) error {
	for rest := text; ; {
		_, after, found := strings.Cut(rest, "${")
		if !found {
			return nil
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed || name == "" || strings.Contains(name, "${") {
			return fmt.Errorf("%q is not allowed: a variable is not closed", text)
		}
		rest = tail
	}
}

var (
	servicePrincipal = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)*\.(amazonaws\.com|amazonaws\.com\.cn|amazon\.com)$`)
	accountNumber    = regexp.MustCompile(`^[0-9]{12}$`)
	uniqueID         = regexp.MustCompile(`^A(ROA|IDA)[A-Z0-9]{16,124}$`)
)

func checkPrincipal(v any) []error {
	if v == Any {
		return nil
	}
	o, ok := v.(object)
	if !ok || len(o.keys) == 0 {
		return []error{fmt.Errorf("%v is not allowed: it must be * or an object", v)}
	}
	var errs []error
	for _, kind := range o.keys {
		names, ok := texts(o.value[kind])
		if !ok {
			errs = append(errs, fmt.Errorf("%s: must be a string or a list of at least one string", kind))
			continue
		}
		for _, name := range names {
			if err := principalName(kind, name); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", kind, err))
			}
		}
	}
	return errs
}

func principalName(kind, name string) error {
	switch kind {
	case "AWS":
		if name == Any || accountNumber.MatchString(name) || uniqueID.MatchString(name) {
			return nil
		}
		if err := CheckARN(name); err != nil {
			return err
		}
		parts := strings.SplitN(name, ":", 6)
		if parts[2] != "iam" && parts[2] != "sts" || strings.ContainsAny(name, "*?") || !accountNumber.MatchString(parts[4]) {
			return fmt.Errorf("%q is not allowed: it must be *, an account, or the whole ARN of a role or user", name)
		}
		return nil
	case "Service":
		if !servicePrincipal.MatchString(name) {
			return fmt.Errorf("%q is not allowed: it must be the DNS name of a service", name)
		}
		return nil
	case "Federated":
		if strings.HasPrefix(name, "arn:") {
			return CheckARN(name)
		}
		if name == "" || strings.ContainsAny(name, "*? ") {
			return fmt.Errorf("%q is not allowed: it must be the ARN or the name of a provider", name)
		}
		return nil
	case "CanonicalUser":
		if len(name) != 64 {
			return fmt.Errorf("%q is not allowed: it must be 64 hexadecimal digits", name)
		}
		return nil
	}
	return fmt.Errorf("it must be AWS, Service, Federated or CanonicalUser")
}

// A check says whether a value fits an operator.
type valueCheck func(string) bool

var operators = map[string]valueCheck{
	"StringEquals": anyText, "StringNotEquals": anyText, "StringEqualsIgnoreCase": anyText, "StringNotEqualsIgnoreCase": anyText,
	"StringLike": anyText, "StringNotLike": anyText,
	"NumericEquals": isNumber, "NumericNotEquals": isNumber, "NumericLessThan": isNumber, "NumericLessThanEquals": isNumber,
	"NumericGreaterThan": isNumber, "NumericGreaterThanEquals": isNumber,
	"DateEquals": isDate, "DateNotEquals": isDate, "DateLessThan": isDate, "DateLessThanEquals": isDate,
	"DateGreaterThan": isDate, "DateGreaterThanEquals": isDate,
	"Bool": isBool, "BinaryEquals": anyText, "IpAddress": isAddress, "NotIpAddress": isAddress,
	"ArnEquals": isARN, "ArnLike": isARN, "ArnNotEquals": isARN, "ArnNotLike": isARN,
	"Null": isBool,
}

func anyText(string) bool { return true }

func isNumber(s string) bool { _, err := strconv.ParseFloat(s, 64); return err == nil || isVariable(s) }

func isBool(s string) bool {
	return strings.EqualFold(s, "true") || strings.EqualFold(s, "false") || isVariable(s)
}

func isDate(s string) bool {
	if _, err := strconv.ParseInt(s, 10, 64); err == nil || isVariable(s) {
		return true
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z", "2006-01-02"} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	return false
}

func isAddress(s string) bool {
	if _, err := netip.ParsePrefix(s); err == nil || isVariable(s) {
		return true
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}

func isARN(s string) bool { return s != Any && CheckARN(s) == nil || isVariable(s) }

func isVariable(s string) bool { return strings.HasPrefix(s, "${") && strings.HasSuffix(s, "}") }

func checkCondition(v any) []error {
	o, ok := v.(object)
	if !ok || len(o.keys) == 0 {
		return []error{errors.New("must be an object that is not empty")}
	}
	var errs []error
	for _, operator := range o.keys {
		name, many := operator, false
		for _, set := range []string{"ForAllValues:", "ForAnyValue:"} {
			if rest, found := strings.CutPrefix(name, set); found && !many {
				name, many = rest, true
			}
		}
		name, ifExists := strings.CutSuffix(name, "IfExists")
		check, known := operators[name]
		if !known || ifExists && name == "Null" {
			errs = append(errs, fmt.Errorf("%s: no such operator is known", operator))
			continue
		}
		keys, ok := o.value[operator].(object)
		if !ok || len(keys.keys) == 0 {
			errs = append(errs, fmt.Errorf("%s: must be an object that is not empty", operator))
			continue
		}
		for _, key := range keys.keys {
			if err := checkKey(key); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", operator, err))
			}
			for _, err := range checkValues(keys.value[key], check) {
				errs = append(errs, fmt.Errorf("%s: %s: %w", operator, key, err))
			}
		}
	}
	return errs
}

func checkValues(v any, check valueCheck) []error {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	if len(list) == 0 {
		return []error{errors.New("there must be at least one value")}
	}
	var errs []error
	for _, e := range list {
		var text string
		switch e := e.(type) {
		case string:
			text = e
		case json.Number:
			text = e.String()
		case bool:
			text = strconv.FormatBool(e)
		default:
			errs = append(errs, fmt.Errorf("%v is not allowed: it must be a string, a number or a boolean", e))
			continue
		}
		if err := variables(text); err != nil {
			errs = append(errs, err)
		} else if !check(text) {
			errs = append(errs, fmt.Errorf("%q is not allowed: it does not fit the operator", text))
		}
	}
	return errs
}

// checkKey refuses a key of AWS' own that does not exist, and one of a service that is not known. A key of a federated provider
// begins with its host.
func checkKey(key string) error {
	prefix, name, ok := strings.Cut(key, ":")
	if !ok || name == "" {
		return fmt.Errorf("%q is not allowed: a key is prefix:name", key)
	}
	switch lower := strings.ToLower(prefix); {
	case lower == "aws":
		base, _, _ := strings.Cut(name, "/")
		if !globalKeys[strings.ToLower(base)] {
			return fmt.Errorf("%q is not allowed: AWS has no such key", key)
		}
	case Services[lower], strings.Contains(prefix, "."), lower == "saml":
	default:
		return fmt.Errorf("%q is not allowed: no service %q is known", key, prefix)
	}
	return nil
}

// Statements returns the statements of a policy by their Sids, as plain Go values, and nil for what is no policy. It is for those who
// look into policies, such as tests and rules; statements without a Sid are left out.
func Statements(text string) map[string]map[string]any {
	if _, errs := parse(text); len(errs) > 0 {
		return nil
	}
	var doc struct{ Statement json.RawMessage }
	if json.Unmarshal([]byte(text), &doc) != nil {
		return nil
	}
	var list []map[string]any
	if json.Unmarshal(doc.Statement, &list) != nil {
		var single map[string]any
		if json.Unmarshal(doc.Statement, &single) != nil {
			return nil
		}
		list = []map[string]any{single}
	}
	out := map[string]map[string]any{}
	for _, s := range list {
		if sid, ok := s["Sid"].(string); ok {
			out[sid] = s
		}
	}
	return out
}

// Texts returns a value of a statement that is a string or a list of strings as a list, and nil for anything else.
func Texts(v any) []string {
	list, _ := texts(v)
	return list
}
