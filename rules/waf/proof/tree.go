package proof

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"

	"github.com/moatwaf/moat/rules/waf/dfa"
	"github.com/moatwaf/moat/rules/waf/gate"
)

// tree is the transformation chains of all probes that look at one kind of value.
// A value is transformed once for all probes behind a node, and each text that
// comes out is scanned once for the patterns of all nodes: a pattern is also held
// against texts that its rule would not see, which can only add candidates.
type tree struct {
	source  source
	number  uint32 // from 1
	nodes   []node
	scanned []*probe
	alone   []*probe
	bits    dfa.Bits // of the probes that are scanned for
	trigger gate.Touch
	negated bool // a node has negated patterns
	// transforms is how many different transformations there are.
	transforms int
	asks       []ask
	scanner    *scanner

	// Behind a transformation that may change any text:
	deep        []int // nodes
	plans       [1 << planBits]atomic.Pointer[plan]
	deepScanned []*probe
	deepBits    dfa.Bits
	deepScanner *scanner
}

// ask is a probe whose operator is asked with the texts of some nodes.
type ask struct {
	*probe
	nodes []int
}

// node is one transformation behind its parent; the first is the value itself.
type node struct {
	parent  int
	name    string
	apply   plugintypes.Transformation
	trigger gate.Touch
	always  bool // the transformation may change any text
	// multi says that the node belongs to multiMatch, where the engine takes a new
	// text only if the transformation says that it has changed it.
	multi bool
	deep  bool // it is behind one that may change any text, or is one
	// id is the number of the transformation among those of the tree; lowID the one
	// for texts of ASCII, which multiMatch takes as others do.
	id, lowID int
	quick     quick
	costs     work
	negated   dfa.Bits // patterns that must match this very text
	wanted    dfa.Bits // patterns that are asked of it, these among them
}

// text is what a node sees.
type text struct {
	value string
	touch gate.Touch
	// A node that is deep sees it, and one that is not.
	deep, shallow bool
}

func newTree(probes []*probe, s source, words, number int) *tree {
	t := &tree{source: s, number: uint32(number), nodes: []node{{parent: -1}}, bits: make(dfa.Bits, words)}
	for _, x := range probes {
		if x.alone {
			t.alone = append(t.alone, x)
			continue
		}
		at := 0
		stages := []int{0}
		for i, name := range x.names {
			at = t.child(at, name, x.chain[i], x.multi)
			stages = append(stages, at)
		}
		if !x.multi {
			stages = []int{at}
		}
		if x.pattern != nil {
			for _, i := range stages {
				t.nodes[i].want(x.id, words)
			}
		}
		switch {
		case x.pattern == nil, x.negated && t.behind(at):
			t.asks = append(t.asks, ask{x, stages})
		case x.negated && !t.behind(at):
			t.scanned = append(t.scanned, x)
			for _, i := range stages {
				if t.nodes[i].negated == nil {
					t.nodes[i].negated = make(dfa.Bits, words)
				}
				t.nodes[i].negated.Add(x.id)
			}
			t.negated = true
		case t.behind(at):
			t.deepScanned = append(t.deepScanned, x)
			if x.multi {
				t.scanned = append(t.scanned, x)
				t.bits.Add(x.id)
			}
		default:
			t.scanned = append(t.scanned, x)
			t.bits.Add(x.id)
		}
	}
	return t
}

// want notes that a pattern is asked of the text of a node.
func (n *node) want(id, words int) {
	if n.wanted == nil {
		n.wanted = make(dfa.Bits, words)
	}
	n.wanted.Add(id)
}

// wants returns the patterns that are asked of a text: of those nodes whose place in
// at is number, or of all for nil.
func (t *tree) wants(s *scratch, at []uint16, number uint16) dfa.Bits {
	if at == nil {
		return nil
	}
	s.wanted.Clear()
	for i := range t.nodes {
		if at[i] == number && t.nodes[i].wanted != nil {
			s.wanted.Or(t.nodes[i].wanted)
		}
	}
	return s.wanted
}

// behind reports whether a node is behind a transformation that may change any text,
// or is one.
func (t *tree) behind(at int) bool {
	for ; at > 0; at = t.nodes[at].parent {
		if t.nodes[at].always {
			return true
		}
	}
	return false
}

