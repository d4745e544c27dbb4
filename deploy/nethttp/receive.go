package nethttp

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// The time that a client has for the part of a body that the filter waits for:
// a start, and more with every byte, so that a slow client who sends comes
// through and one who drips does not. A body of 1 MiB may take 148 s.
var (
	bodyGrace         = 20 * time.Second
	bodyMinRate int64 = 8 << 10 // bytes a second
)

// Receive prepares an exchange for the filter. It is called before
// filter.NewRequest, with the writer and the request that the server made. The
// writer that it returns takes the place of w. decided is called when the filter
// has decided, done when the handler is about to return; neither may be left out,
// and done may be called by defer.
//
//   - A client that sends the body too slowly is cut off while the filter waits
//     for it. What streams on to the upstream afterwards has no such bound.
//   - A client that waits for 100 (Continue) and is answered without it gets the
//     answer, and the connection ends: nobody knows what its next bytes are.
//   - An offer to go on with HTTP/2 on the connection (Upgrade: h2c) is not taken,
//     and not passed on: behind an upstream that takes it every further request
//     would pass the filter unseen. WebSocket and other protocols are passed on.
func Receive(w http.ResponseWriter, hr *http.Request) (rw http.ResponseWriter, decided, done func()) {
	dropHTTPUpgrade(hr.Header)
	nothing := func() {}
	if hr.Body == nil || hr.Body == http.NoBody {
		return w, nothing, nothing
	}
	original := hr.Body
	if hr.ContentLength == 0 && hr.ProtoMajor < 3 {
		// No byte may come of it (http.Request), whatever other handlers have put
		// around it. So that nobody else finds any, the upstream gets none.
		hr.Body = http.NoBody
		return w, nothing, func() { hr.Body = original }
	}
	b := &timedBody{ReadCloser: original, controller: http.NewResponseController(w), start: time.Now(), timed: true}
	if server, ok := hr.Context().Value(http.ServerContextKey).(*http.Server); ok && server.ReadTimeout > 0 {
		b.ceiling = b.start.Add(server.ReadTimeout)
	}
	hr.Body = b
	if hr.ProtoMajor == 1 && httpguts.HeaderValuesContainsToken(hr.Header["Expect"], "100-continue") {
		w = &expecter{ResponseWriter: w, body: b}
	}
	return w, b.decided, func() {
		b.decided()
		if hr.ProtoMajor == 1 && !b.ended.Load() {
			// The server reads a small rest before it goes on.
			b.expire(time.Now().Add(bodyGrace))
		}
		// The server asks its own body how much is left of it.
		hr.Body = original
	}
}

// timedBody is a body that must come in time until the filter has decided.
type timedBody struct {
	io.ReadCloser
	controller *http.ResponseController
	start      time.Time
	ceiling    time.Time // of the server; zero for none
	timed      bool      // the filter waits; belongs to the handler's goroutine
	armed      bool
	late       bool // a deadline has passed
	n          int64
	ended      atomic.Bool
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	if b.ended.Load() || !b.timed {
		n, err := b.ReadCloser.Read(p)
		if errors.Is(err, io.EOF) {
			b.ended.Store(true)
		}
		return n, err
	}
	b.expire(b.start.Add(bodyGrace + time.Duration(b.n)*time.Second/time.Duration(bodyMinRate)))
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		b.ended.Store(true)
		b.disarm() // the server reads on, to learn whether the client goes away
	case errors.Is(err, os.ErrDeadlineExceeded):
		// It stays, so that the server does not wait in its turn.
		b.armed, b.late = false, true
	}
	return n, err
}

// expire sets the deadline of reading, unless one has passed. A host that knows no
// deadlines has to see to slow clients by itself.
func (b *timedBody) expire(due time.Time) {
	if b.late {
		return
	}
	if !b.ceiling.IsZero() && due.After(b.ceiling) {
		due = b.ceiling
	}
	b.armed = b.controller.SetReadDeadline(due) == nil
}

// decided ends the bound.
func (b *timedBody) decided() {
	if b.timed {
		b.timed = false
		b.disarm()
	}
}

func (b *timedBody) disarm() {
	if b.armed {
		b.armed = false
		_ = b.controller.SetReadDeadline(b.ceiling) // it worked before
	}
}

// expecter closes the connection behind an answer that comes before the end of a
// body for which the client waits to be asked.
type expecter struct {
	http.ResponseWriter
	body  *timedBody
	wrote bool
}

// WriteHeader implements http.ResponseWriter.
func (e *expecter) WriteHeader(status int) {
	if status >= 200 {
		e.final()
	}
	e.ResponseWriter.WriteHeader(status)
}

func (e *expecter) final() {
	if !e.wrote {
		e.wrote = true
		if !e.body.ended.Load() {
			e.Header().Set("Connection", "close")
		}
	}
}

// Write implements http.ResponseWriter.
func (e *expecter) Write(p []byte) (int, error) {
	e.final()
	return e.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (e *expecter) ReadFrom(src io.Reader) (int64, error) {
	e.final()
	return io.Copy(e.ResponseWriter, src)
}

// FlushError implements what http.ResponseController looks for.
func (e *expecter) FlushError() error {
	e.final()
	return http.NewResponseController(e.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (e *expecter) Flush() { _ = e.FlushError() }

// Hijack implements http.Hijacker.
func (e *expecter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(e.ResponseWriter).Hijack()
}

// Unwrap gives http.ResponseController the writer below.
func (e *expecter) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// dropHTTPUpgrade removes the offer of another version of HTTP from Upgrade (RFC
// 9110 section 7.8), which a server may always leave unanswered.
func dropHTTPUpgrade(h http.Header) {
	lines, ok := h["Upgrade"]
	if !ok {
		return
	}
	var kept []string
	for _, line := range lines {
		for protocol := range strings.SplitSeq(line, ",") {
			protocol = strings.TrimSpace(protocol)
			name, _, _ := strings.Cut(protocol, "/")
			switch strings.ToLower(name) {
			case "", "h2c", "h2", "h3", "http":
			default:
				kept = append(kept, protocol)
			}
		}
	}
	delete(h, "Http2-Settings")
	if kept == nil {
		delete(h, "Upgrade")
		return
	}
	h["Upgrade"] = []string{strings.Join(kept, ", ")}
}
