package ratelimit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

// Store keeps buckets that several nodes share. It is safe for concurrent use.
type Store interface {
	// Spend asks for tokens of one bucket, in one round trip. It is asked with a
	// deadline, and need not keep it: nobody waits for longer.
	Spend(ctx context.Context, s Spend) (Spent, error)
	// SpendAll is Spend for many buckets at once, in their order.
	SpendAll(ctx context.Context, all []Spend) ([]Spent, error)
}

// Spend is a question to a Store. Times are those in which tokens come back.
type Spend struct {
	Bucket Bucket
	Depth  time.Duration // of all tokens
	Cost   time.Duration // of the tokens that are asked for; 0 asks for none
	// Forced is of tokens that were used up before and that the store does not
	// know of. They are taken whether there are any or not, before Cost.
	Forced time.Duration
}

// Bucket names a bucket in a Store: the tier, with all that makes it that tier, and
// the key, as hashes. No part of a request can be read from it.
type Bucket struct {
	Tier [8]byte
	Key  [16]byte
}

// Spent is the answer of a Store.
type Spent struct {
	OK   bool
	Used time.Duration // time until the bucket is full
	Wait time.Duration // time until Cost would be granted, if it was not
}

// Bounds of a Shared.
const (
	// DefaultBudget is how long a decision waits for the store.
	DefaultBudget = 5 * time.Millisecond
	// slackPart is the part of a burst that a node may grant to a key before
	// the store knows: a fiftieth, rounded down.
	slackPart = 50
	// flushEvery is how often a node tells the store what it granted.
	flushEvery = 50 * time.Millisecond
	// flushBatch bounds what is told at once.
	flushBatch = 2000
	// trips is how many failures in a row end the asking, if there was no
	// answer for tripAfter, and probeEvery how often the store is then tried, by
	// nobody's request.
	trips      = 3
	tripAfter  = 50 * time.Millisecond
	probeEvery = 100 * time.Millisecond
	// nearKeys bounds the keys of a tier of which a node remembers what the
	// store said.
	nearKeys = 1 << 17
)

// Shared lets tiers of several nodes count together, by a Store.
//
// A request takes its tokens from the node's own table first. That alone refuses
// clients that are over the limit on this node, and is what a node decides by while
// the store is away. Then it asks the store, unless
//
//   - the store said lately that the client is over the limit, and for how long: it
//     is refused. This is exact, for a bucket does not fill faster than it was told.
//   - the bucket is more than half full, as far as is known, and the tokens that this
//     node has granted of it and not yet reported are at most a fiftieth of the
//     burst: it is let through, and reported within 50 ms.
//   - the store did not answer in time, three times in a row and for 50 ms: the node
//     decides alone until a probe, every 100 ms, has an answer.
//
// So with a store that answers, n nodes together grant a client at most burst + n ×
// (burst / 50, rounded down) + rate × time. What was granted too much is a debt that
// later requests pay, up to one burst. Each answer that the store does not give in
// time adds one request to that, and while the store is away each node grants by
// itself burst + rate × time. In no case does a node grant more than that.
//
// Tokens that the store has granted to a request which a later tier refuses are not
// given back there: they come back at the rate.
//
// All methods are safe for concurrent use.
type Shared struct {
	store  Store
	budget time.Duration

	born     time.Time
	failures atomic.Int32 // in a row
	answered atomic.Int64 // when the store did last, in nanoseconds after born
	away     atomic.Bool
	quit     chan struct{}
	end      sync.Once
	running  sync.WaitGroup

	mu    sync.Mutex
	nears map[identityOf]weak.Pointer[near]

	asked, fast, over, degraded, late atomic.Uint64

	latency latency
}

// NewShared returns a Shared that counts by store. A budget of 0 is DefaultBudget.
// Close ends its background work.
func NewShared(store Store, budget time.Duration) *Shared {
	if budget <= 0 {
		budget = DefaultBudget
	}
	s := &Shared{store: store, budget: budget, born: time.Now(), quit: make(chan struct{}), nears: map[identityOf]weak.Pointer[near]{}}
	s.running.Go(s.flush)
	return s
}

// Close ends the background work. Stages that still use s decide by their node's
// tables alone.
func (s *Shared) Close() {
	s.end.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.away.Store(true)
		close(s.quit)
	})
	s.running.Wait()
}

// SharedStats is the state of a Shared.
type SharedStats struct {
	Away     bool   // the store does not answer
	Asked    uint64 // decisions that the store made
	Fast     uint64 // requests let through before the store knew
	Over     uint64 // requests refused by what the store said before
	Degraded uint64 // decisions of the node alone, because the store was away or late
	Late     uint64 // questions without an answer in time

	Latency Latency // of the questions that were answered, late ones included
}

// Stats returns the state of s.
func (s *Shared) Stats() SharedStats {
	return SharedStats{s.away.Load(), s.asked.Load(), s.fast.Load(), s.over.Load(), s.degraded.Load(), s.late.Load(), s.latency.load()}
}

