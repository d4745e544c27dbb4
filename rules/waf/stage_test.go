package waf

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moatwaf/moat/filter"
)

func TestDecision(t *testing.T) {
	s := readyStage(t)
	d := check(t, s, newHTTP("GET", "/?q=1%27+UNION+SELECT+password+FROM+users--", ""))
	if d.Verdict != filter.Block || d.Reason != filter.ReasonPayload || d.Rule != "949110" || d.Status != 0 || d.StatusCode() != 403 {
		t.Errorf("%+v", d)
	}
	if p := d.Payload; p == nil || p.Threshold != 5 || p.Score < 5 || !slices.Contains(p.Rules, 942100) ||
		slices.ContainsFunc(p.Rules, func(id int) bool { return id >= 949000 || id < 910000 }) {
		t.Errorf("payload %+v", d.Payload)
	}
	if s.Name() != "payload" || s.NumRules() < 500 {
		t.Errorf("%q, %d rules", s.Name(), s.NumRules())
	}
}

// TestRulesBounded holds that a decision lists no more rules than it may.
func TestRulesBounded(t *testing.T) {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, "SecRule ARGS \"@streq x\" \"id:%d,phase:2,pass,log,msg:'m'\"\n", i+1)
	}
	b.WriteString("SecRule ARGS \"@streq x\" \"id:999,phase:2,deny,status:599,msg:'end'\"\n")
	s := mustNew(t, inline(b.String()))
	d := check(t, s, newHTTP("GET", "/?a=x&b=x", ""))
	if d.Rule != "999" || d.StatusCode() != 599 || len(d.Payload.Rules) != maxMatched || d.Payload.Threshold != 0 {
		t.Errorf("%+v %+v", d, d.Payload)
	}
}

// TestVariables holds what the rules are told of connection and request line.
func TestVariables(t *testing.T) {
	expect := func(target, operator string) *Stage {
		return mustNew(t, inline("SecRule "+target+" \"!"+operator+"\" \"id:1,phase:1,deny,msg:'m'\"\n"))
	}
	v6 := func() *http.Request {
		r := newHTTP("GET", "/a%2Fb?x=%41", "")
		r.RemoteAddr = "[2001:db8::7%eth0]:4711"
		r.RequestURI = "/a%2Fb?x=%41"
		return r
	}
	chunked := func() *http.Request {
		r, _ := post("text/plain", []byte("x"), -1)
		return r
	}
	for _, tt := range []struct {
		target, operator string
		request          func() *http.Request
	}{
		{"REMOTE_ADDR", "@streq 2001:db8::7", v6},
		{"REMOTE_PORT", "@eq 4711", v6},
		{"REQUEST_URI_RAW", "@streq /a%2Fb?x=%41", v6},
		{"REQUEST_PROTOCOL", "@streq HTTP/1.1", v6},
		{"REQUEST_LINE", "@streq GET /a%2Fb?x=%41 HTTP/1.1", v6},
		{"REQUEST_HEADERS:Host", "@streq shop.example.com", v6},
		{"SERVER_NAME", "@streq shop.example.com", v6},
		{"REQUEST_HEADERS:Transfer-Encoding", "@streq chunked", chunked},
		{"REQUEST_HEADERS:Content-Length", "@eq 3", func() *http.Request { r, _ := post("text/plain", []byte("abc"), 3); return r }},
		{"&REQUEST_HEADERS:Content-Length", "@eq 0", chunked},
	} {
		if d := check(t, expect(tt.target, tt.operator), tt.request()); d.Verdict != filter.Continue {
			t.Errorf("%s is not %s", tt.target, tt.operator)
		}
	}
	// The client that a trusted proxy names, without the proxy's port.
	s := mustNew(t, inline("SecRule REMOTE_ADDR \"!@streq 192.0.2.9\" \"id:1,phase:1,deny,msg:'m'\"\nSecRule REMOTE_PORT \"!@eq 0\" \"id:2,phase:1,deny,msg:'m'\"\n"))
	r := filter.NewRequest(newHTTP("GET", "/", ""), testTime)
	r.Client = filter.PeerAddr("192.0.2.9:1")
	if d, err := s.Check(r); err != nil || d.Verdict != filter.Continue {
		t.Errorf("rule %s, %v", d.Rule, err)
	}
}

// TestConcurrent is for the race detector: one stage, many requests, and stages
// of the same content coming and going.
func TestConcurrent(t *testing.T) {
	c := inline("SecRule ARGS \"@rx ^bad$\" \"id:1,phase:2,t:none,t:lowercase,deny,msg:'m'\"\n")
	s := mustNew(t, c)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if d := check(t, s, newHTTP("POST", "/", `{"a":["BAD"]}`, "Content-Type: application/json")); d.Rule != "1" {
					t.Error("an attack got through")
				}
				other, err := New(c)
				if err != nil {
					t.Error(err)
					return
				}
				if d := check(t, other, newHTTP("GET", "/?a=good", "")); d.Verdict != filter.Continue {
					t.Error("a clean request is refused")
				}
				_ = other.Close()
			}
		})
	}
	wg.Wait()
}

// TestLocate holds that a fault which only the whole shows has its place too.
func TestLocate(t *testing.T) {
	c := inline("SecRule ARGS \"@rx a\" \"id:1,phase:2,deny\"\n# c\nSecRuleRemoveById 1\nSecRuleUpdateTargetById 1 \"!ARGS:q\"\nSecRule ARGS \"@rx a\" \"id:2,phase:2,deny\"\n")
	s, err := New(c)
	if err == nil {
		_ = s.Close()
		t.Fatal("no error")
	}
	if want := `/rules.conf:4: SecRuleUpdateTargetById: rule "1" not found`; err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
