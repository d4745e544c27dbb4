// Package traefik is a Traefik middleware that asks a moat daemon, over a Unix
// socket, what to do with each request. Traefik interprets it (Yaegi), so it keeps
// to the standard library and to few statements a request; the daemon does the
// work. PROTOCOL.md describes what the two say to each other.
package traefik

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config is the middleware's configuration. Traefik fills it.
type Config struct {
	// Socket is the daemon's: "unix:/run/moat/moat.sock".
	Socket string `json:"socket,omitempty"`

	// OnUnavailable is what becomes of requests that nobody decides about: "block"
	// answers 503, "pass" lets them through unjudged.
	OnUnavailable string `json:"onUnavailable,omitempty"`

	// Timeout is how long a decision may take at most, without the time that the
	// client needs to send its body: "3s". It may end after three quarters of it.
	Timeout string `json:"timeout,omitempty"`

	// Retry is how long of Timeout a daemon is waited for that is not there, as in
	// a restart: "1s". "0s" does not wait.
	Retry string `json:"retry,omitempty"`

	// MaxBodySize is how many bytes of a request's body are shown to the daemon;
	// 0 leaves it to the policy. A longer body that is to be read is refused with 413.
	MaxBodySize int64 `json:"maxBodySize,omitempty"`

	// IdentityHeaders are taken out of requests that pass unjudged: upstreams
	// believe them. With a decision the policy says which they are.
	IdentityHeaders []string `json:"identityHeaders,omitempty"`
}

// CreateConfig returns the defaults.
func CreateConfig() *Config {
	return &Config{
		Socket:          "unix:/run/moat/moat.sock",
		OnUnavailable:   "block",
		Timeout:         "3s",
		Retry:           "2s",
		IdentityHeaders: []string{"X-Remote-User"},
	}
}

// Moat is the middleware of one router.
type Moat struct {
	next     http.Handler
	daemon   *daemon
	idle     *sync.Pool // of the daemon
	pass     bool
	timeout  time.Duration
	retry    time.Duration
	words    string // of every question
	wordsTLS string
	maxBody  int64
	identity []string
}

// New returns the middleware. It does not need the daemon.
func New(_ context.Context, next http.Handler, config *Config, name string) (http.Handler, error) {
	fault := func(problem string) (http.Handler, error) {
		return nil, fmt.Errorf("moat middleware %s: %s", name, problem)
	}
	path := strings.TrimPrefix(config.Socket, "unix:")
	if !strings.HasPrefix(path, "/") {
		return fault("socket must be unix: and an absolute path")
	}
	timeout, err := time.ParseDuration(config.Timeout)
	if err != nil || timeout <= 0 {
		return fault("timeout is no time, such as 3s")
	}
	retry, err := time.ParseDuration(config.Retry)
	if err != nil || retry < 0 || retry > timeout {
		return fault("retry is no time of at most timeout")
	}
	if config.OnUnavailable != "block" && config.OnUnavailable != "pass" {
		return fault("onUnavailable is block or pass")
	}
	if config.MaxBodySize < 0 {
		return fault("maxBodySize is negative")
	}
	m := &Moat{
		next: next, daemon: daemonAt(path), pass: config.OnUnavailable == "pass", timeout: timeout, retry: retry,
		words: "host=traefik report wait", maxBody: config.MaxBodySize, identity: config.IdentityHeaders,
	}
	if m.maxBody > 0 {
		m.words += " max=" + strconv.FormatInt(m.maxBody, 10)
	}
	m.idle = &m.daemon.idle
	m.wordsTLS = m.words + " tls"
	return m, nil
}

// ServeHTTP implements http.Handler. It holds what an allowed request without a body
// needs and nothing else: for each variable and each intermediate value of a
// function the interpreter allocates memory whenever it is called, used or not.
func (m *Moat) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	var l *link
	if r.ContentLength == 0 && r.Trailer == nil && r.RequestURI != "" {
		l, _ = m.idle.Get().(*link)
	}
	if l == nil {
		judge(m, rw, r)
		return
	}
	if time.Since(l.renew) > 0 {
		renew(l, m.timeout)
	}
	words := m.words
	if r.TLS != nil {
		words = m.wordsTLS
	}
	l.fields.Reset()
	_ = r.Header.Write(l.fields)                                                                       // a Buffer takes everything; the fields are as they are, but sorted
	fmt.Fprintf(l.conn, brief, r.Method, r.RequestURI, r.Proto, r.Host, r.RemoteAddr, words, l.fields) // a fault comes back from the read
	n, err := l.conn.Read(l.answer)
	if string(l.answer[:n]) != nothing {
		otherwise(m, rw, r, l, n, err)
		return
	}
	m.idle.Put(l)
	m.next.ServeHTTP(rw, r)
}

