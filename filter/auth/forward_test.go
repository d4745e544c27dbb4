package auth_test

import (
	"bufio"
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moatwaf/moat/deploy/nethttp"
	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/filter/clientip"
	"github.com/moatwaf/moat/filter/front"
)

// authService is a real external auth service, which can be stopped and started.
type authService struct {
	t      *testing.T
	addr   string
	srv    *http.Server
	handle http.HandlerFunc
	asked  atomic.Int64
	conns  atomic.Int64
	last   atomic.Pointer[http.Request]
}

func newAuthService(t *testing.T, handle http.HandlerFunc) *authService {
	s := &authService{t: t, addr: "127.0.0.1:0", handle: handle}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *authService) start() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.srv = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.asked.Add(1)
			s.last.Store(r)
			s.handle(w, r)
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				s.conns.Add(1)
			}
		},
	}
	go func() { _ = s.srv.Serve(l) }()
}

func (s *authService) stop() { _ = s.srv.Close() }

// guarded is a site whose requests the service decides.
type guarded struct {
	*httptest.Server
	upstream atomic.Pointer[http.Header] // of the last request that passed
}

// guard starts a site: below /public nobody is asked, /hidden conceals, /staff wants
// a role, all else asks.
func guard(t *testing.T, f *auth.Forward, before ...auth.Method) *guarded {
	t.Helper()
	a, err := auth.New(auth.Config{Realm: "api", Methods: append(before, f), Requirements: []auth.Requirement{
		{Match: under("/public"), Auth: auth.None},
		{Match: under("/hidden"), Conceal: true},
		{Match: under("/hid"), Auth: auth.None},
		{Match: under("/staff"), Roles: []string{"staff"}},
		{},
	}})
	if err != nil {
		t.Fatal(err)
	}
	identity, err := auth.NewIdentityHeaders(map[string]string{"X-Remote-User": "subject"}, f.UpstreamHeaders()...)
	if err != nil {
		t.Fatal(err)
	}
	resolver, err := clientip.New(clientip.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Header: "X-Forwarded-For"})
	if err != nil {
		t.Fatal(err)
	}
	var e filter.Engine
	e.Swap(filter.NewPipeline(filter.Config{
		Name: "test", Addr: resolver, Conceals: true, Front: front.New(front.Config{Identity: identity}),
		Steps: []filter.Step{{Stage: a.Authenticate(), Always: true}, {Stage: a.Authorize(), Always: true}},
	}))
	g := new(guarded)
	g.Server = httptest.NewServer(nethttp.Handler(&e, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		g.upstream.Store(&h)
		_, _ = io.WriteString(w, "upstream")
	})))
	t.Cleanup(g.Close)
	return g
}

