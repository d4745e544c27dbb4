package dfa

import (
	"strings"
	"sync"
	"testing"
	"time"
)

func TestConcurrentScansWhileStatesAreDropped(t *testing.T) {
	pats := []Pattern{
		Regexp(`(?i)union\s+(?:all\s+)?select`), Regexp(`a.{3,12}b`), Regexp(`\bor\b.*=`), Regexp(`<[^>]*\bon\w+=`),
		Regexp(`^[a-z ]+$`), Phrases([]string{"select", "sleep", "<script"}), Contains("é").Lowered(), Regexp(`\xff[^a]`),
	}
	p := newPair(t, Options{MaxBytes: 260_000, MaxNewStatesPerScan: 10_000}, pats...)
	const goroutines = 8
	n, drops := 4000, 10
	if raceEnabled {
		n, drops = 200, 1
	}
	list := append(lines(t, "clean.txt"), lines(t, "attacks.txt")...)
	var wg sync.WaitGroup
	for seed := range uint64(goroutines) {
		wg.Go(func() {
			r := random(seed)
			for range n {
				text := mutate(r, list)
				out := p.set.NewBits()
				ok := p.set.Scan(text, out)
				for i, match := range p.twin {
					if want, got := match(text), out.Has(i); want && !got || got && !want && ok && p.set.Exact(i) {
						t.Errorf("%s in %q: %t, want %t", pats[i].describe(), text, got, want)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	st := p.set.Stats()
	if st.Flushes < drops {
		t.Errorf("states were dropped only %d times: the test does not test it", st.Flushes)
	}
	if st.Bytes > 260_000 {
		t.Errorf("%d bytes, more than allowed", st.Bytes)
	}
	t.Logf("%+v", st)
}

// A pattern whose states double with each character of a text made for it.
func TestHostileTextIsBounded(t *testing.T) {
	const most = 200
	p := newPair(t, Options{MaxBytes: 8 << 20, MaxNewStatesPerScan: most}, Regexp(`a[ab]{30}c`), Contains("needle"))
	r := random(7)
	var b strings.Builder
	for range 1 << 20 {
		b.WriteByte("ab"[r.IntN(2)])
	}
	text := b.String() + "needle"
	begin := time.Now()
	for i := range 50 {
		before := p.set.Stats()
		out := p.set.NewBits()
		if p.set.Scan(text[i*1000:], out) {
			t.Fatal("no text this long can be decided with so few states")
		}
		if !out.Has(0) || !out.Has(1) {
			t.Fatal("what was given up was not reported")
		}
		after := p.set.Stats()
		if made := after.Transitions - before.Transitions; made > most*(costFill+costState) {
			t.Fatalf("one scan made %d transitions", made)
		}
		if after.Bytes > 8<<20 {
			t.Fatalf("%d bytes, more than allowed", after.Bytes)
		}
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("50 hostile texts took %v", d)
	}
	if p.set.Stats().Exhausted < 50 {
		t.Errorf("%+v", p.set.Stats())
	}
	// Others are served as before.
	p.check(t, "abc")
	p.check(t, "a needle")
}

func TestScansShareABudget(t *testing.T) {
	p := newPair(t, Options{}, Regexp(`a[ab]{20}c`))
	r := random(3)
	left := 60
	gave := false
	for range 20 {
		var b strings.Builder
		for range 20 {
			b.WriteByte("ab"[r.IntN(2)])
		}
		text := b.String()
		out := p.set.NewBits()
		before := left
		ok := p.set.ScanWithin(text, out, &left)
		if left > before {
			t.Fatal("the budget grew")
		}
		if !ok && !out.Has(0) {
			t.Fatal("what was given up was not reported")
		}
		gave = gave || !ok
	}
	if !gave || left > 0 {
		t.Errorf("gave up %t, %d left", gave, left)
	}
}

func TestWarmScanDoesNotAllocate(t *testing.T) {
	p := newPair(t, Options{}, crs(t, isRx)[:60]...)
	texts := append(lines(t, "clean.txt"), lines(t, "attacks.txt")...)
	out := p.set.NewBits()
	for range 2 {
		for _, s := range texts {
			p.set.Scan(s, out)
		}
	}
	bytes := []byte(texts[0])
	if n := testing.AllocsPerRun(10, func() {
		out.Clear()
		for _, s := range texts {
			if !p.set.Scan(s, out) {
				t.Fatal("gave up")
			}
		}
		p.set.ScanBytes(bytes, out)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
