package waf

import (
	"errors"
	"net/http"
	"strings"

	"github.com/corazawaf/coraza/v3/types"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf/proof"
	"github.com/moatwaf/moat/rules/waf/view"
)

// proving is the proof in front of the engine: what it finds clean passes without a
// transaction, everything else is the engine's.
type proving struct {
	plain
	proof *proof.Proof
	// follow judges what the proof has found something in, without the engine; nil
	// without one.
	follow *proof.Proof
	views  *view.Builder
}

// evaluate implements evaluator.
func (e *proving) evaluate(r *filter.Request, body bodyFunc) (outcome, error) {
	once := onceBody{read: body}
	out, why := e.prove(e.proof, r, &once)
	if why == nil {
		return out, nil
	}
	size := headSize(r.HTTP) + len(once.payload.data)
	if e.follows(why) && !why.tooDear(size, e.small) {
		followed, not := e.prove(e.follow, r, &once)
		if not == nil {
			followed.why = why
			return followed, nil
		}
		size = headSize(r.HTTP) + len(once.payload.data) // the body may not have been read before
		if not.cause == causeCost && not.tooDear(size, e.small) {
			return outcome{dear: followed.dear, why: not}, nil
		}
		not.spent = why.spent
		why = not // every finding is followed, so this is why the engine is asked
	}
	if why.tooDear(size, e.small) {
		return outcome{dear: out.dear, why: why}, nil
	}
	out, err := e.plain.evaluate(r, once.get)
	out.why = why
	return out, err
}

// onceBody remembers what a body was read as, so that two engines see the same.
type onceBody struct {
	read    bodyFunc
	done    bool
	kind    bodyKind
	payload payload
	refusal *filter.Decision
}

func (o *onceBody) get(kind bodyKind) (payload, *filter.Decision) {
	if !o.done || o.kind != kind {
		o.payload, o.refusal = o.read(kind)
		o.kind, o.done = kind, true
	}
	return o.payload, o.refusal
}

// prove judges a request without the engine. A hand-over means that nothing was
// decided. A panic is one too: it is a fault of moat, and the engine knows nothing
// of it.
func (e *proving) prove(p *proof.Proof, r *filter.Request, body *onceBody) (out outcome, why *handover) {
	v, q := view.Get(), p.Begin()
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p) // net/http's own signal
			}
			// What the panic has left half done is not used again.
			out, why = outcome{}, &handover{cause: causePanic, what: whatPanic}
			return
		}
		q.End()
		v.Release()
	}()

	follow := p == e.follow
	kind := bodyKindOf(r.HTTP)
	if known := e.views.Head(v, r, view.Kind(kind)); known != view.Known {
		return outcome{}, &handover{cause: causeShape, what: known.String()}
	}
	if isTunnel(r.HTTP) {
		q.Remove(ruleURI)
	}
	if follow {
		q.Bound(e.followCost(headSize(r.HTTP)))
	}
	found := q.Headers(v)
	switch {
	case found.Refused:
		return told(q, &found)
	case !found.Clean:
		return outcome{dear: types.PhaseRequestHeaders}, handoverOf(&found)
	case found.Effects.EngineOff && p == e.proof:
		return outcome{proved: true}, nil
	case found.Effects.EngineOff:
		found = q.Body(v) // of which there is none
		return told(q, &found)
	}
	processor := processors[kind]
	if found.Effects.Processor != "" {
		processor = strings.ToUpper(found.Effects.Processor)
	}
	var seen view.Body
	if !found.Effects.NoBody {
		if kind == kindNone && processor != "" && hasBody(r.HTTP) {
			kind = kindText // as the engine's way has it
		}
		p, refusal := body.get(kind)
		if refusal != nil {
			return outcome{refusal: refusal}, nil
		}
		if processor == "" && found.Effects.ForceBodyVariable && len(p.data) > 0 {
			return outcome{}, &handover{cause: causeShape, what: whatForced}
		}
		if p.cut {
			q.Remove(ruleBodyError)
		}
		if follow {
			q.Bound(e.followCost(headSize(r.HTTP) + len(p.data)))
		}
		seen = view.Body{Kind: view.Kind(p.kind), Data: p.data, Cut: p.cut, Whole: p.whole}
		if d := &body.payload.delimiters; d.boundary != "" && !p.cut {
			seen.Boundary, seen.Delimiters, seen.Count = d.boundary, d.at, d.count
		}
	}
	if known := e.views.Body(v, seen, processor); known != view.Known {
		return outcome{}, &handover{cause: causeShape, what: known.String()}
	}
	found = q.Body(v)
	switch {
	case !found.Clean && !found.Refused:
		return outcome{dear: types.PhaseRequestBody}, handoverOf(&found)
	case p == e.proof:
		return outcome{proved: true}, nil
	}
	return told(q, &found)
}

// handoverOf returns what a proof that failed says.
func handoverOf(found *proof.Result) *handover {
	switch {
	case found.Why == wordCost:
		return &handover{cause: causeCost, rule: found.Rule, what: found.Why, spent: found.Cost.Total()}
	case found.Rule != 0:
		return &handover{cause: causeRule, rule: found.Rule, what: found.Why, spent: found.Cost.Total()}
	case found.Why == "":
		return &handover{cause: causeProof, what: whatUnknown}
	}
	return &handover{cause: causeProof, what: found.Why}
}
