package differ

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moatwaf/moat/filter"
)

// Options are those of a long run.
type Options struct {
	// Seed determines every rule set and every request.
	Seed uint64
	// For is how long the run lasts; Rounds, if not 0, ends it after that many rounds.
	For    time.Duration
	Rounds int
	// First is the number of the first round: to repeat one that was printed.
	First int
	// Workers is how many rounds run at a time; 0 takes 1.
	Workers int
	// Dir, if not empty, is where the cases of differences are written.
	Dir string
	// Log takes differences as they are found, and the figures.
	Log io.Writer
	// Minimise is how long one difference is made smaller; 0 takes 20 seconds.
	Minimise time.Duration
	// Progress is how often the figures are logged; 0 never.
	Progress time.Duration
}

// Figures are what a run has done.
type Figures struct {
	Requests, Proved, Blocked, Findings int
	Refused                             int // by net/http's server itself
	RuleSets, NotLoaded, Off            int
	Wavers, Dear, Fails                 int
	Differences                         int
	Kinds                               map[string]int
}

// String returns the figures in one line.
func (f *Figures) String() string {
	return fmt.Sprintf("%d requests (%d proved clean, %d refused, %d let through with findings; net/http itself refused %d more), %d rule sets (%d without the fast path, %d that no engine loads), "+
		"%d set aside where plain wavers, %d where it fails, %d refused for their cost, %d differences of %d kinds",
		f.Requests, f.Proved, f.Blocked, f.Findings, f.Refused, f.RuleSets, f.Off, f.NotLoaded, f.Wavers, f.Fails, f.Dear, f.Differences, len(f.Kinds))
}

// run is a run under way.
type run struct {
	Options
	mu   sync.Mutex
	f    Figures
	next int
	base map[string]*Pair // the set-ups that are asked again and again
}

// maxKinds ends a run in which nearly everything differs.
const maxKinds = 200

// Run compares both engines until the context ends, the time is over or the rounds
// are done. The error is one of the set-up: differences are in the figures.
func Run(ctx context.Context, o Options) (Figures, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Minimise == 0 {
		o.Minimise = 20 * time.Second
	}
	x := &run{Options: o, next: o.First, base: map[string]*Pair{}, f: Figures{Kinds: map[string]int{}}}
	defer func() {
		for _, p := range x.base {
			_ = p.Close()
		}
	}()
	if o.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.For)
		defer cancel()
	}
	var wg sync.WaitGroup
	errs := make([]error, max(1, o.Workers))
	start := time.Now()
	for i := range errs {
		wg.Go(func() { errs[i] = x.work(ctx) })
	}
	if o.Progress > 0 {
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		tick := time.NewTicker(o.Progress)
		defer tick.Stop()
	progress:
		for {
			select {
			case <-done:
				break progress
			case <-tick.C:
				x.mu.Lock()
				fmt.Fprintf(o.Log, "%v: %v\n", time.Since(start).Round(time.Second), &x.f)
				x.mu.Unlock()
			}
		}
	}
	wg.Wait()
	return x.f, errors.Join(errs...)
}

// work runs rounds.
func (x *run) work(ctx context.Context) error {
	for ctx.Err() == nil {
		x.mu.Lock()
		n := x.next
		x.next++
		over := x.Rounds > 0 && n >= x.First+x.Rounds || len(x.f.Kinds) > maxKinds
		x.mu.Unlock()
		if over {
			return nil
		}
		if err := x.round(ctx, n); err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
	}
	return nil
}

// source returns the randomness of a round.
func source(seed uint64, round int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(round)))
}

