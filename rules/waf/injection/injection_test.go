package injection

import (
	"math"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/corazawaf/libinjection-go"

	"github.com/moatwaf/moat/rules/waf/injection/internal/tables"
)

func TestSQLi(t *testing.T) {
	for _, c := range []struct {
		in, print string // no fingerprint: clean
	}{
		{"", ""},
		{"hello", ""},
		{"it's fine, isn't it?", ""},
		{"5' 10\" tall", ""},
		{"SELECT your size", ""},
		{"1 or 2", ""},
		{"user@example.org", ""},
		{"1' or '1'='1", "s&sos"},
		{"1\" or \"1\"=\"1", "s&sos"},
		{"-1 union select 1,2", "1UE1"},
		{"-1 un\u0131on \u017felect 1,2", "1UE1"},
		{"1 /*!union*/ select", "X"},
		{"1; drop table users", "1;Tnn"},
		{"admin'--", "sc"},
		{"1 -- x", "1c"},
		{"1#", ""},
		{"foo'+'bar", "sos"},
	} {
		if ok, print := SQLi(c.in); ok != (c.print != "") || print != c.print {
			t.Errorf("SQLi(%q) = %v, %q, want %q", c.in, ok, print, c.print)
		}
		if got := MaySQLi(c.in); got != (c.print != "") {
			t.Errorf("MaySQLi(%q) = %v", c.in, got)
		}
		new(tally).compare(t, c.in)
	}
}

func TestXSS(t *testing.T) {
	for _, c := range []struct {
		in   string
		want bool
	}{
		{"", false},
		{"a < b && b > c", false},
		{"<b>bold</b>", false},
		{"https://example.org/?from=1&to=2", false},
		{"href=https://example.org", false},
		{"onclick", false},
		{"onclick =", false},
		{"x onclick = 1", true},
		{"x' onclick=1", true},
		{"x\"onclick=1", true},
		{"x`onclick=1", true},
		{"xonclick=1", false},
		{"x/o\x00nclick\x00=1", true},
		{"style=", false},
		{"style=a", true},
		{"href=java&#x73;cript:alert(1)", true},
		{"href=\xa0&#1;j&#10;ava", true},
		{"attributename=onclick", true},
		{"attributename=title", false},
		{"<script>", true},
		{"<s\x00cript>", true},
		{"<SVGx", true},
		{"<!DOCTYPE", true},
		{"<!--[if IE]>", true},
		{"<? import", false},
		{"<?import", true},
		{"<%`%>", true},
		{"<!-- a comment -->", false},
	} {
		if got := XSS(c.in); got != c.want {
			t.Errorf("XSS(%q) = %v", c.in, got)
		}
		if got := MayXSS(c.in); got != c.want {
			t.Errorf("MayXSS(%q) = %v", c.in, got)
		}
		new(tally).compare(t, c.in)
	}
}

// TestTables fails if tables.go is not what the generator writes for the
// version of libinjection-go in go.mod. Before generating it anew, read what
// else that version changes: the code has to follow, and the long runs of
// README.md must pass.
func TestTables(t *testing.T) {
	src, err := tables.Locate()
	if err != nil {
		t.Fatal(err)
	}
	if src.Version != libraryVersion {
		t.Fatalf("libinjection-go is %s, the package reproduces %s", src.Version, libraryVersion)
	}
	list, err := tables.Read(src.Dir)
	if err != nil {
		t.Fatal(err)
	}
	want, err := tables.Format(src.Version, list)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("tables.go")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("tables.go is out of date: go generate ./rules/waf/injection")
	}
	if len(list.Fingerprints) < 8000 || len(list.Events) < 400 {
		t.Errorf("%d fingerprints, %d events: too few to be true", len(list.Fingerprints), len(list.Events))
	}
	for _, f := range list.Fingerprints {
		packed := uint32(0)
		for _, c := range []byte(f) {
			packed = packed<<codeBits | uint32(fingerprintCode[c])
		}
		if !forbidden(packed) {
			t.Errorf("fingerprint %s is missing", f)
		}
	}
}

// TestNames holds what handlerBefore relies on: no name has a byte that can
// stand before or behind a name, or a zero byte, and all begin with a letter.
func TestNames(t *testing.T) {
	for name := range attributes {
		for i := range len(name) {
			if c := name[i]; nameEnd[c] || c == 0 || c-'a' < 26 {
				t.Errorf("%q holds %q", name, c)
			}
		}
		if len(name) < 2 || len(name) > maxName || !isLetter(name[0]) {
			t.Errorf("%q: length or first byte", name)
		}
	}
}

