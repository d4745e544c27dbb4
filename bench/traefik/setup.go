package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// setup is a Traefik, and the daemon that it asks.
type setup struct {
	name, policy string // without a policy there is no daemon
	address      string
	traefik      *exec.Cmd
	daemon       *exec.Cmd
	cpu          map[string][]cost
}

const static = `entryPoints:
  web:
    address: %q
    http:
      aliasHeadersStrategy: delete
providers:
  file:
    filename: %q
log:
  level: ERROR
`

const plugin = `experimental:
  abortOnPluginFailure: true
  localPlugins:
    moat:
      moduleName: github.com/moatwaf/moat
`

const dynamic = "http:\n  routers:\n    app:\n      entryPoints: [web]\n      rule: PathPrefix(`/`)\n      service: app\n%s" +
	"  services:\n    app:\n      loadBalancer:\n        servers:\n          - url: %s\n"

const middleware = `      middlewares: [moat]
  middlewares:
    moat:
      plugin:
        moat:
          socket: unix:%s
`

func (s *setup) start(dir string, p programs, upstream string) error {
	s.cpu = map[string][]cost{}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	if err := l.Close(); err != nil { // the port is free now, and hardly taken by another at once
		return err
	}
	files := map[string]string{"traefik.yml": fmt.Sprintf(static, s.address, filepath.Join(dir, "dynamic.yml"))}
	words := ""
	if s.policy != "" {
		socket := filepath.Join(dir, "moat.sock")
		files["policy.yaml"] = s.policy
		files["traefik.yml"] += plugin
		words = fmt.Sprintf(middleware, socket)
		if err := layOut(p.plugin, dir); err != nil {
			return err
		}
	}
	files["dynamic.yml"] = fmt.Sprintf(dynamic, words, upstream)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	if s.policy != "" {
		socket := filepath.Join(dir, "moat.sock")
		s.daemon, err = process(dir, p.moat, "unix", socket, "serve", "--decide", "unix:"+socket, "--policy", filepath.Join(dir, "policy.yaml"), "--admin", "off")
		if err != nil {
			return err
		}
	}
	s.traefik, err = process(dir, p.traefik, "tcp", s.address, "--configFile="+filepath.Join(dir, "traefik.yml"))
	if err != nil {
		return err
	}
	for range 600 { // the whole Traefik reads its routers after it has begun to listen
		resp, err := http.Get("http://" + s.address + "/")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("no answer 200 of Traefik")
}

// layOut copies the plugin to where Traefik looks for a local one.
func layOut(root, dir string) error {
	to := filepath.Join(dir, "plugins-local", "src", "github.com", "moatwaf", "moat")
	if err := os.MkdirAll(filepath.Join(to, "deploy", "traefik"), 0o700); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy", "traefik", "*.go"))
	if err != nil {
		return err
	}
	for _, file := range append(files, filepath.Join(root, ".traefik.yml")) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, strings.TrimPrefix(file, root)), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// process starts a program and waits until it accepts connections.
func process(dir, path, network, addr string, args ...string) (*exec.Cmd, error) {
	var log strings.Builder
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for range 1200 {
		c, err := net.Dial(network, addr)
		if err == nil {
			return cmd, c.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	end(cmd)
	return nil, fmt.Errorf("does not answer: %.2000s", log.String())
}

func (s *setup) stop() {
	end(s.traefik)
	end(s.daemon)
}

func end(cmd *exec.Cmd) {
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(os.Interrupt) // it may have ended
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		_ = cmd.Process.Kill()
	}
}

// cpuTime returns the CPU time of a process, user and system; that of none is none.
func cpuTime(cmd *exec.Cmd) (time.Duration, error) {
	if cmd == nil {
		return 0, nil
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything; behind it are fields 3 and on.
	_, rest, ok := strings.Cut(string(data), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, errors.New("/proc/PID/stat has another form")
	}
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	return time.Duration(user+system) * (time.Second / 100), errors.Join(err1, err2)
}

// request is what is sent, again and again.
type request struct{ name, text string }

var requests = []request{
	{"GET with four fields", "GET /articles/2026/10?page=2&sort=new HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\nX-Request-Id: 7f3a\r\n\r\n"},
	{"GET of a browser", "GET /articles/2026/10?page=2&sort=new HTTP/1.1\r\nHost: www.example.com\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n" +
		"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\nReferer: https://www.example.com/articles\r\n" +
		"Cookie: session=4f9d2c1ab3e84d6f; theme=dark\r\n\r\n"},
}

// measure sends requests and returns the CPU time of the processes for each.
func (s *setup) measure(r request) (cost, error) {
	traefik, err1 := cpuTime(s.traefik)
	daemon, err2 := cpuTime(s.daemon)
	err := errors.Join(err1, err2, load(s.address, r))
	traefikAfter, err1 := cpuTime(s.traefik)
	daemonAfter, err2 := cpuTime(s.daemon)
	n := time.Duration(*number)
	return cost{(traefikAfter - traefik) / n, (daemonAfter - daemon) / n}, errors.Join(err, err1, err2)
}

// load sends a request again and again over a few connections that are kept, and
// expects 200.
func load(address string, r request) error {
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(*number))
	faults := make([]error, *conns)
	for i := range faults {
		wg.Go(func() {
			if faults[i] = worker(address, r, &left); faults[i] != nil {
				left.Store(0)
			}
		})
	}
	wg.Wait()
	return errors.Join(faults...)
}

func worker(address string, r request, left *atomic.Int64) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for left.Add(-1) >= 0 {
		if _, err := io.WriteString(c, r.text); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
	}
	return nil
}
