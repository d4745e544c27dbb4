package respond

import (
	"net/http"
	"strconv"
	"time"

	"github.com/moatwaf/moat/filter"
)

// maxInteger is the largest integer of a structured field (RFC 9651 section 3.3.1).
const maxInteger = 999_999_999_999_999

// setLimit sets the fields that tell a client when to come back: Retry-After
// (RFC 9110 section 10.2.3) and the fields of
// draft-ietf-httpapi-ratelimit-headers-11. Times are whole seconds, rounded up:
// who waits as long as it was told is let in.
func setLimit(h http.Header, l *filter.Limit) {
	reset := seconds(l.Reset)
	h.Set("Retry-After", strconv.FormatInt(reset, 10))

	tier := appendString(make([]byte, 0, len(l.Tier)+48), l.Tier)

	state := appendInteger(append(tier, ";r="...), int64(l.Remaining))
	h.Set("RateLimit", string(appendInteger(append(state, ";t="...), reset)))

	policy := appendInteger(append(tier, ";q="...), int64(l.Quota))
	h.Set("RateLimit-Policy", string(appendInteger(append(policy, ";w="...), seconds(l.Window))))
}

// seconds rounds up to whole seconds, one at least.
func seconds(d time.Duration) int64 {
	if d <= time.Second {
		return 1
	}
	return int64((d-1)/time.Second) + 1
}

func appendInteger(b []byte, n int64) []byte {
	return strconv.AppendInt(b, min(max(n, 0), maxInteger), 10)
}

// appendString appends a string item (RFC 9651 section 3.3.3), which holds
// printable ASCII only. Any other byte becomes a question mark.
func appendString(b []byte, s string) []byte {
	if s == "" {
		s = "default" // the item must name the policy
	}
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
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
