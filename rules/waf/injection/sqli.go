package injection

import (
	"math"
	"strings"
)

// verdict is an answer about one context.
type verdict uint8

const (
	clean verdict = iota
	found
	unsure
	endless // the library takes quadratic time
)

// fingerprint is the sequence of categories of a text; n is its length.
type fingerprint struct {
	cats [maxTokens]byte
	n    int
}

// sqli answers for all contexts in the library's order: as it is, then as if
// the text began within single quotes, if it has any, then within double
// quotes. Where MySQL reads it differently, each is asked again.
//
// It spends what it costs of work, in nanoseconds as they are estimated. Where that
// is not enough it is unsure, and work is below zero.
func sqli(s string, work *int) (verdict, fingerprint) {
	if plain(s) {
		return clean, fingerprint{}
	}
	if len(s) > math.MaxInt32 {
		return unsure, fingerprint{}
	}
	var f folder
	f.left = *work
	defer func() { *work = f.left }()
	if v, retry := f.check(s, 0, false); v != clean {
		return v, f.print()
	} else if retry {
		if v, _ := f.check(s, 0, true); v != clean {
			return v, f.print()
		}
	}
	if strings.IndexByte(s, '\'') >= 0 {
		if v, retry := f.check(s, '\'', false); v != clean {
			return v, f.print()
		} else if retry {
			if v, _ := f.check(s, '\'', true); v != clean {
				return v, f.print()
			}
		}
	}
	if strings.IndexByte(s, '"') >= 0 {
		if v, _ := f.check(s, '"', true); v != clean {
			return v, f.print()
		}
	}
	return clean, fingerprint{}
}

// check reads s in one context. retry says that MySQL reads it differently.
func (f *folder) check(s string, quote byte, mysql bool) (v verdict, retry bool) {
	f.lexer = lexer{s: s, quote: quote, mysql: mysql, work: workPerByte*len(s) + workFloor, left: f.left}
	f.comment = token{}
	n := f.fold()
	v = f.judge(n)
	switch {
	case f.endless:
		v = endless
	case f.unsure, f.left < 0:
		v = unsure
	}
	return v, f.retry
}

// What may be spent on searching before a text is prepared: workPerByte for
// each byte, and workFloor, which is a variable for the tests.
const workPerByte = 4

var workFloor = 4096

// judge decides about the n tokens in f.v.
func (f *folder) judge(n int) verdict {
	if n == 0 {
		return clean
	}
	// PHP lets an open, empty back quote begin a comment.
	if last := &f.v[n-1]; n > 2 && last.cat == catWord && last.open == '`' && last.n == 0 && last.end == 0 {
		last.cat = catComment
	}
	packed, known := uint32(0), true
	for i := range n {
		c := f.v[i].cat
		if c == catEvil {
			f.v[0].cat = catEvil
			f.n = 1
			return found
		}
		code := fingerprintCode[c]
		known = known && code != 0
		packed = packed<<codeBits | uint32(code)
	}
	f.n = n
	if !known || !forbidden(packed) {
		return clean
	}
	return f.excuse(n)
}

// print is the fingerprint of the last check.
func (f *folder) print() fingerprint {
	p := fingerprint{n: f.n}
	for i := range f.n {
		p.cats[i] = f.v[i].cat
	}
	return p
}

// excuse decides about a forbidden fingerprint of n tokens: what is often
// seen in harmless text is clean.
func (f *folder) excuse(n int) verdict {
	v := &f.v
	if n > 1 && v[n-1].cat == catComment && strings.Contains(f.s, "sp_password") {
		return found
	}
	switch n {
	case 2:
		return f.excuse2()
	case 3:
		a, b, c := v[0].cat, v[1].cat, v[2].cat
		switch {
		case a == catString && (b == catOperator || b == catLogic) && c == catString:
			// ...foo' + 'bar...
			if v[0].open == 0 && v[2].end == 0 && v[0].end == v[2].open {
				return found
			}
			return clean
		case f.tokens == 3 && b == catLogic &&
			(a == catString && c == catWord ||
				a == catWord && c == catNumber ||
				a == catNumber && (c == catNumber || c == catVariable || c == catString)):
			return clean
		}
		if b == catKeyword && (v[1].n < 5 || !equalFold("INTO", f.value(&v[1])[:4])) {
			// Only INTO OUTFILE and INTO DUMPFILE count.
			return clean
		}
	}
	return found
}

func (f *folder) excuse2() verdict {
	a, b := &f.v[0], &f.v[1]
	switch {
	case b.cat == catUnion:
		if f.tokens == 2 {
			return clean
		}
		return found
	case b.n == 0:
		// The library would read beyond the token.
		return unsure
	case f.s[b.pos] == '#':
		return clean
	case a.cat == catWord && b.cat == catComment && f.s[b.pos] != '/':
		return clean
	case a.cat == catNumber && b.cat == catComment:
		if f.s[b.pos] != '/' || f.tokens > 2 {
			return found
		}
		// Only what stands directly behind the number tells that it is one.
		i := int(a.n)
		if i+1 >= len(f.s) {
			return unsure
		}
		next, second := f.s[i], f.s[i+1]
		if next <= ' ' || next == '/' && second == '*' || next == '-' && second == '-' {
			return found
		}
		return clean
	case b.n > 2 && f.s[b.pos] == '-':
		return clean
	}
	return found
}
