package dfa

import (
	"math/rand/v2"
	"regexp/syntax"
	"strconv"
	"strings"
	"testing"
)

// expr writes a random expression of at most depth levels.
func expr(r *rand.Rand, depth int) string {
	atoms := []string{
		"a", "b", "k", "s", "S", "-", "_", " ", `\n`, "1", "é", "ſ", "K", "€", "😀", `\x{FFFD}`, ".", `\d`, `\w`, `\W`, `\s`,
		"[a-c]", "[^a]", "[^ab\\n]", "[à-ÿ]", "[^à-ÿ]", "[[:punct:]]", `\pL`, `\PL`, "^", "$", `\A`, `\z`, `\b`, `\B`, "ab", "ba-",
	}
	if depth == 0 {
		return atoms[r.IntN(len(atoms))]
	}
	sub := func() string { return expr(r, depth-1) }
	switch r.IntN(12) {
	case 0, 1, 2:
		return sub() + sub()
	case 3:
		return sub() + sub() + sub()
	case 4, 5:
		return "(?:" + sub() + "|" + sub() + ")"
	case 6:
		return "(" + sub() + ")*"
	case 7:
		return "(?:" + sub() + ")+?"
	case 8:
		return "(?:" + sub() + ")?"
	case 9:
		n := r.IntN(3)
		m := []string{"", ",", "," + strconv.Itoa(n+r.IntN(3))}[r.IntN(3)]
		return "(?:" + sub() + "){" + strconv.Itoa(n) + m + "}"
	case 10:
		return []string{"(?i:", "(?-s:", "(?-m:", "(?i-s:"}[r.IntN(4)] + sub() + ")"
	}
	return sub()
}

// text writes a random text of the kinds of bytes that patterns tell apart.
func text(r *rand.Rand, most int) string {
	pieces := []string{
		"a", "b", "c", "k", "K", "s", "S", "-", "_", " ", "\n", "1", "A", "B",
		"é", "É", "ſ", "\u212a", "\u0130", "€", "😀", "ÿ", "中", "я", "\ufffd",
		"\xff", "\xc3", "\xa9", "\xe2\x82", "\xf0\x9f\x98", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", "\x80",
	}
	n := len(pieces)
	switch r.IntN(3) {
	case 0:
		n = 14
	case 1:
		n = 25
	}
	var b strings.Builder
	for range r.IntN(most + 1) {
		b.WriteString(pieces[r.IntN(n)])
	}
	return b.String()
}

func randomPattern(r *rand.Rand) Pattern {
	short := func() string { return text(r, 3) }
	p := Pattern{kind: kind(r.IntN(int(kindBytesOutside) + 1)), text: short()}
	switch p.kind {
	case kindPhrases:
		for range r.IntN(4) {
			p.phrases = append(p.phrases, short())
		}
		p.fold = true
	case kindBytesOutside:
		p.allowed = new([256]bool)
		for i := range p.allowed {
			p.allowed[i] = i < 0x60 || r.IntN(20) > 0
		}
		if r.IntN(2) == 0 {
			for i := 0x80; i < 0x100; i++ {
				p.allowed[i] = p.allowed[0x80]
			}
		}
	case kindAny:
		p.text = ""
	case kindRegexp:
		p.text = "(?sm)" + expr(r, 4)
	case kindBytesRegexp:
		p.text = strings.NewReplacer(`\pL`, `\x{e9}`, `\PL`, `[^\x{e9}]`).Replace(expr(r, 4))
	default:
		p.fold = r.IntN(2) == 0
	}
	if r.IntN(3) > 0 && p.kind != kindRegexp {
		p = Pattern{kind: kindRegexp, text: "(?sm)" + expr(r, 4)}
	}
	p.lower = r.IntN(4) == 0
	return p
}

// compiles reports whether both libraries take the pattern: nested counts grow
// beyond what they allow.
func (p Pattern) compiles() bool {
	if p.kind != kindRegexp && p.kind != kindBytesRegexp {
		return true
	}
	_, err := syntax.Parse(p.text, syntax.Perl)
	if err == nil {
		_, err = goldenOf(p)
	}
	return err == nil
}

func TestRandomPatterns(t *testing.T) {
	sets := 1500
	if testing.Short() || raceEnabled {
		sets = 150
	}
	asked, extra := 0, 0
	for seed := range uint64(sets) {
		r := random(seed)
		var pats []Pattern
		for len(pats) < 1+r.IntN(6) {
			if p := randomPattern(r); p.compiles() {
				pats = append(pats, p)
			}
		}
		o := Options{}
		switch r.IntN(4) {
		case 0: // so little memory that states are dropped all the time
			o.MaxBytes = 200_000
		case 1:
			o.MaxPatternSize = 30 // so that counts are relaxed
		case 2:
			o.MaxNewStatesPerScan = 10
		}
		p := newPairSized(t, o, pats...)
		for range 60 {
			extra += p.check(t, text(r, 12))
			asked += len(pats)
		}
	}
	t.Logf("%d questions, 0 missed, %d extra where the set said that it is not exact", asked, extra)
}

// newPairSized is newPair with as much memory as the programs need at least.
func newPairSized(tb testing.TB, o Options, pats ...Pattern) *pair {
	for {
		var b Builder
		for i, p := range pats {
			if err := b.Add(i, p); err != nil {
				tb.Fatal(err)
			}
		}
		if _, err := b.Build(o); err == nil || o.MaxBytes == 0 {
			return newPair(tb, o, pats...)
		}
		o.MaxBytes += 100_000
	}
}

// The trimmed expression is found where the whole one is.
func TestTrimIsExact(t *testing.T) {
	for _, c := range []struct{ expr, want string }{
		{`\s*foo\s*`, `foo`},
		{`(?:a+)+b{2,}`, `ab{2}`},
		{`(?s)^.*foo`, `foo`},
		{`(?s)foo.*$`, `foo`},
		{`x{3,9}`, `xx{2}`},
		{`(?:a*|b)c`, `c`},
		{`\bx*`, `\b`},
		{`x*`, ``},
	} {
		re, err := syntax.Parse(c.expr, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		got := trim(re).Simplify().String()
		want, err := syntax.Parse(c.want, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		if w := want.Simplify().String(); got != w {
			t.Errorf("%s: %s, want %s", c.expr, got, w)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add(`(?i)\bunion\b.{1,20}select`, "1 UNION all select", false)
	f.Add(`[^a]+?$|\xff`, "a\xc3\n", true)
	f.Add(`^(?:\pL|é)*\B`, "Éé\u212a", true)
	f.Fuzz(func(t *testing.T, expr, text string, lower bool) {
		if len(expr) > 100 || len(text) > 300 {
			return
		}
		p := Regexp(expr)
		p.lower = lower
		if !p.compiles() {
			return
		}
		s := newPair(t, Options{}, p, Contains(expr), Within(expr).Fold(), Phrases(strings.Split(expr, " ")))
		for range 2 {
			s.check(t, text)
		}
	})
}
