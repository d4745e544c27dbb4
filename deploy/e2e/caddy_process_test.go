package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// plainMain is the program that xcaddy makes: Caddy's standard modules and ours.
const plainMain = `package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/moatwaf/moat/deploy/caddy"
)

func main() { caddycmd.Main() }
`

// plainCaddy builds a Caddy with the module, in a Go module of its own as xcaddy
// does it, and returns its path.
var plainCaddy = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(binaryDir, "plain")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return "", err
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return "", err
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		return "", err
	}
	mod = regexp.MustCompile(`(?m)^module .*`).ReplaceAll(mod, []byte("module caddy"))
	mod = regexp.MustCompile(`(?s)\ntool \(.*?\n\)\n`).ReplaceAll(mod, nil)
	mod = fmt.Appendf(mod, "\nrequire github.com/moatwaf/moat v0.0.0\n\nreplace github.com/moatwaf/moat => %s\n", root)
	for name, content := range map[string][]byte{"go.mod": mod, "go.sum": sum, "main.go": []byte(plainMain)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return "", err
		}
	}
	path := filepath.Join(dir, "caddy")
	cmd := exec.Command("go", "build", "-mod=mod", "-o", path, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Caddy: %w\n%s", err, out)
	}
	return path, nil
})

// caddy runs a command of Caddy and returns what it printed.
func caddy(t *testing.T, stdin string, args ...string) (output string, code int) {
	t.Helper()
	path, err := plainCaddy()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestCaddyCommands runs the commands that operators use before they trust a
// configuration.
func TestCaddyCommands(t *testing.T) {
	skipShort(t)
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		writeFile(t, path, []byte(content))
		return path
	}
	policy := write("policy.yaml", "version: 1\naudit: {file: \"off\"}\n")
	faulty := write("faulty.yaml", "version: 1\nrules:\n  - {id: x, match: {country: ZZ}, action: block}\n")
	site := func(moat string) string { return ":8080 {\n\t" + moat + "\n\treverse_proxy localhost:9000\n}\n" }
	good := write("Caddyfile", site("moat "+policy+" {\n\t\texclude 942100 ARGS:q\n\t}"))

	t.Run("list-modules", func(t *testing.T) {
		out, code := caddy(t, "", "list-modules", "--packages")
		for _, want := range []string{"http.handlers.moat github.com/moatwaf/moat", "admin.api.moat github.com/moatwaf/moat"} {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%d, no %q in\n%s", code, want, out)
			}
		}
	})
	t.Run("adapt", func(t *testing.T) {
		out, code := caddy(t, "", "adapt", "--config", good)
		if code != 0 || !strings.Contains(out, `{"exclude":[{"rules":"942100","targets":["ARGS:q"]}],"handler":"moat","policy":"`+policy+`"}`) {
			t.Errorf("%d\n%s", code, out)
		}
	})
	t.Run("adapt a fault", func(t *testing.T) {
		path := write("Caddyfile.fault", site("moat policy.yaml {\n\t\tparanoia 9\n\t}"))
		out, code := caddy(t, "", "adapt", "--adapter", "caddyfile", "--config", path)
		if code == 0 || !strings.Contains(out, "at "+path+":3") && !strings.Contains(out, "Caddyfile.fault:3") {
			t.Errorf("%d, the place is not told\n%s", code, out)
		}
	})
	t.Run("validate", func(t *testing.T) {
		if out, code := caddy(t, "", "validate", "--config", good); code != 0 || !strings.Contains(out, "Valid configuration") {
			t.Errorf("%d\n%s", code, out)
		}
	})
	for name, tt := range map[string]struct{ moat, want string }{
		"validate a faulty policy":          {"moat " + faulty, "faulty.yaml:3:30"},
		"validate a missing policy":         {"moat " + dir + "/missing.yaml", "missing.yaml: no such file"},
		"validate a rule that is not there": {"moat " + policy + " {\n\t\texclude 942999\n\t}", "there is no rule 942999"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write("Caddyfile.bad", site(tt.moat))
			if out, code := caddy(t, "", "validate", "--adapter", "caddyfile", "--config", path); code == 0 || !strings.Contains(out, tt.want) {
				t.Errorf("%d, no %q in\n%s", code, tt.want, out)
			}
		})
	}
	t.Run("fmt", func(t *testing.T) {
		out, code := caddy(t, "", "fmt", good)
		if want, _ := os.ReadFile(good); code != 0 || out != string(want) {
			t.Errorf("%d\n%s", code, out)
		}
	})
}

