package proof

import (
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"github.com/moatwaf/moat/rules/waf/gate"
)

// The engine's transformations allocate a text for each value. The common ones are
// done here in a buffer that is used again; TestTransforms holds them against the
// engine's.

// arena is the buffer for the texts that come of one value.
type arena struct{ buf []byte }

// keepArena bounds what is kept from one value to the next.
const keepArena = 1 << 20

func (a *arena) reset() {
	if cap(a.buf) > keepArena {
		a.buf = nil
	}
	a.buf = a.buf[:0]
}

// grow makes room for n bytes and returns where they begin. Texts that are there
// already stay where they are.
func (a *arena) grow(n int) []byte {
	if cap(a.buf)-len(a.buf) < n {
		size := n // of a large text: no more than it takes
		if n < keepArena/4 {
			size = max(4096, min(2*cap(a.buf), keepArena), 2*n)
		}
		a.buf = make([]byte, 0, size)
	}
	at := len(a.buf)
	return a.buf[at : at : at+n]
}

// text keeps b, which begins where grow said, and returns it.
func (a *arena) text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	a.buf = a.buf[:len(a.buf)+len(b)]
	return unsafe.String(&b[0], len(b))
}

// quick does a transformation in the arena. ok is false where only the engine's own
// is exact.
type quick func(a *arena, s string, t gate.Touch) (out string, ok bool)

// Kinds of texts beside those of bytes.
const (
	// touchPath is a path that cleaning may change.
	touchPath gate.Touch = 1 << (14 + iota)
	// touchPathWin is a path that the rules of Windows may change.
	touchPathWin
)

// touchOf returns the kinds of a text.
func touchOf(s string) gate.Touch {
	t := gate.TouchOf(s)
	switch {
	case t&(gate.TouchSlash|gate.TouchBackslash) != 0:
		return t | touchPath | touchPathWin
	case t&gate.TouchDot != 0:
		// Without a slash only the path of one dot is changed, and in Windows what
		// follows a colon, and dots and spaces at the end.
		if s == "." {
			return t | touchPath | touchPathWin
		}
		if s[len(s)-1] == '.' || s[len(s)-1] == ' ' || strings.IndexByte(s, ':') >= 0 {
			return t | touchPathWin
		}
	case t&gate.TouchSpace != 0 && s[len(s)-1] == ' ':
		return t | touchPathWin
	}
	return t
}

// triggerOf returns the kinds of texts that a transformation may change, and
// whether they are known.
func triggerOf(name string) (gate.Touch, bool) {
	switch strings.ToLower(name) {
	case "normalizepath", "normalisepath":
		return touchPath, true
	case "normalizepathwin", "normalisepathwin":
		return touchPathWin, true
	}
	return gate.Trigger(name)
}

// quicks are the transformations that are done here, by their name in lower case.
var quicks = map[string]quick{
	"lowercase":          quickLower,
	"removewhitespace":   quickRemoveSpace,
	"compresswhitespace": quickCompressSpace,
	"urldecodeuni":       quickURLDecodeUni,
	"base64decode":       quickBase64,
	"cmdline":            quickCmdLine,
	"normalizepath":      quickPath,
	"normalisepath":      quickPath,
	"normalizepathwin":   quickPathWin,
	"normalisepathwin":   quickPathWin,
	"replacecomments":    quickReplaceComments,
	"removecommentschar": quickRemoveCommentsChar,
	"removenulls":        quickRemoveNulls,
	"utf8tounicode":      quickUTF8ToUnicode,
}

func quickLower(a *arena, s string, t gate.Touch) (string, bool) {
	if t&gate.TouchHigh != 0 {
		b := a.grow(3 * len(s))
		for _, r := range s {
			switch {
			case r < utf8.RuneSelf:
				if 'A' <= r && r <= 'Z' {
					r += 'a' - 'A'
				}
				b = append(b, byte(r))
			case r == utf8.RuneError: // an invalid byte becomes one
				b = append(b, "\uFFFD"...)
			default:
				b = utf8.AppendRune(b, unicode.ToLower(r))
			}
		}
		return a.text(b), true
	}
	b := a.grow(len(s))[:len(s)]
	for i := range b {
		b[i] = lowerByte[s[i]]
	}
	return a.text(b), true
}

