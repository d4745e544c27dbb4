package policy

import (
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/ratelimit"
	"github.com/moatwaf/moat/rules"
)

// Failures limits how often an address may send credentials that are not good: off, or
// a mapping.
type Failures struct {
	Off   bool                  `yaml:"-"`
	Rate  rules.Located[string] `yaml:"rate" doc:"failures in a time: 20/s, 60/m; default 20/s"`
	Burst rules.Located[int]    `yaml:"burst" min:"1" max:"1000000" doc:"failures at once; default 600, or the number in rate where that is written"`
}

// failuresMapping is Failures without its decoder.
type failuresMapping Failures

// UnmarshalRules implements rules.Unmarshaler.
func (f *Failures) UnmarshalRules(n *rules.Node) rules.Errors {
	switch {
	case n.Kind() == rules.Mapping:
		return n.Decode((*failuresMapping)(f))
	case n.Kind() == rules.Scalar && n.String() == "off":
		f.Off = true
		return nil
	}
	return n.Expected("off, or a mapping with rate and burst", "")
}

// JSONSchema implements rules.Describer.
func (f *Failures) JSONSchema() map[string]any {
	return map[string]any{"anyOf": []any{
		map[string]any{"enum": []any{"off"}},
		rules.TypeSchema[failuresMapping](),
	}}
}

// failureStage compiles the limit of failed proofs; nil where nobody is asked for one,
// or it is off. Verifying a password takes the time of hundreds of requests, and tiers
// that ask for an identity stand behind it.
func (l *loader) failureStage() filter.Stage {
	if l.policy.Auth == nil {
		return nil
	}
	rate, burst := ratelimit.Rate{Count: ratelimit.DefaultFailures, Per: time.Second}, ratelimit.DefaultFailuresBurst
	at := rules.Located[string]{Pos: l.policy.Auth.Pos, Path: l.policy.Auth.Path}
	if f := l.policy.Auth.Value.Failures; f != nil {
		if f.Off {
			return nil
		}
		if f.Rate.Set() {
			var err error
			if rate, err = ratelimit.ParseRate(f.Rate.Value); err != nil {
				l.errs = append(l.errs, f.Rate.Errorf("", "%s", err))
				return nil
			}
			at, burst = f.Rate, rate.Count
		}
		if f.Burst.Set() {
			burst = f.Burst.Value
		}
		if burst < 1 {
			return nil // reported where it was read
		}
	}
	limit, err := ratelimit.NewFailures(rate, burst, l.state.clients.tiers)
	if err != nil {
		l.errs = append(l.errs, at.Errorf("", "%s", err))
		return nil
	}
	l.failures = limit
	return limit
}
