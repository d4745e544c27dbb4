package match

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules"
)

func TestValue(t *testing.T) {
	hr := httptest.NewRequest("POST", "http://Shop.example/a?b=c", nil)
	hr.Header.Set("X-Plan", "pro")
	r := filter.NewRequest(hr, time.Now())
	for _, c := range []struct{ expr, want string }{
		{"http.host", "shop.example"},
		{`http.request.method + " " + http.request.headers["x-plan"]`, "POST pro"},
		{"ip.src.asnum", "0"},
		{`http.request.method == "POST"`, "true"},
	} {
		v, errs := CompileValue(rules.Located[string]{Value: c.expr, Pos: rules.Position{Line: 1}}, nil)
		if errs != nil {
			t.Errorf("%s: %v", c.expr, errs)
			continue
		}
		if got, err := v.Value(r); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.expr, got, err, c.want)
		}
	}
	for expr, want := range map[string]string{
		"http.request.headers": "not a text",
		"http.hots":            "unknown name",
		"1.5":                  "not a text",
		"":                     "empty",
	} {
		v, errs := CompileValue(rules.Located[string]{Value: expr, Pos: rules.Position{Line: 1}}, nil)
		if v != nil || errs == nil || !strings.Contains(errs.Error(), want) {
			t.Errorf("%q: %v, want a fault with %q", expr, errs, want)
		}
	}
}

func TestValueThatCannotBeEvaluated(t *testing.T) {
	v, errs := CompileValue(rules.Located[string]{Value: `http.request.headers["x-secret"]`, Pos: rules.Position{Line: 1}}, nil)
	if errs != nil {
		t.Fatal(errs)
	}
	r := filter.NewRequest(httptest.NewRequest("GET", "/", nil), time.Now())
	if got, err := v.Value(r); got != "" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := v.Value(&filter.Request{}); err == nil {
		t.Error("there is a value without a request")
	}
}
