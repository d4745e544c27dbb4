package dfa

import "sync/atomic"

// Memory is bytes that the automata of several Sets share, beyond what each Set
// has for itself. Which patterns need many states is known by the texts that come
// only, and mostly it is one automaton of many: what is set aside for each is too
// much for most and too little for that one.
//
// An automaton takes of it as it grows, and gives all back when it drops its
// states, so that others may have it. It is safe for concurrent use.
type Memory struct {
	left atomic.Int64
}

// NewMemory returns n bytes to share.
func NewMemory(n int) *Memory {
	m := &Memory{}
	m.left.Store(int64(max(0, n)))
	return m
}

// Left returns how many bytes nobody has taken.
func (m *Memory) Left() int { return int(m.left.Load()) }

// Add adds n bytes to what is shared.
func (m *Memory) Add(n int) { m.give(n) }

// take takes at most n bytes and returns how many. A nil Memory has none.
func (m *Memory) take(n int) int {
	if m == nil {
		return 0
	}
	for {
		left := m.left.Load()
		got := min(int64(n), left)
		if got <= 0 {
			return 0
		}
		if m.left.CompareAndSwap(left, left-got) {
			return int(got)
		}
	}
}

func (m *Memory) give(n int) {
	if m != nil && n > 0 {
		m.left.Add(int64(n))
	}
}

// Bytes that an automaton takes at once, and from which on its table grows by half
// instead of doubling.
const (
	memoryChunk = 32 << 10
	largeTable  = 1 << 20
)

// reserve reports whether the current generation may be n bytes. It takes shared
// memory for it if that is needed and there is enough.
func (a *automaton) reserve(n int) bool {
	want := n - a.limit - a.shared
	if want <= 0 {
		return true
	}
	want = (want + memoryChunk - 1) &^ (memoryChunk - 1)
	a.shared += a.memory.take(want)
	return n <= a.limit+a.shared
}

// grown returns how large a table becomes that is full: in elements, a multiple of
// the stride and at least need, or 0 if there is no memory for so much. other is
// what the generation takes beside the table.
func (a *automaton) grown(table, need, other int) int {
	size := 2 * table
	if 4*table >= largeTable {
		size = table + table/2
	}
	size = min(size, flag)
	if !a.reserve(other + 4*size) {
		size = min(size, (a.limit+a.shared-other)/4)
	}
	size -= size % int(a.stride)
	if size < need {
		return 0
	}
	return size
}
