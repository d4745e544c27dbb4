package decide

import (
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moatwaf/moat/deploy/nethttp"
	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/front"
	"github.com/moatwaf/moat/filter/respond"
)

// notJudged are fields of a subrequest that the host has set, or that are about its
// connection to the daemon.
var notJudged = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
	"X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server",
	"X-Real-Ip",
}

// forwardAuth answers a subrequest about a request.
func (h *Handler) forwardAuth(w http.ResponseWriter, sub *http.Request) {
	q, problem := forwarded(sub)
	if problem != "" {
		fault(w, http.StatusBadRequest, problem)
		return
	}
	if err := q.parseTarget(); err != nil {
		q.url = &url.URL{Path: "/"}
		hr := q.request(sub, nil)
		hr.Body = http.NoBody
		r := filter.NewRequest(hr, time.Now())
		defer r.Release()
		rec := &recorder{header: make(http.Header), below: w}
		d := filter.Decision{Verdict: filter.Block, Reason: filter.ReasonMalformed}
		front.Of(h.options.Engine.Pipeline()).Refuse(rec, r, d)
		rec.refuse(w, sub)
		return
	}
	rec := &recorder{header: make(http.Header), below: w}
	hr := q.request(sub, rec)
	before := hr.Header.Clone()
	rw, decided, done := nethttp.Receive(rec, hr)
	defer done()
	r := filter.NewRequest(hr, time.Now())
	defer r.Release()
	d := h.options.Engine.Decide(r)
	decided()
	respond.SetLimits(rec.header, r.Limits)
	face := front.Of(h.options.Engine.Pipeline())
	// The host drops the content of an answer to HEAD; its fields are those of GET.
	if hr.Method == http.MethodHead {
		hr.Method = http.MethodGet
	}
	if d.Refuses() {
		if h.options.Refused != nil {
			h.options.Refused(r, d)
		}
		face.Refuse(rw, r, d)
		r.Answered(rec.status)
		rec.refuse(w, sub)
		return
	}
	if _, goOn := face.Pass(rw, r); !goOn {
		// 204 lets the preflight pass to the upstream, whose matter it is then.
		r.Answered(rec.status)
		rec.refuse(w, sub)
		return
	}
	out := w.Header()
	copyAnswer(out, rec.header)
	for name, values := range hr.Header {
		if !slices.Equal(before[name], values) && name != "Connection" && name != "Upgrade" {
			out[name] = values
		}
	}
	w.WriteHeader(http.StatusOK)
}

// refuse answers a subrequest with what was recorded.
func (a *recorder) refuse(w http.ResponseWriter, sub *http.Request) {
	out := w.Header()
	copyAnswer(out, a.header)
	status := a.status
	// A preflight that is answered with 204 is let pass by every host.
	if status >= http.StatusMultipleChoices && status != http.StatusUnauthorized && strings.Contains(sub.URL.RawQuery, "fold=403") {
		out["Moat-Status"] = []string{strconv.Itoa(status)}
		status = http.StatusForbidden
	}
	w.WriteHeader(status)
	if sub.Method != http.MethodHead {
		_, _ = w.Write(a.content.Bytes()) // the host is gone: there is nobody left to tell
	}
}

func copyAnswer(out, recorded http.Header) {
	for name, values := range recorded {
		if !ofTheConnection[name] {
			out[name] = values
		}
	}
}

// forwarded reads a subrequest. problem says what the host left out.
func forwarded(sub *http.Request) (q *head, problem string) {
	h := sub.Header
	q = &head{
		method: only(h, "X-Forwarded-Method"),
		target: only(h, "X-Forwarded-Uri"),
		host:   only(h, "X-Forwarded-Host"),
		proto:  "HTTP/1.1", major: 1, minor: 1,
	}
	if q.method == "" {
		return nil, "the host sends no X-Forwarded-Method"
	}
	if q.target == "" {
		return nil, "the host sends no X-Forwarded-Uri"
	}
	if q.host == "" {
		q.host = sub.Host
	}
	switch strings.ToLower(only(h, "X-Forwarded-Proto")) {
	case "https", "wss":
		q.tls = true
	}
	q.header = make(http.Header, len(h))
	for name, values := range h {
		if !slices.Contains(notJudged, name) {
			q.header[name] = values
		}
	}
	if lines := h["X-Forwarded-For"]; len(lines) > 0 {
		delete(q.header, "X-Forwarded-For")
		rest, last, more := cutLast(lines[len(lines)-1])
		q.peer = textproto.TrimString(last)
		if host, _, err := net.SplitHostPort(q.peer); err == nil {
			q.peer = host
		}
		chain := slices.Clone(lines[:len(lines)-1])
		if more {
			chain = append(chain, rest)
		}
		if len(chain) > 0 {
			q.header["X-Forwarded-For"] = chain
		}
	}
	q.hasBody = true
	switch {
	case sub.ContentLength > 0 || sub.ContentLength < 0 && sub.Body != http.NoBody:
		q.length = sub.ContentLength
	case withBody(q.method):
		q.withheld = true // or there is none: nobody says
	default:
		q.hasBody = false
	}
	return q, ""
}

// withBody reports whether requests of a method have a body as a rule, or may have
// one that the host has left out.
func withBody(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

// only returns the value of a field that is there once. A field that comes twice is
// none: a client has sent one of them.
func only(h http.Header, name string) string {
	if values := h[name]; len(values) == 1 {
		return values[0]
	}
	return ""
}
