package ratelimit

import (
	"math/bits"
	"sync"
	"time"
	"unsafe"
)

// table holds the buckets of one tier: for each key the time at which its bucket
// is full again. It is the token bucket of golang.org/x/time/rate written as one
// number (the virtual scheduling form of the generic cell rate algorithm, ITU-T
// I.371): with interval for the time of one token and depth for that of all,
//
//	tokens = (depth - (full - now)) / interval, at most burst
//
// A key whose bucket is full differs in nothing from a key that never came. Only
// such keys are taken out, so that no client gains by what others do.
//
// All methods are safe for concurrent use.
type table struct {
	interval int64 // time for one token, in nanoseconds
	depth    int64 // time for all tokens
	shift    uint  // a tick of the wheel is 1<<shift nanoseconds
	max      uint32
	bytes    int64 // bound, for the report

	shards []shard
	mask   uint64
}

// Parts of a table. The number of shards keeps eight or more goroutines out of
// each other's way most of the time.
const (
	maxShards = 64
	chunkLen  = 128 // entries that are allocated together: 4 KiB
	// wheelLen is the number of lists that entries are kept in by time. A full
	// bucket is noticed at most depth/30 late.
	wheelLen = 64
)

// entry is one key. Entries are named by their number in the shard, from 1.
type entry struct {
	key  slot
	full int64  // time at which the bucket is full again
	next uint32 // in the chain of the bucket of the index, or in the free list
	list uint32 // next in the list of the wheel
}

type chunk [chunkLen]entry

// shard is a hash table with chains, and a timing wheel over its entries. Each
// entry is in one list of the wheel, by the time at which its bucket was to be
// full when it was put there. When that time is over, the entry is looked at: it
// is taken out if its bucket is full, and put into a later list if requests have
// moved the time meanwhile. So each look is paid for by an admitted request, and
// a few looks with every request keep up: all operations take constant time.
type shard struct {
	mu     sync.Mutex
	index  []uint32 // length is a power of 2
	chunks []*chunk
	made   uint32 // entries in chunks that were used once
	free   uint32 // free list
	used   uint32
	latest int64 // the time of the shard; see clock
	tick   int64 // the last tick whose list was looked at
	wheel  [wheelLen]uint32

	admitted, refused, overflow uint64

	_ [64]byte // keeps the locks of neighbours off the same cache line
}

const entryBytes = int64(unsafe.Sizeof(entry{}))

// newTable returns a table of at most size bytes for buckets of burst tokens.
func newTable(interval time.Duration, burst int, size int64) *table {
	t := &table{
		interval: int64(interval),
		depth:    int64(interval) * int64(burst),
		bytes:    size,
	}
	// The time that a bucket takes to fill is at most half of the wheel.
	t.shift = uint(bits.Len64(uint64(t.depth) / (wheelLen/2 - 1)))

	shards := int64(maxShards)
	for shards > 1 && size/shards < 16<<10 {
		shards /= 2
	}
	t.shards = make([]shard, shards)
	t.mask = uint64(shards - 1)

	// An entry costs itself, its part of the pointers to chunks, at most 4
	// bytes of the index, and 2 more while the index is being doubled.
	perEntry := entryBytes + 4 + 2
	room := size/shards - int64(unsafe.Sizeof(shard{})) - 8*(size/shards/perEntry/chunkLen)
	entries := max(room/perEntry/chunkLen, 1) * chunkLen
	t.max = uint32(min(entries, 1<<30))
	for i := range t.shards {
		t.shards[i].index = make([]uint32, chunkLen/2)
		t.shards[i].chunks = make([]*chunk, 0, t.max/chunkLen)
	}
	return t
}

// answer is what a table says of a request.
type answer struct {
	ok     bool
	full   bool          // there was no place for a new key
	places bool          // the limit is that of requests under way
	wait   time.Duration // time until the request would be allowed, if ok is false
	used   int64         // time until the bucket is full, in nanoseconds
	at     int64         // time at which the bucket is full
}

