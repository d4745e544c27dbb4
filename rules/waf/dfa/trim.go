package dfa

import (
	"regexp/syntax"
	"slices"
)

// A search asks only whether a pattern matches somewhere. So what may be empty
// at its end, or at its beginning, can go, and what repeats there needs to be
// there as seldom as allowed: `\s*a+b{2,}` is found where `ab{2}` is. That keeps
// the automaton from following things that decide nothing, and is exact.

// side is an end of a pattern.
type side bool

const (
	head side = false
	tail side = true
)

// trim returns an expression that is found in the same texts as re.
func trim(re *syntax.Regexp) *syntax.Regexp { return trimEnd(trimEnd(re, head), tail) }

func trimEnd(re *syntax.Regexp, end side) *syntax.Regexp {
	switch re.Op {
	case syntax.OpCapture, syntax.OpPlus:
		return trimEnd(re.Sub[0], end)
	case syntax.OpStar, syntax.OpQuest:
		return emptyMatch
	case syntax.OpRepeat:
		if re.Min == 0 {
			return emptyMatch
		}
		last := trimEnd(re.Sub[0], end)
		if re.Min == 1 || last.Op == syntax.OpEmptyMatch {
			return last
		}
		rest := *re
		rest.Min, rest.Max = re.Min-1, re.Min-1
		if end == head {
			return concat(last, &rest)
		}
		return concat(&rest, last)
	case syntax.OpAlternate:
		subs := make([]*syntax.Regexp, len(re.Sub))
		for i, sub := range re.Sub {
			subs[i] = trimEnd(sub, end)
			if subs[i].Op == syntax.OpEmptyMatch {
				return emptyMatch
			}
		}
		return &syntax.Regexp{Op: syntax.OpAlternate, Flags: re.Flags, Sub: subs}
	case syntax.OpConcat:
		return trimConcat(re.Sub, end)
	}
	return re
}

func trimConcat(subs []*syntax.Regexp, end side) *syntax.Regexp {
	for len(subs) > 0 {
		if anchoredAny(subs, end) {
			if end == head {
				subs = subs[2:]
			} else {
				subs = subs[:len(subs)-2]
			}
			continue
		}
		var t *syntax.Regexp
		if end == head {
			t = trimEnd(subs[0], end)
		} else {
			t = trimEnd(subs[len(subs)-1], end)
		}
		if t.Op == syntax.OpEmptyMatch {
			if end == head {
				subs = subs[1:]
			} else {
				subs = subs[:len(subs)-1]
			}
			continue
		}
		subs = slices.Clone(subs)
		if end == head {
			subs[0] = t
		} else {
			subs[len(subs)-1] = t
		}
		return concat(subs...)
	}
	return emptyMatch
}

// anchoredAny reports whether subs has an anchor at its end and any text
// behind it: `^.*` at the head, `.*$` at the tail, `.` with the flag s. The
// first and last position of a text satisfy the anchors, so they decide nothing.
func anchoredAny(subs []*syntax.Regexp, end side) bool {
	if len(subs) < 2 {
		return false
	}
	anchor, rest := subs[0], subs[1]
	ok := anchor.Op == syntax.OpBeginText || anchor.Op == syntax.OpBeginLine
	if end == tail {
		anchor, rest = subs[len(subs)-1], subs[len(subs)-2]
		ok = anchor.Op == syntax.OpEndText || anchor.Op == syntax.OpEndLine
	}
	return ok && rest.Op == syntax.OpStar && rest.Sub[0].Op == syntax.OpAnyChar
}

var emptyMatch = &syntax.Regexp{Op: syntax.OpEmptyMatch}

func concat(subs ...*syntax.Regexp) *syntax.Regexp {
	if len(subs) == 1 {
		return subs[0]
	}
	return &syntax.Regexp{Op: syntax.OpConcat, Sub: subs}
}

// relax returns an expression that matches all that re matches, and more, in
// which nothing is counted beyond limit: `x{3,500}` becomes `x{3,}`.
func relax(re *syntax.Regexp, limit int) *syntax.Regexp {
	c := *re
	c.Sub = make([]*syntax.Regexp, len(re.Sub))
	for i, sub := range re.Sub {
		c.Sub[i] = relax(sub, limit)
	}
	if c.Op == syntax.OpRepeat && max(c.Min, c.Max) > limit {
		c.Min, c.Max = min(c.Min, limit), -1
	}
	return &c
}
