package proof

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/rules/waf/gate"
	"github.com/moatwaf/moat/rules/waf/view"
)

// Request is the state of the proof for one request: what phase 1 has left for
// phase 2. It belongs to one goroutine.
type Request struct {
	proof *Proof
	view  *view.View
	tx    txState

	// What rules have changed for this request.
	removed   []uint64 // rules, by position
	removes   bool
	hidden    []hidden
	effects   Effects
	skipAfter string // no marker of that name has come yet
	allowed   bool
	passive   bool // the engine is not on

	maxCost int // what may be spent on the request

	rule    *rule // being evaluated
	matches []found
	link    int // where the matches of the current link begin
	mixed   uint8
	seq     uint32 // counts evaluations of links
	acting  bool   // the actions of a match are being done
	depends uint8  // on the order of values
	now     uint16 // what the value at hand has captured

	// loading says that there is no request: the program itself is evaluated.
	loading bool
	unknown bool // what was asked for is not known at load
	dry     bool // actions are not done
	only    *single
	failed  string
	rand    capturer

	scan  scratch
	found []int // rules that somebody is told of
	cost  Cost
	exact int // what the engine's operators have cost
	left  int // of the cost, while an operator takes of it

	// lowered holds texts that rules which are run have turned to lower case. They
	// stay until the end, since captures are parts of them.
	lowered arena
}

// hidden is a target that a rule has taken from others.
type hidden struct {
	rules    []uint64 // by position
	rows     []uint64 // those of them that count such values
	variable variables.RuleVariable
	except   except
}

// single stands for the values of the request while one of them is looked at by
// itself.
type single struct {
	source      source
	name, value string
	depth       int // the last link that is run
}

// What depends on the order of values.
const (
	mixedVar uint8 = 1 << iota
	mixedName
)

func (r *Request) fail(why string) {
	if r.failed == "" {
		r.failed = why
	}
}

// stop reports whether there is no use in going on.
func (r *Request) stop() bool { return r.failed != "" || r.unknown }

// evaluate runs a rule. It reports whether the whole chain has matched; failed or
// unknown are set if that is not known.
func (r *Request) evaluate(ru *rule) bool {
	r.rule = ru
	r.matches, r.mixed = r.matches[:0], 0
	for n := range ru.links {
		l := &ru.links[n]
		if l.bad != "" {
			r.fail(l.bad)
			return false
		}
		last := n == len(ru.links)-1
		if n < ru.fixed && !r.loading {
			r.replay(l)
		} else if !r.evaluateLink(l, ru.finding && last) {
			return false
		}
		if r.stop() {
			return false
		}
		if r.only != nil && n == r.only.depth {
			return true
		}
	}
	return true
}

// evaluateLink runs one link and reports whether it has matched. With actions that
// nobody will see, because the match is a finding, the first match is enough.
func (r *Request) evaluateLink(l *link, enough bool) bool {
	r.link = len(r.matches)
	r.seq++
	if l.always {
		r.match(l, found{variable: variables.Unknown})
		return true
	}
	arg, ok := r.argument(l)
	if !ok {
		return false
	}
	hit := false
	for i := range l.targets {
		t := &l.targets[i]
		r.each(t, func(name, value string) bool {
			if r.test(l, arg, t.variable, name, value) {
				hit = true
			}
			return !r.stop() && !(hit && enough)
		})
		if r.stop() || hit && enough {
			break
		}
	}
	return hit
}

// argument expands the argument of an operator.
func (r *Request) argument(l *link) (string, bool) {
	if l.native == nil {
		return "", true
	}
	if s, ok := l.arg.constant(); ok {
		return s, true
	}
	return r.expand(l.arg)
}

// test holds one value against a link.
func (r *Request) test(l *link, arg string, v variables.RuleVariable, name, value string) (hit bool) {
	r.cost.Tests++
	text := value
	if l.multi && r.operate(l, arg, text) {
		hit = true
		r.match(l, found{v, name, text})
	}
	for i, f := range l.transforms {
		if trig := l.triggers[i]; trig != 0 {
			touch := touchOf(text)
			if touch&trig == 0 {
				continue
			}
			if !l.multi && touch&gate.TouchHigh == 0 && strings.EqualFold(l.names[i], "lowercase") {
				r.cost.Bytes += workOther * len(text)
				text, _ = quickLower(&r.lowered, text, touch)
				continue
			}
		}
		out, changed, err := f(text)
		r.cost.Bytes += workOther * len(text)
		if err != nil || l.multi && !changed {
			continue
		}
		text = out
		if l.multi && r.operate(l, arg, text) {
			hit = true
			r.match(l, found{v, name, text})
		}
	}
	if !l.multi && r.operate(l, arg, text) {
		hit = true
		r.match(l, found{v, name, text})
	}
	return hit
}

