package dfa

import (
	"iter"
	"math/bits"
)

// Bits is a set of ids, one bit each. [Set.NewBits] makes one that is long
// enough for a Set. It is not safe for concurrent use.
type Bits []uint64

// Has reports whether id is in the set. An id that the set is too short for
// is not in it.
func (b Bits) Has(id int) bool {
	w := id >> 6
	return id >= 0 && w < len(b) && b[w]&(1<<(id&63)) != 0
}

// Add puts id into the set. It panics if the set is too short for id.
func (b Bits) Add(id int) { b[id>>6] |= 1 << (id & 63) }

// Or adds every id of c, which must not be longer than b.
func (b Bits) Or(c Bits) {
	for i, w := range c {
		b[i] |= w
	}
}

// Clear empties the set.
func (b Bits) Clear() { clear(b) }

// Len returns the number of ids in the set.
func (b Bits) Len() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// All yields the ids in ascending order.
func (b Bits) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range b {
			for ; w != 0; w &= w - 1 {
				if !yield(i<<6 | bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// mask is one word of a set of ids.
type mask struct {
	word uint32
	bits uint64
}

func (b Bits) or(list []mask) {
	for _, m := range list {
		b[m.word] |= m.bits
	}
}

// masks returns the words of b that are not zero.
func (b Bits) masks() []mask {
	var list []mask
	for i, w := range b {
		if w != 0 {
			list = append(list, mask{uint32(i), w})
		}
	}
	return list
}
