package waf

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// controlRequests are requests that fire the rules of controls, and the same that do
// not: the path says which.
func controlRequests() []func() *http.Request {
	var all []func() *http.Request
	add := func(method, target, body, contentType string) {
		for _, path := range []string{"/fire", "/calm"} {
			all = append(all, func() *http.Request {
				if contentType == "" {
					return newHTTP(method, path+target, body, "X-Note: evil note", "Cookie: c=evil")
				}
				return newHTTP(method, path+target, body, "Content-Type: "+contentType)
			})
		}
	}
	add("GET", "?a=evil&b=evil", "", "")
	add("GET", "?a=tea", "", "")
	for contentType, bodies := range map[string][]string{
		formType:                          {"a=evil&b=tea", "a=tea&b=evil&c=1", "a=tea", "%zz=%", strings.Repeat("a=evil&", 60)},
		"application/json":                {`{"a":"evil","b":["evil"]}`, `{"a":"tea"}`, `{"a":`, `a=evil`, `{"a":"` + strings.Repeat("evil ", 60) + `"}`},
		"text/xml":                        {`<a b="evil">evil</a>`, `<a>tea</a>`, `<a`, "a=evil"},
		"text/plain":                      {"evil", "a=evil&b=1", "tea", `{"a":"evil"}`, strings.Repeat("tea evil ", 50)},
		"multipart/form-data; boundary=b": {"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nevil\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"evil.txt\"\r\n\r\nevil\r\n--b--\r\n", "a=evil"},
		"application/octet-stream":        {"a=evil", "evil"},
		"image/png":                       {"evil"},
	} {
		for _, body := range bodies {
			add("POST", "?q=1", body, contentType)
		}
	}
	return all
}

// findings are rules that find something in many places; CRS rules among them where the
// CRS is loaded.
const findings = `
SecRule ARGS_GET "@contains evil" "id:101,phase:1,pass,msg:'one',tag:'t/one'"
SecRule REQUEST_HEADERS|REQUEST_COOKIES "@contains evil" "id:102,phase:1,pass,msg:'two',tag:'t/two'"
SecRule ARGS "@contains evil" "id:103,phase:2,pass,msg:'three',tag:'t/one',setvar:tx.blocking_inbound_anomaly_score=+3"
SecRule ARGS_POST:a|ARGS_POST:json.a|ARGS_POST:body "@contains evil" "id:104,phase:2,pass,msg:'four',tag:'t/two'"
SecRule REQUEST_BODY "@contains evil" "id:105,phase:2,pass,msg:'five'"
SecRule XML:/* "@contains evil" "id:106,phase:2,pass,msg:'six'"
SecRule FILES "@contains evil" "id:107,phase:2,pass,msg:'seven'"
SecRule &ARGS "@gt 2" "id:108,phase:2,pass,msg:'eight'"
SecRule REQBODY_PROCESSOR "@rx ^(?:RAW|JSON|XML|URLENCODED|MULTIPART)$" "id:109,phase:2,pass,msg:'nine'"
SecRule REQUEST_BODY_LENGTH "@gt 3" "id:110,phase:2,pass,msg:'ten'"
SecRule ARGS:b "!@streq tea" "id:111,phase:2,pass,msg:'eleven'"
SecRule ARGS "@contains evil" "id:112,phase:2,deny,status:418,msg:'twelve',tag:'t/last',chain"
SecRule REQUEST_URI "@contains q=1" "t:none"
`

// controls are what a rule of an operator may switch while a request is judged.
var controls = []string{
	"requestBodyLimit=100", "requestBodyLimit=5", "requestBodyLimit=0", "requestBodyLimit=1000000",
	"requestBodyAccess=Off", "requestBodyAccess=On",
	"forceRequestBodyVariable=On", "forceRequestBodyVariable=Off",
	"requestBodyProcessor=URLENCODED", "requestBodyProcessor=JSON", "requestBodyProcessor=XML", "requestBodyProcessor=MULTIPART", "requestBodyProcessor=RAW",
	"requestBodyProcessor=json",
	"ruleEngine=Off", "ruleEngine=DetectionOnly", "ruleEngine=On",
	"ruleRemoveById=103", "ruleRemoveById=101-104", "ruleRemoveById=112", "ruleRemoveById=99",
	"ruleRemoveByTag=t/one", "ruleRemoveByTag=t/last", "ruleRemoveByTag=nothing",
	"ruleRemoveByMsg=three", "ruleRemoveByMsg=twelve",
	"ruleRemoveTargetById=103;ARGS:a", "ruleRemoveTargetById=103;ARGS", "ruleRemoveTargetById=103;ARGS:/^j/", "ruleRemoveTargetById=102;REQUEST_HEADERS:X-Note",
	"ruleRemoveTargetById=102;REQUEST_COOKIES:c", "ruleRemoveTargetById=111;ARGS:b", "ruleRemoveTargetById=108;ARGS:a", "ruleRemoveTargetById=101-105;ARGS:a",
	"ruleRemoveTargetById=112;ARGS:json.a", "ruleRemoveTargetById=106;XML:/*", "ruleRemoveTargetById=107;FILES", "ruleRemoveTargetById=112;REQUEST_URI",
	"ruleRemoveTargetByTag=t/one;ARGS:a", "ruleRemoveTargetByTag=t/two;ARGS_POST:body", "ruleRemoveTargetByTag=t/last;ARGS",
	"ruleRemoveTargetByMsg=three;ARGS:body", "ruleRemoveTargetByMsg=four;ARGS_POST:a",
}

