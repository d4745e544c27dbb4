package waf

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf/crscorpus"
)

var fullCorpus = flag.Bool("full", false, "hold the whole corpus of the Core Rule Set against plain Coraza: about ten minutes")

// answerOf is what both engines must say of a request, in one line, and the path.
func answerOf(tb testing.TB, s *Stage, hr *http.Request) (line string, j Judged) {
	tb.Helper()
	r := filter.NewRequest(hr, testTime)
	defer r.Release()
	in, err := s.Inspect(r)
	if err != nil {
		tb.Fatalf("%s %s: %v", hr.Method, hr.RequestURI, err)
	}
	return lineOf(&in), in.Judged
}

func lineOf(in *Inspection) string {
	if in.Proved {
		return "clean"
	}
	d := &in.Decision
	line := fmt.Sprintf("%v %v rule %q status %d score %d of %d rules %v", d.Verdict, d.Reason, d.Rule, d.StatusCode(), in.Score, in.Threshold, in.Rules)
	if d.Payload != nil {
		line += fmt.Sprintf(" payload %+v", *d.Payload)
	}
	return line
}

// same holds one request against plain Coraza, several times where that has several
// answers: the order of its collections is random.
func same(tb testing.TB, plain, fast *Stage, request func() *http.Request) Judged {
	tb.Helper()
	got, j := answerOf(tb, fast, request())
	if j.Path != PathFollowed {
		return j
	}
	want := ""
	for range 50 {
		if want, _ = answerOf(tb, plain, request()); want == got {
			return j
		}
	}
	hr := request()
	tb.Errorf("%s %s %q\nis followed to %s\nplain Coraza: %s", hr.Method, hr.RequestURI, hr.Header, got, want)
	return j
}

// TestFollowedCorpus holds what is judged without the engine against plain Coraza,
// with a threshold that refuses and with one that lets all rules be evaluated.
func TestFollowedCorpus(t *testing.T) {
	step := 8
	switch {
	case testing.Short(), raceSlows > 1:
		step = 60
	case *fullCorpus:
		step = 1
	}
	all := crscorpus.All()
	for level := 1; level <= 4; level++ {
		for _, threshold := range []int{5, 100_000} {
			if (testing.Short() || raceSlows > 1) && level > 1 && threshold == 5 {
				continue
			}
			if raceSlows > 1 && level > 1 {
				continue
			}
			t.Run(fmt.Sprintf("PL%d/threshold %d", level, threshold), func(t *testing.T) {
				c := crsConfig(t)
				c.Include, c.Paranoia, c.Threshold = nil, level, threshold
				c.Unbounded = true
				plain, fast := mustNew(t, c), mustNew(t, fast(c))
				followed, others, why := 0, 0, map[string]int{}
				for i := (level + threshold) % step; i < len(all); i += step {
					if _, err := all[i].Request(); err != nil || all[i].Response() {
						continue // no handler sees it
					}
					j := same(t, plain, fast, func() *http.Request {
						hr, err := all[i].Request()
						if err != nil {
							t.Fatal(err)
						}
						return hr
					})
					switch j.Path {
					case PathFollowed:
						followed++
					case PathEngine:
						others++
						why[fmt.Sprintf("%s %d %s", j.Cause, j.Rule, j.What)]++
					}
				}
				for _, k := range slices.Sorted(maps.Keys(why)) {
					t.Logf("%4d %s", why[k], k)
				}
				t.Logf("%d followed, %d evaluated by the engine", followed, others)
				if followed < 4*others {
					t.Error("most of the findings must be judged without the engine")
				}
			})
		}
	}
}