// operate asks the operator.
func (r *Request) operate(l *link, arg, text string) bool {
	r.now = 0
	if l.native != nil {
		r.cost.Bytes += workNative * len(text)
		return l.native(arg, text) != l.negated
	}
	// An expression takes many times what a scan takes.
	r.cost.Bytes += workOfOperator(l.name) * len(text)
	if r.exact += operatorCost * len(text); r.exact > maxExact {
		r.fail(dear)
		return false
	}
	if l.captures {
		r.rand.r = r
		return l.operator.Evaluate(&r.rand, text) != l.negated
	}
	return l.operator.Evaluate(nobody{}, text) != l.negated
}

// The engine's own operators are asked with texts of so many bytes for one request,
// each byte counted for what an expression takes against a scan, before the request
// is handed over.
const (
	operatorCost = 40
	maxExact     = 12 << 20
	dear         = "the rules that are left are dear"
)

// capture takes a capture of the operator.
func (r *Request) capture(n int, value string) {
	s := varSet
	// If another value has matched before, either leaves its captures.
	if v := &r.tx.vars[n]; len(r.matches) > r.link && (v.state == varMixed || v.value != value) {
		s = varMixed
	}
	r.tx.set(n, value, s)
	r.now |= 1 << n
}

// match notes a match and does what the link does with it.
func (r *Request) match(l *link, f found) {
	if n := len(r.matches); n > r.link {
		before := &r.matches[n-1]
		if before.value != f.value {
			r.mixed |= mixedVar
		}
		if before.variable != f.variable || before.name != f.name {
			r.mixed |= mixedName
		}
	} else {
		r.mixed = 0
	}
	r.matches = append(r.matches, f)
	if r.dry {
		return
	}
	if l.badMatch != "" {
		r.fail(l.badMatch)
		return
	}
	r.acting = true
	for i := range l.actions {
		if r.act(&l.actions[i]); r.stop() {
			break
		}
	}
	r.acting = false
}

// replay repeats what a link did at load.
func (r *Request) replay(l *link) {
	r.link = len(r.matches)
	r.seq++
	for _, f := range l.replay {
		r.match(l, f)
	}
}

// each calls f with the values that a target shows, until it returns false.
func (r *Request) each(t *target, f func(name, value string) bool) {
	if t.count {
		n := 0
		r.values(t, func(string, string) bool { n++; return true })
		if !r.stop() {
			f(t.name, small(n))
		}
		return
	}
	r.values(t, f)
}

// small returns a number as text.
func small(n int) string { return strconv.Itoa(n) }

// shown reports whether a target shows a value with that name.
func (r *Request) shown(t *target, name string) bool {
	if len(t.except) == 0 && len(r.hidden) == 0 {
		return true
	}
	key := lower(name)
	for i := range t.except {
		if t.except[i].hides(key) {
			return false
		}
	}
	for i := range r.hidden {
		h := &r.hidden[i]
		if h.variable == t.variable && hasBit(h.rules, r.rule.pos) && h.except.hides(key) {
			return false
		}
	}
	return true
}

// values calls f with the values that a target shows, one by one.
func (r *Request) values(t *target, f func(name, value string) bool) {
	switch t.view {
	case fromTX:
		r.txValues(t, f)
	case fromMatchedVar, fromMatchedName:
		n := len(r.matches)
		if n == 0 {
			return
		}
		m := &r.matches[n-1]
		bit, value := mixedVar, m.value
		if t.view == fromMatchedName {
			bit, value = mixedName, m.fullName()
		}
		if r.mixed&bit != 0 {
			r.fail("it depends on the order of values")
			return
		}
		if r.shown(t, "") {
			f("", value)
		}
	case fromMatchedVars, fromMatchedNames:
		for i, n := 0, len(r.matches); i < n; i++ {
			m := r.matches[i]
			name := m.fullName()
			value := m.value
			if t.view == fromMatchedNames {
				value = name
			}
			if r.shown(t, name) && !f(name, value) {
				return
			}
		}
	default:
		if r.only != nil {
			r.onlyValue(t, f)
			return
		}
		if r.loading {
			r.unknown = true
			return
		}
		r.requestValues(t, f)
	}
}

// fullName is the name of a match as MATCHED_VAR_NAME has it.
func (m *found) fullName() string {
	if m.name == "" {
		return m.variable.Name()
	}
	return m.variable.Name() + ":" + m.name
}

func (r *Request) txValues(t *target, f func(name, value string) bool) {
	if t.regex == nil {
		switch v := &r.tx.vars[t.slot]; v.state {
		case varAbsent:
		case varSet:
			if r.shown(t, t.key) {
				f(t.key, v.value)
			}
		case varUnknown:
			r.unknown = true
		default:
			if t.count {
				f(t.key, "")
				return
			}
			r.fail("it depends on the order of values")
		}
		return
	}
	shuffled, all := 0, 0
	visit := func(name, value string, s varState) bool {
		if s == varShuffled {
			all++
		}
		if !t.regex.MatchString(name) || !r.shown(t, name) {
			return true
		}
		switch s {
		case varUnknown:
			r.unknown = true
			return false
		case varMixed:
			r.fail("it depends on the order of values")
			return false
		case varShuffled:
			shuffled++
		}
		return f(name, value)
	}
	for i := 0; i < len(r.tx.touched); i++ {
		slot := r.tx.touched[i]
		if v := &r.tx.vars[slot]; slot >= 10 && v.state != varAbsent && !visit(r.tx.names[slot], v.value, v.state) {
			return
		}
	}
	for i := 0; i < len(r.tx.dynamic); i++ {
		if d := &r.tx.dynamic[i]; d.state != varAbsent && !visit(d.name, d.value, d.state) {
			return
		}
	}
	if shuffled > 0 && shuffled != all {
		r.fail("it depends on the order of values")
	}
}

