package moatcaddy

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/moatwaf/moat/filter/policy"
	"github.com/moatwaf/moat/rules"
)

// Admin adds moat's routes to Caddy's admin API:
//
//	GET  /moat/status   the running policies, as JSON
//	POST /moat/reload   reads every policy again; the faults, if any, as JSON
//	     /moat/bans     lists, makes and lifts bans
//	     /moat/lists    shows and edits address lists
type Admin struct{}

// CaddyModule implements caddy.Module.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.moat",
		New: func() caddy.Module { return new(Admin) },
	}
}

// Routes implements caddy.AdminRouter.
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{
		Pattern: "/moat/",
		Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			adminRoutes().ServeHTTP(w, r)
			return nil
		}),
	}}
}

// AdminHandler serves the routes of Admin, and /metrics, as an HTTP handler. It
// stands on an address of its own, never on the public one.
type AdminHandler struct {
	handler http.Handler
}

// CaddyModule implements caddy.Module.
func (AdminHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.moat_admin",
		New: func() caddy.Module { return new(AdminHandler) },
	}
}

// Provision implements caddy.Provisioner.
func (h *AdminHandler) Provision(ctx caddy.Context) error {
	mux := http.NewServeMux()
	mux.Handle("/moat/", adminRoutes())
	mux.Handle("GET /metrics", metricsHandler(ctx.GetMetricsRegistry()))
	// A page in the operator's browser must not be able to reload a policy.
	h.handler = http.NewCrossOriginProtection().Handler(mux)
	return nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *AdminHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	h.handler.ServeHTTP(w, r)
	return nil
}

func adminRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /moat/status", serveStatus)
	mux.HandleFunc("POST /moat/reload", serveReload)
	policy.HandleBans(mux, Running)
	policy.HandleLists(mux, Running)
	return mux
}

func serveStatus(w http.ResponseWriter, _ *http.Request) {
	policies := []policy.Status{}
	for _, rt := range Running() {
		policies = append(policies, rt.Status())
	}
	writeJSON(w, http.StatusOK, map[string]any{"policies": policies})
}

// fault is one fault of a policy in the answer to a reload.
type fault struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func faultsOf(err error) []fault {
	var list rules.Errors
	if !errors.As(err, &list) {
		return []fault{{Message: err.Error()}}
	}
	faults := make([]fault, len(list))
	for i, e := range list {
		faults[i] = fault{e.Pos.File, e.Pos.Line, e.Pos.Column, e.Path, e.Msg, e.Hint}
	}
	return faults
}

// serveReload reloads every running policy. It answers 200 if all are good and
// 422 if one was refused; those that are good are in force in either case.
func serveReload(w http.ResponseWriter, r *http.Request) {
	type result struct {
		File   string  `json:"file"`
		OK     bool    `json:"ok"`
		Digest string  `json:"digest"`
		Errors []fault `json:"errors,omitempty"`
	}
	results := []result{}
	status := http.StatusOK
	for _, rt := range Running() {
		err := rt.Reload(r.Context())
		s := rt.Status()
		one := result{File: s.File, OK: err == nil, Digest: s.Digest}
		if err != nil {
			status = http.StatusUnprocessableEntity
			one.Errors = faultsOf(err)
		}
		results = append(results, one)
	}
	writeJSON(w, status, map[string]any{"policies": results})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client has gone if this fails
}

// Running returns the policies that a configuration uses, in no order.
func Running() []*policy.Runtime {
	var all []*policy.Runtime
	runtimes.Range(func(_, value any) bool {
		if r, ok := value.(*running); ok && r.hosts.current() != nil {
			all = append(all, r.Runtime)
		}
		return true
	})
	return all
}

var (
	_ caddy.AdminRouter           = Admin{}
	_ caddy.Provisioner           = (*AdminHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*AdminHandler)(nil)
)
