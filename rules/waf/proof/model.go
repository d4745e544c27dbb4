package proof

import (
	"regexp"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/moatwaf/moat/rules/waf/gate"
)

// rule is a rule of the program as the interpreter runs it.
type rule struct {
	id    int
	pos   int // in the program, markers included
	phase int // 0 for a marker
	mark  string
	tags  []string
	msg   string
	links []link

	// finding says that a request in which the rule matches is not clean.
	finding bool
	// refuses and reported are what a finding is, for a proof that follows it: the
	// rule ends the request, with a status or 0, or somebody is told that it matched.
	refuses  bool
	status   int
	reported bool
	// certain says that the rule matches in every request that reaches it.
	certain bool

	skip      int
	skipAfter string
	allow     allowance

	// assigns are what rules that were decided at load have set since the rule
	// before, as far as a rule reads it while requests are judged.
	assigns []assign
	// erased says that the rule was decided at load.
	erased bool
	// effects says that an erased rule did something.
	effects bool
	// fixed is how many links were decided at load: they match.
	fixed int
}

// allowance is what an allow action ends.
type allowance uint8

const (
	allowNothing allowance = iota
	allowPhase
	allowRequest
)

// assign is a value of TX that is known at load.
type assign struct {
	slot  int
	set   bool
	value string
}

// link is one link of a rule.
type link struct {
	targets    []target
	always     bool // SecAction
	operator   plugintypes.Operator
	native     func(arg, value string) bool // in place of operator
	name       string                       // of the operator
	arg        macro
	negated    bool
	names      []string // of the transformations
	transforms []plugintypes.Transformation
	triggers   []gate.Touch // all kinds for a transformation that may change any text
	multi      bool
	captures   bool
	groups     int // captures of an expression
	actions    []action

	// bad says why nobody here can tell whether the link matches, or what it does
	// then; badMatch, why nobody can tell what it does when it matches.
	bad, badMatch string

	// replay is what the link matched when it was decided at load.
	replay []found
}

// found is a value that an operator has matched.
type found struct {
	variable variables.RuleVariable
	name     string
	value    string
}

// target is one variable that a link looks at.
type target struct {
	variable variables.RuleVariable
	view     viewKind
	sources  []source
	count    bool
	name     string // that a count goes by
	key      string
	regex    *regexp.Regexp
	slot     int // of TX, with a key
	except   []except
}

// viewKind is where the values of a target come from.
type viewKind uint8

const (
	fromNowhere viewKind = iota
	fromLists            // collections of the request
	fromSingle
	fromTX
	fromMatchedVar
	fromMatchedName
	fromMatchedVars
	fromMatchedNames
)

// except is a selector of values that a target does not show.
type except struct {
	key   string // in lower case; empty for all
	regex *regexp.Regexp
}

// hides reports whether a value with that name, in lower case, is not shown.
func (e *except) hides(name string) bool {
	if e.regex != nil {
		return e.regex.MatchString(name)
	}
	return e.key == "" || e.key == name
}

// action is what a link does with each value that matches.
type action struct {
	kind actionKind

	// setvar:
	slot   int // of a key without variables; -1
	key    macro
	value  macro
	plain  bool // neither key nor value has a variable
	remove bool

	// ctl:
	rules    []uint64 // by position
	rows     []uint64 // those of them that count values of the variable
	variable variables.RuleVariable
	except   except
	text     string
	on       bool
	breaks   string // why the action cannot be followed
}

// actionKind is what an action does.
type actionKind uint8

const (
	actSetvar actionKind = iota
	actRemoveRules
	actRemoveTargets
	actBodyVariable
	actBodyAccess
	actBodyProcessor
	actEngine
)

func hasBit(set []uint64, i int) bool { return i>>6 < len(set) && set[i>>6]&(1<<(i&63)) != 0 }
func setBit(set []uint64, i int)      { set[i>>6] |= 1 << (i & 63) }
