package dfa

import (
	"encoding/binary"
	"slices"
)

// machine computes the transitions of an automaton. It holds two programs that
// read the same text: one reads characters, and goes on when one is complete;
// the other reads bytes. One goroutine at a time uses it.
//
// A state is written as: the position within a character, how the rune before
// it is seen, how many instructions of the first program are alive, and these
// and those of the second in ascending order as differences.
type machine struct {
	runes *stepper
	bytes *stepper // nil without patterns that read bytes

	class     [256]uint8
	classes   int
	syms      []int
	lastEmpty bool // whether the state written last is one that leads nowhere by itself
}

// newMachine joins the programs of two groups of patterns.
func newMachine(runes, bytes *program) *machine {
	// How the rune before is seen is one for both.
	uses := runes.uses
	if bytes != nil {
		uses |= bytes.uses
	}
	m := &machine{runes: newStepper(runes, newAlphabet(runes, uses, false), 0)}
	if bytes != nil {
		m.bytes = newStepper(bytes, newAlphabet(bytes, uses, true), 0)
	}
	// Bytes are one class if they do the same in both programs.
	index := map[[2]uint8]uint8{}
	for b := range 256 {
		k := [2]uint8{m.runes.class[b]}
		if m.bytes != nil {
			k[1] = m.bytes.class[b]
		}
		c, ok := index[k]
		if !ok {
			c = uint8(m.classes)
			m.classes++
			index[k] = c
		}
		m.class[b] = c
	}
	return m
}

// atByte returns how the byte before a position is seen, if prev is how the
// rune before it is.
func atByte(pos int32, prev side8) side8 {
	if pos >= 0 || prev == besideLower {
		return besideOther
	}
	return prev
}

// patterns returns how many patterns the machine holds.
func (m *machine) patterns() int {
	n := len(m.runes.ids)
	if m.bytes != nil {
		n += len(m.bytes.ids)
	}
	return n
}

// begun returns the bytes of what the steppers keep for later steps.
func (m *machine) begun() int {
	n := m.runes.begunBytes
	if m.bytes != nil {
		n += m.bytes.begunBytes
	}
	return n
}

// begin forgets what the transition before accepted.
func (m *machine) begin() {
	m.runes.begin()
	if m.bytes != nil {
		m.bytes.begin()
	}
}

// silent reports whether the transition computed last accepted nothing.
func (m *machine) silent() bool {
	return len(m.runes.accepted) == 0 && (m.bytes == nil || len(m.bytes.accepted) == 0)
}

// steps returns how many steps the transition computed last took.
func (m *machine) steps() int {
	n := m.runes.steps
	if m.bytes != nil {
		n += m.bytes.steps
	}
	return n
}

// transition computes where the state in key goes over byte b, and writes that
// state behind buf. What matched on the way is in accepted.
func (m *machine) transition(key string, b byte, buf []byte) []byte {
	pos, prev := m.load(key)
	m.begin()
	if m.bytes != nil {
		m.bytes.advance(atByte(pos, prev), int(m.bytes.byteSym[b]))
	}
	m.syms, pos = m.runes.read(m.syms[:0], pos, b)
	for _, sym := range m.syms {
		prev = m.runes.advance(prev, sym)
	}
	return m.state(buf, pos, prev)
}

// end computes what matches if the text ends at the state in key.
func (m *machine) end(key string) {
	pos, prev := m.load(key)
	m.begin()
	if m.bytes != nil {
		m.bytes.advance(atByte(pos, prev), endOfText)
	}
	m.syms = m.runes.flush(m.syms[:0], pos)
	for _, sym := range append(m.syms, endOfText) {
		prev = m.runes.advance(prev, sym)
	}
}

// first writes the state at the beginning of every text.
func (m *machine) first() []byte {
	m.runes.cur = m.runes.cur[:0]
	uses := m.runes.uses
	if m.bytes != nil {
		m.bytes.cur = m.bytes.cur[:0]
		uses |= m.bytes.uses
	}
	prev := besideText
	if uses&(atBeginText|atBeginLine) == 0 {
		prev = besideOther
	}
	return m.state(nil, -1, prev)
}

// mortal reports whether nothing matches behind a state for which dead is true.
func (m *machine) mortal() bool {
	return m.runes.mortal() && (m.bytes == nil || m.bytes.mortal())
}

// dead reports whether the state written last is behind the beginning of the
// text and has no instructions.
func (m *machine) dead() bool { return m.lastEmpty }

func (m *machine) state(key []byte, pos int32, prev side8) []byte {
	key = binary.AppendUvarint(key, uint64(pos+1))
	key = append(key, byte(prev))
	key = binary.AppendUvarint(key, uint64(len(m.runes.cur)))
	key = differences(key, m.runes.cur)
	m.lastEmpty = prev != besideText && len(m.runes.cur) == 0
	if m.bytes != nil {
		key = differences(key, m.bytes.cur)
		m.lastEmpty = m.lastEmpty && len(m.bytes.cur) == 0
	}
	return key
}

func differences(key []byte, list []uint32) []byte {
	slices.Sort(list)
	last := uint32(0)
	for _, i := range list {
		key = binary.AppendUvarint(key, uint64(i-last))
		last = i
	}
	return key
}

func (m *machine) load(key string) (pos int32, prev side8) {
	v, key := uvarint(key)
	prev, key = side8(key[0]), key[1:]
	n, key := uvarint(key)
	m.runes.cur = m.runes.cur[:0]
	last := uint32(0)
	for range n {
		var d uint32
		d, key = uvarint(key)
		last += d
		m.runes.cur = append(m.runes.cur, last)
	}
	if m.bytes != nil {
		m.bytes.cur = m.bytes.cur[:0]
		last = 0
		for len(key) > 0 {
			var d uint32
			d, key = uvarint(key)
			last += d
			m.bytes.cur = append(m.bytes.cur, last)
		}
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
