package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
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
	for _, keys := range []int{1, 1000, benchKeys} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			s := benchStage(b, 1000, 1<<30)
			clients := benchClients(keys)
			r := &filter.Request{Now: time.Now()}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r.Client = clients[i%keys]
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

func BenchmarkParallel(b *testing.B) {
	clients := benchClients(benchKeys)
	now := time.Now()
	b.Run("table", func(b *testing.B) {
		s := benchStage(b, 1000, 1<<30)
		b.ReportAllocs()
		parallel(b, func() func(i int) bool {
			r := &filter.Request{Now: now}
			return func(i int) bool {
				r.Client = clients[i%benchKeys]
				d, err := s.Check(r)
				return err == nil && !d.Refuses()
			}
		})
	})
	// What the table replaces: a map of limiters behind one lock.
	b.Run("map of rate.Limiter", func(b *testing.B) {
		var mu sync.Mutex
		limiters := make(map[netip.Addr]*rate.Limiter)
		b.ReportAllocs()
		parallel(b, func() func(i int) bool {
			return func(i int) bool {
				client := clients[i%benchKeys]
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

// parallel runs what f returns on 8 goroutines in all.
func parallel(b *testing.B, f func() func(i int) bool) {
	var worker atomic.Int64
	b.SetParallelism((8 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		i := int(worker.Add(1)) * 7919
		for run := f(); pb.Next(); i++ {
			if !run(i) {
				b.Error("refused")
				return
			}
		}
	})
}
