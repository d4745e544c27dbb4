package list

import "math/bits"

// table holds disjoint spans in ascending order.
type table[K uint32 | uint64] struct {
	spans []span[K]
	index index
}

// newTable copies spans, which are disjoint and in ascending order.
func newTable[K uint32 | uint64](spans []span[K]) table[K] {
	t := table[K]{spans: append(make([]span[K], 0, len(spans)), spans...)}
	t.index = newIndex(len(t.spans), func(i int) uint64 { return uint64(t.spans[i].first) })
	return t
}

// contains finds the last span that begins at k or before, the only one that can
// hold k.
func (t *table[K]) contains(k K) bool {
	from, to := t.index.bucket(uint64(k), len(t.spans))
	for from < to {
		middle := int(uint(from+to) >> 1)
		if t.spans[middle].first <= k {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return from > 0 && k <= t.spans[from-1].last
}

// Sets of fewer spans than minIndexed are searched without an index: six steps
// at most. No index has more than maxBuckets entries of 4 bytes.
const (
	minIndexed = 64
	maxBuckets = 1 << 20
)

// index narrows the search for an address: it cuts the range from the first span
// to the last into equal parts, about as many as there are spans, and knows which
// spans begin in each part. Spans that crowd in one part are found by binary
// search, so the worst case is that of no index.
//
// It looks at the leading bits of addresses: 32 of IPv4, 64 of IPv6. The zero
// index narrows nothing.
type index struct {
	base   uint64   // leading bits of the first span
	shift  uint8    // a part is 1<<shift wide
	starts []uint32 // starts[p] is the number of spans that begin before part p
}

// newIndex indexes n spans, whose leading bits lead returns in ascending order.
func newIndex(n int, lead func(i int) uint64) index {
	if n < minIndexed {
		return index{}
	}
	x := index{base: lead(0)}
	width := lead(n-1) - x.base
	parts := min(1<<bits.Len(uint(n-1)), maxBuckets)
	x.shift = uint8(max(bits.Len64(width)-bits.Len(uint(parts-1)), 0))
	x.starts = make([]uint32, width>>x.shift+2)
	for i := range n {
		x.starts[(lead(i)-x.base)>>x.shift+1]++
	}
	for p := 1; p < len(x.starts); p++ {
		x.starts[p] += x.starts[p-1]
	}
	return x
}

// bucket returns the spans, of n, among which the first one that begins behind an
// address with these leading bits is to be searched: from <= answer <= to.
func (x *index) bucket(lead uint64, n int) (from, to int) {
	if x.starts == nil {
		return 0, n
	}
	if lead < x.base {
		return 0, 0
	}
	p := (lead - x.base) >> x.shift
	if p >= uint64(len(x.starts)-1) {
		return n, n
	}
	return int(x.starts[p]), int(x.starts[p+1])
}