// near is what a node knows of the shared buckets of one tier.
type near struct {
	tier     [8]byte
	interval int64
	depth    int64
	slack    int64 // time of the tokens that may be granted before the store knows
	max      int   // keys of a shard
	shards   [64]nearShard
}

type nearShard struct {
	mu    sync.Mutex
	keys  map[slot]*nearKey
	dirty []slot // keys with something to report
	now   int64  // the latest time of a request
}

// nearKey is what a node knows of one bucket. Times are those of State.now.
type nearKey struct {
	full    int64 // time at which it is full, by the store's last answer
	until   int64 // time until which the store refuses
	pending int64 // granted here, and not known to the store for certain
	sending int64 // the part of pending that is on its way
	dirty   bool  // in the list
}

// near returns what is known of the buckets of a tier.
func (s *Shared) near(id identityOf) *near {
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, p := range s.nears {
		if p.Value() == nil {
			delete(s.nears, old)
		}
	}
	if p, ok := s.nears[id]; ok {
		if n := p.Value(); n != nil {
			return n
		}
	}
	interval := int64(id.rate.interval())
	n := &near{interval: interval, depth: interval * int64(id.burst), slack: interval * int64(id.burst/slackPart)}
	n.max = nearKeys / len(n.shards)
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %d %d", id.id, id.key, id.rate.Count, id.rate.Per, id.burst))
	n.tier = [8]byte(sum[:8])
	s.nears[id] = weak.Make(n)
	return n
}

func (n *near) shard(key slot) *nearShard { return &n.shards[key.index()%uint64(len(n.shards))] }

// bucket names the bucket of a key.
func (n *near) bucket(key slot) Bucket {
	b := Bucket{Tier: n.tier}
	binary.BigEndian.PutUint64(b.Key[:8], key.hi)
	binary.BigEndian.PutUint64(b.Key[8:], key.lo)
	return b
}

// spend asks for tokens that the node's own table has granted.
func (s *Shared) spend(n *near, key slot, now, cost int64) answer {
	if s.away.Load() {
		s.degraded.Add(1)
		return answer{ok: true}
	}
	shard := n.shard(key)
	shard.mu.Lock()
	shard.now = max(shard.now, now)
	k := shard.keys[key]
	if k != nil && k.until > now {
		wait := k.until - now
		shard.mu.Unlock()
		s.over.Add(1)
		return answer{wait: time.Duration(wait), used: n.depth}
	}
	if k == nil {
		k = shard.add(key, n.max, now) // nil if there is no place
	}
	forced := int64(0)
	if k != nil {
		unknown := k.pending + cost
		if used := max(k.full-now, 0) + unknown; unknown <= n.slack && 2*used <= n.depth {
			k.pending = unknown
			shard.report(key, k)
			shard.mu.Unlock()
			s.fast.Add(1)
			return answer{ok: true, used: used}
		}
		forced = k.pending - k.sending
		k.sending += forced
	}
	shard.mu.Unlock()

	learn := func(got Spent, err error) { n.learn(key, now, forced, got, err) }
	got, err := s.ask(Spend{Bucket: n.bucket(key), Depth: time.Duration(n.depth), Cost: time.Duration(cost), Forced: time.Duration(forced)}, learn)
	if err != errLate {
		learn(got, err)
	}
	if err != nil {
		s.degraded.Add(1)
		return answer{ok: true}
	}
	s.asked.Add(1)
	return answer{ok: got.OK, wait: max(got.Wait, 1), used: min(int64(got.Used), n.depth)}
}

// charge notes tokens that were used up already, for the next report.
func (n *near) charge(key slot, cost int64) {
	shard := n.shard(key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	k := shard.keys[key]
	if k == nil {
		if k = shard.add(key, n.max, shard.now); k == nil {
			return
		}
	}
	k.pending = min(k.pending+cost, n.depth)
	shard.report(key, k)
}

// add takes a key in, in place of one of which nothing needs to be known; s.mu is
// held.
func (s *nearShard) add(key slot, most int, now int64) *nearKey {
	if s.keys == nil {
		s.keys = map[slot]*nearKey{}
	}
	if len(s.keys) >= most {
		looked := 0
		for old, k := range s.keys { // in random order
			if k.pending == 0 && k.until <= now {
				delete(s.keys, old)
				break
			}
			if looked++; looked == 8 {
				return nil
			}
		}
	}
	k := new(nearKey)
	s.keys[key] = k
	return k
}

// report puts a key into the list of those to be reported; s.mu is held.
func (s *nearShard) report(key slot, k *nearKey) {
	if !k.dirty {
		k.dirty = true
		s.dirty = append(s.dirty, key)
	}
}

// learn notes an answer, or that there was none.
func (n *near) learn(key slot, now, forced int64, got Spent, err error) {
	shard := n.shard(key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	k := shard.keys[key]
	if k == nil {
		return
	}
	k.sending -= forced
	if err != nil {
		if k.pending > 0 {
			shard.report(key, k)
		}
		return
	}
	k.pending -= forced
	k.full = max(k.full, now+int64(got.Used))
	if !got.OK {
		k.until = max(k.until, now+int64(got.Wait))
	}
}

// errLate is a question without an answer in time.
var errLate = errors.New("ratelimit: the store did not answer in time")

// lateAnswer bounds the time for which an answer that is late is still of use.
const lateAnswer = time.Second

// ask asks the store and waits for the budget at most, whatever the store does. An
// answer that comes later is handed to late: the tokens may have been spent.
func (s *Shared) ask(q Spend, late func(Spent, error)) (Spent, error) {
	type result struct {
		got Spent
		err error
	}
	var taken atomic.Bool // by whoever is first: the answer or the end of the budget
	done := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.budget+lateAnswer)
		defer cancel()
		start := time.Now()
		got, err := s.store.Spend(ctx, q)
		if err == nil {
			s.latency.observe(time.Since(start))
		}
		if taken.CompareAndSwap(false, true) {
			done <- result{got, err}
			return
		}
		late(got, err)
	}()
	timer := time.NewTimer(s.budget)
	defer timer.Stop()
	select {
	case r := <-done:
		s.judge(r.err)
		return r.got, r.err
	case <-timer.C:
	}
	if !taken.CompareAndSwap(false, true) {
		r := <-done // at the last moment
		s.judge(r.err)
		return r.got, r.err
	}
	s.judge(errLate)
	return Spent{}, errLate
}

