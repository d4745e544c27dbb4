package proof

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moatwaf/moat/rules/waf/seclang"
)

// TestTraps holds what rules mean against the engine, one trap each: what the proof
// must say of a request, and what the engine does.
func TestTraps(t *testing.T) {
	const log = "log,msg:'m'"
	for _, tt := range []struct {
		name  string
		rules string
		query string
		clean bool // the proof
		found bool // the engine
	}{
		{"a chain that begins with a constant is not constant",
			`SecRule &TX:x "@eq 0" "id:1,phase:2,pass,log,msg:'m',chain"
			SecRule ARGS:a "@streq b" ""`, "a=b", false, true},
		{"its later link does not match",
			`SecRule &TX:x "@eq 0" "id:1,phase:2,pass,log,msg:'m',chain"
			SecRule ARGS:a "@streq b" ""`, "a=c", true, false},
		{"a negated operator has to be shown to match", `SecRule ARGS:a "!@rx ^\d+$" "id:1,phase:2,pass,` + log + `"`, "a=1", true, false},
		{"one value that does not", `SecRule ARGS:a "!@rx ^\d+$" "id:1,phase:2,pass,` + log + `"`, "a=1&a=x", false, true},
		{"a target that is absent matches nothing, negated or not", `SecRule ARGS:a "!@rx x" "id:1,phase:2,pass,` + log + `"`, "b=1", true, false},
		{"a negated operator behind a transformation", `SecRule ARGS:a "!@streq abc" "id:1,phase:2,pass,t:none,t:lowercase,` + log + `"`, "a=ABC", true, false},
		{"a count of none", `SecRule &ARGS:a "@eq 0" "id:1,phase:2,pass,` + log + `"`, "b=1", false, true},
		{"a count of two", `SecRule &ARGS:a "!@eq 2" "id:1,phase:2,pass,` + log + `"`, "a=1&A=2", true, false},
		{"a number", `SecRule ARGS:a "@gt 10" "id:1,phase:2,pass,` + log + `"`, "a=9", true, false},
		{"what is no number is 0", `SecRule ARGS:a "@lt 1" "id:1,phase:2,pass,` + log + `"`, "a=x", false, true},
		{"within", `SecRule ARGS:a "@within abc" "id:1,phase:2,pass,` + log + `"`, "a=bd", true, false},
		{"the empty value is within anything", `SecRule ARGS:a "@within abc" "id:1,phase:2,pass,` + log + `"`, "a=", false, true},
		{"a variable that is known at load",
			`SecAction "id:1,phase:1,pass,nolog,setvar:'tx.ok=a b'"
			SecRule ARGS:a "!@within %{tx.ok}" "id:2,phase:2,pass,` + log + `"`, "a=b", true, false},
		{"a variable that is not",
			`SecRule ARGS:b "@rx ." "id:1,phase:1,pass,nolog,setvar:'tx.ok=%{MATCHED_VAR}'"
			SecRule ARGS:a "!@streq %{tx.ok}" "id:2,phase:2,pass,` + log + `"`, "a=1&b=1", true, false},
		{"a variable that is not there stands for its name",
			`SecRule ARGS:a "@streq tx.no" "id:1,phase:2,pass,nolog,setvar:tx.found=1"
			SecRule ARGS:a "@streq %{tx.no}" "id:2,phase:2,pass,` + log + `"`, "a=tx.no", false, true},
		{"a selector that is an expression", `SecRule ARGS:/^a/ "@rx x" "id:1,phase:2,pass,` + log + `"`, "b=x", true, false},
		{"an exclusion", `SecRule ARGS|!ARGS:a "@rx x" "id:1,phase:2,pass,` + log + `"`, "a=x", true, false},
		{"an exclusion by expression", `SecRule ARGS|!ARGS:/^a/ "@rx x" "id:1,phase:2,pass,` + log + `"`, "ab=x&B=1", true, false},
		{"SecRuleUpdateTargetById", `SecRule ARGS "@rx x" "id:1,phase:2,pass,` + log + `"
			SecRuleUpdateTargetById 1 "!ARGS:a"`, "a=x", true, false},
		{"an exclusion at run time",
			`SecRule REQUEST_FILENAME "@streq /" "id:1,phase:1,pass,nolog,ctl:ruleRemoveTargetById=2;ARGS:a"
			SecRule ARGS "@rx x" "id:2,phase:2,pass,` + log + `"`, "a=x", true, false},
		{"it hides the one value only",
			`SecRule REQUEST_FILENAME "@streq /" "id:1,phase:1,pass,nolog,ctl:ruleRemoveTargetById=2;ARGS:a"
			SecRule ARGS "@rx x" "id:2,phase:2,pass,` + log + `"`, "a=x&b=x", false, true},
		{"it lowers a count",
			`SecRule REQUEST_FILENAME "@streq /" "id:1,phase:1,pass,nolog,ctl:ruleRemoveTargetById=2;ARGS:a"
			SecRule &ARGS "@eq 0" "id:2,phase:2,pass,` + log + `"`, "a=x", false, true},
		{"it lowers the count of a name",
			`SecRule ARGS:b "@rx ." "id:1,phase:2,pass,nolog,ctl:ruleRemoveTargetById=2;ARGS:a"
			SecRule &ARGS:a "!@eq 1" "id:2,phase:2,pass,` + log + `"`, "a=x&b=1", false, true},
		{"it holds for the links of a chain",
			`SecRule REQUEST_FILENAME "@streq /" "id:1,phase:1,pass,nolog,ctl:ruleRemoveTargetById=2;ARGS:a"
			SecRule REQUEST_METHOD "@streq GET" "id:2,phase:2,pass,` + log + `,chain"
			SecRule ARGS "@rx x" ""`, "a=x", true, false},
		{"a rule is taken out at run time",
			`SecRule ARGS:a "@streq x" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=2"
			SecRule ARGS "@rx x" "id:2,phase:2,pass,` + log + `"`, "a=x", true, false},
		{"and stays otherwise",
			`SecRule ARGS:a "@streq x" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=2"
			SecRule ARGS "@rx x" "id:2,phase:2,pass,` + log + `"`, "a=xx", false, true},
		{"a rule that was decided is taken out",
			`SecRule ARGS:a "@streq x" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=2"
			SecAction "id:2,phase:1,pass,nolog,setvar:tx.safe=1"
			SecRule TX:safe "!@eq 1" "id:3,phase:2,pass,` + log + `"
			SecRule &TX:safe "@eq 0" "id:4,phase:2,pass,` + log + `"`, "a=x", false, true},
		{"a removal does not reach back",
			`SecRule ARGS "@rx x" "id:1,phase:2,pass,` + log + `"
			SecAction "id:2,phase:2,pass,nolog,ctl:ruleRemoveById=1"
			SecRule ARGS:b "@rx x" "id:3,phase:2,pass,nolog,ctl:ruleRemoveById=4"`, "a=x&b=x", false, true},
		{"multiMatch sees each stage", `SecRule ARGS:a "@streq A" "id:1,phase:2,pass,t:none,t:lowercase,multiMatch,` + log + `"`, "a=A", false, true},
		{"without it the last one only", `SecRule ARGS:a "@streq A" "id:1,phase:2,pass,t:none,t:lowercase,` + log + `"`, "a=A", true, false},
		{"t:none forgets the transformations before", `SecRule ARGS:a "@streq a" "id:1,phase:2,pass,t:lowercase,t:none,` + log + `"`, "a=A", true, false},
		{"MATCHED_VARS holds what earlier links matched, transformed",
			`SecRule ARGS "@rx x" "id:1,phase:2,pass,t:none,t:lowercase,log,msg:'m',chain"
			SecRule MATCHED_VARS "@streq xy" "t:none"`, "a=XY", false, true},
		{"a capture", `SecRule ARGS:a "@rx ^(.)(.)$" "id:1,phase:2,pass,log,msg:'m',capture,chain"
			SecRule TX:1 "@streq %{tx.2}" ""`, "a=ab", true, false},
		{"the same twice", `SecRule ARGS:a "@rx ^(.)(.)$" "id:1,phase:2,pass,log,msg:'m',capture,chain"
			SecRule TX:1 "@streq %{tx.2}" ""`, "a=bb", false, true},
		{"which of two captures is the last one is not known", `SecRule ARGS "@rx ^(.)(.)$" "id:1,phase:2,pass,log,msg:'m',capture,chain"
			SecRule TX:1 "@streq a" ""`, "a=bc&b=cd", false, false},
		{"a counter", `SecRule ARGS_NAMES "@rx ." "id:1,phase:2,pass,nolog,setvar:TX.n_%{MATCHED_VAR_NAME}=+1"
			SecRule TX:/n_.*/ "@gt 1" "id:2,phase:2,pass,` + log + `"`, "a=1&b=1", true, false},
		{"that reaches two", `SecRule ARGS_NAMES "@rx ." "id:1,phase:2,pass,nolog,setvar:TX.n_%{MATCHED_VAR_NAME}=+1"
			SecRule TX:/n_.*/ "@gt 1" "id:2,phase:2,pass,` + log + `"`, "a=1&a=1", false, true},
		{"a variable by a name that is made up",
			`SecRule ARGS:a "@rx ^(.*)$" "id:1,phase:2,pass,nolog,capture,setvar:tx.%{tx.1}=1"
			SecRule TX:evil "@eq 1" "id:2,phase:2,pass,` + log + `"`, "a=evil", false, true},
		{"skipAfter", `SecRule ARGS:a "@streq x" "id:1,phase:2,pass,nolog,skipAfter:END"
			SecRule ARGS "@rx x" "id:2,phase:2,pass,` + log + `"
			SecMarker END`, "a=x", true, false},
		{"skipAfter goes over to the next phase", `SecRule ARGS:a "@streq x" "id:1,phase:1,pass,nolog,skipAfter:END"
			SecRule ARGS "@rx x" "id:2,phase:2,pass,` + log + `"`, "a=x", true, false},
		{"skip", `SecRule ARGS:a "@streq x" "id:1,phase:2,pass,nolog,skip:1"
			SecRule ARGS "@rx x" "id:2,phase:2,pass,` + log + `"`, "a=x", true, false},
		{"skip counts rules of the phase that were decided", `SecRule ARGS:a "@streq x" "id:1,phase:2,pass,nolog,skip:1"
			SecAction "id:2,phase:2,pass,nolog,setvar:tx.y=1"
			SecRule ARGS "@rx x" "id:3,phase:2,pass,` + log + `"`, "a=x", false, true},
		{"what a skip may pass over is not known at load", `SecRule ARGS:a "@streq x" "id:1,phase:2,pass,nolog,skip:1"
			SecAction "id:2,phase:2,pass,nolog,setvar:tx.y=1"
			SecRule &TX:y "@eq 0" "id:3,phase:2,pass,` + log + `"`, "a=x", false, true},
		{"and is done where nothing is skipped", `SecRule ARGS:a "@streq x" "id:1,phase:2,pass,nolog,skip:1"
			SecAction "id:2,phase:2,pass,nolog,setvar:tx.y=1"
			SecRule &TX:y "@eq 0" "id:3,phase:2,pass,` + log + `"`, "a=y", true, false},
		{"allow", `SecRule ARGS:a "@streq x" "id:1,phase:1,allow,nolog"
			SecRule ARGS "@rx x" "id:2,phase:2,deny"`, "a=x", true, false},
		{"allow:phase", `SecRule ARGS:a "@streq x" "id:1,phase:1,allow:phase,nolog"
			SecRule ARGS "@rx x" "id:2,phase:1,deny"`, "a=x", true, false},
		{"allow:phase holds for the phase", `SecRule ARGS:a "@streq x" "id:1,phase:1,allow:phase,nolog"
			SecRule ARGS "@rx x" "id:2,phase:2,deny"`, "a=x", false, true},
		{"allow does nothing where the engine is off", `SecRule ARGS:a "@streq x" "id:1,phase:2,allow,nolog,ctl:ruleEngine=Off"
			SecRule ARGS "@rx x" "id:2,phase:2,pass,` + log + `"`, "a=x", false, true},
		{"the engine is switched off", `SecRule ARGS:a "@streq x" "id:1,phase:1,pass,nolog,ctl:ruleEngine=Off"
			SecRule ARGS "@rx x" "id:2,phase:2,deny"`, "a=x", true, false},
		{"a rule without a message is not reported", `SecRule ARGS "@rx x" "id:1,phase:2,pass,log"`, "a=x", true, false},
		{"a message in a later link is",
			`SecRule ARGS "@rx x" "id:1,phase:2,pass,log,chain"
			SecRule ARGS "@rx x" "msg:'m'"`, "a=x", false, true},
		{"phase 2 sees what phase 1 saw", `SecRule REQUEST_HEADERS:X "@rx x" "id:1,phase:2,pass,` + log + `"`, "a=1", true, false},
		{"scores that nothing has raised",
			`SecAction "id:1,phase:1,pass,nolog,setvar:tx.score=0"
			SecRule ARGS "@rx evil" "id:2,phase:2,pass,log,msg:'m',setvar:tx.score=+5"
			SecRule TX:score "@ge 5" "id:3,phase:2,deny"`, "a=good", true, false},
		{"scores that a silent rule raises",
			`SecAction "id:1,phase:1,pass,nolog,setvar:tx.score=0"
			SecRule ARGS "@rx evil" "id:2,phase:2,pass,nolog,setvar:tx.score=+5"
			SecRule TX:score "@ge 5" "id:3,phase:2,deny"`, "a=evil", false, true},
		{"what is captured stays in the engine",
			`SecRule ARGS:a "@rx (.)" "id:1,phase:2,pass,nolog,capture"
			SecRule TX:1 "@streq x" "id:2,phase:2,pass,` + log + `"`, "a=y", false, false},
		{"the names of a collection are not folded in a selector", `SecRule ARGS_NAMES:A "@rx a" "id:1,phase:2,pass,` + log + `"`, "a=1", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := load(t, []seclang.File{{Name: "rules", Text: strings.ReplaceAll(tt.rules, "\t", "") + "\n"}})
			if e.proof.Off() != "" {
				t.Fatal(e.proof.Off())
			}
			m := parse("GET /?" + tt.query + " HTTP/1.1\r\nHost: h\r\n\r\n")
			found := e.finding(t, m)
			if (found != "") != tt.found {
				t.Errorf("the engine finds %q", found)
			}
			// What has come twice is remembered.
			for range 3 {
				res, known := e.prove(m)
				if !known || res.Clean != tt.clean {
					t.Errorf("known %v, %+v", known, res)
				}
			}
		})
	}
}

