package proof

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"

	"github.com/moatwaf/moat/rules/waf/gate"
	"github.com/moatwaf/moat/rules/waf/seclang"
)

// engineTransforms returns the engine's own transformations.
func engineTransforms(tb testing.TB, names []string) map[string]plugintypes.Transformation {
	tb.Helper()
	var b strings.Builder
	b.WriteString(`SecRule ARGS "@rx x" "id:1,phase:2,pass,nolog,t:none`)
	for _, n := range names {
		b.WriteString(",t:" + n)
	}
	b.WriteString("\"\n")
	files := []seclang.File{{Name: "t", Text: b.String()}}
	e := load(tb, files)
	program, err := seclang.Parse(append([]seclang.File{{Name: "base", Text: base}}, files...))
	if err != nil {
		tb.Fatal(err)
	}
	compiled, err := program.Verify(e.waf)
	if err != nil {
		tb.Fatal(err)
	}
	m := map[string]plugintypes.Transformation{}
	for i, f := range compiled.Links[len(compiled.Links)-1][0].Transforms {
		m[names[i]] = f
	}
	return m
}

// shards are what texts for transformations are made of.
var shards = []string{
	"a", "B", "z", " ", "  ", "\t", "\n", "\v", "\f", "\r", "/", "//", "./", "../", ".", "..", "/.", ":", "c:", "\\", "%", "%4", "%41", "%2f",
	"%u0041", "%U00", "+", "=", "QUJD", "QQ==", "-", "--", "-->", "<!--", "#", "/*", "*/", "*", "'", "\"", "^", ",", ";", "(", "\x00", "\x80",
	"\xa0", "é", "\u00a0", "\u0085", "K", "file.txt.", "dir ", "...", "index.php", "http://host/", "ſ", "İ", "\u2028", "\U0001F600", "\xf0\x9f", "Ä",
}

func randomText(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(8) {
		b.WriteString(shards[r.IntN(len(shards))])
	}
	return b.String()
}

// TestTransforms holds the transformations that are done here, and the kinds of
// texts that they leave alone, against the engine's.
func TestTransforms(t *testing.T) {
	names := []string{
		"lowercase", "removeWhitespace", "compressWhitespace", "urlDecodeUni", "base64Decode", "cmdLine", "normalizePath",
		"normalisePath", "normalizePathWin", "normalisePathWin", "replaceComments", "removeCommentsChar", "removeNulls", "utf8toUnicode",
	}
	engine := engineTransforms(t, names)
	if len(names) != len(quicks) {
		t.Fatalf("%d of %d", len(names), len(quicks))
	}
	r := rand.New(rand.NewPCG(3, 4))
	var a arena
	n := 100_000
	if testing.Short() || raceEnabled {
		n = 10_000
	}
	done := map[string]int{}
	for range n {
		s := randomText(r)
		touch := touchOf(s)
		a.reset()
		for _, name := range names {
			want, changed, err := engine[name](s)
			if err != nil {
				t.Fatal(err)
			}
			if trig, ok := triggerOf(name); ok && touch&trig == 0 && want != s {
				t.Fatalf("%s(%q) is %q, and was taken to change nothing", name, s, want)
			}
			got, ok := quicks[strings.ToLower(name)](&a, s, touch)
			if !ok {
				continue
			}
			done[name]++
			if want != s && !changed && (name != "removeWhitespace" || touch&gate.TouchHigh == 0) {
				t.Fatalf("%s(%q) is %q, and the engine says that it is the same", name, s, want)
			}
			if got, _ := quickRemoveSpaceMulti(&a, s, touch); name == "removeWhitespace" && !changed && got != s {
				t.Fatalf("%s(%q) with multiMatch is %q", name, s, got)
			}
			if got != want {
				t.Fatalf("%s(%q) is %q, not %q", name, s, want, got)
			}
		}
	}
	for _, name := range names {
		if done[name] < n/10 {
			t.Errorf("%s was done %d times", name, done[name])
		}
	}
}
