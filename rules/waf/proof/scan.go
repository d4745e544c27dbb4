package proof

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/rules/waf/dfa"
	"github.com/moatwaf/moat/rules/waf/view"
)

// scans is how the values of a request are held against all probes: each value
// once, for the rules of both phases where both see it.
type scans struct {
	stages   [3]stage // by phase: what is looked at then
	words    int      // of the hits
	sets     map[string]*scanner
	automata *dfa.Memory
	memory   cache
	clean    cleanTexts
	foreign  []regexRead
}

// stage is what is looked at in one phase.
type stage struct {
	lists   []listKind
	singles []singleKind
	counts  []*counted
}

// listKind is a collection.
type listKind struct {
	variable variables.RuleVariable
	named    map[string]*slot // by name in lower case
	other    *slot            // of all other names
	cached   bool
}

// slot is what is looked at for one name.
type slot struct {
	values  *tree
	names   *tree
	counter int // number of the counter; -1 for none
}

// singleKind is a variable with one value.
type singleKind struct {
	variable variables.RuleVariable
	tree     *tree
	cached   bool
}

// maxNewStates bounds the states that one scan may add to an automaton.
const maxNewStates = 8192

// scratch is the part of a Request that scans use.
type scratch struct {
	hits   dfa.Bits
	found  dfa.Bits
	wanted dfa.Bits
	counts []int
	texts  []text
	at     []uint16
	done   []uint16 // 1 + what came of a text and a transformation
	arena  arena
	seen   seen
	gaveUp bool     // a scan was not finished
	delta  dfa.Bits // hits of one value, to be remembered
	sub    *Request // looks at one value by itself
	scans  *scans
}

func (s *scratch) init(all *scans) {
	s.scans = all
	s.hits, s.found, s.delta, s.wanted = make(dfa.Bits, all.words), make(dfa.Bits, all.words), make(dfa.Bits, all.words), make(dfa.Bits, all.words)
	s.counts = make([]int, all.counters())
}

func (s *scratch) reset() {
	s.hits.Clear()
	clear(s.counts)
	s.seen.reset()
	clear(s.texts[:cap(s.texts)])
}

func (a *scans) counters() int {
	n := 0
	for i := range a.stages {
		for _, c := range a.stages[i].counts {
			for _, k := range c.counter {
				n = max(n, k+1)
			}
		}
	}
	return n
}

// build arranges the probes.
func (a *scans) build(p *prober, o *Options) {
	a.words = max(1, p.planes*p.words)
	a.sets, a.automata = map[string]*scanner{}, o.Memory
	a.foreign = p.regexes
	a.clean.init(o.MaxCache / 4)
	a.memory.init(o.MaxCache-len(a.clean.slots)*cleanSlotBytes, a.words)
	var trees []*tree
	b := builder{scans: a, prober: p, trees: map[string]*tree{}, made: &trees}
	for n := 1; n <= 2; n++ {
		b.stage(n)
	}
	a.share(trees)
	for _, t := range trees {
		t.finish(a.words)
	}
}

// builder makes the stages.
type builder struct {
	*scans
	*prober
	trees   map[string]*tree // by probes
	made    *[]*tree
	counter int
}

// stageOf returns in which stage a rule's probe looks at a source.
func stageOf(ru *rule, s source) int {
	if ru.phase == 2 && later[s.variable] {
		return 2
	}
	return 1
}

