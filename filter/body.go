package filter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// body is the state of a request's body: what of it was read, and the replay
// that stands in its place.
type body struct {
	read  bool
	whole bool
	buf   []byte
	err   error
}

// BodyError is a body that the client did not send as announced: a broken chunk,
// a connection that ended early, a form of transfer that the server refuses. It
// is the client's fault, not the filter's.
type BodyError struct{ Err error }

// Error implements error.
func (e *BodyError) Error() string { return fmt.Sprintf("reading the request body: %v", e.Err) }

// Unwrap returns the cause.
func (e *BodyError) Unwrap() error { return e.Err }

// ReadBody returns the first bytes of the request body, limit at most, and
// whether that is all of it. It may be called again, with the same limit, and
// returns the same bytes. Callers must not change them.
//
// The body stays complete for the upstream: HTTP.Body yields what was read and
// then the rest, byte for byte, and closing it closes the original.
//
// The error is a *BodyError: the client's, and final.
func (r *Request) ReadBody(limit int64) (data []byte, whole bool, err error) {
	if r.body.read {
		return r.body.buf, r.body.whole, r.body.err
	}
	r.body.read = true
	src := r.HTTP.Body
	if src == nil || src == http.NoBody || limit <= 0 && r.HTTP.ContentLength == 0 {
		r.body.whole = true
		return nil, true, nil
	}

	// One byte over the limit tells a body that fits exactly from one that
	// does not. The announced length saves growing, and is a client's word:
	// it is taken up to a bound only.
	const trustedLength = 64 << 10
	var buf bytes.Buffer
	if n := min(r.HTTP.ContentLength, limit, trustedLength); n > 0 {
		buf.Grow(int(n) + 1 + bytes.MinRead)
	}
	_, err = io.Copy(&buf, io.LimitReader(src, limit+1))
	b := buf.Bytes()
	r.HTTP.Body = &replay{Reader: io.MultiReader(bytes.NewReader(b), &tail{src: src, err: err}), src: src}

	if err != nil {
		r.body.err = &BodyError{Err: err}
		return nil, false, r.body.err
	}
	if int64(len(b)) > limit {
		r.body.buf = b[:limit:limit]
		return r.body.buf, false, nil
	}
	r.body.buf, r.body.whole = b, true
	return b, true, nil
}

// BodyTooLarge reports whether err is the refusal of a body by a size limit that
// the host has set with http.MaxBytesReader.
func BodyTooLarge(err error) bool {
	var tooLarge *http.MaxBytesError
	return errors.As(err, &tooLarge)
}

// replay is a body of which the beginning was read before.
type replay struct {
	io.Reader
	src io.ReadCloser
}

// Close closes the original body.
func (b *replay) Close() error { return b.src.Close() }

// tail is the unread rest of a body. An error of the first read stays one: the
// upstream must not take the part that arrived for the whole.
type tail struct {
	src io.Reader
	err error
}

func (t *tail) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	return t.src.Read(p)
}
