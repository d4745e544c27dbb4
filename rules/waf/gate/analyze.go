package gate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/rules/waf/dfa"
	"github.com/moatwaf/moat/rules/waf/seclang"
)

// probe is the question whether one link of a rule may match: any value of its
// targets, after its transformations, passes its operator.
type probe struct {
	id       int // the bit of the answer
	targets  []seclang.Target
	names    []string // of the transformations
	chain    []plugintypes.Transformation
	operator plugintypes.Operator
	name     string // of the operator
	negated  bool
	pattern  *dfa.Pattern // nil if the operator has to be asked
	multi    bool         // multiMatch: the text before and after each transformation counts
}

// gated is a rule that may be taken away.
type gated struct {
	id     int
	phase  int
	probes []int // the rule goes if one of them has no hit
}

// analysis is what is known of a program.
type analysis struct {
	program  *seclang.Program
	compiled *seclang.Compiled
	options  Options

	rules   []gated
	probes  []*probe
	reasons map[int]string // rules that stay, by number

	staleMatch bool // a rule reads what an earlier one has matched
}

// Unsound returns why nothing can be said about a program at all; empty if
// something can. actions are registered ones that are known.
func Unsound(program *seclang.Program, actions []string) string {
	for _, r := range program.Rules {
		msg, logdata := false, false
		for i := range r.Links {
			l := &r.Links[i]
			msg = msg || l.Msg != ""
			logdata = logdata || l.Has("logdata")
			for _, act := range l.Actions {
				if act.Kind == seclang.KindUnknown && !slices.Contains(actions, act.Name) && act.Name != ActionName {
					return fmt.Sprintf("rule %d has the action %s, which may do anything", r.ID, act.Name)
				}
			}
			if op := l.Operator; op != nil && !scanned[op.Name] && !pure[op.Name] && !opaque[op.Name] {
				// A registered one, or restpath, which adds arguments.
				return fmt.Sprintf("rule %d has the operator @%s, which may change the request", r.ID, op.Name)
			}
			for _, t := range l.Targets {
				if t.Variable == variables.Rule {
					return fmt.Sprintf("rule %d looks at RULE, which every rule changes", r.ID)
				}
			}
			for text := range l.Texts() {
				if strings.Contains(text, "%{rule.msg") && !msg || strings.Contains(text, "%{rule.logdata") && !logdata {
					return fmt.Sprintf("rule %d reads the message of another rule", r.ID)
				}
			}
		}
	}
	return ""
}

// prepare looks for rules that read what an earlier rule has matched: without the
// earlier rule they would read something else.
func (a *analysis) prepare() {
	for _, r := range a.program.Rules {
		for i := range r.Links {
			l := &r.Links[i]
			if i == 0 {
				for _, t := range l.Targets {
					switch t.Variable {
					case variables.MatchedVar, variables.MatchedVarName, variables.MatchedVars, variables.MatchedVarsNames:
						a.staleMatch = true
					}
				}
			}
			for text := range l.Texts() {
				// The message is expanded before the rule is evaluated, so that it
				// may show the match of an earlier rule to whom it is told.
				if strings.Contains(text, "%{rule.") {
					a.staleMatch = true
				}
			}
			if l.Operator != nil && strings.Contains(strings.ToLower(l.Operator.Arg), "%{matched_") {
				a.staleMatch = true
			}
		}
	}
}

// collect decides for each rule whether it can be gated.
func (a *analysis) collect() {
	a.prepare()
	kept := a.behindSkip()
	for i, r := range a.program.Rules {
		if r.Marker != "" || r.Phase != 1 && r.Phase != 2 {
			continue
		}
		switch {
		case kept[i]:
			a.reasons[r.ID] = "a skip may cover it"
		case r.ID <= 0:
		case r.Updated:
			a.reasons[r.ID] = "SecRuleUpdateActionById has changed it"
		default:
			a.rule(i, r)
		}
	}
}

// rule makes the probes of a rule.
func (a *analysis) rule(index int, r *seclang.Rule) {
	g := gated{id: r.ID, phase: r.Phase}
	first := ""
	for n := range r.Links {
		l := &r.Links[n]
		p, why := a.link(r, l, &a.compiled.Links[index][n])
		if n == 0 {
			first = why
		}
		if p != nil {
			p.id = len(a.probes)
			a.probes = append(a.probes, p)
			g.probes = append(g.probes, p.id)
		}
		if !a.silent(l) {
			break // later links must not be asked: this one leaves traces
		}
	}
	if len(g.probes) == 0 {
		a.reasons[r.ID] = first
		return
	}
	a.rules = append(a.rules, g)
}

// silent reports whether a link that matches leaves no trace if a later link of
// its chain does not.
func (a *analysis) silent(l *seclang.Link) bool {
	if a.staleMatch || l.Capture || l.Operator == nil {
		return false
	}
	for _, act := range l.Actions {
		switch act.Name {
		case "log", "nolog", "auditlog", "noauditlog", "t", "multimatch", "logdata":
		default:
			if act.Kind == seclang.KindNondisruptive || act.Kind == seclang.KindUnknown {
				return false
			}
		}
	}
	// The engine remembers transformed values within a phase. Those of variables
	// that change would be remembered at another time.
	for _, t := range l.Targets {
		if len(l.Transforms) > 0 && t.Variable != variables.TX && sourcesOf(t.Variable) == nil {
			return false
		}
	}
	return true
}