func newForward(t *testing.T, c auth.ForwardConfig) *auth.Forward {
	t.Helper()
	f, err := auth.NewForward(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// ask sends a request with header fields as they are written.
func (g *guarded) ask(t *testing.T, method, target string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, g.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// TestForwardAnswers holds that what the service refuses reaches the client as the
// service has said it, and that a refusal never reaches the upstream.
func TestForwardAnswers(t *testing.T) {
	s := newAuthService(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Date"] = []string{"Mon, 23 Nov 2026 12:00:00 GMT"}
		h.Add("Www-Authenticate", `Negotiate`)
		h.Add("Www-Authenticate", `Bearer realm="elsewhere", error="invalid_token"`)
		h.Add("Set-Cookie", "state=1; Path=/; HttpOnly")
		h.Add("Set-Cookie", "csrf=2; SameSite=Lax")
		h.Set("X-Odd", "ä\t\"x\"")
		h.Set("Server", "gatekeeper/1")
		h.Set("Content-Type", "text/x-own")
		h.Set("Connection", "X-Hop")
		h.Set("X-Hop", "of this connection")
		h.Set("X-Auth-User", "nobody")
		var code int
		_, _ = fmt.Sscan(r.Header.Get("X-Want"), &code)
		if code >= 300 && code < 400 {
			h.Set("Location", "/elsewhere?next=x")
		}
		w.WriteHeader(code)
		if r.Header.Get("X-Silent") == "" {
			_, _ = io.WriteString(w, "the service's own words")
		}
	})
	g := guard(t, newForward(t, auth.ForwardConfig{URL: "http://" + s.addr + "/verify", RequestHeaders: []string{"X-Want", "X-Silent"}}))
	for _, code := range []int{300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 418, 429, 451, 499} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			t.Run(fmt.Sprint(method, " ", code), func(t *testing.T) {
				g.upstream.Store(nil)
				asked := s.asked.Load()
				res, body := g.ask(t, method, "/x", http.Header{"X-Want": {fmt.Sprint(code)}})
				want := http.Header{
					"Date":             {"Mon, 23 Nov 2026 12:00:00 GMT"},
					"Www-Authenticate": {`Negotiate`, `Bearer realm="elsewhere", error="invalid_token"`},
					"Set-Cookie":       {"state=1; Path=/; HttpOnly", "csrf=2; SameSite=Lax"},
					"X-Odd":            {"ä\t\"x\""},
					"Server":           {"gatekeeper/1"},
					"Content-Type":     {"text/x-own"},
					"X-Auth-User":      {"nobody"},
					"Cache-Control":    {"no-store"},
					"Content-Length":   {"23"},
				}
				if code < 400 {
					want["Location"] = []string{"/elsewhere?next=x"}
				}
				if res.StatusCode != code || !maps.EqualFunc(res.Header, want, slices.Equal) {
					t.Errorf("got %d %v\nwant %v", res.StatusCode, res.Header, want)
				}
				if method == "HEAD" && body != "" || method != "HEAD" && body != "the service's own words" {
					t.Errorf("content %q", body)
				}
				if g.upstream.Load() != nil {
					t.Error("a refused request has reached the upstream")
				}
				if n := s.asked.Load() - asked; n != 1 {
					t.Errorf("asked %d times: a redirect is followed", n)
				}
			})
		}
	}
	if res, body := g.ask(t, "GET", "/x", http.Header{"X-Want": {"403"}, "X-Silent": {"1"}}); res.StatusCode != 403 || body != "" || res.Header.Get("Content-Length") != "0" {
		t.Errorf("%d %q %v", res.StatusCode, body, res.Header)
	}
}

// TestForwardKeepsCaching holds that the service's own word about caches stands.
func TestForwardKeepsCaching(t *testing.T) {
	for field, value := range map[string]string{"Cache-Control": "private, max-age=5", "Expires": "0"} {
		s := newAuthService(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(field, value)
			w.Header().Set("Vary", "Cookie")
			w.WriteHeader(401)
		})
		g := guard(t, newForward(t, auth.ForwardConfig{URL: "http://" + s.addr}))
		if res, _ := g.ask(t, "GET", "/x", nil); res.Header.Get(field) != value || field == "Expires" && len(res.Header["Cache-Control"]) > 0 || res.Header.Get("Vary") != "Cookie" {
			t.Errorf("%v", res.Header)
		}
	}
}

