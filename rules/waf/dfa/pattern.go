package dfa

import (
	"fmt"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Pattern is one question about a value. Make it with [Regexp] and the other
// functions; the zero value matches every value.
type Pattern struct {
	kind    kind
	text    string
	phrases []string
	allowed *[256]bool
	fold    bool // ASCII letters of text in either case
	lower   bool // the value is seen as strings.ToLower gives it
}

type kind uint8

const (
	kindAny kind = iota
	kindRegexp
	kindBytesRegexp
	kindContains
	kindHasPrefix
	kindHasSuffix
	kindEqual
	kindWithin
	kindPhrases
	kindBytesOutside
)

// Regexp matches what Coraza's @rx with this argument matches: expr in the
// syntax of package regexp with (?sm) in front, or, if its \x escapes are not
// valid UTF-8, as rsc.io/binaryregexp takes it: bytes, and no flags in front.
func Regexp(expr string) Pattern {
	if matchesBytes("(?sm)" + expr) {
		return BytesRegexp(expr)
	}
	return PlainRegexp("(?sm)" + expr)
}

// PlainRegexp matches what package regexp matches.
func PlainRegexp(expr string) Pattern { return Pattern{kind: kindRegexp, text: expr} }

// BytesRegexp matches what rsc.io/binaryregexp matches: each byte of the value
// is the character of that number, U+0000 to U+00FF.
func BytesRegexp(expr string) Pattern { return Pattern{kind: kindBytesRegexp, text: expr} }

// Contains matches a value that contains s.
func Contains(s string) Pattern { return Pattern{kind: kindContains, text: s} }

// HasPrefix matches a value that begins with s.
func HasPrefix(s string) Pattern { return Pattern{kind: kindHasPrefix, text: s} }

// HasSuffix matches a value that ends with s.
func HasSuffix(s string) Pattern { return Pattern{kind: kindHasSuffix, text: s} }

// Equal matches the value s.
func Equal(s string) Pattern { return Pattern{kind: kindEqual, text: s} }

// Within matches a value that s contains, the empty value too (@within).
func Within(s string) Pattern { return Pattern{kind: kindWithin, text: s} }

// Phrases matches a value that contains one of the phrases, ASCII letters in
// either case (@pm, @pmFromFile). An empty phrase is in every value, and
// without phrases nothing matches.
func Phrases(phrases []string) Pattern {
	return Pattern{kind: kindPhrases, phrases: phrases, fold: true}
}

// BytesOutside matches a value with a byte b for which allowed[b] is false
// (@validateByteRange). The empty value has none.
func BytesOutside(allowed [256]bool) Pattern {
	return Pattern{kind: kindBytesOutside, allowed: &allowed}
}

// Fold returns the pattern with the ASCII letters of its text in either case.
// It means nothing for expressions, which have (?i), and for [BytesOutside].
func (p Pattern) Fold() Pattern {
	p.fold = true
	return p
}

// Lowered returns the pattern for values that are to be lower-cased first, as
// Coraza's t:lowercase does it (strings.ToLower: all of Unicode, invalid bytes
// become U+FFFD), so that the scan reads the original and no copy is made.
func (p Pattern) Lowered() Pattern {
	p.lower = true
	return p
}

// bytewise reports whether the pattern has to see bytes and not characters.
func (p *Pattern) bytewise() bool {
	switch p.kind {
	case kindBytesRegexp:
		return true
	case kindContains, kindHasPrefix, kindHasSuffix, kindEqual:
		// UTF-8 is self-synchronizing: valid text is found among characters
		// exactly where it is found among bytes. U+FFFD is also what an invalid
		// byte reads as.
		return !utf8.ValidString(p.text) || strings.ContainsRune(p.text, utf8.RuneError)
	case kindWithin:
		// A value may be a part of a character of s.
		return !ascii(p.text)
	case kindPhrases:
		for _, s := range p.phrases {
			if !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError) {
				return true
			}
		}
	case kindBytesOutside:
		for b := 0x81; b <= 0xFF; b++ {
			if p.allowed[b] != p.allowed[0x80] {
				return true
			}
		}
	}
	return false
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// matchesBytes reports whether Coraza hands expr to binaryregexp: whether its
// bytes, each \x escape as the byte or character that it stands for, are not
// valid UTF-8. The reading of escapes is Coraza's, its slips included, because
// the meaning of the expression hangs on it.
func matchesBytes(expr string) bool {
	var decoded []byte
	for i := 0; i < len(expr); i++ {
		if expr[i] != '\\' {
			decoded = append(decoded, expr[i])
			continue
		}
		rest := expr[i:]
		if len(rest) <= 3 {
			decoded = append(decoded, rest...)
			break
		}
		escape, width := rest, 4
		if rest[1] != 'x' {
			decoded = append(decoded, '\\')
			continue
		}
		if len(rest) >= 6 && rest[2] == '{' {
			if end := strings.IndexByte(rest, '}'); end >= 0 {
				escape, width = `\x`+rest[3:end], end+1
			}
		}
		v, multibyte, _, err := strconv.UnquoteChar(escape, 0)
		if err != nil || multibyte {
			decoded = append(decoded, '\\')
			continue
		}
		decoded = append(decoded, byte(v))
		i += width - 1
	}
	return !utf8.Valid(decoded)
}

// expression parses the pattern's regular expression.
func (p *Pattern) expression() (*syntax.Regexp, error) {
	re, err := syntax.Parse(p.text, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("dfa: %w", err)
	}
	return re, nil
}
