package geo

import (
	"encoding/binary"
	"net/netip"
	"sort"
)

// v4Ranges maps IPv4 addresses to places: range i is from starts[i] to before
// starts[i+1] and has the place values[i]. Range 0 starts at 0.0.0.0, so that
// every address is in a range.
//
// first, by the upper 16 bits of an address, is the range in which the block of
// these bits begins; the range of an address is between that of its block and
// that of the next. Half of the blocks lie in one range and need no search.
type v4Ranges struct {
	starts []uint32
	values []uint32
	first  []uint32 // 1<<16 + 1 entries, or nil
}

// add appends a range. Ranges come in ascending order.
func (t *v4Ranges) add(start, value uint32) {
	if n := len(t.values); n > 0 {
		if t.values[n-1] == value {
			return
		}
		if t.starts[n-1] == start {
			t.values[n-1] = value
			return
		}
	}
	t.starts = append(t.starts, start)
	t.values = append(t.values, value)
}

// minIndexed is the number of ranges below which a search needs no index.
const minIndexed = 128

// index makes first, after the last add.
func (t *v4Ranges) index() {
	if len(t.starts) < minIndexed {
		return
	}
	t.first = make([]uint32, 1<<16+1)
	at := uint32(0)
	for block := range uint32(1 << 16) {
		for int(at)+1 < len(t.starts) && t.starts[at+1] <= block<<16 {
			at++
		}
		t.first[block] = at
	}
	t.first[1<<16] = uint32(len(t.starts) - 1)
}

// find returns the place of an address.
func (t *v4Ranges) find(addr uint32) uint32 {
	// The range is the last one in [lo, hi] that does not start after addr.
	lo, hi := uint32(0), uint32(len(t.starts)-1)
	if t.first != nil {
		lo, hi = t.first[addr>>16], t.first[addr>>16+1]
	}
	for lo < hi {
		mid := hi - (hi-lo)/2
		if t.starts[mid] <= addr {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return t.values[lo]
}

// v6Addr is an IPv6 address as a number.
type v6Addr struct{ hi, lo uint64 }

func v6Of(a netip.Addr) v6Addr {
	b := a.As16()
	return v6Addr{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (a v6Addr) less(b v6Addr) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// v6Ranges is v4Ranges for IPv6. Nearly all ranges are in 2000::/3, the global
// unicast space of RFC 4291, and its first 16 bits below that index them.
type v6Ranges struct {
	starts []v6Addr
	values []uint32
	first  []uint32 // 1<<16 + 1 entries, of 2000::/3, or nil
}

const (
	globalUnicast = 1  // the upper three bits of 2000::/3
	v6IndexShift  = 45 // leaves bits 3 to 18 below them
)

// add appends a range. Ranges come in ascending order.
func (t *v6Ranges) add(start v6Addr, value uint32) {
	if n := len(t.values); n > 0 {
		if t.values[n-1] == value {
			return
		}
		if t.starts[n-1] == start {
			t.values[n-1] = value
			return
		}
	}
	t.starts = append(t.starts, start)
	t.values = append(t.values, value)
}

// index makes first, after the last add.
func (t *v6Ranges) index() {
	if len(t.starts) < minIndexed {
		return
	}
	t.first = make([]uint32, 1<<16+1)
	for block := range t.first {
		start := v6Addr{hi: globalUnicast<<61 + uint64(block)<<v6IndexShift}
		after := sort.Search(len(t.starts), func(i int) bool { return start.less(t.starts[i]) })
		t.first[block] = uint32(after - 1)
	}
}

// find returns the place of an address.
func (t *v6Ranges) find(addr v6Addr) uint32 {
	lo, hi := uint32(0), uint32(len(t.starts)-1)
	if t.first != nil && addr.hi>>61 == globalUnicast {
		block := addr.hi >> v6IndexShift & (1<<16 - 1)
		lo, hi = t.first[block], t.first[block+1]
	}
	for lo < hi {
		mid := hi - (hi-lo)/2
		if !addr.less(t.starts[mid]) {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return t.values[lo]
}
