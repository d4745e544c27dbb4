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
	w, decided, done := Receive(w, hr)
	defer done()
	r := filter.NewRequest(hr, time.Now())
	defer r.Release()

	d := e.Decide(r)
	decided()
	respond.SetLimits(w.Header(), r.Limits)
	w = Watch(w, r)
	pipeline := e.Pipeline()
	face := front.Of(pipeline)
	if d.Refuses() {
		face.Refuse(w, r, d)
		return nil
	}
	w, goOn := face.Pass(w, r)
	if !goOn {
		return nil
	}
	if pipeline.Conceals() {
		w = conceal(w, hr, face)
	}
	return next(w, hr, r)
}

func conceal(w http.ResponseWriter, r *http.Request, face filter.Front) http.ResponseWriter {
	return &concealer{ResponseWriter: w, request: r, before: w.Header().Clone(), face: face}
}

// Conceal returns a writer that replaces an answer 404 by the filter's own, and
// passes every other answer through as it comes. Serve uses it where the policy
// conceals; a host that calls the engine itself does the same.
func Conceal(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	return conceal(w, r, front.Of(nil))
}
