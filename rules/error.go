package rules

import (
	"fmt"
	"slices"
	"strings"
)

// Position is a place in a file that the operator wrote. Line and Column count
// from 1; 0 means unknown.
type Position struct {
	File   string
	Line   int
	Column int
}

// String returns file:line:column, as compilers write it, without the parts that
// are unknown.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error is one fault in what the operator wrote.
type Error struct {
	Pos  Position
	Path string // where in the document: rules[2].match.country; empty outside YAML
	Msg  string // what is wrong
	Hint string // how to mend it; may be empty
}

// Error returns "file:line:column: path: message (hint)".
func (e *Error) Error() string {
	var b strings.Builder
	if pos := e.Pos.String(); pos != "" {
		b.WriteString(pos)
		b.WriteString(": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path)
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString(" (")
		b.WriteString(e.Hint)
		b.WriteString(")")
	}
	return b.String()
}

// Errors are all the faults of a policy. A nil Errors is none; turn it into an
// error with Err, so that no non-nil interface holds an empty list.
type Errors []*Error

// Error returns one fault a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the single faults, for errors.Is and errors.As.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, err := range e {
		errs[i] = err
	}
	return errs
}

// Err returns e as an error, nil if there is no fault.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// Add appends a fault at a place.
func (e *Errors) Add(pos Position, path, hint, format string, args ...any) {
	*e = append(*e, &Error{Pos: pos, Path: path, Hint: hint, Msg: fmt.Sprintf(format, args...)})
}

// Sort orders the faults by file, line and column.
func (e Errors) Sort() {
	slices.SortStableFunc(e, func(a, b *Error) int {
		if c := strings.Compare(a.Pos.File, b.Pos.File); c != 0 {
			return c
		}
		if a.Pos.Line != b.Pos.Line {
			return a.Pos.Line - b.Pos.Line
		}
		return a.Pos.Column - b.Pos.Column
	})
}

// Located is a decoded value with its place, so that what is found out later (a
// name that leads nowhere, an expression that does not compile) can be told with
// the place at which it was written. The zero Located was not written at all.
type Located[T any] struct {
	Value T
	Pos   Position
	Path  string
}

// Set reports whether the value was written in the document.
func (l Located[T]) Set() bool { return l.Pos.Line != 0 }

// Errorf returns a fault at the value's place.
func (l Located[T]) Errorf(hint, format string, args ...any) *Error {
	return &Error{Pos: l.Pos, Path: l.Path, Hint: hint, Msg: fmt.Sprintf(format, args...)}
}
