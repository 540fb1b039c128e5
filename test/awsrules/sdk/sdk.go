// Package sdk reads what the Go SDK of the AWS provider says of a resource's inputs, from the SDK's sources.
//
// The sources are generated from the provider's own schema: which inputs there are, of which type, and which of them are required.
// The Go compiler holds a program to the types, but to nothing else: a required field of a nested structure may be left out, and a
// value given as plain pulumi.Any or through a map is not looked at.
//
// In: a type token, such as aws:kms/key:Key. Out: the Type of its inputs. Packages are parsed once, when they are first asked for;
// nothing is compiled, because compiling them takes minutes.
package sdk

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Module is the module of the SDK.
const Module = "github.com/pulumi/pulumi-aws/sdk/v6"

// Kind is the kind of a value.
type Kind string

// The kinds. Any is a value that may be of several kinds, such as a policy as text or as an object.
const (
	String Kind = "string"
	Number Kind = "number"
	Bool   Kind = "boolean"
	List   Kind = "list"
	Map    Kind = "map"
	Object Kind = "object"
	Any    Kind = "any"
)

// Type is the type of a value.
type Type struct {
	Kind Kind
	// Element is the type of a list's or map's elements.
	Element *Type
	// Properties are those of an object, by name.
	Properties map[string]*Property
}

// Property is one input of a resource, or one field of a nested object.
type Property struct {
	Name     string
	Type     *Type
	Required bool
	// Doc is the SDK's comment.
	Doc string
}

// Names lists the properties, sorted.
func (t *Type) Names() []string {
	names := make([]string, 0, len(t.Properties))
	for name := range t.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// SDK is a source tree of the SDK.
type SDK struct {
	dir      string
	mu       sync.Mutex
	packages map[string]*pkg
	types    map[string]*Type
}

// pkg are the types of one package.
type pkg struct {
	// source are the declarations, by name, not parsed yet: there are many more than anybody asks for.
	source map[string]string
	built  map[string]*Type
}

// Find returns the SDK that the module of the current folder requires.
func Find() (*SDK, error) {
	dir, err := folder()
	if err == nil && dir == "" { // required, but not downloaded
		if out, err := exec.CommandContext(context.Background(), "go", "mod", "download", Module).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("download of %s: %w: %s", Module, err, out)
		}
		dir, err = folder()
	}
	if err != nil {
		return nil, fmt.Errorf("where is %s: %w", Module, err)
	}
	return &SDK{dir: filepath.Join(dir, "go", "aws"), packages: map[string]*pkg{}, types: map[string]*Type{}}, nil
}

func folder() (string, error) {
	out, err := exec.CommandContext(context.Background(), "go", "list", "-m", "-f", "{{.Dir}}", Module).Output()
	return strings.TrimSpace(string(out)), err
}

// Inputs returns the inputs of the type with the given token. The provider itself is no type of the SDK.
func (s *SDK) Inputs(typ string) (*Type, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.types[typ]; ok {
		return t, nil
	}
	parts := strings.Split(typ, ":")
	if len(parts) != 3 || parts[0] != "aws" {
		return nil, fmt.Errorf("%s: not a type of AWS", typ)
	}
	module, file, ok := strings.Cut(parts[1], "/")
	if !ok {
		return nil, fmt.Errorf("%s: not a type of AWS", typ)
	}
	p, err := s.pkg(module)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", typ, err)
	}
	text, own, err := read(filepath.Join(s.dir, module, file+".go"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", typ, err)
	}
	name := strings.ToLower(parts[2][:1]) + parts[2][1:] + "Args"
	declaration, ok := own[name]
	if !ok {
		return nil, fmt.Errorf("%s: the SDK has no structure %s", typ, name)
	}
	t := &Type{Kind: Object, Properties: map[string]*Property{}}
	if err := p.declared(t, declaration); err != nil {
		return nil, fmt.Errorf("%s: %w", typ, err)
	}
	// What the constructor refuses to do without. The structures do not tell for lists.
	for _, required := range demand.FindAllStringSubmatch(text, -1) {
		for _, property := range t.Properties {
			if strings.EqualFold(property.Name, required[1]) {
				property.Required = true
			}
		}
	}
	s.types[typ] = t
	return t, nil
}

