// Package access is the stage of access rules: ordered conditions, of which the
// first that holds decides.
package access

import (
	"errors"
	"fmt"

	"github.com/moatwaf/moat/filter"
)

// Name is the name of the stage in decisions, audit lines and metrics.
const Name = "access"

// Action is what a rule does with a request that its condition holds for. The
// zero value blocks.
type Action uint8

const (
	// Block refuses the request.
	Block Action = iota
	// Allow lets the request past every filter stage. It does not skip auth.
	Allow
)

// Rule is a compiled access rule.
type Rule struct {
	// ID is the operator's name for the rule.
	ID string

	// Matcher is the condition; nil holds for every request. A rule that
	// allows must have one: without it, it is a rule that always fails, so
	// that a forgotten condition does not open everything.
	Matcher filter.Matcher

	// Action is what the rule does.
	Action Action

	// Detect reports what the rule would have done, and goes on.
	Detect bool

	// Status is the status of a refusal. 0, and what ValidStatus refuses, is
	// 403.
	Status int
}

// ValidStatus reports whether a rule may refuse with status: 4xx, except 401 and
// 407, which ask for credentials that would not help.
func ValidStatus(status int) bool {
	return status >= 400 && status <= 499 && status != 401 && status != 407
}

// RuleError is a rule whose condition could not be evaluated.
type RuleError struct {
	Rule string // the rule's ID
	Err  error
}

// Error implements error.
func (e *RuleError) Error() string { return fmt.Sprintf("rule %q: %v", e.Rule, e.Err) }

// Unwrap returns the cause.
func (e *RuleError) Unwrap() error { return e.Err }

var (
	errNoCondition = errors.New("a rule that allows has no condition")
	errNoRequest   = errors.New("there is no HTTP request")
)

// rule is a Rule with its decision made beforehand.
type rule struct {
	matcher  filter.Matcher
	decision filter.Decision
	detect   bool
}

// Stage is the access rules of a policy: immutable, and safe for concurrent use.
// The zero Stage has no rules.
type Stage struct {
	rules []rule
}

var _ filter.Stage = (*Stage)(nil)

// New returns the stage of rules, in their order.
func New(rules []Rule) *Stage {
	s := &Stage{rules: make([]rule, len(rules))}
	for i, r := range rules {
		c := rule{matcher: r.Matcher, detect: r.Detect, decision: filter.Decision{Stage: Name, Rule: r.ID}}
		switch {
		case r.Action == Allow:
			c.decision.Verdict = filter.Allow
			if r.Matcher == nil && !r.Detect {
				c.matcher = noCondition{}
			}
		default:
			c.decision.Verdict = filter.Block
			c.decision.Reason = filter.ReasonRule
			if ValidStatus(r.Status) {
				c.decision.Status = r.Status
			}
		}
		s.rules[i] = c
	}
	return s
}

// noCondition is the condition of a rule that allows and has none.
type noCondition struct{}

func (noCondition) Match(*filter.Request) (bool, error) { return false, errNoCondition }

// Name returns "access".
func (*Stage) Name() string { return Name }

// Check returns the decision of the first rule whose condition holds, or
// filter.Next. Rules in detect mode report and go on.
//
// Of a path that can be read in several ways, each reading is judged, and the
// strictest answer counts: block before no opinion before allow.
//
// A rule that cannot be evaluated does not end the search. If a later rule
// blocks, the request is blocked, and the failure stands in the decision's
// Detail. A later rule that allows counts only if every rule that failed would
// have allowed too. Otherwise Check returns the first failure, a *RuleError, so
// that the policy's on_error decides: a rule that should have blocked is never
// passed over in silence. The failure of a rule in detect mode is reported like
// a match, with ReasonUnavailable.
func (s *Stage) Check(r *filter.Request) (filter.Decision, error) {
	if r.HTTP == nil {
		return filter.Decision{}, errNoRequest
	}
	if !r.Ambiguous() {
		return s.decide(r)
	}
	return s.strictest(r)
}

// strictest is the decision over all readings of the path.
func (s *Stage) strictest(r *filter.Request) (filter.Decision, error) {
	var worst filter.Decision
	var failed error
	first := true
	r.EachReading(func(r *filter.Request) {
		d, err := s.decide(r)
		switch {
		case err != nil:
			// Most often the same rule fails on every reading: one is told.
			if failed == nil {
				failed = err
			}
		case first || strictness(d.Verdict) > strictness(worst.Verdict):
			worst, first = d, false
		}
	})
	switch {
	case failed == nil:
		return worst, nil
	case !first && worst.Verdict == filter.Block:
		if worst.Detail == "" {
			worst.Detail = failed.Error()
		}
		return worst, nil
	}
	return filter.Decision{}, failed
}

// strictness orders the verdicts of this stage.
func strictness(v filter.Verdict) int {
	switch v {
	case filter.Allow:
		return 0
	case filter.Continue:
		return 1
	}
	return 2
}

// decide is Check for one reading of the path.
func (s *Stage) decide(r *filter.Request) (filter.Decision, error) {
	var failed error
	blockFailed := false
	for i := range s.rules {
		rule := &s.rules[i]
		if rule.matcher != nil {
			holds, err := rule.matcher.Match(r)
			if err != nil {
				err = &RuleError{Rule: rule.decision.Rule, Err: err}
				if rule.detect {
					report(r, filter.Decision{
						Reason: filter.ReasonUnavailable, Stage: Name, Rule: rule.decision.Rule, Detail: err.Error(),
					})
					continue
				}
				if failed == nil {
					failed = err
				}
				blockFailed = blockFailed || rule.decision.Verdict == filter.Block
				continue
			}
			if !holds {
				continue
			}
		}
		switch {
		case rule.detect:
			report(r, rule.decision)
		case rule.decision.Verdict == filter.Block:
			d := rule.decision
			if failed != nil {
				d.Detail = failed.Error()
			}
			return d, nil
		case blockFailed:
			return filter.Decision{}, failed
		default:
			return rule.decision, nil
		}
	}
	if failed != nil {
		return filter.Decision{}, failed
	}
	return filter.Next(), nil
}

// report reports d unless another reading of the same path has led to it.
func report(r *filter.Request, d filter.Decision) {
	for i := range r.Detected {
		if e := &r.Detected[i]; e.Stage == d.Stage && e.Rule == d.Rule && e.Reason == d.Reason {
			return
		}
	}
	r.Detect(d)
}
