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

// document walks a JSON document once. It takes nothing that RFC 8259 does not. Its
// methods take the index at which they read and return the one behind it.
type document struct {
	view   *View
	s      string
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
	v.frames = v.frames[:0]
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
	v, s := d.view, d.s
	i := space(s, 0)
	if i == len(s) {
		return OddJSON
	}
	if s[i] != '{' && s[i] != '[' {
		// The engine takes it for the only element of an array.
		v.path = append(v.path, ".0"...)
		i, why := d.scalar(i)
		if why != Known {
			return why
		}
		if why = d.length(len("json"), 1); why != Known {
			return why
		}
		return d.end(i)
	}
	v.frames = v.frames[:0]
	for {
		// At the opening bracket of a container whose name is the path.
		if len(v.frames) >= depth {
			return OddJSON
		}
		if d.leaves >= d.limit {
			return Arguments
		}
		fresh, closing := frame{name: len(v.path)}, s[i]+2 // '[' and ']', '{' and '}' are two apart
		if closing == '}' {
			fresh.index = object
		}
		v.frames = append(v.frames, fresh)
		if i = space(s, i+1); i == len(s) {
			return OddJSON
		}
		closed := s[i] == closing
		// Elements, and the ends of containers, until one opens.
		for {
			f := &v.frames[len(v.frames)-1]
			v.path = v.path[:f.name]
			if closed {
				i++
				if f.index > 0 {
					if why := d.length(f.name, f.index); why != Known {
						return why
					}
				}
				if v.frames = v.frames[:len(v.frames)-1]; len(v.frames) == 0 {
					return d.end(i)
				}
				f = &v.frames[len(v.frames)-1]
			} else {
				var why Reason
				if i, why = d.element(f, i); why != Known {
					return why
				}
				if s[i] == '{' || s[i] == '[' {
					break
				}
				if i, why = d.scalar(i); why != Known {
					return why
				}
			}
			// Behind an element of f.
			if i = space(s, i); i == len(s) {
				return OddJSON
			}
			closing := byte(']')
			if f.index == object {
				closing = '}'
			}
			switch s[i] {
			case ',':
				closed = false
				i = space(s, i+1)
			case closing:
				closed = true
			default:
				return OddJSON
			}
		}
	}
}

// element reads up to the value of an element, which is there, and appends to the
// path what names it.
func (d *document) element(f *frame, i int) (int, Reason) {
	if d.leaves >= d.limit {
		return i, Arguments
	}
	v, s := d.view, d.s
	v.path = append(v.path, '.')
	if f.index != object {
		v.path = strconv.AppendInt(v.path, int64(f.index), 10)
		f.index++
	} else {
		if i == len(s) || s[i] != '"' {
			return i, OddJSON
		}
		i++
		end := special(s, i)
		switch {
		case end == len(s):
			return i, OddJSON
		case s[end] == '"':
			v.path = append(v.path, s[i:end]...)
			i = end + 1
		default:
			var ok bool
			if v.path, i, ok = d.unescape(v.path, i, end); !ok {
				return i, OddJSON
			}
		}
		if i = space(s, i); i == len(s) || s[i] != ':' {
			return i, OddJSON
		}
		i = space(s, i+1)
	}
	if i == len(s) {
		return i, OddJSON
	}
	return i, Known
}

// end reads the end of the document.
func (d *document) end(i int) Reason {
	if space(d.s, i) != len(d.s) {
		return OddJSON
	}
	return Known
}

// space returns the index behind white space.
func space(s string, i int) int {
	for i < len(s) && s[i] <= ' ' {
		switch s[i] {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

// scalar reads a value that is no container and appends it under the path.
func (d *document) scalar(i int) (int, Reason) {
	s, start, ok := d.s, i, true
	value := ""
	switch s[i] {
	case '"':
		if value, i, ok = d.text(i + 1); !ok {
			return i, OddJSON
		}
	case 't':
		i, ok = word(s, i, "true")
		value = s[start:i]
	case 'f':
		i, ok = word(s, i, "false")
		value = s[start:i]
	case 'n':
		i, ok = word(s, i, "null")
	default:
		i, ok = number(s, i)
		value = s[start:i]
	}
	if !ok {
		return i, OddJSON
	}
	d.leaves++
	return i, d.add(len(d.view.path), value)
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
func word(s string, i int, w string) (int, bool) {
	if len(s)-i < len(w) || s[i:i+len(w)] != w {
		return i, false
	}
	return i + len(w), true
}

// number reads a number (RFC 8259 section 6).
func number(s string, i int) (_ int, ok bool) {
	if s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if i, ok = digits(s, i); !ok {
		return i, false
	}
	if i < len(s) && s[i] == '.' {
		if i, ok = digits(s, i+1); !ok {
			return i, false
		}
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		return digits(s, i)
	}
	return i, true
}

// digits reads digits, one at least.
func digits(s string, i int) (int, bool) {
	start := i
	for i < len(s) && s[i]-'0' <= 9 {
		i++
	}
	return i, i > start
}

// text reads a string behind its quote. One without escapes is a part of the
// document.
func (d *document) text(i int) (value string, next int, ok bool) {
	end := special(d.s, i)
	if end == len(d.s) {
		return "", i, false
	}
	if d.s[end] == '"' {
		return d.s[i:end], end + 1, true
	}
	v := d.view
	mark := v.mark()
	v.buf, next, ok = d.unescape(v.buf, i, end)
	return v.since(mark), next, ok
}

// unescape reads a string that begins at start and has its first escape at end,
// and appends it to b. Half a surrogate pair becomes U+FFFD, and so does one with
// whatever escape follows: so the engine's parser does.
func (d *document) unescape(b []byte, start, end int) (_ []byte, next int, ok bool) {
	s := d.s
	for {
		b = append(b, s[start:end]...)
		if end == len(s) {
			return b, end, false
		}
		switch s[end] {
		case '"':
			return b, end + 1, true
		case '\\':
		default:
			return b, end, false // a control character
		}
		if end+1 == len(s) {
			return b, end, false
		}
		start = end + 2
		switch c := s[end+1]; c {
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
			r, ok := unit(s, start)
			if !ok {
				return b, end, false
			}
			start += 4
			if utf16.IsSurrogate(r) && start+1 < len(s) && s[start] == '\\' && s[start+1] == 'u' {
				low, ok := unit(s, start+2)
				if !ok {
					return b, end, false
				}
				r = utf16.DecodeRune(r, low)
				start += 6
			}
			b = utf8.AppendRune(b, r)
		default:
			return b, end, false
		}
		end = special(s, start)
	}
}

// unit returns the code unit of four hexadecimal digits.
func unit(s string, i int) (r rune, ok bool) {
	if len(s)-i < 4 {
		return 0, false
	}
	for _, c := range []byte(s[i : i+4]) {
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