var demand = regexp.MustCompile(`"invalid value for required argument '(\w+)'"`)

// pkg reads the nested types of one package.
func (s *SDK) pkg(module string) (*pkg, error) {
	if p, ok := s.packages[module]; ok {
		return p, nil
	}
	p := &pkg{source: map[string]string{}, built: map[string]*Type{}}
	// The types of large packages are in several files.
	files, err := filepath.Glob(filepath.Join(s.dir, module, "pulumi*.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		_, found, err := read(file)
		if err != nil {
			return nil, err
		}
		maps.Copy(p.source, found)
	}
	s.packages[module] = p
	return p, nil
}

// read returns a file and the type declarations in it, by name. The files are formatted, so a declaration that has a brace ends with
// one at the beginning of a line.
func read(file string) (text string, declarations map[string]string, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", nil, err
	}
	text, declarations = string(data), map[string]string{}
	for rest := text; ; {
		_, after, ok := strings.Cut(rest, "\ntype ")
		if !ok {
			return text, declarations, nil
		}
		end := strings.Index(after, "\n")
		if end < 0 {
			return text, declarations, nil
		}
		if strings.HasSuffix(after[:end], "{") {
			if end = strings.Index(after, "\n}"); end < 0 {
				return "", nil, fmt.Errorf("%s: a declaration does not end", file)
			}
			end += 2
		}
		name, _, _ := strings.Cut(after[:end], " ")
		declarations[name] = after[:end]
		rest = after[end:]
	}
}

// declared fills a type from a declaration, or makes it that of the type that the declaration names.
func (p *pkg) declared(t *Type, declaration string) error {
	tree, err := parser.ParseFile(token.NewFileSet(), "", "package p\ntype "+declaration, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	general, ok := tree.Decls[0].(*ast.GenDecl)
	if !ok {
		return fmt.Errorf("no declaration of a type: %s", declaration)
	}
	named, ok := general.Specs[0].(*ast.TypeSpec)
	if !ok {
		return fmt.Errorf("no declaration of a type: %s", declaration)
	}
	if fields, ok := named.Type.(*ast.StructType); ok {
		t.Kind, t.Properties = Object, map[string]*Property{}
		p.fill(t, fields)
		return nil
	}
	*t = *p.typeOf(named.Type)
	return nil
}

func (p *pkg) fill(t *Type, fields *ast.StructType) {
	for _, field := range fields.Fields.List {
		if field.Tag == nil {
			continue
		}
		name := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("pulumi")
		if name == "" {
			continue
		}
		property := &Property{Name: name, Type: p.typeOf(field.Type), Required: true, Doc: strings.TrimSpace(field.Doc.Text())}
		switch field.Type.(type) {
		case *ast.StarExpr, *ast.ArrayType, *ast.MapType, *ast.InterfaceType:
			// Lists and maps of a resource are looked up in its constructor; in nested structures nothing tells.
			property.Required = false
		}
		t.Properties[name] = property
	}
}

func (p *pkg) typeOf(expr ast.Expr) *Type {
	switch e := expr.(type) {
	case *ast.StarExpr:
		return p.typeOf(e.X)
	case *ast.ArrayType:
		return &Type{Kind: List, Element: p.typeOf(e.Elt)}
	case *ast.MapType:
		return &Type{Kind: Map, Element: p.typeOf(e.Value)}
	case *ast.Ident:
		switch e.Name {
		case "string":
			return &Type{Kind: String}
		case "int", "float64":
			return &Type{Kind: Number}
		case "bool":
			return &Type{Kind: Bool}
		}
		if t, ok := p.built[e.Name]; ok {
			return t
		}
		if declaration, ok := p.source[e.Name]; ok {
			t := &Type{Kind: Any}
			p.built[e.Name] = t // before its fields, which may be of the same type
			if err := p.declared(t, declaration); err == nil {
				return t
			}
		}
	}
	return &Type{Kind: Any}
}
