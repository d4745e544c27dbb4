package decide

import (
	"crypto/tls"
	"log"
	"net"
	"net/http"
	"time"
)

// idleTime is how long a connection over the network may be idle. One of a Unix
// socket may be so for ever: the host holds it while a request is under way that it
// is to report.
const idleTime = 2 * time.Minute

// maxQuestion bounds the header of a question, in bytes. That of forward
// authentication is the client's.
const maxQuestion = 1 << 20

// NewServer returns a server that answers with h on a listener of the network: unix
// or tcp. config is nil without TLS. Faults of connections go to errors, which may
// be nil.
func NewServer(h *Handler, network string, config *tls.Config, errors *log.Logger) *http.Server {
	s := &http.Server{
		Handler:        h,
		MaxHeaderBytes: maxQuestion,
		ErrorLog:       errors,
		TLSConfig:      config,
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(config != nil)
	s.Protocols = protocols
	if network == "unix" {
		open := new(sessions)
		s.ConnContext, s.ConnState = open.open, open.state
		s.RegisterOnShutdown(open.close)
	} else {
		s.IdleTimeout, s.ReadHeaderTimeout = idleTime, headTime
	}
	return s
}

// Listen makes the listener of s ready, which NewServer has returned: with TLS, if s
// has it; over a Unix socket with a short way for the commonest question.
func Listen(s *http.Server, l net.Listener) net.Listener {
	if h, ok := s.Handler.(*Handler); ok && l.Addr().Network() == "unix" && s.TLSConfig == nil {
		return plainListener{l, h}
	}
	if s.TLSConfig == nil {
		return l
	}
	return tls.NewListener(l, s.TLSConfig)
}
