package seclang

import (
	"errors"
	"fmt"
	"strings"

	"github.com/corazawaf/coraza/v3/types/variables"
)

var errRule = errors.New("the rule is malformed")

// splitRule splits the arguments of SecRule.
func splitRule(s string) (targets, operator, actions string, err error) {
	targets, rest, ok := strings.Cut(strings.Trim(s, " "), " ")
	rest = strings.TrimLeft(rest, " ")
	if !ok || rest == "" || rest[0] != '"' {
		return "", "", "", errRule
	}
	// The operator ends at the first quote behind an even number of backslashes.
	end, slashes := 0, 0
	for i := 1; i < len(rest) && end == 0; i++ {
		switch rest[i] {
		case '\\':
			slashes++
		case '"':
			if slashes%2 == 0 {
				end = i
			}
			slashes = 0
		default:
			slashes = 0
		}
	}
	if end == 0 {
		return "", "", "", errRule
	}
	operator = strings.ReplaceAll(rest[1:end], `\"`, `"`)
	rest = strings.TrimLeft(rest[end+1:], " ")
	if rest == "" {
		return targets, operator, "", nil
	}
	if len(rest) < 2 || rest[0] != '"' || rest[len(rest)-1] != '"' {
		return "", "", "", errRule
	}
	return targets, operator, rest[1 : len(rest)-1], nil
}

// parseOperator reads the quoted part of a rule; rx is the operator of one
// without.
func parseOperator(s string) *Operator {
	switch {
	case s == "" || s[0] != '@' && s[0] != '!':
		s = "@rx " + s
	case s == "!":
		s = "!@rx"
	case s[0] == '!' && s[1] != '@':
		s = "!@rx " + s[1:]
	}
	name, arg, _ := strings.Cut(s, " ")
	name = strings.TrimSpace(name)
	op := &Operator{Arg: strings.TrimSpace(arg), Negated: name[0] == '!'}
	switch {
	case name[0] == '@':
		name = name[1:]
	case len(name) > 2 && name[1] == '@':
		name = name[2:]
	}
	op.Name = name
	return op
}

// parseTargets adds the variables of a list to a link. An exclusion belongs to
// the targets of that variable so far.
func (l *Link) parseTargets(list string) error {
	for list != "" {
		var t Target
		exclude := false
		for list != "" && (list[0] == '!' || list[0] == '&') {
			exclude = exclude || list[0] == '!'
			t.Count = t.Count || list[0] == '&'
			list = list[1:]
		}
		end := strings.IndexAny(list, ":|")
		name, selector := list, false
		if end >= 0 {
			name, selector, list = list[:end], list[end] == ':', list[end+1:]
		} else {
			list = ""
		}
		if strings.ContainsAny(name, "!&/") {
			return fmt.Errorf("target %q", name) // the engine has a meaning for some
		}
		v, err := variables.Parse(name)
		if err != nil {
			return fmt.Errorf("target %q", name)
		}
		t.Variable = v
		if selector {
			if t.Key, list, err = parseKey(list, name); err != nil {
				return err
			}
			if t.Key.Text == "" && !t.Key.Regex {
				return fmt.Errorf("target %s: empty selector", name)
			}
		}
		if exclude {
			for i := range l.Targets {
				if l.Targets[i].Variable == v {
					l.Targets[i].Except = append(l.Targets[i].Except, t.Key.fold(v, true))
				}
			}
			continue
		}
		t.Key = t.Key.fold(v, false)
		l.Targets = append(l.Targets, t)
	}
	return nil
}

// parseKey cuts a selector off the beginning of s and the bar behind it.
func parseKey(s, name string) (k Key, rest string, err error) {
	if name == "XML" || name == "JSON" {
		k.Text, rest, _ = strings.Cut(s, "|")
		return k, rest, nil
	}
	quoted := strings.HasPrefix(s, "'")
	if quoted {
		s = s[1:]
	}
	if !strings.HasPrefix(s, "/") {
		k.Text, rest, _ = strings.Cut(s, "|")
		if quoted || strings.ContainsAny(k.Text, "/'") {
			// The engine reads on in ways of its own.
			return Key{}, "", fmt.Errorf("selector %q", k.Text)
		}
		return k, rest, nil
	}
	escaped := false
	for i := 1; i < len(s); i++ {
		switch {
		case escaped:
			escaped = false
		case s[i] == '\\':
			escaped = true
		case s[i] == '/':
			k = Key{Text: s[1:i], Regex: true}
			rest = s[i+1:]
			if quoted {
				var ok bool
				if rest, ok = strings.CutPrefix(rest, "'"); !ok {
					return Key{}, "", fmt.Errorf("selector %q: unclosed quote", k.Text)
				}
			}
			if rest != "" {
				var ok bool
				if rest, ok = strings.CutPrefix(rest, "|"); !ok {
					return Key{}, "", fmt.Errorf("selector %q", k.Text)
				}
			}
			return k, rest, nil
		}
	}
	return Key{}, "", fmt.Errorf("selector %q: unclosed expression", s)
}

// fold lowers the case of a key as the engine does: not for arguments, and not
// the text of an exclusion.
func (k Key) fold(v variables.RuleVariable, exclusion bool) Key {
	switch v {
	case variables.Args, variables.ArgsNames, variables.ArgsGet, variables.ArgsPost,
		variables.ArgsGetNames, variables.ArgsPostNames:
		return k
	}
	if k.Regex || !exclusion {
		k.Text = strings.ToLower(k.Text)
	}
	return k
}
