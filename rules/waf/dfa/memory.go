package dfa

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"weak"
)

// Memory is bytes that several Sets share, such as those of one policy. Which
// patterns need many states is known by the texts that come only, and mostly it is
// one automaton of many: what is set aside for each is too much for most and too
// little for that one.
//
// A Set takes its programs and a few states for each automaton when it is built, and
// more as its automata grow. When nothing is left, whichever automaton has most drops
// its states, so that none is kept from growing by another. One that drops its states
// gives back what it has taken.
//
// A Set that several Memories have built, as [Builder.BuildShared] makes them, counts
// in each of them, and keeps to all. It no longer counts in one that is closed, or
// that nobody uses any more. A Memory is safe for concurrent use.
type Memory struct {
	size int
	left atomic.Int64

	mu     sync.Mutex
	sets   map[*Set]struct{} // that count here
	closed bool
}

// DefaultMemory is how many bytes the automata of a policy share if nobody says more.
const DefaultMemory = 64 << 20

// NewMemory returns n bytes to share.
func NewMemory(n int) *Memory {
	n = max(0, n)
	m := &Memory{size: n, sets: map[*Set]struct{}{}}
	m.left.Store(int64(n))
	return m
}

// Size returns how many bytes there are.
func (m *Memory) Size() int { return m.size }

// Left returns how many bytes nobody has taken.
func (m *Memory) Left() int { return int(m.left.Load()) }

// Close lets go of all Sets. They can be used on, in the memory that they have.
// Whoever builds one with a closed Memory gets an error.
func (m *Memory) Close() {
	m.mu.Lock()
	m.closed = true
	sets := m.list()
	m.mu.Unlock()
	for _, s := range sets {
		s.leave(m)
	}
}

// list returns the Sets. The caller holds the mutex.
func (m *Memory) list() []*Set {
	sets := make([]*Set, 0, len(m.sets))
	for s := range m.sets {
		sets = append(sets, s)
	}
	return sets
}

// take takes n bytes, or none if there are fewer.
func (m *Memory) take(n int) bool {
	for {
		left := m.left.Load()
		if left < int64(n) {
			return false
		}
		if m.left.CompareAndSwap(left, left-int64(n)) {
			return true
		}
	}
}

func (m *Memory) give(n int) { m.left.Add(int64(n)) }

// greedy returns the automaton that has taken most, but none that has taken no more
// than least.
func (m *Memory) greedy(least int64) *automaton {
	m.mu.Lock()
	defer m.mu.Unlock()
	var most *automaton
	for s := range m.sets {
		for _, list := range [][]*automaton{s.autos, s.ascii} {
			for _, a := range list {
				if n := a.taken.Load(); n > least {
					most, least = a, n
				}
			}
		}
	}
	return most
}

// reclaim lets an automaton that has taken more than the one that asks, whose mutex
// the caller holds, drop its states, and reports whether it has. One in which another
// goroutine is at work drops them with its next transition.
func (m *Memory) reclaim(asks *automaton) bool {
	a := m.greedy(asks.taken.Load())
	if a == nil {
		return false
	}
	if !a.mu.TryLock() {
		a.drop.Store(true)
		return false
	}
	defer a.mu.Unlock()
	a.flush()
	return true
}

var (
	errMemory = errors.New("dfa: there is no memory for the patterns")
	errClosed = errors.New("dfa: the memory is closed")
)

// join lets a Set count in a Memory. States for which there is no room there are
// dropped.
func (s *Set) join(m *Memory) error {
	m.mu.Lock()
	_, joined := m.sets[s]
	closed := m.closed
	if !joined && !closed {
		m.sets[s] = struct{}{}
	}
	m.mu.Unlock()
	switch {
	case closed:
		return errClosed
	case joined:
		return nil
	}
	for _, list := range [][]*automaton{s.autos, s.ascii} {
		for _, a := range list {
			if !a.join(m) {
				s.leave(m)
				return errMemory
			}
		}
	}
	m.mu.Lock()
	closed = m.closed
	m.mu.Unlock()
	if closed {
		s.leave(m)
		return errClosed
	}
	return nil
}

// leave lets a Set no longer count in a Memory.
func (s *Set) leave(m *Memory) {
	for _, list := range [][]*automaton{s.autos, s.ascii} {
		for _, a := range list {
			a.leave(m)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sets, s)
}

func (a *automaton) join(m *Memory) bool {
	for !a.tryJoin(m) {
		most := m.greedy(0)
		if most == nil {
			return false
		}
		most.mu.Lock()
		most.flush()
		most.mu.Unlock()
	}
	return true
}

func (a *automaton) tryJoin(m *Memory) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !m.take(a.own + int(a.taken.Load())) {
		a.flush()
		if !m.take(a.own) {
			return false
		}
	}
	a.memories = append(a.memories, weak.Make(m))
	return true
}

func (a *automaton) leave(m *Memory) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.Index(a.memories, weak.Make(m)); i >= 0 {
		a.memories = slices.Delete(a.memories, i, i+1)
		m.give(a.own + int(a.taken.Load()))
	}
}

// Bytes that an automaton takes at once, and from which on its table grows by half
// instead of doubling.
const (
	memoryChunk = 32 << 10
	largeTable  = 1 << 20
)

// reserve reports whether the current generation may be n bytes. It takes memory for
// it if that is needed and there is enough. The caller holds the mutex.
func (a *automaton) reserve(n int) bool {
	want := n - a.limit - int(a.taken.Load())
	if want <= 0 {
		return true
	}
	return a.take((want+memoryChunk-1)&^(memoryChunk-1)) || a.take(want)
}

// take takes n bytes of every Memory in which the automaton counts, or of none.
func (a *automaton) take(n int) bool {
	a.memories = slices.DeleteFunc(a.memories, func(p weak.Pointer[Memory]) bool { return p.Value() == nil })
	if len(a.memories) == 0 {
		return false
	}
	for i, p := range a.memories {
		m := p.Value()
		for m != nil && !m.take(n) {
			if !m.reclaim(a) {
				for _, p := range a.memories[:i] {
					if m := p.Value(); m != nil {
						m.give(n)
					}
				}
				return false
			}
		}
	}
	a.taken.Add(int64(n))
	return true
}

// giveBack gives back what the automaton has taken beyond its own.
func (a *automaton) giveBack() {
	n := int(a.taken.Swap(0))
	for _, p := range a.memories {
		if m := p.Value(); m != nil && n > 0 {
			m.give(n)
		}
	}
}

// grown returns how large a table becomes that is full: in elements, a multiple of
// the stride and at least need, or 0 if there is no memory for so much. other is
// what the generation takes beside the table.
func (a *automaton) grown(table, need, other int) int {
	size := 2 * table
	if 4*table >= largeTable {
		size = table + table/2
	}
	// No less than an eighth, because all that is there is copied.
	for _, size := range [...]int{size, max(need, table+table/8)} {
		size = min(size, flag)
		if size -= size % int(a.stride); size >= need && a.reserve(other+4*size) {
			return size
		}
	}
	return 0
}
