// Package nethttp puts a filter engine in front of an http.Handler. It is the one
// place where a decision becomes an answer or a call of the next handler; the
// Caddy module is built on it too.
package nethttp

import (
	"net/http"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/front"
	"github.com/moatwaf/moat/filter/respond"
)

// Handler returns next behind e.
func Handler(e *filter.Engine, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = Serve(e, w, r, func(w http.ResponseWriter, r *http.Request, _ *filter.Request) error {
			next.ServeHTTP(w, r)
			return nil
		})
	})
}

// Next handles a request that the filter let through. It gets the filter's view
// of the request too, which is valid until it returns. Its error is handed back
// by Serve.
type Next func(http.ResponseWriter, *http.Request, *filter.Request) error

// Serve decides hr and either answers it or calls next with it.
//
// Where the policy conceals resources, an answer 404 of next is replaced by the
// filter's own, so that a missing path and a hidden one answer in the same bytes.
// Every other answer passes through unchanged and unbuffered: the writer that
// next gets supports flushing, hijacking and http.ResponseController.
func Serve(e *filter.Engine, w http.ResponseWriter, hr *http.Request, next Next) error {
	return ServeHost(e, w, hr, next)
}

// Host is a server with ways of its own. Its methods are called in this order,
// with the same request, by the goroutine that called ServeHost.
type Host interface {
	// Prepare is called before the decision. A host that knows the client's
	// address sets r.Client.
	Prepare(r *filter.Request)

	// Decided is told of the decision, before anything is answered.
	Decided(r *filter.Request, d filter.Decision)

	// Refuse answers with the refusal d, by face.Refuse or as the host does it.
	Refuse(w http.ResponseWriter, r *filter.Request, d filter.Decision, face filter.Front) error

	// Pass handles a request that was let through. concealing is the policy's
	// front where the policy conceals, else nil: a host that leaves a 404 to
	// somebody else, by an error, answers with concealing.NotFound instead.
	Pass(w http.ResponseWriter, r *filter.Request, concealing filter.Front) error
}

// Prepare implements Host.
func (Next) Prepare(*filter.Request) {}

// Decided implements Host.
func (Next) Decided(*filter.Request, filter.Decision) {}

// Refuse implements Host.
func (Next) Refuse(w http.ResponseWriter, r *filter.Request, d filter.Decision, face filter.Front) error {
	face.Refuse(w, r, d)
	return nil
}

// Pass implements Host.
func (next Next) Pass(w http.ResponseWriter, r *filter.Request, _ filter.Front) error {
	return next(w, r.HTTP, r)
}

// ServeHost is Serve for a host of its own ways. An error of the host is handed
// back; it means that somebody else will answer, to whom the body of hr is left as
// the upstream would have got it.
func ServeHost(e *filter.Engine, w http.ResponseWriter, hr *http.Request, host Host) (err error) {
	w, decided, done := Receive(w, hr)
	defer func() {
		body := hr.Body
		done()
		if err != nil {
			hr.Body = body
			if e, ok := w.(*expecter); ok {
				e.final() // the answer will go to the server's writer
			}
		}
	}()
	r := filter.NewRequest(hr, time.Now())
	defer r.Release()
	host.Prepare(r)

	d := e.Decide(r)
	decided()
	host.Decided(r, d)
	respond.SetLimits(w.Header(), r.Limits)
	watched := Watch(w, r)
	pipeline := e.Pipeline()
	face := front.Of(pipeline)
	if d.Refuses() {
		return host.Refuse(watched, r, d, face)
	}
	upstream, goOn := face.Pass(watched, r)
	if !goOn {
		return nil
	}
	if !pipeline.Conceals() {
		return host.Pass(upstream, r, nil)
	}
	return host.Pass(conceal(upstream, hr, face), r, face)
}

func conceal(w http.ResponseWriter, r *http.Request, face filter.Front) http.ResponseWriter {
	return &concealer{ResponseWriter: w, request: r, before: w.Header().Clone(), face: face}
}
