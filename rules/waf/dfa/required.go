package dfa

import (
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of what an expression requires: how many texts stand for each other, and
// how long each is at most.
const (
	maxRequired       = 48
	maxRequiredLength = 16
)

// required returns texts, in lower case and of ASCII, of which at least one is in
// every text that an expression matches, letters in either case; nil if there are
// none that say much. A text with one of the characters above ASCII that have an
// ASCII letter for another case may match without.
func required(re *syntax.Regexp) []string {
	r := requirement(re)
	if r.exact != nil {
		return telling(r.exact)
	}
	return r.some
}

// need is what is known of all texts that an expression matches: all of them, or
// texts of which each has one.
type need struct {
	exact []string // nil if they are not known, or too many
	some  []string // nil if nothing is known
}

// telling returns a list in which no text is empty; nil for any other.
func telling(list []string) []string {
	if len(list) == 0 || slices.Contains(list, "") {
		return nil
	}
	return list
}

// better returns that of two lists which fewer texts have.
func better(a, b []string) []string {
	if a == nil || b != nil && worth(b) > worth(a) {
		return b
	}
	return a
}

func worth(list []string) int {
	shortest := maxRequiredLength
	for _, s := range list {
		shortest = min(shortest, len(s))
	}
	return 64*shortest - len(list)
}

func requirement(re *syntax.Regexp) need {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText,
		syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return need{exact: []string{""}}
	case syntax.OpLiteral:
		return ofLiteral(re.Rune)
	case syntax.OpCharClass:
		return ofClass(re.Rune)
	case syntax.OpCapture:
		return requirement(re.Sub[0])
	case syntax.OpQuest:
		if r := requirement(re.Sub[0]); r.exact != nil {
			return need{exact: joined(r.exact, []string{""})}
		}
	case syntax.OpPlus:
		return need{some: required(re.Sub[0])}
	case syntax.OpRepeat:
		if re.Min > 0 {
			return need{some: required(re.Sub[0])}
		}
	case syntax.OpAlternate:
		return ofAlternate(re.Sub)
	case syntax.OpConcat:
		return ofConcat(re.Sub)
	}
	return need{}
}

// ofLiteral takes a literal, or the longest part of ASCII in it.
func ofLiteral(runes []rune) need {
	var best, part []byte
	whole := true
	for _, r := range runes {
		if r >= utf8.RuneSelf {
			whole, part = false, nil
			continue
		}
		part = append(part, byte(r))
		if len(part) > len(best) {
			best = part
		}
	}
	if len(best) > maxRequiredLength {
		best, whole = best[:maxRequiredLength], false
	}
	list := []string{strings.ToLower(string(best))}
	if !whole {
		return need{some: telling(list)}
	}
	return need{exact: list}
}

// ofClass takes a class of a few characters. Those above ASCII that are the other
// case of a letter are not texts of their own.
func ofClass(runes []rune) need {
	var list []string
	for i := 0; i < len(runes); i += 2 {
		if runes[i+1]-runes[i] > maxRequired {
			return need{}
		}
		for r := runes[i]; r <= runes[i+1]; r++ {
			switch {
			case r < utf8.RuneSelf:
				if c := strings.ToLower(string(r)); !slices.Contains(list, c) {
					list = append(list, c)
				}
			case !strings.ContainsRune(otherCases, r):
				return need{}
			}
		}
	}
	if len(list) == 0 || len(list) > maxRequired {
		return need{}
	}
	return need{exact: list}
}

// otherCases are the characters above ASCII that are an ASCII letter in another case:
// those that fold to s and k, and those whose lower case is i and k.
const otherCases = "\u017f\u212a\u0130"

func ofAlternate(subs []*syntax.Regexp) need {
	exact, some := []string{}, []string{}
	for _, sub := range subs {
		r := requirement(sub)
		if exact != nil && r.exact != nil {
			exact = joined(exact, r.exact)
		} else {
			exact = nil
		}
		if r.exact != nil {
			r.some = telling(r.exact)
		}
		if some != nil && r.some != nil {
			some = joined(some, r.some)
		} else {
			some = nil
		}
	}
	if exact != nil {
		return need{exact: exact}
	}
	return need{some: some}
}

func ofConcat(subs []*syntax.Regexp) need {
	exact, whole := []string{""}, true
	var best []string
	for _, sub := range subs {
		r := requirement(sub)
		product := crossed(exact, r.exact)
		if product != nil {
			exact = product
			continue
		}
		// What is known so far ends here.
		best, whole = better(best, telling(exact)), false
		exact = []string{""}
		if r.exact != nil {
			exact = r.exact
		} else {
			best = better(best, r.some)
		}
	}
	if whole {
		return need{exact: exact}
	}
	return need{some: better(best, telling(exact))}
}

// joined returns the texts of both lists, each once; nil if they are too many.
func joined(a, b []string) []string {
	list := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	if len(list) > maxRequired {
		return nil
	}
	return list
}

// crossed returns each text of a with each of b behind it; nil if they are too many
// or too long.
func crossed(a, b []string) []string {
	if b == nil || len(a)*len(b) > maxRequired {
		return nil
	}
	var list []string
	for _, s := range a {
		for _, t := range b {
			if len(s)+len(t) > maxRequiredLength {
				return nil
			}
			if !slices.Contains(list, s+t) {
				list = append(list, s+t)
			}
		}
	}
	return list
}
