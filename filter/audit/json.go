package audit

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// timeLayout is RFC 3339 with all nine digits of the second, so that lines sort
// as text in the order of their time.
const timeLayout = "2006-01-02T15:04:05.000000000Z07:00"

const hexDigits = "0123456789abcdef"

// object appends the members of one JSON object to a buffer. Keys are constants
// that need no escaping.
type object struct {
	buf       []byte
	truncated bool
}

func (o *object) key(name string) {
	if last := o.buf[len(o.buf)-1]; last != '{' {
		o.buf = append(o.buf, ',')
	}
	o.buf = append(o.buf, '"')
	o.buf = append(o.buf, name...)
	o.buf = append(o.buf, '"', ':')
}

func (o *object) time(name string, t time.Time) {
	o.key(name)
	o.buf = append(o.buf, '"')
	o.buf = t.UTC().AppendFormat(o.buf, timeLayout)
	o.buf = append(o.buf, '"')
}

func (o *object) int(name string, n int64) {
	o.key(name)
	o.buf = strconv.AppendInt(o.buf, n, 10)
}

func (o *object) addr(name string, a netip.Addr) {
	o.key(name)
	o.buf = append(o.buf, '"')
	o.buf = a.AppendTo(o.buf)
	o.buf = append(o.buf, '"')
}

func (o *object) ints(name string, list []int) {
	o.key(name)
	o.buf = append(o.buf, '[')
	for i, n := range list {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = strconv.AppendInt(o.buf, int64(n), 10)
	}
	o.buf = append(o.buf, ']')
}

// text writes s, which may come from a client, cut to limit bytes.
func (o *object) text(name, s string, limit int) {
	if len(s) > limit {
		s = cut(s, limit)
		o.truncated = true
	}
	o.key(name)
	o.buf = appendString(o.buf, s)
}

// cut returns at most limit bytes of s, and does not cut a character in two.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for back := 0; back < utf8.UTFMax-1 && limit-back > 0; back++ {
		if utf8.RuneStart(s[limit-back]) {
			return s[:limit-back]
		}
	}
	return s[:limit] // no UTF-8; appendString replaces the bytes
}

// plain marks the bytes that stand for themselves in a JSON string.
var plain = func() (table [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		table[c] = c != '"' && c != '\\' && c != 0x7f
	}
	return table
}()

// appendString appends s as a JSON string (RFC 8259 section 7). Beyond what JSON
// demands it escapes DEL, the C1 control characters and the line separators
// U+2028 and U+2029, so that a line stays one line, and harmless, on a terminal
// and in a script. Bytes that are no UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r < 0xa0 || r == '\u2028' || r == '\u2029' {
			b = append(b, s[start:i]...)
			b = append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
			start = i + size
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
