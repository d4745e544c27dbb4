package gate

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"sync"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"

	"github.com/moatwaf/moat/rules/waf/dfa"
)

// tree is the transformation chains of all probes that look at one kind of value.
// A value is transformed once for all probes behind a node, and each text that
// comes out is scanned once for the patterns of all nodes. So a pattern is also
// held against texts that its rule would not see, which can only add candidates,
// and there is one automaton to be kept warm instead of one for each node.
type tree struct {
	nodes   []node
	scanned []*probe
	bits    dfa.Bits // of the probes that are scanned
	scanner *scanner // of these probes, and maybe more
}

// node is one transformation behind its parent; the first is the value itself.
type node struct {
	parent  int
	name    string
	apply   plugintypes.Transformation
	trigger Touch
	always  bool // the transformation may change any text
	// multi says that the node belongs to multiMatch, where the engine takes a new
	// text only if the transformation says that it has changed it.
	multi bool
	asked []*probe
}

// newTree arranges probes.
func newTree(g *Gate, probes []*probe) *tree {
	t := &tree{nodes: []node{{parent: -1}}, bits: make(dfa.Bits, g.words)}
	for _, p := range probes {
		at := 0
		stages := []int{0}
		for i, name := range p.names {
			at = t.child(at, name, p.chain[i], p.multi)
			stages = append(stages, at)
		}
		switch {
		case p.pattern != nil:
			// All texts of the tree are scanned, those of each stage among them.
			t.scanned = append(t.scanned, p)
			t.bits.Add(p.id)
		case p.multi:
			for _, at := range stages {
				t.nodes[at].asked = append(t.nodes[at].asked, p)
			}
		default:
			t.nodes[at].asked = append(t.nodes[at].asked, p)
		}
	}
	return t
}

// child returns the node of a transformation behind another.
func (t *tree) child(parent int, name string, apply plugintypes.Transformation, multi bool) int {
	for i := range t.nodes {
		if t.nodes[i].parent == parent && t.nodes[i].name == name && t.nodes[i].multi == multi {
			return i
		}
	}
	n := node{parent: parent, name: name, apply: apply, multi: multi}
	if trig, ok := Trigger(name); ok {
		n.trigger = trig
	} else {
		n.always = true
	}
	t.nodes = append(t.nodes, n)
	return len(t.nodes) - 1
}

// text is what a node sees.
type text struct {
	value string
	touch Touch
}

// scan adds the probes that may match value to the hits.
func (t *tree) scan(value string, s *scratch) {
	texts := append(s.texts[:0], text{value, TouchOf(value)})
	at := append(s.at[:0], 0) // the text of each node
	for i := 1; i < len(t.nodes); i++ {
		n := &t.nodes[i]
		from := at[n.parent]
		if n.always || texts[from].touch&n.trigger != 0 {
			if !s.spend(len(texts[from].value) * workTransform) {
				break
			}
			// An error of a transformation leaves the text as it is.
			if v, changed, err := n.apply(texts[from].value); err == nil && v != texts[from].value && (changed || !n.multi) {
				from = slices.IndexFunc(texts, func(x text) bool { return x.value == v })
				if from < 0 {
					from = len(texts)
					texts = append(texts, text{v, TouchOf(v)})
				}
			}
		}
		at = append(at, from)
	}
	for i := range texts {
		t.scanner.scan(texts[i].value, t.bits, s)
	}
	for i := range at {
		t.nodes[i].ask(texts[at[i]].value, s)
	}
	s.texts, s.at = texts[:0], at[:0]
	clear(texts) // nothing of the request stays in the pool
}

// ask puts the probes of a node whose operator matches into the hits.
func (n *node) ask(value string, s *scratch) {
	for _, p := range n.asked {
		if !s.hits.Has(p.id) && s.spend(p.askWork(value)) && p.operator.Evaluate(nobody{}, value) != p.negated {
			s.hits.Add(p.id)
		}
	}
}

// largeTree is how many patterns make a tree share its automaton with the other
// large ones of its phase. They differ in a few patterns only, such as those with
// an exclusion, and each would take megabytes.
const largeTree = 40

// share gives the trees of a phase their scanners.
func (g *Gate) share(trees []*tree) {
	var large []*probe
	for _, t := range trees {
		if len(t.scanned) >= largeTree {
			large = append(large, t.scanned...)
		}
	}
	union := g.scanner(large)
	for _, t := range trees {
		if len(t.scanned) >= largeTree {
			t.scanner = union
		} else {
			t.scanner = g.scanner(t.scanned)
		}
	}
}

// scanner answers which of many patterns may match. Scanners with the same
// patterns are one; the automaton is built with the first text.
type scanner struct {
	probes []*probe
	once   sync.Once
	memory *dfa.Memory
	set    *dfa.Set // nil if there is no memory for it

	automata int
}

// scanner returns the scanner of probes; nil if there are none.
func (g *Gate) scanner(probes []*probe) *scanner {
	if len(probes) == 0 {
		return nil
	}
	probes = slices.SortedFunc(slices.Values(probes), func(a, b *probe) int { return cmp.Compare(a.id, b.id) })
	probes = slices.Compact(probes)
	var key strings.Builder
	for _, p := range probes {
		var n [4]byte
		binary.LittleEndian.PutUint32(n[:], uint32(p.id))
		key.Write(n[:])
	}
	if s := g.scanners[key.String()]; s != nil {
		return s
	}
	s := &scanner{probes: probes, memory: g.automata}
	g.scanners[key.String()] = s
	return s
}

// scan adds those of the wanted patterns that may match to the hits.
func (c *scanner) scan(value string, wanted dfa.Bits, s *scratch) {
	if c == nil || covers(s.hits, wanted) {
		return
	}
	c.once.Do(c.build)
	if c.set == nil {
		s.hits.Or(wanted)
		return
	}
	if !s.spend(len(value) * c.automata * workScan) {
		return
	}
	c.set.ScanFor(value, s.found, wanted, &s.work)
	for i, w := range s.found {
		s.hits[i] |= w & wanted[i]
	}
}

// covers reports whether all wanted patterns are hits already.
func covers(hits, wanted dfa.Bits) bool {
	for i, w := range wanted {
		if w&^hits[i] != 0 {
			return false
		}
	}
	return true
}

// Prepare makes the automata, and what they need to read texts that they explode with,
// unless stop returns true before. See [dfa.Set.Prepare].
func (g *Gate) Prepare(stop func() bool) {
	for _, c := range g.scanners {
		if stop() {
			return
		}
		if c.once.Do(c.build); c.set != nil {
			c.set.Prepare(g.automata, stop)
		}
	}
}

// build makes the automaton. Without memory for it every pattern may match.
func (c *scanner) build() {
	var b dfa.Builder
	for _, p := range c.probes {
		if err := b.Add(p.id, *p.pattern); err != nil {
			return
		}
	}
	set, err := b.BuildShared(dfa.Options{Memory: c.memory, MaxNewStatesPerScan: maxNewStates})
	if err != nil {
		return
	}
	c.set, c.automata = set, set.Stats().Automata
}
