package injection

import "strings"

// Most texts need not be read to the end of their fingerprint: no fingerprint
// begins with two words, with a word and a colon, or with an operator, and
// the folding rules never touch such a beginning again. The only thing that
// still counts then is an evil token behind it.

var (
	// settledFirst holds the categories that no fingerprint begins with and that
	// no rule changes or removes in the first place.
	settledFirst [128]bool
	// settledPair holds, by the first category, the second ones with which the
	// same is true of the two, provided that they are no part of a phrase and no
	// name of a function.
	settledPair [128][128]bool
)

func init() {
	var begins [128]bool
	var pairs [128][128]bool
	for f := range strings.Lines(fingerprintList) {
		begins[f[0]] = true
		pairs[f[0]][f[1]] = true
	}
	upper := func(c byte) byte {
		if c-'a' < 26 {
			return c - 0x20
		}
		return c
	}
	for _, c := range []byte{catOperator, ':', catUnknown, catDot, catGroup} {
		settledFirst[c] = !begins[upper(c)]
	}
	// Neither of the two is changed by a rule in which it comes first, and no
	// rule removes the second behind the first: there is none for these pairs
	// (a word and a dot aside), and none that reaches behind a later token.
	for _, a := range []byte{catWord, catNumber, catString, catVariable, '{'} {
		for _, b := range []byte{catWord, catNumber, catString, catVariable, ':', catUnknown, '(', catDot} {
			switch {
			case a == catString && b == catString,
				a == catWord && b == catDot,
				a == '{' && b == catWord:
				continue
			}
			settledPair[a][b] = !pairs[upper(a)][upper(b)]
		}
	}
}

// settled reports whether the first n tokens, 1 or 2, say that the text is
// clean in this context.
func (f *folder) settled(n int) bool {
	a, b := &f.v[0], &f.v[1]
	if n == 1 {
		if !settledFirst[a.cat] || a.kw != 0 || a.odd {
			return false
		}
	} else if !settledPair[a.cat][b.cat] || f.loose(a) || f.loose(b) {
		return false
	}
	// Behind a few tokens it is cheaper to go on than to search a long text.
	return (len(f.s) <= 256 || f.tokens > 16) && !f.mayBeEvil()
}

// loose reports whether t may become a token of another category.
func (f *folder) loose(t *token) bool {
	if t.cat == catVariable && f.callable(t) {
		return true
	}
	k := &keywords[t.kw]
	return t.odd || k.head || k.callable
}

// mayBeEvil reports whether a token of the text can be evil: a comment, or an
// empty name in braces.
func (f *folder) mayBeEvil() bool {
	if f.evil == evilUnknown {
		f.evil = evilNo
		if strings.Contains(f.s, "/*") || strings.IndexByte(f.s, '{') >= 0 && strings.IndexByte(f.s, '`') >= 0 {
			f.evil = evilMaybe
		}
	}
	return f.evil == evilMaybe
}

const (
	evilUnknown uint8 = iota
	evilNo
	evilMaybe
)