func (b *builder) stage(n int) {
	st := &b.stages[n]
	var order []source
	add := func(s source) {
		s.names = false
		if !slices.Contains(order, s) {
			order = append(order, s)
		}
	}
	for _, x := range b.probes {
		for i := range x.targets {
			for _, s := range x.targets[i].sources {
				if stageOf(x.rule, s) == n {
					add(s)
				}
			}
		}
	}
	for _, c := range b.prober.counts {
		if b.countStage(c) == n {
			st.counts = append(st.counts, c)
		}
		for _, s := range c.sources {
			if s.variable != 0 && (b.countStage(c) == n || !later[s.variable] && n == 1) {
				add(s)
			}
		}
	}
	for _, s := range order {
		if !view.IsList(s.variable) {
			if t := b.tree(n, s, "", true); t != nil {
				st.singles = append(st.singles, singleKind{s.variable, t, cachedSingle(s.variable)})
			}
			continue
		}
		st.lists = append(st.lists, b.list(n, s))
	}
}

// countStage returns in which stage a count is complete.
func (b *builder) countStage(c *counted) int {
	row := c.id >> 6 % b.prober.words
	ru := b.rows[row<<6+c.id&63]
	for _, s := range c.sources {
		if stageOf(ru, s) == 2 {
			return 2
		}
	}
	return 1
}

// cachedList and cachedSingle tell whose values come again and again.
func cachedList(v variables.RuleVariable) bool {
	return v == variables.RequestHeaders || v == variables.RequestCookies
}

func cachedSingle(v variables.RuleVariable) bool {
	switch v {
	case variables.RequestFilename, variables.RequestBasename, variables.RequestMethod, variables.RequestProtocol,
		variables.RemoteAddr, variables.ServerName, variables.ServerAddr, variables.ReqbodyProcessor:
		return true
	}
	return false
}

// list arranges the probes of a collection.
func (b *builder) list(n int, s source) listKind {
	k := listKind{variable: s.variable, named: map[string]*slot{}, cached: cachedList(s.variable)}
	names := map[string]bool{}
	for _, x := range b.probes {
		for i := range x.targets {
			t := &x.targets[i]
			if !slices.ContainsFunc(t.sources, func(o source) bool { return o.variable == s.variable && stageOf(x.rule, o) == n }) {
				continue
			}
			if t.key != "" {
				names[lower(t.key)] = true
			}
			for _, e := range t.except {
				if e.regex == nil && e.key != "" {
					names[e.key] = true
				}
			}
		}
	}
	counters := map[string]int{}
	for _, c := range b.prober.counts {
		if c.key == "" {
			continue
		}
		for i, o := range c.sources {
			if o.variable != s.variable || b.sourceStage(c, o) != n {
				continue
			}
			at, ok := counters[c.key]
			if !ok {
				at = b.counter
				b.counter++
				counters[c.key] = at
			}
			if c.counter == nil {
				c.counter = make([]int, len(c.sources))
				for j := range c.counter {
					c.counter[j] = -1
				}
			}
			c.counter[i] = at
			names[c.key] = true
		}
	}
	make := func(name string, other bool) *slot {
		out := &slot{counter: -1}
		out.values = b.tree(n, source{s.variable, false}, name, other)
		out.names = b.tree(n, source{s.variable, true}, name, other)
		if at, ok := counters[name]; ok && !other {
			out.counter = at
		}
		return out
	}
	for name := range names {
		k.named[name] = make(name, false)
	}
	k.other = make("", true)
	return k
}

// sourceStage returns in which stage the values of a counted source are walked.
func (b *builder) sourceStage(c *counted, s source) int {
	if b.countStage(c) == 2 && later[s.variable] {
		return 2
	}
	return 1
}

// tree returns the tree of the probes that look at a source in a stage; nil if
// there are none.
func (b *builder) tree(n int, s source, name string, other bool) *tree {
	var list []*probe
	var key strings.Builder
	for _, x := range b.probes {
		looks := slices.ContainsFunc(x.targets, func(t target) bool {
			return slices.Contains(t.sources, s) && stageOf(x.rule, s) == n && shows(&t, name, other)
		})
		if looks {
			list = append(list, x)
			key.WriteString(strconv.Itoa(x.id) + " ")
		}
	}
	if len(list) == 0 {
		return nil
	}
	alone := slices.ContainsFunc(list, func(x *probe) bool { return x.alone })
	if t := b.trees[key.String()]; t != nil && !alone {
		return t
	}
	t := newTree(list, s, b.scans.words, len(*b.made)+1)
	b.trees[key.String()] = t
	*b.made = append(*b.made, t)
	return t
}

