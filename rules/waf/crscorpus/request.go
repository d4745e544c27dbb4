package crscorpus

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// ClientAddr is where every request of the corpus comes from.
const ClientAddr = "198.51.100.9:40000"

// Refused is a request that net/http's server answers by itself, before any
// handler sees it.
type Refused struct {
	// Status is the server's answer; 0 if it closed the connection without one.
	Status int
}

// Error implements error.
func (r *Refused) Error() string {
	return fmt.Sprintf("refused by the server with status %d", r.Status)
}

// Request returns the request as a handler of net/http's server gets it, with a
// body that can be read once, errors and all. The error is a *Refused.
func (c *Case) Request() (*http.Request, error) {
	conn := &conn{in: bytes.NewReader(c.Raw)}
	var got *http.Request
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if got != nil {
				return // bytes behind the request that look like another
			}
			got = r.Clone(context.Background())
			if r.Body == http.NoBody {
				return
			}
			data, err := io.ReadAll(r.Body)
			if err == nil {
				err = io.EOF
			}
			got.Body = &body{data: bytes.NewReader(data), err: err}
		}),
		ErrorLog:          log.New(io.Discard, "", 0),
		ReadHeaderTimeout: time.Minute,
	}
	l := &listener{conn: conn, done: make(chan struct{})}
	conn.close = sync.OnceFunc(func() { close(l.done) })
	_ = srv.Serve(l) // ends with the connection
	if got != nil {
		return got, nil
	}
	resp, err := http.ReadResponse(bufio.NewReader(&conn.out), nil)
	if err != nil {
		return nil, &Refused{}
	}
	_ = resp.Body.Close()
	return nil, &Refused{Status: resp.StatusCode}
}

// body is what a handler could read of a body, and how that ended.
type body struct {
	data *bytes.Reader
	err  error
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.data.Read(p)
	if err == io.EOF {
		err = b.err
	}
	return n, err
}

func (b *body) Close() error { return nil }

// listener hands out one connection and ends when that is closed.
type listener struct {
	conn *conn
	once sync.Once
	done chan struct{}
}

func (l *listener) Accept() (c net.Conn, err error) {
	first := false
	l.once.Do(func() { first = true })
	if first {
		return l.conn, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

func (l *listener) Close() error   { return nil }
func (l *listener) Addr() net.Addr { return addr("192.0.2.1:80") }

// conn is a connection on which the client has sent everything and waits.
type conn struct {
	in    *bytes.Reader
	out   bytes.Buffer
	close func()
}

func (c *conn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *conn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *conn) Close() error                     { c.close(); return nil }
func (c *conn) LocalAddr() net.Addr              { return addr("192.0.2.1:80") }
func (c *conn) RemoteAddr() net.Addr             { return addr(ClientAddr) }
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

type addr string

func (a addr) Network() string { return "tcp" }
func (a addr) String() string  { return string(a) }
