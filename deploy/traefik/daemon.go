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
	"strconv"
	"sync"
	"time"
)

const (
	maxIdle   = 256     // connections that are kept for the next question
	maxAnswer = 1 << 20 // bytes of a daemon's answer
	pause     = 5 * time.Millisecond
)

// daemon is a moat daemon, shared by all routers that ask it; it survives reloads
// of Traefik's configuration.
type daemon struct {
	path string

	mu     sync.Mutex
	idle   []*link // the one that was used last is the last
	gone   bool    // a request has waited in vain, and nobody could connect since
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
	conn net.Conn
	r    *bufio.Reader
	due  time.Time // the deadline; a new one costs more than a comparison
	used bool
}

func (d *daemon) dial(timeout time.Duration) (*link, error) {
	conn, err := net.DialTimeout("unix", d.path, timeout)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.gone = false
	d.mu.Unlock()
	return &link{conn: conn, r: bufio.NewReader(conn)}, nil
}

// put gives a connection back after an exchange; l is nil if it cannot be used again.
func (d *daemon) put(l *link) {
	if l == nil {
		return
	}
	l.used = true
	d.mu.Lock() // Yaegi's select is not fit for several goroutines
	keep := len(d.idle) < maxIdle
	if keep {
		d.idle = append(d.idle, l)
	}
	d.mu.Unlock()
	if !keep {
		_ = l.conn.Close()
	}
}

// drop closes every idle connection.
func (d *daemon) drop() {
	d.mu.Lock()
	idle := d.idle
	d.idle = nil
	d.mu.Unlock()
	for _, l := range idle {
		_ = l.conn.Close()
	}
}

// ask asks the daemon until it answers or the time is over. body is nil if there is
// none. It returns the connection, for put or report, and the answer with its
// content; no connection if the answer is that nothing is to be changed.
func (m *Moat) ask(head []byte, body *sentBody) (*link, *http.Response, []byte, error) {
	d := m.daemon
	start := time.Now()
	var waited time.Duration // for the client
	for {
		var l *link
		var err error
		d.mu.Lock()
		if n := len(d.idle); n > 0 {
			l = d.idle[n-1]
			d.idle = d.idle[:n-1]
		}
		d.mu.Unlock()
		if l == nil {
			l, err = d.dial(m.timeout)
		}
		if err == nil {
			var res *http.Response
			var content []byte
			if body != nil || l.due.Sub(start) < m.soon {
				l.due = start.Add(waited + m.timeout)
				err = l.conn.SetDeadline(l.due)
			}
			if err == nil && body == nil {
				question := net.Buffers{fmt.Appendf(nil, post+"Content-Length: %[1]d\r\n\r\n", len(head)), head}
				_, err = question.WriteTo(l.conn)
				if err == nil {
					res, err = http.ReadResponse(l.r, nil)
				}
			} else if err == nil {
				res, err = l.askWith(head, body, l.due)
				waited = body.waited
				l.due = start // it was moved
			}
			if err == nil {
				if res.StatusCode == http.StatusNoContent && res.Header["Moat-Verdict"] != nil && !res.Close {
					d.put(l)
					return nil, res, nil, nil
				}
				content, err = verdict(res)
			}
			if err == nil {
				if res.Close {
					_ = l.conn.Close()
					l = nil
				}
				return l, res, content, nil
			}
			_ = l.conn.Close()
			if errors.Is(err, errRefused) {
				return nil, nil, nil, err
			}
			if l.used {
				d.drop() // closed while it was idle, and so are the others
				continue
			}
		}
		if d.hopeless(m.pass) || time.Since(start)-waited+pause > m.retry {
			d.lost()
			return nil, nil, nil, err
		}
		time.Sleep(pause)
	}
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

// post is the beginning of a question.
const post = "POST /v1/decide HTTP/1.1\r\nHost: moat\r\nMoat-Protocol: 1\r\nMoat-Head: %[1]d\r\n"

// askWith asks about a request with a body, of which the daemon says how much it
// wants.
func (l *link) askWith(head []byte, body *sentBody, deadline time.Time) (*http.Response, error) {
	body.sent = 0
	body.ended = false
	question := net.Buffers{
		fmt.Appendf(nil, post+"Transfer-Encoding: chunked\r\nTrailer: Moat-Body\r\n\r\n%[1]x\r\n", len(head)),
		head, []byte("\r\n"),
	}
	if _, err := question.WriteTo(l.conn); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(l.r, nil)
	for err == nil && res.StatusCode == http.StatusContinue && !body.ended {
		want, _ := strconv.Atoi(res.Header.Get("Moat-Want"))
		deadline, err = body.send(l.conn, want, time.Until(deadline))
		if err == nil {
			res, err = http.ReadResponse(l.r, nil)
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
	l.due = time.Now().Add(timeout)
	_ = l.conn.SetDeadline(l.due) // a fault comes back from the write
	_, err := io.WriteString(l.conn, "POST /v1/report HTTP/1.1\r\nHost: moat\r\nMoat-Protocol: 1\r\nMoat-Status: "+strconv.Itoa(w.status)+"\r\nContent-Length: 0\r\n\r\n")
	if err == nil {
		var res *http.Response
		res, err = http.ReadResponse(l.r, nil)
		if err == nil && !res.Close && res.StatusCode == http.StatusNoContent {
			d.put(l)
			return
		}
	}
	_ = l.conn.Close()
}
