package view

import (
	"encoding/xml"
	"strings"
	"unicode/utf8"
)

// The engine's names for attribute values and for text.
const (
	attributeName = "//@*"
	textName      = "/*"
)

// maxElements bounds how deep elements are nested.
const maxElements = 1024

// markup reads an XML document (XML 1.0, fifth edition) of which every reader makes
// the same: elements, attributes, text, character data, comments and instructions,
// in UTF-8, with no entities but those that XML itself knows.
type markup struct {
	view  *View
	s     string
	i     int
	limit int  // of text nodes
	texts int  // text nodes so far
	whole bool // the document is as the client sent it
	over  bool // there are more text nodes than the limit
}

// xml sets the attribute values and text nodes of a document. whole says that it is
// as the client sent it, without a byte order mark; otherwise it is what the stage
// has made of one.
func (b *Builder) xml(v *View, s string, whole bool) Reason {
	d := markup{view: v, s: s, limit: b.o.Arguments, whole: whole}
	ok := d.document()
	v.frames = v.frames[:0]
	switch {
	case d.over:
		return Arguments
	case !ok:
		return OddXML
	}
	return Known
}

// document reads all of it. View.frames holds the places of the names of the open
// elements.
func (d *markup) document() bool {
	v := d.view
	v.frames = v.frames[:0]
	root := false
	for {
		if len(v.frames) == 0 {
			for d.i < len(d.s) && isSpace(d.s[d.i]) {
				d.i++
			}
			if d.i == len(d.s) {
				return root
			}
			if d.s[d.i] != '<' {
				return false
			}
		} else if !d.text('<') {
			return false
		}
		rest := d.s[d.i:]
		ok := false
		switch {
		case strings.HasPrefix(rest, "</"):
			ok = d.end()
		case strings.HasPrefix(rest, "<?"):
			ok = d.instruction()
		case strings.HasPrefix(rest, "<!--"):
			ok = d.comment()
		case strings.HasPrefix(rest, "<![CDATA["):
			ok = len(v.frames) > 0 && d.characterData()
		case strings.HasPrefix(rest, "<!"):
			ok = d.whole && !root && d.directive()
		default:
			ok = (len(v.frames) > 0 || !root) && d.element()
			root = true
		}
		if !ok || d.over {
			return false
		}
	}
}

// text reads text up to a byte and adds it as a node. If that is a quote, it is an
// attribute's value that is read, and added as such.
func (d *markup) text(end byte) bool {
	rest := d.s[d.i:]
	n := strings.IndexByte(rest, end)
	if n < 0 {
		return false
	}
	raw := rest[:n]
	d.i += n
	if end == '<' && strings.Contains(raw, "]]>") || end != '<' && strings.IndexByte(raw, '<') >= 0 {
		return false
	}
	value, ok := d.decode(raw)
	if !ok {
		return false
	}
	if end != '<' {
		d.add(attributeName, value)
		if d.whole {
			d.node(value) // where most rules look
		}
		return true
	}
	d.node(value)
	return true
}

// node adds text that is not blank.
func (d *markup) node(value string) {
	if value = strings.TrimSpace(value); value == "" {
		return
	}
	if d.texts++; d.texts > d.limit {
		d.over = true
		return
	}
	d.add(textName, value)
}

// maxAttributes is how many attributes there may be for each text node that there
// may be. The engine does not count those whose values are blank.
const maxAttributes = 4

func (d *markup) add(name, value string) {
	if len(d.view.list[nodes]) > (1+maxAttributes)*d.limit {
		d.over = true
		return
	}
	d.view.list[nodes] = append(d.view.list[nodes], Pair{name, value})
}

// decode returns text with its line ends made one and its references resolved. ok
// is false for what is no character or no reference of XML.
func (d *markup) decode(raw string) (_ string, ok bool) {
	plain := true
	for i := range len(raw) {
		switch c := raw[i]; {
		case c >= 0x80:
			return d.decodeRunes(raw)
		case c == '&' || c == '\r':
			plain = false
		case c < ' ' && c != '\t' && c != '\n':
			return "", false
		}
	}
	if plain {
		return raw, true
	}
	return d.resolve(raw)
}

