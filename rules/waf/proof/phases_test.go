package proof_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf"
	"github.com/moatwaf/moat/rules/waf/crscorpus"
	"github.com/moatwaf/moat/rules/waf/proof"
	"github.com/moatwaf/moat/rules/waf/view"
)

// The proof looks at a value once, in phase 1, unless phase 2 may see it otherwise. So
// what it takes for the same in both must be the same in the engine.

const phasesAction = "proofphases"

func init() {
	plugins.RegisterAction(phasesAction, func() plugintypes.Action { return &phases{} })
}

// phases takes down what every variable holds.
type phases struct{ phase string }

func (p *phases) Init(_ plugintypes.RuleMetadata, phase string) error {
	p.phase = phase
	return nil
}

func (p *phases) Type() plugintypes.ActionType { return plugintypes.ActionTypeNondisruptive }

func (p *phases) Evaluate(_ plugintypes.RuleMetadata, tx plugintypes.TransactionState) {
	v, ok := taken.Load(tx.ID())
	if !ok {
		return
	}
	all := map[variables.RuleVariable]string{}
	for n := range 256 {
		c := variables.RuleVariable(n)
		if c.Name() == "UNKNOWN" || c.Name() == "INVALID_VARIABLE" {
			continue
		}
		m := tx.Collection(c)
		if m == nil {
			continue
		}
		var values []string
		for _, d := range m.FindAll() {
			values = append(values, fmt.Sprintf("%q=%q", d.Key(), d.Value()))
		}
		slices.Sort(values)
		all[c] = strings.Join(values, " ")
	}
	v.(map[string]map[variables.RuleVariable]string)[p.phase] = all
}

var taken sync.Map

// phaseRequests are requests of all kinds of bodies, and without.
func phaseRequests(tb testing.TB) []func() *http.Request {
	var all []func() *http.Request
	add := func(method, target, contentType, body string, chunked bool) {
		all = append(all, func() *http.Request {
			raw := method + " " + target + " HTTP/1.1\r\nHost: www.example.com\r\nCookie: a=1; b=2\r\nUser-Agent: test\r\n"
			if contentType != "" {
				raw += "Content-Type: " + contentType + "\r\n"
			}
			if chunked {
				raw += fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
			} else {
				raw += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
			}
			hr, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
			if err != nil {
				tb.Fatalf("%q: %v", raw, err)
			}
			hr.RemoteAddr = "198.51.100.7:40000"
			return hr
		})
	}
	bodies := []string{
		"", "a=1&b=%41&a=2&=x&c", "{\"a\":[1,{\"b\":\"c\"}],\"query\":\"{ a(b: \\\"c\\\") }\"}", "{\"a\":1}\n{\"a\":2}\n", "{broken",
		`<?xml version="1.0"?><r a="1"><b>text</b></r>`, "<broken", "just text", strings.Repeat("p=1&", 1100), strings.Repeat("long=text&", 700),
		"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename*=utf-8'en'x%20y\r\nContent-Type: text/plain\r\n\r\nfile\r\n--b--\r\n",
		"--b\r\nContent-Disposition: form-data; name='a'; name=b\r\nContent-Disposition: form-data; filename=x\r\n\r\n1\r\n--b--\r\nbehind",
	}
	for _, contentType := range []string{
		"", "application/x-www-form-urlencoded", "application/json", "application/x-ndjson", "text/xml", "text/plain",
		"multipart/form-data; boundary=b", "multipart/mixed", "application/octet-stream", "x/y",
	} {
		for i, body := range bodies {
			add([]string{"POST", "PUT", "GET"}[i%3], "/a/b.php?q=1&a=get&q=2", contentType, body, i%2 == 1)
		}
	}
	return append(all, func() *http.Request {
		hr, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET http://other/x?y=%zz HTTP/1.0\r\n\r\n")))
		if err != nil {
			tb.Fatal(err)
		}
		return hr
	})
}

