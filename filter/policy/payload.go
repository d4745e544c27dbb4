package policy

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/metrics"
	"github.com/moatwaf/moat/rules"
	"github.com/moatwaf/moat/rules/waf"
)

// payloadStage loads the payload rules; nil if the section is off. mode is
// "block" or "detect".
func (l *loader) payloadStage() (stage filter.Stage, mode string) {
	w := l.policy.WAF
	if w.Responses.Value {
		l.errs = append(l.errs, w.Responses.Errorf("leave it out or write false", "responses are not inspected"))
	}
	if w.Mode.Value == "off" {
		return nil, "off"
	}
	c := waf.Config{
		Paranoia:     w.Paranoia,
		Threshold:    w.Threshold,
		BodyLimit:    int64(w.BodyLimit),
		Oversize:     map[string]waf.Oversize{"block": waf.OversizeBlock, "inspect": waf.OversizeInspect, "pass": waf.OversizePass}[w.Oversize],
		Methods:      values(w.Methods),
		ContentTypes: values(w.ContentTypes),
		Codings:      values(w.Codings),
		Fast:         w.Engine == "fast",
		Memory:       int64(w.Memory),
		Warm:         !l.state.checking,
	}
	if m := l.options.Metrics; m != nil {
		c.Observe = func(j waf.Judged) {
			p := metrics.Payload{Path: j.Path.String(), Cause: j.Cause, What: j.What}
			if j.Rule != 0 {
				p.What = strconv.Itoa(j.Rule)
			}
			m.PayloadJudged(p)
		}
	}
	unread := false
	for _, at := range w.Include {
		name := at.Value
		if name != waf.CRS {
			name = l.path(name)
			l.files[name] = true
			if file, err := unreadable(name); err != nil {
				l.errs = append(l.errs, at.Errorf("", "%s: %s", file, err))
				unread = true
				continue
			}
		}
		c.Include = append(c.Include, waf.Include{Name: name, Pos: at.Pos})
	}
	if exclude := l.options.Overrides.Exclude; exclude != "" {
		c.Include = append(c.Include, waf.Include{Name: "exclude", Text: exclude})
	}
	if unread {
		return nil, w.Mode.Value
	}
	s, err := waf.New(c)
	if err != nil {
		l.addPayloadFaults(err)
		return nil, w.Mode.Value
	}
	l.closers = append(l.closers, func() { _ = s.Close() })
	for _, file := range s.Files() {
		if _, err := l.read(file); err != nil {
			l.errs.Add(rules.Position{File: file}, "", "", "%s", reason(err))
		}
	}
	l.summary.PayloadRules = s.NumRules()
	l.summary.Fast = fastSummary(s, c.Fast)
	return s, w.Mode.Value
}

// FastEngine is what the fast engine of the payload rules can do with a policy.
type FastEngine struct {
	// ProofOff says why no request passes without the engine; empty if clean ones do.
	ProofOff string `json:"proof_off,omitempty"`
	// GateOff says why rules that cannot match are evaluated; empty if they are not.
	GateOff string `json:"gate_off,omitempty"`
	// Costly are the rules because of which requests that reach them go through the
	// engine, in the order of their numbers.
	Costly []CostlyRule `json:"costly,omitempty"`
	// CostlyMatched are the rules because of which the requests that they match, or match
	// a part of, go through the engine.
	CostlyMatched []CostlyRule `json:"costly_if_matched,omitempty"`
	// Unfit is how many automata waf.memory has no room for: each of their rules is held
	// against every value.
	Unfit int `json:"unfit,omitempty"`
	// Always is how many rules the engine evaluates for every request that it gets.
	Always int `json:"always"`
}

// CostlyRule is a rule that costs the fast engine its speed.
type CostlyRule struct {
	Rule   int    `json:"rule"`
	Reason string `json:"reason"`
}

// fastSummary returns what the fast engine can do; nil if it is not asked for.
func fastSummary(s *waf.Stage, fast bool) *FastEngine {
	if !fast {
		return nil
	}
	return &FastEngine{
		ProofOff: s.ProofOff(), GateOff: s.GateOff(), Costly: costly(s.Unproved()), CostlyMatched: costly(s.Unfollowed()),
		Unfit: s.Unfit(), Always: len(s.Candidates()),
	}
}

// costly returns rules and reasons in the order of the numbers.
func costly(reasons map[int]string) (all []CostlyRule) {
	for _, rule := range slices.Sorted(maps.Keys(reasons)) {
		all = append(all, CostlyRule{rule, reasons[rule]})
	}
	return all
}

// addPayloadFaults reports what the payload stage found, faults of the policy's
// own values at the value that they quote.
func (l *loader) addPayloadFaults(err error) {
	at := rules.Position{File: l.options.File}
	var faults rules.Errors
	if errors.As(err, &faults) {
		for _, f := range faults {
			for _, v := range slices.Concat(l.policy.WAF.Methods, l.policy.WAF.ContentTypes, l.policy.WAF.Codings) {
				if f.Pos == (rules.Position{}) && strings.Contains(f.Msg, strconv.Quote(v.Value)) {
					f.Pos, f.Path = v.Pos, v.Path
				}
			}
		}
	}
	l.add(at, "waf", err)
}

// values returns the written values; nil for none, which takes the default.
func values(list []rules.Located[string]) []string {
	if list == nil {
		return nil
	}
	out := make([]string, len(list))
	for i, at := range list {
		out[i] = at.Value
	}
	return out
}