// link returns the probe of a link, or why it has none.
func (a *analysis) link(r *seclang.Rule, l *seclang.Link, c *seclang.CompiledLink) (*probe, string) {
	if l.Operator == nil {
		return nil, "it always matches"
	}
	single := true
	for _, t := range l.Targets {
		if t.Count {
			return nil, "it counts " + t.Variable.Name()
		}
		sources := sourcesOf(t.Variable)
		if sources == nil {
			return nil, "it looks at " + t.Variable.Name() + ", which may change"
		}
		single = single && (t.Key.Text != "" && !t.Key.Regex || sources[0].onePerRequest())
	}
	for _, name := range l.Transforms {
		if _, ok := Trigger(name); !ok && !always[strings.ToLower(name)] && !a.options.Transformation(name) {
			return nil, "the transformation " + name + " is not known"
		}
	}
	op := l.Operator
	if seclang.Macro(op.Arg) && op.Name != "rx" && !strings.HasPrefix(op.Name, "pm") {
		return nil, "its argument has a variable"
	}
	p := &probe{targets: l.Targets, names: l.Transforms, chain: c.Transforms, operator: c.Operator, name: op.Name, negated: op.Negated, multi: l.MultiMatch}
	switch {
	case opaque[op.Name]:
		return nil, "@" + op.Name + " may look at more than the value"
	case op.Negated && !single:
		return nil, "it looks for any value that does not match"
	case op.Negated, pure[op.Name]:
		return p, ""
	}
	if p.pattern = Pattern(a.program, r, op, a.options.ReadFile); p.pattern != nil {
		p.fold()
	}
	return p, ""
}

// Pattern returns an operator without variables in its argument as a pattern; nil
// if only the engine's own operator knows. readFile may be nil.
func Pattern(program *seclang.Program, r *seclang.Rule, op *seclang.Operator, readFile func(string) ([]byte, error)) *dfa.Pattern {
	var p dfa.Pattern
	switch op.Name {
	case "rx":
		p = dfa.Regexp(op.Arg)
	case "pm":
		if len(program.Datasets) > 0 {
			return nil // the engine takes a data set of the same name for it
		}
		p = dfa.Phrases(strings.Split(strings.ToLower(op.Arg), " "))
	case "pmFromFile", "pmf":
		if readFile == nil {
			return nil
		}
		data, err := readFile(dataFile(r, op.Arg))
		if err != nil {
			return nil
		}
		p = dfa.Phrases(words(data))
	case "contains", "strmatch":
		p = dfa.Contains(op.Arg)
	case "streq":
		p = dfa.Equal(op.Arg)
	case "beginsWith":
		p = dfa.HasPrefix(op.Arg)
	case "endsWith":
		p = dfa.HasSuffix(op.Arg)
	case "within":
		p = dfa.Within(op.Arg)
	case "validateByteRange":
		allowed, ok := byteRange(op.Arg)
		if !ok {
			return nil
		}
		p = dfa.BytesOutside(allowed)
	default:
		return nil
	}
	var b dfa.Builder
	if err := b.Add(0, p); err != nil {
		return nil
	}
	return &p
}

// fold lets the automaton do the lower-casing that ends a chain, where it does that
// exactly, so that there is no text of its own to scan.
func (p *probe) fold() {
	last := len(p.names) - 1
	if last < 0 || p.multi || !strings.EqualFold(p.names[last], "lowercase") {
		return
	}
	if lowered := p.pattern.Lowered(); lowered.Exact() {
		p.pattern, p.names, p.chain = &lowered, p.names[:last], p.chain[:last]
	}
}

// behindSkip returns the rules that a skip may cover. The engine counts the rules
// of the phase and the markers that are not removed, so that a rule taken away
// would make the skip reach further.
func (a *analysis) behindSkip() map[int]bool {
	kept := map[int]bool{}
	for i, r := range a.program.Rules {
		for _, l := range r.Links[:min(1, len(r.Links))] {
			for _, act := range l.Actions {
				if act.Name != "skip" {
					continue
				}
				n, err := strconv.Atoi(act.Value)
				if err != nil || l.Has("skipafter") {
					n = len(a.program.Rules) // all that follow
				}
				for j := i + 1; j < len(a.program.Rules) && n > 0; j++ {
					next := a.program.Rules[j]
					if next.Marker == "" && next.Phase != r.Phase {
						continue
					}
					kept[j] = true
					if !a.removable(next) {
						n-- // one that is removed by a rule does not count
					}
				}
			}
		}
	}
	return kept
}

// removable reports whether a rule may remove r at run time.
func (a *analysis) removable(r *seclang.Rule) bool {
	for _, other := range a.program.Rules {
		for i := range other.Links {
			for _, act := range other.Links[i].Actions {
				if act.Name != "ctl" {
					continue
				}
				control, value, _ := strings.Cut(act.Value, "=")
				switch control {
				case "ruleRemoveById":
					lo, hi, ranged := strings.Cut(value, "-")
					first, err1 := strconv.Atoi(lo)
					last, err2 := first, error(nil)
					if ranged {
						last, err2 = strconv.Atoi(hi)
					}
					if err1 != nil || err2 != nil || r.ID >= first && r.ID <= last {
						return true
					}
				case "ruleRemoveByTag":
					if len(r.Links) > 0 && slices.Contains(r.Links[0].Tags, value) {
						return true
					}
				case "ruleRemoveByMsg":
					if len(r.Links) > 0 && r.Links[0].Msg == value {
						return true
					}
				}
			}
		}
	}
	return false
}
