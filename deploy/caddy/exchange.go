package moatcaddy

import (
	"errors"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/moatwaf/moat/deploy/nethttp"
	"github.com/moatwaf/moat/filter"
)

// exchange is one request on its way through a handler: Caddy's ways of what
// nethttp does for every host.
type exchange struct {
	handler *Handler
	next    caddyhttp.Handler
	facts   *facts
	repl    *caddy.Replacer // nil outside of a server
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

func (x *exchange) free() {
	*x = exchange{}
	exchanges.Put(x)
}

// Prepare implements nethttp.Host.
func (x *exchange) Prepare(r *filter.Request) {
	if x.facts.trustsProxies {
		r.Client = clientOf(r.HTTP)
	}
}

// Decided implements nethttp.Host.
func (x *exchange) Decided(r *filter.Request, d filter.Decision) {
	publish(x.repl, &d, r)
	// An error route may have an upstream too.
	x.handler.identity.Remove(r.HTTP)
	if d.Refuses() {
		x.handler.report(r, d)
	}
}

// Refuse implements nethttp.Host.
func (x *exchange) Refuse(w http.ResponseWriter, r *filter.Request, d filter.Decision, face filter.Front) error {
	return x.handler.refuse(w, r, d, face, x.facts)
}

// Pass implements nethttp.Host.
func (x *exchange) Pass(w http.ResponseWriter, r *filter.Request, concealing filter.Front) error {
	if r.Identity != nil {
		x.handler.identity.Set(r.HTTP, r.Identity)
		if x.repl != nil {
			x.repl.Set("http.auth.user.id", r.Identity.Subject)
		}
	}
	if !x.facts.trustsProxies {
		shareClient(r.HTTP, r, x.handler.runtime.Engine().Pipeline().AddrHeader())
	}
	err := x.next.ServeHTTP(w, r.HTTP)
	if err == nil {
		return nil
	}
	// The handler leaves its answer to Caddy's error routes.
	status := statusOf(err)
	if concealing != nil && status == http.StatusNotFound {
		concealing.NotFound(w, r.HTTP)
		return nil
	}
	r.Answered(status)
	return err
}

// statusOf returns the status with which Caddy answers an error.
func statusOf(err error) int {
	var failed caddyhttp.HandlerError
	if errors.As(err, &failed) && failed.StatusCode != 0 {
		return failed.StatusCode
	}
	return http.StatusInternalServerError
}

var _ nethttp.Host = (*exchange)(nil)