// requestValues calls f with values of the request.
func (r *Request) requestValues(t *target, f func(name, value string) bool) {
	for _, s := range t.sources {
		if t.view == fromSingle {
			if r.shown(t, "") {
				f("", r.singleValue(s.variable))
			}
			return
		}
		for _, p := range r.view.List(s.variable) {
			if !t.selects(s, p.Name) || !r.shown(t, p.Name) {
				continue
			}
			value := p.Value
			if s.names {
				value = p.Name
			}
			if !f(p.Name, value) {
				return
			}
		}
	}
}

// selects reports whether the selector of a target takes a name.
func (t *target) selects(s source, name string) bool {
	switch {
	case t.regex != nil:
		return t.regex.MatchString(lower(name))
	case t.key == "":
		return true
	}
	return lowersTo(name, t.key)
}

// lowersTo reports whether lower(name) is key.
func lowersTo(name, key string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case c >= utf8.RuneSelf:
			return lower(name) == key
		case i >= len(key) || lowerByte[c] != key[i]:
			return false
		}
	}
	return len(name) == len(key)
}

// singleValue returns the value of a variable that has one.
func (r *Request) singleValue(v variables.RuleVariable) string {
	if v == variables.ReqbodyProcessor && r.effects.Processor != "" && r.view.Phase() == 1 {
		return r.effects.Processor
	}
	return r.view.Single(v)
}

// onlyValue is requestValues while one value is looked at by itself.
func (r *Request) onlyValue(t *target, f func(name, value string) bool) {
	for _, s := range t.sources {
		if s.variable != r.only.source.variable || s.names != r.only.source.names {
			continue
		}
		if t.view == fromSingle {
			if r.shown(t, "") {
				f("", r.only.value)
			}
		} else if t.selects(s, r.only.name) && r.shown(t, r.only.name) {
			f(r.only.name, r.only.value)
		}
	}
}

// expand replaces the variables in a macro. It returns false if that is not known.
func (r *Request) expand(m macro) (string, bool) {
	if len(m) == 1 {
		return r.token(&m[0])
	}
	var b strings.Builder
	for i := range m {
		s, ok := r.token(&m[i])
		if !ok {
			return "", false
		}
		b.WriteString(s)
	}
	return b.String(), true
}

func (r *Request) token(t *token) (string, bool) {
	switch t.variable {
	case variables.Unknown:
		return t.text, true
	case variables.TX:
		v := &r.tx.vars[t.slot]
		if r.acting {
			if t.slot < 10 && r.now>>t.slot&1 != 0 {
				return v.value, true // of the value at hand
			}
			if v.last.link == r.seq && v.last.match != len(r.matches) {
				if v.last.plain {
					r.depends |= dependsShuffled
				} else {
					r.depends |= dependsMixed
				}
			}
		}
		switch v.state {
		case varAbsent:
			return t.text, true
		case varSet:
			return v.value, true
		case varUnknown:
			r.unknown = true
		default:
			r.fail("it depends on the order of values")
		}
		return "", false
	case variables.MatchedVar, variables.MatchedVarName:
		n := len(r.matches)
		if n == 0 {
			r.fail("it reads what an earlier rule has matched")
			return "", false
		}
		// Within the actions of a link the value at hand is meant; behind it the
		// last one, which the order of values decides.
		if !r.acting && (t.variable == variables.MatchedVar && r.mixed&mixedVar != 0 || t.variable == variables.MatchedVarName && r.mixed&mixedName != 0) {
			r.fail("it depends on the order of values")
			return "", false
		}
		if t.variable == variables.MatchedVar {
			return r.matches[n-1].value, true
		}
		return r.matches[n-1].fullName(), true
	}
	if r.loading {
		r.unknown = true
		return "", false
	}
	if r.only != nil {
		// What the rest of the request says is not known here.
		r.fail("it reads other values")
		return "", false
	}
	list, single := sourcesOf(t.variable)
	if single {
		return r.singleValue(list[0].variable), true
	}
	value, n := "", 0
	for _, s := range list {
		for _, p := range r.view.List(s.variable) {
			if lowersTo(p.Name, t.key) {
				if n == 0 {
					value = p.Value
				} else if p.Value != value {
					r.fail("it depends on the order of values")
					return "", false
				}
				n++
			}
		}
	}
	if n == 0 {
		return t.text, true
	}
	return value, true
}
