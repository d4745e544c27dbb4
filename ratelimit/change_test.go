package ratelimit

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// TestRateChanges: a policy that changes the rate or the burst of a tier gives a client
// one new burst at most, and one that changes nothing of it gives nothing.
func TestRateChanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for round := range 100 {
		state := NewState()
		var keep []*Stage
		var now time.Duration
		admitted, most := 0, 0.0
		r, burst := Rate{1 + rng.IntN(50), time.Second}, 1+rng.IntN(50)
		most = float64(burst)
		for range 20 {
			if rng.IntN(2) == 0 {
				changed, other := Rate{1 + rng.IntN(50), time.Second}, 1+rng.IntN(50)
				if changed != r || other != burst {
					most += float64(other)
				}
				r, burst = changed, other
			}
			s, err := New([]Tier{{ID: "a", Key: mustKey(t, "ip"), Rate: r, Burst: burst}}, state, Options{Memory: MinMemory})
			if err != nil {
				t.Fatal(err)
			}
			keep = append(keep, s)
			for range 100 {
				step := time.Duration(rng.ExpFloat64() * float64(r.interval()))
				now += step
				most += float64(step) / float64(r.interval())
				if passes(t, s, request("/", "192.0.2.1", now)) {
					admitted++
				}
				// A rate that comes back finds its old table. What filled in it
				// meanwhile is the time that was counted at the other rate.
			}
			if float64(admitted) > most+1 {
				t.Fatalf("round %d: %d admitted, %.1f at most", round, admitted, most)
			}
		}
		runtime.KeepAlive(keep)
	}
}
