package injection

import "strings"

// class says how a token that begins with a byte is read.
type class uint8

const (
	classWord class = iota
	classWhite
	classDigit // digits and the dot
	classOp1   // operators of one byte
	classOp2   // operators that may have two or three bytes
	classPunct // a category of its own
	classQuote
	classHash
	classDash
	classSlash
	classMoney
	classBackslash
	classBracket
	classTick
	classAt
	classUnknown
	classB // letters that may introduce a literal
	classE
	classN
	classQ
	classU
	classX
)

const opClasses = 16

var (
	classes = makeClasses()
	// opClass numbers the bytes that begin an operator of two bytes.
	opClass = [256]uint8{'!': 1, '&': 2, '*': 3, ':': 4, '<': 5, '=': 6, '>': 7, '|': 8}

	wordEnd = byteSet(" []{}<>:\\?=@!#~+-*/&|^%(),';\t\n\v\f\r\"\xa0\x00")
	varEnd  = byteSet(" <>:\\?=@!#~+-*/&|^%(),';\t\n\v\f\r'`\"")
)

func byteSet(s string) *[256]bool {
	t := new([256]bool)
	for i := range len(s) {
		t[s[i]] = true
	}
	return t
}

func makeClasses() *[256]class {
	t := new([256]class)
	for c := range 33 {
		t[c] = classWhite
	}
	for _, g := range []struct {
		bytes string
		class class
	}{
		{"\x7f\xa0", classWhite},
		{"0123456789.", classDigit},
		{"%+^~", classOp1},
		{"!&*:<=>|", classOp2},
		{"(),;{}", classPunct},
		{"'\"", classQuote},
		{"#", classHash},
		{"-", classDash},
		{"/", classSlash},
		{"$", classMoney},
		{"\\", classBackslash},
		{"[", classBracket},
		{"`", classTick},
		{"@", classAt},
		{"?]", classUnknown},
		{"bB", classB},
		{"eE", classE},
		{"nN", classN},
		{"qQ", classQ},
		{"uU", classU},
		{"xX", classX},
	} {
		for i := range len(g.bytes) {
			t[g.bytes[i]] = g.class
		}
	}
	return t
}

// token is one token. val is at most maxValue bytes of it, open and end are
// the quotes of a string, 0 where there is none.
type token struct {
	val            string
	cat, open, end byte
}

func (t *token) set(cat byte, val string) {
	if len(val) > maxValue {
		val = val[:maxValue]
	}
	t.cat, t.val = cat, val
}

// isUnary reports whether t is one of + - ! ~ !! NOT.
func (t *token) isUnary() bool {
	if t.cat != catOperator {
		return false
	}
	switch len(t.val) {
	case 1:
		c := t.val[0]
		return c == '+' || c == '-' || c == '!' || c == '~'
	case 2:
		return t.val == "!!"
	case 3:
		return equalFold("NOT", t.val)
	}
	return false
}

// isArithmetic reports whether t is one of * / + - %.
func (t *token) isArithmetic() bool {
	if t.cat != catOperator || len(t.val) != 1 {
		return false
	}
	c := t.val[0]
	return c == '*' || c == '/' || c == '+' || c == '-' || c == '%'
}

// lexer reads the tokens of one text in one context.
type lexer struct {
	s   string
	pos int
	// quote is the quote that the text is taken to begin behind, 0 for none.
	quote byte
	mysql bool
	// retry is set when the text holds what MySQL reads differently.
	retry bool
	// tokens counts the tokens read.
	tokens int
	// work is what may still be spent on the library's quadratic search for the
	// end of strings, in bytes looked at. unsure is set when it is used up, and
	// when a case is met that is not reproduced.
	work   int
	unsure bool
}

// next reads a token into t and reports whether there was one.
func (l *lexer) next(t *token) bool {
	if len(l.s) == 0 {
		return false
	}
	*t = token{}
	if l.pos == 0 && l.quote != 0 {
		l.pos = l.str(t, 0, 0, l.quote)
		l.tokens++
		return true
	}
	for l.pos < len(l.s) {
		c := l.s[l.pos]
		k := classes[c]
		if k == classWhite {
			l.pos++
			continue
		}
		l.pos = l.read(t, c, k)
		if t.cat != catNone {
			l.tokens++
			return true
		}
	}
	return false
}

