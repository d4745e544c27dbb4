package audit

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/moatwaf/moat/filter"
)

// Bounds of what one line takes from a request or an error, in bytes before
// escaping.
const (
	maxMethod    = 32
	maxHost      = 255
	maxPath      = 1024
	maxQuery     = 1024
	maxUserAgent = 256
	maxID        = 128
	maxDetail    = 256
	maxError     = 512
	maxRules     = 64
)

// lineEncoder turns decisions into lines. It is immutable.
type lineEncoder struct {
	query     bool
	userAgent bool
}

// append appends one line for d, which was the answer to r or, with detect, what
// a detecting rule would have answered.
func (e lineEncoder) append(b []byte, r *filter.Request, d *filter.Decision, err error, policy string, latency time.Duration, detect bool) []byte {
	o := object{buf: append(b, '{')}
	o.time("time", r.Now)
	o.text("id", r.ID(), maxID)
	if r.Client.IsValid() {
		o.addr("client", r.Client)
	}
	if r.Peer.IsValid() && r.Peer != r.Client {
		o.addr("peer", r.Peer)
	}
	location := r.Location()
	if location.Country != "" {
		o.text("country", location.Country, maxID)
	}
	if location.ASN != 0 {
		o.int("asn", int64(location.ASN))
	}

	verdict := d.Verdict.String()
	if detect {
		verdict = "detect"
	}
	o.text("verdict", verdict, maxID)
	if d.Stage != "" {
		o.text("stage", d.Stage, maxID)
	}
	if d.Rule != "" {
		o.text("rule", d.Rule, maxID)
	}
	if p := d.Payload; p != nil {
		rules := p.Rules
		if len(rules) > maxRules {
			rules = rules[:maxRules]
			o.truncated = true
		}
		o.ints("rules", rules)
		o.int("score", int64(p.Score))
		o.int("threshold", int64(p.Threshold))
	}
	if d.Limit != nil {
		o.text("tier", d.Limit.Tier, maxID)
	}
	o.text("reason", d.Reason.String(), maxID)
	o.int("status", int64(d.StatusCode()))

	path := r.Path
	if hr := r.HTTP; hr != nil {
		o.text("method", hr.Method, maxMethod)
		o.text("host", r.Host, maxHost)
		if path == "" && hr.URL != nil {
			path = hr.URL.Path // the path that could not be read is the cause
		}
	}
	o.text("path", path, maxPath)
	if hr := r.HTTP; hr != nil {
		if e.query && hr.URL != nil && hr.URL.RawQuery != "" {
			o.text("query", hr.URL.RawQuery, maxQuery)
		}
		if e.userAgent {
			if agent := hr.Header["User-Agent"]; len(agent) > 0 {
				o.text("user_agent", agent[0], maxUserAgent)
			}
		}
	}
	if policy != "" {
		o.text("policy", policy, maxPath)
	}
	o.int("latency_us", max(0, latency.Microseconds()))
	if d.Detail != "" {
		o.text("detail", d.Detail, maxDetail)
	}
	if err != nil {
		o.text("error", errorText(err), maxError)
	}
	if o.truncated {
		o.key("truncated")
		o.buf = append(o.buf, "true"...)
	}
	return append(o.buf, '}', '\n')
}

// appendDropped appends the line that says how many lines are missing.
func appendDropped(b []byte, now time.Time, n uint64) []byte {
	o := object{buf: append(b, '{')}
	o.time("time", now)
	o.int("dropped", int64(n))
	return append(o.buf, '}', '\n')
}

// errorText returns the text of stage errors. Of a panic it takes the value only
// where the runtime made it: what code panics with may hold a part of the request.
func errorText(err error) string {
	var b strings.Builder
	writeError(&b, err, 8)
	return b.String()
}

func writeError(b *strings.Builder, err error, depth int) {
	if b.Len() > maxError || depth == 0 {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			writeError(b, e, depth-1)
		}
		return
	}
	if b.Len() > 0 {
		b.WriteString("; ")
	}
	stage, isStage := errors.AsType[*filter.StageError](err)
	panicked, isPanic := errors.AsType[*filter.PanicError](err)
	switch {
	case isPanic:
		if isStage {
			b.WriteString(stage.Stage)
			b.WriteString(" stage: ")
		}
		if re, ok := panicked.Value.(runtime.Error); ok {
			b.WriteString("panic: ")
			b.WriteString(re.Error())
			return
		}
		fmt.Fprintf(b, "panic with a %T", panicked.Value)
	default:
		b.WriteString(err.Error())
	}
}
