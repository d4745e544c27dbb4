package waf

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A GraphQL document looks to the rules like shell and SQL: "user(" is an SQL
// function, "{ node" starts a program. What a client can choose freely in one are
// the values of strings and the comments; all else is names, numbers and the
// punctuation of a grammar that has no place for quotes, angle brackets,
// semicolons or calls. So a document that parses is shown to the rules as its
// strings and comments, and one that does not is shown whole.

// maxSelections bounds the nesting of a document.
const maxSelections = 200

// graphQLValues returns the strings and comments of an executable document
// (GraphQL, October 2021, section 2), decoded; ok is false if doc is no such
// document.
func graphQLValues(doc string) (values []string, ok bool) {
	p := graphQL{rest: doc, values: []string{}}
	p.next()
	p.document()
	return p.values, !p.failed
}

// graphQL is a parser of documents. After a failure it takes nothing more.
type graphQL struct {
	rest   string
	kind   byte   // of the token: a punctuator, or one of the following
	text   string // of a name
	depth  int
	values []string
	failed bool
}

const (
	tokenEnd    byte = 0
	tokenName   byte = 'n'
	tokenNumber byte = '0'
	tokenString byte = '"'
	tokenSpread byte = '.'
)

func (p *graphQL) fail() {
	p.failed, p.kind, p.rest = true, tokenEnd, ""
}

// next reads a token.
func (p *graphQL) next() {
	for {
		p.rest = strings.TrimLeft(strings.TrimPrefix(p.rest, "\ufeff"), " \t\r\n,")
		if !strings.HasPrefix(p.rest, "#") {
			break
		}
		end := strings.IndexAny(p.rest, "\r\n")
		if end < 0 {
			end = len(p.rest)
		}
		p.values = append(p.values, p.rest[1:end])
		p.rest = p.rest[end:]
	}
	if p.rest == "" {
		p.kind = tokenEnd
		return
	}
	c := p.rest[0]
	switch {
	case strings.IndexByte("!$():=@[]{}", c) >= 0:
		p.kind, p.rest = c, p.rest[1:]
	case strings.HasPrefix(p.rest, "..."):
		p.kind, p.rest = tokenSpread, p.rest[3:]
	case isNameStart(c):
		n := 1
		for n < len(p.rest) && (isNameStart(p.rest[n]) || isDigit(p.rest[n])) {
			n++
		}
		p.kind, p.text, p.rest = tokenName, p.rest[:n], p.rest[n:]
	case c == '-' || isDigit(c):
		p.number()
	case strings.HasPrefix(p.rest, `"""`):
		p.block()
	case c == '"':
		p.string()
	default:
		p.fail()
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isNameStart(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }

// number reads a number: as JSON has it, and not followed by a name.
func (p *graphQL) number() {
	n := strings.IndexFunc(p.rest, func(c rune) bool { return !strings.ContainsRune("0123456789+-.eE", c) })
	if n < 0 {
		n = len(p.rest)
	}
	if !json.Valid([]byte(p.rest[:n])) || n < len(p.rest) && isNameStart(p.rest[n]) {
		p.fail()
		return
	}
	p.kind, p.rest = tokenNumber, p.rest[n:]
}

// block reads a block string. Its indentation is kept.
func (p *graphQL) block() {
	rest := p.rest[3:]
	var value strings.Builder
	for {
		i := strings.Index(rest, `"""`)
		if i < 0 {
			p.fail()
			return
		}
		if i == 0 || rest[i-1] != '\\' {
			value.WriteString(rest[:i])
			p.kind, p.rest = tokenString, rest[i+3:]
			p.values = append(p.values, value.String())
			return
		}
		value.WriteString(rest[:i-1] + `"""`)
		rest = rest[i+3:]
	}
}

// string reads a string.
func (p *graphQL) string() {
	var value strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '"':
			p.kind, p.rest = tokenString, p.rest[i+1:]
			p.values = append(p.values, value.String())
			return
		case '\r', '\n':
			p.fail()
			return
		case '\\':
			n := unescape(&value, p.rest[i:])
			if n == 0 {
				p.fail()
				return
			}
			i += n - 1
		default:
			value.WriteByte(c)
		}
	}
	p.fail()
}

// unescape writes what an escape sequence at the beginning of s stands for, and
// returns its length; 0 if it is none.
func unescape(w *strings.Builder, s string) int {
	if len(s) < 2 {
		return 0
	}
	if i := strings.IndexByte(`"\/bfnrt`, s[1]); i >= 0 {
		w.WriteByte("\"\\/\b\f\n\r\t"[i])
		return 2
	}
	if strings.HasPrefix(s, `\u{`) {
		end := strings.IndexByte(s, '}')
		if end < 0 || end > 11 {
			return 0
		}
		c, err := strconv.ParseUint(s[3:end], 16, 32)
		if err != nil || !utf8.ValidRune(rune(c)) {
			return 0
		}
		w.WriteRune(rune(c))
		return end + 1
	}
	c, ok := unicodeEscape(s)
	if !ok {
		return 0
	}
	if utf16.IsSurrogate(c) {
		low, ok := unicodeEscape(s[6:])
		if both := utf16.DecodeRune(c, low); ok && both != utf8.RuneError {
			w.WriteRune(both)
			return 12
		}
		return 0
	}
	w.WriteRune(c)
	return 6
}

