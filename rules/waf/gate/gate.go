package gate

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"

	"github.com/moatwaf/moat/rules/waf/dfa"
	"github.com/moatwaf/moat/rules/waf/seclang"
)

// Options are what a Gate needs to know beyond the rules.
type Options struct {
	// Actions are registered actions, in lower case, that change no collection
	// once the gate has run.
	Actions []string

	// Transforms are prefixes of registered transformations, in lower case, that
	// are functions of the text.
	Transforms []string

	// ReadFile returns the data files of operators, by the path that the engine
	// uses. Without it, operators with a file are asked one by one.
	ReadFile func(name string) ([]byte, error)

	// Memory bounds the memory of the automata, with others that take of it; nil takes
	// 64 MiB for this Gate. Patterns that do not fit are candidates always.
	Memory *dfa.Memory

	// MaxWork bounds the CPU time that one Apply may take, in nanoseconds as the
	// gate estimates them before it does the work; 0 sets no bound. An Apply that
	// comes to it takes no rule away, and calls Exceeded unless that is nil.
	MaxWork  int
	Exceeded func(plugintypes.TransactionState)
}

// maxNewStates bounds the states that one scan may add to an automaton, beyond which
// what is not decided remains a candidate.
const maxNewStates = 8192

// Transformation reports whether a registered transformation is known.
func (o *Options) Transformation(name string) bool {
	return slices.ContainsFunc(o.Transforms, func(p string) bool { return strings.HasPrefix(strings.ToLower(name), p) })
}

// Gate is the compiled knowledge about the rules of one engine. It is safe for
// concurrent use.
type Gate struct {
	phases  [3]phase // by number; the first is not used
	reasons map[int]string
	off     string
	words   int
	rules   int

	scanners map[string]*scanner
	automata *dfa.Memory
	maxWork  int
	exceeded func(plugintypes.TransactionState)

	pool sync.Pool
}

// phase is what is done in one phase.
type phase struct {
	kinds []kind // by source
	rules []gated
	// order is the rules of this and later phases by number: the index of a gated
	// rule of this phase, or -1 for one that must stay.
	order []entry
}

type entry struct{ id, gated int }

// kind is the probes of one source: for values of names that a rule mentions, and
// for all others.
type kind struct {
	named map[string]*tree
	other *tree
}

// empty reports whether no rule looks there.
func (k *kind) empty() bool { return k.other == nil && len(k.named) == 0 }

// of returns the tree for a name; nil if no rule looks at it.
func (k *kind) of(name string) *tree {
	if len(k.named) > 0 {
		if t, ok := k.named[strings.ToLower(name)]; ok {
			return t
		}
	}
	return k.other
}

// New makes the gate of an engine that has loaded the program. A program that does
// not describe the engine gives a gate that takes nothing away; see Gate.Off.
func New(program *seclang.Program, waf coraza.WAF, o Options) *Gate {
	if o.Memory == nil {
		o.Memory = dfa.NewMemory(dfa.DefaultMemory)
	}
	g := &Gate{reasons: map[int]string{}, scanners: map[string]*scanner{}, automata: o.Memory, maxWork: o.MaxWork, exceeded: o.Exceeded}
	if g.maxWork == 0 {
		g.maxWork = math.MaxInt
	}
	compiled, err := program.Verify(waf)
	if err != nil {
		g.off = "the rules are not understood: " + err.Error()
		return g
	}
	a := analysis{program: program, compiled: compiled, options: o, reasons: g.reasons}
	if g.off = Unsound(program, o.Actions); g.off != "" {
		return g
	}
	a.collect()
	g.rules = len(a.rules)
	g.words = (len(a.probes) + 63) / 64
	for n := 1; n <= 2; n++ {
		g.phases[n] = g.newPhase(n, &a)
	}
	g.pool.New = func() any { return &scratch{hits: make(dfa.Bits, g.words), found: make(dfa.Bits, g.words)} }
	return g
}

// Off returns why the gate takes nothing away; empty if it does its work.
func (g *Gate) Off() string { return g.off }

// Reasons returns why rules of phase 1 and 2 are evaluated for every request, by
// their number.
func (g *Gate) Reasons() map[int]string { return g.reasons }

// Rules returns how many rules the gate can take away.
func (g *Gate) Rules() int { return g.rules }

// newPhase arranges the probes of a phase.
func (g *Gate) newPhase(n int, a *analysis) phase {
	ph := phase{kinds: make([]kind, numSources)}
	var probes []*probe
	index := map[int]int{}
	for _, r := range a.rules {
		if r.phase != n {
			continue
		}
		index[r.id] = len(ph.rules)
		ph.rules = append(ph.rules, r)
		for _, p := range r.probes {
			probes = append(probes, a.probes[p])
		}
	}
	var trees []*tree
	for i := range ph.kinds {
		ph.kinds[i] = g.newKind(source(i), probes, &trees)
	}
	g.share(trees)
	for _, r := range a.program.Rules {
		if r.Marker != "" || r.Phase < n {
			continue
		}
		at, ok := index[r.ID]
		if !ok || r.Phase != n {
			at = -1
		}
		ph.order = append(ph.order, entry{r.ID, at})
	}
	slices.SortFunc(ph.order, func(a, b entry) int { return cmp.Compare(a.id, b.id) })
	return ph
}