// The loops below write each byte and move on by a number of the tables, without a
// branch: in prose no branch on white space is foreseen.

// lowerByte holds the lower case of each byte of ASCII.
var lowerByte = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if 'A' <= i && i <= 'Z' {
			t[i] += 'a' - 'A'
		}
	}
	return t
}()

// blank is 1 for a byte that counts as white space, otherBlank for one that is no
// space, and solid for any that does not count so.
var blank, otherBlank, solid = func() (b, o, s [256]uint8) {
	for i, is := range spaces {
		switch {
		case !is:
			s[i] = 1
		case i != ' ':
			b[i], o[i] = 1, 1
		default:
			b[i] = 1
		}
	}
	return b, o, s
}()

// blankAsSpace holds each byte, and a space for white space.
var blankAsSpace = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if spaces[i] {
			t[i] = ' '
		}
	}
	return t
}()

// spaces are the bytes of ASCII that count as white space.
var spaces = [256]bool{'\t': true, '\n': true, '\v': true, '\f': true, '\r': true, ' ': true}

func quickRemoveSpace(a *arena, s string, t gate.Touch) (string, bool) {
	if t&gate.TouchHigh != 0 {
		b := a.grow(3 * len(s))
		for i := 0; i < len(s); {
			c := s[i]
			if c < utf8.RuneSelf {
				if !spaces[c] {
					b = append(b, c)
				}
				i++
				continue
			}
			r, size := utf8.DecodeRuneInString(s[i:])
			switch {
			case size == 1: // an invalid byte
				b = append(b, "\uFFFD"...)
			case !unicode.IsSpace(r):
				b = append(b, s[i:i+size]...)
			}
			i += size
		}
		return a.text(b), true
	}
	b := a.grow(len(s))[:len(s)]
	n := 0
	for i := range len(s) {
		b[n] = s[i] // n is never behind i
		n += int(solid[s[i]])
	}
	return a.text(b[:n]), true
}

// quickRemoveSpaceMulti is quickRemoveSpace under multiMatch: the engine says of a
// text without white space that it is the same, whatever it has made of invalid
// bytes.
func quickRemoveSpaceMulti(a *arena, s string, t gate.Touch) (string, bool) {
	if t&gate.TouchHigh != 0 && strings.IndexFunc(s, unicode.IsSpace) < 0 {
		return s, true
	}
	return quickRemoveSpace(a, s, t)
}

func quickCompressSpace(a *arena, s string, t gate.Touch) (string, bool) {
	if t&gate.TouchHigh != 0 {
		b := a.grow(len(s))
		before := false
		for i := 0; i < len(s); {
			r, size := utf8.DecodeRuneInString(s[i:])
			space := r < 0x80 && spaces[byte(r)] || r == 0x85 || r == 0xA0 || s[i] == 0xA0
			switch {
			case !space:
				b = append(b, s[i:i+size]...)
			case !before:
				b = append(b, ' ')
			}
			before = space
			i += size
		}
		return a.text(b), true
	}
	// A blank behind another, or of another kind than a space, makes a difference.
	var before, other uint8
	for i := range len(s) {
		is := blank[s[i]]
		other |= is&before | otherBlank[s[i]]
		before = is
	}
	if other == 0 {
		return s, true
	}
	b := a.grow(len(s))[:len(s)]
	n := 0
	before = 0
	for i := range len(s) {
		c := s[i]
		is := blank[c]
		b[n] = blankAsSpace[c]
		n += int(1 - is&before)
		before = is
	}
	return a.text(b[:n]), true
}

var hexValue = func() (t [256]uint8) {
	for i := range t {
		t[i] = 0xFF
	}
	for c := range 10 {
		t['0'+c] = uint8(c)
	}
	for c := range 6 {
		t['a'+c], t['A'+c] = uint8(10+c), uint8(10+c)
	}
	return t
}()

