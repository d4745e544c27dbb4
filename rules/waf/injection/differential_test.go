package injection

import (
	"strings"
	"testing"
)

// TestCorpus compares on the values of the CRS corpus and the library's tests.
func TestCorpus(t *testing.T) {
	var n tally
	for _, s := range append(libraryValues(t), corpusValues()...) {
		n.compare(t, s)
		n.compare(t, strings.ToLower(s))
	}
	if !testing.Short() && (n.sqli < 500 || n.xss < 200) {
		t.Errorf("the corpus holds too few attacks: %v", n)
	}
	if n.unsure > 0 {
		t.Errorf("undecided: %v", n)
	}
	t.Log(n)
}

// TestRandom compares on random strings. With -long it runs for a given time:
//
//	go test ./rules/waf/injection -run TestRandom -v -long 10m -seed 7 -timeout 0
func TestRandom(t *testing.T) {
	count := 300_000
	if testing.Short() {
		count = 100_000
	}
	if raceEnabled {
		count /= 5
	}
	g := newGenerator(t, *longSeed)
	var n tally
	until(count, func() {
		if !t.Failed() {
			n.compare(t, g.next())
		}
	})
	if n.unsure*1000 > n.compared {
		t.Errorf("more than one in a thousand undecided: %v", n)
	}
	t.Logf("seed %d: %v", *longSeed, n)
}

// Alphabets of which TestExhaustive tries every string. Letters stand for the
// parts that are inserted for them.
var alphabets = map[string][]string{
	"sql bytes":   split("1 a ' \" ` \\ ( ) , ; # - / * ! @ $ . = + { } [ : < & | \n e x q n b u 0 ? ~"),
	"sql tokens":  {"1", "a", "'", "\"", "(", ")", ",", ";", "--", "/*", "*/", "#", "=", "-", " or ", " union ", " select ", " in ", " like ", " not ", " int ", " user ", " if ", " into outfile ", "@a"},
	"quotes":      split("' \\ a \" `"),
	"html bytes":  split("< > / = ' \" ` ! ? % - [ ] \x00 a & ; #"),
	"html tokens": {"<", ">", "/", "=", "'", "\"", "`", " ", "\x00", "a", "onclick", "href", "java", "&#x6a", "&#", "ava", "<!--", "-->", "<!", "<%", "%>", "xml", "[if", "script", "style", "attributename"},
}

func split(s string) []string { return append(strings.Split(s, " "), " ") }

// TestExhaustive compares on all strings of up to three parts of an alphabet,
// and all of up to seven quotes and backslashes. With -exhaustive 4 it takes a
// minute, with 5 some ten.
func TestExhaustive(t *testing.T) {
	depth := 3
	if *longLen > 0 {
		depth = *longLen
	} else if testing.Short() || raceEnabled {
		depth = 2
	}
	for name, parts := range alphabets {
		t.Run(name, func(t *testing.T) {
			d := depth
			if name == "quotes" {
				d = min(depth*2+1, 9)
			}
			var n tally
			everyString(parts, nil, d, func(s string) {
				if !t.Failed() {
					n.compare(t, s)
				}
			})
			t.Log(n)
		})
	}
}

func everyString(parts []string, prefix []byte, depth int, visit func(string)) {
	visit(string(prefix))
	if depth == 0 {
		return
	}
	for _, p := range parts {
		everyString(parts, append(prefix[:len(prefix):len(prefix)], p...), depth-1, visit)
	}
}

// TestHandlerBefore holds the shortcut of texts without a less-than sign
// against the tokenizer alone, which needs none.
func TestHandlerBefore(t *testing.T) {
	g := newGenerator(t, *longSeed)
	skipped := 0
	until(100_000, func() {
		s := strings.ReplaceAll(g.next(), "<", "=")
		if handlerBefore(s) {
			return
		}
		skipped++
		for c := inTag; c <= inTick; c++ {
			work := unlimited
			if script(s, c, &work) {
				t.Fatalf("%q: script in context %d", s, c)
			}
		}
	})
	if skipped == 0 {
		t.Error("the shortcut took no text")
	}
}

// FuzzSQLi and FuzzXSS compare on what the fuzzer finds.
func FuzzSQLi(f *testing.F) { fuzz(f) }

// FuzzXSS has the same body: a text that is odd for one is a text for both.
func FuzzXSS(f *testing.F) { fuzz(f) }

func fuzz(f *testing.F) {
	for _, s := range libraryValues(f) {
		f.Add(s)
	}
	for i, s := range corpusValues() {
		if i%20 == 0 {
			f.Add(s)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		new(tally).compare(t, s)
	})
}
