package filtertest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter"
)

// stageFunc is a stage of one function.
type stageFunc func(*filter.Request) (filter.Decision, error)

func (stageFunc) Name() string { return "test" }

func (f stageFunc) Check(r *filter.Request) (filter.Decision, error) { return f(r) }

func TestSuitePassesGoodStages(t *testing.T) {
	good := map[string]stageFunc{
		"no opinion": func(*filter.Request) (filter.Decision, error) { return filter.Next(), nil },
		"reads the body": func(r *filter.Request) (filter.Decision, error) {
			if r.HTTP == nil {
				return filter.Decision{}, io.ErrUnexpectedEOF
			}
			_, _, err := r.ReadBody(1000)
			return filter.Next(), err
		},
		"reads the readings": func(r *filter.Request) (filter.Decision, error) {
			d := filter.Next()
			r.EachReading(func(r *filter.Request) {
				if strings.HasPrefix(r.Path, "/admin") {
					d = filter.Decision{Verdict: filter.Block, Reason: filter.ReasonRule}
				}
			})
			return d, nil
		},
	}
	for name, s := range good {
		t.Run(name, func(t *testing.T) { Stage(t, s) })
	}
}

// recorder collects faults instead of failing.
type recorder struct{ faults []string }

func (*recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

func TestSuiteFindsFaults(t *testing.T) {
	next := filter.Next()
	tests := []struct {
		name  string
		stage stageFunc
		fault string
	}{
		{"panic", func(r *filter.Request) (filter.Decision, error) { panic("oh") }, "Check panics"},
		{"header changed", func(r *filter.Request) (filter.Decision, error) {
			r.HTTP.Header = http.Header{"X": nil}
			return next, nil
		}, "changed Header"},
		{"URL changed", func(r *filter.Request) (filter.Decision, error) { r.HTTP.URL.RawQuery = "x"; return next, nil }, "changed the URL"},
		{"form parsed", func(r *filter.Request) (filter.Decision, error) { _ = r.HTTP.ParseForm(); return next, nil }, "changed Form"},
		{"path changed", func(r *filter.Request) (filter.Decision, error) { r.Path = "/x"; return next, nil }, "changed Request.Path"},
		{"client changed", func(r *filter.Request) (filter.Decision, error) { r.Client = r.Client.Next(); return next, nil }, "changed Request.Client"},
		{"request replaced", func(r *filter.Request) (filter.Decision, error) { r.HTTP = r.HTTP.Clone(r.Context()); return next, nil }, "changed Request.HTTP"},
		{"body eaten", func(r *filter.Request) (filter.Decision, error) {
			if r.HTTP.Body != nil {
				_, _ = io.ReadFull(r.HTTP.Body, make([]byte, 1))
			}
			return next, nil
		}, "they differ"},
		{"body closed", func(r *filter.Request) (filter.Decision, error) {
			if r.HTTP.Body != nil {
				_ = r.HTTP.Body.Close()
			}
			return next, nil
		}, "closed the body"},
		{"body error lost", func(r *filter.Request) (filter.Decision, error) {
			if r.HTTP.Body != nil {
				b, _ := io.ReadAll(r.HTTP.Body)
				r.HTTP.Body = io.NopCloser(strings.NewReader(string(b)))
			}
			return next, nil
		}, "ends in <nil>"},
		{"refusal without reason", func(*filter.Request) (filter.Decision, error) { return filter.Decision{}, nil }, "no reason"},
		{"refusal with 200", func(*filter.Request) (filter.Decision, error) {
			return filter.Decision{Reason: filter.ReasonRule, Status: 200}, nil
		}, "the status 200"},
		{"challenge without field", func(*filter.Request) (filter.Decision, error) {
			return filter.Decision{Verdict: filter.Challenge, Reason: filter.ReasonNoCredentials}, nil
		}, "WWW-Authenticate"},
		{"allowed with a reason", func(*filter.Request) (filter.Decision, error) {
			return filter.Decision{Verdict: filter.Allow, Reason: filter.ReasonRule}, nil
		}, "refuses nothing"},
		{"no verdict", func(*filter.Request) (filter.Decision, error) { return filter.Decision{Verdict: 99}, nil }, "verdict 99"},
		{"other stage's name", func(*filter.Request) (filter.Decision, error) {
			return filter.Decision{Verdict: filter.Continue, Stage: "other"}, nil
		}, `names the stage "other"`},
		{"anonymous report", func(r *filter.Request) (filter.Decision, error) { r.Detect(filter.Decision{}); return next, nil }, "neither stage nor rule"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := new(recorder)
			for _, c := range Cases() {
				checkCase(rec, tt.stage, c)
			}
			if all := strings.Join(rec.faults, "\n"); !strings.Contains(all, tt.fault) {
				t.Errorf("the suite does not say %q but:\n%.2000s", tt.fault, all)
			}
		})
	}

	rec := new(recorder)
	checkEmpty(rec, stageFunc(func(*filter.Request) (filter.Decision, error) { return filter.Allowed(), nil }))
	checkName(rec, nameless{})
	stop := make(chan struct{})
	go func() { <-stop }()
	checkGoroutines(rec, 0, 0)
	close(stop)
	if len(rec.faults) != 3 {
		t.Errorf("faults: %q", rec.faults)
	}
}

type nameless struct{ filter.Stage }

func (nameless) Name() string { return "" }

func TestRequestOptions(t *testing.T) {
	r := Post("/a?b", "text/plain", "hello", From("::ffff:198.51.100.7"), At(Epoch.AddDate(0, 0, 1)), Host("WWW.Example.com:8080"),
		Header("X-A", "1"), In("NO", 64500), As(&filter.Identity{Subject: "ann"}))
	if r.Client.String() != "198.51.100.7" || r.Peer != r.Client || !r.Now.After(Epoch) || r.Host != "www.example.com" ||
		r.Path != "/a" || r.Location() != (filter.Location{Country: "NO", ASN: 64500}) || r.Identity.Subject != "ann" ||
		r.HTTP.Header.Get("Content-Type") != "text/plain" || r.HTTP.Header.Get("X-A") != "1" || r.HTTP.ContentLength != 5 {
		t.Errorf("request %+v of %+v", r, r.HTTP)
	}
	if body, whole, err := r.ReadBody(10); string(body) != "hello" || !whole || err != nil {
		t.Errorf("body %q, %v, %v", body, whole, err)
	}
	if r := Get("/"); r.Client.String() != Peer || r.Location() != (filter.Location{}) || !r.Now.Equal(Epoch) {
		t.Errorf("request %+v", r)
	}
}
