package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Check returns what of the answer is not as the row wants it. same is the
// answer to the row that SameAs names, nil if there is none.
func (r Row) Check(a, same *Answer) (problems []string) {
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	match := func(pattern, s string) bool {
		re, err := regexp.Compile(pattern)
		if err != nil {
			report("the row's expression: %v", err)
			return false
		}
		return re.MatchString(s)
	}

	if !slices.Contains(r.Status, a.Status) {
		report("status %d, want %v", a.Status, r.Status)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Has)) {
		switch value, ok := a.field(name); {
		case !ok:
			report("no %s", name)
		case !match(r.Has[name], value):
			report("%s is %q, want a match of %s", name, value, r.Has[name])
		}
	}
	for _, not := range r.Not {
		name, pattern, conditional := strings.Cut(not, ": ")
		value, ok := a.field(name)
		switch {
		case ok && !conditional:
			report("%s is there: %q", name, value)
		case ok && match(pattern, value):
			report("%s is %q, which matches %s", name, value, pattern)
		}
	}
	if r.NoBody && len(a.Body) > 0 {
		report("%d bytes of content: %.80q", len(a.Body), a.Body)
	}
	if r.BodyRe != "" && !match(r.BodyRe, string(a.Body)) {
		report("content %.200q, want a match of %s", a.Body, r.BodyRe)
	}
	if r.BodyNo != "" && match(r.BodyNo, string(a.Body)) {
		report("content %.200q, which matches %s", a.Body, r.BodyNo)
	}
	if r.SameAs != "" {
		if same == nil {
			report("no answer of %s to compare with", r.SameAs)
		} else {
			problems = append(problems, a.differences(same, r.SameAs)...)
		}
	}
	return problems
}

// field returns the value of a field, its lines joined as RFC 9110 section 5.3
// does it.
func (a *Answer) field(name string) (string, bool) {
	values := a.Header.Values(name)
	return strings.Join(values, ", "), len(values) > 0
}

// differences compares two answers byte for byte, the order of their field lines
// included. Only Date may differ.
func (a *Answer) differences(b *Answer, name string) (problems []string) {
	withoutDate := func(lines []string) []string {
		return slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
			return strings.HasPrefix(strings.ToLower(line), "date:")
		})
	}
	if x, y := withoutDate(a.Head), withoutDate(b.Head); !slices.Equal(x, y) {
		problems = append(problems, fmt.Sprintf("header differs from %s:\n\t%q\n\t%q", name, x, y))
	}
	if !bytes.Equal(a.Body, b.Body) {
		problems = append(problems, fmt.Sprintf("content differs from %s:\n\t%.300q\n\t%.300q", name, a.Body, b.Body))
	}
	return problems
}