// holdControl holds a set of rules against the engine, with every request.
func holdControl(tb testing.TB, rules string) (engine, all int) {
	tb.Helper()
	plain, err := New(inline(rules))
	judged, errFast := New(fast(inline(rules)))
	if err != nil || errFast != nil {
		if err == nil || errFast == nil || err.Error() != errFast.Error() {
			tb.Fatalf("%v, with the fast engine %v", err, errFast)
		}
		return 0, 0 // refused at load, in both engines alike
	}
	defer plain.Close()
	defer judged.Close()
	for _, request := range controlRequests() {
		all++
		if j := equally(tb, plain, judged, request); j.Path == PathEngine {
			engine++
			if j.Cause == "rule" && j.What == "" {
				tb.Errorf("rule %d is why the engine is asked, and nothing says more", j.Rule)
			}
		}
	}
	return engine, all
}

// TestControls holds what operators' rules switch at run time against the engine, with
// requests that fire the rule and requests that do not.
func TestControls(t *testing.T) {
	why := map[string]string{}
	for _, phase := range []int{1, 2} {
		for _, control := range controls {
			if raceSlows > 1 && (phase == 2 || strings.Contains(control, "Target")) {
				continue
			}
			name := fmt.Sprintf("%d/%s", phase, control)
			t.Run(name, func(t *testing.T) {
				rule := fmt.Sprintf("SecRule REQUEST_URI \"@beginsWith /fire\" \"id:1,phase:%d,pass,nolog,ctl:%s\"\n", phase, control)
				engine, all := holdControl(t, rule+findings)
				why[name] = fmt.Sprintf("%d of %d by the engine", engine, all)
				if t.Failed() {
					t.Log(rule)
				}
			})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(why)) {
		t.Logf("%-45s %s", name, why[name])
	}
}

// TestControlsTogether is the same for several at once, in rules that look at the body
// or at what others have matched, and that come in any place.
func TestControlsTogether(t *testing.T) {
	n := 250
	switch {
	case raceSlows > 1:
		n = 6
	case testing.Short():
		n = 40
	}
	conditions := []string{
		`REQUEST_URI "@beginsWith /fire"`, `REQUEST_METHOD "@streq POST"`, `ARGS:a "@contains evil"`, `REQUEST_HEADERS:Content-Type "@contains json"`,
		`&ARGS_POST "@gt 1"`, `REQBODY_PROCESSOR "!@streq RAW"`, `ARGS_NAMES "@rx ^json"`, `TX:seen "@eq 1"`,
	}
	for seed := range uint64(n) {
		r := rand.New(rand.NewPCG(seed, 11))
		parts := strings.SplitAfter(strings.TrimSpace(findings)+"\n", "\n")
		// The links of a chain stay together.
		last := len(parts) - 3
		parts[last] += parts[last+1]
		parts = parts[:last+1]
		for i := range 1 + r.IntN(4) {
			var actions strings.Builder
			for range 1 + r.IntN(2) {
				actions.WriteString(",ctl:" + controls[r.IntN(len(controls))])
			}
			if r.IntN(3) == 0 {
				actions.WriteString(",setvar:tx.seen=1")
			}
			rule := fmt.Sprintf("SecRule %s \"id:%d,phase:%d,pass,nolog%s\"\n", conditions[r.IntN(len(conditions))], 1+i, 1+r.IntN(2), actions.String())
			parts = slices.Insert(parts, r.IntN(len(parts)+1), rule)
		}
		rules := strings.Join(parts, "")
		if holdControl(t, rules); t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, rules)
		}
	}
}