// lowAddr is freeAddr with a port below those that connections go out from.
func lowAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", 20000+rand.IntN(12000)))
		if err != nil {
			continue
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		_ = l.Close()
		return "127.0.0.1:" + port
	}
	t.Fatal("no port is free")
	return ""
}

// caddyProcess is a running Caddy with the module.
type caddyProcess struct {
	addr  string // of its sites
	admin string
	pid   int
}

// runCaddy starts Caddy with a Caddyfile, in which ADDR and PORT stand for the
// address of the sites. "bind fd/3" has it listen on a socket that it is given.
func runCaddy(t *testing.T, config string) caddyProcess {
	t.Helper()
	path, err := plainCaddy()
	if err != nil {
		t.Fatal(err)
	}
	p := caddyProcess{addr: lowAddr(t), admin: lowAddr(t)}
	file := filepath.Join(t.TempDir(), "Caddyfile")
	writeFile(t, file, []byte(p.expand(config)))
	var log logBuffer
	home := t.TempDir()
	cmd := exec.Command(path, "run", "--config", file)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	cmd.Stdout, cmd.Stderr = &log, &log
	if strings.Contains(config, "fd/3") {
		l, err := net.Listen("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		socket, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = l.Close(), socket.Close() }()
		cmd.ExtraFiles = []*os.File{socket}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = cmd.Process.Pid
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(15 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			t.Error("Caddy did not end after SIGTERM")
		}
		if t.Failed() {
			t.Logf("log of Caddy:\n%s", log.tail())
		}
	})
	client := &http.Client{Timeout: startTime} // the socket that Caddy is given takes connections before it
	for deadline := time.Now().Add(startTime); ; time.Sleep(20 * time.Millisecond) {
		resp, err := client.Get("http://" + p.addr + "/")
		if err == nil {
			_ = resp.Body.Close()
			return p
		}
		select {
		case <-ended:
			t.Fatalf("Caddy ended\n%s", log.tail())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("Caddy does not answer: %v", err)
		}
	}
}

// fullDuplex at the beginning of a configuration lets HTTP/1.1 be read while it is answered.
const fullDuplex = "enable_full_duplex\n"

func (p caddyProcess) expand(config string) string {
	option := ""
	if rest, ok := strings.CutPrefix(config, fullDuplex); ok { // belongs to the servers
		option, config = fullDuplex, rest
	}
	global := fmt.Sprintf("{\n\tadmin %s\n\tauto_https off\n\tpersist_config off\n\tservers {\n\t\tprotocols h1 h2 h2c h3\n\t\t%s\n\t}\n}\n", p.admin, option)
	return global + strings.NewReplacer("ADDR", "http://"+p.addr, "PORT", p.addr[strings.LastIndexByte(p.addr, ':')+1:]).Replace(config)
}

