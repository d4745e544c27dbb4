package dfa

import (
	"math"
	"strings"
	"sync"
)

// The automata of a Set hold all of its patterns together. That makes a text that
// looks like those before it cheap to read, and one that is made of the words of
// attacks dear: nearly each of its bytes leads to a state that was not there. Such a
// text is read for each pattern by itself: an automaton of one pattern has few states,
// they are soon there, and it need not read on when the pattern has matched. Most
// patterns are not asked at all, because the text lacks the words that they require.
//
// What that costs is known before, and about as much is put into the states of the
// Set first. So a kind of text that comes again is soon read at once, and one that
// explodes costs no more than twice what it has to.

// parts are the patterns of a Set by themselves.
type parts struct {
	words    int
	literals *Set // the patterns that are literals, and what the others require
	singles  []single
	pool     sync.Pool
}

// single is a pattern that is no literal.
type single struct {
	id       int
	required int  // its id among the literals; -1 if it requires nothing
	set      *Set // nil if there is no memory for it
}

const (
	// What it costs to read a byte with the automaton of a single pattern, and with
	// that of the literals, to take a transition on which something matches, and to
	// ask which patterns are left, in nanoseconds.
	nanosRead     = 2
	nanosLiterals = 2
	nanosEdge     = 10
	nanosBegin    = 3000
	// What each text gets for new states, in nanoseconds: for itself, for each byte,
	// and at most.
	nanosText     = 10_000
	nanosTextByte = 100
	nanosUsual    = 150_000
	// partsShare is what part of a Memory stays free of automata of single patterns.
	partsShare = 4
	// partBytes is what an automaton may take that counts in no Memory.
	partBytes = 4 << 20
	// chunk is how many bytes are read with an automaton before it is asked whether
	// its pattern has matched.
	chunk = 4 << 10
)

// Prepare makes what a Set needs to read texts that its automata explode with. It
// takes tens of milliseconds for hundreds of patterns, and is to be called ahead of
// such texts; without it ScanFor gives them up sooner. It ends early if stop, which it
// asks before each pattern, returns true. What it makes counts in m, which may be nil,
// and in the Memory of everyone else who prepares the Set. It is safe for concurrent
// use, also with scans.
func (s *Set) Prepare(m *Memory, stop func() bool) {
	if len(s.members) < 2 {
		return
	}
	if p := s.parts.Load(); p != nil {
		p.join(m)
		return
	}
	p := &parts{words: s.words}
	var literals Builder
	for i := range s.members {
		n := &s.members[i]
		if stop() {
			return
		}
		if n.pat.kind != kindRegexp && n.pat.kind != kindBytesRegexp {
			if literals.Add(n.id, n.pat) != nil {
				return
			}
			continue
		}
		one := single{id: n.id, required: -1, set: n.pat.alone(m)}
		if words := n.pat.required(); words != nil {
			one.required = s.words<<6 + len(p.singles)
			if literals.Add(one.required, Phrases(words)) != nil {
				return
			}
		}
		p.singles = append(p.singles, one)
	}
	o := Options{MaxBytes: partBytes}
	if m != nil {
		o = Options{Memory: m}
	}
	set, err := literals.Build(o)
	if err != nil {
		return // there is no memory for it
	}
	p.literals = set
	p.pool.New = func() any {
		return &asked{parts: p, found: p.literals.NewBits(), one: make(Bits, 1), left: make([]int, 0, len(p.singles))}
	}
	if !s.parts.CompareAndSwap(nil, p) {
		if m != nil {
			set.leave(m)
		}
		s.parts.Load().join(m)
	}
}

// ScanFor reports which of the wanted patterns match text, and maybe others; nil wants
// all. It clears out before. For what is not there yet it spends no more than nanos, in
// nanoseconds as they are estimated, and takes off what it has spent, which may be a
// little more; what it costs to look a text up whose states are there is not counted. It returns false if that did not suffice: out
// then holds every id that was not decided.
func (s *Set) ScanFor(text string, out, wanted Bits, nanos *int) bool {
	out.Clear()
	if s.scanOn(text, out, nanos, min(nanosText+nanosTextByte*len(text), nanosUsual)) {
		return true
	}
	parts := s.parts.Load()
	if parts == nil {
		return s.scanOn(text, out, nanos, *nanos) || s.undecided(out)
	}
	q := parts.begin(text, out, wanted, nanos)
	defer parts.pool.Put(q)
	return s.scanOn(text, out, nanos, q.cost(text)/2) || q.scan(text, out, nanos)
}

