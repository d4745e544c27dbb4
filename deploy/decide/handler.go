package decide

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moatwaf/moat/deploy/nethttp"
	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/front"
	"github.com/moatwaf/moat/filter/respond"
)

// Version is the version of the protocol that this package speaks.
const Version = "1"

// Options say by what a Handler decides.
type Options struct {
	// Engine decides. It is not nil.
	Engine *filter.Engine

	// Trusted are the networks that may ask, beside this machine: peers on a
	// Unix socket and on loopback always may.
	Trusted []netip.Prefix

	// Refused is told of every refusal, by the goroutine that answers; nil tells
	// nobody.
	Refused func(*filter.Request, filter.Decision)
}

// Handler answers questions. It is safe for concurrent use.
type Handler struct {
	options Options
}

// New returns the handler of o.
func New(o Options) *Handler { return &Handler{options: o} }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()["Date"] = nil // the host's answer has one of its own
	if !h.mayAsk(r) {
		fault(w, http.StatusForbidden, "this peer may not ask")
		return
	}
	switch r.URL.Path {
	case "/v1/decide":
		if spoken(w, r) {
			h.decide(w, r)
		}
	case "/v1/report":
		if spoken(w, r) {
			h.report(w, r)
		}
	case "/v1/forward-auth":
		h.forwardAuth(w, r)
	case "/v1/health":
		w.Header().Set("Moat-Protocol", Version)
		if h.options.Engine.Pipeline() == nil {
			fault(w, http.StatusServiceUnavailable, "no policy is in force")
		}
	default:
		fault(w, http.StatusNotFound, "there are /v1/decide, /v1/report, /v1/forward-auth and /v1/health")
	}
}

// mayAsk reports whether the peer is one whose word about clients is taken.
func (h *Handler) mayAsk(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local != nil && local.Network() == "unix" {
		return true
	}
	peer := filter.PeerAddr(r.RemoteAddr)
	if peer.IsLoopback() {
		return true
	}
	for _, prefix := range h.options.Trusted {
		if prefix.Contains(peer) {
			return true
		}
	}
	return false
}

// spoken reports whether a question is in the protocol, and answers it if it is not.
func spoken(w http.ResponseWriter, r *http.Request) bool {
	if v := r.Header.Get("Moat-Protocol"); v != Version {
		w.Header().Set("Moat-Protocol", Version)
		fault(w, http.StatusUpgradeRequired, "this daemon speaks version "+Version+" of the protocol, and was asked in "+strconv.Quote(v[:min(len(v), 16)]))
		return false
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		fault(w, http.StatusMethodNotAllowed, "questions are asked by POST")
		return false
	}
	return true
}

// fault answers a host that has done something wrong.
func fault(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Connection", "close") // who knows what its next bytes are
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "moat: "+text+"\n") // the host is gone: there is nobody left to tell
}

// heads holds buffers for heads; those that grew beyond what most requests need
// are left to the collector.
var heads = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// readHead reads and parses the head of a question.
func readHead(r *http.Request) (*head, error) {
	n, err := strconv.ParseUint(r.Header.Get("Moat-Head"), 10, 31)
	if err != nil {
		return nil, errors.New("Moat-Head is no length")
	}
	if n > maxHead {
		return nil, fmt.Errorf("the head is longer than %d bytes", maxHead)
	}
	var text string
	if small := heads.Get().(*[4 << 10]byte); n <= uint64(len(small)) {
		_, err = io.ReadFull(r.Body, small[:n])
		text = string(small[:n])
		heads.Put(small)
	} else {
		heads.Put(small)
		var b strings.Builder // grows with what comes, not with what is announced
		_, err = io.CopyN(&b, r.Body, int64(n))
		text = b.String()
	}
	if err != nil {
		return nil, errors.New("the question ends before its head does")
	}
	return parseHead(text)
}

// headTime is what a host has to send a head, which it has at hand.
const headTime = 10 * time.Second

func (h *Handler) decide(w http.ResponseWriter, post *http.Request) {
	controller := http.NewResponseController(w)
	session := sessionOf(post)
	if session == nil {
		_ = controller.SetReadDeadline(time.Now().Add(headTime)) // a test's recorder knows none
	}
	q, err := readHead(post)
	var malformed *clientError
	if err != nil && !errors.As(err, &malformed) {
		fault(w, http.StatusBadRequest, err.Error())
		return
	}
	if session != nil {
		session.release(0) // the host asks on, so the last request has ended
	} else {
		_ = controller.SetReadDeadline(time.Time{})
	}
	if malformed != nil {
		h.refuseMalformed(w, post, q)
		return
	}
	if q.wait && q.hasBody && !q.withheld {
		if err := controller.EnableFullDuplex(); err != nil {
			fault(w, http.StatusBadRequest, "this connection cannot wait for a body")
			return
		}
		defer finish(controller, post)
	}
	h.judge(w, post, q, session)
}

