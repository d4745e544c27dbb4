package ratelimit

import (
	"cmp"
	"slices"
	"sync"
	"time"
	"weak"
)

// State holds the tables of tiers over reloads: a Stage made with it takes over
// the table of every tier that did not change, which is one of equal id, key,
// rate, burst and memory. A tier that changed begins with full buckets, which
// gives a client one burst and no more.
//
// A table lives as long as a Stage uses it. A State need not be told of stages
// that are gone, nor of those that were made for a policy that did not load.
//
// All methods are safe for concurrent use.
type State struct {
	mu       sync.Mutex
	tables   map[identityOf]weak.Pointer[table]
	inflight map[identityOf]weak.Pointer[inflight]
	epoch    time.Time
}

// identityOf is what a table is for.
type identityOf struct {
	id     string
	key    string
	rate   Rate
	burst  int
	memory int64
	shared bool // slots are the same in every process
}

// NewState returns a State without tables.
func NewState() *State {
	return &State{
		tables:   make(map[identityOf]weak.Pointer[table]),
		inflight: make(map[identityOf]weak.Pointer[inflight]),
		// Times are counted from a century ago, so that they are positive,
		// by the monotonic clock where a request's time has its reading: a
		// correction of the wall clock then does nothing.
		epoch: time.Now().Add(-century),
	}
}

const century = 100 * 366 * 24 * time.Hour

// now returns the time of a request in nanoseconds. It is between 0 and a time
// to which every depth can be added.
func (s *State) now(t time.Time) int64 {
	return min(max(int64(t.Sub(s.epoch)), 0), 1<<62)
}

// table returns the table for what id says.
func (s *State) table(id identityOf) *table {
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, p := range s.tables {
		if p.Value() == nil {
			delete(s.tables, old)
		}
	}
	if p, ok := s.tables[id]; ok {
		if t := p.Value(); t != nil {
			return t
		}
	}
	t := newTable(id.rate.interval(), id.burst, id.memory)
	s.tables[id] = weak.Make(t)
	return t
}

// places returns the counts of requests under way for what id says. The limit is
// no part of it: whoever is under way stays counted when the limit changes.
func (s *State) places(id identityOf) *inflight {
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, p := range s.inflight {
		if p.Value() == nil {
			delete(s.inflight, old)
		}
	}
	if p, ok := s.inflight[id]; ok {
		if f := p.Value(); f != nil {
			return f
		}
	}
	f := newInflight(id.memory)
	s.inflight[id] = weak.Make(f)
	return f
}

// TierStats is the state of one tier. A tier that limits both the rate and the
// requests under way has two.
type TierStats struct {
	Tier string // id
	TableStats
}

// Stats returns the state of every tier that a stage uses, by id. While an old
// pipeline is not yet collected, a tier that changed is there twice.
func (s *State) Stats() []TierStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []TierStats
	for id, p := range s.tables {
		if t := p.Value(); t != nil {
			all = append(all, TierStats{id.id, t.stats()})
		}
	}
	for id, p := range s.inflight {
		if f := p.Value(); f != nil {
			all = append(all, TierStats{id.id, f.stats()})
		}
	}
	slices.SortFunc(all, func(a, b TierStats) int { return cmp.Compare(a.Tier, b.Tier) })
	return all
}