// take takes one token of a key. See spend.
func (t *table) take(key slot, now int64) answer { return t.spend(key, now, t.interval) }

// spend takes tokens of a key, all or none, at the time now, in nanoseconds. Cost
// is the time that they take to come back, from one interval to the depth. The
// time may step backwards; see clock.
func (t *table) spend(key slot, now, cost int64) answer {
	h := key.index()
	s := &t.shards[h&t.mask]
	h >>= 6 // the bits of the largest mask

	s.mu.Lock()
	defer s.mu.Unlock()
	now = s.clock(now)
	e := s.find(h, key)
	if e == nil {
		s.turn(t, now, 4)
		number := s.place(t, now)
		if number == 0 {
			s.overflow++
			return answer{full: true, wait: time.Duration(t.interval)}
		}
		full := now + cost
		e := s.at(number)
		e.key, e.full = key, full
		bucket := &s.index[h&uint64(len(s.index)-1)]
		e.next, *bucket = *bucket, number
		s.enlist(t, number, full)
		s.admitted++
		return answer{ok: true, used: cost, at: full}
	}

	// A bucket that is emptier than empty was left by a clock that was set back.
	e.full = min(e.full, now+t.depth)
	full := max(e.full, now) + cost
	if wait := full - now - t.depth; wait > 0 {
		s.refused++
		return answer{wait: time.Duration(wait), used: e.full - now, at: e.full}
	}
	e.full = full
	s.admitted++
	s.turn(t, now, 2)
	return answer{ok: true, used: full - now, at: full}
}

// giveBack undoes a spend that answered at, of a request that was refused for
// another reason. It does nothing if the bucket has been full since, for then the
// tokens have come back by themselves.
func (t *table) giveBack(key slot, at, cost int64) {
	h := key.index()
	s := &t.shards[h&t.mask]
	h >>= 6
	s.mu.Lock()
	defer s.mu.Unlock()
	if at <= s.latest {
		return
	}
	if e := s.find(h, key); e != nil && e.full >= at {
		e.full -= cost
		s.admitted--
	}
}

// charge takes tokens that were used up already, as many as there are.
func (t *table) charge(key slot, cost int64) {
	h := key.index()
	s := &t.shards[h&t.mask]
	h >>= 6
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.latest // of a request that took long, the time would be the past
	e := s.find(h, key)
	if e == nil {
		number := s.place(t, now)
		if number == 0 {
			s.overflow++
			return
		}
		e = s.at(number)
		e.key, e.full = key, now
		bucket := &s.index[h&uint64(len(s.index)-1)]
		e.next, *bucket = *bucket, number
		s.enlist(t, number, now+min(cost, t.depth))
	}
	e.full = min(max(e.full, now)+cost, now+t.depth)
}

// left returns the whole tokens in a bucket that takes used nanoseconds to be
// full, and the time until there is one more; 0 if it is full.
func (t *table) left(used int64) (tokens int, next time.Duration) {
	if used <= 0 {
		return int(t.depth / t.interval), 0
	}
	return int((t.depth - used) / t.interval), time.Duration((used-1)%t.interval + 1)
}

// maxJitter is how far requests may be out of order, in nanoseconds.
const maxJitter = int64(10 * time.Second)

// clock returns the time that the shard takes for now. Requests come a little out
// of order, and a time that went to and fro would fill buckets each time: up to
// maxJitter, the shard's time stands still until now catches up. More than that
// is a clock that was set back, and is followed. Buckets do not fill by it, but a
// client waits no longer than for an empty one.
func (s *shard) clock(now int64) int64 {
	if now < s.latest && s.latest-now <= maxJitter {
		return s.latest
	}
	s.latest = now
	return now
}

func (s *shard) at(number uint32) *entry {
	number--
	return &s.chunks[number/chunkLen][number%chunkLen]
}

func (s *shard) find(h uint64, key slot) *entry {
	for n := s.index[h&uint64(len(s.index)-1)]; n != 0; {
		e := s.at(n)
		if e.key == key {
			return e
		}
		n = e.next
	}
	return nil
}

