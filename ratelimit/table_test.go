package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/moatwaf/moat/filter"
)

// TestTwinLimiter holds the buckets of a table against rate.Limiter on random
// arrivals. The rates are such that a token takes whole nanoseconds; the limiter
// counts in floating point, so that arrivals within 50 ns of a change are left out.
func TestTwinLimiter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const keys = 5
	for _, c := range []struct {
		rate  Rate
		burst int
	}{
		{Rate{20, time.Second}, 40}, {Rate{5, time.Minute}, 5}, {Rate{1, time.Second}, 1},
		{Rate{1000, time.Second}, 1}, {Rate{1000, time.Second}, 500}, {Rate{1000, 24 * time.Hour}, 1000}, {Rate{1, time.Hour}, 3},
	} {
		t.Run(fmt.Sprintf("%s burst %d", c.rate, c.burst), func(t *testing.T) {
			table := newTable(c.rate.interval(), c.burst, 1<<20)
			limiters := make(map[uint64]*rate.Limiter)
			last := make(map[uint64]int64)
			now, admitted, refused := int64(1e18), 0, 0
			for range 50_000 {
				// Half as many again as the rate lets through, many at once,
				// and pauses in which buckets fill.
				if rng.IntN(2) == 0 {
					now += int64(rng.ExpFloat64() * float64(c.rate.interval()) * 2 / 1.5 / keys)
				}
				if rng.IntN(20*c.burst) == 0 {
					now += rng.Int64N(2 * int64(c.burst) * int64(c.rate.interval()))
				}
				key := uint64(rng.IntN(keys))
				l := limiters[key]
				if l == nil {
					l = rate.NewLimiter(rate.Every(c.rate.interval()), c.burst)
					limiters[key] = l
				}
				at := time.Unix(0, now)
				wholeAgain := c.burst == 1 && now-last[key] > int64(c.rate.interval())+50
				if tokens := l.TokensAt(at); tokens > 1-tolerance(c.rate) && tokens < 1+tolerance(c.rate) && !wholeAgain {
					continue
				}
				want := l.AllowN(at, 1)
				got := table.take(slot{lo: key}, now)
				if got.ok != want {
					t.Fatalf("at %d, key %d: admitted %t, limiter %t with %v tokens", now, key, got.ok, want, l.TokensAt(at))
				}
				if got.ok {
					last[key] = now
					admitted++
					continue
				}
				refused++
				r := l.ReserveN(at, 1)
				wait := r.DelayFrom(at)
				r.CancelAt(at)
				if diff := wait - got.wait; diff < -50 || diff > 50 {
					t.Fatalf("at %d, key %d: wait %s, limiter %s", now, key, got.wait, wait)
				}
			}
			if admitted < 1000 || refused < 1000 {
				t.Errorf("%d admitted, %d refused: the test tests little", admitted, refused)
			}
		})
	}
}

// tolerance is 50 ns in tokens.
func tolerance(r Rate) float64 { return 50 / float64(r.interval()) }

// TestNeverMoreThanRate: no client gets more than a burst and the rate, neither
// when requests are out of order nor when the clock is set back.
func TestNeverMoreThanRate(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 60 {
		r := Rate{1 + rng.IntN(1000), []time.Duration{time.Second, time.Minute, time.Hour, 7 * time.Second}[rng.IntN(4)]}
		burst := 1 + rng.IntN(50)
		setBack := round%2 == 1
		table := newTable(r.interval(), burst, 1<<20)
		const start = int64(1e18)
		now, lowest, highest, passed, admitted := start, start, start, int64(0), 0
		for i := range 5000 {
			forward := rng.Int64N(2*int64(r.interval())*int64(1+rng.IntN(burst))) / int64(1+rng.IntN(40))
			now += forward
			passed += forward
			highest = max(highest, now)
			switch {
			case rng.IntN(3) != 0:
			case setBack:
				now -= rng.Int64N(int64(r.Per) * 3)
			default:
				now = max(now-rng.Int64N(int64(r.Per)), highest-maxJitter)
			}
			lowest = min(lowest, now)
			// Other keys make the table forget those whose bucket is full.
			table.take(slot{lo: uint64(i)}, now)
			a := table.take(slot{hi: 1}, now)
			if a.ok {
				admitted++
			} else if a.wait <= 0 || a.wait > r.interval() {
				t.Fatalf("wait %s is not within one interval, %s", a.wait, r.interval())
			}
			allowed := highest - lowest
			if setBack {
				allowed = passed // the same hour passes twice
			}
			if want := int64(burst) + allowed/int64(r.interval()); int64(admitted) > want {
				t.Fatalf("round %d: %s burst %d: %d admitted in %s, want %d at most", round, r, burst, admitted, time.Duration(allowed), want)
			}
		}
		if admitted < burst {
			t.Errorf("round %d: %d admitted, want more than a burst, %d", round, admitted, burst)
		}
	}
}

