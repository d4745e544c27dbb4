package injection

import "strings"

// maxTokens is the length of a fingerprint.
const maxTokens = 5

// folder reduces the tokens of a text to at most maxTokens, as the library
// does: a small window over the tokens in which known phrases become one token
// and what cannot matter is left out. v holds the window; it is one token
// longer than the fingerprint, since the sixth token can decide about the fifth.
type folder struct {
	lexer
	v [maxTokens + 3]token
	// comment is the comment behind the last token, if there is one.
	comment token
	// n is the number of tokens of the fingerprint.
	n int
}

// fill reads tokens to v[pos] until there are want of them from left on.
func (f *folder) fill(pos, left, want int, more bool) (int, bool) {
	for more && pos <= maxTokens && pos-left < want {
		if more = f.next(&f.v[pos]); !more {
			break
		}
		if f.v[pos].cat == catComment {
			f.comment = f.v[pos]
		} else {
			f.comment.cat = catNone
			pos++
		}
	}
	return pos, more
}

// fold returns the number of tokens that are left in v.
func (f *folder) fold() int {
	v := &f.v
	for {
		if !f.next(&v[0]) {
			return 0
		}
		if c := v[0].cat; c != catComment && c != '(' && c != catType && !v[0].isUnary() {
			break
		}
	}
	pos, left, more := 1, 0, true
	for {
		if pos >= maxTokens && restarts(v) {
			if pos > maxTokens {
				v[1] = v[maxTokens]
				left, pos = 1, 2
			} else {
				left, pos = 0, 1
			}
		}
		if !more || left >= maxTokens {
			left = pos
			break
		}
		pos, more = f.fill(pos, left, 2, more)
		if pos-left < 2 {
			left = pos
			continue
		}
		if p, l, step := f.fold2(pos, left); step != stepNone {
			if step == stepEnd {
				return l
			}
			pos, left = p, l
			continue
		} else {
			// A rule of two tokens may set left back and go on with three.
			left = l
		}
		pos, more = f.fill(pos, left, 3, more)
		if pos-left < 3 {
			left = pos
			continue
		}
		if p, l, ok := f.fold3(pos, left); ok {
			pos, left = p, l
			continue
		}
		left++
	}
	if left < maxTokens && f.comment.cat == catComment {
		v[left] = f.comment
		left++
	}
	return min(left, maxTokens)
}

// restarts reports whether the five tokens are arithmetic that says nothing.
func restarts(v *[maxTokens + 3]token) bool {
	a, b, c, d, e := v[0].cat, v[1].cat, v[2].cat, v[3].cat, v[4].cat
	switch a {
	case catNumber:
		return (b == catOperator || b == ',') && c == '(' && d == catNumber && e == ')' ||
			b == ')' && c == ',' && d == '(' && e == catNumber
	case catWord:
		return b == catOperator && c == '(' && (d == catWord || d == catNumber) && e == ')' ||
			b == ')' && c == catOperator && d == '(' && e == catWord
	}
	return false
}

type step uint8

const (
	stepNone  step = iota // go on with three tokens
	stepAgain             // look at two tokens again
	stepEnd               // the fingerprint is decided
)

// fold2 applies the rules for the two tokens at left. It returns the new end
// of the window and the new left.
func (f *folder) fold2(pos, left int) (int, int, step) {
	a, b := &f.v[left], &f.v[left+1]
	switch {
	case a.cat == catString && b.cat == catString,
		a.cat == ';' && b.cat == ';':
		return pos - 1, left, stepAgain
	case (a.cat == catOperator || a.cat == catLogic) && (b.isUnary() || b.cat == catType):
		return pos - 1, 0, stepAgain
	case a.cat == '(' && b.isUnary():
		return pos - 1, max(left-1, 0), stepAgain
	case f.merge(a, b):
		return pos - 1, max(left-1, 0), stepAgain
	case a.cat == ';' && b.cat == catFunction && len(b.val) >= 2 && equalFold("IF", b.val[:2]):
		// Behind a semicolon it is the statement of Transact-SQL.
		b.cat = catTSQL
		return pos, left, stepAgain
	case (a.cat == catWord || a.cat == catVariable) && b.cat == '(' && callable(a.val):
		a.cat = catFunction
		return pos, left, stepAgain
	case a.cat == catKeyword && (equalFold("IN", a.val) || equalFold("NOT IN", a.val)):
		if b.cat == '(' {
			a.cat = catOperator
		} else {
			a.cat = catWord
		}
		return pos, left, stepAgain
	case a.cat == catOperator && (equalFold("LIKE", a.val) || equalFold("NOT LIKE", a.val)):
		if b.cat == '(' {
			a.cat = catFunction
		}
	case a.cat == catType && (b.cat == catWord || b.cat == catNumber || b.cat == catType || b.cat == '(' ||
		b.cat == catFunction || b.cat == catVariable || b.cat == catString):
		*a = *b
		return pos - 1, 0, stepAgain
	case a.cat == catCollate && b.cat == catWord:
		// A word with an underscore is taken for a collation.
		if strings.IndexByte(b.val, '_') >= 0 {
			b.cat = catType
			return pos, 0, stepNone
		}
	case a.cat == catBackslash:
		if b.isArithmetic() {
			a.cat = catNumber
			return pos, 0, stepAgain
		}
		*a = *b
		return pos - 1, 0, stepAgain
	case a.cat == '(' && b.cat == '(',
		a.cat == ')' && b.cat == ')':
		return pos - 1, 0, stepAgain
	case a.cat == '{' && b.cat == catWord:
		if len(b.val) == 0 {
			b.cat = catEvil
			return pos, left + 2, stepEnd
		}
		return pos - 2, 0, stepAgain
	case b.cat == '}':
		return pos - 1, 0, stepAgain
	}
	return pos, left, stepNone
}

