package waf

import (
	"slices"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
)

func TestExplain(t *testing.T) {
	for _, engine := range []string{"plain", "fast"} {
		s := mustNew(t, Config{Fast: engine == "fast"})
		explain := func(method, target, body string, header ...string) Explanation {
			r := filter.NewRequest(newHTTP(method, target, body, header...), testTime)
			defer r.Release()
			x, err := s.Explain(r)
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		x := explain("POST", "/a?q=tea", attackForm+"&long="+strings.Repeat("x", 5000), "Content-Type: "+formType)
		if x.Decision.Reason != filter.ReasonPayload || x.Kind != "form" || x.Processor != "URLENCODED" || x.Score < 5 {
			t.Errorf("%s: %+v", engine, x.Inspection)
		}
		if !slices.Contains(x.Values, Value{"ARGS_GET", "q", "tea"}) || !slices.Contains(x.Values, Value{"REQUEST_FILENAME", "", "/a"}) {
			t.Errorf("%s: values %+v", engine, x.Values)
		}
		for _, v := range x.Values {
			if len(v.Value) > maxExplainedBytes+3 {
				t.Errorf("%s: %s has %d bytes", engine, v.Name, len(v.Value))
			}
		}
		if !slices.ContainsFunc(x.Matches, func(m Match) bool {
			return m.Rule == 942100 && m.Name == "id" && strings.Contains(m.Message, "libinjection") && strings.Contains(m.Value.Value, "UNION SELECT")
		}) {
			t.Errorf("%s: matches %+v", engine, x.Matches)
		}
		x = explain("GET", "/?q=tea", "")
		if x.Decision.Refuses() || len(x.Matches) != 0 || x.Proved != (engine == "fast") || x.Kind != "none" {
			t.Errorf("%s: %+v", engine, x)
		}
		x = explain("POST", "/", strings.Repeat("a", DefaultBodyLimit+1), "Content-Type: text/plain")
		if x.Judged.Path != PathBody || x.Decision.Reason != filter.ReasonOversize {
			t.Errorf("%s: %+v", engine, x)
		}
	}
}