// TestFollowedRules is the table of what rules may do when they find something.
func TestFollowedRules(t *testing.T) {
	const sum = `SecAction "id:90,phase:1,nolog,pass,setvar:tx.inbound_anomaly_score_threshold=5,setvar:tx.blocking_inbound_anomaly_score=0"
`
	const (
		yes  = "followed"
		no   = "engine"
		none = "proved"
	)
	for name, tt := range map[string]struct {
		rules, want string
	}{
		"deny":                     {`SecRule ARGS "@rx evil" "id:1,phase:2,deny,msg:'m'"`, yes},
		"deny with a status":       {`SecRule ARGS "@rx evil" "id:1,phase:2,deny,status:418,msg:'m'"`, yes},
		"deny in phase 1":          {`SecRule ARGS "@rx evil" "id:1,phase:1,deny,nolog,status:400"`, yes},
		"drop":                     {`SecRule ARGS "@rx evil" "id:1,phase:2,drop,status:418,nolog"`, yes},
		"redirect":                 {`SecRule ARGS "@rx evil" "id:1,phase:2,redirect:/x,log,msg:'m'"`, yes},
		"the default action":       {"SecDefaultAction \"phase:2,deny,status:409,log\"\nSecRule ARGS \"@rx evil\" \"id:1,phase:2,block,msg:'m'\"", yes},
		"a report":                 {`SecRule ARGS "@rx evil" "id:1,phase:2,pass,log,msg:'m'"`, yes},
		"two reports, one of each": {"SecRule ARGS \"@rx evil\" \"id:2,phase:1,pass,log,msg:'m'\"\nSecRule ARGS \"@rx evil\" \"id:1,phase:2,pass,msg:'n'\"", yes},
		"no message":               {`SecRule ARGS "@rx evil" "id:1,phase:2,pass,log"`, none},
		"a message of variables":   {`SecRule ARGS "@rx evil" "id:1,phase:2,pass,log,msg:'%{tx.nothing}'"`, no},
		"a message of the chain":   {"SecRule ARGS \"@rx evil\" \"id:1,phase:2,pass,log,chain\"\nSecRule ARGS \"@rx x\" \"msg:'m'\"", yes},
		"a score for each value": {sum + `SecRule ARGS|REQUEST_URI "@rx evil" "id:1,phase:2,pass,msg:'m',setvar:'tx.blocking_inbound_anomaly_score=+2'"
SecRule TX:BLOCKING_INBOUND_ANOMALY_SCORE "@ge %{tx.inbound_anomaly_score_threshold}" "id:2,phase:2,deny,msg:'s'"`, yes},
		"a score that is known behind the last rule": {`SecRule ARGS "@rx evil" "id:1,phase:2,pass,msg:'m'"
SecAction "id:2,phase:2,pass,nolog,setvar:tx.blocking_inbound_anomaly_score=7"`, yes},
		"a score that depends on the order": {sum + `SecRule ARGS "@rx ^(evil|\d)" "id:1,phase:2,pass,capture,msg:'m',setvar:'tx.blocking_inbound_anomaly_score=%{tx.1}'"`, no},
		"a rule that is behind a refusal":   {"SecRule ARGS \"@rx evil\" \"id:1,phase:2,deny,msg:'m'\"\nSecRule ARGS \"@rx evil\" \"id:2,phase:2,pass,msg:'n'\"", yes},
		"detection only":                    {"SecRule ARGS \"@rx evil\" \"id:1,phase:1,pass,nolog,ctl:ruleEngine=DetectionOnly\"\nSecRule ARGS \"@rx evil\" \"id:2,phase:2,deny,msg:'n'\"", yes},
		"the engine off":                    {sum + "SecRule ARGS \"@rx evil\" \"id:1,phase:1,pass,log,msg:'m',ctl:ruleEngine=Off\"\nSecRule ARGS \"@rx evil\" \"id:2,phase:2,deny,msg:'n'\"", yes},
		"a jump":                            {"SecRule ARGS \"@rx evil\" \"id:1,phase:2,pass,msg:'m',skipAfter:END\"\nSecRule ARGS \"@rx evil\" \"id:2,phase:2,deny,msg:'n'\"\nSecMarker END", yes},
		"a skip":                            {"SecRule ARGS \"@rx evil\" \"id:1,phase:2,pass,msg:'m',skip:1\"\nSecRule ARGS \"@rx evil\" \"id:2,phase:2,deny,msg:'n'\"", yes},
		"allow":                             {"SecRule ARGS \"@rx evil\" \"id:1,phase:1,allow,log,msg:'m'\"\nSecRule ARGS \"@rx evil\" \"id:2,phase:2,deny,msg:'n'\"", yes},
		"allow:phase":                       {"SecRule ARGS \"@rx evil\" \"id:1,phase:1,allow:phase,log,msg:'m'\"\nSecRule ARGS \"@rx evil\" \"id:3,phase:1,deny\"\nSecRule ARGS \"@rx evil\" \"id:2,phase:2,pass,msg:'n'\"", yes},
		"allow, and a score behind it": {sum + `SecRule ARGS "@rx evil" "id:1,phase:2,allow:request,msg:'m'"
SecAction "id:2,phase:2,pass,nolog,setvar:tx.blocking_inbound_anomaly_score=7"`, yes},
		"an exclusion": {"SecRule ARGS \"@rx evil\" \"id:1,phase:1,pass,log,msg:'m',ctl:ruleRemoveById=2\"\nSecRule ARGS \"@rx evil\" \"id:2,phase:2,deny,msg:'n'\"", yes},
		"a target less": {"SecRule ARGS \"@rx evil\" \"id:1,phase:1,pass,log,msg:'m',ctl:ruleRemoveTargetById=2;ARGS:a\"\n" +
			"SecRule ARGS \"@rx evil\" \"id:2,phase:2,deny,msg:'n'\"\nSecRule ARGS \"@rx EVIL\" \"id:3,phase:2,pass,msg:'n',t:uppercase\"", yes},
		"every request":              {"SecAction \"id:1,phase:1,pass,log,msg:'m'\"\nSecRule ARGS \"@rx evil\" \"id:2,phase:2,deny,msg:'n'\"", yes},
		"what another one has found": {"SecRule ARGS \"@rx evil\" \"id:1,phase:1,pass,log,msg:'m',setvar:tx.seen=1\"\nSecRule TX:seen \"@eq 1\" \"id:2,phase:2,deny,msg:'n'\"", yes},
		"what no rule has found":     {"SecRule ARGS \"@rx evil\" \"id:1,phase:1,pass,log,msg:'m',setvar:tx.seen=1\"\nSecRule &TX:seen \"@eq 0\" \"id:2,phase:2,deny,msg:'n'\"", yes},
		"a chain that ends":          {"SecRule ARGS \"@rx evil\" \"id:1,phase:2,pass,msg:'m',setvar:tx.half=1,chain\"\nSecRule ARGS \"@rx never\"\nSecRule TX:half \"@eq 1\" \"id:2,phase:2,deny,msg:'n'\"", yes},
	} {
		t.Run(name, func(t *testing.T) {
			plain, fast := mustNew(t, inline(tt.rules)), mustNew(t, fast(inline(tt.rules)))
			if off := fast.ProofOff(); off != "" {
				t.Fatal(off)
			}
			j := same(t, plain, fast, func() *http.Request { return newHTTP("GET", "/evil?a=xevil&b=evilx&c=evil&d=7", "") })
			if j.Path.String() != tt.want {
				t.Errorf("%+v, want %s", j, tt.want)
			}
			for _, target := range []string{"/?a=tea", "/", "/?a=evil&evil=b"} {
				same(t, plain, fast, func() *http.Request { return newHTTP("POST", target, "d=evil", "Content-Type: "+formType) })
			}
		})
	}
}

