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
	maxIdle   = 256              // connections that are kept for the next question
	idleTime  = 90 * time.Second // and for how long
	maxAnswer = 1 << 20          // bytes of a daemon's answer
	pause     = 5 * time.Millisecond
)

// daemon is a moat daemon, shared by all routers that ask it; it survives reloads
// of Traefik's configuration.
type daemon struct {
	path string

	mu     sync.Mutex
	idle   []*link // the one that was used last is the last
	gone   bool    // a request has waited in vain, and none got an answer since
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
	used time.Time // zero for one that has not been used
}

// get returns an idle connection, or a new one.
func (d *daemon) get(timeout time.Duration) (*link, error) {
	d.mu.Lock()
	if n := len(d.idle); n > 0 {
		l := d.idle[n-1]
		d.idle = d.idle[:n-1]
		d.mu.Unlock()
		if time.Since(l.used) < idleTime {
			return l, nil
		}
		_ = l.conn.Close()
		d.drop() // the others were used before
		return d.get(timeout)
	}
	d.mu.Unlock()
	conn, err := net.DialTimeout("unix", d.path, timeout)
	if err != nil {
		return nil, err
	}
	return &link{conn: conn, r: bufio.NewReader(conn)}, nil
}

// put gives a connection back after an exchange; l is nil if it cannot be used again.
func (d *daemon) put(l *link) {
	if l == nil {
		return
	}
	l.used = time.Now()
	d.mu.Lock()
	d.gone = false
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

// ask asks the daemon until it answers or the time is over. It returns the
// connection, for put or report, and the answer with its content.
func (m *Moat) ask(head []byte, hasBody bool, body *sentBody) (*link, *http.Response, []byte, error) {
	start := time.Now()
	for {
		l, err := m.daemon.get(m.timeout)
		if err == nil {
			stale := !l.used.IsZero()
			var res *http.Response
			var content []byte
			res, content, err = l.exchange(head, hasBody, body, start.Add(body.waited+m.timeout))
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
			if stale {
				m.daemon.drop() // closed while it was idle, and so are the others
				continue
			}
		}
		spent := time.Since(start) - body.waited
		if m.daemon.hopeless(m.pass) || spent+pause > m.retry {
			m.daemon.lost()
			return nil, nil, nil, err
		}
		time.Sleep(pause)
	}
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

// exchange asks one question. The answer's content is read to its end.
func (l *link) exchange(head []byte, hasBody bool, body *sentBody, deadline time.Time) (*http.Response, []byte, error) {
	body.sent = 0
	body.ended = !hasBody
	if err := l.conn.SetDeadline(deadline); err != nil {
		return nil, nil, err
	}
	question := "POST /v1/decide HTTP/1.1\r\nHost: moat\r\nMoat-Protocol: 1\r\nMoat-Head: " + strconv.Itoa(len(head))
	if hasBody {
		size := strconv.FormatInt(int64(len(head)), 16)
		question += "\r\nTransfer-Encoding: chunked\r\nTrailer: Moat-Body\r\n\r\n" + size + "\r\n"
	} else {
		question += "\r\nContent-Length: " + strconv.Itoa(len(head)) + "\r\n\r\n"
	}
	buffers := net.Buffers{[]byte(question), head}
	if hasBody {
		buffers = append(buffers, []byte("\r\n"))
	}
	if _, err := buffers.WriteTo(l.conn); err != nil {
		return nil, nil, err
	}
	res, err := http.ReadResponse(l.r, nil)
	for err == nil && res.StatusCode == http.StatusContinue && !body.ended {
		want, _ := strconv.Atoi(res.Header.Get("Moat-Want"))
		timeout := time.Until(deadline)
		deadline, err = body.send(l.conn, want, timeout)
		if err == nil {
			res, err = http.ReadResponse(l.r, nil)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	var content []byte
	if res.ContentLength != 0 {
		content, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		if err != nil {
			return nil, nil, err
		}
	}
	if res.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%w: %s: %s", errRefused, res.Status, bytes.TrimSpace(content))
	}
	if v := res.Header.Get("Moat-Verdict"); v != "pass" && v != "answer" {
		return nil, nil, fmt.Errorf("%w: no verdict", errRefused)
	}
	if !body.ended {
		_, err = io.WriteString(l.conn, "0\r\n\r\n")
		res.Close = res.Close || err != nil
	}
	return res, content, nil
}

// report tells the daemon that a request has ended, on the connection over which it
// was decided.
func (d *daemon) report(l *link, timeout time.Duration, w *watcher) {
	if l == nil {
		return
	}
	_ = l.conn.SetDeadline(time.Now().Add(timeout)) // a fault comes back from the write
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
