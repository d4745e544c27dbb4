// Package moatcaddy is moat as a Caddy module: the handler http.handlers.moat,
// its Caddyfile directive "moat", and its routes on Caddy's admin API.
package moatcaddy

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/moatwaf/moat/deploy/nethttp"
	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/policy"
	"github.com/moatwaf/moat/filter/respond"
)

func init() {
	caddy.RegisterModule(Handler{})
	caddy.RegisterModule(Admin{})
	httpcaddyfile.RegisterHandlerDirective("moat", parseCaddyfile)
	// A refusal comes before any question for credentials.
	httpcaddyfile.RegisterDirectiveOrder("moat", httpcaddyfile.Before, "basicauth")
}

// Handler filters requests by a policy. What the policy refuses is answered by
// moat; the rest goes on to the next handler.
type Handler struct {
	// Policy is the path of the policy file. It is watched, with every file
	// that it names: a change is in force within two seconds, without a
	// reload of Caddy's configuration.
	Policy string `json:"policy,omitempty"`

	runtime *policy.Runtime
	release func() error
}

// CaddyModule implements caddy.Module.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.moat",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision loads the policy, or takes the running one of the same file and
// reloads it. A policy with faults is an error, so that Caddy keeps its running
// configuration.
func (h *Handler) Provision(ctx caddy.Context) error {
	if h.Policy == "" {
		return errors.New("moat: no policy file is named")
	}
	var err error
	if err = counters.Register(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("moat: %w", err)
	}
	h.runtime, h.release, err = acquire(ctx, h.Policy)
	if err != nil {
		return fmt.Errorf("moat: %w", err)
	}
	return nil
}

// Cleanup implements caddy.CleanerUpper.
func (h *Handler) Cleanup() error {
	if h.release == nil {
		return nil
	}
	return h.release()
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, hr *http.Request, next caddyhttp.Handler) error {
	engine := h.runtime.Engine()
	return nethttp.Serve(engine, w, hr, func(w http.ResponseWriter, hr *http.Request, r *filter.Request) error {
		shareClient(hr, r)
		err := next.ServeHTTP(w, hr)
		// A handler may leave its 404 to Caddy's error routes instead of
		// writing it. A policy that conceals has one 404 only.
		var failed caddyhttp.HandlerError
		if engine.Pipeline().Conceals() && errors.As(err, &failed) && failed.StatusCode == http.StatusNotFound {
			respond.NotFound(w, hr)
			return nil
		}
		return err
	})
}

// shareClient tells the handlers behind moat, reverse_proxy above all, whose
// request this is, so that they do not derive it a second time by other rules.
// Where Caddy itself trusts the peer, its own finding stands.
func shareClient(hr *http.Request, r *filter.Request) {
	if trusted, _ := caddyhttp.GetVar(hr.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		return
	}
	if r.Client != r.Peer && r.Client.IsValid() {
		caddyhttp.SetVar(hr.Context(), caddyhttp.TrustedProxyVarKey, true)
		caddyhttp.SetVar(hr.Context(), caddyhttp.ClientIPVarKey, r.Client.String())
	}
}

// UnmarshalCaddyfile reads
//
//	moat POLICY
//	moat {
//		policy POLICY
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		h.Policy = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		switch d.Val() {
		case "policy":
			if h.Policy != "" {
				return d.Err("the policy file is named twice")
			}
			if !d.AllArgs(&h.Policy) {
				return d.ArgErr()
			}
		default:
			return d.Errf("unknown option %q of moat: there is policy", d.Val())
		}
	}
	if h.Policy == "" {
		return d.Err("moat needs a policy file: moat POLICY")
	}
	return nil
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return handler, nil
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
)
