// Package respond turns a decision that refuses a request into the HTTP answer.
//
// The answer says what the status contract allows and no more: a status, general
// words, and the header fields that help a well-meaning client (challenges, the
// time after which to try again). It never names the rule, the payload or the
// engine.
//
// Nothing of the request's body is read. What the client still sends is net/http's
// affair: it drains a small rest and closes the connection over a large one. A
// client that waits for 100 (Continue) gets the refusal as its final answer.
package respond

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/moatwaf/moat/filter"
)

// DefaultProfile is the name of the profile that a policy has if it names none.
const DefaultProfile = "default"

// Responder writes refusals in one profile. It is immutable and safe for
// concurrent use. The zero Responder refuses too, without content.
type Responder struct {
	bodies  map[int]representations // by status
	limited map[int]representations // by status, for refusals that a tier made
}

// New returns the responder of a profile. The empty name is the default one. The
// error names the profiles that there are.
func New(profile string) (*Responder, error) {
	switch profile {
	case "", DefaultProfile:
		return standard, nil
	}
	return nil, fmt.Errorf("no response profile %q; there is: %s", profile, DefaultProfile)
}

// Default returns the responder of the default profile.
func Default() *Responder { return standard }

var standard = newStandard()

// newStandard prepares every answer of the default profile.
func newStandard() *Responder {
	r := &Responder{
		bodies:  make(map[int]representations, len(details)),
		limited: make(map[int]representations, len(details)),
	}
	for status, detail := range details {
		r.bodies[status] = render(status, detail)
		r.limited[status] = render(status, details[http.StatusTooManyRequests])
	}
	return r
}

// Supports reports whether a policy may refuse with the status. It may not where
// the status promises a header field that a refusal does not have: 401 belongs to
// the auth stage, 405, 407 and 426 to the upstream.
func Supports(status int) bool {
	_, ok := details[status]
	return ok && status != http.StatusUnauthorized
}

// Write answers with the refusal d in the default profile. See Responder.Write.
func Write(w http.ResponseWriter, r *http.Request, d filter.Decision) { standard.Write(w, r, d) }

// NotFound answers 404 in the default profile. See Responder.NotFound.
func NotFound(w http.ResponseWriter, r *http.Request) { standard.NotFound(w, r) }

// NotFound answers 404, in the same bytes and header fields as the refusal of a
// concealed resource. A host of a policy that conceals (filter.Pipeline.Conceals)
// answers a missing resource with it.
func (p *Responder) NotFound(w http.ResponseWriter, r *http.Request) {
	setHeader(w.Header(), nil)
	p.write(w, r, http.StatusNotFound, p.bodies)
}

// Write answers with the refusal d.
//
// The status is d.StatusCode. A status that this package does not know, and a 401
// that asks for nothing, become 403. A decision that refuses nothing should never
// come here; it is answered with 503, because the caller took it for a refusal.
//
// WWW-Authenticate (RFC 9110 section 11.6.1) is written, one line a challenge,
// with 401, with the 400 of a malformed credential (RFC 6750 section 3.1) and
// with the 403 of a missing scope. Any other 403 has none.
//
// The refusal of a tier has Retry-After, RateLimit and RateLimit-Policy
// (draft-ietf-httpapi-ratelimit-headers-11).
//
// A browser that wants HTML is sent to the login of a Challenge that names one.
//
// The content is chosen by Accept; see Negotiate. A HEAD request gets the same
// header fields without content.
//
// Header fields that w already has stay, but for those that describe content or
// its caching.
func (p *Responder) Write(w http.ResponseWriter, r *http.Request, d filter.Decision) {
	if d.Refuses() && d.Reason == filter.ReasonConcealed {
		p.NotFound(w, r)
		return
	}
	if Login(w, r, d) {
		return
	}
	bodies := p.bodies
	if d.Limit != nil {
		bodies = p.limited
	}
	p.write(w, r, SetHeader(w.Header(), d), bodies)
}

// SetHeader sets the header fields of the refusal d that do not depend on its
// content, and returns the status: the challenges, the fields of an exceeded tier
// and no-store. A host that lets others write the content of a refusal, such as
// the operator's own error pages, calls it first. Fields that describe the content
// of another answer are removed.
//
// A concealed resource is no matter for it: only NotFound answers in the bytes of a
// missing one.
func SetHeader(h http.Header, d filter.Decision) (status int) {
	status = statusOf(d)
	if d.Limit != nil {
		setLimit(h, d.Limit)
	}
	setHeader(h, challenges(d, status))
	return status
}

// statusOf returns the status of a refusal that can be answered.
func statusOf(d filter.Decision) int {
	if !d.Refuses() {
		return http.StatusServiceUnavailable
	}
	status := d.StatusCode()
	if _, known := details[status]; !known {
		return http.StatusForbidden
	}
	if status == http.StatusUnauthorized && (d.Verdict != filter.Challenge || len(d.Challenges) == 0) {
		return http.StatusForbidden
	}
	return status
}

// challenges returns the challenges that go with the status of d.
func challenges(d filter.Decision, status int) []string {
	switch {
	case d.Verdict == filter.Challenge && (status == http.StatusUnauthorized || status == http.StatusBadRequest),
		d.Verdict == filter.Block && d.Reason == filter.ReasonForbidden && status == http.StatusForbidden:
		return d.Challenges
	}
	return nil
}

// setHeader sets what every refusal has, and its challenges.
func setHeader(h http.Header, challenges []string) {
	// What an outer layer has prepared for another content would be wrong here.
	for _, name := range [...]string{"Content-Encoding", "Content-Language", "Content-Range", "Accept-Ranges", "Etag", "Last-Modified", "Expires"} {
		delete(h, name)
	}
	delete(h, "Www-Authenticate")
	if len(challenges) > 0 {
		h["Www-Authenticate"] = slices.Clone(challenges)
	}
	h.Set("Cache-Control", "no-store")
}

// write writes the status and the content.
func (p *Responder) write(w http.ResponseWriter, r *http.Request, status int, bodies map[int]representations) {
	format := Negotiate(r.Header["Accept"])
	body := bodies[status][format]

	h := w.Header()
	AddVary(h)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", format.MediaType())
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client is gone: there is nobody left to tell
	}
}

// AddVary adds Accept to Vary, beside what an outer layer varies by.
func AddVary(h http.Header) {
	for _, line := range h["Vary"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name == "*" || strings.EqualFold(name, "Accept") {
				return
			}
		}
	}
	h.Add("Vary", "Accept")
}
