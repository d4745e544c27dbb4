package dfa

import (
	"testing"
)

func TestRegexpMeaning(t *testing.T) {
	for _, c := range []struct {
		expr  string
		texts []string
	}{
		{`^foo$`, []string{"foo", "a\nfoo\nb", "foo\n", "xfoo", "foox", ""}},
		{`\Afoo\z`, []string{"foo", "a\nfoo\nb", "foo\n", "\nfoo"}},
		{`(?-m)^foo$`, []string{"foo", "a\nfoo", "foo\n"}},
		{`a.b`, []string{"a\nb", "a\xffb", "aéb", "a\xc3b", "a\xe2\x82b", "a€b", "a\xf0\x9f\x98b", "a😀b", "ab"}},
		{`(?-s)a.b`, []string{"a\nb", "axb", "a\xffb"}},
		{`^.$`, []string{"é", "\xc3", "\xc3\xa9x", "\xa9", "\xed\xa0\x80", "\xf4\x90\x80\x80", "😀", "\xe0\x80\x80"}},
		{`^..$`, []string{"é", "éé", "\xc3\xc3", "\xed\xa0", "\xf0\x9f"}},
		{`^...$`, []string{"\xed\xa0\x80", "\xe0\x80\x80", "€", "\xf0\x80\x80", "\xf0\x9f\x98"}},
		{`a[^x]b`, []string{"a\xffb", "axb", "ayb", "aéb"}},
		{`\bfoo\b`, []string{"foo", "a foo b", "afoo", "foo_", "éfooé", "\xfffoo\xff", "-foo-"}},
		{`\Bfoo\B`, []string{"foo", "afoob", "éfooé"}},
		{`^\b$|^\B$`, []string{"", "a", "-"}},
		{`\b`, []string{"", " ", "a", " a", "é"}},
		{`(?i)kelvin`, []string{"KELVIN", "\u212aelvin", "kelvin"}},
		{`(?i)ss`, []string{"SS", "\u017f\u017f", "s\u017f", "ß"}},
		{`(?i)[k-s]+$`, []string{"\u212a", "\u017f", "K", "a"}},
		{`(?i)É`, []string{"é", "É", "e"}},
		{`\x{FFFD}`, []string{"\ufffd", "\xff", "\xe2\x82", "a"}},
		{``, []string{"", "a", "\xff"}},
		{`x*`, []string{"", "a"}},
		{`^$`, []string{"", "\n", "a", "a\n", "a\n\nb"}},
		{`^\s*$`, []string{"", "  ", "a", "a\n \nb"}},
		{`[[:cntrl:]]`, []string{"a", "\x00", "\x7f"}},
		{`\pL\d`, []string{"é1", "a1", "11", "中1", "\xff1"}},
		{`[^\PL]\d`, []string{"é1", "a1", "11"}},
		{`a{2,4}b{3}`, []string{"aabbb", "abbb", "aabb", "aaaaaabbbb"}},
		{`(?:a|b*|c)d`, []string{"d", "x", "cd"}},
		{`a+?$`, []string{"a", "ab", "ba"}},
		{`(a*)*b`, []string{"b", "aab", "a"}},
		{`(|a)+b`, []string{"b", "aab", "a"}},
		{`^.*$`, []string{"", "a", "\n"}},
		{`^.*foo`, []string{"", "foo", "a\nfoo"}},
		{`foo.*$`, []string{"", "foo", "a\nfoo\nb"}},
		{`\x00`, []string{"", "\x00"}},
		{`\xe9`, []string{"\xe9", "é", "e"}},
		{`[\x80-\xff]{3}`, []string{"€", "é", "\xff\xff\xff"}},
		{`(?i)\xe9.`, []string{"\xe9\xe9", "\xc9\n", "\xc9a"}},
		{`[^\x00-\xfe]`, []string{"\xff", "\xfe"}},
		{`\xe2\x82\xac`, []string{"€", "\u00e2\u0082\u00ac"}},
		{`[^\n]`, []string{"", "\n", "\xff"}},
		{`$a`, []string{"", "a", "\na"}},
		{`\n$`, []string{"\n", "a\n", "a"}},
		{`^-?\d+$`, []string{"12", "-1", "a\n12", "a"}},
		{`\z`, []string{"", "a"}},
		{`[[:^ascii:]]`, []string{"", "a", "é", "\xff"}},
	} {
		p := newPair(t, Options{}, Regexp(c.expr), Regexp(c.expr).Lowered())
		for _, text := range c.texts {
			for range 2 { // cold and warm
				p.check(t, text)
			}
		}
	}
}

