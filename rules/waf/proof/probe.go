package proof

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/rules/waf/dfa"
	"github.com/moatwaf/moat/rules/waf/gate"
	"github.com/moatwaf/moat/rules/waf/injection"
	"github.com/moatwaf/moat/rules/waf/seclang"
)

// probe is a condition without which a rule cannot match: that one of the values
// of a link's targets passes its operator. Its id is its bit among the hits: one
// plane of bits holds at most one probe of each rule, so that the rules that may
// match are the conjunction of the planes.
type probe struct {
	id      int
	rule    *rule
	targets []target
	names   []string
	chain   []plugintypes.Transformation
	multi   bool
	// pattern is the operator as a pattern; without one it is asked.
	pattern *dfa.Pattern
	// necessary is a condition without which the operator does not match. It takes
	// what it costs off the work.
	necessary func(value string, work *int) bool
	negated   bool
	link      *link
	arg       string // of a native operator
	// alone says that the rule is run for each value by itself, as far as that
	// tells whether it may match.
	alone bool
	depth int // how many links are run then
}

// counted is a condition on how many values there are.
type counted struct {
	id      int
	sources []source
	key     string
	counter []int // for a key: of each source
	table   uint64
}

// maxPlanes bounds the conditions of one rule.
const maxPlanes = 6

// prober makes the probes of the rules that remain.
type prober struct {
	*loader
	words   int // of a plane
	planes  int
	probes  []*probe
	counts  []*counted
	rows    []*rule
	filled  [maxPlanes][]uint64 // rules that have a probe in a plane
	reads   map[int][]*rule     // slots that rules read
	regexes []regexRead
}

// regexRead is an expression that selects from TX.
type regexRead struct {
	rule   *rule
	target *target
}

// arrange makes the probes.
func (p *prober) arrange() {
	p.rows = slices.Concat(p.residual[1], p.residual[2])
	p.words = (len(p.rows) + 63) / 64
	for i := range p.filled {
		p.filled[i] = make([]uint64, p.words)
	}
	p.liveness()
	for row, ru := range p.rows {
		p.prune(ru)
		p.rule(row, ru)
	}
	for _, ru := range p.rows {
		for n := range ru.links {
			for i := range ru.links[n].actions {
				if a := &ru.links[n].actions[i]; a.kind == actRemoveTargets {
					a.rows = p.counting(a)
				}
			}
		}
	}
}

// counting returns the rows of the rules that count what an action hides from them.
func (p *prober) counting(a *action) []uint64 {
	rows := make([]uint64, p.words)
	for row, ru := range p.rows {
		if !hasBit(a.rules, ru.pos) {
			continue
		}
		for i := range ru.links {
			if slices.ContainsFunc(ru.links[i].targets, func(t target) bool { return t.count && t.variable == a.variable }) {
				setBit(rows, row)
			}
		}
	}
	return rows
}

// liveness finds what the rules that remain read of TX.
func (p *prober) liveness() {
	p.reads = map[int][]*rule{}
	for _, name := range p.options.Numbers {
		slot := p.slots[name]
		p.reads[slot] = append(p.reads[slot], &rule{}) // read behind the last rule
	}
	for _, ru := range p.rows {
		for n := range ru.links {
			l := &ru.links[n]
			read := func(m macro) {
				for _, t := range m {
					if t.variable == variables.TX {
						p.reads[t.slot] = append(p.reads[t.slot], ru)
					}
				}
			}
			if n >= ru.fixed {
				for i := range l.targets {
					t := &l.targets[i]
					switch {
					case t.view != fromTX:
					case t.regex != nil:
						p.regexes = append(p.regexes, regexRead{ru, t})
					default:
						p.reads[t.slot] = append(p.reads[t.slot], ru)
					}
				}
				read(l.arg)
			}
			for i := range l.actions {
				read(l.actions[i].key)
				read(l.actions[i].value)
			}
		}
	}
}

// live reports whether a rule but ru reads a slot.
func (p *prober) live(slot int, ru *rule) bool {
	if slices.ContainsFunc(p.reads[slot], func(r *rule) bool { return r != ru }) {
		return true
	}
	for _, x := range p.regexes {
		if x.rule != ru && x.target.regex.MatchString(p.names[slot]) {
			return true
		}
	}
	return false
}

// prune drops the assignments that nobody reads.
func (p *prober) prune(ru *rule) {
	ru.assigns = slices.DeleteFunc(ru.assigns, func(a assign) bool { return !p.live(a.slot, nil) && !p.added(a.slot) })
	slices.SortFunc(ru.assigns, func(a, b assign) int { return a.slot - b.slot })
}

// added reports whether a rule may add to a slot.
func (p *prober) added(slot int) bool {
	for _, ru := range p.rows {
		for n := range ru.links {
			for i := range ru.links[n].actions {
				a := &ru.links[n].actions[i]
				if a.kind == actSetvar && !ru.finding && (a.slot == slot || a.slot < 0) {
					return true
				}
			}
		}
	}
	return false
}