func quickURLDecodeUni(a *arena, s string, _ gate.Touch) (string, bool) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, true
	}
	b := a.grow(len(s))
	for i := 0; i < len(s); {
		c := s[i]
		if c != '%' && c != '+' {
			from := i
			for i++; i < len(s) && s[i] != '%' && s[i] != '+'; i++ {
			}
			b = append(b, s[from:i]...)
			continue
		}
		n := 1
		switch {
		case c == '+':
			c = ' '
		case i+1 < len(s) && s[i+1]|0x20 == 'u':
			if i+5 >= len(s) {
				b, i = append(b, s[i:i+2]...), i+2
				continue
			}
			h1, h2, h3, h4 := hexValue[s[i+2]], hexValue[s[i+3]], hexValue[s[i+4]], hexValue[s[i+5]]
			if (h1|h2|h3|h4)&0xF0 != 0 {
				b, i = append(b, s[i:i+2]...), i+2
				continue
			}
			table := bestFit.Load()
			if table == nil {
				return "", false // the engine's table is not known
			}
			c, n = table[int(h1)<<12|int(h2)<<8|int(h3)<<4|int(h4)], 6
		case i+2 < len(s):
			if h, l := hexValue[s[i+1]], hexValue[s[i+2]]; h != 0xFF && l != 0xFF {
				c, n = h<<4|l, 3
			}
		}
		b = append(b, c)
		i += n
	}
	return a.text(b), true
}

// bestFit is what the engine makes of the escapes %u0000 to %uffff.
var (
	bestFit     atomic.Pointer[[1 << 16]byte]
	bestFitOnce sync.Once
)

// learnBestFit asks the engine's urlDecodeUni for its table.
func learnBestFit(apply func(string) (string, bool, error)) {
	bestFitOnce.Do(func() {
		const digits = "0123456789abcdef"
		escapes := make([]byte, 0, 6<<16)
		for c := range 1 << 16 {
			escapes = append(escapes, '%', 'u', digits[c>>12], digits[c>>8&15], digits[c>>4&15], digits[c&15])
		}
		out, _, err := apply(string(escapes))
		if err != nil || len(out) != 1<<16 {
			return // the engine is asked each time
		}
		bestFit.Store((*[1 << 16]byte)([]byte(out)))
	})
}

var base64Value = func() (t [256]uint8) {
	for i := range t {
		t[i] = 0xFF
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range len(alphabet) {
		t[alphabet[i]] = uint8(i)
	}
	return t
}()

func quickBase64(a *arena, s string, _ gate.Touch) (string, bool) {
	b := a.grow(len(s))
	x, n := 0, 0
	for i := range len(s) {
		v := base64Value[s[i]]
		if v == 0xFF {
			if s[i] == '\r' || s[i] == '\n' {
				continue
			}
			break
		}
		x = x<<6 | int(v)
		if n++; n == 4 {
			b = append(b, byte(x>>16), byte(x>>8), byte(x))
			x, n = 0, 0
		}
	}
	switch n {
	case 2:
		b = append(b, byte(x>>4))
	case 3:
		b = append(b, byte(x>>10), byte(x>>2))
	}
	return a.text(b), true
}

// cmdBytes says what cmdLine does with each byte. The numbers are 0 or 1.
var cmdBytes = func() (t [256]struct{ becomes, blank, dropped, closes, written uint8 }) {
	for i := range t {
		f := &t[i]
		f.becomes, f.written = lowerByte[i], 1
		switch i {
		case '"', '\'', '\\', '^':
			f.dropped, f.written = 1, 0
		case ' ', ',', ';', '\t', '\r', '\n':
			f.becomes, f.blank = ' ', 1
		case '/', '(': // takes the space before it
			f.closes = 1
		}
	}
	return t
}()

func quickCmdLine(a *arena, s string, t gate.Touch) (string, bool) {
	if t&(gate.TouchUpper|gate.TouchSpace|gate.TouchShell|gate.TouchBackslash) == 0 {
		return s, true
	}
	b := a.grow(len(s))[:len(s)]
	n := 0
	var space uint8 // 1 if the last byte written is the space of a blank
	for i := range len(s) {
		f := cmdBytes[s[i]]
		n -= int(f.closes & space)
		b[n] = f.becomes
		n += int(f.written - f.blank&space)
		space = f.blank | f.dropped&space
	}
	return a.text(b[:n]), true
}

// plainPath reports whether a path has no empty element and none of dots alone, so
// that cleaning it changes nothing.
func plainPath(s string) bool {
	if s == "/" {
		return false
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '/' {
			continue
		}
		switch s[start:i] {
		case "":
			if start > 0 && i < len(s) {
				return false
			}
		case ".", "..":
			return false
		}
		start = i + 1
	}
	return true
}

func quickPath(_ *arena, s string, _ gate.Touch) (string, bool) { return s, plainPath(s) }

func quickPathWin(a *arena, s string, t gate.Touch) (string, bool) {
	if s == "" || t&gate.TouchBackslash != 0 || !plainPath(s) || s[len(s)-1] == '/' {
		return s, s == ""
	}
	// What follows a colon in the last element goes.
	from := strings.LastIndexByte(s, '/') + 1
	if len(s) >= 2 && s[1] == ':' && (s[0]|0x20) >= 'a' && (s[0]|0x20) <= 'z' {
		from = max(from, 2)
	}
	if i := strings.IndexByte(s[from:], ':'); i >= 0 {
		s = s[:from+i]
	}
	// So do dots and spaces at the end of each element.
	for i := 0; i <= len(s); i++ {
		if i > 0 && (i == len(s) || s[i] == '/') && (s[i-1] == '.' || s[i-1] == ' ') {
			return quickTrimElements(a, s), true
		}
	}
	return s, true
}

// quickTrimElements removes dots and spaces at the end of each element, but for
// those of dots alone, and elements of which nothing is left.
func quickTrimElements(a *arena, s string) string {
	b := a.grow(len(s) + 1)
	wrote, trimmed := false, false
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '/' {
			continue
		}
		element := s[start:i]
		start = i + 1
		if strings.Trim(element, ".") != "" {
			kept := strings.TrimRight(element, ". ")
			trimmed = trimmed || kept != element
			if kept == "" {
				continue
			}
			element = kept
		}
		if wrote {
			b = append(b, '/')
		}
		b = append(b, element...)
		wrote = true
	}
	if !trimmed {
		return s
	}
	return a.text(b)
}

