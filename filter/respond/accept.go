package respond

import (
	"iter"
	"strings"
)

// Format is a form in which an answer can be written.
type Format uint8

// The formats, in the order in which they are preferred where the client leaves
// the choice open. A client that takes anything (*/*, or no Accept at all) is
// mostly a program, and gets the form that programs can read; browsers name
// text/html themselves.
const (
	ProblemJSON Format = iota // application/problem+json (RFC 9457), also for application/json
	HTML                      // text/html
	Text                      // text/plain

	formatCount
)

// MediaType returns the value of Content-Type.
func (f Format) MediaType() string {
	switch f {
	case HTML:
		return "text/html; charset=utf-8"
	case Text:
		return "text/plain; charset=utf-8"
	}
	return "application/problem+json"
}

// names are the media types of the formats. The second one is taken as another
// name of the first: whoever reads JSON reads a problem document.
var names = [formatCount][2]string{
	ProblemJSON: {"application/problem+json", "application/json"},
	HTML:        {"text/html"},
	Text:        {"text/plain"},
}

// What is read of Accept. The rest of a longer one is not looked at.
const (
	maxAcceptRanges = 64
	maxAcceptBytes  = 4 << 10
)

// rank says how precisely a media range names a format; a higher one takes
// precedence (RFC 9110 section 12.5.1).
type rank uint8

const (
	unnamed      rank = iota
	anything          // */*
	anySubtype        // text/*
	otherNameFor      // application/json;v=1 for application/problem+json
	otherName         // application/json for application/problem+json
	namedWith         // text/html;level=1: not what we have, but close
	named             // text/html, text/html;charset=utf-8
)

// match is the weight that a client gives a format.
type match struct {
	rank   rank
	weight int // 0 to 1000
}

// Negotiate returns the format that the lines of Accept ask for (RFC 9110 section
// 12.5.1): the one of the highest weight; among equals one that is named before
// one that a wildcard stands for; among those the order of the formats.
//
// Ranges that break the grammar are ignored. A client that takes none of the
// formats is served all the same, as section 15.5.7 allows: a refusal in a form
// that was not asked for tells more than a 406. A format that it refuses with
// q=0 is the last resort.
func Negotiate(accept []string) Format {
	var matches [formatCount]match
	for element := range mediaRanges(accept) {
		consider(&matches, element)
	}
	best := Format(0)
	for f := Format(1); f < formatCount; f++ {
		if matches[f].preferredTo(matches[best]) {
			best = f
		}
	}
	return best
}

// mediaRanges yields the elements of the lines, within the bounds.
func mediaRanges(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		left := maxAcceptBytes
		for n := 0; len(lines) > 0; lines = lines[1:] {
			rest, more := lines[0], true
			for more {
				if n++; n > maxAcceptRanges || left <= 0 {
					return
				}
				window := rest[:min(len(rest), left)]
				element, after, found := cutQuoted(window, ',')
				if !found && len(window) < len(rest) || !yield(element) {
					return
				}
				used := len(window) - len(after)
				left -= used
				rest, more = rest[used:], found
			}
		}
	}
}

// consider takes one media range into account.
func consider(matches *[formatCount]match, element string) {
	media, params, _ := strings.Cut(element, ";")
	media = trim(media)
	weight, foreign, ok := readParameters(params)
	if !ok || !isMediaRange(media) {
		return
	}
	for f := range matches {
		m, k := &matches[f], rankOf(Format(f), media, foreign)
		if k > m.rank || k == m.rank && k != unnamed && weight > m.weight {
			*m = match{k, weight}
		}
	}
}

// rankOf returns how precisely a media range names a format. Foreign says that it
// has parameters that our media types do not have.
func rankOf(f Format, media string, foreign bool) rank {
	name := names[f]
	switch {
	case strings.EqualFold(media, name[0]):
		if foreign {
			return namedWith
		}
		return named
	case name[1] != "" && strings.EqualFold(media, name[1]):
		if foreign {
			return otherNameFor
		}
		return otherName
	case media == "*/*":
		return anything
	case strings.HasSuffix(media, "/*"):
		slash := strings.IndexByte(name[0], '/')
		if strings.EqualFold(media[:len(media)-2], name[0][:slash]) {
			return anySubtype
		}
	}
	return unnamed
}

// preferredTo reports whether a format of match m is preferred to one of match o
// that comes before it in the order of the formats.
func (m match) preferredTo(o match) bool {
	if a, b := m.score(), o.score(); a != b {
		return a > b
	}
	return min(m.rank, otherNameFor) > min(o.rank, otherNameFor)
}

// score orders the weights, with what was not mentioned above what was refused.
func (m match) score() int {
	if m.rank != unnamed && m.weight == 0 {
		return -1
	}
	return m.weight
}

// readParameters reads the parameters of a media range. It is not ok if they
// break the grammar. What follows the weight is not part of the media type.
func readParameters(params string) (weight int, foreign, ok bool) {
	weight = 1000
	for more := params != ""; more; {
		var p string
		p, params, more = cutQuoted(params, ';')
		if p = trim(p); p == "" {
			continue
		}
		name, value, ok := strings.Cut(p, "=")
		if !ok || !isToken(name) {
			return 0, false, false
		}
		if strings.EqualFold(name, "q") {
			weight, ok = parseWeight(value)
			return weight, foreign, ok
		}
		if isQuotedString(value) {
			value = value[1 : len(value)-1]
		} else if !isToken(value) {
			return 0, false, false
		}
		if !strings.EqualFold(name, "charset") || !strings.EqualFold(value, "utf-8") {
			foreign = true
		}
	}
	return weight, foreign, true
}

// parseWeight reads a qvalue (RFC 9110 section 12.4.2) in thousandths.
func parseWeight(s string) (int, bool) {
	if len(s) == 0 || len(s) > len("0.000") || s[0] != '0' && s[0] != '1' || len(s) > 1 && s[1] != '.' {
		return 0, false
	}
	weight, digit := int(s[0]-'0')*1000, 100
	for i := 2; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		weight += int(s[i]-'0') * digit
		digit /= 10
	}
	return weight, weight <= 1000
}

// cutQuoted cuts s at the first separator outside quoted strings.
func cutQuoted(s string, sep byte) (before, after string, found bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == sep && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// isQuotedString reports whether s is one quoted string (RFC 9110 section 5.6.4).
func isQuotedString(s string) bool {
	if len(s) < 2 || s[0] != '"' {
		return false
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i == len(s)-1
		}
	}
	return false
}

// isMediaRange reports whether s is */*, type/* or type/subtype.
func isMediaRange(s string) bool {
	typ, subtype, ok := strings.Cut(s, "/")
	return ok && isToken(typ) && isToken(subtype) && (typ != "*" || subtype == "*")
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case c >= 0x80 || strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0:
			return false
		}
	}
	return s != ""
}

// trim removes optional whitespace (RFC 9110 section 5.6.3) from both ends.
func trim(s string) string { return strings.Trim(s, " \t") }
