package waf

import (
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/corazawaf/coraza/v3/types"

	"github.com/moatwaf/moat/filter"
)

// Stage is the payload stage. It is immutable and safe for concurrent use until
// Close.
type Stage struct {
	config Config
	loaded *loaded
	engine evaluator
	files  []string
	// decodes are the content codings that the policy lets decode.
	decodes [numCodings]bool
	closed  atomic.Bool
}

var _ filter.Stage = (*Stage)(nil)

// Name returns "payload".
func (s *Stage) Name() string { return "payload" }

// NumRules returns how many rules are loaded, moat's own few among them. A chain
// counts as one.
func (s *Stage) NumRules() int { return s.loaded.rules }

// Files returns the files that were read, data files among them, without those of
// the Core Rule Set. Patterns that matched nothing are not in it.
func (s *Stage) Files() []string { return s.files }

// NeedsBody reports whether the stage wants to read the body of r: whether it has
// one, of a type that the rules can read. The stage may still decide without it.
func (s *Stage) NeedsBody(r *filter.Request) bool { return bodyKindOf(r.HTTP) != kindNone }

// Check implements filter.Stage. It returns Next, or a Block:
//
//   - ReasonPayload, with the rule and the score, for what the rules refuse: 403,
//     or the status that the rule names
//   - ReasonMalformed for a body or URI that the rules could not read as the
//     upstream may (400), and for a content coding that is not decoded here (415)
//   - ReasonOversize for a body over the limit, and for a request that would cost
//     too much to inspect (413)
//
// An error is a fault of the engine.
func (s *Stage) Check(r *filter.Request) (filter.Decision, error) {
	out, err := s.judge(r)
	if s.config.Observe != nil {
		s.config.Observe(out.judged(err))
	}
	if err != nil {
		return filter.Decision{}, err
	}
	return out.decision(), nil
}

// affordable is how many bytes of a body are inspected where OversizeInspect meets
// one that costs too much.
const affordable = 16 << 10

// judge evaluates the rules. Where a request costs too much it does again what the
// policy wants of such a body: less of it, or nothing. Costly headers are refused
// always; no policy says that anything may come in them.
func (s *Stage) judge(r *filter.Request) (outcome, error) {
	s.loaded.warmer.noticed()
	out, err := s.engine.evaluate(r, func(kind bodyKind) (payload, *filter.Decision) {
		return s.readPayload(r, kind, s.config.BodyLimit)
	})
	if err != nil || out.dear == 0 {
		return out, err
	}
	if out.dear == types.PhaseRequestBody && s.config.Oversize != OversizeBlock && s.NeedsBody(r) {
		again, err := s.engine.evaluate(r, func(kind bodyKind) (payload, *filter.Decision) {
			if s.config.Oversize == OversizePass {
				return payload{}, nil
			}
			p, refusal := s.readPayload(r, kind, min(affordable, s.config.BodyLimit))
			if n := uploads(p.data); p.kind == kindMultipart && n < len(p.data) {
				p.data, p.cut = p.data[:n], true
			}
			return p, refusal
		})
		if err != nil || again.dear == 0 {
			again.ended, again.why = true, out.why
			return again, err
		}
	}
	return outcome{refusal: oversize("the request costs too much to inspect"), ended: true, why: out.why}, nil
}

// decision returns what an outcome means.
func (o *outcome) decision() filter.Decision {
	switch {
	case o.refusal != nil:
		return *o.refusal
	case !o.blocked:
		return filter.Next()
	case o.rule == 0 && o.status == http.StatusRequestEntityTooLarge:
		// A rule of the operator has lowered the engine's limit.
		return *oversize("the body is over the limit that a rule has set")
	}
	d := filter.Decision{
		Verdict: filter.Block,
		Reason:  filter.ReasonPayload,
		Rule:    strconv.Itoa(o.rule),
		Payload: &filter.Payload{Score: o.score, Rules: o.matched},
	}
	if o.status >= 400 && o.status <= 599 && o.status != http.StatusForbidden {
		d.Status = o.status
	}
	switch o.rule {
	case ruleScore, ruleEarlyScore:
		d.Payload.Threshold = o.threshold
	case ruleBodyError, ruleStrict, ruleArgsHeaders, ruleArgsBody, ruleURI:
		d.Reason = filter.ReasonMalformed
	}
	return d
}