// unicodeEscape returns the code unit of an escape sequence with four digits.
func unicodeEscape(s string) (rune, bool) {
	if len(s) < 6 || s[:2] != `\u` {
		return 0, false
	}
	c, err := strconv.ParseUint(s[2:6], 16, 16)
	return rune(c), err == nil
}

// take reads a token of a kind, if it is the next.
func (p *graphQL) take(kind byte) bool {
	if p.failed || p.kind != kind {
		return false
	}
	p.next()
	return true
}

// want reads a token of a kind.
func (p *graphQL) want(kind byte) {
	if !p.take(kind) {
		p.fail()
	}
}

// many reads at least one item up to the closing token.
func (p *graphQL) many(closing byte, item func()) {
	p.depth++
	if p.depth > maxSelections {
		p.fail()
	}
	for first := true; !p.failed; first = false {
		if !first && p.take(closing) {
			break
		}
		item()
	}
	p.depth--
}

// document reads the definitions (section 2.2).
func (p *graphQL) document() {
	for first := true; !p.failed; first = false {
		if !first && p.kind == tokenEnd {
			return
		}
		if p.take('{') {
			p.many('}', p.selection)
			continue
		}
		keyword := p.text
		p.want(tokenName)
		switch keyword {
		case "query", "mutation", "subscription":
			p.take(tokenName)
			if p.take('(') {
				p.many(')', p.variable)
			}
		case "fragment":
			p.want(tokenName)
			p.condition()
		default:
			p.fail()
		}
		p.directives()
		p.want('{')
		p.many('}', p.selection)
	}
}

// condition reads "on Type".
func (p *graphQL) condition() {
	if p.text != "on" {
		p.fail()
	}
	p.want(tokenName)
	p.want(tokenName)
}

// variable reads a variable's definition (section 2.10).
func (p *graphQL) variable() {
	p.want('$')
	p.want(tokenName)
	p.want(':')
	p.typeReference()
	if p.take('=') {
		p.value()
	}
	p.directives()
}

// typeReference reads a type (section 2.11).
func (p *graphQL) typeReference() {
	lists := 0
	for p.take('[') {
		if lists++; lists > maxSelections {
			p.fail()
		}
	}
	p.want(tokenName)
	p.take('!')
	for range lists {
		p.want(']')
		p.take('!')
	}
}

// selection reads a field or a fragment (sections 2.4 to 2.8).
func (p *graphQL) selection() {
	if p.take(tokenSpread) {
		switch {
		case p.kind == tokenName && p.text != "on":
			p.want(tokenName)
			p.directives()
			return
		case p.kind == tokenName:
			p.condition()
		}
		p.directives()
		p.want('{')
		p.many('}', p.selection)
		return
	}
	p.want(tokenName)
	if p.take(':') {
		p.want(tokenName)
	}
	p.arguments()
	p.directives()
	if p.take('{') {
		p.many('}', p.selection)
	}
}

func (p *graphQL) arguments() {
	if p.take('(') {
		p.many(')', p.argument)
	}
}

// argument reads a name and a value.
func (p *graphQL) argument() {
	p.want(tokenName)
	p.want(':')
	p.value()
}

func (p *graphQL) directives() {
	for p.take('@') {
		p.want(tokenName)
		p.arguments()
	}
}

// value reads a value (section 2.9).
func (p *graphQL) value() {
	switch {
	case p.take('$'):
		p.want(tokenName)
	case p.take('['):
		if !p.take(']') {
			p.many(']', p.value)
		}
	case p.take('{'):
		if !p.take('}') {
			p.many('}', p.argument)
		}
	case p.take(tokenName), p.take(tokenNumber), p.take(tokenString):
	default:
		p.fail()
	}
}

// showGraphQL returns a JSON document in which the GraphQL documents are replaced
// by the array of their strings and comments: the members "query" of the object,
// or of the objects of an array. What is not so made is returned as it is.
func showGraphQL(b []byte) []byte {
	if !bytes.Contains(b, []byte(`"query"`)) {
		return b
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	open, err := dec.Token()
	if err != nil {
		return b
	}
	var out bytes.Buffer
	switch open {
	case json.Delim('{'):
		out.WriteByte('{')
		for first := true; dec.More(); first = false {
			key, err := dec.Token()
			var value json.RawMessage
			if err != nil || dec.Decode(&value) != nil {
				return b
			}
			name, _ := json.Marshal(key)
			if key == "query" {
				value = showDocument(value)
			}
			if !first {
				out.WriteByte(',')
			}
			out.Write(name)
			out.WriteByte(':')
			out.Write(value)
		}
		out.WriteByte('}')
	case json.Delim('['):
		out.WriteByte('[')
		for first := true; dec.More(); first = false {
			var value json.RawMessage
			if dec.Decode(&value) != nil {
				return b
			}
			if !first {
				out.WriteByte(',')
			}
			if value[0] == '{' {
				value = showGraphQL(value)
			}
			out.Write(value)
		}
		out.WriteByte(']')
	default:
		return b
	}
	if _, err := dec.Token(); err != nil {
		return b
	}
	if _, err := dec.Token(); err != io.EOF {
		return b // there is more behind it, or less than there must be
	}
	return out.Bytes()
}

// showDocument returns the array that stands for a JSON string with a GraphQL
// document; any other value as it is.
func showDocument(value json.RawMessage) json.RawMessage {
	var doc string
	if json.Unmarshal(value, &doc) != nil {
		return value
	}
	values, ok := graphQLValues(doc)
	if !ok {
		return value
	}
	array, err := json.Marshal(values)
	if err != nil {
		return value
	}
	return array
}
