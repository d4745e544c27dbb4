package proof

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/rules/waf/crscorpus"
)

const processorVariable = variables.ReqbodyProcessor

// full runs the whole corpus and many random rules: minutes, and what has to pass
// before a change of the proof or of the engine.
var full = flag.Bool("full", false, "hold the whole corpus against the engine")

// corpus returns the requests of the Core Rule Set's regression tests.
var corpus = sync.OnceValue(func() []*message {
	var all []*message
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

func TestCorpus(t *testing.T) {
	all := corpus()
	for level := 1; level <= 4; level++ {
		t.Run(fmt.Sprintf("PL%d", level), func(t *testing.T) {
			e := load(t, coreRuleSet(level))
			if e.proof.Off() != "" {
				t.Fatal(e.proof.Off())
			}
			for id, why := range e.proof.Reasons() {
				t.Logf("%d: %s", id, why)
			}
			step := 16
			switch {
			case *full:
				step = 1
			case testing.Short(), raceEnabled:
				step = 80
			}
			clean, proved, unknown, wrong := 0, 0, 0, 0
			why := map[string]int{}
			for i := level % step; i < len(all) && wrong < 10; i += step {
				m := all[i]
				res, known := e.prove(m)
				found := e.finding(t, m)
				if found == "" {
					clean++
				}
				switch {
				case !known:
					if found == "" {
						unknown++
					}
				case res.Clean && found != "":
					wrong++
					t.Errorf("%s %s %q\n%.300q\nis not clean: %s", m.r.HTTP.Method, m.r.HTTP.RequestURI, m.r.HTTP.Header, m.body, found)
				case res.Clean:
					proved++
				case found == "":
					why[fmt.Sprintf("%d %s", res.Rule, res.Why)]++
				}
			}
			keys := slices.SortedFunc(maps.Keys(why), func(a, b string) int { return cmp.Compare(why[b], why[a]) })
			for _, k := range keys[:min(len(keys), 25)] {
				t.Logf("%4d %s", why[k], k)
			}
			t.Logf("%d of %d clean requests are proved (%d have no view); %d rules remain", proved, clean, unknown, e.proof.Rules())
		})
	}
}
