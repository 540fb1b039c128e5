// Package iampolicy writes and checks the policy documents of AWS: those of identities (roles), of resources (keys, buckets,
// topics, vaults) and of trust (who may take a role).
//
// In: statements in typed Go, in which every value may be an output of another resource. Out: JSON that is the same for the same
// statements, and unknown as long as one of its values is. Validate and Wildcards read any such JSON, whoever wrote it.
//
// It makes no resources.
package iampolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Version is the only version of the policy language that is used: the older one knows no variables.
const Version = "2012-10-17"

// The two effects. Without a statement that allows, everything is denied.
const (
	Allow = "Allow"
	Deny  = "Deny"
)

// Any is every principal, action or resource, as far as the rest of the statement does not narrow it.
const Any = "*"

// Condition is operator -> key -> value or values. All of them have to hold.
type Condition = map[string]map[string]any

// Statement is one statement of a policy. Values of the type any are a string, a pulumi.StringInput, or a list of either.
type Statement struct {
	// Sid names the statement: letters and digits, unique in the document. Optional, but it is what errors and audits show.
	Sid string
	// Effect is Allow or Deny. Default Allow.
	Effect string
	// Principal says who, in policies of resources and of trust: Any, or a value of Service, AWS or Federated. Not in policies of
	// identities.
	Principal any
	// Action is what, as service:Action.
	Action any
	// NotAction is everything but that. Instead of Action.
	NotAction any
	// Resource is on what, as ARNs. Not in policies of trust.
	Resource any
	// NotResource is on everything but that. Instead of Resource.
	NotResource any
	// Condition says when.
	Condition Condition
}

// Principals is who: kind (AWS, Service, Federated) to names.
type Principals map[string]any

// Service is a principal: services of AWS by their DNS names, such as "logs.eu-central-1.amazonaws.com".
func Service(names ...string) Principals { return Principals{"Service": names} }

// AWS is a principal: accounts, roles or users, by ARN.
func AWS(arns ...any) Principals { return Principals{"AWS": arns} }

// Root is a principal: an account as a whole, which leaves it to its policies of identities who may.
func Root(account string) Principals { return AWS(RootARN(account)) }

// RootARN is the ARN of an account as a whole.
func RootARN(account string) string { return "arn:aws:iam::" + account + ":root" }

// document and statement are what is marshalled. The order of the fields is that of the JSON.
type document struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid         string    `json:",omitempty"`
	Effect      string    `json:""`
	Principal   any       `json:",omitempty"`
	Action      any       `json:",omitempty"`
	NotAction   any       `json:",omitempty"`
	Resource    any       `json:",omitempty"`
	NotResource any       `json:",omitempty"`
	Condition   Condition `json:",omitempty"`
}

// Document is the policy of the statements, as JSON. It is unknown as long as one of their values is.
func Document(statements ...Statement) pulumi.StringOutput {
	fields := make([]any, len(statements))
	for i, s := range statements {
		fields[i] = map[string]any{
			"sid": s.Sid, "effect": s.Effect, "principal": plain(s.Principal), "action": plain(s.Action), "notAction": plain(s.NotAction),
			"resource": plain(s.Resource), "notResource": plain(s.NotResource), "condition": plain(s.Condition),
		}
	}
	return pulumi.ToOutput(fields).ApplyT(func(resolved any) (string, error) {
		list, ok := resolved.([]any)
		if !ok {
			return "", fmt.Errorf("policy: statements resolved to %T", resolved)
		}
		doc := document{Version: Version}
		for i, v := range list {
			f, ok := v.(map[string]any)
			if !ok {
				return "", fmt.Errorf("policy: statement %d resolved to %T", i, v)
			}
			s := statement{Principal: f["principal"], Action: f["action"], NotAction: f["notAction"], Resource: f["resource"], NotResource: f["notResource"]}
			s.Sid, _ = f["sid"].(string)
			s.Effect, _ = f["effect"].(string)
			if s.Effect == "" {
				s.Effect = Allow
			}
			if s.Condition, ok = condition(f["condition"]); !ok {
				return "", fmt.Errorf("policy: statement %d: condition resolved to %T", i, f["condition"])
			}
			doc.Statement = append(doc.Statement, s)
		}
		return marshal(doc)
	}).(pulumi.StringOutput)
}

// Text is Document for statements whose values are all plain text.
func Text(statements ...Statement) (string, error) {
	doc := document{Version: Version}
	var errs []error
	for i, s := range statements {
		if s.Effect == "" {
			s.Effect = Allow
		}
		for _, v := range []any{s.Principal, s.Action, s.NotAction, s.Resource, s.NotResource, s.Condition} {
			if hasInput(reflect.ValueOf(v)) {
				errs = append(errs, fmt.Errorf("policy: statement %d (%s): holds an output, for which there is Document", i, s.Sid))
				break
			}
		}
		doc.Statement = append(doc.Statement, statement(s))
	}
	if len(errs) > 0 {
		return "", errors.Join(errs...)
	}
	return marshal(doc)
}

func marshal(doc document) (string, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	// Ampersands and angle brackets stay readable.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(doc); err != nil {
		return "", fmt.Errorf("policy: %w", err)
	}
	return string(bytes.TrimSuffix(out.Bytes(), []byte("\n"))), nil
}

// condition turns what an output resolved to back into its type.
func condition(v any) (Condition, bool) {
	if v == nil {
		return nil, true
	}
	operators, ok := v.(map[string]any)
	if !ok {
		return nil, false
	}
	out := Condition{}
	for operator, keys := range operators {
		if out[operator], ok = keys.(map[string]any); !ok {
			return nil, false
		}
	}
	return out, true
}

var inputType = reflect.TypeFor[pulumi.Input]()

// plain rebuilds a value out of maps and lists of any, in which pulumi awaits every input, whatever the types of the containers
// were. A list in a map of principals or conditions stays one.
func plain(v any) any {
	if v == nil {
		return nil
	}
	if _, ok := v.(pulumi.Input); ok {
		return v
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Map:
		if r.Len() == 0 {
			return nil
		}
		out := make(map[string]any, r.Len())
		for _, k := range r.MapKeys() {
			out[k.String()] = plain(r.MapIndex(k).Interface())
		}
		return out
	case reflect.Slice:
		if r.Len() == 0 {
			return nil
		}
		out := make([]any, r.Len())
		for i := range out {
			out[i] = plain(r.Index(i).Interface())
		}
		return out
	case reflect.String:
		return r.String()
	default:
		return v
	}
}

func hasInput(r reflect.Value) bool {
	if !r.IsValid() {
		return false
	}
	// pulumi.String is an input and still plain text.
	if r.Type().Implements(inputType) && r.Kind() != reflect.String {
		return true
	}
	switch r.Kind() {
	case reflect.Interface:
		return hasInput(r.Elem())
	case reflect.Map:
		return slices.ContainsFunc(slices.Collect(maps.Values(values(r))), hasInput)
	case reflect.Slice:
		for i := range r.Len() {
			if hasInput(r.Index(i)) {
				return true
			}
		}
	}
	return false
}

func values(r reflect.Value) map[string]reflect.Value {
	out := make(map[string]reflect.Value, r.Len())
	for _, k := range r.MapKeys() {
		out[k.String()] = r.MapIndex(k)
	}
	return out
}
