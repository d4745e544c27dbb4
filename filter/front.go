package filter

import "net/http"

// Front is the outer face of a policy: what its refusals look like, what is
// answered in the upstream's place, and what the upstream is told. It is immutable
// and safe for concurrent use. A host asks it after the decision; stages do not
// know it.
type Front interface {
	// Refuse answers with the refusal d.
	Refuse(w http.ResponseWriter, r *Request, d Decision)

	// NotFound answers 404, in the same bytes and header fields as the refusal
	// of a concealed resource.
	NotFound(w http.ResponseWriter, r *http.Request)

	// Pass is called with a request that was let through. It answers it and
	// returns false; or it makes the header of r.HTTP ready for the upstream,
	// and returns true and the writer that the upstream's answer goes to.
	Pass(w http.ResponseWriter, r *Request) (upstream http.ResponseWriter, goOn bool)
}

// Front returns the policy's front; nil where it has none of its own.
func (p *Pipeline) Front() Front {
	if p == nil {
		return nil
	}
	return p.config.Front
}