// otherwise goes on where ServeHTTP has got another answer than the commonest, of
// which n bytes are there, or a fault.
func otherwise(m *Moat, rw http.ResponseWriter, r *http.Request, l *link, n int, err error) {
	start := l.renew.Add(-m.timeout / 4) // the time of the exchange counts from there
	if n > 0 {
		var res *http.Response
		in := bufio.NewReader(io.MultiReader(bytes.NewReader(l.answer[:n]), l.conn))
		res, err = http.ReadResponse(in, nil)
		if err == nil {
			var content []byte
			content, err = verdict(res)
			if err == nil {
				obey(m, rw, r, nil, m.daemon.after(l, in, res), res, content)
				return
			}
		}
	}
	m.daemon.fail(l, err)
	judgeSince(m, rw, r, start, err)
}

// judge asks about a request, however often and with whatever body, and does what
// the daemon says.
func judge(m *Moat, rw http.ResponseWriter, r *http.Request) {
	judgeSince(m, rw, r, time.Now(), nil)
}

// judgeSince does it after a question that was asked since start, which err became of.
func judgeSince(m *Moat, rw http.ResponseWriter, r *http.Request, start time.Time, err error) {
	var body *sentBody
	length := "-"
	if r.ContentLength != 0 {
		body = &sentBody{src: r.Body, max: m.maxBody}
		length = "?"
		if r.ContentLength > 0 {
			length = strconv.FormatInt(r.ContentLength, 10)
		}
	}
	words := m.words
	if r.TLS != nil {
		words = m.wordsTLS
	}
	if r.TransferEncoding != nil {
		words += " chunked"
	}
	for name := range r.Trailer {
		words += " trailer=" + name
	}
	target := r.RequestURI
	if target == "" {
		target = r.URL.RequestURI()
	}
	head := bytes.NewBufferString(strings.Join([]string{r.Method, target, r.Proto, r.Host, r.RemoteAddr, length, words, ""}, "\n"))
	_ = r.Header.Write(head) // a Buffer takes everything; the fields are as they are, but sorted
	head.WriteString("\r\n")
	l, res, content, err := m.ask(start, head.Bytes(), body, err)
	if err != nil {
		m.undecided(rw, r, body, err)
		return
	}
	obey(m, rw, r, body, l, res, content)
}

// obey does what the daemon says. l is nil if the connection cannot be used again.
func obey(m *Moat, rw http.ResponseWriter, r *http.Request, body *sentBody, l *link, res *http.Response, content []byte) {
	if res.Header.Get("Moat-Verdict") != "pass" {
		m.daemon.put(l)
		answer(rw, res.Header.Get("Moat-Status"), content)
		return
	}
	if body != nil {
		r = body.replayed(r)
	}
	if res.Header["Moat-Remove"] != nil {
		change(r, res.Header["Moat-Remove"], res.Header["Moat-Set"])
	}
	for _, field := range res.Header["Moat-Answer"] {
		name, value, _ := strings.Cut(field, ": ")
		rw.Header().Add(name, value)
	}
	report := res.Header.Get("Moat-Report")
	if report == "" {
		m.daemon.put(l)
	}
	if report != "status" && res.Header["Moat-Cors"] == nil && res.Header["Moat-Conceal"] == nil {
		if report != "" {
			defer m.daemon.report(l, m.timeout, &watcher{})
		}
		m.next.ServeHTTP(rw, r)
		return
	}
	w := &watcher{rw: rw, cors: res.Header["Moat-Cors"], before: rw.Header().Clone()}
	if res.Header["Moat-Conceal"] != nil {
		w.missing = content
	}
	if report != "" {
		defer m.daemon.report(l, m.timeout, w)
	}
	m.next.ServeHTTP(w, r)
}

// answer answers the client as the daemon says.
func answer(rw http.ResponseWriter, status string, content []byte) {
	code, err := strconv.Atoi(status)
	if err != nil || code < 200 || code > 599 {
		code = http.StatusServiceUnavailable
	}
	tp := textproto.NewReader(bufio.NewReader(bytes.NewReader(content)))
	fields, _ := tp.ReadMIMEHeader() // of a fault, what was read is all that there is
	header := rw.Header()
	for name, values := range fields {
		header[name] = values
	}
	rw.WriteHeader(code)
	_, _ = io.Copy(rw, tp.R) // the client is gone: there is nobody left to tell
}

