package list

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gaissmai/bart"
)

// randomPrefixes returns IPv4 prefixes of /24 to /32 and IPv6 prefixes of /32 to
// /64 in 2000::/3, in equal parts.
func randomPrefixes(random *rand.Rand, n int) []netip.Prefix {
	prefixes := make([]netip.Prefix, n)
	for i := range prefixes {
		if i%2 == 0 {
			prefixes[i] = netip.PrefixFrom(addr4(random.Uint32()), 24+random.IntN(9)).Masked()
		} else {
			prefixes[i] = netip.PrefixFrom(addr6(random.Uint64()>>3|1<<61, 0), 32+random.IntN(33)).Masked()
		}
	}
	return prefixes
}

func listOf(prefixes []netip.Prefix) []byte {
	var b strings.Builder
	for _, p := range prefixes {
		b.WriteString(p.String())
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

func mustParse(t testing.TB, text []byte) *Set {
	t.Helper()
	s, errs := Parse("list", text, Plain)
	if errs != nil {
		t.Fatal(errs)
	}
	return s
}

// TestGoldenTwin holds the set against a linear scan: on sparse and crowded
// lists, below and above the size from which there is an index, at random
// addresses and at the edges of every entry.
func TestGoldenTwin(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 7))
		n := []int{1, 2, 10, minIndexed - 1, minIndexed, 300, 1000}[seed%7]
		crowded := seed%3 == 0
		entries := make([][2]netip.Addr, n)
		var b builder
		for i := range entries {
			var first, last netip.Addr
			if random.IntN(2) == 0 {
				f, width := random.Uint32(), random.Uint32()>>(8+random.IntN(24))
				if crowded {
					f, width = f>>20|10<<24, width>>20
				}
				first, last = addr4(f), addr4(max(f, f+width)) // at the upper end of the range the sum wraps
			} else {
				f, width := uint128{random.Uint64(), random.Uint64()}, uint64(0)
				if crowded {
					f, width = uint128{1 << 61, random.Uint64() >> 52}, random.Uint64()>>58
				} else if random.IntN(2) == 0 {
					f.low, width = 0, 1<<63-1
				}
				first, last = addr6(f.high, f.low), addr6(f.high, max(f.low, f.low+width))
				if first.Is4In6() || last.Is4In6() {
					first, last = addr6(5, 0), addr6(5, 1)
				}
			}
			entries[i] = [2]netip.Addr{first, last}
			b.add(first, last)
		}
		s := b.build()
		var probes []netip.Addr
		for _, e := range entries {
			probes = append(probes, e[0], e[1], e[0].Prev(), e[1].Next())
		}
		for range 500 {
			probes = append(probes, addr4(random.Uint32()), addr4(random.Uint32()>>20|10<<24),
				addr6(random.Uint64(), random.Uint64()), addr6(1<<61, random.Uint64()>>52))
		}
		probes = append(probes, addr4(0), addr4(1<<32-1), addr6(0, 0), addr6(1<<64-1, 1<<64-1))
		for _, a := range probes {
			if got, want := s.Contains(a), a.IsValid() && scan(entries, a); got != want {
				t.Fatalf("seed %d: Contains(%v) = %v, the scan says %v", seed, a, got, want)
			}
		}
		if s.Len() != n {
			t.Errorf("seed %d: %d entries, want %d", seed, s.Len(), n)
		}
	}
}

// TestBartAgrees holds a large set against another implementation, for which a
// linear scan would take too long.
func TestBartAgrees(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	prefixes := randomPrefixes(random, 100_000)
	s := mustParse(t, listOf(prefixes))
	var twin bart.Lite
	for _, p := range prefixes {
		twin.Insert(p)
	}
	for _, a := range probes(random, prefixes, 200_000) {
		if got, want := s.Contains(a), twin.Contains(a); got != want {
			t.Fatalf("Contains(%v) = %v, bart says %v", a, got, want)
		}
	}
}

func TestZeroSet(t *testing.T) {
	var none *Set
	for _, s := range []*Set{none, {}, mustParse(t, nil)} {
		if s.Contains(addr4(0)) || s.Contains(addr6(0, 0)) || s.Contains(netip.Addr{}) || s.Len() != 0 {
			t.Errorf("%v holds something", s)
		}
		if s.Digest() != none.Digest() {
			t.Error("empty sets have different digests")
		}
	}
}

func TestDigest(t *testing.T) {
	same := []string{
		"192.0.2.0/24\n2001:db8::/32", "2001:db8::/32 # x\n192.0.2.0/25\n192.0.2.128/25",
		"192.0.2.0-192.0.2.255\n192.0.2.7\n2001:db8::/33\n2001:db8:8000::/33",
	}
	digest := mustParse(t, []byte(same[0])).Digest()
	for _, text := range same {
		if mustParse(t, []byte(text)).Digest() != digest {
			t.Errorf("%q has another digest", text)
		}
	}
	seen := map[Digest]string{digest: same[0]}
	for _, text := range []string{"", "192.0.2.0/24", "2001:db8::/32", "192.0.2.0/23\n2001:db8::/32", "0.0.0.0", "::", "0.0.0.0/0", "::/0", "0.0.0.0-0.0.0.1"} {
		d := mustParse(t, []byte(text)).Digest()
		if other, ok := seen[d]; ok {
			t.Errorf("%q and %q have one digest", text, other)
		}
		seen[d] = text
	}
}

func TestContainsDoesNotAllocate(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	prefixes := randomPrefixes(random, 10_000)
	s := mustParse(t, listOf(prefixes))
	addrs := append(probes(random, prefixes, 100), netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("fe80::1%eth0"))
	if n := testing.AllocsPerRun(100, func() {
		for _, a := range addrs {
			s.Contains(a)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestMillion holds a list of a million prefixes against its bounds: three
// seconds to read, 150 MB more on the heap than an empty list.
func TestMillion(t *testing.T) {
	const (
		maxLoad = 3 * time.Second
		maxHeap = 150e6
	)
	text := listOf(randomPrefixes(rand.New(rand.NewPCG(1, 2)), 1_000_000))
	empty := mustParse(t, nil)
	before := heap()
	began := time.Now()
	s := mustParse(t, text)
	took := time.Since(began)
	held := heap() - before
	runtime.KeepAlive(text)
	t.Logf("%d entries read in %v, %.1f MB held", s.Len(), took, float64(held)/1e6)
	if took > maxLoad && !raceEnabled {
		t.Errorf("reading took %v, more than %v", took, maxLoad)
	}
	if held > maxHeap {
		t.Errorf("%d bytes held, more than %d", held, int64(maxHeap))
	}
	runtime.KeepAlive(empty)
	runtime.KeepAlive(s)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// probes returns addresses of which about half lie in one of the prefixes.
func probes(random *rand.Rand, prefixes []netip.Prefix, n int) []netip.Addr {
	addrs := make([]netip.Addr, n)
	for i := range addrs {
		switch i % 4 {
		case 0, 1:
			addrs[i] = lastAddr(prefixes[random.IntN(len(prefixes))])
		case 2:
			addrs[i] = addr4(random.Uint32())
		case 3:
			addrs[i] = addr6(random.Uint64()>>3|1<<61, random.Uint64())
		}
	}
	return addrs
}
