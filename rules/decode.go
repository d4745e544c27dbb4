package rules

import (
	"fmt"
	"reflect"
)

// Decode reads one YAML document into the struct that into points to, strictly,
// and returns every fault in order of place; nil if there is none. file is the
// name that the places carry. After a fault the struct holds what could be read
// and must not be used.
//
// Fields carry the tag yaml:"key", with the options
//
//	required   the key must be written
//	single     a list may be written as its only item, without brackets
//	secret     no message repeats the value
//
// and the tags enum:"a|b|c" (for strings), min and max (for whole numbers,
// durations and sizes) and doc (a description for Schema). yaml:"-" leaves a
// field out; embedded structs without a tag give their fields to the outer one.
// enum, min, max and secret hold for the items of lists and maps too.
//
// Decode fills strings, bool, integers, floats, time.Duration, Size, slices,
// maps with string keys, pointers (nil if the key was not written), structs,
// Located, *Node and everything that implements Unmarshaler. Fields that are not
// written keep the value that they have, so that defaults are set before.
//
// Stricter than YAML: a key that no field has, a key that stands twice, a key
// without a value, a second document, tags, merge keys, and a number or truth
// value where a string is wanted are faults. Plain NO, yes, on and dates are
// strings. Whole numbers are decimal.
//
// It panics if into is no pointer to a struct or holds a type that it cannot
// fill, whatever the document.
func Decode(file string, data []byte, into any) Errors {
	v := pointee(into)
	if v.Kind() != reflect.Struct {
		panic(fmt.Sprintf("rules: Decode into %T, which is no pointer to a struct", into))
	}
	n, errs := parse(file, data)
	if n != nil {
		errs = append(errs, n.decode(v, options{})...)
	}
	return errs.report()
}

func pointee(into any) reflect.Value {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic(fmt.Sprintf("rules: decoding into %T, which is no pointer", into))
	}
	return v.Elem()
}

// report sorts the faults, drops those that an alias has repeated, and bounds
// them.
func (e Errors) report() Errors {
	type key struct {
		pos Position
		msg string
	}
	e.Sort()
	var out Errors
	seen := make(map[key]bool)
	dropped := 0
	for _, err := range e {
		k := key{err.Pos, err.Msg}
		switch {
		case seen[k]:
		case len(out) == MaxFaults:
			dropped++
		default:
			seen[k] = true
			out = append(out, err)
		}
	}
	if dropped > 0 {
		last := out[len(out)-1]
		out.Add(last.Pos, "", "", "%d more faults behind this place", dropped)
	}
	return out
}

// decode fills v.
func (n *Node) decode(v reflect.Value, o options) Errors {
	t := v.Type()
	if t == typeNode {
		v.Set(reflect.ValueOf(n))
		return nil
	}
	if n.IsNull() {
		return Errors{n.missing(t, o)}
	}
	if t.Kind() == reflect.Pointer {
		target := reflect.New(t.Elem())
		v.Set(target)
		return n.decode(target.Elem(), o)
	}
	switch target := v.Addr().Interface().(type) {
	case locator:
		return n.decode(reflect.ValueOf(target.locate(n)).Elem(), o)
	case Unmarshaler:
		return target.UnmarshalRules(n)
	}
	switch t.Kind() {
	case reflect.Struct:
		return n.decodeStruct(v, o)
	case reflect.Map:
		return n.decodeMap(v, o)
	case reflect.Slice:
		return n.decodeSlice(v, o)
	}
	return n.decodeScalar(v, o)
}

// missing is the fault of a key without a value, which could mean "none" as well
// as "forgotten".
func (n *Node) missing(t reflect.Type, o options) *Error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	hint := "write one or remove it"
	switch t.Kind() {
	case reflect.Slice:
		hint = "write a list, [] if it is empty, or remove the key"
	case reflect.Map:
		hint = "write a mapping, {} if it is empty, or remove the key"
	}
	return n.Errorf(hint, "a value is missing, expected %s", expects(t, o))
}

func (n *Node) decodeStruct(v reflect.Value, o options) Errors {
	if n.Kind() != Mapping {
		return n.Expected(expects(v.Type(), o), "")
	}
	var errs Errors
	fields := fieldsOf(v.Type())
	written := make([]bool, len(fields.list))
	for _, e := range n.Entries() {
		name := e.Key.String()
		i, ok := fields.index[name]
		if !ok {
			errs = append(errs, &Error{Pos: e.Key.Pos(), Path: e.Key.Path(),
				Msg: "unknown key " + quote(name), Hint: Suggest(name, fields.names)})
			continue
		}
		written[i] = true
		f := &fields.list[i]
		fo := f.options
		fo.secret = fo.secret || o.secret
		errs = append(errs, e.Value.decode(v.FieldByIndex(f.index), fo)...)
	}
	for i, f := range fields.list {
		if f.required && !written[i] {
			errs = append(errs, n.Errorf("add "+f.name+": ...", "the key %q is missing", f.name))
		}
	}
	return errs
}

func (n *Node) decodeMap(v reflect.Value, o options) Errors {
	t := v.Type()
	if t.Key().Kind() != reflect.String {
		panic(fmt.Sprintf("rules: decoding into %v, whose keys are no strings", t))
	}
	if n.Kind() != Mapping {
		return n.Expected("a mapping", "")
	}
	o.single = false
	var errs Errors
	entries := n.Entries()
	m := reflect.MakeMapWithSize(t, len(entries))
	for _, e := range entries {
		value := reflect.New(t.Elem()).Elem()
		errs = append(errs, e.Value.decode(value, o)...)
		m.SetMapIndex(reflect.ValueOf(e.Key.String()).Convert(t.Key()), value)
	}
	v.Set(m)
	return errs
}

func (n *Node) decodeSlice(v reflect.Value, o options) Errors {
	t := v.Type()
	single := o.single
	o.single = false
	if n.Kind() != List {
		if !single {
			hint := ""
			if n.Kind() == Scalar && n.IsString() && !o.secret && n.y.Style == 0 {
				hint = "write [" + clip(n.String()) + "]"
			}
			return n.Expected("a list", hint)
		}
		item := reflect.New(t.Elem()).Elem()
		errs := n.decode(item, o)
		v.Set(reflect.Append(reflect.MakeSlice(t, 0, 1), item))
		return errs
	}
	var errs Errors
	items := n.Items()
	s := reflect.MakeSlice(t, len(items), len(items))
	for i, item := range items {
		errs = append(errs, item.decode(s.Index(i), o)...)
	}
	v.Set(s)
	return errs
}
