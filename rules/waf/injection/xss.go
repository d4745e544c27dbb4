package injection

import "strings"

// attrKind says what the value of an attribute can do.
type attrKind uint8

const (
	attrNone attrKind = iota
	attrBlack
	attrAttrURL
	attrStyle
	attrAttrIndirect
)

// maxName is longer than every name in the tables. A name with more bytes is
// in none of them.
const maxName = 64

var (
	attributes = map[string]attrKind{"XMLNS": attrBlack, "XLINK": attrBlack}
	tags       = map[string]bool{}
	// attrShape and tagShape hold, by length, the first letters of the names.
	attrShape, tagShape [maxName + 1]uint32
)

func init() {
	for kind, list := range attributeLists {
		for name := range strings.Lines(list) {
			attributes[strings.TrimSuffix(name, "\n")] = kind
		}
	}
	for name := range strings.Lines(eventList) {
		// The library asks for handlers from a length of five bytes on.
		if name = "ON" + strings.TrimSuffix(name, "\n"); len(name) >= 5 && attributes[name] == attrNone {
			attributes[name] = attrBlack
		}
	}
	for name := range attributes {
		attrShape[len(name)] |= letterBit(name[0])
	}
	for name := range strings.Lines(tagList) {
		name = strings.TrimSuffix(name, "\n")
		tags[name] = true
		tagShape[len(name)] |= letterBit(name[0])
	}
}

// normalize writes s without zero bytes and in capitals to buf. ok is false
// if it does not fit.
func normalize(buf *[maxName]byte, s string) (n int, ok bool) {
	for i := range len(s) {
		c := s[i]
		if c == 0 {
			continue
		}
		if n == len(buf) {
			return n, false
		}
		if c-'a' < 26 {
			c -= 0x20
		}
		buf[n] = c
		n++
	}
	return n, true
}

func kindOf(name string) attrKind {
	var buf [maxName]byte
	n, ok := normalize(&buf, name)
	if !ok || n < 2 || attrShape[n]&letterBit(buf[0]) == 0 {
		return attrNone
	}
	return attributes[string(buf[:n])]
}

func blackTag(name string) bool {
	if len(name) < 3 {
		return false
	}
	var buf [maxName]byte
	n, ok := normalize(&buf, name)
	if !ok || n < 3 {
		return false
	}
	if p := string(buf[:3]); p == "SVG" || p == "XSL" {
		return true
	}
	return tagShape[n]&letterBit(buf[0]) != 0 && tags[string(buf[:n])]
}

// xss answers for all five contexts. It spends what it costs of work, as sqli does;
// where that is not enough the answer is true, and work is below zero.
func xss(s string, work *int) bool {
	if *work -= costSearch * len(s); *work < 0 {
		return true
	}
	if strings.IndexByte(s, '<') >= 0 {
		if script(s, inText, work) {
			return true
		}
	} else if !handlerBefore(s) {
		return false
	}
	return script(s, inTag, work) ||
		strings.IndexByte(s, '\'') >= 0 && script(s, inSingle, work) ||
		strings.IndexByte(s, '"') >= 0 && script(s, inDouble, work) ||
		strings.IndexByte(s, '`') >= 0 && script(s, inTick, work)
}

// handlerBefore reports whether some equals sign may stand behind a name of
// the table. Without one, and without a <, no context yields the value of
// such an attribute, and nothing else counts.
//
// A name ends at the equals sign or at white space before it. It begins
// behind white space, a slash, an equals sign, a greater-than sign or a quote
// that ends a value. Names in the table hold none of these bytes, so that
// only the longest stretch without them is to be looked up.
func handlerBefore(s string) bool {
	for from := 0; ; {
		i := strings.IndexByte(s[from:], '=')
		if i < 0 {
			return false
		}
		end := from + i
		for end > from && (isHTMLWhite(s[end-1]) || s[end-1] == 0) {
			end--
		}
		begin, zeros := end, 0
		for begin > from && !nameEnd[s[begin-1]] && end-begin-zeros <= maxName {
			begin--
			if s[begin] == 0 {
				zeros++
			}
		}
		if kindOf(s[begin:end]) != attrNone {
			return true
		}
		from += i + 1
	}
}

// nameEnd holds what no name in the tables contains.
var nameEnd = byteSet(" \t\n\v\f\r/=>'\"`")

