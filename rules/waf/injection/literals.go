package injection

import "strings"

// number reads digits with dot, exponent and Oracle's suffix, hexadecimal and
// binary numbers and a single dot. A number that ends in an exponent without
// digits ("1e") is skipped, as MySQL does: then t stays empty.
func (l *lexer) number(t *token) int {
	s, start := l.s, l.pos
	if s[start] == '0' && start+1 < len(s) {
		var digit func(byte) bool
		switch s[start+1] {
		case 'x', 'X':
			digit = isHex
		case 'b', 'B':
			digit = isBinary
		}
		if digit != nil {
			end := start + 2
			for end < len(s) && digit(s[end]) {
				end++
			}
			cat := catNumber
			if end == start+2 {
				cat = catWord
			}
			t.set(cat, start, end)
			return end
		}
	}
	pos := start
	for pos < len(s) && isDigit(s[pos]) {
		pos++
	}
	if pos < len(s) && s[pos] == '.' {
		pos++
		for pos < len(s) && isDigit(s[pos]) {
			pos++
		}
		if pos-start == 1 {
			t.set(catDot, start, pos)
			return pos
		}
	}
	bare := false
	if pos < len(s) && s[pos]|0x20 == 'e' {
		pos++
		if pos < len(s) && (s[pos] == '+' || s[pos] == '-') {
			pos++
		}
		bare = true
		for pos < len(s) && isDigit(s[pos]) {
			bare = false
			pos++
		}
	}
	if pos < len(s) && (s[pos]|0x20 == 'd' || s[pos]|0x20 == 'f') {
		if pos+1 == len(s) || isWhite(s[pos+1]) || s[pos+1] == ';' || s[pos+1]|0x20 == 'u' {
			pos++
		}
	}
	if !bare {
		t.set(catNumber, start, pos)
	}
	return pos
}

// digits reads x'0F' and b'01', else a word.
func (l *lexer) digits(t *token, digit func(byte) bool) int {
	s, pos := l.s, l.pos
	if pos+2 >= len(s) || s[pos+1] != '\'' {
		return l.word(t)
	}
	end := pos + 2
	for end < len(s) && digit(s[end]) {
		end++
	}
	if end >= len(s) || s[end] != '\'' {
		return l.word(t)
	}
	t.set(catNumber, pos, end+1)
	return end + 1
}

// eString reads e'...' and n'...', else a word.
func (l *lexer) eString(t *token) int {
	if l.pos+2 >= len(l.s) || l.s[l.pos+1] != '\'' {
		return l.word(t)
	}
	return l.str(t, l.pos, 2, '\'')
}

// qString reads Oracle's q'(...)' whose q stands at pos, else a word.
func (l *lexer) qString(t *token, pos int) int {
	s := l.s
	if pos+2 >= len(s) || s[pos]|0x20 != 'q' || s[pos+1] != '\'' || s[pos+2] < 33 {
		return l.word(t)
	}
	c := s[pos+2]
	switch c {
	case '(':
		c = ')'
	case '[':
		c = ']'
	case '{':
		c = '}'
	case '<':
		c = '>'
	}
	// The library turns the byte into a rune, so that a delimiter above 0x7F is
	// looked for in its UTF-8 form.
	var buf [3]byte
	end := append(buf[:0], string(rune(c))...)
	end = append(end, '\'')
	body := s[pos+3:]
	t.open = 'q'
	i := strings.Index(body, string(end))
	if i < 0 {
		t.set(catString, pos+3, len(s))
		return len(s)
	}
	t.set(catString, pos+3, pos+3+i)
	t.end = 'q'
	return pos + 3 + i + 2
}

