package dfa

import (
	"math"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"
)

// prepared returns a pair whose Set reads single patterns.
func prepared(tb testing.TB, pats ...Pattern) *pair {
	tb.Helper()
	p := newPair(tb, Options{MaxBytes: 64 << 20}, pats...)
	p.set.Prepare(nil, func() bool { return false })
	if p.set.parts.Load() == nil && len(p.set.members) > 1 {
		tb.Fatal("not prepared")
	}
	return p
}

// checkFor holds ScanFor against the twin, and reports whether it has decided.
func (p *pair) checkFor(tb testing.TB, text string, wanted Bits, nanos int) bool {
	tb.Helper()
	out, left := p.set.NewBits(), nanos
	ok := p.set.ScanFor(text, out, wanted, &left)
	if left > nanos {
		tb.Fatalf("%d nanoseconds became %d", nanos, left)
	}
	p.hold(tb, text, out, wanted, ok)
	return ok
}

// checkApart is checkFor for nothing but the single patterns.
func (p *pair) checkApart(tb testing.TB, text string, nanos int) {
	tb.Helper()
	parts := p.set.parts.Load()
	if parts == nil {
		return // one pattern, or none that needs an automaton
	}
	out := p.set.NewBits()
	out.or(p.set.always)
	p.set.touch.scan(text, out)
	q := parts.begin(text, out, nil, &nanos)
	defer parts.pool.Put(q)
	ok := q.scan(text, out, &nanos)
	p.hold(tb, text, out, nil, ok)
}

// hold holds what was reported of a text against the twin.
func (p *pair) hold(tb testing.TB, text string, out, wanted Bits, ok bool) {
	tb.Helper()
	for i, match := range p.twin {
		want, got := match(text), out.Has(i)
		if want && !got && (wanted == nil || wanted.Has(i)) {
			tb.Fatalf("missed %s in %q", p.pats[i].describe(), text)
		}
		if got && !want && ok && p.set.Exact(i) {
			tb.Fatalf("reported %s in %q", p.pats[i].describe(), text)
		}
	}
}

// TestScanFor holds the Set against its twin with any budget: with the states of all
// patterns, pattern by pattern, and where it gives up.
func TestScanFor(t *testing.T) {
	p := prepared(t, crs(t, isRequestRx)...)
	texts := corpus(t)
	r := random(11)
	n := 400
	if raceEnabled || testing.Short() {
		n = 60
	}
	decided := 0
	for i := range n {
		text := mutate(r, texts)
		if i%8 == 0 {
			text += strings.Repeat(mutate(r, texts), 1+r.IntN(4))
		}
		switch i % 3 {
		case 0:
			p.checkApart(t, text, math.MaxInt/4)
			if !p.checkFor(t, text, nil, math.MaxInt/4) {
				t.Fatalf("not decided: %q", text)
			}
		case 1:
			wanted := p.set.NewBits()
			for id := range p.pats {
				if r.IntN(3) == 0 {
					wanted.Add(id)
				}
			}
			p.checkFor(t, text, wanted, math.MaxInt/4)
		default:
			if p.checkFor(t, text, nil, r.IntN(400_000)) {
				decided++
			}
		}
	}
	if decided == 0 || decided == n/3 {
		t.Errorf("%d of %d are decided", decided, n/3)
	}
}

// TestScanForRandom is TestScanFor for patterns of any kind.
func TestScanForRandom(t *testing.T) {
	r := random(12)
	sets := 400
	if raceEnabled || testing.Short() {
		sets = 30
	}
	for range sets {
		var pats []Pattern
		for len(pats) < 1+r.IntN(6) {
			if p := randomPattern(r); p.compiles() {
				pats = append(pats, p)
			}
		}
		p := prepared(t, pats...)
		for range 40 {
			nanos := []int{math.MaxInt / 4, r.IntN(40_000), 0}[r.IntN(3)]
			p.checkFor(t, text(r, 12), nil, nanos)
			p.checkApart(t, text(r, 12), nanos)
			p.checkApart(t, text(r, 40), math.MaxInt/4)
		}
	}
}

