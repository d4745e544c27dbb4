package moatcaddy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/moatwaf/moat/filter"
)

// Refusal is the cause of a handler error that moat returns. An error route may
// print its message to the client, so it says nothing of the rule.
type Refusal struct {
	Decision filter.Decision
	answer   answer // moat's own
}

// Error implements error. The words are the same for every rule.
func (*Refusal) Error() string { return "the request was refused" }

// refuse turns a refusal into a handler error if there is an error route that could
// write its content, and writes it otherwise: Caddy's answer to an error without
// error routes is a bare status.
func (h *Handler) refuse(w http.ResponseWriter, r *filter.Request, d filter.Decision, face filter.Front, f *facts) error {
	_, handlingError := r.HTTP.Context().Value(caddyhttp.ErrorCtxKey).(error)
	if d.Reason == filter.ReasonConcealed || d.Answer != nil || handlingError || !h.inErrors && f.errorRoute == nil {
		face.Refuse(w, r, d)
		return nil
	}
	refusal := &Refusal{Decision: d, answer: answer{header: w.Header().Clone()}}
	face.Refuse(&refusal.answer, r, d)
	if refusal.answer.status < 400 {
		refusal.answer.writeTo(w) // to a login
		return nil
	}
	failed := caddyhttp.HandlerError{Err: refusal, StatusCode: refusal.answer.status, ID: r.ID()} // the audit line's
	if h.inErrors || f.extended {
		r.Answered(failed.StatusCode)
		return failed
	}
	// The error routes were compiled before this handler was there: it stands in
	// a named route. They answer here, as they would answer in the server.
	return answerWith(f.errorRoute, w, f.server.Errors.WithError(r.HTTP, failed), &refusal.answer)
}

// report tells logs and events of a refusal.
func (h *Handler) report(r *filter.Request, d filter.Decision) {
	level := zap.DebugLevel
	if d.StatusCode() >= 500 {
		level = zap.ErrorLevel // it is moat's fault, or the policy's
	}
	if c := h.logger.Check(level, "request refused"); c != nil {
		c.Write(zap.String("id", r.ID()), zap.Stringer("client", r.Client), zap.Stringer("verdict", d.Verdict),
			zap.String("stage", d.Stage), zap.String("rule", d.Rule), zap.Stringer("reason", d.Reason),
			zap.Int("status", d.StatusCode()), zap.String("detail", d.Detail))
	}
	h.events.refused(r, d, h.runtime.name)
}

// ErrorHandler stands in front of error routes and writes moat's own answer to a
// refusal if none of them writes content. It is put there for each server with a
// moat handler and needs no configuration. Other errors it leaves to Caddy.
type ErrorHandler struct {
	// Last is set behind the error routes of a subroute, where a refused request
	// would go on to the handlers behind the subroute.
	Last bool `json:"last,omitempty"`
}

// CaddyModule implements caddy.Module.
func (ErrorHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.moat_error",
		New: func() caddy.Module { return new(ErrorHandler) },
	}
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *ErrorHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	err, _ := r.Context().Value(caddyhttp.ErrorCtxKey).(error)
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		return next.ServeHTTP(w, r)
	}
	if h.Last {
		refusal.answer.writeTo(w)
		return nil
	}
	return answerWith(next, w, r, &refusal.answer)
}

// extendErrorRoutes puts an ErrorHandler in front of the error routes that errors
// of the handler being provisioned can reach: those of its server, and of every
// subroute around it. It reports whether there are some of the latter kind.
//
// Error routes are provisioned after the routes, so what is put there now is
// provisioned with them. The configuration that the admin API shows is not changed.
func extendErrorRoutes(ctx caddy.Context) (inSubroute bool, err error) {
	first, err := json.Marshal(map[string]any{"handler": "moat_error"})
	if err != nil {
		return false, fmt.Errorf("error routes: %w", err)
	}
	last, err := json.Marshal(map[string]any{"handler": "moat_error", "last": true})
	if err != nil {
		return false, fmt.Errorf("error routes: %w", err)
	}
	route := func(raw json.RawMessage) caddyhttp.Route {
		return caddyhttp.Route{HandlersRaw: []json.RawMessage{raw}}
	}
	for _, module := range ctx.Modules() {
		switch m := module.(type) {
		case *caddyhttp.App:
			for _, server := range m.Servers {
				if canExtend(server.Errors, first) {
					server.Errors.Routes = slices.Insert(server.Errors.Routes, 0, route(first))
				}
			}
		case *caddyhttp.Subroute:
			if m.Errors == nil {
				continue
			}
			inSubroute = true
			if len(m.Errors.Routes) == 0 || canExtend(m.Errors, first) {
				m.Errors.Routes = append(slices.Insert(m.Errors.Routes, 0, route(first)), route(last))
			}
		}
	}
	return inSubroute, nil
}

// canExtend reports whether there are error routes which are not provisioned yet,
// and of which the first is not the handler in raw.
func canExtend(c *caddyhttp.HTTPErrorConfig, raw json.RawMessage) bool {
	if c == nil || len(c.Routes) == 0 || len(c.Routes[0].Handlers) > 0 {
		return false
	}
	handlers := c.Routes[0].HandlersRaw
	return len(handlers) != 1 || string(handlers[0]) != string(raw)
}

// isExtended reports whether provisioned error routes begin with an ErrorHandler.
func isExtended(routes caddyhttp.RouteList) bool {
	if len(routes) == 0 || len(routes[0].Handlers) == 0 {
		return false
	}
	_, ok := routes[0].Handlers[0].(*ErrorHandler)
	return ok
}

var _ caddyhttp.MiddlewareHandler = (*ErrorHandler)(nil)
