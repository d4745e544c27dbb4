package dfa

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
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

// sharing returns Sets of request patterns that take of one Memory.
func sharing(t *testing.T, n, bytes int) ([]*Set, *Memory) {
	t.Helper()
	m := NewMemory(bytes)
	sets := make([]*Set, n)
	for i := range sets {
		var b Builder
		for id, p := range crs(t, isRequestRx) {
			if err := b.Add(id, p); err != nil {
				t.Fatal(err)
			}
		}
		s, err := b.Build(Options{MaxNewStatesPerScan: 10_000, Memory: m})
		if err != nil {
			t.Fatal(err)
		}
		sets[i] = s
	}
	return sets, m
}

// counted returns what a Memory must have left by what its Sets say.
func counted(m *Memory, sets ...*Set) (left int) {
	left = m.Size()
	for _, s := range sets {
		for _, a := range s.automata() {
			a.mu.Lock()
			left -= a.own + int(a.taken.Load())
			a.mu.Unlock()
		}
	}
	return left
}

func (s *Set) automata() []*automaton { return append(slices.Clone(s.autos), s.ascii...) }

// drop lets all automata drop their states.
func (s *Set) drop() {
	for _, a := range s.automata() {
		a.mu.Lock()
		a.flush()
		a.mu.Unlock()
	}
}

// One Set that needs more gets it, and then drops nothing.
func TestSharedMemoryKeepsStates(t *testing.T) {
	if raceEnabled {
		t.Skip("one goroutine, and much to build")
	}
	texts := corpus(t)
	texts = texts[:len(texts)/8]
	poor, little := sharing(t, 1, 6<<20)
	rich, m := sharing(t, 1, 64<<20)
	out, want := rich[0].NewBits(), poor[0].NewBits()
	for range 2 {
		for _, text := range texts {
			out.Clear()
			want.Clear()
			if rich[0].Scan(text, out) && poor[0].Scan(text, want) && !slices.Equal(out, want) {
				t.Fatalf("%q: %v with much memory, %v with little", text, out, want)
			}
			if little.Left() < 0 {
				t.Fatalf("%d bytes left", little.Left())
			}
		}
	}
	p, r := poor[0].Stats(), rich[0].Stats()
	t.Logf("little %+v\nmuch %+v, %d left", p, r, m.Left())
	if p.Flushes == 0 {
		t.Error("the texts do not fill the memory that is little")
	}
	if r.Flushes != 0 {
		t.Errorf("%d flushes, %d of %d bytes left", r.Flushes, m.Left(), m.Size())
	}
	if r.Bytes > m.Size()-m.Left() {
		t.Errorf("%d bytes, of which %d are counted", r.Bytes, m.Size()-m.Left())
	}
}

// Whatever Sets take together is within what there is, and what one drops is there
// for the others.
func TestSharedMemoryIsBounded(t *testing.T) {
	const n, bytes = 3, 18 << 20
	texts := corpus(t)
	tries := 1500
	if raceEnabled {
		tries = 300
	}
	sets, m := sharing(t, n, bytes)
	var group sync.WaitGroup
	for i, s := range sets {
		group.Go(func() {
			r, out := random(uint64(i)), s.NewBits()
			for range tries {
				s.Scan(mutate(r, texts), out)
				if left := m.Left(); left < 0 || left > bytes {
					t.Errorf("%d of %d bytes left", left, bytes)
					return
				}
			}
		})
	}
	group.Wait()
	total, flushes := 0, 0
	for _, s := range sets {
		st := s.Stats()
		total += st.Bytes
		flushes += st.Flushes
	}
	if flushes == 0 {
		t.Error("the texts do not fill the memory")
	}
	if left := counted(m, sets...); m.Left() != left {
		t.Errorf("%d bytes left, %d by what each has", m.Left(), left)
	}
	// An edge or a set of ids is counted when it is there.
	if most := bytes + 64<<10; total > most {
		t.Errorf("%d bytes, more than %d", total, most)
	}
	own := 0
	for _, s := range sets {
		s.drop()
		for _, a := range s.automata() {
			own += a.own
		}
	}
	if m.Left() != bytes-own {
		t.Errorf("%d bytes left behind a flush of all, not %d", m.Left(), bytes-own)
	}
	m.Close()
	if m.Left() != bytes {
		t.Errorf("%d bytes left of a closed memory, not %d", m.Left(), bytes)
	}
	sets[0].Scan("union select", sets[0].NewBits())
	if m.Left() != bytes {
		t.Error("a Set takes of a closed memory")
	}
}

