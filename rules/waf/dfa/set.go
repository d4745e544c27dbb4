package dfa

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"unsafe"
)

// Defaults of [Options].
const (
	DefaultMaxBytes            = 16 << 20
	DefaultMaxNewStatesPerScan = 512
	DefaultMaxPatternSize      = 20_000
)

// Options bounds a [Set]. The zero value of a field takes its default.
type Options struct {
	// MaxBytes bounds the memory of the Set, in bytes: its programs and the
	// states that scans have made. When the states of an automaton reach its
	// share, they are dropped and built anew as texts ask for them. The dropped
	// ones are gone when the scans that were in them have left them.
	MaxBytes int
	// Memory, if not nil, is what bounds the memory of the Set together with others,
	// and MaxBytes says nothing. The Set counts in it until it is closed.
	Memory *Memory
	// MaxNewStatesPerScan bounds the work that one scan may put into what is
	// not there yet: new states, a transition counting as a quarter of one.
	// 10,000 at most.
	MaxNewStatesPerScan int
	// MaxPatternSize bounds one pattern, in instructions, and a twentieth of what
	// a list of phrases may take, about one for each byte. In a larger
	// expression, counts are relaxed (`x{1,500}` to `x+`), which makes it match
	// more; if that does not help, it is reported for every value.
	MaxPatternSize int
}

// maxID bounds ids, because every set of them has a bit for each below it.
const maxID = 1 << 20

// Builder gathers patterns. The zero value is ready for use.
type Builder struct {
	pats []numbered
	top  int
}

type numbered struct {
	id  int
	pat Pattern
}

// Add adds a pattern. Several patterns may have the same id, which then stands
// for any of them. An expression that does not compile, and an id below 0 or
// above 1,048,575, is an error, and nothing is added.
func (b *Builder) Add(id int, p Pattern) error {
	if id < 0 || id >= maxID {
		return fmt.Errorf("dfa: id %d is out of range", id)
	}
	if p.kind == kindRegexp || p.kind == kindBytesRegexp {
		if err := p.validate(); err != nil {
			return err
		}
	}
	b.pats = append(b.pats, numbered{id, p})
	b.top = max(b.top, id+1)
	return nil
}

// Set answers which of its patterns may match a value. It is safe for
// concurrent use; only scans that come to new states wait for each other.
type Set struct {
	autos   []*automaton
	ascii   []*automaton // exact for ASCII only: for others all may match
	touch   touches
	always  []mask
	inexact Bits
	words   int
	budget  int
	max     int
	members []numbered // in automata
	parts   atomic.Pointer[parts]
	counter atomic.Int64
}

// Build makes a Set of the patterns. It fails if MaxBytes, or the Memory, does not
// hold the programs and a few states of each automaton.
func (b *Builder) Build(o Options) (*Set, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxNewStatesPerScan == 0 {
		o.MaxNewStatesPerScan = DefaultMaxNewStatesPerScan
	}
	if o.MaxPatternSize == 0 {
		o.MaxPatternSize = DefaultMaxPatternSize
	}
	if o.MaxBytes < 0 || o.MaxBytes > 4<<30 || o.MaxNewStatesPerScan < 0 || o.MaxNewStatesPerScan > 10_000 || o.MaxPatternSize < 0 {
		return nil, errors.New("dfa: an option is out of range")
	}
	s := &Set{words: (b.top + 63) / 64, max: o.MaxBytes}
	s.budget = o.MaxNewStatesPerScan * (costFill + costState)
	s.inexact = make(Bits, s.words)
	always := make(Bits, s.words)
	parts := map[part][]*compiled{}
	var order []part
	for i, n := range b.pats {
		c, fits, err := compile(n.pat, n.id, o.MaxPatternSize)
		if err != nil {
			return nil, err
		}
		if !fits || c.inexact {
			s.inexact.Add(n.id)
		}
		if !fits || c.always {
			always.Add(n.id)
			continue
		}
		if set, ok := bytesOf(c); ok && s.touch.add(&set, n.id, s.words) {
			continue
		}
		s.members = append(s.members, n)
		p := partOf(c, i)
		if p.ascii {
			s.inexact.Add(n.id)
		}
		if _, ok := parts[p]; !ok {
			order = append(order, p)
		}
		parts[p] = append(parts[p], c)
	}
	s.always = always.masks()
	for _, p := range order {
		a := newAutomaton(parts[p], s.words)
		if p.ascii {
			s.ascii = append(s.ascii, a)
		} else {
			s.autos = append(s.autos, a)
		}
	}
	if o.Memory == nil {
		return s, s.share()
	}
	s.minimum()
	if err := s.join(o.Memory); err != nil {
		return nil, err
	}
	return s, nil
}

// part says which patterns go into one automaton.
type part struct {
	ascii   bool
	alone   int // 1 + the number of a pattern that is on its own
	unicode bool
	counter bool
}

