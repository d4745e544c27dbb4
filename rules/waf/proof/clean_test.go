package proof

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/moatwaf/moat/rules/waf/view"
)

// TestCleanTextsAgree holds the table against a map of all that was ever put into it,
// with hashes that collide: it may forget, and never says of a text what was said of
// another one.
func TestCleanTextsAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	var c cleanTexts
	c.init(16 * cleanSlotBytes)
	if len(c.slots) != 16 {
		t.Fatalf("%d slots, want 16", len(c.slots))
	}
	known := map[string]bool{}
	key := func(number uint32, text string) string { return fmt.Sprint(number, " ", text) }
	remembered := 0
	for range 20000 {
		// Texts that differ in their length or in a zero byte only.
		text := strings.Repeat("a", []int{0, 1, 2, 7, 8, 9, maxClean - 1, maxClean}[r.IntN(8)])
		if n := min(2, len(text)); n > 0 {
			i := r.IntN(n)
			text = text[:i] + string(rune(r.IntN(3))) + text[i+1:]
		}
		number, h := uint32(1+r.IntN(3)), uint64(r.IntN(16))
		if c.has(h, number, text) {
			remembered++
			if !known[key(number, text)] {
				t.Fatalf("tree %d, %q: held to be clean, and was never put", number, text)
			}
		}
		if r.IntN(3) == 0 {
			c.put(h, number, text)
			known[key(number, text)] = true
			if !c.has(h, number, text) {
				t.Fatalf("tree %d, %q: forgotten at once", number, text)
			}
		}
	}
	if remembered < 100 {
		t.Errorf("%d of 20,000 texts were remembered", remembered)
	}
}

// Goroutines that write one slot with different texts: nobody sees a mixture of two.
func TestCleanTextsConcurrently(t *testing.T) {
	var c cleanTexts
	c.init(2 * cleanSlotBytes)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			own := strings.Repeat(string(rune('a'+i)), maxClean)
			for j := range 5000 {
				c.put(0, 1, own)
				// Halves of two texts, as a torn write would leave them.
				for k := range 8 {
					if other := strings.Repeat(string(rune('a'+k)), maxClean); k != i && c.has(0, 1, own[:maxClean/2]+other[maxClean/2:]) {
						t.Errorf("round %d: a mixture of %c and %c", j, own[0], other[0])
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestCleanTextsAllocateNothing(t *testing.T) {
	var c cleanTexts
	c.init(1 << 20)
	if n := testing.AllocsPerRun(100, func() {
		c.put(5, 1, "mint, lemon caddy")
		if !c.has(5, 1, "mint, lemon caddy") {
			t.Fatal("forgotten")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCleanTexts(b *testing.B) {
	var c cleanTexts
	c.init(1 << 20)
	c.put(5, 1, "mint, lemon caddy")
	b.ReportAllocs()
	for b.Loop() {
		c.has(5, 1, "mint, lemon caddy")
	}
}

// A block that is used again knows nothing of the pairs that it held before.
func TestFetchForgetsPairsBefore(t *testing.T) {
	a := &scans{}
	a.clean.init(1 << 12)
	a.memory.init(1<<20, 1)
	k := &listKind{other: &slot{values: &tree{number: 1}, names: &tree{number: 2}}}
	long := strings.Repeat("x", maxCachedName+1)
	var b block
	a.fetch(k, []view.Pair{{Name: "a", Value: "b"}}, &b)
	if want := a.memory.hash(1, "", "b"); b[0].value != want || b[0].name != a.memory.hash(2, "", "a") {
		t.Errorf("short texts: %x and %x, want their hashes", b[0].value, b[0].name)
	}
	a.fetch(k, []view.Pair{{Name: long, Value: long}}, &b)
	if b[0].value != 0 || b[0].name != 0 {
		t.Errorf("long texts: %x and %x, want no hash", b[0].value, b[0].name)
	}
}
