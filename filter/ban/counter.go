package ban

import (
	"container/list"
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync"
	"weak"
)

// counter keeps the times of the last refusals of each prefix, as many as lead to a
// ban. It is bounded: the prefix that was quiet for longest is forgotten first.
type counter struct {
	n      int
	within int64 // nanoseconds
	max    int   // prefixes of a shard
	seed   maphash.Seed
	shards [16]counterShard
}

type counterShard struct {
	mu    sync.Mutex
	keys  map[netip.Prefix]*list.Element
	quiet *list.List // of *times, the last refused first
}

// times are the last refusals of a prefix, a ring.
type times struct {
	prefix netip.Prefix
	at     []int64
	next   int
}

// Bounds of a counter.
const (
	counterBytes  = 32 << 20
	counterKeys   = 1 << 16
	counterKeyLen = 256 // bytes of a prefix without its times
)

func newCounter(n int, within int64) *counter {
	c := &counter{n: n, within: within, seed: maphash.MakeSeed()}
	c.max = max(min(counterKeys, counterBytes/(counterKeyLen+8*n))/len(c.shards), 1)
	for i := range c.shards {
		c.shards[i].keys = map[netip.Prefix]*list.Element{}
		c.shards[i].quiet = list.New()
	}
	return c
}

// hit counts a refusal and reports whether it is the one that leads to a ban. The
// count then begins anew.
func (c *counter) hit(p netip.Prefix, now int64) bool {
	s := &c.shards[maphash.Comparable(c.seed, p)%uint64(len(c.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.keys[p]
	if e == nil {
		if len(s.keys) >= c.max {
			last := s.quiet.Back()
			delete(s.keys, last.Value.(*times).prefix)
			s.quiet.Remove(last)
		}
		e = s.quiet.PushFront(&times{prefix: p})
		s.keys[p] = e
	} else {
		s.quiet.MoveToFront(e)
	}
	t := e.Value.(*times)
	if len(t.at) < c.n {
		t.at = append(t.at, now)
	} else {
		t.at[t.next] = now
		t.next = (t.next + 1) % c.n
	}
	// The oldest of the last n is at next: 0 while the ring is not full.
	if len(t.at) < c.n || now-t.at[t.next] > c.within {
		return false
	}
	delete(s.keys, p)
	s.quiet.Remove(e)
	return true
}

// counters are those of the rules in use.
type counters map[string]weak.Pointer[counter]

// counter returns the counts of a rule.
func (t *Table) counter(r *Rule) *counter {
	id := fmt.Sprintf("%q %d %d %d %d %v", r.ID, r.After, r.Within, r.IPv4Bits, r.IPv6Bits, r.Reasons)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counters == nil {
		t.counters = counters{}
	}
	for old, p := range t.counters {
		if p.Value() == nil {
			delete(t.counters, old)
		}
	}
	if p, ok := t.counters[id]; ok {
		if c := p.Value(); c != nil {
			return c
		}
	}
	c := newCounter(r.After, int64(r.Within))
	t.counters[id] = weak.Make(c)
	return c
}
