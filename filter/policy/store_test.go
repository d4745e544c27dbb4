package policy

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// redisServer starts a redis-server and returns its URL.
func redisServer(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("MOAT_TEST_ALL") != "" {
			t.Fatal("redis-server is missing: apt-get install redis-server")
		}
		t.Skip("redis-server is missing: apt-get install redis-server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	_ = l.Close()
	cmd := exec.Command(path, "--bind", "127.0.0.1", "--port", fmt.Sprint(addr.Port), "--save", "", "--dir", t.TempDir(), "--requirepass", "s3cret")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return "redis://" + addr.String() + "/0"
}

// TestStoreOfAPolicy: two nodes with one policy count a client and ban an address
// together, over a reload too.
func TestStoreOfAPolicy(t *testing.T) {
	url := redisServer(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.yaml")
	text := fmt.Sprintf(`version: 1
rules:
  - {id: admin, match: {path: /admin}, action: block}
tiers:
  - {id: anonymous, key: ip, rate: 1/h, burst: 6}
bans:
  - {after: 2 blocks in 1m, for: 10m, reasons: [rule]}
store: {url: %q, password_file: password, budget: 1s}
waf: {mode: "off"}
audit: {file: "off"}
`, url)
	for name, content := range map[string]string{file: text, filepath.Join(dir, "password"): "s3cret\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var nodes [2]*Runtime
	for i := range nodes {
		rt, err := Start(t.Context(), Options{File: file, CacheDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer rt.Close()
		nodes[i] = rt
	}
	waitFor := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain for %s", what)
			}
		}
	}
	probe := 0
	waitFor("the store to be asked by both", func() bool {
		probe++
		for _, rt := range nodes {
			ask(rt, "GET", "/", fmt.Sprintf("198.51.100.%d", probe%250), time.Now(), 200)
			if st := rt.StoreStats(); len(st) != 1 || st[0].Away || st[0].Asked == 0 {
				return false
			}
		}
		return true
	})
	granted := 0
	for i := range 12 {
		if ask(nodes[i%2], "GET", "/", "192.0.2.1", time.Now(), 200) == "" {
			granted++
		}
		if i == 5 {
			if err := os.WriteFile(file, []byte(text+"# changed\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := nodes[0].Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if granted != 6 {
		t.Errorf("two nodes granted %d together, want 6", granted)
	}
	if st := nodes[0].StoreStats(); len(st) != 1 || st[0].Asked == 0 {
		t.Errorf("after a reload: %+v", st)
	}
	for range 2 {
		ask(nodes[0], "GET", "/admin", "192.0.2.2", time.Now(), 200)
	}
	waitFor("the ban on the other node", func() bool {
		return ask(nodes[1], "GET", "/", "192.0.2.2", time.Now(), 200) == "ban"
	})
}

// TestStoreIsAway: a policy whose store nobody serves loads, and decides.
func TestStoreIsAway(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	text := "version: 1\ntiers: [{id: a, rate: 1/h, burst: 3}]\nstore: redis://127.0.0.1:1/0\nwaf: {mode: \"off\"}\naudit: {file: \"off\"}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rt, err := Start(t.Context(), Options{File: file, CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	granted := 0
	for range 10 {
		if ask(rt, "GET", "/", "192.0.2.1", time.Now(), 200) == "" {
			granted++
		}
	}
	if st := rt.StoreStats(); granted != 3 || len(st) != 1 || st[0].Degraded == 0 {
		t.Errorf("%d granted, want 3; %+v", granted, st)
	}
}