// TestJSONBody holds that the engine's parser leaves a document in TX, which nobody
// sees but rules that look there.
func TestJSONBody(t *testing.T) {
	for rules, clean := range map[string]bool{
		`SecRule TX:/^json/ "!@rx nothing" "id:1,phase:2,pass,log,msg:'m'"`:              false,
		`SecRule &TX:json_request_body "@eq 1" "id:1,phase:2,pass,log,msg:'m'"`:          false,
		`SecRule ARGS "@within %{tx.json_request_body}" "id:1,phase:2,pass,log,msg:'m'"`: false,
		`SecRule &TX:json_request_body "@eq 1" "id:1,phase:1,pass,log,msg:'m'"`:          true,
		`SecRule TX:/^xml/ "!@rx nothing" "id:1,phase:2,pass,log,msg:'m'"`:               true,
	} {
		e := load(t, []seclang.File{{Name: "rules", Text: rules + "\n"}})
		m := post("/", "application/json", `{"a":"b"}`)
		if found := e.finding(t, m); (found == "") != clean {
			t.Errorf("%s: the engine finds %q", rules, found)
		}
		if res, known := e.prove(m); !known || res.Clean != clean {
			t.Errorf("%s: %+v", rules, res)
		}
	}
}

// TestOff holds the reasons for which nothing is proved, or a rule costs the proof.
func TestOff(t *testing.T) {
	for _, tt := range []struct {
		rules, off, reason string
	}{
		{`SecRuleEngine DetectionOnly`, "the engine is not on", ""},
		{`SecRule RULE:id "@rx 1" "id:1,phase:2,pass,nolog"`, "RULE", ""},
		{`SecRule ARGS "@restpath /{a}" "id:1,phase:2,pass,nolog"`, "@restpath", ""},
		{`SecRule HIGHEST_SEVERITY "@lt 3" "id:1,phase:2,pass,nolog"`, "", "HIGHEST_SEVERITY"},
		{`SecRule MATCHED_VAR "@rx x" "id:1,phase:2,pass,nolog"`, "", "earlier rule"},
		{`SecAction "id:1,phase:2,deny"`, "", "every request"},
		{`SecAction "id:1,phase:2,pass,nolog,setvar:tx.a"`, "", "without a value"},
		{`SecRule ARGS "@rx x" "id:1,phase:2,deny"`, "", ""},
	} {
		e := load(t, []seclang.File{{Name: "rules", Text: tt.rules + "\n"}})
		if off := e.proof.Off(); (tt.off == "") != (off == "") || !strings.Contains(off, tt.off) {
			t.Errorf("%s: off %q", tt.rules, off)
		}
		if why := e.proof.Reasons()[1]; (tt.reason == "") != (why == "") || !strings.Contains(why, tt.reason) {
			t.Errorf("%s: reason %q", tt.rules, why)
		}
	}
}

