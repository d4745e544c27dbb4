package filter

import "net/http"

// Finisher is told that a request has ended: that its answer is through, or that
// the host gave it up.
type Finisher interface {
	// Finish is called once for each Defer, by the goroutine that releases the
	// request, with the token that was given there and the status of the
	// answer; 0 if the host does not know it. It must not block or panic.
	Finish(t Token, status int)
}

// Token is what a Finisher wants to be told of a request, in its own words.
type Token struct{ Hi, Lo uint64 }

// deferred is a call that Release makes.
type deferred struct {
	to    Finisher
	token Token
}

// Defer has Release call f. A stage that holds something for as long as a request
// is under way gives it back there. It does not allocate in a Request that was
// used before.
func (r *Request) Defer(f Finisher, t Token) {
	r.deferred = append(r.deferred, deferred{f, t})
}

// AwaitStatus asks the host to tell the status of the answer with Answered. It is
// called beside Defer, by a stage whose Finisher needs the status.
func (r *Request) AwaitStatus() { r.awaited = true }

// StatusAwaited reports whether a stage asked for the status of the answer. Hosts
// need not watch the answers of other requests.
func (r *Request) StatusAwaited() bool { return r.awaited }

// EndAwaited reports whether a stage waits for the end of the request. A host that
// releases a request before the answer is through need not go on for others.
func (r *Request) EndAwaited() bool { return len(r.deferred) > 0 }

// Answered tells the status of the final answer, the filter's own or the
// upstream's. The first call counts; informational answers (1xx) other than 101
// do not.
func (r *Request) Answered(status int) {
	if r.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		r.status = status
	}
}

// finish makes the deferred calls, the last first.
func (r *Request) finish() {
	for i := len(r.deferred) - 1; i >= 0; i-- {
		r.deferred[i].to.Finish(r.deferred[i].token, r.status)
	}
}

// maxAnnounced bounds the limits that one answer tells of.
const maxAnnounced = 8

// Announce notes a limit for the answer of a request that it let through. Notes
// over a bound are dropped.
func (r *Request) Announce(l Limit) {
	if len(r.Limits) < maxAnnounced {
		r.Limits = append(r.Limits, l)
	}
}
