package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter/policy"
)

// redisServer starts a redis-server and returns its URL and what ends it.
func redisServer(t *testing.T) (url string, kill func()) {
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
	cmd := exec.Command(path, "--bind", "127.0.0.1", "--port", fmt.Sprint(addr.Port), "--save", "", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(kill)
	return "redis://" + addr.String(), kill
}

// TestLists runs the command against the admin routes of a policy with a real store.
func TestLists(t *testing.T) {
	store, kill := redisServer(t)
	file := t.TempDir() + "/policy.yaml"
	text := fmt.Sprintf("version: 1\nlists:\n  abuse: {store: abuse}\n  office: [192.0.2.0/24]\nstore: %s\nwaf: {mode: \"off\"}\naudit: {file: \"off\"}\n", store)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rt, err := policy.Start(t.Context(), policy.Options{File: file, CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	<-rt.StoreLists()["abuse"].Ready()
	mux := http.NewServeMux()
	policy.HandleLists(mux, func() []*policy.Runtime { return []*policy.Runtime{rt} })
	admin := httptest.NewServer(mux)
	defer admin.Close()

	many := new(strings.Builder)
	for i := range 1200 {
		fmt.Fprintf(many, "10.1.%d.%d # one of many\n", i/250, i%250)
	}
	for _, c := range []struct {
		args, in string
		code     int
		out, err string
	}{
		{"", "", 0, "office  1 entries  in the policy", ""},
		{"show abuse", "", 0, "", ""},
		{"add abuse 198.51.100.7 2001:db8::/32", "", 0, "added 2 of 2", ""},
		{"add --for 2h abuse 203.0.113.0-203.0.113.255", "", 0, "added 1 of 1", ""},
		{"show abuse", "", 0, "203.0.113.0/24  until 20", ""},
		{"add abuse 198.51.100.7", "", 0, "added 0 of 1", ""},
		{"remove abuse 198.51.100.7", "", 0, "removed 1 of 1", ""},
		{"remove abuse 198.51.100.7", "", 0, "removed 0 of 1", ""},
		{"add abuse -", many.String(), 0, "added 1200 of 1200", ""},
		{"remove abuse -", many.String(), 0, "removed 1200 of 1200", ""},
		{"add abuse -", "# nothing\n", 2, "", "no entries"},
		{"show abuse", "", 0, "2001:db8::/32", ""},
		{"add abuse everybody", "", 1, "", "not an address"},
		{"add abuse 0.0.0.0/0", "", 1, "", "holds everybody"},
		{"add --for 0s abuse 192.0.2.1", "", 1, "", "moat lists: "},
		{"add nowhere 192.0.2.1", "", 1, "", "no policy in use"},
		{"show office", "", 1, "", "keep it in the store"},
		{"add office 192.0.2.1", "", 1, "", "keep it in the store"},
		{"add abuse", "", 2, "", "Usage:"},
		{"remove abuse", "", 2, "", "Usage:"},
		{"forget", "", 2, "", "Usage:"},
		{"--help", "", 0, "", "Usage:"},
	} {
		var stdout, stderr bytes.Buffer
		code := listsFrom(append([]string{"--admin", admin.URL}, strings.Fields(c.args)...), strings.NewReader(c.in), &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.out) || !strings.Contains(stderr.String(), c.err) || c.err == "" && stderr.Len() > 0 {
			t.Errorf("moat lists %s: exit %d, %q, %q; want %d, %q, %q", c.args, code, stdout.String(), stderr.String(), c.code, c.out, c.err)
		}
	}
	kill()
	var stdout, stderr bytes.Buffer
	if code := lists([]string{"--admin", admin.URL, "add", "abuse", "192.0.2.1"}, &stdout, &stderr); code != exitFinding || !strings.Contains(stderr.String(), "store does not answer") {
		t.Errorf("without a store: exit %d, %q", code, stderr.String())
	}
	if code := lists([]string{"--admin", "127.0.0.1:1"}, &stdout, &stderr); code != exitUsage {
		t.Errorf("nobody listens: exit %d", code)
	}
}
