package traefik

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	maxFields = 16 << 10 // bytes of fields for which a connection keeps memory for long
	maxAnswer = 1 << 20  // bytes of a daemon's answer
	pause     = 5 * time.Millisecond
)

// brief is a brief question, about a request without a body. plain is one in HTTP: the
// length of its head and of the line end behind it, and the head. withBody is the
// beginning of one about a request with a body. nothing is the commonest answer: the request passes, and
// nothing of it is to be changed.
const (
	brief    = "MOAT/1\n%s\n%s\n%s\n%s\n%s\n-\n%s\n%s\r\n"
	post     = "POST /v1/decide HTTP/1.1\r\nHost: moat\r\nMoat-Protocol: 1\r\nMoat-Head: %[1]d\r\n"
	plain    = post + "Content-Length: %[1]d\r\n\r\n%[2]s\r\n"
	withBody = post + "Transfer-Encoding: chunked\r\nTrailer: Moat-Body\r\n\r\n%[1]x\r\n"
	nothing  = "HTTP/1.1 204 No Content\r\nMoat-Verdict: pass\r\n\r\n"
)

// daemon is a moat daemon, shared by all routers that ask it; it survives reloads
// of Traefik's configuration.
type daemon struct {
	path string
	idle sync.Pool // of *link; what is not used in two rounds of the collector is closed

	mu     sync.Mutex
	gone   bool // a request has waited in vain, and nobody could connect since
	told   time.Time
	untold int // requests without a decision since then
}

var (
	daemonsMu sync.Mutex
	daemons   = map[string]*daemon{}
)

// daemonAt returns the daemon of a socket.
func daemonAt(path string) *daemon {
	daemonsMu.Lock()
	defer daemonsMu.Unlock()
	d := daemons[path]
	if d == nil {
		d = &daemon{path: path}
		daemons[path] = d
	}
	return d
}

// link is a connection to a daemon: one exchange at a time.
type link struct {
	conn   net.Conn
	fields *bytes.Buffer // of the question in ServeHTTP
	answer []byte        // to it, or its beginning
	renew  time.Time     // when the deadline is to be moved; that costs more than a comparison
	used   bool
}

// renew moves the deadline of a connection: an exchange that begins until a quarter
// of the time is over has the rest of it. What one long question has taken is given back.
func renew(l *link, timeout time.Duration) {
	now := time.Now()
	_ = l.conn.SetDeadline(now.Add(timeout)) // a fault comes back from the next read
	l.renew = now.Add(timeout / 4)
	if l.fields.Cap() > maxFields {
		l.fields = new(bytes.Buffer)
	}
}

func (d *daemon) dial(timeout time.Duration) (*link, error) {
	conn, err := net.DialTimeout("unix", d.path, timeout)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.gone = false
	d.mu.Unlock()
	return newLink(conn), nil
}

func newLink(conn net.Conn) *link {
	return &link{conn: conn, fields: new(bytes.Buffer), answer: make([]byte, len(nothing)+1)}
}

// put gives a connection back after an exchange; l is nil if it cannot be used again.
func (d *daemon) put(l *link) {
	if l == nil {
		return
	}
	l.used = true
	d.idle.Put(l)
}

// drop closes the idle connections.
func (d *daemon) drop() {
	for {
		l, ok := d.idle.Get().(*link)
		if !ok {
			return
		}
		_ = l.conn.Close()
	}
}

// fail closes a connection over which an exchange has failed. If the daemon has
// closed it while it was idle, it has closed the others too.
func (d *daemon) fail(l *link, err error) {
	_ = l.conn.Close()
	if l.used && !errors.Is(err, os.ErrDeadlineExceeded) {
		d.drop()
	}
}

// after returns the connection for another exchange; nil if it cannot be used again.
func (d *daemon) after(l *link, in *bufio.Reader, res *http.Response) *link {
	if res.Close || in.Buffered() > 0 {
		_ = l.conn.Close()
		return nil
	}
	return l
}