// TestFollowedMatchesAreBounded holds the list of rules to its length, as the engine's is.
func TestFollowedMatchesAreBounded(t *testing.T) {
	var rules strings.Builder
	for i := range maxMatched + 10 {
		fmt.Fprintf(&rules, "SecRule ARGS \"@rx evil\" \"id:%d,phase:%d,pass,msg:'m'\"\n", 1000-i, 1+i%2)
	}
	plain, fast := mustNew(t, inline(rules.String())), mustNew(t, fast(inline(rules.String())))
	if j := same(t, plain, fast, func() *http.Request { return newHTTP("GET", "/?a=evil&b=evil", "") }); j.Path != PathFollowed {
		t.Errorf("%+v", j)
	}
}

// TestFollowedAllocations holds what a refusal may allocate: the engine takes some
// thousands.
func TestFollowedAllocations(t *testing.T) {
	if raceSlows > 1 {
		t.Skip("the race detector allocates")
	}
	s := mustNew(t, Config{Fast: true})
	r := filter.NewRequest(newHTTP("GET", "/?q=1%27+UNION+SELECT+password+FROM+users--+-", ""), testTime)
	defer r.Release()
	n := testing.AllocsPerRun(100, func() {
		if d, err := s.Check(r); err != nil || d.Verdict != filter.Block {
			t.Fatal(d.Verdict, err)
		}
	})
	if n > 150 {
		t.Errorf("%v allocations", n)
	}
}