// The automaton that has most makes room for the others, whether or not it is still
// asked.
func TestSharedMemoryHasNoOwner(t *testing.T) {
	if raceEnabled {
		t.Skip("one goroutine, and much to build")
	}
	sets, m := sharing(t, 2, 12<<20)
	texts := corpus(t)
	out := sets[0].NewBits()
	r := random(1)
	for m.Left() > 1<<20 {
		sets[0].Scan(mutate(r, texts), out)
	}
	before := sets[0].Stats()
	texts = texts[:200]
	for range 3 {
		for _, text := range texts {
			out.Clear()
			if !sets[1].Scan(text, out) {
				t.Fatalf("%q is not decided", text)
			}
		}
	}
	st := sets[1].Stats()
	if other := sets[0].Stats(); other.Flushes != before.Flushes+1 {
		t.Errorf("the one that has most has dropped its states %d times", other.Flushes-before.Flushes)
	}
	if st.Flushes != 0 {
		t.Errorf("the one that needs memory dropped its states %d times", st.Flushes)
	}
	if left := counted(m, sets...); m.Left() != left {
		t.Errorf("%d bytes left, %d by what each has", m.Left(), left)
	}
}

// reload returns a Memory of its own, and the Set of the patterns, as a reload does.
func reload(t *testing.T, bytes int, pats ...Pattern) (*Set, *Memory) {
	t.Helper()
	m := NewMemory(bytes)
	return buildShared(t, Options{Memory: m, MaxNewStatesPerScan: 10_000}, 0, pats...), m
}

// A Set that stays over reloads counts where it is used, and there only.
func TestSharedSetCountsInEach(t *testing.T) {
	pats := []Pattern{Regexp(`a[ab]{17}c`), Regexp(`(?i)union\s+select`), Contains("é").Lowered()}
	s, first := reload(t, 4<<20, pats...)
	r, out := random(9), s.NewBits()
	scan := func() {
		var text []byte
		for range 400 {
			text = append(text, "ab"[r.IntN(2)])
		}
		s.Scan(string(text), out)
	}
	check := func(when string, memories ...*Memory) {
		t.Helper()
		for i, m := range memories {
			if left := counted(m, s); m.Left() != left || left < 0 {
				t.Errorf("%s: %d bytes left of memory %d, %d by what the Set has", when, m.Left(), i, left)
			}
		}
	}
	for first.Left() > 2<<20 {
		scan()
	}
	check("one", first)
	again, second := reload(t, 4<<20, pats...)
	if again != s {
		t.Fatal("the Set is not shared")
	}
	before := s.Stats()
	check("two", first, second)
	for range 20 {
		scan()
		check("both grow", first, second)
	}
	first.Close()
	if first.Left() != first.Size() {
		t.Errorf("%d of %d bytes are left of a memory that nobody uses", first.Left(), first.Size())
	}
	if st := s.Stats(); st.States < before.States || st.Flushes != before.Flushes {
		t.Errorf("the states are gone with the memory with which they were made: %+v, %+v before", st, before)
	}
	check("the second", second)
	for range 200 {
		scan()
		check("the second alone", second)
	}
	if s.Stats().Flushes == before.Flushes {
		t.Error("the Set grows beyond its memory")
	}
	if first.Left() != first.Size() {
		t.Error("a closed memory is taken of")
	}

	// One that has less room lets states go; one that has no room is refused.
	for second.Left() > 2<<20 {
		scan()
	}
	flushes := s.Stats().Flushes
	small, third := reload(t, 600<<10, pats...)
	if small != s || s.Stats().Flushes <= flushes {
		t.Errorf("states stay that the third has no room for: %+v", s.Stats())
	}
	check("three", second, third)
	for range 50 {
		scan()
		check("the third bounds", second, third)
	}
	var b Builder
	for id, p := range pats {
		if err := b.Add(id, p); err != nil {
			t.Fatal(err)
		}
	}
	tiny := NewMemory(16 << 10)
	if _, err := b.BuildShared(Options{Memory: tiny, MaxNewStatesPerScan: 10_000}); err == nil || tiny.Left() != tiny.Size() {
		t.Errorf("%v, %d bytes left", err, tiny.Left())
	}
	third.Close()
	if _, err := b.BuildShared(Options{Memory: third, MaxNewStatesPerScan: 10_000}); err == nil {
		t.Error("a closed memory takes a Set")
	}
	check("in the end", second)
	runtime.KeepAlive(second)
}

