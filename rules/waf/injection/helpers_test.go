package injection

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/corazawaf/libinjection-go"

	"github.com/moatwaf/moat/rules/waf/crscorpus"
	"github.com/moatwaf/moat/rules/waf/injection/internal/tables"
)

var (
	longFor  = flag.Duration("long", 0, "how long TestRandom runs, instead of a fixed number of strings")
	longSeed = flag.Uint64("seed", 1, "seed of TestRandom")
	longLen  = flag.Int("exhaustive", 0, "length up to which TestExhaustive goes, instead of 3")
)

// tally counts the answers that were compared.
type tally struct {
	compared, sqli, xss, unsure int
}

func (t tally) String() string {
	return fmt.Sprintf("%d strings, %d with SQL injection, %d with script, %d undecided", t.compared, t.sqli, t.xss, t.unsure)
}

// compare holds both answers about s against the library's. It asks for more
// than the promise of MaySQLi and MayXSS: a yes must be right too, and the
// fingerprint the same.
func (t *tally) compare(tb testing.TB, s string) {
	t.compared++
	want, print := libinjection.IsSQLi(s)
	work := unlimited
	got, p := sqli(s, &work)
	switch {
	case got == unsure:
		t.unsure++
	case want != (got == found) || want && print != string(p.cats[:p.n]):
		tb.Errorf("SQLi(%q): %v %q, the library says %v %q", s, got, p.cats[:p.n], want, print)
	}
	if want {
		t.sqli++
	}
	if want := libinjection.IsXSS(s); want != XSS(s) {
		tb.Errorf("XSS(%q): %v, the library says %v", s, !want, want)
	} else if want {
		t.xss++
	}
}

// corpusValues are the lines, names and values of the requests of the CRS
// corpus, as they stand there and decoded. Reading the corpus takes long with
// the race detector; -short goes without it.
var corpusValues = sync.OnceValue(func() []string {
	seen := map[string]bool{}
	if testing.Short() {
		return nil
	}
	var all []string
	add := func(s string) {
		if s != "" && !seen[s] && len(s) < 4096 {
			seen[s] = true
			all = append(all, s)
		}
	}
	for _, c := range crscorpus.All() {
		for line := range bytes.SplitSeq(c.Raw, []byte("\r\n")) {
			s := string(line)
			add(s)
			if _, v, ok := strings.Cut(s, ": "); ok {
				add(v)
			}
			for f := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune("&?; ", r) }) {
				name, v, _ := strings.Cut(f, "=")
				for _, x := range []string{f, name, v} {
					add(x)
					if d, err := url.QueryUnescape(x); err == nil {
						add(d)
					}
				}
			}
		}
	}
	return all
})

// libraryValues are the inputs of the library's own tests.
func libraryValues(tb testing.TB) []string {
	src, err := tables.Locate()
	if err != nil {
		tb.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(src.Dir, "tests", "*.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	var all []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		_, rest, ok := strings.Cut(string(data), "--INPUT--\n")
		in, _, ok2 := strings.Cut(rest, "--EXPECTED--")
		in = strings.TrimSuffix(in, "\n")
		if !ok || !ok2 {
			tb.Fatalf("%s has no input", f)
		}
		all = append(all, in)
	}
	if len(all) < 400 {
		tb.Fatalf("only %d tests of the library", len(all))
	}
	return all
}

// generator makes strings that look like SQL, like HTML, and like neither.
type generator struct {
	*rand.Rand
	words, names, values []string
}

func newGenerator(tb testing.TB, seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), values: append(libraryValues(tb), corpusValues()...)}
	for _, k := range keywords[1:] {
		g.words = append(g.words, k.text)
		g.words = append(g.words, strings.Fields(k.text)...)
	}
	for name := range attributes {
		g.names = append(g.names, name)
	}
	for name := range tags {
		g.names = append(g.names, "<"+name, "</"+name)
	}
	// The tables come out of maps; the same seed shall give the same strings.
	slices.Sort(g.words)
	slices.Sort(g.names)
	return g
}

func pick[T any](g *generator, list []T) T { return list[g.IntN(len(list))] }

