package seclang

import (
	"errors"
	"fmt"
	"strings"
)

// File is a run of SecLang that the engine reads as one: a file, or a string of
// directives. Include directives must be resolved before: each included file is a
// File of its own between the parts of the including one.
type File struct {
	// Name is the path as the engine knows it. Data files are looked up beside it.
	Name string
	// Text is the content.
	Text string
}

// directive is one logical line.
type directive struct {
	name string // lower case
	opts string // the arguments, as the engine hands them to the directive
	raw  string // the joined line
	file string
	line int // the last physical line, which is the one that the engine reports
}

// maxLine is the longest physical line that the engine's scanner takes.
const maxLine = 64<<10 - 1

// errUnclosed is an end of file within a block of backticks.
var errUnclosed = errors.New("a block of backticks is not closed")

// directives splits a file into logical lines: a backslash at the end joins the
// next, backticks open and close blocks, comments are whole physical lines.
func (f *File) directives() ([]directive, error) {
	var (
		all      []directive
		joined   strings.Builder
		backtick bool
		number   int
	)
	for line := range strings.Lines(f.Text) {
		number++
		if len(line) > maxLine {
			return nil, fmt.Errorf("%s:%d: the line is longer than the engine reads", f.Name, number)
		}
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if last := line[len(line)-1]; !backtick && last == '`' {
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
		d := directive{raw: joined.String(), file: f.Name, line: number}
		joined.Reset()
		name, opts, _ := strings.Cut(d.raw, " ")
		if len(opts) >= 3 && opts[0] == '"' && opts[len(opts)-1] == '"' {
			opts = strings.Trim(opts, `"`)
		}
		d.name, d.opts = strings.ToLower(name), opts
		all = append(all, d)
	}
	if backtick {
		return nil, fmt.Errorf("%s: %w", f.Name, errUnclosed)
	}
	return all, nil // what is joined and not ended is dropped by the engine too
}

// unquote removes one pair of quotes around s.
func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}