// heap returns the bytes of the process's heap after a collection.
func (p caddyProcess) heap(t *testing.T) float64 {
	t.Helper()
	for range 2 { // the second frees what finalizers of the first let go
		p.ask(t, http.MethodGet, "/debug/pprof/heap?gc=1")
	}
	match := regexp.MustCompile(`(?m)^go_memstats_heap_alloc_bytes (\S+)$`).FindSubmatch(p.ask(t, http.MethodGet, "/metrics"))
	if match == nil {
		t.Fatal("Caddy does not tell its heap")
	}
	n, err := strconv.ParseFloat(string(match[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// settledHeap returns the size of the heap once it holds still: a policy that was just
// loaded warms its automata in the background, faster when no requests come.
func (p caddyProcess) settledHeap(t *testing.T) float64 {
	t.Helper()
	last := p.heap(t)
	for still, tries := 0, 0; still < 3 && tries < 60; tries++ {
		time.Sleep(500 * time.Millisecond)
		now := p.heap(t)
		if still++; math.Abs(now-last) > last/200 {
			still = 0
		}
		last = now
	}
	return last
}

// load loads a Caddyfile by the admin API and waits until the configuration holds a
// text. The answer to the load may get lost: the admin server is replaced too.
func (p caddyProcess) load(t *testing.T, config, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.admin+"/load", strings.NewReader(p.expand(config)))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "text/caddyfile")
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("load: %s", resp.Status)
		}
	}
	for deadline := time.Now().Add(exchangeTime); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.admin+"/config/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if strings.Contains(string(body), text) {
			return
		}
	}
	t.Fatalf("the configuration never had %s", text)
}

// ask asks the admin API, on a connection of its own: a reload closes idle ones.
func (p caddyProcess) ask(t *testing.T, method, path string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	status, answer := do(t, http.DefaultClient, req)
	if status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return []byte(answer)
}

// resident returns the resident memory of the process, in KiB.
func (p caddyProcess) resident(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		t.Skip("skipped: no /proc")
	}
	match := regexp.MustCompile(`VmRSS:\s*(\d+) kB`).FindSubmatch(data)
	if match == nil {
		t.Fatal("no VmRSS")
	}
	n, _ := strconv.Atoi(string(match[1]))
	return n
}

// settle waits until the process does nothing any more: behind its start it gets its
// rules ready for texts of many kinds, and takes memory for that.
func (p caddyProcess) settle(t *testing.T) {
	t.Helper()
	last, quiet := -1, 0
	for range 300 {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		if err != nil {
			t.Skip("skipped: no /proc")
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		f := strings.Fields(rest)
		user, err1 := strconv.Atoi(f[11])
		system, err2 := strconv.Atoi(f[12])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if quiet++; user+system > last+1 { // hundredths of a second
			quiet = 0
		}
		if last = user + system; quiet == 5 {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Log("the process has not come to rest in a minute")
}

// TestCaddySitesShareMemory holds that twenty sites with the Core Rule Set, each
// with a policy of its own, take about the memory of one.
func TestCaddySitesShareMemory(t *testing.T) {
	skipShort(t)
	const sites, allowed = 20, 1.3
	measure := func(n int) int {
		dir := t.TempDir()
		var config strings.Builder
		for i := range n {
			policy := filepath.Join(dir, fmt.Sprintf("policy%d.yaml", i))
			writeFile(t, policy, fmt.Appendf(nil, "version: 1\naudit: {file: \"off\"}\nrules: [{id: own, match: {path: /only-%d}, action: block}]\n", i))
			fmt.Fprintf(&config, "http://site%d.example:PORT {\n\tmoat %s\n\trespond through\n}\n", i, policy)
		}
		p := runCaddy(t, config.String())
		client := newClient(t)
		for round := range 40 {
			for i := range n {
				for path, want := range map[string]int{
					"/?page=" + strconv.Itoa(round): 200, "/?q=<script>alert(1)</script>": 403, fmt.Sprintf("/only-%d", i): 403, fmt.Sprintf("/only-%d", i+1): 200,
				} {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.addr+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Host = fmt.Sprintf("site%d.example", i)
					if status, _ := do(t, client, req); status != want {
						t.Fatalf("site %d of %d answers %s with %d, want %d", i, n, path, status, want)
					}
				}
			}
		}
		p.settle(t)
		return p.resident(t)
	}
	one, many := measure(1), measure(sites)
	ratio := float64(many) / float64(one)
	t.Logf("resident: %d KiB with 1 site, %d KiB with %d sites, %.2f times", one, many, sites, ratio)
	if ratio > allowed {
		t.Errorf("%d sites take %.2f times the memory of one, more than %v", sites, ratio, allowed)
	}
}

// load is 64 connections that send requests with known answers.
type load struct {
	gate    sync.RWMutex // held for writing while the load rests
	stop    context.CancelFunc
	wg      sync.WaitGroup
	mu      sync.Mutex
	sent    int
	failed  int
	wrong   int
	samples []string
}

const loadConnections = 64

// startLoad sends requests to addr until end is called, each of the 64 loops with a
// client of its own.
func startLoad(t *testing.T, addr string, newClient func(t *testing.T) *http.Client) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{stop: cancel}
	t.Cleanup(cancel)
	for i := range loadConnections {
		client := newClient(t)
		l.wg.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				l.gate.RLock()
				l.one(t, client, addr, n)
				l.gate.RUnlock()
			}
		})
	}
	return l
}

