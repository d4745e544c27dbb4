package decide

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// plainListener takes the connections of hosts that ask over a Unix socket.
type plainListener struct {
	net.Listener
	handler *Handler
}

// Accept implements net.Listener.
func (l plainListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &plainConn{Conn: c, io: quiet(c), handler: l.handler}, nil
}

// plainConn is a connection of a host that answers by itself the questions about
// requests without a body, where the server waits for the next question. The
// server gets everything else, byte for byte. It would start a goroutine for each
// question, and each of them is one more wake-up: half of what a decision costs.
type plainConn struct {
	net.Conn
	io      io.ReadWriter // of Conn; not read while the server reads
	handler *Handler
	session *session
	closing *atomic.Bool // of the server

	// raw is set while the server reads a question and answers it. Only the goroutine
	// that serves the connection, and the one that reads for it, know it.
	raw   bool
	given atomic.Bool // the server has got a question, and so knows when it is idle
	w     plainWriter
	part  []byte // of a brief question that has not come as a whole

	answering sync.Mutex // held while a question is answered
	closed    bool       // guarded by answering
}

// Read implements io.Reader.
func (c *plainConn) Read(p []byte) (int, error) {
	for !c.raw && c.session != nil {
		if c.closing.Load() && !c.given.Load() {
			return 0, io.EOF
		}
		n, err := c.io.Read(p)
		if n == 0 || err != nil {
			return n, err
		}
		switch {
		case c.part != nil || begins(p[:n], briefBegin):
			c.brief(p[:n])
		default:
			if text, ok := cutPlain(p[:n]); !ok || !c.answer(text) {
				c.raw = true
				c.given.Store(true)
				return n, nil
			}
		}
		if c.w.err != nil {
			return 0, c.w.err
		}
	}
	return c.Conn.Read(p)
}

// Write implements io.Writer. It is the server's, which writes while no question is
// answered here.
func (c *plainConn) Write(p []byte) (int, error) { return c.io.Write(p) }

// Close implements io.Closer. A question that is being answered is answered first.
func (c *plainConn) Close() error {
	if !c.answering.TryLock() {
		_ = c.SetWriteDeadline(time.Now().Add(headTime)) // of a host that does not read
		c.answering.Lock()
	}
	defer c.answering.Unlock()
	c.closed = true
	return c.Conn.Close()
}

// The beginning of a question that plainConn answers, up to the length of its head,
// and what is between that and the other one. Questions that are written in another
// way are the server's.
const (
	plainBegin  = "POST /v1/decide HTTP/1.1\r\nHost: moat\r\nMoat-Protocol: " + Version + "\r\nMoat-Head: "
	plainLength = "\r\nContent-Length: "
)

// cutPlain returns the head of a question that is there as a whole, with no byte
// behind it.
func cutPlain(p []byte) (text []byte, ok bool) {
	p, ok = bytes.CutPrefix(p, []byte(plainBegin))
	if !ok {
		return nil, false
	}
	header, text, ok := bytes.Cut(p, []byte("\r\n\r\n"))
	if !ok {
		return nil, false
	}
	head, length, ok := bytes.Cut(header, []byte(plainLength))
	if !ok || !bytes.Equal(head, length) || len(head) == 0 || len(head) > 9 {
		return nil, false
	}
	n := 0
	for _, c := range head {
		if c < '0' || c > '9' {
			return nil, false
		}
		n = 10*n + int(c-'0')
	}
	return text, n == len(text)
}

// answer answers a question, and reports whether it did: one that is at fault, or about
// a request with a body, is the server's.
func (c *plainConn) answer(text []byte) bool {
	q, err := parseHead(string(text))
	if err != nil || q.hasBody {
		return false
	}
	c.reply(func() { c.handler.judge(&c.w, plainPost, q, c.session) })
	return true
}

// reply writes what judge has said to c.w, which has begun anew.
func (c *plainConn) reply(judge func()) {
	c.answering.Lock()
	defer c.answering.Unlock()
	if c.closed { // nothing is decided of which nobody would hear
		c.w.err = net.ErrClosed
		return
	}
	c.session.release(0) // the host asks on, so the last request has ended
	c.w.reset()
	judge()
	c.w.send(c.io)
}

// plainPost stands for the question in which a head has come.
var plainPost = &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/v1/decide"}, ProtoMajor: 1, ProtoMinor: 1}

// plainWriter writes the answer to a host as one piece.
type plainWriter struct {
	header  http.Header
	status  int
	content []byte
	out     bytes.Buffer
	err     error // of the connection
}

// maxKept is how much memory a connection keeps for its next answer, in bytes.
const maxKept = 4 << 10

func (w *plainWriter) reset() {
	if w.header == nil {
		w.header = make(http.Header)
	}
	clear(w.header)
	w.header["Date"] = nil // the host's answer has one of its own
	w.status, w.content = 0, w.content[:0]
	if cap(w.content) > maxKept {
		w.content = nil
	}
	if w.out.Reset(); w.out.Cap() > maxKept {
		w.out = bytes.Buffer{}
	}
}

// Header implements http.ResponseWriter.
func (w *plainWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *plainWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write implements http.ResponseWriter.
func (w *plainWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.content = append(w.content, p...)
	return len(p), nil
}

// passes is the answer that net/http writes where nothing is to be changed.
var passes = []byte("HTTP/1.1 204 No Content\r\nMoat-Verdict: pass\r\n\r\n")

// send writes the answer.
func (w *plainWriter) send(conn io.Writer) {
	w.WriteHeader(http.StatusOK)
	if w.status == http.StatusNoContent && len(w.header) == 2 && len(w.header["Moat-Verdict"]) == 1 && w.header["Moat-Verdict"][0] == verdictPass[0] {
		_, w.err = conn.Write(passes)
		return
	}
	if w.status != http.StatusNoContent {
		w.header["Content-Length"] = []string{strconv.Itoa(len(w.content))}
	}
	w.out.WriteString("HTTP/1.1 " + strconv.Itoa(w.status) + " " + http.StatusText(w.status) + "\r\n")
	_ = w.header.Write(&w.out) // a Buffer takes everything
	w.out.WriteString("\r\n")
	w.out.Write(w.content)
	_, w.err = conn.Write(w.out.Bytes())
	if strings.EqualFold(w.header.Get("Connection"), "close") && w.err == nil {
		w.err = io.EOF
	}
}