// decodeRunes is decode for text beyond ASCII.
func (d *markup) decodeRunes(raw string) (string, bool) {
	plain := true
	for i := 0; i < len(raw); {
		c, n := utf8.DecodeRuneInString(raw[i:])
		if !isCharacter(c) || c == utf8.RuneError && n == 1 {
			return "", false
		}
		plain = plain && c != '&' && c != '\r'
		i += n
	}
	if plain {
		return raw, true
	}
	return d.resolve(raw)
}

// resolve writes text with its line ends and references into the buffer.
func (d *markup) resolve(raw string) (string, bool) {
	v := d.view
	mark := v.mark()
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case '\r':
			v.buf = append(v.buf, '\n')
			if i+1 < len(raw) && raw[i+1] == '\n' {
				i++
			}
		case '&':
			semicolon := strings.IndexByte(raw[i:min(len(raw), i+12)], ';')
			if semicolon < 0 {
				return "", false
			}
			r, ok := reference(raw[i+1 : i+semicolon])
			if !ok {
				return "", false
			}
			v.buf = utf8.AppendRune(v.buf, r)
			i += semicolon
		default:
			v.buf = append(v.buf, c)
		}
	}
	return v.since(mark), true
}

// reference returns what stands for the name of an entity or the number of a
// character (sections 4.1 and 4.6).
func reference(name string) (rune, bool) {
	switch name {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	if len(name) < 2 || name[0] != '#' {
		return 0, false
	}
	base, digits := rune(10), name[1:]
	if digits[0] == 'x' {
		base, digits = 16, digits[1:]
	}
	var r rune
	for _, c := range []byte(digits) {
		digit := rune(unhex[c])
		if digit >= base {
			return 0, false
		}
		if r = r*base + digit; r > utf8.MaxRune {
			return 0, false
		}
	}
	return r, digits != "" && isCharacter(r)
}

// isCharacter reports whether XML knows a character (section 2.2).
func isCharacter(r rune) bool {
	return r >= ' ' && r <= 0xd7ff || r == '\t' || r == '\n' || r == '\r' || r >= 0xe000 && r <= 0xfffd || r >= 0x10000
}

// name reads a name of ASCII with at most one colon.
func (d *markup) name() (string, bool) {
	start, colons := d.i, 0
	for d.i < len(d.s) {
		c := d.s[d.i]
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_':
		case c == ':':
			colons++
		case d.i > start && ('0' <= c && c <= '9' || c == '-' || c == '.'):
		default:
			return d.s[start:d.i], d.i > start && colons < 2 && c < 0x80
		}
		d.i++
	}
	return "", false
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (d *markup) space() {
	for d.i < len(d.s) && isSpace(d.s[d.i]) {
		d.i++
	}
}

// take reads a byte.
func (d *markup) take(c byte) bool {
	if d.i < len(d.s) && d.s[d.i] == c {
		d.i++
		return true
	}
	return false
}

// element reads a start tag, or that of an empty element.
func (d *markup) element() bool {
	v := d.view
	d.i++
	start := d.i
	name, ok := d.name()
	if !ok || !d.whole && closesItself(name) || len(v.frames) == maxElements {
		return false
	}
	for {
		d.space()
		switch {
		case d.take('>'):
			v.frames = append(v.frames, frame{name: start, index: len(name)})
			return true
		case d.take('/'):
			return d.take('>')
		}
		if _, ok := d.name(); !ok {
			return false
		}
		d.space()
		if !d.take('=') {
			return false
		}
		d.space()
		if d.i == len(d.s) {
			return false
		}
		quote := d.s[d.i]
		if quote != '"' && quote != '\'' {
			return false
		}
		d.i++
		if !d.text(quote) || d.over {
			return false
		}
		d.i++
	}
}

// closesItself reports whether the engine's parser closes an element of that name
// without an end tag.
func closesItself(name string) bool {
	if i := strings.IndexByte(name, ':'); i >= 0 {
		name = name[i+1:]
	}
	if len(name) < 2 {
		return false
	}
	for _, html := range xml.HTMLAutoClose {
		if strings.EqualFold(name, html) {
			return true
		}
	}
	return false
}

// end reads the end tag of the innermost element.
func (d *markup) end() bool {
	v := d.view
	d.i += len("</")
	name, ok := d.name()
	if !ok || len(v.frames) == 0 {
		return false
	}
	open := v.frames[len(v.frames)-1]
	v.frames = v.frames[:len(v.frames)-1]
	d.space()
	return name == d.s[open.name:open.name+open.index] && d.take('>')
}

// comment skips a comment (section 2.5).
func (d *markup) comment() bool {
	d.i += len("<!--")
	n := strings.Index(d.s[d.i:], "--")
	if n < 0 {
		return false
	}
	d.i += n + len("--")
	return d.take('>')
}

// characterData reads a CDATA section (section 2.7).
func (d *markup) characterData() bool {
	d.i += len("<![CDATA[")
	n := strings.Index(d.s[d.i:], "]]>")
	if n < 0 {
		return false
	}
	raw := d.s[d.i : d.i+n]
	if strings.IndexByte(raw, '&') >= 0 || strings.IndexByte(raw, '\r') >= 0 {
		return d.literal(raw)
	}
	value, ok := d.decode(raw)
	if !ok {
		return false
	}
	d.node(value)
	d.i += n + len("]]>")
	return true
}

// literal reads the rest of a CDATA section with line ends or ampersands in it.
func (d *markup) literal(raw string) bool {
	v := d.view
	mark := v.mark()
	for i, c := range raw {
		if !isCharacter(c) {
			return false
		}
		if c == utf8.RuneError && !strings.HasPrefix(raw[i:], "\ufffd") {
			return false
		}
		switch {
		case c == '\r':
			v.buf = append(v.buf, '\n')
		case c == '\n' && i > 0 && raw[i-1] == '\r':
		default:
			v.buf = utf8.AppendRune(v.buf, c)
		}
	}
	d.node(v.since(mark))
	d.i += len(raw) + len("]]>")
	return true
}

// directive reads a document type declaration without declarations of its own, and
// adds its text, in which the stage shows it.
func (d *markup) directive() bool {
	d.i += len("<!")
	start := d.i
	if _, ok := d.name(); !ok {
		return false
	}
	var quote byte
	for ; d.i < len(d.s); d.i++ {
		switch c := d.s[d.i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '<' || c == '[':
			return false
		case c == '>':
			raw := d.s[start:d.i]
			d.i++
			if strings.IndexByte(raw, '&') >= 0 || strings.IndexByte(raw, '\r') >= 0 {
				return false
			}
			value, ok := d.decode(raw)
			d.node(value)
			return ok
		}
	}
	return false
}

// instruction skips a processing instruction (section 2.6). The declaration at the
// beginning must be of version 1.0 and of UTF-8.
func (d *markup) instruction() bool {
	start := d.i
	d.i += len("<?")
	target, ok := d.name()
	if !ok {
		return false
	}
	if strings.EqualFold(target, "xml") {
		return start == 0 && target == "xml" && d.declaration()
	}
	n := strings.Index(d.s[d.i:], "?>")
	if n < 0 {
		return false
	}
	d.i += n + len("?>")
	return true
}

// declaration reads the XML declaration behind its name (section 2.8).
func (d *markup) declaration() bool {
	for n := 0; ; n++ {
		before := d.i
		d.space()
		if d.take('?') {
			return n > 0 && d.take('>')
		}
		if d.i == before || n == 3 {
			return false
		}
		name, ok := d.name()
		if !ok || !d.take('=') || d.i == len(d.s) {
			return false
		}
		quote := d.s[d.i]
		if quote != '"' && quote != '\'' {
			return false
		}
		d.i++
		end := strings.IndexByte(d.s[d.i:], quote)
		if end < 0 {
			return false
		}
		value := d.s[d.i : d.i+end]
		d.i += end + 1
		switch {
		case n == 0 && name == "version" && value == "1.0":
		case n == 1 && name == "encoding" && strings.EqualFold(value, "utf-8"):
		case n > 0 && name == "standalone" && (value == "yes" || value == "no"):
		default:
			return false
		}
	}
}