// TestScanForBounded holds that what a text costs that an automaton explodes with is
// bounded, and little when it comes for each pattern by itself.
func TestScanForBounded(t *testing.T) {
	var pats []Pattern
	words := []string{"select", "union", "script", "echo", "alert", "sleep", "cat", "wget", "curl", "eval"}
	for _, a := range words {
		for _, b := range words {
			pats = append(pats, Regexp(a+`[^;]*`+b+`[^a-z]*!`))
		}
	}
	r := random(13)
	var b strings.Builder
	for b.Len() < 16<<10 {
		b.WriteString(words[r.IntN(len(words))] + []string{"", " ", ";"}[r.IntN(3)])
	}
	bare, parts := newPair(t, Options{MaxBytes: 64 << 20}, pats...), prepared(t, pats...)
	const most = 5_000_000
	for range 3 {
		if bare.checkFor(t, b.String(), nil, most) {
			t.Error("decided without the parts")
		}
		if !parts.checkFor(t, b.String(), nil, 4*most) {
			t.Error("not decided")
		}
	}
}

// TestPrepareStops holds that preparing ends when it is told to, and that nothing is
// lost by it.
func TestPrepareStops(t *testing.T) {
	p := newPair(t, Options{MaxBytes: 64 << 20}, crs(t, isRequestRx1)[:40]...)
	asked := 0
	p.set.Prepare(nil, func() bool { asked++; return asked > 5 })
	if p.set.parts.Load() != nil || asked != 6 {
		t.Errorf("prepared after %d", asked)
	}
	m := NewMemory(64 << 10) // of which no automaton fits
	p.set.Prepare(m, func() bool { return false })
	if p.set.parts.Load() != nil {
		t.Error("prepared without memory")
	}
	for _, text := range corpus(t)[:50] {
		p.checkFor(t, text, nil, 100_000)
	}
}

// TestPreparedCounts holds that single patterns count in each Memory whose owner
// prepares the Set, and in none that is closed.
func TestPreparedCounts(t *testing.T) {
	var b Builder
	for i, p := range crs(t, isRequestRx1)[:40] {
		if err := b.Add(i, p); err != nil {
			t.Fatal(err)
		}
	}
	never := func() bool { return false }
	one, two := NewMemory(64<<20), NewMemory(64<<20)
	s, err := b.BuildShared(Options{Memory: one})
	if err != nil {
		t.Fatal(err)
	}
	built := one.Left()
	s.Prepare(one, never)
	if s2, err := b.BuildShared(Options{Memory: two}); err != nil || s2 != s {
		t.Fatal("not shared", err)
	}
	s.Prepare(two, never)
	if one.Left() >= built || one.Left() != two.Left() {
		t.Errorf("%d bytes are left, and %d; %d before", one.Left(), two.Left(), built)
	}
	s.Prepare(one, never)
	if one.Left() != two.Left() {
		t.Error("counted twice")
	}
	one.Close()
	if one.Left() != one.Size() {
		t.Errorf("%d bytes are not given back", one.Size()-one.Left())
	}
}

// TestRequired is the table of what expressions require.
func TestRequired(t *testing.T) {
	for _, c := range []struct {
		expr string
		want []string
	}{
		{`select`, []string{"select"}},
		{`(?i)SELECT\s+from`, []string{"select"}},
		{`a|b.c`, []string{"a", "b"}},
		{`a|b?`, nil},
		{`(?:ab|cd)?`, nil},
		{`x*yz+`, []string{"y"}},
		{`(?:foo|bar)+qux`, []string{"qux"}},
		{`(?:foo|bar)qux`, []string{"fooqux", "barqux"}},
		{`[ab]c`, []string{"ac", "bc"}},
		{`[^a]`, nil},
		{`.*`, nil},
		{`\bend$`, []string{"end"}},
		{`éa`, []string{"a"}},
		{`é`, nil},
		{`(?i)[k]`, []string{"k"}},
		{`aaaaaaaaaaaaaaaaaaaaaaaa`, []string{"aaaaaaaaaaaaaaaa"}},
		{`se(?:lect|t)`, []string{"select", "set"}},
		{`a{3}`, []string{"a"}},
		{`a{0,3}`, nil},
		{`\x00`, []string{"\x00"}},
	} {
		re, err := syntax.Parse(c.expr, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		if got := required(re); !slices.Equal(got, c.want) {
			t.Errorf("%s requires %q, want %q", c.expr, got, c.want)
		}
	}
}
