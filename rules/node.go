package rules

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Kind is the form of a value in the document.
type Kind uint8

const (
	// Scalar is a string, a number, a truth value or nothing (null).
	Scalar Kind = iota
	// List is a sequence: [a, b] or one "- item" a line.
	List
	// Mapping is a set of keys with values: {key: value} or one "key: value" a line.
	Mapping
)

// String returns the word for the kind that messages use.
func (k Kind) String() string {
	switch k {
	case List:
		return "list"
	case Mapping:
		return "mapping"
	}
	return "scalar"
}

// Tags of YAML's core schema, as the YAML package resolves them.
const (
	tagString    = "!!str"
	tagTimestamp = "!!timestamp"
	tagMerge     = "!!merge"
	tagNull      = "!!null"
	tagBool      = "!!bool"
	tagInt       = "!!int"
	tagFloat     = "!!float"
)

// Node is a value in a document, with its place. Aliases are already followed:
// the place is that of the alias, the content that of its anchor.
//
// A Node is read-only and is valid as long as anybody holds it. Its methods are
// safe for concurrent use.
type Node struct {
	y    *yaml.Node
	file string
	path string
	line int
	col  int
}

// Entry is a key of a mapping and its value.
type Entry struct {
	// Key is the key; its Path is that of the value.
	Key *Node
	// Value is the value, never nil.
	Value *Node
}

func newNode(y *yaml.Node, file, path string) *Node {
	n := &Node{y: y, file: file, path: path, line: y.Line, col: y.Column}
	for n.y.Kind == yaml.AliasNode {
		n.y = n.y.Alias
	}
	return n
}

// Pos returns the place of the value.
func (n *Node) Pos() Position { return Position{File: n.file, Line: n.line, Column: n.col} }

// Path returns where the value is in the document, such as
// rules[2].match.country. It is empty for the document itself.
func (n *Node) Path() string { return n.path }

// Kind returns the form of the value.
func (n *Node) Kind() Kind {
	switch n.y.Kind {
	case yaml.SequenceNode:
		return List
	case yaml.MappingNode:
		return Mapping
	}
	return Scalar
}

// String returns the text of a scalar as it was written, without quotes and with
// escapes resolved. It is empty for a list and a mapping.
func (n *Node) String() string {
	if n.Kind() == Scalar {
		return n.y.Value
	}
	return ""
}

// IsString reports whether the value is a string: quoted, or plain and nothing
// that YAML reads as a number, as true or false, or as null. NO, yes, on and an
// unquoted date are strings.
func (n *Node) IsString() bool {
	return n.Kind() == Scalar && isStringTag(n.y.Tag)
}

// IsNull reports whether a key has no value: nothing, ~ or null.
func (n *Node) IsNull() bool { return n.Kind() == Scalar && n.y.Tag == tagNull }

func isStringTag(tag string) bool {
	// A date is a string because no field wants one; "<<" is a merge key only
	// in the place of a key.
	return tag == tagString || tag == tagTimestamp || tag == tagMerge
}

// Items returns the items of a list; nil for anything else.
func (n *Node) Items() []*Node {
	if n.Kind() != List {
		return nil
	}
	items := make([]*Node, len(n.y.Content))
	for i, y := range n.y.Content {
		items[i] = newNode(y, n.file, n.path+"["+strconv.Itoa(i)+"]")
	}
	return items
}

// Entries returns the keys of a mapping with their values, in the order in which
// they were written; nil for anything else. Of a key that stands twice it returns
// the first, and it leaves out merge keys and keys that are no strings: Decode
// has already reported those.
func (n *Node) Entries() []Entry {
	if n.Kind() != Mapping {
		return nil
	}
	entries := make([]Entry, 0, len(n.y.Content)/2)
	seen := make(map[string]bool, len(n.y.Content)/2)
	for i := 0; i+1 < len(n.y.Content); i += 2 {
		key := n.y.Content[i]
		text, ok := keyText(key)
		if !ok || seen[text] {
			continue
		}
		seen[text] = true
		path := joinPath(n.path, text)
		entries = append(entries, Entry{
			Key:   newNode(key, n.file, path),
			Value: newNode(n.y.Content[i+1], n.file, path),
		})
	}
	return entries
}

// Get returns the value of a key of a mapping; nil if the key was not written or
// n is no mapping.
func (n *Node) Get(key string) *Node {
	for _, e := range n.Entries() {
		if e.Key.String() == key {
			return e.Value
		}
	}
	return nil
}

// Decode decodes the value into what into points to, by the rules of the package
// function Decode. A type that implements Unmarshaler and decodes into itself
// must do so through a type without the method, or it calls itself for ever:
//
//	type plain T
//	return n.Decode((*plain)(t))
func (n *Node) Decode(into any) Errors {
	return n.decode(pointee(into), options{})
}

// DecodeSingle is Decode for a slice that may also be written as a single item
// without brackets, like a field with the option single.
func (n *Node) DecodeSingle(into any) Errors {
	return n.decode(pointee(into), options{single: true})
}

// Errorf returns a fault at the value's place.
func (n *Node) Errorf(hint, format string, args ...any) *Error {
	return &Error{Pos: n.Pos(), Path: n.path, Hint: hint, Msg: fmt.Sprintf(format, args...)}
}

// Expected returns the fault of a value of the wrong type: "expected what, got
// ...". It tells what was written for a number and a truth value only: a string
// could be a secret.
func (n *Node) Expected(what, hint string) Errors {
	return Errors{n.Errorf(hint, "expected %s, got %s", what, n.describe())}
}

// describe names what was written, without the text of strings.
func (n *Node) describe() string {
	switch n.Kind() {
	case List:
		return "a list"
	case Mapping:
		return "a mapping"
	}
	switch n.y.Tag {
	case tagNull:
		return "nothing"
	case tagBool:
		return n.y.Value
	case tagInt, tagFloat:
		return "the number " + clip(n.y.Value)
	}
	return "a string"
}

// keyText returns the text of a mapping's key; false for a merge key and for a
// key that is no string. A whole number in its usual notation, such as a status, is
// the text that one reads.
func keyText(key *yaml.Node) (string, bool) {
	for key.Kind == yaml.AliasNode {
		key = key.Alias
	}
	if key.Kind != yaml.ScalarNode {
		return "", false
	}
	switch key.Tag {
	case tagString, tagTimestamp:
	case tagInt:
		if !canonicalInt(key.Value) {
			return "", false
		}
	default:
		return "", false
	}
	return key.Value, true
}

// joinPath appends a key to a path. Keys that are no plain names are quoted.
func joinPath(path, key string) string {
	if key == "" || strings.ContainsFunc(key, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	}) {
		return path + "[" + quote(key) + "]"
	}
	if key = clip(key); path == "" {
		return key
	}
	return path + "." + key
}

// maxQuoted bounds what a message repeats of the document, in runes.
const maxQuoted = 60

// clip shortens text for a message.
func clip(s string) string {
	n := 0
	for i := range s {
		if n++; n > maxQuoted {
			return s[:i] + "..."
		}
	}
	return s
}

// quote quotes text for a message, shortened.
func quote(s string) string { return strconv.Quote(clip(s)) }