// change makes the header of r ready for the upstream.
func change(r *http.Request, remove, set []string) {
	for _, gone := range remove {
		removeField(r, gone, strings.EqualFold)
	}
	for _, field := range set {
		name, value, _ := strings.Cut(field, ": ")
		r.Header.Add(name, value)
	}
}

func removeField(r *http.Request, gone string, same func(a, b string) bool) {
	for name := range r.Header {
		if same(name, gone) {
			delete(r.Header, name)
		}
	}
	for name := range r.Trailer {
		if same(name, gone) {
			delete(r.Trailer, name)
		}
	}
}

// undecided does what the operator wants of a request that nobody decides about.
func (m *Moat) undecided(rw http.ResponseWriter, r *http.Request, body *sentBody, err error) {
	m.daemon.complain(err, m.pass)
	if m.pass {
		if body != nil {
			r = body.replayed(r)
		}
		for _, name := range m.identity {
			removeField(r, name, sameField)
		}
		m.next.ServeHTTP(rw, r)
		return
	}
	header := rw.Header()
	header.Set("Cache-Control", "no-store")
	header.Add("Vary", "Accept")
	header.Set("X-Content-Type-Options", "nosniff")
	mediaType, text := "application/problem+json", `{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"The server cannot handle the request at the moment."}`
	accept := r.Header.Get("Accept")
	if strings.Contains(accept, "text/html") {
		mediaType, text = "text/html; charset=utf-8", "<!doctype html><html lang=\"en\"><title>503 Service Unavailable</title><h1>503 Service Unavailable</h1>"
	} else if strings.HasPrefix(accept, "text/") {
		mediaType, text = "text/plain; charset=utf-8", "503 Service Unavailable"
	}
	header.Set("Content-Type", mediaType)
	header.Set("Content-Length", strconv.Itoa(len(text)+1))
	rw.WriteHeader(http.StatusServiceUnavailable)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(rw, text+"\n") // the client is gone: there is nobody left to tell
	}
}

// sameField reports whether an upstream could read two names as one: without case,
// and with hyphens and dots as the underscores of CGI.
func sameField(a, b string) bool {
	fold := strings.NewReplacer("-", "_", ".", "_")
	return strings.EqualFold(fold.Replace(a), fold.Replace(b))
}

// watcher passes an answer on, and changes its beginning. Traefik loses the flusher
// of a writer that is interpreted, so every write is flushed; it takes the place of
// Traefik's own writer only where an answer must be seen.
type watcher struct {
	rw      http.ResponseWriter
	cors    []string
	missing []byte      // the answer in place of a 404; nil leaves it
	before  http.Header // what was set before the upstream answered
	status  int
	dropped http.Header // of an answer that was replaced
}

// Header implements http.ResponseWriter.
func (w *watcher) Header() http.Header {
	if w.dropped != nil {
		return w.dropped
	}
	return w.rw.Header()
}

// WriteHeader implements http.ResponseWriter.
func (w *watcher) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		w.rw.WriteHeader(status)
		return
	}
	w.status = status
	header := w.rw.Header()
	if status == http.StatusNotFound && w.missing != nil {
		w.dropped = make(http.Header)
		for name := range header {
			delete(header, name)
		}
		for name, values := range w.before {
			header[name] = values
		}
		answer(w.rw, "404", w.missing)
		return
	}
	if header.Get("Access-Control-Allow-Origin") == "" {
		for _, field := range w.cors {
			name, value, _ := strings.Cut(field, ": ")
			header.Set(name, value)
		}
	}
	w.rw.WriteHeader(status)
	w.flush()
}

// Write implements http.ResponseWriter.
func (w *watcher) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.dropped != nil {
		return len(p), nil
	}
	n, err := w.rw.Write(p)
	w.flush()
	return n, err
}

func (w *watcher) flush() {
	if f, ok := w.rw.(http.Flusher); ok {
		f.Flush()
	}
}

// Hijack implements http.Hijacker, for WebSocket.
func (w *watcher) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := w.rw.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("moat: the connection cannot be taken over")
	}
	w.status = http.StatusSwitchingProtocols
	return h.Hijack()
}