// What nobody has closed counts no longer either when nobody uses it.
func TestSharedSetOutlivesForgottenMemory(t *testing.T) {
	pats := []Pattern{Regexp(`forgotten[ab]{9}c`)}
	s, m := reload(t, 4<<20, pats...)
	for range 20 {
		reload(t, 600<<10, pats...)
	}
	for range 200 {
		runtime.GC()
		a := s.autos[0]
		a.mu.Lock()
		a.take(0)
		n := len(a.memories)
		a.mu.Unlock()
		if n == 1 {
			runtime.KeepAlive(m)
			return
		}
	}
	t.Error("memories that nobody uses bound the Set for ever")
}

// Policies come and go while requests are scanned.
func TestSharedSetWhileReloading(t *testing.T) {
	pats := []Pattern{Regexp(`a[ab]{12}c`), Regexp(`b[ab]{9}d`)}
	s, m := reload(t, 3<<20, pats...)
	var scans, reloads sync.WaitGroup
	done := make(chan struct{})
	for seed := range uint64(3) {
		scans.Go(func() {
			r, out := random(seed), s.NewBits()
			for {
				select {
				case <-done:
					return
				default:
				}
				var text []byte
				for range 200 {
					text = append(text, "abcd"[r.IntN(4)])
				}
				s.Scan(string(text), out)
			}
		})
	}
	for range 3 {
		reloads.Go(func() {
			for i := range 60 {
				other, m := reload(t, (1+i%3)<<20, pats...)
				if other != s {
					t.Error("the Set is not shared")
				}
				if left := m.Left(); left < 0 || left >= m.Size() {
					t.Errorf("%d of %d bytes left", left, m.Size())
				}
				m.Close()
				if m.Left() != m.Size() {
					t.Errorf("%d of %d bytes left behind the end", m.Left(), m.Size())
				}
			}
		})
	}
	reloads.Wait()
	close(done)
	scans.Wait()
	if left := counted(m, s); m.Left() != left || len(s.autos[0].memories) != 1 {
		t.Errorf("%d bytes left, %d by what the Set has, in %d memories", m.Left(), left, len(s.autos[0].memories))
	}
}

// A scan of what has been read waits for nobody, and dropping states costs the same
// however many there are.
func TestDroppingStallsNobody(t *testing.T) {
	sets, m := sharing(t, 1, 32<<20)
	s, texts := sets[0], corpus(t)
	known := texts[:100]
	out := s.NewBits()
	read := func() (answers []Bits) {
		for _, text := range known {
			out.Clear()
			if !s.Scan(text, out) {
				t.Fatalf("%q is not decided", text)
			}
			answers = append(answers, slices.Clone(out))
		}
		return answers
	}
	read()
	want := read()
	for _, text := range texts[:min(len(texts), 1500)] {
		s.Scan(text, out)
	}
	for _, a := range s.automata() {
		a.mu.Lock() // another goroutine is at work in each automaton
	}
	got := make(chan []Bits)
	go func() { got <- read() }()
	select {
	case answers := <-got:
		if !slices.EqualFunc(answers, want, slices.Equal) {
			t.Error("the answers have changed")
		}
	case <-time.After(time.Minute):
		t.Fatal("a scan of known texts waits for a lock")
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, a := range s.automata() {
		a.flush()
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<10 {
		t.Errorf("dropping states allocates %d bytes", n)
	}
	for _, a := range s.automata() {
		a.mu.Unlock()
	}
	if answers := read(); !slices.EqualFunc(answers, want, slices.Equal) {
		t.Error("the answers have changed with the states")
	}
	if left := counted(m, s); m.Left() != left {
		t.Errorf("%d bytes left, %d by what the Set has", m.Left(), left)
	}
}
