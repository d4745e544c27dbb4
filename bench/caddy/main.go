// Command caddy measures what moat costs in Caddy: the CPU time of the whole process
// for each request, of Caddy with a reverse proxy alone, of the same with moat, and
// of the same with moat and plain Coraza, in turns, in front of one upstream.
//
//	go run ./bench/caddy             # builds cmd/moat, which is Caddy with moat inside
//	go run ./bench/caddy -n 2000 -turns 6
//
// Everything happens on the loopback interface and ends by itself. It reads
// /proc/PID/stat, and so runs on Linux only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	binary = flag.String("moat", "", "the binary; it is built without")
	number = flag.Int("n", 3000, "how many requests of each kind each turn sends; plain Coraza gets fewer")
	turns  = flag.Int("turns", 6, "how many turns each process gets")
	conns  = flag.Int("conns", 8, "how many connections")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A server is one process under measurement.
type server struct {
	name, policy string
	share        int // it gets one request of so many
	port         int
	cmd          *exec.Cmd
	cpu          map[string][]time.Duration // per request, by workload
}

func run() error {
	dir, err := os.MkdirTemp("", "bench-caddy")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if *binary == "" {
		*binary = filepath.Join(dir, "moat")
		build := exec.Command("go", "build", "-o", *binary, "github.com/moatwaf/moat/cmd/moat")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("building the binary: %w", err)
		}
	}
	upstream, stop, err := startUpstream()
	if err != nil {
		return err
	}
	defer stop()
	servers := []*server{
		{name: "bare", share: 1},
		{name: "fast", policy: "version: 1\nwaf: {engine: fast}\n", share: 1},
		{name: "plain", policy: "version: 1\nwaf: {engine: plain}\n", share: 15},
	}
	for _, s := range servers {
		s.cpu = map[string][]time.Duration{}
		if err := s.start(dir, upstream); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		defer s.stop()
	}
	for turn := -1; turn < *turns; turn++ { // the first warms up
		for _, w := range workloads {
			for i := range servers {
				s := servers[(i+turn+1)%len(servers)]
				n := max(20, *number/s.share/w.weight)
				if turn < 0 {
					n = max(20, n/3)
				}
				took, err := s.measure(&w, turn, n)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, w.name, err)
				}
				if turn >= 0 {
					s.cpu[w.name] = append(s.cpu[w.name], took)
				}
			}
		}
	}
	report(servers)
	return nil
}

// report prints the table.
func report(servers []*server) {
	fmt.Printf("%d cores, %s %s/%s; %d turns of %d requests, %d connections\n\n", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, *turns, *number, *conns)
	fmt.Println("| request | Caddy alone | with moat | times | at most | | with plain Coraza | times |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, w := range workloads {
		bare, fast, plain := median(servers[0].cpu[w.name]), median(servers[1].cpu[w.name]), median(servers[2].cpu[w.name])
		ratio := float64(fast) / float64(bare)
		mark := "met"
		if ratio > w.most {
			mark = "**missed**"
		}
		fmt.Printf("| %s | %v | %v | %.2f | %.1f | %s | %v | %.0f |\n", w.name, bare.Round(100*time.Nanosecond), fast.Round(100*time.Nanosecond), ratio, w.most, mark,
			plain.Round(time.Microsecond), float64(plain)/float64(bare))
	}
}

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}

// start runs the process and waits until it answers.
func (s *server) start(dir, upstream string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil { // the port is free now, and hardly taken by another at once
		return err
	}
	directive := ""
	if s.policy != "" {
		file := filepath.Join(dir, s.name+".yaml")
		if err := os.WriteFile(file, []byte(s.policy), 0o600); err != nil {
			return err
		}
		directive = "moat " + file
	}
	config := fmt.Sprintf("{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n}\nhttp://:%d {\n\troute {\n\t\t%s\n\t\treverse_proxy %s\n\t}\n}\n", s.port, directive, upstream)
	file := filepath.Join(dir, s.name+".Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	s.cmd = exec.Command(*binary, "run", "--config", file, "--adapter", "caddyfile")
	s.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	var log strings.Builder
	s.cmd.Stderr = &log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for range 600 {
		c, err := net.Dial("tcp", s.address())
		if err == nil {
			return c.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.stop()
	return fmt.Errorf("does not answer: %.2000s", log.String())
}

func (s *server) address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

func (s *server) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended
	ended := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
	}
}

// cpuTime returns the CPU time of the process, user and system.
func (s *server) cpuTime() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
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

// measure sends n requests and returns the CPU time of the process for each.
func (s *server) measure(w *workload, turn, n int) (time.Duration, error) {
	before, err := s.cpuTime()
	if err != nil {
		return 0, err
	}
	if err := load(s.address(), w, turn, n); err != nil {
		return 0, err
	}
	after, err := s.cpuTime()
	return (after - before) / time.Duration(n), err
}

// startUpstream serves what is proxied to, within this process.
func startUpstream() (address string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // what the client sends is not looked at
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "ok\n")
	})}
	go func() { _ = srv.Serve(l) }()
	return l.Addr().String(), func() { _ = srv.Shutdown(context.Background()) }, nil
}
