package decide

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/filter/cors"
	"github.com/moatwaf/moat/filter/front"
)

// stage decides by path, and by bodies of text, and keeps what it saw.
type stage struct {
	seen     atomic.Pointer[string]
	finished chan int
}

func (s *stage) Name() string { return "access" }

func (s *stage) Check(r *filter.Request) (filter.Decision, error) {
	b := []byte("unread")
	if strings.HasPrefix(r.HTTP.Header.Get("Content-Type"), "text/") {
		var err error
		if b, _, err = r.ReadBody(100); err != nil {
			return filter.Decision{Verdict: filter.Block, Reason: filter.ReasonMalformed}, nil
		}
	}
	var fields []string
	for name, values := range r.HTTP.Header {
		fields = append(fields, name+"="+strings.Join(values, "|"))
	}
	slices.Sort(fields)
	seen := fmt.Sprintf("%s %s %s %s tls=%v %d %s %v", r.HTTP.Method, r.HTTP.RequestURI, r.Host, r.Client, r.HTTP.TLS != nil, r.HTTP.ContentLength, b, fields)
	s.seen.Store(&seen)
	switch r.Path {
	case "/blocked":
		return filter.Decision{Verdict: filter.Block, Reason: filter.ReasonRule}, nil
	case "/limited":
		return filter.Decision{Verdict: filter.Block, Reason: filter.ReasonRateLimit, Status: 429, Limit: &filter.Limit{Tier: "t", Quota: 1, Window: time.Second, Reset: time.Second}}, nil
	case "/login":
		return filter.Decision{Verdict: filter.Challenge, Reason: filter.ReasonNoCredentials, Challenges: []string{`Basic realm="test"`}}, nil
	case "/known":
		r.Identity = &filter.Identity{Subject: "anna", Method: "basic"}
	case "/counted":
		r.Defer(s, filter.Token{})
	case "/status":
		r.Defer(s, filter.Token{})
		r.AwaitStatus()
	}
	return filter.Next(), nil
}

// Finish implements filter.Finisher.
func (s *stage) Finish(_ filter.Token, status int) { s.finished <- status }

// wait waits until a request has ended and returns the status that was told.
func (s *stage) wait(t *testing.T) int {
	t.Helper()
	select {
	case status := <-s.finished:
		return status
	case <-time.After(30 * time.Second):
		t.Fatal("no request has ended")
		return 0
	}
}

