package cors

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// Answer returns the writer for the upstream's answer to r. Where the origin of r
// is allowed and the upstream says nothing of it, the fields are set; where the
// upstream answers for itself, its word stands.
func (p *Policy) Answer(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	origin := r.Header["Origin"]
	if len(origin) != 1 || !p.allows(origin[0]) {
		if !p.any {
			addVary(w.Header(), "Origin")
		}
		return w
	}
	return &writer{ResponseWriter: w, policy: p, request: r}
}

// writer sets the fields when the answer's header is complete.
type writer struct {
	http.ResponseWriter
	policy  *Policy
	request *http.Request
	wrote   bool
}

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(status int) {
	if !w.wrote && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.wrote = true
		h := w.Header()
		if len(h["Access-Control-Allow-Origin"]) == 0 && w.policy.allow(h, w.request) && w.policy.expose != "" {
			h.Set("Access-Control-Expose-Headers", w.policy.expose)
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *writer) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom, so that a file goes out by sendfile.
func (w *writer) ReadFrom(src io.Reader) (int64, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return io.Copy(w.ResponseWriter, src)
}

// FlushError implements what http.ResponseController looks for.
func (w *writer) FlushError() error {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() }

// Hijack implements http.Hijacker.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap gives http.ResponseController the writer below.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
