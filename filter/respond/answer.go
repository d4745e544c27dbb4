package respond

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/moatwaf/moat/filter"
)

// Answer answers with what somebody else has said: status, header fields and content
// stay as they are. A field that w already has gives way to one of the same name,
// but for Vary, which is both.
//
// An answer that says nothing of caching becomes no-store: a cache in front could
// keep one client's redirect for another.
func Answer(w http.ResponseWriter, r *http.Request, a *filter.Answer) {
	h := w.Header()
	for name, values := range a.Header {
		if name == "Vary" {
			h[name] = slices.Concat(h[name], values)
			continue
		}
		h[name] = slices.Clone(values)
	}
	if len(a.Header["Cache-Control"]) == 0 && len(a.Header["Expires"]) == 0 {
		h.Set("Cache-Control", "no-store")
	}
	if len(a.Header["Content-Type"]) == 0 {
		h["Content-Type"] = nil // nobody guesses
	}
	h.Set("Content-Length", strconv.Itoa(len(a.Body)))
	w.WriteHeader(a.Status)
	if r.Method != http.MethodHead && len(a.Body) > 0 {
		_, _ = w.Write(a.Body) // the client is gone: there is nobody left to tell
	}
}
