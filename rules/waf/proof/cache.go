package proof

import (
	"hash/maphash"
	"math/bits"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/moatwaf/moat/rules/waf/dfa"
	"github.com/moatwaf/moat/rules/waf/view"
)

// cache remembers what values lead to that come again and again: header fields,
// paths, methods. Names and values are compared whole, so a value that another
// client has sent changes nothing but the time it takes. It has no lock: an entry
// is immutable, and its place is swapped.
type cache struct {
	seed maphash.Seed
	sets []cacheSet // a power of two
	// door holds the hashes of what has come once, lately: only what comes again is
	// remembered, so that what never does costs nothing.
	door []atomic.Uint64
}

const (
	cacheWays = 4
	doorSize  = 16384
	// maxCached is the longest name and value together that is remembered.
	maxCached = 640
	// maxCachedName is the longest name of an argument that is remembered.
	maxCachedName = 128
)

// cacheSet is one line of the processor's cache, so that an entry is read only if
// it is most likely the one that is looked for.
type cacheSet struct {
	tags  [cacheWays]atomic.Uint32 // of the hashes of the entries
	ways  [cacheWays]atomic.Pointer[cached]
	clock atomic.Uint32
	_     [12]byte
}

// tagOf returns the part of a hash that a set keeps beside an entry. It may belong to
// an entry that was there before: the entry itself decides.
func tagOf(h uint64) uint32 { return uint32(h >> 32) }

// enter puts an entry in a place.
func (s *cacheSet) enter(i int, e *cached) {
	s.ways[i].Store(e)
	s.tags[i].Store(tagOf(e.hash))
}

// cached is what one value leads to.
type cached struct {
	hash   uint64
	number uint32 // of the tree, of a text; 0 of a pair
	kind   *listKind
	slot   *slot
	name   string
	value  string
	hits   []cachedWord
	used   atomic.Bool // since the clock came by
}

type cachedWord struct {
	word int
	bits uint64
}

// entryBytes is what an entry takes at most without its hits: the struct, and name
// and value as the allocator rounds them.
const entryBytes = 96 + 16 + 704

// init makes a cache of at most so many bytes, for hits of so many words.
func (c *cache) init(bytes, words int) {
	entry := entryBytes + words*int(unsafe.Sizeof(cachedWord{})) + 8
	n := 1
	for 2*n*(cacheWays*entry+int(unsafe.Sizeof(cacheSet{}))) <= bytes-8*doorSize {
		n *= 2
	}
	c.seed = maphash.MakeSeed()
	c.sets = make([]cacheSet, n)
	c.door = make([]atomic.Uint64, doorSize)
}

// set returns where an entry with that hash is.
func (c *cache) set(h uint64) *cacheSet { return &c.sets[h&uint64(len(c.sets)-1)] }

// again reports whether something with that hash has come lately, and notes it.
func (c *cache) again(h uint64) bool {
	place := &c.door[h>>32%doorSize]
	if place.Load() == h {
		return true
	}
	place.Store(h)
	return false
}

// put remembers an entry. One that has been asked for since the last time gets a
// second chance, and the new one none: so a flood of values that come once cannot
// drive out those that come often.
func (c *cache) put(e *cached) {
	set := c.set(e.hash)
	for i := range set.ways {
		if set.ways[i].Load() == nil {
			set.enter(i, e)
			return
		}
	}
	i := int(set.clock.Add(1) % cacheWays)
	if old := set.ways[i].Load(); old != nil && old.used.Load() {
		old.used.Store(false)
		return
	}
	set.enter(i, e)
}

func (e *cached) touch() {
	if !e.used.Load() {
		e.used.Store(true)
	}
}

// add puts what an entry leads to into the hits.
func (e *cached) add(hits dfa.Bits) {
	for _, w := range e.hits {
		hits[w.word] |= w.bits
	}
}

func (c *cache) hash(number uint32, name, value string) uint64 {
	h := maphash.String(c.seed, value)
	if name != "" {
		h ^= bits.RotateLeft64(maphash.String(c.seed, name), 17)
	}
	return h ^ uint64(number)*0x9E3779B97F4A7C15
}

// cachedPair holds a pair of a collection against the probes, or remembers what
// that has come to.
func (a *scans) cachedPair(r *Request, k *listKind, p *view.Pair) {
	s := &r.scan
	c := &a.memory
	number := uint32(k.variable) | 1<<16
	h := c.hash(number, p.Name, p.Value)
	set, tag := c.set(h), tagOf(h)
	for i := range set.ways {
		if set.tags[i].Load() != tag {
			continue
		}
		e := set.ways[i].Load()
		if e != nil && e.hash == h && e.kind == k && e.name == p.Name && e.value == p.Value {
			e.touch()
			e.add(s.hits)
			if e.slot.counter >= 0 {
				s.counts[e.slot.counter]++
			}
			return
		}
	}
	sl := k.of(p.Name)
	if sl.counter >= 0 {
		s.counts[sl.counter]++
	}
	again := c.again(h)
	if again {
		s.aside()
	}
	if sl.values != nil {
		sl.values.scan(r, p.Name, p.Value)
	}
	switch {
	case sl.names == nil:
	case again || len(p.Name) > maxCachedName:
		sl.names.scan(r, p.Name, p.Name)
	default: // the value is new, the name most likely is not
		a.cachedText(r, sl.names, p.Name, c.hash(sl.names.number, "", p.Name))
	}
	if !again {
		return
	}
	hits := s.joined()
	if s.gaveUp {
		return // what is not decided is not remembered
	}
	c.put(&cached{hash: h, kind: k, slot: sl, name: strings.Clone(p.Name), value: strings.Clone(p.Value), hits: hits})
}

// cachedText is cachedPair for a value without a name, or for a name; h is its hash.
func (a *scans) cachedText(r *Request, t *tree, value string, h uint64) {
	s := &r.scan
	c := &a.memory
	short := len(value) <= maxClean
	if short && a.clean.has(h, t.number, value) {
		return
	}
	set, tag := c.set(h), tagOf(h)
	for i := range set.ways {
		if set.tags[i].Load() != tag {
			continue
		}
		e := set.ways[i].Load()
		if e != nil && e.hash == h && e.number == t.number && e.value == value {
			e.touch()
			e.add(s.hits)
			return
		}
	}
	if !c.again(h) {
		t.scan(r, value, value)
		return
	}
	s.aside()
	t.scan(r, value, value)
	hits := s.joined()
	if s.gaveUp {
		return
	}
	if short && len(hits) == 0 {
		a.clean.put(h, t.number, value)
		return
	}
	c.put(&cached{hash: h, number: t.number, value: strings.Clone(value), hits: hits})
}

// aside lets scans write into empty hits until joined.
func (s *scratch) aside() {
	s.gaveUp = false
	s.hits, s.delta = s.delta, s.hits
}

// joined puts the hits since aside to those before it and returns them.
func (s *scratch) joined() []cachedWord {
	s.hits, s.delta = s.delta, s.hits
	n := 0
	for _, w := range s.delta {
		if w != 0 {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	words := make([]cachedWord, 0, n)
	for i, w := range s.delta {
		if w != 0 {
			words = append(words, cachedWord{i, w})
			s.hits[i] |= w
			s.delta[i] = 0
		}
	}
	return words
}