// place returns an unused entry, or 0 if there is none. It takes out a key whose
// bucket is full if it has to.
func (s *shard) place(t *table, now int64) uint32 {
	if s.free == 0 && s.made == t.max {
		// Keys whose time was moved may stand in front of those that can go.
		s.turn(t, now, 2*wheelLen)
		if s.free == 0 {
			return 0
		}
	}
	s.used++
	if int(s.used) > len(s.index) && 2*len(s.index) <= int(t.max) {
		s.grow()
	}
	if n := s.free; n != 0 {
		s.free = s.at(n).next
		return n
	}
	if s.made%chunkLen == 0 {
		s.chunks = append(s.chunks, new(chunk))
	}
	s.made++
	return s.made
}

// grow doubles the index. With 64 shards its longest run at the default size
// moves some ten thousand entries.
func (s *shard) grow() {
	old := s.index
	s.index = make([]uint32, 2*len(old))
	mask := uint64(len(s.index) - 1)
	for _, n := range old {
		for n != 0 {
			e := s.at(n)
			next := e.next
			bucket := &s.index[e.key.index()>>6&mask]
			e.next, *bucket = *bucket, n
			n = next
		}
	}
}

// enlist puts an entry into the list of the first tick at which full is over.
func (s *shard) enlist(t *table, number uint32, full int64) {
	tick := full>>t.shift + 1
	// The list of the next tick may be under way, and lists repeat. An entry
	// that is looked at too early is put into a list again.
	tick = min(max(tick, s.tick+2), s.tick+wheelLen)
	list := &s.wheel[tick%wheelLen]
	s.at(number).list, *list = *list, number
}

// turn looks at entries whose time is over, and at empty lists, steps at most.
func (s *shard) turn(t *table, now int64, steps int) {
	last := now >> t.shift
	if ahead := last - s.tick; ahead > wheelLen || ahead < -wheelLen {
		// Idle for long, or the time has stepped back: each list is looked
		// at once.
		s.tick = last - wheelLen
	}
	for ; steps > 0 && s.tick < last; steps-- {
		list := &s.wheel[(s.tick+1)%wheelLen]
		n := *list
		if n == 0 {
			s.tick++
			continue
		}
		e := s.at(n)
		*list = e.list
		if e.full > now {
			// After a clock was set back it is too far in the future.
			e.full = min(e.full, now+t.depth)
			s.enlist(t, n, e.full)
			continue
		}
		s.remove(n, e)
	}
}

// remove takes an entry out of its chain and puts it into the free list.
func (s *shard) remove(number uint32, e *entry) {
	link := &s.index[e.key.index()>>6&uint64(len(s.index)-1)]
	for *link != number {
		link = &s.at(*link).next
	}
	*link = e.next
	*e = entry{next: s.free}
	s.free = number
	s.used--
}

// TableStats is the state of a tier's table.
type TableStats struct {
	Keys     int    // keys that are in the table
	MaxKeys  int    // keys that fit
	Bytes    int64  // memory that the table holds
	MaxBytes int64  // memory that it may hold
	Admitted uint64 // requests let through since the table was made
	Refused  uint64 // requests over the limit since then
	Full     uint64 // requests of new keys since then that found no place
}

// stats adds up the shards, one after the other.
func (t *table) stats() TableStats {
	st := TableStats{MaxBytes: t.bytes, MaxKeys: int(t.max) * len(t.shards)}
	st.Bytes = int64(unsafe.Sizeof(*t))
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		st.Keys += int(s.used)
		st.Admitted += s.admitted
		st.Refused += s.refused
		st.Full += s.overflow
		st.Bytes += int64(unsafe.Sizeof(*s)) + 4*int64(len(s.index)) + 8*int64(cap(s.chunks)) +
			int64(len(s.chunks))*chunkLen*entryBytes
		s.mu.Unlock()
	}
	return st
}
