package cors

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

func newPolicy(t testing.TB, c Config) *Policy {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var usual = Config{
	Origins:     []string{"https://app.example.com", "http://localhost:3000", "https://*.example.org", "https://[2001:db8::1]:8443"},
	Methods:     []string{"GET", "PUT"},
	Headers:     []string{"Authorization", "content-type"},
	Expose:      []string{"X-Total"},
	Credentials: true,
	MaxAge:      time.Hour,
}

// request returns a request of an origin; of none if it is empty.
func request(method, origin string, fields ...string) *http.Request {
	r := httptest.NewRequest(method, "/", nil)
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

func TestOrigins(t *testing.T) {
	p := newPolicy(t, usual)
	for origin, allowed := range map[string]bool{
		"https://app.example.com":          true,
		"http://localhost:3000":            true,
		"https://[2001:db8::1]:8443":       true,
		"https://a.example.org":            true,
		"https://a.b-c.example.org":        true,
		"http://app.example.com":           false,
		"https://app.example.com:443":      false,
		"https://app.example.com:8443":     false,
		"https://app.example.com.evil.net": false,
		"https://APP.example.com":          false,
		"https://app.example.com/":         false,
		"http://localhost":                 false,
		"http://localhost:30000":           false,
		"https://example.org":              false,
		"https://evil-example.org":         false,
		"https://.example.org":             false,
		"https://evil.net/.example.org":    false,
		"https://evil.net#.example.org":    false,
		"https://a@b.example.org":          false,
		"https://evil.net:1.example.org":   false,
		"http://a.example.org":             false,
		"https://*.example.org":            false,
		"null":                             false,
		"*":                                false,
		"":                                 false,
	} {
		h := http.Header{}
		r := request("GET", "")
		r.Header["Origin"] = []string{origin}
		p.Refusal(h, r)
		want := ""
		if allowed {
			want = origin
		}
		if got := h.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%q: got %q", origin, got)
		}
		if (h.Get("Access-Control-Allow-Credentials") != "") != allowed || h.Get("Vary") != "Origin" {
			t.Errorf("%q: %v", origin, h)
		}
	}
	h := http.Header{}
	p.Refusal(h, request("GET", "https://app.example.com", "Origin", "https://app.example.com"))
	if h.Get("Access-Control-Allow-Origin") != "" {
		t.Error("two Origin lines are allowed")
	}
}

func TestPreflight(t *testing.T) {
	any := newPolicy(t, Config{Origins: []string{"*"}})
	for _, tt := range []struct {
		name   string
		policy *Policy
		origin string
		want   map[string]string // every Access-Control field and Vary
	}{
		{"allowed", newPolicy(t, usual), "https://app.example.com", map[string]string{
			"Access-Control-Allow-Origin": "https://app.example.com", "Access-Control-Allow-Credentials": "true",
			"Access-Control-Allow-Methods": "GET, PUT", "Access-Control-Allow-Headers": "authorization, content-type",
			"Access-Control-Max-Age": "3600", "Vary": "Origin"}},
		{"AU-37 strange", newPolicy(t, usual), "https://evil.example", map[string]string{"Vary": "Origin"}},
		{"every origin", any, "https://evil.example", map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET, HEAD, POST"}},
		{"zero policy", new(Policy), "https://app.example.com", map[string]string{"Vary": "Origin"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			tt.policy.Preflight(w, request("OPTIONS", tt.origin, "Access-Control-Request-Method", "GET"))
			if w.Code != 204 || w.Body.Len() != 0 || len(w.Header()) != len(tt.want) {
				t.Errorf("%d %v", w.Code, w.Header())
			}
			for name, value := range tt.want {
				if got := w.Header().Get(name); got != value {
					t.Errorf("%s: %q, want %q", name, got, value)
				}
			}
		})
	}
	for _, tt := range []struct {
		r    *http.Request
		want bool
	}{
		{request("OPTIONS", "https://a.example", "Access-Control-Request-Method", "GET"), true},
		{request("OPTIONS", "https://a.example"), false},
		{request("OPTIONS", "", "Access-Control-Request-Method", "GET"), false},
		{request("GET", "https://a.example", "Access-Control-Request-Method", "GET"), false},
	} {
		if got := IsPreflight(tt.r); got != tt.want {
			t.Errorf("%s %v: %v", tt.r.Method, tt.r.Header, got)
		}
	}
}

func TestRefusalCanBeRead(t *testing.T) {
	h := http.Header{"Vary": {"Accept"}}
	newPolicy(t, usual).Refusal(h, request("GET", "http://localhost:3000"))
	if !slices.Equal(h["Vary"], []string{"Accept", "Origin"}) || h.Get("Access-Control-Expose-Headers") != "WWW-Authenticate, Retry-After, RateLimit, RateLimit-Policy" {
		t.Errorf("%v", h)
	}
	for _, vary := range []string{"origin, Accept", "*"} {
		h := http.Header{"Vary": {vary}}
		newPolicy(t, usual).Refusal(h, request("GET", ""))
		if !slices.Equal(h["Vary"], []string{vary}) {
			t.Errorf("%v", h)
		}
	}
}

// TestAnswer sends answers of an upstream through a real server.
func TestAnswer(t *testing.T) {
	p := newPolicy(t, usual)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w = p.Answer(w, r)
		switch r.URL.Path {
		case "/own":
			w.Header().Set("Access-Control-Allow-Origin", "*")
		case "/flushed":
			w.Header().Add("Vary", "Cookie")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		case "/copied":
			_, _ = io.Copy(w, strings.NewReader("copied"))
			return
		case "/hints":
			w.WriteHeader(http.StatusEarlyHints)
		case "/hijacked":
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_ = rw.Flush()
			_ = conn.Close()
			return
		}
		_, _ = io.WriteString(w, "answer")
	}))
	defer srv.Close()
	for _, tt := range []struct{ path, origin, allow, expose string }{
		{"/", "https://app.example.com", "https://app.example.com", "X-Total"},
		{"/", "https://evil.example", "", ""},
		{"/", "", "", ""},
		{"/own", "https://app.example.com", "*", ""},
		{"/flushed", "https://app.example.com", "https://app.example.com", "X-Total"},
		{"/copied", "https://app.example.com", "https://app.example.com", "X-Total"},
		{"/hints", "https://app.example.com", "https://app.example.com", "X-Total"},
		{"/hijacked", "https://app.example.com", "", ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if got := strings.Join(res.Header["Access-Control-Allow-Origin"], "|"); got != tt.allow || res.Header.Get("Access-Control-Expose-Headers") != tt.expose {
			t.Errorf("%s of %q: %v", tt.path, tt.origin, res.Header)
		}
		if tt.path != "/own" && tt.path != "/hijacked" && !slices.Contains(res.Header["Vary"], "Origin") {
			t.Errorf("%s of %q: Vary %q", tt.path, tt.origin, res.Header["Vary"])
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		c    Config
		want string
	}{
		{Config{}, "no origins: no script could read an answer"},
		{Config{Origins: []string{"*"}, Credentials: true}, `credentials with the origin "*": every page could read what belongs to its visitors`},
		{Config{Origins: []string{"*", "https://a.example"}}, `"*" is every origin: remove it or the others`},
		{Config{Origins: []string{"null"}}, `"null" is no origin: it stands for every page without an origin of its own`},
		{Config{Origins: []string{"app.example.com"}}, `"app.example.com" is no origin: write scheme://host, such as https://app.example.com`},
		{Config{Origins: []string{"https://a.example/"}}, `"https://a.example/" is no origin: only scheme, host and port belong to it`},
		{Config{Origins: []string{"https://A.example"}}, `"https://A.example" is no origin: browsers write it in lower case and in ASCII`},
		{Config{Origins: []string{"https://a.example:443"}}, `"https://a.example:443" is no origin: browsers leave the default port out`},
		{Config{Origins: []string{"https://a.example:0"}}, `"https://a.example:0" is no origin: the port is no port`},
		{Config{Origins: []string{"https://a.example:99999"}}, `"https://a.example:99999" is no origin: the port is no port`},
		{Config{Origins: []string{"https://a.*.example"}}, `"https://a.*.example" is no origin: the host is no host; only a leading *. is a wildcard`},
		{Config{Origins: []string{"https://*.com"}}, `"https://*.com" is no origin: the wildcard is a whole top-level domain`},
		{Config{Origins: []string{"https://"}}, `"https://" is no origin: the host is no host; only a leading *. is a wildcard`},
		{Config{Origins: []string{"https://[::z]"}}, `"https://[::z]" is no origin: the host is no host`},
		{Config{Origins: []string{"https://a.example"}, Methods: []string{"GE T"}, Headers: []string{"a b"}, Expose: []string{"*"}, MaxAge: -1}, "\"GE T\" is no method\n\"a b\" is no name of a header field\n\"*\" is no name of a header field\na negative time"},
		{Config{Origins: []string{"https://a.example"}, Methods: []string{"TRACE"}}, "browsers let no script use TRACE"},
	} {
		if p, err := New(tt.c); p != nil || err == nil || err.Error() != tt.want {
			t.Errorf("%+v: got %v, want %s", tt.c, err, tt.want)
		}
	}
}

// FuzzOrigin holds that no origin is allowed but those that an URL parser takes for
// a listed one.
func FuzzOrigin(f *testing.F) {
	p := newPolicy(f, usual)
	for _, s := range []string{"https://app.example.com", "https://a.example.org", "https://x.example.org:1", "null", "", "https://\x00.example.org"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, origin string) {
		h := http.Header{}
		p.Refusal(h, &http.Request{Header: http.Header{"Origin": {origin}}})
		if h.Get("Access-Control-Allow-Origin") == "" {
			return
		}
		if _, exact := p.exact[origin]; exact {
			return
		}
		host, ok := strings.CutPrefix(origin, "https://")
		if !ok || !strings.HasSuffix(host, ".example.org") || strings.ContainsAny(host, "/:@?#[]% \\") {
			t.Errorf("%q is allowed", origin)
		}
	})
}

func BenchmarkPolicy(b *testing.B) {
	p := newPolicy(b, usual)
	for name, origin := range map[string]string{"listed": "https://app.example.com", "below": "https://a.example.org", "strange": "https://evil.example"} {
		b.Run(name, func(b *testing.B) {
			r := request("GET", origin)
			h := http.Header{}
			b.ReportAllocs()
			for b.Loop() {
				clear(h)
				p.Refusal(h, r)
			}
		})
	}
}