// What reading a page costs, in nanoseconds as for costToken.
const (
	costSearch = 1 // a byte, to find what a script needs
	costPart   = 14
	costInside = 1 // a byte of a part
)

// script reads s in one context and reports whether it holds a script.
func script(s string, context htmlContext, work *int) bool {
	h := htmlLexer{s: s}
	switch context {
	case inText:
		h.state = stateText
	case inTag:
		h.state = stateBeforeName
	case inSingle:
		h.state = stateFirstSingle
	case inDouble:
		h.state = stateFirstDouble
	case inTick:
		h.state = stateFirstTick
	}
	name := ""
	for at := 0; h.next(); at = h.pos {
		if *work -= costPart + costInside*(h.pos-at); *work < 0 {
			return true
		}
		switch h.kind {
		case htmlDoctype:
			return true
		case htmlTag:
			if blackTag(h.val) {
				return true
			}
		case htmlComment:
			if blackComment(h.val) {
				return true
			}
		case htmlValue:
			if name != "" && blackValue(kindOf(name), h.val) {
				return true
			}
		}
		name = ""
		if h.kind == htmlAttr {
			name = h.val
		}
	}
	return false
}

func blackValue(kind attrKind, val string) bool {
	switch kind {
	case attrBlack, attrStyle:
		return true
	case attrAttrURL:
		return blackURL(val)
	case attrAttrIndirect:
		return kindOf(val) == attrBlack
	}
	return false
}

// blackComment knows the comments that Internet Explorer executes.
func blackComment(val string) bool {
	if strings.IndexByte(val, '`') >= 0 {
		return true
	}
	if len(val) >= 4 {
		a, b, c := val[0]|0x20, val[1]|0x20, val[2]|0x20
		if val[0] == '[' && b == 'i' && c == 'f' || a == 'x' && b == 'm' && c == 'l' {
			return true
		}
	}
	if len(val) > 5 {
		var buf [6]byte
		n := 0
		for i := 0; i < len(val) && n < len(buf); i++ {
			if c := val[i]; c != 0 {
				if c-'a' < 26 {
					c -= 0x20
				}
				buf[n] = c
				n++
			}
		}
		word := string(buf[:n])
		return word == "IMPORT" || word == "ENTITY"
	}
	return false
}

// blackURL reports whether a URL has a scheme that executes.
func blackURL(url string) bool {
	for len(url) > 0 && (url[0] <= ' ' || url[0] >= 0x7f) {
		url = url[1:]
	}
	for _, scheme := range [...]string{"DATA", "VIEW-SOURCE", "VBSCRIPT", "JAVA"} {
		if beginsWith(scheme, url) {
			return true
		}
	}
	return false
}

// beginsWith compares the beginning of url, its character references decoded,
// with a scheme in capitals. Control characters and blanks before it, zero
// bytes and line feeds do not count, and only the low eight bits of a
// character do.
func beginsWith(scheme, url string) bool {
	first, matched := true, 0
	for len(url) > 0 {
		c, n := decodeReference(url)
		url = url[n:]
		if first && c <= ' ' {
			continue
		}
		first = false
		if c == 0 || c == '\n' {
			continue
		}
		if matched == len(scheme) {
			return true
		}
		if c >= 'a' && c <= 'z' {
			c -= 0x20
		}
		if byte(c) != scheme[matched] {
			return false
		}
		matched++
	}
	return matched == len(scheme)
}

// maxReference is the number above which a reference is an ampersand.
const maxReference = 0x1000FF

// decodeReference returns the first character of s and how many bytes it takes.
func decodeReference(s string) (c, n int) {
	if s[0] != '&' || len(s) < 3 || s[1] != '#' {
		return int(s[0]), 1
	}
	i, base := 2, 10
	if s[2]|0x20 == 'x' {
		i, base = 3, 16
	}
	begin := i
	for ; i < len(s); i++ {
		d := digitValue(s[i])
		if d >= base {
			break
		}
		if c = c*base + d; c > maxReference {
			return '&', 1
		}
	}
	if i == begin {
		return '&', 1
	}
	if i < len(s) && s[i] == ';' {
		i++
	}
	return c, i
}

// digitValue is the value of a hexadecimal digit, 16 for other bytes.
func digitValue(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case isHex(c):
		return int(c|0x20-'a') + 10
	}
	return 16
}
