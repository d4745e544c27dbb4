package filter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// body is the state of a request's body: what of it was read, and the replay
// that stands in its place.
type body struct {
	read     bool
	whole    bool
	buf      []byte
	err      error
	reserved int64 // of bodyMemory, until Release
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
// then the rest, byte for byte. Closing it closes the original, but for an unread
// rest on a connection of HTTP/1, which is the server's to deal with.
//
// What the process holds of bodies at one time is bounded; see BodyMemory. A body
// that finds no room makes Pipeline.Decide fail as if the stage had failed,
// whatever the stage says.
//
// The error is a *BodyError, and final: the client's, or ErrNoRoom.
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

	limit = min(limit, mostBody)
	b, err := r.fill(src, limit)
	rest := &tail{src: src, err: err}
	if err == ErrNoRoom {
		rest.err = nil // nothing is wrong with the body; a policy may let it pass unread
	}
	r.HTTP.Body = &replay{Reader: io.MultiReader(bytes.NewReader(b), rest), src: src}

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

// trustedLength is how many bytes of an announced length are taken at its word.
const trustedLength = 16 << 10

// beginning is the first bytes of a body that is longer.
type beginning [trustedLength + 1]byte

var beginnings = sync.Pool{New: func() any { return new(beginning) }}

// fill reads limit bytes and one more, which tells a body that fits exactly from
// one that does not.
func (r *Request) fill(src io.Reader, limit int64) (b []byte, err error) {
	// The announced length saves growing, and is a client's word: it is taken
	// up to a bound only. No client holds more than it has sent, but for this.
	const first = 512
	if size := min(r.HTTP.ContentLength, limit); size <= trustedLength {
		b = make([]byte, 0, max(first, size+1))
	} else {
		// The beginning of what most likely takes more is read into memory that is
		// used again: it moves on as soon as the rest comes.
		start := beginnings.Get().(*beginning)
		b = start[:0]
		defer func() {
			if cap(b) == len(start) && &b[:1][0] == &start[0] {
				b = bytes.Clone(b)
			}
			beginnings.Put(start)
		}()
	}
	for {
		if int64(len(b)) > limit {
			return b, nil
		}
		if len(b) == cap(b) {
			size := 2 * int64(cap(b))
			// What has come vouches for as much again, and a little more if that is all.
			if announced := r.HTTP.ContentLength + 1; announced > int64(cap(b)) && announced <= 2*size {
				size = announced
			}
			size = min(size, limit+1)
			if !r.reserve(size, limit) {
				return b, ErrNoRoom
			}
			b = append(make([]byte, 0, size), b...)
		}
		n, err := src.Read(b[len(b):min(int64(cap(b)), limit+1)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// BodyMemory bounds what the process holds of request bodies that stages read, in
// bytes, so that many clients who send large bodies at a time cannot take all of
// its memory. A policy that reads longer bodies than a quarter of it raises it to
// four of them. Change it before the first request only.
var BodyMemory int64 = 128 << 20

// mostBody bounds the limit of ReadBody, in bytes, so that sums with it stay
// numbers.
const mostBody = 1 << 40

// freeBody is the size of bodies that do not count: forms still come through
// while large bodies have taken everything.
const freeBody = 16<<10 + 1

// bodyMemory is what is held of bodies, in bytes.
var bodyMemory atomic.Int64

// ErrNoRoom says that other bodies have taken all of BodyMemory.
var ErrNoRoom = errors.New("no room for the request body")

// reserve takes memory so that r holds size bytes, and reports whether there is so
// much.
func (r *Request) reserve(size, limit int64) bool {
	if size <= freeBody {
		return true
	}
	more := size - r.body.reserved
	if bodyMemory.Add(more) > max(BodyMemory, 4*limit) {
		bodyMemory.Add(-more)
		return false
	}
	r.body.reserved = size
	return true
}

// starved reports whether the body found no room.
func (r *Request) starved() bool { return r.body.err != nil && errors.Is(r.body.err, ErrNoRoom) }

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

// held is the body of a request of HTTP/1. Closing it ends reading. It closes the
// connection's own body only if that was read to its end, and otherwise leaves the
// rest to the server.
//
// net/http looks at the body of its request to see whether bytes of it are still
// on the way when the answer is through. If somebody has put another body in its
// place, and closed the original early, it takes those bytes for the next request:
// whoever shares the connection gets the wrong answers, and a body can be a
// request that comes from a trusted proxy. A body that nobody has closed net/http
// reads to its end, or it closes the connection.
type held struct {
	io.ReadCloser
	ended  atomic.Bool // all of it was read
	closed atomic.Bool
}

// Read implements io.Reader.
func (b *held) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.ended.Store(true)
	}
	return n, err
}

// Close implements io.Closer.
func (b *held) Close() error {
	b.closed.Store(true)
	if b.ended.Load() {
		return b.ReadCloser.Close()
	}
	return nil
}

// hold puts a held body in the place of one that the server still has to see the
// end of.
func hold(hr *http.Request) {
	if hr.ProtoMajor == 1 && hr.Body != nil && hr.Body != http.NoBody {
		hr.Body = &held{ReadCloser: hr.Body}
	}
}

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
