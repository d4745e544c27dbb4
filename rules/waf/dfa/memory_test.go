package dfa

import (
	"runtime"
	"slices"
	"sync"
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

// sharing returns Sets of request patterns, each with a memory that is too small and
// one that they share.
func sharing(t *testing.T, n, own, shared int) ([]*Set, *Memory) {
	t.Helper()
	m := NewMemory(shared)
	sets := make([]*Set, n)
	for i := range sets {
		var b Builder
		for id, p := range crs(t, isRequestRx) {
			if err := b.Add(id, p); err != nil {
				t.Fatal(err)
			}
		}
		s, err := b.Build(Options{MaxBytes: own, MaxNewStatesPerScan: 10_000, Shared: m})
		if err != nil {
			t.Fatal(err)
		}
		sets[i] = s
	}
	return sets, m
}

const (
	ownBytes    = 6 << 20
	sharedBytes = 32 << 20
)

// One Set that needs more than it has gets it, and then drops nothing.
func TestSharedMemoryKeepsStates(t *testing.T) {
	if raceEnabled {
		t.Skip("one goroutine, and much to build")
	}
	texts := corpus(t)
	texts = texts[:len(texts)/8]
	poor, _ := sharing(t, 1, ownBytes, 0)
	rich, m := sharing(t, 1, ownBytes, sharedBytes)
	out, want := rich[0].NewBits(), poor[0].NewBits()
	for range 2 {
		for _, text := range texts {
			out.Clear()
			want.Clear()
			if rich[0].Scan(text, out) && poor[0].Scan(text, want) && !slices.Equal(out, want) {
				t.Fatalf("%q: %v with shared memory, %v without", text, out, want)
			}
		}
	}
	p, r := poor[0].Stats(), rich[0].Stats()
	t.Logf("without %+v\nwith %+v, %d left", p, r, m.Left())
	if p.Flushes == 0 {
		t.Error("the texts do not fill the memory that is not shared")
	}
	if r.Flushes != 0 || m.Left() == sharedBytes {
		t.Errorf("%d flushes, %d of %d bytes left", r.Flushes, m.Left(), sharedBytes)
	}
}

// Whatever Sets take together is within what there is, and what one drops is there
// for the others.
func TestSharedMemoryIsBounded(t *testing.T) {
	const n, shared = 3, 4 << 20
	texts := corpus(t)
	tries := 1500
	if raceEnabled {
		tries = 300
	}
	sets, m := sharing(t, n, ownBytes, shared)
	var group sync.WaitGroup
	for i, s := range sets {
		group.Go(func() {
			r, out := random(uint64(i)), s.NewBits()
			for range tries {
				s.Scan(mutate(r, texts), out)
				if left := m.Left(); left < 0 || left > shared {
					t.Errorf("%d of %d bytes left", left, shared)
					return
				}
			}
		})
	}
	group.Wait()
	total, flushes, taken := 0, 0, 0
	for _, s := range sets {
		st := s.Stats()
		total += st.Bytes
		flushes += st.Flushes
		for _, a := range append(s.autos, s.ascii...) {
			taken += a.shared
		}
	}
	if flushes == 0 {
		t.Error("the texts do not fill the memory")
	}
	if m.Left()+taken != shared {
		t.Errorf("%d left and %d taken of %d bytes", m.Left(), taken, shared)
	}
	// An edge or a set of ids is counted when it is there.
	if most := n*ownBytes + shared + 64<<10; total > most {
		t.Errorf("%d bytes, more than %d", total, most)
	}
	for _, s := range sets {
		for _, a := range append(s.autos, s.ascii...) {
			a.mu.Lock()
			a.flush()
			a.mu.Unlock()
		}
	}
	if m.Left() != shared {
		t.Errorf("%d bytes left behind a flush of all, not %d", m.Left(), shared)
	}
}
