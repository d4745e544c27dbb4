package decide

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/moatwaf/moat/filter"
)

// session is a connection of a host over which it can report: it holds the request
// that was let through last until the host says how it ended.
type session struct {
	mu     sync.Mutex
	held   *filter.Request
	closed bool
}

type sessionKey struct{}

// sessionOf returns the session of a question; nil where a connection is not one
// exchange at a time.
func sessionOf(r *http.Request) *session {
	if r.ProtoMajor != 1 {
		return nil
	}
	s, _ := r.Context().Value(sessionKey{}).(*session)
	return s
}

// keep holds r until it is released, and reports whether it does.
func (s *session) keep(r *filter.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.held != nil {
		return false
	}
	s.held = r
	return true
}

// release ends the request that is held, if there is one.
func (s *session) release(status int) {
	s.mu.Lock()
	r := s.held
	s.held = nil
	s.mu.Unlock()
	if r == nil {
		return
	}
	if status != 0 {
		r.Answered(status)
	}
	r.Release()
}

// end is called when the connection has gone.
func (s *session) end() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.release(0)
}

// report takes the host's word for how a request has ended.
func (h *Handler) report(w http.ResponseWriter, r *http.Request) {
	status, err := strconv.Atoi(r.Header.Get("Moat-Status"))
	if err != nil || status != 0 && (status < 100 || status > 999) {
		fault(w, http.StatusBadRequest, "Moat-Status is no status")
		return
	}
	if s := sessionOf(r); s != nil {
		s.release(status)
	}
	w.WriteHeader(http.StatusNoContent)
}

// sessions are the open connections of a server.
type sessions struct {
	m       sync.Map // net.Conn to *session
	closing atomic.Bool
}

func (all *sessions) open(ctx context.Context, c net.Conn) context.Context {
	s := new(session)
	if c, ok := c.(*plainConn); ok {
		c.session, c.closing = s, &all.closing
	}
	all.m.Store(c, s)
	return context.WithValue(ctx, sessionKey{}, s)
}

func (all *sessions) state(c net.Conn, state http.ConnState) {
	if c, ok := c.(*plainConn); ok && state == http.StateIdle {
		c.raw = false
	}
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	if s, ok := all.m.LoadAndDelete(c); ok {
		s.(*session).end()
	}
}

// close closes the connections that have had none but plain questions: a server that
// ends waits for them, since it has never seen them idle.
func (all *sessions) close() {
	all.closing.Store(true)
	all.m.Range(func(key, _ any) bool {
		if c, ok := key.(*plainConn); ok && !c.given.Load() {
			_ = c.Close()
		}
		return true
	})
}
