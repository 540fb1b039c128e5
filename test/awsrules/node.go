package awsrules

import (
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

type kind int

const (
	unknown kind = iota
	text
	number
	flag
	list
	object
	other // an asset or a reference, of which nothing is checked
)

// node is a value with the path to it.
type node struct {
	kind   kind
	path   string
	text   string
	number float64
	flag   bool
	list   []*node
	fields map[string]*node
	// secret values are checked but not shown.
	secret bool
}

// newNode returns nil for a null, which is as good as absent.
func newNode(v resource.PropertyValue, path string, secret bool) *node {
	n := &node{path: path, secret: secret}
	switch {
	case v.IsNull():
		return nil
	case v.IsSecret():
		return newNode(v.SecretValue().Element, path, true)
	case v.IsOutput():
		out := v.OutputValue()
		if !out.Known {
			return n
		}
		return newNode(out.Element, path, secret || out.Secret)
	case v.IsComputed():
		return n
	case v.IsString():
		n.kind, n.text = text, v.StringValue()
	case v.IsNumber():
		n.kind, n.number = number, v.NumberValue()
	case v.IsBool():
		n.kind, n.flag = flag, v.BoolValue()
	case v.IsArray():
		n.kind = list
		for i, e := range v.ArrayValue() {
			if child := newNode(e, fmt.Sprintf("%s[%d]", path, i), secret); child != nil {
				n.list = append(n.list, child)
			}
		}
	case v.IsObject():
		n.kind, n.fields = object, map[string]*node{}
		for k, e := range v.ObjectValue() {
			if strings.HasPrefix(string(k), "__") { // what Pulumi adds for itself
				continue
			}
			if child := newNode(e, strings.TrimPrefix(path+"."+string(k), "."), secret); child != nil {
				n.fields[string(k)] = child
			}
		}
	default:
		n.kind = other
	}
	return n
}

// missed is told of each field that is looked for and is not there. Only a test sets it, to find rules for inputs that no type has.
var missed func(n *node, field string)

// all returns the values at a path; a list on the way stands for its elements. The last one may be a list itself.
func (n *node) all(path string) []*node {
	if path == "" {
		return []*node{n}
	}
	first, rest, _ := strings.Cut(path, ".")
	var found []*node
	for _, o := range n.elements() {
		if child := o.fields[first]; child != nil {
			found = append(found, child.all(rest)...)
		} else if missed != nil && o.kind == object {
			missed(o, first)
		}
	}
	return found
}

// each is all, with the elements of a list in its place.
func (n *node) each(path string) []*node {
	var found []*node
	for _, v := range n.all(path) {
		found = append(found, v.elements()...)
	}
	return found
}

// elements are those of a list, or the value itself.
func (n *node) elements() []*node {
	if n.kind == list {
		return n.list
	}
	return []*node{n}
}

// get returns the value of a field, or nil.
func (n *node) get(path string) *node {
	if found := n.all(path); len(found) > 0 {
		return found[0]
	}
	return nil
}

// known returns the text of a field; ok is false if it is absent, unknown or no text.
func (n *node) known(path string) (value string, ok bool) {
	if v := n.get(path); v != nil && v.kind == text {
		return v.text, true
	}
	return "", false
}

// amount is known for numbers.
func (n *node) amount(path string) (value float64, ok bool) {
	if v := n.get(path); v != nil && v.kind == number {
		return v.number, true
	}
	return 0, false
}

// is says whether a field has the given text or flag. An unknown one has not.
func (n *node) is(path string, value any) bool {
	v := n.get(path)
	switch value := value.(type) {
	case string:
		return v != nil && v.kind == text && v.text == value
	case bool:
		return v != nil && v.kind == flag && v.flag == value
	}
	return false
}

// set says whether a field is given. To give an empty list is to give none.
func (n *node) set(path string) bool {
	v := n.get(path)
	return v != nil && (v.kind != list || len(v.list) > 0)
}

// show is the value for a message.
func (n *node) show() string {
	switch {
	case n.secret:
		return "a secret"
	case n.kind == unknown:
		return "an unknown value"
	case n.kind == text && len(n.text) > 120:
		return fmt.Sprintf("%q… (%d characters)", n.text[:100], len([]rune(n.text)))
	case n.kind == text:
		return fmt.Sprintf("%q", n.text)
	case n.kind == number:
		return fmt.Sprint(n.number)
	case n.kind == flag:
		return fmt.Sprint(n.flag)
	case n.kind == list:
		return fmt.Sprintf("a list of %d", len(n.list))
	}
	return "an object"
}
