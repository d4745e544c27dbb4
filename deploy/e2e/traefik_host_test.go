package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTraefikHostIsLikeTraefik sends the same requests through the program of the
// module ./traefik and through the whole Traefik, both without a plugin: the upstream
// must see the same.
func TestTraefikHostIsLikeTraefik(t *testing.T) {
	skipShort(t)
	if os.Getenv("MOAT_TEST_TRAEFIK") == "" {
		t.Skip("skipped: MOAT_TEST_TRAEFIK=1 runs the whole Traefik")
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s %s\n", r.Method, r.RequestURI, r.Host)
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			_, _ = fmt.Fprintf(w, "%s: %q\n", name, r.Header[name])
		}
	}))
	t.Cleanup(upstream.Close)
	start := func(whole bool) string {
		g := &traefikTarget{whole: whole, socket: "/nowhere.sock", change: func(s string) string {
			return strings.NewReplacer("middlewares: [moat]\n", "\n", "middlewares: [moat, password]", "middlewares: [password]").Replace(s)
		}}
		g.static = func(s string) string { return strings.Replace(s, `"127.0.0.1/32"`, `"127.0.0.1/32", "127.0.0.9"`, 1) }
		return g.startTraefik(t, upstream.URL)
	}
	host, whole := start(false), start(true)
	for _, src := range []string{"127.0.0.1", "127.0.0.55"} { // trusted, and not
		for _, req := range [][]string{
			{"GET / HTTP/1.1"},
			{"GET /a%2Fb/%7euser/%41?x=%41;y=1 HTTP/1.1"},
			{"GET //double/./dot/../x HTTP/1.1"},
			{"GET /%2e%2e/etc/passwd HTTP/1.1"},
			{"GET /a#b HTTP/1.1"},
			{"GET /a%23b HTTP/1.1"},
			{"GET http:opaque HTTP/1.1"},
			{"OPTIONS * HTTP/1.1"},
			{"GET http://other.example/x HTTP/1.1"},
			{"GET /?q=a+b&q=%zz HTTP/1.1"},
			{"GET / HTTP/1.1", "X-Forwarded-For: 203.0.113.1", "X-Forwarded-For: 203.0.113.2", "X-Real-Ip: 203.0.113.3"},
			{"GET / HTTP/1.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example", "X-Forwarded-Port: 1", "X-Forwarded-Server: s", "X-Forwarded-Prefix: /p"},
			{"GET / HTTP/1.1", "X_Forwarded_For: 203.0.113.1", "X.Remote.User: admin", "X_Remote_User: admin", "Forwarded: for=203.0.113.1"},
			{"GET / HTTP/1.1", "Connection: X-Forwarded-For, X-Secret, close", "X-Secret: 1", "X-Forwarded-For: 203.0.113.1"},
			{"GET / HTTP/1.1", "Te: trailers", "Keep-Alive: 5", "Proxy-Connection: close", "Upgrade: h2c"},
			{"BREW / HTTP/1.1", "Accept-Encoding: br"},
			{"GET / HTTP/1.0"},
		} {
			t.Run(src+" "+strings.Join(req, " "), func(t *testing.T) {
				lines := append(slices.Clone(req), "Host: localhost")
				if !slices.ContainsFunc(req, func(s string) bool { return strings.HasPrefix(s, "Connection:") }) {
					lines = append(lines, "Connection: close")
				}
				m := Message{Method: http.MethodGet, Src: src, Head: []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")}
				a, err := Send(t.Context(), host, m)
				if err != nil {
					t.Fatal(err)
				}
				b, err := Send(t.Context(), whole, m)
				if err != nil {
					t.Fatal(err)
				}
				if a.Status != b.Status || string(a.Body) != string(b.Body) {
					t.Errorf("the host: %d\n%s\nTraefik: %d\n%s", a.Status, a.Body, b.Status, b.Body)
				}
			})
		}
	}
}