// TestLater holds what is looked at anew in phase 2 against the engine: for requests of
// all kinds, and the corpus of the CRS, no other variable has changed between the phases.
func TestLater(t *testing.T) {
	const dumps = "SecAction \"id:%d,phase:%s,pass,nolog," + phasesAction + ":%s\"\n"
	stage := func(rules string) *waf.Stage {
		s, err := waf.New(waf.Config{Oversize: waf.OversizeInspect, BodyLimit: 5 << 10, Include: []waf.Include{{Name: "phases", Text: fmt.Sprintf(dumps, 1, "1", "1") + rules + fmt.Sprintf(dumps, 2, "2", "2") +
			// What cannot be read is refused before: these let it come to the dump.
			"SecRuleRemoveById 200002\nSecRuleRemoveById 200003\nSecRuleRemoveById 200004\nSecRuleRemoveById 200005\nSecRuleRemoveById 200009\n"}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	requests := phaseRequests(t)
	all := crscorpus.All()
	step := 7
	if testing.Short() {
		step = 60
	}
	for i := 0; i < len(all); i += step {
		if _, err := all[i].Request(); err == nil && !all[i].Response() {
			requests = append(requests, func() *http.Request {
				hr, err := all[i].Request()
				if err != nil {
					t.Fatal(err)
				}
				return hr
			})
		}
	}
	changed := map[variables.RuleVariable]int{}
	both := 0
	for _, rules := range []string{"",
		"SecRule REQUEST_METHOD \"@streq POST\" \"id:10,phase:1,pass,nolog,ctl:requestBodyProcessor=URLENCODED\"\n",
		"SecAction \"id:10,phase:1,pass,nolog,ctl:forceRequestBodyVariable=On,ctl:requestBodyLimit=100\"\n",
		"SecAction \"id:10,phase:1,pass,nolog,ctl:requestBodyAccess=Off\"\n",
	} {
		s := stage(rules)
		for _, request := range requests {
			r := filter.NewRequest(request(), time.Unix(1700000000, 0))
			r.Client = r.Peer
			seen := map[string]map[variables.RuleVariable]string{}
			taken.Store(r.ID(), seen)
			if _, err := s.Check(r); err != nil && err != io.ErrUnexpectedEOF {
				t.Fatal(err)
			}
			taken.Delete(r.ID())
			if seen["1"] != nil && seen["2"] != nil {
				both++
				for c, value := range seen["1"] {
					if seen["2"][c] != value {
						changed[c]++
					}
				}
			}
			r.Release()
		}
	}
	if both < 150 {
		t.Fatalf("only %d requests came to phase 2", both)
	}

	// What a proof does not look at, or knows by itself: what rules have done and
	// found, and clocks.
	own := map[string]bool{"TX": true, "RULE": true, "DURATION": true, "MATCHED_VAR": true, "MATCHED_VARS": true, "MATCHED_VAR_NAME": true,
		"MATCHED_VARS_NAMES": true, "HIGHEST_SEVERITY": true, "TIME": true, "TIME_SEC": true}
	for _, c := range slices.Sorted(maps.Keys(changed)) {
		switch name := c.Name(); {
		case proof.Later(c), own[name]:
		case name == "ARGS" || name == "ARGS_NAMES" || name == "ARGS_POST_NAMES" || name == "XML":
			// Those are joined of others.
		case view.Knows(c):
			t.Errorf("%s has changed in %d of %d requests, and is looked at in phase 1 only", name, changed[c], both)
		default:
			t.Logf("%s, which a view does not have, has changed in %d of %d requests", name, changed[c], both)
		}
	}
	// What is looked at anew must have a reason: it changes, or nobody here can make the
	// engine change it.
	still := map[string]bool{"ARGS_PATH": true, "FILES_TMP_CONTENT": true, "URLENCODED_ERROR": true, "MULTIPART_DATA_AFTER": true, "FULL_REQUEST_LENGTH": true, "MULTIPART_INVALID_QUOTING": true}
	for n := range 256 {
		c := variables.RuleVariable(n)
		if proof.Later(c) && changed[c] == 0 && !still[c.Name()] {
			t.Errorf("%s has not changed in any request", c.Name())
		}
		if still[c.Name()] && changed[c] > 0 {
			t.Logf("%s does change", c.Name())
		}
	}
	t.Logf("%d requests in both phases; %d variables have changed", both, len(changed))
}
