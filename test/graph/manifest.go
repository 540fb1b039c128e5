package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsinstall "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	kjson "k8s.io/apimachinery/pkg/util/json"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/client-go/kubernetes/scheme"
)

// typed knows the kinds of Kubernetes itself, CustomResourceDefinitions among them.
var typed = func() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(scheme.AddToScheme(s))
	apiextensionsinstall.Install(s)
	return s
}()

var strict = serializer.NewCodecFactory(typed, serializer.EnableStrict).UniversalDeserializer()

// groupVersionKind is the kind of a Kubernetes object, from its type token. The
// inputs must not say otherwise.
func (r *Resource) groupVersionKind() (schema.GroupVersionKind, error) {
	parts := strings.Split(r.Type, ":")
	if len(parts) != 3 {
		return schema.GroupVersionKind{}, errors.New("malformed type")
	}
	group, version, ok := strings.Cut(parts[1], "/")
	if !ok {
		return schema.GroupVersionKind{}, errors.New("has no mock")
	}
	if group == "core" {
		group = ""
	}
	kind := schema.GroupVersionKind{Group: group, Version: version, Kind: parts[2]}
	object := r.Object()
	if got := object["apiVersion"]; got != kind.GroupVersion().String() {
		return kind, fmt.Errorf("inputs have apiVersion %v", got)
	}
	if got := object["kind"]; got != kind.Kind {
		return kind, fmt.Errorf("inputs have kind %v", got)
	}
	return kind, nil
}

// definedTokens are the type tokens of the custom resources that a
// CustomResourceDefinition defines.
func definedTokens(r *Resource) []string {
	if r.Kind() != "CustomResourceDefinition" {
		return nil
	}
	definition, err := decodeDefinition(r)
	if err != nil {
		return nil
	}
	var defined []string
	for _, version := range definition.Spec.Versions {
		defined = append(defined, fmt.Sprintf("kubernetes:%s/%s:%s", definition.Spec.Group, version.Name, definition.Spec.Names.Kind))
	}
	return defined
}

func decodeDefinition(r *Resource) (*apiextensionsv1.CustomResourceDefinition, error) {
	object, err := decode(r)
	if err != nil {
		return nil, err
	}
	definition, ok := object.(*apiextensionsv1.CustomResourceDefinition)
	if !ok {
		return nil, fmt.Errorf("decodes to %T", object)
	}
	return definition, nil
}

// decode turns the inputs into the Kubernetes type they stand for. Fields that
// the type does not have, and values of another type, are errors.
func decode(r *Resource) (runtime.Object, error) {
	content, err := json.Marshal(r.Object())
	if err != nil {
		return nil, err
	}
	object, _, err := strict.Decode(content, nil, nil)
	return object, err
}

// ValidManifests finds objects that an API server would refuse or silently cut
// down: fields that do not exist, values of the wrong type, and custom resources
// that break the schema or the rules of their definition.
func ValidManifests(g *Graph) []Finding {
	schemas := map[string]*customSchema{}
	var findings []Finding
	for _, r := range g.OfKind("CustomResourceDefinition") {
		definition, err := decodeDefinition(r)
		if err != nil {
			findings = append(findings, Finding{r, err.Error()})
			continue
		}
		for _, version := range definition.Spec.Versions {
			s, err := newCustomSchema(version.Schema)
			if err != nil {
				findings = append(findings, Finding{r, fmt.Sprintf("schema of %s: %v", version.Name, err)})
				continue
			}
			schemas[fmt.Sprintf("kubernetes:%s/%s:%s", definition.Spec.Group, version.Name, definition.Spec.Names.Kind)] = s
		}
	}
	for _, r := range g.Resources {
		if r.Kind() == "" || !r.Custom || r.Kind() == "CustomResourceDefinition" || elsewhere[r.Type] != "" {
			continue
		}
		if s, ok := schemas[r.Type]; ok {
			for _, problem := range s.validate(r.Object()) {
				findings = append(findings, Finding{r, problem})
			}
			continue
		}
		if _, err := decode(r); err != nil {
			findings = append(findings, Finding{r, err.Error()})
		}
	}
	return findings
}

// customSchema checks custom resources of one version of one definition.
type customSchema struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
}

func newCustomSchema(v *apiextensionsv1.CustomResourceValidation) (*customSchema, error) {
	internal := &apiextensions.CustomResourceValidation{}
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v, internal, nil); err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	return &customSchema{structural: structural, validator: validator, rules: cel.NewValidator(structural, true, celconfig.PerCallLimit)}, nil
}

func (s *customSchema) validate(object map[string]any) []string {
	content, err := json.Marshal(object)
	if err != nil {
		return []string{err.Error()}
	}
	// Decoded again so that numbers have the types that the schema code expects.
	var custom map[string]any
	if err := kjson.Unmarshal(content, &custom); err != nil {
		return []string{err.Error()}
	}
	var problems []string
	options := structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	pruned := pruning.PruneWithOptions(custom, s.structural, true, options)
	for _, path := range slices.Sorted(slices.Values(pruned)) {
		problems = append(problems, fmt.Sprintf("unknown field %q", path))
	}
	defaulting.Default(custom, s.structural)
	for _, err := range validation.ValidateCustomResource(nil, custom, s.validator) {
		problems = append(problems, err.Error())
	}
	if s.rules != nil {
		errs, _ := s.rules.Validate(context.Background(), nil, s.structural, custom, nil, celconfig.RuntimeCELCostBudget)
		for _, err := range errs {
			problems = append(problems, err.Error())
		}
	}
	return problems
}
