package decide

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
)

// The values of the fields of an answer. They are never changed.
var (
	noContent     = []string{"0"}
	verdictPass   = []string{"pass"}
	verdictAnswer = []string{"answer"}
	conceal404    = []string{"404"}
	reportEnd     = []string{"end"}
	reportStatus  = []string{"status"}
)

// recorder takes an answer to a client. It is a few kilobytes at most.
type recorder struct {
	header  http.Header
	below   http.ResponseWriter // the answer to the host
	status  int
	content bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *recorder) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *recorder) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *recorder) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.content.Write(p)
}

// Unwrap gives http.ResponseController the connection to the host, whose deadlines
// bound how long a body is waited for.
func (a *recorder) Unwrap() http.ResponseWriter { return a.below }

// answer tells the host to answer with what was recorded.
func (a *recorder) answer(w http.ResponseWriter) {
	h := w.Header()
	h["Moat-Verdict"] = verdictAnswer
	h["Moat-Status"] = []string{strconv.Itoa(a.status)}
	a.write(w)
}

// ofTheConnection are fields that belong to the host.
var ofTheConnection = map[string]bool{"Connection": true, "Date": true}

// write writes the recorded answer as the content of the host's.
func (a *recorder) write(w http.ResponseWriter) {
	var b bytes.Buffer
	b.Grow(512 + a.content.Len())
	_ = a.header.WriteSubset(&b, ofTheConnection) // a Buffer takes everything
	b.WriteString("\r\n")
	b.Write(a.content.Bytes())
	h := w.Header()
	h["Content-Type"] = []string{"application/octet-stream"}
	h["Content-Length"] = []string{strconv.Itoa(b.Len())}
	_, _ = w.Write(b.Bytes()) // the host is gone: there is nobody left to tell
}

// field is a field of the client as it came.
type field struct {
	name   string
	values []string
}

// fieldsOf returns a copy of a header to hold it against later. It takes two pieces
// of memory, where a clone takes a table.
func fieldsOf(header http.Header) []field {
	n := 0
	for _, values := range header {
		n += len(values)
	}
	fields, all := make([]field, 0, len(header)), make([]string, 0, n)
	for name, values := range header {
		from := len(all)
		all = append(all, values...)
		fields = append(fields, field{name, all[from:]})
	}
	return fields
}

// tellRequest tells what has become of the client's header on the way to the
// upstream.
func tellRequest(out http.Header, before []field, hr *http.Request) {
	left := 0 // fields that are there as they were, or with other values
	for _, f := range before {
		now, ok := hr.Header[f.name]
		if ok {
			left++
		}
		if ok && slices.Equal(now, f.values) {
			continue
		}
		out["Moat-Remove"] = append(out["Moat-Remove"], f.name)
		set(out, f.name, now)
	}
	if left == len(hr.Header) {
		return
	}
	for name, values := range hr.Header {
		if !slices.ContainsFunc(before, func(f field) bool { return f.name == name }) {
			out["Moat-Remove"] = append(out["Moat-Remove"], name) // of a host that spells it in another way
			set(out, name, values)
		}
	}
}

// tellTrailer tells which announced trailers must not reach the upstream.
func tellTrailer(out http.Header, announced []string, hr *http.Request) {
	for _, name := range announced {
		name = http.CanonicalHeaderKey(name)
		if _, ok := hr.Trailer[name]; !ok && !slices.Contains(out["Moat-Remove"], name) {
			out["Moat-Remove"] = append(out["Moat-Remove"], name)
		}
	}
}

func set(out http.Header, name string, values []string) {
	for _, v := range values {
		out["Moat-Set"] = append(out["Moat-Set"], name+": "+v)
	}
}

// tellAnswer tells what becomes of the upstream's answer: the fields that it gets
// in any case, and those that it gets if the upstream says nothing of other
// origins. upstream is nil if nobody waits for the upstream's answer.
func tellAnswer(out http.Header, rec *recorder, upstream http.ResponseWriter) {
	always := rec.header
	if upstream != nil {
		always = rec.header.Clone()
		upstream.WriteHeader(http.StatusOK) // sets the fields
		if vary := rec.header["Vary"]; vary != nil {
			always["Vary"] = vary // the upstream may vary by more
		}
		for name, values := range rec.header {
			if ofTheConnection[name] || slices.Equal(always[name], values) {
				continue
			}
			for _, v := range values {
				out["Moat-Cors"] = append(out["Moat-Cors"], name+": "+v)
			}
		}
	}
	for name, values := range always {
		if ofTheConnection[name] {
			continue
		}
		for _, v := range values {
			out["Moat-Answer"] = append(out["Moat-Answer"], name+": "+v)
		}
	}
}
