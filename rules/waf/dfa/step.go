package dfa

import (
	"encoding/binary"
	"slices"
)

// stepper walks the program of an automaton as a nondeterministic automaton
// does: from a set of instructions over a symbol to the next set. It is what a
// new transition of the deterministic automaton is computed with. One goroutine
// at a time uses it.
type stepper struct {
	*program
	*alphabet

	seen    stamps // instructions visited in this step
	taken   stamps // instructions in next
	matched stamps // patterns that matched in this transition

	stack    []uint32
	next     []uint32
	cur      []uint32
	accepted []uint32 // patterns, in the order in which they matched
	syms     []int
	behind   side8 // how the rune before the state written last is seen

	// begun holds what the starts of all patterns lead to, which every position
	// asks for: by condition and symbol.
	begun      map[beginKey]begin
	begunBytes int
	begunLimit int
}

type beginKey struct {
	conds cond
	sym   int32
}

type begin struct {
	next     []uint32
	accepted []uint32
}

// stamps is a set of small numbers that is emptied in no time.
type stamps struct {
	at  []uint32
	now uint32
}

func (s *stamps) reset() {
	if s.now++; s.now == 0 {
		clear(s.at)
		s.now = 1
	}
}

// add reports whether i was not yet in the set.
func (s *stamps) add(i uint32) bool {
	if s.at[i] == s.now {
		return false
	}
	s.at[i] = s.now
	return true
}

func (s *stamps) has(i uint32) bool { return s.at[i] == s.now }

func newStepper(p *program, a *alphabet, begunLimit int) *stepper {
	n := len(p.insts)
	return &stepper{
		program: p, alphabet: a,
		seen:    stamps{at: make([]uint32, n)},
		taken:   stamps{at: make([]uint32, n)},
		matched: stamps{at: make([]uint32, len(p.starts))},
		begun:   map[beginKey]begin{}, begunLimit: begunLimit,
	}
}

// endOfText is the symbol behind the last byte.
const endOfText = -1

// conds returns what holds between a rune seen as prev and the symbol sym.
func (s *stepper) conds(prev side8, sym int) cond {
	next := besideText
	if sym != endOfText {
		next = s.side[sym]
	}
	var c cond
	switch prev {
	case besideText:
		c |= atBeginText | atBeginLine
	case besideNL:
		c |= atBeginLine
	}
	switch next {
	case besideText:
		c |= atEndText | atEndLine
	case besideNL:
		c |= atEndLine
	}
	if (prev == besideWord) != (next == besideWord) {
		c |= atBoundary
	} else {
		c |= notBoundary
	}
	if (prev == besideWord || prev == besideLower) != (next == besideWord || next == besideLower) {
		c |= atLowerBoundary
	} else {
		c |= notLowerBoundary
	}
	return c & s.uses
}

// follow goes from an instruction to all that consume a rune, and takes over
// what they lead to if they consume sym.
func (s *stepper) follow(from uint32, conds cond, sym int) {
	s.stack = append(s.stack[:0], from)
	for len(s.stack) > 0 {
		i := s.stack[len(s.stack)-1]
		s.stack = s.stack[:len(s.stack)-1]
		if !s.seen.add(i) {
			continue
		}
		switch in := &s.insts[i]; in.op {
		case opAlt:
			s.stack = append(s.stack, in.out, in.arg)
		case opEmpty:
			if in.need&^conds == 0 {
				s.stack = append(s.stack, in.out)
			}
		case opMatch:
			s.accept(s.owner[i])
		case opRune:
			if sym != endOfText && s.has(sym, in.set) {
				s.take(in.out)
			}
		}
	}
}

func (s *stepper) take(i uint32) {
	if s.taken.add(i) {
		s.next = append(s.next, i)
	}
}

func (s *stepper) accept(pattern uint32) {
	if s.matched.add(pattern) {
		s.accepted = append(s.accepted, pattern)
	}
}

// advance replaces cur, the instructions at a position behind prev, by those
// behind sym, and returns how that is seen. What has matched is dropped: the
// scan that goes this way has reported it, and need not find it again.
func (s *stepper) advance(prev side8, sym int) side8 {
	conds := s.conds(prev, sym)
	s.seen.reset()
	s.taken.reset()
	s.next = s.next[:0]
	b := s.beginning(conds, sym)
	for _, i := range b.next {
		s.take(i)
	}
	for _, p := range b.accepted {
		s.accept(p)
	}
	for _, i := range s.cur {
		s.follow(i, conds, sym)
	}
	s.cur = s.cur[:0]
	for _, i := range s.next {
		if !s.matched.has(s.owner[i]) {
			s.cur = append(s.cur, i)
		}
	}
	if sym == endOfText {
		return besideText
	}
	return s.side[sym]
}

