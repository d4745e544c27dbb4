package ratelimit

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// TestFlood: five million addresses within a minute, among them a thousand clients
// over their limit. The table stays within its bound, decides quickly, and forgets
// none of the thousand, whom a limiter each watches in parallel.
func TestFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const (
		addresses = 5_000_000
		busy      = 1000
		memory    = 48 << 20
	)
	r := Rate{5, time.Minute}
	const burst = 5
	before := heap()
	table := newTable(r.interval(), burst, memory)
	limiters := make([]*rate.Limiter, busy)
	for i := range limiters {
		limiters[i] = rate.NewLimiter(rate.Every(r.interval()), burst)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	start := time.Unix(1e9, 0)
	times := make([]time.Duration, 0, addresses/16)
	var refused, watched, peak int64
	for i := range int64(addresses) {
		at := start.Add(time.Duration(i) * time.Minute / addresses)
		now := at.UnixNano()
		var a answer
		if i%16 == 0 { // reading the clock each time would be measured as well
			from := time.Now()
			a = table.take(slot{hi: uint64(i) << 16, lo: 1}, now)
			times = append(times, time.Since(from))
		} else {
			a = table.take(slot{hi: uint64(i) << 16, lo: 1}, now)
		}
		if !a.ok {
			refused++
		}
		if i%20 == 0 {
			client := rng.IntN(busy)
			l := limiters[client]
			tokens := l.TokensAt(at)
			got := table.take(slot{hi: uint64(client), lo: 2}, now).ok
			if tokens > 1-1e-6 && tokens < 1+1e-6 {
				// The limiter counts in floating point. It follows the table.
				if got {
					l.AllowN(at.Add(time.Microsecond), 1)
				}
			} else if want := l.AllowN(at, 1); got != want {
				t.Fatalf("after %s, client %d: admitted %t, its limiter %t", at.Sub(start), client, got, want)
			}
			watched++
		}
		if i%1_000_000 == 999_999 {
			peak = max(peak, int64(heap()-before)-int64(cap(times))*8)
		}
	}
	st := table.stats()
	slices.Sort(times)
	p50, p99, worst := times[len(times)/2], times[len(times)*99/100], times[len(times)-1]
	t.Logf("%d addresses: %d keys in the end, %.1f MB held, %.1f MB accounted, bound %.1f MB; p50 %s, p99 %s, worst %s",
		addresses, st.Keys, mega(peak), mega(st.Bytes), mega(st.MaxBytes), p50, p99, worst)
	if refused > 0 || st.Full > 0 {
		t.Errorf("%d new clients were refused, %d for want of a place", refused, st.Full)
	}
	if peak > memory || st.Bytes > memory {
		t.Errorf("%d bytes are held, %d accounted; the bound is %d", peak, st.Bytes, memory)
	}
	if !raceEnabled && p99 > 5*time.Microsecond {
		t.Errorf("one in a hundred decisions takes %s or more", p99)
	}
	if watched < 200_000 {
		t.Errorf("only %d requests were watched", watched)
	}
	runtime.KeepAlive(table)
}
