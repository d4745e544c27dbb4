package moatcaddy

import "github.com/moatwaf/moat/filter"

// Engine returns the engine of the handler's policy, the same one over every
// reload of it; nil before Provision. A server that answers decisions instead of
// passing requests on asks it; it tells Refused of the decisions that refuse.
func (h *Handler) Engine() *filter.Engine {
	if h.runtime == nil {
		return nil
	}
	return h.runtime.Engine()
}

// Refused reports a refusal to the log and to those who listen to events, as
// ServeHTTP does.
func (h *Handler) Refused(r *filter.Request, d filter.Decision) { h.report(r, d) }
