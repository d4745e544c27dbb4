package dfa

import "sync/atomic"

// budget is what a scan may put into what is not there yet.
type budget struct {
	units int  // transitions, a new state as costState of them
	nanos int  // the same in nanoseconds, as they are estimated
	first bool // the scan ends with the first pattern that matches
	edges int  // transitions that were taken on which something matches
	// again says that somebody else goes on where the scan gives up: it reports what
	// it has found until then, and not all that it could not decide.
	again bool
}

// cursor is where a scan stands in an automaton.
type cursor struct {
	a     *automaton
	g     *generation
	v     *view
	table []uint32
	row   uint32
	done  bool // nothing can match behind here, or the scan was given up
	ok    bool // not given up
}

func (a *automaton) start() cursor {
	g := a.current.Load()
	v := g.view.Load()
	// The first state is always in the first row behind the empty one.
	return cursor{a: a, g: g, v: v, table: v.table, row: a.stride, ok: true}
}

// scan puts into out the ids of the patterns that match text. It returns false
// if the budget or the memory did not suffice, and then reports all ids.
func (a *automaton) scan(text string, out Bits, left *budget) bool {
	c := a.start()
	return c.run(text, out, left)
}

// run reads the rest of a text.
func (c *cursor) run(text string, out Bits, left *budget) bool {
	c.read(text, out, left)
	if !c.done {
		c.finish(out, left)
	}
	return c.ok
}

// read reads text, behind which more may come.
func (c *cursor) read(text string, out Bits, left *budget) {
	if c.done {
		return
	}
	table, class, row := c.table, c.a.class, c.row
	for i := range len(text) {
		n := atomic.LoadUint32(&table[row+uint32(class[text[i]])])
		if int32(n) > 0 {
			row = n
			continue
		}
		c.row = row
		if c.detour(n, text[i], out, left); c.done {
			return
		}
		table, row = c.table, c.row
	}
	c.row = row
}

// scanBoth is scan in two automata at once. Each look-up waits for the one
// before it, so that two side by side take hardly longer than one.
func scanBoth(a, b *automaton, text string, out Bits, left *budget) bool {
	c, d := a.start(), b.start()
	tableC, classC, rowC := c.table, c.a.class, c.row
	tableD, classD, rowD := d.table, d.a.class, d.row
	for i := range len(text) {
		t := text[i]
		n := atomic.LoadUint32(&tableC[rowC+uint32(classC[t])])
		m := atomic.LoadUint32(&tableD[rowD+uint32(classD[t])])
		if int32(n) > 0 && int32(m) > 0 {
			rowC, rowD = n, m
			continue
		}
		c.row, d.row = rowC, rowD
		c.advance(n, t, out, left)
		d.advance(m, t, out, left)
		if c.done || d.done {
			rest := text[i+1:]
			ok := c.run(rest, out, left)
			return d.run(rest, out, left) && ok
		}
		tableC, rowC = c.table, c.row
		tableD, rowD = d.table, d.row
	}
	c.row, d.row = rowC, rowD
	c.finish(out, left)
	d.finish(out, left)
	return c.ok && d.ok
}

// advance goes over byte b, for which the table says n.
func (c *cursor) advance(n uint32, b byte, out Bits, left *budget) {
	if int32(n) > 0 {
		c.row = n
		return
	}
	c.detour(n, b, out, left)
}

// detour goes over byte b, for which the table names no row: the transition
// reports something, or is not there yet.
func (c *cursor) detour(n uint32, b byte, out Bits, left *budget) {
	if n == 0 {
		c.fill(int(b), out, left)
		return
	}
	n &^= flag
	if int(n) >= len(c.v.edges) {
		// The edge is younger than this view, and was published before the
		// transition.
		c.view()
	}
	left.edges++
	e := &c.v.edges[n]
	out.or(c.v.accs[e.acc])
	c.row = e.to
	c.done = e.dead || left.first && len(c.v.accs[e.acc]) > 0
}

func (c *cursor) view() {
	c.v = c.g.view.Load()
	c.table = c.v.table
}

// fill asks for a transition that is not there.
func (c *cursor) fill(b int, out Bits, left *budget) {
	if left.units <= 0 || left.nanos <= 0 {
		c.giveUp(out, left)
		return
	}
	f := c.a.fill(c.g, c.row, b)
	if f.cost < 0 {
		c.giveUp(out, left)
		return
	}
	left.units -= f.cost
	left.nanos -= f.nanos
	out.or(f.acc)
	c.g, c.row = f.g, f.row
	c.done = f.dead || left.first && len(f.acc) > 0
	c.view()
}

func (c *cursor) giveUp(out Bits, left *budget) {
	if !left.again {
		out.or(c.a.all)
	}
	c.a.exhausted.Add(1)
	c.done, c.ok = true, false
}

// finish reports what matches at the end of the text.
func (c *cursor) finish(out Bits, left *budget) {
	n := atomic.LoadUint32(&c.table[c.row+c.a.stride-1])
	if n == 0 {
		c.fill(atEnd, out, left)
		return
	}
	if int(n) > len(c.v.accs) {
		c.view()
	}
	out.or(c.v.accs[n-1])
}
