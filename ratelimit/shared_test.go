package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a Store in this process, by the clock of its test.
type memory struct {
	mu    sync.Mutex
	full  map[Bucket]time.Time
	delay atomic.Int64 // nanoseconds
	down  atomic.Bool
	calls atomic.Int64
}

var errDown = errors.New("down")

func (m *memory) Spend(ctx context.Context, s Spend) (Spent, error) {
	m.calls.Add(1)
	time.Sleep(time.Duration(m.delay.Load()))
	if m.down.Load() {
		return Spent{}, errDown
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full == nil {
		m.full = map[Bucket]time.Time{}
	}
	now := time.Now()
	full := m.full[s.Bucket]
	if full.Before(now) {
		full = now
	}
	full = full.Add(s.Forced)
	if most := now.Add(2 * s.Depth); full.After(most) {
		full = most
	}
	got := Spent{OK: true}
	if next := full.Add(s.Cost); next.Sub(now) <= s.Depth {
		full = next
	} else {
		got = Spent{Wait: next.Sub(now) - s.Depth}
	}
	m.full[s.Bucket] = full
	got.Used = full.Sub(now)
	return got, nil
}

func (m *memory) SpendAll(ctx context.Context, all []Spend) (got []Spent, err error) {
	for _, s := range all {
		one, err := m.Spend(ctx, s)
		if err != nil {
			return nil, err
		}
		got = append(got, one)
	}
	return got, nil
}

// node is a stage of one tier by ip, with a share in a store.
type node struct {
	*Stage
	share *Shared
}

// ask makes a request now.
func (n node) ask(t testing.TB, client string) bool {
	r := request("/", client, 0)
	r.Now = time.Now()
	return passes(t, n.Stage, r)
}

// TestSharedNeverMoreThanRate: nodes that share a store grant together no more than
// one burst, the rate, and a fiftieth of a burst each; without the store, each of them
// no more than one burst and the rate; with a store that comes and goes, each no more
// than that, at any time.
func TestSharedNeverMoreThanRate(t *testing.T) {
	const nodes = 4
	for _, mode := range []string{"shared", "degraded", "coming and going"} {
		t.Run(mode, func(t *testing.T) {
			for round := range 12 {
				synctest.Test(t, func(t *testing.T) {
					rng := rand.New(rand.NewPCG(9, uint64(round)))
					r := Rate{1 + rng.IntN(100), time.Second}
					burst := 1 + rng.IntN(400)
					store := new(memory)
					store.down.Store(mode == "degraded")
					var all [nodes]node
					for i := range all {
						share := NewShared(store, 0)
						defer share.Close()
						s, err := New([]Tier{{ID: "all", Key: mustKey(t, "ip"), Rate: r, Burst: burst}}, nil, Options{Shared: share})
						if err != nil {
							t.Fatal(err)
						}
						all[i] = node{s, share}
					}
					start := time.Now()
					var granted [nodes]int
					total := 0
					for range 4000 {
						time.Sleep(time.Duration(rng.ExpFloat64() * float64(r.interval()) / 2))
						if rng.IntN(500) == 0 {
							time.Sleep(time.Duration(rng.Int64N(int64(r.interval()) * int64(burst))))
						}
						if mode == "coming and going" && rng.IntN(200) == 0 {
							store.down.Store(!store.down.Load())
						}
						i := rng.IntN(nodes)
						if all[i].ask(t, "192.0.2.1") {
							granted[i]++
							total++
						}
						rated := int(time.Since(start) / r.interval())
						if granted[i] > burst+rated {
							t.Fatalf("%s burst %d: node %d alone granted %d in %s", r, burst, i, granted[i], time.Since(start))
						}
						if most := burst + nodes*(burst/slackPart) + rated; mode == "shared" && total > most {
							t.Fatalf("%s burst %d: %d granted in %s, %d at most", r, burst, total, time.Since(start), most)
						}
					}
					if rated := int(time.Since(start) / r.interval()); total < rated/2 {
						t.Errorf("%s burst %d: only %d granted in %s", r, burst, total, time.Since(start))
					}
				})
			}
		})
	}
}

// TestSharedFastPath: the store is asked for clients near their limit, and not for
// those far from it or over it.
func TestSharedFastPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(memory)
		share := NewShared(store, 0)
		defer share.Close()
		s, err := New([]Tier{{ID: "all", Key: mustKey(t, "ip"), Rate: perSecond(10), Burst: 500}}, nil, Options{Shared: share})
		if err != nil {
			t.Fatal(err)
		}
		n := node{s, share}
		// Far: one request each, of many clients.
		for i := range 200 {
			if !n.ask(t, fmt.Sprintf("198.51.100.%d", i)) {
				t.Fatal("refused")
			}
		}
		if got := store.calls.Load(); got != 0 {
			t.Errorf("clients far from their limit made %d questions", got)
		}
		time.Sleep(2 * flushEvery)
		synctest.Wait()
		if got := len(store.full); got != 200 {
			t.Errorf("%d clients were reported, want 200", got)
		}
		// Over: until the store said so, and no longer.
		for n.ask(t, "192.0.2.1") {
		}
		before := store.calls.Load()
		for range 100 {
			if n.ask(t, "192.0.2.1") {
				t.Error("a client over its limit is let through")
			}
		}
		if got := store.calls.Load() - before; got != 0 {
			t.Errorf("a client over its limit made %d questions", got)
		}
		time.Sleep(100 * time.Millisecond)
		if !n.ask(t, "192.0.2.1") {
			t.Error("refused when the time was over")
		}
		st := share.Stats()
		if st.Fast == 0 || st.Asked == 0 || st.Degraded != 0 || st.Away {
			t.Errorf("%+v", st)
		}
	})
}

