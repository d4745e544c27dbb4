package moatcaddy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/respond"
)

// answerWith has error routes answer a refusal, and answers it itself if they write
// no content: none matched, or those that did set header fields only. Caddy's own
// end of error routes writes a bare status.
func answerWith(routes caddyhttp.Handler, w http.ResponseWriter, r *http.Request, d filter.Decision) error {
	c := &contentWatcher{
		ResponseWriter: w,
		status:         respond.SetHeader(w.Header(), d),
		before:         [2][]string{w.Header()["Content-Type"], w.Header()["Content-Length"]},
	}
	if err := routes.ServeHTTP(c, r); err != nil {
		return err
	}
	switch {
	case c.wrote:
	case c.pending && c.describesContent():
		c.commit() // the answer to HEAD, as a rule
	default:
		respond.Write(w, r, d)
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
