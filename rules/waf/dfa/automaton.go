package dfa

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"weak"
)

// automaton is a lazily built deterministic automaton for some patterns.
//
// Scans read the tables of the generation they began with, without a lock. A
// scan that comes to a transition that is not there computes it under the
// mutex. When the memory is used up, a new, empty generation takes the place of
// the current one: scans that run in the old one go on in it as far as it
// reaches, and move over with the first transition that is missing there.
type automaton struct {
	class   *[256]uint8
	stride  uint32 // classes, and one column for the end of the text
	words   int
	all     []mask
	fixed   int // bytes of the program
	mortal  bool
	current atomic.Pointer[generation]

	mu      sync.Mutex
	machine *machine
	own     int // bytes that the automaton has, with its program
	limit   int // bytes of a generation, without those that were taken of
	// memories, which all have the same.
	memories []weak.Pointer[Memory]
	taken    atomic.Int64
	drop     atomic.Bool // another automaton needs the memory

	row    []byte
	accept Bits
	seed   string // the first state

	states, fills, flushes int

	exhausted atomic.Int64
}

// generation is the tables of an automaton between two flushes.
type generation struct {
	view atomic.Pointer[view]

	// Under the automaton's mutex:
	used  int // rows in use; row 0 is never a state
	keys  []string
	index map[string]uint32
	edges map[edgeKey]uint32
	accs  map[string]uint32
	bytes int
}

// view is what scans read. Its slices only grow, within their capacity in
// place, and elements of table are written atomically.
type view struct {
	// table holds a row for each state: per class of bytes the first element of
	// the row that comes next, or 0 if it is not known, or flag and the number
	// of an edge; at the end 1 + the number of a set of accepted ids, or 0.
	table []uint32
	edges []edge
	accs  [][]mask
}

// edge is a transition on which something matches, or behind which nothing can.
type edge struct {
	to   uint32
	acc  uint32
	dead bool
}

type edgeKey struct {
	to, acc uint32
}

const flag = 1 << 31

// What the parts of a generation cost beside their contents: a string header, a
// slot in a map at its usual fill, and the allocator's rounding.
const (
	stateOverhead = 16 + 48 + 16
	edgeOverhead  = 2*12 + 40
	accOverhead   = 2*24 + 64 + 32
	emptyBytes    = 1024
	firstRows     = 8
)

func newAutomaton(pats []*compiled, words int) *automaton {
	a := &automaton{words: words, accept: make(Bits, words)}
	all := make(Bits, words)
	runes, bytes := newProgram(), (*program)(nil)
	for _, c := range pats {
		p := runes
		if c.pattern.bytewise() {
			if bytes == nil {
				bytes = newProgram()
			}
			p = bytes
		}
		p.add(c)
		all.Add(c.id)
	}
	a.all = all.masks()
	m := newMachine(runes, bytes)
	a.machine = m
	a.class, a.stride = &m.class, uint32(m.classes)+1
	a.mortal = m.mortal()
	a.seed = string(m.first())
	a.fixed = 4096 + m.runes.size()
	runes.done()
	if bytes != nil {
		a.fixed += m.bytes.size()
		bytes.done()
	}
	return a
}

// setLimits says how many bytes a generation may use, and what the steppers keep for
// later steps.
func (a *automaton) setLimits(generation, begun int) {
	a.machine.runes.begunLimit = begun
	if a.machine.bytes != nil {
		a.machine.runes.begunLimit = begun / 2
		a.machine.bytes.begunLimit = begun / 2
	}
	a.limit = generation
	a.own = a.fixed + generation + begun
	a.flush()
	a.flushes = 0
}

// flush begins a new generation. The caller holds the mutex.
func (a *automaton) flush() *generation {
	g := &generation{used: 1, keys: make([]string, 1, firstRows), index: map[string]uint32{},
		edges: map[edgeKey]uint32{}, accs: map[string]uint32{}}
	g.view.Store(&view{table: make([]uint32, firstRows*a.stride), accs: [][]mask{noneAccepted: nil}})
	g.accs[""] = noneAccepted
	g.bytes = emptyBytes + 4*firstRows*int(a.stride)
	if old := a.current.Load(); old != nil {
		a.states -= old.used - 1
	}
	a.flushes++
	a.giveBack()
	a.drop.Store(false)
	g.intern(a, a.seed)
	a.current.Store(g)
	return g
}

// intern returns the row of a state, or false if the memory is used up. new
// tells whether it was made.
func (g *generation) intern(a *automaton, key string) (row uint32, made, ok bool) {
	if row, ok := g.index[key]; ok {
		return row, false, true
	}
	v := g.view.Load()
	cost := len(key) + stateOverhead
	need := (g.used + 1) * int(a.stride)
	if need > len(v.table) {
		size := a.grown(len(v.table), need, g.bytes+cost-4*len(v.table))
		if size == 0 {
			return 0, false, false
		}
		grown := *v
		grown.table = make([]uint32, size)
		copy(grown.table, v.table)
		g.bytes += 4 * (size - len(v.table))
		g.view.Store(&grown)
	}
	if g.used > 1 && !a.reserve(g.bytes+cost) {
		return 0, false, false
	}
	g.bytes += cost
	row = uint32(g.used) * a.stride
	g.used++
	g.keys = append(g.keys, key)
	g.index[key] = row
	a.states++
	return row, true, true
}

