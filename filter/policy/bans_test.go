package policy

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// banRuntime runs the policy of testdata/good/bans.yaml.
func banRuntime(t *testing.T, cache string, clients *ClientState) *Runtime {
	t.Helper()
	rt, err := Start(t.Context(), Options{File: "testdata/good/bans.yaml", CacheDir: cache, Clients: clients})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rt.Close() })
	return rt
}

func TestBansOfAPolicy(t *testing.T) {
	cache := t.TempDir()
	rt := banRuntime(t, cache, nil)
	now := time.Now()
	for i, want := range []string{"admin", "admin", "admin", "admin", "admin", "ban", "ban"} {
		if got := ask(rt, "GET", "/admin", "192.0.2.1", now, 200); i < 5 && got != want {
			t.Errorf("request %d: refused by %q, want %q", i+1, got, want)
		}
	}
	if got := ask(rt, "GET", "/", "192.0.2.1", now, 200); got != "ban" {
		t.Errorf("an innocent request of a banned client: refused by %q", got)
	}
	if got := ask(rt, "GET", "/", "192.0.2.2", now, 200); got != "" {
		t.Errorf("another client: refused by %q", got)
	}
	// The office is refused nothing, and never banned.
	for range 10 {
		if got := ask(rt, "GET", "/admin", "203.0.113.9", now, 200); got != "" {
			t.Errorf("the office is refused by %q", got)
		}
	}
	bans := rt.Bans().List()
	if len(bans) != 1 || bans[0].Level != 1 || !bans[0].Until.Equal(now.Add(10*time.Minute)) {
		t.Errorf("bans %+v", bans)
	}
	if _, err := rt.Bans().Add(bans[0].Prefix, time.Hour, "manual"); err != nil {
		t.Fatal(err)
	}

	// A reload keeps them, a restart too.
	if err := rt.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask(rt, "GET", "/", "192.0.2.1", now, 200); got != "manual" {
		t.Errorf("after a reload: refused by %q", got)
	}
	if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
	again := banRuntime(t, cache, nil)
	if got := ask(again, "GET", "/", "192.0.2.1", now, 200); got != "manual" {
		t.Errorf("after a restart: refused by %q", got)
	}
}

func TestBansAreShared(t *testing.T) {
	clients := NewClientState()
	cache := t.TempDir()
	a, b := banRuntime(t, cache, clients), banRuntime(t, cache, clients)
	now := time.Now()
	for range 5 {
		ask(a, "GET", "/admin", "192.0.2.1", now, 200)
	}
	if got := ask(b, "GET", "/", "192.0.2.1", now, 200); got != "ban" {
		t.Errorf("the other runtime: refused by %q", got)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Bans().Sync(); err != nil {
		t.Error(err)
	}
}

func TestAdminBans(t *testing.T) {
	rt := banRuntime(t, t.TempDir(), nil)
	mux := http.NewServeMux()
	HandleBans(mux, func() []*Runtime { return []*Runtime{rt, rt} })
	call := func(method, path, body string) (int, string) {
		t.Helper()
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		data, err := io.ReadAll(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(data) || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %s is no JSON", method, path, data)
		}
		return w.Code, string(data)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/moat/bans", "", 200, `"bans": []`},
		{"POST", "/moat/bans", `{"ip": "192.0.2.1", "for": "1h"}`, 200, `"prefix": "192.0.2.1/32"`},
		{"POST", "/moat/bans", `{"ip": "2001:db8::/32", "for": "1d"}`, 200, `"rule": "manual"`},
		{"POST", "/moat/bans", `{"ip": "0.0.0.0/0", "for": "1h"}`, 400, "everybody"},
		{"POST", "/moat/bans", `{"ip": "192.0.2.1", "for": "soon"}`, 400, "error"},
		{"POST", "/moat/bans", `{"ip": "nobody", "for": "1h"}`, 400, "not an address"},
		{"POST", "/moat/bans", `{"ip": "192.0.2.1", "for": "1h", "why": "x"}`, 400, "write"},
		{"POST", "/moat/bans", strings.Repeat("x", 10_000), 400, "write"},
		{"GET", "/moat/bans", "", 200, "192.0.2.1/32"},
		{"DELETE", "/moat/bans/192.0.2.2", "", 404, "no ban"},
		{"DELETE", "/moat/bans/192.0.2.1", "", 200, "192.0.2.1/32"},
		{"DELETE", "/moat/bans/192.0.2.1", "", 404, "no ban"},
		{"DELETE", "/moat/bans/2001:db8:7::1", "", 200, "2001:db8::/32"},
		{"DELETE", "/moat/bans/192.0.2.0/33", "", 400, "not a prefix"},
		{"GET", "/moat/bans", "", 200, `"bans": []`},
	} {
		if status, body := call(c.method, c.path, c.body); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s %.60s: %d %s, want %d with %q", c.method, c.path, c.body, status, body, c.status, c.want)
		}
	}
}
