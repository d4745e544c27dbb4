package front

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/filter/cors"
)

func newFront(t *testing.T) *Front {
	t.Helper()
	c, err := cors.New(cors.Config{Origins: []string{"https://app.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	identity, err := auth.NewIdentityHeaders(auth.DefaultIdentityHeaders())
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{CORS: c, Identity: identity})
}

func request(method string, header http.Header) *filter.Request {
	hr := httptest.NewRequest(method, "/", nil)
	hr.Header = header
	return filter.NewRequest(hr, time.Now())
}

func TestFront(t *testing.T) {
	f := newFront(t)
	const origin = "https://app.example.com"
	for _, tt := range []struct {
		name   string
		header http.Header
		method string
		who    *filter.Identity
		goOn   bool
		user   string // X-Remote-User for the upstream
	}{
		{"known caller", http.Header{"Origin": {origin}}, "GET", &filter.Identity{Subject: "anna"}, true, "anna"},
		{"known caller who says another name", http.Header{"X-Remote-User": {"root"}, "X_remote_user": {"root"}}, "GET", &filter.Identity{Subject: "anna"}, true, "anna"},
		{"nobody who says a name", http.Header{"X-Remote-User": {"root"}, "X_remote_user": {"root"}}, "GET", nil, true, ""},
		{"preflight", http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"GET"}}, "OPTIONS", nil, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request(tt.method, tt.header)
			defer r.Release()
			r.Identity = tt.who
			w := httptest.NewRecorder()
			upstream, goOn := f.Pass(w, r)
			if goOn != tt.goOn || (upstream != nil) != goOn {
				t.Fatalf("goes on: %v with %v", goOn, upstream)
			}
			if !goOn {
				if w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Origin") != origin {
					t.Errorf("%d %v", w.Code, w.Header())
				}
				return
			}
			if _, ok := r.HTTP.Header["X_remote_user"]; ok || r.HTTP.Header.Get("X-Remote-User") != tt.user {
				t.Errorf("the upstream gets %v", r.HTTP.Header)
			}
			upstream.WriteHeader(http.StatusOK)
			if allowed := w.Header().Get("Access-Control-Allow-Origin") == origin; allowed != (tt.header.Get("Origin") != "") {
				t.Errorf("%v", w.Header())
			}
		})
	}
}

// TestRefusalsAndMissing holds that a missing path and a concealed one get the same
// fields, and that a refused request loses what it says of its caller: the host may
// let an upstream write its error pages.
func TestRefusalsAndMissing(t *testing.T) {
	f := newFront(t)
	for _, origin := range []string{"", "https://app.example.com", "https://evil.example"} {
		header := http.Header{"X-Remote-User": {"root"}}
		if origin != "" {
			header.Set("Origin", origin)
		}
		r := request("GET", header)
		concealed, missing := httptest.NewRecorder(), httptest.NewRecorder()
		f.Refuse(concealed, r, filter.Decision{Verdict: filter.Block, Reason: filter.ReasonConcealed})
		f.NotFound(missing, r.HTTP)
		if concealed.Code != 404 || missing.Code != 404 || concealed.Body.String() != missing.Body.String() || len(concealed.Header()) != len(missing.Header()) {
			t.Errorf("%q: %d %v, %d %v", origin, concealed.Code, concealed.Header(), missing.Code, missing.Header())
		}
		for name := range missing.Header() {
			if a, b := concealed.Header().Values(name), missing.Header().Values(name); len(a) != len(b) || a[0] != b[0] {
				t.Errorf("%q: %s: %q and %q", origin, name, a, b)
			}
		}
		if len(r.HTTP.Header["X-Remote-User"]) > 0 {
			t.Error("a refused request keeps what it says of its caller")
		}
		r.Release()
	}
}

func TestOf(t *testing.T) {
	own := newFront(t)
	if Of(filter.NewPipeline(filter.Config{Front: own})) != filter.Front(own) {
		t.Error("the pipeline's own front is not taken")
	}
	for _, p := range []*filter.Pipeline{nil, filter.NewPipeline(filter.Config{})} {
		r := request("GET", http.Header{"X-Remote-User": {"kept"}})
		w := httptest.NewRecorder()
		if upstream, goOn := Of(p).Pass(w, r); !goOn || upstream != http.ResponseWriter(w) || r.HTTP.Header.Get("X-Remote-User") != "kept" {
			t.Error("the default front changes a request")
		}
		if Of(p).Refuse(w, r, filter.Decision{}); w.Code != 403 {
			t.Errorf("%d", w.Code)
		}
		r.Release()
	}
}