// money reads $1,000.00, $$ strings $$, $tag$ strings $tag$ or the sign alone.
func (l *lexer) money(t *token) int {
	s, pos := l.s, l.pos
	if pos+1 == len(s) {
		t.set(catWord, pos, len(s))
		return len(s)
	}
	end := pos + 1
	for end < len(s) && (isDigit(s[end]) || s[end] == '.' || s[end] == ',') {
		end++
	}
	switch {
	case end == pos+2 && s[pos+1] == '.':
		return l.word(t)
	case end > pos+1:
		t.set(catNumber, pos, end)
		return end
	}
	if s[pos+1] != '$' {
		for end < len(s) && isLetter(s[end]) {
			end++
		}
		if end == pos+1 || end == len(s) || s[end] != '$' {
			t.set(catWord, pos, pos+1)
			return pos + 1
		}
	}
	tag, body := s[pos:end+1], s[end+1:]
	t.open = '$'
	i := strings.Index(body, tag)
	if i < 0 {
		t.set(catString, end+1, len(s))
		return len(s)
	}
	t.set(catString, end+1, end+1+i)
	t.end = '$'
	return end + 1 + i + len(tag)
}

// str reads a string from pos on, where skip bytes stand before its text: the
// quote and a letter before it, or nothing if the text is taken to begin
// behind a quote. It ends at the first quote that is neither doubled nor
// behind an odd number of backslashes.
//
// The library looks for the backslashes not before the quote itself, but
// before the first place where the rest of the text (from the quote on)
// occurs. That may be an earlier place: 'a\'b' has an unquoted end, because
// the rest behind b, a single quote, occurs first behind the backslash.
func (l *lexer) str(t *token, pos, skip int, quote byte) int {
	text := l.s[pos+skip:]
	if skip > 0 {
		t.open = quote
	}
	end := strings.IndexByte(text, quote)
	// The first quote is not preceded by another one: no earlier place.
	first, unique := true, 0
	var prepared *firsts
	for end >= 0 {
		if l.left -= costQuote; l.left < 0 {
			prepared.release()
			return len(l.s)
		}
		var escaped bool
		switch {
		case first:
			first = false
			escaped = l.escaped(text[:end])
		case prepared != nil:
			escaped = prepared.escaped(text, end)
		default:
			if unique == 0 {
				unique = l.uniqueTail(text)
			}
			at := end
			if rest := len(text) - end; rest < unique {
				if l.work < 0 {
					if prepared = l.prepare(text); prepared == nil {
						l.endless = true
						return len(l.s)
					}
					continue
				}
				at = strings.Index(text, text[end:])
				l.work -= at + rest/16 + 16
			}
			escaped = l.escaped(text[:at])
		}
		switch {
		case escaped:
			end++
		case end+1 < len(text) && text[end+1] == quote:
			end += 2
		default:
			t.set(catString, pos+skip, pos+skip+end)
			t.end = quote
			prepared.release()
			return pos + skip + end + 1
		}
		if i := strings.IndexByte(text[end:], quote); i >= 0 {
			end += i
		} else {
			end = -1
		}
	}
	prepared.release()
	t.set(catString, pos+skip, len(l.s))
	return len(l.s)
}

// prepare returns the first occurrences of the ends of text, nil if it is too
// long or too much has been prepared.
func (l *lexer) prepare(text string) *firsts {
	if len(text) > maxPrepared || l.preparations == maxPreparations {
		return nil
	}
	l.preparations++
	l.left -= costReady * len(text)
	f := firstsPool.Get().(*firsts)
	f.prepare(text)
	return f
}

// escaped reports whether text ends in an odd number of backslashes.
func (l *lexer) escaped(text string) bool {
	n := 0
	for n < len(text) && text[len(text)-1-n] == '\\' {
		n++
	}
	l.work -= n
	return n%2 != 0
}

// tailProbe is the length of the end of a text that is looked for in the text.
const tailProbe = 24

// uniqueTail returns a length from which on no end of text occurs at an
// earlier place too.
func (l *lexer) uniqueTail(text string) int {
	if len(text) <= tailProbe {
		return len(text) + 1
	}
	l.work -= len(text)
	tail := len(text) - tailProbe
	if strings.Index(text, text[tail:]) == tail {
		return tailProbe
	}
	return len(text) + 1
}