// TestForwardPasses holds what the upstream gets to know, and from whom.
func TestForwardPasses(t *testing.T) {
	s := newAuthService(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Cookie") {
		case "sid=anna":
			w.Header().Set("X-Auth-User", "anna")
			w.Header().Set("X-Auth-Roles", "staff, ops")
			w.Header().Add("X-Auth-Email", "anna@example.com")
			w.Header().Set("X-Internal", "not for the upstream")
			w.Header()["Set-Cookie"] = []string{"sid=renewed; HttpOnly", "csrf=2"}
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, strings.Repeat("read and dropped", 100))
		case "sid=otto":
			w.Header().Set("X-Auth-User", "otto")
		case "sid=nobody":
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	})
	g := guard(t, newForward(t, auth.ForwardConfig{
		URL: "http://" + s.addr + "/verify", Subject: "X-Auth-User", Roles: "X-Auth-Roles", UpstreamHeaders: []string{"X-Auth-Email", "x-auth-plan"},
	}))
	spoofed := http.Header{
		"X-Auth-Email": {"root@example.com"}, "X_Auth_Email": {"root@example.com"}, "x-auth-EMAIL": {"root@example.com"}, "X-Auth-Plan": {"gold"}, "X.auth.plan": {"gold"},
		"X-Remote-User": {"root"}, "X_remote_user": {"root"}, "X-Internal": {"client's"},
	}
	for _, tt := range []struct {
		path, cookie string
		status       int
		want         http.Header // of the fields that tell of somebody
	}{
		{"/x", "sid=anna", 200, http.Header{"X-Remote-User": {"anna"}, "X-Auth-Email": {"anna@example.com"}, "X-Internal": {"client's"}}},
		{"/staff/x", "sid=anna", 200, http.Header{"X-Remote-User": {"anna"}, "X-Auth-Email": {"anna@example.com"}, "X-Internal": {"client's"}}},
		{"/x", "sid=otto", 200, http.Header{"X-Remote-User": {"otto"}, "X-Internal": {"client's"}}},
		{"/public/x", "sid=anna", 200, http.Header{"X-Internal": {"client's"}}},
		{"/staff/x", "sid=otto", 403, nil},
		{"/x", "sid=nobody", 503, nil}, // lets pass, and does not say whom
		{"/x", "sid=evil", 403, nil},
		{"/hidden/x", "sid=anna", 200, http.Header{"X-Remote-User": {"anna"}, "X-Auth-Email": {"anna@example.com"}, "X-Internal": {"client's"}}},
		{"/hidden/x", "sid=evil", 404, nil},
	} {
		t.Run(tt.path+" "+tt.cookie, func(t *testing.T) {
			g.upstream.Store(nil)
			header := spoofed.Clone()
			header.Set("Cookie", tt.cookie)
			res, body := g.ask(t, "GET", tt.path, header)
			if res.StatusCode != tt.status || (body == "upstream") != (tt.status == 200) {
				t.Fatalf("%d %q", res.StatusCode, body)
			}
			if strings.Contains(body, "dropped") || res.Header.Get("X-Internal") != "" {
				t.Errorf("the client gets %v %q", res.Header, body)
			}
			renewed := tt.cookie == "sid=anna" && tt.path != "/public/x"
			if cookies := res.Header["Set-Cookie"]; renewed != slices.Equal(cookies, []string{"sid=renewed; HttpOnly", "csrf=2"}) || !renewed && cookies != nil {
				t.Errorf("the client gets the cookies %q", cookies)
			}
			got := g.upstream.Load()
			if tt.want == nil {
				if got != nil {
					t.Error("the upstream was asked")
				}
				return
			}
			told := make(http.Header)
			for name, values := range *got {
				if strings.HasPrefix(strings.ToLower(name), "x") {
					told[name] = values
				}
			}
			if !maps.EqualFunc(told, tt.want, slices.Equal) {
				t.Errorf("the upstream gets %v, want %v", told, tt.want)
			}
		})
	}
}

// TestForwardOutage stops the service: nobody passes and nobody is asked for
// credentials, until it is back.
func TestForwardOutage(t *testing.T) {
	s := newAuthService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("Www-Authenticate", "Own")
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	g := guard(t, newForward(t, auth.ForwardConfig{URL: "http://" + s.addr}))
	check := func(status int, with http.Header) {
		t.Helper()
		for _, path := range []string{"/x", "/hidden/x"} {
			want := status
			if path == "/hidden/x" && status == 401 {
				want = 404
			}
			g.upstream.Store(nil)
			res, _ := g.ask(t, "GET", path, with)
			if res.StatusCode != want || (g.upstream.Load() != nil) != (want == 200) || want == 503 && len(res.Header["Www-Authenticate"]) > 0 {
				t.Errorf("%s: %d %v, want %d", path, res.StatusCode, res.Header, want)
			}
		}
		if res, _ := g.ask(t, "GET", "/public/x", with); res.StatusCode != 200 {
			t.Errorf("a path that asks nobody: %d", res.StatusCode)
		}
	}
	good := http.Header{"Authorization": {"Own x"}}
	check(200, good)
	check(401, nil)
	s.stop()
	check(503, good)
	check(503, nil)
	s.start()
	check(200, good)
	check(401, nil)
}