// read reads the token of class k at l.pos, which begins with c, and returns
// the position behind it.
func (l *lexer) read(t *token, c byte, k class) int {
	s, pos := l.s, l.pos
	switch k {
	case classWord:
		return l.word(t)
	case classDigit:
		return l.number(t)
	case classPunct:
		t.set(c, s[pos:pos+1])
	case classOp1:
		t.set(catOperator, s[pos:pos+1])
	case classOp2:
		return l.operator(t)
	case classQuote:
		return l.str(t, pos, 1, c)
	case classHash:
		l.retry = true
		if l.mysql {
			return l.lineComment(t)
		}
		t.set(catOperator, s[pos:pos+1])
	case classDash:
		if pos+1 < len(s) && s[pos+1] == '-' {
			switch {
			case pos+2 == len(s) || isWhite(s[pos+2]):
				return l.lineComment(t)
			case !l.mysql:
				l.retry = true
				return l.lineComment(t)
			}
		}
		t.set(catOperator, s[pos:pos+1])
	case classSlash:
		return l.slash(t)
	case classMoney:
		return l.money(t)
	case classBackslash:
		if pos+1 < len(s) && s[pos+1] == 'N' {
			t.set(catNumber, s[pos:pos+2])
			return pos + 2
		}
		t.set(catBackslash, s[pos:pos+1])
	case classBracket:
		end := strings.IndexByte(s[pos:], ']')
		if end < 0 {
			t.set(catWord, s[pos:])
			return len(s)
		}
		t.set(catWord, s[pos:pos+end+1])
		return pos + end + 1
	case classTick:
		return l.tick(t)
	case classAt:
		return l.variable(t)
	case classUnknown:
		t.set(catUnknown, s[pos:pos+1])
	case classB:
		return l.digits(t, isBinary)
	case classX:
		return l.digits(t, isHex)
	case classE:
		return l.eString(t)
	case classN:
		if pos+2 < len(s) && s[pos+1] == '\'' {
			return l.eString(t)
		}
		return l.qString(t, pos+1)
	case classQ:
		return l.qString(t, pos)
	case classU:
		if pos+2 < len(s) && s[pos+1] == '&' && s[pos+2] == '\'' {
			end := l.str(t, pos+2, 1, '\'')
			t.open = 'u'
			if t.end == '\'' {
				t.end = 'u'
			}
			return end
		}
		return l.word(t)
	}
	return pos + 1
}

// isWhite is white space as it ends the two dashes of a comment.
func isWhite(c byte) bool {
	return c == ' ' || c-'\t' < 5 || c == 0xa0 || c == 0
}

func isDigit(c byte) bool  { return c-'0' < 10 }
func isBinary(c byte) bool { return c-'0' < 2 }
func isHex(c byte) bool    { return c-'0' < 10 || c|0x20-'a' < 6 }
func isLetter(c byte) bool { return c|0x20-'a' < 26 }

func (l *lexer) lineComment(t *token) int {
	rest := l.s[l.pos:]
	i := strings.IndexByte(rest, '\n')
	if i < 0 {
		t.set(catComment, rest)
		return len(l.s)
	}
	t.set(catComment, rest[:i])
	return l.pos + i + 1
}

// slash reads an operator or a comment. Comments within comments and the
// conditional comments of MySQL are evil.
func (l *lexer) slash(t *token) int {
	s, pos := l.s, l.pos
	if pos+1 == len(s) || s[pos+1] != '*' {
		t.set(catOperator, s[pos:pos+1])
		return pos + 1
	}
	cat, end := catComment, len(s)
	if i := strings.Index(s[pos+2:], "*/"); i >= 0 {
		end = pos + 2 + i + 2
		if strings.Contains(s[pos+2:end-1], "/*") {
			cat = catEvil
		}
	}
	if pos+2 < len(s) && s[pos+2] == '!' {
		cat = catEvil
	}
	t.set(cat, s[pos:end])
	return end
}

func (l *lexer) operator(t *token) int {
	s, pos := l.s, l.pos
	if pos+1 < len(s) {
		if s[pos] == '<' && s[pos+1] == '=' && pos+2 < len(s) && s[pos+2] == '>' {
			t.set(catOperator, s[pos:pos+3])
			return pos + 3
		}
		if c := s[pos+1]; c < 0x80 {
			if cat := operators2[opClass[s[pos]]][c]; cat != catNone {
				t.set(cat, s[pos:pos+2])
				return pos + 2
			}
		}
		if s[pos] == ':' {
			t.set(':', s[pos:pos+1])
			return pos + 1
		}
	}
	t.set(catOperator, s[pos:pos+1])
	return pos + 1
}

// word reads a word. A keyword before a dot or a back quote is a token.
func (l *lexer) word(t *token) int {
	s, pos := l.s, l.pos
	end := pos
	for end < len(s) && !wordEnd[s[end]] {
		end++
	}
	t.set(catWord, s[pos:end])
	for i := range len(t.val) {
		if c := t.val[i]; c == '.' || c == '`' {
			if cat := lookup(t.val[:i]); cat != catNone && cat != catWord {
				t.set(cat, t.val[:i])
				return pos + i
			}
		}
	}
	if end-pos <= maxValue {
		if cat := lookup(t.val); cat != catNone {
			t.cat = cat
		}
	}
	return end
}

func (l *lexer) variable(t *token) int {
	s := l.s
	l.pos++
	if l.pos < len(s) && s[l.pos] == '@' {
		l.pos++
	}
	pos := l.pos
	if pos < len(s) {
		switch s[pos] {
		case '`':
			pos = l.tick(t)
			t.cat = catVariable
			return pos
		case '\'', '"':
			pos = l.str(t, pos, 1, s[pos])
			t.cat = catVariable
			return pos
		}
	}
	for pos < len(s) && !varEnd[s[pos]] {
		pos++
	}
	t.set(catVariable, s[l.pos:pos])
	return pos
}

// tick reads what stands in back quotes: the name of a function or a word.
func (l *lexer) tick(t *token) int {
	end := l.str(t, l.pos, 1, '`')
	if lookup(t.val) == catFunction {
		t.cat = catFunction
	} else {
		t.cat = catWord
	}
	return end
}
