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
	classes = *makeClasses()
	// opClass numbers the bytes that begin an operator of two bytes.
	opClass = [256]uint8{'!': 1, '&': 2, '*': 3, ':': 4, '<': 5, '=': 6, '>': 7, '|': 8}

	varEnd = byteSet(" <>:\\?=@!#~+-*/&|^%(),';\t\n\v\f\r'`\"")
)

// wordEnds are the bytes that end a word.
const wordEnds = " []{}<>:\\?=@!#~+-*/&|^%(),';\t\n\v\f\r\"\xa0\x00"

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

// token is one token. Its value is the n bytes of the text from pos on, at most
// maxValue, or the keyword kw if it was merged from several. kw is also set for
// single words that are in the table, spelled in ASCII. open and end are the
// quotes of a string, 0 where there is none.
type token struct {
	pos            int32
	kw             uint16
	n              uint8
	cat, open, end byte
	// sign is set for an operator of one byte, which it is.
	sign byte
	// odd is set for a word of the table that is not spelled in ASCII.
	odd bool
}

// set makes t a token of the bytes from pos to end.
func (t *token) set(cat byte, pos, end int) {
	t.cat, t.pos, t.n = cat, int32(pos), uint8(min(end-pos, maxValue))
}

func (t *token) setSign(pos int, sign byte) {
	t.cat, t.pos, t.n, t.sign = catOperator, int32(pos), 1, sign
}

// value is the text of t.
func (l *lexer) value(t *token) string {
	if t.kw != 0 {
		return keywords[t.kw].text
	}
	return l.s[t.pos : int(t.pos)+int(t.n)]
}

// isUnary reports whether t is one of + - ! ~ !! NOT.
func (l *lexer) isUnary(t *token) bool {
	if t.cat != catOperator {
		return false
	}
	switch t.n {
	case 1:
		return t.sign == '+' || t.sign == '-' || t.sign == '!' || t.sign == '~'
	case 2:
		return l.s[t.pos] == '!' && l.s[t.pos+1] == '!'
	case 3:
		return t.kw == kwNot
	}
	return false
}

// isArithmetic reports whether t is one of * / + - %.
func (t *token) isArithmetic() bool {
	if t.cat != catOperator {
		return false
	}
	switch t.sign {
	case '*', '/', '+', '-', '%':
		return true
	}
	return false
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
	// end of strings, in bytes looked at, before the text is prepared for a linear one. endless is
	// set when that cannot be done.
	work         int
	preparations int
	endless      bool
	// unsure is set when a case is met that is not reproduced.
	unsure bool
	// left is what the reading may still cost, in nanoseconds as they are
	// estimated; below zero it ends, and nothing is known.
	left int
}

// What reading costs, in nanoseconds on one core of an ordinary server.
const (
	costToken = 20 // with the rules that fold it
	costByte  = 4  // of a token
	costQuote = 20 // a quote that may end a string
	costReady = 20 // to prepare a byte for the search of ends
)

// next reads a token into t and reports whether there was one.
func (l *lexer) next(t *token) bool {
	if len(l.s) == 0 || l.left < 0 {
		return false
	}
	*t = token{}
	if l.pos == 0 && l.quote != 0 {
		l.pos = l.str(t, 0, 0, l.quote)
		l.tokens++
		return true
	}
	start := l.pos
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
			l.left -= costToken + costByte*(l.pos-start)
			return true
		}
	}
	l.left -= costByte * (l.pos - start)
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
		t.set(c, pos, pos+1)
	case classOp1:
		t.setSign(pos, s[pos])
	case classOp2:
		return l.operator(t)
	case classQuote:
		return l.str(t, pos, 1, c)
	case classHash:
		l.retry = true
		if l.mysql {
			return l.lineComment(t)
		}
		t.setSign(pos, s[pos])
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
		t.setSign(pos, s[pos])
	case classSlash:
		return l.slash(t)
	case classMoney:
		return l.money(t)
	case classBackslash:
		if pos+1 < len(s) && s[pos+1] == 'N' {
			t.set(catNumber, pos, pos+2)
			return pos + 2
		}
		t.set(catBackslash, pos, pos+1)
	case classBracket:
		end := strings.IndexByte(s[pos:], ']')
		if end < 0 {
			t.set(catWord, pos, len(s))
			return len(s)
		}
		t.set(catWord, pos, pos+end+1)
		return pos + end + 1
	case classTick:
		return l.tick(t)
	case classAt:
		return l.variable(t)
	case classUnknown:
		t.set(catUnknown, pos, pos+1)
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
		t.set(catComment, l.pos, len(l.s))
		return len(l.s)
	}
	t.set(catComment, l.pos, l.pos+i)
	return l.pos + i + 1
}

