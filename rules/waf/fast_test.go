package waf

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf/crscorpus"
)

// fast returns the configuration with the gate.
func fast(c Config) Config {
	c.Fast = true
	return c
}

// findingKey is what must not differ: the status and the rules.
func findingKey(tb testing.TB, s *Stage, c *crscorpus.Case) string {
	tb.Helper()
	f, err := runCase(s, c)
	if err != nil {
		tb.Fatalf("%s: %v", c.ID, err)
	}
	f.rules = slices.DeleteFunc(f.rules, func(id int) bool { return id == ownRuleGate1 || id == ownRuleGate2 })
	return strconv.Itoa(f.status) + fmt.Sprint(f.rules)
}

// TestFastCRS holds the stage with the gate against the stage without. The whole
// details are held in package gate; here it is the stage's own way of feeding the
// engine.
func TestFastCRS(t *testing.T) {
	plain, gated := mustNew(t, crsConfig(t)), mustNew(t, fast(crsConfig(t)))
	if off := gated.GateOff(); off != "" {
		t.Fatal(off)
	}
	if n := gated.loaded.gate.Rules(); n < 250 {
		t.Fatalf("only %d rules can be taken away", n)
	}
	step := 10 * raceSlows
	if testing.Short() {
		step = 40
	}
	cases := crscorpus.All()
	for i := 0; i < len(cases); i += step {
		want, got := findingKey(t, plain, &cases[i]), findingKey(t, gated, &cases[i])
		for n := 0; want != got && n < 300; n++ { // plain Coraza has several answers to a few
			want = findingKey(t, plain, &cases[i])
		}
		if want != got {
			t.Errorf("%s: %s with the gate, %s without", cases[i].ID, got, want)
		}
	}
}

// TestFastRules loads rule files of operators with the gate.
func TestFastRules(t *testing.T) {
	for name, text := range map[string]string{
		"own rule":     `SecRule ARGS:q "@rx ^evil$" "id:1,phase:2,deny,status:403,msg:'m'"`,
		"MATCHED_VARS": "SecRule ARGS:q \"@rx evil\" \"id:1,phase:2,deny,chain\"\nSecRule MATCHED_VARS \"@streq evil\" \"t:none,t:lowercase\"",
	} {
		t.Run(name, func(t *testing.T) {
			s := mustNew(t, fast(inline(text)))
			if off := s.GateOff(); off != "" {
				t.Fatal(off)
			}
			for target, want := range map[string]filter.Verdict{"/?q=evil": filter.Block, "/?q=good": filter.Continue} {
				if d := check(t, s, newHTTP("GET", target, "")); d.Verdict != want {
					t.Errorf("%s: %v", target, d.Verdict)
				}
			}
		})
	}
	if s := mustNew(t, inline(`SecAction "id:1,phase:1,pass,nolog"`)); s.GateOff() != "" || s.Candidates() != nil {
		t.Error("a stage without the gate speaks of it")
	}
}

// BenchmarkFast is plain Coraza and the gate in turns.
func BenchmarkFast(b *testing.B) {
	plain, gated := readyStage(b), mustNew(b, Config{Fast: true})
	if off := gated.GateOff(); off != "" {
		b.Fatal(off)
	}
	form := "name=Ada+Lovelace&street=St+James+Square+12&city=London&zip=SW1Y&country=GB&mail=ada%40example.com&phone=0207&note=ring+twice&gift=no&terms=yes"
	for _, w := range []struct{ name, method, target, body, kind string }{
		{"GET", "GET", "/search?q=tea+pots&page=2&sort=price", "", ""},
		{"Form", "POST", "/checkout", form, "application/x-www-form-urlencoded"},
		{"JSON4K", "POST", "/api/orders", json4K, "application/json"},
	} {
		for range 2 {
			for _, s := range []struct {
				name  string
				stage *Stage
			}{{"plain", plain}, {"gate", gated}} {
				b.Run(w.name+"/"+s.name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						r := filter.NewRequest(chrome(w.method, w.target, w.body, w.kind), testTime)
						r.Client = r.Peer
						if _, err := s.stage.Check(r); err != nil {
							b.Fatal(err)
						}
						r.Release()
					}
				})
			}
		}
	}
}