// shows reports whether a target may show a value of a name; other stands for all
// names that no target mentions. Expressions may show any name.
func shows(t *target, name string, other bool) bool {
	if t.view == fromSingle {
		return true
	}
	for i := range t.except {
		if e := &t.except[i]; e.regex == nil && (e.key == "" || !other && e.key == name) {
			return false
		}
	}
	if t.key == "" {
		return true
	}
	return !other && lower(t.key) == name
}

// share gives the trees their scanners. Large ones share one: they differ in a few
// patterns only, and each automaton would take megabytes.
func (a *scans) share(trees []*tree) {
	const large = 40
	var all []*probe
	for _, t := range trees {
		if len(t.scanned) >= large {
			all = append(all, t.scanned...)
		}
	}
	union := a.scanner(all)
	for _, t := range trees {
		if len(t.scanned) >= large {
			t.scanner = union
		} else {
			t.scanner = a.scanner(t.scanned)
		}
		t.deepScanner = a.scanner(t.deepScanned)
	}
}

// scanner is an automaton for patterns; nil if there are none.
type scanner struct {
	set *dfa.Set // nil without memory for it
}

func (a *scans) scanner(probes []*probe) *scanner {
	if len(probes) == 0 {
		return nil
	}
	probes = slices.SortedFunc(slices.Values(probes), func(x, y *probe) int { return cmp.Compare(x.id, y.id) })
	probes = slices.Compact(probes)
	var key []byte
	for _, x := range probes {
		key = binary.LittleEndian.AppendUint32(key, uint32(x.id))
	}
	if s := a.sets[string(key)]; s != nil {
		return s
	}
	s := &scanner{}
	a.sets[string(key)] = s
	var b dfa.Builder
	for _, x := range probes {
		if err := b.Add(x.id, *x.pattern); err != nil {
			return s
		}
	}
	set, err := b.BuildShared(dfa.Options{Memory: a.automata, MaxNewStatesPerScan: maxNewStates})
	if err != nil {
		return s
	}
	s.set = set
	return s
}

// run holds the values of a phase against the probes. It returns false if that
// costs too much.
func (a *scans) run(r *Request, n int) bool {
	st := &a.stages[n]
	s := &r.scan
	for i := range st.lists {
		if !a.list(r, &st.lists[i]) {
			return false
		}
	}
	for i := range st.singles {
		k := &st.singles[i]
		value := r.singleValue(k.variable)
		if k.cached && len(value) <= maxCached {
			a.cachedText(r, k.tree, value, a.memory.hash(k.tree.number, "", value))
		} else {
			k.tree.scan(r, "", value)
		}
		if r.over() {
			return false
		}
	}
	for _, c := range st.counts {
		total := 0
		for i, src := range c.sources {
			if c.key == "" {
				total += len(r.view.List(src.variable))
			} else if k := c.counter[i]; k >= 0 {
				total += s.counts[k]
			}
		}
		if c.table>>min(total, 63)&1 != 0 {
			s.hits.Add(c.id)
		}
	}
	return true
}

// list walks a collection.
func (a *scans) list(r *Request, k *listKind) bool {
	pairs := r.view.List(k.variable)
	if k.cached {
		for i := range pairs {
			if p := &pairs[i]; len(p.Name)+len(p.Value) <= maxCached {
				a.cachedPair(r, k, p)
			} else {
				a.pair(r, k.of(p.Name), p, false, 0, 0)
			}
			if r.over() {
				return false
			}
		}
		return true
	}
	many := len(pairs) >= 16
	var b block
	for len(pairs) > 0 {
		n := min(len(pairs), len(b))
		a.fetch(k, pairs[:n], &b)
		for i := range n {
			a.pair(r, b[i].slot, &pairs[i], many, b[i].value, b[i].name)
			if r.over() {
				return false
			}
		}
		pairs = pairs[n:]
	}
	return true
}

