package ratelimit

import (
	"sync/atomic"
	"time"
)

// latencyBounds are the upper bounds of the buckets of a Latency.
var latencyBounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond,
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second,
}

// LatencyBounds returns the upper bounds of the buckets of a Latency, in ascending
// order.
func LatencyBounds() []time.Duration { return append([]time.Duration(nil), latencyBounds[:]...) }

// Latency is a histogram of round trips.
type Latency struct {
	// Counts are the round trips up to each of LatencyBounds and above the one
	// before, and at the end those above all.
	Counts [len(latencyBounds) + 1]uint64
	Sum    time.Duration
}

// latency counts for a Latency. It takes no lock.
type latency struct {
	counts [len(latencyBounds) + 1]atomic.Uint64
	sum    atomic.Int64
}

func (l *latency) observe(d time.Duration) {
	i := 0
	for i < len(latencyBounds) && d > latencyBounds[i] {
		i++
	}
	l.counts[i].Add(1)
	l.sum.Add(int64(d))
}

func (l *latency) load() (sum Latency) {
	for i := range l.counts {
		sum.Counts[i] = l.counts[i].Load()
	}
	sum.Sum = time.Duration(l.sum.Load())
	return sum
}

// Add adds the counts of another Shared to s. Away is that of either.
func (s *SharedStats) Add(o SharedStats) {
	s.Away = s.Away || o.Away
	s.Asked += o.Asked
	s.Fast += o.Fast
	s.Over += o.Over
	s.Degraded += o.Degraded
	s.Late += o.Late
	for i := range s.Latency.Counts {
		s.Latency.Counts[i] += o.Latency.Counts[i]
	}
	s.Latency.Sum += o.Latency.Sum
}
