package waf

import (
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
)

// TestCostlyRequests is the table of what becomes of a request that costs too much.
func TestCostlyRequests(t *testing.T) {
	dear := strings.Repeat("<!--", 100_000) // what a rule matches, and all others have to read
	good := "a=" + strings.Repeat("tea+", 8192)
	form := func(body string) func() *http.Request {
		return func() *http.Request { return newHTTP("POST", "/", body, "Content-Type: "+formType) }
	}
	const (
		passes   = "passes"
		refused  = "refused"
		oversize = "oversize"
	)
	kinds := []struct {
		name    string
		request func() *http.Request
		want    [3]string // block, inspect, pass
	}{
		{"a body", form("a=" + dear), [3]string{oversize, refused, passes}},
		{"a body that begins well", form(good + "&b=" + dear), [3]string{oversize, passes, passes}},
		{"an attack behind what is affordable", form(good + "&b=" + dear + "&" + attackForm), [3]string{oversize, passes, passes}},
		{"XML of many attributes", func() *http.Request {
			return newHTTP("POST", "/", "<a "+strings.Repeat(`b="c" `, 4000)+"/>", "Content-Type: text/xml")
		}, [3]string{oversize, oversize, passes}},
		{"many files", func() *http.Request {
			part := "--x\r\nContent-Disposition: form-data; name=a; FileName=a.txt\r\n\r\n1\r\n"
			attack := "--x\r\nContent-Disposition: form-data; name=b\r\n\r\n1' union select password from users-- -\r\n"
			return newHTTP("POST", "/", strings.Repeat(part, 300)+attack+"--x--\r\n", "Content-Type: multipart/form-data; boundary=x")
		}, [3]string{oversize, passes, passes}},
		{"a cookie", func() *http.Request { return newHTTP("GET", "/", "", "Cookie: a="+dear) }, [3]string{oversize, oversize, oversize}},
		{"a query", func() *http.Request {
			r := newHTTP("GET", "/", "")
			r.RequestURI = "/?a=" + dear
			return r
		}, [3]string{oversize, oversize, oversize}},
	}
	for i, o := range []Oversize{OversizeBlock, OversizeInspect, OversizePass} {
		for _, engine := range []string{"plain", "fast"} {
			if raceSlows > 1 && engine == "plain" && o != OversizeBlock {
				continue
			}
			s := mustNew(t, Config{Oversize: o, Fast: engine == "fast"})
			for _, k := range kinds {
				t.Run(o.String()+"/"+engine+"/"+k.name, func(t *testing.T) {
					d := check(t, s, k.request())
					got := passes
					if d.Refuses() {
						got = refused
					}
					if d.Reason == filter.ReasonOversize && k.want[i] == oversize {
						got = oversize
					}
					want := k.want[i]
					if engine == "fast" && k.name == "many files" {
						want = refused // which that one can afford to inspect
					}
					if got != want {
						t.Errorf("%v %v %v, want %v", d.Verdict, d.Reason, d.Payload, want)
					}
					if d.Reason == filter.ReasonOversize && d.StatusCode() != http.StatusRequestEntityTooLarge {
						t.Errorf("status %d, want 413", d.StatusCode())
					}
				})
			}
		}
	}
}

