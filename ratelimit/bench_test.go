package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/moatwaf/moat/filter"
)

const benchKeys = 1 << 17

// benchClients returns n addresses in random order.
func benchClients(n int) []netip.Addr {
	rng := rand.New(rand.NewPCG(1, 2))
	list := make([]netip.Addr, n)
	for i := range list {
		list[i] = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	}
	rng.Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func benchStage(b *testing.B, perSecond, burst int) *Stage {
	return mustStage(b, Options{}, Tier{ID: "all", Key: mustKey(b, "ip"), Rate: Rate{perSecond, time.Second}, Burst: burst})
}

func BenchmarkCheck(b *testing.B) {
	// The numbers of keys are powers of 2: a division costs a quarter of a decision.
	for _, keys := range []int{1, 1 << 10, benchKeys} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			s := benchStage(b, 1000, 1<<30)
			clients := benchClients(keys)
			r := &filter.Request{Now: time.Now()}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r.Client = clients[i&(keys-1)]
				if d, err := s.Check(r); err != nil || d.Refuses() {
					b.Fatal(d, err)
				}
				i++
			}
		})
	}
	b.Run("refused", func(b *testing.B) {
		s := benchStage(b, 1, 1)
		r := &filter.Request{Now: time.Now(), Client: benchClients(1)[0]}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Check(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkTake is a table alone.
func BenchmarkTake(b *testing.B) {
	b.Run("one", func(b *testing.B) {
		t := newTable(time.Microsecond, 1<<40, DefaultMemory)
		b.ReportAllocs()
		for b.Loop() {
			t.take(slot{lo: 1}, 1e18)
		}
	})
	// New keys all the time, in a table that takes out those that are full again.
	b.Run("new", func(b *testing.B) {
		t := newTable(50*time.Millisecond, 1, DefaultMemory)
		now := int64(1e18)
		b.ReportAllocs()
		i := uint64(0)
		for b.Loop() {
			i++
			t.take(slot{lo: i}, now+int64(i)*200)
		}
	})
	// New keys all the time, in a table that is full of limited ones.
	b.Run("full", func(b *testing.B) {
		t := newTable(time.Hour, 1, 1<<20)
		now := int64(1e18)
		i := uint64(0)
		for range 100_000 {
			i++
			t.take(slot{lo: i}, now)
		}
		b.ReportAllocs()
		for b.Loop() {
			i++
			t.take(slot{lo: i}, now+int64(i)*200)
		}
	})
}

// BenchmarkParallel is decisions on 8 goroutines. The metric cpu-ns/op is the time
// of all processors per decision; ns/op is that of the clock.
func BenchmarkParallel(b *testing.B) {
	now := time.Now()
	for _, keys := range []int{1 << 10, benchKeys} {
		clients := benchClients(keys)
		for _, goroutines := range []int{1, 8} {
			at := fmt.Sprintf("keys=%d/goroutines=%d/", keys, goroutines)
			b.Run(at+"table", func(b *testing.B) {
				s := benchStage(b, 1000, 1<<30)
				parallel(b, goroutines, func() func(i int) bool {
					r := &filter.Request{Now: now}
					return func(i int) bool {
						r.Client = clients[i&(keys-1)]
						d, err := s.Check(r)
						return err == nil && !d.Refuses()
					}
				})
			})
			// What the table replaces: a map of limiters behind one lock.
			b.Run(at+"map", func(b *testing.B) {
				var mu sync.Mutex
				limiters := make(map[netip.Addr]*rate.Limiter)
				parallel(b, goroutines, func() func(i int) bool {
					return func(i int) bool {
						client := clients[i&(keys-1)]
						mu.Lock()
						l := limiters[client]
						if l == nil {
							l = rate.NewLimiter(1000, 1<<30)
							limiters[client] = l
						}
						mu.Unlock()
						return l.AllowN(now, 1)
					}
				})
			})
		}
	}
}

// parallel shares the iterations out to goroutines, each with what f returns.
func parallel(b *testing.B, goroutines int, f func() func(i int) bool) {
	b.ReportAllocs()
	each := (b.N + goroutines - 1) / goroutines
	var wg sync.WaitGroup
	before := processorTime(b)
	for worker := range goroutines {
		run := f()
		wg.Go(func() {
			for i := range each {
				if !run(i + worker*7919) {
					b.Error("refused")
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
}