// TestTimeStepsBack: a client that is limited stays so for the time of its limit,
// not for the step; nobody gets a token from it.
func TestTimeStepsBack(t *testing.T) {
	table := newTable(time.Second, 2, 1<<20)
	now := int64(1e18)
	for i, want := range []bool{true, true, false} {
		if got := table.take(slot{}, now).ok; got != want {
			t.Fatalf("request %d: %t", i, got)
		}
	}
	now -= int64(time.Hour)
	if table.take(slot{}, now).ok {
		t.Error("a step back gave a token")
	}
	if a := table.take(slot{}, now); a.wait != time.Second {
		t.Errorf("wait %s after a step back, want 1s", a.wait)
	}
	if table.take(slot{}, now+int64(time.Second)).ok != true {
		t.Error("refused a second after the step back")
	}
	// New keys are found and taken out again on the new time.
	for i := range uint64(5000) {
		table.take(slot{lo: i + 1}, now+int64(i)*int64(time.Millisecond))
	}
	if keys := table.stats().Keys; keys > 2000+wheelLen*100 {
		t.Errorf("%d keys stay", keys)
	}
}

// twin is a table without bound and without eviction.
type twin struct {
	interval, depth int64
	full            map[slot]int64
}

func (w *twin) take(key slot, now int64) bool {
	full := min(max(w.full[key], now), now+w.depth) + w.interval
	if full-now > w.depth {
		return false
	}
	w.full[key] = full
	return true
}

// limited counts the keys whose bucket is not full at a time.
func (w *twin) limited(at int64) (n int) {
	for _, full := range w.full {
		if full > at {
			n++
		}
	}
	return n
}

// TestTwinEviction drives a table far over its capacity and holds it against one
// without bound: every key has the same answer, or there was no place for it,
// and then the table was full of keys that were limited.
func TestTwinEviction(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct {
		name  string
		burst int
		keys  int
		pause int64 // largest time between requests
		full  bool  // some requests find no place
	}{
		{"few keys", 3, 500, int64(time.Second) / 50, false},
		{"more keys than places, most full again", 2, 100_000, int64(time.Second) / 100, false},
		{"more keys than places, most limited", 5, 20_000, int64(time.Second) / 3000, true},
		{"burst of one", 1, 100_000, int64(time.Second) / 500, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := newTable(time.Second, c.burst, 24<<10) // one shard
			if len(table.shards) != 1 {
				t.Fatalf("%d shards", len(table.shards))
			}
			w := &twin{interval: table.interval, depth: table.depth, full: make(map[slot]int64)}
			now := int64(1e18)
			full, known := 0, 0
			for i := range 60_000 {
				now += rng.Int64N(c.pause)
				// Some keys come often.
				n := rng.IntN(c.keys)
				if rng.IntN(3) == 0 {
					n = rng.IntN(c.keys/50 + 1)
				}
				key := slot{hi: uint64(n) << 32, lo: uint64(n)}
				a := table.take(key, now)
				if a.full {
					full++
					// Every place must be a key that is limited, or was so
					// until a tick of the wheel ago.
					if full%200 == 1 {
						if limited := w.limited(now - 2<<table.shift); limited < int(table.max) {
							t.Fatalf("request %d: no place, but only %d of %d keys are limited", i, limited, table.max)
						}
					}
					if w.full[key] > now {
						t.Fatalf("request %d: key %d was limited and lost its place", i, n)
					}
					continue
				}
				known++
				if want := w.take(key, now); a.ok != want {
					t.Fatalf("request %d: key %d admitted %t, want %t", i, n, a.ok, want)
				}
			}
			check(t, table)
			t.Logf("%d answers the same, %d found no place, %d of %d places used", known, full, table.stats().Keys, table.max)
			if known == 0 || c.full != (full > 0) {
				t.Errorf("%d known, %d full", known, full)
			}
		})
	}
}

