package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a running moat.
type process struct {
	cmd    *exec.Cmd
	listen string
	admin  string
	stdout lockedBuffer
	stderr lockedBuffer
}

// lockedBuffer collects what a process prints while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// freeAddr returns a loopback address that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startServe runs "moat serve" as a process of its own and waits until it
// answers.
func startServe(t *testing.T, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{listen: freeAddr(t), admin: freeAddr(t)}
	p.cmd = exec.Command(self)
	p.cmd.Args = append([]string{"moat", "serve", "--listen", p.listen, "--admin", p.admin}, args...)
	p.cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir(), "XDG_CACHE_HOME="+t.TempDir())
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(20 * time.Second):
			_ = p.cmd.Process.Kill()
			t.Error("moat did not end on SIGTERM")
		}
		if t.Failed() {
			t.Logf("moat printed:\n%s\n%s", p.stderr.String(), p.stdout.String())
		}
	})
	deadline := time.Now().Add(60 * time.Second)
	for time.Now().Before(deadline) {
		if res, err := http.Get("http://" + p.admin + "/moat/status"); err == nil {
			res.Body.Close()
			return p
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("moat ended: %v\n%s", err, p.stderr.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("moat does not answer\n%s", p.stderr.String())
	return nil
}

// requireTool returns the path of a program, or skips; where everything must be
// tested, a missing program is a failure.
func requireTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("MOAT_TEST_ALL") != "" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("skipped: %s is not installed", name)
	return ""
}

// TestFirstRun runs the five lines that the banner prints, as a reader of the
// banner would, and holds each against the answer that the banner promises.
func TestFirstRun(t *testing.T) {
	requireTool(t, "curl")
	p := startServe(t)
	lines := examples("http://" + p.listen)
	if len(lines) != 5 {
		t.Fatalf("%d lines to try, want 5", len(lines))
	}
	for _, e := range lines {
		t.Run(e.what, func(t *testing.T) {
			waitFor(t, func() bool { return strings.Contains(p.stderr.String(), e.command) }, "the banner does not print "+e.command)
			var stderr bytes.Buffer
			cmd := exec.Command("sh", "-c", e.command)
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v\n%s", e.command, err, stderr.String())
			}
			got := strings.TrimSpace(string(out))
			if m := regexp.MustCompile(`^HTTP/1\.1 (\d{3})`).FindStringSubmatch(got); m != nil {
				got = m[1]
			}
			if got != e.want {
				t.Errorf("%s\nanswered %s, want %s\n%s", e.command, got, e.want, out)
			}
			if challenged := strings.Contains(strings.ToLower(string(out)), "\nwww-authenticate:"); challenged != (e.want == "401") {
				t.Errorf("challenge: %v\n%s", challenged, out)
			}
		})
	}

	t.Run("the banner's credentials open /private/", func(t *testing.T) {
		banner := p.stderr.String()
		for _, pattern := range []string{`curl -u demo:.*`, `curl -H 'Authorization: Bearer .*`} {
			command := regexp.MustCompile(pattern).FindString(banner)
			if command == "" {
				t.Fatalf("the banner has no %s", pattern)
			}
			out, err := exec.Command("sh", "-c", command+" -s -o /dev/null -w '%{http_code}'").Output()
			if err != nil || string(out) != "200" {
				t.Errorf("%s: %s, %v", command, out, err)
			}
		}
	})

	t.Run("the banner says what is loaded", func(t *testing.T) {
		m := regexp.MustCompile(`(\d+) access rules, (\d+) tiers, (\d+) payload rules, (\d+) lists with (\d+) entries, (\d+) countries`).FindStringSubmatch(p.stderr.String())
		if m == nil {
			t.Fatal("it does not")
		}
		for _, n := range m[1:] {
			if n == "0" {
				t.Errorf("nothing loaded of one kind: %s", m[0])
			}
		}
	})

	t.Run("each refusal is one audit line without payload", func(t *testing.T) {
		wait := func() bool { return strings.Count(p.stdout.String(), "\n") >= 4 }
		waitFor(t, wait, "no audit lines")
		stages := map[string]bool{}
		for line := range strings.SplitSeq(strings.TrimSpace(p.stdout.String()), "\n") {
			var entry struct {
				Stage   string `json:"stage"`
				Verdict string `json:"verdict"`
				ID      string `json:"id"`
			}
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if entry.ID == "" || entry.Verdict != "block" && entry.Verdict != "challenge" {
				t.Errorf("line %s", line)
			}
			if strings.Contains(line, "UNION") {
				t.Errorf("a payload is in the audit log: %s", line)
			}
			stages[entry.Stage] = true
		}
		for _, want := range []string{"access", "tier", "payload", "auth"} {
			if !stages[want] {
				t.Errorf("no line of the %s stage", want)
			}
		}
	})
}