// silent reports whether a link that matches does nothing that another rule could
// see. With made, names that it makes up are looked at while the rule is run.
func (p *prober) silent(ru *rule, l *link, made bool) bool {
	if l.badMatch != "" || l.bad != "" {
		return false
	}
	for i := range l.actions {
		a := &l.actions[i]
		switch {
		case a.kind != actSetvar:
			return false
		case a.slot >= 0:
			if p.live(a.slot, ru) {
				return false
			}
		default:
			prefix := lower(a.key.prefix())
			for slot, name := range p.names {
				if strings.HasPrefix(name, prefix) && p.live(slot, ru) {
					return false
				}
			}
			if !made && slices.ContainsFunc(p.regexes, func(x regexRead) bool { return x.rule != ru }) {
				return false
			}
		}
	}
	return true
}

// rule makes the probes of one rule.
func (p *prober) rule(row int, ru *rule) {
	plane := 0
	id := func() int { return (plane*p.words)<<6 + row }
	fill := func() {
		setBit(p.filled[plane], row)
		plane++
		p.planes = max(p.planes, plane)
	}
	for n := range ru.links {
		if plane == maxPlanes {
			return
		}
		l := &ru.links[n]
		if n >= ru.fixed && !l.always && l.bad == "" {
			if c := p.counted(l); c != nil {
				c.id = id()
				p.counts = append(p.counts, c)
				fill()
			} else if x := p.probe(ru, l, p.source(ru, n)); x != nil {
				x.id = id()
				p.probes = append(p.probes, x)
				fill()
			}
		}
		if depth := p.alone(ru, n); depth > n && plane < maxPlanes {
			x := p.probe(ru, l, nil)
			if x != nil {
				x.pattern, x.alone, x.depth, x.names, x.chain = nil, true, depth, nil, nil
				x.id = id()
				p.probes = append(p.probes, x)
				fill()
			}
		}
		if !p.silent(ru, l, false) {
			return
		}
	}
}

// source returns the rule's own link in the program.
func (p *prober) source(ru *rule, n int) *seclang.Link { return &p.program.Rules[ru.pos].Links[n] }

// alone returns up to which link a chain whose link n is the first that looks at
// values can be run with each value by itself, so that the chain matches only if it
// does for one of them; 0 if that is of no use.
func (p *prober) alone(ru *rule, n int) int {
	l := &ru.links[n]
	if n != 0 || ru.fixed > 0 || len(ru.links) < 2 || !p.silent(ru, l, true) {
		return 0
	}
	for i := range l.targets {
		if !l.targets[i].few() {
			return 0
		}
	}
	if _, ok := l.arg.constant(); l.native != nil && !ok {
		return 0
	}
	// The next link looks at what this one has left of a value, and at nothing else.
	next := &ru.links[1]
	if next.bad != "" || next.always || !captured(next.arg) {
		return 0
	}
	for i := range l.actions {
		a := &l.actions[i]
		if !captured(a.key) || !captured(a.value) || len(a.value) == 0 || a.remove {
			return 0
		}
		if a.slot >= 0 && !next.looksAt(a.slot) {
			continue
		}
		if first := a.value[0]; first.variable != variables.Unknown || strings.IndexByte("+-", first.text[0]) >= 0 {
			return 0 // it may add
		}
	}
	for i := range next.targets {
		t := &next.targets[i]
		switch {
		case t.count:
			return 0
		case t.view == fromTX && t.regex == nil:
			if t.slot >= 10 && !sets(l, t.slot) {
				return 0
			}
		case t.view == fromTX:
			for slot, name := range p.names {
				if t.regex.MatchString(name) && p.settable(slot, ru) {
					return 0
				}
			}
			if !p.ownNames(ru, t.regex) {
				return 0
			}
		case t.view == fromMatchedVar, t.view == fromMatchedVars, t.view == fromMatchedName, t.view == fromMatchedNames:
		default:
			return 0
		}
	}
	return 1
}

// looksAt reports whether a target of a link may show a slot of TX.
func (l *link) looksAt(slot int) bool {
	return slices.ContainsFunc(l.targets, func(t target) bool { return t.view == fromTX && (t.regex != nil || t.slot == slot) })
}

// settable reports whether a slot may be set by anything but the actions of ru.
func (p *prober) settable(slot int, ru *rule) bool {
	if p.everSet[slot] {
		return true
	}
	for _, other := range p.rows {
		if other == ru {
			continue
		}
		for n := range other.links {
			for i := range other.links[n].actions {
				a := &other.links[n].actions[i]
				if a.kind == actSetvar && (a.slot == slot || a.slot < 0 && strings.HasPrefix(p.names[slot], lower(a.key.prefix()))) {
					return true
				}
			}
		}
	}
	return false
}

