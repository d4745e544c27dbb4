package proof

import (
	"cmp"
	"net/http"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/rules/waf/seclang"
)

// compiler translates a program for the interpreter.
type compiler struct {
	program  *seclang.Program
	compiled *seclang.Compiled
	options  Options

	rules []rule
	slots map[string]int // of the names in TX
	names []string
}

// jsonBody is the variable of TX in which the engine's parser leaves a JSON document.
// A View does not show it.
const jsonBody = "json_request_body"

// slot returns the place of a name in TX.
func (c *compiler) slot(name string) int {
	i, ok := c.slots[name]
	if !ok {
		i = len(c.names)
		c.slots[name] = i
		c.names = append(c.names, name)
	}
	return i
}

// compile translates all rules. The rules of later phases are kept as places that
// do nothing.
func (c *compiler) compile() {
	c.slots = map[string]int{}
	for i := range 10 {
		c.slot(strconv.Itoa(i)) // the captures
	}
	c.slot(jsonBody)
	c.rules = make([]rule, len(c.program.Rules))
	for i, r := range c.program.Rules {
		c.rules[i] = rule{id: r.ID, pos: i, phase: r.Phase, mark: r.Marker}
		if len(r.Links) > 0 {
			c.rules[i].tags, c.rules[i].msg = r.Links[0].Tags, r.Links[0].Msg
		}
	}
	for i, r := range c.program.Rules {
		if r.Marker == "" && (r.Phase == 1 || r.Phase == 2) {
			c.rule(&c.rules[i], r, c.compiled.Links[i])
		}
	}
}

func (c *compiler) rule(out *rule, r *seclang.Rule, engine []seclang.CompiledLink) {
	message := false
	for n := range r.Links {
		l := &r.Links[n]
		message = message || l.Msg != ""
		out.links = append(out.links, c.link(r, n, l, &engine[n]))
	}
	first := &out.links[0]
	for _, a := range r.Links[0].Actions {
		switch a.Name {
		case "deny", "drop", "redirect":
			out.refuses = true
			if a.Name == "deny" {
				out.status = cmp.Or(engine[0].Status, http.StatusForbidden)
			}
		case "pass", "block":
			// A block that no default has replaced does nothing.
		case "allow":
			switch a.Value {
			case "phase":
				out.allow = allowPhase
			default:
				out.allow = allowRequest
			}
		case "skip":
			if n, err := strconv.Atoi(a.Value); err == nil {
				out.skip = n
			} else {
				first.badMatch = "its skip is not understood"
			}
		case "skipafter":
			out.skipAfter = unquote(a.Value)
		default:
			if a.Kind == seclang.KindDisruptive || a.Kind == seclang.KindFlow && a.Name != "chain" {
				first.badMatch = "the action " + a.Name + " is not known"
			}
		}
	}
	out.reported = engine[0].Log && message && !slices.Contains(c.options.Unreported, out.id)
	out.finding = !c.options.Follow && (out.refuses || out.reported)
	if c.options.Follow && out.reported && !slices.ContainsFunc(r.Links, says) {
		first.badMatch = "its message may be empty, and so nobody be told of it"
	}
	if out.skip > 0 && out.skipAfter != "" {
		first.badMatch = "it has two ways to go on"
	}
	if r.Updated {
		first.badMatch = "SecRuleUpdateActionById has changed it"
	}
}

// says reports whether the message of a link has text of its own.
func says(l seclang.Link) bool {
	m, ok := parseMacro(l.Msg)
	return ok && slices.ContainsFunc(m, func(t token) bool { return t.variable == variables.Unknown && t.text != "" })
}

// unquote removes one pair of quotes, as the engine does with the name of a marker.
func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