// callable reports whether a word or variable is also the name of a function.
func callable(w string) bool {
	if len(w) < 4 || len(w) > 17 || letterBit(w[0])&callableLetters == 0 {
		return false
	}
	for _, name := range callables {
		if equalFold(name, w) {
			return true
		}
	}
	return false
}

var callables = [...]string{
	"USER_ID", "USER_NAME", "DATABASE", "PASSWORD", "USER", "CURRENT_USER",
	"CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP",
}

const callableLetters = 1<<('U'-'A') | 1<<('D'-'A') | 1<<('P'-'A') | 1<<('C'-'A') | 1<<('L'-'A')

// merge makes one token of two that are a phrase of the word table.
func (f *folder) merge(a, b *token) bool {
	n := len(a.val) + 1 + len(b.val)
	if n > maxValue+1 || len(a.val) == 0 || len(b.val) == 0 || !mergeable(a.cat) || !mergeable(b.cat) && b.cat != catLogic {
		return false
	}
	var buf [maxValue + 1]byte
	ascii := isASCII(a.val) && isASCII(b.val)
	if ascii && (phraseHead[len(a.val)]&letterBit(a.val[0]) == 0 || phraseTail[len(b.val)]&letterBit(b.val[0]) == 0) {
		return false
	}
	copy(buf[:], a.val)
	buf[len(a.val)] = ' '
	copy(buf[len(a.val)+1:], b.val)
	var i uint16
	if phrase := string(buf[:n]); ascii {
		i = findWord(phrase)
	} else {
		i = findNonASCII(phrase)
	}
	if i == 0 {
		return false
	}
	if !ascii {
		// The merged value would have to keep its spelling, because later rules
		// compare it with ASCII letters only.
		f.unsure = true
	}
	*a = token{val: keywords[i].text, cat: keywords[i].cat, open: a.open, end: a.end}
	return true
}

func mergeable(cat byte) bool {
	switch cat {
	case catKeyword, catWord, catOperator, catUnion, catFunction, catExpression, catTSQL, catType:
		return true
	}
	return false
}

// fold3 applies the rules for the three tokens at left.
func (f *folder) fold3(pos, left int) (int, int, bool) {
	a, b, c := &f.v[left], &f.v[left+1], &f.v[left+2]
	switch {
	case a.cat == catNumber && b.cat == catOperator && c.cat == catNumber,
		a.cat == catOperator && b.cat != '(' && c.cat == catOperator,
		a.cat == catLogic && c.cat == catLogic,
		a.cat == catVariable && b.cat == catOperator && (c.cat == catVariable || c.cat == catNumber || c.cat == catWord),
		(a.cat == catWord || a.cat == catNumber) && b.cat == catOperator && (c.cat == catNumber || c.cat == catWord),
		isOperand(a.cat) && b.cat == catOperator && b.val == "::" && c.cat == catType,
		isOperand(a.cat) && b.cat == ',' && isOperand(c.cat):
		return pos - 2, 0, true
	case (a.cat == catExpression || a.cat == catGroup || a.cat == ',') && b.isUnary() && c.cat == '(',
		(a.cat == catKeyword || a.cat == catExpression || a.cat == catGroup) && b.isUnary() &&
			(isOperand(c.cat) || c.cat == catFunction):
		*b = *c
		return pos - 1, 0, true
	case a.cat == ',' && b.isUnary() && isOperand(c.cat):
		*b = *c
		return pos - 3, 0, true
	case a.cat == ',' && b.isUnary() && c.cat == catFunction:
		*b = *c
		return pos - 1, 0, true
	case a.cat == catWord && b.cat == catDot && c.cat == catWord:
		return pos - 2, 0, true
	case a.cat == catExpression && b.cat == catDot && c.cat == catWord:
		*b = *c
		return pos - 1, 0, true
	case a.cat == catFunction && b.cat == '(' && c.cat != ')':
		// USER() has no argument.
		if equalFold("USER", a.val) {
			a.cat = catWord
		}
	}
	return pos, left, false
}

// isOperand reports whether a token of the category is a value.
func isOperand(cat byte) bool {
	return cat == catWord || cat == catNumber || cat == catString || cat == catVariable
}