// one sends one request.
func (l *load) one(t *testing.T, client *http.Client, addr string, n int) {
	kinds := []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/?page=" + strconv.Itoa(n), "", 200},
		{"GET", "/?q=<script>alert(1)</script>", "", 403},
		{"GET", "/blocked", "", 403},
		{"POST", "/", "name=anna&n=" + strconv.Itoa(n), 200},
		{"POST", "/", "id=1'+UNION+SELECT+password+FROM+users--+-", 403},
	}
	k := kinds[n%len(kinds)]
	req, err := http.NewRequestWithContext(t.Context(), k.method, "http://"+addr+k.path, strings.NewReader(k.body))
	if err != nil {
		t.Error(err)
		return
	}
	if k.body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if k.want == http.StatusForbidden {
		req.Header.Set("X-Refused", "1") // for a server that has no rules
	}
	status := 0
	resp, err := client.Do(req)
	if err == nil {
		status = resp.StatusCode
		_ = resp.Body.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	switch {
	case err != nil:
		l.failed++
	case status != k.want:
		l.wrong++
	default:
		return
	}
	if len(l.samples) < 5 {
		l.samples = append(l.samples, fmt.Sprintf("%s %s: %d, %v; want %d", k.method, k.path, status, err, k.want))
	}
}

// end ends the load and reports what went wrong. Requests may fail only if the
// server may lose them.
func (l *load) end(t *testing.T, what string, lossless bool) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	t.Logf("%s: %d requests, %d failed, %d answered wrongly", what, l.sent, l.failed, l.wrong)
	if l.wrong > 0 || lossless && l.failed > 0 || l.sent < 500 {
		t.Errorf("%s: %d requests, %d failed, %d answered wrongly: %q", what, l.sent, l.failed, l.wrong, l.samples)
	}
}

// reloads is how many reloads the tests make; MOAT_RELOADS asks for more.
func reloads(t *testing.T) int {
	n := 100
	if s := os.Getenv("MOAT_RELOADS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 11 {
			t.Fatalf("MOAT_RELOADS=%s is no number from 11", s)
		}
	}
	return n
}