// block is what is known of some pairs of a collection before they are looked at:
// the hashes are those of short values and of names.
type block [8]struct {
	slot        *slot
	value, name uint64
}

// fetch has the processor read the places of the short texts of some pairs all at
// once: one after the other, each would wait for memory.
func (a *scans) fetch(k *listKind, pairs []view.Pair, b *block) {
	for i := range pairs {
		p := &pairs[i]
		sl := k.of(p.Name)
		b[i].slot, b[i].value, b[i].name = sl, 0, 0
		if sl.values != nil && len(p.Value) <= maxClean {
			b[i].value = a.memory.hash(sl.values.number, "", p.Value)
			a.clean.fetch(b[i].value)
		}
		if sl.names != nil && len(p.Name) <= maxCachedName {
			b[i].name = a.memory.hash(sl.names.number, "", p.Name)
			a.clean.fetch(b[i].name)
		}
	}
}

// pair holds a name and a value, whose hashes are known if they are short, against
// the probes. Values that come again are looked at once where there are many.
func (a *scans) pair(r *Request, sl *slot, p *view.Pair, many bool, value, name uint64) {
	s := &r.scan
	if sl.counter >= 0 {
		s.counts[sl.counter]++
	}
	switch t := sl.values; {
	case t == nil:
	case len(t.alone) != 0: // a rule that is run for the value by itself may look at its name
		t.scan(r, p.Name, p.Value)
	case value != 0: // numbers, words and choices come again, sentences do not
		a.cachedText(r, t, p.Value, value)
	case !many || !s.seen.has(t, p.Value):
		t.scan(r, p.Name, p.Value)
	}
	switch t := sl.names; {
	case t == nil:
	case name != 0:
		a.cachedText(r, t, p.Name, name)
	default:
		t.scan(r, p.Name, p.Name)
	}
}

// of returns what is looked at for a name.
func (k *listKind) of(name string) *slot {
	if len(k.named) > 0 {
		var buf [64]byte
		if len(name) <= len(buf) {
			b := buf[:len(name)]
			high := byte(0)
			for i := range len(name) {
				c := name[i]
				high |= c
				if 'A' <= c && c <= 'Z' {
					c |= 0x20
				}
				b[i] = c
			}
			if high < 0x80 {
				if s, ok := k.named[string(b)]; ok {
					return s
				}
				return k.other
			}
		}
		if s, ok := k.named[lower(name)]; ok {
			return s
		}
	}
	return k.other
}

// seen is the values that trees have scanned in this request.
type seen struct {
	table []seenValue
	used  int
}

type seenValue struct {
	tree  *tree
	value string
}

var seed = maphash.MakeSeed()

// has reports whether a value has been scanned before, and notes it.
func (m *seen) has(t *tree, value string) bool {
	if 2*m.used >= len(m.table) {
		m.grow()
	}
	i := uint(maphash.String(seed, value)) + uint(t.number)*7919
	for mask := uint(len(m.table) - 1); ; i++ {
		e := &m.table[i&mask]
		if e.tree == nil {
			*e = seenValue{t, value}
			m.used++
			return false
		}
		if e.tree == t && e.value == value {
			return true
		}
	}
}

func (m *seen) grow() {
	old := m.table
	m.table, m.used = make([]seenValue, max(256, 2*len(old))), 0
	for _, e := range old {
		if e.tree != nil {
			m.has(e.tree, e.value)
		}
	}
}

func (m *seen) reset() {
	if m.used == 0 {
		return
	}
	if len(m.table) > 8192 {
		m.table = nil
	}
	clear(m.table)
	m.used = 0
}
