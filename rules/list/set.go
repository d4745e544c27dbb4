package list

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math"
	"net/netip"
	"slices"
)

// Digest identifies the content of a Set: the addresses in it, whatever the
// notation and the order in which they were written. It is a SHA-256.
type Digest [sha256.Size]byte

// String returns the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Set is a set of addresses. It is immutable, and safe for concurrent use.
//
// The zero Set and a nil one hold no address.
//
// It keeps disjoint spans of addresses in order, in three tables: IPv4 (8 bytes a
// span), whole /64 networks of IPv6, known by the first half of their addresses
// (16 bytes a span), and the other spans of IPv6 (32 bytes). Nearly all that is
// published of IPv6 is in the second. An index adds 4 to 8 bytes a span.
type Set struct {
	v4      table[uint32]
	v6      table[uint64]
	narrow6 []span[uint128]
	index6  index // of narrow6

	entries int
	digest  Digest
}

// Contains reports whether the set holds a. It takes an IPv4 address in IPv6 form
// (::ffff:192.0.2.1) for the IPv4 address, ignores a zone, and returns false for
// the zero Addr. It does not allocate.
func (s *Set) Contains(a netip.Addr) bool {
	if s == nil {
		return false
	}
	if a.Is4() || a.Is4In6() {
		b := a.As4()
		return s.v4.contains(binary.BigEndian.Uint32(b[:]))
	}
	if !a.IsValid() {
		return false
	}
	u := uint128From(a)
	return s.v6.contains(u.high) || len(s.narrow6) > 0 && s.containsNarrow(u)
}

// containsNarrow is table.contains for keys of 128 bits.
func (s *Set) containsNarrow(a uint128) bool {
	from, to := s.index6.bucket(a.high, len(s.narrow6))
	for from < to {
		middle := int(uint(from+to) >> 1)
		if a.less(s.narrow6[middle].first) {
			to = middle
		} else {
			from = middle + 1
		}
	}
	return from > 0 && !s.narrow6[from-1].last.less(a)
}

// Len returns the number of entries that were read, which is not the number of
// addresses.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return s.entries
}

// Digest returns the digest of the content. Sets of the same addresses have the
// same digest.
func (s *Set) Digest() Digest {
	if s == nil || s.digest == (Digest{}) {
		return emptyDigest
	}
	return s.digest
}

var emptyDigest = new(builder).build().digest

// uint128 is an IPv6 address as a number.
type uint128 struct{ high, low uint64 }

func uint128From(a netip.Addr) uint128 {
	b := a.As16()
	return uint128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (u uint128) compare(v uint128) int {
	if u.high != v.high {
		return cmp.Compare(u.high, v.high)
	}
	return cmp.Compare(u.low, v.low)
}

func (u uint128) less(v uint128) bool {
	return u.high < v.high || u.high == v.high && u.low < v.low
}

func (u uint128) next() uint128 {
	u.low++
	if u.low == 0 {
		u.high++
	}
	return u
}

// span is the addresses from first to last, both included.
type span[K any] struct{ first, last K }

// builder collects entries for a Set. The zero builder is empty.
type builder struct {
	v4 []span[uint32]
	v6 []span[uint128]
}

// add adds the addresses from first to last, which are of one family, unmapped
// and in order.
func (b *builder) add(first, last netip.Addr) {
	if first.Is4() {
		f, l := first.As4(), last.As4()
		b.v4 = append(b.v4, span[uint32]{binary.BigEndian.Uint32(f[:]), binary.BigEndian.Uint32(l[:])})
		return
	}
	b.v6 = append(b.v6, span[uint128]{uint128From(first), uint128From(last)})
}

func (b *builder) len() int { return len(b.v4) + len(b.v6) }

// build makes the set. The builder must not be used after it.
func (b *builder) build() *Set {
	s := &Set{entries: b.len()}
	v4 := merge(b.v4, cmp.Compare, func(k uint32) uint32 { return k + 1 })
	v6 := merge(b.v6, uint128.compare, uint128.next)
	s.digest = sum(v4, v6)
	s.v4 = newTable(v4)
	wide := 0
	for _, r := range v6 {
		if r.first.low == 0 && r.last.low == math.MaxUint64 {
			wide++
		}
	}
	wide6 := make([]span[uint64], 0, wide)
	s.narrow6 = make([]span[uint128], 0, len(v6)-wide)
	for _, r := range v6 {
		if r.first.low == 0 && r.last.low == math.MaxUint64 {
			wide6 = append(wide6, span[uint64]{r.first.high, r.last.high})
		} else {
			s.narrow6 = append(s.narrow6, r)
		}
	}
	s.v6 = newTable(wide6)
	s.index6 = newIndex(len(s.narrow6), func(i int) uint64 { return s.narrow6[i].first.high })
	return s
}

// merge sorts spans, in place, and joins those that overlap or touch.
func merge[K comparable](spans []span[K], compare func(a, b K) int, next func(K) K) []span[K] {
	if len(spans) == 0 {
		return nil
	}
	slices.SortFunc(spans, func(a, b span[K]) int { return compare(a.first, b.first) })
	n := 0
	for _, s := range spans[1:] {
		last := &spans[n].last
		switch {
		case compare(s.first, *last) <= 0, s.first == next(*last):
			// The second case is never the wrap from the highest address to
			// zero: zero sorts first.
			if compare(s.last, *last) > 0 {
				*last = s.last
			}
		default:
			n++
			spans[n] = s
		}
	}
	return spans[:n+1]
}

// sum hashes the spans, which are the same for the same addresses.
func sum(v4 []span[uint32], v6 []span[uint128]) (d Digest) {
	h := sha256.New()
	buf := make([]byte, 0, 4096)
	for _, r := range v4 {
		buf = flush(h, buf, 8)
		buf = binary.BigEndian.AppendUint32(buf, r.first)
		buf = binary.BigEndian.AppendUint32(buf, r.last)
	}
	// The number of IPv4 spans tells where the IPv6 spans begin.
	buf = flush(h, buf, 8)
	buf = binary.BigEndian.AppendUint64(buf, uint64(len(v4)))
	for _, r := range v6 {
		buf = flush(h, buf, 32)
		for _, u := range [...]uint64{r.first.high, r.first.low, r.last.high, r.last.low} {
			buf = binary.BigEndian.AppendUint64(buf, u)
		}
	}
	h.Write(buf)
	h.Sum(d[:0])
	return d
}

// flush hashes the buffer when it has no room for n bytes more.
func flush(h hash.Hash, buf []byte, n int) []byte {
	if len(buf)+n > cap(buf) {
		h.Write(buf)
		buf = buf[:0]
	}
	return buf
}
