package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf"
	"github.com/moatwaf/moat/rules/waf/differ"
)

func newRand() *rand.Rand { return rand.New(rand.NewPCG(3, 4)) }

// clean returns those of a list in which a stage finds nothing.
func clean(plain *waf.Stage, all []*differ.Request) ([]*differ.Request, error) {
	var out []*differ.Request
	for _, q := range all {
		r := prepare(q.HTTP())
		in, err := plain.Inspect(r)
		if err != nil {
			return nil, err
		}
		if in.Decision.Verdict == filter.Continue && in.Score == 0 && len(in.Rules) == 0 {
			out = append(out, q)
		}
		r.Release()
	}
	return out, nil
}

// collectEach is after how many requests garbage is collected: a collection leaves
// nothing of the engine in the processor's caches, which no server's goes through every
// few milliseconds, and the plain engine fills a gigabyte with as many.
const collectEach = 8 * batch

// pass asks a stage about a list once and returns the CPU time. Requests are made
// outside of what is timed.
func pass(stage *waf.Stage, list []*differ.Request) (time.Duration, error) {
	old := debug.SetGCPercent(-1)
	defer debug.SetGCPercent(old)
	var total time.Duration
	for done := 0; len(list) > 0; {
		if done%collectEach == 0 {
			runtime.GC()
		}
		n := min(len(list), batch)
		done += n
		var rs []*filter.Request
		for _, q := range list[:n] {
			rs = append(rs, prepare(q.HTTP()))
		}
		list = list[n:]
		start := cpu()
		for _, r := range rs {
			if _, err := stage.Check(r); err != nil {
				return 0, err
			}
		}
		total += cpu() - start
		for _, r := range rs {
			r.Release()
		}
	}
	return total, nil
}

// mixedTraffic compares the engines on clean requests of all kinds.
func mixedTraffic(s stages, re *regexp.Regexp) error {
	if !re.MatchString("mixed") {
		return nil
	}
	plain, fast, err := s.get(1)
	if err != nil {
		return err
	}
	all, _ := mixed(newRand(), 500, 500)
	if all, err = clean(plain, all); err != nil {
		return err
	}
	var p, f time.Duration
	// One value may add only so many states to an automaton: it takes a few passes
	// until it knows what this traffic needs.
	var warming []string
	for range 12 {
		d, err := pass(fast, all)
		if err != nil {
			return err
		}
		warming = append(warming, show(d/time.Duration(len(all))).String())
	}
	const rounds, times = 3, 3
	for range rounds {
		d, err := pass(plain, all)
		if err != nil {
			return err
		}
		p += d / rounds
		if _, err = pass(fast, all); err != nil { // its tables come back into the caches
			return err
		}
		for range times {
			if d, err = pass(fast, all); err != nil {
				return err
			}
			f += d / (rounds * times)
		}
	}
	n := time.Duration(len(all))
	ratio := float64(p) / float64(f)
	fmt.Printf("Mixed traffic, PL1: %d clean requests of the corpus, browsers, apps and services; %v a request in plain Coraza, %v fast: %.1f times cheaper (must 80, aim 100: %s). Passes before: %s.\n\n",
		n, show(p/n), show(f/n), ratio, verdict(ratio, 80, 100), strings.Join(warming, ", "))
	return nil
}

// kinds compares the engines on each kind of clean request by itself.
func kinds(s stages, _ *regexp.Regexp) error {
	plain, fast, err := s.get(1)
	if err != nil {
		return err
	}
	r := newRand()
	fmt.Println("| clean requests of | number | bytes | plain | fast | times |")
	fmt.Println("|---|---|---|---|---|---|")
	row := func(name string, all []*differ.Request) error {
		all, err := clean(plain, all)
		if err != nil || len(all) == 0 {
			return err
		}
		if _, err := pass(fast, all); err != nil { // warm
			return err
		}
		p, err := pass(plain, all)
		if err != nil {
			return err
		}
		var f time.Duration
		for range 5 {
			d, err := pass(fast, all)
			if err != nil {
				return err
			}
			f += d / 5
		}
		bytes := 0
		for _, q := range all {
			bytes += q.Size()
		}
		n := len(all)
		fmt.Printf("| %s | %d | %d | %v | %v | %.0f |\n", name, n, bytes/n, show(p/time.Duration(n)), show(f/time.Duration(n)), float64(p)/float64(max(1, f)))
		return nil
	}
	for _, sh := range differ.Shapes {
		var all []*differ.Request
		for range 40 {
			m := sh.Make(r)
			if q, err := differ.Parse(&m); err == nil {
				all = append(all, q)
			}
		}
		if err := row(sh.Name, all); err != nil {
			return err
		}
	}
	all, _ := mixed(r, 600, 0)
	if err := row("the corpus", all); err != nil {
		return err
	}
	fmt.Println()
	return nil
}