// TestForwardUndecided holds that whatever is no clear word lets nobody pass.
func TestForwardUndecided(t *testing.T) {
	raw := map[string]string{
		"500":                  "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
		"502 with a cookie":    "HTTP/1.1 502 Oops\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nhi",
		"600":                  "HTTP/1.1 600 What\r\nContent-Length: 0\r\n\r\n",
		"304":                  "HTTP/1.1 304 Not Modified\r\n\r\n",
		"407":                  "HTTP/1.1 407 Proxy\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
		"101":                  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
		"nothing":              "",
		"garbage":              "SSH-2.0-OpenSSH_9.9\r\n",
		"half a header":        "HTTP/1.1 200 OK\r\nX-A: b",
		"status of two digits": "HTTP/1.1 20 OK\r\n\r\n",
		"content cut short":    "HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\nhalf",
		"too much content":     "HTTP/1.1 403 No\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("a", 300000),
		"too much header":      "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 80<<10) + "\r\nContent-Length: 0\r\n\r\n",
		"two lengths":          "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
		"user twice":           "HTTP/1.1 200 OK\r\nX-Auth-User: a\r\nX-Auth-User: b\r\nContent-Length: 0\r\n\r\n",
		"user of no letters":   "HTTP/1.1 200 OK\r\nX-Auth-User:  \r\nContent-Length: 0\r\n\r\n",
		"user in Latin-1":      "HTTP/1.1 200 OK\r\nX-Auth-User: \xe4\r\nContent-Length: 0\r\n\r\n",
		"control character":    "HTTP/1.1 200 OK\r\nX-Auth-User: a\r\nX-Auth-Email: a\x01b\r\nContent-Length: 0\r\n\r\n",
		"NUL in the status":    "HTTP/1.1 2\x000 OK\r\n\r\n",
		"HTTP/0.9":             "let him in",
		"NUL in the user":      "HTTP/1.1 200\r\nX-Auth-User: a\x00b\r\nContent-Length: 0\r\n\r\n",
	}
	for name, answer := range raw {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = http.ReadRequest(bufio.NewReader(c))
					_, _ = io.WriteString(c, answer)
					_ = c.Close()
				}
			}()
			g := guard(t, newForward(t, auth.ForwardConfig{URL: "http://" + l.Addr().String(), Subject: "X-Auth-User", UpstreamHeaders: []string{"X-Auth-Email"}}))
			res, body := g.ask(t, "GET", "/x", nil)
			if res.StatusCode != 503 || g.upstream.Load() != nil || len(res.Header["Set-Cookie"]) > 0 || len(res.Header["Www-Authenticate"]) > 0 {
				t.Errorf("%d %v %.100q", res.StatusCode, res.Header, body)
			}
		})
	}
}

