package auth

import (
	"slices"
	"time"

	"github.com/moatwaf/moat/filter"
)

// staleProof reports whether a caller has to prove anew who they are (RFC 9470
// section 3), and how.
func (q *requirement) staleProof(now time.Time, who *filter.Identity) (p Problem, stale bool) {
	if len(q.acr) == 0 && q.maxAge == 0 {
		return Problem{}, false
	}
	p = Problem{Kind: StaleProof, ACR: q.acr, MaxAge: q.maxAge, Description: "A stronger or more recent authentication is needed"}
	if acr, _ := who.Claims["acr"].(string); len(q.acr) > 0 && !slices.Contains(q.acr, acr) {
		return p, true
	}
	if q.maxAge > 0 {
		at, ok := who.Claims["auth_time"].(float64)
		age := float64(now.UnixMilli())/1e3 - at
		// A proof of the future is one of a clock that goes wrong.
		if !ok || age > q.maxAge.Seconds() || age < -DefaultSkew.Seconds() {
			return p, true
		}
	}
	return Problem{}, false
}
