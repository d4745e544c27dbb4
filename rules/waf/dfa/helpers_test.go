package dfa

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"rsc.io/binaryregexp"
)

// twin is the slow golden twin of a Set: every pattern asked by itself, of the
// library that Coraza asks.
type twin []func(string) bool

func golden(p Pattern) (func(string) bool, error) {
	match, err := goldenOf(p)
	if err != nil || !p.lower {
		return match, err
	}
	return func(s string) bool { return match(strings.ToLower(s)) }, nil
}

func goldenOf(p Pattern) (func(string) bool, error) {
	fold := func(s string) string {
		if !p.fold {
			return s
		}
		b := []byte(s)
		for i, c := range b {
			if 'A' <= c && c <= 'Z' {
				b[i] = c | 0x20
			}
		}
		return string(b)
	}
	switch p.kind {
	case kindRegexp:
		re, err := regexp.Compile(p.text)
		if err != nil {
			return nil, err
		}
		return re.MatchString, nil
	case kindBytesRegexp:
		re, err := binaryregexp.Compile(p.text)
		if err != nil {
			return nil, err
		}
		return re.MatchString, nil
	case kindContains:
		return func(s string) bool { return strings.Contains(fold(s), fold(p.text)) }, nil
	case kindHasPrefix:
		return func(s string) bool { return strings.HasPrefix(fold(s), fold(p.text)) }, nil
	case kindHasSuffix:
		return func(s string) bool { return strings.HasSuffix(fold(s), fold(p.text)) }, nil
	case kindEqual:
		return func(s string) bool { return fold(s) == fold(p.text) }, nil
	case kindWithin:
		return func(s string) bool { return strings.Contains(fold(p.text), fold(s)) }, nil
	case kindPhrases:
		return func(s string) bool {
			return slices.ContainsFunc(p.phrases, func(q string) bool { return strings.Contains(fold(s), fold(q)) })
		}, nil
	case kindBytesOutside:
		return func(s string) bool {
			for i := range len(s) {
				if !p.allowed[s[i]] {
					return true
				}
			}
			return false
		}, nil
	}
	return func(string) bool { return true }, nil
}

// pair is a Set and its twin; the ids are indexes.
type pair struct {
	pats []Pattern
	set  *Set
	twin twin
}

func newPair(tb testing.TB, o Options, pats ...Pattern) *pair {
	tb.Helper()
	var b Builder
	p := &pair{pats: pats}
	for i, pat := range pats {
		g, err := golden(pat)
		if err != nil {
			tb.Fatal(err)
		}
		p.twin = append(p.twin, g)
		if err := b.Add(i, pat); err != nil {
			tb.Fatal(err)
		}
	}
	var err error
	if p.set, err = b.Build(o); err != nil {
		tb.Fatal(err)
	}
	return p
}

// check holds the Set against its twin on one text and returns how many
// patterns it reported too many. Too few, or too many where it says that it is
// exact, is a failure.
func (p *pair) check(tb testing.TB, text string) int {
	tb.Helper()
	out := p.set.NewBits()
	ok := p.set.Scan(text, out)
	extra := 0
	for i, match := range p.twin {
		want := match(text)
		switch got := out.Has(i); {
		case want && !got:
			tb.Fatalf("missed %s in %q", p.pats[i].describe(), text)
		case got && !want:
			extra++
			if ok && p.set.Exact(i) {
				tb.Fatalf("reported %s in %q", p.pats[i].describe(), text)
			}
		}
	}
	return extra
}

func (p Pattern) describe() string {
	return fmt.Sprintf("{kind %d, %.300q %.300q fold %t lower %t}", p.kind, p.text, p.phrases, p.fold, p.lower)
}

// rule is an operator of the Core Rule Set.
type rule struct {
	pattern  Pattern
	operator string
	request  bool // asked of requests
	level    int  // paranoia level, 1 if none is given
}

var crsOperator = regexp.MustCompile(`(?m)^\s*SecRule\s+(?:"[^"]*"|\S+)\s+"(!?)@(rx|pm|pmFromFile|contains|streq|beginsWith|endsWith|within|validateByteRange) ((?:[^"\\]|\\.)*)"`)

// crsRules returns the distinct operators of the Core Rule Set that a Set can
// hold.
var crsRules = sync.OnceValues(func() ([]rule, error) {
	names, err := fs.Glob(coreruleset.FS, "@owasp_crs/*.conf")
	if err != nil {
		return nil, err
	}
	var rules []rule
	seen := map[string]bool{}
	for _, name := range names {
		data, err := fs.ReadFile(coreruleset.FS, name)
		if err != nil {
			return nil, err
		}
		text := strings.ReplaceAll(string(data), "\\\n", " ")
		for _, at := range crsOperator.FindAllStringSubmatchIndex(text, -1) {
			level := 1
			if rest, _, _ := strings.Cut(text[at[1]:], "SecRule"); strings.Contains(rest, "paranoia-level/") {
				_, n, _ := strings.Cut(rest, "paranoia-level/")
				level = int(n[0] - '0')
			}
			op, arg := text[at[4]:at[5]], strings.ReplaceAll(text[at[6]:at[7]], `\"`, `"`)
			if seen[op+" "+arg] || strings.Contains(arg, "%{") {
				continue
			}
			seen[op+" "+arg] = true
			p, err := crsPattern(op, arg)
			if err != nil {
				return nil, fmt.Errorf("%s: @%s %s: %w", name, op, arg, err)
			}
			rules = append(rules, rule{p, op, strings.Contains(name, "REQUEST-"), level})
		}
	}
	return rules, nil
})

func crsPattern(op, arg string) (Pattern, error) {
	switch op {
	case "rx":
		return Regexp(arg), nil
	case "pm":
		return Phrases(strings.Split(strings.ToLower(arg), " ")), nil
	case "pmFromFile":
		data, err := fs.ReadFile(coreruleset.FS, "@owasp_crs/"+arg)
		if err != nil {
			return Pattern{}, err
		}
		var list []string
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				list = append(list, strings.ToLower(line))
			}
		}
		return Phrases(list), nil
	case "contains":
		return Contains(arg), nil
	case "streq":
		return Equal(arg), nil
	case "beginsWith":
		return HasPrefix(arg), nil
	case "endsWith":
		return HasSuffix(arg), nil
	case "within":
		return Within(arg), nil
	}
	var allowed [256]bool
	for _, r := range strings.Split(arg, ",") {
		lo, hi := 0, 0
		if n, _ := fmt.Sscanf(strings.TrimSpace(r), "%d-%d", &lo, &hi); n == 1 {
			hi = lo
		}
		for b := lo; b <= hi; b++ {
			allowed[b] = true
		}
	}
	return BytesOutside(allowed), nil
}

func crs(tb testing.TB, keep func(rule) bool) []Pattern {
	tb.Helper()
	rules, err := crsRules()
	if err != nil {
		tb.Fatal(err)
	}
	var pats []Pattern
	for _, r := range rules {
		if keep == nil || keep(r) {
			pats = append(pats, r.pattern)
		}
	}
	return pats
}

func isRx(r rule) bool { return r.operator == "rx" }

func isRequestRx(r rule) bool { return r.operator == "rx" && r.request }

func isRequestRx1(r rule) bool { return isRequestRx(r) && r.level == 1 }

// lines returns the lines of a file in testdata, Go escapes undone.
func lines(tb testing.TB, name string) []string {
	tb.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(data)) {
		list = append(list, strings.TrimSuffix(line, "\n"))
	}
	return list
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