// TestCaddyReloadsUnderLoad changes the policy again and again, its payload rules
// every second time, while 64 connections send requests: none fails, none is
// answered wrongly, and the memory of what was replaced is given back.
func TestCaddyReloadsUnderLoad(t *testing.T) {
	skipShort(t)
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	version := func(i int) []byte {
		return fmt.Appendf(nil, `version: 1
audit: {file: "off"}
rules:
  - {id: blocked, match: {path: /blocked}, action: block}
  - {id: changing, match: {path: /version-%d}, action: block}
tiers: [{id: everyone, key: ip, rate: 1000000/s}]
waf: {threshold: %d}
`, i, 5-i/2%2)
	}
	writeFile(t, policy, version(0))
	p := runCaddy(t, "ADDR {\n\tmoat "+policy+"\n\trespond through\n}\n")
	l := startLoad(t, p.addr, newClient)
	client := newClient(t)
	tenth, n := 0.0, reloads(t)
	start := time.Now()
	for i := 1; i <= n; i++ {
		replaceFile(t, policy, version(i))
		var answer struct{ Policies []struct{ OK bool } }
		if err := json.Unmarshal(p.ask(t, http.MethodPost, "/moat/reload"), &answer); err != nil || len(answer.Policies) != 1 || !answer.Policies[0].OK {
			t.Fatalf("reload %d: %+v, %v", i, answer, err)
		}
		for path, want := range map[string]int{fmt.Sprintf("/version-%d", i): 403, fmt.Sprintf("/version-%d", i-1): 200} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.addr+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if status, _ := do(t, client, req); status != want {
				t.Errorf("after reload %d %s gives %d, want %d", i, path, status, want)
			}
		}
		if i == 10 {
			l.gate.Lock()
			tenth = p.settledHeap(t)
			l.gate.Unlock()
		}
	}
	took := time.Since(start)
	l.gate.Lock()
	last := p.settledHeap(t)
	l.gate.Unlock()
	l.end(t, fmt.Sprintf("%d reloads in %v", n, took.Round(time.Millisecond)), true)
	t.Logf("heap after the tenth reload %.1f MB, after the last %.1f MB, resident %d KiB", tenth/1e6, last/1e6, p.resident(t))
	if last > 1.1*tenth {
		t.Errorf("the heap has grown from %.1f MB to %.1f MB", tenth/1e6, last/1e6)
	}
}

// TestCaddyConfigReloadsUnderLoad reloads the whole configuration of Caddy, with
// another option of the directive each time. No request is answered wrongly, and on
// HTTP/2 none fails, where Caddy is given its socket.
//
// What Caddy itself loses in a reload is only logged, with moat and without: it opens
// a TCP address anew and drops what waits at the old socket, and on HTTP/1.1 requests
// cross the close of their connections (RFC 9112 section 9.5), or come on connections
// that the old server has just taken. Reloads of a policy close nothing.
func TestCaddyConfigReloadsUnderLoad(t *testing.T) {
	skipShort(t)
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	writeFile(t, policy, []byte("version: 1\naudit: {file: \"off\"}\nrules: [{id: blocked, match: {path: /blocked}, action: block}]\n"))
	moat := func(i int) string {
		return fmt.Sprintf("\tmoat %s {\n\t\tthreshold %d\n\t}\n\trespond through\n", policy, 4+i%2)
	}
	// The same answers without moat.
	alone := func(int) string {
		return "\t@refused expression `{path} == \"/blocked\" || {query}.contains(\"<script>\") || {header.X-Refused} == \"1\"`\n\trespond @refused refused 403\n\trespond through\n"
	}
	for _, tt := range []struct {
		name      string
		site      func(int) string
		newClient func(*testing.T) *http.Client
		lossless  bool
	}{
		{"HTTP/2", moat, func(t *testing.T) *http.Client {
			transport := &http.Transport{Protocols: new(http.Protocols)}
			transport.Protocols.SetUnencryptedHTTP2(true)
			t.Cleanup(transport.CloseIdleConnections)
			return &http.Client{Transport: transport}
		}, true},
		{"HTTP/1.1", moat, newClient, false},
		{"HTTP/1.1 without moat", alone, newClient, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := func(i int) string {
				return fmt.Sprintf("ADDR {\n\tbind fd/3\n%s\theader X-Version %d\n}\n", tt.site(i), i)
			}
			p := runCaddy(t, config(0))
			l := startLoad(t, p.addr, tt.newClient)
			for i := range 20 {
				p.load(t, config(i+1), fmt.Sprintf(`"X-Version":["%d"]`, i+1))
			}
			l.end(t, "20 reloads of the configuration", tt.lossless)
		})
	}
}
