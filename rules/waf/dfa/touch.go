package dfa

import (
	"math/bits"
	"regexp/syntax"
	"unicode/utf8"
)

// touches answers the patterns that are one byte anywhere in the text: they
// would match at every other step of an automaton, and each match is a detour.
// One bit for each distinct set of bytes is or-ed over the text instead.
type touches struct {
	of  [256]uint64
	ids [64]Bits
	out [64][]mask
	n   int
}

const maxTouches = 64

// bytesOf returns the bytes of which one makes the pattern match, and none
// keeps it from matching, or false if it is not that simple.
func bytesOf(c *compiled) (set [256]bool, ok bool) {
	bytewise := c.pattern.bytewise()
	if bytewise && c.pattern.lower {
		return set, false
	}
	var s runeSet
	switch {
	case c.prog != nil:
		in := after(c.prog, uint32(c.prog.Start))
		switch in.Op {
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
		default:
			return set, false
		}
		if after(c.prog, in.Out).Op != syntax.InstMatch {
			return set, false
		}
		s = runesOf(in)
	case c.pattern.kind == kindBytesOutside:
		s = outside(c.pattern.allowed, bytewise)
	default:
		return set, false
	}
	if c.pattern.lower {
		s = s.beforeLower()
	}
	// Each byte of a character above ASCII says the same, so the set must hold
	// all of these characters or none. Surrogates are no characters.
	if !bytewise {
		const low, high = 0xD800, 0xDFFF
		for _, span := range [][2]rune{{utf8.RuneSelf, low - 1}, {high + 1, maxRune}} {
			if s.has(utf8.RuneError) != s.has(span[0]) || !s.same(span[0], span[1]) {
				return set, false
			}
		}
	}
	for b := range set {
		r := rune(b)
		if b >= utf8.RuneSelf && !bytewise {
			r = utf8.RuneError
		}
		set[b] = s.has(r)
	}
	return set, true
}

// after returns the first instruction at or behind i that does something.
func after(prog *syntax.Prog, i uint32) *syntax.Inst {
	for range prog.Inst {
		if in := &prog.Inst[i]; in.Op != syntax.InstNop && in.Op != syntax.InstCapture {
			break
		}
		i = prog.Inst[i].Out
	}
	return &prog.Inst[i]
}

// same reports whether s holds all runes of a range or none.
func (s runeSet) same(lo, hi rune) bool {
	for i := 0; i < len(s); i += 2 {
		if s[i] <= hi && s[i+1] >= lo && (s[i] > lo || s[i+1] < hi) {
			return false
		}
	}
	return true
}

// add takes a set of bytes, or returns false if it has no bit left for it.
func (t *touches) add(set *[256]bool, id, words int) bool {
	bit := -1
search:
	for i := range t.n {
		for b := range set {
			if set[b] != (t.of[b]>>i&1 != 0) {
				continue search
			}
		}
		bit = i
		break
	}
	if bit < 0 {
		if t.n == maxTouches {
			return false
		}
		bit = t.n
		t.n++
		t.ids[bit] = make(Bits, words)
		for b := range set {
			if set[b] {
				t.of[b] |= 1 << bit
			}
		}
	}
	t.ids[bit].Add(id)
	t.out[bit] = t.ids[bit].masks()
	return true
}

func (t *touches) scan(text string, out Bits) {
	var a, b uint64
	i := 0
	for ; i+3 < len(text); i += 4 {
		a |= t.of[text[i]] | t.of[text[i+1]]
		b |= t.of[text[i+2]] | t.of[text[i+3]]
	}
	for ; i < len(text); i++ {
		a |= t.of[text[i]]
	}
	for seen := a | b; seen != 0; seen &= seen - 1 {
		out.or(t.out[bits.TrailingZeros64(seen)])
	}
}
