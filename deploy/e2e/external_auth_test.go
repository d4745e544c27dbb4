package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// externalService is an auth service that can be stopped and started.
type externalService struct {
	t    *testing.T
	addr string
	srv  *http.Server
}

func (s *externalService) start() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.srv = &http.Server{Handler: s}
	go func() { _ = s.srv.Serve(l) }()
}

func (s *externalService) stop() { _ = s.srv.Close() }

func (s *externalService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	switch r.Header.Get("Cookie") {
	case "sid=anna":
		h.Set("X-Auth-User", "anna")
		h.Set("X-Auth-Email", "anna@example.com")
		h.Set("Set-Cookie", "sid=renewed")
	case "sid=evil":
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "not you")
	case "sid=broken":
		w.WriteHeader(http.StatusBadGateway)
	case "sid=browser":
		h.Set("Location", "https://login.example/?next="+r.Header.Get("X-Forwarded-Uri"))
		h.Set("Set-Cookie", "state=1; Secure")
		w.WriteHeader(http.StatusFound)
	default:
		h.Add("Www-Authenticate", `Own realm="there"`)
		h.Add("Www-Authenticate", "Negotiate")
		h.Add("Set-Cookie", "state=1; HttpOnly")
		h.Add("Set-Cookie", "csrf=2")
		h.Set("Content-Type", "text/x-own")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "own words")
	}
}

// TestExternalService has an external service decide, in every host: its answers
// reach the client as they are, and its outage lets nobody in.
func TestExternalService(t *testing.T) {
	onTargets(t, func(t *testing.T, target Target) {
		s := &externalService{t: t, addr: "127.0.0.1:0"}
		s.start()
		t.Cleanup(s.stop)
		var saw atomic.Pointer[http.Header]
		u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := r.Header.Clone()
			saw.Store(&h)
			w.Header().Add("Set-Cookie", "own=1")
			_, _ = io.WriteString(w, "upstream")
		}))
		t.Cleanup(u.Close)
		policy := filepath.Join(t.TempDir(), "policy.yaml")
		writeFile(t, policy, fmt.Appendf(nil, `version: 1
waf: {mode: "off"}
auth:
  methods: [{forward: {url: "http://%s/verify", subject: X-Auth-User, upstream_headers: [X-Auth-Email]}}]
  require: [{match: {path: /public}, auth: none}, {match: {path: /staff}, roles: staff}, {auth: required}]
responses: {profile: s3}
`, s.addr))
		addr := target.Start(t, policy, u.URL)
		ask := func(method, path, cookie string) *Answer {
			t.Helper()
			lines := []string{method + " " + path + " HTTP/1.1", "Host: localhost", "Connection: close", "X-Auth-Email: root@example.com", "x_auth_email: root@example.com", "X-Remote-User: root"}
			if cookie != "" {
				lines = append(lines, "Cookie: "+cookie)
			}
			saw.Store(nil)
			a, err := Send(t.Context(), addr, Message{Method: method, Head: []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")})
			if err != nil {
				t.Fatal(err)
			}
			if (saw.Load() != nil) != (a.Status == 200) {
				t.Errorf("%s %s with %q: %d, and the upstream was asked: %v", method, path, cookie, a.Status, saw.Load() != nil)
			}
			return a
		}
		refused := func() {
			t.Helper()
			a := ask("GET", "/x", "")
			if a.Status != 401 || strings.Join(a.Header["Www-Authenticate"], "|") != `Own realm="there"|Negotiate` || strings.Join(a.Header["Set-Cookie"], "|") != "state=1; HttpOnly|csrf=2" ||
				a.Header.Get("Content-Type") != "text/x-own" || string(a.Body) != "own words" {
				t.Errorf("401: %d %v %q", a.Status, a.Header, a.Body)
			}
			a = ask("HEAD", "/x", "")
			if a.Status != 401 || len(a.Header["Www-Authenticate"]) != 2 || len(a.Body) > 0 {
				t.Errorf("HEAD: %d %v %q", a.Status, a.Header, a.Body)
			}
			if a = ask("GET", "/x", "sid=evil"); a.Status != 403 || string(a.Body) != "not you" {
				t.Errorf("403: %d %v %q", a.Status, a.Header, a.Body)
			}
			if a = ask("GET", "/x?y=z", "sid=browser"); a.Status != 302 || a.Header.Get("Location") != "https://login.example/?next=/x?y=z" || a.Header.Get("Set-Cookie") == "" {
				t.Errorf("302: %d %v", a.Status, a.Header)
			}
			if a = ask("GET", "/x", "sid=broken"); a.Status != 503 || len(a.Header["Www-Authenticate"]) > 0 {
				t.Errorf("502 of the service: %d %v", a.Status, a.Header)
			}
		}
		passes := func() {
			t.Helper()
			if a := ask("GET", "/x", "sid=anna"); strings.Join(a.Header["Set-Cookie"], "|") != "sid=renewed|own=1" && strings.Join(a.Header["Set-Cookie"], "|") != "own=1|sid=renewed" {
				t.Errorf("the client got the cookies %q", a.Header["Set-Cookie"])
			}
			if h := saw.Load(); h == nil || strings.Join(h.Values("X-Auth-Email"), "|") != "anna@example.com" || strings.Join(h.Values("X-Remote-User"), "|") != "anna" || len((*h)["X_auth_email"]) > 0 {
				t.Errorf("the upstream got %v", h)
			}
			ask("GET", "/public", "sid=anna")
			if h := saw.Load(); h == nil || h.Get("X-Auth-Email") != "" || h.Get("X-Remote-User") != "" {
				t.Errorf("the upstream got %v on a path that asks nobody", h)
			}
			if a := ask("GET", "/staff", "sid=anna"); a.Status != 403 || !strings.Contains(string(a.Body), "AccessDenied") || a.Header.Get("Set-Cookie") != "sid=renewed" {
				t.Errorf("a role missing: %d %q", a.Status, a.Body)
			}
		}
		refused()
		passes()
		s.stop()
		for _, cookie := range []string{"sid=anna", "sid=evil", ""} {
			if a := ask("GET", "/x", cookie); a.Status != 503 || len(a.Header["Www-Authenticate"]) > 0 {
				t.Errorf("outage: %d %v", a.Status, a.Header)
			}
		}
		s.start()
		refused()
		passes()
	})
}

