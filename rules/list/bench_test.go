package list

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gaissmai/bart"
)

// BenchmarkContains looks random addresses up in a million prefixes, so that the
// caches of the machine help little.
func BenchmarkContains(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	prefixes := randomPrefixes(random, 1_000_000)
	s := mustParse(b, listOf(prefixes))
	const n = 1 << 16
	kinds := []struct {
		name string
		addr func() netip.Addr
	}{
		{"v4-hit", func() netip.Addr { return lastAddr(prefixes[random.IntN(len(prefixes)/2)*2]) }},
		{"v4-miss", func() netip.Addr { return addr4(random.Uint32()) }}, // 2 of 100 are hits
		{"v6-hit", func() netip.Addr { return lastAddr(prefixes[random.IntN(len(prefixes)/2)*2+1]) }},
		{"v6-miss", func() netip.Addr { return addr6(random.Uint64()>>3|1<<61, random.Uint64()) }},
	}
	for _, kind := range kinds {
		addrs := make([]netip.Addr, n)
		for i := range addrs {
			addrs[i] = kind.addr()
		}
		b.Run(kind.name, func(b *testing.B) { lookUp(b, s, addrs) })
	}

	// The worst case of the index: all but one of the prefixes in one part.
	var crowd builder
	for range 1_000_000 {
		a := addr6(0x2a00_0000_0000_0000|random.Uint64()>>32, 0)
		crowd.add(a, a)
	}
	crowd.add(addr6(1, 0), addr6(1, 0))
	addrs := make([]netip.Addr, n)
	for i := range addrs {
		addrs[i] = addr6(0x2a00_0000_0000_0000|random.Uint64()>>32, 0)
	}
	crowded := crowd.build()
	b.Run("v6-crowded", func(b *testing.B) { lookUp(b, crowded, addrs) })

	small := mustParse(b, listOf(prefixes[:20]))
	b.Run("20-entries", func(b *testing.B) { lookUp(b, small, addrs) })
}

// BenchmarkContainsBart is the same look-up in bart's tables, with which this
// package was compared.
func BenchmarkContainsBart(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	prefixes := randomPrefixes(random, 1_000_000)
	var lite bart.Lite
	var fast bart.Fast[struct{}]
	for _, p := range prefixes {
		lite.Insert(p)
		fast.Insert(p, struct{}{})
	}
	addrs := probes(random, prefixes, 1<<16)
	s := mustParse(b, listOf(prefixes))
	b.Run("lite", func(b *testing.B) { lookUp(b, &lite, addrs) })
	b.Run("fast", func(b *testing.B) { lookUp(b, &fast, addrs) })
	b.Run("set", func(b *testing.B) { lookUp(b, s, addrs) })
}

func lookUp(b *testing.B, s interface{ Contains(netip.Addr) bool }, addrs []netip.Addr) {
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Contains(addrs[i%len(addrs)])
	}
}

// BenchmarkParse reads a plain list of a million prefixes.
func BenchmarkParse(b *testing.B) {
	text := listOf(randomPrefixes(rand.New(rand.NewPCG(1, 2)), 1_000_000))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		mustParse(b, text)
	}
}