func newHandler(t *testing.T, o Options) (*Handler, *stage) {
	t.Helper()
	s := &stage{finished: make(chan int, 16)}
	identity, err := auth.NewIdentityHeaders(map[string]string{"X-Remote-User": "subject"})
	if err != nil {
		t.Fatal(err)
	}
	origins, err := cors.New(cors.Config{Origins: []string{"https://app.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	o.Engine = new(filter.Engine)
	o.Engine.Swap(filter.NewPipeline(filter.Config{
		Steps: []filter.Step{{Stage: s}}, Front: front.New(front.Config{Identity: identity, CORS: origins}),
	}))
	return New(o), s
}

// question returns a question about a request. words is the seventh line.
func question(method, target, body, words, fields string) string {
	return method + "\n" + target + "\nHTTP/1.1\nwww.example.com\n203.0.113.7:1\n" + body + "\n" + words + "\n" + strings.ReplaceAll(fields, "\n", "\r\n") + "\r\n"
}

func post(h http.Handler, path, head, rest string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(head+rest))
	r.RemoteAddr = "127.0.0.1:1"
	r.Header = http.Header{"Moat-Protocol": {"1"}, "Moat-Head": {fmt.Sprint(len(head))}}
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestDecide(t *testing.T) {
	h, s := newHandler(t, Options{})
	for _, c := range []struct {
		name, head, body string
		want             string // verdict, status, and the first line of the rest
		seen             string
	}{
		{"passes", question("GET", "/a?b", "-", "tls", "Accept: */*\n"), "", "pass   Moat-Set=[]", "GET /a?b www.example.com 203.0.113.7 tls=true 0 unread [Accept=*/*]"},
		{"is refused", question("GET", "/blocked", "-", "", ""), "", "answer 403 Cache-Control: no-store", ""},
		{"HEAD is refused", question("HEAD", "/blocked", "-", "", ""), "", "answer 403 Cache-Control: no-store", ""},
		{"is challenged", question("GET", "/login", "-", "", ""), "", "answer 401 Cache-Control: no-store", ""},
		{"is known", question("GET", "/known", "-", "", "X_remote-user: admin\n"), "", "pass   Moat-Set=[X-Remote-User: anna]", ""},
		{"another address", question("GET", "/", "-", "client=::ffff:192.0.2.1", ""), "", "pass   Moat-Set=[]", "GET / www.example.com 192.0.2.1 tls=false 0 unread []"},
		{"with its body", question("POST", "/", "4", "", "Content-Type: text/plain\n"), "body", "pass   Moat-Set=[]", "POST / www.example.com 203.0.113.7 tls=false 4 body [Content-Type=text/plain]"},
		{"body withheld", question("POST", "/", "4", "withheld", "Content-Type: text/plain\n"), "", "pass   Moat-Set=[]", "POST / www.example.com 203.0.113.7 tls=false 0  [Content-Length=0 Content-Type=text/plain]"},
		{"target unreadable", question("GET", "/%zz", "-", "", ""), "", "answer 400 Cache-Control: no-store", ""},
		{"preflight", question("OPTIONS", "/login/x", "-", "", "Origin: https://app.example.com\nAccess-Control-Request-Method: GET\n"), "", "answer 204 Access-Control-Allow-Methods: GET, HEAD, POST", ""},
		{"client's own Moat fields", question("GET", "/", "-", "", "Moat-Protocol: 7\nMoat-Head: 1\n"), "", "pass   Moat-Set=[]", "GET / www.example.com 203.0.113.7 tls=false 0 unread [Moat-Head=1 Moat-Protocol=7]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := post(h, "/v1/decide", c.head, c.body, nil)
			rest, _, _ := strings.Cut(w.Body.String(), "\r\n")
			if w.Header().Get("Moat-Verdict") == "pass" {
				rest = fmt.Sprintf(" Moat-Set=%v", w.Header()["Moat-Set"])
			}
			got := fmt.Sprintf("%s %s %s", w.Header().Get("Moat-Verdict"), w.Header().Get("Moat-Status"), rest)
			if w.Code != 200 && w.Code != 204 || got != c.want {
				t.Errorf("%d %q, want %q\n%v", w.Code, got, c.want, w.Header())
			}
			if c.seen != "" && *s.seen.Load() != c.seen {
				t.Errorf("judged %s\n  want %s", *s.seen.Load(), c.seen)
			}
			if strings.HasPrefix(c.head, "HEAD") && (!strings.HasSuffix(w.Body.String(), "\r\n\r\n") || !strings.Contains(w.Body.String(), "Content-Length: ")) {
				t.Errorf("the answer to HEAD: %q", w.Body)
			}
		})
	}
}

// TestFaults: what a host does wrong is no decision, and says what is wrong.
func TestFaults(t *testing.T) {
	h, _ := newHandler(t, Options{})
	good := question("GET", "/", "-", "", "")
	for _, c := range []struct {
		name, path, head string
		header           http.Header
		status           int
		text             string
	}{
		{"another version", "/v1/decide", good, http.Header{"Moat-Protocol": {"2"}}, 426, `speaks version 1 of the protocol, and was asked in "2"`},
		{"no version", "/v1/decide", good, http.Header{"Moat-Protocol": nil}, 426, "speaks version 1"},
		{"no length", "/v1/decide", good, http.Header{"Moat-Head": nil}, 400, "no length"},
		{"a length of the moon", "/v1/decide", good, http.Header{"Moat-Head": {"2000000000"}}, 400, "longer than"},
		{"more than came", "/v1/decide", good, http.Header{"Moat-Head": {"100000"}}, 400, "ends before its head"},
		{"a bit more than came", "/v1/decide", good, http.Header{"Moat-Head": {"1000"}}, 400, "ends before its head"},
		{"no head", "/v1/decide", "", nil, 400, "seven lines"},
		{"another path", "/v2/decide", good, nil, 404, "/v1/decide"},
		{"no status", "/v1/report", "", http.Header{"Moat-Status": {"ok"}}, 400, "no status"},
		{"waiting where one cannot", "/v1/decide", question("POST", "/", "1", "wait", ""), nil, 400, "cannot wait"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := post(h, c.path, c.head, "", c.header)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) || w.Header().Get("Moat-Verdict") != "" {
				t.Errorf("%d %q", w.Code, w.Body)
			}
		})
	}
	r := httptest.NewRequest(http.MethodGet, "/v1/decide", nil)
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("Moat-Protocol", "1")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET: %d", w.Code)
	}
}

func TestWhoMayAsk(t *testing.T) {
	h, _ := newHandler(t, Options{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	for peer, want := range map[string]int{
		"127.0.0.1:1": 200, "[::1]:1": 200, "10.1.2.3:1": 200, "[::ffff:10.1.2.3]:1": 200,
		"192.0.2.1:1": 403, "": 403, "@": 403,
	} {
		r := httptest.NewRequest(http.MethodGet, "/v1/health", nil)
		r.RemoteAddr = peer
		r.Header.Set("X-Forwarded-For", "127.0.0.1")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d, want %d", peer, w.Code, want)
		}
	}
	empty := New(Options{Engine: new(filter.Engine)})
	r := httptest.NewRequest(http.MethodGet, "/v1/health", nil)
	r.RemoteAddr = "127.0.0.1:1"
	w := httptest.NewRecorder()
	empty.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("without a policy: %d", w.Code)
	}
	w = post(empty, "/v1/decide", question("GET", "/", "-", "", ""), "", nil)
	if w.Header().Get("Moat-Verdict") != "answer" || w.Header().Get("Moat-Status") != "503" {
		t.Errorf("without a policy: %v", w.Header())
	}
}

