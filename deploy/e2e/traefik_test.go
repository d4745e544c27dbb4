package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// traefikHost builds the program of the module ./traefik once and returns its path:
// Traefik's plugin runtime with a proxy around it.
var traefikHost = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "traefik-host")
	if out, err := exec.Command("go", "build", "-C", "traefik", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building deploy/e2e/traefik: %w\n%s", err, out)
	}
	return path, nil
})

// wholeTraefik returns the path of the whole Traefik, which is built only once on a
// machine.
var wholeTraefik = sync.OnceValues(func() (string, error) {
	var stderr strings.Builder
	cmd := exec.Command(filepath.Join("traefik", "binary", "build"))
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("building Traefik: %w\n%s", err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
})

// traefikTargets are Traefik's plugin runtime, and the whole Traefik where
// MOAT_TEST_TRAEFIK asks for it.
func traefikTargets(t *testing.T) []Target {
	t.Helper()
	targets := []Target{&traefikTarget{}}
	if os.Getenv("MOAT_TEST_TRAEFIK") != "" {
		targets = append(targets, &traefikTarget{whole: true})
	}
	return targets
}

// traefikTarget is Traefik with the plugin, and the daemon that the plugin asks.
// Traefik runs with the very configuration that deploy/traefik shows.
type traefikTarget struct {
	whole  bool
	static func(string) string // changes the static configuration; may be nil
	change func(string) string // changes the dynamic configuration; may be nil

	dir        string // of Traefik's configuration
	socket     string
	policy     string
	daemonArgs []string // more flags of the daemon
	traefik    *process
	daemon     *process
}

func (g *traefikTarget) Name() string {
	if g.whole {
		return "traefik whole"
	}
	return "traefik"
}

func (g *traefikTarget) Start(t *testing.T, policyFile, upstreamURL string) string {
	t.Helper()
	g.policy, g.socket = policyFile, socketPath(t)
	g.startDaemon(t)
	return g.startTraefik(t, upstreamURL)
}

// socketPath returns a path that is short enough for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "moat")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "moat.sock")
}

func (g *traefikTarget) startDaemon(t *testing.T) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"serve", "--decide", "unix:" + g.socket, "--policy", g.policy, "--admin", "off"}, g.daemonArgs...)
	g.daemon = startProcess(t, t.TempDir(), path, args...)
	g.daemon.accepts(t, "unix", g.socket)
}

// startTraefik starts Traefik alone and returns its address.
func (g *traefikTarget) startTraefik(t *testing.T, upstreamURL string) string {
	t.Helper()
	build := traefikHost
	if g.whole {
		build = wholeTraefik
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	g.dir = t.TempDir()
	layOutPlugin(t, g.dir)
	writeFile(t, g.file("staff.htpasswd"), []byte("anna:"+bcryptHash(t, "pass:word")+"\n"))

	static := replaceOnce(t, readDeployed(t, "traefik.yml"), `":80"`, `"`+addr+`"`)
	static = replaceOnce(t, static, "/etc/traefik/dynamic.yml", g.file("dynamic.yml"))
	if g.static != nil {
		static = g.static(static)
	}
	dynamic := replaceOnce(t, readDeployed(t, "dynamic.yml"), "/run/moat/moat.sock", g.socket)
	dynamic = replaceOnce(t, dynamic, "/etc/traefik/staff.htpasswd", g.file("staff.htpasswd"))
	dynamic = replaceOnce(t, dynamic, "http://127.0.0.1:9000", upstreamURL)
	if g.change != nil {
		dynamic = g.change(dynamic)
	}
	writeFile(t, g.file("traefik.yml"), []byte(static))
	writeFile(t, g.file("dynamic.yml"), []byte(dynamic))
	g.traefik = startProcess(t, g.dir, path, "--configFile="+g.file("traefik.yml"))
	g.traefik.accepts(t, "tcp", addr)
	if g.whole {
		g.routed(t, addr)
	}
	return addr
}

func (g *traefikTarget) file(name string) string { return filepath.Join(g.dir, name) }

// routed waits until Traefik has read its dynamic configuration, which it does after
// it has begun to listen.
func (g *traefikTarget) routed(t *testing.T, addr string) {
	t.Helper()
	m := Message{Method: "GET", Head: []byte("GET /staff/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")}
	for deadline := time.Now().Add(startTime); ; time.Sleep(20 * time.Millisecond) {
		if a, err := Send(t.Context(), addr, m); err == nil && a.Status != 404 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("Traefik has no router")
		}
	}
}

// layOutPlugin copies the plugin to where Traefik looks for a local one.
func layOutPlugin(t *testing.T, dir string) {
	t.Helper()
	plugin := filepath.Join(dir, "plugins-local", "src", "github.com", "moatwaf", "moat")
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy", "traefik", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(errors.Join(err, errors.New("deploy/traefik has no code")))
	}
	files = append(files, filepath.Join(root, ".traefik.yml"))
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(plugin, strings.TrimPrefix(file, root))
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, target, content)
	}
}

// readDeployed returns a file of deploy/traefik.
func readDeployed(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "traefik", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// replaceOnce replaces a text that stands in s exactly once.
func replaceOnce(t *testing.T, s, old, new string) string {
	t.Helper()
	if n := strings.Count(s, old); n != 1 {
		t.Fatalf("%q stands %d times in\n%s", old, n, s)
	}
	return strings.Replace(s, old, new, 1)
}
