package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// cpu returns the CPU time that the process has used, user and system.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it fails on wrong arguments only
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cell is one engine on one workload.
type cell struct {
	stage   *waf.Stage
	samples []time.Duration // per request, each of one block
	allocs  float64
	bytes   float64
	path    string // of a sample request
}

// median returns the middle sample.
func (c *cell) median() time.Duration {
	s := slices.Clone(c.samples)
	slices.Sort(s)
	return s[len(s)/2]
}

// prepare wraps a request as a host adapter does.
func prepare(hr *http.Request) *filter.Request {
	r := filter.NewRequest(hr, now)
	r.Client = r.Peer
	return r
}

// batch is how many requests are made ahead of each timed stretch: few enough to stay
// in the cache, as a request that a server has just read does.
const batch = 128

// block asks a stage about n requests and returns the CPU time for each. The requests
// are made outside of what is timed, and so is the collection of garbage, which would
// hit whichever engine it meets: it adds to the plain engine 5 to 10 %, and next to
// nothing to an engine that hardly allocates.
func (c *cell) block(r *rand.Rand, w *workload, n int) (time.Duration, error) {
	old := debug.SetGCPercent(-1)
	defer debug.SetGCPercent(old)
	runtime.GC()
	want := filter.Continue
	if w.blocked {
		want = filter.Block
	}
	var total time.Duration
	var before, after runtime.MemStats
	var mallocs, bytes uint64
	list := make([]*filter.Request, 0, batch)
	for left := n; left > 0; {
		list = list[:0]
		for range min(left, batch) {
			list = append(list, prepare(w.make(r)))
		}
		left -= len(list)
		runtime.ReadMemStats(&before)
		if before.HeapAlloc > 1<<30 {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
		start := cpu()
		for _, q := range list {
			d, err := c.stage.Check(q)
			if err != nil {
				return 0, err
			}
			if d.Verdict != want {
				return 0, fmt.Errorf("%s: %v, %v, rule %q, %s", w.name, d.Verdict, d.Reason, d.Rule, d.Detail)
			}
		}
		total += cpu() - start
		runtime.ReadMemStats(&after)
		mallocs += after.Mallocs - before.Mallocs
		bytes += after.TotalAlloc - before.TotalAlloc
		for _, q := range list {
			q.Release()
		}
	}
	c.allocs, c.bytes = float64(mallocs)/float64(n), float64(bytes)/float64(n)
	return total / time.Duration(n), nil
}

// compare measures both engines on a workload, in turns: blocks of about a tenth of
// the CPU time that each engine may have.
func compare(plain, fast *waf.Stage, w *workload, each time.Duration, blocks int) (p, f cell, err error) {
	p.stage, f.stage = plain, fast
	cells := []*cell{&p, &f}
	number := [2]int{}
	r := rand.New(rand.NewPCG(1, 2))
	for i, c := range cells {
		// Warm: automata, pools, the cache of header fields.
		warm := 3
		if i == 1 {
			warm = 600
		}
		if _, err := c.block(r, w, warm); err != nil {
			return p, f, fmt.Errorf("%s: %w", []string{"plain", "fast"}[i], err)
		}
		took, err := c.block(r, w, max(2, warm/6))
		if err != nil {
			return p, f, err
		}
		number[i] = max(2, int(each/time.Duration(blocks)/max(took, time.Microsecond)))
	}
	for range blocks {
		for i, c := range cells {
			took, err := c.block(r, w, number[i])
			if err != nil {
				return p, f, err
			}
			c.samples = append(c.samples, took)
		}
	}
	in, err := fast.Inspect(prepare(w.make(r)))
	f.path = way(in)
	return p, f, err
}

// way tells how a request was judged.
func way(in waf.Inspection) string {
	if in.Proved {
		return "proved"
	}
	j := in.Judged
	s := j.Path.String() + ": " + j.Cause
	if j.Rule != 0 {
		s += fmt.Sprintf(" %d", j.Rule)
	}
	if j.What != "" {
		s += " " + j.What
	}
	return s
}