// scanOn adds the ids of patterns that match, as far as it comes with most of nanos.
func (s *Set) scanOn(text string, out Bits, nanos *int, most int) bool {
	most = min(most, *nanos)
	left := budget{units: s.budget, nanos: most, again: true}
	ok := s.scan(text, out, &left)
	*nanos -= most - left.nanos + nanosEdge*left.edges
	return ok
}

// undecided reports all patterns that automata hold, and returns false.
func (s *Set) undecided(out Bits) bool {
	for _, list := range [][]*automaton{s.autos, s.ascii} {
		for _, a := range list {
			out.or(a.all)
		}
	}
	return false
}

// alone returns the Set of nothing but a pattern; nil if there is no memory for it.
func (p Pattern) alone(m *Memory) *Set {
	o := Options{MaxBytes: partBytes}
	if m != nil {
		if m.Left() < m.Size()/partsShare {
			return nil
		}
		o = Options{Memory: m}
	}
	var b Builder
	if b.Add(0, p) != nil {
		return nil
	}
	set, err := b.BuildShared(o)
	if err != nil {
		return nil
	}
	return set
}

// required returns words of which one is in each text that the pattern matches; nil
// if there are none.
func (p *Pattern) required() []string {
	re, err := p.expression()
	if err != nil {
		return nil
	}
	return required(re)
}

// join lets the automata count in a Memory. Those for which it has no room stay what
// they are, and count for others only.
func (p *parts) join(m *Memory) {
	if m == nil {
		return
	}
	_ = p.literals.join(m)
	for i := range p.singles {
		if s := p.singles[i].set; s != nil {
			_ = s.join(m)
		}
	}
}

// asked is a text that is read for single patterns.
type asked struct {
	*parts
	found Bits // of the literals
	one   Bits
	left  []int // singles that may match
	ok    bool  // the literals are decided
}

// begin finds the patterns that may match and are not in out. Those that are literals
// it decides.
func (p *parts) begin(text string, out, wanted Bits, nanos *int) *asked {
	q := p.pool.Get().(*asked)
	q.left = q.left[:0]
	q.found.Clear()
	*nanos -= nanosBegin + nanosLiterals*len(text)
	read := budget{units: math.MaxInt, nanos: max(0, *nanos)}
	had := read.nanos
	q.ok = p.literals.scan(text, q.found, &read)
	*nanos -= had - read.nanos + nanosEdge*read.edges
	for i := range min(len(out), p.words, len(q.found)) {
		out[i] |= q.found[i]
	}
	any := strings.ContainsAny(text, otherCases)
	for i := range p.singles {
		one := &p.singles[i]
		if out.Has(one.id) || wanted != nil && !wanted.Has(one.id) {
			continue
		}
		if any || one.required < 0 || q.found.Has(one.required) {
			q.left = append(q.left, i)
		}
	}
	return q
}

// cost returns about what it costs to read the text for the patterns that are left.
func (q *asked) cost(text string) int { return nanosRead * len(text) * len(q.left) }

// scan reads the text for the patterns that are left.
func (q *asked) scan(text string, out Bits, nanos *int) bool {
	ok := q.ok
	for _, i := range q.left {
		one := &q.singles[i]
		switch {
		case out.Has(one.id):
		case one.set == nil || *nanos <= 0:
			out.Add(one.id)
			ok = false
		default:
			match, decided := one.set.matches(text, q.one, nanos)
			if match {
				out.Add(one.id)
			}
			ok = ok && decided
		}
	}
	return ok
}

// matches reports whether the only pattern of a Set matches; decided is false if that
// was not found out.
func (s *Set) matches(text string, out Bits, nanos *int) (match, decided bool) {
	if len(s.autos)+len(s.ascii) != 1 {
		return true, false
	}
	out.Clear()
	left := budget{units: math.MaxInt, nanos: *nanos, first: true}
	for _, a := range s.ascii {
		if !ascii(text) {
			return true, true // as the Set of all says it
		}
		decided = a.first(text, out, &left)
	}
	for _, a := range s.autos {
		decided = a.first(text, out, &left)
	}
	*nanos = left.nanos - nanosEdge*left.edges
	return out.Has(0), decided
}

// first reads a text until the pattern matches.
func (a *automaton) first(text string, out Bits, left *budget) bool {
	c := a.start()
	for len(text) > 0 && !c.done {
		n := min(len(text), chunk)
		left.nanos -= nanosRead * n
		c.read(text[:n], out, left)
		text = text[n:]
	}
	if !c.done {
		c.finish(out, left)
	}
	return c.ok
}
