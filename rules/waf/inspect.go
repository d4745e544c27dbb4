package waf

import "github.com/moatwaf/moat/filter"

// Inspection is a decision with all that led to it, also where the decision lets
// the request pass. It is for comparing engines, for explaining one request and for
// tests; Check costs less.
type Inspection struct {
	// Decision is what Check returns.
	Decision filter.Decision
	// Score is the inbound anomaly score, Threshold the score that refuses. Both
	// are 0 where no engine was asked, or the rules count nothing.
	Score, Threshold int
	// Rules are the rules with a message that matched, in order, each once. The
	// list is bounded.
	Rules []int
	// Proved says that the request was shown to match no rule, without an engine.
	Proved bool
	// Judged says which way the request took, and why.
	Judged Judged
}

// Inspect decides like Check and tells what the rules found. An error is a fault
// of the engine. It is safe for concurrent use, as Check is.
func (s *Stage) Inspect(r *filter.Request) (Inspection, error) {
	out, err := s.judge(r)
	if err != nil {
		return Inspection{}, err
	}
	return Inspection{Decision: out.decision(), Score: out.score, Threshold: out.threshold, Rules: out.matched,
		Proved: out.proved, Judged: out.judged(nil)}, nil
}