// round asks both engines about the requests of one round.
func (x *run) round(ctx context.Context, n int) error {
	r := source(x.Seed, n)
	g := NewGenerator(r)
	var (
		s        Setup
		requests int
		kept     = ""
	)
	switch k := r.IntN(100); {
	case k < 45:
		level := 1 + r.IntN(4)
		if k < 20 {
			level = 1 // what most run
		}
		s, requests = Setup{CRS: true, Paranoia: level}, 150
		if k%3 == 0 {
			s = Regression(level)
		}
		kept = fmt.Sprint(level, k%3 == 0)
	case k < 60:
		s = Setup{CRS: true, Paranoia: 1 + r.IntN(4), Threshold: oneOf(r, 0, 0, 3, 10, 25), OwnMethods: chance(r, 3), Files: RandomExclusions(r)}
		requests = 150
	case k < 66: // random rules beside the Core Rule Set
		s = Setup{CRS: true, Paranoia: 1 + r.IntN(2), Files: []File{{oneOf(r, OwnFile, AheadFile), RandomRules(r)}}}
		g.Words, g.Names = ruleWords, ruleNames
		requests = 60
	default:
		s = Setup{Files: []File{{OwnFile, RandomRules(r)}}}
		if chance(r, 8) {
			s.BodyLimit, s.Oversize = int64(10+r.IntN(500)), oneOf(r, oversizes...)
		}
		g.Words, g.Names = ruleWords, ruleNames
		requests = 60
	}
	pair, err := x.open(s, kept)
	if err != nil {
		var only *LoadError
		x.mu.Lock()
		defer x.mu.Unlock()
		if !errors.As(err, &only) {
			x.f.NotLoaded++
			return nil // the rules are random: some no engine takes
		}
		x.f.Differences++
		x.f.Kinds["only plain loads it"]++
		x.keep(n, Case{Comment: err.Error(), Setup: s, Message: Message{Method: "GET", Target: "/", Proto: "HTTP/1.1", Header: []Field{{"Host", "h"}}}}, "does not load")
		return nil
	}
	if kept == "" {
		defer func() { _ = pair.Close() }()
	}
	x.mu.Lock()
	x.f.RuleSets++
	if pair.Off() != "" {
		x.f.Off++
	}
	x.mu.Unlock()
	for range requests {
		if ctx.Err() != nil {
			return nil
		}
		m := g.Next()
		req, err := Parse(&m)
		if err != nil {
			x.mu.Lock()
			x.f.Refused++
			x.mu.Unlock()
			continue
		}
		c := pair.Compare(req)
		x.count(&c)
		switch c.Outcome {
		case Differs:
			x.differs(n, pair, m, &c)
		case Dear:
			x.mu.Lock()
			_, _ = fmt.Fprintf(x.Log, "round %d: too dear for plain %v, for fast %v: PL%d, target of %d bytes, body of %d, %s %s\n",
				n, c.Plain.Dear, c.Fast.Dear, s.Paranoia, len(m.Target), len(m.Body), m.Get("Content-Type"), m.Get("Content-Encoding"))
			// A small request that costs too much is worth a look.
			if len(req.body) < smallDear && c.Fast.Dear {
				x.write("dear", (&Case{Comment: fmt.Sprintf("plain: %v\nfast: %v", c.Plain, c.Fast), Setup: s, Message: m}).Format())
			}
			x.mu.Unlock()
		}
	}
	return nil
}

// open returns the pair of a set-up, the same for the same name.
func (x *run) open(s Setup, name string) (*Pair, error) {
	if name == "" {
		return Open(s)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if p := x.base[name]; p != nil {
		return p, nil
	}
	p, err := Open(s)
	if err == nil {
		x.base[name] = p
	}
	return p, err
}

// count adds a comparison to the figures.
func (x *run) count(c *Comparison) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.f.Requests++
	if c.Fast.Proved {
		x.f.Proved++
	}
	if c.Plain.Verdict == filter.Block {
		x.f.Blocked++
	} else if c.Plain.Findings > 0 {
		x.f.Findings++
	}
	switch c.Outcome {
	case Wavers:
		x.f.Wavers++
	case Dear:
		x.f.Dear++
	case Fails:
		x.f.Fails++
	case Differs:
		x.f.Differences++
	}
}

// differs makes a difference small and tells it, the first time that its kind is met.
func (x *run) differs(round int, p *Pair, m Message, c *Comparison) {
	kind := c.Kind()
	x.mu.Lock()
	x.f.Kinds[kind]++
	first := x.f.Kinds[kind] == 1
	x.mu.Unlock()
	if !first {
		return
	}
	small, sc := Minimise(p, m, x.Minimise)
	small.Comment = fmt.Sprintf("plain: %v\nfast:  %v\nseed %d, round %d; before it was made small: plain %v, fast %v\n", sc.Plain, sc.Fast, x.Seed, round, c.Plain, c.Fast)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.keep(round, small, kind)
}

// keep logs a case and writes it to the directory. The caller holds the lock.
func (x *run) keep(round int, c Case, kind string) {
	text := c.Format()
	_, _ = fmt.Fprintf(x.Log, "=== round %d: %s\n%s\n", round, kind, text)
	x.write("differs", text)
}

// smallDear is the size of a body below which no request should be too dear.
const smallDear = 8 << 10

// write writes a case to the directory. The caller holds the lock.
func (x *run) write(prefix string, text []byte) {
	if x.Dir == "" {
		return
	}
	h := fnv.New64a()
	_, _ = h.Write(text) // a hash takes everything
	name := filepath.Join(x.Dir, fmt.Sprintf("%s-%016x.txtar", prefix, h.Sum64()))
	if err := os.WriteFile(name, text, 0o644); err != nil {
		_, _ = fmt.Fprintf(x.Log, "%s: %v\n", name, err)
	}
}

// Report returns the kinds of differences with their numbers, most frequent first.
func (f *Figures) Report() string {
	var kinds []string
	for k := range f.Kinds {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(a, b string) int {
		if d := f.Kinds[b] - f.Kinds[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	var b strings.Builder
	for _, k := range kinds {
		fmt.Fprintf(&b, "%6d %s\n", f.Kinds[k], k)
	}
	return b.String()
}
