package nethttp

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/moatwaf/moat/filter"
)

// Watch returns w, or where a stage awaits the status of the answer, a writer that
// tells it to r and passes everything on as it comes. Serve uses it; a host that
// calls the engine itself does the same, before it answers or calls the upstream.
func Watch(w http.ResponseWriter, r *filter.Request) http.ResponseWriter {
	if !r.StatusAwaited() {
		return w
	}
	return &watcher{ResponseWriter: w, request: r}
}

// watcher tells a request the status of its answer.
type watcher struct {
	http.ResponseWriter
	request *filter.Request
}

// WriteHeader implements http.ResponseWriter.
func (s *watcher) WriteHeader(status int) {
	s.request.Answered(status)
	s.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (s *watcher) Write(p []byte) (int, error) {
	s.request.Answered(http.StatusOK)
	return s.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom, so that a file goes out by sendfile as it
// would without the filter.
func (s *watcher) ReadFrom(src io.Reader) (int64, error) {
	s.request.Answered(http.StatusOK)
	return io.Copy(s.ResponseWriter, src)
}

// FlushError implements what http.ResponseController looks for.
func (s *watcher) FlushError() error {
	s.request.Answered(http.StatusOK)
	return http.NewResponseController(s.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (s *watcher) Flush() { _ = s.FlushError() }

// Hijack implements http.Hijacker.
func (s *watcher) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	s.request.Answered(http.StatusSwitchingProtocols)
	return http.NewResponseController(s.ResponseWriter).Hijack()
}

// Unwrap gives http.ResponseController the writer below.
func (s *watcher) Unwrap() http.ResponseWriter { return s.ResponseWriter }
