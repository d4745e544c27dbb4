package view

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// frame is a JSON container that is open.
type frame struct {
	name  int // length of its name
	index int // of the next element; object for an object
}

const object = -1

// The engine's bound for the names and values of a document: this many times its
// size, or so many bytes if that is more.
const (
	flatFactor = 8
	flatFloor  = 4096
)

// document walks a JSON document once. It takes nothing that RFC 8259 does not.
type document struct {
	view   *View
	s      string
	i      int
	list   []Pair
	leaves int // values
	arrays int // lengths of arrays
	used   int // bytes of names and values
	budget int
	limit  int
}

// json sets the arguments of a JSON document: a pair for each scalar, named by its
// path, and one for each array that is not empty, with its length. The result is
// the same for a document that NDJSON was made into.
func (b *Builder) json(v *View, s string) Reason {
	d := document{view: v, s: s, list: v.list[argsPost], budget: max(flatFactor*len(s), flatFloor), limit: b.o.Arguments}
	v.path = append(v.path[:0], "json"...)
	why := d.walk(b.o.JSONDepth)
	v.list[argsPost] = d.list
	if why != Known {
		return why
	}
	if len(d.list) > d.limit {
		return Arguments // the stage counts the lengths, too
	}
	v.addArguments(d.used)
	return Known
}

// walk reads the document. The names of the open containers are in View.path, a
// prefix of each other, their lengths in View.frames.
func (d *document) walk(depth int) Reason {
	v := d.view
	frames := v.frames[:0]
	defer func() { v.frames = frames[:0] }()

	d.space()
	if d.i == len(d.s) {
		return OddJSON
	}
	if c := d.s[d.i]; c != '{' && c != '[' {
		// The engine takes it for the only element of an array.
		v.path = append(v.path, ".0"...)
		if why := d.scalar(); why != Known {
			return why
		}
		if why := d.length(len("json"), 1); why != Known {
			return why
		}
		return d.end()
	}
	for {
		// At the opening bracket of a container whose name is the path.
		if len(frames) >= depth {
			return OddJSON
		}
		if d.leaves >= d.limit {
			return Arguments
		}
		open := d.s[d.i]
		d.i++
		d.space()
		if d.i == len(d.s) {
			return OddJSON
		}
		fresh := frame{name: len(v.path)}
		if open == '{' {
			fresh.index = object
		}
		frames = append(frames, fresh)
		closed := d.s[d.i] == open+2 // '[' and ']', '{' and '}' are two apart
		// Elements, and the ends of containers, until one opens.
		for opened := false; !opened; {
			f := &frames[len(frames)-1]
			v.path = v.path[:f.name]
			if closed {
				d.i++
				if f.index > 0 {
					if why := d.length(f.name, f.index); why != Known {
						return why
					}
				}
				if frames = frames[:len(frames)-1]; len(frames) == 0 {
					return d.end()
				}
				f = &frames[len(frames)-1]
			} else {
				if why := d.element(f); why != Known {
					return why
				}
				if c := d.s[d.i]; c == '{' || c == '[' {
					opened = true
					break
				}
				if why := d.scalar(); why != Known {
					return why
				}
			}
			// Behind an element of f.
			d.space()
			if d.i == len(d.s) {
				return OddJSON
			}
			closing := byte(']')
			if f.index == object {
				closing = '}'
			}
			switch d.s[d.i] {
			case ',':
				closed = false
				d.i++
				d.space()
			case closing:
				closed = true
			default:
				return OddJSON
			}
		}
	}
}

// element reads up to the value of an element and appends to the path what names
// it.
func (d *document) element(f *frame) Reason {
	if d.leaves >= d.limit {
		return Arguments
	}
	v := d.view
	v.path = append(v.path, '.')
	if f.index != object {
		v.path = strconv.AppendInt(v.path, int64(f.index), 10)
		f.index++
	} else {
		if d.i == len(d.s) || d.s[d.i] != '"' {
			return OddJSON
		}
		var ok bool
		if v.path, ok = d.key(v.path); !ok {
			return OddJSON
		}
		d.space()
		if d.i == len(d.s) || d.s[d.i] != ':' {
			return OddJSON
		}
		d.i++
		d.space()
	}
	if d.i == len(d.s) {
		return OddJSON
	}
	return Known
}

// end reads the end of the document.
func (d *document) end() Reason {
	if d.space(); d.i != len(d.s) {
		return OddJSON
	}
	return Known
}

// space reads white space.
func (d *document) space() {
	for d.i < len(d.s) {
		switch d.s[d.i] {
		case ' ', '\t', '\n', '\r':
			d.i++
		default:
			return
		}
	}
}

// scalar reads a value that is no container and appends it under the path.
func (d *document) scalar() Reason {
	start := d.i
	value := ""
	switch d.s[d.i] {
	case '"':
		var ok bool
		if value, ok = d.text(); !ok {
			return OddJSON
		}
	case 't':
		if !d.word("true") {
			return OddJSON
		}
		value = d.s[start:d.i]
	case 'f':
		if !d.word("false") {
			return OddJSON
		}
		value = d.s[start:d.i]
	case 'n':
		if !d.word("null") {
			return OddJSON
		}
	default:
		if !d.number() {
			return OddJSON
		}
		value = d.s[start:d.i]
	}
	d.leaves++
	return d.add(len(d.view.path), value)
}