// Patterns that would make the states of all others larger or more.
const (
	aloneSize    = 10_000 // instructions
	unicodeRunes = 64     // places above ASCII where sets begin or end
)

func partOf(c *compiled, i int) part {
	p := part{ascii: c.pattern.bytewise() && c.pattern.lower}
	p.unicode = c.runes > unicodeRunes
	p.counter = c.counter
	if c.pattern.kind != kindPhrases && c.size > aloneSize {
		p.alone = i + 1
	}
	return p
}

// share divides the memory.
func (s *Set) share() error {
	all := append(append([]*automaton(nil), s.autos...), s.ascii...)
	left, need := s.max, 0
	for _, a := range all {
		left -= a.fixed
		need += a.least()
	}
	if left < need {
		return fmt.Errorf("dfa: %d bytes do not hold the patterns, which take %d", s.max, s.max-left+need)
	}
	// By the size of the programs, because larger ones have more states.
	programs := s.max - left
	for _, a := range all {
		n := a.least() + int(int64(left-need)*int64(a.fixed)/int64(programs))
		a.setLimits(n-n/8, n/8)
	}
	return nil
}

// minimum gives each automaton what it is of use with.
func (s *Set) minimum() {
	for _, list := range [][]*automaton{s.autos, s.ascii} {
		for _, a := range list {
			a.setLimits(a.least(), a.fixed/8)
		}
	}
}

// least returns the bytes below which an automaton is of no use.
func (a *automaton) least() int { return 4*4*firstRows*int(a.stride) + 4*emptyBytes }

// NewBits returns an empty set of ids for [Set.Scan].
func (s *Set) NewBits() Bits { return make(Bits, s.words) }

// Exact reports whether a scan that returns true reports id only if one of its
// patterns matches. It is false for patterns that were too large, and for
// lower-cased ones that are made of bytes and not of characters.
func (s *Set) Exact(id int) bool { return !s.inexact.Has(id) }

// Scan adds to out the ids of the patterns that match text. It returns false if
// text asked for more new states than one scan may make: out then holds every
// id that the scan could not decide, and so still each that matches. out must
// be of [Set.NewBits]. It is not cleared before.
func (s *Set) Scan(text string, out Bits) bool {
	left := budget{units: s.budget, nanos: math.MaxInt}
	return s.scan(text, out, &left)
}

// ScanBytes is [Set.Scan] for bytes, which must not change meanwhile.
func (s *Set) ScanBytes(text []byte, out Bits) bool {
	left := budget{units: s.budget, nanos: math.MaxInt}
	return s.scan(unsafe.String(unsafe.SliceData(text), len(text)), out, &left)
}

// ScanWithin is [Set.Scan] with a budget that several scans share, such as
// those of one request: new states, of which the scan takes what it makes,
// at most MaxNewStatesPerScan. At or below zero it makes none, and only texts
// whose states are there already get an answer.
func (s *Set) ScanWithin(text string, out Bits, newStates *int) bool {
	granted := max(0, min(*newStates, s.budget/(costFill+costState))) * (costFill + costState)
	left := budget{units: granted, nanos: math.MaxInt}
	ok := s.scan(text, out, &left)
	*newStates -= (granted - left.units + costState) / (costFill + costState)
	return ok
}

func (s *Set) scan(text string, out Bits, left *budget) bool {
	out.or(s.always)
	if s.touch.n > 0 {
		s.touch.scan(text, out)
	}
	ok := true
	rest := s.autos
	for ; len(rest) >= 2; rest = rest[2:] {
		ok = scanBoth(rest[0], rest[1], text, out, left) && ok
	}
	for _, a := range rest {
		ok = a.scan(text, out, left) && ok
	}
	for _, a := range s.ascii {
		if !ascii(text) {
			out.or(a.all)
			continue
		}
		ok = a.scan(text, out, left) && ok
	}
	return ok
}

// Stats is what a [Set] holds and has done.
type Stats struct {
	Automata    int
	Patterns    int // in automata; the others need none
	States      int // now
	Bytes       int // of programs and states, now
	Transitions int // computed since Build
	Flushes     int // times that an automaton dropped its states
	Exhausted   int // times that a scan gave an automaton up
}

// Stats returns the figures of the Set.
func (s *Set) Stats() Stats {
	var st Stats
	for _, list := range [][]*automaton{s.autos, s.ascii} {
		for _, a := range list {
			st.add(a)
			st.Patterns += a.machine.patterns()
		}
	}
	return st
}

func (st *Stats) add(a *automaton) {
	a.mu.Lock()
	defer a.mu.Unlock()
	st.Automata++
	st.States += a.states
	st.Bytes += a.fixed + a.current.Load().bytes + a.machine.begun()
	st.Transitions += a.fills
	st.Flushes += a.flushes
	st.Exhausted += int(a.exhausted.Load())
}
