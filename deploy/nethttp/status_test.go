package nethttp

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/moatwaf/moat/filter"
)

// awaiting is a stage that wants to know how requests end.
type awaiting struct {
	mu  sync.Mutex
	got []int
}

func (*awaiting) Name() string { return "tier" }

func (s *awaiting) Check(r *filter.Request) (filter.Decision, error) {
	r.Defer(s, filter.Token{})
	r.AwaitStatus()
	r.Announce(filter.Limit{Tier: "a", Quota: 5, Window: 5e9, Remaining: 4, Reset: 1e9})
	if r.Path == "/refused" {
		return filter.Decision{}, nil
	}
	return filter.Next(), nil
}

func (s *awaiting) Finish(_ filter.Token, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, status)
}

func (s *awaiting) last() (status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) != 1 {
		return -len(s.got)
	}
	status, s.got = s.got[0], nil
	return status
}

func TestStatusIsTold(t *testing.T) {
	for _, conceals := range []bool{false, true} {
		stage := new(awaiting)
		var e filter.Engine
		e.Swap(filter.NewPipeline(filter.Config{Steps: []filter.Step{{Stage: stage}}, Conceals: conceals}))
		h := Handler(&e, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/401":
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(401)
			case "/404":
				http.NotFound(w, r)
			case "/copied":
				_, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("x"))
			case "/flushed":
				_ = http.NewResponseController(w).Flush()
			case "/written":
				_, _ = io.WriteString(w, "x")
			case "/panics":
				panic(http.ErrAbortHandler)
			}
		}))
		for path, want := range map[string]int{
			"/refused": 403, "/401": 401, "/404": 404, "/copied": 200, "/flushed": 200, "/written": 200, "/silent": 0, "/panics": 0,
		} {
			w := httptest.NewRecorder()
			func() {
				defer func() { _ = recover() }()
				h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			}()
			if got := stage.last(); got != want {
				t.Errorf("%s: told %d, want %d", path, got, want)
			}
			if got := w.Header().Get("RateLimit"); path != "/panics" && got != `"a";r=4;t=1` {
				t.Errorf("%s: RateLimit %q", path, got)
			}
		}
	}
}