// TestFlood holds that values that come once do not drive out those that come often,
// and that a text over the budget is handed over and not remembered.
func TestFlood(t *testing.T) {
	e := load(t, []seclang.File{{Name: "rules", Text: `SecRule REQUEST_HEADERS "@rx evil\d" "id:1,phase:1,deny"` + "\n"}})
	hot := parse("GET / HTTP/1.1\r\nHost: h\r\nX: hot\r\n\r\n")
	misses := func(m *message) int {
		res, _ := e.prove(m)
		if !res.Clean {
			t.Fatalf("%+v", res)
		}
		return res.Cost.Texts
	}
	misses(hot)
	misses(hot)
	warm := misses(hot)
	cold := 0
	n := 20_000
	if testing.Short() || raceEnabled {
		n = 2_000
	}
	for i := range n {
		misses(parse(fmt.Sprintf("GET / HTTP/1.1\r\nHost: h\r\nX: cold%d\r\n\r\n", i)))
		if misses(hot) > warm {
			cold++
		}
	}
	if cold > 20 {
		t.Errorf("the value was driven out %d times", cold)
	}
	// The same value with another name, and one that only begins like it.
	for _, field := range []string{"X: evil1", "Y: evil1", "X: evil1", "X: evil1", "X: hotevil1"} {
		if res, _ := e.prove(parse("GET / HTTP/1.1\r\nHost: h\r\n" + field + "\r\n\r\n")); res.Clean {
			t.Errorf("%s is clean", field)
		}
	}
}

