// Command fast measures the payload stage with its fast engine against plain Coraza
// with the same rules, in turns within one process, and prints the table.
//
//	go run ./bench/fast                       # everything, some minutes
//	go run ./bench/fast -run 'GET|form'       # some rows
//	go run ./bench/fast -run '^GET' -profile cpu.out -engine fast
//
// What is counted is the CPU time of the process for each call of Stage.Check, not
// the time that passes: the machine may be shared.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/moatwaf/moat/rules/waf"
)

var (
	only    = flag.String("run", "", "the rows whose name matches; all without")
	each    = flag.Duration("each", 2*time.Second, "how much CPU time each engine gets for a row")
	blocks  = flag.Int("blocks", 10, "in how many turns")
	profile = flag.String("profile", "", "write a CPU profile of the rows, of one engine, and measure nothing")
	engine  = flag.String("engine", "fast", "the engine of the profile: fast or plain")
	parts   = flag.String("parts", "rows,mixed,kinds,share,dear,load,scale", "what to measure")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// stages are the engines by paranoia level: plain, fast.
type stages map[int][2]*waf.Stage

func (s stages) get(level int) (plain, fast *waf.Stage, err error) {
	if p, ok := s[level]; ok {
		return p[0], p[1], nil
	}
	if plain, err = waf.New(waf.Config{Paranoia: level, Unbounded: true}); err != nil {
		return nil, nil, err
	}
	if fast, err = waf.New(waf.Config{Paranoia: level, Fast: true}); err != nil {
		return nil, nil, err
	}
	s[level] = [2]*waf.Stage{plain, fast}
	return plain, fast, nil
}

func run() error {
	re, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	s := stages{}
	if *profile != "" {
		return profileRows(s, re)
	}
	fmt.Printf("%s, %d cores, %s %s/%s\n\n", cpuName(), runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for part := range strings.SplitSeq(*parts, ",") {
		do := map[string]func(stages, *regexp.Regexp) error{
			"rows": rows, "mixed": mixedTraffic, "kinds": kinds, "share": shares, "dear": dearest, "load": loadTime, "scale": scaling,
		}[part]
		if do == nil {
			return fmt.Errorf("no part is called %q", part)
		}
		if part != "rows" && part != "mixed" && *only != "" {
			continue
		}
		if err := do(s, re); err != nil {
			return err
		}
	}
	return nil
}

// cpuName returns the model of the processor.
func cpuName() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// rows prints the table of workloads.
func rows(s stages, re *regexp.Regexp) error {
	fmt.Println("| workload | plain | fast | times cheaper | must | aim | | allocations plain | fast | bytes fast | way |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|")
	for i := range workloads {
		w := &workloads[i]
		if !re.MatchString(w.name) {
			continue
		}
		plain, fast, err := s.get(w.paranoia)
		if err != nil {
			return err
		}
		p, f, err := compare(plain, fast, w, *each, *blocks)
		if err != nil {
			return err
		}
		ratio := float64(p.median()) / float64(f.median())
		fmt.Printf("| %s | %v | %v | %.1f | %.0f | %.0f | %s | %.0f | %.1f | %.0f | %s |\n",
			w.name, show(p.median()), show(f.median()), ratio, w.must, w.aim, verdict(ratio, w.must, w.aim), p.allocs, f.allocs, f.bytes, f.path)
	}
	fmt.Println()
	return nil
}

func show(d time.Duration) time.Duration {
	switch {
	case d > 10*time.Millisecond:
		return d.Round(100 * time.Microsecond)
	case d > 100*time.Microsecond:
		return d.Round(time.Microsecond)
	}
	return d.Round(10 * time.Nanosecond)
}

func verdict(ratio, must, aim float64) string {
	switch {
	case ratio >= aim:
		return "aim"
	case ratio >= must:
		return "must"
	}
	return "**missed**"
}

// profileRows runs one engine on the rows for a while under the profiler.
func profileRows(s stages, re *regexp.Regexp) error {
	out, err := os.Create(*profile)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	for i := range workloads {
		w := &workloads[i]
		if !re.MatchString(w.name) {
			continue
		}
		plain, fast, err := s.get(w.paranoia)
		if err != nil {
			return err
		}
		stage := fast
		if *engine == "plain" {
			stage = plain
		}
		if err := hammer(stage, w, *each, out); err != nil {
			return err
		}
		return nil // one profile, one row
	}
	if !re.MatchString("mixed") {
		return fmt.Errorf("no row matches %q", *only)
	}
	plain, fast, err := s.get(1)
	if err != nil {
		return err
	}
	all, _ := mixed(newRand(), 500, 500)
	if all, err = clean(plain, all); err != nil {
		return err
	}
	if _, err := pass(fast, all); err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	for end := time.Now().Add(*each); time.Now().Before(end); {
		if _, err := pass(fast, all); err != nil {
			return err
		}
	}
	return nil
}

// hammer asks a stage about the same few requests again and again, so that making
// requests is a small part of the profile.
func hammer(stage *waf.Stage, w *workload, d time.Duration, out *os.File) error {
	c := cell{stage: stage}
	r := newRand()
	if _, err := c.block(r, w, 200); err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	for end := time.Now().Add(d); time.Now().Before(end); {
		if _, err := c.block(r, w, 500); err != nil {
			return err
		}
	}
	return nil
}
