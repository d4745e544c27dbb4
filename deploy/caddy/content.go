package moatcaddy

import (
	"bufio"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// answer is moat's own answer to a refusal, written before anybody knows whether an
// error route has another one. It is a few kilobytes at most.
type answer struct {
	header http.Header // what was there before included
	status int
	body   []byte
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, p...)
	return len(p), nil
}

// writeTo sends the answer.
func (a *answer) writeTo(w http.ResponseWriter) {
	h := w.Header()
	for name := range h {
		if _, kept := a.header[name]; !kept {
			delete(h, name)
		}
	}
	maps.Copy(h, a.header)
	w.WriteHeader(a.status)
	if len(a.body) > 0 {
		_, _ = w.Write(a.body) // the client is gone: there is nobody left to tell
	}
}

// contentFields are about the content, which is another one if an error route
// writes it.
var contentFields = []string{"Content-Type", "Content-Length", "X-Content-Type-Options"}

// answerWith has error routes answer a refusal, with the header fields of moat's own
// answer (challenges, the state of a tier, no-store), and sends that if they write
// no content: none matched, or those that did set header fields only. Caddy's own
// end of error routes writes a bare status.
func answerWith(routes caddyhttp.Handler, w http.ResponseWriter, r *http.Request, own *answer) error {
	h := w.Header()
	for name, values := range own.header {
		if !slices.Contains(contentFields, name) {
			h[name] = slices.Clone(values)
		}
	}
	for name := range h {
		if _, kept := own.header[name]; !kept {
			delete(h, name) // an outer layer's, about other content
		}
	}
	c := &contentWatcher{
		ResponseWriter: w,
		status:         own.status,
		before:         [2][]string{h["Content-Type"], h["Content-Length"]},
	}
	if err := routes.ServeHTTP(c, r); err != nil {
		return err
	}
	switch {
	case c.wrote:
	case c.pending && c.describesContent():
		c.commit() // the answer to HEAD, as a rule
	default:
		for _, name := range contentFields {
			if values, ok := own.header[name]; ok {
				h[name] = values
			}
		}
		w.WriteHeader(own.status)
		if len(own.body) > 0 {
			_, _ = w.Write(own.body) // the client is gone: there is nobody left to tell
		}
	}
	return nil
}

// contentWatcher holds back the status of a refusal until content comes.
type contentWatcher struct {
	http.ResponseWriter
	status  int         // that is held back
	before  [2][]string // Content-Type and Content-Length as they were
	pending bool        // the status was written and is held back
	wrote   bool        // the answer has begun
}

// describesContent reports whether a handler has said what the content is.
func (c *contentWatcher) describesContent() bool {
	h := c.Header()
	return !slices.Equal(h["Content-Type"], c.before[0]) || !slices.Equal(h["Content-Length"], c.before[1])
}

// commit lets the status go.
func (c *contentWatcher) commit() {
	if c.pending && !c.wrote {
		c.wrote = true
		c.ResponseWriter.WriteHeader(c.status)
	}
	c.wrote = true
}

// WriteHeader implements http.ResponseWriter.
func (c *contentWatcher) WriteHeader(status int) {
	switch {
	case c.wrote || c.pending:
	case status == c.status:
		c.pending = true
	default:
		c.wrote = status >= 200 || status == http.StatusSwitchingProtocols
		c.ResponseWriter.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter.
func (c *contentWatcher) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.commit()
	return c.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom, so that an error page goes out by sendfile.
func (c *contentWatcher) ReadFrom(src io.Reader) (int64, error) {
	c.commit()
	return io.Copy(c.ResponseWriter, src)
}

// FlushError implements what http.ResponseController looks for.
func (c *contentWatcher) FlushError() error {
	c.commit()
	return http.NewResponseController(c.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (c *contentWatcher) Flush() { _ = c.FlushError() }

// Hijack implements http.Hijacker.
func (c *contentWatcher) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c.wrote = true
	return http.NewResponseController(c.ResponseWriter).Hijack()
}

// Unwrap gives http.ResponseController the writer below.
func (c *contentWatcher) Unwrap() http.ResponseWriter { return c.ResponseWriter }
