package awsrules

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/test/awsrules/sdk"
	"ephemos.dev/deploy/test/standin"
)

// full is a value that has every input of a type, all unknown.
func full(t *sdk.Type, path string, depth int) *node {
	n := &node{path: path}
	switch {
	case depth == 0:
	case t.Kind == sdk.Object:
		n.kind, n.fields = object, map[string]*node{}
		for name, p := range t.Properties {
			n.fields[name] = full(p.Type, join(path, name), depth-1)
		}
	case t.Kind == sdk.List:
		n.kind, n.list = list, []*node{full(t.Element, path, depth)}
	case t.Kind == sdk.Map:
		n.kind = other
	}
	return n
}

// TestRulesAreOfInputs finds rules with a path that no resource of the type has: they would never find anything.
func TestRulesAreOfInputs(t *testing.T) {
	source, err := sdk.Find()
	require.NoError(t, err)
	api, err := apiRules()
	require.NoError(t, err)
	try := func(typ string, run func(*subject)) {
		inputs, err := source.Inputs(typ)
		require.NoError(t, err, typ)
		missed = func(n *node, field string) { t.Errorf("%s: no input %s", typ, join(n.path, field)) }
		defer func() { missed = nil }()
		run(&subject{Resource: Resource{Type: typ}, inputs: full(inputs, "", 8)})
	}
	for typ, requests := range api {
		try(typ, func(s *subject) {
			for _, request := range requests {
				for _, rule := range request.Rules {
					s.inputs.all(rule.Path)
				}
			}
		})
	}
	for _, table := range tables {
		for typ, checks := range table.rules {
			try(typ, func(s *subject) {
				for _, check := range checks {
					check(s)
				}
			})
		}
	}
	for typ, keys := range unique {
		try(typ, func(s *subject) {
			for _, key := range keys {
				for _, input := range key {
					s.inputs.get(strings.TrimPrefix(input, "!"))
				}
			}
		})
	}
}

// TestEveryTypeIsKnown holds the rules to the types that the stand-in of AWS knows, which are those that programs here use.
func TestEveryTypeIsKnown(t *testing.T) {
	covered, err := Covered()
	require.NoError(t, err)
	var without []string
	for _, typ := range standin.Types() {
		if strings.HasPrefix(typ, "aws:") && !slices.Contains(covered, typ) {
			without = append(without, typ)
		}
	}
	assert.Equal(t, slices.Sorted(maps.Keys(schemaOnly)), without, "these types have no rule but the provider's schema")
	for _, typ := range covered {
		assert.True(t, standin.Known(typ), "%s: the stand-in does not know this type", typ)
	}
}

// schemaOnly are types of which there is nothing else to say: their inputs are identifiers of others.
var schemaOnly = map[string]bool{
	"aws:ec2/internetGateway:InternetGateway":             true,
	"aws:ec2/networkAclAssociation:NetworkAclAssociation": true,
}
