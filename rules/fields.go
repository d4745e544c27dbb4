package rules

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// Unmarshaler is a type that decodes itself, for values that have more than one
// form. It returns every fault that it finds, with the places that n and its
// children give. It is not called for a key without a value, which is always a
// fault.
//
// A type that Schema meets must also describe itself with Describer.
type Unmarshaler interface {
	UnmarshalRules(n *Node) Errors
}

// locator is *Located[T].
type locator interface {
	locate(n *Node) any
}

// locate fills the place and returns a pointer to the value.
func (l *Located[T]) locate(n *Node) any {
	l.Pos, l.Path = n.Pos(), n.Path()
	return &l.Value
}

// options are what the tags of a field say of its value. They hold for the value
// itself and for the items of a list or map of values.
type options struct {
	enum     []string // the strings that are allowed; nil allows all
	min, max string   // bounds of a number, a duration or a size; empty is none
	single   bool     // a list may be written as its single item
	secret   bool     // the value is never repeated in a message
}

// field is one key of a struct.
type field struct {
	name     string
	doc      string
	index    []int
	typ      reflect.Type
	required bool
	options  options
}

// structFields are the keys that a struct takes, those of embedded structs among
// them.
type structFields struct {
	list  []field
	index map[string]int
	names []string
}

var fieldCache sync.Map // reflect.Type -> *structFields

// fieldsOf reads the tags of a struct. It panics on tags that make no sense:
// those are faults of the program, and the first test finds them.
func fieldsOf(t reflect.Type) *structFields {
	if f, ok := fieldCache.Load(t); ok {
		return f.(*structFields)
	}
	f := &structFields{index: make(map[string]int)}
	f.collect(t, nil)
	for i, fd := range f.list {
		if _, ok := f.index[fd.name]; ok {
			panic(fmt.Sprintf("rules: two fields of %v have the key %q", t, fd.name))
		}
		f.index[fd.name] = i
		f.names = append(f.names, fd.name)
	}
	cached, _ := fieldCache.LoadOrStore(t, f)
	return cached.(*structFields)
}

func (f *structFields) collect(t reflect.Type, index []int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		tag := sf.Tag.Get("yaml")
		at := append(slices.Clone(index), i)
		if sf.Anonymous && tag == "" {
			if sf.Type.Kind() != reflect.Struct {
				panic(fmt.Sprintf("rules: the embedded field %v.%s is no struct", t, sf.Name))
			}
			f.collect(sf.Type, at)
			continue
		}
		if !sf.IsExported() || tag == "-" {
			continue
		}
		name, rest, _ := strings.Cut(tag, ",")
		if name == "" {
			panic(fmt.Sprintf("rules: the field %v.%s has no key in its yaml tag; write yaml:\"-\" to leave it out", t, sf.Name))
		}
		fd := field{name: name, doc: sf.Tag.Get("doc"), index: at, typ: sf.Type}
		for option := range strings.SplitSeq(rest, ",") {
			switch option {
			case "":
			case "required":
				fd.required = true
			case "single":
				fd.options.single = true
			case "secret":
				fd.options.secret = true
			default:
				panic(fmt.Sprintf("rules: the field %v.%s has the unknown option %q", t, sf.Name, option))
			}
		}
		if enum := sf.Tag.Get("enum"); enum != "" {
			fd.options.enum = strings.Split(enum, "|")
		}
		fd.options.min, fd.options.max = sf.Tag.Get("min"), sf.Tag.Get("max")
		f.list = append(f.list, fd)
	}
}

var (
	typeDuration    = reflect.TypeFor[time.Duration]()
	typeSize        = reflect.TypeFor[Size]()
	typeNode        = reflect.TypeFor[*Node]()
	typeUnmarshaler = reflect.TypeFor[Unmarshaler]()
	typeLocator     = reflect.TypeFor[locator]()
)

// expects names what a value of type t must be, as a message says it.
func expects(t reflect.Type, o options) string {
	switch {
	case reflect.PointerTo(t).Implements(typeLocator):
		value, _ := t.FieldByName("Value")
		return expects(value.Type, o)
	case reflect.PointerTo(t).Implements(typeUnmarshaler), t == typeNode:
		return "a value"
	case t == typeDuration:
		return "a duration such as 30s, 5m, 12h or 1d"
	case t == typeSize:
		return "a size such as 64KiB or 1MiB"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return expects(t.Elem(), o)
	case reflect.Slice:
		if o.single {
			return expects(t.Elem(), options{enum: o.enum}) + " or a list"
		}
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a mapping"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		if len(o.enum) > 0 {
			return "one of " + strings.Join(o.enum, ", ")
		}
		return "a string"
	}
	return "a whole number"
}
