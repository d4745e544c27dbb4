package proof

import (
	"encoding/binary"
	"sync/atomic"
)

// cleanTexts remembers short texts that no probe of a tree may match, which most
// values and names of arguments are. A text is one line of the processor's cache and
// is found with one read of memory, where an entry of the cache takes three. It has
// no lock: a place is written under a sequence number, and what was read while the
// number changed does not count (Lamport, Concurrent Reading and Writing, 1977).
type cleanTexts struct{ slots []cleanSlot } // a power of two

// maxClean is the longest text that is remembered.
const maxClean = 48

type cleanSlot struct {
	sequence atomic.Uint64 // odd while the slot is written
	owner    atomic.Uint64 // number of the tree and length of the text; 0 of an empty slot
	text     [maxClean / 8]atomic.Uint64
}

// cleanSlotBytes is the size of a slot.
const cleanSlotBytes = 64

// init makes room for texts in at most so many bytes.
func (c *cleanTexts) init(bytes int) {
	n := 2
	for 2*n*cleanSlotBytes <= bytes {
		n *= 2
	}
	c.slots = make([]cleanSlot, n)
}

// fetch reads where a text would be, to no other end than that it is at hand soon.
func (c *cleanTexts) fetch(h uint64) { c.slots[h&uint64(len(c.slots)-1)].owner.Load() }

// ownerOf returns what a slot notes of the tree and the length of a text.
func ownerOf(number uint32, value string) uint64 { return uint64(number)<<8 | uint64(len(value)) }

// ways returns the two slots of a hash, which are neighbours.
func (c *cleanTexts) ways(h uint64) (*cleanSlot, *cleanSlot) {
	i := h & uint64(len(c.slots)-1)
	return &c.slots[i], &c.slots[i^1]
}

// words returns a text of at most maxClean bytes as numbers, with zeros behind it,
// and how many of them it takes.
func words(value string) (out [maxClean / 8]uint64, n int) {
	var b [maxClean]byte
	copy(b[:], value)
	n = (len(value) + 7) / 8
	for i := range n {
		out[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return out, n
}

// has reports whether no probe of a tree may match a text of at most maxClean bytes.
// h is the hash of both.
func (c *cleanTexts) has(h uint64, number uint32, value string) bool {
	owner := ownerOf(number, value)
	first, second := c.ways(h)
	return first.holds(owner, value) || second.holds(owner, value)
}

func (s *cleanSlot) holds(owner uint64, value string) bool {
	before := s.sequence.Load()
	if before&1 != 0 || s.owner.Load() != owner {
		return false
	}
	text, n := words(value)
	for i := range n {
		if s.text[i].Load() != text[i] {
			return false
		}
	}
	return s.sequence.Load() == before
}

// put remembers a text.
func (c *cleanTexts) put(h uint64, number uint32, value string) {
	s, other := c.ways(h)
	if s.owner.Load() != 0 && (other.owner.Load() == 0 || other.sequence.Load() < s.sequence.Load()) {
		s = other // the empty one, or the one that has changed less often
	}
	before := s.sequence.Load()
	if before&1 != 0 || !s.sequence.CompareAndSwap(before, before+1) {
		return // another request writes it
	}
	s.owner.Store(ownerOf(number, value))
	text, n := words(value)
	for i := range n {
		s.text[i].Store(text[i])
	}
	s.sequence.Store(before + 2)
}