// judge notes whether the store answered. A few late answers at once are a hiccup: the
// store is away when there was none in time for a while.
func (s *Shared) judge(err error) {
	now := time.Since(s.born)
	if err == nil {
		s.answered.Store(int64(now))
		s.failures.Store(0)
		return
	}
	s.late.Add(1)
	if s.failures.Add(1) < trips || now-time.Duration(s.answered.Load()) < tripAfter || !s.away.CompareAndSwap(false, true) {
		return
	}
	s.mu.Lock() // Close waits for whoever runs
	defer s.mu.Unlock()
	select {
	case <-s.quit:
	default:
		s.running.Go(s.probe)
	}
}

// probe tries the store until it answers.
func (s *Shared) probe() {
	for {
		select {
		case <-s.quit:
			return
		case <-time.After(probeEvery):
		}
		ctx, cancel := context.WithTimeout(context.Background(), max(s.budget, probeEvery))
		start := time.Now()
		_, err := s.store.Spend(ctx, Spend{Depth: time.Second})
		cancel()
		// An answer that would have been late is none.
		if err == nil && time.Since(start) <= s.budget {
			s.answered.Store(int64(time.Since(s.born)))
			s.failures.Store(0)
			s.away.Store(false)
			return
		}
	}
}

// flush reports what was granted, again and again.
func (s *Shared) flush() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
		if s.away.Load() {
			continue
		}
		s.mu.Lock()
		var all []*near
		for _, p := range s.nears {
			if n := p.Value(); n != nil {
				all = append(all, n)
			}
		}
		s.mu.Unlock()
		for _, n := range all {
			n.flush(s.store, s.quit)
		}
	}
}

// flush reports what a tier has granted.
func (n *near) flush(store Store, quit <-chan struct{}) {
	for i := range n.shards {
		shard := &n.shards[i]
		shard.mu.Lock()
		keys := shard.dirty
		shard.dirty = nil
		shard.mu.Unlock()
		for len(keys) > 0 {
			select {
			case <-quit:
				return
			default:
			}
			part := keys[:min(len(keys), flushBatch)]
			keys = keys[len(part):]
			n.tell(store, shard, part)
		}
	}
}

// tell reports some keys of a shard.
func (n *near) tell(store Store, shard *nearShard, keys []slot) {
	questions := make([]Spend, 0, len(keys))
	told := make([]slot, 0, len(keys))
	shard.mu.Lock()
	for _, key := range keys {
		k := shard.keys[key]
		if k == nil {
			continue
		}
		k.dirty = false
		if forced := k.pending - k.sending; forced > 0 {
			k.sending += forced
			told = append(told, key)
			questions = append(questions, Spend{Bucket: n.bucket(key), Depth: time.Duration(n.depth), Forced: time.Duration(forced)})
		}
	}
	shard.mu.Unlock()
	if len(questions) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	answers, err := store.SpendAll(ctx, questions)
	cancel()
	if err == nil && len(answers) != len(questions) {
		err = errors.New("ratelimit: the store answered something else")
	}
	for i, key := range told {
		var got Spent
		if err == nil {
			got = answers[i]
		}
		n.learnReported(shard, key, int64(questions[i].Forced), got, err)
	}
}

// learnReported notes the answer to a report.
func (n *near) learnReported(shard *nearShard, key slot, forced int64, got Spent, err error) {
	shard.mu.Lock()
	defer shard.mu.Unlock()
	k := shard.keys[key]
	if k == nil {
		return
	}
	k.sending -= forced
	if err != nil {
		shard.report(key, k)
		return
	}
	k.pending -= forced
	k.full = shard.now + int64(got.Used)
}