// TestSharedBudget: a store that hangs costs a few budgets, and is back when it
// answers.
func TestSharedBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(memory)
		store.delay.Store(int64(20 * time.Second))
		share := NewShared(store, 0)
		defer share.Close()
		s, err := New([]Tier{{ID: "all", Key: mustKey(t, "ip"), Rate: perSecond(10), Burst: 10}}, nil, Options{Shared: share})
		if err != nil {
			t.Fatal(err)
		}
		n := node{s, share}
		waited := 0
		for i := range 50 {
			start := time.Now()
			if !n.ask(t, fmt.Sprintf("192.0.2.%d", i)) {
				t.Error("refused because the store hangs")
			}
			if d := time.Since(start); d > DefaultBudget {
				t.Errorf("waited for %s", d)
			} else if d > 0 {
				waited++
			}
		}
		if st := share.Stats(); waited != int(tripAfter/DefaultBudget) || !st.Away || st.Degraded != 50 || st.Late != uint64(waited) {
			t.Errorf("%d requests waited; %+v", waited, st)
		}
		store.delay.Store(0)
		time.Sleep(time.Minute)
		synctest.Wait()
		before := share.Stats().Asked
		n.ask(t, "192.0.2.1")
		if st := share.Stats(); st.Away || st.Asked != before+1 {
			t.Errorf("not back: %+v", st)
		}
	})
}

// TestSharedGivesBack: a request that the store refuses costs nothing of the node's
// own bucket.
func TestSharedGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(memory)
		var two [2]node
		for i := range two {
			share := NewShared(store, 0)
			defer share.Close()
			s, err := New([]Tier{{ID: "all", Key: mustKey(t, "ip"), Rate: perSecond(1), Burst: 5}}, nil, Options{Shared: share})
			if err != nil {
				t.Fatal(err)
			}
			two[i] = node{s, share}
		}
		for range 5 {
			two[0].ask(t, "192.0.2.1")
		}
		for range 20 {
			if two[1].ask(t, "192.0.2.1") {
				t.Fatal("the second node grants what the first has spent")
			}
		}
		store.down.Store(true)
		granted := 0
		time.Sleep(time.Millisecond)
		for range 2000 {
			if two[1].ask(t, "192.0.2.1") {
				granted++
			}
			time.Sleep(time.Millisecond)
		}
		if granted < 5 || granted > 7 {
			t.Errorf("the second node alone granted %d in 2 s, want its burst of 5 and 2 more at most", granted)
		}
	})
}