// child returns the node of a transformation behind another.
func (t *tree) child(parent int, name string, apply plugintypes.Transformation, multi bool) int {
	for i := range t.nodes {
		if t.nodes[i].parent == parent && t.nodes[i].name == name && t.nodes[i].multi == multi {
			return i
		}
	}
	n := node{parent: parent, name: name, apply: apply, multi: multi, quick: quicks[strings.ToLower(name)], costs: workOf(name)}
	if multi && strings.EqualFold(name, "removeWhitespace") {
		n.quick = quickRemoveSpaceMulti
	}
	if strings.EqualFold(name, "urlDecodeUni") {
		learnBestFit(apply)
	}
	if trig, ok := triggerOf(name); ok {
		n.trigger = trig
	} else {
		n.always = true
	}
	t.nodes = append(t.nodes, n)
	return len(t.nodes) - 1
}

// finish notes what the nodes have in common.
func (t *tree) finish(words int) {
	t.deepBits = make(dfa.Bits, words)
	for _, x := range t.deepScanned {
		t.deepBits.Add(x.id)
	}
	for i := range t.nodes {
		n := &t.nodes[i]
		if i > 0 {
			n.deep = n.always || t.nodes[n.parent].deep
			n.id = t.transforms
			for j := 1; j < i; j++ {
				if t.nodes[j].name == n.name && t.nodes[j].multi == n.multi {
					n.id = t.nodes[j].id
				}
			}
			t.transforms = max(t.transforms, n.id+1)
			n.lowID = n.id
			for j := 1; j < i && n.quick != nil; j++ {
				if t.nodes[j].name == n.name {
					n.lowID = t.nodes[j].lowID
					break
				}
			}
		}
		if n.deep {
			t.deep = append(t.deep, i)
		} else {
			t.trigger |= n.trigger
		}
	}
}

// scan adds the probes that may match a value to the hits.
func (t *tree) scan(r *Request, name, value string) {
	s := &r.scan
	for _, x := range t.alone {
		if !s.hits.Has(x.id) && r.matchesAlone(x, t.source, name, value) {
			s.hits.Add(x.id)
		}
	}
	touch := touchOf(value)
	plain := touch&t.trigger == 0
	if plain && len(t.deep) == 0 {
		// No transformation changes it: one text for all nodes.
		t.look(r, &text{value: value, shallow: true}, nil, 0)
		return
	}
	s.arena.reset()
	s.texts, s.done = s.texts[:0], s.done[:0]
	t.add(s, value, touch)
	s.texts[0].shallow = true
	s.at = slices.Grow(s.at[:0], len(t.nodes))[:len(t.nodes)] // the text of each node
	clear(s.at)
	for _, i := range t.plan(touch) {
		if r.over() {
			break // the request is handed over
		}
		t.transform(r, i)
	}
	for i := range s.texts {
		if r.over() {
			break
		}
		t.look(r, &s.texts[i], s.at, uint16(i))
	}
	s.gaveUp = s.gaveUp || r.over()
}

// plan returns the nodes that may see another text than the value itself, if the
// value has such bytes.
func (t *tree) plan(touch gate.Touch) []int {
	touch &= t.trigger
	place := &t.plans[(uint32(touch)*0x9E3779B1)>>(32-planBits)]
	if p := place.Load(); p != nil && p.touch == touch {
		return p.nodes
	}
	p := &plan{touch: touch}
	in := make([]bool, len(t.nodes))
	for i := 1; i < len(t.nodes); i++ {
		n := &t.nodes[i]
		if in[i] = n.always || n.trigger&touch != 0 || in[n.parent]; in[i] {
			p.nodes = append(p.nodes, i)
		}
	}
	place.Store(p)
	return p.nodes
}

// plan is the nodes for the kinds of bytes of a value.
type plan struct {
	touch gate.Touch
	nodes []int
}

// planBits is how many plans a tree keeps, as a power of two.
const planBits = 6

// transform finds the text of a node.
func (t *tree) transform(r *Request, i int) {
	s := &r.scan
	n := &t.nodes[i]
	from := int(s.at[n.parent])
	to := from
	if n.always || s.texts[from].touch&n.trigger != 0 {
		// Several nodes may do the same to one text.
		id := n.id
		if s.texts[from].touch&gate.TouchHigh == 0 {
			id = n.lowID
		}
		done := &s.done[from*t.transforms+id]
		if *done == 0 {
			*done = uint16(t.apply(r, n, from)) + 1
		}
		to = int(*done) - 1
	}
	s.at[i] = uint16(to)
	if n.deep {
		s.texts[to].deep = true
	} else {
		s.texts[to].shallow = true
	}
}

// over reports whether the request has cost too much.
func (r *Request) over() bool { return r.cost.Total() > r.maxCost }

// add adds a text and returns its number.
func (t *tree) add(s *scratch, value string, touch gate.Touch) int {
	s.texts = append(s.texts, text{value: value, touch: touch})
	n := len(s.done)
	s.done = slices.Grow(s.done, t.transforms)[:n+t.transforms]
	clear(s.done[n:])
	return len(s.texts) - 1
}

