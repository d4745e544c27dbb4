package rules

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of a document. A policy of a thousand rules is some 100 KiB.
const (
	// MaxDocument is the largest document that Decode reads, in bytes.
	MaxDocument = 4 << 20
	// MaxDepth is how deep lists and mappings may lie in each other.
	MaxDepth = 64
	// MaxExpanded is how many values a document may have once its aliases are
	// followed.
	MaxExpanded = 1 << 18
	// MaxFaults is how many faults Decode reports; further ones are counted.
	MaxFaults = 100
)

// parse turns the text into the node of its only document. It returns nil if the
// document cannot be walked safely; the faults that it returns beside a node are
// of the sort that decoding can go on with.
func parse(file string, data []byte) (*Node, Errors) {
	// A mark of the byte order is not part of the text, and would shift columns.
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if errs := checkText(file, data); errs != nil {
		return nil, errs
	}
	doc, second, err := parseYAML(data)
	if err != nil {
		return nil, Errors{syntaxError(file, data, err)}
	}
	if doc == nil || len(doc.Content) == 0 || emptyDocument(doc.Content[0]) {
		return nil, Errors{{Pos: Position{File: file, Line: 1, Column: 1}, Msg: "the document is empty"}}
	}
	var errs Errors
	if second != nil {
		errs.Add(Position{File: file, Line: second.Line, Column: second.Column}, "",
			"remove the --- line, or put what follows into a file of its own", "a second document begins here")
	}
	c := checker{file: file, open: make(map[*yaml.Node]bool)}
	c.walk(doc.Content[0], "", 1)
	errs = append(errs, c.errs...)
	if c.stop {
		return nil, errs
	}
	return newNode(doc.Content[0], file, ""), errs
}

// emptyDocument reports whether nothing but comments was written.
func emptyDocument(y *yaml.Node) bool {
	return y.Kind == yaml.ScalarNode && y.Tag == tagNull && y.Value == ""
}

