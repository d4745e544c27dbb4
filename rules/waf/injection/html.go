package injection

import "strings"

// htmlContext is where in a page the text is taken to stand.
type htmlContext uint8

const (
	inText htmlContext = iota
	inTag
	inSingle
	inDouble
	inTick
)

// htmlState is what the tokenizer reads next.
type htmlState uint8

const (
	stateEnd htmlState = iota
	stateText
	stateTagOpen
	stateTagEnd
	stateSelfClosing
	stateBeforeName
	stateAfterName
	stateBeforeValue
	stateAfterQuoted
	stateFirstSingle
	stateFirstDouble
	stateFirstTick
)

// htmlKind is a kind of token. Kinds that decide nothing are one.
type htmlKind uint8

const (
	htmlOther htmlKind = iota
	htmlTag
	htmlAttr
	htmlValue
	htmlComment
	htmlDoctype
)

// htmlLexer reads the tokens of a page as browsers do that accept anything.
type htmlLexer struct {
	s       string
	pos     int
	state   htmlState
	closing bool
	kind    htmlKind
	val     string
}

// emit sets the token and what follows it.
func (h *htmlLexer) emit(kind htmlKind, val string, pos int, state htmlState) bool {
	h.kind, h.val, h.pos, h.state = kind, val, pos, state
	return true
}

// next reads a token and reports whether there was one.
func (h *htmlLexer) next() bool {
	switch h.state {
	case stateText:
		return h.text()
	case stateTagOpen:
		return h.tagOpen()
	case stateTagEnd:
		return h.tagEnd()
	case stateSelfClosing:
		return h.selfClosing()
	case stateBeforeName:
		return h.beforeName()
	case stateAfterName:
		return h.afterName()
	case stateBeforeValue:
		return h.beforeValue()
	case stateAfterQuoted:
		return h.afterQuoted()
	case stateFirstSingle:
		return h.quoted('\'')
	case stateFirstDouble:
		return h.quoted('"')
	case stateFirstTick:
		return h.quoted('`')
	}
	return false
}

func isHTMLWhite(c byte) bool { return c == ' ' || c-'\t' < 5 }

// skipWhite also skips zero bytes. It reports whether a byte is left.
func (h *htmlLexer) skipWhite() bool {
	for h.pos < len(h.s) && (isHTMLWhite(h.s[h.pos]) || h.s[h.pos] == 0) {
		h.pos++
	}
	return h.pos < len(h.s)
}

func (h *htmlLexer) text() bool {
	i := strings.IndexByte(h.s[h.pos:], '<')
	switch {
	case i < 0 && h.pos == len(h.s):
		return false
	case i < 0:
		return h.emit(htmlOther, "", h.pos, stateEnd)
	case i == 0:
		h.pos++
		h.state = stateTagOpen
		return h.tagOpen()
	}
	return h.emit(htmlOther, "", h.pos+i+1, stateTagOpen)
}

func (h *htmlLexer) tagOpen() bool {
	if h.pos >= len(h.s) {
		return false
	}
	switch c := h.s[h.pos]; {
	case c == '!':
		h.pos++
		return h.markup()
	case c == '/':
		h.pos++
		h.closing = true
		if h.pos >= len(h.s) {
			return false
		}
		switch c := h.s[h.pos]; {
		case c == '>':
			return h.text()
		case isLetter(c):
			return h.tagName()
		}
		h.closing = false
		return h.bogusComment()
	case c == '?':
		h.pos++
		return h.bogusComment()
	case c == '%':
		h.pos++
		return h.percentComment()
	case isLetter(c), c == 0:
		return h.tagName()
	}
	return h.emit(htmlOther, "", h.pos, stateText)
}

func (h *htmlLexer) tagName() bool {
	s := h.s
	for i := h.pos; i < len(s); i++ {
		switch c := s[i]; {
		case isHTMLWhite(c):
			return h.emit(htmlTag, s[h.pos:i], i+1, stateBeforeName)
		case c == '/':
			return h.emit(htmlTag, s[h.pos:i], i+1, stateSelfClosing)
		case c == '>' && h.closing:
			h.closing = false
			return h.emit(htmlOther, "", i+1, stateText)
		case c == '>':
			return h.emit(htmlTag, s[h.pos:i], i, stateTagEnd)
		}
	}
	return h.emit(htmlTag, s[h.pos:], h.pos, stateEnd)
}

// tagEnd stands at the > of a tag.
func (h *htmlLexer) tagEnd() bool {
	h.closing = false
	if h.pos+1 < len(h.s) {
		return h.emit(htmlOther, "", h.pos+1, stateText)
	}
	return h.emit(htmlOther, "", h.pos+1, stateEnd)
}

func (h *htmlLexer) selfClosing() bool {
	if h.pos >= len(h.s) {
		return false
	}
	if h.s[h.pos] == '>' {
		return h.emit(htmlOther, "", h.pos+1, stateText)
	}
	return h.beforeName()
}

func (h *htmlLexer) beforeName() bool {
	for h.skipWhite() {
		switch h.s[h.pos] {
		case '/':
			h.pos++
			if h.pos >= len(h.s) {
				return false
			}
			if h.s[h.pos] == '>' {
				return h.emit(htmlOther, "", h.pos+1, stateText)
			}
		case '>':
			return h.emit(htmlOther, "", h.pos+1, stateText)
		default:
			return h.attrName()
		}
	}
	return false
}