// shares counts the clean requests that are proved.
func shares(s stages, _ *regexp.Regexp) error {
	var why []string
	fmt.Println("| clean requests | proved | share | wanted |")
	fmt.Println("|---|---|---|---|")
	for i, wanted := range []string{"98 %", "95 %"} {
		level := i + 1
		plain, fast, err := s.get(level)
		if err != nil {
			return err
		}
		all, split := mixed(newRand(), 1<<20, 1500)
		for _, part := range []struct {
			name, wanted string
			list         []*differ.Request
		}{{"corpus", wanted, all[:split]}, {"browsers, apps, services", "", all[split:]}} {
			list, err := clean(plain, part.list)
			if err != nil {
				return err
			}
			proved, ways := 0, map[string]int{}
			for _, q := range list {
				r := prepare(q.HTTP())
				in, err := fast.Inspect(r)
				if err != nil {
					return err
				}
				if in.Proved {
					proved++
				} else {
					ways[way(in)]++
				}
				r.Release()
			}
			fmt.Printf("| PL%d, %s: %d | %d | %.1f %% | %s |\n", level, part.name, len(list), proved, 100*float64(proved)/float64(max(1, len(list))), part.wanted)
			common := slices.SortedFunc(maps.Keys(ways), func(a, b string) int { return ways[b] - ways[a] })
			for _, w := range common[:min(6, len(common))] {
				why = append(why, fmt.Sprintf("PL%d, %s: %d by %s", level, part.name, ways[w], w))
			}
		}
	}
	fmt.Printf("\nWhat was not proved, mostly: %s.\n\n", strings.Join(why, "; "))
	return nil
}

// dearest measures the worst legal shapes under the ready policy, one request each.
func dearest(s stages, _ *regexp.Regexp) error {
	_, fast, err := s.get(1)
	if err != nil {
		return err
	}
	const size = 1<<20 - 64
	fill := func(text string) string { return strings.Repeat(text, size/len(text)) }
	shapes := []struct {
		name string
		make func() *http.Request
	}{
		{"1 MiB of words in one field", func() *http.Request { return request("POST", "/", formType, "a="+fill("assam+tea+")) }},
		{"1 MiB of quotes in one field", func() *http.Request { return request("POST", "/", formType, "a="+fill("'")) }},
		{"1 MiB of SQL in one field", func() *http.Request { return request("POST", "/", formType, "a="+fill("'or+1+union+select+")) }},
		{"1 MiB of encoded bytes in one field", func() *http.Request { return request("POST", "/", formType, "a="+fill("%2541")) }},
		{"999 fields of 1 KB", func() *http.Request {
			return request("POST", "/", formType, "a=1&"+strings.Repeat("a="+strings.Repeat("x<y'z ", 170)+"&", 998))
		}},
		{"100,000 arguments", func() *http.Request { return request("POST", "/", formType, strings.Repeat("a=1&", 100_000)) }},
		{"JSON, 1 MiB in one string", func() *http.Request {
			return request("POST", "/", "application/json", `{"a":"`+fill(`\u0041b `)+`"}`)
		}},
		{"JSON, 990 strings of 1 KB", func() *http.Request {
			return request("POST", "/", "application/json", "["+strings.Repeat(`"`+strings.Repeat("a=b;", 250)+`",`, 990)+"1]")
		}},
		{"JSON, 1,000 levels", func() *http.Request {
			return request("POST", "/", "application/json", strings.Repeat(`{"a":`, 1000)+"1"+strings.Repeat("}", 1000))
		}},
		{"XML, 1 MiB", func() *http.Request { return request("POST", "/", "text/xml", "<a>"+fill("<b>x</b>")+"</a>") }},
		{"text/plain, 1 MiB", func() *http.Request { return request("POST", "/", "text/plain", fill("let x = 1; // ")) }},
		{"multipart, 900 parts", func() *http.Request {
			return request("POST", "/", "multipart/form-data; boundary=x", strings.Repeat("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n"+strings.Repeat("a;b ", 200)+"\r\n", 900)+"--x--\r\n")
		}},
		{"header of 60 KB", func() *http.Request {
			r := request("GET", "/", "", "")
			r.Header.Set("X-Long", strings.Repeat("a'b<c>", 10_000))
			return r
		}},
		{"URI of 60 KB", func() *http.Request { return request("GET", "/?a="+strings.Repeat("%27or%271", 6000), "", "") }},
	}
	fmt.Println("| dear shape, ready policy, fast engine | CPU, first and best of 3 | answer |")
	fmt.Println("|---|---|---|")
	for _, sh := range shapes {
		var took []time.Duration
		answer := ""
		for range 3 {
			r := prepare(sh.make())
			runtime.GC()
			start := cpu()
			d, err := fast.Check(r)
			took = append(took, cpu()-start)
			if err != nil {
				return err
			}
			answer = fmt.Sprint(d.Verdict)
			if d.Refuses() {
				answer = fmt.Sprintf("%d, %v %s", d.StatusCode(), d.Reason, d.Rule)
			}
			r.Release()
		}
		mark := ""
		if m := min(took[0], took[1], took[2]); m > 50*time.Millisecond {
			mark = " **over 50 ms**"
		}
		fmt.Printf("| %s | %v, %v%s | %s |\n", sh.name, show(took[0]), show(min(took[0], took[1], took[2])), mark, answer)
	}
	fmt.Println()
	return nil
}

