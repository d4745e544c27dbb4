// Package moatcaddy is moat as Caddy modules: the handler http.handlers.moat with
// its Caddyfile directive "moat", and moat's routes on Caddy's admin API.
//
//	module.go        the handler: a request in, an error or the next handler out
//	exchange.go      one request on its way, as nethttp asks for it
//	caddyfile.go     the directive
//	options.go       what the directive sets in place of the policy's own values
//	server.go        what the server around the handler decides: client address, error routes
//	refusal.go       a refusal as a handler error, and its place among error routes
//	content.go       moat.s own content, where error routes write none
//	placeholders.go  the decision, for logs and other handlers
//	events.go        refusals and reloads as Caddy events
//	runtimes.go      running policies, which outlive a reload of Caddy's configuration
//	hosts.go         where a running policy reports to
//	admin.go         routes of the admin API
//	metrics.go       counters, which outlive a reload as well
package moatcaddy
