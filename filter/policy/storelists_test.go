package policy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestListsOfAStore: what one node is told through its admin API another refuses within
// a second, over a reload too; a node without a server has the list of its last run.
func TestListsOfAStore(t *testing.T) {
	url := redisServer(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.yaml")
	text := fmt.Sprintf(`version: 1
lists:
  abuse: {store: shared.abuse}
  office: [192.0.2.0/24]
rules:
  - {id: abuse, match: {ip: $abuse}, action: block}
store: {url: %q, password_file: password}
waf: {mode: "off"}
audit: {file: "off"}
`, url)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var nodes [2]*Runtime
	var caches [2]string
	for i := range nodes {
		caches[i] = t.TempDir()
		rt, err := Start(t.Context(), Options{File: file, CacheDir: caches[i]})
		if err != nil {
			t.Fatal(err)
		}
		defer rt.Close()
		nodes[i] = rt
		<-rt.StoreLists()["abuse"].Ready()
	}
	mux := http.NewServeMux()
	HandleLists(mux, func() []*Runtime { return nodes[:1] })
	admin := func(method, target, body string, want int) map[string]any {
		t.Helper()
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequest(method, target, strings.NewReader(body)))
		var answer map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || rec.Code != want || rec.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %d %s %v, want %d", method, target, rec.Code, rec.Body, err, want)
		}
		return answer
	}
	refused := func(rt *Runtime, addr string, want bool) func() bool {
		return func() bool { return (ask(rt, "GET", "/", addr, time.Now(), 200) == "abuse") == want }
	}
	within := func(what string, done func() bool) {
		t.Helper()
		start := time.Now()
		for end := start.Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain for %s", what)
			}
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("%s took %s", what, d)
		}
	}

	admin("POST", "/moat/lists/abuse", `{"entries": ["203.0.113.0/24", "2001:db8::/32"]}`, 200)
	within("an addition", refused(nodes[1], "203.0.113.9", true))
	if got := admin("GET", "/moat/lists/abuse", "", 200); fmt.Sprint(got["entries"]) != "[map[entry:203.0.113.0/24] map[entry:2001:db8::/32]]" {
		t.Errorf("the list: %v", got)
	}
	// A reload keeps the copy, and its exchange with the store.
	write(text + "# changed\n")
	before := nodes[1].StoreLists()["abuse"]
	if err := nodes[1].Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if nodes[1].StoreLists()["abuse"] != before || !refused(nodes[1], "203.0.113.9", true)() {
		t.Error("the reload made a new copy")
	}
	admin("DELETE", "/moat/lists/abuse?entry=203.0.113.0/24", "", 200)
	within("a removal", refused(nodes[1], "203.0.113.9", false))
	admin("POST", "/moat/lists/abuse", `{"entries": ["198.51.100.7"], "for": "2h"}`, 200)
	within("an entry with an end", refused(nodes[1], "198.51.100.7", true))
	if got := admin("GET", "/moat/lists", "", 200); !strings.Contains(fmt.Sprint(got), "kept:store name:abuse synced:true") || !strings.Contains(fmt.Sprint(got), "kept:policy name:office") {
		t.Errorf("all lists: %v", got)
	}

	for _, c := range []struct {
		method, target, body string
		want                 int
	}{
		{"POST", "/moat/lists/abuse", `{"entries": []}`, 400},
		{"POST", "/moat/lists/abuse", `{"entries": ["192.0.2.1"], "until": "1h"}`, 400},
		{"POST", "/moat/lists/abuse", `{"entries": ["192.0.2.1"], "for": "soon"}`, 400},
		{"POST", "/moat/lists/abuse", `{"entries": ["192.0.2.1"], "for": "99999999h"}`, 400},
		{"POST", "/moat/lists/abuse", `{"entries": ["192.0.2.1/24"]}`, 400},
		{"POST", "/moat/lists/abuse", strings.Repeat(" ", maxListRequest+1), 400},
		{"DELETE", "/moat/lists/abuse", "", 400},
		{"DELETE", "/moat/lists/abuse?entry=x", "", 400},
		{"POST", "/moat/lists/office", `{"entries": ["192.0.2.1"]}`, 409},
		{"GET", "/moat/lists/office", "", 409},
		{"GET", "/moat/lists/nothing", "", 404},
	} {
		admin(c.method, c.target, c.body, c.want)
	}

	// Without a server and without a copy of an earlier run the list is empty; with
	// one it is what it was.
	_ = nodes[1].Close()
	found, err := filepath.Glob(caches[1] + "/store-*.json")
	if err != nil || len(found) != 1 {
		t.Fatalf("copies on disk: %v, %v", found, err)
	}
	write(strings.Replace(text, "password_file: password", "budget: 5ms", 1)) // no password: refused
	rt, err := Start(t.Context(), Options{File: file, CacheDir: caches[1]})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	if !refused(rt, "198.51.100.7", true)() || rt.StoreLists()["abuse"].Synced() {
		t.Error("the copy of the last run is not in force")
	}
}