// parseYAML returns the first document and the second, if there is one. It turns
// the panics of the YAML package into errors.
func parseYAML(data []byte) (first, second *yaml.Node, err error) {
	defer func() {
		if v := recover(); v != nil {
			first, second, err = nil, nil, fmt.Errorf("yaml: the YAML reader gave up: %v", v)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var docs [2]*yaml.Node
	for i := range docs {
		var n yaml.Node
		if err := dec.Decode(&n); err == io.EOF {
			break
		} else if err != nil {
			return nil, nil, err
		}
		docs[i] = &n
	}
	return docs[0], docs[1], nil
}

// checkText refuses what is not text, or what two readers would count lines of
// differently. It reports one fault: after it the rest means little.
func checkText(file string, data []byte) Errors {
	if len(data) > MaxDocument {
		return Errors{{Pos: Position{File: file, Line: 1, Column: 1},
			Msg:  fmt.Sprintf("the document has %d bytes, more than the %d that are read", len(data), MaxDocument),
			Hint: "put long lists into files of their own"}}
	}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		var msg, hint string
		switch {
		case r == utf8.RuneError && size == 1:
			msg, hint = fmt.Sprintf("byte 0x%02x is not UTF-8", data[i]), "save the file as UTF-8"
		case r == 0:
			msg, hint = "a NUL byte", "save the file as UTF-8 text"
		case r == '\r' && (i+1 == len(data) || data[i+1] != '\n'):
			msg, hint = "a carriage return that ends no line", "end lines with a line feed"
		case r == '\u0085' || r == '\u2028' || r == '\u2029':
			msg, hint = fmt.Sprintf("the line separator %U", r), "end lines with a line feed"
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r <= 0x9f, r == '\ufeff', r == '\ufffe', r == '\uffff':
			msg, hint = fmt.Sprintf("the control character %U", r), "remove it, or write it as an escape in double quotes"
		}
		if msg != "" {
			return Errors{{Pos: positionAt(file, data, i), Msg: msg, Hint: hint}}
		}
		i += size
	}
	return nil
}

// positionAt returns the place of a byte of the text, columns in runes.
func positionAt(file string, data []byte, offset int) Position {
	before := data[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return Position{File: file, Line: 1 + bytes.Count(before, []byte{'\n'}), Column: 1 + utf8.RuneCount(before[start:])}
}

// maxColumnSearch is the size up to which the column of a syntax error is searched.
const maxColumnSearch = 256 << 10

// syntaxError finds the place of an error of the YAML package. The package tells
// a line at most, and often the one in which the surrounding block begins. But it
// reads from front to back, so the shortest beginning of the text that fails in
// the same way ends where the fault is.
func syntaxError(file string, data []byte, cause error) *Error {
	text := cause.Error()
	fails := func(n int) bool {
		_, _, err := parseYAML(data[:n])
		return err != nil && err.Error() == text
	}
	ends := lineEnds(data)
	line := sort.Search(len(ends)-1, func(i int) bool { return fails(ends[i]) })
	start, end := 0, ends[line]
	if line > 0 {
		start = ends[line-1]
	}
	end = start + len(bytes.TrimRight(data[start:end], "\r\n"))
	column := 1
	if len(data) <= maxColumnSearch {
		n := sort.Search(end-start, func(i int) bool { return fails(start + i) })
		column = max(utf8.RuneCount(data[start:start+n]), 1)
	}
	msg, hint := syntaxMessage(text, string(data[start:end]))
	return &Error{Pos: Position{File: file, Line: line + 1, Column: column}, Msg: msg, Hint: hint}
}

// lineEnds returns the offset after each line. A last line without a line feed
// counts, and so does the only line of an empty text.
func lineEnds(data []byte) []int {
	var ends []int
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	if len(ends) == 0 || ends[len(ends)-1] != len(data) {
		ends = append(ends, len(data))
	}
	return ends
}

var (
	yamlPrefix    = regexp.MustCompile(`^yaml: (line \d+: )?`)
	unknownAnchor = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
)

// syntaxMessage puts an error of the YAML package into an operator's words.
func syntaxMessage(text, line string) (msg, hint string) {
	msg = yamlPrefix.ReplaceAllString(text, "")
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t-"))]
	if strings.Contains(indent, "\t") {
		return "a tab in the indentation", "YAML is indented with spaces"
	}
	if m := unknownAnchor.FindStringSubmatch(msg); m != nil {
		return "the alias *" + clip(m[1]) + " has no anchor &" + clip(m[1]) + " before it", "quote a value that is to begin with *"
	}
	switch {
	case strings.Contains(msg, "mapping values are not allowed"):
		hint = `quote a value that holds ": "; check the indentation of this line and the one before`
	case strings.Contains(msg, "cannot start any token"):
		hint = "quote a value that begins with @, `, % or a tab"
	case strings.Contains(msg, "did not find expected ',' or ']'"):
		hint = "a [ before this place is not closed, or a comma is missing"
	case strings.Contains(msg, "did not find expected ',' or '}'"):
		hint = "a { before this place is not closed, or a comma is missing"
	case strings.Contains(msg, "did not find expected key"), strings.Contains(msg, "did not find expected '-' indicator"):
		hint = "check the indentation of this line against the lines before it"
	case strings.Contains(msg, "could not find expected ':'"):
		hint = "a key needs a colon and a space behind it"
	case strings.Contains(msg, "alphabetic or numeric character"):
		hint = "quote a value that begins with *, & or !"
	case strings.Contains(msg, "unexpected end of stream"), strings.Contains(msg, "unexpected document indicator"):
		hint = "a quote is not closed"
	}
	return "not YAML: " + msg, hint
}

// checker walks a document before it is decoded and finds what is wrong with it
// whatever it means: bounds, cycles, tags, keys.
type checker struct {
	file  string
	errs  Errors
	open  map[*yaml.Node]bool // anchors that are being walked
	count int
	stop  bool // the document must not be walked further
}

func (c *checker) walk(y *yaml.Node, path string, depth int) {
	if c.stop {
		return
	}
	pos := Position{File: c.file, Line: y.Line, Column: y.Column}
	if c.count++; c.count > MaxExpanded {
		c.fatal(pos, path, "use fewer aliases, or put long lists into files of their own",
			"the document has more than %d values", MaxExpanded)
		return
	}
	if depth > MaxDepth {
		c.fatal(pos, path, "", "lists and mappings lie more than %d deep in each other", MaxDepth)
		return
	}
	if y.Kind == yaml.AliasNode {
		if c.open[y.Alias] {
			c.fatal(pos, path, "", "the alias *%s stands inside its own anchor", clip(y.Value))
			return
		}
		c.walk(y.Alias, path, depth)
		return
	}
	if y.Anchor != "" {
		c.open[y] = true
		defer delete(c.open, y)
	}
	if y.Style&yaml.TaggedStyle != 0 {
		c.errs.Add(pos, path, "leave the tag out; quote the value if it is to be a string", "tags such as %s are not read here", clip(y.Tag))
	}
	switch y.Kind {
	case yaml.SequenceNode:
		for i, item := range y.Content {
			c.walk(item, path+"["+strconv.Itoa(i)+"]", depth+1)
		}
	case yaml.MappingNode:
		c.walkMapping(y, path, depth)
	}
	// The bounds hold for what was walked; the faults need no more room than
	// what is reported of them.
	if len(c.errs) > 4*MaxFaults {
		c.stop = true
	}
}

func (c *checker) walkMapping(y *yaml.Node, path string, depth int) {
	first := make(map[string]*yaml.Node, len(y.Content)/2)
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		pos := Position{File: c.file, Line: key.Line, Column: key.Column}
		text, ok := keyText(key)
		if !ok {
			c.badKey(key, pos, path)
			continue
		}
		keyPath := joinPath(path, text)
		if key.Style&yaml.TaggedStyle != 0 {
			c.errs.Add(pos, keyPath, "leave the tag out", "tags such as %s are not read here", clip(key.Tag))
		}
		if before := first[text]; before != nil {
			c.errs.Add(pos, keyPath, "remove one of the two", "duplicate key %s, first in line %d", quote(text), before.Line)
			continue
		}
		first[text] = key
		c.walk(value, keyPath, depth+1)
	}
}

func (c *checker) badKey(key *yaml.Node, pos Position, path string) {
	for range 2 {
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
	}
	switch {
	case key.Kind != yaml.ScalarNode:
		c.errs.Add(pos, path, "a key is a plain or quoted string", "a list or a mapping stands in the place of a key")
	case key.Tag == tagMerge:
		c.errs.Add(pos, path, "write the keys out", "merge keys (<<) are not read here")
	case key.Tag == tagNull:
		c.errs.Add(pos, path, `write a key before the colon`, "a key is missing")
	case key.Style&yaml.TaggedStyle != 0:
		c.errs.Add(pos, path, "leave the tag out", "tags such as %s are not read here", clip(key.Tag))
	default:
		c.errs.Add(pos, path, "quote it: "+quote(key.Value), "the key %s is not a string", clip(key.Value))
	}
}

func (c *checker) fatal(pos Position, path, hint, format string, args ...any) {
	c.errs.Add(pos, path, hint, format, args...)
	c.stop = true
}