var (
	sqlBits = []string{"1", "0", "9", "1.", ".5", "1e", "1e5", "0x1f", "0x", "0b1", "1f", "a", "n", "x", "_", "foo", "a_b",
		"'", "'", "\"", "\"", "`", "``", "\\", "\\'", "\\\"", "''", "(", ")", "(", ")", ",", ";", "{", "}", "[", "]",
		"=", "<", ">", "<=>", "!", "!!", "~", "+", "-", "*", "/", "%", "^", "|", "||", "&", "&&", ":", "::", ":=", "?", ".",
		"#", "--", "-- ", "--\n", "/*", "*/", "/**/", "/*!", "/*/*", "@", "@@", "@'", "@`", "$", "$$", "$a$", "$1,0", "$.",
		"\\N", "\n", "\t", "\x00", "\xa0", "\x7f", "\x01", "q'(", ")'", "nq'[", "]'", "n'", "e'", "u&'", "x'0f'", "b'01'", "q'\xe9", "\xc3\xa9'",
		"union select", "or 1=1", "and", "OR", "in", "not in", "like", "not like", "not", "select", "into outfile", "sp_password",
		"user", "database", "if", "case", "when", "as int", "int", "varchar", "collate", "latin1_swedish", "union all", "order by",
		"having", "group by", "exec", "drop table", "null", "true", "is not null", "::int", "\u017f", "\u0131", "un\u0131on", "\u017felect", "or\u0131", "\xc4", "\xff", "я", "語"}
	htmlBits = []string{"<", ">", "/", "=", " ", "'", "\"", "`", "!", "?", "%", "%>", "--", "-->", "-!>", "<!--", "<!", "<?", "<%", "</", "/>",
		"<!doctype", "[CDATA[", "]]>", "]", "[if", "xml", "import", "entity", "&", "&#", "&#x6a", "&#106;", "&#x6A;", ";", "\x00", "\n", "\t", "\v", "\f", "\r",
		"a", "b", "on", "onx", "onclick", "ONERROR", "href", "src", "style", "filter", "attributename", "xmlns", "xlink", "to", "by", "from", "action", "values",
		"javascript:", "java", "data:", "vbscript:", "view-source:", "\x01", "\x7f", "\xa0", "é", "<a ", "<b", "<svg", "<xsl", "<script", "<x ", "<script>"}
)

const oddBytes = "'\"`\\-/*#;()1a =<>on\x00\xa0$@."

// next returns a string.
func (g *generator) next() string {
	switch g.IntN(10) {
	case 0:
		return pick(g, g.values)
	case 1, 2:
		return g.mutate(pick(g, g.values))
	case 3, 4, 5:
		return g.join(sqlBits, g.words)
	case 6, 7:
		return g.join(htmlBits, g.names)
	case 8:
		return g.join(sqlBits, htmlBits)
	}
	b := make([]byte, g.IntN(24))
	for i := range b {
		b[i] = byte(g.IntN(256))
		if g.IntN(2) == 0 {
			b[i] = oddBytes[g.IntN(len(oddBytes))]
		}
	}
	return string(b)
}

func (g *generator) join(a, b []string) string {
	var s strings.Builder
	sep := pick(g, []string{"", " ", "", "  ", "/**/", "\n"})
	for range 1 + g.IntN(12) {
		list := a
		if g.IntN(4) == 0 {
			list = b
		}
		x := pick(g, list)
		switch g.IntN(8) {
		case 0:
			x = strings.ToLower(x)
		case 1:
			x = strings.ReplaceAll(x, "s", "\u017f")
		case 2:
			i := g.IntN(len(x) + 1)
			x = x[:i] + "\x00" + x[i:]
		}
		s.WriteString(x)
		if g.IntN(3) > 0 {
			s.WriteString(sep)
		}
	}
	return s.String()
}

func (g *generator) mutate(s string) string {
	for range 1 + g.IntN(4) {
		i := g.IntN(len(s) + 1)
		j := min(len(s), i+g.IntN(4))
		switch g.IntN(5) {
		case 0:
			s = s[:i] + s[j:]
		case 1:
			s = s[:i] + pick(g, sqlBits) + s[j:]
		case 2:
			s = s[:i] + pick(g, htmlBits) + s[i:]
		case 3:
			o := pick(g, g.values)
			s = s[:i] + o[g.IntN(len(o)+1):]
		case 4:
			s = s[:i] + pick(g, g.words) + " " + s[i:]
		}
		if len(s) > 2000 {
			s = s[:2000]
		}
	}
	return s
}

// until calls step until the time that -long gives is over, else n times.
func until(n int, step func()) {
	if *longFor == 0 {
		for range n {
			step()
		}
		return
	}
	for end := time.Now().Add(*longFor); time.Now().Before(end); {
		for range 1000 {
			step()
		}
	}
}