// beginning returns what the starts of all patterns lead to.
func (s *stepper) beginning(conds cond, sym int) begin {
	k := beginKey{conds, int32(sym)}
	if b, ok := s.begun[k]; ok {
		return b
	}
	// The walk uses the sets of the step that asks; it has not begun yet.
	before := len(s.accepted)
	matched := slices.Clone(s.accepted)
	s.matched.reset()
	for _, i := range s.starts {
		s.follow(i, conds, sym)
	}
	b := begin{slices.Clone(s.next), slices.Clone(s.accepted[before:])}
	s.accepted = s.accepted[:0]
	s.matched.reset()
	for _, p := range matched {
		s.accept(p)
	}
	s.seen.reset()
	s.taken.reset()
	s.next = s.next[:0]

	cost := 4*(len(b.next)+len(b.accepted)) + 128
	if s.begunBytes+cost > s.begunLimit {
		clear(s.begun)
		s.begunBytes = 0
	}
	if cost <= s.begunLimit {
		s.begun[k] = b
		s.begunBytes += cost
	}
	return b
}

// A state is written as: its position within a character, how the rune before
// it is seen, and its instructions in ascending order as differences.

// state writes the state at cur.
func (s *stepper) state(key []byte, pos int32, prev side8) []byte {
	slices.Sort(s.cur)
	s.behind = prev
	key = binary.AppendUvarint(key, uint64(pos+1))
	key = append(key, byte(prev))
	last := uint32(0)
	for _, i := range s.cur {
		key = binary.AppendUvarint(key, uint64(i-last))
		last = i
	}
	return key
}

// load reads a state into cur.
func (s *stepper) load(key string) (pos int32, prev side8) {
	v, key := uvarint(key)
	prev, key = side8(key[0]), key[1:]
	s.cur = s.cur[:0]
	last := uint32(0)
	for len(key) > 0 {
		var d uint32
		d, key = uvarint(key)
		last += d
		s.cur = append(s.cur, last)
	}
	return int32(v) - 1, prev
}

func uvarint(s string) (uint32, string) {
	var v uint32
	for i := 0; ; i++ {
		b := s[i]
		v |= uint32(b&0x7F) << (7 * i)
		if b < 0x80 {
			return v, s[i+1:]
		}
	}
}

// transition computes where the state in key goes over byte b, writes that
// state behind buf and leaves in accepted what matched on the way.
func (s *stepper) transition(key string, b byte, buf []byte) []byte {
	pos, prev := s.load(key)
	s.accepted = s.accepted[:0]
	s.matched.reset()
	s.syms, pos = s.read(s.syms[:0], pos, b)
	for _, sym := range s.syms {
		prev = s.advance(prev, sym)
	}
	return s.state(buf, pos, prev)
}

// end computes what matches if the text ends at the state in key.
func (s *stepper) end(key string) {
	pos, prev := s.load(key)
	s.accepted = s.accepted[:0]
	s.matched.reset()
	s.syms = s.flush(s.syms[:0], pos)
	for _, sym := range append(s.syms, endOfText) {
		prev = s.advance(prev, sym)
	}
}

// first writes the state at the beginning of every text.
func (s *stepper) first() []byte {
	s.cur = s.cur[:0]
	prev := besideText
	if s.uses&(atBeginText|atBeginLine) == 0 {
		prev = besideOther
	}
	return s.state(nil, -1, prev)
}

// dead reports whether nothing can match behind the state written last, for
// patterns that are mortal.
func (s *stepper) dead() bool { return len(s.cur) == 0 && s.behind != besideText }

// mortal reports whether nothing can match behind a state that has no
// instructions and is not at the beginning of the text: whether every pattern
// begins there.
func (s *stepper) mortal() bool {
	s.seen.reset()
	s.taken.reset()
	s.matched.reset()
	s.accepted = s.accepted[:0]
	s.next = s.next[:0]
	// All conditions but the beginning of the text, at once: more than can hold.
	for _, i := range s.starts {
		s.follow(i, ^atBeginText, endOfText)
	}
	for i := range s.seen.at {
		if s.seen.has(uint32(i)) && (s.insts[i].op == opRune || s.insts[i].op == opMatch) {
			return false
		}
	}
	return true
}