// TestUpper holds what findNonASCII relies on: two runes above ASCII have an
// ASCII capital.
func TestUpper(t *testing.T) {
	for r := rune(0x80); r <= 0x10FFFF; r++ {
		up := strings.ToUpper(string(r))
		if up[0] >= 0x80 {
			continue
		}
		if r != 0x131 && r != 0x17F {
			t.Errorf("%U has the capital %q", r, up)
		}
	}
}

// TestPlain holds the tables to what plain relies on, and plain to the library:
// all short strings over its bytes and keywords.
func TestPlain(t *testing.T) {
	for _, k := range keywords {
		hex := k.text != "" && strings.Trim(k.text, "ABCDEF0123456789") == ""
		if hex && !strings.Contains(k.text, "DEC") {
			t.Errorf("keyword %s is hexadecimal", k.text)
		}
	}
	for f := range strings.Lines(fingerprintList) {
		f = strings.TrimSuffix(f, "\n")
		if strings.Trim(f, "N1O") == "" || strings.Trim(f, "1O,:.") == "" {
			t.Errorf("fingerprint %s", f)
		}
		if len(f) <= 2 && strings.Trim(f, "1NKFTEUBAV&O") == "" && f != "1U" && f != "VU" {
			t.Errorf("fingerprint %s", f)
		}
	}
	var n tally
	depth := 5
	if testing.Short() || raceEnabled {
		depth = 3
	}
	for _, parts := range [][]string{
		{"1", "-", "a", "e", "d", "0x", "0b", "dec", "f", "."},
		{"1", ".", "+", ",", ":", "/", " ", "-"},
		{"1", "union", "or", "e", "x", "n", "_", "in", "\xff", "\u0131"},
	} {
		everyString(parts, nil, depth, func(s string) {
			if plain(s) {
				n.compare(t, s)
			}
		})
	}
	for _, k := range keywords {
		for _, s := range []string{k.text, "1" + k.text, "1e" + k.text, "0x" + k.text, "0b" + k.text, "1-" + k.text} {
			if plain(s) {
				n.compare(t, s)
			}
		}
	}
	if n.sqli > 0 {
		t.Errorf("plain texts hold SQL injection: %v", n)
	}
	t.Log(n)
}

// TestOtherLibrary: with another libinjection-go nothing is proved.
func TestOtherLibrary(t *testing.T) {
	with := func(m debug.Module) *debug.BuildInfo { return &debug.BuildInfo{Deps: []*debug.Module{{Path: "x"}, &m}} }
	for _, c := range []struct {
		info *debug.BuildInfo
		ok   bool
		want bool
	}{
		{nil, false, true},
		{&debug.BuildInfo{}, true, true},
		{with(debug.Module{Path: libraryPath, Version: libraryVersion}), true, true},
		{with(debug.Module{Path: libraryPath, Version: "v9.9.9"}), true, false},
		{with(debug.Module{Path: libraryPath, Version: libraryVersion, Replace: &debug.Module{Path: "fork"}}), true, false},
	} {
		if got := sameLibrary(c.info, c.ok); got != c.want {
			t.Errorf("sameLibrary(%v) = %v", c.info, got)
		}
	}
	defer func(old bool) { exact = old }(exact)
	exact = false
	if !MaySQLi("a") || !MayXSS("a") {
		t.Error("a text is proved clean without knowing the library")
	}
	if ok, print := SQLi("1 union select 2"); !ok || print != "1UE1" {
		t.Errorf("SQLi without own tables: %v %q", ok, print)
	}
	if XSS("a") || !XSS("<script>") {
		t.Error("XSS without own tables")
	}
}

// TestAllocs covers clean values, attacks and what costs most.
func TestAllocs(t *testing.T) {
	values := []string{"1' or '1'='1", "<script>alert(1)</script>", "onclick=1", "\u017felect 1 \u0131n q'\xe9x'", "$a$ 0x1f"}
	if !raceEnabled { // the race detector empties pools
		values = append(values, hostile(1000)...)
	}
	for _, o := range ordinary {
		values = append(values, o.values...)
	}
	for _, s := range values {
		if n := testing.AllocsPerRun(10, func() { MaySQLi(s); MayXSS(s); XSS(s) }); n != 0 {
			t.Errorf("%.40q: %v allocations", s, n)
		}
	}
}

// hostile returns texts of n bytes or a little more that make a careless
// reader quadratic.
func hostile(n int) []string {
	var all []string
	for _, part := range []string{"'", "''", "\\'", "'\\'", "a\\'b''", "\\", "\"'", "`", "\\`a", "1+", "a,", "((", "-", "--\n", "/*", "/**/",
		"$a", "$a$", "q'(", "x'0", "[", "@", "{a ", "1,-", "not ", "union ", "a.b", "int ", "\n", "<", "<!--", "-\x00", "<%", "%", "=", "a=", "x onclic=",
		"/", "<a ", "a ", "\x00", "&#x0", "href=", "href=&#", "]]"} {
		all = append(all, strings.Repeat(part, n/len(part)+1))
	}
	return append(all, "'\\''"+strings.Repeat("\\", n)+strings.Repeat("'", n), "'"+strings.Repeat("\\'a", n/3)+strings.Repeat(" ", 40))
}

