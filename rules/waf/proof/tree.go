package proof

import (
	"slices"

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
	number  int
	nodes   []node
	scanned []*probe
	alone   []*probe
	bits    dfa.Bits // of the probes that are scanned for
	trigger gate.Touch
	always  bool // a transformation may change any text
	negated bool // a node has negated patterns
	asks    bool
	scanner *scanner
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
	multi   bool
	asked   []*probe
	negated dfa.Bits // patterns that must match this very text
}

// text is what a node sees.
type text struct {
	value string
	touch gate.Touch
}

var treeNumber int

func newTree(probes []*probe, s source, words int) *tree {
	treeNumber++
	t := &tree{source: s, number: treeNumber * 7919, nodes: []node{{parent: -1}}, bits: make(dfa.Bits, words)}
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
		switch {
		case x.pattern == nil:
			for _, i := range stages {
				t.nodes[i].asked = append(t.nodes[i].asked, x)
			}
			t.asks = true
		case x.negated:
			t.scanned = append(t.scanned, x)
			for _, i := range stages {
				if t.nodes[i].negated == nil {
					t.nodes[i].negated = make(dfa.Bits, words)
				}
				t.nodes[i].negated.Add(x.id)
			}
			t.negated = true
		default:
			t.scanned = append(t.scanned, x)
			t.bits.Add(x.id)
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
	if trig, ok := gate.Trigger(name); ok {
		n.trigger = trig
	} else {
		n.always = true
	}
	t.nodes = append(t.nodes, n)
	return len(t.nodes) - 1
}

// finish notes what all nodes have in common.
func (t *tree) finish(int) {
	for i := range t.nodes {
		t.trigger |= t.nodes[i].trigger
		t.always = t.always || t.nodes[i].always
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
	touch := gate.TouchOf(value)
	if !t.always && touch&t.trigger == 0 {
		// No transformation changes it: one text for all nodes.
		t.look(r, value, nil, 0)
		return
	}
	texts := append(s.texts[:0], text{value, touch})
	at := append(s.at[:0], 0) // the text of each node
	for i := 1; i < len(t.nodes); i++ {
		n := &t.nodes[i]
		from := at[n.parent]
		if n.always || texts[from].touch&n.trigger != 0 {
			// An error of a transformation leaves the text as it is.
			r.cost.Bytes += len(texts[from].value)
			if v, changed, err := n.apply(texts[from].value); err == nil && v != texts[from].value && (changed || !n.multi) {
				from = slices.IndexFunc(texts, func(x text) bool { return x.value == v })
				if from < 0 {
					from = len(texts)
					texts = append(texts, text{v, gate.TouchOf(v)})
				}
			}
		}
		at = append(at, from)
	}
	s.texts, s.at = texts, at
	for i := range texts {
		t.look(r, texts[i].value, at, i)
	}
}

// look scans a text and asks the probes of the nodes that see it: those whose place
// in at is number; nil for all.
func (t *tree) look(r *Request, value string, at []int, number int) {
	s := &r.scan
	r.cost.Texts++
	if c := t.scanner; c != nil {
		ok := false
		r.cost.Bytes += len(value)
		s.found.Clear()
		if c.set != nil {
			ok = c.set.ScanWithin(value, s.found, &s.states)
		} else {
			s.found.Or(t.bits)
		}
		s.gaveUp = s.gaveUp || !ok
		for i, w := range s.found {
			s.hits[i] |= w & t.bits[i]
		}
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
	if !t.asks {
		return
	}
	for i := range t.nodes {
		if n := &t.nodes[i]; len(n.asked) > 0 && (at == nil || at[i] == number) {
			n.ask(r, value)
		}
	}
}

// ask puts the probes of a node whose operator matches into the hits.
func (n *node) ask(r *Request, value string) {
	for _, x := range n.asked {
		if r.scan.hits.Has(x.id) {
			continue
		}
		r.cost.Bytes += len(value)
		l := x.link
		hit := false
		switch {
		case l.native != nil:
			arg, _ := l.arg.constant()
			hit = l.native(arg, value)
		case x.necessary != nil:
			hit = x.necessary(value)
		default:
			hit = l.operator.Evaluate(nobody{}, value)
		}
		if hit != x.negated {
			r.scan.hits.Add(x.id)
		}
	}
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
	sub.cost, sub.failed, sub.unknown = Cost{}, "", false
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
	*sub.only = single{}
	return hit
}