// judge decides about the request of q, which came in post, and tells w.
func (h *Handler) judge(w http.ResponseWriter, post *http.Request, q *head, session *session) {
	rec := &recorder{header: make(http.Header), below: w}
	hr := q.request(post, rec)
	before := fieldsOf(hr.Header)
	rw, decided, done := nethttp.Receive(rec, hr)
	defer done()
	r := filter.NewRequest(hr, time.Now())
	keep := false
	defer func() {
		if !keep {
			r.Release()
		}
	}()
	r.Client = q.client

	d := h.options.Engine.Decide(r)
	decided()
	respond.SetLimits(rec.header, r.Limits)
	pipeline := h.options.Engine.Pipeline()
	face := front.Of(pipeline)
	if d.Refuses() {
		if h.options.Refused != nil {
			h.options.Refused(r, d)
		}
		face.Refuse(rw, r, d)
		r.Answered(rec.status)
		rec.answer(w)
		return
	}
	upstream, goOn := face.Pass(rw, r)
	if !goOn {
		r.Answered(rec.status)
		rec.answer(w)
		return
	}
	out := w.Header()
	out["Moat-Verdict"] = verdictPass
	tellRequest(out, before, hr)
	tellTrailer(out, q.trailer, hr)
	if upstream == rw {
		upstream = nil
	}
	tellAnswer(out, rec, upstream)
	if session != nil && q.report && r.EndAwaited() {
		out["Moat-Report"] = reportEnd
		if r.StatusAwaited() {
			out["Moat-Report"] = reportStatus
		}
		keep = session.keep(r)
	}
	if pipeline.Conceals() {
		missing := &recorder{header: make(http.Header), below: w}
		face.NotFound(missing, hr)
		out["Moat-Conceal"] = conceal404
		missing.write(w)
		return
	}
	if len(out) == 2 { // the verdict, and that there is no Date
		w.WriteHeader(http.StatusNoContent)
		return
	}
	out["Content-Length"] = noContent
	w.WriteHeader(http.StatusOK)
}

// finish sends the answer to a host that waited with the body, and reads the end of
// the question, which the host sends when it has the answer. The server must not
// come to that end by itself: it would read the connection in two places then.
func finish(controller *http.ResponseController, post *http.Request) {
	if controller.Flush() != nil || controller.SetReadDeadline(time.Now().Add(headTime)) != nil {
		return
	}
	// A host may have been sending what it was asked for.
	if n, err := io.CopyN(io.Discard, post.Body, maxRest); err == nil && n == maxRest {
		panic(http.ErrAbortHandler) // closes the connection
	}
}

// maxRest is how much of a question is passed over behind the answer, in bytes.
const maxRest = 256 << 10

// refuseMalformed refuses a request that cannot be decided about, in the shape of
// the policy.
func (h *Handler) refuseMalformed(w http.ResponseWriter, post *http.Request, q *head) {
	q.url = post.URL
	rec := &recorder{header: make(http.Header), below: w}
	hr := q.request(post, rec)
	hr.Body = http.NoBody
	r := filter.NewRequest(hr, time.Now())
	defer r.Release()
	r.Client = q.client
	front.Of(h.options.Engine.Pipeline()).Refuse(rec, r, filter.Decision{Verdict: filter.Block, Reason: filter.ReasonMalformed})
	rec.answer(w)
}

// request makes the request of the client.
func (q *head) request(post *http.Request, rec *recorder) *http.Request {
	if q.traefik {
		q.withoutTraefik()
	}
	hr := (&http.Request{
		Method: q.method, URL: q.url, Proto: q.proto, ProtoMajor: q.major, ProtoMinor: q.minor,
		Header: q.header, Host: q.host, RemoteAddr: q.peer, RequestURI: q.target, Body: http.NoBody,
	}).WithContext(exchange{post.Context()})
	if q.tls {
		hr.TLS = encrypted
	}
	if q.chunked {
		hr.TransferEncoding = chunkedCoding
	}
	for _, name := range q.trailer {
		if hr.Trailer == nil {
			hr.Trailer = make(http.Header, len(q.trailer))
		}
		hr.Trailer[http.CanonicalHeaderKey(name)] = nil
	}
	switch {
	case !q.hasBody:
	case q.withheld:
		withhold(hr)
	default:
		hr.ContentLength = q.length
		hr.Body = &body{post: post, asks: q.wait, rec: rec, max: q.max}
	}
	return hr
}

// exchange is the context of a client's request: that of the question, without the
// address at which the question came.
type exchange struct{ context.Context }

// Value implements context.Context.
func (e exchange) Value(key any) any {
	if key == http.LocalAddrContextKey || key == http.ServerContextKey {
		return nil
	}
	return e.Context.Value(key)
}