// apply transforms a text and returns which one comes of it.
func (t *tree) apply(r *Request, n *node, from int) int {
	s := &r.scan
	in := &s.texts[from]
	r.cost.Bytes += n.work(in)
	out, ok := "", false
	if n.quick != nil {
		out, ok = n.quick(&s.arena, in.value, in.touch)
	}
	if !ok {
		// An error of a transformation leaves the text as it is.
		v, changed, err := n.apply(in.value)
		if err != nil || !changed && n.multi {
			return from
		}
		out = v
	}
	r.cost.Bytes += workResult * len(out)
	for i := range s.texts {
		if s.texts[i].value == out {
			return i
		}
	}
	return t.add(s, out, touchOf(out))
}

// look scans a text and asks the probes of the nodes that see it: those whose place
// in at is number; nil for all. The patterns behind a transformation that may make
// anything of a text have an automaton of their own.
func (t *tree) look(r *Request, x *text, at []uint16, number uint16) {
	s := &r.scan
	value := x.value
	r.cost.Texts++
	wanted := t.wants(s, at, number)
	if c := t.deepScanner; x.deep && c != nil {
		t.read(r, c, value, t.deepBits, wanted)
	}
	if c := t.scanner; x.shallow && c != nil {
		ok := t.read(r, c, value, t.bits, wanted)
		if t.negated {
			for i := range t.nodes {
				n := &t.nodes[i]
				if n.negated == nil || at != nil && at[i] != number {
					continue
				}
				for j, w := range n.negated {
					if ok {
						w &^= s.found[j]
					}
					s.hits[j] |= w
				}
			}
		}
	}
	for i := range t.asks {
		x := &t.asks[i]
		if s.hits.Has(x.id) || r.over() {
			continue
		}
		sees := at == nil
		for _, n := range x.nodes {
			sees = sees || at[n] == number
		}
		if sees && x.passes(r, value) {
			s.hits.Add(x.id)
		}
	}
}

// read scans a text. Those of bits that may match become hits; what is found of all
// patterns, or of those wanted if there are many others, is left in found. It returns
// false if the text was not read to its end.
func (t *tree) read(r *Request, c *scanner, value string, bits, wanted dfa.Bits) bool {
	s := &r.scan
	r.cost.Bytes += workScan * len(value)
	ok := false
	if c.set != nil {
		left := max(0, r.maxCost-r.cost.Total())
		r.left = left
		ok = c.set.ScanFor(value, s.found, wanted, &r.left)
		r.cost.Bytes += left - r.left
	} else {
		s.found.Clear()
		s.found.Or(bits)
	}
	s.gaveUp = s.gaveUp || !ok
	for i, w := range s.found {
		s.hits[i] |= w & bits[i]
	}
	return ok
}

// passes asks the operator of a probe.
func (x *probe) passes(r *Request, value string) bool {
	l := x.link
	switch {
	case l.native != nil:
		r.cost.Bytes += workNative * len(value)
		return l.native(x.arg, value) != x.negated
	case x.necessary != nil:
		left := max(0, r.maxCost-r.cost.Total())
		r.left = left
		may := x.necessary(value, &r.left)
		r.cost.Bytes += left - r.left
		return may
	}
	r.cost.Bytes += workOperator * len(value)
	return l.operator.Evaluate(nobody{}, value) != x.negated
}

// matchesAlone runs the beginning of a chain with one value, and reports whether
// the chain may match because of it.
func (r *Request) matchesAlone(x *probe, s source, name, value string) bool {
	sub := r.scan.sub
	if sub == nil {
		sub = &Request{proof: r.proof, removed: make([]uint64, len(r.removed)), tx: newTX(r.proof.names, r.proof.slots), only: &single{}}
		r.scan.sub = sub
	}
	*sub.only = single{source: s, name: name, value: value, depth: x.depth}
	sub.cost, sub.exact, sub.failed, sub.unknown = Cost{}, 0, "", false
	sub.maxCost = r.maxCost
	hit := sub.evaluate(x.rule)
	hit = hit || sub.failed != "" || sub.unknown
	// A name that it has made up may be one that another rule looks for.
	for i := range sub.tx.dynamic {
		for _, f := range r.proof.regexes {
			if f.rule != x.rule && f.target.regex.MatchString(sub.tx.dynamic[i].name) {
				hit = true
			}
		}
	}
	r.cost.Bytes += sub.cost.Bytes
	r.cost.Tests++
	sub.tx.reset()
	clear(sub.matches)
	sub.lowered.reset()
	*sub.only = single{}
	return hit
}