// check verifies what must hold of every shard at any time.
func check(t *testing.T, table *table) {
	t.Helper()
	for i := range table.shards {
		s := &table.shards[i]
		state := make([]int, s.made+1)
		chained, listed, free := 0, 0, 0
		for _, n := range s.index {
			for ; n != 0; n = s.at(n).next {
				chained++
				state[n]++
			}
		}
		for _, n := range s.wheel {
			for ; n != 0; n = s.at(n).list {
				listed++
				state[n] += 10
			}
		}
		for n := s.free; n != 0; n = s.at(n).next {
			free++
			state[n] += 100
		}
		if chained != int(s.used) || listed != chained || chained+free != int(s.made) || s.made > table.max {
			t.Errorf("shard %d: %d chained, %d listed, %d used, %d free, %d made, %d at most", i, chained, listed, s.used, free, s.made, table.max)
		}
		for n, v := range state[1:] {
			if v != 11 && v != 100 {
				t.Errorf("shard %d: entry %d is in chain, list, free list %d", i, n+1, v)
			}
		}
	}
}

// TestFullTable: while every place is held by a limited client, a new one is
// refused, or let through if the policy says so, and known clients are served.
func TestFullTable(t *testing.T) {
	for _, full := range []Full{FullBlock, FullPass} {
		s := mustStage(t, Options{Memory: MinMemory, Full: full},
			Tier{ID: "slow", Key: mustKey(t, "header:K"), Rate: Rate{2, time.Hour}, Burst: 2})
		r := request("/", "192.0.2.1", 0)
		refused := 0
		for i := range 20_000 {
			r.HTTP.Header["K"] = []string{fmt.Sprint(i)}
			d, err := s.Check(r)
			if err != nil {
				t.Fatal(err)
			}
			if d.Refuses() {
				refused++
				if d.Reason != filter.ReasonRateLimit || d.Detail == "" || d.Limit.Reset != 30*time.Minute {
					t.Fatalf("decision %+v, limit %+v", d, d.Limit)
				}
			}
		}
		st := s.state.Stats()[0]
		if st.Full == 0 || st.Keys != st.MaxKeys || st.Bytes > st.MaxBytes {
			t.Errorf("Stats = %+v, want a full table", st)
		}
		if want := map[Full]int{FullBlock: int(st.Full), FullPass: 0}[full]; refused != want {
			t.Errorf("full %d: %d refused, want %d", full, refused, want)
		}
		r.HTTP.Header["K"] = []string{"0"}
		if !passes(t, s, r) || passes(t, s, r) {
			t.Error("the first client does not have the second request of its burst, or a third")
		}
		r.Now = r.Now.Add(2 * time.Hour)
		r.HTTP.Header["K"] = []string{"new"}
		if !passes(t, s, r) {
			t.Error("refused after the places became free")
		}
	}
}