// ask asks the daemon until it answers or the time is over, which began at start. body
// is nil if there is none. It returns the connection, for put or report, and the
// answer with its content. err is why it is asked again.
func (m *Moat) ask(start time.Time, head []byte, body *sentBody, err error) (*link, *http.Response, []byte, error) {
	d := m.daemon
	var waited time.Duration // for the client
	began := time.Now()
	for {
		if err != nil && time.Since(start)-waited >= m.timeout {
			d.lost()
			return nil, nil, nil, err
		}
		err = nil
		l, ok := d.idle.Get().(*link)
		if !ok {
			l, err = d.dial(m.timeout)
		}
		if err == nil {
			var res *http.Response
			var content []byte
			in := bufio.NewReaderSize(l.conn, 512)
			res, err = m.exchange(l, in, head, body, start.Add(waited+m.timeout))
			if body != nil {
				waited = body.waited
			}
			if err == nil {
				content, err = verdict(res)
			}
			if err == nil {
				return d.after(l, in, res), res, content, nil
			}
			d.fail(l, err)
			if errors.Is(err, errRefused) {
				return nil, nil, nil, err
			}
			if l.used {
				continue
			}
		}
		if d.hopeless(m.pass) || time.Since(began)-waited+pause > m.retry {
			d.lost()
			return nil, nil, nil, err
		}
		time.Sleep(pause)
	}
}

// exchange asks on one connection and returns the answer.
func (m *Moat) exchange(l *link, in *bufio.Reader, head []byte, body *sentBody, deadline time.Time) (*http.Response, error) {
	l.renew = time.Time{} // the deadline is moved, and may be so again
	if err := l.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if body != nil {
		return l.askWith(in, head, body, deadline)
	}
	if _, err := fmt.Fprintf(l.conn, plain, len(head), head[:len(head)-2]); err != nil {
		return nil, err
	}
	return http.ReadResponse(in, nil)
}

// verdict reads the rest of an answer.
func verdict(res *http.Response) ([]byte, error) {
	var content []byte
	if res.ContentLength != 0 {
		var err error
		content, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		if err != nil {
			return nil, err
		}
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent {
		return nil, fmt.Errorf("%w: %s: %s", errRefused, res.Status, bytes.TrimSpace(content))
	}
	v := res.Header.Get("Moat-Verdict")
	if v != "pass" && v != "answer" {
		return nil, fmt.Errorf("%w: no verdict", errRefused)
	}
	return content, nil
}

// hopeless reports whether there is no use in waiting: another request has. Where
// requests wait to be refused they may as well wait for the daemon.
func (d *daemon) hopeless(pass bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return pass && d.gone
}

func (d *daemon) lost() {
	d.mu.Lock()
	d.gone = true
	d.mu.Unlock()
}

// complain logs that requests were not decided about, once a minute.
func (d *daemon) complain(err error, pass bool) {
	d.mu.Lock()
	d.untold++
	n := d.untold
	silent := time.Since(d.told) < time.Minute
	if !silent {
		d.told = time.Now()
		d.untold = 0
	}
	d.mu.Unlock()
	if silent {
		return
	}
	became := "refused"
	if pass {
		became = "passed on unjudged"
	}
	log.Printf("moat: no decision from %s: %v; requests %s since the last such line: %d", d.path, err, became, n)
}

// errRefused says that the daemon does not take the question; asking again will not help.
var errRefused = errors.New("the daemon does not take the question")

// askWith asks about a request with a body, of which the daemon says how much it
// wants.
func (l *link) askWith(in *bufio.Reader, head []byte, body *sentBody, deadline time.Time) (*http.Response, error) {
	body.sent = 0
	body.ended = false
	question := net.Buffers{
		fmt.Appendf(nil, withBody, len(head)),
		head, []byte("\r\n"),
	}
	if _, err := question.WriteTo(l.conn); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(in, nil)
	for err == nil && res.StatusCode == http.StatusContinue && !body.ended {
		want, _ := strconv.Atoi(res.Header.Get("Moat-Want"))
		deadline, err = body.send(l.conn, want, time.Until(deadline))
		if err == nil {
			res, err = http.ReadResponse(in, nil)
		}
	}
	if err == nil && !body.ended {
		_, err = io.WriteString(l.conn, "0\r\n\r\n")
	}
	return res, err
}

// report tells the daemon that a request has ended, on the connection over which it
// was decided.
func (d *daemon) report(l *link, timeout time.Duration, w *watcher) {
	if l == nil {
		return
	}
	renew(l, timeout)
	_, err := io.WriteString(l.conn, "POST /v1/report HTTP/1.1\r\nHost: moat\r\nMoat-Protocol: 1\r\nMoat-Status: "+strconv.Itoa(w.status)+"\r\nContent-Length: 0\r\n\r\n")
	if err == nil {
		in := bufio.NewReaderSize(l.conn, 512)
		var res *http.Response
		res, err = http.ReadResponse(in, nil)
		if err == nil && res.StatusCode == http.StatusNoContent {
			d.put(d.after(l, in, res))
			return
		}
	}
	_ = l.conn.Close()
}
