package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Target is a real server with moat inside.
type Target interface {
	// Name is the name of the target's subtests.
	Name() string
	// Start starts the server with a policy, in front of an upstream, and
	// returns the address on which it accepts connections. The server ends
	// with the test; what it logged is shown if the test has failed.
	Start(t *testing.T, policyFile, upstreamURL string) (addr string)
}

// onTargets runs a scenario against every target.
func onTargets(t *testing.T, scenario func(t *testing.T, target Target)) {
	skipShort(t)
	for _, target := range append([]Target{&serveTarget{}, caddyTarget{}}, traefikTargets(t)...) {
		t.Run(target.Name(), func(t *testing.T) { scenario(t, target) })
	}
}

func skipShort(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts the real server")
	}
}

// serveTarget is "moat serve".
type serveTarget struct {
	admin string // address of the admin listener, once started
}

func (*serveTarget) Name() string { return "serve" }

func (s *serveTarget) Start(t *testing.T, policyFile, upstreamURL string) string {
	addr := freeAddr(t)
	s.admin = freeAddr(t)
	startMoat(t, addr, "serve", "--listen", addr, "--upstream", upstreamURL, "--policy", policyFile, "--admin", s.admin)
	return addr
}

// caddyTarget is Caddy with a Caddyfile that holds the moat directive.
type caddyTarget struct{}

func (caddyTarget) Name() string { return "caddy" }

func (caddyTarget) Start(t *testing.T, policyFile, upstreamURL string) string {
	addr := freeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "Caddyfile")
	writeFile(t, config, fmt.Appendf(nil, `{
	admin off
	http_port %s
	auto_https off
	servers {
		protocols h1 h2 h2c
	}
}
:%s {
	bind 127.0.0.1
	route {
		moat %s
		reverse_proxy %s
	}
}
`, port, port, policyFile, upstreamURL))
	startMoat(t, addr, "run", "--config", config)
	return addr
}

// freeAddr returns a loopback address with a port that was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

var binaryDir string

func TestMain(m *testing.M) {
	code := func() int {
		var err error
		if binaryDir, err = os.MkdirTemp("", "moat-e2e-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(binaryDir) }()
		return m.Run()
	}()
	os.Exit(code)
}

// binary builds the command once and returns its path.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "moat")
	out, err := exec.Command("go", "build", "-o", path, "github.com/moatwaf/moat/cmd/moat").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building cmd/moat: %w\n%s", err, out)
	}
	return path, nil
})

// startTime is how long a server may take until it accepts connections. It reads
// and compiles the Core Rule Set before.
const startTime = 60 * time.Second

func startMoat(t *testing.T, addr string, args ...string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	startProcess(t, t.TempDir(), path, args...).accepts(t, "tcp", addr)
}

// process is a server that runs until its test ends.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   logBuffer
	ended chan struct{}
	err   error // how it ended
}

// startProcess starts a program in a directory. What it logged is shown if the test
// has failed.
func startProcess(t *testing.T, dir, path string, args ...string) *process {
	t.Helper()
	p := &process{name: filepath.Base(path) + " " + strings.Join(args, " "), cmd: exec.Command(path, args...), ended: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	home := t.TempDir()
	p.cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("log of %s (%v):\n%s", p.name, p.err, p.log.tail())
		}
	})
	return p
}

// stop ends the process, if it runs, and waits until it has ended.
func (p *process) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
		t.Errorf("%s did not end after SIGTERM", p.name)
	}
}

// accepts waits until the process accepts connections.
func (p *process) accepts(t *testing.T, network, addr string) {
	t.Helper()
	deadline := time.Now().Add(startTime)
	for {
		conn, err := net.DialTimeout(network, addr, time.Second)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-p.ended:
			t.Fatalf("%s ended: %v", p.name, p.err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s accepts no connections after %v", p.name, startTime)
		}
	}
}

// logBuffer keeps the end of a log.
type logBuffer struct {
	mu sync.Mutex
	b  []byte
}

const maxLog = 1 << 20

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.b) > maxLog {
		l.b = append([]byte(nil), l.b[len(l.b)-maxLog/2:]...)
	}
	l.b = append(l.b, p...)
	return len(p), nil
}

func (l *logBuffer) tail() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	const lines = 60
	all := bytes.SplitAfter(l.b, []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], nil)
}
