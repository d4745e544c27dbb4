package moatcaddy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

func TestMain(m *testing.M) {
	drain = 50 * time.Millisecond
	os.Exit(m.Run())
}

// server is a Caddy that runs in the test's process, on loopback.
type server struct {
	addr   string // of its sites
	admin  string
	log    string // file
	client *http.Client
}

// newServer finds addresses for a Caddy. Nothing runs before load.
func newServer(t *testing.T) *server {
	t.Helper()
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true} // a reload closes idle connections
	s := &server{addr: freeAddr(t), admin: freeAddr(t), log: filepath.Join(t.TempDir(), "caddy.log"),
		client: &http.Client{
			Transport: transport, Timeout: 20 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		transport.CloseIdleConnections()
	})
	return s
}

// load puts a Caddyfile in force. Its words GLOBAL and ADDR stand for the global
// options that the test needs and for the address of the sites.
func (s *server) load(t *testing.T, config string) error {
	t.Helper()
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(s.expand(config)), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			t.Errorf("warning: %v", w)
		}
	}
	return caddy.Load(adapted, true)
}

func (s *server) expand(config string) string {
	global := fmt.Sprintf(`	admin %s
	persist_config off
	auto_https off
	log default {
		output file %s
		format json
		level DEBUG
	}
`, s.admin, s.log)
	return strings.NewReplacer("GLOBAL", global, "ADDR", "http://"+s.addr, "PORT", s.addr[strings.LastIndexByte(s.addr, 58)+1:]).Replace(config)
}

// startCaddy is load for a configuration that must be good.
func startCaddy(t *testing.T, config string) *server {
	t.Helper()
	s := newServer(t)
	if err := s.load(t, config); err != nil {
		t.Fatal(err)
	}
	return s
}

// reply is what a server answered.
type reply struct {
	status int
	header http.Header
	body   string
}

// ask sends a request with header fields given as "Name: value"; Host among them.
func (s *server) ask(t *testing.T, method, url string, fields ...string) reply {
	t.Helper()
	if strings.HasPrefix(url, "/") {
		url = "http://" + s.addr + url
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header[name] = append(req.Header[name], value) // as it is written
	}
	if _, set := req.Header["User-Agent"]; !set {
		req.Header.Set("User-Agent", "test")
	}
	resp, err := s.client.Do(req)
	for tries := 0; err != nil && tries < 10; tries++ {
		// In a reload Caddy opens its address anew and drops connections that
		// wait at the old socket.
		time.Sleep(10 * time.Millisecond)
		resp, err = s.client.Do(req)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

func (s *server) get(t *testing.T, url string, fields ...string) reply {
	t.Helper()
	return s.ask(t, http.MethodGet, url, fields...)
}

// logged waits for a line of the log that holds every text, and returns it decoded.
func (s *server) logged(t *testing.T, texts ...string) map[string]any {
	t.Helper()
	var found map[string]any
	eventually(t, "a log line with "+strings.Join(texts, ", "), func() bool {
		data, _ := os.ReadFile(s.log)
		for line := range strings.Lines(string(data)) {
			if containsAll(line, texts) && json.Unmarshal([]byte(line), &found) == nil {
				return true
			}
		}
		return false
	})
	return found
}

func containsAll(s string, texts []string) bool {
	for _, text := range texts {
		if !strings.Contains(s, text) {
			return false
		}
	}
	return true
}

// eventually waits until ok, five seconds at most.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not seen: %s", what)
}

// freeAddr returns a loopback address that nobody listens on, with a port below
// those that connections go out from.
func freeAddr(t *testing.T) string {
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

// policyHead begins every policy of the tests: without payload rules it loads at
// once.
const policyHead = "version: 1\naudit: {file: \"off\"}\n"

const noWAF = "waf: {mode: \"off\"}\n"

// writePolicy writes a policy into a directory of its own and returns its path.
func writePolicy(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	rewrite(t, path, content)
	return path
}

// rewrite puts new content in place of a file, in one step.
func rewrite(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(policyHead+content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// upstream is a server behind Caddy; it answers with what handle writes.
func upstream(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handle}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Shutdown(context.Background()) })
	return l.Addr().String()
}

// unixTransport connects to a Unix socket, whatever the address.
func unixTransport(socket string) *http.Transport {
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
}