// ownNames reports whether of all names that rules make up only those of ru may be
// selected by an expression.
func (p *prober) ownNames(ru *rule, re *regexp.Regexp) bool {
	beginning := anchored(re)
	for _, other := range p.rows {
		if other == ru {
			continue
		}
		for n := range other.links {
			for i := range other.links[n].actions {
				a := &other.links[n].actions[i]
				if a.kind != actSetvar || a.slot >= 0 {
					continue
				}
				prefix := lower(a.key.prefix())
				if beginning == "" || strings.HasPrefix(beginning, prefix) || strings.HasPrefix(prefix, beginning) {
					return false
				}
			}
		}
	}
	return true
}

// anchored returns a text with which everything begins that an expression matches;
// empty if there is none.
func anchored(re *regexp.Regexp) string {
	parsed, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil || parsed.Op != syntax.OpConcat || len(parsed.Sub) < 2 || parsed.Sub[0].Op != syntax.OpBeginText {
		return ""
	}
	if lit := parsed.Sub[1]; lit.Op == syntax.OpLiteral && lit.Flags&syntax.FoldCase == 0 {
		return string(lit.Rune)
	}
	return ""
}

// sets reports whether a link sets a slot.
func sets(l *link, slot int) bool {
	return slices.ContainsFunc(l.actions, func(a action) bool { return a.kind == actSetvar && a.slot == slot })
}

// captured reports whether a macro needs nothing but the match at hand and what it
// has captured.
func captured(m macro) bool {
	for _, t := range m {
		switch t.variable {
		case variables.Unknown, variables.MatchedVar, variables.MatchedVarName:
		case variables.TX:
			if t.slot >= 10 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// few reports whether a target shows values that come again and again, so that it
// pays to remember what each of them leads to.
func (t *target) few() bool {
	if t.count || len(t.sources) != 1 {
		return false
	}
	switch t.sources[0].variable {
	case variables.RequestHeaders, variables.RequestMethod, variables.RequestProtocol, variables.RequestBasename, variables.RequestFilename:
		return true
	}
	return false
}

// counted returns the condition of a link that counts; nil if it is none.
func (p *prober) counted(l *link) *counted {
	if len(l.targets) != 1 || !l.targets[0].count || l.native == nil || len(l.transforms) > 0 || l.multi {
		return nil
	}
	t := &l.targets[0]
	arg, ok := l.arg.constant()
	if !ok || t.view != fromLists || t.regex != nil || len(t.except) > 0 || named(t.variable) {
		return nil
	}
	c := &counted{sources: t.sources, key: t.key}
	for n := range 64 {
		// From 63 on anything is possible.
		if n == 63 || l.native(arg, small(n)) != l.negated {
			c.table |= 1 << n
		}
	}
	return c
}

// probe returns the condition that a link puts on values; nil if it is none.
func (p *prober) probe(ru *rule, l *link, src *seclang.Link) *probe {
	for i := range l.targets {
		t := &l.targets[i]
		if t.count || t.view != fromLists && t.view != fromSingle {
			return nil
		}
	}
	if len(l.targets) == 0 {
		return nil
	}
	x := &probe{rule: ru, link: l, targets: l.targets, names: l.names, chain: l.transforms, multi: l.multi, negated: l.negated}
	if src == nil {
		return x
	}
	if !x.negated {
		switch l.name {
		case "detectSQLi":
			x.necessary = injection.MaySQLiWithin
		case "detectXSS":
			x.necessary = injection.MayXSSWithin
		}
	}
	if l.native != nil {
		arg, ok := l.arg.constant()
		if !ok {
			return nil
		}
		x.arg = arg
		if pat, ok := nativePattern(l.name, arg); ok {
			x.setPattern(pat)
		}
		return x
	}
	if pat := gate.Pattern(p.program, p.program.Rules[ru.pos], src.Operator, p.options.ReadFile); pat != nil {
		x.setPattern(*pat)
	}
	return x
}

// nativePattern returns an operator with a known argument as a pattern.
func nativePattern(name, arg string) (dfa.Pattern, bool) {
	switch name {
	case "contains", "strmatch":
		return dfa.Contains(arg), true
	case "streq":
		return dfa.Equal(arg), true
	case "beginsWith":
		return dfa.HasPrefix(arg), true
	case "endsWith":
		return dfa.HasSuffix(arg), true
	case "within":
		return dfa.Within(arg), true
	}
	return dfa.Pattern{}, false
}

// setPattern takes a pattern if an automaton can hold it. That of a negated
// operator must be exact.
func (x *probe) setPattern(pat dfa.Pattern) {
	if x.negated && !pat.Exact() {
		return
	}
	x.pattern = &pat
	last := len(x.names) - 1
	if last < 0 || x.multi || !strings.EqualFold(x.names[last], "lowercase") {
		return
	}
	// The automaton lowers the case where it does that exactly.
	if lowered := pat.Lowered(); lowered.Exact() {
		x.pattern, x.names, x.chain = &lowered, x.names[:last], x.chain[:last]
	}
}
