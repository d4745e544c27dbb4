package dfa

import (
	"regexp/syntax"
	"slices"
)

// op is what an instruction of a nondeterministic automaton does.
type op uint8

const (
	opFail  op = iota
	opRune     // consumes a rune of the set, goes on at out
	opAlt      // goes on at out and at arg
	opEmpty    // goes on at out where the conditions in need hold
	opMatch    // the pattern matches
)

// inst is one instruction. Its fields are indexes into the program.
type inst struct {
	op   op
	need cond
	out  uint32
	arg  uint32
	set  uint32
}

// cond is a set of conditions on a position, those of regexp/syntax and the
// word boundaries of the lower-cased text.
type cond uint8

const (
	atBeginLine cond = 1 << iota
	atEndLine
	atBeginText
	atEndText
	atBoundary
	notBoundary
	atLowerBoundary
	notLowerBoundary

	wordConds      = atBoundary | notBoundary
	lowerWordConds = atLowerBoundary | notLowerBoundary
)

// program is the joint program of some patterns.
type program struct {
	insts  []inst
	owner  []uint32 // pattern of each instruction
	starts []uint32 // first instruction of each pattern
	ids    []int    // id of each pattern
	sets   []runeSet
	index  map[string]uint32 // of sets
	uses   cond              // conditions that occur
	// lowers keeps what beforeLower returned, which costs a walk over Unicode.
	lowers map[string]runeSet
}

func newProgram() *program {
	return &program{index: map[string]uint32{}, lowers: map[string]runeSet{}}
}

// done drops what only the making of the program needs.
func (p *program) done() { p.sets, p.index, p.lowers = nil, nil, nil }

func (p *program) emit(owner uint32, in inst) uint32 {
	p.insts = append(p.insts, in)
	p.owner = append(p.owner, owner)
	p.uses |= in.need
	return uint32(len(p.insts) - 1)
}

func (p *program) runes(s runeSet, lower bool) uint32 {
	k := s.key()
	if lower {
		l, ok := p.lowers[k]
		if !ok {
			l = s.beforeLower()
			p.lowers[k] = l
		}
		s, k = l, l.key()
	}
	i, ok := p.index[k]
	if !ok {
		i = uint32(len(p.sets))
		p.sets = append(p.sets, s)
		p.index[k] = i
	}
	return i
}

// compiled is a pattern that was checked and whose size is known.
type compiled struct {
	pattern Pattern
	prog    *syntax.Prog // of an expression
	id      int
	size    int  // instructions
	inexact bool // matches more than was asked for
	always  bool // matches every value
	counter bool // counts something with anything between
	runes   int  // places above ASCII where its sets begin or end
}

// compile checks a pattern and measures it. A pattern of more than limit
// instructions is relaxed, and refused with false if that does not help.
func compile(pat Pattern, id, limit int) (*compiled, bool, error) {
	c := &compiled{pattern: pat, id: id}
	switch pat.kind {
	case kindRegexp, kindBytesRegexp:
		re, err := pat.expression()
		if err != nil {
			return nil, false, err
		}
		c.counter = counts(re)
		re = trim(re)
		for count := 1000; ; count /= 4 {
			// Counted things multiply: compile only what is small enough.
			if expanded(re) <= 4*limit {
				c.prog, err = syntax.Compile(re.Simplify())
				if err != nil {
					return nil, false, err
				}
				if len(c.prog.Inst) <= limit {
					break
				}
			}
			if count == 0 {
				return nil, false, nil
			}
			re = trim(relax(re, count))
			c.inexact = true
		}
		c.size = len(c.prog.Inst)
		c.always = re.Op == syntax.OpEmptyMatch
		c.runes = cutsAbove(c.prog)
	case kindPhrases:
		// Phrases only add up, and so few of their states are ever made.
		limit *= 20
		for _, s := range pat.phrases {
			c.size += len(s) + 1
			c.always = c.always || s == ""
		}
	case kindAny:
		c.always = true
	case kindContains, kindHasPrefix, kindHasSuffix:
		c.always = pat.text == ""
		fallthrough
	default:
		c.size = 2 * len(pat.text)
	}
	return c, c.size <= limit, nil
}