func quickReplaceComments(_ *arena, s string, _ gate.Touch) (string, bool) {
	return s, !strings.Contains(s, "/*")
}

func quickRemoveCommentsChar(a *arena, s string, _ gate.Touch) (string, bool) {
	b := a.grow(len(s))
	for i := 0; i < len(s); {
		switch rest := s[i:]; {
		case s[i] == '#':
			i++
		case s[i] != '/' && s[i] != '*' && s[i] != '<' && s[i] != '-':
			b = append(b, s[i])
			i++
		case strings.HasPrefix(rest, "/*"), strings.HasPrefix(rest, "*/"):
			i += 2
		case strings.HasPrefix(rest, "<!--"):
			i += 4
		case strings.HasPrefix(rest, "-->"):
			i += 3
		case strings.HasPrefix(rest, "--"):
			i += 2
		default:
			b = append(b, s[i])
			i++
		}
	}
	return a.text(b), true
}

// unicodeDigits are the hexadecimal digits of each byte.
var unicodeDigits = func() (t [256][2]byte) {
	const digits = "0123456789abcdef"
	for i := range t {
		t[i] = [2]byte{digits[i>>4], digits[i&15]}
	}
	return t
}()

func quickUTF8ToUnicode(a *arena, s string, _ gate.Touch) (string, bool) {
	const digits = "0123456789abcdef"
	high := 0
	for i := range len(s) {
		high += int(s[i] >> 7)
	}
	b := a.grow(len(s) + 5*high) // each byte of an invalid text becomes six
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			from := i
			for i++; i < len(s) && s[i] < utf8.RuneSelf; i++ {
			}
			b = append(b, s[from:i]...)
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		if r <= 0xFFFF {
			h, l := unicodeDigits[r>>8], unicodeDigits[r&0xFF]
			b = append(b, '%', 'u', h[0], h[1], l[0], l[1])
			continue
		}
		b = append(b, '%', 'u')
		for shift := (bits.Len32(uint32(r)) - 1) / 4 * 4; shift >= 0; shift -= 4 {
			b = append(b, digits[r>>shift&15])
		}
	}
	return a.text(b), true
}

func quickRemoveNulls(a *arena, s string, _ gate.Touch) (string, bool) {
	b := a.grow(len(s))
	for i := range len(s) {
		if s[i] != 0 {
			b = append(b, s[i])
		}
	}
	return a.text(b), true
}
