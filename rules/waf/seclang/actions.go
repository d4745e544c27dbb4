package seclang

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind is what an action does to a request.
type Kind uint8

const (
	// KindUnknown is an action that Coraza does not bring: one that a program has
	// registered.
	KindUnknown Kind = iota
	// KindMetadata describes the rule.
	KindMetadata
	// KindDisruptive ends or shortens the evaluation.
	KindDisruptive
	// KindData is a parameter of a disruptive action.
	KindData
	// KindFlow selects the next rule.
	KindFlow
	// KindNondisruptive runs with each value that matches.
	KindNondisruptive
)

// Action is one action of a link.
type Action struct {
	Name  string // lower case
	Value string
	Kind  Kind
}

var kinds = map[string]Kind{
	"accuracy": KindMetadata, "id": KindMetadata, "maturity": KindMetadata, "msg": KindMetadata,
	"phase": KindMetadata, "rev": KindMetadata, "severity": KindMetadata, "tag": KindMetadata, "ver": KindMetadata,
	"allow": KindDisruptive, "block": KindDisruptive, "deny": KindDisruptive, "drop": KindDisruptive,
	"pass": KindDisruptive, "redirect": KindDisruptive,
	"status": KindData,
	"chain":  KindFlow, "skip": KindFlow, "skipafter": KindFlow,
	"auditlog": KindNondisruptive, "capture": KindNondisruptive, "ctl": KindNondisruptive, "exec": KindNondisruptive,
	"expirevar": KindNondisruptive, "initcol": KindNondisruptive, "log": KindNondisruptive, "logdata": KindNondisruptive,
	"multimatch": KindNondisruptive, "noauditlog": KindNondisruptive, "nolog": KindNondisruptive,
	"setenv": KindNondisruptive, "setvar": KindNondisruptive, "t": KindNondisruptive,
}

// parseActions reads an action list. There is one disruptive action: a later one
// takes the place of an earlier.
func parseActions(s string) []Action {
	var all []Action
	disruptive := -1
	add := func(name, value string) {
		a := Action{Name: strings.ToLower(strings.TrimSpace(name)), Value: unquote(strings.TrimSpace(value))}
		a.Kind = kinds[a.Name]
		if a.Kind == KindDisruptive {
			if disruptive >= 0 {
				all[disruptive] = a
				return
			}
			disruptive = len(all)
		}
		all = append(all, a)
	}
	start, colon, quoted := 0, -1, false
	// The first character is never a separator, nor is one behind a backslash.
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case s[i-1] == '\\':
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == ':' && colon < 0:
			colon = i
		case c == ',':
			if colon < 0 {
				add(s[start:i], "")
			} else {
				add(s[start:colon], s[colon+1:i])
			}
			start, colon = i+1, -1
		}
	}
	if colon < 0 {
		add(s[start:], "")
	} else {
		add(s[start:colon], s[colon+1:])
	}
	return all
}

// merge puts the default actions before those of a rule. The rule's disruptive
// action wins, unless it is block.
func merge(own, defaults []Action) []Action {
	var (
		all        []Action
		disruptive Action
		has        bool
	)
	for _, a := range defaults {
		switch a.Kind {
		case KindDisruptive:
			disruptive = a
		case KindMetadata:
		default:
			all = append(all, a)
		}
	}
	for _, a := range own {
		if a.Kind == KindDisruptive {
			if a.Name == "block" {
				continue
			}
			has = true
		}
		all = append(all, a)
	}
	if !has {
		all = append(all, disruptive)
	}
	return all
}

// apply gives actions to a rule's link. Metadata comes first: it decides the phase
// whose defaults are taken.
func (r *Rule) apply(l *Link, own []Action, defaults map[int][]Action) error {
	for _, a := range own {
		if a.Kind != KindMetadata {
			continue
		}
		switch a.Name {
		case "id":
			n, err := strconv.Atoi(a.Value)
			if err != nil {
				return fmt.Errorf("rule number %q", a.Value)
			}
			r.ID = n
		case "phase":
			n := phase(a.Value)
			if n == 0 {
				return fmt.Errorf("phase %q", a.Value)
			}
			r.Phase = n
		case "msg":
			l.Msg = a.Value
		case "tag":
			l.Tags = append(l.Tags, a.Value)
		}
	}
	if d := defaults[r.Phase]; d != nil {
		own = merge(own, d)
	}
	for _, a := range own {
		switch a.Name {
		case "t":
			if a.Value == "none" {
				l.Transforms = nil
			} else {
				l.Transforms = append(l.Transforms, a.Value)
			}
		case "capture":
			l.Capture = true
		case "multimatch":
			l.MultiMatch = true
		case "chain":
			l.Chain = true
		}
	}
	l.Actions = append(l.Actions, own...)
	return nil
}

// phase parses the number or name of a phase; 0 if there is none such.
func phase(s string) int {
	switch s {
	case "request":
		return 2
	case "response":
		return 4
	case "logging":
		return 5
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 5 {
		return 0
	}
	return n
}

// disruptive reports whether one of the actions is.
func disruptive(all []Action) bool {
	return slices.ContainsFunc(all, func(a Action) bool { return a.Kind == KindDisruptive })
}