// TestMillionClients measures the memory of a million clients on one tier, and of
// nearly two million, which do not fit.
func TestMillionClients(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	for _, c := range []struct {
		clients int
		full    bool
	}{{1_000_000, false}, {1_900_000, true}} {
		before := heap()
		table := newTable(time.Minute, 5, DefaultMemory)
		now, refused, peak := int64(1e18), 0, before
		for i := range uint64(c.clients) {
			// All of them within a second, so that all of them are limited.
			if !table.take(slot{hi: i << 16}, now+int64(i)*300).ok {
				refused++
			}
			if i%500_000 == 0 {
				peak = max(peak, heap())
			}
		}
		held := int64(max(peak, heap()) - before)
		st := table.stats()
		t.Logf("%d clients: %.1f MB of memory, accounted %.1f MB, bound %.1f MB, %d of %d places, %d refused",
			c.clients, mega(held), mega(st.Bytes), mega(st.MaxBytes), st.Keys, st.MaxKeys, refused)
		if held > DefaultMemory || st.Bytes > DefaultMemory {
			t.Errorf("%d clients hold %d bytes (accounted %d), want %d at most", c.clients, held, st.Bytes, DefaultMemory)
		}
		if diff := held - st.Bytes; diff > 2<<20 || diff < -2<<20 {
			t.Errorf("held %d bytes, accounted %d", held, st.Bytes)
		}
		if c.full != (refused > 0) || st.Keys+refused != c.clients {
			t.Errorf("%d clients: %d refused, %d keys", c.clients, refused, st.Keys)
		}
		runtime.KeepAlive(table)
	}
}

func mega(n int64) float64 { return float64(n) / 1e6 }

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestAccounting holds the accounted bytes under the bound at every size.
func TestAccounting(t *testing.T) {
	for _, size := range []int64{MinMemory, 100_000, 1 << 20, 3_333_333} {
		table := newTable(time.Hour, 1, size)
		for i := range uint64(size / 24) {
			table.take(slot{hi: i}, 1e18)
		}
		st := table.stats()
		if st.Bytes > size || float64(st.Bytes) < 0.75*float64(size) {
			t.Errorf("bound %d: holds %d with %d keys", size, st.Bytes, st.Keys)
		}
		check(t, table)
	}
}

func TestConcurrency(t *testing.T) {
	s := mustStage(t, Options{Memory: MinMemory}, Tier{ID: "all", Key: mustKey(t, "ip"), Rate: Rate{1, time.Hour}, Burst: 50})
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := make(map[string]int)
	for worker := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(worker)))
			mine := make(map[string]int)
			for range 2000 {
				client := fmt.Sprintf("192.0.2.%d", rng.IntN(20))
				if d, err := s.Check(request("/", client, 0)); err == nil && !d.Refuses() {
					mine[client]++
				}
				if rng.IntN(100) == 0 {
					s.state.Stats()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for client, n := range mine {
				total[client] += n
			}
		})
	}
	wg.Wait()
	for client, n := range total {
		if n != 50 {
			t.Errorf("%s: %d admitted by 8 goroutines, want the burst, 50", client, n)
		}
	}
	if len(total) != 20 {
		t.Errorf("%d clients", len(total))
	}
}

// TestExtremes: no rate, burst or time overflows.
func TestExtremes(t *testing.T) {
	key := mustKey(t, "ip")
	for _, tier := range []Tier{
		{ID: "fastest", Key: key, Rate: Rate{1_000_000, time.Second}, Burst: 1 << 40},
		{ID: "fastest, one", Key: key, Rate: Rate{1_000_000, time.Second}, Burst: 1},
		{ID: "slowest", Key: key, Rate: Rate{1, maxPer}, Burst: 10},
		{ID: "odd", Key: key, Rate: Rate{999_983, time.Second}, Burst: 3},
	} {
		for _, at := range []time.Time{{}, time.Unix(0, 0), epoch, time.Now(), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(1<<60, 0), time.Unix(-1<<60, 0)} {
			s := mustStage(t, Options{Memory: MinMemory}, tier)
			r := request("/", "192.0.2.1", 0)
			r.Now = at
			admitted := 0
			for range 12 {
				if passes(t, s, r) {
					admitted++
				}
			}
			if want := min(tier.Burst, 12); admitted != want {
				t.Errorf("%s at %s: %d admitted, want %d", tier.ID, at, admitted, want)
			}
		}
	}
}
