package profile

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/respond"
)

// Cause is what a profile tells apart.
type Cause uint8

// The causes, by the names that profiles give them.
const (
	NoCredentials        Cause = iota // no_credentials
	BadCredentials                    // bad_credentials
	MalformedCredentials              // malformed_credentials
	Forbidden                         // forbidden: a role or a condition is missing
	InsufficientScope                 // insufficient_scope
	Concealed                         // concealed, and a missing path where the policy conceals
	Rule                              // rule: address, country, expression
	Payload                           // payload
	RateLimit                         // rate_limit
	Oversize                          // oversize
	Malformed                         // malformed
	Unavailable                       // unavailable

	causeCount
)

var causeNames = [causeCount]string{
	"no_credentials", "bad_credentials", "malformed_credentials", "forbidden", "insufficient_scope", "concealed",
	"rule", "payload", "rate_limit", "oversize", "malformed", "unavailable",
}

// causeOf returns the cause of a refusal.
func causeOf(d filter.Decision) Cause {
	if d.Verdict == filter.Challenge {
		switch d.Reason {
		case filter.ReasonNoCredentials:
			return NoCredentials
		case filter.ReasonMalformed:
			return MalformedCredentials
		}
		return BadCredentials
	}
	switch d.Reason {
	case filter.ReasonNoCredentials: // nobody can be asked for them
		return NoCredentials
	case filter.ReasonBadCredentials:
		return BadCredentials
	case filter.ReasonRateLimit:
		return RateLimit
	case filter.ReasonPayload:
		return Payload
	case filter.ReasonOversize:
		return Oversize
	case filter.ReasonMalformed:
		return Malformed
	case filter.ReasonForbidden:
		if len(d.Challenges) > 0 {
			return InsufficientScope
		}
		return Forbidden
	case filter.ReasonConcealed:
		return Concealed
	case filter.ReasonUnavailable:
		return Unavailable
	}
	return Rule
}

// answer is what a profile says to one cause.
type answer struct {
	status      int // 0 takes that of the decision
	header      []field
	contentType string
	body        template
	html        template // for clients that prefer HTML; nil: body for all
	own         bool     // challenges are these, not the policy's
	challenges  []string
}

// field is a header field: its canonical name and its value.
type field struct {
	name  string
	value template
}

// Profile writes refusals. It is immutable and safe for concurrent use. It is made by
// Read and ByName; the zero Profile refuses without content.
type Profile struct {
	answers [causeCount]answer
	strict  bool
}

// Strict returns the profile with what RFC 9110 wants and the original leaves out.
func (p *Profile) Strict() *Profile {
	strict := *p
	strict.strict = true
	return &strict
}

// NotFound answers like the refusal of a concealed resource.
func (p *Profile) NotFound(w http.ResponseWriter, r *http.Request) {
	p.Write(w, r, filter.Decision{Verdict: filter.Block, Reason: filter.ReasonConcealed})
}

// Write answers with the refusal d. A decision that refuses nothing is answered with
// 503, because the caller took it for a refusal.
func (p *Profile) Write(w http.ResponseWriter, r *http.Request, d filter.Decision) {
	if !d.Refuses() {
		d = filter.Decision{Verdict: filter.Block, Reason: filter.ReasonUnavailable}
	}
	if respond.Login(w, r, d) {
		return
	}
	cause := causeOf(d)
	a := &p.answers[cause]
	// Whoever can do something about it is told how, by status and challenge.
	strict := p.strict && (d.Verdict == filter.Challenge || cause == NoCredentials || cause == BadCredentials || cause == InsufficientScope)
	h := w.Header()
	if !p.strict {
		// What other tiers have announced is of another convention.
		h.Del("RateLimit")
		h.Del("RateLimit-Policy")
	}
	asked := d // for the fields that every refusal has
	limit := d.Limit
	asked.Limit = nil
	status := respond.SetHeader(h, asked)
	if a.status != 0 && !strict {
		status = a.status
	}
	challenges := h["Www-Authenticate"]
	if a.own && !strict {
		challenges = a.challenges
	}
	delete(h, "Www-Authenticate")
	if len(challenges) > 0 && (status == http.StatusUnauthorized || status == http.StatusBadRequest || status == http.StatusForbidden) {
		h["Www-Authenticate"] = slices.Clone(challenges)
	}
	v := values{status: status, limit: limit, now: time.Now}
	if limit != nil {
		h.Set("Retry-After", strconv.FormatInt(v.reset(), 10))
	}
	body, contentType := a.body, a.contentType
	if a.html != nil {
		respond.AddVary(h)
		if respond.Negotiate(r.Header["Accept"]) == respond.HTML {
			body, contentType = a.html, "text/html; charset=utf-8"
		}
	}
	for _, f := range a.header {
		h[f.name] = []string{string(f.value.append(nil, &v))}
	}
	h.Set("X-Content-Type-Options", "nosniff")
	content := body.append(nil, &v)
	h.Del("Content-Type")
	if len(content) > 0 {
		h.Set("Content-Type", contentType)
	}
	h.Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(content) // the client is gone: there is nobody left to tell
	}
}
