// Package standin answers in AWS' place where AWS is not there: in recorded resource graphs and in previews without
// credentials. It makes nothing and asks nobody.
//
// In: the type and the inputs of a resource. Out: the inputs with what AWS would add, such as names and ARNs, made from the
// resource's name so that two runs give the same. What it answers is plausible, not true: only the shape of identifiers is AWS'.
package standin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Account and the regions are what identifiers are made of: a number that AWS keeps for documentation, and where the stacks of the
// repository are by default.
const (
	Account = "123456789012"
	Region  = "eu-central-1"
)

// A shape says what AWS adds to the inputs of a resource of one type.
type shape struct {
	// arn is the resource's ARN, where {name} stands for its physical name. Empty: it has none.
	arn string
	// arnIsID says that the ARN is the identifier too. Otherwise the identifier is prefix and name.
	arnIsID bool
	prefix  string
	// hex says that the identifier is prefix and a number made from the name, where some of AWS' APIs look at it.
	hex bool
	// computed are further outputs, in which {name} and {id} are replaced.
	computed map[string]any
}

// Types lists the tokens that Answer knows, sorted.
func Types() []string { return slices.Sorted(maps.Keys(shapes)) }

// Known says whether Answer knows the token.
func Known(token string) bool { _, ok := shapes[token]; return ok }

// Answer returns the identifier and the outputs that AWS would give a resource. An error says that the token is in no table: a new
// type is added to it on purpose, with what the program reads of it.
func Answer(token, name string, inputs resource.PropertyMap) (id string, outputs resource.PropertyMap, err error) {
	s, ok := shapes[token]
	if !ok {
		return "", nil, fmt.Errorf("%s: test/standin has no answer for this type", token)
	}
	physical := name
	for _, key := range []resource.PropertyKey{"name", "bucket", "identifier", "clusterIdentifier"} {
		if v, ok := inputs[key]; ok && v.IsString() && !strings.Contains(v.StringValue(), ":") {
			physical = v.StringValue()
			break
		}
	}
	replace := func(text string) string {
		return strings.NewReplacer("{name}", physical, "{id}", id, "{account}", Account, "{region}", Region).Replace(text)
	}
	outputs = inputs.Copy()
	id = s.prefix + physical
	if s.hex {
		sum := sha256.Sum256([]byte(physical))
		id = s.prefix + hex.EncodeToString(sum[:])[:17]
	}
	if s.arn != "" {
		arn := replace(s.arn)
		outputs["arn"] = resource.NewProperty(arn)
		if s.arnIsID {
			id = arn
		}
	}
	for key, value := range s.computed {
		if _, set := outputs[resource.PropertyKey(key)]; !set {
			outputs[resource.PropertyKey(key)] = fill(value, replace)
		}
	}
	// Names that the program leaves to the provider.
	if _, set := outputs["name"]; !set && s.arn != "" {
		outputs["name"] = resource.NewProperty(physical)
	}
	return id, outputs, nil
}

func fill(value any, replace func(string) string) resource.PropertyValue {
	switch v := value.(type) {
	case string:
		return resource.NewProperty(replace(v))
	case []any:
		list := make([]resource.PropertyValue, len(v))
		for i, e := range v {
			list[i] = fill(e, replace)
		}
		return resource.NewProperty(list)
	case map[string]any:
		object := resource.PropertyMap{}
		for k, e := range v {
			object[resource.PropertyKey(k)] = fill(e, replace)
		}
		return resource.NewProperty(object)
	}
	return resource.NewPropertyValue(value)
}
