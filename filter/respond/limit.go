package respond

import (
	"net/http"
	"strconv"
	"time"

	"github.com/moatwaf/moat/filter"
)

// maxInteger is the largest integer of a structured field (RFC 9651 section 3.3.1).
const maxInteger = 999_999_999_999_999

// setLimit sets the fields that tell a refused client when to come back:
// Retry-After (RFC 9110 section 10.2.3) and the fields of
// draft-ietf-httpapi-ratelimit-headers-11. Times are whole seconds, rounded up:
// who waits as long as it was told is let in.
func setLimit(h http.Header, l *filter.Limit) {
	h.Set("Retry-After", strconv.FormatInt(seconds(l.Reset), 10))
	told := *l
	if !told.Concurrent {
		told.Reset = max(told.Reset, 1)
	}
	SetLimits(h, []filter.Limit{told})
}

// SetLimits sets the RateLimit fields for an answer that no tier refuses, one
// member for each limit. A host calls it with Request.Limits before the answer;
// without limits it does nothing.
func SetLimits(h http.Header, limits []filter.Limit) {
	if len(limits) == 0 {
		return
	}
	state := make([]byte, 0, 64*len(limits))
	policy := make([]byte, 0, 64*len(limits))
	for i := range limits {
		l := &limits[i]
		if i > 0 {
			state, policy = append(state, ", "...), append(policy, ", "...)
		}
		state = appendInteger(append(appendString(state, l.Tier), ";r="...), int64(l.Remaining))
		if l.Reset > 0 {
			state = appendInteger(append(state, ";t="...), seconds(l.Reset))
		}
		policy = appendInteger(append(appendString(policy, l.Tier), ";q="...), int64(l.Quota))
		if l.Concurrent {
			policy = append(policy, `;qu="concurrent-requests"`...)
		} else {
			policy = appendInteger(append(policy, ";w="...), seconds(l.Window))
		}
	}
	h.Set("RateLimit", string(state))
	h.Set("RateLimit-Policy", string(policy))
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
