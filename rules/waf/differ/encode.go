package differ

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"unicode/utf8"
)

// eachByte writes some bytes of a text in another way: one in n of them.
func eachByte(r *rand.Rand, s string, n int, write func(byte) string) string {
	var b strings.Builder
	for i := range len(s) {
		if n <= 1 || chance(r, n) {
			b.WriteString(write(s[i]))
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// confusables are characters that folding, best-fit maps or decoders take for ASCII.
var confusables = map[rune][]string{
	's': {"ſ", "ｓ"}, 'S': {"ſ", "Ｓ"}, 'k': {"\u212a", "ｋ"}, 'K': {"\u212a"}, '\'': {"\u2019", "\u02b9", "\uff07"}, '"': {"\u201d", "\uff02"}, '<': {"\uff1c", "\u2039"},
	'>': {"\uff1e"}, '(': {"\uff08"}, '/': {"\u2215", "\uff0f"}, '\\': {"\uff3c"}, '.': {"\u2024", "\uff0e"}, 'i': {"\u0131", "\u0130"}, 'a': {"\u0430", "ａ"}, 'e': {"\u0435"}, ';': {"\u037e"},
}

// encodings write a text as an attacker hides it.
var encodings = []func(*rand.Rand, string) string{
	func(_ *rand.Rand, s string) string { return url.QueryEscape(s) },
	func(_ *rand.Rand, s string) string { return url.QueryEscape(url.QueryEscape(s)) },
	func(r *rand.Rand, s string) string { // percent, some bytes, both cases
		return eachByte(r, s, 1+r.IntN(3), func(c byte) string { return fmt.Sprintf(oneOf(r, "%%%02x", "%%%02X", "%%25%02x"), c) })
	},
	func(r *rand.Rand, s string) string { // %u
		return eachByte(r, s, 1+r.IntN(3), func(c byte) string { return fmt.Sprintf(oneOf(r, "%%u00%02x", "%%U00%02X", "%%uff%02x"), c) })
	},
	func(r *rand.Rand, s string) string { // HTML entities
		return eachByte(r, s, 1+r.IntN(3), func(c byte) string {
			return fmt.Sprintf(oneOf(r, "&#%d;", "&#x%x;", "&#%d", "&#X%X;", "&#00000%d;"), c)
		})
	},
	func(_ *rand.Rand, s string) string {
		return strings.NewReplacer("<", "&lt;", ">", "&gt", "\"", "&quot;", "&", "&amp;", "'", "&apos;", "(", "&lpar;", ":", "&colon;").Replace(s)
	},
	func(r *rand.Rand, s string) string { // overlong UTF-8
		return eachByte(r, s, 1+r.IntN(3), func(c byte) string {
			if c >= 0x80 {
				return string([]byte{c})
			}
			return string(oneOf(r, []byte{0xc0 | c>>6, 0x80 | c&0x3f}, []byte{0xe0, 0x80 | c>>6, 0x80 | c&0x3f}))
		})
	},
	func(r *rand.Rand, s string) string { // mixed case
		return eachByte(r, s, 2, func(c byte) string { return oneOf(r, strings.ToUpper, strings.ToLower)(string(rune(c))) })
	},
	func(r *rand.Rand, s string) string { // confusables
		var b strings.Builder
		for _, c := range s {
			if other := confusables[c]; other != nil && !chance(r, 3) {
				b.WriteString(oneOf(r, other...))
			} else {
				b.WriteRune(c)
			}
		}
		return b.String()
	},
	func(r *rand.Rand, s string) string { // backslashes of JavaScript, CSS and C
		return eachByte(r, s, 1+r.IntN(4), func(c byte) string { return fmt.Sprintf(oneOf(r, `\x%02x`, `\u00%02x`, `\%03o`, `\%x `, `\%c`), c) })
	},
	func(r *rand.Rand, s string) string { // comments and whitespace for spaces
		return strings.ReplaceAll(s, " ", oneOf(r, "/**/", "/*x*/", "\t", "\n", "\r\n", "\v", "\f", "+", "%0a", "\u00a0", "  ", "/*!50000*/", "--\n", "#\n"))
	},
	func(r *rand.Rand, s string) string { // NULs, soft hyphens, escapes between the letters
		return eachByte(r, s, 4, func(c byte) string {
			return string([]byte{c}) + oneOf(r, "\x00", "%00", "\u00ad", "^", "\"\"", "''", "\\", "/**/", "\u200b")
		})
	},
	func(_ *rand.Rand, s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	func(r *rand.Rand, s string) string { // base64 with noise
		e := base64.RawStdEncoding.EncodeToString([]byte(s))
		at := r.IntN(len(e) + 1)
		return e[:at] + oneOf(r, " ", "\n", ".", "=", "-", "") + e[at:]
	},
	func(_ *rand.Rand, s string) string { return hex.EncodeToString([]byte(s)) },
	func(r *rand.Rand, s string) string { // quoted and split
		at := r.IntN(len(s) + 1)
		return s[:at] + oneOf(r, "'+'", "\"+\"", "'||'", "' '", "$@", "${x}", "`", "\\\n") + s[at:]
	},
	func(r *rand.Rand, s string) string { // UTF-7 and UTF-16
		if chance(r, 2) {
			return strings.NewReplacer("<", "+ADw-", ">", "+AD4-", "\"", "+ACI-").Replace(s)
		}
		return eachByte(r, s, 1, func(c byte) string { return string([]byte{c, 0}) })
	},
}

// encode hides a text in one to three layers.
func encode(r *rand.Rand, s string) string {
	for range 1 + r.IntN(3) {
		if len(s) > 8000 {
			return s
		}
		s = oneOf(r, encodings...)(r, s)
	}
	return s
}

// pieces are what a text is damaged with.
var pieces = []string{"%", "+", "&", "=", "\\", "/*", "*/", "--", "#", "\x00", " ", "\t", "'", "\"", "<", ">", "%00", "%u0027", "&lt;", "&#x27;", "&#",
	"\\u0027", "\\x3c", "\u212a", "ſ", "\xff", "\xc0\xaf", "\xe2\x80", "..", "/", ";", "^", "UNION", "select", "<script>", "%2e%2e%2f", "A", "%c0%ae", "\u00a0", "\r\n",
	"=%", "%%", "%u", "%4", "%zz", "|", "`", "$(", "{{", "}", "[", "]", "?", "&&", "&;", "://", "@", ",", "\x1b", "\x7f", "\x85", "\ufeff", "\u2028", "1=1", "0x27", "or 1", "sleep(5)", ";id", "../"}

// damage changes a few places of a text.
func damage(r *rand.Rand, s string) string {
	for range 1 + r.IntN(3) {
		at := r.IntN(len(s) + 1)
		switch r.IntN(6) {
		case 0, 1:
			s = s[:at] + oneOf(r, pieces...) + s[at:]
		case 2:
			s = s[:at] + s[min(len(s), at+1+r.IntN(3)):]
		case 3:
			end := min(len(s), at+r.IntN(20))
			s = s[:at] + oneOf(r, strings.ToUpper, strings.ToLower, strings.ToTitle)(s[at:end]) + s[end:]
		case 4:
			if at < len(s) {
				s = s[:at] + string([]byte{s[at] ^ 1<<r.IntN(8)}) + s[at+1:]
			}
		case 5:
			end := min(len(s), at+r.IntN(30))
			s = s[:at] + encode(r, s[at:end]) + s[end:]
		}
	}
	return s
}

// fieldValue makes a text that net/http takes as the value of a field.
func fieldValue(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' && c != '\t' || c == 0x7f {
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, "\u00e9"))
}

// targetText makes a text that net/http takes within a request target.
func targetText(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || c == '#' || c >= utf8.RuneSelf {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