// TestCostIsCounted holds the estimate against what it is made of.
func TestCostIsCounted(t *testing.T) {
	const rules = `SecRule ARGS:a "@rx x{1,9}y" "id:1,phase:2,pass,t:none,t:lowercase,nolog"
SecRule ARGS "@detectSQLi" "id:2,phase:2,pass,t:none,nolog"
SecRule REQUEST_URI "@contains x" "id:3,phase:1,pass,t:none,nolog"
SecRule TX:DETECTION_PARANOIA_LEVEL "@lt 2" "id:4,phase:2,pass,nolog,skipAfter:END"
SecRule ARGS "@rx (a|b|c)+d" "id:5,phase:2,pass,nolog"
SecMarker END
SecAction "id:6,phase:1,nolog,pass,setvar:tx.detection_paranoia_level=1"
`
	s := mustNew(t, inline(rules))
	c := s.loaded.budget.rules.Load()
	estimate := func(value string) int {
		tx := s.loaded.waf.NewTransaction().(transaction)
		defer func() { _ = tx.Close() }()
		tx.ProcessURI("/", "POST", "HTTP/1.1")
		if it := tx.ProcessRequestHeaders(); it != nil {
			t.Fatal(it)
		}
		tx.AddPostRequestArgument("a", value)
		if _, err := tx.ProcessRequestBody(); err != nil { // LastPhase is 2 from here on
			t.Fatal(err)
		}
		return c.cost(tx, math.MaxInt)
	}
	short, long, quoted := estimate("tea"), estimate(strings.Repeat("tea", 10_000)), estimate(strings.Repeat("'", 30_000))
	if short <= 0 || long < 1000*short/100 || quoted < 3*long/2 {
		t.Errorf("3 bytes %d, 30,000 bytes %d, 30,000 quotes %d", short, long, quoted)
	}
	for _, r := range c.phases[2] {
		if r.id == 5 {
			t.Error("a rule of a higher paranoia level counts")
		}
	}
}

// TestSmallRequestsAreNotWeighed holds that ordinary requests do not pay for it.
func TestSmallRequestsAreNotWeighed(t *testing.T) {
	s := mustNew(t, inline(`SecRule ARGS "@rx evil" "id:1,phase:2,deny"`))
	check(t, s, newHTTP("GET", "/?q=tea", ""))
	if c := s.loaded.budget.rules.Load(); len(c.phases[2]) != 0 {
		t.Error("the rules were weighed for a small request")
	}
}

func TestNesting(t *testing.T) {
	for text, want := range map[string]int{
		``: 0, `1`: 0, `[]`: 1, `[1]`: 2, `{"a":1}`: 6, `[[1]]`: 6, `["]"]`: 4, `["\"]"]`: 6, `[`: 1, `]`: -1,
	} {
		if got := nesting([]byte(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

func TestTooMuchXML(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want bool
	}{
		"empty":               {"", false},
		"an attribute":        {`<a b="c"/>`, false},
		"three":               {`<a b="1" c="2" d="3"/>`, true},
		"in two elements":     {`<a b="1" c="2"><a b="1" c="2"/></a>`, false},
		"text is not a tag":   {`<a>a=1 b=2 c=3</a>`, false},
		"open to the end":     {`<a b=1 c=2 d=3`, true},
		"a declaration":       {`<?xml a=1 b=2 c=3?><a/>`, false},
		"CDATA":               {`<a><![CDATA[a=1 b=2 c=3]]></a>`, false},
		"too many elements":   {strings.Repeat("<a>", maxXMLElements+1), true},
		"too large":           {"<a>" + strings.Repeat("x", maxXMLBytes) + "</a>", true},
		"ends in an opening":  {"<a/><", false},
		"only opening braces": {"<<<", false},
	} {
		if got := tooMuchXML([]byte(tt.text), 2); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// TestTooDear is the table of hand-overs that are not affordable.
func TestTooDear(t *testing.T) {
	for name, tt := range map[string]struct {
		h           handover
		size, small int
		want        bool
	}{
		"small, whatever it has cost": {handover{cause: causeCost, spent: maxProofCost}, smallFast, smallFast, false},
		"the proof has cost too much": {handover{cause: causeCost, spent: maxProofCost}, 100 << 10, smallFast, true},
		"a finding in 100 KB":         {handover{cause: causeRule, spent: 4_000_000}, 100 << 10, smallFast, false},
		"a finding in 1 MiB":          {handover{cause: causeRule, spent: 12_000_000}, 1 << 20, smallFast, true},
		"a finding after dear texts":  {handover{cause: causeRule, spent: maxFound + 1}, 16 << 10, smallFast, true},
		"the same, small":             {handover{cause: causeRule, spent: maxFound + 1}, smallFast, smallFast, false},
		"a shape that is not known":   {handover{cause: causeShape}, 1 << 20, smallFast, false},
		"without bounds":              {handover{cause: causeRule, spent: maxProofCost}, 1 << 20, math.MaxInt, false},
	} {
		if got := tt.h.tooDear(tt.size, tt.small); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
