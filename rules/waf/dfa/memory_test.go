package dfa

import (
	"runtime"
	"testing"
)

// What the Set says that it takes is what it takes.
func TestBytesAreTrue(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	pats := crs(t, isRequestRx)
	texts := corpus(t)
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	for _, most := range []int{8 << 20, 32 << 20} {
		var b Builder
		for i, p := range pats {
			if err := b.Add(i, p); err != nil {
				t.Fatal(err)
			}
		}
		before := heap()
		s, err := b.Build(Options{MaxBytes: most, MaxNewStatesPerScan: 10_000})
		if err != nil {
			t.Fatal(err)
		}
		built := heap()
		if said := s.Stats().Bytes; said < (built-before)*8/10 {
			t.Errorf("built: %d bytes, said to be %d", built-before, said)
		}
		out := s.NewBits()
		for i, text := range texts {
			s.Scan(text, out)
			if st := s.Stats(); st.Bytes > most {
				t.Fatalf("%d bytes, more than %d", st.Bytes, most)
			} else if st.Bytes > most*6/10 && i > len(texts)/3 {
				break
			}
		}
		took, st := heap()-before, s.Stats()
		t.Logf("built %d, then %d bytes in use; %+v", built-before, took, st)
		if st.Bytes < took*8/10 || took > most*11/10 {
			t.Errorf("%d bytes, said to be %d of %d", took, st.Bytes, most)
		}
		runtime.KeepAlive(s)
	}
}