// TestSignedURLs sends signed URLs through every host, byte by byte.
func TestSignedURLs(t *testing.T) {
	onTargets(t, func(t *testing.T, target Target) {
		u := newUpstream(t)
		dir := t.TempDir()
		secret := []byte("0123456789abcdef0123456789abcdef")
		writeFile(t, filepath.Join(dir, "url.keys"), fmt.Appendf(nil, "keys: [{id: one, secret: %q}]\n", base64.StdEncoding.EncodeToString(secret)))
		policy := filepath.Join(dir, "policy.yaml")
		writeFile(t, policy, []byte("version: 1\nwaf: {mode: \"off\"}\nauth: {methods: [{signed_url: {keys: url.keys}}]}\nresponses: {profile: s3, strict: true}\n"))
		addr := target.Start(t, policy, u.URL)
		link := func(uri string, expires time.Time) string {
			path, query, _ := strings.Cut(uri, "?")
			at := fmt.Sprint(expires.Unix())
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte("moat-signed-url-1\nGET\nlocalhost\n" + path + "\none\n" + at + "\n" + query + "\n"))
			if query != "" {
				query += "&"
			}
			return path + "?" + query + "moat_key=one&moat_expires=" + at + "&moat_signature=" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
		}
		soon := time.Now().Add(time.Hour)
		for name, tt := range map[string]struct {
			uri    string
			status int
			code   string
		}{
			"good":                 {link("/api/me", soon), 200, ""},
			"with a query":         {link("/api/me?a=1%20x&b", soon), 200, ""},
			"expired":              {link("/api/me", time.Now().Add(-time.Second)), 403, "InvalidAccessKeyId"},
			"a parameter added":    {link("/api/me", soon) + "&x=1", 403, "InvalidAccessKeyId"},
			"of another path":      {strings.Replace(link("/api/me", soon), "/me", "/admin/users", 1), 403, "InvalidAccessKeyId"},
			"none":                 {"/api/me", 403, "AccessDenied"},
			"one of the two twice": {link("/api/me", soon) + "&moat_expires=1", 400, ""},
		} {
			a, err := Send(t.Context(), addr, Message{Method: "GET", Head: []byte("GET " + tt.uri + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")})
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != tt.status || !strings.Contains(string(a.Body), tt.code) || len(a.Header["Www-Authenticate"]) > 0 {
				t.Errorf("%s: %d %v %q, want %d", name, a.Status, a.Header, a.Body, tt.status)
			}
		}
	})
}
