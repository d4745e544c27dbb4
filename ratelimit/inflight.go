package ratelimit

import (
	"sync"
	"unsafe"

	"github.com/moatwaf/moat/filter"
)

// inflight counts the requests of each key of a tier that are under way. It is a
// filter.Finisher: the end of a request gives its place back.
//
// All methods are safe for concurrent use.
type inflight struct {
	max    int // keys of a shard
	bytes  int64
	shards [inflightShards]inflightShard
}

const (
	inflightShards = 64
	// inflightEntry is what a key costs in a map that was just doubled, in bytes.
	inflightEntry = 64
)

type inflightShard struct {
	mu   sync.Mutex
	keys map[slot]uint32

	admitted, refused, overflow uint64
	_                           [64]byte // keeps the locks of neighbours apart
}

var _ filter.Finisher = (*inflight)(nil)

// newInflight returns counts that take size bytes at most.
func newInflight(size int64) *inflight {
	return &inflight{max: int(max(size/inflightShards/inflightEntry, 1)), bytes: size}
}

func (f *inflight) shard(key slot) *inflightShard {
	return &f.shards[key.index()%inflightShards]
}

// acquire takes a place of a key that has limit of them. full says that there was
// no room for a new key.
func (f *inflight) acquire(key slot, limit int) (ok, full bool, taken int) {
	s := f.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, known := s.keys[key]
	switch {
	case int64(n) >= int64(limit):
		s.refused++
		return false, false, int(n)
	case !known && len(s.keys) >= f.max:
		s.overflow++
		return false, true, 0
	case s.keys == nil:
		s.keys = make(map[slot]uint32)
	}
	s.keys[key] = n + 1
	s.admitted++
	return true, false, int(n) + 1
}

// Finish gives a place back.
func (f *inflight) Finish(t filter.Token, _ int) {
	key := slot{t.Hi, t.Lo}
	s := f.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.keys[key]; n > 1 {
		s.keys[key] = n - 1
		return
	}
	delete(s.keys, key)
}

func (f *inflight) stats() TableStats {
	st := TableStats{MaxKeys: f.max * inflightShards, MaxBytes: f.bytes, Bytes: int64(unsafe.Sizeof(*f))}
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		st.Keys += len(s.keys)
		st.Admitted += s.admitted
		st.Refused += s.refused
		st.Full += s.overflow
		s.mu.Unlock()
	}
	st.Bytes += int64(st.Keys) * inflightEntry
	return st
}
