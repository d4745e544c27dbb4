package nethttp

import (
	"bufio"
	"io"
	"maps"
	"net"
	"net/http"

	"github.com/moatwaf/moat/filter"
)

// concealer replaces an answer 404 by the filter's own. The upstream's header
// fields go with its body: a cookie or a server's name would tell a missing path
// from a hidden one as well as the text would.
type concealer struct {
	http.ResponseWriter
	request  *http.Request
	face     filter.Front
	before   http.Header // fields that the host had set before the upstream answered
	wrote    bool        // the final status is out
	replaced bool        // what the upstream still writes is dropped
	dropped  http.Header // the fields of it
}

// WriteHeader implements http.ResponseWriter.
func (c *concealer) WriteHeader(status int) {
	if c.wrote {
		return
	}
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		c.ResponseWriter.WriteHeader(status) // informational: the final answer follows
		return
	}
	c.wrote = true
	if status != http.StatusNotFound {
		c.ResponseWriter.WriteHeader(status)
		return
	}
	c.replaced = true
	header := c.ResponseWriter.Header()
	clear(header)
	maps.Copy(header, c.before)
	c.face.NotFound(c.ResponseWriter, c.request)
	// Fields that the upstream sets from here on could only become trailers.
	c.dropped = http.Header{}
}

// Header implements http.ResponseWriter.
func (c *concealer) Header() http.Header {
	if c.replaced {
		return c.dropped
	}
	return c.ResponseWriter.Header()
}

// Write implements http.ResponseWriter.
func (c *concealer) Write(p []byte) (int, error) {
	if !c.wrote {
		c.WriteHeader(http.StatusOK)
	}
	if c.replaced {
		return len(p), nil
	}
	return c.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom, so that a file goes out by sendfile as it
// would without the filter.
func (c *concealer) ReadFrom(src io.Reader) (int64, error) {
	if !c.wrote {
		c.WriteHeader(http.StatusOK)
	}
	if c.replaced {
		return io.Copy(io.Discard, src)
	}
	return io.Copy(c.ResponseWriter, src)
}

// FlushError implements what http.ResponseController looks for.
func (c *concealer) FlushError() error {
	if !c.wrote {
		c.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(c.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (c *concealer) Flush() { _ = c.FlushError() }

// Hijack implements http.Hijacker.
func (c *concealer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(c.ResponseWriter).Hijack()
}

// Unwrap gives http.ResponseController the writer below.
func (c *concealer) Unwrap() http.ResponseWriter { return c.ResponseWriter }
