// Command traefik measures what moat costs in Traefik: the CPU time of all processes
// for each allowed GET, of Traefik alone, of Traefik with the plugin and a daemon
// whose policy does nothing (the way to the daemon and back), and of the same with
// the default policy, in turns, in front of one upstream.
//
//	go run ./bench/traefik           # Traefik's plugin runtime, from deploy/e2e/traefik
//	go run ./bench/traefik -whole    # the whole Traefik, which is built first
//	go run ./bench/traefik -n 2000 -turns 6
//
// Everything happens on the loopback interface and ends by itself. It runs in the
// repository's root, reads /proc/PID/stat, and so runs on Linux only.
package main

import (
	"context"
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
	"strings"
	"time"
)

var (
	whole  = flag.Bool("whole", false, "measure the whole Traefik")
	number = flag.Int("n", 6000, "how many requests of each kind each turn sends")
	turns  = flag.Int("turns", 8, "how many turns each setup gets")
	conns  = flag.Int("conns", 8, "how many connections")
)

// most is what the way to the daemon and back may add.
const most = 90 * time.Microsecond

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	programs, err := build(dir)
	if err != nil {
		return err
	}
	upstream, stop, err := startUpstream()
	if err != nil {
		return err
	}
	defer stop()
	setups := []*setup{
		{name: "alone"},
		{name: "thin", policy: "version: 1\nwaf: {mode: off}\naudit: {file: \"off\"}\n"},
		{name: "full", policy: "version: 1\nwaf: {engine: fast}\naudit: {file: \"off\"}\n"},
	}
	for _, s := range setups {
		defer s.stop()
		if err := s.start(filepath.Join(dir, s.name), programs, upstream); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for turn := -1; turn < *turns; turn++ { // the first warms up
		for _, r := range requests {
			for i := range setups {
				s := setups[(i+turn+1)%len(setups)]
				took, err := s.measure(r)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, r.name, err)
				}
				if turn >= 0 {
					s.cpu[r.name] = append(s.cpu[r.name], took)
				}
			}
		}
	}
	trip, err := roundTrip(dir)
	if err != nil {
		return err
	}
	report(setups)
	fmt.Println("\n" + calibration(trip, setups[0].median(requests[0])))
	return nil
}

// programs are the paths of what is run.
type programs struct{ traefik, moat, plugin string }

func build(dir string) (programs, error) {
	p := programs{traefik: filepath.Join(dir, "traefik"), moat: filepath.Join(dir, "moat")}
	command := func(name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	var err error
	if p.plugin, err = os.Getwd(); err != nil {
		return p, err
	}
	if _, err := command("go", "build", "-o", p.moat, "github.com/moatwaf/moat/cmd/moat"); err != nil {
		return p, err
	}
	if *whole {
		p.traefik, err = command("deploy/e2e/traefik/binary/build")
		return p, err
	}
	_, err = command("go", "build", "-C", "deploy/e2e/traefik", "-o", p.traefik, ".")
	return p, err
}

// report prints the table.
func report(setups []*setup) {
	name := "Traefik's plugin runtime with Go's reverse proxy"
	if *whole {
		name = "the whole Traefik"
	}
	fmt.Printf("%s; %d cores, %s %s/%s; medians of %d turns of %d requests, %d connections\n\n", name, runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, *turns, *number, *conns)
	fmt.Println("| request | Traefik alone | the way to the daemon and back adds | at most | | of Traefik alone | of it in Traefik | in the daemon | with the default policy |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	for _, r := range requests {
		alone, thin, full := setups[0].median(r), setups[1].median(r), setups[2].median(r)
		added := thin.sum() - alone.sum()
		mark := "met"
		if added > most {
			mark = "**missed**"
		}
		round := func(d time.Duration) time.Duration { return d.Round(100 * time.Nanosecond) }
		fmt.Printf("| %s | %v | %v | %v | %s | %.2f | %v | %v | %v |\n", r.name, round(alone.sum()), round(added), most, mark, float64(added)/float64(alone.sum()),
			round(thin.traefik-alone.traefik), round(thin.daemon), round(full.sum()-alone.sum()))
	}
}

// cost is CPU time for a request.
type cost struct{ traefik, daemon time.Duration }

func (c cost) sum() time.Duration { return c.traefik + c.daemon }

// median returns the turn in the middle.
func (s *setup) median(r request) cost {
	costs := slices.Clone(s.cpu[r.name])
	slices.SortFunc(costs, func(a, b cost) int { return int(a.sum() - b.sum()) })
	return costs[len(costs)/2]
}

// startUpstream serves what is proxied to, within this process.
func startUpstream() (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "ok\n")
	})}
	go func() { _ = srv.Serve(l) }()
	return "http://" + l.Addr().String(), func() { _ = srv.Shutdown(context.Background()) }, nil
}
