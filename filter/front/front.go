// Package front is the outer face of a compiled policy: how its refusals look,
// which preflights it answers, and what the upstream is told of the caller. The
// host asks it after the decision; it decides nothing itself.
package front

import (
	"net/http"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/filter/cors"
	"github.com/moatwaf/moat/filter/respond"
)

// Config is what a front is made of. The zero Config refuses in the default
// profile and changes nothing on the way to the upstream.
type Config struct {
	// Responder writes refusals; nil takes the default profile.
	Responder Responder
	// CORS answers preflights and lets scripts read answers; nil leaves both
	// to the upstream.
	CORS *cors.Policy
	// Identity tells the upstream who the caller is; nil tells it nothing and
	// takes nothing away.
	Identity *auth.IdentityHeaders
}

// Responder writes answers: a respond.Responder or a profile.Profile.
type Responder interface {
	Write(w http.ResponseWriter, r *http.Request, d filter.Decision)
	NotFound(w http.ResponseWriter, r *http.Request)
}

// Front implements filter.Front.
type Front struct{ config Config }

var _ filter.Front = (*Front)(nil)

// New returns the front of c.
func New(c Config) *Front {
	if c.Responder == nil {
		c.Responder = respond.Default()
	}
	return &Front{c}
}

var standard filter.Front = New(Config{})

// Of returns the front of a pipeline; the default one where it has none.
func Of(p *filter.Pipeline) filter.Front {
	if f := p.Front(); f != nil {
		return f
	}
	return standard
}

// Refuse implements filter.Front.
func (f *Front) Refuse(w http.ResponseWriter, r *filter.Request, d filter.Decision) {
	tellClient(w, r.Identity)
	// The host may let an upstream write its error pages.
	f.config.Identity.Apply(r.HTTP, nil)
	if f.config.CORS != nil {
		f.config.CORS.Refusal(w.Header(), r.HTTP)
	}
	if d.Answer != nil {
		respond.Answer(w, r.HTTP, d.Answer)
		return
	}
	f.config.Responder.Write(w, r.HTTP, d)
}

// NotFound implements filter.Front.
func (f *Front) NotFound(w http.ResponseWriter, r *http.Request) {
	if f.config.CORS != nil {
		f.config.CORS.Refusal(w.Header(), r)
	}
	f.config.Responder.NotFound(w, r)
}

// Pass implements filter.Front.
func (f *Front) Pass(w http.ResponseWriter, r *filter.Request) (http.ResponseWriter, bool) {
	if f.config.CORS != nil && cors.IsPreflight(r.HTTP) {
		f.config.CORS.Preflight(w, r.HTTP)
		return nil, false
	}
	f.config.Identity.Apply(r.HTTP, r.Identity)
	tellClient(w, r.Identity)
	if f.config.CORS == nil {
		return w, true
	}
	return f.config.CORS.Answer(w, r.HTTP), true
}

// tellClient adds to an answer what the verifier has for its client. A refusal has it
// too: a caller who may not see a resource could tell it from one that is missing else.
func tellClient(w http.ResponseWriter, who *filter.Identity) {
	if who == nil {
		return
	}
	for name, values := range who.Client {
		for _, v := range values {
			w.Header().Add(name, v)
		}
	}
}