// TestFirsts holds the search in linear time against strings.Index.
func TestFirsts(t *testing.T) {
	var f firsts
	visit := func(s string) {
		if s == "" {
			return
		}
		f.prepare(s)
		for end := range len(s) {
			at := strings.Index(s, s[end:])
			n := at - len(strings.TrimRight(s[:at], "\\"))
			if got := f.escaped(s, end); got != (n%2 != 0) {
				t.Fatalf("%q from %d: %v, first at %d", s, end, got, at)
			}
		}
	}
	everyString([]string{"'", "\\", "a"}, nil, 8, visit)
	visit(strings.Repeat("'\\'a", 300))
}

// TestPrepared has every string with two quotes prepared.
func TestPrepared(t *testing.T) {
	defer func(old int) { workFloor = old }(workFloor)
	workFloor = -1 << 20
	depth := 7
	if testing.Short() || raceEnabled {
		depth = 5
	}
	var n tally
	everyString(alphabets["quotes"], nil, depth, func(s string) { n.compare(t, s) })
	g := newGenerator(t, *longSeed)
	for range 20_000 {
		n.compare(t, g.next())
	}
	t.Log(n)
	if n.unsure*100 > n.compared {
		t.Errorf("undecided: %v", n)
	}
}

// TestHostile compares on such texts, in a size that the library can bear, and
// sees that growing them twofold does not make the work fourfold. Work is
// counted in the bytes that the quadratic search may look at.
func TestHostile(t *testing.T) {
	var n tally
	for _, s := range hostile(600) {
		for _, x := range []string{s, s + "'", "1'" + s, s + "\" or 1=1"} {
			n.compare(t, x)
		}
	}
	t.Log(n)
	undecided := 0
	for _, s := range hostile(64 << 10) {
		var f folder
		for _, quote := range []byte{0, '\'', '"'} {
			f.left = unlimited
			v, _ := f.check(s, quote, false)
			if f.work < -2*len(s)-tailProbe {
				t.Errorf("%.20q: %d bytes of work over the limit", s, -f.work)
			}
			if v == unsure {
				undecided++
			}
		}
	}
	if undecided > 0 {
		t.Errorf("%d contexts undecided", undecided)
	}
}

// TestOrdinary: every ordinary value is decided.
func TestOrdinary(t *testing.T) {
	for _, o := range ordinary {
		sqlYes, xssYes, wrong := 0, 0, 0
		for _, s := range o.values {
			want, _ := libinjection.IsSQLi(s)
			if MaySQLi(s) {
				sqlYes++
				if !want {
					wrong++
				}
			}
			if MayXSS(s) {
				xssYes++
				if !libinjection.IsXSS(s) {
					wrong++
				}
			}
		}
		if wrong > 0 {
			t.Errorf("%s: %d clean values are not decided", o.kind, wrong)
		}
		t.Logf("%-12s %d values, not clean: %d SQL injection, %d script", o.kind, len(o.values), sqlYes, xssYes)
	}
}

// TestWithin holds that a bound ends the reading of what is dear, and that what is
// read within it has the same answer as without.
func TestWithin(t *testing.T) {
	for _, unit := range []string{"'", `"`, "%", "/", "a=1 or ", "-1+", "<a ", "<", "<a/", "on=", "\\'", "é", "1,", "tea "} {
		text := strings.Repeat(unit, 1<<16/len(unit))
		for name, f := range map[string]struct {
			within func(string, *int) bool
			may    func(string) bool
		}{"SQLi": {MaySQLiWithin, MaySQLi}, "XSS": {MayXSSWithin, MayXSS}} {
			want := f.may(text)
			full := math.MaxInt
			if got := f.within(text, &full); got != want || full < 0 {
				t.Errorf("%s of %q: %v with work enough, %v without a bound", name, unit, got, want)
			}
			spent := math.MaxInt - full
			if spent > 400*len(text) {
				t.Errorf("%s of %q: %d for a byte", name, unit, spent/len(text))
			}
			short := spent / 2
			if got := f.within(text, &short); spent > 0 && (short >= 0 || !got) {
				t.Errorf("%s of %q: %v with half of the work, %d left", name, unit, got, short)
			}
			if over := -short; over > 4*len(text)+100 {
				t.Errorf("%s of %q: %d too much", name, unit, over)
			}
		}
	}
}
