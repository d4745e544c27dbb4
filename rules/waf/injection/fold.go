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
	// evil is what mayBeEvil knows about the text.
	evil uint8
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
		if c := v[0].cat; c != catComment && c != '(' && c != catType && !f.isUnary(&v[0]) {
			break
		}
	}
	if f.settled(1) {
		return 0
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
		if left == 0 && f.settled(2) {
			return 0
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
// of the window and the new left. The rules of one first category are in the
// order of the library's.
func (f *folder) fold2(pos, left int) (int, int, step) {
	a, b := &f.v[left], &f.v[left+1]
	switch a.cat {
	case catString, ';':
		switch {
		case b.cat == a.cat:
			return pos - 1, left, stepAgain
		case a.cat == ';' && b.cat == catFunction && equalFold("IF", f.value(b)[:2]):
			// Behind a semicolon it is the statement of Transact-SQL.
			b.cat = catTSQL
			return pos, left, stepAgain
		}
	case catOperator, catLogic:
		switch {
		case b.cat == catType || f.isUnary(b):
			return pos - 1, 0, stepAgain
		case f.merge(a, b):
			return pos - 1, max(left-1, 0), stepAgain
		case a.cat == catOperator && a.kw != 0 && (a.kw == kwLike || a.kw == kwNotLike):
			if b.cat == '(' {
				a.cat = catFunction
			}
			return pos, left, stepNone
		}
	case '(':
		switch {
		case f.isUnary(b):
			return pos - 1, max(left-1, 0), stepAgain
		case b.cat == '(':
			return pos - 1, 0, stepAgain
		}
	case ')':
		if b.cat == ')' {
			return pos - 1, 0, stepAgain
		}
	case catWord, catVariable:
		switch {
		case b.cat == '(':
			if f.callable(a) {
				a.cat = catFunction
				return pos, left, stepAgain
			}
		case f.merge(a, b):
			return pos - 1, max(left-1, 0), stepAgain
		}
	case catUnion, catFunction, catExpression, catTSQL:
		if f.merge(a, b) {
			return pos - 1, max(left-1, 0), stepAgain
		}
	case catKeyword:
		switch {
		case f.merge(a, b):
			return pos - 1, max(left-1, 0), stepAgain
		case a.kw != 0 && (a.kw == kwIn || a.kw == kwNotIn):
			if a.cat = catWord; b.cat == '(' {
				a.cat = catOperator
			}
			return pos, left, stepAgain
		}
	case catType:
		if f.merge(a, b) {
			return pos - 1, max(left-1, 0), stepAgain
		}
		if isOperand(b.cat) || b.cat == catType || b.cat == '(' || b.cat == catFunction {
			*a = *b
			return pos - 1, 0, stepAgain
		}
	case catCollate:
		if b.cat == catWord {
			// A word with an underscore is taken for a collation.
			if strings.IndexByte(f.value(b), '_') >= 0 {
				b.cat = catType
				left = 0
			}
			return pos, left, stepNone
		}
	case catBackslash:
		if b.isArithmetic() {
			a.cat = catNumber
			return pos, 0, stepAgain
		}
		*a = *b
		return pos - 1, 0, stepAgain
	case '{':
		if b.cat == catWord {
			if b.n == 0 {
				b.cat = catEvil
				return pos, left + 2, stepEnd
			}
			return pos - 2, 0, stepAgain
		}
	}
	if b.cat == '}' {
		return pos - 1, 0, stepAgain
	}
	return pos, left, stepNone
}

// callable reports whether a word or variable is also the name of a function.
func (f *folder) callable(t *token) bool {
	if t.cat == catVariable && t.n > 0 {
		// Variables are not looked up when they are read.
		t.name(findWord(f.value(t)))
	}
	return keywords[t.kw].callable
}

// merge makes one token of two that are a phrase of the word table.
func (f *folder) merge(a, b *token) bool {
	if !(keywords[a.kw].head || a.odd) || !(keywords[b.kw].tail || b.odd) ||
		!mergeable(a.cat) || !mergeable(b.cat) && b.cat != catLogic {
		return false
	}
	n := int(a.n) + 1 + int(b.n)
	if n > maxValue+1 {
		return false
	}
	var buf [maxValue + 1]byte
	copy(buf[:], f.value(a))
	buf[a.n] = ' '
	copy(buf[a.n+1:], f.value(b))
	kw, odd := findWord(string(buf[:n]))
	if keywords[kw].cat == catNone {
		return false
	}
	if odd {
		// The merged value would have to keep its spelling, because later rules
		// compare it with ASCII letters only.
		f.unsure = true
	}
	a.kw, a.cat, a.n, a.sign = kw, keywords[kw].cat, uint8(len(keywords[kw].text)), 0
	a.odd = false
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
	switch a.cat {
	case catNumber, catWord, catVariable, catString:
		switch b.cat {
		case catOperator:
			if a.cat != catString && (c.cat == catNumber || c.cat == catWord || a.cat == catVariable && c.cat == catVariable) ||
				c.cat == catType && b.n == 2 && f.value(b) == "::" {
				return pos - 2, 0, true
			}
		case ',':
			if isOperand(c.cat) {
				return pos - 2, 0, true
			}
		case catDot:
			if a.cat == catWord && c.cat == catWord {
				return pos - 2, 0, true
			}
		}
	case catOperator:
		if b.cat != '(' && c.cat == catOperator {
			return pos - 2, 0, true
		}
	case catLogic:
		if c.cat == catLogic {
			return pos - 2, 0, true
		}
	case catExpression, catGroup:
		if f.isUnary(b) && (c.cat == '(' || isOperand(c.cat) || c.cat == catFunction) ||
			a.cat == catExpression && b.cat == catDot && c.cat == catWord {
			*b = *c
			return pos - 1, 0, true
		}
	case catKeyword:
		if f.isUnary(b) && (isOperand(c.cat) || c.cat == catFunction) {
			*b = *c
			return pos - 1, 0, true
		}
	case ',':
		if f.isUnary(b) {
			switch {
			case c.cat == '(' || c.cat == catFunction:
				*b = *c
				return pos - 1, 0, true
			case isOperand(c.cat):
				*b = *c
				return pos - 3, 0, true
			}
		}
	case catFunction:
		// USER() has no argument.
		if b.cat == '(' && c.cat != ')' && a.kw == kwUser {
			a.cat = catWord
		}
	}
	return pos, left, false
}

// isOperand reports whether a token of the category is a value.
func isOperand(cat byte) bool {
	return cat == catWord || cat == catNumber || cat == catString || cat == catVariable
}