// attrName reads a name; its first byte may be anything.
func (h *htmlLexer) attrName() bool {
	s := h.s
	for i := h.pos + 1; i < len(s); i++ {
		switch c := s[i]; {
		case isHTMLWhite(c):
			return h.emit(htmlAttr, s[h.pos:i], i+1, stateAfterName)
		case c == '/':
			return h.emit(htmlAttr, s[h.pos:i], i+1, stateSelfClosing)
		case c == '=':
			return h.emit(htmlAttr, s[h.pos:i], i+1, stateBeforeValue)
		case c == '>':
			return h.emit(htmlAttr, s[h.pos:i], i, stateTagEnd)
		}
	}
	return h.emit(htmlAttr, s[h.pos:], len(s), stateEnd)
}

func (h *htmlLexer) afterName() bool {
	if !h.skipWhite() {
		return false
	}
	switch h.s[h.pos] {
	case '/':
		h.pos++
		return h.selfClosing()
	case '=':
		h.pos++
		return h.beforeValue()
	case '>':
		return h.tagEnd()
	}
	return h.attrName()
}

func (h *htmlLexer) beforeValue() bool {
	if !h.skipWhite() {
		return false
	}
	switch c := h.s[h.pos]; c {
	case '"', '\'', '`':
		return h.quoted(c)
	}
	s := h.s
	for i := h.pos; i < len(s); i++ {
		switch c := s[i]; {
		case isHTMLWhite(c):
			return h.emit(htmlValue, s[h.pos:i], i+1, stateBeforeName)
		case c == '>':
			return h.emit(htmlValue, s[h.pos:i], i, stateTagEnd)
		}
	}
	return h.emit(htmlValue, s[h.pos:], h.pos, stateEnd)
}

// quoted reads a value in quotes. At the very beginning of the text the
// opening quote stands before it.
func (h *htmlLexer) quoted(quote byte) bool {
	if h.pos > 0 {
		h.pos++
	}
	i := strings.IndexByte(h.s[h.pos:], quote)
	if i < 0 {
		return h.emit(htmlValue, h.s[h.pos:], h.pos, stateEnd)
	}
	return h.emit(htmlValue, h.s[h.pos:h.pos+i], h.pos+i+1, stateAfterQuoted)
}

func (h *htmlLexer) afterQuoted() bool {
	if h.pos >= len(h.s) {
		return false
	}
	switch c := h.s[h.pos]; {
	case isHTMLWhite(c):
		h.pos++
	case c == '/':
		h.pos++
		return h.selfClosing()
	case c == '>':
		return h.emit(htmlOther, "", h.pos+1, stateText)
	}
	return h.beforeName()
}

// markup reads what follows <!
func (h *htmlLexer) markup() bool {
	rest := h.s[h.pos:]
	switch {
	case len(rest) >= 7 && equalFold("DOCTYPE", rest[:7]):
		return h.emit(htmlDoctype, rest, h.pos, stateEnd)
	case strings.HasPrefix(rest, "[CDATA["):
		h.pos += 7
		if i := strings.Index(h.s[h.pos:], "]]>"); i >= 0 {
			return h.emit(htmlOther, "", h.pos+i+3, stateText)
		}
		return h.emit(htmlOther, "", h.pos, stateEnd)
	case strings.HasPrefix(rest, "--"):
		h.pos += 2
		return h.comment()
	}
	return h.bogusComment()
}

// bogusComment ends at the next >.
func (h *htmlLexer) bogusComment() bool {
	i := strings.IndexByte(h.s[h.pos:], '>')
	if i < 0 {
		return h.emit(htmlComment, h.s[h.pos:], h.pos, stateEnd)
	}
	return h.emit(htmlComment, h.s[h.pos:h.pos+i], h.pos+i+1, stateText)
}

// percentComment is <% %>. The library looks for the > behind the second and
// later percent signs at a place that is too early by what it has skipped, and
// takes the comment for as much shorter.
func (h *htmlLexer) percentComment() bool {
	s, pos := h.s, h.pos
	for {
		i := strings.IndexByte(s[pos:], '%')
		if i < 0 || pos+i+1 >= len(s) {
			return h.emit(htmlComment, s[h.pos:], len(s), stateEnd)
		}
		if s[h.pos+i+1] == '>' {
			return h.emit(htmlComment, s[h.pos:h.pos+i], pos+i+2, stateText)
		}
		pos += i + 1
	}
}

// comment ends at --> or -!>, with any number of zero bytes behind the dash,
// or with the text.
func (h *htmlLexer) comment() bool {
	s, pos := h.s, h.pos
	for {
		i := strings.IndexByte(s[pos:], '-')
		if i < 0 || pos+i+3 > len(s) {
			break
		}
		pos += i + 1
		end := pos
		for end < len(s) && s[end] == 0 {
			end++
		}
		if end == len(s) {
			break
		}
		if s[end] != '-' && s[end] != '!' {
			continue
		}
		if end+1 == len(s) {
			break
		}
		if s[end+1] == '>' {
			return h.emit(htmlComment, s[h.pos:pos-1], end+2, stateText)
		}
	}
	return h.emit(htmlComment, s[h.pos:], h.pos, stateEnd)
}