// waitFor waits until ok, ten seconds at most.
func waitFor(t *testing.T, ok func() bool, complaint string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal(complaint)
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestAdminAddress(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.yaml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("version: 1\naudit: {file: \"off\"}\n")
	p := startServe(t, "--policy", file)

	if code, body := get(t, "http://"+p.admin+"/moat/status"); code != 200 || !strings.Contains(body, `"payload_rules"`) {
		t.Errorf("status: %d %s", code, body)
	}
	_, _ = get(t, "http://"+p.listen+"/?q=<script>alert(1)</script>")
	if code, body := get(t, "http://"+p.admin+"/metrics"); code != 200 ||
		!regexp.MustCompile(`moat_requests_total\{reason="payload",stage="payload",verdict="block"\} 1`).MatchString(body) {
		t.Errorf("metrics: %d, and no refusal is counted", code)
	}
	for _, path := range []string{"/moat/status", "/metrics", "/moat/reload"} {
		if code, _ := get(t, "http://"+p.listen+path); code != http.StatusNotFound {
			t.Errorf("the public address answers %s with %d", path, code)
		}
	}

	reload := func(header http.Header) (int, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, "http://"+p.admin+"/moat/reload", nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range header {
			req.Header[name] = values
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	write("version: 1\nrules:\n  - {id: x, match: {country: ZZ}, action: block}\n")
	code, body := reload(nil)
	var answer struct {
		Policies []struct {
			OK     bool
			Errors []struct {
				File    string
				Line    int
				Message string
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if code != http.StatusUnprocessableEntity || len(answer.Policies) != 1 || answer.Policies[0].OK ||
		len(answer.Policies[0].Errors) != 1 || answer.Policies[0].Errors[0].Line != 3 || answer.Policies[0].Errors[0].File != file {
		t.Errorf("reload of a bad policy: %d %s", code, body)
	}
	if code, _ := get(t, "http://"+p.listen+"/"); code != 200 {
		t.Errorf("after a bad reload an open page answers %d", code)
	}

	write("version: 1\nrules:\n  - {id: x, match: {path: /}, action: block}\n")
	if code, body := reload(nil); code != 200 || !strings.Contains(body, `"ok": true`) {
		t.Errorf("reload of a good policy: %d %s", code, body)
	}
	if code, _ := get(t, "http://"+p.listen+"/"); code != 403 {
		t.Errorf("after a good reload the refused page answers %d", code)
	}
	if code, _ := reload(http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}); code != 403 {
		t.Errorf("a page of another origin may reload: %d", code)
	}
}

func TestProxyProtocol(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nrules:\n  - {id: x, match: {ip: 192.0.2.66}, action: block}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startServe(t, "--policy", file, "--proxy-protocol", "127.0.0.1")
	ask := func(preamble string) string {
		t.Helper()
		conn, err := net.DialTimeout("tcp", p.listen, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "%sGET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: test\r\nAccept: */*\r\nConnection: close\r\n\r\n", preamble)
		answer, _ := io.ReadAll(conn)
		line, _, _ := strings.Cut(string(answer), "\r\n")
		return line
	}
	if got := ask("PROXY TCP4 192.0.2.66 127.0.0.1 4711 80\r\n"); got != "HTTP/1.1 403 Forbidden" {
		t.Errorf("a blocked address behind the PROXY protocol: %q", got)
	}
	if got := ask("PROXY TCP4 192.0.2.67 127.0.0.1 4711 80\r\n"); got != "HTTP/1.1 200 OK" {
		t.Errorf("another address behind the PROXY protocol: %q", got)
	}
}

// refuseToStart runs "moat serve", which must end by itself, and returns what it
// printed.
func refuseToStart(t *testing.T, code int, args ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = append([]string{"moat", "serve"}, args...)
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != code {
		t.Errorf("%v: exit code %d, want %d", args, cmd.ProcessState.ExitCode(), code)
	}
	return string(out)
}

func TestServeTellsWhyItDoesNotStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	running := startServe(t)
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	for _, tt := range []struct {
		code int
		args []string
		want string
	}{
		{exitFinding, []string{"--listen", taken.Addr().String(), "--admin", "off"}, "cannot listen on " + taken.Addr().String()},
		{exitFinding, []string{"--listen", running.listen, "--admin", "off"}, "address already in use"},
		{exitFinding, []string{"--listen", freeAddr(t), "--admin", running.admin}, "address already in use"},
		{exitFinding, []string{"--listen", freeAddr(t), "--admin", "off", "--policy", missing}, "moat serve: " + missing + ": no such file"},
		{exitUsage, []string{"--listen", "8080"}, "write host:port or :port"},
		{exitUsage, []string{"--upstream", "127.0.0.1:9000"}, "write http://host:port"},
		{exitUsage, []string{"--upstream", "localhost:9000"}, "write http://"},
		{exitUsage, []string{"--upstream", "http://u:secret@h"}, "no credentials"},
	} {
		if out := refuseToStart(t, tt.code, tt.args...); !strings.Contains(out, tt.want) || strings.Contains(out, "secret") {
			t.Errorf("%v: printed\n%s\nwant %q", tt.args, out, tt.want)
		}
	}
}

func TestServeRefusesToStart(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nrulez: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args = []string{"moat", "serve", "--listen", freeAddr(t), "--admin", "off", "--policy", file}
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != exitFinding {
		t.Errorf("exit code %d", cmd.ProcessState.ExitCode())
	}
	if !strings.Contains(string(out), "policy.yaml:2:1") || !strings.Contains(string(out), "rulez") {
		t.Errorf("the fault is not told with its place:\n%s", out)
	}
}