func (c *compiler) link(r *seclang.Rule, n int, l *seclang.Link, engine *seclang.CompiledLink) link {
	out := link{multi: l.MultiMatch, captures: l.Capture, names: l.Transforms, transforms: engine.Transforms, always: l.Operator == nil}
	for i := range l.Targets {
		t, why := c.target(&l.Targets[i], n)
		if why != "" {
			out.bad = why
		}
		out.targets = append(out.targets, t)
	}
	if op := l.Operator; op != nil {
		out.name, out.negated = op.Name, op.Negated
		switch {
		case native[op.Name] != nil:
			m, ok := parseMacro(op.Arg)
			if !ok {
				out.bad = "its argument is not understood"
			}
			out.native, out.arg = native[op.Name], c.bind(m, r)
			if op.Name == "noMatch" || op.Name == "unconditionalMatch" {
				out.arg = nil
			}
			if why := c.readable(out.arg, n == 0); why != "" {
				out.bad = why
			}
		case engines[op.Name]:
			out.operator = engine.Operator
			if op.Name == "rx" && l.Capture {
				if re, err := syntax.Parse("(?sm)"+op.Arg, syntax.Perl); err == nil {
					out.groups = min(re.MaxCap()+1, 9)
				}
			}
		default:
			out.bad = "the operator @" + op.Name + " may look at more than the value"
		}
	}
	for _, name := range l.Transforms {
		if !c.options.knows(name) {
			out.bad = "the transformation " + name + " is not known"
		}
		trig, ok := triggerOf(name)
		if !ok {
			trig = 0
		}
		out.triggers = append(out.triggers, trig)
	}
	for _, a := range l.Actions {
		if why := c.action(r, &out, &a); why != "" {
			out.badMatch = why
		}
	}
	if out.bad == "" && changes(&out) {
		out.bad = "its argument changes while it is evaluated"
	}
	return out
}

// changes reports whether the argument of a link reads what the link itself sets
// with each value that matches.
func changes(l *link) bool {
	for _, t := range l.arg {
		switch t.variable {
		case variables.MatchedVar, variables.MatchedVarName:
			return true
		case variables.TX:
			if t.slot < 10 && l.captures {
				return true
			}
			for i := range l.actions {
				if a := &l.actions[i]; a.kind == actSetvar && (a.slot < 0 || a.slot == t.slot) {
					return true
				}
			}
		}
	}
	return false
}

// bind gives the variables of TX in a macro their slots, and expands what does not
// change.
func (c *compiler) bind(m macro, r *seclang.Rule) macro {
	for i := range m {
		t := &m[i]
		switch t.variable {
		case variables.TX:
			t.slot = c.slot(t.key)
		case variables.Rule:
			if t.key == "id" {
				*t = token{text: strconv.Itoa(r.ID)}
			}
		}
	}
	return m.join()
}

// readable returns why a macro cannot be expanded; empty if it can.
func (c *compiler) readable(m macro, stale bool) string {
	for _, t := range m {
		switch t.variable {
		case variables.Unknown:
		case variables.TX:
			if t.key == "" {
				return "a variable of TX without a name"
			}
		case variables.MatchedVar, variables.MatchedVarName:
			if stale {
				return "it reads what an earlier rule has matched"
			}
		default:
			list, single := sourcesOf(t.variable)
			if list == nil || named(t.variable) || !single && t.key == "" {
				return "it reads " + t.variable.Name()
			}
		}
	}
	return ""
}

func (c *compiler) target(t *seclang.Target, n int) (out target, why string) {
	out = target{variable: t.Variable, count: t.Count, slot: -1}
	if t.Key.Regex {
		re, err := regexp.Compile(t.Key.Text)
		if err != nil {
			return out, "its selector is not understood"
		}
		out.regex = re
	} else {
		out.key = t.Key.Text
	}
	if out.name = out.key; out.regex != nil {
		out.name = "/" + t.Key.Text + "/"
	}
	for _, k := range t.Except {
		e := except{key: strings.ToLower(k.Text)}
		if k.Regex {
			re, err := regexp.Compile(k.Text)
			if err != nil {
				return out, "its exclusion is not understood"
			}
			e = except{regex: re}
		}
		out.except = append(out.except, e)
	}
	switch t.Variable {
	case variables.TX:
		out.view = fromTX
		switch {
		case out.regex != nil:
			for i := range 10 {
				if out.regex.MatchString(strconv.Itoa(i)) {
					return out, "its selector may show captures"
				}
			}
		case out.key == "":
			return out, "it looks at all of TX"
		default:
			out.key = strings.ToLower(out.key)
			out.slot = c.slot(out.key)
		}
		return out, ""
	case variables.MatchedVar, variables.MatchedVarName, variables.MatchedVars, variables.MatchedVarsNames:
		if n == 0 {
			return out, "it looks at what an earlier rule has matched"
		}
		switch t.Variable {
		case variables.MatchedVar:
			out.view = fromMatchedVar
		case variables.MatchedVarName:
			out.view = fromMatchedName
		case variables.MatchedVars:
			out.view = fromMatchedVars
		default:
			out.view = fromMatchedNames
		}
		if out.key != "" || out.regex != nil {
			return out, "it selects from what was matched"
		}
		return out, ""
	}
	list, single := sourcesOf(t.Variable)
	if list == nil {
		return out, "it looks at " + t.Variable.Name()
	}
	out.sources, out.view = list, fromLists
	if single {
		out.view = fromSingle
		if out.key != "" || out.regex != nil {
			return out, "it selects from " + t.Variable.Name()
		}
	}
	if out.key != "" && !list[0].names {
		out.key = strings.ToLower(out.key)
	}
	return out, ""
}