// noneAccepted is the number of the empty set of ids.
const noneAccepted = 0

// internBytes is intern for a key that the caller goes on using.
func (g *generation) internBytes(a *automaton, key []byte) (row uint32, made, ok bool) {
	if row, ok := g.index[string(key)]; ok {
		return row, false, true
	}
	return g.intern(a, string(key))
}

// accepting returns the number of the set of ids of the patterns in accepted.
func (g *generation) accepting(a *automaton) uint32 {
	if a.machine.silent() {
		return noneAccepted
	}
	a.accept.Clear()
	a.machine.runes.accepting(a.accept)
	if a.machine.bytes != nil {
		a.machine.bytes.accepting(a.accept)
	}
	list := a.accept.masks()
	var key []byte
	for _, m := range list {
		key = binary.AppendUvarint(key, uint64(m.word))
		key = binary.LittleEndian.AppendUint64(key, m.bits)
	}
	n, ok := g.accs[string(key)]
	if !ok {
		v := *g.view.Load()
		n = uint32(len(v.accs))
		v.accs = append(v.accs, list)
		g.accs[string(key)] = n
		g.bytes += accOverhead + 16*len(list) + len(key)
		g.view.Store(&v)
	}
	return n
}

// link returns the number of the edge to a row.
func (g *generation) link(to, acc uint32, dead bool) uint32 {
	k := edgeKey{to, acc}
	n, ok := g.edges[k]
	if !ok {
		v := *g.view.Load()
		n = uint32(len(v.edges))
		v.edges = append(v.edges, edge{to, acc, dead})
		g.edges[k] = n
		g.bytes += edgeOverhead
		g.view.Store(&v)
	}
	return n
}

// end of text, as a class of bytes: its column is the last.
const atEnd = -1

// filled is a transition that was computed.
type filled struct {
	g    *generation
	row  uint32
	acc  []mask
	dead bool
	// What it takes of a scan's budget: units, negative if there is no memory, and
	// nanoseconds as they are estimated.
	cost  int
	nanos int
}

// What a scan pays: a transition is about as dear as a quarter of a new state.
const (
	costFill  = 1
	costState = 3
)

// What they cost in nanoseconds, on one core of an ordinary server: a transition for
// itself and for each step that the program takes for it, a new state for itself, for
// each byte of its key and for each class of bytes.
const (
	nanosFill  = 400
	nanosStep  = 14
	nanosState = 1200
	nanosByte  = 4
	nanosClass = 6
)

// fill computes the transition of a row of generation g over byte b, or atEnd.
func (a *automaton) fill(g *generation, row uint32, b int) filled {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := g.keys[row/a.stride]
	if a.drop.Load() {
		a.flush()
	}
	if cur := a.current.Load(); g != cur {
		g = cur
		var ok bool
		if row, _, ok = g.intern(a, key); !ok {
			g = a.flush()
			if row, _, ok = g.intern(a, key); !ok {
				return filled{cost: -1}
			}
		}
	}
	col := a.stride - 1
	if b != atEnd {
		col = uint32(a.class[b])
	}
	v := g.view.Load()
	if n := v.table[row+col]; n != 0 { // someone else was faster
		switch {
		case b == atEnd:
			return filled{g: g, acc: v.accs[n-1]}
		case n&flag != 0:
			e := v.edges[n&^flag]
			return filled{g: g, row: e.to, acc: v.accs[e.acc], dead: e.dead}
		}
		return filled{g: g, row: n}
	}
	a.fills++
	if b == atEnd {
		a.machine.end(key)
		acc := g.accepting(a)
		v = g.view.Load()
		atomic.StoreUint32(&v.table[row+col], acc+1)
		f := filled{g: g, acc: v.accs[acc], cost: costFill, nanos: nanosFill + nanosStep*a.machine.steps()}
		a.trimTo()
		return f
	}
	a.row = a.machine.transition(key, byte(b), a.row[:0])
	cost := costFill
	to, made, ok := g.internBytes(a, a.row)
	if !ok {
		// The state before stays in the old generation, with the transition
		// unknown; the scan goes on in the new one.
		g = a.flush()
		if to, made, ok = g.internBytes(a, a.row); !ok {
			return filled{cost: -1}
		}
		row = 0
	}
	nanos := nanosFill + nanosStep*a.machine.steps()
	if made {
		cost += costState
		nanos += nanosState + nanosByte*len(a.row) + nanosClass*int(a.stride)
	}
	dead := a.mortal && a.machine.dead()
	f := filled{g: g, row: to, dead: dead, cost: cost, nanos: nanos}
	n := to
	if acc := g.accepting(a); dead || len(g.view.Load().accs[acc]) > 0 {
		n = flag | g.link(to, acc, dead)
		f.acc = g.view.Load().accs[acc]
	}
	if row != 0 {
		atomic.StoreUint32(&g.view.Load().table[row+col], n)
	}
	a.trimTo()
	return f
}

// trimTo flushes if edges and sets of ids have outgrown the memory.
func (a *automaton) trimTo() {
	if !a.reserve(a.current.Load().bytes) {
		a.flush()
	}
}
