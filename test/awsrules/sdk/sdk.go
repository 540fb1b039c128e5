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
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
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

type pkg struct {
	structs map[string]*ast.StructType
	// named are types that are no structures, such as the strings of an enumeration.
	named map[string]ast.Expr
	built map[string]*Type
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
	tree, err := parse(filepath.Join(s.dir, module, file+".go"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", typ, err)
	}
	own := collect(tree)
	name := strings.ToLower(parts[2][:1]) + parts[2][1:] + "Args"
	fields, ok := own.structs[name]
	if !ok {
		return nil, fmt.Errorf("%s: the SDK has no structure %s", typ, name)
	}
	t := p.object(fields)
	for _, required := range requiredArguments(tree) {
		for _, property := range t.Properties {
			if strings.EqualFold(property.Name, required) {
				property.Required = true
			}
		}
	}
	s.types[typ] = t
	return t, nil
}

// pkg parses the nested types of one package.
func (s *SDK) pkg(module string) (*pkg, error) {
	if p, ok := s.packages[module]; ok {
		return p, nil
	}
	p := &pkg{structs: map[string]*ast.StructType{}, named: map[string]ast.Expr{}, built: map[string]*Type{}}
	// The types of large packages are in several files.
	files, err := filepath.Glob(filepath.Join(s.dir, module, "pulumi*.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		tree, err := parse(file)
		if err != nil {
			return nil, err
		}
		found := collect(tree)
		for name, fields := range found.structs {
			p.structs[name] = fields
		}
		for name, expr := range found.named {
			p.named[name] = expr
		}
	}
	s.packages[module] = p
	return p, nil
}

func parse(file string) (*ast.File, error) {
	source, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parser.ParseFile(token.NewFileSet(), file, source, parser.ParseComments|parser.SkipObjectResolution)
}

func collect(tree *ast.File) *pkg {
	p := &pkg{structs: map[string]*ast.StructType{}, named: map[string]ast.Expr{}}
	for _, decl := range tree.Decls {
		general, ok := decl.(*ast.GenDecl)
		if !ok || general.Tok != token.TYPE {
			continue
		}
		for _, spec := range general.Specs {
			named, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			if fields, ok := named.Type.(*ast.StructType); ok {
				p.structs[named.Name.Name] = fields
			} else {
				p.named[named.Name.Name] = named.Type
			}
		}
	}
	return p
}

// requiredArguments are the names that the constructor of a resource refuses to do without. The structures do not tell for lists.
func requiredArguments(tree *ast.File) []string {
	const before = "invalid value for required argument '"
	var names []string
	ast.Inspect(tree, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text := strings.Trim(literal.Value, `"`); strings.HasPrefix(text, before) {
				names = append(names, strings.TrimSuffix(strings.TrimPrefix(text, before), "'"))
			}
		}
		return true
	})
	return names
}

// object makes a Type of a structure.
func (p *pkg) object(fields *ast.StructType) *Type {
	t := &Type{Kind: Object, Properties: map[string]*Property{}}
	p.fill(t, fields)
	return t
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
			// For lists and the like, see requiredArguments; in nested structures nothing tells.
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
		if fields, ok := p.structs[e.Name]; ok {
			t := &Type{Kind: Object, Properties: map[string]*Property{}}
			p.built[e.Name] = t // before its fields, which may be of the same type
			p.fill(t, fields)
			return t
		}
		if named, ok := p.named[e.Name]; ok {
			return p.typeOf(named)
		}
	}
	return &Type{Kind: Any}
}