// counts reports whether an expression repeats, a given number of times, what
// has long parts of almost any text in it: `(?:'[^']*){8}`. Such a count is part
// of every state from the first quote on, and would multiply those of others.
func counts(re *syntax.Regexp) bool {
	if re.Op == syntax.OpRepeat && max(re.Min, re.Max) > 1 && gaps(re.Sub[0]) {
		return true
	}
	return slices.ContainsFunc(re.Sub, counts)
}

// gaps reports whether an expression has a loop over more than 80 characters of
// ASCII.
func gaps(re *syntax.Regexp) bool {
	if re.Op == syntax.OpStar || re.Op == syntax.OpPlus {
		sub := re.Sub[0]
		for sub.Op == syntax.OpCapture {
			sub = sub.Sub[0]
		}
		switch sub.Op {
		case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
			return true
		case syntax.OpCharClass:
			has := 0
			for i := 0; i < len(sub.Rune); i += 2 {
				has += int(max(0, min(sub.Rune[i+1], 0x7F)-sub.Rune[i]+1))
			}
			if has > 80 {
				return true
			}
		}
	}
	return slices.ContainsFunc(re.Sub, gaps)
}

// cutsAbove returns at how many places above ASCII the sets of a program begin
// or end.
func cutsAbove(prog *syntax.Prog) int {
	cuts := map[rune]bool{}
	for i := range prog.Inst {
		if in := &prog.Inst[i]; in.Op == syntax.InstRune {
			for _, r := range in.Rune {
				if r > 0x80 && r < maxRune {
					cuts[r] = true
				}
			}
		}
	}
	return len(cuts)
}

