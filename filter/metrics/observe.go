package metrics

import (
	"net/http"
	"time"

	"github.com/moatwaf/moat/filter"
)

// verdicts are the values of the label verdict, indexed by filter.Verdict.
var verdicts = [...]string{"block", "continue", "allow", "challenge", "invalid"}

// stages are the values of the label stage. The first stands for decisions that
// no stage made (a path that cannot be read, no policy, a request let through),
// the last for stages that moat does not ship.
var stages = [...]string{"none", "access", "tier", "payload", "auth", "other"}

const stageOther = len(stages) - 1

func stageIndex(name string) int {
	switch name {
	case "":
		return 0
	case "access":
		return 1
	case "tier":
		return 2
	case "payload":
		return 3
	case "auth":
		return 4
	}
	return stageOther
}

// statuses are the values of the label status, beside "other".
var statuses = [...]int{
	http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
	http.StatusRequestEntityTooLarge, http.StatusTooManyRequests,
	http.StatusUnavailableForLegalReasons, http.StatusServiceUnavailable,
}

func statusIndex(status int) int {
	for i, s := range statuses {
		if s == status {
			return i
		}
	}
	return len(statuses)
}

// reasons are the values of the label reason, indexed by filter.Reason, and
// "invalid" at the end.
var reasons = func() []string {
	var names []string
	for _, r := range filter.Reasons() {
		names = append(names, r.String())
	}
	return append(names, "invalid")
}()

// maxReasons bounds the table of counters; a test holds it against reasons.
const maxReasons = 16

// Observe implements filter.Observer. It takes no lock and allocates nothing.
//
// The time of a decision is measured from Request.Now; it includes the time in
// which a client sent the part of the body that was inspected.
func (m *Metrics) Observe(r *filter.Request, d filter.Decision, err error) {
	verdict := min(int(d.Verdict), len(verdicts)-1)
	reason := min(int(d.Reason), len(reasons)-1)
	m.requests[verdict][stageIndex(d.Stage)][reason].Add(1)
	if d.Refuses() {
		m.refusals[statusIndex(d.StatusCode())].Add(1)
	}
	m.seconds.Observe(time.Since(r.Now).Seconds())
	for i := range r.Detected {
		m.detected[stageIndex(r.Detected[i].Stage)].Add(1)
	}
	if err != nil {
		m.countErrors(err)
	}
}

// countErrors counts each stage error in a tree of joined errors, once, and each
// panic.
func (m *Metrics) countErrors(err error) {
	switch e := err.(type) {
	case *filter.StageError:
		m.stageErrors[stageIndex(e.Stage)].Add(1)
		if isPanic(e.Err) {
			m.panics.Add(1)
		}
	case *filter.PanicError:
		m.panics.Add(1)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			m.countErrors(inner)
		}
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			m.countErrors(inner)
			return
		}
		m.stageErrors[0].Add(1)
	default:
		m.stageErrors[0].Add(1) // of the pipeline itself, such as no policy
	}
}

func isPanic(err error) bool {
	for err != nil {
		if _, ok := err.(*filter.PanicError); ok {
			return true
		}
		inner, ok := err.(interface{ Unwrap() error })
		if !ok {
			return false
		}
		err = inner.Unwrap()
	}
	return false
}
