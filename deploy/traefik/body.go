package traefik

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// errTooLarge ends a body of which the daemon may not see more.
var errTooLarge = &http.MaxBytesError{}

// sentBody is a request's body, of which the daemon gets the beginning that it asks
// for. What was read of it is kept, for the upstream and for another try.
type sentBody struct {
	src    io.ReadCloser
	max    int64 // most bytes that the daemon may get; 0 for no bound
	seen   []byte
	err    error         // of reading behind seen; io.EOF at the end
	waited time.Duration // for the client
	sent   int           // of seen, in this exchange
	ended  bool          // the daemon was told of the end, in this exchange
}

// send sends the next n bytes, or what there is and the end. It returns the new
// deadline of the exchange: the daemon has timeout from now on.
func (b *sentBody) send(conn net.Conn, n int, timeout time.Duration) (time.Time, error) {
	for n > 0 {
		if b.sent == len(b.seen) && b.err == nil {
			b.read(n)
		}
		p := b.seen[b.sent:]
		if b.max > 0 && int64(len(b.seen)) > b.max {
			p = b.seen[b.sent:b.max]
			b.err = errTooLarge
		}
		if len(p) > n {
			p = p[:n]
		}
		trailer := ""
		if len(p) == 0 {
			trailer = b.end()
		}
		if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
			return time.Time{}, err
		}
		if len(p) == 0 {
			b.ended = true
			_, err := io.WriteString(conn, "0\r\n"+trailer+"\r\n")
			return time.Now().Add(timeout), err
		}
		buffers := net.Buffers{[]byte(fmt.Sprintf("%x\r\n", len(p))), p, []byte("\r\n")}
		if _, err := buffers.WriteTo(conn); err != nil {
			return time.Time{}, err
		}
		b.sent += len(p)
		n -= len(p)
	}
	return time.Now().Add(timeout), nil
}

// read reads at most n bytes more of the body.
func (b *sentBody) read(n int) {
	if n > 32<<10 {
		n = 32 << 10
	}
	if b.max > 0 && int64(n) > b.max-int64(len(b.seen))+1 {
		n = int(b.max-int64(len(b.seen))) + 1 // one more tells that there is more
	}
	start := time.Now()
	p := make([]byte, n)
	got, err := b.src.Read(p)
	b.seen = append(b.seen, p[:got]...)
	b.err = err
	b.waited += time.Since(start)
}

// end returns the trailer that tells how the body has ended.
func (b *sentBody) end() string {
	var tooLarge *http.MaxBytesError
	switch {
	case b.err == io.EOF:
		return ""
	case errors.As(b.err, &tooLarge):
		return "Moat-Body: too-large\r\n"
	}
	return "Moat-Body: broken\r\n"
}

// replayed returns r with the body as it came, if a part of it was read. The
// original is left to the server, which has to know how much of it is left.
func (b *sentBody) replayed(r *http.Request) *http.Request {
	if b.seen == nil && b.err == nil {
		return r
	}
	body := io.MultiReader(bytes.NewReader(b.seen), b.src)
	if b.err != nil { // the upstream must not take a part for the whole
		failed, w := io.Pipe()
		_ = w.CloseWithError(b.err) // never fails
		body = io.MultiReader(bytes.NewReader(b.seen), failed)
	}
	r = r.WithContext(r.Context())
	r.Body = io.NopCloser(body)
	return r
}
