package moatcaddy

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/moatwaf/moat/deploy/nethttp"
	"github.com/moatwaf/moat/filter/auth"
)

func init() {
	caddy.RegisterModule(Handler{})
	caddy.RegisterModule(ErrorHandler{})
	caddy.RegisterModule(Admin{})
	caddy.RegisterModule(AdminHandler{})
	httpcaddyfile.RegisterDirective("moat", parseDirective)
	// A refusal comes before any question for credentials.
	httpcaddyfile.RegisterDirectiveOrder("moat", httpcaddyfile.Before, "basicauth")
}

// Handler filters requests by a policy: what the policy lets through goes on to the
// next handler, the rest is refused.
//
// A refusal is a handler error with the status of the refusal, so that error routes
// (handle_errors) can write its content. Where none writes any, moat does: a problem
// document, a page or text, as the client accepts. The header fields of a
// refusal (WWW-Authenticate, Retry-After, RateLimit, Cache-Control) are there in
// either case. A concealed resource is answered by moat alone, since its 404 must
// not differ from that of a missing one.
//
// The client's address is Caddy's where the server has trusted_proxies, and the
// policy's (client_ip) where it has not.
//
// Handlers and logs behind this one have these placeholders:
//
// Placeholder | Description
// ------------|---------------
// `{http.moat.verdict}` | `allow`, `block` or `challenge`; `detect` where a rule in detect mode would have refused
// `{http.moat.stage}` | the stage that decided: `access`, `tier`, `payload` or `auth`; empty if nothing objected
// `{http.moat.rule}` | the id of the rule, tier or requirement that decided, or the number of a payload rule
// `{http.moat.reason}` | why: `rule`, `rate-limit`, `payload`, `oversize`, `malformed`, `no-credentials`, ...
// `{http.moat.country}` | the country of the client, ISO 3166-1 alpha-2; empty if unknown
// `{http.moat.asn}` | the number of the client's network; empty if unknown
// `{http.moat.tier}` | the rate tier that counted, or refused, the request
// `{http.moat.identity}` | the name of the verified caller
// `{http.moat.score}` | the anomaly score of the payload rules, where they objected; else 0
// `{http.auth.user.id}` | the name of the verified caller; only set if there is one
//
// Their values are the operator's words, but for the identity.
type Handler struct {
	// Policy is the path of the policy file, relative to the working directory.
	// The file is watched, with every file that it names: a change is in force
	// within two seconds, without a reload of Caddy's configuration. Handlers
	// with the same file share its rate tiers; those with the same rules share
	// the compiled rules. Placeholders of the environment are replaced.
	Policy string `json:"policy,omitempty"`

	// Mode takes the place of the policy's waf.mode: "block", "detect" or "off".
	// It is about payload rules. Access rules and tiers have modes of their own,
	// in the policy.
	Mode string `json:"mode,omitempty"`

	// Paranoia takes the place of the policy's waf.paranoia, 1 to 4.
	Paranoia int `json:"paranoia,omitempty"`

	// Threshold takes the place of the policy's waf.threshold: the anomaly score
	// from which a request is refused.
	Threshold int `json:"threshold,omitempty"`

	// BodyLimit takes the place of the policy's waf.body_limit: how many bytes of
	// a body are inspected.
	BodyLimit int64 `json:"body_limit,omitempty"`

	// Oversize takes the place of the policy's waf.oversize: what becomes of a
	// longer body. "block" answers 413, "inspect" looks at its beginning, "pass"
	// at the header of the request only.
	Oversize string `json:"oversize,omitempty"`

	// Exclude takes payload rules out, or parts of a request out of their sight,
	// beside what the policy excludes.
	Exclude []Exclusion `json:"exclude,omitempty"`

	// IdentityHeaders tell the upstream who the caller is: the name of a request
	// header to what it holds, one of "subject", "method", "roles", "scopes" and
	// "claim:NAME". Headers of these names that come from the client are removed,
	// in every spelling that an upstream might take for them, whether or not a
	// caller is known. Lists are joined by commas. Bytes outside of printable
	// ASCII, percent signs, and commas in items of lists are percent-encoded.
	IdentityHeaders map[string]string `json:"identity_headers,omitempty"`

	logger   *zap.Logger
	runtime  *running
	release  func() error
	identity *auth.IdentityHeaders
	events   *emitter
	servers  *serverFacts
	inErrors bool // an error route around this handler takes its errors
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
	h.logger, h.servers = ctx.Logger(), new(serverFacts)
	if h.Policy == "" {
		return errors.New("moat: no policy file is named")
	}
	file, err := caddy.NewReplacer().ReplaceOrErr(h.Policy, true, true)
	if err != nil {
		return fmt.Errorf("moat: the policy's name: %w", err)
	}
	overrides, err := h.overrides()
	if err != nil {
		return fmt.Errorf("moat: %w", err)
	}
	if h.identity, err = auth.NewIdentityHeaders(h.IdentityHeaders); err != nil {
		return fmt.Errorf("moat: identity_headers: %w", err)
	}
	h.events = newEmitter(ctx)
	if err := counters.Register(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("moat: %w", err)
	}
	if h.inErrors, err = extendErrorRoutes(ctx); err != nil {
		return fmt.Errorf("moat: %w", err)
	}
	h.runtime, h.release, err = acquire(ctx, file, overrides, h.events)
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
	x := exchanges.Get().(*exchange)
	defer x.free()
	x.handler, x.next, x.facts = h, next, h.servers.of(hr)
	x.repl, _ = hr.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return nethttp.ServeHost(h.runtime.Engine(), w, hr, x)
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
