package policy

import (
	"context"
	"net/http"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/rules/waf"
)

// Trace is the way of one request through a policy. It holds parts of the request:
// it is for whoever has given the request, and never for a log.
type Trace struct {
	Decision filter.Decision
	Errors   error // of stages; the decision takes them into account

	Peer, Client string // addresses; empty if unknown
	Host, Path   string // as rules see them
	Ambiguous    bool   // two servers could read the path differently
	Country      string
	ASN          uint32
	Identity     *filter.Identity // nil for an unknown caller
	Detected     []filter.Decision
	Stages       []TracedStage // in the order in which they were asked
}

// TracedStage is what one stage did with the request.
type TracedStage struct {
	Name     string
	Decision filter.Decision
	Err      error
	Duration time.Duration
	// Payload is what the payload rules saw and found; nil for other stages.
	Payload *waf.Explanation
}

// Explain loads a policy as Check does and sends one request through it. Nothing is
// put in force: limits start full, no ban is known, no server is asked. The error is
// a rules.Errors for a policy with faults.
func Explain(ctx context.Context, o Options, hr *http.Request) (*Trace, error) {
	c, done, err := trial(ctx, o)
	if err != nil {
		return nil, err
	}
	defer done()
	r := filter.NewRequest(hr, time.Now())
	defer r.Release()
	t := &Trace{}
	pipeline := c.Pipeline.With(func(s filter.Stage) filter.Stage { return &tracer{s, t} })
	t.Decision, t.Errors = pipeline.Decide(r)
	if r.Peer.IsValid() {
		t.Peer = r.Peer.String()
	}
	if r.Client.IsValid() {
		t.Client = r.Client.String()
	}
	t.Host, t.Path, t.Ambiguous = r.Host, r.Path, r.Ambiguous()
	location := r.Location()
	t.Country, t.ASN = location.Country, location.ASN
	t.Identity = r.Identity
	t.Detected = append(t.Detected, r.Detected...)
	return t, nil
}

// tracer looks on at a stage.
type tracer struct {
	filter.Stage
	trace *Trace
}

// Check implements filter.Stage.
func (s *tracer) Check(r *filter.Request) (filter.Decision, error) {
	step := TracedStage{Name: s.Name()}
	// The payload rules keep nothing of a request. What is timed is the second
	// look: the first one pays for all that is made when it is first needed.
	if payload, ok := s.Stage.(*waf.Stage); ok {
		if x, err := payload.Explain(r); err == nil {
			step.Payload = &x
		}
	}
	start := time.Now()
	d, err := s.Stage.Check(r)
	step.Decision, step.Err, step.Duration = d, err, time.Since(start)
	s.trace.Stages = append(s.trace.Stages, step)
	return d, err
}
