package rules

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Describer is an Unmarshaler that tells Schema which documents it takes, as
// JSON Schema 2020-12. Values of the map may be what TypeSchema returns, at any
// depth, where a part is decoded by fields. The method is called on a zero value.
type Describer interface {
	JSONSchema() map[string]any
}

// SchemaOptions are the words of a schema that its types do not know.
type SchemaOptions struct {
	ID          string // $id, the URL by which editors know the schema
	Title       string // title
	Description string // description
}

// typeSchema stands for the schema of a type in what a Describer returns.
type typeSchema struct {
	typ    reflect.Type
	single bool
}

// TypeSchema stands for the schema of T in what a Describer returns. It must not
// be changed or marshaled.
func TypeSchema[T any]() any { return typeSchema{typ: reflect.TypeFor[T]()} }

// TypeSchemaSingle is TypeSchema of a slice type that is decoded with
// DecodeSingle.
func TypeSchemaSingle[T any]() any { return typeSchema{typ: reflect.TypeFor[T](), single: true} }

// Schema returns a JSON Schema (2020-12) of the documents that Decode reads into
// a struct like root: the same keys, the same types, no others. It consists of
// maps, slices, strings, numbers and truth values, and can be marshaled.
//
// What a schema cannot say stays with Decode: bounds of durations and sizes, and
// what lies in the notation (quotes, duplicate keys, aliases, decimal digits).
func Schema(root any, o SchemaOptions) map[string]any {
	t := reflect.TypeOf(root)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("rules: the schema of %v, which is no struct", t))
	}
	g := generator{defs: make(map[string]any), names: make(map[reflect.Type]string)}
	s := map[string]any{"$schema": "https://json-schema.org/draft/2020-12/schema"}
	for key, value := range map[string]string{"$id": o.ID, "title": o.Title, "description": o.Description} {
		if value != "" {
			s[key] = value
		}
	}
	maps.Copy(s, g.schema(t, options{}))
	s["$defs"] = g.defs
	return s
}

type generator struct {
	defs  map[string]any
	names map[reflect.Type]string
}

func (g *generator) schema(t reflect.Type, o options) map[string]any {
	if t == typeNode {
		return map[string]any{"not": map[string]any{"type": "null"}}
	}
	if t.Kind() == reflect.Pointer {
		return g.schema(t.Elem(), o)
	}
	switch value := reflect.New(t).Interface().(type) {
	case locator:
		v, _ := t.FieldByName("Value")
		return g.schema(v.Type, o)
	case Unmarshaler:
		d, ok := value.(Describer)
		if !ok {
			panic(fmt.Sprintf("rules: %v decodes itself and has no method JSONSchema", t))
		}
		return g.named(t, func() map[string]any { return g.resolve(d.JSONSchema()).(map[string]any) })
	}
	switch t {
	case typeDuration:
		return map[string]any{"type": "string", "pattern": durationPattern, "minLength": 2}
	case typeSize:
		return map[string]any{"type": "string", "pattern": sizePattern}
	}
	switch t.Kind() {
	case reflect.Struct:
		return g.named(t, func() map[string]any { return g.structSchema(t) })
	case reflect.Map:
		o.single = false
		return map[string]any{"type": "object", "additionalProperties": g.schema(t.Elem(), o)}
	case reflect.Slice:
		single := o.single
		o.single = false
		item := g.schema(t.Elem(), o)
		list := map[string]any{"type": "array", "items": item}
		if single {
			return map[string]any{"anyOf": []any{item, list}}
		}
		return list
	case reflect.String:
		s := map[string]any{"type": "string"}
		if len(o.enum) > 0 {
			enum := make([]any, len(o.enum))
			for i, e := range o.enum {
				enum[i] = e
			}
			s["enum"] = enum
		}
		return s
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float64:
		return bounds(map[string]any{"type": "number"}, o)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return intBounds(t, o, true)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return intBounds(t, o, false)
	}
	panic(fmt.Sprintf("rules: the schema of %v is not supported", t))
}

// named puts the schema of a type with a name into the definitions, so that
// types may contain themselves, and returns a reference to it.
func (g *generator) named(t reflect.Type, describe func() map[string]any) map[string]any {
	if t.Name() == "" {
		return describe()
	}
	name, ok := g.names[t]
	if !ok {
		name = g.defName(t)
		g.names[t] = name
		g.defs[name] = nil // takes the name while the type is described
		g.defs[name] = describe()
	}
	return map[string]any{"$ref": "#/$defs/" + name}
}

// defName returns a free name for a type, without the signs that mean something
// in a reference.
func (g *generator) defName(t reflect.Type) string {
	base := strings.Map(func(r rune) rune {
		if strings.ContainsRune("/[]*~%#, ", r) {
			return '_'
		}
		return r
	}, t.String())
	name := base
	for i := 2; ; i++ {
		if _, taken := g.defs[name]; !taken {
			return name
		}
		name = base + "_" + strconv.Itoa(i)
	}
}

func (g *generator) structSchema(t reflect.Type) map[string]any {
	properties := make(map[string]any)
	var required []any
	for _, f := range fieldsOf(t).list {
		s := g.schema(f.typ, f.options)
		if f.doc != "" {
			s["description"] = f.doc
		}
		properties[f.name] = s
		if f.required {
			required = append(required, f.name)
		}
	}
	s := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if required != nil {
		s["required"] = required
	}
	return s
}

// resolve replaces what TypeSchema has left in a hand-written schema. It copies,
// so that a Describer may return a shared map.
func (g *generator) resolve(v any) any {
	switch v := v.(type) {
	case typeSchema:
		return g.schema(v.typ, options{single: v.single})
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, value := range v {
			m[key] = g.resolve(value)
		}
		return m
	case []any:
		s := make([]any, len(v))
		for i, value := range v {
			s[i] = g.resolve(value)
		}
		return s
	case []map[string]any:
		s := make([]any, len(v))
		for i, value := range v {
			s[i] = g.resolve(value)
		}
		return s
	case []string:
		s := make([]any, len(v))
		for i, value := range v {
			s[i] = value
		}
		return s
	}
	return v
}

// bounds adds the bounds of the tags.
func bounds(s map[string]any, o options) map[string]any {
	parse := func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }
	if o.min != "" {
		s["minimum"] = bound(o.min, 0, parse)
	}
	if o.max != "" {
		s["maximum"] = bound(o.max, 0, parse)
	}
	return s
}

// intBounds describes an integer. Types of 64 bits have bounds that JSON numbers
// do not hold exactly, and get none but those of their tags.
func intBounds(t reflect.Type, o options, signed bool) map[string]any {
	s := map[string]any{"type": "integer"}
	bits := t.Bits()
	if !signed {
		s["minimum"] = float64(0)
	}
	if bits < 64 {
		if signed {
			s["minimum"], s["maximum"] = -math.Ldexp(1, bits-1), math.Ldexp(1, bits-1)-1
		} else {
			s["maximum"] = math.Ldexp(1, bits) - 1
		}
	}
	return bounds(s, o)
}
