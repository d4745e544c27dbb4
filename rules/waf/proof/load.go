package proof

import (
	"fmt"
	"slices"
	"strings"

	"github.com/corazawaf/coraza/v3/types/variables"
)

// loader decides at load what does not depend on the request: it runs the program
// with an interpreter to which every value of a request is unknown. A rule of which
// a match would be a finding is taken not to match, because a request in which it
// does is not clean anyway.
type loader struct {
	*compiler
	r *Request

	residual [3][]*rule // by phase
	// changed are the slots that a decided rule has set since the last rule that
	// remains.
	changed map[int]bool
	everSet map[int]bool
	smears  []string // beginnings of names that a rule may have set
	walked  []bool
	gone    []uint64 // rules that were excluded when their turn came

	// A rule that remains may pass over what stands before these places.
	until     int    // within the phase
	untilMark string // a marker that has not come in its phase

	skipAfter string // of a rule that was decided: goes over to the next phase
	removals  []removal
	trails    [3][]assign // by phase
	skips     []*rule     // that remain
}

// removal is an exclusion at run time.
type removal struct {
	rule   *rule
	action *action
}

// load decides the rules of both phases.
func (l *loader) load() {
	l.changed, l.everSet = map[int]bool{}, map[int]bool{}
	l.walked, l.gone = make([]bool, len(l.rules)), make([]uint64, len(l.r.removed))
	for phase := 1; phase <= 2; phase++ {
		l.until = 0
		if phase == 2 {
			slot := l.slot(jsonBody)
			l.r.tx.set(slot, "", varUnknown)
			l.everSet[slot] = true
			delete(l.changed, slot)
		}
		l.phase(phase)
		l.trail(phase)
	}
	l.check()
}

// trail keeps what decided rules have set behind the last rule of a phase that
// remains.
func (l *loader) trail(phase int) {
	for slot := range l.changed {
		v := &l.r.tx.vars[slot]
		l.trails[phase] = append(l.trails[phase], assign{slot: slot, set: v.state == varSet, value: v.value})
	}
}