func TestForwardAuth(t *testing.T) {
	h, s := newHandler(t, Options{})
	ask := func(query string, header http.Header, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/v1/forward-auth"+query, nil)
		if body != "" {
			r = httptest.NewRequest(http.MethodPost, "/v1/forward-auth"+query, strings.NewReader(body))
		}
		r.RemoteAddr = "127.0.0.1:1"
		r.Header = http.Header{
			"X-Forwarded-Method": {"GET"}, "X-Forwarded-Uri": {"/"}, "X-Forwarded-Host": {"www.example.com"}, "X-Forwarded-Proto": {"https"},
			"X-Forwarded-For": {"203.0.113.7"}, "X-Forwarded-Port": {"443"}, "X-Real-Ip": {"203.0.113.7"}, "Connection": {"close"}, "Accept": {"*/*"},
		}
		for name, values := range header {
			r.Header[name] = values
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}

	w := ask("", nil, "")
	if want := "GET / www.example.com 203.0.113.7 tls=true 0 unread [Accept=*/*]"; w.Code != 200 || *s.seen.Load() != want {
		t.Errorf("%d, judged %s\nwant %s", w.Code, *s.seen.Load(), want)
	}
	w = ask("", http.Header{"X-Forwarded-Uri": {"/known"}, "X-Remote-User": {"admin"}}, "")
	if w.Code != 200 || w.Header().Get("X-Remote-User") != "anna" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w = ask("", http.Header{"X-Remote-User": {"admin"}}, ""); w.Code != 200 || w.Header().Get("X-Remote-User") != "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	w = ask("", http.Header{"X-Forwarded-Uri": {"/limited"}}, "")
	if w.Code != 429 || w.Header().Get("Retry-After") != "1" || w.Body.Len() == 0 {
		t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
	}
	w = ask("?fold=403", http.Header{"X-Forwarded-Uri": {"/limited"}}, "")
	if w.Code != 403 || w.Header().Get("Moat-Status") != "429" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	w = ask("?fold=403", http.Header{"X-Forwarded-Uri": {"/login"}}, "")
	if w.Code != 401 || w.Header().Get("Www-Authenticate") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	preflight := http.Header{"X-Forwarded-Method": {"OPTIONS"}, "Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"GET"}}
	for _, query := range []string{"", "?fold=403"} {
		if w = ask(query, preflight, ""); w.Code != 204 || w.Header().Get("Access-Control-Allow-Origin") != "https://app.example.com" {
			t.Errorf("preflight%s: %d %v", query, w.Code, w.Header())
		}
	}
	// The host sends the content of GET to nobody, and the fields are those of GET.
	w = ask("", http.Header{"X-Forwarded-Method": {"HEAD"}, "X-Forwarded-Uri": {"/blocked"}}, "")
	if w.Code != 403 || w.Header().Get("Content-Length") != fmt.Sprint(w.Body.Len()) || w.Body.Len() == 0 {
		t.Errorf("HEAD: %d %v %q", w.Code, w.Header(), w.Body)
	}
	if w = ask("", http.Header{"X-Forwarded-Uri": {"/%zz"}}, ""); w.Code != 400 || !strings.Contains(w.Body.String(), `"status":400`) {
		t.Errorf("%d %q", w.Code, w.Body)
	}

	t.Run("the body", func(t *testing.T) {
		ask("", http.Header{"X-Forwarded-Method": {"POST"}, "Content-Type": {"text/plain"}}, "body")
		if got := *s.seen.Load(); !strings.Contains(got, " 4 body [") {
			t.Errorf("judged %s", got)
		}
		ask("", http.Header{"X-Forwarded-Method": {"POST"}, "Content-Type": {"text/plain"}}, "")
		if got := *s.seen.Load(); !strings.Contains(got, " 0  [Accept=*/* Content-Length=0 Content-Type=text/plain]") {
			t.Errorf("judged %s", got)
		}
	})
	t.Run("a client's chain", func(t *testing.T) {
		ask("", http.Header{"X-Forwarded-For": {"198.51.100.1", "192.0.2.9, 203.0.113.8"}}, "")
		if got := *s.seen.Load(); !strings.Contains(got, " 203.0.113.8 ") || !strings.Contains(got, "X-Forwarded-For=198.51.100.1|192.0.2.9") {
			t.Errorf("judged %s", got)
		}
	})
	t.Run("what a host leaves out, or a client repeats", func(t *testing.T) {
		for _, header := range []http.Header{
			{"X-Forwarded-Method": nil}, {"X-Forwarded-Uri": nil}, {"X-Forwarded-Uri": {"/harmless", "/blocked"}}, {"X-Forwarded-Method": {"GET", "POST"}},
		} {
			if w := ask("", header, ""); w.Code != 400 || !strings.Contains(w.Body.String(), "the host sends no") {
				t.Errorf("%v: %d %q", header, w.Code, w.Body)
			}
		}
	})
}

// passing returns an engine that lets everything pass.
func passing() *filter.Engine {
	e := new(filter.Engine)
	e.Swap(filter.NewPipeline(filter.Config{}))
	return e
}
