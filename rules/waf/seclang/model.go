package seclang

import (
	"iter"
	"slices"
	"strings"

	"github.com/corazawaf/coraza/v3/types/variables"
)

// Program is the rules of an engine in the order of evaluation: those of all
// phases in one list, as the engine keeps them, with markers between.
type Program struct {
	Rules []*Rule

	// Settings are the directives that are no rules and change none, by their
	// lower-case name; the last one of each.
	Settings map[string]string

	// Datasets are the word lists of SecDataset.
	Datasets map[string][]string
}

// Rule is one SecRule or SecAction with the links that are chained to it, or a
// SecMarker.
type Rule struct {
	ID    int // 0 for a marker
	Phase int // 1 to 5; 0 for a marker
	// Marker is the name of a SecMarker; empty for a rule.
	Marker string

	File string
	Line int    // the last line of the first link
	Raw  string // the first link as the engine read it

	// Links are the rule itself and those chained to it; empty for a marker.
	Links []Link

	// Updated says that SecRuleUpdateActionById has changed the rule's actions.
	Updated bool
}

// Link is one rule of a chain, or a rule without chain.
type Link struct {
	Targets []Target
	// Operator is nil for SecAction, which always matches.
	Operator *Operator
	// Transforms are the transformations in force, after t:none.
	Transforms []string
	// Actions are all actions in the order of the engine, those of
	// SecDefaultAction and metadata included.
	Actions []Action

	Tags       []string
	Msg        string
	Capture    bool
	MultiMatch bool
	Chain      bool // the link says that another one follows
}

// Target is one variable that a link looks at.
type Target struct {
	Variable variables.RuleVariable
	Key      Key
	Count    bool // the number of values is looked at, not the values
	Except   []Key
}

// Key selects values of a collection by name.
type Key struct {
	// Text is the name, or the expression; empty for all values.
	Text string
	// Regex says that Text is a regular expression.
	Regex bool
}

// Operator is what a link does with a value.
type Operator struct {
	Name    string // without at sign and negation
	Arg     string
	Negated bool
}

// Macro reports whether s holds a variable that is expanded when the rule runs.
func Macro(s string) bool { return strings.Contains(s, "%{") }

// Has reports whether the link has an action of that lower-case name.
func (l *Link) Has(name string) bool {
	return slices.ContainsFunc(l.Actions, func(a Action) bool { return a.Name == name })
}

// Texts yields the texts of the link in which variables are expanded: the
// operator's argument and the values of the actions, in lower case.
func (l *Link) Texts() iter.Seq[string] {
	return func(yield func(string) bool) {
		if l.Operator != nil && !yield(strings.ToLower(l.Operator.Arg)) {
			return
		}
		for _, a := range l.Actions {
			if !yield(strings.ToLower(a.Value)) {
				return
			}
		}
	}
}