// TestCost holds that a request is handed over when it has cost too much.
func TestCost(t *testing.T) {
	e := load(t, coreRuleSet(1))
	e.proof.maxCost = 1000
	if res, _ := e.prove(get()); res.Clean || res.Why != "cost" {
		t.Errorf("%+v", res)
	}
}

// TestHostile holds that texts which ask for ever new states come to an end, and that
// others are proved afterwards.
func TestHostile(t *testing.T) {
	e := load(t, coreRuleSet(2))
	bound := e.proof.scans.automata.Size()
	for i := range 8 {
		var b strings.Builder
		for j := range 150 {
			fmt.Fprintf(&b, "%x select%d ' or \\\" union /*%d*/ <x%d ${%d} ../", i*j*7919, j, i, j, i)
		}
		m := post("/", "application/x-www-form-urlencoded", "a="+strings.NewReplacer(" ", "+", "%", "%25").Replace(b.String()))
		e.prove(m)
	}
	used := 0
	for _, s := range e.proof.scans.sets {
		if s.set != nil {
			used += s.set.Stats().Bytes
		}
	}
	if used > bound {
		t.Errorf("%d bytes of automata, over %d", used, bound)
	}
	var res Result
	for range 5 {
		res, _ = e.prove(get())
	}
	if !res.Clean {
		t.Errorf("%+v", res)
	}
}

