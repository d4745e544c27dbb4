package proof

import (
	"strconv"
	"strings"
)

// act does what a link does with a match.
func (r *Request) act(a *action) {
	switch a.kind {
	case actSetvar:
		r.setvar(a)
		return
	case actRemoveRules:
		if a.breaks != "" {
			r.fail(a.breaks)
			return
		}
		for i, w := range a.rules {
			r.removed[i] |= w
		}
		r.removes = true
	case actRemoveTargets:
		if a.breaks != "" {
			r.fail(a.breaks)
			return
		}
		r.hidden = append(r.hidden, hidden{a.rules, a.rows, a.variable, a.except})
	case actBodyVariable:
		if r.rule.phase == 1 {
			r.effects.ForceBodyVariable = a.on
		}
	case actBodyAccess:
		if r.rule.phase == 1 {
			r.effects.NoBody = !a.on
		}
	case actBodyProcessor:
		if r.rule.phase == 1 {
			r.effects.Processor = a.text
		}
	case actEngine:
		// Where the engine only detects, findings are findings all the same, but an
		// allow does nothing.
		r.effects.EngineOff, r.passive = a.text == "off", a.text != "on"
	}
}

// setvar sets, changes or removes a variable of TX as the engine does.
func (r *Request) setvar(a *action) {
	r.depends = 0
	var v *txVar
	if a.slot >= 0 {
		r.tx.set(a.slot, r.tx.vars[a.slot].value, r.tx.vars[a.slot].state)
		v = &r.tx.vars[a.slot]
	} else {
		key, ok := r.expand(a.key)
		if !ok {
			return
		}
		if v = r.tx.variable(lower(key)); v == nil {
			r.fail("it sets too many variables")
			return
		}
		if len(key) == 1 && '0' <= key[0] && key[0] <= '9' {
			r.fail("it sets a capture")
			return
		}
	}
	if a.remove {
		v.value, v.state = "", varAbsent
		return
	}
	value, ok := r.expand(a.value)
	if !ok {
		return
	}
	now := write{link: r.seq, match: len(r.matches), plain: a.plain, value: value}
	add := value != "" && (value[0] == '+' || value[0] == '-')
	n := 0
	if add && len(value) > 1 {
		var err error
		if n, err = strconv.Atoi(value[1:]); err != nil {
			if strings.HasPrefix(value[1:], "tx.") {
				return // the engine does nothing with what it does not know
			}
			add = false
		}
	}
	now.add = add
	state := varSet
	switch {
	case r.depends&dependsMixed != 0:
		state = varMixed
	case r.depends&dependsShuffled != 0:
		state = varShuffled
	}
	// Other values of the same link may have come first.
	if last := &v.last; last.link == now.link && last.match != now.match {
		if add || last.add {
			if !now.plain || !last.plain {
				state = varMixed
			}
		} else if last.value != value {
			state = varMixed
		}
	}
	v.last = now
	if !add {
		v.value, v.state = value, state
		return
	}
	switch v.state {
	case varUnknown:
		r.unknown = true
		return
	case varMixed, varShuffled:
		v.state = varMixed
		return
	}
	current := 0
	if v.state == varSet && v.value != "" {
		var err error
		if current, err = strconv.Atoi(v.value); err != nil {
			return // nor with what is no number
		}
	}
	if value[0] == '-' {
		n = -n
	}
	v.value, v.state = strconv.Itoa(current+n), state
}

// What the text of a macro depends on within a link that matches several values.
const (
	dependsShuffled uint8 = 1 << iota
	dependsMixed
)
