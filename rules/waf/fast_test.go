package waf

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
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

// TestFastDecisions holds the decisions of the two engines against each other, with
// all that led to them, on the corpus: what is proved must be a request that plain
// Coraza lets pass without a finding.
func TestFastDecisions(t *testing.T) {
	step := 8 * raceSlows
	if testing.Short() {
		step = 40 * raceSlows
	}
	for name, c := range map[string]Config{"ready": {}, "regression": crsConfig(t)} {
		t.Run(name, func(t *testing.T) {
			c.Unbounded = true
			plain, quick := mustNew(t, c), mustNew(t, fast(c))
			if off := quick.ProofOff(); off != "" {
				t.Fatal(off)
			}
			inspect := func(s *Stage, c *crscorpus.Case) (Inspection, bool) {
				hr, err := c.Request()
				if err != nil {
					return Inspection{}, false
				}
				r := filter.NewRequest(hr, testTime)
				defer r.Release()
				i, err := s.Inspect(r)
				if err != nil {
					t.Fatalf("%s: %v", c.ID, err)
				}
				return i, true
			}
			key := func(i *Inspection) string {
				return fmt.Sprint(i.Decision.Verdict, i.Decision.Reason, i.Decision.StatusCode(), i.Decision.Rule, i.Score, slices.Sorted(slices.Values(i.Rules)))
			}
			paths := map[Path]int{}
			cases := crscorpus.All()
			for n := 0; n < len(cases); n += step {
				got, ok := inspect(quick, &cases[n])
				if !ok {
					continue
				}
				paths[got.Judged.Path]++
				if got.Proved {
					got.Threshold = 0
				}
				want, _ := inspect(plain, &cases[n])
				same := func() bool {
					if got.Proved {
						return !want.Decision.Refuses() && len(want.Rules) == 0
					}
					return key(&got) == key(&want)
				}
				for tries := 0; !same() && tries < 300; tries++ { // plain Coraza has several answers to a few
					want, _ = inspect(plain, &cases[n])
				}
				if !same() {
					t.Errorf("%s: fast %v %s, plain %s", cases[n].ID, got.Judged, key(&got), key(&want))
				}
			}
			t.Log(paths)
			if name == "ready" && paths[PathProved] == 0 {
				t.Error("nothing was proved")
			}
		})
	}
}

// TestBodyIsReadOnce holds that the two engines see one reading of the body.
func TestBodyIsReadOnce(t *testing.T) {
	s := mustNew(t, Config{Fast: true})
	e := s.engine.(*proving)
	for name, tt := range map[string]struct {
		body   string
		proved bool
	}{
		"clean":   {"a=tea&b=pot", true},
		"attack":  {attackForm, false},
		"nothing": {"", false}, // a form without a length is a finding
	} {
		t.Run(name, func(t *testing.T) {
			r := filter.NewRequest(newHTTP("POST", "/", tt.body, "Content-Type: "+formType), testTime)
			defer r.Release()
			reads := 0
			out, err := e.evaluate(r, func(kind bodyKind) (payload, *filter.Decision) {
				reads++
				return s.readPayload(r, kind, s.config.BodyLimit)
			})
			if err != nil || out.proved != tt.proved || reads > 1 {
				t.Errorf("proved %v after %d readings, %v, want %v after one", out.proved, reads, err, tt.proved)
			}
		})
	}
}

// TestPanicOfTheProof holds that a fault of the fast engine is the engine's work,
// and that net/http's own panic is none.
func TestPanicOfTheProof(t *testing.T) {
	s := mustNew(t, Config{Fast: true})
	e := s.engine.(*proving)
	for _, attack := range []bool{false, true} {
		body := "a=tea"
		if attack {
			body = attackForm
		}
		r := filter.NewRequest(newHTTP("POST", "/", body, "Content-Type: "+formType), testTime)
		first := true
		out, err := e.evaluate(r, func(kind bodyKind) (payload, *filter.Decision) {
			if first {
				first = false
				panic("a fault")
			}
			return s.readPayload(r, kind, s.config.BodyLimit)
		})
		if err != nil || out.proved || out.blocked != attack || out.why == nil || out.why.cause != causePanic {
			t.Errorf("attack %v: %+v, %v", attack, out, err)
		}
		r.Release()
	}
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("recovered %v", v)
		}
	}()
	r := filter.NewRequest(newHTTP("POST", "/", "a=b", "Content-Type: "+formType), testTime)
	_, _ = e.evaluate(r, func(bodyKind) (payload, *filter.Decision) { panic(http.ErrAbortHandler) })
	t.Error("no panic")
}

// TestJudgedIsTold holds what an observer hears of each path.
func TestJudgedIsTold(t *testing.T) {
	var told []Judged
	s := mustNew(t, Config{Fast: true, BodyLimit: 1 << 20, Observe: func(j Judged) { told = append(told, j) }})
	for _, tt := range []struct {
		name    string
		request *http.Request
		want    Judged
	}{
		{"clean", newHTTP("GET", "/?q=tea", ""), Judged{Path: PathProved}},
		{"attack", newHTTP("GET", "/?q=1%27+UNION+SELECT+password+FROM+users--+-", ""), Judged{Path: PathFollowed, Cause: "rule", Rule: 942100}},
		{"odd JSON", newHTTP("POST", "/", `{"a":`, "Content-Type: application/json"), Judged{Path: PathEngine, Cause: "shape", What: "json"}},
		{"too large", newHTTP("POST", "/", strings.Repeat("a", 1<<20+1), "Content-Type: text/plain"), Judged{Path: PathBody}},
		{"too dear", newHTTP("POST", "/", strings.Repeat("<!--", 250_000), "Content-Type: text/plain"), Judged{Path: PathEnded}},
	} {
		told = nil
		d := check(t, s, tt.request)
		if len(told) == 1 && told[0].Path == PathEnded {
			told[0] = Judged{Path: PathEnded} // which rule is the dear one is the estimate's affair
		}
		if len(told) != 1 || told[0] != tt.want {
			t.Errorf("%s: %v %v, told %+v, want %+v", tt.name, d.Verdict, d.Reason, told, tt.want)
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