// loadTime measures the compilation of the Core Rule Set.
func loadTime(stages, *regexp.Regexp) error {
	fmt.Println("| load of the Core Rule Set | plain | fast | |")
	fmt.Println("|---|---|---|---|")
	for level := 1; level <= 2; level++ {
		for n, what := range []string{"first", "another policy beside it"} {
			var took [2]time.Duration
			for i, fast := range []bool{false, true} {
				start := cpu()
				// A threshold of its own makes it another set of rules.
				s, err := waf.New(waf.Config{Paranoia: level, Threshold: 1000 + 10*level + n, Fast: fast})
				if err != nil {
					return err
				}
				// The first requests build what is built on demand.
				w := workloads[0]
				if _, err := (&cell{stage: s}).block(newRand(), &w, 1); err != nil {
					return err
				}
				took[i] = cpu() - start
				defer func() { _ = s.Close() }()
			}
			mark := ""
			if took[1] > time.Second {
				mark = "**over 1 s**"
			}
			fmt.Printf("| PL%d, %s | %v | %v | %s |\n", level, what, show(took[0]), show(took[1]), mark)
		}
	}
	fmt.Println()
	return nil
}

// scaling compares one goroutine with sixteen.
func scaling(s stages, _ *regexp.Regexp) error {
	_, fast, err := s.get(1)
	if err != nil {
		return err
	}
	const total = 32 * 1024
	var perSecond, perRequest [2]float64
	for i, n := range []int{1, 16} {
		var best time.Duration
		for range 5 {
			var lists [][]*filter.Request
			r := newRand()
			for range n {
				var list []*filter.Request
				for range total / n / 4 {
					list = append(list, prepare(get(r)))
				}
				lists = append(lists, list)
			}
			runtime.GC()
			start, used := time.Now(), cpu()
			var wg sync.WaitGroup
			for _, list := range lists {
				wg.Go(func() {
					for _, q := range list {
						if d, err := fast.Check(q); err != nil || d.Refuses() {
							panic(fmt.Sprint(d.Verdict, err))
						}
					}
				})
			}
			wg.Wait()
			if took := time.Since(start); best == 0 || took < best {
				best = took
				perRequest[i] = float64((cpu() - used).Nanoseconds()) / (total / 4) / 1000
			}
			for _, list := range lists {
				for _, q := range list {
					q.Release()
				}
			}
		}
		perSecond[i] = total / 4 / best.Seconds()
	}
	fmt.Printf("GET on one policy, %d cores: 1 goroutine %.0f requests a second, %.1f us of CPU each; 16 goroutines %.0f, %.1f us: %.2f times.\n\n",
		runtime.NumCPU(), perSecond[0], perRequest[0], perSecond[1], perRequest[1], perSecond[1]/perSecond[0])
	return nil
}
