package decide

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strconv"
)

var (
	encrypted     = &tls.ConnectionState{HandshakeComplete: true}
	chunkedCoding = []string{"chunked"}
)

var errBroken = errors.New("the client did not send the body that it announced")

// body is the client's body behind the head of a question. It asks the host for
// what is read of it, if the host waits to be asked.
type body struct {
	post *http.Request
	rec  *recorder
	asks bool
	due  int64 // bytes that were asked for and have not come
	max  int64
	n    int64
	err  error
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if b.asks {
		if b.due == 0 {
			b.due = int64(len(p))
			h := b.rec.below.Header()
			h["Moat-Want"] = []string{strconv.Itoa(len(p))}
			b.rec.below.WriteHeader(http.StatusContinue)
			delete(h, "Moat-Want")
		}
		p = p[:min(int64(len(p)), b.due)]
	}
	n, err := b.post.Body.Read(p)
	b.due -= int64(n)
	b.n += int64(n)
	switch {
	case b.max > 0 && b.n > b.max:
		err = &http.MaxBytesError{Limit: b.max}
	case err == io.EOF:
		switch b.post.Trailer.Get("Moat-Body") {
		case "":
		case "too-large":
			err = &http.MaxBytesError{Limit: b.n}
		default:
			err = errBroken
		}
	}
	b.err = err
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error { return nil }

// withhold makes of a request whose body the host cannot send one with an empty body:
// what its header says is judged, and no rule misses what is not there.
func withhold(hr *http.Request) {
	hr.Body, hr.ContentLength, hr.TransferEncoding = http.NoBody, 0, nil
	hr.Header["Content-Length"] = []string{"0"}
}
