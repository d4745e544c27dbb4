package waf

import (
	"bytes"
	"strings"

	"github.com/moatwaf/moat/rules"
)

// directive is one logical line of SecLang with its place. The engine names
// neither file nor line in most of its errors, so moat reads the files itself, in
// the same way, before the engine does.
type directive struct {
	file string
	line int    // the first line, from 1
	raw  string // the physical lines as written, without comments between them
	name string // lower case
	args string // what follows the name, quotes around the whole removed
}

func (d *directive) pos() rules.Position { return rules.Position{File: d.file, Line: d.line} }

// maxLine is the longest physical line. The engine's reader stops at a longer
// one, silently, and drops the rest of the file.
const maxLine = 64<<10 - 1

// scan splits a file into directives. Lines that end in a backslash go on in the
// next; a line that ends in a backtick opens a block that a line beginning with
// one closes; comments are whole lines, in the middle of a directive too.
func scan(file string, data []byte, errs *rules.Errors) []directive {
	var (
		all      []directive
		joined   strings.Builder
		raw      strings.Builder
		first    int
		number   int
		backtick bool
	)
	for text := range bytes.Lines(data) {
		number++
		if len(text) > maxLine {
			errs.Add(rules.Position{File: file, Line: number}, "", "break the line with a backslash, or put the words into a file for @pmFromFile",
				"a line of %d bytes is too long", len(text))
			return all
		}
		line := strings.TrimSpace(string(text))
		if line == "" || line[0] == '#' {
			continue
		}
		if raw.Len() == 0 {
			first = number
		}
		raw.WriteString(line)
		raw.WriteByte('\n')

		if !backtick && line[len(line)-1] == '`' {
			backtick = true
		} else if backtick && line[0] == '`' {
			backtick = false
		}
		if backtick {
			joined.WriteString(line)
			joined.WriteByte('\n')
			continue
		}
		if line[len(line)-1] == '\\' {
			joined.WriteString(line[:len(line)-1])
			continue
		}
		joined.WriteString(line)
		d := directive{file: file, line: first, raw: raw.String()}
		name, args, _ := strings.Cut(joined.String(), " ")
		if len(args) >= 3 && args[0] == '"' && args[len(args)-1] == '"' {
			args = strings.Trim(args, `"`)
		}
		d.name, d.args = strings.ToLower(name), args
		all = append(all, d)
		joined.Reset()
		raw.Reset()
	}
	switch {
	case backtick:
		errs.Add(rules.Position{File: file, Line: first}, "", "close it with a line of one backtick", "the block is not closed")
	case raw.Len() > 0:
		errs.Add(rules.Position{File: file, Line: first}, "", "remove the backslash at the end of the file", "the directive is not complete")
	}
	return all
}

// rule is the parts of a SecRule or SecAction that moat looks at.
type rule struct {
	targets  string // empty for SecAction
	operator string // with its at sign, and an exclamation mark where negated
	argument string
	quoted   string // operator and argument as they stand between the quotes
	list     string // the actions as they stand between the quotes
	actions  []action
}

// action is one action of a rule, name in lower case.
type action struct{ name, value string }

// parseRule returns the parts of a rule; ok is false if it is malformed, which
// the engine reports.
func parseRule(d *directive) (r rule, ok bool) {
	switch d.name {
	case "secaction":
		r.list = strings.Trim(d.args, `"`)
		r.actions = parseActions(r.list)
		return r, true
	case "secrule":
	default:
		return rule{}, false
	}
	// The quotes around the whole that scan removed belong to a SecRule's last
	// part, and only if the first began with one, which no target does.
	targets, rest, ok := strings.Cut(strings.Trim(d.args, " "), " ")
	if !ok {
		return rule{}, false
	}
	rest = strings.TrimLeft(rest, " ")
	operator, rest, ok := cutQuoted(rest)
	if !ok {
		return rule{}, false
	}
	r.targets, r.quoted = targets, operator
	r.operator, r.argument = splitOperator(operator)
	rest = strings.TrimSpace(rest)
	if rest == "" {
		return r, true
	}
	if len(rest) < 2 || rest[0] != '"' || rest[len(rest)-1] != '"' {
		return rule{}, false
	}
	r.list = rest[1 : len(rest)-1]
	r.actions = parseActions(r.list)
	return r, true
}

// cutQuoted cuts a quoted string off the beginning of s.
func cutQuoted(s string) (quoted, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", "", false
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return s[1:i], s[i+1:], true
		}
	}
	return "", "", false
}

// splitOperator splits the quoted part of a rule; @rx is the operator of one
// without.
func splitOperator(s string) (operator, argument string) {
	if !strings.HasPrefix(s, "@") && !strings.HasPrefix(s, "!@") {
		return "@rx", s
	}
	operator, argument, _ = strings.Cut(s, " ")
	return operator, strings.TrimSpace(argument)
}

// parseActions returns the actions of a list.
func parseActions(s string) []action {
	var all []action
	for _, a := range splitActions(s) {
		name, value, _ := strings.Cut(a, ":")
		value = strings.TrimSpace(value)
		if len(value) >= 2 && (value[0] == '\'' || value[0] == '"') && value[len(value)-1] == value[0] {
			value = value[1 : len(value)-1]
		}
		all = append(all, action{strings.ToLower(strings.TrimSpace(name)), value})
	}
	return all
}

// splitActions splits an action list at commas outside of single quotes.
func splitActions(s string) []string {
	var all []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == '\'':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			all = append(all, s[start:i])
			start = i + 1
		}
	}
	return append(all, s[start:])
}

// has reports whether the rule has an action of that name, and returns its value.
func (r *rule) has(name string) (value string, ok bool) {
	for _, a := range r.actions {
		if a.name == name {
			return a.value, true
		}
	}
	return "", false
}