// action translates one action; it returns why it cannot be followed.
func (c *compiler) action(r *seclang.Rule, l *link, a *seclang.Action) string {
	switch a.Name {
	case "log", "nolog", "auditlog", "noauditlog", "logdata", "capture", "multimatch", "t",
		"exec", "expirevar", "initcol": // the last three do nothing in this engine
		return ""
	case "setvar":
		return c.setvar(r, l, a.Value)
	case "ctl":
		return c.ctl(l, a.Value)
	}
	switch a.Kind {
	case seclang.KindNondisruptive:
		return "the action " + a.Name + " is not known"
	case seclang.KindUnknown:
		if !slices.Contains(c.options.Actions, a.Name) {
			return "the action " + a.Name + " is not known"
		}
	}
	return ""
}

func (c *compiler) setvar(r *seclang.Rule, l *link, s string) string {
	out := action{kind: actSetvar, slot: -1}
	s, out.remove = strings.CutPrefix(s, "!")
	key, value, _ := strings.Cut(s, "=")
	collection, key, _ := strings.Cut(key, ".")
	if !strings.EqualFold(collection, "tx") {
		return "its setvar is not understood"
	}
	var ok1, ok2 bool
	out.key, ok1 = parseMacro(key)
	out.value, ok2 = parseMacro(value)
	if !ok1 || !ok2 || key == "" {
		return "its setvar is not understood"
	}
	out.key, out.value = c.bind(out.key, r), c.bind(out.value, r)
	if !strings.Contains(s, "=") {
		return "the engine fails on a setvar without a value" // it has no macro to expand
	}
	for _, m := range []macro{out.key, out.value} {
		if why := c.readable(m, false); why != "" {
			return why
		}
	}
	name, fixed := out.key.constant()
	if fixed {
		out.slot = c.slot(strings.ToLower(name))
		if out.slot < 10 {
			return "it sets a capture"
		}
		_, out.plain = out.value.constant()
	}
	l.actions = append(l.actions, out)
	return ""
}