// Single characters are asked of bytes where that says the same, and only there.
func TestSingleCharacters(t *testing.T) {
	p := newPair(t, Options{},
		PlainRegexp(`[\x{80}-\x{d7ff}]`), PlainRegexp(`[\x{e000}-\x{10ffff}]`), PlainRegexp(`[\x{80}-\x{10ffff}]`),
		PlainRegexp(`[a\x{80}-\x{10ffff}]+`), PlainRegexp(`(?:[^b]|[^c])`), PlainRegexp(`\x{10ffff}`), PlainRegexp(`[^\x{fffd}]`),
		PlainRegexp(`(x)`), PlainRegexp(`[k]`).Lowered(), PlainRegexp(`[^k]`).Lowered(), BytesRegexp(`[\x80-\x8f]`))
	if n := p.set.Stats().Patterns; n != 6 {
		t.Errorf("%d of the patterns need an automaton, want 6", n)
	}
	for _, text := range []string{"", "a", "b", "k", "x", "é", "中", "😀", "\xff", "\x80", "\ufffd", "\U0010ffff", "\u212a", "\ue000"} {
		for range 2 {
			p.check(t, text)
		}
	}
}

func TestLiteralMeaning(t *testing.T) {
	var all, latin [256]bool
	for b := range 256 {
		all[b] = true
		latin[b] = b < 0x80 || b >= 0xA0
	}
	digits := [256]bool{'0': true, '1': true, '2': true}
	pats := []Pattern{{}}
	for _, s := range []string{"", "a", "Select", "é", "\xc3", "\xa9", "\ufffd", "k", "ab", "a b", "€uro"} {
		for _, p := range []Pattern{Contains(s), HasPrefix(s), HasSuffix(s), Equal(s), Within(s)} {
			pats = append(pats, p, p.Fold(), p.Lowered(), p.Fold().Lowered())
		}
	}
	for _, list := range [][]string{nil, {""}, {"select", "sel", "union"}, {"A", "é"}, {"\xff", "x"}} {
		pats = append(pats, Phrases(list), Phrases(list).Lowered())
	}
	for _, a := range [][256]bool{{}, all, latin, digits} {
		pats = append(pats, BytesOutside(a), BytesOutside(a).Lowered())
	}
	p := newPair(t, Options{}, pats...)
	for _, text := range []string{
		"", "a", "A", "select", "SELECT", "xSELECTx", "sel", "unio", "é", "É", "\xc3", "\xa9", "\xc3\xa9a", "\xff",
		"\ufffd", "k", "\u212a", "\u0130", "ab", "b", " ", "a b", "€", "€uro", "\x82\xacuro", "012", "0123", "\x85", "x",
	} {
		for range 2 {
			p.check(t, text)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	var b Builder
	for name, err := range map[string]error{
		"negative id":   b.Add(-1, Contains("a")),
		"huge id":       b.Add(1<<20, Contains("a")),
		"no expression": b.Add(0, Regexp("a(")),
		"invalid UTF-8": b.Add(0, Regexp("a\xff")),
		"bytes":         b.Add(0, Regexp(`\xff(`)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	s, err := b.Build(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Stats().Patterns; n != 0 || !s.Scan("a", s.NewBits()) {
		t.Errorf("a refused pattern is in the set: %d", n)
	}
}

func TestBuildRefuses(t *testing.T) {
	var b Builder
	if err := b.Add(0, Contains("a")); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{MaxBytes: -1}, {MaxBytes: 100}, {MaxNewStatesPerScan: -1}, {MaxNewStatesPerScan: 10_001}, {MaxPatternSize: -1}} {
		if _, err := b.Build(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

// Which expressions Coraza takes for bytes.
func TestMatchesBytes(t *testing.T) {
	for expr, want := range map[string]bool{
		`a`: false, `é`: false, `\xe9`: true, `\x{e9}`: true, `\x41`: false, `\xc3\xa9`: false, `\x{2019}`: false,
		`[\x80-\xff]`: true, `\\xe9`: true, `\xe`: false, `a\x`: false, `\x{110000}`: false, `\xbc[^>]`: true, `\d\xff`: true,
	} {
		if got := matchesBytes("(?sm)" + expr); got != want {
			t.Errorf("%s: %t, want %t", expr, got, want)
		}
	}
}