// TestAllocs holds what a clean request allocates when its kind has come before. The
// seed of the hash is random, and now and then three values of a document share two
// places of a cache and are taken in anew each time: another engine has another seed.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, tt := range []struct {
		name string
		m    *message
		most float64
	}{
		{"GET", get(), 3}, {"form", form(), 3}, {"JSON", jsonOf(4000), 1}, {"multipart", upload(), 6},
	} {
		var got [3]float64
		for i := range got {
			e := load(t, coreRuleSet(1))
			for range 3 {
				e.prove(tt.m)
			}
			got[i] = testing.AllocsPerRun(50, func() {
				if res, _ := e.prove(tt.m); !res.Clean {
					t.Fatalf("%s: %+v", tt.name, res)
				}
			})
		}
		if slices.Min(got[:]) > tt.most {
			t.Errorf("%s: %v allocations with three seeds, want at most %v", tt.name, got, tt.most)
		}
	}
}

// TestAllocsFresh holds what a request allocates whose header values have never come
// before: no more than if they had, but for the engine's own transformations.
func TestAllocsFresh(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	e := load(t, coreRuleSet(1))
	var fresh []*message
	for i := range 60 {
		m := get()
		m.r.HTTP.Header.Set("Referer", fmt.Sprintf("https://shop.example.com/catalogue/%d", i))
		m.r.HTTP.Header.Set("X-Request-Id", fmt.Sprintf("%032x", 7919*i))
		m.r.HTTP.Header.Set("Cookie", fmt.Sprintf("sid=%032x; theme=t%d", 104729*i, i))
		fresh = append(fresh, m)
	}
	ask := func() {
		m := fresh[0]
		fresh = fresh[1:]
		if res, _ := e.prove(m); !res.Clean {
			t.Fatalf("%s: %+v", m.r.HTTP.Header, res)
		}
	}
	for range 5 {
		ask()
	}
	if got := testing.AllocsPerRun(50, ask); got > 5 {
		t.Errorf("%v allocations", got)
	}
}

// TestConcurrent uses one proof from several goroutines, from the first text on.
func TestConcurrent(t *testing.T) {
	e := load(t, coreRuleSet(1))
	all := corpus()[:40]
	want := make([]bool, len(all))
	for i, m := range all {
		want[i] = e.finding(t, m) == ""
	}
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range all {
				i = (i + n*10) % len(all)
				// The message is shared, its View is not.
				if res, known := e.prove(all[i]); known && res.Clean && !want[i] {
					t.Errorf("%s is clean", all[i].r.HTTP.RequestURI)
				}
			}
		})
	}
	wg.Wait()
}
