package gate

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/moatwaf/moat/rules/waf/crscorpus"
)

// full runs the whole corpus and many random rules: minutes, and what has to pass
// before a change of the gate or of the engine.
var full = flag.Bool("full", false, "hold the whole corpus against the engine without the gate")

// corpus returns the requests of the Core Rule Set's regression tests.
var corpus = sync.OnceValue(func() []*request {
	var all []*request
	for i, c := range crscorpus.All() {
		if c.Response() {
			continue
		}
		hr, err := crscorpus.All()[i].Request()
		if err != nil {
			continue // no handler sees it
		}
		all = append(all, fromHTTP(hr))
	}
	return all
})

// TestEquality holds the engine with the gate against the engine without.
func TestEquality(t *testing.T) {
	all := corpus()
	if len(all) < 4000 {
		t.Fatalf("%d requests", len(all))
	}
	for level := 1; level <= 4; level++ {
		t.Run(fmt.Sprintf("PL%d", level), func(t *testing.T) {
			plain, gated, g := load(t, coreRuleSet(level))
			if g.Off() != "" {
				t.Fatal(g.Off())
			}
			step := 20
			if *full {
				step = 1
			}
			gone, sampled, failed, wavering := 0, 0, 0, 0
			for i := level % step; i < len(all) && failed < 5; i += step {
				if !all[i].compare(t, plain, gated) {
					failed++
				}
				if all[i].wavers() {
					wavering++
				}
				if i%7 == 0 {
					n, of := removed(t, gated, g, all[i], 2)
					gone, sampled = gone+n, sampled+of
				}
			}
			if gone*100 < sampled*80 {
				t.Errorf("%d of %d rules of phase 2 go: too few for the comparison to mean anything", gone, sampled)
			}
			if wavering*50 > len(all) {
				t.Errorf("%d requests are compared by verdict only", wavering)
			}
			t.Logf("%d of %d rules of phase 2 go in a sample; %d requests are compared by verdict only", gone, sampled, wavering)
			r := rand.New(rand.NewPCG(uint64(level), 4711))
			for range len(all) / step / 4 {
				if failed >= 5 {
					break
				}
				if !mutate(r, all).compare(t, plain, gated) {
					failed++
				}
			}
		})
	}
}

// mutate returns a request made of pieces of others.
func mutate(r *rand.Rand, all []*request) *request {
	pick := func() *request { return all[r.IntN(len(all))] }
	out := *pick()
	out.header = append([][2]string(nil), out.header...)
	for range 1 + r.IntN(3) {
		other := pick()
		switch r.IntN(8) {
		case 0:
			out.uri = other.uri
		case 1:
			out.body = other.body
		case 2:
			out.header = append(out.header, other.header[r.IntN(len(other.header))])
		case 3:
			_, query, _ := strings.Cut(other.uri, "?")
			sep := "?"
			if strings.Contains(out.uri, "?") {
				sep = "&"
			}
			out.uri += sep + query
		case 4:
			out.body = damage(r, out.body)
		case 5:
			out.uri = damage(r, out.uri)
		case 6:
			i := r.IntN(len(out.header))
			out.header[i][1] = damage(r, out.header[i][1])
		case 7:
			out.method = other.method
		}
	}
	return &out
}

// pieces are what a text is damaged with.
var pieces = []string{"%", "+", "&", "=", "\\", "/*", "*/", "--", "#", "\x00", " ", "\t", "'", "\"", "<", ">", "%00", "%u0027", "&lt;", "&#x27;",
	"\\u0027", "\\x3c", "K", "ſ", "\xff", "\xc0\xaf", "..", "/", ";", "^", "UNION", "select", "<script>", "%2e%2e%2f", "A"}

// damage changes a few places of a text.
func damage(r *rand.Rand, s string) string {
	for range 1 + r.IntN(3) {
		at := r.IntN(len(s) + 1)
		switch r.IntN(4) {
		case 0:
			s = s[:at] + pieces[r.IntN(len(pieces))] + s[at:]
		case 1:
			s = s[:at] + s[min(len(s), at+1+r.IntN(3)):]
		case 2:
			s = s[:at] + strings.ToUpper(s[at:])
		case 3:
			if at < len(s) {
				s = s[:at] + string([]byte{byte(r.IntN(256))}) + s[at+1:]
			}
		}
	}
	return s
}

// TestConcurrent uses one gate from several goroutines, from the first text on.
func TestConcurrent(t *testing.T) {
	plain, gated, _ := load(t, coreRuleSet(1))
	var want []string
	all := corpus()[:60]
	for _, r := range all {
		want = append(want, r.signature(t, plain))
	}
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range all {
				i = (i + n*15) % len(all)
				if got := all[i].signature(t, gated); got != want[i] {
					all[i].compare(t, plain, gated)
				}
			}
		})
	}
	wg.Wait()
}

// TestReasons shows which rules of the CRS stay, and holds their number down.
func TestReasons(t *testing.T) {
	_, _, g := load(t, coreRuleSet(1))
	if g.Off() != "" {
		t.Fatal(g.Off())
	}
	count := map[string]int{}
	for _, why := range g.Reasons() {
		count[why]++
	}
	for why, n := range count {
		t.Logf("%4d %s", n, why)
	}
	t.Logf("%d rules can be taken away", g.Rules())
	if g.Rules() < 250 {
		t.Error("too few")
	}
}
