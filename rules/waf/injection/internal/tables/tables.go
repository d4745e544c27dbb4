// Package tables reads the data tables out of the source of libinjection-go
// and writes them as Go source. Only the generator and the tests use it.
package tables

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the import path of the library whose answers are reproduced.
const Module = "github.com/corazawaf/libinjection-go"

// Source says where the module's files lie and which version they are.
type Source struct {
	Version string
	Dir     string
}

// Locate asks the go command for the module that the build uses.
func Locate() (Source, error) {
	out, err := exec.Command("go", "list", "-m", "-json", Module).Output()
	if err != nil {
		return Source{}, fmt.Errorf("go list -m %s: %w", Module, err)
	}
	var s Source
	if err := json.Unmarshal(out, &s); err != nil {
		return Source{}, err
	}
	if s.Dir == "" {
		return Source{}, fmt.Errorf("%s is not in the module cache", Module)
	}
	return s, nil
}

// Tables are the lists of the module, each sorted.
type Tables struct {
	// Fingerprints are the forbidden token sequences, in capitals, without
	// the leading '0' that they have in the module.
	Fingerprints []string
	// Keywords holds words, phrases and operators by their category.
	Keywords map[byte][]string
	// Events are the names of event handlers without their "ON".
	Events []string
	// Attributes are the other forbidden attribute names by their kind, which
	// is the name of the module's constant.
	Attributes map[string][]string
	// Tags are the forbidden element names.
	Tags []string
}

// Read parses the module's source in dir. Whatever does not look as expected
// is an error, never skipped.
func Read(dir string) (*Tables, error) {
	t := &Tables{Keywords: map[byte][]string{}, Attributes: map[string][]string{}}
	sqli, err := literal(filepath.Join(dir, "sqli_data.go"), "sqlKeywords")
	if err != nil {
		return nil, err
	}
	for _, e := range sqli.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return nil, fmt.Errorf("sqlKeywords: %T instead of key and value", e)
		}
		key, err := text(kv.Key)
		if err != nil {
			return nil, err
		}
		kind, err := char(kv.Value)
		if err != nil {
			return nil, err
		}
		switch {
		case kind != 'F':
			t.Keywords[kind] = append(t.Keywords[kind], key)
		case len(key) < 2 || key[0] != '0':
			return nil, fmt.Errorf("fingerprint %q does not begin with 0", key)
		default:
			t.Fingerprints = append(t.Fingerprints, key[1:])
		}
	}
	if t.Tags, err = strs(dir, "blackTags"); err != nil {
		return nil, err
	}
	events, err := pairs(dir, "blackEvents")
	if err != nil {
		return nil, err
	}
	for kind, names := range events {
		if kind != "attributeTypeBlack" {
			return nil, fmt.Errorf("blackEvents: %s", kind)
		}
		t.Events = names
	}
	if t.Attributes, err = pairs(dir, "blacks"); err != nil {
		return nil, err
	}
	slices.Sort(t.Fingerprints)
	slices.Sort(t.Events)
	slices.Sort(t.Tags)
	for _, m := range t.Keywords {
		slices.Sort(m)
	}
	for _, m := range t.Attributes {
		slices.Sort(m)
	}
	return t, nil
}

// literal returns the composite literal that initialises the variable name.
func literal(file, name string) (*ast.CompositeLit, error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, s := range g.Specs {
			v, ok := s.(*ast.ValueSpec)
			if !ok || len(v.Names) != 1 || v.Names[0].Name != name || len(v.Values) != 1 {
				continue
			}
			if l, ok := v.Values[0].(*ast.CompositeLit); ok {
				return l, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: no literal for %s", file, name)
}

func text(e ast.Expr) (string, error) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", fmt.Errorf("%T instead of a string", e)
	}
	return strconv.Unquote(l.Value)
}

func char(e ast.Expr) (byte, error) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.CHAR {
		return 0, fmt.Errorf("%T instead of a character", e)
	}
	s, err := strconv.Unquote(l.Value)
	if err != nil {
		return 0, err
	}
	if len(s) != 1 {
		return 0, fmt.Errorf("category %q is no single byte", s)
	}
	return s[0], nil
}

func strs(dir, name string) ([]string, error) {
	l, err := literal(filepath.Join(dir, "xss_decls.go"), name)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(l.Elts))
	for _, e := range l.Elts {
		s, err := text(e)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func pairs(dir, name string) (map[string][]string, error) {
	l, err := literal(filepath.Join(dir, "xss_decls.go"), name)
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, e := range l.Elts {
		c, ok := e.(*ast.CompositeLit)
		if !ok || len(c.Elts) != 2 {
			return nil, fmt.Errorf("%s: an element that is no pair", name)
		}
		s, err := text(c.Elts[0])
		if err != nil {
			return nil, err
		}
		kind, ok := c.Elts[1].(*ast.Ident)
		if !ok {
			return nil, fmt.Errorf("%s: %T instead of a constant", name, c.Elts[1])
		}
		out[kind.Name] = append(out[kind.Name], s)
	}
	return out, nil
}

// Format writes t as the file tables.go.
func Format(version string, t *Tables) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("// Code generated by internal/gentables; DO NOT EDIT.\n\n")
	b.WriteString("// The lists in this file are data of " + Module + " " + version + ",\n")
	b.WriteString("// Copyright (c) 2022-Present, Coraza, under the 3-clause BSD licence of that module.\n\n")
	b.WriteString("package injection\n\n")
	fmt.Fprintf(&b, "// libraryVersion is the version of libinjection-go that the tables and the code agree with.\nconst libraryVersion = %q\n\n", version)
	constant(&b, "fingerprintList", "the token sequences that count as SQL injection", t.Fingerprints)
	b.WriteString("// keywordLists holds the words, phrases and operators of each category.\nvar keywordLists = map[byte]string{\n")
	for _, k := range sortedKeys(t.Keywords) {
		fmt.Fprintf(&b, "%q: \"\" +\n", k)
		lines(&b, t.Keywords[k])
		b.WriteString(",\n")
	}
	b.WriteString("}\n\n")
	constant(&b, "eventList", "the names of event handlers without their \"ON\"", t.Events)
	constant(&b, "tagList", "the names of elements that count as script", t.Tags)
	b.WriteString("// attributeLists holds the other attribute names by kind.\nvar attributeLists = map[attrKind]string{\n")
	for _, k := range sortedKeys(t.Attributes) {
		name, ok := strings.CutPrefix(k, "attributeType")
		if !ok {
			return nil, fmt.Errorf("unknown kind of attribute %q", k)
		}
		fmt.Fprintf(&b, "attr%s: \"\" +\n", name)
		lines(&b, t.Attributes[k])
		b.WriteString(",\n")
	}
	b.WriteString("}\n")
	return format.Source(b.Bytes())
}

func sortedKeys[K interface{ ~byte | ~string }, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func constant(b *bytes.Buffer, name, doc string, list []string) {
	fmt.Fprintf(b, "// %s holds %s, each followed by a line feed.\nconst %s = \"\" +\n", name, doc, name)
	lines(b, list)
	b.WriteString("\n\n")
}

// lines writes list as a sum of string literals of about 100 columns.
func lines(b *bytes.Buffer, list []string) {
	var line strings.Builder
	var out []string
	for _, s := range list {
		if line.Len() > 0 && line.Len()+len(s) > 90 {
			out = append(out, strconv.Quote(line.String()))
			line.Reset()
		}
		line.WriteString(s)
		line.WriteByte('\n')
	}
	if line.Len() > 0 {
		out = append(out, strconv.Quote(line.String()))
	}
	b.WriteString(strings.Join(out, " +\n"))
}