// TestForwardTimeout holds that a service that hangs lets nobody pass.
func TestForwardTimeout(t *testing.T) {
	hang := make(chan struct{})
	s := newAuthService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/content" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "the beginning")
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	defer close(hang)
	for _, path := range []string{"/header", "/content"} {
		g := guard(t, newForward(t, auth.ForwardConfig{URL: "http://" + s.addr + path, Timeout: 50 * time.Millisecond}))
		if res, _ := g.ask(t, "GET", "/x", nil); res.StatusCode != 503 || g.upstream.Load() != nil {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}

// TestForwardReusesConnections holds that one connection serves many questions,
// whatever the answers.
func TestForwardReusesConnections(t *testing.T) {
	n := 0
	s := newAuthService(t, func(w http.ResponseWriter, _ *http.Request) {
		if n++; n%2 == 0 {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
	})
	g := guard(t, newForward(t, auth.ForwardConfig{URL: "http://" + s.addr}))
	for range 20 {
		g.ask(t, "GET", "/x", nil)
	}
	if asked, conns := s.asked.Load(), s.conns.Load(); asked != 20 || conns != 1 {
		t.Errorf("%d questions over %d connections", asked, conns)
	}
}

// TestForwardQuestion holds what the service gets to see.
func TestForwardQuestion(t *testing.T) {
	s := newAuthService(t, func(http.ResponseWriter, *http.Request) {})
	g := guard(t, newForward(t, auth.ForwardConfig{URL: "http://" + s.addr + "/verify?site=1"}))
	req, err := http.NewRequestWithContext(t.Context(), "DELETE", g.URL+"/a%2fb/../c?x=%20y&z", strings.NewReader("secret content"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "shop.example"
	req.Header = http.Header{
		"Authorization": {"Bearer abc"}, "Cookie": {"a=b", "c=d"}, "User-Agent": {"test"}, "X-Other": {"not copied"}, "Range": {"bytes=0-"}, "If-None-Match": {`"x"`},
		"X-Forwarded-Method": {"GET"}, "X-Forwarded-Uri": {"/public"}, "X-Forwarded-Host": {"admin.example"}, "X-Forwarded-For": {"198.51.100.7"}, "X-Forwarded-Proto": {"https"},
		"X-Real-Ip": {"10.0.0.1"}, "Proxy-Authorization": {"Basic x"}, "Te": {"trailers"},
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	got := s.last.Load()
	want := http.Header{
		"Authorization": {"Bearer abc"}, "Cookie": {"a=b; c=d"}, "User-Agent": {"test"}, "X-Forwarded-Method": {"DELETE"}, "X-Forwarded-Uri": {"/a%2fb/../c?x=%20y&z"},
		"X-Forwarded-Host": {"shop.example"}, "X-Forwarded-For": {"198.51.100.7"}, "X-Forwarded-Proto": {"https"},
	}
	header := got.Header.Clone()
	header["Cookie"] = []string{strings.Join(header["Cookie"], "; ")}
	if got.Method != "GET" || got.RequestURI != "/verify?site=1" || got.Host != s.addr || got.ContentLength > 0 || !maps.EqualFunc(header, want, slices.Equal) {
		t.Errorf("got %s %s for %s, %d bytes\n%v\nwant %v", got.Method, got.RequestURI, got.Host, got.ContentLength, header, want)
	}

	// A peer that is no trusted proxy speaks for nobody.
	r := filter.NewRequest(httptest.NewRequest("GET", "http://shop.example/x", nil), now)
	defer r.Release()
	r.Client = r.Peer
	r.HTTP.Header.Set("X-Forwarded-Proto", "https")
	f := newForward(t, auth.ForwardConfig{URL: "http://" + s.addr})
	if _, err := f.Verify(r, ""); err != nil || s.last.Load().Header.Get("X-Forwarded-Proto") != "http" {
		t.Errorf("%v %v", err, s.last.Load().Header)
	}
}

// TestForwardBehindOthers holds that credentials of another method are that method's
// to judge.
func TestForwardBehindOthers(t *testing.T) {
	s := newAuthService(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	bearer := newBearer(t, nil)
	g := guard(t, newForward(t, auth.ForwardConfig{URL: "http://" + s.addr}), bearer)
	now := time.Now()
	good := token(t, map[string]any{"iat": now.Unix(), "exp": now.Add(time.Hour).Unix()})
	for _, tt := range []struct {
		authorization []string
		status        int
		challenge     string
		asked         int64
	}{
		{[]string{"Bearer " + good}, 200, "", 0},
		{[]string{"Bearer abc"}, 401, `error="invalid_token"`, 0},
		{[]string{"Bearer"}, 400, `error="invalid_request"`, 0},
		{[]string{"Own x"}, 418, "", 1},
		{nil, 418, "", 1},
		{[]string{"Own x", "Own y"}, 400, `Bearer realm="api"`, 0},
	} {
		asked := s.asked.Load()
		res, _ := g.ask(t, "GET", "/x", http.Header{"Authorization": tt.authorization})
		if res.StatusCode != tt.status || !strings.Contains(res.Header.Get("Www-Authenticate"), tt.challenge) || s.asked.Load()-asked != tt.asked {
			t.Errorf("%q: %d %v, asked %d times", tt.authorization, res.StatusCode, res.Header, s.asked.Load()-asked)
		}
	}
}

// TestForwardTLS holds that the service must prove who it is.
func TestForwardTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	s.Config.ErrorLog = nil
	ca := auth.File{Name: "ca.pem", Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}
	for status, ca := range map[int]auth.File{200: ca, 503: {}} {
		g := guard(t, newForward(t, auth.ForwardConfig{URL: s.URL, CA: ca}))
		if res, _ := g.ask(t, "GET", "/x", nil); res.StatusCode != status {
			t.Errorf("with %s: %d, want %d", ca.Name, res.StatusCode, status)
		}
	}
}

// TestForwardIsBounded holds that a slow service is asked by a bounded number of
// requests, and that the others are not let in.
func TestForwardIsBounded(t *testing.T) {
	asked, release := make(chan struct{}, 1000), make(chan struct{})
	f := newForward(t, auth.ForwardConfig{URL: "http://127.0.0.1:1", Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		asked <- struct{}{}
		<-release
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})})
	results := make(chan error, 1000)
	for range 300 {
		go func() {
			r := request("GET", "/")
			defer r.Release()
			_, err := f.Verify(r, "")
			results <- err
		}()
	}
	for range 256 {
		<-asked
	}
	for range 300 - 256 {
		if err := <-results; err == nil || !strings.Contains(err.Error(), "too much") {
			t.Fatalf("got %v", err)
		}
	}
	close(release)
	for range 256 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestNewForwardRefuses(t *testing.T) {
	for want, c := range map[string]auth.ForwardConfig{
		`forward: "" is no URL of a service`:                                {},
		`forward: "https://u:p@auth.example/" is no URL of a service`:       {URL: "https://u:p@auth.example/"},
		`forward: "file:///etc/passwd" is no URL of a service`:              {URL: "file:///etc/passwd"},
		"forward: http://auth.example/: the service is asked by https only": {URL: "http://auth.example/"},
		"forward: ftp://auth.example/: the service is asked by https only":  {URL: "ftp://auth.example/", Cleartext: true},
		`forward: "a b" is no name of a header field`:                       {URL: "https://auth.example/", RequestHeaders: []string{"a b"}},
		"forward: X-Forwarded-For is not copied":                            {URL: "https://auth.example/", RequestHeaders: []string{"x-forwarded-for"}},
		"forward: If-None-Match is not copied":                              {URL: "https://auth.example/", RequestHeaders: []string{"If-None-Match"}},
		"forward: upstream_headers: Host has a meaning of its own":          {URL: "https://auth.example/", UpstreamHeaders: []string{"Host"}},
		"ca.pem: no certificate in PEM":                                     {URL: "https://auth.example/", CA: auth.File{Name: "ca.pem", Data: []byte("x")}},
		"forward: a negative time":                                          {URL: "https://auth.example/", Timeout: -1},
		`forward: "X User" is no name of a header field`:                    {URL: "https://auth.example/", Subject: "X User"},
	} {
		f, err := auth.NewForward(c)
		if f != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, good := range []auth.ForwardConfig{{URL: "https://auth.example/"}, {URL: "http://[::1]:1/"}, {URL: "http://localhost/"}, {URL: "http://auth.internal/", Cleartext: true}} {
		if _, err := auth.NewForward(good); err != nil {
			t.Errorf("%s: %v", good.URL, err)
		}
	}
}

// FuzzForwardAnswer reads any bytes as the answer of a service.
func FuzzForwardAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nX-Auth-User: anna\r\nX-Auth-Roles: a,,b\r\nX-Auth-Email: x\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nConnection: close, x\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: //evil\r\n\r\n", "HTTP/1.1 304\r\n\r\n", "HTTP/1.1 503 x\r\n\r\n", "", "HTTP/1.0 200 OK\n\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		var sent *http.Response
		m, err := auth.NewForward(auth.ForwardConfig{
			URL: "https://auth.example/", Subject: "X-Auth-User", Roles: "X-Auth-Roles", UpstreamHeaders: []string{"X-Auth-Email"},
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				var err error
				sent, err = http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), r)
				return sent, err
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		r := request("GET", "/")
		defer r.Release()
		who, err := m.Verify(r, "")
		var answered *auth.Answered
		switch {
		case (who == nil) == (err == nil):
			t.Fatalf("%q: %+v and %v", answer, who, err)
		case who != nil:
			if sent.StatusCode/100 != 2 || who.Subject == "" || strings.ContainsAny(who.Upstream.Get("X-Auth-Email"), "\r\n\x00") {
				t.Fatalf("%q: %+v", answer, who)
			}
		case errors.As(err, &answered):
			a := answered.Answer
			if a.Status != sent.StatusCode || a.Status < 300 || a.Status > 499 || len(a.Header["Connection"])+len(a.Header["Transfer-Encoding"])+len(a.Header["Content-Length"]) > 0 {
				t.Fatalf("%q: %+v", answer, a)
			}
		}
	})
}