// newKind arranges the probes of a source.
func (g *Gate) newKind(src source, probes []*probe, made *[]*tree) kind {
	names := map[string]bool{}
	targets := func(p *probe, yield func(*seclang.Target)) {
		for i := range p.targets {
			if slices.Contains(sourcesOf(p.targets[i].Variable), src) {
				yield(&p.targets[i])
			}
		}
	}
	for _, p := range probes {
		targets(p, func(t *seclang.Target) {
			if t.Key.Text != "" && !t.Key.Regex {
				names[strings.ToLower(t.Key.Text)] = true
			}
			for _, k := range t.Except {
				if k.Text != "" && !k.Regex {
					names[strings.ToLower(k.Text)] = true
				}
			}
		})
	}
	trees := map[string]*tree{} // by probes
	arrange := func(name string, other bool) *tree {
		var list []*probe
		var key strings.Builder
		for _, p := range probes {
			looks := false
			targets(p, func(t *seclang.Target) { looks = looks || shows(t, name, other) })
			if looks {
				list = append(list, p)
				key.WriteString(strconv.Itoa(p.id) + " ")
			}
		}
		if len(list) == 0 {
			return nil
		}
		if t := trees[key.String()]; t != nil {
			return t
		}
		t := newTree(g, list)
		trees[key.String()] = t
		*made = append(*made, t)
		return t
	}
	k := kind{named: map[string]*tree{}}
	for name := range names {
		k.named[name] = arrange(name, false)
	}
	k.other = arrange("", true)
	return k
}

// shows reports whether a target may show a value of a name; other stands for all
// names that no target mentions. Expressions may show any name.
func shows(t *seclang.Target, name string, other bool) bool {
	for _, k := range t.Except {
		if !k.Regex && (k.Text == "" || !other && strings.ToLower(k.Text) == name) {
			return false
		}
	}
	if t.Key.Text == "" || t.Key.Regex {
		return true
	}
	return !other && strings.ToLower(t.Key.Text) == name
}

// scratch is what one Apply needs.
type scratch struct {
	hits  dfa.Bits
	found dfa.Bits // of one scan
	texts []text
	at    []int
	work  int // that is left, in nanoseconds
}

// remover is the part of the engine's transaction that types.Transaction lacks.
type remover interface {
	plugintypes.TransactionState
	RemoveRuleByIDRange(start, end int)
}

// Apply takes away the rules of the phase that the transaction is in. What the
// transaction holds must not change until the end of the phase, but by its rules.
func (g *Gate) Apply(state plugintypes.TransactionState) {
	tx, ok := state.(remover)
	if !ok || g.off != "" {
		return
	}
	n := tx.LastPhase()
	if n != types.PhaseRequestHeaders && n != types.PhaseRequestBody {
		return
	}
	ph := &g.phases[n]
	s := g.pool.Get().(*scratch)
	defer g.pool.Put(s)
	s.hits.Clear()
	s.work = g.maxWork
	ph.probe(tx, s)
	switch {
	case s.work >= 0:
		ph.remove(tx, s)
	case g.exceeded != nil:
		g.exceeded(state)
	}
}

// probe finds the probes that may match. It ends early where the work that is left
// is not enough.
func (ph *phase) probe(tx remover, s *scratch) {
	v := tx.Variables()
	for i := range mapSources {
		src := &mapSources[i]
		values, names := &ph.kinds[src.values], &ph.kinds[src.values+1]
		if values.empty() && names.empty() {
			continue
		}
		all := src.get(v).FindAll()
		seen := newSeen(len(all))
		for _, d := range all {
			if !s.spend(workValue) {
				return
			}
			key := d.Key()
			if t := values.of(key); t != nil && seen.first(t, d.Value()) {
				t.scan(d.Value(), s)
			}
			if t := names.of(key); t != nil {
				t.scan(key, s)
			}
		}
	}
	for i, variable := range otherSources {
		k := &ph.kinds[int(firstMap)+i]
		if k.empty() {
			continue
		}
		c := tx.Collection(variable)
		if single, ok := c.(collection.Single); ok {
			if k.other != nil {
				k.other.scan(single.Get(), s)
			}
			continue
		}
		all := c.FindAll()
		seen := newSeen(len(all))
		for _, d := range all {
			if !s.spend(workValue) {
				return
			}
			if t := k.of(d.Key()); t != nil && seen.first(t, d.Value()) {
				t.scan(d.Value(), s)
			}
		}
	}
}

// seen is the values that a tree has scanned, where they are many.
type seen map[seenValue]struct{}

type seenValue struct {
	tree  *tree
	value string
}

// newSeen returns nil for few values.
func newSeen(n int) seen {
	if n < 16 {
		return nil
	}
	return make(seen, n)
}

// first reports whether a value comes for the first time.
func (m seen) first(t *tree, value string) bool {
	if m == nil {
		return true
	}
	key := seenValue{t, value}
	if _, ok := m[key]; ok {
		return false
	}
	m[key] = struct{}{}
	return true
}

// remove takes away the rules of which a link has no hit, in ranges of numbers that
// hold no other rule of this phase or a later one.
func (ph *phase) remove(tx remover, s *scratch) {
	start, last := 0, 0
	for _, e := range ph.order {
		if e.gated >= 0 && ph.rules[e.gated].excluded(s.hits) {
			if start == 0 {
				start = e.id
			}
			last = e.id
			continue
		}
		if start > 0 {
			tx.RemoveRuleByIDRange(start, last)
			start = 0
		}
	}
	if start > 0 {
		tx.RemoveRuleByIDRange(start, last)
	}
}

// excluded reports whether one of the rule's links cannot match.
func (r *gated) excluded(hits dfa.Bits) bool {
	for _, p := range r.probes {
		if !hits.Has(p) {
			return true
		}
	}
	return false
}
