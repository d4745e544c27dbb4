package differ

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf"
)

// Answer is what an engine says of a request.
type Answer struct {
	Verdict          filter.Verdict
	Reason           filter.Reason
	Rule             string
	Status           int
	Score, Threshold int
	Rules            string
	Findings         int
	Failed           bool // an error, or a panic
	Proved           bool
	Dear             bool // refused because it costs too much to inspect
}

// String returns the answer in one line. Answers with the same line are the same.
func (a Answer) String() string {
	s := fmt.Sprintf("%v %v rule %q status %d score %d of %d rules %s", a.Verdict, a.Reason, a.Rule, a.Status, a.Score, a.Threshold, a.Rules)
	if a.Failed {
		s += " failed"
	}
	if a.Proved {
		s += " proved"
	}
	return s
}

// clean reports whether no rule has found anything. A score alone is no finding: a
// rule that is not logged may set it for every request.
func (a *Answer) clean() bool {
	return a.Verdict == filter.Continue && a.Findings == 0 && !a.Failed
}

// agrees reports whether got, the fast engine's, is right if want is.
func (want *Answer) agrees(got *Answer) bool {
	if got.Proved {
		return got.clean() && want.clean()
	}
	return want.String() == got.String()
}

// now is the time of every request. The engine's own clock is not asked for by
// rules that are compared.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// ask asks one engine.
func ask(s *waf.Stage, r *Request) (a Answer) {
	fr := filter.NewRequest(r.HTTP(), now)
	defer fr.Release()
	fr.Client = fr.Peer
	defer func() {
		if v := recover(); v != nil {
			a = Answer{Failed: true, Rules: fmt.Sprint("panic: ", v, " ", where())}
		}
	}()
	in, err := s.Inspect(fr)
	if err != nil {
		return Answer{Failed: true, Rules: err.Error()}
	}
	d := in.Decision
	return Answer{
		Verdict: d.Verdict, Reason: d.Reason, Rule: d.Rule, Status: d.StatusCode(),
		Score: in.Score, Threshold: in.Threshold, Rules: fmt.Sprint(in.Rules), Findings: len(in.Rules), Proved: in.Proved,
		Dear: d.Reason == filter.ReasonOversize && strings.Contains(d.Detail, "costs too much"),
	}
}

// where returns the innermost functions of a panic that are not the runtime's.
func where() string {
	var names []string
	pc := make([]uintptr, 40)
	frames := runtime.CallersFrames(pc[:runtime.Callers(3, pc)])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") && len(names) < 3 {
			names = append(names, fmt.Sprintf("%s:%d", f.Function[strings.LastIndexByte(f.Function, '/')+1:], f.Line))
		}
		if !more {
			return strings.Join(names, " < ")
		}
	}
}
