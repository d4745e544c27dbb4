package match

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// Ranges become prefixes that hold the same addresses and no others.
func TestRangePrefixesTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	v4 := func(n uint32) netip.Addr {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
	}
	v6 := func(hi, lo uint64) netip.Addr {
		return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, hi), lo)))
	}
	check := func(lo, hi netip.Addr, near ...netip.Addr) {
		t.Helper()
		set := new(addrSet)
		prefixes := rangePrefixes(lo, hi)
		set.add(prefixes)
		for i, p := range prefixes {
			if p != p.Masked() {
				t.Fatalf("%v-%v: the prefix %v is not masked", lo, hi, p)
			}
			if i > 0 && lastAddr(prefixes[i-1]).Next() != p.Addr() {
				t.Fatalf("%v-%v: a gap before %v", lo, hi, p)
			}
		}
		for _, a := range append(near, lo, hi, lo.Prev(), hi.Next()) {
			if want := a.IsValid() && !a.Less(lo) && !hi.Less(a); set.Contains(a) != want {
				t.Fatalf("%v-%v: contains %v: %v, want %v", lo, hi, a, !want, want)
			}
		}
	}
	for range 2000 {
		first := rng.Uint32() >> rng.IntN(32)
		last := first + (rng.Uint32()>>rng.IntN(32))%(1<<20)
		if last < first {
			continue
		}
		check(v4(first), v4(last), v4(first+(last-first)/2), v4(rng.Uint32()))
		high, low := rng.Uint64(), rng.Uint64()>>rng.IntN(64)
		if low2 := low + rng.Uint64()>>rng.IntN(64); low2 >= low {
			check(v6(high, low), v6(high, low2), v6(high, low+(low2-low)/2), v6(high+1, low))
		}
	}
	check(v4(0), v4(0xFFFFFFFF))
	check(v6(0, 0), v6(1<<64-1, 1<<64-1))
	check(v4(0xFFFFFFFF), v4(0xFFFFFFFF))
}

func FuzzParseAddrs(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "10.0.0.0/8", "10.0.0.1-10.0.0.9", "::/0", "::ffff:10.0.0.0/104", "-", "a-b", "fe80::1%1", "1.2.3.4/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		prefixes, err := parseAddrs(s)
		if (err == nil) != (len(prefixes) > 0) {
			t.Fatalf("%q: %v, %v", s, prefixes, err)
		}
		for _, p := range prefixes {
			if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() && p.Bits() >= 96 {
				t.Fatalf("%q: prefix %v", s, p)
			}
		}
	})
}
