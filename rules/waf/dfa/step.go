package dfa

import "slices"

// stepper walks a program as a nondeterministic automaton does: from a set of
// instructions over a symbol to the next set. It is what a new transition of the
// deterministic automaton is computed with. One goroutine at a time uses it.
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
	steps    int      // instructions that were looked at since begin
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

// begin forgets what was accepted.
func (s *stepper) begin() {
	s.accepted = s.accepted[:0]
	s.matched.reset()
	s.steps = 0
}

// accepting adds the ids of what was accepted.
func (s *stepper) accepting(ids Bits) {
	for _, p := range s.accepted {
		ids.Add(s.ids[p])
	}
}

// size returns about how many bytes the stepper takes without what it has begun.
func (s *stepper) size() int {
	// Instructions with owner and stamps; positions in characters; intervals of
	// runes; which symbols are in which sets.
	return len(s.insts)*(20+4+4+4) + len(s.nodes)*(64*4+8) + len(s.first)*8 + len(s.in)*8 + 4<<10
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
		s.steps++
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
	s.steps += len(b.next) + len(s.cur)
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