// length appends the length of the array whose name is so many bytes of the path.
func (d *document) length(name, n int) Reason {
	if d.arrays++; d.arrays > d.limit {
		return Arguments
	}
	return d.add(name, d.view.number(n))
}

// add appends a pair, whose name is so many bytes of the path.
func (d *document) add(name int, value string) Reason {
	if d.used += name + len(value); d.used > d.budget {
		return OddJSON
	}
	v := d.view
	mark := v.mark()
	v.buf = append(v.buf, v.path[:name]...)
	d.list = append(d.list, Pair{v.since(mark), value})
	return Known
}

// word reads a literal.
func (d *document) word(w string) bool {
	if len(d.s)-d.i < len(w) || d.s[d.i:d.i+len(w)] != w {
		return false
	}
	d.i += len(w)
	return true
}

// number reads a number (RFC 8259 section 6).
func (d *document) number() bool {
	if d.s[d.i] == '-' {
		d.i++
	}
	if d.i < len(d.s) && d.s[d.i] == '0' {
		d.i++
	} else if !d.digits() {
		return false
	}
	if d.i < len(d.s) && d.s[d.i] == '.' {
		d.i++
		if !d.digits() {
			return false
		}
	}
	if d.i < len(d.s) && d.s[d.i]|0x20 == 'e' {
		d.i++
		if d.i < len(d.s) && (d.s[d.i] == '+' || d.s[d.i] == '-') {
			d.i++
		}
		return d.digits()
	}
	return true
}

// digits reads digits, one at least.
func (d *document) digits() bool {
	start := d.i
	for d.i < len(d.s) && d.s[d.i]-'0' <= 9 {
		d.i++
	}
	return d.i > start
}

// text reads a string. One without escapes is a part of the document.
func (d *document) text() (string, bool) {
	start := d.i + 1
	end := special(d.s, start)
	if end == len(d.s) {
		return "", false
	}
	if d.s[end] == '"' {
		d.i = end + 1
		return d.s[start:end], true
	}
	v := d.view
	mark := v.mark()
	var ok bool
	v.buf, ok = d.unescape(v.buf, start, end)
	return v.since(mark), ok
}

// key reads a string and appends it to b.
func (d *document) key(b []byte) ([]byte, bool) {
	start := d.i + 1
	end := special(d.s, start)
	if end == len(d.s) {
		return b, false
	}
	if d.s[end] == '"' {
		d.i = end + 1
		return append(b, d.s[start:end]...), true
	}
	return d.unescape(b, start, end)
}

// unescape reads a string that begins at start and has its first escape at end,
// and appends it to b. Half a surrogate pair becomes U+FFFD, and so does one with
// whatever escape follows: so the engine's parser does.
func (d *document) unescape(b []byte, start, end int) ([]byte, bool) {
	for {
		b = append(b, d.s[start:end]...)
		if end+1 >= len(d.s) {
			return b, false
		}
		switch d.s[end] {
		case '"':
			d.i = end + 1
			return b, true
		case '\\':
		default:
			return b, false // a control character
		}
		start = end + 2
		switch c := d.s[end+1]; c {
		case '"', '\\', '/':
			b = append(b, c)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, ok := d.unit(start)
			if !ok {
				return b, false
			}
			start += 4
			if utf16.IsSurrogate(r) && start+1 < len(d.s) && d.s[start] == '\\' && d.s[start+1] == 'u' {
				low, ok := d.unit(start + 2)
				if !ok {
					return b, false
				}
				r = utf16.DecodeRune(r, low)
				start += 6
			}
			b = utf8.AppendRune(b, r)
		default:
			return b, false
		}
		end = special(d.s, start)
		if end == len(d.s) {
			return b, false
		}
	}
}

// unit returns the code unit of four hexadecimal digits.
func (d *document) unit(i int) (r rune, ok bool) {
	if len(d.s)-i < 4 {
		return 0, false
	}
	for _, c := range []byte(d.s[i : i+4]) {
		digit := unhex[c]
		if digit > 15 {
			return 0, false
		}
		r = r<<4 | rune(digit)
	}
	return r, true
}

// special returns the index of the first byte from i on that a JSON string does
// not have as it is: a quote, a backslash or a control character; the length of s
// if there is none.
func special(s string, i int) int {
	const (
		low  = 0x0101010101010101
		high = 0x8080808080808080
	)
	for ; len(s)-i >= 8; i += 8 {
		x := binary.LittleEndian.Uint64(unsafe.Slice(unsafe.StringData(s[i:]), 8))
		quote, slash := x^low*'"', x^low*'\\'
		// The lowest bit is that of the first such byte; those above it may err.
		if m := ((x-low*' ')&^x | (quote-low)&^quote | (slash-low)&^slash) & high; m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' {
			break
		}
	}
	return i
}
