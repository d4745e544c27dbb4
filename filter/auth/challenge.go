package auth

import (
	"fmt"
	"strings"
)

// appendParam appends a parameter of a challenge as a quoted string (RFC 9110
// section 5.6.4). The separator stands before every parameter but the first. The
// value is printable ASCII: what is not becomes a question mark.
func appendParam(b []byte, name, value string) []byte {
	if len(b) > 0 && b[len(b)-1] != ' ' {
		b = append(b, ", "...)
	}
	b = append(append(b, name...), '=', '"')
	for i := range len(value) {
		switch c := value[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c > '~':
			b = append(b, '?')
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// checkRealm refuses a realm that would have to be changed to be sent.
func checkRealm(realm string) error {
	if realm == "" {
		return fmt.Errorf("the realm is empty: name what the credentials are for")
	}
	if len(realm) > 256 {
		return fmt.Errorf("the realm has %d bytes, 256 are allowed", len(realm))
	}
	if !isPrintable(realm) {
		return fmt.Errorf("the realm %q holds a character that is not printable ASCII", realm)
	}
	return nil
}

// isPrintable reports whether s is printable ASCII.
func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}

// isScope reports whether s is a scope token (RFC 6749 section 3.3).
func isScope(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c > '~' || c == '"' || c == '\\'
	})
}