// phase walks the rules of a phase in their order.
func (l *loader) phase(phase int) {
	skip := 0
	for i := range l.rules {
		ru := &l.rules[i]
		if ru.mark == "" && ru.phase != phase {
			continue
		}
		if hasBit(l.r.removed, i) {
			setBit(l.gone, i)
			continue
		}
		if l.untilMark != "" && ru.mark == l.untilMark {
			l.untilMark = ""
		}
		if l.skipAfter != "" {
			if ru.mark == l.skipAfter {
				l.skipAfter = ""
			}
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		if ru.mark != "" {
			continue
		}
		l.rule(ru)
		l.walked[i] = true
		if !ru.erased {
			continue
		}
		if ru.effects {
			skip = ru.skip
			if ru.skipAfter != "" {
				l.skipAfter = ru.skipAfter
			}
		}
	}
}

// perhaps reports whether a rule may be passed over at run time.
func (l *loader) perhaps(ru *rule) bool {
	return l.untilMark != "" || ru.pos < l.until
}

// rule decides one rule, or keeps it.
func (l *loader) rule(ru *rule) {
	r := l.r
	r.rule = ru
	r.matches, r.mixed = r.matches[:0], 0
	before, removed := l.snapshot(), append([]uint64(nil), r.removed...)
	n, matched, lasting := 0, true, false
	for ; n < len(ru.links); n++ {
		lk := &ru.links[n]
		if !l.testable(lk) {
			break
		}
		from := len(r.matches)
		r.failed, r.unknown, r.dry = "", false, true
		hit := r.evaluateLink(lk, false)
		r.dry = false
		if hit && !l.followable(ru, n) {
			r.matches = r.matches[:from]
			break
		}
		if hit {
			r.matches = r.matches[:from]
			r.evaluateLink(lk, false)
		}
		if r.failed != "" || r.unknown {
			break
		}
		lk.replay = append([]found(nil), r.matches[from:]...)
		if matched = hit; !hit {
			break
		}
		for i := range lk.actions {
			lasting = lasting || lk.actions[i].kind >= actBodyVariable
		}
	}
	r.failed, r.unknown = "", false
	decided := n == len(ru.links) || !matched
	flows := matched && (ru.skip > 0 || ru.skipAfter != "" || ru.allow != allowNothing)
	excludes := len(r.hidden) > 0 || !slices.Equal(removed, r.removed)
	effects := l.differs(before) || flows || excludes || lasting
	switch {
	case !decided:
	case matched && ru.finding:
		ru.certain = true
	case matched && (ru.refuses || ru.reported):
		// Whoever follows findings has to come by.
	case !effects:
		ru.erased = true
		return
	case ru.allow == allowNothing && !lasting && !l.perhaps(ru) && (!flows || ru.skip == 0 || !l.removable()):
		ru.erased, ru.effects = true, true
		l.note(before)
		l.exclude(removed)
		return
	}
	copy(r.removed, removed)
	r.hidden = r.hidden[:0]
	// The rule remains. What it sets is not known from here on.
	ru.fixed = n // of a link that does not match it is asked again
	l.restore(before)
	l.flush(ru.phase, ru)
	last := len(ru.links)
	if ru.finding {
		last--
	}
	for i := range ru.links[:last] {
		if ru.links[i].bad != "" {
			break
		}
		for j := range ru.links[i].actions {
			l.forget(ru, &ru.links[i].actions[j])
		}
		if ru.links[i].badMatch != "" {
			break
		}
	}
	if ru.finding || ru.links[0].badMatch != "" {
		return
	}
	switch {
	case ru.skipAfter != "":
		if at := l.marker(ru.pos, ru.skipAfter); at >= 0 {
			l.until = max(l.until, at)
		} else {
			l.until, l.untilMark = len(l.rules), ru.skipAfter
		}
	case ru.skip > 0:
		l.skips = append(l.skips, ru)
		left := ru.skip
		for i := ru.pos + 1; i < len(l.rules); i++ {
			if next := &l.rules[i]; next.mark == "" && next.phase != ru.phase {
				continue
			}
			l.until = max(l.until, i+1)
			if left--; left <= 0 {
				break
			}
		}
	case ru.allow == allowPhase:
		l.until = len(l.rules)
	}
}

// removable reports whether rules may be removed at run time.
func (l *loader) removable() bool { return len(l.removals) > 0 }

// marker returns the place of a marker behind a rule; -1 if there is none.
func (l *loader) marker(pos int, name string) int {
	for i := pos + 1; i < len(l.rules); i++ {
		if l.rules[i].mark == name {
			return i
		}
	}
	return -1
}

// exclude does to the rules that have not been walked what a decided rule says.
func (l *loader) exclude(before []uint64) {
	for _, h := range l.r.hidden {
		for i := range l.rules {
			if l.walked[i] || !hasBit(h.rules, i) {
				continue
			}
			for j := range l.rules[i].links {
				targets := l.rules[i].links[j].targets
				for k := range targets {
					if targets[k].variable == h.variable {
						targets[k].except = append(targets[k].except, h.except)
					}
				}
			}
		}
	}
	l.r.hidden = l.r.hidden[:0]
	// A rule that may skip counts on what is there when it is evaluated.
	for _, ru := range l.skips {
		for i := ru.pos + 1; i < len(l.rules); i++ {
			if hasBit(l.r.removed, i) && !hasBit(before, i) {
				ru.links[0].badMatch = "it skips what another rule excludes"
			}
		}
	}
}

// testable reports whether it can be told without a request whether a link matches.
func (l *loader) testable(lk *link) bool {
	if lk.bad != "" || !l.known(lk.arg) {
		return false
	}
	for i := range lk.targets {
		t := &lk.targets[i]
		switch t.view {
		case fromTX:
			if t.regex != nil {
				if len(l.smears) > 0 {
					return false
				}
				for slot := range l.r.tx.vars {
					if l.r.tx.vars[slot].state == varUnknown && t.regex.MatchString(l.names[slot]) {
						return false
					}
				}
				continue
			}
			if !l.knownSlot(t.slot) {
				return false
			}
		case fromMatchedVar, fromMatchedName, fromMatchedVars, fromMatchedNames:
		default:
			return false
		}
	}
	return true
}

// followable reports whether what a link does when it matches is known.
func (l *loader) followable(ru *rule, n int) bool {
	lk := &ru.links[n]
	if lk.badMatch != "" {
		return false
	}
	for i := range lk.actions {
		a := &lk.actions[i]
		switch a.kind {
		case actSetvar:
			if !l.known(a.key) || !l.known(a.value) {
				return false
			}
			if a.slot < 0 || !l.knownSlot(a.slot) {
				return false
			}
		case actRemoveRules, actRemoveTargets:
			if l.perhaps(ru) {
				return false
			}
			if n < len(ru.links)-1 || len(ru.links) > 1 {
				return false
			}
		}
	}
	return true
}

func (l *loader) known(m macro) bool {
	for _, t := range m {
		switch t.variable {
		case variables.Unknown, variables.MatchedVar, variables.MatchedVarName:
		case variables.TX:
			if t.slot >= 10 && !l.knownSlot(t.slot) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// knownSlot reports whether the value of a variable is known.
func (l *loader) knownSlot(slot int) bool {
	v := &l.r.tx.vars[slot]
	switch v.state {
	case varUnknown, varMixed, varShuffled:
		return false
	}
	// A rule may have set it under a name that it makes up.
	for _, s := range l.smears {
		if strings.HasPrefix(l.names[slot], s) {
			return false
		}
	}
	return true
}

// forget makes unknown what an action of a rule that remains may change.
func (l *loader) forget(ru *rule, a *action) {
	switch a.kind {
	case actSetvar:
		if a.slot >= 0 {
			l.r.tx.set(a.slot, "", varUnknown)
			delete(l.changed, a.slot)
			return
		}
		l.smears = append(l.smears, lower(a.key.prefix()))
	case actRemoveRules, actRemoveTargets:
		l.removals = append(l.removals, removal{ru, a})
	}
}

// snapshot and restore keep the variables as they were.
func (l *loader) snapshot() []txVar { return append([]txVar(nil), l.r.tx.vars...) }

func (l *loader) restore(vars []txVar) {
	for i := range vars {
		listed := l.r.tx.vars[i].listed
		l.r.tx.vars[i] = vars[i]
		l.r.tx.vars[i].listed = listed
	}
}

func (l *loader) differs(before []txVar) bool {
	for i := range before {
		now := &l.r.tx.vars[i]
		if i >= 10 && (now.state != before[i].state || now.value != before[i].value) {
			return true
		}
	}
	return false
}

// note keeps what a decided rule has set for those that remain.
func (l *loader) note(before []txVar) {
	for i := range before {
		now := &l.r.tx.vars[i]
		if i >= 10 && (now.state != before[i].state || now.value != before[i].value) {
			l.changed[i], l.everSet[i] = true, true
		}
	}
}

// flush puts a rule behind those that remain, with what has been set before it.
func (l *loader) flush(phase int, ru *rule) {
	for slot := range l.changed {
		v := &l.r.tx.vars[slot]
		ru.assigns = append(ru.assigns, assign{slot: slot, set: v.state == varSet, value: v.value})
	}
	clear(l.changed)
	l.fold(ru)
	l.residual[phase] = append(l.residual[phase], ru)
}

// fold puts the values that are known into the arguments and actions of a rule that
// remains. Within a chain, what an earlier link may set is not.
func (l *loader) fold(ru *rule) {
	sets := map[int]bool{}
	var smears []string
	known := func(slot int) bool {
		if slot < 10 || sets[slot] || !l.knownSlot(slot) {
			return false
		}
		for _, s := range smears {
			if strings.HasPrefix(l.names[slot], s) {
				return false
			}
		}
		return true
	}
	expand := func(m macro) macro {
		out := append(macro(nil), m...)
		for i := range out {
			t := &out[i]
			if t.variable != variables.TX || !known(t.slot) {
				continue
			}
			v := &l.r.tx.vars[t.slot]
			text := t.text
			if v.state == varSet {
				text = v.value
			}
			*t = token{text: text}
		}
		return out.join()
	}
	for i := range ru.links {
		lk := &ru.links[i]
		lk.arg = expand(lk.arg)
		for j := range lk.actions {
			a := &lk.actions[j]
			if a.kind != actSetvar {
				continue
			}
			if a.slot >= 0 {
				sets[a.slot] = true
			} else {
				smears = append(smears, lower(a.key.prefix()))
			}
		}
		for j := range lk.actions {
			a := &lk.actions[j]
			if a.kind != actSetvar {
				continue
			}
			a.key, a.value = expand(a.key), expand(a.value)
			if a.slot >= 0 {
				_, a.plain = a.value.constant()
			}
		}
	}
}

// check looks at what rules may exclude at run time: a rule that was decided, and
// did something, cannot be excluded any more.
func (l *loader) check() {
	for _, x := range l.removals {
		for i := range l.rules {
			ru := &l.rules[i]
			if !hasBit(x.action.rules, i) || !ru.erased || !ru.effects || !l.follows(x.rule, ru) {
				continue
			}
			if x.action.kind == actRemoveRules || x.action.variable == variables.TX {
				x.action.breaks = fmt.Sprintf("it excludes rule %d, which was decided at load", ru.id)
			}
		}
	}
}

// follows reports whether b is evaluated behind a.
func (l *loader) follows(a, b *rule) bool {
	return b.phase > a.phase || b.phase == a.phase && b.pos > a.pos
}
