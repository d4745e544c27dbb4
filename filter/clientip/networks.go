package clientip

import (
	"net/netip"
	"slices"
)

// networks is a set of addresses: disjoint ranges in ascending order. The zero
// value is empty. IPv4 and IPv6 are apart, because netip orders all of IPv4
// before all of IPv6.
type networks struct{ ranges []addrRange }

type addrRange struct{ first, last netip.Addr }

// add adds a valid prefix. It is followed by compile.
func (n *networks) add(p netip.Prefix) {
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	p = p.Masked()
	n.ranges = append(n.ranges, addrRange{p.Addr(), lastAddr(p)})
}

// compile sorts the ranges and joins those that overlap. Prefixes overlap only
// by containing each other, so joining neighbours that touch is not needed for
// correct answers.
func (n *networks) compile() {
	slices.SortFunc(n.ranges, func(a, b addrRange) int {
		if c := a.first.Compare(b.first); c != 0 {
			return c
		}
		return b.last.Compare(a.last)
	})
	out := n.ranges[:0]
	for _, r := range n.ranges {
		if len(out) > 0 && r.last.Compare(out[len(out)-1].last) <= 0 {
			continue
		}
		out = append(out, r)
	}
	n.ranges = slices.Clip(out)
}

// contains reports whether a, unmapped and without zone, is in the set. The zero
// Addr is in no set.
func (n *networks) contains(a netip.Addr) bool {
	lo, hi := 0, len(n.ranges)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if n.ranges[mid].first.Compare(a) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo > 0 && a.Compare(n.ranges[lo-1].last) <= 0
}

// lastAddr returns the last address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		b := p.Addr().As4()
		setHostBits(b[:], p.Bits())
		return netip.AddrFrom4(b)
	}
	b := p.Addr().As16()
	setHostBits(b[:], p.Bits())
	return netip.AddrFrom16(b)
}

func setHostBits(b []byte, bits int) {
	for i := range b {
		switch host := (i+1)*8 - bits; {
		case host >= 8:
			b[i] = 0xff
		case host > 0:
			b[i] |= 1<<host - 1
		}
	}
}