// slash reads an operator or a comment. Comments within comments and the
// conditional comments of MySQL are evil.
func (l *lexer) slash(t *token) int {
	s, pos := l.s, l.pos
	if pos+1 == len(s) || s[pos+1] != '*' {
		t.setSign(pos, s[pos])
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
	t.set(cat, pos, end)
	return end
}

func (l *lexer) operator(t *token) int {
	s, pos := l.s, l.pos
	if pos+1 < len(s) {
		if s[pos] == '<' && s[pos+1] == '=' && pos+2 < len(s) && s[pos+2] == '>' {
			t.set(catOperator, pos, pos+3)
			return pos + 3
		}
		if c := s[pos+1]; c < 0x80 {
			if cat := operators2[opClass[s[pos]]][c]; cat != catNone {
				t.set(cat, pos, pos+2)
				return pos + 2
			}
		}
		if s[pos] == ':' {
			t.set(':', pos, pos+1)
			return pos + 1
		}
	}
	t.setSign(pos, s[pos])
	return pos + 1
}

// What wordBytes says about a byte.
const (
	endsWord  = 1 << iota
	splitWord // a keyword before it is a token
)

var wordBytes = makeWordBytes()

func makeWordBytes() (t [256]uint8) {
	for i := range len(wordEnds) {
		t[wordEnds[i]] = endsWord
	}
	t['.'], t['`'] = splitWord, splitWord
	return t
}

// word reads a word. A keyword before a dot or a back quote is a token.
func (l *lexer) word(t *token) int {
	rest := l.s[l.pos:]
	n, seen := 0, uint8(0)
	for ; n < len(rest); n++ {
		k := wordBytes[rest[n]]
		if k&endsWord != 0 {
			break
		}
		if n < maxValue {
			seen |= k
		} else if n+8 <= len(rest) && (wordBytes[rest[n+1]]|wordBytes[rest[n+2]]|wordBytes[rest[n+3]]|
			wordBytes[rest[n+4]]|wordBytes[rest[n+5]]|wordBytes[rest[n+6]]|wordBytes[rest[n+7]])&endsWord == 0 {
			n += 7
		}
	}
	t.set(catWord, l.pos, l.pos+n)
	if seen&splitWord != 0 {
		for i := range min(n, maxValue) {
			if wordBytes[rest[i]]&splitWord == 0 {
				continue
			}
			kw, odd := findWord(rest[:i])
			if cat := keywords[kw].cat; cat != catNone && cat != catWord {
				t.set(cat, l.pos, l.pos+i)
				t.name(kw, odd)
				return l.pos + i
			}
		}
	}
	if n <= maxValue {
		kw, odd := findWord(rest[:n])
		if cat := keywords[kw].cat; cat != catNone {
			t.cat = cat
		}
		t.name(kw, odd)
	}
	return l.pos + n
}

// name sets the keyword that t is.
func (t *token) name(kw uint16, odd bool) {
	if t.odd = odd; !odd {
		t.kw = kw
	}
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
	t.set(catVariable, l.pos, pos)
	return pos
}

// tick reads what stands in back quotes: the name of a function or a word.
func (l *lexer) tick(t *token) int {
	end := l.str(t, l.pos, 1, '`')
	kw, odd := findWord(l.value(t))
	if t.cat = catWord; keywords[kw].cat == catFunction {
		t.cat = catFunction
	}
	t.name(kw, odd)
	return end
}
