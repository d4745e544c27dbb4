package filter

import (
	"net/http"
	"time"
)

// Verdict is what a stage, or the whole pipeline, says of a request.
//
// The zero value is Block: an answer that somebody forgot to give refuses the
// request.
type Verdict uint8

const (
	// Block refuses the request. Credentials would not help the client.
	Block Verdict = iota
	// Continue is no opinion: the next stage decides.
	Continue
	// Allow ends the filter stages in the client's favour. It does not skip
	// the auth stage. As the answer of a pipeline it means that the request
	// may go to the upstream.
	Allow
	// Challenge asks the client for credentials. Only the auth stage says so.
	Challenge
)

// String returns the verdict's name as metrics and audit lines spell it.
func (v Verdict) String() string {
	switch v {
	case Block:
		return "block"
	case Continue:
		return "continue"
	case Allow:
		return "allow"
	case Challenge:
		return "challenge"
	}
	return "invalid"
}

// Reason is why a request was not let through: a small closed set, fit for a
// metric label. It never holds anything that a client sent.
type Reason uint8

const (
	// ReasonNone stands in decisions that refuse nothing.
	ReasonNone Reason = iota
	// ReasonRule is an access rule: address, country, list, path, expression.
	ReasonRule
	// ReasonRateLimit is an exceeded tier.
	ReasonRateLimit
	// ReasonPayload is a payload rule, or the score that payload rules add up to.
	ReasonPayload
	// ReasonOversize is a body that is larger, or costlier, than the policy inspects.
	ReasonOversize
	// ReasonMalformed is a request that cannot be read in one way only:
	// a broken body, a path with NUL, a forwarding header that is no address.
	ReasonMalformed
	// ReasonNoCredentials is a request that came without credentials of a kind that the path takes.
	ReasonNoCredentials
	// ReasonBadCredentials is a request whose credentials are wrong, expired or revoked.
	ReasonBadCredentials
	// ReasonForbidden is a known caller without the needed right.
	ReasonForbidden
	// ReasonConcealed is a known caller without the needed right to a resource
	// whose existence is to stay unknown.
	ReasonConcealed
	// ReasonUnavailable is a stage that could not decide, in a policy that fails closed.
	ReasonUnavailable
	// ReasonBan is an address that is refused for a time because of what it did.
	ReasonBan

	reasonCount
)

var reasonNames = [reasonCount]string{
	"none", "rule", "rate-limit", "payload", "oversize", "malformed",
	"no-credentials", "bad-credentials", "forbidden", "concealed", "unavailable", "ban",
}

// String returns the reason's name as metrics and audit lines spell it.
func (r Reason) String() string {
	if r < reasonCount {
		return reasonNames[r]
	}
	return "invalid"
}

// Reasons returns every reason, in order of value, for tables made at start-up.
func Reasons() []Reason {
	all := make([]Reason, reasonCount)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// Decision is a verdict and its cause.
//
// A Decision is a value: stages return it, nobody changes it afterwards. What
// it points to is immutable once returned. The zero Decision refuses with 403.
type Decision struct {
	Verdict Verdict
	Reason  Reason

	// Status is the HTTP status of a refusal; 0 takes the default of the
	// reason (see StatusCode).
	Status int

	// Stage names the stage that decided: "access", "tier", "payload", "auth".
	Stage string

	// Rule is the operator's id of the rule, tier or requirement that decided;
	// of a payload rule its number. Empty where no rule did. It goes into
	// audit lines, never to the client.
	Rule string

	// Challenges are the values of WWW-Authenticate, one field line each, in
	// the policy's order (RFC 9110 section 11.6.1). They accompany a Challenge,
	// and a Block for a missing scope (RFC 6750 section 3.1).
	Challenges []string

	// Login is where a person can prove who they are, a URL or a path on this
	// host. It accompanies a Challenge: a browser that wants HTML is sent there
	// instead of being asked. Empty sends nobody anywhere.
	Login string

	// Answer is what an external auth service answered in the filter's place; nil
	// elsewhere. The client gets it as it is, and Status is its status.
	Answer *Answer

	// Limit describes the exceeded tier; nil elsewhere.
	Limit *Limit

	// Payload describes what payload rules found; nil elsewhere.
	Payload *Payload

	// Detail is one line for the operator: an error's text, a claim that did
	// not fit. It goes into the log and never to the client. It must hold no
	// secret and no payload.
	Detail string
}

// Refuses reports whether the request must not reach the upstream.
func (d Decision) Refuses() bool { return d.Verdict == Block || d.Verdict == Challenge }

// StatusCode returns the HTTP status of a refusal: Status where it is set,
// else the default of the cause, which is 403 for a Block and 401 for a
// Challenge. Of a decision that refuses nothing it returns 0.
func (d Decision) StatusCode() int {
	switch {
	case !d.Refuses():
		return 0
	case d.Status != 0:
		return d.Status
	case d.Verdict == Challenge:
		return http.StatusUnauthorized
	}
	switch d.Reason {
	case ReasonOversize:
		return http.StatusRequestEntityTooLarge
	case ReasonMalformed:
		return http.StatusBadRequest
	case ReasonConcealed:
		return http.StatusNotFound
	case ReasonUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusForbidden
}

// Answer is a whole answer to a client. It is immutable.
type Answer struct {
	Status int         // 300 to 499, and not 304 or 407
	Header http.Header // without fields of the connection and of the content's length
	Body   []byte
}

// Limit is the state of a tier, as the RateLimit fields of
// draft-ietf-httpapi-ratelimit-headers-11 tell it.
type Limit struct {
	Tier      string        // the policy's name for the tier; the field's quoted item
	Quota     int           // requests that a fresh client may make at once (q)
	Window    time.Duration // time in which an empty quota is filled again (w); 0 if the quota is not one of time
	Remaining int           // requests left now (r)

	// Reset is the time until there is more: of a refusal, until the request
	// would be let through (t, Retry-After); else until Remaining grows by one
	// (t), 0 if nothing is missing.
	Reset time.Duration

	// Concurrent says that the quota is one of requests that are under way at
	// the same time (qu). It has no window, and nobody knows when one ends.
	Concurrent bool
}

// Payload is what the payload stage found. It holds rule numbers and sums,
// never a part of the request.
type Payload struct {
	Score     int   // inbound anomaly score
	Threshold int   // score from which the policy refuses; 0 where a rule refused by itself
	Rules     []int // numbers of the rules that matched, in order of evaluation, bounded
}

// Allowed is the decision that lets a request through.
func Allowed() Decision { return Decision{Verdict: Allow} }

// Next is the decision of a stage that has no opinion.
func Next() Decision { return Decision{Verdict: Continue} }
