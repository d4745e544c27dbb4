package clientip

import (
	"net/netip"
	"strings"
)

// forwardedElement takes the last element off a line of Forwarded (RFC 7239
// section 4).
//
// The line is read from the right for the same reason as X-Forwarded-For: what a
// client wrote at its beginning, a quotation mark that nobody closes among it,
// must not change how the elements of the trusted proxies are read.
func forwardedElement(line string) (rest string, more bool, a netip.Addr, st state) {
	comma, ok := lastComma(line)
	if comma >= 0 {
		rest, more = line[:comma], true
	}
	if !ok {
		return rest, more, netip.Addr{}, isInvalid
	}
	element := trim(line[comma+1:])
	if element == "" {
		return rest, more, netip.Addr{}, isEmpty
	}
	node, found, ok := forParameter(element)
	switch {
	case !ok:
		return rest, more, netip.Addr{}, isInvalid
	case !found:
		return rest, more, netip.Addr{}, isHidden
	}
	a, st = parseForwardedNode(node)
	return rest, more, a, st
}

// lastComma returns the place of the last comma outside quoted strings, -1 if
// there is none. It is not ok if a quoted string has no beginning.
//
// Outside a quoted string there is no backslash, and before its opening mark
// stands an equals sign. So the mark that ends a string, and the one that begins
// it, are those before which the number of backslashes is even, and reading from
// the right finds the same strings as reading from the left.
func lastComma(line string) (int, bool) {
	quoted := false
	for i := len(line) - 1; i >= 0; i-- {
		switch line[i] {
		case '"':
			slashes := 0
			for slashes < i && line[i-1-slashes] == '\\' {
				slashes++
			}
			if slashes%2 == 0 {
				quoted = !quoted
			} else if !quoted {
				return -1, false
			}
			i -= slashes
		case ',':
			if !quoted {
				return i, true
			}
		}
	}
	return -1, !quoted
}

// forParameter returns the value of the for parameter of an element, and whether
// it has one. It is not ok if the element breaks the grammar or names the
// parameter twice, which RFC 7239 section 4 forbids.
//
// It takes more than the grammar in two ways that leave no doubt: whitespace
// around semicolons, and colons and brackets in values without quotation marks.
func forParameter(element string) (value string, found, ok bool) {
	for element != "" {
		pair, rest, ok := cutPair(element)
		if !ok {
			return "", false, false
		}
		element = rest
		if pair = trim(pair); pair == "" {
			continue
		}
		name, v, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return "", false, false
		}
		for i := range len(name) {
			if !isToken(name[i]) {
				return "", false, false
			}
		}
		if v, ok = unquote(v); !ok {
			return "", false, false
		}
		if strings.EqualFold(name, "for") {
			if found {
				return "", false, false
			}
			value, found = v, true
		}
	}
	return value, found, true
}

// cutPair cuts an element at its first semicolon outside quoted strings.
func cutPair(element string) (pair, rest string, ok bool) {
	quoted := false
	for i := 0; i < len(element); i++ {
		switch c := element[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == ';' && !quoted:
			return element[:i], element[i+1:], true
		}
	}
	return element, "", !quoted
}

// unquote returns the value of a parameter: a token, or the content of a quoted
// string without its escapes (RFC 9110 section 5.6.4).
func unquote(v string) (string, bool) {
	if v == "" {
		return "", false
	}
	if v[0] != '"' {
		for i := range len(v) {
			if c := v[i]; !isToken(c) && c != ':' && c != '[' && c != ']' {
				return "", false
			}
		}
		return v, true
	}
	if len(v) < 2 || v[len(v)-1] != '"' {
		return "", false
	}
	v = v[1 : len(v)-1]
	if strings.IndexByte(v, '"') < 0 && strings.IndexByte(v, '\\') < 0 {
		return v, isText(v)
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '"' {
			return "", false
		}
		if v[i] == '\\' {
			if i++; i == len(v) {
				return "", false
			}
		}
		b.WriteByte(v[i])
	}
	return b.String(), isText(v)
}

// isText reports whether s holds no control character but the tab.
func isText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// parseForwardedNode reads a node identifier (RFC 7239 section 6): an address,
// "unknown" or an obfuscated name, each with an optional port.
func parseForwardedNode(s string) (netip.Addr, state) {
	name, port, hasPort := strings.Cut(s, ":")
	if strings.EqualFold(name, "unknown") || isObfuscated(name) {
		if hasPort && !isPort(port, true) {
			return netip.Addr{}, isInvalid
		}
		return netip.Addr{}, isHidden
	}
	a, ok := parseNode(s, true)
	if !ok {
		return netip.Addr{}, isInvalid
	}
	return a, isAddress
}
