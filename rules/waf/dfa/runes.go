package dfa

import (
	"encoding/binary"
	"regexp/syntax"
	"slices"
	"sync"
	"unicode"
)

// runeSet is a set of runes: pairs of first and last, ascending, not touching.
type runeSet []rune

const maxRune = unicode.MaxRune

var (
	anyRune   = runeSet{0, maxRune}
	notNL     = runeSet{0, '\n' - 1, '\n' + 1, maxRune}
	newline   = runeSet{'\n', '\n'}
	wordRunes = runeSet{'0', '9', 'A', 'Z', '_', '_', 'a', 'z'}
)

// newRuneSet returns the set of pairs, which may be in any order and overlap.
func newRuneSet(pairs []rune) runeSet {
	type span struct{ lo, hi rune }
	spans := make([]span, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		spans = append(spans, span{pairs[i], pairs[i+1]})
	}
	slices.SortFunc(spans, func(a, b span) int { return int(a.lo - b.lo) })
	var s runeSet
	for _, p := range spans {
		if n := len(s); n > 0 && p.lo <= s[n-1]+1 {
			s[n-1] = max(s[n-1], p.hi)
			continue
		}
		s = append(s, p.lo, p.hi)
	}
	return s
}

// runesOf returns what an instruction of regexp/syntax consumes.
func runesOf(in *syntax.Inst) runeSet {
	switch in.Op {
	case syntax.InstRuneAny:
		return anyRune
	case syntax.InstRuneAnyNotNL:
		return notNL
	}
	if len(in.Rune) == 1 {
		r0 := in.Rune[0]
		pairs := []rune{r0, r0}
		if syntax.Flags(in.Arg)&syntax.FoldCase != 0 {
			for r := unicode.SimpleFold(r0); r != r0; r = unicode.SimpleFold(r) {
				pairs = append(pairs, r, r)
			}
		}
		return newRuneSet(pairs)
	}
	return newRuneSet(in.Rune)
}

func (s runeSet) has(r rune) bool {
	i, found := slices.BinarySearch(s, r)
	// Found at either end of a pair, or between an even and an odd index.
	return found || i%2 == 1
}

func (s runeSet) complement() runeSet {
	var c runeSet
	next := rune(0)
	for i := 0; i < len(s); i += 2 {
		if s[i] > next {
			c = append(c, next, s[i]-1)
		}
		next = s[i+1] + 1
	}
	if next <= maxRune {
		c = append(c, next, maxRune)
	}
	return c
}

func (s runeSet) key() string {
	var b []byte
	for _, r := range s {
		b = binary.AppendUvarint(b, uint64(r))
	}
	return string(b)
}

// lowered are the runes that unicode.ToLower changes.
var lowered = sync.OnceValue(func() runeSet {
	var pairs []rune
	for _, c := range unicode.CaseRanges {
		for r := rune(c.Lo); r <= rune(c.Hi); r++ {
			if unicode.ToLower(r) != r {
				pairs = append(pairs, r, r)
			}
		}
	}
	return newRuneSet(pairs)
})

// beforeLower returns the runes r for which unicode.ToLower(r) is in s: what a
// pattern that is meant for lower-cased text has to accept in the original.
func (s runeSet) beforeLower() runeSet {
	var pairs []rune
	for l, i := lowered(), 0; i < len(l); i += 2 {
		for r := l[i]; r <= l[i+1]; r++ {
			if s.has(unicode.ToLower(r)) {
				pairs = append(pairs, r, r)
			}
		}
	}
	// s without the runes that lower-casing changes is the complement of the
	// union of those runes and of what is not in s.
	kept := newRuneSet(append(slices.Clone(s.complement()), lowered()...)).complement()
	return newRuneSet(append(pairs, kept...))
}