// ctl translates a change of the engine's configuration for one request.
func (c *compiler) ctl(l *link, s string) string {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return "its ctl is not understood"
	}
	value, col, _ := strings.Cut(value, ";")
	var out action
	switch name {
	case "auditEngine", "auditLogParts", "debugLogLevel", "hashEngine", "hashEnforcement",
		"responseBodyProcessor", "responseBodyAccess", "responseBodyLimit", "forceResponseBodyVariable":
		return ""
	case "forceRequestBodyVariable", "requestBodyAccess":
		out.kind = actBodyVariable
		if name == "requestBodyAccess" {
			out.kind = actBodyAccess
		}
		switch strings.ToLower(value) {
		case "on":
			out.on = true
		case "off":
		default:
			return ""
		}
	case "requestBodyProcessor":
		out.kind, out.text = actBodyProcessor, strings.ToUpper(value)
	case "ruleEngine":
		out.kind, out.text = actEngine, strings.ToLower(value)
		switch out.text {
		case "on", "off", "detectiononly":
		default:
			return ""
		}
	case "ruleRemoveById", "ruleRemoveByTag", "ruleRemoveByMsg":
		out.kind = actRemoveRules
		out.rules = c.selected(strings.TrimPrefix(name, "ruleRemoveBy"), value)
		for i := range c.rules {
			if c.rules[i].mark != "" && hasBit(out.rules, i) {
				return "it excludes markers"
			}
		}
	case "ruleRemoveTargetById", "ruleRemoveTargetByTag", "ruleRemoveTargetByMsg":
		out.kind = actRemoveTargets
		out.rules = c.selected(strings.TrimPrefix(name, "ruleRemoveTargetBy"), value)
		collection, key, _ := strings.Cut(col, ":")
		v, err := variables.Parse(strings.TrimSpace(collection))
		if err != nil {
			return "its ctl is not understood"
		}
		out.variable = v
		key = strings.TrimSpace(key)
		if expr, ok := selectorRegex(key); ok {
			re, err := regexp.Compile(expr)
			if err != nil || expr == "" {
				return "its ctl is not understood"
			}
			out.except = except{regex: re}
		} else {
			out.except = except{key: strings.ToLower(key)}
		}
	default:
		return "ctl:" + name + " is left to the engine"
	}
	l.actions = append(l.actions, out)
	return ""
}

// selected returns the rules that a ctl means.
func (c *compiler) selected(by, value string) []uint64 {
	set := make([]uint64, (len(c.rules)+63)/64)
	lo, hi := 1, 0
	if strings.EqualFold(by, "id") {
		first, last, ranged := strings.Cut(value, "-")
		a, err1 := strconv.Atoi(first)
		b, err2 := a, error(nil)
		if ranged {
			b, err2 = strconv.Atoi(last)
		}
		if err1 == nil && err2 == nil {
			lo, hi = a, b
		}
	}
	for i := range c.rules {
		r := &c.rules[i]
		switch by {
		case "Id":
			// Markers have number 0 and can be removed by it.
			if lo <= r.id && r.id <= hi {
				setBit(set, i)
			}
		case "Tag":
			if slices.Contains(r.tags, value) {
				setBit(set, i)
			}
		case "Msg":
			if r.msg == value && value != "" {
				setBit(set, i)
			}
		}
	}
	return set
}

// selectorRegex returns the expression of a selector between slashes.
func selectorRegex(s string) (string, bool) {
	if len(s) < 2 || s[0] != '/' || s[len(s)-1] != '/' {
		return s, false
	}
	if len(s) == 2 {
		return "", true
	}
	slashes := 0
	for i := len(s) - 2; i >= 0 && s[i] == '\\'; i-- {
		slashes++
	}
	if slashes%2 != 0 {
		return s, false
	}
	return s[1 : len(s)-1], true
}

// captureReads marks the links that read captures which an earlier rule may have
// left: what was captured in the same chain is known, nothing else is.
func (c *compiler) captureReads() {
	for i := range c.rules {
		r := &c.rules[i]
		known := 0 // captures below are those of this chain
		for n := range r.links {
			l := &r.links[n]
			for j := range l.targets {
				if t := &l.targets[j]; t.view == fromTX && t.slot >= known && t.slot < 10 && t.slot >= 0 {
					l.bad = "it reads what an earlier rule has captured"
				}
			}
			if reads(l.arg, known) {
				l.bad = "it reads what an earlier rule has captured"
			}
			if l.captures && !l.negated {
				known = max(known, groups(l))
			}
			for j := range l.actions {
				a := &l.actions[j]
				if a.kind == actSetvar && (reads(a.key, known) || reads(a.value, known)) {
					l.badMatch = "it reads what an earlier rule has captured"
				}
			}
		}
	}
}

// reads reports whether a macro reads a capture from known on.
func reads(m macro, known int) bool {
	return slices.ContainsFunc(m, func(t token) bool { return t.variable == variables.TX && t.slot >= known && t.slot < 10 })
}

// groups returns how many captures a link sets whenever it matches.
func groups(l *link) int {
	switch l.name {
	case "rx":
		return l.groups
	case "pm", "pmFromFile", "pmf", "pmFromDataset", "detectSQLi":
		return 1
	}
	return 0
}
