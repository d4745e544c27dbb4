package proof

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// A cache that is full of the largest entries takes no more than it may.
func TestCacheIsBoundedInBytes(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	for _, tt := range []struct{ bytes, words int }{{DefaultMaxCache, 12}, {8 << 20, 20}, {2 << 20, 400}} {
		before := heap()
		var c cache
		c.init(tt.bytes, tt.words)
		filler := strings.Repeat("x", maxCached-32)
		for i := range 8 * cacheWays * len(c.sets) {
			value := fmt.Sprintf("%032d%s", i, filler)[1:]
			c.put(&cached{hash: c.hash(1, "n", value), name: strings.Clone("n"), value: value, hits: make([]cachedWord, tt.words)})
		}
		took := heap() - before
		t.Logf("%d entries of %d words: %d of %d bytes", cacheWays*len(c.sets), tt.words, took, tt.bytes)
		if took > tt.bytes || took < tt.bytes/3 {
			t.Errorf("%d words: %d bytes are taken of %d", tt.words, took, tt.bytes)
		}
		runtime.KeepAlive(&c)
	}
}