// expanded returns about how many instructions an expression takes, without
// building them.
func expanded(re *syntax.Regexp) int {
	const most = 1 << 40
	n := 1 + len(re.Rune)
	if re.Op == syntax.OpCharClass {
		n = 1
	}
	for _, sub := range re.Sub {
		n += 1 + expanded(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, most)
}

// add appends a pattern to the program.
func (p *program) add(c *compiled) {
	owner := uint32(len(p.starts))
	p.ids = append(p.ids, c.id)
	e := emitter{p, owner, c.pattern.lower, c.pattern.fold, c.pattern.bytewise()}
	if c.prog != nil {
		p.starts = append(p.starts, e.prog(c.prog))
		return
	}
	pat := &c.pattern
	var start uint32
	switch pat.kind {
	case kindContains:
		start = e.literal(pat.text, e.match())
	case kindHasPrefix:
		start = e.empty(atBeginText, e.literal(pat.text, e.match()))
	case kindHasSuffix:
		start = e.literal(pat.text, e.empty(atEndText, e.match()))
	case kindEqual:
		start = e.empty(atBeginText, e.literal(pat.text, e.empty(atEndText, e.match())))
	case kindWithin:
		start = e.within(pat.text)
	case kindPhrases:
		start = e.trie(pat.phrases)
	case kindBytesOutside:
		start = e.consume(outside(pat.allowed, e.bytewise), e.match())
	default:
		start = e.match()
	}
	p.starts = append(p.starts, start)
}

// emitter writes one pattern's instructions, the last ones first.
type emitter struct {
	*program
	owner    uint32
	lower    bool
	fold     bool
	bytewise bool
}

func (e *emitter) match() uint32 { return e.emit(e.owner, inst{op: opMatch}) }

func (e *emitter) empty(need cond, out uint32) uint32 {
	if e.lower {
		need = need&^wordConds | need&wordConds<<2
	}
	return e.emit(e.owner, inst{op: opEmpty, need: need, out: out})
}

func (e *emitter) consume(s runeSet, out uint32) uint32 {
	return e.emit(e.owner, inst{op: opRune, set: e.runes(s, e.lower), out: out})
}

func (e *emitter) alt(a, b uint32) uint32 {
	return e.emit(e.owner, inst{op: opAlt, out: a, arg: b})
}

// one returns the set of what may stand for a character of a literal.
func (e *emitter) one(r rune) runeSet {
	if u := r &^ 0x20; e.fold && 'A' <= u && u <= 'Z' {
		return runeSet{u, u, u | 0x20, u | 0x20}
	}
	return runeSet{r, r}
}

// characters splits a literal into what the automaton consumes.
func (e *emitter) characters(s string) []rune {
	if !e.bytewise {
		return []rune(s)
	}
	rs := make([]rune, len(s))
	for i := range len(s) {
		rs[i] = rune(s[i])
	}
	return rs
}

func (e *emitter) literal(s string, out uint32) uint32 {
	for _, r := range slices.Backward(e.characters(s)) {
		out = e.consume(e.one(r), out)
	}
	return out
}

// within accepts every part of s as the whole text.
func (e *emitter) within(s string) uint32 {
	end := e.empty(atEndText, e.match())
	entry, next := end, end
	for _, r := range slices.Backward(e.characters(s)) {
		c := e.consume(e.one(r), next)
		next = e.alt(end, c)
		entry = e.alt(entry, c)
	}
	return e.empty(atBeginText, entry)
}

// trie accepts one of the phrases, with their common beginnings shared.
func (e *emitter) trie(phrases []string) uint32 {
	type item struct{ rs []rune }
	items := make([]item, 0, len(phrases))
	for _, s := range phrases {
		rs := e.characters(s)
		if e.fold {
			for i, r := range rs {
				if 'A' <= r && r <= 'Z' {
					rs[i] = r | 0x20
				}
			}
		}
		items = append(items, item{rs})
	}
	slices.SortFunc(items, func(a, b item) int { return slices.Compare(a.rs, b.rs) })
	match := e.match()
	fail := e.emit(e.owner, inst{op: opFail})
	var build func(items []item, depth int) uint32
	build = func(items []item, depth int) uint32 {
		if len(items) == 0 {
			return fail
		}
		// The shortest is first: what goes on behind it decides nothing.
		if len(items[0].rs) == depth {
			return match
		}
		node := fail
		for len(items) > 0 {
			r, n := items[0].rs[depth], 1
			for n < len(items) && items[n].rs[depth] == r {
				n++
			}
			branch := e.consume(e.one(r), build(items[:n], depth+1))
			if node == fail {
				node = branch
			} else {
				node = e.alt(node, branch)
			}
			items = items[n:]
		}
		return node
	}
	return build(items, 0)
}

// outside returns the characters that consist of bytes that are not allowed.
func outside(allowed *[256]bool, bytewise bool) runeSet {
	var pairs []rune
	for b := range 256 {
		if allowed[b] {
			continue
		}
		if b >= 0x80 && !bytewise {
			// All of them are outside, and every character above ASCII, and
			// every invalid byte, consists of such bytes.
			pairs = append(pairs, 0x80, maxRune)
			break
		}
		pairs = append(pairs, rune(b), rune(b))
	}
	return newRuneSet(pairs)
}

// prog translates a program of regexp/syntax and returns its start.
func (e *emitter) prog(prog *syntax.Prog) uint32 {
	base := uint32(len(e.insts))
	// Instructions that do nothing are passed over. A circle of them would go
	// round without consuming anything, so nothing can match through it.
	skip := func(i uint32) uint32 {
		for range prog.Inst {
			in := &prog.Inst[i]
			if in.Op != syntax.InstNop && in.Op != syntax.InstCapture {
				break
			}
			i = in.Out
		}
		return base + i
	}
	for i := range prog.Inst {
		in := &prog.Inst[i]
		switch in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			e.alt(skip(in.Out), skip(in.Arg))
		case syntax.InstEmptyWidth:
			e.empty(condsOf(syntax.EmptyOp(in.Arg)), skip(in.Out))
		case syntax.InstMatch:
			e.match()
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			e.consume(runesOf(in), skip(in.Out))
		default: // what does nothing, and what always fails
			e.emit(e.owner, inst{op: opFail})
		}
	}
	return skip(uint32(prog.Start))
}

func condsOf(o syntax.EmptyOp) cond {
	var c cond
	for _, m := range []struct {
		op syntax.EmptyOp
		c  cond
	}{
		{syntax.EmptyBeginLine, atBeginLine}, {syntax.EmptyEndLine, atEndLine},
		{syntax.EmptyBeginText, atBeginText}, {syntax.EmptyEndText, atEndText},
		{syntax.EmptyWordBoundary, atBoundary}, {syntax.EmptyNoWordBoundary, notBoundary},
	} {
		if o&m.op != 0 {
			c |= m.c
		}
	}
	return c
}
